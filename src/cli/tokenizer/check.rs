use super::source::Source;
use super::Printer;
use crate::error::{Error, Kind, Result};
use crate::fsio::read_capped;
use crate::parallel;
use crate::tokenizer::check::{self, Builtin, Device, NotRun, Sources, Texts};
use crate::verify::{text_devices, FoundDevice, C_HOST};
use clap::{Args, ValueEnum};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

const LARGEST_CORPUS: u64 = 256 << 20;
const LARGEST_CASES: u64 = 256 << 20;
/// Lines of a corpus are cut at this many bytes.
const LONGEST_LINE: usize = 1 << 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One object on stdout
    Json,
    /// JUnit XML for CI
    Junit,
}

/// Check that the device tokenizer equals the reference, on all texts that there are
///
/// Compares the ids, and the text that they decode to, on the lines of a corpus, on cases with known ids, on built-in texts (all of Unicode,
/// combining marks, emoji, control bytes, long runs, special tokens whole and cut in half, bytes that are not UTF-8) and on random ones. Stops at nothing; the
/// first differences are told with what is around them and the shortest text that shows them.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert tokenizer check --model DIR
  bitnet-convert tokenizer check --model DIR --corpus text.txt --count 1000000 --seed 7
  bitnet-convert tokenizer check --model DIR --cases golden.json --target cortex-m7
  bitnet-convert tokenizer check --model firmware/ --reference DIR --format junit > report.xml

Devices: rust (this process), c-host (the C runtime on this machine, with sanitizers), every target that has an emulator (`targets list`), all.
An emulated machine gets no large groups and at most 1024 random texts.
Exit codes: 0 equal; 1 different; 2 it could not be done, or with --require a device did not run.")]
pub struct Check {
    /// A tokenizer, see `tokenizer --help`; of a packed model or `pack`ed file the compiled form is checked that lies there
    #[arg(long, value_name = "SOURCE")]
    model: PathBuf,
    /// What it must equal, where the compiled form is all there is: the checkpoint that it was made from
    #[arg(long, value_name = "SOURCE")]
    reference: Option<PathBuf>,
    /// Texts of yours, a text a line; may be given several times
    #[arg(long, value_name = "FILE")]
    corpus: Vec<PathBuf>,
    /// Texts with their ids: {"cases": [{"text": "a", "ids": [64], "decoded": "a"}]}; may be given several times
    #[arg(long, value_name = "FILE.json")]
    cases: Vec<PathBuf>,
    /// Devices with commas; default: rust, and c-host if there is a compiler
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    target: Vec<String>,
    /// Start of the random texts; the same seed gives the same texts
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Random texts
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    count: u64,
    /// Without every code point and the long texts, which take some seconds
    #[arg(long)]
    quick: bool,
    /// Nothing but the texts of `--corpus` and `--cases`
    #[arg(long, conflicts_with_all = ["quick", "count"])]
    only_given: bool,
    /// Differences that are told for each device
    #[arg(long, value_name = "N", default_value_t = 5)]
    show: usize,
    /// The report on stdout
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Threads (default: all cores); the report is the same for any number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: Option<u16>,
    /// Fail if a device did not run
    #[arg(long)]
    require: bool,
}

/// The devices beside the one in this process, and those that could not be built.
struct Devices {
    devices: Vec<Box<dyn Device>>,
    not_run: Vec<NotRun>,
}

