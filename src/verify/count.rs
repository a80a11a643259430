//! Executed instructions of a token, by a QEMU plugin that is compiled when it is needed.

use super::emulate::Linked;
use super::{tools, Failure, Subject};
use crate::fsio::read_capped;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PLUGIN: &str = include_str!("../../tools/inscount.c");

/// Tokens of the shorter of the two runs that are compared.
pub const TOKENS: usize = 8;

/// Instructions of one more token with its logits, or of one more token of an encoder's text: the difference of two runs, so start-up and
/// checks of the model cancel out. None if the model takes too few tokens.
///
/// # Errors
/// Why it was not counted.
pub fn per_token(s: &Subject, linked: &Linked) -> Result<Option<u64>, String> {
    let most = s.artifact.program.longest().unwrap_or(usize::MAX);
    let tokens = TOKENS.min(most.saturating_sub(1));
    if tokens == 0 {
        return Ok(None);
    }
    let plugin = plugin(linked.folder.scratch()).map_err(|e| e.sentence())?;
    difference(tokens, |n| instructions(linked, &plugin, n)).map(Some)
}

/// What one more token costs, of what runs of so many tokens cost.
///
/// # Errors
/// Why a run was not counted.
pub fn difference(tokens: usize, cost: impl Fn(usize) -> Result<u64, String>) -> Result<u64, String> {
    let short = cost(tokens)?;
    cost(tokens + 1)?.checked_sub(short).ok_or_else(|| "the longer run took fewer of them".into())
}

pub fn plugin(scratch: &Path) -> Result<PathBuf, Failure> {
    tools::need(&[("cc", "gcc libc6-dev")])?;
    let (source, library) = (scratch.join("inscount.c"), scratch.join("inscount.so"));
    fs::write(&source, PLUGIN).map_err(|e| Failure::Broke(format!("the plugin cannot be written: {e}")))?;
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O2", "-w", "-o"]).arg(&library).arg(&source);
    match super::process::run(&mut command, Duration::from_secs(60)) {
        Ok(o) if o.status.success() => Ok(library),
        Ok(o) => Err(Failure::Broke(format!("the plugin does not compile\n{}", o.tail()))),
        Err(e) => Err(Failure::Broke(e.message().to_string())),
    }
}

fn instructions(linked: &Linked, plugin: &Path, tokens: usize) -> Result<u64, String> {
    let out = linked.folder.scratch().join("count.txt");
    let command = format!("count {tokens}");
    if linked.emulator.arguments == crate::target::Arguments::Compiled {
        let built = linked.make(&command).map_err(|e| e.sentence())?;
        if !built.status.success() {
            return Err("the program does not build for it".into());
        }
    }
    let extra = ["-plugin".to_string(), format!("{},out={}", plugin.display(), out.display())];
    let output = linked.run(&command, &extra).map_err(|e| e.sentence())?;
    if !output.status.success() {
        return Err(format!("`{command}` stopped with {}: {}", output.status, output.tail()));
    }
    let text = read_capped(&out, 1 << 20).map_err(|e| e.message().to_string())?;
    total(&String::from_utf8_lossy(&text)).ok_or_else(|| "the plugin wrote no total".into())
}

/// The line `N total`.
pub fn total(text: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_suffix(" total")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_total_is_found() {
        assert_eq!(super::total("12345 total\n12000 bn_dot\n"), Some(12345));
        assert_eq!(super::total("x total\n"), None);
        assert_eq!(super::total(""), None);
    }
}
