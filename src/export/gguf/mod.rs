//! A model as a GGUF file for llama.cpp or bitnet.cpp: the inverse of `import::gguf`.
//!
//! A file is written only if the program that reads it computes the same network ([`fits`]); low-bit matrices keep their codes. What they
//! do with activations is theirs: see [`Kind::activations`].

mod arch;
pub mod convert;
mod fits;
mod keys;
mod names;
mod rows;
mod ternary;
mod tokenizer;

use crate::encoding::blocks::Block;
use crate::error::{Error, Result};
use crate::format::gguf::{Keys, TensorInfo, Writer};
use crate::model::{ActivationRule, Model, Source, WeightRule};
use crate::program::ScaleMode;
use crate::progress::Progress;
use crate::tensor::DType;
use names::{From, Item, Role};
use rows::Rows;
use serde::Serialize;
use std::path::Path;

/// What matrices are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tq2_0,
    Tq1_0,
    Q1_0,
    Q2_0,
    I2S,
    Q8_0,
    F16,
    Bf16,
    F32,
}

impl Kind {
    pub const ALL: [Kind; 9] =
        [Kind::Tq2_0, Kind::Tq1_0, Kind::Q1_0, Kind::Q2_0, Kind::I2S, Kind::Q8_0, Kind::F16, Kind::Bf16, Kind::F32];

    pub fn dtype(self) -> DType {
        match self {
            Kind::Tq2_0 => DType::Block(Block::Tq2_0),
            Kind::Tq1_0 => DType::Block(Block::Tq1_0),
            Kind::Q1_0 => DType::Block(Block::Q1_0),
            Kind::Q2_0 => DType::Block(Block::Q2_0),
            Kind::I2S => DType::Block(Block::I2S),
            Kind::Q8_0 => DType::Block(Block::Q8_0),
            Kind::F16 => DType::F16,
            Kind::Bf16 => DType::Bf16,
            Kind::F32 => DType::F32,
        }
    }

    /// `general.file_type`.
    pub(super) fn file_type(self) -> u32 {
        match self {
            Kind::F32 => 0,
            Kind::F16 => 1,
            Kind::Q8_0 => 7,
            Kind::Bf16 => 32,
            Kind::Tq1_0 => 36,
            Kind::Tq2_0 => 37,
            // Readers go by the types of the tensors: forks chose the same number.
            Kind::Q1_0 | Kind::I2S => 40,
            Kind::Q2_0 => 41,
        }
    }
}

/// What the reading program does with the input of a matrix that is stored as this.
fn activations(dtype: DType) -> &'static str {
    match dtype {
        DType::Block(Block::Tq1_0 | Block::Tq2_0) => "int8 with a scale for each 256 values",
        DType::Block(Block::I2S) => "int8 with a scale for each token",
        DType::Block(_) => "int8 with a scale for each 32 values",
        DType::F16 => "f16",
        DType::Bf16 => "bf16",
        _ => "f32",
    }
}

/// What to write.
#[derive(Debug, Clone, Default)]
pub struct Settings<'a> {
    /// None: by what the model's matrices are.
    pub kind: Option<Kind>,
    pub force_arch: Option<&'a str>,
    /// How float matrices become codes, and how many of them share a scale.
    pub weight: Option<(WeightRule, ScaleMode)>,
    /// 16 or 8; None: as the kind has it.
    pub embedding_bits: Option<u32>,
    pub no_tokenizer: bool,
}

