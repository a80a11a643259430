//! Words to ids by the best sum of scores.
//!
//! The reference adds floating point numbers, and where two paths are equal but for the order of their pieces, the rounding of those sums
//! decides. So the same sums are made here, in integers: scores are binary64 numbers as bits, and [`add`] rounds like IEEE 754.

use super::bits::{bits, byte, le, packed_bytes};
use super::pieces;
use super::text::{Out, Stream, Utf8, Word, STRAY};
use super::{Bad, Fault, Span, Tokenizer};

/// Section 11, checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scores {
    /// Whether sums are binary32, as in SentencePiece. Of two binary32 numbers the sum in binary64, rounded again, is the same.
    single: bool,
    /// Whether there are scores above 0.
    signed: bool,
    width: u32,
    shift: u32,
    base: u64,
    unknown: u64,
    fields: Span,
}

const SIGN: u64 = 1 << 63;
const FRACTION: u64 = (1 << 52) - 1;
/// Bits of 2^-126 and 2^900, between which magnitudes lie, so that sums of 2^32 of them neither end nor lose bits at the bottom.
const LEAST: u64 = (1023 - 126) << 52;
const MOST: u64 = (1023 + 900) << 52;
/// No sum yet: not a number.
const NONE: u64 = u64::MAX;
/// A back-pointer: bit 31 says unknown, with the character below it; else bits 20 to 30 are the length of the piece, below them its id.
const UNKNOWN: u32 = 1 << 31;

impl Scores {
    /// Checks the section over ids below `vocab`; offsets of a [`Bad`] count from the start of the blob.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn read(blob: &[u8], section: Span, vocab: u32) -> Result<Scores, Bad> {
        let bad = |at: u32, what: &'static str| Err(Bad { at, what });
        let at = section.at;
        if section.len < 24 {
            return bad(at, "section of scores is cut short");
        }
        let [sums, width, shift, signed] = [0, 1, 2, 3].map(|k| u32::from(byte(blob, at + k)));
        if sums > 1 || width == 0 || width > 63 || shift > 52 || signed > 1 || le(blob, at + 4, 4) != 0 {
            return bad(at, "scores of an unknown kind");
        }
        let long = |at: u32| u64::from(le(blob, at, 4)) | u64::from(le(blob, at + 4, 4)) << 32;
        let (base, unknown) = (long(at + 8), long(at + 16));
        let most = base.checked_add((u64::MAX >> (64 - width)) >> signed);
        if base < LEAST >> shift || most.is_none_or(|most| most > MOST >> shift) {
            return bad(at + 8, "scores out of range");
        }
        let magnitude = unknown & !SIGN;
        if magnitude != 0 && !(LEAST..MOST).contains(&magnitude) {
            return bad(at + 16, "score of the unknown out of range");
        }
        let fields = Span { at: at + 24, len: section.len - 24 };
        if packed_bytes(vocab, width) != Some(fields.len) {
            return bad(at + 24, "scores of another number of ids");
        }
        Ok(Scores { single: sums == 1, signed: signed == 1, width, shift, base, unknown, fields })
    }

    /// Bits of the score of `id`.
    fn get(&self, blob: &[u8], id: u32) -> u64 {
        let fields = self.fields.of(blob);
        let low = self.width.min(32);
        let at = id * self.width;
        let field = u64::from(bits(fields, at, low)) | u64::from(bits(fields, at + low, self.width - low)) << 32;
        match field.checked_sub(1) {
            None => 0,
            Some(field) if self.signed => {
                (self.base + (field >> 1)) << self.shift | if field & 1 == 0 { SIGN } else { 0 }
            }
            Some(field) => (self.base + field) << self.shift | SIGN,
        }
    }

    /// A sum as the reference rounds it.
    fn sum(&self, a: u64, b: u64) -> u64 {
        let sum = add(a, b);
        if self.single {
            to_single(sum)
        } else {
            sum
        }
    }
}

