//! Patches, from their bytes on.

mod apply;
mod coders;
mod disk;
mod golden;
mod kill;
mod pairs;
mod power;
mod support;
mod wire;
