//! LINEAR, and the rows that EMBED and POSITION read.

use super::math::{Ints, Num, Range};
use super::scale::ScaleV;
use super::vector::{Codes, Vector};
use crate::encoding::fixed::{bitlen, Scale, I32_LIMIT};
use crate::error::{Error, Result};
use crate::export::onnx::graph::{Attr, Value};
use crate::export::onnx::weights::{Matrix, Part};
use crate::export::onnx::WeightForm;
use crate::format::onnx::Elem;
use crate::program::ScaleMode;

/// One of the operands of a product whose bytes make up a wider number.
struct Plane {
    value: Value,
    zero: Option<Value>,
    /// What a unit of it counts.
    unit: i64,
    /// Largest magnitude less the zero point.
    max: i64,
}

/// LINEAR of the codes.
///
/// # Errors
/// `Unsupported` if a product would not fit 64 bits.
pub fn linear<'a>(m: &mut Ints<'a>, ids: Value, codes: &Codes, w: &Matrix<'a>, form: WeightForm) -> Result<Vector> {
    let bound = i64::from(codes.qmax) * w.enc.wmax() as i64 * w.cols as i64;
    let big = bitlen(bound as u64);
    let (a, b) = (big.saturating_sub(30), big.min(30));
    let down = |bound: i64| if a > 0 { (bound >> a) + 1 } else { bound };
    let shift = Num::of(a.into());
    if let ScaleMode::Group(group) = w.mode() {
        let (acc, most) = groups(m, codes, w, form, group.min(w.cols).max(1))?;
        let acc = m.rsr(acc, Range::around(most), shift);
        return Ok(grouped(m, ids, acc, codes, w, [a, b], down(most)));
    }
    let acc = product(m, codes, w, form)?;
    let acc = m.rsr(acc, Range::around(bound), shift);
    let (x, max, scale) = match w.one_scale() {
        Some(s) => {
            let up = m.i(1 << (30 - b));
            let x = if b < 30 { m.mul2(acc, up) } else { acc };
            let s = m.mul(codes.scale, ScaleV::of(s));
            (x, down(bound) << (30 - b), m.shl(s, Num::of(i64::from(b) - 30 + i64::from(a))))
        }
        None => {
            let stored: Vec<(i64, i64)> = (0..w.rows).map(|r| stored(w, r, 0, i64::from(b) + 1)).collect();
            let x = times_each(m, acc, &[w.rows as i64], &stored, down(bound));
            let max = stored.iter().map(|(k, s)| ((down(bound) * k) >> s) + 1).max().unwrap_or(0);
            (x, max, m.shl(codes.scale, Num::of(i64::from(w.base().e) + i64::from(b) + 1 + i64::from(a))))
        }
    };
    Ok(Vector { x, scale, max, n: w.rows })
}

/// Mantissa and shift, `more` bits further, of a stored scale; a shift that leaves nothing becomes a factor of 0.
fn stored(w: &Matrix, row: usize, group: usize, more: i64) -> (i64, i64) {
    let (k, h) = w.stored_scale(row, group);
    match i64::from(h) + more {
        63.. => (0, 62),
        s => (k.into(), s),
    }
}

/// `rsr(v * factor, shift)` with a factor and a shift for each element of the last dimensions; abs(v) ≤ max ≤ 2^30.
fn times_each(m: &mut Ints, v: Value, dims: &[i64], stored: &[(i64, i64)], max: i64) -> Value {
    let mut table = |f: &dyn Fn(i64, i64) -> i64| {
        let values: Vec<i64> = stored.iter().map(|(k, s)| f(*k, *s)).collect();
        match values.first() {
            Some(first) if values.iter().all(|v| v == first) => (Some(*first), m.g.i64(*first)),
            _ => (None, m.g.i64s(dims, &values)),
        }
    };
    let top = stored.iter().map(|(_, s)| *s).max().unwrap_or(0);
    let most = stored.iter().map(|(k, _)| *k).max().unwrap_or(0);
    let bias = (max * most).max(1).unsigned_abs().next_power_of_two().max(1 << top) as i64;
    let half = |s: i64| if s > 0 { 1 << (s - 1) } else { 0 };
    let bias_at = |s: i64| if s > 0 { bias } else { 0 };
    let (_, factor) = table(&|k, _| k);
    let (_, first) = table(&|_, s| half(s) + bias_at(s));
    let (unit, by) = table(&|_, s| 1 << s);
    let (_, last) = table(&|_, s| bias_at(s) >> s);
    let v = m.mul2(v, factor);
    if unit == Some(1) {
        return v;
    }
    let v = m.add(v, first);
    let v = m.div(v, by);
    m.sub(v, last)
}

