//! Converting as a matter of files: keys, names, alignment, parts, outputs.

use crate::common::{command, finish, listing};
use crate::convert::{codes, llama, row, stored, Bench, UP};
use crate::writer::*;
use bitnet_convert::encoding::blocks::Block;
use bitnet_convert::error::Kind as ErrorKind;
use bitnet_convert::export::gguf::convert::{convert, Request};
use bitnet_convert::export::gguf::Kind;
use bitnet_convert::format::gguf::parse;
use bitnet_convert::format::File;
use bitnet_convert::progress::Silent;
use std::path::Path;

/// A matrix of 256 columns in I2_S.
pub fn matrix(name: &str) -> Tensor {
    tensor(name, &[256, 2], 36, stored(Block::I2S, &codes(512, &[-1, 0, 1]), |_| 0.5))
}

/// Keys of a file with the bytes of their values.
fn wire(file: &[u8]) -> Vec<(String, Vec<u8>)> {
    let spans = parse(file).unwrap().metadata;
    spans.spans().iter().map(|(k, r)| (k.clone(), file[r.clone()].to_vec())).collect()
}

// ---- keys ----

#[test]
fn keys_go_through_byte_for_byte_in_their_order() {
    let g = llama()
        .key("z.unknown", Wire(11, vec![0xFF; 8]))
        .key("general.file_type", u32v(40))
        .key("a.float", Wire(12, 0.1f64.to_le_bytes().to_vec()))
        .key("a.nan", f32v(f32::NAN))
        .key("tokenizer.ggml.model", strv("gpt2"))
        .key("tokenizer.ggml.tokens", strings(&["a", "", "\u{2581}é", "\u{1F600}"]))
        .key("tokenizer.ggml.scores", f32s(&[0.0, -1.0, f32::MIN, 1e-40]))
        .key("tokenizer.ggml.token_type", i32s(&[1, 2, -3, 6]))
        .key("empty", list(4, 0, vec![]))
        .key("truths", list(7, 3, vec![1, 0, 1]))
        .key("tokenizer.chat_template", strv("{{ \"\\n\" }}\r\n\u{0}"))
        .with(matrix(UP));
    let bench = Bench::new(&g);
    let before = wire(&g.bytes());
    for kind in [Kind::Tq2_0, Kind::Q8_0] {
        bench.to(kind);
        let after = wire(&std::fs::read(bench.out()).unwrap());
        let own = |k: &str| k == "general.file_type" || k == "general.quantization_version";
        let rest = |all: &[(String, Vec<u8>)]| all.iter().filter(|(k, _)| !own(k)).cloned().collect::<Vec<_>>();
        assert_eq!(rest(&before), rest(&after));
        // One changes where it stands, the other was not there.
        let names: Vec<&str> = after.iter().map(|(k, _)| &k[..]).collect();
        assert_eq!((names[2], names[names.len() - 1]), ("general.file_type", "general.quantization_version"));
        let file_type = if kind == Kind::Tq2_0 { 37 } else { 7 };
        assert_eq!(after[2].1, [&[4, 0, 0, 0][..], &[file_type, 0, 0, 0]].concat());
    }
}

#[test]
fn other_alignments_stay_and_padding_is_zero() {
    for alignment in [1, 8, 64, 4096] {
        let g = Gguf { alignment, ..llama() }
            .key("general.alignment", u32v(alignment as u32))
            .with(floats("odd", &[3]))
            .with(matrix(UP))
            .with(floats("norm", &[7]));
        let bench = Bench::new(&g);
        let (_, made) = bench.to(Kind::Tq1_0);
        let bytes = std::fs::read(bench.out()).unwrap();
        let header = parse(&bytes).unwrap();
        assert_eq!(header.metadata.u64("general.alignment").unwrap(), Some(alignment as u64));
        assert_eq!(bytes.len() % alignment, 0);
        let mut used = vec![false; bytes.len()];
        for name in ["odd", UP, "norm"] {
            let t = made.get(name).unwrap();
            assert_eq!(t.offset % alignment as u64, 0, "{name} at an alignment of {alignment}");
            used[t.offset as usize..][..t.data.len()].fill(true);
        }
        let first = used.iter().position(|u| *u).unwrap();
        assert!((first..bytes.len()).all(|i| used[i] || bytes[i] == 0), "padding at an alignment of {alignment}");
    }
}

