//! `tokenizer.json` → [`Source`], refusing whatever the blob cannot say.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{json, Value};

use super::super::TokenizerError;
use super::cuts::{self, Cuts};
use super::decoder;
use super::template;

/// Stands for a space in SentencePiece's vocabularies.
pub(in crate::tokenizer) const SPACE_MARK: &str = "\u{2581}";

/// The parts of a `tokenizer.json` that decide ids, checked to be of a supported kind.
///
/// `truncation` and `padding` are settings of a batch, not of the tokenizer, and are left to the caller.
#[derive(Debug)]
pub(super) struct Source {
    pub model: Model,
    /// Tokens of the model with their ids.
    pub vocab: Vec<(String, u32)>,
    pub added: Vec<Added>,
    /// What `compile::normalizer` is to compile; null if text stays as it is.
    pub normalizer: Value,
    /// The source is SentencePiece itself.
    pub sentencepiece: Option<SentencePiece>,
    pub cuts: Cuts,
    /// Flags of the decoder section.
    pub decoder: u8,
    pub prefix: Vec<u32>,
    pub suffix: Vec<u32>,
}

#[derive(Debug)]
pub(super) enum Model {
    Bpe(Bpe),
    Unigram { scores: Vec<f64>, unknown: u32, byte_fallback: bool },
    WordPiece { unknown: u32, prefix: String, limit: u32 },
}

#[derive(Debug)]
pub(super) struct Bpe {
    /// Atoms are bytes, spelled in the byte-level alphabet; else characters.
    pub bytes: bool,
    /// By rank; duplicates keep their place.
    pub merges: Vec<(String, String)>,
    pub ignore_merges: bool,
    pub unknown: Option<u32>,
    pub fuse: bool,
    pub byte_fallback: bool,
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
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub normalized: bool,
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
    model: Json,
}

/// The model as the file has it.
#[derive(Deserialize)]
struct Json {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    unk_id: Option<u32>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: Option<bool>,
    #[serde(default)]
    byte_fallback: Option<bool>,
    #[serde(default)]
    ignore_merges: Option<bool>,
    #[serde(default)]
    max_input_chars_per_word: Option<u32>,
    #[serde(default)]
    vocab: Value,
    #[serde(default)]
    merges: Option<Vec<Merge>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

type Checked<T> = Result<T, TokenizerError>;

pub(in crate::tokenizer) fn unsupported(
    key: impl Into<String>,
    value: impl ToString,
    reason: impl Into<String>,
) -> TokenizerError {
    TokenizerError::Unsupported { key: key.into(), value: value.to_string(), reason: reason.into() }
}

pub(in crate::tokenizer) fn invalid(key: impl Into<String>, detail: impl Into<String>) -> TokenizerError {
    TokenizerError::Invalid { key: key.into(), detail: detail.into() }
}

/// The type of a component.
pub(super) fn kind_of(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or("(no type)")
}

/// A boolean of a component; an absent key has the default the reference gives it.
pub(super) fn flag(value: &Value, key: &str, default: bool) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(default)
}

/// The settings of SentencePiece that our own files carry in place of a normalizer.
#[derive(Debug, Clone)]
pub(in crate::tokenizer) struct SentencePiece {
    /// What the unknown token is decoded to.
    pub unknown: String,
    pub remove_extra_whitespaces: bool,
    pub add_dummy_prefix: bool,
}

impl SentencePiece {
    /// None for normalizers of the reference library.
    pub fn read(normalizer: &Value) -> Option<SentencePiece> {
        let unknown = || normalizer.get("unk_surface").and_then(Value::as_str).unwrap_or(" \u{2047} ").to_string();
        (kind_of(normalizer) == "SentencePiece").then(|| SentencePiece {
            unknown: unknown(),
            remove_extra_whitespaces: flag(normalizer, "remove_extra_whitespaces", true),
            add_dummy_prefix: flag(normalizer, "add_dummy_prefix", true),
        })
    }

    /// Something is done at the ends of a text, and so not at those of its parts.
    pub fn joins_ends(&self) -> bool {
        self.remove_extra_whitespaces || self.add_dummy_prefix
    }
}

/// Reads and checks a `tokenizer.json`.
pub(super) fn read(bytes: &[u8]) -> Checked<Source> {
    let file: File = serde_json::from_slice(bytes).map_err(|e| TokenizerError::Json(e.to_string()))?;
    let cuts = cuts::read(&file.pre_tokenizer)?;
    let sentencepiece = SentencePiece::read(&file.normalizer);
    if let Some(token) = file.added_tokens.iter().find(|token| token.single_word) {
        let key = format!("added_tokens[`{}`].single_word", token.content);
        return Err(unsupported(key, true, "added tokens match inside of words too"));
    }
    let (prefix, suffix) = template::read(&file.post_processor, "post_processor")?;
    let (vocab, model) = model(file.model, cuts.bytes)?;
    let mut decoder = decoder::read(&file.decoder, &model)?;
    if sentencepiece.as_ref().is_some_and(|s| s.remove_extra_whitespaces) && decoder & decoder::STRIP != 0 {
        decoder |= decoder::STRIP_ALL;
    }
    let normalizer = match (cuts.marks_spaces, file.normalizer) {
        (false, normalizer) => normalizer,
        (true, _) if sentencepiece.is_some() => {
            return Err(unsupported("pre_tokenizer.type", "Metaspace", "SentencePiece's normalizer does that already"))
        }
        // The step of the pre-tokenizer that has to do with characters.
        (true, normalizer) => {
            let marks = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK});
            let steps: Vec<Value> = [normalizer, marks].into_iter().filter(|step| !step.is_null()).collect();
            json!({"type": "Sequence", "normalizers": steps})
        }
    };
    Ok(Source { model, vocab, added: file.added_tokens, normalizer, sentencepiece, cuts, decoder, prefix, suffix })
}

