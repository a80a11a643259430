//! Rules for `BITNET_FALLBACK_RULES` (docs/fallback.md): a text file becomes tables that the device matches in a bounded number of steps.
//!
//! A pattern is compiled to the positions of its words (at most 32, so that a set of them is one word of the machine) and, for each, the
//! positions that may come next. Matching walks the words of a text once for each rule; nothing is tried twice.

mod header;
mod pattern;

pub use header::header;
pub use pattern::{Pattern, MOST_POSITIONS};

use crate::error::{Error, Result};
use crate::fsio::read_capped;
use std::collections::HashMap;
use std::path::Path;

const MOST_BYTES: u64 = 65_536;
const MOST_RULES: usize = 256;
const MOST_ANSWER: usize = 256;

/// A rule of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub pattern: Pattern,
    pub answer: String,
}

/// Rules in the order of the file: the first one that matches answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Words of all patterns, ascending.
    pub words: Vec<String>,
    pub rules: Vec<Rule>,
}

/// Where in the file something is wrong, both from 1.
pub(super) struct Wrong {
    pub column: usize,
    pub what: String,
}

fn wrong<T>(column: usize, what: impl Into<String>) -> std::result::Result<T, Wrong> {
    Err(Wrong { column, what: what.into() })
}

impl Rules {
    /// # Errors
    /// `Io`, or `Input` with line and column of the first mistake.
    pub fn open(path: &Path) -> Result<Rules> {
        Rules::parse(&read_capped(path, MOST_BYTES)?).map_err(|e| e.at_file(path))
    }

    /// # Errors
    /// `Input` with line and column of the first mistake.
    pub fn parse(bytes: &[u8]) -> Result<Rules> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let good = String::from_utf8_lossy(&bytes[..e.valid_up_to()]);
            let line = good.matches('\n').count() + 1;
            let column = good.rsplit('\n').next().unwrap_or("").chars().count() + 1;
            at(line, Wrong { column, what: "this is not UTF-8".into() })
        })?;
        let mut rules = Vec::new();
        let mut seen: HashMap<Vec<String>, usize> = HashMap::new();
        for (n, line) in text.split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            let rule = rule(line).map_err(|w| at(n + 1, w))?;
            if let Some(before) = seen.insert(rule.pattern.normal.clone(), n + 1) {
                let what = format!("the same pattern as in line {before}, so this rule would never answer");
                return Err(at(n + 1, Wrong { column: 1, what }));
            }
            if rules.len() == MOST_RULES {
                return Err(at(n + 1, Wrong { column: 1, what: format!("more than {MOST_RULES} rules") }));
            }
            rules.push(rule);
        }
        if rules.is_empty() {
            return Err(Error::input("there is no rule in this file").hint(HINT));
        }
        let mut words: Vec<String> = rules.iter().flat_map(|r| r.pattern.words().map(str::to_string)).collect();
        words.sort();
        words.dedup();
        Ok(Rules { words, rules })
    }
}

const HINT: &str = "one rule a line: `turn on [the] (light|lamp) * -> light on`";

fn at(line: usize, w: Wrong) -> Error {
    Error::input(format!("line {line}, column {}: {}", w.column, w.what)).hint(HINT)
}

fn rule(line: &str) -> std::result::Result<Rule, Wrong> {
    if let Some(i) = line.chars().position(|c| c.is_control() && c != '\t') {
        return wrong(i + 1, "a control character");
    }
    let Some((pattern, answer)) = line.split_once("->") else {
        return wrong(line.chars().count() + 1, "no `->` between pattern and answer");
    };
    let arrow = pattern.chars().count() + 1;
    if pattern.trim().is_empty() {
        return wrong(1, "the pattern is empty");
    }
    let start = arrow + 2 + answer.chars().take_while(|c| c.is_whitespace()).count();
    let answer = answer.trim();
    if answer.is_empty() {
        return wrong(arrow + 2, "the answer is empty");
    }
    if answer.len() > MOST_ANSWER {
        return wrong(arrow + 2, format!("an answer of {} bytes, at most {MOST_ANSWER} are allowed", answer.len()));
    }
    if let Some(i) = answer.chars().position(|c| c == '\t') {
        return wrong(start + i, "a tab in an answer");
    }
    Ok(Rule { pattern: Pattern::parse(pattern)?, answer: answer.to_string() })
}
