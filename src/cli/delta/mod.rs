//! `delta`: patches between two versions of a model, made, looked at, applied and taken back ([docs/delta.md](../../../docs/delta.md)).

mod apply;
mod confirm;
mod create;
mod hysteresis;
#[cfg(feature = "hub")]
mod index;
mod inspect;
mod keygen;
mod release;
mod rollback;
pub(super) mod trust;

pub use inspect::show;

use super::{size, Printer};
use crate::error::Result;
use clap::{Args, Subcommand};

/// Patches between versions of a model: a few per cent of its size, safe to apply
///
/// A patch says which bits of OLD make NEW. It holds digests of both, so it applies to exactly that file and gives exactly that result, or is refused.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert delta create v1.bitnet v2.bitnet -o v1-to-v2.bin
  bitnet-convert delta inspect v1-to-v2.bin
  bitnet-convert delta apply model.bitnet v1-to-v2.bin")]
pub struct Delta {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Create(Box<create::Create>),
    Apply(apply::Apply),
    Confirm(confirm::Confirm),
    Rollback(rollback::Rollback),
    Inspect(inspect::Inspect),
    #[cfg(feature = "hub")]
    Index(index::MakeIndex),
    Keygen(keygen::Keygen),
}

impl Delta {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        match &self.command {
            Command::Create(c) => c.run(printer),
            Command::Apply(c) => c.run(printer),
            Command::Confirm(c) => c.run(printer),
            Command::Rollback(c) => c.run(printer),
            Command::Inspect(c) => c.run(printer),
            #[cfg(feature = "hub")]
            Command::Index(c) => c.run(printer),
            Command::Keygen(c) => c.run(printer),
        }
    }
}
