//! Exact integer arithmetic of the semantics, sections 1, 2, 4 and 7. No division by a variable is left to the compiler, and 64-bit values
//! are shifted as two words where that is enough, so that small cores need few helper routines.

/// Largest magnitude of an element of a vector; -2^31 never occurs.
pub(crate) const LIMIT: i32 = i32::MAX;

/// Number of bits of v: 0 for 0.
pub(crate) fn bitlen(v: u32) -> u32 {
    32 - v.leading_zeros()
}

pub(crate) fn bitlen64(v: u64) -> u32 {
    match (v >> 32) as u32 {
        0 => bitlen(v as u32),
        high => 32 + bitlen(high),
    }
}

/// Rounding shift right, halves up. The bit below the cut is added after the shift, which cannot overflow.
pub(crate) fn rsr(v: i64, s: u32) -> i64 {
    match s {
        0 => v,
        1..=62 => (v >> s) + ((v >> (s - 1)) & 1),
        _ => 0,
    }
}

/// The same for 32 bits.
pub(crate) fn rsr32(v: i32, s: u32) -> i32 {
    match s {
        0 => v,
        1..=31 => (v >> (s - 1) >> 1) + ((v >> (s - 1)) & 1),
        _ => 0,
    }
}

/// `rsr` where the result is known to fit, |v| <= 2^62; a result that does not fit wraps.
#[inline(always)]
pub(crate) fn narrow(v: i64, s: u32) -> i32 {
    match s {
        33..=62 => ((v >> 32) as i32).wrapping_add(1i32.wrapping_shl(s - 33)) >> (s - 32),
        1..=31 => {
            let v = v.wrapping_add(1i64 << (s - 1)) as u64;
            ((v as u32) >> s | ((v >> 32) as u32) << (32 - s)) as i32
        }
        _ => rsr(v, s) as i32,
    }
}

#[inline(always)]
pub(crate) fn mul(a: i32, b: i32) -> i64 {
    i64::from(a) * i64::from(b)
}

/// Limits to -(2^31 - 1) ..= 2^31 - 1.
#[inline(always)]
pub(crate) fn sat(v: i64) -> i32 {
    v.clamp(-(LIMIT as i64), LIMIT as i64) as i32
}

/// Shift right with rounding (s >= 0) or left (s < 0), limited.
pub(crate) fn shift(v: i64, s: i32) -> i32 {
    if s >= 0 {
        return sat(rsr(v, s as u32));
    }
    if v == 0 {
        0
    } else if s <= -31 || v.unsigned_abs() > LIMIT as u64 {
        if v < 0 {
            -LIMIT
        } else {
            LIMIT
        }
    } else {
        sat(v << s.unsigned_abs())
    }
}

/// floor(2^61 / m) for m in 2^30 ..= 2^31: three Newton steps from a linear start, then the exact remainder decides.
pub(crate) fn recip(m: u32) -> u32 {
    let wide = u64::from(m);
    // 48/17 - 32/17 d with 30 fraction bits; error below 1/17, then 2^-8, 2^-16, 2^-32.
    let mut x = 3_031_741_620u32.wrapping_sub(((wide * 4_042_322_160) >> 32) as u32);
    for _ in 0..3 {
        let y = ((wide * u64::from(x)) >> 31) as u32;
        x = ((u64::from(x) * u64::from(0x8000_0000u32.wrapping_sub(y))) >> 30) as u32;
    }
    let mut rest = (1u64 << 61).wrapping_sub(wide * u64::from(x)) as i64;
    for _ in 0..8 {
        if rest < 0 {
            x = x.wrapping_sub(1);
            rest += wide as i64;
        } else if rest >= wide as i64 {
            x = x.wrapping_add(1);
            rest -= wide as i64;
        } else {
            break;
        }
    }
    x
}

/// floor(sqrt(v)), a bit at a time.
pub(crate) fn isqrt(mut v: u64) -> u32 {
    let (mut root, mut bit) = (0u64, 1u64 << 62);
    for _ in 0..32 {
        if v >= root + bit {
            v -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
        bit >>= 2;
    }
    root as u32
}

/// A positive real m * 2^e, m in 2^30 ..= 2^31 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Mantissa.
    pub m: u32,
    /// Exponent.
    pub e: i32,
}

pub(crate) const LOG2E: Scale = Scale { m: 1_549_082_005, e: -30 };

/// Largest magnitude of an exponent.
const MAX_EXPONENT: i32 = 1 << 20;

impl Scale {
    pub(crate) const ONE: Scale = Scale { m: 1 << 30, e: -30 };

