//! Tensors as they lie in a checkpoint: element type, shape, bytes. Values are decoded a tile at a time.

use crate::encoding::blocks::Block;
use crate::error::{Error, Result};
use half::{bf16, f16};

/// Element types that a checkpoint may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U32,
    U8,
    Bool,
    /// Blocks of quantized values, as GGUF files hold them.
    Block(Block),
    /// Anything else, by its name in the file; it can be listed but not decoded.
    Other(&'static str),
}

impl DType {
    pub fn name(self) -> &'static str {
        match self {
            DType::F64 => "F64",
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::Bf16 => "BF16",
            DType::I64 => "I64",
            DType::I32 => "I32",
            DType::I16 => "I16",
            DType::I8 => "I8",
            DType::U32 => "U32",
            DType::U8 => "U8",
            DType::Bool => "BOOL",
            DType::Block(b) => b.name(),
            DType::Other(n) => n,
        }
    }

    /// Whether [`TensorView::read_f32`] can decode it.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::F16 | DType::Bf16 | DType::Block(_))
    }

    /// Bytes of an element; None where elements have no size of their own.
    pub fn size(self) -> Option<usize> {
        match self {
            DType::F64 | DType::I64 => Some(8),
            DType::F32 | DType::I32 | DType::U32 => Some(4),
            DType::F16 | DType::Bf16 | DType::I16 => Some(2),
            DType::I8 | DType::U8 | DType::Bool => Some(1),
            DType::Block(_) | DType::Other(_) => None,
        }
    }
}

/// Where the rows of a tensor are in its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RowOrder {
    /// Row r is row r.
    #[default]
    Stored,
    /// The halves of each head lie side by side: row `h*d + i*(d/2) + k` is stored row `h*d + 2*k + i`, for d = `head_dim`.
    Interleaved { head_dim: usize },
    /// All queries, all keys, all values, where the tensor has for each of `groups` key heads its `queries` query heads, its key head
    /// and its value head, `head_dim` rows each.
    Grouped { groups: usize, queries: usize, head_dim: usize },
}

impl RowOrder {
    /// The stored row that holds row `r`. No overflow for rows within the tensor.
    pub fn stored(self, r: usize) -> usize {
        match self {
            RowOrder::Stored => r,
            RowOrder::Interleaved { head_dim: d } => {
                let (head, within, half) = (r / d * d, r % d, d / 2);
                head + 2 * (within % half) + within / half
            }
            RowOrder::Grouped { groups, queries, head_dim: d } => {
                let (group, slot, i) = (r / ((queries + 2) * d), r / d % (queries + 2), r % d);
                let head = match slot.checked_sub(queries) {
                    None => group * queries + slot,
                    Some(0) => groups * queries + group,
                    Some(_) => groups * (queries + 1) + group,
                };
                head * d + i
            }
        }
    }
}

/// A tensor in a mapped file.
#[derive(Debug, Clone)]
pub struct TensorView<'a> {
    pub name: &'a str,
    pub dtype: DType,
    pub shape: &'a [usize],
    /// Row-major, `product(shape)` elements, rows in the order of `rows`.
    pub data: &'a [u8],
    pub rows: RowOrder,
    /// Offset of `data` in its file, for messages.
    pub offset: u64,
}

impl TensorView<'_> {
    /// Number of elements, from the shape; containers have checked that it agrees with the length of the data.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Decodes stored elements `start .. start + out.len()` to f32 (exact for bf16 and f16; f64 is rounded).
    ///
    /// # Errors
    /// `Input` if the type is no float, if the range is outside, or at the first NaN or infinity.
    pub fn read_f32(&self, start: usize, out: &mut [f32]) -> Result<()> {
        if !self.dtype.is_float() {
            return Err(self.error(format!("holds {}, a float type (F32, F16, BF16) is needed", self.dtype.name())));
        }
        if start.checked_add(out.len()).is_none_or(|end| end > self.elements()) {
            return Err(self.error(format!("holds {} elements, more are needed", self.elements())));
        }
        let size = self.dtype.size().unwrap_or(0);
        let bytes = self.data.get(start * size..(start + out.len()) * size).unwrap_or(&[]);
        match self.dtype {
            DType::F64 => {
                for (o, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *o = f64::from_le_bytes(*b) as f32;
                }
            }
            DType::F32 => {
                for (o, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *o = f32::from_le_bytes(*b);
                }
            }
            DType::F16 => {
                for (o, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *o = f16::from_le_bytes(*b).to_f32();
                }
            }
            DType::Bf16 => {
                for (o, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *o = bf16::from_le_bytes(*b).to_f32();
                }
            }
            DType::Block(b) => b.read(self.data, start, out),
            _ => {}
        }
        // The exponent of all ones, as a loop without a way out: it is what most of the time of a conversion goes to.
        let odd = out.iter().fold(false, |odd, v| odd | (v.to_bits() & 0x7F80_0000 == 0x7F80_0000));
        if let Some(i) = out.iter().position(|v| odd && !v.is_finite()) {
            let e = Error::input(format!("element {} is {}, only finite weights can be converted", start + i, out[i]));
            return Err(e
                .at_tensor(self.name)
                .at_offset(self.offset + ((start + i) * size) as u64)
                .hint("the checkpoint is damaged or its training diverged; fetch it again or take an earlier step"));
        }
        Ok(())
    }

    /// All elements, rows in their proper order.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut v = vec![0.0; self.elements()];
        match (self.rows, self.shape.first()) {
            (RowOrder::Stored, _) | (_, None | Some(0)) => self.read_f32(0, &mut v)?,
            (order, Some(rows)) => {
                let width = v.len() / rows;
                for r in 0..*rows {
                    self.read_f32(order.stored(r) * width, &mut v[r * width..(r + 1) * width])?;
                }
            }
        }
        Ok(v)
    }

    /// Refuses another shape than `want`.
    pub fn expect_shape(&self, want: &[usize]) -> Result<()> {
        if self.shape == want {
            return Ok(());
        }
        Err(self
            .error(format!("has shape {:?}, the configuration asks for {:?}", self.shape, want))
            .hint("config.json and the weights contradict each other; check that both belong to the same model"))
    }

    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::input(message).at_tensor(self.name).at_offset(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_permutation(order: RowOrder, rows: usize) -> bool {
        let mut seen: Vec<usize> = (0..rows).map(|r| order.stored(r)).collect();
        seen.sort_unstable();
        seen == (0..rows).collect::<Vec<_>>()
    }

    #[test]
    fn halves_side_by_side() {
        let order = RowOrder::Interleaved { head_dim: 4 };
        assert_eq!((0..8).map(|r| order.stored(r)).collect::<Vec<_>>(), [0, 2, 1, 3, 4, 6, 5, 7]);
        assert!(is_permutation(RowOrder::Interleaved { head_dim: 16 }, 48));
    }

    #[test]
    fn one_head_at_a_time() {
        // Two heads of one row: the checkpoint has q0 k0 v0 q1 k1 v1, the file q0 q1 k0 k1 v0 v1.
        let order = RowOrder::Grouped { groups: 2, queries: 1, head_dim: 1 };
        assert_eq!((0..6).map(|r| order.stored(r)).collect::<Vec<_>>(), [0, 2, 4, 1, 3, 5]);
        assert!(is_permutation(RowOrder::Grouped { groups: 3, queries: 4, head_dim: 5 }, 3 * 6 * 5));
        // One key head: both orders are the same.
        let one = RowOrder::Grouped { groups: 1, queries: 7, head_dim: 2 };
        assert!((0..18).all(|r| one.stored(r) == r));
    }
}
