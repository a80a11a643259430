//! The golden trace section: docs/format/packed.md. What the integers of stored prompts must be.

use crate::bytes::{put_u32, Reader};
use crate::error::Result;
use crate::limits::{MAX_GOLDEN_PROMPTS, MAX_GOLDEN_TOKENS, MAX_LAYERS};

/// One stored prompt with its greedy continuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldenPrompt {
    /// Tokens that are given; the rest of `ids` was generated.
    pub prompt_len: usize,
    pub ids: Vec<u32>,
    /// `[ids.len()][layers + 2]` checksums.
    pub checksums: Vec<Vec<u32>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Golden {
    pub layers: usize,
    pub prompts: Vec<GoldenPrompt>,
}

impl Golden {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for w in [1, self.prompts.len() as u32, self.layers as u32, 0] {
            put_u32(&mut out, w);
        }
        for p in &self.prompts {
            put_u32(&mut out, p.prompt_len as u32);
            put_u32(&mut out, p.ids.len() as u32);
            p.ids.iter().chain(p.checksums.iter().flatten()).for_each(|w| put_u32(&mut out, *w));
        }
        out
    }

    /// Bytes of the section for prompts of these total lengths.
    pub fn encoded_len(layers: usize, totals: &[usize]) -> u64 {
        16 + totals.iter().map(|t| 8 + 4 * (t * (layers + 3)) as u64).sum::<u64>()
    }

    /// # Errors
    /// `Input` with the byte offset; ids are checked against `vocab`.
    pub fn decode(data: &[u8], base: u64, vocab: usize) -> Result<Golden> {
        let mut r = Reader::new(data, base, "golden trace");
        if r.u32()? != 1 {
            return Err(r.error("its version is not 1"));
        }
        let n = r.count("number of prompts", 0..=MAX_GOLDEN_PROMPTS)?;
        let layers = r.count("layers", 1..=MAX_LAYERS)?;
        r.reserved()?;
        let mut prompts = Vec::with_capacity(n);
        for _ in 0..n {
            let prompt_len = r.count("prompt length", 1..=MAX_GOLDEN_TOKENS)?;
            let total = r.count("total length", prompt_len..=MAX_GOLDEN_TOKENS)?;
            if total.saturating_mul(4 * (layers + 3)) > r.remaining() {
                return Err(r.error(format!("{total} tokens do not fit what is left of the section")));
            }
            let mut ids = Vec::with_capacity(total);
            for _ in 0..total {
                ids.push(r.count("token id", 0..=vocab - 1)? as u32);
            }
            let mut checksums = Vec::with_capacity(total);
            for t in 0..total {
                let sums = (0..layers + 2).map(|_| r.u32()).collect::<Result<Vec<u32>>>()?;
                if t + 1 < prompt_len && sums[layers + 1] != 0 {
                    return Err(r.error("a checksum of logits that are not computed must be 0"));
                }
                checksums.push(sums);
            }
            prompts.push(GoldenPrompt { prompt_len, ids, checksums });
        }
        r.finish()?;
        Ok(Golden { layers, prompts })
    }
}
