//! Tables of section 7 as bytes: maps of code points, combining classes, pairs that compose.

use super::bits::put_varint;
use std::collections::{BTreeMap, HashMap};

/// Most entries of a block, so the longest way of a search.
const BLOCK: usize = 64;
/// Most characters that one becomes.
pub(super) const LONGEST: usize = 32;

/// What one code point becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Image {
    /// These characters.
    Text(Vec<u32>),
    /// Itself, but no pair starts with it.
    Keep,
}

/// What code points become; those that are absent stay.
pub(super) type Images = BTreeMap<u32, Image>;

const DELETE: u32 = 0;
const OFFSET: u32 = 1;
const OTHERS: u32 = 2;
const STRINGS: u32 = 3;
const SINGLES: u32 = 4;
const SPACED: u32 = 5;
const KEEP: u32 = 6;
const CONSTANT: u32 = 7;
const SPACED_SINGLES: u32 = 8;

/// A run of code points that one entry describes.
struct Run {
    start: u32,
    length: u32,
    kind: u32,
}

fn number(out: &mut Vec<u8>, value: u32) {
    match value {
        0..0x80 => out.push(value as u8),
        0x80..0x7000 => out.extend([(value >> 8) as u8 | 0x80, value as u8]),
        _ => out.extend((value | 0xf000_0000).to_be_bytes()),
    }
}

fn signed(out: &mut Vec<u8>, from: u32, to: u32) {
    let value = if to >= from { (to - from) << 1 } else { (from - to - 1) << 1 | 1 };
    number(out, value);
}

fn one(image: Option<&Image>) -> Option<u32> {
    match image {
        Some(Image::Text(text)) if text.len() == 1 => text.first().copied(),
        _ => None,
    }
}

/// The character between two spaces.
fn spaced_one(image: &Image) -> Option<u32> {
    match image {
        Image::Text(text) => match text[..] {
            [0x20, code, 0x20] => Some(code),
            _ => None,
        },
        Image::Keep => None,
    }
}

/// How many of the code points from `start` are like the first, in steps of `step`.
fn count(images: &Images, start: u32, step: u32, like: impl Fn(u32, Option<&Image>) -> bool) -> u32 {
    (0..).take_while(|k| like(start + k * step, images.get(&(start + k * step)))).count() as u32
}

/// The run at a code point that is in the map.
fn run(images: &Images, start: u32) -> Run {
    let spaced = |c: u32, image: Option<&Image>| image == Some(&Image::Text(vec![0x20, c, 0x20]));
    let deleted = |_: u32, image: Option<&Image>| image == Some(&Image::Text(Vec::new()));
    let first = images.get(&start);
    if first == Some(&Image::Keep) {
        return Run { start, length: count(images, start, 1, |_, i| i == Some(&Image::Keep)), kind: KEEP };
    }
    if deleted(start, first) {
        return Run { start, length: count(images, start, 1, deleted), kind: DELETE };
    }
    if spaced(start, first) {
        return Run { start, length: count(images, start, 1, spaced), kind: SPACED };
    }
    if let Some(target) = one(first) {
        let by = i64::from(target) - i64::from(start);
        let moved = |c: u32, image: Option<&Image>| one(image).is_some_and(|to| i64::from(to) - i64::from(c) == by);
        let offset = count(images, start, 1, moved);
        let constant = count(images, start, 1, |_, image| one(image) == Some(target));
        let others = count(images, start, 2, moved);
        let free = (0..others.saturating_sub(1)).take_while(|k| !images.contains_key(&(start + 2 * k + 1))).count();
        let others = 2 * free as u32 + 1;
        let length = offset.max(constant).max(others);
        if length >= 4 || length >= 3 && !images.contains_key(&(start + length)) {
            let kind = if length == offset {
                OFFSET
            } else if length == constant {
                CONSTANT
            } else {
                OTHERS
            };
            return Run { start, length, kind };
        }
    }
    let kind = match first {
        Some(Image::Text(text)) if text.len() == 1 => SINGLES,
        Some(image) if spaced_one(image).is_some() => SPACED_SINGLES,
        _ => STRINGS,
    };
    Run { start, length: 1, kind }
}

/// Joins runs of single characters and of strings that follow each other, where that is shorter.
fn joined(images: &Images) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut next = 0;
    while let Some((&start, _)) = images.range(next..).next() {
        let now = run(images, start);
        next = start + now.length;
        let text = |kind| [SINGLES, STRINGS, SPACED_SINGLES].contains(&kind);
        match runs.last_mut() {
            Some(last) if last.start + last.length == start && last.kind == now.kind && text(now.kind) => {
                last.length += 1;
            }
            _ => runs.push(now),
        }
    }
    // A few single characters between strings cost less as strings.
    let mut joined: Vec<Run> = Vec::new();
    for run in runs {
        match joined.last_mut() {
            Some(last)
                if last.start + last.length == run.start
                    && (last.kind == STRINGS || last.kind == SINGLES && last.length < 3)
                    && (run.kind == STRINGS || run.kind == SINGLES && run.length < 3) =>
            {
                last.length += run.length;
                last.kind = STRINGS;
            }
            _ => joined.push(run),
        }
    }
    joined
}

/// Entries with a record for each block of at most [`BLOCK`].
#[derive(Default)]
struct Blocks {
    records: Vec<u8>,
    entries: Vec<u8>,
    count: u16,
    used: usize,
}

impl Blocks {
    /// Starts a block if there is none or it is full; whether it did.
    fn open(&mut self, weight: usize, key: &[u32]) -> bool {
        if self.count > 0 && self.used + weight <= BLOCK {
            self.used += weight;
            return false;
        }
        self.start(weight, key);
        true
    }

