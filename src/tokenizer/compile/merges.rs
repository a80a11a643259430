//! Which merges are ever made.
//!
//! When (A, B) is merged to T in some text, nothing outside of T's atoms took part: the merges inside of them were made in the order in which they
//! are made in T's atoms alone, since each was the lowest rank and leftmost of the whole text and so of T's part. So the last merge that is made
//! of T's atoms alone is the only one that ever makes T; if they do not end in T, nothing does. All other merges are left out.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::super::TokenizerError;
use super::json::{invalid, unsupported};

/// Pairs of ids: one multiplication is enough to spread them, and there are millions of lookups.
#[derive(Default)]
struct PairHasher(u64);

impl Hasher for PairHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }
    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}

/// A merge that some text makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tokenizer) struct Live {
    pub left: u32,
    pub right: u32,
    pub result: u32,
    /// Its place among the merges of the source.
    pub rank: u32,
    /// Length of the result in atoms.
    pub atoms: u32,
}

/// All merges of a source by pair.
#[derive(Default)]
pub(in crate::tokenizer) struct Merges {
    /// Both ids → rank and result.
    pairs: HashMap<u64, (u32, u32), BuildHasherDefault<PairHasher>>,
    word: Word,
}

/// A word while it is merged: a doubly linked list over the places of its atoms.
#[derive(Default)]
struct Word {
    ids: Vec<u32>,
    previous: Vec<u32>,
    next: Vec<u32>,
    /// `(rank, place, left, right)`, lowest rank first and then leftmost.
    queue: BinaryHeap<Reverse<(u32, u32, u32, u32)>>,
}

