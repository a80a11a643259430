//! Reading matrices row by row: as floats, and as codes with their scales where the source holds such.

use super::{Form, Matrix, Model, Source, TensorRef, Unit};
use crate::error::{Error, Result};
use crate::tensor::TensorView;

/// Rows of one matrix in the order of the network, whatever they are stored as.
pub struct RowReader<'a> {
    model: &'a Model,
    matrix: &'a Matrix,
    view: TensorView<'a>,
    /// The scale, for sources with one for the whole tensor; 1 else.
    scale: f64,
}

impl Model {
    /// Prepares the reading of a matrix; this reads the scales.
    ///
    /// # Errors
    /// `Input` with file, tensor and offset for scales that are no positive numbers.
    pub fn rows<'a>(&'a self, m: &'a Matrix) -> Result<RowReader<'a>> {
        let scale = match &m.source {
            Source::PackedTernary { scale, multiplies } => {
                let s = f64::from(self.values(scale)?[0]);
                positive(if *multiplies { s } else { 1.0 / s }, self, scale)?
            }
            _ => 1.0,
        };
        Ok(RowReader { model: self, matrix: m, view: self.tensor(&m.tensor), scale })
    }
}

fn positive(v: f64, model: &Model, r: &TensorRef) -> Result<f64> {
    if v.is_finite() && v > 0.0 {
        return Ok(v);
    }
    let e = Error::input(format!("its scale is {v}, a positive number is needed"));
    Err(e.at_tensor(&r.name).at_offset(model.tensor(r).offset).at_file(model.file_of(r)))
}

impl RowReader<'_> {
    /// The values of row `r` as stored: for masters before their rule is applied.
    ///
    /// # Errors
    /// `Input` with file, tensor and offset: a value that is not finite, a code that is not defined.
    pub fn read(&self, r: usize, out: &mut [f32]) -> Result<()> {
        match self.matrix.source.form() {
            Form::Codes { .. } if !matches!(self.matrix.source, Source::Master(_)) => {
                let mut codes = vec![0i8; out.len()];
                let mut scales = Vec::new();
                self.read_codes(r, &mut codes, &mut scales)?;
                let unit = out.len().div_ceil(scales.len().max(1));
                for ((o, c), s) in out.chunks_mut(unit).zip(codes.chunks(unit)).zip(scales) {
                    o.iter_mut().zip(c).for_each(|(o, c)| *o = f32::from(*c) * s as f32);
                }
                Ok(())
            }
            _ => {
                let stored = self.matrix.order.stored(r);
                self.view.read_f32(stored * self.matrix.cols, out).map_err(|e| e.at_file(self.file()))
            }
        }
    }

    /// The codes of row `r`, and the scales of its units appended to `scales`: one for the row, or one for each group.
    /// What a code stands for is `code * scale`. Only for sources whose form is [`Form::Codes`], but not for masters.
    ///
    /// # Errors
    /// As [`RowReader::read`].
    pub fn read_codes(&self, r: usize, out: &mut [i8], scales: &mut Vec<f64>) -> Result<()> {
        match &self.matrix.source {
            Source::PackedTernary { .. } => {
                let stored = self.matrix.order.stored(r);
                let block = self.view.shape[0];
                let (at, shift) = ((stored % block) * self.matrix.cols, 2 * (stored / block));
                for (c, o) in out.iter_mut().enumerate() {
                    let code = self.view.data[at + c] >> shift & 3;
                    if code == 3 {
                        let what = format!("the packed code of row {r}, column {c} is 3, only 0, 1 and 2 are defined");
                        let e = Error::input(what).at_tensor(self.view.name).at_file(self.file());
                        return Err(e.at_offset(self.view.offset + (at + c) as u64));
                    }
                    *o = code as i8 - 1;
                }
                scales.push(self.scale);
                Ok(())
            }
            _ => Err(self.view.error("holds no codes that are read here").at_file(self.file())),
        }
    }

    /// Units that share a scale.
    pub fn unit(&self) -> Option<Unit> {
        match self.matrix.source.form() {
            Form::Codes { unit, .. } => Some(unit),
            Form::Float => None,
        }
    }

    fn file(&self) -> &std::path::Path {
        self.model.file_of(&self.matrix.tensor)
    }
}
