//! Elementary integer functions and scales: docs/semantics.md sections 1 and 2, which are normative.

use crate::limits::MAX_EXPONENT;

/// Largest magnitude of an element of an i32 vector; -2^31 never occurs.
pub const I32_LIMIT: i64 = i32::MAX as i64;

/// Bits of an unsigned value, 0 for 0.
pub fn bitlen(v: u64) -> u32 {
    64 - v.leading_zeros()
}

/// Rounding shift right, halves towards +infinity; 0 for s ≥ 63. |v| ≤ 2^62.
pub fn rsr(v: i64, s: u32) -> i64 {
    match s {
        0 => v,
        1..=62 => (v + (1 << (s - 1))) >> s,
        _ => 0,
    }
}

/// Limits to `-(2^31 - 1) ..= 2^31 - 1`.
pub fn sat(v: i64) -> i32 {
    v.clamp(-I32_LIMIT, I32_LIMIT) as i32
}

/// Shift right with rounding (s ≥ 0) or left (s < 0), limited to an i32.
pub fn shift(v: i64, s: i32) -> i32 {
    if s >= 0 {
        return sat(rsr(v, s as u32));
    }
    let k = s.unsigned_abs();
    // A non-zero value shifted by 31 or more is beyond the limit whatever it is.
    if v == 0 {
        0
    } else if k >= 31 || v.abs() > I32_LIMIT >> k {
        sat(if v < 0 { -I32_LIMIT } else { I32_LIMIT })
    } else {
        (v << k) as i32
    }
}

/// a / b rounded to nearest, halves to even. b > 0, |a| < 2^62.
pub fn rhe(a: i64, b: i64) -> i64 {
    let q = a.div_euclid(b);
    let r2 = 2 * a.rem_euclid(b);
    if r2 > b || (r2 == b && q & 1 == 1) {
        q + 1
    } else {
        q
    }
}

/// floor(2^61 / m) for m in 2^30 ..= 2^31.
pub fn recip(m: u32) -> u32 {
    // 2^61 / 2^30 = 2^31 is the largest result.
    ((1u64 << 61) / u64::from(m)) as u32
}

/// floor(sqrt(v)).
pub fn isqrt(v: u64) -> u32 {
    v.isqrt() as u32
}

/// A positive real m * 2^e, m in 2^30 .. 2^31.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    pub m: u32,
    pub e: i32,
}

/// log2(e) of the natural logarithm's base, for exponentials in base 2.
pub const LOG2E: Scale = Scale { m: 1_549_082_005, e: -30 };

// Named methods, not operators: they round, and a reader should see that a function is called.
#[allow(clippy::should_implement_trait)]
impl Scale {
    pub const ONE: Scale = Scale { m: 1 << 30, e: -30 };

    /// 2^k.
    pub const fn pow2(k: i32) -> Scale {
        Scale { m: 1 << 30, e: k - 30 }
    }

    /// Whether m is normalised.
    pub fn is_valid(self) -> bool {
        (1 << 30..1 << 31).contains(&self.m)
    }

    /// v * 2^e rounded to a scale; v > 0.
    pub fn norm(v: u64, e: i32) -> Scale {
        let n = bitlen(v) as i32;
        let e = e.saturating_add(n - 31);
        if n <= 31 {
            return Scale { m: (v << (31 - n)) as u32, e: limit(e) };
        }
        let s = n - 31;
        let m = (v >> s) + ((v >> (s - 1)) & 1);
        if m == 1 << 31 {
            Scale { m: 1 << 30, e: limit(e + 1) }
        } else {
            Scale { m: m as u32, e: limit(e) }
        }
    }

    pub fn mul(self, b: Scale) -> Scale {
        Scale::norm(u64::from(self.m) * u64::from(b.m), self.e + b.e)
    }

    pub fn inv(self) -> Scale {
        Scale::norm(u64::from(recip(self.m)), -61 - self.e)
    }

    pub fn add(self, other: Scale) -> Scale {
        let (a, b) = if other.e > self.e { (other, self) } else { (self, other) };
        let d = (a.e - b.e) as u32;
        Scale::norm(u64::from(a.m) + rsr(i64::from(b.m), d) as u64, a.e)
    }

    pub fn sqrt(self) -> Scale {
        let odd = self.e & 1;
        Scale::norm(u64::from(isqrt(u64::from(self.m) << (30 + odd))), (self.e - 30 - odd) / 2)
    }

    pub fn less(self, b: Scale) -> bool {
        (self.e, self.m) < (b.e, b.m)
    }

    /// times 2^k
    pub fn shl(self, k: i32) -> Scale {
        Scale { m: self.m, e: limit(self.e.saturating_add(k)) }
    }

    /// x times the scale, as fixed point with `frac` fraction bits.
    pub fn apply(self, x: i32, frac: i32) -> i32 {
        shift(i64::from(x) * i64::from(self.m), -(self.e + frac))
    }

    /// The nearest scale of a positive finite real, ties to even; for the converter only.
    pub fn from_f64(v: f64) -> Option<Scale> {
        if !(v.is_finite() && v > 0.0) {
            return None;
        }
        let (frac, exp) = libm::frexp(v);
        let m = libm::rint(frac * 2f64.powi(31)) as u64;
        Some(if m == 1 << 31 { Scale { m: 1 << 30, e: exp - 30 } } else { Scale { m: m as u32, e: exp - 31 } })
    }

    /// For reports only; never on the way to an integer.
    pub fn to_f64(self) -> f64 {
        libm::ldexp(f64::from(self.m), self.e)
    }
}

pub(crate) fn limit(e: i32) -> i32 {
    e.clamp(-MAX_EXPONENT, MAX_EXPONENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_arithmetic_is_close_to_the_reals() {
        let values = [1.0, 3.7e-9, 0.1, 127.0, 6.02e23, 1.0 / 3.0, 2.0 - 1e-9];
        for a in values {
            let sa = Scale::from_f64(a).unwrap();
            assert!((sa.to_f64() / a - 1.0).abs() < 1e-9);
            assert!((sa.inv().to_f64() * a - 1.0).abs() < 3e-9, "{a}");
            assert!((sa.sqrt().to_f64() / a.sqrt() - 1.0).abs() < 3e-9, "{a}");
            for b in values {
                let sb = Scale::from_f64(b).unwrap();
                assert!((sa.mul(sb).to_f64() / (a * b) - 1.0).abs() < 3e-9);
                assert!((sa.add(sb).to_f64() / (a + b) - 1.0).abs() < 3e-9);
                assert_eq!(sa.less(sb), a < b);
            }
        }
    }

    #[test]
    fn exponents_never_run_away() {
        let mut s = Scale { m: (1 << 31) - 1, e: 4096 };
        for _ in 0..100 {
            s = s.mul(s);
        }
        assert_eq!(s.e, MAX_EXPONENT);
        assert_eq!(s.apply(1, 0), i32::MAX);
        assert_eq!(s.inv().apply(i32::MAX, 0), 0);
    }

    #[test]
    fn from_f64_rejects_what_is_no_positive_real() {
        for v in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Scale::from_f64(v), None);
        }
    }
}
