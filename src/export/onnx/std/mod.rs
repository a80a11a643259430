//! Profile `std`: every operation of the program in 32-bit floats, but QUANTIZE and the sums of LINEAR over codes within a byte, which stay
//! integers. Norms are computed in 64 bits, so that the order of their sums does not show. Two roundings of the program are left out: codes of
//! more than a byte are the floats that they were made from, and the cache holds keys and values as they are.
//!
//! Values are `[batch, seq, n]` with the n that was written: a register of the program is as wide as the widest vector that it ever holds, and
//! says nothing about the one that it holds now.

pub(in crate::export::onnx) mod attend;
mod floats;
pub(in crate::export::onnx) mod linear;

use super::graph::{Attr, Dim, Graph, Value};
use super::int::math::Ints;
use super::int::position::{self, Positions};
use super::int::{describe, opset, scope};
use super::weights::Matrix;
use super::{NormForm, Settings, WeightForm};
use crate::bytes::to_i32;
use crate::encoding::fixed::Scale;
use crate::error::{Error, Result};
use crate::format::onnx::Elem;
use crate::kernels::vector::{Act, Pool};
use crate::program::{Op, OpKind, Reg, Scoring, TensorId};
use crate::runtime::Artifact;
use attend::Kv;
use linear::Codes;

/// The parts of a graph in which the profiles with floats differ.
pub(in crate::export::onnx) trait Kernels<'a> {
    /// Gives the codes of operation `n` the name by which `verify` finds them.
    fn codes(&self, m: &mut Ints<'a>, n: usize, c: &Codes);

    /// LINEAR of codes within a byte; its sums are named after operation `n` if they are integers.
    fn linear(&self, m: &mut Ints<'a>, n: usize, c: &Codes, w: &Matrix<'a>) -> Value;

    /// LINEAR of a vector whose codes have more than 8 bits.
    fn product(&self, m: &mut Ints<'a>, x: Value, w: &Matrix<'a>) -> Value;

    /// KVWRITE.
    fn kvwrite(&self, m: &mut Ints<'a>, at: &Place, layer: usize, kv: (Value, Value), freq: Option<TensorId>) -> Kv;

    /// ATTEND over the cache of the layer.
    ///
    /// # Errors
    /// `Unsupported` for what the profile has no operator for.
    fn attend(&self, m: &mut Ints<'a>, at: &Place, kv: &mut Kv, query: &Query) -> Result<Value>;
}

/// The program, and the tokens of a run.
pub(in crate::export::onnx) struct Place<'p> {
    pub a: &'p Artifact,
    pub at: &'p Positions,
}

/// What ATTEND asks: f32 `[b, s, heads * D]`.
pub(in crate::export::onnx) struct Query<'p> {
    pub q: Value,
    pub freq: Option<TensorId>,
    pub scoring: &'p Scoring,
    /// A slope of each head.
    pub slopes: Option<Value>,
}

/// MatMulInteger, and attention in plain operators.
struct Integer {
    form: WeightForm,
}

impl<'a> Kernels<'a> for Integer {
    fn codes(&self, m: &mut Ints<'a>, n: usize, c: &Codes) {
        let bytes = c.bytes(m);
        m.g.name(bytes, format!("op{n}.codes"));
    }

    fn linear(&self, m: &mut Ints<'a>, n: usize, c: &Codes, w: &Matrix<'a>) -> Value {
        linear::linear(m, n, c, w, self.form)
    }

    fn product(&self, m: &mut Ints<'a>, x: Value, w: &Matrix<'a>) -> Value {
        linear::product(m, x, w)
    }

    fn kvwrite(&self, m: &mut Ints<'a>, at: &Place, layer: usize, kv: (Value, Value), freq: Option<TensorId>) -> Kv {
        attend::kvwrite(m, at, layer, kv, freq)
    }

    fn attend(&self, m: &mut Ints<'a>, at: &Place, kv: &mut Kv, query: &Query) -> Result<Value> {
        Ok(attend::attend(m, at, kv, query))
    }
}

/// What a register holds.
#[derive(Clone, Copy)]
enum Held {
    /// f32 `[b, s, n]`.
    Vector(Value),
    Codes(Codes),
}

