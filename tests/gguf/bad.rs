//! Containers that lie. Each must be refused with a message that names the place; none may panic or allocate by a claimed count.

use crate::writer::*;
use bitnet_convert::error::{Error, Kind};
use bitnet_convert::format::gguf::parse;
use bitnet_convert::format::File;
use std::path::Path;

#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) -> Error {
    let e = parse(bytes).expect_err("the file is bad");
    let text = format!("{e} {}", e.next_step().unwrap_or(""));
    for w in words {
        assert!(text.contains(w), "`{w}` is not in: {text}");
    }
    e
}

fn good() -> Gguf {
    Gguf::default()
        .key("general.architecture", strv("llama"))
        .with(floats("a", &[4, 2]))
        .with(tensor("b", &[32], 8, vec![0; 34]))
        .with(floats("c", &[1]))
}

#[test]
fn the_unchanged_file_is_read() {
    let file = parse(&good().bytes()).expect("a good file");
    assert_eq!(file.entries["a"].shape, [2, 4]);
    assert_eq!(file.metadata.str("general.architecture").expect("a text"), Some("llama"));
    assert_eq!(parse(&Gguf { version: 2, ..good() }.bytes()).expect("version 2").entries, file.entries);
    let f = File::from_bytes(good().bytes(), Path::new("x.safetensors")).expect("the magic decides");
    assert_eq!(f.get("a").expect("a").to_f32().expect("floats"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    assert!(f.metadata().is_some());
}

#[test]
fn padding_behind_the_last_tensor_may_be_missing() {
    let bytes = good().bytes();
    for cut in 1..=28 {
        parse(&bytes[..bytes.len() - cut]).expect("only padding is missing");
    }
    refused(&bytes[..bytes.len() - 29], &["3 bytes", "takes 4", "`c`"]);
}

#[test]
fn every_cut_is_refused() {
    let bytes = good().bytes();
    for n in 0..bytes.len() - 28 {
        assert!(parse(&bytes[..n]).is_err(), "{n} bytes");
    }
}

#[test]
fn bytes_behind_the_last_tensor() {
    let mut bytes = good().bytes();
    bytes.push(0);
    refused(&bytes, &["33 bytes", "F32"]);
}

#[test]
fn another_magic() {
    refused(b"GGJT\x03\0\0\0", &["not a GGUF file", "byte 0"]);
    refused(b"GGUF", &["cut short"]);
}

#[test]
fn other_versions_and_byte_orders() {
    for (version, word) in
        [(1, "version 1"), (0, "version 0"), (4, "version 4"), (0x0300_0000, "big-endian"), (0x0200_0000, "big-endian")]
    {
        let e = refused(&Gguf { version, ..good() }.bytes(), &[word, "byte 4"]);
        assert_eq!(e.kind(), Kind::Unsupported);
    }
}

fn header(tensors: u64, keys: u64, rest: &[u8]) -> Vec<u8> {
    [&b"GGUF\x03\0\0\0"[..], &tensors.to_le_bytes(), &keys.to_le_bytes(), rest].concat()
}

#[test]
fn counts_that_lie() {
    for n in [1, 100, u64::from(u32::MAX), u64::MAX] {
        refused(&header(0, n, &[]), &["keys", "0 bytes are left", "byte 24"]);
        refused(&header(n, 0, &[]), &["tensors", "byte 24"]);
    }
    refused(&header(0, 2, &[0; 14]), &["2 keys"]);
}

#[test]
fn text_lengths_that_lie() {
    for n in [9u64, 1 << 40, u64::MAX] {
        let rest = [&n.to_le_bytes()[..], &[b'k'; 8]].concat();
        refused(&header(0, 1, &rest), &["a key claims", "8 are left"]);
    }
    let huge = Gguf::default().key("k", Wire(8, u64::MAX.to_le_bytes().to_vec()));
    refused(&huge.bytes(), &["`k` claims 18446744073709551615 bytes"]);
}

#[test]
fn texts_that_are_no_utf8() {
    let mut value = text("ab");
    value[9] = 0xFF;
    refused(&Gguf::default().key("k", Wire(8, value)).bytes(), &["`k` is no valid UTF-8"]);
}

#[test]
fn keys_twice_or_empty() {
    refused(&good().key("general.architecture", strv("x")).bytes(), &["`general.architecture` stands there twice"]);
    refused(&good().key("", strv("x")).bytes(), &["a key is empty"]);
}

#[test]
fn value_types_that_do_not_exist() {
    for id in [13, 255, u32::MAX] {
        refused(&good().key("k", Wire(id, vec![0; 8])).bytes(), &["`k` has value type", "byte "]);
        refused(&good().key("k", list(id, 1, vec![0; 8])).bytes(), &["`k` has value type"]);
    }
}

#[test]
fn lists_of_lists() {
    let nested = list(9, 1, list(9, 1, vec![]).1);
    refused(&good().key("k", nested).bytes(), &["`k` is a list of lists"]);
}

#[test]
fn list_lengths_that_lie() {
    for n in [3, 1 << 32, u64::MAX] {
        for kind in [0, 5, 7, 8, 12] {
            let bytes = Gguf::default().key("k", list(kind, n, vec![0; 2])).bytes();
            // Padding may follow, so that the count must beat it.
            if n > 3 || kind == 12 || kind == 8 {
                refused(&bytes, &["`k`"]);
            }
        }
    }
    refused(&Gguf::default().key("k", list(0, 1 << 40, vec![])).bytes(), &["`k` claims more items"]);
}

#[test]
fn truth_values_that_are_neither() {
    refused(&good().key("k", Wire(7, vec![2])).bytes(), &["`k` holds a truth value"]);
    refused(&good().key("k", list(7, 2, vec![1, 9])).bytes(), &["`k` holds a truth value"]);
}

#[test]
fn alignments_that_are_none() {
    for n in [0, 3, 48, u32::MAX, 1 << 31] {
        refused(&good().key("general.alignment", u32v(n)).bytes(), &["`general.alignment` is", "power of two"]);
    }
    refused(&good().key("general.alignment", strv("32")).bytes(), &["`general.alignment` is a text"]);
    let wide = Gguf { alignment: 256, ..good() }.key("general.alignment", u32v(256));
    assert_eq!(parse(&wide.bytes()).expect("an alignment of 256").entries.len(), 3);
}

#[test]
fn tensor_names_that_are_none() {
    refused(&good().with(floats("", &[1])).bytes(), &["tensor 3 has no name"]);
    refused(&good().with(floats(&"n".repeat(64), &[1])).bytes(), &["at most 63"]);
    refused(&good().with(floats("a", &[1])).bytes(), &["two tensors of this name", "`a`"]);
}

#[test]
fn dimensions_that_are_none() {
    for ne in [vec![], vec![1; 5]] {
        refused(&good().with(floats("t", &ne)).bytes(), &["dimensions", "`t`"]);
    }
    for ne in [[0, 4], [1 << 63, 2], [u64::MAX, u64::MAX], [1 << 40, 1 << 40]] {
        refused(&good().with(tensor("t", &ne, 0, vec![])).bytes(), &["`t`", "a dimension of the tensor is 0"]);
    }
    let mut bytes = Gguf::default().with(floats("t", &[1])).bytes();
    bytes[33..37].copy_from_slice(&u32::MAX.to_le_bytes());
    refused(&bytes, &["4294967295 dimensions"]);
    refused(&good().with(tensor("t", &[1 << 50], 0, vec![])).bytes(), &["`t`", "takes"]);
}

#[test]
fn offsets_that_are_none() {
    let at = |offset: u64| {
        let mut g = good();
        g.tensors[1].offset = Some(offset);
        g.bytes()
    };
    assert!(parse(&at(32)).is_ok());
    refused(&at(33), &["`b`", "no multiple of the alignment 32"]);
    refused(&at(64), &["`a`", "64 bytes lie", "takes 32"]); // a gap
    refused(&at(0), &["`a`", "0 bytes lie"]); // on top of the first
    refused(&at(1 << 40), &["`b`", "the file has"]);
    refused(&at(u64::MAX - 31), &["`b`", "the file has"]);
    let mut g = good();
    g.tensors[0].offset = Some(32);
    refused(&g.bytes(), &["`a`", "the first tensor has 0"]);
    let mut g = good();
    g.tensors[2].offset = Some(0);
    refused(&g.bytes(), &["`c`", "before that of the tensor listed before it"]);
}

#[test]
fn rows_that_are_no_whole_blocks() {
    for (id, ne, block) in
        [(8, [33, 1], "32"), (35, [128, 2], "256"), (41, [64, 4], "128"), (42, [32, 2], "64"), (36, [64, 1], "128")]
    {
        refused(&Gguf::default().with(tensor("t", &ne, id, vec![0; 66])).bytes(), &["`t`", "no multiple of", block]);
    }
}

#[test]
fn types_that_are_not_read_are_named() {
    for (id, name) in [
        (9, "Q8_1"),
        (20, "IQ4_NL"),
        (19, "IQ1"),
        (31, "ARM"),
        (37, "I8_S"),
        (38, "TL1"),
        (39, "MXFP4, or TL2"),
        (40, "NVFP4"),
        (135, "IQ2_BN"),
        (142, "rotated"),
        (143, "PTQ1_0"),
        (77, "type number 77"),
        (u32::MAX, "not known"),
    ] {
        let e = refused(&good().with(tensor("t", &[256], id, vec![0; 64])).bytes(), &["`t`", name]);
        assert_eq!(e.kind(), Kind::Unsupported, "{name}");
    }
}

/// Type 42 means 64 values in 18 bytes, in early files 128 in 34; type 36 could be IQ4_NL_4_4.
#[test]
fn numbers_with_two_meanings_are_told_apart_by_their_bytes() {
    let layouts = |bytes: &[usize], ne: &[u64]| {
        let mut g = Gguf::default();
        for (i, n) in bytes.iter().enumerate() {
            g = g.with(tensor(&format!("t{i}"), &[ne[i]], 42, vec![0; *n]));
        }
        parse(&g.bytes()).map(|f| f.entries.values().map(|e| e.dtype.name()).collect::<Vec<_>>())
    };
    assert_eq!(layouts(&[18 * 64, 36], &[4096, 128]).expect("64"), ["Q2_0", "Q2_0"]);
    // The second is too small to tell: 34 and 36 bytes are padded alike.
    let early = layouts(&[34 * 32, 34], &[4096, 128]).expect("128");
    assert_eq!(early, ["Q2_0 in groups of 128", "Q2_0 in groups of 128"]);
    assert!(layouts(&[18 * 64, 34 * 32], &[4096, 4096]).is_err(), "both in one file");
    refused(
        &Gguf::default().with(tensor("t", &[4096], 42, vec![0; 999])).bytes(),
        &["999 bytes", "TL2"].map(|w| if w == "999 bytes" { "1024 bytes" } else { w }),
    );
    let i2s = Gguf::default().with(tensor("t", &[128, 64], 36, vec![0; 2048 + 32])).bytes();
    assert_eq!(parse(&i2s).expect("I2_S").entries["t"].dtype.name(), "I2_S");
    refused(&Gguf::default().with(tensor("t", &[128, 64], 36, vec![0; 8192 * 9 / 16])).bytes(), &["IQ4_NL_4_4"]);
}
