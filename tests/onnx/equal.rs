//! Every model of the repository as ONNX, in the built-in engine, against its program. The beginning of a prompt each, to save time; the runtimes of
//! others (python.rs) run all of it.

use crate::common::fixture;
use crate::support::{checkpoints, each, export, name, onnx, packed, place, verify};
use bitnet_convert::program::OpKind;
use bitnet_convert::runtime::Artifact;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What `verify` says of a model in a profile, or what went wrong on the way.
fn verdict(checkpoint: &Path, options: &str) -> Result<Value, String> {
    let packed = packed(checkpoint);
    let file = place().join(format!("{}-e{}.onnx", name(checkpoint), options.replace([' ', '-'], "_")));
    let made = export(&packed, &file, options);
    if made.code != Some(0) {
        return Err(format!("{} {options}: {}", name(checkpoint), made.stderr.trim()));
    }
    let seen = verify(&file, &packed, "--quick");
    if seen.code == Some(2) || seen.stderr.contains("panicked") {
        return Err(format!("{} {options}: {}", name(checkpoint), seen.stderr.trim()));
    }
    Ok(seen.json())
}

fn all(options: &str, wrong: impl Fn(&Value) -> Option<String> + Sync) -> Vec<Value> {
    of(&checkpoints(), options, wrong)
}

fn of(models: &[PathBuf], options: &str, wrong: impl Fn(&Value) -> Option<String> + Sync) -> Vec<Value> {
    let reports = each(models, |m| verdict(m, options));
    let mut failures = Vec::new();
    let mut good = Vec::new();
    for (model, report) in models.iter().zip(reports) {
        match report {
            Err(e) => failures.push(e),
            Ok(v) => match wrong(&v) {
                Some(what) => failures.push(format!("{}: {what}", name(model))),
                None => good.push(v),
            },
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), models.len(), failures.join("\n"));
    good
}

#[test]
fn integer_graphs_of_every_model_are_equal() {
    let reports = all("--profile int", |v| {
        let inner = v["operations"].as_u64() > Some(0);
        (v["result"] != "equal" || v["differing"] != 0 || !inner).then(|| format!("{v}"))
    });
    let with_cache: u64 = reports.iter().filter_map(|v| v["with_cache"].as_u64()).sum();
    assert!(with_cache >= 4 * 30, "only {with_cache} positions came through a cache");
    let batches = reports.iter().filter(|v| v["notes"].to_string().contains("padded at the left")).count();
    assert!(batches > 20, "only {batches} models ran with padding");
}

#[test]
fn all_prompts_of_one_model_are_equal() {
    let packed = packed(&fixture("models/intent-w1a2"));
    for options in ["--profile int", "--profile int --static 12", "--profile int --logits float"] {
        let v = verify(&onnx(&packed, options), &packed, if options.contains("float") { "--quick" } else { "" })
            .ok()
            .json();
        assert_eq!((&v["result"], &v["differing"]), (&"equal".into(), &0.into()), "{options}: {v}");
    }
}

#[test]
fn graphs_on_operators_of_onnx_runtime_are_near() {
    let (models, encoders): (Vec<PathBuf>, Vec<PathBuf>) =
        checkpoints().into_iter().partition(|m| !["bert_mlm", "roberta"].contains(&&*name(m)));
    for encoder in encoders {
        let said = verdict(&encoder, "--profile ort").unwrap_err();
        assert!(said.contains("looks back only") && said.contains("`--profile std`"), "{said}");
    }
    let reports = of(&models, "--profile ort", |v| {
        let sums = v["figures"]["core"]["mismatches"].as_u64().unwrap_or(0);
        (v["result"] != "near" || sums != 0).then(|| format!("{v}"))
    });
    let with_sums = reports.iter().filter(|v| v["figures"]["core"]["sums"].as_u64() > Some(0)).count();
    assert!(with_sums >= 10, "only {with_sums} models have integer sums");
    let batches = reports.iter().filter(|v| v["notes"].to_string().contains("padded at the left")).count();
    assert!(batches > 20, "only {batches} models ran with padding");
}

#[test]
fn float_graphs_of_every_model_are_near() {
    let reports = all("--profile std", |v| {
        let f = &v["figures"];
        let sums = f["core"]["mismatches"].as_u64().unwrap_or(0);
        (v["result"] != "near" || sums != 0).then(|| format!("{v}"))
    });
    let with_sums = reports.iter().filter(|v| v["figures"]["core"]["sums"].as_u64() > Some(0)).count();
    assert!(with_sums >= 10, "only {with_sums} models have integer sums");
}

#[test]
fn vectors_are_as_long_as_what_was_written_not_as_their_registers() {
    let model = fixture("golden/qwen3");
    let p = Artifact::open(&packed(&model)).unwrap().program;
    // A register is as wide as the widest vector that it ever holds. Here norms of single heads read it when it holds a narrow one.
    let (mut held, mut narrow) = (vec![0; p.registers.len()], 0);
    for op in &p.ops {
        match op.kind {
            OpKind::Linear { dst, weight, .. } => held[dst] = p.tensors[weight].rows,
            OpKind::Norm { src, group, .. } => {
                narrow += usize::from(group < held[src] && held[src] < p.registers[src].capacity);
            }
            _ => {}
        }
    }
    assert!(narrow > 0, "no norm reads part of a register");
    for (options, result) in [("--profile int", "equal"), ("--profile std", "near")] {
        let v = verdict(&model, options).unwrap();
        assert_eq!(v["result"], result, "{options}: {v}");
    }
}
