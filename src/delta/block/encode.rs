//! A block's payload.

use crate::error::{Error, Result};
use crate::format::delta::{Kind, Segment};

/// What the blocks of a patch are made from.
#[derive(Clone, Copy)]
pub struct Encoder<'a> {
    /// All segments of the target, in order. The `base` of a segment of kind `Bytes` or `Zstd` says where to look for related bytes.
    pub segments: &'a [Segment],
    pub block_log2: u32,
    /// Copies and prefixes stay within the block's own bytes of the base.
    pub in_place: bool,
    pub base: &'a [u8],
    pub target: &'a [u8],
}

/// The payload of a block; empty if the block does not change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    pub payload: Vec<u8>,
    /// Bytes of stream 1, with which the payload begins.
    pub stream1: u32,
}

/// What a stretch costs, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bits of its payload with the range coder, or in kinds that have no choice.
    pub range: u64,
    /// Bits of its payload with Rice codes; `u64::MAX` where they do not exist.
    pub rice: u64,
    /// Symbols of the classes 0 to 5 (docs/format/delta.md, Gaps).
    pub symbols: [u64; 6],
    /// Those of them that change.
    pub changes: [u64; 6],
    /// Blocks with a change in them.
    pub blocks: u64,
}

impl Encoder<'_> {
    /// Encodes one block. Same input, same bytes.
    ///
    /// # Errors
    /// `Usage` if a segment's kind cannot express the difference: another byte in a copy, an invalid code among trits, a difference that
    /// is no multiple of 2^shift; or if it lies outside of base or target.
    pub fn encode(&self, block: u32) -> Result<Encoded> {
        let _ = block;
        Err(Error::unsupported("patches are not made yet"))
    }
}

/// What the target's `segment` costs if it is coded alone in blocks of 2^`block_log2`, by either coder; the option of its kind is not read.
///
/// # Errors
/// As [`Encoder::encode`].
pub fn cost(segment: &Segment, block_log2: u32, base: &[u8], target: &[u8]) -> Result<Cost> {
    let _ = (segment.kind == Kind::Copy, block_log2, base, target);
    Err(Error::unsupported("patches are not made yet"))
}