#[test]
fn the_same_bytes_each_time() {
    let bench = Bench::new(&llama().with(matrix(UP)).with(floats("norm", &[256])));
    bench.to(Kind::Tq2_0);
    let first = std::fs::read(bench.out()).unwrap();
    bench.to(Kind::Tq2_0);
    assert!(first == std::fs::read(bench.out()).unwrap());
}

// ---- names of architectures ----

fn named(arch: &str) -> Gguf {
    let key = format!("{arch}.context_length");
    Gguf::default().key("general.architecture", strv(arch)).key(&key, u32v(64)).with(matrix(UP))
}

#[test]
fn names_of_bitnet_cpp_are_refused_for_llama_cpp() {
    for arch in ["bitnet-b1.58", "bitnet-25"] {
        let e = Bench::new(&named(arch)).refused(Kind::Tq2_0, &[arch, "squared ReLU", "SiLU", "--force-arch"]);
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        // I2_S is for the program that knows the name.
        let (done, _) = Bench::new(&named(arch)).to(Kind::I2S);
        assert_eq!(done.architecture.as_deref(), Some(arch));
    }
    for arch in ["bitnet", "llama", "a-name-of-tomorrow"] {
        assert_eq!(Bench::new(&named(arch)).to(Kind::Tq2_0).0.architecture.as_deref(), Some(arch));
    }
}

#[test]
fn a_forced_name_renames_the_keys() {
    let bench = Bench::new(&named("bitnet-b1.58"));
    let to = |name| Request { kind: Kind::Tq2_0, force_arch: Some(name) };
    let done = convert(&bench.source(), &to("bitnet"), Some(&bench.out()), &Silent).unwrap();
    assert!(done.warnings.len() == 1 && done.warnings[0].contains("`bitnet` was forced in place of `bitnet-b1.58`"));
    let made = File::open(&bench.out()).unwrap();
    let m = made.metadata().unwrap();
    assert_eq!(m.str("general.architecture").unwrap(), Some("bitnet"));
    assert_eq!((m.u64("bitnet.context_length").unwrap(), m.get("bitnet-b1.58.context_length")), (Some(64), None));
    let same = convert(&bench.source(), &to("bitnet-b1.58"), Some(&bench.out()), &Silent).unwrap();
    assert!(same.warnings.is_empty());
}

#[test]
fn a_forced_name_that_is_none() {
    let bench = Bench::new(&named("llama"));
    for name in ["", "a b", "a\u{1b}[2J", "ü", &"n".repeat(64)] {
        let request = Request { kind: Kind::Tq2_0, force_arch: Some(name) };
        let e = convert(&bench.source(), &request, Some(&bench.out()), &Silent).expect_err(name);
        assert!(e.kind() == ErrorKind::Usage && e.to_string().contains("no name of an architecture"), "{e}");
        assert!(!e.to_string().contains('\u{1b}') && !bench.out().exists());
    }
}

#[test]
fn a_forced_name_under_which_keys_would_meet() {
    let bench = Bench::new(&named("bitnet-b1.58").key("bitnet.context_length", u32v(1)));
    let request = Request { kind: Kind::Tq2_0, force_arch: Some("bitnet") };
    let e = convert(&bench.source(), &request, Some(&bench.out()), &Silent).expect_err("twice");
    assert!(e.to_string().contains("`bitnet.context_length` would stand in the file twice"), "{e}");
}

// ---- parts ----

fn parts(dir: &Path) -> Vec<std::path::PathBuf> {
    let part = |no: u32| {
        let g = if no == 0 { llama().key("general.name", strv("split")) } else { Gguf::default() };
        g.key("split.no", Wire(2, (no as u16).to_le_bytes().to_vec()))
            .key("split.count", Wire(2, 3u16.to_le_bytes().to_vec()))
            .key("split.tensors.count", Wire(5, 4i32.to_le_bytes().to_vec()))
    };
    let files =
        [part(0).with(matrix("z")), part(1).with(matrix("a")).with(floats("norm", &[256])), part(2).with(matrix("m"))];
    let path = |i: usize| dir.join(format!("model-{:05}-of-00003.gguf", i + 1));
    files.iter().enumerate().for_each(|(i, g)| std::fs::write(path(i), g.bytes()).unwrap());
    (0..3).map(path).collect()
}

