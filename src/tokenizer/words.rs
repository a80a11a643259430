//! The pre-tokenizer patterns as hand-written matchers.
//!
//! Each matcher answers one question: given that a word starts at `at`, where does it end?
//! The patterns cover every character, so words follow each other without gaps. Text that is
//! not UTF-8 is allowed: a byte outside a well-formed sequence is one character of class
//! "other".

use super::classes::{Class, Classes};

/// First stage: cuts a stretch of text into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Splitter {
    /// One piece.
    #[default]
    None = 0,
    /// Every `\p{N}` character is a piece.
    Digit = 1,
    /// Every run of `\p{N}` is a piece.
    Digits = 2,
    /// The pattern of Llama 3: numbers in groups of three.
    Llama3 = 3,
    /// The pattern of Qwen 2: the same with single numbers.
    Qwen2 = 4,
}

impl Splitter {
    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Self::None, Self::Digit, Self::Digits, Self::Llama3, Self::Qwen2]
            .into_iter()
            .find(|&splitter| splitter as u8 == code)
    }

    /// Character classes the matcher asks for.
    pub(super) fn needs(self) -> &'static [Class] {
        match self {
            Self::None => &[],
            Self::Digit | Self::Digits => &[Class::Number],
            Self::Llama3 | Self::Qwen2 => &[Class::Letter, Class::Number, Class::Space],
        }
    }

    /// End of the piece that starts at `at`; `at` is below the length of `view`.
    pub(super) fn end(self, view: View<'_>, at: usize, classes: &Classes) -> usize {
        match self {
            Self::None => view.len(),
            Self::Digit | Self::Digits => digits_end(view, at, classes, self == Self::Digit),
            Self::Llama3 => modern_end(view, at, classes, 3),
            Self::Qwen2 => modern_end(view, at, classes, 1),
        }
    }
}

/// Second stage: cuts a piece into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Words {
    /// The piece is a word.
    #[default]
    Whole = 0,
    /// The pattern of GPT-2.
    Gpt2 = 1,
}

impl Words {
    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Self::Whole, Self::Gpt2].into_iter().find(|&words| words as u8 == code)
    }

    /// Character classes the matcher asks for.
    pub(super) fn needs(self) -> &'static [Class] {
        match self {
            Self::Whole => &[],
            Self::Gpt2 => &[Class::Letter, Class::Number, Class::Space],
        }
    }

    /// End of the word that starts at `at`; `at` is below the length of `view`.
    pub(super) fn end(self, view: View<'_>, at: usize, classes: &Classes) -> usize {
        match self {
            Self::Whole => view.len(),
            Self::Gpt2 => gpt2_end(view, at, classes),
        }
    }
}

/// Bytes with an optional space in front that is not in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub text: &'a [u8],
    pub space: bool,
}

impl View<'_> {
    pub(super) fn len(self) -> usize {
        self.text.len() + usize::from(self.space)
    }

    /// Byte at `at`, or 0 past the end. No pattern gives NUL a meaning of its own, so the
    /// matchers may look ahead without asking for the length.
    pub(super) fn byte(self, at: usize) -> u8 {
        if self.space && at == 0 {
            return b' ';
        }
        self.text.get(at - usize::from(self.space)).copied().unwrap_or(0)
    }

    /// Code point at `at` and its length in bytes; a stray byte is `(u32::MAX, 1)`.
    fn char(self, at: usize) -> (u32, usize) {
        let first = u32::from(self.byte(at));
        let (length, least, bits) = match first {
            0..0x80 => return (first, 1),
            0xc2..0xe0 => (2, 0x80, first & 0x1f),
            0xe0..0xf0 => (3, 0x800, first & 0x0f),
            0xf0..0xf5 => (4, 0x1_0000, first & 0x07),
            _ => return (u32::MAX, 1),
        };
        let mut value = bits;
        for k in 1..length {
            let byte = u32::from(self.byte(at + k));
            if byte & 0xc0 != 0x80 {
                return (u32::MAX, 1);
            }
            value = value << 6 | (byte & 0x3f);
        }
        if value < least || value > 0x10_ffff || (0xd800..0xe000).contains(&value) {
            return (u32::MAX, 1);
        }
        (value, length)
    }

    fn class(self, at: usize, classes: &Classes) -> Class {
        classes.of(self.char(at).0)
    }

    /// End of the run of `class` characters from `at`, at most `limit` of them.
    fn run(self, mut at: usize, classes: &Classes, class: Class, limit: usize) -> usize {
        let mut left = limit;
        while at < self.len() && left > 0 {
            let (code_point, length) = self.char(at);
            if classes.of(code_point) != class {
                break;
            }
            at += length;
            left -= 1;
        }
        at
    }
}

