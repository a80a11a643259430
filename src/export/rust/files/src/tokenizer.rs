//! Text to token ids and back, over the tokenizer section of a model. Read byte by byte, checked whole when it is opened.

use crate::splitter::{self, Range, View};
use crate::status::{Result, Status};

const HEADER: usize = 48;
const MAX_VOCAB: u32 = 1 << 20;
const MAX_MERGES: u32 = 1 << 20;
/// Pending halves of a token that is decoded.
const STACK: usize = 32;

const SPACE: u8 = 1;
const EXPLICIT: u8 = 2;

/// A special token; one that is looked for in the text; one that stands for a whole word.
const SPECIAL: u8 = 1;
const MATCH: u8 = 2;
const WHOLE: u8 = 4;

/// Up to four bytes, the lowest first; 0 for those beyond the end.
fn le(p: &[u8]) -> u32 {
    p.iter().take(4).rev().fold(0, |v, b| v << 8 | u32::from(*b))
}

fn width(value: u32) -> u32 {
    (32 - value.leading_zeros()).max(1)
}

/// Fields of a fixed number of bits, the lowest bit first.
#[derive(Clone, Copy, Default)]
struct Fields<'a> {
    table: &'a [u8],
    width: u32,
}

impl Fields<'_> {
    fn at(&self, index: u32) -> u32 {
        let bit = index * self.width;
        let bytes = (bit as usize & 7) + self.width as usize + 7 >> 3;
        let all = self.table.get(bit as usize >> 3..).unwrap_or(&[]);
        le(&all[..bytes.min(all.len())]) >> (bit & 7) & ((1 << self.width) - 1)
    }
}

/// One LEB128 number of at most four bytes; the rest.
pub(crate) fn varint(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0;
    for (k, b) in bytes.iter().enumerate().take(4) {
        value |= (u32::from(*b) & 0x7F) << (7 * k);
        if *b < 0x80 {
            return Some((value, &bytes[k + 1..]));
        }
    }
    None
}

/// A token with a text of its own.
struct Literal<'a> {
    id: u32,
    flags: u8,
    bytes: &'a [u8],
}

/// The literals, one after the other.
struct Literals<'a>(&'a [u8]);

impl<'a> Iterator for Literals<'a> {
    type Item = Literal<'a>;

    fn next(&mut self) -> Option<Literal<'a>> {
        let (head, rest) = self.0.split_at_checked(6)?;
        let (bytes, rest) = rest.split_at_checked(le(&head[4..6]) as usize)?;
        self.0 = rest;
        Some(Literal { id: le(&head[..3]), flags: head[3], bytes })
    }
}

/// The tokenizer of a model.
pub struct Tokenizer<'a> {
    flags: u8,
    vocab: u32,
    merges: u32,
    merge_base: u32,
    prefix: usize,
    suffix: usize,
    splitter: u8,
    whole_words: bool,
    gpt2_words: bool,
    max_token_bytes: usize,
    literal_count: usize,
    /// Bytes with which a token looked for in the text starts.
    starts: [u32; 8],
    affixes: &'a [u8],
    runs: &'a [u8],
    pairs: Fields<'a>,
    order: Fields<'a>,
    results: Fields<'a>,
    makers: Fields<'a>,
    literals: &'a [u8],
    classes: &'a [u8],
}

fn ensure(ok: bool) -> Result<()> {
    if ok {
        Ok(())
    } else {
        Err(Status::Format)
    }
}

