//! Words to ids by the longest piece that fits. (Skeleton: its owner fills this in.)

use super::text::{Out, Stream, Word};
use super::Fault;

/// Scratch words for words of at most `limit` characters.
pub fn work(_limit: u32) -> u32 {
    0
}

/// Ids of one word. `work` has at least [`work`] words.
///
/// # Errors
/// `Capacity`
pub fn word(_stream: &mut Stream<'_, '_>, _word: Word, _work: &mut [u32], _out: &mut Out<'_>) -> Result<(), Fault> {
    Err(Fault::Feature)
}
