//! What lies beside a graph so that onnxruntime-genai, transformers and transformers.js find what they look for, each under the names that it
//! knows. All of it comes from the packed file, so that one model gives the same bytes whichever way it came.
//!
//! | file | who reads it |
//! |---|---|
//! | `tokenizer.json` | all: the tokenizer as the checkpoint had it |
//! | `tokenizer_config.json`, `special_tokens_map.json` | all: which tokens are special, the chat template |
//! | `config.json`, `generation_config.json` | transformers, optimum, transformers.js: shape of the caches, how to sample |
//! | `genai_config.json` | onnxruntime-genai: the same in its words |

mod tokenizer;

use super::int::position::max_tokens;
use crate::error::{Error, Result};
use crate::format::packed::Kind;
use crate::fsio::AtomicFile;
use crate::program::Program;
use crate::runtime::Artifact;
use crate::tokenizer::host::HostTokenizer;
use serde_json::{json, Map, Value};
use std::path::Path;

/// The file by which an earlier export is known; it is written last.
pub const CONFIG: &str = "genai_config.json";

/// The graph in such a folder.
pub const GRAPH: &str = "model.onnx";

/// Its weights: the only name that transformers.js fetches, and any will do for the others.
pub const WEIGHTS: &str = "model.onnx_data";

/// Everything beside the two.
const FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "config.json",
    "generation_config.json",
    CONFIG,
];

/// The only class of tokenizers that says no more than what is in `tokenizer.json`.
const TOKENIZER_CLASS: &str = "PreTrainedTokenizerFast";

/// The files beside a graph, not written yet.
pub struct Beside {
    contents: [Vec<u8>; FILES.len()],
    /// What a person should know about them.
    pub warnings: Vec<String>,
}

/// Special tokens by id.
struct Special {
    bos: Option<u32>,
    eos: Vec<u32>,
    /// Always there, because batches are filled up with it.
    pad: u32,
    unknown: Option<String>,
}

/// A folder with such files that no export made is somebody's checkpoint.
///
/// # Errors
/// `Usage` naming a file that would be replaced.
pub fn refuse_foreign(folder: &Path) -> Result<()> {
    if folder.join(CONFIG).exists() {
        return Ok(());
    }
    match FILES.iter().map(|name| folder.join(name)).find(|path| path.exists()) {
        Some(path) => Err(Error::usage("the output folder has this file already, and not from an earlier export")
            .at_file(&path)
            .hint("choose another folder, or remove the file")),
        None => Ok(()),
    }
}

/// What goes beside [`GRAPH`] of a program whose caches are floats.
///
/// # Errors
/// `Unsupported` for programs that generate nothing, packed files without the tokenizer of the checkpoint, and tokenizers that
/// onnxruntime-genai does not know; `Input` for a tokenizer of another model.
pub fn beside(a: &Artifact) -> Result<Beside> {
    let p = &a.program;
    if p.encoder || p.embedding().is_some() {
        return Err(Error::unsupported("this model gives vectors for texts: there is nothing to generate")
            .at_file(&a.packed.path)
            .hint("leave `--genai` out: the graph takes the ids and the mask of a text"));
    }
    let text = a.packed.section(Kind::TokenizerJson).ok_or_else(|| no_tokenizer(a))?;
    let at_tokenizer = |e: Error| e.at_file(&a.packed.path).at_offset(a.packed.offset(Kind::TokenizerJson));
    let host = HostTokenizer::from_json(text).map_err(at_tokenizer)?;
    // The library has just read it.
    let read: Value = serde_json::from_slice(text).unwrap_or_default();
    if let Some(id) = last_id(&read).filter(|id| *id >= p.vocab as u64) {
        let e = Error::input(format!("tokenizer.json has a token {id}, the model {} of them", p.vocab));
        return Err(at_tokenizer(e).hint("the tokenizer belongs to another model"));
    }
    let mut warnings = tokenizer::check(&read).map_err(at_tokenizer)?;
    if p.eos.is_empty() {
        warnings.push("the model names no token that ends a text; onnxruntime-genai takes id 0 for it".into());
    }
    let special = Special::of(p, &read);
    let template = a.manifest.as_ref().map_or("", |m| &m.chat_template);
    let named = special.named(&host);
    let mut config = named.clone();
    config.insert("tokenizer_class".into(), json!(TOKENIZER_CLASS));
    config.insert("clean_up_tokenization_spaces".into(), json!(false));
    config.insert("model_max_length".into(), json!(max_tokens(p)));
    // What is generated continues the end of a text, so the shorter ones of a batch are filled up before it.
    config.insert("padding_side".into(), json!("left"));
    if !template.is_empty() {
        config.insert("chat_template".into(), json!(template));
    }
    let contents = [
        text.to_vec(),
        pretty(&Value::Object(config)),
        pretty(&Value::Object(named)),
        pretty(&transformers(p, &special)),
        pretty(&generation(a, &special)),
        pretty(&genai(a, &special)),
    ];
    Ok(Beside { contents, warnings })
}

