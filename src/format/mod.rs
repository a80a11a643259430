//! One wire format each. None knows another, none knows what a network is.

pub mod manifest;
pub mod packed;
pub mod safetensors;
