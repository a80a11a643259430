//! Checkpoints with known answers: the codes and scales that the reference implementations give are carried over exactly, and the integer
//! program stays as close to their logits as docs/semantics.md promises. fixtures/golden/*/meta.json says how each was made.

mod common;

use bitnet_convert::format::File;
use bitnet_convert::kernels::dot::DotKernel;
use bitnet_convert::program::{ScaleMode, TensorKind};
use bitnet_convert::runtime::{matrix, record, Artifact};
use common::checkpoint::assert_failure;
use common::{finish, fixture, tool};
use std::path::PathBuf;
use tempfile::TempDir;

const NATIVE: [&str; 5] = [
    "golden/bitnet_online_bf16",
    "golden/bitnet_packed_2b4t_like",
    "golden/bitnet_1bitllm_like",
    "golden/llama_bitlinear_packed_falcon_e_like",
    "golden/llama_bitlinear_rmsnorm",
];

/// A fixture exported with flags; the folder lives as long as this.
struct Exported {
    _dir: TempDir,
    path: PathBuf,
}

impl Exported {
    fn new(name: &str, flags: &str) -> Exported {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.bitnet");
        tool(&format!("export --model {{}} -o {{}} {flags}"), &[&fixture(name), &path]).ok();
        Exported { _dir: dir, path }
    }

    fn open(&self) -> Artifact {
        Artifact::open(&self.path).unwrap_or_else(|e| panic!("{e}"))
    }

    /// `eval --golden` as JSON.
    fn fidelity(&self, name: &str) -> serde_json::Value {
        let golden = fixture(name).join("golden.safetensors");
        tool("eval {} --golden {} --json", &[&self.path, &golden]).ok().json()["golden"].clone()
    }
}

fn golden(name: &str) -> File {
    File::open(&fixture(name).join("golden.safetensors")).unwrap()
}

/// `model.layers.1.self_attn.q_proj.weight` → `layers.1.attn.q`.
fn canonical(name: &str) -> String {
    let name = name.strip_prefix("model.").unwrap().strip_suffix("_proj.weight").unwrap();
    name.replace("self_attn.", "attn.").replace("mlp.", "ffn.")
}

/// Codes and scales of a matrix as the packed file holds them.
fn stored(a: &Artifact, name: &str) -> (Vec<i32>, f64) {
    let id = a.program.tensors.iter().position(|t| t.name == name).unwrap_or_else(|| panic!("no tensor {name}"));
    let t = &a.program.tensors[id];
    let TensorKind::Matrix { enc, scales, .. } = t.kind else { panic!("{name} is no matrix") };
    assert_eq!(scales, ScaleMode::One, "{name}");
    let m = matrix(&a.program, a.weights(), None, id);
    let codes = (0..t.rows).flat_map(|r| (0..t.cols).map(move |c| enc.get(m.row(r), t.cols, c))).collect();
    (codes, t.scale.to_f64())
}

#[test]
fn codes_and_scales_are_those_of_the_reference() {
    for name in NATIVE {
        let (exported, golden) = (Exported::new(name, ""), golden(name));
        let a = exported.open();
        assert!(a.manifest.as_ref().unwrap().native, "{name}");
        let mut checked = 0;
        for key in golden.names().filter_map(|n| n.strip_prefix("code.")) {
            let (codes, scale) = stored(&a, &canonical(key));
            let want = golden.get(&format!("code.{key}")).unwrap();
            assert_eq!(want.data.len(), codes.len(), "{name} {key}");
            let first = want.data.iter().zip(&codes).position(|(w, c)| i32::from(*w as i8) != *c);
            assert_eq!(first, None, "{name} {key}: the first code that differs");
            let want = f64::from(golden.get(&format!("scale.{key}")).unwrap().to_f32().unwrap()[0]);
            assert!((scale / want - 1.0).abs() < 1e-6, "{name} {key}: scale {scale}, {want} is right");
            checked += 1;
        }
        assert_eq!(checked, 7, "{name}: the projections of the first layer");
    }
}

#[test]
fn logits_are_those_of_the_reference() {
    for name in NATIVE {
        let f = Exported::new(name, "--embedding-bits 16").fidelity(name);
        assert!(f["mean_kl"].as_f64().unwrap() < 1e-3, "{name}: {f}");
        assert_eq!(f["different_not_near_tie"], 0, "{name}: {f}");
        assert_eq!(f["positions"], 6, "{name}: {f}");
    }
}

