//! The C runtime in tests: its tools, its programs, random models for it, and what they print.

use super::{finish, not_run, root, Run};
use bitnet_convert::export::c::write_runtime;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const SANITIZERS: [&str; 2] = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/// Whether all of these programs are installed; if not, `what` counts as not run.
pub fn have(what: &str, tools: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = tools.iter().find(|t| !std::env::split_paths(&path).any(|d| d.join(t).is_file()));
    if let Some(tool) = missing {
        not_run(what, tool);
    }
    missing.is_none()
}

/// The host program of the runtime, built in `dir` with sanitizers.
pub fn build_host(dir: &Path) -> PathBuf {
    write_runtime(dir).expect("the runtime sources can be written");
    finish(Command::new("make").arg("-s").arg("-C").arg(dir).arg("host").env_remove("MAKEFLAGS")).ok();
    dir.join("build/bitnet_host")
}

/// A program of `tests/c` with the whole runtime, built in `dir`.
pub fn build_with_runtime(dir: &Path, source: &str, compiler: &str, flags: &[&str]) -> PathBuf {
    write_runtime(dir).expect("the runtime sources can be written");
    let program = dir.join(format!("{}-{compiler}", source.trim_end_matches(".c")));
    let runtime = std::fs::read_dir(dir.join("runtime")).expect("the runtime").map(|e| e.expect("an entry").path());
    let mut cc = Command::new(compiler);
    cc.args(["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"]).args(flags).arg("-I").arg(dir.join("runtime"));
    cc.args(runtime.filter(|p| p.extension().is_some_and(|e| e == "c")));
    finish(cc.arg(root().join("tests/c").join(source)).arg("-o").arg(&program)).ok();
    program
}

/// A script of the second implementation.
pub fn python(script: &str, args: &[&str]) -> Run {
    let mut c = Command::new("python3");
    c.current_dir(root().join("fixtures/reader")).env("PYTHONDONTWRITEBYTECODE", "1");
    finish(c.arg(script).args(args))
}

/// A seed says what kind of model it is (`random_model.py --help`); from 1000 on, multiples of 3 give embeddings.
pub fn random_model(seed: u32, path: &Path, flags: &[&str]) {
    let (seed, path) = (seed.to_string(), path.to_str().expect("temporary paths are UTF-8"));
    python("random_model.py", &[&[seed.as_str(), path][..], flags].concat()).ok();
}

/// Checksums of the lines `T prompt position id …`, in the order of the tokens; an encoder prints a line for each token of each pass
/// over its text.
pub fn checksums(text: &str) -> Vec<Vec<u32>> {
    let mut lines: Vec<((u32, u32), Vec<u32>)> = Vec::new();
    for line in text.lines().filter(|l| l.starts_with("T ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let at = (words[1].parse().expect("a prompt"), words[2].parse().expect("a position"));
        let sums = words[4..].iter().map(|w| u32::from_str_radix(w, 16).expect("a checksum"));
        match lines.iter_mut().find(|(place, _)| *place == at) {
            Some((_, all)) => all.extend(sums),
            None => lines.push((at, sums.collect())),
        }
    }
    lines.into_iter().map(|(_, sums)| sums).collect()
}
