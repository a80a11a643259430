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

#[cfg(test)]
mod tests {
    use super::super::cache::{kvwrite, outputs};
    use super::super::position::inputs;
    use super::*;
    use crate::encoding::fixed::Scale;
    use crate::engine::builtin::Builtin;
    use crate::engine::{Data, Engine, Tensor};
    use crate::export::onnx::graph::{Dim, Graph};
    use crate::export::onnx::Settings;
    use crate::format::onnx::Elem;
    use crate::kernels::attention::{self as kernel, AttentionShape, LayerCache, Rope};
    use crate::kernels::vector::Constants;
    use crate::program::{TensorId, TensorKind};

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            ((self.0 >> 11) % n as u64) as usize
        }

        fn one_of<T: Copy>(&mut self, these: &[T]) -> T {
            these[self.below(these.len())]
        }

        fn vector(&mut self, n: usize) -> (Vec<i32>, Scale) {
            let bits = self.one_of(&[31, 31, 30, 20, 2]);
            let most = if self.below(12) == 0 { 1 } else { 1usize << bits };
            let x = (0..n).map(|_| (self.below(most) as i32) * self.one_of(&[-1, 1])).collect();
            let e = self.one_of(&[-200, 40, -bits - 30, -bits - 29, -bits - 28, -bits - 26]);
            (x, Scale { m: (1 << 30) + self.below(1 << 30) as u32, e })
        }
    }

    /// q, k and v of each token.
    type Text = Vec<[(Vec<i32>, Scale); 3]>;

    struct Case {
        a: Artifact,
        shape: AttentionShape,
        scoring: Scoring,
        freq: Option<TensorId>,
        text: Text,
    }

    /// A case of random shape; frequencies and slopes are whatever lies in the weights of the smallest model.
    fn case(seed: u64, encoder: bool) -> Case {
        let mut r = Random(0x9e37_79b9_7f4a_7c15 ^ (seed + 1).wrapping_mul(0x2545_f491_4f6c_dd1d));
        (0..9).for_each(|_| {
            r.below(2);
        });
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny.bitnet");
        let mut a = Artifact::open(&file).unwrap();
        let (kv_heads, d) = (r.one_of(&[1, 2, 3]), r.one_of(&[2, 4, 6, 16]));
        let shape = AttentionShape {
            heads: kv_heads * r.one_of(&[1, 2, 4]),
            kv_heads,
            head_dim: d,
            window: 40,
            sinks: 0,
            k_bits: r.one_of(&[8, 16]),
            v_bits: r.one_of(&[4, 8, 16]),
        };
        let p = &mut a.program;
        (p.attention, p.positions, p.static_keys, p.encoder) = (shape, 0, false, encoder);
        let mut tensor = |kind, n: usize, scale| {
            let at = 4 * r.below(500) as u64;
            let (name, rows, scales) = (String::new(), 1, 0..0);
            p.tensors.push(crate::program::Tensor {
                name,
                kind,
                rows,
                cols: n,
                scale,
                data: at..at + 4 * n as u64,
                scales,
            });
            p.tensors.len() - 1
        };
        let turned = [d / 2, d / 2, d / 4, 0][seed as usize % 4];
        let rest = [Scale::ONE, Scale { m: 1_700_000_000, e: -31 }][seed as usize % 2];
        let freq = tensor(TensorKind::Frequencies, turned, rest);
        let slopes = tensor(TensorKind::Vector, shape.heads, Scale::pow2(-30 - 3 * (seed % 6) as i32));
        let scoring = Scoring {
            softmax: Scale { m: 1_234_567_891, e: -30 - r.below(8) as i32 },
            window: if encoder { 0 } else { r.one_of(&[0, 0, 3]) },
            cap: (r.below(4) == 0).then_some(Scale { m: 1_111_111_111, e: -28 }),
            slopes: (r.below(3) == 0).then_some(slopes),
        };
        let n = 1 + r.below(8);
        let text = (0..n).map(|_| [shape.heads, kv_heads, kv_heads].map(|h| r.vector(h * d))).collect();
        Case { a, shape, scoring, freq: (r.below(4) > 0).then_some(freq), text }
    }

    /// Results and exponents of the definition.
    fn wanted(c: &Case) -> (Vec<i64>, Vec<i64>) {
        let small = |t: usize| {
            let data = &c.a.program.tensors[t].data;
            &c.a.weights()[data.start as usize..data.end as usize]
        };
        let freq = c.freq.map_or(Vec::new(), |f| crate::bytes::to_u32(small(f)));
        let rope = c.freq.map_or(Rope::NONE, |f| Rope { freq: &freq, rest: c.a.program.tensors[f].scale });
        let slopes = c.scoring.slopes.map(|t| (to_i32(small(t)), c.a.program.tensors[t].scale));
        let encoder = c.a.program.encoder;
        let scoring = kernel::Scoring {
            softmax: c.scoring.softmax,
            window: c.scoring.window,
            cap: c.scoring.cap,
            slopes: slopes.as_ref().map(|(values, scale)| Constants { values, scale: *scale }),
            text: encoder.then_some(c.text.len()),
        };
        let (mut cache, mut x, mut e) = (LayerCache::new(), Vec::new(), Vec::new());
        let mut attend = |p: usize, cache: &LayerCache| {
            let (q, mut out) = (&c.text[p][0], vec![0; c.shape.heads * c.shape.head_dim]);
            let s = kernel::attend(&c.shape, p as u32, &rope, None, &scoring, (&q.0, q.1), cache, &mut out);
            x.extend(out.iter().map(|x| i64::from(*x)));
            e.push(i64::from(s.e));
        };
        for (p, [_, k, v]) in c.text.iter().enumerate() {
            let mut turned = k.0.clone();
            kernel::kvwrite(&c.shape, p as u32, &rope, None, (&mut turned, k.1), (&v.0, v.1), &mut cache);
            if !encoder {
                attend(p, &cache);
            }
        }
        if encoder {
            (0..c.text.len()).for_each(|p| attend(p, &cache));
        }
        (x, e)
    }

    fn engine(c: &Case, static_len: Option<usize>, dir: &std::path::Path) -> Builtin {
        let mut m = Ints { g: Graph::new(13) };
        let at = inputs(&mut m, &c.a, &Settings { static_len, ..Settings::default() }).unwrap();
        let vector = |m: &mut Ints, name: &str, heads: usize| {
            let n = heads * c.shape.head_dim;
            let mut part = |part: &str, n: usize| {
                m.g.input(&format!("{name}.{part}"), Elem::I64, &[at.batch, at.sequence, Dim::N(n as i64)])
            };
            let (x, mantissa, e) = (part("x", n), part("m", 1), part("e", 1));
            let scale = ScaleV { m: Num::value(mantissa, 1 << 30, I32_LIMIT), e: Num::value(e, -(1 << 20), 1 << 20) };
            Vector { x, scale, max: I32_LIMIT, n }
        };
        let (q, k, v) = (
            vector(&mut m, "q", c.shape.heads),
            vector(&mut m, "k", c.shape.kv_heads),
            vector(&mut m, "v", c.shape.kv_heads),
        );
        let given = Given { freq: c.freq, keys: None };
        let kv = kvwrite(&mut m, &c.a, &at, 0, (&k, &v), given);
        let y = attend(&mut m, &c.a, &at, &kv, &q, given, &c.scoring);
        m.g.output(y.x, "x", Elem::I64, &[at.batch, at.sequence, Dim::N(y.n as i64)]);
        let e = m.val(y.scale.e);
        m.g.output(e, "e", Elem::I64, &[at.batch, at.sequence, Dim::N(1)]);
        outputs(&mut m, &c.a, &at, &[kv]);
        let file = dir.join("a.onnx");
        m.g.write(&file, &crate::progress::Silent).unwrap();
        Builtin::open(&file).unwrap()
    }

    /// Runs tokens `which` after `pad` tokens of padding; `cache` goes in and out. Gives x and e of the tokens.
    fn run(
        c: &Case,
        engine: &mut Builtin,
        which: std::ops::Range<usize>,
        pad: usize,
        cache: &mut Vec<(String, Tensor)>,
    ) -> (Vec<i64>, Vec<i64>) {
        // Padding comes with the first tokens of a text.
        let new = if which.start == 0 { pad } else { 0 };
        let s = new + which.len();
        let mut feed = vec![("input_ids".to_string(), Tensor::i64s(&[1, s], vec![0; s]).unwrap())];
        let mask = (0..pad + which.end).map(|i| i64::from(i >= pad)).collect();
        feed.push(("attention_mask".into(), Tensor::i64s(&[1, pad + which.end], mask).unwrap()));
        feed.push(("position_ids".into(), Tensor::i64s(&[1, 1], vec![which.start as i64]).unwrap()));
        for (i, name) in ["q", "k", "v"].into_iter().enumerate() {
            let tokens: Vec<_> = c.text[which.clone()].iter().map(|t| &t[i]).collect();
            let n = tokens[0].0.len();
            let mut x = vec![7; new * n];
            x.extend(tokens.iter().flat_map(|t| t.0.iter().map(|x| i64::from(*x))));
            let (mut m, mut e) = (vec![1 << 30; new], vec![-50; new]);
            m.extend(tokens.iter().map(|t| i64::from(t.1.m)));
            e.extend(tokens.iter().map(|t| i64::from(t.1.e)));
            for (part, n, values) in [("x", n, x), ("m", 1, m), ("e", 1, e)] {
                feed.push((format!("{name}.{part}"), Tensor::i64s(&[1, s, n], values).unwrap()));
            }
        }
        let ports = engine.inputs();
        for port in ports.iter().filter(|p| p.name.starts_with("past")) {
            let dims: Vec<usize> = port.dims.iter().enumerate().map(|(i, d)| d.unwrap_or((i == 0).into())).collect();
            let kept = cache.iter().find(|(name, _)| name[..] == port.name.replace("past_key_values", "present"));
            let value = kept.map_or_else(|| Tensor::zeros(port.elem, &dims).unwrap(), |(_, t)| t.clone());
            feed.push((port.name.clone(), value));
        }
        feed.retain(|(name, _)| ports.iter().any(|p| p.name == *name));
        let feed: Vec<(&str, &Tensor)> = feed.iter().map(|(n, t)| (&n[..], t)).collect();
        let outputs: Vec<String> = engine.outputs().into_iter().map(|p| p.name).collect();
        let names: Vec<&str> = outputs.iter().map(|n| &n[..]).collect();
        let mut got = engine.run(&feed, &names).unwrap();
        *cache = outputs[2..].iter().cloned().zip(got.split_off(2)).collect();
        let numbers = |t: &Tensor| match &t.data {
            Data::I64(v) => v[v.len() / s * new..].to_vec(),
            other => panic!("{other:?}"),
        };
        (numbers(&got[0]), numbers(&got[1]))
    }

    #[test]
    fn attention_is_that_of_the_definition_in_every_way_of_running() {
        let dir = tempfile::tempdir().unwrap();
        for seed in 0..14 {
            let c = case(seed, seed % 5 == 4);
            let n = c.text.len();
            let want = wanted(&c);
            let mut graph = engine(&c, None, dir.path());
            for pad in [0, 3] {
                assert_eq!(run(&c, &mut graph, 0..n, pad, &mut Vec::new()), want, "seed {seed}, padding {pad}");
            }
            let one_by_one = |graph: &mut Builtin, pad: usize| {
                let (mut cache, mut x, mut e) = (Vec::new(), Vec::new(), Vec::new());
                for p in 0..n {
                    let y = run(&c, graph, p..p + 1, pad, &mut cache);
                    x.extend(y.0);
                    e.extend(y.1);
                }
                (x, e)
            };
            if !c.a.program.encoder {
                assert_eq!(one_by_one(&mut graph, 0), want, "seed {seed}, with the cache");
                assert_eq!(one_by_one(&mut graph, 2), want, "seed {seed}, padding and the cache");
                assert_eq!(one_by_one(&mut engine(&c, Some(9), dir.path()), 0), want, "seed {seed}, static");
            }
        }
    }

    #[test]
    fn more_static_slots_than_the_model_has_are_refused() {
        let c = case(0, false);
        for n in [0, 41] {
            let mut m = Ints { g: Graph::new(13) };
            let settings = Settings { static_len: Some(n), ..Settings::default() };
            let e = inputs(&mut m, &c.a, &settings).err().unwrap();
            assert!(e.to_string().contains(&format!("`--static {n}`: this model takes 1 to 40 tokens")), "{e}");
        }
    }
}
