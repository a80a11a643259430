//! Rotary embeddings (Su et al. 2021) and their extensions to longer contexts.

/// A rotary embedding: of each head the first `2 * inv_freq.len()` channels are rotated, half-split; the rest passes.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// The base: what the frequencies are computed from before any scaling.
    pub theta: f64,
    /// Radians per position of each channel pair.
    pub inv_freq: Vec<f64>,
    /// Cosines and sines are multiplied with this.
    pub factor: f64,
    pub beyond: Beyond,
}

/// What changes when the text becomes longer than the trained context.
#[derive(Debug, Clone, PartialEq)]
pub enum Beyond {
    Same,
    /// Other frequencies for all positions once there are more than `from` tokens (LongRoPE, Ding et al. 2024).
    Long {
        from: usize,
        inv_freq: Vec<f64>,
    },
    /// The base grows with the length beyond `from` tokens (dynamic NTK).
    Dynamic {
        from: usize,
        theta: f64,
        factor: f64,
    },
}

impl Rope {
    pub fn plain(theta: f64, inv_freq: Vec<f64>) -> Rope {
        Rope { theta, inv_freq, factor: 1.0, beyond: Beyond::Same }
    }

    /// Frequencies for a text of `length` tokens.
    pub fn at(&self, length: usize) -> Vec<f64> {
        match &self.beyond {
            Beyond::Long { from, inv_freq } if length > *from => inv_freq.clone(),
            Beyond::Dynamic { from, theta, factor } if length > *from => {
                let d = (2 * self.inv_freq.len()) as f64;
                let grown = factor * length as f64 / *from as f64 - (factor - 1.0);
                let base = theta * libm::pow(grown, d / (d - 2.0));
                frequencies(base, self.inv_freq.len())
            }
            _ => self.inv_freq.clone(),
        }
    }
}

/// `theta^(-2k/d)` for k < pairs, d = 2 * pairs, in the f32 steps of the reference.
pub fn frequencies(theta: f64, pairs: usize) -> Vec<f64> {
    (0..pairs)
        .map(|k| {
            let exponent = (2 * k) as f32 / (2 * pairs) as f32;
            f64::from((1.0 / libm::pow(theta, f64::from(exponent)) as f32) as f32)
        })
        .collect()
}
