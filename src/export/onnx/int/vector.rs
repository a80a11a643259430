//! What registers hold, and the operations that move between them: QUANTIZE, the sums into the residual, BIAS, GAIN, LOGITS, EMBEDDING.

use super::math::{Ints, Num, Range};
use super::scale::ScaleV;
use crate::encoding::fixed::{Scale, I32_LIMIT};
use crate::export::onnx::graph::Value;
use crate::format::onnx::Elem;
use crate::kernels::scalar::QuantRule;
use crate::limits::MAX_WINDOW;

/// int64 `[batch, sequence, n]` with a scale for each token, `[batch, sequence, 1]` or a constant.
#[derive(Clone, Copy, Debug)]
pub struct Vector {
    pub x: Value,
    pub scale: ScaleV,
    /// No element's magnitude is beyond this.
    pub max: i64,
    pub n: usize,
}

/// Codes `[batch, sequence, n]` as bytes.
#[derive(Clone, Copy, Debug)]
pub struct Codes {
    /// The codes, or `floor(code / 256)` of 16-bit codes, in uint8 with zero point 128.
    pub byte: Value,
    /// `code mod 256` of 16-bit codes in uint8.
    pub low: Option<Value>,
    pub qmax: u32,
    pub scale: ScaleV,
    /// What stands for the codes in one value: the bytes, or 16-bit codes plus 32,768.
    pub shown: Value,
}

/// Constants of the program: values and their common power of two.
#[derive(Clone, Copy, Debug)]
pub struct Fixed<'a> {
    pub values: &'a [i32],
    pub scale: Scale,
}

impl Fixed<'_> {
    /// Largest magnitude.
    pub fn max(&self) -> i64 {
        self.values.iter().map(|v| i64::from(v.unsigned_abs())).max().unwrap_or(0)
    }

    /// As int64 `[n]`.
    pub fn value(&self, m: &mut Ints) -> Value {
        let wide: Vec<i64> = self.values.iter().map(|v| i64::from(*v)).collect();
        m.g.i64s(&[wide.len() as i64], &wide)
    }
}

