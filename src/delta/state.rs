//! What is remembered about a file that is updated (`FILE.state`, JSON, written whole or not at all).
//!
//! The record names versions by their digest and is written *before* the file changes: which of the versions the file is, its own bytes
//! say. So a cut between the two leaves nothing to repair.

use crate::delta::store::{self, Access, Disk};
use crate::digest;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A state file is some lines; more is none of ours.
const CAP: u64 = 1 << 16;
const FORMAT: u32 = 1;

/// A version of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    pub sequence: u64,
    /// For people, may be empty.
    #[serde(default)]
    pub version: String,
    /// Of the whole file.
    #[serde(with = "hexed")]
    pub sha256: [u8; 32],
}

/// What the owner decided for this file, by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// An older version is refused whatever the command line says.
    #[serde(default)]
    pub never_downgrade: bool,
}

/// `FILE.state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    format: u32,
    pub model: String,
    /// The last version that was confirmed. Patches must lead above its sequence.
    pub accepted: Option<Version>,
    /// What the file is becoming or has become, until `confirm` or `rollback`.
    pub trial: Option<Version>,
    /// What was accepted before the last `confirm`.
    pub previous: Option<Version>,
    /// Public keys of which one must have signed, in the form of key files.
    #[serde(default)]
    pub keys: Vec<String>,
    #[serde(default)]
    pub policy: Policy,
}

impl State {
    pub fn new(model: &str) -> State {
        State {
            format: FORMAT,
            model: model.to_string(),
            accepted: None,
            trial: None,
            previous: None,
            keys: Vec::new(),
            policy: Policy::default(),
        }
    }

    /// The state beside `file`, if there is one.
    ///
    /// # Errors
    /// `Input` if it is damaged: without it an older patch could not be told from a newer one, so it is not passed over.
    pub fn load(disk: &dyn Disk, file: &Path) -> Result<Option<State>> {
        let path = store::beside(file, ".state");
        let Some(opened) = store::open_if_there(disk, &path, Access::Read)? else { return Ok(None) };
        let len = opened.len()?;
        let wrong = |what: String| {
            Error::input(what)
                .at_file(&path)
                .hint("restore it from a backup; without it an older version would pass as a newer one")
        };
        if len > CAP {
            return Err(wrong(format!("the state of the updates has more than {CAP} bytes")));
        }
        let mut text = vec![0; len as usize];
        opened.read(0, &mut text)?;
        let state: State =
            serde_json::from_slice(&text).map_err(|e| wrong(format!("the state of the updates is damaged: {e}")))?;
        match state.format {
            FORMAT => Ok(Some(state)),
            other => Err(Error::unsupported(format!(
                "the state of the updates has format {other}, this version knows {FORMAT}"
            ))
            .at_file(&path)
            .hint("update bitnet-convert")),
        }
    }

    /// # Errors
    /// `Io`.
    pub fn save(&self, disk: &dyn Disk, file: &Path) -> Result<()> {
        // Plain structs with text keys: this cannot fail, an empty file would be found as damage.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        store::write_whole(disk, &store::beside(file, ".state"), &text)
    }

    /// Which of the known versions has this digest.
    pub fn find(&self, sha256: &[u8; 32]) -> Option<&Version> {
        [&self.trial, &self.accepted, &self.previous].into_iter().flatten().find(|v| v.sha256 == *sha256)
    }

    pub fn is_accepted(&self, sha256: &[u8; 32]) -> bool {
        self.accepted.as_ref().is_some_and(|v| v.sha256 == *sha256)
    }

    pub fn is_trial(&self, sha256: &[u8; 32]) -> bool {
        self.trial.as_ref().is_some_and(|v| v.sha256 == *sha256)
    }
}

mod hexed {
    use super::digest;
    use serde::{de::Error, Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(d: &[u8; 32], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&digest::hex(d))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(d)?;
        let digit = |c: u8| (c as char).to_digit(16).map(|v| v as u8);
        let bytes: Option<Vec<u8>> =
            text.as_bytes().chunks(2).map(|p| Some(digit(*p.first()?)? << 4 | digit(*p.get(1)?)?)).collect();
        let bytes = bytes.and_then(|b| <[u8; 32]>::try_from(b).ok());
        bytes.ok_or_else(|| D::Error::custom("a SHA-256 is 64 hexadecimal digits"))
    }
}
