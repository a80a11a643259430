//! Patches as they lie in a file: header, index, variable-length numbers (docs/format/delta.md). What the payload means is the
//! room `delta`'s.

mod header;
mod index;
mod varint;

pub use header::{Flags, Header};
pub use index::{segments_in, Block, Index, Kind, Segment};
pub use varint::{put_varint, read_varint, unzigzag, zigzag};

/// The first bytes of a patch.
pub const MAGIC: [u8; 8] = [0x89, b'B', b'N', b'D', b'P', 0x0D, 0x0A, 0x1A];
