//! The arithmetic of the integer ONNX profile against the functions that define it, on edge values and random ones. With `BITNET_ORT_LIB` naming
//! a library of ONNX Runtime the graphs run there as well.

use bitnet_convert::encoding::fixed::{bitlen, recip, rhe, rsr, Scale, I32_LIMIT};
use bitnet_convert::engine::builtin::Builtin;
use bitnet_convert::engine::{Data, Engine, Tensor};
use bitnet_convert::export::onnx::graph::{Dim, Graph, Value};
use bitnet_convert::export::onnx::int::math::{Ints, Num, Range};
use bitnet_convert::export::onnx::int::norm::Rule;
use bitnet_convert::export::onnx::int::scale::ScaleV;
use bitnet_convert::export::onnx::int::vector::{Fixed, Vector};
use bitnet_convert::format::onnx::Elem;
use bitnet_convert::kernels::scalar::{quantize, rmsnorm, QuantRule};
use bitnet_convert::kernels::tables::tables;
use bitnet_convert::kernels::vector::{
    act, bias, embedding, gain, gate, norm, softcap, tanh30, Act, Constants, NormRule,
};
use bitnet_convert::progress::Silent;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    /// Up to `bits` bits, all lengths alike.
    fn any(&mut self, bits: u32) -> i64 {
        let n = self.below(u64::from(bits) + 1) as u32;
        if n == 0 {
            0
        } else {
            (self.next() >> (64 - n)) as i64
        }
    }

    fn mantissa(&mut self) -> i64 {
        match self.below(6) {
            0 => 1 << 30,
            1 => I32_LIMIT,
            2 => (1 << 30) + self.below(3) as i64,
            _ => (1 << 30) + self.below(1 << 30) as i64,
        }
    }

    fn scale(&mut self, around: i64) -> Scale {
        let e = around + self.below(140) as i64 - 70;
        Scale { m: self.mantissa() as u32, e: e as i32 }
    }
}

/// A number with the bounds of every mantissa.
fn mantissas(mut m: Num) -> Num {
    (m.lo, m.hi) = (1 << 30, I32_LIMIT);
    m
}

/// One graph with its inputs.
struct Case {
    m: Ints<'static>,
    inputs: Vec<(String, Tensor)>,
    outputs: usize,
}

impl Case {
    fn new() -> Case {
        Case { m: Ints { g: Graph::new(13) }, inputs: Vec::new(), outputs: 0 }
    }

    fn input(&mut self, dims: &[usize], values: Vec<i64>) -> Value {
        let name = format!("in{}", self.inputs.len());
        let shape: Vec<Dim> = dims.iter().map(|n| Dim::N(*n as i64)).collect();
        let v = self.m.g.input(&name, Elem::I64, &shape);
        self.inputs.push((name, Tensor::new(dims, Data::I64(values)).unwrap()));
        v
    }

    /// Numbers `[n, 1]` with the bounds that they have.
    fn numbers(&mut self, values: Vec<i64>) -> Num {
        let (lo, hi) = (*values.iter().min().unwrap(), *values.iter().max().unwrap());
        Num::value(self.input(&[values.len(), 1], values), lo, hi)
    }

    fn scales(&mut self, s: &[Scale]) -> ScaleV {
        let m = self.numbers(s.iter().map(|s| i64::from(s.m)).collect());
        ScaleV { m: mantissas(m), e: self.numbers(s.iter().map(|s| i64::from(s.e)).collect()) }
    }

    fn out(&mut self, v: Value) {
        let v = self.m.g.cast(v, Elem::I64);
        self.m.g.output(v, &format!("out{}", self.outputs), Elem::I64, &[]);
        self.outputs += 1;
    }

    fn out_num(&mut self, n: Num) {
        let v = self.m.val(n);
        self.out(v);
    }

    fn out_scale(&mut self, s: ScaleV) {
        self.out_num(s.m);
        self.out_num(s.e);
    }

