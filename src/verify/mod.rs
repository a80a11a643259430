//! Does every runner compute the program? Equality of integers, operation by operation; a difference names (prompt, token, layer, operation).
//!
//! The order of trust: golden trace in the artifact, scalar Rust (the definition), SIMD, the C runtime on the host with sanitizers,
//! the C firmware in an emulator. Each is compared with the scalar kernels.

mod firmware;
mod wasm;

use crate::error::{Error, Result};
use crate::kernels::dot::DotKernel;
use crate::process;
use crate::program::Program;
use crate::progress::Progress;
use crate::runtime::{record, Artifact};
use serde::Serialize;
use std::path::Path;

/// Checksums of one golden prompt, `[token][operation that ran]`, and the greedy choices after each token with logits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PromptTrace {
    pub tokens: Vec<Vec<u32>>,
    pub choices: Vec<u32>,
}

/// What one runner said.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum Outcome {
    Equal,
    /// Where the first difference is.
    Differs {
        at: String,
    },
    NotRun {
        why: String,
    },
}

#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub runner: String,
    /// What ran, e.g. the kernel or the emulator.
    pub detail: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub artifact: String,
    pub prompts: usize,
    pub tokens: usize,
    /// Whether a prompt was longer than the window, so that it rolled.
    pub beyond_window: bool,
    pub operations_compared: usize,
    pub rows: Vec<Row>,
}

impl Report {
    pub fn differing(&self) -> usize {
        self.rows.iter().filter(|r| matches!(r.outcome, Outcome::Differs { .. })).count()
    }

    pub fn not_run(&self) -> usize {
        self.rows.iter().filter(|r| matches!(r.outcome, Outcome::NotRun { .. })).count()
    }
}

/// Runners, by the name that `--target` takes.
pub const RUNNERS: [&str; 6] = ["host-scalar", "host-simd", "c-host", "cortex-m7", "wasm32", "wasm32-node"];

/// Expands `host` and `all`; `host-simd` is among them only where this machine has a SIMD kernel of ours.
///
/// # Errors
/// `Usage` for a name that is none of these.
pub fn runners(targets: &[String]) -> Result<Vec<&'static str>> {
    let mut wanted = Vec::new();
    for t in targets {
        let more: &[&str] = match t.as_str() {
            "all" => &RUNNERS,
            "host" => &RUNNERS[..3],
            other => match RUNNERS.iter().position(|r| *r == other) {
                Some(i) => &RUNNERS[i..=i],
                None => {
                    return Err(Error::usage(format!(
                        "there is no runner `{other}`, there are host, all, {}",
                        RUNNERS.join(", ")
                    )))
                }
            },
        };
        let simd = DotKernel::available().len() > 1;
        more.iter().filter(|r| simd || more.len() == 1 || **r != "host-simd").for_each(|r| {
            if let Some(name) = RUNNERS.iter().find(|n| *n == r) {
                if !wanted.contains(name) {
                    wanted.push(*name);
                }
            }
        });
    }
    Ok(wanted)
}

/// Runs the golden prompts of an artifact on the given runners.
///
/// # Errors
/// `Input` if the artifact is damaged or has no golden trace; a runner that cannot run is a row of the report.
pub fn verify(path: &Path, runners: &[&str], progress: &dyn Progress) -> Result<Report> {
    let artifact = Artifact::open(path)?;
    if artifact.golden.prompts.is_empty() {
        return Err(Error::input("the artifact holds no golden trace to verify against").at_file(path));
    }
    progress.stage("running the scalar kernels", 0);
    let reference = traces(&artifact, DotKernel::Scalar)?;
    progress.done();
    let p = &artifact.program;
    let mut rows = Vec::new();
    let module = wasm::Module::of(path);
    for runner in runners {
        progress.stage(&format!("running {runner}"), 0);
        let (detail, outcome) = match *runner {
            "host-scalar" => {
                ("Rust, scalar kernels against the golden trace".to_string(), stored(&artifact, &reference))
            }
            "host-simd" => simd(&artifact, &reference)?,
            "c-host" => judge(p, &reference, firmware::on_host(path)),
            "wasm32" => judge(p, &reference, module.run(p, |f| wasm::in_interpreter(f, &artifact.golden.prompts[0].ids))),
            "wasm32-node" => judge(p, &reference, module.run(p, wasm::in_node)),
            _ => judge(p, &reference, firmware::in_emulator(path)),
        };
        rows.push(Row { runner: (*runner).to_string(), detail, outcome });
        progress.done();
    }
    let tokens = artifact.golden.prompts.iter().map(|g| g.ids.len());
    Ok(Report {
        artifact: path.display().to_string(),
        prompts: reference.len(),
        tokens: tokens.clone().sum(),
        beyond_window: tokens.max().unwrap_or(0) > p.attention.window,
        operations_compared: reference.iter().flat_map(|t| &t.tokens).map(Vec::len).sum(),
        rows,
    })
}

