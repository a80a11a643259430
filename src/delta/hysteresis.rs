//! Fewer flips by choice: a weight that crossed a threshold only just keeps its old code.
//!
//! Such a flip costs as many bytes as any other and moves the weight by next to nothing. How far is "just" is told in standard deviations of
//! the update. Where weights lie evenly around a threshold, a Gaussian update of deviation s leaves those that crossed it at w beyond with a
//! density in proportion to Q(w / s), Q the tail of the normal distribution, so their mean distance is s sqrt(2 pi) / 4: that is how s is
//! estimated, without asking how the other weights are spread (trained ones crowd at zero).

use crate::encoding::fixed::Scale;
use crate::encoding::order::{self, Order};
use crate::error::{Error, Result};
use crate::program::{Program, ScaleMode, Tensor, TensorKind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::f64::consts::PI;

/// Reads row `r` of a matrix as it was trained, before any rounding.
pub type Masters<'a> = dyn Fn(usize, &mut [f32]) -> Result<()> + 'a;

/// What was kept of the update.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Kept {
    pub tau: f64,
    /// Tensors whose masters were there.
    pub tensors: usize,
    pub weights: u64,
    pub flips_before: u64,
    pub flips_after: u64,
    /// How much the squared error of rounding grows, as a share of it.
    pub extra_error: f64,
    /// Share of what the flips gain that is still gained.
    pub energy: f64,
}

/// A model: its program with names, and its weights section.
pub struct Weights<'a> {
    pub program: &'a Program,
    pub bytes: &'a [u8],
}

/// Squared errors, summed over tensors.
#[derive(Default)]
struct Errors {
    rounding: f64,
    all_flips: f64,
    kept_back: f64,
}

/// The weights section of `target` with the codes of `base` where a weight moved at most `tau` standard deviations of its tensor's update
/// beyond its threshold. `masters` gives the reader of a tensor's rows, by its number in `target`.
///
/// # Errors
/// `Usage` if no tensor has masters, `Input` if they are not those of the target.
pub fn keep<'m>(
    base: &Weights,
    target: &Weights,
    tau: f64,
    masters: &dyn Fn(usize) -> Result<Option<Box<Masters<'m>>>>,
) -> Result<(Vec<u8>, Kept)> {
    let mut out = target.bytes.to_vec();
    let mut kept = Kept { tau, ..Kept::default() };
    let mut errors = Errors::default();
    let names: BTreeMap<&str, &Tensor> = base.program.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    for (i, t) in target.program.tensors.iter().enumerate().filter(|(_, t)| t.low_bit_weights() > 0) {
        let Some(o) = names.get(t.name.as_str()).filter(|o| (o.kind, o.rows, o.cols) == (t.kind, t.rows, t.cols))
        else {
            continue;
        };
        let Some(rows) = masters(i)? else { continue };
        let old = base.bytes.get(o.data.start as usize..o.data.end as usize).unwrap_or(&[]);
        let new = &mut out[t.data.start as usize..t.data.end as usize];
        let scales = target.bytes.get(t.scales.start as usize..t.scales.end as usize).unwrap_or(&[]);
        tensor(t, old, new, scales, tau, &rows, &mut kept, &mut errors).map_err(|e| e.at_tensor(&t.name))?;
        kept.tensors += 1;
    }
    if kept.tensors == 0 {
        return Err(Error::usage(
            "no tensor of the model has float weights in that checkpoint, or a namesake in the old model",
        )
        .hint("`--weights` takes the checkpoint that NEW was exported from, with its trained floats"));
    }
    kept.extra_error = if errors.rounding > 0.0 { errors.kept_back / errors.rounding } else { 0.0 };
    kept.energy = if errors.all_flips > 0.0 { 1.0 - errors.kept_back / errors.all_flips } else { 1.0 };
    Ok((out, kept))
}

/// What one pass over a tensor learns.
#[derive(Default)]
struct Moments {
    flips: u64,
    /// How far the flipped weights lie beyond their thresholds, summed.
    beyond: f64,
    wrong: u64,
}

/// Distance of a weight to the threshold between two codes.
fn beyond(was: i32, is: i32, w: f64, alpha: f64) -> f64 {
    (w - alpha * f64::from(was + is) / 2.0).abs()
}

