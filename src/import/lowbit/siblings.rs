//! Formats that show only in what lies beside a weight.

use super::{Found, Wanted};
use crate::error::{Error, Result};
use crate::import::checkpoint::Checkpoint;
use crate::model::{Source, TensorRef};

/// LayerNorm after the scale of OneBit layers (Xu et al. 2024).
const ONEBIT_EPS: f64 = 1e-5;

/// A sibling that is a float tensor of one of these shapes.
fn beside(c: &Checkpoint, w: &Wanted, name: &str, shapes: &[&[usize]]) -> Result<Option<TensorRef>> {
    let name = format!("{}.{name}", w.module);
    let Some(r) = c.find(&name) else { return Ok(None) };
    let shape = shapes.iter().find(|s| c.view(r).shape == **s).or(shapes.first()).copied().unwrap_or(&[]);
    c.need_float(&name, shape).map(Some)
}

fn missing(c: &Checkpoint, w: &Wanted, name: &str) -> Error {
    let name = format!("{}.{name}", w.module);
    c.need(&name).err().unwrap_or_else(|| Error::input("this tensor is missing").at_tensor(&name))
}

/// Float weights with neighbours.
pub fn find(c: &Checkpoint, w: &Wanted, weight: &TensorRef) -> Result<Option<Found>> {
    let (rows, cols) = (w.stored_rows, w.cols);
    let per_row: [&[usize]; 3] = [&[rows], &[rows, 1], &[1, rows]];
    let per_col: [&[usize]; 2] = [&[1, cols], &[cols]];
    if let Some(clip) = beside(c, w, "weight_clip_val", &[&[rows, 1], &[rows]])? {
        let Some(bits) = c.config.usize("w_bits", 0..=16)? else {
            return Err(c
                .config
                .error("the weights have clipping values, but `w_bits` does not say for how many bits"));
        };
        let source = match bits {
            0..=4 => Source::Clipped { clip: clip.clone(), bits: bits as u32 },
            16 => Source::Float,
            b => {
                return Err(
                    Error::unsupported(format!("`w_bits` is {b}, 0 to 4 and 16 are read")).at_file(&c.config.path)
                )
            }
        };
        return Ok(Some(Found::with(w, weight.clone(), source, &[&clip])));
    }
    if let Some(scale) = beside(c, w, "wscale", &per_col)? {
        let bias = beside(c, w, "wbias", &per_col)?.ok_or_else(|| missing(c, w, "wbias"))?;
        let source = Source::SignColumns { scale: scale.clone(), bias: bias.clone() };
        return Ok(Some(Found::with(w, weight.clone(), source, &[&scale, &bias])));
    }
    if let Some(factor) = beside(c, w, "input_factor", &[&[cols]])? {
        let scale = beside(c, w, "weight_scale", &per_row)?.ok_or_else(|| missing(c, w, "weight_scale"))?;
        return Ok(Some(one_bit(w, weight.clone(), Source::SignRows { scale: scale.clone() }, factor, &scale)));
    }
    if let Some(scale) = beside(c, w, "scales", &per_row)? {
        let source = Source::FloatCodes { scale: scale.clone(), multiplies: true };
        return Ok(Some(Found::with(w, weight.clone(), source, &[&scale])));
    }
    Ok(None)
}

/// One bit a weight with a factor for each input and a scale for each output.
pub fn sign_bits(c: &Checkpoint, w: &Wanted, weight: TensorRef) -> Result<Found> {
    let view = c.view(&weight);
    view.expect_shape(&[w.stored_rows, w.cols.div_ceil(8)]).map_err(|e| e.at_file(c.path_of(&weight)))?;
    let factor = c.need_float(&format!("{}.input_factor", w.module), &[w.cols])?;
    let scale = c.need_float(&format!("{}.weight_scale", w.module), &[w.stored_rows])?;
    Ok(one_bit(w, weight, Source::SignBits { scale: scale.clone() }, factor, &scale))
}

fn one_bit(w: &Wanted, weight: TensorRef, source: Source, factor: TensorRef, scale: &TensorRef) -> Found {
    let mut found = Found::with(w, weight, source, &[scale, &factor]);
    found.input_factor = Some(factor);
    found.output_norm = Some(ONEBIT_EPS);
    found
}
