use super::Printer;
use crate::delta::keys::SecretKey;
use crate::error::Result;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Make a pair of keys: NAME.key signs patches and adapters, NAME.pub checks them
///
/// The files are those of minisign, the secret one without a password: keep it where nobody else reads it, it is made for its owner only. Give the
/// public one to every machine that takes updates. Neither file is ever overwritten.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert delta keygen -o release
  bitnet-convert delta create v1.bitnet v2.bitnet -o v1-to-v2.bin --sign release.key
  bitnet-convert delta apply model.bitnet v1-to-v2.bin --key release.pub")]
pub struct Keygen {
    /// Files to write: NAME.key and NAME.pub
    #[arg(long, short, value_name = "NAME")]
    output: PathBuf,
    /// First line of both files, for people; nothing checks it
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

#[derive(Serialize)]
struct Output {
    secret: String,
    public: String,
    /// As the comments of the files and of minisign show it.
    number: String,
    /// The line of the public file that is the key.
    key: String,
}

impl Keygen {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        let key = SecretKey::generate()?;
        let line = key.public()?.line();
        let (secret, public) = key.write(&self.output, self.comment.as_deref())?;
        let output = Output {
            secret: secret.display().to_string(),
            public: public.display().to_string(),
            number: key.number().to_string(),
            key: line,
        };
        printer.result(&output, |out| {
            writeln!(
                out,
                "{}: the secret key {}, for its owner only; without it nobody can sign what your machines trust",
                output.secret, output.number
            )?;
            writeln!(out, "{}: the public key, for every machine that takes updates\n  {}", output.public, output.key)
        })?;
        Ok(0)
    }
}
