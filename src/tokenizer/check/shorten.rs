//! A text that differs, made as short as possible, and what there is to say about it.

use super::compare::{self, Found, What};
use super::report::{Difference, Side};
use super::{Check, Group};
use crate::error::Result;

/// Rounds of shortening; each takes away at least one part or halves the parts.
const ROUNDS: usize = 60;
/// Of a device that takes seconds to ask.
const SLOW_ROUNDS: usize = 6;
/// Longer texts are cut into chunks first; what is tried in one round stays within this many texts.
const MOST_TRIES: usize = 64;
/// Bytes that are shown on each side of the place.
const AROUND: usize = 24;

/// The text in units that are taken away whole: characters, or bytes where it is not UTF-8.
fn units(text: &[u8]) -> Vec<Vec<u8>> {
    match std::str::from_utf8(text) {
        Ok(t) => t.chars().map(|c| c.to_string().into_bytes()).collect(),
        Err(_) => text.iter().map(|b| vec![*b]).collect(),
    }
}

/// Delta debugging: takes away ever smaller parts as long as the text still differs.
///
/// # Errors
/// What `differs` says.
pub fn shortest(text: &[u8], rounds: usize, differs: impl Fn(&[&[u8]]) -> Result<Vec<bool>>) -> Result<Vec<u8>> {
    let mut left = units(text);
    let mut parts = 2;
    for _ in 0..rounds {
        if left.len() < 2 {
            break;
        }
        parts = parts.clamp(2, left.len());
        let step = left.len().div_ceil(parts);
        let tries: Vec<Vec<u8>> = (0..left.len())
            .step_by(step)
            .take(MOST_TRIES)
            .map(|from| {
                let to = (from + step).min(left.len());
                [&left[..from], &left[to..]].concat().concat()
            })
            .collect();
        let list: Vec<&[u8]> = tries.iter().map(Vec::as_slice).collect();
        match differs(&list)?.iter().position(|d| *d) {
            Some(i) => {
                left = units(&tries[i]);
                parts = parts.saturating_sub(1).max(2);
            }
            None if parts >= left.len() || parts >= MOST_TRIES => break,
            None => parts *= 2,
        }
    }
    Ok(left.concat())
}

/// Bytes as a line can show them: UTF-8 that is visible as it is, everything else as an escape.
pub fn shown(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                ' '..='~' if c != '\\' => out.push(c),
                _ if c.is_alphanumeric() && !('\u{300}'..='\u{36f}').contains(&c) => out.push(c),
                _ => out.extend(c.escape_default()),
            }
        }
        chunk.invalid().iter().for_each(|b| out += &format!("\\x{b:02x}"));
    }
    out
}

/// The bytes around a place, cut at the ends of characters, with `…` where there is more.
fn around(text: &[u8], at: usize) -> String {
    let boundary = |i: usize| i >= text.len() || text[i] & 0xc0 != 0x80;
    let at = at.min(text.len());
    let from = (at.saturating_sub(AROUND)..=at).find(|i| boundary(*i)).unwrap_or(at);
    let to = (at + AROUND..at + AROUND + 4).map(|i| i.min(text.len())).find(|i| boundary(*i)).unwrap_or(text.len());
    let (left, right) = (if from > 0 { "…" } else { "" }, if to < text.len() { "…" } else { "" });
    format!("{left}{}⟨here⟩{}{right}", shown(&text[from..at]), shown(&text[at..to]))
}

fn side(c: &Check, ids: &[u32], first: usize) -> Side {
    let id = ids.get(first).copied();
    let bytes = id.and_then(|id| c.tokens.decode_token(id));
    Side { id, spelling: bytes.map(|b| shown(&b)), ids: ids.len() }
}

