//! What each stretch of the target is made from, and where the payload of each block lies.

use super::varint::{put_varint, read_varint, unzigzag, zigzag};
use super::Header;
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::ops::Range;

/// How a segment of the target is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The base as it is.
    Copy,
    /// The base, some bits flipped.
    Bits { rice: bool },
    /// Rows of `2 * half` bytes, one bit a trit in either half; some trits changed.
    Planes { rice: bool, half: u32 },
    /// Five trits a byte; some changed.
    Fives { rice: bool },
    /// Elements of `width` bytes (1, 2 or 4), some changed by a multiple of 2^`shift`; with `zeros` the multiples often end in zero bits.
    Ints { width: u8, shift: u8, zeros: bool },
    /// Copies out of the base and literals.
    Bytes,
    /// Frames of zstd with a part of the base before them.
    Zstd,
    /// Bytes, or their XOR with the base.
    Raw { xor: bool },
}

/// A stretch of the target of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Segment {
    pub kind: Kind,
    /// Offset in the target.
    pub at: u64,
    /// Bytes, at least 1.
    pub len: u64,
    /// Offset in the base. `Raw { xor: false }` reads none. `Bytes` and `Zstd` read the base anywhere: to the encoder this is where related
    /// bytes lie, and it is 0 in a parsed index.
    pub base: u64,
}

/// A block of the target that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub number: u32,
    /// Where its payload lies in the payload area; not empty.
    pub payload: Range<u64>,
    /// Bytes of stream 1, with which the payload begins.
    pub stream1: u32,
    /// First half of the SHA-256 of the block in the target.
    pub digest: [u8; 16],
}

/// The index of a patch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    /// They cover the target without gaps.
    pub segments: Vec<Segment>,
    /// The blocks that change, in order. All others equal what they are made from.
    pub blocks: Vec<Block>,
    /// Blocks of the target, changed or not.
    pub block_count: u32,
}

impl Kind {
    /// Whether the bytes of the base at `Segment::base` are what the segment is made from.
    pub fn reads_base(self) -> bool {
        !matches!(self, Kind::Bytes | Kind::Zstd | Kind::Raw { xor: false })
    }
}

impl Index {
    /// Segments of a patch, repeats counted as often as they stand.
    pub const MAX_SEGMENTS: usize = 1 << 18;

    /// Reads an index and checks everything that the document asks of it, with its header. Its digest is for the caller to check.
    ///
    /// # Errors
    /// `Input` if anything is out of range, or contradicts the header.
    pub fn parse(bytes: &[u8], header: &Header) -> Result<Index> {
        if bytes.len() != header.index_len as usize {
            return Err(damaged("the index has another length than the header says", 0));
        }
        let mut at = 0;
        let entries = usize::try_from(read_varint(bytes, &mut at)?).ok();
        let Some(end) = entries.and_then(|n| at.checked_add(n)).filter(|end| *end <= bytes.len()) else {
            return Err(damaged("the segments end behind the index", at));
        };
        let mut list = Segments { header, list: Vec::new(), at: 0, base_end: 0 };
        list.read(&bytes[..end], at)?;
        let segments = list.list;
        let block_count = u32::try_from(header.block_count()).ok().filter(|n| *n as usize <= bytes.len() - end);
        let Some(block_count) = block_count else {
            return Err(damaged("the index is too short for the blocks of the target", end));
        };
        let blocks = blocks(bytes, end, block_count, header, &segments)?;
        let index = Index { segments, blocks, block_count };
        if index.contexts() != header.contexts || index.row() != header.row {
            return Err(damaged("the header states another memory than the segments need", 0));
        }
        Ok(index)
    }

