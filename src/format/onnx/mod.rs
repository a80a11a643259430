//! ONNX: messages, element types, and a reader that trusts nothing.

mod load;
pub mod messages;
mod scan;
mod storage;
mod types;

pub use load::Loaded;
pub use types::Elem;

/// A message of protobuf ends here, and so does a model file.
pub const MAX_MODEL_BYTES: u64 = (1 << 31) - 1;
/// Key of the metadata with the SHA-256 of the file of weights, in hexadecimal.
pub const DATA_DIGEST: &str = "bitnet.data_sha256";

/// The version of the format that came with a version of the standard operators: a runtime that knows the operators reads it.
pub fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        23 => 11,
        24 => 12,
        25.. => 13,
    }
}

#[cfg(test)]
mod tests;
