//! The `normalizer` of a `tokenizer.json` → section 7 (docs/format/tokenizer.md).
//!
//! What the reference does to single characters is found by asking it: each chain of steps that look at one character at a time is run over
//! all code points. The order of marks and the pairs that compose come from the crate that the reference uses.

use super::super::device::normal::{next, Normal};
use super::super::device::text::{Cursor, Segment, Utf8};
use super::super::device::{layout::Layout, Span, Tokenizer};
use super::super::TokenizerError;
use super::json::{invalid, unsupported};
use super::normal_steps::{read, Order, Spaces, Step};
use super::normal_tables::{classes, map, pairs, string_bytes, Image, Images, LONGEST};
use crate::tokenizer::charmap::Charmap;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::{NormalizedString, Normalizer};
use unicode_normalization_alignments::char::{
    canonical_combining_class, compose, decompose_canonical, decompose_compatible,
};

/// Words of scratch that the section needs.
pub use super::super::device::normal::WORK;

/// Code points that are tried at once, a power of 16.
const STRETCH: u32 = 4096;
const SYLLABLES: std::ops::Range<u32> = 0xac00..0xd7a4;

type Checked<T> = Result<T, TokenizerError>;

/// Section 7 for a normalizer; None if text stays as it is.
///
/// # Errors
/// `Unsupported` with key and value for what the section cannot say.
pub fn normalizer(json: &Value) -> Checked<Option<Vec<u8>>> {
    let plan = read(json)?;
    let mut tables = Tables::default();
    let mut after = Vec::new();
    let mut middle = None;
    let mut before = Images::new();
    for step in &plan.steps {
        match step {
            Step::Map(step) if middle.is_none() => before = probe(step, &before)?,
            Step::Map(step) => after.push(step),
            Step::Order(order) => middle = Some(*order),
            Step::Charmap(bytes) => {
                let bad = |what: &str| invalid("normalizer.precompiled_charsmap", what);
                if let Some(charmap) = Charmap::read(bytes).map_err(bad)? {
                    let entries = charmap.entries().map_err(bad)?;
                    tables = charmap_tables(&entries, plan.spaces.runs != 0)?;
                }
            }
        }
    }
    if let Some(order) = middle {
        tables = ordered(&before, order, &after)?;
    } else if tables.kind == 0 {
        tables.map = before;
    }
    for images in [&tables.map, &tables.after] {
        check(images)?;
    }
    let spaces = &plan.spaces;
    let same = tables.kind == 0 && tables.map.is_empty() && *spaces == Spaces::default();
    Ok((!same).then(|| tables.section(spaces)))
}

/// Limits of the tables.
fn check(images: &Images) -> Checked<()> {
    let long = images.iter().find(|(_, image)| matches!(image, Image::Text(text) if text.len() > LONGEST));
    if let Some((code, _)) = long {
        let reason = format!("U+{code:04X} becomes more than {LONGEST} characters");
        return Err(unsupported("normalizer", "a long replacement", reason));
    }
    if string_bytes(images) > usize::from(u16::MAX) {
        return Err(unsupported("normalizer", "its replacements", "more than 65,535 bytes of text"));
    }
    Ok(())
}

#[derive(Default)]
struct Tables {
    kind: u8,
    flags: u8,
    map: Images,
    classes: BTreeMap<u32, u8>,
    pairs: BTreeMap<(u32, u32), u32>,
    after: Images,
}

const SPLIT_HANGUL: u8 = 1;
const JOIN_HANGUL: u8 = 2;

impl Tables {
    fn section(&self, spaces: &Spaces) -> Vec<u8> {
        let parts = [map(&self.map), classes(&self.classes), pairs(&self.pairs), map(&self.after)];
        let rule = spaces.left
            | spaces.right << 2
            | spaces.runs << 4
            | u8::from(spaces.marks) << 6
            | u8::from(spaces.of_text) << 7;
        let mut out = vec![self.kind, self.flags, rule, spaces.front];
        parts.iter().for_each(|part| out.extend((part.len() as u32).to_le_bytes()));
        parts.iter().for_each(|part| out.extend(part));
        out
    }
}

