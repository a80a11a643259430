//! A patch of the simplest kind, XOR with the base, so that power cuts need no encoder.

use bitnet_convert::digest::sha256;

pub const IN_PLACE: u32 = 1;
pub const REVERSIBLE: u32 = 2;
pub const FULL: u32 = 4;

fn varint(out: &mut Vec<u8>, mut v: usize) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// A patch for `model` from `base` to `target`, which have one length unless `flags` has FULL.
pub fn patch(base: &[u8], target: &[u8], flags: u32, sequence: (u64, u64), block_log2: u32) -> Vec<u8> {
    let full = flags & FULL != 0;
    let base = if full { &[][..] } else { base };
    let mut segment = vec![if full { 9 } else { 9 + 16 }];
    varint(&mut segment, target.len());
    if !full {
        varint(&mut segment, 0);
    }
    let (mut index, mut payload) = (Vec::new(), Vec::new());
    varint(&mut index, segment.len());
    index.extend(&segment);
    for (i, block) in target.chunks(1 << block_log2).enumerate() {
        let from = if full { &[][..] } else { &base[i << block_log2..] };
        let mut bytes: Vec<u8> = block.iter().enumerate().map(|(k, b)| b ^ from.get(k).copied().unwrap_or(0)).collect();
        if !full && bytes.iter().all(|b| *b == 0) {
            varint(&mut index, 0);
            continue;
        }
        while bytes.len() > 1 && bytes.last() == Some(&0) {
            bytes.pop();
        }
        varint(&mut index, bytes.len());
        varint(&mut index, 0);
        index.extend(&sha256(block)[..16]);
        payload.extend(&bytes);
    }
    let mut h = vec![0u8; 384];
    let mut put = |at: usize, bytes: &[u8]| h[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x89BNDP\r\n\x1a");
    put(8, &[1, 0, 0, 0]);
    put(12, &flags.to_le_bytes());
    put(16, &block_log2.to_le_bytes());
    put(20, &(index.len() as u32).to_le_bytes());
    put(24, &(384 + index.len() as u64 + payload.len() as u64).to_le_bytes());
    put(32, &(base.len() as u64).to_le_bytes());
    put(40, &(target.len() as u64).to_le_bytes());
    put(48, &if full { 0 } else { sequence.0 }.to_le_bytes());
    put(56, &sequence.1.to_le_bytes());
    put(72, &sha256(base));
    put(104, &sha256(target));
    put(136, &sha256(&index));
    put(168, &sha256(&payload));
    put(200, b"intent");
    h.extend(index);
    h.extend(payload);
    h
}
