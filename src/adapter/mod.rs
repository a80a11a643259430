//! From a LoRA adapter in floats to low-bit factors beside a low-bit model.
//!
//! Merged into weights of one bit an adapter would be rounded away; it stays a side branch. What is measured is the energy of a branch's
//! output: the sum of squares that it adds to the result of its matrix, for inputs as large as calibration text makes them.

mod fit;

use crate::encoding::fixed::Scale;
use crate::error::{Error, Result};
use crate::format::adapter::{part_bytes, Adapter, Part, HEADER, MAX_RANK};
use crate::kernels::adapter::Factors;
use crate::kernels::dot::DotKernel;
use crate::model::{Lora, SideBranch};
use crate::parallel::in_order;
use crate::program::OpKind;
use crate::progress::Progress;
use crate::runtime::adapter::{branches, Branch};
use crate::runtime::{Artifact, Moments};
use fit::{Fit, Target};
use serde::Serialize;

/// How an adapter is made.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Of a code: 1, 2, 4 or 8.
    pub bits: u32,
    /// Most terms of a matrix; None: the adapter's rank, twice that for codes of one bit.
    pub rank: Option<usize>,
    /// Most bytes of the file, without a signature.
    pub max_size: Option<usize>,
}

/// What became of the branch of one matrix.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Name in the model, e.g. `layers.0.attn.q`.
    pub matrix: String,
    /// Terms kept.
    pub kept: usize,
    /// Rank of the adapter there.
    pub rank: usize,
    pub bytes: usize,
    /// Share of the branch's output energy that is kept.
    pub energy: f64,
    /// Energy of the branch's output, relative to that of the matrix.
    pub weight: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub bits: u32,
    pub bytes: usize,
    /// Bytes of the adapter's floats as f32.
    pub float_bytes: usize,
    /// RAM that a device needs beside the file.
    pub scratch: usize,
    /// Share of the whole adapter's output energy, each branch relative to its matrix.
    pub energy: f64,
    pub rows: Vec<Row>,
}

/// One branch on its way.
struct Candidate<'a> {
    linear: usize,
    branch: &'a SideBranch,
    target: Target,
    energy: f64,
    /// Energy of the matrix's own output.
    output: f64,
    /// With 1, 2, … terms.
    fits: Vec<Fit>,
    kept: usize,
}

impl Candidate<'_> {
    fn bytes(&self, terms: usize, bits: u32) -> usize {
        if terms == 0 {
            0
        } else {
            part_bytes(self.branch.rows, self.branch.cols, terms, bits)
        }
    }

    /// What is left of the branch with so many terms, relative to its matrix.
    fn left(&self, terms: usize) -> f64 {
        let error = if terms == 0 { self.energy } else { self.fits[terms - 1].error };
        error / self.output
    }
}

/// Makes the low-bit form of `lora` for an artifact of its base. `ids` are what the size of inputs is measured on.
///
/// # Errors
/// `Input` if the artifact is of another model, `Usage` if not one matrix fits into the size.
pub fn make(
    artifact: &Artifact,
    lora: &Lora,
    ids: &[u32],
    o: &Options,
    progress: &dyn Progress,
) -> Result<(Adapter, Report)> {
    let p = &artifact.program;
    let known = branches(p);
    progress.stage("measuring inputs", 0);
    let mut session = artifact.session(DotKernel::best());
    session.measure();
    for part in ids.chunks(p.longest().unwrap_or(usize::MAX).clamp(1, 256)) {
        session.reset();
        session.run(part)?;
    }
    let moments = session.moments().cloned().unwrap_or_default();
    progress.stage("choosing factors", lora.branches.len() as u64);
    let place = |branch: &SideBranch| {
        let found = known.iter().position(|b| name(artifact, *b) == Some(&branch.name));
        found.ok_or_else(|| {
            let e =
                Error::input(format!("the artifact has no matrix `{}`", branch.name)).at_file(&artifact.packed.path);
            e.hint("export the base of this adapter with `--format packed`")
        })
    };
    let mut candidates = Vec::new();
    let fitted = |i: usize| {
        let linear = place(&lora.branches[i])?;
        Ok(candidate(known[linear], linear, &lora.branches[i], &moments, o))
    };
    in_order(lora.branches.len(), fitted, |c| {
        candidates.push(c);
        progress.advance(1);
        Ok(())
    })?;
    progress.done();
    keep(&mut candidates, o)?;
    for c in candidates.iter_mut().filter(|c| c.kept > 0 && c.kept < c.fits.len()) {
        c.fits[c.kept - 1] = c.target.refine(&c.fits[c.kept - 1], o.bits);
    }
    if candidates.iter().all(|c| c.kept == 0) {
        return Err(nothing());
    }
    let parts = candidates.iter().filter_map(|c| part(c, o.bits)).collect();
    let adapter = Adapter { model: p.model_id, linears: known.len(), parts };
    let report = report(&candidates, &adapter, o.bits);
    Ok((adapter, report))
}

fn name(artifact: &Artifact, b: Branch) -> Option<&str> {
    match artifact.program.ops[b.linear].kind {
        OpKind::Linear { weight, .. } => Some(&artifact.program.tensors[weight].name),
        _ => None,
    }
}

