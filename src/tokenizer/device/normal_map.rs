//! Tables of the normalizer: what becomes of a code point, combining classes, pairs that compose. Each is cut into blocks of at most 64 entries
//! with a record per block, so that a search is a bisection and a short walk.

use super::bits::{byte, le, varint, Span};
use super::text::STRAY;
use super::Bad;

/// Most characters that one becomes.
pub const LONGEST: u32 = 32;
/// A character nobody can reach: its entry changes nothing, but no pair starts with it.
const KEEP: u32 = 6;

/// What a code point becomes.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    head: Head,
    tail: &'a [u8],
    /// Number of characters.
    pub count: u32,
    /// Whether a table says something about the character.
    pub listed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Head {
    One(u32),
    Spaced(u32),
    Hangul(u32),
}

impl<'a> Image<'a> {
    /// The character itself.
    pub fn itself(code: u32) -> Image<'a> {
        Image { head: Head::One(code), tail: &[], count: 1, listed: false }
    }

    /// A syllable's parts, if the character is one.
    pub fn hangul(code: u32) -> Image<'a> {
        match code.wrapping_sub(0xac00) {
            s @ 0..11172 => Image { head: Head::Hangul(s), tail: &[], count: 2 + u32::from(s % 28 != 0), listed: true },
            _ => Image::itself(code),
        }
    }

    /// Character `index` below the count.
    pub fn get(&self, index: u32) -> u32 {
        match self.head {
            Head::One(code) if index == 0 => code,
            Head::Spaced(code) => [0x20, code, 0x20].get(index as usize).copied().unwrap_or(0x20),
            Head::Hangul(s) => match index {
                0 => 0x1100 + s / 588,
                1 => 0x1161 + s / 28 % 21,
                _ => 0x11a7 + s % 28,
            },
            Head::One(_) => {
                let mut at = 0;
                for _ in 1..index {
                    at += length(byte(self.tail, at));
                }
                super::text::character(self.tail.get(at as usize..).unwrap_or(&[])).map_or(0x20, |(code, _)| code)
            }
        }
    }
}

/// Bytes of a well-formed sequence by its first byte.
fn length(first: u8) -> u32 {
    match first {
        0..0xc0 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    }
}

/// Records of a table: fixed fields, ascending, the last of which is an offset in the entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Blocks {
    records: Span,
    /// Bytes of a record; its key is all but the last three.
    size: u32,
    entries: Span,
}

impl Blocks {
    fn count(self) -> u32 {
        match self.size {
            9 => self.records.len / 9,
            _ => self.records.len / 6,
        }
    }

    /// Field `field` of record `index`.
    fn field(self, bytes: &[u8], index: u32, field: u32) -> u32 {
        le(bytes, self.records.at + index * self.size + field * 3, 3)
    }

    fn start(self, bytes: &[u8], index: u32) -> u32 {
        match index < self.count() {
            true => self.field(bytes, index, self.size / 3 - 1),
            false => self.entries.len,
        }
    }

    /// The block whose key is the last not above `key`, and its entries.
    fn find(self, bytes: &[u8], key: (u32, u32)) -> Option<(u32, &[u8])> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = (low + high) / 2;
            let first = self.field(bytes, middle, 0);
            let second = if self.size == 9 { self.field(bytes, middle, 1) } else { 0 };
            if (first, second) <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let block = low.checked_sub(1)?;
        Some((block, self.block(bytes, block)))
    }

    fn block(self, bytes: &[u8], block: u32) -> &[u8] {
        let (from, to) = (self.start(bytes, block), self.start(bytes, block + 1));
        self.entries.of(bytes).get(from as usize..to as usize).unwrap_or(&[])
    }

    /// Places the records and the entries behind a head that names both, and checks the records.
    fn read(bytes: &[u8], at: u32, end: u32, count: u32, size: u32, entries: u32) -> Result<Blocks, Bad> {
        let bad = |what| Bad { at, what };
        let records = Span { at, len: count * size };
        let start = at.checked_add(records.len).filter(|&x| x <= end).ok_or(bad("records of a normalizer table"))?;
        if entries > end - start {
            return Err(bad("entries of a normalizer table"));
        }
        let blocks = Blocks { records, size, entries: Span { at: start, len: entries } };
        for k in 0..count {
            let key = |k| (blocks.field(bytes, k, 0), if size == 9 { blocks.field(bytes, k, 1) } else { 0 });
            let (from, to) = (blocks.start(bytes, k), blocks.start(bytes, k + 1));
            if from >= to || to > entries || k == 0 && from != 0 || k > 0 && key(k - 1) >= key(k) {
                return Err(bad("records of a normalizer table"));
            }
        }
        match count == 0 && entries != 0 {
            true => Err(bad("entries of a normalizer table")),
            false => Ok(blocks),
        }
    }
}

