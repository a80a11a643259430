//! Results as text for people. Every function takes a writer, so a snapshot needs no process.

use crate::plan::{group, Plan};
use crate::program::kernels;
use std::io::{self, Write};

/// The plan, one line a part, one total a memory.
pub fn plan(out: &mut dyn Write, p: &Plan) -> io::Result<()> {
    let millions = p.low_bit_weights as f64 / 1e6;
    writeln!(
        out,
        "plan   {}  {millions:.2} M low-bit weights ({}), {} activations  ->  {}",
        p.model, p.weight_rule, p.activation_rule, p.target
    )?;
    writeln!(out, "kernels  {}", kernels::summary(&p.kernels))?;
    let parts = p.usage.iter().flat_map(|u| &u.parts);
    let width = parts.clone().map(|p| p.name.len()).max().unwrap_or(0);
    let details = parts.map(|p| p.detail.chars().count()).max().unwrap_or(0);
    for u in &p.usage {
        let whole = u.limit.unwrap_or(u.total).max(1) as f64;
        let share = |n: u64| 100.0 * n as f64 / whole;
        for (i, part) in u.parts.iter().enumerate() {
            let head = if i == 0 { u.memory.as_str() } else { "" };
            let pad = details - part.detail.chars().count();
            writeln!(
                out,
                "{head:6} {:width$}  {}{:pad$}  {:>11}  {:5.1} %",
                part.name,
                part.detail,
                "",
                group(part.bytes),
                share(part.bytes)
            )?;
        }
        let verdict = match u.limit {
            None => String::new(),
            Some(l) if u.total <= l => format!(" of {}  {:.1} %  fits", group(l), share(u.total)),
            Some(l) => format!(" of {}  {:.1} %  DOES NOT FIT, {} over", group(l), share(u.total), group(u.over())),
        };
        writeln!(out, "{:6} {:width$}  {:details$}  {:>11}{verdict}", "", "total", "", group(u.total))?;
    }
    Ok(())
}
