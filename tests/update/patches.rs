//! Patches written byte by byte after docs/format/delta.md, with the one kind that needs no coder.

use bitnet_convert::delta::keys::{sign, SecretKey};
use sha2::{Digest, Sha256};

const BLOCK: usize = 1 << 16;
const BYTES: usize = 200_000;

fn random(seed: u64) -> impl Iterator<Item = u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    })
}

/// Contents of a version of the model: 1 and 2 have nothing in common, each further one differs in 12,000 bytes from the one before it.
pub fn version(n: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = random(n.min(2)).take(BYTES).collect();
    for k in 3..=n {
        let at = (k as usize - 3) * 20_000;
        bytes[at..at + 12_000].iter_mut().zip(random(k)).for_each(|(b, r)| *b ^= r);
    }
    bytes
}

pub fn sha(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

pub fn hex(data: &[u8]) -> String {
    data.iter().map(|b| format!("{b:02x}")).collect()
}

/// A patch that is still to be written.
#[derive(Clone)]
pub struct Made {
    pub from: Option<u64>,
    pub to: u64,
    pub model: String,
    pub block: usize,
}

pub fn patch(from: u64, to: u64) -> Made {
    Made { from: Some(from), to, model: "intent".into(), block: if from > 1 { 4096 } else { BLOCK } }
}

pub fn full(to: u64) -> Made {
    Made { from: None, ..patch(0, to) }
}

/// A patch between other contents.
pub fn of(base: &[u8], target: &[u8], from: u64, to: u64) -> Vec<u8> {
    patch(from, to).between(base, target)
}

impl Made {
    pub fn bytes(&self) -> Vec<u8> {
        self.between(&self.from.map_or(Vec::new(), version), &version(self.to))
    }

    fn between(&self, base: &[u8], target: &[u8]) -> Vec<u8> {
        let raw: Vec<u8> = match self.from {
            Some(_) => base.iter().zip(target).map(|(a, b)| a ^ b).collect(),
            None => target.to_vec(),
        };
        let mut entry = vec![if self.from.is_some() { 9 + 16 } else { 9 }];
        varint(&mut entry, target.len() as u64);
        if self.from.is_some() {
            varint(&mut entry, 0);
        }
        let mut index = Vec::new();
        varint(&mut index, entry.len() as u64);
        index.extend(entry);
        let mut payload = Vec::new();
        for (xor, block) in raw.chunks(self.block).zip(target.chunks(self.block)) {
            let used = xor.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
            varint(&mut index, used as u64);
            if used > 0 {
                varint(&mut index, 0);
                index.extend(&sha(block)[..16]);
            }
            payload.extend(&xor[..used]);
        }
        let flags = if self.from.is_some() { 1 + 2u32 } else { 4 };
        let mut h = b"\x89BNDP\r\n\x1a\x01\0\0\0".to_vec();
        h.extend(flags.to_le_bytes());
        h.extend(self.block.ilog2().to_le_bytes());
        h.extend((index.len() as u32).to_le_bytes());
        for n in [384 + index.len() + payload.len(), base.len(), target.len()] {
            h.extend((n as u64).to_le_bytes());
        }
        h.extend(self.from.unwrap_or(0).to_le_bytes());
        h.extend(self.to.to_le_bytes());
        h.extend([0; 8]);
        for digest in [sha(base), sha(target), sha(&index), sha(&payload)] {
            h.extend(digest);
        }
        let text = |h: &mut Vec<u8>, t: &str, room: usize| {
            h.extend(t.as_bytes());
            h.extend(vec![0; room - t.len()]);
        };
        text(&mut h, &self.model, 32);
        text(&mut h, &self.from.map_or(String::new(), |n| format!("v{n}")), 24);
        text(&mut h, &format!("v{}", self.to), 24);
        h.extend([0; 8 + 32 + 64]);
        assert_eq!(h.len(), 384);
        h.extend(index);
        h.extend(payload);
        h
    }

    pub fn signed(&self, key: &SecretKey) -> Vec<u8> {
        let mut bytes = self.bytes();
        let head = sign(bytes.first_chunk().unwrap(), key);
        bytes[..384].copy_from_slice(&head);
        bytes
    }
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}
