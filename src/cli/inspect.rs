use super::inspect_gguf::GgufInfo;
use super::{inspect_onnx, kept, Printer};
use crate::digest::hex;
use crate::error::{self, Result};
use crate::format::packed::{Kind, MAGIC};
use crate::format::{delta, gguf, record, session, File};
use crate::import;
use crate::model::{Form, Matrix, Model, Unit};
use crate::plan::group;
use crate::program::kernels::Use;
use crate::program::{self, TensorKind};
use crate::runtime::Artifact;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

/// Show what is in a file: packed model, exported folder, checkpoint folder, safetensors or GGUF file, ONNX model, patch, session, or report of a device
///
/// Everything in it is checked on the way: digests, structure, codes.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bitnet-convert inspect model.bitnet\n  bitnet-convert inspect model.bitnet --program\n  bitnet-convert inspect model.onnx\n  bitnet-convert inspect model.gguf\n  bitnet-convert inspect DIR --json"
)]
pub struct Inspect {
    /// Packed file, exported folder, checkpoint folder, .safetensors, .gguf or .onnx file, patch, session, report of a device, or the name of a model on the hub
    path: PathBuf,
    /// Also print every operation of the program, or every node of the graph
    #[arg(long)]
    program: bool,
}

#[derive(Serialize)]
struct SectionInfo {
    name: String,
    offset: u64,
    bytes: u64,
    crc32: String,
    sha256: String,
}

#[derive(Serialize)]
struct TensorInfo {
    name: String,
    kind: String,
    rows: usize,
    cols: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct PackedInfo {
    file: String,
    bytes: u64,
    model: Option<String>,
    architecture: Option<String>,
    native: Option<bool>,
    weight_rule: Option<String>,
    activation_rule: Option<String>,
    target: Option<String>,
    vocab: usize,
    d_model: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    window: usize,
    sinks: usize,
    kv_bits: u32,
    residual_frac_bits: u32,
    low_bit_weights: u64,
    /// Which kernels the C runtime takes.
    kernels: Vec<Use>,
    /// Digest of the low-bit weights; the same for every export of a checkpoint.
    model_id: String,
    /// Bits per low-bit weight with its scales, and of the whole file per parameter.
    bits_per_low_bit_weight: f64,
    bits_per_parameter: f64,
    golden_prompts: usize,
    golden_tokens: usize,
    sections: Vec<SectionInfo>,
    tensors: Vec<TensorInfo>,
    sources: BTreeMap<String, String>,
    program: Option<String>,
}

#[derive(Serialize)]
struct SafetensorsInfo {
    file: String,
    bytes: u64,
    tensors: Vec<RawTensor>,
}

#[derive(Serialize)]
struct RawTensor {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    offset: u64,
    bytes: usize,
}

#[derive(Serialize)]
struct ModelInfo {
    folder: String,
    model: String,
    architecture: String,
    native: bool,
    vocab: usize,
    d_model: usize,
    ffn: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    context: usize,
    hidden_activation: &'static str,
    projections: u64,
    /// How the weights of most projections are stored, with the unit that shares a scale.
    format: String,
    /// Of all matrices as they lie in the files, without scales.
    bits_per_weight: f64,
    tensors: Vec<Encoded>,
    warnings: Vec<String>,
}

/// A GGUF file, and the model that is made of it.
#[derive(Serialize)]
struct GgufOutput {
    gguf: GgufInfo,
    #[serde(flatten)]
    model: Option<ModelInfo>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_a_model: Option<String>,
}

/// A matrix of a checkpoint.
#[derive(Serialize)]
struct Encoded {
    name: String,
    tensor: String,
    rows: usize,
    cols: usize,
    source: &'static str,
    /// What shares a scale: `tensor`, `row` or a number of columns; absent for floats.
    unit: Option<String>,
    /// Stored bits of a weight.
    bits: f64,
}

impl Encoded {
    fn of(m: &Model, name: &str, w: &Matrix) -> Encoded {
        let view = m.tensor(&w.tensor);
        let of_type = || 8.0 * view.data.len() as f64 / view.elements().max(1) as f64;
        let unit = match w.source.form() {
            Form::Float => None,
            Form::Codes { unit: Unit::Tensor, .. } => Some("tensor".to_string()),
            Form::Codes { unit: Unit::Row, .. } => Some("row".to_string()),
            Form::Codes { unit: Unit::Group(g), .. } => Some(g.to_string()),
        };
        Encoded {
            name: name.to_string(),
            tensor: w.tensor.name.clone(),
            rows: w.rows,
            cols: w.cols,
            source: w.source.name(),
            unit,
            bits: w.source.bits().map_or_else(of_type, f64::from),
        }
    }

