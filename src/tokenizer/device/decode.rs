//! Ids to text: the bytes of one token, and a decoder that is given one id after the other.

use super::layout::{Model, SPECIAL};
use super::text::{Literal, Utf8};
use super::{pieces, Fault, Tokenizer};

/// U+2581 stands for a space.
const SPACES: u8 = 1;
/// A U+2581 at the start of the text is left out.
const STRIP: u8 = 2;
/// Tokens that do not continue a word have a space in front.
const JOIN: u8 = 4;
/// But not in front of what English does not put one.
const CLEANUP: u8 = 8;
/// With [`STRIP`]: also one of every further token as long as there is no text.
const STRIP_ALL: u8 = 16;

/// Halves of a token that may wait while it is spelled; a token that needs more is a literal.
const PENDING: usize = 32;
/// U+2581 in UTF-8.
const LOW_LINE: [u8; 3] = [0xe2, 0x96, 0x81];
/// Where a space is left out with [`CLEANUP`].
const CLOSE: [&[u8]; 9] = [b".", b"?", b"!", b",", b"n't", b"'m", b"'s", b"'ve", b"'re"];

/// Gets bytes.
pub type Put<'p> = &'p mut dyn FnMut(u8) -> Result<(), Fault>;

/// Gets bytes, and whether a byte is a space that was U+2581.
type PutMapped<'p> = &'p mut dyn FnMut(u8, bool) -> Result<(), Fault>;

/// What a token is spelled to: U+2581 becomes a space on the way.
struct Mapped<'p, 'q> {
    put: &'q mut (dyn FnMut(u8, bool) -> Result<(), Fault> + 'p),
    map: bool,
    /// Bytes of U+2581 that are held back.
    held: usize,
    /// Bytes that may still come.
    room: u32,
}

impl Mapped<'_, '_> {
    fn give(&mut self, byte: u8, mapped: bool) -> Result<(), Fault> {
        self.room = self.room.checked_sub(1).ok_or(Fault::Token)?;
        (self.put)(byte, mapped)
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let held = core::mem::take(&mut self.held);
        LOW_LINE.iter().take(held).try_for_each(|byte| self.give(*byte, false))
    }

    fn byte(&mut self, byte: u8) -> Result<(), Fault> {
        if self.map && LOW_LINE.get(self.held) == Some(&byte) {
            self.held += 1;
            if self.held == LOW_LINE.len() {
                self.held = 0;
                return self.give(b' ', true);
            }
            return Ok(());
        }
        if self.held > 0 {
            self.flush()?;
            return self.byte(byte);
        }
        self.give(byte, false)
    }
}

impl<'a> Tokenizer<'a> {
    /// Whether `id` is a special token, which a reader of the text should not be shown.
    pub fn is_special(&self, id: u32) -> bool {
        self.literals().any(|literal| literal.id == id && literal.flags & SPECIAL != 0)
    }

    /// The bytes of one token as they stand in its text: raw, they may hold a part of a character.
    ///
    /// # Errors
    /// `Capacity`: [`super::Layout::longest`] bytes always do. `Token` if the id has no bytes.
    pub fn token(&self, id: u32, out: &mut [u8]) -> Result<usize, Fault> {
        let mut n = 0;
        self.spell(id, &mut |byte| {
            *out.get_mut(n).ok_or(Fault::Capacity)? = byte;
            n += 1;
            Ok(())
        })?;
        Ok(n)
    }

    /// Gives the bytes of one token to `put`.
    ///
    /// # Errors
    /// `Token` if the id has no bytes, or more than the longest token; what `put` says.
    pub fn spell(&self, id: u32, put: Put<'_>) -> Result<(), Fault> {
        self.spell_mapped(id, &mut |byte, _| put(byte))
    }

    fn spell_mapped(&self, id: u32, put: PutMapped<'_>) -> Result<(), Fault> {
        let map = self.layout.decoder & SPACES != 0;
        let mut out = Mapped { put, map, held: 0, room: self.layout.longest };
        if id >= self.layout.vocab {
            return Err(Fault::Token);
        }
        if let Some(Literal { shown, .. }) = self.literals().find(|literal| literal.id == id) {
            // Its length is no promise of the header's, so that it cannot break one.
            out.room = u32::MAX;
            shown.iter().try_for_each(|byte| out.byte(*byte))?;
            return out.flush();
        }
        match self.layout.model {
            Model::Bytes | Model::Characters => self.expand(id, &mut out)?,
            Model::Unigram | Model::WordPiece => {
                if let Some(byte) = self.byte_of(id) {
                    out.byte(byte)?;
                } else if !pieces::spell(*self, id, &mut |byte| out.byte(byte))? {
                    return Err(Fault::Token);
                }
            }
        }
        out.flush()
    }

    /// An id that merges make, or an atom.
    fn expand(&self, id: u32, out: &mut Mapped<'_, '_>) -> Result<(), Fault> {
        let mut pending = [0; PENDING];
        let (mut depth, mut id) = (0, id);
        // Each turn gives an atom or adds a pending half, and both are bounded.
        loop {
            if let Some((left, right)) = self.layout.merges.halves(self.blob, id) {
                *pending.get_mut(depth).ok_or(Fault::Token)? = right;
                depth += 1;
                id = left;
                continue;
            }
            if let Some(byte) = self.byte_of(id) {
                out.byte(byte)?;
            } else {
                let code = self.character_of(id).ok_or(Fault::Token)?;
                Utf8::of(code).bytes().iter().try_for_each(|byte| out.byte(*byte))?;
            }
            let Some(top) = depth.checked_sub(1) else { return Ok(()) };
            depth = top;
            id = pending.get(top).copied().unwrap_or(0);
        }
    }

