//! Patches, from their bytes on.

#[path = "../common/mod.rs"]
mod common;

mod coders;
mod create;
mod disk;
mod example;
mod failing;
mod golden;
mod pairs;
mod power;
mod python;
mod support;
mod threats;
mod wire;
