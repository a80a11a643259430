//! Special tokens and the settings of generation.

use super::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::model::{Generation, Kind};

pub struct Tokens {
    pub bos: Option<u32>,
    pub eos: Vec<u32>,
    pub generation: Generation,
}

impl Tokens {
    /// `generation_config.json` wins over `config.json`. Encoders generate nothing and have none.
    ///
    /// # Errors
    /// `Input` for ids beyond the vocabulary, `Unsupported` for more than four end ids.
    pub fn read(c: &Checkpoint, kind: Kind, vocab: usize) -> Result<Tokens> {
        let cfg = &c.config;
        if kind == Kind::Encoder {
            return Ok(Tokens { bos: None, eos: Vec::new(), generation: Generation::default() });
        }
        let mut eos = match &c.generation {
            Some(g) => g.ids("eos_token_id", vocab)?,
            None => Vec::new(),
        };
        if eos.is_empty() {
            eos = cfg.ids("eos_token_id", vocab)?;
        }
        if eos.len() > 4 {
            return Err(
                Error::unsupported(format!("{} end ids, at most 4 are supported", eos.len())).at_file(&cfg.path)
            );
        }
        let generation = match &c.generation {
            None => Generation::default(),
            Some(g) => Generation {
                sample: g.bool("do_sample")?.unwrap_or(false),
                temperature: g.f64("temperature")?,
                top_k: g.usize("top_k", 0..=1 << 20)?.map(|k| k as u32),
            },
        };
        // What a speech model's decoder begins with.
        let start = cfg.ids("decoder_start_token_id", vocab)?.first().copied();
        let bos = match start {
            Some(s) => Some(s),
            None => cfg.ids("bos_token_id", vocab)?.first().copied(),
        };
        Ok(Tokens { bos, eos, generation })
    }
}
