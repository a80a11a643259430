//! Two implementations of docs/format/delta.md, one of them written from it alone (fixtures/reader): what either makes the other applies.

use crate::common::{cases, finish, fixture, not_run};
use crate::support::Patch;
use bitnet_convert::delta::block::Direction;
use bitnet_convert::format::delta::Kind;
use std::path::Path;
use std::process::Command;

/// Whether Python is here; where it is not, the tests say so instead of passing silently.
pub fn is_here(what: &str) -> bool {
    let here = Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success());
    if !here {
        not_run(what, "python3");
    }
    here
}

fn zstd_is_here(what: &str) -> bool {
    let here = Command::new("zstd").arg("--version").output().is_ok_and(|o| o.status.success());
    if !here {
        not_run(what, "zstd");
    }
    here
}

fn python(args: &[&str]) -> String {
    let mut c = Command::new("python3");
    c.current_dir(fixture("reader")).env("PYTHONDONTWRITEBYTECODE", "1").env("PATCHES", "2");
    let run = finish(c.args(args)).ok();
    run.stdout + &run.stderr
}

fn read(dir: &Path, name: &str) -> Vec<u8> {
    std::fs::read(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Random patches written by Python, `count` seeds from `first` on.
fn made_by_python(first: usize, count: usize, more: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let (seed, n) = (first.to_string(), count.to_string());
    let mut args =
        vec!["random_patch.py", &seed, dir.path().to_str().expect("temporary paths are UTF-8"), "--count", &n];
    args.extend(more);
    python(&args);
    let mut kinds = std::collections::HashSet::new();
    for seed in first..first + count {
        let [base, file, target] = ["base", "patch", "target"].map(|kind| read(dir.path(), &format!("{seed}.{kind}")));
        let patch = Patch::parse(&file).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let got = patch.apply(&base, Direction::Forward).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(got == target, "seed {seed}");
        if patch.header.flags.reversible {
            let got = patch.apply(&target, Direction::Backward).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert!(got == base, "seed {seed}, back");
        }
        kinds.extend(patch.index.segments.iter().map(|s| std::mem::discriminant(&s.kind)));
    }
    assert!(kinds.len() >= 7, "only {} kinds were tried", kinds.len());
}

#[test]
fn patches_of_python_are_applied() {
    if is_here("random patches of Python") {
        made_by_python(85, cases(10), &[]);
    }
}

#[test]
fn patches_of_python_with_frames_are_applied() {
    if is_here("random patches with zstd") && zstd_is_here("random patches with zstd") {
        made_by_python(1000, cases(6), &["--host-only"]);
    }
}

/// Prints the names of the patches that do not do what they should.
const APPLY: &str = "
import sys, delta
for name in sys.argv[1:]:
    def read(kind):
        with open(name + kind, 'rb') as f:
            return f.read()
    try:
        patch = delta.Patch(read('.patch'))
        if patch.apply(read('.base')) != read('.target'):
            print(name, 'another target')
        if patch.header.flags & delta.REVERSIBLE and patch.back(read('.target')) != read('.base'):
            print(name, 'another base')
    except delta.DeltaError as e:
        print(name, e)
";

#[test]
fn patches_of_rust_are_applied_by_python() {
    if !is_here("random patches of Rust") {
        return;
    }
    let frames = zstd_is_here("patches of Rust with zstd");
    let dir = tempfile::tempdir().unwrap();
    let mut args = vec!["-c".to_string(), APPLY.to_string()];
    for seed in 0..cases(40) as u64 {
        let (patch, base, target) = crate::coders::random(seed);
        let packed = patch.index.segments.iter().any(|s| s.kind == Kind::Zstd);
        // Python takes a second for a megabyte.
        if target.len() > 30_000 || packed && !frames {
            continue;
        }
        for (kind, data) in [("base", &base), ("patch", &patch.to_bytes()), ("target", &target)] {
            std::fs::write(dir.path().join(format!("{seed}.{kind}")), data).unwrap();
        }
        args.push(dir.path().join(seed.to_string()).to_str().expect("temporary paths are UTF-8").to_string());
    }
    assert!(args.len() > 10, "only {} patches", args.len() - 2);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    assert_eq!(python(&args), "");
}

#[test]
fn the_readers_own_tests() {
    if is_here("the tests of the Python reader of patches") {
        let said = python(&["-m", "unittest", "test_delta"]);
        assert!(said.contains("OK"), "{said}");
    }
}
