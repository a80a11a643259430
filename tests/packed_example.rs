//! The worked example at the end of docs/format/packed.md is the start of tests/data/tiny.bitnet, byte for byte; and that file is a good one.

mod common;

use bitnet_convert::kernels::dot::DotKernel;
use bitnet_convert::runtime::{record, Artifact};
use common::{root, tiny, tiny_bytes};

/// Offset, bytes and annotation of each line of the block.
fn lines() -> Vec<(usize, Vec<u8>, String)> {
    let doc = std::fs::read_to_string(root().join("docs/format/packed.md")).unwrap();
    let block = doc.split("```hex\n").nth(1).expect("docs/format/packed.md has a ```hex block");
    let block = block.split("```").next().unwrap();
    let parse = |line: &str| {
        let (offset, rest) = line.split_once("  ").unwrap_or_else(|| panic!("no offset: {line}"));
        let (bytes, note) = rest.split_once("  ").unwrap_or((rest, ""));
        let bytes = bytes.split(' ').map(|b| u8::from_str_radix(b, 16).unwrap_or_else(|e| panic!("{e}: {line}")));
        (usize::from_str_radix(offset, 16).unwrap(), bytes.collect(), note.trim().to_string())
    };
    block.lines().map(parse).collect()
}

#[test]
fn the_hex_dump_is_the_file() {
    let file = tiny_bytes();
    let mut at = 0;
    for (offset, bytes, note) in lines() {
        assert_eq!(offset, at, "a gap or an overlap before {offset:04x}");
        at += bytes.len();
        assert_eq!(bytes, file[offset..at], "{offset:04x} {note}");
    }
    // Header, table of four sections, program header, twelve registers, two operations.
    assert_eq!(at, 64 + 4 * 64 + 4 * 32 + 12 * 8 + 2 * 48);
}

/// Numbers in the annotations are those of the bytes beside them.
#[test]
fn the_annotations_say_what_the_bytes_are() {
    let mut checked = 0;
    for (offset, bytes, note) in lines() {
        let digits: String = note.chars().filter(|c| c.is_ascii_digit() || c.is_whitespace()).collect();
        let numbers: Vec<u64> = digits.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let plain = !note.contains([';', ':', '='])
            && !note.contains("CRC")
            && !note.contains("SHA")
            && !note.contains("reserved");
        if plain && bytes.len() <= 8 && numbers.len() == 1 {
            let value = bytes.iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b));
            assert_eq!(value, numbers[0], "{offset:04x} {note}");
            checked += 1;
        }
    }
    assert!(checked >= 18, "only {checked} annotations hold a number");
}

#[test]
fn the_example_is_a_model_that_runs_as_recorded() {
    let a = Artifact::open(&tiny()).unwrap();
    assert!(tiny_bytes().len() <= 12 << 10);
    assert_eq!(a.golden.prompts.len(), 2);
    for kernel in DotKernel::available() {
        let mut session = a.session(kernel);
        for want in &a.golden.prompts {
            let got = record(&mut session, &want.ids[..want.prompt_len], want.ids.len(), &mut |_, _, _| {}).unwrap();
            assert_eq!(&got, want, "{}", kernel.name());
        }
    }
    // The second prompt is longer than the window, so the trace covers the rolling cache, too.
    assert!(a.golden.prompts[1].prompt_len > a.program.attention.window);
}
