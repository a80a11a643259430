//! Tokenizers: the host's reference and the compact form for devices.

pub mod host;

use crate::error::{Error, Result};
use crate::format::packed::{Kind, Packed};
use host::HostTokenizer;

/// Whatever tokenizer an artifact carries.
pub enum TextCodec {
    Host(HostTokenizer),
}

impl TextCodec {
    /// The reference where its tokenizer.json is in the file, else the device form.
    ///
    /// # Errors
    /// `Unsupported` if the artifact has no tokenizer at all.
    pub fn of(packed: &Packed) -> Result<TextCodec> {
        if let Some(json) = packed.section(Kind::TokenizerJson) {
            return Ok(TextCodec::Host(HostTokenizer::from_json(json).map_err(|e| e.at_file(&packed.path))?));
        }
        Err(Error::unsupported("the model has no tokenizer, only token ids can be given")
            .at_file(&packed.path)
            .hint("`bitnet-convert logits FILE --input-ids 1,2,3` takes ids"))
    }

    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self {
            TextCodec::Host(h) => h.encode(text),
        }
    }

    /// Text of ids; special tokens are left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        match self {
            TextCodec::Host(h) => h.decode(ids),
        }
    }

    /// Turns ids into text as they come.
    pub fn stream(&self) -> host::Stream<'_> {
        match self {
            TextCodec::Host(h) => host::Stream::new(h),
        }
    }
}
