//! Words to ids by the longest piece that fits.

use super::pieces::Walk;
use super::text::{Out, Stream, Utf8, Word, STRAY};
use super::{Fault, Tokenizer};

/// Longest word of the format, in characters.
pub const LIMIT: u32 = 4096;

/// Scratch words for words of at most `limit` characters.
pub fn work(limit: u32) -> u32 {
    limit
}

/// Ids of one word. `work` has at least [`work`] words.
///
/// # Errors
/// `Capacity`
pub fn word(stream: &mut Stream<'_>, word: Word, work: &mut [u32], out: &mut Out<'_>) -> Result<(), Fault> {
    let t = stream.t;
    let limit = t.layout.unknown.limit as usize;
    let word_room = work.get_mut(..limit).ok_or(Fault::Work)?;
    let (mut cursor, mut count) = (word.from, 0);
    while let Some(code) = stream.next_before(&mut cursor, word.to) {
        match word_room.get_mut(count) {
            Some(place) => *place = code,
            None => return unknown(t, out),
        }
        count += 1;
    }
    // Ids take the place of characters that were read.
    let (mut at, mut ids) = (0, 0);
    let mut from = t.layout.pieces.root();
    while at < count {
        let Some((end, id)) = longest(t, from, word_room, at, count) else { return unknown(t, out) };
        if let Some(place) = word_room.get_mut(ids) {
            *place = id;
        }
        if ids == 0 && end < count {
            let prefix = t.layout.unknown.prefix.of(t.blob);
            if !prefix.iter().all(|&byte| t.layout.pieces.step(t.blob, &mut from, byte)) {
                return unknown(t, out);
            }
        }
        at = end;
        ids += 1;
    }
    word_room.iter().take(ids).try_for_each(|&id| out.put(id))
}

/// The longest piece from character `at` on, as where it ends and its id.
fn longest(t: Tokenizer<'_>, mut walk: Walk, word: &[u32], at: usize, count: usize) -> Option<(usize, u32)> {
    let mut best = None;
    for (end, &code) in word.iter().enumerate().take(count).skip(at) {
        let down = |byte: &u8| t.layout.pieces.step(t.blob, &mut walk, *byte);
        // A stray byte is in no piece, whatever its neighbours are.
        if code >= STRAY || !Utf8::of(code).bytes().iter().all(down) {
            break;
        }
        if let Some(id) = t.layout.pieces.found(t.blob, &walk) {
            best = Some((end + 1, id));
        }
    }
    best
}

fn unknown(t: Tokenizer<'_>, out: &mut Out<'_>) -> Result<(), Fault> {
    t.layout.unknown.id.map_or(Ok(()), |id| out.put(id))
}
