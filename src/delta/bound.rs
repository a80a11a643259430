//! How many weights change, and how few bytes could say so.
//!
//! The bound is that of independent flips at the rate of their tensor, N * H(k / N) bits for k of N: what a coder needs that knows the rate but
//! nothing of where the flips are. Trits are counted by what they were before, which the decoder knows.

use super::segments::Form;
use crate::encoding::lowbit::TRITS;
use std::ops::AddAssign;

/// Symbols that may change and those that do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Class {
    pub symbols: u64,
    pub changes: u64,
}

/// Changes between two stretches of low-bit weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bits, or trits that are 0 in the base.
    pub zero: Class,
    /// Trits that are not 0 in the base.
    pub sign: Class,
    /// Those of them that become their negative.
    pub negated: u64,
    /// Whether these are trits.
    pub trits: bool,
}

impl Counts {
    pub fn flips(&self) -> u64 {
        self.zero.changes + self.sign.changes
    }

    /// Fewest bits for the changes of a tensor.
    pub fn bits(&self) -> f64 {
        let positions = self.zero.bits() + self.sign.bits();
        if !self.trits {
            return positions;
        }
        // A trit that was 0 becomes either sign; one that was not becomes 0 or its negative, at a rate of its own.
        let values = Class { symbols: self.sign.changes, changes: self.negated };
        positions + self.zero.changes as f64 + values.bits()
    }

    /// Counts weights only: `padding` symbols behind the last columns never change.
    pub fn without(mut self, padding: u64) -> Counts {
        self.zero.symbols = self.zero.symbols.saturating_sub(padding);
        self
    }

    /// Symbols of both classes.
    pub fn symbols(&self) -> u64 {
        self.zero.symbols + self.sign.symbols
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, o: Counts) {
        for (a, b) in [(&mut self.zero, o.zero), (&mut self.sign, o.sign)] {
            a.symbols += b.symbols;
            a.changes += b.changes;
        }
        self.negated += o.negated;
        self.trits |= o.trits;
    }
}

impl Class {
    /// N * H(k / N) in bits.
    pub fn bits(&self) -> f64 {
        let (n, k) = (self.symbols as f64, self.changes as f64);
        if self.changes == 0 || self.changes >= self.symbols {
            return 0.0;
        }
        let p = k / n;
        -(k * libm::log2(p) + (n - k) * libm::log2(1.0 - p))
    }
}

/// Compares as many bytes of two tensors of one form; None for a form without such symbols.
pub fn count(form: Form, base: &[u8], target: &[u8]) -> Option<Counts> {
    match form {
        Form::Bits => Some(bits(base, target)),
        Form::Planes { half } => Some(planes(base, target, half as usize)),
        Form::Fives => Some(fives(base, target)),
        Form::Ints(_) | Form::Bytes => None,
    }
}

/// Eight bytes at a time as a number; the last ones may be fewer.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let chunks = bytes.chunks_exact(8);
    let mut last = [0; 8];
    last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    let whole = chunks.map(|c| u64::from_le_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]]));
    whole.chain([u64::from_le_bytes(last)])
}

fn bits(base: &[u8], target: &[u8]) -> Counts {
    let changes = words(base).zip(words(target)).map(|(b, t)| u64::from((b ^ t).count_ones())).sum();
    Counts { zero: Class { symbols: 8 * base.len() as u64, changes }, ..Counts::default() }
}

fn planes(base: &[u8], target: &[u8], half: usize) -> Counts {
    let mut c = Counts { trits: true, ..Counts::default() };
    let half = half.max(1);
    for (b, t) in base.chunks_exact(2 * half).zip(target.chunks_exact(2 * half)) {
        let ((bp, bm), (tp, tm)) = (b.split_at(half), t.split_at(half));
        c.zero.symbols += 8 * half as u64;
        for ((bp, bm), (tp, tm)) in words(bp).zip(words(bm)).zip(words(tp).zip(words(tm))) {
            let (signed, changed) = (bp | bm, (bp ^ tp) | (bm ^ tm));
            c.sign.symbols += u64::from(signed.count_ones());
            c.sign.changes += u64::from((signed & changed).count_ones());
            c.zero.changes += u64::from((!signed & changed).count_ones());
            c.negated += u64::from((signed & changed & (tp | tm)).count_ones());
        }
    }
    c.zero.symbols -= c.sign.symbols;
    c
}