/// Checksums of all golden prompts with one kernel of ours.
pub fn traces(artifact: &Artifact, kernel: DotKernel) -> Result<Vec<PromptTrace>> {
    let mut session = artifact.session(kernel);
    let mut all = Vec::new();
    for g in &artifact.golden.prompts {
        let mut tokens: Vec<Vec<u32>> = vec![Vec::new(); g.ids.len()];
        let mut each = |pos: u32, _: usize, crc: u32| tokens[pos as usize].push(crc);
        let recorded = record(&mut session, &g.ids[..g.prompt_len], g.ids.len(), &mut each)?;
        all.push(PromptTrace { tokens, choices: recorded.ids[g.prompt_len..].to_vec() });
    }
    Ok(all)
}

/// The scalar kernels against what the artifact stored when it was made.
fn stored(artifact: &Artifact, reference: &[PromptTrace]) -> Outcome {
    let p = &artifact.program;
    for (i, (g, r)) in artifact.golden.prompts.iter().zip(reference).enumerate() {
        for (pos, (want, ops)) in g.checksums.iter().zip(&r.tokens).enumerate() {
            let mut chain = crate::runtime::Chain::new(p.layers);
            ops.iter().enumerate().for_each(|(n, crc)| chain.push(p.trace_slot(n), *crc));
            if let Some(part) = chain.finish().iter().zip(want).position(|(a, b)| a != b) {
                return Outcome::Differs {
                    at: format!("prompt {i}, token {pos}, {} from the golden trace", part_name(p, part)),
                };
            }
        }
        if g.ids[g.prompt_len..] != r.choices[..] {
            return Outcome::Differs { at: format!("prompt {i}: the greedy continuation from the golden trace") };
        }
    }
    Outcome::Equal
}

fn part_name(p: &Program, part: usize) -> String {
    match part {
        0 => "the embedding".into(),
        n if n == p.layers + 1 => "the head".into(),
        n => format!("layer {}", n - 1),
    }
}

fn simd(artifact: &Artifact, reference: &[PromptTrace]) -> Result<(String, Outcome)> {
    let kernels: Vec<DotKernel> = DotKernel::available().into_iter().filter(|k| *k != DotKernel::Scalar).collect();
    if kernels.is_empty() {
        return Ok((
            "no SIMD kernel".into(),
            Outcome::NotRun { why: "this machine has no SIMD kernel of ours".into() },
        ));
    }
    let mut names = Vec::new();
    for k in kernels {
        names.push(k.name());
        if let Some(at) = difference(&artifact.program, reference, &traces(artifact, k)?) {
            return Ok((format!("Rust, {}", k.name()), Outcome::Differs { at }));
        }
    }
    Ok((format!("Rust, {}", names.join(", ")), Outcome::Equal))
}

/// What a C runner gave, or why it could not run.
pub(crate) struct CRun {
    pub detail: String,
    pub traces: Result<Vec<PromptTrace>, CFailure>,
}

pub(crate) enum CFailure {
    /// A tool is missing: counted, not hidden.
    NotRun(String),
    /// It ran and broke: a fault, a sanitizer report, a status code.
    Broke(String),
}

fn judge(p: &Program, reference: &[PromptTrace], run: Result<CRun>) -> (String, Outcome) {
    match run {
        Err(e) => ("C".into(), Outcome::NotRun { why: e.message().to_string() }),
        Ok(CRun { detail, traces }) => {
            let outcome = match traces {
                Err(CFailure::NotRun(why)) => Outcome::NotRun { why },
                Err(CFailure::Broke(what)) => Outcome::Differs { at: what },
                Ok(t) => difference(p, reference, &t).map_or(Outcome::Equal, |at| Outcome::Differs { at }),
            };
            (detail, outcome)
        }
    }
}

/// The first place where two runs differ.
fn difference(p: &Program, want: &[PromptTrace], got: &[PromptTrace]) -> Option<String> {
    if want.len() != got.len() {
        return Some(format!("{} prompts ran, {} were expected", got.len(), want.len()));
    }
    for (i, (w, g)) in want.iter().zip(got).enumerate() {
        for (pos, (a, b)) in w.tokens.iter().zip(&g.tokens).enumerate() {
            if let Some(n) = a.iter().zip(b).position(|(a, b)| a != b) {
                let op = &p.ops[n];
                let part = part_name(p, p.trace_slot(n));
                return Some(format!("prompt {i}, token {pos}, {part}, operation {n} ({})", op.kind.name()));
            }
            if a.len() != b.len() {
                return Some(format!("prompt {i}, token {pos}: {} operations ran, {} were expected", b.len(), a.len()));
            }
        }
        if w.tokens.len() != g.tokens.len() {
            return Some(format!("prompt {i}: {} tokens ran, {} were expected", g.tokens.len(), w.tokens.len()));
        }
        if let Some(n) = w.choices.iter().zip(&g.choices).position(|(a, b)| a != b) {
            return Some(format!("prompt {i}: greedy token {n}"));
        }
    }
    None
}
