//! Inner products of one row with the codes of a token: the inner loop of LINEAR, in exchangeable kernels.
//!
//! The naive loops here are the definition. A new kernel is added to [`DotKernel::available`] and gets the whole test-suite by that.

use crate::encoding::lowbit::Encoding;
use std::sync::OnceLock;

/// Codes of one token, in the forms that kernels want. Both are zero-padded to a multiple of 64 elements.
#[derive(Debug, Clone, Default)]
pub struct Codes {
    pub wide: Vec<i16>,
    /// The same values as bytes, if they fit (Qmax ≤ 127); else empty.
    pub narrow: Vec<i8>,
    pub len: usize,
}

impl Codes {
    pub fn new(codes: &[i32], qmax: u32) -> Self {
        let padded = codes.len().next_multiple_of(64);
        let mut wide = vec![0i16; padded];
        for (w, &c) in wide.iter_mut().zip(codes) {
            *w = c as i16;
        }
        let narrow = if qmax <= 127 { wide.iter().map(|&w| w as i8).collect() } else { Vec::new() };
        Codes { wide, narrow, len: codes.len() }
    }
}

/// Which implementation computes inner products. All give the same integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DotKernel {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl DotKernel {
    /// Every kernel for this kind of processor, the definition first.
    pub fn all() -> Vec<DotKernel> {
        vec![
            DotKernel::Scalar,
            #[cfg(target_arch = "x86_64")]
            DotKernel::Avx2,
            #[cfg(target_arch = "x86_64")]
            DotKernel::Avx512,
            #[cfg(target_arch = "aarch64")]
            DotKernel::Neon,
        ]
    }

    /// The kernels that this machine can run, the definition first. One that does not agree with the definition on a trial is not among them.
    pub fn available() -> Vec<DotKernel> {
        static AVAILABLE: OnceLock<Vec<DotKernel>> = OnceLock::new();
        let find = || DotKernel::all().into_iter().filter(|k| k.runs_here() && k.agrees()).collect();
        AVAILABLE.get_or_init(find).clone()
    }

    fn runs_here(self) -> bool {
        match self {
            DotKernel::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            DotKernel::Avx2 => std::arch::is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            DotKernel::Avx512 => {
                std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("avx512bw")
            }
            #[cfg(target_arch = "aarch64")]
            DotKernel::Neon => true,
        }
    }

    /// Whether it gives the sums of the definition on scattered rows of every encoding.
    fn agrees(self) -> bool {
        let mut state = 1u32;
        let mut next = |n: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((u64::from(state) * u64::from(n)) >> 32) as i32
        };
        [(127, 203), (i32::from(i16::MAX), 75)].into_iter().all(|(qmax, cols)| {
            let codes: Vec<i32> = (0..cols).map(|_| next(2 * qmax as u32 + 1) - qmax).collect();
            let x = Codes::new(&codes, qmax as u32);
            [Encoding::Binary1, Encoding::Ternary2, Encoding::Int8, Encoding::Int16].into_iter().all(|enc| {
                let weights: Vec<i32> = (0..cols)
                    .map(|_| match enc {
                        Encoding::Binary1 => 2 * next(2) - 1,
                        Encoding::Ternary2 => next(3) - 1,
                        _ => next(2 * enc.wmax() as u32) - enc.wmax() as i32,
                    })
                    .collect();
                let mut row = vec![0; enc.stride(cols)];
                enc.pack_row(&weights, &mut row);
                self.dot(enc, &row, cols, 0, cols, &x) == naive(enc, &row, cols, 0, cols, &x)
            })
        })
    }

    /// The fastest available one, unless `BITNET_KERNEL` names another.
    pub fn best() -> DotKernel {
        let all = DotKernel::available();
        let wanted = std::env::var("BITNET_KERNEL").ok();
        let named = wanted.and_then(|w| all.iter().copied().find(|k| k.name() == w));
        named.unwrap_or(all[all.len() - 1])
    }

    pub fn name(self) -> &'static str {
        match self {
            DotKernel::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            DotKernel::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            DotKernel::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            DotKernel::Neon => "neon",
        }
    }

    /// `sum w[c] * x[c]` over the columns `first .. first + cols` of a row of `total` columns. `first` is a multiple of 32.
    /// `row` is the whole row as stored.
    pub fn dot(self, enc: Encoding, row: &[u8], total: usize, first: usize, cols: usize, x: &Codes) -> i64 {
        match self {
            DotKernel::Scalar => naive(enc, row, total, first, cols, x),
            #[cfg(target_arch = "x86_64")]
            DotKernel::Avx2 => super::x86_64::dot(enc, row, total, first, cols, x),
            #[cfg(target_arch = "x86_64")]
            DotKernel::Avx512 => super::avx512::dot(enc, row, total, first, cols, x),
            #[cfg(target_arch = "aarch64")]
            DotKernel::Neon => super::aarch64::dot(enc, row, total, first, cols, x),
        }
    }
}

/// The definition.
pub fn naive(enc: Encoding, row: &[u8], total: usize, first: usize, cols: usize, x: &Codes) -> i64 {
    (first..first + cols).map(|i| i64::from(enc.get(row, total, i)) * i64::from(x.wide[i])).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lcg(state: &mut u64) -> u32 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as u32
    }

    #[test]
    fn every_kernel_equals_the_definition() {
        let mut seed = 7;
        let lengths = [1usize, 2, 7, 31, 32, 33, 63, 64, 65, 95, 96, 127, 128, 129, 255, 256, 257, 1000, 4100];
        for kernel in DotKernel::available() {
            for &cols in &lengths {
                for qmax in [2u32, 7, 127, 32_767] {
                    for extreme in [false, true] {
                        let q = |s: &mut u64| (lcg(s) % (2 * qmax + 1)) as i32 - qmax as i32;
                        let codes: Vec<i32> =
                            (0..cols).map(|_| if extreme { -(qmax as i32) } else { q(&mut seed) }).collect();
                        let x = Codes::new(&codes, qmax);
                        // What a host kernel reads; the others are turned into these.
                        for enc in [Encoding::Binary1, Encoding::Ternary2, Encoding::Int8, Encoding::Int16] {
                            let w: Vec<i32> = (0..cols)
                                .map(|_| match enc {
                                    Encoding::Int16 if extreme => -32_768,
                                    _ if extreme => -1,
                                    Encoding::Binary1 => (lcg(&mut seed) % 2) as i32 * 2 - 1,
                                    Encoding::Ternary2 => (lcg(&mut seed) % 3) as i32 - 1,
                                    Encoding::Int16 => (lcg(&mut seed) % 65_536) as i32 - 32_768,
                                    _ => (lcg(&mut seed) % 256) as i32 - 128,
                                })
                                .collect();
                            let mut row = vec![0; enc.stride(cols)];
                            enc.pack_row(&w, &mut row);
                            let want: i64 = w.iter().zip(&codes).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum();
                            let got = kernel.dot(enc, &row, cols, 0, cols, &x);
                            assert_eq!(got, want, "{} {enc:?} cols {cols} qmax {qmax}", kernel.name());
                            let mut sum = 0;
                            for first in (0..cols).step_by(32) {
                                sum += kernel.dot(enc, &row, cols, first, 32.min(cols - first), &x);
                            }
                            assert_eq!(sum, want, "{} {enc:?} in groups", kernel.name());
                        }
                    }
                }
            }
        }
    }
}
