//! Applying patches so that whatever happens the file is the old one or the new one.
//!
//! | file | |
//! |---|---|
//! | `FILE` | the model |
//! | `FILE.state` | which versions it may be ([`crate::delta::state`]), written before it changes |
//! | `FILE.prev` | the version before, kept by [`Site::switch`] for [`Site::rollback`] |
//! | `FILE.new` | the new version while it is made |
//! | `FILE.journal` | there while `FILE` is being changed in place; nobody reads `FILE` meanwhile |
//! | `FILE.lock` | keeps a second updater out |
//!
//! The order of a switch: `FILE.new` written and synced, its digest compared; `FILE.prev`; `FILE.state`, with which the folder is synced;
//! `FILE.new` renamed to `FILE`, the folder synced. The order in place is in `place.rs`. After a failed sync everything stops: systems
//! forget what they could not write, so only what is written anew may be believed.

mod admit;
mod back;
mod patch;
mod place;
mod site;
mod whole;

pub use admit::Admitted;
pub use patch::Patch;
pub use site::{Checked, Found, Site};
pub use whole::{into, into_new};

use crate::delta::keys::Keyring;
use crate::delta::state::Version;
use crate::format::delta::Header;
use serde::Serialize;

/// What people call the base of a patch.
fn release(h: &Header) -> String {
    match h.base_version.is_empty() {
        true => format!("sequence {}", h.base_sequence),
        false => format!("version `{}`", h.base_version),
    }
}

/// What the owner allows.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Public keys; with any, or with some pinned in the state, only patches that one of them signed are taken.
    pub keys: Keyring,
    /// Takes unsigned patches all the same.
    pub allow_unsigned: bool,
    /// Takes a version that is not above the accepted one.
    pub allow_downgrade: bool,
    /// Confirms at once.
    pub confirm: bool,
    #[doc(hidden)]
    pub faults: Faults,
}

/// Bugs that the tests plant to see that they are found. Never set elsewhere.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    pub no_journal: bool,
    pub journal_not_synced: bool,
    pub data_not_synced: bool,
    pub resume_without_digests: bool,
    pub journal_not_checked: bool,
    pub no_final_check: bool,
    /// No bug: bytes of a record, if not the usual number.
    pub group: Option<usize>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Applied,
    /// An update in place that was interrupted is complete.
    Resumed,
    /// The file was what was asked for.
    NothingToDo,
    RolledBack,
    Confirmed,
}

/// What was done to a file.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub outcome: Outcome,
    pub model: String,
    pub from: Option<Version>,
    pub to: Version,
    /// Number of the key that signed, if a signature was asked for.
    pub signed_by: Option<String>,
    /// Bytes of the model that were written.
    pub written: u64,
    /// The version is on trial until it is confirmed.
    pub trial: bool,
}