/// What becomes of a tensor.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: String,
    pub shape: Vec<usize>,
    /// What the model, or the file before, has it as.
    pub from: &'static str,
    /// What the file has it as.
    pub to: &'static str,
    pub bytes: u64,
    /// With scales.
    pub bits_per_weight: f64,
    /// Why it is not what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Row {
    fn new(name: &str, shape: &[usize], from: &'static str, to: DType, note: Option<String>) -> Row {
        let elements: usize = shape.iter().product();
        let bytes = match to {
            DType::Block(b) => b.total_bytes(elements).unwrap_or(0) as u64,
            d => (elements * d.size().unwrap_or(0)) as u64,
        };
        let bits_per_weight = bytes as f64 * 8.0 / elements.max(1) as f64;
        Row { name: name.to_string(), shape: shape.to_vec(), from, to: to.name(), bytes, bits_per_weight, note }
    }
}

/// A file before it is written.
pub struct Plan<'a> {
    model: &'a Model,
    keys: Keys,
    items: Vec<(Item<'a>, Choice)>,
    pub kind: Kind,
    /// `general.architecture`.
    pub architecture: &'static str,
    pub tensors: Vec<Row>,
    /// What the reading program does with the input of each kind of matrix.
    pub activations: Vec<(&'static str, &'static str)>,
    pub warnings: Vec<String>,
    /// Bits of a weight of the blocks' matrices, with scales and those that became something else.
    pub bits_per_weight: f64,
}

/// A file that was written.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    pub bytes: u64,
    /// Largest relative difference between a scale of the model and what the file has in its place.
    pub scale_error: f64,
}

/// Type of a tensor and why it is that.
#[derive(Debug, Clone)]
struct Choice {
    dtype: DType,
    /// Codes are written, not values.
    codes: bool,
    note: Option<String>,
}

impl Choice {
    fn of(dtype: DType) -> Choice {
        Choice { dtype, codes: false, note: None }
    }
}

/// Decides everything; weights are read only where I2_S must know whether all scales of a tensor are equal.
///
/// # Errors
/// `Unsupported` if no architecture of the reading programs computes the model, with the reason, or if the type cannot hold its weights;
/// what reading weights and tokenizer says.
pub fn plan<'a>(model: &'a Model, settings: &Settings) -> Result<Plan<'a>> {
    let mut warnings = model.warnings.clone();
    let kind = settings.kind.unwrap_or_else(|| usual(model, settings));
    let arch = fits::choose(model, settings.force_arch, kind == Kind::I2S, &mut warnings)?;
    coarse_activations(model, settings, &mut warnings)?;
    let turn = keys::Turn::of(arch, model, &mut warnings)?;
    let mut header = keys::keys(arch, model, turn.as_ref(), kind.file_type(), &mut warnings);
    match settings.no_tokenizer {
        true => tokenizer::none(&mut header),
        false => tokenizer::keys(model, &mut header, &mut warnings)?,
    }
    let items = names::items(arch, model, turn.as_ref());
    let mut tensors = Vec::with_capacity(items.len());
    let mut chosen = Vec::with_capacity(items.len());
    let mut reads: Vec<(&'static str, &'static str)> = Vec::new();
    for item in items {
        let choice = choose(model, &item, kind, settings).map_err(|e| e.at_tensor(&item.name))?;
        let from = match &item.from {
            From::Matrix { parts, .. } => parts[0].source.name(),
            _ => "floats",
        };
        if item.is_projection() && !reads.iter().any(|(name, _)| *name == choice.dtype.name()) {
            reads.push((choice.dtype.name(), activations(choice.dtype)));
        }
        tensors.push(Row::new(&item.name, &item.shape, from, choice.dtype, choice.note.clone()));
        chosen.push((item, choice));
    }
    let mut plan = Plan {
        model,
        keys: header,
        items: chosen,
        kind,
        architecture: arch.name,
        tensors,
        activations: reads,
        warnings,
        bits_per_weight: 0.0,
    };
    plan.count(settings)?;
    Ok(plan)
}

