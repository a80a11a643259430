//! The device tokenizer against the plainest possible forms of the same, over small random vocabularies written here.

use super::device::decode::Decoder;
use super::device::{text, Fault, Layout, Tokenizer};
use std::collections::BTreeMap;

/// xorshift: the tests are the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

fn width(value: u32) -> u32 {
    (32 - value.leading_zeros()).max(1)
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: u32,
}

impl Bits {
    fn put(&mut self, value: u32, width: u32) {
        for k in 0..width {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().expect("a byte");
            *last |= ((value >> k & 1) as u8) << (self.count % 8);
            self.count += 1;
        }
    }

    fn number(&mut self, mut value: u32) {
        while value > 7 {
            self.put(value & 7 | 8, 4);
            value >>= 3;
        }
        self.put(value, 4);
    }
}

fn packed(values: impl IntoIterator<Item = u32>, width: u32) -> Vec<u8> {
    let mut bits = Bits::default();
    values.into_iter().for_each(|value| bits.put(value, width));
    bits.bytes
}

/// A vocabulary of merges, and how its blob is to be.
#[derive(Clone, Default)]
pub struct Vocabulary {
    /// Ids of the atoms: bytes, or characters if `characters`.
    pub atoms: BTreeMap<u32, u32>,
    pub characters: bool,
    /// Byte tokens of a model over characters.
    pub bytes: BTreeMap<u8, u32>,
    /// Left, right and result, by rank.
    pub merges: Vec<(u32, u32, u32)>,
    /// Id, flags, bytes.
    pub literals: Vec<(u32, u8, Vec<u8>)>,
    /// Splitter, words, front mode, front character.
    pub cuts: [u8; 4],
    /// Id, flags.
    pub unknown: Option<(u32, u8)>,
    pub classes: Vec<u8>,
    pub decoder: u8,
    /// The last so many merges have one rank.
    pub late: usize,
}

impl Vocabulary {
    pub fn size(&self) -> u32 {
        let merged = self.merges.iter().map(|m| m.2);
        let all = merged.chain(self.atoms.values().copied()).chain(self.bytes.values().copied());
        all.chain(self.literals.iter().map(|l| l.0)).chain(self.unknown.map(|u| u.0)).max().map_or(1, |id| id + 1)
    }

    /// Atoms of each id.
    pub fn spelled(&self) -> BTreeMap<u32, Vec<u32>> {
        let mut all: BTreeMap<u32, Vec<u32>> = self.atoms.iter().map(|(atom, id)| (*id, vec![*atom])).collect();
        for (left, right, id) in &self.merges {
            let atoms = [&all[left][..], &all[right][..]].concat();
            all.insert(*id, atoms);
        }
        all
    }

    fn longest(&self) -> usize {
        self.spelled().values().map(Vec::len).max().unwrap_or(1)
    }

    /// The plainest form: merge the lowest rank, leftmost first, until there is none.
    pub fn naive(&self, mut ids: Vec<u32>) -> Vec<u32> {
        let early = self.merges.len() - self.late;
        let ranks: BTreeMap<(u32, u32), (usize, u32)> =
            self.merges.iter().enumerate().map(|(rank, m)| ((m.0, m.1), (rank.min(early), m.2))).collect();
        loop {
            let pairs = ids.windows(2).enumerate();
            let best = pairs.filter_map(|(at, p)| ranks.get(&(p[0], p[1])).map(|(rank, id)| (*rank, at, *id))).min();
            let Some((_, at, id)) = best else { return ids };
            ids[at] = id;
            ids.remove(at + 1);
        }
    }

