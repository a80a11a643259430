use super::{adapter::With, Printer};
use crate::error::{Kind, Result};
use crate::verify::{runners, table, verify_with};
use clap::Args;
use std::path::PathBuf;

/// Check that every runner computes the same integers, operation by operation
///
/// The golden prompts of the artifact run on each; a difference names prompt, token, layer and operation. A folder that was exported for one
/// target is run on any: sources for the others are written and built in a temporary folder. A runner whose tools are missing is reported
/// as not run, with the package to install.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert verify model.bitnet
  bitnet-convert verify build/m7 --target all --require
  bitnet-convert verify build/m7 --target cortex-m0,esp32-c3 --quick
  bitnet-convert verify model.bitnet --target ./my-board.toml
  bitnet-convert verify model.bitnet --target rust-host,rust-thumbv7em
  bitnet-convert verify model.bitnet --adapter lora-bits.bin --target all

Runners: host-scalar, host-NAME for each SIMD kernel, c-host (sanitizers), every target that has an emulator (`targets list`),
and the Rust crate: rust-host, rust-thumbv7em, rust-thumbv6m, rust-riscv32imc, or `rust` for all four.
`host` means those of this machine, `all` means all. insn/token: instructions of one more token with its logits.
Exit codes: 0 all that ran are equal; 1 one differs; 2 it could not be done, or with --require one did not run.")]
pub struct Verify {
    /// An exported folder, or a packed model
    artifact: PathBuf,
    /// Runners with commas; default: this machine, and the target that a folder was exported for
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    target: Vec<String>,
    /// Fail if a runner did not run that would after installing something
    #[arg(long)]
    require: bool,
    /// The first golden prompt only, and no counting of instructions
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    with: With,
}

impl Verify {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        let selection = runners(&self.target, &self.artifact)?;
        let report = verify_with(&self.artifact, &selection, self.quick, self.with.checked()?, &printer.progress())?;
        printer.result(&report, |out| table(out, &report))?;
        if report.differing() > 0 {
            return Ok(Kind::Differs.exit_code());
        }
        if report.not_run() > 0 {
            let what = format!("{} of {} runners did not run", report.not_run(), report.rows.len());
            printer.warn(&what);
        }
        // The report says why; a second document would spoil `--json`.
        let nothing = report.equal() == 0;
        Ok(if nothing || self.require && report.missing() > 0 { Kind::Tool.exit_code() } else { 0 })
    }
}
