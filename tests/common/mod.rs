//! What several integration tests share: places, the program under test, packed files taken apart, synthetic checkpoints.

// Each test file compiles its own copy and uses a part of it.
#![allow(dead_code)]

pub mod checkpoint;
pub mod device;
pub mod mutate;
pub mod packed;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn fixture(name: &str) -> PathBuf {
    root().join("fixtures").join(name)
}

/// Golden checkpoints: those of fixtures/golden, and those of the folder in `BITNET_GOLDEN` (default: `shared/golden` beside the repository,
/// where that is).
pub fn golden_folders() -> Vec<PathBuf> {
    let beside = root().parent().map(|p| p.join("shared/golden")).filter(|p| p.is_dir());
    let more = std::env::var_os("BITNET_GOLDEN").map(PathBuf::from).or(beside);
    let mut found = std::collections::BTreeMap::new();
    for folder in [Some(fixture("golden")), more].into_iter().flatten() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.join("golden.safetensors").is_file() {
                found.entry(path.file_name().unwrap().to_owned()).or_insert(path);
            }
        }
    }
    found.into_values().collect()
}

/// The smallest model: 12 KB, made by `fixtures/reader/random_model.py 1123` (tests/data/README.md).
pub fn tiny() -> PathBuf {
    root().join("tests/data/tiny.bitnet")
}

pub fn tiny_bytes() -> Vec<u8> {
    std::fs::read(tiny()).expect("tests/data/tiny.bitnet is part of the repository")
}

/// A finished run of a program.
#[derive(Debug)]
pub struct Run {
    /// None if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Passes on a run that must have worked.
    #[track_caller]
    pub fn ok(self) -> Run {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.never_panicked()
    }

    /// A panic in any thread leaves its message on stderr, whatever the exit code.
    #[track_caller]
    pub fn never_panicked(self) -> Run {
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e} in {}", self.stdout))
    }
}

pub fn finish(command: &mut Command) -> Run {
    finish_with_input(command.stdin(Stdio::null()))
}

/// As [`finish`], with the input that the command has.
pub fn finish_with_input(command: &mut Command) -> Run {
    let o = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |b: Vec<u8>| String::from_utf8(b).expect("all output is UTF-8");
    Run { code: o.status.code(), stdout: text(o.stdout), stderr: text(o.stderr) }
}

/// The program under test, without what the caller's environment could change.
pub fn command() -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_bitnet-convert"));
    c.env_remove("BITNET_KERNEL").env_remove("NO_COLOR").env_remove("RUST_BACKTRACE");
    // No test may ask the network for a name that is no path.
    c.env("HF_HUB_OFFLINE", "1").env("HF_HOME", "/nowhere");
    c
}

/// Runs the program; arguments are split at spaces, paths come through `paths` in place of `{}`.
pub fn tool(args: &str, paths: &[&Path]) -> Run {
    let mut paths = paths.iter();
    let mut c = command();
    for a in args.split_whitespace() {
        match a {
            "{}" => c.arg(paths.next().expect("a path for each {}")),
            a => c.arg(a),
        };
    }
    finish(&mut c)
}

/// Names in a folder, sorted.
pub fn listing(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("the folder exists");
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Says that something was not checked, and why: `cargo test -- --nocapture` lists them. With `BITNET_REQUIRE` it is a failure.
pub fn not_run(what: &str, needs: &str) {
    println!("not run: {what}: needs {needs}");
    assert!(std::env::var_os("BITNET_REQUIRE").is_none(), "{needs} is required here");
}

/// A small generator, so that every run sees the same cases (splitmix64, Steele et al. 2014).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Between -1 and 1.
    pub fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// How many random cases to try; `BITNET_CASES` multiplies it for a long night.
pub fn cases(n: usize) -> usize {
    n * std::env::var("BITNET_CASES").ok().and_then(|v| v.parse().ok()).unwrap_or(1)
}