    fn label(&self) -> String {
        match self.unit.as_deref() {
            None => format!("{}, {:.2} bits a weight", self.source, self.bits),
            Some("tensor") => format!("{}, one scale for each matrix", self.source),
            Some("row") => format!("{}, a scale for each row", self.source),
            Some(g) => format!("{}, a scale for each {g} columns", self.source),
        }
    }
}

/// All matrices by their names in the network, each once.
fn encoded(m: &Model) -> Vec<Encoded> {
    let ends = [("embedding", Some(&m.embedding)), ("head", m.head.as_ref().filter(|_| !m.tied()).map(|h| &h.weight))];
    let ends = ends.into_iter().filter_map(|(n, w)| Some(Encoded::of(m, n, w?)));
    m.projections().map(|l| Encoded::of(m, &l.name, &l.weight)).chain(ends).collect()
}

/// The label that most weights of the projections have.
fn most_common(tensors: &[Encoded]) -> String {
    let mut weights: BTreeMap<String, usize> = BTreeMap::new();
    for t in tensors.iter().filter(|t| !["embedding", "head"].contains(&t.name.as_str())) {
        *weights.entry(t.label()).or_default() += t.rows * t.cols;
    }
    weights.into_iter().max_by_key(|(_, n)| *n).map(|(l, _)| l).unwrap_or_default()
}

impl Inspect {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        if import::is_remote(&self.path) || self.path.is_dir() && !self.path.join("model.bin").is_file() {
            return self.checkpoint(printer);
        }
        if self.path.is_file() {
            let start = crate::fsio::map(&self.path)?;
            let (is_packed, is_gguf) = (start.starts_with(&MAGIC), start.starts_with(gguf::MAGIC));
            let (is_session, is_record) = (start.starts_with(&session::MAGIC), start.starts_with(&record::MAGIC[..]));
            let is_patch = start.starts_with(&delta::MAGIC);
            let is_onnx = !is_packed && !self.is_exported() && inspect_onnx::is_model(&self.path, &start);
            drop(start);
            if is_patch {
                return super::delta::show(&self.path, printer);
            }
            if is_session || is_record {
                return kept::show(&self.path, is_session, printer);
            }
            if is_gguf {
                return self.gguf(printer);
            }
            if is_onnx {
                return inspect_onnx::show(&self.path, self.program, printer);
            }
            if !is_packed
                && self.path.extension().is_some_and(|e| e == "safetensors" || e == "bin")
                && !self.is_exported()
            {
                return self.tensors(printer);
            }
        }
        let info = packed(&Artifact::open(&self.path)?, self.program);
        printer.result(&info, |out| print_packed(out, &info))?;
        Ok(0)
    }

    /// A `model.bin` is what an export wrote, whatever became of its first bytes.
    fn is_exported(&self) -> bool {
        self.path.file_name().is_some_and(|n| n == "model.bin")
    }

    fn tensors(&self, printer: &Printer) -> Result<u8> {
        let f = File::open(&self.path)?;
        let tensors = f.names().filter_map(|n| f.get(n)).map(|t| RawTensor {
            name: t.name.to_string(),
            dtype: t.dtype.name(),
            shape: t.shape.to_vec(),
            offset: t.offset,
            bytes: t.data.len(),
        });
        let info =
            SafetensorsInfo { file: self.path.display().to_string(), bytes: f.len(), tensors: tensors.collect() };
        printer.result(&info, |out| {
            writeln!(out, "{}: safetensors, {} tensors, {} bytes", info.file, info.tensors.len(), group(info.bytes))?;
            info.tensors.iter().try_for_each(|t| {
                writeln!(
                    out,
                    "  {:5} {:16} {:>12}  {}",
                    t.dtype,
                    format!("{:?}", t.shape),
                    group(t.bytes as u64),
                    t.name
                )
            })
        })?;
        Ok(0)
    }

