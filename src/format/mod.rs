//! One wire format each; [`File`] holds the tensors of any of them. None knows what a network is.

pub mod adapter;
<<<<<<< HEAD
pub mod delta;
=======
pub mod base64;
>>>>>>> 7659549e1e5997580b164445b025831b556b290a
pub mod file;
pub mod gguf;
pub mod manifest;
pub mod packed;
pub mod record;
pub mod safetensors;
pub mod session;
pub mod torch_bin;

pub use file::File;
