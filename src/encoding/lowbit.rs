//! Encodings of weight matrices: docs/format/packed.md, "Tensors". One sign convention for all: a set bit means what its plane says.
//! A row is handled by itself here; how rows lie in a matrix is said in [`super::order`].

use super::order::Order;

/// How the weights of a matrix are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// One bit a weight, 1 = +1, 0 = -1.
    Binary1,
    /// A plane of +1 and a plane of -1.
    Ternary2,
    /// Signed bytes.
    Int8,
    /// Signed 16-bit words.
    Int16,
    /// Five weights of -1, 0, +1 a byte, see [`TRITS`].
    Ternary5,
    /// -8 ..= 7 in half bytes, the even column low.
    Int4,
    /// The values of `Int4` as four bit planes, one after the other, the lowest first; the highest counts -8.
    Planes4,
}

/// The value of each of the five digits of a `Ternary5` byte. A digit is the weight + 1; the gap between the third and the fourth keeps
/// the two halves of a byte apart: `byte % 28` and `byte / 28`.
pub const TRITS: [u8; 5] = [1, 3, 9, 28, 84];

/// Largest `Ternary5` byte.
const MOST_TRITS: u8 = 250;

impl Encoding {
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Binary1 => "binary1",
            Encoding::Ternary2 => "ternary2",
            Encoding::Int8 => "int8",
            Encoding::Int16 => "int16",
            Encoding::Ternary5 => "ternary5",
            Encoding::Int4 => "int4",
            Encoding::Planes4 => "planes4",
        }
    }

    /// Bytes of a row in order [`Order::Rows`].
    pub fn stride(self, cols: usize) -> usize {
        match self {
            Encoding::Binary1 => 4 * cols.div_ceil(32),
            Encoding::Ternary2 => 8 * cols.div_ceil(32),
            Encoding::Int8 => cols.next_multiple_of(4),
            Encoding::Int16 => (2 * cols).next_multiple_of(4),
            Encoding::Ternary5 => cols.div_ceil(5),
            Encoding::Int4 => cols.div_ceil(2).next_multiple_of(4),
            Encoding::Planes4 => 4 * cols.div_ceil(8),
        }
    }

    /// Bytes of a row. In quads no row is rounded up to words.
    pub fn stride_in(self, order: Order, cols: usize) -> usize {
        match (self, order) {
            (Encoding::Binary1, Order::Quads) => cols.div_ceil(8),
            _ => self.stride(cols),
        }
    }

    /// Bytes of all rows, those that fill the last quad included.
    pub fn data_bytes(self, order: Order, rows: usize, cols: usize) -> u64 {
        order.stored_rows(rows) as u64 * self.stride_in(order, cols) as u64
    }

    /// Whether a matrix of this encoding may lie in this order.
    pub fn allows(self, order: Order) -> bool {
        match order {
            Order::Rows => self != Encoding::Planes4,
            Order::Quads => matches!(self, Encoding::Binary1 | Encoding::Ternary5 | Encoding::Planes4),
        }
    }

    /// Whether a matrix of this encoding may have a scale for each group of columns.
    pub fn allows_groups(self) -> bool {
        matches!(self, Encoding::Binary1 | Encoding::Ternary2)
    }

    /// Bound of a weight's magnitude, as the semantics take it.
    pub fn wmax(self) -> u64 {
        match self {
            Encoding::Binary1 | Encoding::Ternary2 | Encoding::Ternary5 => 1,
            Encoding::Int4 | Encoding::Planes4 => 8,
            Encoding::Int8 => 128,
            Encoding::Int16 => 32_768,
        }
    }

    /// Whether this is a 1-bit or ternary encoding.
    pub fn is_low_bit(self) -> bool {
        matches!(self, Encoding::Binary1 | Encoding::Ternary2 | Encoding::Ternary5)
    }

    /// The encoding in which the host's kernels read these weights; it lies in [`Order::Rows`].
    pub fn on_host(self) -> Encoding {
        match self {
            Encoding::Ternary5 => Encoding::Ternary2,
            Encoding::Int4 | Encoding::Planes4 => Encoding::Int8,
            same => same,
        }
    }

    /// Packs one row; `out` has zero bytes, as many as a row takes in its order.
    ///
    /// # Panics
    /// In debug builds if a code is outside the encoding: the quantizers and importers produce no such code.
    pub fn pack_row(self, codes: &[i32], out: &mut [u8]) {
        debug_assert!([Order::Rows, Order::Quads].iter().any(|o| out.len() == self.stride_in(*o, codes.len())));
        match self {
            Encoding::Binary1 => {
                for (i, &c) in codes.iter().enumerate() {
                    debug_assert!(c == 1 || c == -1);
                    out[i / 8] |= u8::from(c > 0) << (i % 8);
                }
            }
            Encoding::Ternary2 => {
                let (plus, minus) = out.split_at_mut(4 * codes.len().div_ceil(32));
                for (i, &c) in codes.iter().enumerate() {
                    debug_assert!((-1..=1).contains(&c));
                    plus[i / 8] |= u8::from(c > 0) << (i % 8);
                    minus[i / 8] |= u8::from(c < 0) << (i % 8);
                }
            }
            Encoding::Int8 => {
                for (o, &c) in out.iter_mut().zip(codes) {
                    *o = c as i8 as u8;
                }
            }
            Encoding::Int16 => {
                for (o, &c) in out.chunks_exact_mut(2).zip(codes) {
                    o.copy_from_slice(&(c as i16).to_le_bytes());
                }
            }
            Encoding::Ternary5 => {
                for (o, five) in out.iter_mut().zip(codes.chunks(5)) {
                    debug_assert!(five.iter().all(|c| (-1..=1).contains(c)));
                    // Digits behind the last column stand for weight 0.
                    let digit = |i: usize| (five.get(i).copied().unwrap_or(0) + 1) as u8;
                    *o = (0..5).map(|i| TRITS[i] * digit(i)).sum();
                }
            }
            Encoding::Int4 => {
                for (o, two) in out.iter_mut().zip(codes.chunks(2)) {
                    debug_assert!(two.iter().all(|c| (-8..=7).contains(c)));
                    let half = |i: usize| (two.get(i).copied().unwrap_or(0) & 15) as u8;
                    *o = half(0) | half(1) << 4;
                }
            }
            Encoding::Planes4 => {
                for (k, plane) in out.chunks_exact_mut(codes.len().div_ceil(8)).enumerate() {
                    for (i, &c) in codes.iter().enumerate() {
                        debug_assert!((-8..=7).contains(&c));
                        plane[i / 8] |= (c >> k & 1) as u8 * (1 << (i % 8));
                    }
                }
            }
        }
    }

    /// One weight of a row. Ternary with both bits set counts as 0; readers refuse it.
    pub fn get(self, row: &[u8], cols: usize, i: usize) -> i32 {
        let bit = |bytes: &[u8]| i32::from(bytes[i / 8] >> (i % 8) & 1);
        match self {
            Encoding::Binary1 => 2 * bit(row) - 1,
            Encoding::Ternary2 => {
                let (plus, minus) = row.split_at(4 * cols.div_ceil(32));
                bit(plus) - bit(minus)
            }
            Encoding::Int8 => i32::from(row[i] as i8),
            Encoding::Int16 => i32::from(i16::from_le_bytes([row[2 * i], row[2 * i + 1]])),
            Encoding::Ternary5 => digit(row[i / 5], i % 5) - 1,
            Encoding::Int4 => i32::from((row[i / 2] << (4 - 4 * (i % 2))) as i8 >> 4),
            Encoding::Planes4 => {
                let n = cols.div_ceil(8);
                let plane = |k: usize| bit(&row[k * n..(k + 1) * n]);
                plane(0) + 2 * plane(1) + 4 * plane(2) - 8 * plane(3)
            }
        }
    }

    /// Position of the first invalid code or non-zero padding of a row, if any.
    pub fn first_invalid(self, row: &[u8], cols: usize) -> Option<usize> {
        let tail = |plane: &[u8]| (cols..8 * plane.len()).find(|&i| plane[i / 8] >> (i % 8) & 1 == 1);
        match self {
            Encoding::Binary1 => tail(row),
            Encoding::Ternary2 => {
                let (plus, minus) = row.split_at(row.len() / 2);
                let both = plus.iter().zip(minus).position(|(p, m)| p & m != 0);
                both.map(|b| 8 * b + (plus[b] & minus[b]).trailing_zeros() as usize).or(tail(plus)).or(tail(minus))
            }
            Encoding::Int8 => (cols..row.len()).find(|&i| row[i] != 0),
            Encoding::Int16 => (2 * cols..row.len()).find(|&i| row[i] != 0),
            Encoding::Ternary5 => {
                let code = row.iter().position(|b| *b > MOST_TRITS || b % TRITS[3] > 26).map(|b| 5 * b);
                code.or_else(|| (cols..5 * row.len()).find(|&i| digit(row[i / 5], i % 5) != 1))
            }
            Encoding::Int4 => (cols..2 * row.len()).find(|&i| row[i / 2] >> (4 * (i % 2)) & 15 != 0),
            Encoding::Planes4 => row.chunks_exact(cols.div_ceil(8)).find_map(tail),
        }
    }
}

