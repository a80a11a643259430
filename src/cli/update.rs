use super::delta::trust::{real, version, Trust};
use super::Printer;
use crate::error::Result;
use crate::http::Token;
use crate::update::{self, Kind, Options, Report, Status, TOKEN};
use clap::Args;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Bring a model to its newest version over a network, by the smallest patches there are
///
/// Fetches a direct patch, a chain of patches or a full image, whichever costs least, checks signature and digests before anything is written, and puts the new version in the place of the old one. Whatever cuts it (network, power, kill), the same command goes on.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert update --model model.bitnet --delta-url https://example.org/intent/index.json --key vendor.pub
  bitnet-convert update --model model.bitnet --delta-url file:///media/stick/index.json --dry-run
  bitnet-convert update --model model.bitnet --delta-url https://example.org/v1-to-v2.bin --in-place --confirm

BITNET_UPDATE_TOKEN holds a token for the host of the address; no other host gets it.
Exit codes: 0 the model is the newest version (or, with --dry-run, this is what would be done); 2 could not do it, the model is as it was.")]
pub struct Update {
    /// The model; only with a full patch it need not be there
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Address of an index (`delta index`) or of one patch: https://, file://, or http:// on this machine
    #[arg(long, value_name = "URL")]
    delta_url: String,
    /// Overwrite the model block by block, with a journal, where there is no room for a second copy
    #[arg(long)]
    in_place: bool,
    /// Accept the new version at once; else `delta confirm` does, until then `delta rollback` is possible
    #[arg(long)]
    confirm: bool,
    /// Say what would be fetched, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    trust: Trust,
    /// Use plain http to other machines
    #[arg(long, help_heading = "Network")]
    allow_http: bool,
    /// Refuse larger patches, in bytes (default, for patches that no key vouches for: twice the model and 64 MiB)
    #[arg(long, value_name = "BYTES", help_heading = "Network")]
    max_download: Option<u64>,
    /// Seconds to find the host and to connect
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = seconds(), help_heading = "Network")]
    connect_timeout: u64,
    /// Seconds without a kilobyte before a connection is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = seconds(), help_heading = "Network")]
    idle_timeout: u64,
    /// Seconds for everything that is fetched
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = seconds(), help_heading = "Network")]
    total_timeout: u64,
    /// Attempts without progress before a download is given up
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100), help_heading = "Network")]
    attempts: u32,
}

fn seconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=7 * 86_400)
}

impl Update {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        let token = std::env::var_os(TOKEN).map(|v| v.to_string_lossy().into_owned()).unwrap_or_default();
        let trust = self.trust.options()?;
        let options = Options {
            model: real(&self.model)?,
            url: self.delta_url.clone(),
            keys: trust.keys,
            allow_unsigned: trust.allow_unsigned,
            allow_downgrade: trust.allow_downgrade,
            allow_http: self.allow_http,
            in_place: self.in_place,
            confirm: self.confirm,
            dry_run: self.dry_run,
            token: Token::new(&token, TOKEN)?,
            connect: Duration::from_secs(self.connect_timeout),
            idle: Duration::from_secs(self.idle_timeout),
            total: Duration::from_secs(self.total_timeout),
            attempts: self.attempts,
            backoff: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            max_download: self.max_download,
        };
        let report = update::run(&options, &printer.progress())?;
        report.notes.iter().for_each(|n| printer.warn(n));
        if report.signed_by.is_none() && report.status == Status::Updated {
            printer.warn("no key is known, so nobody vouches for this version; give one with --key");
        }
        printer.result(&report, |out| print(out, &report))?;
        Ok(0)
    }
}

fn print(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    let (from, to) = (r.from.as_ref().map_or("?".to_string(), version), version(&r.to));
    match r.status {
        Status::UpToDate => writeln!(out, "{}: nothing to do, it is {to}", r.file)?,
        Status::Updated => writeln!(out, "{}: {from} -> {to}, {} bytes fetched", r.file, r.fetched)?,
        Status::WouldUpdate => {
            let total = r.patches.iter().fold(0u64, |sum, p| sum.saturating_add(p.bytes));
            let way = match r.way {
                Some(Kind::Chain) => format!("a chain of {} patches", r.patches.len()),
                Some(Kind::Full) => "a full patch".into(),
                _ => "one patch".into(),
            };
            writeln!(out, "{}: {from} -> {to} would take {way}, {total} bytes", r.file)?;
            for p in &r.patches {
                writeln!(out, "  {}  {} bytes", p.url, p.bytes)?;
            }
        }
    }
    if r.trial && r.status != Status::WouldUpdate {
        writeln!(out, "on trial: `bitnet-convert delta confirm {0}` accepts it, `bitnet-convert delta rollback {0}` takes it back", r.file)?;
    }
    Ok(())
}
