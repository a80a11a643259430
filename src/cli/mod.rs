//! The command line: one file a command. stdout is data, stderr is talk.
//! Exit codes: 0 yes, 1 the answer is no (differs, does not fit), 2 could not do it.

mod adapter;
mod bar;
mod completions;
mod convert_gguf;
mod delta;
mod embed;
mod eval;
mod export;
mod export_gguf;
mod export_onnx;
#[cfg_attr(not(feature = "reference"), path = "no_float.rs")]
mod float;
mod inspect;
mod inspect_gguf;
mod inspect_onnx;
mod kept;
mod logits;
mod prune;
mod run;
mod targets;
mod tokenizer;
#[cfg(feature = "hub")]
mod update;
mod vectors;
mod verify;

use crate::error::{printable, Error, Result};
use clap::{Args, CommandFactory, Parser, Subcommand};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

const EXIT: &str = "Exit codes: 0 yes; 1 the answer is no (does not fit, differs); 2 could not do it.";

/// Takes a 1-bit language model from a checkpoint to a server or a microcontroller, and proves that it computes the same there
#[derive(Parser)]
#[command(name = "bitnet-convert", version, after_help = EXIT, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// The same with `delta` alone: building the arguments of all commands takes more memory than applying a patch.
#[derive(Parser)]
#[command(name = "bitnet-convert", version, after_help = EXIT, max_term_width = 120)]
struct DeltaOnly {
    #[command(subcommand)]
    command: DeltaCommand,
    #[command(flatten)]
    global: Global,
}

#[derive(Subcommand)]
enum DeltaCommand {
    Delta(delta::Delta),
}

impl Cli {
    fn parsed() -> Cli {
        if std::env::args_os().nth(1).is_none_or(|first| first != "delta") {
            return Cli::parse();
        }
        crate::fsio::forget_code();
        let DeltaOnly { command: DeltaCommand::Delta(delta), global } = DeltaOnly::parse();
        Cli { command: Command::Delta(delta), global }
    }
}

/// Flags of every command.
#[derive(Args, Clone)]
struct Global {
    /// Print the result as JSON on stdout
    #[arg(long, global = true, help_heading = "Output")]
    json: bool,
    /// Print nothing but the result and errors
    #[arg(long, short, global = true, help_heading = "Output")]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    Export(export::Export),
    Inspect(inspect::Inspect),
    Run(run::Run),
    Logits(logits::Logits),
    Embed(embed::Embed),
    Verify(verify::Verify),
    Eval(eval::Eval),
    Prune(prune::Prune),
    Adapter(adapter::Adapter),
    Delta(delta::Delta),
    #[cfg(feature = "hub")]
    Update(update::Update),
    Tokenizer(tokenizer::Tokenizer),
    Targets(targets::Targets),
    Completions(completions::Completions),
}

/// Where results and talk go.
struct Printer {
    json: bool,
    quiet: bool,
}

impl Printer {
    /// Something on the way, for people.
    fn note(&self, message: &str) {
        if !self.quiet {
            say(message);
        }
    }

    fn warn(&self, message: &str) {
        if !self.quiet {
            say(&format!("{} {message}", paint("warning:", "1;33")));
        }
    }

    /// The result: JSON if asked for, else what `text` writes.
    fn result<T: Serialize>(&self, value: &T, text: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let mut out = io::stdout().lock();
        let r = if self.json {
            // Serializing our own plain structs cannot fail; an error here is one of the stream.
            serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from).and_then(|()| writeln!(out))
        } else {
            text(&mut Printable(&mut out))
        };
        match r.and_then(|()| out.flush()) {
            // Whoever reads us has seen enough (`| head`).
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(e) => Err(Error::io("write the result", std::path::Path::new("<stdout>"), &e)),
            Ok(()) => Ok(()),
        }
    }

    fn progress(&self) -> bar::Bar {
        bar::Bar::new(self.quiet || self.json)
    }

    /// For work that counts texts, not bytes.
    fn progress_in_texts(&self) -> bar::Bar {
        bar::Bar::in_texts(self.quiet || self.json)
    }

    /// The same with `--json`.
    fn as_json(&self) -> Printer {
        Printer { json: true, quiet: self.quiet }
    }
}

/// Lets no control character of a file's names through to the terminal.
struct Printable<'a>(&'a mut dyn Write);

