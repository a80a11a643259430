//! Section 4: the merges, sorted by their two halves and coded as differences, with a sample of every 32nd.

use super::bits::{bits, byte, le, width_of, Packed, Permutation, Span};
use super::Bad;
use core::cmp::Ordering;

/// Merges from one sample to the next.
const STEP: u32 = 32;
/// Bytes before the samples.
const HEAD: u32 = 20;
/// The ranks are stored.
const RANKS: u8 = 1;
/// The ids are stored whose rank is above all others.
const LATE: u8 = 2;
/// Longest token in atoms.
const MAX_LONGEST: u32 = 1023;
/// Bits of a stream are fewer.
const MAX_BITS: u32 = 1 << 24;

/// Section 4, checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merges {
    /// Merges, n.
    pub count: u32,
    /// First id of the range that holds the results.
    pub base: u32,
    /// Longest token in atoms, at least 1.
    pub longest: u32,
    /// Bits of an id.
    id_bits: u32,
    /// Bits of an offset in a sample.
    offset_bits: u32,
    /// Merge 32s: left, right, and where the codes of the merges after it start, in bits of the stream.
    samples: Span,
    /// Codes of the other merges.
    stream: Span,
    /// Place in the sorted list to id - base.
    places: Permutation,
    /// Rank of id base + i, where it is not i.
    ranks: Option<Packed>,
    /// Results, less base and ascending, whose rank is the number of results instead.
    late: Packed,
    /// How many.
    late_count: u32,
}

/// A merge in the sorted list, and where the code of the next one is.
#[derive(Clone, Copy)]
struct Entry {
    pair: (u32, u32),
    bit: u32,
}

impl Entry {
    /// The merge after this one: whether left differs, and one or two numbers.
    #[inline(always)]
    fn next(self, stream: &[u8]) -> Option<Entry> {
        let Entry { pair: (left, right), bit } = self;
        let code = bits(stream, bit, 1 + NUMBER);
        let (first, length) = number(code >> 1)?;
        let bit = bit + 1 + length;
        if code & 1 == 0 {
            return Some(Entry { pair: (left, right + 1 + first), bit });
        }
        let (second, length) = number(bits(stream, bit, NUMBER))?;
        Some(Entry { pair: (left + 1 + first, second), bit: bit + length })
    }
}

/// Bits of the longest number.
const NUMBER: u32 = 28;

/// A number and its length in bits: groups of four bits, three of them the number's, low ones first, the fourth set if more follow; at most
/// seven groups.
#[inline]
fn number(groups: u32) -> Option<(u32, u32)> {
    let last = !groups & 0x888_8888;
    if last == 0 {
        return None;
    }
    // What is below the end of the last group, and then three of four bits, six of eight, twelve of sixteen moved together.
    let x = groups & ((last & last.wrapping_neg()) - 1) & 0x777_7777;
    let x = x & 0x707_0707 | (x & 0x7070_7070) >> 1;
    let x = x & 0x3f_003f | (x & 0x3f00_3f00) >> 2;
    Some((x & 0xfff | x >> 16 << 12, last.trailing_zeros() + 1))
}