fn fives(base: &[u8], target: &[u8]) -> Counts {
    let mut c = Counts { trits: true, ..Counts::default() };
    for (&b, &t) in base.iter().zip(target) {
        let zeros = digits(b).iter().filter(|d| **d == 1).count() as u64;
        c.zero.symbols += zeros;
        c.sign.symbols += 5 - zeros;
        if b == t {
            continue;
        }
        for (x, y) in digits(b).iter().zip(&digits(t)).filter(|(x, y)| x != y) {
            match (x, y) {
                (1, _) => c.zero.changes += 1,
                (_, 1) => c.sign.changes += 1,
                _ => {
                    c.sign.changes += 1;
                    c.negated += 1;
                }
            }
        }
    }
    c
}

/// The five digits of a byte of `ternary5`.
pub fn digits(byte: u8) -> [u8; 5] {
    const ALL: [[u8; 5]; 256] = {
        let mut all = [[0; 5]; 256];
        let mut b = 0;
        while b < 256 {
            let (low, high) = (b % TRITS[3] as usize, b / TRITS[3] as usize);
            all[b] = [(low % 3) as u8, (low / 3 % 3) as u8, (low / 9) as u8, (high % 3) as u8, (high / 3) as u8];
            b += 1;
        }
        all
    };
    ALL[usize::from(byte)]
}

/// How many integers of `width` bytes change, by the number of zero bits in which their differences end. Those that stay count at the end.
pub fn zeros_of_differences(width: u8, base: &[u8], target: &[u8], counts: &mut [u64; 33]) {
    let n = usize::from(width.max(1));
    for (b, t) in base.chunks_exact(n).zip(target.chunks_exact(n)) {
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0u32, |v, b| v << 8 | u32::from(*b));
        let zeros = number(t).wrapping_sub(number(b)).trailing_zeros() as usize;
        counts[if zeros < 8 * n { zeros } else { 32 }] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fair_coin_needs_a_bit_a_flip() {
        assert_eq!(Class { symbols: 8, changes: 4 }.bits(), 8.0);
        assert_eq!(Class { symbols: 8, changes: 0 }.bits(), 0.0);
        assert_eq!(Class { symbols: 8, changes: 8 }.bits(), 0.0);
        let one_per_cent = Class { symbols: 1_000_000, changes: 10_000 }.bits() / 1e6;
        assert!((one_per_cent - 0.0808).abs() < 0.0001);
    }

    #[test]
    fn bits_that_differ_are_counted() {
        let c = count(Form::Bits, &[0xFF; 11], &[0xFF, 0x7F, 0xFF, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE]);
        assert_eq!(c.unwrap().zero, Class { symbols: 88, changes: 10 });
    }

    #[test]
    fn trits_are_counted_by_what_they_were_in_both_forms() {
        let was = [0, 1, -1, 1, 0, 0, 1, -1, 0, 1];
        let is = [0, -1, 0, 1, 1, -1, 1, -1, 0, 0];
        let pack = |codes: &[i32], enc: crate::encoding::lowbit::Encoding| {
            let mut out = vec![0; enc.stride(codes.len())];
            enc.pack_row(codes, &mut out);
            out
        };
        use crate::encoding::lowbit::Encoding::{Ternary2, Ternary5};
        let fives = count(Form::Fives, &pack(&was, Ternary5), &pack(&is, Ternary5)).unwrap();
        let want = Counts {
            zero: Class { symbols: 4, changes: 2 },
            sign: Class { symbols: 6, changes: 3 },
            negated: 1,
            trits: true,
        };
        assert_eq!(fives, want);
        let planes = count(Form::Planes { half: 4 }, &pack(&was, Ternary2), &pack(&is, Ternary2)).unwrap();
        assert_eq!(planes.without(22), want);
    }

    #[test]
    fn zeros_of_differences_are_counted() {
        let words = |v: [u32; 3]| v.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        let mut counts = [0; 33];
        zeros_of_differences(
            4,
            &words([1 << 30, 5, 9]),
            &words([(1 << 30) + 384, 5, 9u32.wrapping_sub(128)]),
            &mut counts,
        );
        assert_eq!((counts[7], counts[32], counts.iter().sum::<u64>()), (2, 1, 3));
        zeros_of_differences(1, &[1, 2], &[1, 130], &mut counts);
        assert_eq!((counts[7], counts[32]), (3, 2));
    }
}
