//! The operations on vectors, as docs/semantics.md section 5 defines them. This file is the definition in code.

use super::dot::{Codes, DotKernel};
use super::tables::tables;
use crate::encoding::fixed::{bitlen, recip, rhe, rsr, sat, Scale, LOG2E};
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

/// EMBED: one row of the embedding as residual with `frac` fraction bits.
pub fn embed(e: &Matrix, id: usize, frac: i32, dst: &mut [i32]) {
    let scale = match e.scales {
        MatrixScales::One(s) => s,
        MatrixScales::Row { e, m, h } | MatrixScales::Group { e, m, h, .. } => {
            Scale { m: mantissa(m, id) as u32, e: e - i32::from(h[id]) }
        }
    };
    let row = e.row(id);
    for (i, d) in dst.iter_mut().enumerate() {
        *d = scale.apply(e.enc.get(row, e.cols, i), frac);
    }
}

/// RMSNORM; returns the scale of dst. `g` is the common scale of gamma.
pub fn rmsnorm(src: &[i32], s: Scale, gamma: &[i32], g: Scale, eps: Scale, dst: &mut [i32]) -> Scale {
    let k = bitlen(u64::from(max_abs(src))).saturating_sub(24);
    let q: u64 = src
        .iter()
        .map(|&x| {
            let r = rsr(i64::from(x), k).unsigned_abs();
            r * r
        })
        .sum();
    let den = if q == 0 {
        eps
    } else {
        let mean = Scale::norm(q, 2 * k as i32).mul(Scale::norm(src.len() as u64, 0).inv());
        mean.mul(s.mul(s)).add(eps)
    };
    let r = den.sqrt().inv();
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
    let bound = u64::from(qmax) * w.enc.wmax() * w.cols as u64;
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

/// RELU2MUL, in place of `g`; returns the scale.
pub fn relu2mul(g: &mut [i32], gs: Scale, u: &[i32], us: Scale) -> Scale {
    let n = bitlen(u64::from(g.iter().map(|&v| v.max(0) as u32).max().unwrap_or(0)));
    let k = bitlen(u64::from(max_abs(u)));
    let s2 = (2 * n).saturating_sub(30);
    for (g, &u) in g.iter_mut().zip(u) {
        let r = i64::from((*g).max(0));
        *g = rsr(rsr(r * r, s2) * i64::from(u), k) as i32;
    }
    gs.mul(gs).mul(us).shl((s2 + k) as i32)
}

/// SILUMUL, in place of `g`; returns the scale.
pub fn silumul(g: &mut [i32], gs: Scale, u: &[i32], us: Scale) -> Scale {
    let n = bitlen(u64::from(max_abs(g))) as i32;
    let k = bitlen(u64::from(max_abs(u)));
    let left = 30 - n;
    let log2 = gs.mul(LOG2E);
    for (g, &u) in g.iter_mut().zip(u) {
        let z = log2.apply(*g, 20);
        let p = i64::from(recip((1 << 30) + tables().exp2n(z.unsigned_abs())));
        let sigma = if *g >= 0 { p } else { (1 << 31) - p };
        let wide = if left >= 0 { i64::from(*g) << left } else { rsr(i64::from(*g), 1) };
        *g = rsr(rsr(wide * sigma, 31) * i64::from(u), k) as i32;
    }
    gs.mul(us).shl(k as i32 - left)
}

/// LOGITS: 16 fraction bits, in place.
pub fn logits(x: &mut [i32], s: Scale) {
    for v in x {
        *v = s.apply(*v, 16);
    }
}
