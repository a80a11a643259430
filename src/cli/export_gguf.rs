//! `export --format gguf`.

use super::convert_gguf::is_gguf;
use super::Printer;
use crate::error::{Error, Result};
use crate::export::gguf::{self, Kind, Plan, Row, Settings, Written};
use crate::import;
use crate::model::Model;
use crate::plan::group;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Options of GGUF files.
#[derive(Args)]
pub struct GgufArgs {
    /// Type of the matrices of a GGUF file; default: the densest that holds the model's codes, q8_0 for floats
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<GgufType>,
    /// Write this architecture name into a GGUF file, though the program that reads it may compute something else
    #[arg(long, value_name = "NAME")]
    force_arch: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum GgufType {
    /// Ternary, 2.06 bits a weight; rows of a multiple of 256
    #[value(name = "tq2_0")]
    Tq2_0,
    /// Ternary, 1.69 bits; rows of a multiple of 256
    #[value(name = "tq1_0")]
    Tq1_0,
    /// Binary, 1.13 bits; rows of a multiple of 128
    #[value(name = "q1_0")]
    Q1_0,
    /// Ternary, 2.25 bits; rows of a multiple of 64
    #[value(name = "q2_0")]
    Q2_0,
    /// Ternary with one scale a tensor, 2 bits, for bitnet.cpp; rows of a multiple of 128
    #[value(name = "i2_s")]
    I2S,
    /// 8 bits with a scale for each 32, 8.5 bits a weight
    #[value(name = "q8_0")]
    Q8_0,
    /// Floats of 16 bits
    F16,
    /// Floats of 16 bits with the range of 32
    Bf16,
    /// Floats of 32 bits
    F32,
}

impl GgufType {
    fn kind(self) -> Kind {
        match self {
            GgufType::Tq2_0 => Kind::Tq2_0,
            GgufType::Tq1_0 => Kind::Tq1_0,
            GgufType::Q1_0 => Kind::Q1_0,
            GgufType::Q2_0 => Kind::Q2_0,
            GgufType::I2S => Kind::I2S,
            GgufType::Q8_0 => Kind::Q8_0,
            GgufType::F16 => Kind::F16,
            GgufType::Bf16 => Kind::Bf16,
            GgufType::F32 => Kind::F32,
        }
    }
}

#[derive(Serialize)]
struct Output<'a> {
    architecture: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    /// Of the matrices of the blocks, with scales.
    bits_per_weight: f64,
    tensors: &'a [Row],
    /// What the reading program does with the input of a matrix of each type.
    activations: BTreeMap<&'static str, &'static str>,
    warnings: &'a [String],
    written: Option<WrittenOutput>,
}

#[derive(Serialize)]
struct WrittenOutput {
    path: String,
    bytes: u64,
    /// Largest relative error of a scale, which the blocks have as f16.
    scale_error: f64,
}

impl GgufArgs {
    pub fn is_set(&self) -> bool {
        self.kind.is_some() || self.force_arch.is_some()
    }

    /// Whether a GGUF file becomes another tensor by tensor; else it is a checkpoint like others.
    ///
    /// # Errors
    /// As opening the file.
    pub fn converts(&self, path: &Path) -> Result<bool> {
        let kind = self.kind.map(GgufType::kind);
        Ok(is_gguf(path) && kind.map_or(Ok(true), |k| gguf::convert::suits(path, k))?)
    }

    /// A GGUF file in another type.
    pub fn convert(&self, path: &Path, out: Option<&Path>, printer: &Printer) -> Result<u8> {
        let kind = self.kind.map(GgufType::kind);
        super::convert_gguf::run(path, kind, self.force_arch.as_deref(), out, printer)
    }

