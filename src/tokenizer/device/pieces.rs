//! Sections 10 and 11, pieces in a trie and their scores. (Skeleton: its owner fills this in.)

use super::{Bad, Fault, Span, Tokenizer};

/// Section 10, checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pieces {
    /// Bytes of the longest piece.
    pub longest: u32,
}

impl Pieces {
    /// Checks the section over ids below `vocab`; offsets of a [`Bad`] count from the start of the blob.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn read(_blob: &[u8], section: Span, _vocab: u32) -> Result<Pieces, Bad> {
        Err(Bad { at: section.at, what: "pieces of an unknown kind" })
    }
}

/// Gives the bytes of the piece with this id to `put`, in order; whether there is one.
///
/// # Errors
/// What `put` says.
pub fn spell(_t: Tokenizer<'_>, _id: u32, _put: &mut dyn FnMut(u8) -> Result<(), Fault>) -> Result<bool, Fault> {
    Ok(false)
}
