use super::Printer;
use crate::error::{Kind, Result};
use crate::plan::group;
use crate::verify::{runners, verify, Outcome, Report};
use clap::Args;
use std::io::{self, Write};
use std::path::PathBuf;

/// Check that every runner computes the same integers, operation by operation
///
/// The golden prompts of the artifact run on each; a difference names prompt, token, layer and operation.
/// A runner whose tools are missing is reported as not run.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert verify model.bitnet
  bitnet-convert verify build/m7 --target cortex-m7 --require

Runners: host-scalar, host-simd, c-host (sanitizers), cortex-m7 (QEMU). `host` means the first three, `all` means all.
Exit codes: 0 all that ran are equal; 1 one differs; 2 it could not be done, or with --require one did not run.")]
pub struct Verify {
    /// An exported folder, or a packed model
    artifact: PathBuf,
    /// Runners with commas; default: all that suit the artifact
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    target: Vec<String>,
    /// Fail if a runner could not run
    #[arg(long)]
    require: bool,
}

impl Verify {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        let default = if self.artifact.is_dir() { "all" } else { "host" };
        let wanted = if self.target.is_empty() { vec![default.to_string()] } else { self.target.clone() };
        let report = verify(&self.artifact, &runners(&wanted)?, &printer.progress())?;
        printer.result(&report, |out| print(out, &report))?;
        if report.differing() > 0 {
            return Ok(Kind::Differs.exit_code());
        }
        if report.not_run() > 0 {
            let what = format!("{} of {} runners did not run", report.not_run(), report.rows.len());
            printer.warn(&what);
            if self.require || report.not_run() == report.rows.len() {
                // The report says why; a second document would spoil `--json`.
                return Ok(Kind::Tool.exit_code());
            }
        }
        Ok(0)
    }
}

fn print(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    let rolled = if r.beyond_window { ", beyond the window" } else { "" };
    writeln!(
        out,
        "verify {}: {} prompts, {} tokens{rolled}, {} operations on each runner",
        r.artifact,
        r.prompts,
        r.tokens,
        group(r.operations_compared as u64)
    )?;
    for row in &r.rows {
        let (word, more) = match &row.outcome {
            Outcome::Equal => ("equal", String::new()),
            Outcome::Differs { at } => ("DIFFERS", format!("\n    at {at}")),
            Outcome::NotRun { why } => ("not run", format!("\n    {why}")),
        };
        writeln!(out, "  {:12} {word:8} {}{more}", row.runner, row.detail)?;
    }
    Ok(())
}