    /// The outputs, the same from all engines.
    fn run(self) -> Vec<Vec<i64>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.onnx");
        self.m.g.write(&path, &Silent).unwrap();
        let inputs: Vec<(&str, &Tensor)> = self.inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let names: Vec<String> = (0..self.outputs).map(|i| format!("out{i}")).collect();
        let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
        let values = |e: &mut dyn Engine| -> Vec<Vec<i64>> {
            let all = e.run(&inputs, &wanted).unwrap();
            all.into_iter().map(|t| if let Data::I64(v) = t.data { v } else { panic!("not int64") }).collect()
        };
        let ours = values(&mut Builtin::open(&path).unwrap());
        #[cfg(feature = "ort")]
        if let Some(lib) = std::env::var_os("BITNET_ORT_LIB") {
            let mut e = bitnet_convert::engine::ort::Ort::open(&path, lib.as_ref()).unwrap();
            let theirs = values(&mut e);
            for (k, (a, b)) in ours.iter().zip(&theirs).enumerate() {
                assert_eq!(a, b, "output {k} in {}", e.name());
            }
        }
        ours
    }
}

/// The scales that two outputs are, compared with those of a function.
fn same_scales(got: &[Vec<i64>], want: impl Fn(usize) -> Scale, n: usize) {
    for i in 0..n {
        let at = |v: &Vec<i64>| if v.len() == 1 { v[0] } else { v[i] };
        let s = want(i);
        assert_eq!((at(&got[0]), at(&got[1])), (i64::from(s.m), i64::from(s.e)), "case {i}");
    }
}

#[test]
fn scales() {
    let mut r = Random(88172645463325252);
    let n = 3000;
    let a: Vec<Scale> = (0..n).map(|_| r.scale(-40)).collect();
    let b: Vec<Scale> = a.iter().map(|a| r.scale(i64::from(a.e))).collect();
    let wide: Vec<i64> = (0..n)
        .map(|i| match i % 4 {
            0 => 1 << (i / 4 % 63),
            1 => (1 << (i / 4 % 62 + 1)) - 1,
            _ => r.any(62).max(1),
        })
        .map(|v| v.clamp(1, 1 << 62))
        .collect();
    let (fixed, power) = (Scale { m: 1_549_082_005, e: -30 }, Scale::pow2(-7));
    let mut c = Case::new();
    let (x, y, v) = (c.scales(&a), c.scales(&b), c.numbers(wide.clone()));
    let made = [
        c.m.mul(x, y),
        c.m.inv(x),
        c.m.sum(x, y),
        c.m.sum(x, ScaleV::of(fixed)),
        c.m.sqrt(x),
        c.m.norm(v, x.e),
        c.m.mul(x, ScaleV::of(fixed)),
        c.m.mul(x, ScaleV::of(power)),
    ];
    made.into_iter().for_each(|s| c.out_scale(s));
    let less = c.m.below(x, fixed);
    c.out(less);
    let bits = c.m.bitlen(v);
    c.out_num(bits);
    let out = c.run();
    let wants: [&dyn Fn(usize) -> Scale; 8] = [
        &|i| a[i].mul(b[i]),
        &|i| a[i].inv(),
        &|i| a[i].add(b[i]),
        &|i| a[i].add(fixed),
        &|i| a[i].sqrt(),
        &|i| Scale::norm(wide[i] as u64, a[i].e),
        &|i| a[i].mul(fixed),
        &|i| a[i].mul(power),
    ];
    for (k, want) in wants.iter().enumerate() {
        same_scales(&out[2 * k..2 * k + 2], want, n);
    }
    for i in 0..n {
        assert_eq!(out[16][i], i64::from(a[i].less(fixed)), "{:?}", a[i]);
        assert_eq!(out[17][i], i64::from(bitlen(wide[i] as u64)), "{}", wide[i]);
    }
}