#[test]
fn parts_become_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let paths = parts(dir.path());
    let (out, request) = (dir.path().join("out.gguf"), Request { kind: Kind::Tq2_0, force_arch: None });
    // Any part leads to all.
    convert(&paths[1], &request, Some(&out), &Silent).unwrap();
    let done = convert(&paths[0], &request, Some(&out), &Silent).unwrap();
    let names: Vec<&str> = done.tensors.iter().map(|t| &t.row.name[..]).collect();
    assert_eq!(names, ["z", "a", "norm", "m"], "the order of the parts and of their tensors");
    let made = File::open(&out).unwrap();
    let whole = matrix("z");
    for name in ["z", "a", "m"] {
        let source = File::from_bytes(llama().with(whole.clone()).bytes(), Path::new("x.gguf")).unwrap();
        assert_eq!(made.get(name).unwrap().to_f32().unwrap(), source.get("z").unwrap().to_f32().unwrap(), "{name}");
    }
    let keys: Vec<String> = wire(&std::fs::read(&out).unwrap()).into_iter().map(|(k, _)| k).collect();
    assert!(keys.contains(&"general.name".into()) && !keys.iter().any(|k| k.starts_with("split.")), "{keys:?}");
}

#[test]
fn a_part_that_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let paths = parts(dir.path());
    std::fs::remove_file(&paths[2]).unwrap();
    let request = Request { kind: Kind::Tq2_0, force_arch: None };
    let e = convert(&paths[0], &request, Some(&dir.path().join("out.gguf")), &Silent).expect_err("a part is missing");
    assert!(e.to_string().contains("this part of the model is missing"), "{e}");
}

#[test]
fn two_parts_with_a_tensor_of_one_name() {
    let dir = tempfile::tempdir().unwrap();
    let paths = parts(dir.path());
    let bytes = std::fs::read(&paths[2]).unwrap();
    let at = bytes.windows(9).position(|w| w == b"\x01\0\0\0\0\0\0\0m").unwrap();
    let mut bytes = bytes;
    bytes[at + 8] = b'z';
    std::fs::write(&paths[2], bytes).unwrap();
    let request = Request { kind: Kind::Tq2_0, force_arch: None };
    let e = convert(&paths[0], &request, Some(&dir.path().join("out.gguf")), &Silent).expect_err("`z` is there twice");
    assert!(e.to_string().contains("two tensors have this name"), "{e}");
}

// ---- outputs ----

#[test]
fn the_source_is_not_replaced() {
    let bench = Bench::new(&llama().with(matrix(UP)));
    let before = std::fs::read(bench.source()).unwrap();
    let link = bench.source().with_file_name("link.gguf");
    std::os::unix::fs::symlink("in.gguf", &link).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let parts = parts(dir.path());
    for (from, out) in [(bench.source(), bench.source()), (bench.source(), link), (parts[0].clone(), parts[2].clone())]
    {
        let request = Request { kind: Kind::Tq2_0, force_arch: None };
        let e = convert(&from, &request, Some(&out), &Silent).expect_err("the output is the input");
        assert!(e.kind() == ErrorKind::Usage && e.to_string().contains("the output is the file that is converted"));
    }
    assert!(std::fs::read(bench.source()).unwrap() == before && parts.iter().all(|p| File::open(p).is_ok()));
}

/// 2 MB of codes, so that there is a middle.
fn large() -> Bench {
    let n = 1 << 23;
    let data = [vec![0b10_01_00_10; n / 4], Block::i2_s_tail(0.5).to_vec()].concat();
    Bench::new(&llama().with(tensor(UP, &[1 << 12, (n >> 12) as u64], 36, data)))
}

