//! Checkpoints of torch: what Python's pickle and zip modules write is read to the byte; what lies, or asks for code, is refused by its name.

#[path = "common/torch.rs"]
mod torch;

use bitnet_convert::digest::{hex, sha256};
use bitnet_convert::error::{Kind, Result};
use bitnet_convert::format::File;
use bitnet_convert::import::import;
use bitnet_convert::tensor::DType;
use std::path::{Path, PathBuf};
use std::process::Command;
use torch::{archive, archive64, checkpoint, int, state, tensor, text, tuple};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn open(file: Vec<u8>) -> Result<File> {
    File::from_bytes(file, Path::new("pytorch_model.bin"))
}

#[track_caller]
fn refused(file: Vec<u8>, kind: Kind, words: &[&str]) {
    let Err(e) = open(file) else { panic!("this was accepted, the reason is missing: {words:?}") };
    assert_eq!(e.kind(), kind, "{e}");
    let all = format!("{e} {}", e.next_step().unwrap_or(""));
    for w in words {
        assert!(all.contains(w), "`{w}` is not in: {all}");
    }
}

#[track_caller]
fn damaged(pickle: &[u8], words: &[&str]) {
    refused(checkpoint(pickle), Kind::Input, words);
}

#[track_caller]
fn unsupported(pickle: &[u8], words: &[&str]) {
    refused(checkpoint(pickle), Kind::Unsupported, words);
}

/// A tensor of the storage that `checkpoint` has, f32 0 to 15.
#[track_caller]
fn bad_tensor(t: &[u8], words: &[&str]) {
    damaged(&state("layer.w", t), &[&["layer.w"], words].concat());
}

// ---- what is right ----

