//! Matrices of a program as tensors of a graph: decoded, transposed and packed while the file is written, a tile at a time, so that no
//! matrix is ever in memory as a whole.

use super::graph::{put, Graph, Value};
use super::WeightForm;
use crate::encoding::fixed::Scale;
use crate::encoding::lowbit::Encoding;
use crate::encoding::order::{self, Order};
use crate::error::{Error, Result};
use crate::format::onnx::Elem;
use crate::program::{ScaleMode, TensorId, TensorKind};
use crate::runtime::Artifact;
use std::io::Write;

/// Elements of a tile that is decoded at once.
const TILE: usize = 1 << 22;

/// A matrix of the program in its mapped file.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    id: TensorId,
    name: &'a str,
    pub enc: Encoding,
    order: Order,
    pub rows: usize,
    pub cols: usize,
    data: &'a [u8],
    mode: ScaleMode,
    scale: Scale,
    mantissas: &'a [u8],
    shifts: &'a [u8],
}

/// Which bytes of its weights a tensor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The weights, which fit one byte.
    Whole,
    /// `floor(w / 256)` of 16-bit weights, as bytes with zero point 128.
    High,
    /// `w mod 256` of 16-bit weights, as bytes with zero point 0.
    Low,
}

impl<'a> Matrix<'a> {
    /// A matrix of a checked artifact.
    ///
    /// # Errors
    /// `Input` if the tensor is no matrix or its bytes are not all there.
    pub fn of(a: &'a Artifact, id: TensorId) -> Result<Matrix<'a>> {
        let wrong = |what: &str| Error::input(format!("tensor {id} {what}")).at_file(&a.packed.path);
        let t = a.program.tensors.get(id).ok_or_else(|| wrong("does not exist"))?;
        let TensorKind::Matrix { enc, order, scales: mode } = t.kind else { return Err(wrong("is no matrix")) };
        let bytes = |r: &std::ops::Range<u64>| a.weights().get(r.start as usize..r.end as usize);
        let (Some(data), Some(scales)) = (bytes(&t.data), bytes(&t.scales)) else {
            return Err(wrong("lies outside of the weights"));
        };
        let (mantissas, shifts) = scales.split_at(scales.len() / 5 * 4);
        Ok(Matrix {
            id,
            name: &t.name,
            enc,
            order,
            rows: t.rows,
            cols: t.cols,
            data,
            mode,
            scale: t.scale,
            mantissas,
            shifts,
        })
    }

    /// Width of a group of columns with a scale of its own, if there are such groups.
    pub fn group(&self) -> Option<usize> {
        match self.mode {
            ScaleMode::Group(g) if g < self.cols => Some(g),
            _ => None,
        }
    }

    /// How fine its scales are.
    pub fn mode(&self) -> ScaleMode {
        self.mode
    }

    /// Groups of columns; 1 if a row is not cut.
    pub fn groups(&self) -> usize {
        self.group().map_or(1, |g| self.cols.div_ceil(g))
    }

    /// The one scale of the matrix, if it has one.
    pub fn one_scale(&self) -> Option<Scale> {
        (self.mode == ScaleMode::One).then_some(self.scale)
    }

    /// Mantissa and shift of the scale of a group (0 without groups) of a row, as they are stored.
    pub fn stored_scale(&self, row: usize, group: usize) -> (u32, u8) {
        let i = row * self.groups() + group;
        match (self.mantissas.get(4 * i..4 * i + 4), self.shifts.get(i)) {
            (Some(&[a, b, c, d]), Some(&h)) => (u32::from_le_bytes([a, b, c, d]), h),
            _ => (self.scale.m, 0),
        }
    }

    /// The exponent that stored scales refer to, or the scale of the whole matrix.
    pub fn base(&self) -> Scale {
        self.scale
    }

    /// The scale of a group (0 without groups) of a row, exactly.
    pub fn scale(&self, row: usize, group: usize) -> Scale {
        match self.mode {
            ScaleMode::One => self.scale,
            _ => {
                let (m, h) = self.stored_scale(row, group);
                Scale { m, e: self.scale.e - i32::from(h) }
            }
        }
    }

    /// A name for a tensor made of this matrix.
    pub fn tensor_name(&self, form: &str) -> String {
        format!("{}.{}.{form}", if self.name.is_empty() { "tensor" } else { self.name }, self.id)
    }

    /// The codes of a part of row `r`; columns behind the last are 0.
    fn codes(&self, r: usize, from: usize, scratch: &mut [u8], out: &mut [i32]) {
        let row = order::row(self.data, self.order, r, scratch);
        for (i, o) in out.iter_mut().enumerate() {
            *o = if from + i < self.cols { self.enc.get(row, self.cols, from + i) } else { 0 };
        }
    }

    fn scratch(&self) -> Vec<u8> {
        vec![0; self.enc.stride_in(self.order, self.cols)]
    }

    /// Gives the codes of each row, `width` of them.
    pub fn each_row(&self, width: usize, f: &mut dyn FnMut(usize, &[i32]) -> Result<()>) -> Result<()> {
        let (mut scratch, mut codes) = (self.scratch(), vec![0; width]);
        (0..self.rows).try_for_each(|r| {
            self.codes(r, 0, &mut scratch, &mut codes);
            f(r, &codes)
        })
    }

    /// Gives the codes of each column (those of all rows), `width` columns in all.
    pub fn each_column(&self, width: usize, f: &mut dyn FnMut(usize, &[i32]) -> Result<()>) -> Result<()> {
        let step = (TILE / self.rows.max(1)).clamp(1, width.max(1));
        let (mut scratch, mut part) = (self.scratch(), vec![0; step]);
        let mut tile = vec![0; step * self.rows];
        for from in (0..width).step_by(step) {
            let n = step.min(width - from);
            for r in 0..self.rows {
                self.codes(r, from, &mut scratch, &mut part[..n]);
                for (c, code) in part[..n].iter().enumerate() {
                    tile[c * self.rows + r] = *code;
                }
            }
            for (c, column) in tile.chunks_exact(self.rows.max(1)).take(n).enumerate() {
                f(from + c, column)?;
            }
        }
        Ok(())
    }

    /// Columns with those that fill the last group.
    fn width(&self) -> usize {
        self.group().map_or(self.cols, |g| g * self.groups())
    }

    fn dims(&self) -> Vec<i64> {
        match self.group() {
            Some(g) => vec![self.groups() as i64, g as i64, self.rows as i64],
            None => vec![self.cols as i64, self.rows as i64],
        }
    }

    /// The element type in which a form stores weights of this encoding.
    pub fn stored_as(&self, form: WeightForm) -> Elem {
        match (form, self.enc.wmax()) {
            (WeightForm::Int2, 1) => Elem::I2,
            (WeightForm::Int4 | WeightForm::Int2, w) if w <= 8 => Elem::I4,
            (_, w) if w <= 64 => Elem::I8,
            _ => Elem::U8,
        }
    }

    /// The weights as second operand of MatMulInteger, `[in, out]`, or with groups `[groups, width, out]` where the last group is filled
    /// with zeros; and the zero point that they need. Weights of up to 64 become int8, so that no pair of products saturates 16 bits.
    pub fn operand(&self, g: &mut Graph<'a>, part: Part, form: WeightForm) -> (Value, Option<Value>) {
        let m = *self;
        let (elem, what) = match part {
            Part::Whole => (self.stored_as(form), "t"),
            Part::High => (Elem::U8, "t.high"),
            Part::Low => (Elem::U8, "t.low"),
        };
        let count = (m.width() * m.rows) as u64;
        let bytes = (count * u64::from(elem.bits())).div_ceil(8);
        let write = move |w: &mut dyn Write| -> Result<()> {
            let mut packer = Packer::new(elem.bits());
            let mut out = Vec::with_capacity(m.rows);
            m.each_column(m.width(), &mut |_, codes| {
                out.clear();
                for c in codes {
                    let byte = match (part, elem) {
                        (Part::High, _) => (c >> 8) + 128,
                        (Part::Low, _) => *c,
                        (Part::Whole, Elem::U8) => c + 128,
                        (Part::Whole, _) => *c,
                    };
                    packer.put(byte as u8, &mut out);
                }
                put(w, &out)
            })?;
            out.clear();
            packer.finish(&mut out);
            put(w, &out)
        };
        let name = m.tensor_name(&format!("{what}.{}", elem.name()));
        let v = g.weight(&name, elem, &m.dims(), bytes, Box::new(write));
        match elem {
            Elem::U8 => {
                let zero = g.u8(if part == Part::Low { 0 } else { 128 });
                (v, Some(zero))
            }
            Elem::I8 => (v, None),
            _ => (g.cast(v, Elem::I8), None),
        }
    }

    /// The rows as int8 or int16, `[rows, cols]`: for Gather, and for products of floats, which read them after a Transpose and a Cast.
    pub fn table(&self, g: &mut Graph<'a>) -> Value {
        let m = *self;
        let wide = m.enc == Encoding::Int16;
        let elem = if wide { Elem::I16 } else { Elem::I8 };
        let bytes = (m.rows * m.cols) as u64 * if wide { 2 } else { 1 };
        let write = move |w: &mut dyn Write| -> Result<()> {
            let mut out = Vec::with_capacity(2 * m.cols);
            m.each_row(m.cols, &mut |_, codes| {
                out.clear();
                for c in codes {
                    let le = (*c as i16).to_le_bytes();
                    out.extend_from_slice(&le[..if wide { 2 } else { 1 }]);
                }
                put(w, &out)
            })
        };
        g.weight(&m.tensor_name("rows"), elem, &[m.rows as i64, m.cols as i64], bytes, Box::new(write))
    }

    /// The scales in f32: `[out]`, or with groups `[groups, 1, out]`; None if the matrix has one scale.
    pub fn scales(&self, g: &mut Graph<'a>) -> Option<Value> {
        let m = *self;
        self.one_scale().is_none().then(|| {
            let (groups, rows) = (m.groups(), m.rows);
            let write = move |w: &mut dyn Write| -> Result<()> {
                (0..groups).try_for_each(|k| {
                    let row: Vec<u8> = (0..rows).flat_map(|r| (m.scale(r, k).to_f64() as f32).to_le_bytes()).collect();
                    put(w, &row)
                })
            };
            let dims = match m.group() {
                Some(_) => vec![groups as i64, 1, rows as i64],
                None => vec![rows as i64],
            };
            g.weight(&m.tensor_name("t.scales"), Elem::F32, &dims, 4 * (groups * rows) as u64, Box::new(write))
        })
    }

    /// The scales times `factor` in f32 beside [`Matrix::table`]: `[rows, groups]`.
    pub fn table_scales(&self, g: &mut Graph<'a>, factor: f64) -> Value {
        let m = *self;
        let groups = m.groups();
        let write = move |w: &mut dyn Write| -> Result<()> {
            (0..m.rows).try_for_each(|r| {
                let row: Vec<u8> =
                    (0..groups).flat_map(|k| ((m.scale(r, k).to_f64() * factor) as f32).to_le_bytes()).collect();
                put(w, &row)
            })
        };
        let dims = [m.rows as i64, groups as i64];
        g.weight(&m.tensor_name("rows.scales"), Elem::F32, &dims, 4 * (groups * m.rows) as u64, Box::new(write))
    }
}

/// Packs codes into bytes, the first into the lowest bits, as ONNX does with types below a byte.
pub struct Packer {
    bits: u32,
    byte: u8,
    used: u32,
}

impl Packer {
    /// `bits`: 1, 2, 4 or 8.
    pub fn new(bits: u32) -> Packer {
        Packer { bits, byte: 0, used: 0 }
    }

    /// Takes a code in; a byte that is full goes to `out`.
    pub fn put(&mut self, code: u8, out: &mut Vec<u8>) {
        let mask = ((1u32 << self.bits) - 1) as u8;
        self.byte |= (code & mask) << self.used;
        self.used += self.bits;
        if self.used == 8 {
            out.push(self.byte);
            (self.byte, self.used) = (0, 0);
        }
    }

    /// Gives the last byte if it is not full, zeros in its highest bits.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.used > 0 {
            out.push(self.byte);
            (self.byte, self.used) = (0, 0);
        }
    }
}