fn candidate<'a>(at: Branch, linear: usize, branch: &'a SideBranch, m: &Moments, o: &Options) -> Candidate<'a> {
    let tokens = m.tokens.max(1) as f64;
    let mut moments: Vec<f64> = m.squares[at.quantize].iter().map(|s| s / tokens).collect();
    moments.resize(branch.cols, 0.0);
    let mean = moments.iter().sum::<f64>() / branch.cols as f64;
    // A channel that was silent in this text may speak in another.
    let (mean, least) = if mean > 0.0 { (mean, mean / 100.0) } else { (1.0, 1.0) };
    moments.iter_mut().for_each(|d| *d = d.max(least));
    let output = m.squares[at.linear].first().map_or(0.0, |s| s / tokens);
    let wide = |v: &f32| f64::from(*v);
    let a: Vec<Vec<f64>> = branch.a.chunks_exact(branch.cols).map(|r| r.iter().map(wide).collect()).collect();
    let column = |j: usize| branch.b.iter().skip(j).step_by(branch.rank).map(wide).collect();
    let mut target = Target { a, b: (0..branch.rank).map(column).collect(), moments };
    target.order_by_size();
    let energy = target.energy();
    let most = o.rank.unwrap_or(branch.rank * if o.bits == 1 { 2 } else { 1 }).min(MAX_RANK);
    let fits = target.fits(o.bits, most);
    let output = if output > 0.0 { output } else { mean * branch.cols as f64 };
    Candidate { linear, branch, target, energy, output, kept: fits.len(), fits }
}

/// Chooses how many terms of each branch are kept: the one that explains most of what is left for its bytes, again and again.
fn keep(candidates: &mut [Candidate], o: &Options) -> Result<()> {
    let Some(limit) = o.max_size else { return Ok(()) };
    candidates.iter_mut().for_each(|c| c.kept = 0);
    let mut left = limit.saturating_sub(HEADER);
    loop {
        let mut best: Option<(f64, usize, usize)> = None;
        for (i, c) in candidates.iter().enumerate() {
            let now = c.bytes(c.kept, o.bits);
            // The first term pays for the head of its part, so several together may be the better step.
            for terms in c.kept + 1..=c.fits.len() {
                let more = c.bytes(terms, o.bits) - now;
                let worth = (c.left(c.kept) - c.left(terms)) / more as f64;
                if more <= left && worth > best.map_or(0.0, |b| b.0) {
                    best = Some((worth, i, terms));
                }
            }
        }
        let Some((_, i, terms)) = best else { break };
        left -= candidates[i].bytes(terms, o.bits) - candidates[i].bytes(candidates[i].kept, o.bits);
        candidates[i].kept = terms;
    }
    if candidates.iter().any(|c| c.kept > 0) {
        return Ok(());
    }
    let least = candidates.iter().filter(|c| !c.fits.is_empty()).map(|c| HEADER + c.bytes(1, o.bits)).min();
    Err(match least {
        Some(n) => Error::usage(format!("{limit} bytes hold no rank of any matrix, the smallest takes {n}"))
            .hint("allow more with `--max-size`, or take fewer bits with `--bits 1`"),
        None => nothing(),
    })
}

fn nothing() -> Error {
    Error::input("the adapter adds nothing: all its branches are zero")
        .hint("a fresh adapter has B = 0; train it first")
}

/// The codes of a branch with common exponent and shifts.
fn part(c: &Candidate, bits: u32) -> Option<Part> {
    let fit = if c.kept == 0 { return None } else { c.fits.get(c.kept - 1)? };
    let scales: Vec<(u16, i32)> = fit.terms.iter().map(|t| sixteen_bits(t.scale)).collect();
    let top = scales.iter().map(|(_, e)| *e).max()?;
    let e = top.clamp(-4096, 4095);
    let rank = fit.terms.len();
    let b = (0..c.branch.rows).flat_map(|r| fit.terms.iter().map(move |t| t.b[r])).collect();
    let factors = Factors {
        bits,
        rank,
        rows: c.branch.rows,
        cols: c.branch.cols,
        e,
        m: scales.iter().map(|(m, _)| *m).collect(),
        h: scales.iter().map(|(_, own)| (e - own).clamp(0, 63) as u8).collect(),
        a: fit.terms.iter().flat_map(|t| t.a.iter().copied()).collect(),
        b,
    };
    Some(Part { linear: c.linear, factors })
}

/// The nearest m * 2^e with a mantissa of 16 bits.
fn sixteen_bits(v: f64) -> (u16, i32) {
    let s = Scale::from_f64(v).unwrap_or(Scale::pow2(-4096));
    match (s.m >> 15) + (s.m >> 14 & 1) {
        0x1_0000 => (0x8000, s.e + 16),
        m => (m as u16, s.e + 15),
    }
}

fn report(candidates: &[Candidate], adapter: &Adapter, bits: u32) -> Report {
    let share = |left: f64, all: f64| if all > 0.0 { 1.0 - left / all } else { 1.0 };
    let rows: Vec<Row> = candidates
        .iter()
        .map(|c| Row {
            matrix: c.branch.name.clone(),
            kept: c.kept,
            rank: c.branch.rank,
            bytes: c.bytes(c.kept, bits),
            energy: share(c.left(c.kept), c.left(0)),
            weight: c.left(0),
        })
        .collect();
    let all: f64 = candidates.iter().map(|c| c.left(0)).sum();
    let left: f64 = candidates.iter().map(|c| c.left(c.kept)).sum();
    Report {
        bits,
        bytes: HEADER + rows.iter().map(|r| r.bytes).sum::<usize>(),
        float_bytes: candidates.iter().map(|c| 4 * (c.branch.a.len() + c.branch.b.len())).sum(),
        scratch: adapter.scratch(),
        energy: share(left, all),
        rows,
    }
}
