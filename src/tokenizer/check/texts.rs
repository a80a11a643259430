//! Which texts are compared, in batches that depend on nothing but what was asked for.

use super::nasty;
use super::random::{self, Material};
use crate::error::{Error, Result};
use serde::Deserialize;

/// Texts of a batch.
const BATCH: u64 = 1024;
/// Bytes of a batch after which it is closed: what an emulator links into one image.
const BATCH_BYTES: usize = 256 << 10;

/// A text whose ids somebody wrote down: `{"text": …, "ids": […], "decoded": …}`.
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    pub text: String,
    /// With what the template puts around them, or without.
    pub ids: Vec<u32>,
    pub decoded: Option<String>,
}

/// Reads a file of cases: `{"cases": […]}`, or the list alone.
///
/// # Errors
/// `Input` if it is neither.
pub fn cases(json: &[u8]) -> Result<Vec<Case>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum File {
        Named { cases: Vec<Case> },
        List(Vec<Case>),
    }
    match serde_json::from_slice(json) {
        Ok(File::Named { cases } | File::List(cases)) => Ok(cases),
        Err(e) => Err(Error::input(format!("these are no cases: {e}"))
            .hint("a file of cases is {\"cases\": [{\"text\": \"a\", \"ids\": [1], \"decoded\": \"a\"}]}; `decoded` may be left out")),
    }
}

/// Where a text comes from. The order is that of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Cases,
    Corpus,
    Nasty,
    Blocks,
    CodePoints,
    Long,
    Random,
    /// Bytes that are not UTF-8.
    Stray,
}

impl Group {
    pub const ALL: [Group; 8] = [
        Group::Cases,
        Group::Corpus,
        Group::Nasty,
        Group::Blocks,
        Group::CodePoints,
        Group::Long,
        Group::Random,
        Group::Stray,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Group::Cases => "cases",
            Group::Corpus => "corpus",
            Group::Nasty => "nasty",
            Group::Blocks => "unicode-blocks",
            Group::CodePoints => "code-points",
            Group::Long => "long",
            Group::Random => "random",
            Group::Stray => "not-utf8",
        }
    }

    /// Too much for an emulator, which runs a thousand times slower.
    pub fn is_large(self) -> bool {
        matches!(self, Group::CodePoints | Group::Long)
    }
}

/// All texts of one check.
pub struct Texts {
    lists: Vec<(Group, Vec<Vec<u8>>)>,
    pub cases: Vec<Case>,
    material: Material,
    seed: u64,
    plan: Vec<Batch>,
}

/// Texts `first .. first + count` of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub group: Group,
    pub first: u64,
    pub count: u64,
}

/// Which of the built-in texts are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Builtin {
    #[default]
    All,
    /// All but every code point and the long ones.
    Small,
    Nothing,
}

/// What the texts are made from.
#[derive(Default)]
pub struct Sources {
    pub cases: Vec<Case>,
    pub corpus: Vec<String>,
    pub material: Material,
    pub seed: u64,
    /// Random texts; an eighth as many, at most, of bytes that are not UTF-8.
    pub count: u64,
    pub builtin: Builtin,
}

impl Texts {
    pub fn new(mut s: Sources) -> Texts {
        let bytes = |list: Vec<String>| list.into_iter().map(String::into_bytes).collect::<Vec<_>>();
        let mut lists = vec![
            (Group::Cases, s.cases.iter().map(|c| c.text.clone().into_bytes()).collect()),
            (Group::Corpus, bytes(s.corpus.clone())),
        ];
        let mut plan = Vec::new();
        let mut stray = 0;
        s.material.lines.extend(s.corpus.into_iter().take(1 << 16));
        if s.builtin != Builtin::Nothing {
            let nasty = nasty::texts(&s.material.added);
            s.material.lines.extend(nasty.iter().filter(|t| t.len() < 200).cloned());
            lists.push((Group::Nasty, bytes(nasty)));
            lists.push((Group::Blocks, bytes(nasty::blocks())));
            if s.builtin == Builtin::All {
                lists.push((Group::Long, bytes(nasty::long())));
            }
            let bad = nasty::stray();
            stray = bad.len() as u64 + s.count / 8;
            lists.push((Group::Stray, bad));
        }
        for group in Group::ALL {
            match group {
                Group::CodePoints if s.builtin == Builtin::All => even(&mut plan, group, 2 * nasty::ALL),
                Group::CodePoints => {}
                Group::Random => even(&mut plan, group, s.count),
                Group::Stray => even(&mut plan, group, stray),
                _ => {
                    let list = lists.iter().find(|(g, _)| *g == group).map(|(_, l)| l.as_slice());
                    by_bytes(&mut plan, group, list.unwrap_or(&[]));
                }
            }
        }
        Texts { lists, cases: s.cases, material: s.material, seed: s.seed, plan }
    }

