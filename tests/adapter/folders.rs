//! Folders of PEFT: which settings mean what, which modules of a base are found, and what is refused.

use super::common::fixture;
use bitnet_convert::error::Error;
use bitnet_convert::format::safetensors;
use bitnet_convert::import::{import, lora};
use bitnet_convert::model::{Lora, Model};
use serde_json::{json, Value};
use std::path::Path;

const Q: &str = "base_model.model.model.layers.0.self_attn.q_proj";

fn config() -> Value {
    json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", "target_modules": ["q_proj"] })
}

/// A folder with this configuration and these tensors, all of them ones.
fn folder(dir: &Path, config: &Value, tensors: &[(&str, &[usize])]) {
    std::fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
    let data: Vec<Vec<f32>> = tensors.iter().map(|(_, shape)| vec![1.0; shape.iter().product()]).collect();
    let list: Vec<_> = tensors.iter().zip(&data).map(|((name, shape), d)| (*name, *shape, &d[..])).collect();
    safetensors::write(&dir.join("adapter_model.safetensors"), &list).unwrap();
}

fn intent() -> Model {
    import(&fixture("models/intent-w1a2")).unwrap()
}

fn q(side: char) -> String {
    format!("{Q}.lora_{side}.weight")
}

/// Opens the ordinary adapter of one matrix after `change`.
fn open_with(change: impl FnOnce(&mut Value)) -> Result<Lora, Error> {
    let dir = tempfile::tempdir().unwrap();
    let mut c = config();
    change(&mut c);
    let (a, b) = (q('A'), q('B'));
    folder(dir.path(), &c, &[(&a, &[2, 128]), (&b, &[128, 2])]);
    lora::open(dir.path(), &intent())
}

fn tensors(list: &[(&str, &[usize])]) -> Result<Lora, Error> {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), &config(), list);
    lora::open(dir.path(), &intent())
}

#[test]
fn the_factor_is_alpha_over_the_rank() {
    let factor = |change: fn(&mut Value)| open_with(change).unwrap().branches[0].b[0];
    assert_eq!(factor(|_| ()), 2.0);
    assert_eq!(factor(|c| c["use_rslora"] = true.into()), 4.0 / 2f32.sqrt());
    assert_eq!(factor(|c| c["alpha_pattern"] = json!({ "self_attn.q_proj": 10 })), 5.0);
    assert_eq!(factor(|c| c["alpha_pattern"] = json!({ "elf_attn.q_proj": 10 })), 2.0);
    assert_eq!(factor(|c| (c["r"], c["rank_pattern"]) = (8.into(), json!({ "q_proj": 2 }))), 2.0);
}

#[test]
fn adapters_that_are_more_than_branches_are_refused() {
    let cases: [(&str, Value, &str); 14] = [
        ("peft_type", "IA3".into(), "type IA3"),
        ("peft_type", Value::Null, "`peft_type` is missing"),
        ("use_dora", true.into(), "DoRA"),
        ("modules_to_save", json!(["lm_head"]), "modules_to_save"),
        ("bias", "all".into(), "biases of the base"),
        ("bias", "lora_only".into(), "biases of the base"),
        ("lora_bias", true.into(), "branches have biases"),
        ("trainable_token_indices", json!([1]), "embedding"),
        ("layer_replication", json!([[0, 2]]), "repeats layers"),
        ("use_qalora", true.into(), "pooled input"),
        ("init_lora_weights", "pissa_niter_4".into(), "base was changed"),
        ("rank_pattern", json!({ ".*q_proj": 2 }), "expression"),
        ("r", 3.into(), "the configuration says 3"),
        ("lora_alpha", "x".into(), "alpha"),
    ];
    for (key, value, why) in cases {
        let e = open_with(|c| c[key] = value.clone()).expect_err(key);
        assert!(e.message().contains(why), "{key} {value}: {e}");
    }
}

#[test]
fn factors_that_are_missing_or_do_not_fit_are_refused() {
    let (a, b) = (q('A'), q('B'));
    let magnitude = format!("{Q}.lora_magnitude_vector.weight");
    let again = format!("{Q}.lora_A.default.weight");
    /// Names with shapes, and a part of the message.
    type Case<'a> = (&'a [(&'a str, &'a [usize])], &'a str);
    let cases: [Case; 11] = [
        (&[(&a, &[2, 128])], "has no `lora_B`"),
        (&[(&b, &[128, 2])], "has no `lora_A`"),
        (&[(&a, &[2, 127]), (&b, &[128, 2])], "128 x 127"),
        (&[(&a, &[2, 128]), (&b, &[64, 2])], "64 x 128"),
        (&[(&a, &[2, 128]), (&b, &[128, 3])], "ranks 2"),
        (&[(&a, &[0, 256]), (&b, &[128, 0])], "two dimensions"),
        (&[(&a, &[256]), (&b, &[128, 2])], "two dimensions"),
        (&[(&magnitude, &[128])], "DoRA"),
        (&[(&a, &[2, 128]), (&again, &[2, 128]), (&b, &[128, 2])], "same factor"),
        (
            &[
                ("base_model.model.lm_head.lora_A.weight", &[2, 128]),
                ("base_model.model.lm_head.lora_B.weight", &[9, 2]),
            ],
            "head",
        ),
        (&[("base_model.model.model.layers.99.self_attn.q_proj.lora_A.weight", &[2, 2])], "no module"),
    ];
    for (list, why) in cases {
        let e = tensors(list).expect_err(why);
        assert!(e.message().contains(why), "{why}: {e}");
    }
    let e = tensors(&[("base_model.model.model.embed_tokens.lora_embedding_A", &[2, 2])]).unwrap_err();
    assert!(e.message().contains("embedding"), "{e}");
    let e = tensors(&[("base_model.model.model.norm.weight", &[2])]).unwrap_err();
    assert!(e.message().contains("no factor"), "{e}");
}

