//! `llama`, `mistral`, and the low-bit families that have the block of llama: `bitllama` (OneBit), `QLlamaForCausalLM`, `MobileLLM`.

use super::block::{Block, Place};
use super::rope::Ask;
use crate::error::{Error, Result};
use crate::import::build::Builder;
use crate::import::checkpoint::Checkpoint;
use crate::import::dims::{Dims, Keys};
use crate::model::Model;

pub fn read(c: Checkpoint) -> Result<Model> {
    let b = Builder::new(c, false)?;
    if b.cfg().bool("layer_sharing")? == Some(true) {
        let e = Error::unsupported("`layer_sharing` is true; blocks that are computed twice are not supported");
        return Err(e.at_file(&b.cfg().path));
    }
    let d = Dims::read(b.cfg(), &Keys::USUAL)?;
    Block::llama(&b, &d, 1e-6)?.model(b, &d, Ask::new(&d), false, Place::FULL)
}

/// Every layer slides, unless the window is null.
pub fn mistral(c: Checkpoint) -> Result<Model> {
    let b = Builder::new(c, false)?;
    let d = Dims::read(b.cfg(), &Keys::USUAL)?;
    let window = b.cfg().usize("sliding_window", 1..=MAX_CONTEXT)?;
    Block::llama(&b, &d, 1e-6)?.model(b, &d, Ask::new(&d), false, Place::window(window))
}

/// A window may be as long as a context.
pub const MAX_CONTEXT: usize = 1 << 24;