#[allow(clippy::too_many_arguments)]
fn tensor(
    t: &Tensor,
    old: &[u8],
    new: &mut [u8],
    scales: &[u8],
    tau: f64,
    masters: &Masters,
    kept: &mut Kept,
    errors: &mut Errors,
) -> Result<()> {
    let TensorKind::Matrix { enc, order, scales: mode } = t.kind else { return Ok(()) };
    let n = (t.rows * t.cols) as f64;
    let mut seen = Moments::default();
    each(t, old, new, scales, masters, |was, is, w, alpha| {
        if was != is {
            seen.flips += 1;
            seen.beyond += beyond(was, is, w, alpha);
        }
        // A code on the other side of zero is none of this weight.
        seen.wrong += u64::from(f64::from(is) * w < 0.0);
    })?;
    if seen.wrong as f64 > 0.001 * n {
        let what = format!("{} of {} weights have another sign than its floats", seen.wrong, n);
        return Err(Error::input(what).hint("give the checkpoint that NEW was exported from"));
    }
    let update = 4.0 / (2.0 * PI).sqrt() * seen.beyond / seen.flips.max(1) as f64;
    let limit = tau * update;
    kept.weights += t.low_bit_weights();
    kept.flips_before += seen.flips;
    let stride = enc.stride_in(order, t.cols);
    let (mut codes, mut row) = (vec![0; t.cols], vec![0; stride]);
    for r in 0..t.rows {
        let mut changed = false;
        let mut c = 0;
        one_row(t, r, old, new, scales, mode, masters, |was, is, w, alpha| {
            let beyond = beyond(was, is, w, alpha);
            let gain = 2.0 * alpha * f64::from((is - was).abs()) * beyond;
            errors.rounding += (w - alpha * f64::from(is)).powi(2);
            let stays = was != is && beyond <= limit;
            if was != is {
                errors.all_flips += gain;
                kept.flips_after += u64::from(!stays);
            }
            if stays {
                errors.kept_back += gain;
                changed = true;
            }
            codes[c] = if stays { was } else { is };
            c += 1;
        })?;
        if changed {
            row.fill(0);
            enc.pack_row(&codes, &mut row);
            match order {
                Order::Rows => new[r * stride..(r + 1) * stride].copy_from_slice(&row),
                Order::Quads => {
                    let quad = &mut new[r / 4 * 4 * stride..];
                    quad.iter_mut().skip(r % 4).step_by(4).zip(&row).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
    Ok(())
}

/// Calls with old code, new code, weight and scale of each weight.
fn each(
    t: &Tensor,
    old: &[u8],
    new: &[u8],
    scales: &[u8],
    masters: &Masters,
    mut f: impl FnMut(i32, i32, f64, f64),
) -> Result<()> {
    let TensorKind::Matrix { scales: mode, .. } = t.kind else { return Ok(()) };
    (0..t.rows).try_for_each(|r| one_row(t, r, old, new, scales, mode, masters, &mut f))
}

#[allow(clippy::too_many_arguments)]
fn one_row(
    t: &Tensor,
    r: usize,
    old: &[u8],
    new: &[u8],
    scales: &[u8],
    mode: ScaleMode,
    masters: &Masters,
    mut f: impl FnMut(i32, i32, f64, f64),
) -> Result<()> {
    let TensorKind::Matrix { enc, order, .. } = t.kind else { return Ok(()) };
    let stride = enc.stride_in(order, t.cols);
    let (mut w, mut a, mut b) = (vec![0f32; t.cols], vec![0; stride], vec![0; stride]);
    masters(r, &mut w)?;
    let (was, is) = (order::row(old, order, r, &mut a), order::row(new, order, r, &mut b));
    let units = scales.len() / 5;
    for (c, w) in w.iter().enumerate() {
        let unit = match mode {
            ScaleMode::One => None,
            ScaleMode::Row => Some(r),
            ScaleMode::Group(g) => Some(r * t.cols.div_ceil(g) + c / g),
        };
        let alpha = unit.map_or(t.scale, |u| unit_scale(t, scales, units, u)).to_f64();
        f(enc.get(was, t.cols, c), enc.get(is, t.cols, c), f64::from(*w), alpha);
    }
    Ok(())
}

/// The scale of a row or group: a mantissa of its own, and how far its exponent lies below that of the tensor.
fn unit_scale(t: &Tensor, scales: &[u8], units: usize, u: usize) -> Scale {
    let m = scales.get(4 * u..4 * u + 4).map_or(1 << 30, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let below = scales.get(4 * units + u).copied().unwrap_or(0);
    Scale { m, e: t.scale.e - i32::from(below) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::lowbit::Encoding;

    /// A tensor alone in its weights section.
    fn alone(enc: Encoding, order: Order, rows: usize, cols: usize) -> Tensor {
        let kind = TensorKind::Matrix { enc, order, scales: ScaleMode::One };
        let len = Tensor::data_bytes(kind, rows, cols);
        let scale = Scale::from_f64(1.0).expect("a positive number");
        Tensor { name: "t".into(), kind, rows, cols, scale, data: 0..len, scales: len..len }
    }

    /// Old codes -1, new +1 for w > 0, at distances 0.01, 0.02 ..; the other weights do not move.
    fn run(enc: Encoding, order: Order, tau: f64) -> (Vec<i32>, Kept) {
        let (rows, cols) = (4, 64);
        let t = alone(enc, order, rows, cols);
        let w: Vec<f32> = (0..rows * cols).map(|i| if i % 8 == 0 { 0.01 * (i / 8 + 1) as f32 } else { 1.0 }).collect();
        let pack = |codes: &[i32]| {
            let stride = enc.stride_in(order, cols);
            let mut out = vec![0; t.data.end as usize];
            for (r, row) in codes.chunks(cols).enumerate() {
                let mut packed = vec![0; stride];
                enc.pack_row(row, &mut packed);
                let (from, step) = if order == Order::Rows { (r * stride, 1) } else { (r, 4) };
                out[from..].iter_mut().step_by(step).zip(&packed).for_each(|(to, b)| *to = *b);
            }
            out
        };
        let old = pack(&(0..rows * cols).map(|i| if i % 8 == 0 { -1 } else { 1 }).collect::<Vec<_>>());
        let mut new = pack(&vec![1; rows * cols]);
        let (mut kept, mut errors) = (Kept::default(), Errors::default());
        let masters = |r: usize, out: &mut [f32]| {
            out.copy_from_slice(&w[r * cols..(r + 1) * cols]);
            Ok(())
        };
        tensor(&t, &old, &mut new, &[], tau, &masters, &mut kept, &mut errors).unwrap();
        let mut scratch = vec![0; enc.stride_in(order, cols)];
        let mut codes = Vec::new();
        for r in 0..rows {
            let row = order::row(&new, order, r, &mut scratch);
            codes.extend((0..cols).map(|c| enc.get(row, cols, c)));
        }
        (codes, kept)
    }

    #[test]
    fn weights_that_moved_far_flip_and_others_stay() {
        let (all, kept) = run(Encoding::Binary1, Order::Rows, 0.0);
        assert_eq!((all.iter().filter(|c| **c < 0).count(), kept.flips_before, kept.flips_after), (0, 32, 32));
        // The flipped weights lie 0.165 beyond on the average, so the deviation is 0.263; a quarter of that is 0.066.
        let (some, kept) = run(Encoding::Binary1, Order::Rows, 0.25);
        let back: Vec<usize> = (0..some.len()).filter(|i| some[*i] < 0).collect();
        assert_eq!(back, (0..6).map(|i| 8 * i).collect::<Vec<_>>());
        assert_eq!((kept.flips_before, kept.flips_after), (32, 26));
    }

    #[test]
    fn the_order_and_the_encoding_of_a_matrix_change_nothing() {
        let want = run(Encoding::Binary1, Order::Rows, 0.5).0;
        assert_eq!(run(Encoding::Binary1, Order::Quads, 0.5).0, want);
        let trits = run(Encoding::Ternary2, Order::Rows, 0.5).0;
        assert_eq!(run(Encoding::Ternary5, Order::Quads, 0.5).0, trits);
        assert_eq!(run(Encoding::Ternary5, Order::Rows, 0.5).0, trits);
    }
}
