//! Patches as they lie in a file: header, index, variable-length numbers (docs/format/delta.md). What the payload means is the
//! room `delta`'s.

mod header;
mod index;
mod varint;

pub use header::{Flags, Header};
pub use index::{segments_in, Block, Index, Kind, Segment};
pub use varint::{put_varint, read_varint, unzigzag, zigzag};
