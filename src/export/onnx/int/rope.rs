//! ROPE, and the rotation in KVWRITE and ATTEND. docs/semantics.md sections 4 and 5.

use super::math::{Ints, Num, Range};
use super::position::{unsqueeze, Positions};
use super::scale::ScaleV;
use super::vector::Vector;
use crate::bytes::to_u32;
use crate::encoding::fixed::{Scale, I32_LIMIT};
use crate::export::onnx::graph::{Attr, Value};
use crate::kernels::tables::tables;
use crate::program::TensorId;
use crate::runtime::Artifact;

/// Bound of sqrt(2) with 30 fraction bits and the error of the sine table: how much longer a channel can be after a turn.
const TURN: i64 = 1_518_502_000;

/// ROPE.
pub(super) fn rope(m: &mut Ints, a: &Artifact, at: &Positions, src: &Vector, freq: TensorId) -> Vector {
    let d = a.program.attention.head_dim;
    let x = heads(m, src.x, src.n / d, d);
    let (x, max) = rotate(m, at, a, x, src.max, Some(freq));
    Vector { x: m.reshape(x, &[0, 0, src.n as i64]), scale: src.scale, max, n: src.n }
}

/// A vector `[b, s, n]` as heads `[b, s, n / d, d]`.
pub(super) fn heads(m: &mut Ints, x: Value, heads: usize, d: usize) -> Value {
    m.reshape(x, &[0, 0, heads as i64, d as i64])
}

/// Heads `[b, s, heads, d]` turned to the positions of their tokens, and the bound of their elements.
pub(super) fn rotate(
    m: &mut Ints,
    at: &Positions,
    a: &Artifact,
    x: Value,
    max: i64,
    freq: Option<TensorId>,
) -> (Value, i64) {
    let Some(tensor) = freq.and_then(|f| a.program.tensors.get(f)) else { return (x, max) };
    let bytes = a.weights().get(tensor.data.start as usize..tensor.data.end as usize).unwrap_or(&[]);
    let freq = to_u32(bytes);
    let (r, d) = (freq.len(), a.program.attention.head_dim);
    if r == 0 {
        return (unturned(m, x, max, tensor.scale), I32_LIMIT);
    }
    let sizes: Vec<i64> = [r, r, d.saturating_sub(2 * r)].iter().filter(|n| **n > 0).map(|n| *n as i64).collect();
    let split = m.g.i64s(&[sizes.len() as i64], &sizes);
    let parts = m.g.op_n("Split", &[x, split], &[("axis", Attr::I(3))], sizes.len());
    let &[lo, hi, ref rest @ ..] = &parts[..] else { return (x, max) };
    let [cos, sin] = angles(m, at, &freq);
    let (ac, bs) = (m.mul2(lo, cos), m.mul2(hi, sin));
    let (bc, asin) = (m.mul2(hi, cos), m.mul2(lo, sin));
    let range = Range::around(max.saturating_mul(TURN));
    let longer = (i128::from(max) * i128::from(TURN) >> 30) as i64 + 1;
    let mut turned = vec![m.sub(ac, bs), m.add(bc, asin)];
    for v in &mut turned {
        *v = m.rsr(*v, range, Num::of(30));
        if longer > I32_LIMIT {
            *v = m.clamp(*v, -I32_LIMIT, I32_LIMIT);
        }
    }
    if let [rest] = rest {
        turned.push(unturned(m, *rest, max, tensor.scale));
    }
    (m.g.op("Concat", &turned, &[("axis", Attr::I(3))]), I32_LIMIT)
}

/// Channels that are not rotated.
fn unturned(m: &mut Ints, x: Value, max: i64, u: Scale) -> Value {
    if u == Scale::ONE {
        return x;
    }
    m.apply(x, max, ScaleV::of(u), Num::of(0), I32_LIMIT)
}

/// Cosines and sines of the run's tokens, i64 `[b, s, 1, R]`, 30 fraction bits.
fn angles(m: &mut Ints, at: &Positions, freq: &[u32]) -> [Value; 2] {
    let freq: Vec<i64> = freq.iter().map(|f| i64::from(*f)).collect();
    let freq = m.g.i64s(&[freq.len() as i64], &freq);
    let at = unsqueeze(m, at.at, &[2, 3]);
    let (turn, quarter) = (m.i(1 << 32), m.i(1 << 30));
    let phase = m.mul2(at, freq);
    let ahead = m.add(phase, quarter);
    [ahead, phase].map(|p| {
        let p = m.g.op("Mod", &[p, turn], &[]);
        sine(m, p)
    })
}

/// `sin(p)` of a phase in 0 .. 2^32.
fn sine(m: &mut Ints, p: Value) -> Value {
    let values: Vec<i64> = tables().sin.iter().map(|v| i64::from(*v)).collect();
    // After the last value no step is taken: the remainder there is 0.
    let steps: Vec<i64> = values.windows(2).map(|w| w[1] - w[0]).chain([0]).collect();
    let n = values.len() as i64;
    let (values, steps) = (m.g.i64s(&[n], &values), m.g.i64s(&[n], &steps));
    let (half_turn, step) = (m.i(1 << 31), m.i(1 << 20));
    // Beyond half a turn the sign is another; in the second half of what is left the curve runs backwards.
    let lower = m.div(p, half_turn);
    let p = m.g.op("Mod", &[p, half_turn], &[]);
    let quarter = m.i(1 << 30);
    let off = m.sub(p, quarter);
    let off = m.g.op("Abs", &[off], &[]);
    let u = m.sub(quarter, off);
    let i = m.div(u, step);
    let r = m.g.op("Mod", &[u, step], &[]);
    let axis = [("axis", Attr::I(0))];
    let (base, slope) = (m.g.op("Gather", &[values, i], &axis), m.g.op("Gather", &[steps, i], &axis));
    let (more, half) = (m.mul2(slope, r), m.i(1 << 19));
    let more = m.add(more, half);
    let more = m.div(more, step);
    let v = m.add(base, more);
    let sign = m.lookup(Num::value(lower, 0, 1), |l| 1 - 2 * l);
    let sign = m.val(sign);
    m.mul2(v, sign)
}
