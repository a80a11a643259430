//! Whether a model is the network that an architecture computes.
//!
//! The choice goes by what a model computes, not by what it is called: a checkpoint is written under a name only if the program that reads
//! the file then computes the same network.

use super::arch::{Arch, Branches, Factors, Has, Head, QkNorm, Rotation, Softcaps, Windows, ARCHS};
use crate::error::{Error, Result};
use crate::model::{frequencies, Attention, Beyond, Layer, Model, Norm};
use std::collections::BTreeSet;

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
    if model.logits_softcap.is_some() && a.softcaps == Softcaps::None {
        m.differs.push("it does not limit logits, the model does".into());
    }
    if model.ropes.len() > 1 && !local_base(a, model) {
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

/// Whether the layers that see only a window turn by a base of their own, and by nothing else.
fn local_base(a: &Arch, model: &Model) -> bool {
    let (Windows::AllBut(n), [_, local]) = (a.windows, &model.ropes[..]) else { return false };
    let turns = |(i, l): (usize, &Layer)| l.attn.rope == Some(usize::from(!(i + 1).is_multiple_of(n)));
    let plain = local.factor == 1.0 && local.beyond == Beyond::Same;
    a.local_base
        && plain
        && local.inv_freq == frequencies(local.theta, local.inv_freq.len())
        && model.layers.iter().enumerate().all(turns)
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
    let second = match a.branches {
        Branches::After | Branches::Key => a.pre,
        Branches::Beside => false,
        Branches::BesideEach => l.ffn_norm.is_some(),
        Branches::Norms => !l.parallel,
    };
    for (there, expected, what) in [
        (l.attn_norm.is_some(), a.pre, "a norm before the attention"),
        (l.ffn_norm.is_some(), second, "a norm before the feed-forward part"),
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
        Branches::Beside | Branches::BesideEach => l.parallel,
        Branches::Norms => true,
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
        (Some(q), Some(k)) if q.len == model.head_dim && k.len == q.len && !at.norm_after_rope => QkNorm::Own,
        _ => {
            m.unplaced.push("norms on queries and keys of this kind".into());
            a.qk
        }
    };
    if qk != a.qk && (a.qk, qk) != (QkNorm::Own, QkNorm::None) {
        m.unplaced.push(format!("norms on queries and keys: {:?} there, {qk:?} in the model", a.qk));
    }
    if at.softcap.is_some() && a.softcaps != Softcaps::Both {
        m.differs.push("it does not limit scores, the model does".into());
    }
    let expected = 1.0 / (model.head_dim as f64).sqrt();
    // The largest of gemma2 and gemma3 are told by their layers.
    let expected = if [("gemma2", 46), ("gemma3", 62)].contains(&(a.name, model.layers.len())) {
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
