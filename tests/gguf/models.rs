//! Models under their checkpoint's names, with a configuration.

use crate::writer::*;
use bitnet_convert::format::File;
use bitnet_convert::import::gguf::{open, GgufCheckpoint};
use bitnet_convert::tensor::RowOrder;
use bitnet_convert::tokenizer::host::HostTokenizer;
use serde_json::{json, Value};
use std::path::{Path, PathBuf};

/// Two layers of width 8 with two heads, one for keys, below these names.
fn model(arch: &str) -> Gguf {
    let key = |name: &str| format!("{arch}.{name}");
    Gguf::default()
        .key("general.architecture", strv(arch))
        .key(&key("block_count"), u32v(2))
        .key(&key("context_length"), u32v(64))
        .key(&key("embedding_length"), u32v(8))
        .key(&key("feed_forward_length"), u32v(16))
        .key(&key("attention.head_count"), u32v(2))
        .key(&key("attention.head_count_kv"), u32v(1))
        .key(&key("attention.layer_norm_rms_epsilon"), f32v(1e-5))
        .key(&key("attention.layer_norm_epsilon"), f32v(1e-5))
        .with(floats("token_embd.weight", &[8, 12]))
        .with(floats("output_norm.weight", &[8]))
}

fn block(g: Gguf, parts: &[(&str, &[u64])]) -> Gguf {
    parts.iter().fold(g, |g, (name, ne)| g.with(floats(&format!("blk.1.{name}"), ne)))
}

fn read(g: &Gguf) -> Result<GgufCheckpoint, String> {
    let file = File::from_bytes(g.bytes(), Path::new("model.gguf")).map_err(|e| e.to_string())?;
    GgufCheckpoint::read(&[file]).map_err(|e| e.to_string())
}

#[track_caller]
fn good(g: &Gguf) -> GgufCheckpoint {
    read(g).expect("the model is read")
}

#[track_caller]
fn refused(g: &Gguf, word: &str) {
    let e = read(g).expect_err(word);
    assert!(e.contains(word), "`{word}` is not in: {e}");
}

#[test]
fn llama() {
    let g = block(
        model("llama").key("llama.rope.freq_base", f32v(500_000.0)),
        &[
            ("attn_q.weight", &[8, 8]),
            ("attn_k.weight", &[8, 4]),
            ("attn_v.weight", &[8, 4]),
            ("ffn_norm.weight", &[8]),
        ],
    );
    let c = good(&g);
    let row = |hf: &str| c.names[hf].rows;
    assert_eq!(row("model.layers.1.self_attn.q_proj.weight"), RowOrder::Interleaved { head_dim: 4 });
    assert_eq!(row("model.layers.1.self_attn.k_proj.weight"), RowOrder::Interleaved { head_dim: 4 });
    assert_eq!(row("model.layers.1.self_attn.v_proj.weight"), RowOrder::Stored);
    assert_eq!(c.names["model.layers.1.post_attention_layernorm.weight"].tensor, "blk.1.ffn_norm.weight");
    assert_eq!(c.names["model.embed_tokens.weight"].shape, [12, 8]);
    for (key, want) in [
        ("model_type", json!("llama")),
        ("architectures", json!(["LlamaForCausalLM"])),
        ("hidden_size", json!(8)),
        ("intermediate_size", json!(16)),
        ("num_hidden_layers", json!(2)),
        ("num_attention_heads", json!(2)),
        ("num_key_value_heads", json!(1)),
        ("head_dim", json!(4)),
        ("vocab_size", json!(12)),
        ("max_position_embeddings", json!(64)),
        ("rms_norm_eps", json!(1e-5)),
        ("rope_theta", json!(500_000.0)),
        ("tie_word_embeddings", json!(true)),
        ("hidden_act", json!("silu")),
        ("attention_bias", json!(false)),
        ("rope_scaling", Value::Null),
        ("quantization_config", Value::Null),
    ] {
        assert_eq!(c.config[key], want, "{key}");
    }
    let head = good(&g.clone().with(floats("output.weight", &[8, 12])));
    assert_eq!(head.config["tie_word_embeddings"], json!(false));
    assert_eq!(head.names["lm_head.weight"].tensor, "output.weight");
}

