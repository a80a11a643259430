use super::release::{releases, Said};
use super::{hysteresis, size, Printer};
use crate::delta::create::{self, Coder, Options, Side};
use crate::delta::hysteresis::Kept;
use crate::delta::keys::SecretKey;
use crate::delta::report::{Report, Row};
use crate::error::Result;
use crate::plan::group;
use crate::target::{self, Role};
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

/// Rows of the table; the rest is summed up in one.
const ROWS: usize = 24;

/// Make a patch that turns OLD into NEW
///
/// Tensors are matched by name and by what they hold, so renamed, moved, added and removed ones are found. For packed models the patch comes close to
/// the fewest bytes that can say which weights change; what it comes to is printed. Two files of any kind work, too. The bytes of a patch depend on
/// nothing but the two files and the options. With `--hysteresis` the result is another model than NEW, which is written to `--target-out`.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert delta create v0.4.2.bitnet v0.4.3.bitnet -o v0.4.2-to-v0.4.3.bin
  bitnet-convert delta create old-m7 new-m7 -o patch.bin --device --block 4K --sign release.key
  bitnet-convert delta create old.bitnet new.bitnet -o patch.bin --max-size 12M
  bitnet-convert delta create new.bitnet new.bitnet -o full.bin --full --sign release.key")]
pub struct Create {
    /// What the machines have: a packed file, an exported folder, or any file
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// What they are to have
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Patch to write
    #[arg(long, short, value_name = "PATCH")]
    output: PathBuf,
    /// Version of OLD, for people; default: what its name says
    #[arg(long, value_name = "VERSION")]
    from_version: Option<String>,
    /// Version of NEW
    #[arg(long, value_name = "VERSION")]
    to_version: Option<String>,
    /// Number of the release OLD; default: from its version
    #[arg(long, value_name = "N")]
    from_sequence: Option<u64>,
    /// Number of the release NEW: machines take only higher ones than they had
    #[arg(long, value_name = "N")]
    to_sequence: Option<u64>,
    /// Name of the model: machines refuse a patch for another one; default: what the file says
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Sign with this secret key, see `delta keygen`
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// Bytes of a block, a power of two from 4K to 1M: what a power cut can cost, and what a device keeps in its journal
    #[arg(long, value_name = "SIZE", value_parser = block)]
    block: Option<u32>,
    /// How scattered changes are coded: rice is faster and needs no memory, range is smaller where flips cluster
    #[arg(long, value_parser = ["auto", "rice", "range"], default_value = "auto")]
    coder: String,
    /// Refuse a patch larger than this, e.g. 12M, and say what makes it large
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<usize>,
    /// Make a patch that can be applied in place, even if the layout changed
    #[arg(long)]
    in_place: bool,
    /// Make a patch that also leads back from NEW to OLD
    #[arg(long)]
    reversible: bool,
    /// For the C applier on a device: no zstd; blocks of what its flash erases at once, or small ones
    #[arg(long)]
    device: bool,
    /// Make an image of NEW that needs no OLD, for machines that have something else
    #[arg(long, conflicts_with_all = ["in_place", "reversible"])]
    full: bool,
    /// Keep the old code of weights that moved at most TAU standard deviations of the update beyond their threshold: 0.5 halves the flips
    #[arg(long, value_name = "TAU", value_parser = tau, requires_all = ["weights", "target_out"], conflicts_with = "full")]
    hysteresis: Option<f64>,
    /// Checkpoint that NEW was exported from, with its floats
    #[arg(long, value_name = "DIR|NAME", requires = "hysteresis")]
    weights: Option<PathBuf>,
    /// Where to write what the patch makes with `--hysteresis`: NEW with fewer flips, its golden trace recorded anew
    #[arg(long, value_name = "FILE", requires = "hysteresis")]
    target_out: Option<PathBuf>,
}

fn tau(text: &str) -> std::result::Result<f64, String> {
    let tau = text.parse().ok().filter(|t: &f64| (0.0..=4.0).contains(t));
    tau.ok_or_else(|| "give a number from 0 to 4, e.g. 0.5".into())
}

