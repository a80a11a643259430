//! The bytes of each tensor, a row at a time. A float lives from its read to its code.

use super::{Constants, Lowered, Origin};
use crate::bytes::put_u32;
use crate::encoding::fixed::Scale;
use crate::encoding::lowbit::Encoding;
use crate::error::{Error, Result};
use crate::model::{Form, Matrix, Model, TensorRef, WeightRule};
use crate::program::{ScaleMode, Tensor, TensorKind};
use crate::tensor::DType;
use crate::transform::quantize::{absmax_row, power_row, Fit, MeanAbs};

/// Receives bytes in order.
pub type Sink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// What is known about a tensor only after its weights were read.
pub struct Produced {
    pub scale: Scale,
    /// Row or group scales, mantissas then shifts; empty for one scale.
    pub scales: Vec<u8>,
}

/// Writes the data of tensor `index` to `sink` and returns its scales.
///
/// # Errors
/// `Input` with file, tensor and offset (NaN, invalid codes, a scale that is no positive number), or what the sink says.
pub fn produce(model: &Model, lowered: &Lowered, index: usize, sink: &mut Sink) -> Result<Produced> {
    let t = &lowered.program.tensors[index];
    let whole = |scale| Ok(Produced { scale, scales: Vec::new() });
    match &lowered.origins[index] {
        Origin::Frequencies(f, rest) => {
            let mut out = Vec::new();
            f.iter().for_each(|w| put_u32(&mut out, *w));
            sink(&out)?;
            whole(*rest)
        }
        Origin::Constants(c) => {
            let values = match c {
                Constants::Gains(norm, n) => model.gains(norm, *n)?.unwrap_or_default(),
                Constants::Bias(v) => model.vector(v)?,
                Constants::Tensor(r) => model.values(r)?,
                Constants::Values(v) => v.clone(),
            };
            let (bytes, scale) = constants(&values);
            sink(&bytes)?;
            whole(scale)
        }
        Origin::Rows { weight, plus } => {
            rows(model, weight, plus.as_ref(), t, sink).map_err(|e| e.at_file(model.file_of(&weight.tensor)))
        }
        Origin::LowBit { weight, rule } => {
            low_bit(model, weight, *rule, t, sink).map_err(|e| e.at_file(model.file_of(&weight.tensor)))
        }
        Origin::StaticKeys => Err(Error::usage("key constants are made by calibration")),
    }
}

/// Gains, biases and the like as i32 with a common power of two; the largest uses 30 bits.
fn constants(values: &[f32]) -> (Vec<u8>, Scale) {
    let most = values.iter().fold(0f32, |m, v| m.max(v.abs()));
    let (_, exponent) = libm::frexp(f64::from(most)); // most < 2^exponent
    let mut out = Vec::with_capacity(4 * values.len());
    for v in values {
        let g = libm::rint(libm::ldexp(f64::from(*v), 30 - exponent)) as i32;
        out.extend_from_slice(&g.to_le_bytes());
    }
    (out, Scale::pow2(exponent - 30))
}

/// Mantissas and shifts relative to the largest exponent, which is returned as a power of two.
fn relative(scales: &[Scale]) -> (Scale, Vec<u8>) {
    let top = scales.iter().map(|s| s.e).max().unwrap_or(-30);
    let mut out = Vec::with_capacity(5 * scales.len());
    // A scale 2^63 below the largest contributes nothing in 31 bits.
    let shift = |s: &Scale| (top - s.e).min(63) as u8;
    scales.iter().for_each(|s| put_u32(&mut out, s.m));
    out.extend(scales.iter().map(shift));
    (Scale { m: 1 << 30, e: top }, out)
}

fn encoding(t: &Tensor) -> (Encoding, ScaleMode) {
    match t.kind {
        TensorKind::Matrix { enc, scales } => (enc, scales),
        // The builder gives these origins to matrices only.
        _ => unreachable!("{} is no matrix", t.name),
    }
}

fn rows(model: &Model, m: &Matrix, plus: Option<&Matrix>, t: &Tensor, sink: &mut Sink) -> Result<Produced> {
    let (enc, _) = encoding(t);
    let dtype = model.tensor(&m.tensor).dtype;
    let reader = model.rows(m)?;
    let mut row = vec![0f32; t.cols];
    let mut added = vec![0f32; t.cols];
    if let Some(p) = plus {
        model.rows(p)?.read(0, &mut added)?;
    }
    let mut codes = vec![0; t.cols];
    let mut packed = vec![0; enc.stride(t.cols)];
    let mut scales = Vec::with_capacity(t.rows);
    for i in 0..t.rows {
        reader.read(i, &mut row)?;
        row.iter_mut().zip(&added).for_each(|(w, a)| *w += a);
        let s = match enc {
            // f32 has more bits than 16 in any case; there the absolute maximum uses them best.
            Encoding::Int16 if dtype == DType::F32 => absmax_row(&row, 32_767.0, &mut codes),
            Encoding::Int16 => power_row(&row, &mut codes),
            _ => absmax_row(&row, 127.0, &mut codes),
        };
        scales.push(positive(s, &m.tensor)?);
        packed.fill(0);
        enc.pack_row(&codes, &mut packed);
        sink(&packed)?;
    }
    let (scale, scales) = relative(&scales);
    Ok(Produced { scale, scales })
}

