//! `qwen2`: biases on q, k and v. `qwen3`: none, but norms on the heads of q and k. Also as base models for embeddings.

use super::block::{sliding, Block, Place, QkNorm};
use super::llama::MAX_CONTEXT;
use super::rope::Ask;
use crate::error::Result;
use crate::import::build::{Builder, NormStyle};
use crate::import::checkpoint::Checkpoint;
use crate::import::dims::{Dims, Keys};
use crate::import::head::Head;
use crate::model::Model;

pub fn qwen2(c: Checkpoint) -> Result<Model> {
    let b = Builder::new(c, false)?;
    let d = Dims::read(b.cfg(), &Keys::USUAL)?;
    let said = b.cfg().bool("attention_bias")?;
    let block = Block { qkv_bias: Some(said.unwrap_or(true)), o_bias: None, ..Block::llama(&b, &d, 1e-6)? };
    finish(b, &d, &block)
}

pub fn qwen3(c: Checkpoint) -> Result<Model> {
    let b = Builder::new(c, false)?;
    let d = Dims::read(b.cfg(), &Keys { head_dim: ("head_dim", Some(128)), ..Keys::USUAL })?;
    let llama = Block::llama(&b, &d, 1e-6)?;
    let style = NormStyle::rms(llama.norm.eps);
    let qk_norm = QkNorm::Shared { names: ["q_norm", "k_norm"], style, whole: false };
    finish(b, &d, &Block { qk_norm, ..llama })
}

fn finish(mut b: Builder, d: &Dims, block: &Block) -> Result<Model> {
    let cfg = b.cfg();
    let window = match cfg.bool("use_sliding_window")?.unwrap_or(false) {
        true => cfg.usize("sliding_window", 1..=MAX_CONTEXT)?,
        false => None,
    };
    let first = cfg.usize("max_window_layers", 0..=MAX_CONTEXT)?.unwrap_or(28);
    let slides = sliding(&b, d, |i| i >= first)?;
    let ropes = vec![Ask::new(d).read(b.cfg())?];
    let place = |i: usize| Place::window(window.filter(|_| slides[i]));
    let draft = block.draft(&mut b, d, ropes, &Head::USUAL, place)?;
    b.finish(d, draft)
}