/// What the converter does to a query, undone by the row order.
#[test]
fn rows_of_rotated_heads_come_back() {
    let (heads, d) = (3, 8);
    // Row r of the checkpoint holds r; the stored matrix has the halves of each head side by side.
    let mut stored = Vec::new();
    for h in 0..heads {
        for k in 0..d / 2 {
            stored.extend([h * d + k, h * d + d / 2 + k]);
        }
    }
    let order = RowOrder::Interleaved { head_dim: d };
    assert!((0..heads * d).all(|r| stored[order.stored(r)] == r));
}

#[test]
fn families_have_their_own_names() {
    let weight: &[u64] = &[8, 8];
    for (arch, stored, hf, model_type) in [
        ("bitnet", "attn_sub_norm", "model.layers.1.self_attn.inner_attn_ln", "bitnet"),
        ("bitnet-25", "ffn_sub_norm", "model.layers.1.mlp.ffn_sub_norm", "bitnet"),
        ("bitnet-b1.58", "attn_sub_norm", "model.layers.1.self_attn.attn_sub_norm", "bitnet"),
        ("qwen2", "attn_q", "model.layers.1.self_attn.q_proj", "qwen2"),
        ("qwen3", "attn_k_norm", "model.layers.1.self_attn.k_norm", "qwen3"),
        ("qwen3", "ffn_down_norm_in", "model.layers.1.mlp.down_proj.norm", "qwen3"),
        ("phi2", "ffn_up", "model.layers.1.mlp.fc1", "phi"),
        ("phi3", "attn_qkv", "model.layers.1.self_attn.qkv_proj", "phi3"),
        ("gemma", "ffn_norm", "model.layers.1.post_attention_layernorm", "gemma"),
        ("gemma2", "ffn_norm", "model.layers.1.pre_feedforward_layernorm", "gemma2"),
        ("gemma3", "post_ffw_norm", "model.layers.1.post_feedforward_layernorm", "gemma3_text"),
        ("gpt2", "attn_qkv", "transformer.h.1.attn.c_attn", "gpt2"),
        ("gptneox", "ffn_down", "gpt_neox.layers.1.mlp.dense_4h_to_h", "gpt_neox"),
        ("stablelm", "attn_output", "model.layers.1.self_attn.o_proj", "stablelm"),
        ("falcon", "attn_norm", "transformer.h.1.input_layernorm", "falcon"),
        ("olmo2", "post_attention_norm", "model.layers.1.post_attention_layernorm", "olmo2"),
        ("granite", "attn_v", "model.layers.1.self_attn.v_proj", "granite"),
        ("smollm3", "ffn_gate", "model.layers.1.mlp.gate_proj", "smollm3"),
        ("hunyuan-dense", "attn_q_norm", "model.layers.1.self_attn.query_layernorm", "hunyuan_v1_dense"),
    ] {
        let c = good(&block(model(arch), &[(&format!("{stored}.weight"), weight)]));
        assert_eq!(c.names[&format!("{hf}.weight")].tensor, format!("blk.1.{stored}.weight"), "{arch}");
        assert_eq!(c.config["model_type"], json!(model_type));
        assert_eq!(c.config["bitnet_convert"]["source"], json!("gguf"));
    }
}

#[test]
fn what_families_keep_elsewhere() {
    let c = good(&model("gemma2").key("gemma2.attn_logit_softcapping", f32v(50.0)));
    assert_eq!(c.config["bitnet_convert"]["norm_plus_one"], json!(false));
    assert_eq!((&c.config["attn_logit_softcapping"], &c.config["query_pre_attn_scalar"]), (&json!(50.0), &json!(4)));
    let c = good(&model("gpt2"));
    assert_eq!(c.config["bitnet_convert"]["conv1d"], json!(false));
    assert_eq!((&c.config["n_embd"], &c.config["layer_norm_epsilon"]), (&json!(8), &json!(1e-5)));
    let c = good(&model("granite").key("granite.logit_scale", f32v(8.0)).key("granite.residual_scale", f32v(0.22)));
    assert_eq!((&c.config["logits_scaling"], &c.config["residual_multiplier"]), (&json!(8.0), &json!(0.22)));
    assert_eq!(c.config["attention_multiplier"], json!(0.5));
    let c = good(&model("gptneox").key("gptneox.rope.dimension_count", u32v(2)));
    assert_eq!(c.config["rotary_pct"], json!(0.5));
    for (arch, act) in [("bitnet", "silu"), ("bitnet-25", "relu2"), ("bitnet-b1.58", "relu2"), ("phi2", "gelu_new")] {
        assert_eq!(good(&model(arch)).config["hidden_act"], json!(act), "{arch}");
    }
    let c = good(&model("llama").key("llama.attention.sliding_window", u32v(32)));
    assert_eq!((&c.config["model_type"], &c.config["sliding_window"]), (&json!("mistral"), &json!(32)));
}

