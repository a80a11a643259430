//! Patches between two files: making them, and making the new file out of the old one (docs/format/delta.md, docs/delta.md).

pub mod block;
pub mod gaps;
pub mod streams;
