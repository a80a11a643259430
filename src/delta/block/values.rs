//! By how much an integer changes: sign, length, and the number itself.

use crate::delta::gaps::{read_number, write_number};
use crate::delta::streams::{Context, Sink, Source};
use crate::error::{Error, Result};

/// The contexts of one width of integers: sign, lengths, leading bits of each length, zero bits at the end of each length.
pub type Values = [Context; ENDS + 256];

pub const FRESH: Values = [Context::FRESH; ENDS + 256];

const NUMBERS: usize = 33;
const ENDS: usize = 257;

/// The context of zero bit `z` at the end of a number of `n + 1` bits.
#[inline(always)]
fn end(n: usize, z: usize) -> usize {
    ENDS + 16 * n.min(15) + z.min(15)
}

/// Sign (whether it becomes smaller) and magnitude, at least 1, below 2^(8 * width). `zeros` is the option of the segment.
///
/// # Errors
/// `Input` if the magnitude is too large.
#[inline(always)]
pub fn read(source: &mut Source, contexts: &mut Values, zeros: bool, width: usize) -> Result<(bool, u32)> {
    let negative = source.bit(&mut contexts[0]);
    let mut n = 0;
    while source.bit(&mut contexts[1 + n]) {
        n += 1;
        if n >= 8 * width {
            return Err(Error::input("the patch is damaged: an integer changes by more than its size"));
        }
    }
    if !zeros {
        return Ok((negative, read_number(source, &mut contexts[NUMBERS + 7 * n..], n as u32) as u32));
    }
    let mut z = 0;
    while z < n && source.bit(&mut contexts[end(n, z)]) {
        z += 1;
    }
    if z == n {
        return Ok((negative, 1 << n));
    }
    let v = read_number(source, &mut contexts[NUMBERS + 7 * n..], (n - z - 1) as u32) as u32;
    Ok((negative, (2 * v + 1) << z))
}

/// As [`read`]; `magnitude` is at least 1.
#[inline(always)]
pub fn write<S: Sink>(sink: &mut S, contexts: &mut Values, zeros: bool, negative: bool, magnitude: u32) {
    sink.bit(&mut contexts[0], negative);
    let n = magnitude.ilog2() as usize;
    for i in 0..n {
        sink.bit(&mut contexts[1 + i], true);
    }
    sink.bit(&mut contexts[1 + n], false);
    let mut v = u64::from(magnitude);
    if zeros {
        let last = magnitude.trailing_zeros() as usize;
        for z in 0..last {
            sink.bit(&mut contexts[end(n, z)], true);
        }
        if last == n {
            return;
        }
        sink.bit(&mut contexts[end(n, last)], false);
        v >>= last + 1;
    }
    write_number(sink, &mut contexts[NUMBERS + 7 * n..], v);
}
