//! A GGUF file as what the rest of the importer reads: a configuration as `config.json` has it, tensors under their checkpoint's names,
//! a `tokenizer.json`. What has no place in that is refused by name.

mod arch;
mod config;
mod names;
mod rope;

pub use crate::format::gguf::open;

use crate::error::{Error, Result};
use crate::format::gguf::Metadata;
use crate::format::File;
use crate::tensor::RowOrder;
use crate::tokenizer::load::gguf;
use serde_json::Value;
use std::collections::BTreeMap;

/// A tensor of the checkpoint and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// Index of the file.
    pub file: usize,
    /// Name in that file.
    pub tensor: String,
    /// Shape that the checkpoint gives it.
    pub shape: Vec<usize>,
    /// First stored row, for a part of a stored tensor.
    pub first: usize,
    pub rows: RowOrder,
}

/// What a GGUF file says, in the words of a checkpoint folder.
#[derive(Debug)]
pub struct GgufCheckpoint {
    /// As a `config.json`. Its object `bitnet_convert` says in what the tensors differ from those of a checkpoint: `norm_plus_one: false`
    /// (norm weights are whole, not one less), `conv1d: false` (matrices are `[out, in]`).
    pub config: Value,
    /// Tensors by their checkpoint names.
    pub names: BTreeMap<String, Renamed>,
    pub tokenizer_json: Option<Vec<u8>>,
    /// Empty if there is none.
    pub chat_template: String,
    pub warnings: Vec<String>,
}

impl GgufCheckpoint {
    /// Interprets the parts of one model, in their order; the first has the metadata.
    ///
    /// # Errors
    /// `Unsupported` for architectures, keys and tokenizers that are not known, by name; `Input` for contradictions.
    pub fn read(files: &[File]) -> Result<GgufCheckpoint> {
        let Some((first, meta)) = files.first().and_then(|f| Some((f, f.metadata()?))) else {
            return Err(Error::input("a GGUF file is expected"));
        };
        read(files, meta).map_err(|e| e.at_file(&first.path))
    }
}

fn read(files: &[File], meta: &Metadata) -> Result<GgufCheckpoint> {
    let name = meta.str("general.architecture")?.ok_or_else(|| Error::input("`general.architecture` is missing"))?;
    let family = arch::FAMILIES.iter().find(|f| f.name == name).ok_or_else(|| {
        let all: Vec<_> = arch::FAMILIES.iter().map(|f| f.name).collect();
        let mut text = format!("GGUF architecture `{name}` is not read; those that are: {}", all.join(", "));
        text.retain(|c| !c.is_control());
        Error::unsupported(text)
    })?;
    let mut warnings = Vec::new();
    let facts = config::Facts::read(family, meta, files)?;
    let names = names::rename(family, &facts, files)?;
    let mut config = config::config(family, &facts, meta, files, &names, &mut warnings)?;
    let tokenizer_json = gguf::build(meta, facts.vocab, &mut config, &mut warnings)?;
    let chat_template = meta.str("tokenizer.chat_template")?.unwrap_or("").to_string();
    Ok(GgufCheckpoint { config: Value::Object(config), names, tokenizer_json, chat_template, warnings })
}