    fn character_of(&self, id: u32) -> Option<u32> {
        let [codes, ids] = self.layout.characters;
        let place = (0..self.layout.character_count).find(|k| ids.get(self.blob, *k) == id)?;
        Some(codes.get(self.blob, place))
    }
}

/// Decodes ids as they come: text is given out as soon as it is certain, in whole characters. Bytes that are not UTF-8 come out as U+FFFD: in
/// model 0 one for each longest part that could have begun a character, else one for each byte.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decoder {
    /// Bytes of a character that is not whole.
    held: [u8; 4],
    count: u8,
    /// Whether an id was decoded.
    started: bool,
    /// Whether there was text.
    text: bool,
}

/// A buffer that is filled.
struct Fill<'o> {
    out: &'o mut [u8],
    n: usize,
}

impl Fill<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let room = self.out.get_mut(self.n..).and_then(|rest| rest.get_mut(..bytes.len()));
        room.ok_or(Fault::Capacity)?.copy_from_slice(bytes);
        self.n += bytes.len();
        Ok(())
    }
}

const BROKEN: &[u8] = "\u{FFFD}".as_bytes();

impl Decoder {
    /// The text that this id completes: the number of bytes written to `out`. Three bytes for each of the longest token and ten more
    /// always do. Special tokens are decoded as any other; leaving them out is the caller's.
    ///
    /// # Errors
    /// `Capacity`, `Token`; nothing has changed then.
    pub fn push(&mut self, t: Tokenizer<'_>, id: u32, out: &mut [u8]) -> Result<usize, Fault> {
        let mut next = *self;
        let mut fill = Fill { out, n: 0 };
        let flags = t.layout.decoder;
        let mut skip = 0;
        if flags & JOIN != 0 && self.started {
            let prefix = t.layout.unknown.prefix.of(t.blob);
            if !prefix.is_empty() && starts(t, id, prefix)? {
                skip = prefix.len();
            } else if flags & CLEANUP == 0 || !closes(t, id)? {
                next.byte(t, b' ', &mut fill)?;
            }
        }
        let mut strip = flags & STRIP != 0 && !self.text && (flags & STRIP_ALL != 0 || !self.started);
        t.spell_mapped(id, &mut |byte, mapped| {
            if skip > 0 {
                skip -= 1;
                return Ok(());
            }
            if core::mem::take(&mut strip) && mapped {
                return Ok(());
            }
            next.byte(t, byte, &mut fill)
        })?;
        next.started = true;
        *self = next;
        Ok(fill.n)
    }

    /// What is left at the end of the text: at most nine bytes. The decoder is at the start of another text then.
    ///
    /// # Errors
    /// `Capacity`
    pub fn end(&mut self, t: Tokenizer<'_>, out: &mut [u8]) -> Result<usize, Fault> {
        let mut fill = Fill { out, n: 0 };
        self.broken(t, &mut fill)?;
        *self = Decoder::default();
        Ok(fill.n)
    }

    /// The held bytes are no character.
    fn broken(&mut self, t: Tokenizer<'_>, fill: &mut Fill<'_>) -> Result<(), Fault> {
        let held = core::mem::take(&mut self.count);
        let count = if t.layout.model == Model::Bytes { held.min(1) } else { held };
        (0..count).try_for_each(|_| fill.put(BROKEN))
    }

    fn byte(&mut self, t: Tokenizer<'_>, byte: u8, fill: &mut Fill<'_>) -> Result<(), Fault> {
        self.text = true;
        let count = usize::from(self.count);
        if count > 0 {
            if continues(&self.held, count, byte) {
                self.held[count & 3] = byte;
                self.count += 1;
                if count + 1 == length(self.held[0]) {
                    self.count = 0;
                    fill.put(self.held.get(..=count).unwrap_or(&[]))?;
                }
                return Ok(());
            }
            self.broken(t, fill)?;
        }
        match length(byte) {
            1 => fill.put(&[byte]),
            0 => fill.put(BROKEN),
            _ => {
                (self.held[0], self.count) = (byte, 1);
                Ok(())
            }
        }
    }
}

/// Bytes of the character that starts with this one; 0 for none.
fn length(first: u8) -> usize {
    match first {
        0..0x80 => 1,
        0xc2..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf5 => 4,
        _ => 0,
    }
}

/// Whether a byte may follow the first `count` of a character: Unicode table 3-7.
fn continues(held: &[u8; 4], count: usize, byte: u8) -> bool {
    let allowed = match (held[0], count) {
        (0xe0, 1) => 0xa0..=0xbf,
        (0xed, 1) => 0x80..=0x9f,
        (0xf0, 1) => 0x90..=0xbf,
        (0xf4, 1) => 0x80..=0x8f,
        _ => 0x80..=0xbf,
    };
    allowed.contains(&byte)
}

/// Whether a token is spelled with these bytes at its start.
fn starts(t: Tokenizer<'_>, id: u32, bytes: &[u8]) -> Result<bool, Fault> {
    let (mut at, mut same) = (0, true);
    t.spell(id, &mut |byte| {
        same &= bytes.get(at).is_none_or(|wanted| *wanted == byte);
        at += 1;
        Ok(())
    })?;
    Ok(same && at >= bytes.len())
}

/// Whether a token starts with what has no space in front.
fn closes(t: Tokenizer<'_>, id: u32) -> Result<bool, Fault> {
    for bytes in CLOSE {
        if starts(t, id, bytes)? {
            return Ok(true);
        }
    }
    Ok(false)
}
