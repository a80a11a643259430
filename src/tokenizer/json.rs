//! `tokenizer.json` → [`Source`], refusing whatever the blob cannot say.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::words::{Splitter, Words};
use super::TokenizerError;

/// The parts of a `tokenizer.json` that decide ids, checked to be of a supported kind.
///
/// `truncation` and `padding` are settings of a batch, not of the tokenizer, and are left to
/// the caller.
#[derive(Debug)]
pub(super) struct Source {
    pub vocab: BTreeMap<String, u32>,
    /// By rank; duplicates keep their place.
    pub merges: Vec<(String, String)>,
    pub added: Vec<Added>,
    pub ignore_merges: bool,
    /// `Some(key)` when a byte outside the vocabulary would become something else than
    /// nothing.
    pub missing_byte_rule: Option<&'static str>,
    pub prefix_space: bool,
    pub splitter: Splitter,
    pub words: Words,
    pub prefix: Vec<u32>,
    pub suffix: Vec<u32>,
}

/// An added token that is matched in the text before anything else.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Added {
    pub id: u32,
    pub content: String,
    #[serde(default)]
    pub special: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: Option<bool>,
    #[serde(default)]
    ignore_merges: Option<bool>,
    #[serde(default)]
    vocab: Value,
    #[serde(default)]
    merges: Vec<Merge>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

pub(super) fn unsupported(key: impl Into<String>, value: impl ToString, reason: impl Into<String>) -> TokenizerError {
    TokenizerError::Unsupported { key: key.into(), value: value.to_string(), reason: reason.into() }
}

pub(super) fn invalid(key: impl Into<String>, detail: impl Into<String>) -> TokenizerError {
    TokenizerError::Invalid { key: key.into(), detail: detail.into() }
}

/// Reads and checks a `tokenizer.json`.
pub(super) fn read(bytes: &[u8]) -> Result<Source, TokenizerError> {
    let file: File = serde_json::from_slice(bytes).map_err(|e| TokenizerError::Json(e.to_string()))?;
    if !file.normalizer.is_null() {
        let kind = kind_of(&file.normalizer);
        return Err(unsupported("normalizer.type", kind, "text reaches the device as it is"));
    }
    if !file.decoder.is_null() && kind_of(&file.decoder) != "ByteLevel" {
        return Err(unsupported("decoder.type", kind_of(&file.decoder), "only `ByteLevel`"));
    }
    let pre = pre_tokenizer(&file.pre_tokenizer)?;
    let (prefix, suffix) = template(&file.post_processor, "post_processor")?;
    check_added(&file.added_tokens)?;

    let model = file.model;
    match model.kind.as_deref() {
        None | Some("BPE") => {}
        Some(other) => return Err(unsupported("model.type", other, "only `BPE`")),
    }
    if model.dropout.is_some_and(|p| p != 0.0) {
        let value = model.dropout.unwrap_or_default();
        return Err(unsupported("model.dropout", value, "ids would be random"));
    }
    for (key, value) in [
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            return Err(unsupported(key, value, "only null or empty"));
        }
    }
    let vocab = match model.vocab {
        Value::Object(map) => map
            .into_iter()
            .map(|(token, id)| match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                Some(id) => Ok((token, id)),
                None => Err(invalid("model.vocab", format!("`{token}` has the id {id}"))),
            })
            .collect::<Result<BTreeMap<_, _>, _>>()?,
        _ => return Err(invalid("model.vocab", "is not a map from token to id")),
    };
    let missing_byte_rule = if model.unk_token.is_some() {
        Some("model.unk_token")
    } else if model.byte_fallback == Some(true) {
        Some("model.byte_fallback")
    } else {
        None
    };
    Ok(Source {
        vocab,
        merges: merges(model.merges)?,
        added: file.added_tokens,
        ignore_merges: model.ignore_merges == Some(true),
        missing_byte_rule,
        prefix_space: pre.prefix_space,
        splitter: pre.splitter,
        words: pre.words,
        prefix,
        suffix,
    })
}

fn merges(list: Vec<Merge>) -> Result<Vec<(String, String)>, TokenizerError> {
    let mut out = Vec::with_capacity(list.len());
    for merge in list {
        match merge {
            Merge::Pair(left, right) => out.push((left, right)),
            // merges.txt starts with such a line and some converters keep it.
            Merge::Line(line) if line.starts_with("#version") => {}
            Merge::Line(line) => match line.split_once(' ') {
                Some((left, right)) if !right.contains(' ') => {
                    out.push((left.to_owned(), right.to_owned()));
                }
                _ => {
                    let detail = format!("`{line}` is not two tokens with a space between");
                    return Err(invalid("model.merges", detail));
                }
            },
        }
    }
    Ok(out)
}

fn check_added(tokens: &[Added]) -> Result<(), TokenizerError> {
    for token in tokens {
        for (flag, set) in [("single_word", token.single_word), ("lstrip", token.lstrip), ("rstrip", token.rstrip)] {
            if set {
                let key = format!("added_tokens[`{}`].{flag}", token.content);
                return Err(unsupported(key, true, "added tokens match exactly as written"));
            }
        }
    }
    // Without a normalizer the flag only decides which tokens are looked for first, so it says
    // nothing as long as all agree.
    if let Some(token) = tokens.iter().find(|token| token.normalized != tokens[0].normalized) {
        let key = format!("added_tokens[`{}`].normalized", token.content);
        let reason = format!("must be the same for all, and `{}` differs", tokens[0].content);
        return Err(unsupported(key, token.normalized, reason));
    }
    Ok(())
}

fn kind_of(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or("(no type)")
}

