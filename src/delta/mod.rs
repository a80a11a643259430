//! Patches between two versions of a file (docs/format/delta.md).

pub mod keys;
