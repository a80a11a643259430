//! SHA-256 and CRC-32, over slices and over what is written.

use sha2::{Digest, Sha256};

pub fn sha256(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

pub fn crc32(data: &[u8]) -> u32 {
    crc32fast::hash(data)
}

/// CRC-32 of parts that follow each other.
pub fn crc32_of(parts: &[&[u8]]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    parts.iter().for_each(|p| crc.update(p));
    crc.finalize()
}

pub fn hex(d: &[u8]) -> String {
    d.iter().map(|b| format!("{b:02x}")).collect()
}

/// SHA-256 of a stream.
#[derive(Default)]
pub struct Sha(Sha256);

impl Sha {
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// Both digests of a stream.
#[derive(Default)]
pub struct Both {
    sha: Sha256,
    crc: crc32fast::Hasher,
}

impl Both {
    pub fn update(&mut self, data: &[u8]) {
        self.sha.update(data);
        self.crc.update(data);
    }

    pub fn finish(self) -> (u32, [u8; 32]) {
        (self.crc.finalize(), self.sha.finalize().into())
    }
}
