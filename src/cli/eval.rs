use super::Printer;
use crate::error::{Error, Result};
use crate::eval::{self, Accuracy, Closeness, Fidelity, Perplexity};
use crate::runtime::Artifact;
use crate::tokenizer::TextCodec;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Measure what a conversion cost: accuracy, perplexity, distance from the float model's logits
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert eval model.bitnet --tasks eval.jsonl        lines of {\"prompt\": …, \"expected\": …}
  bitnet-convert eval model.bitnet --text heldout.txt
  bitnet-convert eval model.bitnet --golden golden.safetensors   `input_ids*` and `logits*` of the float model")]
pub struct Eval {
    /// A packed model, or an exported folder
    artifact: PathBuf,
    /// JSON lines with `prompt` and `expected`: exact match of the greedy answer
    #[arg(long, value_name = "FILE")]
    tasks: Option<PathBuf>,
    /// Text for perplexity
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Logits of the float model for KL divergence and top-1 agreement
    #[arg(long, value_name = "FILE")]
    golden: Option<PathBuf>,
}

#[derive(Serialize)]
struct Output {
    tasks: Option<Accuracy>,
    text: Option<Perplexity>,
    golden: Option<Fidelity>,
    embedding: Option<Closeness>,
}

impl Eval {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        if self.tasks.is_none() && self.text.is_none() && self.golden.is_none() {
            return Err(Error::usage("nothing to measure").hint("give `--tasks`, `--text` or `--golden`"));
        }
        let artifact = Artifact::open(&self.artifact)?;
        let gives_vectors = artifact.program.embedding().is_some();
        let bar = printer.progress();
        let codec = || TextCodec::of(&artifact.packed);
        let output = Output {
            tasks: self.tasks.as_ref().map(|f| eval::tasks(&artifact, &codec()?, f, &bar)).transpose()?,
            text: self.text.as_ref().map(|f| eval::perplexity(&artifact, &codec()?, f, &bar)).transpose()?,
            golden: self
                .golden
                .as_ref()
                .filter(|_| !gives_vectors)
                .map(|f| eval::fidelity(&artifact, f))
                .transpose()?,
            embedding: self
                .golden
                .as_ref()
                .filter(|_| gives_vectors)
                .map(|f| eval::closeness(&artifact, f))
                .transpose()?,
        };
        printer.result(&output, |out| {
            if let Some(a) = &output.tasks {
                writeln!(
                    out,
                    "accuracy     {:.2} %  ({} of {} answers exact)",
                    100.0 * a.accuracy,
                    a.correct,
                    a.items
                )?;
                for m in a.misses.iter().take(3) {
                    writeln!(out, "  e.g. {:?}: {:?}, expected {:?}", m.prompt, m.got, m.expected)?;
                }
            }
            if let Some(p) = &output.text {
                writeln!(out, "perplexity   {:.3}  ({} tokens, windows of {})", p.perplexity, p.tokens, p.window)?;
            }
            if let Some(f) = &output.golden {
                writeln!(out, "mean KL      {:.3e} per token over {} positions", f.mean_kl, f.positions)?;
                writeln!(
                    out,
                    "same top 1   {} of {}; of the others {} are no near tie",
                    f.same_top1, f.positions, f.different_not_near_tie
                )?;
                writeln!(out, "worst logit  {:.4} off", f.worst_logit_difference)?;
            }
            if let Some(c) = &output.embedding {
                writeln!(out, "cosine       {:.9} at worst, of {} texts", c.worst_cosine, c.texts)?;
            }
            Ok(())
        })?;
        Ok(0)
    }
}
