//! What stands in the place of the measurement in a build without the float reference.

use super::{Measured, Method};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::progress::Progress;

/// Cannot be made in this build.
pub enum Scorer {}

impl Scorer {
    pub fn new(_: &Model, _: &[u32]) -> Result<Scorer> {
        Err(Error::unsupported("this build has no float reference to measure layers with").hint(
            "build it with `cargo build --features reference`, or name the layers with `--keep` and add `--no-measure`",
        ))
    }

    pub fn choose(&self, _: Method, _: usize, _: &dyn Progress) -> Result<Measured> {
        match *self {}
    }

    pub fn measure(&self, _: impl IntoIterator<Item = (usize, Option<f64>)>, _: &dyn Progress) -> Result<Measured> {
        match *self {}
    }
}
