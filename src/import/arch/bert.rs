//! Encoders: `bert` (also MiniLM and TinyBERT), `roberta`, `distilbert`. Norms come after the sum of branch and residual.

use crate::error::{Error, Result};
use crate::import::build::{attention, block, lin, plain_mlp, Builder, Draft, NormStyle};
use crate::import::checkpoint::Checkpoint;
use crate::import::config::Config;
use crate::import::dims::{Dims, Keys};
use crate::import::head::Head;
use crate::model::{Activation, HeadTransform, Kind, Layer, Model, Positions};

/// Names of a family; the order of the projections is q, k, v, o, up, down.
struct Family {
    keys: Keys,
    layer: &'static str,
    projections: [&'static str; 6],
    norms: [&'static str; 2],
    activation: (&'static str, Activation),
    /// Segments, if the key is absent.
    segments: usize,
    head: Head<'static>,
    /// Matrix and norm before the head.
    transform: [&'static str; 2],
}

const CONTEXT: (&str, Option<usize>) = ("max_position_embeddings", Some(512));
const WORDS: &str = "embeddings.word_embeddings";
const BERT: Family = Family {
    keys: Keys { context: CONTEXT, ..Keys::USUAL },
    layer: "encoder.layer",
    projections: [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ],
    norms: ["attention.output.LayerNorm", "output.LayerNorm"],
    activation: ("hidden_act", Activation::Gelu),
    segments: 2,
    head: Head {
        module: "cls.predictions.decoder",
        embedding: WORDS,
        tied: true,
        bias: &["cls.predictions.bias", "cls.predictions.decoder.bias"],
        bias_needed: true,
    },
    transform: ["cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"],
};
const ROBERTA: Family = Family {
    head: Head {
        module: "lm_head.decoder",
        embedding: WORDS,
        tied: true,
        bias: &["lm_head.bias", "lm_head.decoder.bias"],
        bias_needed: true,
    },
    transform: ["lm_head.dense", "lm_head.layer_norm"],
    ..BERT
};
const DISTILBERT: Family = Family {
    keys: Keys {
        d_model: ("dim", None),
        ffn: ("hidden_dim", None),
        layers: ("n_layers", None),
        heads: ("n_heads", None),
        context: CONTEXT,
        ..Keys::USUAL
    },
    layer: "transformer.layer",
    projections: ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2"],
    norms: ["sa_layer_norm", "output_layer_norm"],
    activation: ("activation", Activation::Gelu),
    segments: 0,
    head: Head {
        module: "vocab_projector",
        embedding: WORDS,
        tied: true,
        bias: &["vocab_projector.bias"],
        bias_needed: true,
    },
    transform: ["vocab_transform", "vocab_layer_norm"],
};

pub fn bert(c: Checkpoint) -> Result<Model> {
    read(c, &BERT, 0)
}

/// Positions are counted from behind the padding token's.
pub fn roberta(c: Checkpoint) -> Result<Model> {
    let pad = c.config.usize("pad_token_id", 0..=1 << 16)?.unwrap_or(1);
    read(c, &ROBERTA, pad + 1)
}

pub fn distilbert(c: Checkpoint) -> Result<Model> {
    read(c, &DISTILBERT, 0)
}

fn plain_only(cfg: &Config) -> Result<()> {
    let positions = cfg.str("position_embedding_type").unwrap_or("absolute");
    let what = if positions != "absolute" {
        format!("position_embedding_type `{positions}` is not supported, only absolute is")
    } else if cfg.bool("is_decoder")? == Some(true) {
        "`is_decoder` is true; this family is read as encoders only".to_string()
    } else {
        return Ok(());
    };
    Err(Error::unsupported(what).at_file(&cfg.path))
}

fn read(c: Checkpoint, f: &Family, offset: usize) -> Result<Model> {
    plain_only(&c.config)?;
    let mut b = Builder::new(c, false)?;
    let cfg = b.cfg();
    let mut d = Dims::read(cfg, &f.keys)?.full_heads(cfg)?;
    let norm = NormStyle::layer(cfg.eps("layer_norm_eps", 1e-12)?);
    let activation = cfg.activation(f.activation.0, f.activation.1)?;
    let segments = match f.segments {
        0 => 0,
        n => cfg.usize("type_vocab_size", 0..=1 << 16)?.unwrap_or(n),
    };
    let rows = d.context;
    if rows <= offset {
        return Err(cfg.error(format!("{rows} positions, but the first {offset} are never used")));
    }
    d.context -= offset;
    let n = d.d_model;
    let embedding = b.embedding(WORDS, &d)?;
    let table = b.table("embeddings.position_embeddings", rows, n)?;
    let token_types = match segments {
        0 => None,
        s => Some(b.table("embeddings.token_type_embeddings", s, n)?),
    };
    let embedding_norm = Some(b.norm(norm, "embeddings.LayerNorm", n)?);
    let mut layers = Vec::new();
    for i in 0..d.layers {
        let p = format!("{}.{i}", f.layer);
        let mut linear = |at: usize, name: &str, rows, cols| {
            b.linear(lin(format!("layers.{i}.{name}"), format!("{p}.{}", f.projections[at]), rows, cols).bias(true))
        };
        let (q, k) = (linear(0, "attn.q", d.q(), n)?, linear(1, "attn.k", d.q(), n)?);
        let (v, o) = (linear(2, "attn.v", d.q(), n)?, linear(3, "attn.o", n, d.q())?);
        let (up, down) = (linear(4, "ffn.up", d.ffn, n)?, linear(5, "ffn.down", n, d.ffn)?);
        layers.push(Layer {
            after_attn: Some(b.norm(norm, &format!("{p}.{}", f.norms[0]), n)?),
            after_ffn: Some(b.norm(norm, &format!("{p}.{}", f.norms[1]), n)?),
            ..block(attention(q, k, v, o, d.scale()), plain_mlp(up, down, activation))
        });
    }
    let pooler = match b.has("pooler.dense.weight") {
        true => Some(b.linear(lin("pooler", "pooler.dense", n, n).bias(true))?),
        false => None,
    };
    let mut draft = Draft { kind: Kind::Encoder, token_types, embedding_norm, pooler, ..Draft::new(embedding, layers) };
    draft.positions = Some(Positions { table, offset });
    let said = b.cfg().class().is_some_and(|c| c.ends_with("ForMaskedLM") || c.ends_with("ForPreTraining"));
    if b.c.is_base_model() {
        b.leave_out(&["cls.", "lm_head.", "vocab_"], "the class has no head, so the one in the file is left out");
    } else if said || b.has(&format!("{}.weight", f.transform[0])) {
        let dense = b.linear(lin("head.transform", f.transform[0], n, n).bias(true))?;
        let norm = b.norm(norm, f.transform[1], n)?;
        draft.head_transform = Some(HeadTransform { dense, activation, norm });
        draft.head = b.head(&f.head, &draft.embedding, &d)?;
    }
    b.leave_out(&["cls.seq_relationship."], "the head for pairs of sentences is left out");
    b.leave_out(&["fit_dense.", "fit_denses."], "what was used for distillation only is left out");
    b.finish(&d, draft)
}
