//! The scales that belong to a matrix, read once before its rows.

use crate::error::Result;
use crate::model::{Fit, Matrix, MeanAbs, Model, Source, TensorRef, Unit, WeightRule};
use crate::parallel;
use crate::tensor::TensorView;

/// What is known about the scales of a matrix before a row is read.
pub(super) enum Scales<'a> {
    /// They are part of the values, or each row has what is needed.
    Own,
    /// A rule fitted to the whole tensor.
    Fit(Fit),
    /// One for the tensor, or one for each stored row, as stored.
    Rows(Vec<f32>),
    /// `[rows, groups]`, read with each row.
    Groups { scales: TensorView<'a>, biases: TensorView<'a> },
    /// One for each column.
    Columns { scales: Vec<f32>, biases: Vec<f32> },
}

impl<'a> Scales<'a> {
    pub fn of(model: &'a Model, m: &Matrix, view: &TensorView) -> Result<Scales<'a>> {
        Ok(match &m.source {
            Source::Float | Source::Int8Rows | Source::Blocks { .. } => Scales::Own,
            Source::Grid { unit: Unit::Tensor, .. } => {
                let mut vote = Vote::default();
                whole(model, m, view, |row| vote.add(row))?;
                Scales::Rows(vec![vote.winner()])
            }
            Source::Grid { .. } => Scales::Own,
            // A part of a fused matrix has the scale of the whole, so the tensor is read, not the matrix.
            Source::Master(rule) => Scales::Fit(fit(model, m, view, *rule)?),
            Source::PackedTernary { scale, .. } => Scales::Rows(read(model, scale, |s| s > 0.0)?),
            Source::FloatCodes { scale, .. } => {
                let one = model.tensor(scale).elements() == 1;
                Scales::Rows(read(model, scale, |s| s > 0.0 || (s == 0.0 && !one))?)
            }
            // A learned factor may have crossed zero: the sign then belongs to the codes.
            Source::SignBits { scale } | Source::SignRows { scale } => Scales::Rows(read(model, scale, |_| true)?),
            Source::RowCodes { scale, .. } => Scales::Rows(read(model, scale, |s| s >= 0.0)?),
            Source::Clipped { clip, .. } => {
                let mut clip = read(model, clip, |_| true)?;
                clip.iter_mut().for_each(|a| *a = a.max(1e-5));
                Scales::Rows(clip)
            }
            Source::Affine { scales, biases, .. } => {
                Scales::Groups { scales: model.tensor(scales), biases: model.tensor(biases) }
            }
            Source::SignColumns { scale, bias } => {
                Scales::Columns { scales: read(model, scale, |_| true)?, biases: read(model, bias, |_| true)? }
            }
        })
    }
}

/// Weights of a part of a tensor that is summed at once. The result depends on it in its last bit, so it is fixed.
const PART: usize = 1 << 19;
/// Values that are decoded at once; both forms stay in the nearest cache.
const TILE: usize = 2048;
/// Tensors above this are not kept in memory for the pass that follows.
const LARGE: usize = 64 << 20;

fn fit(model: &Model, m: &Matrix, view: &TensorView, rule: WeightRule) -> Result<Fit> {
    let all = view.elements();
    let sum = |i: usize| {
        let (mut mean, mut tile) = (MeanAbs::default(), [0f32; TILE]);
        let (start, end) = (i * PART, all.min((i + 1) * PART));
        for at in (start..end).step_by(TILE) {
            let tile = &mut tile[..TILE.min(end - at)];
            view.read_f32(at, tile)?;
            mean.add(tile);
        }
        if view.data.len() > LARGE {
            let size = view.dtype.size().unwrap_or(0);
            model.files[m.tensor.file].release(view.data.get(start * size..end * size).unwrap_or(&[]));
        }
        Ok(mean)
    };
    let mut mean = MeanAbs::default();
    let joined = parallel::in_order(all.div_ceil(PART), sum, |part| {
        mean.join(part);
        Ok(())
    });
    joined.map_err(|e| e.at_file(model.file_of(&m.tensor)))?;
    Ok(Fit::new(rule, mean))
}

/// All values of the tensor, a stored row at a time.
fn whole(model: &Model, m: &Matrix, view: &TensorView, mut each: impl FnMut(&[f32])) -> Result<()> {
    let width = view.shape.last().copied().unwrap_or(1).max(1);
    let mut row = vec![0f32; width];
    for r in 0..view.elements() / width {
        view.read_f32(r * width, &mut row).map_err(|e| e.at_file(model.file_of(&m.tensor)))?;
        each(&row);
    }
    Ok(())
}

/// All values of a tensor of scales, which must be finite and `good`.
fn read(model: &Model, r: &TensorRef, good: impl Fn(f32) -> bool) -> Result<Vec<f32>> {
    let scales = model.values(r)?;
    let view = model.tensor(r);
    let bad = match scales.iter().position(|s| !good(*s)) {
        _ if scales.is_empty() => view.error("holds no scale"),
        None => return Ok(scales),
        Some(i) => {
            let at = view.offset + (i * view.dtype.size().unwrap_or(0)) as u64;
            crate::error::Error::input(format!("scale {i} is {}, a positive number is needed", scales[i]))
                .at_tensor(&r.name)
                .at_offset(at)
        }
    };
    Err(bad.at_file(model.file_of(r)))
}

/// The magnitude that most non-zero values of a unit have (Boyer and Moore 1991): on a grid they are equal but for single roundings.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Vote {
    magnitude: f32,
    lead: u64,
}

impl Vote {
    pub fn add(&mut self, values: &[f32]) {
        for w in values.iter().map(|w| w.abs()).filter(|w| *w != 0.0) {
            if w == self.magnitude {
                self.lead += 1;
            } else if self.lead == 0 {
                *self = Vote { magnitude: w, lead: 1 };
            } else {
                self.lead -= 1;
            }
        }
    }

    /// 0 if all values are 0.
    pub fn winner(self) -> f32 {
        self.magnitude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_magnitude_of_most_values_is_the_scale() {
        let mut v = Vote::default();
        assert_eq!(v.winner(), 0.0);
        v.add(&[0.0, 0.5, -0.5, 0.501, 0.0, -0.501]);
        v.add(&[0.5, 0.5, 0.0]);
        assert_eq!(v.winner(), 0.5);
    }
}
