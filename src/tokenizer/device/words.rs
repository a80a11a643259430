//! Where a piece is cut: the pre-tokenizer patterns as hand-written matchers over cursors.
//!
//! Each matcher answers one question: given that a part starts here, where does it end? The patterns cover every character, so parts follow
//! each other without gaps, and every part has at least one character whatever a hostile class table says.

use super::classes::{is_white, LETTER, LOWER, MARK, NUMBER, OTHER, PUNCTUATION, SPACE, UPPER};
use super::text::{Cursor, End, Stream};

/// Largest code of a splitter.
pub const SPLITTERS: u8 = 7;
/// Largest code of a word stage.
pub const WORDS: u8 = 3;

const QUOTE: u32 = 0x27;
const BLANK: u32 = 0x20;
const LOW_LINE: u32 = 0x2581;

/// Stage one: the end of the part that starts at `at`, and whether it is kept. There is a character at `at`.
pub fn part(s: &mut Stream<'_>, at: Cursor, end: End) -> (End, bool) {
    match s.t.layout.cuts.splitter {
        1 => (Some(digits(s, at, end, true)), true),
        2 => (Some(digits(s, at, end, false)), true),
        3 => (Some(modern(s, at, end, 3)), true),
        4 => (Some(modern(s, at, end, 1)), true),
        5 => blanks(s, at, end, false),
        6 => blanks(s, at, end, true),
        7 => (Some(o200k(s, at, end)), true),
        _ => (end, true),
    }
}

/// Stage two: the end of the word that starts at `at`. There is a character at `at`.
pub fn word(s: &mut Stream<'_>, at: Cursor, end: End) -> End {
    match s.t.layout.cuts.words {
        1 => Some(gpt2(s, at, end)),
        2 => Some(low_lines(s, at, end, false)),
        3 => Some(low_lines(s, at, end, true)),
        _ => end,
    }
}

/// Letter, number, white space or other: what most patterns tell apart.
fn kind(s: &mut Stream<'_>, code: u32) -> u8 {
    match s.class(code) {
        LETTER | UPPER | LOWER => LETTER,
        class @ (NUMBER | SPACE) => class,
        _ => OTHER,
    }
}

/// End of the run of characters that `wanted` takes, at most `limit` of them.
fn run(
    s: &mut Stream<'_>,
    mut at: Cursor,
    end: End,
    limit: u32,
    wanted: impl Fn(&mut Stream<'_>, u32) -> bool,
) -> Cursor {
    for _ in 0..limit {
        let mut next = at;
        match s.next_before(&mut next, end) {
            Some(code) if wanted(s, code) => at = next,
            _ => break,
        }
    }
    at
}

/// The character at `at` whatever it is, and the run after it of characters that `wanted` takes.
fn one_and_run(s: &mut Stream<'_>, mut at: Cursor, end: End, wanted: impl Fn(&mut Stream<'_>, u32) -> bool) -> Cursor {
    s.next_before(&mut at, end);
    run(s, at, end, u32::MAX, wanted)
}

fn digits(s: &mut Stream<'_>, at: Cursor, end: End, single: bool) -> Cursor {
    let number = s.peek(at, end).is_some_and(|code| s.class(code) == NUMBER);
    if number && single {
        return one_and_run(s, at, end, |_, _| false);
    }
    one_and_run(s, at, end, |s, code| (s.class(code) == NUMBER) == number)
}

/// White space is dropped; with `bert` every punctuation character is a part.
fn blanks(s: &mut Stream<'_>, at: Cursor, end: End, bert: bool) -> (End, bool) {
    let class = |s: &mut Stream<'_>, code: u32| match s.class(code) {
        _ if is_white(code) => SPACE,
        PUNCTUATION if bert => PUNCTUATION,
        _ => OTHER,
    };
    let of = s.peek(at, end).map_or(OTHER, |code| class(s, code));
    let limit = if of == PUNCTUATION { 0 } else { u32::MAX };
    let mut to = at;
    s.next_before(&mut to, end);
    let to = run(s, to, end, limit, |s, code| class(s, code) == of);
    (Some(to), of != SPACE)
}

/// A word starts at every U+2581, or with `runs` at every one that follows another character.
fn low_lines(s: &mut Stream<'_>, mut at: Cursor, end: End, runs: bool) -> Cursor {
    if runs {
        at = run(s, at, end, u32::MAX, |_, code| code == LOW_LINE);
    } else {
        s.next_before(&mut at, end);
    }
    run(s, at, end, u32::MAX, |_, code| code != LOW_LINE)
}

/// Behind the letters of `'s 't 're 've 'm 'll 'd` if they are at `at`. With `fold`, case is ignored the Unicode way: U+017F is a small s.
fn contraction(s: &mut Stream<'_>, mut at: Cursor, end: End, fold: bool) -> Option<Cursor> {
    let mut letter = |at: &mut Cursor| {
        let code = s.next_before(at, end)?;
        Some(match u8::try_from(code) {
            Ok(byte) if fold => byte.to_ascii_lowercase(),
            Ok(byte) => byte,
            Err(_) if fold && code == 0x17f => b's',
            Err(_) => 0,
        })
    };
    match letter(&mut at)? {
        b's' | b't' | b'm' | b'd' => Some(at),
        b'r' | b'v' if letter(&mut at)? == b'e' => Some(at),
        b'l' if letter(&mut at)? == b'l' => Some(at),
        _ => None,
    }
}

