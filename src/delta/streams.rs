//! The two streams of a payload: bits of chance through a range coder, and plain bits.

use crate::error::{Error, Result};

/// What a coder knows of a kind of bit: how likely it is 0, and how often it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// In 1/65536, 32 ..= 65504.
    p: u16,
    seen: u8,
}

/// R of the document: how far a context moves the n-th time.
static RATE: [u16; 255] = {
    let mut rate = [0; 255];
    let mut c = 0;
    while c < 255 {
        rate[c] = (65536 / (c + 2)) as u16;
        c += 1;
    }
    rate
};

impl Context {
    pub const FRESH: Context = Context { p: 1 << 15, seen: 0 };

    /// A context that starts with a belief, worth twenty bits seen.
    pub fn prior(p: u32) -> Context {
        Context { p: p.clamp(32, 65504) as u16, seen: 20 }
    }

    #[inline(always)]
    fn bound(self, range: u32) -> u32 {
        (range >> 12) * self.zero()
    }

    /// The likelihood of 0 that a coder goes by, in 1/4096: 2 ..= 4094.
    #[inline(always)]
    pub fn zero(self) -> u32 {
        u32::from(self.p >> 4)
    }

    #[inline(always)]
    pub fn update(&mut self, bit: bool) {
        let p = u32::from(self.p);
        let rate = u32::from(RATE[usize::from(self.seen)]);
        let p = if bit { p - ((p * rate) >> 16) } else { p + (((65536 - p) * rate) >> 16) };
        self.p = p.clamp(32, 65504) as u16;
        self.seen += u8::from(self.seen < 254);
    }
}

/// Both streams of a payload, read. Behind their ends there are zeros.
pub struct Source<'a> {
    coded: std::slice::Iter<'a, u8>,
    range: u32,
    code: u32,
    plain: &'a [u8],
    /// The next bit of `plain`.
    at: usize,
}

impl<'a> Source<'a> {
    /// The streams of a payload whose first one has `stream1` bytes.
    ///
    /// # Errors
    /// `Input` if it is longer than the payload.
    pub fn new(payload: &'a [u8], stream1: u32) -> Result<Source<'a>> {
        let Some((coded, plain)) = payload.split_at_checked(stream1 as usize) else {
            return Err(Error::input("the payload of a block is shorter than its first stream"));
        };
        let mut source = Source { coded: coded.iter(), range: u32::MAX, code: 0, plain, at: 0 };
        for _ in 0..4 {
            source.code = source.code << 8 | source.next();
        }
        Ok(source)
    }

    #[inline(always)]
    fn next(&mut self) -> u32 {
        self.coded.next().map_or(0, |b| u32::from(*b))
    }

    /// A bit of stream 1.
    #[inline(always)]
    pub fn bit(&mut self, context: &mut Context) -> bool {
        let bound = context.bound(self.range);
        let bit = self.code >= bound;
        if bit {
            self.code -= bound;
            self.range -= bound;
        } else {
            self.range = bound;
        }
        context.update(bit);
        while self.range < 1 << 24 {
            self.range <<= 8;
            self.code = self.code << 8 | self.next();
        }
        bit
    }

    /// The next bits of stream 2, 57 of them at least, the first one lowest.
    #[inline(always)]
    fn peek(&self) -> u64 {
        let byte = self.at >> 3;
        let word = match self.plain.get(byte..).and_then(|rest| rest.first_chunk()) {
            Some(word) => u64::from_le_bytes(*word),
            None => self.peek_end(byte),
        };
        word >> (self.at & 7)
    }

    #[cold]
    fn peek_end(&self, byte: usize) -> u64 {
        let rest = self.plain.get(byte..).unwrap_or_default();
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        u64::from_le_bytes(word)
    }

    /// `n` ≤ 56 bits of stream 2.
    #[inline(always)]
    pub fn raw(&mut self, n: u32) -> u64 {
        let v = self.peek() & !(u64::MAX << n);
        self.at += n as usize;
        v
    }

    /// Zeros of stream 2 before a one, which is read too; nothing if there are more than `max`.
    #[inline(always)]
    pub fn zeros(&mut self, max: u64) -> Option<u64> {
        let word = self.peek();
        let zeros = word.trailing_zeros();
        if word != 0 && u64::from(zeros) <= max {
            self.at += zeros as usize + 1;
            return Some(u64::from(zeros));
        }
        self.many_zeros(max)
    }

    #[cold]
    fn many_zeros(&mut self, max: u64) -> Option<u64> {
        let start = self.at;
        let stop = start.saturating_add(max as usize);
        while self.at < 8 * self.plain.len() {
            let word = self.peek();
            let zeros = if word == 0 { 64 - (self.at & 7) } else { word.trailing_zeros() as usize };
            if self.at + zeros > stop {
                break;
            }
            self.at += zeros;
            if word != 0 {
                self.at += 1;
                return Some((self.at - 1 - start) as u64);
            }
        }
        self.at = stop + 1;
        None
    }

    /// Goes on to the next byte of stream 2.
    pub fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }

