//! Pruned checkpoints: what is copied, what the rest computes, and what is refused.

#![cfg(feature = "reference")]

mod common;

use bitnet_convert::format::{safetensors, File};
use bitnet_convert::import::import;
use bitnet_convert::model::Model;
use bitnet_convert::reference::{Input, Reference};
use bitnet_convert::tensor::DType;
use bitnet_convert::tokenizer::host::HostTokenizer;
use common::{fixture, listing, tool};
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const STORIES: &str = "models/stories-b158";
const INTENT: &str = "models/intent-b158";

fn config(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap()
}

/// Name → type, shape and bytes of all tensors of a folder.
fn tensors(dir: &Path) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let mut out = BTreeMap::new();
    for name in listing(dir).iter().filter(|n| !n.contains("golden")) {
        if name.ends_with(".safetensors") || name.ends_with(".bin") {
            let file = File::open(&dir.join(name)).unwrap();
            for v in file.names().map(|n| file.get(n).unwrap()) {
                out.insert(v.name.to_string(), (v.dtype.name().to_string(), v.shape.to_vec(), v.data.to_vec()));
            }
        }
    }
    out
}

fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in listing(from) {
        if from.join(&name).is_file() {
            std::fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

/// Every golden folder, also of the folder in BITNET_GOLDEN.
fn golden() -> Vec<PathBuf> {
    let more = std::env::var_os("BITNET_GOLDEN").map(PathBuf::from);
    let folders = [Some(fixture("golden")), more].into_iter().flatten();
    let all = folders.flat_map(|f| std::fs::read_dir(f).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>());
    all.filter(|p| p.join("config.json").is_file()).collect()
}

fn ids(vocab: usize, n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 37 + 11) % vocab as u32).collect()
}

