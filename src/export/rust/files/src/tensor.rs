//! Tensors of the program: their check, and their weights one by one.

use crate::math::Scale;
use crate::model::{Model, Words, MAX_LENGTH};
use crate::status::{Result, Status};

pub(crate) const BINARY: u32 = 1;
pub(crate) const TERNARY: u32 = 2;
pub(crate) const INT8: u32 = 3;
pub(crate) const INT16: u32 = 4;
pub(crate) const VECTOR: u32 = 5;
pub(crate) const FREQUENCIES: u32 = 6;
pub(crate) const STATIC_KEYS: u32 = 7;
pub(crate) const TERNARY5: u32 = 8;
pub(crate) const INT4: u32 = 9;
pub(crate) const PLANES4: u32 = 10;

/// How rows lie: one after the other, or four interleaved byte by byte.
pub(crate) const ROWS: u32 = 0;
pub(crate) const QUADS: u32 = 1;

/// A tensor in flash.
#[derive(Clone, Copy)]
pub(crate) struct Tensor<'a> {
    pub kind: u32,
    pub order: u32,
    pub rows: usize,
    pub cols: usize,
    /// 0 none, 1 one for the tensor, 2 a row, 3 a row and group of columns.
    pub mode: u32,
    pub group: usize,
    pub groups: usize,
    pub stride: usize,
    pub scale: Scale,
    pub data: &'a [u8],
    pub scale_m: Words<'a>,
    pub scale_h: &'a [u8],
}

fn part<'a>(weights: &'a [u8], w: Words, at: usize) -> &'a [u8] {
    weights.get(w.at(at) as usize..).and_then(|p| p.get(..w.at(at + 2) as usize)).unwrap_or(&[])
}

impl<'a> Tensor<'a> {
    pub(crate) fn read(w: Words, weights: &'a [u8]) -> Tensor<'a> {
        let (rows, cols, group) = (w.at(1) as usize, w.at(2) as usize, w.at(4) as usize);
        let groups = if w.at(3) == 3 { group_count(cols, group) } else { 1 };
        let scales = part(weights, w, 12);
        let (m, h) = scales.split_at((4 * rows * groups).min(scales.len()));
        Tensor {
            kind: w.at(0) & 0xFF,
            order: w.at(0) >> 8,
            rows,
            cols,
            mode: w.at(3),
            group,
            groups,
            stride: w.at(7) as usize,
            scale: Scale { m: w.at(5), e: w.at(6) as i32 },
            data: part(weights, w, 8),
            scale_m: Words(m),
            scale_h: h,
        }
    }

    pub(crate) fn is_matrix(&self) -> bool {
        matches!(self.kind, BINARY..=INT16 | TERNARY5..=PLANES4)
    }

    /// Values of a vector.
    pub(crate) fn values(&self) -> impl ExactSizeIterator<Item = i32> + Clone + 'a {
        Words(self.data).iter().map(|v| v as i32)
    }

    /// Value `i` of a vector.
    pub(crate) fn value(&self, i: usize) -> i32 {
        Words(self.data).at(i) as i32
    }

    /// Mantissa and shift of scale `i` of modes 2 and 3.
    #[inline(always)]
    pub(crate) fn row_scale(&self, i: usize) -> (i32, u32) {
        (self.scale_m.at(i) as i32, self.scale_h.get(i).map_or(0, |h| u32::from(*h)))
    }

