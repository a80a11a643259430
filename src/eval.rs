//! What a conversion cost: accuracy on tasks, perplexity on text, distance from golden logits of the float model.

use crate::error::{Error, Result};
use crate::format::File;
use crate::fsio::read_capped;
use crate::kernels::dot::DotKernel;
use crate::progress::Progress;
use crate::runtime::{sample::argmax, Artifact, Bound, Session};
use crate::tensor::DType;
use crate::tokenizer::TextCodec;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Longest answer that is decoded.
pub const MAX_ANSWER: usize = 32;
/// Tokens of one perplexity window.
const WINDOW: usize = 256;

/// What is measured: a model, with an adapter if there is one.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub artifact: &'a Artifact,
    pub adapter: Option<&'a Bound>,
}

impl<'a> Subject<'a> {
    pub fn session(&self) -> Session<'a> {
        let mut session = self.artifact.session(DotKernel::best());
        session.set_adapter(self.adapter);
        session
    }
}

/// A prompt, and the answer that is wanted.
#[derive(Debug, Deserialize)]
pub struct Task {
    pub prompt: String,
    pub expected: String,
    #[serde(skip)]
    pub ids: Vec<u32>,
}

/// Exact matches of greedily decoded answers.
#[derive(Debug, Serialize)]
pub struct Accuracy {
    pub items: usize,
    pub correct: usize,
    pub accuracy: f64,
    /// The first wrong answers, for a person to look at.
    pub misses: Vec<Miss>,
}

#[derive(Debug, Serialize)]
pub struct Miss {
    pub prompt: String,
    pub expected: String,
    pub got: String,
}

/// The items of a JSON-lines file with `prompt` and `expected`.
///
/// # Errors
/// `Input` with the line that is not understood.
pub fn items(codec: &TextCodec, file: &Path) -> Result<Vec<Task>> {
    let data = read_capped(file, 256 << 20)?;
    let mut items = Vec::new();
    for (i, line) in data.split(|b| *b == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let bad = |e: serde_json::Error| {
            Error::input(format!("line {}: {e}", i + 1))
                .at_file(file)
                .hint("each line is {\"prompt\": …, \"expected\": …}")
        };
        let mut t: Task = serde_json::from_slice(line).map_err(bad)?;
        t.ids = codec.encode(&t.prompt)?;
        items.push(t);
    }
    if items.is_empty() {
        return Err(Error::input("the task file holds no items").at_file(file));
    }
    Ok(items)
}

/// Runs the items of a JSON-lines file.
///
/// # Errors
/// As [`items`].
pub fn tasks(subject: Subject, codec: &TextCodec, file: &Path, progress: &dyn Progress) -> Result<Accuracy> {
    subject.artifact.need_logits()?;
    let items = items(codec, file)?;
    let answers = answers(subject, codec, &items, progress)?;
    Ok(judge(&items, answers))
}

/// The greedy answers to items.
///
/// # Errors
/// Those of the runtime and the tokenizer.
pub fn answers(subject: Subject, codec: &TextCodec, items: &[Task], progress: &dyn Progress) -> Result<Vec<String>> {
    progress.stage("answering", items.len() as u64);
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(items.len());
    // Each answer depends on its item alone, so the number of threads changes nothing but the time.
    let answer = || -> Result<Vec<(usize, String)>> {
        let mut session = subject.session();
        let mut out = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = items.get(i) else { return Ok(out) };
            session.reset();
            let mut generated = Vec::new();
            let mut logits = session.run(&task.ids)?;
            while let Some(l) = logits {
                let id = argmax(&l);
                if subject.artifact.program.eos.contains(&id) || generated.len() == MAX_ANSWER {
                    break;
                }
                generated.push(id);
                logits = session.run(&[id])?;
            }
            out.push((i, codec.decode(&generated)?));
        }
    };
    let mut answers = std::thread::scope(|s| {
        let workers: Vec<_> = (0..threads).map(|_| s.spawn(answer)).collect();
        let joined =
            workers.into_iter().map(|w| w.join().unwrap_or_else(|_| Err(Error::tool("a worker thread failed"))));
        joined.collect::<Result<Vec<_>>>()
    })?
    .concat();
    progress.done();
    answers.sort_unstable_by_key(|(i, _)| *i);
    Ok(answers.into_iter().map(|(_, a)| a).collect())
}

