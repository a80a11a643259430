use super::source::Source;
use super::Printer;
use crate::error::Result;
use crate::fsio::AtomicFile;
use crate::plan::group;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Compile a tokenizer to the form that devices read (docs/format/tokenizer.md), and tell its size
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert tokenizer pack --model DIR -o tok.bin
  bitnet-convert tokenizer pack --model tokenizer.model --json")]
pub struct Pack {
    /// A tokenizer, see `tokenizer --help`
    #[arg(long, value_name = "SOURCE")]
    model: PathBuf,
    /// Where to write it; without this only the sizes are told
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Output {
    /// Of the compiled form.
    bytes: usize,
    vocabulary: u32,
    bytes_per_entry: f64,
    sections: Vec<Section>,
    /// RAM that encoding needs besides text and ids, in bytes.
    work_bytes: usize,
    longest_token_bytes: usize,
    /// Of the file that it was made from.
    source_bytes: Option<u64>,
    written: Option<String>,
}

#[derive(Serialize)]
struct Section {
    name: &'static str,
    bytes: u32,
}

impl Pack {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        let source = Source::open(&self.model)?;
        let (blob, notes) = source.blob_with_chat()?;
        notes.iter().for_each(|n| printer.warn(n));
        let device = source.device()?;
        if let Some(path) = &self.output {
            let mut out = AtomicFile::create(path)?;
            out.write(&blob)?;
            out.commit()?;
        }
        let output = Output {
            bytes: blob.len(),
            vocabulary: device.vocab_size(),
            bytes_per_entry: blob.len() as f64 / f64::from(device.vocab_size().max(1)),
            sections: sections(&blob),
            work_bytes: 4 * device.work_words(),
            longest_token_bytes: device.max_token_bytes(),
            source_bytes: source.bytes,
            written: self.output.as_ref().map(|p| p.display().to_string()),
        };
        printer.result(&output, |out| {
            let o = &output;
            writeln!(
                out,
                "tokenizer      {} bytes, {} entries, {:.2} bytes an entry",
                group(o.bytes as u64),
                group(u64::from(o.vocabulary)),
                o.bytes_per_entry
            )?;
            for s in &o.sections {
                writeln!(out, "  {:12} {}", s.name, group(u64::from(s.bytes)))?;
            }
            writeln!(out, "RAM            {} bytes to encode", group(o.work_bytes as u64))?;
            writeln!(out, "longest token  {} bytes", group(o.longest_token_bytes as u64))?;
            if let Some(n) = o.source_bytes {
                let ratio = n as f64 / o.bytes.max(1) as f64;
                writeln!(out, "made from      {} bytes, {ratio:.1} times as many", group(n))?;
            }
            Ok(())
        })?;
        if let Some(path) = &output.written {
            printer.note(&format!("wrote {path}"));
        }
        Ok(0)
    }
}

/// Kinds of sections by number, docs/format/tokenizer.md.
const NAMES: [&str; 14] = [
    "header",
    "template",
    "bytes",
    "characters",
    "merges",
    "literals",
    "classes",
    "normalizer",
    "pre-tokenizer",
    "model",
    "pieces",
    "scores",
    "decoder",
    "chat",
];

/// The directory of a blob, which was checked before.
fn sections(blob: &[u8]) -> Vec<Section> {
    let count = blob.get(23).copied().unwrap_or(0);
    let entries = blob.get(32..).unwrap_or(&[]).chunks_exact(8).take(usize::from(count));
    let mut list = vec![Section { name: NAMES[0], bytes: 32 + 8 * u32::from(count) }];
    list.extend(entries.map(|e| Section {
        name: NAMES.get(usize::from(e[0])).copied().unwrap_or("other"),
        bytes: u32::from_le_bytes([e[4], e[5], e[6], e[7]]),
    }));
    list
}
