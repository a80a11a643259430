//! A network before it becomes integers: facts of the architecture and references to tensors that still lie in their files.

use crate::format::File;
use crate::tensor::TensorView;

/// Non-linearity of the gated feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Relu2,
    Silu,
}

impl Activation {
    pub fn name(self) -> &'static str {
        match self {
            Activation::Relu2 => "relu2",
            Activation::Silu => "silu",
        }
    }
}

/// How float weights become codes, or how stored codes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightRule {
    /// scale = mean|W| of the unit, code = +1 if W ≥ 0 else -1.
    BinaryMean,
    /// g = 1 / max(mean|W|, 1e-5), code = clamp(round(W g), -1, 1) (BitNet b1.58, Ma et al. 2024).
    TernaryAbsmean,
}

impl WeightRule {
    pub fn name(self) -> &'static str {
        match self {
            WeightRule::BinaryMean => "binary-mean",
            WeightRule::TernaryAbsmean => "ternary-absmean",
        }
    }
}

/// How the input of a low-bit layer becomes codes, per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivationRule {
    /// Absolute maximum to 127 (BitNet b1.58).
    Absmax8,
    /// Absolute maximum to 7.
    Absmax4,
    /// Absolute maximum to 2, codes -2 ..= 1.
    Absmax2,
}

impl ActivationRule {
    pub fn name(self) -> &'static str {
        match self {
            ActivationRule::Absmax8 => "absmax-int8",
            ActivationRule::Absmax4 => "absmax-int4",
            ActivationRule::Absmax2 => "absmax-2bit",
        }
    }

    pub fn bits(self) -> u32 {
        match self {
            ActivationRule::Absmax8 => 8,
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
    pub activation: ActivationRule,
    /// Embedding rows are int8 by training, and so is the input of the head.
    pub int8_embedding: bool,
}

/// A tensor somewhere in the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorRef {
    pub file: usize,
    pub name: String,
}

/// Where the weights of a layer come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Float weights `[rows, cols]`.
    Master,
    /// BitNet's uint8 codes `[ceil(rows / 4), cols]` with a scale that multiplies or divides.
    PackedTernary { scale: TensorRef, multiplies: bool },
}

/// One matrix of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linear {
    /// Canonical name, e.g. `layers.0.attn.q`.
    pub name: String,
    pub weight: TensorRef,
    pub rows: usize,
    pub cols: usize,
    pub source: Source,
    /// RMSNorm of its own on the input.
    pub input_norm: Option<TensorRef>,
}

/// One transformer block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub attn_norm: TensorRef,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub o: Linear,
    /// RMSNorm on the attention result, before o.
    pub attn_sub_norm: Option<TensorRef>,
    pub ffn_norm: TensorRef,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
    /// RMSNorm before down.
    pub ffn_sub_norm: Option<TensorRef>,
}

/// From generation_config.json.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generation {
    pub sample: bool,
    pub temperature: Option<f64>,
    pub top_k: Option<u32>,
}

/// A decoder language model.
pub struct Model {
    /// Last part of the folder or hub id.
    pub name: String,
    pub architecture: String,
    pub files: Vec<File>,
    pub vocab: usize,
    pub d_model: usize,
    pub ffn: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub context: usize,
    pub eps: f64,
    /// eps of the norms that single layers have on their input ([`Linear::input_norm`]).
    pub input_norm_eps: f64,
    /// `[head_dim / 2]`, radians per position.
    pub inv_freq: Vec<f64>,
    pub activation: Activation,
    pub native: Option<Native>,
    pub embedding: TensorRef,
    /// None: tied to the embedding.
    pub head: Option<Linear>,
    pub final_norm: TensorRef,
    pub layers: Vec<Layer>,
    pub bos: Option<u32>,
    pub eos: Vec<u32>,
    pub generation: Generation,
    /// tokenizer.json, unchanged.
    pub tokenizer_json: Option<Vec<u8>>,
    pub chat_template: String,
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

    /// All matrices that must become low-bit.
    pub fn projections(&self) -> impl Iterator<Item = &Linear> {
        self.layers.iter().flat_map(|l| [&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down])
    }
}
