//! Pieces and scores as they are written against the readers of the device, and those against the plainest thing that could be right.

use std::collections::BTreeMap;

use super::pieces::{pieces, scores, Sums};
use crate::tokenizer::device::layout::{Cuts, Unknown};
use crate::tokenizer::device::pieces::{spell, Pieces};
use crate::tokenizer::device::text::{Cursor, Out, Segment, Stream, Word};
use crate::tokenizer::device::unigram::{self, Scores};
use crate::tokenizer::device::{wordpiece, Fault, Layout, Span, Tokenizer};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn text(&mut self, alphabet: &[char], most: u64) -> String {
        (0..=self.below(most)).map(|_| alphabet[self.below(alphabet.len() as u64) as usize]).collect()
    }
    /// Between -20 and 0, of the precision asked for.
    fn score(&mut self, kind: u64) -> f64 {
        let unit = self.below(1 << 53) as f64 / (1u64 << 53) as f64;
        match kind {
            0 => -20.0 * unit,
            1 => f64::from((-20.0 * unit) as f32),
            2 => -((unit * 8.0).round()),
            _ => 40.0 * unit - 20.0,
        }
    }
}

/// A model without the rest of a tokenizer around it.
#[derive(Default)]
struct Model {
    blob: Vec<u8>,
    layout: Layout,
}

impl Model {
    fn add(&mut self, bytes: &[u8]) -> Span {
        let span = Span { at: self.blob.len() as u32, len: bytes.len() as u32 };
        self.blob.extend_from_slice(bytes);
        span
    }

    fn new(list: &[(u32, Vec<u8>)], vocab: u32) -> Model {
        let mut model = Model { blob: vec![0xff; 3], ..Model::default() };
        let span = model.add(&pieces(list, vocab).unwrap());
        model.layout.vocab = vocab;
        model.layout.pieces = Pieces::read(&model.blob, span, vocab).unwrap();
        model
    }

    fn unigram(list: &[(&str, f64)], unknown: f64, sums: Sums) -> Model {
        let ids = (0..).zip(list).filter(|(_, (piece, _))| !piece.is_empty());
        let mut model = Model::new(
            &ids.map(|(id, (piece, _))| (id, piece.as_bytes().to_vec())).collect::<Vec<_>>(),
            list.len() as u32,
        );
        let all: Vec<f64> = list.iter().map(|(_, score)| *score).collect();
        let span = model.add(&scores(&all, unknown, sums).unwrap());
        model.layout.scores = Scores::read(&model.blob, span, list.len() as u32).unwrap();
        model.layout.unknown = Unknown { id: Some(0), fuse: true, ..Unknown::default() };
        model
    }

    fn tokenizer(&self) -> Tokenizer<'_> {
        Tokenizer { blob: &self.blob, layout: &self.layout }
    }

    fn spelled(&self, id: u32) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let put = &mut |byte| {
            out.push(byte);
            Ok(())
        };
        spell(self.tokenizer(), id, put).unwrap().then_some(out)
    }

    /// Ids of `text` cut into words at the given offsets.
    fn words(&self, text: &[u8], cuts: &[usize], room: usize) -> Result<Vec<u32>, Fault> {
        let mut stream = Stream {
            t: self.tokenizer(),
            segment: Segment { text, first: true, last: true },
            raw: true,
            seen: Default::default(),
        };
        let is_unigram = self.layout.scores != Scores::default();
        let words = if is_unigram {
            unigram::work(self.layout.pieces.longest)
        } else {
            wordpiece::work(self.layout.unknown.limit)
        };
        let mut work = vec![0xdead_beef; words as usize];
        let mut ids = vec![0; room];
        let mut out = Out::new(&mut ids);
        let mut from = 0;
        for &to in cuts.iter().chain([&text.len()]) {
            let cursor = |at: usize| Cursor { at: at as u32, ..Cursor::default() };
            let word = Word { from: cursor(from), to: (to < text.len()).then(|| cursor(to)) };
            if is_unigram {
                unigram::word(&mut stream, word, from == 0, &mut work, &mut out)?;
            } else {
                wordpiece::word(&mut stream, word, &mut work, &mut out)?;
            }
            from = to;
        }
        let count = out.count();
        ids.truncate(count);
        Ok(ids)
    }

    fn ids(&self, text: &str) -> Vec<u32> {
        self.words(text.as_bytes(), &[], text.len()).unwrap()
    }
}

