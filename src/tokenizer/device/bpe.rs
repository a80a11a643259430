//! Words to ids by merges (models 0 and 1).
//!
//! A word is its *atoms* (bytes, or characters) in a row; as long as two neighbours have a merge, the merge of the lowest rank is made, the
//! leftmost of equals first.
//!
//! **What a blob's merges are.** Let a merge (A, B) → T be *live* if merging the atoms of A followed by those of B gives A and B first, and
//! then T. No other merge is ever made in any text: until two neighbours are merged, what happens inside of them is what happens in the two
//! alone. And every string of atoms has at most one live merge, because merging it has one outcome. A blob holds live merges only, so that a
//! token is made in one way, and "merge by rank" (byte level), "merge what is in the vocabulary" (tiktoken) and "merge the best score"
//! (SentencePiece) are one algorithm.
//!
//! **Words of any length in a window.** Two neighbouring tokens s, t are *compatible* if merging the atoms of both gives [s, t] again.
//! Tokens t1 … tk are what their atoms merge to if and only if each neighbouring pair is compatible. So if q is a boundary of the tokens of
//! a text, what is before q and what is from q on are merged independently.
//!
//! A window holds W atoms that start at a certain boundary, and no token is longer than L atoms. Whatever follows the window, some j with
//! W - L < j ≤ W is a boundary of the whole, and the tokens before j are those of the window's first j atoms. If q is a boundary of the window
//! as it stands (which is the case j = W), s its token before q, and if s is compatible with the first token of the atoms from q to j for
//! each of the other j, then q is a boundary of the whole: the tokens before q are certain, and the window moves on to q.

use super::bits::le;
use super::layout::Model;
use super::text::{Out, Stream, Utf8, Word};
use super::{Fault, Tokenizer};

/// Scratch words for tokens of at most `longest` atoms.
pub fn work(longest: u32) -> u32 {
    let longest = longest.max(1);
    2 * ((4 * longest).max(128) + 3 * longest)
}

/// A boundary of the whole window is at this atom. Ids are below 2^20.
const BOUNDARY: u32 = 1 << 31;
/// A place that a token further left covers, or a pair without a merge.
const NONE: u32 = u32::MAX;

/// The atoms of a word.
struct Atoms {
    word: Word,
    /// Bytes that are still to be given as atoms.
    bytes: Utf8,
    /// How many of them were.
    given: usize,
    /// Whether the last thing was an unknown id.
    unknown: bool,
}

impl Atoms {
    fn next(&mut self, s: &mut Stream<'_>) -> Option<u32> {
        let (t, unknown) = (s.t, s.t.layout.unknown);
        loop {
            if let Some(byte) = self.bytes.bytes().get(self.given) {
                self.given += 1;
                if let Some(id) = t.byte_id(*byte) {
                    self.unknown = false;
                    return Some(id);
                }
            } else {
                let code = s.next_before(&mut self.word.from, self.word.to)?;
                if t.layout.model == Model::Characters {
                    if let Some(id) = t.character_id(code) {
                        self.unknown = false;
                        return Some(id);
                    }
                }
                let bytes = Utf8::of(code);
                let has_bytes = || bytes.bytes().iter().all(|byte| t.byte_id(*byte).is_some());
                if t.layout.model == Model::Bytes || unknown.bytes && has_bytes() {
                    (self.bytes, self.given) = (bytes, 0);
                    continue;
                }
            }
            let fused = self.unknown && unknown.fuse;
            self.unknown = true;
            if let (Some(id), false) = (unknown.id, fused) {
                return Some(id);
            }
        }
    }
}

/// The window: three words for each of its places.
struct Window<'a, 'w> {
    t: Tokenizer<'a>,
    /// The atoms; [`BOUNDARY`].
    atoms: &'w mut [u32],
    /// The tokens, each at its first atom; [`NONE`] at its other ones.
    tokens: &'w mut [u32],
    /// What a token and the next one merge into, or [`NONE`].
    merged: &'w mut [u32],
}

impl Window<'_, '_> {
    fn place(&self, at: usize) -> Option<u32> {
        self.atoms.get(at).map(|atom| atom & !BOUNDARY)
    }

    /// The first token at or after `at`, before `to`.
    fn token_from(&self, at: usize, to: usize) -> Option<usize> {
        self.tokens.get(at..to)?.iter().position(|token| *token != NONE).map(|k| at + k)
    }

    /// The last token before `at`, not before `from`.
    fn token_before(&self, from: usize, at: usize) -> Option<usize> {
        self.tokens.get(from..at)?.iter().rposition(|token| *token != NONE).map(|k| from + k)
    }

    /// What the token at `at` and the next one merge into.
    fn look(&mut self, at: usize, to: usize) {
        let right = self.token_from(at + 1, to).and_then(|next| self.tokens.get(next));
        let found = match (self.tokens.get(at), right) {
            (Some(left), Some(right)) => self.t.layout.merges.find(self.t.blob, *left, *right),
            _ => None,
        };
        if let Some(merged) = self.merged.get_mut(at) {
            *merged = found.unwrap_or(NONE);
        }
    }

