//! Where a tokenizer comes from: the text form, the compiled form, or both.

use crate::error::{Error, Result};
use crate::format::packed::{self, Kind, Packed};
use crate::fsio::read_capped;
use crate::import;
use crate::progress::Silent;
use crate::tokenizer::host::HostTokenizer;
use crate::tokenizer::{self, compile, DeviceTokenizer};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest file that only holds a compiled tokenizer.
const LARGEST_BLOB: u64 = 64 << 20;

/// What was found at a path.
pub struct Source {
    pub path: PathBuf,
    /// As `tokenizer.json`, whatever the file is.
    pub json: Option<Vec<u8>>,
    /// The compiled form that lies there.
    pub compiled: Option<Vec<u8>>,
    /// Bytes of the file or files that the text form was read from.
    pub bytes: Option<u64>,
}

fn starts_with(path: &Path, magic: &[u8]) -> bool {
    let mut start = vec![0; magic.len()];
    path.is_file() && std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut start)).is_ok() && start == magic
}

impl Source {
    /// # Errors
    /// `Io` if nothing can be read there, `Input` for a damaged file, `Unsupported` for one that holds no tokenizer.
    pub fn open(path: &Path) -> Result<Source> {
        let model = path.join("model.bin");
        let file = if model.is_file() { model.as_path() } else { path };
        if starts_with(file, &packed::MAGIC) {
            return Source::of_packed(file);
        }
        if starts_with(path, &tokenizer::MAGIC) {
            let blob = read_capped(path, LARGEST_BLOB)?;
            return Ok(Source { path: path.into(), json: None, compiled: Some(blob), bytes: None });
        }
        if path.extension().is_some_and(|e| e == "gguf") {
            let json = import::open(path, &Silent)?
                .tokenizer_json
                .ok_or_else(|| Error::unsupported("this file has no tokenizer that can be read").at_file(path))?;
            return Ok(Source { path: path.into(), bytes: Some(json.len() as u64), json: Some(json), compiled: None });
        }
        let json = tokenizer::load(path)?;
        Ok(Source { path: path.into(), bytes: size(path), json: Some(json), compiled: None })
    }

    fn of_packed(path: &Path) -> Result<Source> {
        let packed = Packed::open(path)?;
        let json = packed.section(Kind::TokenizerJson).map(<[u8]>::to_vec);
        let compiled = packed.section(Kind::Tokenizer).map(<[u8]>::to_vec);
        if json.is_none() && compiled.is_none() {
            return Err(Error::unsupported("the model has no tokenizer, only token ids can be given").at_file(path));
        }
        let bytes = json.as_ref().map(|j| j.len() as u64);
        Ok(Source { path: path.into(), json, compiled, bytes })
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

/// Bytes of what was read: of a folder, its tokenizer files.
fn size(path: &Path) -> Option<u64> {
    let bytes = |p: &Path| std::fs::metadata(p).ok().filter(|m| m.is_file()).map(|m| m.len());
    if !path.is_dir() {
        return bytes(path);
    }
    let one = ["tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt"];
    one.iter().find_map(|n| bytes(&path.join(n))).or_else(|| {
        let two = ["vocab.json", "merges.txt"].map(|n| bytes(&path.join(n)));
        two.into_iter().sum()
    })
}