impl Plan<'_> {
    /// Bits of all matrices of the blocks; a type that none of them could have is a mistake.
    fn count(&mut self, settings: &Settings) -> Result<()> {
        let both = || self.items.iter().zip(&self.tensors);
        let all = || both().filter(|((i, _), _)| i.is_projection()).map(|(_, t)| t);
        let weights: u64 = all().map(|t| t.shape.iter().product::<usize>() as u64).sum();
        let bytes: u64 = all().map(|t| t.bytes).sum();
        self.bits_per_weight = bytes as f64 * 8.0 / weights.max(1) as f64;
        let name = self.kind.dtype().name();
        if settings.kind.is_some() && !all().any(|t| t.to == name) {
            let why = all().find_map(|t| t.note.clone()).unwrap_or_default();
            let e = Error::unsupported(format!("no matrix of this model can be {name}: {why}"));
            let floats = all().all(|t| t.from == Source::Float.name());
            return Err(e.hint(match floats {
                true => "`--quantize-weight 1.58` or `1` rounds floats; `--type q8_0` and `--type f16` take them as they are",
                false => "without `--type` the densest type that holds the model's codes is taken",
            }));
        }
        Ok(())
    }

    /// Writes the file; memory is bounded by a few rows.
    ///
    /// # Errors
    /// `Input` for weights that are not finite or too large for their type, with tensor and file; `Io` for the output.
    pub fn write(&self, settings: &Settings, out: &Path, progress: &dyn Progress) -> Result<Written> {
        let infos = self.items.iter().map(|(i, _)| TensorInfo { name: i.name.clone(), shape: i.shape.clone() });
        let mut writer = Writer::create(out, self.keys.clone(), infos.collect())?;
        progress.stage("tensors", self.tensors.iter().map(|t| t.bytes).sum());
        let mut scale_error = 0f64;
        for (item, choice) in &self.items {
            writer.begin(&item.name, choice.dtype)?;
            let here = |e: Error| if e.tensor().is_some() { e } else { e.at_tensor(&item.name) };
            match &item.from {
                From::Matrix { parts, order, .. } => {
                    let mut rows = Rows::new(self.model, parts, choice, settings).map_err(here)?;
                    rows.write(*order, &mut writer, progress).map_err(here)?;
                    scale_error = scale_error.max(rows.scale_error);
                }
                other => {
                    let values = vector(self.model, other)?;
                    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                    writer.write(&bytes)?;
                    progress.advance(bytes.len() as u64);
                }
            }
        }
        progress.done();
        Ok(Written { bytes: writer.finish()?, scale_error })
    }
}

/// The densest type that all codes fit in, Q8_0 for floats.
fn usual(model: &Model, settings: &Settings) -> Kind {
    use crate::model::{Form, Unit};
    let mut kind = None;
    for p in model.projections() {
        let (binary, group) = match (p.weight.source.form(), settings.weight) {
            (Form::Codes { binary, unit: Unit::Group(g) }, _) => (binary, g),
            (Form::Codes { binary, .. }, _) => (binary, usize::MAX),
            (Form::Float, Some((rule, scales))) => {
                (rule == WeightRule::BinaryMean, if let ScaleMode::Group(g) = scales { g } else { usize::MAX })
            }
            (Form::Float, None) => continue,
        };
        let this = match binary {
            true if p.weight.cols % 128 == 0 && group >= 128 => Kind::Q1_0,
            _ if p.weight.cols % 256 == 0 && group >= 256 => Kind::Tq2_0,
            _ => Kind::Q2_0,
        };
        // What takes the most: one type for all.
        kind = Some(match (kind, this) {
            (None, k) => k,
            (Some(Kind::Q2_0), _) | (_, Kind::Q2_0) => Kind::Q2_0,
            (Some(k), this) if k == this => k,
            _ => Kind::Tq2_0,
        });
    }
    kind.unwrap_or(Kind::Q8_0)
}

