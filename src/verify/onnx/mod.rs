//! Does an ONNX file compute what the program does? The golden prompts run through an engine, the whole prompt at once and then token by
//! token with the cache, and every logit of every position is compared with the runtime's.
//!
//! The profile `int` must be equal. The others have float parts: what is integer in them must be equal, and the rest is measured.

mod feed;
mod figures;
mod float;
mod integer;
mod locate;
mod table;

pub use figures::{Figures, LIMITS};
pub use table::table;

use crate::engine::builtin::Builtin;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::onnx::Loaded;
use crate::progress::Progress;
use crate::runtime::Artifact;
use serde::Serialize;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Tokens of the one prompt of a quick run, and how many of them are given at once.
const QUICK: (usize, usize) = (16, 12);

/// What runs the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum With {
    Builtin,
    /// ONNX Runtime, from this shared library.
    Ort(PathBuf),
}

/// The answer.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum Verdict {
    /// Every integer.
    Equal,
    /// Of a profile with float parts: the integer parts are equal and the figures within [`LIMITS`].
    Near,
    Differs {
        /// Where the first difference is, or which figure is too large.
        at: String,
    },
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub file: String,
    pub against: String,
    pub profile: String,
    pub engine: String,
    pub ir: i64,
    pub opset: i64,
    pub prompts: usize,
    /// Positions whose results were compared, and of them those that were computed with a cache.
    pub positions: usize,
    pub with_cache: usize,
    /// Numbers of results that were compared, and how many of them differ.
    pub values: u64,
    pub differing: u64,
    /// Results of inner operations that were compared as well.
    pub operations: u64,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Of the profiles with float parts.
    pub figures: Option<Figures>,
    pub notes: Vec<String>,
}

/// A file that was opened and belongs to an artifact.
struct Subject<'a> {
    artifact: &'a Artifact,
    engine: Box<dyn Engine>,
    /// Values that the engine can give; None: outputs only.
    inner: Option<HashSet<String>>,
    /// Prompts as they fit: ids, and how many of them are given at once.
    prompts: Vec<(Vec<u32>, usize)>,
}

/// Runs an ONNX file against the program of an artifact; `quick`: the beginning of the first golden prompt.
///
/// # Errors
/// `Input` if the file is damaged, was not written by this program or belongs to another model, `Tool` if the engine cannot run it.
pub fn verify(file: &Path, artifact: &Artifact, with: &With, quick: bool, progress: &dyn Progress) -> Result<Report> {
    let loaded = Loaded::open(file)?;
    let mut notes = Vec::new();
    let profile = belongs(&loaded, artifact, &mut notes).map_err(|e| e.at_file(file))?;
    loaded.check_data()?;
    let opset = loaded.opset("").unwrap_or_default();
    let ir = loaded.model.ir_version;
    let inner = (*with == With::Builtin).then(|| inner_values(&loaded));
    drop(loaded);
    progress.stage("opening the file", 0);
    let engine: Box<dyn Engine> = match with {
        With::Builtin => Box::new(Builtin::open(file)?),
        With::Ort(lib) => open_ort(file, lib)?,
    };
    progress.done();
    let name = engine.name();
    let mut subject = Subject { artifact, engine, inner, prompts: Vec::new() };
    subject.prompts = subject.fitting(quick)?;
    if subject.prompts.is_empty() {
        return Err(Error::input("the artifact holds no golden prompt to verify with").at_file(&artifact.packed.path));
    }
    progress.stage(&format!("running {} prompts in {name}", subject.prompts.len()), 0);
    let done = if profile == "int" { integer::compare(&mut subject) } else { float::compare(&mut subject) };
    progress.done();
    let done = done.map_err(|e| if e.file().is_none() { e.at_file(file) } else { e })?;
    notes.extend(done.notes);
    Ok(Report {
        file: file.display().to_string(),
        against: artifact.packed.path.display().to_string(),
        profile,
        engine: name,
        ir,
        opset,
        prompts: subject.prompts.len(),
        positions: done.positions,
        with_cache: done.with_cache,
        values: done.values,
        differing: done.differing,
        operations: done.operations,
        verdict: done.verdict,
        figures: done.figures,
        notes,
    })
}

/// What a comparison found.
struct Done {
    positions: usize,
    with_cache: usize,
    values: u64,
    differing: u64,
    operations: u64,
    verdict: Verdict,
    figures: Option<Figures>,
    notes: Vec<String>,
}

/// The profile of a file that we wrote, if it belongs to the artifact.
fn belongs(loaded: &Loaded, artifact: &Artifact, notes: &mut Vec<String>) -> Result<String> {
    let foreign = || {
        Error::input("this ONNX file does not say that it is one of ours: its metadata has no `bitnet.profile`")
            .hint("only files of `bitnet-convert export --format onnx` can be compared with a program")
    };
    let profile = loaded.meta("bitnet.profile").ok_or_else(foreign)?;
    if !["int", "std", "ort"].contains(&profile) {
        let e = Error::input(format!("its metadata names the profile `{profile}`, which this version does not know"));
        return Err(e.hint("verify it with the version that wrote it"));
    }
    let model = format!("{:016x}", artifact.program.model_id);
    if let Some(id) = loaded.meta("bitnet.model_id").filter(|id| *id != model) {
        let e = Error::input(format!("the file was made from model {id}, the artifact is of model {model}"));
        return Err(e.hint("give the artifact that it was exported from to `--against`"));
    }
    let source = crate::digest::hex(&crate::digest::sha256(artifact.packed.bytes()));
    if loaded.meta("bitnet.source").is_some_and(|s| s != source) {
        notes.push("the file was exported from another artifact of this model; its settings may differ".into());
    }
    Ok(profile.to_string())
}

fn inner_values(loaded: &Loaded) -> HashSet<String> {
    let nodes = loaded.model.graph.iter().flat_map(|g| &g.node);
    nodes.flat_map(|n| n.output.iter().cloned()).collect()
}

#[cfg(feature = "ort")]
fn open_ort(file: &Path, lib: &Path) -> Result<Box<dyn Engine>> {
    Ok(Box::new(crate::engine::ort::Ort::open(file, lib)?))
}

#[cfg(not(feature = "ort"))]
fn open_ort(_: &Path, _: &Path) -> Result<Box<dyn Engine>> {
    Err(Error::unsupported("this build has no binding of ONNX Runtime")
        .hint("build it with the feature `ort`, or use `--engine builtin`"))
}

impl Subject<'_> {
    /// The golden prompts as far as the program's window and the file's cache reach: beyond that the runtime forgets tokens.
    fn fitting(&self, quick: bool) -> Result<Vec<(Vec<u32>, usize)>> {
        let p = &self.artifact.program;
        let fixed = feed::fixed_length(self.engine.as_ref())?.unwrap_or(usize::MAX);
        let (tokens, at_once) = if quick { QUICK } else { (usize::MAX, usize::MAX) };
        let most = p.attention.window.min(p.longest().unwrap_or(usize::MAX)).min(fixed).min(tokens);
        let prompts = self.artifact.golden.prompts.iter().take(if quick { 1 } else { usize::MAX });
        let cut = prompts.map(|g| {
            let ids = g.ids[..g.ids.len().min(most)].to_vec();
            // At least one token comes through the cache, where there is one.
            let given = g.prompt_len.min(at_once).min(ids.len() - usize::from(ids.len() > 1));
            (ids, given)
        });
        Ok(cut.collect())
    }
}