impl Merges {
    /// Checks the section over ids below `vocab`: every merge is read once.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn read(blob: &[u8], section: Span, vocab: u32) -> Result<Merges, Bad> {
        let bad = |at: u32, what| Bad { at: section.at + at, what };
        if section.len < HEAD {
            return Err(bad(0, "merges cut short"));
        }
        let word = |at: u32| le(blob, section.at + at, 4);
        let (count, range, base, stream_bits) = (word(0), word(4), word(8), word(12));
        let longest = le(blob, section.at + 16, 2);
        let (flags, offset_bits) = (byte(blob, section.at + 18), u32::from(byte(blob, section.at + 19)));
        if count > range || base > vocab || range > vocab - base {
            return Err(bad(0, "merges beyond the vocabulary"));
        }
        if !(1..=MAX_LONGEST).contains(&longest)
            || flags > LATE
            || stream_bits >= MAX_BITS
            || offset_bits != width_of(stream_bits)
        {
            return Err(bad(12, "bad header of the merges"));
        }
        let id_bits = width_of(vocab - 1);
        // At most 2^15 samples of 72 bits.
        let samples = (count.div_ceil(STEP) * (2 * id_bits + offset_bits)).div_ceil(8);
        let samples = Span { at: section.at + HEAD, len: samples };
        let stream = Span { at: samples.end(), len: stream_bits.div_ceil(8) };
        let (places, mut behind) = Permutation::place(range, stream.at.saturating_add(stream.len), section.end())
            .ok_or(bad(0, "merges cut short"))?;
        let (mut ranks, mut late, mut late_count) = (None, Packed::default(), 0);
        let width = places.table.width;
        if flags == RANKS {
            let packed = Packed { span: Span { at: behind, len: places.table.span.len }, width };
            behind += packed.span.len;
            ranks = Some(packed);
        } else if flags == LATE {
            late_count = le(blob, behind, 2);
            // At most 2^16 fields of 20 bits.
            late = Packed { span: Span { at: behind + 4, len: (late_count * width).div_ceil(8) }, width };
            if late_count == 0 || le(blob, behind + 2, 2) != 0 {
                return Err(bad(behind - section.at, "bad header of the late merges"));
            }
            behind = late.span.end();
        }
        if behind != section.end() {
            return Err(bad(0, "merges of the wrong length"));
        }
        let merges =
            Merges { count, base, longest, id_bits, offset_bits, samples, stream, places, ranks, late, late_count };
        let mut least = 0;
        let ascends = (0..late_count).all(|k| {
            let result = late.get(blob, k);
            let ok = (least..range).contains(&result);
            least = result + 1;
            ok
        });
        let in_range = ranks.is_none_or(|ranks| (0..range).all(|k| ranks.get(blob, k) < range));
        if !places.check(blob) || !ascends || !in_range {
            return Err(bad(stream.end() - section.at, "place or rank beyond the merges"));
        }
        merges.check(blob, vocab, stream_bits).ok_or(bad(HEAD, "merges out of order"))?;
        Ok(merges)
    }

    /// Whether all merges ascend and are below `vocab`, and the codes fill the stream.
    fn check(self, blob: &[u8], vocab: u32, stream_bits: u32) -> Option<()> {
        let stream = self.stream.of(blob);
        let (mut bit, mut last) = (0, None);
        for place in 0..self.count {
            let entry = match last {
                Some(entry) if !place.is_multiple_of(STEP) => Entry::next(entry, stream)?,
                _ => self.sample(blob, place / STEP),
            };
            let in_place = !place.is_multiple_of(STEP) || entry.bit == bit;
            let ascends = last.is_none_or(|last| last.pair < entry.pair);
            if !in_place || !ascends || entry.pair.0 >= vocab || entry.pair.1 >= vocab || entry.bit > stream_bits {
                return None;
            }
            (bit, last) = (entry.bit, Some(entry));
        }
        (bit == stream_bits).then_some(())
    }

    fn sample(self, blob: &[u8], sample: u32) -> Entry {
        let samples = self.samples.of(blob);
        let at = sample * (2 * self.id_bits + self.offset_bits);
        let left = bits(samples, at, self.id_bits);
        let right = bits(samples, at + self.id_bits, self.id_bits);
        Entry { pair: (left, right), bit: bits(samples, at + 2 * self.id_bits, self.offset_bits) }
    }

    /// The id that a pair merges into.
    pub fn find(self, blob: &[u8], left: u32, right: u32) -> Option<u32> {
        // The last sample that is not behind the pair.
        let (mut low, mut high) = (0, self.count.div_ceil(STEP));
        let samples = self.samples.of(blob);
        while low < high {
            let middle = (low + high) >> 1;
            let at = middle * (2 * self.id_bits + self.offset_bits);
            let found = bits(samples, at, self.id_bits);
            match found < left || found == left && bits(samples, at + self.id_bits, self.id_bits) <= right {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let first = low.checked_sub(1)?;
        let stream = self.stream.of(blob);
        let mut entry = self.sample(blob, first);
        let mut place = first * STEP;
        while entry.pair.0 < left || entry.pair.0 == left && entry.pair.1 < right {
            place += 1;
            if place.is_multiple_of(STEP) || place >= self.count {
                return None;
            }
            entry = entry.next(stream)?;
        }
        (entry.pair == (left, right)).then(|| self.base + self.places.get(blob, place))
    }

    /// Rank of the merge that makes an id of the range: the pair with the lowest is merged first, of equals the leftmost.
    pub fn rank(self, blob: &[u8], id: u32) -> u32 {
        let result = id - self.base;
        if let Some(ranks) = self.ranks {
            return ranks.get(blob, result);
        }
        let (mut low, mut high) = (0, self.late_count);
        while low < high {
            let middle = (low + high) >> 1;
            match self.late.get(blob, middle).cmp(&result) {
                Ordering::Equal => return self.places.count,
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        result
    }

    /// The two halves of an id, if a merge makes it.
    pub fn halves(self, blob: &[u8], id: u32) -> Option<(u32, u32)> {
        let place = self.places.inverse(blob, id.checked_sub(self.base)?)?;
        if place >= self.count {
            return None;
        }
        let mut entry = self.sample(blob, place / STEP);
        for _ in 0..place % STEP {
            entry = entry.next(self.stream.of(blob))?;
        }
        Some(entry.pair)
    }
}