#[test]
fn what_comes_out_computes_what_the_kept_layers_compute() {
    let tmp = TempDir::new().unwrap();
    for dir in golden() {
        let name = dir.file_name().unwrap().to_str().unwrap().to_string();
        let model = import(&dir).unwrap_or_else(|e| panic!("{name}: {e}"));
        let total = model.layers.len();
        if total < 2 {
            continue;
        }
        // Not the first: every kept layer gets another number.
        let kept: Vec<usize> = (1..total).collect();
        let list = format!("1-{}", total - 1);
        let out = tmp.path().join(&name);
        tool(&format!("prune --model {{}} --keep {list} --no-measure -q -o {{}}"), &[&dir, &out]).ok();
        let new = import(&out).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(new.layers.len(), kept.len(), "{name}");
        if model.audio.is_some() {
            continue;
        }
        let ids = ids(model.vocab, 9);
        let want = Reference::load(&model).unwrap().forward_layers(&ids, &kept).unwrap();
        let got = Reference::load(&new).unwrap().forward(&Input::text(&ids)).unwrap();
        assert_eq!(got.logits, want.logits, "{name}");
        assert_eq!(got.hidden, want.hidden, "{name}");
        let file = std::fs::read(out.join("model.safetensors")).unwrap();
        assert!(String::from_utf8_lossy(&file[8..200]).contains(r#""format":"pt""#), "{name}");
        assert_eq!(u64::from_le_bytes(file[..8].try_into().unwrap()) % 8, 0, "{name}");
    }
}

#[test]
fn keeping_all_layers_keeps_all_bytes() {
    let tmp = TempDir::new().unwrap();
    for dir in golden().into_iter().chain([fixture(STORIES)]) {
        let total = import(&dir).unwrap().layers.len();
        let out = tmp.path().join(dir.file_name().unwrap());
        tool(&format!("prune --model {{}} --layers {total} -q -o {{}}"), &[&dir, &out]).ok();
        assert_eq!(tensors(&out), tensors(&dir), "{}", dir.display());
        assert_eq!(config(&out), config(&dir));
        assert_eq!(
            listing(&out).iter().filter(|n| *n == "tokenizer.json").count(),
            usize::from(dir.join("tokenizer.json").exists())
        );
    }
}

#[test]
fn a_layer_that_does_nothing_goes_first() {
    let tmp = TempDir::new().unwrap();
    let dir = tmp.path().join("idle");
    copied(&fixture(STORIES), &dir);
    let file = File::open(&fixture(STORIES).join("model.safetensors")).unwrap();
    let mut list = Vec::new();
    for v in file.names().map(|n| file.get(n).unwrap()) {
        let mut values = v.to_f32().unwrap();
        if ["model.layers.2.self_attn.o_proj.weight", "model.layers.2.mlp.down_proj.weight"].contains(&v.name) {
            values.fill(0.0);
        }
        list.push((v.name, v.shape.to_vec(), values));
    }
    let views: Vec<_> = list.iter().map(|(n, s, v)| (*n, &s[..], &v[..])).collect();
    safetensors::write(&dir.join("model.safetensors"), &views).unwrap();
    for method in ["loss", "influence", "angular"] {
        let run = tool(
            &format!("prune --model {{}} --layers 4 --method {method} --calibration-tokens 96 --dry-run --json"),
            &[&dir],
        );
        let o = run.ok().json();
        assert_eq!(o["layers"]["removed"], json!([2]), "{method}");
        assert_eq!(o["layers"]["ratio"], json!(1.0), "{method}");
        assert_eq!(o["layers"]["verdict"], json!("near-lossless"));
    }
}

#[test]
fn a_trained_model_without_most_of_its_layers_is_called_destroyed() {
    let run = tool("prune --model {} --layers 1 --calibration-tokens 96 --dry-run --json", &[&fixture(STORIES)]).ok();
    assert!(run.stderr.contains("must be trained further"), "{}", run.stderr);
    let o = run.json();
    assert_eq!(o["written"], Value::Null);
    let removed = o["layers"]["measured"]["steps"].as_array().unwrap();
    assert_eq!(removed.len(), 4);
    assert!(removed.windows(2).all(|p| p[0]["after"] == p[1]["before"]));
    assert!(o["layers"]["ratio"].as_f64().unwrap() > 1.0);
    assert!(o["bytes"][1].as_u64().unwrap() < o["bytes"][0].as_u64().unwrap());
}

#[track_caller]
fn refused(args: &str, dir: &Path, part: &str) {
    let tmp = TempDir::new().unwrap();
    let out = tmp.path().join("out");
    let run = tool(&format!("prune --model {{}} {args} -o {{}}"), &[dir, &out]).never_panicked();
    assert_eq!(run.code, Some(2), "{args}: {run:?}");
    assert!(run.stderr.contains(part), "{args}: {}", run.stderr);
    assert!(listing(tmp.path()).is_empty(), "{args}");
}

#[test]
fn bad_arguments_are_refused() {
    let dir = fixture(STORIES);
    for (args, part) in [
        ("", "nothing to prune"),
        ("--layers 0", "1 to 5"),
        ("--layers 6", "1 to 5"),
        ("--keep 5", "no layer 5"),
        ("--keep 0,0", "twice"),
        ("--drop 3-1", "empty"),
        ("--drop x", "no number"),
        ("--drop 0-4", "no layer would be left"),
        ("--layers 2 --keep 0,1,2", "keeps 3"),
        ("--keep 1 --drop 2", "cannot be used with"),
        ("--keep 1 --method angular", "cannot be used with"),
        ("--layers 3 --no-measure", "forbids"),
        ("--layers 3 --calibration-tokens 1", "at least 2"),
        ("--vocab 3", "too small"),
        ("--vocab 900 --vocab-size 800", "is a number here"),
        ("--vocab-size 800", "required"),
        ("--vocab no-such-file.txt", "no-such-file.txt"),
    ] {
        refused(args, &dir, part);
    }
    refused("--vocab 100", &fixture("golden/llama"), "no `tokenizer.json`");
    refused("--layers 1 --calibrate Cargo.toml", &fixture("golden/llama"), "needs a tokenizer");
}

#[test]
fn the_source_and_foreign_folders_are_not_replaced() {
    let tmp = TempDir::new().unwrap();
    let (a, b) = (tmp.path().join("a"), tmp.path().join("b"));
    let prune =
        |from: &Path, to: &Path| tool("prune --model {} --drop 1 --no-measure -q -o {}", &[from, to]).never_panicked();
    prune(&fixture(STORIES), &a).ok();
    let before = tensors(&a);
    let run = prune(&a, &a);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("folder of the checkpoint"), "{run:?}");
    assert_eq!(tensors(&a), before);
    // An earlier result is replaced, another folder is not.
    prune(&a, &b).ok();
    prune(&fixture(STORIES), &b).ok();
    assert_eq!(tensors(&b), before);
    std::fs::remove_file(b.join("prune.json")).unwrap();
    assert_eq!(prune(&fixture(STORIES), &b).code, Some(2));
    assert_eq!(listing(tmp.path()), ["a", "b"]);
}

/// Answers to the tasks of a folder, by its export.
fn answers(model: &Path, tasks: &Path, tmp: &Path) -> Value {
    let packed = tmp.join("model.bitnet");
    tool("export --model {} --format packed -q -o {}", &[model, &packed]).ok();
    tool("eval {} --tasks {} --json", &[&packed, tasks]).ok().json()["tasks"].clone()
}

#[test]
fn a_model_with_the_tokens_of_its_task_answers_as_before() {
    let tmp = TempDir::new().unwrap();
    let all = std::fs::read_to_string(fixture(INTENT).join("eval_sensor.jsonl")).unwrap();
    let tasks = tmp.path().join("tasks.jsonl");
    std::fs::write(&tasks, all.lines().take(40).map(|l| format!("{l}\n")).collect::<String>()).unwrap();
    let out = tmp.path().join("small");
    let o = tool("prune --model {} --vocab {} --json -o {}", &[&fixture(INTENT), &tasks, &out]).ok().json();
    let size = o["vocabulary"]["after"].as_u64().unwrap();
    assert!(size < 700, "{o}");
    assert_eq!(o["vocabulary"]["tokens_before"], o["vocabulary"]["tokens_after"]);
    assert_eq!(config(&out)["vocab_size"], json!(size));
    assert_eq!(tensors(&out)["model.embed_tokens.weight"].1, [size as usize, 128]);
    let misses = |model: &Path| -> Vec<String> {
        let o = answers(model, &tasks, tmp.path());
        o["misses"].as_array().unwrap().iter().map(|m| m["prompt"].to_string()).collect()
    };
    // An answer whose tokens are gone was wrong before; what was right stays right.
    let before = misses(&fixture(INTENT));
    assert!(before.len() < 8 && misses(&out).iter().all(|m| before.contains(m)));
    let (old, new) = (import(&fixture(INTENT)).unwrap(), import(&out).unwrap());
    assert_eq!(new.eos, old.eos);
    assert!(new.tied());
    // Rows are those of the kept tokens: logits of a prompt are the old ones, under the new ids.
    let encode = |m: &Model, text: &str| {
        HostTokenizer::from_json(m.tokenizer_json.as_deref().unwrap()).unwrap().encode(text).unwrap()
    };
    let prompt = "<|system|>You are a sensor assistant.<|user|>Recalibrate the soil probe<|assistant|>";
    let ids = [encode(&old, prompt), encode(&new, prompt)];
    let logits =
        |m: &Model, ids: &[u32]| Reference::load(m).unwrap().forward(&Input::text(ids)).unwrap().logits.unwrap().data;
    let (a, b) = (logits(&old, &ids[0]), logits(&new, &ids[1]));
    assert_eq!(a.len() / 1024, b.len() / size as usize);
    for (x, y) in a.chunks(1024).zip(b.chunks(size as usize)) {
        let pairs = ids[0].iter().zip(&ids[1]).map(|(i, j)| (x[*i as usize], y[*j as usize]));
        pairs.for_each(|(x, y)| assert!((x - y).abs() < 1e-4, "{x} {y}"));
    }
}

#[test]
fn layers_and_vocabulary_in_one_run_with_a_head_of_its_own() {
    let tmp = TempDir::new().unwrap();
    let (dir, out) = (tmp.path().join("untied"), tmp.path().join("out"));
    copied(&fixture(STORIES), &dir);
    let file = File::open(&fixture(STORIES).join("model.safetensors")).unwrap();
    let mut list: Vec<_> = file
        .names()
        .map(|n| file.get(n).unwrap())
        .map(|v| (v.name.to_string(), v.shape.to_vec(), v.to_f32().unwrap()))
        .collect();
    let embedding = list.iter().find(|(n, ..)| n == "model.embed_tokens.weight").unwrap().clone();
    list.push(("lm_head.weight".into(), embedding.1, embedding.2.iter().map(|v| v * 0.5).collect()));
    let views: Vec<_> = list.iter().map(|(n, s, v)| (n.as_str(), &s[..], &v[..])).collect();
    safetensors::write(&dir.join("model.safetensors"), &views).unwrap();
    let mut c = config(&dir);
    c["tie_word_embeddings"] = json!(false);
    std::fs::write(dir.join("config.json"), c.to_string()).unwrap();
    tool("prune --model {} --drop 2 --vocab 600 --calibration-tokens 64 -q -o {}", &[&dir, &out]).ok();
    let t = tensors(&out);
    assert_eq!(t["lm_head.weight"].1, [600, 192]);
    assert_eq!(t["model.embed_tokens.weight"].1, [600, 192]);
    assert_eq!(t["lm_head.weight"].0, DType::F32.name());
    assert!(!t.contains_key("model.layers.4.mlp.down_proj.weight"));
    assert_eq!(config(&out)["num_hidden_layers"], json!(4));
    assert!(!import(&out).unwrap().tied());
}