    /// Every batch, in the order of the report.
    pub fn batches(&self) -> &[Batch] {
        &self.plan
    }

    /// The texts of a batch.
    pub fn of(&self, b: Batch) -> Vec<Vec<u8>> {
        (b.first..b.first + b.count).map(|n| self.text(b.group, n)).collect()
    }

    fn text(&self, group: Group, number: u64) -> Vec<u8> {
        let list = self.lists.iter().find(|(g, _)| *g == group).map_or(&[][..], |(_, l)| l);
        let listed = usize::try_from(number).ok().and_then(|n| list.get(n));
        match (listed, group) {
            (Some(t), _) => t.clone(),
            (None, Group::CodePoints) => nasty::code_points(number).into_bytes(),
            (None, Group::Stray) => random::stray(self.seed, number - list.len() as u64, &self.material),
            (None, _) => random::text(self.seed, number, &self.material).into_bytes(),
        }
    }
}

fn even(plan: &mut Vec<Batch>, group: Group, total: u64) {
    let batch = |first| Batch { group, first, count: BATCH.min(total - first) };
    plan.extend((0..total).step_by(BATCH as usize).map(batch));
}

fn by_bytes(plan: &mut Vec<Batch>, group: Group, list: &[Vec<u8>]) {
    let (mut first, mut bytes) = (0, 0);
    for (i, text) in list.iter().enumerate() {
        bytes += text.len();
        let next = i as u64 + 1;
        if bytes >= BATCH_BYTES || next - first == BATCH || i + 1 == list.len() {
            plan.push(Batch { group, first, count: next - first });
            (first, bytes) = (next, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_every_text_once() {
        let corpus: Vec<String> = (0..3000).map(|i| format!("line {i}")).collect();
        let texts = Texts::new(Sources { corpus, count: 5000, seed: 3, ..Sources::default() });
        let of = |g| texts.batches().iter().filter(move |b| b.group == g);
        for (group, least) in [(Group::Corpus, 3000), (Group::Random, 5000), (Group::CodePoints, 2 * 17408)] {
            let (mut next, mut total) = (0, 0);
            for b in of(group) {
                assert_eq!(b.first, next, "{group:?}");
                assert_eq!(texts.of(*b).len() as u64, b.count);
                (next, total) = (b.first + b.count, total + b.count);
            }
            assert_eq!(total, least, "{group:?}");
        }
        let stray: Vec<Vec<u8>> = of(Group::Stray).flat_map(|b| texts.of(*b)).collect();
        assert!(stray.len() > 625 && stray.iter().filter(|t| std::str::from_utf8(t).is_err()).count() > 500);
    }

    #[test]
    fn only_what_was_given() {
        let texts = Texts::new(Sources { corpus: vec!["x".into()], builtin: Builtin::Nothing, ..Sources::default() });
        assert_eq!(texts.batches(), [Batch { group: Group::Corpus, first: 0, count: 1 }]);
    }

    #[test]
    fn long_texts_close_a_batch() {
        let corpus = vec!["x".repeat(BATCH_BYTES); 3];
        let texts = Texts::new(Sources { corpus, builtin: Builtin::Nothing, ..Sources::default() });
        assert_eq!(texts.batches().len(), 3);
    }

    #[test]
    fn cases_in_both_forms() {
        let list = br#"[{"text": "a", "ids": [1, 2]}]"#;
        assert_eq!(cases(list).unwrap()[0].ids, [1, 2]);
        let named = br#"{"notes": "n", "cases": [{"text": "a", "ids": [], "decoded": "a"}]}"#;
        assert_eq!(cases(named).unwrap()[0].decoded.as_deref(), Some("a"));
        assert!(cases(b"{}").unwrap_err().next_step().is_some_and(|h| h.contains("ids")));
    }
}
