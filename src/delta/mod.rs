//! Patches between two files: making them, and making the new file out of the old one (docs/format/delta.md, docs/delta.md).

pub mod apply;
pub mod block;
pub mod gaps;
pub mod journal;
pub mod keys;
pub mod state;
pub mod store;
pub mod streams;
