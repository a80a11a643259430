//! `inspect FILE.gguf`.

use crate::convert::{codes, llama, stored, Bench};
use crate::writer::*;
use bitnet_convert::encoding::blocks::Block;
use std::path::Path;

fn inspect(path: &Path, more: &[&str]) -> crate::common::Run {
    let mut c = crate::common::command();
    crate::common::finish(c.arg("inspect").arg(path).args(more)).never_panicked()
}

#[test]
fn a_model_with_its_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gguf/tiny-llama.gguf");
    let said = inspect(&path, &["--json"]).ok().json();
    let g = &said["gguf"];
    assert_eq!((&g["architecture"], &g["context"], &g["files"]), (&"llama".into(), &64.into(), &1.into()));
    assert_eq!(g["bytes"], std::fs::metadata(&path).unwrap().len());
    let tokenizer = &g["tokenizer"];
    assert_eq!((&tokenizer["kind"], &tokenizer["pre"]), (&"gpt2".into(), &"smollm".into()));
    assert_eq!(tokenizer["tokens"], said["vocab"], "the model is there, too");
    let types = g["types"].as_array().unwrap();
    let all = |what: &str| types.iter().map(|t| t[what].as_u64().unwrap()).sum::<u64>();
    assert_eq!(all("tensors"), g["tensors"].as_u64().unwrap());
    let f32s = types.iter().find(|t| t["type"] == "F32").unwrap();
    // Five norms of 32.
    assert_eq!((&f32s["tensors"], &f32s["weights"], &f32s["bytes"]), (&5.into(), &160.into(), &640.into()));
    let q4 = types.iter().find(|t| t["type"] == "Q4_1").unwrap();
    assert_eq!(q4["bits_per_weight"], 5.0);
    assert_eq!(g["bits_per_weight"], (all("bytes") - 640) as f64 * 8.0 / (all("weights") - 160) as f64);
    let text = inspect(&path, &[]).ok().stdout;
    assert!(text.contains("architecture llama, context 64 tokens, tokenizer gpt2 (smollm) of 261 tokens"), "{text}");
    assert!(text.contains("Q4_1        2 tensors") && text.contains("read as `"), "{text}");
}

#[test]
fn files_that_no_model_is_made_of() {
    let data = stored(Block::I2S, &codes(512, &[-1, 0, 1]), |_| 0.5);
    let m = || tensor("m", &[256, 2], 36, data.clone());
    let strange = Gguf::default().key("general.architecture", strv("mamba\u{1b}[2J")).with(m());
    let bench = Bench::new(&strange);
    let run = inspect(&bench.source(), &[]).ok();
    assert!(run.stdout.contains("architecture mamba[2J, context not given, tokenizer none"), "{}", run.stdout);
    assert!(run.stdout.contains("I2_S        1 tensors             160 bytes   2.500 bits"), "{}", run.stdout);
    assert!(run.stdout.contains("not read as a model: ") && !run.stdout.contains('\u{1b}'), "{}", run.stdout);
    let said = inspect(&bench.source(), &["--json"]).ok().json();
    assert!(said["not_a_model"].as_str().unwrap().contains("is not read"), "{said}");
    assert!(said.get("vocab").is_none() && said["gguf"]["types"][0]["type"] == "I2_S", "{said}");
    // What is damaged is an error.
    for bad in [llama().key("llama.context_length", strv("long")).with(m()), llama().with(m())] {
        let run = inspect(Bench::new(&bad).source().as_path(), &[]);
        assert_eq!(run.code, Some(2), "{run:?}");
    }
}
