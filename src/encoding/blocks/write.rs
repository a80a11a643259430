//! Encoding blocks: of codes with their scales, so that nothing but the scale is rounded, and of values as the reference quantizers round.

use super::low::{I2_S_TAIL, PARTS};
use super::Block;
use crate::error::{Error, Result};
use half::f16;

impl Block {
    /// Whether this layout is written.
    pub fn is_written(self) -> bool {
        self == Block::Q8_0 || self.code_range().is_some_and(|_| self != Block::Q2_0G128)
    }

    /// The codes that a layout with codes of its own has.
    fn code_range(self) -> Option<std::ops::RangeInclusive<i8>> {
        match self {
            Block::Tq1_0 | Block::Tq2_0 | Block::I2S | Block::Q1_0 => Some(-1..=1),
            Block::Q2_0 | Block::Q2_0G128 => Some(-1..=2),
            Block::Q8_0 => Some(-128..=127),
            _ => None,
        }
    }

    /// Appends blocks of these codes; `scales` has one for each block. A value is `code * scale` with the scale as f16; I2_S ignores
    /// the scales, see [`Block::i2_s_tail`]. Q1_0 has no code 0: a block of nothing else gets the scale 0.
    ///
    /// # Errors
    /// `Unsupported` if the layout is none that is written, has no such code, or if a scale that is not 0 is out of f16's range; `Input`
    /// if the codes are no whole blocks with a scale each.
    pub fn write_codes(self, codes: &[i8], scales: &[f32], out: &mut Vec<u8>) -> Result<()> {
        let Some(range) = self.code_range().filter(|_| self.is_written()) else { return Err(self.not_written()) };
        let (n, blocks) = (self.values(), scales.len());
        if blocks.checked_mul(n) != Some(codes.len()) {
            let what = format!("{} codes and {blocks} scales are no whole blocks of {}", codes.len(), self.name());
            return Err(Error::input(what));
        }
        for (codes, scale) in codes.chunks_exact(n).zip(scales) {
            if let Some(c) = codes.iter().find(|c| !range.contains(c)) {
                return Err(Error::unsupported(format!("{} has no code {c}", self.name())));
            }
            let zeros = codes.iter().filter(|c| **c == 0).count();
            if self == Block::Q1_0 && zeros > 0 && zeros < n {
                return Err(Error::unsupported("Q1_0 has no code 0"));
            }
            let d = match self {
                Block::I2S => f16::ZERO,
                Block::Q1_0 if zeros == n => f16::ZERO,
                _ => scale_f16(*scale)?,
            };
            self.push(codes, d, out);
        }
        Ok(())
    }

    /// Appends blocks of these values, rounded as the reference quantizers do. They do not make weights ternary: values below half of the
    /// largest of their block become 0.
    ///
    /// # Errors
    /// As [`Block::write_codes`], and `Input` for values that are not finite. I2_S has no blocks with a scale: its codes are needed.
    pub fn write_f32(self, values: &[f32], out: &mut Vec<u8>) -> Result<()> {
        let n = self.values();
        if !self.is_written() || self == Block::I2S {
            return Err(self.not_written());
        }
        if !values.len().is_multiple_of(n) {
            return Err(Error::input(format!("{} values are no whole blocks of {}", values.len(), self.name())));
        }
        let mut codes = [0i8; super::MAX_VALUES];
        let codes = &mut codes[..n];
        for x in values.chunks_exact(n) {
            let scale = round(self, x, codes)?;
            // The codes of a tiny block of Q8_0 stay although its scale becomes 0, as in the reference.
            let d = match self {
                Block::Q8_0 if scale < 1.0 => f16::from_f32(scale),
                _ => scale_f16(scale)?,
            };
            self.push(codes, d, out);
        }
        Ok(())
    }

    /// What lies behind the codes of an I2_S tensor: its scale, and zeros where the format says nothing.
    pub fn i2_s_tail(scale: f32) -> [u8; I2_S_TAIL] {
        let mut tail = [0; I2_S_TAIL];
        tail[..4].copy_from_slice(&scale.to_le_bytes());
        tail
    }

    fn not_written(self) -> Error {
        Error::unsupported(format!("blocks of {} are not written", self.name()))
    }