    fn start(&mut self, weight: usize, key: &[u32]) {
        for value in key.iter().chain([&(self.entries.len() as u32)]) {
            self.records.extend(value.to_le_bytes().iter().take(3));
        }
        self.count += 1;
        self.used = weight;
    }
}

/// A map of code points; no bytes if it is empty.
pub(super) fn map(images: &Images) -> Vec<u8> {
    if images.is_empty() {
        return Vec::new();
    }
    let tails = tails(images);
    let index: HashMap<&[u32], u32> = tails.iter().zip(1..).map(|(tail, k)| (*tail, k)).collect();
    let mut blocks = Blocks::default();
    let (mut next, mut last) = (0, 0);
    for Run { mut start, length, kind } in joined(images) {
        let end = start + length;
        while start < end {
            let text = [SINGLES, STRINGS, SPACED_SINGLES].contains(&kind);
            // Strings may be cut anywhere, so a block is filled with them.
            let room = if blocks.count == 0 || blocks.used + 4 > BLOCK { BLOCK } else { BLOCK - blocks.used };
            let take = if text { (end - start).min(room as u32) } else { end - start };
            if blocks.open(if text { take as usize } else { 1 }, &[start]) {
                (next, last) = (start, start);
            }
            put_varint(&mut blocks.entries, start - next);
            put_varint(&mut blocks.entries, (take - 1) << 4 | kind);
            next = start + take;
            for code in start..next {
                let Some(Image::Text(text)) = images.get(&code) else { break };
                let spaced = spaced_one(&Image::Text(text.clone())).filter(|_| kind == SPACED_SINGLES);
                let first = spaced.or(text.first().copied()).unwrap_or(0);
                match kind {
                    OFFSET | OTHERS => signed(&mut blocks.entries, code, first),
                    CONSTANT => number(&mut blocks.entries, first),
                    STRINGS | SINGLES | SPACED_SINGLES => {
                        signed(&mut blocks.entries, last, first);
                        last = first;
                        let tail = text.get(1..).unwrap_or(&[]);
                        if kind == STRINGS {
                            put_varint(&mut blocks.entries, index.get(tail).copied().unwrap_or(0));
                        }
                        continue;
                    }
                    _ => {}
                }
                break;
            }
            start = next;
        }
    }
    let texts: Vec<String> =
        tails.iter().map(|tail| tail.iter().filter_map(|&c| char::from_u32(c)).collect()).collect();
    let mut out = blocks.count.to_le_bytes().to_vec();
    out.extend((tails.len() as u16).to_le_bytes());
    out.extend((texts.iter().map(String::len).sum::<usize>() as u32).to_le_bytes());
    out.extend((blocks.entries.len() as u32).to_le_bytes());
    let mut end = 0u16;
    for text in &texts {
        end += text.len() as u16;
        out.extend(end.to_le_bytes());
    }
    texts.iter().for_each(|text| out.extend(text.bytes()));
    out.extend(blocks.records);
    out.extend(blocks.entries);
    out
}

/// What follows the first characters, the most frequent one first.
fn tails(images: &Images) -> Vec<&[u32]> {
    let mut uses: BTreeMap<&[u32], usize> = BTreeMap::new();
    for image in images.values() {
        match image {
            Image::Text(text) if text.len() > 1 && spaced_one(image).is_none() => {
                *uses.entry(text.get(1..).unwrap_or(&[])).or_default() += 1;
            }
            _ => {}
        }
    }
    let mut tails: Vec<(&[u32], usize)> = uses.into_iter().collect();
    tails.sort_by_key(|(_, uses)| std::cmp::Reverse(*uses));
    tails.into_iter().map(|(tail, _)| tail).collect()
}

/// Bytes of all strings of a map, which have to fit 16 bits.
pub(super) fn string_bytes(images: &Images) -> usize {
    let length = |tail: &&[u32]| tail.iter().filter_map(|&c| char::from_u32(c)).map(char::len_utf8).sum::<usize>();
    tails(images).iter().map(length).sum()
}

/// Combining classes other than 0.
pub(super) fn classes(classes: &BTreeMap<u32, u8>) -> Vec<u8> {
    let mut blocks = Blocks::default();
    let mut next = 0;
    let mut codes = classes.iter().peekable();
    while let Some((&start, class)) = codes.next() {
        let mut end = start + 1;
        while codes.next_if(|&(&code, other)| code == end && other == class).is_some() {
            end += 1;
        }
        if blocks.open(1, &[start]) {
            next = start;
        }
        put_varint(&mut blocks.entries, start - next);
        put_varint(&mut blocks.entries, end - start - 1);
        blocks.entries.push(*class);
        next = end;
    }
    short(blocks)
}

/// Pairs that compose: (second, first) → the character they make.
pub(super) fn pairs(pairs: &BTreeMap<(u32, u32), u32>) -> Vec<u8> {
    let mut blocks = Blocks::default();
    let (mut of, mut last, mut made_last) = (None, 0, 0);
    for (&(second, first), &made) in pairs {
        let starts = if of == Some(second) {
            blocks.open(1, &[second, first])
        } else {
            blocks.start(1, &[second, first]);
            true
        };
        if starts {
            (of, last, made_last) = (Some(second), first, first);
        }
        number(&mut blocks.entries, first - last);
        signed(&mut blocks.entries, made_last, made);
        (last, made_last) = (first, made);
    }
    short(blocks)
}

fn short(blocks: Blocks) -> Vec<u8> {
    if blocks.count == 0 {
        return Vec::new();
    }
    let mut out = u32::from(blocks.count).to_le_bytes().to_vec();
    out.extend((blocks.entries.len() as u32).to_le_bytes());
    out.extend(blocks.records);
    out.extend(blocks.entries);
    out
}
