//! RMSNORM, NORM, BIAS, GAIN.

use crate::ctx::Ctx;
use crate::math::{bitlen, bitlen64, bits_of, mul, narrow, rsr32, sat, Scale};
use crate::model::{Op, NONE};
use crate::tensor::Tensor;

/// 1 / sqrt(mean of x^2 s^2 + eps).
fn inverse_rms(x: impl ExactSizeIterator<Item = i32> + Clone, s: Scale, eps: Scale) -> Scale {
    let n = x.len() as u64;
    let k = bitlen(x.clone().fold(0, |any, v| any | v.unsigned_abs())).saturating_sub(24);
    let mut q = 0u64;
    for v in x {
        let v = rsr32(v, k);
        q += mul(v, v) as u64;
    }
    let den = match q {
        0 => eps,
        _ => Scale::norm(q, 2 * k as i32).mul(Scale::norm(n, 0).inv()).mul(s.mul(s)).add(eps),
    };
    den.sqrt().inv()
}

impl Ctx<'_> {
    pub(crate) fn rmsnorm(&mut self, op: &Op) {
        let (s, g) = (self.reg[op.a].scale, self.m.tensor(op.t0));
        let eps = Scale { m: op.p[0], e: op.p[1] as i32 };
        let x = self.copied(op.dst, op.a);
        let r = inverse_rms(x.iter().copied(), s, eps);
        let t = products(x, &g);
        self.reg[op.dst].scale = s.mul(r).mul(g.scale).shl(t as i32);
    }

    pub(crate) fn gain(&mut self, op: &Op) {
        let (s, g) = (self.reg[op.a].scale, self.m.tensor(op.t0));
        let t = products(self.copied(op.dst, op.a), &g);
        self.reg[op.dst].scale = s.mul(g.scale).shl(t as i32);
    }

    pub(crate) fn bias(&mut self, op: &Op) {
        let (s, b) = (self.reg[op.a].scale, self.m.tensor(op.t0));
        let x = self.copied(op.dst, op.a);
        let n = bits_of(x) as i32;
        let of_b = b.scale.e + 60;
        let top = if n > 0 { of_b.max(n + s.e + 31) } else { of_b };
        let (kx, kb) = (s.factor(29 - top), b.scale.factor(29 - top));
        for (x, b) in x.iter_mut().zip(b.values()) {
            *x = sat(i64::from(kx.times(*x)) + i64::from(kb.times(b)));
        }
        self.reg[op.dst].scale = Scale::pow2(top - 59);
    }

    pub(crate) fn norm(&mut self, op: &Op) {
        let s = self.reg[op.a].scale;
        let g = op.p[2] as usize;
        let rule = Groups {
            s,
            eps: Scale { m: op.p[0], e: op.p[1] as i32 },
            gamma: (op.t0 != NONE).then(|| self.m.tensor(op.t0)),
            centred: op.p[3] != 0,
        };
        let beta = (op.t1 != NONE).then(|| self.m.tensor(op.t1));
        let x = self.copied(op.dst, op.a);
        let mut top = beta.map(|b| b.scale.e + 60);
        for (k, x) in x.chunks_mut(g).enumerate() {
            let (t, n, _) = rule.prepare(x, k * g);
            if n > 0 {
                let here = n as i32 + t.e + 31;
                top = Some(top.map_or(here, |x: i32| x.max(here)));
            }
        }
        let top = top.unwrap_or(0);
        for (k, x) in x.chunks_mut(g).enumerate() {
            let (t, n, mu) = rule.prepare(x, k * g);
            let down = n.saturating_sub(30);
            let by = t.shl(down as i32).factor(29 - top);
            for (i, x) in x.iter_mut().enumerate() {
                *x = by.times(narrow(rule.product(*x, mu, k * g + i), down));
                if let Some(b) = &beta {
                    let add = b.scale.factor(29 - top).times(b.value(cyclic(k * g + i, b.cols)));
                    *x = sat(i64::from(*x) + i64::from(add));
                }
            }
        }
        self.reg[op.dst].scale = Scale::pow2(top - 59);
    }
}

/// `i` modulo n: constants belong to all elements, or to the elements of each group.
fn cyclic(mut i: usize, n: usize) -> usize {
    let mut step = n;
    while step <= i >> 1 {
        step <<= 1;
    }
    while step >= n {
        if i >= step {
            i -= step;
        }
        step >>= 1;
    }
    i
}

/// x times gamma, shifted to 30 bits; the shift.
fn products(x: &mut [i32], gamma: &Tensor) -> u32 {
    let most = x.iter().zip(gamma.values()).fold(0, |any, (x, g)| any | mul(*x, g).unsigned_abs());
    let t = bitlen64(most).saturating_sub(30);
    x.iter_mut().zip(gamma.values()).for_each(|(x, g)| *x = narrow(mul(*x, g), t));
    t
}

/// Rounded to nearest, halves to even; b is at most 32,768, so the whole part and the rest come a bit at a time.
fn mean(a: i64, b: u32) -> i64 {
    let mut rest = a.unsigned_abs();
    let mut q = 0u64;
    for i in (0..48).rev() {
        let step = u64::from(b) << i;
        if rest >= step {
            rest -= step;
            q |= 1 << i;
        }
    }
    let twice = 2 * rest;
    q += u64::from(twice > u64::from(b) || (twice == u64::from(b) && q & 1 == 1));
    if a < 0 {
        -(q as i64)
    } else {
        q as i64
    }
}

/// What NORM does to a group of neighbours.
struct Groups<'a> {
    s: Scale,
    eps: Scale,
    gamma: Option<Tensor<'a>>,
    centred: bool,
}

impl Groups<'_> {
    /// Scale and bits of the products of a group that starts at element `first`, and its mean.
    fn prepare(&self, x: &[i32], first: usize) -> (Scale, u32, i64) {
        let mu = match self.centred {
            true => mean(x.iter().map(|x| i64::from(*x)).sum(), x.len() as u32),
            false => 0,
        };
        let r = inverse_rms(x.iter().map(|x| self.deviation(*x, mu)), self.s, self.eps);
        let t = self.s.mul(r);
        let t = self.gamma.as_ref().map_or(t, |g| t.mul(g.scale));
        let any = x.iter().enumerate().fold(0, |any, (i, x)| any | self.product(*x, mu, first + i).unsigned_abs());
        (t, bitlen64(any), mu)
    }

    fn deviation(&self, x: i32, mu: i64) -> i32 {
        if self.centred {
            sat(i64::from(x) - mu)
        } else {
            x
        }
    }

    fn product(&self, x: i32, mu: i64, i: usize) -> i64 {
        let d = self.deviation(x, mu);
        self.gamma.as_ref().map_or(i64::from(d), |g| mul(d, g.value(cyclic(i, g.cols))))
    }
}