    /// Bytes of a row of order `ROWS`.
    #[inline(always)]
    pub(crate) fn row(&self, r: usize) -> &'a [u8] {
        self.data.get(r * self.stride..).and_then(|d| d.get(..self.stride)).unwrap_or(&[])
    }

    /// The bytes of the four rows from `r`, a multiple of 4, of order `QUADS`.
    #[inline(always)]
    pub(crate) fn quad(&self, r: usize) -> &'a [u8] {
        self.data.get(r * self.stride..).and_then(|d| d.get(..4 * self.stride)).unwrap_or(&[])
    }

    /// Byte `g` of row `r`.
    fn byte(&self, r: usize, g: usize) -> u32 {
        let at = match self.order {
            ROWS => r * self.stride + g,
            _ => 4 * self.stride * (r / 4) + 4 * g + r % 4,
        };
        self.data.get(at).map_or(0, |b| u32::from(*b))
    }

    /// The weight of row `r` and column `c`, whatever the encoding.
    pub(crate) fn weight(&self, r: usize, c: usize) -> i32 {
        let bit = |g: usize| (self.byte(r, g + c / 8) >> (c % 8) & 1) as i32;
        match self.kind {
            BINARY => 2 * bit(0) - 1,
            TERNARY => bit(0) - bit(self.stride / 2),
            INT8 => self.byte(r, c) as i8 as i32,
            INT16 => (self.byte(r, 2 * c) | self.byte(r, 2 * c + 1) << 8) as i16 as i32,
            TERNARY5 => trit(self.byte(r, c / 5), c % 5),
            INT4 => (self.byte(r, c / 2) << (28 - 4 * (c % 2))) as i32 >> 28,
            _ => {
                let plane = |k: usize| bit(k * (self.stride / 4));
                plane(0) + 2 * plane(1) + 4 * plane(2) - 8 * plane(3)
            }
        }
    }

    /// Bits of the largest sum of products with codes.
    pub(crate) fn sum_bits(&self, qmax: u32) -> u32 {
        let most = match self.kind {
            INT8 => 128,
            INT16 => 32_768,
            INT4 | PLANES4 => 8,
            _ => 1,
        };
        crate::math::bitlen64(u64::from(qmax * most) * self.cols as u64)
    }
}

/// Digit `i` of a byte of five weights, less 1.
pub(crate) fn trit(byte: u32, i: usize) -> i32 {
    let byte = byte.min(250);
    let half = if i < 3 { byte % 28 } else { byte / 28 };
    (match i {
        0 | 3 => half % 3,
        1 | 4 => half / 3 % 3,
        _ => half / 9 % 3,
    }) as i32
        - 1
}

fn group_count(cols: usize, group: usize) -> usize {
    let (mut n, mut at) = (0, 0);
    while at < cols {
        n += 1;
        at += group.max(32);
    }
    n
}

fn mantissa(m: u32) -> bool {
    (1 << 30..1 << 31).contains(&m)
}

/// A scale as it may stand in a program.
pub(crate) fn scale_ok(m: u32, e: u32) -> bool {
    mantissa(m) && (-4096..=4095).contains(&(e as i32))
}

/// The scale of frequencies: none, or at most 1.
fn unit_scale_ok(m: u32, e: u32) -> bool {
    let exponent = e as i32;
    match m {
        0 => e == 0,
        _ => scale_ok(m, e) && (exponent < -30 || (exponent == -30 && m == 1 << 30)),
    }
}

/// Offset and length (two words each) inside of the weights.
fn range_ok(w: Words, at: usize, weights: usize, want: u64) -> bool {
    let (offset, bytes) = (u64::from(w.at(at)), u64::from(w.at(at + 2)));
    w.at(at + 1) == 0 && w.at(at + 3) == 0 && offset % 16 == 0 && bytes == want && offset + bytes <= weights as u64
}

/// Bytes of a row, or None if the kind may not lie in this order.
fn stride_of(kind: u32, order: u32, cols: u32) -> Option<u32> {
    Some(match (kind, order) {
        (BINARY, ROWS) => cols.div_ceil(32) * 4,
        (BINARY, QUADS) => cols.div_ceil(8),
        (TERNARY, ROWS) => cols.div_ceil(32) * 8,
        (INT8, ROWS) => cols.next_multiple_of(4),
        (INT16, ROWS) => (2 * cols).next_multiple_of(4),
        (VECTOR | FREQUENCIES, ROWS) => 4 * cols,
        (STATIC_KEYS, ROWS) => 0,
        (TERNARY5, ROWS | QUADS) => ceil_fifth(cols),
        (INT4, ROWS) => cols.div_ceil(2).next_multiple_of(4),
        (PLANES4, QUADS) => 4 * cols.div_ceil(8),
        _ => return None,
    })
}

/// ceil(n / 5); 5 is a constant, so this is a multiplication.
pub(crate) fn ceil_fifth(n: u32) -> u32 {
    n.div_ceil(5)
}

