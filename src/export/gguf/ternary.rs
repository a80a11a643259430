//! A stored tensor as blocks of codes with one scale each, if that is what its values are: nothing is rounded here.

use crate::encoding::blocks::Block;
use crate::error::Result;
use crate::format::File;
use crate::tensor::{DType, TensorView};

/// Values that are decoded at a time: a whole number of every block.
const TILE: usize = 1 << 13;
/// Values after which the pages that were read are given back.
const RELEASE: usize = 1 << 22;

/// A tensor and the file that it lies in.
pub struct Source<'a> {
    pub file: &'a File,
    pub view: TensorView<'a>,
}

/// What a block turned out to be.
enum Found {
    Scale(f32),
    Not(&'static str),
}

const NOT_TERNARY: &str = "its values are not a scale times -1, 0 and 1";
const SEVERAL: &str = "values that would share a block have different scales";

impl Source<'_> {
    /// Calls `f` with the codes and the scale of each `n` values (which divide [`TILE`]), in order. Scales are not negative unless there
    /// is a code of 2; a block of zeros has the scale 0. Ends with the first reason why there are no such codes, or that `f` gives.
    ///
    /// # Errors
    /// `Input` for values and scales that are not finite, and for a code of 2 in a layout of trits; what `f` says.
    pub fn blocks(&self, n: usize, mut f: impl FnMut(&[i8], f32) -> Result<Option<String>>) -> Result<Option<String>> {
        let (mut codes, mut values) = (vec![0i8; TILE], vec![0f32; TILE]);
        let mut reason = None;
        self.tiles(|start, len| {
            let unit = self.unit();
            match (self.view.dtype, unit) {
                (DType::Block(b), Some(_)) => {
                    b.codes(self.view.data, start, &mut codes[..len]);
                    self.trits(b, start, &codes[..len])?;
                }
                _ => self.view.read_f32(start, &mut values[..len])?,
            }
            for at in (0..len).step_by(n) {
                let range = at..len.min(at + n);
                let codes = &mut codes[range.clone()];
                let found = match unit {
                    Some(unit) => self.merge(start + at, unit, codes)?,
                    None => split(&values[range], codes),
                };
                reason = match found {
                    Found::Scale(s) => f(codes, s)?,
                    Found::Not(why) => Some(why.to_string()),
                };
                if reason.is_some() {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        Ok(reason)
    }

    /// Looks at the codes and scales of a tensor that has some.
    ///
    /// # Errors
    /// As [`Source::blocks`].
    pub fn check(&self) -> Result<()> {
        let (DType::Block(b), Some(_)) = (self.view.dtype, self.unit()) else { return Ok(()) };
        self.blocks(b.values(), |_, _| Ok(None)).map(|_| ())
    }

    /// Two bits of 3 are a code in Q2_0 only.
    fn trits(&self, layout: Block, start: usize, codes: &[i8]) -> Result<()> {
        let two = matches!(layout, Block::Q2_0 | Block::Q2_0G128);
        match codes.iter().position(|c| *c > 1).filter(|_| !two) {
            None => Ok(()),
            Some(at) => {
                let e = self.view.error(format!("value {} has the code 3, which is no trit", start + at));
                Err(e.hint("the file is damaged; fetch it again"))
            }
        }
    }

    /// Calls `f` with runs of values, in order, until it says false.
    ///
    /// # Errors
    /// `Input` for values that are not finite; what `f` says.
    pub fn values(&self, mut f: impl FnMut(&[f32]) -> Result<bool>) -> Result<()> {
        let mut values = vec![0f32; TILE];
        self.tiles(|start, len| {
            self.view.read_f32(start, &mut values[..len])?;
            f(&values[..len])
        })
    }

    /// Scales in order, for layouts that have them; a layout with several codes a scale has them once each.
    ///
    /// # Errors
    /// `Input` for one that is not finite.
    pub fn scales(&self) -> Option<impl Iterator<Item = Result<f32>> + '_> {
        let unit = self.unit()?;
        Some((0..self.view.elements() / unit.max(1)).map(|i| self.scale(i)))
    }

    /// Values that share a scale.
    fn unit(&self) -> Option<usize> {
        match self.view.dtype {
            DType::Block(b) => b.scale_unit(self.view.elements()),
            _ => None,
        }
    }

    fn scale(&self, i: usize) -> Result<f32> {
        let d = match self.view.dtype {
            DType::Block(b) => b.scale(self.view.data, i),
            _ => f32::NAN,
        };
        match d.is_finite() {
            true => Ok(d),
            false => Err(self.view.error(format!("scale {i} is {d}, only finite ones can be converted"))),
        }
    }

    /// Brings the units that a block consists of to one scale.
    fn merge(&self, start: usize, unit: usize, codes: &mut [i8]) -> Result<Found> {
        let mut common = None;
        let piece = unit.min(codes.len()).max(1);
        for (i, codes) in codes.chunks_mut(piece).enumerate() {
            let d = self.scale((start + i * piece) / unit)?;
            if d == 0.0 {
                codes.fill(0);
            }
            if codes.iter().all(|c| *c == 0) {
                continue;
            }
            let turned = d < 0.0 && codes.iter().all(|c| *c <= 1);
            if turned {
                codes.iter_mut().for_each(|c| *c = -*c);
            }
            let d = if turned { -d } else { d };
            if *common.get_or_insert(d) != d {
                return Ok(Found::Not(SEVERAL));
            }
        }
        Ok(Found::Scale(common.unwrap_or(0.0)))
    }

    fn tiles(&self, mut f: impl FnMut(usize, usize) -> Result<bool>) -> Result<()> {
        let n = self.view.elements();
        for start in (0..n).step_by(TILE) {
            if !f(start, TILE.min(n - start))? {
                break;
            }
            if (start + TILE).is_multiple_of(RELEASE) {
                self.file.release(self.view.data);
            }
        }
        self.file.release(self.view.data);
        Ok(())
    }
}

/// Codes of values that have one magnitude, apart from zeros.
fn split(values: &[f32], codes: &mut [i8]) -> Found {
    let mut scale = 0f32;
    for (v, c) in values.iter().zip(codes) {
        let size = v.abs();
        if size == 0.0 {
            *c = 0;
            continue;
        }
        if scale == 0.0 {
            scale = size;
        }
        if size != scale {
            return Found::Not(NOT_TERNARY);
        }
        *c = if *v < 0.0 { -1 } else { 1 };
    }
    Found::Scale(scale)
}