/// Index of the first id that differs.
fn first_difference(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Where in the text a token starts: the reference knows; else the bytes of the tokens before it are counted.
fn offset(c: &Check, text: &[u8], ids: &[u32], index: usize) -> usize {
    let known = std::str::from_utf8(text).ok().and_then(|t| c.reference?.offsets(t));
    // An id of the template has the offset 0 of no text.
    match known.as_ref().and_then(|list| list.get(index)) {
        Some(at) => (*at).min(text.len()),
        None if known.is_some() => text.len(),
        None => {
            let length = |id: &u32| c.tokens.decode_token(*id).map_or(0, |b| b.len());
            ids[..index.min(ids.len())].iter().map(length).sum::<usize>().min(text.len())
        }
    }
}

/// Everything about one difference.
///
/// # Errors
/// If the device does not run any more.
pub fn told(c: &Check, f: Found) -> Result<Difference> {
    let index = first_difference(&f.expected.ids, &f.got.ids);
    let at = offset(c, &f.text, &f.expected.ids, index);
    let mut d = Difference {
        device: f.device.map_or("reference", |i| c.devices[i].name()).to_string(),
        group: f.group.name().to_string(),
        number: f.number,
        what: match f.what {
            What::Ids => "ids",
            What::Decoded => "decoded text",
            What::Refused => "no answer",
            What::Case => "the case",
        },
        why: f.why,
        token: index,
        offset: at,
        context: around(&f.text, at),
        expected: side(c, &f.expected.ids, index),
        got: side(c, &f.got.ids, index),
        expected_text: None,
        got_text: None,
        shortest: None,
        shortest_expected: Vec::new(),
        shortest_got: Vec::new(),
    };
    if f.what == What::Decoded || f.what == What::Case && f.expected.ids == f.got.ids {
        (d.expected_text, d.got_text) = (Some(shown(&f.expected.decoded)), Some(shown(&f.got.decoded)));
    }
    let Some(device) = f.device else { return Ok(d) };
    let rounds = if c.devices[device].is_slow() { SLOW_ROUNDS } else { ROUNDS };
    let short = shortest(&f.text, rounds, |texts| compare::differs(c, device, texts))?;
    if let Some((expected, got)) = compare::ask(c, device, &[&short])?.pop() {
        d.shortest_expected = expected.map(|e| e.ids).unwrap_or_default();
        d.shortest_got = got.map(|g| g.ids).unwrap_or_default();
    }
    // Of bytes that are no UTF-8 a part may be, and is then compared with another side.
    d.shortest = (f.group != Group::Stray || std::str::from_utf8(&short).is_err()).then(|| shown(&short));
    Ok(d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_shrinks_to_what_matters() {
        let contains = |needle: &'static str| {
            move |texts: &[&[u8]]| {
                Ok(texts.iter().map(|t| std::str::from_utf8(t).is_ok_and(|t| t.contains(needle))).collect())
            }
        };
        let text = format!("{}é!{}", "some words ".repeat(50), "🙂 and more".repeat(40));
        assert_eq!(shortest(text.as_bytes(), ROUNDS, contains("é!")).unwrap(), "é!".as_bytes());
        let both = |texts: &[&[u8]]| Ok(texts.iter().map(|t| t.contains(&b'a') && t.contains(&b'z')).collect());
        assert_eq!(shortest(b"xxaxxxxxxxzxxxx", ROUNDS, both).unwrap(), b"az");
        assert_eq!(shortest(b"", ROUNDS, contains("x")).unwrap(), b"");
    }

    #[test]
    fn what_a_line_cannot_show_is_escaped() {
        assert_eq!(shown("aé\n\u{301}\\\u{1}".as_bytes()), "aé\\n\\u{301}\\\\\\u{1}");
        assert_eq!(shown(b"a\xff\xe4\xb8"), "a\\xff\\xe4\\xb8");
    }

    #[test]
    fn the_place_in_a_long_text() {
        let text = format!("{}X{}", "é".repeat(40), "y".repeat(40));
        let s = around(text.as_bytes(), 80);
        assert!(s.starts_with("…é") && s.contains("é⟨here⟩Xy") && s.ends_with("y…"), "{s}");
        assert_eq!(around(b"ab", 9), "ab⟨here⟩");
    }
}
