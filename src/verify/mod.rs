//! Does every runner compute the program? Equality of integers, operation by operation; a difference names (prompt, token, layer, operation).
//!
//! The order of trust: golden trace in the artifact, scalar Rust (the definition), each SIMD kernel, the C runtime on the host with
//! sanitizers, programs for other targets in emulators. Each is compared with the scalar kernels.
//!
//! A runner is a function from a [`Subject`] to a [`Ran`]; [`runner`] gives it a name, [`ask`] calls it.

mod c_host;
mod compare;
mod count;
mod elf;
mod emulate;
mod folder;
mod host;
pub mod onnx;
mod parse;
mod prompts;
mod runner;
mod rust;
mod table;
mod texts;
mod tools;
mod wasm;

pub use host::{forced, traces, traces_of, Extent};
pub use runner::{own_target, runners, Runner, Selection};
pub use table::table;
pub use texts::{text_devices, Found as FoundDevice, C_HOST};

use crate::error::{Error, Result};
use crate::fsio::read_capped;
use crate::kernels::dot::DotKernel;
use crate::limits::MAX_ADAPTER_BYTES;
use crate::parallel::threads;
use crate::process;
use crate::program::kernels::used;
use crate::program::Program;
use crate::progress::Progress;
use crate::runtime::{Artifact, Bound};
use crate::target::{install, Target};
use compare::difference;
use parse::Said;
use prompts::Prompts;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Longest run of one program.
const RUN_LIMIT: Duration = Duration::from_secs(900);

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
        /// What would make it run; None if nothing that can be installed would.
        install: Option<String>,
    },
}

/// Whether the program fits the board that the target describes, and the numbers if it does not.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Fits {
    pub board: bool,
    pub why: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub runner: String,
    pub emulator: String,
    /// Kernels that multiplied the low-bit weights.
    pub kernels: String,
    /// What ran, in words.
    pub detail: String,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Tokens and operations that were compared.
    pub tokens: usize,
    pub operations: usize,
    /// Texts that were encoded, and prompts that were decoded, and compared.
    pub texts: usize,
    /// Instructions of one more token with its logits.
    pub instructions_per_token: Option<u64>,
    pub flash_bytes: Option<u64>,
    pub ram_bytes: Option<u64>,
    pub fits: Option<Fits>,
    /// What the emulator does not show.
    pub limits: Option<String>,
    pub notes: Vec<String>,
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
    /// What has no row because no installation would help.
    pub notes: Vec<String>,
}

impl Report {
    fn count(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        self.rows.iter().filter(|r| which(&r.outcome)).count()
    }

    pub fn equal(&self) -> usize {
        self.count(|o| matches!(o, Outcome::Equal))
    }

    pub fn differing(&self) -> usize {
        self.count(|o| matches!(o, Outcome::Differs { .. }))
    }

    pub fn not_run(&self) -> usize {
        self.count(|o| matches!(o, Outcome::NotRun { .. }))
    }

    /// Rows that an installation would make run.
    pub fn missing(&self) -> usize {
        self.count(|o| matches!(o, Outcome::NotRun { install: Some(_), .. }))
    }
}

/// Why a runner gave no trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It could not start: counted, not hidden.
    NotRun { why: String, install: Option<String> },
    /// It ran and broke: a fault, a sanitizer report, a status code. Or it does not build, or does not end.
    Broke(String),
}

impl Failure {
    /// A tool is missing or too old; `packages` as in a target file.
    fn missing(why: String, packages: &str) -> Failure {
        Failure::NotRun { why, install: Some(install(packages)) }
    }

    /// Nothing that can be installed would help.
    fn not_run(why: String) -> Failure {
        Failure::NotRun { why, install: None }
    }

    fn sentence(self) -> String {
        match self {
            Failure::NotRun { why, install: Some(i) } => format!("{why}; {i}"),
            Failure::NotRun { why, .. } | Failure::Broke(why) => why,
        }
    }
}

/// What a runner gets.
pub(crate) struct Subject<'a> {
    pub path: PathBuf,
    pub artifact: &'a Artifact,
    /// The packed file.
    pub model: PathBuf,
    pub model_bytes: u64,
    /// What the folder was exported for.
    pub own: Option<Target>,
    pub quick: bool,
    /// Shared by the engines that run it.
    pub module: wasm::Module,
    pub adapter: Option<Loaded>,
    /// Texts to encode and prompts to decode, if the artifact has a tokenizer for devices.
    pub prompts: Option<Prompts>,
}

/// An adapter that every runner loads.
pub(crate) struct Loaded {
    pub file: PathBuf,
    pub bound: Bound,
}