/// A boolean of a component; an absent key has the default the reference gives it.
fn flag(value: &Value, key: &str, default: bool) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(default)
}

#[derive(Default)]
struct PreTokenizer {
    prefix_space: bool,
    splitter: Splitter,
    words: Words,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Accepts `[Digits | Split]? ByteLevel`, alone or in a `Sequence`.
fn pre_tokenizer(value: &Value) -> Result<PreTokenizer, TokenizerError> {
    let single = std::slice::from_ref(value);
    let steps = match kind_of(value) {
        "Sequence" => value.get("pretokenizers").and_then(Value::as_array).map_or(&[][..], |v| v),
        _ => single,
    };
    let (last, first) = match steps {
        [last] => (last, None),
        [first, last] => (last, Some(first)),
        _ => {
            let reason = "only `ByteLevel`, or one `Digits` or `Split` and then `ByteLevel`";
            return Err(unsupported("pre_tokenizer", value, reason));
        }
    };
    if kind_of(last) != "ByteLevel" {
        let reason = "the last step must be `ByteLevel`";
        return Err(unsupported("pre_tokenizer.type", kind_of(last), reason));
    }
    let mut out = PreTokenizer {
        prefix_space: flag(last, "add_prefix_space", true),
        words: if flag(last, "use_regex", true) { Words::Gpt2 } else { Words::Whole },
        splitter: Splitter::None,
    };
    let Some(first) = first else { return Ok(out) };
    match kind_of(first) {
        "Digits" if flag(first, "individual_digits", false) => out.splitter = Splitter::Digit,
        "Digits" => out.splitter = Splitter::Digits,
        "Split" => split(first, &mut out)?,
        other => {
            let reason = "only `Digits` or `Split` before `ByteLevel`";
            return Err(unsupported("pre_tokenizer.type", other, reason));
        }
    }
    Ok(out)
}

fn split(step: &Value, out: &mut PreTokenizer) -> Result<(), TokenizerError> {
    let behavior = step.get("behavior").and_then(Value::as_str).unwrap_or_default();
    // The patterns match all of the text, so removing what does not match removes nothing.
    match (behavior, flag(step, "invert", false)) {
        ("Isolated", _) | ("Removed", true) => {}
        (other, _) => {
            let reason = "only `Isolated`, or `Removed` with `invert`";
            return Err(unsupported("pre_tokenizer.behavior", other, reason));
        }
    }
    let pattern = step.get("pattern").unwrap_or(&Value::Null);
    match pattern.get("Regex").and_then(Value::as_str) {
        Some(LLAMA3) => out.splitter = Splitter::Llama3,
        Some(QWEN2) => out.splitter = Splitter::Qwen2,
        // Without a prefix space the order of the two steps does not matter, so the pattern
        // may take the place of the word stage.
        Some(GPT2) if out.words == Words::Whole && !out.prefix_space => out.words = Words::Gpt2,
        _ => {
            let reason = "only the patterns of GPT-2, Llama 3 and Qwen 2, letter for letter";
            return Err(unsupported("pre_tokenizer.pattern", pattern, reason));
        }
    }
    Ok(())
}

/// Ids around a single text, from the post-processor.
fn template(value: &Value, path: &str) -> Result<(Vec<u32>, Vec<u32>), TokenizerError> {
    match kind_of(value) {
        _ if value.is_null() => Ok(Default::default()),
        "ByteLevel" => Ok(Default::default()),
        "TemplateProcessing" => template_ids(value, path),
        "Sequence" => {
            let mut found = None;
            let steps = value.get("processors").and_then(Value::as_array);
            for (k, step) in steps.into_iter().flatten().enumerate() {
                let path = format!("{path}.processors[{k}]");
                match kind_of(step) {
                    "ByteLevel" => {}
                    "TemplateProcessing" if found.is_none() => {
                        found = Some(template_ids(step, &path)?);
                    }
                    other => {
                        let reason = "only `ByteLevel` and one `TemplateProcessing`";
                        return Err(unsupported(format!("{path}.type"), other, reason));
                    }
                }
            }
            Ok(found.unwrap_or_default())
        }
        other => {
            let reason = "only null, `ByteLevel` and `TemplateProcessing`";
            Err(unsupported(format!("{path}.type"), other, reason))
        }
    }
}

fn template_ids(value: &Value, path: &str) -> Result<(Vec<u32>, Vec<u32>), TokenizerError> {
    let key = format!("{path}.single");
    let single = value.get("single").unwrap_or(&Value::Null);
    let Some(steps) = single.as_array() else {
        return Err(unsupported(key, single, "only a list of steps"));
    };
    let mut ids = [Vec::new(), Vec::new()];
    let mut side = 0;
    for step in steps {
        if let Some(name) = step.pointer("/SpecialToken/id").and_then(Value::as_str) {
            let token = value.get("special_tokens").and_then(|map| map.get(name));
            let list = token.and_then(|token| token.get("ids")).and_then(Value::as_array);
            for id in list.ok_or_else(|| invalid(&*key, format!("`{name}` has no ids")))? {
                let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
                ids[side].push(id.ok_or_else(|| invalid(&*key, format!("bad id of `{name}`")))?);
            }
        } else if step.pointer("/Sequence/id").and_then(Value::as_str) == Some("A") && side == 0 {
            side = 1;
        } else {
            return Err(unsupported(key, step, "only special tokens around one text `A`"));
        }
    }
    if side == 0 {
        return Err(unsupported(key, single, "the text `A` must be in it"));
    }
    let [prefix, suffix] = ids;
    if prefix.len() > 255 || suffix.len() > 255 {
        return Err(unsupported(key, single, "at most 255 special tokens on a side"));
    }
    Ok((prefix, suffix))
}
