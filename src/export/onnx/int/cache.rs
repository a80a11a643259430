//! KVWRITE: keys and values of the run's tokens as codes, and the cache that comes in and goes out. docs/semantics.md section 5.
//!
//! Shapes as in [`super::position`]; KV key/value heads of D channels.

use super::math::{Ints, Num};
use super::position::{transpose, unsqueeze, Positions, Way};
use super::rope::{heads, rotate};
use super::scale::ScaleV;
use super::vector::Vector;
use crate::bytes::{to_i32, to_u32};
use crate::encoding::fixed::{Scale, I32_LIMIT};
use crate::export::onnx::graph::{Attr, Dim, Value};
use crate::format::onnx::Elem;
use crate::program::{Tensor, TensorId};
use crate::runtime::Artifact;

/// Exponents of a cache, and the one of a head of zeros.
const EXPONENTS: (i64, i64) = (-4096, 4095);
const EMPTY: Scale = Scale { m: 1 << 30, e: -4096 };

/// Keys and values of one layer that a query may see.
pub(super) struct Kv {
    /// Codes of the keys, i64 `[b, KV, D, t]`.
    pub keys: Value,
    /// Codes of the values, i64 `[b, KV, t, D]`.
    pub values: Value,
    /// `[b, KV, 1, 1, t]`, or one constant if keys are static.
    pub key_scale: ScaleV,
    /// `[b, KV, 1, 1, t]`.
    pub value_scale: ScaleV,
    /// What goes out, with its name and the length of its last dimension.
    present: Vec<(String, Elem, Value, usize)>,
}

/// The tensors of KVWRITE and ATTEND.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub freq: Option<TensorId>,
    pub keys: Option<TensorId>,
}

/// Constants of static keys, each `[KV, D]`.
pub(super) struct StaticKeys {
    pub center: Vec<i64>,
    pub inv_m: Vec<i64>,
    pub inv_h: Vec<u32>,
    pub key_m: Vec<i64>,
    pub key_h: Vec<u32>,
    pub scale: Scale,
    pub frac: i64,
}

/// The key constants of an operation, if its keys are static.
pub(super) fn statics(a: &Artifact, keys: Option<TensorId>) -> Option<StaticKeys> {
    let t: &Tensor = a.program.tensors.get(keys?)?;
    let bytes = a.weights().get(t.data.start as usize..t.data.end as usize)?;
    let n = t.rows * t.cols;
    let (center, rest) = bytes.split_at_checked(4 * n)?;
    let (inv_m, rest) = rest.split_at_checked(4 * n)?;
    let (key_m, rest) = rest.split_at_checked(4 * n)?;
    let (inv_h, key_h) = rest.split_at_checked(n)?;
    Some(StaticKeys {
        center: to_i32(center).into_iter().map(i64::from).collect(),
        inv_m: to_u32(inv_m).into_iter().map(i64::from).collect(),
        key_m: to_u32(key_m).into_iter().map(i64::from).collect(),
        inv_h: inv_h.iter().map(|h| u32::from(*h)).collect(),
        key_h: key_h.iter().map(|h| u32::from(*h)).collect(),
        scale: t.scale,
        frac: i64::from(a.program.key_frac),
    })
}

/// KVWRITE. Declares the cache's inputs of the layer.
pub(super) fn kvwrite(
    m: &mut Ints,
    a: &Artifact,
    at: &Positions,
    layer: usize,
    (k, v): (&Vector, &Vector),
    given: Given,
) -> Kv {
    let shape = a.program.attention;
    let (n, d) = (shape.kv_heads, shape.head_dim);
    let mut cache = Cache { at, layer, n, present: Vec::new() };
    let x = heads(m, k.x, n, d);
    let (x, max) = rotate(m, at, a, x, k.max, given.freq);
    let scale = by_head(m, k.scale);
    let (key, key_scale) = match statics(a, given.keys) {
        Some(s) => {
            let key = static_codes(m, &s, x, max, scale, (n, d));
            (cache.codes(m, key, "key", shape.k_bits, d), ScaleV::of(s.scale))
        }
        None => {
            let (key, scales) = quantize(m, x, max, scale, shape.k_bits);
            (cache.codes(m, key, "key", shape.k_bits, d), cache.scales(m, scales, "key"))
        }
    };
    let x = heads(m, v.x, n, d);
    let scale = by_head(m, v.scale);
    let (value, scales) = quantize(m, x, v.max, scale, shape.v_bits);
    let value = cache.codes(m, value, "value", shape.v_bits, d);
    let value_scale = cache.scales(m, scales, "value");
    let keys = transpose(m, key, &[0, 1, 3, 2]);
    let (keys, values) = (m.g.cast(keys, Elem::I64), m.g.cast(value, Elem::I64));
    Kv { keys, values, key_scale, value_scale, present: cache.present }
}

/// Declares what goes out of the caches, in the order of the layers.
pub(super) fn outputs(m: &mut Ints, a: &Artifact, at: &Positions, layers: &[Kv]) {
    let n = a.program.attention.kv_heads as i64;
    for (name, elem, v, last) in layers.iter().flat_map(|l| &l.present) {
        m.g.output(*v, name, *elem, &[at.batch, Dim::N(n), slots(at, true), Dim::N(*last as i64)]);
    }
}

/// The dimension of the slots of a cache, with or without the tokens of the run.
fn slots(at: &Positions, all: bool) -> Dim {
    match (at.way, all) {
        (Way::Static(n), _) => Dim::N(n as i64),
        (_, true) => Dim::Sym("total_sequence_length"),
        (_, false) => Dim::Sym("past_sequence_length"),
    }
}