/// How many answers are the expected ones.
pub fn judge(items: &[Task], answers: Vec<String>) -> Accuracy {
    let mut misses = Vec::new();
    let mut correct = 0;
    for (t, got) in items.iter().zip(answers) {
        if got.trim() == t.expected.trim() {
            correct += 1;
        } else if misses.len() < 10 {
            misses.push(Miss { prompt: t.prompt.clone(), expected: t.expected.clone(), got });
        }
    }
    Accuracy { items: items.len(), correct, accuracy: correct as f64 / items.len().max(1) as f64, misses }
}

/// KL(want || got) of two sets of logits, in nats.
pub fn divergence(want: &[f64], got: &[f64]) -> f64 {
    let (zw, zg) = (log_sum_exp(want), log_sum_exp(got));
    want.iter().zip(got).map(|(w, g)| (w - zw).exp() * ((w - zw) - (g - zg))).sum()
}

/// Perplexity per token over windows that do not overlap; the first token of a window is not scored.
#[derive(Debug, Serialize)]
pub struct Perplexity {
    pub tokens: usize,
    pub window: usize,
    pub perplexity: f64,
}

pub fn perplexity(subject: Subject, codec: &TextCodec, file: &Path, progress: &dyn Progress) -> Result<Perplexity> {
    let artifact = subject.artifact;
    artifact.need_logits()?;
    let data = read_capped(file, 256 << 20)?;
    let text =
        std::str::from_utf8(&data).map_err(|e| Error::input(format!("the text is not UTF-8: {e}")).at_file(file))?;
    let ids = codec.encode(text)?;
    if let Some(id) = ids.iter().find(|id| **id as usize >= artifact.program.vocab) {
        let what = format!("token id {id} in the text, the vocabulary has {} entries", artifact.program.vocab);
        return Err(Error::input(what).at_file(file).hint("the tokenizer belongs to another model"));
    }
    let window = WINDOW.min(artifact.program.context.max(2));
    let mut session = subject.session();
    progress.stage("scoring", ids.len() as u64);
    let (mut nll, mut scored) = (0.0, 0usize);
    for part in ids.chunks(window) {
        session.reset();
        for pair in part.windows(2) {
            let logits = real(&session.run(&pair[..1])?.unwrap_or_default());
            nll += log_sum_exp(&logits) - logits[pair[1] as usize];
            scored += 1;
        }
        progress.advance(part.len() as u64);
    }
    progress.done();
    if scored == 0 {
        return Err(Error::input("the text has fewer than two tokens").at_file(file));
    }
    Ok(Perplexity { tokens: scored, window, perplexity: (nll / scored as f64).exp() })
}

/// Distance from logits that the float model gave.
#[derive(Debug, Serialize)]
pub struct Fidelity {
    pub positions: usize,
    /// Mean over positions of KL(float || program), in nats.
    pub mean_kl: f64,
    /// Positions with the same most likely token.
    pub same_top1: usize,
    /// Positions that differ although the two best float logits are more than 0.1 apart.
    pub different_not_near_tie: usize,
    pub worst_logit_difference: f64,
}

/// Compares with `input_ids*` and `logits*` of a safetensors file, position by position.
pub fn fidelity(subject: Subject, file: &Path) -> Result<Fidelity> {
    let artifact = subject.artifact;
    artifact.need_logits()?;
    let golden = File::open(file)?;
    let vocab = artifact.program.vocab;
    let mut session = subject.session();
    let mut f =
        Fidelity { positions: 0, mean_kl: 0.0, same_top1: 0, different_not_near_tie: 0, worst_logit_difference: 0.0 };
    let names: Vec<&str> = golden.names().filter(|n| n.starts_with("input_ids")).collect();
    for name in names {
        let (Some(ids), Some(want)) = (golden.get(name), golden.get(&name.replacen("input_ids", "logits", 1))) else {
            return Err(Error::input(format!("`{name}` has no logits beside it")).at_file(file));
        };
        let length = ids.shape.last().copied().unwrap_or(0).max(1);
        let ids = integers(&ids).map_err(|e| e.at_file(file))?;
        let want = want.to_f32().map_err(|e| e.at_file(file))?;
        if want.len() != ids.len() * vocab {
            return Err(Error::input(format!(
                "{} logits for {} ids and a vocabulary of {vocab}",
                want.len(),
                ids.len()
            ))
            .at_file(file));
        }
        for (t, id) in ids.iter().enumerate() {
            if t % length == 0 {
                session.reset();
            }
            let got = real(&session.run(&[*id])?.unwrap_or_default());
            let want: Vec<f64> = want[t * vocab..(t + 1) * vocab].iter().map(|v| f64::from(*v)).collect();
            f.mean_kl += divergence(&want, &got);
            f.worst_logit_difference =
                want.iter().zip(&got).fold(f.worst_logit_difference, |m, (w, g)| m.max((w - g).abs()));
            let (a, b) = (top(&want), top(&got));
            f.same_top1 += usize::from(a == b);
            f.different_not_near_tie += usize::from(a != b && want[a] - want[b] > 0.1);
            f.positions += 1;
        }
    }
    if f.positions == 0 {
        return Err(Error::input("the file holds no `input_ids`").at_file(file));
    }
    f.mean_kl /= f.positions as f64;
    Ok(f)
}

