//! Runs a program on the host. The order of operations and every integer are those of docs/semantics.md; only the inner products
//! may use another kernel, which gives the same integers.

pub mod adapter;
pub mod artifact;
mod moments;
pub mod sample;
pub mod state;

pub use adapter::Bound;
pub use artifact::Artifact;
pub use moments::Moments;

use crate::digest::crc32;
use crate::encoding::fixed::Scale;
use crate::encoding::order;
use crate::error::{Error, Result};
use crate::kernels::adapter::{down, up, Hidden};
use crate::kernels::attention::{self, LayerCache, Rope, Scoring, StaticKeys};
use crate::kernels::dot::{Codes, DotKernel};
use crate::kernels::scalar::{self, Matrix, MatrixScales};
use crate::kernels::vector::{self, Act, Constants, NormRule, Pool};
use crate::program::{Op, OpKind, Program, ScaleMode, TensorId, TensorKind};
use std::sync::Arc;

/// What a register holds during a run.
struct Slot {
    /// As long as the value it holds: a register's capacity is a promise of the file, its contents are what was computed.
    vector: Vec<i32>,
    codes: Codes,
    qmax: u32,
    scale: Scale,
}

/// Receives the checksum of each operation: position of the token, operation, checksum.
pub type Trace<'a> = dyn FnMut(u32, usize, u32) + 'a;

/// Statistics of what calibration wants to know; gathered only when asked for.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Largest magnitude of the residual, in fixed point.
    pub residual: u32,
    /// Per layer: smallest and largest value of each rotated key channel, as reals (for the choice of constants in the converter).
    pub keys: Vec<Vec<(f64, f64)>>,
}

/// What an operation gave for one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub position: u32,
    /// Index of the operation.
    pub op: usize,
    /// Elements or codes.
    pub values: Vec<i32>,
    pub scale: Scale,
}

/// One running model: registers and caches over a program and its weights.
pub struct Session<'a> {
    program: &'a Program,
    weights: &'a [u8],
    kernel: DotKernel,
    constants: Vec<Option<Vec<i32>>>,
    freqs: Vec<Option<Vec<u32>>>,
    /// Matrices that a device's kernels read in another form, turned into the one of the host's kernels.
    turned: Vec<Option<Arc<[u8]>>>,
    keys: Vec<Option<StaticKeys>>,
    slots: Vec<Slot>,
    caches: Vec<LayerCache>,
    position: u32,
    /// Tokens of the text that an encoder is in.
    text: Option<usize>,
    /// What an encoder pooled, and the result of EMBEDDING.
    sums: Vec<i64>,
    pooled: Vec<i32>,
    saturated: u64,
    observed: Option<Observed>,
    checksum: bool,
    moments: Option<Moments>,
    keep: Option<fn(&OpKind) -> bool>,
    kept: Vec<Kept>,
    adapter: Option<&'a Bound>,
    /// What the QUANTIZEs left for each part of the adapter.
    hidden: Vec<Hidden>,
}