/// A number per token `[b, s, 1]` as one per head `[b, s, 1, 1]`.
pub(super) fn by_head(m: &mut Ints, s: ScaleV) -> ScaleV {
    ScaleV { m: lifted(m, s.m, &[2]), e: lifted(m, s.e, &[2]) }
}

/// More dimensions of 1; a constant needs none.
pub(super) fn lifted(m: &mut Ints, n: Num, axes: &[i64]) -> Num {
    if n.constant().is_some() {
        return n;
    }
    let v = m.val(n);
    Num::value(unsqueeze(m, v, axes), n.lo, n.hi)
}

/// Heads `[b, s, KV, D]` as codes, each head by itself, and their scales `[b, s, KV, 2]`: mantissa, exponent.
fn quantize(m: &mut Ints, x: Value, max: i64, scale: ScaleV, bits: u32) -> (Value, Value) {
    let q = (1i64 << (bits - 1)) - 1;
    let most = m.max_abs(x, max);
    let some = m.max(most, Num::of(1));
    let two = m.i(2 * q);
    let twice = m.mul2(x, two);
    let codes = m.rhe(twice, q, some);
    let of = m.norm(some, Num::of(0));
    let of = m.mul(of, scale);
    let of = m.mul(of, ScaleV::of(Scale::norm(q as u64, 0).inv()));
    let (none, zero) = (m.val(most), m.i(0));
    let none = m.g.op("Equal", &[none, zero], &[]);
    let e = m.clip(of.e, EXPONENTS.0, EXPONENTS.1);
    let (mantissa, e) = (m.pick(none, Num::of(EMPTY.m.into()), of.m), m.pick(none, Num::of(EMPTY.e.into()), e));
    let (mantissa, e) = (m.val(mantissa), m.val(e));
    (codes, m.g.op("Concat", &[mantissa, e], &[("axis", Attr::I(3))]))
}

/// Rotated keys `[b, s, KV, D]` as codes of 4 bits.
fn static_codes(m: &mut Ints, s: &StaticKeys, x: Value, max: i64, scale: ScaleV, (n, d): (usize, usize)) -> Value {
    let dims = [n as i64, d as i64];
    let center = m.g.i64s(&dims, &s.center);
    let inv = m.g.i64s(&dims, &s.inv_m);
    let half: Vec<i64> = s.inv_h.iter().map(|h| if *h > 0 { 1 << (h.min(&62) - 1) } else { 0 }).collect();
    let unit: Vec<i64> = s.inv_h.iter().map(|h| 1 << h.min(&62)).collect();
    let (half, unit) = (m.g.i64s(&dims, &half), m.g.i64s(&dims, &unit));
    let y = m.apply(x, max, scale, Num::of(s.frac), I32_LIMIT);
    let y = m.sub(y, center);
    let y = m.clamp(y, -I32_LIMIT, I32_LIMIT);
    let y = m.mul2(y, inv);
    let y = m.add(y, half);
    let rest = m.g.op("Mod", &[y, unit], &[]);
    let y = m.sub(y, rest);
    let y = m.div(y, unit);
    m.clamp(y, -8, 7)
}

struct Cache<'p> {
    at: &'p Positions,
    layer: usize,
    /// Key/value heads.
    n: usize,
    present: Vec<(String, Elem, Value, usize)>,
}

impl Cache<'_> {
    /// Codes `[b, s, KV, D]` of the run behind those of the cache: `[b, KV, t, D]`.
    fn codes(&mut self, m: &mut Ints, new: Value, what: &str, bits: u32, d: usize) -> Value {
        let elem = if bits > 8 { Elem::I16 } else { Elem::I8 };
        self.joined(m, new, what, elem, d)
    }

    /// Scales `[b, s, KV, 2]` of the run behind those of the cache: `[b, KV, 1, 1, t]`.
    fn scales(&mut self, m: &mut Ints, new: Value, what: &str) -> ScaleV {
        let both = self.joined(m, new, &format!("{what}_scale"), Elem::I32, 2);
        let both = m.g.cast(both, Elem::I64);
        let mut side = |k: i64| {
            let k = m.i(k);
            let v = m.g.op("Gather", &[both, k], &[("axis", Attr::I(3))]);
            unsqueeze(m, v, &[2, 3])
        };
        let (mantissa, e) = (side(0), side(1));
        ScaleV { m: Num::value(mantissa, 1 << 30, I32_LIMIT), e: Num::value(e, EXPONENTS.0, EXPONENTS.1) }
    }

    fn joined(&mut self, m: &mut Ints, new: Value, what: &str, elem: Elem, last: usize) -> Value {
        let new = transpose(m, new, &[0, 2, 1, 3]);
        if self.at.way == Way::Whole {
            return new;
        }
        let dims = [self.at.batch, Dim::N(self.n as i64), slots(self.at, false), Dim::N(last as i64)];
        let past = m.g.input(&format!("past_key_values.{}.{what}", self.layer), elem, &dims);
        let all = match self.at.way {
            Way::Static(n) => {
                // Where has no kernel for 8 or 16 bits in older runtimes.
                let places = m.g.i64s(&[n as i64, 1], &(0..n as i64).collect::<Vec<_>>());
                let here = m.g.op("Equal", &[places, self.at.at], &[]);
                let (new, old) = (m.g.cast(new, Elem::I32), m.g.cast(past, Elem::I32));
                let all = m.g.op("Where", &[here, new, old], &[]);
                m.g.cast(all, elem)
            }
            Way::Cached | Way::Whole => {
                let new = m.g.cast(new, elem);
                m.g.op("Concat", &[past, new], &[("axis", Attr::I(2))])
            }
        };
        self.present.push((format!("present.{}.{what}", self.layer), elem, all, last));
        all
    }
}
