//! What all readers of architectures share: finding tensors, checking shapes, and remembering what was used.

use super::checkpoint::Checkpoint;
use super::config::Config;
use super::dims::Dims;
use super::lowbit::{LowBit, Role, Wanted};
use crate::error::{Error, Result};
use crate::model::{
    Activation, ActivationRule, Attention, Audio, HeadTransform, Kind, Layer, Linear, Matrix, Mlp, Model, Norm,
    NormKind, Pool, Pooling, Positions, Rope, RowOrder, TensorRef, Vector,
};
use std::collections::BTreeSet;

/// Norms of an architecture.
#[derive(Debug, Clone, Copy)]
pub struct NormStyle {
    pub kind: NormKind,
    pub eps: f64,
    pub plus_one: bool,
    pub bias: bool,
}

impl NormStyle {
    pub fn rms(eps: f64) -> NormStyle {
        NormStyle { kind: NormKind::Rms, eps, plus_one: false, bias: false }
    }

    pub fn layer(eps: f64) -> NormStyle {
        NormStyle { kind: NormKind::Layer, eps, plus_one: false, bias: true }
    }
}

/// A matrix that a reader wants, with its bias.
#[derive(Debug, Clone)]
pub struct Lin {
    name: String,
    module: String,
    rows: usize,
    cols: usize,
    stored_rows: usize,
    order: RowOrder,
    transposed: bool,
    bias: Option<bool>,
}

/// `name` in the model, `module` in the file, `[rows, cols]`.
pub fn lin(name: impl Into<String>, module: impl Into<String>, rows: usize, cols: usize) -> Lin {
    Lin {
        name: name.into(),
        module: module.into(),
        rows,
        cols,
        stored_rows: rows,
        order: RowOrder::Stored,
        transposed: false,
        bias: None,
    }
}

impl Lin {
    /// Whether there is a bias; None: if the file has one. (Some classes add biases that their configuration does not name.)
    pub fn bias(self, bias: impl Into<Option<bool>>) -> Lin {
        Lin { bias: bias.into(), ..self }
    }

    /// A part of a fused matrix with this many rows.
    pub fn part(self, order: RowOrder, stored_rows: usize) -> Lin {
        Lin { order, stored_rows, ..self }
    }

    /// Stored as `[cols, rows]`.
    pub fn transposed(self) -> Lin {
        Lin { transposed: true, ..self }
    }
}

/// What an architecture makes of its tensors; everything that most do not have is absent.
pub struct Draft {
    pub kind: Kind,
    pub ropes: Vec<Rope>,
    pub alibi: Option<Vec<f64>>,
    pub embedding: Matrix,
    pub embedding_scale: f64,
    pub positions: Option<Positions>,
    pub token_types: Option<Matrix>,
    pub embedding_norm: Option<Norm>,
    pub residual_scale: f64,
    pub layers: Vec<Layer>,
    pub final_norm: Option<Norm>,
    pub head_transform: Option<HeadTransform>,
    pub head: Option<Linear>,
    pub logits_scale: f64,
    pub logits_softcap: Option<f64>,
    pub pooler: Option<Linear>,
    pub audio: Option<Audio>,
}

impl Draft {
    pub fn new(embedding: Matrix, layers: Vec<Layer>) -> Draft {
        Draft {
            kind: Kind::Decoder,
            ropes: Vec::new(),
            alibi: None,
            embedding,
            embedding_scale: 1.0,
            positions: None,
            token_types: None,
            embedding_norm: None,
            residual_scale: 1.0,
            layers,
            final_norm: None,
            head_transform: None,
            head: None,
            logits_scale: 1.0,
            logits_softcap: None,
            pooler: None,
            audio: None,
        }
    }
}

/// Attention with nothing but its four matrices.
pub fn attention(q: Linear, k: Linear, v: Linear, o: Linear, scale: f64) -> Attention {
    Attention {
        q,
        k,
        v,
        o,
        q_norm: None,
        k_norm: None,
        norm_after_rope: false,
        rope: None,
        window: None,
        scale,
        softcap: None,
        sub_norm: None,
    }
}

/// A block without norms.
pub fn block(attn: Attention, mlp: Mlp) -> Layer {
    Layer {
        attn_norm: None,
        attn,
        attn_post_norm: None,
        after_attn: None,
        cross: None,
        ffn_norm: None,
        mlp,
        ffn_post_norm: None,
        after_ffn: None,
        parallel: false,
    }
}

/// A feed-forward part without gate.
pub fn plain_mlp(up: Linear, down: Linear, activation: Activation) -> Mlp {
    Mlp { gate: None, up, down, activation, sub_norm: None }
}

/// The tensors of a checkpoint while a reader goes through them.
pub struct Builder {
    pub c: Checkpoint,
    lowbit: LowBit,
    used: BTreeSet<String>,
    pub warnings: Vec<String>,
}

impl Builder {
    /// `assume_bitnet`: as for [`LowBit::of`].
    pub fn new(mut c: Checkpoint, assume_bitnet: bool) -> Result<Builder> {
        let lowbit = LowBit::of(&c, assume_bitnet)?;
        let warnings = std::mem::take(&mut c.warnings);
        Ok(Builder { c, lowbit, used: BTreeSet::new(), warnings })
    }

    pub fn cfg(&self) -> &Config {
        &self.c.config
    }

    pub fn has(&self, tensor: &str) -> bool {
        self.c.find(tensor).is_some()
    }

    /// A float tensor of this shape.
    pub fn float(&mut self, name: &str, shape: &[usize]) -> Result<TensorRef> {
        let r = self.c.need_float(name, shape)?;
        self.used.insert(r.name.clone());
        Ok(r)
    }