/// Digit `i` of a `Ternary5` byte.
fn digit(byte: u8, i: usize) -> i32 {
    let part = if i < 3 { byte % TRITS[3] } else { byte / TRITS[3] };
    i32::from(part / TRITS[i % 3] % 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_convention() {
        let mut row = [0; 4];
        Encoding::Binary1.pack_row(&[1, -1, -1, 1, 1], &mut row);
        assert_eq!(row, [0b11001, 0, 0, 0]);
        let mut row = [0; 8];
        Encoding::Ternary2.pack_row(&[1, 0, -1, 1], &mut row);
        assert_eq!(row, [0b1001, 0, 0, 0, 0b0100, 0, 0, 0]);
        let mut row = [0; 4];
        Encoding::Int16.pack_row(&[-2], &mut row);
        assert_eq!(row, [0xFE, 0xFF, 0, 0]);
        let mut row = [0; 2];
        Encoding::Ternary5.pack_row(&[1, 1, 1, 1, 1, -1, 0, 1], &mut row);
        // 0 + 3 * 1 + 9 * 2, and 28 * (1 + 3 * 1) for the two digits behind the end.
        assert_eq!(row, [250, 21 + 112]);
        let mut row = [0; 4];
        Encoding::Int4.pack_row(&[-8, 7, -1], &mut row);
        assert_eq!(row, [0x78, 0x0F, 0, 0]);
        let mut row = [0; 8];
        Encoding::Planes4.pack_row(&[1, 2, 4, -8, 7, -1, 0, 0, 3], &mut row);
        assert_eq!(row, [0b11_0001, 1, 0b11_0010, 1, 0b11_0100, 0, 0b10_1000, 0]);
    }

    #[test]
    fn rows_round_trip_at_every_length() {
        use Encoding::*;
        for cols in 1..=70usize {
            let codes: Vec<i32> = (0..cols).map(|i| (i * 7 % 3) as i32 - 1).collect();
            let signs: Vec<i32> = (0..cols).map(|i| if i * 5 % 7 < 3 { 1 } else { -1 }).collect();
            let fours: Vec<i32> = (0..cols).map(|i| (i * 11 % 16) as i32 - 8).collect();
            for enc in [Binary1, Ternary2, Int8, Int16, Ternary5, Int4, Planes4] {
                for order in [Order::Rows, Order::Quads] {
                    let codes = match enc {
                        Binary1 => &signs,
                        Ternary2 | Ternary5 => &codes,
                        _ => &fours,
                    };
                    let mut row = vec![0; enc.stride_in(order, cols)];
                    enc.pack_row(codes, &mut row);
                    assert_eq!(enc.first_invalid(&row, cols), None, "{enc:?} {cols}");
                    assert_eq!(&(0..cols).map(|i| enc.get(&row, cols, i)).collect::<Vec<_>>(), codes, "{enc:?} {cols}");
                }
            }
        }
    }

    #[test]
    fn invalid_codes_are_found() {
        assert_eq!(Encoding::Ternary2.first_invalid(&[0, 2, 0, 0, 0, 2, 0, 0], 20), Some(9));
        assert_eq!(Encoding::Binary1.first_invalid(&[0, 0, 0, 0x80], 31), Some(31));
        assert_eq!(Encoding::Int8.first_invalid(&[1, 2, 3, 4], 3), Some(3));
        assert_eq!(Encoding::Int4.first_invalid(&[0, 0x10, 0, 0], 3), Some(3));
        assert_eq!(Encoding::Planes4.first_invalid(&[7, 7, 15, 7], 3), Some(3));
    }

    #[test]
    fn bytes_of_five_weights_are_those_and_no_others() {
        let valid = (0..=255u8).filter(|b| Encoding::Ternary5.first_invalid(&[*b], 5).is_none());
        assert_eq!(valid.count(), 243);
        for bad in [27, 55, 251, 255] {
            assert_eq!(Encoding::Ternary5.first_invalid(&[125, bad], 10), Some(5), "{bad}");
        }
        // 1 + 3 + 9 + 28 + 84 is five zeros; a +1 in the fourth place is behind the last of three columns.
        assert_eq!(Encoding::Ternary5.first_invalid(&[125], 3), None);
        assert_eq!(Encoding::Ternary5.first_invalid(&[125 + 28], 3), Some(3));
    }
}
