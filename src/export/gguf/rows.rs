//! The rows of matrices in the layout of a file: codes with their scales, or values.

use super::names::Order;
use super::{Choice, Settings};
use crate::encoding::blocks::Block;
use crate::error::{Error, Result};
use crate::format::gguf::Writer;
use crate::model::{Fit, Form, Matrix, MeanAbs, Model, RowReader, Unit, WeightRule};
use crate::program::ScaleMode;
use crate::progress::Progress;
use crate::tensor::DType;
use half::{bf16, f16};

/// Rows that are read and written at a time, at most this many weights.
const TILE: usize = 1 << 18;
/// Scales up to this mean 0.
const NO_SCALE: f64 = 1e-29;

/// The rule that a matrix of floats is rounded by.
fn rule(m: &Matrix, settings: &Settings, table: bool) -> Option<(WeightRule, ScaleMode)> {
    settings.weight.filter(|_| !table && m.source.form() == Form::Float)
}

/// Weights of a row that share a scale, at most all; None if a matrix has no codes.
pub fn group(m: &Matrix, settings: &Settings, table: bool) -> Option<usize> {
    let of_unit = |unit| if let Unit::Group(g) = unit { m.cols.min(g) } else { m.cols };
    match m.source.form() {
        Form::Codes { unit, .. } => Some(of_unit(unit)),
        Form::Float => rule(m, settings, table).map(|(_, scales)| match scales {
            ScaleMode::Group(g) => m.cols.min(g),
            _ => m.cols,
        }),
    }
}

pub fn is_binary(m: &Matrix, settings: &Settings) -> bool {
    match m.source.form() {
        Form::Codes { binary, .. } => binary,
        Form::Float => settings.weight.is_some_and(|(rule, _)| rule == WeightRule::BinaryMean),
    }
}

/// The scale of all weights of these matrices, if there is one.
///
/// # Errors
/// What reading them says.
pub fn single_scale(model: &Model, parts: &[&Matrix], settings: &Settings) -> Result<Option<f32>> {
    let mut found: Option<f32> = None;
    for m in parts {
        let part = Part::new(model, m, settings, true)?;
        let (mut codes, mut scales) = (vec![0; m.cols], Vec::new());
        let rows = if part.unit() == Unit::Tensor { 1 } else { m.rows };
        for r in 0..rows {
            scales.clear();
            part.codes(r, &mut codes, &mut scales)?;
            for s in scales.iter().map(|s| *s as f32).filter(|s| *s != 0.0 || part.unit() == Unit::Tensor) {
                if *found.get_or_insert(s) != s {
                    return Ok(None);
                }
            }
        }
    }
    Ok(Some(found.unwrap_or(0.0)))
}

/// One matrix.
struct Part<'a> {
    reader: RowReader<'a>,
    rows: usize,
    cols: usize,
    /// How floats become codes.
    fitted: Option<(WeightRule, ScaleMode)>,
    /// With one scale for the matrix.
    fit: Option<Fit>,
}

impl<'a> Part<'a> {
    fn new(model: &'a Model, m: &'a Matrix, settings: &Settings, codes: bool) -> Result<Part<'a>> {
        let reader = model.rows(m)?;
        let fitted = rule(m, settings, !codes);
        let fit = match fitted {
            Some((rule, ScaleMode::One)) => {
                let (mut mean, mut row) = (MeanAbs::default(), vec![0f32; m.cols]);
                for r in 0..m.rows {
                    reader.read_raw(r, &mut row)?;
                    mean.add(&row);
                }
                Some(Fit::new(rule, mean))
            }
            _ => None,
        };
        Ok(Part { reader, rows: m.rows, cols: m.cols, fitted, fit })
    }

    fn unit(&self) -> Unit {
        match self.fitted {
            None => self.reader.unit().unwrap_or(Unit::Row),
            Some((_, ScaleMode::One)) => Unit::Tensor,
            Some((_, ScaleMode::Row)) => Unit::Row,
            Some((_, ScaleMode::Group(g))) => Unit::Group(g),
        }
    }

    /// Codes of a row, and a scale for each of its units.
    fn codes(&self, r: usize, out: &mut [i8], scales: &mut Vec<f64>) -> Result<()> {
        let Some((rule, mode)) = self.fitted else { return self.reader.read_codes(r, out, scales) };
        let mut row = vec![0f32; self.cols];
        self.reader.read_raw(r, &mut row)?;
        let unit = match mode {
            ScaleMode::Group(g) => g,
            _ => self.cols,
        };
        for (values, codes) in row.chunks(unit.max(1)).zip(out.chunks_mut(unit.max(1))) {
            let fit = self.fit.unwrap_or_else(|| {
                let mut mean = MeanAbs::default();
                mean.add(values);
                Fit::new(rule, mean)
            });
            codes.iter_mut().zip(values).for_each(|(c, w)| *c = fit.code(*w) as i8);
            scales.push(fit.scale);
        }
        Ok(())
    }
}