    pub fn blob(&self) -> Vec<u8> {
        let mut sections: Vec<(u32, Vec<u8>)> = Vec::new();
        let w = width(self.size() - 1);
        let runs = if self.characters { self.bytes.clone() } else { BTreeMap::new() };
        let atoms = self.atoms.iter().filter(|_| !self.characters).map(|(atom, id)| (*atom as u8, *id));
        let runs = runs.into_iter().chain(atoms);
        sections.push((2, runs.flat_map(|(byte, id)| [id as u8, (id >> 8) as u8, 0, byte, 0]).collect()));
        if self.characters {
            let c = width(*self.atoms.keys().last().expect("an atom"));
            let mut section = (self.atoms.len() as u32).to_le_bytes().to_vec();
            section.extend([c as u8, 0, 0, 0]);
            section.extend(packed(self.atoms.keys().copied(), c));
            section.extend(packed(self.atoms.values().copied(), w));
            sections.push((3, section));
        }
        sections.push((4, self.merge_section(w)));
        if !self.literals.is_empty() {
            let mut list = self.literals.clone();
            list.sort_by_key(|l| std::cmp::Reverse(l.2.len()));
            let mut section = (list.len() as u32).to_le_bytes().to_vec();
            for (id, flags, bytes) in list {
                section.extend([id as u8, (id >> 8) as u8, 0, flags, bytes.len() as u8, 0]);
                section.extend(bytes);
            }
            sections.push((5, section));
        }
        sections.push((6, self.classes.clone()));
        sections.push((8, self.cuts.to_vec()));
        if self.characters {
            let (id, flags) = self.unknown.unwrap_or((u32::MAX, 1));
            let mut section = id.to_le_bytes().to_vec();
            section.extend([0, 0, 0, 0, flags, 0, 0, 0]);
            sections.push((9, section));
        }
        sections.push((12, vec![self.decoder, 0, 0, 0]));
        let longest = self.longest() as u32;
        let work = 2 * ((4 * longest).max(128) + 3 * longest);
        let mut blob = b"BNTK\x02\0\0\0\0\0\0\0".to_vec();
        blob.extend(self.size().to_le_bytes());
        blob.extend(work.to_le_bytes());
        blob.extend([255, 0, u8::from(self.characters), sections.len() as u8, 64, 0, 0, 0, 0, 0, 0, 0]);
        for (kind, bytes) in &sections {
            blob.extend(kind.to_le_bytes());
            blob.extend((bytes.len() as u32).to_le_bytes());
        }
        sections.iter().for_each(|(_, bytes)| blob.extend(bytes));
        let length = blob.len() as u32;
        blob[8..12].copy_from_slice(&length.to_le_bytes());
        blob
    }

    fn merge_section(&self, w: u32) -> Vec<u8> {
        let base = self.merges.iter().map(|m| m.2).min().unwrap_or(0);
        let range = self.merges.iter().map(|m| m.2 + 1 - base).max().unwrap_or(0);
        let mut sorted = self.merges.clone();
        sorted.sort_unstable();
        let (mut stream, mut samples, mut before) = (Bits::default(), Vec::new(), (0, 0));
        for (k, (left, right, _)) in sorted.iter().enumerate() {
            if k % 32 == 0 {
                samples.push((*left, *right, stream.count));
            } else if *left == before.0 {
                stream.put(0, 1);
                stream.number(right - before.1 - 1);
            } else {
                stream.put(1, 1);
                stream.number(left - before.0 - 1);
                stream.number(*right);
            }
            before = (*left, *right);
        }
        let (o, d) = (width(stream.count), width(range.saturating_sub(1)));
        let ranks = self.merges.windows(2).any(|m| m[0].2 > m[1].2);
        let mut out = Vec::new();
        for word in [self.merges.len() as u32, range, base, stream.count] {
            out.extend(word.to_le_bytes());
        }
        out.extend((self.longest() as u16).to_le_bytes());
        out.extend([if self.late > 0 { 2 } else { u8::from(ranks) }, o as u8]);
        let mut records = Bits::default();
        for (left, right, bit) in samples {
            records.put(left, w);
            records.put(right, w);
            records.put(bit, o);
        }
        out.extend(records.bytes);
        out.extend(stream.bytes);
        let mut places: Vec<u32> = sorted.iter().map(|m| m.2 - base).collect();
        places.extend((0..range).filter(|id| !sorted.iter().any(|m| m.2 - base == *id)));
        out.extend(packed(places.iter().copied(), d));
        let jumps = (0..range).step_by(16).map(|x| {
            let mut at = x;
            loop {
                at = places.iter().position(|image| *image == at).expect("a permutation") as u32;
                if at % 16 == 0 {
                    return at;
                }
            }
        });
        out.extend(packed(jumps, d));
        if self.late > 0 {
            out.extend((self.late as u16).to_le_bytes());
            out.extend([0, 0]);
            let mut late: Vec<u32> = self.merges.iter().rev().take(self.late).map(|m| m.2 - base).collect();
            late.sort_unstable();
            out.extend(packed(late, d));
        } else if ranks {
            let rank = |id: u32| self.merges.iter().position(|m| m.2 - base == id).unwrap_or(0) as u32;
            out.extend(packed((0..range).map(rank), d));
        }
        out
    }
}

