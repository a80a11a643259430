//! What readers of architectures take from a configuration, and what they refuse. That they read the networks themselves rightly is the
//! business of reference_golden.rs.

mod common;

use bitnet_convert::import::import;
use bitnet_convert::model::{Model, Pool, Pooling};
use common::checkpoint::{Bench, Checkpoint, Raw, EMBED, HIDDEN, VOCAB};
use serde_json::{json, Value};

/// The small checkpoint as a llama: without the norms that only bitnet has, and without low-bit training.
fn llama(edit: impl FnOnce(&mut Checkpoint)) -> Checkpoint {
    let mut c = Checkpoint::online();
    c.tensors.retain(|t| !t.name.contains("_sub_norm"));
    c.config["quantization_config"] = Value::Null;
    c.config["hidden_act"] = json!("silu");
    (c.config["architectures"], c.config["model_type"]) = (json!(["LlamaForCausalLM"]), json!("llama"));
    edit(&mut c);
    c
}

#[track_caller]
fn read(b: &Bench) -> Model {
    import(&b.model()).unwrap_or_else(|e| panic!("{e}"))
}

/// A configuration of another class on the same weights must be refused before any tensor is looked for.
#[track_caller]
fn refused(class: &str, entries: Value, reason: &str) {
    let c = llama(|c| {
        c.config["architectures"] = json!([class]);
        entries.as_object().unwrap().iter().for_each(|(k, v)| c.config[k] = v.clone());
    });
    let b = Bench::new(&c);
    let said = import(&b.model()).err().unwrap_or_else(|| panic!("{class} {entries}: accepted")).to_string();
    assert!(said.contains(reason) && said.contains("config.json"), "{class} {entries}: {said}");
}

#[test]
fn a_base_model_has_no_head_and_pools_as_its_folder_says() {
    let c = llama(|c| {
        c.config["architectures"] = json!(["LlamaModel"]);
        // Base models are stored without the prefix.
        c.tensors.iter_mut().for_each(|t| t.name = t.name.trim_start_matches("model.").to_string());
    });
    let modules = json!([{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}, {"type": "x.Normalize", "path": "2"}]);
    let b = Bench::new(&c).file("modules.json", modules.to_string());
    assert!(import(&b.model()).err().unwrap().to_string().contains("no `config.json`"));
    std::fs::create_dir(b.model().join("1_Pooling")).unwrap();
    let b = b.file("1_Pooling/config.json", json!({"pooling_mode_mean_tokens": true}).to_string());
    let m = read(&b);
    assert!(m.head.is_none());
    assert_eq!(m.pooling, Some(Pooling { pool: Pool::Mean, normalize: true }));
    assert!(m.sources.iter().any(|(name, ..)| name == "1_Pooling/config.json"));
}

#[test]
fn a_language_model_that_is_part_of_a_larger_one() {
    let c = llama(|c| {
        let mut text = c.config.clone();
        text["architectures"] = json!(["SomethingElse"]);
        c.config = json!({"architectures": ["LlamaForCausalLM"], "hidden_size": 7, "text_config": text});
    });
    let m = read(&Bench::new(&c));
    assert_eq!((m.d_model, m.vocab, m.layers.len()), (HIDDEN, VOCAB, 1));
}

