//! LINEAR as MatMulNBits.
//!
//! At accuracy level 4 a runtime rounds the activations of each block to 127 steps of the block's largest one. Codes go in as they are, whole
//! numbers of at most 127, and the last element of every block is 127 with a weight of 0: then a step is 1, and nothing is lost.

use super::blocks::Layout;
use crate::export::onnx::graph::{Attr, Value};
use crate::export::onnx::int::math::Ints;
use crate::export::onnx::std::linear::{scaled, Codes};
use crate::export::onnx::weights::Matrix;

/// The largest step of a block of activations at accuracy level 4.
const FULL: f32 = 127.0;

/// LINEAR of codes. `exact`: at accuracy level 1, under which nothing is rounded.
pub fn sums<'a>(m: &mut Ints<'a>, n: usize, c: &Codes, w: &Matrix<'a>, bits: u32, exact: bool) -> Value {
    let layout = Layout::of(w, bits, !exact);
    let x = spread(m, c.real, &layout);
    let level = if exact { 1 } else { 4 };
    if w.group().is_some() {
        let scales = layout.scales(&mut m.g, w);
        let y = multiply(m, x, w, &layout, scales, level);
        return m.g.op("Div", &[y, c.rate], &[]);
    }
    let ones = layout.ones(&mut m.g, w);
    let y = multiply(m, x, w, &layout, ones, level);
    m.g.name(y, format!("op{n}.acc"));
    scaled(m, y, c, w)
}

/// LINEAR of a vector that no byte holds: weights are exact, activations are floats.
pub fn product<'a>(m: &mut Ints<'a>, x: Value, w: &Matrix<'a>, bits: u32) -> Value {
    let layout = Layout::of(w, bits, false);
    let x = spread(m, x, &layout);
    let scales = layout.scales(&mut m.g, w);
    multiply(m, x, w, &layout, scales, 1)
}

fn multiply<'a>(m: &mut Ints<'a>, x: Value, w: &Matrix<'a>, l: &Layout, scales: Value, level: i64) -> Value {
    let codes = l.codes(&mut m.g, w);
    let attrs = [
        ("K", Attr::I(l.k() as i64)),
        ("N", Attr::I(w.rows as i64)),
        ("bits", Attr::I(l.bits.into())),
        ("block_size", Attr::I(l.block as i64)),
        ("accuracy_level", Attr::I(level)),
    ];
    m.g.ms_op_n("MatMulNBits", &[x, codes, scales], &attrs, 1).first().copied().unwrap_or(Value::NONE)
}

/// The elements of a vector `[b, s, n]` where the layout has their columns. Where it has none the weights are 0, and any element of the vector
/// does; but the last element of a block that has room for no column is [`FULL`].
pub fn spread(m: &mut Ints, x: Value, l: &Layout) -> Value {
    if l.is_plain() {
        return x;
    }
    let x = widened(m, x, 2, l.cols as i64, (l.groups * l.group) as i64);
    let x = m.reshape(x, &[0, 0, l.groups as i64, l.group as i64]);
    let x = widened(m, x, 3, l.group as i64, (l.each * l.room) as i64);
    let mut x = m.reshape(x, &[0, 0, l.blocks() as i64, l.room as i64]);
    if l.room < l.block {
        let first = front(m, x, 3, 1);
        let full = m.g.f32(FULL);
        let guard = m.g.op("Clip", &[first, full, full], &[]);
        x = m.g.op("Concat", &[x, guard], &[("axis", Attr::I(3))]);
    }
    m.reshape(x, &[0, 0, l.k() as i64])
}

/// The first `n` along a dimension.
pub fn front(m: &mut Ints, x: Value, axis: i64, n: i64) -> Value {
    let (from, to, axis) = (m.g.i64s(&[1], &[0]), m.g.i64s(&[1], &[n]), m.g.i64s(&[1], &[axis]));
    m.g.op("Slice", &[x, from, to, axis], &[])
}

/// A dimension of `from` made `to` long with what is there.
fn widened(m: &mut Ints, x: Value, axis: i64, from: i64, to: i64) -> Value {
    if from >= to || from == 0 {
        return x;
    }
    let mut parts = vec![x; (to / from) as usize];
    if to % from > 0 {
        parts.push(front(m, x, axis, to % from));
    }
    m.g.op("Concat", &parts, &[("axis", Attr::I(axis))])
}
