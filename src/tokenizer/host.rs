//! The host's tokenizer: the `tokenizers` crate, the reference for every device form.

use crate::error::{Error, Result};

pub struct HostTokenizer(tokenizers::Tokenizer);

impl HostTokenizer {
    /// # Errors
    /// `Input` if the reference library does not take the file.
    pub fn from_json(json: &[u8]) -> Result<HostTokenizer> {
        tokenizers::Tokenizer::from_bytes(json)
            .map(HostTokenizer)
            .map_err(|e| Error::input(format!("the tokenizer cannot be read: {e}")))
    }

    /// Ids of a text; special tokens inside the text are recognised, and those of the template are added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let e = self.0.encode(text, true).map_err(|e| Error::input(format!("the text cannot be tokenized: {e}")))?;
        Ok(e.get_ids().to_vec())
    }

    /// Text of ids, special tokens left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.0.decode(ids, true).map_err(|e| Error::input(format!("the ids cannot be decoded: {e}")))
    }
}
