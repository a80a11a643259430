//! From the text of a target file to a target that [`check`](super::check) accepts.

use super::{check, Target};
use crate::error::{Error, Result};
use crate::fsio::read_capped;
use std::path::Path;

/// Far more than a description needs.
const MOST_BYTES: u64 = 64 << 10;

/// Reads a target file that an export left in its folder.
///
/// # Errors
/// `Io`, or `Input` with the file and the line or key that is wrong.
pub fn of_export(path: &Path) -> Result<Target> {
    let bytes = read_capped(path, MOST_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|e| {
        Error::input("a target file is UTF-8 text").at_offset(e.utf8_error().valid_up_to() as u64).at_file(path)
    })?;
    parse(&text).map_err(|e| e.at_file(path))
}

/// Reads a user's target file.
///
/// # Errors
/// As [`of_export`]; `Usage` if it takes the name of a target of this program.
pub fn from_file(path: &Path) -> Result<Target> {
    let target = of_export(path)?;
    if let Some(own) = super::FILES.iter().find(|(name, _)| *name == target.name) {
        let e = Error::usage(format!("`name`: `{}` is a target of this program already", own.0)).at_file(path);
        return Err(e.hint("give the board a name of its own"));
    }
    Ok(target)
}

/// # Errors
/// `Input` with the line or the key.
pub(super) fn parse(text: &str) -> Result<Target> {
    let mut target: Target = toml::from_str(text).map_err(|e| {
        let at = e.span().map_or(0, |s| s.start).min(text.len());
        let before = text.get(..at).unwrap_or_default();
        let number = before.matches('\n').count() + 1;
        let line: String = text.lines().nth(number - 1).unwrap_or_default().trim().chars().take(80).collect();
        let place = if line.is_empty() { format!("line {number}") } else { format!("line {number} (`{line}`)") };
        Error::input(format!("{place}: {}", e.message())).hint("docs/targets.md describes every key")
    })?;
    check(&target)?;
    target.text = text.to_string();
    Ok(target)
}
