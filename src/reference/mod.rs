//! The float reference: a model of any architecture in f32, interpreted from its description.
//!
//! It is what a conversion is compared with. All weights are held as f32 in memory; low-bit matrices as code times scale, and inputs of
//! layers that were trained with rounded activations are rounded. Sums inside matrix products depend on the machine, so results agree between
//! machines within the precision of f32 and not bit by bit.

mod attention;
mod audio;
mod block;
mod linear;
mod pool;
mod rows;
mod subset;

use crate::error::{Error, Result};
use crate::model::{Activation, HeadTransform, Kind, Model, Rope};
use attention::{Context, Past, Rotation};
use audio::Audio;
use block::Block;
use candle_core::Tensor;
use linear::{Linear, Norm};
use rows::{failed, Rows};
use std::ops::Range;

pub use pool::{pool, unit};
pub use subset::States;

/// Values of a shape, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// Texts of the same length; shorter ones are padded and masked.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// `[texts, length]`.
    pub ids: Vec<u32>,
    pub texts: usize,
    /// `[texts, length]`, false for padding; None: no padding.
    pub mask: Option<Vec<bool>>,
    /// `[texts, length]`; None: all 0.
    pub token_types: Option<Vec<u32>>,
    /// Mel frames `[texts, mels, frames]` of a speech model; `ids` are those of its decoder.
    pub features: Option<Array>,
    /// Keep what leaves each layer.
    pub trace: bool,
}

impl Input {
    /// One text.
    pub fn text(ids: &[u32]) -> Input {
        Input { ids: ids.to_vec(), texts: 1, ..Input::default() }
    }
}

/// What a model makes of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[texts, length, vocabulary]`; None for a model without head.
    pub logits: Option<Array>,
    /// States after the last norm, `[texts, length, d_model]`.
    pub hidden: Array,
    /// What enters layer 0; only with `trace`.
    pub embed_out: Option<Array>,
    /// What leaves each layer; empty without `trace`.
    pub layer_out: Vec<Array>,
    /// `[texts, d_model]`.
    pub pooler_output: Option<Array>,
    /// States of the encoder of a speech model, `[texts, frames / 2, d_model]`.
    pub encoder_hidden: Option<Array>,
}

struct Transform {
    dense: Linear,
    activation: Activation,
    norm: Norm,
}

impl Transform {
    fn load(m: &Model, t: &HeadTransform) -> Result<Transform> {
        Ok(Transform {
            dense: Linear::load(m, &t.dense)?,
            activation: t.activation,
            norm: Norm::load(m, &t.norm, t.dense.weight.rows)?,
        })
    }
}

/// A lookup table `[rows, width]`.
struct Table(Tensor);

impl Table {
    fn rows(&self) -> usize {
        self.0.dims().first().copied().unwrap_or(0)
    }

    fn lookup(&self, ids: impl Iterator<Item = usize>, what: &str) -> Result<Rows> {
        let width = self.0.dims().last().copied().unwrap_or(1);
        let mut data = Vec::new();
        for id in ids {
            if id >= self.rows() {
                return Err(Error::usage(format!("{what} {id}, the model has {} of them", self.rows())));
            }
            let row = self.0.narrow(0, id, 1).and_then(|t| t.flatten_all()?.to_vec1::<f32>()).map_err(failed)?;
            data.extend(row);
        }
        Ok(Rows::new(width, data))
    }
}

/// A model with all weights in memory.
pub struct Reference {
    causal: bool,
    vocab: usize,
    width: usize,
    head_dim: usize,
    ropes: Vec<Rope>,
    alibi: Option<Vec<f64>>,
    embedding: Table,
    embedding_scale: f32,
    positions: Option<(Table, usize)>,
    token_types: Option<Table>,
    embedding_norm: Option<Norm>,
    residual_scale: f32,
    blocks: Vec<Block>,
    final_norm: Option<Norm>,
    transform: Option<Transform>,
    head: Option<Linear>,
    logits_scale: f32,
    logits_softcap: Option<f32>,
    pooler: Option<Linear>,
    audio: Option<Audio>,
}

