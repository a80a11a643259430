//! Whether the programs that a runner needs are there and new enough.

use super::process::{find, run};
use super::Failure;
use std::process::Command;
use std::time::Duration;

const PROBE_LIMIT: Duration = Duration::from_secs(60);

/// # Errors
/// `NotRun` with what to install.
pub fn need(programs: &[(&str, &str)]) -> Result<(), Failure> {
    // `{elf}` runs by itself.
    let absent: Vec<_> = programs.iter().filter(|(tool, _)| *tool != "{elf}" && find(tool).is_none()).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = absent.iter().map(|(t, _)| *t).collect();
    let mut packages: Vec<&str> = absent.iter().map(|(_, p)| *p).collect();
    packages.dedup();
    Err(Failure::missing(format!("{} not found", names.join(", ")), &packages.join(" ")))
}

/// Runs the `probe` of a target file and compares the version that it prints.
///
/// # Errors
/// `NotRun` if it fails or the version is older than `oldest`.
pub fn probe(what: &str, command: &[String], oldest: Option<&str>, packages: &str) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    need(&[(program, packages)])?;
    let output = run(Command::new(program).args(arguments), PROBE_LIMIT);
    let text = match output {
        Ok(o) if o.status.success() => o.stdout,
        _ => return Err(Failure::missing(format!("{what} is not usable: `{}` fails", command.join(" ")), packages)),
    };
    let Some(oldest) = oldest else { return Ok(()) };
    match version(&text) {
        Some(v) if v >= numbers(oldest) => Ok(()),
        Some(v) => {
            let v: Vec<String> = v.iter().map(u32::to_string).collect();
            let why = format!("{what} has version {}, {oldest} or newer is needed", v.join("."));
            Err(Failure::missing(why, packages))
        }
        None => {
            Err(Failure::missing(format!("{what} does not tell its version, {oldest} or newer is needed"), packages))
        }
    }
}

/// The first word of digits and dots: `arm-none-eabi-gcc (15:12.2) 12.2.1 2022` has version 12.2.1.
fn version(text: &str) -> Option<Vec<u32>> {
    let is_version =
        |w: &&str| w.starts_with(|c: char| c.is_ascii_digit()) && w.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.split_whitespace().map(|w| w.trim_end_matches([',', ')', ';'])).find(is_version).map(numbers)
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|n| n.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_and_compared() {
        assert_eq!(version("arm-none-eabi-gcc (15:12.2.rel1-1) 12.2.1 20221205\n"), Some(vec![12, 2, 1]));
        assert_eq!(version("QEMU emulator version 7.2.22 (Debian 1:7.2)"), Some(vec![7, 2, 22]));
        assert_eq!(version("no number"), None);
        assert!(numbers("12.2") > numbers("12") && numbers("9.3") < numbers("12"));
    }

    #[test]
    fn an_old_or_missing_tool_is_not_run_with_the_package() {
        let say = |v: &str| vec!["echo".to_string(), format!("tool {v}")];
        let why = |r: Result<(), Failure>| match r {
            Err(Failure::NotRun { why, install }) => format!("{why}; {}", install.unwrap_or_default()),
            _ => "ran".into(),
        };
        assert_eq!(why(probe("gcc", &say("12.1"), Some("12"), "gcc-x")), "ran");
        let old = why(probe("gcc", &say("9.4.0"), Some("12"), "gcc-x"));
        assert_eq!(old, "gcc has version 9.4.0, 12 or newer is needed; `apt-get install gcc-x`");
        let none = why(probe("labwired", &["no-such-program-here".into()], None, "pip:labwired"));
        assert_eq!(none, "no-such-program-here not found; `pip install labwired`");
        let fails = why(probe("labwired", &["false".into()], None, "pip:labwired"));
        assert_eq!(fails, "labwired is not usable: `false` fails; `pip install labwired`");
    }
}