impl<'a> Session<'a> {
    /// `weights` is the weights section; program and weights have been checked ([`Artifact::open`] does).
    pub fn new(program: &'a Program, weights: &'a [u8], kernel: DotKernel) -> Self {
        let small = |t: &crate::program::Tensor| &weights[t.data.start as usize..t.data.end as usize];
        let constants =
            program.tensors.iter().map(|t| (t.kind == TensorKind::Vector).then(|| crate::bytes::to_i32(small(t))));
        let freqs =
            program.tensors.iter().map(|t| (t.kind == TensorKind::Frequencies).then(|| crate::bytes::to_u32(small(t))));
        let keys = program.tensors.iter().map(|t| {
            (t.kind == TensorKind::StaticKeys).then(|| {
                let (b, n) = (small(t), t.rows * t.cols);
                StaticKeys {
                    scale: t.scale,
                    frac: program.key_frac as i32,
                    center: crate::bytes::to_i32(&b[..4 * n]),
                    inv_m: crate::bytes::to_u32(&b[4 * n..8 * n]),
                    key_m: crate::bytes::to_u32(&b[8 * n..12 * n]),
                    inv_h: b[12 * n..13 * n].to_vec(),
                    key_h: b[13 * n..].to_vec(),
                }
            })
        });
        let turned = program.tensors.iter().map(|t| match t.kind {
            TensorKind::Matrix { enc, order, .. } => {
                order::for_host(enc, order, small(t), t.rows, t.cols).map(Arc::from)
            }
            _ => None,
        });
        let slots = program.registers.iter().map(|_| Slot {
            vector: Vec::new(),
            codes: Codes::default(),
            qmax: 0,
            scale: Scale::ONE,
        });
        Session {
            program,
            weights,
            kernel,
            constants: constants.collect(),
            freqs: freqs.collect(),
            turned: turned.collect(),
            keys: keys.collect(),
            slots: slots.collect(),
            caches: vec![LayerCache::new(); program.layers],
            position: 0,
            text: None,
            sums: Vec::new(),
            pooled: Vec::new(),
            saturated: 0,
            observed: None,
            checksum: false,
            moments: None,
            keep: None,
            kept: Vec::new(),
            adapter: None,
            hidden: Vec::new(),
        }
    }

    /// Computes with an adapter from the next token on, or without one. The context stays: what it holds was computed with the one before.
    pub fn set_adapter(&mut self, adapter: Option<&'a Bound>) {
        self.adapter = adapter;
        self.hidden = vec![None; adapter.map_or(0, |a| a.parts.len())];
    }

    /// Gathers [`Observed`] from now on.
    pub fn observe(&mut self) {
        let a = self.program.attention;
        let keys = vec![vec![(f64::INFINITY, f64::NEG_INFINITY); a.kv_heads * a.head_dim]; self.program.layers];
        self.observed = Some(Observed { residual: 0, keys });
    }

    /// Gathers [`Moments`] from now on.
    pub fn measure(&mut self) {
        self.moments = Some(Moments::new(self.program.ops.len()));
    }

    pub fn moments(&self) -> Option<&Moments> {
        self.moments.as_ref()
    }

    /// Keeps the results of the operations of some kinds from now on, until [`Session::take_kept`]. KVWRITE has none.
    pub fn keep(&mut self, which: fn(&OpKind) -> bool) {
        self.keep = Some(which);
    }

    /// What was kept since the last call, in the order of computation.
    pub fn take_kept(&mut self) -> Vec<Kept> {
        std::mem::take(&mut self.kept)
    }

    fn note_result(&mut self, n: usize) {
        let kind = &self.program.ops[n].kind;
        if !self.keep.is_some_and(|which| which(kind)) {
            return;
        }
        let (values, scale) = match kind {
            OpKind::KvWrite { .. } => return,
            OpKind::Quantize { dst, .. } => {
                let slot = &self.slots[*dst];
                (slot.codes.wide[..slot.codes.len].iter().map(|c| i32::from(*c)).collect(), slot.scale)
            }
            OpKind::Embedding { .. } => (self.pooled.clone(), Scale::ONE),
            OpKind::Logits { src: at, .. }
            | OpKind::Embed { dst: at, .. }
            | OpKind::RmsNorm { dst: at, .. }
            | OpKind::Linear { dst: at, .. }
            | OpKind::Add { dst: at, .. }
            | OpKind::Attend { dst: at, .. }
            | OpKind::Relu2Mul { dst: at, .. }
            | OpKind::SiluMul { dst: at, .. }
            | OpKind::Norm { dst: at, .. }
            | OpKind::Bias { dst: at, .. }
            | OpKind::Gain { dst: at, .. }
            | OpKind::Act { dst: at, .. }
            | OpKind::Gate { dst: at, .. }
            | OpKind::Store { dst: at, .. }
            | OpKind::Position { dst: at, .. }
            | OpKind::Rope { dst: at, .. } => (self.slots[*at].vector.clone(), self.slots[*at].scale),
        };
        self.kept.push(Kept { position: self.position, op: n, values, scale });
    }

