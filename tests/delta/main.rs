//! Patches, from their bytes on.

mod coders;
mod disk;
mod pairs;
mod power;
mod support;
mod wire;
