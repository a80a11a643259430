//! The two tables of docs/semantics.md section 4 and the functions read from them.

use crate::encoding::fixed::rsr;
use std::sync::OnceLock;

pub const EXP2_LEN: usize = 513;
pub const SIN_LEN: usize = 1025;
/// Bytes of the tables section.
pub const TABLES_BYTES: usize = 4 * (EXP2_LEN + SIN_LEN);

/// Values of the tables; the same for every model.
pub struct Tables {
    /// 2^(-i/512), 30 fraction bits.
    pub exp2: [u32; EXP2_LEN],
    /// sin of a quarter turn in 1024 steps, 30 fraction bits.
    pub sin: [i32; SIN_LEN],
}

/// The tables, computed once. `libm` is pure Rust, so they are the same on every machine; a test pins their digest.
pub fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| {
        let one = f64::from(1 << 30);
        Tables {
            exp2: std::array::from_fn(|i| libm::round(one * libm::exp2(-(i as f64) / 512.0)) as u32),
            sin: std::array::from_fn(|i| {
                libm::round(one * libm::sin(std::f64::consts::FRAC_PI_2 * i as f64 / 1024.0)) as i32
            }),
        }
    })
}

impl Tables {
    /// The tables section of a packed file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let words = self.exp2.iter().map(|v| v.to_le_bytes());
        words.chain(self.sin.iter().map(|v| v.to_le_bytes())).flatten().collect()
    }

    /// 2^(-d / 2^20) with 30 fraction bits.
    pub fn exp2n(&self, d: u32) -> u32 {
        let (n, i, r) = (d >> 20, (d >> 11 & 511) as usize, d & 2047);
        if n >= 31 {
            return 0;
        }
        let e = self.exp2[i] - (((self.exp2[i] - self.exp2[i + 1]) * r + 1024) >> 11);
        rsr(i64::from(e), n) as u32
    }

    /// Sine of a phase (2^32 is a full turn) with 30 fraction bits.
    pub fn sin(&self, phase: u32) -> i32 {
        let k = phase >> 30;
        let mut u = phase & ((1 << 30) - 1);
        if k & 1 == 1 {
            u = (1 << 30) - u;
        }
        let (i, r) = ((u >> 20) as usize, i64::from(u & 0xF_FFFF));
        let v = if r == 0 {
            self.sin[i]
        } else {
            self.sin[i] + rsr(i64::from(self.sin[i + 1] - self.sin[i]) * r, 20) as i32
        };
        if k < 2 {
            v
        } else {
            -v
        }
    }

    /// Cosine of a phase.
    pub fn cos(&self, phase: u32) -> i32 {
        self.sin(phase.wrapping_add(1 << 30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_as_documented() {
        let t = tables();
        let (mut exp_err, mut sin_err) = (0f64, 0f64);
        for k in 0..200_000u32 {
            let d = k.wrapping_mul(2_654_435_761) >> 8; // below 2^24: at most 16 halvings
            let want = libm::exp2(-f64::from(d) / f64::from(1 << 20));
            let got = f64::from(t.exp2n(d)) / f64::from(1 << 30);
            exp_err = exp_err.max((got - want).abs() / want - 2f64.powi(-31) / want);
            let p = k.wrapping_mul(2_654_435_761);
            let want = libm::sin(std::f64::consts::TAU * f64::from(p) / 2f64.powi(32));
            sin_err = sin_err.max((f64::from(t.sin(p)) / f64::from(1 << 30) - want).abs());
        }
        assert!(exp_err < 2.4e-7, "{exp_err}");
        assert!(sin_err < 3.1e-7, "{sin_err}");
    }

    #[test]
    fn bytes_are_pinned() {
        let b = tables().to_bytes();
        assert_eq!(b.len(), TABLES_BYTES);
        assert_eq!(crate::digest::crc32(&b), TABLES_CRC);
    }

    /// Changing the tables is a new version of the semantics.
    const TABLES_CRC: u32 = 3220273660;
}
