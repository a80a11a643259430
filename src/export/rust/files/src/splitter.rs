//! Where a text is cut before its bytes are merged: classes of characters, pieces, words.

use crate::tokenizer::varint;

const OTHER: u32 = 0;
const LETTER: u32 = 1;
const NUMBER: u32 = 2;
const WHITE: u32 = 3;
const CODE_POINTS: u32 = 0x11_0000;

const NONE: u8 = 0;
const DIGIT: u8 = 1;
const DIGITS: u8 = 2;
const LLAMA3: u8 = 3;
pub(crate) const QWEN2: u8 = 4;

/// Where the last character beyond ASCII was found: first <= code point < end. Scripts come in long runs of one range, and without this
/// every letter would scan the table up to it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Range {
    first: u32,
    end: u32,
    class: u32,
}

/// The ranges of the table and the gaps between them.
fn ranges(classes: &[u8]) -> impl Iterator<Item = Range> + '_ {
    let (mut rest, mut next, mut pending) = (classes, 0u32, None);
    core::iter::from_fn(move || {
        if let Some(range) = pending.take() {
            return Some(range);
        }
        let (gap, more) = varint(rest)?;
        let (code, more) = varint(more)?;
        rest = more;
        let gap = Range { first: next, end: next.saturating_add(gap), class: OTHER };
        next = gap.end.saturating_add((code >> 2) + 1);
        pending = Some(Range { first: gap.end, end: next, class: code & 3 });
        Some(gap)
    })
}

/// Whether the table can be read to its end and stays within Unicode.
pub(crate) fn classes_ok(mut rest: &[u8]) -> bool {
    let mut next = 0u32;
    while !rest.is_empty() {
        let Some((gap, more)) = varint(rest) else { return false };
        let Some((code, more)) = varint(more) else { return false };
        next += gap + (code >> 2) + 1;
        if code & 3 == OTHER || next > CODE_POINTS {
            return false;
        }
        rest = more;
    }
    true
}

fn find(classes: &[u8], code_point: u32) -> Range {
    let mut first = 0;
    for r in ranges(classes) {
        if code_point < r.end {
            return r;
        }
        first = r.end;
    }
    Range { first, end: CODE_POINTS, class: OTHER }
}

/// Bytes with an optional space in front that is not in memory.
pub(crate) struct View<'v> {
    pub text: &'v [u8],
    pub space: usize,
    pub classes: &'v [u8],
}

impl View<'_> {
    pub(crate) fn len(&self) -> usize {
        self.text.len() + self.space
    }

    /// 0 past the end: no pattern gives NUL a meaning of its own.
    pub(crate) fn byte(&self, at: usize) -> u8 {
        match at.checked_sub(self.space) {
            None => b' ',
            Some(at) => self.text.get(at).copied().unwrap_or(0),
        }
    }

    /// Code point and its length; None for a byte that is not UTF-8.
    fn character(&self, at: usize) -> (Option<u32>, usize) {
        let first = u32::from(self.byte(at));
        let (more, least, mut value) = match first {
            0..=0x7F => return (Some(first), 1),
            0xC2..=0xDF => (1, 0x80, first & 0x1F),
            0xE0..=0xEF => (2, 0x800, first & 0x0F),
            0xF0..=0xF4 => (3, 0x1_0000, first & 0x07),
            _ => return (None, 1),
        };
        for k in 1..=more {
            let byte = u32::from(self.byte(at + k));
            if byte & 0xC0 != 0x80 {
                return (None, 1);
            }
            value = value << 6 | byte & 0x3F;
        }
        let valid = value >= least && value < CODE_POINTS && !(0xD800..0xE000).contains(&value);
        if valid {
            (Some(value), more + 1)
        } else {
            (None, 1)
        }
    }

    /// Class and length of a character.
    fn class(&self, at: usize, seen: &mut Range) -> (u32, usize) {
        let (code_point, length) = self.character(at);
        let class = match code_point {
            None => OTHER,
            Some(c) if c < 0x80 => find(self.classes, c).class, // a few steps, and a space keeps the range in use
            Some(c) => {
                if c < seen.first || c >= seen.end {
                    *seen = find(self.classes, c);
                }
                seen.class
            }
        };
        (class, length)
    }

    /// End of the run of characters of a class, at most `limit` of them.
    fn run(&self, mut at: usize, class: u32, limit: usize, seen: &mut Range) -> usize {
        for _ in 0..limit {
            if at >= self.len() {
                break;
            }
            let (c, length) = self.class(at, seen);
            if c != class {
                break;
            }
            at += length;
        }
        at
    }
}

