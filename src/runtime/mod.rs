//! Runs a program on the host. The order of operations and every integer are those of docs/semantics.md; only the inner products
//! may use another kernel, which gives the same integers.

pub mod artifact;
pub mod sample;

pub use artifact::Artifact;

use crate::digest::crc32;
use crate::encoding::fixed::Scale;
use crate::error::{Error, Result};
use crate::kernels::attention::{self, LayerCache, StaticKeys};
use crate::kernels::dot::{Codes, DotKernel};
use crate::kernels::scalar::{self, Matrix, MatrixScales};
use crate::program::{Op, OpKind, Program, ScaleMode, TensorId, TensorKind};

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

/// One running model: registers and caches over a program and its weights.
pub struct Session<'a> {
    program: &'a Program,
    weights: &'a [u8],
    kernel: DotKernel,
    gammas: Vec<Option<Vec<i32>>>,
    freqs: Vec<Option<Vec<u32>>>,
    keys: Vec<Option<StaticKeys>>,
    slots: Vec<Slot>,
    caches: Vec<LayerCache>,
    position: u32,
    saturated: u64,
    observed: Option<Observed>,
    checksum: bool,
}

impl<'a> Session<'a> {
    /// `weights` is the weights section; program and weights have been checked ([`Artifact::open`] does).
    pub fn new(program: &'a Program, weights: &'a [u8], kernel: DotKernel) -> Self {
        let small = |t: &crate::program::Tensor| &weights[t.data.start as usize..t.data.end as usize];
        let gammas =
            program.tensors.iter().map(|t| (t.kind == TensorKind::Gamma).then(|| crate::bytes::to_i32(small(t))));
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
            gammas: gammas.collect(),
            freqs: freqs.collect(),
            keys: keys.collect(),
            slots: slots.collect(),
            caches: vec![LayerCache::new(); program.layers],
            position: 0,
            saturated: 0,
            observed: None,
            checksum: false,
        }
    }

    /// Gathers [`Observed`] from now on.
    pub fn observe(&mut self) {
        let a = self.program.attention;
        let keys = vec![vec![(f64::INFINITY, f64::NEG_INFINITY); a.kv_heads * a.head_dim]; self.program.layers];
        self.observed = Some(Observed { residual: 0, keys });
    }

    pub fn observed(&self) -> Option<&Observed> {
        self.observed.as_ref()
    }

    /// Elements of the residual that reached the limit of an i32 so far.
    pub fn saturated(&self) -> u64 {
        self.saturated
    }

    /// Forgets the context.
    pub fn reset(&mut self) {
        self.caches.iter_mut().for_each(|c| *c = LayerCache::new());
        self.position = 0;
    }

    /// Feeds tokens; the logits of the last one are returned (`[vocab]`, 16 fraction bits), or None for no tokens.
    ///
    /// # Errors
    /// `Input` if an id is not in the vocabulary; nothing was fed then.
    pub fn run(&mut self, ids: &[u32]) -> Result<Option<Vec<i32>>> {
        self.run_traced(ids, None)
    }

    /// As [`Session::run`], with checksums of every operation.
    pub fn run_traced(&mut self, ids: &[u32], mut trace: Option<&mut Trace>) -> Result<Option<Vec<i32>>> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.program.vocab) {
            return Err(Error::input(format!("token id {id}, the vocabulary has {} entries", self.program.vocab)));
        }
        self.checksum = trace.is_some();
        for (i, &id) in ids.iter().enumerate() {
            let last = i + 1 == ids.len();
            let program = self.program;
            let ops = if last { &program.ops[..] } else { &program.ops[..program.head_op] };
            for (n, op) in ops.iter().enumerate() {
                let crc = self.step(op, id);
                if let Some(t) = trace.as_deref_mut() {
                    t(self.position, n, crc);
                }
            }
            self.position = self.position.wrapping_add(1);
        }
        if ids.is_empty() {
            return Ok(None);
        }
        let src = match self.program.ops.last().map(|o| &o.kind) {
            Some(OpKind::Logits { src }) => *src,
            _ => return Err(Error::input("the program has no LOGITS operation")),
        };
        Ok(Some(self.slots[src].vector.clone()))
    }

    fn step(&mut self, op: &Op, id: u32) -> u32 {
        let p = self.program;
        let frac = p.residual_frac as i32;
        match &op.kind {
            OpKind::Embed { dst, table } => {
                let m = self.matrix(*table);
                scalar::embed(&m, id as usize, frac, self.room(*dst, p.d_model));
                self.slots[*dst].scale = Scale::pow2(-frac);
                self.note_residual(*dst);
                self.done(*dst)
            }
            OpKind::RmsNorm { dst, src, gamma, eps } => {
                let n = p.tensors[*gamma].cols;
                let x = self.slots[*src].vector.clone();
                let s = self.slots[*src].scale;
                let g = self.gammas[*gamma].as_deref().unwrap_or(&[]);
                let mut out = vec![0; n];
                let scale = scalar::rmsnorm(&x, s, g, p.tensors[*gamma].scale, *eps, &mut out);
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
                let m = self.matrix(*weight);
                let mut out = std::mem::take(&mut self.slots[*dst].vector);
                out.resize(m.rows, 0);
                let c = &self.slots[*codes];
                let scale = scalar::linear(self.kernel, &c.codes, c.scale, c.qmax, &m, &mut out);
                self.slots[*dst].vector = out;
                self.slots[*dst].scale = scale;
                self.done(*dst)
            }
            OpKind::Add { dst, src } => {
                let y = std::mem::take(&mut self.slots[*src].vector);
                let s = self.slots[*src].scale;
                self.saturated += scalar::add(&mut self.slots[*dst].vector, &y, s, frac);
                self.slots[*src].vector = y;
                self.note_residual(*dst);
                self.done(*dst)
            }
            OpKind::KvWrite { k, v, freq, keys } => self.kvwrite(op.layer.unwrap_or(0), *k, *v, *freq, *keys),
            OpKind::Attend { dst, q, freq, keys, softmax } => {
                let n = p.attention.heads * p.attention.head_dim;
                let mut out = std::mem::take(&mut self.slots[*dst].vector);
                out.resize(n, 0);
                let query = &self.slots[*q];
                let scale = attention::attend(
                    &p.attention,
                    self.position,
                    self.freqs[*freq].as_deref().unwrap_or(&[]),
                    keys.and_then(|t| self.keys[t].as_ref()),
                    *softmax,
                    (&query.vector, query.scale),
                    &self.caches[op.layer.unwrap_or(0)],
                    &mut out,
                );
                self.slots[*dst].vector = out;
                self.slots[*dst].scale = scale;
                self.done(*dst)
            }
            OpKind::Relu2Mul { dst, gate, up } => self.glu(*dst, *gate, *up, scalar::relu2mul),
            OpKind::SiluMul { dst, gate, up } => self.glu(*dst, *gate, *up, scalar::silumul),
            OpKind::Logits { src } => {
                let scale = self.slots[*src].scale;
                scalar::logits(&mut self.slots[*src].vector, scale);
                self.slots[*src].scale = Scale::ONE;
                self.done(*src)
            }
        }
    }
    /// RELU2MUL and SILUMUL: both work in place of the gate.
    fn glu(&mut self, dst: usize, gate: usize, up: usize, f: fn(&mut [i32], Scale, &[i32], Scale) -> Scale) -> u32 {
        let mut g = self.slots[gate].vector.clone();
        let scale = f(&mut g, self.slots[gate].scale, &self.slots[up].vector, self.slots[up].scale);
        self.slots[dst].vector = g;
        self.slots[dst].scale = scale;
        self.done(dst)
    }

    fn kvwrite(&mut self, layer: usize, k: usize, v: usize, freq: TensorId, keys: Option<TensorId>) -> u32 {
        let a = self.program.attention;
        let fixed = keys.and_then(|t| self.keys[t].as_ref());
        // Rotated in a copy: the register keeps what LINEAR wrote.
        let mut kv = self.slots[k].vector.clone();
        let ks = self.slots[k].scale;
        let values = (&self.slots[v].vector[..], self.slots[v].scale);
        let freq = self.freqs[freq].as_deref().unwrap_or(&[]);
        let cache = &mut self.caches[layer];
        let w = attention::kvwrite(&a, self.position, freq, fixed, (&mut kv, ks), values, cache);
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

    fn matrix(&self, id: TensorId) -> Matrix<'a> {
        matrix(self.program, self.weights, id)
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

fn put_scale(out: &mut Vec<u8>, s: Scale) {
    out.extend_from_slice(&s.m.to_le_bytes());
    out.extend_from_slice(&s.e.to_le_bytes());
}

/// A matrix of the program in the weights section.
pub fn matrix<'a>(p: &Program, weights: &'a [u8], id: TensorId) -> Matrix<'a> {
    let t = &p.tensors[id];
    let data = &weights[t.data.start as usize..t.data.end as usize];
    let scales = &weights[t.scales.start as usize..t.scales.end as usize];
    let (m, h) = scales.split_at(scales.len() / 5 * 4);
    match t.kind {
        TensorKind::Matrix { enc, scales } => Matrix {
            enc,
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
