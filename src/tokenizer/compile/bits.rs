//! Bits of the blob (docs/format/tokenizer.md): packed arrays, varints, and a permutation with the jumps that invert it.

/// One jump for this many fields of a permutation.
const JUMP: usize = 16;

/// Bits needed to write `value`, at least one.
pub(in crate::tokenizer) fn bit_width(value: u32) -> u32 {
    (32 - value.leading_zeros()).max(1)
}

/// Bits one after the other, the least significant of each value and of each byte first.
#[derive(Debug, Default)]
pub(in crate::tokenizer) struct BitWriter {
    out: Vec<u8>,
    pending: u64,
    bits: u32,
}

impl BitWriter {
    /// Appends the low `width` bits of `value`, at most 32; the others must be 0.
    pub fn put(&mut self, value: u32, width: u32) {
        debug_assert!(width <= 32 && u64::from(value) < 1 << width);
        self.pending |= u64::from(value) << self.bits;
        self.bits += width;
        while self.bits >= 8 {
            self.out.push(self.pending as u8);
            self.pending >>= 8;
            self.bits -= 8;
        }
    }

    /// Bits so far.
    pub fn len(&self) -> usize {
        self.out.len() * 8 + self.bits as usize
    }

    /// The bytes, the last one padded with zero bits.
    pub fn finish(mut self) -> Vec<u8> {
        if self.bits > 0 {
            self.out.push(self.pending as u8);
        }
        self.out
    }
}

/// A packed array of fields of `width` bits.
pub(in crate::tokenizer) fn packed(values: impl IntoIterator<Item = u32>, width: u32) -> Vec<u8> {
    let mut bits = BitWriter::default();
    for value in values {
        bits.put(value, width);
    }
    bits.finish()
}

/// Appends a LEB128 number; the format allows four bytes, that is values below 2^28.
pub(in crate::tokenizer) fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A permutation of `0..size` that starts with `first` (distinct, below `size`); the rest follows, ascending.
pub(in crate::tokenizer) fn completed(first: &[u32], size: u32) -> Vec<u32> {
    let mut used = vec![false; size as usize];
    for &value in first {
        used[value as usize] = true;
    }
    let rest = (0..size).filter(|&value| !used[value as usize]);
    first.iter().copied().chain(rest).collect()
}

/// P and its jumps as two packed arrays, each starting at a byte. `p` is a permutation of `0..p.len()`.
///
/// The jump of x = 16j leads to the multiple of 16 before x on its cycle, so the way from an r to the x with P\[x\] = r is: on to a multiple of
/// 16, one jump back, and on from there. Two stretches, of 16 steps each on average.
pub(in crate::tokenizer) fn permutation(p: &[u32]) -> Vec<u8> {
    let Some(last) = p.len().checked_sub(1) else { return Vec::new() };
    let mut inverse = vec![0u32; p.len()];
    for (k, &value) in p.iter().enumerate() {
        inverse[value as usize] = k as u32;
    }
    let width = bit_width(last as u32);
    let before = |x: usize| {
        let mut at = inverse[x];
        while !(at as usize).is_multiple_of(JUMP) {
            at = inverse[at as usize];
        }
        at
    };
    let mut out = packed(p.iter().copied(), width);
    out.extend(packed((0..p.len()).step_by(JUMP).map(before), width));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_start_with_the_lowest_bit() {
        assert_eq!(packed([0, 1, 5, 7], 3), [0b0100_1000, 0b1111]);
        assert_eq!(packed([0x89ab_cdef, 1], 32), [0xef, 0xcd, 0xab, 0x89, 1, 0, 0, 0]);
        let mut bits = BitWriter::default();
        bits.put(1, 1);
        assert_eq!((bits.len(), bits.finish()), (1, vec![1]));
    }

    #[test]
    fn varints_of_every_length() {
        let mut out = Vec::new();
        [0, 127, 128, 16_384, (1 << 28) - 1].into_iter().for_each(|v| put_varint(&mut out, v));
        assert_eq!(out, [0, 127, 0x80, 1, 0x80, 0x80, 1, 0xff, 0xff, 0xff, 0x7f]);
    }

    #[test]
    fn jumps_invert_a_permutation() {
        let n = 1000usize;
        // Coprime steps give permutations: one with fixed points only, others with short and long cycles.
        for (step, add) in [(1, 0), (1, 1), (7, 3), (501, 0), (333, 7)] {
            let p: Vec<u32> = (0..n).map(|k| ((k * step + add) % n) as u32).collect();
            let bytes = permutation(&p);
            let jumps = &bytes[(n * 10).div_ceil(8)..];
            let bit = |i: usize| usize::from(jumps[i / 8] >> (i % 8) & 1);
            let jump = |j: usize| (0..10).fold(0, |value, b| value | bit(j * 10 + b) << b);
            for r in 0..n {
                let (mut x, mut jumped) = (r, false);
                for steps in 0.. {
                    assert!(steps <= 2 * n + 2, "step {step}, {r}");
                    if p[x] as usize == r {
                        break;
                    }
                    let jumps_now = !jumped && x % JUMP == 0;
                    x = if jumps_now { jump(x / JUMP) } else { p[x] as usize };
                    jumped |= jumps_now;
                }
            }
        }
        assert_eq!(completed(&[3, 0], 5), [3, 0, 1, 2, 4]);
        assert!(permutation(&[]).is_empty());
    }
}
