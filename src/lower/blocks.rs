//! The operations of a model: embedding, blocks, head. Registers are made when they are first used and grow to what they must hold.

use super::settings::{quant_rule, Settings, Stored};
use super::{kernel, Constants, Head, Options, Origin};
use crate::encoding::fixed::{Scale, LOG2E};
use crate::encoding::lowbit::Encoding;
use crate::encoding::order::Order;
use crate::error::{Error, Result};
use crate::kernels::attention::AttentionShape;
use crate::kernels::scalar::QuantRule;
use crate::kernels::vector::{Act, Pool};
use crate::limits::MAX_QMAX;
use crate::model::{
    Activation, ActivationRule, Attention, Beyond, Form, Kind, Layer, Linear, Matrix, Mlp, Model, Norm, NormKind,
    Pooling, RowOrder, WeightRule,
};
use crate::program::{
    KernelHint, Op, OpKind, Reg, RegKind, Register, ScaleMode, Scoring, Tensor, TensorId, TensorKind,
};

/// What the model became.
pub(super) struct Built {
    pub registers: Vec<Register>,
    pub ops: Vec<Op>,
    pub head_op: usize,
    pub tensors: Vec<Tensor>,
    pub origins: Vec<Origin>,
    pub lut_bytes: usize,
    pub warnings: Vec<String>,
}

/// Registers by what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Residual,
    /// After a norm, and results of attention.
    Normed,
    Codes,
    /// q, gate, results of o and down, logits.
    Wide,
    /// k, up.
    Up,
    Value,
    /// After what a projection does to its own input.
    Own,
    /// Codes of more than 8 bits.
    Codes16,
    /// Result of attention in a parallel block, whose norm is still needed.
    Attended,
    /// Input of the feed-forward part of a parallel block with two norms.
    Beside,
}

struct Builder<'a> {
    m: &'a Model,
    o: &'a Options,
    settings: &'a Settings,
    shape: AttentionShape,
    roles: Vec<Role>,
    registers: Vec<Register>,
    ops: Vec<Op>,
    layer: Option<usize>,
    tensors: Vec<Tensor>,
    origins: Vec<Origin>,
    /// Frequencies of each rope, made when first used, with the factor its scores need.
    ropes: Vec<Option<(TensorId, f64)>>,
    slopes: Option<TensorId>,
    /// Source, rule and register of the last QUANTIZE while it still holds.
    quantized: Option<(Reg, QuantRule, Reg)>,
    warnings: Vec<String>,
}

pub(super) fn build(
    m: &Model,
    o: &Options,
    settings: &Settings,
    shape: AttentionShape,
    static_keys: bool,
) -> Result<Built> {
    let mut b = Builder {
        m,
        o,
        settings,
        shape,
        roles: Vec::new(),
        registers: Vec::new(),
        ops: Vec::new(),
        layer: None,
        tensors: Vec::new(),
        origins: Vec::new(),
        ropes: vec![None; m.ropes.len()],
        slopes: None,
        quantized: None,
        warnings: Vec::new(),
    };
    let table = b.start()?;
    for r in 0..m.ropes.len() {
        b.rope(r)?;
    }
    for (i, l) in m.layers.iter().enumerate() {
        b.layer = Some(i);
        b.block(i, l)?;
    }
    b.layer = None;
    let head_op = b.ops.len();
    b.head(table)?;
    if static_keys {
        b.static_keys();
    }
    let Builder { registers, mut ops, mut tensors, origins, warnings, .. } = b;
    let lut_bytes = kernel::choose(&mut ops, &mut tensors, &o.kernels)?;
    place(&mut tensors);
    Ok(Built { registers, ops, head_op, tensors, origins, lut_bytes, warnings })
}

fn positive(v: f64, what: &str) -> Result<Scale> {
    Scale::from_f64(v).ok_or_else(|| Error::input(format!("{what} is {v}, it must be positive")))
}