/// Live merges over `atoms` with ids in an order of their own, tokens of at most `longest` atoms.
fn grown(random: &mut Random, atoms: &[u32], count: usize, longest: usize, shuffled: bool) -> Vocabulary {
    let mut ids: Vec<u32> = (0..(atoms.len() + count) as u32).collect();
    if shuffled {
        (1..ids.len()).for_each(|k| ids.swap(k, random.below(k + 1)));
    }
    let mut v = Vocabulary { atoms: atoms.iter().copied().zip(ids.iter().copied()).collect(), ..Vocabulary::default() };
    let mut tokens: Vec<(u32, Vec<u32>)> = v.atoms.iter().map(|(atom, id)| (*id, vec![*atom])).collect();
    for id in ids.iter().skip(atoms.len()) {
        for _ in 0..50 {
            let [left, right] = [0; 2].map(|_| tokens[random.below(tokens.len())].clone());
            let both = [left.1, right.1].concat();
            let merged = v.naive(both.iter().map(|atom| v.atoms[atom]).collect());
            if both.len() <= longest && merged == [left.0, right.0] {
                v.merges.push((left.0, right.0, *id));
                tokens.push((*id, both));
                break;
            }
        }
    }
    v
}

fn encode(blob: &[u8], layout: &Layout, text: &[u8], work: usize) -> Result<Vec<u32>, Fault> {
    let mut ids = vec![0; 4 * text.len() + 16];
    let count = Tokenizer { blob, layout }.encode(text, &mut ids, &mut vec![0; work])?;
    ids.truncate(count);
    Ok(ids)
}

/// Random, with runs and repetitions, where long tokens and far dependences are.
fn words(random: &mut Random, atoms: &[u32], length: usize) -> Vec<u32> {
    let mut out: Vec<u32> = Vec::new();
    while out.len() < length {
        let count = 1 + random.below(40);
        match random.below(3) {
            0 => out.extend(std::iter::repeat_n(atoms[random.below(atoms.len())], count)),
            1 if !out.is_empty() => {
                let period = (1 + random.below(5)).min(out.len());
                for _ in 0..3 * count {
                    out.push(out[out.len() - period]);
                }
            }
            _ => out.extend((0..count).map(|_| atoms[random.below(atoms.len())])),
        }
    }
    out
}

#[test]
fn windows_give_what_the_whole_word_gives() {
    let mut random = Random(1);
    let (mut long, mut gave_up) = (0, 0);
    for round in 0..200usize {
        let atoms: Vec<u32> = (97..99 + round as u32 % 3).collect();
        let (count, longest) = (random.below(60), 2 + random.below(10));
        let v = grown(&mut random, &atoms, count, longest, round % 2 == 1);
        let blob = v.blob();
        let layout = Layout::open(&blob).expect("a blob just written");
        let text: Vec<u8> = words(&mut random, &atoms, 60 + round).iter().map(|atom| *atom as u8).collect();
        let expected = v.naive(text.iter().map(|byte| v.atoms[&u32::from(*byte)]).collect());
        // Windows from the smallest that can work to those of the format.
        for window in [2 * v.longest() + 1, 3 * v.longest(), 4 * v.longest() + 3, layout.work as usize / 3] {
            let small = Layout { work: 3 * window as u32, ..layout };
            match encode(&blob, &small, &text, 3 * window) {
                Ok(ids) => {
                    assert_eq!(ids, expected, "round {round}, window {window}");
                    long += u32::from(text.len() > window);
                }
                Err(fault) => {
                    assert_eq!(fault, Fault::Work);
                    assert!(window < layout.work as usize / 3, "round {round}: the window of the format is too small");
                    gave_up += 1;
                }
            }
        }
    }
    assert!(long > 500 && gave_up < long / 10, "{long} words longer than the window, {gave_up} given up");
}

