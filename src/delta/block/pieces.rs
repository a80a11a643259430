//! What lies of each segment in a block, and the parts in which the gaps of a block begin anew.

use crate::format::delta::{segments_in, Kind, Segment};
use std::ops::Range;

/// What lies of a segment in a block.
pub struct Piece {
    pub kind: Kind,
    /// Offset in the target.
    pub at: u64,
    /// The same bytes within the block.
    pub range: Range<usize>,
    /// Where the same bytes lie in the base, or near which, as `Segment::base`.
    pub base: u64,
    /// Offset in its segment.
    pub within: u64,
}

/// The pieces in bytes `block` of the target, in order. The segments cover it, none lies behind another.
pub fn pieces(segments: &[Segment], block: Range<u64>) -> impl Iterator<Item = Piece> + '_ {
    segments_in(segments, block.clone()).iter().map(move |s| {
        let at = s.at.max(block.start);
        let end = (s.at + s.len).min(block.end);
        let within = at - s.at;
        Piece {
            kind: s.kind,
            at,
            range: (at - block.start) as usize..(end - block.start) as usize,
            base: s.base.saturating_add(within),
            within,
        }
    })
}

/// How trits in planes lie in a piece: bytes before the first row that begins in it, whole rows, bytes of a row that ends behind it.
pub fn rows(len: usize, within: u64, half: u32) -> [Range<usize>; 3] {
    let row = 2 * u64::from(half.max(1));
    let head = (within.next_multiple_of(row) - within).min(len as u64) as usize;
    let whole = head + (len - head) / row as usize * row as usize;
    [0..head, head..whole, whole..len]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_by_blocks() {
        assert_eq!(rows(20, 0, 3), [0..0, 0..18, 18..20]);
        assert_eq!(rows(20, 4, 3), [0..2, 2..20, 20..20]);
        assert_eq!(rows(4, 7, 3), [0..4, 4..4, 4..4], "none begins");
        assert_eq!(rows(5, 7, 3), [0..5, 5..5, 5..5], "one begins behind it");
        assert_eq!(rows(6, 7, 3), [0..5, 5..5, 5..6]);
        assert_eq!(rows(5, 12, 3), [0..0, 0..0, 0..5]);
    }
}
