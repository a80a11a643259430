//! Integer arithmetic of docs/semantics.md section 1 as nodes on int64. What is known about a value when the graph is made (that it is a constant,
//! its bounds) decides how few nodes do: a shift is one division where a multiple of the divisor can be added first without overflow.

use crate::encoding::fixed::{bitlen, I32_LIMIT};
use crate::export::onnx::graph::{Attr, Graph, Value};
use crate::format::onnx::Elem;

/// An int64 of the graph, or a constant: `base + plus`. The sum is only made where it is needed.
#[derive(Clone, Copy, Debug)]
pub struct Num {
    base: Option<Value>,
    plus: i64,
    /// Bounds of the sum, inclusive.
    pub lo: i64,
    pub hi: i64,
}

impl Num {
    pub fn of(k: i64) -> Num {
        Num { base: None, plus: k, lo: k, hi: k }
    }

    /// A value of the graph between `lo` and `hi`.
    pub fn value(v: Value, lo: i64, hi: i64) -> Num {
        Num { base: Some(v), plus: 0, lo, hi }
    }

    pub fn constant(&self) -> Option<i64> {
        match self.base {
            None => Some(self.plus),
            Some(_) => None,
        }
    }

    /// The value of the graph that this is, if it needs no node.
    pub fn bare(&self) -> Option<Value> {
        self.base.filter(|_| self.plus == 0)
    }

    /// Whether what is in the graph fits 32 bits.
    fn is_narrow(&self) -> bool {
        fits(self.lo.saturating_sub(self.plus)) && fits(self.hi.saturating_sub(self.plus))
    }

    pub fn offset(self, k: i64) -> Num {
        Num { base: self.base, plus: self.plus + k, lo: self.lo.saturating_add(k), hi: self.hi.saturating_add(k) }
    }
}

/// Bounds of every element of a value, inclusive.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub lo: i64,
    pub hi: i64,
}

impl Range {
    /// -max ..= max
    pub fn around(max: i64) -> Range {
        Range { lo: -max, hi: max }
    }

    /// 0 ..= max
    pub fn upto(max: i64) -> Range {
        Range { lo: 0, hi: max }
    }
}

/// Whether a number fits 32 bits.
fn fits(v: i64) -> bool {
    i32::try_from(v).is_ok()
}

/// The least power of two that is not below `v`.
fn power_above(v: i64) -> i128 {
    (v.unsigned_abs().max(1) as u128).next_power_of_two() as i128
}

/// A graph of integers.
pub struct Ints<'a> {
    pub g: Graph<'a>,
}