/// Marks an atom that was merged into its left neighbour. Ids are below 2^20.
const GONE: u32 = u32::MAX;

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Merges {
    /// `list` by rank, with ids. A pair that is listed twice has its last rank, as in the reference.
    pub fn new(list: impl Iterator<Item = (u32, u32, u32)>) -> Self {
        let pairs = list.zip(0..).map(|((left, right, result), rank)| (key(left, right), (rank, result))).collect();
        Merges { pairs, word: Word::default() }
    }

    /// Every id that some listed merge makes.
    pub fn results(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.pairs.values().map(|(_, result)| *result).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn rank(&self, left: u32, right: u32) -> Option<u32> {
        self.pairs.get(&key(left, right)).map(|(rank, _)| *rank)
    }

    /// Merges atoms: as long as two neighbours have a merge, that of the lowest rank is made, the leftmost of equals first. If one id is left that a
    /// merge made, that merge.
    pub fn last(&mut self, atoms: &[u32]) -> Option<Live> {
        let mut word = std::mem::take(&mut self.word);
        let last = self.merge(&mut word, atoms);
        let whole = word.next.first().is_some_and(|next| *next as usize == atoms.len());
        self.word = word;
        last.filter(|_| whole)
    }

    fn merge(&self, word: &mut Word, atoms: &[u32]) -> Option<Live> {
        let Word { ids, previous, next, queue } = word;
        let length = atoms.len() as u32;
        ids.clear();
        ids.extend_from_slice(atoms);
        previous.clear();
        previous.extend((0..length).map(|at| at.wrapping_sub(1)));
        next.clear();
        next.extend(1..=length);
        queue.clear();
        let mut last = None;
        for (at, pair) in (0..).zip(atoms.windows(2)) {
            if let Some(rank) = self.rank(pair[0], pair[1]) {
                queue.push(Reverse((rank, at, pair[0], pair[1])));
            }
        }
        while let Some(Reverse((rank, place, left, right))) = queue.pop() {
            let at = place as usize;
            let after = next[at];
            // Entries whose pair was merged away are left in the queue and skipped here.
            if ids[at] != left || after >= length || ids[after as usize] != right {
                continue;
            }
            let Some(&(_, result)) = self.pairs.get(&key(left, right)) else { continue };
            last = Some(Live { left, right, result, rank, atoms: length });
            ids[at] = result;
            ids[after as usize] = GONE;
            let after = next[after as usize];
            next[at] = after;
            if after < length {
                previous[after as usize] = place;
                let right = ids[after as usize];
                if let Some(rank) = self.rank(result, right) {
                    queue.push(Reverse((rank, place, result, right)));
                }
            }
            let before = previous[at];
            if before < length {
                let left = ids[before as usize];
                if let Some(rank) = self.rank(left, result) {
                    queue.push(Reverse((rank, before, left, result)));
                }
            }
        }
        last
    }

    /// The live merges by ascending rank. `atoms` gives the atoms of a token, None if it has some that do not exist.
    ///
    /// Ranks are dense, and not below those of the merges that make the halves: see [`level`].
    ///
    /// # Errors
    /// `Unsupported` if equal ranks cannot say what the source says.
    pub fn live(
        &mut self,
        atoms: impl Fn(u32) -> Option<Vec<u32>>,
        name: impl Fn(u32) -> String,
    ) -> Result<Vec<Live>, TokenizerError> {
        let results = self.results();
        let made = |id| atoms(id).and_then(|atoms| self.last(&atoms)).filter(|live| live.result == id);
        let mut all: Vec<Live> = results.into_iter().filter_map(made).collect();
        level(&mut all).map_err(|live| {
            let pair = format!("{} {}", name(live.left), name(live.right));
            let reason = "comes before the merge that makes one of its halves, which may also grow to the other side";
            unsupported("model.merges", pair, reason)
        })?;
        Ok(all)
    }
}

/// Raises ranks to those of the merges that make the halves, and makes them dense.
///
/// Let A be made at a rank e, and let merges of ranks below e have a half that is A, or is made of it in this way. In the source they follow at
/// once, before another A is made further right. With ranks of e too they do so as well, since they start no further right than A and the leftmost of
/// equals is first. Only where a token could grow to both sides the leftmost must be the one that the source has first.
fn level(all: &mut [Live]) -> Result<(), Live> {
    let mut raised: HashMap<u32, u32> = HashMap::new();
    // Halves are shorter than what they make.
    all.sort_unstable_by_key(|live| live.atoms);
    for live in all.iter() {
        let half = |id: u32| raised.get(&id).copied().unwrap_or(0);
        raised.insert(live.result, live.rank.max(half(live.left)).max(half(live.right)));
    }
    let rank = |live: &Live| raised.get(&live.result).copied().unwrap_or(live.rank);
    // Those that follow at once, by the token that grows.
    let mut right: HashMap<u32, u32> = HashMap::new();
    for live in all.iter().filter(|live| rank(live) > live.rank && raised.get(&live.left) == Some(&rank(live))) {
        let first = right.entry(live.left).or_insert(live.rank);
        *first = live.rank.min(*first);
    }
    for live in all.iter().filter(|live| rank(live) > live.rank && raised.get(&live.right) == Some(&rank(live))) {
        if right.get(&live.right).is_some_and(|first| *first < live.rank) {
            return Err(*live);
        }
    }
    for live in all.iter_mut() {
        live.rank = raised.get(&live.result).copied().unwrap_or(live.rank);
    }
    all.sort_unstable_by_key(|live| (live.rank, live.result));
    let mut dense = 0;
    let mut before = all.first().map_or(0, |live| live.rank);
    for live in all.iter_mut() {
        dense += u32::from(live.rank != before);
        before = live.rank;
        live.rank = dense;
    }
    Ok(())
}

/// Most right halves that wait while an id is expanded from the left, by id.
pub(in crate::tokenizer) fn pending(merges: &[Live]) -> HashMap<u32, u32> {
    let mut by_length: Vec<&Live> = merges.iter().collect();
    by_length.sort_unstable_by_key(|live| live.atoms);
    let mut needs: HashMap<u32, u32> = HashMap::new();
    for live in by_length {
        let need = |id: u32| needs.get(&id).copied().unwrap_or(0);
        let all = (need(live.left) + 1).max(need(live.right));
        needs.insert(live.result, all);
    }
    needs
}

/// The pair of a merge as ids.
///
/// # Errors
/// `Invalid` if one of the three tokens does not exist.
pub(super) fn ids(
    pair: &(String, String),
    of: impl Fn(&str) -> Option<u32>,
) -> Result<(u32, u32, u32), TokenizerError> {
    let id =
        |token: &str| of(token).ok_or_else(|| invalid("model.merges", format!("`{token}` is not in the vocabulary")));
    Ok((id(&pair.0)?, id(&pair.1)?, id(&format!("{}{}", pair.0, pair.1))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(merges: &[(u32, u32, u32)], tokens: &[&[u32]]) -> Result<Vec<(u32, u32, u32)>, TokenizerError> {
        let atoms = |id: u32| tokens.get(id as usize).map(|atoms| atoms.to_vec());
        let live = Merges::new(merges.iter().copied()).live(atoms, |id| id.to_string())?;
        Ok(live.into_iter().map(|live| (live.left, live.right, live.result)).collect())
    }

    const TOKENS: [&[u32]; 7] = [&[0], &[1], &[2], &[0, 1], &[1, 2], &[0, 1, 2], &[0, 1, 0, 1]];

    #[test]
    fn of_two_ways_to_a_token_one_is_live() {
        let merges = [(0, 1, 3), (1, 2, 4), (0, 4, 5), (3, 2, 5), (3, 3, 6)];
        assert_eq!(live(&merges, &TOKENS).unwrap(), [(0, 1, 3), (1, 2, 4), (3, 2, 5), (3, 3, 6)]);
        let merges = [(1, 2, 4), (0, 1, 3), (3, 2, 5)];
        assert_eq!(live(&merges, &TOKENS).unwrap(), [(1, 2, 4), (0, 1, 3)], "b c is always taken before a b");
    }

    #[test]
    fn a_merge_before_its_halves_has_their_rank() {
        // Runs of one character: 2, 3 and 4 of them, the longest first.
        let runs: [&[u32]; 4] = [&[0], &[0, 0], &[0, 0, 0], &[0, 0, 0, 0]];
        let atoms = |id: u32| runs.get(id as usize).map(|atoms| atoms.to_vec());
        let merges = [(2, 0, 3), (1, 0, 2), (1, 1, 3), (0, 0, 1)];
        let live = Merges::new(merges.into_iter()).live(atoms, |id| id.to_string()).unwrap();
        let mut all: Vec<_> = live.iter().map(|live| (live.left, live.right, live.result, live.rank)).collect();
        all.sort_unstable();
        assert_eq!(all, [(0, 0, 1, 0), (1, 0, 2, 0), (2, 0, 3, 0)]);
    }

    #[test]
    fn growth_to_both_sides_before_the_halves_is_refused_unless_left_is_first() {
        let merges = [(3, 2, 5), (2, 3, 6), (0, 1, 3)];
        let tokens: [&[u32]; 7] = [&[0], &[1], &[2], &[0, 1], &[9], &[0, 1, 2], &[2, 0, 1]];
        let error = live(&merges, &tokens).unwrap_err().to_string();
        assert!(error.contains("2 3") && error.contains("grow to the other side"), "{error}");
        let merges = [(2, 3, 6), (3, 2, 5), (0, 1, 3)];
        assert_eq!(live(&merges, &tokens).unwrap().len(), 3);
    }

    #[test]
    fn pending_halves_are_counted() {
        let merge = |left, right, result| Live { left, right, result, rank: result, atoms: result };
        let needs = pending(&[merge(0, 1, 3), merge(3, 2, 5), merge(2, 5, 6)]);
        assert_eq!((needs[&3], needs[&5], needs[&6]), (1, 2, 2));
    }
}