/// A number of one, two or four bytes at `at`, which moves behind it.
fn number(bytes: &[u8], at: &mut u32) -> Option<u32> {
    let first = u32::from(*bytes.get(*at as usize)?);
    let (more, value) = match first {
        0..0x80 => (0, first),
        0x80..0xf0 => (1, first & 0x7f),
        _ => (3, first & 0x0f),
    };
    *at += 1;
    let mut value = value;
    for _ in 0..more {
        value = value << 8 | u32::from(*bytes.get(*at as usize)?);
        *at += 1;
    }
    Some(value)
}

/// A signed number that is added to `base`; None if the sum is no code point.
fn moved(bytes: &[u8], at: &mut u32, base: u32) -> Option<u32> {
    let value = number(bytes, at)?;
    let by = value >> 1;
    let sum = if value & 1 == 0 { base.checked_add(by) } else { base.checked_sub(by + 1) };
    sum.filter(|&code| code < STRAY)
}

/// What code points become.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Map {
    blocks: Blocks,
    ends: Span,
    tails: Span,
}

/// An entry without what its kind adds.
struct Entry {
    start: u32,
    length: u32,
    kind: u32,
}

fn entry(bytes: &[u8], at: &mut u32, next: u32) -> Option<Entry> {
    let start = next.checked_add(varint(bytes, at)?)?;
    let range = varint(bytes, at)?;
    Some(Entry { start, length: (range >> 4) + 1, kind: range & 15 })
}