#[test]
fn a_run_that_fails_in_the_middle_leaves_the_old_file() {
    let bench = large();
    std::fs::write(bench.out(), "old").unwrap();
    let mut c = std::process::Command::new("sh");
    // Files may not become longer than a megabyte.
    c.args(["-c", "trap '' XFSZ && ulimit -f 2048 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_bitnet-convert")]);
    c.args(["export", "--format", "gguf", "--type", "tq2_0", "-q", "--model"]).arg(bench.source()).arg("-o");
    let run = finish(c.arg(bench.out())).never_panicked();
    assert!(run.code == Some(2) && run.stderr.contains("cannot write the output"), "{run:?}");
    assert_eq!(std::fs::read(bench.out()).unwrap(), b"old");
    assert_eq!(listing(bench.out().parent().unwrap()), ["in.gguf", "out.gguf"]);
}

#[test]
fn a_run_that_is_killed_leaves_a_whole_file() {
    let bench = large();
    std::fs::write(bench.out(), "old").unwrap();
    let folder = bench.out().parent().unwrap().to_path_buf();
    let mut c = command();
    c.args(["export", "--format", "gguf", "--type", "tq1_0", "-q", "--model"]).arg(bench.source()).arg("-o");
    let mut child = c.arg(bench.out()).spawn().unwrap();
    // As soon as there is something beside the two.
    while listing(&folder).len() == 2 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let now = std::fs::read(bench.out()).unwrap();
    assert!(now == b"old" || parse(&now).is_ok(), "neither the old file nor the new one");
    assert_eq!(row(&bench.to(Kind::Tq1_0).0, UP).row.to, "TQ1_0");
}

#[test]
fn the_command_line() {
    let bench = Bench::new(&llama().with(matrix(UP)).with(floats("token_embd.weight", &[32, 4])));
    let run = |more: &[&str]| {
        let mut c = command();
        c.args(["export", "--format", "gguf", "--model"]).arg(bench.source()).arg("-o").arg(bench.out());
        finish(c.args(more)).never_panicked()
    };
    let none = run(&[]);
    assert!(none.code == Some(2) && none.stderr.contains("add `--type tq2_0`"), "{none:?}");
    let dry = run(&["--type", "tq2_0", "--dry-run"]).ok();
    assert!(dry.stdout.contains("I2_S to TQ2_0      1 tensors"), "{}", dry.stdout);
    assert!(dry.stdout.contains("token_embd.weight [4, 32] is F32") && !bench.out().exists(), "{}", dry.stdout);
    let said = run(&["--type", "tq2_0", "--json"]).ok().json();
    assert_eq!(said["bytes"], std::fs::metadata(bench.out()).unwrap().len());
    assert_eq!(said["tensors"][0]["name"], UP);
    assert_eq!((&said["tensors"][0]["from"], &said["tensors"][0]["to"]), (&"I2_S".into(), &"TQ2_0".into()));
    assert_eq!((&said["tensors"][0]["exact"], &said["type"]), (&true.into(), &"TQ2_0".into()));
    assert!(run(&["--type", "tq2_0", "-q"]).ok().stderr.is_empty());
}

/// What has no codes is rounded as the weights of any checkpoint are.
#[test]
fn floats_are_rounded_to_eight_bits_and_to_f16() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gguf/tiny-llama.gguf");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.gguf");
    for (kind, name, most) in [("q8_0", "Q8_0", 3e-3), ("f16", "F16", 2e-4), ("f32", "F32", 0.0)] {
        let mut c = command();
        c.args(["export", "--format", "gguf", "-q", "--type", kind, "--model"]).arg(&source).arg("-o").arg(&out);
        finish(&mut c).ok();
        let (before, after) = (File::open(&source).unwrap(), File::open(&out).unwrap());
        for part in ["attn_q", "ffn_gate", "ffn_up", "ffn_down"] {
            let tensor = format!("blk.1.{part}.weight");
            assert_eq!(after.get(&tensor).unwrap().dtype.name(), name);
            let of = |f: &File| f.get(&tensor).unwrap().to_f32().unwrap();
            let worst = of(&before).iter().zip(of(&after)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= most, "{tensor} as {kind}: off by {worst}");
        }
    }
}
