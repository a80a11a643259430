//! Which network each architecture of llama.cpp computes, and whether a model is one.
//!
//! The choice goes by what a model computes, not by what it is called: a checkpoint is written under a name only if the program that reads
//! the file then computes the same network.

use crate::error::{Error, Result};
use crate::model::{Activation, Attention, Layer, Model, Norm, NormKind};
use std::collections::BTreeSet;

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
}

/// The two branches of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branches {
    /// One after the other.
    After,
    /// Beside each other behind one norm.
    Beside,
    /// Either, with a norm each; a key says which.
    Key,
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
    usual: &'static [&'static str],
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
    /// Keys for tanh limits of scores and logits.
    pub softcaps: bool,
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
    softcaps: false,
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
    Arch { name: "gemma2", usual: &["gemma2"], post: true, windows: Windows::AllBut(2), softcaps: true, ..GEMMA },
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
];

/// Reasons that a message lists.
const MOST_REASONS: usize = 3;

/// What of a model an architecture does otherwise.
#[derive(Debug, Default)]
pub struct Misfit {
    /// The file would say another network.
    pub differs: Vec<String>,
    /// The file has no place for it.
    pub unplaced: Vec<String>,
}

impl Misfit {
    fn fits(&self) -> bool {
        self.differs.is_empty() && self.unplaced.is_empty()
    }

    fn reasons(&self) -> String {
        let all: Vec<&str> = self.unplaced.iter().chain(&self.differs).map(String::as_str).collect();
        let more = all.len().saturating_sub(MOST_REASONS);
        let end = if more > 0 { format!("; and {more} more") } else { String::new() };
        all[..all.len() - more].join("; ") + &end
    }
}

/// The architecture for a model. `bitnet_cpp`: the file is for bitnet.cpp.
///
/// # Errors
/// `Unsupported` if none computes this network, with what the nearest does otherwise; `Usage` for a forced name that is not known.
pub fn choose(
    model: &Model,
    force: Option<&str>,
    bitnet_cpp: bool,
    warnings: &mut Vec<String>,
) -> Result<&'static Arch> {
    if let Some(name) = force {
        return forced(model, name, bitnet_cpp, warnings);
    }
    let family = model.architecture.as_str();
    let (usual, others): (Vec<&Arch>, Vec<&Arch>) = ARCHS.iter().partition(|a| a.usual.contains(&family));
    let fitting = usual.iter().chain(&others).find(|a| misfit(a, model, bitnet_cpp).fits());
    match fitting {
        Some(a) if a.fork && !bitnet_cpp => Err(Error::unsupported(format!(
            "llama.cpp has no architecture for this model: its `bitnet` computes SiLU where the model has {}, so the file would load and \
             give wrong answers; `{}` is known to bitnet.cpp and programs derived from it only",
            model.layers.first().map_or("another function", |l| l.mlp.activation.name()),
            a.name
        ))
        .hint(format!("write it for bitnet.cpp with `--type i2_s`, or for a program that knows the name with `--force-arch {}`", a.name))),
        Some(a) => Ok(a),
        None => {
            let nearest = *usual.first().unwrap_or(&&ARCHS[0]);
            let reasons = misfit(nearest, model, bitnet_cpp).reasons();
            let e = Error::unsupported(format!(
                "no architecture of llama.cpp computes this {family} model; of the nearest, `{}`: {reasons}",
                nearest.name
            ));
            Err(e.hint("`--format packed` takes the model as it is; `--force-arch NAME` writes what has a place in the file"))
        }
    }
}

fn forced(model: &Model, name: &str, bitnet_cpp: bool, warnings: &mut Vec<String>) -> Result<&'static Arch> {
    let Some(arch) = ARCHS.iter().find(|a| a.name == name) else {
        let all: Vec<&str> = ARCHS.iter().map(|a| a.name).collect();
        return Err(Error::usage(format!("architecture `{name}` is not written; those that are: {}", all.join(", "))));
    };
    let misfit = misfit(arch, model, bitnet_cpp);
    if !misfit.unplaced.is_empty() {
        let what = format!("the model cannot be written as `{name}`: {}", misfit.unplaced.join("; "));
        return Err(Error::unsupported(what));
    }
    let also = if arch.fork { "llama.cpp itself does not know the name" } else { "" };
    let all: Vec<&str> =
        misfit.differs.iter().map(String::as_str).chain(Some(also).filter(|a| !a.is_empty())).collect();
    if !all.is_empty() {
        warnings.push(format!("`{name}` was forced: {}", all.join("; ")));
    }
    Ok(arch)
}

