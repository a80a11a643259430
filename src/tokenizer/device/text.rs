//! Text as characters: what every stage sees, walked with cursors so that nothing has to be stored.

use super::classes::{self, is_white};
use super::layout::{LSTRIP, MATCH, NORMALIZED, RSTRIP, WHOLE};
use super::{normal, Fault, Tokenizer};

/// A character that is none: the byte b, not part of a well-formed sequence, is `STRAY + b`.
pub const STRAY: u32 = 0x11_0000;

/// A place in a stream. Copies are free; two cursors of one stream are at the same place if and only if they are equal, which asks of
/// whoever moves them that the fields depend on the characters given so far and on nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    /// Offset in the segment of the unit that is being given, in bytes.
    pub at: u32,
    /// Characters of that unit already given.
    pub step: u32,
    /// What the normalizer has to remember between two characters.
    pub state: u32,
    /// What it need not find again: follows from the other three.
    pub kept: u32,
    /// Whether the virtual character in front is still to come.
    pub front: bool,
}

impl PartialEq for Cursor {
    fn eq(&self, other: &Cursor) -> bool {
        (self.at, self.step, self.state, self.front) == (other.at, other.step, other.state, other.front)
    }
}

/// Where something ends; None is the end of the stream.
pub type End = Option<Cursor>;

/// Text between two raw literals.
#[derive(Debug, Clone, Copy, Default)]
pub struct Segment<'a> {
    /// Its bytes, less than 2^31.
    pub text: &'a [u8],
    /// Whether it starts at offset 0 of the text.
    pub first: bool,
    /// Whether it ends at the end of the text.
    pub last: bool,
}

/// Characters of a segment as the normalizer gives them.
pub struct Stream<'a> {
    /// The tokenizer.
    pub t: Tokenizer<'a>,
    /// What is read.
    pub segment: Segment<'a>,
    /// Whether the normalizer is left out: the stream is the text.
    pub raw: bool,
    /// Range of the class table in which the last character was found.
    pub seen: super::classes::Range,
}

impl<'a> Stream<'a> {
    /// The next character, or None at the end of the segment. A stray byte is [`STRAY`] + byte.
    pub fn next(&mut self, cursor: &mut Cursor) -> Option<u32> {
        if cursor.front {
            cursor.front = false;
            return Some(self.t.layout.front_character());
        }
        if !self.raw && self.t.layout.normal.present {
            return normal::next(self.t, self.segment, cursor);
        }
        let (code, length) = character(self.segment.text.get(cursor.at as usize..)?)?;
        cursor.at += length;
        Some(code)
    }

    /// The next character before `end`.
    pub fn next_before(&mut self, cursor: &mut Cursor, end: End) -> Option<u32> {
        if end == Some(*cursor) {
            return None;
        }
        self.next(cursor)
    }

    /// The character at a cursor, which stays.
    pub fn peek(&mut self, cursor: Cursor, end: End) -> Option<u32> {
        self.next_before(&mut { cursor }, end)
    }

    /// Class of a character.
    pub fn class(&mut self, code: u32) -> u8 {
        if code >= STRAY {
            return classes::OTHER;
        }
        if code < self.seen.first || code >= self.seen.end {
            let found = classes::find(self.t.layout.classes.of(self.t.blob), code);
            if code < 0x80 {
                // A few steps, and a space keeps the range in use.
                return found.class;
            }
            self.seen = found;
        }
        self.seen.class
    }

    /// The cursor behind `bytes`, if the characters before `end` start with them.
    fn behind(&mut self, mut at: Cursor, end: End, bytes: &[u8]) -> Option<Cursor> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = rest.strip_prefix(Utf8::of(self.next_before(&mut at, end)?).bytes())?;
        }
        Some(at)
    }

    /// The first literal in the table with these flags at `at`: its flags and id, and the place behind it.
    fn literal_at(&mut self, at: Cursor, end: End, which: Which) -> Option<(Literal<'a>, Cursor)> {
        let first = Utf8::of(self.peek(at, end)?).bytes;
        let t = self.t;
        if !t.layout.literals.starts(which, first[0]) {
            return None;
        }
        for literal in t.literals().filter(|l| which.takes(l.flags) && l.bytes.first() == first.first()) {
            if let Some(behind) = self.behind(at, end, literal.bytes) {
                if which != Which::Whole || self.peek(behind, end).is_none() {
                    return Some((literal, behind));
                }
            }
        }
        None
    }

    /// The next literal to take out of the stream, leftmost and of those the longest, with the white space it swallows.
    pub fn find(&mut self, from: Cursor, which: Which) -> Option<Found> {
        let (mut at, mut white) = (from, None);
        loop {
            if let Some((literal, mut to)) = self.literal_at(at, None, which) {
                let (id, flags) = (literal.id, literal.flags);
                let from = if flags & LSTRIP != 0 { white.unwrap_or(at) } else { at };
                let mut next = to;
                while flags & RSTRIP != 0 && self.next(&mut next).is_some_and(is_white) {
                    to = next;
                }
                return Some(Found { id, from, to });
            }
            let before = at;
            white = match is_white(self.next(&mut at)?) {
                true => white.or(Some(before)),
                false => None,
            };
        }
    }

    /// The id of a word that is taken as it is.
    pub fn whole(&mut self, word: Word) -> Option<u32> {
        self.literal_at(word.from, word.to, Which::Whole).map(|(literal, _)| literal.id)
    }
}

