use super::Printer;
use crate::error::Result;
use crate::plan::group;
use crate::target::{self, Counter, Emulator, Kind, Role, Source, Target};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::io::{self, Write};

/// List the targets, or show one
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert targets list
  bitnet-convert targets show cortex-m7
  bitnet-convert targets show ./my-board.toml

A file of your own describes another board; docs/targets.md says what stands in it.")]
pub struct Targets {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// One line a target
    List,
    /// Memories, compiler, emulators, kernels and defaults of one target, and what is not verified without the board
    Show {
        /// Name of the target or of its board, or a target file
        name: String,
    },
}

impl Targets {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        match &self.action {
            None | Some(Action::List) => {
                let all = target::all();
                printer.result(&all, |out| list(out, &all))?;
            }
            Some(Action::Show { name }) => {
                let t = target::find(name)?;
                printer.result(&t, |out| show(out, &t))?;
            }
        }
        Ok(0)
    }
}

/// Bytes in the largest unit that says enough.
fn short(bytes: u64) -> String {
    match bytes {
        0 => "-".into(),
        b if b % (1 << 20) == 0 => format!("{} MB", b >> 20),
        b if b % 1024 == 0 => format!("{} KB", b >> 10),
        b if b > 1024 => format!("{} KB", b >> 10),
        b => group(b),
    }
}

fn list(out: &mut dyn Write, all: &[Target]) -> io::Result<()> {
    let width = all.iter().map(|t| t.name.len()).max().unwrap_or(0);
    for t in all {
        let ram = t.bytes(Role::Fast) + t.bytes(Role::Ram);
        let (flash, ram) = (short(t.bytes(Role::Flash)), short(ram));
        writeln!(out, "{:width$}  {:5} {flash:>8} {ram:>8}  {}", t.name, kind(t.kind), t.title)?;
    }
    Ok(())
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Host => "host",
        Kind::Mcu => "mcu",
        Kind::Linux => "linux",
        Kind::Wasm => "wasm",
    }
}

/// The plain name that serde gives a variant.
fn name_of(value: impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_string)).unwrap_or_default()
}

fn show(out: &mut dyn Write, t: &Target) -> io::Result<()> {
    writeln!(out, "{}: {}", t.name, t.title)?;
    let isa = t.isa.map_or(String::new(), |i| format!(", instruction set {}", i.name()));
    let board = t.board.as_ref().map_or(String::new(), |b| format!(", board {b}"));
    writeln!(out, "  kind       {}{isa}{board}", kind(t.kind))?;
    for m in &t.memory {
        let role = name_of(m.role);
        let line = format!("  {:10} {:#010x}  {:>10} bytes  {role:5}  {}", m.name, m.origin, group(m.bytes), m.note);
        writeln!(out, "{}", line.trim_end())?;
    }
    let d = &t.defaults;
    let window = d.window.map_or("context length of the model".to_string(), |w| format!("{w} slots"));
    let tables =
        if d.table_bytes == 0 { "no tables".into() } else { format!("tables of {}", short(d.table_bytes as u64)) };
    writeln!(
        out,
        "  defaults   window {window}, {} sinks, {}-bit cache, {}-bit embedding, {tables}",
        d.sinks, d.kv_bits, d.embedding_bits
    )?;
    let kernels: Vec<String> = t.kernels.allowed.iter().map(name_of).collect();
    writeln!(out, "  kernels    {}, costs of {}", kernels.join(", "), t.kernels.cost)?;
    if let Some(b) = &t.budget {
        writeln!(
            out,
            "  budget     {} to {} bytes of code, {} of stack, {} of the example main",
            group(b.runtime_flash),
            group(b.runtime_flash_all),
            group(b.stack),
            group(b.application_ram)
        )?;
    }
    if let Some(b) = &t.build {
        let oldest = b.oldest.as_ref().map_or(String::new(), |o| format!(", {o} or newer"));
        writeln!(out, "  compiler   {}{oldest}: {}", b.compiler, target::install(&b.packages))?;
        writeln!(out, "             {}", b.flags)?;
    }
    t.emulator.iter().try_for_each(|e| emulator(out, e))?;
    if t.emulator.is_empty() && t.kind == Kind::Mcu {
        writeln!(out, "  emulator   none: `verify` cannot run it")?;
    }
    if let Some(c) = &t.checked_as {
        writeln!(out, "  checked as {c}")?;
    }
    if let Some(u) = &t.unverified {
        writeln!(out, "  not verified here: {u}")?;
    }
    Ok(())
}

fn emulator(out: &mut dyn Write, e: &Emulator) -> io::Result<()> {
    let program = e.command.first().map_or("", String::as_str);
    let tokens = if e.tokens == 0 { "every golden token".into() } else { format!("the first {} tokens", e.tokens) };
    let counter = match e.counter {
        Counter::Plugin => "counts instructions",
        Counter::Fuel => "counts fuel",
        Counter::None => "counts nothing",
    };
    let from = if e.output == Source::Mailbox { ", read from a mailbox in RAM" } else { "" };
    writeln!(out, "  emulator   {} ({program}): {}", e.name, target::install(&e.packages))?;
    writeln!(out, "             shows {tokens}, operation by operation{from}; {counter}")?;
    for m in &e.memory {
        let role = name_of(m.role);
        writeln!(out, "             {:10} {:#010x}  {:>10} bytes  {role}", m.name, m.origin, group(m.bytes))?;
    }
    writeln!(out, "             limits: {}", e.limits)
}
