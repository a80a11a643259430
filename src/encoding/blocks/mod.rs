//! Blocks of quantized values, as GGUF files hold them: decoding to f32 ([`Block::read`]), and to codes with their scales where a layout is
//! binary or ternary ([`Block::codes`], [`Block::scale`]), so that nothing is rounded on the way in.
//!
//! A row of a matrix is a whole number of blocks. Products and sums are single f32 operations in the order in which the format defines
//! them, so decoded values equal those of other decoders bit by bit.

mod k;
mod low;
mod nibble;
mod write;

pub use write::scale_f16;

use half::f16;

/// Values of the longest block.
const MAX_VALUES: usize = 256;

/// A block layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// 32 values: scale, 4-bit codes around 8.
    Q4_0,
    /// 32 values: scale, minimum, 4-bit codes.
    Q4_1,
    /// 32 values: scale, 5-bit codes around 16.
    Q5_0,
    /// 32 values: scale, minimum, 5-bit codes.
    Q5_1,
    /// 32 values: scale, 8-bit codes.
    Q8_0,
    /// 256 values in groups of 16, each with a 4-bit scale and minimum; 2-bit codes.
    Q2K,
    /// 256 values in groups of 16, each with a 6-bit scale; 3-bit codes around 4.
    Q3K,
    /// 256 values in groups of 32, each with a 6-bit scale and minimum; 4-bit codes.
    Q4K,
    /// As [`Block::Q4K`] with 5-bit codes.
    Q5K,
    /// 256 values in groups of 16, each with an 8-bit scale; 6-bit codes around 32.
    Q6K,
    /// 256 trits, five in a byte, one scale.
    Tq1_0,
    /// 256 trits of 2 bits, one scale.
    Tq2_0,
    /// 128 signs, one scale.
    Q1_0,
    /// 64 codes of 2 bits for -1, 0, +1 and +2, one scale.
    Q2_0,
    /// As [`Block::Q2_0`] with 128 codes: early files, which use the same type number.
    Q2_0G128,
    /// 128 trits of 2 bits; the whole tensor has one scale, behind its codes.
    I2S,
}

impl Block {
    pub const ALL: [Block; 16] = [
        Block::Q4_0,
        Block::Q4_1,
        Block::Q5_0,
        Block::Q5_1,
        Block::Q8_0,
        Block::Q2K,
        Block::Q3K,
        Block::Q4K,
        Block::Q5K,
        Block::Q6K,
        Block::Tq1_0,
        Block::Tq2_0,
        Block::Q1_0,
        Block::Q2_0,
        Block::Q2_0G128,
        Block::I2S,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Block::Q4_0 => "Q4_0",
            Block::Q4_1 => "Q4_1",
            Block::Q5_0 => "Q5_0",
            Block::Q5_1 => "Q5_1",
            Block::Q8_0 => "Q8_0",
            Block::Q2K => "Q2_K",
            Block::Q3K => "Q3_K",
            Block::Q4K => "Q4_K",
            Block::Q5K => "Q5_K",
            Block::Q6K => "Q6_K",
            Block::Tq1_0 => "TQ1_0",
            Block::Tq2_0 => "TQ2_0",
            Block::Q1_0 => "Q1_0",
            Block::Q2_0 => "Q2_0",
            Block::Q2_0G128 => "Q2_0 in groups of 128",
            Block::I2S => "I2_S",
        }
    }

    /// Values of a block.
    pub fn values(self) -> usize {
        match self {
            Block::Q4_0 | Block::Q4_1 | Block::Q5_0 | Block::Q5_1 | Block::Q8_0 => 32,
            Block::Q2_0 => 64,
            Block::Q1_0 | Block::Q2_0G128 | Block::I2S => 128,
            _ => MAX_VALUES,
        }
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        match self {
            Block::Q4_0 | Block::Q1_0 | Block::Q2_0 => 18,
            Block::Q4_1 => 20,
            Block::Q5_0 => 22,
            Block::Q5_1 => 24,
            Block::Q8_0 | Block::Q2_0G128 => 34,
            Block::Q2K => 84,
            Block::Q3K => 110,
            Block::Q4K => 144,
            Block::Q5K => 176,
            Block::Q6K => 210,
            Block::Tq1_0 => 54,
            Block::Tq2_0 => 66,
            Block::I2S => 32,
        }
    }

    /// Bytes of a tensor; None if it is no whole number of blocks, or too large to count.
    pub fn total_bytes(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.values()) {
            return None;
        }
        (elements / self.values()).checked_mul(self.bytes())?.checked_add(self.tail())
    }

    /// Bytes behind the last block.
    fn tail(self) -> usize {
        match self {
            Block::I2S => low::I2_S_TAIL,
            _ => 0,
        }
    }

    /// Decodes values `start .. start + out.len()` of a tensor; `data` is the whole tensor. What `data` does not hold becomes NaN, which
    /// every reader of weights refuses.
    pub fn read(self, data: &[u8], start: usize, out: &mut [f32]) {
        let tensor_scale = low::tensor_scale(self, data);
        self.each(data, start, out, f32::NAN, |block, out| match self {
            Block::Q4_0 => nibble::q4_0(block, out),
            Block::Q4_1 => nibble::q4_1(block, out),
            Block::Q5_0 => nibble::q5_0(block, out),
            Block::Q5_1 => nibble::q5_1(block, out),
            Block::Q8_0 => nibble::q8_0(block, out),
            Block::Q2K => k::q2_k(block, out),
            Block::Q3K => k::q3_k(block, out),
            Block::Q4K => k::q4_k(block, out),
            Block::Q5K => k::q5_k(block, out),
            Block::Q6K => k::q6_k(block, out),
            Block::Tq1_0 | Block::Tq2_0 | Block::Q1_0 | Block::Q2_0 | Block::Q2_0G128 | Block::I2S => {
                let mut codes = [0; MAX_VALUES];
                let codes = &mut codes[..out.len()];
                low::codes(self, block, codes);
                let d = tensor_scale.unwrap_or_else(|| low::block_scale(self, block));
                for (o, c) in out.iter_mut().zip(codes) {
                    *o = d * f32::from(*c);
                }
            }
        });
    }

    /// Values that share a scale in a tensor of `elements`; None for layouts that are not binary or ternary.
    pub fn scale_unit(self, elements: usize) -> Option<usize> {
        match self {
            Block::Tq1_0 | Block::Tq2_0 | Block::Q1_0 | Block::Q2_0 | Block::Q2_0G128 => Some(self.values()),
            Block::I2S => Some(elements),
            _ => None,
        }
    }

    /// Whether the only codes are -1 and +1.
    pub fn is_binary(self) -> bool {
        self == Block::Q1_0
    }

    /// Codes of values `start .. start + out.len()`, for layouts with a [`Block::scale_unit`]: the value is `code * scale`. A code of +2
    /// stands where the two bits are 3, see [`Block::first_invalid`]; other layouts and what `data` does not hold give 0.
    pub fn codes(self, data: &[u8], start: usize, out: &mut [i8]) {
        self.each(data, start, out, 0, |block, out| low::codes(self, block, out));
    }

    /// Scale of unit `i`, see [`Block::scale_unit`]; NaN where there is none.
    pub fn scale(self, data: &[u8], i: usize) -> f32 {
        match low::tensor_scale(self, data) {
            Some(s) => s,
            None => self.block(data, i).map_or(f32::NAN, |b| low::block_scale(self, b)),
        }
    }

    /// Position of the first value whose code is no trit: two bits of 3, or a byte of five trits that stands for none. None for a tensor
    /// that is ternary (or binary) throughout, and for layouts that never are.
    pub fn first_invalid(self, data: &[u8]) -> Option<usize> {
        let blocks = data.len().saturating_sub(self.tail()) / self.bytes();
        let found = |i| low::first_invalid(self, self.block(data, i)?).map(|at| i * self.values() + at);
        (0..blocks).find_map(found)
    }

    /// Block `i`, unless it is cut or lies in the tail.
    fn block(self, data: &[u8], i: usize) -> Option<&[u8]> {
        let start = i.checked_mul(self.bytes())?;
        let end = start.checked_add(self.bytes()).filter(|e| *e <= data.len().saturating_sub(self.tail()))?;
        data.get(start..end)
    }

    /// Calls `decode` with every block that the range touches and a slice for its values: whole blocks straight into `out`.
    fn each<T: Copy>(self, data: &[u8], start: usize, out: &mut [T], missing: T, decode: impl Fn(&[u8], &mut [T])) {
        let values = self.values();
        let (mut at, mut rest) = (start, out);
        while !rest.is_empty() {
            let skip = at % values;
            let (part, tail) = rest.split_at_mut(rest.len().min(values - skip));
            match self.block(data, at / values) {
                None => part.fill(missing),
                Some(block) if part.len() == values => decode(block, part),
                Some(block) => {
                    let mut all = [missing; MAX_VALUES];
                    decode(block, &mut all[..values]);
                    part.copy_from_slice(&all[skip..skip + part.len()]);
                }
            }
            at += part.len();
            rest = tail;
        }
    }
}

