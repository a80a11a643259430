//! What a payload would cost, without writing it.

use super::streams::{Context, Sink};

/// Adds up what bits would cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meter {
    /// Bits of stream 1 in 1/65536.
    coded: u64,
    plain: u64,
}

impl Meter {
    /// Bits of both streams, whole bytes each.
    pub fn bits(self) -> u64 {
        (self.coded >> 16).next_multiple_of(8) + self.plain.next_multiple_of(8)
    }

    /// Bits in 1/65536.
    pub fn exact(self) -> u64 {
        self.coded + (self.plain << 16)
    }
}

/// Bits in 1/65536 that a bit of likelihood i/4096 costs.
static PRICE: [u32; 4096] = {
    let mut price = [16 << 16; 4096];
    let mut i = 1;
    while i < 4096 {
        // log2 by squaring: a number in 1 ..= 2 is 2^31 in 32 bits.
        let log = (i as u32).ilog2();
        let mut x = (i as u64) << (31 - log);
        let mut bits = log;
        let mut n = 0;
        while n < 16 {
            x = (x * x) >> 31;
            let one = x >> 32;
            x >>= one;
            bits = bits << 1 | one as u32;
            n += 1;
        }
        price[i] = (12 << 16) - bits;
        i += 1;
    }
    price
};

impl Sink for Meter {
    #[inline(always)]
    fn bit(&mut self, context: &mut Context, bit: bool) {
        let zero = context.zero() as usize;
        self.coded += u64::from(PRICE[if bit { 4096 - zero } else { zero }]);
        context.update(bit);
    }

    #[inline(always)]
    fn raw(&mut self, _: u64, n: u32) {
        self.plain += u64::from(n);
    }

    fn zeros(&mut self, n: u64) {
        self.plain += n + 1;
    }

    fn align(&mut self) {
        self.plain = self.plain.next_multiple_of(8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.plain += 8 * bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_logarithms() {
        for (i, price) in PRICE.iter().enumerate().skip(1) {
            let exact = 65536.0 * (12.0 - (i as f64).log2());
            assert!((f64::from(*price) - exact).abs() < 2.0, "{i}: {price} {exact}");
        }
    }
}