/// Which literals are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those found in the text as it is.
    Raw = 0,
    /// Those found in normalized text.
    Normalized = 1,
    /// Words that are not merged.
    Whole = 2,
}

impl Which {
    /// All three.
    pub const ALL: [Which; 3] = [Which::Raw, Which::Normalized, Which::Whole];

    /// Whether a literal with these flags is one.
    pub fn takes(self, flags: u8) -> bool {
        match self {
            Which::Raw => flags & (MATCH | NORMALIZED) == MATCH,
            Which::Normalized => flags & (MATCH | NORMALIZED) == MATCH | NORMALIZED,
            Which::Whole => flags & WHOLE != 0,
        }
    }
}

/// A literal in a stream.
pub struct Found {
    /// Its id.
    pub id: u32,
    /// Where it starts.
    pub from: Cursor,
    /// Where it ends.
    pub to: Cursor,
}

/// A token with a text of its own.
#[derive(Debug, Clone, Copy)]
pub struct Literal<'a> {
    /// Id.
    pub id: u32,
    /// Flags.
    pub flags: u8,
    /// What is looked for.
    pub bytes: &'a [u8],
    /// What is decoded.
    pub shown: &'a [u8],
}

/// First character of some bytes and its length; None if there are no bytes. What is well-formed is table 3-7 of the Unicode standard.
pub fn character(text: &[u8]) -> Option<(u32, u32)> {
    let first = u32::from(*text.first()?);
    let stray = Some((STRAY + first, 1));
    let (length, least, high) = match first {
        0..0x80 => return Some((first, 1)),
        0xc2..0xe0 => (2, 0x80, first & 0x1f),
        0xe0..0xf0 => (3, 0x800, first & 0x0f),
        0xf0..0xf5 => (4, 0x1_0000, first & 0x07),
        _ => return stray,
    };
    let mut value = high;
    for k in 1..length {
        match text.get(k) {
            Some(byte) if byte & 0xc0 == 0x80 => value = value << 6 | u32::from(byte & 0x3f),
            _ => return stray,
        }
    }
    if value < least || value > 0x10_ffff || (0xd800..0xe000).contains(&value) {
        return stray;
    }
    Some((value, length as u32))
}

/// The bytes of a character: UTF-8, or the stray byte itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Utf8 {
    bytes: [u8; 4],
    count: u8,
}

impl Utf8 {
    /// Bytes of a character of a stream.
    pub fn of(code: u32) -> Utf8 {
        let tail = |shift: u32| (code >> shift) as u8 & 0x3f | 0x80;
        match code {
            0..0x80 => Utf8 { bytes: [code as u8, 0, 0, 0], count: 1 },
            0x80..0x800 => Utf8 { bytes: [(code >> 6) as u8 | 0xc0, tail(0), 0, 0], count: 2 },
            0x800..0x1_0000 => Utf8 { bytes: [(code >> 12) as u8 | 0xe0, tail(6), tail(0), 0], count: 3 },
            0x1_0000..STRAY => Utf8 { bytes: [(code >> 18) as u8 | 0xf0, tail(12), tail(6), tail(0)], count: 4 },
            _ => Utf8 { bytes: [code as u8, 0, 0, 0], count: 1 },
        }
    }

    /// The bytes, one to four.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.count)).unwrap_or(&[])
    }
}

/// A word: the characters from one cursor to another, never none.
#[derive(Debug, Clone, Copy)]
pub struct Word {
    /// Its first character.
    pub from: Cursor,
    /// Its end.
    pub to: End,
}

/// Where ids go.
pub struct Out<'o> {
    ids: &'o mut [u32],
    n: usize,
}

impl<'o> Out<'o> {
    /// Fills `ids` from its start.
    pub fn new(ids: &'o mut [u32]) -> Out<'o> {
        Out { ids, n: 0 }
    }

    /// Ids so far.
    pub fn count(&self) -> usize {
        self.n
    }

    /// One more id.
    ///
    /// # Errors
    /// `Capacity`
    pub fn put(&mut self, id: u32) -> Result<(), Fault> {
        *self.ids.get_mut(self.n).ok_or(Fault::Capacity)? = id;
        self.n += 1;
        Ok(())
    }

    /// Room behind the ids, scratch until [`Out::advance`].
    pub fn free(&mut self) -> &mut [u32] {
        self.ids.get_mut(self.n..).unwrap_or(&mut [])
    }

    /// The first `count` words of [`Out::free`] are ids now.
    pub fn advance(&mut self, count: usize) {
        self.n = (self.n + count).min(self.ids.len());
    }
}
