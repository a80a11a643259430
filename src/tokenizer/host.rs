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

/// Turns ids into text as they come. What could still change with the next id (half a character) is held back.
pub struct Stream<'a> {
    tokenizer: &'a HostTokenizer,
    ids: Vec<u32>,
    /// Ids before this one are context only: their text has been given out.
    from: usize,
    given: String,
}

impl<'a> Stream<'a> {
    pub fn new(tokenizer: &'a HostTokenizer) -> Self {
        Stream { tokenizer, ids: Vec::new(), from: 0, given: String::new() }
    }

    /// The text that this id completes; may be empty.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids[self.from..])?;
        if text.ends_with('\u{FFFD}') {
            return Ok(String::new());
        }
        let new = text.strip_prefix(self.given.as_str()).unwrap_or("").to_string();
        // The last id stays as context, because some tokenizers decode a token differently at the start.
        self.from = self.ids.len() - 1;
        self.given = self.tokenizer.decode(&self.ids[self.from..])?;
        Ok(new)
    }
}