#[test]
fn fused_projections() {
    let c = good(&block(model("phi2"), &[("attn_qkv.weight", &[8, 16]), ("attn_qkv.bias", &[16])]));
    let v = &c.names["model.layers.1.self_attn.v_proj.weight"];
    assert_eq!((v.first, &v.shape[..]), (12, &[4, 8][..]));
    assert_eq!(c.names["model.layers.1.self_attn.k_proj.bias"].shape, [4]);
    refused(&block(model("phi2"), &[("attn_qkv.weight", &[8, 15])]), "15 rows");
    let c = good(&block(model("falcon"), &[("attn_qkv.weight", &[8, 16])]));
    let qkv = &c.names["transformer.h.1.self_attention.query_key_value.weight"];
    assert_eq!(qkv.rows, RowOrder::Grouped { groups: 1, queries: 2, head_dim: 4 });
    refused(&block(model("falcon"), &[("attn_qkv.weight", &[8, 32])]), "32 rows");
    refused(&block(model("llama"), &[("attn_q.weight", &[8, 6])]), "6 rows");
    let c = good(&block(model("stablelm"), &[("attn_q_norm.weight", &[4, 2])]));
    let norm = &c.names["model.layers.1.self_attn.q_layernorm.norms.1.weight"];
    assert_eq!((norm.first, &norm.shape[..]), (1, &[4][..]));
    refused(&block(model("stablelm"), &[("attn_q_norm.weight", &[4, 3])]), "3 rows");
    let two = model("falcon").with(floats("blk.0.attn_norm_2.weight", &[8]));
    let c = good(&block(two, &[("attn_norm.weight", &[8])]));
    assert!(
        c.names.contains_key("transformer.h.1.ln_mlp.weight") && c.names.contains_key("transformer.h.0.ln_attn.weight")
    );
}

#[test]
fn ternary_weights_are_final() {
    let c = good(&block(model("bitnet"), &[("attn_q.scale", &[1])]));
    assert_eq!(c.config["quantization_config"]["quantization_mode"], json!("offline"));
    assert_eq!(c.names["model.layers.1.self_attn.q_proj.weight_scale"].shape, [1]);
    refused(&block(model("llama"), &[("attn_q.scale", &[1])]), "no place in the architecture `llama`");
    let i2s = model("llama").with(tensor("blk.0.ffn_up.weight", &[128, 2], 36, vec![0; 96]));
    assert_eq!(good(&i2s).config["quantization_config"]["quant_method"], json!("bitnet"));
    let tq2 = model("llama").with(tensor("blk.0.ffn_up.weight", &[256, 1], 35, vec![0; 66]));
    let c = good(&tq2);
    assert!(c.config.get("quantization_config").is_none());
    assert!(c.warnings.iter().any(|w| w.contains("8 bits")), "{:?}", c.warnings);
}

