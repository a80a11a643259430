//! Layouts with one or two bits a value: signs and trits with a scale for the block, or one for the tensor.

use super::{half, Block};

/// Behind the codes of an I2_S tensor: the scale, then bytes that mean nothing.
pub const I2_S_TAIL: usize = 32;

/// The digits of every byte of TQ1_0. A byte is a fraction of 256: digit n is what three times its n-th remainder carries out.
static TRITS: [[i8; 5]; 256] = trits();

const fn trits() -> [[i8; 5]; 256] {
    let mut table = [[0; 5]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut fraction, mut n) = (byte as u16, 0);
        while n < 5 {
            fraction *= 3;
            table[byte][n] = (fraction >> 8) as i8 - 1;
            fraction &= 255;
            n += 1;
        }
        byte += 1;
    }
    table
}

/// Where the values of a TQ1_0 block are: (first byte, bytes, first value, digits a byte). Byte m holds every `bytes`-th value from m on.
pub(super) const PARTS: [(usize, usize, usize, usize); 3] = [(0, 32, 0, 5), (32, 16, 160, 5), (48, 4, 240, 4)];

/// Codes of a whole block; `out` has as many values as it.
pub fn codes(layout: Block, b: &[u8], out: &mut [i8]) {
    match layout {
        Block::Tq1_0 => {
            for (first, bytes, value, digits) in PARTS {
                for m in 0..bytes {
                    let t = &TRITS[usize::from(b[first + m])];
                    for n in 0..digits {
                        out[value + m + n * bytes] = t[n];
                    }
                }
            }
        }
        Block::Tq2_0 => {
            for (h, out) in out.chunks_exact_mut(128).enumerate() {
                for (n, out) in out.chunks_exact_mut(32).enumerate() {
                    two_bits(&b[32 * h..], 2 * n, out);
                }
            }
        }
        Block::I2S => {
            for (g, out) in out.chunks_exact_mut(32).enumerate() {
                two_bits(b, 6 - 2 * g, out);
            }
        }
        Block::Q1_0 => {
            for (out, q) in out.chunks_exact_mut(8).zip(&b[2..]) {
                for (i, o) in out.iter_mut().enumerate() {
                    *o = 2 * (q >> i & 1) as i8 - 1;
                }
            }
        }
        Block::Q2_0 | Block::Q2_0G128 => {
            for (out, q) in out.chunks_exact_mut(4).zip(&b[2..]) {
                for (i, o) in out.iter_mut().enumerate() {
                    *o = (q >> (2 * i) & 3) as i8 - 1;
                }
            }
        }
        _ => out.fill(0),
    }
}

fn two_bits(b: &[u8], shift: usize, out: &mut [i8]) {
    for (o, q) in out.iter_mut().zip(b) {
        *o = (q >> shift & 3) as i8 - 1;
    }
}

/// Scale of a whole block; NaN if the layout has none.
pub fn block_scale(layout: Block, b: &[u8]) -> f32 {
    match layout {
        Block::Tq1_0 => half(b, 52),
        Block::Tq2_0 => half(b, 64),
        Block::Q1_0 | Block::Q2_0 | Block::Q2_0G128 => half(b, 0),
        _ => f32::NAN,
    }
}

/// Scale of the tensor, if the layout keeps it there.
pub fn tensor_scale(layout: Block, data: &[u8]) -> Option<f32> {
    if layout != Block::I2S {
        return None;
    }
    let at = data.len().checked_sub(I2_S_TAIL);
    let bytes = at.and_then(|at| data.get(at..)?.first_chunk());
    Some(bytes.map_or(f32::NAN, |b| f32::from_le_bytes(*b)))
}

/// Position of the first code of a whole block that is no trit.
pub fn first_invalid(layout: Block, b: &[u8]) -> Option<usize> {
    if layout == Block::Tq1_0 {
        let bad = |(first, bytes, value, digits): (usize, usize, usize, usize)| {
            (0..bytes).find(|m| !is_trits(b[first + m], digits)).map(|m| value + m)
        };
        return PARTS.into_iter().filter_map(bad).min();
    }
    let mut all = [0; 256];
    let all = &mut all[..layout.values()];
    codes(layout, b, all);
    all.iter().position(|c| *c > 1)
}

