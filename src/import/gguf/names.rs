//! Tensors under their checkpoint's names.

use super::arch::{lookup, Family, Fused, Rope};
use super::config::Facts;
use super::Renamed;
use crate::error::{Error, Result};
use crate::format::File;
use crate::tensor::RowOrder;
use std::collections::BTreeMap;

/// Read by the configuration.
pub const ROPE_TENSORS: [&str; 3] = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];

type Names = BTreeMap<String, Renamed>;

/// # Errors
/// `Unsupported` for a tensor that has no place in the architecture, `Input` for one that stands in two files or lies outside of the layers.
pub fn rename(family: &'static Family, facts: &Facts, files: &[File]) -> Result<Names> {
    let mut names = Names::new();
    for (i, file) in files.iter().enumerate() {
        for name in file.names().filter(|n| !ROPE_TENSORS.contains(n)) {
            let shape = file.get(name).map(|v| v.shape.to_vec()).unwrap_or_default();
            let stored = Renamed { file: i, tensor: name.to_string(), shape, first: 0, rows: RowOrder::Stored };
            for (hf, renamed) in one(family, facts, stored).map_err(|e| e.at_tensor(name).at_file(&file.path))? {
                if names.insert(hf, renamed).is_some() {
                    return Err(Error::input("the model has this tensor twice").at_tensor(name).at_file(&file.path));
                }
            }
        }
    }
    Ok(names)
}

/// Checkpoint tensors that a stored one becomes.
fn one(family: &'static Family, facts: &Facts, stored: Renamed) -> Result<Vec<(String, Renamed)>> {
    let name = stored.tensor.clone();
    let unknown = || {
        Error::unsupported(format!("the tensor has no place in the architecture `{}`", family.name))
            .hint("dropping it silently would give another model; this variant is not supported")
    };
    let (stem, suffix) = name.rsplit_once('.').ok_or_else(unknown)?;
    let suffix = match suffix {
        "weight" | "bias" => suffix,
        // Ternary weights without their scale, which is multiplied after the product.
        "scale" if family.model_type == "bitnet" => "weight_scale",
        _ => return Err(unknown()),
    };
    let Some(rest) = stem.strip_prefix("blk.") else {
        let hf = lookup(family.globals, stem).ok_or_else(unknown)?;
        return Ok(vec![(format!("{hf}.{suffix}"), stored)]);
    };
    let (number, stem) = rest.split_once('.').ok_or_else(unknown)?;
    // One spelling a number: 07 and +7 would be second names of 7.
    let layer = number.parse::<usize>().ok().filter(|n| n.to_string() == number).ok_or_else(unknown)?;
    if layer >= facts.layers {
        return Err(Error::input(format!("the model has {} layers, this tensor is of layer {layer}", facts.layers)));
    }
    let prefix = format!("{}{layer}.", family.layers);
    if stem == "attn_qkv" && family.fused == Fused::Apart {
        return apart(facts, &prefix, suffix, stored);
    }
    if family.name == "stablelm" && matches!(stem, "attn_q_norm" | "attn_k_norm") {
        let hf = lookup(family.locals, stem).ok_or_else(unknown)?;
        return norms_of_heads(&format!("{prefix}{hf}.norms"), suffix, facts, &stored);
    }
    let (stem, inner) = match stem.strip_suffix("_norm_in") {
        // A norm in front of each projection.
        Some(s) if family.name == "qwen3" && suffix == "weight" => (s, ".norm"),
        _ => (stem, ""),
    };
    let hf = match stem {
        "attn_norm" if family.name == "falcon" && facts.second_norm => "ln_mlp",
        stem => lookup(family.locals, stem).ok_or_else(unknown)?,
    };
    let d = facts.head_dim;
    let rows = match stem {
        _ if suffix == "weight_scale" || !inner.is_empty() => RowOrder::Stored,
        "attn_q" | "attn_k" if family.rope == Rope::Neighbours => RowOrder::Interleaved { head_dim: d },
        "attn_qkv" if family.fused == Fused::ByKeyHead => {
            RowOrder::Grouped { groups: facts.kv_heads, queries: facts.heads / facts.kv_heads, head_dim: d }
        }
        _ => RowOrder::Stored,
    };
    let unit = match rows {
        RowOrder::Interleaved { head_dim } => head_dim,
        RowOrder::Grouped { groups, queries, head_dim } => groups * (queries + 2) * head_dim,
        _ => 1,
    };
    // Otherwise a row of the checkpoint would be outside of the tensor.
    let count = stored.shape.first().copied().unwrap_or(0);
    if count % unit != 0 || matches!(rows, RowOrder::Grouped { .. }) && count != unit {
        return Err(Error::input(format!("the tensor has {count} rows, which are no whole heads of {d}")));
    }
    Ok(vec![(format!("{prefix}{hf}{inner}.{suffix}"), Renamed { rows, ..stored })])
}

/// Queries, keys and values in one tensor, three in the checkpoint.
fn apart(facts: &Facts, prefix: &str, suffix: &str, stored: Renamed) -> Result<Vec<(String, Renamed)>> {
    let (q, kv) = (facts.heads * facts.head_dim, facts.kv_heads * facts.head_dim);
    let count = stored.shape.first().copied().unwrap_or(0);
    if count != q + 2 * kv {
        return Err(Error::input(format!("the tensor has {count} rows, {q} + {kv} + {kv} are expected")));
    }
    let mut all = Vec::new();
    for (name, first, n) in [("q", 0, q), ("k", q, kv), ("v", q + kv, kv)] {
        let mut part = Renamed { first, ..stored.clone() };
        part.shape[0] = n;
        all.push((format!("{prefix}self_attn.{name}_proj.{suffix}"), part));
    }
    Ok(all)
}

/// A row for each head, which is a tensor of its own in the checkpoint.
fn norms_of_heads(prefix: &str, suffix: &str, facts: &Facts, stored: &Renamed) -> Result<Vec<(String, Renamed)>> {
    let &[heads, width] = &stored.shape[..] else {
        return Err(Error::input(format!("the tensor has shape {:?}, a row for each head is expected", stored.shape)));
    };
    if heads != facts.heads && heads != facts.kv_heads {
        return Err(Error::input(format!("the tensor has {heads} rows, a row for each head is expected")));
    }
    let part = |h| Renamed { first: h, shape: vec![width], ..stored.clone() };
    Ok((0..heads).map(|h| (format!("{prefix}.{h}.{suffix}"), part(h))).collect())
}
