//! Sizes of a network and where a family keeps them in its configuration.

use super::config::Config;
use crate::error::Result;
use crate::limits::{MAX_HEAD_DIM, MAX_LAYERS, MAX_VECTOR, MAX_VOCAB};

/// Sizes that every architecture has.
#[derive(Debug, Clone, Copy)]
pub struct Dims {
    pub vocab: usize,
    pub d_model: usize,
    pub ffn: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub context: usize,
}

/// A key and the default of its class.
pub type Key = (&'static str, Option<usize>);

/// Names of the sizes.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    pub vocab: Key,
    pub d_model: Key,
    /// Width of the feed-forward part; without a key and default it is four times the width of the model.
    pub ffn: Key,
    /// Whether an absent width of the feed-forward part means four times the width of the model.
    pub ffn_times_four: bool,
    pub layers: Key,
    pub heads: Key,
    /// Absent: as many as heads.
    pub kv_heads: Key,
    /// Absent: the width of the model divided by the heads.
    pub head_dim: Key,
    pub context: Key,
}

impl Keys {
    /// The names of most architectures.
    pub const USUAL: Keys = Keys {
        vocab: ("vocab_size", None),
        d_model: ("hidden_size", None),
        ffn: ("intermediate_size", None),
        ffn_times_four: false,
        layers: ("num_hidden_layers", None),
        heads: ("num_attention_heads", None),
        kv_heads: ("num_key_value_heads", None),
        head_dim: ("head_dim", None),
        context: ("max_position_embeddings", Some(2048)),
    };
}

impl Dims {
    /// # Errors
    /// `Input` for sizes that are missing, no whole numbers, beyond the limits or in contradiction.
    pub fn read(cfg: &Config, keys: &Keys) -> Result<Dims> {
        let get = |(key, default): Key, lowest: usize, cap: usize| match cfg.usize(key, lowest..=cap)? {
            Some(n) => Ok(n),
            None => default.map_or_else(|| cfg.need(key, lowest..=cap), Ok),
        };
        let vocab = get(keys.vocab, 1, MAX_VOCAB)?;
        let d_model = get(keys.d_model, 2, MAX_VECTOR)?;
        let ffn = match cfg.usize(keys.ffn.0, 1..=MAX_VECTOR)? {
            None if keys.ffn_times_four => 4 * d_model,
            _ => get(keys.ffn, 1, MAX_VECTOR)?,
        };
        let layers = get(keys.layers, 1, MAX_LAYERS)?;
        let heads = get(keys.heads, 1, MAX_VECTOR)?;
        let kv_heads = cfg.usize(keys.kv_heads.0, 1..=MAX_VECTOR)?.or(keys.kv_heads.1).unwrap_or(heads);
        let head_dim = match cfg.usize(keys.head_dim.0, 2..=MAX_HEAD_DIM)?.or(keys.head_dim.1) {
            Some(d) => d,
            None if d_model % heads == 0 => d_model / heads,
            None => {
                let what =
                    format!("{} {d_model} is no multiple of {heads} heads and `head_dim` is absent", keys.d_model.0);
                return Err(cfg.error(what));
            }
        };
        if heads % kv_heads != 0 {
            let (h, k) = (keys.heads.0, keys.kv_heads.0);
            return Err(cfg.error(format!("{h} {heads} is no multiple of {k} {kv_heads}")));
        }
        if head_dim % 2 != 0 || head_dim > MAX_HEAD_DIM || heads * head_dim > MAX_VECTOR {
            return Err(cfg.error(format!("{heads} heads of {head_dim}: head_dim must be even and at most {MAX_HEAD_DIM}, the product at most {MAX_VECTOR}")));
        }
        if ffn > MAX_VECTOR {
            return Err(cfg.error(format!("a feed-forward part of {ffn} values, at most {MAX_VECTOR} are supported")));
        }
        let context = get(keys.context, 1, 1 << 24)?;
        Ok(Dims { vocab, d_model, ffn, layers, heads, kv_heads, head_dim, context })
    }

    /// For architectures without shared keys, whose heads fill the width exactly, whatever other keys say.
    ///
    /// # Errors
    /// `Input` if they do not.
    pub fn full_heads(self, cfg: &Config) -> Result<Dims> {
        if self.q() != self.d_model {
            let what = format!("{} heads of {} do not fill the width of {}", self.heads, self.head_dim, self.d_model);
            return Err(cfg.error(what));
        }
        Ok(Dims { kv_heads: self.heads, ..self })
    }

    /// Width of all queries, and of the attention result.
    pub fn q(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all keys.
    pub fn kv(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// The usual factor of scores.
    pub fn scale(&self) -> f64 {
        1.0 / libm::sqrt(self.head_dim as f64)
    }
}
