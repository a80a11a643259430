//! Which patches lead from the file that is there to the newest one, in the fewest bytes.

use super::index::{Index, Release, Sha};
use serde::Serialize;
use std::collections::BTreeMap;

/// Patches of a chain. Someone this far behind is better off with the full image.
pub const MAX_STEPS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One patch.
    Direct,
    /// Several, one after the other.
    Chain,
    /// A patch that needs no base.
    Full,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// As the index has it.
    pub url: String,
    pub bytes: u64,
    /// `None`: needs no base.
    pub from: Option<Sha>,
    pub to: Sha,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub kind: Kind,
    pub steps: Vec<Step>,
    pub bytes: u64,
}

/// All ways that make sense, the best first; the others are for when it fails.
///
/// A chain has to be smaller than the direct patch and below 60 % of the full image (every step is applied, and costs a request); the direct
/// patch has to be smaller than the full image.
pub fn routes(index: &Index, have: Option<&Sha>, want: &Release, in_place: bool) -> Vec<Route> {
    let full = want.url.as_ref().zip(want.bytes).filter(|_| want.in_place || !in_place);
    let full = full.map(|(url, bytes)| Route {
        kind: Kind::Full,
        steps: vec![Step { url: url.clone(), bytes, from: None, to: want.sha256 }],
        bytes,
    });
    let (direct, chain) = have.map_or((None, None), |have| paths(index, have, &want.sha256, in_place));
    let most = full.as_ref().map_or(u64::MAX, |f| f.bytes);
    let (mut good, mut rest) = (Vec::new(), Vec::new());
    let beats_direct = |c: &Route| direct.as_ref().is_none_or(|d| c.bytes < d.bytes);
    match chain {
        Some(c) if beats_direct(&c) && u128::from(c.bytes) * 10 < u128::from(most) * 6 => good.push(c),
        c => rest.extend(c),
    }
    match direct {
        Some(d) if d.bytes < most => good.push(d),
        d => rest.splice(0..0, d).for_each(drop),
    }
    good.extend(full);
    good.extend(rest);
    good
}

