use super::{float, parse_ids, Printer};
use crate::error::{Error, Result};
use crate::kernels::dot::DotKernel;
use crate::runtime::{sample::argmax, Artifact};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Print the logits of every position
///
/// Those of an artifact are integers: the value is the integer divided by 65,536. With `--float` a checkpoint is computed in float32.
#[derive(Args)]
#[command(after_help = "Examples:
  bitnet-convert logits model.bitnet --input-ids 3,17,5 --json
  bitnet-convert logits DIR --float --input-ids 3,17,5 --json
  bitnet-convert logits DIR --float --input-ids batch.safetensors:input_ids -o out.safetensors")]
pub struct Logits {
    /// A packed model, or an exported folder; with `--float` a checkpoint
    pub(super) artifact: PathBuf,
    /// Token ids with commas; with `--float` also FILE.safetensors:TENSOR, whose `attention_mask`, `token_type_ids` and `input_features`
    /// are used where they are there
    #[arg(long, value_name = "IDS")]
    pub(super) input_ids: String,
    /// Compute a checkpoint in float32 instead of running an artifact
    #[arg(long)]
    pub(super) float: bool,
    /// With `--float`: write the result as tensors: `logits`, `last_hidden_state`, `pooler_output`, ...
    #[arg(long, short, value_name = "FILE", requires = "float")]
    pub(super) output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Output {
    input_ids: Vec<u32>,
    /// Value of one unit of a logit is 2^-16.
    scale_log2: i32,
    /// `[positions, vocabulary]`
    logits: Vec<Vec<i32>>,
    argmax: Vec<u32>,
}

impl Logits {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        if self.float {
            return float::logits(self, printer);
        }
        let ids = parse_ids(&self.input_ids)?;
        let artifact = Artifact::open(&self.artifact)?;
        artifact.need_logits()?;
        let vocab = artifact.program.vocab;
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
            return Err(Error::usage(format!("token id {id}, the vocabulary has {vocab} entries")));
        }
        let mut session = artifact.session(DotKernel::best());
        let logits: Vec<Vec<i32>> =
            ids.iter().map(|id| Ok(session.run(&[*id])?.unwrap_or_default())).collect::<Result<_>>()?;
        let argmax = logits.iter().map(|l| argmax(l)).collect();
        let output = Output { input_ids: ids, scale_log2: -16, logits, argmax };
        printer.result(&output, |out| {
            writeln!(out, "# {} positions x {vocab} logits, value = integer / 65536", output.logits.len())?;
            for ((id, l), best) in output.input_ids.iter().zip(&output.logits).zip(&output.argmax) {
                let list: Vec<String> = l.iter().map(i32::to_string).collect();
                writeln!(out, "{id} -> {best}: {}", list.join(" "))?;
            }
            Ok(())
        })?;
        Ok(0)
    }
}
