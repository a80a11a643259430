use super::export::own_options;
use super::export_onnx::{is_packed, Temporary};
use super::{adapter::With, Printer};
use crate::error::{Error, Kind, Result};
use crate::export::packed;
use crate::format::onnx::Loaded;
use crate::import;
use crate::runtime::Artifact;
use crate::target;
use crate::verify::{onnx, runners, table, verify_with};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// Where ONNX Runtime's own bindings look for its library.
const LIBRARY: &str = "ORT_DYLIB_PATH";

/// Check that every runner computes the same integers, operation by operation
///
/// The golden prompts of the artifact run on each; a difference names prompt, token, layer and operation. A folder that was exported for one
/// target is run on any: sources for the others are written and built in a temporary folder. A runner whose tools are missing is reported
/// as not run, with the package to install. An ONNX file runs in an engine, against the model it was made from.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert verify model.bitnet
  bitnet-convert verify build/m7 --target all --require
  bitnet-convert verify build/m7 --target cortex-m0,esp32-c3 --quick
  bitnet-convert verify model.bitnet --target ./my-board.toml
  bitnet-convert verify model.bitnet --target rust-host,rust-thumbv7em
  bitnet-convert verify model.bitnet --adapter lora-bits.bin --target all
  bitnet-convert verify model.onnx --against model.bitnet
  bitnet-convert verify model.onnx --against DIR --engine ort --lib libonnxruntime.so

Runners: host-scalar, host-NAME for each SIMD kernel, c-host (sanitizers), every target that has an emulator (`targets list`),
and the Rust crate: rust-host, rust-thumbv7em, rust-thumbv6m, rust-riscv32imc, or `rust` for all four.
`host` means those of this machine, `all` means all. insn/token: instructions of one more token with its logits.
Exit codes: 0 all that ran are equal; 1 one differs; 2 it could not be done, or with --require one did not run.")]
pub struct Verify {
    /// An exported folder, a packed model, or an ONNX file that was exported
    artifact: PathBuf,
    /// For an ONNX file: the model it was made from, a packed file, an exported folder or the checkpoint
    #[arg(long, value_name = "M", help_heading = "ONNX")]
    against: Option<PathBuf>,
    /// What runs an ONNX file; default: builtin, an interpreter that needs nothing and names the first operation that differs
    #[arg(long, value_enum, requires = "against", help_heading = "ONNX")]
    engine: Option<Engine>,
    /// The shared library of ONNX Runtime, from any of its packages; default: the file that ORT_DYLIB_PATH names
    #[arg(long, value_name = "PATH", requires = "against", help_heading = "ONNX")]
    lib: Option<PathBuf>,
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

#[derive(Clone, Copy, ValueEnum, PartialEq)]
enum Engine {
    Builtin,
    Ort,
}

impl Verify {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        if self.against.is_some() || self.artifact.extension().is_some_and(|e| e == "onnx") {
            return self.onnx(printer);
        }
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

impl Verify {
    /// An ONNX file against the program it was made from.
    fn onnx(&self, printer: &Printer) -> Result<u8> {
        let Some(against) = &self.against else {
            let e = Error::usage("an ONNX file is compared with the model it was made from").at_file(&self.artifact);
            return Err(e.hint("add `--against M`, M a packed file, an exported folder or the checkpoint"));
        };
        let other = [
            (!self.target.is_empty(), "--target"),
            (self.require, "--require"),
            (self.with.adapter.is_some(), "--adapter"),
        ];
        if let Some((_, name)) = other.into_iter().find(|(given, _)| *given) {
            return Err(Error::usage(format!("`{name}` has no effect on an ONNX file")).hint("leave it out"));
        }
        let folder = self.artifact.is_dir();
        let file = if folder { self.artifact.join("model.onnx") } else { self.artifact.clone() };
        if folder && !file.is_file() {
            let e = Error::usage("this folder holds no ONNX file (no `model.onnx` in it)").at_file(&self.artifact);
            return Err(e.hint("export one: `bitnet-convert export --model M --format onnx -o DIR`"));
        }
        let with = self.engine()?;
        let temporary = Temporary::beside(None)?;
        let artifact = against_what(against, &file, &temporary.path, printer)?;
        let report = onnx::verify(&file, &artifact, &with, self.quick, &printer.progress())?;
        printer.result(&report, |out| onnx::table(out, &report))?;
        let differs = matches!(report.verdict, onnx::Verdict::Differs { .. });
        Ok(if differs { Kind::Differs.exit_code() } else { 0 })
    }

    fn engine(&self) -> Result<onnx::With> {
        if self.engine != Some(Engine::Ort) {
            return match self.lib {
                Some(_) => Err(Error::usage("`--lib` has no effect on the built-in engine").hint("add `--engine ort`")),
                None => Ok(onnx::With::Builtin),
            };
        }
        let lib = self.lib.clone().or_else(|| std::env::var_os(LIBRARY).map(PathBuf::from));
        lib.map(onnx::With::Ort).ok_or_else(|| {
            Error::usage("ONNX Runtime is used from its shared library, which was not named").hint(
                "add `--lib PATH`; the Python package has it: `pip install onnxruntime`, onnxruntime/capi/libonnxruntime.so.*",
            )
        })
    }
}

/// The artifact that a file is compared with; a checkpoint is converted with its own settings, and must give the file's source.
fn against_what(against: &Path, file: &Path, folder: &Path, printer: &Printer) -> Result<Artifact> {
    if is_packed(against) {
        return Artifact::open(against);
    }
    let source = Loaded::open(file)?.meta("bitnet.source").map(str::to_string);
    let target = target::find("host")?;
    let model = import::open(against, &printer.progress())?;
    let options = own_options(&target);
    let request = packed::Request {
        model: &model,
        options,
        target: &target,
        calibration: None,
        tokenizer: None,
        adapters: false,
    };
    let hint = "export the packed file with the options that the ONNX file was made with, and give it to `--against`";
    let packed = folder.join("model.bitnet");
    let prepared = packed::prepare(request).map_err(|e| if e.kind() == Kind::Usage { e.hint(hint) } else { e });
    prepared?.write(&packed, &printer.progress())?;
    let artifact = Artifact::open(&packed)?;
    let made = crate::digest::hex(&crate::digest::sha256(artifact.packed.bytes()));
    if source.is_some_and(|s| s != made) {
        let e = Error::usage("with its own settings the checkpoint gives another program than the file was made from");
        return Err(e.at_file(against).hint(hint));
    }
    Ok(artifact)
}
