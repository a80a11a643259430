//! Numbers of variable length.

use crate::error::{Error, Result};

/// Appends `v` as LEB128; `v` must be below 2^63, so at most 9 bytes.
pub fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    debug_assert!(v < 1 << 63);
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// The number at `*at` of `bytes`, which moves behind it.
///
/// # Errors
/// `Input` if the bytes end within the number, if it has more than 9 bytes, or a last byte that is 0 and says nothing.
pub fn read_varint(bytes: &[u8], at: &mut usize) -> Result<u64> {
    let mut v = 0u64;
    for i in 0..9 {
        let Some(&b) = bytes.get(*at + i) else {
            return Err(Error::input("a number of the patch is cut short"));
        };
        v |= u64::from(b & 0x7f) << (7 * i);
        if b < 0x80 {
            if b == 0 && i > 0 {
                return Err(Error::input("a number of the patch ends in a byte that says nothing"));
            }
            *at += i + 1;
            return Ok(v);
        }
    }
    Err(Error::input("a number of the patch has more than 9 bytes"))
}

/// 0, -1, 1, -2, 2 … as 0, 1, 2, 3, 4 …
pub fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

/// The inverse of [`zigzag`].
pub fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for v in [0, 1, 127, 128, 16383, 16384, u64::from(u32::MAX), (1 << 62) - 1, (1 << 63) - 1] {
            let mut out = vec![7];
            put_varint(&mut out, v);
            assert!(out.len() <= 10);
            out.push(9);
            let mut at = 1;
            assert_eq!(read_varint(&out, &mut at).unwrap(), v);
            assert_eq!(at, out.len() - 1);
            let cut = &out[..out.len() - 2];
            assert!(read_varint(cut, &mut 1).is_err());
        }
        for v in [0, 1, -1, 2, -2, 1 << 50, -(1 << 50), i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(v)), v);
        }
        assert_eq!([0, -1, 1, -2].map(zigzag), [0, 1, 2, 3]);
    }

    #[test]
    fn a_number_of_ten_bytes_is_refused() {
        let long = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
        assert!(read_varint(&long, &mut 0).is_err());
    }

    #[test]
    fn a_last_byte_of_zero_is_refused() {
        assert!(read_varint(&[0x81, 0x00], &mut 0).is_err());
        assert_eq!(read_varint(&[0x00], &mut 0).unwrap(), 0);
    }
}
