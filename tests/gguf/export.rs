//! Models written as GGUF files and read again: the same integers must come out.

use crate::common::checkpoint::{Checkpoint, Raw};
use crate::common::{golden_folders, Rng};
use bitnet_convert::export::gguf::{plan, Kind, Settings};
use bitnet_convert::export::packed;
use bitnet_convert::format::packed::Kind as Section;
use bitnet_convert::import;
use bitnet_convert::lower::{Options, WeightChoice};
use bitnet_convert::model::{ActivationRule, Linear, Model, WeightRule};
use bitnet_convert::program::ScaleMode;
use bitnet_convert::progress::Silent;
use bitnet_convert::runtime::Artifact;
use bitnet_convert::target;
use bitnet_convert::tokenizer::host::HostTokenizer;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    golden_folders().into_iter().find(|f| f.ends_with(name)).unwrap_or_else(|| panic!("no golden checkpoint {name}"))
}

fn open(path: &Path) -> Model {
    import::open(path, &Silent).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Program and weights of a model as a packed file has them; floats as rows of 16 bits.
fn integers(model: &Model, dir: &Path) -> (Vec<u8>, Vec<u8>) {
    let target = target::find("host").unwrap();
    let native = model.native.is_some();
    let options = Options {
        weight: (!native).then_some(WeightChoice::Rows(16)),
        activation: Some(ActivationRule::Absmax16).filter(|_| model.native.is_none_or(|n| n.activation.is_none())),
        ..Options::default()
    };
    let request =
        packed::Request { model, options, target: &target, calibration: None, tokenizer: None, adapters: false };
    let out = dir.join("model.bitnet");
    let mut prepared = packed::prepare(request).unwrap_or_else(|e| panic!("{}: {e}", model.name));
    prepared.write(&out, &Silent).unwrap();
    let artifact = Artifact::open(&out).unwrap();
    let section = |kind| artifact.packed.section(kind).unwrap().to_vec();
    (section(Section::Program), section(Section::Weights))
}

/// The same model from its checkpoint and from a GGUF file.
fn both(name: &str, settings: &Settings) -> (Model, Model, &'static str) {
    let dir = tempfile::tempdir().unwrap();
    let model = open(&folder(name));
    let out = dir.path().join("model.gguf");
    let plan = plan(&model, settings).unwrap_or_else(|e| panic!("{name}: {e}"));
    let arch = plan.architecture;
    plan.write(settings, &out, &Silent).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut back = open(&out);
    // Without a tokenizer the file has no place for them.
    (back.bos, back.eos) = (model.bos, model.eos.clone());
    (model, back, arch)
}

fn settings(kind: Kind) -> Settings<'static> {
    Settings { kind: Some(kind), ..Settings::default() }
}

/// `kind` is the type of the checkpoint, so that nothing is rounded.
fn same_integers(name: &str, kind: Kind, arch: &str, dir: &Path) {
    let (model, back, written) = both(name, &settings(kind));
    assert_eq!(written, arch, "{name}");
    assert!(integers(&model, dir) == integers(&back, dir), "{name}: another program");
}

#[test]
fn dense_families_give_the_same_integers() {
    let dir = tempfile::tempdir().unwrap();
    for (name, kind, arch) in [
        ("llama", Kind::F32, "llama"),
        ("qwen2", Kind::Bf16, "qwen2"),
        ("qwen3", Kind::Bf16, "qwen3"),
        ("phi", Kind::F16, "phi2"),
        ("gpt2", Kind::F32, "gpt2"),
        ("gpt_neox", Kind::F16, "gptneox"),
        ("granite", Kind::Bf16, "granite"),
        ("hunyuan_v1_dense", Kind::Bf16, "hunyuan-dense"),
        ("sherry_fakequant", Kind::F16, "llama"),
        ("trilm_unpacked_mp2", Kind::F16, "llama"),
        ("bonsai_binary_unpacked", Kind::F16, "qwen3"),
    ] {
        same_integers(name, kind, arch, dir.path());
    }
}

/// Families whose checkpoints are not part of the repository.
#[test]
fn more_dense_families_give_the_same_integers() {
    let dir = tempfile::tempdir().unwrap();
    for (name, kind, arch) in [
        ("stablelm", Kind::Bf16, "stablelm"),
        ("falcon_7b_style", Kind::F32, "falcon"),
        ("falcon_40b_style", Kind::Bf16, "falcon"),
    ] {
        if !golden_folders().iter().any(|f| f.ends_with(name)) {
            println!("not run: {name}: its golden checkpoint is not here (BITNET_GOLDEN)");
            continue;
        }
        same_integers(name, kind, arch, dir.path());
    }
}