    fn note_moments(&mut self, n: usize) {
        let Some(m) = &mut self.moments else { return };
        let (at, each) = match &self.program.ops[n].kind {
            OpKind::Quantize { src, .. } => (*src, true),
            OpKind::Linear { dst, .. } => (*dst, false),
            OpKind::Embed { .. } => {
                m.tokens += 1;
                return;
            }
            _ => return,
        };
        let x = &self.slots[at];
        m.note(n, &x.vector, x.scale.to_f64(), each);
    }

    pub fn observed(&self) -> Option<&Observed> {
        self.observed.as_ref()
    }

    /// Elements of the residual that reached the limit of an i32 so far.
    pub fn saturated(&self) -> u64 {
        self.saturated
    }

    /// Tokens of the conversation so far.
    pub fn position(&self) -> u32 {
        self.position
    }

    /// Forgets the context.
    pub fn reset(&mut self) {
        self.caches.iter_mut().for_each(|c| *c = LayerCache::new());
        self.position = 0;
    }

    /// Feeds tokens; the result for the last one is returned, or None for no tokens: logits (`[vocab]`, 16 fraction bits), or for a program
    /// that ends in EMBEDDING the vector of the text (`[d_model]`, 30 fraction bits if it has unit length, else 16).
    /// An encoder takes a whole text at once and forgets what was before.
    ///
    /// # Errors
    /// `Input` if an id is not in the vocabulary or the text is longer than the program allows; nothing was fed then.
    pub fn run(&mut self, ids: &[u32]) -> Result<Option<Vec<i32>>> {
        self.run_traced(ids, None)
    }

    /// As [`Session::run`], with checksums of every operation.
    pub fn run_traced(&mut self, ids: &[u32], mut trace: Option<&mut Trace>) -> Result<Option<Vec<i32>>> {
        let p = self.program;
        if let Some(id) = ids.iter().find(|id| **id as usize >= p.vocab) {
            return Err(Error::input(format!("token id {id}, the vocabulary has {} entries", p.vocab)));
        }
        let before = if p.encoder { 0 } else { self.position as usize };
        if let Some(most) = p.longest().filter(|most| before + ids.len() > *most) {
            let e = Error::input(format!("{} tokens, this model takes at most {most}", before + ids.len()));
            return Err(e.hint("shorten the text; the limit is the table of positions or, in an encoder, the window"));
        }
        if ids.is_empty() {
            return Ok(None);
        }
        self.checksum = trace.is_some();
        if p.encoder {
            self.encode(ids, &mut trace);
        } else {
            for (i, &id) in ids.iter().enumerate() {
                let last = i + 1 == ids.len();
                self.steps(0..if last { p.ops.len() } else { p.head_op }, id, &mut trace);
                self.position = self.position.wrapping_add(1);
            }
        }
        match p.ops.last().map(|o| &o.kind) {
            Some(OpKind::Logits { src, .. }) => Ok(Some(self.slots[*src].vector.clone())),
            Some(OpKind::Embedding { .. }) => Ok(Some(self.pooled.clone())),
            _ => Err(Error::input("the program has no result")),
        }
    }

    fn steps(&mut self, ops: std::ops::Range<usize>, id: u32, trace: &mut Option<&mut Trace>) {
        let program = self.program;
        for n in ops {
            let mut crc = self.step(&program.ops[n], id);
            self.note_moments(n);
            self.note_result(n);
            if let Some(adapter) = self.adapter {
                crc = self.branch(adapter, n).unwrap_or(crc);
            }
            if let Some(t) = trace.as_deref_mut() {
                t(self.position, n, crc);
            }
        }
    }

    /// The side branches that begin or end at operation `n`, after it ran; the checksum of a result that they changed.
    fn branch(&mut self, adapter: &Bound, n: usize) -> Option<u32> {
        let mut crc = None;
        for &at in adapter.at(n) {
            let f = &adapter.parts[at].1;
            match &self.program.ops[n].kind {
                OpKind::Quantize { src, .. } => {
                    let x = &self.slots[*src];
                    self.hidden[at] = down(f, &x.vector, x.scale);
                }
                OpKind::Linear { dst, .. } => {
                    let y = &mut self.slots[*dst];
                    up(f, &self.hidden[at], &mut y.vector, y.scale);
                    crc = Some(self.done(*dst));
                }
                _ => {}
            }
        }
        crc
    }

