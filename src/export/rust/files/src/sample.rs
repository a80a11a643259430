//! The choice of a token (section 6 of the semantics).

use crate::math::{Scale, LOG2E};
use crate::model::Model;
use crate::status::{Result, Status};

/// Most candidates of [`Sampler`].
pub const MAX_TOP_K: usize = 64;

/// The lowest id among the largest logits; 0 if there are none.
pub fn argmax(logits: &[i32]) -> u32 {
    let mut best = (0, i32::MIN);
    for (i, l) in logits.iter().enumerate() {
        if *l > best.1 {
            best = (i as u32, *l);
        }
    }
    best.0
}

/// Draws tokens with a temperature from the largest logits, equal on every machine.
pub struct Sampler {
    inverse_temperature: Scale,
    top_k: usize,
    state: u32,
}

impl Sampler {
    /// A temperature of numerator / denominator.
    ///
    /// # Errors
    /// `Config` if one of them is 0, or top_k is not in 1 ..= [`MAX_TOP_K`].
    pub fn new(numerator: u32, denominator: u32, top_k: usize, seed: u32) -> Result<Sampler> {
        if numerator == 0 || denominator == 0 || !(1..=MAX_TOP_K).contains(&top_k) {
            return Err(Status::Config);
        }
        let ratio = Scale::norm(denominator.into(), 0).mul(Scale::norm(numerator.into(), 0).inv());
        Ok(Sampler { inverse_temperature: LOG2E.shl(-16).mul(ratio), top_k, state: seed.max(1) })
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

    /// The next token; 0 for no logits.
    pub fn sample(&mut self, model: &Model, logits: &[i32]) -> u32 {
        // Logit and id, the largest first, the lowest id first of equals.
        let mut best = [(0i32, 0u32); MAX_TOP_K];
        let mut count = 0;
        for (id, &l) in logits.iter().enumerate() {
            if count == self.top_k && l <= best[count - 1].0 {
                continue;
            }
            count = self.top_k.min(count + 1);
            let mut k = count - 1;
            while k > 0 && l > best[k - 1].0 {
                best[k] = best[k - 1];
                k -= 1;
            }
            best[k] = (l, id as u32);
        }
        let f = self.inverse_temperature.factor(20);
        let top = f.times(best[0].0);
        let mut weights = [0u32; MAX_TOP_K];
        let mut total = 0u64;
        for (w, (l, _)) in weights.iter_mut().zip(&best[..count]) {
            *w = model.tables.exp2n((top as u32).wrapping_sub(f.times(*l) as u32));
            total += u64::from(*w);
        }
        let x = u64::from(self.next());
        // x * total / 2^32, up to 68 bits before.
        let y = x * (total >> 32) + (x * (total & 0xFFFF_FFFF) >> 32);
        let mut sum = 0u64;
        for (w, (_, id)) in weights.iter().zip(&best[..count]) {
            sum += u64::from(*w);
            if sum > y {
                return *id;
            }
        }
        best[count.saturating_sub(1)].1
    }
}
