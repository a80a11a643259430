//! AVX2 inner products. Wins from about 64 columns on; shorter rows spend their time in the horizontal sum.

use super::dot::{naive, Codes};
use crate::encoding::lowbit::Encoding;
use std::arch::x86_64::*;

/// Dispatches to the AVX2 kernels where one exists, else to the definition.
pub fn dot(enc: Encoding, row: &[u8], total: usize, first: usize, cols: usize, x: &Codes) -> i64 {
    let words = cols.div_ceil(32);
    match enc {
        Encoding::Binary1 if !x.narrow.is_empty() => {
            let x = &x.narrow[first..first + 32 * words];
            let plus = &row[first / 8..first / 8 + 4 * words];
            // SAFETY: `DotKernel::available` offers this kernel only where AVX2 was detected; the slices have 32 columns a word.
            i64::from(unsafe { binary(plus, x) })
        }
        Encoding::Ternary2 if !x.narrow.is_empty() => {
            let x = &x.narrow[first..first + 32 * words];
            let (plus, minus) = row.split_at(4 * total.div_ceil(32));
            let (plus, minus) = (&plus[first / 8..][..4 * words], &minus[first / 8..][..4 * words]);
            // SAFETY: as above.
            i64::from(unsafe { ternary(plus, minus, x) })
        }
        Encoding::Int8 => {
            let w = &row[first..first + cols];
            // SAFETY: as above; the products of 8-bit weights and 16-bit codes are summed in i64 blocks that cannot overflow.
            unsafe { int8(w, &x.wide[first..first + cols]) }
        }
        Encoding::Int16 => {
            let w = &row[2 * first..2 * (first + cols)];
            // SAFETY: as above; see `int16` for the sums.
            unsafe { int16(w, &x.wide[first..first + cols]) }
        }
        _ => naive(enc, row, total, first, cols, x),
    }
}

/// 32 mask bytes (0 or -1) from 32 bits.
#[target_feature(enable = "avx2")]
fn expand(bits: u32) -> __m256i {
    let spread = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let select = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits as i32), spread);
    _mm256_cmpeq_epi8(_mm256_and_si256(bytes, select), select)
}

/// Words of 32 codes whose sums fit the 16-bit lanes of [`add_signed`]: 128 pairs of at most 2 * 127 stay below 2^15.
const WORDS: usize = 128;

/// Adds 32 codes, each times the sign of its byte in `signs`, to sixteen i16 sums of pairs.
#[target_feature(enable = "avx2")]
fn add_signed(pairs: __m256i, x: __m256i, signs: __m256i) -> __m256i {
    _mm256_add_epi16(pairs, _mm256_maddubs_epi16(_mm256_set1_epi8(1), _mm256_sign_epi8(x, signs)))
}

/// Adds sixteen i16 to eight i32.
#[target_feature(enable = "avx2")]
fn widen(acc: __m256i, pairs: __m256i) -> __m256i {
    _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

#[target_feature(enable = "avx2")]
fn horizontal(v: __m256i) -> i32 {
    let s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    let s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0b01_00_11_10));
    let s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0b10_11_00_01));
    _mm_cvtsi128_si32(s)
}

fn word(b: &[u8]) -> u32 {
    u32::from_le_bytes([b[0], b[1], b[2], b[3]])
}

#[target_feature(enable = "avx2")]
fn load(x: &[i8]) -> __m256i {
    debug_assert_eq!(x.len(), 32);
    // SAFETY: chunks_exact(32) gives 32 readable bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn binary(plus: &[u8], x: &[i8]) -> i32 {
    let mut acc = _mm256_setzero_si256();
    for (plus, x) in plus.chunks(4 * WORDS).zip(x.chunks(32 * WORDS)) {
        let mut pairs = _mm256_setzero_si256();
        for (p, c) in plus.chunks_exact(4).zip(x.chunks_exact(32)) {
            // -1 for a weight of +1, else 1: the sum comes out negated.
            let signs = _mm256_or_si256(expand(word(p)), _mm256_set1_epi8(1));
            pairs = add_signed(pairs, load(c), signs);
        }
        acc = widen(acc, pairs);
    }
    -horizontal(acc)
}

#[target_feature(enable = "avx2")]
fn ternary(plus: &[u8], minus: &[u8], x: &[i8]) -> i32 {
    let mut acc = _mm256_setzero_si256();
    for ((plus, minus), x) in plus.chunks(4 * WORDS).zip(minus.chunks(4 * WORDS)).zip(x.chunks(32 * WORDS)) {
        let mut pairs = _mm256_setzero_si256();
        for ((p, m), c) in plus.chunks_exact(4).zip(minus.chunks_exact(4)).zip(x.chunks_exact(32)) {
            // The planes are disjoint: 1, -1 or 0.
            let signs = _mm256_sub_epi8(expand(word(m)), expand(word(p)));
            pairs = add_signed(pairs, load(c), signs);
        }
        acc = widen(acc, pairs);
    }
    horizontal(acc)
}

#[target_feature(enable = "avx2")]
fn int8(w: &[u8], x: &[i16]) -> i64 {
    let mut total = 0i64;
    // 4096 products of at most 2^7 * 2^15 over 8 lanes stay below 2^31.
    for (w, x) in w.chunks(4096).zip(x.chunks(4096)) {
        let mut acc = _mm256_setzero_si256();
        let (wc, xc) = (w.chunks_exact(16), x.chunks_exact(16));
        for (a, b) in wc.remainder().iter().zip(xc.remainder()) {
            total += i64::from(*a as i8) * i64::from(*b);
        }
        for (a, b) in wc.zip(xc) {
            // SAFETY: both chunks have 16 elements; unaligned loads.
            let (a, b) = unsafe { (_mm_loadu_si128(a.as_ptr().cast()), _mm256_loadu_si256(b.as_ptr().cast())) };
            acc = _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_cvtepi8_epi16(a), b));
        }
        let mut lanes = [0i32; 8];
        // SAFETY: eight i32 are 32 writable bytes.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), acc) };
        total += lanes.iter().map(|&l| i64::from(l)).sum::<i64>();
    }
    total
}

#[target_feature(enable = "avx2")]
fn int16(w: &[u8], x: &[i16]) -> i64 {
    let mut acc = _mm256_setzero_si256();
    let (wc, xc) = (w.chunks_exact(32), x.chunks_exact(16));
    let rest = wc.remainder().chunks_exact(2).zip(xc.remainder());
    let mut total: i64 = rest.map(|(a, b)| i64::from(i16::from_le_bytes([a[0], a[1]])) * i64::from(*b)).sum();
    for (a, b) in wc.zip(xc) {
        // SAFETY: both chunks have 32 bytes; unaligned loads.
        let (a, b) = unsafe { (_mm256_loadu_si256(a.as_ptr().cast()), _mm256_loadu_si256(b.as_ptr().cast())) };
        // Codes are at most 32,767 in magnitude, so a pair of products stays below 2^31 even for weights of -32,768.
        let pairs = _mm256_madd_epi16(a, b);
        let wide = _mm256_add_epi64(
            _mm256_cvtepi32_epi64(_mm256_castsi256_si128(pairs)),
            _mm256_cvtepi32_epi64(_mm256_extracti128_si256(pairs, 1)),
        );
        acc = _mm256_add_epi64(acc, wide);
    }
    let mut lanes = [0i64; 4];
    // SAFETY: four i64 are 32 writable bytes.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), acc) };
    total += lanes.iter().sum::<i64>();
    total
}