impl Subject<'_> {
    /// What everybody is compared with.
    fn traces(&self, kernel: DotKernel, extent: Extent) -> Result<Vec<PromptTrace>> {
        match &self.adapter {
            None => traces_of(self.artifact, kernel, extent),
            Some(a) => forced(self.artifact, Some(&a.bound), kernel, extent),
        }
    }

    /// The exported folder, if the artifact is one that has sources.
    fn exported(&self) -> Option<&Path> {
        // A folder for WebAssembly builds nothing else, a Rust crate has other sources.
        let c = self.own.as_ref().is_none_or(Target::takes_c);
        (c && self.path.join("runtime").is_dir()).then_some(self.path.as_path())
    }

    /// What a runner computes that takes at most `tokens` of each prompt; 0: all.
    fn extent(&self, tokens: usize) -> Extent {
        Extent { one_prompt: self.quick, tokens }
    }

    /// The command of the example main for it.
    fn trace_command(&self, tokens: usize) -> String {
        let first = self.artifact.golden.prompts.first().map_or(0, |g| g.ids.len());
        match (tokens, self.quick) {
            (0, false) => "trace".into(),
            (0, true) => format!("trace {first}"),
            (n, _) => format!("trace {n}"),
        }
    }
}

/// What a runner gives.
pub(crate) struct Ran {
    pub emulator: String,
    pub detail: String,
    pub extent: Extent,
    pub traces: Result<Said, Failure>,
    pub instructions: Option<u64>,
    pub flash: Option<u64>,
    pub ram: Option<u64>,
    pub fits: Option<Fits>,
    pub limits: Option<String>,
    pub notes: Vec<String>,
}

impl Ran {
    pub fn new(emulator: &str, extent: Extent, traces: Result<Said, Failure>) -> Ran {
        Ran {
            emulator: emulator.to_string(),
            detail: String::new(),
            extent,
            traces,
            instructions: None,
            flash: None,
            ram: None,
            fits: None,
            limits: None,
            notes: Vec::new(),
        }
    }
}

/// Runs the golden prompts of an artifact on the given runners, as many at a time as the machine has cores. `quick`: the first prompt only,
/// and nothing is counted.
///
/// # Errors
/// `Input` if the artifact is damaged or has no golden trace; a runner that cannot run is a row of the report.
pub fn verify(path: &Path, selection: &Selection, quick: bool, progress: &dyn Progress) -> Result<Report> {
    verify_with(path, selection, quick, None, progress)
}

/// As [`verify`]. With an `adapter` the stored prompts run with it, and the scalar kernels take the place of the stored trace.
///
/// # Errors
/// `Input` if the artifact or the adapter is damaged, they do not belong together, or there is no golden trace; a runner that cannot run is a row of the report.
pub fn verify_with(
    path: &Path,
    selection: &Selection,
    quick: bool,
    adapter: Option<&Path>,
    progress: &dyn Progress,
) -> Result<Report> {
    let artifact = Artifact::open(path)?;
    if artifact.golden.prompts.is_empty() {
        return Err(Error::input("the artifact holds no golden trace to verify against").at_file(path));
    }
    let absolute = path.canonicalize().map_err(|e| Error::io("find", path, &e))?;
    let model = if absolute.is_dir() { absolute.join("model.bin") } else { absolute.clone() };
    let size = std::fs::metadata(&model).map_err(|e| Error::io("read the size", &model, &e))?.len();
    let own = own_target(&absolute)?;
    let adapter = match adapter {
        Some(file) => {
            let bound = artifact.adapter(&read_capped(file, MAX_ADAPTER_BYTES)?).map_err(|e| e.at_file(file))?;
            Some(Loaded { file: file.canonicalize().map_err(|e| Error::io("find", file, &e))?, bound })
        }
        None => None,
    };
    let subject = Subject {
        path: absolute,
        artifact: &artifact,
        model,
        model_bytes: size,
        own,
        quick,
        adapter,
        module: Default::default(),
        prompts: Prompts::of(&artifact)?,
    };
    progress.stage("running the scalar kernels", 0);
    let references = references(&subject, &selection.runners)?;
    progress.done();
    let all = &references[0].1;
    let rows = at_once(&selection.runners, progress, |runner| ask(&subject, runner, &references))?;
    Ok(Report {
        artifact: path.display().to_string(),
        prompts: all.len(),
        tokens: all.iter().map(|t| t.tokens.len()).sum(),
        beyond_window: all.iter().any(|t| t.tokens.len() > artifact.program.attention.window),
        operations_compared: operations(all),
        rows,
        notes: selection.notes.clone(),
    })
}

type Reference = (Extent, Vec<PromptTrace>);

fn operations(traces: &[PromptTrace]) -> usize {
    traces.iter().flat_map(|t| &t.tokens).map(Vec::len).sum()
}

/// The scalar kernels for every extent that a runner may take; the whole one first.
fn references(s: &Subject, runners: &[Runner]) -> Result<Vec<Reference>> {
    let mut extents = vec![s.extent(0)];
    for r in runners {
        if let Runner::Device(t) = r {
            for e in t.emulator.iter().map(|e| s.extent(e.tokens)) {
                if !extents.contains(&e) {
                    extents.push(e);
                }
            }
        }
    }
    extents.into_iter().map(|e| Ok((e, s.traces(DotKernel::Scalar, e)?))).collect()
}

