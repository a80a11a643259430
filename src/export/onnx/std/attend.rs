//! ROPE, KVWRITE and ATTEND in floats. Shapes: b texts, s tokens of the run, t with those of the cache.

use super::floats::capped;
use super::{Place, Query};
use crate::bytes::to_u32;
use crate::encoding::fixed::Scale;
use crate::export::onnx::graph::{Attr, Dim, Value};
use crate::export::onnx::int::math::Ints;
use crate::export::onnx::int::position::{transpose, unsqueeze, Positions, Way};
use crate::format::onnx::Elem;
use crate::program::{Scoring, TensorId};
use crate::runtime::Artifact;
use std::f64::consts::LN_2;

/// Keys and values of a layer, f32 `[b, KV, t, D]` once they are joined to those of the cache.
#[derive(Clone, Copy)]
pub struct Kv {
    pub layer: usize,
    pub keys: Value,
    pub values: Value,
    pub joined: bool,
}

/// ROPE.
pub fn rope(m: &mut Ints, a: &Artifact, at: &Positions, x: Value, freq: TensorId) -> Value {
    let d = a.program.attention.head_dim as i64;
    let x = m.reshape(x, &[0, 0, -1, d]);
    let x = rotated(m, a, at, x, Some(freq));
    m.reshape(x, &[0, 0, -1])
}

/// Heads `[b, s, heads, D]` turned to the positions of their tokens.
fn rotated(m: &mut Ints, a: &Artifact, at: &Positions, x: Value, freq: Option<TensorId>) -> Value {
    let Some(tensor) = freq.and_then(|f| a.program.tensors.get(f)) else { return x };
    let bytes = a.weights().get(tensor.data.start as usize..tensor.data.end as usize).unwrap_or(&[]);
    let freq: Vec<i64> = to_u32(bytes).iter().map(|f| i64::from(*f)).collect();
    let (r, d) = (freq.len(), a.program.attention.head_dim);
    let unit = (tensor.scale != Scale::ONE).then(|| m.g.f32(tensor.scale.to_f64() as f32));
    let unturned = |m: &mut Ints, x| unit.map_or(x, |u| m.g.op("Mul", &[x, u], &[]));
    if r == 0 {
        return unturned(m, x);
    }
    // Turns are counted in integers, so that no position is too far for a float.
    let freq = m.g.i64s(&[r as i64], &freq);
    let (place, turn) = (unsqueeze(m, at.at, &[2, 3]), m.i(1 << 32));
    let phase = m.g.op("Mul", &[place, freq], &[]);
    let phase = m.g.op("Mod", &[phase, turn], &[]);
    let (phase, step) = (m.g.cast(phase, Elem::F32), m.g.f32((std::f64::consts::TAU / 4_294_967_296.0) as f32));
    let angle = m.g.op("Mul", &[phase, step], &[]);
    let (cos, sin) = (m.g.op("Cos", &[angle], &[]), m.g.op("Sin", &[angle], &[]));
    let sizes: Vec<i64> = [r, r, d.saturating_sub(2 * r)].iter().filter(|n| **n > 0).map(|n| *n as i64).collect();
    let split = m.g.i64s(&[sizes.len() as i64], &sizes);
    let parts = m.g.op_n("Split", &[x, split], &[("axis", Attr::I(3))], sizes.len());
    let &[lo, hi, ref rest @ ..] = &parts[..] else { return x };
    let [ac, bs, bc, asin] = [(lo, cos), (hi, sin), (hi, cos), (lo, sin)].map(|(x, y)| m.g.op("Mul", &[x, y], &[]));
    let mut turned = vec![m.g.op("Sub", &[ac, bs], &[]), m.g.op("Add", &[bc, asin], &[])];
    if let [rest] = rest {
        turned.push(unturned(m, *rest));
    }
    m.g.op("Concat", &turned, &[("axis", Attr::I(3))])
}

