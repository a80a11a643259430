use super::{adapter::With, float, Printer};
use crate::error::{Error, Result};
use crate::fsio::{read_capped, AtomicFile};
use crate::kernels::dot::DotKernel;
use crate::runtime::sample::{Choice, Sampler, MAX_TOP_K};
use crate::runtime::{state, Artifact, Session};
use crate::tokenizer::TextCodec;
use clap::Args;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Continue a prompt with the host runtime
///
/// Without `--greedy` or `--temperature` the model's own generation_config.json decides. The same seed gives the same text on every target.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bitnet-convert run model.bitnet --prompt \"Once upon a time\" --temperature 0.8 --seed 7\n  bitnet-convert run model.bitnet --prompt \" and then\" --session tale.session"
)]
pub struct Run {
    /// A packed model, or an exported folder; with `--float` a checkpoint
    pub(super) artifact: PathBuf,
    /// Text to continue; special tokens in it are recognised
    #[arg(long)]
    pub(super) prompt: String,
    /// Stop after so many tokens at the latest
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(super) max_new_tokens: usize,
    /// Compute a checkpoint in float32 instead of running an artifact; always takes the most likely token
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "adapter"])]
    float: bool,
    /// Always take the most likely token
    #[arg(long, conflicts_with_all = ["temperature", "top_k"])]
    greedy: bool,
    /// Sample with this temperature, in thousandths (0 = greedy)
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Sample among the K most likely tokens, at most 64
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=MAX_TOP_K as i64))]
    top_k: Option<u32>,
    /// Start of the integer random generator
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// Continue the conversation in this file if it exists, and keep it there; the sampling generator starts anew each time
    #[arg(long, value_name = "FILE", conflicts_with = "float")]
    session: Option<PathBuf>,
    #[command(flatten)]
    with: With,
}

#[derive(Serialize)]
pub(super) struct Output {
    pub prompt_ids: Vec<u32>,
    pub generated_ids: Vec<u32>,
    pub text: String,
    /// Whether an end id stopped it.
    pub finished: bool,
    /// Tokens that `--session` brought along, and that it holds now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Kept>,
}

#[derive(Serialize)]
pub(super) struct Kept {
    before: u32,
    after: u32,
}

impl Run {
    pub fn run(&self, printer: &Printer) -> Result<u8> {
        if self.float {
            return float::run(self, printer);
        }
        let artifact = Artifact::open(&self.artifact)?;
        artifact.need_logits()?;
        let codec = TextCodec::of(&artifact.packed)?;
        let mut sampler = Sampler::new(self.choice(&artifact)?, self.seed);
        let adapter = self.with.load(&artifact)?;
        let mut session = self.resume(&artifact)?;
        let before = session.position();
        let prompt_ids = match before {
            0 => codec.encode(&self.prompt)?,
            _ => codec.encode_more(&self.prompt)?,
        };
        if prompt_ids.is_empty() {
            return Err(Error::usage("the prompt is empty").hint("give some text with `--prompt`"));
        }
        session.set_adapter(adapter.as_ref());
        let start = Instant::now();
        let mut logits = session.run(&prompt_ids)?;
        let prefill = start.elapsed();
        let mut stream = codec.stream();
        let mut text = String::new();
        let mut generated_ids = Vec::new();
        let mut finished = false;
        let start = Instant::now();
        while let Some(l) = logits {
            if generated_ids.len() >= self.max_new_tokens {
                break;
            }
            let id = sampler.choose(&l);
            if artifact.program.eos.contains(&id) {
                finished = true;
                if self.session.is_some() {
                    session.run(&[id])?; // what comes next time comes after this end
                }
                break;
            }
            generated_ids.push(id);
            let piece = stream.push(id)?;
            if !printer.json && !piece.is_empty() {
                let mut out = std::io::stdout().lock();
                if write!(out, "{piece}").and_then(|()| out.flush()).is_err() {
                    return Ok(0); // whoever reads us has seen enough
                }
            }
            text += &piece;
            logits = session.run(&[id])?;
        }
        let speed = generated_ids.len() as f64 / start.elapsed().as_secs_f64().max(1e-9);
        let kept = self.session.as_deref().map(|f| keep(&artifact, &session, f)).transpose()?;
        let session = kept.map(|()| Kept { before, after: session.position() });
        let output = Output { prompt_ids, generated_ids, text, finished, session };
        printer.result(&output, |out| writeln!(out))?;
        let n = output.prompt_ids.len();
        printer.note(&format!(
            "{n} prompt tokens in {:.3} s, {} new tokens at {speed:.1} tokens/s ({} kernel)",
            prefill.as_secs_f64(),
            output.generated_ids.len(),
            DotKernel::best().name()
        ));
        Ok(0)
    }

    /// The conversation in the file of `--session`; a new one if there is no such file.
    fn resume<'a>(&self, artifact: &'a Artifact) -> Result<Session<'a>> {
        match self.session.as_deref().filter(|f| f.exists()) {
            None => Ok(artifact.session(DotKernel::best())),
            Some(file) => {
                let data = read_capped(file, state::most_bytes(artifact))?;
                state::restore(artifact, DotKernel::best(), &data).map_err(|e| e.at_file(file))
            }
        }
    }

    fn choice(&self, artifact: &Artifact) -> Result<Choice> {
        let defaults = artifact.manifest.as_ref().and_then(|m| m.sampling.as_ref());
        let top_k = |given: Option<u32>| match given.or(defaults.map(|d| d.top_k)) {
            None | Some(0) => MAX_TOP_K,
            Some(k) => k as usize,
        };
        let temperature = match (self.greedy, self.temperature, self.top_k, defaults) {
            (true, ..) => 0.0,
            (_, Some(t), ..) => t,
            (_, None, Some(_), _) => 1.0,
            (_, None, None, Some(d)) if d.sample => d.temperature.parse().unwrap_or(1.0),
            _ => 0.0,
        };
        Choice::from_temperature(temperature, top_k(self.top_k))
            .ok_or_else(|| Error::usage(format!("temperature {temperature} is no number from 0 on")))
    }
}

fn keep(artifact: &Artifact, session: &Session, file: &Path) -> Result<()> {
    let data = state::save(artifact, session)?;
    let mut out = AtomicFile::create(file)?;
    out.write(&data)?;
    out.commit()
}