    /// The index as it stands in a file; entries that repeat are written once.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut entries = Vec::new();
        let mut ids = HashMap::new();
        let mut base_end = 0;
        let mut list: Vec<(u32, Vec<u8>)> = Vec::with_capacity(self.segments.len());
        for s in &self.segments {
            let entry = s.entry(&mut base_end);
            let next = ids.len() as u32;
            list.push((*ids.entry(entry.clone()).or_insert(next), entry));
        }
        let names: Vec<u32> = list.iter().map(|e| e.0).collect();
        let mut i = 0;
        while i < list.len() {
            let (d, c) = repeats(&names[i..]);
            for (_, entry) in &list[i..i + d] {
                entries.extend_from_slice(entry);
            }
            if c > 0 {
                entries.push(REPEAT);
                put_varint(&mut entries, d as u64);
                put_varint(&mut entries, c as u64);
            }
            i += d * (c + 1);
        }
        let mut out = Vec::new();
        put_varint(&mut out, entries.len() as u64);
        out.extend(entries);
        let mut changed = self.blocks.iter().peekable();
        for number in 0..self.block_count {
            match changed.next_if(|b| b.number == number) {
                None => out.push(0),
                Some(b) => {
                    put_varint(&mut out, b.payload.end - b.payload.start);
                    put_varint(&mut out, u64::from(b.stream1));
                    out.extend_from_slice(&b.digest);
                }
            }
        }
        out
    }

    /// Block `number` if it changes.
    pub fn block(&self, number: u32) -> Option<&Block> {
        let i = self.blocks.binary_search_by_key(&number, |b| b.number).ok()?;
        self.blocks.get(i)
    }

    /// The segments with bytes in `range` of the target.
    pub fn segments_in(&self, range: Range<u64>) -> &[Segment] {
        segments_in(&self.segments, range)
    }

    /// Contexts that a decoder needs for these segments, the field of the header.
    pub fn contexts(&self) -> u32 {
        let mut gaps = [false; 6];
        let mut ends = [false; 3];
        let mut bytes = false;
        for s in &self.segments {
            match s.kind {
                Kind::Bits { rice: false } => gaps[0] = true,
                Kind::Planes { rice: false, .. } => gaps[..3].fill(true),
                Kind::Fives { rice: false } => gaps[1..3].fill(true),
                Kind::Ints { width, zeros, .. } => {
                    let sort = width.trailing_zeros().min(2) as usize;
                    gaps[3 + sort] = true;
                    ends[sort] |= zeros;
                }
                Kind::Bytes => bytes = true,
                _ => {}
            }
        }
        let count = |flags: &[bool]| flags.iter().map(|f| u32::from(*f)).sum::<u32>();
        128 * count(&gaps) + count(&gaps[2..3]) + 257 * count(&gaps[3..]) + 256 * count(&ends) + 305 * u32::from(bytes)
    }

    /// Bytes of the longest row of trits in planes, the field of the header.
    pub fn row(&self) -> u32 {
        let rows = self.segments.iter().map(|s| match s.kind {
            Kind::Planes { half, .. } => 2 * half,
            _ => 0,
        });
        rows.max().unwrap_or(0)
    }
}

const REPEAT: u8 = 15;

fn damaged(message: &str, at: usize) -> Error {
    Error::input(format!("the patch is damaged: {message}")).at_offset((Header::LEN + at) as u64)
}

impl Kind {
    /// Kind and option as the first byte of an entry.
    fn code(self) -> u8 {
        match self {
            Kind::Copy => 0,
            Kind::Bits { rice } => 1 | u8::from(rice) << 4,
            Kind::Planes { rice, .. } => 2 | u8::from(rice) << 4,
            Kind::Fives { rice } => 3 | u8::from(rice) << 4,
            Kind::Ints { width, zeros, .. } => (4 + width.trailing_zeros().min(2) as u8) | u8::from(zeros) << 4,
            Kind::Bytes => 7,
            Kind::Zstd => 8,
            Kind::Raw { xor } => 9 | u8::from(xor) << 4,
        }
    }

    /// The kind of a code, parameters still to be read.
    fn of(code: u8) -> Option<Kind> {
        let option = code & 16 != 0;
        Some(match code {
            0 => Kind::Copy,
            1 | 17 => Kind::Bits { rice: option },
            2 | 18 => Kind::Planes { rice: option, half: 0 },
            3 | 19 => Kind::Fives { rice: option },
            4..=6 | 20..=22 => Kind::Ints { width: 1 << ((code & 15) - 4), shift: 0, zeros: option },
            7 => Kind::Bytes,
            8 => Kind::Zstd,
            9 | 25 => Kind::Raw { xor: option },
            _ => return None,
        })
    }

    /// Whether the kind has a way back.
    fn reversible(self) -> bool {
        matches!(self, Kind::Copy | Kind::Bits { .. } | Kind::Ints { .. } | Kind::Raw { xor: true })
    }
}

impl Segment {
    /// The entry of the index; `base_end` is where the segment before it ended in the base.
    fn entry(&self, base_end: &mut u64) -> Vec<u8> {
        let mut out = vec![self.kind.code()];
        put_varint(&mut out, self.len);
        if self.kind.reads_base() {
            put_varint(&mut out, zigzag(self.base as i64 - *base_end as i64));
            *base_end = self.base + self.len;
        }
        match self.kind {
            Kind::Planes { half, .. } => put_varint(&mut out, u64::from(half)),
            Kind::Ints { shift, .. } => out.push(shift),
            _ => {}
        }
        out
    }
}

/// Segments as they are read.
struct Segments<'a> {
    header: &'a Header,
    list: Vec<Segment>,
    /// Where the next one begins in the target.
    at: u64,
    /// Where the last one that reads the base ended there.
    base_end: u64,
}

