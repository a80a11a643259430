use super::Printer;
use crate::error::{Error, Result};
use clap::Args;
use std::path::{Path, PathBuf};

/// Show what a patch does, without the file that it is for
#[derive(Args)]
pub struct Inspect {
    /// Patch
    patch: PathBuf,
}

impl Inspect {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        show(&self.patch, printer)
    }
}

/// A patch, also for the general `inspect`.
pub fn show(path: &Path, _printer: &Printer) -> Result<u8> {
    Err(Error::unsupported("not there yet").at_file(path))
}
