use super::source::Source;
use super::Printer;
use crate::error::{Error, Result};
use crate::fsio::read_capped;
use crate::tokenizer::chat::{self, Role};
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
  bitnet-convert tokenizer encode DIR --chat system:\"Be brief.\" --chat user:\"What is a cat?\"
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
    /// A message of a conversation, in the form of the chat template, up to where the model is to write: `system:`, `user:` or `assistant:`
    /// and its text; give it again for the next message
    #[arg(long, value_name = "ROLE:TEXT", conflicts_with_all = ["text", "file"], value_parser = chat::parse)]
    chat: Vec<(Role, String)>,
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
        let engine = match self.engine {
            Some(e) => e,
            None if source.json.is_some() => Engine::Host,
            None => Engine::Device,
        };
        let text = if self.chat.is_empty() { self.text()? } else { self.conversation(&source, engine)?.into_bytes() };
        // A chat template says itself what stands around a text.
        let no_template = self.no_template || !self.chat.is_empty();
        let ids = match engine {
            Engine::Host => {
                let host = source.host()?.ok_or_else(|| no_reference(&source.path))?;
                let text = std::str::from_utf8(&text).map_err(|e| {
                    let e = Error::input(format!("the text is not UTF-8: {e}")).at_offset(e.valid_up_to() as u64);
                    e.hint("`--engine device` takes any bytes")
                })?;
                if no_template {
                    host.encode_more(text)?
                } else {
                    host.encode(text)?
                }
            }
            Engine::Device => {
                let device = source.device()?;
                let ids = device.encode(&text);
                if no_template {
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

    /// The messages as one text: of the template itself for the reference, of the form that a device has for the compiled tokenizer.
    fn conversation(&self, source: &Source, engine: Engine) -> Result<String> {
        let messages: Vec<(Role, &str)> = self.chat.iter().map(|(r, c)| (*r, c.as_str())).collect();
        if engine == Engine::Host {
            if source.chat.template.is_empty() {
                return Err(Error::unsupported("there is no chat template beside this tokenizer").at_file(&source.path));
            }
            let named: Vec<(&str, &str)> = messages.iter().map(|(r, c)| (r.name(), *c)).collect();
            let text = source.chat.template().and_then(|t| t.render(&named));
            return text.map_err(|e| Error::input(format!("the chat template: {e}")).at_file(&source.path));
        }
        let (blob, notes) = source.blob_with_chat()?;
        let chat = chat::Chat::of_blob(&blob).ok_or_else(|| {
            let e = Error::unsupported("the compiled tokenizer has no form for conversations").at_file(&source.path);
            notes.iter().fold(e, |e, note| e.hint(note.clone()))
        })?;
        chat.text(&messages).map_err(|fault| Error::usage(fault.text()).at_file(&source.path))
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
