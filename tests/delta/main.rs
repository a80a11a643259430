//! Patches, from their bytes on.

#[path = "../common/mod.rs"]
mod common;

mod coders;
mod create;
mod golden;
mod support;
mod wire;
