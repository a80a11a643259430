//! The operations on vectors, as docs/semantics.md section 5 defines them. This file is the definition in code.

use super::dot::{Codes, DotKernel};
use super::vector::softcap;
use crate::encoding::fixed::{bitlen, rhe, rsr, sat, Scale};
use crate::encoding::lowbit::Encoding;

/// Rule of the QUANTIZE operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantRule {
    pub qmax: u32,
    pub lo: i32,
    pub hi: i32,
    /// Smallest absolute maximum; below it the codes shrink instead of the scale.
    pub floor: Scale,
}

/// Scales of a matrix, as they lie in the artifact (little-endian bytes).
#[derive(Debug, Clone, Copy)]
pub enum MatrixScales<'a> {
    One(Scale),
    /// Mantissas u32 then shifts u8, one a row.
    Row {
        e: i32,
        m: &'a [u8],
        h: &'a [u8],
    },
    /// One for each `group` columns of each row.
    Group {
        e: i32,
        group: usize,
        m: &'a [u8],
        h: &'a [u8],
    },
}

/// A weight matrix in place.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    pub enc: Encoding,
    /// Bound of a weight's magnitude: that of the encoding in the artifact, which `enc` need not be.
    pub wmax: u64,
    pub rows: usize,
    pub cols: usize,
    pub data: &'a [u8],
    pub scales: MatrixScales<'a>,
}

impl<'a> Matrix<'a> {
    pub fn row(&self, r: usize) -> &'a [u8] {
        let s = self.enc.stride(self.cols);
        &self.data[r * s..(r + 1) * s]
    }
}

fn mantissa(m: &[u8], i: usize) -> i64 {
    i64::from(u32::from_le_bytes([m[4 * i], m[4 * i + 1], m[4 * i + 2], m[4 * i + 3]]))
}

/// Largest magnitude of a vector.
pub fn max_abs(x: &[i32]) -> u32 {
    x.iter().map(|v| v.unsigned_abs()).max().unwrap_or(0)
}

/// Row `id` of a table as fixed point with `frac` fraction bits, each element given to `put`.
fn table_row(t: &Matrix, id: usize, factor: Option<Scale>, frac: i32, mut put: impl FnMut(usize, i32)) {
    let times = |s: Scale| factor.map_or(s, |f| s.mul(f));
    let stored = |e: i32, m: &[u8], h: &[u8], at: usize| Scale { m: mantissa(m, at) as u32, e: e - i32::from(h[at]) };
    let (group, groups) = match t.scales {
        MatrixScales::Group { group, .. } => (group, t.cols.div_ceil(group)),
        _ => (t.cols, 1),
    };
    let row = t.row(id);
    for k in 0..groups {
        let scale = times(match t.scales {
            MatrixScales::One(s) => s,
            MatrixScales::Row { e, m, h } | MatrixScales::Group { e, m, h, .. } => stored(e, m, h, id * groups + k),
        });
        for i in k * group..t.cols.min((k + 1) * group) {
            put(i, scale.apply(t.enc.get(row, t.cols, i), frac));
        }
    }
}

/// EMBED: one row of the embedding as residual with `frac` fraction bits.
pub fn embed(e: &Matrix, id: usize, factor: Option<Scale>, frac: i32, dst: &mut [i32]) {
    table_row(e, id, factor, frac, |i, v| dst[i] = v);
}

/// POSITION: adds row `p` of the table to the residual.
pub fn position(t: &Matrix, p: usize, frac: i32, x: &mut [i32]) {
    table_row(t, p, None, frac, |i, v| x[i] = sat(i64::from(x[i]) + i64::from(v)));
}

/// 1 / sqrt(mean of x^2 s^2 + eps) of a vector that is not empty.
pub(super) fn inverse_rms(x: impl ExactSizeIterator<Item = i64> + Clone, s: Scale, eps: Scale) -> Scale {
    let n = x.len() as u64;
    let k = bitlen(x.clone().map(i64::unsigned_abs).max().unwrap_or(0)).saturating_sub(24);
    let q: u64 = x.map(|x| rsr(x, k).unsigned_abs().pow(2)).sum();
    let den = if q == 0 {
        eps
    } else {
        let mean = Scale::norm(q, 2 * k as i32).mul(Scale::norm(n, 0).inv());
        mean.mul(s.mul(s)).add(eps)
    };
    den.sqrt().inv()
}

