//! The worked example of docs/format/delta.md: its bytes are the file's, its steps are what a decoder reads, and the patch does what is said.

use crate::common::{fixture, not_run, root, tiny_bytes};
use crate::support::Patch;
use bitnet_convert::delta::block::Direction;
use bitnet_convert::delta::keys::{self, Keyring};
use bitnet_convert::digest::sha256;
use bitnet_convert::format::delta::{Header, Kind, Segment};
use std::process::Command;

fn example() -> Vec<u8> {
    std::fs::read(root().join("tests/data/delta/tiny.bdelta"))
        .expect("tests/data/delta/tiny.bdelta is part of the repository")
}

/// The first block of the document that starts with this fence.
fn block(fence: &str) -> String {
    let doc = std::fs::read_to_string(root().join("docs/format/delta.md")).unwrap();
    let example = doc.split("## Worked example").nth(1).expect("docs/format/delta.md has a worked example");
    let block = example.split(&format!("```{fence}\n")).nth(1).unwrap_or_else(|| panic!("no block of {fence}"));
    block.split("```").next().unwrap().to_string()
}

/// Offset, bytes and annotation of each line; a line without annotation goes on with the one before.
fn lines() -> Vec<(usize, Vec<u8>, String)> {
    let mut out: Vec<(usize, Vec<u8>, String)> = Vec::new();
    for line in block("hex").lines() {
        let (offset, rest) = line.split_once("  ").unwrap_or_else(|| panic!("no offset: {line}"));
        let (bytes, note) = rest.split_once("  ").unwrap_or((rest, ""));
        let bytes = bytes.split(' ').map(|b| u8::from_str_radix(b, 16).unwrap_or_else(|e| panic!("{e}: {line}")));
        let offset = usize::from_str_radix(offset, 16).unwrap();
        match out.last_mut() {
            Some(last) if note.is_empty() => {
                assert_eq!(offset, last.0 + last.1.len(), "{line}");
                last.1.extend(bytes);
            }
            _ => out.push((offset, bytes.collect(), note.trim().to_string())),
        }
    }
    out
}

#[test]
fn the_hex_dump_is_the_file() {
    let file = example();
    let mut at = 0;
    for (offset, bytes, note) in lines() {
        assert_eq!(offset, at, "a gap or an overlap before {offset:04x}");
        at += bytes.len();
        assert_eq!(bytes, file[offset..at], "{offset:04x} {note}");
    }
    assert_eq!(at, file.len());
}

/// Numbers behind a colon or in quotes are those of the bytes beside them.
#[test]
fn the_annotations_say_what_the_bytes_are() {
    let mut checked = 0;
    for (offset, bytes, note) in lines() {
        let here = format!("{offset:04x} {note}");
        if let Some((_, text)) = note.split_once('"') {
            assert_eq!(String::from_utf8_lossy(&bytes).trim_end_matches('\0'), text.trim_end_matches('"'), "{here}");
            checked += 1;
        }
        let said = note.rsplit_once(": ").and_then(|(_, n)| n.split([' ', ',']).next()?.parse::<u64>().ok());
        if let Some(said) = said {
            // Lengths in the index are varints, all other numbers little-endian.
            let value = match note.starts_with("length: ") {
                true => bytes.iter().rev().fold(0, |v, b| v << 7 | u64::from(b & 127)),
                false => bytes.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)),
            };
            assert_eq!(value, said, "{here}");
            checked += 1;
        }
    }
    assert!(checked >= 14, "only {checked} annotations hold a number or a text");
}

#[test]
fn the_fields_are_what_the_reader_finds() {
    let file = example();
    let patch = Patch::parse(&file).unwrap();
    let h = &patch.header;
    assert_eq!((h.contexts, h.row, h.block_log2, h.index_len), (770, 8, 12, 46));
    assert_eq!((h.base_sequence, h.target_sequence), (1 << 20, (1 << 20) + 1));
    assert!(h.flags.in_place && h.flags.signed && !h.flags.reversible);
    assert_eq!(patch.to_bytes(), file);
    let made = |kind, at, len| Segment { kind, at, len, base: at };
    let want = [
        made(Kind::Copy, 0, 9376),
        made(Kind::Planes { rice: false, half: 4 }, 9376, 128),
        made(Kind::Ints { width: 4, shift: 4, zeros: false }, 9504, 64),
        made(Kind::Copy, 9568, 16),
        made(Kind::Planes { rice: true, half: 4 }, 9584, 128),
        made(Kind::Copy, 9712, 2336),
    ];
    assert_eq!(patch.index.segments, want);
    let ring = Keyring::read(&[root().join("tests/data/delta/key.pub")]).unwrap();
    let raw = file.first_chunk::<{ Header::LEN }>().unwrap();
    keys::verify(raw, &ring).unwrap_or_else(|_| panic!("the signature is right"));
}

#[test]
fn the_patch_changes_what_the_text_says() {
    let patch = Patch::parse(&example()).unwrap();
    let base = tiny_bytes();
    let target = patch.apply(&base, Direction::Forward).unwrap();
    assert_eq!(sha256(&target), patch.header.target_sha);
    let changed: Vec<usize> = (0..base.len()).filter(|i| base[*i] != target[*i]).collect();
    // Row 0 column 9, row 4 column 30 and row 11 column 2 of the first tensor; rows 2, 4, 7 of the other; m of the rows 1, 6, 14.
    let of_row = |at: usize, row: usize| at + 8 * row..at + 8 * row + 8;
    let rows = [of_row(9376, 0), of_row(9376, 4), of_row(9376, 11), of_row(9584, 2), of_row(9584, 4), of_row(9584, 7)];
    for row in rows {
        let bits: u32 = row.clone().map(|i| (base[i] ^ target[i]).count_ones()).sum();
        assert!((1..=2).contains(&bits), "{row:?}");
    }
    let m = |file: &[u8], row: usize| u32::from_le_bytes(*file[9504 + 4 * row..].first_chunk().unwrap());
    let steps: Vec<i32> = (0..16).map(|row| m(&target, row).wrapping_sub(m(&base, row)) as i32).collect();
    assert_eq!(steps, [0, 48, 0, 0, 0, 0, -16, 0, 0, 0, 0, 0, 0, 0, 1600, 0]);
    assert!(changed.iter().all(|i| (9376..9712).contains(i)), "{changed:?}");
}

#[test]
fn the_steps_are_what_a_decoder_reads() {
    let here = |args: &[&str]| {
        let mut c = Command::new("python3");
        c.current_dir(fixture("reader")).env("PYTHONDONTWRITEBYTECODE", "1").arg("worked_patch.py").args(args);
        crate::common::finish(&mut c).ok().stdout
    };
    if !crate::python::is_here("the worked example of patches") {
        return not_run("the worked example of patches", "python3");
    }
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().to_str().expect("temporary paths are UTF-8");
    here(&["write", text]);
    assert!(
        std::fs::read(dir.path().join("tiny.bdelta")).unwrap() == example(),
        "tests/data/README.md has the command"
    );
    let made = std::fs::read(dir.path().join("key.pub")).unwrap();
    assert_eq!(made, std::fs::read(root().join("tests/data/delta/key.pub")).unwrap());
    assert_eq!(here(&["trace", &format!("{text}/tiny.bdelta")]), block("text"));
}
