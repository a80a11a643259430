//! The block that most decoders share: norms, separate or fused projections, a gate. An architecture says in what its own differs.

use super::rope::Ask;
use crate::error::Result;
use crate::import::build::{attention, block, lin, Builder, Draft, Lin, NormStyle};
use crate::import::dims::Dims;
use crate::import::head::Head;
use crate::model::{Activation, Layer, Linear, Mlp, Model, Norm, Rope, RowOrder};

/// Norms on queries and keys.
#[derive(Debug, Clone, Copy)]
pub enum QkNorm {
    None,
    /// Names of one norm for each; over a head, or over all of them.
    Shared {
        names: [&'static str; 2],
        style: NormStyle,
        whole: bool,
    },
    /// `<name>.norms.H`, one for each head.
    PerHead {
        names: [&'static str; 2],
        style: NormStyle,
    },
}

/// A block with the names of llama.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    pub norm: NormStyle,
    pub attn_norm: Option<&'static str>,
    pub attn_post_norm: Option<&'static str>,
    pub ffn_norm: Option<&'static str>,
    pub ffn_post_norm: Option<&'static str>,
    /// Norms inside attention (before `o_proj`) and feed-forward part (before `down_proj`).
    pub sub_norms: Option<[&'static str; 2]>,
    /// Biases; None: if the file has them.
    pub qkv_bias: Option<bool>,
    pub o_bias: Option<bool>,
    pub mlp_bias: Option<bool>,
    pub qk_norm: QkNorm,
    pub norm_after_rope: bool,
    /// `qkv_proj` and `gate_up_proj`.
    pub fused: bool,
    pub parallel: bool,
    pub activation: Activation,
    pub scale: f64,
    pub softcap: Option<f64>,
}

/// In what layers of one network differ.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub rope: Option<usize>,
    pub window: Option<usize>,
}

impl Place {
    pub const FULL: Place = Place { rope: Some(0), window: None };

    pub fn window(window: Option<usize>) -> Place {
        Place { window, ..Place::FULL }
    }
}

impl Block {
    /// The block of llama, with the class's default of `rms_norm_eps`.
    ///
    /// # Errors
    /// `Unsupported` for a non-linearity that is not known, `Input` for values of another type.
    pub fn llama(b: &Builder, d: &Dims, eps: f64) -> Result<Block> {
        let cfg = b.cfg();
        let norm = NormStyle::rms(cfg.eps("rms_norm_eps", eps)?);
        let activation = cfg.activation("hidden_act", Activation::Silu)?;
        let bias = cfg.bool("attention_bias")?;
        let mlp_bias = cfg.bool("mlp_bias")?;
        Ok(Block { qkv_bias: bias, o_bias: bias, mlp_bias, ..Block::plain(d, norm, activation) })
    }

    /// The block of llama with a norm and a non-linearity.
    pub fn plain(d: &Dims, norm: NormStyle, activation: Activation) -> Block {
        Block {
            norm,
            attn_norm: Some("input_layernorm"),
            attn_post_norm: None,
            ffn_norm: Some("post_attention_layernorm"),
            ffn_post_norm: None,
            sub_norms: None,
            qkv_bias: None,
            o_bias: None,
            mlp_bias: None,
            qk_norm: QkNorm::None,
            norm_after_rope: false,
            fused: false,
            parallel: false,
            activation,
            scale: d.scale(),
            softcap: None,
        }
    }

    /// The whole network: embedding, blocks, norm and head under their usual names.
    ///
    /// # Errors
    /// As [`Builder::linear`] and [`Builder::head`].
    pub fn draft(
        &self,
        b: &mut Builder,
        d: &Dims,
        ropes: Vec<Rope>,
        head: &Head,
        place: impl Fn(usize) -> Place,
    ) -> Result<Draft> {
        let embedding = b.embedding("model.embed_tokens", d)?;
        let final_norm = b.norm(self.norm, "model.norm", d.d_model)?;
        let layers = (0..d.layers).map(|i| self.layer(b, d, i, place(i))).collect::<Result<_>>()?;
        let head = b.head(head, &embedding, d)?;
        Ok(Draft { ropes, final_norm: Some(final_norm), head, ..Draft::new(embedding, layers) })
    }

    /// As [`Block::draft`] for networks with one rope and layers that are all alike.
    ///
    /// # Errors
    /// As [`Block::draft`].
    pub fn model(&self, mut b: Builder, d: &Dims, rope: Ask, tied: bool, place: Place) -> Result<Model> {
        let ropes = vec![rope.read(b.cfg())?];
        let draft = self.draft(&mut b, d, ropes, &Head { tied, ..Head::USUAL }, |_| place)?;
        b.finish(d, draft)
    }