impl Segments<'_> {
    fn read(&mut self, entries: &[u8], mut at: usize) -> Result<()> {
        // Where the entries since the last repeat begin: a repeat never reaches behind another one.
        let mut starts = Vec::new();
        while at < entries.len() {
            if entries[at] != REPEAT {
                starts.push(at);
                self.entry(entries, &mut at)?;
                continue;
            }
            let here = at;
            at += 1;
            let d = read_varint(entries, &mut at)?;
            let c = read_varint(entries, &mut at)?;
            let from = usize::try_from(d).ok().and_then(|d| starts.len().checked_sub(d)).and_then(|i| starts.get(i));
            let Some(from) = from else {
                return Err(damaged("a repeat has no entries before it", here));
            };
            if c == 0 {
                return Err(damaged("a repeat repeats nothing", here));
            }
            // Each turn adds a segment, of which there are few, or fails.
            for _ in 0..c {
                let mut again = *from;
                while again < here {
                    self.entry(&entries[..here], &mut again)?;
                }
            }
            starts.clear();
        }
        match self.at == self.header.target_len {
            true => Ok(()),
            false => Err(damaged("the segments end before the target", at)),
        }
    }

    fn entry(&mut self, entries: &[u8], at: &mut usize) -> Result<()> {
        let here = *at;
        let header = self.header;
        let wrong = |message: &str| Err(damaged(message, here));
        let Some(mut kind) = entries.get(here).and_then(|code| Kind::of(*code)) else {
            return wrong("a segment is of an unknown kind");
        };
        *at += 1;
        if self.list.len() == Index::MAX_SEGMENTS {
            return wrong("there are too many segments");
        }
        let len = read_varint(entries, at)?;
        if len == 0 || len > header.target_len - self.at {
            return wrong("a segment is empty or ends behind the target");
        }
        let mut base = 0;
        if kind.reads_base() {
            let step = unzigzag(read_varint(entries, at)?);
            let from = u64::try_from(self.base_end as i64 + step).ok();
            let Some(from) = from.filter(|b| *b <= header.base_len && len <= header.base_len - *b) else {
                return wrong("a segment reads outside of the base");
            };
            base = from;
            self.base_end = base + len;
            if header.flags.in_place && base != self.at {
                return wrong("a segment of a patch in place reads from another place");
            }
        }
        match &mut kind {
            Kind::Planes { half, .. } => match read_varint(entries, at)? {
                h @ 1..=0x8000 if len % (2 * h) == 0 => *half = h as u32,
                _ => return wrong("rows of trits do not fill their segment"),
            },
            Kind::Ints { width, shift, .. } => {
                let Some(t) = entries.get(*at) else { return wrong("a segment is cut short") };
                *at += 1;
                *shift = *t;
                if *t >= 8 * *width {
                    return wrong("integers are shifted by more than their size");
                }
                let mask = u64::from(*width) - 1;
                if (len | self.at) & mask != 0 {
                    return wrong("integers are not at a multiple of their size");
                }
            }
            Kind::Zstd if !header.flags.host_only => return wrong("a patch for devices holds zstd frames"),
            _ => {}
        }
        if header.flags.reversible && !kind.reversible() {
            return wrong("a segment of a reversible patch has no way back");
        }
        self.list.push(Segment { kind, at: self.at, len, base });
        self.at += len;
        Ok(())
    }
}

/// The changed ones of `count` blocks at `bytes[at..]`.
fn blocks(bytes: &[u8], mut at: usize, count: u32, header: &Header, segments: &[Segment]) -> Result<Vec<Block>> {
    let mut changed = Vec::new();
    let mut payload = 0u64;
    let mut segment = 0;
    for number in 0..count {
        let here = at;
        let wrong = |message: &str| Err(damaged(message, here));
        let len = read_varint(bytes, &mut at)?;
        let range = header.block_range(u64::from(number));
        while segments.get(segment).is_some_and(|s| s.at + s.len <= range.start) {
            segment += 1;
        }
        if len == 0 {
            let mut pieces = segments[segment..].iter().take_while(|s| s.at < range.end);
            if pieces.any(|s| !s.kind.reads_base()) {
                return wrong("a block without payload holds bytes that the base does not have");
            }
            continue;
        }
        if len > 2 << header.block_log2 || len > header.payload_len() - payload {
            return wrong("the payload of a block is too long");
        }
        let stream1 = read_varint(bytes, &mut at)?;
        let Some(digest) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) else {
            return wrong("a digest is cut short");
        };
        at += 16;
        if stream1 > len {
            return wrong("a stream is longer than its payload");
        }
        changed.push(Block { number, payload: payload..payload + len, stream1: stream1 as u32, digest: *digest });
        payload += len;
    }
    match at == bytes.len() && payload == header.payload_len() {
        true => Ok(changed),
        false => Err(damaged("the blocks end before the index or the payload does", at)),
    }
}

/// How many of the next entries to write, and how often they follow again: what covers the most.
fn repeats(names: &[u32]) -> (usize, usize) {
    /// Longest period that is looked for: a layer has some dozens of segments.
    const LONGEST: usize = 1024;
    let mut best = (1, 0);
    for d in 1..=LONGEST.min(names.len() / 2) {
        if names[d] != names[0] || names[..d] != names[d..2 * d] {
            continue;
        }
        let same = names[d..].iter().zip(names).take_while(|(a, b)| a == b).count();
        let c = same / d;
        // A repeat takes three bytes or more, so one that saves a single entry is not worth it.
        if d * c > 1 && d * c > best.0 * best.1 {
            best = (d, c);
        }
    }
    best
}

/// The segments of a sorted list with bytes in `range` of the target.
pub fn segments_in(segments: &[Segment], range: Range<u64>) -> &[Segment] {
    let from = segments.partition_point(|s| s.at + s.len <= range.start);
    let to = segments.partition_point(|s| s.at < range.end);
    segments.get(from..to).unwrap_or_default()
}
