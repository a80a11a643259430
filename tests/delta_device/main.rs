//! Patches on devices: the applier and its signatures in C.

#[path = "../common/mod.rs"]
mod common;
mod ed25519;
mod emulator;
mod keys;
