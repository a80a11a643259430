//! What a patch holds and what it costs, against the bound.

use super::bound::{count, Counts};
use super::create::{Plan, Side};
use super::segments::{Layout, Part};
use crate::digest::hex;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::format::delta::{Flags, Header, Index, Kind};
use crate::parallel;
use serde::Serialize;
use std::ops::Range;
use std::path::Path;

/// Parts that a refusal names.
const NAMED: usize = 8;

/// One of the files.
#[derive(Debug, Clone, Serialize)]
pub struct FileInfo {
    pub file: String,
    pub bytes: u64,
    pub sha256: String,
    pub version: String,
    pub sequence: u64,
}

/// A part of the target that changes.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: String,
    pub role: String,
    /// How it is coded.
    pub coder: String,
    pub bytes: u64,
    /// Low-bit weights, those that change, and their share.
    pub weights: u64,
    pub flips: u64,
    pub rate: f64,
    /// Fewest bytes for these flips; for other parts what they take.
    pub bound_bytes: f64,
    /// About what it takes of the payload.
    pub coded_bytes: f64,
}

/// A patch that was made.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub patch: String,
    pub model: String,
    pub base: FileInfo,
    pub target: FileInfo,
    pub bytes: u64,
    pub header_bytes: u64,
    pub index_bytes: u64,
    /// Of the index.
    pub digest_bytes: u64,
    pub payload_bytes: u64,
    pub block_bytes: u64,
    pub blocks: u64,
    pub changed_blocks: u64,
    pub segments: usize,
    pub in_place: bool,
    pub reversible: bool,
    pub full: bool,
    pub signed: bool,
    pub host_only: bool,
    pub contexts: u32,
    pub weights: u64,
    pub flips: u64,
    pub rate: f64,
    /// Bound of the flips alone, and with what all other changes take.
    pub flips_bound_bytes: f64,
    pub bound_bytes: f64,
    /// Bytes of the patch / `bound_bytes`.
    pub ratio: f64,
    /// Parts that change, in the order of the file.
    pub parts: Vec<Row>,
    pub notes: Vec<String>,
}

pub struct Sizes {
    pub index: u64,
    pub payload: u64,
}

/// Counts the changes of each segment that holds low-bit weights.
pub fn counts(plan: &Plan, layout: &Layout, b: &[u8], t: &[u8]) -> Result<Vec<Option<Counts>>> {
    let mut out = Vec::with_capacity(plan.segments.len());
    let one = |i: usize| {
        let (s, part) = (&plan.segments[i], &layout.parts[plan.shares[i].part]);
        let (at, n, from) = (s.at as usize, s.len as usize, s.base as usize);
        let whole = part.range == (at..at + n);
        Ok(match b.get(from..from + n) {
            Some(base) if part.weights > 0 && s.kind.reads_base() => {
                let counts = count(part.form, base, &t[at..at + n]);
                counts.map(|c| if whole { c.without(c.symbols().saturating_sub(part.weights)) } else { c })
            }
            _ => None,
        })
    };
    parallel::in_order(plan.segments.len(), one, |c| {
        out.push(c);
        Ok(())
    })?;
    Ok(out)
}

/// Divides the payload of a block among its parts by what each should take.
pub fn share(plan: &Plan, counts: &[Option<Counts>], block: Range<u64>, payload: usize, coded: &mut [f64]) {
    let first = plan.segments.partition_point(|s| s.at + s.len <= block.start);
    let mut takes = Vec::new();
    for (i, s) in plan.segments.iter().enumerate().skip(first).take_while(|(_, s)| s.at < block.end) {
        let n = (s.at + s.len).min(block.end) - s.at.max(block.start);
        let density = match &counts[i] {
            Some(c) if !matches!(s.kind, Kind::Raw { .. }) => c.bits() / s.len as f64,
            _ if s.kind == Kind::Copy => 0.0,
            _ => plan.shares[i].bits_per_byte,
        };
        takes.push((plan.shares[i].part, density * n as f64));
    }
    let all: f64 = takes.iter().map(|t| t.1).sum();
    for (part, takes) in takes.into_iter().filter(|_| all > 0.0) {
        coded[part] += payload as f64 * takes / all;
    }
}