fn is_newline(code: u32) -> bool {
    code == 10 || code == 13
}

/// `\s+(?!\S)|\s+` from a white-space character: the whole run at the end of the text, otherwise all but its last character. With `lines`,
/// `\s*[\r\n]+` is tried first.
fn spaces(s: &mut Stream<'_>, at: Cursor, end: End, lines: bool) -> Cursor {
    let (mut stop, mut last, mut after_line, mut at_end) = (at, at, None, false);
    loop {
        let mut next = stop;
        let Some(code) = s.next_before(&mut next, end) else {
            at_end = true;
            break;
        };
        // The first character is taken whatever a hostile table says of it: a word that does not move on would never end.
        if stop != at && s.class(code) != SPACE {
            break;
        }
        (last, stop) = (stop, next);
        if is_newline(code) {
            after_line = Some(stop);
        }
    }
    match after_line {
        Some(line) if lines => line,
        _ if at_end || last == at => stop,
        _ => last,
    }
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
fn gpt2(s: &mut Stream<'_>, at: Cursor, end: End) -> Cursor {
    let mut next = at;
    let first = s.next_before(&mut next, end).unwrap_or(0);
    if first == QUOTE {
        if let Some(to) = contraction(s, next, end, false) {
            return to;
        }
    }
    let (mut start, mut of) = (at, kind(s, first));
    if first == BLANK {
        if let Some(code) = s.peek(next, end) {
            (start, of) = (next, kind(s, code));
        }
    }
    match of {
        SPACE => spaces(s, at, end, false),
        _ => one_and_run(s, start, end, |s, code| kind(s, code) == of),
    }
}

/// The patterns of Llama 3 and Qwen 2, `\p{N}` up to `numbers` at a time:
/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
fn modern(s: &mut Stream<'_>, at: Cursor, end: End, numbers: u32) -> Cursor {
    let mut next = at;
    let first = s.next_before(&mut next, end).unwrap_or(0);
    if first == QUOTE {
        if let Some(to) = contraction(s, next, end, true) {
            return to;
        }
    }
    let class = kind(s, first);
    if class == LETTER {
        return run(s, next, end, u32::MAX, |s, code| kind(s, code) == LETTER);
    }
    if class == NUMBER {
        return run(s, next, end, numbers - 1, |s, code| kind(s, code) == NUMBER);
    }
    let second = s.peek(next, end).map(|code| kind(s, code));
    if second == Some(LETTER) && !is_newline(first) {
        return run(s, next, end, u32::MAX, |s, code| kind(s, code) == LETTER);
    }
    if class == OTHER || first == BLANK && second == Some(OTHER) {
        let to = run(s, next, end, u32::MAX, |s, code| kind(s, code) == OTHER);
        return run(s, to, end, u32::MAX, |_, code| is_newline(code));
    }
    spaces(s, at, end, true)
}

/// What the first two alternatives of [`o200k`] match from `at` on, without what may be in front of it: `[U]*[L]+`, and `[U]+[L]*` for
/// where the first does not match. U is upper case, title case, and what is neither upper nor lower; L is lower case and the same.
fn cased(s: &mut Stream<'_>, at: Cursor, end: End) -> [Option<Cursor>; 2] {
    let (mut stop, mut both) = (at, None);
    loop {
        let mut next = stop;
        let class = s.next_before(&mut next, end).map_or(OTHER, |code| s.class(code));
        match class {
            UPPER => {}
            LETTER | MARK => both = Some(next),
            LOWER => {
                // The greedy run of U ends here, and L goes on.
                let to = run(s, next, end, u32::MAX, |s, code| matches!(s.class(code), LOWER | LETTER | MARK));
                return [Some(to), None];
            }
            _ => break,
        }
        stop = next;
    }
    // U gives characters back until L has its one.
    [both, (stop != at).then_some(stop)]
}

/// The pattern of GPT-4o, with U and L as in [`cased`] and S = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`:
/// `[^\r\n\p{L}\p{N}]?[U]*[L]+S?|[^\r\n\p{L}\p{N}]?[U]+[L]*S?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
fn o200k(s: &mut Stream<'_>, at: Cursor, end: End) -> Cursor {
    let mut next = at;
    let first = s.next_before(&mut next, end).unwrap_or(0);
    let class = s.class(first);
    let may_lead = matches!(class, OTHER | SPACE | PUNCTUATION | MARK) && !is_newline(first);
    let led = if may_lead { cased(s, next, end) } else { [None; 2] };
    let plain = if matches!(class, LETTER | UPPER | LOWER | MARK) { cased(s, at, end) } else { [None; 2] };
    if let Some(to) = led[0].or(plain[0]).or(led[1]).or(plain[1]) {
        let mut behind = to;
        return match s.next_before(&mut behind, end) {
            Some(QUOTE) => contraction(s, behind, end, true).unwrap_or(to),
            _ => to,
        };
    }
    if class == NUMBER {
        return run(s, next, end, 2, |s, code| s.class(code) == NUMBER);
    }
    let second = s.peek(next, end).map(|code| kind(s, code));
    if class != SPACE || first == BLANK && second == Some(OTHER) {
        let to = run(s, next, end, u32::MAX, |s, code| kind(s, code) == OTHER);
        return run(s, to, end, u32::MAX, |_, code| is_newline(code) || code == 0x2f);
    }
    spaces(s, at, end, true)
}
