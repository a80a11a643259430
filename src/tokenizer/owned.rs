//! Text → ids and id → bytes over a checked blob.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::layout::{self, field, Layout, Literal, DECODE_STACK, LITERAL_MATCH, LITERAL_SPECIAL, LITERAL_WHOLE};
use super::words::View;
use super::TokenizerError;

/// A device tokenizer on the host: the definition of what a blob means.
#[derive(Debug, Clone)]
pub struct DeviceTokenizer {
    blob: Vec<u8>,
    layout: Layout,
    /// Bytes that start a literal to look for in the text.
    starts: [bool; 256],
    has_whole_words: bool,
}

/// Marks a symbol that was merged into its left neighbour. Ids are below 2^20.
const GONE: u32 = u32::MAX;

/// A word while it is merged: a doubly linked list over the positions of its bytes.
#[derive(Default)]
struct Word {
    ids: Vec<u32>,
    previous: Vec<u32>,
    next: Vec<u32>,
    /// `(rank, position, left, right)`, lowest rank first and then leftmost.
    queue: BinaryHeap<Reverse<(u32, u32, u32, u32)>>,
}

impl DeviceTokenizer {
    /// Checks `blob` (docs/format/tokenizer.md) and keeps a copy.
    ///
    /// Any bytes may be passed: nothing panics, and memory stays within a small multiple of
    /// the length.
    ///
    /// # Errors
    /// `Blob` with the offset and the rule that was broken.
    pub fn from_bytes(blob: &[u8]) -> Result<Self, TokenizerError> {
        let layout = layout::read(blob)?;
        let mut starts = [false; 256];
        let mut has_whole_words = false;
        for literal in &layout.literals {
            if literal.flags & LITERAL_MATCH != 0 {
                starts[usize::from(blob[literal.bytes.start])] = true;
            }
            has_whole_words |= literal.flags & LITERAL_WHOLE != 0;
        }
        Ok(Self { blob: blob.to_vec(), layout, starts, has_whole_words })
    }

    /// Number of ids, one more than the largest.
    pub fn vocab_size(&self) -> u32 {
        self.layout.vocab_size
    }

    /// Length in bytes of the longest token: what a buffer for `vocab_decode` needs.
    pub fn max_token_bytes(&self) -> usize {
        self.layout.max_token_bytes
    }

    pub fn work_words(&self) -> usize {
        0
    }

    pub fn max_ids(&self, n: usize) -> usize {
        2 * n + 16
    }

    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().filter_map(|id| self.decode_token(*id)).flatten().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ids the post-processor puts before a text; `encode` does not add them.
    pub fn prefix_ids(&self) -> &[u32] {
        &self.layout.prefix
    }

    /// Ids the post-processor puts after a text; `encode` does not add them.
    pub fn suffix_ids(&self) -> &[u32] {
        &self.layout.suffix
    }

    /// Whether `id` is a special token, which a reader of the text should not be shown.
    pub fn is_special(&self, id: u32) -> bool {
        let special = |literal: &Literal| literal.id == id && literal.flags & LITERAL_SPECIAL != 0;
        self.layout.literals.iter().any(special)
    }

