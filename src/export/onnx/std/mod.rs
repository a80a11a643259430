//! Profile `std`.

use super::graph::Graph;
use super::Settings;
use crate::error::{Error, Result};
use crate::runtime::Artifact;

/// The graph of a packed file.
///
/// # Errors
/// `Unsupported` with the operation that has no place in this profile.
pub fn build<'a>(_artifact: &'a Artifact, _s: &Settings) -> Result<Graph<'a>> {
    Err(Error::unsupported("profile `std` is not written yet"))
}
