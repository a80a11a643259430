use super::{size, Printer};
use crate::adapter::{self, Options, Report};
use crate::calibration::{scattered_ids, TEXT};
use crate::delta::keys::{PublicKey, SecretKey};
use crate::error::{Error, Result};
use crate::export::packed;
use crate::format::adapter::{self as file, Adapter as Bits, SIGNATURE};
use crate::fsio::{read_capped, AtomicFile};
use crate::import;
use crate::limits::{MAX_ADAPTER_BYTES, MAX_CALIBRATION_BYTES};
use crate::lower;
use crate::model::{Lora, Model};
use crate::plan::group;
use crate::runtime::{Artifact, Bound};
use crate::target;
use crate::tokenizer::host::HostTokenizer;
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Tokens of calibration text that are run.
const CALIBRATION: usize = 2048;
/// Below this share of its output an adapter has lost much of what it was trained for (docs/adapters.md, measured).
const ENOUGH: f64 = 0.9;

/// Turn a LoRA adapter into low-bit factors that a model loads at run time
///
/// Weights of one bit cannot take an adapter in: rounded again, it is gone. It stays a side branch, with codes of few bits and integer scales,
/// computed to the same integers everywhere, and it can be loaded and removed between any two tokens.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert adapter --base DIR --lora LORA -o lora-bits.bin
  bitnet-convert adapter --base DIR --lora LORA --max-size 8K --calibrate prompts.txt -o lora-bits.bin
  bitnet-convert eval model.bitnet --adapter lora-bits.bin --tasks eval.jsonl --base DIR --lora LORA")]
pub struct Adapter {
    /// Checkpoint that the adapter was trained for, or its name on the hub
    #[arg(long, value_name = "DIR|NAME")]
    base: PathBuf,
    /// Folder with adapter_config.json and adapter_model.safetensors or adapter_model.bin (PEFT)
    #[arg(long, value_name = "DIR")]
    lora: PathBuf,
    /// Output file
    #[arg(long, short, value_name = "OUT", default_value = "lora-bits.bin")]
    output: PathBuf,
    /// An export of the base whose settings are not those it was trained for
    #[arg(long, value_name = "FILE")]
    artifact: Option<PathBuf>,
    /// Bits of a code: 1, 2, 4 or 8; default: 4, with `--max-size` those that keep most
    #[arg(long, value_parser = ["1", "2", "4", "8"])]
    bits: Option<String>,
    /// Most ranks of a matrix; default: those of the adapter, twice as many with `--bits 1`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=file::MAX_RANK as i64))]
    rank: Option<u32>,
    /// Largest size of the file, e.g. 4K: matrices and ranks are kept by what they contribute for their bytes
    #[arg(long, value_name = "BYTES", value_parser = size)]
    max_size: Option<usize>,
    /// Text like that which the model will read; it decides what an error costs (default: a built-in text)
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// Sign with a secret Ed25519 key, as `delta keygen` makes them
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
}

#[derive(Serialize)]
struct Output {
    path: String,
    signed: bool,
    /// Of the file, with its signature.
    file_bytes: usize,
    #[serde(flatten)]
    report: Report,
    warnings: Vec<String>,
}

impl Adapter {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        let bar = printer.progress();
        let key = self.sign.as_ref().map(|p| SecretKey::read(p)).transpose()?;
        let text = self.calibrate.as_ref().map(|f| read_capped(f, MAX_CALIBRATION_BYTES)).transpose()?;
        let model = import::open(&self.base, &bar)?;
        let lora = import::lora::open(&self.lora, &model)?;
        // Kept until the artifact in it is closed.
        let folder = tempfile::tempdir().map_err(|e| Error::tool(format!("no temporary folder: {e}")))?;
        let artifact = match &self.artifact {
            Some(path) => Artifact::open(path)?,
            None => export(&model, &folder.path().join("base.bitnet"), &bar)?,
        };
        let ids = calibration_ids(&model, text.as_deref(), artifact.program.vocab)?;
        let (adapter, report) = self.make(&artifact, &lora, &ids, &bar)?;
        let bytes = adapter.to_bytes(key.as_ref().map(SecretKey::signing));
        let mut out = AtomicFile::create(&self.output)?;
        out.write(&bytes)?;
        out.commit()?;
        let mut warnings = Vec::new();
        if report.energy < ENOUGH {
            let kept = 100.0 * report.energy;
            warnings.push(format!(
                "{kept:.0} % of what the adapter adds are kept, too little to do all that it was trained for; measure it with `eval --adapter`, or allow more bytes"
            ));
        }
        warnings.iter().for_each(|w| printer.warn(w));
        let output = Output {
            path: self.output.display().to_string(),
            signed: key.is_some(),
            file_bytes: report.bytes + key.map_or(0, |_| SIGNATURE),
            report,
            warnings,
        };
        printer.result(&output, |out| print(out, &output))?;
        Ok(0)
    }

    /// With the bits that were asked for, or those that keep most.
    fn make(&self, artifact: &Artifact, lora: &Lora, ids: &[u32], bar: &super::bar::Bar) -> Result<(Bits, Report)> {
        let bits = match (&self.bits, self.max_size) {
            // clap let only numbers pass.
            (Some(bits), _) => vec![bits.parse().unwrap_or(4)],
            (None, Some(_)) => vec![1, 2, 4, 8],
            (None, None) => vec![4],
        };
        let mut best: Option<(Bits, Report)> = None;
        let mut refused = None;
        for bits in bits {
            let options = Options { bits, rank: self.rank.map(|r| r as usize), max_size: self.max_size };
            match adapter::make(artifact, lora, ids, &options, bar) {
                Ok(made) if best.as_ref().is_none_or(|b| made.1.energy > b.1.energy) => best = Some(made),
                Ok(_) => {}
                // The fewest bits need the fewest bytes, so their refusal is the one to tell.
                Err(e) => refused = refused.or(Some(e)),
            }
        }
        match (best, refused) {
            (Some(made), _) => Ok(made),
            (None, Some(e)) => Err(e),
            (None, None) => Err(Error::usage("no bits to try")),
        }
    }
}

