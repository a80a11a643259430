//! Reads a model file.

use super::messages::{ModelProto, TensorProto};
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::path::Path;

/// A model file whose structure is sound.
pub struct Loaded {
    pub model: ModelProto,
}

impl Loaded {
    pub fn open(path: &Path) -> Result<Loaded> {
        Err(Error::unsupported("ONNX files are not read yet").at_file(path))
    }

    /// The elements of an initializer or of a tensor in an attribute: little-endian, row-major, packed below 8 bits.
    pub fn tensor_bytes(&self, t: &TensorProto) -> Result<Cow<'_, [u8]>> {
        Err(Error::unsupported("ONNX files are not read yet").at_tensor(&t.name))
    }

    pub fn bytes(&self) -> u64 {
        0
    }

    pub fn opset(&self, domain: &str) -> Option<i64> {
        self.model.opset_import.iter().find(|o| o.domain == domain).map(|o| o.version)
    }

    pub fn meta(&self, key: &str) -> Option<&str> {
        self.model.metadata_props.iter().find(|m| m.key == key).map(|m| m.value.as_str())
    }
}