/// Sum of two binary64 numbers, rounded to the nearest and of two to the even one.
fn add(a: u64, b: u64) -> u64 {
    let (large, small) = if a & !SIGN >= b & !SIGN { (a, b) } else { (b, a) };
    if small & !SIGN == 0 {
        return large;
    }
    // Three more bits, the lowest of which says that something below was not 0, are enough to round.
    let significand = |x: u64| (x & FRACTION | 1 << 52) << 3;
    let exponent = |x: u64| (x & !SIGN) >> 52;
    let mut power = exponent(large);
    let apart = (power - exponent(small)).min(63);
    let part = significand(small) >> apart | u64::from(significand(small) & ((1 << apart) - 1) != 0);
    let mut sum = if (a ^ b) & SIGN == 0 { significand(large) + part } else { significand(large) - part };
    if sum == 0 {
        return 0;
    }
    if sum >> 56 != 0 {
        sum = sum >> 1 | sum & 1;
        power += 1;
    }
    while sum >> 55 == 0 {
        sum <<= 1;
        power = power.saturating_sub(1);
    }
    let rest = sum & 7;
    sum >>= 3;
    // A carry out of the fraction is one in the exponent, which is right.
    (large & SIGN) | ((power << 52) + (sum & FRACTION) + u64::from(rest > 4 || (rest == 4 && sum & 1 == 1)))
}

/// A binary64 number rounded to binary32, as binary64.
fn to_single(x: u64) -> u64 {
    let rest = x & 0x1fff_ffff;
    let low = x - rest;
    let up = rest > 0x1000_0000 || (rest == 0x1000_0000 && low & 0x2000_0000 != 0);
    low + if up { 0x2000_0000 } else { 0 }
}

/// Whether `a` is more than `b`.
fn is_more(a: u64, b: u64) -> bool {
    let key = |x: u64| if x & SIGN == 0 { x | SIGN } else { !x + 1 };
    key(a) > key(b)
}

/// Scratch words for pieces of at most `longest` bytes: a ring of places, and the sum of the words before.
pub fn work(longest: u32) -> u32 {
    3 * (longest + 4) + 2
}

/// Places ahead of the one being looked at, three words each: the byte there, and the best sum that ends before it.
///
/// A byte that starts a character has its length above it (bits 8 to 11), and 1 above that (bit 12) if it is a stray.
struct Ring<'w> {
    words: &'w mut [u32],
    size: u32,
    /// Slot of the place being looked at.
    first: u32,
}

impl Ring<'_> {
    fn slot(&self, ahead: u32) -> usize {
        let slot = self.first + ahead;
        3 * (if slot >= self.size { slot - self.size } else { slot }) as usize
    }

    fn byte(&self, ahead: u32) -> u32 {
        self.words.get(self.slot(ahead)).copied().unwrap_or(0)
    }

    fn set_byte(&mut self, ahead: u32, value: u32) {
        let slot = self.slot(ahead);
        if let Some(word) = self.words.get_mut(slot) {
            *word = value;
        }
    }

    fn sum(&self, ahead: u32) -> u64 {
        load(self.words, self.slot(ahead) + 1)
    }

    fn set_sum(&mut self, ahead: u32, sum: u64) {
        let slot = self.slot(ahead);
        store(self.words, slot + 1, sum);
    }

    fn advance(&mut self, count: u32) {
        self.first += count;
        if self.first >= self.size {
            self.first -= self.size;
        }
    }
}

fn load(words: &[u32], at: usize) -> u64 {
    let word = |at: usize| u64::from(words.get(at).copied().unwrap_or(0));
    word(at) | word(at + 1) << 32
}

fn store(words: &mut [u32], at: usize, value: u64) {
    if let Some([low, high]) = words.get_mut(at..at + 2) {
        (*low, *high) = (value as u32, (value >> 32) as u32);
    }
}

