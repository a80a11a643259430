//! Tensors as they lie in a checkpoint: element type, shape, bytes. Values are decoded a tile at a time.

use crate::error::{Error, Result};
use half::{bf16, f16};

/// Element types that a checkpoint may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    F32,
    F16,
    Bf16,
    U8,
    /// Anything else, by its name in the file; it can be listed but not decoded.
    Other(&'static str),
}

impl DType {
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::Bf16 => "BF16",
            DType::U8 => "U8",
            DType::Other(n) => n,
        }
    }

    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16 | DType::Bf16)
    }

    fn size(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::Bf16 => 2,
            _ => 1,
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
    pub fn elements(&self) -> usize {
        self.data.len() / self.dtype.size()
    }

    /// Decodes elements `start .. start + out.len()` to f32 (exact for bf16 and f16).
    ///
    /// # Errors
    /// `Input` if the type is no float, if the range is outside, or at the first NaN or infinity.
    pub fn read_f32(&self, start: usize, out: &mut [f32]) -> Result<()> {
        let size = self.dtype.size();
        if !self.dtype.is_float() {
            return Err(self.error(format!("holds {}, a float type (F32, F16, BF16) is needed", self.dtype.name())));
        }
        let bytes = start
            .checked_mul(size)
            .and_then(|a| self.data.get(a..a.checked_add(out.len().checked_mul(size)?)?))
            .ok_or_else(|| self.error(format!("holds {} elements, more are needed", self.elements())))?;
        match self.dtype {
            DType::F32 => {
                for (o, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                    *o = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                }
            }
            DType::F16 => {
                for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *o = f16::from_le_bytes([b[0], b[1]]).to_f32();
                }
            }
            _ => {
                for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *o = bf16::from_le_bytes([b[0], b[1]]).to_f32();
                }
            }
        }
        if let Some(i) = out.iter().position(|v| !v.is_finite()) {
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
