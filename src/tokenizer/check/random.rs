//! Random texts of many kinds. A text depends on the seed and its number alone, so any of them can be made again, on any number of threads.

use super::nasty::{MARKS, PIECES, SCRIPTS, SPACES};

/// SplitMix64: every seed gives another stream, none is bad.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64, number: u64) -> Random {
        let mut r = Random(seed ^ 0x5851_f42d_4c95_7f2d);
        let mixed = r.next();
        Random(mixed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `n`; 0 if `n` is.
    pub fn below(&mut self, n: usize) -> usize {
        // The top half of a product: no division, and no bias that a test could see.
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.below(list.len()))
    }

    /// Mostly small, because many short texts find more than few long ones; one of 64 is long.
    fn length(&mut self) -> usize {
        match self.below(64) {
            0 => self.below(200),
            1..=6 => self.below(30),
            _ => 1 + self.below(5),
        }
    }
}

/// What the generators draw from besides their own tables.
#[derive(Default)]
pub struct Material {
    /// Texts of the tokens.
    pub tokens: Vec<String>,
    /// Tokens as the vocabulary spells them (`Ġthe`, `▁the`, `##ing`, `<0x0A>`).
    pub spellings: Vec<String>,
    /// Added tokens, found in a text before anything else.
    pub added: Vec<String>,
    /// Lines of the user's texts and of ours.
    pub lines: Vec<String>,
}

type Generator = fn(&mut Random, &Material, &mut String);

const GENERATORS: [Generator; 10] = [bytes, scalars, scripts, tokens, spellings, mutated, spaces, pieces, marks, added];

/// Text `number` of a seed.
pub fn text(seed: u64, number: u64, material: &Material) -> String {
    let mut r = Random::new(seed, number);
    let mut out = String::new();
    // Of two kinds now and then: what one leaves at its end meets what the other starts with.
    let parts = if r.one_in(4) { 2 } else { 1 };
    for _ in 0..parts {
        if let Some(make) = r.pick(&GENERATORS) {
            make(&mut r, material, &mut out);
        }
    }
    out
}

/// Bytes that need not be UTF-8.
pub fn stray(seed: u64, number: u64, material: &Material) -> Vec<u8> {
    let mut r = Random::new(!seed, number);
    let mut out = text(seed, number, material).into_bytes();
    for _ in 0..1 + r.below(4) {
        let at = r.below(out.len() + 1);
        match r.below(4) {
            0 => out.insert(at, [0x80, 0xbf, 0xc0, 0xc3, 0xe4, 0xed, 0xf0, 0xf4, 0xff][r.below(9)]),
            1 => out.insert(at, r.next() as u8),
            2 => out.truncate(at),
            _ => {
                if let Some(b) = out.get_mut(at) {
                    *b ^= 1 << r.below(8);
                }
            }
        }
    }
    out
}

fn bytes(r: &mut Random, _: &Material, out: &mut String) {
    let raw: Vec<u8> = (0..r.length() * 2).map(|_| r.next() as u8).collect();
    *out += &String::from_utf8_lossy(&raw);
}

/// Any scalar, more often of the planes where something is.
fn scalar(r: &mut Random) -> char {
    let limit = [0x80, 0x250, 0x3100, 0x1_0000, 0x2_0000, 0x11_0000][r.below(6)];
    char::from_u32(r.below(limit) as u32).unwrap_or('\u{fffd}')
}

fn scalars(r: &mut Random, _: &Material, out: &mut String) {
    out.extend((0..r.length()).map(|_| scalar(r)).collect::<Vec<char>>());
}

/// A few letters of one script.
fn word(r: &mut Random, out: &mut String) {
    let Some((first, last)) = r.pick(SCRIPTS) else { return };
    for _ in 0..1 + r.below(8) {
        out.extend(char::from_u32(first + r.below((last - first + 1) as usize) as u32));
    }
}

fn scripts(r: &mut Random, _: &Material, out: &mut String) {
    for _ in 0..r.length() {
        word(r, out);
        match r.below(8) {
            0 => out.extend(r.pick(PIECES).copied()),
            1 => out.extend(r.pick(SPACES).copied()),
            2 => {}
            _ => out.push(' '),
        }
    }
}

fn joined(r: &mut Random, list: &[String], out: &mut String) {
    let spaced = r.one_in(3);
    for _ in 0..r.length() {
        out.extend(r.pick(list).map(String::as_str));
        if spaced {
            out.push(' ');
        }
    }
}

fn tokens(r: &mut Random, m: &Material, out: &mut String) {
    joined(r, &m.tokens, out);
}

fn spellings(r: &mut Random, m: &Material, out: &mut String) {
    joined(r, &m.spellings, out);
}

