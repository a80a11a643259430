//! Patches, from their bytes on.

mod coders;
mod support;
mod wire;
