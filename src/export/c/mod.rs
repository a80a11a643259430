//! The C folder: runtime sources, model, build files.

use super::packed::{Prepared, Written};
use crate::error::Result;
use crate::progress::Progress;
use crate::target::Target;
use std::path::Path;

/// How the model gets into the firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Embed {
    Incbin,
    Array,
}

pub fn write(_: &mut Prepared, _: &Target, _: Embed, _: &Path, _: &dyn Progress) -> Result<Written> {
    todo!()
}