#[test]
fn every_token_is_spelled_and_every_merge_is_found() {
    let mut random = Random(2);
    for round in 0..60 {
        let atoms: Vec<u32> = if round % 2 == 0 { (0..256).collect() } else { (97..100).collect() };
        let v = grown(&mut random, &atoms, 10 * round, 12, round % 3 == 0);
        let blob = v.blob();
        let layout = Layout::open(&blob).expect("a blob just written");
        let t = Tokenizer { blob: &blob, layout: &layout };
        for (id, atoms) in v.spelled() {
            let mut out = [0; 16];
            let count = t.token(id, &mut out).expect("a token");
            assert_eq!(atoms, out[..count].iter().map(|byte| u32::from(*byte)).collect::<Vec<_>>());
        }
        for (left, right, id) in &v.merges {
            assert_eq!(layout.merges.find(&blob, *left, *right), Some(*id));
            assert_eq!(layout.merges.halves(&blob, *id), Some((*left, *right)));
        }
        for _ in 0..1000 {
            let pair = [0; 2].map(|_| random.below(v.size() as usize) as u32);
            let known = v.merges.iter().find(|m| [m.0, m.1] == pair).map(|m| m.2);
            assert_eq!(layout.merges.find(&blob, pair[0], pair[1]), known);
        }
    }
}

/// Characters that have no atom become bytes if all of these have ids, else the unknown id, one for a run if asked.
#[test]
fn unknown_characters() {
    let mut v = grown(&mut Random(3), &[0x61, 0xe4, 0x2581, 0x1_f600], 12, 6, false);
    v.characters = true;
    let first = v.size();
    v.bytes = (0..=255).map(|byte| (byte, first + u32::from(byte))).collect();
    v.unknown = Some((first + 256, 1));
    let ids = |v: &Vocabulary, text: &[u8]| {
        let blob = v.blob();
        let layout = Layout::open(&blob).expect("a blob just written");
        encode(&blob, &layout, text, layout.work as usize).expect("ids")
    };
    let atom = |code: u32| v.atoms[&code];
    assert_eq!(
        ids(&v, "aäb😀".as_bytes()),
        [v.naive(vec![atom(0x61), atom(0xe4)]), vec![first + 0x62, atom(0x1_f600)]].concat()
    );
    // A stray byte is one byte; the three of the character that was begun are strays each.
    assert_eq!(
        ids(&v, b"\xff\xf0\x9f\x98a"),
        [0xff, 0xf0, 0x9f, 0x98].map(|b| first + b).into_iter().chain([atom(0x61)]).collect::<Vec<_>>()
    );
    let unknown = first + 256;
    v.bytes.remove(&0x62);
    assert_eq!(ids(&v, b"abba"), [atom(0x61), unknown, unknown, atom(0x61)]);
    v.unknown = Some((unknown, 3));
    assert_eq!(ids(&v, b"abba"), [atom(0x61), unknown, atom(0x61)]);
    v.unknown = Some((unknown, 2));
    assert_eq!(ids(&v, b"axya"), [atom(0x61), unknown, atom(0x61)]);
    v.unknown = None;
    assert_eq!(ids(&v, b"abca"), [vec![atom(0x61)], vec![first + 0x63], vec![atom(0x61)]].concat());
}

fn letters() -> Vocabulary {
    // Every printable ASCII character is itself; no merges.
    Vocabulary { atoms: (0..128).map(|byte| (byte, byte)).collect(), ..Vocabulary::default() }
}

fn ids_of(v: &Vocabulary, text: &str) -> Vec<u32> {
    let blob = v.blob();
    let layout = Layout::open(&blob).expect("a blob just written");
    encode(&blob, &layout, text.as_bytes(), layout.work as usize).expect("ids")
}

