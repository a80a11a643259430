//! A GGUF file in another type, tensor by tensor in one pass: each is looked at, then written. What can become the type without loss does,
//! the rest stays and is listed. Only a scale may be rounded, to the f16 that blocks have; how many were and by how much is told.

use super::ternary::Source;
use super::{Kind, Row};
use crate::encoding::blocks::{scale_f16, Block};
use crate::error::{Error, Result};
use crate::format::gguf::{self, Keys, TensorInfo, Writer};
use crate::format::File;
use crate::progress::Progress;
use crate::tensor::{DType, TensorView};
use half::{bf16, f16};
use serde::Serialize;
use std::path::Path;

/// Bytes that are copied at a time.
const COPY: usize = 1 << 20;

/// Architectures that bitnet.cpp and its kin have, and what upstream computes under the name that seems to be theirs.
const FORKS: [&str; 2] = ["bitnet-b1.58", "bitnet-25"];

/// What to make.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub kind: Kind,
    /// `general.architecture` of the new file.
    pub force_arch: Option<&'a str>,
}

/// What became of a tensor.
#[derive(Debug, Clone, Serialize)]
pub struct Changed {
    #[serde(flatten)]
    pub row: Row,
    /// Whether every value is the same as before.
    pub exact: bool,
    /// Scales that became another number.
    pub rounded: u64,
    /// By how much of their value, at most.
    pub scale_error: f64,
}

/// A conversion that was done, or planned.
#[derive(Debug, Clone, Serialize)]
pub struct Converted {
    pub architecture: Option<String>,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub tensors: Vec<Changed>,
    /// Of all tensors with more than one dimension.
    pub bits_per_weight: f64,
    /// Length of the new file, if it was written.
    pub bytes: Option<u64>,
    pub warnings: Vec<String>,
}