fn is_newline(byte: u8) -> bool {
    byte == b'\r' || byte == b'\n'
}

fn digits_end(v: &View, at: usize, single: bool, seen: &mut Range) -> usize {
    let (class, length) = v.class(at, seen);
    let number = class == NUMBER;
    let mut at = at + length;
    if number && single {
        return at;
    }
    while at < v.len() {
        let (class, length) = v.class(at, seen);
        if (class == NUMBER) != number {
            break;
        }
        at += length;
    }
    at
}

/// Length after the apostrophe of 's 't 're 've 'm 'll 'd, or 0. With `fold`, case is ignored the Unicode way: U+017F is a small s.
fn contraction(v: &View, at: usize, fold: bool) -> usize {
    let (mut a, mut b) = (v.byte(at), v.byte(at + 1));
    if fold {
        if (a, b) == (0xC5, 0xBF) {
            return 2;
        }
        (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    }
    match (a, b) {
        (b's' | b't' | b'm' | b'd', _) => 1,
        (b'r' | b'v', b'e') | (b'l', b'l') => 2,
        _ => 0,
    }
}

/// `\s+(?!\S)|\s+` from a white-space character: the whole run at the end of the text, otherwise all but its last character. With `lines`,
/// `\s*[\r\n]+` is tried first.
fn space_end(v: &View, at: usize, lines: bool, seen: &mut Range) -> usize {
    let (mut end, mut last, mut after_line) = (at, at, at);
    while end < v.len() {
        let (class, length) = v.class(end, seen);
        // The first character is taken whatever a hostile table says of it: a word that does not move on would never end.
        if end > at && class != WHITE {
            break;
        }
        last = end;
        end += length;
        if is_newline(v.byte(last)) {
            after_line = end;
        }
    }
    if lines && after_line > at {
        after_line
    } else if end == v.len() || last == at {
        end
    } else {
        last
    }
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
pub(crate) fn gpt2_end(v: &View, at: usize, seen: &mut Range) -> usize {
    if v.byte(at) == b'\'' {
        let length = contraction(v, at + 1, false);
        if length > 0 {
            return at + 1 + length;
        }
    }
    let start = at + usize::from(v.byte(at) == b' ' && at + 1 < v.len());
    match v.class(start, seen).0 {
        WHITE => space_end(v, at, false, seen),
        class => v.run(start, class, usize::MAX, seen),
    }
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,numbers}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
fn modern_end(v: &View, at: usize, numbers: usize, seen: &mut Range) -> usize {
    let first = v.byte(at);
    if first == b'\'' {
        let length = contraction(v, at + 1, true);
        if length > 0 {
            return at + 1 + length;
        }
    }
    let (class, length) = v.class(at, seen);
    match class {
        LETTER => return v.run(at, LETTER, usize::MAX, seen),
        NUMBER => return v.run(at, NUMBER, numbers, seen),
        _ => {}
    }
    let next = at + length;
    let next_class = (next < v.len()).then(|| v.class(next, seen).0);
    if next_class == Some(LETTER) && !is_newline(first) {
        return v.run(next, LETTER, usize::MAX, seen);
    }
    let after_space = first == b' ' && next_class == Some(OTHER);
    if after_space || class == OTHER {
        let mut end = v.run(if after_space { next } else { at }, OTHER, usize::MAX, seen);
        while end < v.len() && is_newline(v.byte(end)) {
            end += 1;
        }
        return end;
    }
    space_end(v, at, true, seen)
}

/// End of the piece of a text that starts at `at`.
pub(crate) fn piece_end(splitter: u8, v: &View, at: usize, seen: &mut Range) -> usize {
    match splitter {
        NONE => v.len(),
        DIGIT | DIGITS => digits_end(v, at, splitter == DIGIT, seen),
        _ => modern_end(v, at, if splitter == LLAMA3 { 3 } else { 1 }, seen),
    }
}
