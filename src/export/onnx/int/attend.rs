//! ATTEND. docs/semantics.md section 5.
//!
//! Query heads are grouped by the key/value head they use: the tensors of scores are `[b, KV, heads / KV, s, t]`. They are what is large in a
//! graph, so what does not differ between the heads of a group is computed once for it, and nothing is done to them that a table or a smaller
//! tensor can do.

use super::cache::{by_head, statics, Given, Kv, StaticKeys};
use super::math::{Ints, Num, Range};
use super::position::{transpose, Positions};
use super::rope::{heads, rotate};
use super::scale::ScaleV;
use super::vector::Vector;
use crate::bytes::to_i32;
use crate::encoding::fixed::{bitlen, I32_LIMIT};
use crate::export::onnx::graph::Value;
use crate::program::Scoring;
use crate::runtime::Artifact;

/// Below any score, by more than the weights have bits.
const UNSEEN: i64 = -(1 << 34);
/// Exponents of a query beyond which every score is 0 or at its limit, whatever the key's.
const FAR: i64 = 1 << 14;
/// Bits of a query.
const BITS: i64 = 30;

/// ATTEND.
pub(super) fn attend(
    m: &mut Ints,
    a: &Artifact,
    at: &Positions,
    kv: &Kv,
    q: &Vector,
    given: Given,
    scoring: &Scoring,
) -> Vector {
    let shape = a.program.attention;
    let (h, d) = (shape.heads, shape.head_dim);
    let x = heads(m, q.x, h, d);
    let (x, max) = rotate(m, at, a, x, q.max, given.freq);
    let scale = by_head(m, q.scale);
    let (mut x, mut up) = normalised(m, x, max);
    let fixed = statics(a, given.keys);
    if let Some(f) = &fixed {
        x = by_channel(m, f, x, (h, shape.kv_heads, d));
        let (again, more) = normalised(m, x, 1 << BITS);
        x = again;
        up = m.plus(up, more);
    }
    let scale = m.shl(scale, up);
    let scale = m.mul(scale, ScaleV::of(scoring.softmax));
    let query = Query { x, scale };
    let t = scores(m, a, at, kv, &query);
    let t = biased(m, a, at, t, scoring);
    weighed(m, a, at, kv, t)
}

/// A query of 30 bits, `[b, s, H, D]`, and its scale times that of the softmax, `[b, s, H, 1]`.
struct Query {
    x: Value,
    scale: ScaleV,
}

/// Heads brought to 30 bits, and the change of their exponents `[b, s, H, 1]`. That of a head of zeros is never used: its scores are 0.
fn normalised(m: &mut Ints, x: Value, max: i64) -> (Value, Num) {
    let most = m.max_abs(x, max);
    let n = m.bitlen(most);
    // Up to 31 bits and down by one: a shift to the right is needed for 31 bits only.
    let up = m.lookup(n, |n| 1 << (31 - n).clamp(0, 31));
    let up = m.val(up);
    let x = m.mul2(x, up);
    (m.rsr(x, Range::around(I32_LIMIT), Num::of(1)), n.offset(-BITS))
}

/// Queries times the scales of the channels of static keys.
fn by_channel(m: &mut Ints, f: &StaticKeys, x: Value, (heads, kv, d): (usize, usize, usize)) -> Value {
    let each = heads / kv;
    let of = |values: &dyn Fn(usize) -> i64| -> Vec<i64> {
        (0..heads * d).map(|i| values(i / d / each * d + i % d)).collect()
    };
    // abs(q km) < 2^61, so a shift of 62 gives the 0 that any longer one does.
    let shift = |i: usize| 31 + f.key_h[i].min(31);
    let dims = [heads as i64, d as i64];
    let by = m.g.i64s(&dims, &of(&|i| f.key_m[i]));
    let bias = m.g.i64s(&dims, &of(&|i| (1 << 62) + (1 << (shift(i) - 1))));
    let unit = m.g.i64s(&dims, &of(&|i| 1 << shift(i)));
    let last = m.g.i64s(&dims, &of(&|i| 1 << (62 - shift(i))));
    let x = m.mul2(x, by);
    let x = m.add(x, bias);
    let x = m.div(x, unit);
    m.sub(x, last)
}

/// Scores with 20 fraction bits, `[b, KV, H / KV, s, t]`.
fn scores(m: &mut Ints, a: &Artifact, at: &Positions, kv: &Kv, q: &Query) -> Value {
    let shape = a.program.attention;
    let (n, d) = (shape.kv_heads as i64, shape.head_dim);
    let each = (shape.heads / shape.kv_heads) as i64;
    let g = shape.k_bits - 1 + bitlen(d as u64 - 1);
    let x = m.reshape(q.x, &[0, 0, n, each, d as i64]);
    let x = transpose(m, x, &[0, 2, 3, 1, 4]);
    let x = m.reshape(x, &[0, 0, -1, d as i64]);
    let acc = m.g.op("MatMul", &[x, kv.keys], &[]);
    let code = 1i64 << (shape.k_bits - 1);
    let s = m.rsr(acc, Range::around((code * d as i64) << BITS), Num::of(g.into()));
    let s = m.g.op("Reshape", &[s, at.scores], &[]);
    // [b, s, H, 1] becomes [b, KV, H / KV, s, 1]; the mantissa is one for all heads of a token.
    let e = m.clip(q.scale.e, -FAR, FAR);
    let e = grouped(m, e, n, each);
    let mantissa = match q.scale.m.constant() {
        Some(_) => q.scale.m,
        None => {
            let v = m.val(q.scale.m);
            Num::value(m.reshape(v, &[0, 1, 1, -1, 1]), q.scale.m.lo, q.scale.m.hi)
        }
    };
    let scale = m.mul(ScaleV { m: mantissa, e: Num::of(0) }, kv.key_scale);
    let e = m.plus(scale.e, e).offset(g.into());
    let scale = ScaleV { m: scale.m, e };
    m.apply(s, 1 << BITS, scale, Num::of(20), I32_LIMIT)
}

