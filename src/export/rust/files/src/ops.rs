//! EMBED, POSITION, STORE, ADD, QUANTIZE, LOGITS, EMBEDDING.

use crate::arena::Register;
use crate::ctx::Ctx;
use crate::follow::POOL_MEAN;
use crate::generated::parts;
use crate::math::{bitlen64, max_abs, mul, rsr, rsr32, sat, shift, Divisor, Factor, Scale, LIMIT};
use crate::model::{Op, NONE};
use crate::tensor::{Tensor, INT16, INT8};

/// A scale of an operation that may be left out.
pub(crate) fn option(m: u32, e: u32) -> Option<Scale> {
    (m != 0).then_some(Scale { m, e: e as i32 })
}

/// The two parts of `vectors` that two registers have, which are not the same: the second may be written.
pub(crate) fn pair<'v>(v: &'v mut [i32], a: &Register, b: &Register, n: usize) -> (&'v [i32], &'v mut [i32]) {
    if a.at < b.at {
        let (low, high) = v.split_at_mut(b.at);
        (&low[a.at..a.at + n], &mut high[..n])
    } else {
        let (low, high) = v.split_at_mut(a.at);
        (&high[..n], &mut low[b.at..b.at + n])
    }
}

impl Ctx<'_> {
    /// The vector of a register.
    pub(crate) fn vector(&self, r: usize) -> &[i32] {
        let r = &self.reg[r];
        &self.p.vectors[r.at..r.at + r.len]
    }

    /// The vector of dst, which starts as a copy of src, to be changed in place.
    pub(crate) fn copied(&mut self, dst: usize, src: usize) -> &mut [i32] {
        let (from, to) = (self.reg[src], self.reg[dst].at);
        if from.at != to {
            self.p.vectors.copy_within(from.at..from.at + from.len, to);
        }
        self.reg[dst].len = from.len;
        &mut self.p.vectors[to..to + from.len]
    }

    fn residual_scale(&self) -> Scale {
        Scale::pow2(-30 - self.m.h.frac)
    }

    pub(crate) fn embed_row(&mut self, op: &Op, id: u32) {
        let t = self.m.tensor(op.t0);
        let (factor, frac) = (option(op.p[0], op.p[1]), self.m.h.frac);
        let x = &mut self.p.vectors[self.reg[op.dst].at..][..t.cols];
        table_row(&t, id as usize, factor, frac, x, |x, v| *x = v);
        self.reg[op.dst].len = t.cols;
        self.reg[op.dst].scale = self.residual_scale();
    }

    pub(crate) fn add_position(&mut self, op: &Op) {
        let t = self.m.tensor(op.t0);
        let x = &mut self.p.vectors[self.reg[op.dst].at..][..t.cols];
        let sum = |x: &mut i32, v: i32| *x = sat(i64::from(*x) + i64::from(v));
        table_row(&t, self.position as usize, None, self.m.h.frac, x, sum);
    }

    pub(crate) fn store(&mut self, op: &Op) {
        let (src, dst) = (self.reg[op.a], self.reg[op.dst]);
        let k = src.scale.factor(self.m.h.frac);
        let (s, x) = pair(self.p.vectors, &src, &dst, src.len);
        x.iter_mut().zip(s).for_each(|(x, s)| *x = k.times(*s));
    }

    pub(crate) fn add(&mut self, op: &Op) {
        let (src, dst) = (self.reg[op.a], self.reg[op.dst]);
        let scale = option(op.p[0], op.p[1]).map_or(src.scale, |f| src.scale.mul(f));
        let k = scale.factor(self.m.h.frac);
        let (s, x) = pair(self.p.vectors, &src, &dst, src.len);
        let mut limited = 0u32;
        for (x, s) in x.iter_mut().zip(s) {
            *x = sat(i64::from(*x) + i64::from(k.times(*s)));
            limited += u32::from(x.unsigned_abs() == LIMIT as u32);
        }
        self.saturated = self.saturated.saturating_add(limited);
    }

    pub(crate) fn quantize(&mut self, op: &Op) {
        let (src, dst) = (self.reg[op.a], self.reg[op.dst]);
        let (q, lo, hi) = (op.p[0], op.p[1] as i32, op.p[2] as i32);
        let floor = Scale { m: op.p[3], e: op.p[4] as i32 };
        let x = &self.p.vectors[src.at..src.at + src.len];
        let iq = Scale::norm(u64::from(q), 0).inv();
        let a = max_abs(x);
        let top = if a == 0 { floor } else { Scale::norm(u64::from(a), 0).mul(src.scale) };
        let full = a != 0 && !top.less(floor);
        let rule = match () {
            _ if full && q == 2 => Rule::Two(Thresholds::new(a)),
            _ if full => Rule::Ratio(Divisor::new(a, q)),
            // An all-zero vector stays zero under any factor.
            _ => Rule::Fixed(src.scale.mul(Scale::norm(u64::from(q), 0).mul(floor.inv())).factor(0)),
        };
        let range = dst.at..dst.at + src.len;
        if dst.kind == 1 {
            rule.codes(x, &mut self.p.codes8[range], |v| v.clamp(lo, hi) as i8);
        } else {
            rule.codes(x, &mut self.p.codes16[range], |v| v.clamp(lo, hi) as i16);
        }
        let r = &mut self.reg[op.dst];
        (r.len, r.qmax, r.lo, r.hi) = (src.len, q, lo, hi);
        r.scale = if full { top } else { floor }.mul(iq);
        if self.planes_of == op.dst as u32 {
            self.planes_of = NONE;
        }
        if self.tables_of.0 == op.dst as u32 {
            self.tables_of.0 = NONE;
        }
    }

    pub(crate) fn logits(&mut self, op: &Op, out: Option<&mut [i32]>) {
        let src = self.reg[op.a];
        let s = option(op.p[0], op.p[1]).map_or(src.scale, |f| src.scale.mul(f));
        let Some(out) = out else { return };
        let x = &self.p.vectors[src.at..src.at + src.len];
        match option(op.p[2], op.p[3]) {
            Some(cap) if parts::WITH_CAPS => {
                let k = s.factor(20);
                let soft = crate::act::SoftCap::new(cap, 16);
                out.iter_mut().zip(x).for_each(|(o, x)| *o = soft.of(self.m.tables, k.times(*x)));
            }
            _ => {
                let k = s.factor(16);
                out.iter_mut().zip(x).for_each(|(o, x)| *o = k.times(*x));
            }
        }
    }

    /// Adds the residual of the token to the sums of pool 1.
    pub(crate) fn add_to_pool(&mut self, residual: usize) {
        let r = self.reg[residual];
        let x = &self.p.vectors[r.at..r.at + r.len];
        for (sum, x) in self.p.pool_sums.as_chunks_mut::<2>().0.iter_mut().zip(x) {
            let before = if self.position == 0 { 0 } else { wide(sum) };
            let v = before + i64::from(*x);
            *sum = [v as i32, (v >> 32) as i32];
        }
    }

    pub(crate) fn embedding(&mut self, op: &Op, out: Option<&mut [i32]>) {
        let src = self.reg[op.a];
        let Some(out) = out else { return };
        let x = &self.p.vectors[src.at..src.at + src.len];
        let mean = parts::WITH_ENCODER && op.p[0] == POOL_MEAN;
        let sums = self.p.pool_sums.as_chunks::<2>().0;
        let value = |i: usize| match mean {
            true => sums.get(i).map_or(0, wide),
            false => x.get(i).map_or(0, |x| i64::from(*x)),
        };
        let top = (0..x.len()).fold(0, |any, i| any | value(i).unsigned_abs());
        if top == 0 {
            out.fill(0);
            return;
        }
        let t = bitlen64(top) as i32 - 30;
        let mut q = 0u64;
        for (i, o) in out.iter_mut().enumerate() {
            *o = if t >= 0 { rsr(value(i), t as u32) as i32 } else { shift(value(i), t) };
            let small = rsr32(*o, 6);
            q += mul(small, small) as u64;
        }
        let k = if op.p[1] != 0 {
            Scale::norm(q, 12).sqrt().inv().factor(30)
        } else {
            let s = if mean { src.scale.mul(Scale::norm(self.tokens as u64, 0).inv()) } else { src.scale };
            s.shl(t).factor(16)
        };
        out.iter_mut().for_each(|o| *o = k.times(*o));
    }
}

