//! The same files in the tools of others: the checker of the onnx package and two versions of ONNX Runtime. `make setup-all`
//! installs them into build/python-onnx.

use crate::common::{finish, fixture, not_run, root, Run};
use crate::support::{checkpoints, each, name, onnx, packed, place, run, verify};
use bitnet_convert::runtime::Artifact;
use serde_json::{json, Value};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders of build/python-onnx: the runtimes are a year apart.
const RUNTIMES: [&str; 2] = ["old", "new"];

/// Runs tests/onnx/check.py with one of the folders of packages; None, said aloud: they are not here.
pub fn python(packages: &str, needs: &str, args: &[String]) -> Option<Run> {
    let folder = root().join("build/python-onnx").join(packages);
    if !folder.join(needs).is_dir() {
        not_run(&format!("ONNX files in {needs} ({packages})"), "build/python-onnx (`make setup-all`)");
        return None;
    }
    let mut c = Command::new("python3");
    c.arg(root().join("tests/onnx/check.py")).args(args);
    c.env("PYTHONPATH", folder).env("PYTHONDONTWRITEBYTECODE", "1");
    Some(finish(&mut c))
}

pub fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|a| a.to_string()).collect()
}

/// Ids of the golden prompts as far as the window and a cache of fixed length reach, and how many of them are given at once.
fn ids(packed: &Path, most: usize) -> Vec<(Vec<u32>, usize)> {
    let artifact = Artifact::open(packed).unwrap();
    let p = &artifact.program;
    let most = most.min(p.attention.window).min(p.longest().unwrap_or(usize::MAX));
    let cut = artifact.golden.prompts.iter().map(|g| {
        let ids = g.ids[..g.ids.len().min(most)].to_vec();
        let given = g.prompt_len.min(ids.len() - 1).max(1);
        (ids, given)
    });
    cut.collect()
}

/// The same with what our binary says of them.
fn prompts(packed: &Path, most: usize) -> Vec<Value> {
    let of = |(ids, given): (Vec<u32>, usize)| {
        let list: Vec<String> = ids.iter().map(u32::to_string).collect();
        let said = run(["logits", packed.to_str().unwrap(), "--json", "--input-ids", &list.join(",")]).ok().json();
        json!({ "ids": ids, "given": given, "logits": said["logits"] })
    };
    ids(packed, most).into_iter().map(of).collect()
}

fn jobs(file: &Path, list: &[(PathBuf, PathBuf, usize)]) {
    let one = |(onnx, packed, most): &(PathBuf, PathBuf, usize)| json!({ "file": onnx, "prompts": prompts(packed, *most), "unit": 1.0 / 65_536.0 });
    let all: Vec<Value> = each(list, one);
    std::fs::write(file, serde_json::to_vec(&all).unwrap()).unwrap();
}

/// Decoders that give logits, and how `most` tokens of each are compared.
fn decoders(options: &str) -> Vec<(PathBuf, PathBuf, usize)> {
    let gives_logits = |p: &PathBuf| Artifact::open(p).unwrap().program.embedding().is_none();
    let packed: Vec<PathBuf> = checkpoints().iter().map(|c| packed(c)).filter(gives_logits).collect();
    each(&packed, |p| (onnx(p, options), p.clone(), usize::MAX))
}

#[test]
fn integer_graphs_give_the_same_integers_in_two_runtimes() {
    let mut list = decoders("--profile int");
    let intent = packed(&fixture("models/intent-w1a2"));
    list.push((onnx(&intent, "--profile int --static 16"), intent.clone(), 16));
    list.push((onnx(&intent, "--profile int --logits float"), intent, usize::MAX));
    let file = place().join("int.json");
    jobs(&file, &list);
    for packages in RUNTIMES {
        // Without optimizations in one of them: what is folded must be what is computed.
        let ways: &[&str] = if packages == "new" { &["run", "options"] } else { &["run"] };
        for how in ways {
            let Some(seen) = python(packages, "onnxruntime", &words(&[how, file.to_str().unwrap()])) else { return };
            let rows = seen.ok().json();
            assert_eq!(rows.as_array().unwrap().len(), list.len());
            for row in rows.as_array().unwrap() {
                println!("{how}: {row}");
                assert_eq!(row["differing"], 0, "{how}: {row}");
                assert!(row["cached"].as_u64() > Some(0), "{row}");
            }
        }
    }
}