#[test]
fn heads_of_their_own_tied_and_missing() {
    let other =
        |c: &mut Checkpoint| c.tensors.push(Raw::f32("lm_head.weight", &[VOCAB, HIDDEN], &[0.5; VOCAB * HIDDEN]));
    let untied = read(&Bench::new(&llama(|c| {
        other(c);
        c.config["tie_word_embeddings"] = json!(false);
    })));
    assert!(!untied.tied() && untied.head.is_some() && untied.warnings.is_empty());
    let missing = read(&Bench::new(&llama(|c| c.config["tie_word_embeddings"] = Value::Null)));
    assert!(missing.tied());
    assert!(missing.warnings.iter().any(|w| w.contains("the embedding is used as head")), "{:?}", missing.warnings);
    let repeated = read(&Bench::new(&llama(|c| {
        let mut twin = c.tensor(EMBED).clone();
        twin.name = "lm_head.weight".into();
        c.tensors.push(twin);
    })));
    assert!(repeated.tied() && repeated.warnings.is_empty());
    let shared = read(&Bench::new(&llama(|c| {
        c.config["tie_word_embeddings"] = Value::Null;
        c.config["share_embedding"] = json!(true);
    })));
    assert!(shared.tied() && shared.warnings.is_empty());
}

#[test]
fn windows_of_single_layers() {
    let m = |config: Value| {
        let c = llama(|c| {
            c.config["architectures"] = json!(["Qwen2ForCausalLM"]);
            c.config["attention_bias"] = json!(false);
            config.as_object().unwrap().iter().for_each(|(k, v)| c.config[k] = v.clone());
        });
        read(&Bench::new(&c)).layers[0].attn.window
    };
    assert_eq!(m(json!({"sliding_window": 5, "max_window_layers": 0})), None);
    assert_eq!(m(json!({"sliding_window": 5, "max_window_layers": 0, "use_sliding_window": true})), Some(5));
    assert_eq!(m(json!({"sliding_window": 5, "use_sliding_window": true})), None);
    let types = json!({"sliding_window": 5, "use_sliding_window": true, "layer_types": ["sliding_attention"]});
    assert_eq!(m(types), Some(5));
}

#[test]
fn lists_that_do_not_fit_the_layers() {
    refused("Qwen2ForCausalLM", json!({"layer_types": []}), "0 entries for 1 layers");
    refused("Qwen2ForCausalLM", json!({"layer_types": "full_attention"}), "must be a list of strings");
    refused("Qwen3ForCausalLM", json!({"layer_types": ["linear_attention"]}), "`linear_attention`");
    refused("SmolLM3ForCausalLM", json!({"no_rope_layers": [1, 0]}), "2 entries for 1 layers");
    refused("SmolLM3ForCausalLM", json!({"no_rope_layers": [0.5]}), "each 0 or 1");
    let neo = |types: Value| json!({"num_layers": 2, "num_heads": 2, "attention_types": types});
    for types in
        [json!([]), json!(null), json!([[["global"], 1]]), json!([[["global", "near"], 1]]), json!([[[], 4e9]])]
    {
        refused("GPTNeoForCausalLM", neo(types), "attention_types");
    }
}

#[test]
fn variants_of_single_architectures() {
    refused("MobileLLMForCausalLM", json!({"layer_sharing": true}), "computed twice");
    refused("BertModel", json!({"is_decoder": true}), "encoders only");
    refused("BertModel", json!({"position_embedding_type": "relative_key"}), "only absolute");
    refused("BertModel", json!({"head_dim": 8}), "do not fill the width");
    refused("RobertaModel", json!({"pad_token_id": 64}), "are never used");
    refused("Gemma3ForCausalLM", json!({"use_bidirectional_attention": true}), "a decoder only");
    refused("Gemma2ForCausalLM", json!({"query_pre_attn_scalar": 0}), "query_pre_attn_scalar");
    refused("GraniteForCausalLM", json!({"logits_scaling": 0}), "logits_scaling");
    refused("MiniCPMForCausalLM", json!({"scale_depth": "deep"}), "scale_depth");
    let falcon = json!({"new_decoder_architecture": true, "num_kv_heads": 3});
    refused("FalconForCausalLM", falcon, "no multiple of num_kv_heads 3");
    let whisper = json!({"d_model": 32, "decoder_ffn_dim": 48, "decoder_layers": 1, "decoder_attention_heads": 2, "encoder_attention_heads": 4});
    refused("WhisperForConditionalGeneration", whisper, "must be equal");
}