/// Files of the first versions name no type; the keys decide.
fn kind(model: &Json) -> Checked<&str> {
    match (model.kind.as_deref(), &model.vocab) {
        (Some(kind @ ("BPE" | "WordPiece" | "Unigram")), _) => Ok(kind),
        (Some(other), _) => Err(unsupported("model.type", other, "only `BPE`, `Unigram` and `WordPiece`")),
        (None, Value::Array(_)) => Ok("Unigram"),
        (None, _) if model.merges.is_none() && model.max_input_chars_per_word.is_some() => Ok("WordPiece"),
        (None, _) => Ok("BPE"),
    }
}

fn model(model: Json, bytes: bool) -> Checked<(Vec<(String, u32)>, Model)> {
    let kind = kind(&model)?.to_string();
    if bytes && kind != "BPE" {
        return Err(unsupported("pre_tokenizer.type", "ByteLevel", format!("only with `BPE`, not with `{kind}`")));
    }
    if kind == "Unigram" {
        return unigram(model);
    }
    let Value::Object(map) = model.vocab else {
        return Err(invalid("model.vocab", "is not a map from token to id"));
    };
    let id = |(token, id): (String, Value)| match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
        Some(id) => Ok((token, id)),
        None => Err(invalid("model.vocab", format!("`{token}` has the id {id}"))),
    };
    let vocab: BTreeMap<String, u32> = map.into_iter().map(id).collect::<Checked<_>>()?;
    let unknown = match &model.unk_token {
        None => None,
        Some(token) => match vocab.get(token) {
            Some(&id) => Some(id),
            None => return Err(invalid("model.unk_token", format!("`{token}` is not in the vocabulary"))),
        },
    };
    let prefix = model.continuing_subword_prefix.unwrap_or_default();
    let checked = if kind == "WordPiece" {
        let unknown = unknown.or_else(|| vocab.get("[UNK]").copied());
        let unknown = unknown.ok_or_else(|| invalid("model.unk_token", "is missing"))?;
        Model::WordPiece { unknown, prefix, limit: model.max_input_chars_per_word.unwrap_or(100) }
    } else {
        for (key, value) in [
            ("model.continuing_subword_prefix", prefix),
            ("model.end_of_word_suffix", model.end_of_word_suffix.unwrap_or_default()),
        ] {
            if !value.is_empty() {
                return Err(unsupported(key, value, "only null or empty"));
            }
        }
        if let Some(p) = model.dropout.filter(|p| *p != 0.0) {
            return Err(unsupported("model.dropout", p, "ids would be random"));
        }
        Model::Bpe(Bpe {
            bytes,
            merges: merges(model.merges.unwrap_or_default())?,
            ignore_merges: model.ignore_merges == Some(true),
            unknown,
            fuse: model.fuse_unk == Some(true),
            byte_fallback: model.byte_fallback == Some(true),
        })
    };
    Ok((vocab.into_iter().collect(), checked))
}

fn unigram(model: Json) -> Checked<(Vec<(String, u32)>, Model)> {
    let Value::Array(list) = model.vocab else {
        return Err(invalid("model.vocab", "is not a list of tokens with scores"));
    };
    let (mut vocab, mut scores) = (Vec::with_capacity(list.len()), Vec::with_capacity(list.len()));
    for (id, entry) in list.into_iter().enumerate() {
        let pair = entry.as_array().filter(|pair| pair.len() == 2);
        let token = pair.and_then(|pair| pair[0].as_str()).map(str::to_owned);
        let score = pair.and_then(|pair| pair[1].as_f64()).filter(|score| score.is_finite());
        let (Some(token), Some(score)) = (token, score) else {
            return Err(invalid("model.vocab", format!("entry {id} is not a token and its score")));
        };
        vocab.push((token, u32::try_from(id).map_err(|_| invalid("model.vocab", "is too long"))?));
        scores.push(score);
    }
    let Some(unknown) = model.unk_id else {
        return Err(unsupported("model.unk_id", "null", "what is not in the vocabulary has no id"));
    };
    if unknown as usize >= vocab.len() {
        return Err(invalid("model.unk_id", format!("is {unknown}, the vocabulary has {} tokens", vocab.len())));
    }
    Ok((vocab, Model::Unigram { scores, unknown, byte_fallback: model.byte_fallback == Some(true) }))
}

fn merges(list: Vec<Merge>) -> Checked<Vec<(String, String)>> {
    let mut out = Vec::with_capacity(list.len());
    for merge in list {
        match merge {
            Merge::Pair(left, right) => out.push((left, right)),
            // merges.txt starts with such a line and some converters keep it.
            Merge::Line(line) if line.starts_with("#version") => {}
            Merge::Line(line) => match line.split_once(' ') {
                Some((left, right)) if !right.contains(' ') => out.push((left.to_owned(), right.to_owned())),
                _ => {
                    let detail = format!("`{line}` is not two tokens with a space between");
                    return Err(invalid("model.merges", detail));
                }
            },
        }
    }
    Ok(out)
}