/// Seven layers of gemma3: the sixth sees everything and turns by another base than those that see 8 tokens.
fn gemma3(edit: impl FnOnce(&mut serde_json::Value)) -> tempfile::TempDir {
    let (mut rng, mut tensors) = (Rng(3), Vec::new());
    let mut add = |name: String, shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.uniform() / 4.0).collect();
        tensors.push(Raw::f32(&name, shape, &values));
    };
    add("model.embed_tokens.weight".into(), &[64, 48]);
    add("model.norm.weight".into(), &[48]);
    for l in 0..7 {
        let p = format!("model.layers.{l}.");
        for (name, rows, cols) in [("q", 64, 48), ("k", 32, 48), ("v", 32, 48), ("o", 48, 64)] {
            add(format!("{p}self_attn.{name}_proj.weight"), &[rows, cols]);
        }
        for (name, rows, cols) in [("gate", 96, 48), ("up", 96, 48), ("down", 48, 96)] {
            add(format!("{p}mlp.{name}_proj.weight"), &[rows, cols]);
        }
        for (name, n) in [("self_attn.q", 16), ("self_attn.k", 16)] {
            add(format!("{p}{name}_norm.weight"), &[n]);
        }
        for name in ["input", "post_attention", "pre_feedforward", "post_feedforward"] {
            add(format!("{p}{name}_layernorm.weight"), &[48]);
        }
    }
    let kinds: Vec<&str> = (1..8).map(|l| if l == 6 { "full_attention" } else { "sliding_attention" }).collect();
    let mut config = serde_json::json!({
        "model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "hidden_size": 48, "intermediate_size": 96, "head_dim": 16,
        "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 7, "vocab_size": 64, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6, "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 16, "sliding_window": 8,
        "sliding_window_pattern": 6, "layer_types": kinds, "rope_theta": 1e6, "rope_local_base_freq": 1e4, "tie_word_embeddings": true,
        "bos_token_id": 1, "eos_token_id": 2,
    });
    edit(&mut config);
    let dir = tempfile::tempdir().unwrap();
    Checkpoint { config, tensors }.write(dir.path());
    dir
}

#[test]
fn layers_of_gemma3_that_turn_by_another_base() {
    let dir = tempfile::tempdir().unwrap();
    let scaled = serde_json::json!({"rope_type": "linear", "factor": 8.0});
    for (rope, cap) in [(serde_json::Value::Null, None), (scaled, Some(30.0))] {
        let folder = gemma3(|c| {
            c["rope_scaling"] = rope;
            c["final_logit_softcapping"] = serde_json::json!(cap);
        });
        let (model, settings, out) = (open(folder.path()), settings(Kind::F32), dir.path().join("model.gguf"));
        let plan = plan(&model, &settings).unwrap();
        assert_eq!(plan.architecture, "gemma3");
        plan.write(&settings, &out, &Silent).unwrap();
        let mut back = open(&out);
        (back.bos, back.eos) = (model.bos, model.eos.clone());
        assert_eq!(back.ropes, model.ropes);
        assert!(integers(&model, dir.path()) == integers(&back, dir.path()), "{cap:?}");
    }
    for (key, value, words) in [
        ("query_pre_attn_scalar", serde_json::json!(24), "multiplies scores with 0.25"),
        ("attn_logit_softcapping", serde_json::json!(50.0), "does not limit scores"),
        ("layer_types", vec!["full_attention"; 7].into(), "one rotation, the model several"),
    ] {
        let folder = gemma3(|c| c[key] = value);
        let model = open(folder.path());
        let said = plan(&model, &settings(Kind::F32)).err().expect(key).to_string();
        assert!(said.contains(words), "{key}: {said}");
    }
}

/// Factors for single frequencies are f32 in the file, so phases may differ in their last bit.
#[test]
fn frequencies_come_back() {
    let (model, back, _) = both("llama_tied_rope_llama3", &settings(Kind::F32));
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-7 * a;
    assert!(model.ropes[0].inv_freq.iter().zip(&back.ropes[0].inv_freq).all(near));
    assert_eq!(model.ropes[0].theta, back.ropes[0].theta);
}

/// Codes and scales of a matrix, a scale for each weight.
fn codes(model: &Model, l: &Linear) -> (Vec<i8>, Vec<f64>) {
    let (m, mut codes, mut scales) = (&l.weight, Vec::new(), Vec::new());
    let rows = model.rows(m).unwrap();
    for r in 0..m.rows {
        let (mut row, mut units) = (vec![0; m.cols], Vec::new());
        rows.read_codes(r, &mut row, &mut units).unwrap();
        let width = m.cols.div_ceil(units.len());
        codes.extend(row);
        scales.extend((0..m.cols).map(|c| units[c / width]));
    }
    (codes, scales)
}

