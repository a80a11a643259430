//! Damage with a purpose: edits of a packed file that keep its digests right, so that only the rules of the format stand in their way.

use super::packed::{put, word_at, Parts, GOLDEN, NONE, PROGRAM, TABLES, WEIGHTS};
use super::Rng;

/// Values at which rules change their mind.
const EDGES: [u32; 24] = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    17,
    31,
    32,
    33,
    127,
    128,
    255,
    32_767,
    32_768,
    65_536,
    1 << 20,
    1 << 30,
    (1 << 31) - 1,
    1 << 31,
    NONE,
];

/// One to three edits; returns what was done, for the message of a failing test.
pub fn mutate(parts: &mut Parts, rng: &mut Rng) -> String {
    let edits: Vec<String> = (0..1 + rng.below(3)).map(|_| edit(parts, rng)).collect();
    edits.join("; ")
}

fn edit(parts: &mut Parts, rng: &mut Rng) -> String {
    match rng.below(10) {
        0..=3 => program_word(parts, rng),
        4 | 5 => operations(parts, rng),
        6 => flip(parts, PROGRAM, rng),
        7 | 8 => {
            let kind = [WEIGHTS, WEIGHTS, WEIGHTS, GOLDEN, TABLES][rng.below(5)];
            if rng.below(2) == 0 {
                flip(parts, kind, rng)
            } else {
                word(parts, kind, rng)
            }
        }
        _ => length(parts, rng),
    }
}

fn flip(parts: &mut Parts, kind: u32, rng: &mut Rng) -> String {
    let data = parts.section(kind);
    let (at, bit) = (rng.below(data.len()), rng.below(8));
    data[at] ^= 1 << bit;
    format!("section {kind} byte {at} bit {bit}")
}

fn value(old: u32, rng: &mut Rng) -> u32 {
    match rng.below(4) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 => rng.below(24) as u32,
        _ => EDGES[rng.below(EDGES.len())],
    }
}

fn word(parts: &mut Parts, kind: u32, rng: &mut Rng) -> String {
    let data = parts.section(kind);
    let w = rng.below(data.len() / 4);
    let new = value(word_at(data, 4 * w), rng);
    put(data, 4 * w, new);
    format!("section {kind} word {w} = {new:#x}")
}

/// A word of the program section, mostly of an operation; sometimes a copy of another word, which often is a valid index.
fn program_word(parts: &mut Parts, rng: &mut Rng) -> String {
    let words = parts.get(PROGRAM).len() / 4;
    let (first, last) = match rng.below(4) {
        0 => (0, 32),
        1 => (32, words),
        _ => (parts.op(0, 0), parts.tensor(0, 0)),
    };
    if first >= last || last > words {
        return flip(parts, PROGRAM, rng);
    }
    let w = first + rng.below(last - first);
    let new = match rng.below(3) {
        0 => parts.word(PROGRAM, first + rng.below(last - first)),
        _ => value(parts.word(PROGRAM, w), rng),
    };
    parts.set(PROGRAM, w, new);
    format!("program word {w} = {new:#x}")
}

/// Operations removed, doubled or swapped, with the counts that go with it.
fn operations(parts: &mut Parts, rng: &mut Rng) -> String {
    let n = parts.word(PROGRAM, 1) as usize;
    let start = 4 * parts.op(0, 0);
    if n < 2 || start + 48 * n > parts.get(PROGRAM).len() {
        return flip(parts, PROGRAM, rng);
    }
    let (i, j) = (rng.below(n), rng.below(n));
    let at = |i: usize| start + 48 * i..start + 48 * (i + 1);
    let op = parts.get(PROGRAM)[at(i)].to_vec();
    let head = parts.word(PROGRAM, 2);
    match rng.below(3) {
        0 => {
            drop(parts.section(PROGRAM).drain(at(i)));
            parts.set(PROGRAM, 1, n as u32 - 1);
            parts.set(PROGRAM, 2, head.wrapping_sub(u32::from((i as u32) < head)));
            format!("operation {i} removed")
        }
        1 => {
            parts.section(PROGRAM).splice(at(j).start..at(j).start, op);
            parts.set(PROGRAM, 1, n as u32 + 1);
            parts.set(PROGRAM, 2, head.wrapping_add(u32::from((j as u32) < head)));
            format!("operation {i} copied before {j}")
        }
        _ => {
            let other = parts.get(PROGRAM)[at(j)].to_vec();
            parts.section(PROGRAM)[at(i)].copy_from_slice(&other);
            parts.section(PROGRAM)[at(j)].copy_from_slice(&op);
            format!("operations {i} and {j} swapped")
        }
    }
}

fn length(parts: &mut Parts, rng: &mut Rng) -> String {
    let kind = [PROGRAM, TABLES, WEIGHTS, GOLDEN][rng.below(4)];
    let data = parts.section(kind);
    let n = match rng.below(3) {
        0 => data.len() + 1 + rng.below(16),
        1 => data.len().saturating_sub(4).max(132),
        _ => data.len().saturating_sub(1 + rng.below(64)).max(132),
    };
    data.resize(n, 0);
    format!("section {kind} has {n} bytes")
}