fn positive(v: f64, r: &TensorRef) -> Result<Scale> {
    let s = Scale::from_f64(v).filter(|s| s.e.abs() < 1000);
    s.ok_or_else(|| Error::input(format!("its scale is {v}, a positive number is needed")).at_tensor(&r.name))
}

fn low_bit(model: &Model, weight: &Matrix, rule: Option<WeightRule>, t: &Tensor, sink: &mut Sink) -> Result<Produced> {
    let (enc, mode) = encoding(t);
    let reader = model.rows(weight)?;
    let mut packed = vec![0; enc.stride(t.cols)];
    let mut codes = vec![0; t.cols];
    let Some(rule) = rule else {
        if weight.source.form() == Form::Float {
            let e = Error::input("holds float weights where stored codes were announced");
            return Err(e.at_tensor(&weight.tensor.name));
        }
        let mut stored = vec![0i8; t.cols];
        let mut scales = Vec::new();
        for r in 0..t.rows {
            let before = scales.len();
            reader.read_codes(r, &mut stored, &mut scales)?;
            if mode == ScaleMode::One {
                scales.truncate(1);
            }
            debug_assert!(mode == ScaleMode::One || scales.len() > before);
            codes.iter_mut().zip(&stored).for_each(|(c, s)| *c = i32::from(*s));
            packed.fill(0);
            enc.pack_row(&codes, &mut packed);
            sink(&packed)?;
        }
        let scales: Vec<Scale> = scales.into_iter().map(|s| positive(s, &weight.tensor)).collect::<Result<_>>()?;
        if mode == ScaleMode::One {
            return Ok(Produced { scale: scales[0], scales: Vec::new() });
        }
        let (scale, scales) = relative(&scales);
        return Ok(Produced { scale, scales });
    };
    let mut row = vec![0f32; t.cols];
    let one = match mode {
        ScaleMode::One => {
            let mut mean = MeanAbs::default();
            for r in 0..t.rows {
                reader.read(r, &mut row)?;
                mean.add(&row);
            }
            Some(Fit::new(rule, mean))
        }
        _ => None,
    };
    let mut scales = Vec::new();
    for r in 0..t.rows {
        reader.read(r, &mut row)?;
        let unit = match mode {
            ScaleMode::Group(g) => g,
            _ => t.cols,
        };
        for (part, out) in row.chunks(unit).zip(codes.chunks_mut(unit)) {
            let fit = one.unwrap_or_else(|| {
                let mut mean = MeanAbs::default();
                mean.add(part);
                Fit::new(rule, mean)
            });
            if one.is_none() {
                scales.push(positive(fit.scale, &weight.tensor)?);
            }
            out.iter_mut().zip(part).for_each(|(c, w)| *c = fit.code(*w));
        }
        packed.fill(0);
        enc.pack_row(&codes, &mut packed);
        sink(&packed)?;
    }
    match one {
        Some(fit) => Ok(Produced { scale: positive(fit.scale, &weight.tensor)?, scales: Vec::new() }),
        None => {
            let (scale, scales) = relative(&scales);
            Ok(Produced { scale, scales })
        }
    }
}

/// Key constants of one layer from the observed range of each channel: the middle becomes the centre, the range is spread over the
/// 16 codes. Returns the bytes, K and the fraction bits are given.
pub fn static_keys_bytes(ranges: &[(f64, f64)], frac: u32) -> (Vec<u8>, Scale) {
    let step = |(lo, hi): &(f64, f64)| {
        // A channel that never moved still needs a step; a little slack takes what calibration did not see.
        let width = (hi - lo).max(1e-6 * lo.abs().max(hi.abs())).max(1e-12);
        1.05 * width / 15.0
    };
    let scales: Vec<Scale> = ranges.iter().map(|r| Scale::from_f64(step(r)).unwrap_or(Scale::ONE)).collect();
    let top = scales.iter().map(|s| s.e).max().unwrap_or(-30);
    let mut out = Vec::with_capacity(14 * ranges.len());
    for ((lo, hi), s) in ranges.iter().zip(&scales) {
        // Codes run from -8 to 7: their middle is half a step below the middle of the range.
        let centre = (lo + hi) / 2.0 + s.to_f64() / 2.0;
        let c = libm::rint(centre * f64::from(1u32 << frac)).clamp(-16_777_216.0, 16_777_216.0) as i32;
        out.extend_from_slice(&c.to_le_bytes());
    }
    let inverse: Vec<(u32, u8)> = scales
        .iter()
        .map(|s| {
            let i = s.inv().shl(-(frac as i32));
            // Steps below 2^-f_k or above 2^60 cannot occur: frac follows from the largest key.
            (i.m, (-i.e).clamp(0, 62) as u8)
        })
        .collect();
    inverse.iter().for_each(|(m, _)| put_u32(&mut out, *m));
    scales.iter().for_each(|s| put_u32(&mut out, s.m));
    out.extend(inverse.iter().map(|(_, h)| *h));
    out.extend(scales.iter().map(|s| (top - s.e).min(63) as u8));
    // The scale of a channel is km * 2^(-31 - kh) * K.
    (out, Scale { m: 1 << 30, e: top + 1 })
}