/// How a tensor is written.
#[derive(Debug, Clone)]
struct Choice {
    dtype: DType,
    /// The scale of the tensor, for I2_S.
    scale: f32,
    rounding: Rounding,
    note: Option<String>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Rounding {
    scales: u64,
    worst: f64,
}

impl Rounding {
    fn add(&mut self, before: f32, after: f32) {
        if before != after {
            self.scales += 1;
            self.worst = self.worst.max((f64::from(after) / f64::from(before) - 1.0).abs());
        }
    }
}

/// Whether a file is one to [`convert`]. Floats that are to be rounded, to 8 or 16 bits, go the way of a checkpoint; codes never do.
///
/// # Errors
/// As opening the file.
pub fn suits(from: &Path, kind: Kind) -> Result<bool> {
    let has_codes = |t: TensorView| matches!(t.dtype, DType::Block(b) if b.scale_unit(t.elements()).is_some());
    match kind {
        Kind::Q8_0 | Kind::F16 | Kind::Bf16 => {
            Ok(gguf::open(from)?.iter().any(|f| f.names().filter_map(|n| f.get(n)).any(has_codes)))
        }
        _ => Ok(true),
    }
}

/// Converts a file, with its parts if it was cut into several, into one. `out` is None to see what would become of it.
///
/// # Errors
/// As reading the file; `Unsupported` if no tensor can be of the type, or if the program that the type is for computes another network;
/// `Input` for values and scales that are not finite and for codes that are no trits, with their position; `Usage` if the output is the
/// input, or for a name that is none; `Io` for the output.
pub fn convert(from: &Path, request: &Request, out: Option<&Path>, progress: &dyn Progress) -> Result<Converted> {
    convert_files(&gguf::open(from)?, request, out, progress)
}

/// As [`convert`], of files that are open: the parts of one model in their order.
///
/// # Errors
/// The same.
pub fn convert_files(
    files: &[File],
    request: &Request,
    out: Option<&Path>,
    progress: &dyn Progress,
) -> Result<Converted> {
    let first = files.first().and_then(|f| Some((f, f.metadata()?)));
    let (file, metadata) = first.ok_or_else(|| Error::input("a GGUF file is expected"))?;
    let here = |e: Error| e.at_file(&file.path);
    let mut keys = Keys::of(file.bytes(), metadata);
    keys.remove(|k| k.starts_with("split."));
    let mut warnings = Vec::new();
    let architecture =
        architecture(metadata.str("general.architecture").map_err(here)?, request, &mut keys, &mut warnings);
    let architecture = architecture.map_err(here)?;
    keys.set("general.file_type", request.kind.file_type());
    if matches!(request.kind.dtype(), DType::Block(_)) {
        keys.set("general.quantization_version", 2u32);
    }
    let sources = sources(files);
    let mut writer = match out {
        Some(out) => {
            not_the_source(files, out)?;
            let info = |s: &Source| TensorInfo { name: s.view.name.to_string(), shape: s.view.shape.to_vec() };
            Some(Writer::create(out, keys, sources.iter().map(info).collect())?)
        }
        None => None,
    };
    progress.stage("tensors", sources.iter().map(|s| s.view.data.len() as u64).sum());
    let mut tensors = Vec::with_capacity(sources.len());
    for s in &sources {
        let mut one = || -> Result<Changed> {
            let choice = choose(s, request.kind.dtype())?;
            if let Some(w) = &mut writer {
                w.begin(s.view.name, choice.dtype)?;
                write(s, &choice, w)?;
            }
            Ok(changed(s, choice))
        };
        tensors.push(one().map_err(|e| e.at_tensor(s.view.name).at_file(&s.file.path))?);
        progress.advance(s.view.data.len() as u64);
    }
    progress.done();
    let name = request.kind.dtype().name();
    if !tensors.iter().any(|t| t.row.to == name) {
        let why = tensors.iter().find_map(|t| t.row.note.clone()).unwrap_or_else(|| "it has no matrices".into());
        let e = here(Error::unsupported(format!("no tensor of this file can be {name} without loss: {why}")));
        return Err(e.hint("weights that are not ternary yet are rounded by `--quantize-weight 1.58`"));
    }
    let matrices = || tensors.iter().map(|t| &t.row).filter(|r| r.shape.len() > 1);
    let weights: f64 = matrices().map(|r| r.shape.iter().product::<usize>() as f64).sum();
    let bits = matrices().map(|r| r.bytes as f64 * 8.0).sum::<f64>() / weights.max(1.0);
    let bytes = writer.map(Writer::finish).transpose()?;
    Ok(Converted { architecture, kind: name, tensors, bits_per_weight: bits, bytes, warnings })
}

/// The name that the new file has.
fn architecture(
    name: Option<&str>,
    request: &Request,
    keys: &mut Keys,
    warnings: &mut Vec<String>,
) -> Result<Option<String>> {
    let fork = name.filter(|n| FORKS.contains(n) && request.kind != Kind::I2S);
    if let Some(to) = request.force_arch.filter(|n| !is_name(n)) {
        let what = format!("`{}` is no name of an architecture", to.escape_debug());
        return Err(Error::usage(what).hint("names have letters, digits, `.`, `-` and `_`, at most 63 of them"));
    }
    match (request.force_arch, name) {
        (Some(to), Some(from)) => {
            if to != from {
                warnings.push(format!("`{to}` was forced in place of `{from}`: the program may compute something else"));
            }
            keys.rename(&format!("{from}."), &format!("{to}."));
            keys.set_text("general.architecture", to);
            Ok(Some(to.to_string()))
        }
        (Some(to), None) => {
            keys.set_text("general.architecture", to);
            Ok(Some(to.to_string()))
        }
        (None, _) => match fork {
            Some(n) => Err(Error::unsupported(format!(
                "`{n}` is known to bitnet.cpp and programs derived from it only: llama.cpp does not load it, and its `bitnet` computes SiLU \
                 where this model has the squared ReLU, so under that name the answers would be wrong"
            ))
            .hint(format!("`--force-arch {n}` keeps the name, for a program that knows it"))),
            None => Ok(name.map(str::to_string)),
        },
    }
}

fn is_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    (1..64).contains(&name.len()) && name.bytes().all(good)
}

