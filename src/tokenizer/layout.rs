//! Byte layout of the blob: constants, writer, and a reader that trusts nothing.
//!
//! The normative text is docs/format/tokenizer.md; `bitnet_tok_open` in
//! `bitnet_tokenizer.c` makes the same checks in the same order.

use std::ops::Range;

use super::classes::Classes;
use super::words::{Splitter, Words};
use super::TokenizerError;

/// First four bytes of a blob.
pub const MAGIC: [u8; 4] = *b"BNTK";
/// Version written and read.
pub const VERSION: u16 = 1;
/// Most ids a blob may have. Bit offsets into every table then fit 32 bits.
pub const MAX_VOCAB: u32 = 1 << 20;
/// Most merges a blob may have, for the same reason.
pub const MAX_MERGES: u32 = 1 << 20;

/// Size of the fixed header in bytes.
pub(super) const HEADER: usize = 48;
/// Right halves a decoder may have pending; tokens that need more are spelled out.
pub(super) const DECODE_STACK: usize = 32;

pub(super) const FLAG_PREFIX_SPACE: u16 = 1;
pub(super) const FLAG_EXPLICIT: u16 = 2;

pub(super) const LITERAL_SPECIAL: u8 = 1;
pub(super) const LITERAL_MATCH: u8 = 2;
pub(super) const LITERAL_WHOLE: u8 = 4;

const RUN_BYTES: usize = 5;
const LITERAL_HEAD: usize = 6;

/// One spelled-out token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LiteralSpec {
    pub id: u32,
    pub flags: u8,
    pub bytes: Vec<u8>,
}

/// Everything a blob says, before it is written.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    pub prefix_space: bool,
    pub splitter: Splitter,
    pub words: Words,
    pub vocab_size: u32,
    pub max_token_bytes: u16,
    pub prefix: Vec<u32>,
    pub suffix: Vec<u32>,
    /// Id of each byte that has one.
    pub byte_ids: Vec<(u8, u32)>,
    /// `(left, right, result)` by rank.
    pub merges: Vec<(u32, u32, u32)>,
    pub literals: Vec<LiteralSpec>,
    pub classes: Vec<u8>,
}

/// Bits needed to write `value`, at least one.
pub(super) fn bit_width(value: u32) -> u32 {
    (32 - value.leading_zeros()).max(1)
}

/// Bytes of `count` fields of `width` bits. Callers keep both small enough for 32 bits.
fn packed_bytes(count: u32, width: u32) -> usize {
    (count as usize * width as usize).div_ceil(8)
}

/// Reads field `index` of `width` bits (at most 24), least significant bit first.
pub(super) fn field(table: &[u8], index: u32, width: u32) -> u32 {
    let bit = index as usize * width as usize;
    let shift = (bit % 8) as u32;
    let mut value = 0u32;
    for (k, &byte) in table[bit / 8..].iter().take((shift + width).div_ceil(8) as usize).enumerate() {
        value |= u32::from(byte) << (8 * k);
    }
    (value >> shift) & ((1 << width) - 1)
}

struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    bits: u32,
}

impl<'a> BitWriter<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, pending: 0, bits: 0 }
    }
    fn put(&mut self, value: u32, width: u32) {
        self.pending |= u64::from(value) << self.bits;
        self.bits += width;
        while self.bits >= 8 {
            self.out.push(self.pending as u8);
            self.pending >>= 8;
            self.bits -= 8;
        }
    }
    /// Pads with zero bits to a whole byte.
    fn finish(self) {
        if self.bits > 0 {
            self.out.push(self.pending as u8);
        }
    }
}

/// First id when the merges make consecutive ids in rank order, which needs no id tables.
fn consecutive(merges: &[(u32, u32, u32)]) -> Option<u32> {
    let base = merges.first().map_or(0, |m| m.2);
    merges.iter().zip(base..).all(|(merge, expected)| merge.2 == expected).then_some(base)
}

