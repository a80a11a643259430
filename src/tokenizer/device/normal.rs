//! Section 7, the normalizer. (Skeleton: its owner fills this in.)

use super::text::{Cursor, Segment};
use super::{Bad, Span, Tokenizer};

/// Scratch words a normalizer needs.
pub const WORK: u32 = 0;

/// Section 7, checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Normal {
    /// Whether the blob has a normalizer.
    pub present: bool,
}

impl Normal {
    /// Checks the section; offsets of a [`Bad`] count from the start of the blob.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn read(_blob: &[u8], section: Span) -> Result<Normal, Bad> {
        Err(Bad { at: section.at, what: "normalizer of an unknown kind" })
    }
}

/// The next character of the normalized segment, or None at its end. Never called with `cursor.front` set. `scratch` has [`WORK`] words that
/// only this function writes: a cache at most, which must be checked against `segment` and `cursor`.
pub fn next(_t: Tokenizer<'_>, _segment: Segment<'_>, _cursor: &mut Cursor, _scratch: &mut [u32]) -> Option<u32> {
    None
}