impl Ints<'_> {
    /// QUANTIZE.
    pub fn quantize(&mut self, v: &Vector, rule: &QuantRule) -> Codes {
        let q = i64::from(rule.qmax);
        let qmax = Scale::norm(u64::from(rule.qmax), 0);
        let a = self.max_abs(v.x, v.max);
        let n = self.bitlen(a);
        // A vector of zeros takes the floor's scale: an exponent that makes it less than the floor whatever its scale is does that.
        let nothing = i64::from(rule.floor.e) - v.scale.e.hi - 100;
        let up = self.lookup(n, |n| if n == 0 { 0 } else { 1 << (31 - n.min(31)) });
        let e = self.lookup(n, |n| if n == 0 { nothing } else { n - 31 });
        let of_a = self.times(a, up);
        let of_a = self.val(of_a);
        let most = self.mul(ScaleV { m: Num::value(of_a, 1 << 30, I32_LIMIT), e }, v.scale);
        let tiny = self.below(most, rule.floor);

        // round(Q x / a), where a ratio within 2^-17 of a tie goes to the even code: the even thresholds are passed late, the odd ones early,
        // which is floor((Q x + c) / 2a) - floor((c - Q x) / 2a) with c = a (1/2 + 2^-17).
        let late = self.times(a, Num::of((1 << 16) + 1));
        let (lo, hi) = (late.lo >> 17, late.hi >> 17);
        let (late, step) = (self.val(late), self.i(1 << 17));
        let late = Num::value(self.div(late, step), lo, hi);
        let twice = self.times(a, Num::of(2));
        let room = self.times(twice, Num::of(q / 2 + 2));
        let usual = Form { factor: Num::of(q), add: self.plus(late, room), unit: twice };

        // Below the floor the codes shrink instead of the scale.
        let k = self.mul(v.scale, ScaleV::of(qmax.mul(rule.floor.inv())));
        let codes = match v.max <= 1 << 30 {
            true => self.either(v.x, tiny, k, usual),
            false => {
                let factor = self.i(q);
                let x = self.mul2(v.x, factor);
                let unit = self.max(usual.unit, Num::of(1));
                let usual = self.halves(x, usual.add, unit);
                let small = self.apply(v.x, v.max, k, Num::of(0), q);
                self.g.op("Where", &[tiny, small, usual], &[])
            }
        };
        let zero = if q > 127 { 1 << 15 } else { 128 };
        let z = self.i(zero);
        let mut whole = self.add(codes, z);
        if i64::from(rule.lo) > -q || i64::from(rule.hi) < q {
            whole = self.clamp_narrow(whole, zero + i64::from(rule.lo), zero + i64::from(rule.hi));
        }
        let least = self.pick_scale(tiny, ScaleV::of(rule.floor), most);
        let scale = self.mul(least, ScaleV::of(qmax.inv()));
        let (byte, low) = match q > 127 {
            true => {
                let step = self.i(256);
                let (high, low) = (self.div(whole, step), self.g.op("Mod", &[whole, step], &[]));
                (self.g.cast(high, Elem::U8), Some(self.g.cast(low, Elem::U8)))
            }
            false => (self.g.cast(whole, Elem::U8), None),
        };
        let shown = if low.is_some() { whole } else { byte };
        Codes { byte, low, qmax: rule.qmax, scale, shown }
    }

    /// Codes in one of two forms for each token, without computing both: `floor((x f + c) / d) - floor((c' - x f') / d)` is the usual one,
    /// and with f' = 0 it is `apply(x, k, 0)`, whose shift is to the right for any x that is below the floor. abs(x) ≤ 2^30.
    fn either(&mut self, x: Value, tiny: Value, k: ScaleV, usual: Form) -> Value {
        let s = self.minus(Num::of(0), k.e);
        let s = self.clip(s, 0, 62);
        let half = self.lookup(s, |s| if s > 0 { 1 << (s - 1) } else { 0 });
        let unit = self.lookup(s, |s| 1 << s);
        // A multiple of every unit that makes the sum positive.
        let bias = Num::of(1 << 62);
        let first = Form { factor: self.pick(tiny, k.m, usual.factor), add: self.plus(half, bias), unit };
        let f1 = self.val(first.factor);
        let f2 = self.pick(tiny, Num::of(0), usual.factor);
        let c1 = self.pick(tiny, first.add, usual.add);
        let c2 = self.pick(tiny, bias, usual.add);
        let d = self.pick(tiny, first.unit, usual.unit);
        let [f2, c1, c2, d] = [f2, c1, c2, d].map(|n| self.val(n));
        let (up, down) = (self.mul2(x, f1), self.mul2(x, f2));
        let (up, down) = (self.add(up, c1), self.sub(c2, down));
        let (up, down) = (self.div(up, d), self.div(down, d));
        self.sub(up, down)
    }

    /// ADD with `x`, or STORE without it; the residual has `frac` fraction bits.
    pub fn into_residual(&mut self, x: Option<&Vector>, v: &Vector, factor: Option<Scale>, frac: i64) -> Vector {
        let s = factor.map_or(v.scale, |f| self.mul(v.scale, ScaleV::of(f)));
        let y = self.apply(v.x, v.max, s, Num::of(frac), I32_LIMIT);
        self.summed(x, y, v.n, frac)
    }

    /// `sat(x + y)`, or `y` without x, as the residual.
    pub fn summed(&mut self, x: Option<&Vector>, y: Value, n: usize, frac: i64) -> Vector {
        let x = match x {
            None => y,
            Some(x) => {
                let sum = self.add(x.x, y);
                self.clamp(sum, -I32_LIMIT, I32_LIMIT)
            }
        };
        Vector { x, scale: ScaleV::of(Scale::pow2(-frac as i32)), max: I32_LIMIT, n }
    }

    /// BIAS.
    pub fn bias(&mut self, v: &Vector, b: Fixed) -> Vector {
        let n = self.bits(v.x, v.max);
        let n = self.lookup(n, |n| if n == 0 { -(1 << 22) } else { n });
        let of_v = self.plus(n, v.scale.e).offset(31);
        let top = self.max(of_v, Num::of(i64::from(b.scale.e) + 60));
        // The shift is above 2 wherever there is anything to shift.
        let by = self.minus(top, v.scale.e).offset(-29);
        let by = self.clip(by, 0, 63);
        let x = self.scaled(v.x, v.max, v.scale.m, by, i64::MAX);
        let (b_v, by) = (b.value(self), top.offset(-59 - i64::from(b.scale.e)));
        let b_v = self.rsr(b_v, Range::around(b.max()), by);
        let x = self.add(x, b_v);
        let scale = self.shl(ScaleV { m: Num::of(1 << 30), e: top }, Num::of(-59));
        Vector { x, scale, max: (1 << 29) + (b.max() >> 1) + 2, n: v.n }
    }

    /// GAIN.
    pub fn gain(&mut self, v: &Vector, by: Fixed) -> Vector {
        let (x, t, max) = self.times_fixed(v.x, v.max, by);
        let scale = self.mul(v.scale, ScaleV::of(by.scale));
        Vector { x, scale: self.shl(scale, t), max, n: v.n }
    }

    /// `rsr(x g, t)` with the least t that leaves 30 bits; with t and the bound of the result.
    pub(super) fn times_fixed(&mut self, x: Value, max: i64, by: Fixed) -> (Value, Num, i64) {
        let g = by.value(self);
        let v = self.mul2(x, g);
        let most = max.saturating_mul(by.max());
        let t = match most < 1 << 61 {
            // Only bits from the 31st on count.
            true => {
                let (abs, unit) = (self.g.op("Abs", &[v], &[]), self.i(1 << 30));
                let high = self.div(abs, unit);
                let high = Num::value(self.reduce_max(high), 0, most >> 30);
                self.bitlen(high)
            }
            false => {
                let n = self.bits(v, most).offset(-30);
                self.clip(n, 0, 63)
            }
        };
        (self.rsr(v, Range::around(most), t), t, most.min(1 << 30))
    }

    /// LOGITS.
    pub fn logits(&mut self, v: &Vector, factor: Option<Scale>, cap: Option<Scale>) -> Value {
        let s = factor.map_or(v.scale, |f| self.mul(v.scale, ScaleV::of(f)));
        match cap {
            None => self.apply(v.x, v.max, s, Num::of(16), I32_LIMIT),
            Some(c) => {
                let t = self.apply(v.x, v.max, s, Num::of(20), I32_LIMIT);
                self.softcap(t, c, 16)
            }
        }
    }

    /// EMBEDDING of the tokens for which `chosen` `[batch, sequence, 1]` is 1: `[batch, 1, n]`.
    pub fn embedding(&mut self, v: &Vector, chosen: Value, mean: bool, unit: bool) -> Value {
        let pooled = |m: &mut Self, n: Num, many: bool| match n.constant() {
            Some(_) => n,
            None => {
                let x = m.val(n);
                let x = m.mul2(x, chosen);
                let most = if many { MAX_WINDOW as i64 } else { 1 };
                Num::value(m.reduce_sum(x, 1), n.lo.min(0) * most, n.hi * most)
            }
        };
        let x = pooled(self, Num::value(v.x, -v.max, v.max), mean);
        let scale = ScaleV { m: pooled(self, v.scale.m, false), e: pooled(self, v.scale.e, false) };
        let (max, x) = (x.hi, self.val(x));
        let b = self.bits(x, max);
        let up = self.lookup(b, |b| 1 << (30 - b.min(30)));
        let up = self.val(up);
        let x = self.mul2(x, up);
        let down = self.clip(b.offset(-30), 0, 63);
        let u = self.rsr(x, Range::around(max.max(1 << 30)), down);
        let (s, f) = match unit {
            true => {
                let small = self.rsr(u, Range::around(1 << 30), Num::of(6));
                let (q, more) = self.sum_of_squares(small, v.n);
                let q = self.max(q, Num::of(1));
                let s = self.norm(q, more.offset(12));
                let s = self.sqrt(s);
                (self.inv(s), 30)
            }
            false => {
                let s = match mean {
                    true => {
                        let t = Num::value(self.reduce_sum(chosen, 1), 0, MAX_WINDOW as i64);
                        let t = self.max(t, Num::of(1));
                        let t = self.norm(t, Num::of(0));
                        let t = self.inv(t);
                        self.mul(scale, t)
                    }
                    false => scale,
                };
                (self.shl(s, b.offset(-30)), 16)
            }
        };
        self.apply(u, 1 << 30, s, Num::of(f), I32_LIMIT)
    }
}

/// One of the forms of [`Ints::either`].
struct Form {
    factor: Num,
    add: Num,
    unit: Num,
}