/// Every code point that is a character.
fn characters() -> impl Iterator<Item = char> {
    (0..=0x10_ffffu32).filter_map(char::from_u32)
}

fn text_of(codes: &[u32]) -> String {
    codes.iter().filter_map(|&code| char::from_u32(code)).collect()
}

fn codes_of(text: &str) -> Vec<u32> {
    text.chars().map(u32::from).collect()
}

/// A step of the reference as a function.
fn reference(step: &Value) -> Checked<impl Fn(&str) -> Checked<String>> {
    let bad = |e: String| invalid("normalizer", e);
    let wrapper: NormalizerWrapper = serde_json::from_value(step.clone()).map_err(|e| bad(e.to_string()))?;
    Ok(move |text: &str| {
        let mut string = NormalizedString::from(text);
        wrapper.normalize(&mut string).map_err(|e| bad(e.to_string()))?;
        Ok(string.get().to_string())
    })
}

/// What a step makes of what `before` makes of each code point. The step looks at each character alone.
fn probe(step: &Value, before: &Images) -> Checked<Images> {
    let step = reference(step)?;
    let mut images = Images::new();
    // Most of Unicode is left alone by most steps: a stretch that comes out as it went in need not be asked character by character.
    let mut stretches: Vec<std::ops::Range<u32>> =
        (0..0x11_0000).step_by(STRETCH as usize).map(|at| at..at + STRETCH).rev().collect();
    while let Some(range) = stretches.pop() {
        let text: String = range.clone().filter_map(char::from_u32).collect();
        if before.range(range.clone()).next().is_none() {
            let all = step(&text)?;
            if all == text {
                continue;
            }
            if all.is_empty() {
                images.extend(text.chars().map(|c| (u32::from(c), Image::Text(Vec::new()))));
                continue;
            }
        }
        if range.len() > 1 {
            let size = range.len() / 16;
            stretches.extend(range.step_by(size).map(|at| at..at + size as u32).rev());
            continue;
        }
        let from = match before.get(&range.start) {
            Some(Image::Text(codes)) => text_of(codes),
            _ => text.clone(),
        };
        let to = step(&from)?;
        if to != text {
            images.insert(range.start, Image::Text(codes_of(&to)));
        }
    }
    Ok(images)
}

/// What a character becomes.
fn image_of(images: &Images, code: u32) -> Vec<u32> {
    match images.get(&code) {
        Some(Image::Text(text)) => text.clone(),
        _ => vec![code],
    }
}

/// Decomposition, order of marks and composition, with single characters mapped before and after.
fn ordered(before: &Images, order: Order, after: &[&Value]) -> Checked<Tables> {
    let class = |code: u32| char::from_u32(code).map_or(0, canonical_combining_class);
    let mut images = Images::new();
    let mut reached: BTreeSet<u32> = BTreeSet::new();
    for c in characters() {
        let mut text = Vec::new();
        for code in image_of(before, u32::from(c)) {
            let Some(c) = char::from_u32(code) else { continue };
            match order {
                Order { composes: true, .. } if SYLLABLES.contains(&code) => text.push(code),
                Order { compatible: true, .. } => decompose_compatible(c, |c| text.push(u32::from(c))),
                Order { .. } => decompose_canonical(c, |c| text.push(u32::from(c))),
            }
        }
        reached.extend(&text);
        if text != [u32::from(c)] {
            images.insert(u32::from(c), Image::Text(text));
        }
    }
    let mut tables = Tables { kind: if order.composes { 2 } else { 1 }, ..Tables::default() };
    if order.composes {
        tables.flags |= JOIN_HANGUL;
        tables.pairs = canonical_pairs();
        reached.extend(tables.pairs.values());
    }
    let mut last = Images::new();
    for step in after {
        last = probe(step, &last)?;
    }
    last.retain(|code, _| reached.contains(code));
    tables.classes = reached.iter().map(|&code| (code, class(code))).filter(|(_, class)| *class != 0).collect();
    tables.map = images;
    tables.after = last;
    if !order.composes {
        fold(&mut tables);
        let split = |code: u32| {
            let s = code - 0xac00;
            let mut parts = vec![0x1100 + s / 588, 0x1161 + s / 28 % 21, 0x11a7 + s % 28];
            parts.truncate(2 + usize::from(!s.is_multiple_of(28)));
            Image::Text(parts)
        };
        if SYLLABLES.into_iter().all(|code| tables.map.get(&code) == Some(&split(code))) {
            SYLLABLES.for_each(|code| drop(tables.map.remove(&code)));
            tables.flags |= SPLIT_HANGUL;
        }
    }
    Ok(tables)
}