impl Ints<'_> {
    pub fn i(&mut self, k: i64) -> Value {
        self.g.i64(k)
    }

    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.g.op("Add", &[a, b], &[])
    }

    pub fn sub(&mut self, a: Value, b: Value) -> Value {
        self.g.op("Sub", &[a, b], &[])
    }

    pub fn mul2(&mut self, a: Value, b: Value) -> Value {
        self.g.op("Mul", &[a, b], &[])
    }

    /// Quotient towards zero; the same as the floor where nothing is negative.
    pub fn div(&mut self, a: Value, b: Value) -> Value {
        self.g.op("Div", &[a, b], &[])
    }

    /// Limits every element, whatever it is, to lo ..= hi.
    pub fn clamp(&mut self, v: Value, lo: i64, hi: i64) -> Value {
        let least = self.larger(v, lo, false);
        self.smaller(least, hi, false)
    }

    /// As [`Ints::clamp`], of elements within 32 bits.
    pub fn clamp_narrow(&mut self, v: Value, lo: i64, hi: i64) -> Value {
        let (lo, hi) = (self.i(lo), self.i(hi));
        self.g.op("Clip", &[v, lo, hi], &[])
    }

    /// The larger of each element and a constant. ONNX Runtime compares 64-bit integers rightly in Less; its Max, Min, Clip, Sign and, over the
    /// last dimension, ReduceMax take the lower half for a signed number where the upper halves are equal, so they are for 32 bits.
    fn larger(&mut self, v: Value, k: i64, narrow: bool) -> Value {
        let k = self.i(k);
        if narrow {
            return self.g.op("Max", &[v, k], &[]);
        }
        let below = self.g.op("Less", &[v, k], &[]);
        self.g.op("Where", &[below, k, v], &[])
    }

    /// The smaller of each element and a constant.
    fn smaller(&mut self, v: Value, k: i64, narrow: bool) -> Value {
        let k = self.i(k);
        if narrow {
            return self.g.op("Min", &[v, k], &[]);
        }
        let above = self.g.op("Less", &[k, v], &[]);
        self.g.op("Where", &[above, k, v], &[])
    }

    /// Maximum over the last dimension, which becomes 1.
    pub fn reduce_max(&mut self, v: Value) -> Value {
        self.reduce_max_of(v, -1)
    }

    /// Maximum over one dimension, which becomes 1.
    pub fn reduce_max_of(&mut self, v: Value, axis: i64) -> Value {
        if self.g.opset() < 18 {
            return self.g.op("ReduceMax", &[v], &[("axes", Attr::Ints(&[axis])), ("keepdims", Attr::I(1))]);
        }
        let axes = self.g.i64s(&[1], &[axis]);
        self.g.op("ReduceMax", &[v, axes], &[("keepdims", Attr::I(1))])
    }

    /// Sum over one dimension, which becomes 1, of elements whose sum stays within 2^53: newer runtimes add in floats.
    pub fn reduce_sum(&mut self, v: Value, axis: i64) -> Value {
        let axes = self.g.i64s(&[1], &[axis]);
        self.g.op("ReduceSum", &[v, axes], &[("keepdims", Attr::I(1))])
    }

    /// Sum over the last dimension of `n`, which becomes 1, modulo 2^64.
    pub fn total(&mut self, v: Value, n: usize) -> Value {
        let ones = self.g.i64s(&[n as i64, 1], &vec![1; n]);
        self.g.op("MatMul", &[v, ones], &[])
    }

    /// Bits of the largest magnitude over the last dimension, which becomes 1. `max`, at most 2^62 - 1, bounds it.
    pub fn bits(&mut self, v: Value, max: i64) -> Num {
        if max <= I32_LIMIT {
            let a = self.max_abs(v, max);
            return self.bitlen(a);
        }
        // Halves of 31 bits: see `larger`. Where there is an upper half, what the maximum of the lower ones says does not count.
        let abs = self.g.op("Abs", &[v], &[]);
        let (unit, zero) = (self.i(1 << 31), self.i(0));
        let high = self.div(abs, unit);
        let (high, low) = (self.reduce_max(high), self.reduce_max(abs));
        let any = self.g.op("Less", &[zero, high], &[]);
        let high = self.bitlen(Num::value(high, 0, max >> 31));
        let low = self.bitlen(Num::value(low, 0, I32_LIMIT));
        self.pick(any, high.offset(31), low)
    }

    /// Largest magnitude over the last dimension, which becomes 1. `max` bounds it.
    pub fn max_abs(&mut self, v: Value, max: i64) -> Num {
        let abs = self.g.op("Abs", &[v], &[]);
        if max <= I32_LIMIT {
            return Num::value(self.reduce_max(abs), 0, max);
        }
        // Halves of 31 bits, the upper one first: see `larger`.
        let (unit, zero) = (self.i(1 << 31), self.i(0));
        let (high, low) = (self.div(abs, unit), self.g.op("Mod", &[abs, unit], &[]));
        let top = self.reduce_max(high);
        let at_top = self.g.op("Equal", &[high, top], &[]);
        let low = self.g.op("Where", &[at_top, low, zero], &[]);
        let low = self.reduce_max(low);
        let top = self.mul2(top, unit);
        Num::value(self.add(top, low), 0, max)
    }

    pub fn reshape(&mut self, v: Value, dims: &[i64]) -> Value {
        let dims = self.g.i64s(&[dims.len() as i64], dims);
        self.g.op("Reshape", &[v, dims], &[])
    }

    /// The number as a value; a constant has no dimensions.
    pub fn val(&mut self, n: Num) -> Value {
        let k = self.i(n.plus);
        match n.base {
            None => k,
            Some(v) if n.plus == 0 => v,
            Some(v) => self.add(v, k),
        }
    }

    pub fn plus(&mut self, a: Num, b: Num) -> Num {
        let (lo, hi) = (a.lo.saturating_add(b.lo), a.hi.saturating_add(b.hi));
        let base = match (a.base, b.base) {
            (Some(a), Some(b)) => Some(self.add(a, b)),
            (a, b) => a.or(b),
        };
        Num { base, plus: a.plus + b.plus, lo, hi }
    }

    pub fn minus(&mut self, a: Num, b: Num) -> Num {
        let (lo, hi) = (a.lo.saturating_sub(b.hi), a.hi.saturating_sub(b.lo));
        let plus = a.plus - b.plus;
        match (a.base, b.base) {
            (base, None) => Num { base, plus, lo, hi },
            (None, Some(b)) => {
                let k = self.i(plus);
                Num::value(self.sub(k, b), lo, hi)
            }
            (Some(a), Some(b)) => Num { base: Some(self.sub(a, b)), plus, lo, hi },
        }
    }

    pub fn times(&mut self, a: Num, b: Num) -> Num {
        let corners = [a.lo, a.hi].map(|x| [b.lo, b.hi].map(|y| x.saturating_mul(y)));
        let all = corners.iter().flatten();
        let (lo, hi) = (all.clone().min().copied().unwrap_or(0), all.max().copied().unwrap_or(0));
        match (a.constant(), b.constant()) {
            (Some(x), Some(y)) => Num::of(x * y),
            (Some(1), _) => b,
            (_, Some(1)) => a,
            _ => {
                let (a, b) = (self.val(a), self.val(b));
                Num::value(self.mul2(a, b), lo, hi)
            }
        }
    }

    pub fn max(&mut self, a: Num, b: Num) -> Num {
        if a.lo >= b.hi {
            return a;
        }
        if b.lo >= a.hi {
            return b;
        }
        let (lo, hi) = (a.lo.max(b.lo), a.hi.max(b.hi));
        match (a.base, b.base) {
            (Some(v), None) | (None, Some(v)) => {
                let (of, k) = if a.base.is_some() { (a.plus, b.plus) } else { (b.plus, a.plus) };
                let n = if a.base.is_some() { a } else { b };
                let narrow = n.is_narrow() && fits(k - of);
                Num { base: Some(self.larger(v, k - of, narrow)), plus: of, lo, hi }
            }
            _ => {
                let narrow = [a.lo, a.hi, b.lo, b.hi].into_iter().all(fits);
                let (a, b) = (self.val(a), self.val(b));
                if narrow {
                    return Num::value(self.g.op("Max", &[a, b], &[]), lo, hi);
                }
                let less = self.g.op("Less", &[a, b], &[]);
                Num::value(self.g.op("Where", &[less, b, a], &[]), lo, hi)
            }
        }
    }

    pub fn clip(&mut self, n: Num, lo: i64, hi: i64) -> Num {
        let bounds = (n.lo.clamp(lo, hi), n.hi.clamp(lo, hi));
        let Some(v) = n.base else { return Num::of(n.plus.clamp(lo, hi)) };
        let (least, most) = (lo.saturating_sub(n.plus), hi.saturating_sub(n.plus));
        let narrow = n.is_narrow() && fits(least) && fits(most);
        let base = match (n.lo < lo, n.hi > hi) {
            (false, false) => v,
            (true, false) => self.larger(v, least, narrow),
            (false, true) => self.smaller(v, most, narrow),
            (true, true) if narrow => self.clamp_narrow(v, least, most),
            (true, true) => self.clamp(v, least, most),
        };
        Num { base: Some(base), plus: n.plus, lo: bounds.0, hi: bounds.1 }
    }

    /// `a` where the condition holds, else `b`.
    pub fn pick(&mut self, condition: Value, a: Num, b: Num) -> Num {
        if a.constant().is_some() && a.constant() == b.constant() {
            return a;
        }
        let (lo, hi) = (a.lo.min(b.lo), a.hi.max(b.hi));
        let (a, b) = (self.val(a), self.val(b));
        Num::value(self.g.op("Where", &[condition, a, b], &[]), lo, hi)
    }

    /// `f` of a number with few possible values, from a table.
    pub fn lookup(&mut self, n: Num, f: impl Fn(i64) -> i64) -> Num {
        let Some(v) = n.base else { return Num::of(f(n.plus)) };
        let values: Vec<i64> = (n.lo..=n.hi).map(&f).collect();
        let (lo, hi) = (values.iter().min().copied().unwrap_or(0), values.iter().max().copied().unwrap_or(0));
        if lo == hi {
            return Num::of(lo);
        }
        // A table that begins at the least index takes no addition if the value itself starts there or little above.
        let first = n.lo - n.plus;
        let (index, pad) = match (0..=64).contains(&first) {
            true => (v, first as usize),
            false => {
                let k = self.i(-first);
                (self.add(v, k), 0)
            }
        };
        let table: Vec<i64> = std::iter::repeat_n(values[0], pad).chain(values.iter().copied()).collect();
        let table = self.g.i64s(&[table.len() as i64], &table);
        Num::value(self.g.op("Gather", &[table, index], &[("axis", Attr::I(0))]), lo, hi)
    }

    /// Bits of a number that is not negative. Its value has a last dimension of 1.
    pub fn bitlen(&mut self, n: Num) -> Num {
        let most = bitlen(n.hi.max(0) as u64);
        if n.base.is_none() || most == 0 {
            return Num::of(most.into());
        }
        let v = self.val(n);
        let powers: Vec<i64> = (0..most).map(|k| 1 << k).collect();
        let powers = self.g.i64s(&[powers.len() as i64], &powers);
        let reached = self.g.op("LessOrEqual", &[powers, v], &[]);
        let reached = self.g.cast(reached, Elem::I64);
        Num::value(self.reduce_sum(reached, -1), bitlen(n.lo.max(0) as u64).into(), most.into())
    }

    /// Rounding shift right of every element of `v`, which lies in `range`, magnitudes up to 2^62.
    pub fn rsr(&mut self, v: Value, range: Range, s: Num) -> Value {
        let s = self.clip(s, 0, 63);
        if s.constant() == Some(0) {
            return v;
        }
        // Half of 2^62 is more than what rounds up: 62 does as well as 63.
        if range.lo >= -(1 << 61) && range.hi < 1 << 61 {
            let s = self.clip(s, 0, 62);
            return self.shifted(v, range, s);
        }
        let keep = self.lookup(s, |s| i64::from(s < 63));
        let v = match keep.constant() {
            Some(1) => v,
            _ => {
                let keep = self.val(keep);
                self.mul2(v, keep)
            }
        };
        let s = self.clip(s, 0, 62);
        self.shifted(v, range, s)
    }

    /// As [`Ints::rsr`] for s in -1 ..= 62, where up to 0 nothing is done.
    fn shifted(&mut self, v: Value, range: Range, s: Num) -> Value {
        if s.hi <= 0 {
            return v;
        }
        let half = |s: i64| if s > 0 { 1i64 << (s - 1) } else { 0 };
        let bias = if range.lo + half(s.lo) >= 0 { 0 } else { power_above(range.lo).max(1 << s.hi) };
        if i128::from(range.hi) + i128::from(half(s.hi)) + bias > i128::from(i64::MAX) {
            let (half, unit) = (self.lookup(s, half), self.lookup(s, |s| 1 << s.max(0)));
            let (half, unit) = (self.val(half), self.val(unit));
            let sum = self.add(v, half);
            // Its sign is that of the divisor.
            let rest = self.g.op("Mod", &[sum, unit], &[]);
            let whole = self.sub(sum, rest);
            return self.div(whole, unit);
        }
        // Nothing is divided at 0, so nothing need be positive there.
        let bias = bias as i64;
        let bias_at = move |s: i64| if s > 0 { bias } else { 0 };
        let first = self.lookup(s, |s| half(s) + bias_at(s));
        let unit = self.lookup(s, |s| 1 << s.max(0));
        let last = self.lookup(s, |s| bias_at(s) >> s.max(0));
        let (first, unit) = (self.val(first), self.val(unit));
        let sum = self.add(v, first);
        let q = self.div(sum, unit);
        if last.constant() == Some(0) {
            return q;
        }
        let last = self.val(last);
        self.sub(q, last)
    }

    /// `sat(rsr(x * m, s))` or a shift to the left for s below 0, where m is the mantissa of a scale and abs(x) ≤ `max` ≤ 2^31 - 1: no element
    /// of the result is beyond `limit`, because it is limited or, with `i64::MAX`, because the caller knows.
    pub(super) fn scaled(&mut self, x: Value, max: i64, m: Num, s: Num, limit: i64) -> Value {
        let most = i128::from(max.min(I32_LIMIT)) * i128::from(m.hi);
        let strict = most < 1 << 61;
        // Any shift to the left of a product with a mantissa is beyond the limit, as one by 1 is.
        let s = self.clip(s, -1, if strict { 62 } else { 63 });
        let factor = self.lookup(s, |s| if s < 0 { 2 } else { i64::from(s < 63) });
        let m = self.times(m, factor);
        let s = self.clip(s, -1, 62);
        let m = self.val(m);
        let v = self.mul2(x, m);
        let range = Range::around((most as i64).min(1 << 62));
        let y = self.shifted(v, range, s);
        let result = (most >> s.lo.clamp(0, 62)) + 1;
        if limit == i64::MAX || s.lo >= 0 && result <= i128::from(limit) {
            return y;
        }
        match s.lo >= 0 && result <= i128::from(I32_LIMIT) {
            true => self.clamp_narrow(y, -limit, limit),
            false => self.clamp(y, -limit, limit),
        }
    }

    /// `twice / 2 / b` to the nearest integer, halves to the even one, of elements whose quotient is at most `q`; b > 0 and `b (4 q + 9) < 2^63`.
    /// The even thresholds are passed going up, the odd ones going down, so two floors do.
    pub fn rhe(&mut self, twice: Value, q: i64, b: Num) -> Value {
        let four = self.times(b, Num::of(4));
        let bias = self.times(b, Num::of(1 + 4 * (q / 2 + 1)));
        self.halves(twice, bias, four)
    }

    /// `floor((bias + v) / unit) - floor((bias - v) / unit)`, both numerators positive.
    pub(super) fn halves(&mut self, v: Value, bias: Num, unit: Num) -> Value {
        let (bias, unit) = (self.val(bias), self.val(unit));
        let (up, down) = (self.add(bias, v), self.sub(bias, v));
        let (up, down) = (self.div(up, unit), self.div(down, unit));
        self.sub(up, down)
    }
}
