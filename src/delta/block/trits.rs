//! Trits: which symbols of a word or a byte are 0, and finding the one that changes.

/// Sum over bytes of five trits: how many are 0, and [`INVALID`] for each byte that is no code.
pub const ZEROS: [u16; 256] = {
    let mut table = [INVALID; 256];
    let mut b = 0;
    while b < 256 {
        if b % 28 < 27 && b < 251 {
            let (low, high) = (b % 28, b / 28);
            let digits = [low % 3, low / 3 % 3, low / 9, high % 3, high / 3];
            let (mut i, mut zeros) = (0, 0);
            while i < 5 {
                zeros += (digits[i] == 1) as u16;
                i += 1;
            }
            table[b] = zeros;
        }
        b += 1;
    }
    table
};

/// More than the zeros of any number of bytes that are added up at once.
pub const INVALID: u16 = 1 << 10;

/// What a trit of each place adds to a byte.
pub const PLACES: [u8; 5] = [1, 3, 9, 28, 84];

/// The five digits of a byte that is a code: 0 for -1, 1 for 0, 2 for +1.
pub fn digits(b: u8) -> [u8; 5] {
    let (low, high) = (b % 28, b / 28);
    [low % 3, low / 3 % 3, low / 9, high % 3, high / 3]
}

/// A word of 64 symbols, or of fewer: which are 0, and which are not.
#[derive(Clone, Copy)]
pub struct Word {
    pub zeros: u64,
    pub others: u64,
}

impl Word {
    /// Of the first `bytes` bytes of both halves.
    #[inline(always)]
    pub fn new(plus: u64, minus: u64, bytes: usize) -> Word {
        let valid = if bytes >= 8 { u64::MAX } else { !(u64::MAX << (8 * bytes)) };
        let others = plus | minus;
        Word { zeros: !others & valid, others: others & valid }
    }

    #[inline(always)]
    pub fn counts(self) -> (u64, u64) {
        (u64::from(self.zeros.count_ones()), u64::from(self.others.count_ones()))
    }

    /// What lies before place `i`, and what lies behind it.
    #[inline(always)]
    pub fn split(self, i: u32) -> (Word, Word) {
        let below = !(u64::MAX << i);
        let above = u64::MAX << i << 1;
        let part = |mask| Word { zeros: self.zeros & mask, others: self.others & mask };
        (part(below), part(above))
    }
}

/// The place of bit `n` of those that are set, counted from 0; 64 if there are not so many.
#[inline(always)]
pub fn select(mut mask: u64, n: u64) -> u32 {
    if n >= 64 {
        return 64;
    }
    let mut n = n as u32;
    let mut at = 0;
    // Halves that end before it are left behind.
    for width in [32, 16, 8] {
        let low = (mask & !(u64::MAX << width)).count_ones();
        if n >= low {
            n -= low;
            mask >>= width;
            at += width;
        }
    }
    for _ in 0..n {
        mask &= mask.wrapping_sub(1);
    }
    at + mask.trailing_zeros().min(64 - at)
}

/// Up to eight bytes as a word, zeros behind them.
#[inline(always)]
pub fn load(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(word) => u64::from_le_bytes(*word),
        None => {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_selected() {
        for mask in [0, 1, 1 << 63, u64::MAX, 0x8000_0001_0000_8001, 0x0f0f_1234_5678_00ff] {
            let places: Vec<u32> = (0..64).filter(|i| mask >> i & 1 == 1).collect();
            for n in 0..70 {
                assert_eq!(select(mask, n), places.get(n as usize).copied().unwrap_or(64), "{mask:#x} {n}");
            }
        }
    }

    #[test]
    fn codes_of_five_trits() {
        let valid: Vec<u8> = (0..=255).filter(|b| ZEROS[usize::from(*b)] < INVALID).collect();
        assert_eq!(valid.len(), 243);
        for b in valid {
            let d = digits(b);
            assert_eq!((0..5).map(|i| u32::from(d[i]) * u32::from(PLACES[i])).sum::<u32>(), u32::from(b));
            assert_eq!(usize::from(ZEROS[usize::from(b)]), d.iter().filter(|d| **d == 1).count());
        }
    }
}
