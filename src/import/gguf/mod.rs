//! A GGUF file as what the rest of the importer reads: a configuration as `config.json` has it, tensors under their checkpoint's names,
//! a `tokenizer.json`. What has no place in that is refused by name.

mod arch;
mod config;
mod names;
mod rope;

use crate::error::{Error, Result};
use crate::format::gguf::Metadata;
use crate::format::File;
use crate::tensor::RowOrder;
use crate::tokenizer::load::gguf;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

/// Opens a GGUF file and, if it is one part of several, its siblings `…-00001-of-0000N.gguf`, in their order.
///
/// # Errors
/// As [`File::open`]; `Input` if the parts do not belong together.
pub fn open(path: &Path) -> Result<Vec<File>> {
    let file = File::open(path)?;
    let here = |e: Error| e.at_file(path);
    let Some(meta) = file.metadata() else {
        return Err(here(Error::input("this is no GGUF file")));
    };
    let count = meta.u64("split.count").map_err(here)?.unwrap_or(1);
    if count <= 1 {
        return Ok(vec![file]);
    }
    let paths = siblings(path, count).map_err(here)?;
    let mut files = Vec::new();
    for (i, p) in paths.iter().enumerate() {
        let part = File::open(p)?;
        let number = part.metadata().map_or(Ok(None), |m| m.u64("split.no")).map_err(|e| e.at_file(p))?;
        if number != Some(i as u64) {
            let what =
                format!("`split.no` of part {} is not {i}; the parts are from different models, or renamed", i + 1);
            return Err(Error::input(what).at_file(p));
        }
        files.push(part);
    }
    let tensors: usize = files.iter().map(|f| f.names().count()).sum();
    let promised = files[0].metadata().map_or(Ok(None), |m| m.u64("split.tensors.count")).map_err(here)?;
    if promised.is_some_and(|n| n != tensors as u64) {
        let what = format!("the parts hold {tensors} tensors, `split.tensors.count` is {}", promised.unwrap_or(0));
        return Err(here(Error::input(what).hint("fetch all parts again; they must belong to one model")));
    }
    Ok(files)
}

/// Paths of all parts from the name of one.
fn siblings(path: &Path, count: u64) -> Result<Vec<PathBuf>> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    let end = format!("-of-{count:05}.gguf");
    let prefix = name.strip_suffix(&end).and_then(|n| {
        let (prefix, number) = n.rsplit_once('-')?;
        (number.len() == 5 && number.bytes().all(|b| b.is_ascii_digit())).then_some(prefix)
    });
    let Some(prefix) = prefix.filter(|_| count < 100_000) else {
        let what = format!("the file is one of {count} parts, but its name does not end in `-00001{end}`");
        return Err(Error::input(what).hint("give the parts their original names, or merge them into one file"));
    };
    let paths: Vec<_> = (1..=count).map(|i| path.with_file_name(format!("{prefix}-{i:05}{end}"))).collect();
    match paths.iter().find(|p| !p.is_file()) {
        Some(missing) => Err(Error::input("this part of the model is missing").at_file(missing)),
        None => Ok(paths),
    }
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
