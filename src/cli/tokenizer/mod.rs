//! `tokenizer`: text to ids and back, the compiled form and its size, a smaller vocabulary, and whether device and reference are equal.

mod check;
mod decode;
mod encode;
mod pack;
mod source;
mod trim;

use super::Printer;
use crate::error::Result;
use clap::{Args, Subcommand};

/// Compare, compile and use tokenizers without their models
///
/// A SOURCE is a checkpoint folder, or one file of it: tokenizer.json, tokenizer.model (SentencePiece or tiktoken), vocab.json beside
/// merges.txt, vocab.txt, a GGUF file, a packed model or exported folder, or what `pack` wrote.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert tokenizer check --model DIR --corpus text.txt --count 100000
  bitnet-convert tokenizer encode DIR --text \"a cat\"
  bitnet-convert tokenizer pack --model DIR -o tok.bin
  bitnet-convert tokenizer trim --model DIR --corpus text.txt --max-rom 32K -o smaller")]
pub struct Tokenizer {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::Check),
    Encode(encode::Encode),
    Decode(decode::Decode),
    Pack(pack::Pack),
    Trim(trim::Trim),
}

impl Tokenizer {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        match &self.command {
            Command::Check(c) => c.run(printer),
            Command::Encode(c) => c.run(printer),
            Command::Decode(c) => c.run(printer),
            Command::Pack(c) => c.run(printer),
            Command::Trim(c) => c.run(printer),
        }
    }
}