#[test]
fn exponents_stop_at_their_limit() {
    let far = Scale { m: I32_LIMIT as u32, e: 1 << 20 };
    let near = Scale { m: 1 << 30, e: -(1 << 20) };
    let s = [far, near, far, near];
    let t = [far, near, near, far];
    let mut c = Case::new();
    let (x, y) = (c.scales(&s), c.scales(&t));
    for made in [c.m.mul(x, y), c.m.inv(x), c.m.sum(x, y), c.m.sqrt(x), c.m.shl(x, Num::of(40))] {
        c.out_scale(made);
    }
    let out = c.run();
    same_scales(&out[0..2], |i| s[i].mul(t[i]), 4);
    same_scales(&out[2..4], |i| s[i].inv(), 4);
    same_scales(&out[4..6], |i| s[i].add(t[i]), 4);
    same_scales(&out[6..8], |i| s[i].sqrt(), 4);
    same_scales(&out[8..10], |i| s[i].shl(40), 4);
}

#[test]
fn shifts_and_quotients() {
    let mut r = Random(7);
    let n = 4000;
    let signed = |r: &mut Random, bits| if r.below(2) == 0 { r.any(bits) } else { -r.any(bits) };
    let s: Vec<i64> = (0..n).map(|i| i as i64 % 70).collect();
    let cases: Vec<(u32, Vec<i64>)> = [61, 62, 40]
        .map(|bits| {
            let edge = if bits == 62 { (I32_LIMIT) * (I32_LIMIT) } else { (1i64 << bits) - 1 };
            let v = (0..n).map(|i| match i % 9 {
                0 => edge,
                1 => -edge,
                _ => signed(&mut r, bits).clamp(-edge, edge),
            });
            (bits, v.collect())
        })
        .into();
    let mut c = Case::new();
    let by = c.numbers(s.clone());
    for (bits, v) in &cases {
        let max = if *bits == 62 { I32_LIMIT * I32_LIMIT } else { 1 << bits };
        let x = c.input(&[n, 1], v.clone());
        let moving = c.m.rsr(x, Range::around(max.min((1 << 61) - 1).max(if *bits == 62 { max } else { 0 })), by);
        c.out(moving);
        for k in [1, 17, 31, 62] {
            let fixed = c.m.rsr(x, Range::around(max), Num::of(k));
            c.out(fixed);
        }
    }
    // x * m as fixed point, every shift from far left to far right.
    let scales: Vec<Scale> = (0..n).map(|i| Scale { m: r.mantissa() as u32, e: 8 - (i as i32 % 90) }).collect();
    let narrow: Vec<i64> = (0..n)
        .map(|i| match i % 7 {
            0 => 1 << 30,
            1 => -(1 << 30),
            2 => 1,
            _ => signed(&mut r, 30),
        })
        .collect();
    let wide: Vec<i64> = (0..n)
        .map(|i| match i % 7 {
            0 => I32_LIMIT,
            1 => -I32_LIMIT,
            2 => -1,
            _ => signed(&mut r, 31),
        })
        .collect();
    let sv = c.scales(&scales);
    for (x, max) in [(&narrow, 1 << 30), (&wide, I32_LIMIT)] {
        let x = c.input(&[n, 1], x.clone());
        let y = c.m.apply(x, max, sv, Num::of(3), I32_LIMIT);
        c.out(y);
    }
    let b: Vec<i64> = (0..n).map(|_| r.any(31).max(1)).collect();
    let p: Vec<i64> = b.iter().map(|b| (r.below(4001) as i64 - 2000) * b / 2 + r.below(3) as i64 - 1).collect();
    let p: Vec<i64> = p.iter().zip(&b).map(|(p, b)| (*p).clamp(-1000 * b, 1000 * b)).collect();
    let (bn, pn) = (c.numbers(b.clone()), c.input(&[n, 1], p.iter().map(|p| 2 * p).collect()));
    let q = c.m.rhe(pn, 1000, bn);
    c.out(q);
    let out = c.run();
    let mut at = 0;
    for (_, v) in &cases {
        for i in 0..n {
            assert_eq!(out[at][i], rsr(v[i], s[i] as u32), "rsr({}, {})", v[i], s[i]);
            for (j, k) in [1, 17, 31, 62].into_iter().enumerate() {
                assert_eq!(out[at + 1 + j][i], rsr(v[i], k), "rsr({}, {k})", v[i]);
            }
        }
        at += 5;
    }
    for x in [&narrow, &wide] {
        for i in 0..n {
            assert_eq!(out[at][i], i64::from(scales[i].apply(x[i] as i32, 3)), "{} {:?}", x[i], scales[i]);
        }
        at += 1;
    }
    for i in 0..n {
        assert_eq!(out[at][i], rhe(p[i], b[i]), "{} / {}", p[i], b[i]);
    }
}

