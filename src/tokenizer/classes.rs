//! Unicode letters, numbers and white space as one table of ascending ranges.
//!
//! In the blob each range is two LEB128 numbers: the gap since the end of the range before,
//! and `(length - 1) * 4 + class`. One table for all classes is smaller than one for each
//! (alternating letters and marks share their gaps) and needs a single scan on the device.

use regex_syntax::hir::{Class as HirClass, HirKind};

use super::TokenizerError;

/// What the pre-tokenizer patterns ask about a code point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// None of the others, including bytes that are not UTF-8.
    Other = 0,
    /// `\p{L}`
    Letter = 1,
    /// `\p{N}`
    Number = 2,
    /// `\s`, that is `White_Space`
    Space = 3,
}

/// One past the last code point.
pub(super) const CODE_POINTS: u32 = 0x11_0000;
/// Longest LEB128 number accepted, in bytes; 28 bits hold every length with its class.
const MAX_VARINT: usize = 4;

/// The ranges of one class, from the tables of `regex-syntax`: Unicode 16, which is what the
/// reference tokenizer's regular expressions use. A fixed version keeps blobs reproducible.
fn ranges(class: Class) -> Vec<(u32, u32, Class)> {
    let pattern = match class {
        Class::Other => return Vec::new(),
        Class::Letter => r"\p{L}",
        Class::Number => r"\p{N}",
        Class::Space => r"\s",
    };
    let hir = regex_syntax::parse(pattern);
    match hir.as_ref().map(|hir| hir.kind()) {
        Ok(HirKind::Class(HirClass::Unicode(set))) => {
            set.ranges().iter().map(|range| (range.start() as u32, range.end() as u32 + 1, class)).collect()
        }
        // The three patterns are constants with these features of regex-syntax; a test
        // compares all code points.
        _ => unreachable!("`{pattern}` is a Unicode class"),
    }
}

/// The table for the classes in `wanted`.
pub(super) fn build(wanted: &[Class]) -> Vec<u8> {
    let mut all: Vec<_> = wanted.iter().flat_map(|&class| ranges(class)).collect();
    all.sort_unstable();
    let mut out = Vec::new();
    let mut next = 0;
    for (start, end, class) in all {
        put_varint(&mut out, start - next);
        put_varint(&mut out, (end - start - 1) * 4 + class as u32);
        next = end;
    }
    out
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A checked table, unpacked: ascending, disjoint `[start, end)`.
#[derive(Debug, Clone)]
pub(super) struct Classes {
    ranges: Vec<(u32, u32, Class)>,
}

impl Classes {
    /// Checks and unpacks `table`, which lies at `offset` in the blob.
    pub(super) fn read(table: &[u8], offset: usize) -> Result<Self, TokenizerError> {
        let bad = |at: usize, what| TokenizerError::Blob { offset: offset + at, what };
        let mut ranges = Vec::new();
        let mut at = 0;
        let mut next = 0u32;
        while at < table.len() {
            let start_at = at;
            let gap = varint(table, &mut at).ok_or_else(|| bad(start_at, "bad class number"))?;
            let code = varint(table, &mut at).ok_or_else(|| bad(start_at, "bad class number"))?;
            let class = match code & 3 {
                1 => Class::Letter,
                2 => Class::Number,
                3 => Class::Space,
                _ => return Err(bad(start_at, "reserved character class")),
            };
            // Both numbers are below 2^28, so the sums stay below 2^30.
            let start = next + gap;
            let end = start + (code >> 2) + 1;
            if end > CODE_POINTS {
                return Err(bad(start_at, "class range past the last code point"));
            }
            ranges.push((start, end, class));
            next = end;
        }
        Ok(Self { ranges })
    }

    /// Class of a code point.
    pub(super) fn of(&self, code_point: u32) -> Class {
        let after = self.ranges.partition_point(|range| range.0 <= code_point);
        match after.checked_sub(1).map(|k| self.ranges[k]) {
            Some((_, end, class)) if code_point < end => class,
            _ => Class::Other,
        }
    }
}

fn varint(table: &[u8], at: &mut usize) -> Option<u32> {
    let mut value = 0;
    for k in 0..MAX_VARINT {
        let byte = *table.get(*at)?;
        *at += 1;
        value |= u32::from(byte & 0x7f) << (7 * k);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_point_survives_the_table() {
        let wanted = [Class::Letter, Class::Number, Class::Space];
        let table = build(&wanted);
        let classes = Classes::read(&table, 0).expect("a table just built is valid");
        let mut expected = vec![Class::Other; CODE_POINTS as usize];
        for class in wanted {
            for (start, end, class) in ranges(class) {
                expected[start as usize..end as usize].fill(class);
            }
        }
        for code_point in 0..CODE_POINTS {
            assert_eq!(classes.of(code_point), expected[code_point as usize], "U+{code_point:04X}");
        }
        assert_eq!(classes.of(u32::MAX), Class::Other);
        assert!(table.len() < 2400, "{} bytes", table.len());
    }
}
