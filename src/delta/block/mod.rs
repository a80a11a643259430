//! One block of the target: out of the base and its payload, and back to a payload.

mod copies;
mod decode;
mod encode;
mod frames;
mod pieces;
mod scan;
mod trits;
mod values;

pub use decode::Decoder;
pub use encode::{Cost, Encoded, Encoder};

use crate::error::{Error, Result};

/// Something that can be read anywhere: the base of a patch.
pub trait BaseRead {
    /// Fills `out` with the bytes from `at` on.
    ///
    /// # Errors
    /// `Input` if there are fewer, `Io` if reading fails.
    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()>;
}

impl BaseRead for &[u8] {
    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..)).and_then(|rest| rest.get(..out.len()));
        let Some(from) = from else {
            return Err(Error::input(format!("the base ends before byte {}", at.saturating_add(out.len() as u64))));
        };
        out.copy_from_slice(from);
        Ok(())
    }
}

impl BaseRead for Vec<u8> {
    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()> {
        self.as_slice().read_at(at, out)
    }
}

/// Which way a patch is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Out of the base, the target.
    Forward,
    /// Out of the target, the base; reversible patches only.
    Backward,
}