#[test]
fn curves() {
    let mut r = Random(3);
    let n = 5000;
    let d: Vec<i64> = (0..n)
        .map(|i| match i % 8 {
            0 => i as i64 * 6553,
            1 => I32_LIMIT,
            2 => 31 << 20,
            3 => (31 << 20) - 1,
            _ => r.any(31),
        })
        .collect();
    let t: Vec<i64> = d.iter().enumerate().map(|(i, d)| if i % 2 == 0 { *d } else { -d }).collect();
    let m: Vec<i64> = (0..n).map(|_| r.mantissa()).collect();
    let cap = Scale::from_f64(30.0).unwrap();
    let mut c = Case::new();
    let (dv, tv, mv) = (c.input(&[n, 1], d.clone()), c.input(&[n, 1], t.clone()), c.input(&[n, 1], m.clone()));
    let made = [c.m.exp2n(dv), c.m.tanh30(dv), c.m.softcap(tv, cap, 16), c.m.recip(mv)];
    made.into_iter().for_each(|v| c.out(v));
    let out = c.run();
    for i in 0..n {
        assert_eq!(out[0][i], i64::from(tables().exp2n(d[i] as u32)), "exp2n({})", d[i]);
        assert_eq!(out[1][i], i64::from(tanh30(d[i] as u32)), "tanh30({})", d[i]);
        assert_eq!(out[2][i], i64::from(softcap(t[i] as i32, cap, 16)), "softcap({})", t[i]);
        assert_eq!(out[3][i], i64::from(recip(m[i] as u32)), "recip({})", m[i]);
    }
}

/// Vectors for tokens of every kind: zeros, single ones, full ones, random ones of all lengths; with a scale each. Fewer if they are long.
fn tokens(r: &mut Random, n: usize, max: i64, around: i64) -> Vec<(Vec<i32>, Scale)> {
    (0..if n > 1000 { 8 } else { 40 })
        .map(|k| {
            let bits = [31, 3, 12, 20, 24, 25, 30][k % 7];
            let x = (0..n).map(|i| match k {
                0 => 0,
                1 => i64::from(i == n / 2),
                2 => max,
                3 => -max,
                4 => {
                    if i % 2 == 0 {
                        max
                    } else {
                        -max
                    }
                }
                _ => {
                    if r.below(2) == 0 {
                        r.any(bits)
                    } else {
                        -r.any(bits)
                    }
                }
            });
            (x.map(|v| v.clamp(-max, max) as i32).collect(), r.scale(around))
        })
        .collect()
}

/// Tokens as a vector of the graph.
fn vector(c: &mut Case, t: &[(Vec<i32>, Scale)], max: i64) -> Vector {
    let n = t[0].0.len();
    let x = c.input(&[1, t.len(), n], t.iter().flat_map(|(x, _)| x.iter().map(|v| i64::from(*v))).collect());
    let part = |c: &mut Case, f: fn(&Scale) -> i64| {
        let v: Vec<i64> = t.iter().map(|(_, s)| f(s)).collect();
        let (lo, hi) = (*v.iter().min().unwrap(), *v.iter().max().unwrap());
        Num::value(c.input(&[1, t.len(), 1], v), lo, hi)
    };
    let m = part(c, |s| i64::from(s.m));
    let e = part(c, |s| i64::from(s.e));
    Vector { x, scale: ScaleV { m: mantissas(m), e }, max, n }
}

