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
        let count = |v: i32| v.count_ones() as i32;
        let total = planes.iter().fold(0, |sum, p| sum + count(p[0]) - 2 * count(p[1]));
        for (bits, y) in t.data.chunks_exact(t.stride).zip(y) {
            *y = 2 * row(bits, planes) - total;
        }
    } else {
        for (bits, y) in t.data.chunks_exact(t.stride).zip(y) {
            let (plus, minus) = bits.split_at(t.stride / 2);
            *y = row(plus, planes) - row(minus, planes);
        }
    }
}

/// Words whose counts fit the four bytes of a word: 9 times 24 is below 256.
const BLOCK: usize = 27;

/// The sum of the codes whose bits are set in a row of bits.
#[inline(always)]
fn row(bits: &[u8], planes: &[[i32; 2]]) -> i32 {
    let words = bits.as_chunks::<4>().0;
    if planes.len() <= BLOCK {
        return block(words, planes);
    }
    words.chunks(BLOCK).zip(planes.chunks(BLOCK)).fold(0, |sum, (w, p)| sum + block(w, p))
}

#[inline(always)]
fn block(words: &[[u8; 4]], planes: &[[i32; 2]]) -> i32 {
    let (words, more_words) = words.as_chunks::<3>();
    let (planes, more_planes) = planes.as_chunks::<3>();
    let (mut low, mut high) = (0, 0);
    for (w, p) in words.iter().zip(planes) {
        let w = w.map(u32::from_le_bytes);
        low += bytes_of_three(w[0] & p[0][0] as u32, w[1] & p[1][0] as u32, w[2] & p[2][0] as u32);
        high += bytes_of_three(w[0] & p[0][1] as u32, w[1] & p[1][1] as u32, w[2] & p[2][1] as u32);
    }
    for (w, p) in more_words.iter().zip(more_planes) {
        let w = u32::from_le_bytes(*w);
        low += bytes_of(w & p[0] as u32);
        high += bytes_of(w & p[1] as u32);
    }
    all_bytes(low) - 2 * all_bytes(high)
}

const PAIRS: u32 = 0x5555_5555;
const NIBBLES: u32 = 0x3333_3333;
const BYTES: u32 = 0x0F0F_0F0F;

/// The number of bits set in each byte.
#[inline(always)]
fn bytes_of(v: u32) -> u32 {
    let v = v - (v >> 1 & PAIRS);
    let v = (v & NIBBLES) + (v >> 2 & NIBBLES);
    v + (v >> 4) & BYTES
}

/// The same for three words together: the third fills up the pairs of the other two.
#[inline(always)]
fn bytes_of_three(a: u32, b: u32, c: u32) -> u32 {
    let a = a - (a >> 1 & PAIRS) + (c & PAIRS);
    let b = b - (b >> 1 & PAIRS) + (c >> 1 & PAIRS);
    let v = (a & NIBBLES) + (a >> 2 & NIBBLES) + (b & NIBBLES) + (b >> 2 & NIBBLES);
    (v & BYTES) + (v >> 4 & BYTES)
}

/// The sum of the four bytes.
#[inline(always)]
fn all_bytes(v: u32) -> i32 {
    let v = (v & 0x00FF_00FF) + (v >> 8 & 0x00FF_00FF);
    (v + (v >> 16) & 0xFFFF) as i32
}
