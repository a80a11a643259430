//! A network before it becomes integers: facts of the architecture and references to tensors that still lie in their files.
//!
//! One description serves every architecture: what a block has is there, what it has not is None. The float reference and the lowering both
//! read it, so they cannot disagree about what a network is.

mod lora;
mod matrix;
mod rope;
mod rule;
mod weights;

pub use lora::{Lora, SideBranch};
pub use matrix::{Form, Matrix, RowOrder, Source, Unit};
pub use rope::{frequencies, Beyond, Rope};
pub use rule::{absmax_row, Fit, MeanAbs, WeightRule};
pub use weights::RowReader;

use crate::format::File;
use crate::tensor::TensorView;
use std::collections::BTreeMap;

/// A non-linearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Relu,
    /// max(x, 0)^2.
    Relu2,
    Silu,
    /// x Phi(x), with the error function.
    Gelu,
    /// The approximation with tanh.
    GeluTanh,
    Tanh,
}

impl Activation {
    pub fn name(self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::Relu2 => "relu2",
            Activation::Silu => "silu",
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu-tanh",
            Activation::Tanh => "tanh",
        }
    }
}

/// How the input of a low-bit layer becomes codes, per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivationRule {
    /// Absolute maximum to 127 (BitNet b1.58).
    Absmax8,
    /// Absolute maximum to 32,767: in place of float activations.
    Absmax16,
    /// Absolute maximum to 7.
    Absmax4,
    /// Absolute maximum to 2, codes -2 ..= 1.
    Absmax2,
}

impl ActivationRule {
    pub fn name(self) -> &'static str {
        match self {
            ActivationRule::Absmax8 => "absmax-int8",
            ActivationRule::Absmax16 => "absmax-int16",
            ActivationRule::Absmax4 => "absmax-int4",
            ActivationRule::Absmax2 => "absmax-2bit",
        }
    }

    pub fn bits(self) -> u32 {
        match self {
            ActivationRule::Absmax8 => 8,
            ActivationRule::Absmax16 => 16,
            ActivationRule::Absmax4 => 4,
            ActivationRule::Absmax2 => 2,
        }
    }
}

/// The settings a checkpoint was trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Native {
    /// None: the codes are stored already.
    pub weight: Option<WeightRule>,
    /// None: activations stay float.
    pub activation: Option<ActivationRule>,
    /// Embedding rows are int8 by training, and so is the input of the head.
    pub int8_embedding: bool,
}

/// A tensor somewhere in the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorRef {
    pub file: usize,
    pub name: String,
}

/// A vector of the checkpoint, e.g. a part of a fused bias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vector {
    pub tensor: TensorRef,
    pub len: usize,
    pub order: RowOrder,
}

/// Root mean square (Zhang and Sennrich 2019), or mean and variance (Ba et al. 2016).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    Rms,
    Layer,
}

/// A normalisation with gain.
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    pub kind: NormKind,
    /// Elements that are normalised together; a vector of n elements has n / len groups.
    pub len: usize,
    /// Gains `[len]` for every group, or together `[n]`; empty: no gain.
    pub weight: Vec<TensorRef>,
    pub bias: Option<TensorRef>,
    pub eps: f64,
    /// The gain is 1 + weight.
    pub plus_one: bool,
}

/// One matrix of the network with what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Canonical name, e.g. `layers.0.attn.q`.
    pub name: String,
    pub weight: Matrix,
    pub bias: Option<Vector>,
    /// A norm of its own on the input.
    pub input_norm: Option<Norm>,
    /// `[cols]`, multiplies the input (after the norm).
    pub input_factor: Option<TensorRef>,
    /// How the input is rounded (after norm and factor); None: float.
    pub activation: Option<ActivationRule>,
    /// LayerNorm without gain on the result, before the bias: its eps.
    pub output_norm: Option<f64>,
}