/// Whether an encoder writes this byte for so many digits: the fraction is rounded up, so few of the 256 bytes stand for 3^digits numbers.
fn is_trits(byte: u8, digits: usize) -> bool {
    let unused: u32 = if digits == 4 { 3 } else { 1 };
    let number = TRITS[usize::from(byte)].iter().fold(0, |n, t| 3 * n + (i32::from(*t) + 1) as u32);
    number % unused == 0 && (number * 256).div_ceil(243) == u32::from(byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    fn decode(b: Block, data: &[u8], n: usize) -> Vec<f32> {
        let mut out = vec![0.0; n];
        b.read(data, 0, &mut out);
        out
    }

    #[test]
    fn signs_of_q1_0() {
        let mut block = f16::from_f32(0.5).to_le_bytes().to_vec();
        block.extend([0b0000_0101; 16]);
        let v = decode(Block::Q1_0, &block, 128);
        assert_eq!(v[..9], [0.5, -0.5, 0.5, -0.5, -0.5, -0.5, -0.5, -0.5, 0.5]);
        assert_eq!(Block::Q1_0.first_invalid(&block), None);
    }

    #[test]
    fn a_code_of_three_is_plus_two_and_no_trit() {
        let mut block = f16::from_f32(0.25).to_le_bytes().to_vec();
        block.extend([0b00_01_10_00; 16]);
        block[2 + 5] = 0b11_10_01_00;
        let v = decode(Block::Q2_0, &block, 64);
        assert_eq!(v[..4], [-0.25, 0.25, 0.0, -0.25]);
        assert_eq!(v[20..24], [-0.25, 0.0, 0.25, 0.5]);
        assert_eq!(Block::Q2_0.first_invalid(&block), Some(23));
        let twice = [&block[..2], &[0x55; 32]].concat();
        assert_eq!(decode(Block::Q2_0G128, &twice, 128), [0.0; 128]);
        assert_eq!(Block::Q2_0G128.first_invalid(&twice), None);
    }

    #[test]
    fn i2_s_has_its_first_group_on_top_and_its_scale_behind() {
        let mut data = vec![0b10_01_00_10; 32];
        data.extend([0b01_01_01_01; 32]);
        data.extend(1.5f32.to_le_bytes());
        data.extend([0xAA; 28]); // left over from an allocation
        let v = decode(Block::I2S, &data, 256);
        assert_eq!((v[0], v[32], v[64], v[127], v[128]), (1.5, 0.0, -1.5, 1.5, 0.0));
        assert_eq!(Block::I2S.scale(&data, 0), 1.5);
        assert_eq!(Block::I2S.scale_unit(256), Some(256));
        assert_eq!(Block::I2S.first_invalid(&data), None);
        data[33] = 0b01_01_11_01;
        assert_eq!(Block::I2S.first_invalid(&data), Some(128 + 2 * 32 + 1));
    }

    #[test]
    fn every_byte_of_trits_is_judged_by_what_an_encoder_writes() {
        for digits in [4, 5] {
            let step = if digits == 4 { 3 } else { 1 };
            let written: Vec<u8> = (0..243u32).step_by(step).map(|q| (q * 256).div_ceil(243) as u8).collect();
            for byte in 0..=255 {
                assert_eq!(is_trits(byte, digits), written.contains(&byte), "{byte}, {digits} digits");
            }
        }
    }

    #[test]
    fn a_byte_that_stands_for_no_trits_is_found() {
        let good = 128; // 1, 1, 1, 1, 1
        let mut block = [good; 54];
        block[48..52].fill((120u32 * 256).div_ceil(243) as u8); // 1, 1, 1, 1 and nothing
        assert_eq!(Block::Tq1_0.first_invalid(&block), None);
        block[35] = 1; // 0.00390625 is below the first step
        let first = Block::Tq1_0.first_invalid(&block);
        assert_eq!(first, if is_trits(1, 5) { None } else { Some(163) });
        block[49] = good;
        assert!(Block::Tq1_0.first_invalid(&block).is_some());
    }

    #[test]
    fn two_bits_of_tq2_0() {
        let mut block = [0b00_01_10_00; 66];
        block[64..].copy_from_slice(&f16::from_f32(2.0).to_le_bytes());
        let v = decode(Block::Tq2_0, &block, 256);
        assert_eq!((v[0], v[32], v[64], v[96], v[128]), (-2.0, 2.0, 0.0, -2.0, -2.0));
        block[40] = 0b11_00_00_00;
        assert_eq!(Block::Tq2_0.first_invalid(&block), Some(128 + 96 + 8));
    }
}
