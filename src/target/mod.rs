//! Chips as data: one file in `data/` each. Adding a target is adding a file to [`FILES`].

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

const FILES: [&str; 2] = [include_str!("data/host.toml"), include_str!("data/cortex-m7.toml")];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// No budget.
    Host,
    /// Flash and RAM are limited; the C export builds for it.
    Mcu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Flash,
    /// Used by the exported program.
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
    pub note: String,
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
    pub lut_limit: usize,
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
    pub packages: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Emulator {
    pub command: String,
    pub machine: String,
    pub packages: String,
    /// What the emulator cannot show.
    pub limits: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub name: String,
    pub title: String,
    pub board: Option<String>,
    pub kind: Kind,
    pub defaults: Defaults,
    #[serde(default)]
    pub memory: Vec<Memory>,
    pub budget: Option<Budget>,
    pub build: Option<Build>,
    pub emulator: Option<Emulator>,
}

impl Target {
    /// Bytes of the memories with this role.
    pub fn bytes(&self, role: Role) -> u64 {
        self.memory.iter().filter(|m| m.role == role).map(|m| m.bytes).sum()
    }
}

/// All targets, the host first.
pub fn all() -> Vec<Target> {
    // The files are part of the program and a test parses each.
    FILES.iter().map(|f| toml::from_str(f).unwrap_or_else(|e| unreachable!("{e}"))).collect()
}

/// # Errors
/// `Usage` with the nearest name, if there is no such target.
pub fn find(name: &str) -> Result<Target> {
    let mut targets = all();
    if let Some(i) = targets.iter().position(|t| t.name == name || t.board.as_deref() == Some(name)) {
        return Ok(targets.swap_remove(i));
    }
    let names: Vec<&str> = targets.iter().map(|t| t.name.as_str()).collect();
    Err(Error::usage(format!("there is no target `{name}`, there are {}", names.join(", ")))
        .hint("`bitnet-convert targets list` describes them"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_file_parses_and_names_are_unique() {
        let all = super::all();
        assert_eq!(all.len(), super::FILES.len());
        for t in &all {
            assert_eq!(all.iter().filter(|o| o.name == t.name).count(), 1);
            assert_eq!(t.kind == super::Kind::Mcu, t.budget.is_some() && t.build.is_some() && !t.memory.is_empty());
        }
    }
}
