//! A smaller checkpoint from a checkpoint: fewer layers, fewer tokens. The result is a folder as transformers writes it.
//!
//! | file | does |
//! |---|---|
//! | `score` | which layers to remove and what that costs, by the float reference |
//! | `vocabulary` | which tokens stay, and which tensors have a row for each |
//! | `write` | tensors, configuration and side files of the result; imports it before it gets its name |

#[cfg_attr(not(feature = "reference"), path = "no_score.rs")]
pub mod score;
pub mod vocabulary;
pub mod write;

use serde::Serialize;

/// How layers are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Remove one after the other, always the one without which the loss is lowest
    Loss,
    /// Remove those whose output is most like their input
    Influence,
    /// Remove the consecutive ones that together turn their input least
    Angular,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Mean of -ln p(next token).
    Loss,
    /// Mean of 1 - cosine between last states and those of the whole model: for models that predict no next token.
    Drift,
}

/// A removed layer and what it cost on the text that took no part in the choice.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    pub layer: usize,
    /// What decided it: loss without it, influence, or angle; None if it was named.
    pub score: Option<f64>,
    pub before: f64,
    pub after: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    pub measure: Measure,
    /// In the order of their removal.
    pub steps: Vec<Step>,
    pub before: f64,
    pub after: f64,
    pub chosen_on_tokens: usize,
    pub measured_on_tokens: usize,
}

/// What can be said of a result by how much its perplexity grew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    NearLossless,
    Usable,
    Degraded,
    BadlyDamaged,
    Destroyed,
}

impl Verdict {
    /// From perplexity after / before; a number that is none is as bad as any.
    pub fn of(ratio: f64) -> Verdict {
        match ratio {
            r if r <= 1.05 => Verdict::NearLossless,
            r if r <= 1.3 => Verdict::Usable,
            r if r <= 2.0 => Verdict::Degraded,
            r if r <= 5.0 => Verdict::BadlyDamaged,
            _ => Verdict::Destroyed,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Verdict::NearLossless => "near lossless",
            Verdict::Usable => "usable",
            Verdict::Degraded => "degraded",
            Verdict::BadlyDamaged => "badly damaged",
            Verdict::Destroyed => "destroyed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict;

    #[test]
    fn verdicts() {
        assert_eq!(Verdict::of(0.9), Verdict::NearLossless);
        assert_eq!(Verdict::of(1.2), Verdict::Usable);
        assert_eq!(Verdict::of(2.0), Verdict::Degraded);
        assert_eq!(Verdict::of(4.6), Verdict::BadlyDamaged);
        assert_eq!(Verdict::of(f64::NAN), Verdict::Destroyed);
        assert_eq!(Verdict::of(f64::INFINITY), Verdict::Destroyed);
    }
}
