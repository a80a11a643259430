//! `tokenizer_config.json`: what a checkpoint says about its tokenizer beside the vocabulary.

use super::spelled;
use crate::error::{Error, Result};
use crate::fsio::read_capped;
use crate::limits::MAX_JSON_BYTES;
use serde_json::Value;
use std::path::Path;

const NAME: &str = "tokenizer_config.json";

/// The settings of a folder; null if it has none.
///
/// # Errors
/// `Input` if the file is no JSON.
pub fn read(dir: &Path) -> Result<Value> {
    json(&dir.join(NAME))
}

/// A JSON file, null if there is none.
pub fn json(path: &Path) -> Result<Value> {
    if !path.is_file() {
        return Ok(Value::Null);
    }
    let data = read_capped(path, MAX_JSON_BYTES)?;
    serde_json::from_slice(&data).map_err(|e| Error::input(format!("this is no JSON: {e}")).at_file(path))
}

/// A boolean of the settings.
pub fn flag(settings: &Value, key: &str) -> Option<bool> {
    settings.get(key).and_then(Value::as_bool)
}

/// Name of the class that reads the tokenizer, without the ending of its fast form.
pub fn class(settings: &Value) -> &str {
    let class = settings.get("tokenizer_class").and_then(Value::as_str).unwrap_or("");
    class.strip_suffix("Fast").unwrap_or(class)
}

/// Which of the two tokens goes before and after a text, as the settings say; without any, none does.
pub fn around(dir: &Path, bos: Option<usize>, eos: Option<usize>) -> Result<(Option<usize>, Option<usize>)> {
    let settings = read(dir)?;
    // What the classes do unless told otherwise.
    let (first, last) = match class(&settings) {
        "LlamaTokenizer" | "CodeLlamaTokenizer" | "GemmaTokenizer" => (true, false),
        "T5Tokenizer" => (false, true),
        _ => (false, false),
    };
    let wanted = |key: &str, otherwise: bool| flag(&settings, key).unwrap_or(otherwise);
    Ok((bos.filter(|_| wanted("add_bos_token", first)), eos.filter(|_| wanted("add_eos_token", last))))
}

/// Added tokens that the settings list by id, those from `size` on in the order of their ids.
///
/// # Errors
/// `Input` for ids that are no numbers.
pub fn added(settings: &Value, keep: impl Fn(u64, &str) -> bool) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for (id, token) in settings.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten() {
        let number: u64 = id.parse().map_err(|_| {
            Error::input(format!("`added_tokens_decoder` of {NAME} has the id `{id}`, which is no number"))
        })?;
        let content = token.get("content").and_then(Value::as_str).filter(|content| !content.is_empty());
        let Some(content) = content.filter(|content| keep(number, content)) else { continue };
        let mut out = spelled::added(number, content, flag(token, "special").unwrap_or(false));
        for key in ["lstrip", "rstrip", "normalized", "single_word"] {
            out[key] = flag(token, key).unwrap_or(false).into();
        }
        all.push((number, out));
    }
    all.sort_by_key(|(id, _)| *id);
    Ok(all.into_iter().map(|(_, token)| token).collect())
}
