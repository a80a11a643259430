//! Which kind each piece gets. Pieces of one role in all layers get the same, so that the index repeats; the smallest is taken.

use super::Coder;
use crate::delta::block::Encoder;
use crate::delta::bound::zeros_of_differences;
use crate::delta::matching::Piece;
use crate::delta::segments::{Form, Layout};
use crate::error::Result;
use crate::format::delta::{Kind, Segment};
use crate::parallel;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Mutex;

/// What may be used.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub coder: Coder,
    /// The base is read at the same place only.
    pub in_place: bool,
    /// Only what leads back, too.
    pub back: bool,
    pub zstd: bool,
}

/// The segments of a patch and what they will take.
#[derive(Debug, Clone)]
pub struct Plan {
    pub rules: Rules,
    pub segments: Vec<Segment>,
    /// For each segment: the part of the target that it is of, and about how many bits each of its bytes takes.
    pub shares: Vec<Share>,
    /// About how many bits the patch takes without what blocks cost.
    pub bits: f64,
}

#[derive(Debug, Clone, Copy)]
pub struct Share {
    pub part: usize,
    pub bits_per_byte: f64,
}

/// A Rice code may be so much larger: it is read several times as fast, and needs no contexts.
const RICE_WORTH: f64 = 1.003;
/// Blocks in which costs are measured.
const COST_BLOCK: u32 = 16;
/// Of a role with more bytes than this only samples are costed.
const WHOLE: usize = 2 << 20;
const SAMPLES: usize = 32;
/// The same for copies and frames where the base has the same bytes but for changes: they are slow to try and seldom best there.
const PART: usize = 1 << 17;
const PART_SAMPLES: usize = 4;
/// Equal matrices of at least so many bytes are copied, whatever the other layers get: a gap over them would be long, and dear as a Rice code.
const EQUAL: usize = 1 << 12;
/// Blocks in which a plan is weighed.
const WEIGHED: u32 = 16;
/// Bits of an entry of the index.
const ENTRY: f64 = 8.0 * 5.0;
/// Equal bytes that make it worth to cut raw bytes in two.
const RUN: usize = 12;
/// Largest piece that is cut at equal runs.
const CUT: usize = 1 << 16;
/// Bits a byte below which copies and frames are not tried: they code no scattered change in less.
const SCATTERED: f64 = 1.5;
/// The same for weights of few bits: only where they have nothing to do with the base.
const STRANGE: f64 = 7.0;

/// Pieces that get one kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    role: String,
    form: Form,
    based: bool,
    host: bool,
    equal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Choice {
    One(Kind),
    /// Copies of equal runs, and between them raw bytes.
    Runs,
}

impl Plan {
    /// Chooses kinds for pieces that cover the target.
    ///
    /// # Errors
    /// Those of the encoder, which would be ours.
    pub fn make(pieces: &[Piece], layout: &Layout, b: &[u8], t: &[u8], rules: Rules, known: &Known) -> Result<Plan> {
        let mut groups: BTreeMap<Group, Vec<usize>> = BTreeMap::new();
        for (i, p) in pieces.iter().enumerate() {
            let part = &layout.parts[p.part];
            let matrix = matches!(p.form, Form::Bits | Form::Planes { .. } | Form::Fives) && p.range.len() >= EQUAL;
            let equal = matrix && p.base.is_some_and(|at| b[at..at + p.range.len()] == t[p.range.clone()]);
            let key = Group { role: part.role(), form: p.form, based: p.base.is_some(), host: part.host, equal };
            groups.entry(key).or_default().push(i);
        }
        let groups: Vec<(Group, Vec<usize>)> = groups.into_iter().collect();
        let mut chosen = vec![(Choice::One(Kind::Copy), 0.0); pieces.len()];
        let mut bits = 0.0;
        let mut next = 0;
        let choose = |g: usize| {
            let of: Vec<&Piece> = groups[g].1.iter().map(|i| &pieces[*i]).collect();
            Costs { b, t, rules, known }.choose(&groups[g].0, &of)
        };
        parallel::in_order(groups.len(), choose, |(choice, cost)| {
            let total: usize = groups[next].1.iter().map(|i| pieces[*i].range.len()).sum();
            groups[next].1.iter().for_each(|i| chosen[*i] = (choice, cost / total.max(1) as f64));
            bits += cost;
            next += 1;
            Ok(())
        })?;
        let mut plan = Plan { rules, segments: Vec::new(), shares: Vec::new(), bits };
        for (p, (choice, bits_per_byte)) in pieces.iter().zip(chosen) {
            let share = Share { part: p.part, bits_per_byte };
            match choice {
                Choice::One(kind) => plan.push(segment(p, kind, p.range.clone()), share),
                Choice::Runs => {
                    for (range, equal) in runs(p, b, t) {
                        let kind = if equal { Kind::Copy } else { Kind::Raw { xor: rules.back } };
                        plan.push(segment(p, kind, range), share);
                    }
                }
            }
        }
        Ok(plan)
    }

