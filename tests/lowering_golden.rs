//! Every golden checkpoint through the whole way: float model, integer program, host runtime, exported C. The float logits and vectors were
//! computed by others; the C must give the host's integers.

mod common;

use common::{command, finish, golden_folders, Run};
use serde_json::Value;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Models that cannot be lowered, and what the refusal says.
const REFUSED: [(&str, &str); 1] = [("whisper", "a speech model cannot be lowered")];

fn run(args: &[&str]) -> Run {
    finish(command().args(args))
}

fn config(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap()
}

/// What a case must be exported with: its own rule, or 16 bits for floats.
fn export(folder: &Path, out: &Path) -> Run {
    let (folder, out) = (folder.to_str().unwrap(), out.to_str().unwrap());
    let native = run(&["export", "--model", folder, "--format", "packed", "-o", out, "-q"]);
    if native.stderr.contains("the settings must be given") {
        let bits = ["--quantize-weight", "16", "--quantize-activation", "16"];
        return run(&[&["export", "--model", folder, "--format", "packed", "-o", out, "-q"][..], &bits].concat());
    }
    native
}

#[test]
fn programs_are_near_the_float_models() {
    let dir = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    let mut rows = Vec::new();
    for folder in golden_folders() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let out = dir.path().join(format!("{name}.bitnet"));
        let made = export(&folder, &out);
        if let Some((_, why)) = REFUSED.iter().find(|(n, _)| *n == name) {
            if made.code != Some(2) || !made.stderr.contains(why) {
                failures.push(format!("{name}: {made:?}"));
            }
            continue;
        }
        if made.code != Some(0) {
            failures.push(format!("{name}: {}", made.stderr));
            continue;
        }
        if name == "bert_base" {
            continue; // its texts have two segments; a program computes texts of one
        }
        let golden = folder.join("golden.safetensors");
        let seen = run(&["eval", out.to_str().unwrap(), "--golden", golden.to_str().unwrap(), "--json"]);
        if seen.code != Some(0) {
            // A head for masked tokens is no part of a program, so there is nothing to compare with.
            if name != "bert_mlm" {
                failures.push(format!("{name}: {}", seen.stderr));
            }
            continue;
        }
        let v: Value = serde_json::from_str(&seen.stdout).unwrap();
        let near = if let Some(kl) = v["golden"]["mean_kl"].as_f64() {
            rows.push(format!(
                "{name}: mean KL {kl:.2e}, {} of {}",
                v["golden"]["same_top1"], v["golden"]["positions"]
            ));
            // Rounded activations flip here and there; without them only the last bits differ.
            kl < if kl_is_rounded(&folder) { 2e-3 } else { 1e-6 }
        } else {
            let cosine = v["embedding"]["worst_cosine"].as_f64().unwrap();
            rows.push(format!("{name}: cosine {cosine:.9}"));
            cosine > if kl_is_rounded(&folder) { 0.999 } else { 0.999_999_9 }
        };
        if !near {
            failures.push(rows.last().unwrap().clone());
        }
    }
    println!("{}", rows.join("\n"));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Whether the case has int8 activations, by its description.
fn kl_is_rounded(folder: &Path) -> bool {
    let c = config(folder);
    c["model_type"] == "bitnet" || c["quantization_config"]["quant_method"] == "bitnet" || {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        name.contains("bitnet") || name.contains("bitlinear")
    }
}

#[test]
fn exported_c_gives_the_same_integers() {
    let dir = tempfile::tempdir().unwrap();
    let folders = golden_folders();
    let next = AtomicUsize::new(0);
    // Building the C of a model is what takes time.
    let work = || {
        let mut failures = Vec::new();
        while let Some(folder) = folders.get(next.fetch_add(1, Ordering::Relaxed)) {
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            let out = dir.path().join(format!("{name}.bitnet"));
            if export(folder, &out).code != Some(0) {
                continue; // the test above says so
            }
            let seen = run(&["verify", out.to_str().unwrap(), "--target", "c-host", "--require"]);
            if seen.code != Some(0) {
                failures.push(format!("{name}: {}{}", seen.stdout, seen.stderr));
            }
        }
        failures
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<String> = std::thread::scope(|s| {
        let workers: Vec<_> = (0..threads).map(|_| s.spawn(work)).collect();
        workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
