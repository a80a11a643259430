//! Patches, from their bytes on.

mod coders;
mod golden;
mod support;
mod wire;