    /// Adds a segment, or makes the last one longer.
    fn push(&mut self, s: Segment, share: Share) {
        let joins = |l: &Segment| {
            let goes_on = l.base + l.len == s.base;
            l.kind == s.kind
                && match s.kind {
                    Kind::Copy | Kind::Raw { xor: true } => goes_on,
                    Kind::Raw { xor: false } => true,
                    _ => false,
                }
        };
        match self.segments.last_mut() {
            Some(last)
                if joins(last)
                    && (s.kind == Kind::Copy || self.shares.last().is_some_and(|l| l.part == share.part)) =>
            {
                last.len += s.len;
            }
            _ => {
                self.segments.push(s);
                self.shares.push(share);
            }
        }
    }

    /// The plan with range coding alone if, in some of the blocks that it will have, that is smaller by more than Rice codes are worth.
    /// Only there it shows what a gap costs that leads from one matrix into others, and what larger blocks save to a coder that learns.
    ///
    /// # Errors
    /// Those of the encoder, which would be ours.
    pub fn weighed(mut self, block_log2: u32, blocks: u32, b: &[u8], t: &[u8]) -> Result<Plan> {
        let rice = |s: &Segment| with_rice(s.kind, false) != s.kind;
        if self.rules.coder != Coder::Auto || !self.segments.iter().any(rice) {
            return Ok(self);
        }
        let encoder =
            Encoder { segments: &self.segments, block_log2, in_place: self.rules.in_place, base: b, target: t };
        let (mut own, mut range) = (0, 0);
        for i in 0..blocks.min(WEIGHED) {
            let block = (u64::from(i) * u64::from(blocks) / u64::from(blocks.min(WEIGHED))) as u32;
            own += encoder.weigh(block, None)?;
            range += encoder.weigh(block, Some(false))?;
        }
        if own as f64 > RICE_WORTH * range as f64 {
            self.segments.iter_mut().for_each(|s| s.kind = with_rice(s.kind, false));
        }
        Ok(self)
    }

    /// Whether all kinds lead back.
    pub fn leads_back(&self) -> bool {
        let back = |k: Kind| matches!(k, Kind::Copy | Kind::Bits { .. } | Kind::Ints { .. } | Kind::Raw { xor: true });
        self.rules.in_place && self.segments.iter().all(|s| back(s.kind))
    }
}

fn segment(p: &Piece, kind: Kind, range: Range<usize>) -> Segment {
    let base = p.base.map_or(p.near, |at| at + (range.start - p.range.start));
    let base = if kind == (Kind::Raw { xor: false }) { 0 } else { base };
    Segment { kind, at: range.start as u64, len: range.len() as u64, base: base as u64 }
}

/// Equal and different stretches of a piece with a base.
fn runs(p: &Piece, b: &[u8], t: &[u8]) -> Vec<(Range<usize>, bool)> {
    let Some(at) = p.base else { return vec![(p.range.clone(), false)] };
    let (b, t) = (&b[at..at + p.range.len()], &t[p.range.clone()]);
    let mut out: Vec<(Range<usize>, bool)> = Vec::new();
    let mut i = 0;
    while i < t.len() {
        let equal = b[i..].iter().zip(&t[i..]).take_while(|(x, y)| x == y).count();
        let whole = equal == t.len();
        let n = equal.max(1);
        let equal = equal >= RUN || whole;
        match out.last_mut() {
            Some((last, was)) if *was == equal => last.end += n,
            _ => out.push((p.range.start + i..p.range.start + i + n, equal)),
        }
        i += n;
    }
    out
}