    fn layer(&self, b: &mut Builder, d: &Dims, i: usize, place: Place) -> Result<Layer> {
        let p = format!("model.layers.{i}");
        let mut norm = |name: Option<&str>| -> Result<Option<Norm>> {
            name.map(|n| b.norm(self.norm, &format!("{p}.{n}"), d.d_model)).transpose()
        };
        let attn_norm = norm(self.attn_norm)?;
        let attn_post_norm = norm(self.attn_post_norm)?;
        let ffn_norm = norm(self.ffn_norm)?;
        let ffn_post_norm = norm(self.ffn_post_norm)?;
        let [attn_sub, ffn_sub] = match self.sub_norms {
            Some([a, f]) => [
                Some(b.norm(self.norm, &format!("{p}.self_attn.{a}"), d.q())?),
                Some(b.norm(self.norm, &format!("{p}.mlp.{f}"), d.ffn)?),
            ],
            None => [None, None],
        };
        let [q_norm, k_norm] = self.qk_norms(b, d, &p)?;
        let (q, k, v) = self.qkv(b, d, i, &p)?;
        let o = b.linear(named(i, &p, "self_attn.o_proj", "attn.o", d.d_model, d.q()).bias(self.o_bias))?;
        let mut attn = attention(q, k, v, o, self.scale);
        (attn.q_norm, attn.k_norm, attn.norm_after_rope) = (q_norm, k_norm, self.norm_after_rope);
        (attn.rope, attn.window, attn.softcap, attn.sub_norm) = (place.rope, place.window, self.softcap, attn_sub);
        let (gate, up) = self.gate_up(b, d, i, &p)?;
        let down = b.linear(named(i, &p, "mlp.down_proj", "ffn.down", d.d_model, d.ffn).bias(self.mlp_bias))?;
        let mlp = Mlp { gate: Some(gate), up, down, activation: self.activation, sub_norm: ffn_sub };
        let parallel = self.parallel;
        Ok(Layer { attn_norm, attn_post_norm, ffn_norm, ffn_post_norm, parallel, ..block(attn, mlp) })
    }

    fn qkv(&self, b: &mut Builder, d: &Dims, i: usize, p: &str) -> Result<(Linear, Linear, Linear)> {
        let (q, kv) = (d.q(), d.kv());
        let mut part = |at: usize, which: &str, rows: usize| {
            let fused = format!("self_attn.{}", if self.fused { "qkv_proj".into() } else { format!("{which}_proj") });
            let l = named(i, p, &fused, &format!("attn.{which}"), rows, d.d_model).bias(self.qkv_bias);
            b.linear(if self.fused { l.part(RowOrder::range(at, rows), q + 2 * kv) } else { l })
        };
        Ok((part(0, "q", q)?, part(q, "k", kv)?, part(q + kv, "v", kv)?))
    }

    fn gate_up(&self, b: &mut Builder, d: &Dims, i: usize, p: &str) -> Result<(Linear, Linear)> {
        let mut part = |at: usize, which: &str| {
            let module = format!("mlp.{}", if self.fused { "gate_up_proj".into() } else { format!("{which}_proj") });
            let l = named(i, p, &module, &format!("ffn.{which}"), d.ffn, d.d_model).bias(self.mlp_bias);
            b.linear(if self.fused { l.part(RowOrder::range(at, d.ffn), 2 * d.ffn) } else { l })
        };
        Ok((part(0, "gate")?, part(d.ffn, "up")?))
    }

    fn qk_norms(&self, b: &mut Builder, d: &Dims, p: &str) -> Result<[Option<Norm>; 2]> {
        let of = [(0, d.q(), d.heads), (1, d.kv(), d.kv_heads)];
        let mut out = [None, None];
        for (which, width, heads) in of {
            out[which] = match self.qk_norm {
                QkNorm::None => None,
                QkNorm::Shared { names, style, whole } => {
                    let len = if whole { width } else { d.head_dim };
                    Some(b.norm(style, &format!("{p}.self_attn.{}", names[which]), len)?)
                }
                QkNorm::PerHead { names, style } => {
                    let mut heads = (0..heads)
                        .map(|h| b.norm(style, &format!("{p}.self_attn.{}.norms.{h}", names[which]), d.head_dim));
                    let mut all = heads.next().transpose()?;
                    for h in heads {
                        let gains = h?.weight;
                        all.iter_mut().for_each(|n| n.weight.extend(gains.iter().cloned()));
                    }
                    all
                }
            };
        }
        Ok(out)
    }
}

/// A projection of layer `i`.
pub fn named(i: usize, prefix: &str, module: &str, name: &str, rows: usize, cols: usize) -> Lin {
    lin(format!("layers.{i}.{name}"), format!("{prefix}.{module}"), rows, cols)
}

/// Which layers see only a window: by `layer_types`, else by a rule.
///
/// # Errors
/// `Input` if the list does not fit the layers, `Unsupported` for types that are not known.
pub fn sliding(b: &Builder, d: &Dims, rule: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
    let cfg = b.cfg();
    let Some(types) = cfg.strings("layer_types")? else { return Ok((0..d.layers).map(rule).collect()) };
    if types.len() != d.layers {
        return Err(cfg.error(format!("`layer_types` has {} entries for {} layers", types.len(), d.layers)));
    }
    types
        .into_iter()
        .map(|t| match t {
            "sliding_attention" => Ok(true),
            "full_attention" => Ok(false),
            other => Err(crate::error::Error::unsupported(format!("layers of type `{other}` are not supported"))
                .at_file(&cfg.path)),
        })
        .collect()
}
