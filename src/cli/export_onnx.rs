//! `export --format onnx`: options, what is refused, and what a person should know about the file.

use super::export::Export;
use super::Printer;
use crate::error::{Error, Kind, Result};
use crate::export::onnx::{self, genai, NormForm, Settings, WeightForm};
use crate::format::packed::MAGIC;
use crate::fsio::{self, AtomicFile};
use crate::plan::group;
use crate::program::{Program, TensorKind};
use crate::runtime::Artifact;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A head of floats above this size is worth a word.
const BIG_HEAD: u64 = 64 << 20;

/// Options of `--format onnx`.
#[derive(Args)]
#[command(next_help_heading = "ONNX")]
pub struct Onnx {
    /// What the graph computes with; default: std
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// How low-bit weights lie in the file; default: int8, which every runtime takes; of the profile ort: int4
    #[arg(long, value_enum)]
    weights: Option<Weights>,
    /// Profile int: one token a step, with a cache of this many slots and no unknown dimension
    #[arg(long = "static", value_name = "SEQ")]
    static_len: Option<usize>,
    /// A higher opset than the lowest that will do (13; int4 21; int2 25; ort 21); at most 26
    #[arg(long, value_name = "N")]
    opset: Option<i64>,
    /// Profiles std and ort: what a norm sums squares in; f32 for runtimes without f64; default: f64
    #[arg(long, value_enum)]
    norm: Option<Norm>,
    /// Profile ort: accuracy level 1, under which no runtime rounds activations; slower
    #[arg(long)]
    exact: bool,
    /// Profile int: logits as integers (unit 2^-16) or as floats; default: int
    #[arg(long, value_enum)]
    logits: Option<Logits>,
    /// Profiles std and ort, into a folder: also genai_config.json, config.json and the tokenizer's files, for onnxruntime-genai and transformers
    #[arg(long)]
    genai: bool,
}

#[derive(Clone, Copy, ValueEnum, PartialEq)]
enum Profile {
    /// Float glue around an integer core
    Std,
    /// Integers only: every logit is that of the integer program
    Int,
    /// GroupQueryAttention and MatMulNBits of ONNX Runtime
    Ort,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Profile::Std => "std",
            Profile::Int => "int",
            Profile::Ort => "ort",
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Weights {
    Int8,
    Int4,
    Int2,
}

#[derive(Clone, Copy, ValueEnum)]
enum Norm {
    F64,
    F32,
}

#[derive(Clone, Copy, ValueEnum, PartialEq)]
enum Logits {
    Int,
    Float,
}

#[derive(Serialize)]
struct Output {
    profile: &'static str,
    opset: i64,
    ir: i64,
    nodes: usize,
    /// None: nothing was written.
    written: Option<Files>,
    /// Bytes of the weights beside the graph, which a dry run knows.
    data_bytes: u64,
    runtimes: String,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Files {
    path: String,
    bytes: u64,
    data_bytes: u64,
    data_name: String,
    /// Names of the files beside the two.
    beside: Vec<&'static str>,
}

impl Onnx {
    /// For another format, any of these would do nothing.
    pub fn refuse(&self) -> Result<()> {
        match self.given().into_iter().find_map(|(given, name)| given.then_some(name)) {
            Some(name) => {
                Err(Error::usage(format!("`{name}` belongs to ONNX")).hint("add `--format onnx`, or leave it out"))
            }
            None => Ok(()),
        }
    }

    fn given(&self) -> [(bool, &'static str); 8] {
        [
            (self.profile.is_some(), "--profile"),
            (self.weights.is_some(), "--weights"),
            (self.static_len.is_some(), "--static"),
            (self.opset.is_some(), "--opset"),
            (self.norm.is_some(), "--norm"),
            (self.exact, "--exact"),
            (self.logits.is_some(), "--logits"),
            (self.genai, "--genai"),
        ]
    }

    fn profile(&self) -> Profile {
        self.profile.unwrap_or(Profile::Std)
    }

    fn profile_name(&self) -> &'static str {
        self.profile().name()
    }

