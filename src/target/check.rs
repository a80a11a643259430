//! Refuses target files with nonsense. What passes here is safe to write into Makefiles, linker scripts and headers: names are plain words,
//! flags have no character that a shell or `make` would act on.

use super::{Arguments, Emulator, Kind, Memory, Region, Role, Target};
use crate::error::{Error, Result};

const MOST_MEMORIES: usize = 16;
const MOST_EMULATORS: usize = 8;
const MOST_WORDS: usize = 64;
/// Largest window that is a default of anything.
const MOST_WINDOW: usize = 1 << 20;

fn refuse(key: &str, what: impl std::fmt::Display) -> Error {
    Error::input(format!("`{key}`: {what}")).hint("docs/targets.md describes every key")
}

/// # Errors
/// `Input` with the key and what is wrong with it.
pub fn check(t: &Target) -> Result<()> {
    word("name", &t.name)?;
    text("title", &t.title)?;
    if let Some(b) = &t.board {
        plain("board", b)?;
    }
    for (key, value) in [("unverified", &t.unverified), ("checked_as", &t.checked_as)] {
        value.as_ref().map_or(Ok(()), |v| text(key, v))?;
    }
    defaults(t)?;
    kernels(t)?;
    memories(t)?;
    budget(t)?;
    build(t)?;
    if t.emulator.len() > MOST_EMULATORS {
        return Err(refuse("emulator", format!("{} of them, at most {MOST_EMULATORS}", t.emulator.len())));
    }
    for (i, e) in t.emulator.iter().enumerate() {
        emulator(t, e).map_err(|e| Error::input(format!("emulator {}, {}", i + 1, e.message())).hint(help()))?;
        if e.name == "board" || e.name == "firmware" {
            return Err(refuse("emulator.name", format!("`{}` is the name of the board's own files", e.name)));
        }
        let full = |n: &str| format!("{n}-full");
        if t.emulator[..i].iter().any(|o| o.name == e.name || full(&o.name) == e.name || o.name == full(&e.name)) {
            return Err(refuse("emulator.name", format!("two emulators have the name `{}`", e.name)));
        }
    }
    Ok(())
}

fn help() -> &'static str {
    "docs/targets.md describes every key"
}

fn defaults(t: &Target) -> Result<()> {
    let d = &t.defaults;
    if d.window.is_some_and(|w| w == 0 || w > MOST_WINDOW) {
        return Err(refuse("defaults.window", format!("a window has 1 to {MOST_WINDOW} slots")));
    }
    if d.sinks >= d.window.unwrap_or(MOST_WINDOW) {
        return Err(refuse("defaults.sinks", format!("{} sinks leave no slot of the window", d.sinks)));
    }
    if ![4, 8, 16].contains(&d.kv_bits) {
        return Err(refuse("defaults.kv_bits", format!("{} bits, there are 4, 8 and 16", d.kv_bits)));
    }
    if ![8, 16].contains(&d.embedding_bits) {
        return Err(refuse("defaults.embedding_bits", format!("{} bits, there are 8 and 16", d.embedding_bits)));
    }
    if d.table_bytes > 1 << 24 {
        return Err(refuse("defaults.table_bytes", format!("{} bytes of tables, at most 16 MB", d.table_bytes)));
    }
    Ok(())
}

fn kernels(t: &Target) -> Result<()> {
    let k = &t.kernels;
    if k.allowed.is_empty() {
        return Err(refuse("kernels.allowed", "no kernel is left to choose; `select` computes everything"));
    }
    let rows = super::costs::names();
    if !rows.contains(&k.cost) {
        return Err(refuse("kernels.cost", format!("no cost row `{}`, there are {}", k.cost, rows.join(", "))));
    }
    Ok(())
}

fn memories(t: &Target) -> Result<()> {
    let regions: Vec<Region> = t
        .memory
        .iter()
        .map(|m| Region { name: m.name.clone(), role: m.role, origin: m.origin, bytes: m.bytes })
        .collect();
    layout("memory", &regions)?;
    t.memory.iter().filter(|m| !m.note.is_empty()).try_for_each(|m| text("memory.note", &m.note))?;
    t.memory.iter().try_for_each(units)?;
    if t.kind != Kind::Mcu {
        return match t.memory.is_empty() {
            true => Ok(()),
            false => Err(refuse("memory", "only a target of kind `mcu` has memories to keep to")),
        };
    }
    for (role, name) in [(Role::Flash, "flash"), (Role::Fast, "fast")] {
        if !t.memory.iter().any(|m| m.role == role) {
            return Err(refuse("memory", format!("no memory has the role `{name}`")));
        }
    }
    Ok(())
}

