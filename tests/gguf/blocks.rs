//! Block layouts against the decoder of another project, and random bytes.

use crate::writer::{tensor, Gguf};
use bitnet_convert::encoding::blocks::Block;
use bitnet_convert::format::gguf::parse;
use bitnet_convert::format::gguf::Value;
use bitnet_convert::format::File;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gguf").join(name)
}

#[test]
fn every_layout_decodes_to_the_same_bits() {
    let file = File::open(&data("blocks.gguf")).expect("the fixture");
    let expected = File::open(&data("blocks.safetensors")).expect("the expected values");
    let mut seen = 0;
    for name in expected.names() {
        let want = expected.get(name).expect("a tensor").to_f32().expect("floats");
        let view = file.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(view.dtype.name(), name);
        assert_eq!(view.shape, [2, 256]);
        let got = view.to_f32().expect("floats");
        for (i, (a, b)) in got.iter().zip(&want).enumerate() {
            // Zeros may differ in sign: 0 times a negative scale.
            assert!(a == b, "{name} at {i}: {a} and {b}");
        }
        seen += 1;
    }
    assert_eq!(seen, 14);
}

#[test]
fn values_of_every_kind() {
    let file = File::open(&data("blocks.gguf")).expect("the fixture");
    let m = file.metadata().expect("metadata");
    for (key, want) in [
        ("kind.u8", Value::Int(200)),
        ("kind.i8", Value::Int(-100)),
        ("kind.u16", Value::Int(60_000)),
        ("kind.i16", Value::Int(-30_000)),
        ("kind.u32", Value::Int(4_000_000_000)),
        ("kind.i32", Value::Int(-2_000_000_000)),
        ("kind.f32", Value::F32(1e-5)),
        ("kind.bool", Value::Bool(true)),
        ("kind.str", Value::Str("A text, é".into())),
        ("kind.u64", Value::Large(u64::MAX)),
        ("kind.i64", Value::Int(-(1 << 62))),
        ("kind.f64", Value::F64(0.1)),
    ] {
        assert_eq!(m.get(key), Some(&want), "{key}");
    }
    assert_eq!(m.strings("list.str").expect("texts"), Some(&["a".into(), String::new(), "\u{2581}b".into()][..]));
    let numbers = |key| m.numbers(key).expect("numbers").expect("a list").iter().collect::<Vec<_>>();
    assert_eq!(numbers("list.i32"), [Value::Int(1), Value::Int(-2), Value::Int(3)]);
    assert_eq!(numbers("list.f32"), [Value::F32(0.5), Value::F32(-1.0)]);
    assert_eq!(m.f64("kind.f32").expect("a number"), Some(1e-5), "the shortest decimal");
    assert!(m.u64("kind.i8").is_err() && m.str("kind.u8").is_err() && m.u64("kind.str").is_err());
}

/// A trit of every block is written by hand and read back as a code with its scale: nothing is rounded.
#[test]
fn codes_and_scales_are_carried_over() {
    let file = File::open(&data("blocks.gguf")).expect("the fixture");
    for (name, block) in [("TQ1_0", Block::Tq1_0), ("TQ2_0", Block::Tq2_0)] {
        let view = file.get(name).expect("a tensor");
        assert_eq!(block.first_invalid(view.data), None, "{name}");
        let (mut codes, mut values) = (vec![0; 512], vec![0.0; 512]);
        block.codes(view.data, 0, &mut codes);
        block.read(view.data, 0, &mut values);
        assert!([-1, 0, 1].iter().all(|c| codes.contains(c)));
        for (i, (c, v)) in codes.iter().zip(&values).enumerate() {
            assert_eq!(f32::from(*c) * block.scale(view.data, i / 256), *v);
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_decode_to_something(bytes in prop::collection::vec(any::<u8>(), 0..700), start in 0usize..2000, n in 0usize..600) {
        for b in Block::ALL {
            let mut out = vec![0.0; n];
            b.read(&bytes, start, &mut out);
            let mut codes = vec![0; n];
            b.codes(&bytes, start, &mut codes);
            prop_assert!(codes.iter().all(|c| (-1..=2).contains(c)));
            let _ = (b.scale(&bytes, start), b.first_invalid(&bytes));
        }
    }

    #[test]
    fn random_headers_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&[&b"GGUF\x03\0\0\0"[..], &bytes].concat());
    }

    #[test]
    fn whole_tensors_read_as_row_ranges(seed in any::<u8>(), row in 0usize..3) {
        let data: Vec<u8> = (0..3 * 66).map(|i: usize| (i as u8).wrapping_mul(31).wrapping_add(seed) & 0x3B).collect();
        let bytes = Gguf::default().with(tensor("t", &[256, 3], 35, data)).bytes();
        let file = File::from_bytes(bytes, Path::new("x")).expect("a file");
        let view = file.get("t").expect("a tensor");
        let mut part = vec![0.0; 256];
        if view.read_f32(row * 256, &mut part).is_ok() {
            if let Ok(all) = view.to_f32() {
                prop_assert_eq!(&all[row * 256..][..256], &part[..]);
            }
        }
    }
}
