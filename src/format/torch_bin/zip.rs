//! The directory of a zip archive whose entries are stored as they are.
//!
//! Only the central directory is believed, and only if everything else agrees with it: the local headers say the same, no two entries share a
//! byte or a name, and nothing is compressed. So an archive can hold no more than its own length.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;

/// Where the bytes of each entry are.
pub struct Archive<'a> {
    entries: BTreeMap<&'a str, Stored>,
}

pub struct Stored {
    pub range: Range<usize>,
    pub crc: u32,
}

const END: usize = 22;
const LOCATOR: usize = 20;
const END64: usize = 56;
const RECORD: usize = 46;
const LOCAL: usize = 30;

fn bad(at: usize, what: impl std::fmt::Display) -> Error {
    Error::input(format!("not a usable zip archive: {what}"))
        .at_offset(at as u64)
        .hint("the file is incomplete or damaged; fetch it again")
}

/// Little-endian numbers at a place; outside of the file is an error, never a panic.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn get(&self, at: usize, n: usize) -> Result<&'a [u8]> {
        let cut = || bad(at, format!("{n} bytes wanted here, the file has {}", self.0.len()));
        at.checked_add(n).and_then(|end| self.0.get(at..end)).ok_or_else(cut)
    }

    fn number(&self, at: usize, n: usize) -> Result<u64> {
        Ok(self.get(at, n)?.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)))
    }

    fn u16(&self, at: usize) -> Result<usize> {
        Ok(self.number(at, 2)? as usize)
    }

    fn u32(&self, at: usize) -> Result<u32> {
        Ok(self.number(at, 4)? as u32)
    }

    fn signature(&self, at: usize, want: &[u8; 4], what: &str) -> Result<()> {
        if self.get(at, 4)? == want {
            return Ok(());
        }
        Err(bad(at, format!("{what} is not where it should be")))
    }
}

/// Where the central directory is, and how many entries it claims.
struct Directory {
    range: Range<usize>,
    entries: u64,
}

fn directory(file: &Bytes) -> Result<Directory> {
    let end = file.0.len().checked_sub(END).ok_or_else(|| bad(0, "it is too short"))?;
    file.signature(end, b"PK\x05\x06", "the end record")?;
    let (disk, first) = (file.u16(end + 4)?, file.u16(end + 6)?);
    let (here, entries) = (file.u16(end + 8)?, file.u16(end + 10)?);
    let (size, start) = (file.u32(end + 12)?, file.u32(end + 16)?);
    if (disk, first) != (0, 0) || here != entries {
        return Err(bad(end, "it is one of several parts"));
    }
    let locator = end.checked_sub(LOCATOR).filter(|at| file.get(*at, 4).is_ok_and(|s| s == b"PK\x06\x07"));
    let Some(locator) = locator else {
        let (start, size) = (start as usize, size as usize);
        return exact(start, size, end).map(|range| Directory { range, entries: entries as u64 });
    };
    let at = locator.checked_sub(END64).ok_or_else(|| bad(locator, "it is too short"))?;
    if file.number(locator + 8, 8)? != at as u64 || file.u32(locator + 4)? != 0 || file.u32(locator + 16)? != 1 {
        return Err(bad(locator, "its zip64 locator points elsewhere"));
    }
    file.signature(at, b"PK\x06\x06", "the zip64 end record")?;
    let wide = |offset| file.number(at + offset, 8);
    if wide(4)? != (END64 - 12) as u64 || wide(16)? != 0 || wide(24)? != wide(32)? {
        return Err(bad(at, "its zip64 end record contradicts itself"));
    }
    // The narrow fields say the same, or that they cannot.
    let same = |narrow: u64, most: u64, wide: u64| narrow == wide || (narrow == most && wide >= most);
    let narrow = u64::from(u32::MAX);
    if !same(entries as u64, 0xFFFF, wide(32)?)
        || !same(u64::from(size), narrow, wide(40)?)
        || !same(u64::from(start), narrow, wide(48)?)
    {
        return Err(bad(at, "its two end records contradict each other"));
    }
    let total = wide(32)?;
    let (start, size) = (usize::try_from(wide(48)?), usize::try_from(wide(40)?));
    let (Ok(start), Ok(size)) = (start, size) else { return Err(bad(at, "its directory is outside of the file")) };
    exact(start, size, at).map(|range| Directory { range, entries: total })
}

/// The directory ends where the end records start.
fn exact(start: usize, size: usize, end: usize) -> Result<Range<usize>> {
    match start.checked_add(size) {
        Some(e) if e == end => Ok(start..end),
        _ => Err(bad(end, format!("its directory of {size} bytes at byte {start} does not end here"))),
    }
}

