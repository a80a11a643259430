//! A smaller vocabulary: `tokenizer.json` in, `tokenizer.json` out, and which old id each new one was.
//!
//! Text is never lost to it. What a dropped token spelled is spelled by shorter ones, down to single bytes, which are kept: the alphabet of
//! byte-level tokenizers, `<0x00>` to `<0xFF>` where those are the fallback. Where a tokenizer has neither, but an unknown token, characters come
//! before longer tokens and what is still missing becomes the unknown token, as before.
//!
//! | model | a kept token needs | most useful first |
//! |---|---|---|
//! | BPE | every token that its own encoding passes through (`merges`) | rank of the merge that makes it |
//! | Unigram | nothing: fewer rivals cannot worsen its place | score |
//! | WordPiece | nothing: it still is the longest match | id |
//!
//! New ids are dense and in the order of the old ones. Rows of a model beyond the tokenizer have no text and no new id.

mod merges;
mod parts;

use super::compile::json::{invalid, unsupported};
use super::host::HostTokenizer;
use super::TokenizerError;
use crate::error::{Error, Result};
use merges::Merges;
use parts::Vocab;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

/// What to keep.
pub struct Keep<'a> {
    pub choice: Choice<'a>,
    /// Ids that stay whatever the choice: those that the model's configuration names, as `eos_token_id`.
    pub always: &'a [u32],
}

pub enum Choice<'a> {
    /// The most useful tokens, at most this many.
    Size(usize),
    /// What a corpus used, by id ([`count`]): the most used first, and what they need. Texts of the corpus are encoded as before if there is no
    /// limit, or it was not reached.
    Used { counts: &'a [u64], at_most: Option<usize> },
}

/// A trimmed tokenizer.
#[derive(Debug)]
pub struct Trimmed {
    pub tokenizer_json: Vec<u8>,
    /// New id → old id, ascending: the rows of the embedding to keep.
    pub kept: Vec<u32>,
}

impl Trimmed {
    /// Old id → new id; None if it was dropped. For `eos_token_id` and the like.
    pub fn new_id(&self, old: u32) -> Option<u32> {
        self.kept.binary_search(&old).ok().map(|i| i as u32)
    }
}

/// How often each id occurs in texts, as the tokenizer encodes them one by one.
///
/// # Errors
/// `Input` if the tokenizer or a text is not accepted by the reference library.
pub fn count<'a>(tokenizer_json: &[u8], texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<u64>> {
    let tokenizer = HostTokenizer::from_json(tokenizer_json)?;
    let mut counts = Vec::new();
    for text in texts {
        for id in tokenizer.encode(text)? {
            let id = id as usize;
            if id >= counts.len() {
                counts.resize(id + 1, 0);
            }
            counts[id] += 1;
        }
    }
    Ok(counts)
}

/// Trims a tokenizer.
///
/// # Errors
/// `Input` if the file contradicts itself, `Unsupported` for models other than BPE, Unigram and WordPiece, `Usage` if not even what every text
/// needs fits the size.
pub fn trim(tokenizer_json: &[u8], keep: &Keep) -> Result<Trimmed> {
    let mut file: Value =
        serde_json::from_slice(tokenizer_json).map_err(|e| Error::from(TokenizerError::Json(e.to_string())))?;
    let kept = choose(&file, keep)?;
    parts::rewrite(&mut file, &kept)?;
    let tokenizer_json = serde_json::to_vec(&file).map_err(|e| Error::from(TokenizerError::Json(e.to_string())))?;
    Ok(Trimmed { tokenizer_json, kept })
}

/// When a token is taken.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// More occurrences come first.
    Used(std::cmp::Reverse<u64>),
    Alphabet,
    Made(u64),
    /// No text is encoded to it.
    Unreachable,
}

struct Candidate {
    class: Class,
    id: u32,
    needs: BTreeSet<u32>,
}

/// Every token of the model with the reason to take it.
fn candidates(vocab: &Vocab, merges: Option<&Merges>, counts: &[u64]) -> Vec<Candidate> {
    let ids: HashMap<&str, u32> = vocab.model.iter().map(|(t, id)| (*t, *id)).collect();
    let candidate = |(&(token, id), order): (&(&str, u32), &u64)| {
        let run = merges.map(|m| m.run(token, id, &ids));
        let class = match (&run, counts.get(id as usize)) {
            (_, Some(n)) if *n > 0 => Class::Used(std::cmp::Reverse(*n)),
            _ if !vocab.byte_fallback && vocab.is_symbol(token, merges) => Class::Alphabet,
            (None, _) => Class::Made(*order),
            (Some(Some(run)), _) => Class::Made(run.rank.map_or(u64::MAX, |r| r as u64)),
            // Found as a whole word, before any merge.
            (Some(None), _) if vocab.ignore_merges => Class::Made(u64::MAX),
            (Some(None), _) => Class::Unreachable,
        };
        let needs = run.flatten().map_or(BTreeSet::from([id]), |run| run.through);
        Candidate { class, id, needs }
    };
    vocab.model.iter().zip(&vocab.order).map(candidate).collect()
}

/// The old ids that stay, ascending.
fn choose(file: &Value, keep: &Keep) -> Result<Vec<u32>> {
    let vocab = Vocab::read(file)?;
    let merges = vocab.merges(file)?;
    let (counts, limit) = match keep.choice {
        Choice::Size(n) => (None, Some(n)),
        Choice::Used { counts, at_most } => (Some(counts), at_most),
    };
    let mut candidates = candidates(&vocab, merges.as_ref(), counts.unwrap_or(&[]));
    let mut kept = vocab.required(file, merges.as_ref())?;
    if let Some(id) = keep.always.iter().find(|id| !vocab.has(**id)) {
        let what = format!("id {id} of the model's configuration is no token of the tokenizer");
        return Err(Error::input(what).hint("config.json and tokenizer.json contradict each other"));
    }
    kept.extend(keep.always);
    // An added token is matched before any merge, so it needs no run of its own.
    let added: BTreeSet<u32> = vocab.added.iter().map(|(_, id)| *id).collect();
    let mut needed = BTreeSet::new();
    for c in candidates.iter().filter(|c| kept.contains(&c.id) && !added.contains(&c.id)) {
        needed.extend(&c.needs);
    }
    kept.append(&mut needed);
    if let Some(n) = limit.filter(|n| *n < kept.len()) {
        let least = kept.len();
        return Err(Error::usage(format!("a vocabulary of {n} is too small for this tokenizer, it needs {least}"))
            .hint("special tokens, and those that spell any text, are never dropped"));
    }
    candidates.sort_by(|a, b| (&a.class, a.id).cmp(&(&b.class, b.id)));
    // A corpus says what is used; characters that it has not are kept all the same, longer tokens are not.
    for c in candidates.iter().filter(|c| counts.is_none() || c.class <= Class::Alphabet) {
        let new = c.needs.iter().filter(|id| !kept.contains(id)).count();
        if limit.is_none_or(|n| kept.len() + new <= n) {
            kept.extend(&c.needs);
        }
    }
    Ok(kept.into_iter().collect())
}