/// The translation of one program.
struct Build<'a, 'k> {
    m: Ints<'a>,
    a: &'a Artifact,
    kernels: &'k dyn Kernels<'a>,
    norm: NormForm,
    at: Positions,
    /// By register.
    held: Vec<Option<Held>>,
    /// In the order of the layers, which a checked program keeps: the last one is that of the layer at hand.
    caches: Vec<Kv>,
}

/// The graph of a packed file.
///
/// # Errors
/// `Usage` for settings of another profile or an opset that is too low, `Input` for a program whose registers do not fit its operations.
pub fn build<'a>(artifact: &'a Artifact, s: &Settings) -> Result<Graph<'a>> {
    translate(artifact, s, &Integer { form: s.weights })
}

/// The graph of a packed file on the kernels of a profile.
///
/// # Errors
/// Those of [`build`], and what the kernels refuse.
pub(in crate::export::onnx) fn translate<'a>(
    artifact: &'a Artifact,
    s: &Settings,
    kernels: &dyn Kernels<'a>,
) -> Result<Graph<'a>> {
    if s.static_len.is_some() {
        return Err(Error::usage("`--static` belongs to the profile `int`").hint("add `--profile int`"));
    }
    let p = &artifact.program;
    let mut m = Ints { g: Graph::new(opset(s)?) };
    describe(&mut m.g, artifact, s);
    let at = position::inputs(&mut m, artifact, s)?;
    let held = vec![None; p.registers.len()];
    let mut b = Build { m, a: artifact, kernels, norm: s.norm, at, held, caches: Vec::new() };
    for (n, op) in p.ops.iter().enumerate() {
        b.m.g.scope(scope(op, n >= p.head_op));
        b.step(n, op)?;
    }
    if b.caches.iter().any(|kv| !kv.joined) {
        return Err(b.wrong("KVWRITE without an ATTEND".into()));
    }
    attend::outputs(&mut b.m, artifact, &b.at, &b.caches);
    Ok(b.m.g)
}

