//! The Rust crate as a runner: on this machine with whatever Rust there is, for a chip in QEMU with a core library built from source.

use super::count::{self, plugin, total};
use super::elf;
use super::folder::Folder;
use super::process::{self, run, Output};
use super::{parse::parse, tools, Failure, Ran, Subject};
use crate::error::Result;
use crate::fsio;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The core library comes first, which takes its time on a machine with other work.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

/// Packages with a compiler and its sources; their files are where the Makefile of the crate looks for them.
const PACKAGES: &str = "rustc-web cargo-web rust-web-src lld-19";
/// Where those packages have the source of the core library.
const SOURCE: &str = "/usr/lib/rustlib/src/rust/library/core";

/// A machine that the crate is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// As `--target` takes it.
    pub name: &'static str,
    /// TARGET of the crate's Makefile; empty: this machine.
    target: &'static str,
    /// Machines of QEMU, the one tried first that may be too small.
    machines: &'static [&'static str],
    emulator: &'static str,
    package: &'static str,
    title: &'static str,
}

/// All of them.
pub const MACHINES: [Machine; 4] = [
    Machine { name: "rust-host", target: "", machines: &[], emulator: "", package: "", title: "this machine" },
    Machine {
        name: "rust-thumbv7em",
        target: "thumbv7em",
        machines: &["mps2-an500"],
        emulator: "qemu-system-arm",
        package: "qemu-system-arm",
        title: "thumbv7em-none-eabi, FPU off",
    },
    Machine {
        name: "rust-thumbv6m",
        target: "thumbv6m",
        machines: &["microbit", "mps2-an385"],
        emulator: "qemu-system-arm",
        package: "qemu-system-arm",
        title: "thumbv6m-none-eabi",
    },
    Machine {
        name: "rust-riscv32imc",
        target: "riscv32imc",
        machines: &["virt"],
        emulator: "qemu-system-riscv32",
        package: "qemu-system-misc",
        title: "riscv32imc-unknown-none-elf, FPU off",
    },
];

/// Whether a folder is an export of `--format rust`.
pub fn is_crate(folder: &Path) -> bool {
    folder.join(crate::export::rust::GENERATED).is_file()
}

/// Runs the artifact as a Rust crate: the exported one, or one made around its packed file.
pub fn run_crate(s: &Subject, m: &Machine) -> Result<Ran> {
    let exported = Some(s.path.as_path()).filter(|p| is_crate(p));
    let folder = Folder::of_crate(&s.model, &s.artifact.program, exported)?;
    let emulator = m.machines.last().copied().unwrap_or("-");
    Ok(start(s, m, &folder).unwrap_or_else(|failure| Ran::new(emulator, s.extent(0), Err(failure))))
}

fn start(s: &Subject, m: &Machine, folder: &Folder) -> Result<Ran, Failure> {
    if s.adapter.is_some() {
        return Err(Failure::not_run("the Rust crate takes no adapters".into()));
    }
    let command = s.trace_command(0);
    let detail = format!("no_std Rust without unsafe code, {}", m.title);
    if m.target.is_empty() {
        tools::need(&[("make", "make"), ("cargo", "cargo")])?;
        let output = make(folder, &["host", "CARGO=cargo", &format!("ARGS={command}")])?;
        return Ok(Ran { detail, ..Ran::new("-", s.extent(0), parse(&output)) });
    }
    tools::need(&[
        ("make", "make"),
        ("/usr/bin/cargo", PACKAGES),
        ("/usr/bin/rustc", PACKAGES),
        (m.emulator, m.package),
    ])?;
    if !Path::new(SOURCE).is_dir() {
        let why = "the source of Rust's core library is not installed beside /usr/bin/rustc".to_string();
        return Err(Failure::missing(why, PACKAGES));
    }
    let mut said = String::new();
    for machine in m.machines {
        let on = |args: &[&str]| {
            let fixed = [format!("TARGET={}", m.target), format!("MACHINE={machine}")];
            let words: Vec<&str> = fixed.iter().map(String::as_str).chain(args.iter().copied()).collect();
            make(folder, &words)
        };
        let built = on(&["all"])?;
        if !built.status.success() {
            said = built.tail();
            // Another machine may have the room that this one lacks.
            if ["overflowed", "will not fit"].iter().any(|w| built.stderr.contains(w)) {
                continue;
            }
            break;
        }
        let run = |command: &str, extra: &str| on(&["run", &format!("ARGS={command}"), &format!("QEMU_EXTRA={extra}")]);
        let traces = run(&command, "").and_then(|o| parse(&o));
        let mut ran = Ran { detail, ..Ran::new(machine, s.extent(0), traces) };
        let elf = folder.build.join(format!("{}-{machine}.elf", m.target));
        measure(s, folder, &elf, &run, &mut ran);
        return Ok(ran);
    }
    Err(Failure::Broke(format!("it does not build\n{said}")))
}

/// Sizes and instructions, or a note why there are none.
fn measure(s: &Subject, folder: &Folder, elf: &Path, run: &Run, ran: &mut Ran) {
    ran.limits = Some("cycles, flash wait states, caches and power: they need a board".into());
    match elf::sizes(elf) {
        Ok(used) => (ran.flash, ran.ram) = (Some(used.flash), Some(used.fast + used.ram)),
        Err(e) => ran.notes.push(format!("sizes are not known: {}", e.message())),
    }
    let most = s.artifact.program.longest().unwrap_or(usize::MAX);
    if !s.quick && ran.traces.is_ok() && most > count::TOKENS {
        match per_token(folder, run) {
            Ok(n) => ran.instructions = Some(n),
            Err(why) => ran.notes.push(format!("instructions are not counted: {why}")),
        }
    }
}

type Run<'r> = dyn Fn(&str, &str) -> Result<Output, Failure> + 'r;

/// Instructions of one more token with its logits.
fn per_token(folder: &Folder, run: &Run) -> Result<u64, String> {
    let library = plugin(folder.scratch()).map_err(Failure::sentence)?;
    let out: PathBuf = folder.scratch().join("count.txt");
    let extra = format!("-plugin {},out={} -d plugin", library.display(), out.display());
    let instructions = |tokens: usize| -> Result<u64, String> {
        let output = run(&format!("count {tokens}"), &extra).map_err(Failure::sentence)?;
        if !output.status.success() {
            return Err(output.tail());
        }
        let text = fsio::read_capped(&out, 1 << 20).map_err(|e| e.message().to_string())?;
        total(&String::from_utf8_lossy(&text)).ok_or_else(|| "the plugin wrote no total".into())
    };
    count::difference(count::TOKENS, instructions)
}

/// The crate's Makefile, with the toolchain that it names: variables of a cargo that called us belong to another one.
fn make(folder: &Folder, arguments: &[&str]) -> Result<Output, Failure> {
    let mut command = process::make(&folder.dir);
    command.arg(format!("B={}", folder.build.display())).args(arguments);
    for name in ["RUSTFLAGS", "CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR"] {
        command.env_remove(name);
    }
    run(&mut command, BUILD_LIMIT).map_err(|e| Failure::Broke(e.message().to_string()))
}
