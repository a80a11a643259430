//! One wire format each; [`File`] holds the tensors of any of them. None knows what a network is.

pub mod adapter;
pub mod base64;
pub mod delta;
pub mod file;
pub mod gguf;
pub mod manifest;
pub mod onnx;
pub mod packed;
pub mod record;
pub mod safetensors;
pub mod session;
pub mod torch_bin;

pub use file::File;
