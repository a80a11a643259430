//! `whisper`: an encoder over mel frames and a decoder that attends to it. Norms before the branches, biases but for keys.

use crate::error::{Error, Result};
use crate::import::build::{attention, block, lin, plain_mlp, Builder, Draft, NormStyle};
use crate::import::checkpoint::Checkpoint;
use crate::import::dims::{Dims, Keys};
use crate::import::head::Head;
use crate::limits::{MAX_LAYERS, MAX_VECTOR};
use crate::model::{Activation, Attention, Audio, CrossAttention, Layer, Linear, Model, Positions};

const KEYS: Keys = Keys {
    d_model: ("d_model", None),
    ffn: ("decoder_ffn_dim", None),
    layers: ("decoder_layers", None),
    heads: ("decoder_attention_heads", None),
    context: ("max_target_positions", Some(448)),
    ..Keys::USUAL
};
const HEAD: Head = Head {
    module: "proj_out",
    embedding: "model.decoder.embed_tokens",
    tied: true,
    bias: &["proj_out.bias"],
    bias_needed: false,
};
const EPS: f64 = 1e-5;

/// One side of the model.
struct Side {
    /// In the file.
    prefix: &'static str,
    /// In the model.
    name: &'static str,
    ffn: usize,
    activation: Activation,
    norm: NormStyle,
}

pub fn read(c: Checkpoint) -> Result<Model> {
    let mut b = Builder::new(c, false)?;
    let cfg = b.cfg();
    let d = Dims::read(cfg, &KEYS)?.full_heads(cfg)?;
    let heads = cfg.need("encoder_attention_heads", 1..=MAX_VECTOR)?;
    if heads != d.heads {
        let what = format!("{heads} heads in the encoder and {} in the decoder; they must be equal", d.heads);
        return Err(Error::unsupported(what).at_file(&cfg.path));
    }
    let mels = cfg.usize("num_mel_bins", 1..=4096)?.unwrap_or(80);
    let states = cfg.usize("max_source_positions", 1..=1 << 20)?.unwrap_or(1500);
    let depth = cfg.need("encoder_layers", 1..=MAX_LAYERS)?;
    let activation = cfg.activation("activation_function", Activation::Gelu)?;
    let norm = NormStyle::layer(EPS);
    let ffn = cfg.need("encoder_ffn_dim", 1..=MAX_VECTOR)?;
    let ears = Side { prefix: "model.encoder", name: "audio.", ffn, activation, norm };
    let mouth = Side { prefix: "model.decoder", name: "", ffn: d.ffn, activation, norm };
    let n = d.d_model;

    let mut conv = |which: usize, from: usize| -> Result<_> {
        let weight = b.float(&format!("model.encoder.conv{which}.weight"), &[n, from, 3])?;
        Ok((weight, b.float(&format!("model.encoder.conv{which}.bias"), &[n])?))
    };
    let conv = [conv(1, mels)?, conv(2, n)?];
    let audio = Audio {
        mels,
        frames: 2 * states,
        conv,
        positions: b.table("model.encoder.embed_positions", states, n)?,
        layers: (0..depth).map(|i| ears.layer(&mut b, &d, i)).collect::<Result<_>>()?,
        final_norm: b.norm(norm, "model.encoder.layer_norm", n)?,
    };
    let embedding = b.embedding("model.decoder.embed_tokens", &d)?;
    let mut layers = Vec::new();
    for i in 0..d.layers {
        let mut layer = mouth.layer(&mut b, &d, i)?;
        let (q, k, v, o) = mouth.projections(&mut b, &d, i, "encoder_attn", "cross")?;
        let norm = b.norm(norm, &format!("model.decoder.layers.{i}.encoder_attn_layer_norm"), n)?;
        layer.cross = Some(CrossAttention { norm, q, k, v, o, scale: d.scale() });
        layers.push(layer);
    }
    let table = b.table("model.decoder.embed_positions", d.context, n)?;
    let final_norm = Some(b.norm(norm, "model.decoder.layer_norm", n)?);
    let head = b.head(&HEAD, &embedding, &d)?;
    let mut draft = Draft { final_norm, head, audio: Some(audio), ..Draft::new(embedding, layers) };
    draft.positions = Some(Positions { table, offset: 0 });
    b.finish(&d, draft)
}

impl Side {
    fn projections(
        &self,
        b: &mut Builder,
        d: &Dims,
        i: usize,
        module: &str,
        name: &str,
    ) -> Result<(Linear, Linear, Linear, Linear)> {
        let mut linear = |which: &str, to: &str, bias: bool| {
            let (name, module) = (
                format!("{}layers.{i}.{name}.{to}", self.name),
                format!("{}.layers.{i}.{module}.{which}", self.prefix),
            );
            b.linear(lin(name, module, d.d_model, d.d_model).bias(bias))
        };
        let (q, k) = (linear("q_proj", "q", true)?, linear("k_proj", "k", false)?);
        Ok((q, k, linear("v_proj", "v", true)?, linear("out_proj", "o", true)?))
    }

    fn layer(&self, b: &mut Builder, d: &Dims, i: usize) -> Result<Layer> {
        let p = format!("{}.layers.{i}", self.prefix);
        let (q, k, v, o) = self.projections(b, d, i, "self_attn", "attn")?;
        let attn: Attention = attention(q, k, v, o, d.scale());
        let name = |n: &str| format!("{}layers.{i}.ffn.{n}", self.name);
        let up = b.linear(lin(name("up"), format!("{p}.fc1"), self.ffn, d.d_model).bias(true))?;
        let down = b.linear(lin(name("down"), format!("{p}.fc2"), d.d_model, self.ffn).bias(true))?;
        Ok(Layer {
            attn_norm: Some(b.norm(self.norm, &format!("{p}.self_attn_layer_norm"), d.d_model)?),
            ffn_norm: Some(b.norm(self.norm, &format!("{p}.final_layer_norm"), d.d_model)?),
            ..block(attn, plain_mlp(up, down, self.activation))
        })
    }
}