    /// Bytes of stream 2.
    pub fn bytes(&mut self, out: &mut [u8]) {
        if self.at & 7 == 0 {
            let rest = self.plain.get(self.at >> 3..).unwrap_or_default();
            let n = rest.len().min(out.len());
            out[..n].copy_from_slice(&rest[..n]);
            out[n..].fill(0);
            self.at += 8 * out.len();
            return;
        }
        for part in out.chunks_mut(7) {
            let word = self.raw(8 * part.len() as u32).to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
    }
}

/// Where an encoder puts its bits: a payload, or a sum of costs.
pub trait Sink {
    /// A bit of stream 1.
    fn bit(&mut self, context: &mut Context, bit: bool);
    /// `n` ≤ 56 bits of stream 2.
    fn raw(&mut self, v: u64, n: u32);
    /// `n` zeros of stream 2, then a one.
    fn zeros(&mut self, n: u64);
    fn align(&mut self);
    fn bytes(&mut self, bytes: &[u8]);
}

/// Both streams of a payload, written.
pub struct Writer {
    coded: Vec<u8>,
    low: u32,
    range: u32,
    plain: Vec<u8>,
    /// Bits that do not fill a byte of `plain` yet, fewer than 8.
    bits: u64,
    count: u32,
}

impl Default for Writer {
    fn default() -> Self {
        Writer { coded: Vec::new(), low: 0, range: u32::MAX, plain: Vec::new(), bits: 0, count: 0 }
    }
}

impl Sink for Writer {
    #[inline(always)]
    fn bit(&mut self, context: &mut Context, bit: bool) {
        let bound = context.bound(self.range);
        if bit {
            self.add(u64::from(bound));
            self.range -= bound;
        } else {
            self.range = bound;
        }
        context.update(bit);
        while self.range < 1 << 24 {
            self.coded.push((self.low >> 24) as u8);
            self.low <<= 8;
            self.range <<= 8;
        }
    }

    #[inline(always)]
    fn raw(&mut self, v: u64, n: u32) {
        self.bits |= (v & !(u64::MAX << n)) << self.count;
        self.count += n;
        while self.count >= 8 {
            self.plain.push(self.bits as u8);
            self.bits >>= 8;
            self.count -= 8;
        }
    }

    fn zeros(&mut self, mut n: u64) {
        while n >= 32 {
            self.raw(0, 32);
            n -= 32;
        }
        self.raw(1 << n, n as u32 + 1);
    }

    fn align(&mut self) {
        self.raw(0, self.count.wrapping_neg() & 7);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if self.count == 0 {
            self.plain.extend_from_slice(bytes);
            return;
        }
        for b in bytes {
            self.raw(u64::from(*b), 8);
        }
    }
}

impl Writer {
    /// Moves the lower end of the interval up. What leaves the 32 bits goes into the bytes that are written.
    #[inline(always)]
    fn add(&mut self, v: u64) {
        let low = u64::from(self.low) + v;
        self.low = low as u32;
        if low >> 32 != 0 {
            for b in self.coded.iter_mut().rev() {
                *b = b.wrapping_add(1);
                if *b != 0 {
                    break;
                }
            }
        }
    }

