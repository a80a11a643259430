//! Tables → bytes. The normative text is docs/format/tokenizer.md.

use super::super::TokenizerError;
use super::bits::{bit_width, completed, packed, permutation, BitWriter};
use super::cuts::Cuts;
use super::json::unsupported;
use super::merges::Live;

/// First four bytes of a blob.
pub const MAGIC: [u8; 4] = *b"BNTK";
/// Version written.
pub const VERSION: u16 = 2;

/// Looked for in the text.
pub(super) const MATCH: u8 = 2;
pub(super) const SPECIAL: u8 = 1;
/// Taken for a whole word.
pub(super) const WHOLE: u8 = 4;
pub(super) const LSTRIP: u8 = 8;
pub(super) const RSTRIP: u8 = 16;
/// Looked for in the normalized text.
pub(super) const NORMALIZED: u8 = 32;
const SPELLING: u8 = 64;

/// One spelled-out token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Literal {
    pub id: u32,
    pub flags: u8,
    pub bytes: Vec<u8>,
    /// What is decoded, if not the same.
    pub spelling: Option<Vec<u8>>,
}

/// Section 9.
#[derive(Debug, Clone, Default)]
pub(super) struct Unknown {
    pub id: Option<u32>,
    pub limit: u32,
    pub byte_fallback: bool,
    pub fuse: bool,
    pub prefix: Vec<u8>,
}

/// What turns words into ids.
#[derive(Debug)]
pub(super) enum Body {
    /// Merges by rank over atoms.
    Bytes(Merging),
    /// The same over characters with their ids, ascending.
    Characters(Vec<(char, u32)>, Merging, Unknown),
    Unigram {
        pieces: Vec<u8>,
        scores: Vec<u8>,
        longest: u32,
        unknown: Unknown,
    },
    WordPiece {
        pieces: Vec<u8>,
        unknown: Unknown,
    },
}

#[derive(Debug, Default)]
pub(super) struct Merging {
    /// By ascending rank.
    pub live: Vec<Live>,
    /// Longest token in atoms.
    pub longest: u16,
}

/// Everything a blob says, before it is written.
#[derive(Debug)]
pub(super) struct Tables {
    pub vocab_size: u32,
    pub max_token_bytes: u16,
    /// In sixteenths.
    pub growth: u32,
    pub prefix: Vec<u32>,
    pub suffix: Vec<u32>,
    /// Id of each byte that has one, ascending bytes.
    pub byte_ids: Vec<(u8, u32)>,
    pub literals: Vec<Literal>,
    pub classes: Vec<u8>,
    /// The section, and the words of scratch that it needs.
    pub normalizer: Option<(Vec<u8>, u32)>,
    pub cuts: Cuts,
    pub decoder: u8,
    pub body: Body,
}

