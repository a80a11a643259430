//! Kind `bytes`: copies out of the base, and literals.

use super::BaseRead;
use crate::delta::streams::{Context, Sink, Source};
use crate::error::{Error, Result};
use crate::format::delta::{unzigzag, zigzag};
use std::ops::Range;

/// Contexts of the kind: is it a copy, after each; the bits of a literal; length; place.
pub const CONTEXTS: usize = 305;
const LENGTH: usize = 257;
const PLACE: usize = 281;
/// A shorter copy cannot be told.
const SHORTEST: usize = 3;

fn damaged(message: &str) -> Error {
    Error::input(format!("the patch is damaged: {message}"))
}

fn read_gamma(source: &mut Source, contexts: &mut [Context; CONTEXTS], at: usize) -> Result<u64> {
    let mut n = 0;
    while source.bit(&mut contexts[at + n.min(23)]) {
        n += 1;
        if n > 40 {
            return Err(damaged("a copy is too long or too far away"));
        }
    }
    Ok(1 << n | source.raw(n as u32))
}

fn write_gamma<S: Sink>(sink: &mut S, contexts: &mut [Context; CONTEXTS], at: usize, v: u64) {
    let n = v.ilog2() as usize;
    for i in 0..n {
        sink.bit(&mut contexts[at + i.min(23)], true);
    }
    sink.bit(&mut contexts[at + n.min(23)], false);
    sink.raw(v, n as u32);
}

/// Fills `out`, which lies at `at` in the target, with what may be copied out of bytes `allowed` of the base.
///
/// # Errors
/// `Input` for a copy that leaves the piece or those bytes.
pub fn read(
    source: &mut Source,
    contexts: &mut [Context; CONTEXTS],
    at: u64,
    allowed: &Range<u64>,
    base: &dyn BaseRead,
    out: &mut [u8],
) -> Result<()> {
    // Below 2^48, plus steps below 2^42 for each byte of a block: never beyond 2^63.
    let mut expected = at as i64;
    let mut last = 0;
    let mut done = 0;
    while done < out.len() {
        if !source.bit(&mut contexts[last]) {
            let mut v = 1;
            for _ in 0..8 {
                v = 2 * v + usize::from(source.bit(&mut contexts[1 + v]));
            }
            out[done] = v as u8;
            (done, expected, last) = (done + 1, expected + 1, 0);
            continue;
        }
        let len = read_gamma(source, contexts, LENGTH)? as usize + SHORTEST;
        let place = expected + unzigzag(read_gamma(source, contexts, PLACE)? - 1);
        let from = u64::try_from(place).ok().filter(|p| *p >= allowed.start && *p <= allowed.end);
        let Some(from) = from.filter(|p| len as u64 <= allowed.end - p) else {
            return Err(damaged("a copy leaves the base"));
        };
        let Some(part) = out.get_mut(done..).and_then(|rest| rest.get_mut(..len)) else {
            return Err(damaged("a copy leaves its segment"));
        };
        base.read_at(from, part)?;
        (done, expected, last) = (done + len, place + len as i64, 1);
    }
    Ok(())
}

/// Writes `piece`, which lies at `at` in the target. Related bytes are looked for around `near` of the base, within `allowed`.
pub fn write<S: Sink>(
    sink: &mut S,
    contexts: &mut [Context; CONTEXTS],
    at: u64,
    allowed: &Range<u64>,
    near: u64,
    base: &[u8],
    piece: &[u8],
) {
    let window = Window::new(base, allowed, near, piece.len());
    let mut expected = at as i64;
    let mut last = 0;
    let mut done = 0;
    while done < piece.len() {
        let rest = &piece[done..];
        let found = window.find(rest, expected);
        // A copy one byte later that gains more than a literal costs is better.
        let later = found.as_ref().is_some_and(|f| {
            f.len < 64 && rest.get(1..).and_then(|r| window.find(r, expected + 1)).is_some_and(|l| l.gain > f.gain + 8)
        });
        match found.filter(|_| !later) {
            None => {
                sink.bit(&mut contexts[last], false);
                let mut v = 1;
                for i in (0..8).rev() {
                    let bit = rest[0] >> i & 1 == 1;
                    sink.bit(&mut contexts[1 + v], bit);
                    v = 2 * v + usize::from(bit);
                }
                (done, expected, last) = (done + 1, expected + 1, 0);
            }
            Some(copy) => {
                sink.bit(&mut contexts[last], true);
                write_gamma(sink, contexts, LENGTH, (copy.len - SHORTEST) as u64);
                write_gamma(sink, contexts, PLACE, zigzag(copy.place - expected) + 1);
                (done, expected, last) = (done + copy.len, copy.place + copy.len as i64, 1);
            }
        }
    }
}

struct Found {
    /// In the base.
    place: i64,
    len: usize,
    /// Bits that it saves against literals, roughly.
    gain: i64,
}

/// The bytes of the base among which copies are looked for, found by their first four.
struct Window<'a> {
    bytes: &'a [u8],
    start: u64,
    /// The last place of each hash, plus 1.
    head: Vec<u32>,
    /// The place before of the same hash, plus 1.
    before: Vec<u32>,
}

impl<'a> Window<'a> {
    /// Bytes around a piece.
    const AROUND: u64 = 1 << 17;
    const HASH_BITS: u32 = 15;
    /// Places that are compared.
    const TRIES: usize = 48;

    fn new(base: &'a [u8], allowed: &Range<u64>, near: u64, len: usize) -> Window<'a> {
        let start = near.saturating_sub(Self::AROUND).clamp(allowed.start, allowed.end);
        let end = near.saturating_add(len as u64 + Self::AROUND).clamp(start, allowed.end);
        let bytes = base.get(start as usize..end as usize).unwrap_or_default();
        let mut window = Window { bytes, start, head: vec![0; 1 << Self::HASH_BITS], before: vec![0; bytes.len()] };
        for (i, four) in bytes.windows(4).enumerate() {
            let head = &mut window.head[Self::hash(four)];
            window.before[i] = *head;
            *head = i as u32 + 1;
        }
        window
    }

    fn hash(four: &[u8]) -> usize {
        let v = four.iter().fold(0u32, |v, b| v << 8 | u32::from(*b));
        (v.wrapping_mul(0x9e37_79b1) >> (32 - Self::HASH_BITS)) as usize
    }

    /// The copy that saves the most, if one saves anything.
    fn find(&self, rest: &[u8], expected: i64) -> Option<Found> {
        let straight = usize::try_from(expected - self.start as i64).ok();
        let mut best = straight.and_then(|at| self.copy(at, rest, expected));
        let Some(four) = rest.get(..4) else { return best };
        let mut next = self.head[Self::hash(four)];
        for _ in 0..Self::TRIES {
            let Some(at) = next.checked_sub(1) else { break };
            next = self.before[at as usize];
            if let Some(found) = self.copy(at as usize, rest, expected) {
                if best.as_ref().is_none_or(|b| found.gain > b.gain) {
                    best = Some(found);
                }
            }
        }
        best
    }

    fn copy(&self, at: usize, rest: &[u8], expected: i64) -> Option<Found> {
        let len = self.bytes.get(at..)?.iter().zip(rest).take_while(|(a, b)| a == b).count();
        if len < SHORTEST + 1 {
            return None;
        }
        let place = (self.start + at as u64) as i64;
        let bits = |v: u64| i64::from(2 * v.ilog2() + 1);
        let gain = 6 * len as i64 - bits((len - SHORTEST) as u64) - bits(zigzag(place - expected) + 1) - 1;
        (gain > 0).then_some(Found { place, len, gain })
    }
}
