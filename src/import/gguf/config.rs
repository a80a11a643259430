//! The keys of a GGUF header as the `config.json` of the same model.

use super::arch::Family;
use super::Renamed;
use crate::encoding::blocks::Block;
use crate::error::{Error, Result};
use crate::format::gguf::Metadata;
use crate::format::File;
use crate::limits::{MAX_LAYERS, MAX_VOCAB};
use crate::tensor::DType;
use serde_json::{json, Map, Value};
use std::collections::BTreeMap;

/// Sizes above this are no model's.
const MAX_SIZE: u64 = 1 << 24;

/// Keys below the architecture's name that are read here, or change nothing.
const COMMON: &[&str] = &[
    "vocab_size",
    "context_length",
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "tensor_data_layout",
    "expert_count",
    "expert_used_count",
    "pooling_type",
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.attn_factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
];

/// Keys of single architectures.
const OWN: &[(&str, &[&str])] = &[
    ("gemma2", &["attn_logit_softcapping", "final_logit_softcapping"]),
    ("gemma3_text", &["attn_logit_softcapping", "final_logit_softcapping", "rope.freq_base_swa"]),
    ("granite", &["attention.scale", "embedding_scale", "residual_scale", "logit_scale"]),
    ("stablelm", &["use_parallel_residual"]),
    ("gpt_neox", &["use_parallel_residual"]),
];

/// The numbers that tensor names and shapes depend on.
pub struct Facts {
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Layers have a norm of their own for the attention (falcon).
    pub second_norm: bool,
}

/// Keys below the name of the architecture.
struct Keys<'a> {
    meta: &'a Metadata,
    prefix: String,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn size(&self, name: &str) -> Result<Option<usize>> {
        let key = self.key(name);
        match self.meta.u64(&key)? {
            None => Ok(None),
            Some(n) if (1..=MAX_SIZE).contains(&n) => Ok(Some(n as usize)),
            Some(n) => Err(Error::input(format!("`{key}` is {n}, 1 to {MAX_SIZE} is expected"))),
        }
    }

    fn need(&self, name: &str) -> Result<usize> {
        self.size(name)?.ok_or_else(|| Error::input(format!("`{}` is missing", self.key(name))))
    }

    fn f64(&self, name: &str) -> Result<Option<f64>> {
        self.meta.f64(&self.key(name))
    }

    fn u64(&self, name: &str) -> Result<Option<u64>> {
        self.meta.u64(&self.key(name))
    }
}

impl Facts {
    pub fn read(family: &Family, meta: &Metadata, files: &[File]) -> Result<Facts> {
        let keys = Keys { meta, prefix: family.name.to_string() };
        let (layers, hidden, heads) =
            (keys.need("block_count")?, keys.need("embedding_length")?, keys.need("attention.head_count")?);
        let kv_heads = keys.size("attention.head_count_kv")?.unwrap_or(heads);
        if layers > MAX_LAYERS {
            return Err(Error::unsupported(format!("{layers} layers, at most {MAX_LAYERS} are supported")));
        }
        if heads % kv_heads != 0 {
            return Err(Error::input(format!("{heads} query heads are no multiple of {kv_heads} key heads")));
        }
        let head_dim = match keys.size("attention.key_length")? {
            Some(d) => d,
            None if hidden % heads == 0 => hidden / heads,
            None => return Err(Error::input(format!("a width of {hidden} cannot be split into {heads} heads"))),
        };
        if keys.size("attention.value_length")?.is_some_and(|v| v != head_dim) {
            return Err(Error::unsupported("keys and values of different lengths are not supported"));
        }
        if head_dim % 2 != 0 {
            return Err(Error::input(format!("a head of {head_dim} cannot be rotated in pairs")));
        }
        let embedding = files.iter().find_map(|f| f.get("token_embd.weight"));
        let embedding = embedding.ok_or_else(|| Error::input("`token_embd.weight` is missing"))?;
        let vocab = match embedding.shape {
            [v, h] if *h == hidden && *v <= MAX_VOCAB => *v,
            shape => {
                let what = format!("has shape {shape:?}, [vocabulary, {hidden}] is expected");
                return Err(embedding.error(what));
            }
        };
        let second_norm = files.iter().any(|f| f.get("blk.0.attn_norm_2.weight").is_some());
        Ok(Facts { layers, hidden, heads, kv_heads, head_dim, vocab, second_norm })
    }
}

type Names = BTreeMap<String, Renamed>;

