//! Classes of characters, from the blob's table of ascending ranges: two LEB128 numbers each, the gap since the range before and
//! (length - 1) * 8 + class.

use super::bits::{varint, Span};
use super::text::STRAY;
use super::Bad;

/// None of the others, stray bytes too.
pub const OTHER: u8 = 0;
/// `\p{L}`, without those of [`UPPER`] and [`LOWER`] where a table has these.
pub const LETTER: u8 = 1;
/// `\p{N}`
pub const NUMBER: u8 = 2;
/// `White_Space`
pub const SPACE: u8 = 3;
/// What BERT takes for punctuation.
pub const PUNCTUATION: u8 = 4;
/// `\p{Lu}` and `\p{Lt}`
pub const UPPER: u8 = 5;
/// `\p{Ll}`
pub const LOWER: u8 = 6;
/// `\p{M}`
pub const MARK: u8 = 7;

/// Code points `first..end`, all of one class. One is kept as the place where the last character was found: scripts come in long runs of one
/// range, and without this every letter would scan the table up to it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Range {
    /// First code point.
    pub first: u32,
    /// One past the last.
    pub end: u32,
    /// Their class.
    pub class: u8,
}

/// Whether the table can be read to its end and stays within Unicode.
///
/// # Errors
/// The rule that is broken.
pub fn check(blob: &[u8], table: Span) -> Result<(), Bad> {
    let bytes = table.of(blob);
    let (mut at, mut next) = (0, 0u32);
    while (at as usize) < bytes.len() {
        let start = at;
        let bad = |what| Bad { at: table.at + start, what };
        let gap = varint(bytes, &mut at).ok_or(bad("bad class number"))?;
        let code = varint(bytes, &mut at).ok_or(bad("bad class number"))?;
        // Both are below 2^28.
        next += gap + (code >> 3) + 1;
        if code & 7 == 0 {
            return Err(bad("reserved character class"));
        }
        if next > STRAY {
            return Err(bad("class range past the last code point"));
        }
    }
    Ok(())
}

/// The range around a code point; the gaps between ranges are ranges of [`OTHER`].
pub fn find(table: &[u8], code: u32) -> Range {
    let (mut at, mut first) = (0, 0u32);
    while let (Some(gap), Some(range)) = (varint(table, &mut at), varint(table, &mut at)) {
        let start = first.saturating_add(gap);
        if code < start {
            return Range { first, end: start, class: OTHER };
        }
        let end = start.saturating_add((range >> 3) + 1);
        if code < end {
            return Range { first: start, end, class: (range & 7) as u8 };
        }
        first = end;
    }
    Range { first, end: u32::MAX, class: OTHER }
}

/// `White_Space`, whatever the blob's table holds: what a literal may swallow around itself.
pub fn is_white(code: u32) -> bool {
    matches!(
        code,
        9..=13 | 0x20 | 0x85 | 0xa0 | 0x1680 | 0x2000..=0x200a | 0x2028 | 0x2029 | 0x202f | 0x205f | 0x3000
    )
}
