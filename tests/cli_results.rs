//! What the commands give: JSON with the keys that scripts rely on, files of the planned size, the same bytes for the same input.

mod common;

use common::checkpoint::{assert_failure, Bench, Checkpoint};
use common::{command, finish, fixture, listing, root, tiny, tool};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn intent() -> PathBuf {
    fixture("models/intent-w1a2")
}

// ---- JSON ----

/// The keys that scripts rely on.
fn has_keys(v: &Value, keys: &str) {
    for k in keys.split_whitespace() {
        assert!(v.get(k).is_some(), "no `{k}` in {v}");
    }
}

#[test]
fn json_of_a_plan() {
    let run = tool("export --model {} --target cortex-m7 --dry-run --json", &[&intent()]).ok();
    let v = run.json();
    has_keys(&v, "plan written warnings");
    assert!(v["written"].is_null());
    has_keys(
        &v["plan"],
        "model target low_bit_weights weight_rule activation_rule file_bytes arena_bytes arena_in_fast_ram usage",
    );
    for u in v["plan"]["usage"].as_array().unwrap() {
        has_keys(u, "memory parts total limit");
        let sum: u64 = u["parts"].as_array().unwrap().iter().map(|p| p["bytes"].as_u64().unwrap()).sum();
        assert_eq!(u["total"], sum, "the parts of {} add up", u["memory"]);
    }
    assert!(run.stderr.is_empty(), "talk is for people: {}", run.stderr);
}

#[test]
fn json_of_the_inspectors() {
    let v = tool("inspect {} --json", &[&tiny()]).ok().json();
    has_keys(
        &v,
        "file bytes model vocab d_model layers heads kv_heads head_dim window sinks kv_bits residual_frac_bits",
    );
    has_keys(&v, "low_bit_weights bits_per_low_bit_weight bits_per_parameter golden_prompts golden_tokens sections tensors sources program");
    assert_eq!((&v["bytes"], &v["vocab"], &v["golden_tokens"]), (&12_048.into(), &16.into(), &15.into()));
    has_keys(&v["sections"][0], "name offset bytes crc32 sha256");
    has_keys(&v["tensors"][0], "name kind rows cols bytes");
    let with_program = tool("inspect {} --json --program", &[&tiny()]).ok().json();
    assert!(with_program["program"].as_str().unwrap().contains("EMBED"));
    let v = tool("inspect {} --json", &[&intent()]).ok().json();
    has_keys(&v, "folder model architecture native vocab d_model ffn layers heads kv_heads head_dim context hidden_activation projections warnings");
    let v = tool("inspect {} --json", &[&intent().join("model.safetensors")]).ok().json();
    has_keys(&v, "file bytes tensors");
    has_keys(&v["tensors"][0], "name dtype shape offset bytes");
}

#[test]
fn an_onnx_file_and_what_is_wrong_with_it() {
    let path = root().join("tests/data/onnx/traps.onnx");
    let v = tool("inspect {} --json", &[&path]).ok().json();
    has_keys(&v, "file bytes producer producer_version description ir_version opsets inputs outputs nodes operators initializers external");
    has_keys(&v, "data_digest_matches metadata warnings program");
    assert_eq!((&v["opsets"]["ai.onnx"], &v["operators"]["MatMulInteger"]), (&28.into(), &2.into()));
    assert_eq!(v["operators"]["com.microsoft.MatMulNBits"], 1);
    assert_eq!(v["inputs"][0]["shape"], serde_json::json!(["batch", "16"]));
    assert_eq!(
        v["initializers"]["int8"],
        serde_json::json!({"tensors": 4, "elements": 514, "bytes": 514, "external_bytes": 512})
    );
    assert_eq!(v["external"][0]["bytes"], 512);
    let warnings: Vec<&str> = v["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    for (w, start) in warnings.iter().zip([
        "IR version 14",
        "operators of version 28",
        "DequantizeLinear before MatMul",
        "MatMulInteger of uint8 codes with int8 weights beyond 64",
        "MatMulInteger with signed codes",
        "MatMulInteger with zero points that are no scalars",
        "MatMulNBits at accuracy level 4",
        "Where on int8",
        "an operator of com.microsoft",
    ]) {
        assert!(w.starts_with(start), "{w}");
    }
    assert_eq!(warnings.len(), 9);
    let text = tool("inspect {} --program", &[&path]).ok().stdout;
    assert!(text.contains("g = Clip(a, -, scale)") && text.contains("warning: Where on int8"), "{text}");
    // Under another name, without the file that its weights are in.
    let dir = tempfile::tempdir().unwrap();
    let alone = dir.path().join("model");
    std::fs::copy(&path, &alone).unwrap();
    let run = tool("inspect {}", &[&alone]);
    assert!(
        run.code == Some(2) && run.stderr.contains("traps.onnx.data") && run.stderr.contains("tensor `w`"),
        "{run:?}"
    );
}

