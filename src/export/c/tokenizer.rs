//! What the generated headers say of a model's tokenizer: sizes, and which parts of `runtime/bitnet_tok_*.c` its blob needs.

use std::fmt::Write;

/// Parts of the tokenizer, named as in `bitnet_features.h` and in its order.
pub(super) const PARTS: [&str; 12] = [
    "TOK_BPE",
    "TOK_CHARS",
    "TOK_LATE",
    "TOK_UNIGRAM",
    "TOK_WORDPIECE",
    "TOK_NORMAL",
    "TOK_STRIPS",
    "TOK_MODERN",
    "TOK_CASED",
    "TOK_BLANKS",
    "TOK_UNDERLINES",
    "TOK_CHAT",
];

const HEADER: usize = 32;

/// Sizes of buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Words of scratch that encoding takes, at least 1: there is an array of them.
    pub work: u32,
    /// Bytes of the longest token.
    pub token: u32,
}

impl Sizes {
    /// Room for any tokenizer that is likely to come: a program of the host takes every model.
    pub const ANY: Sizes = Sizes { work: 1 << 16, token: 1360 };

    /// `blob`: docs/format/tokenizer.md. One without any, or one that is too short for its header, takes nothing.
    pub fn of(blob: Option<&[u8]>) -> Sizes {
        let blob = blob.unwrap_or_default();
        Sizes { work: number(blob, 16, 4).max(1), token: number(blob, 20, 2) }
    }
}

fn number(blob: &[u8], at: usize, bytes: usize) -> u32 {
    let field = blob.get(at..at + bytes).unwrap_or_default();
    field.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// Bytes of the section of this kind, empty without it.
fn section(blob: &[u8], kind: u8) -> &[u8] {
    let count = number(blob, 23, 1) as usize;
    let mut at = HEADER + 8 * count;
    for entry in (0..count).map(|k| HEADER + 8 * k) {
        let end = at.saturating_add(number(blob, entry + 4, 4) as usize);
        if blob.get(entry) == Some(&kind) {
            return blob.get(at..end).unwrap_or_default();
        }
        at = end;
    }
    &[]
}

/// All flags that some literal has.
fn literal_flags(blob: &[u8]) -> u8 {
    let literals = section(blob, 5);
    let mut at = 4;
    let mut all = 0;
    while let Some(flags) = literals.get(at + 3) {
        all |= flags;
        at += 6 + number(literals, at + 4, 2) as usize;
        if flags & 64 != 0 {
            at += 2 + number(literals, at, 2) as usize;
        }
    }
    all
}

/// Whether a blob needs one of [`PARTS`].
fn needs(blob: &[u8], part: &str) -> bool {
    let model = blob.get(22);
    let way = |at: usize| section(blob, 8).get(at).copied().unwrap_or(0);
    match part {
        "TOK_BPE" => matches!(model, Some(0 | 1)),
        "TOK_CHARS" => model == Some(&1),
        "TOK_LATE" => section(blob, 4).get(18).is_some_and(|flags| flags & 2 != 0),
        "TOK_UNIGRAM" => model == Some(&2),
        "TOK_WORDPIECE" => model == Some(&3),
        "TOK_NORMAL" => !section(blob, 7).is_empty() || literal_flags(blob) & 32 != 0,
        "TOK_STRIPS" => literal_flags(blob) & 24 != 0,
        "TOK_MODERN" => matches!(way(0), 3 | 4 | 7),
        "TOK_CASED" => way(0) == 7,
        "TOK_BLANKS" => matches!(way(0), 5 | 6),
        "TOK_CHAT" => !section(blob, 13).is_empty(),
        _ => way(1) >= 2 || section(blob, 12).first().is_some_and(|flags| flags & 19 != 0),
    }
}

/// Whether it takes more than byte-level BPE, with its splitters and chats.
pub(super) fn needs_more(blob: Option<&[u8]>) -> bool {
    let plain = ["TOK_BPE", "TOK_MODERN", "TOK_CHAT"];
    blob.is_some_and(|blob| PARTS.iter().any(|part| !plain.contains(part) && needs(blob, part)))
}

/// The lines of `model.h` that leave out what the tokenizer does without.
pub(super) fn switches(blob: Option<&[u8]>) -> String {
    let blob = blob.unwrap_or_default();
    let mut out = String::new();
    for part in PARTS {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "#define BITNET_{part} {}", u8::from(needs(blob, part)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A blob with sections 5 (one literal that takes white space), 8 (splitter 6) and 12 (joins of WordPiece).
    fn blob(model: u8, words: u8) -> Vec<u8> {
        let mut blob = vec![0; HEADER];
        blob[16] = 200;
        blob[20] = 7;
        blob[22] = model;
        blob[23] = 3;
        blob.extend([5, 0, 0, 0, 12, 0, 0, 0, 8, 0, 0, 0, 4, 0, 0, 0, 12, 0, 0, 0, 4, 0, 0, 0]);
        blob.extend([1, 0, 0, 0, 1, 0, 0, 10, 2, 0, b'<', b'm']);
        blob.extend([6, words, 0, 0, 4, 0, 0, 0]);
        blob
    }

    #[test]
    fn parts_follow_the_sections() {
        let on = |blob: Option<&[u8]>| -> Vec<String> {
            let text = switches(blob);
            text.lines()
                .filter_map(|l| l.strip_suffix(" 1")?.strip_prefix("#define BITNET_TOK_").map(String::from))
                .collect()
        };
        assert_eq!(on(Some(&blob(3, 0))), ["WORDPIECE", "STRIPS", "BLANKS"]);
        assert_eq!(on(Some(&blob(1, 3))), ["BPE", "CHARS", "STRIPS", "BLANKS", "UNDERLINES"]);
        assert!(on(None).is_empty());
        assert_eq!(Sizes::of(Some(&blob(3, 0))), Sizes { work: 200, token: 7 });
        assert_eq!(Sizes::of(None), Sizes { work: 1, token: 0 });
    }

    #[test]
    fn a_blob_that_is_cut_short_needs_less() {
        let whole = blob(3, 2);
        for end in 0..whole.len() {
            let _ = (switches(Some(&whole[..end])), Sizes::of(Some(&whole[..end])));
        }
    }
}