/// The rows of a tensor of the file.
pub struct Rows<'a> {
    parts: Vec<Part<'a>>,
    cols: usize,
    dtype: DType,
    codes: bool,
    /// Largest relative difference of a scale to what was written for it.
    pub scale_error: f64,
}

impl<'a> Rows<'a> {
    /// # Errors
    /// What reading the matrices says.
    pub fn new(model: &'a Model, parts: &[&'a Matrix], choice: &Choice, settings: &Settings) -> Result<Rows<'a>> {
        let cols = parts.first().map_or(0, |m| m.cols);
        let parts = parts.iter().map(|m| Part::new(model, m, settings, choice.codes)).collect::<Result<_>>()?;
        Ok(Rows { parts, cols, dtype: choice.dtype, codes: choice.codes, scale_error: 0.0 })
    }

    /// Writes all rows.
    ///
    /// # Errors
    /// `Input` for a value or scale that the type cannot hold; what reading and writing say.
    pub fn write(&mut self, order: Order, writer: &mut Writer, progress: &dyn Progress) -> Result<()> {
        let total: usize = self.parts.iter().map(|p| p.rows).sum();
        let mut out = Vec::new();
        let mut first = 0;
        let mut last_scale = 0f32;
        for f in 0..total {
            let (part, r) = self.place(order.row(f));
            match self.codes {
                true => last_scale = self.code_row(part, r, &mut out)?.max(last_scale),
                false => self.value_row(part, r, &mut out)?,
            }
            if out.len() >= TILE || f + 1 == total {
                writer.write(&out)?;
                progress.advance(out.len() as u64);
                out.clear();
                if let [one] = &self.parts[..] {
                    one.reader.release(first..f + 1);
                }
                first = f + 1;
            }
        }
        if self.dtype == DType::Block(Block::I2S) {
            writer.write(&Block::i2_s_tail(last_scale))?;
        }
        Ok(())
    }

    /// Matrix and row within it.
    fn place(&self, row: usize) -> (usize, usize) {
        let mut r = row;
        for (i, p) in self.parts.iter().enumerate() {
            if r < p.rows {
                return (i, r);
            }
            r -= p.rows;
        }
        (self.parts.len() - 1, r)
    }

    /// Returns the largest scale of the row.
    fn code_row(&mut self, part: usize, r: usize, out: &mut Vec<u8>) -> Result<f32> {
        let DType::Block(block) = self.dtype else { return Err(Error::unsupported("codes need a block type")) };
        let (p, mut codes, mut units) = (&self.parts[part], vec![0i8; self.cols], Vec::new());
        p.codes(r, &mut codes, &mut units)?;
        let group = if let Unit::Group(g) = p.unit() { g } else { self.cols };
        // Binary units of nothing but zeros have a scale that stands for 0.
        let unit = |at: usize| units.get(at / group.max(1)).copied().filter(|s| *s > NO_SCALE).unwrap_or(0.0);
        let scales: Vec<f32> = (0..self.cols / block.values()).map(|b| unit(b * block.values()) as f32).collect();
        if block != Block::I2S {
            for s in scales.iter().filter(|s| **s != 0.0) {
                let error = (f64::from(f16::from_f32(*s).to_f32()) / f64::from(*s) - 1.0).abs();
                self.scale_error = self.scale_error.max(error);
            }
        }
        block.write_codes(&codes, &scales, out)?;
        Ok(scales.iter().fold(0.0, |m, s| m.max(*s)))
    }

    fn value_row(&self, part: usize, r: usize, out: &mut Vec<u8>) -> Result<()> {
        let mut row = vec![0f32; self.cols];
        self.parts[part].reader.read(r, &mut row)?;
        let too_large = |w: f32| Error::input(format!("row {r} holds {w}, more than the type can hold"));
        match self.dtype {
            DType::F32 => row.iter().for_each(|w| out.extend(w.to_le_bytes())),
            DType::Bf16 => row.iter().for_each(|w| out.extend(bf16::from_f32(*w).to_le_bytes())),
            DType::F16 => {
                for w in row {
                    let h = f16::from_f32(w);
                    if h.is_infinite() {
                        return Err(too_large(w).hint("`--type bf16` and `--type f32` hold it"));
                    }
                    out.extend(h.to_le_bytes());
                }
            }
            DType::Block(b) => b.write_f32(&row, out)?,
            d => return Err(Error::unsupported(format!("{} is not written", d.name()))),
        }
        Ok(())
    }
}