/// Moves the second map into the first, which is possible where order and mapping do not see each other: no character changes its class.
/// Starters that are left out still keep marks apart, as long as any marks stay.
fn fold(tables: &mut Tables) {
    let class = |code: &u32| tables.classes.get(code).copied().unwrap_or(0);
    let foreign = |(code, image): (&u32, &Image)| match image {
        Image::Text(text) if class(code) == 0 => text.iter().any(|to| class(to) != 0),
        Image::Text(text) => text.len() > 1 || text.iter().any(|to| class(to) != class(code)),
        Image::Keep => true,
    };
    if tables.after.iter().any(foreign) {
        return;
    }
    let gone = |code: &u32| tables.after.get(code) == Some(&Image::Text(Vec::new()));
    let stay: BTreeMap<u32, u8> =
        tables.classes.iter().filter(|(code, _)| !gone(code)).map(|(&c, &k)| (c, k)).collect();
    let walls: Images = match stay.is_empty() {
        true => Images::new(),
        false => {
            let wall = |(code, image): (&u32, &Image)| (class(code) == 0 && gone(code)).then(|| (*code, image.clone()));
            tables.after.iter().filter_map(wall).collect()
        }
    };
    for c in characters().map(u32::from) {
        let from = image_of(&tables.map, c);
        let to: Vec<u32> = from
            .iter()
            .flat_map(|code| if walls.contains_key(code) { vec![*code] } else { image_of(&tables.after, *code) })
            .collect();
        if to == [c] {
            tables.map.remove(&c);
        } else {
            tables.map.insert(c, Image::Text(to));
        }
    }
    tables.kind = if stay.is_empty() { 0 } else { 1 };
    tables.classes = stay;
    tables.after = walls;
}

/// (second, first) → the character they compose, without syllables.
fn canonical_pairs() -> BTreeMap<(u32, u32), u32> {
    let mut pairs = BTreeMap::new();
    for c in characters().filter(|&c| !SYLLABLES.contains(&u32::from(c))) {
        let mut parts = Vec::new();
        decompose_canonical(c, |part| parts.push(part));
        let Some((&second, firsts)) = parts.split_last() else { continue };
        let Some((&first, rest)) = firsts.split_first() else { continue };
        let first = rest.iter().try_fold(first, |first, &next| compose(first, next));
        if let Some(first) = first.filter(|&first| compose(first, second) == Some(c)) {
            pairs.insert((u32::from(second), u32::from(first)), u32::from(c));
        }
    }
    pairs
}

/// Most bytes that a key of several characters may become for each of its own.
const KEY_GROWTH: u32 = 3;
/// Codes that no text holds, for the keys of more than one character.
const KEYS: std::ops::Range<u32> = 0xd800..0xe000;

/// SentencePiece's rules, the longest key that starts the text being replaced: its own if they are those, else key by key.
fn charmap_tables(entries: &[(String, &str)], runs: bool) -> Checked<Tables> {
    let keys: Keys = entries.iter().map(|(key, text)| (codes_of(key), codes_of(text))).collect();
    let double = |text: &&Vec<u32>| text.windows(2).any(|two| two == [0x20, 0x20]);
    if runs && keys.values().any(|text| double(&text)) {
        let reason = "runs of spaces are one space, but a replacement has two";
        return Err(unsupported("normalizer.precompiled_charsmap", "two spaces", reason));
    }
    chained(&keys).map_or_else(|| keyed(&keys), Ok)
}