pub fn config(
    family: &'static Family,
    facts: &Facts,
    meta: &Metadata,
    files: &[File],
    names: &Names,
    warnings: &mut Vec<String>,
) -> Result<Map<String, Value>> {
    let keys = Keys { meta, prefix: family.name.to_string() };
    refuse_unknown(family, &keys, warnings)?;
    let mut c = Map::new();
    let mut set = |k: &str, v: Value| {
        c.insert(k.to_string(), v);
    };
    let sliding = keys.u64("attention.sliding_window")?.filter(|n| *n > 0);
    let (model_type, class) = match sliding {
        Some(_) if family.model_type == "llama" => ("mistral", "MistralForCausalLM"),
        _ => (family.model_type, family.class),
    };
    set("model_type", json!(model_type));
    set("architectures", json!([class]));
    set("vocab_size", json!(facts.vocab));
    let head = super::arch::lookup(family.globals, "output").unwrap_or("lm_head");
    set("tie_word_embeddings", json!(!names.contains_key(&format!("{head}.weight"))));
    let context = keys.need("context_length")?;
    let ffn = keys.need("feed_forward_length")?;
    if model_type == "gpt2" {
        set("n_embd", json!(facts.hidden));
        set("n_head", json!(facts.heads));
        set("n_layer", json!(facts.layers));
        set("n_positions", json!(context));
        set("n_inner", json!(ffn));
        set("activation_function", json!("gelu_new"));
    } else {
        set("hidden_size", json!(facts.hidden));
        set("num_attention_heads", json!(facts.heads));
        set("num_hidden_layers", json!(facts.layers));
        set("max_position_embeddings", json!(context));
        set("intermediate_size", json!(ffn));
        set("num_key_value_heads", json!(facts.kv_heads));
        set("head_dim", json!(facts.head_dim));
        set("hidden_act", json!(activation(family)));
    }
    let (key, name) = match model_type {
        "phi" | "gpt_neox" | "stablelm" => ("attention.layer_norm_epsilon", "layer_norm_eps"),
        "gpt2" | "falcon" => ("attention.layer_norm_epsilon", "layer_norm_epsilon"),
        _ => ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    };
    let eps = keys.f64(key)?.ok_or_else(|| Error::input(format!("`{}` is missing", keys.key(key))))?;
    set(name, json!(eps));
    match sliding {
        Some(n) if matches!(model_type, "mistral" | "phi3" | "gemma2" | "gemma3_text") => {
            set("sliding_window", json!(n))
        }
        Some(_) => {
            let what = format!("`{}` is not supported for this architecture", keys.key("attention.sliding_window"));
            return Err(Error::unsupported(what));
        }
        None => {}
    }
    let mut differs = Map::new();
    differs.insert("source".into(), json!("gguf"));
    own(family, facts, &keys, names, &mut c, &mut differs)?;
    super::rope::rope(family, facts, meta, files, &mut c)?;
    low_bit(family, meta, files, &mut c, warnings);
    c.insert("bitnet_convert".into(), Value::Object(differs));
    Ok(c)
}

/// A key that nobody reads may change what the model computes.
fn refuse_unknown(family: &Family, keys: &Keys, warnings: &mut Vec<String>) -> Result<()> {
    let own = OWN.iter().find(|(m, _)| *m == family.model_type).map_or(&[][..], |(_, k)| k);
    let prefix = keys.key("");
    for name in keys.meta.iter().filter_map(|(k, _)| k.strip_prefix(&prefix)) {
        if !COMMON.contains(&name) && !own.contains(&name) {
            let what = format!("the key `{prefix}{name}` is not known for this architecture");
            return Err(
                Error::unsupported(what).hint("ignoring it could give another model; this variant is not supported")
            );
        }
    }
    if keys.u64("expert_count")?.is_some_and(|n| n > 0) {
        return Err(Error::unsupported("models with several experts are not supported"));
    }
    if keys.meta.bool(&keys.key("attention.causal"))? == Some(false) {
        return Err(Error::unsupported("models that look ahead (`attention.causal` is false) are not supported"));
    }
    if let Some(kind) = keys.meta.str("general.type")?.filter(|t| *t != "model") {
        return Err(Error::unsupported(format!("the file holds no model, its `general.type` is `{kind}`")));
    }
    if keys.u64("pooling_type")?.is_some_and(|n| n > 0) {
        warnings.push("the file asks for pooled embeddings; the model is read without them".into());
    }
    Ok(())
}

fn activation(family: &Family) -> &'static str {
    match family.model_type {
        "bitnet" if family.name != "bitnet" => "relu2",
        "phi" => "gelu_new",
        "gemma" | "gemma2" | "gemma3_text" => "gelu_pytorch_tanh",
        "gpt_neox" | "falcon" => "gelu",
        _ => "silu",
    }
}