impl Beside {
    /// Writes all of them under names of their own, so that what cannot be written is known before the graph is.
    ///
    /// # Errors
    /// `Io`.
    pub fn create(&self, folder: &Path) -> Result<Vec<AtomicFile>> {
        let one = |(name, bytes): (&&str, &Vec<u8>)| {
            let mut file = AtomicFile::create(&folder.join(name))?;
            file.write(bytes).map(|()| file)
        };
        FILES.iter().zip(&self.contents).map(one).collect()
    }

    /// Their names.
    pub fn names(&self) -> [&'static str; FILES.len()] {
        FILES
    }
}

fn no_tokenizer(a: &Artifact) -> Error {
    let hint = match a.packed.section(Kind::Tokenizer) {
        Some(_) => "there is only its compiled form here: give the checkpoint to `--model`",
        None => "leave `--genai` out: the graph takes token ids",
    };
    Error::unsupported("`--genai` needs the tokenizer, which this model comes without")
        .at_file(&a.packed.path)
        .hint(hint)
}

fn pretty(v: &Value) -> Vec<u8> {
    format!("{v:#}\n").into_bytes()
}

impl Special {
    fn of(p: &Program, tokenizer: &Value) -> Special {
        let unknown = tokenizer["model"]["unk_token"].as_str().map(str::to_string);
        let pad = pad(tokenizer).filter(|id| (*id as usize) < p.vocab);
        // As everywhere where a tokenizer has none. What is padding says the mask, not the token.
        let pad = pad.or(p.eos.first().copied()).unwrap_or(0);
        Special { bos: p.bos, eos: p.eos.clone(), pad, unknown }
    }

    /// By the names that transformers gives them, as far as the tokenizer has a text for them.
    fn named(&self, host: &HostTokenizer) -> Map<String, Value> {
        let text = |id: Option<u32>| id.and_then(|id| host.spelling(id));
        let all = [
            ("bos_token", text(self.bos)),
            ("eos_token", text(self.eos.first().copied())),
            ("pad_token", text(Some(self.pad))),
            ("unk_token", self.unknown.clone()),
        ];
        all.into_iter().filter_map(|(name, text)| Some((name.to_string(), json!(text?)))).collect()
    }

    /// One number, or a list where there are several.
    fn eos(&self) -> Value {
        match &self.eos[..] {
            [one] => json!(one),
            all => json!(all),
        }
    }

    /// Puts the ids where all these files have them.
    fn ids(&self, into: &mut Value) {
        if let Some(bos) = self.bos {
            into["bos_token_id"] = json!(bos);
        }
        if !self.eos.is_empty() {
            into["eos_token_id"] = self.eos();
        }
        into["pad_token_id"] = json!(self.pad);
    }
}

/// The highest id of a tokenizer, added tokens included.
fn last_id(tokenizer: &Value) -> Option<u64> {
    let vocab = tokenizer["model"]["vocab"].as_object().into_iter().flatten().map(|(_, id)| id);
    let added = tokenizer["added_tokens"].as_array().into_iter().flatten().map(|t| &t["id"]);
    vocab.chain(added).filter_map(Value::as_u64).max()
}

/// The token that a tokenizer fills batches up with: the one that its own padding names, or one that is called so (`<|pad|>`, `[PAD]`).
fn pad(tokenizer: &Value) -> Option<u32> {
    let called = |t: &&Value| {
        let text = t["content"].as_str().unwrap_or("");
        let letters: String = text.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        letters.eq_ignore_ascii_case("pad")
    };
    let own = tokenizer["padding"]["pad_id"].as_u64();
    let id = own.or_else(|| tokenizer["added_tokens"].as_array()?.iter().find(called)?["id"].as_u64())?;
    u32::try_from(id).ok()
}

/// `config.json`. The readers take the shape of the caches from it, by rules that hang on the type: all know llama, and those that believe that
/// the heads of a llama share its width among them know that the heads of gemma do not.
fn transformers(p: &Program, special: &Special) -> Value {
    let shared = p.attention.heads * p.attention.head_dim == p.d_model;
    let (kind, class) = if shared { ("llama", "LlamaForCausalLM") } else { ("gemma", "GemmaForCausalLM") };
    let mut v = json!({
        "architectures": [class],
        "model_type": kind,
        "head_dim": p.attention.head_dim,
        "hidden_size": p.d_model,
        "max_position_embeddings": max_tokens(p),
        "num_attention_heads": p.attention.heads,
        "num_hidden_layers": p.layers,
        "num_key_value_heads": p.attention.kv_heads,
        "transformers.js_config": { "dtype": "fp32", "use_external_data_format": true },
        "use_cache": true,
        "vocab_size": p.vocab,
    });
    special.ids(&mut v);
    v
}

