use super::{float, Printer};
use crate::error::{Error, Result};
use crate::format::packed::MAGIC;
use clap::Args;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Turn texts into vectors
///
/// The checkpoint's own pooling decides where it has one; else models of the bert family take the mean over the text and decoders the state of
/// the last token, both of length 1.
#[derive(Args)]
#[command(after_help = "Example:\n  bitnet-convert embed DIR --text \"a cat\" --text \"a kitten\"")]
pub struct Embed {
    /// A checkpoint
    #[arg(value_name = "DIR|ARTIFACT")]
    pub(super) model: PathBuf,
    /// A text; may be given several times
    #[arg(long, value_name = "TEXT", required = true)]
    pub(super) text: Vec<String>,
}

impl Embed {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        if is_artifact(&self.model) {
            let e = Error::unsupported("embeddings of an artifact are not supported yet").at_file(&self.model);
            return Err(e.hint("give the checkpoint; it is computed in float32"));
        }
        float::embed(self, printer)
    }
}

fn is_artifact(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    let read = path.is_file() && std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut start)).is_ok();
    path.join("model.bin").is_file() || (read && start == MAGIC)
}