impl<'a> Tokenizer<'a> {
    pub(crate) fn open(blob: &'a [u8]) -> Result<Tokenizer<'a>> {
        ensure(blob.len() >= HEADER)?;
        let word = |at: usize| le(&blob[at..at + 4]);
        let half = |at: usize| le(&blob[at..at + 2]);
        if &blob[..4] != b"BNTK" {
            return Err(Status::Magic);
        }
        if half(4) != 1 {
            return Err(Status::Version);
        }
        let flags = blob[6];
        ensure(flags <= SPACE | EXPLICIT && blob[7] == 0 && word(8) as usize == blob.len())?;
        let (vocab, merges, merge_base) = (word(12), word(16), word(20));
        ensure((1..=MAX_VOCAB).contains(&vocab) && merges <= MAX_MERGES)?;
        let explicit = flags & EXPLICIT != 0;
        ensure(if explicit { merge_base == 0 } else { merge_base <= vocab && merges <= vocab - merge_base })?;
        let (literal_bytes, class_bytes) = (word(24) as usize, word(28) as usize);
        let (literal_count, run_count) = (half(32) as usize, half(34) as usize);
        let (prefix, suffix) = (usize::from(blob[40]), usize::from(blob[41]));
        ensure(run_count <= 256 && blob[38] <= splitter::QWEN2 && blob[39] <= 1)?;
        ensure(blob[42..HEADER].iter().all(|b| *b == 0))?;

        let mut rest = &blob[HEADER..];
        let mut take = |bytes: usize| {
            let (part, more) = rest.split_at_checked(bytes).ok_or(Status::Format)?;
            rest = more;
            Ok(part)
        };
        let (id_bits, rank_bits) = (width(vocab - 1), width(merges));
        // Counts are at most 2^21 and widths 21, so bits fit a word.
        let packed = |count: u32, width: u32| (count * width + 7 >> 3) as usize;
        let affixes = take(4 * (prefix + suffix))?;
        let runs = take(5 * run_count)?;
        let pairs = Fields { table: take(packed(2 * merges, id_bits))?, width: id_bits };
        let order = Fields { table: take(packed(merges, rank_bits))?, width: rank_bits };
        let (mut results, mut makers) = (Fields::default(), Fields::default());
        if explicit {
            results = Fields { table: take(packed(merges, id_bits))?, width: id_bits };
            makers = Fields { table: take(packed(vocab, rank_bits))?, width: rank_bits };
        }
        let literals = take(literal_bytes)?;
        let classes = take(class_bytes)?;
        ensure(rest.is_empty())?;
        let mut t = Tokenizer {
            flags,
            vocab,
            merges,
            merge_base,
            prefix,
            suffix,
            splitter: blob[38],
            whole_words: false,
            gpt2_words: blob[39] == 1,
            max_token_bytes: half(36) as usize,
            literal_count,
            starts: [0; 8],
            affixes,
            runs,
            pairs,
            order,
            results,
            makers,
            literals,
            classes,
        };
        ensure(affixes.chunks(4).all(|id| le(id) < vocab))?;
        t.check_runs()?;
        t.check_merges()?;
        t.check_literals()?;
        ensure(splitter::classes_ok(classes))?;
        Ok(t)
    }

    fn check_runs(&self) -> Result<()> {
        let mut next = 0;
        for run in self.runs.chunks_exact(5) {
            let (first, count) = (u32::from(run[3]), u32::from(run[4]) + 1);
            ensure(first >= next && first + count <= 256 && le(&run[..3]) + count <= self.vocab)?;
            next = first + count;
        }
        Ok(())
    }

    fn pair(&self, rank: u32) -> (u32, u32) {
        (self.pairs.at(2 * rank), self.pairs.at(2 * rank + 1))
    }

    fn check_merges(&self) -> Result<()> {
        let mut last = None;
        for k in 0..self.merges {
            let rank = self.order.at(k);
            ensure(rank < self.merges)?;
            let pair = self.pair(rank);
            ensure(pair.0 < self.vocab && pair.1 < self.vocab && last.is_none_or(|l| l < pair))?;
            last = Some(pair);
        }
        if self.flags & EXPLICIT != 0 {
            ensure((0..self.merges).all(|k| self.results.at(k) < self.vocab))?;
            ensure((0..self.vocab).all(|k| self.makers.at(k) <= self.merges))?;
        }
        Ok(())
    }

    fn check_literals(&mut self) -> Result<()> {
        let (mut count, mut bytes) = (0, 0);
        for l in Literals(self.literals) {
            ensure(l.id < self.vocab && l.flags <= 7 && !l.bytes.is_empty())?;
            count += 1;
            bytes += 6 + l.bytes.len();
            if l.flags & MATCH != 0 {
                self.starts[usize::from(l.bytes[0] >> 5)] |= 1 << (l.bytes[0] & 31);
            }
            self.whole_words |= l.flags & WHOLE != 0;
        }
        ensure(count == self.literal_count && bytes == self.literals.len())
    }

    /// Room that [`Tokenizer::decode`] needs.
    pub fn max_token_bytes(&self) -> usize {
        self.max_token_bytes
    }

    fn byte_id(&self, byte: u8) -> Option<u32> {
        let mut runs = self.runs.chunks_exact(5);
        runs.find(|r| byte >= r[3] && byte - r[3] <= r[4]).map(|r| le(&r[..3]) + u32::from(byte - r[3]))
    }

    fn byte_of(&self, id: u32) -> Option<u8> {
        let mut runs = self.runs.chunks_exact(5).map(|r| (le(&r[..3]), r[3], u32::from(r[4])));
        runs.find(|(first, _, more)| id >= *first && id - first <= *more)
            .map(|(first, byte, _)| byte + (id - first) as u8)
    }

    /// Rank of the merge of a pair: binary search in the pairs' ascending order.
    fn rank(&self, left: u32, right: u32) -> Option<u32> {
        let (mut low, mut high) = (0, self.merges);
        while low < high {
            let middle = low + ((high - low) >> 1);
            let rank = self.order.at(middle);
            match self.pair(rank).cmp(&(left, right)) {
                core::cmp::Ordering::Equal => return Some(rank),
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn result(&self, rank: u32) -> u32 {
        match self.flags & EXPLICIT {
            0 => self.merge_base + rank,
            _ => self.results.at(rank),
        }
    }

    /// Rank of a merge that makes `id`.
    fn maker(&self, id: u32) -> Option<u32> {
        let rank = match self.flags & EXPLICIT {
            0 => id.checked_sub(self.merge_base)?,
            _ => self.makers.at(id),
        };
        (rank < self.merges).then_some(rank)
    }

    /// Writes the ids of a text; their number. As many free ids as the text has bytes are always enough (twice as many if the tokenizer
    /// puts spaces in front). Bytes that are not UTF-8 are allowed. Work grows with the square of the length of a word.
    ///
    /// # Errors
    /// `Capacity`
    pub fn encode(&self, text: &[u8], ids: &mut [u32]) -> Result<usize> {
        let mut out = Out { ids, n: 0 };
        let mut seen = Range::default();
        let (mut start, mut at) = (0, 0);
        while at < text.len() {
            let Some((id, length)) = self.literal_at(&text[at..]) else {
                at += 1;
                continue;
            };
            self.segment(&text[start..at], &mut seen, &mut out)?;
            out.put(id)?;
            at += length;
            start = at;
        }
        self.segment(&text[start..], &mut seen, &mut out)?;
        Ok(out.n)
    }

    /// The literal to take at the start of a text: the first in the table that matches.
    fn literal_at(&self, text: &[u8]) -> Option<(u32, usize)> {
        let first = *text.first()?;
        if self.starts[usize::from(first >> 5)] >> (first & 31) & 1 == 0 {
            return None;
        }
        let mut all = Literals(self.literals).filter(|l| l.flags & MATCH != 0);
        all.find(|l| text.starts_with(l.bytes)).map(|l| (l.id, l.bytes.len()))
    }

    fn segment(&self, text: &[u8], seen: &mut Range, out: &mut Out) -> Result<()> {
        let mut at = 0;
        while at < text.len() {
            let end = splitter::piece_end(self.splitter, &View { text, space: 0, classes: self.classes }, at, seen);
            let space = usize::from(self.flags & SPACE != 0 && text[at] != b' ');
            let piece = View { text: &text[at..end], space, classes: self.classes };
            let mut start = 0;
            while start < piece.len() {
                let end = if self.gpt2_words { splitter::gpt2_end(&piece, start, seen) } else { piece.len() };
                match self.whole_word(&piece, start, end) {
                    Some(id) => out.put(id)?,
                    None => self.merge(&piece, start, end, out)?,
                }
                start = end;
            }
            at = end;
        }
        Ok(())
    }

    fn whole_word(&self, v: &View, start: usize, end: usize) -> Option<u32> {
        if !self.whole_words {
            return None;
        }
        let mut all = Literals(self.literals).filter(|l| l.flags & WHOLE != 0 && l.bytes.len() == end - start);
        all.find(|l| l.bytes.iter().enumerate().all(|(j, b)| v.byte(start + j) == *b)).map(|l| l.id)
    }

    /// Appends the ids of one word: as long as any pair of neighbours has a merge, the merge of the lowest rank is made, the leftmost of
    /// equals first. The word grows together where its ids will stay; if the room behind it is large enough it keeps the ranks of its pairs.
    fn merge(&self, v: &View, start: usize, end: usize, out: &mut Out) -> Result<()> {
        const NO_RANK: u32 = u32::MAX;
        let first = out.n;
        for id in (start..end).filter_map(|at| self.byte_id(v.byte(at))) {
            out.put(id)?;
        }
        let (word, ranks) = out.ids[first..].split_at_mut(out.n - first);
        let rank = |word: &[u32], at: usize| self.rank(word[at], word[at + 1]).unwrap_or(NO_RANK);
        let mut length = word.len();
        let cached = ranks.len() >= length;
        if cached {
            (1..length).for_each(|at| ranks[at - 1] = rank(word, at - 1));
        }
        while length > 1 {
            let (mut best, mut best_at) = (NO_RANK, 0);
            for at in 0..length - 1 {
                let r = if cached { ranks[at] } else { rank(word, at) };
                if r < best {
                    (best, best_at) = (r, at);
                }
            }
            if best == NO_RANK {
                break;
            }
            word[best_at] = self.result(best);
            word.copy_within(best_at + 2..length, best_at + 1);
            length -= 1;
            if cached {
                ranks.copy_within(best_at + 1..length, best_at);
                if best_at + 1 < length {
                    ranks[best_at] = rank(word, best_at);
                }
                if best_at > 0 {
                    ranks[best_at - 1] = rank(word, best_at - 1);
                }
            }
        }
        out.n = first + length;
        Ok(())
    }

    /// Writes the ids that the model wants before a text, or after it; [`Tokenizer::encode`] does not add them.
    ///
    /// # Errors
    /// `Capacity`
    pub fn template(&self, after: bool, ids: &mut [u32]) -> Result<usize> {
        let (first, count) = if after { (self.prefix, self.suffix) } else { (0, self.prefix) };
        let room = ids.get_mut(..count).ok_or(Status::Capacity)?;
        room.iter_mut().zip(self.affixes.chunks(4).skip(first)).for_each(|(id, bytes)| *id = le(bytes));
        Ok(count)
    }

    /// Whether a token is one that a reader of the text should not be shown.
    pub fn is_special(&self, id: u32) -> bool {
        Literals(self.literals).any(|l| l.id == id && l.flags & SPECIAL != 0)
    }

    /// Writes the raw bytes of one token; their number. They may hold a part of a UTF-8 sequence.
    ///
    /// # Errors
    /// `Token` if the id has no meaning, `Capacity`: [`Tokenizer::max_token_bytes`] always do. `Format` if the tokenizer does not end.
    pub fn decode(&self, id: u32, out: &mut [u8]) -> Result<usize> {
        if id >= self.vocab {
            return Err(Status::Token);
        }
        if let Some(l) = Literals(self.literals).find(|l| l.id == id) {
            out.get_mut(..l.bytes.len()).ok_or(Status::Capacity)?.copy_from_slice(l.bytes);
            return Ok(l.bytes.len());
        }
        let mut pending = [0; STACK];
        let (mut depth, mut n, mut id) = (0, 0, id);
        // Each turn adds a byte or a pending half, and both are bounded.
        loop {
            if let Some(rank) = self.maker(id) {
                let (left, right) = self.pair(rank);
                *pending.get_mut(depth).ok_or(Status::Format)? = right;
                depth += 1;
                id = left;
                continue;
            }
            let Some(byte) = self.byte_of(id) else {
                return Err(if n == 0 && depth == 0 { Status::Token } else { Status::Format });
            };
            ensure(n < self.max_token_bytes)?;
            *out.get_mut(n).ok_or(Status::Capacity)? = byte;
            n += 1;
            if depth == 0 {
                return Ok(n);
            }
            depth -= 1;
            id = pending[depth];
        }
    }
}

struct Out<'i> {
    ids: &'i mut [u32],
    n: usize,
}

impl Out<'_> {
    fn put(&mut self, id: u32) -> Result<()> {
        *self.ids.get_mut(self.n).ok_or(Status::Capacity)? = id;
        self.n += 1;
        Ok(())
    }
}
