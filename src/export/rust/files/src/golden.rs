//! The golden trace: prompts with the checksums of what was computed when the model was made.

use crate::model::{Model, Words};
use crate::status::{Result, Status};

/// A prompt of the golden trace.
#[derive(Clone, Copy)]
pub struct Prompt<'a> {
    ids: Words<'a>,
    sums: Words<'a>,
    parts: usize,
    /// Tokens of the prompt; the others are the greedy continuation.
    pub prompt_len: usize,
    /// All tokens.
    pub total: usize,
}

impl Prompt<'_> {
    /// Token `i`, for i < total.
    pub fn id(&self, i: usize) -> u32 {
        self.ids.at(i)
    }

    /// Checksum of a part of token `i`: 0 before the layers, 1 + l for layer l, layers + 1 for the head.
    pub(crate) fn sum(&self, i: usize, part: usize) -> u32 {
        self.sums.at(i * self.parts + part)
    }
}

impl<'a> Model<'a> {
    /// Prompts of the golden trace; 0 if the model has none.
    pub fn golden_count(&self) -> usize {
        self.golden.at(1) as usize
    }

    /// One of them.
    pub fn golden(&self, index: usize) -> Option<Prompt<'a>> {
        if index >= self.golden_count() {
            return None;
        }
        let mut w = self.golden.from(4);
        for _ in 0..index {
            w = w.from(2 + w.at(1) as usize * (self.h.layers + 3));
        }
        let total = w.at(1) as usize;
        let ids = w.from(2);
        Some(Prompt { ids, sums: ids.from(total), parts: self.h.layers + 2, prompt_len: w.at(0) as usize, total })
    }
}

pub(crate) fn check(m: &Model) -> Result<()> {
    let (h, refuse) = (&m.h, Err(Status::Format));
    let w = m.golden;
    if w.len() < 4 || w.at(0) != 1 || w.at(1) > 64 || w.at(2) as usize != h.layers || w.at(3) != 0 {
        return refuse;
    }
    let prompts = w.at(1);
    let mut w = w.from(4);
    for _ in 0..prompts {
        let (p, t) = (w.at(0) as usize, w.at(1) as usize);
        let limits = w.len() >= 2 && p >= 1 && t >= p && t <= 65_536 && (h.positions == 0 || t <= h.positions);
        let text = (!m.gives_embedding() || t == p) && (!h.encoder || t <= h.window);
        if !limits || !text {
            return refuse;
        }
        let need = 2 + t * (h.layers + 3);
        if need > w.len() || (0..t).any(|i| w.at(2 + i) as usize >= h.vocab) {
            return refuse;
        }
        w = w.from(need);
    }
    if w.len() == 0 {
        Ok(())
    } else {
        refuse
    }
}