    /// Options without effect on this profile, and numbers that no profile takes.
    fn settings(&self) -> Result<Settings> {
        let profile = self.profile();
        if self.genai && profile == Profile::Int {
            let e = Error::usage("onnxruntime-genai has no caches of integers with scales, which the profile int has");
            return Err(e.hint("leave `--profile int` out; to compare with the program, export that to another place"));
        }
        let only: [(bool, &str, &[Profile]); 4] = [
            (self.static_len.is_some(), "--static", &[Profile::Int]),
            (self.norm.is_some(), "--norm", &[Profile::Std, Profile::Ort]),
            (self.exact, "--exact", &[Profile::Ort]),
            (self.logits.is_some(), "--logits", &[Profile::Int]),
        ];
        if let Some((_, name, of)) = only.into_iter().find(|(given, _, of)| *given && !of.contains(&profile)) {
            let names: Vec<&str> = of.iter().map(|p| p.name()).collect();
            let e = Error::usage(format!("`{name}` has no effect on the profile {}", self.profile_name()));
            return Err(e.hint(format!("leave it out, or add `--profile {}`", names.join("` or `--profile "))));
        }
        if let Some(n) = self.opset.filter(|n| !(13..=26).contains(n)) {
            let e = Error::usage(format!("opset {n}: the files have 13 to 26, more than that no runtime takes"));
            return Err(e.hint("leave `--opset` out for the lowest that will do"));
        }
        if self.static_len.is_some_and(|n| n == 0 || n > 1 << 17) {
            return Err(
                Error::usage("a cache has 1 to 131072 slots").hint("give `--static` the tokens of a conversation")
            );
        }
        Ok(Settings {
            profile: match profile {
                Profile::Std => onnx::Profile::Std,
                Profile::Int => onnx::Profile::Int,
                Profile::Ort => onnx::Profile::Ort,
            },
            weights: match self.weights {
                None if profile == Profile::Ort => WeightForm::Int4,
                None | Some(Weights::Int8) => WeightForm::Int8,
                Some(Weights::Int4) => WeightForm::Int4,
                Some(Weights::Int2) => WeightForm::Int2,
            },
            norm: match self.norm {
                None | Some(Norm::F64) => NormForm::F64,
                Some(Norm::F32) => NormForm::F32,
            },
            static_len: self.static_len,
            opset: self.opset,
            exact: self.exact,
            float_logits: self.logits == Some(Logits::Float),
        })
    }

    /// What a person should know before relying on the file.
    fn warnings(&self, p: &Program) -> Vec<String> {
        let mut all = Vec::new();
        if self.profile() == Profile::Ort && !self.exact {
            all.push(
                "accuracy level 4 is approximate: a runtime may round activations once more. ONNX Runtime on x86-64 does it in a way that loses nothing \
                 here; where others run the file, `--exact` leaves them no choice"
                    .to_string(),
            );
        }
        let head: u64 = match p.ops.iter().rev().find_map(|op| match op.kind {
            crate::program::OpKind::Linear { weight, .. } => Some(&p.tensors[weight]),
            _ => None,
        }) {
            Some(t) if self.profile() != Profile::Int && is_rows(t.kind) => 4 * t.rows as u64 * t.cols as u64,
            _ => 0,
        };
        if head > BIG_HEAD {
            all.push(format!(
                "the head becomes {} bytes of floats in memory when the file is opened; a head of low-bit weights would be integers",
                group(head)
            ));
        }
        all
    }

