//! Patches between two files: making them, and making the new file out of the old one (docs/format/delta.md, docs/delta.md).

pub mod apply;
pub mod block;
pub mod bound;
pub mod create;
pub mod gaps;
pub mod hysteresis;
pub mod info;
pub mod journal;
pub mod keys;
pub mod matching;
pub mod meter;
pub mod report;
pub mod segments;
pub mod state;
pub mod store;
pub mod streams;
