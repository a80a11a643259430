//! Distances between changes: how one class of symbols tells which of them change.

use super::streams::{Context, Sink, Source};
use crate::error::{Error, Result};

/// A distance that no block has.
const ENDLESS: u64 = u64::MAX;
/// A Rice quotient beyond the bits of the largest block.
const MAX_QUOTIENT: u64 = 1 << 23;
/// Most ones that a gap may begin with in stream 1.
const MAX_LENGTH: usize = 31;

/// Likelihood that a gap is not 0, for means of 2^(i/8) symbols.
const PRIOR: [u32; 32] = [
    32768, 34187, 35600, 37003, 38390, 39757, 41099, 42411, 43691, 44934, 46138, 47300, 48418, 49491, 50517, 51497,
    52429, 53314, 54152, 54944, 55691, 56394, 57055, 57674, 57835, 58438, 58997, 59514, 59992, 60434, 60842, 61218,
];

/// How the gaps of a class are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// Rice codes with so many low bits, at most 31.
    Rice(u8),
    /// Range coding, at first as if the mean gap were 2^(L/8).
    Range(u8),
}

impl Model {
    pub fn is_rice(self) -> bool {
        matches!(self, Model::Rice(_))
    }
}

/// The model of a class while a block is coded.
#[derive(Clone)]
pub struct Gaps {
    model: Model,
    /// Bits of a gap that are plain.
    low: u32,
    contexts: [Context; 128],
}

impl Default for Gaps {
    fn default() -> Self {
        Gaps { model: Model::Rice(0), low: 0, contexts: [Context::FRESH; 128] }
    }
}

impl Gaps {
    pub fn model(&self) -> Model {
        self.model
    }

    pub fn set(&mut self, model: Model) {
        self.model = model;
        match model {
            Model::Rice(k) => self.low = u32::from(k),
            Model::Range(l) => {
                self.low = (u32::from(l) / 8).saturating_sub(3);
                self.contexts = prior(usize::from(l) - 8 * self.low as usize);
            }
        }
    }

    /// Reads the model of a segment with or without the option Rice.
    pub fn read_model(&mut self, rice: bool, source: &mut Source) {
        self.set(if rice { Model::Rice(source.raw(5) as u8) } else { Model::Range(source.raw(8) as u8) });
    }

    pub fn write_model<S: Sink>(&mut self, model: Model, sink: &mut S) {
        self.set(model);
        match model {
            Model::Rice(k) => sink.raw(u64::from(k), 5),
            Model::Range(l) => sink.raw(u64::from(l), 8),
        }
    }

    /// Unchanged symbols before the next change.
    ///
    /// # Errors
    /// `Input` if the gap is of a length that there is not.
    #[inline(always)]
    pub fn read(&mut self, source: &mut Source) -> Result<u64> {
        if self.model.is_rice() {
            return Ok(match source.zeros(MAX_QUOTIENT) {
                Some(q) => q << self.low | source.raw(self.low),
                None => ENDLESS,
            });
        }
        let mut n = 0;
        while source.bit(&mut self.contexts[n.min(15)]) {
            n += 1;
            if n > MAX_LENGTH {
                return Err(Error::input("the patch is damaged: a distance between changes is too long"));
            }
        }
        let v = read_number(source, &mut self.contexts[16 + 7 * n.min(15)..], n as u32);
        Ok((v - 1) << self.low | source.raw(self.low))
    }

    #[inline(always)]
    pub fn write<S: Sink>(&mut self, gap: u64, sink: &mut S) {
        if self.model.is_rice() {
            sink.zeros(gap >> self.low);
            sink.raw(gap, self.low);
            return;
        }
        let v = (gap >> self.low) + 1;
        let n = v.ilog2() as usize;
        for i in 0..n {
            sink.bit(&mut self.contexts[i.min(15)], true);
        }
        sink.bit(&mut self.contexts[n.min(15)], false);
        write_number(sink, &mut self.contexts[16 + 7 * n.min(15)..], v);
        sink.raw(gap, self.low);
    }
}

/// What follows the length of a number of `n` + 1 bits: its leading one is known, the next three have contexts, the rest is plain.
#[inline(always)]
pub fn read_number(source: &mut Source, contexts: &mut [Context], n: u32) -> u64 {
    let mut v = 1;
    for _ in 0..n.min(3) {
        v = 2 * v + usize::from(source.bit(&mut contexts[v - 1]));
    }
    let rest = n.saturating_sub(3);
    (v as u64) << rest | source.raw(rest)
}

#[inline(always)]
pub fn write_number<S: Sink>(sink: &mut S, contexts: &mut [Context], v: u64) {
    let n = v.ilog2();
    let mut prefix = 1;
    for i in 1..=n.min(3) {
        let bit = v >> (n - i) & 1 == 1;
        sink.bit(&mut contexts[prefix - 1], bit);
        prefix = 2 * prefix + usize::from(bit);
    }
    sink.raw(v, n.saturating_sub(3));
}

/// The contexts of a geometric distribution: 0 ..= 15 the length, then seven for the leading bits of each length.
fn prior(j: usize) -> [Context; 128] {
    let mut r = [0u32; 16];
    r[0] = PRIOR[j.min(31)];
    for i in 1..16 {
        r[i] = (r[i - 1] * r[i - 1]) >> 16;
    }
    let mut contexts = [Context::prior(1 << 15); 128];
    for (context, r) in contexts.iter_mut().zip(r) {
        *context = Context::prior(65536 - r);
    }
    for n in 1..16 {
        for v in 1..8usize {
            let depth = v.ilog2() as usize;
            if depth < n {
                let y = r[n - 1 - depth];
                let p = 65536 - ((54613 * y) >> 16) + ((21845 * ((y * y) >> 16)) >> 16);
                contexts[16 + 7 * n + v - 1] = Context::prior(p);
            }
        }
    }
    contexts
}

#[cfg(test)]
mod tests {
    use super::super::streams::Writer;
    use super::*;

    #[test]
    fn every_model_takes_every_gap() {
        let gaps: Vec<u64> =
            (0..24).flat_map(|i| [(1 << i) - 1, 1 << i, (1 << i) + 1]).chain([0, 5, 8 << 20]).collect();
        let models = (0..=255).map(Model::Range).chain((14..32).map(Model::Rice));
        for model in models {
            let (mut w, mut g) = (Writer::default(), Gaps::default());
            g.write_model(model, &mut w);
            for gap in &gaps {
                g.write(*gap, &mut w);
            }
            let (payload, stream1) = w.finish();
            let (mut s, mut g) = (Source::new(&payload, stream1).unwrap(), Gaps::default());
            g.read_model(model.is_rice(), &mut s);
            assert_eq!(g.model(), model);
            for gap in &gaps {
                assert_eq!(g.read(&mut s).unwrap(), *gap, "{model:?}");
            }
        }
    }

    #[test]
    fn rice_ends_in_zeros_behind_the_stream() {
        let mut s = Source::new(&[0b0010_0010], 0).unwrap();
        let mut g = Gaps::default();
        g.read_model(true, &mut s);
        assert_eq!(g.model(), Model::Rice(2));
        assert_eq!(g.read(&mut s).unwrap(), 0);
        assert_eq!(g.read(&mut s).unwrap(), ENDLESS);
    }

    #[test]
    fn a_gap_of_more_than_31_ones_is_refused() {
        let mut s = Source::new(&[0xff; 64], 64).unwrap();
        let mut g = Gaps::default();
        g.set(Model::Range(0));
        assert!(g.read(&mut s).is_err());
    }
}