struct Costs<'a> {
    b: &'a [u8],
    t: &'a [u8],
    rules: Rules,
    known: &'a Known,
}

/// Bits of segments that were costed before, by either coder: plans of one pair have most of them in common.
#[derive(Default)]
pub struct Known(Mutex<HashMap<(Segment, bool), (f64, f64)>>);

impl Known {
    fn or(&self, key: (Segment, bool), find: impl FnOnce() -> Result<(f64, f64)>) -> Result<(f64, f64)> {
        // A map that a panic left behind is still a map of finished costs.
        let lock = || self.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(known) = lock().get(&key) {
            return Ok(*known);
        }
        let found = find()?;
        lock().insert(key, found);
        Ok(found)
    }
}

impl Costs<'_> {
    /// The smallest kind for a group and its bits.
    fn choose(&self, group: &Group, pieces: &[&Piece]) -> Result<(Choice, f64)> {
        let total: usize = pieces.iter().map(|p| p.range.len()).sum();
        let based = |p: &Piece| p.base.map(|at| &self.b[at..at + p.range.len()]);
        if group.based && pieces.iter().all(|p| based(p) == Some(&self.t[p.range.clone()])) {
            return Ok((Choice::One(Kind::Copy), 0.0));
        }
        let mut best = (Choice::One(Kind::Raw { xor: self.rules.back && group.based }), 8.0 * total as f64);
        let mut offer = |choice, bits: f64| {
            if bits < best.1 {
                best = (choice, bits);
            }
            best.1
        };
        let scale = |samples: &[(&Piece, Range<usize>)]| {
            total as f64 / samples.iter().map(|(_, r)| r.len()).sum::<usize>().max(1) as f64
        };
        if group.based {
            let samples = self.samples(pieces, total, WHOLE, SAMPLES);
            for kind in self.structured(group.form, pieces) {
                let (mut range, mut rice) = (0.0, 0.0);
                for (p, r) in &samples {
                    let s = segment(p, kind, r.clone());
                    let cost = self.known.or((s, false), || {
                        let cost = self.encoder(&[]).cost(&s)?;
                        Ok((cost.range as f64, cost.rice as f64))
                    })?;
                    range += cost.0;
                    rice += cost.1;
                }
                let coder = match self.rules.coder {
                    _ if !has_rice(kind) => false,
                    Coder::Auto => rice <= RICE_WORTH * range,
                    Coder::Rice => true,
                    Coder::Range => false,
                };
                offer(Choice::One(with_rice(kind, coder)), scale(&samples) * if coder { rice } else { range });
            }
            if total <= CUT {
                let cost = |(r, equal): &(Range<usize>, bool)| ENTRY + if *equal { 0.0 } else { 8.0 * r.len() as f64 };
                let bits = pieces.iter().flat_map(|p| runs(p, self.b, self.t)).map(|r| cost(&r)).sum();
                offer(Choice::Runs, bits);
            }
        }
        let enough = match group.form {
            Form::Bits | Form::Planes { .. } | Form::Fives if group.based => STRANGE,
            _ => SCATTERED,
        };
        let dense = offer(Choice::Runs, f64::MAX) > enough * total as f64;
        if !self.rules.back && (dense || group.form == Form::Bytes) {
            let host = group.host && self.rules.zstd;
            let (most, count) = if group.based { (PART, PART_SAMPLES) } else { (WHOLE, SAMPLES) };
            let samples = self.samples(pieces, total, most, count);
            for kind in [Kind::Bytes, Kind::Zstd].into_iter().filter(|k| *k == Kind::Bytes || host) {
                let mut bits = 0.0;
                for (p, r) in &samples {
                    let s = segment(p, kind, r.clone());
                    bits += self.known.or((s, self.rules.in_place), || Ok((self.encoded(s)?, 0.0)))?.0;
                }
                offer(Choice::One(kind), scale(&samples) * bits);
            }
        }
        Ok(best)
    }

    /// Kinds that know what changes in these bytes.
    fn structured(&self, form: Form, pieces: &[&Piece]) -> Vec<Kind> {
        let ints = |width: u8| {
            let n = usize::from(width);
            let fits = pieces.iter().all(|p| p.range.start % n == 0 && p.range.len() % n == 0);
            let mut counts = [0; 33];
            for p in pieces.iter().filter(|_| fits) {
                let at = p.base.unwrap_or(0);
                zeros_of_differences(width, &self.b[at..at + p.range.len()], &self.t[p.range.clone()], &mut counts);
            }
            let shift = counts.iter().position(|n| *n > 0).unwrap_or(0).min(8 * n - 1);
            let changes = counts[..32].iter().sum::<u64>();
            // Half of the multiples of random numbers are even.
            let zeros = 8 * (changes - counts[shift].min(changes)) > 5 * changes;
            fits.then_some(Kind::Ints { width, shift: shift as u8, zeros })
        };
        let kinds = match form {
            Form::Bits => vec![Some(Kind::Bits { rice: false })],
            // What leads back knows no trits.
            Form::Planes { .. } | Form::Fives if self.rules.back => vec![Some(Kind::Bits { rice: false })],
            Form::Planes { half } => vec![Some(Kind::Planes { rice: false, half })],
            Form::Fives => vec![Some(Kind::Fives { rice: false })],
            Form::Ints(1) => vec![ints(1)],
            Form::Ints(width) => vec![ints(width), ints(1)],
            Form::Bytes => vec![Some(Kind::Bits { rice: false }), ints(1)],
        };
        kinds.into_iter().flatten().collect()
    }

    /// All of the pieces, or if they have more than `most` bytes, `count` parts of them that stand for all.
    fn samples<'p>(
        &self,
        pieces: &[&'p Piece],
        total: usize,
        most: usize,
        count: usize,
    ) -> Vec<(&'p Piece, Range<usize>)> {
        let whole = |p: &&'p Piece| (*p, p.range.clone());
        if total <= most {
            return pieces.iter().map(whole).collect();
        }
        let size = most / count;
        let mut out = Vec::with_capacity(count);
        let (mut before, mut k) = (0, 0);
        for p in pieces {
            // Rows stay whole.
            let unit = match p.form {
                Form::Planes { half } => 2 * half as usize,
                Form::Ints(_) => 4,
                _ => 1,
            };
            while k < count && total / count * k < before + p.range.len() {
                let from = (total / count * k).max(before) - before;
                let from = from - from % unit;
                let len = size.max(unit).min(p.range.len() - from);
                let len = len - len % unit;
                if len > 0 {
                    out.push((*p, p.range.start + from..p.range.start + from + len));
                }
                k += 1;
            }
            before += p.range.len();
        }
        out
    }

    fn encoder<'s>(&'s self, segments: &'s [Segment]) -> Encoder<'s> {
        Encoder { segments, block_log2: COST_BLOCK, in_place: self.rules.in_place, base: self.b, target: self.t }
    }

    /// Bits of a segment, encoded for itself.
    fn encoded(&self, s: Segment) -> Result<f64> {
        let end = s.at + s.len;
        let segments = [s];
        let encoder = self.encoder(&segments);
        let mut bits = 0.0;
        for block in s.at >> COST_BLOCK..=(end - 1) >> COST_BLOCK {
            bits += 8.0 * encoder.encode(block as u32)?.payload.len() as f64;
        }
        Ok(bits)
    }
}

fn has_rice(kind: Kind) -> bool {
    matches!(kind, Kind::Bits { .. } | Kind::Planes { .. } | Kind::Fives { .. })
}

fn with_rice(kind: Kind, rice: bool) -> Kind {
    match kind {
        Kind::Bits { .. } => Kind::Bits { rice },
        Kind::Planes { half, .. } => Kind::Planes { rice, half },
        Kind::Fives { .. } => Kind::Fives { rice },
        other => other,
    }
}