impl Map {
    /// Checks the table in `span`.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn read(bytes: &[u8], span: Span) -> Result<Map, Bad> {
        if span.len == 0 {
            return Ok(Map::default());
        }
        let bad = |what| Bad { at: span.at, what };
        if span.len < 12 {
            return Err(bad("normalizer map cut short"));
        }
        let (count, strings) = (le(bytes, span.at, 2), le(bytes, span.at + 2, 2));
        let (text, entries) = (le(bytes, span.at + 4, 4), le(bytes, span.at + 8, 4));
        let end = span.end();
        let ends = Span { at: span.at + 12, len: 2 * strings };
        let tails = Span { at: ends.end(), len: text };
        if ends.end() > end || text > end - ends.end() {
            return Err(bad("strings of a normalizer map"));
        }
        let blocks = Blocks::read(bytes, tails.end(), end, count, 6, entries)?;
        let map = Map { blocks, ends, tails };
        if blocks.entries.end() != end {
            return Err(bad("normalizer map with something behind it"));
        }
        map.check_strings(bytes, strings)?;
        let mut next = 0;
        for block in 0..count {
            let first = blocks.field(bytes, block, 0);
            let ok = (first >= next).then(|| map.check_block(blocks.block(bytes, block), first)).flatten();
            next =
                ok.ok_or(Bad { at: blocks.entries.at + blocks.start(bytes, block), what: "normalizer map entry" })?;
        }
        Ok(map)
    }

    fn check_strings(&self, bytes: &[u8], strings: u32) -> Result<(), Bad> {
        let mut from = 0;
        for k in 0..strings {
            let bad = Bad { at: self.ends.at + 2 * k, what: "string of a normalizer map" };
            let to = le(bytes, self.ends.at + 2 * k, 2);
            if to <= from || to > self.tails.len {
                return Err(bad);
            }
            let text = self.tails.of(bytes).get(from as usize..to as usize).unwrap_or(&[]);
            match core::str::from_utf8(text) {
                Ok(text) if text.chars().count() < LONGEST as usize => from = to,
                _ => return Err(bad),
            }
        }
        match from == self.tails.len {
            true => Ok(()),
            false => Err(Bad { at: self.tails.at, what: "strings of a normalizer map" }),
        }
    }

    /// One past the last code point of a block, if all of it can be read.
    fn check_block(&self, block: &[u8], first: u32) -> Option<u32> {
        let (mut at, mut next, mut last) = (0, first, first);
        while (at as usize) < block.len() {
            let Entry { start, length, kind } = entry(block, &mut at, next)?;
            next = start.checked_add(length).filter(|&end| end <= STRAY)?;
            match kind {
                0 | 5 | KEEP => {}
                1 | 2 => {
                    moved(block, &mut { at }, next - 1)?;
                    moved(block, &mut at, start)?;
                }
                3 | 4 | 8 => {
                    for _ in 0..length {
                        last = moved(block, &mut at, last)?;
                        if kind == 3 && varint(block, &mut at)? > self.ends.len / 2 {
                            return None;
                        }
                    }
                }
                7 => {
                    number(block, &mut at).filter(|&code| code < STRAY)?;
                }
                _ => return None,
            }
        }
        Some(next)
    }

    /// String `index`, 0 is the empty one.
    fn tail<'a>(&self, bytes: &'a [u8], index: u32) -> &'a [u8] {
        let Some(place) = index.checked_sub(1) else { return &[] };
        let from = if place == 0 { 0 } else { le(bytes, self.ends.at + 2 * place - 2, 2) };
        let to = le(bytes, self.ends.at + 2 * place, 2);
        self.tails.of(bytes).get(from as usize..to as usize).unwrap_or(&[])
    }

    /// What a character becomes.
    pub fn image<'a>(&self, bytes: &'a [u8], code: u32) -> Image<'a> {
        self.search(bytes, code).unwrap_or(Image::itself(code))
    }

    /// Whether the table says that no pair starts with this character.
    pub fn keeps(&self, bytes: &[u8], code: u32) -> bool {
        self.search(bytes, code).is_some_and(|image| image.listed && image.count == 1 && image.get(0) == code)
    }

    fn search<'a>(&self, bytes: &'a [u8], code: u32) -> Option<Image<'a>> {
        let (index, block) = self.blocks.find(bytes, (code, 0))?;
        let (mut at, mut next) = (0, self.blocks.field(bytes, index, 0));
        let mut last = next;
        let one = |code| Image { head: Head::One(code), tail: &[], count: 1, listed: true };
        while (at as usize) < block.len() {
            let Entry { start, length, kind } = entry(block, &mut at, next)?;
            if code < start {
                return None;
            }
            let place = code - start;
            let inside = place < length;
            next = start.checked_add(length)?;
            match kind {
                0 if inside => return Some(Image { count: 0, ..one(code) }),
                1 if inside => return Some(one(moved(block, &mut at, code)?)),
                2 if inside && place & 1 == 0 => return Some(one(moved(block, &mut at, code)?)),
                2 if inside => return None,
                5 if inside => return Some(Image { head: Head::Spaced(code), count: 3, ..one(code) }),
                KEEP if inside => return Some(one(code)),
                7 if inside => return Some(one(number(block, &mut at)?)),
                1 | 2 | 7 => {
                    number(block, &mut at)?;
                }
                3 | 4 | 8 => {
                    for k in 0..length {
                        last = moved(block, &mut at, last)?;
                        let tail = if kind == 3 { varint(block, &mut at)? } else { 0 };
                        if k == place && kind == 8 {
                            return Some(Image { head: Head::Spaced(last), count: 3, ..one(last) });
                        }
                        if k == place {
                            let tail = self.tail(bytes, tail);
                            let more = tail.iter().filter(|&&byte| byte & 0xc0 != 0x80).count() as u32;
                            return Some(Image { tail, count: 1 + more, ..one(last) });
                        }
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// Canonical combining classes other than 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Classes(Blocks);

impl Classes {
    /// Checks the table in `span`.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn read(bytes: &[u8], span: Span) -> Result<Classes, Bad> {
        let Some(blocks) = read_short(bytes, span, 6)? else { return Ok(Classes::default()) };
        let mut next = 0;
        for index in 0..blocks.count() {
            let bad = Bad { at: blocks.entries.at + blocks.start(bytes, index), what: "combining class" };
            let block = blocks.block(bytes, index);
            let (mut at, first) = (0, blocks.field(bytes, index, 0));
            if first < next {
                return Err(bad);
            }
            next = first;
            while (at as usize) < block.len() {
                let gap = varint(block, &mut at).ok_or(bad)?;
                let more = varint(block, &mut at).ok_or(bad)?;
                next += gap + more + 1;
                if next > STRAY || byte(block, at) == 0 {
                    return Err(bad);
                }
                at += 1;
            }
        }
        Ok(Classes(blocks))
    }

    /// The class of a character, 0 for starters.
    pub fn get(&self, bytes: &[u8], code: u32) -> u32 {
        self.search(bytes, code).unwrap_or(0)
    }

    fn search(&self, bytes: &[u8], code: u32) -> Option<u32> {
        let (index, block) = self.0.find(bytes, (code, 0))?;
        let (mut at, mut next) = (0, self.0.field(bytes, index, 0));
        loop {
            let start = next.checked_add(varint(block, &mut at)?)?;
            next = start.checked_add(varint(block, &mut at)? + 1)?;
            if code < next {
                return (code >= start).then(|| u32::from(byte(block, at)));
            }
            at += 1;
        }
    }
}

/// Pairs of characters that are one character.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pairs(Blocks);

impl Pairs {
    /// Checks the table in `span`.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn read(bytes: &[u8], span: Span) -> Result<Pairs, Bad> {
        let Some(blocks) = read_short(bytes, span, 9)? else { return Ok(Pairs::default()) };
        for index in 0..blocks.count() {
            let bad = Bad { at: blocks.entries.at + blocks.start(bytes, index), what: "pair that composes" };
            let block = blocks.block(bytes, index);
            let (mut at, mut first) = (0, blocks.field(bytes, index, 1));
            let mut made = first;
            while (at as usize) < block.len() {
                first = number(block, &mut at).map(|by| first + by).filter(|&code| code < STRAY).ok_or(bad)?;
                made = moved(block, &mut at, made).ok_or(bad)?;
            }
        }
        Ok(Pairs(blocks))
    }

    /// The character that `first` and `second` make.
    pub fn get(&self, bytes: &[u8], first: u32, second: u32) -> Option<u32> {
        let (index, block) = self.0.find(bytes, (second, first))?;
        if self.0.field(bytes, index, 0) != second {
            return None;
        }
        let (mut at, mut code) = (0, self.0.field(bytes, index, 1));
        let mut made = code;
        while (at as usize) < block.len() {
            code = code.checked_add(number(block, &mut at)?)?;
            made = moved(block, &mut at, made)?;
            if code >= first {
                return (code == first).then_some(made);
            }
        }
        None
    }
}

/// A table of u16 blocks, u16 reserved, u32 bytes of entries; records; entries.
fn read_short(bytes: &[u8], span: Span, size: u32) -> Result<Option<Blocks>, Bad> {
    if span.len == 0 {
        return Ok(None);
    }
    let bad = |what| Bad { at: span.at, what };
    if span.len < 8 || le(bytes, span.at + 2, 2) != 0 {
        return Err(bad("head of a normalizer table"));
    }
    let (count, entries) = (le(bytes, span.at, 2), le(bytes, span.at + 4, 4));
    let blocks = Blocks::read(bytes, span.at + 8, span.end(), count, size, entries)?;
    match blocks.entries.end() == span.end() {
        true => Ok(Some(blocks)),
        false => Err(bad("normalizer table with something behind it")),
    }
}