/// What one operation gives for each token: values and scale.
type Wanted = Vec<(Vec<i32>, Scale)>;

fn check(what: &str, got: &[Vec<i64>], want: &Wanted) {
    for (k, (x, s)) in want.iter().enumerate() {
        let at = |v: &Vec<i64>| if v.len() == 1 { v[0] } else { v[k] };
        let y: Vec<i64> = x.iter().map(|v| i64::from(*v)).collect();
        assert_eq!(got[0][k * x.len()..(k + 1) * x.len()], y, "{what}, token {k}");
        assert_eq!((at(&got[1]), at(&got[2])), (i64::from(s.m), i64::from(s.e)), "{what}: scale of token {k}");
    }
}

/// Builds a graph of several operations on the same tokens and compares each of them.
fn operations(n: usize, max: i64, around: i64, seed: u64) {
    let mut r = Random(seed);
    let (t, u) = (tokens(&mut r, n, max, around), tokens(&mut r, n, I32_LIMIT, -40));
    let constant = |r: &mut Random, n: usize| -> Vec<i32> { (0..n).map(|_| r.any(30) as i32 - (1 << 28)).collect() };
    let (g, b) = (constant(&mut r, n), constant(&mut r, n));
    let (gs, bs) = (Scale::pow2(-29), Scale::pow2(-26));
    let eps = Scale::from_f64(1e-6).unwrap();
    let mut c = Case::new();
    let (v, w) = (vector(&mut c, &t, max), vector(&mut c, &u, I32_LIMIT));
    let mut wanted: Vec<(String, Wanted)> = Vec::new();
    let mut made: Vec<Vector> = Vec::new();
    type OfToken<'a> = &'a dyn Fn(&[i32], Scale, usize) -> (Vec<i32>, Scale);
    let each = |f: OfToken| -> Wanted { t.iter().enumerate().map(|(k, (x, s))| f(x, *s, k)).collect() };
    let (gf, bf) = (Fixed { values: &g, scale: gs }, Fixed { values: &b, scale: bs });
    let (gc, bc) = (Constants { values: &g, scale: gs }, Constants { values: &b, scale: bs });
    made.push(c.m.rmsnorm(&v, gf, eps));
    wanted.push((
        "rmsnorm".into(),
        each(&|x, s, _| {
            let mut y = vec![0; n];
            let s = rmsnorm(x, s, &g, gs, eps, &mut y);
            (y, s)
        }),
    ));
    for (group, centred, gamma, beta) in
        [(n, true, true, true), (n, false, false, false), (n / 4, false, true, false), (n / 4, true, true, true)]
    {
        let rule = Rule { gamma: gamma.then_some(gf), beta: beta.then_some(bf), eps, group, centred };
        made.push(c.m.layer_norm(&v, &rule));
        let rule = NormRule { gamma: gamma.then_some(gc), beta: beta.then_some(bc), eps, group, centred };
        wanted.push((
            format!("norm {group} {centred} {gamma} {beta}"),
            each(&|x, s, _| {
                let mut y = vec![0; n];
                let s = norm(x, s, &rule, &mut y);
                (y, s)
            }),
        ));
    }
    let in_place = |f: &dyn Fn(&mut [i32], Scale, usize) -> Scale| {
        each(&|x, s, k| {
            let mut y = x.to_vec();
            let s = f(&mut y, s, k);
            (y, s)
        })
    };
    if max <= 1 << 30 || n < 100 {
        made.push(c.m.bias(&v, bf));
        wanted.push(("bias".into(), in_place(&|x, s, _| bias(x, s, bc))));
        made.push(c.m.gain(&v, gf));
        wanted.push(("gain".into(), in_place(&|x, s, _| gain(x, s, gc))));
        for kind in Act::ALL {
            made.push(c.m.act(&v, kind));
            wanted.push((format!("{kind:?}"), in_place(&|x, s, _| act(x, s, kind))));
            made.push(c.m.gate(&v, &w, kind));
            wanted.push((format!("gate {kind:?}"), in_place(&|x, s, k| gate(x, s, &u[k].0, u[k].1, kind))));
        }
    }
    for (qmax, lo, hi, floor) in
        [(127, -128, 127, 1e-5), (2, -2, 1, 1e-5), (7, -8, 7, 1e-3), (32_767, -32_767, 32_767, 1e-5)]
    {
        let rule = QuantRule { qmax, lo, hi, floor: Scale::from_f64(floor).unwrap() };
        let codes = c.m.quantize(&v, &rule);
        let (x, zero) = (c.m.g.cast(codes.shown, Elem::I64), c.m.i(if qmax > 127 { 32_768 } else { 128 }));
        let x = c.m.sub(x, zero);
        made.push(Vector { x, scale: codes.scale, max: 0, n });
        wanted.push((
            format!("quantize {qmax}"),
            each(&|x, s, _| {
                let mut y = vec![0; n];
                let s = quantize(x, s, &rule, &mut y);
                (y, s)
            }),
        ));
    }
    for v in &made {
        c.out(v.x);
        c.out_scale(v.scale);
    }
    let out = c.run();
    for (k, (what, want)) in wanted.iter().enumerate() {
        check(what, &out[3 * k..3 * k + 3], want);
        let bound = out[3 * k].iter().map(|v| v.abs()).max().unwrap_or(0);
        assert!(made[k].max == 0 || bound <= made[k].max, "{what}: {bound} is beyond {}", made[k].max);
    }
}

