//! The C runtime as a runner: compiled for this machine with sanitizers, or for the chip and run in QEMU.

use super::process::{find, run, Output};
use super::{CFailure, CRun, PromptTrace};
use crate::error::{Error, Result};
use crate::export::c;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const BUILD_LIMIT: Duration = Duration::from_secs(300);
const RUN_LIMIT: Duration = Duration::from_secs(900);

/// The folder with the C sources: the exported one, or a temporary one around a packed file.
struct Sources {
    dir: PathBuf,
    model: PathBuf,
    /// Removed when dropped.
    _temporary: Option<tempfile::TempDir>,
}

fn sources(path: &Path) -> Result<Sources> {
    let absolute = path.canonicalize().map_err(|e| Error::io("find", path, &e))?;
    if absolute.is_dir() {
        return Ok(Sources { model: absolute.join("model.bin"), dir: absolute, _temporary: None });
    }
    let temporary = tempfile::tempdir().map_err(|e| Error::tool(format!("no temporary folder: {e}")))?;
    c::write_runtime(temporary.path())?;
    Ok(Sources { dir: temporary.path().to_path_buf(), model: absolute, _temporary: Some(temporary) })
}

/// Builds with the folder's own Makefile, into a folder of our own so that an export stays as it was written.
fn make(dir: &Path, build: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new("make");
    command.arg("-C").arg(dir).arg(format!("B={}", build.display())).args(arguments);
    // Flags of a `make` that called us must not reach this one.
    command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MFLAGS");
    run(&mut command, BUILD_LIMIT)
}

fn missing(tools: &[(&str, &str)]) -> Option<CFailure> {
    let absent: Vec<_> = tools.iter().filter(|(tool, _)| find(tool).is_none()).collect();
    if absent.is_empty() {
        return None;
    }
    let names: Vec<&str> = absent.iter().map(|(t, _)| *t).collect();
    let mut packages: Vec<&str> = absent.iter().map(|(_, p)| *p).collect();
    packages.dedup();
    let why = format!("{} not found (Debian, Ubuntu: `apt-get install {}`)", names.join(", "), packages.join(" "));
    Some(CFailure::NotRun(why))
}

/// The C runtime on this machine, with address and undefined-behaviour sanitizers.
pub fn on_host(path: &Path) -> Result<CRun> {
    let detail = "C99 on this machine, address and undefined-behaviour sanitizers".to_string();
    let traces = match missing(&[("make", "make"), ("cc", "gcc libc6-dev")]) {
        Some(f) => Err(f),
        None => build_and_run(path, "host", |build, model| {
            let mut command = Command::new(build.join("bitnet_host"));
            run(command.arg(model).arg("trace"), RUN_LIMIT)
        })?,
    };
    Ok(CRun { detail, traces })
}

/// The firmware in QEMU, built by the exported folder's Makefile.
pub fn in_emulator(path: &Path) -> Result<CRun> {
    let detail = "C99 firmware, QEMU mps2-an500, FPU off, MPU on".to_string();
    let tools = [("make", "make"), ("arm-none-eabi-gcc", "gcc-arm-none-eabi"), ("qemu-system-arm", "qemu-system-arm")];
    let traces = if !path.is_dir() {
        let why = "this is a packed file; export a folder for the chip with `--target cortex-m7` and verify that";
        Err(CFailure::NotRun(why.to_string()))
    } else if let Some(f) = missing(&tools) {
        Err(f)
    } else {
        build_and_run(path, "TARGET=qemu", |build, _| qemu(&build.join("qemu.elf"), &["trace"]))?
    };
    Ok(CRun { detail, traces })
}

/// Builds one goal of the Makefile and runs what it made. A program that does not start or does not end is broken, not "not run".
fn build_and_run(
    path: &Path,
    goal: &str,
    start: impl FnOnce(&Path, &Path) -> Result<Output>,
) -> Result<Result<Vec<PromptTrace>, CFailure>> {
    let s = sources(path)?;
    let build = tempfile::tempdir().map_err(|e| Error::tool(format!("no temporary folder: {e}")))?;
    let built = make(&s.dir, build.path(), &[goal])?;
    if !built.status.success() {
        return Ok(Err(CFailure::Broke(format!("it does not build\n    {}", built.tail()))));
    }
    Ok(match start(build.path(), &s.model) {
        Ok(output) => parse(&output),
        Err(e) => Err(CFailure::Broke(e.message().to_string())),
    })
}

/// Runs a firmware image in the emulator; its semihosting output is stdout, its exit code that of the process.
fn qemu(elf: &Path, arguments: &[&str]) -> Result<Output> {
    let mut semihosting = "enable=on,target=native,chardev=out,arg=firmware".to_string();
    for a in arguments {
        // QEMU doubles a comma that belongs to a value.
        semihosting += &format!(",arg={}", a.replace(',', ",,"));
    }
    let mut command = Command::new("qemu-system-arm");
    command.args(["-M", "mps2-an500", "-display", "none", "-monitor", "none", "-serial", "null"]);
    command.args(["-chardev", "stdio,id=out", "-semihosting-config", &semihosting, "-kernel"]).arg(elf);
    run(&mut command, RUN_LIMIT)
}

/// Reads the lines `T prompt position id checksums…` and `G prompt position choice`, closed by `OK`. An encoder runs in passes over its
/// text and prints a line for each token and pass.
pub(super) fn parse(output: &Output) -> Result<Vec<PromptTrace>, CFailure> {
    if !output.status.success() {
        return Err(CFailure::Broke(format!("it stopped with {}\n    {}", output.status, output.tail())));
    }
    parse_lines(&output.stdout)
}

pub(super) fn parse_lines(text: &str) -> Result<Vec<PromptTrace>, CFailure> {
    let broke = |what: String| Err(CFailure::Broke(what));
    let mut traces: Vec<PromptTrace> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let kind = words.next();
        let mut number = || words.next().and_then(|w| w.parse::<usize>().ok());
        match kind {
            Some("T") => {
                let (Some(prompt), Some(position), Some(_)) = (number(), number(), number()) else {
                    return broke(format!("unreadable line `{line}`"));
                };
                if prompt > traces.len() {
                    return broke(format!("prompt {prompt} came before its predecessor"));
                }
                if prompt == traces.len() {
                    traces.push(PromptTrace::default());
                }
                match words.map(|w| u32::from_str_radix(w, 16)).collect::<Result<Vec<u32>, _>>() {
                    Ok(sums) => {
                        let tokens = &mut traces[prompt].tokens;
                        match position {
                            p if p < tokens.len() => tokens[p].extend(sums),
                            p if p == tokens.len() => tokens.push(sums),
                            p => return broke(format!("prompt {prompt}: token {p} came before its predecessor")),
                        }
                    }
                    Err(_) => return broke("a checksum cannot be read".into()),
                }
            }
            Some("G") => {
                let (Some(prompt), Some(_), Some(choice)) = (number(), number(), number()) else {
                    return broke(format!("unreadable line `{line}`"));
                };
                match traces.get_mut(prompt) {
                    Some(t) => t.choices.push(choice as u32),
                    None => return broke(format!("a choice for prompt {prompt} before its tokens")),
                }
            }
            Some("OK") => {
                // The choice after the last token is not part of the trace.
                for t in &mut traces {
                    t.choices.pop();
                }
                return Ok(traces);
            }
            _ => {}
        }
    }
    broke(format!("its output ended early\n    {}", text.lines().last().unwrap_or_default()))
}
