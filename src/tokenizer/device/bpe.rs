//! Words to ids by merges.

use super::text::{Out, Stream, Word};
use super::Fault;

/// Scratch words for tokens of at most `longest` atoms.
pub fn work(longest: u32) -> u32 {
    let window = (4 * longest).max(128);
    2 * (window + 3 * longest)
}

/// Ids of one word. `work` has at least [`work`] words.
///
/// # Errors
/// `Capacity`
pub fn word(_stream: &mut Stream<'_, '_>, _word: Word, _work: &mut [u32], _out: &mut Out<'_>) -> Result<(), Fault> {
    Err(Fault::Feature)
}