/// The planes of codes and of weights.
fn planes<'a>(m: &mut Ints<'a>, codes: &Codes, w: &Matrix<'a>, form: WeightForm) -> (Vec<Plane>, Vec<Plane>) {
    let (zero, middle) = (m.g.u8(0), m.g.u8(128));
    let left = match codes.low {
        None => vec![Plane { value: codes.byte, zero: Some(middle), unit: 1, max: codes.qmax.into() }],
        Some(low) => vec![
            Plane { value: codes.byte, zero: Some(middle), unit: 256, max: 128 },
            Plane { value: low, zero: Some(zero), unit: 1, max: 255 },
        ],
    };
    let mut operand = |part, unit, max| {
        let (value, zero) = w.operand(&mut m.g, part, form);
        Plane { value, zero, unit, max }
    };
    let right = match w.enc.wmax() as i64 {
        max @ 0..=128 => vec![operand(Part::Whole, 1, max)],
        _ => vec![operand(Part::High, 256, 128), operand(Part::Low, 1, 255)],
    };
    (left, right)
}

/// Most columns whose products fit the 32 bits of an accumulator.
fn fitting(left: &Plane, right: &Plane) -> usize {
    (i64::from(i32::MAX) / (left.max * right.max).max(1)) as usize
}

/// The sum of the products of all planes, int64.
fn product<'a>(m: &mut Ints<'a>, codes: &Codes, w: &Matrix<'a>, form: WeightForm) -> Result<Value> {
    let (left, right) = planes(m, codes, w, form);
    let mut sum = None;
    for l in &left {
        for r in &right {
            let step = fitting(l, r);
            for from in (0..w.cols).step_by(step) {
                let to = w.cols.min(from + step);
                let (x, y) = match to - from == w.cols {
                    true => (l.value, r.value),
                    false => (cut(m, l.value, from, to, 2), cut(m, r.value, from, to, 0)),
                };
                sum = Some(accumulate(m, sum, (x, l), (y, r)));
            }
        }
    }
    sum.ok_or_else(|| Error::unsupported("a matrix without columns"))
}

/// `sum + x y`, the units of both planes counted.
fn accumulate(m: &mut Ints, sum: Option<Value>, (x, l): (Value, &Plane), (y, r): (Value, &Plane)) -> Value {
    let zeros = [l.zero, r.zero].map(|z| z.unwrap_or(Value::NONE));
    let inputs = [x, y, zeros[0], zeros[1]];
    let given = if r.zero.is_some() { 4 } else { 3 };
    let acc = m.g.op("MatMulInteger", &inputs[..given], &[]);
    let mut acc = m.g.cast(acc, Elem::I64);
    if l.unit * r.unit != 1 {
        let unit = m.i(l.unit * r.unit);
        acc = m.mul2(acc, unit);
    }
    match sum {
        None => acc,
        Some(s) => m.add(s, acc),
    }
}

/// Elements `from..to` of one dimension.
pub(super) fn cut(m: &mut Ints, v: Value, from: usize, to: usize, axis: i64) -> Value {
    let one = |m: &mut Ints, k: i64| m.g.i64s(&[1], &[k]);
    let (from, to, axis) = (one(m, from as i64), one(m, to as i64), one(m, axis));
    m.g.op("Slice", &[v, from, to, axis], &[])
}

/// Accumulators of each group of columns, `[groups, tokens, out]`, and the bound of their magnitudes.
fn groups<'a>(m: &mut Ints<'a>, codes: &Codes, w: &Matrix<'a>, form: WeightForm, group: usize) -> Result<(Value, i64)> {
    let count = w.cols.div_ceil(group);
    let most = i64::from(codes.qmax) * w.enc.wmax() as i64 * group as i64;
    let (mut left, right) = planes(m, codes, w, form);
    for l in &mut left {
        // The weights of what fills the last group are 0: any codes do.
        let lacking = count * group - w.cols;
        if lacking > 0 {
            let more = cut(m, l.value, 0, lacking, 2);
            l.value = m.g.op("Concat", &[l.value, more], &[("axis", Attr::I(2))]);
        }
        let split = m.reshape(l.value, &[-1, count as i64, group as i64]);
        l.value = m.g.op("Transpose", &[split], &[("perm", Attr::Ints(&[1, 0, 2]))]);
    }
    let mut sum = None;
    for l in &left {
        for r in &right {
            if fitting(l, r) < group {
                return Err(Error::unsupported("groups of so many columns that a sum does not fit 32 bits"));
            }
            let y = match w.group() {
                Some(_) => r.value,
                // One group is a matrix of two dimensions.
                None => m.reshape(r.value, &[1, w.cols as i64, w.rows as i64]),
            };
            sum = Some(accumulate(m, sum, (l.value, l), (y, r)));
        }
    }
    let sum = sum.ok_or_else(|| Error::unsupported("a matrix without columns"))?;
    Ok((sum, most))
}

