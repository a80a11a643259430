//! What layers are good for, measured by running the model without them.

use super::{Measure, Measured, Method, Step};
use crate::error::{Error, Result};
use crate::model::{Kind, Model};
use crate::progress::Progress;
use crate::reference::{Output, Reference, States};
use crate::transform::prune::choice::{greedy, least_influence, least_turn, Removal};

/// Tokens that are read together.
const WINDOW: usize = 256;
/// One window in so many is kept from the choice and tells what it cost.
const HELD_OUT: usize = 4;

/// A model and the text that it is measured on.
pub struct Scorer {
    reference: Reference,
    measure: Measure,
    chosen_on: Vec<Vec<u32>>,
    held_out: Vec<Vec<u32>>,
}

impl Scorer {
    /// Reads the weights, 4 bytes of memory each.
    ///
    /// # Errors
    /// `Usage` for a text of less than two tokens, `Unsupported` for a speech model, `Input` from the weights.
    pub fn new(model: &Model, ids: &[u32]) -> Result<Scorer> {
        if model.audio.is_some() {
            return Err(Error::unsupported("the layers of a speech model cannot be measured on a text")
                .hint("name them with `--keep` or `--drop` and add `--no-measure`"));
        }
        if ids.len() < 2 {
            return Err(Error::usage(format!("the calibration text has {} tokens, at least 2 are needed", ids.len())));
        }
        let measure = if model.kind == Kind::Decoder && model.head.is_some() { Measure::Loss } else { Measure::Drift };
        let window = if ids.len() < HELD_OUT * WINDOW { (ids.len() / HELD_OUT).max(8) } else { WINDOW };
        let (mut chosen_on, mut held_out) = (Vec::new(), Vec::new());
        let windows = ids.chunks(window.min(model.context.max(2))).filter(|w| w.len() >= 2);
        for (i, w) in windows.enumerate() {
            let to = if i % HELD_OUT == HELD_OUT - 1 { &mut held_out } else { &mut chosen_on };
            to.push(w.to_vec());
        }
        if held_out.is_empty() {
            held_out.clone_from(&chosen_on);
        }
        Ok(Scorer { reference: Reference::load(model)?, measure, chosen_on, held_out })
    }

    /// Chooses layers to remove and measures what that costs.
    ///
    /// # Errors
    /// As [`Reference::through`].
    pub fn choose(&self, method: Method, remove: usize, progress: &dyn Progress) -> Result<Measured> {
        let total = self.reference.layers();
        let removals = match method {
            Method::Loss => {
                let mut step = 0;
                greedy(total, remove, |left| {
                    step += 1;
                    progress.stage(&format!("choosing layer {step} of {remove} to remove"), 0);
                    let harms = self.harms(left);
                    progress.done();
                    harms
                })?
            }
            Method::Influence => least_influence(&self.turns(1, |c| 1.0 - c)?, remove),
            Method::Angular if remove == 0 => Vec::new(),
            Method::Angular => least_turn(&self.turns(remove, |c| c.acos() / std::f64::consts::PI)?, remove),
        };
        self.measure(removals.into_iter().map(|Removal { layer, score }| (layer, Some(score))), progress)
    }

    /// Measures what it costs to remove these layers, one after the other.
    ///
    /// # Errors
    /// As [`Reference::through`].
    pub fn measure(
        &self,
        removals: impl IntoIterator<Item = (usize, Option<f64>)>,
        progress: &dyn Progress,
    ) -> Result<Measured> {
        progress.stage("measuring", 0);
        let mut left: Vec<usize> = (0..self.reference.layers()).collect();
        let first = self.mean(&self.held_out, &left)?;
        let (mut last, mut steps) = (first, Vec::new());
        for (layer, score) in removals {
            left.retain(|l| *l != layer);
            let after = self.mean(&self.held_out, &left)?;
            steps.push(Step { layer, score, before: last, after });
            last = after;
        }
        progress.done();
        let tokens = |w: &[Vec<u32>]| w.iter().map(Vec::len).sum();
        Ok(Measured {
            measure: self.measure,
            steps,
            before: first,
            after: last,
            chosen_on_tokens: tokens(&self.chosen_on),
            measured_on_tokens: tokens(&self.held_out),
        })
    }