/// The long prompts were not chosen for robustness against rounding; meta.json asks for a relative L2 error below 0.1.
#[test]
fn long_prompts_stay_close() {
    for name in NATIVE {
        let (exported, golden) = (Exported::new(name, "--embedding-bits 16"), golden(name));
        let a = exported.open();
        let (ids, want) = (golden.get("long_input_ids").unwrap(), golden.get("long_logits").unwrap());
        let (rows, length, vocab) = (ids.shape[0], ids.shape[1], a.program.vocab);
        assert_eq!(want.shape, [rows, length, vocab]);
        let ids: Vec<u32> = ids.data.chunks_exact(8).map(|b| u32::from_le_bytes(b[..4].try_into().unwrap())).collect();
        let want = want.to_f32().unwrap();
        let mut session = a.session(DotKernel::best());
        let (mut error, mut norm) = (0f64, 0f64);
        for (t, id) in ids.iter().enumerate() {
            if t % length == 0 {
                session.reset();
            }
            let got = session.run(&[*id]).unwrap().unwrap();
            for (g, w) in got.iter().zip(&want[t * vocab..]) {
                let (g, w) = (f64::from(*g) / 65_536.0, f64::from(*w));
                error += (g - w).powi(2);
                norm += w * w;
            }
        }
        let relative = (error / norm).sqrt();
        assert!(relative < 0.1, "{name}: relative L2 error {relative}");
    }
}

#[test]
fn greedy_text_is_that_of_the_reference() {
    let mut compared = 0;
    for name in NATIVE {
        let golden = golden(name);
        let Some(want) = golden.get("greedy_ids") else { continue };
        let read =
            |v: &[u8]| v.chunks_exact(8).map(|b| u32::from_le_bytes(b[..4].try_into().unwrap())).collect::<Vec<u32>>();
        let (prompt, want) = (read(golden.get("input_ids").unwrap().data), read(want.data));
        assert_eq!(want[..prompt.len()], prompt, "{name}");
        let exported = Exported::new(name, "--embedding-bits 16");
        let a = exported.open();
        let got = record(&mut a.session(DotKernel::best()), &prompt, want.len(), &mut |_, _, _| {}).unwrap();
        assert_eq!(got.ids, want, "{name}");
        compared += want.len() - prompt.len();
    }
    assert!(compared >= 10, "only {compared} tokens were compared");
}

/// The trained models, with the settings that they were trained for: what the README states about them.
#[test]
fn trained_models_keep_their_answers() {
    for (name, kl, all) in
        [("models/intent-w1a2", 1e-5, true), ("models/intent-b158", 1e-3, false), ("models/stories-b158", 1e-3, false)]
    {
        let f = Exported::new(name, "").fidelity(name);
        assert!(f["mean_kl"].as_f64().unwrap() < kl, "{name}: {f}");
        assert_eq!(f["different_not_near_tie"], 0, "{name}: {f}");
        assert!(!all || f["same_top1"] == f["positions"], "{name}: {f}");
        assert!(f["positions"].as_u64().unwrap() > 30, "{name}: {f}");
    }
}

/// Settings that a model was not trained for are allowed, but never silently.
#[test]
fn leaving_the_trained_settings_is_said() {
    let name = fixture("models/intent-w1a2");
    for flags in ["--quantize-weight 1.58", "--quantize-activation 8", "--embedding-bits 16"] {
        let run = tool(&format!("export --dry-run --model {{}} {flags}"), &[&name]).ok();
        assert!(run.stderr.contains("warning: "), "{flags}: {}", run.stderr);
        let json = tool(&format!("export --dry-run --json --model {{}} {flags}"), &[&name]).ok().json();
        assert_eq!(json["warnings"].as_array().unwrap().len(), 1, "{flags}: {json}");
    }
    let run =
        tool("export --dry-run --model {} --quantize-weight 1 --quantize-activation 2 --embedding-bits 8", &[&name])
            .ok();
    assert!(!run.stderr.contains("warning: "), "{}", run.stderr);
}

#[test]
fn other_files_as_golden_logits_are_refused() {
    let exported = Exported::new(NATIVE[0], "");
    let model = fixture(NATIVE[0]).join("model.safetensors");
    assert_failure(&tool("eval {} --golden {}", &[&exported.path, &model]), &["no `input_ids`", "model.safetensors"]);
    let other = fixture("models/intent-w1a2/golden.safetensors");
    assert_failure(
        &tool("eval {} --golden {}", &[&exported.path, &other]),
        &["a vocabulary of 320", "golden.safetensors"],
    );
    let dir = tempfile::tempdir().unwrap();
    let narrow = dir.path().join("narrow.safetensors");
    let raw = |name: &str, dtype, shape: &[usize], bytes| common::checkpoint::Raw {
        name: name.into(),
        dtype,
        shape: shape.to_vec(),
        data: vec![0; bytes],
    };
    let file =
        common::checkpoint::safetensors(&[raw("input_ids", "I32", &[2], 8), raw("logits", "F32", &[1, 320], 1280)]);
    std::fs::write(&narrow, file).unwrap();
    assert_failure(
        &tool("eval {} --golden {}", &[&exported.path, &narrow]),
        &["input_ids", "I32", "narrow.safetensors"],
    );
}

// ---- float checkpoints ----

#[test]
fn a_float_checkpoint_needs_settings() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("x.bitnet");
    let llama = fixture("golden/llama");
    for flags in ["", "--quantize-weight 1.58", "--quantize-activation 8"] {
        let run = tool(&format!("export --model {{}} -o {{}} {flags}"), &[&llama, &out]);
        assert_failure(
            &run,
            &["the settings must be given", "hint: `--quantize-weight 8 --quantize-activation 16` keeps"],
        );
        assert!(common::listing(dir.path()).is_empty());
    }
}