/// log2 of the size of a block.
fn block(text: &str) -> std::result::Result<u32, String> {
    let bytes = size(text)?;
    let good = bytes.is_power_of_two() && (1 << 12..=1 << 20).contains(&bytes);
    good.then(|| bytes.trailing_zeros()).ok_or_else(|| "give a power of two from 4K to 1M".into())
}

impl Create {
    /// log2 of what the flash erases at once, if NEW is an export for such a machine: smaller blocks would cost digests and save it nothing.
    fn erased_at_once(&self) -> Option<u32> {
        let file = self.new.join("target.toml");
        if !self.device || !file.is_file() {
            return None;
        }
        let target = target::of_export(&file).ok()?;
        let erase = target.memory.iter().filter(|m| m.role == Role::Flash).find_map(|m| m.erase)?;
        let fits = erase.is_power_of_two() && (1 << 12..=1 << 20).contains(&erase);
        fits.then(|| erase.trailing_zeros())
    }

    pub fn run(&self, printer: &Printer) -> Result<u8> {
        let key = self.sign.as_ref().map(|p| SecretKey::read(p)).transpose()?;
        let base = Side::open(&self.old)?;
        let mut target = Side::open(&self.new)?;
        let mut notes = Vec::new();
        for side in [&base, &target] {
            if let Some(why) = &side.warning {
                notes.push(format!("{}: {why}", side.path.display()));
            }
        }
        let said = Said {
            model: self.model.as_deref(),
            versions: [self.from_version.as_deref(), self.to_version.as_deref()],
            sequences: [self.from_sequence, self.to_sequence],
        };
        let (model, [from, to]) = releases(&base, &target, &said, &mut notes)?;
        let options = Options {
            block_log2: self.block.or_else(|| self.erased_at_once()),
            coder: match self.coder.as_str() {
                "rice" => Coder::Rice,
                "range" => Coder::Range,
                _ => Coder::Auto,
            },
            in_place: self.in_place,
            reversible: self.reversible,
            device: self.device,
            full: self.full,
            max_size: self.max_size.map(|n| n as u64),
            model,
            base: from,
            target: to,
            sign: key.as_ref(),
        };
        let bar = printer.progress();
        let mut without = None;
        if let (Some(tau), Some(weights), Some(out)) = (self.hysteresis, &self.weights, &self.target_out) {
            let all = Options { max_size: None, ..options.clone() };
            let before = create::create(&base, &target, &all, None, &bar)?;
            let (made, kept) = hysteresis::run(&base.path, &target.path, weights, tau, out, printer)?;
            target = made;
            without = Some(Hysteresis { target: out.display().to_string(), bytes_without: before.bytes, kept });
        }
        let mut report = create::create(&base, &target, &options, Some(&self.output), &bar)?;
        report.notes.splice(0..0, notes);
        let report = Output { hysteresis: without, report };
        report.report.notes.iter().for_each(|n| printer.warn(n));
        printer.result(&report, |out| {
            print(out, &report.report)?;
            report.hysteresis.iter().try_for_each(|h| h.print(out, &report.report))
        })?;
        Ok(0)
    }
}

#[derive(Serialize)]
struct Output {
    #[serde(flatten)]
    report: Report,
    hysteresis: Option<Hysteresis>,
}

#[derive(Serialize)]
struct Hysteresis {
    /// The file that the patch makes.
    target: String,
    /// The patch with all flips.
    bytes_without: u64,
    #[serde(flatten)]
    kept: Kept,
}

impl Hysteresis {
    fn print(&self, out: &mut dyn Write, r: &Report) -> io::Result<()> {
        let k = &self.kept;
        let left = 100.0 * k.flips_after as f64 / k.flips_before.max(1) as f64;
        writeln!(
            out,
            "hysteresis {}: {} of {} flips are left ({left:.0} %), the patch has {} bytes instead of {}",
            k.tau,
            group(k.flips_after),
            group(k.flips_before),
            group(r.bytes),
            group(self.bytes_without)
        )?;
        writeln!(
            out,
            "  rounding errors grow by {:.3} %, {:.1} % of what the flips gain is kept; the patch makes {}",
            100.0 * k.extra_error,
            100.0 * k.energy,
            self.target
        )
    }
}

