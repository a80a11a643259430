//! ROPE, and the rotation in KVWRITE and ATTEND. docs/semantics.md sections 4 and 5.

use super::math::Ints;
use super::position::{unsqueeze, Positions};
use super::Vector;
use crate::bytes::to_u32;
use crate::encoding::fixed::Scale;
use crate::export::onnx::graph::{Attr, Value};
use crate::kernels::tables::tables;
use crate::program::TensorId;
use crate::runtime::Artifact;

/// Cosines and sines of the run's tokens, i64 `[b, s, 1, R]`, 30 fraction bits.
struct Angles {
    cos: Value,
    sin: Value,
}

/// ROPE.
pub(super) fn op(m: &mut Ints, at: &Positions, art: &Artifact, src: &Vector, freq: TensorId) -> Vector {
    let d = art.program.attention.head_dim;
    let x = heads(m, src.x, src.n / d, d);
    let x = rotate(m, at, art, x, Some(freq));
    let shape = m.g.i64s(&[3], &[0, 0, src.n as i64]);
    Vector { x: m.g.op("Reshape", &[x, shape], &[]), scale: src.scale, n: src.n }
}

/// A vector `[b, s, n]` as heads `[b, s, n / d, d]`.
pub(super) fn heads(m: &mut Ints, x: Value, heads: usize, d: usize) -> Value {
    let shape = m.g.i64s(&[4], &[0, 0, heads as i64, d as i64]);
    m.g.op("Reshape", &[x, shape], &[])
}

/// Heads `[b, s, heads, d]` turned to the positions of their tokens.
pub(super) fn rotate(m: &mut Ints, at: &Positions, art: &Artifact, x: Value, freq: Option<TensorId>) -> Value {
    let Some(tensor) = freq.and_then(|f| art.program.tensors.get(f)) else { return x };
    let bytes = art.weights().get(tensor.data.start as usize..tensor.data.end as usize).unwrap_or(&[]);
    let freq = to_u32(bytes);
    let (r, d) = (freq.len(), art.program.attention.head_dim);
    let rest = d.saturating_sub(2 * r);
    if r == 0 {
        return unturned(m, x, tensor.scale);
    }
    let sizes: Vec<i64> = [r, r, rest].iter().filter(|n| **n > 0).map(|n| *n as i64).collect();
    let sizes = (m.g.i64s(&[sizes.len() as i64], &sizes), sizes.len());
    let parts = m.g.op_n("Split", &[x, sizes.0], &[("axis", Attr::I(3))], sizes.1);
    let (Some(lo), Some(hi)) = (parts.first().copied(), parts.get(1).copied()) else { return x };
    let a = angles(m, at, &freq);
    let (ac, bs) = (bin(m, "Mul", lo, a.cos), bin(m, "Mul", hi, a.sin));
    let (bc, as_) = (bin(m, "Mul", hi, a.cos), bin(m, "Mul", lo, a.sin));
    let (y, z) = (bin(m, "Sub", ac, bs), bin(m, "Add", bc, as_));
    let mut turned: Vec<Value> = [y, z].into_iter().map(|v| sat_rsr30(m, v)).collect();
    if let Some(part) = parts.get(2) {
        turned.push(unturned(m, *part, tensor.scale));
    }
    m.g.op("Concat", &turned, &[("axis", Attr::I(3))])
}

/// Channels that are not rotated.
fn unturned(m: &mut Ints, x: Value, u: Scale) -> Value {
    if u == Scale::ONE {
        return x;
    }
    let u = ints.scale(u);
    ints.apply(x, u, 0)
}

/// `sat(rsr(v, 30))`; v is below 2^61.6, the length of a turned pair.
fn sat_rsr30(m: &mut Ints, v: Value) -> Value {
    let v = ints.rsr_by(v, 30);
    ints.sat(v)
}

fn angles(m: &mut Ints, at: &Positions, freq: &[u32]) -> Angles {
    let freq: Vec<i64> = freq.iter().map(|f| i64::from(*f)).collect();
    let freq = m.g.i64s(&[freq.len() as i64], &freq);
    let at = unsqueeze(m, at.at, &[2, 3]);
    let (turn, quarter) = (m.g.i64(1 << 32), m.g.i64(1 << 30));
    let phase = bin(m, "Mul", at, freq);
    let ahead = bin(m, "Add", phase, quarter);
    let [cos, sin] = [ahead, phase].map(|p| {
        let p = m.g.op("Mod", &[p, turn], &[]);
        sine(m, p)
    });
    Angles { cos, sin }
}

/// `sin(p)` of a phase in 0 .. 2^32.
fn sine(m: &mut Ints, p: Value) -> Value {
    let sin = &tables().sin;
    let values: Vec<i64> = sin.iter().map(|v| i64::from(*v)).collect();
    // The step after the last value is never taken: its remainder is 0.
    let steps: Vec<i64> = (0..values.len()).map(|i| values.get(i + 1).map_or(0, |next| next - values[i])).collect();
    let n = values.len() as i64;
    let (values, steps) = (m.g.i64s(&[n], &values), m.g.i64s(&[n], &steps));
    let (two, half_turn, step) = (m.g.i64(2), m.g.i64(1 << 31), m.g.i64(1 << 20));
    // Beyond a half turn the sign changes; beyond a quarter of what is left the curve runs backwards.
    let lower = bin(m, "Div", p, half_turn);
    let p = m.g.op("Mod", &[p, half_turn], &[]);
    let back = bin(m, "Sub", half_turn, p);
    let u = m.g.op("Min", &[p, back], &[]);
    let i = bin(m, "Div", u, step);
    let r = m.g.op("Mod", &[u, step], &[]);
    let (base, slope) = (m.g.op("Gather", &[values, i], &[]), m.g.op("Gather", &[steps, i], &[]));
    let more = bin(m, "Mul", slope, r);
    let half = m.g.i64(1 << 19);
    let more = bin(m, "Add", more, half);
    let more = bin(m, "Div", more, step);
    let v = bin(m, "Add", base, more);
    let (one, twice) = (m.g.i64(1), bin(m, "Mul", lower, two));
    let sign = bin(m, "Sub", one, twice);
    bin(m, "Mul", v, sign)
}
