//! Tokenizers: the host's reference and the compact form for devices.

pub mod host;