/// What single architectures have beyond the common keys.
fn own(
    family: &Family,
    facts: &Facts,
    keys: &Keys,
    names: &Names,
    c: &mut Map<String, Value>,
    differs: &mut Map<String, Value>,
) -> Result<()> {
    let has = |part: &str| names.contains_key(&format!("{}0.{part}", family.layers));
    let mut set = |k: &str, v: Value| {
        c.insert(k.to_string(), v);
    };
    match family.model_type {
        "llama" | "qwen3" | "granite" | "smollm3" | "hunyuan_v1_dense" | "olmo2" => {
            set("attention_bias", json!(has("self_attn.q_proj.bias")));
            set("mlp_bias", json!(has("mlp.up_proj.bias")));
        }
        "gemma" | "gemma2" | "gemma3_text" => {
            set("hidden_activation", json!("gelu_pytorch_tanh"));
            differs.insert("norm_plus_one".into(), json!(false));
        }
        "gpt2" => {
            differs.insert("conv1d".into(), json!(false));
        }
        "gpt_neox" => {
            let parallel = keys.meta.bool(&keys.key("use_parallel_residual"))?.unwrap_or(true);
            set("use_parallel_residual", json!(parallel));
            set("attention_bias", json!(has("attention.dense.bias")));
        }
        "stablelm" => {
            set("use_parallel_residual", json!(!has("post_attention_layernorm.weight")));
            set("use_qkv_bias", json!(has("self_attn.q_proj.bias")));
            set("qk_layernorm", json!(has("self_attn.q_layernorm.norms.0.weight")));
        }
        "falcon" => {
            let new = facts.second_norm || facts.kv_heads > 1 && facts.kv_heads < facts.heads;
            set("new_decoder_architecture", json!(new));
            set("multi_query", json!(!new && facts.kv_heads == 1));
            set("num_kv_heads", json!(facts.kv_heads));
            set("num_ln_in_parallel_attn", json!(if facts.second_norm { 2 } else { 1 }));
            set("parallel_attn", json!(true));
            set("alibi", json!(false));
            set("bias", json!(has("self_attention.dense.bias")));
            set("ffn_hidden_size", json!(keys.need("feed_forward_length")?));
        }
        _ => {}
    }
    match family.model_type {
        "gemma2" | "gemma3_text" => {
            for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
                // 0 means none, in place of a default.
                set(key, keys.f64(key)?.filter(|v| *v != 0.0).map_or(Value::Null, |v| json!(v)));
            }
            // The largest model of either generation scales by the width of a head of the residual; the file does not say so.
            let largest = if family.model_type == "gemma2" { 46 } else { 62 };
            let scalar = if facts.layers == largest { facts.hidden / facts.heads } else { facts.head_dim };
            set("query_pre_attn_scalar", json!(scalar));
            if family.model_type == "gemma3_text" {
                set("sliding_window_pattern", json!(6));
                set("rope_local_base_freq", json!(keys.f64("rope.freq_base_swa")?.unwrap_or(10_000.0)));
            }
        }
        "granite" => {
            let pairs = [
                ("attention.scale", "attention_multiplier", 1.0 / (facts.head_dim as f64).sqrt()),
                ("embedding_scale", "embedding_multiplier", 1.0),
                ("residual_scale", "residual_multiplier", 1.0),
                ("logit_scale", "logits_scaling", 1.0),
            ];
            for (key, name, otherwise) in pairs {
                set(name, json!(keys.f64(key)?.unwrap_or(otherwise)));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Says that the weights are already what the model computes with: rounding them once more would give others.
fn low_bit(family: &Family, meta: &Metadata, files: &[File], c: &mut Map<String, Value>, warnings: &mut Vec<String>) {
    let uses = |want: &dyn Fn(Block) -> bool| {
        let views = files.iter().flat_map(|f| f.names().filter_map(|n| f.get(n)));
        views.map(|v| v.dtype).any(|d| matches!(d, DType::Block(b) if want(b)))
    };
    if family.model_type == "bitnet" || uses(&|b| b == Block::I2S) {
        let scheme = json!({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"});
        c.insert("quantization_config".into(), scheme);
    } else if uses(&|b| b.scale_unit(1).is_some()) {
        warnings.push(
            "the weights are binary or ternary; the file does not say whether the activations were trained in 8 bits"
                .into(),
        );
    }
    if family.name == "bitnet" && matches!(meta.str("tokenizer.ggml.pre"), Ok(Some("llama-bpe"))) {
        warnings.push(
            "architecture `bitnet` means SiLU; a model of the 2B-4T kind, which has squared ReLU, is `bitnet-b1.58`"
                .into(),
        );
    }
}
