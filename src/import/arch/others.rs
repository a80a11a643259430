//! Near relatives of llama: `smollm3`, `olmo2`, `hunyuan_v1_dense`, `stablelm`.

use super::block::{sliding, Block, Place, QkNorm};
use super::llama::MAX_CONTEXT;
use super::rope::Ask;
use crate::error::Result;
use crate::import::build::{Builder, NormStyle};
use crate::import::checkpoint::Checkpoint;
use crate::import::dims::{Dims, Keys};
use crate::import::head::Head;
use crate::model::Model;

/// Some layers have no rotation.
pub fn smollm3(c: Checkpoint) -> Result<Model> {
    let mut b = Builder::new(c, false)?;
    let cfg = b.cfg();
    let d = Dims::read(cfg, &Keys::USUAL)?;
    let interval = cfg.usize("no_rope_layer_interval", 1..=MAX_CONTEXT)?.unwrap_or(4);
    let rotated: Vec<bool> = match cfg.numbers("no_rope_layers")? {
        Some(list) if list.len() == d.layers && list.iter().all(|v| [0.0, 1.0].contains(v)) => {
            list.iter().map(|v| *v == 1.0).collect()
        }
        Some(list) => {
            let what = format!("`no_rope_layers` has {} entries for {} layers, each 0 or 1", list.len(), d.layers);
            return Err(cfg.error(what));
        }
        None => (0..d.layers).map(|i| (i + 1) % interval != 0).collect(),
    };
    let window = match cfg.bool("use_sliding_window")?.unwrap_or(false) {
        true => cfg.usize("sliding_window", 1..=MAX_CONTEXT)?,
        false => None,
    };
    let slides = sliding(&b, &d, |i| !rotated[i])?;
    let ropes = vec![Ask::new(&d).theta("rope_theta", 2e6).read(cfg)?];
    let place = |i: usize| Place { rope: rotated[i].then_some(0), window: window.filter(|_| slides[i]) };
    let draft = Block::llama(&b, &d, 1e-6)?.draft(&mut b, &d, ropes, &Head { tied: true, ..Head::USUAL }, place)?;
    b.finish(&d, draft)
}

/// Norms behind the branches instead of before, and over the whole width of q and k.
pub fn olmo2(c: Checkpoint) -> Result<Model> {
    let b = Builder::new(c, false)?;
    let d = Dims::read(b.cfg(), &Keys::USUAL)?;
    let llama = Block::llama(&b, &d, 1e-5)?;
    let block = Block {
        attn_norm: None,
        ffn_norm: None,
        attn_post_norm: Some("post_attention_layernorm"),
        ffn_post_norm: Some("post_feedforward_layernorm"),
        qk_norm: QkNorm::Shared { names: ["q_norm", "k_norm"], style: llama.norm, whole: true },
        ..llama
    };
    block.model(b, &d, Ask::new(&d), false, Place::FULL)
}

/// Norms on the heads of q and k after the rotation.
pub fn hunyuan(c: Checkpoint) -> Result<Model> {
    let b = Builder::new(c, false)?;
    let d = Dims::read(b.cfg(), &Keys::USUAL)?;
    let llama = Block::llama(&b, &d, 1e-5)?;
    let qk_norm = QkNorm::Shared { names: ["query_layernorm", "key_layernorm"], style: llama.norm, whole: false };
    let block = Block { qk_norm, norm_after_rope: true, ..llama };
    block.model(b, &d, Ask::new(&d), false, Place::FULL)
}

/// LayerNorms, a rotation of a quarter of each head, and optionally the two branches beside each other.
pub fn stablelm(c: Checkpoint) -> Result<Model> {
    let b = Builder::new(c, false)?;
    let cfg = b.cfg();
    let d = Dims::read(cfg, &Keys::USUAL)?;
    let norm = NormStyle::layer(cfg.eps("layer_norm_eps", 1e-5)?);
    let parallel = cfg.bool("use_parallel_residual")?.unwrap_or(false);
    let style = NormStyle { bias: false, ..norm };
    let qk_norm = match cfg.bool("qk_layernorm")?.unwrap_or(false) {
        true => QkNorm::PerHead { names: ["q_layernorm", "k_layernorm"], style },
        false => QkNorm::None,
    };
    let block = Block {
        norm,
        ffn_norm: (!parallel).then_some("post_attention_layernorm"),
        qkv_bias: Some(cfg.bool("use_qkv_bias")?.unwrap_or(false)),
        o_bias: Some(false),
        mlp_bias: Some(false),
        qk_norm,
        parallel,
        ..Block::llama(&b, &d, 1e-5)?
    };
    block.model(b, &d, Ask::new(&d).partial("partial_rotary_factor", 0.25), false, Place::FULL)
}