/// Holds an architecture against a model.
pub fn misfit(a: &Arch, model: &Model, bitnet_cpp: bool) -> Misfit {
    let mut m = Misfit::default();
    whole(a, model, &mut m);
    for (i, layer) in model.layers.iter().enumerate() {
        block(a, model, i, layer, bitnet_cpp, &mut m);
    }
    // Layers are mostly alike: each reason once.
    let mut seen = BTreeSet::new();
    m.differs.retain(|r| seen.insert(r.clone()));
    m.unplaced.retain(|r| seen.insert(r.clone()));
    m
}

fn whole(a: &Arch, model: &Model, m: &mut Misfit) {
    let mut no = |there: bool, what: &str| {
        if there {
            m.unplaced.push(format!("{what} has no place in the file"));
        }
    };
    no(model.kind == crate::model::Kind::Encoder, "an encoder");
    no(model.audio.is_some(), "the part that hears");
    no(model.alibi.is_some(), "the slope of the attention (ALiBi)");
    no(model.token_types.is_some(), "the table of token types");
    no(model.embedding_norm.is_some(), "the norm behind the embedding");
    no(model.head_transform.is_some(), "the transformation before the head");
    no(model.adapter.is_some(), "an adapter that is not merged");
    no(model.positions.is_some() != (a.rotation == Rotation::Table), "the way in which positions enter");
    no(model.positions.as_ref().is_some_and(|p| p.offset != 0), "the offset of the positions");
    no(model.final_norm.is_none(), "a model without a last norm");
    no(model.layers.is_empty(), "a model without layers");
    no(model.head.is_none() && model.pooling.is_none(), "a model without head");
    if let Some(head) = &model.head {
        no(head.input_norm.is_some() || head.input_factor.is_some(), "the norm or factor before the head");
        no(head.bias.is_some() && a.head_bias == Has::No, "the bias of the head");
        no(a.head == Head::Tied && !model.tied(), "a head beside the embedding");
    }
    let root = f64::from((model.d_model as f32).sqrt());
    let expected = if a.factors == Factors::Root { root } else { 1.0 };
    let near = |x: f64, y: f64| (x - y).abs() <= 1e-6 * y.abs();
    if a.factors != Factors::Keys {
        if !near(model.embedding_scale, expected) {
            m.differs
                .push(format!("it multiplies the embedding with {expected}, the model with {}", model.embedding_scale));
        }
        if model.residual_scale != 1.0 || model.logits_scale != 1.0 {
            m.differs.push("it has no factor for branches or logits, the model has".into());
        }
    }
    if model.logits_softcap.is_some() && !a.softcaps {
        m.differs.push("it does not limit logits, the model does".into());
    }
    if model.ropes.len() > 1 {
        m.differs.push("it has one rotation, the model several".into());
    }
    for norm in model.final_norm.iter().chain(model.layers.iter().flat_map(norms)) {
        if norm.kind != a.norm {
            m.unplaced.push(format!("its norms are of the kind {:?}, those of the model {:?}", a.norm, norm.kind));
        }
        if Some(norm.eps) != model.final_norm.as_ref().map(|n| n.eps) {
            m.differs.push("it has one epsilon for all norms, the model several".into());
        }
    }
}

/// All norms of a layer.
pub fn norms(l: &Layer) -> impl Iterator<Item = &Norm> {
    let attn = [&l.attn_norm, &l.attn_post_norm, &l.attn.q_norm, &l.attn.k_norm, &l.attn.sub_norm];
    attn.into_iter().chain([&l.ffn_norm, &l.ffn_post_norm, &l.mlp.sub_norm]).flatten()
}

