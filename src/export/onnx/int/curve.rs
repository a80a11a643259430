//! Functions read from a table, and what is made of them: docs/semantics.md section 4 and the functions of ACT and LOGITS.

use super::math::{Ints, Num, Range};
use super::scale::ScaleV;
use crate::encoding::fixed::{Scale, LOG2E};
use crate::export::onnx::graph::Value;
use crate::kernels::tables::tables;

/// From here on 2^(-d / 2^20) is 0 in 30 bits.
pub(super) const FAR: i64 = 31 << 20;

impl Ints<'_> {
    /// `exp2n(d)` of every element, which is not negative.
    pub fn exp2n(&mut self, d: Value) -> Value {
        // The quotient is limited, not d: it fits 32 bits (see `Ints::larger`), up to d = 2^42.
        let step = self.i(2048);
        let j = Num::value(self.div(d, step), 0, i32::MAX.into());
        let j = self.clip(j, 0, FAR >> 11);
        let rest = self.g.op("Mod", &[d, step], &[]);
        // Both roundings in one division: the table's difference rounds down from 1023 / 2048 above, the halving up from its half.
        let entry = |j: i64| (j >> 9, tables().exp2[(j & 511) as usize], tables().exp2[(j & 511) as usize + 1]);
        let start = self.lookup(j, |j| match entry(j) {
            (31.., ..) => 0,
            (n, e, _) => (i64::from(e) << 11) + 1023 + if n > 0 { 1 << (n + 10) } else { 0 },
        });
        let slope = self.lookup(j, |j| match entry(j) {
            (31.., ..) => 0,
            (_, e, next) => i64::from(e - next),
        });
        let unit = self.lookup(j, |j| 2048 << (j >> 9).min(30));
        let (start, slope, unit) = (self.val(start), self.val(slope), self.val(unit));
        let down = self.mul2(slope, rest);
        let sum = self.sub(start, down);
        self.div(sum, unit)
    }

    /// `1 / (1 + 2^-z)` with 31 fraction bits; `z` has 20, its sign is that of `x`.
    pub fn logistic(&mut self, z: Value, x: Value) -> Value {
        let z = self.g.op("Abs", &[z], &[]);
        let e = self.exp2n(z);
        let one = self.i(1 << 30);
        let sum = self.add(one, e);
        let p = self.recip(sum);
        self.or_rest(p, x, true)
    }

    /// `2^31 - p` where x is negative (or where it is not), `p` elsewhere.
    pub(super) fn or_rest(&mut self, p: Value, x: Value, if_negative: bool) -> Value {
        let (zero, one) = (self.i(0), self.i(1 << 31));
        let negative = self.g.op("Less", &[x, zero], &[]);
        let rest = self.sub(one, p);
        let order = if if_negative { [negative, rest, p] } else { [negative, p, rest] };
        self.g.op("Where", &order, &[])
    }

    /// `tanh30(z)`, z not negative.
    pub fn tanh30(&mut self, z: Value) -> Value {
        let e = self.exp2n(z);
        let one = self.i(1 << 30);
        let (less, more) = (self.sub(one, e), self.add(one, e));
        let r = self.recip(more);
        let v = self.mul2(less, r);
        self.rsr(v, Range::upto(1 << 61), Num::of(31))
    }

    /// `-y` where t is negative, y elsewhere.
    pub(super) fn signed(&mut self, y: Value, t: Value) -> Value {
        let sign = self.g.op("Sign", &[t], &[]);
        self.mul2(y, sign)
    }

    /// `softcap(t, cap, f)`, abs(t) ≤ 2^31 - 1.
    pub fn softcap(&mut self, t: Value, cap: Scale, f: i64) -> Value {
        let max = crate::encoding::fixed::I32_LIMIT;
        let a = self.g.op("Abs", &[t], &[]);
        // From FAR on the exponential is 0 whatever the argument is.
        let z = self.apply(a, max, ScaleV::of(cap.inv().mul(LOG2E).shl(1)), Num::of(0), FAR);
        let y = self.tanh30(z);
        let y = self.signed(y, t);
        self.apply(y, 1 << 30, ScaleV::of(cap.shl(-30)), Num::of(f), max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formula of [`Ints::exp2n`] in plain integers.
    #[test]
    fn one_division_rounds_as_the_two_of_the_semantics() {
        let t = tables();
        for k in 0..400_000u32 {
            let d = match k {
                0..300_000 => k.wrapping_mul(2_654_435_761) % (32 << 20),
                _ => (k - 300_000) * 331,
            };
            let d = i64::from(d).min(FAR);
            let (j, r) = (d / 2048, d % 2048);
            let (n, i) = (j >> 9, (j & 511) as usize);
            let got = if n >= 31 {
                0
            } else {
                let half = if n > 0 { 1 << (n + 10) } else { 0 };
                ((i64::from(t.exp2[i]) << 11) + 1023 + half - i64::from(t.exp2[i] - t.exp2[i + 1]) * r) / (2048 << n)
            };
            assert_eq!(got, i64::from(t.exp2n(d as u32)), "{d}");
        }
    }
}
