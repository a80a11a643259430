//! A block's payload.

use super::pieces::{pieces, rows, Piece};
use super::scan::{Event, Scan};
use super::values::{self, Values};
use super::{copies, frames};
use crate::delta::gaps::{Gaps, Model};
use crate::delta::meter::Meter;
use crate::delta::streams::{Context, Sink, Writer};
use crate::error::{Error, Result};
use crate::format::delta::{Kind, Segment};
use std::ops::Range;

/// What the blocks of a patch are made from.
#[derive(Clone, Copy)]
pub struct Encoder<'a> {
    /// All segments of the target, in order. The `base` of a segment of kind `Bytes` or `Zstd` says where to look for related bytes.
    pub segments: &'a [Segment],
    pub block_log2: u32,
    /// Copies and prefixes stay within the block's own bytes of the base.
    pub in_place: bool,
    pub base: &'a [u8],
    pub target: &'a [u8],
}

/// The payload of a block; empty if the block does not change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    pub payload: Vec<u8>,
    /// Bytes of stream 1, with which the payload begins.
    pub stream1: u32,
}

/// What a segment costs, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bits of its payload with the range coder, or in kinds that have no choice.
    pub range: u64,
    /// Bits of its payload with Rice codes; `u64::MAX` where there is no choice.
    pub rice: u64,
    /// Symbols of the classes 0 to 5 (docs/format/delta.md, Gaps).
    pub symbols: [u64; 6],
    /// Those of them that change.
    pub changes: [u64; 6],
    /// Blocks with a payload.
    pub blocks: u64,
}

/// A stretch of a block, ready to be written.
enum Part {
    /// Events of some classes, and the option of the segment: `rice`, or `zeros` of integers.
    Gaps { classes: Range<usize>, rice: bool, zeros: bool, events: Range<usize> },
    /// A piece that is written as a whole.
    Whole(Piece),
}

/// A block before it is written.
struct Plan {
    parts: Vec<Part>,
    scan: Scan,
    /// Whether it equals what it is made from.
    unchanged: bool,
}

impl Encoder<'_> {
    /// Encodes one block. Same input, same bytes.
    ///
    /// # Errors
    /// `Usage` if a segment's kind cannot express the difference: another byte in a copy, an invalid code among trits, a difference that
    /// is no multiple of 2^shift; or if it lies outside of base or target.
    pub fn encode(&self, block: u32) -> Result<Encoded> {
        let range = self.block(u64::from(block));
        let plan = self.plan(self.segments, &range)?;
        if plan.unchanged {
            return Ok(Encoded::default());
        }
        let mut writer = Writer::default();
        self.write(&plan, &range, None, &mut writer)?;
        let (mut payload, stream1) = writer.finish();
        if payload.is_empty() {
            payload.push(0);
        }
        if payload.len() > 2 << self.block_log2 {
            return Err(Error::usage(format!("block {block} takes {} bytes, more than twice its size", payload.len()))
                .hint("choose other kinds for its segments"));
        }
        Ok(Encoded { payload, stream1 })
    }

    /// What `segment` costs if it is coded alone, by either coder: the option of its kind is not read, nor are [`Encoder::segments`].
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn cost(&self, segment: &Segment) -> Result<Cost> {
        let choice = matches!(segment.kind, Kind::Bits { .. } | Kind::Planes { .. } | Kind::Fives { .. });
        let mut cost = Cost { rice: if choice { 0 } else { u64::MAX }, ..Cost::default() };
        let end = segment.at.saturating_add(segment.len);
        if segment.len == 0 || end > self.target.len() as u64 {
            return Err(Error::usage("a segment is empty or ends behind the target"));
        }
        for block in segment.at >> self.block_log2..=(end - 1) >> self.block_log2 {
            let range = self.block(block);
            let plan = self.plan(std::slice::from_ref(segment), &range)?;
            for class in 0..6 {
                cost.symbols[class] += plan.scan.symbols[class];
                cost.changes[class] += plan.scan.changes[class];
            }
            if plan.unchanged {
                continue;
            }
            cost.blocks += 1;
            let bits = |rice| -> Result<u64> {
                let mut meter = Meter::default();
                self.write(&plan, &range, Some(rice), &mut meter)?;
                Ok(meter.bits())
            };
            cost.range += bits(false)?;
            if choice {
                cost.rice += bits(true)?;
            }
        }
        Ok(cost)
    }

    /// Bits of a block's payload as [`Encoder::encode`] would write it; with `rice`, if all segments that have a choice had this option.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn weigh(&self, block: u32, rice: Option<bool>) -> Result<u64> {
        let range = self.block(u64::from(block));
        let plan = self.plan(self.segments, &range)?;
        let mut meter = Meter::default();
        if !plan.unchanged {
            self.write(&plan, &range, rice, &mut meter)?;
        }
        Ok(meter.bits())
    }

    fn block(&self, number: u64) -> Range<u64> {
        let len = self.target.len() as u64;
        let at = (number << self.block_log2).min(len);
        at..(at + (1 << self.block_log2)).min(len)
    }

    /// The bytes of the base that copies in a block may read.
    fn allowed(&self, block: &Range<u64>) -> Range<u64> {
        let len = self.base.len() as u64;
        if self.in_place {
            block.start.min(len)..block.end.min(len)
        } else {
            0..len
        }
    }

    fn plan(&self, segments: &[Segment], block: &Range<u64>) -> Result<Plan> {
        let mut plan = Plan { parts: Vec::new(), scan: Scan::default(), unchanged: true };
        for piece in pieces(segments, block.clone()) {
            let new = self.new_bytes(&piece)?;
            let old = match piece.kind.reads_base() {
                true => bytes_at(self.base, piece.base, new.len()),
                false => Some(new),
            };
            let Some(old) = old else {
                return Err(Error::usage("a segment reads outside of the base").at_offset(piece.at));
            };
            plan.add(piece, old, new)?;
        }
        plan.scan.finish();
        plan.unchanged &= plan.scan.events.is_empty();
        Ok(plan)
    }

    fn new_bytes(&self, piece: &Piece) -> Result<&[u8]> {
        bytes_at(self.target, piece.at, piece.range.len())
            .ok_or_else(|| Error::usage("a segment lies outside of the target").at_offset(piece.at))
    }

    /// Writes a block, or what it would be if all its segments had another option.
    fn write<S: Sink>(&self, plan: &Plan, block: &Range<u64>, rice: Option<bool>, sink: &mut S) -> Result<()> {
        let mut state = State::new(&plan.scan);
        for part in &plan.parts {
            match part {
                Part::Gaps { classes, rice: own, zeros, events } => {
                    state.part(classes.clone(), rice.unwrap_or(*own), *zeros, events.clone(), sink);
                }
                Part::Whole(piece) => {
                    let new = self.new_bytes(piece)?;
                    match piece.kind {
                        Kind::Bytes => {
                            let allowed = self.allowed(block);
                            copies::write(sink, &mut state.bytes, piece.at, &allowed, piece.base, self.base, new);
                        }
                        Kind::Zstd => frames::write(sink, &self.allowed(block), piece.base, self.base, new)?,
                        Kind::Raw { xor: true } => {
                            let old = bytes_at(self.base, piece.base, new.len()).unwrap_or_default();
                            let xor: Vec<u8> = old.iter().zip(new).map(|(a, b)| a ^ b).collect();
                            sink.bytes(&xor);
                        }
                        _ => sink.bytes(new),
                    }
                }
            }
        }
        Ok(())
    }
}

