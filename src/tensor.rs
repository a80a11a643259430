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

/// A tensor in a mapped file.
#[derive(Debug, Clone)]
pub struct TensorView<'a> {
    pub name: &'a str,
    pub dtype: DType,
    pub shape: &'a [usize],
    /// Row-major, `product(shape)` elements.
    pub data: &'a [u8],
    /// Offset of `data` in its file, for messages.
    pub offset: u64,
}

impl TensorView<'_> {
    /// Number of elements, from the shape; containers have checked that it agrees with the length of the data.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Decodes elements `start .. start + out.len()` to f32 (exact for bf16 and f16; f64 is rounded).
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

    /// All elements.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut v = vec![0.0; self.elements()];
        self.read_f32(0, &mut v)?;
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
