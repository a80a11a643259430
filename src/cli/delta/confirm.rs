use super::trust::{real, tell};
use super::Printer;
use crate::delta::apply::Site;
use crate::delta::store::Std;
use crate::error::Result;
use clap::Args;
use std::path::PathBuf;

/// Accept the version that is on trial: older ones are refused from now on
///
/// Do this when the new version has shown that it works. FILE.prev is not needed any more then and may be removed.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert verify model.bitnet && bitnet-convert delta confirm model.bitnet")]
pub struct Confirm {
    /// The model
    file: PathBuf,
}

impl Confirm {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        crate::fsio::forget_code();
        let report = Site::lock(&Std, &real(&self.file)?)?.confirm(&printer.progress())?;
        printer.result(&report, |out| tell(out, &self.file, &report))?;
        Ok(0)
    }
}
