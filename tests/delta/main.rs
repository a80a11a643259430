//! Patches, from their bytes on.

#[path = "../common/mod.rs"]
mod common;

mod apply;
mod coders;
mod create;
mod disk;
mod golden;
mod kill;
mod pairs;
mod power;
mod support;
mod wire;