    /// Appends one block of codes that it has.
    fn push(self, codes: &[i8], d: f16, out: &mut Vec<u8>) {
        let d = d.to_le_bytes();
        match self {
            Block::Tq1_0 => {
                for (_, bytes, value, digits) in PARTS {
                    out.extend((0..bytes).map(|m| {
                        let digit = |q, n| 3 * q + if n < digits { trit(codes[value + m + n * bytes]) } else { 0 };
                        // A fraction of 256, rounded up: the digits come out again from the highest.
                        ((0..5).fold(0u32, digit) * 256).div_ceil(243) as u8
                    }));
                }
                out.extend(d);
            }
            Block::Tq2_0 => {
                for half in codes.chunks_exact(128) {
                    out.extend((0..32).map(|m| (0..4).fold(0, |q, n| q | (trit(half[32 * n + m]) as u8) << (2 * n))));
                }
                out.extend(d);
            }
            Block::I2S => {
                out.extend((0..32).map(|m| (0..4).fold(0, |q, n| q << 2 | trit(codes[32 * n + m]) as u8)));
            }
            Block::Q1_0 => {
                out.extend(d);
                let bit = |q: u8, (i, c): (usize, &i8)| q | u8::from(*c >= 0) << i;
                out.extend(codes.chunks_exact(8).map(|c| c.iter().enumerate().fold(0, bit)));
            }
            Block::Q2_0 => {
                out.extend(d);
                let bits = |q: u8, (i, c): (usize, &i8)| q | (trit(*c) as u8) << (2 * i);
                out.extend(codes.chunks_exact(4).map(|c| c.iter().enumerate().fold(0, bits)));
            }
            Block::Q8_0 => {
                out.extend(d);
                out.extend(codes.iter().map(|c| *c as u8));
            }
            // `is_written` has let none of these through.
            _ => {}
        }
    }
}

/// A code of two bits as it is stored.
fn trit(code: i8) -> u32 {
    (i32::from(code) + 1) as u32
}

/// A scale as blocks have it.
///
/// # Errors
/// `Unsupported` if it is not finite, or so large or small that it would become infinite or 0.
pub fn scale_f16(scale: f32) -> Result<f16> {
    let d = f16::from_f32(scale);
    if !d.is_finite() || d == f16::ZERO && scale != 0.0 {
        let e = Error::unsupported(format!("the scale {scale:e} is out of the range of f16, which blocks have it in"));
        return Err(e.hint("take F32, BF16 or I2_S, whose scale is a f32"));
    }
    Ok(d)
}

