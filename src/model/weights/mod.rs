//! Reading matrices row by row: as the floats that the trained network computes with, and as codes with their scales where the source
//! holds such.

mod codes;
mod scales;

use super::{Fit, Form, Matrix, Model, RowOrder, Source, Unit};
use crate::error::{Error, Result};
use crate::tensor::{self, DType, TensorView};
use scales::Scales;
use std::ops::Range;

/// Rows of one matrix in the order of the network, whatever they are stored as.
pub struct RowReader<'a> {
    model: &'a Model,
    matrix: &'a Matrix,
    view: TensorView<'a>,
    scales: Scales<'a>,
}

impl Model {
    /// Prepares the reading of a matrix. This reads its scales; for masters with one scale it reads all weights.
    ///
    /// # Errors
    /// `Input` with file, tensor and offset for scales that are no positive numbers or too few, and for weights that are not finite.
    pub fn rows<'a>(&'a self, m: &'a Matrix) -> Result<RowReader<'a>> {
        let view = self.tensor(&m.tensor);
        let scales = Scales::of(self, m, &view)?;
        Ok(RowReader { model: self, matrix: m, view, scales })
    }
}

impl<'a> RowReader<'a> {
    /// The weights of row `r` that the network computes with, in f32 with the roundings of the reference implementation:
    /// masters after their rule, codes times their scale.
    ///
    /// # Errors
    /// `Input` with file, tensor and offset: a value that is not finite, a code that is not defined.
    pub fn read(&self, r: usize, out: &mut [f32]) -> Result<()> {
        self.effective(r, out).map_err(|e| self.here(e))
    }

    /// The values of row `r` before any rule for their use: masters as they were trained. Sources that hold codes give what
    /// [`RowReader::read`] gives.
    ///
    /// # Errors
    /// As [`RowReader::read`].
    pub fn read_raw(&self, r: usize, out: &mut [f32]) -> Result<()> {
        match self.matrix.source {
            Source::Master(_) | Source::Int8Rows | Source::Clipped { .. } | Source::SignRows { .. } => {
                self.stored(r, out).map_err(|e| self.here(e))
            }
            _ => self.read(r, out),
        }
    }

    /// The codes of row `r`, and the scales of its units appended to `scales`: one for the row, or one for each group of columns.
    /// What a code stands for is `code * scale`; a scale is positive, or 0 for a unit of zeros. Only for sources whose form is
    /// [`Form::Codes`].
    ///
    /// # Errors
    /// As [`RowReader::read`].
    pub fn read_codes(&self, r: usize, out: &mut [i8], scales: &mut Vec<f64>) -> Result<()> {
        self.codes(r, out, scales).map_err(|e| self.here(e))
    }

    /// Bytes of row `r` where values are stored one by one along the columns.
    pub fn stored_bytes(&self, r: usize) -> Option<(&'a [u8], DType)> {
        let size = self.view.dtype.size().filter(|_| !self.matrix.transposed && self.view.dtype.is_float())?;
        let len = self.matrix.cols * size;
        let at = self.view.rows.stored(self.matrix.order.stored(r)) * len;
        Some((self.view.data.get(at..at + len)?, self.view.dtype))
    }

    /// The rule of masters, fitted to their tensor.
    pub fn fit(&self) -> Option<Fit> {
        match self.scales {
            Scales::Fit(fit) => Some(fit),
            _ => None,
        }
    }

    /// Says that these rows are not needed soon; see [`crate::fsio::Mapped::release`]. Rows that are not stored in order are kept.
    pub fn release(&self, rows: Range<usize>) {
        let stored = self.view.shape.first().copied().unwrap_or(0);
        let in_order = self.matrix.order == RowOrder::Stored && self.view.rows == tensor::RowOrder::Stored;
        if !in_order || self.matrix.transposed || stored != self.matrix.rows {
            return;
        }
        let stride = self.view.data.len() / stored.max(1);
        if let Some(part) = self.view.data.get(rows.start * stride..rows.end * stride) {
            self.model.files[self.matrix.tensor.file].release(part);
        }
    }

    /// As [`RowReader::release`] for all rows.
    pub fn release_all(&self) {
        self.model.files[self.matrix.tensor.file].release(self.view.data);
    }

    /// Units that share a scale; None for floats.
    pub fn unit(&self) -> Option<Unit> {
        match self.matrix.source.form() {
            Form::Codes { unit, .. } => Some(unit),
            Form::Float => None,
        }
    }

    fn here(&self, e: Error) -> Error {
        e.at_tensor(self.view.name).at_file(self.model.file_of(&self.matrix.tensor))
    }