#[test]
fn files_are_what_python_reads_in_them() {
    let expected = std::fs::read(root().join("tests/data/torch/expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
    for (name, tensors) in expected.as_object().unwrap() {
        let path = match name.strip_suffix(".bin") {
            Some(_) => root().join("tests/data/torch").join(name),
            None => root().join("fixtures/golden").join(name).join("pytorch_model.bin"),
        };
        let file = File::open(&path).unwrap_or_else(|e| panic!("{e}"));
        let tensors = tensors.as_object().unwrap();
        assert!(!tensors.is_empty(), "{name}");
        for (tensor, want) in tensors {
            let t = file.get(tensor).unwrap_or_else(|| panic!("{name}: {tensor} is missing"));
            assert_eq!(serde_json::json!([t.dtype.name(), t.shape, hex(&sha256(t.data))]), *want, "{name}: {tensor}");
            let mapped = t.offset > 0;
            let copied = name == "strided.bin";
            assert_eq!(mapped, !copied, "{name}: {tensor} is copied only if it is strided");
        }
        let others = file.names().filter(|n| !tensors.contains_key(*n)).collect::<Vec<_>>();
        assert_eq!(others, if name == "nested.bin" { vec!["note", "steps"] } else { vec![] }, "{name}");
    }
}

#[test]
fn python_makes_the_same_files_again() {
    let dir = tempfile::tempdir().unwrap();
    let script = root().join("fixtures/reader/torch_files.py");
    let Ok(run) = Command::new("python3").env("PYTHONDONTWRITEBYTECODE", "1").arg(script).arg(dir.path()).output()
    else {
        println!("not run: python3 is not here");
        return;
    };
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    for name in ["mixed.bin", "strided.bin", "nested.bin", "expected.json"] {
        let (old, new) = (root().join("tests/data/torch").join(name), dir.path().join(name));
        assert_eq!(std::fs::read(old).unwrap(), std::fs::read(new).unwrap(), "{name}");
    }
}

#[test]
fn a_tensor_of_a_literal_file() {
    for file in [checkpoint(&state("w", &tensor("0", 16, 4, &[2, 3], &[3, 1]))), {
        let storage: Vec<u8> = (0..16).flat_map(|i| (i as f32).to_le_bytes()).collect();
        archive64(&[("m/data.pkl", &state("w", &tensor("0", 16, 4, &[2, 3], &[3, 1]))), ("m/data/0", &storage)])
    }] {
        let f = open(file).unwrap_or_else(|e| panic!("{e}"));
        let t = f.get("w").unwrap();
        assert_eq!((t.dtype, t.shape), (DType::F32, &[2, 3][..]));
        assert_eq!(t.to_f32().unwrap(), [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    }
}

#[test]
fn values_that_are_no_tensors_are_listed() {
    let f = open(checkpoint(b"\x80\x02}(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00bNu.")).unwrap();
    for name in ["a", "b"] {
        let t = f.get(name).unwrap();
        assert_eq!((t.dtype.name(), t.shape), ("no tensor", &[0][..]));
        assert!(t.to_f32().is_err());
    }
}

#[test]
fn a_stride_of_a_dimension_of_one_may_be_anything() {
    let f = open(checkpoint(&state("w", &tensor("0", 16, 0, &[2, 1, 2], &[1, i64::MAX, 2])))).unwrap();
    assert_eq!(f.get("w").unwrap().to_f32().unwrap(), [0.0, 2.0, 1.0, 3.0]);
}

// ---- folders ----

#[test]
fn a_folder_with_a_torch_file_is_exported() {
    let model = root().join("fixtures/golden/llama_bin");
    let mut tool = Command::new(env!("CARGO_BIN_EXE_bitnet-convert"));
    let run = tool
        .args(["export", "--dry-run", "--quantize-weight", "1.58", "--quantize-activation", "8", "--model"])
        .arg(&model)
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn shards_of_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let golden = root().join("fixtures/golden/llama_bin");
    std::fs::copy(golden.join("config.json"), dir.path().join("config.json")).unwrap();
    std::fs::copy(golden.join("pytorch_model.bin"), dir.path().join("a.bin")).unwrap();
    // A buffer, so that the model stays whole.
    let buffer = "model.layers.0.self_attn.rotary_emb.inv_freq";
    let b = checkpoint(&state(buffer, &tensor("0", 16, 0, &[16], &[1])));
    std::fs::write(dir.path().join("b.bin"), b).unwrap();
    let import_with = |w: &str, file: &str| {
        let json = format!(r#"{{"weight_map":{{"lm_head.weight":"a.bin","{w}":"{file}"}}}}"#);
        std::fs::write(dir.path().join("pytorch_model.bin.index.json"), json).unwrap();
        import(dir.path())
    };
    assert!(import_with(buffer, "b.bin").is_ok());
    for (w, file, words) in [
        ("other", "b.bin", "no file has it"),
        (buffer, "a.bin", "no file has it"),
        (buffer, "../b.bin", "as file of a tensor"),
        (buffer, "c.bin", "cannot open"),
    ] {
        let e = import_with(w, file).err().unwrap();
        assert!(e.to_string().contains(words), "{e}");
    }
}

// ---- code ----

#[test]
fn names_that_could_run_code_are_refused_by_name() {
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("__builtin__", "eval"),
        ("subprocess", "Popen"),
        ("torch._utils", "_rebuild_tensor_v3"),
        ("torch._utils", "_rebuild_tensor_v2 "),
        ("torch.storage", "UntypedStorage"),
        ("torch", "QInt8Storage"),
        ("torch", "load"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("_codecs", "encode"),
        ("runpy", "_run_code"),
    ] {
        let words = [&format!("`{module}.{name}`")[..], "no code of a checkpoint is ever run", "byte "];
        let call = format!("c{module}\n{name}\nX\x02\0\0\0ls");
        unsupported(&[b"\x80\x02", call.as_bytes(), b"\x85R."].concat(), &words);
        let by_stack = [&text(module)[..], &text(name), b"\x93X\x02\0\0\0ls\x85R."].concat();
        unsupported(&[b"\x80\x04", &by_stack[..]].concat(), &words);
    }
}

#[test]
fn a_name_as_long_as_the_file_is_cut_in_the_message() {
    let e = open(checkpoint(&[b"\x80\x02c", "a".repeat(100_000).as_bytes(), b"\nb\n."].concat())).err().unwrap();
    assert!(e.message().len() < 300, "{e}");
}

#[test]
fn operations_that_make_objects_are_refused() {
    // INST, OBJ, NEWOBJ, NEWOBJ_EX, EXT1, PERSID, NEXT_BUFFER.
    for op in *b"io\x81\x92\x82P\x97" {
        let pickle = [b"\x80\x02ccollections\nOrderedDict\n)", &[op][..], b"a\nb\n."].concat();
        unsupported(&pickle, &[&format!("operation 0x{op:02X}"), "no code"]);
    }
}

#[test]
fn calls_of_what_is_not_callable() {
    damaged(b"\x80\x02K\x01)R.", &["calls what is not callable"]);
    damaged(b"\x80\x02}K\x01\x85R.", &["calls what is not callable"]);
    damaged(b"\x80\x02ccollections\nOrderedDict\nK\x01R.", &["arguments that are no tuple"]);
    unsupported(b"\x80\x02ctorch\nFloatStorage\n)R.", &["calls a storage type"]);
    unsupported(b"\x80\x02ccollections\nOrderedDict\nK\x01\x85R.", &["1 arguments"]);
    unsupported(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", &["0 arguments"]);
    damaged(b"\x80\x02ctorch._utils\n_rebuild_parameter\n(K\x01\x89}tR.", &["a parameter without tensor"]);
    unsupported(b"\x80\x02K\x01}b.", &["sets attributes"]);
}

// ---- the machine ----

#[test]
fn pickles_that_stop_too_early() {
    let good = state("w", &tensor("0", 16, 0, &[4, 4], &[4, 1]));
    assert!(open(checkpoint(&good)).is_ok());
    for n in 0..good.len() {
        assert!(open(checkpoint(&good[..n])).is_err(), "the first {n} bytes");
    }
    damaged(&[&good[..], b"N."].concat(), &["2 bytes follow its end"]);
}

#[test]
fn an_empty_stack_and_marks_that_are_missing() {
    for pickle in
        [&b"\x80\x02."[..], b"\x80\x020.", b"\x80\x022.", b"\x80\x02K\x01(0.", b"\x80\x02\x85.", b"\x80\x02q\0."]
    {
        damaged(pickle, &["empty stack"]);
    }
    for pickle in [&b"\x80\x02t."[..], b"\x80\x02}u.", b"\x80\x02]e.", b"\x80\x021."] {
        damaged(pickle, &["did not begin"]);
    }
    damaged(b"\x80\x02}(K\x01u.", &["a key without value"]);
    damaged(b"\x80\x02K\x01K\x02.", &["left over"]);
    damaged(b"\x80\x02](.", &["empty stack"]);
    damaged(b"\x80\x02K\x01K\x02K\x03s.", &["no dict"]);
    damaged(b"\x80\x02K\x01K\x02a.", &["no list"]);
    damaged(b"\x80\x04K\x01K\x02\x93.", &["no text"]);
}

#[test]
fn memo_numbers_that_were_never_stored() {
    damaged(b"\x80\x02h\x07.", &["value 7, which it never stored"]);
    damaged(b"\x80\x02j\xFF\xFF\xFF\xFF.", &["value 4294967295"]);
}

#[test]
fn a_huge_memo_number_costs_nothing() {
    let f = open(checkpoint(b"\x80\x02}r\xFF\xFF\xFF\xFF0j\xFF\xFF\xFF\xFF.")).unwrap();
    assert!(f.is_empty());
}

#[test]
fn lengths_beyond_the_file() {
    for pickle in [
        &b"\x80\x02X\xFF\xFF\xFF\xFFab."[..],
        b"\x80\x02T\xFF\xFF\xFF\x7Fab.",
        b"\x80\x04\x8D\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFFab.",
        b"\x80\x04\x8E\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7Fab.",
        b"\x80\x02\x8B\xFF\xFF\xFF\xFFab.",
        b"\x80\x02\x8A\xFFab.",
        b"\x80\x02G\0\0.",
    ] {
        damaged(pickle, &["bytes wanted", "byte "]);
    }
    damaged(b"\x80\x04\x95\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF}.", &["a frame of 18446744073709551615 bytes"]);
    damaged(b"\x80\x02cos", &["a name without end"]);
    damaged(b"\x80\x02X\x01\0\0\0\xFF.", &["not UTF-8"]);
}

#[test]
fn deep_nesting_uses_no_stack_of_ours() {
    let deep = [&b"\x80\x02)"[..], &[0x85; 1_000_000], b"."].concat();
    unsupported(&deep, &["holds no dict of tensors"]);
    unsupported(&[&b"\x80\x02"[..], &[b'('; 1000], b"."].concat(), &["groups lie in each other"]);
    // A dict in itself.
    let f = open(checkpoint(b"\x80\x02}q\0X\x05\0\0\0modelh\0s.")).unwrap();
    assert_eq!(f.names().collect::<Vec<_>>(), ["model"]);
}

#[test]
fn more_values_than_any_model_has() {
    let many = (1 << 22) + 1;
    unsupported(&[&b"\x80\x02"[..], &vec![b'}'; many], b"."].concat(), &["more than 4194304 values"]);
    unsupported(&[&b"\x80\x02N"[..], &vec![b'2'; many], b"."].concat(), &["on its stack"]);
}

#[test]
fn other_protocols() {
    for head in [&b"\x80\x01}."[..], b"\x80\x05}.", b"}.", b"(dp0\n."] {
        unsupported(head, &["protocol 2, 3 or 4"]);
    }
}

#[test]
fn references_that_are_no_storage() {
    damaged(b"\x80\x02NQ.", &["a reference that is no"]);
    damaged(b"\x80\x02)Q.", &["a reference that is no"]);
    let wrong = tuple(&[text("module"), b"ctorch\nFloatStorage\n".to_vec(), text("0"), text("cpu"), int(16)]);
    damaged(&[b"\x80\x02", &wrong[..], b"Q."].concat(), &["a reference that is no"]);
    let wrong = tuple(&[text("storage"), text("FloatStorage"), text("0"), text("cpu"), int(16)]);
    damaged(&[b"\x80\x02", &wrong[..], b"Q."].concat(), &["a reference that is no"]);
}

// ---- tensors ----

#[test]
fn keys_that_are_paths() {
    for key in ["..", "../data.pkl", "a/b", "a\\b", "", "/etc/passwd"] {
        bad_tensor(&tensor(key, 16, 0, &[16], &[1]), &["is no key of a storage"]);
    }
}

#[test]
fn a_storage_that_is_missing() {
    bad_tensor(&tensor("1", 16, 0, &[16], &[1]), &["`m/data/1` is not in the archive"]);
}

#[test]
fn element_counts_that_lie() {
    for n in [0, 15, 17, -1, i64::MAX, i64::MIN, 1 << 62] {
        bad_tensor(&tensor("0", n, 0, &[16], &[1]), &["has 64 bytes", &format!("{n} elements"), "byte "]);
    }
}

#[test]
fn views_that_leave_their_storage() {
    let max = i64::MAX;
    for (offset, size, stride) in [
        (1, &[16][..], &[1][..]),
        (16, &[1], &[1]),
        (max, &[2], &[1]),
        (0, &[4, 4], &[5, 1]),
        (0, &[2], &[max]),
        (0, &[3], &[max]),
        (1, &[max], &[1]),
        (0, &[max, max], &[0, 0]),
        (0, &[max, max, 0], &[1, 1, 1]),
        // Repeats its elements beyond any bound.
        (0, &[17], &[0]),
        (0, &[1 << 40], &[0]),
    ] {
        bad_tensor(&tensor("0", 16, offset, size, stride), &["leaves its storage of 16 elements"]);
    }
    bad_tensor(&tensor("0", 16, -1, &[1], &[1]), &["its offset has -1"]);
    bad_tensor(&tensor("0", 16, 15, &[2], &[-1]), &["its strides has -1"]);
    bad_tensor(&tensor("0", 16, 0, &[-4, -4], &[4, 1]), &["its shape has -4"]);
    bad_tensor(&tensor("0", 16, 0, &[4, 4], &[1]), &["2 dimensions and 1 strides"]);
    unsupported(&state("w", &tensor("0", 16, 0, &[1; 65], &[1; 65])), &["65 dimensions", "tensor `w`"]);
}

#[test]
fn strided_views_together_are_bounded() {
    let t = tensor("0", 16, 0, &[4, 4], &[1, 4]);
    let tensor = [b"q\x01", &t[..], b"q\x02"].concat();
    let mut pickle = [b"\x80\x02}", &text("first")[..], &tensor, b"s"].concat();
    for i in 0..500 {
        pickle.extend([&text(&format!("{i}"))[..], b"h\x02s"].concat());
    }
    pickle.push(b'.');
    unsupported(&pickle, &["longer than the file"]);
}

#[test]
fn one_name_for_two_tensors() {
    let t = tensor("0", 16, 0, &[16], &[1]);
    let pickle = [b"\x80\x02}", &text("w")[..], &t, b"s", &text("w"), &t, b"s."].concat();
    damaged(&pickle, &["this name twice", "tensor `w`"]);
    unsupported(b"\x80\x02}K\x01K\x02s.", &["a key that is no text"]);
}

// ---- the archive ----

fn good() -> Vec<u8> {
    checkpoint(&state("w", &tensor("0", 16, 0, &[16], &[1])))
}

/// Where the n-th piece with this signature starts.
fn at(file: &[u8], signature: &[u8], n: usize) -> usize {
    let mut found = (0..file.len()).filter(|i| file[*i..].starts_with(signature));
    found.nth(n).expect("the signature")
}

/// The good file, or one with zip64 records, with bytes put over what follows a signature.
fn changed(mut file: Vec<u8>, signature: &[u8], n: usize, offset: usize, bytes: &[u8]) -> Vec<u8> {
    let place = at(&file, signature, n) + offset;
    file[place..place + bytes.len()].copy_from_slice(bytes);
    file
}

const LOCAL: &[u8] = b"PK\x03\x04";
const RECORD: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";

#[test]
fn archives_that_are_cut() {
    for file in [good(), std::fs::read(root().join("tests/data/torch/mixed.bin")).unwrap()] {
        for n in 4..file.len() {
            assert!(open(file[..n].to_vec()).is_err(), "the first {n} bytes");
        }
    }
}

#[test]
fn compressed_and_encrypted_entries() {
    let file = changed(good(), RECORD, 1, 10, &[8, 0]);
    refused(file, Kind::Unsupported, &["`m/data/0` is compressed (method 8)", "unpack to any size"]);
    refused(changed(good(), RECORD, 1, 8, &[1, 0]), Kind::Unsupported, &["`m/data/0` is encrypted"]);
}

#[test]
fn entries_that_share_bytes() {
    // The second record points into the first entry, whose data are a complete local header: a quoted overlap.
    let inner = archive(&[("m/data/0", &[0; 64])]);
    let quoted = &inner[..inner.len() - 22 - 46 - 8];
    let file = archive(&[("m/data.pkl", quoted), ("m/data/0", &[0; 64])]);
    let place = at(&file, LOCAL, 1) as u32;
    let file = changed(file, RECORD, 1, 42, &place.to_le_bytes());
    refused(file, Kind::Input, &["share bytes", "`m/data.pkl` and `m/data/0`"]);
    // Two records of one entry.
    let file = archive(&[("m/data/0", &[0; 64]), ("m/data/0", &[0; 64])]);
    refused(changed(file, RECORD, 1, 42, &[0; 4]), Kind::Input, &["two entries are called `m/data/0`"]);
}

#[test]
fn sizes_that_lie() {
    for size in [65u32, 1000, u32::MAX - 1] {
        let both = [size, size].map(u32::to_le_bytes).concat();
        let file = changed(changed(good(), RECORD, 1, 20, &both), LOCAL, 1, 18, &both);
        refused(file, Kind::Input, &["`m/data/0` claims", "more than there are"]);
        refused(changed(good(), RECORD, 1, 20, &both), Kind::Input, &["contradicts the directory"]);
        refused(changed(good(), RECORD, 1, 24, &both[..4]), Kind::Input, &["two sizes"]);
    }
    refused(changed(good(), RECORD, 1, 24, &[0xFF; 4]), Kind::Input, &["no zip64 field"]);
    // Into the directory.
    let file = changed(good(), RECORD, 1, 42, &(at(&good(), RECORD, 0) as u32).to_le_bytes());
    refused(file, Kind::Input, &["the header of an entry is not where it should be"]);
    refused(changed(good(), RECORD, 1, 42, &[0xFE, 0xFF, 0xFF, 0xFF]), Kind::Input, &["bytes wanted here"]);
    refused(changed(good(), RECORD, 1, 28, &[0xFF, 0xFF]), Kind::Input, &["cut short"]);
    refused(changed(good(), LOCAL, 1, 28, &[0xFF, 0xFF]), Kind::Input, &["more than there are"]);
}

#[test]
fn names_that_lie() {
    refused(changed(good(), RECORD, 1, 46, b"x"), Kind::Input, &["contradicts the directory"]);
    refused(changed(good(), RECORD, 1, 46, &[0xFF]), Kind::Input, &["not UTF-8"]);
    let pickle = state("w", &tensor("0", 16, 0, &[16], &[1]));
    let twice = archive(&[("m/data.pkl", &pickle), ("m/data/0", &[0; 64]), ("m/data/0", &[1; 64])]);
    refused(twice, Kind::Input, &["two entries are called `m/data/0`"]);
    let two = archive(&[("m/data.pkl", &pickle), ("n/data.pkl", &pickle)]);
    refused(two, Kind::Unsupported, &["or more than one"]);
    refused(archive(&[("data.pkl", &pickle)]), Kind::Unsupported, &["no checkpoint of torch"]);
    refused(archive(&[("word/document.xml", b"x")]), Kind::Unsupported, &["no checkpoint of torch"]);
}

#[test]
fn end_records_that_lie() {
    refused(changed(good(), END, 0, 8, &[3, 0, 3, 0]), Kind::Input, &["3 entries do not fit"]);
    refused(changed(good(), END, 0, 8, &[1, 0, 1, 0]), Kind::Input, &["bytes that belong to no entry"]);
    refused(changed(good(), END, 0, 8, &[1, 0, 2, 0]), Kind::Input, &["several parts"]);
    refused(changed(good(), END, 0, 4, &[1]), Kind::Input, &["several parts"]);
    refused(changed(good(), END, 0, 12, &[1, 0, 0, 0]), Kind::Input, &["does not end here"]);
    refused(changed(good(), END, 0, 16, &[0xFF; 4]), Kind::Input, &["does not end here"]);
    refused([good(), b"more".to_vec()].concat(), Kind::Input, &["the end record is not where"]);
}

#[test]
fn zip64_records_that_lie() {
    let wide =
        || archive64(&[("m/data.pkl", &state("w", &tensor("0", 16, 0, &[16], &[1]))[..]), ("m/data/0", &[0; 64])]);
    let (end, locator): (&[u8], &[u8]) = (b"PK\x06\x06", b"PK\x06\x07");
    assert!(open(wide()).is_ok());
    refused(changed(wide(), locator, 0, 8, &[1]), Kind::Input, &["locator points elsewhere"]);
    refused(changed(wide(), locator, 0, 8, &[0xFF; 8]), Kind::Input, &["locator points elsewhere"]);
    refused(changed(wide(), end, 0, 0, b"XX"), Kind::Input, &["the zip64 end record is not where"]);
    refused(changed(wide(), end, 0, 4, &[0xFF; 8]), Kind::Input, &["contradicts itself"]);
    refused(changed(wide(), end, 0, 32, &[3]), Kind::Input, &["contradicts itself"]);
    refused(changed(wide(), end, 0, 24, &[3, 0, 0, 0, 0, 0, 0, 0, 3]), Kind::Input, &["contradict each other"]);
    refused(changed(wide(), end, 0, 40, &[0xFF; 8]), Kind::Input, &["contradict each other"]);
    refused(changed(wide(), end, 0, 48, &[0xFF; 8]), Kind::Input, &["contradict each other"]);
    // The narrow fields leave it to the wide ones, which claim everything.
    let open_ended = changed(wide(), END, 0, 8, &[0xFF; 12]);
    let all = [0xFF; 32];
    refused(changed(open_ended, end, 0, 24, &all), Kind::Input, &["does not end here"]);
}

/// The second entry's sizes and place in a zip64 field, as an entry beyond 4 GB has them.
fn with_wide_entry(values: &[u64], field_len: u16) -> Vec<u8> {
    let mut file = changed(good(), RECORD, 1, 20, &[0xFF; 8]);
    file = changed(file, RECORD, 1, 42, &[0xFF; 4]);
    let field =
        [&[1, 0][..], &field_len.to_le_bytes(), &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()]
            .concat();
    file = changed(file, RECORD, 1, 30, &(field.len() as u16).to_le_bytes());
    let place = at(&file, RECORD, 1) + 46 + "m/data/0".len();
    let size = at(&file, END, 0) - at(&file, RECORD, 0) + field.len();
    file.splice(place..place, field);
    changed(file, END, 0, 12, &(size as u32).to_le_bytes())
}

#[test]
fn entries_with_zip64_fields() {
    let place = at(&good(), LOCAL, 1) as u64;
    let f = open(with_wide_entry(&[64, 64, place], 24)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(f.get("w").unwrap().to_f32().unwrap()[15], 15.0);
    for (values, len, words) in [
        (&[64, 64][..], 16, "zip64 field is too short"),
        (&[64, 64, place], 8, "zip64 field is too short"),
        (&[64, 64, place], 25, "an extra field is cut short"),
        (&[64, 65, place], 24, "two sizes"),
        (&[65, 65, place], 24, "contradicts the directory"),
        (&[u64::MAX, u64::MAX, place], 24, "contradicts the directory"),
        (&[64, 64, u64::MAX], 24, "bytes wanted here"),
        (&[64, 64, u64::MAX - 29], 24, "bytes wanted here"),
        (&[64, 64, 0], 24, "contradicts the directory"),
    ] {
        refused(with_wide_entry(values, len), Kind::Input, &[words, "byte "]);
    }
}

#[test]
fn a_wrong_checksum_of_the_pickle() {
    let file = changed(good(), b"FloatStorage", 0, 0, b"DoublStorage");
    refused(file, Kind::Input, &["the checksum of `data.pkl` is wrong"]);
}

#[test]
fn big_endian_checkpoints() {
    let pickle = state("w", &tensor("0", 16, 0, &[16], &[1]));
    let file = archive(&[("m/data.pkl", &pickle), ("m/byteorder", b"big"), ("m/data/0", &[0; 64])]);
    refused(file, Kind::Unsupported, &["byte order", "`big`"]);
}

#[test]
fn files_of_old_torch_are_recognised() {
    let file = b"\x80\x02\x8A\x0A\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19.\x80\x02M\xE9\x03.".to_vec();
    refused(file, Kind::Unsupported, &["before 1.6", "save it again"]);
}
