//! Text to token ids and back, over the tokenizer of a model: [`crate::device`] with the statuses of this crate.

use crate::device::chat::Chat;
use crate::device::{self, decode, Fault, Layout};
use crate::status::{Result, Status};

impl From<Fault> for Status {
    fn from(fault: Fault) -> Status {
        match fault {
            Fault::Magic => Status::Magic,
            Fault::Version => Status::Version,
            Fault::Format(_) => Status::Format,
            Fault::Feature => Status::Feature,
            Fault::Capacity | Fault::Work => Status::Capacity,
            Fault::Token => Status::Token,
        }
    }
}

/// The tokenizer of a model, checked whole when it is opened and read in place.
#[derive(Debug, Clone, Copy)]
pub struct Tokenizer<'a> {
    blob: &'a [u8],
    layout: Layout,
}

impl<'a> Tokenizer<'a> {
    pub(crate) fn open(blob: &'a [u8]) -> Result<Tokenizer<'a>> {
        Ok(Tokenizer { blob, layout: Layout::open(blob)? })
    }

    /// What the definition of the format works on.
    pub fn device(&self) -> device::Tokenizer<'_> {
        device::Tokenizer { blob: self.blob, layout: &self.layout }
    }

    /// Words of scratch that [`Tokenizer::encode`] needs.
    pub fn work_words(&self) -> usize {
        self.layout.work as usize
    }

    /// Room that [`Tokenizer::decode`] needs.
    pub fn max_token_bytes(&self) -> usize {
        self.layout.longest as usize
    }

    /// Most ids that a text of so many bytes becomes.
    pub fn max_ids(&self, bytes: usize) -> usize {
        bytes.saturating_mul(self.layout.growth as usize) / 16 + 17
    }

    /// Writes the ids of a text; their number. [`Tokenizer::max_ids`] free ids are enough. Bytes that are not UTF-8 are allowed. Work grows
    /// with the length of the text.
    ///
    /// # Errors
    /// `Capacity` if `ids` or `work` is too short.
    pub fn encode(&self, text: &[u8], ids: &mut [u32], work: &mut [u32]) -> Result<usize> {
        Ok(self.device().encode(text, ids, work)?)
    }

    /// Writes the ids that the model wants before a text, or after it; [`Tokenizer::encode`] does not add them.
    ///
    /// # Errors
    /// `Capacity`
    pub fn template(&self, after: bool, ids: &mut [u32]) -> Result<usize> {
        let mut n = 0;
        for id in self.device().template(after) {
            *ids.get_mut(n).ok_or(Status::Capacity)? = id;
            n += 1;
        }
        Ok(n)
    }

    /// Whether a token is one that a reader of the text should not be shown.
    pub fn is_special(&self, id: u32) -> bool {
        self.device().is_special(id)
    }

    /// How conversations are written, if the model has a form for them: [`crate::device::chat`].
    pub fn chat(&self) -> Option<Chat<'_>> {
        self.device().chat()
    }

    /// Writes the bytes of one token on its own; their number. They may hold a part of a UTF-8 sequence. For a text see [`Decoder`].
    ///
    /// # Errors
    /// `Token` if the id has no meaning, `Capacity`: [`Tokenizer::max_token_bytes`] always do.
    pub fn decode(&self, id: u32, out: &mut [u8]) -> Result<usize> {
        Ok(self.device().token(id, out)?)
    }
}

/// Turns ids into text as they come, in whole characters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decoder(decode::Decoder);

impl Decoder {
    /// At the start of a text.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Writes the text that this id completes; the number of bytes. Special tokens are text too, leave out those you do not want.
    ///
    /// # Errors
    /// `Token` if the id has no meaning; `Capacity`: three times [`Tokenizer::max_token_bytes`] and ten more always do. The id may be given
    /// again then.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32, out: &mut [u8]) -> Result<usize> {
        Ok(self.0.push(tokenizer.device(), id, out)?)
    }

    /// Writes what is left at the end of a text, at most nine bytes.
    ///
    /// # Errors
    /// `Capacity`
    pub fn end(&mut self, tokenizer: &Tokenizer, out: &mut [u8]) -> Result<usize> {
        Ok(self.0.end(tokenizer.device(), out)?)
    }
}
