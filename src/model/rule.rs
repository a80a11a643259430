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
    /// Eight running sums, so that the loop needs no order of its own; they are joined in one order on every machine.
    pub fn add(&mut self, weights: &[f32]) {
        let mut lanes = [0f64; 8];
        let (eights, rest) = weights.as_chunks::<8>();
        for eight in eights {
            lanes.iter_mut().zip(eight).for_each(|(l, w)| *l += f64::from(w.abs()));
        }
        lanes.iter_mut().zip(rest).for_each(|(l, w)| *l += f64::from(w.abs()));
        self.sum += lanes.iter().sum::<f64>();
        self.count += weights.len() as u64;
    }

    /// Adds what another part of the unit gave.
    pub fn join(&mut self, part: MeanAbs) {
        self.sum += part.sum;
        self.count += part.count;
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

    /// Whether the codes are -1 and 1 only.
    pub fn is_binary(&self) -> bool {
        self.rule == WeightRule::BinaryMean
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

    /// The smallest bit pattern of a positive float whose code is not 0 (ternary) or that is not 0 (binary), among patterns below `end`, the
    /// pattern of infinity; `end` if there is none. `value` gives the float of a pattern and grows with it.
    pub fn least(&self, end: u32, value: impl Fn(u32) -> f32) -> u32 {
        if self.rule == WeightRule::BinaryMean {
            return 1;
        }
        let (mut low, mut high) = (1, end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.code(value(middle)) == 0 {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
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
    let most = row.iter().fold(0f32, |m, w| if w.abs() > m { w.abs() } else { m });
    let t = qmax / most.max(1e-5);
    for (c, w) in codes.iter_mut().zip(row) {
        // |w t| < 2^22: adding and taking away 1.5 * 2^23 rounds to the nearest integer, halves to even.
        let rounded = (w * t + 12_582_912.0) - 12_582_912.0;
        *c = rounded.clamp(-qmax, qmax) as i32;
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

    #[test]
    fn the_threshold_splits_codes_as_rounding_does() {
        for m in [1e-9f32, 0.013, 0.75, 4e30] {
            let f = Fit::new(WeightRule::TernaryAbsmean, mean(&[m]));
            let value = |b: u32| f32::from_bits(b << 16);
            let least = f.least(0x7F80, value);
            for b in (least.saturating_sub(300)..(least + 300).min(0x7F80)).chain([0, 1, 0x7F7F]) {
                assert_eq!(f.code(value(b)), i32::from(b >= least), "{m} {b:#x}");
                assert_eq!(f.code(-value(b)), -i32::from(b >= least), "{m} {b:#x}");
            }
        }
    }

    #[test]
    fn rounding_by_addition_is_rounding() {
        let row: Vec<f32> = (-2000..=2000).map(|i| i as f32 / 8.0).collect();
        let mut codes = vec![0; row.len()];
        absmax_row(&row, 250.0, &mut codes);
        row.iter().zip(codes).for_each(|(w, c)| assert_eq!(c, w.round_ties_even() as i32));
    }
}
