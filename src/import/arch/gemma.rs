//! `gemma`, `gemma2`, `gemma3_text`: gains 1 + w, a scaled embedding, tanh GELU. The later ones have norms on both sides of each branch
//! and layers that slide; `gemma3` has norms on the heads of q and k and another rope in the sliding layers.

use super::block::{sliding, Block, Place, QkNorm};
use super::llama::MAX_CONTEXT;
use super::rope::Ask;
use crate::error::{Error, Result};
use crate::import::build::{Builder, NormStyle};
use crate::import::checkpoint::Checkpoint;
use crate::import::config::Config;
use crate::import::dims::{Dims, Keys};
use crate::import::head::Head;
use crate::model::{Activation, Model};

const KEYS: Keys = Keys { head_dim: ("head_dim", Some(256)), ..Keys::USUAL };
/// Released files of gemma 3 leave out what is the default of the class.
const KEYS_3: Keys = Keys {
    vocab: ("vocab_size", Some(262_208)),
    heads: ("num_attention_heads", Some(8)),
    kv_heads: ("num_key_value_heads", Some(4)),
    context: ("max_position_embeddings", Some(131_072)),
    ..KEYS
};
const HEAD: Head = Head { tied: true, ..Head::USUAL };

pub fn gemma(c: Checkpoint) -> Result<Model> {
    let mut b = Builder::new(c, false)?;
    let d = Dims::read(b.cfg(), &KEYS)?;
    let ropes = vec![Ask::new(&d).read(b.cfg())?];
    let mut draft = base(&b, &d)?.draft(&mut b, &d, ropes, &HEAD, |_| Place::FULL)?;
    draft.embedding_scale = embedding_scale(&d);
    b.finish(&d, draft)
}

pub fn gemma2(c: Checkpoint) -> Result<Model> {
    let mut b = Builder::new(c, false)?;
    let d = Dims::read(b.cfg(), &KEYS)?;
    let ropes = vec![Ask::new(&d).read(b.cfg())?];
    let block = Block { softcap: softcap(b.cfg(), "attn_logit_softcapping", Some(50.0))?, ..both_sides(&b, &d)? };
    let window = b.cfg().usize("sliding_window", 1..=MAX_CONTEXT)?.or(Some(4096));
    let slides = sliding(&b, &d, |i| i % 2 == 0)?;
    let mut draft = block.draft(&mut b, &d, ropes, &HEAD, |i| Place::window(window.filter(|_| slides[i])))?;
    draft.embedding_scale = embedding_scale(&d);
    draft.logits_softcap = softcap(b.cfg(), "final_logit_softcapping", Some(30.0))?;
    b.finish(&d, draft)
}

pub fn gemma3(c: Checkpoint) -> Result<Model> {
    let mut b = Builder::new(c, false)?;
    let cfg = b.cfg();
    if cfg.bool("use_bidirectional_attention")? == Some(true) {
        let what = "`use_bidirectional_attention` is true; gemma 3 is read as a decoder only";
        return Err(Error::unsupported(what).at_file(&cfg.path));
    }
    let d = Dims::read(cfg, &KEYS_3)?;
    let full = Ask::new(&d).theta("rope_theta", 1e6).layer_type("full_attention");
    let local = Ask::new(&d).theta("rope_local_base_freq", 1e4).layer_type("sliding_attention").unscaled();
    let ropes = vec![full.read(cfg)?, local.read(cfg)?];
    let pattern = match cfg.usize("sliding_window_pattern", 1..=MAX_CONTEXT)? {
        Some(p) => p,
        None => cfg.usize("_sliding_window_pattern", 1..=MAX_CONTEXT)?.unwrap_or(6),
    };
    let window = cfg.usize("sliding_window", 1..=MAX_CONTEXT)?.or(Some(4096));
    let slides = sliding(&b, &d, |i| (i + 1) % pattern != 0)?;
    let two = both_sides(&b, &d)?;
    let qk_norm = QkNorm::Shared { names: ["q_norm", "k_norm"], style: two.norm, whole: false };
    let block = Block { qk_norm, softcap: softcap(b.cfg(), "attn_logit_softcapping", None)?, ..two };
    let place = |i: usize| match slides[i] {
        true => Place { rope: Some(1), window },
        false => Place::FULL,
    };
    if b.cfg().get("text_config").is_some() {
        const EYES: [&str; 4] =
            ["vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."];
        b.leave_out(&EYES, "what reads images is left out, the model takes text only");
    }
    let mut draft = block.draft(&mut b, &d, ropes, &HEAD, place)?;
    draft.embedding_scale = embedding_scale(&d);
    draft.logits_softcap = softcap(b.cfg(), "final_logit_softcapping", None)?;
    b.finish(&d, draft)
}

/// The block of the first gemma.
fn base(b: &Builder, d: &Dims) -> Result<Block> {
    let cfg = b.cfg();
    // Files that were converted may have the 1 in their gains already; the conversion says so.
    let plus_one = cfg.bool("bitnet_convert.norm_plus_one")?.unwrap_or(true);
    // `hidden_act` says "gelu" in early files, but tanh was meant.
    let activation = cfg.activation("hidden_activation", Activation::GeluTanh)?;
    let norm = NormStyle { plus_one, ..NormStyle::rms(cfg.eps("rms_norm_eps", 1e-6)?) };
    let bias = cfg.bool("attention_bias")?;
    Ok(Block { norm, activation, qkv_bias: bias, o_bias: bias, ..Block::plain(d, norm, activation) })
}

/// Norms before and after each branch, and scores that are scaled by a size of their own.
fn both_sides(b: &Builder, d: &Dims) -> Result<Block> {
    let scale = 1.0 / libm::sqrt(b.cfg().factor("query_pre_attn_scalar", 256.0)?);
    Ok(Block {
        attn_post_norm: Some("post_attention_layernorm"),
        ffn_norm: Some("pre_feedforward_layernorm"),
        ffn_post_norm: Some("post_feedforward_layernorm"),
        scale,
        ..base(b, d)?
    })
}

fn embedding_scale(d: &Dims) -> f64 {
    f64::from(libm::sqrt(d.d_model as f64) as f32)
}

/// Null switches it off, silence means the default.
fn softcap(cfg: &Config, key: &str, default: Option<f64>) -> Result<Option<f64>> {
    match cfg.get(key) {
        Some(_) => cfg.factor(key, 1.0).map(Some),
        None if cfg.is_null(key) => Ok(None),
        None => Ok(default),
    }
}
