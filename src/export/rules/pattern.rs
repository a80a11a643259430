//! One pattern: words, `*` for any words, `a | b`, `( )` to group, `[ ]` for what may be left out.

use super::{wrong, Wrong};

/// Words and stars of a pattern: a set of them is a u32.
pub const MOST_POSITIONS: usize = 32;
const MOST_WORD: usize = 64;
const MOST_DEPTH: usize = 8;

/// An automaton over words: position i takes `takes[i]`, and after it the positions in `follow[i]` may come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The word of each position; None is a star, any word.
    pub takes: Vec<Option<String>>,
    pub follow: Vec<u32>,
    pub first: u32,
    pub last: u32,
    /// Whether a text without words matches.
    pub empty: bool,
    /// The pattern in one spelling, to find the same one again.
    pub normal: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Sign(char),
}

/// What a part of a pattern may begin and end with.
#[derive(Clone, Copy)]
struct Part {
    first: u32,
    last: u32,
    empty: bool,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Pattern, Wrong> {
        let tokens = tokens(text)?;
        let normal = tokens
            .iter()
            .map(|(_, t)| match t {
                Token::Word(w) => w.clone(),
                Token::Sign(c) => c.to_string(),
            })
            .collect();
        let end = text.trim_end().chars().count() + 1;
        let mut p = Parser { tokens, at: 0, end, takes: Vec::new(), follow: Vec::new() };
        let whole = p.choice(0)?;
        if let Some((column, Token::Sign(c))) = p.tokens.get(p.at) {
            return wrong(*column, format!("`{c}` closes nothing"));
        }
        let Part { first, last, empty } = whole;
        Ok(Pattern { takes: p.takes, follow: p.follow, first, last, empty, normal })
    }

    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.takes.iter().flatten().map(String::as_str)
    }
}

fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '\'' || !c.is_ascii()
}

/// Words in lower case and signs, each with its column.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Wrong> {
    let mut out: Vec<(usize, Token)> = Vec::new();
    let mut open = false; // the last token is a word that may go on
    for (i, c) in text.chars().enumerate() {
        let column = i + 1;
        if !c.is_ascii() && c.is_whitespace() {
            return wrong(column, "a space that is not the ordinary one");
        }
        match (in_word(c), out.last_mut()) {
            (true, Some((start, Token::Word(w)))) if open => {
                w.push(c.to_ascii_lowercase());
                if w.len() > MOST_WORD {
                    return wrong(*start, format!("a word of more than {MOST_WORD} bytes"));
                }
            }
            (true, _) => out.push((column, Token::Word(c.to_ascii_lowercase().to_string()))),
            (false, _) if "*|()[]".contains(c) => out.push((column, Token::Sign(c))),
            (false, _) if c == ' ' || c == '\t' => {}
            _ => {
                return wrong(
                    column,
                    format!("`{c}` has no meaning in a pattern; texts are split at it, so leave it out"),
                )
            }
        }
        open = in_word(c);
    }
    Ok(out)
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    /// The column behind the pattern.
    end: usize,
    takes: Vec<Option<String>>,
    follow: Vec<u32>,
}

impl Parser {
    fn sign(&self) -> Option<char> {
        match self.tokens.get(self.at) {
            Some((_, Token::Sign(c))) => Some(*c),
            _ => None,
        }
    }

    fn column(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |(c, _)| *c)
    }

    /// `a | b | …` up to what closes it.
    fn choice(&mut self, depth: usize) -> Result<Part, Wrong> {
        let mut all = self.sequence(depth)?;
        while self.sign() == Some('|') {
            self.at += 1;
            let next = self.sequence(depth)?;
            all = Part { first: all.first | next.first, last: all.last | next.last, empty: all.empty || next.empty };
        }
        Ok(all)
    }

    fn sequence(&mut self, depth: usize) -> Result<Part, Wrong> {
        let start = self.column();
        let mut all: Option<Part> = None;
        while self.at < self.tokens.len() && !matches!(self.sign(), Some('|' | ')' | ']')) {
            let next = self.item(depth)?;
            all = Some(match all {
                None => next,
                Some(before) => self.join(before, next),
            });
        }
        match all {
            Some(part) => Ok(part),
            None => wrong(start, "nothing stands here; use `[ ]` for what may be left out"),
        }
    }

    fn join(&mut self, a: Part, b: Part) -> Part {
        for (i, follow) in self.follow.iter_mut().enumerate() {
            if a.last >> i & 1 == 1 {
                *follow |= b.first;
            }
        }
        Part {
            first: a.first | if a.empty { b.first } else { 0 },
            last: b.last | if b.empty { a.last } else { 0 },
            empty: a.empty && b.empty,
        }
    }

    fn item(&mut self, depth: usize) -> Result<Part, Wrong> {
        let Some((column, token)) = self.tokens.get(self.at).cloned() else {
            return wrong(self.end, "the pattern ends here");
        };
        self.at += 1;
        match token {
            Token::Word(w) => self.position(column, Some(w)),
            Token::Sign('*') => {
                let part = self.position(column, None)?;
                if let Some(own) = self.follow.last_mut() {
                    *own |= part.first;
                }
                Ok(Part { empty: true, ..part })
            }
            Token::Sign(open) => {
                let close = if open == '(' { ')' } else { ']' };
                if depth == MOST_DEPTH {
                    return wrong(column, format!("groups in more than {MOST_DEPTH} groups"));
                }
                let part = self.choice(depth + 1)?;
                if self.sign() != Some(close) {
                    let found = if self.at < self.tokens.len() { "closed by another sign" } else { "not closed" };
                    return wrong(column, format!("this `{open}` is {found}"));
                }
                self.at += 1;
                Ok(Part { empty: part.empty || open == '[', ..part })
            }
        }
    }

    fn position(&mut self, column: usize, takes: Option<String>) -> Result<Part, Wrong> {
        let i = self.takes.len();
        if i == MOST_POSITIONS {
            return wrong(column, format!("more than {MOST_POSITIONS} words and stars in one pattern"));
        }
        self.takes.push(takes);
        self.follow.push(0);
        Ok(Part { first: 1 << i, last: 1 << i, empty: false })
    }
}