/// Scales and codes of a float checkpoint, computed here from its weights by the formulas of the papers.
#[test]
fn float_weights_are_quantized_by_the_unit() {
    let source = File::open(&fixture("golden/llama/model.safetensors")).unwrap();
    for (weight, activation, units) in
        [("1.58", "8", "row"), ("1.58", "8", "32"), ("1.58", "8", "tensor"), ("1", "4", "row"), ("1", "2", "tensor")]
    {
        let flags = format!("--quantize-weight {weight} --quantize-activation {activation} --weight-scales {units}");
        let exported = Exported::new("golden/llama", &flags);
        let a = exported.open();
        golden_trace_is_reproduced(&a);
        for (id, t) in a.program.tensors.iter().enumerate().filter(|(_, t)| t.low_bit_weights() > 0) {
            let TensorKind::Matrix { enc, scales, .. } = t.kind else { panic!("{} is no matrix", t.name) };
            let name = format!("model.{}_proj.weight", t.name.replace("attn.", "self_attn.").replace("ffn.", "mlp."));
            let w = source.get(&name).unwrap().to_f32().unwrap();
            let unit = match scales {
                ScaleMode::One => w.len(),
                ScaleMode::Row => t.cols,
                ScaleMode::Group(g) => g,
            };
            let m = matrix(&a.program, a.weights(), None, id);
            let sections = &a.weights()[t.scales.start as usize..t.scales.end as usize];
            let mut next = 0;
            let parts: Vec<&[f32]> =
                if unit == w.len() { vec![&w[..]] } else { w.chunks(t.cols).flat_map(|r| r.chunks(unit)).collect() };
            for (u, part) in parts.iter().enumerate() {
                let mean = (part.iter().map(|v| f64::from(v.abs())).sum::<f64>() / part.len() as f64) as f32;
                let scale = if sections.is_empty() {
                    t.scale.to_f64()
                } else {
                    let n = sections.len() / 5;
                    let mantissa = u32::from_le_bytes(sections[4 * u..4 * u + 4].try_into().unwrap());
                    f64::from(mantissa) * 2f64.powi(t.scale.e - i32::from(sections[4 * n + u]))
                };
                assert!(
                    (scale / f64::from(mean) - 1.0).abs() < 1e-6,
                    "{flags} {name} unit {u}: scale {scale}, mean {mean}"
                );
                for v in *part {
                    let (row, col) = (next / t.cols, next % t.cols);
                    let want = match weight {
                        "1" => 2 * i32::from(*v >= 0.0) - 1,
                        _ => (v * (1.0 / mean)).round_ties_even().clamp(-1.0, 1.0) as i32,
                    };
                    assert_eq!(enc.get(m.row(row), t.cols, col), want, "{flags} {name} row {row}, column {col}");
                    next += 1;
                }
            }
            assert_eq!(next, w.len());
        }
    }
}

fn golden_trace_is_reproduced(a: &Artifact) {
    assert!(!a.golden.prompts.is_empty());
    for kernel in DotKernel::available() {
        let mut session = a.session(kernel);
        for want in &a.golden.prompts {
            let got = record(&mut session, &want.ids[..want.prompt_len], want.ids.len(), &mut |_, _, _| {}).unwrap();
            assert_eq!(&got, want, "{}", kernel.name());
        }
    }
}

#[test]
fn golden_traces_of_real_exports_are_reproduced_by_every_kernel() {
    for (name, flags) in [
        ("golden/llama", "--quantize-weight 1 --quantize-activation 2 --kv-window 8 --kv-bits 4"),
        ("golden/llama_bitlinear_rmsnorm", "--kv-window 6 --kv-sinks 2 --kv-bits 8"),
        ("models/intent-w1a2", "--kv-bits 4"),
        ("models/stories-b158", "--kv-window 16"),
    ] {
        golden_trace_is_reproduced(&Exported::new(name, flags).open());
    }
}

#[test]
fn an_unknown_architecture_names_the_known_ones() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("golden/qwen2/model.safetensors"), dir.path().join("model.safetensors")).unwrap();
    let config = std::fs::read_to_string(fixture("golden/qwen2/config.json")).unwrap();
    std::fs::write(dir.path().join("config.json"), config.replace("Qwen2ForCausalLM", "NovelForCausalLM")).unwrap();
    let run = tool("export --model {} -o /nowhere/x", &[dir.path()]);
    assert_failure(&run, &["`NovelForCausalLM` is not supported", "supported are", "llama", "qwen2", "config.json"]);
    let run = finish(common::command().args(["export", "--model", "microsoft/bitnet-b1.58-2B-4T", "-o", "/nowhere/x"]));
    let reason = match cfg!(feature = "hub") {
        true => {
            ["`microsoft/bitnet-b1.58-2B-4T` is not in the cache", "hint: unset HF_HUB_OFFLINE, or give a local folder"]
        }
        false => ["no such folder", "hint: models are read from local folders"],
    };
    assert_failure(&run, &reason);
}
