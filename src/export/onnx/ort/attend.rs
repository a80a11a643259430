//! KVWRITE and ATTEND as GroupQueryAttention.
//!
//! Heads are turned before it, to the positions that the mask tells, and who sees whom is told by a bias: so padding may stand anywhere, and windows
//! are those of the program. The operator takes padding for tokens, and every entry of the cache keeps its place.

use crate::error::{Error, Result};
use crate::export::onnx::graph::{Attr, Value};
use crate::export::onnx::int::math::Ints;
use crate::export::onnx::int::position::lengths;
use crate::export::onnx::std::attend::{factors, past, rope, slanted, Kv};
use crate::export::onnx::std::{Place, Query};
use crate::program::TensorId;

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
        let e = Error::unsupported("profile `ort` cannot express this model: two attentions read one cache");
        return Err(e.hint("use `--profile std`, which every program has a graph in").at_file(&a.packed.path));
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
    let (keys, values) = (past(m, a, at, kv.layer, "key"), past(m, a, at, kv.layer, "value"));
    let inputs =
        [q, kv.keys, kv.values, keys, values, last, all, Value::NONE, Value::NONE, Value::NONE, bias];
    let attrs = [
        ("num_heads", Attr::I(shape.heads as i64)),
        ("kv_num_heads", Attr::I(shape.kv_heads as i64)),
        ("scale", Attr::F(scale)),
        ("softcap", Attr::F(cap.unwrap_or(0.0) as f32)),
    ];
    let made = m.g.ms_op_n("GroupQueryAttention", &inputs, &attrs, 3);
    let &[y, keys, values] = &made[..] else { return Ok(Value::NONE) };
    *kv = Kv { layer: kv.layer, keys, values, joined: true };
    Ok(y)
}
