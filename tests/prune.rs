//! Pruned checkpoints: what is copied, what the rest computes, and what is refused.

#![cfg(feature = "reference")]

mod common;

use bitnet_convert::format::{safetensors, File};
use bitnet_convert::import::import;
use bitnet_convert::reference::{Input, Reference};
use bitnet_convert::tensor::DType;
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