    /// Ids of `text`, without the ids of the post-processor.
    ///
    /// `text` should be UTF-8; a byte that is not is a character of its own for the
    /// pre-tokenizer and otherwise a byte like any other. Bytes the vocabulary lacks are left
    /// out, as in the reference. Added tokens in the text are found first: leftmost, and of
    /// those the longest. Takes O(n log n) for n bytes.
    pub fn encode(&self, text: &[u8]) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut word = Word::default();
        let mut start = 0;
        let mut at = 0;
        while at < text.len() {
            match self.literal_at(&text[at..]) {
                Some(literal) => {
                    self.encode_segment(&text[start..at], &mut word, &mut ids);
                    ids.push(literal.id);
                    at += literal.bytes.len();
                    start = at;
                }
                None => at += 1,
            }
        }
        self.encode_segment(&text[start..], &mut word, &mut ids);
        ids
    }

    /// Bytes of one token, or `None` if `id` has none.
    ///
    /// Bytes are raw: a token may hold part of a UTF-8 sequence.
    pub fn decode_token(&self, id: u32) -> Option<Vec<u8>> {
        if let Some(literal) = self.layout.literals.iter().find(|literal| literal.id == id) {
            return Some(self.blob[literal.bytes.clone()].to_vec());
        }
        let mut out = Vec::new();
        let mut pending = Vec::new();
        let mut id = id;
        // Each turn adds a byte or a pending half, and both are bounded.
        loop {
            if let Some((left, right)) = self.halves(id) {
                if pending.len() == DECODE_STACK {
                    return None;
                }
                pending.push(right);
                id = left;
                continue;
            }
            let byte = self.byte_of(id)?;
            if out.len() == self.layout.max_token_bytes {
                return None;
            }
            out.push(byte);
            match pending.pop() {
                Some(right) => id = right,
                None => return Some(out),
            }
        }
    }

    /// Merges one word from its bytes, for the compiler's own checks.
    pub(super) fn merge_word(&self, bytes: &[u8]) -> Vec<u32> {
        let mut ids = Vec::new();
        let view = View { text: bytes, space: false };
        self.merge(view, 0, bytes.len(), &mut Word::default(), &mut ids);
        ids
    }

    /// The literal to take at the start of `text`: the first in the table that matches.
    fn literal_at(&self, text: &[u8]) -> Option<&Literal> {
        if !self.starts[usize::from(text[0])] {
            return None;
        }
        self.layout
            .literals
            .iter()
            .find(|literal| literal.flags & LITERAL_MATCH != 0 && text.starts_with(&self.blob[literal.bytes.clone()]))
    }

    fn encode_segment(&self, text: &[u8], word: &mut Word, ids: &mut Vec<u32>) {
        let layout = &self.layout;
        let segment = View { text, space: false };
        let mut at = 0;
        while at < text.len() {
            let end = layout.splitter.end(segment, at, &layout.classes);
            let piece = View { text: &text[at..end], space: layout.prefix_space && text[at] != b' ' };
            let mut start = 0;
            while start < piece.len() {
                let end = layout.words.end(piece, start, &layout.classes);
                match self.whole_word(piece, start, end) {
                    Some(id) => ids.push(id),
                    None => self.merge(piece, start, end, word, ids),
                }
                start = end;
            }
            at = end;
        }
    }

    fn whole_word(&self, view: View<'_>, start: usize, end: usize) -> Option<u32> {
        if !self.has_whole_words {
            return None;
        }
        let literals = self.layout.literals.iter();
        literals
            .filter(|literal| literal.flags & LITERAL_WHOLE != 0)
            .find(|literal| {
                let bytes = &self.blob[literal.bytes.clone()];
                bytes.len() == end - start && bytes.iter().zip(start..).all(|(&byte, at)| byte == view.byte(at))
            })
            .map(|literal| literal.id)
    }

    /// Appends the ids of one word: as long as any pair of neighbours has a merge, the merge
    /// of the lowest rank is made, the leftmost of equals first.
    fn merge(&self, view: View<'_>, start: usize, end: usize, word: &mut Word, out: &mut Vec<u32>) {
        let Word { ids, previous, next, queue } = word;
        ids.clear();
        ids.extend((start..end).filter_map(|at| self.byte_id(view.byte(at))));
        // One text is less than 2^32 bytes on a device; a longer word would take more than
        // 64 GB of queue here first.
        let length = ids.len() as u32;
        previous.clear();
        previous.extend((0..length).map(|at| at.wrapping_sub(1)));
        next.clear();
        next.extend(1..=length);
        queue.clear();
        for at in 1..ids.len() {
            let (left, right) = (ids[at - 1], ids[at]);
            if let Some(rank) = self.rank_of(left, right) {
                queue.push(Reverse((rank, at as u32 - 1, left, right)));
            }
        }
        while let Some(Reverse((rank, position, left, right))) = queue.pop() {
            let at = position as usize;
            let after = next[at];
            // Entries whose pair was merged away are left in the queue and skipped here.
            if ids[at] != left || after >= length || ids[after as usize] != right {
                continue;
            }
            let id = self.result_of(rank);
            ids[at] = id;
            ids[after as usize] = GONE;
            let after = next[after as usize];
            next[at] = after;
            if after < length {
                previous[after as usize] = position;
                let right = ids[after as usize];
                if let Some(rank) = self.rank_of(id, right) {
                    queue.push(Reverse((rank, position, id, right)));
                }
            }
            let before = previous[at];
            if before < length {
                let left = ids[before as usize];
                if let Some(rank) = self.rank_of(left, id) {
                    queue.push(Reverse((rank, before, left, id)));
                }
            }
        }
        out.extend(ids.iter().copied().filter(|&id| id != GONE));
    }

    fn byte_id(&self, byte: u8) -> Option<u32> {
        let run = self.layout.runs.iter().find(|run| byte >= run.byte && u32::from(byte - run.byte) < run.count)?;
        Some(run.id + u32::from(byte - run.byte))
    }

    fn byte_of(&self, id: u32) -> Option<u8> {
        let run = self.layout.runs.iter().find(|run| id >= run.id && id - run.id < run.count)?;
        // A checked run ends at byte 255 or before.
        Some(run.byte + (id - run.id) as u8)
    }

    fn pair(&self, rank: u32) -> (u32, u32) {
        let pairs = &self.blob[self.layout.pairs.clone()];
        let bits = self.layout.id_bits;
        (field(pairs, rank * 2, bits), field(pairs, rank * 2 + 1, bits))
    }

    /// Rank of the merge of a pair: binary search in the pairs' ascending order.
    fn rank_of(&self, left: u32, right: u32) -> Option<u32> {
        let order = &self.blob[self.layout.order.clone()];
        let (mut low, mut high) = (0, self.layout.merge_count);
        while low < high {
            let middle = low + (high - low) / 2;
            let rank = field(order, middle, self.layout.rank_bits);
            match self.pair(rank).cmp(&(left, right)) {
                std::cmp::Ordering::Equal => return Some(rank),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn result_of(&self, rank: u32) -> u32 {
        if self.layout.explicit {
            field(&self.blob[self.layout.results.clone()], rank, self.layout.id_bits)
        } else {
            self.layout.merge_base + rank
        }
    }

    /// The two ids `id` is made of.
    fn halves(&self, id: u32) -> Option<(u32, u32)> {
        let layout = &self.layout;
        let rank = if id >= layout.vocab_size {
            return None;
        } else if layout.explicit {
            field(&self.blob[layout.makers.clone()], id, layout.rank_bits)
        } else {
            id.checked_sub(layout.merge_base)?
        };
        (rank < layout.merge_count).then(|| self.pair(rank))
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
    for id in tokenizer.encode(text) {
        // A hostile blob may merge into ids that spell nothing; that is not an error.
        let _ = tokenizer.decode_token(id);
    }
    let last = tokenizer.vocab_size();
    for id in (0..last.min(64)).chain([last - 1, last, u32::MAX]) {
        let _ = (tokenizer.decode_token(id), tokenizer.is_special(id));
    }
}
