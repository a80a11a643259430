//! Advanced SIMD inner products, part of every AArch64. Integers only.

use super::dot::{naive, Codes};
use crate::encoding::lowbit::Encoding;
use std::arch::aarch64::*;

/// Dispatches to the kernels here where one exists, else to the definition.
pub fn dot(enc: Encoding, row: &[u8], total: usize, first: usize, cols: usize, x: &Codes) -> i64 {
    let bytes = 4 * cols.div_ceil(32);
    match enc {
        Encoding::Binary1 if !x.narrow.is_empty() => {
            let x = &x.narrow[first..first + 8 * bytes];
            i64::from(2 * sum_where(&row[first / 8..][..bytes], x) - sum(x))
        }
        Encoding::Ternary2 if !x.narrow.is_empty() => {
            let x = &x.narrow[first..first + 8 * bytes];
            let (plus, minus) = row.split_at(4 * total.div_ceil(32));
            i64::from(sum_where(&plus[first / 8..][..bytes], x) - sum_where(&minus[first / 8..][..bytes], x))
        }
        Encoding::Int8 => int8(&row[first..first + cols], &x.wide[first..first + cols]),
        Encoding::Int16 => int16(&row[2 * first..2 * (first + cols)], &x.wide[first..first + cols]),
        _ => naive(enc, row, total, first, cols, x),
    }
}

/// Sum of codes.
fn sum(x: &[i8]) -> i32 {
    x.iter().map(|x| i32::from(*x)).sum()
}

/// Sum of the codes whose bit is set; 32 codes for four bytes of bits.
fn sum_where(bits: &[u8], x: &[i8]) -> i32 {
    const PLACES: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    const LOW: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
    let mut total = 0;
    // A 16-bit lane takes two pairs of at most 2 * 128 a word: 60 words stay below 2^15.
    for (bits, x) in bits.chunks(240).zip(x.chunks(1920)) {
        // SAFETY: the arrays have 16 bytes, the chunks of x have 32.
        total += unsafe {
            let (places, low) = (vld1q_u8(PLACES.as_ptr()), vld1q_u8(LOW.as_ptr()));
            let high = vaddq_u8(low, vdupq_n_u8(2));
            let mut acc = vdupq_n_s16(0);
            for (b, x) in bits.chunks_exact(4).zip(x.chunks_exact(32)) {
                let word = vreinterpretq_u8_u32(vdupq_n_u32(u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
                for (which, at) in [(low, 0), (high, 16)] {
                    let mask = vreinterpretq_s8_u8(vtstq_u8(vqtbl1q_u8(word, which), places));
                    acc = vpadalq_s8(acc, vandq_s8(vld1q_s8(x.as_ptr().add(at)), mask));
                }
            }
            vaddlvq_s16(acc)
        };
    }
    total
}

fn int8(w: &[u8], x: &[i16]) -> i64 {
    let mut total = 0i64;
    // 1024 products of at most 2^7 * 2^15 over four lanes stay below 2^31.
    for (w, x) in w.chunks(1024).zip(x.chunks(1024)) {
        let (wc, xc) = (w.chunks_exact(8), x.chunks_exact(8));
        let rest = wc.remainder().iter().zip(xc.remainder());
        total += rest.map(|(a, b)| i64::from(*a as i8) * i64::from(*b)).sum::<i64>();
        // SAFETY: both chunks have 8 elements.
        total += unsafe {
            let mut acc = vdupq_n_s32(0);
            for (a, b) in wc.zip(xc) {
                let (a, b) = (vmovl_s8(vld1_s8(a.as_ptr().cast())), vld1q_s16(b.as_ptr()));
                acc = vmlal_high_s16(vmlal_s16(acc, vget_low_s16(a), vget_low_s16(b)), a, b);
            }
            vaddlvq_s32(acc)
        };
    }
    total
}

fn int16(w: &[u8], x: &[i16]) -> i64 {
    let (wc, xc) = (w.chunks_exact(16), x.chunks_exact(8));
    let rest = wc.remainder().chunks_exact(2).zip(xc.remainder());
    let total: i64 = rest.map(|(a, b)| i64::from(i16::from_le_bytes([a[0], a[1]])) * i64::from(*b)).sum();
    // SAFETY: both chunks have 16 bytes; the load of bytes needs no alignment.
    unsafe {
        let mut acc = vdupq_n_s64(0);
        for (a, b) in wc.zip(xc) {
            let (a, b) = (vreinterpretq_s16_u8(vld1q_u8(a.as_ptr())), vld1q_s16(b.as_ptr()));
            acc = vpadalq_s32(acc, vmull_s16(vget_low_s16(a), vget_low_s16(b)));
            acc = vpadalq_s32(acc, vmull_high_s16(a, b));
        }
        total + vaddvq_s64(acc)
    }
}