#[allow(clippy::too_many_arguments)]
pub fn report(
    base: &Side,
    target: &Side,
    header: &Header,
    index: &Index,
    plan: &Plan,
    counts: &[Option<Counts>],
    coded: &[f64],
    sizes: Sizes,
    out: Option<&Path>,
) -> Report {
    let parts = rows(&target.layout, plan, counts, coded);
    let (weights, flips) =
        (target.layout.parts.iter().map(|p| p.weights).sum::<u64>(), parts.iter().map(|r| r.flips).sum());
    // A sum over nothing would be -0.
    let sum = |all: &mut dyn Iterator<Item = f64>| all.fold(0.0, |a, b| a + b);
    let flips_bound_bytes = sum(&mut parts.iter().filter(|r| r.flips > 0).map(|r| r.bound_bytes));
    let bound_bytes = sum(&mut parts.iter().map(|r| r.bound_bytes));
    let file = |side: &Side, len, sha: &[u8; 32], version: &str, sequence| FileInfo {
        file: side.path.display().to_string(),
        bytes: len,
        sha256: hex(sha),
        version: version.to_string(),
        sequence,
    };
    let Flags { in_place, reversible, full, signed, host_only } = header.flags;
    Report {
        patch: out.map_or(String::new(), |p| p.display().to_string()),
        model: header.model.clone(),
        base: file(base, header.base_len, &header.base_sha, &header.base_version, header.base_sequence),
        target: file(target, header.target_len, &header.target_sha, &header.target_version, header.target_sequence),
        bytes: header.patch_len,
        header_bytes: Header::LEN as u64,
        index_bytes: sizes.index,
        digest_bytes: 16 * index.blocks.len() as u64,
        payload_bytes: sizes.payload,
        block_bytes: 1 << header.block_log2,
        blocks: header.block_count(),
        changed_blocks: index.blocks.len() as u64,
        segments: index.segments.len(),
        in_place,
        reversible,
        full,
        signed,
        host_only,
        contexts: header.contexts,
        weights,
        flips,
        rate: share_of(flips, weights),
        flips_bound_bytes,
        bound_bytes,
        ratio: if bound_bytes > 0.0 { header.patch_len as f64 / bound_bytes } else { 0.0 },
        parts,
        notes: Vec::new(),
    }
}

fn share_of(n: u64, of: u64) -> f64 {
    if of > 0 {
        n as f64 / of as f64
    } else {
        0.0
    }
}

fn rows(layout: &Layout, plan: &Plan, counts: &[Option<Counts>], coded: &[f64]) -> Vec<Row> {
    let mut of: Vec<(Option<Counts>, Option<Kind>, bool)> = vec![(None, None, false); layout.parts.len()];
    for ((s, share), c) in plan.segments.iter().zip(&plan.shares).zip(counts) {
        let (all, kind, changed) = &mut of[share.part];
        if let Some(c) = c {
            *all.get_or_insert_with(Counts::default) += *c;
        }
        if s.kind != Kind::Copy {
            *kind = kind.or(Some(s.kind));
            *changed = true;
        }
    }
    let row = |(i, p): (usize, &Part)| {
        let (counts, kind, changed) = &of[i];
        let (flips, bound) = match counts {
            Some(c) => (c.flips(), c.bits() / 8.0),
            None => (0, 0.0),
        };
        let idle = coded[i] == 0.0 && flips == 0;
        (*changed && !idle).then(|| Row {
            name: if p.aspect.is_empty() { p.name.clone() } else { format!("{} {}", p.name, p.aspect) },
            role: p.role(),
            coder: kind.map(coder).unwrap_or_default(),
            bytes: p.range.len() as u64,
            weights: p.weights,
            flips,
            rate: share_of(flips, p.weights),
            bound_bytes: if flips > 0 { bound } else { coded[i] },
            coded_bytes: coded[i],
        })
    };
    layout.parts.iter().enumerate().filter_map(row).collect()
}

/// A kind in words.
pub fn coder(kind: Kind) -> String {
    let by = |what: &str, rice: bool| format!("{what}, {}", if rice { "rice" } else { "range" });
    match kind {
        Kind::Copy => "copy".into(),
        Kind::Bits { rice } => by("bits", rice),
        Kind::Planes { rice, .. } => by("trits", rice),
        Kind::Fives { rice } => by("trits in bytes", rice),
        Kind::Ints { width, shift, zeros } => {
            let steps = if shift == 0 { String::new() } else { format!(", steps of 2^{shift}") };
            format!("integers of {width}{steps}{}", if zeros { ", round" } else { "" })
        }
        Kind::Bytes => "bytes".into(),
        Kind::Zstd => "zstd".into(),
        Kind::Raw { xor: false } => "raw".into(),
        Kind::Raw { xor: true } => "raw, xor".into(),
    }
}

impl Report {
    /// The parts that take most, the first ones first.
    pub fn fattest(&self) -> Vec<&Row> {
        let mut all: Vec<&Row> = self.parts.iter().collect();
        all.sort_by(|a, b| b.coded_bytes.total_cmp(&a.coded_bytes));
        all
    }

    /// Why a patch of more than `most` bytes was not written, and what would have to go.
    pub fn too_fat(&self, most: u64) -> Error {
        let over = self.bytes - most;
        let mut text = format!("the patch takes {} bytes, {most} are allowed: {over} must go", self.bytes);
        let (mut gone, mut named) = (0.0, Vec::new());
        for row in self.fattest().iter().take(NAMED) {
            let rate = if row.flips > 0 { format!(" ({:.2} % flips)", 100.0 * row.rate) } else { String::new() };
            named.push(format!("{} {:.0} bytes{rate}", row.name, row.coded_bytes));
            gone += row.coded_bytes;
            if gone >= over as f64 {
                break;
            }
        }
        if !named.is_empty() {
            text += &format!("; most is in {}", named.join(", "));
        }
        let flips = self.flips_bound_bytes > 0.5 * self.bound_bytes;
        Error::new(ErrorKind::DoesNotFit, text).at_file(Path::new(&self.patch)).hint(match flips {
            true => "make fewer flips with `--hysteresis 0.5 --weights CHECKPOINT`, freeze some of these tensors in training, or allow more",
            false => "freeze these tensors in training (embeddings, scales), or allow more",
        })
    }
}
