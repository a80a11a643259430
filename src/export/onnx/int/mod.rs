//! Profile `int`: every operation of the program as docs/semantics.md defines it, on int64. Whoever runs the graph gets the integers of
//! `runtime::Session`, for every token of a run.

pub mod act;
mod attend;
mod cache;
pub mod curve;
mod linear;
pub mod math;
pub mod norm;
pub(in crate::export::onnx) mod position;
mod rope;
pub mod scale;
pub mod vector;

use super::graph::{Dim, Graph, Value};
use super::weights::Matrix;
use super::{Profile, Settings, WeightForm};
use crate::bytes::to_i32;
use crate::digest::{hex, sha256};
use crate::encoding::fixed::Scale;
use crate::error::{Error, Result};
use crate::format::onnx::Elem;
use crate::kernels::vector::{Act, Pool};
use crate::program::{Op, OpKind, Reg, TensorId, TensorKind};
use crate::runtime::Artifact;
use cache::{Given, Kv};
use math::{Ints, Num};
use norm::Rule;
use position::Positions;
use scale::ScaleV;
use vector::{Codes, Fixed, Vector};

/// What a register holds.
#[derive(Clone, Copy)]
enum Held {
    Vector(Vector),
    Codes(Codes),
}

/// The translation of one program.
struct Build<'a> {
    m: Ints<'a>,
    a: &'a Artifact,
    form: WeightForm,
    float: bool,
    at: Positions,
    /// Constants of the program that are vectors, read once.
    constants: Vec<Option<Vec<i32>>>,
    held: Vec<Option<Held>>,
    caches: Vec<Kv>,
}

/// The graph of a packed file.
///
/// # Errors
/// `Unsupported` with the operation that has no place in this profile, `Usage` for an opset that is too low.
pub fn build<'a>(artifact: &'a Artifact, s: &Settings) -> Result<Graph<'a>> {
    let p = &artifact.program;
    let mut m = Ints { g: Graph::new(opset(s)?) };
    describe(&mut m.g, artifact, s);
    let at = position::inputs(&mut m, artifact, s)?;
    let values = |t: &crate::program::Tensor| -> Result<Option<Vec<i32>>> {
        if t.kind != TensorKind::Vector {
            return Ok(None);
        }
        let bytes = artifact.weights().get(t.data.start as usize..t.data.end as usize);
        let values = to_i32(bytes.unwrap_or_default());
        if values.len() != t.cols || values.contains(&i32::MIN) {
            let what = "holds a constant of -2^31, whose products this profile has no room for";
            return Err(Error::unsupported(what).at_tensor(&t.name).at_file(&artifact.packed.path));
        }
        Ok(Some(values))
    };
    let constants = p.tensors.iter().map(values).collect::<Result<_>>()?;
    let mut b = Build {
        m,
        a: artifact,
        form: s.weights,
        float: s.float_logits,
        at,
        constants,
        held: vec![None; p.registers.len()],
        caches: Vec::new(),
    };
    for (n, op) in p.ops.iter().enumerate() {
        b.m.g.scope(scope(op, n >= p.head_op));
        b.step(n, op)?;
    }
    cache::outputs(&mut b.m, artifact, &b.at, &b.caches);
    Ok(b.m.g)
}

/// The lowest opset that the settings need, or the one that was asked for.
pub(super) fn opset(s: &Settings) -> Result<i64> {
    let least = match (s.profile, s.weights) {
        (Profile::Ort, _) => 21,
        (_, WeightForm::Int8) => 13,
        (_, WeightForm::Int4) => 21,
        (_, WeightForm::Int2) => 25,
    };
    match s.opset {
        Some(n) if n < least => {
            let hint = match s.profile {
                Profile::Ort => "leave `--opset` away, or choose `--profile std`",
                _ => "leave `--opset` away, or choose `--weights int8`",
            };
            Err(Error::usage(format!("opset {n} has no type for these weights, which need opset {least}")).hint(hint))
        }
        asked => Ok(asked.unwrap_or(least)),
    }
}

