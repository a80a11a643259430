use super::trust::{real, tell, Trust};
use super::Printer;
use crate::delta::apply::{self, Patch, Report, Site};
use crate::delta::store::Std;
use crate::error::{Error, Result};
use clap::Args;
use std::path::PathBuf;

/// Apply a patch: the file becomes the new version, or stays what it is
///
/// Signature, model, sequence, the digests of patch and file are checked before the first byte is written. A cut at any moment leaves the old
/// version or the new one; an update in place is completed by the same command. The new version is on trial until `delta confirm`.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert delta apply model.bitnet v1-to-v2.bin --key release.pub
  bitnet-convert delta apply model.bitnet v1-to-v2.bin --in-place
  bitnet-convert delta apply v1.bitnet v1-to-v2.bin -o v2.bitnet

Beside FILE: FILE.state says what is accepted and on trial, FILE.prev is the version before, FILE.journal is there while an update in place is unfinished.")]
pub struct Apply {
    /// The model
    file: PathBuf,
    /// The patch
    patch: PathBuf,
    /// Write the new version here and leave FILE as it is
    #[arg(long, short, value_name = "NEW", conflicts_with_all = ["in_place", "confirm"])]
    output: Option<PathBuf>,
    /// Change FILE itself, where there is no room for two versions; nobody may read it meanwhile
    #[arg(long)]
    in_place: bool,
    /// Accept the new version at once
    #[arg(long)]
    confirm: bool,
    /// Check everything, write nothing
    #[arg(long, conflicts_with = "output")]
    dry_run: bool,
    #[command(flatten)]
    trust: Trust,
}

impl Apply {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        crate::fsio::forget_code();
        let mut options = self.trust.options()?;
        options.confirm = self.confirm;
        let file = real(&self.file)?;
        let patch = Patch::open(&Std, &self.patch)?;
        let progress = printer.progress();
        let (path, report) = match &self.output {
            Some(out) => {
                let out = real(out)?;
                if out == file {
                    return Err(Error::usage("the output is the file itself")
                        .at_file(&out)
                        .hint("without `-o` the file becomes the new version, the old one is kept beside it"));
                }
                (self.output.as_ref(), apply::into_new(&Std, &file, &patch, &out, &options, &progress)?)
            }
            None => {
                let site = Site::lock(&Std, &file)?;
                let report = match (self.dry_run, self.in_place) {
                    (true, _) => site.dry_run(&patch, self.in_place, &options, &progress)?,
                    (false, true) => site.in_place(&patch, &options, &progress)?,
                    (false, false) => site.switch(&patch, &options, &progress)?,
                };
                (None, report)
            }
        };
        self.print(printer, path.unwrap_or(&self.file), &patch, &report)
    }

    fn print(&self, printer: &Printer, path: &std::path::Path, patch: &Patch, report: &Report) -> Result<u8> {
        if report.signed_by.is_none() {
            printer.note(match patch.header.flags.signed {
                true => "the signature was not checked: no key is known for this file (`--key NAME.pub`)",
                false => "the patch is not signed",
            });
        }
        printer.result(report, |out| match self.dry_run {
            true => writeln!(
                out,
                "the patch may be applied: {} becomes {}",
                path.display(),
                super::trust::version(&report.to)
            ),
            false => tell(out, path, report),
        })?;
        Ok(0)
    }
}
