//! Codes of each form, a row at a time.

use super::{scales::Scales, scales::Vote, sign, RowReader};
use crate::error::{Error, Result};
use crate::model::{Source, Unit};
use crate::tensor::DType;

impl RowReader<'_> {
    pub(super) fn codes(&self, r: usize, out: &mut [i8], scales: &mut Vec<f64>) -> Result<()> {
        match (&self.matrix.source, &self.scales) {
            (Source::Master(_), Scales::Fit(fit)) => {
                self.each_value(r, out, |w| Ok(fit.code(w) as i8))?;
                scales.push(fit.scale);
            }
            (Source::PackedTernary { multiplies, .. }, s) => {
                self.packed_ternary(r, out)?;
                scales.push(inverse(self.one_scale(s, r)?, *multiplies));
            }
            (Source::FloatCodes { multiplies, .. }, s) => {
                self.each_value(r, out, |w| {
                    if w == 0.0 || w.abs() == 1.0 {
                        return Ok(w as i8);
                    }
                    let e = Error::input(format!(
                        "row {r} holds {w}; beside a scale only the codes -1, 0 and 1 are defined"
                    ));
                    Err(e.hint("these are master weights or another format; if it is a known one, please report it"))
                })?;
                let s = self.one_scale(s, r)?;
                scales.push(if s == 0.0 { 0.0 } else { inverse(s, *multiplies) });
            }
            (Source::Blocks { .. }, _) => {
                let DType::Block(block) = self.view.dtype else {
                    return Err(self.view.error("holds no blocks"));
                };
                let start = self.view.rows.stored(self.matrix.order.stored(r)) * self.matrix.cols;
                block.codes(self.view.data, start, out);
                let unit = block.scale_unit(self.view.elements()).unwrap_or(1);
                let units = start / unit..(start + self.matrix.cols).div_ceil(unit);
                scales.extend(units.map(|u| f64::from(block.scale(self.view.data, u))));
            }
            (Source::Grid { unit, .. }, s) => self.grid(r, *unit, s, out, scales)?,
            (Source::Affine { bits, group, low_bit: Some(binary), .. }, Scales::Groups { scales: from, .. }) => {
                let stored = self.matrix.order.stored(r);
                let groups = self.matrix.cols.div_ceil(*group);
                let mut s = vec![0f32; groups];
                from.read_f32(stored * groups, &mut s)?;
                let mut bad = None;
                self.affine_codes(stored, *bits, |c, code| match (binary, code) {
                    (true, code) => out[c] = 2 * code as i8 - 1,
                    (false, 0..=2) => out[c] = code as i8 - 1,
                    (false, _) => bad = Some(c),
                })?;
                if let Some(c) = bad {
                    return Err(self
                        .view
                        .error(format!("the code of row {r}, column {c} is 3, only 0, 1 and 2 are ternary")));
                }
                // Codes 0 and 1 are -s and s: their distance is what is stored.
                let half = if *binary { 2.0 } else { 1.0 };
                scales.extend(s.iter().map(|s| f64::from(*s) / half));
            }
            (Source::SignBits { .. }, s) => {
                let stored = self.matrix.order.stored(r);
                let stride = self.matrix.cols.div_ceil(8);
                let bytes = self.bytes(stored * stride, stride)?;
                out.iter_mut().enumerate().for_each(|(c, o)| *o = 1 - 2 * (bytes[c / 8] >> (c % 8) & 1) as i8);
                scales.push(positive(self.one_scale(s, r)?, out));
            }
            (Source::SignRows { .. }, s) => {
                self.each_value(r, out, |w| Ok(if w >= 0.0 { 1 } else { -1 }))?;
                scales.push(positive(self.one_scale(s, r)?, out));
            }
            (Source::Clipped { bits: bits @ 0..=1, .. }, Scales::Rows(clip)) => {
                let a = self.row_scale(clip, r)?;
                self.each_value(r, out, |w| Ok(clipped(w, a, *bits).0 as i8))?;
                scales.push(if *bits == 0 { f64::from(a) / 1.5 } else { f64::from(a) });
            }
            _ => return Err(self.view.error("holds no codes that can be carried over")),
        }
        Ok(())
    }

    /// Codes from values that are stored one by one.
    fn each_value(&self, r: usize, out: &mut [i8], mut code: impl FnMut(f32) -> Result<i8>) -> Result<()> {
        let mut row = vec![0f32; out.len()];
        self.stored(r, &mut row)?;
        out.iter_mut().zip(row).try_for_each(|(o, w)| code(w).map(|c| *o = c))
    }

    /// Four bands of rows share a byte, the lowest bits belong to the first.
    fn packed_ternary(&self, r: usize, out: &mut [i8]) -> Result<()> {
        let stored = self.matrix.order.stored(r);
        let band = self.view.shape.first().copied().unwrap_or(0).max(1);
        let (at, shift) = ((stored % band) * self.matrix.cols, 2 * (stored / band));
        let bytes = self.bytes(at, out.len())?;
        if shift > 6 {
            return Err(self.view.error(format!("holds {} rows, row {r} is asked for", 4 * band)));
        }
        for (o, b) in out.iter_mut().zip(bytes) {
            *o = (b >> shift & 3) as i8 - 1;
        }
        match out.iter().position(|q| *q == 2) {
            None => Ok(()),
            Some(c) => {
                let what = format!("the packed code of row {r}, column {c} is 3, only 0, 1 and 2 are defined");
                Err(Error::input(what).at_tensor(self.view.name).at_offset(self.view.offset + (at + c) as u64))
            }
        }
    }

    /// Signs of values that have one magnitude in each unit.
    fn grid(&self, r: usize, unit: Unit, s: &Scales, out: &mut [i8], scales: &mut Vec<f64>) -> Result<()> {
        let mut row = vec![0f32; out.len()];
        self.stored(r, &mut row)?;
        out.iter_mut().zip(&row).for_each(|(o, w)| *o = sign(*w) as i8);
        let len = match unit {
            Unit::Tensor => {
                scales.push(f64::from(self.one_scale(s, r)?));
                return Ok(());
            }
            Unit::Row => out.len(),
            Unit::Group(g) => g,
        };
        scales.extend(row.chunks(len.max(1)).map(|part| {
            let mut vote = Vote::default();
            vote.add(part);
            f64::from(vote.winner())
        }));
        Ok(())
    }

    /// Codes in 32-bit words, lowest bits first; each row starts a word.
    pub(super) fn affine_codes(&self, stored: usize, bits: u32, mut each: impl FnMut(usize, u32)) -> Result<()> {
        let bits = bits as usize;
        let stride = 4 * (self.matrix.cols * bits).div_ceil(32);
        let bytes = self.bytes(stored * stride, stride)?;
        let mask = (1u64 << bits) - 1;
        for c in 0..self.matrix.cols {
            // Little-endian words are one stream of bits, so codes that cross a word need no case of their own.
            let at = c * bits;
            let mut window = [0u8; 8];
            let part = &bytes[at / 8..bytes.len().min(at / 8 + 8)];
            window[..part.len()].copy_from_slice(part);
            each(c, (u64::from_le_bytes(window) >> (at % 8) & mask) as u32);
        }
        Ok(())
    }

    /// Signed codes of 2, 4 or 8 bits along the columns; bytes are signed already.
    pub(super) fn row_codes(&self, r: usize, bits: u32, mut each: impl FnMut(usize, i8)) -> Result<()> {
        let stored = self.matrix.order.stored(r);
        let per = (8 / bits.clamp(1, 8)) as usize;
        let stride = self.matrix.cols.div_ceil(per);
        let bytes = self.bytes(stored * stride, stride)?;
        let half = 1i16 << (bits - 1);
        for c in 0..self.matrix.cols {
            let b = bytes[c / per];
            each(
                c,
                match bits {
                    8 if self.view.dtype == DType::I8 => b as i8,
                    _ => (i16::from(b >> (bits as usize * (c % per)) & (((1u16 << bits) - 1) as u8)) - half) as i8,
                },
            );
        }
        Ok(())
    }
}