    pub(crate) fn limited(m: u32, e: i32) -> Scale {
        Scale { m, e: e.clamp(-MAX_EXPONENT, MAX_EXPONENT) }
    }

    /// 2^e times 2^30, the form of a vector with fraction bits.
    pub(crate) fn pow2(e: i32) -> Scale {
        Scale::limited(1 << 30, e)
    }

    /// v * 2^e rounded to a scale; v > 0.
    pub(crate) fn norm(v: u64, e: i32) -> Scale {
        let n = bitlen64(v);
        let e = e + n as i32 - 31;
        if n <= 31 {
            return Scale::limited((v as u32) << (31 - n), e);
        }
        match ((v >> (n - 31)) + ((v >> (n - 32)) & 1)) as u32 {
            0x8000_0000 => Scale::limited(1 << 30, e + 1),
            m => Scale::limited(m, e),
        }
    }

    pub(crate) fn mul(self, b: Scale) -> Scale {
        Scale::norm(u64::from(self.m) * u64::from(b.m), self.e + b.e)
    }

    pub(crate) fn inv(self) -> Scale {
        Scale::norm(u64::from(recip(self.m)), -61 - self.e)
    }

    pub(crate) fn add(self, other: Scale) -> Scale {
        let (a, b) = if other.e > self.e { (other, self) } else { (self, other) };
        Scale::norm(u64::from(a.m) + u64::from(rsr32(b.m as i32, (a.e - b.e) as u32) as u32), a.e)
    }

    pub(crate) fn sqrt(self) -> Scale {
        let odd = self.e & 1;
        Scale::norm(u64::from(isqrt(u64::from(self.m) << (30 + odd))), (self.e - 30 - odd) >> 1)
    }

    pub(crate) fn less(self, b: Scale) -> bool {
        (self.e, self.m) < (b.e, b.m)
    }

    /// times 2^k
    pub(crate) fn shl(self, k: i32) -> Scale {
        Scale::limited(self.m, self.e + k)
    }

    /// x times the scale with `frac` fraction bits.
    pub(crate) fn apply(self, x: i32, frac: i32) -> i32 {
        self.factor(frac).times(x)
    }

    pub(crate) fn factor(self, frac: i32) -> Factor {
        Factor { m: self.m as i32, s: -(self.e + frac) }
    }
}

/// A scale prepared for many elements.
#[derive(Clone, Copy)]
pub(crate) struct Factor {
    m: i32,
    s: i32,
}

impl Factor {
    #[inline(always)]
    pub(crate) fn times(self, x: i32) -> i32 {
        match self.s {
            31..=62 => narrow(mul(x, self.m), self.s as u32),
            s => shift(mul(x, self.m), s),
        }
    }
}

/// Division of many values by one: q * x / a, |x| <= a, 1 <= q <= 32,767.
pub(crate) struct Divisor {
    a: u32,
    q: u32,
    recip: u32,
    up: u32,
}

impl Divisor {
    /// a > 0
    pub(crate) fn new(a: u32, q: u32) -> Divisor {
        let up = 31 - bitlen(a);
        Divisor { a, q, recip: recip(a << up), up }
    }

    /// The quotient, too small by less than 2 q units, as whole part and 29 fraction bits.
    #[inline(always)]
    fn close(&self, x: u32) -> (u32, u32) {
        let t = ((u64::from(x << self.up) * u64::from(self.recip)) >> 32) as u32;
        let v = u64::from(t) * u64::from(self.q);
        ((v >> 29) as u32, v as u32 & 0x1FFF_FFFF)
    }

    /// Rounded to nearest, halves to even.
    pub(crate) fn divide(&self, x: i32) -> i32 {
        let (mut q0, part) = self.close(x.unsigned_abs());
        if part > 0x1000_0000 {
            q0 += 1;
        } else if part + 2 * self.q >= 0x1000_0000 {
            let left = u64::from(x.unsigned_abs()) * u64::from(2 * self.q);
            let right = u64::from(self.a) * u64::from(2 * q0 + 1);
            q0 += u32::from(left > right || (left == right && q0 & 1 == 1));
        }
        if x < 0 {
            -(q0 as i32)
        } else {
            q0 as i32
        }
    }

    /// The code of QUANTIZE: a quotient within 2^-17 of a tie counts as the tie and goes to the even code.
    #[inline(always)]
    pub(crate) fn code(&self, x: i32) -> i32 {
        let (mut q0, part) = self.close(x.unsigned_abs());
        if part > 0x1000_1000 {
            q0 += 1;
        } else if part + 2 * self.q > 0x0FFF_F000 {
            q0 = self.code_near_tie(x.unsigned_abs(), q0);
        }
        if x < 0 {
            -(q0 as i32)
        } else {
            q0 as i32
        }
    }