/// Whether to sample, at which temperature and among how many tokens, as the checkpoint says; else the best token each time.
fn sampling(a: &Artifact) -> Option<(f64, u32)> {
    let s = a.manifest.as_ref().and_then(|m| m.sampling.as_ref()).filter(|s| s.sample)?;
    let temperature = s.temperature.parse::<f64>().ok().filter(|t| t.is_finite() && *t > 0.0);
    Some((temperature.unwrap_or(1.0), s.top_k))
}

fn generation(a: &Artifact, special: &Special) -> Value {
    let mut v = json!({ "do_sample": false });
    if let Some((temperature, top_k)) = sampling(a) {
        v = json!({ "do_sample": true, "temperature": temperature, "top_k": top_k });
    }
    special.ids(&mut v);
    v
}

fn genai(a: &Artifact, special: &Special) -> Value {
    let p = &a.program;
    let (temperature, top_k) = sampling(a).unwrap_or((1.0, 1));
    let mut inner = json!({
        // No name of an architecture: what is in the graph is nothing that the runtime has to know.
        "type": "decoder",
        "context_length": max_tokens(p),
        "vocab_size": p.vocab,
        "decoder": {
            "filename": GRAPH,
            "head_size": p.attention.head_dim,
            "hidden_size": p.d_model,
            "num_attention_heads": p.attention.heads,
            "num_hidden_layers": p.layers,
            "num_key_value_heads": p.attention.kv_heads,
            "session_options": { "log_id": "onnxruntime-genai", "provider_options": [] },
            "inputs": {
                "input_ids": "input_ids",
                "attention_mask": "attention_mask",
                "past_key_names": "past_key_values.%d.key",
                "past_value_names": "past_key_values.%d.value",
            },
            "outputs": {
                "logits": "logits",
                "present_key_names": "present.%d.key",
                "present_value_names": "present.%d.value",
            },
        },
    });
    special.ids(&mut inner);
    json!({
        "model": inner,
        "search": {
            "do_sample": sampling(a).is_some(),
            "max_length": max_tokens(p),
            // A cache that grows: the graph appends to what it is given.
            "past_present_share_buffer": false,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": 1.0,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padding(json: &str) -> Option<u32> {
        pad(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn the_token_of_padding_is_found_by_its_name() {
        assert_eq!(
            padding(r#"{"added_tokens": [{"id": 3, "content": "<s>"}, {"id": 7, "content": "[PAD]"}]}"#),
            Some(7)
        );
        assert_eq!(
            padding(r#"{"added_tokens": [{"id": 0, "content": "<|pad|>"}], "padding": {"pad_id": 5}}"#),
            Some(5)
        );
        assert_eq!(padding(r#"{"added_tokens": [{"id": 1, "content": "<padding>"}]}"#), None);
        assert_eq!(padding(r#"{"added_tokens": [{"id": -1, "content": "<pad>"}, 7]}"#), None);
        assert_eq!(padding(r#"{"added_tokens": [{"id": 99999999999, "content": "<pad>"}]}"#), None);
        assert_eq!(padding("[]"), None);
    }

    #[test]
    fn the_last_id_is_one_of_the_vocabulary_or_an_added_one() {
        let last = |json: &str| last_id(&serde_json::from_str(json).unwrap());
        assert_eq!(last(r#"{"model": {"vocab": {"a": 3, "b": 1}}, "added_tokens": [{"id": 2}]}"#), Some(3));
        assert_eq!(last(r#"{"model": {"vocab": {"a": 3}}, "added_tokens": [{"id": 7}, {"id": -9}, "x"]}"#), Some(7));
        assert_eq!(last("[]"), None);
    }

    #[test]
    fn several_ends_are_a_list_and_none_is_no_key() {
        let of = |eos: &[u32]| {
            let mut v = json!({});
            Special { bos: None, eos: eos.to_vec(), pad: 0, unknown: None }.ids(&mut v);
            v
        };
        assert_eq!(of(&[2]), json!({ "eos_token_id": 2, "pad_token_id": 0 }));
        assert_eq!(of(&[2, 5]), json!({ "eos_token_id": [2, 5], "pad_token_id": 0 }));
        assert_eq!(of(&[]), json!({ "pad_token_id": 0 }));
    }

    #[test]
    fn a_checkpoint_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        refuse_foreign(dir.path()).unwrap();
        std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        std::fs::write(dir.path().join("model.onnx"), "a graph").unwrap();
        refuse_foreign(dir.path()).unwrap();
        std::fs::write(dir.path().join("config.json"), "{}").unwrap();
        let e = refuse_foreign(dir.path()).unwrap_err();
        assert!(e.file().unwrap().ends_with("config.json"), "{e}");
        std::fs::write(dir.path().join(CONFIG), "{}").unwrap();
        refuse_foreign(dir.path()).unwrap();
    }
}