impl Reference {
    /// Reads all weights; 4 bytes of memory a weight.
    ///
    /// # Errors
    /// `Input` with file, tensor and offset for weights that cannot be read or do not fit together.
    pub fn load(m: &Model) -> Result<Reference> {
        let embedding = linear::weights(m, &m.embedding)?;
        let head = match &m.head {
            // One copy serves both.
            Some(h) if h.weight == m.embedding => Some(Linear::with(m, h, embedding.clone())?),
            Some(h) => Some(Linear::load(m, h)?),
            None => None,
        };
        let norm = |n: &Option<crate::model::Norm>| n.as_ref().map(|n| Norm::load(m, n, m.d_model)).transpose();
        let positions = match &m.positions {
            Some(p) => Some((Table(linear::weights(m, &p.table)?), p.offset)),
            None => None,
        };
        Ok(Reference {
            causal: m.kind == Kind::Decoder,
            vocab: m.vocab,
            width: m.d_model,
            head_dim: m.head_dim,
            ropes: m.ropes.clone(),
            alibi: m.alibi.clone(),
            embedding: Table(embedding),
            embedding_scale: m.embedding_scale as f32,
            positions,
            token_types: m.token_types.as_ref().map(|t| linear::weights(m, t)).transpose()?.map(Table),
            embedding_norm: norm(&m.embedding_norm)?,
            residual_scale: m.residual_scale as f32,
            blocks: m.layers.iter().map(|l| Block::load(m, l)).collect::<Result<_>>()?,
            final_norm: norm(&m.final_norm)?,
            transform: m.head_transform.as_ref().map(|t| Transform::load(m, t)).transpose()?,
            head,
            logits_scale: m.logits_scale as f32,
            logits_softcap: m.logits_softcap.map(|c| c as f32),
            pooler: m.pooler.as_ref().map(|l| Linear::load(m, l)).transpose()?,
            audio: m.audio.as_ref().map(|a| Audio::load(m, a)).transpose()?,
        })
    }

    /// Computes everything that the model gives for some texts.
    ///
    /// # Errors
    /// `Usage` for ids, positions or shapes that the model does not have.
    pub fn forward(&self, input: &Input) -> Result<Output> {
        let len = input.ids.len() / input.texts.max(1);
        let counts = [input.mask.as_ref().map(Vec::len), input.token_types.as_ref().map(Vec::len)];
        if len * input.texts != input.ids.len() || counts.iter().flatten().any(|n| *n != input.ids.len()) || len == 0 {
            return Err(Error::usage("ids, attention mask and token types must have one shape and some element"));
        }
        let memory = match (&self.audio, &input.features) {
            (Some(a), Some(f)) => Some(a.run(f, self.head_dim, self.width)?),
            (Some(_), None) => return Err(Error::usage("a speech model needs audio features beside the ids")),
            (None, Some(_)) => return Err(Error::usage("audio features are for speech models, this is none")),
            (None, None) => None,
        };
        if let Some(f) = input.features.as_ref().filter(|f| f.shape.first() != Some(&input.texts)) {
            return Err(Error::usage(format!("{:?} audio features for {} texts", f.shape, input.texts)));
        }
        let context = Context {
            texts: input.texts,
            len,
            past: 0,
            mask: input.mask.as_deref(),
            causal: self.causal,
            head_dim: self.head_dim,
            rotations: self.rotations(0..len),
            alibi: self.alibi.as_deref(),
            memory: memory.as_ref(),
        };
        let array = |x: &Rows, len: usize| Array { shape: vec![input.texts, len, x.width], data: x.data.clone() };
        let mut x = self.embed(&input.ids, &context, input.token_types.as_deref())?;
        let embed_out = input.trace.then(|| array(&x, len));
        let mut layer_out = Vec::new();
        for block in &self.blocks {
            block.run(&mut x, &context, self.residual_scale, None)?;
            if input.trace {
                layer_out.push(array(&x, len));
            }
        }
        if let Some(n) = &self.final_norm {
            n.apply(&mut x);
        }
        let pooler_output = match &self.pooler {
            Some(pooler) => {
                let first = x.iter().step_by(len).flatten().copied().collect();
                let y = pooler.apply(&Rows::new(x.width, first))?;
                let data = y.data.iter().map(|v| v.tanh()).collect();
                Some(Array { shape: vec![input.texts, y.width], data })
            }
            None => None,
        };
        let encoder_hidden = memory.as_ref().map(|m| array(m, m.len() / input.texts.max(1)));
        let logits = self.logits(&x)?.map(|l| array(&l, len));
        Ok(Output { logits, hidden: array(&x, len), embed_out, layer_out, pooler_output, encoder_hidden })
    }