type Keys = BTreeMap<Vec<u32>, Vec<u32>>;

/// Single characters, and for longer keys a code of its own for each, reached character by character.
fn keyed(keys: &Keys) -> Checked<Tables> {
    let refuse = |what: String, reason: &str| Err(unsupported("normalizer.precompiled_charsmap", what, reason));
    let mut tables = Tables { kind: 4, ..Tables::default() };
    let mut codes: BTreeMap<&[u32], u32> = BTreeMap::new();
    let mut free = KEYS;
    for (key, text) in keys {
        let bytes = text_of(text).replace(' ', "\u{2581}").len();
        if key.len() > 1 && bytes > KEY_GROWTH as usize * text_of(key).len() {
            return refuse(text_of(key), "only replacements at most three times as long as their keys");
        }
        let code = match key[..] {
            [code] => code,
            _ => {
                let Some(code) = free.next() else {
                    return refuse(format!("{} keys", keys.len()), "at most 2,048 keys of several characters");
                };
                // Ascending order of keys: what a key starts with came before it.
                let front = &key[..key.len() - 1];
                let from = match front {
                    [code] => Some(*code),
                    _ => codes.get(front).copied(),
                };
                let Some(from) = from else {
                    return refuse(text_of(key), "only keys whose beginnings are keys too");
                };
                tables.pairs.insert((key[key.len() - 1], from), code);
                codes.insert(key, code);
                code
            }
        };
        if *text != [code] {
            tables.map.insert(code, Image::Text(text.clone()));
        }
    }
    Ok(tables)
}

/// SentencePiece's own rules: what single characters become, and pairs that compose from the left. Its keys are all sequences that compose
/// from a character that is not composed itself; None for maps that are not made like this.
fn chained(keys: &Keys) -> Option<Tables> {
    let mut tables = Tables { kind: 3, ..Tables::default() };
    for (key, text) in keys {
        if let [code] = key[..] {
            if *text != [code] {
                tables.map.insert(code, Image::Text(text.clone()));
            }
        }
    }
    let single = |images: &Images, code: u32| match image_of(images, code)[..] {
        [code] => Some(code),
        _ => None,
    };
    for (key, text) in keys.iter().filter(|(key, _)| key.len() > 1) {
        let Some((&end, front)) = key.split_last() else { continue };
        let first = match front {
            [code] => single(&tables.map, *code),
            _ => keys.get(front).and_then(|text| if let [code] = text[..] { Some(code) } else { None }),
        };
        let (Some(first), Some(second), [made]) = (first, single(&tables.map, end), &text[..]) else {
            return None;
        };
        if *tables.pairs.entry((second, first)).or_insert(*made) != *made {
            return None;
        }
    }
    let hangul = |&(second, first): &(u32, u32), made: u32| {
        let of = |code| char::from_u32(code).unwrap_or(' ');
        SYLLABLES.contains(&made) && compose(of(first), of(second)) == char::from_u32(made)
    };
    if tables.pairs.iter().filter(|(pair, made)| hangul(pair, **made)).count() == SYLLABLES.len() {
        tables.pairs.retain(|pair, made| !hangul(pair, *made));
        tables.flags |= JOIN_HANGUL;
    }
    for made in tables.pairs.values() {
        if !tables.map.contains_key(made) {
            tables.map.insert(*made, Image::Keep);
        }
    }
    // The tables say what all keys are; there must be no others than those of the file.
    let count = keys.keys().filter(|key| key.len() > 1).count() as u64;
    (implied(&tables, keys) == Some(count)).then_some(tables)
}

