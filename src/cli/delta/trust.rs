//! Flags of the commands that change a model, and the files they are about.

use crate::delta::apply::{Options, Outcome, Report};
use crate::delta::keys::Keyring;
use crate::error::{Error, Result};
use clap::Args;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Trust {
    /// Public key that must have signed the patch, several allowed; remembered for this file until others are given
    #[arg(long = "key", value_name = "PUB", help_heading = "Trust")]
    keys: Vec<PathBuf>,
    /// Take a patch without signature although keys are given or remembered
    #[arg(long, help_heading = "Trust")]
    allow_unsigned: bool,
    /// Take a version that is not above the accepted one
    #[arg(long, help_heading = "Trust")]
    allow_downgrade: bool,
}

impl Trust {
    pub fn options(&self) -> Result<Options> {
        Ok(Options {
            keys: Keyring::read(&self.keys)?,
            allow_unsigned: self.allow_unsigned,
            allow_downgrade: self.allow_downgrade,
            ..Options::default()
        })
    }
}

/// The file itself: what lies beside it lies beside that, not beside a symbolic link.
pub fn real(file: &Path) -> Result<PathBuf> {
    if file.is_dir() {
        return Err(Error::usage("this is a folder, the packed file is needed")
            .at_file(file)
            .hint("of an exported folder that is its `model.bin`; its sources stay as they are"));
    }
    match std::fs::canonicalize(file) {
        Ok(path) => Ok(path),
        // A full patch may make it.
        Err(_) => Ok(file.to_path_buf()),
    }
}

/// `0.4.3 (sequence 5)`.
pub fn version(v: &crate::delta::state::Version) -> String {
    match v.version.is_empty() {
        true => format!("sequence {}", v.sequence),
        false => format!("{} (sequence {})", v.version, v.sequence),
    }
}

/// What was done, for people.
pub fn tell(out: &mut dyn Write, file: &Path, r: &Report) -> io::Result<()> {
    let to = version(&r.to);
    let file = file.display();
    match r.outcome {
        Outcome::Applied => writeln!(out, "{file} is now {} {to}", r.model)?,
        Outcome::Resumed => writeln!(out, "{file} is now {} {to}; the interrupted update is complete", r.model)?,
        Outcome::NothingToDo => writeln!(out, "{file} is {} {to} already, nothing to do", r.model)?,
        Outcome::RolledBack => writeln!(out, "{file} is {} {to} again", r.model)?,
        Outcome::Confirmed => {
            writeln!(out, "{file}: {} {to} is accepted, older versions are refused from now on", r.model)?
        }
    }
    if r.trial {
        writeln!(
            out,
            "it is on trial: `bitnet-convert delta confirm {file}` accepts it, `delta rollback` takes it back"
        )?;
    }
    Ok(())
}