    #[inline(never)]
    fn code_near_tie(&self, x: u32, q0: u32) -> u32 {
        let left = u64::from(x) * u64::from(self.q << 17);
        let half = (q0 << 17) + 0x1_0000;
        if left > u64::from(self.a) * u64::from(half + 1) {
            q0 + 1
        } else if left < u64::from(self.a) * u64::from(half - 1) {
            q0
        } else {
            q0 + (q0 & 1)
        }
    }
}

/// Largest magnitude.
pub(crate) fn max_abs(x: &[i32]) -> u32 {
    let (lo, hi) = x.iter().fold((0, 0), |(lo, hi): (i32, i32), &v| (lo.min(v), hi.max(v)));
    lo.unsigned_abs().max(hi as u32)
}

/// Bit length of the largest magnitude.
pub(crate) fn bits_of(x: &[i32]) -> u32 {
    bitlen(x.iter().fold(0, |any, v| any | v.unsigned_abs()))
}

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mut c, mut k) = (i as u32, 0);
        while k < 8 {
            c = c >> 1 ^ 0xEDB8_8320 & 0u32.wrapping_sub(c & 1);
            k += 1;
        }
        table[i] = c;
        i += 1;
    }
    table
}

static CRC_TABLE: [u32; 256] = crc_table();

/// CRC-32 (IEEE 802.3, as in zlib), fed in parts.
#[derive(Clone, Copy)]
pub(crate) struct Crc(u32);

impl Crc {
    pub(crate) const START: Crc = Crc(u32::MAX);

    pub(crate) fn bytes(self, bytes: &[u8]) -> Crc {
        Crc(bytes.iter().fold(self.0, |c, b| c >> 8 ^ CRC_TABLE[usize::from(c as u8 ^ b)]))
    }

    /// The four bytes of a value, lowest first.
    pub(crate) fn word(self, v: u32) -> Crc {
        self.bytes(&v.to_le_bytes())
    }

    pub(crate) fn scale(self, s: Scale) -> Crc {
        self.word(s.m).word(s.e as u32)
    }

    pub(crate) fn end(self) -> u32 {
        !self.0
    }

    /// What has come so far, to be kept as a word.
    pub(crate) fn state(self) -> u32 {
        self.0
    }

    pub(crate) fn resumed(state: u32) -> Crc {
        Crc(state)
    }
}

/// The two tables of section 4: EXP2 (513 words), then SIN (1,025).
#[derive(Clone, Copy)]
pub(crate) struct Tables<'a>(pub(crate) &'a [u8; TABLES_BYTES]);

pub(crate) const TABLES_BYTES: usize = 6152;

impl Tables<'_> {
    fn at(self, i: usize) -> u32 {
        match self.0.get(4 * i..4 * i + 4) {
            Some([a, b, c, d]) => u32::from_le_bytes([*a, *b, *c, *d]),
            _ => 0,
        }
    }

    /// 2^(-d / 2^20) with 30 fraction bits.
    pub(crate) fn exp2n(self, d: u32) -> u32 {
        let (n, i, r) = (d >> 20, (d >> 11 & 511) as usize, d & 2047);
        if n >= 31 {
            return 0;
        }
        let e = self.at(i);
        let e = e.wrapping_sub(e.wrapping_sub(self.at(i + 1)).wrapping_mul(r).wrapping_add(1024) >> 11);
        rsr32(e as i32, n) as u32
    }

    /// Sine of a phase (2^32 is a full turn) with 30 fraction bits.
    pub(crate) fn sin(self, phase: u32) -> i32 {
        let quadrant = phase >> 30;
        let mut u = phase & 0x3FFF_FFFF;
        if quadrant & 1 == 1 {
            u = 0x4000_0000 - u;
        }
        let (i, r) = (513 + (u >> 20) as usize, u & 0xF_FFFF);
        let mut v = self.at(i) as i32;
        if r != 0 {
            let step = (self.at(i + 1) as i32).wrapping_sub(v);
            v = v.wrapping_add(rsr(i64::from(step) * i64::from(r), 20) as i32);
        }
        if quadrant < 2 {
            v
        } else {
            -v
        }
    }

    pub(crate) fn cos(self, phase: u32) -> i32 {
        self.sin(phase.wrapping_add(1 << 30))
    }
}

/// Whether d divides n (< 2^21): shifted multiples are subtracted.
pub(crate) fn divides(d: u32, mut n: u32) -> bool {
    for i in (0..21).rev() {
        if bitlen(d) + i < 32 && n >= d << i {
            n -= d << i;
        }
    }
    n == 0
}
