//! Renderings of a program: the packed file, and the folders built around one: C sources, a WebAssembly module;
//! and of a model: GGUF files.

pub mod c;
pub mod gguf;
pub mod onnx;
pub mod packed;
pub mod rules;
pub mod rust;
pub mod wasm;