/// Self-attention of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub o: Linear,
    /// Norms on q and k: `len` is head_dim (per head) or the whole width.
    pub q_norm: Option<Norm>,
    pub k_norm: Option<Norm>,
    /// The norms on q and k come after the rotation.
    pub norm_after_rope: bool,
    /// Index into [`Model::ropes`]; None: no rotation.
    pub rope: Option<usize>,
    /// Key j is visible to query i if j > i - window (and j <= i in a decoder).
    pub window: Option<usize>,
    /// What q k is multiplied with.
    pub scale: f64,
    /// c tanh(score / c).
    pub softcap: Option<f64>,
    /// RMSNorm on the attention result, before o.
    pub sub_norm: Option<Norm>,
}

/// Attention of a decoder to the states of an encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossAttention {
    pub norm: Norm,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub o: Linear,
    pub scale: f64,
}

/// Feed-forward part: down(act(gate(x)) * up(x)), or down(act(up(x))) without gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    pub gate: Option<Linear>,
    pub up: Linear,
    pub down: Linear,
    pub activation: Activation,
    /// Norm before down.
    pub sub_norm: Option<Norm>,
}

/// One transformer block. With x the residual:
/// sequential: `x += post(attn(norm(x))); x = after(x); x += post(mlp(norm(x))); x = after(x)`;
/// parallel: `x += attn(attn_norm(x)) + mlp(ffn_norm(x))`, both of the x before.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    pub attn_norm: Option<Norm>,
    pub attn: Attention,
    /// On the result of the branch.
    pub attn_post_norm: Option<Norm>,
    /// On the residual after the branch was added (post-LN blocks).
    pub after_attn: Option<Norm>,
    pub cross: Option<CrossAttention>,
    /// In a parallel block None means: the result of `attn_norm`.
    pub ffn_norm: Option<Norm>,
    pub mlp: Mlp,
    pub ffn_post_norm: Option<Norm>,
    pub after_ffn: Option<Norm>,
    pub parallel: bool,
}

/// Learned positions: row `position + offset` of the table is added to the embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Positions {
    pub table: Matrix,
    pub offset: usize,
}

/// Transformation before the head of a masked language model: norm(act(dense(x))).
#[derive(Debug, Clone, PartialEq)]
pub struct HeadTransform {
    pub dense: Linear,
    pub activation: Activation,
    pub norm: Norm,
}

/// The encoder of a speech model: two convolutions over mel frames, then blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct Audio {
    pub mels: usize,
    /// Frames that go in; half as many states come out.
    pub frames: usize,
    /// Weight `[d_model, in, 3]` and bias of each convolution; the second has stride 2. Both are followed by GELU.
    pub conv: [(TensorRef, TensorRef); 2],
    pub positions: Matrix,
    pub layers: Vec<Layer>,
    pub final_norm: Norm,
}

/// Direction of the attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Decoder,
    /// Every token sees every token.
    Encoder,
}

/// How the states of a text become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    Mean,
    First,
    Last,
}

/// What an embedding model gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooling {
    pub pool: Pool,
    /// To unit length.
    pub normalize: bool,
}

/// From generation_config.json.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generation {
    pub sample: bool,
    pub temperature: Option<f64>,
    pub top_k: Option<u32>,
}

