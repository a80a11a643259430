//! Which names the tensors of an architecture have and what its block looks like. [`TABLE`] lists them; most are the block of llama with
//! differences that [`block`] can say, the others have a file of their own.

mod bert;
mod bitnet;
mod block;
mod falcon;
mod gemma;
mod gpt;
mod llama;
mod others;
mod phi;
mod qwen;
mod refused;
pub mod rope;
mod scaled;
mod whisper;

use super::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::model::Model;

/// An architecture that can be read.
struct Arch {
    /// `model_type`, and what it is called in messages.
    name: &'static str,
    /// Values of `architectures[0]`; they win over `model_type`, which some uploads set to another family.
    classes: &'static [&'static str],
    read: fn(Checkpoint) -> Result<Model>,
}

const fn arch(name: &'static str, classes: &'static [&'static str], read: fn(Checkpoint) -> Result<Model>) -> Arch {
    Arch { name, classes, read }
}

const TABLE: [Arch; 27] = [
    arch("bitnet", &["BitNetForCausalLM", "BitnetForCausalLM"], bitnet::read),
    arch("llama", &["LlamaForCausalLM", "LlamaModel", "QLlamaForCausalLM"], llama::read),
    arch("bitllama", &["BitLlamaForCausalLM", "BitLlamaForCausalLMInf"], llama::read),
    arch("mobilellm", &["MobileLLMForCausalLM"], llama::read),
    arch("mistral", &["MistralForCausalLM", "MistralModel"], llama::mistral),
    arch("qwen2", &["Qwen2ForCausalLM", "Qwen2Model"], qwen::qwen2),
    arch("qwen3", &["Qwen3ForCausalLM", "Qwen3Model"], qwen::qwen3),
    arch("phi", &["PhiForCausalLM"], phi::phi),
    arch("phi3", &["Phi3ForCausalLM"], phi::phi3),
    arch("gemma", &["GemmaForCausalLM"], gemma::gemma),
    arch("gemma2", &["Gemma2ForCausalLM"], gemma::gemma2),
    arch("gemma3_text", &["Gemma3ForCausalLM", "Gemma3TextModel"], gemma::gemma3),
    arch("gemma3", &["Gemma3ForConditionalGeneration"], gemma::gemma3),
    arch("gpt2", &["GPT2LMHeadModel", "GPT2Model"], gpt::gpt2),
    arch("gpt_neo", &["GPTNeoForCausalLM", "GPTNeoModel"], gpt::gpt_neo),
    arch("gpt_neox", &["GPTNeoXForCausalLM"], gpt::gpt_neox),
    arch("stablelm", &["StableLmForCausalLM"], others::stablelm),
    arch("falcon", &["FalconForCausalLM"], falcon::read),
    arch("smollm3", &["SmolLM3ForCausalLM"], others::smollm3),
    arch("olmo2", &["Olmo2ForCausalLM"], others::olmo2),
    arch("granite", &["GraniteForCausalLM"], scaled::granite),
    arch("minicpm", &["MiniCPMForCausalLM"], scaled::minicpm),
    arch("hunyuan_v1_dense", &["HunYuanDenseV1ForCausalLM"], others::hunyuan),
    arch("bert", &["BertModel", "BertForMaskedLM", "BertForPreTraining"], bert::bert),
    arch("roberta", &["RobertaModel", "RobertaForMaskedLM"], bert::roberta),
    arch("distilbert", &["DistilBertModel", "DistilBertForMaskedLM"], bert::distilbert),
    arch("whisper", &["WhisperForConditionalGeneration"], whisper::read),
];

/// Names of the supported architectures.
pub fn supported() -> Vec<&'static str> {
    TABLE.iter().map(|a| a.name).collect()
}

/// # Errors
/// `Unsupported` for architectures that are not in the table, with the reason where it is known; else what the reader finds.
pub fn read(c: Checkpoint) -> Result<Model> {
    refused::check(&c)?;
    let class = c.config.class();
    let model_type = c.config.str("model_type");
    let by_class = TABLE.iter().find(|a| class.is_some_and(|c| a.classes.contains(&c)));
    let by_type = || TABLE.iter().find(|a| class.is_none() && model_type == Some(a.name));
    match by_class.or_else(by_type) {
        Some(a) => (a.read)(c),
        // Some early encoders say nothing; their names are unmistakable.
        None if class.or(model_type).is_none() && c.find("encoder.layer.0.attention.self.query.weight").is_some() => {
            bert::bert(c)
        }
        None => {
            let what = class.or(model_type).unwrap_or("(neither `architectures` nor `model_type` is given)");
            let known = supported().join(", ");
            let e = Error::unsupported(format!("architecture `{what}` is not supported yet, supported are {known}"));
            Err(e.at_file(&c.config.path))
        }
    }
}