impl Check {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        let source = Source::open(&self.model)?;
        let blob = source.blob()?;
        let rust = source.device()?;
        let other = self.reference.as_deref().map(Source::open).transpose()?;
        let by = other.as_ref().unwrap_or(&source);
        let host = by.host()?;
        if host.is_none() && self.cases.is_empty() {
            let e = Error::usage("there is only the compiled tokenizer here, nothing to compare it with");
            return Err(e.at_file(&by.path).hint("give the checkpoint that it was made from: `--reference DIR`"));
        }
        let added = by.json.as_deref().map(check::added_tokens).unwrap_or_default();
        let texts = Texts::new(Sources {
            cases: self.cases()?,
            corpus: self.corpus()?,
            material: check::material(&rust, host.as_ref(), added),
            seed: self.seed,
            count: if self.only_given { 0 } else { self.count },
            builtin: match (self.only_given, self.quick) {
                (true, _) => Builtin::Nothing,
                (false, true) => Builtin::Small,
                (false, false) => Builtin::All,
            },
        });
        if texts.batches().is_empty() {
            return Err(Error::usage("there is nothing to check")
                .hint("leave `--only-given` out, or give `--corpus` or `--cases`"));
        }
        // The definition in this process goes first: it also stands for the reference where that takes no text.
        let Devices { devices, not_run } = self.devices(&rust, &blob, printer)?;
        let mut all: Vec<&dyn Device> = vec![&rust];
        all.extend(devices.iter().map(|d| d.as_ref()));
        let threads = self.threads.map_or_else(parallel::threads, usize::from);
        let check =
            check::Check { reference: host.as_ref(), tokens: &rust, devices: all, texts, threads, most: self.show };
        let start = Instant::now();
        let bar = printer.progress_in_texts();
        let mut report = check.run(&bar)?;
        report.not_run = not_run;
        let seconds = start.elapsed().as_secs_f64();
        let name = self.model.display().to_string();
        match self.format {
            Format::Junit => write_out(check::junit(&report, &name).as_bytes())?,
            Format::Json if !printer.json => printer.as_json().result(&report, |_| Ok(()))?,
            _ => printer.result(&report, |out| check::text(out, &report))?,
        }
        let speed = report.texts() as f64 / seconds.max(1e-9);
        printer.note(&format!("{} texts in {seconds:.1} s on {threads} threads, {speed:.0} a second", report.texts()));
        for n in &report.not_run {
            printer.warn(&format!("{} did not run: {}", n.device, n.why));
        }
        if !report.equal() {
            return Ok(Kind::Differs.exit_code());
        }
        Ok(if self.require && !report.not_run.is_empty() { Kind::Tool.exit_code() } else { 0 })
    }

    fn devices(&self, rust: &crate::tokenizer::DeviceTokenizer, blob: &[u8], printer: &Printer) -> Result<Devices> {
        let mut names: Vec<String> = self.target.iter().filter(|t| *t != "rust").cloned().collect();
        if self.target.is_empty() {
            names.push(C_HOST.into());
        }
        if !names.is_empty() {
            printer.note(&format!("building {}", names.join(", ")));
        }
        let (mut devices, mut not_run) = (Vec::new(), Vec::new());
        for found in text_devices(&names, rust, blob)? {
            match found {
                FoundDevice::Runs(d) => devices.push(d),
                FoundDevice::NotRun { device, why } => not_run.push(NotRun { device, why }),
            }
        }
        Ok(Devices { devices, not_run })
    }

    fn cases(&self) -> Result<Vec<check::Case>> {
        let mut all = Vec::new();
        for file in &self.cases {
            let cases = check::cases(&read_capped(file, LARGEST_CASES)?).map_err(|e| e.at_file(file))?;
            all.extend(cases);
        }
        Ok(all)
    }

    fn corpus(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for file in &self.corpus {
            let data = read_capped(file, LARGEST_CORPUS)?;
            let text = String::from_utf8_lossy(&data);
            let before = all.len();
            text.split_inclusive('\n').for_each(|line| cut(line, &mut all));
            if all.len() == before {
                return Err(Error::input("there is no text in this file").at_file(file));
            }
        }
        Ok(all)
    }
}

/// A line without its end, in parts that are not too long.
fn cut(line: &str, out: &mut Vec<String>) {
    let mut rest = line.strip_suffix('\n').unwrap_or(line);
    while rest.len() > LONGEST_LINE {
        let at = (1..=LONGEST_LINE).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
        let (part, more) = rest.split_at(at);
        out.push(part.to_string());
        rest = more;
    }
    if !rest.is_empty() {
        out.push(rest.to_string());
    }
}

/// Raw, because the report has escaped what needs it.
fn write_out(data: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(data).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("write the report", Path::new("<stdout>"), &e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_characters() {
        let mut out = Vec::new();
        cut(&format!("{}\n", "é".repeat(LONGEST_LINE)), &mut out);
        assert_eq!((out.len(), out.concat().len()), (2, 2 * LONGEST_LINE));
        cut("\n", &mut out);
        assert_eq!(out.len(), 2);
    }
}
