//! `bitnet` (microsoft/bitnet-b1.58-2B-4T and the like): llama with a norm before `o_proj` and one before `down_proj`, relu2.
//! `BitnetForCausalLM` (1bitLLM) is the same block with older names and SiLU.

use super::llama::{read_as, Dialect};
use super::Checkpoint;
use crate::error::Result;
use crate::model::{Activation, Model};

pub fn read(c: Checkpoint) -> Result<Model> {
    let older = c.find("model.layers.0.self_attn.inner_attn_ln.weight").is_some();
    let dialect = if older {
        Dialect {
            attn_sub_norm: Some("inner_attn_ln"),
            ffn_sub_norm: Some("ffn_layernorm"),
            activation: Activation::Silu,
            assume_native: true,
        }
    } else {
        Dialect {
            attn_sub_norm: Some("attn_sub_norm"),
            ffn_sub_norm: Some("ffn_sub_norm"),
            activation: Activation::Relu2,
            assume_native: true,
        }
    };
    read_as(c, &dialect)
}