    fn runtimes(&self, opset: i64) -> String {
        match (self.profile(), opset) {
            (Profile::Ort, _) if matches!(self.weights, Some(Weights::Int2)) => {
                "ONNX Runtime from 1.24 on, fast from 1.28 on".into()
            }
            (Profile::Ort, _) => "ONNX Runtime from 1.23 on".into(),
            (_, 25..) => "ONNX Runtime from 1.24 on".into(),
            (_, 21..) => "ONNX Runtime from 1.23 on".into(),
            (Profile::Int, _) => "ONNX Runtime from 1.17 on".into(),
            (Profile::Std, _) => "ONNX Runtime from 1.17 on, and other runtimes that have MatMulInteger".into(),
        }
    }
}

/// Matrices of whole rows, which heads and embeddings are.
fn is_rows(kind: TensorKind) -> bool {
    matches!(kind, TensorKind::Matrix { enc, .. } if !enc.is_low_bit())
}

pub fn run(export: &Export, printer: &Printer) -> Result<u8> {
    let settings = export.onnx.settings()?;
    let genai = export.onnx.genai;
    if let Some(name) = export.is_for_devices() {
        return Err(Error::usage(format!(
            "`{name}` has no effect on an ONNX file: it computes with the runtime's own kernels"
        ))
        .hint("leave it out; to export what a device runs, give its folder to `--model`"));
    }
    let place = export.output.as_ref().filter(|_| !export.dry_run).map(|o| Place::of(o, genai)).transpose()?;
    // Kept until the artifact in it is closed.
    let folder = Temporary::beside(place.as_ref().map(|p| p.folder.as_path()))?;
    let (artifact, mut warnings) = source(export, &folder, printer)?;
    let mut graph = onnx::build(&artifact, &settings).map_err(|e| e.at_file(&export.model))?;
    if genai {
        graph.weights_in(genai::WEIGHTS);
    }
    let (nodes, opset) = (graph.nodes(), graph.opset());
    let beside = genai.then(|| genai::beside(&artifact)).transpose()?;
    warnings.extend(beside.iter().flat_map(|b| b.warnings.clone()));
    warnings.extend(place.iter().flat_map(|p| p.left_over(genai)));
    warnings.extend(export.onnx.warnings(&artifact.program));
    warnings.iter().for_each(|w| printer.warn(w));
    let mut output = Output {
        profile: export.onnx.profile_name(),
        opset,
        ir: graph.ir(),
        nodes,
        written: None,
        data_bytes: graph.data_bytes()?,
        runtimes: export.onnx.runtimes(opset),
        warnings,
    };
    if let Some(place) = place {
        place.make()?;
        let files = beside.as_ref().map(|b| b.create(&place.folder)).transpose()?;
        let written = graph.write(&place.file(), &printer.progress())?;
        files.into_iter().flatten().try_for_each(AtomicFile::commit)?;
        output.nodes = written.nodes;
        output.written = Some(Files {
            path: place.file().display().to_string(),
            bytes: written.bytes,
            data_bytes: written.data_bytes,
            data_name: written.data_name,
            beside: beside.map_or(Vec::new(), |b| b.names().to_vec()),
        });
    }
    if printer.json || output.written.is_none() {
        printer.result(&output, |out| print(out, &output))?;
    } else if !printer.quiet {
        // stderr that cannot be written to is no reason to call what was written a failure.
        let _ = print(&mut io::stderr(), &output);
    }
    Ok(0)
}

fn print(out: &mut dyn Write, o: &Output) -> io::Result<()> {
    writeln!(
        out,
        "profile {}, opset {}, IR {}, {} nodes; for {}",
        o.profile,
        o.opset,
        o.ir,
        group(o.nodes as u64),
        o.runtimes
    )?;
    let Some(w) = &o.written else {
        return writeln!(out, "{} bytes of weights; nothing written (--dry-run)", group(o.data_bytes));
    };
    writeln!(out, "wrote {} ({} bytes, and {} in {})", w.path, group(w.bytes), group(w.data_bytes), w.data_name)?;
    if !w.beside.is_empty() {
        writeln!(out, "and beside it {}", w.beside.join(", "))?;
    }
    writeln!(out, "next: `bitnet-convert verify {} --against M`, M the model it was made from", w.path)
}

/// Where the file goes: into a folder under the name that others look for, or under its own name.
struct Place {
    folder: PathBuf,
    name: PathBuf,
}

impl Place {
    fn of(output: &Path, genai: bool) -> Result<Place> {
        let named = output.extension().is_some_and(|e| e == "onnx");
        if genai && (named || output.is_file()) {
            let e = Error::usage("`--genai` writes a folder, this is the name of a file").at_file(output);
            return Err(e.hint("give a folder; the graph in it is called model.onnx"));
        }
        if genai {
            genai::refuse_foreign(output)?;
        }
        if !named {
            if output.is_file() {
                let e = Error::usage("the output is a file that does not end in .onnx").at_file(output);
                return Err(e.hint("give a folder, or a name that ends in .onnx"));
            }
            return Ok(Place { folder: output.to_path_buf(), name: genai::GRAPH.into() });
        }
        let name = output.file_name().map(PathBuf::from).unwrap_or_default();
        let folder = match output.parent() {
            Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
            _ => PathBuf::from("."),
        };
        Ok(Place { folder, name })
    }