/// Sizes and place of an entry; those that do not fit 32 bits are in the zip64 field.
fn sizes(file: &Bytes, at: usize, extra: &[u8]) -> Result<[u64; 3]> {
    let mut values = [file.u32(at + 24)?, file.u32(at + 20)?, file.u32(at + 42)?].map(u64::from);
    let narrow = u64::from(u32::MAX);
    if !values.contains(&narrow) {
        return Ok(values);
    }
    let mut rest = extra;
    while let [a, b, c, d, tail @ ..] = rest {
        let (id, n) = (u16::from_le_bytes([*a, *b]), usize::from(u16::from_le_bytes([*c, *d])));
        let field = tail.get(..n).ok_or_else(|| bad(at, "an extra field is cut short"))?;
        if id == 1 {
            let mut words = field.chunks_exact(8);
            for v in values.iter_mut().filter(|v| **v == narrow) {
                let word = words.next().and_then(|w| w.try_into().ok()).map(u64::from_le_bytes);
                *v = word.ok_or_else(|| bad(at, "its zip64 field is too short"))?;
            }
            return Ok(values);
        }
        rest = &tail[n..];
    }
    Err(bad(at, "an entry has no zip64 field, its sizes need one"))
}

impl<'a> Archive<'a> {
    /// # Errors
    /// `Input` if the archive is damaged or contradicts itself, `Unsupported` for compressed or encrypted entries.
    pub fn read(data: &'a [u8]) -> Result<Archive<'a>> {
        let file = Bytes(data);
        let directory = directory(&file)?;
        let fits = directory.range.len() / RECORD;
        if directory.entries > fits as u64 {
            let claim = directory.entries;
            return Err(bad(directory.range.start, format!("{claim} entries do not fit a directory of {fits}")));
        }
        let mut archive = Archive { entries: BTreeMap::new() };
        let mut taken = Vec::with_capacity(directory.entries as usize);
        let mut at = directory.range.start;
        for _ in 0..directory.entries {
            at = archive.entry(&file, at, &directory.range, &mut taken)?;
        }
        if at != directory.range.end {
            return Err(bad(at, "its directory has bytes that belong to no entry"));
        }
        taken.sort_unstable();
        for pair in taken.windows(2) {
            if pair[1].0 < pair[0].1 {
                let (a, b) = (pair[0].2, pair[1].2);
                return Err(bad(pair[1].0, format!("`{a}` and `{b}` share bytes, as only a zip bomb's entries do")));
            }
        }
        Ok(archive)
    }

    /// Reads one record; returns where the next starts.
    fn entry(
        &mut self,
        file: &Bytes<'a>,
        at: usize,
        directory: &Range<usize>,
        taken: &mut Vec<(usize, usize, &'a str)>,
    ) -> Result<usize> {
        file.signature(at, b"PK\x01\x02", "a directory record")?;
        let (flags, method) = (file.u16(at + 8)?, file.u16(at + 10)?);
        let (name, extra, comment) = (file.u16(at + 28)?, file.u16(at + 30)?, file.u16(at + 32)?);
        let next = at + RECORD + name + extra + comment;
        if next > directory.end {
            return Err(bad(at, "a directory record is cut short"));
        }
        let raw = file.get(at + RECORD, name)?;
        let name = std::str::from_utf8(raw).map_err(|_| bad(at, "the name of an entry is not UTF-8"))?;
        let [size, packed, place] = sizes(file, at, file.get(at + RECORD + name.len(), extra)?)?;
        if flags & 1 != 0 {
            return Err(Error::unsupported(format!("the archive's entry `{name}` is encrypted")).at_offset(at as u64));
        }
        if method != 0 {
            let what = format!("the archive's entry `{name}` is compressed (method {method})");
            return Err(Error::unsupported(what)
                .at_offset(at as u64)
                .hint("checkpoints are stored uncompressed, and a compressed one may unpack to any size; save it again with torch.save"));
        }
        let (Ok(len), Ok(place)) = (usize::try_from(size), usize::try_from(place)) else {
            return Err(bad(at, format!("`{name}` is outside of the file")));
        };
        if size != packed {
            return Err(bad(at, format!("`{name}` is stored, but has two sizes, {size} and {packed}")));
        }

        file.signature(place, b"PK\x03\x04", "the header of an entry")?;
        let local = [file.u16(place + 6)?, file.u16(place + 8)?];
        let (n, m) = (file.u16(place + 26)?, file.u16(place + 28)?);
        if local != [flags, method] || file.get(place + LOCAL, n)? != raw {
            return Err(bad(place, format!("the header of `{name}` contradicts the directory")));
        }
        let crc = file.u32(at + 16)?;
        // With bit 3 they follow the data, where the directory repeats them.
        if flags & 8 == 0 {
            let narrow = |offset| file.u32(place + offset);
            let agrees = |v: u32| v == u32::MAX || u64::from(v) == size;
            if narrow(14)? != crc || !agrees(narrow(18)?) || !agrees(narrow(22)?) {
                return Err(bad(place, format!("the header of `{name}` contradicts the directory")));
            }
        }
        let start = place + LOCAL + n + m;
        let end = start.checked_add(len).filter(|end| *end <= directory.start);
        let end = end.ok_or_else(|| bad(at, format!("`{name}` claims {size} bytes, more than there are")))?;
        taken.push((place, end, name));
        if self.entries.insert(name, Stored { range: start..end, crc }).is_some() {
            return Err(bad(at, format!("two entries are called `{name}`")));
        }
        Ok(next)
    }

    pub fn get(&self, name: &str) -> Option<&Stored> {
        self.entries.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.entries.keys().copied()
    }
}
