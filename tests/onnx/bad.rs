//! Files that were damaged or made by others: `verify` says what is wrong and never panics.

use crate::common::{fixture, Rng, Run};
use crate::graph::Opened;
use crate::support::{onnx, packed, place, verify};
use bitnet_convert::format::onnx::DATA_DIGEST;
use prost::Message;
use std::path::PathBuf;

fn good() -> (PathBuf, PathBuf) {
    let packed = packed(&fixture("models/intent-w1a2"));
    (onnx(&packed, "--profile int"), packed)
}

/// A changed copy of the graph, beside the weights of the good one.
fn changed(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Run {
    let (file, packed) = good();
    let mut bytes = std::fs::read(&file).unwrap();
    change(&mut bytes);
    let path = place().join(name);
    std::fs::write(&path, bytes).unwrap();
    verify(&path, &packed, "--quick").never_panicked()
}

#[track_caller]
fn refused(r: &Run, what: &str) {
    assert_eq!(r.code, Some(2), "{r:?}");
    assert!(r.stderr.contains(what), "{}", r.stderr);
}

#[test]
fn a_text_is_no_onnx_file() {
    let r = changed("text.onnx", |b| *b = b"this is no model\n".to_vec());
    assert_eq!(r.code, Some(2), "{r:?}");
}

#[test]
fn an_empty_file_is_refused() {
    let r = changed("empty.onnx", Vec::clear);
    assert_eq!(r.code, Some(2), "{r:?}");
}

#[test]
fn a_cut_file_is_refused() {
    let r = changed("cut.onnx", |b| b.truncate(b.len() / 2));
    assert_eq!(r.code, Some(2), "{r:?}");
}

#[test]
fn a_file_of_others_is_not_compared() {
    let (file, _) = good();
    let mut model = Opened::new(&file).loaded.model.clone();
    model.metadata_props.clear();
    let r = changed("foreign.onnx", |b| *b = model.encode_to_vec());
    refused(&r, "no `bitnet.profile`");
}

#[test]
fn an_unknown_profile_is_refused() {
    let (file, _) = good();
    let mut model = Opened::new(&file).loaded.model.clone();
    model.metadata_props.iter_mut().filter(|m| m.key == "bitnet.profile").for_each(|m| m.value = "huge".into());
    let r = changed("huge.onnx", |b| *b = model.encode_to_vec());
    refused(&r, "the profile `huge`");
}

#[test]
fn missing_weights_are_named() {
    let (file, packed) = good();
    let folder = place().join("alone");
    std::fs::create_dir_all(&folder).unwrap();
    let copy = folder.join("model.onnx");
    std::fs::copy(&file, &copy).unwrap();
    let r = verify(&copy, &packed, "").never_panicked();
    refused(&r, ".onnx.data");
}

#[test]
fn a_changed_weight_is_found_and_its_operation_named() {
    let (file, packed) = good();
    let o = Opened::new(&file);
    // The weights of the first layer that an int8 matrix holds.
    let t = o
        .graph()
        .initializer
        .iter()
        .find(|t| t.data_type == crate::graph::INT8 && !t.external_data.is_empty())
        .unwrap();
    let number = |key: &str| t.external_data.iter().find(|e| e.key == key).unwrap().value.parse::<usize>().unwrap();
    let folder = place().join("flipped");
    std::fs::create_dir_all(&folder).unwrap();
    let copy = folder.join(file.file_name().unwrap());
    let mut data = std::fs::read(format!("{}.data", file.display())).unwrap();
    for b in &mut data[number("offset")..][..number("length").min(4096)] {
        *b = (*b as i8).wrapping_neg() as u8;
    }
    std::fs::write(format!("{}.data", copy.display()), data).unwrap();
    std::fs::copy(&file, &copy).unwrap();
    refused(&verify(&copy, &packed, "--quick").never_panicked(), "not those that this model was written with");
    // Without the digest only running it tells.
    let mut model = o.loaded.model.clone();
    model.metadata_props.retain(|m| m.key != DATA_DIGEST);
    std::fs::write(&copy, model.encode_to_vec()).unwrap();
    let r = verify(&copy, &packed, "--quick").never_panicked();
    assert_eq!(r.code, Some(1), "{r:?}");
    let v = r.json();
    assert_eq!(v["result"], "differs");
    assert!(v["differing"].as_u64() > Some(0), "{v}");
    let at = v["at"].as_str().unwrap();
    assert!(at.contains("prompt 0, token") && at.contains("(LINEAR)"), "{at}");
}

#[test]
fn damaged_bytes_never_panic() {
    let mut rng = Rng(7);
    for i in 0..crate::common::cases(24) {
        let r = changed(&format!("damaged{i}.onnx"), |b| {
            for _ in 0..1 + i % 3 {
                let at = rng.below(b.len());
                b[at] ^= 1 << rng.below(8);
            }
        });
        assert!(r.code.is_some(), "ended by a signal: {r:?}");
    }
}