/// Units of a flash as the applier of patches takes them.
fn units(m: &Memory) -> Result<()> {
    for (key, unit, sizes) in [("memory.erase", m.erase, 512..=1 << 18), ("memory.program", m.program, 1..=32)] {
        match unit {
            Some(_) if m.role != Role::Flash => return Err(refuse(key, format!("`{}` is no flash", m.name))),
            Some(n) if !n.is_power_of_two() || !sizes.contains(&n) => {
                return Err(refuse(
                    key,
                    format!("{n} bytes, it is a power of two from {} to {}", sizes.start(), sizes.end()),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Regions that a linker can use: one of each role, none empty, none over another.
fn layout(key: &str, regions: &[Region]) -> Result<()> {
    if regions.len() > MOST_MEMORIES {
        return Err(refuse(key, format!("{} of them, at most {MOST_MEMORIES}", regions.len())));
    }
    for (i, r) in regions.iter().enumerate() {
        word(&format!("{key}.name"), &r.name)?;
        if r.bytes == 0 {
            return Err(refuse(key, format!("`{}` has no bytes", r.name)));
        }
        let end = r.origin.checked_add(r.bytes).filter(|e| *e <= 1 << 32);
        if end.is_none() {
            return Err(refuse(key, format!("`{}` ends beyond the 32-bit address space", r.name)));
        }
        if r.origin % 16 != 0 || r.bytes % 16 != 0 {
            return Err(refuse(key, format!("origin and bytes of `{}` must be multiples of 16", r.name)));
        }
        for o in &regions[..i] {
            if o.name == r.name {
                return Err(refuse(key, format!("two have the name `{}`", r.name)));
            }
            if o.role == r.role && r.role != Role::Spare {
                return Err(refuse(key, format!("`{}` and `{}` have the same role", o.name, r.name)));
            }
            if r.origin < o.origin + o.bytes && o.origin < r.origin + r.bytes {
                return Err(refuse(key, format!("`{}` and `{}` overlap", o.name, r.name)));
            }
        }
    }
    Ok(())
}

fn budget(t: &Target) -> Result<()> {
    match &t.budget {
        None if t.kind == Kind::Mcu => Err(refuse("budget", "a target of kind `mcu` needs one")),
        None => Ok(()),
        Some(_) if t.kind != Kind::Mcu => Err(refuse("budget", "only a target of kind `mcu` has one")),
        Some(b) => {
            if b.runtime_flash == 0 || b.runtime_flash_all < b.runtime_flash {
                return Err(refuse(
                    "budget.runtime_flash_all",
                    format!(
                        "{} bytes with every operation, {} with a part of them",
                        b.runtime_flash_all, b.runtime_flash
                    ),
                ));
            }
            let (flash, fast) = (t.bytes(Role::Flash), t.bytes(Role::Fast));
            if b.runtime_flash > flash {
                return Err(refuse("budget.runtime_flash", format!("{} of {flash} bytes", b.runtime_flash)));
            }
            // Saturating: such a sum is too large in any case.
            if b.stack == 0 || b.stack.saturating_add(b.application_ram) > fast {
                return Err(refuse(
                    "budget.stack",
                    format!("{} and {} bytes for the application do not fit into {fast}", b.stack, b.application_ram),
                ));
            }
            Ok(())
        }
    }
}

fn build(t: &Target) -> Result<()> {
    let Some(b) = &t.build else {
        return match t.kind {
            Kind::Mcu | Kind::Linux => Err(refuse("build", "it says nothing about the compiler")),
            Kind::Host | Kind::Wasm => Ok(()),
        };
    };
    tool("build.compiler", &b.compiler)?;
    flags("build.flags", &b.flags)?;
    word("build.port", &b.port)?;
    text("build.packages", &b.packages)?;
    if !b.sections.is_empty() {
        tool("build.sections", &b.sections)?;
    }
    if t.kind == Kind::Mcu && b.sections.is_empty() {
        return Err(refuse("build.sections", "an image for a board needs a linker fragment"));
    }
    if t.isa.is_none() {
        return Err(refuse("isa", "it is missing"));
    }
    probe("build", &b.probe, b.oldest.as_deref())
}

fn emulator(t: &Target, e: &Emulator) -> Result<()> {
    word("name", &e.name)?;
    if t.kind == Kind::Host {
        return Err(refuse("emulator", "the host needs none"));
    }
    words("command", &e.command)?;
    let has = |place: &str| e.command.iter().any(|w| w.contains(place));
    if e.command.is_empty() || !has("{elf}") {
        return Err(refuse("command", "it does not say where the program goes: `{elf}` is missing"));
    }
    match (e.arguments, has("{args}")) {
        (Arguments::Compiled, true) => return Err(refuse("arguments", "`compiled`, but the command has `{args}`")),
        (Arguments::Semihosting | Arguments::Argv, false) => {
            return Err(refuse("command", "the program's arguments have no place in it: `{args}` is missing"))
        }
        _ => {}
    }
    if let Some(m) = &e.machine {
        let good = m.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        if !good || !m.starts_with("BITNET_") {
            return Err(refuse("machine", format!("`{}` is no macro of the form BITNET_NAME", short(m))));
        }
    }
    text("packages", &e.packages)?;
    text("limits", &e.limits)?;
    probe("emulator", &e.probe, e.oldest.as_deref())?;
    layout("memory", &e.memory)?;
    if t.kind == Kind::Mcu {
        for (role, name) in [(Role::Flash, "flash"), (Role::Fast, "fast")] {
            if !e.memory.iter().any(|m| m.role == role) {
                return Err(refuse("memory", format!("an emulator of a board needs one with the role `{name}`")));
            }
        }
    }
    Ok(())
}

fn probe(key: &str, command: &[String], oldest: Option<&str>) -> Result<()> {
    words(&format!("{key}.probe"), command)?;
    let Some(o) = oldest else { return Ok(()) };
    if command.is_empty() {
        return Err(refuse(&format!("{key}.oldest"), "there is no `probe` that would tell the version"));
    }
    if o.is_empty() || o.len() > 32 || o.split('.').any(|n| n.parse::<u32>().is_err()) {
        return Err(refuse(&format!("{key}.oldest"), format!("`{}` is no version like 12 or 7.2", short(o))));
    }
    Ok(())
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// A name that is safe as a file and in a Makefile.
fn word(key: &str, value: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let starts = value.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    match value.len() <= 40 && starts && value.bytes().all(good) {
        true => Ok(()),
        false => Err(refuse(key, format!("`{}` is no name of small letters, digits and hyphens", short(value)))),
    }
}

fn plain(key: &str, value: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.+ ".contains(&b);
    match !value.is_empty() && value.len() <= 60 && value.bytes().all(good) {
        true => Ok(()),
        false => Err(refuse(key, format!("`{}` has characters that a name cannot have", short(value)))),
    }
}

/// The name of a program or file, without a path.
fn tool(key: &str, value: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.+".contains(&b);
    let starts = value.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    match starts && value.len() <= 60 && value.bytes().all(good) {
        true => Ok(()),
        false => Err(refuse(key, format!("`{}` is no name of a program or file", short(value)))),
    }
}

fn flags(key: &str, value: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.+=,:/ ".contains(&b);
    match value.len() <= 500 && value.bytes().all(good) {
        true => Ok(()),
        false => Err(refuse(key, format!("`{}` has a character that a shell would act on", short(value)))),
    }
}

fn words(key: &str, value: &[String]) -> Result<()> {
    if value.len() > MOST_WORDS {
        return Err(refuse(key, format!("{} words, at most {MOST_WORDS}", value.len())));
    }
    // `$` and `'` could not be written into the Makefile as they stand.
    match value
        .iter()
        .find(|w| w.is_empty() || w.len() > 500 || w.chars().any(|c| c.is_control() || "$'#\\`".contains(c)))
    {
        None => Ok(()),
        Some(w) => Err(refuse(key, format!("`{}` is empty, too long or has one of $ ' # \\ `", short(w)))),
    }
}

/// A sentence: it must stay on its line and inside of a comment.
fn text(key: &str, value: &str) -> Result<()> {
    match !value.is_empty() && value.len() <= 600 && !value.contains("*/") && !value.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(refuse(key, "it must be one line of at most 600 bytes, and not empty")),
    }
}
