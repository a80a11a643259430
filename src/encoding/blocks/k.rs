//! Blocks of 256 values in groups that have small integer scales of their own.

use super::half;

/// 16 bytes of scale (low nibble) and minimum (high), 64 of codes, d, dmin. 128 values share 32 bytes, two bits each from the lowest.
pub fn q2_k(b: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half(b, 80), half(b, 82));
    for (g, out) in out.chunks_exact_mut(16).enumerate() {
        let (scale, min) = (d * f32::from(b[g] & 15), dmin * f32::from(b[g] >> 4));
        let codes = &b[16 + 32 * (g / 8) + 16 * (g % 2)..];
        let shift = 2 * (g % 8 / 2);
        for (o, q) in out.iter_mut().zip(codes) {
            *o = scale * f32::from(q >> shift & 3) - min;
        }
    }
}

/// 32 bytes of third bits (set = not 4 less), 64 of low bits, 12 of scales, d.
pub fn q3_k(b: &[u8], out: &mut [f32]) {
    let d = half(b, 108);
    let s = &b[96..108];
    for (g, out) in out.chunks_exact_mut(16).enumerate() {
        let low = s[g % 8] >> (4 * (g / 8)) & 15;
        let high = s[8 + g % 4] >> (2 * (g / 4)) & 3;
        let scale = d * (f32::from(low | high << 4) - 32.0);
        let at = 16 * (g % 2);
        let codes = &b[32 + 32 * (g / 8) + at..];
        let shift = 2 * (g % 8 / 2);
        for ((o, q), h) in out.iter_mut().zip(codes).zip(&b[at..]) {
            let third = h >> (g / 2) & 1;
            *o = scale * (f32::from(q >> shift & 3) - 4.0 * f32::from(1 - third));
        }
    }
}

/// Scale and minimum of group `g`: six bits each of twelve bytes. The first four groups hold theirs whole, the others have their high
/// bits above those.
fn scale_min(s: &[u8], g: usize) -> (f32, f32) {
    let (scale, min) = match g {
        0..4 => (s[g] & 63, s[g + 4] & 63),
        _ => (s[g + 4] & 15 | (s[g - 4] >> 6) << 4, s[g + 4] >> 4 | (s[g] >> 6) << 4),
    };
    (f32::from(scale), f32::from(min))
}

/// d, dmin, 12 bytes of scales, 128 of codes: 64 values share 32 bytes.
pub fn q4_k(b: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half(b, 0), half(b, 2));
    for (g, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min(&b[4..16], g);
        let (scale, min) = (d * scale, dmin * min);
        let shift = 4 * (g % 2);
        for (o, q) in out.iter_mut().zip(&b[16 + 32 * (g / 2)..]) {
            *o = scale * f32::from(q >> shift & 15) - min;
        }
    }
}

/// As `q4_k` with 32 bytes of fifth bits before the codes: bit `g` of each belongs to group `g`.
pub fn q5_k(b: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half(b, 0), half(b, 2));
    for (g, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min(&b[4..16], g);
        let (scale, min) = (d * scale, dmin * min);
        let shift = 4 * (g % 2);
        for ((o, q), h) in out.iter_mut().zip(&b[48 + 32 * (g / 2)..]).zip(&b[16..48]) {
            *o = scale * f32::from(q >> shift & 15 | (h >> g & 1) << 4) - min;
        }
    }
}

/// 128 bytes of low nibbles, 64 of high bits, 16 signed scales, d. 128 values share 64 and 32 bytes.
pub fn q6_k(b: &[u8], out: &mut [f32]) {
    let d = half(b, 208);
    for (g, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(b[192 + g] as i8);
        let (part, inner) = (g / 8, g % 8);
        let low = &b[64 * part + 16 * (inner % 4)..];
        let high = &b[128 + 32 * part + 16 * (inner % 2)..];
        let (shift, high_shift) = (4 * (inner / 4), 2 * (inner / 2));
        for ((o, l), h) in out.iter_mut().zip(low).zip(high) {
            let q = l >> shift & 15 | (h >> high_shift & 3) << 4;
            *o = scale * (f32::from(q) - 32.0);
        }
    }
}