    fn checkpoint(&self, printer: &Printer) -> Result<u8> {
        let info = self.model(printer)?;
        printer.result(&info, |out| {
            writeln!(out, "{}: checkpoint of `{}`, architecture {}", info.folder, info.model, info.architecture)?;
            print_model(out, &info)
        })?;
        Ok(0)
    }

    /// What is in the file is told also of models that are not read, with the reason; a damaged file is an error.
    fn gguf(&self, printer: &Printer) -> Result<u8> {
        let gguf = GgufInfo::read(&self.path)?;
        let (model, not_a_model) = match self.model(printer) {
            Ok(m) => (Some(m), None),
            Err(e) if e.kind() == error::Kind::Unsupported => (None, Some(e.to_string())),
            Err(e) => return Err(e),
        };
        let info = GgufOutput { gguf, model, not_a_model };
        printer.result(&info, |out| {
            info.gguf.print(out, &self.path)?;
            if let Some(m) = &info.model {
                writeln!(out, "read as `{}`, architecture {}", m.model, m.architecture)?;
                print_model(out, m)?;
            }
            info.not_a_model.iter().try_for_each(|why| writeln!(out, "not read as a model: {why}"))
        })?;
        Ok(0)
    }

    fn model(&self, printer: &Printer) -> Result<ModelInfo> {
        let m = import::open(&self.path, &printer.progress())?;
        let tensors = encoded(&m);
        let weights: f64 = tensors.iter().map(|t| (t.rows * t.cols) as f64).sum();
        let bits: f64 = tensors.iter().map(|t| t.bits * (t.rows * t.cols) as f64).sum();
        Ok(ModelInfo {
            folder: self.path.display().to_string(),
            model: m.name.clone(),
            architecture: m.architecture.clone(),
            native: m.native.is_some(),
            vocab: m.vocab,
            d_model: m.d_model,
            ffn: m.layers[0].mlp.up.weight.rows,
            layers: m.layers.len(),
            heads: m.heads,
            kv_heads: m.kv_heads,
            head_dim: m.head_dim,
            context: m.context,
            hidden_activation: m.layers[0].mlp.activation.name(),
            projections: m.projections().map(|l| (l.weight.rows * l.weight.cols) as u64).sum(),
            format: most_common(&tensors),
            bits_per_weight: bits / weights.max(1.0),
            tensors,
            warnings: m.warnings.clone(),
        })
    }
}

fn print_model(out: &mut dyn Write, info: &ModelInfo) -> io::Result<()> {
    let trained = if info.native {
        "trained for low bits: exported with its own codes and scales"
    } else {
        "float weights: give `--quantize-weight` and `--quantize-activation`"
    };
    writeln!(out, "  {trained}")?;
    writeln!(
        out,
        "  {} layers, d_model {}, ffn {}, {} heads / {} kv heads of {}, vocabulary {}, context {}",
        info.layers, info.d_model, info.ffn, info.heads, info.kv_heads, info.head_dim, info.vocab, info.context
    )?;
    writeln!(out, "  {} weights in projections, {}", group(info.projections), info.hidden_activation)?;
    writeln!(out, "  stored as {}; all matrices {:.2} bits a weight", info.format, info.bits_per_weight)?;
    for t in info.tensors.iter().filter(|t| t.label() != info.format) {
        writeln!(out, "  {:16} {}", t.name, t.label())?;
    }
    info.warnings.iter().try_for_each(|w| writeln!(out, "  warning: {w}"))
}