    /// The payload, and how many bytes of it are stream 1. It has no zero bytes at the ends of its streams.
    pub fn finish(mut self) -> (Vec<u8>, u32) {
        // Of all numbers in the interval the one with the most zeros behind its last one.
        for zeros in (0..=32).rev() {
            let mask = (1u64 << zeros) - 1;
            let up = ((u64::from(self.low) + mask) & !mask) - u64::from(self.low);
            if up < u64::from(self.range) {
                self.add(up);
                break;
            }
        }
        self.coded.extend(self.low.to_be_bytes());
        self.align();
        let strip = |bytes: &mut Vec<u8>| bytes.truncate(bytes.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1));
        strip(&mut self.coded);
        strip(&mut self.plain);
        let stream1 = self.coded.len() as u32;
        self.coded.append(&mut self.plain);
        (self.coded, stream1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::meter::Meter;
    use super::*;

    /// Numbers that look drawn.
    fn numbers(seed: u64) -> impl FnMut() -> u64 {
        let mut x = seed;
        move || {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            x >> 33
        }
    }

    #[test]
    fn both_streams_come_back() {
        for seed in 0..200 {
            let mut next = numbers(seed);
            let one_in = 1 + next() % 300;
            let items: Vec<(u64, u64, u64)> = (0..next() % 500).map(|_| (next() % 4, next(), next())).collect();
            let is_one = |v: u64| v.is_multiple_of(one_in);
            let (mut w, mut m) = (Writer::default(), Meter::default());
            let mut contexts = [[Context::FRESH; 3]; 3];
            for (what, a, b) in &items {
                let i = *b as usize % 3;
                match what {
                    0 => w.raw(*a, *b as u32 % 57),
                    1 => w.zeros(a % 200),
                    2 => w.bytes(&a.to_le_bytes()[..i]),
                    _ => {}
                }
                w.bit(&mut contexts[0][i], is_one(*a));
                m.bit(&mut contexts[1][i], is_one(*a));
            }
            let (payload, stream1) = w.finish();
            assert!((8 * u64::from(stream1)).abs_diff(m.bits()) <= 40, "{} bits, {} thought", 8 * stream1, m.bits());
            let mut s = Source::new(&payload, stream1).unwrap();
            for (what, a, b) in &items {
                let i = *b as usize % 3;
                let n = *b as u32 % 57;
                match what {
                    0 => assert_eq!(s.raw(n), a & !(u64::MAX << n)),
                    1 => assert_eq!(s.zeros(200), Some(a % 200)),
                    2 => {
                        let mut out = [9; 2];
                        s.bytes(&mut out[..i]);
                        assert_eq!(out[..i], a.to_le_bytes()[..i]);
                    }
                    _ => {}
                }
                assert_eq!(s.bit(&mut contexts[2][i]), is_one(*a));
            }
            assert_eq!(contexts[0], contexts[2]);
        }
    }

    #[test]
    fn a_carry_runs_through_bytes_of_255() {
        let mut w = Writer { coded: vec![1, 255, 255], low: u32::MAX - 5, ..Writer::default() };
        w.add(6);
        assert_eq!((w.coded, w.low), (vec![2, 0, 0], 0));
    }

    #[test]
    fn nothing_is_read_behind_the_end() {
        let mut s = Source::new(&[0x80, 0x01], 1).unwrap();
        assert_eq!(s.raw(20), 1);
        assert_eq!(s.zeros(1000), None);
        assert_eq!(s.raw(56), 0);
        let mut out = [1; 3];
        s.bytes(&mut out);
        assert_eq!(out, [0; 3]);
        for _ in 0..10000 {
            s.bit(&mut Context::FRESH.clone());
        }
        assert!(Source::new(&[1], 2).is_err());
    }

    #[test]
    fn zeros_stop_behind_the_most_that_are_allowed() {
        let mut bytes = vec![0; 40];
        bytes[30] = 0b10;
        for (max, found) in [(241, Some(241)), (240, None), (3, None), (0, None)] {
            let mut s = Source::new(&bytes, 0).unwrap();
            assert_eq!(s.zeros(max), found);
            assert_eq!(s.at as u64, found.unwrap_or(max) + 1);
        }
    }
}
