//! A block out of the base and its payload.

use super::pieces::{pieces, rows};
use super::trits::{digits, load, select, Word, INVALID, PLACES, ZEROS};
use super::values::{self, Values};
use super::{copies, frames, BaseRead, Direction};
use crate::delta::gaps::Gaps;
use crate::delta::streams::{Context, Source};
use crate::error::{Error, Result};
use crate::format::delta::{Header, Index, Kind};
use std::ops::Range;

/// Makes blocks. Its memory is bounded and used again from block to block.
#[derive(Default)]
pub struct Decoder {
    models: Box<Models>,
    frames: frames::Buffers,
    part: Vec<u8>,
}

/// Bytes that are made at a time where the kind allows it: a block of a host is larger than the caches next to a core.
const PART: usize = 1 << 16;

/// What a block learns.
struct Models {
    classes: [Class; 6],
    /// Whether a trit that is not 0 becomes its negative.
    trit: Context,
    /// Fresh from the first part of their class in a block on.
    values: [Values; 3],
    bytes: [Context; copies::CONTEXTS],
    /// Whether `bytes` are of this block.
    has_bytes: bool,
}

impl Default for Models {
    fn default() -> Self {
        Models {
            classes: Default::default(),
            trit: Context::FRESH,
            values: [values::FRESH; 3],
            bytes: [Context::FRESH; copies::CONTEXTS],
            has_bytes: false,
        }
    }
}

/// Symbols of one sort through a block.
#[derive(Default)]
struct Class {
    has: bool,
    /// Symbols before the next one that changes.
    left: u64,
    gaps: Gaps,
}

impl Class {
    /// At the start of a part of a piece.
    fn begin(&mut self, rice: bool, source: &mut Source) -> Result<()> {
        if !self.has {
            self.has = true;
            self.gaps.read_model(rice, source);
            self.left = self.gaps.read(source)?;
        } else if source.raw(1) == 1 {
            self.gaps.read_model(rice, source);
        }
        Ok(())
    }

    /// Passes `n` symbols of which none changes; how many come before the next one if one of them does.
    #[inline(always)]
    fn pass(&mut self, n: u64) -> Option<u64> {
        if self.left >= n {
            self.left -= n;
            return None;
        }
        Some(self.left)
    }
}

impl Decoder {
    pub fn new() -> Self {
        Decoder::default()
    }

    /// Makes block `block` of the target into `out`, whose content is replaced. `payload` is what `Index::block` says of the payload
    /// area, and empty for a block that does not change. `base` must hold `header.base_len` bytes; with [`Direction::Backward`] it is the
    /// target and `out` becomes a block of the base. Digests are for the caller to check.
    ///
    /// # Errors
    /// `Input` if the payload is damaged, `Usage` for a way that the patch does not go, and those of `base`.
    #[allow(clippy::too_many_arguments)]
    pub fn decode(
        &mut self,
        header: &Header,
        index: &Index,
        block: u32,
        base: &dyn BaseRead,
        payload: &[u8],
        out: &mut Vec<u8>,
        direction: Direction,
    ) -> Result<()> {
        let range = header.block_range(u64::from(block));
        out.clear();
        out.reserve((range.end - range.start) as usize);
        self.decode_parts(header, index, block, base, payload, direction, &mut |part| {
            out.extend_from_slice(part);
            Ok(())
        })
    }

    /// As [`Decoder::decode`]; `each` is given the bytes from the first to the last, in parts.
    ///
    /// # Errors
    /// As [`Decoder::decode`], and those of `each`.
    #[allow(clippy::too_many_arguments)]
    pub fn decode_parts(
        &mut self,
        header: &Header,
        index: &Index,
        block: u32,
        base: &dyn BaseRead,
        payload: &[u8],
        direction: Direction,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let back = direction == Direction::Backward;
        if back && !header.flags.reversible {
            return Err(Error::usage("this patch has no way back"));
        }
        let changed = index.block(block);
        let len = changed.map_or(0, |b| b.payload.end - b.payload.start);
        if block >= index.block_count || payload.len() as u64 != len {
            return Err(Error::usage(format!("block {block} of this patch has no payload of {} bytes", payload.len())));
        }
        let range = header.block_range(u64::from(block));
        let mut source = Source::new(payload, changed.map_or(0, |b| b.stream1))?;
        self.models.begin();
        let allowed = match header.flags.in_place {
            true => range.start.min(header.base_len)..range.end.min(header.base_len),
            false => 0..header.base_len,
        };
        let size = (range.end - range.start) as usize;
        let Decoder { models, frames, part } = self;
        for piece in pieces(&index.segments, range) {
            if piece.range.end > size {
                return Err(Error::usage("the segments of this patch do not belong to its header"));
            }
            let len = piece.range.len();
            match piece.kind {
                Kind::Bytes | Kind::Zstd if changed.is_some() => {
                    part.resize(len, 0);
                    match piece.kind {
                        Kind::Bytes => copies::read(&mut source, models.bytes(), piece.at, &allowed, base, part)?,
                        _ => frames.read(&mut source, &allowed, base, part)?,
                    }
                    each(part)?;
                }
                Kind::Planes { rice, half } if changed.is_some() => {
                    for (i, run) in rows(len, piece.within, half).into_iter().enumerate().filter(|(_, r)| !r.is_empty())
                    {
                        let form = if i == 1 { piece.kind } else { Kind::Bits { rice } };
                        models.begin_run(form, &mut source)?;
                        let mut runs = Run { base, at: piece.base, range: run, part, each };
                        runs.make(form, |bytes| models.change(form, &mut source, bytes, back))?;
                    }
                }
                kind => {
                    let kind = if changed.is_some() { kind } else { Kind::Copy };
                    models.begin_run(kind, &mut source)?;
                    let mut run = Run { base, at: piece.base, range: 0..len, part, each };
                    run.make(kind, |bytes| models.change(kind, &mut source, bytes, back))?;
                }
            }
        }
        Ok(())
    }
}