/// Writes the blob. The caller has checked the limits of the format.
pub(super) fn write(tables: &Tables) -> Vec<u8> {
    let base = consecutive(&tables.merges);
    let id_bits = bit_width(tables.vocab_size - 1);
    let merge_count = tables.merges.len() as u32;
    let rank_bits = bit_width(merge_count);
    let mut runs: Vec<(u32, u8, u8)> = Vec::new();
    for &(byte, id) in &tables.byte_ids {
        match runs.last_mut() {
            Some((first, start, extra))
                if u32::from(byte) == u32::from(*start) + u32::from(*extra) + 1
                    && id == *first + u32::from(*extra) + 1 =>
            {
                *extra += 1;
            }
            _ => runs.push((id, byte, 0)),
        }
    }
    let mut literal_bytes = Vec::new();
    for literal in &tables.literals {
        literal_bytes.extend_from_slice(&literal.id.to_le_bytes()[..3]);
        literal_bytes.push(literal.flags);
        literal_bytes.extend_from_slice(&(literal.bytes.len() as u16).to_le_bytes());
        literal_bytes.extend_from_slice(&literal.bytes);
    }

    let mut flags = 0;
    if tables.prefix_space {
        flags |= FLAG_PREFIX_SPACE;
    }
    if base.is_none() {
        flags |= FLAG_EXPLICIT;
    }
    let mut out = Vec::with_capacity(HEADER + tables.merges.len() * 6 + literal_bytes.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes()); // total length, patched below
    out.extend_from_slice(&tables.vocab_size.to_le_bytes());
    out.extend_from_slice(&merge_count.to_le_bytes());
    out.extend_from_slice(&base.unwrap_or(0).to_le_bytes());
    out.extend_from_slice(&(literal_bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(&(tables.classes.len() as u32).to_le_bytes());
    out.extend_from_slice(&(tables.literals.len() as u16).to_le_bytes());
    out.extend_from_slice(&(runs.len() as u16).to_le_bytes());
    out.extend_from_slice(&tables.max_token_bytes.to_le_bytes());
    out.push(tables.splitter as u8);
    out.push(tables.words as u8);
    out.push(tables.prefix.len() as u8);
    out.push(tables.suffix.len() as u8);
    out.extend_from_slice(&[0; 6]);

    for id in tables.prefix.iter().chain(&tables.suffix) {
        out.extend_from_slice(&id.to_le_bytes());
    }
    for (id, byte, extra) in runs {
        out.extend_from_slice(&id.to_le_bytes()[..3]);
        out.push(byte);
        out.push(extra);
    }
    let mut bits = BitWriter::new(&mut out);
    for &(left, right, _) in &tables.merges {
        bits.put(left, id_bits);
        bits.put(right, id_bits);
    }
    bits.finish();
    let mut order: Vec<u32> = (0..merge_count).collect();
    order.sort_unstable_by_key(|&rank| {
        let (left, right, _) = tables.merges[rank as usize];
        (left, right)
    });
    let mut bits = BitWriter::new(&mut out);
    for rank in order {
        bits.put(rank, rank_bits);
    }
    bits.finish();
    if base.is_none() {
        let mut bits = BitWriter::new(&mut out);
        let mut makers = vec![merge_count; tables.vocab_size as usize];
        for (rank, &(_, _, result)) in tables.merges.iter().enumerate() {
            bits.put(result, id_bits);
            let maker = &mut makers[result as usize];
            *maker = (*maker).min(rank as u32);
        }
        bits.finish();
        let mut bits = BitWriter::new(&mut out);
        for maker in makers {
            bits.put(maker, rank_bits);
        }
        bits.finish();
    }
    out.extend_from_slice(&literal_bytes);
    out.extend_from_slice(&tables.classes);
    let total = out.len() as u32;
    out[8..12].copy_from_slice(&total.to_le_bytes());
    out
}

/// A literal of a checked blob; `bytes` is a range of the blob.
#[derive(Debug, Clone)]
pub(super) struct Literal {
    pub id: u32,
    pub flags: u8,
    pub bytes: Range<usize>,
}

/// `count` bytes `byte..` have the ids `id..`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByteRun {
    pub id: u32,
    pub byte: u8,
    pub count: u32,
}

/// A blob whose every count, offset and id has been checked.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub prefix_space: bool,
    pub explicit: bool,
    pub splitter: Splitter,
    pub words: Words,
    pub vocab_size: u32,
    pub merge_count: u32,
    pub merge_base: u32,
    pub max_token_bytes: usize,
    pub id_bits: u32,
    pub rank_bits: u32,
    pub prefix: Vec<u32>,
    pub suffix: Vec<u32>,
    pub runs: Vec<ByteRun>,
    pub pairs: Range<usize>,
    pub order: Range<usize>,
    pub results: Range<usize>,
    pub makers: Range<usize>,
    pub literals: Vec<Literal>,
    pub classes: Classes,
}