    /// Merges the atoms `from..to`, in place and as if there were no others.
    fn merge(&mut self, from: usize, to: usize) {
        for at in from..to {
            let atom = self.place(at).unwrap_or(NONE);
            if let Some(token) = self.tokens.get_mut(at) {
                *token = atom;
            }
        }
        (from..to).for_each(|at| self.look(at, to));
        let merges = self.t.layout.merges;
        loop {
            let mut best: Option<(u32, usize, u32)> = None;
            for (k, id) in self.merged.get(from..to).unwrap_or(&[]).iter().enumerate().filter(|(_, id)| **id != NONE) {
                let rank = merges.rank(self.t.blob, *id);
                if best.is_none_or(|(least, ..)| rank < least) {
                    best = Some((rank, from + k, *id));
                }
            }
            let Some((_, at, id)) = best else { return };
            // The pair was found with this neighbour, which no other merge has taken since.
            let Some(next) = self.token_from(at + 1, to) else { return };
            self.tokens[at] = id;
            self.tokens[next] = NONE;
            self.merged[next] = NONE;
            self.look(at, to);
            if let Some(before) = self.token_before(from, at) {
                self.look(before, to);
            }
        }
    }

    /// Whether the tokens before `q` are certain: the token before it, from `p` on, is compatible with whatever can follow. Only places from
    /// `p` on are written to.
    fn is_certain(&mut self, p: usize, q: usize, longest: usize) -> bool {
        let window = self.atoms.len();
        // End of the first token that was found compatible last.
        let mut known = 0;
        for j in window + 1 - longest..window {
            self.merge(q, j);
            let end = self.token_from(q + 1, j).unwrap_or(j);
            if end != known {
                self.merge(p, end);
                if self.token_from(p + 1, end) != Some(q) || self.token_from(q + 1, end).is_some() {
                    return false;
                }
                known = end;
            }
        }
        true
    }

    /// Merges the whole window, which more atoms follow, and finds the boundary before which all tokens are certain.
    ///
    /// # Errors
    /// `Work` if there is none: a larger window may have one.
    fn certain(&mut self) -> Result<usize, Fault> {
        let window = self.atoms.len();
        let longest = self.t.layout.merges.longest.max(1) as usize;
        self.merge(0, window);
        for (atom, token) in self.atoms.iter_mut().zip(self.tokens.iter()) {
            *atom = *atom & !BOUNDARY | if *token == NONE { 0 } else { BOUNDARY };
        }
        let boundary = |atoms: &[u32], below: usize| atoms.get(..below)?.iter().rposition(|atom| atom & BOUNDARY != 0);
        let mut q = boundary(self.atoms, (window + 1).saturating_sub(longest)).unwrap_or(0);
        while let Some(p) = boundary(self.atoms, q) {
            let token = self.tokens[p];
            if self.is_certain(p, q, longest) {
                self.tokens[p] = token;
                self.tokens[p + 1..q].fill(NONE);
                return Ok(q);
            }
            q = p;
        }
        Err(Fault::Work)
    }
}

/// Ids of one word. `work` has at least [`work`] words; with more, more certainly done is a word for which `Work` comes.
///
/// # Errors
/// `Capacity`; `Work` for a word whose tokens depend on atoms further away than the window is long.
pub fn word(s: &mut Stream<'_>, word: Word, work: &mut [u32], out: &mut Out<'_>) -> Result<(), Fault> {
    let size = work.len() / 3;
    let (all, rest) = work.split_at_mut(size);
    let (tokens, merged) = rest.split_at_mut(size);
    let mut source = Atoms { word, bytes: Utf8::default(), given: 0, unknown: false };
    let mut pending = source.next(s);
    let mut count = 0;
    while pending.is_some() {
        while let (Some(atom), Some(room)) = (pending, all.get_mut(count)) {
            *room = atom;
            count += 1;
            pending = source.next(s);
        }
        let mut window = Window { t: s.t, atoms: &mut all[..count], tokens: &mut *tokens, merged: &mut *merged };
        let certain = match pending {
            None => {
                window.merge(0, count);
                count
            }
            Some(_) => window.certain()?,
        };
        for token in tokens.iter().take(certain).filter(|token| **token != NONE) {
            out.put(*token)?;
        }
        all.copy_within(certain..count, 0);
        count -= certain;
    }
    Ok(())
}

impl Tokenizer<'_> {
    /// Id of the token of one byte.
    pub fn byte_id(&self, byte: u8) -> Option<u32> {
        let mut runs = self.layout.runs.of(self.blob).chunks_exact(5);
        runs.find(|run| byte >= run[3] && byte - run[3] <= run[4]).map(|run| le(run, 0, 3) + u32::from(byte - run[3]))
    }

    /// The byte of an id.
    pub fn byte_of(&self, id: u32) -> Option<u8> {
        let mut runs = self.layout.runs.of(self.blob).chunks_exact(5);
        let run = runs.find(|run| id.checked_sub(le(run, 0, 3)).is_some_and(|k| k <= u32::from(run[4])))?;
        // A checked run ends at byte 255 or before.
        Some(run[3] + (id - le(run, 0, 3)) as u8)
    }

    /// Id of the atom of a character.
    pub fn character_id(&self, code: u32) -> Option<u32> {
        let [codes, ids] = self.layout.characters;
        let (mut low, mut high) = (0, self.layout.character_count);
        while low < high {
            let middle = (low + high) >> 1;
            let found = codes.get(self.blob, middle);
            if found == code {
                return Some(ids.get(self.blob, middle));
            }
            match found < code {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        None
    }
}
