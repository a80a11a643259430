//! Pieces of unigram and WordPiece as a trie (section 10) and the scores of unigram (section 11) of the blob, docs/format/tokenizer.md.

use super::bits::{completed, permutation, put_varint, BitWriter};
use crate::tokenizer::TokenizerError;

/// Longest piece in bytes: a back-pointer of the reader has eleven bits for it.
pub(in crate::tokenizer) const LONGEST_PIECE: usize = 2047;

const LABEL: usize = 31;
const TERMINAL: u8 = 32;
const CHILDREN: u8 = 64;
const LAST: u8 = 128;

/// A node whose subtree is not complete yet. Its label is `start..end` of the piece that is being added.
#[derive(Default)]
struct Open {
    start: usize,
    end: usize,
    terminal: bool,
    /// The list of children so far, and where its last node starts.
    list: Vec<u8>,
    last: usize,
    terminals: u32,
}

impl Open {
    fn add(&mut self, node: &[u8], terminals: u32) {
        self.last = self.list.len();
        self.list.extend_from_slice(node);
        self.terminals += terminals;
    }

    /// Bytes of the node and terminals in it, itself included. `piece` is any piece that goes through it.
    fn close(mut self, piece: &[u8]) -> (Vec<u8>, u32) {
        let total = self.terminals + u32::from(self.terminal);
        let mut flags = if self.terminal { TERMINAL } else { 0 };
        // A long label is a chain: the innermost node has the end of it and the children.
        for label in piece[self.start..self.end].chunks(LABEL).rev() {
            let mut node = vec![label.len() as u8 | flags];
            if !self.list.is_empty() {
                self.list[self.last] |= LAST;
                node[0] |= CHILDREN;
                put_varint(&mut node, self.list.len() as u32);
                put_varint(&mut node, self.terminals);
            }
            node.extend_from_slice(label);
            node.append(&mut self.list);
            (self.list, self.last, self.terminals, flags) = (node, 0, total, 0);
        }
        (self.list, total)
    }
}

/// Section 10: the ids of the pieces in the order of the trie, and the trie itself.
///
/// The order is that of the bytes, so that a piece comes before those that it starts.
///
/// # Errors
/// `Invalid` for a piece that is empty, too long, spelled by two ids, or has an id that is not below `vocab`.
pub(in crate::tokenizer) fn pieces(list: &[(u32, Vec<u8>)], vocab: u32) -> Result<Vec<u8>, TokenizerError> {
    let invalid = |id: u32, what: String| TokenizerError::Invalid {
        key: "model.vocab".into(),
        detail: format!("id {id} {what}"),
    };
    let mut sorted: Vec<(&[u8], u32)> = list.iter().map(|(id, bytes)| (bytes.as_slice(), *id)).collect();
    sorted.sort_unstable();
    let mut used = vec![false; vocab as usize];
    for &(piece, id) in &sorted {
        match used.get_mut(id as usize) {
            None => return Err(invalid(id, format!("is not below the vocabulary's size, {vocab}"))),
            Some(true) => return Err(invalid(id, "has two pieces".into())),
            Some(seen) => *seen = true,
        }
        if piece.is_empty() || piece.len() > LONGEST_PIECE {
            return Err(invalid(id, format!("is a piece of {} bytes; 1 to {LONGEST_PIECE} are possible", piece.len())));
        }
    }
    if let Some(twice) = sorted.windows(2).find(|two| two[0].0 == two[1].0) {
        return Err(invalid(twice[1].1, format!("is spelled like id {}", twice[0].1)));
    }
    let order: Vec<u32> = sorted.iter().map(|&(_, id)| id).collect();
    let longest = sorted.iter().map(|(piece, _)| piece.len()).max().unwrap_or(1);
    let mut out = Vec::new();
    out.extend_from_slice(&(order.len() as u32).to_le_bytes());
    out.extend_from_slice(&(longest as u32).to_le_bytes());
    out.extend(permutation(&completed(&order, vocab)));
    out.extend(trie(&sorted));
    Ok(out)
}