/// Distance from the vectors that the float model gave for texts.
#[derive(Debug, Serialize)]
pub struct Closeness {
    pub texts: usize,
    /// Cosine between the float vector and the program's, of the text where it is smallest.
    pub worst_cosine: f64,
}

/// Compares with `input_ids` (`attention_mask` leaves padding out) and `mean_pooled_l2` or `embedding` of a safetensors file, text by text.
///
/// # Errors
/// `Input` for a file that holds something else.
pub fn closeness(subject: Subject, file: &Path) -> Result<Closeness> {
    let artifact = subject.artifact;
    let golden = File::open(file)?;
    let need =
        |name: &str| golden.get(name).ok_or_else(|| Error::input(format!("there is no tensor `{name}`")).at_file(file));
    let want = golden.get("mean_pooled_l2").map_or_else(|| need("embedding"), Ok)?;
    let ids = need("input_ids")?;
    let (texts, width) = match (ids.shape, want.shape) {
        ([texts, length], [same, width]) if texts == same && *length > 0 => (*texts, *width),
        _ => return Err(want.error("has another number of texts than `input_ids`").at_file(file)),
    };
    if width != artifact.program.d_model {
        return Err(want
            .error(format!("has vectors of {width}, the model of {}", artifact.program.d_model))
            .at_file(file));
    }
    let ids = integers(&ids).map_err(|e| e.at_file(file))?;
    let mask = match golden.get("attention_mask") {
        Some(m) if m.shape.iter().product::<usize>() == ids.len() => integers(&m).map_err(|e| e.at_file(file))?,
        Some(m) => return Err(m.error("has another shape than `input_ids`").at_file(file)),
        None => vec![1; ids.len()],
    };
    let want = want.to_f32().map_err(|e| e.at_file(file))?;
    let length = ids.len() / texts.max(1);
    let mut session = subject.session();
    let mut worst = 1f64;
    for t in 0..texts {
        let of = t * length..(t + 1) * length;
        let text: Vec<u32> = of.filter(|i| mask[*i] != 0).map(|i| ids[i]).collect();
        session.reset();
        let got = session.run(&text)?.unwrap_or_default();
        let pairs = got.iter().zip(&want[t * width..(t + 1) * width]);
        let (mut dot, mut a, mut b) = (0f64, 0f64, 0f64);
        for (x, y) in pairs.map(|(x, y)| (f64::from(*x), f64::from(*y))) {
            (dot, a, b) = (dot + x * y, a + x * x, b + y * y);
        }
        worst = worst.min(dot / (a * b).sqrt().max(1e-30));
    }
    Ok(Closeness { texts, worst_cosine: worst })
}

/// Ids or flags of an I64 tensor. What is no id, such as -1, becomes one that no vocabulary has.
fn integers(t: &crate::tensor::TensorView) -> Result<Vec<u32>> {
    if t.dtype != DType::I64 {
        return Err(t.error(format!("holds {}, ids are I64", t.dtype.name())));
    }
    Ok(t.data.as_chunks::<8>().0.iter().map(|b| u32::try_from(i64::from_le_bytes(*b)).unwrap_or(u32::MAX)).collect())
}

/// Logits of a program as reals.
pub fn real(logits: &[i32]) -> Vec<f64> {
    logits.iter().map(|l| f64::from(*l) / 65_536.0).collect()
}

fn log_sum_exp(x: &[f64]) -> f64 {
    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + x.iter().map(|v| (v - most).exp()).sum::<f64>().ln()
}

fn top(x: &[f64]) -> usize {
    (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best })
}
