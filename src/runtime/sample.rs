//! Choosing a token, in integers: docs/semantics.md section 6.

use crate::encoding::fixed::{Scale, LOG2E};
use crate::kernels::tables::tables;

/// The lowest id among the largest logits; 0 for no logits.
pub fn argmax(logits: &[i32]) -> u32 {
    let mut best = 0;
    for (i, l) in logits.iter().enumerate() {
        if *l > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// Most candidates of sampling.
pub const MAX_TOP_K: usize = 64;

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Choice {
    Greedy,
    /// `inverse` is log2(e) / temperature / 65,536 as a scale.
    Sample {
        inverse: Scale,
        top_k: usize,
    },
}

impl Choice {
    /// A temperature in thousandths, so that a device computes the same scale from the same two integers. 0 is greedy.
    /// None if it is no number from 0 to a million, or too small to be a thousandth.
    pub fn from_temperature(temperature: f64, top_k: usize) -> Option<Choice> {
        let thousandths = (temperature * 1000.0).round();
        if !(0.0..=1e9).contains(&thousandths) {
            return None;
        }
        if thousandths == 0.0 {
            return (temperature == 0.0).then_some(Choice::Greedy);
        }
        let ratio = Scale::norm(1000, 0).mul(Scale::norm(thousandths as u64, 0).inv());
        Some(Choice::Sample { inverse: LOG2E.shl(-16).mul(ratio), top_k: top_k.clamp(1, MAX_TOP_K) })
    }
}

/// Chooses tokens; the state is that of the generator.
pub struct Sampler {
    choice: Choice,
    state: u32,
}

impl Sampler {
    pub fn new(choice: Choice, seed: u32) -> Self {
        Sampler { choice, state: seed.max(1) }
    }

    /// xorshift32 of Marsaglia, "Xorshift RNGs" (2003).
    fn next(&mut self) -> u32 {
        let mut x = self.state;
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.state = x;
        x
    }

    pub fn choose(&mut self, logits: &[i32]) -> u32 {
        let Choice::Sample { inverse, top_k } = self.choice else { return argmax(logits) };
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let key = |id: &u32| (std::cmp::Reverse(logits[*id as usize]), *id);
        if top_k < order.len() {
            order.select_nth_unstable_by_key(top_k, key);
            order.truncate(top_k);
        }
        order.sort_unstable_by_key(key);
        let t: Vec<i32> = order.iter().map(|id| inverse.apply(logits[*id as usize], 20)).collect();
        let most = i64::from(t.first().copied().unwrap_or(0));
        let e: Vec<u64> = t.iter().map(|t| u64::from(tables().exp2n((most - i64::from(*t)) as u32))).collect();
        let total: u64 = e.iter().sum();
        let y = ((u128::from(self.next()) * u128::from(total)) >> 32) as u64;
        let mut sum = 0;
        for (id, e) in order.iter().zip(&e) {
            sum += e;
            if sum > y {
                return *id;
            }
        }
        order.first().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lowest_id() {
        assert_eq!(argmax(&[1, 7, 7, 3]), 1);
        assert_eq!(argmax(&[]), 0);
    }

    #[test]
    fn sampling_follows_the_distribution() {
        // Logits ln 1, ln 2, ln 5 at temperature 1: shares 1/8, 2/8, 5/8.
        let logits: Vec<i32> = [1.0f64, 2.0, 5.0].iter().map(|p| (p.ln() * 65_536.0).round() as i32).collect();
        let mut s = Sampler::new(Choice::from_temperature(1.0, 40).unwrap(), 42);
        let mut seen = [0; 3];
        for _ in 0..80_000 {
            seen[s.choose(&logits) as usize] += 1;
        }
        for (n, share) in seen.iter().zip([0.125, 0.25, 0.625]) {
            assert!((f64::from(*n) / 80_000.0 - share).abs() < 0.01, "{seen:?}");
        }
        let mut one = Sampler::new(Choice::from_temperature(1.0, 1).unwrap(), 1);
        assert_eq!(one.choose(&logits), 2);
        assert!(Choice::from_temperature(-1.0, 1).is_none());
    }
}
