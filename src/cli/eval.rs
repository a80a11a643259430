use super::{adapter::With, float, Printer};
use crate::error::{Error, Result};
use crate::eval::{self, Accuracy, Closeness, Fidelity, Perplexity, Subject};
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
  bitnet-convert eval model.bitnet --golden golden.safetensors   `input_ids*` and `logits*` of the float model
  bitnet-convert eval model.bitnet --adapter lora-bits.bin --tasks eval.jsonl
  bitnet-convert eval model.bitnet --adapter lora-bits.bin --tasks eval.jsonl --base DIR --lora LORA")]
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
    #[command(flatten)]
    with: With,
    /// With `--base` and `--tasks`: compare with the adapter before it was made small, a folder of PEFT
    #[arg(long, value_name = "DIR", requires = "base", requires = "tasks")]
    lora: Option<PathBuf>,
    /// Checkpoint that the adapter was trained for
    #[arg(long, value_name = "DIR|NAME", requires = "lora")]
    base: Option<PathBuf>,
}

/// One line of the comparison of an adapter.
#[derive(Serialize)]
pub(super) struct Compared {
    pub what: &'static str,
    pub accuracy: Accuracy,
    /// Mean over the prompts of KL(float adapter || this) of the first token of the answer, in nats.
    pub mean_kl: f64,
}

#[derive(Serialize)]
struct Output {
    tasks: Option<Accuracy>,
    text: Option<Perplexity>,
    golden: Option<Fidelity>,
    embedding: Option<Closeness>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Vec<Compared>>,
}

impl Eval {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        if self.tasks.is_none() && self.text.is_none() && self.golden.is_none() {
            return Err(Error::usage("nothing to measure").hint("give `--tasks`, `--text` or `--golden`"));
        }
        let artifact = Artifact::open(&self.artifact)?;
        let adapter = self.with.load(&artifact)?;
        let subject = Subject { artifact: &artifact, adapter: adapter.as_ref() };
        let gives_vectors = artifact.program.embedding().is_some();
        let bar = printer.progress();
        let codec = || TextCodec::of(&artifact.packed);
        let comparison = match (&self.lora, &self.base, &self.tasks) {
            (Some(lora), Some(base), Some(tasks)) => {
                Some(float::compare_adapter(subject, &codec()?, (base, lora), tasks, printer)?)
            }
            _ => None,
        };
        let output = Output {
            // The comparison has this answer, too.
            tasks: self
                .tasks
                .as_ref()
                .filter(|_| comparison.is_none())
                .map(|f| eval::tasks(subject, &codec()?, f, &bar))
                .transpose()?,
            text: self.text.as_ref().map(|f| eval::perplexity(subject, &codec()?, f, &bar)).transpose()?,
            golden: self.golden.as_ref().filter(|_| !gives_vectors).map(|f| eval::fidelity(subject, f)).transpose()?,
            embedding: self
                .golden
                .as_ref()
                .filter(|_| gives_vectors)
                .map(|f| eval::closeness(subject, f))
                .transpose()?,
            comparison,
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
            for c in output.comparison.iter().flatten() {
                let a = &c.accuracy;
                writeln!(
                    out,
                    "{:20} {:6.2} %  ({} of {} answers exact), KL {:.3e}",
                    c.what,
                    100.0 * a.accuracy,
                    a.correct,
                    a.items,
                    c.mean_kl
                )?;
            }
            Ok(())
        })?;
        Ok(0)
    }
}
