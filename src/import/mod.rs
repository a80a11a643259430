//! From a checkpoint on disk to a [`Model`]. Nothing is interpreted while it is parsed: files first, then configuration, then names.

pub mod arch;
mod build;
mod checkpoint;
pub mod config;
mod dims;
mod head;
mod lowbit;
mod pooling;
mod tokens;

use crate::error::{Error, Result};
use crate::model::Model;
use std::path::Path;

/// Reads a checkpoint folder (or a `.safetensors` file with its `config.json` beside it).
///
/// # Errors
/// `Input` for damaged or contradictory files, `Unsupported` with the list of what is supported.
pub fn import(path: &Path) -> Result<Model> {
    if !path.exists() {
        let looks_like_hub = path.is_relative()
            && path.components().count() == 2
            // `bitnet-b1.58-2B-4T` has an extension, too.
            && path.extension().is_none_or(|e| e != "safetensors");
        let e = Error::usage("there is no such folder or file").at_file(path);
        return Err(if looks_like_hub {
            e.hint("models are read from local folders in this version; fetch it first, e.g. with `hf download`")
        } else {
            e.hint("give a folder with `config.json` and `model.safetensors`")
        });
    }
    lowbit::refuse_folder(path)?;
    let checkpoint = checkpoint::Checkpoint::open(path)?;
    lowbit::refuse(&checkpoint)?;
    let hints = lowbit::Hints::of(&checkpoint)?;
    let mut model = arch::read(checkpoint)?;
    lowbit::finish(&mut model, &hints)?;
    Ok(model)
}