#[test]
fn literals_take_white_space_and_the_longest_wins() {
    const MATCH: u8 = 2;
    let mut v = letters();
    v.literals = vec![
        (200, MATCH, b"<a>".to_vec()),
        (201, MATCH, b"<a><b>".to_vec()),
        (202, MATCH | 8, b"<l>".to_vec()),
        (203, MATCH | 16, b"<r>".to_vec()),
        (204, 4, b"<w>".to_vec()),
    ];
    let c = |c: char| c as u32;
    assert_eq!(ids_of(&v, "<a><b><a>"), [201, 200]);
    assert_eq!(ids_of(&v, "x \u{3000} <l>\ty"), [c('x'), 202, 9, c('y')]);
    assert_eq!(ids_of(&v, "x <r>\u{2003}\n y"), [c('x'), 32, 203, c('y')]);
    assert_eq!(ids_of(&v, " <r> <l> "), [32, 203, 202, 32]);
    assert_eq!(ids_of(&v, "<l>  <l>"), [202, 202]);
    assert_eq!(ids_of(&v, "<w>"), [204]);
    assert_eq!(ids_of(&v, "<a><w>"), [200, 204]);
    assert_eq!(ids_of(&v, "<w><"), [60, c('w'), 62, 60]);
    assert_eq!(ids_of(&v, "<a"), [60, c('a')]);
}

#[test]
fn the_front_character_stands_before_parts_or_the_text() {
    let mut v = letters();
    v.literals = vec![(200, 2, b"#".to_vec())];
    let text = |ids: Vec<u32>| ids.iter().map(|id| char::from_u32(*id).expect("ASCII")).collect::<String>();
    v.cuts = [0, 0, 1, 0];
    assert_eq!(text(ids_of(&v, "ab#c# d")), " ab\u{c8} c\u{c8} d");
    v.cuts = [0, 0, 2, 0];
    assert_eq!(text(ids_of(&v, "ab#c# d")), " ab\u{c8}c\u{c8} d");
    assert_eq!(text(ids_of(&v, "#c")), "\u{c8}c");
    assert_eq!(text(ids_of(&v, " c")), " c");
    assert_eq!(text(ids_of(&v, "")), "");
    // Digits alone: ASCII digits are the one range of the table.
    v.cuts = [1, 0, 1, 0];
    v.classes = vec![48, 9 * 8 + 2];
    assert_eq!(text(ids_of(&v, "ab12c")), " ab 1 2 c");
    v.cuts = [2, 0, 1, 0];
    assert_eq!(text(ids_of(&v, "ab12c")), " ab 12 c");
}

#[test]
fn text_in_and_out_of_characters() {
    for code in (0..0x11_0000).filter_map(char::from_u32) {
        let mut buffer = [0; 4];
        let bytes = code.encode_utf8(&mut buffer).as_bytes();
        assert_eq!(text::character(bytes), Some((u32::from(code), bytes.len() as u32)));
        assert_eq!(text::Utf8::of(u32::from(code)).bytes(), bytes);
    }
    let mut random = Random(4);
    for _ in 0..200_000 {
        let bytes: Vec<u8> =
            (0..4).map(|_| (random.below(256) as u8) | if random.below(3) == 0 { 0 } else { 0x80 }).collect();
        let (code, length) = text::character(&bytes).expect("a character");
        match std::str::from_utf8(&bytes[..length as usize]) {
            Ok(valid) => assert_eq!(Some(code), valid.chars().next().map(u32::from)),
            Err(_) => assert_eq!((code, length), (text::STRAY + u32::from(bytes[0]), 1), "{bytes:?}"),
        }
    }
}

/// Far longer than a window: the tokens spell the text, and each two neighbours are what merging gives for the two alone. That is proof,
/// and takes no time that grows with the square of the length.
#[test]
fn long_words_are_compatible_from_token_to_token() {
    let mut random = Random(5);
    for round in 0..12 {
        let v = grown(&mut random, &[97, 98, 99], 40, 3 + round, round % 2 == 0);
        let blob = v.blob();
        let layout = Layout::open(&blob).expect("a blob just written");
        let spelled = v.spelled();
        for text in [
            vec![97; 5000],
            b"ab".repeat(2500),
            words(&mut random, &[97, 98, 99], 5000).iter().map(|a| *a as u8).collect(),
        ] {
            let ids = encode(&blob, &layout, &text, layout.work as usize).expect("ids");
            let atoms: Vec<u32> = ids.iter().flat_map(|id| spelled[id].clone()).collect();
            assert_eq!(atoms, text.iter().map(|byte| u32::from(*byte)).collect::<Vec<_>>());
            for pair in ids.windows(2) {
                let both = [&spelled[&pair[0]][..], &spelled[&pair[1]][..]].concat();
                assert_eq!(v.naive(both.iter().map(|atom| v.atoms[atom]).collect()), pair, "round {round}");
            }
        }
    }
}