impl<'a> Build<'a, '_> {
    fn wrong(&self, what: String) -> Error {
        Error::input(what).at_file(&self.a.packed.path)
    }

    /// A vector; codes of more than a byte are the vector that they were made from.
    fn vector(&self, r: Reg) -> Result<Value> {
        match self.held.get(r) {
            Some(Some(Held::Vector(v))) => Ok(*v),
            _ => Err(self.wrong(format!("register {r} holds no vector"))),
        }
    }

    /// Keeps the result of operation `n`, under the name by which `verify` finds it.
    fn put(&mut self, n: usize, r: Reg, v: Value) {
        if !self.m.g.is_named(v) {
            self.m.g.name(v, format!("op{n}.y"));
        }
        if let Some(slot) = self.held.get_mut(r) {
            *slot = Some(Held::Vector(v));
        }
    }

    /// A vector of the program, times its scale, and its length.
    fn constant(&mut self, id: TensorId) -> Result<(Value, usize)> {
        let t = self.a.program.tensors.get(id).ok_or_else(|| self.wrong(format!("there is no tensor {id}")))?;
        let bytes = self.a.weights().get(t.data.start as usize..t.data.end as usize).unwrap_or_default();
        let unit = t.scale.to_f64();
        let values: Vec<f32> = to_i32(bytes).iter().map(|v| (f64::from(*v) * unit) as f32).collect();
        Ok((self.m.g.f32s(&[values.len() as i64], &values), values.len()))
    }

    fn step(&mut self, n: usize, op: &Op) -> Result<()> {
        match op.kind {
            OpKind::Embed { dst, table, factor } => {
                let t = Matrix::of(self.a, table)?;
                let x = linear::rows(&mut self.m, self.at.ids, &t, factor.unwrap_or(Scale::ONE));
                self.put(n, dst, x);
            }
            OpKind::Position { dst, table } => {
                let t = Matrix::of(self.a, table)?;
                let (x, last) = (self.vector(dst)?, (self.a.program.positions as i64 - 1).max(0));
                let last = self.m.i(last);
                // Positions of padding, or beyond the table, which a runtime of the program refuses.
                let at = self.m.g.op("Min", &[self.at.at, last], &[]);
                let row = linear::rows(&mut self.m, at, &t, Scale::ONE);
                let x = self.m.g.op("Add", &[x, row], &[]);
                self.put(n, dst, x);
            }
            OpKind::RmsNorm { dst, src, gamma, eps } => {
                let (x, gamma) = (self.vector(src)?, self.constant(gamma)?.0);
                let y = self.normed(x, eps, false);
                let y = self.m.g.op("Mul", &[y, gamma], &[]);
                self.put(n, dst, y);
            }
            OpKind::Norm { dst, src, gamma, beta, eps, group, centred } => {
                let x = self.vector(src)?;
                let x = self.m.reshape(x, &[0, 0, -1, group as i64]);
                let mut y = self.normed(x, eps, centred);
                for (by, what) in [(gamma, "Mul"), (beta, "Add")] {
                    if let Some(by) = by {
                        let (by, len) = self.constant(by)?;
                        let by = self.m.reshape(by, &[(len / group) as i64, group as i64]);
                        y = self.m.g.op(what, &[y, by], &[]);
                    }
                }
                let y = self.m.reshape(y, &[0, 0, -1]);
                self.put(n, dst, y);
            }
            OpKind::Quantize { dst, src, rule } => {
                let x = self.vector(src)?;
                let held = match rule.qmax {
                    ..=127 => {
                        let c = linear::quantize(&mut self.m, x, &rule);
                        self.kernels.codes(&mut self.m, n, &c);
                        Held::Codes(c)
                    }
                    _ => Held::Vector(x),
                };
                if let Some(slot) = self.held.get_mut(dst) {
                    *slot = Some(held);
                }
            }
            OpKind::Linear { dst, codes, weight, .. } => {
                let w = Matrix::of(self.a, weight)?;
                let y = match self.held.get(codes) {
                    Some(Some(Held::Codes(c))) if w.enc.wmax() <= 128 => self.kernels.linear(&mut self.m, n, c, &w),
                    Some(Some(Held::Codes(c))) => {
                        let x = linear::reals(&mut self.m, c);
                        linear::product(&mut self.m, x, &w)
                    }
                    Some(Some(Held::Vector(x))) => self.kernels.product(&mut self.m, *x, &w),
                    _ => return Err(self.wrong(format!("register {codes} holds no codes"))),
                };
                self.put(n, dst, y);
            }
            OpKind::Add { dst, src, factor } => {
                let (x, mut v) = (self.vector(dst)?, self.vector(src)?);
                if let Some(f) = factor {
                    v = self.times(v, f.to_f64());
                }
                let x = self.m.g.op("Add", &[x, v], &[]);
                self.put(n, dst, x);
            }
            OpKind::Store { dst, src } => {
                let v = self.vector(src)?;
                self.put(n, dst, v);
            }
            OpKind::Bias { dst, src, by } => self.by(n, "Add", dst, src, by)?,
            OpKind::Gain { dst, src, by } => self.by(n, "Mul", dst, src, by)?,
            OpKind::Act { dst, src, kind } => {
                let x = self.vector(src)?;
                let y = floats::act(&mut self.m, x, kind);
                self.put(n, dst, y);
            }
            OpKind::Gate { dst, gate, up, kind } => self.gate(n, dst, gate, up, kind)?,
            OpKind::Relu2Mul { dst, gate, up } => self.gate(n, dst, gate, up, Act::Relu2)?,
            OpKind::SiluMul { dst, gate, up } => self.gate(n, dst, gate, up, Act::Silu)?,
            OpKind::Rope { dst, src, freq } => {
                let x = self.vector(src)?;
                let y = attend::rope(&mut self.m, self.a, &self.at, x, freq);
                self.put(n, dst, y);
            }
            OpKind::KvWrite { k, v, freq, .. } => {
                let (k, v) = (self.vector(k)?, self.vector(v)?);
                let at = Place { a: self.a, at: &self.at };
                let kv = self.kernels.kvwrite(&mut self.m, &at, op.layer.unwrap_or(0), (k, v), freq);
                self.caches.push(kv);
            }
            OpKind::Attend { dst, q, freq, ref scoring, .. } => {
                let q = self.vector(q)?;
                let slopes = scoring.slopes.map(|id| self.constant(id)).transpose()?.map(|(v, _)| v);
                let at = Place { a: self.a, at: &self.at };
                let Some(kv) = self.caches.last_mut() else {
                    return Err(self.wrong("ATTEND before any KVWRITE".into()));
                };
                let y = self.kernels.attend(&mut self.m, &at, kv, &Query { q, freq, scoring, slopes })?;
                self.put(n, dst, y);
            }
            OpKind::Logits { src, factor, cap } => {
                let mut x = self.vector(src)?;
                if let Some(f) = factor {
                    x = self.times(x, f.to_f64());
                }
                if let Some(c) = cap {
                    x = floats::capped(&mut self.m, x, c.to_f64());
                }
                let dims = [self.at.batch, self.at.sequence, Dim::N(self.a.program.vocab as i64)];
                self.m.g.output(x, "logits", Elem::F32, &dims);
            }
            OpKind::Embedding { src, pool, unit } => self.embedding(src, pool, unit)?,
        }
        Ok(())
    }

    fn times(&mut self, x: Value, by: f64) -> Value {
        let by = self.m.g.f32(by as f32);
        self.m.g.op("Mul", &[x, by], &[])
    }

    /// BIAS and GAIN.
    fn by(&mut self, n: usize, what: &str, dst: Reg, src: Reg, by: TensorId) -> Result<()> {
        let (x, by) = (self.vector(src)?, self.constant(by)?.0);
        let y = self.m.g.op(what, &[x, by], &[]);
        self.put(n, dst, y);
        Ok(())
    }

    fn gate(&mut self, n: usize, dst: Reg, gate: Reg, up: Reg, kind: Act) -> Result<()> {
        let (g, u) = (self.vector(gate)?, self.vector(up)?);
        let y = floats::act(&mut self.m, g, kind);
        let y = self.m.g.op("Mul", &[y, u], &[]);
        self.put(n, dst, y);
        Ok(())
    }

    /// `x` less its mean if `centred`, divided by the root of its mean square and `eps`, over the last dimension.
    fn normed(&mut self, x: Value, eps: Scale, centred: bool) -> Value {
        let wide = self.norm == NormForm::F64;
        let g = &mut self.m.g;
        let eps = if wide { g.f64(eps.to_f64()) } else { g.f32(eps.to_f64() as f32) };
        let mut x = if wide { g.cast(x, Elem::F64) } else { x };
        if centred {
            let mean = floats::reduce(g, "ReduceMean", x, -1);
            x = g.op("Sub", &[x, mean], &[]);
        }
        let square = g.op("Mul", &[x, x], &[]);
        let mean = floats::reduce(g, "ReduceMean", square, -1);
        let mean = g.op("Add", &[mean, eps], &[]);
        let root = g.op("Sqrt", &[mean], &[]);
        let y = g.op("Div", &[x, root], &[]);
        if wide {
            g.cast(y, Elem::F32)
        } else {
            y
        }
    }

    /// EMBEDDING: the mean of the tokens, or one of them, made a unit vector if asked; beside it the states of an encoder.
    fn embedding(&mut self, src: Reg, pool: Pool, unit: bool) -> Result<()> {
        let x = self.vector(src)?;
        let d = self.a.program.d_model as i64;
        let chosen = position::chosen(&mut self.m, &self.at, pool);
        let g = &mut self.m.g;
        let chosen = g.cast(chosen, Elem::F32);
        let axis = g.i64s(&[1], &[1]);
        let keep = [("keepdims", Attr::I(0))];
        let some = g.op("Mul", &[x, chosen], &[]);
        let mut v = g.op("ReduceSum", &[some, axis], &keep);
        let (count, one) = (g.op("ReduceSum", &[chosen, axis], &keep), g.f32(1.0));
        let count = g.op("Max", &[count, one], &[]);
        v = g.op("Div", &[v, count], &[]);
        if unit {
            let last = g.i64s(&[1], &[-1]);
            let square = g.op("Mul", &[v, v], &[]);
            let sum = g.op("ReduceSum", &[square, last], &[("keepdims", Attr::I(1))]);
            let least = g.f32(f32::MIN_POSITIVE);
            let sum = g.op("Max", &[sum, least], &[]);
            let length = g.op("Sqrt", &[sum], &[]);
            v = g.op("Div", &[v, length], &[]);
        }
        if self.a.program.encoder {
            g.output(x, "last_hidden_state", Elem::F32, &[self.at.batch, self.at.sequence, Dim::N(d)]);
        }
        g.output(v, "sentence_embedding", Elem::F32, &[self.at.batch, Dim::N(d)]);
        Ok(())
    }
}
