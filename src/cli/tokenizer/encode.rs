use super::source::Source;
use super::Printer;
use crate::error::{Error, Result};
use crate::fsio::read_capped;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::io::Read;
use std::path::{Path, PathBuf};

const LARGEST_TEXT: u64 = 64 << 20;

/// Which of the two forms is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// The reference library
    Host,
    /// The compiled form, as it runs on the device
    Device,
}

/// Turn a text into token ids
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert tokenizer encode DIR --text \"a cat\"
  bitnet-convert tokenizer encode tokenizer.model --file text.txt --json
  echo -n \"a cat\" | bitnet-convert tokenizer encode model.bitnet --engine device")]
pub struct Encode {
    /// A tokenizer, see `tokenizer --help`
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// The text; special tokens in it are recognised
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    text: Option<String>,
    /// Read the text from a file; without this and `--text` from stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Who computes it (default: the reference where there is one)
    #[arg(long, value_enum)]
    engine: Option<Engine>,
    /// Without the ids that the tokenizer's template puts around a text
    #[arg(long)]
    no_template: bool,
}

#[derive(Serialize)]
struct Output {
    engine: &'static str,
    ids: Vec<u32>,
    /// The bytes of each, as far as they are text.
    tokens: Vec<Option<String>>,
}

impl Encode {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        let source = Source::open(&self.source)?;
        let text = self.text()?;
        let engine = match self.engine {
            Some(e) => e,
            None if source.json.is_some() => Engine::Host,
            None => Engine::Device,
        };
        let ids = match engine {
            Engine::Host => {
                let host = source.host()?.ok_or_else(|| no_reference(&source.path))?;
                let text = std::str::from_utf8(&text).map_err(|e| {
                    let e = Error::input(format!("the text is not UTF-8: {e}")).at_offset(e.valid_up_to() as u64);
                    e.hint("`--engine device` takes any bytes")
                })?;
                if self.no_template {
                    host.encode_more(text)?
                } else {
                    host.encode(text)?
                }
            }
            Engine::Device => {
                let device = source.device()?;
                let ids = device.encode(&text);
                if self.no_template {
                    ids
                } else {
                    [device.prefix_ids(), &ids, device.suffix_ids()].concat()
                }
            }
        };
        // What has no compiled form is encoded all the same, only without spellings.
        let device = source.device().ok();
        let spelling = |id: &u32| device.as_ref()?.decode_token(*id).map(|b| String::from_utf8_lossy(&b).into_owned());
        let tokens = ids.iter().map(spelling).collect();
        let engine = if engine == Engine::Host { "host" } else { "device" };
        let output = Output { engine, ids, tokens };
        printer.result(&output, |out| {
            let ids: Vec<String> = output.ids.iter().map(u32::to_string).collect();
            writeln!(out, "{}", ids.join(","))
        })?;
        Ok(0)
    }

    fn text(&self) -> Result<Vec<u8>> {
        match (&self.text, &self.file) {
            (Some(t), _) => Ok(t.clone().into_bytes()),
            (None, Some(file)) => read_capped(file, LARGEST_TEXT),
            (None, None) => {
                let mut text = Vec::new();
                let stdin = Path::new("<stdin>");
                let read = std::io::stdin().lock().take(LARGEST_TEXT + 1).read_to_end(&mut text);
                read.map_err(|e| Error::io("read", stdin, &e))?;
                match text.len() as u64 > LARGEST_TEXT {
                    true => Err(Error::input("the text has more than 64 MiB").at_file(stdin)),
                    false => Ok(text),
                }
            }
        }
    }
}

pub fn no_reference(path: &Path) -> Error {
    Error::usage("there is only the compiled tokenizer here, no reference")
        .at_file(path)
        .hint("use `--engine device`, or give the checkpoint that it was made from")
}
