//! RMSNORM and NORM.

use super::math::{Ints, Num, Range};
use super::scale::ScaleV;
use super::vector::{Fixed, Vector};
use crate::encoding::fixed::{Scale, I32_LIMIT};
use crate::export::onnx::graph::Value;
use crate::format::onnx::Elem;

/// The constants of NORM.
pub struct Rule<'a> {
    pub gamma: Option<Fixed<'a>>,
    pub beta: Option<Fixed<'a>>,
    pub eps: Scale,
    pub group: usize,
    pub centred: bool,
}

/// Less than any exponent that occurs: that of a group of zeros.
const NOTHING: i64 = -(1 << 22);

impl Ints<'_> {
    /// The sum of the squares of elements of up to 2^24 over the last dimension of `n`, and by how much its exponent is larger than 0: the
    /// sum of more than 2^14 may have 64 bits and is halved then, which a normalisation to 31 bits does not see.
    pub(super) fn sum_of_squares(&mut self, x: Value, n: usize) -> (Num, Num) {
        let square = self.mul2(x, x);
        if n <= 1 << 14 {
            return (Num::value(self.total(square, n), 0, (n as i64) << 48), Num::of(0));
        }
        let part = |m: &mut Self, from: usize, to: usize| {
            let p = super::linear::cut(m, square, from, to, -1);
            m.total(p, to - from)
        };
        let (a, b) = (part(self, 0, n / 2), part(self, n / 2, n));
        let two = self.i(2);
        let whole = self.add(a, b);
        let halves = [a, b].map(|v| self.div(v, two));
        let rests = [a, b].map(|v| self.g.op("Mod", &[v, two], &[]));
        let (half, rest) = (self.add(halves[0], halves[1]), self.add(rests[0], rests[1]));
        let rest = self.div(rest, two);
        let half = self.add(half, rest);
        let bound = self.i((1 << 61) - 1);
        let large = self.g.op("Less", &[bound, half], &[]);
        let q = self.pick(large, Num::value(half, 0, 1 << 62), Num::value(whole, 0, 1 << 62));
        let more = self.g.cast(large, Elem::I64);
        (q, Num::value(more, 0, 1))
    }

    /// 1 / sqrt(mean of x^2 s^2 + eps) over the last dimension of `n`.
    fn inverse_rms(&mut self, x: Value, max: i64, n: usize, s: ScaleV, eps: Scale) -> ScaleV {
        let down = self.bits(x, max).offset(-24);
        let down = self.clip(down, 0, 63);
        let small = self.rsr(x, Range::around(max), down);
        let (q, more) = self.sum_of_squares(small, n);
        let e = self.times(down, Num::of(2));
        let e = self.plus(e, more);
        let mean = self.norm(q, e);
        let mean = self.mul(mean, ScaleV::of(Scale::norm(n as u64, 0).inv()));
        let square = self.mul(s, s);
        let ms = self.mul(mean, square);
        let den = self.sum(ms, ScaleV::of(eps));
        let (q, one) = (self.val(q), self.i(1));
        let zero = self.g.op("Less", &[q, one], &[]);
        let den = self.pick_scale(zero, ScaleV::of(eps), den);
        let root = self.sqrt(den);
        self.inv(root)
    }

    /// RMSNORM.
    pub fn rmsnorm(&mut self, v: &Vector, gamma: Fixed, eps: Scale) -> Vector {
        let r = self.inverse_rms(v.x, v.max, v.n, v.scale, eps);
        let (x, t, max) = self.times_fixed(v.x, v.max, gamma);
        let scale = self.mul(v.scale, r);
        let scale = self.mul(scale, ScaleV::of(gamma.scale));
        Vector { x, scale: self.shl(scale, t), max, n: v.n }
    }

    /// NORM.
    pub fn layer_norm(&mut self, v: &Vector, rule: &Rule) -> Vector {
        let (count, width) = ((v.n / rule.group) as i64, rule.group as i64);
        // Groups are one more dimension; a single one is the vector itself.
        let lift = |m: &mut Self, n: Num| match (n.constant(), count) {
            (Some(_), _) | (_, 1) => n,
            _ => {
                let x = m.val(n);
                Num::value(m.reshape(x, &[0, 0, 1, 1]), n.lo, n.hi)
            }
        };
        let x = if count > 1 { self.reshape(v.x, &[0, 0, count, width]) } else { v.x };
        let s = ScaleV { m: lift(self, v.scale.m), e: lift(self, v.scale.e) };
        let (d, max) = if rule.centred { self.centred(x, v.max, width) } else { (x, v.max) };
        let r = self.inverse_rms(d, max, rule.group, s, rule.eps);
        let mut t = self.mul(s, r);
        let (mut y, mut most) = (d, max);
        if let Some(g) = rule.gamma {
            let of = self.beside(g, count, width);
            y = self.mul2(y, of);
            most = most.saturating_mul(g.max());
            t = self.mul(t, ScaleV::of(g.scale));
        }
        let n = self.bits(y, most);
        let down = self.clip(n.offset(-30), 0, 63);
        let y = self.rsr(y, Range::around(most), down);
        let top = self.top(n, t.e, count, rule.beta.map(|b| i64::from(b.scale.e) + 60));
        // dst = apply(y, t << down, 29 - top); the shift is above 0 wherever there is anything to shift.
        let by = self.minus(top, t.e).offset(-29);
        let by = self.minus(by, down);
        let by = self.clip(by, 0, 63);
        let mut y = self.scaled(y, most.min(1 << 30), t.m, by, i64::MAX);
        let mut bound = (1 << 29) + 1;
        if let Some(b) = rule.beta {
            let by = top.offset(-59 - i64::from(b.scale.e));
            let of = self.beside(b, count, width);
            let of = self.rsr(of, Range::around(b.max()), by);
            y = self.add(y, of);
            bound += (b.max() >> 1) + 1;
        }
        let mut e = top;
        if count > 1 {
            y = self.reshape(y, &[0, 0, v.n as i64]);
            if e.constant().is_none() {
                let of = self.val(e);
                e = Num::value(self.reshape(of, &[0, 0, 1]), e.lo, e.hi);
            }
        }
        let scale = self.shl(ScaleV { m: Num::of(1 << 30), e }, Num::of(-59));
        Vector { x: y, scale, max: bound, n: v.n }
    }

    /// Elements less their mean, and their bound.
    fn centred(&mut self, x: Value, max: i64, width: i64) -> (Value, i64) {
        let sum = self.reduce_sum(x, -1);
        let two = self.i(2);
        let twice = self.mul2(sum, two);
        let mu = self.rhe(twice, max, Num::of(width));
        let d = self.sub(x, mu);
        if max <= I32_LIMIT / 2 {
            return (d, 2 * max);
        }
        (self.clamp(d, -I32_LIMIT, I32_LIMIT), I32_LIMIT)
    }

    /// Constants of a vector or of each of its groups, in the dimensions of the groups.
    fn beside(&mut self, c: Fixed, count: i64, width: i64) -> Value {
        let v = c.value(self);
        match count > 1 && c.values.len() as i64 == count * width {
            true => self.reshape(v, &[count, width]),
            false => v,
        }
    }

    /// X of NORM: the bits that the largest element of any group, or of beta, may have.
    fn top(&mut self, n: Num, e: Num, count: i64, beta: Option<i64>) -> Num {
        let n = self.lookup(n, |n| if n == 0 { NOTHING } else { n });
        let each = self.plus(n, e).offset(31);
        let mut x = each;
        if count > 1 && x.constant().is_none() {
            let v = self.val(x);
            x = Num::value(self.reduce_max_of(v, 2), x.lo, x.hi);
        }
        if let Some(b) = beta {
            return self.max(x, Num::of(b));
        }
        if x.lo > NOTHING / 2 {
            return x;
        }
        let (v, bound) = (self.val(x), self.i(NOTHING / 2));
        let none = self.g.op("Less", &[v, bound], &[]);
        let zero = self.i(0);
        let v = self.g.op("Where", &[none, zero, v], &[]);
        Num::value(v, (e.lo + 32).min(0), x.hi.max(0))
    }
}
