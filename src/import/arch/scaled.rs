//! Blocks of llama with factors on embedding, branches and logits: `granite`, `minicpm`.

use super::block::{Block, Place};
use super::rope::Ask;
use crate::error::Result;
use crate::import::build::Builder;
use crate::import::checkpoint::Checkpoint;
use crate::import::dims::{Dims, Keys};
use crate::import::head::Head;
use crate::model::Model;

pub fn granite(c: Checkpoint) -> Result<Model> {
    let mut b = Builder::new(c, false)?;
    let cfg = b.cfg();
    let d = Dims::read(cfg, &Keys::USUAL)?;
    let embedding_scale = cfg.factor("embedding_multiplier", 1.0)?;
    let residual_scale = cfg.factor("residual_multiplier", 1.0)?;
    let logits_scale = 1.0 / cfg.factor("logits_scaling", 1.0)?;
    let scale = cfg.factor("attention_multiplier", 1.0)?;
    let ropes = vec![Ask::new(&d).read(cfg)?];
    let block = Block { scale, ..Block::llama(&b, &d, 1e-6)? };
    let mut draft = block.draft(&mut b, &d, ropes, &Head::USUAL, |_| Place::FULL)?;
    (draft.embedding_scale, draft.residual_scale, draft.logits_scale) = (embedding_scale, residual_scale, logits_scale);
    b.finish(&d, draft)
}

/// MiniCPM and BitCPM4.
pub fn minicpm(c: Checkpoint) -> Result<Model> {
    let mut b = Builder::new(c, false)?;
    let cfg = b.cfg();
    let d = Dims::read(cfg, &Keys::USUAL)?;
    let embedding_scale = cfg.factor("scale_emb", 1.0)?;
    let residual_scale = cfg.factor("scale_depth", 1.0)? / libm::sqrt(d.layers as f64);
    let logits_scale = cfg.factor("dim_model_base", 1.0)? / d.d_model as f64;
    let ropes = vec![Ask::new(&d).read(cfg)?];
    let block = Block::llama(&b, &d, 1e-6)?;
    let mut draft = block.draft(&mut b, &d, ropes, &Head { tied: true, ..Head::USUAL }, |_| Place::FULL)?;
    (draft.embedding_scale, draft.residual_scale, draft.logits_scale) = (embedding_scale, residual_scale, logits_scale);
    b.finish(&d, draft)
}
