//! Classes of characters as one table of ascending ranges.
//!
//! In the blob each range is two LEB128 numbers: the gap since the end of the range before, and `(length - 1) * 8 + class`. One table for all
//! classes is smaller than one for each (alternating letters and marks share their gaps) and needs a single scan on the device.

use regex_syntax::hir::{Class as HirClass, HirKind};
use std::sync::OnceLock;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::bits::put_varint;

/// What the matchers ask about a code point. Codes of the format; 0 is "none of them".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// `\p{L}`, without the next but three where those are asked for.
    Letter = 1,
    /// `\p{N}`
    Number = 2,
    /// `\s`, that is `White_Space`
    Space = 3,
    /// Punctuation of BERT.
    Punctuation = 4,
    /// `\p{Lu}` and `\p{Lt}`
    Upper = 5,
    /// `\p{Ll}`
    Lower = 6,
    /// `\p{M}`
    Mark = 7,
}

/// The ranges of a pattern, from the tables of `regex-syntax`: Unicode 16, which is what the reference tokenizer's regular expressions use. A fixed
/// version keeps blobs reproducible.
fn ranges(pattern: &str) -> Vec<(u32, u32)> {
    let hir = regex_syntax::parse(pattern);
    match hir.as_ref().map(|hir| hir.kind()) {
        Ok(HirKind::Class(HirClass::Unicode(set))) => {
            set.ranges().iter().map(|range| (range.start() as u32, range.end() as u32 + 1)).collect()
        }
        // The patterns are constants with these features of regex-syntax; a test compares all code points.
        _ => unreachable!("`{pattern}` is a Unicode class"),
    }
}

/// What the reference takes for punctuation. Its table is older than Unicode 16, so it is asked about every character that some version has had
/// as punctuation: those, symbols, marks and formats have never changed places with others.
fn punctuation() -> &'static [(u32, u32)] {
    static TABLE: OnceLock<Vec<(u32, u32)>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let candidates = ranges(r"[\p{P}\p{S}\p{M}\p{Cf}]").into_iter().flat_map(|(start, end)| start..end);
        let mut out: Vec<(u32, u32)> = Vec::new();
        for c in candidates.filter_map(char::from_u32) {
            // Between letters punctuation is a word of its own.
            let mut text = PreTokenizedString::from(format!("a{c}a"));
            let cut = BertPreTokenizer.pre_tokenize(&mut text).is_ok()
                && text.get_splits(OffsetReferential::Original, OffsetType::Byte).len() == 3;
            match out.last_mut() {
                _ if !cut => {}
                Some((_, end)) if *end == c as u32 => *end += 1,
                _ => out.push((c as u32, c as u32 + 1)),
            }
        }
        out
    })
}

fn members(class: Class, wanted: &[Class]) -> Vec<(u32, u32)> {
    match class {
        Class::Letter if wanted.contains(&Class::Upper) => ranges(r"[\p{Lm}\p{Lo}]"),
        Class::Letter => ranges(r"\p{L}"),
        Class::Number => ranges(r"\p{N}"),
        Class::Space => ranges(r"\s"),
        Class::Punctuation => punctuation().to_vec(),
        Class::Upper => ranges(r"[\p{Lu}\p{Lt}]"),
        Class::Lower => ranges(r"\p{Ll}"),
        Class::Mark => ranges(r"\p{M}"),
    }
}

/// The table for the classes in `wanted`, which must be disjoint.
pub(super) fn build(wanted: &[Class]) -> Vec<u8> {
    let mut all: Vec<_> =
        wanted.iter().flat_map(|&class| members(class, wanted).into_iter().map(move |r| (r, class))).collect();
    all.sort_unstable();
    let mut out = Vec::new();
    let mut next = 0;
    for ((start, end), class) in all {
        put_varint(&mut out, start - next);
        put_varint(&mut out, (end - start - 1) * 8 + class as u32);
        next = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE_POINTS: usize = 0x11_0000;

    fn read(table: &[u8]) -> Vec<u8> {
        let mut classes = vec![0; CODE_POINTS];
        let (mut at, mut next) = (0, 0);
        let mut number = || {
            let mut value = 0;
            for k in 0..4 {
                let byte = *table.get(at)?;
                at += 1;
                value |= usize::from(byte & 0x7f) << (7 * k);
                if byte < 0x80 {
                    break;
                }
            }
            Some(value)
        };
        while let Some(gap) = number() {
            let code = number().expect("two numbers a range");
            let start = next + gap;
            next = start + code / 8 + 1;
            classes[start..next].fill((code % 8) as u8);
        }
        classes
    }

    #[test]
    fn every_code_point_survives_the_table() {
        let modern = [Class::Letter, Class::Number, Class::Space];
        let cased = [Class::Letter, Class::Number, Class::Space, Class::Upper, Class::Lower, Class::Mark];
        for wanted in [&modern[..], &cased, &[Class::Punctuation]] {
            let table = build(wanted);
            let mut expected = vec![0; CODE_POINTS];
            for &class in wanted {
                for (start, end) in members(class, wanted) {
                    assert!(expected[start as usize..end as usize].iter().all(|&c| c == 0), "{class:?}");
                    expected[start as usize..end as usize].fill(class as u8);
                }
            }
            assert_eq!(read(&table), expected);
            println!("{wanted:?}: {} bytes", table.len());
        }
    }

    #[test]
    fn punctuation_is_that_of_the_reference() {
        let table = read(&build(&[Class::Punctuation]));
        for c in ['!', '$', '~', '`', '\u{2014}', '\u{3001}', '\u{a7}'] {
            assert_eq!(table[c as usize], 4, "{c:?}");
        }
        for c in ['a', ' ', '0', '\u{20ac}', '\u{301}', '\u{200d}'] {
            assert_eq!(table[c as usize], 0, "{c:?}");
        }
        // Every scalar, asked in one text.
        let all: String = (0..CODE_POINTS as u32).filter_map(char::from_u32).flat_map(|c| ['a', c]).collect();
        let mut text = PreTokenizedString::from(all.as_str());
        BertPreTokenizer.pre_tokenize(&mut text).expect("the reference cuts");
        let mut alone = vec![false; CODE_POINTS];
        for (word, ..) in text.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            let mut characters = word.chars();
            if let (Some(c), None) = (characters.next(), characters.next()) {
                alone[c as usize] = c != 'a';
            }
        }
        for (c, &class) in table.iter().enumerate() {
            assert_eq!(class == 4, alone[c], "U+{c:04X}");
        }
    }
}
