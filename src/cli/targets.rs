use super::Printer;
use crate::error::Result;
use crate::plan::group;
use crate::target::{self, Target};
use clap::{Args, Subcommand};
use std::io::{self, Write};

/// List the targets, or show one
#[derive(Args)]
#[command(after_help = "Examples:\n  bitnet-convert targets list\n  bitnet-convert targets show cortex-m7")]
pub struct Targets {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// One line a target
    List,
    /// Memories, compiler, emulator and defaults of one target
    Show {
        /// Name of the target, or of its board
        name: String,
    },
}

impl Targets {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        match &self.action {
            None | Some(Action::List) => {
                let all = target::all();
                printer.result(&all, |out| all.iter().try_for_each(|t| writeln!(out, "{:12} {}", t.name, t.title)))?;
            }
            Some(Action::Show { name }) => {
                let t = target::find(name)?;
                printer.result(&t, |out| show(out, &t))?;
            }
        }
        Ok(0)
    }
}

fn show(out: &mut dyn Write, t: &Target) -> io::Result<()> {
    writeln!(out, "{}: {}", t.name, t.title)?;
    for m in &t.memory {
        writeln!(out, "  {:10} {:#010x}  {:>10} bytes  {}", m.name, m.origin, group(m.bytes), m.note)?;
    }
    let window = t.defaults.window.map_or("context length of the model".to_string(), |w| format!("{w} slots"));
    writeln!(
        out,
        "  defaults   window {window}, {} sinks, {}-bit cache, {}-bit embedding",
        t.defaults.sinks, t.defaults.kv_bits, t.defaults.embedding_bits
    )?;
    if let Some(b) = &t.build {
        writeln!(out, "  compiler   {} {}   (Debian: apt-get install {})", b.compiler, b.flags, b.packages)?;
    }
    if let Some(e) = &t.emulator {
        writeln!(out, "  emulator   {} -M {}   (Debian: apt-get install {})", e.command, e.machine, e.packages)?;
        writeln!(out, "  not shown by the emulator: {}", e.limits)?;
    }
    Ok(())
}
