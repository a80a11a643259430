//! What each stretch of the target is made from, and where the payload of each block lies.

use super::Header;
use crate::error::{Error, Result};
use std::ops::Range;

/// How a segment of the target is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The base as it is.
    Copy,
    /// The base, some bits flipped.
    Bits { rice: bool },
    /// Rows of `2 * half` bytes, one bit a trit in either half; some trits changed.
    Planes { rice: bool, half: u32 },
    /// Five trits a byte; some changed.
    Fives { rice: bool },
    /// Elements of `width` bytes (1, 2 or 4), some changed by a multiple of 2^`shift`.
    Ints { width: u8, shift: u8 },
    /// Copies out of the base and literals.
    Bytes,
    /// Frames of zstd with a part of the base before them.
    Zstd,
    /// Bytes, or their XOR with the base.
    Raw { xor: bool },
}

/// A stretch of the target of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Segment {
    pub kind: Kind,
    /// Offset in the target.
    pub at: u64,
    /// Bytes, at least 1.
    pub len: u64,
    /// Offset in the base. `Raw { xor: false }` reads none. `Bytes` and `Zstd` read the base anywhere: to the encoder this is where related
    /// bytes lie, and it is 0 in a parsed index.
    pub base: u64,
}

/// A block of the target that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub number: u32,
    /// Where its payload lies in the payload area; not empty.
    pub payload: Range<u64>,
    /// Bytes of stream 1, with which the payload begins.
    pub stream1: u32,
    /// First half of the SHA-256 of the block in the target.
    pub digest: [u8; 16],
}

/// The index of a patch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    /// They cover the target without gaps.
    pub segments: Vec<Segment>,
    /// The blocks that change, in order. All others equal what they are made from.
    pub blocks: Vec<Block>,
    /// Blocks of the target, changed or not.
    pub block_count: u32,
}

impl Kind {
    /// Whether the bytes of the base at `Segment::base` are what the segment is made from.
    pub fn reads_base(self) -> bool {
        !matches!(self, Kind::Bytes | Kind::Zstd | Kind::Raw { xor: false })
    }
}

impl Index {
    /// Reads an index and checks everything that the document asks of it, with its header.
    ///
    /// # Errors
    /// `Input` if anything is out of range, or contradicts the header.
    pub fn parse(bytes: &[u8], header: &Header) -> Result<Index> {
        let _ = (bytes, header);
        Err(Error::unsupported("patches are not read yet"))
    }

    /// The index as it stands in a file; entries that repeat are written once.
    pub fn to_bytes(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Block `number` if it changes.
    pub fn block(&self, number: u32) -> Option<&Block> {
        let i = self.blocks.binary_search_by_key(&number, |b| b.number).ok()?;
        self.blocks.get(i)
    }

    /// The segments with bytes in `range` of the target.
    pub fn segments_in(&self, range: Range<u64>) -> &[Segment] {
        segments_in(&self.segments, range)
    }

    /// Contexts that a decoder needs for these segments, the field of the header.
    pub fn contexts(&self) -> u32 {
        0
    }

    /// Bytes of the longest row of trits in planes, the field of the header.
    pub fn row(&self) -> u32 {
        0
    }
}

/// The segments of a sorted list with bytes in `range` of the target.
pub fn segments_in(segments: &[Segment], range: Range<u64>) -> &[Segment] {
    let from = segments.partition_point(|s| s.at + s.len <= range.start);
    let to = segments.partition_point(|s| s.at < range.end);
    segments.get(from..to).unwrap_or_default()
}
