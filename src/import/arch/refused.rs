//! Architectures that are not read, and why. Most of them would be refused anyway for tensors without a place; this gives the reason.

use crate::error::{Error, Result};
use crate::import::checkpoint::Checkpoint;

const MOE: &str = "a mixture of experts, whose router is not supported";
const RECURRENT: &str = "a recurrent network, no transformer";
const LINEAR: &str = "a hybrid with linear attention (gated delta rule)";
const OLMO: &str = "the first OLMo, with norms without gain; as OLMo-Bitnet it has the layout of its own code";

/// Parts of `architectures[0]` or `model_type`, in lower case without underscores, and the reason.
const REASONS: [(&[&str], &str); 9] = [
    (
        &["hadamard"],
        "a model whose weights are stored in a rotated basis; read as they are they would give wrong answers",
    ),
    (&["moe", "mixtral", "deepseekv2", "deepseekv3", "gptoss", "maple", "dbrx", "jamba"], MOE),
    (&["qwen35", "qwen3next"], LINEAR),
    (&["hgrn", "mamba", "rwkv", "recurrentgemma"], RECURRENT),
    (&["olmoforcausallm", "olmomodelforcausallm", "hfolmo"], OLMO),
    (&["minicpm3", "deepseek"], "latent attention (keys and values from a compressed state)"),
    (&["gemma3n", "gemma4"], "embeddings for each layer"),
    (&["t5for", "bartfor", "marianmt", "pegasus"], "an encoder with a decoder for text"),
    (&["sequenceclassification", "tokenclassification", "questionanswering"], "a head that gives classes, no tokens"),
];

/// # Errors
/// `Unsupported` with the reason.
pub fn check(c: &Checkpoint) -> Result<()> {
    let cfg = &c.config;
    let class = cfg.class();
    for name in [class, cfg.str("model_type")].into_iter().flatten() {
        let plain: String = name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect();
        if let Some((_, why)) = REASONS.iter().find(|(parts, _)| parts.iter().any(|p| plain.contains(p))) {
            return Err(refuse(c, &format!("architecture `{name}` is not supported: it is {why}")));
        }
    }
    // An older type than its name.
    if class.is_none() && cfg.str("model_type") == Some("olmo") {
        return Err(refuse(c, &format!("architecture `olmo` is not supported: it is {OLMO}")));
    }
    for key in ["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"] {
        if cfg.usize(key, 0..=1 << 20)?.is_some_and(|n| n > 1) {
            return Err(refuse(c, &format!("`{key}` is above 1: this is {MOE}")));
        }
    }
    Ok(())
}

fn refuse(c: &Checkpoint, what: &str) -> Error {
    Error::unsupported(what).at_file(&c.config.path)
}
