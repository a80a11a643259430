use super::encode::{no_reference, Engine};
use super::source::Source;
use super::Printer;
use crate::cli::parse_ids;
use crate::error::Result;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Turn token ids into the text that they stand for
#[derive(Args)]
#[command(after_help = "Example:\n  bitnet-convert tokenizer decode DIR 64,2857")]
pub struct Decode {
    /// A tokenizer, see `tokenizer --help`
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// Token ids with commas
    #[arg(value_name = "ID,ID,…")]
    ids: String,
    /// Who computes it (default: the reference where there is one)
    #[arg(long, value_enum)]
    engine: Option<Engine>,
}

#[derive(Serialize)]
struct Output {
    engine: &'static str,
    /// Special tokens are left out.
    text: String,
}

impl Decode {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        let ids = if self.ids.trim().is_empty() { Vec::new() } else { parse_ids(&self.ids)? };
        let source = Source::open(&self.source)?;
        let host = self.engine.map_or(source.json.is_some(), |e| e == Engine::Host);
        let (engine, text) = if host {
            ("host", source.host()?.ok_or_else(|| no_reference(&source.path))?.decode(&ids)?)
        } else {
            let device = source.device()?;
            let shown: Vec<u32> = ids.into_iter().filter(|id| !device.is_special(*id)).collect();
            ("device", device.decode(&shown))
        };
        let output = Output { engine, text };
        printer.result(&output, |out| writeln!(out, "{}", output.text))?;
        Ok(0)
    }
}
