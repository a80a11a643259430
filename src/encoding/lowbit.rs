//! Encodings of weight matrices: docs/format/packed.md, "Tensors". One sign convention for all: a set bit means what its plane says.

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
}

impl Encoding {
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Binary1 => "binary1",
            Encoding::Ternary2 => "ternary2",
            Encoding::Int8 => "int8",
            Encoding::Int16 => "int16",
        }
    }

    /// Bytes from one row to the next.
    pub fn stride(self, cols: usize) -> usize {
        match self {
            Encoding::Binary1 => 4 * cols.div_ceil(32),
            Encoding::Ternary2 => 8 * cols.div_ceil(32),
            Encoding::Int8 => cols.next_multiple_of(4),
            Encoding::Int16 => (2 * cols).next_multiple_of(4),
        }
    }

    /// Bound of a weight's magnitude, as the semantics take it.
    pub fn wmax(self) -> u64 {
        match self {
            Encoding::Binary1 | Encoding::Ternary2 => 1,
            Encoding::Int8 => 128,
            Encoding::Int16 => 32_768,
        }
    }

    /// Whether this is a 1-bit or ternary encoding.
    pub fn is_low_bit(self) -> bool {
        matches!(self, Encoding::Binary1 | Encoding::Ternary2)
    }

    /// Packs one row; `out` has `stride(codes.len())` zero bytes.
    ///
    /// # Panics
    /// In debug builds if a code is outside the encoding: the quantizers and importers produce no such code.
    pub fn pack_row(self, codes: &[i32], out: &mut [u8]) {
        debug_assert_eq!(out.len(), self.stride(codes.len()));
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
        }
    }

    /// Position of the first invalid code or non-zero padding bit of a row, if any.
    pub fn first_invalid(self, row: &[u8], cols: usize) -> Option<usize> {
        let words = cols.div_ceil(32);
        let tail = |plane: &[u8]| (cols..32 * words).find(|&i| plane[i / 8] >> (i % 8) & 1 == 1);
        match self {
            Encoding::Binary1 => tail(row),
            Encoding::Ternary2 => {
                let (plus, minus) = row.split_at(4 * words);
                let both = plus.iter().zip(minus).position(|(p, m)| p & m != 0);
                both.map(|b| 8 * b + (plus[b] & minus[b]).trailing_zeros() as usize).or(tail(plus)).or(tail(minus))
            }
            Encoding::Int8 => (cols..row.len()).find(|&i| row[i] != 0),
            Encoding::Int16 => (2 * cols..row.len()).find(|&i| row[i] != 0),
        }
    }
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
    }

    #[test]
    fn rows_round_trip_at_every_length() {
        for cols in 1..=70usize {
            let codes: Vec<i32> = (0..cols).map(|i| (i * 7 % 3) as i32 - 1).collect();
            for enc in [Encoding::Ternary2, Encoding::Int8, Encoding::Int16] {
                let mut row = vec![0; enc.stride(cols)];
                enc.pack_row(&codes, &mut row);
                assert_eq!(enc.first_invalid(&row, cols), None);
                assert_eq!((0..cols).map(|i| enc.get(&row, cols, i)).collect::<Vec<_>>(), codes);
            }
        }
    }

    #[test]
    fn invalid_codes_are_found() {
        assert_eq!(Encoding::Ternary2.first_invalid(&[0, 2, 0, 0, 0, 2, 0, 0], 20), Some(9));
        assert_eq!(Encoding::Binary1.first_invalid(&[0, 0, 0, 0x80], 31), Some(31));
        assert_eq!(Encoding::Int8.first_invalid(&[1, 2, 3, 4], 3), Some(3));
    }
}