/// The accumulators of groups, already within 30 bits, times their scales.
fn grouped(m: &mut Ints, ids: Value, acc: Value, codes: &Codes, w: &Matrix, [a, b]: [u32; 2], most: i64) -> Vector {
    let count = w.groups();
    let table: Vec<(i64, i64)> =
        (0..count).flat_map(|k| (0..w.rows).map(move |r| (r, k))).map(|(r, k)| stored(w, r, k, 0)).collect();
    let each = times_each(m, acc, &[count as i64, 1, w.rows as i64], &table, most);
    // [groups, tokens, out] as [batch, sequence, out]. A product with ones adds in integers.
    let (flat, ones) = (m.reshape(each, &[count as i64, -1]), m.g.i64s(&[1, count as i64], &vec![1; count]));
    let sum = m.g.op("MatMul", &[ones, flat], &[]);
    let (tokens, out) = (m.g.op("Shape", &[ids], &[]), m.g.i64s(&[1], &[w.rows as i64]));
    let dims = m.g.op("Concat", &[tokens, out], &[("axis", Attr::I(0))]);
    let sum = m.g.op("Reshape", &[sum, dims], &[]);
    let bound = (0..w.rows)
        .map(|r| (0..count).map(|k| table[k * w.rows + r]).map(|(m, s)| ((most * m) >> s) + 1).sum::<i64>())
        .max()
        .unwrap_or(0)
        .min(1 << 62);
    let by = i64::from(b) + 1;
    let x = m.rsr(sum, Range::around(bound), Num::of(by));
    let scale = m.shl(codes.scale, Num::of(i64::from(w.base().e) + by + i64::from(a)));
    Vector { x, scale, max: (bound >> by) + 1, n: w.rows }
}

/// Rows of a table as fixed point with `frac` fraction bits; `ids` is `[batch, sequence]`.
pub fn rows<'a>(m: &mut Ints<'a>, ids: Value, t: &Matrix<'a>, factor: Option<Scale>, frac: i64) -> Value {
    let table = t.table(&mut m.g);
    let row = m.g.op("Gather", &[table, ids], &[("axis", Attr::I(0))]);
    let x = m.g.cast(row, Elem::I64);
    let times = |s: Scale| factor.map_or(s, |f| s.mul(f));
    let scale = match t.one_scale() {
        Some(s) => ScaleV::of(times(s)),
        None => {
            let count = t.groups();
            let all: Vec<Scale> =
                (0..t.rows).flat_map(|r| (0..count).map(move |k| (r, k))).map(|(r, k)| times(t.scale(r, k))).collect();
            let mut part = |f: &dyn Fn(&Scale) -> i64| of_rows(m, ids, t, &all.iter().map(f).collect::<Vec<_>>());
            ScaleV { m: part(&|s| s.m.into()), e: part(&|s| s.e.into()) }
        }
    };
    m.apply(x, t.enc.wmax() as i64, scale, Num::of(frac), I32_LIMIT)
}

/// The values that belong to the rows of `ids`, one for each group of a row, laid beside each element if there are several.
fn of_rows(m: &mut Ints, ids: Value, t: &Matrix, values: &[i64]) -> Num {
    let (lo, hi) = (values.iter().min().copied().unwrap_or(0), values.iter().max().copied().unwrap_or(0));
    if lo == hi {
        return Num::of(lo);
    }
    let words: Vec<i32> = values.iter().map(|v| *v as i32).collect();
    let table = m.g.i32s(&[t.rows as i64, t.groups() as i64], &words);
    let mut v = m.g.op("Gather", &[table, ids], &[("axis", Attr::I(0))]);
    if let Some(g) = t.group() {
        let of: Vec<i64> = (0..t.cols).map(|c| (c / g) as i64).collect();
        let of = m.g.i64s(&[t.cols as i64], &of);
        v = m.g.op("Gather", &[v, of], &[("axis", Attr::I(2))]);
    }
    let v = m.g.cast(v, Elem::I64);
    Num::value(v, lo, hi)
}
