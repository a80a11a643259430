//! Words to ids by the best sum of scores. (Skeleton: its owner fills this in.)

use super::text::{Out, Stream, Word};
use super::{Bad, Fault, Span};

/// Section 11, checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scores {}

impl Scores {
    /// Checks the section over ids below `vocab`; offsets of a [`Bad`] count from the start of the blob.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn read(_blob: &[u8], section: Span, _vocab: u32) -> Result<Scores, Bad> {
        Err(Bad { at: section.at, what: "scores of an unknown kind" })
    }
}

/// Scratch words for pieces of at most `longest` bytes.
pub fn work(longest: u32) -> u32 {
    4 * (longest + 1)
}

/// Ids of one word. `work` has at least [`work`] words.
///
/// # Errors
/// `Capacity`
pub fn word(_stream: &mut Stream<'_, '_>, _word: Word, _work: &mut [u32], _out: &mut Out<'_>) -> Result<(), Fault> {
    Err(Fault::Feature)
}
