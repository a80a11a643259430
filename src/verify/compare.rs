//! The first place where two runs differ, in words.

use super::PromptTrace;
use crate::program::Program;

pub fn part_name(p: &Program, part: usize) -> String {
    match part {
        0 => "the embedding".into(),
        n if n == p.layers + 1 => "the head".into(),
        n => format!("layer {}", n - 1),
    }
}

/// None: they are equal.
pub fn difference(p: &Program, want: &[PromptTrace], got: &[PromptTrace]) -> Option<String> {
    if want.len() != got.len() {
        return Some(format!("{} prompts ran, {} were expected", got.len(), want.len()));
    }
    for (i, (w, g)) in want.iter().zip(got).enumerate() {
        for (pos, (a, b)) in w.tokens.iter().zip(&g.tokens).enumerate() {
            if let Some(n) = a.iter().zip(b).position(|(a, b)| a != b) {
                let name = p.ops.get(n).map_or("", |op| op.kind.name());
                let part = part_name(p, p.trace_slot(n));
                return Some(format!("prompt {i}, token {pos}, {part}, operation {n} ({name})"));
            }
            if a.len() != b.len() {
                return Some(format!("prompt {i}, token {pos}: {} operations ran, {} were expected", b.len(), a.len()));
            }
        }
        if w.tokens.len() != g.tokens.len() {
            return Some(format!("prompt {i}: {} tokens ran, {} were expected", g.tokens.len(), w.tokens.len()));
        }
        if let Some(n) = w.choices.iter().zip(&g.choices).position(|(a, b)| a != b) {
            return Some(format!("prompt {i}: greedy token {n}"));
        }
        if w.choices.len() != g.choices.len() {
            return Some(format!("prompt {i}: {} greedy tokens, {} were expected", g.choices.len(), w.choices.len()));
        }
    }
    None
}
