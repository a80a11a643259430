//! What each GGUF architecture calls its tensors, and what a Hugging Face checkpoint of the same model calls them.

/// How the rows of the stored query and key projections are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rope {
    /// Rotation of neighbours: the converter put the two halves of a head side by side.
    Neighbours,
    /// Rotation of halves: as in the checkpoint.
    Halves,
}

/// How stored queries, keys and values that share a tensor go back to their checkpoint's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fused {
    /// Not at all, or in one block each, as the checkpoint has them.
    AsStored,
    /// The checkpoint has, for each key head, its queries, the key and the value.
    ByKeyHead,
    /// The checkpoint has three tensors.
    Apart,
}

/// One architecture.
pub struct Family {
    /// `general.architecture`.
    pub name: &'static str,
    pub model_type: &'static str,
    pub class: &'static str,
    pub rope: Rope,
    pub fused: Fused,
    /// Tensors outside of the layers.
    pub globals: &'static [(&'static str, &'static str)],
    /// Prefix of a layer's tensors, before its number.
    pub layers: &'static str,
    /// Tensors of a layer.
    pub locals: &'static [(&'static str, &'static str)],
}

const GLOBALS: &[(&str, &str)] =
    &[("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

/// The block of llama, and the members of others that are named alike.
macro_rules! block {
    ($($more:expr),* $(,)?) => {
        &[
            ("attn_q", "self_attn.q_proj"),
            ("attn_k", "self_attn.k_proj"),
            ("attn_v", "self_attn.v_proj"),
            ("attn_output", "self_attn.o_proj"),
            ("ffn_gate", "mlp.gate_proj"),
            ("ffn_up", "mlp.up_proj"),
            ("ffn_down", "mlp.down_proj"),
            $($more),*
        ]
    };
}

const IN: (&str, &str) = ("attn_norm", "input_layernorm");
const POST: (&str, &str) = ("ffn_norm", "post_attention_layernorm");
const Q_NORM: (&str, &str) = ("attn_q_norm", "self_attn.q_norm");
const K_NORM: (&str, &str) = ("attn_k_norm", "self_attn.k_norm");

const fn family(name: &'static str, model_type: &'static str, class: &'static str) -> Family {
    Family {
        name,
        model_type,
        class,
        rope: Rope::Halves,
        fused: Fused::AsStored,
        globals: GLOBALS,
        layers: "model.layers.",
        locals: block![IN, POST],
    }
}

/// Layers with a norm inside the attention and one inside the feed-forward part, relu².
const fn bitnet(name: &'static str) -> Family {
    const LOCALS: &[(&str, &str)] =
        block![IN, POST, ("attn_sub_norm", "self_attn.attn_sub_norm"), ("ffn_sub_norm", "mlp.ffn_sub_norm")];
    Family { locals: LOCALS, ..family(name, "bitnet", "BitNetForCausalLM") }
}

const GEMMA2: &[(&str, &str)] = block![
    IN,
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

pub static FAMILIES: &[Family] = &[
    Family { rope: Rope::Neighbours, ..family("llama", "llama", "LlamaForCausalLM") },
    Family {
        locals: block![IN, POST, ("attn_sub_norm", "self_attn.inner_attn_ln"), ("ffn_sub_norm", "mlp.ffn_layernorm")],
        ..family("bitnet", "bitnet", "BitnetForCausalLM")
    },
    bitnet("bitnet-25"),
    bitnet("bitnet-b1.58"),
    family("qwen2", "qwen2", "Qwen2ForCausalLM"),
    Family { locals: block![IN, POST, Q_NORM, K_NORM], ..family("qwen3", "qwen3", "Qwen3ForCausalLM") },
    Family {
        fused: Fused::Apart,
        globals: &[
            ("token_embd", "model.embed_tokens"),
            ("output_norm", "model.final_layernorm"),
            ("output", "lm_head"),
        ],
        locals: &[
            IN,
            ("attn_q", "self_attn.q_proj"),
            ("attn_k", "self_attn.k_proj"),
            ("attn_v", "self_attn.v_proj"),
            ("attn_output", "self_attn.dense"),
            ("ffn_up", "mlp.fc1"),
            ("ffn_down", "mlp.fc2"),
        ],
        ..family("phi2", "phi", "PhiForCausalLM")
    },
    Family {
        locals: &[
            IN,
            POST,
            ("attn_qkv", "self_attn.qkv_proj"),
            ("attn_output", "self_attn.o_proj"),
            ("ffn_up", "mlp.gate_up_proj"),
            ("ffn_down", "mlp.down_proj"),
        ],
        ..family("phi3", "phi3", "Phi3ForCausalLM")
    },
    family("gemma", "gemma", "GemmaForCausalLM"),
    Family { locals: GEMMA2, ..family("gemma2", "gemma2", "Gemma2ForCausalLM") },
    Family {
        locals: block![
            IN,
            ("post_attention_norm", "post_attention_layernorm"),
            ("ffn_norm", "pre_feedforward_layernorm"),
            ("post_ffw_norm", "post_feedforward_layernorm"),
            Q_NORM,
            K_NORM,
        ],
        ..family("gemma3", "gemma3_text", "Gemma3ForCausalLM")
    },
    Family {
        globals: &[
            ("token_embd", "transformer.wte"),
            ("position_embd", "transformer.wpe"),
            ("output_norm", "transformer.ln_f"),
            ("output", "lm_head"),
        ],
        layers: "transformer.h.",
        locals: &[
            ("attn_norm", "ln_1"),
            ("attn_qkv", "attn.c_attn"),
            ("attn_output", "attn.c_proj"),
            ("ffn_norm", "ln_2"),
            ("ffn_up", "mlp.c_fc"),
            ("ffn_down", "mlp.c_proj"),
        ],
        ..family("gpt2", "gpt2", "GPT2LMHeadModel")
    },
    Family {
        fused: Fused::ByKeyHead,
        globals: &[
            ("token_embd", "gpt_neox.embed_in"),
            ("output_norm", "gpt_neox.final_layer_norm"),
            ("output", "embed_out"),
        ],
        layers: "gpt_neox.layers.",
        locals: &[
            IN,
            POST,
            ("attn_qkv", "attention.query_key_value"),
            ("attn_output", "attention.dense"),
            ("ffn_up", "mlp.dense_h_to_4h"),
            ("ffn_down", "mlp.dense_4h_to_h"),
        ],
        ..family("gptneox", "gpt_neox", "GPTNeoXForCausalLM")
    },
    Family {
        locals: block![IN, POST, ("attn_q_norm", "self_attn.q_layernorm"), ("attn_k_norm", "self_attn.k_layernorm")],
        ..family("stablelm", "stablelm", "StableLmForCausalLM")
    },
    Family {
        fused: Fused::ByKeyHead,
        globals: &[
            ("token_embd", "transformer.word_embeddings"),
            ("output_norm", "transformer.ln_f"),
            ("output", "lm_head"),
        ],
        layers: "transformer.h.",
        locals: &[
            // With two norms the first name is that before the feed-forward part, see `Names`.
            ("attn_norm", "input_layernorm"),
            ("attn_norm_2", "ln_attn"),
            ("attn_qkv", "self_attention.query_key_value"),
            ("attn_output", "self_attention.dense"),
            ("ffn_up", "mlp.dense_h_to_4h"),
            ("ffn_down", "mlp.dense_4h_to_h"),
        ],
        ..family("falcon", "falcon", "FalconForCausalLM")
    },
    Family {
        locals: block![
            ("post_attention_norm", "post_attention_layernorm"),
            ("post_ffw_norm", "post_feedforward_layernorm"),
            Q_NORM,
            K_NORM,
        ],
        ..family("olmo2", "olmo2", "Olmo2ForCausalLM")
    },
    Family { rope: Rope::Neighbours, ..family("granite", "granite", "GraniteForCausalLM") },
    Family { rope: Rope::Neighbours, ..family("smollm3", "smollm3", "SmolLM3ForCausalLM") },
    Family {
        locals: block![
            IN,
            POST,
            ("attn_q_norm", "self_attn.query_layernorm"),
            ("attn_k_norm", "self_attn.key_layernorm")
        ],
        ..family("hunyuan-dense", "hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM")
    },
];

/// Checkpoint name of a part of the model.
pub fn lookup(table: &'static [(&'static str, &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(n, _)| *n == name).map(|(_, hf)| *hf)
}
