//! Patches, from their bytes on.

mod disk;
mod pairs;
mod power;