fn bytes_at(bytes: &[u8], at: u64, len: usize) -> Option<&[u8]> {
    bytes.get(usize::try_from(at).ok()?..)?.get(..len)
}

impl Plan {
    fn add(&mut self, piece: Piece, old: &[u8], new: &[u8]) -> Result<()> {
        let scan = &mut self.scan;
        let start = scan.events.len();
        let here = |e: Error| e.at_offset(piece.at);
        let mut zeros = false;
        let (classes, rice) = match piece.kind {
            Kind::Copy if old != new => {
                return Err(here(Error::usage("a segment cannot say what changes in it: it is a copy")));
            }
            Kind::Copy => return Ok(()),
            Kind::Bits { rice } => {
                scan.bits(old, new);
                (0..1, rice)
            }
            Kind::Fives { rice } => {
                scan.fives(old, new).map_err(here)?;
                (1..3, rice)
            }
            Kind::Planes { rice, half } => {
                return self.add_rows(rows(old.len(), piece.within, half), half as usize, rice, old, new).map_err(here)
            }
            Kind::Ints { width, shift, zeros: own } => {
                zeros = own;
                let done = match width {
                    1 => scan.integers::<1>(shift, old, new),
                    2 => scan.integers::<2>(shift, old, new),
                    _ => scan.integers::<4>(shift, old, new),
                };
                done.map_err(here)?;
                let class = 3 + width.trailing_zeros() as usize;
                (class..class + 1, false)
            }
            Kind::Bytes | Kind::Zstd | Kind::Raw { .. } => {
                self.unchanged &= piece.kind.reads_base() && old == new;
                self.parts.push(Part::Whole(piece));
                return Ok(());
            }
        };
        self.parts.push(Part::Gaps { classes, rice, zeros, events: start..self.scan.events.len() });
        Ok(())
    }