/// What the file says about itself.
pub(super) fn describe(g: &mut Graph, a: &Artifact, s: &Settings) {
    let p = &a.program;
    let weights = match s.weights {
        WeightForm::Int8 => "int8",
        WeightForm::Int4 => "int4",
        WeightForm::Int2 => "int2",
    };
    let rules = p.ops.iter().filter_map(|o| match &o.kind {
        OpKind::Quantize { rule, .. } => Some(rule.qmax),
        _ => None,
    });
    let mut qmax: Vec<u32> = rules.collect();
    qmax.sort_unstable();
    qmax.dedup();
    let activations: Vec<String> = qmax.iter().map(|q| q.to_string()).collect();
    let profile = match s.profile {
        Profile::Int => "int",
        Profile::Std => "std",
        Profile::Ort => "ort",
    };
    g.meta("bitnet.profile", profile);
    g.meta("bitnet.semantics", "2");
    g.meta("bitnet.model_id", format!("{:016x}", p.model_id));
    g.meta("bitnet.source", hex(&sha256(a.packed.bytes())));
    g.meta("bitnet.weights", weights);
    g.meta("bitnet.activations", format!("codes of up to {}", activations.join(", ")));
    g.meta("bitnet.residual_frac_bits", p.residual_frac.to_string());
    let float = s.float_logits || s.profile != Profile::Int;
    match p.embedding() {
        None => g.meta("logits_scale", if float { "1" } else { "1/65536" }),
        Some((_, unit)) => {
            let bits = if unit { 30 } else { 16 };
            g.meta("embedding_scale", if float { "1".to_string() } else { format!("1/{}", 1 << bits) });
        }
    }
    g.describe(match s.profile {
        Profile::Int => "Integer program of bitnet-convert: every result is that of docs/semantics.md, bit for bit.",
        Profile::Std => "Integer program of bitnet-convert with floats around the sums of its codes.",
        Profile::Ort => "Integer program of bitnet-convert on contributed operators of ONNX Runtime.",
    });
}

/// What the names of an operation's nodes begin with.
pub(super) fn scope(op: &Op, head: bool) -> String {
    let name = op.kind.name().to_lowercase();
    match op.layer {
        Some(l) => format!("layers.{l}/{name}"),
        None if head => format!("head/{name}"),
        None => name,
    }
}

impl<'a> Build<'a> {
    fn vector(&self, r: Reg) -> Result<Vector> {
        match self.held.get(r) {
            Some(Some(Held::Vector(v))) => Ok(*v),
            _ => Err(Error::input(format!("register {r} holds no vector")).at_file(&self.a.packed.path)),
        }
    }

    fn put(&mut self, n: usize, r: Reg, v: Vector) {
        self.m.g.name(v.x, format!("op{n}.x"));
        for (part, of) in [("m", v.scale.m), ("e", v.scale.e)] {
            // The same scale may be that of several vectors.
            if let Some(value) = of.bare().filter(|v| !self.m.g.is_named(*v)) {
                self.m.g.name(value, format!("op{n}.{part}"));
            }
        }
        if let Some(slot) = self.held.get_mut(r) {
            *slot = Some(Held::Vector(v));
        }
    }