/// Codes of a block of values, and its scale. Halves go away from 0.
fn round(block: Block, x: &[f32], codes: &mut [i8]) -> Result<f32> {
    if let Some(v) = x.iter().find(|v| !v.is_finite()) {
        return Err(Error::input(format!("a value is {v}, only finite ones can be written")));
    }
    if block == Block::Q1_0 {
        codes.iter_mut().zip(x).for_each(|(c, v)| *c = if *v >= 0.0 { 1 } else { -1 });
        return Ok(x.iter().fold(0.0, |sum, v| sum + v.abs()) / x.len() as f32);
    }
    let largest = x.iter().fold(0f32, |m, v| m.max(v.abs()));
    let (d, limits) = match block {
        Block::Q8_0 => (largest / 127.0, (-127.0, 127.0)),
        Block::Q2_0 => (largest, (-1.0, 2.0)),
        _ => (largest, (-1.0, 1.0)),
    };
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    codes.iter_mut().zip(x).for_each(|(c, v)| *c = (v * inverse).round().clamp(limits.0, limits.1) as i8);
    Ok(d)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WRITTEN: [Block; 6] = [Block::Tq1_0, Block::Tq2_0, Block::Q1_0, Block::Q2_0, Block::I2S, Block::Q8_0];

    #[test]
    fn the_written_layouts() {
        let all: Vec<_> = Block::ALL.into_iter().filter(|b| b.is_written()).collect();
        assert_eq!(all.len(), WRITTEN.len());
        assert!(WRITTEN.iter().all(|b| all.contains(b)));
        for b in Block::ALL.iter().filter(|b| !all.contains(b)) {
            assert!(b.write_codes(&[], &[], &mut Vec::new()).is_err());
            assert!(b.write_f32(&[], &mut Vec::new()).is_err());
        }
    }

    fn words(e: Error) -> String {
        format!("{e} {}", e.next_step().unwrap_or(""))
    }

    #[test]
    fn scales_out_of_the_range_of_f16() {
        for scale in [65520.0, 1e9, -1e5, 2e-8, 1e-30, f32::NAN, f32::INFINITY] {
            for b in WRITTEN.into_iter().filter(|b| *b != Block::I2S) {
                let e = b.write_codes(&vec![1; b.values()], &[scale], &mut Vec::new()).expect_err("no such f16");
                assert!(words(e).contains("f16"), "{scale}");
            }
        }
        let mut out = Vec::new();
        Block::Tq2_0.write_codes(&[1; 256], &[65504.0], &mut out).expect("the largest f16");
        Block::Tq2_0.write_codes(&[1; 256], &[6e-8], &mut out).expect("the smallest");
        Block::Tq2_0.write_codes(&[0; 256], &[0.0], &mut out).expect("zeros");
        assert_eq!(out.len(), 3 * 66);
    }

    #[test]
    fn codes_that_a_layout_does_not_have() {
        for (b, code) in [(Block::Tq1_0, 2), (Block::Tq2_0, 2), (Block::I2S, -2), (Block::Q2_0, 3), (Block::Q1_0, 0)] {
            let mut codes = vec![1; b.values()];
            codes[7] = code;
            let mut out = Vec::new();
            let e = b.write_codes(&codes, &[1.0], &mut out).expect_err("no such code");
            assert!(words(e).contains(&format!("{} has no code {code}", b.name())));
            assert!(out.is_empty());
        }
        assert!(Block::Q8_0.write_codes(&[0; 33], &[1.0], &mut Vec::new()).is_err());
        assert!(Block::Q8_0.write_codes(&[0; 32], &[1.0, 1.0], &mut Vec::new()).is_err());
    }

    #[test]
    fn a_block_of_zeros_of_q1_0_has_the_scale_0() {
        let mut out = Vec::new();
        Block::Q1_0.write_codes(&[0; 128], &[3.0], &mut out).expect("zeros");
        assert_eq!((Block::Q1_0.scale(&out, 0), out.len()), (0.0, 18));
    }

    #[test]
    fn tiny_blocks_of_q8_0_lose_their_scale_as_in_the_reference() {
        let mut out = Vec::new();
        Block::Q8_0.write_f32(&[1e-7; 32], &mut out).expect("a block");
        assert_eq!(out, [&[0, 0][..], &[127; 32]].concat());
        assert!(Block::Tq2_0.write_f32(&[1e-9; 256], &mut out).is_err());
        assert!(Block::Q8_0.write_f32(&[1e30; 32], &mut out).is_err());
        assert!(Block::Q8_0.write_f32(&[f32::NAN; 32], &mut out).is_err());
    }

    #[test]
    fn the_tail_of_i2_s_is_zero_behind_its_scale() {
        assert_eq!(Block::i2_s_tail(1.5), {
            let mut tail = [0u8; 32];
            tail[2..4].copy_from_slice(&[0xC0, 0x3F]);
            tail
        });
    }

    proptest! {
        #[test]
        fn codes_and_scales_come_back(seed in prop::collection::vec(-128i8..=127, 512), bits in prop::collection::vec(1u16..0x7BFF, 16)) {
            for b in WRITTEN {
                let codes: Vec<i8> = seed.iter().map(|c| match b {
                    Block::Q8_0 => *c,
                    Block::Q1_0 => 2 * (c & 1) - 1,
                    Block::Q2_0 => (c & 3) - 1,
                    _ => c.rem_euclid(3) - 1,
                }).collect();
                let scales: Vec<f32> = bits[..512 / b.values()].iter().map(|s| f16::from_bits(*s).to_f32()).collect();
                let mut out = Vec::new();
                b.write_codes(&codes, &scales, &mut out).expect("blocks");
                prop_assert_eq!(out.len(), scales.len() * b.bytes());
                if b == Block::I2S {
                    out.extend(Block::i2_s_tail(scales[0]));
                }
                let mut values = vec![0.0; 512];
                b.read(&out, 0, &mut values);
                for (i, (v, c)) in values.iter().zip(&codes).enumerate() {
                    let scale = if b == Block::I2S { scales[0] } else { scales[i / b.values()] };
                    prop_assert_eq!(*v, scale * f32::from(*c), "{} at {}", b.name(), i);
                }
                if b != Block::Q8_0 {
                    let mut back = vec![0; 512];
                    b.codes(&out, 0, &mut back);
                    prop_assert_eq!(&back, &codes);
                    prop_assert!(b == Block::Q2_0 || b.first_invalid(&out).is_none());
                }
                // Values that are codes times a scale are rounded to just these, if the scale is that of the rule.
                if matches!(b, Block::Tq1_0 | Block::Tq2_0) {
                    let mut again = Vec::new();
                    b.write_f32(&values, &mut again).expect("blocks");
                    prop_assert_eq!(&again, &out);
                }
            }
        }
    }
}
