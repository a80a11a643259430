//! Tensors and modules of a layer, under the number that it gets.

use crate::error::{Error, Result};
use crate::model::Model;
use std::collections::BTreeSet;

/// The layers of a checkpoint: how their names begin, and which of them stay.
#[derive(Debug, Clone, PartialEq)]
pub struct Stack {
    /// What stands before the number, e.g. `model.layers.`; files of one model may differ in it.
    prefixes: BTreeSet<String>,
    pub total: usize,
    /// Ascending.
    pub kept: Vec<usize>,
}

/// Splits `3.mlp` and `3` into number and rest.
fn number(text: &str) -> Option<(usize, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let rest = &text[digits..];
    let n = text[..digits].parse().ok()?;
    (rest.is_empty() || rest.starts_with('.')).then_some((n, rest))
}

impl Stack {
    /// Finds the names in a model that was read, whatever its architecture calls them.
    ///
    /// # Errors
    /// `Unsupported` if a layer's tensors do not carry its number.
    pub fn of(model: &Model, kept: &[usize]) -> Result<Stack> {
        let mut prefixes = BTreeSet::new();
        for (i, layer) in model.layers.iter().enumerate() {
            for l in layer.projections() {
                let name = &l.weight.tensor.name;
                let starts = std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1));
                let at = starts.into_iter().find(|at| number(&name[*at..]).is_some_and(|(n, _)| n == i));
                let at = at.ok_or_else(|| {
                    Error::unsupported(format!("this tensor of layer {i} does not carry its number")).at_tensor(name)
                })?;
                prefixes.insert(name[..at].to_string());
            }
        }
        Ok(Stack::new(prefixes, model.layers.len(), kept))
    }

    pub fn new(prefixes: BTreeSet<String>, total: usize, kept: &[usize]) -> Stack {
        Stack { prefixes, total, kept: kept.to_vec() }
    }

    /// Whether all layers stay.
    pub fn is_whole(&self) -> bool {
        self.kept.len() == self.total
    }

    /// The new number of a layer; None if it is removed.
    pub fn new_index(&self, old: usize) -> Option<usize> {
        self.kept.binary_search(&old).ok()
    }

    /// Layer of a tensor.
    pub fn layer_of(&self, tensor: &str) -> Option<usize> {
        let of = |p: &String| Some(number(tensor.strip_prefix(p.as_str())?)?.0);
        self.prefixes.iter().find_map(of).filter(|n| *n < self.total)
    }

    /// The new name of a tensor; None if its layer is removed.
    pub fn tensor(&self, name: &str) -> Option<String> {
        for p in &self.prefixes {
            let Some((old, rest)) = name.strip_prefix(p.as_str()).and_then(number) else { continue };
            if old < self.total {
                return self.new_index(old).map(|new| format!("{p}{new}{rest}"));
            }
        }
        Some(name.to_string())
    }

    /// The new name of a module that a configuration names, with or without the first parts of its path; None if its layer is removed.
    ///
    /// # Errors
    /// `Unsupported` for a pattern over numbered layers.
    pub fn module(&self, name: &str) -> Result<Option<String>> {
        let same = |path: &str, p: &str| {
            let ends = |a: &str, b: &str| a.strip_suffix(b).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            !path.is_empty() && (ends(path, p) || ends(p, path))
        };
        for (at, _) in name.match_indices('.') {
            let (path, rest) = name.split_at(at + 1);
            let Some((old, rest)) = number(rest) else { continue };
            if old < self.total && self.prefixes.iter().any(|p| same(path, p)) {
                return Ok(self.new_index(old).map(|new| format!("{path}{new}{rest}")));
            }
        }
        let word = |p: &String| p.trim_end_matches('.').rsplit('.').next().unwrap_or_default().to_string();
        if self.prefixes.iter().any(|p| name.contains(&format!("{}\\.", word(p)))) {
            let what =
                format!("the configuration names modules by the pattern `{name}`, whose layers cannot be renumbered");
            return Err(Error::unsupported(what).hint("write the names of the modules instead"));
        }
        Ok(Some(name.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(prefix: &str, kept: &[usize]) -> Stack {
        Stack::new(BTreeSet::from([prefix.to_string()]), 12, kept)
    }

    #[test]
    fn tensors_of_layers_move_and_others_stay() {
        let s = stack("model.layers.", &[0, 3, 11]);
        assert_eq!(s.tensor("model.layers.3.mlp.up_proj.weight").unwrap(), "model.layers.1.mlp.up_proj.weight");
        assert_eq!(
            s.tensor("model.layers.11.q_layernorm.norms.7.weight").unwrap(),
            "model.layers.2.q_layernorm.norms.7.weight"
        );
        assert_eq!(s.tensor("model.layers.1.mlp.up_proj.weight"), None);
        for same in
            ["model.layers.12.x", "vision.encoder.layers.1.x", "lm_head.weight", "model.layers.1x", "model.layers."]
        {
            assert_eq!(s.tensor(same).unwrap(), same);
        }
        assert_eq!(stack("h.", &[5]).tensor("h.5.attn.bias").unwrap(), "h.0.attn.bias");
        assert_eq!(s.layer_of("model.layers.11.a"), Some(11));
        assert_eq!(s.layer_of("model.norm.weight"), None);
    }

    #[test]
    fn modules_of_configurations_move_with_shorter_and_longer_paths() {
        let s = stack("model.layers.", &[0, 3]);
        let moved = |n: &str| s.module(n).unwrap();
        assert_eq!(moved("model.layers.3.self_attn").as_deref(), Some("model.layers.1.self_attn"));
        assert_eq!(moved("layers.3").as_deref(), Some("layers.1"));
        assert_eq!(moved("language_model.model.layers.3.mlp").as_deref(), Some("language_model.model.layers.1.mlp"));
        assert_eq!(moved("model.layers.2.mlp"), None);
        for same in ["lm_head", "vision.encoder.layers.2.fc1", "model.norm", "q_proj", "3"] {
            assert_eq!(moved(same).as_deref(), Some(same));
        }
        assert!(s.module("re:model\\.layers\\.3\\..*").is_err());
    }
}
