//! The host's tokenizer: the `tokenizers` crate, the reference for every device form.

use crate::error::{Error, Result};
use std::cell::Cell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use tokenizers::ModelWrapper;

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

pub struct HostTokenizer(tokenizers::Tokenizer);

impl HostTokenizer {
    /// # Errors
    /// `Input` if the reference library does not take the file.
    pub fn from_json(json: &[u8]) -> Result<HostTokenizer> {
        let read = || {
            let mut t = tokenizers::Tokenizer::from_bytes(json)?;
            // Settings of training: texts come whole, alone and the same way every time.
            t.with_padding(None).with_truncation(None)?;
            if let ModelWrapper::BPE(bpe) = t.get_model() {
                if bpe.dropout.is_some() {
                    let mut bpe = bpe.clone();
                    bpe.dropout = None;
                    t.with_model(bpe);
                }
            }
            Ok(HostTokenizer(t))
        };
        guard(read, "the tokenizer cannot be read")
    }

    /// Ids of a text; special tokens inside the text are recognised, and those of the template are added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        guard(|| Ok(self.0.encode(text, true)?.get_ids().to_vec()), "the text cannot be tokenized")
    }

    /// As [`HostTokenizer::encode`] without those of the template.
    pub fn encode_more(&self, text: &str) -> Result<Vec<u32>> {
        guard(|| Ok(self.0.encode(text, false)?.get_ids().to_vec()), "the text cannot be tokenized")
    }

    /// Text of ids, special tokens left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        guard(|| self.0.decode(ids, true), "the ids cannot be decoded")
    }

    /// Number of entries, added tokens included.
    pub fn size(&self) -> usize {
        self.0.get_vocab_size(true)
    }

    /// A token as the vocabulary spells it (`Ġthe`).
    pub fn spelling(&self, id: u32) -> Option<String> {
        self.0.id_to_token(id)
    }

    /// Where in the text each id of [`HostTokenizer::encode`] starts, in bytes; None if the reference does not say.
    pub fn offsets(&self, text: &str) -> Option<Vec<usize>> {
        let encoding = guard(|| self.0.encode(text, true), "the text cannot be tokenized").ok()?;
        Some(encoding.get_offsets().iter().map(|(start, _)| *start).collect())
    }
}
