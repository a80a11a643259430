//! Every model of the repository as ONNX, in the built-in engine, against its program.

use crate::support::{checkpoints, each, export, name, packed, place, verify};
use serde_json::Value;
use std::path::Path;

/// What `verify` says of a model in a profile, or what went wrong on the way.
fn verdict(checkpoint: &Path, options: &str) -> Result<Value, String> {
    let packed = packed(checkpoint);
    let file = place().join(format!("{}-e{}.onnx", name(checkpoint), options.replace([' ', '-'], "_")));
    let made = export(&packed, &file, options);
    if made.code != Some(0) {
        return Err(format!("{} {options}: {}", name(checkpoint), made.stderr.trim()));
    }
    let seen = verify(&file, &packed, "");
    if seen.code == Some(2) || seen.stderr.contains("panicked") {
        return Err(format!("{} {options}: {}", name(checkpoint), seen.stderr.trim()));
    }
    Ok(seen.json())
}

fn all(options: &str, wrong: impl Fn(&Value) -> Option<String> + Sync) -> Vec<Value> {
    let models = checkpoints();
    let reports = each(&models, |m| verdict(m, options));
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
    assert!(with_cache > 100, "only {with_cache} positions came through a cache");
    let batches = reports.iter().filter(|v| v["notes"].to_string().contains("padded at the left")).count();
    assert!(batches > 20, "only {batches} models ran with padding");
}
