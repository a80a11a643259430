//! The device tokenizer: the definition of what a blob means (docs/format/tokenizer.md, version 2).
//!
//! No heap, no `unsafe`, nothing but `core`: the host runs these files, and an exported Rust crate is given the very same ones.

pub mod bits;
pub mod bpe;
pub mod chat;
pub mod classes;
pub mod decode;
pub mod layout;
pub mod merges;
pub mod normal;
pub mod normal_map;
pub mod parts;
pub mod pieces;
pub mod text;
pub mod unigram;
pub mod wordpiece;
pub mod words;

pub use bits::Span;
pub use layout::Layout;

use classes::Range;
use layout::Model;
use text::{Cursor, End, Found, Literal, Out, Segment, Stream, Which, Word};

/// A rule of the format that a blob breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bad {
    /// Offset from the start of the blob, in bytes.
    pub at: u32,
    /// The rule.
    pub what: &'static str,
}

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not a tokenizer.
    Magic,
    /// Another version of the format.
    Version,
    /// A blob that breaks a rule.
    Format(Bad),
    /// The blob needs a part that this build leaves out.
    Feature,
    /// The room for ids or bytes is too small.
    Capacity,
    /// The scratch memory is too small.
    Work,
    /// An id without a meaning.
    Token,
}

impl From<Bad> for Fault {
    fn from(bad: Bad) -> Fault {
        Fault::Format(bad)
    }
}

/// A checked blob.
#[derive(Debug, Clone, Copy)]
pub struct Tokenizer<'a> {
    /// All of it.
    pub blob: &'a [u8],
    /// What was found when it was opened.
    pub layout: &'a Layout,
}

/// Longest text, so that offsets fit everywhere.
const MAX_TEXT: usize = 1 << 31;

impl<'a> Tokenizer<'a> {
    /// Writes the ids of a text, without those of the template; their number.
    ///
    /// `text` should be UTF-8; a byte that is not is a character of its own. As many free ids as the text has bytes, times
    /// [`Layout::growth`] / 16, and 16 more are enough. Time grows with the length of the text, whatever it is.
    ///
    /// # Errors
    /// `Work` if `work` has less than [`Layout::work`] words, or the text needs more; `Capacity` if `ids` is too short.
    pub fn encode(&self, text: &[u8], ids: &mut [u32], work: &mut [u32]) -> Result<usize, Fault> {
        if text.len() >= MAX_TEXT {
            return Err(Fault::Capacity);
        }
        if work.len() < self.layout.work as usize {
            return Err(Fault::Work);
        }
        let mut out = Out::new(ids);
        let mut from = 0;
        let cut = self.layout.literals.any(Which::Raw);
        while let Some(found) = cut.then(|| self.next_raw(text, from)).flatten() {
            let to = found.from.at as usize;
            self.segment(text, from..to, work, &mut out)?;
            out.put(found.id)?;
            from = found.to.at as usize;
        }
        self.segment(text, from..text.len(), work, &mut out)?;
        Ok(out.count())
    }

    /// The next literal of the text as it is.
    fn next_raw(&self, text: &'a [u8], from: usize) -> Option<Found> {
        let segment = Segment { text, first: true, last: true };
        let mut stream = Stream { t: *self, segment, raw: true, seen: Range::default() };
        stream.find(Cursor { at: from as u32, ..Cursor::default() }, Which::Raw)
    }

    /// Text between two raw literals: normalized, and cut at the literals of normalized text.
    fn segment(
        &self,
        text: &[u8],
        range: core::ops::Range<usize>,
        work: &mut [u32],
        out: &mut Out<'_>,
    ) -> Result<(), Fault> {
        let (first, last) = (range.start == 0, range.end == text.len());
        let segment = Segment { text: text.get(range).unwrap_or(&[]), first, last };
        let mut stream = Stream { t: *self, segment, raw: false, seen: Range::default() };
        let mut from = Cursor::default();
        let cut = self.layout.literals.any(Which::Normalized);
        while let Some(found) = cut.then(|| stream.find(from, Which::Normalized)).flatten() {
            self.piece(&mut stream, from, Some(found.from), work, out)?;
            out.put(found.id)?;
            from = found.to;
        }
        self.piece(&mut stream, from, None, work, out)
    }

    /// Text between literals: cut into parts and these into words.
    fn piece(
        &self,
        s: &mut Stream<'_>,
        mut from: Cursor,
        end: End,
        work: &mut [u32],
        out: &mut Out<'_>,
    ) -> Result<(), Fault> {
        while let Some(code) = s.peek(from, end) {
            let (to, kept) = words::part(s, from, end);
            if kept {
                let (mut at, mut first) = (from, true);
                let in_front = match self.layout.cuts.front {
                    0 => false,
                    1 => true,
                    _ => s.segment.first && from == Cursor::default(),
                };
                at.front = in_front && code != self.layout.front_character();
                while s.peek(at, to).is_some() {
                    let stop = words::word(s, at, to);
                    self.word(s, Word { from: at, to: stop }, first, work, out)?;
                    first = false;
                    match stop {
                        Some(stop) => at = stop,
                        None => break,
                    }
                }
            }
            match to {
                Some(to) => from = to,
                None => break,
            }
        }
        Ok(())
    }

    fn word(
        &self,
        s: &mut Stream<'_>,
        word: Word,
        first: bool,
        work: &mut [u32],
        out: &mut Out<'_>,
    ) -> Result<(), Fault> {
        if self.layout.literals.any(Which::Whole) {
            if let Some(id) = s.whole(word) {
                return out.put(id);
            }
        }
        match self.layout.model {
            Model::Bytes | Model::Characters if parts::BPE => bpe::word(s, word, work, out),
            Model::Unigram if parts::UNIGRAM => unigram::word(s, word, first, work, out),
            Model::WordPiece if parts::WORDPIECE => wordpiece::word(s, word, work, out),
            _ => Err(Fault::Feature),
        }
    }

    /// Ids that the template puts before a text, or after it.
    pub fn template(&self, after: bool) -> impl Iterator<Item = u32> + 'a {
        self.layout.template[usize::from(after)].of(self.blob).chunks_exact(4).map(|id| bits::le(id, 0, 4))
    }

    /// The literals in the order of the table, longest first.
    pub fn literals(&self) -> impl Iterator<Item = Literal<'a>> {
        let mut rest = self.layout.literals.entries.of(self.blob);
        core::iter::from_fn(move || {
            let (head, behind) = rest.split_at_checked(6)?;
            let (bytes, mut behind) = behind.split_at_checked(bits::le(head, 4, 2) as usize)?;
            let (id, flags, mut shown) = (bits::le(head, 0, 3), head[3], bytes);
            if flags & layout::HIDDEN != 0 {
                let (length, more) = behind.split_at_checked(2)?;
                (shown, behind) = more.split_at_checked(bits::le(length, 0, 2) as usize)?;
            }
            rest = behind;
            Some(Literal { id, flags, bytes, shown })
        })
    }
}
