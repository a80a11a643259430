//! The exported Rust crate computes what the scalar kernels compute: on this machine for random models of every kind and for a real export,
//! in QEMU for two chips; a damaged model is refused with a status and never with a panic.

mod common;

use bitnet_convert::export::rust::write_for;
use bitnet_convert::kernels::DotKernel;
use bitnet_convert::runtime::Artifact;
use bitnet_convert::tokenizer::TextCodec;
use bitnet_convert::verify::{self, Outcome};
use common::device::{checksums, have, random_model};
use common::mutate::mutate;
use common::packed::{open, Parts};
use common::{cases, command, finish, fixture, tiny, Rng, Run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A cargo of its own: what the one that runs this test set is for another crate.
fn cargo(dir: &Path, target: &Path, args: &[&str]) -> Run {
    let mut c = Command::new("cargo");
    c.current_dir(dir).args(args).env("CARGO_TARGET_DIR", target).env_remove("RUSTFLAGS");
    finish(&mut c)
}

/// The host program with every operation, built once. Overflow of an addition would be a panic in it.
fn host() -> Option<&'static Path> {
    static HOST: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let made = HOST.get_or_init(|| {
        if !have("the Rust crate", &["cargo"]) {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let artifact = Artifact::open(&tiny()).expect("the tiny model");
        write_for(dir.path(), &artifact.program, None).expect("the sources can be written");
        std::fs::copy(tiny(), dir.path().join("model.bin")).expect("the model");
        let target = dir.path().join("target");
        cargo(dir.path(), &target, &["build", "--quiet", "--example", "host", "--features", "every-part"]).ok();
        Some((dir, target.join("debug/examples/host")))
    });
    made.as_ref().map(|(_, program)| program.as_path())
}

fn run_host(host: &Path, model: &Path, args: &[&str]) -> Run {
    finish(Command::new(host).arg("--model").arg(model).args(args))
}

#[test]
fn random_models_give_the_same_integers_in_the_crate() {
    let Some(host) = host().filter(|_| have("the Rust crate", &["python3"])) else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    for seed in 1000..1000 + cases(48) as u32 {
        let file = dir.path().join("random.bitnet");
        random_model(seed, &file, &[]);
        let artifact = Artifact::open(&file).expect("a valid model");
        let reference = verify::traces(&artifact, DotKernel::Scalar).expect("scalar run");
        let want: Vec<Vec<u32>> = reference.iter().flat_map(|p| p.tokens.clone()).collect();
        let said = run_host(host, &file, &["trace"]).ok();
        assert_eq!(checksums(&said.stdout), want, "the crate differs on seed {seed}");
        assert_eq!(run_host(host, &file, &["selftest"]).ok().stdout, "selftest: equal\n", "seed {seed}");
    }
}

/// Mutations under right digests: what our own reader takes gives the same logits, all else is a status.
#[test]
fn damaged_models_are_refused_by_the_crate() {
    let Some(host) = host() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("damaged.bitnet");
    let (mut refused, mut ran) = (0, 0);
    for seed in 0..cases(400) as u64 {
        let mut parts = Parts::tiny();
        let what = mutate(&mut parts, &mut Rng(seed));
        let bytes = parts.seal();
        std::fs::write(&file, &bytes).expect("the file");
        let run = run_host(host, &file, &["logits", "0,1,2"]);
        let code = run.code.unwrap_or_else(|| panic!("seed {seed}, {what}: a signal"));
        assert!(code == 0 || (12..=25).contains(&code), "seed {seed}, {what}: {code} {}", run.stderr);
        let Ok(artifact) = open(bytes) else {
            refused += u32::from(code != 0);
            continue;
        };
        if let Ok(Some(logits)) = artifact.session(DotKernel::Scalar).run(&[0, 1, 2]) {
            let text: String = logits.iter().map(|l| format!("{l}\n")).collect();
            assert_eq!(run.stdout, text, "seed {seed}, {what}");
            ran += 1;
        }
    }
    assert!(refused > 30 && ran > 15, "{refused} refused, {ran} ran");
}

#[test]
fn a_cut_or_flipped_file_is_a_status() {
    let Some(host) = host() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("damaged.bitnet");
    let whole = std::fs::read(tiny()).expect("the tiny model");
    let said = |bytes: &[u8]| {
        std::fs::write(&file, bytes).expect("the file");
        let run = run_host(host, &file, &["selftest"]);
        (run.code, run.stdout)
    };
    assert_eq!(said(&[]), (Some(12), "init: not a packed model\n".into()));
    assert_eq!(said(&whole[..4000]), (Some(19), "init: model is malformed\n".into()));
    for (at, code, text) in [
        (0, 12, "not a packed model"),
        (24, 13, "unknown version or byte order"),
        (100, 14, "checksum does not match"),
        (400, 14, "checksum does not match"),
        (9000, 14, "checksum does not match"),
    ] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        assert_eq!(said(&bytes), (Some(code), format!("init: {text}\n")), "byte {at}");
    }
}

/// A real export by the program: its own tests, the tokenizer, drawn tokens.
#[test]
fn an_exported_crate_passes_its_own_tests() {
    if !have("the Rust crate", &["cargo"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("crate");
    let mut export = command();
    export.args(["--quiet", "export", "--format", "rust", "--target", "cortex-m7", "--prompt", "what is \"this\"?"]);
    finish(export.arg("--model").arg(fixture("models/intent-w1a2")).arg("-o").arg(&out)).ok();
    let target = dir.path().join("target");
    cargo(&out, &target, &["test", "--quiet"]).ok();
    let artifact = Artifact::open(&out).expect("the exported model");
    let codec = TextCodec::of(&artifact.packed).expect("a tokenizer");
    cargo(&out, &target, &["build", "--quiet", "--example", "host"]).ok();
    let host = target.join("debug/examples/host");
    for text in ["turn on the light in the kitchen", "Wie ist's? äöü 日本語\n\n  12,5 %"] {
        let ids = codec.encode(text).expect("ids").iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        assert_eq!(finish(Command::new(&host).args(["encode", text])).ok().stdout.trim(), ids, "{text}");
    }
    let said = finish(&mut Command::new(&host)).ok().stdout;
    assert!(said.starts_with("selftest: equal\n> what is \"this\"?\n"), "{said}");
}

/// Needs minutes for the core library, so only where everything is required to run.
#[test]
fn the_crate_runs_on_two_chips_in_qemu() {
    if std::env::var_os("BITNET_REQUIRE").is_none() {
        println!("not run: BITNET_REQUIRE is not set");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("model.bitnet");
    std::fs::copy(tiny(), &file).expect("the model");
    let names = ["rust-thumbv7em", "rust-thumbv6m"].map(String::from);
    let selection = verify::runners(&names, &file).expect("two runners");
    let report = verify::verify(&file, &selection, false, &bitnet_convert::progress::Silent).expect("a report");
    for row in &report.rows {
        assert_eq!(row.outcome, Outcome::Equal, "{} {:?}", row.runner, row.notes);
        assert!(row.instructions_per_token.is_some_and(|n| n > 1000), "{:?}", row.notes);
    }
}