#[test]
fn values_that_are_no_numbers_are_refused_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (q('A'), q('B'));
    folder(dir.path(), &config(), &[(&a, &[2, 128]), (&b, &[128, 2])]);
    let path = dir.path().join("adapter_model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let e = lora::open(dir.path(), &intent()).unwrap_err();
    assert!(e.file().is_some() && e.tensor().is_some(), "{e}");
}

#[test]
fn folders_without_the_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |why: &str| {
        let e = lora::open(dir.path(), &intent()).unwrap_err();
        assert!(e.message().contains(why), "{e}");
    };
    refused("adapter_config.json");
    std::fs::write(dir.path().join("adapter_config.json"), config().to_string()).unwrap();
    refused("adapter_model");
    std::fs::write(dir.path().join("adapter_model.safetensors"), b"nonsense").unwrap();
    refused("");
    for (text, why) in [("[]", "no JSON object"), ("{", "no JSON"), ("{\"r\": 1e999}", "")] {
        std::fs::write(dir.path().join("adapter_config.json"), text).unwrap();
        refused(why);
    }
}

/// Fused modules become branches of their parts; names with and without the prefix of the class around the base.
#[test]
fn modules_of_other_architectures_are_found() {
    let cases: [(&str, &str, [usize; 2], &[&str]); 4] = [
        ("gpt2", "base_model.model.transformer.h.0.attn.c_attn", [0, 0], &["attn.q", "attn.k", "attn.v"]),
        (
            "gpt_neox",
            "base_model.model.gpt_neox.layers.0.attention.query_key_value",
            [0, 0],
            &["attn.q", "attn.k", "attn.v"],
        ),
        ("phi", "base_model.model.model.layers.1.mlp.fc1", [0, 0], &["ffn.up"]),
        ("bert_mlm", "base_model.model.bert.encoder.layer.0.intermediate.dense", [0, 0], &["ffn.up"]),
    ];
    for (model, module, _, names) in cases {
        let base = import(&fixture("golden").join(model)).unwrap();
        let found: Vec<_> = base
            .projections()
            .filter(|l| {
                let layer = if module.contains(".1.") { "layers.1." } else { "layers.0." };
                l.name.strip_prefix(layer).is_some_and(|n| names.contains(&n))
            })
            .collect();
        assert_eq!(found.len(), names.len(), "{model}");
        let rows: usize = found.iter().map(|l| l.weight.rows).sum();
        let cols = found[0].weight.cols;
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (format!("{module}.lora_A.weight"), format!("{module}.lora_B.weight"));
        std::fs::write(dir.path().join("adapter_config.json"), config().to_string()).unwrap();
        // Row r of B holds r, so that the order of the rows can be seen.
        let values: Vec<f32> = (0..rows * 2).map(|i| (i / 2) as f32).collect();
        let ones = vec![1.0; 2 * cols];
        let list: [(&str, &[usize], &[f32]); 2] = [(&a, &[2, cols], &ones), (&b, &[rows, 2], &values)];
        safetensors::write(&dir.path().join("adapter_model.safetensors"), &list).unwrap();
        let lora = lora::open(dir.path(), &base).unwrap_or_else(|e| panic!("{model}: {e}"));
        assert_eq!(lora.branches.len(), names.len());
        for l in found {
            let branch = lora.of(&l.name).unwrap();
            for r in 0..l.weight.rows {
                assert_eq!(branch.b[2 * r], 2.0 * l.weight.order.stored(r) as f32, "{model} {} row {r}", l.name);
            }
        }
    }
}

/// A module that normalises its own input takes another input than its matrix.
#[test]
fn modules_with_norms_inside_are_refused() {
    for model in ["onebit_packed", "qwen3_bitlinear_rms_lm_head"] {
        let base = import(&fixture("golden").join(model)).unwrap();
        let inner =
            base.projections().find(|l| l.input_norm.is_some() || l.input_factor.is_some() || l.output_norm.is_some());
        let Some(l) = inner else { continue };
        let module = l.weight.tensor.name.rsplit_once('.').unwrap().0;
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (format!("{module}.lora_A.weight"), format!("{module}.lora_B.weight"));
        folder(dir.path(), &config(), &[(&a, &[2, l.weight.cols]), (&b, &[l.weight.rows, 2])]);
        let e = lora::open(dir.path(), &base).unwrap_err();
        assert!(e.message().contains("its own"), "{model}: {e}");
    }
}