fn print(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    let named = |version: &str, sequence: u64| match version {
        "" => format!("release {sequence}"),
        v => v.to_string(),
    };
    let (from, to) = (named(&r.base.version, r.base.sequence), named(&r.target.version, r.target.sequence));
    let share = 100.0 * r.bytes as f64 / r.target.bytes.max(1) as f64;
    let way = if r.full { to.clone() } else { format!("{from} to {to}") };
    writeln!(out, "{}: {} bytes, {share:.2} % of the new file; {} {way}", r.patch, group(r.bytes), r.model)?;
    if r.weights > 0 && !r.full {
        writeln!(
            out,
            "  {} of {} weights flip ({:.3} %), which takes at least {} bytes",
            group(r.flips),
            group(r.weights),
            100.0 * r.rate,
            group(r.flips_bound_bytes.ceil() as u64)
        )?;
    }
    if r.bound_bytes > 0.0 && !r.full {
        let bound = group(r.bound_bytes.ceil() as u64);
        writeln!(out, "  with what else changes {bound}: the patch is {:.3} times that", r.ratio)?;
    }
    writeln!(
        out,
        "  header {}, index {} (digests {}), payload {}; {} of {} blocks of {} bytes change",
        group(r.header_bytes),
        group(r.index_bytes),
        group(r.digest_bytes),
        group(r.payload_bytes),
        group(r.changed_blocks),
        group(r.blocks),
        group(r.block_bytes)
    )?;
    let can = |yes: bool, what: &str, not: &str| if yes { what.to_string() } else { not.to_string() };
    writeln!(
        out,
        "  {}, {}, {}, {}",
        can(r.in_place, "can be applied in place", "makes a new file"),
        can(r.reversible, "leads back, too", "leads forward only"),
        can(r.host_only, "for hosts only", "for hosts and devices"),
        can(r.signed, "signed", "not signed")
    )?;
    table(out, &r.parts)
}

/// One line for what repeats over the layers, in the order of the file; what takes least is summed up.
fn table(out: &mut dyn Write, parts: &[Row]) -> io::Result<()> {
    struct Line<'a> {
        first: &'a Row,
        count: u64,
        weights: u64,
        flips: u64,
        bound: f64,
        coded: f64,
    }
    let mut lines: Vec<Line> = Vec::new();
    for p in parts {
        let line = match lines.iter_mut().find(|l| l.first.role == p.role) {
            Some(line) => line,
            None => {
                lines.push(Line { first: p, count: 0, weights: 0, flips: 0, bound: 0.0, coded: 0.0 });
                match lines.last_mut() {
                    Some(line) => line,
                    None => continue,
                }
            }
        };
        line.count += 1;
        line.weights += p.weights;
        line.flips += p.flips;
        line.bound += p.bound_bytes;
        line.coded += p.coded_bytes;
    }
    if lines.is_empty() {
        return Ok(());
    }
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by(|a, b| lines[*b].coded.total_cmp(&lines[*a].coded));
    let mut shown: Vec<usize> = order.iter().copied().take(ROWS).collect();
    shown.sort_unstable();
    writeln!(out, "  {:40} {:>8} {:>8} {:>11} {:>11}  coder", "what changes", "parts", "flips %", "bound", "bytes")?;
    for l in shown.iter().map(|i| &lines[*i]) {
        let name =
            if l.count > 1 { l.first.role.trim_end_matches('/').replace('/', " ") } else { l.first.name.clone() };
        let rate = match l.weights {
            0 => String::new(),
            n => format!("{:.3}", 100.0 * l.flips as f64 / n as f64),
        };
        let (bound, coded) = (group(l.bound.ceil() as u64), group(l.coded.round() as u64));
        writeln!(out, "  {name:40} {:>8} {rate:>8} {bound:>11} {coded:>11}  {}", l.count, l.first.coder)?;
    }
    let rest: f64 = order.iter().skip(ROWS).map(|i| lines[*i].coded).sum();
    if rest > 0.0 {
        writeln!(out, "  and {} more: {} bytes", order.len() - ROWS, group(rest.round() as u64))?;
    }
    Ok(())
}
