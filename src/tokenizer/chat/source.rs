//! Where the template of a checkpoint is, and what it calls its tokens.

use super::derive::{derive, Derived, Literals};
use super::jinja::Template;
use crate::error::{Error, Result};
use crate::fsio::read_capped;
use crate::limits::MAX_JSON_BYTES;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// A chat template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// In Jinja; empty: there is none.
    pub template: String,
    /// `bos_token` and the like.
    pub tokens: BTreeMap<String, String>,
}

impl Source {
    /// Of `chat_template.jinja`, which wins, and of `tokenizer_config.json`.
    pub fn new(file: Option<String>, config: Option<&Value>) -> Source {
        let field = config.and_then(|c| c.get("chat_template"));
        // Several of them have names; transformers takes the one called default.
        let named = |all: &Value| {
            let mut all = all.as_array()?.iter();
            let default = all.find(|t| t.get("name").and_then(Value::as_str) == Some("default"))?;
            default.get("template")?.as_str().map(str::to_string)
        };
        let in_config = field.and_then(|f| f.as_str().map(str::to_string).or_else(|| named(f)));
        let text = |v: &Value| v.as_str().or_else(|| v.get("content")?.as_str()).map(str::to_string);
        let fields = config.and_then(Value::as_object).into_iter().flatten();
        let tokens = fields.filter(|(name, _)| name.ends_with("_token"));
        Source {
            template: file.or(in_config).unwrap_or_default(),
            tokens: tokens.filter_map(|(name, v)| Some((name.clone(), text(v)?))).collect(),
        }
    }

    /// Of a model that was read.
    pub fn of_parts(template: &str, tokens: &BTreeMap<String, String>, json: &[u8], ids: &[(&str, u32)]) -> Source {
        let mut source = Source { template: template.into(), tokens: tokens.clone() };
        source.name_tokens(json, ids);
        source
    }

    /// Of a folder with a tokenizer.
    ///
    /// # Errors
    /// `Io` or `Input` naming the file.
    pub fn of_folder(folder: &Path) -> Result<Source> {
        let read = |name: &str| -> Result<Option<Vec<u8>>> {
            let path = folder.join(name);
            path.is_file().then(|| read_capped(&path, MAX_JSON_BYTES)).transpose()
        };
        let file = read("chat_template.jinja")?.map(|d| String::from_utf8_lossy(&d).into_owned());
        let config: Option<Value> = match read("tokenizer_config.json")? {
            None => None,
            Some(data) => Some(serde_json::from_slice(&data).map_err(|e| {
                Error::input(format!("this is no valid JSON: {e}")).at_file(&folder.join("tokenizer_config.json"))
            })?),
        };
        Ok(Source::new(file, config.as_ref()))
    }

    /// With the names of tokens that are known by their ids only.
    pub fn name_tokens(&mut self, tokenizer_json: &[u8], ids: &[(&str, u32)]) {
        let added = added_tokens(tokenizer_json);
        for (name, id) in ids {
            let content = added.iter().find(|t| t.get("id").and_then(Value::as_u64) == Some(u64::from(*id)));
            if let Some(text) = content.and_then(|t| t.get("content")?.as_str()) {
                self.tokens.entry(name.to_string()).or_insert_with(|| text.to_string());
            }
        }
    }

    /// The reference: the template itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn template(&self) -> std::result::Result<Template, String> {
        Template::new(&self.template, self.tokens.clone())
    }

    /// The device's form.
    ///
    /// # Errors
    /// Why there is none.
    pub fn derive(&self, tokenizer_json: &[u8]) -> std::result::Result<Derived, String> {
        let plain = |t: &&Value| t.get("normalized").and_then(Value::as_bool) != Some(true);
        let content = |t: &Value| t.get("content").and_then(Value::as_str).map(str::to_string);
        let contents = added_tokens(tokenizer_json).iter().filter(plain).filter_map(content).collect();
        derive(&self.template()?, &Literals { contents })
    }
}

fn added_tokens(tokenizer_json: &[u8]) -> Vec<Value> {
    let json: Value = serde_json::from_slice(tokenizer_json).unwrap_or_default();
    match json.get("added_tokens") {
        Some(Value::Array(all)) => all.clone(),
        _ => Vec::new(),
    }
}
