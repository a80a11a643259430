//! What a device does when its model cannot answer, and a conversation that outlives its program: docs/fallback.md, docs/format/session.md.

#[path = "../common/mod.rs"]
mod common;

mod device;
mod rules;
mod sessions;