fn digits_end(view: View<'_>, at: usize, classes: &Classes, single: bool) -> usize {
    let number = view.class(at, classes) == Class::Number;
    let mut end = at;
    while end < view.len() {
        let (code_point, length) = view.char(end);
        if (classes.of(code_point) == Class::Number) != number {
            break;
        }
        end += length;
        if number && single {
            break;
        }
    }
    end
}

/// Length after the apostrophe of `'s 't 're 've 'm 'll 'd`, or 0.
///
/// With `fold`, case is ignored the Unicode way: U+017F is a small s.
fn contraction(view: View<'_>, at: usize, fold: bool) -> usize {
    let mut pair = [view.byte(at), view.byte(at + 1)];
    if fold {
        pair.make_ascii_lowercase();
        if pair == [0xc5, 0xbf] {
            return 2;
        }
    }
    match pair {
        [b's' | b't' | b'm' | b'd', _] => 1,
        [b'r' | b'v', b'e'] | [b'l', b'l'] => 2,
        _ => 0,
    }
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
fn gpt2_end(view: View<'_>, at: usize, classes: &Classes) -> usize {
    if view.byte(at) == b'\'' {
        let length = contraction(view, at + 1, false);
        if length > 0 {
            return at + 1 + length;
        }
    }
    let mut start = at;
    if view.byte(at) == b' ' && at + 1 < view.len() {
        start = at + 1;
    }
    let class = view.class(start, classes);
    if class != Class::Space {
        return view.run(start, classes, class, usize::MAX);
    }
    space_end(view, at, classes, false)
}

/// The pattern of Llama 3 and Qwen 2, `\p{N}` up to `numbers` at a time:
/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|`
/// ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
fn modern_end(view: View<'_>, at: usize, classes: &Classes, numbers: usize) -> usize {
    let (code_point, length) = view.char(at);
    if code_point == u32::from(b'\'') {
        let length = contraction(view, at + 1, true);
        if length > 0 {
            return at + 1 + length;
        }
    }
    let class = classes.of(code_point);
    if class == Class::Letter {
        return view.run(at, classes, Class::Letter, usize::MAX);
    }
    if class == Class::Number {
        return view.run(at, classes, Class::Number, numbers);
    }
    let next = at + length;
    let next_class = (next < view.len()).then(|| view.class(next, classes));
    if next_class == Some(Class::Letter) && !is_newline(view.byte(at)) {
        return view.run(next, classes, Class::Letter, usize::MAX);
    }
    let after_space = view.byte(at) == b' ' && next_class == Some(Class::Other);
    if after_space || class == Class::Other {
        let start = if after_space { next } else { at };
        let mut end = view.run(start, classes, Class::Other, usize::MAX);
        while end < view.len() && is_newline(view.byte(end)) {
            end += 1;
        }
        return end;
    }
    space_end(view, at, classes, true)
}

fn is_newline(byte: u8) -> bool {
    byte == b'\r' || byte == b'\n'
}

/// `\s+(?!\S)|\s+` from a white-space character: the whole run at the end of the text,
/// otherwise all but its last character. With `lines`, `\s*[\r\n]+` is tried first.
fn space_end(view: View<'_>, at: usize, classes: &Classes, lines: bool) -> usize {
    let mut end = at;
    let mut last = at;
    let mut after_line = at;
    while end < view.len() {
        let (code_point, length) = view.char(end);
        // The first character is taken whatever a hostile table says of it: a word that does
        // not move on would never end.
        if end > at && classes.of(code_point) != Class::Space {
            break;
        }
        last = end;
        end += length;
        if is_newline(view.byte(last)) {
            after_line = end;
        }
    }
    if lines && after_line > at {
        after_line
    } else if end == view.len() || last == at {
        end
    } else {
        last
    }
}