/// Tensors in the order of the files.
fn sources(files: &[File]) -> Vec<Source<'_>> {
    let mut all = Vec::new();
    for file in files {
        let mut here: Vec<_> = file.names().filter_map(|n| file.get(n)).map(|view| Source { file, view }).collect();
        here.sort_by_key(|s| s.view.offset);
        all.extend(here);
    }
    all
}

fn not_the_source(files: &[File], out: &Path) -> Result<()> {
    let full = |p: &Path| p.canonicalize().ok();
    match files.iter().any(|f| full(out).is_some_and(|o| full(&f.path) == Some(o))) {
        true => Err(Error::usage("the output is the file that is converted").at_file(out).hint("give another name")),
        false => Ok(()),
    }
}

fn changed(s: &Source, choice: Choice) -> Changed {
    let Rounding { scales, worst } = choice.rounding;
    let row = Row::new(s.view.name, s.view.shape, s.view.dtype.name(), choice.dtype, choice.note);
    Changed { row, exact: scales == 0, rounded: scales, scale_error: worst }
}

/// What a tensor becomes.
fn choose(s: &Source, want: DType) -> Result<Choice> {
    let from = s.view.dtype;
    let stays = match from {
        // The layout of early files has no number of its own.
        DType::Block(Block::Q2_0G128) => DType::Block(Block::Q2_0),
        d => d,
    };
    let kept = |note| -> Result<Choice> {
        s.check()?;
        Ok(Choice { dtype: stays, scale: 0.0, rounding: Rounding::default(), note })
    };
    // Vectors are norms and the like, which are floats everywhere.
    let matrix = s.view.shape.len() > 1 && from.is_float() && from != DType::F64;
    if !matrix || stays == want {
        return kept(None);
    }
    let fit = fit(s, want)?;
    let Some(note) = fit.note else { return Ok(fit) };
    // Rows that are no whole blocks may be those of another type. Only bitnet.cpp has I2_S, so nothing stays that.
    let leaves = from == DType::Block(Block::I2S);
    let short =
        matches!(want, DType::Block(b) if !is_whole(s, b)) && !matches!(from, DType::Block(b) if b != Block::Q8_0);
    let instead = [DType::Block(Block::Q2_0), DType::Block(Block::Q8_0), DType::F16];
    let unknown = |d: DType| want == DType::Block(Block::I2S) && d == DType::Block(Block::Q2_0);
    for d in instead.into_iter().filter(|d| *d != want && *d != from && !unknown(*d)) {
        if leaves || short && d != DType::F16 {
            let other = self::fit(s, d)?;
            if other.note.is_none() {
                return Ok(Choice { note: Some(note), ..other });
            }
        }
    }
    kept(Some(note))
}

fn is_whole(s: &Source, b: Block) -> bool {
    s.view.shape.last().is_some_and(|k| k.is_multiple_of(b.values()))
}

/// Whether a tensor can be of a type without loss: a note says why not.
fn fit(s: &Source, want: DType) -> Result<Choice> {
    let (mut rounding, mut common) = (Rounding::default(), 0f32);
    let note = match want {
        DType::Block(b) if !is_whole(s, b) => {
            let k = s.view.shape.last().copied().unwrap_or(0);
            Some(format!("{k} columns are no multiple of {}, the block of {}", b.values(), b.name()))
        }
        DType::Block(b) => s.blocks(b.values(), |codes, scale| {
            let zeros = codes.iter().filter(|c| **c == 0).count();
            let largest = if matches!(b, Block::Q2_0 | Block::Q8_0) { 2 } else { 1 };
            let why = if codes.iter().any(|c| *c > largest) {
                Some(format!("it has codes of +2, {} has none", b.name()))
            } else if b == Block::Q1_0 && zeros > 0 && zeros < codes.len() {
                Some("it has zeros, Q1_0 holds -1 and 1".into())
            } else if b == Block::I2S {
                let differs = scale != 0.0 && common != 0.0 && scale != common;
                common = if common == 0.0 { scale } else { common };
                differs.then(|| "it has several scales, I2_S has one for a tensor".into())
            } else {
                match scale_f16(scale) {
                    Ok(d) => {
                        rounding.add(scale, d.to_f32());
                        None
                    }
                    Err(e) => Some(e.message().to_string()),
                }
            };
            Ok(why)
        })?,
        d => floats(s, d, &mut rounding)?,
    };
    Ok(Choice { dtype: want, scale: common, rounding, note })
}