/// KVWRITE: keys and values of the run behind those of the cache.
pub fn kvwrite(
    m: &mut Ints,
    &Place { a, at }: &Place,
    layer: usize,
    (k, v): (Value, Value),
    freq: Option<TensorId>,
) -> Kv {
    let shape = a.program.attention;
    let heads = [0, 0, shape.kv_heads as i64, shape.head_dim as i64];
    let k = m.reshape(k, &heads);
    let k = rotated(m, a, at, k, freq);
    let v = m.reshape(v, &heads);
    let mut joined = |new: Value, what: &str| {
        let new = transpose(m, new, &[0, 2, 1, 3]);
        if at.way == Way::Whole {
            return new;
        }
        let past = past(m, a, at, layer, what);
        m.g.op("Concat", &[past, new], &[("axis", Attr::I(2))])
    };
    Kv { layer, keys: joined(k, "key"), values: joined(v, "value"), joined: true }
}

/// The cache of keys or values that comes in.
pub fn past(m: &mut Ints, a: &Artifact, at: &Positions, layer: usize, what: &str) -> Value {
    m.g.input(&format!("past_key_values.{layer}.{what}"), Elem::F32, &dims(a, at, "past_sequence_length"))
}

/// The factors of a score: its own, and c of c tanh(score / c). The program counts in powers of two.
pub fn factors(scoring: &Scoring) -> (f32, Option<f64>) {
    ((scoring.softmax.to_f64() * LN_2) as f32, scoring.cap.map(|c| c.to_f64() * LN_2))
}

/// What ATTEND takes off each score for its distance, of the heads as `shape` has them: f32 `[b, KV, heads / KV, s, t]`.
pub fn slanted(m: &mut Ints, at: &Positions, slopes: Value, (n, each): (i64, i64)) -> Value {
    let ln2 = m.g.f32(LN_2 as f32);
    let slopes = m.reshape(slopes, &[n, each, 1, 1]);
    let slopes = m.g.op("Mul", &[slopes, ln2], &[]);
    let distance = at.distance(m);
    let distance = m.g.cast(distance, Elem::F32);
    m.g.op("Mul", &[distance, slopes], &[])
}

fn dims(a: &Artifact, at: &Positions, tokens: &'static str) -> [Dim; 4] {
    let shape = a.program.attention;
    [at.batch, Dim::N(shape.kv_heads as i64), Dim::Sym(tokens), Dim::N(shape.head_dim as i64)]
}

/// The caches behind the run, after all other outputs.
pub fn outputs(m: &mut Ints, a: &Artifact, at: &Positions, caches: &[Kv]) {
    if at.way == Way::Whole {
        return;
    }
    for kv in caches {
        for (v, what) in [(kv.keys, "key"), (kv.values, "value")] {
            m.g.output(v, &format!("present.{}.{what}", kv.layer), Elem::F32, &dims(a, at, "total_sequence_length"));
        }
    }
}

/// ATTEND. Query heads are grouped by the key/value head that they use: scores are `[b, KV, heads / KV, s, t]`.
pub fn attend(m: &mut Ints, &Place { a, at }: &Place, kv: &Kv, query: &Query) -> Value {
    let &Query { q, freq, scoring, slopes } = query;
    let shape = a.program.attention;
    let (h, n, d) = (shape.heads as i64, shape.kv_heads as i64, shape.head_dim as i64);
    let q = m.reshape(q, &[0, 0, h, d]);
    let q = rotated(m, a, at, q, freq);
    let q = m.reshape(q, &[0, 0, n, h / n, d]);
    let q = transpose(m, q, &[0, 2, 3, 1, 4]);
    let k = transpose(m, kv.keys, &[0, 1, 3, 2]);
    let (k, v) = (unsqueeze(m, k, &[2]), unsqueeze(m, kv.values, &[2]));
    let scores = m.g.op("MatMul", &[q, k], &[]);
    let (factor, cap) = factors(scoring);
    let factor = m.g.f32(factor);
    let mut scores = m.g.op("Mul", &[scores, factor], &[]);
    if let Some(c) = cap {
        scores = capped(m, scores, c);
    }
    if let Some(slopes) = slopes {
        let less = slanted(m, at, slopes, (n, h / n));
        scores = m.g.op("Sub", &[scores, less], &[]);
    }
    let (seen, never) = (at.seen(m, scoring.window), m.g.f32(-1e30));
    let scores = m.g.op("Where", &[seen, scores, never], &[]);
    let weights = m.g.op("Softmax", &[scores], &[("axis", Attr::I(-1))]);
    let y = m.g.op("MatMul", &[weights, v], &[]);
    let y = transpose(m, y, &[0, 3, 1, 2, 4]);
    m.reshape(y, &[0, 0, h * d])
}