/// The base as it is for hosts, with the settings that it was trained for.
fn export(model: &Model, path: &Path, bar: &super::bar::Bar) -> Result<Artifact> {
    let target = target::find("host")?;
    let options = lower::Options { embedding_default: target.defaults.embedding_bits, ..lower::Options::default() };
    let request =
        packed::Request { model, options, target: &target, calibration: None, tokenizer: None, adapters: false };
    let prepared = packed::prepare(request).map_err(|e| match e.kind() {
        crate::error::Kind::Usage => {
            e.hint("export the base with the settings that it is to have, then add `--artifact FILE`")
        }
        _ => e,
    });
    prepared?.write(path, bar)?;
    Artifact::open(path)
}

fn calibration_ids(model: &Model, text: Option<&[u8]>, vocab: usize) -> Result<Vec<u32>> {
    let Some(json) = &model.tokenizer_json else {
        if text.is_some() {
            let e = Error::usage("a calibration text needs a tokenizer, the checkpoint has none");
            return Err(e.hint("leave `--calibrate` out"));
        }
        return Ok(scattered_ids(256.min(vocab), vocab));
    };
    let codec = HostTokenizer::from_json(json)?;
    let text = text.map_or_else(|| TEXT.into(), String::from_utf8_lossy);
    let mut ids = codec.encode(&text)?;
    ids.truncate(CALIBRATION);
    ids.retain(|id| (*id as usize) < vocab);
    if ids.is_empty() {
        return Err(Error::usage("the calibration text is empty").hint("give some text that the model could read"));
    }
    Ok(ids)
}

fn print(out: &mut dyn Write, o: &Output) -> io::Result<()> {
    let r = &o.report;
    let signed = if o.signed { ", signed" } else { "" };
    writeln!(
        out,
        "{}: {} bytes{signed}, codes of {} bits; the floats have {} bytes",
        o.path,
        group(o.file_bytes as u64),
        r.bits,
        group(r.float_bytes as u64)
    )?;
    writeln!(out, "  {:24} {:>9} {:>8} {:>8} {:>10}", "matrix", "rank", "bytes", "kept", "of output")?;
    for row in &r.rows {
        let rank = format!("{} of {}", row.kept, row.rank);
        let (kept, weight) = (100.0 * row.energy, 100.0 * row.weight);
        writeln!(out, "  {:24} {rank:>9} {:>8} {kept:>6.1} % {weight:>8.2} %", row.matrix, group(row.bytes as u64))?;
    }
    writeln!(
        out,
        "{:.1} % of what the adapter adds are kept; a device needs {} bytes of RAM for it",
        100.0 * r.energy,
        group(r.scratch as u64)
    )
}

/// `--adapter` of the commands that run a model.
#[derive(Args)]
pub struct With {
    /// Run with an adapter, a file that `bitnet-convert adapter` made
    #[arg(long, value_name = "FILE")]
    pub adapter: Option<PathBuf>,
    /// Take only an adapter that was signed with the secret part of this Ed25519 key, NAME.pub of `delta keygen`
    #[arg(long, value_name = "KEY", requires = "adapter")]
    pub verify_key: Option<PathBuf>,
}

impl With {
    /// The file and what is in it, its signature checked if a key is given.
    fn read(&self) -> Result<Option<(&Path, Vec<u8>)>> {
        let Some(path) = &self.adapter else { return Ok(None) };
        let data = read_capped(path, MAX_ADAPTER_BYTES)?;
        if let Some(key) = &self.verify_key {
            let key = PublicKey::read(key)?;
            file::verify(&data, key.verifying()).map_err(|e| e.at_file(path))?;
        }
        Ok(Some((path, data)))
    }

    /// The file, its signature checked if a key is given.
    pub fn checked(&self) -> Result<Option<&Path>> {
        Ok(self.read()?.map(|(path, _)| path))
    }

    /// The adapter, checked and bound to the model: the very bytes whose signature was checked.
    pub fn load(&self, artifact: &Artifact) -> Result<Option<Bound>> {
        let Some((path, data)) = self.read()? else { return Ok(None) };
        artifact.adapter(&data).map(Some).map_err(|e| e.at_file(path))
    }
}