/// A factor, where there is one.
fn factor(v: f64, what: &str) -> Result<Option<Scale>> {
    if v == 1.0 {
        return Ok(None);
    }
    positive(v, what).map(Some)
}

fn act(a: Activation) -> Act {
    match a {
        Activation::Relu => Act::Relu,
        Activation::Relu2 => Act::Relu2,
        Activation::Silu => Act::Silu,
        Activation::Gelu => Act::Gelu,
        Activation::GeluTanh => Act::GeluTanh,
        Activation::Tanh => Act::Tanh,
    }
}

fn row_kind(bits: u32) -> TensorKind {
    let enc = match bits {
        16 => Encoding::Int16,
        4 => Encoding::Int4,
        _ => Encoding::Int8,
    };
    TensorKind::rows(enc, ScaleMode::Row)
}

/// How the rows of a head are stored where the user says so.
fn head_kind(head: Head) -> TensorKind {
    match head {
        Head::Int16 => row_kind(16),
        Head::Int8 => row_kind(8),
        Head::Int4 => row_kind(4),
        Head::Planes4 => TensorKind::Matrix { enc: Encoding::Planes4, order: Order::Quads, scales: ScaleMode::Row },
    }
}

/// Gives each tensor its place in the weights section, in order.
fn place(tensors: &mut [Tensor]) {
    let mut at = 0u64;
    for t in tensors {
        let start = at.next_multiple_of(16);
        t.data = start..start + Tensor::data_bytes(t.kind, t.rows, t.cols);
        let scales = Tensor::scale_bytes(t.kind, t.rows, t.cols);
        if scales > 0 {
            let start = t.data.end.next_multiple_of(16);
            t.scales = start..start + scales;
        }
        at = t.data.end.max(t.scales.end);
    }
}

