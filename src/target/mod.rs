//! Machines as data: one file in `data/` each, or a file of the user's. Adding a board is adding a file: [`FILES`] lists them and a test
//! compares that list with the folder.

mod check;
mod costs;
mod install;
mod layout;
mod nearest;
mod read;

pub use check::check;
pub use costs::{costs, Cost, Costs};
pub use install::install;
pub use layout::Layout;
pub use read::{from_file, of_export};

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name and text of every target, in the order of `targets list`.
macro_rules! files {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("data/", $name, ".toml")))),*] };
}

const FILES: &[(&str, &str)] = files![
    "host",
    "cortex-m0",
    "cortex-m0plus",
    "cortex-m3",
    "cortex-m4",
    "cortex-m7",
    "cortex-m33",
    "cortex-m55",
    "esp32-c3",
    "esp32-s3",
    "gap9",
    "rv32imc",
    "xtensa",
    "rpi-zero2w",
    "rpi4",
    "rpi5",
    "jetson-orin-nano",
    "x86-64",
    "powerpc",
    "wasm32",
];

/// What a target is, which decides what is written for it and how it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The machine that runs this program: no budget.
    Host,
    /// Flash and RAM are limited; the C export builds an image for it.
    Mcu,
    /// A static program for Linux on another processor; no budget.
    Linux,
    /// A WebAssembly module.
    Wasm,
}

/// Instruction sets that the ports and cost rows know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Isa {
    #[serde(rename = "armv6-m")]
    ArmV6M,
    #[serde(rename = "armv7-m")]
    ArmV7M,
    #[serde(rename = "armv7e-m")]
    ArmV7EM,
    #[serde(rename = "armv8-m")]
    ArmV8M,
    #[serde(rename = "armv8.1-m")]
    ArmV81M,
    #[serde(rename = "rv32imc")]
    Rv32Imc,
    #[serde(rename = "xtensa")]
    Xtensa,
    #[serde(rename = "aarch64")]
    AArch64,
    #[serde(rename = "x86-64")]
    X86_64,
    #[serde(rename = "wasm32")]
    Wasm32,
    #[serde(rename = "powerpc")]
    PowerPc,
}

impl Isa {
    /// As in a target file.
    pub fn name(self) -> &'static str {
        match self {
            Isa::ArmV6M => "armv6-m",
            Isa::ArmV7M => "armv7-m",
            Isa::ArmV7EM => "armv7e-m",
            Isa::ArmV8M => "armv8-m",
            Isa::ArmV81M => "armv8.1-m",
            Isa::Rv32Imc => "rv32imc",
            Isa::Xtensa => "xtensa",
            Isa::AArch64 => "aarch64",
            Isa::X86_64 => "x86-64",
            Isa::Wasm32 => "wasm32",
            Isa::PowerPc => "powerpc",
        }
    }
}

/// What a memory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Code and model, read-only.
    Flash,
    /// Stack, variables, tables, and the arena if it fits. A chip with one RAM has this one.
    Fast,
    /// The arena otherwise, and the logits.
    Ram,
    /// There, but left to the application.
    Spare,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    pub name: String,
    pub role: Role,
    pub origin: u64,
    pub bytes: u64,
    #[serde(default)]
    pub note: String,
    /// Of a flash: bytes that are erased at once, and that are programmed at once. Absent: not known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erase: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<u32>,
}

/// What a model takes unless the user says otherwise.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Slots of the window; absent: the context length of the model.
    pub window: Option<usize>,
    pub sinks: usize,
    pub kv_bits: u32,
    /// Rows of embedding and head where the source leaves the choice.
    pub embedding_bits: u32,
    /// Most scratch for lookup tables, in bytes; 0: none.
    pub table_bytes: usize,
}

/// A way to multiply low-bit weights on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// Add or subtract each code by its weight.
    Select,
    /// Bit planes of 2-bit codes, population count.
    Planes,
    /// Tables of sums, indexed by a byte of weights.
    Tables,
}

/// What the exporter may choose, and by which costs.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Kernels {
    pub allowed: Vec<Kernel>,
    /// Row of the cost table.
    pub cost: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Code and constants for a program of the first operations only.
    pub runtime_flash: u64,
    /// With every operation.
    pub runtime_flash_all: u64,
    pub stack: u64,
    pub application_ram: u64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    pub compiler: String,
    pub flags: String,
    /// `ports/port_<port>.c` of the exported folder.
    pub port: String,
    /// Linker fragment in `ports/`; empty where the compiler knows how to link.
    #[serde(default)]
    pub sections: String,
    pub packages: String,
    /// Prints the version of the compiler.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probe: Vec<String>,
    /// The oldest version that builds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
}

/// How an emulator gives its command line to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arguments {
    /// `{args}` in the command reaches the program.
    Semihosting,
    /// `{args}` in the command, as arguments of a Linux program.
    Argv,
    /// The program is built for one command (`BITNET_COMMAND`).
    Compiled,
}

/// Where the program's words come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    Stdout,
    /// The command reads a mailbox in RAM and prints it.
    Mailbox,
}

