//! Which network each architecture of llama.cpp computes.

use crate::model::{Activation, NormKind};

/// How queries and keys turn with their position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// Not: positions are a table.
    Table,
    /// Channels 2k and 2k + 1 turn together; the rows of a checkpoint, whose halves turn together, are put into that order.
    Neighbours,
    /// Channels k and k + d/2 turn together.
    Halves,
}

/// Norms on queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    None,
    /// Over a head, before the rotation.
    Head,
    /// Over a head, after the rotation.
    Rotated,
    /// Over all heads, before the rotation.
    Whole,
    /// Over a head, before the rotation, with gains of its own for each; or none.
    Own,
}

/// The two branches of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branches {
    /// One after the other.
    After,
    /// Beside each other behind one norm.
    Beside,
    /// Beside each other behind one norm, or with a norm each.
    BesideEach,
    /// Either, with a norm each; a key says which.
    Key,
    /// One after the other with a norm each, beside each other behind one.
    Norms,
}

/// Whether a part may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Has {
    No,
    May,
    /// Zeros are written where a model has none.
    Must,
}

/// Layers that see only a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// Every layer sees everything.
    None,
    /// All but every n-th layer, counted from 1; for 2: the first, the third and so on.
    AllBut(usize),
}

/// What a tanh limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Softcaps {
    None,
    Logits,
    /// Scores, too.
    Both,
}

/// What the embedding is multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factors {
    None,
    /// The root of the width.
    Root,
    /// Keys for the embedding, the branches, the scores and the logits.
    Keys,
}

/// Whether the head is the embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Always.
    Tied,
    /// If there is no `output.weight`.
    Either,
    /// Never: a tied model is written with the embedding twice.
    Own,
}

/// What an architecture computes.
pub struct Arch {
    /// `general.architecture`.
    pub name: &'static str,
    /// Families for which it is the usual name, as `model_type` has them.
    pub usual: &'static [&'static str],
    /// Only programs derived from llama.cpp know it.
    pub fork: bool,
    pub norm: NormKind,
    pub rotation: Rotation,
    pub fused_qkv: bool,
    pub fused_gate: bool,
    pub gated: bool,
    pub activation: Activation,
    pub branches: Branches,
    /// Norms before the branches; behind them; before the last matrix of each.
    pub pre: bool,
    pub post: bool,
    pub sub: bool,
    pub qk: QkNorm,
    /// Biases of queries, keys and values; of the attention's output; of the feed-forward part; of the head.
    pub qkv_bias: Has,
    pub o_bias: Has,
    pub mlp_bias: Has,
    pub head_bias: Has,
    pub head: Head,
    /// Every n-th layer, counted from 1, is not rotated; 0: all are.
    pub bare: usize,
    /// `rope_freqs.weight` is read.
    pub rope_freqs: bool,
    pub factors: Factors,
    pub windows: Windows,
    /// Keys for tanh limits.
    pub softcaps: Softcaps,
    /// Layers that see only a window turn by a base of their own, without scaling.
    pub local_base: bool,
}

/// The block of llama.
const LLAMA: Arch = Arch {
    name: "llama",
    usual: &["llama", "mistral", "mobilellm"],
    fork: false,
    norm: NormKind::Rms,
    rotation: Rotation::Neighbours,
    fused_qkv: false,
    fused_gate: false,
    gated: true,
    activation: Activation::Silu,
    branches: Branches::After,
    pre: true,
    post: false,
    sub: false,
    qk: QkNorm::None,
    qkv_bias: Has::May,
    o_bias: Has::May,
    mlp_bias: Has::May,
    head_bias: Has::No,
    head: Head::Either,
    bare: 0,
    rope_freqs: true,
    factors: Factors::None,
    windows: Windows::None,
    softcaps: Softcaps::None,
    local_base: false,
};

/// The block of llama without biases, rotating halves.
const PLAIN: Arch = Arch {
    rotation: Rotation::Halves,
    qkv_bias: Has::No,
    o_bias: Has::No,
    mlp_bias: Has::No,
    rope_freqs: false,
    ..LLAMA
};

const GEMMA: Arch = Arch {
    name: "gemma",
    usual: &["gemma"],
    activation: Activation::GeluTanh,
    factors: Factors::Root,
    head: Head::Tied,
    ..PLAIN
};

/// LayerNorm and biases everywhere, no gate.
const GPT: Arch = Arch {
    norm: NormKind::Layer,
    fused_qkv: true,
    gated: false,
    qkv_bias: Has::Must,
    o_bias: Has::Must,
    mlp_bias: Has::Must,
    ..PLAIN
};

/// Every architecture that is written. Where several compute the same, the first wins, after those that are usual for the family.
pub static ARCHS: &[Arch] = &[
    LLAMA,
    Arch { name: "qwen2", usual: &["qwen2"], qkv_bias: Has::Must, head_bias: Has::May, ..PLAIN },
    Arch { name: "qwen3", usual: &["qwen3"], qk: QkNorm::Head, ..PLAIN },
    Arch { name: "granite", usual: &["granite", "minicpm"], factors: Factors::Keys, ..LLAMA },
    Arch { name: "smollm3", usual: &["smollm3"], rotation: Rotation::Neighbours, bare: 4, ..PLAIN },
    Arch { name: "hunyuan-dense", usual: &["hunyuan_v1_dense"], qk: QkNorm::Rotated, ..PLAIN },
    Arch { name: "bitnet", usual: &["bitnet"], sub: true, head: Head::Tied, ..PLAIN },
    Arch {
        name: "bitnet-b1.58",
        usual: &["bitnet"],
        fork: true,
        activation: Activation::Relu2,
        sub: true,
        head: Head::Tied,
        ..PLAIN
    },
    GEMMA,
    Arch {
        name: "gemma2",
        usual: &["gemma2"],
        post: true,
        windows: Windows::AllBut(2),
        softcaps: Softcaps::Both,
        ..GEMMA
    },
    Arch {
        name: "gemma3",
        usual: &["gemma3_text", "gemma3"],
        post: true,
        qk: QkNorm::Head,
        windows: Windows::AllBut(6),
        softcaps: Softcaps::Logits,
        local_base: true,
        ..GEMMA
    },
    Arch { name: "olmo2", usual: &["olmo2"], pre: false, post: true, qk: QkNorm::Whole, head: Head::Own, ..PLAIN },
    Arch { name: "phi3", usual: &["phi3"], fused_qkv: true, fused_gate: true, ..PLAIN },
    Arch {
        name: "phi2",
        usual: &["phi"],
        activation: Activation::GeluTanh,
        branches: Branches::Beside,
        head_bias: Has::Must,
        head: Head::Own,
        fused_qkv: false,
        ..GPT
    },
    Arch { name: "gpt2", usual: &["gpt2"], rotation: Rotation::Table, activation: Activation::GeluTanh, ..GPT },
    Arch {
        name: "gptneox",
        usual: &["gpt_neox"],
        activation: Activation::Gelu,
        branches: Branches::Key,
        head: Head::Own,
        ..GPT
    },
    Arch {
        name: "stablelm",
        usual: &["stablelm"],
        norm: NormKind::Layer,
        branches: Branches::Norms,
        qk: QkNorm::Own,
        qkv_bias: Has::May,
        head: Head::Own,
        ..PLAIN
    },
    Arch {
        name: "falcon",
        usual: &["falcon"],
        norm: NormKind::Layer,
        fused_qkv: true,
        gated: false,
        activation: Activation::Gelu,
        branches: Branches::BesideEach,
        ..PLAIN
    },
];