    /// A row of values that are stored one by one.
    fn stored(&self, r: usize, out: &mut [f32]) -> Result<()> {
        let row = self.view.rows.stored(self.matrix.order.stored(r));
        if !self.matrix.transposed {
            return self.view.read_f32(row * self.matrix.cols, out);
        }
        let width = self.view.shape.last().copied().unwrap_or(0);
        for (c, o) in out.iter_mut().enumerate() {
            self.view.read_f32(c * width + row, std::slice::from_mut(o))?;
        }
        Ok(())
    }

    /// `len` bytes from `at` on, for sources that hold codes.
    fn bytes(&self, at: usize, len: usize) -> Result<&'a [u8]> {
        self.view.data.get(at..at + len).ok_or_else(|| self.view.error("holds fewer codes than the matrix has"))
    }

    fn effective(&self, r: usize, out: &mut [f32]) -> Result<()> {
        match (&self.matrix.source, &self.scales) {
            (Source::Float | Source::Grid { .. } | Source::Blocks { .. }, _) => self.stored(r, out),
            (Source::Master(_), Scales::Fit(fit)) => {
                self.stored(r, out)?;
                out.iter_mut().for_each(|w| *w = fit.effective(*w));
                Ok(())
            }
            (Source::Int8Rows, _) => {
                self.stored(r, out)?;
                let t = 127.0 / out.iter().fold(0f32, |m, w| m.max(w.abs())).max(1e-5);
                out.iter_mut().for_each(|w| *w = (*w * t).round_ties_even().clamp(-127.0, 127.0) / t);
                Ok(())
            }
            (Source::Affine { bits, group, .. }, Scales::Groups { scales, biases }) => {
                let stored = self.matrix.order.stored(r);
                let groups = self.matrix.cols.div_ceil(*group);
                let (mut s, mut b) = (vec![0f32; groups], vec![0f32; groups]);
                scales.read_f32(stored * groups, &mut s)?;
                biases.read_f32(stored * groups, &mut b)?;
                self.affine_codes(stored, *bits, |c, code| out[c] = s[c / group] * code as f32 + b[c / group])
            }
            (Source::SignColumns { .. }, Scales::Columns { scales, biases }) => {
                self.stored(r, out)?;
                let each = out.iter_mut().zip(scales).zip(biases);
                each.for_each(|((w, s), b)| *w = sign(*w) * s + b);
                Ok(())
            }
            (Source::Clipped { bits, .. }, Scales::Rows(clip)) => {
                self.stored(r, out)?;
                let a = self.row_scale(clip, r)?;
                out.iter_mut().for_each(|w| *w = codes::clipped(*w, a, *bits).1);
                Ok(())
            }
            (Source::RowCodes { bits, .. }, Scales::Rows(s)) => {
                let s = self.row_scale(s, r)?;
                self.row_codes(r, *bits, |c, code| out[c] = f32::from(code) * s)
            }
            (Source::PackedTernary { multiplies, .. } | Source::FloatCodes { multiplies, .. }, s) => {
                let mut codes = vec![0i8; out.len()];
                self.codes(r, &mut codes, &mut Vec::new())?;
                let s = self.one_scale(s, r)?;
                let value = |q: i8| if *multiplies { f32::from(q) * s } else { f32::from(q) / s };
                out.iter_mut().zip(codes).for_each(|(o, q)| *o = value(q));
                Ok(())
            }
            (Source::SignBits { .. } | Source::SignRows { .. }, _) => {
                let (mut codes, mut scale) = (vec![0i8; out.len()], Vec::new());
                self.codes(r, &mut codes, &mut scale)?;
                let s = scale.first().copied().unwrap_or(0.0) as f32;
                out.iter_mut().zip(codes).for_each(|(o, q)| *o = f32::from(q) * s);
                Ok(())
            }
            // `Scales::of` gives each source its scales.
            _ => Err(self.view.error("its scales were not read")),
        }
    }

    /// The scale of a row where there is one for the tensor or one for each stored row.
    fn one_scale(&self, scales: &Scales, r: usize) -> Result<f32> {
        match scales {
            Scales::Rows(s) if s.len() == 1 => Ok(s[0]),
            Scales::Rows(s) => self.row_scale(s, r),
            _ => Err(self.view.error("its scales were not read")),
        }
    }

    fn row_scale(&self, scales: &[f32], r: usize) -> Result<f32> {
        let stored = self.matrix.order.stored(r);
        scales.get(stored).copied().ok_or_else(|| self.view.error(format!("{} scales, row {r} has none", scales.len())))
    }
}

/// -1, 0 or 1.
fn sign(w: f32) -> f32 {
    if w == 0.0 {
        0.0
    } else {
        w.signum()
    }
}
