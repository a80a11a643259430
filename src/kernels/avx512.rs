//! AVX-512 inner products of binary and ternary rows: 64 weight bits are a mask register as they stand. Other rows use AVX2.

use super::dot::Codes;
use super::x86_64;
use crate::encoding::lowbit::Encoding;
use std::arch::x86_64::*;

/// Dispatches as [`x86_64::dot`].
pub fn dot(enc: Encoding, row: &[u8], total: usize, first: usize, cols: usize, x: &Codes) -> i64 {
    let bytes = 4 * cols.div_ceil(32);
    match enc {
        Encoding::Binary1 if !x.narrow.is_empty() => {
            let x = &x.narrow[first..first + 8 * bytes];
            // SAFETY: `DotKernel::available` offers this kernel only where AVX-512BW was detected; the slices have 8 columns a byte.
            let (plus, all) = unsafe { (sum_where(&row[first / 8..][..bytes], x), sum(x)) };
            i64::from(2 * plus - all)
        }
        Encoding::Ternary2 if !x.narrow.is_empty() => {
            let x = &x.narrow[first..first + 8 * bytes];
            let (plus, minus) = row.split_at(4 * total.div_ceil(32));
            // SAFETY: as above.
            i64::from(unsafe { sum_where(&plus[first / 8..][..bytes], x) - sum_where(&minus[first / 8..][..bytes], x) })
        }
        _ => x86_64::dot(enc, row, total, first, cols, x),
    }
}

/// Adds 64 signed bytes to sixteen i32 sums.
#[target_feature(enable = "avx512f,avx512bw")]
fn add_bytes(acc: __m512i, v: __m512i) -> __m512i {
    let pairs = _mm512_maddubs_epi16(_mm512_set1_epi8(1), v);
    _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
}

/// The first `x.len()` ≤ 64 codes, zeros behind them, where `bits` is set.
#[target_feature(enable = "avx512f,avx512bw")]
fn load(x: &[i8], bits: u64) -> __m512i {
    let there = if x.len() >= 64 { u64::MAX } else { (1 << x.len()) - 1 };
    // SAFETY: masked elements are not read, the others lie in the slice.
    unsafe { _mm512_maskz_loadu_epi8(there & bits, x.as_ptr()) }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn sum(x: &[i8]) -> i32 {
    let all = x.chunks(64).fold(_mm512_setzero_si512(), |acc, c| add_bytes(acc, load(c, u64::MAX)));
    _mm512_reduce_add_epi32(all)
}

#[target_feature(enable = "avx512f,avx512bw")]
fn sum_where(bits: &[u8], x: &[i8]) -> i32 {
    let mut acc = _mm512_setzero_si512();
    for (b, c) in bits.chunks(8).zip(x.chunks(64)) {
        let mut word = [0; 8];
        word[..b.len()].copy_from_slice(b);
        acc = add_bytes(acc, load(c, u64::from_le_bytes(word)));
    }
    _mm512_reduce_add_epi32(acc)
}