/// Blobs with bytes changed: each is refused or does its work, and nothing goes out of bounds, overflows or does not end.
#[test]
fn damaged_blobs_do_no_harm() {
    let mut random = Random(6);
    let mut bytes = grown(&mut random, &(0..256).collect::<Vec<_>>(), 80, 8, true);
    bytes.literals = vec![
        (400, 3, b"<e>".to_vec()),
        (401, 2 | 8 | 16, b"<f>".to_vec()),
        (402, 34, b"g".to_vec()),
        (403, 4, b"ab".to_vec()),
    ];
    // Letters, numbers, white space and punctuation of ASCII; the last two classes where they do not belong.
    bytes.classes = vec![9, 4 * 8 + 3, 18, 3, 0, 14 * 8 + 4, 0, 9 * 8 + 2, 7, 25 * 8 + 5, 6, 25 * 8 + 6, 7, 8 + 7];
    let mut characters = grown(&mut random, &[0x61, 0xe4, 0x2581, 0x1_f600], 40, 6, false);
    characters.characters = true;
    characters.unknown = Some((3, 3));
    characters.bytes = (0..=255).map(|byte| (byte, 100 + u32::from(byte))).collect();
    characters.decoder = 3;
    let texts: [&[u8]; 3] =
        [b"ab <e>c  12's <f> IT'S zz\xff\xf0\x9f g\n\n x", "a\u{e4}\u{2581}a\u{1f600} \u{e4}".as_bytes(), &[b'a'; 900]];
    let (mut refused, mut ran) = (0, 0);
    for round in 0..6000 {
        let v = if round % 2 == 0 { &mut bytes } else { &mut characters };
        v.cuts = [round as u8 / 2 % 9, round as u8 / 18 % 4, round as u8 / 3 % 3, round as u8 / 5 % 2];
        let mut blob = v.blob();
        for _ in 0..random.below(4) {
            // Half of the changes to the headers.
            let at = match random.below(2) {
                0 => random.below(blob.len()),
                _ => random.below(160),
            };
            blob[at] = match random.below(3) {
                0 => random.below(256) as u8,
                1 => blob[at] ^ 1 << random.below(8),
                _ => blob[at].wrapping_add(1),
            };
        }
        if random.below(10) == 0 {
            blob.truncate(random.below(blob.len()));
        }
        let Ok(layout) = Layout::open(&blob) else {
            refused += 1;
            continue;
        };
        ran += 1;
        let t = Tokenizer { blob: &blob, layout: &layout };
        let mut buffer = vec![0; 3 * layout.longest as usize + 10];
        let mut decoder = Decoder::default();
        for text in texts {
            // A damaged window may not find its way; that is an answer, too.
            for id in encode(&blob, &layout, text, layout.work as usize).unwrap_or_default() {
                let _ = (decoder.push(t, id, &mut buffer), t.is_special(id));
            }
        }
        for id in 0..200 {
            let _ = decoder.push(t, id, &mut buffer);
        }
        assert!(decoder.end(t, &mut buffer).is_ok());
    }
    assert!(refused > 1000 && ran > 1000, "{refused} refused, {ran} ran");
}