/// Best path in floating point, as it is written down in papers. Unknown characters are one id each, or their bytes.
fn plain(list: &[(&str, f64)], unknown: f64, single: bool, text: &str) -> Vec<u32> {
    let mut best: Vec<Option<(f64, usize, usize)>> = vec![None; text.len() + 1];
    best[0] = Some((0.0, 0, 0));
    let ids: BTreeMap<&str, usize> = list.iter().enumerate().map(|(id, (piece, _))| (*piece, id)).collect();
    let round = |x: f64| if single { f64::from(x as f32) } else { x };
    for (at, first) in text.char_indices() {
        let (here, ..) = best[at].unwrap();
        let mut alone = false;
        let mut offer = |end: usize, score: f64, id: usize| {
            let sum = round(score + here);
            if best[end].is_none_or(|(other, ..)| sum > other) {
                best[end] = Some((sum, at, id));
            }
        };
        for (k, last) in text[at..].char_indices() {
            let end = at + k + last.len_utf8();
            if let Some(&id) = ids.get(&text[at..end]) {
                alone |= k == 0;
                offer(end, list[id].1, id);
            }
        }
        if !alone {
            offer(at + first.len_utf8(), unknown, 0);
        }
    }
    let (mut end, mut out) = (text.len(), Vec::new());
    while end > 0 {
        let (_, start, id) = best[end].unwrap();
        if id != 0 || out.last() != Some(&0) {
            out.push(id as u32);
        }
        end = start;
    }
    out.reverse();
    out
}

const ALPHABET: [char; 6] = ['a', 'b', 'c', 'é', '中', '😀'];

#[test]
fn every_piece_is_found_and_spelled() {
    let mut random = Random(1);
    for round in 0..200 {
        let alphabet = &ALPHABET[..1 + random.below(6) as usize];
        let most = if round % 20 == 0 { 100 } else { 6 };
        let mut list: Vec<String> = (0..1 + random.below(60)).map(|_| random.text(alphabet, most)).collect();
        list.sort_unstable();
        list.dedup();
        let vocab = (list.len() as u64 * 2 + random.below(9)) as u32;
        let first = random.below(u64::from(vocab)) as usize;
        // An odd step through a number of ids that is made odd visits each once.
        let odd = (vocab | 1) as usize;
        let ids: Vec<u32> = (0..odd).map(|k| ((first + 2 * k) % odd) as u32).filter(|&id| id < vocab).collect();
        let list: Vec<(u32, Vec<u8>)> = ids.iter().copied().zip(list.iter().map(|s| s.as_bytes().to_vec())).collect();
        let model = Model::new(&list, vocab);
        let known: BTreeMap<u32, &Vec<u8>> = list.iter().map(|(id, bytes)| (*id, bytes)).collect();
        for id in 0..vocab + 3 {
            assert_eq!(model.spelled(id).as_ref(), known.get(&id).copied());
        }
        let text = random.text(alphabet, 2 * most);
        let mut walk = model.layout.pieces.root();
        let mut found = Vec::new();
        for &byte in text.as_bytes() {
            if !model.layout.pieces.step(&model.blob, &mut walk, byte) {
                break;
            }
            found.extend(model.layout.pieces.found(&model.blob, &walk));
        }
        let mut expected: Vec<_> = list.iter().filter(|(_, bytes)| text.as_bytes().starts_with(bytes)).collect();
        expected.sort_by_key(|(_, bytes)| bytes.len());
        assert_eq!(found, expected.iter().map(|(id, _)| *id).collect::<Vec<_>>(), "{text:?}");
    }
}

#[test]
fn best_sums_are_those_of_floating_point() {
    let mut random = Random(2);
    for round in 0..400u64 {
        let alphabet = &ALPHABET[..1 + random.below(6) as usize];
        let mut names: Vec<String> = (0..random.below(30)).map(|_| random.text(alphabet, 4)).collect();
        names.sort_unstable();
        names.dedup();
        let list: Vec<(&str, f64)> = std::iter::once(("", 0.0))
            .chain(
                names
                    .iter()
                    .map(|name| (name.as_str(), random.score(if round % 8 < 4 { round % 4 } else { 1 + round % 2 }))),
            )
            .collect();
        let single = round % 8 >= 4;
        let unknown = list.iter().map(|(_, score)| *score).fold(0.0, f64::min) - 10.0;
        let unknown = if single { f64::from(unknown as f32) } else { unknown };
        let model = Model::unigram(&list, unknown, if single { Sums::Binary32 } else { Sums::Binary64 });
        for _ in 0..20 {
            let text = random.text(alphabet, 80);
            assert_eq!(model.ids(&text), plain(&list, unknown, single, &text), "{list:?} {text:?}");
        }
    }
}

