//! Running a part of the layers, to see what the others are good for.

use super::{Array, Context, Output, Reference, Rows};
use crate::error::{Error, Result};

/// The residual of one text between two layers.
#[derive(Debug, Clone)]
pub struct States(Rows);

impl States {
    /// One row for each token.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.0.iter()
    }
}

impl Reference {
    pub fn layers(&self) -> usize {
        self.blocks.len()
    }

    fn context(&self, len: usize) -> Context<'_> {
        Context {
            texts: 1,
            len,
            past: 0,
            mask: None,
            causal: self.causal,
            head_dim: self.head_dim,
            rotations: self.rotations(0..len),
            alibi: self.alibi.as_deref(),
            memory: None,
        }
    }

    /// What enters the first layer for a text.
    ///
    /// # Errors
    /// `Usage` for ids or positions that the model does not have and for no ids at all, `Unsupported` for a speech model, whose blocks
    /// need more than a text.
    pub fn enter(&self, ids: &[u32]) -> Result<States> {
        if self.audio.is_some() {
            return Err(Error::unsupported("the blocks of a speech model need audio beside a text"));
        }
        if ids.is_empty() {
            return Err(Error::usage("there is no token to read"));
        }
        Ok(States(self.embed(ids, &self.context(ids.len()), None)?))
    }

    /// Runs some layers, in this order.
    ///
    /// # Errors
    /// `Usage` for a layer that the model does not have.
    pub fn through(&self, states: &mut States, layers: &[usize]) -> Result<()> {
        let context = self.context(states.0.len());
        for i in layers {
            let block = self.blocks.get(*i).ok_or_else(|| {
                Error::usage(format!("there is no layer {i}, the model has {} of them", self.blocks.len()))
            })?;
            block.run(&mut states.0, &context, self.residual_scale, None)?;
        }
        Ok(())
    }

    /// What follows the last layer: norm and head.
    ///
    /// # Errors
    /// `Input` if shapes do not fit.
    pub fn leave(&self, states: States) -> Result<Output> {
        let mut x = states.0;
        let len = x.len();
        if let Some(n) = &self.final_norm {
            n.apply(&mut x);
        }
        let array = |x: Rows| Array { shape: vec![1, len, x.width], data: x.data };
        let logits = self.logits(&x)?.map(array);
        let (embed_out, layer_out, pooler_output, encoder_hidden) = (None, Vec::new(), None, None);
        Ok(Output { logits, hidden: array(x), embed_out, layer_out, pooler_output, encoder_hidden })
    }

    /// Logits and last states of one text when only these layers are run.
    ///
    /// # Errors
    /// As [`Reference::enter`] and [`Reference::through`].
    pub fn forward_layers(&self, ids: &[u32], layers: &[usize]) -> Result<Output> {
        let mut states = self.enter(ids)?;
        self.through(&mut states, layers)?;
        self.leave(states)
    }
}