    /// Constants of the program. They are lent apart from the graph, which grows meanwhile.
    fn fixed<'c>(constants: &'c [Option<Vec<i32>>], a: &Artifact, id: TensorId) -> Fixed<'c> {
        let values = constants.get(id).and_then(|c| c.as_deref()).unwrap_or_default();
        Fixed { values, scale: a.program.tensors.get(id).map_or(Scale::ONE, |t| t.scale) }
    }

    fn gate(&mut self, n: usize, dst: Reg, gate: Reg, up: Reg, kind: Act) -> Result<()> {
        let (g, u) = (self.vector(gate)?, self.vector(up)?);
        let v = self.m.gate(&g, &u, kind);
        self.put(n, dst, v);
        Ok(())
    }

    fn step(&mut self, n: usize, op: &Op) -> Result<()> {
        let p = &self.a.program;
        let frac = i64::from(p.residual_frac);
        let residual = |x: Value| Vector {
            x,
            scale: ScaleV::of(Scale::pow2(-(frac as i32))),
            max: crate::encoding::fixed::I32_LIMIT,
            n: p.d_model,
        };
        match op.kind {
            OpKind::Embed { dst, table, factor } => {
                let t = Matrix::of(self.a, table)?;
                let x = linear::rows(&mut self.m, self.at.ids, &t, factor, frac);
                self.put(n, dst, residual(x));
            }
            OpKind::Position { dst, table } => {
                let t = Matrix::of(self.a, table)?;
                let x = self.vector(dst)?;
                let last = (p.positions as i64 - 1).max(0);
                let at = self.m.clip(Num::value(self.at.at, i64::MIN / 2, i64::MAX / 2), 0, last);
                let at = self.m.val(at);
                let y = linear::rows(&mut self.m, at, &t, None, frac);
                let v = self.m.summed(Some(&x), y, x.n, frac);
                self.put(n, dst, v);
            }
            OpKind::RmsNorm { dst, src, gamma, eps } => {
                let v = self.vector(src)?;
                let gamma = Build::fixed(&self.constants, self.a, gamma);
                let v = self.m.rmsnorm(&v, gamma, eps);
                self.put(n, dst, v);
            }
            OpKind::Norm { dst, src, gamma, beta, eps, group, centred } => {
                let v = self.vector(src)?;
                let of = |id| Build::fixed(&self.constants, self.a, id);
                let rule = Rule { gamma: gamma.map(of), beta: beta.map(of), eps, group, centred };
                let v = self.m.layer_norm(&v, &rule);
                self.put(n, dst, v);
            }
            OpKind::Quantize { dst, src, rule } => {
                let v = self.vector(src)?;
                let c = self.m.quantize(&v, &rule);
                self.m.g.name(c.shown, format!("op{n}.x"));
                if let Some(slot) = self.held.get_mut(dst) {
                    *slot = Some(Held::Codes(c));
                }
            }
            OpKind::Linear { dst, codes, weight, .. } => {
                let Some(Some(Held::Codes(c))) = self.held.get(codes).copied() else {
                    return Err(Error::input(format!("register {codes} holds no codes")).at_file(&self.a.packed.path));
                };
                let w = Matrix::of(self.a, weight)?;
                let v = linear::linear(&mut self.m, self.at.ids, &c, &w, self.form)?;
                self.put(n, dst, v);
            }
            OpKind::Add { dst, src, factor } => {
                let (x, v) = (self.vector(dst)?, self.vector(src)?);
                let v = self.m.into_residual(Some(&x), &v, factor, frac);
                self.put(n, dst, v);
            }
            OpKind::Store { dst, src } => {
                let v = self.vector(src)?;
                let v = self.m.into_residual(None, &v, None, frac);
                self.put(n, dst, v);
            }
            OpKind::Bias { dst, src, by } => {
                let v = self.vector(src)?;
                let v = self.m.bias(&v, Build::fixed(&self.constants, self.a, by));
                self.put(n, dst, v);
            }
            OpKind::Gain { dst, src, by } => {
                let v = self.vector(src)?;
                let v = self.m.gain(&v, Build::fixed(&self.constants, self.a, by));
                self.put(n, dst, v);
            }
            OpKind::Act { dst, src, kind } => {
                let v = self.vector(src)?;
                let v = self.m.act(&v, kind);
                self.put(n, dst, v);
            }
            OpKind::Gate { dst, gate, up, kind } => self.gate(n, dst, gate, up, kind)?,
            OpKind::Relu2Mul { dst, gate, up } => self.gate(n, dst, gate, up, Act::Relu2)?,
            OpKind::SiluMul { dst, gate, up } => self.gate(n, dst, gate, up, Act::Silu)?,
            OpKind::Rope { dst, src, freq } => {
                let v = self.vector(src)?;
                let v = rope::rope(&mut self.m, self.a, &self.at, &v, freq);
                self.put(n, dst, v);
            }
            OpKind::KvWrite { k, v, freq, keys } => {
                let (k, v) = (self.vector(k)?, self.vector(v)?);
                let layer = op.layer.unwrap_or(0);
                let kv = cache::kvwrite(&mut self.m, self.a, &self.at, layer, (&k, &v), Given { freq, keys });
                self.caches.push(kv);
            }
            OpKind::Attend { dst, q, freq, keys, ref scoring } => {
                let q = self.vector(q)?;
                let Some(kv) = self.caches.last() else {
                    return Err(Error::input("ATTEND before any KVWRITE").at_file(&self.a.packed.path));
                };
                let v = attend::attend(&mut self.m, self.a, &self.at, kv, &q, Given { freq, keys }, scoring);
                self.put(n, dst, v);
            }
            OpKind::Logits { src, factor, cap } => {
                let v = self.vector(src)?;
                let x = self.m.logits(&v, factor, cap);
                self.m.g.name(x, format!("op{n}.x"));
                let dims = [self.at.batch, self.at.sequence, Dim::N(p.vocab as i64)];
                self.output(x, "logits", &dims, 16);
            }
            OpKind::Embedding { src, pool, unit } => self.embedding(n, src, pool, unit)?,
        }
        Ok(())
    }

    fn embedding(&mut self, n: usize, src: Reg, pool: Pool, unit: bool) -> Result<()> {
        let v = self.vector(src)?;
        let chosen = position::chosen(&mut self.m, &self.at, pool);
        let x = self.m.embedding(&v, chosen, pool == Pool::Mean, unit);
        let d = v.n as i64;
        let x = self.m.reshape(x, &[-1, d]);
        self.m.g.name(x, format!("op{n}.x"));
        if self.a.program.encoder {
            let dims = [self.at.batch, self.at.sequence, Dim::N(d)];
            self.output(v.x, "last_hidden_state", &dims, self.a.program.residual_frac);
        }
        self.output(x, "sentence_embedding", &[self.at.batch, Dim::N(d)], if unit { 30 } else { 16 });
        Ok(())
    }

    /// An output of int32, or of floats that its fraction bits are counted in.
    fn output(&mut self, x: Value, name: &str, dims: &[Dim], frac: u32) {
        let mut x = self.m.g.cast(x, Elem::I32);
        let mut elem = Elem::I32;
        if self.float {
            (x, elem) = (self.m.g.cast(x, Elem::F32), Elem::F32);
            let unit = self.m.g.f32(0.5f32.powi(frac as i32));
            x = self.m.g.op("Mul", &[x, unit], &[]);
        }
        self.m.g.output(x, name, elem, dims);
    }
}