/// A number of each head, `[b, s, H, 1]`, as `[b, KV, H / KV, s, 1]`.
fn grouped(m: &mut Ints, n: Num, kv: i64, each: i64) -> Num {
    if n.constant().is_some() {
        return n;
    }
    let v = m.val(n);
    let v = m.reshape(v, &[0, 0, kv, each, 1]);
    Num::value(transpose(m, v, &[0, 2, 3, 1, 4]), n.lo, n.hi)
}

/// Cap, slopes, and what is not seen.
fn biased(m: &mut Ints, a: &Artifact, at: &Positions, mut t: Value, scoring: &Scoring) -> Value {
    let shape = a.program.attention;
    if let Some(cap) = scoring.cap {
        t = m.softcap(t, cap, 20);
    }
    if let Some(tensor) = scoring.slopes.and_then(|t| a.program.tensors.get(t)) {
        let bytes = a.weights().get(tensor.data.start as usize..tensor.data.end as usize).unwrap_or(&[]);
        let slopes: Vec<i64> = to_i32(bytes).into_iter().map(i64::from).collect();
        let each = (shape.heads / shape.kv_heads) as i64;
        let most = slopes.iter().map(|s| s.abs()).max().unwrap_or(0);
        let slopes = m.g.i64s(&[shape.kv_heads as i64, each, 1, 1], &slopes);
        let distance = at.distance(m);
        // What lies ahead is not seen; in a graph for W tokens nothing is farther than W.
        let far = shape.window as i64;
        let distance = m.clamp_narrow(distance, 0, far);
        let back = m.mul2(distance, slopes);
        let back = shift(m, back, far * most, -(i64::from(tensor.scale.e) + 50));
        let sum = m.sub(t, back);
        t = m.clamp(sum, -I32_LIMIT, I32_LIMIT);
    }
    let (seen, unseen) = (at.seen(m, scoring.window), m.i(UNSEEN));
    m.g.op("Where", &[seen, t, unseen], &[])
}

/// `shift(v, s)` of values up to `max`.
fn shift(m: &mut Ints, v: Value, max: i64, s: i64) -> Value {
    let v = match s {
        0.. => m.rsr(v, Range::around(max), Num::of(s)),
        // Limited first: what is beyond the limit is so after a shift, too.
        _ => {
            let (v, by) = (m.clamp(v, -I32_LIMIT, I32_LIMIT), m.i(1 << s.unsigned_abs().min(31)));
            m.mul2(v, by)
        }
    };
    m.clamp(v, -I32_LIMIT, I32_LIMIT)
}

/// Softmax of the scores and the sum of the values.
fn weighed(m: &mut Ints, a: &Artifact, at: &Positions, kv: &Kv, t: Value) -> Vector {
    let shape = a.program.attention;
    let (n, d) = (shape.heads * shape.head_dim, shape.head_dim as i64);
    let each = (shape.heads / shape.kv_heads) as i64;
    let bits = i64::from(shape.v_bits);
    let most = m.reduce_max_of(t, 4);
    let below = m.sub(most, t);
    let e = m.exp2n(below);
    let total = m.reduce_sum(e, 4);
    let total = Num::value(total, 1 << 30, (shape.window as i64) << 30);
    // The largest exponent of the values that are visible, `[b, 1, 1, s, 1]`.
    let ve = m.val(kv.value_scale.e);
    let any = m.reduce_max_of(ve, 1);
    let least = m.i(kv.value_scale.e.lo);
    let any = m.g.op("Where", &[at.visible, any, least], &[]);
    let top = m.reduce_max_of(any, 4);
    let top = Num::value(top, kv.value_scale.e.lo, kv.value_scale.e.hi);
    // e vm is below 2^61: a shift of 62 gives the 0 that any longer one does. What is not visible has e = 0 whatever the shift.
    let by = m.minus(top, kv.value_scale.e).offset(31);
    let by = m.clip(by, 31, 62);
    let vm = m.val(kv.value_scale.m);
    let w = m.mul2(e, vm);
    let w = m.rsr(w, Range::upto(I32_LIMIT << 30), by);
    let w = m.g.op("Reshape", &[w, at.rows], &[]);
    let sums = m.g.op("MatMul", &[w, kv.values], &[]);
    let sums = m.reshape(sums, &[0, 0, each, -1, d]);
    let len = m.bitlen(total);
    let z = m.max(len.offset(bits - 32), Num::of(0));
    let most = (shape.window as i64) << (30 + bits - 1);
    let y = m.rsr(sums, Range::around(most - 1), z);
    let r = m.norm(total, Num::of(0));
    let r = m.inv(r);
    let r = m.shl(r, z);
    // A mean of codes with 31 - bits fraction bits: below 2^30 but for the rounding of R.
    let y = m.apply(y, I32_LIMIT, r, Num::of(31 - bits), I32_LIMIT);
    let y = transpose(m, y, &[0, 3, 1, 2, 4]);
    let x = m.reshape(y, &[0, 0, n as i64]);
    let e = m.val(top);
    let e = m.reshape(e, &[0, -1, 1]);
    let e = Num::value(e, top.lo, top.hi).offset(bits - 30);
    Vector { x, scale: ScaleV { m: Num::of(1 << 30), e }, max: I32_LIMIT, n }
}
