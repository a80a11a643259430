//! Scales of docs/semantics.md section 2 as nodes. A product of two mantissas has 61 or 62 bits and most other results one of two lengths, so
//! nearly nothing needs the general normalisation. Exponents are limited only where their bounds say that the limit could be reached.

use super::math::{Ints, Num, Range};
use crate::encoding::fixed::{bitlen, Scale};
use crate::export::onnx::graph::Value;
use crate::format::onnx::Elem;
use crate::limits::MAX_EXPONENT;

const LEAST: i64 = 1 << 30;
const ABOVE: i64 = 1 << 31;

/// A scale whose parts are values of the graph or constants.
#[derive(Clone, Copy, Debug)]
pub struct ScaleV {
    pub m: Num,
    pub e: Num,
}

impl ScaleV {
    pub fn of(s: Scale) -> ScaleV {
        ScaleV { m: Num::of(s.m.into()), e: Num::of(s.e.into()) }
    }

    /// The scale, if the graph does not change it.
    pub fn constant(&self) -> Option<Scale> {
        let (m, e) = (self.m.constant()?, self.e.constant()?);
        Some(Scale { m: m as u32, e: e as i32 })
    }

    fn is_power(&self) -> bool {
        self.m.constant() == Some(LEAST)
    }
}

fn mantissa(v: Value) -> Num {
    Num::value(v, LEAST, ABOVE - 1)
}

