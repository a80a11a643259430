use super::{float, Printer};
use crate::error::{Error, Result};
use crate::format::packed::MAGIC;
use clap::Args;
use serde::Serialize;
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

#[derive(Serialize)]
pub(super) struct Embedding {
    pub text: String,
    pub input_ids: Vec<u32>,
    pub embedding: Vec<f32>,
}

#[derive(Serialize)]
struct Output {
    dimensions: usize,
    embeddings: Vec<Embedding>,
    /// Cosine of the angle between each two vectors.
    cosine: Vec<Vec<f64>>,
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

/// Prints the vectors, and how near they are to each other.
pub(super) fn print(embeddings: Vec<Embedding>, printer: &Printer) -> Result<u8> {
    let of = |a: &Embedding| embeddings.iter().map(|b| cosine(&a.embedding, &b.embedding)).collect();
    let output = Output {
        dimensions: embeddings.first().map_or(0, |e| e.embedding.len()),
        cosine: embeddings.iter().map(of).collect(),
        embeddings,
    };
    printer.result(&output, |out| {
        for e in &output.embeddings {
            writeln!(out, "# {:?}: {} tokens, {} values", e.text, e.input_ids.len(), e.embedding.len())?;
            let list: Vec<String> = e.embedding.iter().map(f32::to_string).collect();
            writeln!(out, "{}", list.join(" "))?;
        }
        if output.embeddings.len() > 1 {
            writeln!(out, "# cosine")?;
            for (row, e) in output.cosine.iter().zip(&output.embeddings) {
                let list: Vec<String> = row.iter().map(|c| format!("{c:7.4}")).collect();
                writeln!(out, "{}  {:?}", list.join(" "), e.text)?;
            }
        }
        Ok(())
    })?;
    Ok(0)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-24)
}

#[cfg(test)]
mod tests {
    #[test]
    fn cosines() {
        assert_eq!(super::cosine(&[3.0, 4.0], &[6.0, 8.0]), 1.0);
        assert_eq!(super::cosine(&[1.0, 0.0], &[0.0, 5.0]), 0.0);
        assert_eq!(super::cosine(&[0.0, 0.0], &[1.0, 1.0]), 0.0);
    }
}
