//! Adapters: C, Rust and Python compute the same side branches on random models; the irrigation adapter of the fixtures as floats and as bits;
//! files that are damaged, of another model or no adapter.

#[path = "../common/mod.rs"]
mod common;
mod folders;

use bitnet_convert::adapter::{make, Options};
use bitnet_convert::delta::keys::{PublicKey, SecretKey};
use bitnet_convert::format::adapter::{verify, Adapter};
use bitnet_convert::import::{import, lora};
use bitnet_convert::kernels::dot::DotKernel;
use bitnet_convert::model::Lora;
use bitnet_convert::progress::Silent;
use bitnet_convert::runtime::Artifact;
use bitnet_convert::verify::{forced, Extent};
use common::device::{build_host, build_with_runtime, checksums, have, python, random_model, SANITIZERS};
use common::{finish, fixture};
use std::path::{Path, PathBuf};
use std::process::Command;

const TOOLS: [&str; 3] = ["cc", "make", "python3"];
const LORA: &str = "models/intent-w1a2-lora-irrigation";

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// A random model with a random adapter: its bytes, and the path of both.
fn random(seed: u32, dir: &Path) -> (PathBuf, PathBuf) {
    let (model, file) = (dir.join("random.bitnet"), dir.join("adapter.bin"));
    random_model(seed, &model, &[]);
    python("adapter.py", &["--random", &seed.to_string(), text(&model), text(&file)]).ok();
    (model, file)
}