/// Symbols of one kind that follow each other.
struct Run<'a> {
    base: &'a dyn BaseRead,
    /// Where the piece begins in the base.
    at: u64,
    /// Within the piece.
    range: Range<usize>,
    part: &'a mut Vec<u8>,
    each: &'a mut dyn FnMut(&[u8]) -> Result<()>,
}

impl Run<'_> {
    /// Reads the base part by part, changes it and passes it on.
    fn make(&mut self, kind: Kind, mut change: impl FnMut(&mut [u8]) -> Result<()>) -> Result<()> {
        let unit = match kind {
            Kind::Planes { half, .. } => 2 * half as usize,
            _ => 8,
        };
        let step = (PART / unit).max(1) * unit;
        while !self.range.is_empty() {
            let n = step.min(self.range.len());
            self.part.resize(n, 0);
            if kind.reads_base() {
                self.base.read_at(self.at + self.range.start as u64, self.part)?;
            }
            change(self.part)?;
            (self.each)(self.part)?;
            self.range.start += n;
        }
        Ok(())
    }
}

impl Models {
    /// At the start of a block nothing is known.
    fn begin(&mut self) {
        self.classes.iter_mut().for_each(|class| class.has = false);
        self.trit = Context::FRESH;
        self.has_bytes = false;
    }

    fn bytes(&mut self) -> &mut [Context; copies::CONTEXTS] {
        if !self.has_bytes {
            self.has_bytes = true;
            self.bytes.fill(Context::FRESH);
        }
        &mut self.bytes
    }

    /// At the start of what has models of its own: a piece, or rows of it.
    fn begin_run(&mut self, kind: Kind, source: &mut Source) -> Result<()> {
        match kind {
            Kind::Bits { rice } => self.classes[0].begin(rice, source),
            Kind::Planes { rice, .. } | Kind::Fives { rice } => {
                self.classes[1].begin(rice, source)?;
                self.classes[2].begin(rice, source)
            }
            Kind::Ints { width, .. } => {
                let sort = width.trailing_zeros() as usize;
                if !self.classes[3 + sort].has {
                    self.values[sort] = values::FRESH;
                }
                self.classes[3 + sort].begin(false, source)
            }
            _ => Ok(()),
        }
    }

    /// Makes bytes of the base into those of the target.
    fn change(&mut self, kind: Kind, source: &mut Source, bytes: &mut [u8], back: bool) -> Result<()> {
        match kind {
            Kind::Bits { .. } => self.bits(source, bytes),
            Kind::Planes { half, .. } => {
                bytes.chunks_mut(2 * half as usize).try_for_each(|row| self.planes(half as usize, source, row))
            }
            Kind::Fives { .. } => self.fives(source, bytes),
            Kind::Ints { width: 1, shift, zeros } => self.integers::<1>(shift, zeros, source, bytes, back),
            Kind::Ints { width: 2, shift, zeros } => self.integers::<2>(shift, zeros, source, bytes, back),
            Kind::Ints { shift, zeros, .. } => self.integers::<4>(shift, zeros, source, bytes, back),
            Kind::Raw { xor: false } => {
                source.bytes(bytes);
                Ok(())
            }
            Kind::Raw { xor: true } => {
                let mut part = [0; 256];
                for bytes in bytes.chunks_mut(part.len()) {
                    let part = &mut part[..bytes.len()];
                    source.bytes(part);
                    bytes.iter_mut().zip(part).for_each(|(b, x)| *b ^= *x);
                }
                Ok(())
            }
            Kind::Copy | Kind::Bytes | Kind::Zstd => Ok(()),
        }
    }