    /// All passes of an encoder over a text.
    fn encode(&mut self, ids: &[u32], trace: &mut Option<&mut Trace>) {
        self.reset();
        let p = self.program;
        let residual = match p.ops[0].kind {
            OpKind::Embed { dst, .. } => dst,
            // `check` lets only EMBED be the first.
            _ => unreachable!("the first operation is no EMBED"),
        };
        self.text = Some(ids.len());
        let mut kept: Vec<Vec<i32>> = vec![Vec::new(); ids.len()];
        let ends = (0..p.head_op).filter(|i| matches!(p.ops[*i].kind, OpKind::KvWrite { .. })).map(|i| i + 1);
        let mut from = 0;
        for to in ends.chain([p.head_op]) {
            for (at, (id, kept)) in ids.iter().zip(&mut kept).enumerate() {
                self.position = at as u32;
                std::mem::swap(&mut self.slots[residual].vector, kept);
                self.slots[residual].scale = Scale::pow2(-(p.residual_frac as i32));
                self.steps(from..to, *id, trace);
                std::mem::swap(&mut self.slots[residual].vector, kept);
            }
            from = to;
        }
        if let OpKind::Embedding { pool, .. } = p.ops[p.head_op].kind {
            let wide = |x: &Vec<i32>| x.iter().map(|v| i64::from(*v)).collect();
            self.sums = match pool {
                Pool::Mean => (0..p.d_model).map(|i| kept.iter().map(|x| i64::from(x[i])).sum()).collect(),
                Pool::First => wide(&kept[0]),
                Pool::Last => wide(&kept[ids.len() - 1]),
            };
        }
        self.steps(p.head_op..p.ops.len(), 0, trace);
        self.text = None;
    }

