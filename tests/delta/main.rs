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
#[cfg(feature = "hub")]
#[path = "../common/http.rs"]
mod http;
mod kill;
mod pairs;
mod power;
mod python;
mod support;
mod threats;
#[path = "../common/disk.rs"]
mod watched;
mod wire;