/// The decoder's buffer is never too small, text comes in whole characters, and what is broken comes out as the standard library has it.
#[test]
fn text_comes_out_in_whole_characters() {
    let mut random = Random(7);
    let v = Vocabulary { atoms: (0..256).map(|byte| (byte, byte)).collect(), ..Vocabulary::default() };
    let blob = v.blob();
    let layout = Layout::open(&blob).expect("a blob just written");
    let t = Tokenizer { blob: &blob, layout: &layout };
    for _ in 0..2000 {
        let start = ["", "\u{e4}x", "\u{20ac}", "\u{1f600}"][random.below(4)].as_bytes();
        let mut bytes: Vec<u8> = start.iter().copied().chain((0..6).map(|_| random.below(256) as u8 | 0x80)).collect();
        bytes.truncate(random.below(bytes.len() + 1));
        let (mut decoder, mut out, mut buffer) = (Decoder::default(), Vec::new(), [0; 32]);
        for byte in &bytes {
            let count = decoder.push(t, u32::from(*byte), &mut buffer).expect("room");
            assert!(std::str::from_utf8(&buffer[..count]).is_ok());
            out.extend_from_slice(&buffer[..count]);
        }
        let count = decoder.end(t, &mut buffer).expect("room");
        out.extend_from_slice(&buffer[..count]);
        assert_eq!(String::from_utf8(out).expect("text"), String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn spaces_of_sentencepiece_come_out() {
    let atoms = [0x61, 0x20, 0x2581].into_iter().zip(0..).collect();
    let bytes = (0..=255).map(|byte| (byte, 10 + u32::from(byte))).collect();
    let mut v = Vocabulary { atoms, bytes, characters: true, ..Vocabulary::default() };
    v.merges = vec![(2, 0, 3), (2, 2, 4)];
    let text = |v: &Vocabulary, ids: &[u32]| {
        let blob = v.blob();
        let layout = Layout::open(&blob).expect("a blob just written");
        let t = Tokenizer { blob: &blob, layout: &layout };
        let (mut decoder, mut out, mut buffer) = (Decoder::default(), Vec::new(), [0; 64]);
        for id in ids {
            let count = decoder.push(t, *id, &mut buffer).expect("an id");
            out.extend_from_slice(&buffer[..count]);
        }
        let count = decoder.end(t, &mut buffer).expect("the end");
        out.extend_from_slice(&buffer[..count]);
        String::from_utf8(out).expect("text")
    };
    assert_eq!(text(&v, &[3, 4]), "\u{2581}a\u{2581}\u{2581}");
    v.decoder = 1;
    assert_eq!(text(&v, &[3, 4]), " a  ");
    v.decoder = 3;
    assert_eq!(text(&v, &[3, 3]), "a a");
    assert_eq!(text(&v, &[2, 3]), " a");
    // A space that is one, as a byte or as a character, stays.
    assert_eq!(text(&v, &[10 + 0x20, 0]), " a");
    v.decoder = 19;
    assert_eq!(text(&v, &[2, 3]), "a");
    assert_eq!(text(&v, &[2, 10 + 0x20, 3]), "  a");
    assert_eq!(text(&v, &[2, 4, 3]), "  a");
    // One U+FFFD for each byte.
    assert_eq!(text(&v, &[10 + 0xe2, 10 + 0x96, 0, 10 + 0xe2, 10 + 0x96]), "\u{fffd}\u{fffd}a\u{fffd}\u{fffd}");
    assert_eq!(text(&v, &[10 + 0xe2, 10 + 0x96, 10 + 0x81]), "\u{2581}");
}

/// Runs of one character in a vocabulary that was trained elsewhere: the longer runs were listed before what they are made of, which is
/// the same as all having one rank.
#[test]
fn merges_of_one_rank_take_the_leftmost_place() {
    let mut v = Vocabulary { atoms: BTreeMap::from([(97, 0), (98, 1)]), late: 4, ..Vocabulary::default() };
    // ab; then aa, aaaa, (aa)a, (aaaa)a.
    v.merges = vec![(0, 1, 2), (0, 0, 3), (3, 3, 4), (3, 0, 5), (4, 0, 6)];
    let blob = v.blob();
    let layout = Layout::open(&blob).expect("a blob just written");
    for length in 1..300 {
        for text in [vec![b'a'; length], [&vec![b'a'; length][..], b"b"].concat()] {
            let atoms = text.iter().map(|byte| v.atoms[&u32::from(*byte)]).collect();
            assert_eq!(encode(&blob, &layout, &text, layout.work as usize), Ok(v.naive(atoms)), "{length}");
        }
    }
}