/// The shared library of a runtime.
fn library(packages: &str) -> Option<PathBuf> {
    let folder = root().join("build/python-onnx").join(packages).join("onnxruntime/capi");
    let all = std::fs::read_dir(folder).ok()?.filter_map(|f| Some(f.ok()?.path()));
    let found =
        all.into_iter().find(|f| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libonnxruntime.so")));
    if found.is_none() {
        not_run(&format!("ONNX files in ONNX Runtime ({packages})"), "build/python-onnx (`make setup-all`)");
    }
    found
}

#[test]
fn graphs_on_operators_of_two_runtimes_are_near() {
    let models: Vec<PathBuf> =
        checkpoints().iter().filter(|m| !["bert_mlm", "roberta"].contains(&&*name(m))).map(|m| packed(m)).collect();
    for packages in RUNTIMES {
        let Some(lib) = library(packages) else { return };
        for (model, said) in models.iter().zip(each(&models, |p| {
            let lib = lib.to_str().unwrap();
            verify(&onnx(p, "--profile ort"), p, &format!("--quick --engine ort --lib {lib}"))
        })) {
            let v = said.json();
            assert_eq!(v["result"], "near", "{} in {packages}: {v}", name(model));
            assert!(v["notes"].to_string().contains("padded at the left"), "{} in {packages}: {v}", name(model));
        }
    }
}

#[test]
fn two_runtimes_lose_nothing_at_accuracy_level_4() {
    // The files differ in what the runtimes may round; everything around it is the same, so any rounding would show.
    let models = ["models/intent-w1a2", "models/intent-b158", "models/stories-b158", "golden/bitnet_packed_2b4t_like"];
    let packed = models.map(|m| packed(&fixture(m)));
    let job = |p: &PathBuf, options: &str| {
        let prompts = ids(p, usize::MAX).into_iter().map(|(ids, given)| json!({ "ids": ids, "given": given }));
        let prompts: Vec<Value> = prompts.collect();
        json!({ "file": onnx(p, options), "than": onnx(p, "--profile ort --exact"), "prompts": prompts })
    };
    for packages in RUNTIMES {
        let mut jobs: Vec<Value> = packed.iter().map(|p| job(p, "--profile ort")).collect();
        if packages == "new" {
            jobs.extend(packed.iter().map(|p| job(p, "--profile ort --weights int2")));
        }
        let file = place().join(format!("same-{packages}.json"));
        std::fs::write(&file, serde_json::to_vec(&jobs).unwrap()).unwrap();
        let Some(seen) = python(packages, "onnxruntime", &words(&["same", file.to_str().unwrap()])) else { return };
        for row in seen.ok().json().as_array().unwrap() {
            assert_eq!(row["differing"], 0, "{row}");
            assert!(row["values"].as_u64() > Some(1000), "{row}");
        }
    }
}

#[test]
fn the_checker_takes_every_file() {
    let mut files = Vec::new();
    for options in ["--profile int", "--profile std"] {
        let models = checkpoints();
        files.extend(each(&models, |m| onnx(&packed(m), options)));
    }
    let intent = packed(&fixture("models/intent-w1a2"));
    for options in [
        "--profile int --static 16",
        "--weights int4",
        "--weights int2",
        "--profile int --logits float",
        "--norm f32",
        "--profile ort",
        "--profile ort --exact",
        "--profile ort --weights int2",
    ] {
        files.push(onnx(&intent, options));
    }
    files.extend(["golden/llama", "golden/gemma2"].map(|m| onnx(&packed(&fixture(m)), "--profile ort")));
    let args: Vec<String> =
        std::iter::once("check".into()).chain(files.iter().map(|f| f.display().to_string())).collect();
    let Some(seen) = python("new", "onnx", &args) else { return };
    let rows = seen.ok().json();
    assert_eq!(
        rows.as_array().unwrap().len(),
        files.len(),
        "{}",
        files.iter().map(|f| name(f)).collect::<Vec<_>>().join(" ")
    );
}
