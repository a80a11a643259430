//! The bytes of each tensor, a row at a time. A float lives from its read to its code.

use super::{Constants, Lowered, Origin};
use crate::bytes::put_u32;
use crate::encoding::fixed::Scale;
use crate::encoding::lowbit::Encoding;
use crate::encoding::order::{self, Order};
use crate::encoding::planes::{planes, Width};
use crate::error::{Error, Result};
use crate::model::{Form, Matrix, Model, RowReader, Source, TensorRef, WeightRule};
use crate::parallel;
use crate::program::identity::Identity;
use crate::program::{ScaleMode, Tensor, TensorKind};
use crate::tensor::DType;
use crate::transform::quantize::{absmax_row, four_bit_row, power_row, Fit, MeanAbs};
use std::ops::Range;

/// Receives bytes in order.
pub type Sink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// What is known about a tensor only after its weights were read.
pub struct Produced {
    pub scale: Scale,
    /// Row or group scales, mantissas then shifts; empty for one scale.
    pub scales: Vec<u8>,
}

/// Writes the data of tensor `index` to `sink` and returns its scales. A low-bit matrix adds its rows to `identity`.
///
/// # Errors
/// `Input` with file, tensor and offset (NaN, invalid codes, a scale that is no positive number), or what the sink says.
pub fn produce(
    model: &Model,
    lowered: &Lowered,
    index: usize,
    sink: &mut Sink,
    identity: Option<&mut Identity>,
) -> Result<Produced> {
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
            low_bit(model, weight, *rule, t, sink, identity).map_err(|e| e.at_file(model.file_of(&weight.tensor)))
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
        TensorKind::Matrix { enc, scales, .. } => (enc, scales),
        // The builder gives these origins to matrices only.
        _ => unreachable!("{} is no matrix", t.name),
    }
}

/// Weights that are converted at once: enough to be worth a hand-over, little enough to stay in a cache.
const PART: usize = 1 << 19;

/// Rows with their scales.
type Part = (Vec<u8>, Vec<f64>);

/// The encoding in which rows are made. A low-bit row is made in the host's form, which is what a model's identity covers.
fn made_in(enc: Encoding) -> Encoding {
    if enc.is_low_bit() {
        enc.on_host()
    } else {
        enc
    }
}

/// Rows as they are stored in the tensor; None if that is how they were made.
fn stored(t: &Tensor, made: &[u8]) -> Option<Vec<u8>> {
    let TensorKind::Matrix { enc, order, .. } = t.kind else { return None };
    let from = made_in(enc);
    if (from, Order::Rows) == (enc, order) {
        return None;
    }
    let (was, stride) = (from.stride(t.cols), enc.stride_in(order, t.cols));
    let mut out = vec![0; order.stored_rows(made.len() / was) * stride];
    let (mut flat, mut codes) = (vec![0; made.len() / was * stride], vec![0; t.cols]);
    for (row, packed) in made.chunks_exact(was).zip(flat.chunks_exact_mut(stride)) {
        match from == enc {
            // Without the bytes that fill the last word.
            true => packed.copy_from_slice(&row[..stride]),
            false => {
                codes.iter_mut().enumerate().for_each(|(i, c)| *c = from.get(row, t.cols, i));
                enc.pack_row(&codes, packed);
            }
        }
    }
    match order {
        Order::Rows => Some(flat),
        Order::Quads => {
            let quads = out.chunks_exact_mut(4 * stride).zip(flat.chunks(4 * stride));
            quads.for_each(|(quad, rows)| order::join(rows, stride, quad));
            Some(out)
        }
    }
}

/// Makes all rows of a tensor on all cores, in parts that do not depend on their number, and hands the bytes over in order. Returns all scales.
fn by_parts(
    t: &Tensor,
    reader: &RowReader,
    make: impl Fn(Range<usize>, &mut Part) -> Result<()> + Sync,
    sink: &mut Sink,
    mut identity: Option<&mut Identity>,
) -> Result<Vec<f64>> {
    let (enc, mode) = encoding(t);
    // Whole quads, whatever the order.
    let step = (PART / t.cols.max(1)).next_multiple_of(4).max(4);
    let mut scales = Vec::new();
    let part = |i: usize| {
        let rows = i * step..t.rows.min((i + 1) * step);
        let mut part = (vec![0; rows.len() * made_in(enc).stride(t.cols)], Vec::new());
        make(rows.clone(), &mut part)?;
        reader.release(rows);
        let stored = stored(t, &part.0);
        Ok((part, stored))
    };
    parallel::in_order(t.rows.div_ceil(step), part, |((made, more), stored): (Part, Option<Vec<u8>>)| {
        if let Some(id) = identity.as_deref_mut() {
            id.rows(&made);
        }
        sink(stored.as_deref().unwrap_or(&made))?;
        scales.extend(more);
        if mode == ScaleMode::One {
            scales.truncate(1);
        }
        Ok(())
    })?;
    reader.release_all();
    Ok(scales)
}

