//! LINEAR with 2-bit codes: a code is b0 - 2 b1, and a sum over chosen codes is two population counts. One bit of the codes at a time goes over
//! all rows, so that its words and the constants of the count stay in registers.

use crate::sums::Code;
use crate::tensor::{Tensor, BINARY};

/// Bit 0 of all codes, 32 a word, then bit 1.
pub(crate) fn build<C: Code>(codes: &[C], planes: &mut [i32]) {
    let (low, high) = planes.split_at_mut(codes.len().div_ceil(32).min(planes.len()));
    for ((low, high), codes) in low.iter_mut().zip(high).zip(codes.chunks(32)) {
        let bits = |k: u32| codes.iter().rev().fold(0, |w, c| w << 1 | ((*c).into() >> k & 1));
        (*low, *high) = (bits(0), bits(1));
    }
}

/// Sums of all rows of a binary or ternary matrix.
pub(crate) fn sums(t: &Tensor, planes: &[i32], y: &mut [i32]) {
    let words = t.cols.div_ceil(32);
    let (low, high) = planes.split_at(words.min(planes.len()));
    let count = |plane: &[i32]| plane.iter().fold(0, |sum, p| sum + p.count_ones() as i32);
    let binary = t.kind == BINARY;
    y.fill(if binary { 2 * count(&high[..words.min(high.len())]) - count(low) } else { 0 });
    for (plane, value) in [(low, 1), (high, -2)] {
        if binary {
            add(t, 0, plane, 2 * value, y);
        } else {
            add(t, 0, plane, value, y);
            add(t, t.stride / 2, plane, -value, y);
        }
    }
}

/// Adds `value` for every bit that is set in a row, from byte `first` of it on, and in the plane.
fn add(t: &Tensor, first: usize, plane: &[i32], value: i32, y: &mut [i32]) {
    // The compiler makes straight code of a short row whose length it knows.
    match plane.first_chunk::<4>() {
        Some(plane) if t.cols.div_ceil(32) == 4 => rows(t, first, plane, value, y),
        _ => rows(t, first, &plane[..t.cols.div_ceil(32).min(plane.len())], value, y),
    }
}

#[inline(always)]
fn rows<P: AsRef<[i32]> + ?Sized>(t: &Tensor, first: usize, plane: &P, value: i32, y: &mut [i32]) {
    let plane = plane.as_ref();
    let data = t.data.get(first..).unwrap_or(&[]);
    for (bits, y) in data.chunks(t.stride).zip(y) {
        if let Some(words) = bits.as_chunks::<4>().0.get(..plane.len()) {
            *y += value * common(words, plane);
        }
    }
}

/// Words whose counts fit the four bytes of a word: 9 times 24 is below 256.
const BLOCK: usize = 27;

/// Bits that are set in both.
#[inline(always)]
fn common(words: &[[u8; 4]], plane: &[i32]) -> i32 {
    if plane.len() <= BLOCK {
        return block(words, plane);
    }
    words.chunks(BLOCK).zip(plane.chunks(BLOCK)).fold(0, |sum, (w, p)| sum + block(w, p))
}

#[inline(always)]
fn block(words: &[[u8; 4]], plane: &[i32]) -> i32 {
    let both = |w: &[u8; 4], p: &i32| u32::from_le_bytes(*w) & *p as u32;
    let (threes, rest) = words.as_chunks::<3>();
    let (planes, more) = plane.as_chunks::<3>();
    let mut bytes = 0;
    for (w, p) in threes.iter().zip(planes) {
        bytes += bytes_of_three(both(&w[0], &p[0]), both(&w[1], &p[1]), both(&w[2], &p[2]));
    }
    for (w, p) in rest.iter().zip(more) {
        bytes += bytes_of(both(w, p));
    }
    let halves = (bytes & 0x00FF_00FF) + (bytes >> 8 & 0x00FF_00FF);
    (halves + (halves >> 16) & 0xFFFF) as i32
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