fn wide(words: &[i32; 2]) -> i64 {
    i64::from(words[1]) << 32 | i64::from(words[0] as u32)
}

/// Row `r` of a table as fixed point, each element given to `put`.
fn table_row(t: &Tensor, r: usize, factor: Option<Scale>, frac: i32, x: &mut [i32], put: impl Fn(&mut i32, i32)) {
    let step = if t.mode == 3 { t.group } else { t.cols };
    for (k, part) in x.chunks_mut(step).enumerate() {
        let s = match t.mode {
            1 => t.scale,
            _ => {
                let (m, h) = t.row_scale(r * t.groups + k);
                Scale { m: m as u32, e: t.scale.e - h as i32 }
            }
        };
        let by = factor.filter(|_| parts::WITH_FACTORS).map_or(s, |f| s.mul(f)).factor(frac);
        match t.kind {
            INT8 => part.iter_mut().zip(t.row(r)).for_each(|(x, w)| put(x, by.times(*w as i8 as i32))),
            INT16 => {
                let row = t.row(r).as_chunks::<2>().0;
                part.iter_mut().zip(row).for_each(|(x, w)| put(x, by.times(i16::from_le_bytes(*w).into())));
            }
            _ if parts::WITH_TABLES => {
                part.iter_mut().enumerate().for_each(|(i, x)| put(x, by.times(t.weight(r, k * step + i))));
            }
            _ => {}
        }
    }
}

/// How an element becomes a code.
enum Rule {
    Ratio(Divisor),
    Two(Thresholds),
    Fixed(Factor),
}

impl Rule {
    fn codes<T>(&self, x: &[i32], y: &mut [T], narrow: impl Fn(i32) -> T) {
        let each = y.iter_mut().zip(x);
        match self {
            Rule::Ratio(d) => each.for_each(|(y, x)| *y = narrow(d.code(*x))),
            Rule::Two(t) => each.for_each(|(y, x)| *y = narrow(t.code(*x))),
            Rule::Fixed(k) => each.for_each(|(y, x)| *y = narrow(k.times(*x))),
        }
    }
}

/// Qmax 2: a code is the number of thresholds below |x|. 2 |x| / a beyond 1/2 + 2^-17 is at least 1; from 3/2 - 2^-17 on (the tie goes to the
/// even code) it is 2.
struct Thresholds {
    /// Above it: 1.
    one: u32,
    /// From it on: 2.
    two: u32,
}

impl Thresholds {
    fn new(a: u32) -> Thresholds {
        let a = u64::from(a);
        Thresholds { one: (a * 0x1_0001 >> 18) as u32, two: (a * 0x2_FFFF + 0x3_FFFF >> 18) as u32 }
    }

    #[inline(always)]
    fn code(&self, x: i32) -> i32 {
        let v = i32::from(x.unsigned_abs() > self.one) + i32::from(x.unsigned_abs() >= self.two);
        if x < 0 {
            -v
        } else {
            v
        }
    }
}
