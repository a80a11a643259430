//! The device tokenizer on the host: the files of [`super::device`] over a blob of its own.

use super::device::decode::Decoder;
use super::device::{Fault, Layout, Tokenizer};
use super::TokenizerError;

/// A device tokenizer on the host: a checked blob, and what the definition of the format makes of it.
#[derive(Debug, Clone)]
pub struct DeviceTokenizer {
    blob: Vec<u8>,
    layout: Layout,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
}

impl From<Fault> for TokenizerError {
    fn from(fault: Fault) -> TokenizerError {
        let (offset, what) = match fault {
            Fault::Magic => (0, "other first bytes than BNTK"),
            Fault::Version => (4, "another version than 2"),
            Fault::Format(bad) => (bad.at as usize, bad.what),
            Fault::Feature => (22, "needs a part that is not built in"),
            Fault::Capacity | Fault::Work => (16, "needs more memory than it says"),
            Fault::Token => (12, "id without a meaning"),
        };
        TokenizerError::Blob { offset, what }
    }
}

impl DeviceTokenizer {
    /// Checks `blob` (docs/format/tokenizer.md) and keeps a copy.
    ///
    /// Any bytes may be passed: nothing panics.
    ///
    /// # Errors
    /// `Blob` with the offset and the rule that was broken.
    pub fn from_bytes(blob: &[u8]) -> Result<Self, TokenizerError> {
        let layout = Layout::open(blob)?;
        let tokenizer = Tokenizer { blob, layout: &layout };
        let [prefix, suffix] = [false, true].map(|after| tokenizer.template(after).collect());
        Ok(Self { blob: blob.to_vec(), layout, prefix, suffix })
    }

    fn view(&self) -> Tokenizer<'_> {
        Tokenizer { blob: &self.blob, layout: &self.layout }
    }

    /// Number of ids, one more than the largest.
    pub fn vocab_size(&self) -> u32 {
        self.layout.vocab
    }

    /// Length in bytes of the longest token: what a buffer for `vocab_decode` needs.
    pub fn max_token_bytes(&self) -> usize {
        self.layout.longest as usize
    }

    /// Words of scratch that a device needs to turn text into ids.
    pub fn work_words(&self) -> usize {
        self.layout.work as usize
    }

    /// Most ids that a text of so many bytes becomes.
    pub fn max_ids(&self, bytes: usize) -> usize {
        (bytes as u64 * u64::from(self.layout.growth)).div_ceil(16) as usize + 16
    }

    /// Ids the post-processor puts before a text; `encode` does not add them.
    pub fn prefix_ids(&self) -> &[u32] {
        &self.prefix
    }

    /// Ids the post-processor puts after a text; `encode` does not add them.
    pub fn suffix_ids(&self) -> &[u32] {
        &self.suffix
    }

    /// Whether `id` is a special token, which a reader of the text should not be shown.
    pub fn is_special(&self, id: u32) -> bool {
        self.view().is_special(id)
    }

    /// Ids of `text`, without the ids of the post-processor.
    ///
    /// `text` should be UTF-8; a byte that is not is a character of its own. Added tokens in the text are found first: leftmost, and of
    /// those the longest. Takes time in proportion to the length. Where a device would give up (a word whose tokens depend on more
    /// text than its scratch holds, a damaged blob that becomes more ids than it says), this goes on with more memory.
    pub fn encode(&self, text: &[u8]) -> Vec<u32> {
        let mut ids = vec![0; text.len() + 16];
        let mut work = vec![0; self.work_words()];
        loop {
            match self.view().encode(text, &mut ids, &mut work) {
                Ok(count) => {
                    ids.truncate(count);
                    return ids;
                }
                Err(Fault::Capacity) if ids.len() <= text.len().saturating_mul(self.blob.len()) => {
                    ids.resize(2 * ids.len(), 0);
                }
                // A window as long as the text is always enough.
                Err(Fault::Work) if work.len() <= text.len().saturating_mul(self.blob.len()) => {
                    work.resize(2 * work.len() + 1, 0);
                }
                Err(_) => return Vec::new(),
            }
        }
    }

    /// As [`DeviceTokenizer::encode`], with no more memory than the blob says that a device needs.
    ///
    /// # Errors
    /// `Blob` if that is not enough: the blob is damaged, or what wrote it is wrong.
    pub fn encode_as_stated(&self, text: &[u8]) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = vec![0; self.max_ids(text.len())];
        let mut work = vec![0; self.work_words()];
        let count = self.view().encode(text, &mut ids, &mut work)?;
        ids.truncate(count);
        Ok(ids)
    }

    /// Bytes of one token, or `None` if `id` has none.
    ///
    /// Bytes are raw: a token may hold part of a UTF-8 sequence.
    pub fn decode_token(&self, id: u32) -> Option<Vec<u8>> {
        // A literal of a damaged blob may be longer than the blob says, and no longer than its length can.
        [self.max_token_bytes(), usize::from(u16::MAX)].into_iter().find_map(|room| {
            let mut bytes = vec![0; room];
            let count = self.view().token(id, &mut bytes).ok()?;
            bytes.truncate(count);
            Some(bytes)
        })
    }

    /// Text of ids. Special tokens and ids without a meaning are left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut buffer = vec![0; 3 * self.max_token_bytes() + 10];
        let mut bytes = Vec::new();
        let mut decoder = Decoder::default();
        for id in ids.iter().filter(|id| !self.is_special(**id)) {
            let count = decoder.push(self.view(), *id, &mut buffer).unwrap_or(0);
            bytes.extend_from_slice(&buffer[..count]);
        }
        let count = decoder.end(self.view(), &mut buffer).unwrap_or(0);
        bytes.extend_from_slice(&buffer[..count]);
        // Whole characters only come out, so that nothing is replaced here.
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Body of a fuzz target: two bytes little-endian say how long the blob is, the rest is text.
///
/// Whatever the bytes, this returns without a panic.
pub fn fuzz_device_blob(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let (blob, text) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    let Ok(tokenizer) = DeviceTokenizer::from_bytes(blob) else {
        return;
    };
    let ids = tokenizer.encode(text);
    // A reader gives up on a token after so many bytes, each found on a cycle that is as long as the blob in the worst case: bounded, but not
    // what a fuzzer should spend its time on.
    if blob.len() * tokenizer.max_token_bytes() > 1 << 24 {
        return;
    }
    // A hostile blob may merge into ids that spell nothing; that is not an error.
    let _ = tokenizer.decode(&ids);
    let last = tokenizer.vocab_size();
    for id in (0..last.min(64)).chain([last - 1, last, u32::MAX]) {
        let _ = (tokenizer.decode_token(id), tokenizer.is_special(id));
    }
}