    /// Begins to read or write one text, token by token.
    ///
    /// # Errors
    /// `Unsupported` for a model that does not continue text.
    pub fn start(&self) -> Result<Session<'_>> {
        if !self.causal || self.audio.is_some() || self.head.is_none() {
            return Err(Error::unsupported("only a language model that reads from left to right continues text"));
        }
        Ok(Session { model: self, past: Vec::new(), ids: Vec::new() })
    }

    pub fn vocab(&self) -> usize {
        self.vocab
    }

    fn rotations(&self, positions: Range<usize>) -> Vec<Rotation> {
        self.ropes.iter().map(|r| Rotation::new(r, positions.clone())).collect()
    }

    fn embed(&self, ids: &[u32], c: &Context, types: Option<&[u32]>) -> Result<Rows> {
        let mut x = self.embedding.lookup(ids.iter().map(|id| *id as usize), "token id")?;
        x.data.iter_mut().for_each(|v| *v *= self.embedding_scale);
        if let Some((table, offset)) = &self.positions {
            x.add(&table.lookup(positions(c, *offset).into_iter(), "position")?, 1.0)?;
        }
        if let Some(table) = &self.token_types {
            let of = |i: usize| types.and_then(|t| t.get(i)).map_or(0, |t| *t as usize);
            x.add(&table.lookup((0..ids.len()).map(of), "token type")?, 1.0)?;
        }
        if let Some(n) = &self.embedding_norm {
            n.apply(&mut x);
        }
        Ok(x)
    }

    fn logits(&self, x: &Rows) -> Result<Option<Rows>> {
        let Some(head) = &self.head else { return Ok(None) };
        let mut y = match &self.transform {
            Some(t) => {
                let mut h = t.dense.apply(x)?;
                h.data.iter_mut().for_each(|v| *v = rows::activate(t.activation, *v));
                t.norm.apply(&mut h);
                head.apply(&h)?
            }
            None => head.apply(x)?,
        };
        for v in &mut y.data {
            *v *= self.logits_scale;
            if let Some(limit) = self.logits_softcap {
                *v = rows::softcap(limit, *v);
            }
        }
        Ok(Some(y))
    }
}

/// Rows of the position table. Tables with an offset keep the row before it for padding, and count only what is no padding.
fn positions(c: &Context, offset: usize) -> Vec<usize> {
    let mut out = Vec::with_capacity(c.texts * c.len);
    for text in 0..c.texts {
        let mut seen = c.past + offset;
        for t in 0..c.len {
            let padding = offset > 0 && c.mask.is_some_and(|m| m.get(text * c.len + t) == Some(&false));
            out.push(if padding { offset - 1 } else { seen });
            seen += usize::from(!padding);
        }
    }
    out
}

/// One text that is continued; keys and values of what was read are kept.
pub struct Session<'a> {
    model: &'a Reference,
    past: Vec<Past>,
    /// What was read.
    ids: Vec<u32>,
}

impl Session<'_> {
    /// Reads more tokens and gives the logits after the last one, as [`Reference::forward`] does for the whole text.
    ///
    /// # Errors
    /// `Usage` for ids that the model does not have, and for none; the session is of no use after that.
    pub fn step(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        let m = self.model;
        let (mut from, total) = (self.ids.len(), self.ids.len() + ids.len());
        self.ids.extend_from_slice(ids);
        if m.ropes.iter().any(|r| r.at(from) != r.at(total)) {
            // Other frequencies change every state that was kept.
            from = 0;
        }
        if from == 0 {
            self.past = m.blocks.iter().map(|_| Past::default()).collect();
        }
        let new = &self.ids[from..];
        let context = Context {
            texts: 1,
            len: new.len(),
            past: from,
            mask: None,
            causal: true,
            head_dim: m.head_dim,
            rotations: m.rotations(from..total),
            alibi: m.alibi.as_deref(),
            memory: None,
        };
        let mut x = m.embed(new, &context, None)?;
        for (block, past) in m.blocks.iter().zip(&mut self.past) {
            block.run(&mut x, &context, m.residual_scale, Some(past))?;
        }
        let last = x.iter().next_back().map(|row| Rows::new(x.width, row.to_vec()));
        let mut last = last.ok_or_else(|| Error::usage("there is no token to read"))?;
        if let Some(n) = &m.final_norm {
            n.apply(&mut last);
        }
        Ok(m.logits(&last)?.map(|l| l.data).unwrap_or_default())
    }
}
