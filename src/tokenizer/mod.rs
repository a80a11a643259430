//! Tokenizers: the host's reference ([`host`]) and the device form, small enough for flash.
//!
//! [`load`] reads every kind of source as a Hugging Face `tokenizer.json`; [`compile`] turns that into one little-endian blob
//! (docs/format/tokenizer.md). [`DeviceTokenizer`] reads the blob on the host and is the definition of what it means; `bitnet_tokenizer.c` computes
//! the same ids on the chip.
//!
//! | file | does |
//! |---|---|
//! | `host` | the `tokenizers` crate and SentencePiece, the reference for every device form |
//! | `load` | files of every kind → `tokenizer.json` |
//! | `compile` | `tokenizer.json` → blob, refusing whatever the blob cannot say |
//! | `chat` | chat templates, and the form in which a device writes conversations |
//! | `check` | is the device form equal to the reference, on all texts that there are |
//! | `device` | text → ids and ids → text over a checked blob, without a heap: also the source of exported crates |
//! | `owned` | the same with a blob of its own |
//! | `charmap` | the character map of SentencePiece |
//! | `spm_text`, `spm_unigram` | what SentencePiece does to a text, and its unigram model, in its own arithmetic |
//! | `trim` | a smaller vocabulary, as a `tokenizer.json` again |

mod charmap;
pub mod chat;
pub mod check;
mod compile;
pub mod device;
#[cfg(test)]
mod device_tests;
pub mod host;
pub mod load;
mod owned;
mod spm_text;
mod spm_unigram;
pub mod trim;

pub use compile::{compile, MAGIC, MAX_VOCAB, VERSION};
pub use owned::{fuzz_device_blob, DeviceTokenizer};

use crate::error::{Error, Result};
use crate::format::packed::{Kind, Packed};
use host::HostTokenizer;
use std::path::Path;

/// The tokenizer of a file or folder of any kind, as the bytes of a `tokenizer.json`.
///
/// # Errors
/// As [`load::load`]; `Unsupported` where only the compiled form lies there.
pub fn load(path: &Path) -> Result<Vec<u8>> {
    let found = load::load(path)?;
    found.json.ok_or_else(|| Error::unsupported("there is only the compiled form of the tokenizer").at_file(path))
}

/// Why a tokenizer could not be compiled, or a blob not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    /// The file is not JSON of the shape of a `tokenizer.json`.
    #[error("tokenizer.json cannot be read: {0}")]
    Json(String),
    /// The file asks for something the device tokenizer does not do.
    #[error(
        "the device tokenizer does not support `{key}` = {value}: {reason}; \
         the model may be exported without a device tokenizer"
    )]
    Unsupported {
        /// Path of the key in `tokenizer.json`, e.g. `pre_tokenizer.type`.
        key: String,
        /// The value found there.
        value: String,
        /// What would have been accepted, or why not.
        reason: String,
    },
    /// The file contradicts itself; the reference tokenizer would refuse it or warn.
    #[error("tokenizer.json is inconsistent at `{key}`: {detail}")]
    Invalid {
        /// Path of the key in `tokenizer.json`.
        key: String,
        /// What is wrong, with the offending value.
        detail: String,
    },
    /// The bytes are not a device tokenizer of a version we read.
    #[error("not a valid device tokenizer: {what} at byte {offset}")]
    Blob {
        /// Offset from the start of the blob, in bytes.
        offset: usize,
        /// The rule that was broken.
        what: &'static str,
    },
}

impl From<TokenizerError> for Error {
    fn from(e: TokenizerError) -> Error {
        match &e {
            TokenizerError::Unsupported { .. } => {
                Error::unsupported(e.to_string()).hint("add `--no-tokenizer`; the application then feeds token ids")
            }
            TokenizerError::Blob { offset, .. } => Error::input(e.to_string()).at_offset(*offset as u64),
            _ => Error::input(e.to_string()),
        }
    }
}

/// Whatever tokenizer an artifact carries.
pub enum TextCodec {
    Host(Box<HostTokenizer>),
    Device(Box<DeviceTokenizer>),
}

impl TextCodec {
    /// The reference where its tokenizer.json is in the file, else the device form.
    ///
    /// # Errors
    /// `Unsupported` if the artifact has no tokenizer at all.
    pub fn of(packed: &Packed) -> Result<TextCodec> {
        if let Some(json) = packed.section(Kind::TokenizerJson) {
            let host = HostTokenizer::from_json(json).map_err(|e| e.at_file(&packed.path))?;
            return Ok(TextCodec::Host(Box::new(host)));
        }
        if let Some(blob) = packed.section(Kind::Tokenizer) {
            let device = DeviceTokenizer::from_bytes(blob).map_err(|e| Error::from(e).at_file(&packed.path))?;
            return Ok(TextCodec::Device(Box::new(device)));
        }
        Err(Error::unsupported("the model has no tokenizer, only token ids can be given")
            .at_file(&packed.path)
            .hint("`bitnet-convert logits FILE --input-ids 1,2,3` takes ids"))
    }

    /// Ids of a text, with those that the tokenizer's template puts around it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self {
            TextCodec::Host(h) => h.encode(text),
            TextCodec::Device(d) => {
                Ok([d.prefix_ids(), &d.encode_as_stated(text.as_bytes())?, d.suffix_ids()].concat())
            }
        }
    }

    /// Ids of a text that goes on after others: without what the template puts around a first one.
    pub fn encode_more(&self, text: &str) -> Result<Vec<u32>> {
        match self {
            TextCodec::Host(h) => h.encode_more(text),
            TextCodec::Device(d) => Ok(d.encode_as_stated(text.as_bytes())?),
        }
    }

    /// Text of ids; special tokens are left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        match self {
            TextCodec::Host(h) => h.decode(ids),
            TextCodec::Device(d) => Ok(d.decode(ids)),
        }
    }

    /// Turns ids into text as they come.
    pub fn stream(&self) -> Stream<'_> {
        Stream { codec: self, ids: Vec::new(), from: 0, given: String::new() }
    }
}

/// Gives out text as soon as it is certain. What could still change with the next id (half a character) is held back.
pub struct Stream<'a> {
    codec: &'a TextCodec,
    ids: Vec<u32>,
    /// Ids before this one are context only: their text has been given out.
    from: usize,
    given: String,
}

impl Stream<'_> {
    /// The text that this id completes; may be empty.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let text = self.codec.decode(&self.ids[self.from..])?;
        if text.ends_with('\u{FFFD}') {
            return Ok(String::new());
        }
        let new = text.strip_prefix(self.given.as_str()).unwrap_or("").to_string();
        // The last id stays as context, because some tokenizers decode a token differently at the start.
        self.from = self.ids.len() - 1;
        self.given = self.codec.decode(&self.ids[self.from..])?;
        Ok(new)
    }
}