/// Ids of one word; `first` if it is the first of a part of the text. `work` has at least [`work`] words, which nobody else writes between
/// the words of a part.
///
/// # Errors
/// `Capacity`
pub fn word(
    stream: &mut Stream<'_>,
    word: Word,
    first: bool,
    work: &mut [u32],
    out: &mut Out<'_>,
) -> Result<(), Fault> {
    let t = stream.t;
    let size = t.layout.pieces.longest + 4;
    let (words, before) = work.split_at_mut_checked(3 * size as usize).ok_or(Fault::Work)?;
    let mut ring = Ring { words, size, first: 0 };
    // Words 3 only cuts where the reference does not, so its sum goes on.
    ring.set_sum(0, if first || t.layout.cuts.words != 3 { 0 } else { load(before, 0) });
    let room = out.free();
    let mut cursor = word.from;
    let (mut at, mut ahead, mut whole) = (0, 0, false);
    loop {
        while !whole && ahead < t.layout.pieces.longest {
            match stream.next_before(&mut cursor, word.to) {
                Some(code) => ahead = read(&mut ring, ahead, code),
                None => whole = true,
            }
            if room.len() < at + ahead as usize {
                return Err(Fault::Capacity);
            }
        }
        if ahead == 0 {
            break;
        }
        let length = forward(t, &mut ring, ahead, room.get_mut(at..).unwrap_or(&mut []));
        ring.advance(length);
        ahead -= length;
        at += length as usize;
    }
    store(before, 0, ring.sum(0));
    let count = back(t, room.get_mut(..at).unwrap_or(&mut []));
    out.advance(count);
    Ok(())
}

/// Puts a character behind the `ahead` bytes of the ring; their number then.
fn read(ring: &mut Ring<'_>, ahead: u32, code: u32) -> u32 {
    let spelled = Utf8::of(code);
    let mut mark = (spelled.bytes().len() as u32) << 8 | u32::from(code >= STRAY) << 12;
    let mut end = ahead;
    for &byte in spelled.bytes() {
        ring.set_byte(end, u32::from(byte) | mark);
        end += 1;
        ring.set_sum(end, NONE);
        mark = 0;
    }
    end
}

/// Tries every piece that starts at the ring's first place, with `ahead` bytes behind it; the length of the character there. `room` has a
/// back-pointer for the end of each of those bytes.
fn forward(t: Tokenizer<'_>, ring: &mut Ring<'_>, ahead: u32, room: &mut [u32]) -> u32 {
    let (pieces, scores) = (&t.layout.pieces, &t.layout.scores);
    let here = ring.sum(0);
    let length = ring.byte(0) >> 8 & 15;
    let mut alone = false;
    let mut walk = pieces.root();
    let mut end = 0;
    'pieces: while end < ahead {
        let mark = ring.byte(end);
        if mark >> 12 != 0 {
            break;
        }
        for k in end..end + (mark >> 8 & 15) {
            if !pieces.step(t.blob, &mut walk, ring.byte(k) as u8) {
                break 'pieces;
            }
        }
        end += mark >> 8 & 15;
        let Some(id) = pieces.found(t.blob, &walk) else { continue };
        alone |= end == length;
        offer(ring, end, scores.sum(here, scores.get(t.blob, id)), id | end << 20, room);
    }
    if !alone {
        let character = (0..length).fold(0, |code, k| code << 8 | ring.byte(k) & 0xff);
        let code = if ring.byte(0) >> 12 != 0 { STRAY + character } else { decoded(character, length) };
        offer(ring, length, scores.sum(here, scores.unknown), UNKNOWN | code, room);
    }
    length
}

/// Keeps a sum that is the first at its end, or larger than the one there.
fn offer(ring: &mut Ring<'_>, end: u32, sum: u64, back: u32, room: &mut [u32]) {
    let best = ring.sum(end);
    if best == NONE || is_more(sum, best) {
        ring.set_sum(end, sum);
        if let Some(place) = room.get_mut(end as usize - 1) {
            *place = back;
        }
    }
}