#[test]
fn json_of_logits() {
    let v = tool("logits {} --input-ids 3,0,15,3 --json", &[&tiny()]).ok().json();
    has_keys(&v, "input_ids scale_log2 logits argmax");
    assert_eq!(v["scale_log2"], -16);
    let logits = v["logits"].as_array().unwrap();
    assert_eq!((logits.len(), logits[0].as_array().unwrap().len()), (4, 16));
    for (row, best) in logits.iter().zip(v["argmax"].as_array().unwrap()) {
        let row: Vec<i64> = row.as_array().unwrap().iter().map(|l| l.as_i64().unwrap()).collect();
        assert_eq!(Some(row[best.as_u64().unwrap() as usize]), row.iter().copied().max());
    }
}

#[test]
fn json_of_the_targets() {
    let list = tool("targets list --json", &[]).ok().json();
    assert_eq!(list, tool("targets --json", &[]).ok().json());
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(names[0], "host");
    let at = names.iter().position(|n| *n == "cortex-m7").unwrap();
    let m7 = tool("targets show cortex-m7 --json", &[]).ok().json();
    assert_eq!(m7, list[at]);
    assert_eq!(m7, tool("targets show STM32H743VI --json", &[]).ok().json(), "the board is another name of its target");
    has_keys(&m7, "name title board kind isa unverified defaults kernels memory budget build emulator");
    has_keys(&m7["emulator"][0], "name command arguments output counter tokens packages limits memory");
    has_keys(&m7["memory"][0], "name role origin bytes note");
}

#[test]
fn json_of_an_error() {
    let run = tool("inspect {} --json", &[Path::new("/no/such/file")]);
    assert_failure(&run, &["/no/such/file"]);
    let e = &run.json()["error"];
    has_keys(e, "code message file tensor offset hint");
    assert_eq!((&e["code"], &e["file"]), (&"io".into(), &"/no/such/file".into()));
    let b = Bench::new(&Checkpoint::with(|c| c.tensor("model.norm.weight").set(0, f32::NAN)));
    let run = b.refused_with(&["--json"], &[]);
    let e = &run.json()["error"];
    assert_eq!((&e["code"], &e["tensor"]), (&"bad-input".into(), &"model.norm.weight".into()));
    assert!(e["offset"].is_u64());
}

#[test]
fn json_of_an_export_and_an_evaluation() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.bitnet");
    let v = tool("export --model {} -o {} --json", &[&intent(), &out]).ok().json();
    has_keys(&v["written"], "path bytes residual_frac_bits saturated weights_seconds");
    let v = tool("eval {} --golden {} --json", &[&out, &intent().join("golden.safetensors")]).ok().json();
    has_keys(&v["golden"], "positions mean_kl same_top1 different_not_near_tie worst_logit_difference");
    let v = tool("verify {} --target host-scalar,host-simd --json", &[&out]).ok().json();
    has_keys(&v, "artifact prompts tokens operations_compared rows notes");
    let row =
        "runner emulator kernels detail result tokens operations instructions_per_token flash_bytes ram_bytes fits";
    has_keys(&v["rows"][0], row);
}

#[test]
fn targets_show_tells_the_memories() {
    let text = tool("targets show cortex-m7", &[]).ok().stdout;
    for part in [
        "STM32H743VI",
        "0x08000000",
        "2,097,152 bytes",
        "131,072 bytes",
        "524,288 bytes",
        "arm-none-eabi-gcc",
        "qemu-system-arm",
        "window 32 slots",
    ] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
}

#[test]
fn quiet_is_quiet() {
    let dir = tempfile::tempdir().unwrap();
    let run = tool("export -q --model {} -o {}", &[&intent(), &dir.path().join("m.bitnet")]).ok();
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
}

// ---- sizes and bytes ----

const COMBINATIONS: [&str; 9] = [
    "",
    "--kv-bits 8 --kv-window 24",
    "--kv-bits 4",
    "--kv-bits 4 --kv-window 16 --kv-sinks 0",
    "--embedding-bits 16 --kv-window 7",
    "--quantize-weight 1.58",
    "--quantize-weight 1.58 --weight-scales row --quantize-activation 8",
    "--quantize-weight 1.58 --weight-scales 64 --quantize-activation 4 --kv-bits 8",
    "--target cortex-m7 --format packed",
];