/// How executed instructions are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counter {
    /// A QEMU plugin.
    Plugin,
    /// The fuel of a WebAssembly machine.
    Fuel,
    None,
}

/// A memory as the emulated machine has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    pub name: String,
    pub role: Role,
    pub origin: u64,
    pub bytes: u64,
}

/// A machine that runs the image here.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Emulator {
    /// Also the stem of its files: `<name>.elf`, `<name>.ld`, `<name>.h`.
    pub name: String,
    /// Words, with `{elf}`, `{args}`, `{tmp}` (a scratch folder) and `{dir}` (the exported folder) to be filled in.
    pub command: Vec<String>,
    pub arguments: Arguments,
    #[serde(default = "stdout")]
    pub output: Source,
    pub counter: Counter,
    /// Tokens of each golden prompt that it computes; 0: all.
    #[serde(default)]
    pub tokens: usize,
    /// A macro that tells the port which machine it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    pub packages: String,
    /// Succeeds if the emulator is usable; prints its version if `oldest` is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probe: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// What the emulator cannot show.
    pub limits: String,
    #[serde(default)]
    pub memory: Vec<Region>,
}

fn stdout() -> Source {
    Source::Stdout
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub name: String,
    pub title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
    pub kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isa: Option<Isa>,
    /// What nothing here can show: it needs the board.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unverified: Option<String>,
    /// What is checked in its place, where the part itself has no compiler or emulator here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_as: Option<String>,
    pub defaults: Defaults,
    pub kernels: Kernels,
    #[serde(default)]
    pub memory: Vec<Memory>,
    pub budget: Option<Budget>,
    pub build: Option<Build>,
    /// Tried in this order: the first whose memory holds the program runs it.
    #[serde(default)]
    pub emulator: Vec<Emulator>,
    /// The file itself: an exported folder carries it along.
    #[serde(skip)]
    pub text: String,
}

impl Target {
    /// Bytes of the memory with this role.
    pub fn bytes(&self, role: Role) -> u64 {
        self.memory.iter().filter(|m| m.role == role).map(|m| m.bytes).sum()
    }

    /// The memory with this role.
    pub fn region(&self, role: Role) -> Option<Region> {
        let m = self.memory.iter().find(|m| m.role == role)?;
        Some(Region { name: m.name.clone(), role, origin: m.origin, bytes: m.bytes })
    }

    /// Whether the C folder is what is exported for it.
    pub fn takes_c(&self) -> bool {
        matches!(self.kind, Kind::Mcu | Kind::Linux)
    }
}

/// All targets of this program, the host first.
pub fn all() -> Vec<Target> {
    // The files are part of the program and a test parses each.
    FILES.iter().map(|(_, text)| read::parse(text).unwrap_or_else(|e| unreachable!("{e}"))).collect()
}

/// A target by its name, by its board, or by the path of a file that describes one (it ends in `.toml`).
///
/// # Errors
/// `Usage` with the nearest name, if there is no such target; what [`from_file`] says.
pub fn find(name: &str) -> Result<Target> {
    if name.ends_with(".toml") {
        return from_file(Path::new(name));
    }
    let mut targets = all();
    let same = |t: &Target| t.name == name || t.board.as_deref().is_some_and(|b| b.eq_ignore_ascii_case(name));
    if let Some(i) = targets.iter().position(same) {
        return Ok(targets.swap_remove(i));
    }
    let names: Vec<&str> = targets.iter().map(|t| t.name.as_str()).collect();
    let boards: Vec<&str> = targets.iter().filter_map(|t| t.board.as_deref()).collect();
    let near = nearest::nearest(name, names.iter().chain(&boards).copied());
    let e = Error::usage(format!("there is no target `{name}`, there are {}", names.join(", ")));
    Err(match near {
        Some(n) => e.hint(format!("did you mean `{n}`? `bitnet-convert targets list` describes them all")),
        None => e.hint("`bitnet-convert targets list` describes them; a file of your own is named as ./my-board.toml"),
    })
}

pub use nearest::nearest;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_a_target_of_its_own_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/target/data");
        let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
        let mut there: Vec<String> = entries.map(|p| p.file_stem().unwrap().to_string_lossy().into_owned()).collect();
        there.retain(|n| n != "costs");
        let mut listed: Vec<&str> = FILES.iter().map(|(n, _)| *n).collect();
        there.sort_unstable();
        listed.sort_unstable();
        assert_eq!(there, listed);
        for (target, (name, _)) in all().iter().zip(FILES) {
            assert_eq!(target.name, *name);
        }
    }

    #[test]
    fn a_name_that_is_none_gets_the_nearest() {
        let hint = |name| find(name).unwrap_err().next_step().unwrap_or_default().to_string();
        assert!(hint("cortex-m8").contains("did you mean `cortex-m"), "{}", hint("cortex-m8"));
        assert!(hint("cortexm7").contains("did you mean `cortex-m7`"));
        assert!(hint("pdp-11").contains("targets list"));
        assert_eq!(find("stm32h743vi").unwrap().name, "cortex-m7");
    }
}
