//! How far a file with float parts is from the program.

use serde::Serialize;

/// What a file with float parts must keep to be called near.
pub struct Limits {
    /// Mean of KL(program || file) over the positions, in nats.
    pub mean_kl: f64,
    /// The same for a program with activations of 4 bits or fewer, of which a code that flips is a large part of the range.
    pub mean_kl_of_few_bits: f64,
    /// Smallest cosine between the embeddings of a text.
    pub cosine: f64,
    /// Largest share of flipped codes where nothing that flipped can have moved another code yet.
    pub first_flips: f64,
}

/// Measured over the golden checkpoints and the models of this repository with some room; docs/onnx.md has the figures. Deep models that were
/// not trained for low bits multiply the last bit of a float to a mean KL of 0.02, so that this one cannot be small; a graph that computes
/// something else shows in the first codes.
pub const LIMITS: Limits = Limits { mean_kl: 0.05, mean_kl_of_few_bits: 0.3, cosine: 0.99, first_flips: 0.01 };

/// A difference of the best logits below this share of the range is a near tie.
const NEAR_TIE: f64 = 0.01;

#[derive(Debug, Default, Clone, Serialize)]
pub struct Figures {
    /// None: the engine does not show inner values, or nothing in the file is integer.
    pub core: Option<Core>,
    pub codes: Option<Codes>,
    pub logits: Option<Logits>,
    /// Smallest cosine with the program's embeddings.
    pub worst_cosine: Option<f64>,
}

/// Sums of products, recomputed from the codes that the file itself has.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Core {
    pub sums: u64,
    pub mismatches: u64,
    /// The first LINEAR with one.
    pub first: Option<String>,
}

/// Codes of activations against those of the program.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Codes {
    pub codes: u64,
    pub flipped: u64,
    /// Those of the first QUANTIZE of the program.
    pub first_codes: u64,
    pub first_flipped: u64,
}

impl Codes {
    /// Takes in the codes of one token and those that the program has.
    pub fn add(&mut self, codes: &[i32], program: &[i32], first: bool) {
        let flipped = codes.iter().zip(program).filter(|(a, b)| a != b).count() as u64;
        self.codes += codes.len() as u64;
        self.flipped += flipped;
        if first {
            self.first_codes += codes.len() as u64;
            self.first_flipped += flipped;
        }
    }
}

#[derive(Debug, Default, Clone, Serialize)]
pub struct Logits {
    pub positions: usize,
    /// Largest difference of a logit, relative to the range of the logits of its position.
    pub worst_of_range: f64,
    /// Mean of KL(program || file), in nats.
    pub mean_kl: f64,
    pub same_argmax: usize,
    /// Other best tokens where the two are no near tie in the program.
    pub different_no_near_tie: usize,
}

impl Logits {
    /// Takes a position in: the program's logits and those of the file, both as reals.
    pub fn add(&mut self, want: &[f64], got: &[f64]) {
        let span = |x: &[f64]| x.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        let (low, high) = span(want);
        let range = (high - low).max(f64::MIN_POSITIVE);
        let worst = want.iter().zip(got).map(|(w, g)| (w - g).abs()).fold(0.0, f64::max);
        // A NaN is no small difference.
        let worst = if got.iter().all(|g| g.is_finite()) { worst / range } else { f64::INFINITY };
        self.worst_of_range = self.worst_of_range.max(worst);
        let (p, q) = (log_softmax(want), log_softmax(got));
        let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
        self.mean_kl = (self.mean_kl * self.positions as f64 + kl.max(0.0)) / (self.positions + 1) as f64;
        self.positions += 1;
        let (a, b) = (best(want), best(got));
        if a == b {
            self.same_argmax += 1;
        } else if (want[a] - want[b]) / range > NEAR_TIE {
            self.different_no_near_tie += 1;
        }
    }
}

/// The first of the largest.
fn best(x: &[f64]) -> usize {
    (1..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best })
}

fn log_softmax(x: &[f64]) -> Vec<f64> {
    let top = x.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = x.iter().map(|v| (v - top).exp()).sum();
    x.iter().map(|v| v - top - sum.ln()).collect()
}

impl Figures {
    /// The first figure that is not as it must be.
    pub fn too_large(&self, few_bits: bool) -> Option<String> {
        if let Some(core) = self.core.as_ref().filter(|c| c.mismatches > 0) {
            let first = core.first.as_deref().unwrap_or("-");
            return Some(format!("{} of {} integer sums differ, first at {first}", core.mismatches, core.sums));
        }
        if self.logits.as_ref().is_some_and(|l| l.worst_of_range.is_infinite()) {
            return Some("a logit is no finite number".into());
        }
        let off = |c: &&Codes| c.first_flipped as f64 > LIMITS.first_flips * c.first_codes as f64;
        if let Some(c) = self.codes.as_ref().filter(off) {
            let (flipped, codes) = (c.first_flipped, c.first_codes);
            return Some(format!("{flipped} of the {codes} codes before the first product are not the program's"));
        }
        let most = if few_bits { LIMITS.mean_kl_of_few_bits } else { LIMITS.mean_kl };
        if let Some(l) = self.logits.as_ref().filter(|l| l.mean_kl.is_nan() || l.mean_kl > most) {
            return Some(format!("mean KL {:.2e} is above {most}", l.mean_kl));
        }
        let cosine = self.worst_cosine.filter(|c| c.is_nan() || *c < LIMITS.cosine);
        cosine.map(|c| format!("cosine {c:.6} is below {}", LIMITS.cosine))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_have_no_distance() {
        let mut l = Logits::default();
        l.add(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]);
        assert_eq!((l.positions, l.same_argmax, l.worst_of_range), (1, 1, 0.0));
        assert!(l.mean_kl < 1e-15);
    }

    #[test]
    fn another_best_token_is_counted_unless_it_is_a_near_tie() {
        let mut l = Logits::default();
        l.add(&[0.0, 100.0, 99.5], &[0.0, 99.0, 100.0]);
        l.add(&[0.0, 100.0, 50.0], &[0.0, 50.0, 100.0]);
        assert_eq!((l.positions, l.same_argmax, l.different_no_near_tie), (2, 0, 1));
        assert_eq!(l.worst_of_range, 0.5);
    }

    #[test]
    fn codes_that_flip_before_anything_moved_them_are_a_failure() {
        let mut codes = Codes::default();
        codes.add(&[1; 200], &[1; 200], true);
        codes.add(&[1, 2, 3], &[3, 1, 2], false);
        let mut f = Figures { codes: Some(codes), ..Figures::default() };
        assert_eq!(f.too_large(false), None);
        f.codes.as_mut().unwrap().add(&[1, 2, 3], &[3, 1, 2], true);
        assert_eq!(f.too_large(false).unwrap(), "3 of the 203 codes before the first product are not the program's");
    }

    #[test]
    fn a_nan_is_far_away() {
        let mut l = Logits::default();
        l.add(&[0.0, 1.0], &[f64::NAN, 1.0]);
        assert!(l.worst_of_range.is_infinite());
        let f = Figures { logits: Some(l), ..Figures::default() };
        assert!(f.too_large(false).is_some() && f.too_large(true).is_some());
    }
}
