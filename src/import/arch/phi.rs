//! `phi` (Phi-1, Phi-1.5, Phi-2): attention and feed-forward part beside each other behind one LayerNorm, biases everywhere.
//! `phi3` (also Phi-3.5 and Phi-4): the block of llama with fused projections.

use super::block::{named, Block, Place};
use super::llama::MAX_CONTEXT;
use super::rope::Ask;
use crate::error::Result;
use crate::import::build::{attention, block, plain_mlp, Builder, Draft, NormStyle};
use crate::import::checkpoint::Checkpoint;
use crate::import::dims::{Dims, Keys};
use crate::import::head::Head;
use crate::model::{Activation, Layer, Model};

pub fn phi(c: Checkpoint) -> Result<Model> {
    let mut b = Builder::new(c, false)?;
    let d = Dims::read(b.cfg(), &Keys::USUAL)?;
    let norm = NormStyle::layer(b.cfg().eps("layer_norm_eps", 1e-5)?);
    let activation = b.cfg().activation("hidden_act", Activation::GeluTanh)?;
    let qk_norms = b.cfg().bool("qk_layernorm")?.unwrap_or(false);
    let ropes = vec![Ask::new(&d).partial("partial_rotary_factor", 0.5).read(b.cfg())?];
    let embedding = b.embedding("model.embed_tokens", &d)?;
    let mut layers = Vec::new();
    for i in 0..d.layers {
        let p = format!("model.layers.{i}");
        let mut linear =
            |module: &str, name: &str, rows, cols| b.linear(named(i, &p, module, name, rows, cols).bias(true));
        let q = linear("self_attn.q_proj", "attn.q", d.q(), d.d_model)?;
        let k = linear("self_attn.k_proj", "attn.k", d.kv(), d.d_model)?;
        let v = linear("self_attn.v_proj", "attn.v", d.kv(), d.d_model)?;
        let o = linear("self_attn.dense", "attn.o", d.d_model, d.q())?;
        let up = linear("mlp.fc1", "ffn.up", d.ffn, d.d_model)?;
        let down = linear("mlp.fc2", "ffn.down", d.d_model, d.ffn)?;
        let mut attn = attention(q, k, v, o, d.scale());
        attn.rope = Some(0);
        if qk_norms {
            attn.q_norm = Some(b.norm(norm, &format!("{p}.self_attn.q_layernorm"), d.head_dim)?);
            attn.k_norm = Some(b.norm(norm, &format!("{p}.self_attn.k_layernorm"), d.head_dim)?);
        }
        let attn_norm = Some(b.norm(norm, &format!("{p}.input_layernorm"), d.d_model)?);
        layers.push(Layer { attn_norm, parallel: true, ..block(attn, plain_mlp(up, down, activation)) });
    }
    let final_norm = Some(b.norm(norm, "model.final_layernorm", d.d_model)?);
    let head = b.head(&Head { bias_needed: true, ..Head::USUAL }, &embedding, &d)?;
    let draft = Draft { ropes, final_norm, head, ..Draft::new(embedding, layers) };
    b.finish(&d, draft)
}

pub fn phi3(c: Checkpoint) -> Result<Model> {
    let b = Builder::new(c, false)?;
    let d = Dims::read(b.cfg(), &Keys::USUAL)?;
    let window = b.cfg().usize("sliding_window", 1..=MAX_CONTEXT)?;
    let block = Block { fused: true, ..Block::llama(&b, &d, 1e-5)? };
    block.model(b, &d, Ask::new(&d), false, Place::window(window))
}