impl Ints<'_> {
    fn limited(&mut self, m: Num, e: Num) -> ScaleV {
        let limit = i64::from(MAX_EXPONENT);
        ScaleV { m, e: self.clip(e, -limit, limit) }
    }

    /// `a << k`
    pub fn shl(&mut self, a: ScaleV, k: Num) -> ScaleV {
        let e = self.plus(a.e, k);
        self.limited(a.m, e)
    }

    /// v * 2^e with v up to 2^62; the scale of 0 has mantissa 0 and must not be used.
    pub fn norm(&mut self, v: Num, e: Num) -> ScaleV {
        if let Some(k) = v.constant() {
            let s = Scale::norm(k.max(1) as u64, 0);
            let e = e.offset(s.e.into());
            return self.limited(Num::of(s.m.into()), e);
        }
        let n = self.bitlen(v);
        let e = self.plus(e, n).offset(-31);
        let up = self.lookup(n, |n| 1 << (31 - n.min(31)));
        let m = self.times(v, up);
        if bitlen(v.hi as u64) <= 31 {
            let m = self.val(m);
            return self.limited(mantissa(m), e);
        }
        let half = self.lookup(n, |n| if n > 31 { 1 << (n - 32) } else { 0 });
        let unit = self.lookup(n, |n| 1 << (n.max(31) - 31));
        let (m, half, unit) = (self.val(m), self.val(half), self.val(unit));
        let sum = self.add(m, half);
        let m = self.div(sum, unit);
        self.carried(m, e)
    }

    /// A mantissa in 2^30 ..= 2^31, the last of which is 2^30 of the next exponent.
    fn carried(&mut self, m: Value, e: Num) -> ScaleV {
        let (above, least) = (self.i(ABOVE), self.i(LEAST));
        let over = self.div(m, above);
        let less = self.mul2(over, least);
        let m = self.sub(m, less);
        let e = self.plus(e, Num::value(over, 0, 1));
        self.limited(mantissa(m), e)
    }

    pub fn mul(&mut self, a: ScaleV, b: ScaleV) -> ScaleV {
        let e = self.plus(a.e, b.e);
        if a.is_power() || b.is_power() {
            let m = if a.is_power() { b.m } else { a.m };
            return self.limited(m, e.offset(30));
        }
        if let (Some(x), Some(y)) = (a.m.constant(), b.m.constant()) {
            let s = Scale { m: x as u32, e: 0 }.mul(Scale { m: y as u32, e: 0 });
            return self.limited(Num::of(s.m.into()), e.offset(s.e.into()));
        }
        let (x, y) = (self.val(a.m), self.val(b.m));
        let p = self.mul2(x, y);
        let half = self.i(1 << 29);
        let sum = self.add(p, half);
        // What rounds up to 2^61 counts as having 62 bits: the result is the same.
        let top = self.i(1 << 61);
        let over = Num::value(self.div(sum, top), 0, 1);
        let more = self.times(over, Num::of(1 << 29));
        let unit = self.lookup(over, |o| 1 << (30 + o));
        let (more, unit) = (self.val(more), self.val(unit));
        let sum = self.add(sum, more);
        let m = self.div(sum, unit);
        let e = self.plus(e, over).offset(30);
        self.limited(mantissa(m), e)
    }

    pub fn inv(&mut self, a: ScaleV) -> ScaleV {
        if let Some(m) = a.m.constant() {
            let s = Scale { m: m as u32, e: 0 }.inv();
            let e = self.minus(Num::of(s.e.into()), a.e);
            return self.limited(Num::of(s.m.into()), e);
        }
        let m = self.val(a.m);
        let m = self.recip(m);
        let e = self.minus(Num::of(-61), a.e);
        self.carried(m, e)
    }

    /// `floor(2^61 / m)` of every element; m in 2^30 ..= 2^31.
    pub fn recip(&mut self, m: Value) -> Value {
        let one = self.i(1 << 61);
        self.div(one, m)
    }

    /// a + b
    pub fn sum(&mut self, a: ScaleV, b: ScaleV) -> ScaleV {
        if let (Some(a), Some(b)) = (a.constant(), b.constant()) {
            return ScaleV::of(a.add(b));
        }
        let (ae, be) = (self.val(a.e), self.val(b.e));
        let swap = self.g.op("Less", &[ae, be], &[]);
        let (large, small) = (self.pick(swap, b.m, a.m), self.pick(swap, a.m, b.m));
        let e = self.max(a.e, b.e);
        let d = self.minus(a.e, b.e);
        let far = d.lo.saturating_abs().max(d.hi.saturating_abs());
        let d = self.val(d);
        let d = self.g.op("Abs", &[d], &[]);
        // From 32 on nothing of a mantissa is left.
        let d = self.clip(Num::value(d, 0, far), 0, 32);
        let (small, large) = (self.val(small), self.val(large));
        let small = self.rsr(small, Range { lo: 0, hi: ABOVE - 1 }, d);
        let sum = self.add(large, small);
        let above = self.i(ABOVE);
        let over = self.div(sum, above);
        let unit = self.lookup(Num::value(over, 0, 1), |o| 1 + o);
        let unit = self.val(unit);
        let sum = self.add(sum, over);
        let m = self.div(sum, unit);
        let e = self.plus(e, Num::value(over, 0, 1));
        self.limited(mantissa(m), e)
    }

    pub fn sqrt(&mut self, a: ScaleV) -> ScaleV {
        if let Some(a) = a.constant() {
            return ScaleV::of(a.sqrt());
        }
        let (e, two) = (self.val(a.e), self.i(2));
        let odd = match a.e.constant() {
            Some(e) => Num::of(e & 1),
            // Integer Mod has the sign of the divisor.
            None => Num::value(self.g.op("Mod", &[e, two], &[]), 0, 1),
        };
        let unit = self.lookup(odd, |o| 1 << (30 + o));
        let v = self.times(a.m, unit);
        let v = self.val(v);
        let root = self.isqrt(v);
        let (lo, hi) = ((a.e.lo - 31) / 2, (a.e.hi - 30) / 2);
        let twice = self.minus(a.e, odd).offset(-30);
        let e = match twice.constant() {
            Some(e) => Num::of(e / 2),
            None => {
                let twice = self.val(twice);
                Num::value(self.div(twice, two), lo, hi)
            }
        };
        self.limited(mantissa(root), e)
    }

    /// `floor(sqrt(v))`, v in 2^60 ..< 2^62: a table and two of Newton's steps, which never end below the root, and at most one above it.
    fn isqrt(&mut self, v: Value) -> Value {
        let (step, two) = (self.i(1 << 54), self.i(2));
        let index = Num::value(self.div(v, step), 64, 255);
        let start = self.lookup(index, |i| (((2 * i + 1) as u64) << 53).isqrt() as i64);
        let mut r = self.val(start);
        for _ in 0..2 {
            let q = self.div(v, r);
            let sum = self.add(r, q);
            r = self.div(sum, two);
        }
        let square = self.mul2(r, r);
        let above = self.g.op("Less", &[v, square], &[]);
        let above = self.g.cast(above, Elem::I64);
        self.sub(r, above)
    }

    /// Whether a < b, a boolean; b is a constant.
    pub fn below(&mut self, a: ScaleV, b: Scale) -> Value {
        let key = self.times(a.e, Num::of(ABOVE));
        let key = self.plus(key, a.m);
        let (key, bound) = (self.val(key), self.i(i64::from(b.e) * ABOVE + i64::from(b.m)));
        self.g.op("Less", &[key, bound], &[])
    }

    /// The scale where the condition holds, else the other.
    pub fn pick_scale(&mut self, condition: Value, a: ScaleV, b: ScaleV) -> ScaleV {
        ScaleV { m: self.pick(condition, a.m, b.m), e: self.pick(condition, a.e, b.e) }
    }

    /// `apply` of docs/semantics.md section 2: x times the scale with `f` fraction bits, `abs(x) ≤ max`. No element is beyond `limit`:
    /// `I32_LIMIT` for what the semantics say, less where the caller limits further; `i64::MAX` if the caller knows that nothing is beyond.
    pub fn apply(&mut self, x: Value, max: i64, s: ScaleV, f: Num, limit: i64) -> Value {
        let sum = self.plus(s.e, f);
        let by = self.minus(Num::of(0), sum);
        self.scaled(x, max, s.m, by, limit)
    }
}