/// The root's list of children, from pieces in ascending order.
fn trie(sorted: &[(&[u8], u32)]) -> Vec<u8> {
    let mut open = vec![Open::default()];
    let mut before: &[u8] = &[];
    for &(piece, _) in sorted {
        let common = before.iter().zip(piece).take_while(|(a, b)| a == b).count();
        close_to(&mut open, before, common);
        open.push(Open { start: common, end: piece.len(), terminal: true, ..Open::default() });
        before = piece;
    }
    close_to(&mut open, before, 0);
    let Some(mut root) = open.pop() else { return Vec::new() };
    if let Some(head) = root.list.get_mut(root.last) {
        *head |= LAST;
    }
    root.list
}

/// Closes every open node that ends behind `depth`; one that `depth` cuts leaves its upper part open.
fn close_to(open: &mut Vec<Open>, piece: &[u8], depth: usize) {
    while let Some(mut node) = open.pop_if(|node| node.end > depth) {
        let upper = (node.start < depth).then(|| Open { start: node.start, end: depth, ..Open::default() });
        node.start = node.start.max(depth);
        let (bytes, terminals) = node.close(piece);
        open.extend(upper);
        if let Some(parent) = open.last_mut() {
            parent.add(&bytes, terminals);
        }
    }
}

/// How the reference adds scores up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tokenizer) enum Sums {
    /// In binary64: the `tokenizers` library.
    Binary64,
    /// In binary32: SentencePiece.
    Binary32,
}

/// Section 11: the score of each id and of an unknown character, exactly.
///
/// Sums of the reference are floating point, and their rounding decides between paths that are equal otherwise ("aaa" as "a", "aa" or as "aa",
/// "a"). So scores are stored as the binary64 numbers that they are, in the fewest bits: the bits of a magnitude grow with it, so the
/// difference to the smallest magnitude is stored, without the low bits that are 0 in all of them (29 where the scores were binary32).
///
/// # Errors
/// `Invalid` for a score that is not a number between 2^-126 and 2^64 in magnitude, or 0.
pub(in crate::tokenizer) fn scores(list: &[f64], unknown: f64, sums: Sums) -> Result<Vec<u8>, TokenizerError> {
    let fits = |score: f64| {
        score == 0.0 || (score.abs() >= f64::from(f32::MIN_POSITIVE) && score.abs() < 18_446_744_073_709_551_616.0)
    };
    if let Some((id, score)) = list.iter().enumerate().find(|(_, score)| !fits(**score)) {
        return Err(TokenizerError::Invalid {
            key: "model.vocab".into(),
            detail: format!("id {id} has the score {score}"),
        });
    }
    if !fits(unknown) {
        let detail = format!("unknown characters have the score {unknown}");
        return Err(TokenizerError::Invalid { key: "model.vocab".into(), detail });
    }
    let magnitudes = || list.iter().map(|score| score.abs().to_bits()).filter(|&bits| bits != 0);
    let shift = magnitudes().map(u64::trailing_zeros).min().unwrap_or(0).min(52);
    let base = magnitudes().min().unwrap_or(1.0f64.to_bits()) >> shift;
    let signed = list.iter().any(|&score| score > 0.0);
    let field = |score: f64| match score.abs().to_bits() >> shift {
        0 => 0,
        magnitude if signed => ((magnitude - base) << 1 | u64::from(score > 0.0)) + 1,
        magnitude => magnitude - base + 1,
    };
    let largest = list.iter().map(|&score| field(score)).max().unwrap_or(0);
    let width = (64 - largest.leading_zeros()).max(1);
    let mut out = vec![u8::from(sums == Sums::Binary32), width as u8, shift as u8, u8::from(signed), 0, 0, 0, 0];
    out.extend_from_slice(&base.to_le_bytes());
    out.extend_from_slice(&unknown.to_bits().to_le_bytes());
    let mut bits = BitWriter::default();
    for &score in list {
        let value = field(score);
        let low = width.min(32);
        bits.put((value & (u64::MAX >> (64 - low))) as u32, low);
        if width > 32 {
            bits.put((value >> 32) as u32, width - 32);
        }
    }
    out.extend(bits.finish());
    Ok(out)
}