#[test]
fn codes_stay_and_scales_are_rounded_to_f16_at_most() {
    for (name, kind) in [
        ("bitnet_1bitllm_like", Kind::Q2_0),
        ("llama_bitlinear_packed_falcon_e_like", Kind::Q2_0),
        ("llama_bitlinear_packed_falcon_e_like", Kind::I2S),
        ("paretoq_1p58bit", Kind::Q2_0),
        ("sherry_fakequant", Kind::Q2_0),
        ("bonsai_ternary_mlx_2bit", Kind::Q2_0),
        ("bonsai_binary_mlx_1bit", Kind::Q1_0),
        ("bitnet_online_bf16", Kind::I2S),
        ("bitnet_embedding_qwen3", Kind::I2S),
    ] {
        let (model, back, _) = both(name, &settings(kind));
        let mut seen = 0;
        for (a, b) in model.projections().zip(back.projections()) {
            let (wanted, got) = (codes(&model, a), codes(&back, b));
            assert_eq!(wanted.0, got.0, "{name} {kind:?} {}", a.name);
            let block = b.weight.source.name().ends_with("blocks");
            let error = if block && kind == Kind::I2S { 1e-7 } else { 1.0 / 1024.0 };
            let off = |(x, y): (&f64, &f64)| (x - y).abs() > error * x;
            assert!(!wanted.1.iter().zip(&got.1).any(off), "{name} {kind:?} {}: scales", a.name);
            seen += usize::from(block);
        }
        assert!(seen > 0, "{name} {kind:?}: no matrix has blocks");
    }
}

#[test]
fn floats_are_rounded_if_that_is_asked_for() {
    for (rule, scales, kind) in [
        (WeightRule::TernaryAbsmean, ScaleMode::Row, Kind::Q2_0),
        (WeightRule::TernaryAbsmean, ScaleMode::One, Kind::I2S),
        (WeightRule::TernaryAbsmean, ScaleMode::Group(64), Kind::Q2_0),
        (WeightRule::BinaryMean, ScaleMode::One, Kind::Q1_0),
    ] {
        let settings = Settings { weight: Some((rule, scales)), ..settings(kind) };
        let (model, back, _) = both("seq_2bit_fakequant", &settings);
        let p = &back.layers[0].mlp.down; // 128 columns, which all of them can hold
        let (codes, units) = codes(&back, p);
        assert!(rule == WeightRule::TernaryAbsmean || !codes.contains(&0));
        let mut values = vec![0.0; p.weight.cols];
        model.rows(&model.layers[0].mlp.down.weight).unwrap().read_raw(0, &mut values).unwrap();
        let first = if let ScaleMode::Group(g) = scales { g } else { values.len() };
        if scales != ScaleMode::One {
            let mean = values[..first].iter().map(|v| v.abs()).sum::<f32>() / first as f32;
            assert!((units[0] / f64::from(mean) - 1.0).abs() < 1e-3, "{rule:?} {scales:?}");
            let code = |v: &f32| (v / mean).round_ties_even().clamp(-1.0, 1.0) as i8;
            assert_eq!(values[..first].iter().map(code).collect::<Vec<_>>(), codes[..first]);
        }
        assert!(values.iter().zip(&codes).all(|(v, c)| *c == 0 || (*c > 0) == (*v >= 0.0)));
    }
}

#[test]
fn what_would_be_another_network_is_refused() {
    let fixture = |name: &str| crate::common::fixture("models").join(name);
    for (path, kind, force, words) in [
        (folder("bitnet_online_bf16"), Kind::Q2_0, None, "its `bitnet` computes SiLU where the model has relu2"),
        (fixture("intent-w1a2"), Kind::I2S, None, "trained with 2 bits for activations"),
        (folder("whisper"), Kind::F16, None, "the part that hears has no place"),
        (folder("bert_mlm"), Kind::F16, None, "an encoder has no place"),
        (folder("onebit_packed"), Kind::F16, None, "a norm or factor that belongs to a single matrix"),
        (folder("gemma2"), Kind::F32, None, "multiplies scores with 0.25, the model with 0.204"),
        (folder("llama"), Kind::F16, Some("mamba"), "`mamba` is not written; those that are: llama,"),
        (folder("gpt2"), Kind::F16, Some("llama"), "cannot be written as `llama`"),
        (folder("llama"), Kind::Tq2_0, None, "neither binary nor ternary"),
        (folder("trilm_unpacked_mp2"), Kind::Tq1_0, None, "64 columns are no multiple of 256"),
        (folder("bonsai_ternary_mlx_2bit"), Kind::Q1_0, None, "ternary, Q1_0 holds -1 and 1"),
        (folder("bonsai_ternary_mlx_2bit"), Kind::I2S, None, "several scales"),
    ] {
        let model = open(&path);
        let refused = plan(&model, &Settings { force_arch: force, ..settings(kind) });
        let said = refused.err().unwrap_or_else(|| panic!("{} was not refused", path.display())).to_string();
        assert!(said.contains(words), "{}: {said}", path.display());
    }
}

