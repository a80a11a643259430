use super::Printer;
use crate::error::{Error, Result};
use clap::Args;
use std::path::PathBuf;

/// Make a patch that turns OLD into NEW
#[derive(Args)]
pub struct Create {
    /// File that the devices have
    old: PathBuf,
    /// File that they are to have
    new: PathBuf,
    /// Patch to write
    #[arg(long, short, value_name = "PATCH")]
    output: PathBuf,
}

impl Create {
    pub fn run(&self, _printer: &Printer) -> Result<u8> {
        Err(Error::unsupported("not there yet").at_file(&self.output).at_file(&self.old).at_file(&self.new))
    }
}