#[test]
fn random_adapters_give_the_same_integers_in_c_rust_and_python() {
    if !have("random adapters", &TOOLS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let host = build_host(dir.path());
    for seed in [1001, 1003, 1010, 7, 30] {
        let (model, file) = random(seed, dir.path());
        let artifact = Artifact::open(&model).unwrap();
        let bound = artifact.adapter(&std::fs::read(&file).unwrap()).unwrap();
        let rust = |adapter| {
            let prompts = forced(&artifact, adapter, DotKernel::Scalar, Extent::default()).unwrap();
            prompts.into_iter().flat_map(|p| p.tokens).collect::<Vec<_>>()
        };
        let want = rust(Some(&bound));
        assert_ne!(want, rust(None), "the adapter of seed {seed} does nothing");
        let in_python = python("adapter.py", &[text(&model), text(&file)]).ok();
        assert_eq!(checksums(&in_python.stdout), want, "Python differs from Rust on seed {seed}");
        let adapter = format!("adapter={}", text(&file));
        let in_c = finish(Command::new(&host).arg(&model).args([&adapter, "trace"])).ok();
        assert_eq!(checksums(&in_c.stdout), want, "C differs from Rust on seed {seed}");
        // The stored trace is that of the model alone, whatever is loaded.
        let test = finish(Command::new(&host).arg(&model).args([&adapter, "selftest"])).ok();
        assert_eq!(test.stdout, "selftest: equal\n");
        // Reading and writing are inverse.
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(Adapter::from_bytes(&bytes).unwrap().to_bytes(None), bytes);
    }
}

/// Loaded, removed and loaded again between tokens; what stays in the cache stays.
#[test]
fn an_adapter_can_be_removed() {
    if !have("removing an adapter", &TOOLS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (model, file) = random(1001, dir.path());
    let artifact = Artifact::open(&model).unwrap();
    let bound = artifact.adapter(&std::fs::read(&file).unwrap()).unwrap();
    let mut session = artifact.session(DotKernel::Scalar);
    let base = session.run(&[1, 2, 3]).unwrap();
    session.set_adapter(Some(&bound));
    session.reset();
    let with = session.run(&[1, 2, 3]).unwrap();
    assert_ne!(base, with);
    session.set_adapter(None);
    session.reset();
    assert_eq!(session.run(&[1, 2, 3]).unwrap(), base);
}

/// The functions of the C runtime with good and bad arguments; two contexts; loaded and removed between tokens.
#[test]
fn the_c_interface_of_adapters() {
    if !have("adapters in C", &TOOLS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = build_with_runtime(dir.path(), "lora_test.c", "cc", &SANITIZERS);
    let other = dir.path().join("other.bitnet");
    random_model(7, &other, &[]);
    for seed in [1001, 1010, 1013] {
        let (model, file) = random(seed, dir.path());
        let run = finish(Command::new(&program).args([&model, &file, &other]));
        assert_eq!(run.code, Some(0), "seed {seed}: {}{}", run.stdout, run.stderr);
    }
}

/// A flipped bit anywhere and a cut at any place: refused by Rust and by C, never a fault. The sanitizers watch.
#[test]
fn damaged_adapters_are_refused() {
    if !have("damaged adapters in C", &TOOLS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let host = build_host(dir.path());
    let (model, file) = random(1001, dir.path());
    let artifact = Artifact::open(&model).unwrap();
    let good = std::fs::read(&file).unwrap();
    let damaged = dir.path().join("damaged.bin");
    let in_c = |bytes: &[u8], what: &str| {
        std::fs::write(&damaged, bytes).unwrap();
        let adapter = format!("adapter={}", text(&damaged));
        let run = finish(Command::new(&host).arg(&model).args([&adapter, "info"]));
        let said = run.stdout + &run.stderr;
        assert!(!said.contains("Sanitizer") && !said.contains("runtime error"), "{what}: {said}");
        assert!(run.code.is_some_and(|c| c != 0), "{what} was accepted by C: {said}");
        assert!(said.contains("adapter"), "{what}: {said}");
    };
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        assert!(artifact.adapter(&bytes).is_err(), "a flipped bit at {at} was accepted");
        if at < 48 && at % 2 == 0 || at % 401 == 0 {
            in_c(&bytes, &format!("a flipped bit at {at}"));
        }
    }
    for len in (0..good.len()).step_by(13).chain([good.len() - 1, good.len() - 4]) {
        assert!(artifact.adapter(&good[..len]).is_err(), "a cut at {len} was accepted");
        if len < 64 || len % 16 == 0 {
            in_c(&good[..len], &format!("a cut at {len}"));
        }
    }
    let longer = [&good[..], &[0; 4]].concat();
    assert!(artifact.adapter(&longer).is_err());
    in_c(&longer, "bytes behind the end");
}

/// Files whose checksum is right and whose contents are not, field by field.
#[test]
fn hostile_adapters_are_refused_by_name() {
    if !have("hostile adapters in C", &TOOLS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let host = build_host(dir.path());
    let (model, file) = random(1001, dir.path());
    let artifact = Artifact::open(&model).unwrap();
    let good = std::fs::read(&file).unwrap();
    let rank = u32::from_le_bytes(good[44..48].try_into().unwrap()) & 0xFFFF;
    let scales = 60;
    let cases: [(usize, u32, &str); 16] = [
        (20, 2, "flags"),
        (20, 1, "bytes behind its end"),
        (24, 0x1234_5678, "made for model"),
        (32, 0, "number of parts"),
        (32, 0xFFFF_FFFF, "number of parts"),
        (36, 0xFFFF_FFFF, "number of matrices"),
        (36, 1000, "another model"),
        (40, 0xFFFF_FFFF, "matrix of a part"),
        (44, 1 << 16, "a rank of 0"),
        (44, 0xFFFF | 1 << 16, "a rank of 65535"),
        (44, rank | 3 << 16, "3 bits a code"),
        (44, rank | 0xFFFF << 16, "65535 bits a code"),
        (48, 0, "rows of a part"),
        (52, 0xFFFF_FFFF, "columns of a part"),
        (56, 0x7FFF_FFFF, "an exponent"),
        (scales, 1, "a scale with mantissa"),
    ];
    for (at, value, why) in cases {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let crc = bitnet_convert::digest::crc32(&bytes[20..]);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        let e = artifact.adapter(&bytes).map(drop).expect_err(why);
        assert!(e.message().contains(why), "{at}: {e}");
        let path = dir.path().join("hostile.bin");
        std::fs::write(&path, bytes).unwrap();
        let run = finish(Command::new(&host).arg(&model).args([&format!("adapter={}", text(&path)), "info"]));
        let said = run.stdout + &run.stderr;
        assert!(run.code.is_some_and(|c| c != 0) && !said.contains("Sanitizer"), "{why}: {said}");
    }
}

struct Base {
    _dir: tempfile::TempDir,
    path: PathBuf,
    artifact: Artifact,
    lora: Lora,
}

fn base() -> Base {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base.bitnet");
    let mut c = Command::new(env!("CARGO_BIN_EXE_bitnet-convert"));
    finish(c.args(["export", "--quiet", "--model"]).arg(fixture("models/intent-w1a2")).arg("-o").arg(&path)).ok();
    let model = import(&fixture("models/intent-w1a2")).unwrap();
    let lora = lora::open(&fixture(LORA), &model).unwrap();
    let artifact = Artifact::open(&path).unwrap();
    Base { _dir: dir, path, artifact, lora }
}

/// More bits keep more; a limit of the size is kept and used, and what is kept is told.
#[test]
fn the_irrigation_adapter_in_few_bits() {
    let b = base();
    let made = |bits, max_size| {
        let o = Options { bits, rank: None, max_size };
        make(&b.artifact, &b.lora, &(0..200).collect::<Vec<u32>>(), &o, &Silent).unwrap()
    };
    let full: Vec<f64> = [1, 2, 4, 8].into_iter().map(|bits| made(bits, None).1.energy).collect();
    assert!(full[3] > 0.999 && full[2] > 0.98 && full[1] > 0.8 && full[0] > 0.6, "{full:?}");
    for limit in [1000, 4096, 16_384] {
        let (adapter, report) = made(2, Some(limit));
        let bytes = adapter.to_bytes(None);
        assert_eq!(bytes.len(), report.bytes);
        assert!(bytes.len() <= limit && bytes.len() + 600 > limit.min(13_000), "{} of {limit}", bytes.len());
        assert_eq!(adapter.parts.len(), report.rows.iter().filter(|r| r.kept > 0).count());
        let bound = b.artifact.adapter(&bytes).unwrap();
        assert_eq!(bound.scratch(), report.scratch);
        // The same input gives the same bytes.
        assert_eq!(made(2, Some(limit)).0.to_bytes(None), bytes);
    }
    let o = Options { bits: 4, rank: None, max_size: Some(100) };
    let e = make(&b.artifact, &b.lora, &[1], &o, &Silent).map(drop).unwrap_err();
    assert!(e.message().contains("hold no rank"), "{e}");
}

/// From the command line: made, signed, run, measured, verified; refused with another model or another key.
#[test]
fn an_adapter_from_end_to_end() {
    let b = base();
    let dir = tempfile::tempdir().unwrap();
    let cli = |args: &[&str]| {
        let mut c = Command::new(env!("CARGO_BIN_EXE_bitnet-convert"));
        finish(c.args(args))
    };
    let secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    // RFC 8032, section 7.1, test 1.
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let key = |name: &str, digits: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("{digits}\n")).unwrap();
        path
    };
    let (private, known) = (key("private", secret), key("public", public));
    let stranger = key("stranger", "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    let bits = dir.path().join("lora-bits.bin");
    let model = fixture("models/intent-w1a2");
    let made = cli(&[
        "adapter",
        "--base",
        text(&model),
        "--lora",
        text(&fixture(LORA)),
        "-o",
        text(&bits),
        "--sign",
        text(&private),
    ])
    .ok();
    assert!(made.stdout.contains("signed") && made.stdout.contains("layers.0.attn.q"), "{}", made.stdout);
    let prompt = "<|system|>You are a sensor assistant.<|user|>schedule irrigation for friday<|assistant|>";
    let run = |more: &[&str]| cli(&[&["run", "--quiet", "--greedy", text(&b.path), "--prompt", prompt], more].concat());
    let with = ["--adapter", text(&bits)];
    assert_eq!(run(&with).ok().stdout, "irrigation_schedule\n");
    assert_ne!(run(&[]).ok().stdout, "irrigation_schedule\n");
    assert_eq!(run(&[&with[..], &["--verify-key", text(&known)]].concat()).ok().stdout, "irrigation_schedule\n");
    let refused = run(&[&with[..], &["--verify-key", text(&stranger)]].concat()).never_panicked();
    assert!(refused.code == Some(2) && refused.stderr.contains("not one of this key"), "{}", refused.stderr);
    let checked =
        cli(&["verify", "--quick", "--target", "host-scalar,host-simd", text(&b.path), with[0], with[1]]).ok();
    assert!(checked.stdout.contains("equal"), "{}", checked.stdout);
    // Another model with the same shapes.
    let other = dir.path().join("other.bitnet");
    cli(&["export", "--quiet", "--model", text(&fixture("models/intent-b158")), "-o", text(&other)]).ok();
    let refused = cli(&["run", "--quiet", text(&other), "--prompt", prompt, with[0], with[1]]).never_panicked();
    assert!(
        refused.code == Some(2) && refused.stderr.contains("another model")
            || refused.stderr.contains("made for model")
    );
    // A signed file that was changed.
    let data = std::fs::read(&bits).unwrap();
    assert!(verify(&data, PublicKey::parse(public.as_bytes()).unwrap().verifying()).is_ok());
    let mut changed = Adapter::from_bytes(&data).unwrap();
    changed.parts[0].factors.h[0] ^= 1;
    let mut again = changed.to_bytes(Some(SecretKey::parse(secret.as_bytes()).unwrap().signing()));
    let at = again.len() - 64;
    again[at..].copy_from_slice(&data[data.len() - 64..]);
    assert!(verify(&again, PublicKey::parse(public.as_bytes()).unwrap().verifying()).is_err());
    assert!(verify(&changed.to_bytes(None), PublicKey::parse(public.as_bytes()).unwrap().verifying()).is_err());
}

/// With the adapter the float reference gives what PEFT gave.
#[cfg(feature = "reference")]
#[test]
fn the_float_reference_with_the_adapter_is_that_of_peft() {
    use bitnet_convert::eval::{fidelity, Subject};
    use bitnet_convert::format::File;
    use bitnet_convert::reference::{Input, Reference};
    let mut model = import(&fixture("models/intent-w1a2")).unwrap();
    model.adapter = Some(lora::open(&fixture(LORA), &model).unwrap());
    let reference = Reference::load(&model).unwrap();
    let path = fixture(LORA).join("golden.safetensors");
    let golden = File::open(&path).unwrap();
    let mut compared = 0;
    for name in golden.names().filter(|n| n.starts_with("input_ids")) {
        let ids = golden.get(name).unwrap();
        let ids: Vec<u32> = ids.data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect();
        let want = golden.get(&name.replacen("input_ids", "logits", 1)).unwrap().to_f32().unwrap();
        let got = reference.forward(&Input::text(&ids)).unwrap().logits.unwrap().data;
        let worst = want.iter().zip(&got).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(want.len() == got.len() && worst < 0.05, "{name}: {worst}");
        compared += want.len();
    }
    assert!(compared > 0);
    // Two-bit activations flip at the smallest change, so even 8-bit factors are some way off; without the adapter it is another model.
    let b = base();
    let o = Options { bits: 8, rank: None, max_size: None };
    let (adapter, _) = make(&b.artifact, &b.lora, &(0..300).collect::<Vec<u32>>(), &o, &Silent).unwrap();
    let bound = b.artifact.adapter(&adapter.to_bytes(None)).unwrap();
    let kl = |adapter| fidelity(Subject { artifact: &b.artifact, adapter }, &path).unwrap().mean_kl;
    let (with, without) = (kl(Some(&bound)), kl(None));
    assert!(with < 0.25 && without > 5.0 * with, "{with} with, {without} without");
}
