//! Patches, from their bytes on.

#[path = "../common/mod.rs"]
mod common;

mod coders;
mod create;
mod disk;
mod pairs;
mod power;
mod support;
mod wire;
