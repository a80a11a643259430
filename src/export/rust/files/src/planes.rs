//! LINEAR with 2-bit codes: a code is b0 - 2 b1, and a sum over chosen codes is two population counts.

use crate::sums::Code;
use crate::tensor::{Tensor, BINARY};

/// Bits 0 and 1 of 32 codes each.
pub(crate) fn build<C: Code>(codes: &[C], planes: &mut [[i32; 2]]) {
    for (p, codes) in planes.iter_mut().zip(codes.chunks(32)) {
        let (mut low, mut high) = (0u32, 0u32);
        for (k, c) in codes.iter().enumerate() {
            let c: i32 = (*c).into();
            low |= (c as u32 & 1) << k;
            high |= (c as u32 >> 1 & 1) << k;
        }
        *p = [low as i32, high as i32];
    }
}

/// Sums of all rows of a binary or ternary matrix.
pub(crate) fn sums(t: &Tensor, planes: &[[i32; 2]], y: &mut [i32]) {
    let planes = planes.get(..t.cols.div_ceil(32)).unwrap_or(&[]);
    if t.kind == BINARY {
        let total = planes.iter().fold(0, |sum, p| sum + count(p[0] as u32) - 2 * count(p[1] as u32));
        for (r, y) in y.iter_mut().enumerate() {
            *y = 2 * row(t.row(r), planes) - total;
        }
    } else {
        for (r, y) in y.iter_mut().enumerate() {
            let (plus, minus) = t.row(r).split_at(t.stride / 2);
            *y = row(plus, planes) - row(minus, planes);
        }
    }
}

fn count(v: u32) -> i32 {
    v.count_ones() as i32
}

/// Words whose counts fit the four bytes of a word and their sum.
const BLOCK: usize = 7;

/// The sum of the codes whose bits are set in a row of bits.
#[inline(always)]
fn row(bits: &[u8], planes: &[[i32; 2]]) -> i32 {
    let words = bits.as_chunks::<4>().0;
    let mut sum = 0;
    for (words, planes) in words.chunks(BLOCK).zip(planes.chunks(BLOCK)) {
        let (mut low, mut high) = (0, 0);
        for (w, p) in words.iter().zip(planes) {
            let w = u32::from_le_bytes(*w);
            low += bytes_of(w & p[0] as u32);
            high += bytes_of(w & p[1] as u32);
        }
        sum += all_bytes(low) - 2 * all_bytes(high);
    }
    sum
}

/// The number of bits set in each byte.
#[inline(always)]
fn bytes_of(v: u32) -> u32 {
    let v = v - (v >> 1 & 0x5555_5555);
    let v = (v & 0x3333_3333) + (v >> 2 & 0x3333_3333);
    v + (v >> 4) & 0x0F0F_0F0F
}

/// The sum of the four bytes.
#[inline(always)]
fn all_bytes(v: u32) -> i32 {
    (v.wrapping_mul(0x0101_0101) >> 24) as i32
}
