//! Sizes of a linked image, from the section headers of its ELF file. Every offset is checked; a strange file gives an error, not a fault.

use crate::error::{Error, Result};
use crate::fsio;
use std::path::Path;

/// Sections that take memory when the program runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub address: u64,
    pub bytes: u64,
    pub writable: bool,
}

const ALLOC: u64 = 2;
const WRITE: u64 = 1;
const NOBITS: u64 = 8;
const MOST_SECTIONS: u64 = 4096;

/// A checked reader of fields in the byte order of the file.
struct Fields<'a> {
    data: &'a [u8],
    big: bool,
    wide: bool,
}

impl Fields<'_> {
    fn bytes(&self, at: u64, n: usize) -> Result<&[u8]> {
        let cut = || Error::input(format!("the file ends before byte {at}"));
        let start = usize::try_from(at).map_err(|_| cut())?;
        let end = start.checked_add(n).ok_or_else(cut)?;
        self.data.get(start..end).ok_or_else(cut)
    }

    fn number(&self, at: u64, n: usize) -> Result<u64> {
        let push = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        let bytes = self.bytes(at, n)?;
        Ok(if self.big { bytes.iter().fold(0, push) } else { bytes.iter().rev().fold(0, push) })
    }

    /// A field that is an address in the file's class.
    fn word(&self, at: u64) -> Result<u64> {
        self.number(at, if self.wide { 8 } else { 4 })
    }
}

/// Sections of an image that have an address, in the order of the file.
///
/// # Errors
/// `Input` if this is no ELF file or a damaged one.
pub fn sections(data: &[u8]) -> Result<Vec<Section>> {
    let not = || Error::input("this is no ELF file");
    let (class, order) = match data.get(..6) {
        Some([0x7f, b'E', b'L', b'F', class @ 1..=2, order @ 1..=2]) => (*class, *order),
        _ => return Err(not()),
    };
    let f = Fields { data, big: order == 2, wide: class == 2 };
    let (at_table, at_size, at_count, at_names) = if f.wide { (40, 58, 60, 62) } else { (32, 46, 48, 50) };
    let (table, size) = (f.word(at_table)?, f.number(at_size, 2)?);
    let (count, names) = (f.number(at_count, 2)?, f.number(at_names, 2)?);
    let needed = if f.wide { 64 } else { 40 };
    if count == 0 || count > MOST_SECTIONS || size < needed || names >= count {
        return Err(Error::input(format!("a table of {count} sections with {size} bytes each makes no sense")));
    }
    // `count` and `size` are 16 bits wide: the product cannot overflow.
    let header = |i: u64| table.checked_add(i * size).ok_or_else(not);
    let (at_flags, at_address, at_offset, at_bytes) = if f.wide { (8, 16, 24, 32) } else { (8, 12, 16, 20) };
    f.bytes(header(count - 1)?, needed as usize)?;
    let strings = f.word(header(names)? + at_offset)?;
    let mut found = Vec::new();
    for i in 0..count {
        let h = header(i)?;
        let flags = f.word(h.saturating_add(at_flags))?;
        let bytes = f.word(h.saturating_add(at_bytes))?;
        if flags & ALLOC == 0 || bytes == 0 {
            continue;
        }
        let from = usize::try_from(strings.saturating_add(f.number(h, 4)?)).map_err(|_| not())?;
        let name = data.get(from..).unwrap_or_default().iter().take(64).take_while(|b| **b != 0);
        let name = name.map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '?' }).collect();
        found.push(Section {
            name,
            address: f.word(h.saturating_add(at_address))?,
            bytes,
            // A stack that the linker only makes room for may have no flag.
            writable: flags & WRITE != 0 || f.number(h.saturating_add(4), 4)? == NOBITS,
        });
    }
    Ok(found)
}

/// What an image takes of the memories of a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Code, constants and model, with the gaps between them.
    pub flash: u64,
    /// Stack, variables, and the arena if it lies there.
    pub fast: u64,
    /// What the program puts into the second RAM, wherever that is.
    pub ram: u64,
}

/// The section of what belongs into the second RAM.
const SECOND: &str = ".ram_bss";

/// What a program takes of a machine's memories.
///
/// # Errors
/// `Io` if it cannot be read, `Input` if it is no ELF file.
pub fn sizes(path: &Path) -> Result<Used> {
    let file = fsio::map(path)?;
    let found = sections(&file).map_err(|e| e.at_file(path))?;
    Ok(used(&found))
}

fn used(sections: &[Section]) -> Used {
    let span = |writable: bool, second: bool| {
        let of = || sections.iter().filter(move |s| s.writable == writable && (s.name == SECOND) == second);
        let start = of().map(|s| s.address).min().unwrap_or(0);
        let end = of().map(|s| s.address.saturating_add(s.bytes)).max().unwrap_or(0);
        end - start.min(end)
    };
    Used { flash: span(false, false), fast: span(true, false), ram: span(true, true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 32-bit file with the null section, `.text`, `.ram_bss` and the names.
    fn small(big: bool) -> Vec<u8> {
        let n = |v: u32, n: usize| -> Vec<u8> {
            let b = v.to_le_bytes()[..n].to_vec();
            if big {
                b.into_iter().rev().collect()
            } else {
                b
            }
        };
        let mut f = vec![0x7f, b'E', b'L', b'F', 1, if big { 2 } else { 1 }];
        f.resize(32, 0);
        f.extend(n(52, 4)); // section table
        f.resize(46, 0);
        f.extend([n(40, 2), n(4, 2), n(3, 2)].concat());
        let section = |name: u32, flags: u32, address: u32, offset: u32, bytes: u32| {
            let mut h = [n(name, 4), n(1, 4), n(flags, 4), n(address, 4), n(offset, 4), n(bytes, 4)].concat();
            h.resize(40, 0);
            h
        };
        f.extend(section(0, 0, 0, 0, 0));
        f.extend(section(1, 6, 0x100, 0, 24));
        f.extend(section(7, 3, 0x2000_0000, 0, 640));
        f.extend(section(0, 0, 0, 212, 16));
        f.extend(b"\0.text\0.ram_bss\0");
        f
    }

    #[test]
    fn reads_both_byte_orders() {
        for big in [false, true] {
            let s = sections(&small(big)).unwrap();
            let names: Vec<_> = s.iter().map(|s| (s.name.as_str(), s.address, s.bytes, s.writable)).collect();
            assert_eq!(names, [(".text", 0x100, 24, false), (".ram_bss", 0x2000_0000, 640, true)]);
            assert_eq!(used(&s), Used { flash: 24, fast: 0, ram: 640 });
        }
    }

    #[test]
    fn refuses_a_cut_file_and_wild_offsets() {
        let good = small(false);
        for len in 0..212 {
            assert!(sections(&good[..len]).is_err(), "{len}");
        }
        assert!(sections(b"#!/bin/sh\n").is_err());
        for (at, value) in [(32, u32::MAX), (46, 0), (48, 0xffff_ffff)] {
            let mut bad = good.clone();
            let width = if at == 32 { 4 } else { 2 };
            bad[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            assert!(sections(&bad).is_err(), "{at}");
        }
        let mut far = good;
        far[52 + 40..52 + 44].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(sections(&far).unwrap()[0].name, "", "a name beyond the end");
    }
}
