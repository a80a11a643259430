//! Bit planes of codes straight from the bit patterns of floats.
//!
//! Rounding a weight to -1, 0 or 1 asks only whether its magnitude has reached a threshold, and magnitudes of floats of one type are ordered
//! as their bit patterns are. So no float is computed with: `least` is the smallest pattern whose code is not 0.

/// A float type whose values are compared by their bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// bf16 or f16.
    Sixteen,
    /// f32.
    ThirtyTwo,
}

/// Sets the bits of values that are at least `least` in `plus`, and those of values that are at most -`least` in `minus`.
/// `values` are little-endian, finite, and at most eight times as many as a plane has bytes. Planes are overwritten as far as values go.
pub fn planes(width: Width, values: &[u8], least: u32, plus: &mut [u8], minus: &mut [u8]) {
    let done = simd::planes(width, values, least, plus, minus);
    scalar(width, values, least, plus, minus, done);
}

/// From value `start` on, which is a multiple of 8.
fn scalar(width: Width, values: &[u8], least: u32, plus: &mut [u8], minus: &mut [u8], start: usize) {
    let each = |bits: u32, sign: u32| {
        let (reached, negative) = ((bits & !sign) >= least, bits & sign != 0);
        (u8::from(reached && !negative), u8::from(reached && negative))
    };
    let size = if width == Width::Sixteen { 2 } else { 4 };
    let rest = values.get(start * size..).unwrap_or(&[]);
    for ((eight, p), m) in rest.chunks(8 * size).zip(&mut plus[start / 8..]).zip(&mut minus[start / 8..]) {
        (*p, *m) = (0, 0);
        for (i, v) in eight.chunks_exact(size).enumerate() {
            let (a, b) = match *v {
                [a, b] => each(u32::from(u16::from_le_bytes([a, b])), 0x8000),
                [a, b, c, d] => each(u32::from_le_bytes([a, b, c, d]), 0x8000_0000),
                _ => (0, 0),
            };
            *p |= a << i;
            *m |= b << i;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod simd {
    use super::Width;
    use std::arch::x86_64::*;

    /// Sixteen values at a time; returns how many are done. SSE2 is part of the architecture.
    pub fn planes(width: Width, values: &[u8], least: u32, plus: &mut [u8], minus: &mut [u8]) -> usize {
        let size = if width == Width::Sixteen { 2 } else { 4 };
        let blocks = (values.len() / (16 * size)).min(plus.len() / 2).min(minus.len() / 2);
        let out = plus.chunks_exact_mut(2).zip(minus.chunks_exact_mut(2));
        for (block, (p, m)) in values.chunks_exact(16 * size).zip(out) {
            // SAFETY: SSE2 is there on every x86-64; a block has 16 values.
            let (reached, negative) = unsafe {
                match width {
                    Width::Sixteen => sixteen(block, least),
                    Width::ThirtyTwo => thirty_two(block, least),
                }
            };
            p.copy_from_slice(&(reached & !negative).to_le_bytes());
            m.copy_from_slice(&(reached & negative).to_le_bytes());
        }
        16 * blocks
    }

    /// Bits of 16 values: whether the magnitude is reached, and the sign.
    ///
    /// # Safety
    /// `block` has 32 bytes.
    #[inline(always)]
    unsafe fn sixteen(block: &[u8], least: u32) -> (u16, u16) {
        debug_assert_eq!(block.len(), 32);
        // Magnitudes are below 2^15, so that signed comparison is right; `least` is at least 1.
        let below = _mm_set1_epi16(least as i16 - 1);
        let mask = _mm_set1_epi16(0x7FFF);
        let (a, b) = (load(block), load(&block[16..]));
        let reached = _mm_packs_epi16(
            _mm_cmpgt_epi16(_mm_and_si128(a, mask), below),
            _mm_cmpgt_epi16(_mm_and_si128(b, mask), below),
        );
        let negative = _mm_packs_epi16(_mm_srai_epi16(a, 15), _mm_srai_epi16(b, 15));
        (_mm_movemask_epi8(reached) as u16, _mm_movemask_epi8(negative) as u16)
    }

    /// # Safety
    /// `block` has 64 bytes.
    #[inline(always)]
    unsafe fn thirty_two(block: &[u8], least: u32) -> (u16, u16) {
        debug_assert_eq!(block.len(), 64);
        let below = _mm_set1_epi32(least as i32 - 1);
        let mask = _mm_set1_epi32(0x7FFF_FFFF);
        let v = [load(block), load(&block[16..]), load(&block[32..]), load(&block[48..])];
        let join = |v: [__m128i; 4]| {
            let words = _mm_packs_epi16(_mm_packs_epi32(v[0], v[1]), _mm_packs_epi32(v[2], v[3]));
            _mm_movemask_epi8(words) as u16
        };
        let reached = join(v.map(|v| _mm_cmpgt_epi32(_mm_and_si128(v, mask), below)));
        (reached, join(v.map(|v| _mm_srai_epi32(v, 31))))
    }

    /// # Safety
    /// `bytes` has at least 16.
    #[inline(always)]
    unsafe fn load(bytes: &[u8]) -> __m128i {
        debug_assert!(bytes.len() >= 16);
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod simd {
    pub fn planes(_: super::Width, _: &[u8], _: u32, _: &mut [u8], _: &mut [u8]) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_give_the_same_bits() {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        for (width, size, top) in [(Width::Sixteen, 2, 0x7F80u32), (Width::ThirtyTwo, 4, 0x7F80_0000)] {
            for n in 0..100usize {
                let least = match n % 4 {
                    0 => 1,
                    1 => top,
                    _ => 1 + next() % top,
                };
                let mut values = Vec::new();
                for i in 0..n {
                    // Around the threshold, where it matters, and anywhere.
                    let magnitude = if i % 2 == 0 { (least + i as u32 % 3).saturating_sub(1) } else { next() % top };
                    let bits = magnitude.min(top - 1) | (next() & 1) << (8 * size - 1);
                    values.extend_from_slice(&bits.to_le_bytes()[..size]);
                }
                let bytes = n.div_ceil(32) * 4;
                let (mut a, mut b) = ((vec![0; bytes], vec![0; bytes]), (vec![0; bytes], vec![0; bytes]));
                planes(width, &values, least, &mut a.0, &mut a.1);
                scalar(width, &values, least, &mut b.0, &mut b.1, 0);
                assert_eq!(a, b, "{width:?} {n} values, least {least:#x}");
                assert!(a.0.iter().zip(&a.1).all(|(p, m)| p & m == 0));
            }
        }
    }

    #[test]
    fn zeros_of_both_signs_reach_nothing() {
        let (mut p, mut m) = ([9], [9]);
        planes(Width::Sixteen, &[0, 0, 0, 0x80, 1, 0, 1, 0x80], 1, &mut p, &mut m);
        assert_eq!((p, m), ([0b0100], [0b1000]));
    }
}
