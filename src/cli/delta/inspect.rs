use super::Printer;
use crate::delta::info::{self, Info};
use crate::delta::keys::{verify, Keyring};
use crate::error::Result;
use crate::format::delta::Header;
use crate::fsio;
use crate::plan::group;
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Show what a patch does, without the file that it is for
///
/// Its digests are checked on the way. With `--key`, whether one of these keys signed it.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert delta inspect v0.4.2-to-v0.4.3.bin
  bitnet-convert delta inspect v0.4.2-to-v0.4.3.bin --key release.pub --json")]
pub struct Inspect {
    /// Patch
    #[arg(value_name = "PATCH")]
    patch: PathBuf,
    /// Public key whose signature counts; may be given several times
    #[arg(long, value_name = "KEY")]
    key: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Output {
    #[serde(flatten)]
    info: Info,
    /// With `--key`: whether it is signed by one of them.
    signature_good: Option<bool>,
}

impl Inspect {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        look(&self.patch, &self.key, printer)
    }
}

/// A patch, for the general `inspect`.
pub fn show(path: &Path, printer: &Printer) -> Result<u8> {
    look(path, &[], printer)
}

fn look(path: &Path, keys: &[PathBuf], printer: &Printer) -> Result<u8> {
    let data = fsio::map(path)?;
    let (_, info) = info::read(&data, &path.display().to_string()).map_err(|e| e.at_file(path))?;
    let ring = Keyring::read(keys)?;
    let refused = match data.first_chunk::<{ Header::LEN }>() {
        Some(header) if !ring.is_empty() => verify(header, &ring).err(),
        _ => None,
    };
    let good = (!ring.is_empty()).then_some(refused.is_none());
    let output = Output { info, signature_good: good };
    printer.result(&output, |out| print(out, &output))?;
    match refused {
        Some(why) => Err(crate::Error::from(why).at_file(path)),
        None => Ok(0),
    }
}

fn print(out: &mut dyn Write, o: &Output) -> io::Result<()> {
    let i = &o.info;
    writeln!(out, "{}: patch of {} bytes for `{}`, all digests match", i.file, group(i.bytes), i.model)?;
    let files = i.base.iter().map(|b| ("from", b)).chain([("to", &i.target)]);
    for (way, f) in files {
        let version = if f.version.is_empty() { "without a version".to_string() } else { f.version.clone() };
        writeln!(out, "  {way:4} {version}, sequence {}, {} bytes, sha256 {}", f.sequence, group(f.bytes), f.sha256)?;
    }
    let way = match (i.full, i.in_place, i.reversible) {
        (true, ..) => "needs no base",
        (_, true, true) => "can be applied in place and leads back",
        (_, true, false) => "can be applied in place",
        _ => "makes a new file",
    };
    let who = if i.host_only { "for hosts only" } else { "for hosts and devices" };
    let decoder = group(i.decoder_bytes);
    writeln!(out, "  {way}; {who}, a decoder needs {decoder} bytes beside its buffers")?;
    match (&i.key, o.signature_good) {
        (None, _) => writeln!(out, "  not signed")?,
        (Some(key), Some(true)) => writeln!(out, "  signed by the key {key}: the signature is good")?,
        (Some(key), Some(false)) => writeln!(out, "  says that it is signed by the key {key}: refused")?,
        (Some(key), None) => writeln!(out, "  signed by the key {key}; `--key` checks it")?,
    }
    writeln!(
        out,
        "  index {}, payload {} bytes; {} of {} blocks of {} bytes change",
        group(i.index_bytes),
        group(i.payload_bytes),
        group(i.changed_blocks),
        group(i.blocks),
        group(i.block_bytes)
    )?;
    if let (Some(flips), Some(bound)) = (i.flips, i.bound_bytes) {
        writeln!(out, "  {} bits flip, at least {} bytes", group(flips), group(bound.ceil() as u64))?;
    }
    writeln!(out, "  {:36} {:>9} {:>15} {:>12}", "coded as", "segments", "bytes", "flips")?;
    for k in &i.kinds {
        let flips = k.flips.map(group).unwrap_or_default();
        writeln!(out, "  {:36} {:>9} {:>15} {flips:>12}", k.kind, group(k.segments), group(k.bytes))?;
    }
    Ok(())
}