/// Asks all runners on the cores of this machine; rows in the order of the runners.
fn at_once(
    runners: &[Runner],
    progress: &dyn Progress,
    ask: impl Fn(&Runner) -> Result<Row> + Sync,
) -> Result<Vec<Row>> {
    enum News {
        Started(usize),
        Ended(usize, Box<Result<Row>>),
    }
    let next = AtomicUsize::new(0);
    let (send, receive) = channel();
    let mut rows: Vec<Option<Result<Row>>> = runners.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads().min(runners.len()) {
            let (send, next, ask) = (send.clone(), &next, &ask);
            scope.spawn(move || loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(runner) = runners.get(i) else { break };
                // The receiver lives until every sender is gone.
                let _ = send.send(News::Started(i));
                let _ = send.send(News::Ended(i, Box::new(ask(runner))));
            });
        }
        drop(send);
        let (mut running, mut done): (Vec<usize>, usize) = (Vec::new(), 0);
        for news in receive {
            match news {
                News::Started(i) => {
                    running.push(i);
                    progress.done();
                    let names: Vec<String> = running.iter().map(|i| runners[*i].name()).collect();
                    progress.stage(&format!("running {} ({done} of {} done)", names.join(", "), runners.len()), 0);
                }
                News::Ended(i, row) => {
                    running.retain(|r| *r != i);
                    done += 1;
                    rows[i] = Some(*row);
                }
            }
        }
        progress.done();
    });
    rows.into_iter().map(|r| r.unwrap_or_else(|| Err(Error::tool("a runner stopped without a result")))).collect()
}

/// One row.
fn ask(s: &Subject, runner: &Runner, references: &[Reference]) -> Result<Row> {
    let p = &s.artifact.program;
    let (whole, reference) = (&references[0].0, &references[0].1);
    let ours = |kernel: &str, detail: &str, outcome: Outcome| {
        row(
            runner,
            kernel,
            Ran { detail: detail.into(), ..Ran::new("-", *whole, Ok(Said::default())) },
            outcome,
            reference,
        )
    };
    let ran = match runner {
        Runner::Scalar => {
            if s.adapter.is_some() {
                let without = forced(s.artifact, None, DotKernel::Scalar, *whole)?;
                let outcome = if without == *reference {
                    Outcome::Differs { at: "nowhere: the adapter changes no operation of any prompt".into() }
                } else {
                    Outcome::Equal
                };
                return Ok(ours("scalar", "Rust, scalar kernels, changed by the adapter", outcome));
            }
            let outcome = match (host::stored(s.artifact, reference), &s.prompts) {
                (Outcome::Equal, Some(p)) => p.stored(s.artifact).map_or(Outcome::Equal, |at| Outcome::Differs { at }),
                (outcome, _) => outcome,
            };
            let mut row = ours("scalar", "Rust, scalar kernels against the golden trace", outcome);
            row.texts = s.prompts.as_ref().map_or(0, Prompts::count);
            return Ok(row);
        }
        Runner::Simd(k) => {
            let got = s.traces(*k, *whole)?;
            let outcome = difference(p, reference, &got).map_or(Outcome::Equal, |at| Outcome::Differs { at });
            return Ok(ours(k.name(), "Rust, this kernel for every matrix", outcome));
        }
        Runner::CHost => c_host::run_here(s)?,
        Runner::Device(t) => emulate::run_target(s, t)?,
        Runner::Rust(m) => rust::run_crate(s, m)?,
        Runner::Wasm(engine) => wasm::run_module(s, *engine)?,
    };
    let reference = references.iter().find(|(e, _)| *e == ran.extent).map_or(reference, |(_, t)| t);
    let outcome = match &ran.traces {
        Err(Failure::NotRun { why, install }) => Outcome::NotRun { why: why.clone(), install: install.clone() },
        Err(Failure::Broke(what)) => Outcome::Differs { at: what.clone() },
        Ok(said) => {
            let traces = &said.prompts[..];
            let traces = if s.quick { &traces[..traces.len().min(1)] } else { traces };
            let at = difference(p, reference, traces).or_else(|| s.prompts.as_ref()?.difference(said));
            at.map_or(Outcome::Equal, |at| Outcome::Differs { at })
        }
    };
    let mut row = row(runner, &kernels(p), ran, outcome, reference);
    if let (Some(prompts), Outcome::Equal | Outcome::Differs { .. }) = (&s.prompts, &row.outcome) {
        row.texts = prompts.count();
    }
    Ok(row)
}

fn row(runner: &Runner, kernels: &str, ran: Ran, outcome: Outcome, reference: &[PromptTrace]) -> Row {
    let compared = if matches!(outcome, Outcome::NotRun { .. }) { &[] } else { reference };
    Row {
        runner: runner.name(),
        emulator: ran.emulator,
        kernels: kernels.to_string(),
        detail: ran.detail,
        outcome,
        tokens: compared.iter().map(|t| t.tokens.len()).sum(),
        operations: operations(compared),
        texts: 0,
        instructions_per_token: ran.instructions,
        flash_bytes: ran.flash,
        ram_bytes: ran.ram,
        fits: ran.fits,
        limits: ran.limits,
        notes: ran.notes,
    }
}

/// Kernels that the program asks a device to use, those with most weights first.
fn kernels(p: &Program) -> String {
    let used: Vec<&str> = used(p).iter().map(|u| u.kernel).collect();
    used.join(", ")
}