/// How many sequences compose by the tables, if every one of those of two characters is a key.
fn implied(tables: &Tables, keys: &Keys) -> Option<u64> {
    let syllables = tables.flags & JOIN_HANGUL != 0;
    let composed = |code: u32| tables.map.get(&code) == Some(&Image::Keep) || syllables && SYLLABLES.contains(&code);
    // Characters of the text that become one character each.
    let mut sources: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (code, image) in &tables.map {
        if let Image::Text(text) = image {
            if let [to] = text[..] {
                sources.entry(to).or_default().push(*code);
            }
        }
    }
    let sources = |code: u32| {
        let mut of = sources.get(&code).cloned().unwrap_or_default();
        if !matches!(tables.map.get(&code), Some(Image::Text(_))) {
            of.push(code);
        }
        of
    };
    let mut pairs: Vec<(u32, u32, u32)> =
        tables.pairs.iter().map(|(&(second, first), &made)| (first, second, made)).collect();
    if syllables {
        for s in 0..11172 {
            let (lead, vowel, tail) = (0x1100 + s / 588, 0x1161 + s / 28 % 21, s % 28);
            pairs.push(match tail {
                0 => (lead, vowel, 0xac00 + s),
                _ => (0xac00 + s - tail, 0x11a7 + tail, 0xac00 + s),
            });
        }
    }
    let uses: BTreeMap<u32, Vec<u32>> =
        pairs.iter().flat_map(|&(first, second, _)| [first, second]).map(|code| (code, sources(code))).collect();
    let mut level: BTreeMap<u32, u64> = BTreeMap::new();
    let mut of_first: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
    for &(first, second, made) in &pairs {
        of_first.entry(first).or_default().push((second, made));
        if composed(first) {
            continue;
        }
        for a in &uses[&first] {
            for b in &uses[&second] {
                keys.get(&vec![*a, *b])?;
                *level.entry(made).or_default() += 1;
            }
        }
    }
    let mut total = 0;
    for _ in 0..64 {
        total += level.values().sum::<u64>();
        let mut next: BTreeMap<u32, u64> = BTreeMap::new();
        for (code, count) in &level {
            for (second, made) in of_first.get(code).into_iter().flatten() {
                *next.entry(*made).or_default() += count.checked_mul(uses[second].len() as u64)?;
            }
        }
        level = next;
        if level.is_empty() {
            return Some(total);
        }
    }
    None
}

/// The section as the device reads it.
struct Opened<'a> {
    section: &'a [u8],
    layout: Layout,
}

impl<'a> Opened<'a> {
    fn new(section: &'a [u8]) -> Option<Opened<'a>> {
        let normal = Normal::read(section, Span { at: 0, len: section.len() as u32 }).ok()?;
        Some(Opened { section, layout: Layout { normal, ..Layout::default() } })
    }

    /// What it makes of a text between other texts.
    fn inner(&self, text: &str) -> Vec<u8> {
        let segment = Segment { text: text.as_bytes(), first: false, last: false };
        let tokenizer = Tokenizer { blob: self.section, layout: &self.layout };
        let (mut cursor, mut out) = (Cursor::default(), Vec::new());
        while let Some(code) = next(tokenizer, segment, &mut cursor) {
            out.extend_from_slice(Utf8::of(code).bytes());
        }
        out
    }
}

/// What the section makes of `text` between other texts: how tokens that are looked for in normalized text are written there.
pub fn normalized(section: &[u8], text: &str) -> String {
    let bytes = Opened::new(section).map_or_else(|| text.into(), |opened| opened.inner(text));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Most bytes of normalized text that one byte of a text becomes, in sixteenths.
pub fn growth(section: &[u8]) -> u32 {
    let Some(opened) = Opened::new(section) else { return 16 };
    let least = if section.first() == Some(&4) { 16 * KEY_GROWTH } else { 16 };
    let around = opened.inner("xx").len();
    let mut text = String::new();
    let bytes = |c: char| {
        text.clear();
        text.extend(['x', c, 'x']);
        let grown = opened.inner(&text).len().saturating_sub(around);
        (16 * grown).div_ceil(c.len_utf8()) as u32
    };
    // Stretches that stay as they are need not be asked character by character.
    let touched = |from: &u32| {
        let text: String = (*from..from + STRETCH).filter_map(char::from_u32).collect();
        opened.inner(&text) != text.as_bytes()
    };
    let stretches = (0..0x11_0000).step_by(STRETCH as usize).filter(touched);
    let characters = stretches.flat_map(|from| (from..from + STRETCH).filter_map(char::from_u32));
    characters.map(bytes).fold(least, u32::max)
}
