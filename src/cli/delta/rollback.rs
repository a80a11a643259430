use super::trust::{real, tell, Trust};
use super::Printer;
use crate::delta::apply::{Patch, Site};
use crate::delta::store::Std;
use crate::error::Result;
use clap::Args;
use std::path::PathBuf;

/// Take an update back that was not confirmed
///
/// Without PATCH the version kept as FILE.prev takes its place again. With a reversible PATCH the file is changed back in place, also from the
/// middle of an update in place; after a cut the same command completes it.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert delta rollback model.bitnet
  bitnet-convert delta rollback model.bitnet v1-to-v2.bin")]
pub struct Rollback {
    /// The model
    file: PathBuf,
    /// The patch that was applied, if it is reversible
    patch: Option<PathBuf>,
    #[command(flatten)]
    trust: Trust,
}

impl Rollback {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        crate::fsio::forget_code();
        let options = self.trust.options()?;
        let patch = self.patch.as_deref().map(|p| Patch::open(&Std, p)).transpose()?;
        let site = Site::lock(&Std, &real(&self.file)?)?;
        let report = site.rollback(patch.as_ref(), &options, &printer.progress())?;
        printer.result(&report, |out| tell(out, &self.file, &report))?;
        Ok(0)
    }
}
