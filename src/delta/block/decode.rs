//! A block out of the base and its payload.

use super::{BaseRead, Direction};
use crate::error::{Error, Result};
use crate::format::delta::{Header, Index};

/// Makes blocks. Its memory is bounded and used again from block to block.
#[derive(Default)]
pub struct Decoder {}

impl Decoder {
    pub fn new() -> Self {
        Decoder {}
    }

    /// Makes block `block` of the target into `out`, whose content is replaced. `payload` is what `Index::block` says of the payload
    /// area, and empty for a block that does not change. `base` must hold `header.base_len` bytes; with [`Direction::Backward`] it is the
    /// target and `out` becomes a block of the base. Digests are for the caller to check.
    ///
    /// # Errors
    /// `Input` if the payload is damaged, `Usage` for a way that the patch does not go, and those of `base`.
    #[allow(clippy::too_many_arguments)]
    pub fn decode(
        &mut self,
        header: &Header,
        index: &Index,
        block: u32,
        base: &dyn BaseRead,
        payload: &[u8],
        out: &mut Vec<u8>,
        direction: Direction,
    ) -> Result<()> {
        let _ = (header, index, block, base, payload, out, direction);
        Err(Error::unsupported("patches are not applied yet"))
    }
}