/// RMSNORM; returns the scale of dst. `g` is the common scale of gamma.
pub fn rmsnorm(src: &[i32], s: Scale, gamma: &[i32], g: Scale, eps: Scale, dst: &mut [i32]) -> Scale {
    let r = inverse_rms(src.iter().map(|x| i64::from(*x)), s, eps);
    let product = |i: usize| i64::from(src[i]) * i64::from(gamma[i]);
    let vmax = (0..src.len()).map(|i| product(i).unsigned_abs()).max().unwrap_or(0);
    let t = bitlen(vmax).saturating_sub(30);
    for (i, d) in dst.iter_mut().enumerate() {
        *d = rsr(product(i), t) as i32;
    }
    s.mul(r).mul(g).shl(t as i32)
}

/// QUANTIZE; returns the scale of the codes.
pub fn quantize(src: &[i32], s: Scale, rule: &QuantRule, dst: &mut [i32]) -> Scale {
    let a = max_abs(src);
    let qmax = Scale::norm(u64::from(rule.qmax), 0);
    let iq = qmax.inv();
    if a == 0 {
        dst.fill(0);
        return rule.floor.mul(iq);
    }
    let amax = Scale::norm(u64::from(a), 0).mul(s);
    if amax.less(rule.floor) {
        let k = s.mul(qmax.mul(rule.floor.inv()));
        for (d, &x) in dst.iter_mut().zip(src) {
            *d = k.apply(x, 0).clamp(rule.lo, rule.hi);
        }
        return rule.floor.mul(iq);
    }
    for (d, &x) in dst.iter_mut().zip(src) {
        let y = rhe((i64::from(rule.qmax) << 16) * i64::from(x), i64::from(a));
        *d = (rhe(y, 1 << 16) as i32).clamp(rule.lo, rule.hi);
    }
    amax.mul(iq)
}

/// LINEAR; returns the scale of dst.
pub fn linear(kernel: DotKernel, x: &Codes, s: Scale, qmax: u32, w: &Matrix, dst: &mut [i32]) -> Scale {
    let bound = u64::from(qmax) * w.wmax * w.cols as u64;
    let big = bitlen(bound);
    let a = big.saturating_sub(30);
    let b = big.min(30);
    let whole = |r: usize| rsr(kernel.dot(w.enc, w.row(r), w.cols, 0, w.cols, x), a);
    match w.scales {
        MatrixScales::One(ws) => {
            for (r, d) in dst.iter_mut().enumerate() {
                *d = (whole(r) << (30 - b)) as i32;
            }
            s.mul(ws).shl(b as i32 - 30 + a as i32)
        }
        MatrixScales::Row { e, m, h } => {
            for (r, d) in dst.iter_mut().enumerate() {
                *d = rsr(whole(r) * mantissa(m, r), b + 1 + u32::from(h[r])) as i32;
            }
            s.shl(e + b as i32 + 1 + a as i32)
        }
        MatrixScales::Group { e, group, m, h } => {
            let groups = w.cols.div_ceil(group);
            for (r, d) in dst.iter_mut().enumerate() {
                let mut sum = 0;
                for k in 0..groups {
                    let (first, i) = (k * group, r * groups + k);
                    let acc = rsr(kernel.dot(w.enc, w.row(r), w.cols, first, group.min(w.cols - first), x), a);
                    sum += rsr(acc * mantissa(m, i), u32::from(h[i]));
                }
                *d = rsr(sum, b + 1) as i32;
            }
            s.shl(e + b as i32 + 1 + a as i32)
        }
    }
}

/// ADD: into the residual; returns how many elements were limited.
pub fn add(x: &mut [i32], src: &[i32], s: Scale, frac: i32) -> u64 {
    let mut limited = 0;
    for (x, &y) in x.iter_mut().zip(src) {
        let sum = i64::from(*x) + i64::from(s.apply(y, frac));
        *x = sat(sum);
        limited += u64::from(i64::from(*x) != sum);
    }
    limited
}

/// LOGITS: 16 fraction bits, in place; `cap` is c of c tanh(logit / c).
pub fn logits(x: &mut [i32], s: Scale, cap: Option<Scale>) {
    for v in x {
        *v = match cap {
            None => s.apply(*v, 16),
            Some(c) => softcap(s.apply(*v, 20), c, 16),
        };
    }
}