    /// A table of floats, e.g. of learned positions.
    pub fn table(&mut self, module: &str, rows: usize, cols: usize) -> Result<Matrix> {
        Ok(Matrix::float(self.float(&format!("{module}.weight"), &[rows, cols])?, rows, cols))
    }

    pub fn embedding(&mut self, module: &str, d: &Dims) -> Result<Matrix> {
        let found = self.lowbit.matrix(&self.c, &Wanted::whole(module, Role::Embedding, d.vocab, d.d_model))?;
        self.used.extend(found.used.into_iter().map(|r| r.name));
        Ok(found.matrix)
    }

    pub fn norm(&mut self, style: NormStyle, module: &str, len: usize) -> Result<Norm> {
        let weight = vec![self.float(&format!("{module}.weight"), &[len])?];
        let bias = if style.bias { Some(self.float(&format!("{module}.bias"), &[len])?) } else { None };
        Ok(Norm { kind: style.kind, len, weight, bias, eps: style.eps, plus_one: style.plus_one })
    }

    pub fn linear(&mut self, l: Lin) -> Result<Linear> {
        let bias = self.bias(&l)?;
        Ok(Linear { bias, ..self.weights(l, Role::Projection)? })
    }

    fn bias(&mut self, l: &Lin) -> Result<Option<Vector>> {
        let name = format!("{}.bias", l.module);
        if l.bias == Some(false) && self.has(&name) {
            let e = self.cfg().error("the checkpoint has this bias, the configuration says that there is none");
            return Err(e.at_tensor(&name));
        }
        if l.bias.unwrap_or_else(|| self.has(&name)) {
            let tensor = self.float(&name, &[l.stored_rows])?;
            return Ok(Some(Vector { tensor, len: l.rows, order: l.order }));
        }
        Ok(None)
    }

    /// How the states become one vector: as `modules.json` says; embedding models of the BitNet family take the last token, to unit length.
    fn pooling(&self) -> Option<Pooling> {
        let bitnet = self.c.is_base_model() && self.has("model.layers.0.self_attn.q_proj.norm.weight");
        self.c.pooling.or(bitnet.then_some(Pooling { pool: Pool::Last, normalize: true }))
    }

    pub(super) fn mark(&mut self, names: Vec<String>) {
        self.used.extend(names);
    }

    pub(super) fn tied_activation(&self) -> Option<ActivationRule> {
        self.lowbit.tied_activation()
    }

    pub(super) fn weights(&mut self, l: Lin, role: Role) -> Result<Linear> {
        let wanted = Wanted {
            module: &l.module,
            role,
            rows: l.rows,
            cols: l.cols,
            stored_rows: l.stored_rows,
            order: l.order,
            transposed: l.transposed,
        };
        let found = self.lowbit.matrix(&self.c, &wanted)?;
        self.used.extend(found.used.into_iter().map(|r| r.name));
        Ok(Linear {
            name: l.name,
            weight: found.matrix,
            bias: None,
            input_norm: found.input_norm,
            input_factor: found.input_factor,
            activation: found.activation,
            output_norm: found.output_norm,
        })
    }

    /// Tensors that belong to parts which are left out on purpose; a warning says so if there are any.
    pub fn leave_out(&mut self, prefixes: &[&str], what: &str) {
        let mut n = 0;
        for (_, r) in self.c.tensors().filter(|(name, _)| prefixes.iter().any(|p| name.starts_with(p))) {
            self.used.insert(r.name.clone());
            n += 1;
        }
        if n > 0 {
            self.warnings.push(format!("{what} ({n} tensors)"));
        }
    }

    /// The model, if every tensor of the checkpoint has found its place.
    ///
    /// # Errors
    /// `Unsupported` naming a tensor without a place; `Input` for token ids beyond the vocabulary.
    pub fn finish(self, d: &Dims, draft: Draft) -> Result<Model> {
        let unused = self.c.unused(&self.used);
        if let Some(name) = unused.first() {
            return Err(Error::unsupported(format!(
                "{} tensors of the checkpoint have no place in this architecture, e.g. `{name}`",
                unused.len()
            ))
            .at_tensor(name)
            .at_file(&self.c.files[0].path)
            .hint("silently dropping them would give another model; this variant is not supported yet"));
        }
        let tokens = super::tokens::Tokens::read(&self.c, draft.kind, d.vocab)?;
        let architecture = self.cfg().str("model_type").or(self.cfg().class()).unwrap_or("bert").to_string();
        let pooling = if draft.head.is_none() || draft.kind == Kind::Encoder { self.pooling() } else { None };
        let c = self.c;
        Ok(Model {
            name: c.name,
            architecture,
            kind: draft.kind,
            vocab: d.vocab,
            d_model: d.d_model,
            heads: d.heads,
            kv_heads: d.kv_heads,
            head_dim: d.head_dim,
            context: d.context,
            ropes: draft.ropes,
            alibi: draft.alibi,
            native: self.lowbit.native,
            embedding: draft.embedding,
            embedding_scale: draft.embedding_scale,
            positions: draft.positions,
            token_types: draft.token_types,
            embedding_norm: draft.embedding_norm,
            residual_scale: draft.residual_scale,
            layers: draft.layers,
            final_norm: draft.final_norm,
            head_transform: draft.head_transform,
            head: draft.head,
            logits_scale: draft.logits_scale,
            logits_softcap: draft.logits_softcap,
            pooler: draft.pooler,
            pooling,
            audio: draft.audio,
            adapter: None,
            bos: tokens.bos,
            eos: tokens.eos,
            generation: tokens.generation,
            tokenizer_json: c.tokenizer_json,
            chat_template: c.chat.template,
            chat_tokens: c.chat.tokens,
            sources: c.sources,
            files: c.files,
            warnings: self.warnings,
        })
    }
}