    fn file(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Files of an earlier export of the other sort that stay beside the new graph.
    fn left_over(&self, genai: bool) -> Vec<String> {
        let (of, what) = match genai {
            true => (vec!["model.onnx.data"], "an export without `--genai`"),
            false => (vec![genai::CONFIG, genai::WEIGHTS], "an export with `--genai`"),
        };
        let here = of.into_iter().filter(|n| self.name == Path::new(genai::GRAPH) && self.folder.join(n).is_file());
        here.map(|n| format!("{n} in the output folder is of {what} and does not belong to the new graph")).collect()
    }

    fn make(&self) -> Result<()> {
        fs::create_dir_all(&self.folder).map_err(|e| Error::io("create the output directory", &self.folder, &e))
    }
}

/// The program that is translated: a packed file or exported folder as it is, or a checkpoint converted into the temporary folder.
fn source(export: &Export, folder: &Temporary, printer: &Printer) -> Result<(Artifact, Vec<String>)> {
    if !is_packed(&export.model) {
        let file = folder.path.join("model.bitnet");
        let warnings = export.pack(&file, printer)?;
        return Ok((Artifact::open(&file)?, warnings));
    }
    if let Some(name) = export.says_how_to_lower() {
        return Err(Error::usage(format!("`{name}` has no effect on a model that was converted already"))
            .at_file(&export.model)
            .hint("leave it out, or give the checkpoint"));
    }
    Ok((Artifact::open(&export.model)?, Vec::new()))
}

/// A packed file, or a folder that was exported with one.
pub fn is_packed(path: &Path) -> bool {
    let file = if path.is_dir() { path.join("model.bin") } else { path.to_path_buf() };
    let mut head = [0; MAGIC.len()];
    File::open(file).and_then(|mut f| f.read_exact(&mut head)).is_ok_and(|()| head == MAGIC)
}

/// A folder for what is needed on the way; removed at the end, and by an interrupt.
pub struct Temporary {
    pub path: PathBuf,
    folder: Option<tempfile::TempDir>,
}

impl Temporary {
    /// In the folder of the output, which has room for a file of this size, or where temporary files go.
    pub fn beside(folder: Option<&Path>) -> Result<Temporary> {
        let near = folder.and_then(|f| f.ancestors().find(|a| a.is_dir()));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".bitnet-");
        let made = match near {
            Some(near) => builder.tempdir_in(near),
            None => builder.tempdir(),
        };
        let made = made.map_err(|e| match near {
            Some(near) => Error::io("create a temporary folder", near, &e),
            None => Error::new(Kind::Tool, format!("no temporary folder: {e}")),
        })?;
        let path = made.path().to_path_buf();
        fsio::pending_while(&path, || Ok(()))?;
        Ok(Temporary { path, folder: Some(made) })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let folder = self.folder.take();
        fsio::finished_by(&self.path.clone(), || drop(folder));
    }
}