/// Writes the blob. The caller has checked ids and counts.
///
/// # Errors
/// `Unsupported` if a section outgrows the numbers of the format.
pub(super) fn write(tables: &Tables) -> Result<Vec<u8>, TokenizerError> {
    let w = bit_width(tables.vocab_size - 1);
    let mut sections: Vec<(u8, Vec<u8>)> = Vec::new();
    if !tables.prefix.is_empty() || !tables.suffix.is_empty() {
        let mut template = vec![tables.prefix.len() as u8, tables.suffix.len() as u8, 0, 0];
        template.extend(tables.prefix.iter().chain(&tables.suffix).flat_map(|id| id.to_le_bytes()));
        sections.push((1, template));
    }
    sections.push((2, runs(&tables.byte_ids)));
    let (model, work) = match &tables.body {
        Body::Bytes(merging) => {
            sections.push((4, merges(merging, w)?));
            (0, merging.work())
        }
        Body::Characters(atoms, merging, unknown) => {
            sections.push((3, characters(atoms, w)));
            sections.push((4, merges(merging, w)?));
            sections.push((9, unknown.section()));
            (1, merging.work())
        }
        Body::Unigram { pieces, scores, longest, unknown } => {
            sections.extend([(9, unknown.section()), (10, pieces.clone()), (11, scores.clone())]);
            (2, 3 * (longest + 4) + 2)
        }
        Body::WordPiece { pieces, unknown } => {
            sections.extend([(9, unknown.section()), (10, pieces.clone())]);
            (3, unknown.limit)
        }
    };
    if !tables.literals.is_empty() {
        sections.push((5, literals(&tables.literals)));
    }
    sections.push((6, tables.classes.clone()));
    sections.extend(tables.normalizer.iter().map(|(section, _)| (7, section.clone())));
    let cuts = &tables.cuts;
    let cut = vec![cuts.splitter as u8, cuts.words as u8, cuts.front as u8, u8::from(cuts.mark)];
    if cut != [0; 4] {
        sections.push((8, cut));
    }
    if tables.decoder != 0 {
        sections.push((12, vec![tables.decoder, 0, 0, 0]));
    }
    sections.retain(|(_, bytes)| !bytes.is_empty());
    sections.sort_unstable_by_key(|(kind, _)| *kind);

    let work = work + tables.normalizer.as_ref().map_or(0, |(_, words)| *words);
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&tables.vocab_size.to_le_bytes());
    out.extend_from_slice(&work.to_le_bytes());
    out.extend_from_slice(&tables.max_token_bytes.to_le_bytes());
    out.push(model);
    out.push(sections.len() as u8);
    out.extend_from_slice(&tables.growth.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for (kind, bytes) in &sections {
        out.extend_from_slice(&u32::from(*kind).to_le_bytes());
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    }
    sections.iter().for_each(|(_, bytes)| out.extend_from_slice(bytes));
    let total = u32::try_from(out.len()).map_err(|_| unsupported("model.vocab", out.len(), "less than 4 GB"))?;
    out[8..12].copy_from_slice(&total.to_le_bytes());
    Ok(out)
}

