//! How byte-pair encoding reaches a token.
//!
//! A token is reached if encoding its own text ends in it. That run merges some pairs, always the one of the lowest rank next. A tokenizer that has
//! lost other merges but none of these makes the same choices, since what it still has is a subset with the same winner at every step; so a
//! token stays reachable if everything that its run passes through is kept. By the same argument a text is encoded as before if every token
//! of its encoding is kept with its run.

use super::super::compile::json::invalid;
use super::super::TokenizerError;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

/// Longer tokens are not looked into; the longest real ones are rows of 128 spaces.
const MAX_SYMBOLS: usize = 256;

pub struct Merges {
    /// Pair → rank and result.
    pairs: HashMap<(u32, u32), (usize, u32)>,
    /// Put before every symbol but the first, and after the last, of a word.
    prefix: String,
    suffix: String,
}

/// The tokens that a run passes through, itself included, and the rank of its last merge (none for a single symbol).
pub struct Run {
    pub through: BTreeSet<u32>,
    pub rank: Option<usize>,
}

/// The two parts of a merge, in either of the forms that files use.
pub fn parts(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(line) => line.split_once(' ').filter(|(_, right)| !right.contains(' ')),
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(left), Value::String(right)] => Some((left, right)),
            _ => None,
        },
        _ => None,
    }
}

impl Merges {
    /// # Errors
    /// `Invalid` for merges of tokens that are not in the vocabulary.
    pub fn read(model: &Value, ids: &HashMap<&str, u32>) -> Result<Merges, TokenizerError> {
        let text = |key: &str| model.get(key).and_then(Value::as_str).unwrap_or("").to_string();
        let (prefix, suffix) = (text("continuing_subword_prefix"), text("end_of_word_suffix"));
        let mut pairs = HashMap::new();
        for (rank, merge) in model.get("merges").and_then(Value::as_array).into_iter().flatten().enumerate() {
            if is_header(merge) {
                continue;
            }
            let bad = || invalid("model.merges", format!("{merge} is not two tokens whose result is a token"));
            let (left, right) = parts(merge).ok_or_else(bad)?;
            let result = result(left, right, &prefix);
            let id = |t: &str| ids.get(t).copied().ok_or_else(bad);
            pairs.insert((id(left)?, id(right)?), (rank, id(&result)?));
        }
        Ok(Merges { pairs, prefix, suffix })
    }

    /// Whether a token is a single symbol, which no merge makes.
    pub fn is_symbol(&self, token: &str) -> bool {
        self.symbols(token).is_some_and(|s| s.len() == 1)
    }

    /// The symbols that encoding the text of a token starts from.
    fn symbols(&self, token: &str) -> Option<Vec<String>> {
        let marked = !self.prefix.is_empty() && token.starts_with(&self.prefix) && token.len() > self.prefix.len();
        let body = if marked { &token[self.prefix.len()..] } else { token };
        let last = !self.suffix.is_empty() && body.ends_with(&self.suffix) && body.len() > self.suffix.len();
        let body = if last { &body[..body.len() - self.suffix.len()] } else { body };
        let count = body.chars().take(MAX_SYMBOLS + 1).count();
        if !(1..=MAX_SYMBOLS).contains(&count) {
            return None;
        }
        let symbol = |(i, c): (usize, char)| {
            let prefix = if marked || i > 0 { &self.prefix[..] } else { "" };
            let suffix = if last && i == count - 1 { &self.suffix[..] } else { "" };
            format!("{prefix}{c}{suffix}")
        };
        Some(body.chars().enumerate().map(symbol).collect())
    }

    /// How the text of a token becomes the token; None if it becomes something else.
    pub fn run(&self, token: &str, id: u32, ids: &HashMap<&str, u32>) -> Option<Run> {
        let symbols = self.symbols(token)?;
        let mut word = symbols.iter().map(|s| ids.get(&s[..]).copied()).collect::<Option<Vec<u32>>>()?;
        let mut through: BTreeSet<u32> = word.iter().copied().collect();
        let mut last = None;
        while word.len() > 1 {
            let known = word.windows(2).enumerate().filter_map(|(i, p)| self.pairs.get(&(p[0], p[1])).map(|m| (m, i)));
            let (&(rank, made), at) = known.min_by_key(|((rank, _), i)| (*rank, *i))?;
            word[at] = made;
            word.remove(at + 1);
            through.insert(made);
            last = Some(rank);
        }
        (word == [id]).then_some(Run { through, rank: last })
    }

    /// Whether a merge can still happen, and makes something, when only these tokens are left.
    pub fn survives(&self, merge: &Value, kept: impl Fn(&str) -> bool) -> bool {
        let Some((left, right)) = parts(merge) else { return is_header(merge) };
        kept(left) && kept(right) && kept(&result(left, right, &self.prefix))
    }
}

/// The first line of merges.txt, which some converters keep.
fn is_header(merge: &Value) -> bool {
    merge.as_str().is_some_and(|line| line.starts_with("#version"))
}

fn result(left: &str, right: &str, prefix: &str) -> String {
    let right = right.strip_prefix(prefix).unwrap_or(right);
    format!("{left}{right}")
}
