//! Numbers in the blob: packed fields, LEB128, and a permutation that can be walked backwards.
//!
//! Every read is total: what lies beyond the end of the bytes reads as 0.

/// Little-endian number of up to four bytes from `at`; 0 for bytes beyond the end.
pub fn le(bytes: &[u8], at: u32, count: u32) -> u32 {
    let mut value = 0;
    for k in 0..count.min(4) {
        value |= u32::from(byte(bytes, at.saturating_add(k))) << (8 * k);
    }
    value
}

/// Byte at `at`, 0 beyond the end.
pub fn byte(bytes: &[u8], at: u32) -> u8 {
    bytes.get(at as usize).copied().unwrap_or(0)
}

/// Bits that hold `value`, at least one.
pub fn width_of(value: u32) -> u32 {
    (32 - value.leading_zeros()).max(1)
}

/// `width` bits (at most 32) from bit `bit`, the lowest bit first.
#[inline]
pub fn bits(bytes: &[u8], bit: u32, width: u32) -> u32 {
    let (at, shift) = ((bit >> 3) as usize, bit & 7);
    let low = match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(four) => u32::from_le_bytes(*four),
        None => le(bytes, at as u32, 4),
    };
    let mut value = low >> shift;
    if shift + width > 32 {
        value |= u32::from(byte(bytes, at as u32 + 4)) << (32 - shift);
    }
    value & mask(width)
}

fn mask(width: u32) -> u32 {
    u32::MAX.checked_shr(32 - width.min(32)).unwrap_or(0)
}

/// Bytes of `count` fields of `width` bits, or `None` if that is 2^32 bits or more.
pub fn packed_bytes(count: u32, width: u32) -> Option<u32> {
    Some(count.checked_mul(width)?.div_ceil(8))
}

/// LEB128 number of at most four bytes at `at`, which moves behind it.
pub fn varint(bytes: &[u8], at: &mut u32) -> Option<u32> {
    let mut value = 0;
    for k in 0..4 {
        let byte = *bytes.get(*at as usize)?;
        *at += 1;
        value |= u32::from(byte & 0x7f) << (7 * k);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// A part of the blob: offset and length in bytes. Of a checked blob, so that both are inside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte from the start of the blob.
    pub at: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Span {
    /// The bytes.
    pub fn of(self, blob: &[u8]) -> &[u8] {
        blob.get(self.at as usize..).and_then(|rest| rest.get(..self.len as usize)).unwrap_or(&[])
    }

    /// One past the last byte.
    pub fn end(self) -> u32 {
        self.at + self.len
    }
}

/// Fields of a fixed width, the first at a byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packed {
    /// Where the fields are in the blob.
    pub span: Span,
    /// Bits of a field, at most 32.
    pub width: u32,
}

impl Packed {
    /// Field `index`.
    pub fn get(self, blob: &[u8], index: u32) -> u32 {
        bits(self.span.of(blob), index * self.width, self.width)
    }
}

/// A permutation of 0..count with the way back: `table[k]` is the image of k; `jumps[j]` is the multiple of 16 met before 16j on its cycle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permutation {
    /// Numbers that are permuted, 0 … 2^20.
    pub count: u32,
    /// Images.
    pub table: Packed,
    /// One field for each multiple of 16.
    pub jumps: Packed,
}

impl Permutation {
    /// Places `count` fields and their jumps at `at`; what follows them starts at the returned offset.
    ///
    /// # Errors
    /// None if they do not end before `end`.
    pub fn place(count: u32, at: u32, end: u32) -> Option<(Permutation, u32)> {
        let width = width_of(count.saturating_sub(1));
        let table = Packed { span: Span { at, len: packed_bytes(count, width)? }, width };
        let jumps = Span { at: at.checked_add(table.span.len)?, len: packed_bytes(count.div_ceil(16), width)? };
        let behind = jumps.at.checked_add(jumps.len)?;
        (behind <= end).then_some((Permutation { count, table, jumps: Packed { span: jumps, width } }, behind))
    }

    /// Whether every field is in range. That no image is there twice is not asked: the readers stay bounded without it.
    pub fn check(self, blob: &[u8]) -> bool {
        (0..self.count).all(|k| self.table.get(blob, k) < self.count)
            && (0..self.count.div_ceil(16)).all(|k| self.jumps.get(blob, k) < self.count)
    }

    /// Image of `k`.
    pub fn get(self, blob: &[u8], k: u32) -> u32 {
        self.table.get(blob, k)
    }

    /// The number whose image is `image`: on its cycle, at most 16 steps on average to a multiple of 16, back to the one before it, and from
    /// there until the image comes.
    pub fn inverse(self, blob: &[u8], image: u32) -> Option<u32> {
        if image >= self.count {
            return None;
        }
        let (mut x, mut jumped) = (image, false);
        for _ in 0..2 * self.count + 2 {
            if !jumped && x & 15 == 0 {
                (x, jumped) = (self.jumps.get(blob, x >> 4), true);
                continue;
            }
            let next = self.table.get(blob, x);
            if next == image {
                return Some(x);
            }
            x = next;
        }
        None
    }
}
