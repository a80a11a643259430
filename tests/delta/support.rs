//! Patches made of given segments, and numbers that look drawn.

use bitnet_convert::delta::block::{Decoder, Direction, Encoder};
use bitnet_convert::digest::sha256;
use bitnet_convert::error::Result;
use bitnet_convert::format::delta::{Block, Flags, Header, Index, Segment};

/// A small generator of numbers, the same everywhere.
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Draw {
        Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    /// Once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A patch in its parts.
pub struct Patch {
    pub header: Header,
    pub index: Index,
    pub payload: Vec<u8>,
}

impl Patch {
    pub fn make(segments: &[Segment], block_log2: u32, flags: Flags, base: &[u8], target: &[u8]) -> Result<Patch> {
        let encoder = Encoder { segments, block_log2, in_place: flags.in_place, base, target };
        let mut payload = Vec::new();
        let mut blocks = Vec::new();
        let count = target.len().div_ceil(1 << block_log2) as u32;
        for number in 0..count {
            let encoded = encoder.encode(number)?;
            if encoded.payload.is_empty() {
                continue;
            }
            let from = payload.len() as u64;
            payload.extend(encoded.payload);
            let at = (number as usize) << block_log2;
            let sha = sha256(&target[at..target.len().min(at + (1 << block_log2))]);
            blocks.push(Block {
                number,
                payload: from..payload.len() as u64,
                stream1: encoded.stream1,
                digest: *sha.first_chunk().unwrap(),
            });
        }
        let index = Index { segments: segments.to_vec(), blocks, block_count: count };
        let bytes = index.to_bytes();
        let header = Header {
            flags,
            block_log2,
            index_len: bytes.len() as u32,
            patch_len: (Header::LEN + bytes.len() + payload.len()) as u64,
            base_len: base.len() as u64,
            target_len: target.len() as u64,
            base_sequence: if flags.full { 0 } else { 1 },
            target_sequence: 2,
            contexts: index.contexts(),
            row: index.row(),
            base_sha: sha256(base),
            target_sha: sha256(target),
            index_sha: sha256(&bytes),
            payload_sha: sha256(&payload),
            model: "test".to_string(),
            base_version: "1".to_string(),
            target_version: "2".to_string(),
            key_id: [0; 8],
            signature: [0; 64],
        };
        Ok(Patch { header, index, payload })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.header.to_bytes()[..], &self.index.to_bytes(), &self.payload].concat()
    }

    pub fn parse(bytes: &[u8]) -> Result<Patch> {
        let header = Header::parse(bytes)?;
        let rest = bytes.get(Header::LEN..header.patch_len as usize).unwrap_or_default();
        let (index, payload) = rest.split_at_checked(header.index_len as usize).unwrap_or_default();
        Ok(Patch { index: Index::parse(index, &header)?, payload: payload.to_vec(), header })
    }

    /// The target, or with [`Direction::Backward`] the base, out of the other.
    pub fn apply(&self, base: &[u8], direction: Direction) -> Result<Vec<u8>> {
        let mut decoder = Decoder::new();
        let mut out = Vec::new();
        let mut block = Vec::new();
        for number in 0..self.index.block_count {
            let range = self.index.block(number).map_or(0..0, |b| b.payload.clone());
            let payload = self.payload.get(range.start as usize..range.end as usize).unwrap_or_default();
            decoder.decode(&self.header, &self.index, number, &base, payload, &mut block, direction)?;
            out.extend_from_slice(&block);
        }
        Ok(out)
    }
}