    /// `settings` come with what the other options of `export` say. `out` is None for a dry run; `check` refuses to replace the source.
    pub fn run(
        &self,
        path: &Path,
        settings: Settings,
        out: Option<&Path>,
        check: impl Fn(&Model) -> Result<()>,
        printer: &Printer,
    ) -> Result<u8> {
        let settings =
            Settings { kind: self.kind.map(GgufType::kind), force_arch: self.force_arch.as_deref(), ..settings };
        let model = import::open(path, &printer.progress())?;
        check(&model)?;
        let plan = gguf::plan(&model, &settings)?;
        plan.warnings.iter().for_each(|w| printer.warn(w));
        let written = match out {
            Some(out) => Some(plan.write(&settings, out, &printer.progress())?),
            None => None,
        };
        if printer.json {
            return printer.result(&output(&plan, written.zip(out)), |_| Ok(())).map(|()| 0);
        }
        let text = |to: &mut dyn Write| table(to, &plan);
        if out.is_none() {
            printer.result(&(), text)?;
        } else if !printer.quiet {
            // stderr that cannot be written to is no reason to fail: the file is there.
            let _ = text(&mut std::io::stderr());
        }
        match written.zip(out) {
            None => printer.note("nothing written (--dry-run)"),
            Some((w, out)) => {
                printer.note(&format!("wrote {} ({} bytes)", out.display(), group(w.bytes)));
                if w.scale_error > 0.0 {
                    printer.note(&format!("scales are f16 there: off by at most {:.1e} of their value", w.scale_error));
                }
            }
        }
        Ok(0)
    }
}

fn output<'a>(plan: &'a Plan, written: Option<(Written, &Path)>) -> Output<'a> {
    Output {
        architecture: plan.architecture,
        kind: plan.kind.dtype().name(),
        bits_per_weight: plan.bits_per_weight,
        tensors: &plan.tensors,
        activations: plan.activations.iter().copied().collect(),
        warnings: &plan.warnings,
        written: written.map(|(w, out)| WrittenOutput {
            path: out.display().to_string(),
            bytes: w.bytes,
            scale_error: w.scale_error,
        }),
    }
}

/// Why, which tensors, of which shape, and what they became.
type Noted<'a> = (&'a str, String, &'a [usize], &'a str);

/// Tensors by what they were and became, and each that is not what was asked for.
fn table(out: &mut dyn Write, plan: &Plan) -> std::io::Result<()> {
    writeln!(
        out,
        "GGUF, architecture {}, {:.3} bits a weight of the blocks' matrices",
        plan.architecture, plan.bits_per_weight
    )?;
    let mut kinds: BTreeMap<(&str, &str), (usize, u64, u64)> = BTreeMap::new();
    for t in &plan.tensors {
        let sum = kinds.entry((t.to, t.from)).or_default();
        *sum = (sum.0 + 1, sum.1 + t.bytes, sum.2 + t.shape.iter().product::<usize>() as u64);
    }
    for ((to, from), (count, bytes, elements)) in &kinds {
        let bits = *bytes as f64 * 8.0 / (*elements).max(1) as f64;
        writeln!(out, "  {to:<7} {count:>5} tensors {:>15} bytes {bits:>7.3} bits, from {from}", group(*bytes))?;
    }
    for (name, rule) in &plan.activations {
        writeln!(out, "  inputs of {name} matrices become {rule} where the file is run")?;
    }
    // Layers are alike: `blk.*.ffn_down.weight` stands for that tensor of all of them.
    let mut noted: BTreeMap<Noted, (usize, f64)> = BTreeMap::new();
    for t in &plan.tensors {
        let Some(note) = t.note.as_deref() else { continue };
        let layer = t.name.strip_prefix("blk.").and_then(|n| n.split_once('.'));
        let name = layer.map_or(t.name.clone(), |(_, rest)| format!("blk.*.{rest}"));
        let sum = noted.entry((note, name, &t.shape, t.to)).or_default();
        *sum = (sum.0 + 1, t.bits_per_weight);
    }
    let mut last = "";
    for ((note, name, shape, to), (count, bits)) in &noted {
        if *note != last {
            writeln!(out, "  not {}: {note}", plan.kind.dtype().name())?;
            last = note;
        }
        writeln!(out, "    {count} x {name} {shape:?} became {to}, {bits:.3} bits")?;
    }
    Ok(())
}

/// Of options that mean nothing for these files, those that were given.
pub fn refuse(given: &[(&str, bool)]) -> Result<()> {
    match given.iter().find(|(_, set)| *set) {
        None => Ok(()),
        Some((name, _)) => Err(Error::usage(format!("`{name}` has no effect on a GGUF file")).hint(
            "leave it out; what is done with activations and the cache is up to the program that reads the file",
        )),
    }
}