#[test]
fn rounding_decides_between_equal_paths() {
    let list = [("", 0.0), ("a", -1.1), ("aa", -2.1), ("b", -0.7)];
    let model = Model::unigram(&list, -12.3, Sums::Binary64);
    let text: String = std::iter::repeat_n("baaaaaaa", 40).collect();
    let ids = model.ids(&text);
    assert_eq!(ids, plain(&list, -12.3, false, &text));
    // Not every run of seven is cut alike: with exact sums it would be.
    let runs: Vec<&[u32]> = ids.split(|&id| id == 3).skip(1).collect();
    assert!(runs.iter().any(|run| run != &runs[0]));
}

#[test]
fn a_sum_goes_on_where_only_the_reader_cuts() {
    let list = [("", 0.0), ("▁", -1.3), ("▁a", -1.9), ("a", -1.1), ("aa", -2.1)]
        .map(|(s, score): (_, f32)| (s, f64::from(score)));
    let mut model = Model::unigram(&list, -12.25, Sums::Binary32);
    let word = "▁aaaaaa";
    let text = word.repeat(500);
    let cuts: Vec<usize> = (1..500).map(|k| k * word.len()).collect();
    model.layout.cuts = Cuts { words: 3, ..Cuts::default() };
    let whole = plain(&list, -12.25, true, &text);
    assert_eq!(model.words(text.as_bytes(), &cuts, text.len()).unwrap(), whole);
    model.layout.cuts = Cuts { words: 2, ..Cuts::default() };
    let apart = plain(&list, -12.25, true, word).repeat(500);
    assert_eq!(model.words(text.as_bytes(), &cuts, text.len()).unwrap(), apart);
    assert_ne!(whole, apart);
}

#[test]
fn unknown_characters_fuse_or_become_bytes() {
    let list = [("<u>", -5.0), ("a", -1.0), ("", 0.0), ("", 0.0), ("", 0.0), ("", 0.0), ("", 0.0)];
    let mut model = Model::unigram(&list, -15.0, Sums::Binary64);
    // The bytes of é are ids 2 and 3, those of u and < are 4 and 5, > is 6.
    let runs = model.add(&[5, 0, 0, b'<', 0, 6, 0, 0, b'>', 0, 4, 0, 0, b'u', 0, 3, 0, 0, 0xa9, 0, 2, 0, 0, 0xc3, 0]);
    model.layout.runs = runs;
    assert_eq!(model.ids("aéé中a"), [1, 0, 1]);
    model.layout.unknown.fuse = false;
    assert_eq!(model.ids("aéé中a"), [1, 0, 0, 0, 1]);
    model.layout.unknown.bytes = true;
    assert_eq!(model.ids("aéé中a"), [1, 2, 3, 2, 3, 0, 1]);
    model.layout.unknown.fuse = true;
    assert_eq!(model.ids("aéa"), [1, 2, 3, 1]);
    assert_eq!(model.ids("aéé中a"), [1, 0, 1], "one byte without an id makes the whole run unknown");
    assert_eq!(model.ids("a<u>a"), [1, 0, 1], "the unknown id's own piece");
    assert_eq!(model.ids("é<u>é"), [2, 3, 5, 4, 6, 2, 3]);
    model.layout.unknown.id = None;
    assert_eq!(model.ids("a中a"), [1, 1]);
}

#[test]
fn strays_are_in_no_piece() {
    let model = Model::unigram(&[("<u>", -5.0), ("中", -1.0), ("a", -1.0)], -15.0, Sums::Binary64);
    assert_eq!(model.words(b"a\xe4\xb8a\xe4\xb8\xad", &[], 9).unwrap(), [2, 0, 2, 1]);
}

#[test]
fn a_word_needs_an_id_for_each_byte_at_most() {
    let model = Model::unigram(&[("", 0.0), ("a", -1.0), ("aaaa", -1.0)], -15.0, Sums::Binary64);
    assert_eq!(model.words(b"aaaaaaaa", &[], 8).unwrap(), [2, 2]);
    assert_eq!(model.words(b"aaaaaaaa", &[], 7), Err(Fault::Capacity));
}

#[test]
fn a_long_run_of_one_letter() {
    let names: Vec<String> = (1..16).map(|n| "a".repeat(n)).collect();
    let list: Vec<(&str, f64)> =
        std::iter::once(("", 0.0)).chain(names.iter().map(|name| (name.as_str(), -3.7))).collect();
    let model = Model::unigram(&list, -13.7, Sums::Binary32);
    let text = "a".repeat(1 << 17);
    let ids = model.ids(&text);
    assert_eq!(ids.iter().map(|&id| id as usize).sum::<usize>(), 1 << 17);
}