#[test]
fn rotary_scalings() {
    let c = good(&model("llama").with(tensor(
        "rope_freqs.weight",
        &[2],
        0,
        [1f32, 8.0].iter().flat_map(|f| f.to_le_bytes()).collect(),
    )));
    assert_eq!(
        c.config["rope_parameters"],
        json!({"rope_type": "factors", "rope_theta": 10_000.0, "factors": [1.0, 8.0]})
    );
    assert!(!c.names.contains_key("rope_freqs.weight"));
    refused(&model("llama").with(floats("rope_freqs.weight", &[2])), "a factor of 0");
    refused(&model("llama").with(floats("rope_freqs.weight", &[3])), "has shape [3]");
    let linear = model("llama").key("llama.rope.scaling.type", strv("linear"));
    assert_eq!(good(&linear.clone().key("llama.rope.scaling.factor", f32v(1.0))).config["rope_scaling"], Value::Null);
    let c = good(&linear.key("llama.rope.scaling.factor", f32v(4.0)));
    assert_eq!(c.config["rope_scaling"], json!({"rope_type": "linear", "factor": 4.0}));
    let yarn = model("qwen3")
        .key("qwen3.rope.scaling.type", strv("yarn"))
        .key("qwen3.rope.scaling.factor", f32v(4.0))
        .key("qwen3.rope.scaling.original_context_length", u32v(16));
    let want = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16});
    assert_eq!(good(&yarn).config["rope_scaling"], want);
    let ones = |name: &str| tensor(name, &[2], 0, [1f32; 2].iter().flat_map(|f| f.to_le_bytes()).collect());
    let short = model("phi3").with(ones("rope_factors_short.weight"));
    refused(&short, "one is missing");
    let c = good(&short.with(ones("rope_factors_long.weight")));
    assert_eq!(c.config["rope_scaling"]["long_factor"], json!([1.0, 1.0]));
    refused(&model("llama").key("llama.rope.scaling.type", strv("mystery")), "`mystery`");
    refused(&model("llama").key("llama.rope.dimension_count", u32v(6)), "up to the head's 4");
    let c = good(&model("llama").key("llama.rope.dimension_count", u32v(2)));
    assert_eq!(c.config["partial_rotary_factor"], json!(0.5));
}

#[test]
fn what_is_unknown_is_refused_by_name() {
    refused(&model("mamba"), "architecture `mamba` is not read; those that are: llama, ");
    refused(&model("new\u{1b}[2J"), "architecture `new[2J`");
    refused(&Gguf::default(), "`general.architecture` is missing");
    refused(&model("llama").key("llama.attention.clamp_kqv", f32v(8.0)), "`llama.attention.clamp_kqv`");
    refused(&model("llama").key("llama.expert_count", u32v(8)), "several experts");
    refused(&model("llama").key("general.type", strv("adapter")), "`adapter`");
    refused(&model("llama").key("llama.attention.causal", boolv(false)), "look ahead");
    refused(&block(model("llama"), &[("attn_q_norm.weight", &[4])]), "blk.1.attn_q_norm.weight");
    refused(&model("llama").with(floats("mystery", &[4])), "`mystery`");
    refused(&model("llama").with(floats("blk.01.ffn_up.weight", &[8, 16])), "no place");
    refused(&model("llama").with(floats("blk.2.ffn_up.weight", &[8, 16])), "the model has 2 layers");
    refused(&model("llama").with(floats("blk.0.ffn_up.extra", &[8, 16])), "no place");
    refused(&model("qwen2").key("qwen2.attention.sliding_window", u32v(8)), "sliding_window");
}

#[test]
fn sizes_that_contradict_each_other() {
    let with = |key: &str, n: u32| {
        let mut g = model("llama");
        let key = format!("llama.{key}");
        g.keys.retain(|(k, _)| *k != key);
        g.key(&key, u32v(n))
    };
    refused(&with("attention.head_count", 0), "`llama.attention.head_count` is 0");
    refused(&with("block_count", u32::MAX), "`llama.block_count` is 4294967295");
    refused(&with("block_count", 1025), "1025 layers");
    refused(&with("attention.head_count_kv", 3), "no multiple of 3 key heads");
    refused(&with("attention.value_length", 2), "different lengths");
    refused(&with("attention.key_length", 3), "cannot be rotated");
    refused(&with("embedding_length", 16), "has shape [12, 8]");
    for key in ["block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count"] {
        let mut g = model("llama");
        g.keys.retain(|(k, _)| *k != format!("llama.{key}"));
        refused(&g, &format!("`llama.{key}` is missing"));
    }
    let mut g = model("llama");
    g.tensors.remove(0);
    refused(&g, "`token_embd.weight` is missing");
}

