//! Checked little-endian reading. A reader knows its file and its place in it, so nobody has to add them to an error.

use crate::error::{Error, Result};

/// Reads little-endian numbers from a slice; every failure names the absolute byte offset.
pub struct Reader<'a> {
    data: &'a [u8],
    pos: usize,
    base: u64,
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// `base` is the offset of `data` in the whole file, `what` names the part for messages.
    pub fn new(data: &'a [u8], base: u64, what: &'static str) -> Self {
        Reader { data, pos: 0, base, what }
    }

    pub fn offset(&self) -> u64 {
        self.base + self.pos as u64
    }

    pub fn remaining(&self) -> usize {
        self.data.len() - self.pos
    }

    /// An error at the place of the last number read.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::input(format!("{}: {}", self.what, message.into())).at_offset(self.offset().saturating_sub(4))
    }

    /// # Errors
    /// `Input` if fewer than `n` bytes are left.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        if n > self.remaining() {
            return Err(Error::input(format!(
                "{} is cut short: {n} bytes wanted, {} left",
                self.what,
                self.remaining()
            ))
            .at_offset(self.offset())
            .hint("the file is incomplete or damaged; fetch or export it again"));
        }
        let s = &self.data[self.pos..self.pos + n];
        self.pos += n;
        Ok(s)
    }

    /// The next `n` bytes without passing them, or what is left.
    pub fn peek(&self, n: usize) -> &'a [u8] {
        &self.data[self.pos..self.pos + n.min(self.remaining())]
    }

    pub fn u32(&mut self) -> Result<u32> {
        let b = self.take(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(self.u32()? as i32)
    }

    pub fn u64(&mut self) -> Result<u64> {
        let lo = self.u32()?;
        Ok(u64::from(lo) | u64::from(self.u32()?) << 32)
    }

    /// A u32 that must be 0.
    pub fn reserved(&mut self) -> Result<()> {
        match self.u32()? {
            0 => Ok(()),
            v => Err(self.error(format!("a reserved field holds {v}, it must be 0"))),
        }
    }

    /// A u32 within `range`, as usize.
    pub fn count(&mut self, name: &str, range: std::ops::RangeInclusive<usize>) -> Result<usize> {
        let v = self.u32()? as usize;
        if range.contains(&v) {
            Ok(v)
        } else {
            Err(self.error(format!("{name} is {v}, allowed are {} to {}", range.start(), range.end())))
        }
    }

    /// Refuses bytes that nobody read.
    pub fn finish(self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            n => Err(Error::input(format!("{}: {n} bytes too many at the end", self.what)).at_offset(self.offset())),
        }
    }
}

/// Appends little-endian u32 words.
pub fn put_u32(out: &mut Vec<u8>, v: u32) {
    out.extend_from_slice(&v.to_le_bytes());
}

/// Views little-endian bytes as i32 values, as a copy (sections may be unaligned in memory).
pub fn to_i32(b: &[u8]) -> Vec<i32> {
    b.chunks_exact(4).map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

/// Views little-endian bytes as u32 values, as a copy.
pub fn to_u32(b: &[u8]) -> Vec<u32> {
    b.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}