fn runs(byte_ids: &[(u8, u32)]) -> Vec<u8> {
    let mut runs: Vec<(u32, u8, u8)> = Vec::new();
    for &(byte, id) in byte_ids {
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
    runs.into_iter().flat_map(|(id, byte, extra)| [id as u8, (id >> 8) as u8, (id >> 16) as u8, byte, extra]).collect()
}

fn characters(atoms: &[(char, u32)], w: u32) -> Vec<u8> {
    let c = bit_width(atoms.last().map_or(0, |(c, _)| *c as u32));
    let mut out = (atoms.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(&[c as u8, 0, 0, 0]);
    out.extend(packed(atoms.iter().map(|(c, _)| *c as u32), c));
    out.extend(packed(atoms.iter().map(|(_, id)| *id), w));
    out
}

impl Merging {
    /// Words of scratch: a window and what may be left of the one before, with two numbers an atom.
    fn work(&self) -> u32 {
        let longest = u32::from(self.longest);
        2 * ((4 * longest).max(128) + 3 * longest)
    }
}

/// A number of the stream: groups of three bits, lowest first, and a bit that says that another follows.
fn number(bits: &mut BitWriter, mut value: u32) {
    loop {
        let more = value >> 3 != 0;
        bits.put(value & 7 | u32::from(more) << 3, 4);
        value >>= 3;
        if !more {
            return;
        }
    }
}

fn merges(merging: &Merging, w: u32) -> Result<Vec<u8>, TokenizerError> {
    let live = &merging.live;
    let base = live.iter().map(|m| m.result).min().unwrap_or(0);
    let results = live.iter().map(|m| m.result - base + 1).max().unwrap_or(0);
    let mut sorted: Vec<&Live> = live.iter().collect();
    sorted.sort_unstable_by_key(|m| (m.left, m.right));

    let mut stream = BitWriter::default();
    let mut samples = Vec::with_capacity(live.len().div_ceil(32));
    for (k, merge) in sorted.iter().enumerate() {
        if k % 32 == 0 {
            samples.push((merge.left, merge.right, stream.len() as u32));
            continue;
        }
        let before = sorted[k - 1];
        if merge.left == before.left {
            stream.put(0, 1);
            number(&mut stream, merge.right - before.right - 1);
        } else {
            stream.put(1, 1);
            number(&mut stream, merge.left - before.left - 1);
            number(&mut stream, merge.right);
        }
    }
    let bits = stream.len();
    if bits >= 1 << 24 {
        return Err(unsupported("model.merges", live.len(), "too many for 2^24 bits"));
    }
    let o = bit_width(bits as u32);
    let order = Order::of(live, results);
    let mut out = Vec::new();
    for number in [live.len() as u32, results, base, bits as u32] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&merging.longest.to_le_bytes());
    out.extend_from_slice(&[order.flag(), o as u8]);
    let mut packed_samples = BitWriter::default();
    for (left, right, offset) in samples {
        packed_samples.put(left, w);
        packed_samples.put(right, w);
        packed_samples.put(offset, o);
    }
    out.extend(packed_samples.finish());
    out.extend(stream.finish());
    let places: Vec<u32> = sorted.iter().map(|m| m.result - base).collect();
    out.extend(permutation(&completed(&places, results)));
    let d = bit_width(results.saturating_sub(1));
    match order {
        Order::Ids => {}
        Order::Late(late) => {
            out.extend_from_slice(&(late.len() as u32).to_le_bytes());
            out.extend(packed(late.into_iter().map(|id| id - base), d));
        }
        Order::Ranks => {
            let mut by_id = vec![0; results as usize];
            live.iter().for_each(|merge| by_id[(merge.result - base) as usize] = merge.rank);
            out.extend(packed(by_id, d));
        }
    }
    Ok(out)
}

/// How the ranks are told.
enum Order {
    /// They ascend with the ids, as in almost all trained tokenizers.
    Ids,
    /// They do but for those that come last, all at the same rank.
    Late(Vec<u32>),
    /// One by one.
    Ranks,
}

impl Order {
    /// `live` is sorted by rank.
    fn of(live: &[Live], results: u32) -> Order {
        let last = live.last().map_or(0, |merge| merge.rank);
        let (late, early): (Vec<&Live>, Vec<&Live>) = live.iter().partition(|merge| merge.rank == last);
        let ascend = early.windows(2).all(|pair| pair[0].rank < pair[1].rank && pair[0].result < pair[1].result);
        let mut late: Vec<u32> = late.iter().map(|merge| merge.result).collect();
        match late[..] {
            _ if !ascend => Order::Ranks,
            [] => Order::Ids,
            [one] if early.last().is_none_or(|before| before.result < one) => Order::Ids,
            _ if late.len() > usize::from(u16::MAX) || results == 0 => Order::Ranks,
            _ => {
                late.sort_unstable();
                Order::Late(late)
            }
        }
    }

    fn flag(&self) -> u8 {
        match self {
            Order::Ids => 0,
            Order::Ranks => 1,
            Order::Late(_) => 2,
        }
    }
}

/// Longest first, so that the first literal that matches is the longest.
fn literals(list: &[Literal]) -> Vec<u8> {
    let mut list: Vec<&Literal> = list.iter().collect();
    list.sort_by(|a, b| (b.bytes.len(), &a.bytes, a.id).cmp(&(a.bytes.len(), &b.bytes, b.id)));
    let mut out = (list.len() as u32).to_le_bytes().to_vec();
    for literal in list {
        let spelling = literal.spelling.as_ref().filter(|spelling| **spelling != literal.bytes);
        out.extend_from_slice(&literal.id.to_le_bytes()[..3]);
        out.push(literal.flags | if spelling.is_some() { SPELLING } else { 0 });
        for bytes in std::iter::once(&literal.bytes).chain(spelling) {
            out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }
    out
}

impl Unknown {
    fn section(&self) -> Vec<u8> {
        let mut out = self.id.unwrap_or(u32::MAX).to_le_bytes().to_vec();
        out.extend_from_slice(&self.limit.to_le_bytes());
        out.extend_from_slice(&[
            u8::from(self.byte_fallback) | u8::from(self.fuse) << 1,
            self.prefix.len() as u8,
            0,
            0,
        ]);
        out.extend_from_slice(&self.prefix);
        out
    }
}