    /// The measure with these layers.
    fn mean(&self, windows: &[Vec<u32>], layers: &[usize]) -> Result<f64> {
        let (mut sum, mut n) = (0.0, 0);
        for ids in windows {
            let whole = self.whole(ids)?;
            let (s, k) = self.sum(&self.reference.forward_layers(ids, layers)?, ids, whole.as_ref());
            (sum, n) = (sum + s, n + k);
        }
        Ok(sum / f64::from(n.max(1)))
    }

    /// The measure without each of the layers that are left. What comes before the missing layer is computed once for all.
    fn harms(&self, left: &[usize]) -> Result<Vec<f64>> {
        let mut sums = vec![0.0; left.len()];
        let mut n = 0;
        for ids in &self.chosen_on {
            let whole = self.whole(ids)?;
            let mut before = self.reference.enter(ids)?;
            n += self.terms(ids);
            for (at, sum) in sums.iter_mut().enumerate() {
                let mut without = before.clone();
                self.reference.through(&mut without, &left[at + 1..])?;
                *sum += self.sum(&self.reference.leave(without)?, ids, whole.as_ref()).0;
                self.reference.through(&mut before, &left[at..=at])?;
            }
        }
        sums.iter_mut().for_each(|s| *s /= f64::from(n.max(1)));
        Ok(sums)
    }

    /// Mean over all tokens of `f(cosine)` between what enters each layer and what leaves the one `n` - 1 behind it.
    fn turns(&self, n: usize, f: impl Fn(f64) -> f64) -> Result<Vec<f64>> {
        let layers = self.reference.layers();
        let mut sums = vec![0.0; (layers + 1).saturating_sub(n)];
        let mut tokens = 0usize;
        for ids in &self.chosen_on {
            tokens += ids.len();
            let mut states = self.reference.enter(ids)?;
            let mut seen: Vec<States> = vec![states.clone()];
            for l in 0..layers {
                self.reference.through(&mut states, &[l])?;
                seen.push(states.clone());
            }
            for (sum, (from, to)) in sums.iter_mut().zip(seen.iter().zip(seen.iter().skip(n))) {
                *sum += from.rows().zip(to.rows()).map(|(a, b)| f(cosine(a, b))).sum::<f64>();
            }
        }
        sums.iter_mut().for_each(|s| *s /= tokens.max(1) as f64);
        Ok(sums)
    }

    /// Last states of the whole model, where they are what is compared.
    fn whole(&self, ids: &[u32]) -> Result<Option<Output>> {
        let all: Vec<usize> = (0..self.reference.layers()).collect();
        (self.measure == Measure::Drift).then(|| self.reference.forward_layers(ids, &all)).transpose()
    }

    /// Terms of the sum over a window.
    fn terms(&self, ids: &[u32]) -> u32 {
        (match self.measure {
            Measure::Loss => ids.len().saturating_sub(1),
            Measure::Drift => ids.len(),
        }) as u32
    }

    fn sum(&self, output: &Output, ids: &[u32], whole: Option<&Output>) -> (f64, u32) {
        let sum = match (&output.logits, whole) {
            (_, Some(whole)) => {
                let width = whole.hidden.shape.last().copied().unwrap_or(1).max(1);
                let rows = output.hidden.data.chunks(width).zip(whole.hidden.data.chunks(width));
                rows.map(|(a, b)| 1.0 - cosine(a, b)).sum()
            }
            (Some(logits), None) => {
                let rows = logits.data.chunks(self.reference.vocab().max(1));
                rows.zip(ids.iter().skip(1)).map(|(row, id)| surprise(row, *id)).sum()
            }
            (None, None) => f64::NAN,
        };
        (sum, self.terms(ids))
    }
}

/// -ln p(id) under the softmax of `logits`.
fn surprise(logits: &[f32], id: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|l| f64::from(l - most).exp()).sum();
    let of = logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
    sum.ln() - f64::from(of - most)
}

/// Two zero vectors are alike.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms == 0.0 {
        return 1.0;
    }
    (dot(a, b) / norms).clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surprises_and_cosines() {
        assert!((surprise(&[0.0, 0.0, 0.0, 0.0], 2) - 4f64.ln()).abs() < 1e-12);
        assert!(surprise(&[100.0, 0.0], 1) > 99.0);
        assert_eq!(surprise(&[0.0], 7), f64::INFINITY);
        assert_eq!(cosine(&[0.0], &[0.0]), 1.0);
        assert!(cosine(&[1.0, 0.0], &[0.0, 1.0]).abs() < 1e-12);
    }
}
