//! Merges of vocabularies that list none: neighbours are joined if that makes a token, the best first.

use super::super::compile::merges::{Live, Merges};
use crate::error::{Error, Result};
use std::collections::{HashMap, HashSet};

/// Longest token that is looked at; the longest known ones are runs of about a hundred spaces.
const MAX_TOKEN: usize = 2048;

/// Merges by rank as (left, right), of all that any text ever makes.
///
/// `tokens` are the candidates in the order of their preference, best first, with a score: tokens of equal scores are joined leftmost first.
/// `cuts` gives the places in a token where an atom ends.
///
/// # Errors
/// `Unsupported` for tokens that are too long, and for equal scores whose order a list of merges cannot say.
pub fn merges<'a, S: PartialEq>(
    tokens: &[(u32, &'a [u8], S)],
    cuts: impl Fn(&'a [u8]) -> Vec<usize>,
) -> Result<Vec<(u32, u32)>> {
    let ids: HashMap<&[u8], u32> = tokens.iter().map(|(id, token, _)| (*token, *id)).collect();
    let by_id: HashMap<u32, usize> = tokens.iter().enumerate().map(|(k, (id, ..))| (*id, k)).collect();
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    // Of equal scores the longest first: what grows out of a token then follows it at once, which is what leftmost first makes of it.
    let mut from = 0;
    while from < order.len() {
        let same = order[from..].iter().take_while(|k| tokens[**k].2 == tokens[from].2).count();
        order[from..from + same].sort_by_key(|k| std::cmp::Reverse(tokens[*k].1.len()));
        from += same;
    }
    let mut pairs = Vec::new();
    for (id, token, _) in order.iter().map(|k| &tokens[*k]) {
        if token.len() > MAX_TOKEN {
            let what = format!("token {id} has {} bytes, at most {MAX_TOKEN} are supported", token.len());
            return Err(Error::unsupported(what));
        }
        for at in cuts(token) {
            if let (Some(left), Some(right)) = (ids.get(&token[..at]), ids.get(&token[at..])) {
                pairs.push((*left, *right, *id));
            }
        }
    }
    let atoms = |id: u32| {
        let token = tokens[*by_id.get(&id)?].1;
        let ends: Vec<usize> = cuts(token).into_iter().chain([token.len()]).collect();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts.zip(&ends).map(|(start, end)| ids.get(&token[start..*end]).copied()).collect()
    };
    let name = |id: u32| by_id.get(&id).map_or(String::new(), |k| String::from_utf8_lossy(tokens[*k].1).into_owned());
    let live = Merges::new(pairs.into_iter()).live(atoms, name)?;
    let group = |live: &Live| by_id.get(&live.result).map(|k| &tokens[*k].2);
    let mut from = 0;
    while from < live.len() {
        let same = live[from..].iter().take_while(|m| group(m) == group(&live[from])).count();
        if let Some(id) = rivals(&live[from..from + same]) {
            let what = format!("`{}` is joined in two ways of equal scores", name(id));
            return Err(Error::unsupported(what).hint("the order of such joins cannot be given as a list of merges"));
        }
        from += same;
    }
    // Longest first again within a rank.
    let mut live = live;
    live.sort_by_key(|m| (m.rank, std::cmp::Reverse(m.atoms)));
    Ok(live.into_iter().map(|m| (m.left, m.right)).collect())
}

/// A token that two merges of equal scores share, unless all of them grow out of one.
fn rivals(live: &[Live]) -> Option<u32> {
    let results: HashSet<u32> = live.iter().map(|m| m.result).collect();
    let grows = |m: &&Live| results.contains(&m.left) || results.contains(&m.right);
    if live.len() < 2 || live.iter().filter(|m| !grows(m)).count() == 1 {
        return None;
    }
    let mut seen = results.clone();
    for merge in live {
        let shared = [merge.left, merge.right].into_iter().find(|id| seen.contains(id));
        if shared.is_some() {
            return shared;
        }
        seen.extend([merge.left, merge.right]);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(tokens: &[(&str, i32)]) -> Result<Vec<(u32, u32)>> {
        let list: Vec<(u32, &[u8], i32)> = (0..).zip(tokens).map(|(id, (t, s))| (id, t.as_bytes(), *s)).collect();
        merges(&list, |token| (1..token.len()).collect())
    }

    #[test]
    fn one_way_to_each_token() {
        let tokens = [("a", 9), ("b", 9), ("c", 9), ("ab", 3), ("bc", 2), ("abc", 1)];
        assert_eq!(joined(&tokens).unwrap(), [(0, 1), (1, 2), (3, 2)]);
    }

    #[test]
    fn runs_of_equal_scores_grow_from_the_left() {
        let tokens = [("_", 9), ("_a", 5), ("__", 0), ("___", 0), ("____", 0), ("a", 0)];
        assert_eq!(joined(&tokens).unwrap(), [(0, 5), (3, 0), (2, 0), (0, 0)]);
    }

    #[test]
    fn rivals_of_equal_scores_are_refused() {
        let tokens = [("a", 9), ("b", 9), ("c", 9), ("ab", 3), ("bc", 3)];
        assert!(joined(&tokens).unwrap_err().to_string().contains("equal scores"));
        let tokens = [("a", 9), ("b", 9), ("c", 9), ("d", 9), ("ab", 3), ("cd", 3)];
        assert_eq!(joined(&tokens).unwrap().len(), 2);
    }

    #[test]
    fn a_token_of_thousands_of_bytes_is_refused() {
        let long = "a".repeat(MAX_TOKEN + 1);
        assert!(joined(&[("a", 1), (&long, 0)]).unwrap_err().to_string().contains("2049 bytes"));
    }
}