fn block(a: &Arch, model: &Model, i: usize, l: &Layer, bitnet_cpp: bool, m: &mut Misfit) {
    let mut no = |there: bool, what: &str| {
        if there {
            m.unplaced.push(format!("{what} has no place in the file"));
        }
    };
    no(l.cross.is_some(), "attention to another model");
    no(l.after_attn.is_some() || l.after_ffn.is_some(), "a norm on the residual");
    for p in l.projections() {
        // bitnet.cpp reads such norms of qwen3.
        let read = bitnet_cpp && a.name == "qwen3" && p.input_factor.is_none() && p.output_norm.is_none();
        let own = p.input_norm.is_some() || p.input_factor.is_some() || p.output_norm.is_some();
        no(own && !read, "a norm or factor that belongs to a single matrix");
    }
    let bias = |has: Has, ps: &[&crate::model::Linear]| has == Has::No && ps.iter().any(|p| p.bias.is_some());
    let (at, mlp) = (&l.attn, &l.mlp);
    no(bias(a.qkv_bias, &[&at.q, &at.k, &at.v]), "a bias of queries, keys or values");
    no(bias(a.o_bias, &[&at.o]), "the bias behind the attention");
    let up_down = [Some(&mlp.up), Some(&mlp.down), mlp.gate.as_ref()];
    no(bias(a.mlp_bias, &up_down.into_iter().flatten().collect::<Vec<_>>()), "a bias of the feed-forward part");
    let beside = a.branches == Branches::Beside;
    for (there, expected, what) in [
        (l.attn_norm.is_some(), a.pre, "a norm before the attention"),
        (l.ffn_norm.is_some(), a.pre && !beside, "a norm before the feed-forward part"),
        (l.attn_post_norm.is_some(), a.post, "a norm behind the attention"),
        (l.ffn_post_norm.is_some(), a.post, "a norm behind the feed-forward part"),
        (at.sub_norm.is_some(), a.sub, "a norm inside the attention"),
        (mlp.sub_norm.is_some(), a.sub, "a norm inside the feed-forward part"),
        (mlp.gate.is_some(), a.gated, "a gate"),
    ] {
        if there != expected {
            m.unplaced.push(format!("{what}: {}", if there { "only the model has it" } else { "the model has none" }));
        }
    }
    let parallel = match a.branches {
        Branches::After => !l.parallel,
        Branches::Beside => l.parallel,
        Branches::Key => l.parallel == model.layers[0].parallel,
    };
    if !parallel {
        m.differs.push("its two branches of a block are joined in another way".into());
    }
    if mlp.activation != a.activation {
        m.differs.push(format!("it computes {}, the model {}", a.activation.name(), mlp.activation.name()));
    }
    attention(a, model, i, at, m);
}

fn attention(a: &Arch, model: &Model, i: usize, at: &Attention, m: &mut Misfit) {
    let qk = match (&at.q_norm, &at.k_norm) {
        (None, None) => QkNorm::None,
        (Some(q), Some(k)) if q.len == model.head_dim && k.len == model.head_dim && q.weight.len() == 1 => {
            if at.norm_after_rope {
                QkNorm::Rotated
            } else {
                QkNorm::Head
            }
        }
        (Some(q), Some(_)) if q.len == at.q.weight.rows && !at.norm_after_rope => QkNorm::Whole,
        _ => {
            m.unplaced.push("norms on queries and keys of this kind".into());
            a.qk
        }
    };
    if qk != a.qk {
        m.unplaced.push(format!("norms on queries and keys: {:?} there, {qk:?} in the model", a.qk));
    }
    if at.softcap.is_some() && !a.softcaps {
        m.differs.push("it does not limit scores, the model does".into());
    }
    let expected = 1.0 / (model.head_dim as f64).sqrt();
    // The largest gemma2 is told by its layers.
    let expected = if a.name == "gemma2" && model.layers.len() == 46 {
        1.0 / (model.d_model as f64 / model.heads as f64).sqrt()
    } else {
        expected
    };
    if a.factors != Factors::Keys && (at.scale - expected).abs() > 1e-6 * expected {
        m.differs.push(format!("it multiplies scores with {expected}, the model with {}", at.scale));
    }
    if a.rotation != Rotation::Table {
        let turns = a.bare == 0 || !(i + 1).is_multiple_of(a.bare);
        match at.rope {
            None if !turns => {}
            Some(_) if !turns => m.differs.push("it does not rotate every layer, the model does".into()),
            None => m.differs.push("it rotates layers that the model does not".into()),
            Some(r) if a.rotation == Rotation::Neighbours => {
                let turned = model.ropes.get(r).map_or(0, |r| 2 * r.inv_freq.len());
                if turned != model.head_dim {
                    m.differs.push("it rotates whole heads, the model a part of them".into());
                }
            }
            Some(_) => {}
        }
    }
    let window = at.window.filter(|w| *w < model.context);
    match a.windows {
        Windows::AllBut(n) => {
            let slides = !(i + 1).is_multiple_of(n);
            let differs =
                if slides { window.is_none() || at.window != model.layers[0].attn.window } else { window.is_some() };
            // A window as long as the context is none.
            if differs && model.layers.iter().any(|l| l.attn.window.is_some_and(|w| w < model.context)) {
                m.differs.push("other layers see only a window".into());
            }
        }
        // The file is for shorter texts then, see `keys`.
        Windows::None => {}
    }
}
