//! Side branches of low-rank adapters: docs/semantics.md section 9. This file is the definition in code.

use super::scalar::max_abs;
use crate::encoding::fixed::{bitlen, rsr, sat, Scale};

/// Most bits of the input of a branch: products with 16-bit instructions stay possible.
const INPUT_BITS: u32 = 14;

/// The factors of one matrix: y += B diag(scales) A x with small odd integers in A and B.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Factors {
    /// Of a code: 1, 2, 4 or 8.
    pub bits: u32,
    pub rank: usize,
    pub rows: usize,
    pub cols: usize,
    /// Exponent of the scales: rank j has `m[j] * 2^(e - h[j])`.
    pub e: i32,
    /// In 2^15 ..= 2^16 - 1.
    pub m: Vec<u16>,
    /// 0 ..= 63.
    pub h: Vec<u8>,
    /// `[rank, cols]`, odd values of at most [`largest`].
    pub a: Vec<i16>,
    /// `[rows, rank]`.
    pub b: Vec<i16>,
}

/// Largest value of a code: code c stands for 2 c - (2^bits - 1).
pub const fn largest(bits: u32) -> u32 {
    (1 << bits) - 1
}

/// What QUANTIZE leaves for LINEAR: `[rank]` sums with one scale. None: nothing is added for this token.
pub type Hidden = Option<(Vec<i32>, Scale)>;

/// A x, in two roundings: of x to at most 14 bits, and of the sums to what fits B.
pub fn down(f: &Factors, x: &[i32], s: Scale) -> Hidden {
    let n = bitlen(u64::from(max_abs(x)));
    if n == 0 {
        return None;
    }
    let top = u64::from(largest(f.bits));
    // Below 2^31 for every sum: top * cols < 2^bitlen.
    let w = INPUT_BITS.min(31u32.saturating_sub(bitlen(top * f.cols as u64)));
    let k = n as i32 - w as i32;
    let x: Vec<i32> = x.iter().map(|v| if k >= 0 { rsr(i64::from(*v), k as u32) as i32 } else { v << -k }).collect();
    let mut q: Vec<i64> = Vec::with_capacity(f.rank);
    for (j, row) in f.a.chunks_exact(f.cols).enumerate() {
        let sum: i32 = row.iter().zip(&x).map(|(a, x)| i32::from(*a) * x).sum();
        q.push(rsr(i64::from(sum) * i64::from(f.m[j]), 16 + u32::from(f.h[j])));
    }
    let z = bitlen(q.iter().map(|v| v.unsigned_abs()).max().unwrap_or(0));
    if z == 0 {
        return None;
    }
    let u = 31u32.saturating_sub(bitlen(top * f.rank as u64));
    let t = z.saturating_sub(u);
    let h = q.iter().map(|v| rsr(*v, t) as i32).collect();
    Some((h, s.shl(k).shl(16 + f.e).shl(t as i32)))
}

/// Adds B h to the result of LINEAR, one rounding an element.
pub fn up(f: &Factors, hidden: &Hidden, y: &mut [i32], s: Scale) {
    let Some((h, t)) = hidden else { return };
    let r = t.mul(s.inv());
    for (y, row) in y.iter_mut().zip(f.b.chunks_exact(f.rank)) {
        let d: i32 = row.iter().zip(h).map(|(b, h)| i32::from(*b) * h).sum();
        *y = sat(i64::from(*y) + i64::from(r.apply(d, 0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bits: u32, value: i16, cols: usize, rows: usize) -> Factors {
        let (rank, e) = (2, -20);
        Factors {
            bits,
            rank,
            rows,
            cols,
            e,
            m: vec![0x8000, 0xC000],
            h: vec![0, 1],
            a: vec![value; rank * cols],
            b: vec![value; rows * rank],
        }
    }

    /// y += sum_j s_j b_j (a_j x), with the largest codes, at sizes where sums come close to 31 bits.
    #[test]
    fn branches_are_close_to_the_reals_and_never_overflow() {
        for bits in [1, 2, 4, 8] {
            for cols in [1, 7, 256, 70_000] {
                let v = largest(bits) as i16;
                let f = one(bits, v, cols, 3);
                let x = vec![i32::MAX; cols];
                let hidden = down(&f, &x, Scale::pow2(-31));
                let s = Scale::from_f64(f64::from(v) * f64::from(v) * cols as f64 * 1.75 * 2f64.powi(-5 - 30)).unwrap();
                let mut y = vec![-5; 3];
                up(&f, &hidden, &mut y, s);
                let got = (f64::from(y[0]) + 5.0) / 2f64.powi(30);
                assert!((got - 1.0).abs() < 2e-3 || cols > 60_000 && (got - 1.0).abs() < 0.2, "{bits} {cols}: {got}");
            }
        }
    }

    #[test]
    fn a_vector_of_zeros_adds_nothing() {
        let f = one(4, 15, 5, 2);
        let hidden = down(&f, &[0; 5], Scale::ONE);
        assert_eq!(hidden, None);
        let mut y = [7, -7];
        up(&f, &hidden, &mut y, Scale::ONE);
        assert_eq!(y, [7, -7]);
    }

    /// A branch that is far larger than the result saturates, before and after it is added.
    #[test]
    fn the_sum_is_limited() {
        let f = one(8, 255, 5, 2);
        let hidden = down(&f, &[1, 2, 3, 4, 5], Scale::pow2(40));
        let mut y = [7, -7];
        up(&f, &hidden, &mut y, Scale::ONE);
        assert_eq!(y, [i32::MAX, i32::MAX - 7]);
    }
}