    fn step(&mut self, op: &Op, id: u32) -> u32 {
        let p = self.program;
        let frac = p.residual_frac as i32;
        match &op.kind {
            OpKind::Embed { dst, table, factor } => {
                let turned = self.turned[*table].clone();
                let m = self.matrix(*table, &turned);
                scalar::embed(&m, id as usize, *factor, frac, self.room(*dst, p.d_model));
                self.slots[*dst].scale = Scale::pow2(-frac);
                self.note_residual(*dst);
                self.done(*dst)
            }
            OpKind::RmsNorm { dst, src, gamma, eps } => {
                let n = p.tensors[*gamma].cols;
                let x = self.slots[*src].vector.clone();
                let s = self.slots[*src].scale;
                let g = self.constants(*gamma);
                let mut out = vec![0; n];
                let scale = scalar::rmsnorm(&x, s, g.values, g.scale, *eps, &mut out);
                self.slots[*dst].vector = out;
                self.slots[*dst].scale = scale;
                self.done(*dst)
            }
            OpKind::Quantize { dst, src, rule } => {
                let n = self.slots[*src].vector.len();
                let mut codes = vec![0; n];
                let scale = scalar::quantize(&self.slots[*src].vector, self.slots[*src].scale, rule, &mut codes);
                let slot = &mut self.slots[*dst];
                slot.codes = Codes::new(&codes, rule.qmax);
                slot.qmax = rule.qmax;
                slot.scale = scale;
                self.sum(scale, codes.iter().copied())
            }
            OpKind::Linear { dst, codes, weight, .. } => {
                let turned = self.turned[*weight].clone();
                let m = self.matrix(*weight, &turned);
                let mut out = std::mem::take(&mut self.slots[*dst].vector);
                out.resize(m.rows, 0);
                let c = &self.slots[*codes];
                let scale = scalar::linear(self.kernel, &c.codes, c.scale, c.qmax, &m, &mut out);
                self.slots[*dst].vector = out;
                self.slots[*dst].scale = scale;
                self.done(*dst)
            }
            OpKind::Add { dst, src, factor } => {
                let y = std::mem::take(&mut self.slots[*src].vector);
                let s = times(self.slots[*src].scale, *factor);
                self.saturated += scalar::add(&mut self.slots[*dst].vector, &y, s, frac);
                self.slots[*src].vector = y;
                self.note_residual(*dst);
                self.done(*dst)
            }
            OpKind::KvWrite { k, v, freq, keys } => self.kvwrite(op.layer.unwrap_or(0), *k, *v, *freq, *keys),
            OpKind::Attend { dst, q, freq, keys, scoring } => {
                let n = p.attention.heads * p.attention.head_dim;
                let mut out = std::mem::take(&mut self.slots[*dst].vector);
                out.resize(n, 0);
                let query = &self.slots[*q];
                let scoring = Scoring {
                    softmax: scoring.softmax,
                    window: scoring.window,
                    cap: scoring.cap,
                    slopes: scoring.slopes.map(|t| self.constants(t)),
                    text: self.text,
                };
                let scale = attention::attend(
                    &p.attention,
                    self.position,
                    &rope(p, &self.freqs, *freq),
                    keys.and_then(|t| self.keys[t].as_ref()),
                    &scoring,
                    (&query.vector, query.scale),
                    &self.caches[op.layer.unwrap_or(0)],
                    &mut out,
                );
                self.slots[*dst].vector = out;
                self.slots[*dst].scale = scale;
                self.done(*dst)
            }
            OpKind::Relu2Mul { dst, gate, up } => self.gate(*dst, *gate, *up, Act::Relu2),
            OpKind::SiluMul { dst, gate, up } => self.gate(*dst, *gate, *up, Act::Silu),
            OpKind::Gate { dst, gate, up, kind } => self.gate(*dst, *gate, *up, *kind),
            OpKind::Logits { src, factor, cap } => {
                let scale = times(self.slots[*src].scale, *factor);
                scalar::logits(&mut self.slots[*src].vector, scale, *cap);
                self.slots[*src].scale = Scale::ONE;
                self.done(*src)
            }
            OpKind::Norm { dst, src, gamma, beta, eps, group, centred } => {
                let x = &self.slots[*src];
                let mut out = vec![0; x.vector.len()];
                let rule = NormRule {
                    gamma: gamma.map(|t| self.constants(t)),
                    beta: beta.map(|t| self.constants(t)),
                    eps: *eps,
                    group: *group,
                    centred: *centred,
                };
                let scale = vector::norm(&x.vector, x.scale, &rule, &mut out);
                self.slots[*dst].vector = out;
                self.slots[*dst].scale = scale;
                self.done(*dst)
            }
            OpKind::Bias { dst, src, by } => self.in_copy(*dst, *src, |c, x, s| vector::bias(x, s, c.constants(*by))),
            OpKind::Gain { dst, src, by } => self.in_copy(*dst, *src, |c, x, s| vector::gain(x, s, c.constants(*by))),
            OpKind::Act { dst, src, kind } => self.in_copy(*dst, *src, |_, x, s| vector::act(x, s, *kind)),
            OpKind::Store { dst, src } => {
                let x = std::mem::take(&mut self.slots[*src].vector);
                let s = self.slots[*src].scale;
                vector::store(&x, s, frac, &mut self.slots[*dst].vector);
                self.slots[*src].vector = x;
                self.note_residual(*dst);
                self.done(*dst)
            }
            OpKind::Position { dst, table } => {
                let turned = self.turned[*table].clone();
                let m = self.matrix(*table, &turned);
                scalar::position(&m, self.position as usize, frac, &mut self.slots[*dst].vector);
                self.note_residual(*dst);
                self.done(*dst)
            }
            OpKind::Rope { dst, src, freq } => self.in_copy(*dst, *src, |c, x, s| {
                attention::rope(x, p.attention.head_dim, c.position, &rope(p, &c.freqs, Some(*freq)));
                s
            }),
            OpKind::Embedding { src, unit, .. } => {
                let x = &self.slots[*src];
                let tokens = self.text.filter(|_| matches!(p.embedding(), Some((Pool::Mean, _)))).unwrap_or(1);
                let (v, scale) = match self.text {
                    Some(_) => (std::mem::take(&mut self.sums), Scale::pow2(-frac)),
                    None => (x.vector.iter().map(|v| i64::from(*v)).collect(), x.scale),
                };
                self.pooled = vector::embedding(&v, scale, tokens, *unit);
                self.sum(Scale::ONE, self.pooled.iter().copied())
            }
        }
    }