#[test]
fn parts_of_one_model() {
    let dir = tempfile::tempdir().expect("a folder");
    let part = |no: u16, g: Gguf| {
        let short = |n: u16| Wire(2, n.to_le_bytes().to_vec());
        g.key("split.no", short(no))
            .key("split.count", short(2))
            .key("split.tensors.count", Wire(5, 3i32.to_le_bytes().to_vec()))
    };
    let write = |name: &str, g: &Gguf| {
        let path = dir.path().join(name);
        std::fs::write(&path, g.bytes()).expect("it is written");
        path
    };
    let first = write("m-00001-of-00002.gguf", &part(0, model("llama")));
    let missing = open(&first).err().expect("a part is missing");
    assert!(missing.to_string().contains("m-00002-of-00002.gguf"), "{missing}");
    let second = write("m-00002-of-00002.gguf", &part(1, Gguf::default().with(floats("blk.0.ffn_norm.weight", &[8]))));
    for path in [&first, &second] {
        let files = open(path).expect("both parts");
        let c = GgufCheckpoint::read(&files).expect("a model");
        assert_eq!(c.names["model.layers.0.post_attention_layernorm.weight"].file, 1);
    }
    let renamed = write("model.gguf", &part(0, model("llama")));
    assert!(open(&renamed).err().expect("no sibling").to_string().contains("does not end in `-00001-of-00002.gguf`"));
    write("m-00002-of-00002.gguf", &part(0, Gguf::default()));
    assert!(open(&first).err().expect("twice the first").to_string().contains("`split.no` of part 2"));
    write("m-00002-of-00002.gguf", &part(1, Gguf::default()));
    assert!(open(&first).err().expect("too few").to_string().contains("the parts hold 2 tensors"));
    let alone = write("alone.gguf", &model("llama"));
    assert_eq!(open(&alone).expect("one file").len(), 1);
}

/// A file by another writer, with everything that a model needs.
#[test]
fn a_whole_small_model() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gguf/tiny-llama.gguf");
    let files = open(&path).expect("it is read");
    let c = GgufCheckpoint::read(&files).expect("it is understood");
    assert_eq!(c.names.len(), 2 + 2 * 9);
    for r in c.names.values() {
        let values = files[r.file].get(&r.tensor).expect("it is there").to_f32().expect("floats");
        assert_eq!(values.len(), r.shape.iter().product::<usize>());
    }
    assert_eq!((&c.config["vocab_size"], &c.config["eos_token_id"]), (&json!(261), &json!(260)));
    assert_eq!(c.chat_template, "{{ messages }}");
    assert!(c.warnings.is_empty(), "{:?}", c.warnings);
    let t = HostTokenizer::from_json(&c.tokenizer_json.expect("a tokenizer")).expect("the library takes it");
    let the = t.encode("the the<|end|>").expect("ids");
    assert_eq!(the, [257, 258, 260], "`the` and ` the` are merged, the end is a token");
    assert_eq!(t.decode(&the).expect("text"), "the the");
}

/// `$BITNET_GGUF` is a folder with SmolLM2-135M-Instruct.Q4_1.gguf.
#[test]
fn a_real_model() {
    let path = std::env::var_os("BITNET_GGUF").map(|d| PathBuf::from(d).join("SmolLM2-135M-Instruct.Q4_1.gguf"));
    let Some(path) = path.filter(|p| p.exists()) else {
        return println!("not run: no SmolLM2-135M-Instruct.Q4_1.gguf in $BITNET_GGUF");
    };
    let files = open(&path).expect("it is read");
    let c = GgufCheckpoint::read(&files).expect("it is understood");
    assert_eq!((files[0].names().count(), c.names.len()), (272, 272));
    for name in files[0].names() {
        files[0].get(name).expect("a tensor").to_f32().unwrap_or_else(|e| panic!("{e}"));
    }
    assert_eq!(c.config["rope_theta"], json!(100_000.0));
    assert_eq!(c.config["rms_norm_eps"], json!(1e-5));
    assert!(c.chat_template.contains("<|im_start|>"));
    assert!(c.warnings.is_empty(), "{:?}", c.warnings);
    let t = HostTokenizer::from_json(&c.tokenizer_json.expect("a tokenizer")).expect("the library takes it");
    if let Some(folder) = std::env::var_os("BITNET_TOKENIZERS") {
        let golden = std::fs::read(PathBuf::from(folder).join("smollm2/golden.json")).expect("golden.json");
        let golden: Value = serde_json::from_slice(&golden).expect("JSON");
        for case in golden["cases"].as_array().expect("cases") {
            let want: Vec<u32> = serde_json::from_value(case["ids"].clone()).expect("ids");
            assert_eq!(t.encode(case["text"].as_str().expect("a text")).expect("ids"), want, "{}", case["text"]);
        }
    }
}