fn packed(a: &Artifact, with_program: bool) -> PackedInfo {
    let p = &a.program;
    let manifest = a.manifest.as_ref();
    let low: u64 = p.tensors.iter().map(|t| t.low_bit_weights()).sum();
    let low_bytes: u64 = p.tensors.iter().filter(|t| t.low_bit_weights() > 0).map(|t| t.bytes()).sum();
    let parameters: u64 = p
        .tensors
        .iter()
        .filter(|t| !matches!(t.kind, TensorKind::Frequencies | TensorKind::StaticKeys))
        .map(|t| (t.rows * t.cols) as u64)
        .sum();
    let bytes = a.packed.bytes().len() as u64;
    PackedInfo {
        file: a.packed.path.display().to_string(),
        bytes,
        model: manifest.map(|m| m.model.clone()),
        architecture: manifest.map(|m| m.architecture.clone()),
        native: manifest.map(|m| m.native),
        weight_rule: manifest.map(|m| m.weight_rule.clone()),
        activation_rule: manifest.map(|m| m.activation_rule.clone()),
        target: manifest.map(|m| m.target.clone()),
        vocab: p.vocab,
        d_model: p.d_model,
        layers: p.layers,
        heads: p.attention.heads,
        kv_heads: p.attention.kv_heads,
        head_dim: p.attention.head_dim,
        window: p.attention.window,
        sinks: p.attention.sinks,
        kv_bits: p.attention.k_bits,
        residual_frac_bits: p.residual_frac,
        low_bit_weights: low,
        kernels: program::kernels::used(p),
        model_id: format!("{:016x}", p.model_id),
        bits_per_low_bit_weight: 8.0 * low_bytes as f64 / low.max(1) as f64,
        bits_per_parameter: 8.0 * bytes as f64 / parameters.max(1) as f64,
        golden_prompts: a.golden.prompts.len(),
        golden_tokens: a.golden.prompts.iter().map(|g| g.ids.len()).sum(),
        sections: a
            .packed
            .sections
            .iter()
            .map(|s| SectionInfo {
                name: s.kind.map_or("unknown", Kind::name).to_string(),
                offset: s.range.start as u64,
                bytes: s.range.len() as u64,
                crc32: format!("{:08x}", s.crc),
                sha256: hex(&s.sha256),
            })
            .collect(),
        tensors: p
            .tensors
            .iter()
            .map(|t| TensorInfo {
                name: t.name.clone(),
                kind: t.kind.to_string(),
                rows: t.rows,
                cols: t.cols,
                bytes: t.bytes(),
            })
            .collect(),
        sources: manifest
            .map(|m| m.sources.iter().map(|s| (s.name.clone(), hex(&s.sha256))).collect())
            .unwrap_or_default(),
        program: with_program.then(|| program::print(p)),
    }
}

fn print_packed(out: &mut dyn Write, i: &PackedInfo) -> io::Result<()> {
    let name = i.model.as_deref().unwrap_or("model without manifest (device build)");
    writeln!(out, "{}: packed model `{name}`, {} bytes, all digests match", i.file, group(i.bytes))?;
    if let (Some(a), Some(w), Some(act)) = (&i.architecture, &i.weight_rule, &i.activation_rule) {
        let native = if i.native == Some(true) { "carried over from the checkpoint" } else { "quantized by this tool" };
        writeln!(out, "  architecture {a}, weights {w}, activations {act} ({native})")?;
    }
    writeln!(
        out,
        "  {} layers, d_model {}, {} heads / {} kv heads of {}, vocabulary {}",
        i.layers, i.d_model, i.heads, i.kv_heads, i.head_dim, i.vocab
    )?;
    writeln!(
        out,
        "  cache {} bits, window {} slots of which {} sinks; residual with {} fraction bits",
        i.kv_bits, i.window, i.sinks, i.residual_frac_bits
    )?;
    writeln!(
        out,
        "  {} low-bit weights at {:.3} bits with scales, whole file {:.3} bits per parameter; golden trace of {} prompts, {} tokens",
        group(i.low_bit_weights),
        i.bits_per_low_bit_weight,
        i.bits_per_parameter,
        i.golden_prompts,
        i.golden_tokens
    )?;
    writeln!(out, "  kernels {}; model id {}", program::kernels::summary(&i.kernels), i.model_id)?;
    writeln!(out, "sections")?;
    for s in &i.sections {
        writeln!(
            out,
            "  {:16} at {:>12} {:>14} bytes  sha256 {}…",
            s.name,
            group(s.offset),
            group(s.bytes),
            &s.sha256[..12]
        )?;
    }
    writeln!(out, "not low-bit")?;
    for t in i.tensors.iter().filter(|t| t.kind.starts_with("int") || t.kind.starts_with("planes")) {
        writeln!(out, "  {:16} {} {} x {}, {} bytes", t.name, t.kind, t.rows, t.cols, group(t.bytes))?;
    }
    let gammas: Vec<_> = i.tensors.iter().filter(|t| t.kind == "vector i32").collect();
    writeln!(out, "  {} norms         {} bytes", gammas.len(), group(gammas.iter().map(|t| t.bytes).sum()))?;
    if let Some(p) = &i.program {
        writeln!(out, "program\n{p}")?;
    }
    Ok(())
}