#[test]
fn planned_bytes_are_written_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.bitnet");
    let models = [
        (intent(), &COMBINATIONS[..]),
        (fixture("golden/llama_bitlinear_rmsnorm"), &COMBINATIONS[..5]),
        (fixture("golden/bitnet_packed_2b4t_like"), &COMBINATIONS[..5]),
    ];
    for (model, combinations) in &models {
        for flags in *combinations {
            let plan = tool(&format!("export --dry-run --json --model {{}} {flags}"), &[model]).ok().json();
            let done = tool(&format!("export --json --model {{}} -o {{}} {flags}"), &[model, &out]).ok().json();
            let length = std::fs::metadata(&out).unwrap().len();
            assert_eq!(plan["plan"]["file_bytes"], length, "{} {flags}", model.display());
            assert_eq!(done["written"]["bytes"], length, "{} {flags}", model.display());
            tool("inspect {}", &[&out]).ok();
        }
    }
}

#[test]
fn a_dry_run_writes_nothing() {
    let b = Bench::new(&Checkpoint::online());
    let run = b.export(&["--dry-run"]).ok();
    assert!(run.stdout.contains("plan") && run.stderr.contains("nothing written"), "{run:?}");
    assert!(listing(&b.out()).is_empty());
}

/// The bytes depend on the model, its name and the flags: not on the time, the folder, the kernel or the number of threads.
#[test]
fn two_exports_give_identical_bytes() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [a.path(), b.path()] {
        std::fs::create_dir(dir.join("m")).unwrap();
        for name in listing(&intent()) {
            std::fs::copy(intent().join(&name), dir.join("m").join(&name)).unwrap();
        }
    }
    for flags in ["", "--kv-bits 4", "--quantize-weight 1.58 --weight-scales 32 --quantize-activation 8"] {
        let export = |model: &Path, cwd: &Path, kernel: &str| {
            let out = cwd.join("out.bitnet");
            let mut c = command();
            c.current_dir(cwd).env("BITNET_KERNEL", kernel).env("TZ", "Asia/Tokyo").env("LANG", "de_DE.UTF-8");
            finish(c.args(["export", "-o", "out.bitnet"]).args(flags.split_whitespace()).arg("--model").arg(model))
                .ok();
            std::fs::read(out).unwrap()
        };
        let first = export(&a.path().join("m"), a.path(), "scalar");
        assert!(first == export(Path::new("m"), b.path(), "avx2"), "{flags}");
        assert!(first == export(Path::new("./m/"), b.path(), "scalar"), "{flags}");
    }
    let folder = |dir: &Path| {
        let out = dir.join("m7");
        tool("export --target cortex-m7 --model {} -o {}", &[&dir.join("m"), &out]).ok();
        let mut files = Vec::new();
        contents(&out, &out, &mut files);
        files
    };
    let (first, second) = (folder(a.path()), folder(b.path()));
    assert!(first.len() > 20);
    for (f, s) in first.iter().zip(&second) {
        assert!(f == s, "{} and {}", f.0.display(), s.0.display());
    }
    assert_eq!(first.len(), second.len());
}

/// Every file below a folder with its bytes, in the order of names.
fn contents(root: &Path, dir: &Path, out: &mut Vec<(PathBuf, Vec<u8>)>) {
    for name in listing(dir) {
        let path = dir.join(name);
        if path.is_dir() {
            contents(root, &path, out);
        } else {
            out.push((path.strip_prefix(root).unwrap().to_path_buf(), std::fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn generation_follows_the_seed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.bitnet");
    tool("export -q --model {} -o {}", &[&fixture("models/stories-b158"), &out]).ok();
    let run = |flags: &str| {
        let mut c = command();
        c.arg("run")
            .arg(&out)
            .args(["--prompt", "Once upon a time", "--max-new-tokens", "40", "--json"])
            .args(flags.split_whitespace());
        let v = finish(&mut c).ok().json();
        has_keys(&v, "prompt_ids generated_ids text finished");
        v["generated_ids"].clone()
    };
    assert_eq!(run("--seed 7 --temperature 0.8"), run("--seed 7 --temperature 0.8"));
    assert_ne!(run("--seed 7 --temperature 0.8"), run("--seed 8 --temperature 0.8"));
    assert_eq!(run("--greedy --seed 1"), run("--temperature 0 --seed 2"));
    assert_eq!(run("--greedy"), run("--top-k 1 --seed 5"), "one candidate leaves no choice");
    // generation_config.json says: sample, temperature 0.8, top 40.
    assert_eq!(run("--seed 3"), run("--seed 3 --temperature 0.8 --top-k 40"));
    let mut c = command();
    let text = finish(
        c.arg("run")
            .arg(&out)
            .args(["--prompt", "Once upon a time", "--max-new-tokens", "5", "--greedy"])
            .env("BITNET_KERNEL", "scalar"),
    )
    .ok();
    assert!(!text.stdout.trim().is_empty() && text.stderr.contains("scalar kernel"), "{text:?}");
}
