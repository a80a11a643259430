//! The rules by which float masters become codes. All arithmetic is that of the reference implementations, in f32 with half-to-even
//! rounding, so that native checkpoints come out code for code.

/// How float weights become codes, or how stored codes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightRule {
    /// scale = mean|W| of the unit, code = +1 if W ≥ 0 else -1.
    BinaryMean,
    /// g = 1 / max(mean|W|, 1e-5), code = clamp(round(W g), -1, 1) (BitNet b1.58, Ma et al. 2024).
    TernaryAbsmean,
}

impl WeightRule {
    pub fn name(self) -> &'static str {
        match self {
            WeightRule::BinaryMean => "binary-mean",
            WeightRule::TernaryAbsmean => "ternary-absmean",
        }
    }
}

/// Scale of a unit, as the rule computes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    rule: WeightRule,
    /// What weights are multiplied with before rounding (ternary).
    inverse: f32,
    /// What a code stands for.
    pub scale: f64,
}

/// Running mean of magnitudes, in f64 so that the order of magnitude of the unit does not matter.
#[derive(Debug, Clone, Copy, Default)]
pub struct MeanAbs {
    sum: f64,
    count: u64,
}

impl MeanAbs {
    pub fn add(&mut self, weights: &[f32]) {
        self.sum += weights.iter().map(|w| f64::from(w.abs())).sum::<f64>();
        self.count += weights.len() as u64;
    }

    fn mean(self) -> f32 {
        (self.sum / self.count.max(1) as f64) as f32
    }
}

impl Fit {
    /// The scale from the unit's mean magnitude; both rules are the mean of |W|, with BitNet's floor for ternary.
    pub fn new(rule: WeightRule, unit: MeanAbs) -> Fit {
        match rule {
            WeightRule::BinaryMean => {
                // A unit of zeros has no sign to keep; the smallest scale that prints as 0 stands for it.
                let alpha = unit.mean().max(1e-30);
                Fit { rule, inverse: 0.0, scale: f64::from(alpha) }
            }
            WeightRule::TernaryAbsmean => {
                let inverse = 1.0 / unit.mean().max(1e-5);
                Fit { rule, inverse, scale: 1.0 / f64::from(inverse) }
            }
        }
    }

    /// The code of a weight.
    pub fn code(&self, w: f32) -> i32 {
        match self.rule {
            WeightRule::BinaryMean => {
                if w >= 0.0 {
                    1
                } else {
                    -1
                }
            }
            WeightRule::TernaryAbsmean => (w * self.inverse).round_ties_even().clamp(-1.0, 1.0) as i32,
        }
    }

    /// What the trained network computes with in place of `w`, with the roundings of f32.
    pub fn effective(&self, w: f32) -> f32 {
        let q = self.code(w) as f32;
        match self.rule {
            WeightRule::BinaryMean => q * self.scale as f32,
            WeightRule::TernaryAbsmean => q / self.inverse,
        }
    }
}

/// One row as signed integers with `qmax` for its absolute maximum; returns what a code stands for.
/// The rule of int8 embeddings: t = qmax / max(max|row|, 1e-5), code = round(w t).
pub fn absmax_row(row: &[f32], qmax: f32, codes: &mut [i32]) -> f64 {
    let most = row.iter().fold(0f32, |m, w| m.max(w.abs()));
    let t = qmax / most.max(1e-5);
    for (c, w) in codes.iter_mut().zip(row) {
        *c = (w * t).round_ties_even().clamp(-qmax, qmax) as i32;
    }
    1.0 / f64::from(t)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(w: &[f32]) -> MeanAbs {
        let mut m = MeanAbs::default();
        m.add(w);
        m
    }

    #[test]
    fn binary_keeps_the_sign_of_zero_positive() {
        let f = Fit::new(WeightRule::BinaryMean, mean(&[0.5, -1.5]));
        assert_eq!(f.scale, 1.0);
        assert_eq!([0.0, -0.1, 3.0].map(|w| f.code(w)), [1, -1, 1]);
    }

    #[test]
    fn ternary_rounds_halves_to_even() {
        let f = Fit::new(WeightRule::TernaryAbsmean, mean(&[1.0, -1.0]));
        assert_eq!([0.5, -0.5, 0.50001, 1.5, -9.0, 0.49].map(|w| f.code(w)), [0, 0, 1, 1, -1, 0]);
    }

    #[test]
    fn zero_rows_do_not_divide_by_zero() {
        let mut codes = [9; 3];
        assert!(absmax_row(&[0.0; 3], 127.0, &mut codes) > 0.0);
        assert_eq!(codes, [0; 3]);
    }
}
