//! The folder with the sources of a runner: the exported one for its own target, a temporary one for every other; and `make` in it.

use super::process::{make, run, Output};
use super::Failure;
use crate::error::{Error, Result};
use crate::export::{c, rust};
use crate::format::packed::{Kind, Packed};
use crate::program::Program;
use crate::target::Target;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const BUILD_LIMIT: Duration = Duration::from_secs(300);

/// Sources of one runner, and where it builds: never in an exported folder, which stays as it was written.
pub struct Folder {
    pub dir: PathBuf,
    pub build: PathBuf,
    /// Words for `make` that link an adapter in.
    pub adapter: Vec<String>,
    /// Removed when dropped.
    _temporary: tempfile::TempDir,
}

fn temporary() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|e| Error::tool(format!("no temporary folder: {e}")))
}

/// Puts the model beside the sources. Another file system cannot be linked to.
fn place(model: &Path, dir: &Path) -> Result<()> {
    let beside = dir.join("model.bin");
    let placed = fs::hard_link(model, &beside).or_else(|_| fs::copy(model, &beside).map(drop));
    placed.map_err(|e| Error::io("copy the model", model, &e))
}

impl Folder {
    /// `exported`: the folder that was written for this very target, if there is one.
    pub fn of_target(target: &Target, model: &Path, program: &Program, exported: Option<&Path>) -> Result<Folder> {
        let t = temporary()?;
        let build = t.path().join("build");
        let dir = match exported {
            Some(own) => own.to_path_buf(),
            None => {
                let packed = Packed::open(model)?;
                c::write_runtime_for(t.path(), program, packed.section(Kind::Tokenizer), target)?;
                place(model, t.path())?;
                t.path().to_path_buf()
            }
        };
        Ok(Folder { dir, build, adapter: Vec::new(), _temporary: t })
    }

    /// The runtime for this machine; `exported` if the artifact has its own sources.
    pub fn of_host(exported: Option<&Path>) -> Result<Folder> {
        let t = temporary()?;
        let build = t.path().join("build");
        let dir = match exported {
            Some(own) => own.to_path_buf(),
            None => {
                c::write_runtime(t.path())?;
                t.path().to_path_buf()
            }
        };
        Ok(Folder { dir, build, adapter: Vec::new(), _temporary: t })
    }

    /// Sources of a program that runs the tokenizer of a target alone; what it reads is put beside them later, as `model.bin`.
    pub fn of_texts(target: &Target, words: usize, blob: &[u8]) -> Result<Folder> {
        let t = temporary()?;
        c::write_runtime_for_texts(t.path(), target, words, blob)?;
        let (dir, build) = (t.path().to_path_buf(), t.path().join("build"));
        Ok(Folder { dir, build, adapter: Vec::new(), _temporary: t })
    }

    /// The Rust crate around a packed file; `exported` if the artifact is one.
    pub fn of_crate(model: &Path, program: &Program, exported: Option<&Path>) -> Result<Folder> {
        let t = temporary()?;
        let build = t.path().join("build");
        let dir = match exported {
            Some(own) => own.to_path_buf(),
            None => {
                let packed = Packed::open(model)?;
                rust::write_for(t.path(), program, packed.section(Kind::Tokenizer))?;
                place(model, t.path())?;
                t.path().to_path_buf()
            }
        };
        Ok(Folder { dir, build, adapter: Vec::new(), _temporary: t })
    }

    /// A place for what a runner writes on the way.
    pub fn scratch(&self) -> &Path {
        self._temporary.path()
    }

    /// Builds a goal of the Makefile.
    ///
    /// # Errors
    /// `Broke` if `make` cannot be started or does not end.
    pub fn make(&self, arguments: &[&str]) -> Result<Output, Failure> {
        let mut command = make(&self.dir);
        command.arg(format!("B={}", self.build.display())).args(arguments).args(&self.adapter);
        run(&mut command, BUILD_LIMIT).map_err(|e| Failure::Broke(e.message().to_string()))
    }
}
