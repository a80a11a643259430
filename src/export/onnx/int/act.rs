//! ACT and GATE.

use super::math::{Ints, Num, Range};
use super::vector::Vector;
use super::{curve::FAR, scale::ScaleV};
use crate::encoding::fixed::{Scale, LOG2E};
use crate::export::onnx::graph::Value;
use crate::format::onnx::Elem;
use crate::kernels::vector::Act;

impl Ints<'_> {
    /// ACT.
    pub fn act(&mut self, v: &Vector, kind: Act) -> Vector {
        match kind {
            Act::Relu => Vector { x: self.positive(v.x), ..*v },
            Act::Relu2 => self.relu2(v),
            Act::Silu => {
                let log2 = self.mul(v.scale, ScaleV::of(LOG2E));
                let z = self.apply(v.x, v.max, log2, Num::of(20), FAR);
                let share = self.logistic(z, v.x);
                self.shared(v, share)
            }
            Act::GeluTanh => {
                let z = self.gelu_argument(v);
                let share = self.logistic(z, v.x);
                self.shared(v, share)
            }
            Act::Gelu => {
                let share = self.normal(v);
                self.shared(v, share)
            }
            Act::Tanh => {
                let log2 = self.mul(v.scale, ScaleV::of(LOG2E));
                let twice = self.shl(log2, Num::of(1));
                let a = self.g.op("Abs", &[v.x], &[]);
                let z = self.apply(a, v.max, twice, Num::of(20), FAR);
                let y = self.tanh30(z);
                let x = self.signed(y, v.x);
                Vector { x, scale: ScaleV::of(Scale { m: 1 << 30, e: -60 }), max: 1 << 30, n: v.n }
            }
        }
    }

    /// GATE, and with two of the kinds RELU2MUL and SILUMUL.
    pub fn gate(&mut self, g: &Vector, u: &Vector, kind: Act) -> Vector {
        let y = self.act(g, kind);
        let k = self.bits(u.x, u.max);
        let v = self.mul2(y.x, u.x);
        let x = self.rsr(v, Range::around(y.max.saturating_mul(u.max)), k);
        let scale = self.mul(y.scale, u.scale);
        Vector { x, scale: self.shl(scale, k), max: y.max, n: y.n }
    }

    fn positive(&mut self, x: Value) -> Value {
        let zero = self.i(0);
        self.g.op("Max", &[x, zero], &[])
    }

    fn relu2(&mut self, v: &Vector) -> Vector {
        let r = self.positive(v.x);
        let a = Num::value(self.reduce_max(r), 0, v.max);
        let n = self.bitlen(a);
        let twice = self.times(n, Num::of(2));
        let s = self.clip(twice.offset(-30), 0, 63);
        let square = self.mul2(r, r);
        let x = self.rsr(square, Range::upto(v.max.saturating_mul(v.max)), s);
        let scale = self.mul(v.scale, v.scale);
        Vector { x, scale: self.shl(scale, s), max: 1 << 30, n: v.n }
    }

    /// `rsr((x shifted to 30 bits) * share, 31)`. The shift to the left is part of the one to the right.
    fn shared(&mut self, v: &Vector, share: Value) -> Vector {
        let n = self.bits(v.x, v.max);
        let one = self.clip(n.offset(-30), 0, 1);
        let x = self.rsr(v.x, Range::around(v.max), one);
        let p = self.mul2(x, share);
        let s = self.lookup(n, |n| (n + 1).min(31));
        let x = self.rsr(p, Range::around(1 << 61), s);
        Vector { x, scale: self.shl(v.scale, n.offset(-30)), max: 1 << 30, n: v.n }
    }

    /// Kind 4: the argument of the logistic function with 20 fraction bits.
    fn gelu_argument(&mut self, v: &Vector) -> Value {
        let a = self.apply(v.x, v.max, v.scale, Num::of(24), 1 << 28);
        let square = self.mul2(a, a);
        let square = self.rsr(square, Range::upto(1 << 56), Num::of(24));
        let (cubic, linear) = (self.i(1_727_101), self.i(38_624_644));
        let w = self.mul2(square, cubic);
        let w = self.rsr(w, Range::upto(1 << 53), Num::of(24));
        let w = self.add(w, linear);
        let z = self.mul2(a, w);
        self.rsr(z, Range::around(1 << 58), Num::of(28))
    }

    /// Kind 5: the normal distribution function with 31 fraction bits.
    fn normal(&mut self, v: &Vector) -> Value {
        let below = Range::around((1 << 61) - 1);
        let a = self.apply(v.x, v.max, v.scale, Num::of(24), 1 << 27);
        let a = self.g.op("Abs", &[a], &[]);
        let (slope, one, two) = (self.i(248_723_596), self.i(1 << 30), self.i(1 << 31));
        let d = self.mul2(a, slope);
        let d = self.rsr(d, Range::upto(1 << 55), Num::of(24));
        let d = self.add(d, one);
        // Above 2 the reciprocal is that of half of it, halved.
        let large = self.g.op("Less", &[two, d], &[]);
        let large = self.g.cast(large, Elem::I64);
        let (k1, k2) = (self.i(1), self.i(2));
        let unit = self.add(large, k1);
        let d = self.add(d, large);
        let d = self.div(d, unit);
        let r = self.recip(d);
        let r = self.add(r, unit);
        let unit = self.mul2(unit, k2);
        let t = self.div(r, unit);
        let mut h = self.i(1_428_371_292);
        for c in [-1_955_558_716, 1_912_847_369, -382_857_446, 342_933_307, 0] {
            let p = self.mul2(h, t);
            h = self.rsr(p, below, Num::of(30));
            if c != 0 {
                let c = self.i(c);
                h = self.add(h, c);
            }
        }
        let square = self.mul2(a, a);
        let square = self.rsr(square, Range::upto(1 << 54), Num::of(24));
        let (k, c) = (self.i(774_541_002), self.i(428_361_012));
        let z = self.mul2(square, k);
        let z = self.rsr(z, Range::upto(1 << 60), Num::of(34));
        let e = self.exp2n(z);
        let p = self.mul2(h, e);
        let p = self.rsr(p, below, Num::of(30));
        let p = self.mul2(p, c);
        let p = self.rsr(p, below, Num::of(29));
        self.or_rest(p, v.x, false)
    }
}