#[test]
fn operations_on_vectors_of_30_bits() {
    for (k, around) in [-30, -54, -80, 0].into_iter().enumerate() {
        operations(48, 1 << 30, around, 11 + k as u64);
    }
}

#[test]
fn operations_on_vectors_of_31_bits() {
    for (k, around) in [-45, -80].into_iter().enumerate() {
        operations(48, I32_LIMIT, around, 101 + k as u64);
    }
}

/// The sum of squares has 64 bits here.
#[test]
fn norms_of_the_longest_vectors() {
    operations(32_768, I32_LIMIT, -45, 5);
}

#[test]
fn embeddings() {
    let mut r = Random(99);
    let n = 64;
    let t: Vec<(Vec<i32>, Scale)> =
        tokens(&mut r, n, I32_LIMIT, 0).into_iter().map(|(x, _)| (x, Scale::pow2(-20))).collect();
    for count in [1, 5, 40] {
        let t = &t[40 - count..];
        for unit in [false, true] {
            let mut c = Case::new();
            let mut v = vector(&mut c, t, I32_LIMIT);
            v.scale = ScaleV::of(Scale::pow2(-20));
            let all = c.input(&[1, count, 1], vec![1; count]);
            let last = c.input(&[1, count, 1], (0..count).map(|k| i64::from(k + 1 == count)).collect());
            for (chosen, mean) in [(all, true), (last, false)] {
                let x = c.m.embedding(&v, chosen, mean, unit);
                c.out(x);
            }
            let out = c.run();
            let sums: Vec<i64> = (0..n).map(|i| t.iter().map(|(x, _)| i64::from(x[i])).sum()).collect();
            let ends: Vec<i64> = t[count - 1].0.iter().map(|v| i64::from(*v)).collect();
            for (got, v, tokens) in [(&out[0], sums, count), (&out[1], ends, 1)] {
                let want = embedding(&v, Scale::pow2(-20), tokens, unit);
                assert_eq!(*got, want.iter().map(|v| i64::from(*v)).collect::<Vec<_>>(), "{count} {unit} {tokens}");
            }
        }
    }
}