/// A line with a few accidents.
fn mutated(r: &mut Random, m: &Material, out: &mut String) {
    let mut line: Vec<char> = r.pick(&m.lines).map(|l| l.chars().collect()).unwrap_or_default();
    let most = if r.one_in(16) { 200 } else { 30 };
    if line.len() > most {
        let from = r.below(line.len() - most);
        line = line[from..from + most].to_vec();
    }
    for _ in 0..1 + r.below(8) {
        let at = r.below(line.len() + 1);
        let end = (at + r.below(12)).min(line.len());
        match r.below(8) {
            0 => drop(line.drain(at..end)),
            1 => line.insert(at, scalar(r)),
            2 => {
                let again: Vec<char> = line[at..end].to_vec();
                line.splice(at..at, again);
            }
            3 => {
                let upper: Vec<char> = line[at..end].iter().flat_map(|c| c.to_uppercase()).collect();
                line.splice(at..end, upper);
            }
            4 => {
                let piece = r.pick(PIECES).copied().unwrap_or("");
                line.splice(at..at, piece.chars());
            }
            5 => {
                let token: Vec<char> = r.pick(&m.tokens).map(|t| t.chars().collect()).unwrap_or_default();
                line.splice(at..at, token);
            }
            6 => {
                let other: Vec<char> = r.pick(&m.lines).map(|l| l.chars().take(30).collect()).unwrap_or_default();
                let from = r.below(other.len() + 1);
                line.splice(at.., other[from..].iter().copied());
            }
            _ => {
                line.insert(at, ' ');
            }
        }
    }
    out.extend(line);
}

fn spaces(r: &mut Random, _: &Material, out: &mut String) {
    for _ in 0..r.length() {
        match r.below(5) {
            0 => word(r, out),
            1 => out.extend(r.pick(PIECES).copied()),
            _ => {
                let space = r.pick(SPACES).copied().unwrap_or(" ");
                (0..1 + r.below(4)).for_each(|_| *out += space);
            }
        }
    }
}

fn pieces(r: &mut Random, _: &Material, out: &mut String) {
    for _ in 0..r.length() {
        out.extend(r.pick(PIECES).copied());
    }
}

/// What normalization turns around: marks in any order and number, Hangul in parts, compatibility forms.
fn marks(r: &mut Random, _: &Material, out: &mut String) {
    for _ in 0..r.length() {
        match r.below(5) {
            0 => out.push(scalar(r)),
            1 => (0..1 + r.below(3)).for_each(|_| out.extend(char::from_u32(0x1100 + r.below(0x100) as u32))),
            2 => out.extend(char::from_u32(0xac00 + r.below(11172) as u32)),
            3 => out.extend(char::from_u32(0xf900 + r.below(0x700) as u32)),
            _ => out.push(char::from(b'A' + r.below(58) as u8)),
        }
        let most = if r.one_in(40) { 60 } else { 4 };
        for _ in 0..r.below(most) {
            if let Some((first, last)) = r.pick(MARKS) {
                out.extend(char::from_u32(first + r.below((last - first + 1) as usize) as u32));
            }
        }
    }
}

/// Added tokens whole, cut, glued to each other and to words.
fn added(r: &mut Random, m: &Material, out: &mut String) {
    for _ in 0..1 + r.below(5) {
        let Some(token) = r.pick(&m.added) else { return pieces(r, m, out) };
        let chars: Vec<char> = token.chars().collect();
        let (from, to) = match r.below(4) {
            0 => (0, r.below(chars.len() + 1)),
            1 => (r.below(chars.len() + 1), chars.len()),
            _ => (0, chars.len()),
        };
        out.extend(&chars[from..to]);
        match r.below(4) {
            0 => word(r, out),
            1 => out.extend(r.pick(SPACES).copied()),
            2 => out.extend(r.pick(PIECES).copied()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn material() -> Material {
        let s = |list: &[&str]| list.iter().map(|t| t.to_string()).collect();
        Material {
            tokens: s(&["the", " a", "ing"]),
            spellings: s(&["Ġa"]),
            added: s(&["<|end|>"]),
            lines: s(&["a line of text"]),
        }
    }

    #[test]
    fn a_text_depends_on_seed_and_number_alone() {
        let m = material();
        let first: Vec<String> = (0..500).map(|n| text(7, n, &m)).collect();
        let again: Vec<String> = (0..500).rev().map(|n| text(7, n, &m)).collect();
        assert!(first.iter().eq(again.iter().rev()));
        let other = (0..500).filter(|n| text(8, *n, &m) == first[*n as usize]).count();
        assert!(other < 60, "{other} of 500 texts are those of another seed");
        let distinct: std::collections::BTreeSet<&String> = first.iter().collect();
        assert!(distinct.len() > 400, "{} of 500 texts are different", distinct.len());
    }

    #[test]
    fn nothing_to_draw_from_is_no_panic() {
        let none = Material::default();
        (0..2000).for_each(|n| drop(text(1, n, &none)));
        (0..2000).for_each(|n| drop(stray(1, n, &none)));
        assert!((0..200).any(|n| String::from_utf8(stray(1, n, &none)).is_err()));
    }
}
