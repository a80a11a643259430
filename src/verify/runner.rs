//! Who can be asked: names of runners, and what stands behind each.

use super::rust::{self, Machine};
use super::wasm::Engine;
use crate::error::{Error, Result};
use crate::kernels::dot::DotKernel;
use crate::target::{self, Kind, Target};
use std::path::Path;

/// One row of the report.
#[derive(Debug, Clone)]
pub enum Runner {
    /// Our scalar kernels against the stored golden trace.
    Scalar,
    /// One SIMD kernel of ours, whatever this machine would choose.
    Simd(DotKernel),
    /// The C runtime on this machine, with sanitizers.
    CHost,
    /// A program for a target, in an emulator.
    Device(Box<Target>),
    /// The Rust crate, on this machine or in an emulator.
    Rust(Machine),
    /// The WebAssembly module.
    Wasm(Engine),
}

impl Runner {
    /// As `--target` takes it.
    pub fn name(&self) -> String {
        match self {
            Runner::Scalar => "host-scalar".into(),
            Runner::Simd(k) => format!("host-{}", k.name()),
            Runner::CHost => "c-host".into(),
            Runner::Device(t) => t.name.clone(),
            Runner::Rust(m) => m.name.into(),
            Runner::Wasm(e) => e.runner().into(),
        }
    }
}

/// What was asked for, as far as this machine can have it.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub runners: Vec<Runner>,
    /// What has no row because no installation would help.
    pub notes: Vec<String>,
}

impl Selection {
    fn add(&mut self, runner: Runner) {
        if !self.runners.iter().any(|r| r.name() == runner.name()) {
            self.runners.push(runner);
        }
    }

    fn add_target(&mut self, t: &Target) {
        match t.kind {
            Kind::Wasm => Engine::ALL.into_iter().for_each(|e| self.add(Runner::Wasm(e))),
            _ => self.add(Runner::Device(Box::new(t.clone()))),
        }
    }

    fn add_simd(&mut self, kernel: DotKernel) {
        if DotKernel::available().contains(&kernel) {
            return self.add(Runner::Simd(kernel));
        }
        let note = format!("host-{}: this processor has no {0}", kernel.name());
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// The description that an exported folder carries; None for a packed file.
///
/// # Errors
/// `Input` if it is damaged.
pub fn own_target(artifact: &Path) -> Result<Option<Target>> {
    let file = artifact.join("target.toml");
    if !artifact.is_dir() || !file.is_file() {
        return Ok(None);
    }
    target::of_export(&file).map(Some)
}

fn simd() -> impl Iterator<Item = DotKernel> {
    DotKernel::all().into_iter().filter(|k| *k != DotKernel::Scalar)
}

/// Whether something here runs its programs.
fn runs_here(t: &Target) -> bool {
    t.kind == Kind::Wasm || t.kind != Kind::Host && !t.emulator.is_empty()
}

/// Expands the names that `--target` takes: `host`, `all`, the name of a runner, target or board, or a target file. No names: this machine
/// and what the artifact was exported for.
///
/// # Errors
/// `Usage` for a name that is none of these, with the nearest.
pub fn runners(names: &[String], artifact: &Path) -> Result<Selection> {
    let own = own_target(artifact)?.filter(runs_here);
    let mut s = Selection::default();
    let host = |s: &mut Selection| {
        s.add(Runner::Scalar);
        simd().for_each(|k| s.add_simd(k));
        s.add(Runner::CHost);
    };
    let crates = |s: &mut Selection| rust::MACHINES.iter().for_each(|m| s.add(Runner::Rust(*m)));
    if names.is_empty() {
        host(&mut s);
        if rust::is_crate(artifact) {
            crates(&mut s);
        }
        own.iter().for_each(|t| s.add_target(t));
    }
    for name in names {
        match name.as_str() {
            "host" => host(&mut s),
            "all" => {
                host(&mut s);
                for t in target::all().iter().filter(|t| runs_here(t)) {
                    // A folder is built by the description that it was written with.
                    s.add_target(own.as_ref().filter(|o| o.name == t.name).unwrap_or(t));
                }
                own.iter().for_each(|t| s.add_target(t));
                crates(&mut s);
            }
            "host-scalar" => s.add(Runner::Scalar),
            "host-simd" => simd().for_each(|k| s.add_simd(k)),
            "c-host" => s.add(Runner::CHost),
            "rust" => crates(&mut s),
            other if rust::MACHINES.iter().any(|m| m.name == other) => {
                rust::MACHINES.iter().filter(|m| m.name == other).for_each(|m| s.add(Runner::Rust(*m)));
            }
            "wasm32-wasmi" => s.add(Runner::Wasm(Engine::Interpreter)),
            "wasm32-node" => s.add(Runner::Wasm(Engine::Node)),
            other => match simd().find(|k| other.strip_prefix("host-") == Some(k.name())) {
                Some(k) => s.add_simd(k),
                None if own.as_ref().is_some_and(|t| t.name == *other) => {
                    own.iter().for_each(|t| s.add_target(t));
                }
                None => s.add_target(&device(other)?),
            },
        }
    }
    Ok(s)
}

/// Names that need no target file.
fn fixed() -> Vec<String> {
    let mut names: Vec<String> = ["host", "all", "host-scalar", "host-simd", "c-host"].map(String::from).to_vec();
    names.extend(simd().map(|k| format!("host-{}", k.name())));
    names.push("rust".into());
    names.extend(rust::MACHINES.iter().map(|m| m.name.into()));
    names.extend(Engine::ALL.map(|e| e.runner().to_string()));
    names
}

fn device(name: &str) -> Result<Target> {
    let known = target::all();
    let is_known =
        known.iter().any(|t| t.name == name || t.board.as_deref().is_some_and(|b| b.eq_ignore_ascii_case(name)));
    if !is_known && !name.ends_with(".toml") {
        let mut names = fixed();
        names.extend(known.iter().filter(|t| runs_here(t)).map(|t| t.name.clone()));
        let e = Error::usage(format!("there is no runner `{name}`, there are {}", names.join(", ")));
        return Err(match target::nearest(name, names.iter().map(String::as_str)) {
            Some(n) => e.hint(format!("did you mean `{n}`?")),
            None => e,
        });
    }
    let t = target::find(name)?;
    match runs_here(&t) {
        true => Ok(t),
        false => Err(Error::usage(format!("nothing here can run programs for `{}`: it has no emulator", t.name))
            .hint("its target file lists none; `bitnet-convert targets show` explains it")),
    }
}
