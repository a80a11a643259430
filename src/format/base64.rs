//! Base64 with padding, both ways.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn encode(data: &[u8]) -> String {
    let mut out = String::with_capacity(data.len().div_ceil(3) * 4);
    for c in data.chunks(3) {
        let n = (0..3).fold(0u32, |n, i| n << 8 | u32::from(c.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            out.push(if i > c.len() { '=' } else { char::from(DIGITS[(n >> (18 - 6 * i) & 63) as usize]) });
        }
    }
    out
}

/// None for other characters, missing padding, and bits that belong to no byte.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let groups = text.chunks(4).len();
    for (k, group) in text.chunks(4).enumerate() {
        let padding = if k + 1 == groups { group.iter().rev().take_while(|c| **c == b'=').count() } else { 0 };
        if group.len() != 4 || padding > 2 {
            return None;
        }
        let mut n = 0u32;
        for c in &group[..4 - padding] {
            n = n << 6 | DIGITS.iter().position(|d| d == c)? as u32;
        }
        n <<= 6 * padding;
        let bytes = n.to_be_bytes();
        if bytes[4 - padding..].iter().any(|b| *b != 0) {
            return None;
        }
        out.extend_from_slice(&bytes[1..4 - padding]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_remainder_both_ways() {
        for (data, text) in [("", ""), ("M", "TQ=="), ("Ma", "TWE="), ("Man", "TWFu"), ("Many", "TWFueQ==")] {
            assert_eq!(encode(data.as_bytes()), text);
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(data.as_bytes()));
        }
    }

    #[test]
    fn what_is_no_base64() {
        for text in ["T", "TQ", "TQ=", "TQ==TQ==", "T===", "====", "T Q=", "TR==", "TWF=", "TQ==\n", "\u{e9}AA"] {
            assert_eq!(decode(text.as_bytes()), None, "{text:?}");
        }
    }
}
