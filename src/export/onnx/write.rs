//! Writes a graph.

use super::graph::Graph;
use crate::error::{Error, Result};
use crate::progress::Progress;
use std::path::Path;

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Of the model file.
    pub bytes: u64,
    /// Of the file of weights beside it.
    pub data_bytes: u64,
}

impl Graph<'_> {
    /// Writes `path` and, beside it, the weights as `path` with `.data` appended.
    pub fn write(self, path: &Path, _progress: &dyn Progress) -> Result<Written> {
        Err(Error::unsupported("graphs are not written yet").at_file(path))
    }
}
