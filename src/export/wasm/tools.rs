//! Which clang and which linker compile the module: the first pair on the PATH that can.

use crate::error::{Error, Result};
use crate::process::{find, run};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Names under which clang is looked for, the plain one first, then the newest.
const NEWEST: u32 = 24;
/// The oldest clang that the runtime was built with.
const OLDEST: u32 = 15;
const LIMIT: Duration = Duration::from_secs(60);

/// What the Makefile calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    pub clang: String,
    pub wasm_ld: String,
}

/// # Errors
/// `Tool` with what is missing or too old, and the packages to install.
pub fn tools() -> Result<Tools> {
    let mut old = None;
    let mut alone = None;
    let names = std::iter::once("clang".to_string()).chain((OLDEST..=NEWEST).rev().map(|v| format!("clang-{v}")));
    for name in names.filter(|n| find(n).is_some()) {
        let said = said(&name, "--version")?;
        match version(&said) {
            Some(v) if v >= OLDEST => match linker(&name, v)? {
                Some(wasm_ld) => return need_make().map(|()| Tools { clang: name, wasm_ld }),
                None => {
                    alone.get_or_insert((name, v));
                }
            },
            // Apple numbers its own versions, and leaves WebAssembly out.
            _ => {
                old.get_or_insert((name, said.lines().next().unwrap_or_default().trim().to_string()));
            }
        }
    }
    let any = format!("any version from {OLDEST} on will do");
    Err(match (alone, old) {
        (Some((name, v)), _) => Error::tool(format!("`{name}` is there, but not wasm-ld, which links the module"))
            .hint(format!("Debian, Ubuntu: `apt-get install lld-{v}`")),
        (None, Some((name, said))) => {
            Error::tool(format!("`{name}` cannot build the module, clang {OLDEST} or later is needed; it says: {said}"))
                .hint(format!("Debian, Ubuntu: `apt-get install clang-19 lld-19`; {any}"))
        }
        (None, None) => Error::tool("clang was not found; it compiles the runtime to WebAssembly")
            .hint(format!("Debian, Ubuntu: `apt-get install clang-19 lld-19`; {any}")),
    })
}

fn need_make() -> Result<()> {
    match find("make") {
        Some(_) => Ok(()),
        None => {
            Err(Error::tool("make was not found; it builds the module").hint("Debian, Ubuntu: `apt-get install make`"))
        }
    }
}

/// What a compiler says about itself; nothing if it fails.
fn said(clang: &str, question: &str) -> Result<String> {
    let output = run(Command::new(clang).arg(question), LIMIT)?;
    Ok(if output.status.success() { output.stdout } else { String::new() })
}

/// The linker that belongs to this clang: under its own number, where clang looks itself, or the plain one.
fn linker(clang: &str, version: u32) -> Result<Option<String>> {
    let numbered = format!("wasm-ld-{version}");
    if find(&numbered).is_some() {
        return Ok(Some(numbered));
    }
    let own = said(clang, "--print-prog-name=wasm-ld")?.trim().to_string();
    if Path::new(&own).is_absolute() && Path::new(&own).is_file() {
        return Ok(Some(own));
    }
    Ok(find("wasm-ld").map(|_| "wasm-ld".to_string()))
}

/// The major number after `clang version`.
fn version(said: &str) -> Option<u32> {
    if said.starts_with("Apple") {
        return None;
    }
    let number = said.split("clang version ").nth(1)?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_read_as_vendors_write_them() {
        assert_eq!(version("Debian clang version 19.1.7 (3~deb12u1)\nTarget: x86_64"), Some(19));
        assert_eq!(version("Ubuntu clang version 14.0.0-1ubuntu1.1"), Some(14));
        assert_eq!(version("clang version 20.1.0rc2 (https://example.org)"), Some(20));
        assert_eq!(version("Apple clang version 15.0.0 (clang-1500.3.9.4)"), None);
        for nonsense in ["", "gcc (GCC) 12.2", "clang version ", "clang version x.y", "clang version 99999999999"] {
            assert_eq!(version(nonsense), None, "{nonsense}");
        }
    }
}
