//! The keys of a header: sizes, norms, positions, factors.

use super::arch::{Arch, Branches, Factors, Rotation, Softcaps, Windows};
use crate::error::{Error, Result};
use crate::format::gguf::Keys;
use crate::model::{frequencies, Beyond, Model, NormKind, Pool};

/// How heads are rotated.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Channels of a head that turn.
    dims: usize,
    theta: f64,
    pub scaling: Scaling,
}

/// What frequencies are divided by.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    None,
    Linear(f64),
    /// One factor a pair.
    Factors(Vec<f32>),
    /// Others for long texts than for short ones, and a factor on cosines and sines.
    Long {
        long: Vec<f32>,
        short: Vec<f32>,
        original: usize,
        strength: f64,
    },
}

impl Turn {
    /// None for architectures with a table of positions.
    ///
    /// # Errors
    /// `Unsupported` for frequencies that the architecture has no keys for.
    pub fn of(arch: &Arch, model: &Model, warnings: &mut Vec<String>) -> Result<Option<Turn>> {
        let Some(rope) = model.ropes.first().filter(|_| arch.rotation != Rotation::Table) else { return Ok(None) };
        let pairs = rope.inv_freq.len();
        let base = frequencies(rope.theta, pairs);
        let divisors = |freq: &[f64]| -> Vec<f64> { base.iter().zip(freq).map(|(b, f)| b / f).collect() };
        let narrow = |f: &[f64]| -> Vec<f32> { f.iter().map(|f| *f as f32).collect() };
        let factors = divisors(&rope.inv_freq);
        let refused = |what: &str| {
            let e = Error::unsupported(format!("the architecture `{}` has no keys for {what}", arch.name));
            e.hint("`--format packed` takes the model as it is")
        };
        if factors.iter().any(|f| !f.is_finite() || *f <= 0.0) {
            return Err(refused("channels that stand still"));
        }
        let scaling = match &rope.beyond {
            Beyond::Long { from, inv_freq } if arch.name == "phi3" => {
                warnings.push(format!(
                    "llama.cpp takes the factors for long texts as soon as the context has room for more than {from} tokens, the model when a \
                     text is as long"
                ));
                let (long, short) = (narrow(&divisors(inv_freq)), narrow(&factors));
                Scaling::Long { long, short, original: *from, strength: rope.factor }
            }
            Beyond::Long { .. } => return Err(refused("frequencies that change with the length of the text")),
            _ if rope.factor != 1.0 => return Err(refused("a factor on the scores (yarn)")),
            beyond => {
                if let Beyond::Dynamic { from, .. } = beyond {
                    warnings.push(format!(
                        "beyond {from} tokens the model's rotation changes with the length of the text, that of llama.cpp does not"
                    ));
                }
                let first = factors.first().copied().unwrap_or(1.0);
                match factors.iter().all(|f| (f - first).abs() <= 1e-9 * first) {
                    true if (first - 1.0).abs() <= 1e-9 => Scaling::None,
                    true => Scaling::Linear(first),
                    false if arch.rope_freqs => Scaling::Factors(narrow(&factors)),
                    false => return Err(refused("a factor for each frequency")),
                }
            }
        };
        Ok(Some(Turn { dims: 2 * pairs, theta: rope.theta, scaling }))
    }
}

