//! Inner products of codes and a row of weights, without tables.

use crate::generated::parts;
use crate::math::mul;
use crate::tensor::{Tensor, BINARY, INT16, INT4, INT8, ROWS, TERNARY};

/// A code of 8 or 16 bits.
pub(crate) trait Code: Copy + Into<i32> {}
impl Code for i8 {}
impl Code for i16 {}

/// A sum that fits, in one word or in two.
pub(crate) trait Sum: Copy + Default {
    fn plus(self, code: i32, weight: i32) -> Self;
    fn more(self, part: i32) -> Self;
    /// 2 * this - total, of a binary row.
    fn signed(self, total: Self) -> Self;
}

impl Sum for i32 {
    #[inline(always)]
    fn plus(self, code: i32, weight: i32) -> i32 {
        self.wrapping_add(code.wrapping_mul(weight))
    }
    #[inline(always)]
    fn more(self, part: i32) -> i32 {
        self.wrapping_add(part)
    }
    fn signed(self, total: i32) -> i32 {
        (2 * self).wrapping_sub(total)
    }
}

impl Sum for i64 {
    #[inline(always)]
    fn plus(self, code: i32, weight: i32) -> i64 {
        self + mul(code, weight)
    }
    #[inline(always)]
    fn more(self, part: i32) -> i64 {
        self + i64::from(part)
    }
    fn signed(self, total: i64) -> i64 {
        2 * self - total
    }
}

/// The codes whose bits are set in `bits`, of at most eight; they are below 2^15, so the sum fits.
#[inline(always)]
fn chosen<C: Code>(codes: &[C], bits: u8) -> i32 {
    match codes.first_chunk::<8>() {
        Some(c) => (0..8).fold(0, |sum, k| sum + (c[k].into() & -i32::from(bits >> k & 1))),
        None => codes.iter().enumerate().fold(0, |sum, (k, c)| sum + ((*c).into() & -i32::from(bits >> k & 1))),
    }
}

/// Row `r`, columns `from .. to`, which are those of `codes`; `from` is a multiple of 32. `total` is the sum of these codes if the weights
/// are binary.
pub(crate) fn sum<A: Sum, C: Code>(t: &Tensor, codes: &[C], r: usize, from: usize, to: usize, total: A) -> A {
    let zero = A::default();
    let by_bits = |bytes: &[u8]| bytes.iter().zip(codes.chunks(8)).fold(zero, |s, (b, c)| s.more(chosen(c, *b)));
    if t.order != ROWS {
        if t.kind == BINARY {
            let bytes = t.quad(r & !3).get(from / 8 * 4 + r % 4..).unwrap_or(&[]).iter().step_by(4);
            return bytes.zip(codes.chunks(8)).fold(zero, |s, (b, c)| s.more(chosen(c, *b))).signed(total);
        }
        return by_weights(t, codes, r, from, to);
    }
    let row = t.row(r);
    match t.kind {
        INT8 => row.iter().zip(codes).fold(zero, |s, (w, c)| s.plus((*c).into(), *w as i8 as i32)),
        INT16 => {
            let words = row.as_chunks::<2>().0;
            words.iter().zip(codes).fold(zero, |s, (w, c)| s.plus((*c).into(), i16::from_le_bytes(*w).into()))
        }
        INT4 if parts::KIND_INT4 => row.iter().zip(codes.chunks(2)).fold(zero, |s, (w, c)| {
            let s = s.plus(c[0].into(), (*w << 4) as i8 as i32 >> 4);
            c.get(1).map_or(s, |c| s.plus((*c).into(), *w as i8 as i32 >> 4))
        }),
        BINARY => by_bits(row.get(from / 8..).unwrap_or(&[])).signed(total),
        TERNARY => {
            let (plus, minus) = row.split_at(row.len() / 2);
            let both = plus.iter().zip(minus).skip(from / 8).zip(codes.chunks(8));
            both.fold(zero, |s, ((p, m), c)| s.more(chosen(c, *p) - chosen(c, *m)))
        }
        _ => by_weights(t, codes, r, from, to),
    }
}

/// The definition: one weight after the other.
fn by_weights<A: Sum, C: Code>(t: &Tensor, codes: &[C], r: usize, from: usize, to: usize) -> A {
    (from..to).zip(codes).fold(A::default(), |s, (c, code)| s.plus((*code).into(), t.weight(r, c)))
}

/// Rows of bytes four at a time, so that each code is read once for four weights; what is left over goes by single rows.
/// None if this is no matrix of bytes.
pub(crate) fn bytes_by_four<C: Code>(t: &Tensor, codes: &[C], y: &mut [i32]) -> Option<()> {
    if t.kind != INT8 {
        return None;
    }
    let n = codes.len();
    let (fours, rest) = y.as_chunks_mut::<4>();
    for (quad, y) in t.data.chunks_exact(4 * t.stride).zip(&mut *fours) {
        let (a, quad) = quad.split_at(t.stride);
        let (b, quad) = quad.split_at(t.stride);
        let (c, d) = quad.split_at(t.stride);
        let mut s = [0i32; 4];
        // Slices of one length: the compiler sees that every index is inside.
        let (a, b, c, d) = (a.get(..n)?, b.get(..n)?, c.get(..n)?, d.get(..n)?);
        for (i, x) in codes.iter().enumerate() {
            let x: i32 = (*x).into();
            s[0] = s[0].plus(x, a[i] as i8 as i32);
            s[1] = s[1].plus(x, b[i] as i8 as i32);
            s[2] = s[2].plus(x, c[i] as i8 as i32);
            s[3] = s[3].plus(x, d[i] as i8 as i32);
        }
        *y = s;
    }
    let first = 4 * fours.len();
    rest.iter_mut().enumerate().for_each(|(r, y)| *y = sum::<i32, C>(t, codes, first + r, 0, t.cols, 0));
    Some(())
}