    fn bits(&mut self, source: &mut Source, bytes: &mut [u8]) -> Result<()> {
        let class = &mut self.classes[0];
        let mut at = 0;
        let end = 8 * bytes.len() as u64;
        while let Some(n) = class.pass(end - at) {
            at += n;
            bytes[(at >> 3) as usize] ^= 1 << (at & 7);
            at += 1;
            class.left = class.gaps.read(source)?;
        }
        Ok(())
    }

    /// Whether the trit that is not 0 and changes becomes its negative.
    #[inline(always)]
    fn negates(&mut self, source: &mut Source) -> bool {
        match self.classes[2].gaps.model().is_rice() {
            true => source.raw(1) == 1,
            false => source.bit(&mut self.trit),
        }
    }

    fn planes(&mut self, half: usize, source: &mut Source, row: &mut [u8]) -> Result<()> {
        let (plus, minus) = row.split_at_mut(half);
        for (plus, minus) in plus.chunks_mut(8).zip(minus.chunks_mut(8)) {
            let mut word = Word::new(load(plus), load(minus), plus.len());
            let (zeros, others) = word.counts();
            let [_, c1, c2, ..] = &mut self.classes;
            if c1.left >= zeros && c2.left >= others {
                c1.left -= zeros;
                c2.left -= others;
                continue;
            }
            let (mut p, mut m) = (load(plus), load(minus));
            loop {
                let i1 = select(word.zeros, self.classes[1].left);
                let i2 = select(word.others, self.classes[2].left);
                let i = i1.min(i2);
                if i == 64 {
                    break;
                }
                let (before, behind) = word.split(i);
                let (zeros, others) = before.counts();
                word = behind;
                let bit = 1u64 << i;
                if i1 < i2 {
                    self.classes[2].left -= others;
                    let to = if source.raw(1) == 0 { &mut p } else { &mut m };
                    *to |= bit;
                    self.classes[1].left = self.classes[1].gaps.read(source)?;
                } else {
                    self.classes[1].left -= zeros;
                    match self.negates(source) {
                        true => {
                            let both = (p ^ m) & bit;
                            p ^= both;
                            m ^= both;
                        }
                        false => {
                            p &= !bit;
                            m &= !bit;
                        }
                    }
                    self.classes[2].left = self.classes[2].gaps.read(source)?;
                }
            }
            let (zeros, others) = word.counts();
            self.classes[1].left -= zeros;
            self.classes[2].left -= others;
            plus.copy_from_slice(&p.to_le_bytes()[..plus.len()]);
            minus.copy_from_slice(&m.to_le_bytes()[..minus.len()]);
        }
        Ok(())
    }

    fn fives(&mut self, source: &mut Source, bytes: &mut [u8]) -> Result<()> {
        for eight in bytes.chunks_mut(8) {
            let zeros = eight.iter().map(|b| ZEROS[usize::from(*b)]).sum::<u16>();
            if zeros >= INVALID {
                return Err(Error::input("a byte of five trits in the base is no code"));
            }
            let others = 5 * eight.len() as u64 - u64::from(zeros);
            let [_, c1, c2, ..] = &mut self.classes;
            if c1.left >= u64::from(zeros) && c2.left >= others {
                c1.left -= u64::from(zeros);
                c2.left -= others;
                continue;
            }
            for b in eight {
                let zeros = u64::from(ZEROS[usize::from(*b)]);
                let [_, c1, c2, ..] = &mut self.classes;
                if c1.left >= zeros && c2.left >= 5 - zeros {
                    c1.left -= zeros;
                    c2.left -= 5 - zeros;
                    continue;
                }
                for (digit, place) in digits(*b).into_iter().zip(PLACES) {
                    let class = if digit == 1 { 1 } else { 2 };
                    if self.classes[class].left > 0 {
                        self.classes[class].left -= 1;
                        continue;
                    }
                    let to = match digit {
                        1 if source.raw(1) == 0 => 2,
                        1 => 0,
                        _ if self.negates(source) => 2 - digit,
                        _ => 1,
                    };
                    *b = *b - digit * place + to * place;
                    self.classes[class].left = self.classes[class].gaps.read(source)?;
                }
            }
        }
        Ok(())
    }

    fn integers<const W: usize>(
        &mut self,
        shift: u8,
        zeros: bool,
        source: &mut Source,
        bytes: &mut [u8],
        back: bool,
    ) -> Result<()> {
        let sort = W.trailing_zeros() as usize;
        let (class, contexts) = (&mut self.classes[3 + sort], &mut self.values[sort]);
        let mut elements = bytes.chunks_exact_mut(W);
        while let Some(n) = class.pass(elements.len() as u64) {
            let Some(element) = elements.nth(n as usize) else { break };
            let (negative, v) = values::read(source, contexts, zeros, W)?;
            let (old, v) = (load(element) as u32, v << shift);
            let new = if negative != back { old.wrapping_sub(v) } else { old.wrapping_add(v) };
            element.copy_from_slice(&new.to_le_bytes()[..W]);
            class.left = class.gaps.read(source)?;
        }
        Ok(())
    }
}