    /// An operation that works in place, on a copy of `src` that becomes `dst`.
    fn in_copy(&mut self, dst: usize, src: usize, f: impl Fn(&Self, &mut [i32], Scale) -> Scale) -> u32 {
        let mut x = self.slots[src].vector.clone();
        let scale = f(self, &mut x, self.slots[src].scale);
        self.slots[dst].vector = x;
        self.slots[dst].scale = scale;
        self.done(dst)
    }

    fn gate(&mut self, dst: usize, gate: usize, up: usize, kind: Act) -> u32 {
        let mut g = self.slots[gate].vector.clone();
        let scale = vector::gate(&mut g, self.slots[gate].scale, &self.slots[up].vector, self.slots[up].scale, kind);
        self.slots[dst].vector = g;
        self.slots[dst].scale = scale;
        self.done(dst)
    }

    fn constants(&self, id: TensorId) -> Constants<'_> {
        Constants { values: self.constants[id].as_deref().unwrap_or(&[]), scale: self.program.tensors[id].scale }
    }

    fn kvwrite(&mut self, layer: usize, k: usize, v: usize, freq: Option<TensorId>, keys: Option<TensorId>) -> u32 {
        let a = self.program.attention;
        let fixed = keys.and_then(|t| self.keys[t].as_ref());
        // Rotated in a copy: the register keeps what LINEAR wrote.
        let mut kv = self.slots[k].vector.clone();
        let ks = self.slots[k].scale;
        let values = (&self.slots[v].vector[..], self.slots[v].scale);
        let rope = rope(self.program, &self.freqs, freq);
        let cache = &mut self.caches[layer];
        let w = attention::kvwrite(&a, self.position, &rope, fixed, (&mut kv, ks), values, cache);
        let mut crc = 0;
        if self.checksum {
            let mut bytes = Vec::new();
            for (codes, scales) in [(w.k, w.ks), (w.v, w.vs)] {
                for (h, head) in codes.chunks(a.head_dim).enumerate() {
                    if let Some(s) = scales.get(h) {
                        put_scale(&mut bytes, *s);
                    }
                    head.iter().for_each(|c| bytes.extend_from_slice(&i32::from(*c).to_le_bytes()));
                }
            }
            crc = crc32(&bytes);
        }
        if let Some(o) = &mut self.observed {
            let real = ks.to_f64();
            for (range, x) in o.keys[layer].iter_mut().zip(&kv) {
                let x = f64::from(*x) * real;
                *range = (range.0.min(x), range.1.max(x));
            }
        }
        crc
    }

    /// A matrix of the program; `turned` is its entry of [`Session::turned`], held by the caller so that registers stay free to be written.
    fn matrix<'b>(&self, id: TensorId, turned: &'b Option<Arc<[u8]>>) -> Matrix<'b>
    where
        'a: 'b,
    {
        matrix(self.program, self.weights, turned.as_deref(), id)
    }

    fn note_residual(&mut self, reg: usize) {
        if let Some(o) = &mut self.observed {
            o.residual = o.residual.max(scalar::max_abs(&self.slots[reg].vector));
        }
    }

    /// A register's vector with `n` elements to be written.
    fn room(&mut self, reg: usize, n: usize) -> &mut [i32] {
        let v = &mut self.slots[reg].vector;
        v.resize(n, 0);
        v
    }

    /// The checksum of a vector that was written.
    fn done(&self, reg: usize) -> u32 {
        let s = &self.slots[reg];
        self.sum(s.scale, s.vector.iter().copied())
    }

    /// Checksum of a result, 0 when nobody asked.
    fn sum(&self, scale: Scale, values: impl Iterator<Item = i32>) -> u32 {
        if !self.checksum {
            return 0;
        }
        let mut bytes = Vec::new();
        put_scale(&mut bytes, scale);
        values.for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
        crc32(&bytes)
    }
}

