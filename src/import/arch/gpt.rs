//! `gpt2`, `gpt_neo` (TinyStories): learned positions, LayerNorm. `gpt_neox` (Pythia): rotary, the branches beside each other.

use super::block::named;
use super::llama::MAX_CONTEXT;
use super::rope::Ask;
use crate::error::Result;
use crate::import::build::{attention, block, plain_mlp, Builder, Draft, NormStyle};
use crate::import::checkpoint::Checkpoint;
use crate::import::config::Config;
use crate::import::dims::{Dims, Keys};
use crate::import::head::Head;
use crate::model::{Activation, Layer, Model, Positions, RowOrder};
use serde_json::Value;

const HEAD: Head = Head { embedding: "transformer.wte", tied: true, ..Head::USUAL };

const GPT2: Keys = Keys {
    d_model: ("n_embd", None),
    ffn: ("n_inner", None),
    ffn_times_four: true,
    layers: ("n_layer", None),
    heads: ("n_head", None),
    context: ("n_positions", Some(1024)),
    ..Keys::USUAL
};

/// Weights are stored `[in, out]`; q, k and v lie beside each other.
pub fn gpt2(c: Checkpoint) -> Result<Model> {
    let mut b = Builder::new(c, false)?;
    let cfg = b.cfg();
    let d = Dims::read(cfg, &GPT2)?.full_heads(cfg)?;
    let norm = NormStyle::layer(cfg.eps("layer_norm_epsilon", 1e-5)?);
    let activation = cfg.activation("activation_function", Activation::GeluTanh)?;
    let scaled = cfg.bool("scale_attn_weights")?.unwrap_or(true);
    let by_depth = cfg.bool("scale_attn_by_inverse_layer_idx")?.unwrap_or(false);
    // GGUF files hold these matrices the other way round.
    let conv1d = cfg.bool("bitnet_convert.conv1d")?.unwrap_or(true);
    let n = d.d_model;
    let mut layers = Vec::new();
    for i in 0..d.layers {
        let p = format!("transformer.h.{i}");
        let mut linear = |module: &str, name: &str, rows, cols, part: Option<(usize, usize)>| {
            let l = named(i, &p, module, name, rows, cols).bias(true);
            let l = if conv1d { l.transposed() } else { l };
            b.linear(match part {
                Some((at, of)) => l.part(RowOrder::range(at, rows), of),
                None => l,
            })
        };
        let q = linear("attn.c_attn", "attn.q", n, n, Some((0, 3 * n)))?;
        let k = linear("attn.c_attn", "attn.k", n, n, Some((n, 3 * n)))?;
        let v = linear("attn.c_attn", "attn.v", n, n, Some((2 * n, 3 * n)))?;
        let o = linear("attn.c_proj", "attn.o", n, n, None)?;
        let up = linear("mlp.c_fc", "ffn.up", d.ffn, n, None)?;
        let down = linear("mlp.c_proj", "ffn.down", n, d.ffn, None)?;
        let depth = if by_depth { (i + 1) as f64 } else { 1.0 };
        let scale = if scaled { d.scale() } else { 1.0 } / depth;
        layers.push(Layer {
            attn_norm: Some(b.norm(norm, &format!("{p}.ln_1"), n)?),
            ffn_norm: Some(b.norm(norm, &format!("{p}.ln_2"), n)?),
            ..block(attention(q, k, v, o, scale), plain_mlp(up, down, activation))
        });
    }
    finish(b, &d, norm, layers)
}

const NEO: Keys =
    Keys { ffn_times_four: true, layers: ("num_layers", None), heads: ("num_heads", None), ..Keys::USUAL };

/// Scores are not scaled; every other layer sees only a window.
pub fn gpt_neo(c: Checkpoint) -> Result<Model> {
    let mut b = Builder::new(c, false)?;
    let cfg = b.cfg();
    let d = Dims::read(cfg, &NEO)?.full_heads(cfg)?;
    let norm = NormStyle::layer(cfg.eps("layer_norm_epsilon", 1e-5)?);
    let activation = cfg.activation("activation_function", Activation::GeluTanh)?;
    let window = cfg.usize("window_size", 1..=MAX_CONTEXT)?.unwrap_or(256);
    let local = local_layers(cfg, d.layers)?;
    let n = d.d_model;
    let mut layers = Vec::new();
    for (i, local) in local.into_iter().enumerate() {
        let p = format!("transformer.h.{i}");
        let mut linear = |module: &str, name: &str, rows, cols, bias: bool| {
            b.linear(named(i, &p, module, name, rows, cols).bias(bias))
        };
        let q = linear("attn.attention.q_proj", "attn.q", n, n, false)?;
        let k = linear("attn.attention.k_proj", "attn.k", n, n, false)?;
        let v = linear("attn.attention.v_proj", "attn.v", n, n, false)?;
        let o = linear("attn.attention.out_proj", "attn.o", n, n, true)?;
        let up = linear("mlp.c_fc", "ffn.up", d.ffn, n, true)?;
        let down = linear("mlp.c_proj", "ffn.down", n, d.ffn, true)?;
        let mut attn = attention(q, k, v, o, 1.0);
        attn.window = local.then_some(window);
        layers.push(Layer {
            attn_norm: Some(b.norm(norm, &format!("{p}.ln_1"), n)?),
            ffn_norm: Some(b.norm(norm, &format!("{p}.ln_2"), n)?),
            ..block(attn, plain_mlp(up, down, activation))
        });
    }
    finish(b, &d, norm, layers)
}

