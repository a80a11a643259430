//! From a checkpoint on disk to a [`Model`]. Nothing is interpreted while it is parsed: files first, then configuration, then names.

pub mod arch;
mod build;
mod checkpoint;
pub mod config;
mod dims;
pub mod gguf;
mod head;
#[cfg(feature = "hub")]
pub mod hub;
pub mod lora;
mod lowbit;
mod pooling;
mod tokens;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::progress::Progress;
use std::path::Path;

/// Reads a checkpoint folder or file, as [`import`] does; what is none and reads like the name of a model on a hub is fetched first, with
/// settings from the environment. A local path always wins.
///
/// # Errors
/// Those of [`import`], and `Io` or `Usage` if the model cannot be fetched.
pub fn open(spec: &Path, progress: &dyn Progress) -> Result<Model> {
    #[cfg(feature = "hub")]
    if let Some(id) = hub::is_hub_id(spec).filter(|_| !spec.exists()) {
        let found = hub::obtain(&id, &hub::Settings::from_env()?, progress)?;
        let mut model = import(&found.path)?;
        // The folder of a snapshot is named after its commit.
        model.name = id.name().to_string();
        model.warnings.extend(found.warning);
        return Ok(model);
    }
    // Only downloads have something to tell.
    let _ = progress;
    import(spec)
}

/// Whether [`open`] would ask a hub for it: nothing of this name exists here, and it can be the name of a model.
pub fn is_remote(spec: &Path) -> bool {
    #[cfg(feature = "hub")]
    return !spec.exists() && hub::is_hub_id(spec).is_some();
    #[cfg(not(feature = "hub"))]
    {
        let _ = spec;
        false
    }
}

/// Reads a checkpoint folder, a `.safetensors` or `.bin` file with its `config.json` beside it, or a `.gguf` file.
///
/// # Errors
/// `Input` for damaged or contradictory files, `Unsupported` with the list of what is supported.
pub fn import(path: &Path) -> Result<Model> {
    if !path.exists() {
        let looks_like_hub = path.is_relative()
            && path.components().count() == 2
            // `bitnet-b1.58-2B-4T` has an extension, too.
            && path.extension().is_none_or(|e| e != "safetensors" && e != "bin" && e != "gguf");
        let e = Error::usage("there is no such folder or file").at_file(path);
        return Err(if looks_like_hub && cfg!(not(feature = "hub")) {
            e.hint("models are read from local folders in this version; fetch it first, e.g. with `hf download`")
        } else {
            e.hint("give a folder with `config.json` and `model.safetensors` or `pytorch_model.bin`, or the name of a model on the hub: `org/name`")
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
