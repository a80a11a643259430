//! What the kernels of the C runtime cost on a processor: `data/costs.toml`, measured by counting instructions.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const FILE: &str = include_str!("data/costs.toml");

/// Instructions of one LINEAR: `weight` times rows times columns, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    pub weight: f64,
    pub row: f64,
    /// Of what is made of the codes: planes or tables. Shared by the matrices of one input.
    pub column: f64,
    pub call: f64,
}

impl Cost {
    /// Of a matrix, without what is shared.
    pub fn alone(&self, rows: usize, cols: usize) -> f64 {
        self.weight * rows as f64 * cols as f64 + self.row * rows as f64 + self.call
    }

    /// Of what is made of the codes.
    pub fn shared(&self, cols: usize) -> f64 {
        self.column * cols as f64
    }
}

/// The costs of one processor, by the names of the file. A kernel that is not there is not offered.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Costs(BTreeMap<String, Cost>);

impl Costs {
    pub fn get(&self, kernel: &str) -> Option<Cost> {
        self.0.get(kernel).copied()
    }
}

/// All rows, by name.
fn all() -> BTreeMap<String, Costs> {
    // The file is part of the program and a test parses it.
    toml::from_str(FILE).unwrap_or_else(|e| unreachable!("{e}"))
}

/// Names of the rows.
pub fn names() -> Vec<String> {
    all().into_keys().collect()
}

/// One row; empty if there is none of that name.
pub fn costs(row: &str) -> Costs {
    all().remove(row).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_row_offers_a_kernel_for_every_weight() {
        for (name, row) in super::all() {
            assert!(row.get("select").is_some() && row.get("select_ternary").is_some(), "{name}");
            for (kernel, c) in &row.0 {
                assert!(c.weight > 0.0 && c.row >= 0.0 && c.column >= 0.0 && c.call >= 0.0, "{name} {kernel}");
            }
        }
    }
}
