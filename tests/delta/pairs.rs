//! Small patches made by hand: XOR with the base where there is one, plain bytes behind it.

use crate::disk::Random;
use bitnet_convert::delta::keys::{sign, Keyring, SecretKey};
use bitnet_convert::digest::sha256;
use bitnet_convert::format::delta::{Block, Flags, Header, Index, Kind, Segment};

pub const BLOCK: usize = 4096;

/// A base, a target and the patch between them.
pub struct Pair {
    pub old: Vec<u8>,
    pub new: Vec<u8>,
    pub patch: Vec<u8>,
}

/// What a header says besides lengths and digests.
pub struct Says {
    pub model: &'static str,
    pub base: u64,
    pub target: u64,
    pub full: bool,
}

impl Default for Says {
    fn default() -> Self {
        Says { model: "tiny", base: 1, target: 2, full: false }
    }
}

/// `new` is `old` with some bytes changed in every block but the second.
pub fn pair(blocks: usize, longer: isize, seed: u64) -> Pair {
    let mut random = Random::new(seed);
    let len = blocks * BLOCK - 100;
    let old: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
    let mut new = old.clone();
    new.resize((len as isize + longer) as usize, 0x5A);
    for block in (0..blocks).filter(|b| *b != 1) {
        // All over the block, so that it cannot be half written and look whole.
        for i in (0..BLOCK).step_by(97) {
            let at = block * BLOCK + i;
            if at < new.len() {
                new[at] ^= 1 << random.below(8);
            }
        }
    }
    patch(old, new, &Says::default())
}

pub fn patch(old: Vec<u8>, new: Vec<u8>, says: &Says) -> Pair {
    let common = if says.full { 0 } else { old.len().min(new.len()) };
    let mut segments = Vec::new();
    if common > 0 {
        segments.push(Segment { kind: Kind::Raw { xor: true }, at: 0, len: common as u64, base: 0 });
    }
    if new.len() > common {
        let (at, len) = (common as u64, (new.len() - common) as u64);
        segments.push(Segment { kind: Kind::Raw { xor: false }, at, len, base: 0 });
    }
    let mut payload = Vec::new();
    let mut blocks = Vec::new();
    for (number, block) in new.chunks(BLOCK).enumerate() {
        let at = number * BLOCK;
        let base = |i: usize| if at + i < common { old[at + i] } else { 0 };
        let mut bytes: Vec<u8> = block.iter().enumerate().map(|(i, b)| b ^ base(i)).collect();
        let keep = bytes.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
        bytes.truncate(keep);
        if keep == 0 && at + block.len() <= common {
            continue;
        }
        if keep == 0 {
            bytes.push(0);
        }
        let from = payload.len() as u64;
        payload.extend_from_slice(&bytes);
        let digest = sha256(block)[..16].try_into().unwrap();
        blocks.push(Block { number: number as u32, payload: from..payload.len() as u64, stream1: 0, digest });
    }
    let index = Index { segments, blocks, block_count: new.len().div_ceil(BLOCK) as u32 };
    let bytes = index.to_bytes();
    let (base_len, base_sha) = if says.full { (0, sha256(b"")) } else { (old.len() as u64, sha256(&old)) };
    let header = Header {
        flags: Flags {
            in_place: !says.full,
            reversible: !says.full && old.len() == new.len(),
            full: says.full,
            ..Flags::default()
        },
        block_log2: 12,
        index_len: bytes.len() as u32,
        patch_len: (Header::LEN + bytes.len() + payload.len()) as u64,
        base_len,
        target_len: new.len() as u64,
        base_sequence: if says.full { 0 } else { says.base },
        target_sequence: says.target,
        contexts: index.contexts(),
        row: index.row(),
        base_sha,
        target_sha: sha256(&new),
        index_sha: sha256(&bytes),
        payload_sha: sha256(&payload),
        model: says.model.to_string(),
        base_version: String::from(if says.full { "" } else { "1.0" }),
        target_version: String::from("2.0"),
        key_id: [0; 8],
        signature: [0; 64],
    };
    let mut patch = header.to_bytes().to_vec();
    patch.extend_from_slice(&bytes);
    patch.extend_from_slice(&payload);
    Pair { old, new, patch }
}

pub fn key(seed: u8) -> SecretKey {
    SecretKey::parse(format!("{seed:02x}").repeat(32).as_bytes()).unwrap()
}

pub fn ring(key: &SecretKey) -> Keyring {
    let mut ring = Keyring::default();
    ring.add(key.public().unwrap()).unwrap();
    ring
}

pub fn sign_with(mut p: Pair, key: &SecretKey) -> Pair {
    let header = sign(p.patch[..Header::LEN].try_into().unwrap(), key);
    p.patch[..Header::LEN].copy_from_slice(&header);
    p
}

/// The patch signed, and the key that says so.
pub fn signed(p: Pair) -> (Pair, Keyring) {
    let key = key(1);
    (sign_with(p, &key), ring(&key))
}