struct Reader<'a> {
    blob: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, bytes: usize, what: &'static str) -> Result<Range<usize>, TokenizerError> {
        if bytes > self.blob.len() - self.at {
            return Err(TokenizerError::Blob { offset: self.at, what });
        }
        let range = self.at..self.at + bytes;
        self.at = range.end;
        Ok(range)
    }
}

fn le(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
}

fn ensure(good: bool, offset: usize, what: &'static str) -> Result<(), TokenizerError> {
    if good {
        Ok(())
    } else {
        Err(TokenizerError::Blob { offset, what })
    }
}

/// Checks all of `blob`.
///
/// Nothing is allocated before the count behind it has been compared with the bytes left, so
/// a blob of n bytes costs a small multiple of n.
pub(super) fn read(blob: &[u8]) -> Result<Layout, TokenizerError> {
    ensure(blob.len() >= HEADER, blob.len(), "shorter than its header")?;
    ensure(blob[..4] == MAGIC, 0, "wrong magic")?;
    ensure(le(&blob[4..6]) == u32::from(VERSION), 4, "unknown version")?;
    let flags = le(&blob[6..8]) as u16;
    ensure(flags & !(FLAG_PREFIX_SPACE | FLAG_EXPLICIT) == 0, 6, "reserved flag set")?;
    ensure(le(&blob[8..12]) as usize == blob.len(), 8, "length differs from the blob's")?;
    let explicit = flags & FLAG_EXPLICIT != 0;
    let vocab_size = le(&blob[12..16]);
    ensure((1..=MAX_VOCAB).contains(&vocab_size), 12, "vocabulary size out of range")?;
    let merge_count = le(&blob[16..20]);
    ensure(merge_count <= MAX_MERGES, 16, "merge count out of range")?;
    let merge_base = le(&blob[20..24]);
    let ids_fit =
        if explicit { merge_base == 0 } else { merge_base <= vocab_size && merge_count <= vocab_size - merge_base };
    ensure(ids_fit, 20, "merge ids out of range")?;
    let literal_bytes = le(&blob[24..28]) as usize;
    let class_bytes = le(&blob[28..32]) as usize;
    let literal_count = le(&blob[32..34]);
    let run_count = le(&blob[34..36]) as usize;
    ensure(run_count <= 256, 34, "more than 256 byte runs")?;
    let max_token_bytes = le(&blob[36..38]) as usize;
    let splitter = Splitter::from_code(blob[38]);
    let words = Words::from_code(blob[39]);
    let (Some(splitter), Some(words)) = (splitter, words) else {
        return Err(TokenizerError::Blob { offset: 38, what: "unknown pre-tokenizer" });
    };
    ensure(blob[42..HEADER].iter().all(|&b| b == 0), 42, "reserved bytes set")?;
    let id_bits = bit_width(vocab_size - 1);
    let rank_bits = bit_width(merge_count);

    let mut reader = Reader { blob, at: HEADER };
    let mut ids = [Vec::new(), Vec::new()];
    for (list, &count) in ids.iter_mut().zip(&blob[40..42]) {
        let range = reader.take(usize::from(count) * 4, "template ids cut short")?;
        for bytes in blob[range.clone()].chunks_exact(4) {
            ensure(le(bytes) < vocab_size, range.start, "template id out of range")?;
            list.push(le(bytes));
        }
    }
    let [prefix, suffix] = ids;

    let range = reader.take(run_count * RUN_BYTES, "byte runs cut short")?;
    let mut runs = Vec::with_capacity(run_count);
    let mut next = 0u32;
    for bytes in blob[range.clone()].chunks_exact(RUN_BYTES) {
        let run = ByteRun { id: le(&bytes[..3]), byte: bytes[3], count: u32::from(bytes[4]) + 1 };
        let end = u32::from(run.byte) + run.count;
        ensure(u32::from(run.byte) >= next && end <= 256, range.start, "byte runs overlap")?;
        ensure(run.id + run.count <= vocab_size, range.start, "byte id out of range")?;
        next = end;
        runs.push(run);
    }

    let pairs = reader.take(packed_bytes(merge_count * 2, id_bits), "merges cut short")?;
    let order = reader.take(packed_bytes(merge_count, rank_bits), "merge order cut short")?;
    let mut results = 0..0;
    let mut makers = 0..0;
    if explicit {
        results = reader.take(packed_bytes(merge_count, id_bits), "merge results cut short")?;
        makers = reader.take(packed_bytes(vocab_size, rank_bits), "merge makers cut short")?;
    }
    let mut last = None;
    for k in 0..merge_count {
        let rank = field(&blob[order.clone()], k, rank_bits);
        ensure(rank < merge_count, order.start, "rank out of range")?;
        let left = field(&blob[pairs.clone()], rank * 2, id_bits);
        let right = field(&blob[pairs.clone()], rank * 2 + 1, id_bits);
        ensure(left < vocab_size && right < vocab_size, pairs.start, "merge id out of range")?;
        ensure(last < Some((left, right)), order.start, "merge order not ascending")?;
        last = Some((left, right));
    }
    if explicit {
        for rank in 0..merge_count {
            let id = field(&blob[results.clone()], rank, id_bits);
            ensure(id < vocab_size, results.start, "merge result out of range")?;
        }
        for id in 0..vocab_size {
            let rank = field(&blob[makers.clone()], id, rank_bits);
            ensure(rank <= merge_count, makers.start, "merge maker out of range")?;
        }
    }

    let range = reader.take(literal_bytes, "literals cut short")?;
    let mut at = range.start;
    let mut literals = Vec::new();
    for _ in 0..literal_count {
        ensure(range.end - at >= LITERAL_HEAD, at, "literal cut short")?;
        let id = le(&blob[at..at + 3]);
        let flags = blob[at + 3];
        let length = le(&blob[at + 4..at + 6]) as usize;
        ensure(id < vocab_size, at, "literal id out of range")?;
        ensure(flags <= 7, at, "reserved literal flag set")?;
        let start = at + LITERAL_HEAD;
        ensure(length >= 1 && length <= range.end - start, at, "literal length out of range")?;
        at = start + length;
        literals.push(Literal { id, flags, bytes: start..at });
    }
    ensure(at == range.end, at, "bytes after the last literal")?;

    let range = reader.take(class_bytes, "character classes cut short")?;
    let classes = Classes::read(&blob[range.clone()], range.start)?;
    ensure(reader.at == blob.len(), reader.at, "bytes after the last section")?;
    Ok(Layout {
        prefix_space: flags & FLAG_PREFIX_SPACE != 0,
        explicit,
        splitter,
        words,
        vocab_size,
        merge_count,
        merge_base,
        max_token_bytes,
        id_bits,
        rank_bits,
        prefix,
        suffix,
        runs,
        pairs,
        order,
        results,
        makers,
        literals,
        classes,
    })
}