fn rope<'a>(p: &Program, freqs: &'a [Option<Vec<u32>>], freq: Option<TensorId>) -> Rope<'a> {
    freq.map_or(Rope::NONE, |t| Rope { freq: freqs[t].as_deref().unwrap_or(&[]), rest: p.tensors[t].scale })
}

fn times(s: Scale, factor: Option<Scale>) -> Scale {
    factor.map_or(s, |f| s.mul(f))
}

fn put_scale(out: &mut Vec<u8>, s: Scale) {
    out.extend_from_slice(&s.m.to_le_bytes());
    out.extend_from_slice(&s.e.to_le_bytes());
}

/// A matrix of the program with its scales in the weights section, and its weights there or, as [`order::for_host`] made them, in `turned`.
pub fn matrix<'a>(p: &Program, weights: &'a [u8], turned: Option<&'a [u8]>, id: TensorId) -> Matrix<'a> {
    let t = &p.tensors[id];
    let data = turned.unwrap_or(&weights[t.data.start as usize..t.data.end as usize]);
    let scales = &weights[t.scales.start as usize..t.scales.end as usize];
    let (m, h) = scales.split_at(scales.len() / 5 * 4);
    match t.kind {
        TensorKind::Matrix { enc, scales, .. } => Matrix {
            enc: enc.on_host(),
            wmax: enc.wmax(),
            rows: t.rows,
            cols: t.cols,
            data,
            scales: match scales {
                ScaleMode::One => MatrixScales::One(t.scale),
                ScaleMode::Row => MatrixScales::Row { e: t.scale.e, m, h },
                ScaleMode::Group(group) => MatrixScales::Group { e: t.scale.e, group, m, h },
            },
        },
        // `check` lets only matrices reach LINEAR and EMBED.
        _ => unreachable!("tensor {id} is no matrix"),
    }
}

/// The chained checksums of one token, as a golden trace holds them: one for each of [`Program::trace_slot`].
pub struct Chain {
    hashers: Vec<crc32fast::Hasher>,
    touched: Vec<bool>,
}

impl Chain {
    pub fn new(layers: usize) -> Self {
        Chain { hashers: vec![crc32fast::Hasher::new(); layers + 2], touched: vec![false; layers + 2] }
    }

    pub fn push(&mut self, slot: usize, crc: u32) {
        self.hashers[slot].update(&crc.to_le_bytes());
        self.touched[slot] = true;
    }

    /// 0 where no operation ran.
    pub fn finish(self) -> Vec<u32> {
        self.hashers.into_iter().zip(self.touched).map(|(h, t)| if t { h.finalize() } else { 0 }).collect()
    }
}

/// Runs a prompt and its greedy continuation, `total` tokens in all, with the chained checksums of each token.
/// `each` receives (position, operation, checksum) of every operation that ran.
pub fn record(
    session: &mut Session,
    prompt: &[u32],
    total: usize,
    each: &mut Trace,
) -> Result<crate::program::golden::GoldenPrompt> {
    session.reset();
    let layers = session.program.layers;
    let mut ids = prompt.to_vec();
    let mut checksums = Vec::new();
    let program = session.program;
    let mut fed = 0;
    while fed < total {
        let upto = if fed == 0 { prompt.len() } else { fed + 1 };
        let mut chains: Vec<Chain> = (fed..upto).map(|_| Chain::new(layers)).collect();
        let from = fed as u32;
        let mut sink = |pos: u32, op: usize, crc: u32| {
            chains[(pos - from) as usize].push(program.trace_slot(op), crc);
            each(pos, op, crc);
        };
        let logits = session.run_traced(&ids[fed..upto], Some(&mut sink))?;
        checksums.extend(chains.into_iter().map(Chain::finish));
        fed = upto;
        if ids.len() == fed && fed < total {
            ids.push(sample::argmax(&logits.unwrap_or_default()));
        }
    }
    Ok(crate::program::golden::GoldenPrompt { prompt_len: prompt.len(), ids, checksums })
}