/// Longest piece first, over strings.
fn plain_words(list: &BTreeMap<String, u32>, limit: usize, word: &str) -> Vec<u32> {
    let (mut at, mut out) = (0, Vec::new());
    if word.chars().count() > limit {
        return vec![0];
    }
    while at < word.len() {
        let prefix = if at > 0 { "##" } else { "" };
        let ends = (at + 1..=word.len()).rev().filter(|&end| word.is_char_boundary(end));
        let found = ends.filter_map(|end| Some((end, *list.get(&format!("{prefix}{}", &word[at..end]))?))).next();
        let Some((end, id)) = found else { return vec![0] };
        out.push(id);
        at = end;
    }
    out
}

#[test]
fn longest_pieces_first() {
    let mut random = Random(3);
    for _ in 0..300 {
        let alphabet = &ALPHABET[..1 + random.below(6) as usize];
        let mut list = BTreeMap::new();
        for id in 1..2 + random.below(40) as u32 {
            let prefix = ["", "##"][random.below(2) as usize];
            list.insert(format!("{prefix}{}", random.text(alphabet, 4)), id);
        }
        let limit = 1 + random.below(30) as usize;
        let bytes: Vec<(u32, Vec<u8>)> = list.iter().map(|(piece, &id)| (id, piece.as_bytes().to_vec())).collect();
        let mut model = Model::new(&bytes, 42);
        let prefix = model.add(b"##");
        model.layout.unknown = Unknown { id: Some(0), limit: limit as u32, prefix, ..Unknown::default() };
        for _ in 0..20 {
            let mut text = random.text(alphabet, 20);
            if random.below(9) == 0 {
                text.insert_str(0, "##");
            }
            assert_eq!(model.ids(&text), plain_words(&list, limit, &text), "{list:?} {text:?} {limit}");
        }
    }
}

#[test]
fn damaged_sections_are_refused_or_harmless() {
    let mut random = Random(4);
    let names: Vec<String> =
        (0..40).map(|_| random.text(&ALPHABET, 5)).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    let list: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), random.score(0))).collect();
    let whole = Model::unigram(&list, -30.0, Sums::Binary64);
    let (vocab, split) = (list.len() as u32, 3 + pieces(&[], 0).map(|_| 0).unwrap());
    let trie_bytes =
        pieces(&(0..).zip(names.iter().map(|name| name.as_bytes().to_vec())).collect::<Vec<_>>(), vocab).unwrap().len();
    let mut opened = 0;
    for _ in 0..4000 {
        let mut model = Model { blob: whole.blob.clone(), layout: whole.layout };
        for _ in 0..=random.below(3) {
            let at = split + random.below((model.blob.len() - split) as u64) as usize;
            model.blob[at] =
                if random.below(2) == 0 { random.next() as u8 } else { model.blob[at] ^ 1 << random.below(8) };
        }
        let (at, end) = (3 + trie_bytes as u32, model.blob.len() as u32);
        let Ok(trie) = Pieces::read(&model.blob, Span { at: 3, len: at - 3 }, vocab) else { continue };
        let Ok(numbers) = Scores::read(&model.blob, Span { at, len: end - at }, vocab) else { continue };
        opened += 1;
        (model.layout.pieces, model.layout.scores) = (trie, numbers);
        let text = random.text(&ALPHABET, 60);
        let ids = model.words(text.as_bytes(), &[], text.len()).unwrap();
        assert!(ids.iter().all(|&id| id < vocab));
        for id in 0..vocab {
            let mut count = 0;
            let put = &mut |_| {
                count += 1;
                Ok(())
            };
            let _ = spell(model.tokenizer(), id, put);
            assert!(count <= 31 + trie.longest);
        }
    }
    assert!(opened > 200, "{opened}");
}

#[test]
fn bad_pieces_are_refused_by_name() {
    let refused = |list: &[(u32, &str)], what: &str| {
        let list: Vec<(u32, Vec<u8>)> = list.iter().map(|(id, s)| (*id, s.as_bytes().to_vec())).collect();
        let error = pieces(&list, 5).unwrap_err();
        assert!(format!("{error:?}").contains(what), "{error:?}");
    };
    refused(&[(0, "a"), (1, "a")], "id 1 is spelled like id 0");
    refused(&[(0, "a"), (0, "b")], "id 0 has two pieces");
    refused(&[(0, "a"), (5, "b")], "id 5 is not below");
    refused(&[(3, "")], "piece of 0 bytes");
    refused(&[(3, &"x".repeat(2048))], "piece of 2048 bytes");
    for bad in [f64::NAN, f64::INFINITY, 1e-40, -2e19] {
        let error = scores(&[-1.0, bad], -10.0, Sums::Binary64).unwrap_err();
        assert!(format!("{error:?}").contains("id 1 has the score"), "{error:?}");
    }
}