impl Builder<'_> {
    /// The register of a role, with room for `n` elements.
    fn reg(&mut self, role: Role, n: usize) -> Reg {
        let at = match self.roles.iter().position(|r| *r == role) {
            Some(at) => at,
            None => {
                let kind = match role {
                    Role::Codes => RegKind::Codes8,
                    Role::Codes16 => RegKind::Codes16,
                    _ => RegKind::Vector,
                };
                self.roles.push(role);
                self.registers.push(Register { kind, capacity: n });
                self.roles.len() - 1
            }
        };
        self.registers[at].capacity = self.registers[at].capacity.max(n);
        at
    }

    fn op(&mut self, kind: OpKind) {
        let written = match &kind {
            OpKind::Embed { dst, .. }
            | OpKind::RmsNorm { dst, .. }
            | OpKind::Linear { dst, .. }
            | OpKind::Add { dst, .. }
            | OpKind::Attend { dst, .. }
            | OpKind::Relu2Mul { dst, .. }
            | OpKind::SiluMul { dst, .. }
            | OpKind::Norm { dst, .. }
            | OpKind::Bias { dst, .. }
            | OpKind::Gain { dst, .. }
            | OpKind::Act { dst, .. }
            | OpKind::Gate { dst, .. }
            | OpKind::Store { dst, .. }
            | OpKind::Position { dst, .. }
            | OpKind::Rope { dst, .. } => Some(*dst),
            OpKind::Quantize { .. } | OpKind::KvWrite { .. } | OpKind::Logits { .. } | OpKind::Embedding { .. } => None,
        };
        let pass_ends = self.m.kind == Kind::Encoder && matches!(kind, OpKind::KvWrite { .. });
        if pass_ends || self.quantized.is_some_and(|(src, _, _)| Some(src) == written) {
            self.quantized = None;
        }
        self.ops.push(Op { layer: self.layer, kind });
    }

    fn tensor(&mut self, name: String, kind: TensorKind, rows: usize, cols: usize, origin: Origin) -> TensorId {
        // Their places follow when every form is chosen, see `place`.
        self.tensors.push(Tensor { name, kind, rows, cols, scale: Scale::ONE, data: 0..0, scales: 0..0 });
        self.origins.push(origin);
        self.tensors.len() - 1
    }

    fn constants(&mut self, name: String, n: usize, of: Constants) -> TensorId {
        self.tensor(name, TensorKind::Vector, 1, n, Origin::Constants(of))
    }

    /// A norm over a vector of `n` elements.
    fn norm(&mut self, dst: Reg, src: Reg, name: String, norm: &Norm, n: usize) -> Result<()> {
        // The reference adds eps as f32.
        let eps = positive(f64::from(norm.eps as f32), "the eps of a norm")?;
        let gains = if norm.weight.len() > 1 { n } else { norm.len };
        let gamma = (!norm.weight.is_empty())
            .then(|| self.constants(name.clone(), gains, Constants::Gains(norm.clone(), gains)));
        let kind = match (gamma, &norm.bias) {
            (Some(gamma), None) if norm.kind == NormKind::Rms && norm.len == n => {
                OpKind::RmsNorm { dst, src, gamma, eps }
            }
            (gamma, bias) => {
                let beta = bias.as_ref().map(|b| {
                    let len = self.m.tensor(b).elements();
                    self.constants(format!("{name}.bias"), len, Constants::Tensor(b.clone()))
                });
                let centred = norm.kind == NormKind::Layer;
                OpKind::Norm { dst, src, gamma, beta, eps, group: norm.len, centred }
            }
        };
        self.op(kind);
        Ok(())
    }

    /// The codes of a vector; the last QUANTIZE is used again if it is the same.
    fn quantize(&mut self, src: Reg, n: usize, rule: QuantRule) -> Reg {
        if let Some((_, _, codes)) = self.quantized.filter(|(s, r, _)| (*s, *r) == (src, rule)) {
            return codes;
        }
        let dst = self.reg(if rule.qmax <= 127 { Role::Codes } else { Role::Codes16 }, n);
        self.op(OpKind::Quantize { dst, src, rule });
        self.quantized = Some((src, rule, dst));
        dst
    }

    /// The matrix of a linear layer as a tensor of the program.
    fn matrix(&mut self, l: &Linear, projection: bool) -> TensorId {
        let (kind, origin) = self.placed(&l.weight, projection);
        self.tensor(l.name.clone(), kind, l.weight.rows, l.weight.cols, origin)
    }

    /// How a matrix is stored and where its rows come from.
    fn placed(&self, w: &Matrix, projection: bool) -> (TensorKind, Origin) {
        let weight = w.clone();
        match self.settings.stored(w, projection) {
            Stored::Carried { binary, scales } => (low_bit(binary, scales), Origin::LowBit { weight, rule: None }),
            Stored::Quantized(rule) => {
                let kind = low_bit(rule == WeightRule::BinaryMean, self.o.weight_scales);
                (kind, Origin::LowBit { weight, rule: Some(rule) })
            }
            Stored::Rows(bits) => (row_kind(bits), Origin::Rows { weight, plus: None }),
        }
    }

    /// One linear layer with all that belongs to it. `weight`: the tensor, where it exists already.
    fn linear(&mut self, dst: Role, src: Reg, l: &Linear, rule: QuantRule, weight: Option<TensorId>) -> Result<Reg> {
        let (rows, cols) = (l.weight.rows, l.weight.cols);
        let mut from = src;
        if let Some(n) = &l.input_norm {
            let own = self.reg(Role::Own, cols);
            self.norm(own, from, format!("{}.norm", l.name), n, cols)?;
            from = own;
        }
        if let Some(f) = &l.input_factor {
            let own = self.reg(Role::Own, cols);
            let by = self.constants(format!("{}.factor", l.name), cols, Constants::Tensor(f.clone()));
            self.op(OpKind::Gain { dst: own, src: from, by });
            from = own;
        }
        let codes = self.quantize(from, cols, rule);
        let weight = weight.unwrap_or_else(|| self.matrix(l, self.layer.is_some()));
        let dst = self.reg(dst, rows);
        self.op(OpKind::Linear { dst, codes, weight, hint: KernelHint::Select });
        if let Some(eps) = l.output_norm {
            let eps = positive(f64::from(eps as f32), "the eps of a norm")?;
            self.op(OpKind::Norm { dst, src: dst, gamma: None, beta: None, eps, group: rows, centred: true });
        }
        if let Some(b) = &l.bias {
            let by = self.constants(format!("{}.bias", l.name), rows, Constants::Bias(b.clone()));
            self.op(OpKind::Bias { dst, src: dst, by });
        }
        Ok(dst)
    }

    fn project(&mut self, dst: Role, src: Reg, l: &Linear) -> Result<Reg> {
        self.linear(dst, src, l, quant_rule(self.settings.input(l)), None)
    }

    /// Embedding of a token: table, positions, norm. The table is returned for a tied head.
    fn start(&mut self) -> Result<TensorId> {
        let m = self.m;
        let x = self.reg(Role::Residual, m.d_model);
        let (kind, origin) = match m.embedding.source.form() {
            Form::Codes { .. } => self.placed(&m.embedding, false),
            // A tied head of four planes is the table of int4, stored otherwise.
            Form::Float if m.tied() && self.o.head == Some(Head::Planes4) && self.row_bits() == 4 => {
                (head_kind(Head::Planes4), Origin::Rows { weight: m.embedding.clone(), plus: None })
            }
            Form::Float => (row_kind(self.row_bits()), Origin::Rows { weight: m.embedding.clone(), plus: None }),
        };
        let table = self.tensor("embedding".into(), kind, m.vocab, m.d_model, origin);
        self.op(OpKind::Embed { dst: x, table, factor: factor(m.embedding_scale, "the factor of the embedding")? });
        if let Some(p) = &m.positions {
            let rows = p.table.rows - p.offset;
            let order = RowOrder::range(p.offset, rows);
            let weight = Matrix { rows, order, ..p.table.clone() };
            // A text of one segment has type 0 everywhere.
            let origin = Origin::Rows { weight, plus: m.token_types.clone() };
            let table = self.tensor("positions".into(), row_kind(16), rows, m.d_model, origin);
            self.op(OpKind::Position { dst: x, table });
        } else if m.token_types.is_some() {
            return Err(Error::unsupported("segment embeddings without learned positions are not lowered yet"));
        }
        if let Some(n) = &m.embedding_norm {
            self.replace_residual("embedding.norm".into(), n)?;
        }
        Ok(table)
    }

    fn row_bits(&self) -> u32 {
        let trained = self.m.native.is_some_and(|n| n.int8_embedding);
        self.o.embedding_bits.unwrap_or(if trained { 8 } else { self.o.embedding_default })
    }

    fn residual(&mut self) -> Reg {
        self.reg(Role::Residual, self.m.d_model)
    }

    /// x = norm(x).
    fn replace_residual(&mut self, name: String, n: &Norm) -> Result<()> {
        let (x, d) = (self.residual(), self.m.d_model);
        let normed = self.reg(Role::Normed, d);
        self.norm(normed, x, name, n, d)?;
        self.op(OpKind::Store { dst: x, src: normed });
        Ok(())
    }

    /// Result of a norm on the residual, or the residual itself.
    fn input(&mut self, role: Role, name: String, n: Option<&Norm>) -> Result<Reg> {
        let (x, d) = (self.residual(), self.m.d_model);
        let Some(n) = n else { return Ok(x) };
        let dst = self.reg(role, d);
        self.norm(dst, x, name, n, d)?;
        Ok(dst)
    }

    /// Adds the result of a branch to the residual.
    fn add(&mut self, src: Reg, name: String, post: Option<&Norm>, after: (&str, Option<&Norm>)) -> Result<()> {
        let (x, d) = (self.residual(), self.m.d_model);
        if let Some(n) = post {
            self.norm(src, src, name.clone() + "post_norm", n, d)?;
        }
        let factor = factor(self.m.residual_scale, "the factor of the residual branches")?;
        self.op(OpKind::Add { dst: x, src, factor });
        if let Some(n) = after.1 {
            self.replace_residual(name + after.0, n)?;
        }
        Ok(())
    }

    fn block(&mut self, i: usize, l: &Layer) -> Result<()> {
        let name = |part: &str| format!("layers.{i}.{part}");
        let from = self.input(Role::Normed, name("attn.norm"), l.attn_norm.as_ref())?;
        let attended = self.attention(i, l, from)?;
        if let Some(n) = &l.attn.sub_norm {
            self.norm(attended, attended, name("attn.sub_norm"), n, l.attn.o.weight.cols)?;
        }
        let out = self.project(Role::Wide, attended, &l.attn.o)?;
        // Both branches of a parallel block read the residual as it was before either was added.
        let beside = match (&l.ffn_norm, l.parallel) {
            (Some(n), true) => Some(self.input(Role::Beside, name("ffn.norm"), Some(n))?),
            (None, true) => Some(from),
            (_, false) => None,
        };
        self.add(out, name("attn."), l.attn_post_norm.as_ref(), ("after_norm", l.after_attn.as_ref()))?;
        let from = match beside {
            Some(r) => r,
            None => self.input(Role::Normed, name("ffn.norm"), l.ffn_norm.as_ref())?,
        };
        let out = self.ffn(i, &l.mlp, from)?;
        self.add(out, name("ffn."), l.ffn_post_norm.as_ref(), ("after_norm", l.after_ffn.as_ref()))
    }

    /// Projections, cache and attention; the register of the result.
    fn attention(&mut self, i: usize, l: &Layer, from: Reg) -> Result<Reg> {
        let a = &l.attn;
        let encoder = self.m.kind == Kind::Encoder;
        let (freq, stretch) = match a.rope {
            Some(r) => self.rope(r)?,
            None => (None, 1.0),
        };
        let before = if encoder { None } else { Some(self.query(i, a, from, freq)?) };
        let k = self.project(Role::Up, from, &a.k)?;
        self.per_head(
            k,
            &a.k,
            a.k_norm.as_ref(),
            freq.filter(|_| a.norm_after_rope),
            format!("layers.{i}.attn.k_norm"),
        )?;
        let v = self.project(Role::Value, from, &a.v)?;
        let in_cache = freq.filter(|_| !a.norm_after_rope);
        self.op(OpKind::KvWrite { k, v, freq: in_cache, keys: None });
        let q = match before {
            Some(q) => q,
            None => {
                // Only the residual is kept of the pass before.
                let from = self.input(Role::Normed, format!("layers.{i}.attn.norm_again"), l.attn_norm.as_ref())?;
                self.query(i, a, from, freq)?
            }
        };
        let keep = l.parallel && l.ffn_norm.is_none();
        let dst = self.reg(if keep { Role::Attended } else { Role::Normed }, a.q.weight.rows);
        let window = a.window.filter(|w| *w < self.shape.window && !encoder).unwrap_or(0);
        let cap = a.softcap.map(|c| positive(c, "the cap of the scores").map(|c| c.mul(LOG2E))).transpose()?;
        let scoring = Scoring {
            softmax: positive(a.scale * stretch, "the softmax scale")?.mul(LOG2E),
            window,
            cap,
            slopes: self.slopes(a.scale)?,
        };
        self.op(OpKind::Attend { dst, q, freq: in_cache, keys: None, scoring });
        Ok(dst)
    }

    fn query(&mut self, i: usize, a: &Attention, from: Reg, freq: Option<TensorId>) -> Result<Reg> {
        let q = self.project(Role::Wide, from, &a.q)?;
        self.per_head(
            q,
            &a.q,
            a.q_norm.as_ref(),
            freq.filter(|_| a.norm_after_rope),
            format!("layers.{i}.attn.q_norm"),
        )?;
        Ok(q)
    }

    /// What happens to q and k before the cache: a rotation that must come first, and their norm.
    fn per_head(&mut self, reg: Reg, l: &Linear, n: Option<&Norm>, rope: Option<TensorId>, name: String) -> Result<()> {
        if let Some(freq) = rope {
            self.op(OpKind::Rope { dst: reg, src: reg, freq });
        }
        match n {
            Some(n) => self.norm(reg, reg, name, n, l.weight.rows),
            None => Ok(()),
        }
    }

    /// Frequencies of a rotary embedding as a tensor, and the factor that scores get in place of longer cosines and sines.
    fn rope(&mut self, index: usize) -> Result<(Option<TensorId>, f64)> {
        if let Some((id, stretch)) = self.ropes[index] {
            return Ok((Some(id), stretch));
        }
        let r = &self.m.ropes[index];
        let length = self.shape.window;
        let turns: Vec<u32> =
            r.at(length).iter().map(|f| libm::rint(f / std::f64::consts::TAU * 2f64.powi(32)) as u64 as u32).collect();
        if turns.is_empty() {
            return Ok((None, 1.0));
        }
        match r.beyond {
            Beyond::Long { from, .. } | Beyond::Dynamic { from, .. } if length > from => self.warnings.push(format!(
                "rotary frequencies are those for texts longer than {from} tokens, for every text; with `--kv-window {from}` they are those for shorter ones"
            )),
            _ => {}
        }
        // Where some channels are not rotated these must shrink instead.
        let partial = 2 * turns.len() < self.shape.head_dim;
        let rest = match r.factor {
            f if f == 1.0 || !partial => Scale::ONE,
            f if f > 1.0 => positive(1.0 / f, "the attention factor")?,
            f => return Err(Error::unsupported(format!("a partial rotation with an attention factor of {f}"))),
        };
        let name = if index == 0 { "rope".to_string() } else { format!("rope.{index}") };
        let id = self.tensor(name, TensorKind::Frequencies, 1, turns.len(), Origin::Frequencies(turns, rest));
        self.ropes[index] = Some((id, r.factor * r.factor));
        Ok((Some(id), r.factor * r.factor))
    }

    /// Slopes in units of the score after its scale, times log2(e).
    fn slopes(&mut self, scale: f64) -> Result<Option<TensorId>> {
        let Some(slopes) = &self.m.alibi else { return Ok(None) };
        if self.slopes.is_none() {
            let values = slopes.iter().map(|s| (s * scale * std::f64::consts::LOG2_E) as f32).collect();
            self.slopes = Some(self.constants("slopes".into(), self.m.heads, Constants::Values(values)));
        }
        Ok(self.slopes)
    }

    fn ffn(&mut self, i: usize, f: &Mlp, from: Reg) -> Result<Reg> {
        let n = f.up.weight.rows;
        let wide = match &f.gate {
            Some(g) => {
                let gate = self.project(Role::Wide, from, g)?;
                let up = self.project(Role::Up, from, &f.up)?;
                self.op(match f.activation {
                    Activation::Relu2 => OpKind::Relu2Mul { dst: gate, gate, up },
                    Activation::Silu => OpKind::SiluMul { dst: gate, gate, up },
                    other => OpKind::Gate { dst: gate, gate, up, kind: act(other) },
                });
                gate
            }
            None => {
                let up = self.project(Role::Wide, from, &f.up)?;
                self.op(OpKind::Act { dst: up, src: up, kind: act(f.activation) });
                up
            }
        };
        if let Some(s) = &f.sub_norm {
            self.norm(wide, wide, format!("layers.{i}.ffn.sub_norm"), s, n)?;
        }
        self.project(Role::Wide, wide, &f.down)
    }

    fn head(&mut self, table: TensorId) -> Result<()> {
        let m = self.m;
        let head = m.head.as_ref().filter(|_| m.kind == Kind::Decoder);
        if m.kind == Kind::Encoder {
            if m.final_norm.is_some() {
                return Err(Error::unsupported("an encoder with a norm behind its last block is not lowered yet"));
            }
            if m.head.is_some() {
                self.warnings
                    .push("the head for masked tokens is left out: the result is the embedding of a text".into());
            }
            let Pooling { pool, normalize } =
                m.pooling.unwrap_or(Pooling { pool: crate::model::Pool::Mean, normalize: true });
            let src = self.residual();
            self.op(OpKind::Embedding { src, pool: pool_op(pool), unit: normalize });
            return Ok(());
        }
        let from = self.input(Role::Normed, "final_norm".into(), m.final_norm.as_ref())?;
        let Some(head) = head else {
            let p = m.pooling.unwrap_or(Pooling { pool: crate::model::Pool::Last, normalize: true });
            if p.pool != crate::model::Pool::Last {
                return Err(Error::unsupported(
                    "a decoder gives the state of its last token only, another pooling is not lowered yet",
                ));
            }
            self.op(OpKind::Embedding { src: from, pool: Pool::Last, unit: p.normalize });
            return Ok(());
        };
        let low = matches!(self.settings.stored(&head.weight, false), Stored::Carried { .. });
        if low && self.o.head.is_some() {
            return Err(Error::usage(
                "the head of this checkpoint was trained for low bits, `--head` has no say in it",
            )
            .hint("leave `--head` out"));
        }
        let rule = match (head.activation, low) {
            (Some(a), _) => quant_rule(self.settings.activation.filter(|_| low).unwrap_or(a)),
            (None, true) => quant_rule(ActivationRule::Absmax16),
            // Tables have room for 8-bit codes only.
            (None, false) if self.o.head == Some(Head::Planes4) => quant_rule(ActivationRule::Absmax8),
            (None, false) => self.head_rule(),
        };
        let kind = self.o.head.map_or(row_kind(self.row_bits()), head_kind);
        let weight = match (m.tied(), low) {
            (true, true) => table,
            (true, false) if self.o.head.is_none() || kind == self.tensors[table].kind => table,
            (false, true) => self.matrix(head, false),
            (_, false) => {
                let origin = Origin::Rows { weight: head.weight.clone(), plus: None };
                self.tensor("head".into(), kind, m.vocab, m.d_model, origin)
            }
        };
        let src = self.linear(Role::Wide, from, head, rule, Some(weight))?;
        let cap = m.logits_softcap.map(|c| positive(c, "the cap of the logits")).transpose()?;
        self.op(OpKind::Logits { src, factor: factor(m.logits_scale, "the factor of the logits")?, cap });
        Ok(())
    }

    /// Rule of the head's input where the source does not quantize it: as fine as 30 bits of sum allow with int8 rows.
    fn head_rule(&self) -> QuantRule {
        let room = ((1u64 << 30) - 1) / (128 * self.m.d_model as u64);
        let qmax = room.clamp(127, u64::from(MAX_QMAX)) as u32;
        let rule = quant_rule(ActivationRule::Absmax8);
        QuantRule { qmax, lo: -(qmax as i32), hi: qmax as i32, floor: rule.floor }
    }

    /// Key constants get their place behind all other tensors, where calibration writes them.
    fn static_keys(&mut self) {
        for i in 0..self.m.layers.len() {
            let name = format!("layers.{i}.attn.key_constants");
            let id = self.tensor(name, TensorKind::StaticKeys, self.m.kv_heads, self.m.head_dim, Origin::StaticKeys);
            for op in self.ops.iter_mut().filter(|o| o.layer == Some(i)) {
                if let OpKind::KvWrite { keys, .. } | OpKind::Attend { keys, .. } = &mut op.kind {
                    *keys = Some(id);
                }
            }
        }
    }
}

fn pool_op(p: crate::model::Pool) -> Pool {
    match p {
        crate::model::Pool::Mean => Pool::Mean,
        crate::model::Pool::First => Pool::First,
        crate::model::Pool::Last => Pool::Last,
    }
}

fn low_bit(binary: bool, scales: ScaleMode) -> TensorKind {
    TensorKind::rows(if binary { Encoding::Binary1 } else { Encoding::Ternary2 }, scales)
}
