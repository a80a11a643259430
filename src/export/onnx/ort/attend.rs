//! KVWRITE and ATTEND as GroupQueryAttention.
//!
//! Heads are turned before it, to the positions that the mask tells, and who sees whom is told by a bias: so padding may stand anywhere, and windows
//! are those of the program. The operator takes padding for tokens, and every entry of the cache keeps its place.

use super::cannot;
use super::linear::front;
use crate::error::Result;
use crate::export::onnx::graph::{Attr, Value};
use crate::export::onnx::int::math::Ints;
use crate::export::onnx::int::position::lengths;
use crate::export::onnx::std::attend::{factors, past, rope, slanted, Kv};
use crate::export::onnx::std::{Place, Query};
use crate::program::TensorId;

/// Widths of heads that the operator takes are multiples of this; others are filled with zeros, which add nothing to a product.
const HEAD: usize = 8;

/// Keys and values of the run alone, `[b, s, KV * D]`: the operator puts them behind those of the cache.
pub fn kvwrite(
    m: &mut Ints,
    &Place { a, at }: &Place,
    layer: usize,
    (k, v): (Value, Value),
    freq: Option<TensorId>,
) -> Kv {
    let keys = freq.map_or(k, |freq| rope(m, a, at, k, freq));
    Kv { layer, keys, values: v, joined: false }
}

/// ATTEND; after it `kv` has the cache with the tokens of the run.
pub fn attend(m: &mut Ints, &Place { a, at }: &Place, kv: &mut Kv, query: &Query) -> Result<Value> {
    let shape = a.program.attention;
    if kv.joined {
        return Err(cannot(a, "two attentions read one cache"));
    }
    let q = query.freq.map_or(query.q, |freq| rope(m, a, at, query.q, freq));
    let (scale, cap) = factors(query.scoring);
    let (seen, never) = (at.seen(m, query.scoring.window), m.g.f32(-1e30));
    let near = match query.slopes {
        None => m.g.f32(0.0),
        Some(slopes) => {
            let less = slanted(m, at, slopes, (1, shape.heads as i64));
            m.g.op("Neg", &[less], &[])
        }
    };
    let bias = m.g.op("Where", &[seen, near, never], &[]);
    let axis = m.g.i64s(&[1], &[1]);
    let bias = m.g.op("Squeeze", &[bias, axis], &[]);
    let (last, all) = lengths(m, at);
    let (d, wide) = (shape.head_dim as i64, shape.head_dim.next_multiple_of(HEAD) as i64);
    let mut padded = |v, heads| match wide == d {
        true => v,
        false => {
            let v = m.reshape(v, &[0, 0, heads as i64, d]);
            let v = filled(m, v, d, wide);
            m.reshape(v, &[0, 0, -1])
        }
    };
    let (q, k, v) = (padded(q, shape.heads), padded(kv.keys, shape.kv_heads), padded(kv.values, shape.kv_heads));
    let mut cache = |what| {
        let v = past(m, a, at, kv.layer, what);
        if wide == d {
            return v;
        }
        let v = filled(m, v, d, wide);
        // ONNX Runtime 1.31 believes that the cache that goes out is as long as the one that comes in, and puts it into memory that is too small; of a
        // length that it cannot follow it believes nothing.
        m.reshape(v, &[0, shape.kv_heads as i64, -1, wide])
    };
    let (keys, values) = (cache("key"), cache("value"));
    let inputs = [q, k, v, keys, values, last, all, Value::NONE, Value::NONE, Value::NONE, bias];
    let attrs = [
        ("num_heads", Attr::I(shape.heads as i64)),
        ("kv_num_heads", Attr::I(shape.kv_heads as i64)),
        // 0 would be the operator's own.
        ("scale", Attr::F(scale.max(f32::MIN_POSITIVE))),
        ("softcap", Attr::F(cap.unwrap_or(0.0) as f32)),
    ];
    let made = m.g.ms_op_n("GroupQueryAttention", &inputs, &attrs, 3);
    let &[mut y, mut keys, mut values] = &made[..] else { return Ok(Value::NONE) };
    if wide != d {
        (keys, values) = (front(m, keys, 3, d), front(m, values, 3, d));
        y = m.reshape(y, &[0, 0, shape.heads as i64, wide]);
        y = front(m, y, 3, d);
        y = m.reshape(y, &[0, 0, -1]);
    }
    *kv = Kv { layer: kv.layer, keys, values, joined: true };
    Ok(y)
}

/// The last of four dimensions made `to` long with zeros. A product with a part of the identity does it without a shape that is only known when the
/// graph runs, and changes no element.
fn filled(m: &mut Ints, v: Value, from: i64, to: i64) -> Value {
    let ones: Vec<f32> = (0..from * to).map(|i| f32::from(u8::from(i / to == i % to))).collect();
    let identity = m.g.f32s(&[from, to], &ones);
    m.g.op("MatMul", &[v, identity], &[])
}
