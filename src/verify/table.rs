//! The report as text: one line a runner, what needs more words below its line.

use super::{Outcome, Report, Row};
use std::io::{self, Write};

const HEAD: [&str; 9] = ["target", "emulator", "kernels", "result", "tokens", "insn/token", "flash", "RAM", "fits"];
/// Columns of numbers stand at the right of their column.
const RIGHT: [bool; 9] = [false, false, false, false, true, true, true, true, false];
/// Width that lines of words are broken at.
const WIDTH: usize = 116;

/// 1234567 as `1,234,567`.
fn number(n: Option<u64>) -> String {
    n.map_or("-".into(), crate::plan::group)
}

fn cells(r: &Row) -> [String; 9] {
    let result = match r.outcome {
        Outcome::Equal => "equal",
        Outcome::Differs { .. } => "DIFFERS",
        Outcome::NotRun { .. } => "not run",
    };
    let fits = r.fits.as_ref().map_or("-", |f| if f.board { "yes" } else { "no" });
    [
        r.runner.clone(),
        r.emulator.clone(),
        r.kernels.clone(),
        result.into(),
        if r.tokens == 0 { "-".into() } else { r.tokens.to_string() },
        number(r.instructions_per_token),
        number(r.flash_bytes),
        number(r.ram_bytes),
        fits.into(),
    ]
}

/// What does not fit into a cell.
fn below(r: &Row) -> Vec<String> {
    let mut lines = Vec::new();
    match &r.outcome {
        Outcome::Equal => {}
        // Else it broke before there was something to compare.
        Outcome::Differs { at } if at.starts_with("prompt ") => lines.push(format!("at {at}")),
        Outcome::Differs { at } => lines.extend(at.lines().map(str::to_string)),
        Outcome::NotRun { why, install } => {
            let how = install.as_ref().map_or(String::new(), |i| format!("; {i}"));
            lines.push(format!("not run because {why}{how}"));
        }
    }
    lines.extend(r.fits.iter().filter(|f| !f.board).map(|f| format!("does not fit the board: {}", f.why)));
    lines.extend(r.notes.iter().cloned());
    lines
}

/// Writes the table, 120 columns wide at most for the names that there are.
///
/// # Errors
/// Of the writer.
pub fn table(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    let rolled = if r.beyond_window { ", beyond the window" } else { "" };
    let operations = crate::plan::group(r.operations_compared as u64);
    let prompts = if r.prompts == 1 { "1 prompt".to_string() } else { format!("{} prompts", r.prompts) };
    writeln!(out, "verify {}: {prompts}, {} tokens{rolled}, {operations} operations\n", r.artifact, r.tokens)?;
    let rows: Vec<[String; 9]> = r.rows.iter().map(cells).collect();
    let head = HEAD.map(String::from);
    let width = |c: usize| rows.iter().chain([&head]).map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: [usize; 9] = std::array::from_fn(width);
    let line = |out: &mut dyn Write, cells: &[String; 9]| {
        let padded = cells.iter().zip(widths).zip(RIGHT).map(|((cell, w), right)| match right {
            true => format!("{cell:>w$}"),
            false => format!("{cell:w$}"),
        });
        writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    line(out, &head)?;
    for (cells, row) in rows.iter().zip(&r.rows) {
        line(out, cells)?;
        for text in below(row) {
            text.lines().try_for_each(|l| wrapped(out, l))?;
        }
    }
    if !r.notes.is_empty() {
        writeln!(out)?;
    }
    for n in &r.notes {
        writeln!(out, "note: {n}")?;
    }
    Ok(())
}

/// A line in pieces of at most [`WIDTH`] characters, broken at blanks.
fn wrapped(out: &mut dyn Write, text: &str) -> io::Result<()> {
    let mut line = String::new();
    let mut indent = "    ";
    for word in text.split_whitespace() {
        if !line.is_empty() && indent.len() + line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(out, "{indent}{line}")?;
            line.clear();
            indent = "      ";
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    if line.is_empty() {
        return Ok(());
    }
    writeln!(out, "{indent}{line}")
}
