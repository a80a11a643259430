//! QUANTIZE, LINEAR, and the rows that EMBED and POSITION read.

use super::floats::reduce;
use crate::encoding::fixed::Scale;
use crate::export::onnx::graph::{Attr, Value};
use crate::export::onnx::int::math::Ints;
use crate::export::onnx::int::position::transpose;
use crate::export::onnx::weights::{Matrix, Part};
use crate::export::onnx::WeightForm;
use crate::format::onnx::Elem;
use crate::kernels::scalar::QuantRule;

/// Codes of a vector, whole numbers within a byte.
#[derive(Clone, Copy)]
pub struct Codes {
    /// f32 `[b, s, n]`.
    pub real: Value,
    /// Codes a unit: f32 `[b, s, 1]`.
    pub rate: Value,
}

/// QUANTIZE: each step is one float operation, so that every runtime gives the same codes.
pub fn quantize(m: &mut Ints, x: Value, rule: &QuantRule) -> Codes {
    let g = &mut m.g;
    let abs = g.op("Abs", &[x], &[]);
    let most = reduce(g, "ReduceMax", abs, -1);
    let (floor, qmax) = (g.f32(rule.floor.to_f64() as f32), g.f32(rule.qmax as f32));
    let most = g.op("Max", &[most, floor], &[]);
    let rate = g.op("Div", &[qmax, most], &[]);
    let y = g.op("Mul", &[x, rate], &[]);
    // As the program: what is nearer to a tie than 2^-17 is one. Products of few-bit numbers hit ties, and floats must not decide them.
    let (up, down) = (g.f32(65_536.0), g.f32(1.0 / 65_536.0));
    let y = g.op("Mul", &[y, up], &[]);
    let y = g.op("Round", &[y], &[]);
    let y = g.op("Mul", &[y, down], &[]);
    let y = g.op("Round", &[y], &[]);
    let (lo, hi) = (g.f32(rule.lo as f32), g.f32(rule.hi as f32));
    Codes { real: g.op("Clip", &[y, lo, hi], &[]), rate }
}

impl Codes {
    /// The codes as uint8 with zero point 128.
    pub fn bytes(&self, m: &mut Ints) -> Value {
        let middle = m.g.f32(128.0);
        let y = m.g.op("Add", &[self.real, middle], &[]);
        m.g.cast(y, Elem::U8)
    }
}

/// What the codes stand for.
pub fn reals(m: &mut Ints, c: &Codes) -> Value {
    m.g.op("Div", &[c.real, c.rate], &[])
}

/// LINEAR of codes: an exact sum of integers, then its scale.
pub fn linear<'a>(m: &mut Ints<'a>, n: usize, c: &Codes, w: &Matrix<'a>, form: WeightForm) -> Value {
    let middle = m.g.u8(128);
    let (operand, zero) = w.operand(&mut m.g, Part::Whole, form);
    let byte = c.bytes(m);
    let x = match w.group() {
        None => byte,
        Some(group) => {
            let count = w.groups();
            let lacking = (count * group - w.cols) as i64;
            let mut x = byte;
            if lacking > 0 {
                // The weights of what fills the last group are 0: any codes do.
                let (from, to, axis) = (m.g.i64s(&[1], &[0]), m.g.i64s(&[1], &[lacking]), m.g.i64s(&[1], &[2]));
                let more = m.g.op("Slice", &[x, from, to, axis], &[]);
                x = m.g.op("Concat", &[x, more], &[("axis", Attr::I(2))]);
            }
            let x = m.reshape(x, &[0, 0, count as i64, group as i64]);
            m.g.op("Transpose", &[x], &[("perm", Attr::Ints(&[0, 2, 1, 3]))])
        }
    };
    let inputs = [x, operand, middle, zero.unwrap_or(Value::NONE)];
    let acc = m.g.op("MatMulInteger", &inputs[..if zero.is_some() { 4 } else { 3 }], &[]);
    m.g.name(acc, format!("op{n}.acc"));
    let y = m.g.cast(acc, Elem::F32);
    scaled(m, y, c, w)
}

/// Sums of codes, f32 `[b, s, out]` or with groups `[b, groups, s, out]`, times their scales.
pub fn scaled<'a>(m: &mut Ints<'a>, y: Value, c: &Codes, w: &Matrix<'a>) -> Value {
    match (w.one_scale(), w.scales(&mut m.g)) {
        (Some(s), _) => {
            let s = m.g.f32(s.to_f64() as f32);
            let s = m.g.op("Div", &[s, c.rate], &[]);
            m.g.op("Mul", &[y, s], &[])
        }
        (None, Some(scales)) => {
            let mut y = m.g.op("Mul", &[y, scales], &[]);
            if w.group().is_some() {
                let axis = m.g.i64s(&[1], &[1]);
                y = m.g.op("ReduceSum", &[y, axis], &[("keepdims", Attr::I(0))]);
            }
            m.g.op("Div", &[y, c.rate], &[])
        }
        (None, None) => m.g.op("Div", &[y, c.rate], &[]),
    }
}

/// LINEAR of a vector whose codes have more than 8 bits, or with weights that have: a product of floats. The file has the weights as integers,
/// the same that [`rows`] reads; runtimes make floats of them once, when they open it.
pub fn product<'a>(m: &mut Ints<'a>, x: Value, w: &Matrix<'a>) -> Value {
    let table = w.table(&mut m.g);
    // The other way round ONNX Runtime keeps the floats twice.
    let weights = transpose(m, table, &[1, 0]);
    let mut weights = m.g.cast(weights, Elem::F32);
    let grouped = w.group().is_some();
    if grouped {
        let scales = w.table_scales(&mut m.g, 1.0);
        let scales = transpose(m, scales, &[1, 0]);
        let scales = of_columns(m, w, scales, 0);
        weights = m.g.op("Mul", &[weights, scales], &[]);
    }
    let y = m.g.op("MatMul", &[x, weights], &[]);
    let by = match (w.one_scale(), grouped) {
        (_, true) => return y,
        (Some(s), _) => Some(m.g.f32(s.to_f64() as f32)),
        (None, _) => w.scales(&mut m.g),
    };
    by.map_or(y, |by| m.g.op("Mul", &[y, by], &[]))
}

/// The scale of each column, of scales by groups of columns in dimension `axis`.
fn of_columns<'a>(m: &mut Ints<'a>, w: &Matrix<'a>, scales: Value, axis: i64) -> Value {
    let Some(group) = w.group() else { return scales };
    let of: Vec<i64> = (0..w.cols).map(|c| (c / group) as i64).collect();
    let of = m.g.i64s(&[w.cols as i64], &of);
    m.g.op("Gather", &[scales, of], &[("axis", Attr::I(axis))])
}

/// Rows of a table times `factor`; `ids` is `[b, s]`.
pub fn rows<'a>(m: &mut Ints<'a>, ids: Value, t: &Matrix<'a>, factor: Scale) -> Value {
    let table = t.table(&mut m.g);
    let axis = [("axis", Attr::I(0))];
    let row = m.g.op("Gather", &[table, ids], &axis);
    let x = m.g.cast(row, Elem::F32);
    let by = match t.one_scale() {
        Some(s) => m.g.f32((s.to_f64() * factor.to_f64()) as f32),
        None => {
            let scales = t.table_scales(&mut m.g, factor.to_f64());
            let by = m.g.op("Gather", &[scales, ids], &axis);
            of_columns(m, t, by, 2)
        }
    };
    m.g.op("Mul", &[x, by], &[])
}