impl Write for Printable<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        // `write!` hands over whole strings.
        let text = String::from_utf8_lossy(data);
        for (i, line) in text.split('\n').enumerate() {
            let start = if i == 0 { "" } else { "\n" };
            self.0.write_all(format!("{start}{}", printable(line)).as_bytes())?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A line of talk. A stderr that nobody reads any more (`2>&1 | head`) is no reason to stop, so the failure is dropped.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Colour on a terminal, unless NO_COLOR is set.
fn paint(text: &str, code: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) || !io::stderr().is_terminal();
    if plain {
        text.to_string()
    } else {
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The argument tree, for completions and for the reference in docs/cli.md.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the arguments, runs the command and prints an error if there is one.
pub fn main() -> ExitCode {
    // Without this an interrupt would leave the temporary output behind; a failure to install it changes nothing else.
    let _ = ctrlc::set_handler(|| {
        crate::fsio::remove_pending();
        std::process::exit(130);
    });
    std::panic::set_hook(Box::new(|info| {
        if crate::tokenizer::host::guarded() {
            return;
        }
        say(&format!("{} internal error: {info}", paint("error:", "1;31")));
        say(&format!(
            "{} this is a bug in bitnet-convert; please report it with the command and, if you can, the input",
            paint("hint:", "1;36")
        ));
    }));
    let cli = Cli::parsed();
    let printer = Printer { json: cli.global.json, quiet: cli.global.quiet };
    // A bug must not look like an answer: 101, the code of a panic, is none of ours.
    let r = std::panic::catch_unwind(|| dispatch(&cli.command, &printer)).unwrap_or_else(|_| {
        crate::fsio::remove_pending();
        std::process::exit(2)
    });
    match r {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            report(&e, printer.json);
            ExitCode::from(e.kind().exit_code())
        }
    }
}

fn dispatch(command: &Command, printer: &Printer) -> Result<u8> {
    match command {
        Command::Export(c) => c.run(printer),
        Command::Inspect(c) => c.run(printer),
        Command::Run(c) => c.run(printer),
        Command::Logits(c) => c.run(printer),
        Command::Embed(c) => c.run(printer),
        Command::Verify(c) => c.run(printer),
        Command::Eval(c) => c.run(printer),
        Command::Prune(c) => c.run(printer),
        Command::Adapter(c) => c.run(printer),
        Command::Delta(c) => c.run(printer),
        #[cfg(feature = "hub")]
        Command::Update(c) => c.run(printer),
        Command::Tokenizer(c) => c.run(printer),
        Command::Targets(c) => c.run(printer),
        Command::Completions(c) => c.run(),
    }
}

#[derive(Serialize)]
struct JsonError<'a> {
    error: JsonErrorBody<'a>,
}

#[derive(Serialize)]
struct JsonErrorBody<'a> {
    code: &'a str,
    message: &'a str,
    file: Option<String>,
    tensor: Option<&'a str>,
    offset: Option<u64>,
    hint: Option<&'a str>,
}

fn report(e: &Error, json: bool) {
    if json {
        let body = JsonErrorBody {
            code: e.kind().code(),
            message: e.message(),
            file: e.file().map(|f| f.display().to_string()),
            tensor: e.tensor(),
            offset: e.offset(),
            hint: e.next_step(),
        };
        // A closed stdout leaves only the exit code to tell.
        let mut out = io::stdout();
        let _ = serde_json::to_writer_pretty(&mut out, &JsonError { error: body }).map(|()| writeln!(out));
    }
    say(&format!("{} {e}", paint("error:", "1;31")));
    if let Some(h) = e.next_step() {
        say(&format!("{} {h}", paint("hint:", "1;36")));
    }
}

/// Parses a comma separated list of token ids.
fn parse_ids(text: &str) -> Result<Vec<u32>> {
    let ids = text.split(',').map(|t| t.trim().parse::<u32>().map_err(|_| t));
    ids.collect::<std::result::Result<Vec<u32>, &str>>().map_err(|t| {
        Error::usage(format!("`{}` in the list of ids is no token id", t.trim()))
            .hint("give whole numbers with commas: `--input-ids 1,2,3`")
    })
}

/// A number of bytes: 4096, 4K, 1M.
fn size(text: &str) -> std::result::Result<usize, String> {
    let (digits, unit) = match text.trim_end_matches(['B', 'b']) {
        t if t.ends_with(['K', 'k']) => (&t[..t.len() - 1], 1 << 10),
        t if t.ends_with(['M', 'm']) => (&t[..t.len() - 1], 1 << 20),
        t => (t, 1),
    };
    let n = digits.trim().parse::<usize>().ok().and_then(|n| n.checked_mul(unit));
    n.filter(|n| *n > 0).ok_or_else(|| "give a number of bytes, e.g. 4096, 4K or 1M".into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_have_units() {
        assert_eq!(super::size("4096"), Ok(4096));
        assert_eq!(super::size("4K"), Ok(4096));
        assert_eq!(super::size("16KB"), Ok(16384));
        assert_eq!(super::size("1M"), Ok(1 << 20));
        for bad in ["", "K", "0", "-1", "4G", "99999999999999999999K", "é"] {
            assert!(super::size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_argument_tree_is_consistent() {
        super::command().debug_assert();
    }
}
