//! `bitnet` (microsoft/bitnet-b1.58-2B-4T and the like): llama with a norm before `o_proj` and one before `down_proj`, relu2.
//! `BitnetForCausalLM` (1bitLLM) is the same block with older names and SiLU.

use super::block::{Block, Place};
use super::rope::Ask;
use crate::error::Result;
use crate::import::build::Builder;
use crate::import::checkpoint::Checkpoint;
use crate::import::dims::{Dims, Keys};
use crate::model::{Activation, Model};

pub fn read(c: Checkpoint) -> Result<Model> {
    let b = Builder::new(c, true)?;
    let d = Dims::read(b.cfg(), &Keys::USUAL)?;
    let older = b.has("model.layers.0.self_attn.inner_attn_ln.weight");
    let (names, activation, theta, eps) = if older {
        (["inner_attn_ln", "ffn_layernorm"], Activation::Silu, 1e4, 1e-6)
    } else {
        (["attn_sub_norm", "ffn_sub_norm"], Activation::Relu2, 5e5, 1e-5)
    };
    let activation = b.cfg().activation("hidden_act", activation)?;
    let block = Block { sub_norms: Some(names), activation, ..Block::llama(&b, &d, eps)? };
    block.model(b, &d, Ask::new(&d).theta("rope_theta", theta), false, Place::FULL)
}