/// The smallest direct patch and the smallest chain of 2 to [`MAX_STEPS`] patches.
fn paths(index: &Index, have: &Sha, want: &Sha, in_place: bool) -> (Option<Route>, Option<Route>) {
    // For each number of steps the cheapest way to each file: cycles only make a way longer, and lies about sizes cannot make it endless.
    let mut reached: Vec<BTreeMap<Sha, (u64, usize)>> = vec![BTreeMap::from([(*have, (0, usize::MAX))])];
    for n in 1..=MAX_STEPS {
        let mut next: BTreeMap<Sha, (u64, usize)> = BTreeMap::new();
        for (i, edge) in index.patches.iter().enumerate().filter(|(_, e)| e.in_place || !in_place) {
            let Some((bytes, _)) = reached[n - 1].get(&edge.from_sha256) else { continue };
            let bytes = bytes.saturating_add(edge.bytes);
            // A way that goes on behind its end, or comes back to its beginning, is no way.
            let useless = edge.from_sha256 == *want || edge.to_sha256 == *have;
            if !useless && next.get(&edge.to_sha256).is_none_or(|(b, _)| bytes < *b) {
                next.insert(edge.to_sha256, (bytes, i));
            }
        }
        reached.push(next);
    }
    let way = |n: usize| -> Option<Route> {
        let mut steps = Vec::new();
        let mut at = *want;
        let (bytes, _) = reached[n].get(want)?;
        for level in reached[1..=n].iter().rev() {
            let edge = &index.patches[level.get(&at)?.1];
            let step = Step { url: edge.url.clone(), bytes: edge.bytes, from: Some(edge.from_sha256), to: at };
            at = edge.from_sha256;
            steps.push(step);
        }
        steps.reverse();
        let kind = if n == 1 { Kind::Direct } else { Kind::Chain };
        Some(Route { kind, steps, bytes: *bytes })
    };
    (way(1), (2..=MAX_STEPS).filter_map(way).min_by_key(|r| r.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha(n: u8) -> String {
        format!("{n:02x}").repeat(32)
    }

    /// Files 1 ..= 5 with their number as sequence; 5 has a full patch of so many bytes.
    fn index(full: u64, edges: &[(u8, u8, u64)]) -> Index {
        let files: Vec<_> = (1..=5)
            .map(|n| match n {
                5 if full > 0 => serde_json::json!({"version": "", "sequence": n, "sha256": sha(n), "length": 9, "bytes": full, "url": "full"}),
                n => serde_json::json!({"version": "", "sequence": n, "sha256": sha(n), "length": 9}),
            })
            .collect();
        let patches: Vec<_> = edges
            .iter()
            .map(|(a, b, bytes)| serde_json::json!({"from_sha256": sha(*a), "to_sha256": sha(*b), "bytes": bytes, "url": format!("{a}{b}")}))
            .collect();
        let all = serde_json::json!({"format": 1, "model": "m", "files": files, "patches": patches});
        Index::parse(all.to_string().as_bytes()).unwrap()
    }

    fn ways(full: u64, edges: &[(u8, u8, u64)]) -> Vec<String> {
        let index = index(full, edges);
        let show = |r: &Route| r.steps.iter().map(|s| s.url.as_str()).collect::<Vec<_>>().join(" ");
        routes(&index, Some(&Sha([1; 32])), index.newest().unwrap(), false).iter().map(show).collect()
    }

    #[test]
    fn the_smallest_comes_first() {
        let chain = [(1, 2, 400), (2, 5, 400)];
        assert_eq!(ways(0, &[(1, 5, 900), chain[0], chain[1]]), ["12 25", "15"]);
        assert_eq!(ways(0, &[(1, 5, 800), chain[0], chain[1]]), ["15", "12 25"]);
        assert_eq!(ways(10_000, &[(1, 5, 800)]), ["15", "full"]);
        assert_eq!(ways(700, &[(1, 5, 800)]), ["full", "15"]);
        assert!(ways(0, &[(2, 5, 800)]).is_empty());
        assert_eq!(ways(0, &[(1, 5, 900), (1, 5, 500)]).len(), 1);
    }

    #[test]
    fn a_chain_of_sixty_per_cent_gives_way_to_the_full_image() {
        let chain = [(1, 2, 400), (2, 3, 400), (3, 5, 400)];
        assert_eq!(ways(2001, &chain), ["12 23 35", "full"]);
        assert_eq!(ways(2000, &chain), ["full", "12 23 35"]);
        assert_eq!(ways(2000, &[chain[0], chain[1], chain[2], (1, 5, 1999)]), ["15", "full", "12 23 35"]);
    }

    #[test]
    fn circles_and_lies_about_sizes_end() {
        let circle = [(1, 2, 400), (2, 1, 400), (2, 3, 400), (3, 2, 400), (2, 2, 400), (1, 1, 400)];
        assert!(ways(0, &circle).is_empty());
        assert_eq!(ways(0, &[&circle[..], &[(3, 5, 1 << 47), (5, 3, 400)]].concat()), ["12 23 35"]);
    }

    #[test]
    fn in_place_needs_patches_that_can() {
        let index = index(5000, &[(1, 5, 900)]);
        assert!(routes(&index, Some(&Sha([1; 32])), index.newest().unwrap(), true).is_empty());
        assert_eq!(routes(&index, None, index.newest().unwrap(), false)[0].kind, Kind::Full);
    }

    #[test]
    fn an_index_of_thousands_is_searched_quickly_or_refused() {
        let many = |n: usize| {
            let edges: Vec<_> = (0..n).map(|i| (1 + (i % 4) as u8, 1 + (i / 7 % 4) as u8, 400 + i as u64)).collect();
            let patches: Vec<_> = edges
                .iter()
                .map(|(a, b, bytes)| serde_json::json!({"from_sha256": sha(*a), "to_sha256": sha(*b), "bytes": bytes, "url": ""}))
                .collect();
            serde_json::json!({"format": 1, "model": "m", "files": [], "patches": patches}).to_string()
        };
        assert!(Index::parse(many(4000).as_bytes()).is_ok());
        assert!(Index::parse(many(4097).as_bytes()).is_err());
    }
}
