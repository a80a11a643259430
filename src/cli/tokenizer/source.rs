//! Where a tokenizer comes from: the text form, the compiled form, or both.

use crate::cli::export::chat_source;
use crate::error::{Error, Result};
use crate::import;
use crate::progress::Silent;
use crate::tokenizer::host::HostTokenizer;
use crate::tokenizer::load::load;
use crate::tokenizer::{chat, compile, DeviceTokenizer};
use std::path::{Path, PathBuf};

/// What was found at a path.
pub struct Source {
    pub path: PathBuf,
    /// As `tokenizer.json`, whatever the file is.
    pub json: Option<Vec<u8>>,
    /// The compiled form that lies there.
    pub compiled: Option<Vec<u8>>,
    /// Bytes of the file or files that the text form was read from.
    pub bytes: Option<u64>,
    /// The chat template beside it, if there is one.
    pub chat: chat::Source,
}

impl Source {
    /// # Errors
    /// `Io` if nothing can be read there, `Input` for a damaged file, `Unsupported` for one that holds no tokenizer.
    pub fn open(path: &Path) -> Result<Source> {
        let found = load(path)?;
        let size = |p: &PathBuf| std::fs::metadata(p).ok().map(|m| m.len());
        // Of a file that holds more than the tokenizer, only that part counts.
        let bytes = match (&found.json, found.whole) {
            (Some(_), true) => found.files.iter().map(size).sum(),
            (json, _) => json.as_ref().map(|json| json.len() as u64),
        };
        let chat = match &found.json {
            Some(_) => chat_beside(path)?,
            None => chat::Source::default(),
        };
        Ok(Source { path: path.into(), json: found.json, compiled: found.compiled, bytes, chat })
    }

    /// The compiled form: what lies there, else made from the text form.
    ///
    /// # Errors
    /// `Unsupported` if the device has no form of it, `Input` if it contradicts itself.
    pub fn blob(&self) -> Result<Vec<u8>> {
        match (&self.compiled, &self.json) {
            (Some(blob), _) => Ok(blob.clone()),
            (None, Some(json)) => compile(json).map_err(|e| Error::from(e).at_file(&self.path)),
            (None, None) => Err(Error::unsupported("there is no tokenizer").at_file(&self.path)),
        }
    }

    /// The compiled form with that of its chat template, and what to tell about that.
    ///
    /// # Errors
    /// As [`Source::blob`].
    pub fn blob_with_chat(&self) -> Result<(Vec<u8>, Vec<String>)> {
        let blob = self.blob()?;
        Ok(match &self.json {
            Some(json) if self.compiled.is_none() => chat::with_template(blob, &self.chat, json),
            _ => (blob, Vec::new()),
        })
    }

    /// # Errors
    /// As [`Source::blob`].
    pub fn device(&self) -> Result<DeviceTokenizer> {
        DeviceTokenizer::from_bytes(&self.blob()?).map_err(|e| Error::from(e).at_file(&self.path))
    }

    /// The reference; None for a compiled tokenizer alone.
    ///
    /// # Errors
    /// `Input` if the reference library does not take it.
    pub fn host(&self) -> Result<Option<HostTokenizer>> {
        let host = self.json.as_deref().map(HostTokenizer::from_json).transpose();
        host.map_err(|e| e.at_file(&self.path))
    }
}

/// The chat template in the folder of a tokenizer, or in a GGUF file.
fn chat_beside(path: &Path) -> Result<chat::Source> {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) {
        // A model that is not imported can have a tokenizer that is.
        return Ok(import::open(path, &Silent).map(|m| chat_source(&m)).unwrap_or_default());
    }
    match (path.is_dir(), path.parent()) {
        (true, _) => chat::Source::of_folder(path),
        (false, Some(folder)) => chat::Source::of_folder(folder),
        (false, None) => Ok(chat::Source::default()),
    }
}