/// Code point of a well-formed sequence, whose bytes are one number.
fn decoded(bytes: u32, length: u32) -> u32 {
    let low = bytes & 0x3f | bytes >> 2 & 0xfc0 | bytes >> 4 & 0x3_f000;
    match length {
        1 => bytes,
        2 => low & 0x7ff,
        3 => low & 0xffff,
        _ => low | bytes >> 6 & 0x1c_0000,
    }
}

/// Turns the back-pointers of a word into ids, which start where they do; the number of ids.
fn back(t: Tokenizer<'_>, room: &mut [u32]) -> usize {
    // Found from the last to the first, they are gathered at the end of the room: one that spans k bytes leaves k places.
    let (mut end, mut start) = (room.len(), room.len());
    while let Some(&back) = end.checked_sub(1).and_then(|last| room.get(last)) {
        start -= 1;
        if let Some(place) = room.get_mut(start) {
            *place = back;
        }
        end = end.saturating_sub(span(back));
    }
    let (mut at, mut ids) = (start, 0);
    while let Some(&back) = room.get(at) {
        if !is_unknown(t, back) {
            at += 1;
            put(room, &mut ids, back & 0xf_ffff);
            continue;
        }
        let rest = room.get(at..).unwrap_or(&[]);
        let run = if t.layout.unknown.fuse { rest.iter().take_while(|&&back| is_unknown(t, back)).count() } else { 1 };
        // A piece that is the unknown id is that id if nothing unknown is beside it.
        let spelled = t.layout.unknown.bytes && (run > 1 || back >= UNKNOWN);
        let mut known = |byte: u8| byte_id(t, byte).map(|_| ()).ok_or(Fault::Token);
        if spelled && rest.iter().take(run).all(|&back| bytes_of(t, back, &mut known).is_ok()) {
            for _ in 0..run {
                // Ids never pass the place that is read: what is left spans at least as many bytes as it has places.
                let back = room.get(at).copied().unwrap_or(0);
                at += 1;
                let spelled = bytes_of(t, back, &mut |byte| {
                    byte_id(t, byte).map(|id| put(room, &mut ids, id)).ok_or(Fault::Token)
                });
                debug_assert!(spelled.is_ok());
            }
            continue;
        }
        at += run;
        if let Some(id) = t.layout.unknown.id {
            put(room, &mut ids, id);
        }
    }
    ids
}

fn put(room: &mut [u32], ids: &mut usize, id: u32) {
    if let Some(place) = room.get_mut(*ids) {
        *place = id;
    }
    *ids += 1;
}

fn is_unknown(t: Tokenizer<'_>, back: u32) -> bool {
    back >= UNKNOWN || t.layout.unknown.id == Some(back & 0xf_ffff)
}

/// Bytes that a back-pointer spans.
fn span(back: u32) -> usize {
    if back >= UNKNOWN {
        Utf8::of(back - UNKNOWN).bytes().len()
    } else {
        (back >> 20) as usize
    }
}

/// Bytes of an unknown character, or of the piece that is the unknown id.
fn bytes_of(t: Tokenizer<'_>, back: u32, put: &mut dyn FnMut(u8) -> Result<(), Fault>) -> Result<(), Fault> {
    if back >= UNKNOWN {
        return Utf8::of(back - UNKNOWN).bytes().iter().try_for_each(|&byte| put(byte));
    }
    pieces::spell(t, back & 0xf_ffff, put).map(|_| ())
}

/// Id of section 2 that spells a byte.
fn byte_id(t: Tokenizer<'_>, byte: u8) -> Option<u32> {
    let runs = t.layout.runs.of(t.blob).chunks_exact(5);
    runs.filter_map(|run| Some((le(run, 0, 3), u32::from(byte.checked_sub(*run.get(3)?)?), u32::from(*run.get(4)?))))
        .find(|(_, above, more)| above <= more)
        .map(|(id, above, _)| id + above)
}