/// Scales as the tensor holds them: one, or one for each unit.
fn produced(t: &Tensor, scales: &[f64], r: &TensorRef) -> Result<Produced> {
    let scales: Vec<Scale> = scales.iter().map(|s| scale(*s, r)).collect::<Result<_>>()?;
    match (encoding(t).1, scales.first()) {
        (ScaleMode::One, Some(one)) => Ok(Produced { scale: *one, scales: Vec::new() }),
        _ => {
            let (scale, scales) = relative(&scales);
            Ok(Produced { scale, scales })
        }
    }
}

fn rows(model: &Model, m: &Matrix, plus: Option<&Matrix>, t: &Tensor, sink: &mut Sink) -> Result<Produced> {
    let (enc, _) = encoding(t);
    let dtype = model.tensor(&m.tensor).dtype;
    let reader = model.rows(m)?;
    let mut added = vec![0f32; t.cols];
    if let Some(p) = plus {
        model.rows(p)?.read(0, &mut added)?;
    }
    let make = |rows: Range<usize>, (bytes, scales): &mut Part| {
        let (mut row, mut codes) = (vec![0f32; t.cols], vec![0; t.cols]);
        for (i, packed) in rows.zip(bytes.chunks_mut(enc.stride(t.cols))) {
            reader.read(i, &mut row)?;
            if plus.is_some() {
                row.iter_mut().zip(&added).for_each(|(w, a)| *w += a);
            }
            scales.push(match enc {
                // f32 has more bits than 16 in any case; there the absolute maximum uses them best.
                Encoding::Int16 if dtype == DType::F32 => absmax_row(&row, 32_767.0, &mut codes),
                Encoding::Int16 => power_row(&row, &mut codes),
                Encoding::Int4 | Encoding::Planes4 => four_bit_row(&row, &mut codes),
                _ => absmax_row(&row, 127.0, &mut codes),
            });
            enc.pack_row(&codes, packed);
        }
        Ok(())
    };
    let scales = by_parts(t, &reader, make, sink, None)?;
    produced(t, &scales, &m.tensor)
}

/// A scale of the checkpoint; a unit of zeros may have scale 0, where any other does as well.
fn scale(v: f64, r: &TensorRef) -> Result<Scale> {
    positive(if v == 0.0 { f64::MIN_POSITIVE.sqrt() } else { v }, r)
}

fn positive(v: f64, r: &TensorRef) -> Result<Scale> {
    let s = Scale::from_f64(v).filter(|s| s.e.abs() < 1000);
    s.ok_or_else(|| Error::input(format!("its scale is {v}, a positive number is needed")).at_tensor(&r.name))
}

fn low_bit(
    model: &Model,
    weight: &Matrix,
    rule: Option<WeightRule>,
    t: &Tensor,
    sink: &mut Sink,
    mut identity: Option<&mut Identity>,
) -> Result<Produced> {
    let (enc, mode) = encoding(t);
    let enc = made_in(enc);
    if let Some(id) = identity.as_deref_mut() {
        id.matrix(t.rows, t.cols);
    }
    let reader = model.rows(weight)?;
    let fit = match rule {
        None if weight.source.form() == Form::Float => {
            let e = Error::input("holds float weights where stored codes were announced");
            return Err(e.at_tensor(&weight.tensor.name));
        }
        None => reader.fit(),
        Some(rule) if mode == ScaleMode::One => Some(one_fit(&reader, rule, t)?),
        Some(_) => None,
    };
    // Values that are stored one by one, in an encoding that has exactly the codes of the rule.
    let raw = matches!(weight.source, Source::Float | Source::Master(_));
    let by_bits = |fit: &Fit| {
        let known = reader.stored_bytes(0).is_some_and(|(_, d)| matches!(d, DType::Bf16 | DType::F16 | DType::F32));
        raw && known && fit.is_binary() == (enc == Encoding::Binary1)
    };
    if let Some(fit) = fit.filter(by_bits) {
        let make = |rows, part: &mut Part| by_threshold(&reader, &fit, enc, t.cols, rows, part);
        let scales = by_parts(t, &reader, make, sink, identity)?;
        return produced(t, &scales, &weight.tensor);
    }
    let make = |rows: Range<usize>, (bytes, scales): &mut Part| {
        let (mut row, mut codes, mut stored) = (vec![0f32; t.cols], vec![0; t.cols], vec![0i8; t.cols]);
        for (r, packed) in rows.zip(bytes.chunks_mut(enc.stride(t.cols))) {
            match rule {
                None => {
                    reader.read_codes(r, &mut stored, scales)?;
                    codes.iter_mut().zip(&stored).for_each(|(c, s)| *c = i32::from(*s));
                }
                Some(rule) => {
                    reader.read_raw(r, &mut row)?;
                    round(rule, fit, mode, &row, &mut codes, scales);
                }
            }
            enc.pack_row(&codes, packed);
        }
        Ok(())
    };
    let scales = by_parts(t, &reader, make, sink, identity)?;
    produced(t, &scales, &weight.tensor)
}

