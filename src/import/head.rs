//! The head of a language model: a matrix of its own, or the embedding once more.

use super::build::{lin, Builder};
use super::dims::Dims;
use super::lowbit::Role;
use crate::error::Result;
use crate::model::{Linear, Matrix, RowOrder, Vector};

/// Where the head is and what its family does if nothing else is said.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Without `.weight`.
    pub module: &'a str,
    /// Of the embedding, which a tied head may repeat.
    pub embedding: &'a str,
    /// Whether the family ties when the configuration is silent.
    pub tied: bool,
    /// Names of the bias; where several are stored they must agree.
    pub bias: &'a [&'a str],
    pub bias_needed: bool,
}

impl<'a> Head<'a> {
    /// The names of most decoders.
    pub const USUAL: Head<'static> = Head {
        module: "lm_head",
        embedding: "model.embed_tokens",
        tied: false,
        bias: &["lm_head.bias"],
        bias_needed: false,
    };
}

impl Builder {
    /// The head. None: the checkpoint is the upload of a base model, whose hidden states are the output.
    ///
    /// # Errors
    /// `Input` if the configuration ties the head, but the checkpoint has another one.
    pub fn head(&mut self, h: &Head, embedding: &Matrix, d: &Dims) -> Result<Option<Linear>> {
        let weight = format!("{}.weight", h.module);
        let stored = self.has(&weight);
        if !stored && self.c.is_base_model() {
            return Ok(None);
        }
        let said = self.cfg().bool("tie_word_embeddings")?.or(self.cfg().bool("share_embedding")?);
        let bias = self.head_bias(h, d.vocab)?;
        if stored && !self.repeats(h) {
            if said == Some(true) {
                let what = format!("`tie_word_embeddings` is true, but `{weight}` differs from the embedding");
                return Err(self.cfg().error(what).at_tensor(&weight));
            }
            if said.is_none() && h.tied {
                self.warnings
                    .push(format!("`{weight}` is taken for the head, though this architecture usually ties it"));
            }
            let head = self.weights(lin("head", h.module, d.vocab, d.d_model), Role::Head)?;
            return Ok(Some(Linear { bias, ..head }));
        }
        if !stored && !said.unwrap_or(h.tied) {
            let what = "though the configuration does not tie it; the embedding is used as head";
            self.warnings.push(format!("the file has no `{weight}` {what}"));
        }
        Ok(Some(Linear {
            name: "head".into(),
            weight: embedding.clone(),
            bias,
            input_norm: None,
            input_factor: None,
            activation: self.tied_activation(),
            output_norm: None,
        }))
    }

    /// Whether the stored head is the embedding once more, with all that belongs to it; then its tensors count as used.
    fn repeats(&mut self, h: &Head) -> bool {
        let prefix = format!("{}.", h.module);
        let mut names = Vec::new();
        for (name, r) in self.c.tensors() {
            let Some(part) = name.strip_prefix(&prefix).filter(|p| *p != "bias") else { continue };
            let twin = self.c.find(&format!("{}.{part}", h.embedding)).map(|t| self.c.view(t));
            let v = self.c.view(r);
            if !twin.is_some_and(|t| t.dtype == v.dtype && t.shape == v.shape && t.data == v.data) {
                return false;
            }
            names.push(r.name.clone());
        }
        self.mark(names);
        true
    }

    fn head_bias(&mut self, h: &Head, vocab: usize) -> Result<Option<Vector>> {
        let mut found: Option<Vector> = None;
        for name in h.bias {
            if !self.has(name) {
                continue;
            }
            let tensor = self.float(name, &[vocab])?;
            match &found {
                None => found = Some(Vector { tensor, len: vocab, order: RowOrder::Stored }),
                Some(first) if self.c.view(&first.tensor).data == self.c.view(&tensor).data => {}
                Some(first) => {
                    let what = format!("`{}` and `{name}` are the same bias with different values", first.tensor.name);
                    return Err(crate::error::Error::input(what).at_tensor(name).at_file(self.c.path_of(&tensor)));
                }
            }
        }
        if found.is_none() && h.bias_needed {
            return Ok(Some(Vector { tensor: self.float(h.bias[0], &[vocab])?, len: vocab, order: RowOrder::Stored }));
        }
        Ok(found)
    }
}