/// A language model.
pub struct Model {
    /// Last part of the folder or hub id.
    pub name: String,
    pub architecture: String,
    pub kind: Kind,
    pub files: Vec<File>,
    pub vocab: usize,
    pub d_model: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub context: usize,
    /// Rotary embeddings that layers refer to; a model may have one for sliding and one for full layers.
    pub ropes: Vec<Rope>,
    /// Scores get a slope of the head times the distance instead of a rotation (Press et al. 2022); `[heads]`.
    pub alibi: Option<Vec<f64>>,
    pub native: Option<Native>,
    pub embedding: Matrix,
    /// The embedding is multiplied with this.
    pub embedding_scale: f64,
    pub positions: Option<Positions>,
    /// Table of segment embeddings; texts of one segment use row 0.
    pub token_types: Option<Matrix>,
    /// On the sum of the embeddings.
    pub embedding_norm: Option<Norm>,
    /// Each branch is multiplied with this before it is added to the residual.
    pub residual_scale: f64,
    pub layers: Vec<Layer>,
    pub final_norm: Option<Norm>,
    pub head_transform: Option<HeadTransform>,
    /// A tied head has the embedding for its weight. None: hidden states are the output.
    pub head: Option<Linear>,
    /// Logits are multiplied with this, then c tanh(logit / c).
    pub logits_scale: f64,
    pub logits_softcap: Option<f64>,
    /// tanh(pooler(first state)) of the bert family.
    pub pooler: Option<Linear>,
    pub pooling: Option<Pooling>,
    pub audio: Option<Audio>,
    /// Low-rank branches beside the matrices; only the float reference computes them.
    pub adapter: Option<Lora>,
    pub bos: Option<u32>,
    pub eos: Vec<u32>,
    pub generation: Generation,
    /// tokenizer.json, unchanged.
    pub tokenizer_json: Option<Vec<u8>>,
    pub chat_template: String,
    /// What the template knows as `bos_token`, `eos_token` and so on, as far as the checkpoint says it.
    pub chat_tokens: BTreeMap<String, String>,
    /// Every file that was read besides the weights: name, bytes, SHA-256. Weights are hashed when they are converted.
    pub sources: Vec<(String, u64, [u8; 32])>,
    /// What a person should know about the import.
    pub warnings: Vec<String>,
}

impl Model {
    pub fn tensor(&self, r: &TensorRef) -> TensorView<'_> {
        // References are made only from tensors that were found.
        self.files[r.file].get(&r.name).unwrap_or_else(|| unreachable!("{} was found at import", r.name))
    }

    /// Path of the file a tensor lies in, for messages.
    pub fn file_of(&self, r: &TensorRef) -> &std::path::Path {
        &self.files[r.file].path
    }

    /// Whether the head is the embedding.
    pub fn tied(&self) -> bool {
        self.head.as_ref().is_some_and(|h| h.weight == self.embedding)
    }

    /// All matrices of the blocks.
    pub fn projections(&self) -> impl Iterator<Item = &Linear> {
        self.layers.iter().flat_map(Layer::projections)
    }

    /// Values of a vector in its order.
    ///
    /// # Errors
    /// `Input` at a value that is not finite, with file and offset.
    pub fn vector(&self, v: &Vector) -> crate::error::Result<Vec<f32>> {
        let all = self.values(&v.tensor)?;
        Ok((0..v.len).map(|i| all[v.order.stored(i)]).collect())
    }

    /// All values of a small tensor.
    ///
    /// # Errors
    /// As [`Model::vector`].
    pub fn values(&self, r: &TensorRef) -> crate::error::Result<Vec<f32>> {
        self.tensor(r).to_f32().map_err(|e| e.at_file(self.file_of(r)))
    }

    /// Gains of a norm for a vector of `n` elements, with 1 + w where the norm says so; None: no gain.
    ///
    /// # Errors
    /// As [`Model::vector`].
    pub fn gains(&self, norm: &Norm, n: usize) -> crate::error::Result<Option<Vec<f32>>> {
        if norm.weight.is_empty() {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(n);
        for r in &norm.weight {
            out.extend(self.values(r)?);
        }
        if norm.plus_one {
            out.iter_mut().for_each(|w| *w += 1.0);
        }
        Ok(Some(out.iter().copied().cycle().take(n).collect()))
    }
}

impl Layer {
    /// All matrices of the block, in the order of their use.
    pub fn projections(&self) -> impl Iterator<Item = &Linear> {
        let (a, m) = (&self.attn, &self.mlp);
        let cross = self.cross.iter().flat_map(|c| [&c.q, &c.k, &c.v, &c.o]);
        [&a.q, &a.k, &a.v, &a.o].into_iter().chain(cross).chain(m.gate.iter()).chain([&m.up, &m.down])
    }
    /// As [`Layer::projections`], to be changed.
    pub fn projections_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let (a, m) = (&mut self.attn, &mut self.mlp);
        let cross = self.cross.iter_mut().flat_map(|c| [&mut c.q, &mut c.k, &mut c.v, &mut c.o]);
        let own = [&mut a.q, &mut a.k, &mut a.v, &mut a.o];
        own.into_iter().chain(cross).chain(m.gate.iter_mut()).chain([&mut m.up, &mut m.down])
    }
}