/// Everything below `general.` and the architecture's name.
pub fn keys(arch: &Arch, model: &Model, turn: Option<&Turn>, file_type: u32, warnings: &mut Vec<String>) -> Keys {
    let mut k = Keys::default();
    k.set_text("general.architecture", arch.name);
    k.set_text("general.type", "model");
    k.set_text("general.name", &model.name);
    k.set("general.file_type", file_type);
    k.set("general.quantization_version", 2u32);
    let key = |name: &str| format!("{}.{name}", arch.name);
    let context = context(arch, model, warnings);
    let ffn = model.layers.first().map_or(0, |l| l.mlp.down.weight.cols);
    for (name, n) in [
        ("vocab_size", model.vocab),
        ("context_length", context),
        ("embedding_length", model.d_model),
        ("block_count", model.layers.len()),
        ("feed_forward_length", ffn),
        ("attention.head_count", model.heads),
        ("attention.head_count_kv", model.kv_heads),
    ] {
        k.set(&key(name), n as u32);
    }
    if model.head_dim * model.heads != model.d_model {
        k.set(&key("attention.key_length"), model.head_dim as u32);
        k.set(&key("attention.value_length"), model.head_dim as u32);
    }
    let eps = model.final_norm.as_ref().map_or(0.0, |n| n.eps) as f32;
    match arch.norm {
        NormKind::Rms => k.set(&key("attention.layer_norm_rms_epsilon"), eps),
        NormKind::Layer => k.set(&key("attention.layer_norm_epsilon"), eps),
    }
    if let Some(turn) = turn {
        rotation(&key, turn, &mut k);
    }
    if let Windows::AllBut(_) = arch.windows {
        // A key that is not there has a default.
        let window = model.layers.iter().find_map(|l| l.attn.window);
        k.set(&key("attention.sliding_window"), window.unwrap_or(model.context) as u32);
    }
    if arch.branches == Branches::Key {
        k.set(&key("use_parallel_residual"), model.layers.first().is_some_and(|l| l.parallel));
    }
    // Keys that are not there have defaults of their own.
    if arch.softcaps == Softcaps::Both {
        let scores = model.layers.first().and_then(|l| l.attn.softcap);
        k.set(&key("attn_logit_softcapping"), scores.unwrap_or(0.0) as f32);
    }
    if arch.softcaps != Softcaps::None {
        k.set(&key("final_logit_softcapping"), model.logits_softcap.unwrap_or(0.0) as f32);
    }
    if let Some(local) = model.ropes.get(1).filter(|_| arch.local_base) {
        k.set(&key("rope.freq_base_swa"), local.theta as f32);
    }
    if arch.factors == Factors::Keys {
        let scale = model.layers.first().map_or(1.0, |l| l.attn.scale);
        k.set(&key("attention.scale"), scale as f32);
        k.set(&key("embedding_scale"), model.embedding_scale as f32);
        k.set(&key("residual_scale"), model.residual_scale as f32);
        k.set(&key("logit_scale"), (1.0 / model.logits_scale) as f32);
    }
    if let Some(p) = model.pooling {
        let number: u32 = match p.pool {
            Pool::Mean => 1,
            Pool::First => 2,
            Pool::Last => 3,
        };
        k.set(&key("pooling_type"), number);
    }
    k
}

fn rotation(key: &dyn Fn(&str) -> String, turn: &Turn, k: &mut Keys) {
    k.set(&key("rope.dimension_count"), turn.dims as u32);
    k.set(&key("rope.freq_base"), turn.theta as f32);
    match &turn.scaling {
        Scaling::Linear(factor) => {
            k.set_text(&key("rope.scaling.type"), "linear");
            k.set(&key("rope.scaling.factor"), *factor as f32);
        }
        Scaling::Long { original, strength, .. } => {
            k.set(&key("rope.scaling.original_context_length"), *original as u32);
            k.set(&key("rope.scaling.attn_factor"), *strength as f32);
        }
        Scaling::None | Scaling::Factors(_) => {}
    }
}

/// Texts as long as the file says: what no layer sees whole would come out otherwise.
fn context(arch: &Arch, model: &Model, warnings: &mut Vec<String>) -> usize {
    let longest = model.positions.as_ref().map_or(model.context, |p| p.table.rows);
    let window = model.layers.iter().filter_map(|l| l.attn.window).min().filter(|w| *w < longest);
    match (arch.windows, window) {
        (Windows::None, Some(w)) => {
            warnings.push(format!(
                "llama.cpp lets every layer of `{}` see the whole text, layers of the model see the last {w} tokens: the file is for texts of \
                 up to {w} tokens",
                arch.name
            ));
            w
        }
        _ => longest,
    }
}