fn inverse(s: f32, multiplies: bool) -> f64 {
    if multiplies {
        f64::from(s)
    } else {
        1.0 / f64::from(s)
    }
}

/// The magnitude of a scale; its sign goes to the codes.
fn positive(s: f32, codes: &mut [i8]) -> f64 {
    if s < 0.0 {
        codes.iter_mut().for_each(|q| *q = -*q);
    }
    f64::from(s.abs())
}

/// Code and effective value of a master with clipping value `a` (ParetoQ, Liu et al. 2025). Codes of 2 bits are halves: the code is 0 there.
pub(super) fn clipped(w: f32, a: f32, bits: u32) -> (f32, f32) {
    let limited = (w / a).clamp(-0.99, 0.99);
    match bits {
        0 => {
            let q = (limited * 1.5).round_ties_even();
            (q, q / 1.5 * a)
        }
        1 => (sign(w), sign(w) * a),
        2 => {
            let q = (limited * 2.0 - 0.5).round_ties_even() + 0.5;
            (0.0, q / 2.0 * a)
        }
        _ => {
            let half = (1i32 << (bits.min(8) - 1)) as f32;
            let q = (w / a).round_ties_even().clamp(-half, half - 1.0);
            (q, q * a)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_values_give_the_published_grids() {
        let grid = |bits| {
            let mut g: Vec<f32> = (-300..=300).map(|i| clipped(i as f32 / 100.0, 1.0, bits).1).collect();
            g.dedup();
            g
        };
        assert_eq!(grid(0), [-1.0 / 1.5, 0.0, 1.0 / 1.5]);
        assert_eq!(grid(1), [-1.0, 0.0, 1.0]);
        assert_eq!(grid(2), [-0.75, -0.25, 0.25, 0.75]);
        assert_eq!(grid(3), [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]);
        assert_eq!(clipped(-9.0, 1.0, 3).1, -4.0);
    }
}
