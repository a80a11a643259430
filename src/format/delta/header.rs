//! The 384 bytes that say what a patch is made for and what it becomes.

use crate::error::{Error, Result};

/// What a patch promises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// A block of the target depends on the same bytes of the base only.
    pub in_place: bool,
    /// The patch also turns the target into the base.
    pub reversible: bool,
    /// The patch needs no base.
    pub full: bool,
    pub signed: bool,
    /// Some parts are zstd frames, which devices do not read.
    pub host_only: bool,
}

/// The header of a patch, field by field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub flags: Flags,
    /// log2 of the bytes of a block of the target.
    pub block_log2: u32,
    /// Bytes of the index.
    pub index_len: u32,
    /// Bytes of the whole patch.
    pub patch_len: u64,
    pub base_len: u64,
    pub target_len: u64,
    pub base_sequence: u64,
    pub target_sequence: u64,
    /// Contexts that a decoder needs; `Index::contexts` says how many.
    pub contexts: u32,
    /// Bytes of the longest row of trits in planes, or 0.
    pub row: u32,
    pub base_sha: [u8; 32],
    pub target_sha: [u8; 32],
    pub index_sha: [u8; 32],
    pub payload_sha: [u8; 32],
    pub model: String,
    pub base_version: String,
    pub target_version: String,
    /// Number of the key that signed, as in its file.
    pub key_id: [u8; 8],
    pub signature: [u8; 64],
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 384;

    /// Reads the first [`Header::LEN`] bytes of `bytes`; more may follow.
    ///
    /// # Errors
    /// `Input` if a field is damaged, `Unsupported` for another version.
    pub fn parse(bytes: &[u8]) -> Result<Header> {
        let _ = bytes;
        Err(Error::unsupported("patches are not read yet"))
    }

    /// The header as it stands in a file.
    pub fn to_bytes(&self) -> [u8; Header::LEN] {
        [0; Header::LEN]
    }

    /// What the signature of a header is made of: the domain, then everything before the signature.
    pub fn signed_message(header: &[u8; Header::LEN]) -> [u8; 336] {
        let mut message = [0; 336];
        message[..15].copy_from_slice(b"bitnet delta v1");
        message[16..].copy_from_slice(&header[..320]);
        message
    }

    /// Bytes of the payload area, which ends the patch.
    pub fn payload_len(&self) -> u64 {
        self.patch_len.saturating_sub(Header::LEN as u64 + u64::from(self.index_len))
    }

    /// Blocks of the target.
    pub fn block_count(&self) -> u64 {
        self.target_len.div_ceil(1 << self.block_log2)
    }

    /// The bytes of the target that block `i` holds.
    pub fn block_range(&self, i: u64) -> std::ops::Range<u64> {
        let at = (i << self.block_log2).min(self.target_len);
        at..(at + (1 << self.block_log2)).min(self.target_len)
    }
}
