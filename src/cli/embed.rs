use super::{float, vectors, Printer};
use crate::error::{Error, Result};
use crate::format::packed::MAGIC;
use crate::kernels::DotKernel;
use crate::runtime::Artifact;
use crate::tokenizer::TextCodec;
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
    /// A checkpoint, computed in float32, or a packed model or exported folder
    #[arg(value_name = "DIR|ARTIFACT")]
    pub(super) model: PathBuf,
    /// A text; may be given several times
    #[arg(long, value_name = "TEXT", required = true)]
    pub(super) text: Vec<String>,
}

impl Embed {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        if is_artifact(&self.model) {
            return self.artifact(printer);
        }
        float::embed(self, printer)
    }

    /// The vectors of the integer program, by the host runtime.
    fn artifact(&self, printer: &Printer) -> Result<u8> {
        let artifact = Artifact::open(&self.model)?;
        let Some((_, unit)) = artifact.program.embedding() else {
            let e = Error::usage("this model gives logits, not embeddings").at_file(&self.model);
            return Err(e.hint("use `bitnet-convert run ARTIFACT --prompt TEXT`"));
        };
        // docs/semantics.md, EMBEDDING
        let one = if unit { f64::from(1 << 30) } else { 65_536.0 };
        let codec = TextCodec::of(&artifact.packed)?;
        let mut session = artifact.session(DotKernel::best());
        let mut embeddings = Vec::new();
        for text in &self.text {
            let input_ids = codec.encode(text)?;
            if input_ids.is_empty() {
                return Err(Error::usage(format!("{text:?} has no tokens")).hint("give some text with `--text`"));
            }
            session.reset();
            let v = session.run(&input_ids)?.unwrap_or_default();
            let embedding = v.iter().map(|x| (f64::from(*x) / one) as f32).collect();
            embeddings.push(vectors::Embedding { text: text.clone(), input_ids, embedding });
        }
        vectors::print(embeddings, printer)
    }
}

fn is_artifact(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    let read = path.is_file() && std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut start)).is_ok();
    path.join("model.bin").is_file() || (read && start == MAGIC)
}