/// The f16 at byte `at` of a block.
fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(n: usize) -> Vec<u8> {
        let mut x = 1u32;
        let next = |_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        };
        (0..n).map(next).collect()
    }

    #[test]
    fn any_range_gives_the_same_as_the_whole() {
        for b in Block::ALL {
            let n = 3 * b.values();
            let data = bytes(b.total_bytes(n).expect("whole blocks"));
            let mut all = vec![0.0; n];
            b.read(&data, 0, &mut all);
            let mut all_codes = vec![0; n];
            b.codes(&data, 0, &mut all_codes);
            for (start, len) in [(0, 1), (1, n - 1), (b.values() - 1, 2), (b.values(), b.values()), (7, b.values() + 9)]
            {
                let mut part = vec![0.0; len];
                b.read(&data, start, &mut part);
                let same = part.iter().zip(&all[start..]).all(|(x, y)| x.to_bits() == y.to_bits());
                assert!(same, "{} at {start}", b.name());
                let mut part = vec![0; len];
                b.codes(&data, start, &mut part);
                assert_eq!(part, all_codes[start..start + len], "{} at {start}", b.name());
            }
            if let Some(unit) = b.scale_unit(n) {
                for i in 0..n {
                    let value = b.scale(&data, i / unit) * f32::from(all_codes[i]);
                    assert!(value.to_bits() == all[i].to_bits() || value.is_nan(), "{} at {i}", b.name());
                }
            }
        }
    }

    #[test]
    fn what_is_not_there_is_nan() {
        for b in Block::ALL {
            let data = bytes(b.total_bytes(b.values()).expect("one block"));
            let mut out = [0.0; 2];
            b.read(&data, b.values() - 1, &mut out);
            assert!(out[1].is_nan(), "{}", b.name());
            b.read(&data[..b.bytes() - 1], 0, &mut out);
            assert!(out.iter().all(|v| v.is_nan()), "{}", b.name());
            assert!(b.scale(&[], 0).is_nan());
        }
    }

    #[test]
    fn sizes_that_no_tensor_has() {
        assert_eq!(Block::Q8_0.total_bytes(33), None);
        assert_eq!(Block::Q8_0.total_bytes(64), Some(68));
        assert_eq!(Block::I2S.total_bytes(256), Some(96));
        assert_eq!(Block::Q8_0.total_bytes(usize::MAX - 31), None);
    }
}