/// The rule fitted to all rows of a matrix.
fn one_fit(reader: &RowReader, rule: WeightRule, t: &Tensor) -> Result<Fit> {
    let step = (PART / t.cols.max(1)).max(1);
    let mut mean = MeanAbs::default();
    let part = |i: usize| {
        let (mut mean, mut row) = (MeanAbs::default(), vec![0f32; t.cols]);
        for r in i * step..t.rows.min((i + 1) * step) {
            reader.read_raw(r, &mut row)?;
            mean.add(&row);
        }
        Ok(mean)
    };
    parallel::in_order(t.rows.div_ceil(step), part, |part| {
        mean.join(part);
        Ok(())
    })?;
    Ok(Fit::new(rule, mean))
}

/// Codes of a row by a rule with one fit, or with one for each unit, whose scales are added.
fn round(rule: WeightRule, one: Option<Fit>, mode: ScaleMode, row: &[f32], codes: &mut [i32], scales: &mut Vec<f64>) {
    let unit = match mode {
        ScaleMode::Group(g) => g,
        _ => row.len(),
    };
    for (part, out) in row.chunks(unit).zip(codes.chunks_mut(unit)) {
        let fit = one.unwrap_or_else(|| {
            let mut mean = MeanAbs::default();
            mean.add(part);
            Fit::new(rule, mean)
        });
        scales.push(fit.scale);
        out.iter_mut().zip(part).for_each(|(c, w)| *c = fit.code(*w));
    }
}

/// Rows of masters with one fit: a code tells only on which side of a threshold a weight lies. All weights are finite, the fit has read them.
fn by_threshold(
    reader: &RowReader,
    fit: &Fit,
    enc: Encoding,
    cols: usize,
    rows: Range<usize>,
    (bytes, scales): &mut Part,
) -> Result<()> {
    let Some((_, dtype)) = reader.stored_bytes(rows.start) else {
        return Err(Error::input("holds fewer rows than announced"));
    };
    let least = match dtype {
        DType::Bf16 => fit.least(0x7F80, |b| f32::from_bits(b << 16)),
        DType::F16 => fit.least(0x7C00, |b| half::f16::from_bits(b as u16).to_f32()),
        _ => fit.least(0x7F80_0000, f32::from_bits),
    };
    let width = if dtype == DType::F32 { Width::ThirtyTwo } else { Width::Sixteen };
    let stride = enc.stride(cols);
    let mut minus = vec![0; 4 * cols.div_ceil(32)];
    for (r, packed) in rows.zip(bytes.chunks_mut(stride)) {
        let Some((values, _)) = reader.stored_bytes(r) else {
            return Err(Error::input("holds fewer rows than announced"));
        };
        if enc == Encoding::Ternary2 {
            let (p, m) = packed.split_at_mut(stride / 2);
            planes(width, values, least, p, m);
            continue;
        }
        // Binary: what is not negative is +1, padding stays 0.
        planes(width, values, least, packed, &mut minus);
        packed.iter_mut().zip(&minus).for_each(|(p, m)| *p = !m);
        (cols..8 * stride).for_each(|i| packed[i / 8] &= !(1 << (i % 8)));
    }
    scales.push(fit.scale);
    Ok(())
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
