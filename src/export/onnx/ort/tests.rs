//! The operators of ONNX Runtime against what they stand for, in the built-in engine.

use super::blocks::Layout;
use super::{attend, linear};
use crate::encoding::fixed::Scale;
use crate::encoding::lowbit::Encoding;
use crate::encoding::order::Order;
use crate::engine::builtin::Builtin;
use crate::engine::{Data, Engine, Tensor};
use crate::export::onnx::graph::{Dim, Graph, Value};
use crate::export::onnx::int::math::Ints;
use crate::export::onnx::int::position::inputs;
use crate::export::onnx::std::attend as plain;
use crate::export::onnx::std::linear::Codes;
use crate::export::onnx::std::{Place, Query};
use crate::export::onnx::weights::Matrix;
use crate::export::onnx::Settings;
use crate::format::onnx::Elem;
use crate::kernels::attention::AttentionShape;
use crate::program::{ScaleMode, Scoring, TensorKind};
use crate::runtime::Artifact;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % n as u64) as usize
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.below(4001) as f32 / 1000.0 - 2.0).collect()
    }
}

fn tiny() -> Artifact {
    Artifact::open(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny.bitnet")).unwrap()
}

/// A tensor of whatever lies in the weights of the smallest model from byte `at` on.
fn tensor(a: &mut Artifact, kind: TensorKind, rows: usize, cols: usize, at: u64) -> usize {
    let scale = Scale { m: 1 << 30, e: -35 };
    let mut t = crate::program::Tensor { name: String::new(), kind, rows, cols, scale, data: 0..0, scales: 0..0 };
    t.data = at..at + crate::program::Tensor::data_bytes(kind, rows, cols);
    t.scales = t.data.end..t.data.end + crate::program::Tensor::scale_bytes(kind, rows, cols);
    assert!(t.scales.end <= a.weights().len() as u64, "the smallest model is too small for this test");
    a.program.tensors.push(t);
    a.program.tensors.len() - 1
}

fn floats(t: &Tensor) -> &[f32] {
    match &t.data {
        Data::F32(v) => v,
        other => panic!("{other:?}"),
    }
}

fn open(g: Graph) -> Builtin {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.onnx");
    g.write(&file, &crate::progress::Silent).unwrap();
    Builtin::open(&file).unwrap()
}

/// Products of two vectors of codes, 127 of which is the most, in every form of weights and scales; with blocks that level 4 loses nothing of.
#[test]
fn products_are_exact_and_every_block_has_a_full_step() {
    let mut r = Random(77);
    let mut seen = [0; 2];
    for (enc, bits) in [(Encoding::Binary1, 2), (Encoding::Ternary2, 4), (Encoding::Ternary2, 2), (Encoding::Int4, 4)] {
        for (rows, cols, mode) in [
            (5, 31, ScaleMode::One),
            (3, 130, ScaleMode::Row),
            (4, 7, ScaleMode::Row),
            (3, 128, ScaleMode::Group(32)),
            (2, 75, ScaleMode::Group(40)),
        ] {
            for exact in [false, true] {
                let mut a = tiny();
                let kind = TensorKind::Matrix { enc, order: Order::Rows, scales: mode };
                let id = tensor(&mut a, kind, rows, cols, 4 * r.below(40) as u64);
                let w = Matrix::of(&a, id).unwrap();
                let codes: Vec<f32> = (0..2 * cols).map(|_| r.below(255) as f32 - 127.0).collect();
                let mut want = Vec::new();
                let mut weights = Vec::new();
                w.each_row(cols, &mut |_, row| {
                    weights.push(row.to_vec());
                    Ok(())
                })
                .unwrap();
                for x in codes.chunks(cols) {
                    for (row, weights) in weights.iter().enumerate() {
                        let term = |c: usize| f64::from(x[c]) * f64::from(weights[c]);
                        let group = w.group().unwrap_or(cols);
                        let part = |k: usize| {
                            let sum: f64 = (k * group..((k + 1) * group).min(cols)).map(term).sum();
                            sum * w.scale(row, k).to_f64()
                        };
                        want.push((0..w.groups()).map(part).sum::<f64>() / 3.0);
                    }
                }
                let mut m = Ints { g: Graph::new(21) };
                let real = m.g.input("x", Elem::F32, &[Dim::N(1), Dim::Sym("s"), Dim::N(cols as i64)]);
                let rate = m.g.f32s(&[1, 1, 1], &[3.0]);
                let y = linear::sums(&mut m, 0, &Codes { real, rate }, &w, bits, exact);
                m.g.output(y, "y", Elem::F32, &[Dim::N(1), Dim::Sym("s"), Dim::N(rows as i64)]);
                let x = linear::spread(&mut m, real, &Layout::of(&w, bits, !exact));
                m.g.output(x, "spread", Elem::F32, &[Dim::N(1), Dim::Sym("s"), Dim::Sym("k")]);
                let x = Tensor::new(&[1, 2, cols], Data::F32(codes)).unwrap();
                let got = open(m.g).run(&[("x", &x)], &["y", "spread"]).unwrap();
                let case = format!("{enc:?} {rows}x{cols} {mode:?} {bits} bits, exact {exact}");
                assert_eq!(got[0].dims, [1, 2, rows], "{case}");
                for (got, want) in floats(&got[0]).iter().zip(&want) {
                    assert!((f64::from(*got) - want).abs() <= 1e-6 * want.abs().max(1e-9), "{case}: {got} {want}");
                }
                if !exact {
                    // Where the largest of a block is 127, a step of it is 1.
                    let block = Layout::of(&w, bits, true).block;
                    assert_eq!(got[1].dims[2] % block, 0, "{case}");
                    for block in floats(&got[1]).chunks(block) {
                        assert_eq!(block.iter().fold(0f32, |m, x| m.max(x.abs())), 127.0, "{case}");
                        assert_eq!(block.last(), Some(&127.0), "{case}");
                    }
                }
                seen[usize::from(exact)] += 1;
            }
        }
    }
    assert_eq!(seen, [20, 20]);
}

struct Case {
    a: Artifact,
    freq: Option<usize>,
    scoring: Scoring,
    slopes: bool,
}

fn case(seed: u64) -> Case {
    let mut r = Random(0x9e37_79b9_7f4a_7c15 ^ (seed + 1).wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut a = tiny();
    let kv_heads = 1 + r.below(3);
    let (heads, head_dim) = (kv_heads * (1 + r.below(3)), [2, 6, 8, 12, 16][seed as usize % 5]);
    a.program.attention = AttentionShape { heads, kv_heads, head_dim, window: 40, sinks: 0, k_bits: 16, v_bits: 16 };
    (a.program.positions, a.program.static_keys, a.program.encoder) = (0, false, false);
    let turned = [head_dim / 2, head_dim / 4, 0][seed as usize % 3];
    let freq = tensor(&mut a, TensorKind::Frequencies, 1, turned, 4 * r.below(300) as u64);
    a.program.tensors[freq].scale = Scale::ONE;
    let scoring = Scoring {
        softmax: Scale { m: 1_234_567_891, e: -31 },
        window: if r.below(2) == 0 { 3 } else { 0 },
        cap: (r.below(2) == 0).then_some(Scale { m: 1_111_111_111, e: -29 }),
        slopes: None,
    };
    Case { a, freq: (r.below(4) > 0).then_some(freq), scoring, slopes: r.below(3) == 0 }
}

/// A graph of one attention: with the operator, or in plain ones.
fn attention(c: &Case, operator: bool) -> Builtin {
    let mut m = Ints { g: Graph::new(21) };
    let at = inputs(&mut m, &c.a, &Settings::default()).unwrap();
    let shape = c.a.program.attention;
    let [q, k, v] = [("q", shape.heads), ("k", shape.kv_heads), ("v", shape.kv_heads)].map(|(name, heads)| {
        m.g.input(name, Elem::F32, &[at.batch, at.sequence, Dim::N((heads * shape.head_dim) as i64)])
    });
    let values: Vec<f32> = (0..shape.heads).map(|h| 0.25 / (h + 1) as f32).collect();
    let slopes = c.slopes.then(|| m.g.f32s(&[shape.heads as i64], &values));
    let query = Query { q, freq: c.freq, scoring: &c.scoring, slopes };
    let place = Place { a: &c.a, at: &at };
    let (y, kv): (Value, plain::Kv) = match operator {
        true => {
            let mut kv = attend::kvwrite(&mut m, &place, 0, (k, v), c.freq);
            let y = attend::attend(&mut m, &place, &mut kv, &query).unwrap();
            assert!(attend::attend(&mut m, &place, &mut kv, &query).is_err(), "one cache, two attentions");
            (y, kv)
        }
        false => {
            let kv = plain::kvwrite(&mut m, &place, 0, (k, v), c.freq);
            (plain::attend(&mut m, &place, &kv, &query), kv)
        }
    };
    m.g.output(y, "y", Elem::F32, &[at.batch, at.sequence, Dim::N((shape.heads * shape.head_dim) as i64)]);
    plain::outputs(&mut m, &c.a, &at, &[kv]);
    open(m.g)
}

/// Runs tokens in pieces with the cache; gives y of all, and the cache at the end.
fn run(c: &Case, engine: &mut Builtin, mask: &[&[i64]], pieces: &[usize]) -> [Vec<f32>; 3] {
    let shape = c.a.program.attention;
    let (b, t) = (mask.len(), mask[0].len());
    let text = |heads: usize, seed| Random(seed).floats(b * t * heads * shape.head_dim);
    let all = [("q", shape.heads, 3), ("k", shape.kv_heads, 5), ("v", shape.kv_heads, 7)]
        .map(|(name, heads, seed)| (name, heads * shape.head_dim, text(heads, seed)));
    let mut cache = [(); 2].map(|()| Tensor::zeros(Elem::F32, &[b, shape.kv_heads, 0, shape.head_dim]).unwrap());
    let (mut y, mut from) = (vec![Vec::new(); b], 0);
    for n in pieces {
        let part = |of: &dyn Fn(usize) -> Vec<f32>, width| {
            Tensor::new(&[b, *n, width], Data::F32((0..b).flat_map(of).collect())).unwrap()
        };
        let new = all.each_ref().map(|(_, width, text)| {
            part(&|b| text[(b * t + from) * width..(b * t + from + n) * width].to_vec(), *width)
        });
        let ids = Tensor::i64s(&[b, *n], vec![0; b * n]).unwrap();
        let seen = mask.iter().flat_map(|m| m[..from + n].to_vec()).collect();
        let seen = Tensor::i64s(&[b, from + n], seen).unwrap();
        let feed = [
            ("input_ids", &ids),
            ("attention_mask", &seen),
            ("q", &new[0]),
            ("k", &new[1]),
            ("v", &new[2]),
            ("past_key_values.0.key", &cache[0]),
            ("past_key_values.0.value", &cache[1]),
        ];
        let mut got = engine.run(&feed, &["y", "present.0.key", "present.0.value"]).unwrap();
        let values = got.pop().unwrap();
        cache = [got.pop().unwrap(), values];
        let width = all[0].1;
        for (b, y) in y.iter_mut().enumerate() {
            let rows = floats(&got[0])[b * n * width..(b + 1) * n * width].chunks(width);
            // What a padding token computes is no one's business.
            rows.zip(&mask[b][from..]).filter(|(_, real)| **real > 0).for_each(|(row, _)| y.extend(row));
        }
        from += n;
    }
    [y.concat(), floats(&cache[0]).to_vec(), floats(&cache[1]).to_vec()]
}

/// Heads of any width, windows, caps and slopes; padding before, between and behind.
#[test]
fn the_operator_attends_as_plain_ones_do() {
    let masks: [&[&[i64]]; 3] =
        [&[&[1; 7]], &[&[0, 0, 1, 1, 1, 1, 1], &[1; 7]], &[&[1, 1, 0, 0, 1, 1, 1], &[1, 1, 1, 0, 1, 1, 1]]];
    for seed in 0..15 {
        let c = case(seed);
        let (mut operator, mut plain) = (attention(&c, true), attention(&c, false));
        for mask in masks {
            let want = run(&c, &mut plain, mask, &[7]);
            for pieces in [&[7][..], &[4, 1, 1, 1], &[3, 4]] {
                let got = run(&c, &mut operator, mask, pieces);
                for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                    assert_eq!(got.len(), want.len());
                    let off = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0f32, f32::max);
                    assert!(off < 2e-5, "seed {seed}, mask {mask:?}, in pieces {pieces:?}, result {i}: {off}");
                }
            }
        }
    }
}