#[test]
fn a_forced_name_is_written_and_warned_of() {
    let model = open(&folder("bitnet_online_bf16"));
    for (name, words) in [("bitnet", "it computes silu, the model relu2"), ("bitnet-b1.58", "does not know the name")] {
        let settings = Settings { force_arch: Some(name), ..settings(Kind::Q2_0) };
        let plan = plan(&model, &settings).unwrap();
        assert_eq!(plan.architecture, name);
        assert!(plan.warnings.iter().any(|w| w.contains(words)), "{:?}", plan.warnings);
    }
}

#[test]
fn tensors_that_do_not_fit_are_listed() {
    let model = open(&folder("bitnet_online_bf16"));
    let plan = plan(&model, &settings(Kind::I2S)).unwrap();
    let row = |name: &str| plan.tensors.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no {name}"));
    let (down, up) = (row("blk.1.ffn_down.weight"), row("blk.1.ffn_up.weight"));
    assert_eq!((down.to, down.note.is_none()), ("I2_S", true));
    assert_eq!((up.to, up.bits_per_weight), ("Q8_0", 8.5));
    assert!(up.note.as_ref().is_some_and(|n| n.contains("64 columns are no multiple of 128")));
    // 128 columns of 64 rows: two bits, and 32 bytes behind them.
    assert_eq!(down.bits_per_weight, 2.0 + 32.0 * 8.0 / 8192.0);
    let blocks: f64 =
        plan.tensors.iter().filter(|t| t.shape.len() == 2 && t.name.starts_with("blk")).map(|t| t.bytes as f64).sum();
    let weights: usize = model.projections().map(|l| l.weight.rows * l.weight.cols).sum();
    assert_eq!(plan.bits_per_weight, blocks * 8.0 / weights as f64);
}

#[test]
fn tokenizers_come_back() {
    for name in ["stories-b158", "intent-b158"] {
        let dir = tempfile::tempdir().unwrap();
        let model = open(&crate::common::fixture("models").join(name));
        let settings = Settings { kind: Some(Kind::I2S), force_arch: Some("bitnet-b1.58"), ..Settings::default() };
        let out = dir.path().join("model.gguf");
        plan(&model, &settings).unwrap().write(&settings, &out, &Silent).unwrap();
        let first = std::fs::read(&out).unwrap();
        let back = open(&out);
        assert_eq!((back.bos, &back.eos, &back.chat_template), (model.bos, &model.eos, &model.chat_template), "{name}");
        let host = |m: &Model| HostTokenizer::from_json(m.tokenizer_json.as_deref().unwrap()).unwrap();
        for text in packed::GOLDEN_TEXTS.iter().chain(&packed::MORE_TEXTS) {
            assert_eq!(host(&model).encode(text).unwrap(), host(&back).encode(text).unwrap(), "{name}");
        }
        // Again: the same bytes.
        plan(&model, &settings).unwrap().write(&settings, &out, &Silent).unwrap();
        assert!(first == std::fs::read(&out).unwrap());
    }
}

#[test]
fn the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (folder("trilm_unpacked_mp2"), dir.path().join("m.gguf"));
    let run = |more: &[&str]| {
        let base = ["export", "--model", source.to_str().unwrap(), "--format", "gguf", "-o", out.to_str().unwrap()];
        crate::common::finish(crate::common::command().args(base).args(more))
    };
    let dry = run(&["--dry-run"]).ok();
    assert!(
        dry.stdout.contains("architecture llama") && dry.stdout.contains("inputs of Q2_0 matrices"),
        "{}",
        dry.stdout
    );
    assert!(!out.exists());
    let said = run(&["--json", "--type", "q8_0"]).ok().json();
    assert_eq!(said["written"]["bytes"], std::fs::metadata(&out).unwrap().len());
    assert_eq!(said["activations"]["Q8_0"], "int8 with a scale for each 32 values");
    for (flags, words) in [
        (&["--quantize-activation", "8"][..], "`--quantize-activation` has no effect on a GGUF file"),
        (&["--quantize-weight", "8"], "--type q8_0"),
        (&["--embedding-bits", "4"], "16 or 8 bits"),
        (&["--kv-bits", "8"], "`--kv-bits` has no effect"),
    ] {
        let run = run(flags).never_panicked();
        assert!(run.code == Some(2) && run.stderr.contains(words), "{flags:?}: {run:?}");
    }
    let other = ["export", "--model", source.to_str().unwrap(), "--type", "f16", "--dry-run"];
    let run = crate::common::finish(crate::common::command().args(other));
    assert!(run.code == Some(2) && run.stderr.contains("belong to GGUF files"), "{run:?}");
}
