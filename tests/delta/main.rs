//! Patches, from their bytes on.

#[path = "../common/mod.rs"]
mod common;

mod apply;
mod coders;
mod create;
mod disk;
mod example;
mod failing;
mod golden;
mod kill;
#[cfg(feature = "hub")]
#[allow(dead_code)] // Another test uses the rest of it.
#[path = "../update/mock.rs"]
mod mock;
mod pairs;
mod power;
mod python;
mod support;
mod threats;
mod wire;