/// `attention_layers`, or `attention_types`: groups of kinds, each with how often it is repeated.
fn local_layers(cfg: &Config, layers: usize) -> Result<Vec<bool>> {
    let mut kinds: Vec<&str> = cfg.strings("attention_layers")?.unwrap_or_default();
    if kinds.is_empty() {
        let groups = cfg.get("attention_types").and_then(Value::as_array);
        for group in groups.into_iter().flatten() {
            let names = group.get(0).and_then(Value::as_array).map(|n| n.iter().filter_map(Value::as_str));
            let times = group.get(1).and_then(Value::as_u64).unwrap_or(0).min(layers as u64) as usize;
            let names: Vec<&str> = names.into_iter().flatten().collect();
            kinds.extend(names.iter().cycle().take(names.len().saturating_mul(times).min(layers)));
        }
    }
    if kinds.len() != layers || kinds.iter().any(|k| !["global", "local"].contains(k)) {
        let what = "the kinds of attention (`attention_types`) do not say `global` or `local` for each layer";
        return Err(cfg.error(what));
    }
    Ok(kinds.into_iter().map(|k| k == "local").collect())
}

fn finish(mut b: Builder, d: &Dims, norm: NormStyle, layers: Vec<Layer>) -> Result<Model> {
    let embedding = b.embedding("transformer.wte", d)?;
    let table = b.table("transformer.wpe", d.context, d.d_model)?;
    let final_norm = Some(b.norm(norm, "transformer.ln_f", d.d_model)?);
    let head = b.head(&HEAD, &embedding, d)?;
    let positions = Some(Positions { table, offset: 0 });
    let draft = Draft { positions, final_norm, head, ..Draft::new(embedding, layers) };
    b.finish(d, draft)
}

pub fn gpt_neox(c: Checkpoint) -> Result<Model> {
    let mut b = Builder::new(c, false)?;
    let cfg = b.cfg();
    let d = Dims::read(cfg, &Keys::USUAL)?.full_heads(cfg)?;
    let norm = NormStyle::layer(cfg.eps("layer_norm_eps", 1e-5)?);
    let activation = cfg.activation("hidden_act", Activation::Gelu)?;
    let parallel = cfg.bool("use_parallel_residual")?.unwrap_or(true);
    let bias = cfg.bool("attention_bias")?.unwrap_or(true);
    let ropes = vec![Ask::new(&d).theta("rotary_emb_base", 1e4).partial("rotary_pct", 0.25).read(cfg)?];
    let (n, hd) = (d.d_model, d.head_dim);
    let embedding = b.embedding("gpt_neox.embed_in", &d)?;
    let mut layers = Vec::new();
    for i in 0..d.layers {
        let p = format!("gpt_neox.layers.{i}");
        let mut part = |which: usize, name: &str| {
            let order = RowOrder::Strided { block: hd, of: 3 * hd, offset: which * hd };
            b.linear(named(i, &p, "attention.query_key_value", name, d.q(), n).part(order, 3 * d.q()).bias(bias))
        };
        let (q, k, v) = (part(0, "attn.q")?, part(1, "attn.k")?, part(2, "attn.v")?);
        let o = b.linear(named(i, &p, "attention.dense", "attn.o", n, d.q()).bias(bias))?;
        let up = b.linear(named(i, &p, "mlp.dense_h_to_4h", "ffn.up", d.ffn, n).bias(true))?;
        let down = b.linear(named(i, &p, "mlp.dense_4h_to_h", "ffn.down", n, d.ffn).bias(true))?;
        let mut attn = attention(q, k, v, o, d.scale());
        attn.rope = Some(0);
        layers.push(Layer {
            attn_norm: Some(b.norm(norm, &format!("{p}.input_layernorm"), n)?),
            ffn_norm: Some(b.norm(norm, &format!("{p}.post_attention_layernorm"), n)?),
            parallel,
            ..block(attn, plain_mlp(up, down, activation))
        });
    }
    let final_norm = Some(b.norm(norm, "gpt_neox.final_layer_norm", n)?);
    let head = Head { module: "embed_out", embedding: "gpt_neox.embed_in", bias: &["embed_out.bias"], ..Head::USUAL };
    let head = b.head(&head, &embedding, &d)?;
    let draft = Draft { ropes, final_norm, head, ..Draft::new(embedding, layers) };
    b.finish(&d, draft)
}