    fn add_rows(&mut self, parts: [Range<usize>; 3], half: usize, rice: bool, old: &[u8], new: &[u8]) -> Result<()> {
        for (i, part) in parts.into_iter().enumerate().filter(|(_, part)| !part.is_empty()) {
            let start = self.scan.events.len();
            let (old, new) = (&old[part.clone()], &new[part]);
            let classes = if i == 1 { 1..3 } else { 0..1 };
            if i == 1 {
                for (old, new) in old.chunks(2 * half).zip(new.chunks(2 * half)) {
                    self.scan.planes(half, old, new)?;
                }
            } else {
                self.scan.bits(old, new);
            }
            self.parts.push(Part::Gaps { classes, rice, zeros: false, events: start..self.scan.events.len() });
        }
        Ok(())
    }
}

/// The models while a block is written.
struct State<'a> {
    scan: &'a Scan,
    has: [bool; 6],
    gaps: [Gaps; 6],
    trit: Context,
    values: [Values; 3],
    bytes: [Context; copies::CONTEXTS],
}

impl<'a> State<'a> {
    fn new(scan: &'a Scan) -> State<'a> {
        State {
            scan,
            has: [false; 6],
            gaps: Default::default(),
            trit: Context::FRESH,
            values: [values::FRESH; 3],
            bytes: [Context::FRESH; copies::CONTEXTS],
        }
    }

    fn part<S: Sink>(&mut self, classes: Range<usize>, rice: bool, zeros: bool, events: Range<usize>, sink: &mut S) {
        let events = &self.scan.events[events];
        for class in classes {
            let own = events.iter().filter(|e| e.class() == class).map(|e| e.gap());
            let gaps = &mut self.gaps[class];
            if !self.has[class] {
                self.has[class] = true;
                let first = u64::from(self.scan.first[class]);
                let model = choose(rice, std::iter::once(first).chain(own));
                gaps.write_model(model, sink);
                gaps.write(first, sink);
                continue;
            }
            let model = better(gaps, rice, own);
            sink.raw(u64::from(model.is_some()), 1);
            if let Some(model) = model {
                gaps.write_model(model, sink);
            }
        }
        for event in events {
            self.change(*event, zeros, sink);
            self.gaps[event.class()].write(event.gap(), sink);
        }
    }

    fn change<S: Sink>(&mut self, event: Event, zeros: bool, sink: &mut S) {
        match event.class() {
            0 => {}
            1 => sink.raw(u64::from(event.flag()), 1),
            2 if self.gaps[2].model().is_rice() => sink.raw(u64::from(event.flag()), 1),
            2 => sink.bit(&mut self.trit, event.flag()),
            class => values::write(sink, &mut self.values[class - 3], zeros, event.flag(), event.value),
        }
    }
}

/// The model that these gaps, of which there is one at least, take the fewest bits with.
fn choose(rice: bool, gaps: impl Iterator<Item = u64> + Clone) -> Model {
    let (count, sum) = gaps.clone().fold((0, 0), |(n, sum), gap| (n + 1, sum + gap));
    if !rice {
        return Model::Range(mean_log(sum, count));
    }
    // The best is near log2 of the mean; a few long gaps among short ones move it down.
    let middle = (sum / count).max(1).ilog2();
    let bits = |k: u32| gaps.clone().map(|g| (g >> k) + 1 + u64::from(k)).sum::<u64>();
    let k = (middle.saturating_sub(4)..=middle + 1).min_by_key(|k| bits(*k)).unwrap_or(middle);
    Model::Rice(k as u8)
}

/// 8 log2(sum / count), rounded, at least 0.
fn mean_log(sum: u64, count: u64) -> u8 {
    if sum <= count {
        return 0;
    }
    // log2 by squaring: sixteenths, of a number in 1 ..= 2 that is 2^31 in 32 bits.
    let ratio = (u128::from(sum) << 32) / u128::from(count);
    let whole = ratio.ilog2() - 32;
    let mut x = (ratio >> whole >> 1) as u64;
    let mut log = whole;
    for _ in 0..4 {
        x = (x * x) >> 31;
        let one = x >> 32;
        x >>= one;
        log = 2 * log + one as u32;
    }
    log.div_ceil(2).min(255) as u8
}

/// Another model for the rest of the gaps, if it is worth telling.
fn better(now: &Gaps, rice: bool, gaps: impl Iterator<Item = u64> + Clone) -> Option<Model> {
    gaps.clone().next()?;
    let model = choose(rice, gaps.clone());
    match (now.model(), model) {
        (Model::Range(a), Model::Range(b)) if a.abs_diff(b) < 2 => return None,
        (a, b) if a == b => return None,
        _ => {}
    }
    let mut kept = Meter::default();
    let mut other = Meter::default();
    let (mut gaps_kept, mut gaps_other) = (now.clone(), now.clone());
    gaps_other.write_model(model, &mut other);
    for gap in gaps {
        gaps_kept.write(gap, &mut kept);
        gaps_other.write(gap, &mut other);
    }
    (other.exact() < kept.exact()).then_some(model)
}