pub(crate) fn check(m: &Model, w: Words) -> Result<()> {
    let refuse = Err(Status::Format);
    let (kind, order, rows, cols, mode) = (w.at(0) & 0xFF, w.at(0) >> 8, w.at(1), w.at(2), w.at(3));
    if !(1..=MAX_LENGTH).contains(&rows) || !(1..=MAX_LENGTH).contains(&cols) {
        return refuse;
    }
    let Some(stride) = stride_of(kind, order, cols) else { return refuse };
    let stored = if order == QUADS { rows.next_multiple_of(4) } else { rows };
    let bytes = match kind {
        STATIC_KEYS => 14 * u64::from(rows) * u64::from(cols),
        _ => u64::from(stored) * u64::from(stride),
    };
    if w.at(7) != stride || !range_ok(w, 8, m.weights.len(), bytes) {
        return refuse;
    }
    let (sm, se) = (w.at(5), w.at(6));
    let scales_ok = match kind {
        VECTOR => rows == 1 && mode == 0 && sm == 1 << 30 && scale_ok(sm, se),
        FREQUENCIES => rows == 1 && mode == 0 && 2 * cols as usize <= m.h.head_dim && unit_scale_ok(sm, se),
        STATIC_KEYS => {
            let shape = rows as usize == m.h.kv_heads && cols as usize == m.h.head_dim;
            shape && mode == 1 && scale_ok(sm, se)
        }
        _ => {
            let most = if matches!(kind, BINARY | TERNARY) { 3 } else { 2 };
            scale_ok(sm, se) && (1..=most).contains(&mode) && (mode == 1 || sm == 1 << 30)
        }
    };
    let group = w.at(4);
    let group_ok = match mode {
        3 => group % 32 == 0 && (32..=MAX_LENGTH).contains(&group),
        _ => group == 0,
    };
    if !scales_ok || !group_ok {
        return refuse;
    }
    let t = Tensor::read(w, m.weights);
    if mode < 2 {
        if (12..16).any(|i| w.at(i) != 0) {
            return refuse;
        }
    } else {
        let n = u64::from(rows) * t.groups as u64;
        if !range_ok(w, 12, m.weights.len(), 5 * n) {
            return refuse;
        }
        if !t.scale_m.iter().all(mantissa) || t.scale_h.iter().any(|h| *h > 63) {
            return refuse;
        }
    }
    let digits = |b: &u8| *b <= 250 && *b % 28 <= 26;
    if (kind == TERNARY5 && !t.data.iter().all(digits)) || (kind == STATIC_KEYS && !static_keys_ok(&t)) {
        return refuse;
    }
    Ok(())
}

fn static_keys_ok(t: &Tensor) -> bool {
    let k = StaticKeys::of(t);
    let n = t.rows * t.cols;
    (0..n).all(|i| k.centre(i).unsigned_abs() <= 1 << 24)
        && (0..n).all(|i| mantissa(k.words.at(n + i)) && mantissa(k.words.at(2 * n + i)))
        && t.data[12 * n..13 * n].iter().all(|h| *h <= 62)
        && t.data[13 * n..].iter().all(|h| *h <= 63)
}

/// Constants of 4-bit keys, by channel.
#[derive(Clone, Copy)]
pub(crate) struct StaticKeys<'a> {
    words: Words<'a>,
    shifts: &'a [u8],
    n: usize,
    pub scale: Scale,
}

impl<'a> StaticKeys<'a> {
    pub(crate) fn of(t: &Tensor<'a>) -> StaticKeys<'a> {
        let n = t.rows * t.cols;
        StaticKeys { words: Words(t.data), shifts: t.data.get(12 * n..).unwrap_or(&[]), n, scale: t.scale }
    }

    pub(crate) fn centre(&self, i: usize) -> i32 {
        self.words.at(i) as i32
    }

    /// Mantissa and shift of the inverse scale.
    pub(crate) fn inverse(&self, i: usize) -> (i32, i32) {
        (self.words.at(self.n + i) as i32, self.shifts.get(i).map_or(0, |h| i32::from(*h)))
    }

    /// Mantissa and shift of the channel's scale.
    pub(crate) fn key(&self, i: usize) -> (i32, u32) {
        (self.words.at(2 * self.n + i) as i32, self.shifts.get(self.n + i).map_or(0, |h| u32::from(*h)))
    }
}