/// 8 bits are what every reading program rounds to; a network that was trained for fewer is another one there.
fn coarse_activations(model: &Model, settings: &Settings, warnings: &mut Vec<String>) -> Result<()> {
    let coarse =
        |p: &&crate::model::Linear| matches!(p.activation, Some(ActivationRule::Absmax2 | ActivationRule::Absmax4));
    let Some(rule) = model.projections().find(coarse).and_then(|p| p.activation) else { return Ok(()) };
    let what = format!(
        "the model was trained with {} bits for activations, llama.cpp and bitnet.cpp round them to 8: they would compute another network",
        rule.bits()
    );
    if settings.force_arch.is_none() {
        let e = Error::unsupported(what);
        return Err(e.hint("`--format packed` keeps the rule; `--force-arch NAME` writes the file all the same"));
    }
    warnings.push(what);
    Ok(())
}

/// What a tensor is written as.
fn choose(model: &Model, item: &Item, kind: Kind, settings: &Settings) -> Result<Choice> {
    let From::Matrix { parts, role, .. } = &item.from else { return Ok(Choice::of(DType::F32)) };
    let cols = parts[0].cols;
    let eight = DType::Block(Block::Q8_0);
    let whole = |b: Block| cols.is_multiple_of(b.values());
    let table = matches!(role, Role::Embedding | Role::Head);
    if *role == Role::Positions {
        return Ok(Choice::of(DType::F32));
    }
    // Tables have bits of their own if that is said.
    let wanted = match settings.embedding_bits.filter(|_| table) {
        Some(8) => eight,
        Some(_) => DType::F16,
        None => kind.dtype(),
    };
    let instead = |note: String| {
        let dtype = if whole(Block::Q8_0) { eight } else { DType::F16 };
        Choice { note: Some(note), ..Choice::of(dtype) }
    };
    let block = match wanted {
        DType::Block(Block::Q8_0) if !whole(Block::Q8_0) => {
            return Ok(Choice { note: Some(format!("{cols} columns are no multiple of 32")), ..Choice::of(DType::F16) })
        }
        DType::Block(b) if b != Block::Q8_0 => b,
        d => return Ok(Choice::of(d)),
    };
    if table && block == Block::I2S {
        return Ok(Choice::of(DType::F16));
    }
    let Some(least) = parts.iter().map(|m| rows::group(m, settings, table)).min().flatten() else {
        let floats = Choice::of(DType::F16);
        let note = (!table).then(|| "its weights are neither binary nor ternary".to_string());
        return Ok(Choice { note, ..floats });
    };
    if !whole(block) {
        return Ok(instead(format!(
            "{cols} columns are no multiple of {}, the block of {}",
            block.values(),
            block.name()
        )));
    }
    if block == Block::Q1_0 && !parts.iter().all(|m| rows::is_binary(m, settings)) {
        return Ok(instead("its weights are ternary, Q1_0 holds -1 and 1".into()));
    }
    if least % block.values() != 0 && least < cols {
        let what = format!("{least} weights share a scale, in a block of {} it is {}", block.name(), block.values());
        return Ok(instead(what));
    }
    if block == Block::I2S && rows::single_scale(model, parts, settings)?.is_none() {
        return Ok(instead("it has several scales, I2_S has one for a tensor".into()));
    }
    Ok(Choice { dtype: wanted, codes: true, note: None })
}

/// Values of what is no matrix.
fn vector(model: &Model, from: &From) -> Result<Vec<f32>> {
    match from {
        From::Matrix { .. } => Ok(Vec::new()),
        From::Gains(norm, n) => Ok(model.gains(norm, *n)?.unwrap_or_else(|| vec![1.0; *n])),
        From::Values(r) => model.values(r),
        From::Numbers(n) => Ok(n.clone()),
        From::Biases { parts, order } => {
            let mut all = Vec::new();
            for (bias, n) in parts {
                match bias {
                    Some(b) => all.extend(model.vector(b)?),
                    None => all.extend(vec![0.0; *n]),
                }
            }
            Ok((0..all.len()).map(|f| all[order.row(f)]).collect())
        }
    }
}