/// Whether a float type holds all values. Those of binary and ternary types are scales, which may be rounded.
fn floats(s: &Source, want: DType, rounding: &mut Rounding) -> Result<Option<String>> {
    let nearest = |v: f32| match want {
        DType::F16 => f16::from_f32(v).to_f32(),
        DType::Bf16 => bf16::from_f32(v).to_f32(),
        _ => v,
    };
    if let Some(scales) = s.scales() {
        for d in scales {
            let d = d?;
            let (near, twice) = (nearest(d), nearest(2.0 * d));
            if !twice.is_finite() || near == 0.0 && d != 0.0 {
                return Ok(Some(format!("the scale {d:e} is out of the range of {}", want.name())));
            }
            rounding.add(d, near);
        }
        return Ok(None);
    }
    let mut lost = None;
    s.values(|values| {
        lost = values.iter().find(|v| nearest(**v) != **v).copied();
        Ok(lost.is_none())
    })?;
    Ok(lost.map(|v| format!("it holds {v:e}, which {} would round", want.name())))
}

/// Writes a tensor as it was chosen.
fn write(s: &Source, choice: &Choice, w: &mut Writer) -> Result<()> {
    let data = s.view.data;
    let mut out = Vec::with_capacity(2 * COPY);
    let mut put = |out: &mut Vec<u8>, all: bool| -> Result<()> {
        if all || out.len() >= COPY {
            w.write(out)?;
            out.clear();
        }
        Ok(())
    };
    match (s.view.dtype, choice.dtype) {
        (DType::Block(Block::Q2_0G128), DType::Block(Block::Q2_0)) => {
            // The codes of a block are those of two, which have its scale both.
            for (i, b) in data.chunks_exact(Block::Q2_0G128.bytes()).enumerate() {
                let (d, codes) = b.split_at(2);
                for half in codes.chunks_exact(16) {
                    out.extend_from_slice(d);
                    out.extend_from_slice(half);
                }
                put(&mut out, false)?;
                if i % (COPY / 32) == 0 {
                    s.file.release(data);
                }
            }
        }
        (DType::Block(Block::I2S), DType::Block(Block::I2S)) => {
            let (codes, tail) = data.split_at(data.len().saturating_sub(Block::i2_s_tail(0.0).len()));
            copy(s, codes, &mut |part| {
                out.extend_from_slice(part);
                put(&mut out, true)
            })?;
            let scale = tail.first_chunk().map_or(f32::NAN, |b| f32::from_le_bytes(*b));
            out.extend(Block::i2_s_tail(scale));
        }
        (a, b) if a == b => copy(s, data, &mut |part| {
            out.extend_from_slice(part);
            put(&mut out, true)
        })?,
        (_, DType::Block(b)) => {
            s.blocks(b.values(), |codes, scale| {
                b.write_codes(codes, &[scale], &mut out)?;
                put(&mut out, false).map(|()| None)
            })?;
            if b == Block::I2S {
                out.extend(Block::i2_s_tail(choice.scale));
            }
        }
        (_, d) => s.values(|values| {
            match d {
                DType::F16 => values.iter().for_each(|v| out.extend(f16::from_f32(*v).to_le_bytes())),
                DType::Bf16 => values.iter().for_each(|v| out.extend(bf16::from_f32(*v).to_le_bytes())),
                _ => values.iter().for_each(|v| out.extend(v.to_le_bytes())),
            }
            put(&mut out, false).map(|()| true)
        })?,
    }
    put(&mut out, true)
}

fn copy(s: &Source, data: &[u8], put: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    for part in data.chunks(COPY) {
        put(part)?;
        s.file.release(part);
    }
    Ok(())
}
