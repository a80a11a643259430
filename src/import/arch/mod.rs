//! One file an architecture: which names its tensors have and what its block looks like. [`TABLE`] lists them.

mod bitnet;
mod llama;

use super::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::model::Model;

/// An architecture that can be read.
struct Arch {
    /// What it is called in messages.
    name: &'static str,
    /// Values of `architectures[0]`; they win over `model_type`, which some uploads set to another family.
    classes: &'static [&'static str],
    model_types: &'static [&'static str],
    read: fn(Checkpoint) -> Result<Model>,
}

const TABLE: [Arch; 2] = [
    Arch {
        name: "bitnet",
        classes: &["BitNetForCausalLM", "BitnetForCausalLM"],
        model_types: &["bitnet"],
        read: bitnet::read,
    },
    Arch {
        name: "llama",
        // The other two are llama with codes of their own: import::lowbit knows them.
        classes: &["LlamaForCausalLM", "QLlamaForCausalLM", "BitLlamaForCausalLMInf"],
        model_types: &["llama", "bitllama"],
        read: llama::read,
    },
];

/// Names of the supported architectures.
pub fn supported() -> Vec<&'static str> {
    TABLE.iter().map(|a| a.name).collect()
}

pub fn read(c: Checkpoint) -> Result<Model> {
    let class = c.config.get("architectures").and_then(|a| a.get(0)).and_then(|a| a.as_str());
    let model_type = c.config.str("model_type");
    let by_class = TABLE.iter().find(|a| class.is_some_and(|c| a.classes.contains(&c)));
    let by_type = || TABLE.iter().find(|a| class.is_none() && model_type.is_some_and(|t| a.model_types.contains(&t)));
    match by_class.or_else(by_type) {
        Some(a) => (a.read)(c),
        None => {
            let what = class.or(model_type).unwrap_or("(neither `architectures` nor `model_type` is given)");
            let e = Error::unsupported(format!(
                "architecture `{what}` is not supported yet, supported are {}",
                supported().join(", ")
            ));
            Err(e.at_file(&c.config.path))
        }
    }
}
