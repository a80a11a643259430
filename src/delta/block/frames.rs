//! Kind `zstd`: a frame that has a part of the base before it.

use super::BaseRead;
use crate::delta::streams::{Sink, Source};
use crate::error::{Error, Result};
use crate::format::delta::put_varint;
use std::ops::Range;
use zstd::zstd_safe;

/// Bytes of the base before a frame.
const MAX_PREFIX: u64 = 1 << 20;
/// Bytes of a frame: twice the largest block.
const MAX_FRAME: u64 = 1 << 21;
const LEVEL: i32 = 19;

fn damaged(message: &str) -> Error {
    Error::input(format!("the patch is damaged: {message}"))
}

fn read_varint(source: &mut Source) -> Result<u64> {
    let mut v = 0;
    for i in 0..9 {
        let b = source.raw(8);
        v |= (b & 0x7f) << (7 * i);
        if b < 0x80 {
            return match b == 0 && i > 0 {
                true => Err(damaged("a number ends in a byte that says nothing")),
                false => Ok(v),
            };
        }
    }
    Err(damaged("a number has more than 9 bytes"))
}

/// Buffers for what a frame is made from, used again.
#[derive(Default)]
pub struct Buffers {
    prefix: Vec<u8>,
    frame: Vec<u8>,
}

impl Buffers {
    /// Fills `out`; the prefix is a part of bytes `allowed` of the base.
    ///
    /// # Errors
    /// `Input` if the frame is damaged, or holds anything else than the piece.
    pub fn read(
        &mut self,
        source: &mut Source,
        allowed: &Range<u64>,
        base: &dyn BaseRead,
        out: &mut [u8],
    ) -> Result<()> {
        source.align();
        let position = read_varint(source)?;
        let len = read_varint(source)?;
        let inside = position >= allowed.start && position <= allowed.end;
        if !inside || len > MAX_PREFIX.min(allowed.end - position) {
            return Err(damaged("the prefix of a frame leaves the base"));
        }
        self.prefix.resize(len as usize, 0);
        base.read_at(position, &mut self.prefix)?;
        let len = read_varint(source)?;
        if len > MAX_FRAME {
            return Err(damaged("a frame is too long"));
        }
        self.frame.resize(len as usize, 0);
        source.bytes(&mut self.frame);
        source.align();
        // One frame, without another one behind it that adds nothing.
        if zstd_safe::find_frame_compressed_size(&self.frame) != Ok(self.frame.len()) {
            return Err(damaged("a frame of zstd is not one"));
        }
        let mut context = zstd_safe::DCtx::try_create().ok_or_else(out_of_memory)?;
        context.ref_prefix(&self.prefix).map_err(failed)?;
        match context.decompress(out, &self.frame) {
            Ok(n) if n == out.len() => Ok(()),
            Ok(_) => Err(damaged("a frame is shorter than its segment")),
            Err(e) => Err(damaged(&format!("a frame: {}", zstd_safe::get_error_name(e)))),
        }
    }
}

fn out_of_memory() -> Error {
    Error::unsupported("there is not enough memory for zstd")
}

fn failed(code: usize) -> Error {
    Error::input(format!("zstd: {}", zstd_safe::get_error_name(code)))
}

/// Writes `piece`; related bytes are expected around `near` of the base.
///
/// # Errors
/// What zstd says.
pub fn write<S: Sink>(sink: &mut S, allowed: &Range<u64>, near: u64, base: &[u8], piece: &[u8]) -> Result<()> {
    let around = (MAX_PREFIX - (piece.len() as u64).min(MAX_PREFIX)) / 2;
    let start = near.saturating_sub(around).clamp(allowed.start, allowed.end);
    let end = start.saturating_add(MAX_PREFIX).min(near.saturating_add(piece.len() as u64 + around));
    let end = end.clamp(start, allowed.end);
    let prefix = base.get(start as usize..end as usize).unwrap_or_default();
    let mut context = zstd_safe::CCtx::try_create().ok_or_else(out_of_memory)?;
    context.set_parameter(zstd_safe::CParameter::CompressionLevel(LEVEL)).map_err(failed)?;
    context.ref_prefix(prefix).map_err(failed)?;
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(piece.len()));
    context.compress2(&mut frame, piece).map_err(failed)?;
    let mut head = Vec::new();
    for v in [start, prefix.len() as u64, frame.len() as u64] {
        put_varint(&mut head, v);
    }
    sink.align();
    sink.bytes(&head);
    sink.bytes(&frame);
    sink.align();
    Ok(())
}
