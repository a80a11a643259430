//! ONNX: messages, element types, and a reader that trusts nothing.

mod load;
pub mod messages;
mod types;

pub use load::Loaded;
pub use types::Elem;
