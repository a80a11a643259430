//! Blocks of 32 values with one scale. The first half of the values is in the low nibbles, the second half in the high ones.

use super::half;

fn nibbles(qs: &[u8], out: &mut [f32], value: impl Fn(u8, usize) -> f32) {
    let (low, high) = out.split_at_mut(16);
    for (i, ((l, h), q)) in low.iter_mut().zip(high).zip(qs).enumerate() {
        *l = value(q & 15, i);
        *h = value(q >> 4, i + 16);
    }
}

pub fn q4_0(b: &[u8], out: &mut [f32]) {
    let d = half(b, 0);
    nibbles(&b[2..], out, |q, _| d * (f32::from(q) - 8.0));
}

pub fn q4_1(b: &[u8], out: &mut [f32]) {
    let (d, m) = (half(b, 0), half(b, 2));
    nibbles(&b[4..], out, |q, _| d * f32::from(q) + m);
}

/// The fifth bits, one a value.
fn fifth(b: &[u8]) -> impl Fn(u8, usize) -> u8 {
    let bits = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    move |q, i| q | ((bits >> i & 1) as u8) << 4
}

pub fn q5_0(b: &[u8], out: &mut [f32]) {
    let (d, code) = (half(b, 0), fifth(&b[2..]));
    nibbles(&b[6..], out, |q, i| d * (f32::from(code(q, i)) - 16.0));
}

pub fn q5_1(b: &[u8], out: &mut [f32]) {
    let (d, m, code) = (half(b, 0), half(b, 2), fifth(&b[4..]));
    nibbles(&b[8..], out, |q, i| d * f32::from(code(q, i)) + m);
}

pub fn q8_0(b: &[u8], out: &mut [f32]) {
    let d = half(b, 0);
    for (o, q) in out.iter_mut().zip(&b[2..]) {
        *o = d * f32::from(*q as i8);
    }
}
