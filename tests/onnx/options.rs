//! The options of `export --format onnx` and of `verify`: what they do, and that those without effect are refused.

use crate::common::{fixture, listing};
use crate::support::{export, onnx, packed, place, run, verify};
use std::path::Path;

#[test]
fn options_without_effect_are_refused() {
    let packed = packed(&fixture("models/intent-w1a2"));
    let out = place().join("refused.onnx");
    for (options, named) in [
        ("--profile std --static 8", "`--static` has no effect on the profile std"),
        ("--profile int --norm f32", "`--norm` has no effect on the profile int"),
        ("--logits float", "`--logits` has no effect on the profile std"),
        ("--profile std --exact", "`--exact` has no effect on the profile std"),
        ("--profile ort --static 8", "`--static` has no effect on the profile ort"),
        ("--profile ort --weights int8", "have 4 or 2 bits"),
        ("--profile ort --exact --weights int2", "unpacked for every product"),
        ("--profile ort --opset 20", "opset 21"),
        ("--opset 12", "13 to 26"),
        ("--profile int --static 0", "1 to 131072 slots"),
        ("--quantize-weight 1", "`--quantize-weight` has no effect on a model that was converted already"),
        ("--kv-bits 8", "`--kv-bits` has no effect"),
        ("--target cortex-m7", "`--target` has no effect"),
        ("--kernel tables", "`--kernel` has no effect"),
        ("--prompt hello", "belong to the C folder"),
    ] {
        let r = export(&packed, &out, options);
        assert_eq!(r.code, Some(2), "{options}: {r:?}");
        assert!(r.stderr.contains(named), "{options}: {}", r.stderr);
        assert!(!out.exists(), "{options}");
    }
}

#[test]
fn options_of_onnx_are_refused_for_other_formats() {
    for option in [
        "--profile int",
        "--static 8",
        "--opset 13",
        "--weights int2",
        "--norm f32",
        "--exact",
        "--logits float",
        "--genai",
    ] {
        let model = fixture("models/intent-w1a2");
        let out = place().join("packed.bitnet");
        let words = ["export", "--model", model.to_str().unwrap(), "-o", out.to_str().unwrap()];
        let r = run(words.into_iter().chain(option.split(' ')));
        assert_eq!(r.code, Some(2), "{option}: {r:?}");
        assert!(r.stderr.contains("belongs to ONNX"), "{option}: {}", r.stderr);
        assert!(!out.exists());
    }
}

#[test]
fn a_folder_gets_a_file_called_model() {
    let folder = place().join("folder/of/one");
    export(&fixture("models/intent-w1a2"), &folder, "--profile int").ok();
    assert_eq!(listing(&folder), ["model.onnx", "model.onnx.data"]);
    // What a user has beside it stays.
    std::fs::write(folder.join("notes.txt"), "mine").unwrap();
    export(&fixture("models/intent-w1a2"), &folder, "--profile int --logits float").ok();
    assert_eq!(listing(&folder), ["model.onnx", "model.onnx.data", "notes.txt"]);
    let v = verify(&folder, &fixture("models/intent-w1a2"), "--quick");
    assert_eq!(v.json()["result"], "equal");
}

#[test]
fn a_dry_run_writes_nothing_and_says_how_large_it_would_be() {
    let packed = packed(&fixture("models/intent-w1a2"));
    let written = onnx(&packed, "--profile int");
    let data = std::fs::metadata(format!("{}.data", written.display())).unwrap().len();
    let words =
        ["export", "--format", "onnx", "--profile", "int", "--dry-run", "--json", "--model", packed.to_str().unwrap()];
    let v = run(words).ok().json();
    assert_eq!(v["data_bytes"], data);
    assert!(v["written"].is_null());
    assert!(v["nodes"].as_u64() > Some(100));
    assert_eq!((v["opset"].as_i64(), v["ir"].as_i64()), (Some(13), Some(7)));
}

#[test]
fn an_export_says_what_was_written_and_for_whom() {
    let packed = packed(&fixture("models/intent-w1a2"));
    let out = place().join("said.onnx");
    let words = [
        "export",
        "--format",
        "onnx",
        "--profile",
        "int",
        "--model",
        packed.to_str().unwrap(),
        "-o",
        out.to_str().unwrap(),
    ];
    let said = run(words).ok().stderr;
    for part in ["profile int", "opset 13", "IR 7", "said.onnx.data", "ONNX Runtime from", "verify"] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
}

#[test]
fn a_file_that_a_runtime_may_round_says_so() {
    let packed = packed(&fixture("models/intent-w1a2"));
    for (options, runtimes, approximate) in [
        ("--profile ort", "from 1.23 on", true),
        ("--profile ort --weights int2", "from 1.24 on, fast from 1.28 on", true),
        ("--profile ort --exact", "from 1.23 on", false),
    ] {
        let words = ["export", "--format", "onnx", "--dry-run", "--json", "--model", packed.to_str().unwrap()];
        let r = run(words.into_iter().chain(options.split(' '))).ok();
        let v = r.json();
        assert_eq!((v["profile"].as_str(), v["opset"].as_i64(), v["ir"].as_i64()), (Some("ort"), Some(21), Some(10)));
        assert!(v["runtimes"].as_str().unwrap().contains(runtimes), "{options}: {v}");
        assert_eq!(v["warnings"].to_string().contains("is approximate"), approximate, "{options}: {v}");
        let file = bitnet_convert::format::onnx::Loaded::open(&onnx(&packed, options)).unwrap();
        assert_eq!(file.meta("bitnet.sums").unwrap().contains("approximate"), approximate, "{options}");
        assert_eq!(file.meta("bitnet.accuracy_level"), Some(if approximate { "4" } else { "1" }), "{options}");
    }
}

#[test]
fn a_checkpoint_can_be_what_a_file_is_compared_with() {
    let checkpoint = fixture("models/intent-w1a2");
    let file = onnx(&packed(&checkpoint), "--profile int");
    let r = verify(&file, &checkpoint, "--quick").ok();
    assert_eq!(r.json()["result"], "equal");
}

#[test]
fn another_model_is_refused_with_what_to_do() {
    let file = onnx(&packed(&fixture("models/intent-w1a2")), "--profile int");
    let r = verify(&file, &packed(&fixture("models/intent-b158")), "");
    assert_eq!(r.code, Some(2));
    assert!(r.stderr.contains("was made from model"), "{}", r.stderr);
    assert!(r.stderr.contains("--against"), "{}", r.stderr);
}

#[test]
fn verify_refuses_what_has_no_effect() {
    let packed = packed(&fixture("models/intent-w1a2"));
    let file = onnx(&packed, "--profile int");
    let no_model = run([Path::new("verify"), &file]);
    assert!(no_model.code == Some(2) && no_model.stderr.contains("--against M"), "{no_model:?}");
    for (options, named) in [
        ("--target host", "`--target` has no effect"),
        ("--require", "`--require` has no effect"),
        ("--lib x.so", "`--lib` has no effect on the built-in engine"),
        ("--engine ort", "was not named"),
    ] {
        let r = verify(&file, &packed, options);
        assert_eq!(r.code, Some(2), "{options}: {r:?}");
        assert!(r.stderr.contains(named), "{options}: {}", r.stderr);
    }
}
