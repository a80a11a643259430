//! The C decoder makes what the others make, under the sanitizers; and whatever is done to a patch, it stays inside its buffers.

use super::common::device::{build_with_runtime, have, python, SANITIZERS};
use super::common::{finish, root, Run};
use bitnet_convert::delta::block::{Decoder, Direction};
use bitnet_convert::format::delta::{Header, Index};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

fn driver(dir: &Path) -> PathBuf {
    build_with_runtime(dir, "delta_driver.c", "cc", &SANITIZERS)
}

fn run(driver: &Path, first: &[&str], files: &[&Path], last: &[&str]) -> Run {
    finish(Command::new(driver).args(first).args(files).args(last).env("ASAN_OPTIONS", "detect_leaks=0"))
}

/// What the decoder of the host makes of a patch.
fn by_the_host(base: &[u8], patch: &[u8]) -> Vec<u8> {
    let header = Header::parse(patch).unwrap();
    let index = Index::parse(&patch[Header::LEN..Header::LEN + header.index_len as usize], &header).unwrap();
    let payload = &patch[Header::LEN + header.index_len as usize..];
    let mut target = Vec::new();
    let mut decoder = Decoder::new();
    for number in 0..index.block_count {
        let bytes = index.block(number).map_or(0..0, |b| b.payload.start as usize..b.payload.end as usize);
        let mut out = Vec::new();
        decoder.decode(&header, &index, number, &base, &payload[bytes], &mut out, Direction::Forward).unwrap();
        target.extend(out);
    }
    target
}

/// Two slots and one, small and large erase units; back again where the patch allows it.
fn everywhere(driver: &Path, base: &Path, patch: &Path, target: &Path) {
    let flags = std::fs::read(patch).unwrap()[12];
    for (slots, erase_log2) in [("two", "12"), ("one", "9"), ("one", "15")] {
        let done = run(driver, &[slots, erase_log2], &[base, patch, target], &[]);
        let expected = if slots == "one" && flags & 1 == 0 { (Some(17), "mode\n") } else { (Some(0), "ok\n") };
        assert_eq!((done.code, done.stdout.as_str()), expected, "{}: {}", patch.display(), done.stderr);
    }
}

#[test]
fn the_patches_that_everyone_has() {
    if !have("the C decoder of patches", &["cc"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let driver = driver(dir.path());
    let here = root().join("tests/data/delta");
    let vectors: serde_json::Value =
        serde_json::from_slice(&std::fs::read(here.join("vectors.json")).unwrap()).unwrap();
    let vectors = vectors.as_array().unwrap();
    assert!(vectors.len() >= 11);
    for v in vectors {
        let file = |key: &str| here.join(v[key].as_str().unwrap());
        let target = dir.path().join("target");
        let (base, patch) = (std::fs::read(file("base")).unwrap(), std::fs::read(file("patch")).unwrap());
        std::fs::write(&target, by_the_host(&base, &patch)).unwrap();
        everywhere(&driver, &file("base"), &file("patch"), &target);
        let done = run(&driver, &["damage"], &[&file("base"), &file("patch")], &["1", "60"]).ok();
        assert!(done.stdout.contains("digest="), "{}", done.stdout);
    }
}

#[test]
fn random_patches_of_every_kind() {
    if !have("random patches in C", &["cc", "python3"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let driver = driver(dir.path());
    let out = dir.path().display().to_string();
    python("random_patch.py", &["5000", &out, "--count", "20"]).ok();
    for seed in 5000..5020 {
        let file = |ext: &str| dir.path().join(format!("{seed}.{ext}"));
        let (base, patch) = (std::fs::read(file("base")).unwrap(), std::fs::read(file("patch")).unwrap());
        assert!(by_the_host(&base, &patch) == std::fs::read(file("target")).unwrap(), "{seed}");
        everywhere(&driver, &file("base"), &file("patch"), &file("target"));
        run(&driver, &["damage"], &[&file("base"), &file("patch")], &[&seed.to_string(), "40"]).ok();
    }
}
