//! The host's tokenizer, the reference for every device form: the `tokenizers` crate, and for models of SentencePiece what that crate does
//! otherwise.

use super::spm_text::Spm;
use crate::error::{Error, Result};
use serde_json::Value;
use std::cell::Cell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use tokenizers::{Encoding, ModelWrapper, Token};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside the reference library, where a panic becomes an error.
pub fn guarded() -> bool {
    GUARDED.get()
}

/// The library panics on some contradictory files (a template without its token, an empty pattern); that is the file's fault.
fn guard<T>(f: impl FnOnce() -> tokenizers::Result<T>, what: &str) -> Result<T> {
    GUARDED.set(true);
    let r = catch_unwind(AssertUnwindSafe(f));
    GUARDED.set(false);
    match r {
        Ok(r) => r.map_err(|e| Error::input(format!("{what}: {e}"))),
        Err(_) => Err(Error::input(format!("{what}: the tokenizer contradicts itself"))),
    }
}

pub struct HostTokenizer {
    library: tokenizers::Tokenizer,
    /// Where the file was made from a SentencePiece model.
    spm: Option<Spm>,
}

impl HostTokenizer {
    /// # Errors
    /// `Input` if the reference library does not take the file.
    pub fn from_json(json: &[u8]) -> Result<HostTokenizer> {
        let mut file: Value = serde_json::from_slice(json).unwrap_or_default();
        let spm = Spm::from_json(&file)?;
        let own = spm.as_ref().map(|_| {
            file["normalizer"] = Value::Null;
            file.to_string()
        });
        let read = || {
            let mut t = tokenizers::Tokenizer::from_bytes(own.as_ref().map_or(json, |own| own.as_bytes()))?;
            // Settings of training: texts come whole, alone and the same way every time.
            t.with_padding(None).with_truncation(None)?;
            if let ModelWrapper::BPE(bpe) = t.get_model() {
                if bpe.dropout.is_some() {
                    let mut bpe = bpe.clone();
                    bpe.dropout = None;
                    t.with_model(bpe);
                }
            }
            Ok(t)
        };
        Ok(HostTokenizer { library: guard(read, "the tokenizer cannot be read")?, spm })
    }

    fn encoding(&self, text: &str, template: bool) -> Result<Encoding> {
        let encode = || match &self.spm {
            Some(spm) => {
                let ids = spm.encode(text, self.library.get_model())?;
                let tokens = ids.into_iter().map(|id| Token::new(id, String::new(), (0, 0))).collect();
                self.library.post_process(Encoding::from_tokens(tokens, 0), None, template)
            }
            // Without offsets, which nobody asks for here.
            None => self.library.encode_fast(text, template),
        };
        guard(encode, "the text cannot be tokenized")
    }

    /// Ids of a text; special tokens inside the text are recognised (SentencePiece does not), and those of the template are added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.encoding(text, true)?.get_ids().to_vec())
    }

    /// As [`HostTokenizer::encode`] without those of the template.
    pub fn encode_more(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.encoding(text, false)?.get_ids().to_vec())
    }

    /// Text of ids, special tokens left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        match &self.spm {
            Some(spm) => Ok(spm.decode(ids, |id| self.spelling(id))),
            None => guard(|| self.library.decode(ids, true), "the ids cannot be decoded"),
        }
    }

    /// Number of entries, added tokens included.
    pub fn size(&self) -> usize {
        self.library.get_vocab_size(true)
    }

    /// A token as the vocabulary spells it (`Ġthe`).
    pub fn spelling(&self, id: u32) -> Option<String> {
        self.library.id_to_token(id)
    }

    /// Where in the text each id of [`HostTokenizer::encode`] starts, in bytes; None if the reference does not say.
    pub fn offsets(&self, text: &str) -> Option<Vec<usize>> {
        if self.spm.is_some() {
            return None;
        }
        let encoding = guard(|| self.library.encode(text, true), "the text cannot be tokenized").ok()?;
        Some(encoding.get_offsets().iter().map(|(start, _)| *start).collect())
    }
}
