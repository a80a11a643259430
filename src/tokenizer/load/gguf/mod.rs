//! `tokenizer.json` from the keys of a GGUF header.

mod bpe;
mod pieces;
mod split;

pub use split::name_of;

use super::spelled;
use crate::error::{Error, Result};
use crate::format::gguf::{Metadata, Value as Stored};
use serde_json::{json, Map, Value};
use std::collections::HashMap;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// The vocabulary by id.
struct Vocab<'a> {
    tokens: &'a [String],
    kinds: Vec<Kind>,
    ids: HashMap<&'a str, u32>,
}

/// A tokenizer by its parts.
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    model: Value,
    bos: Option<u32>,
    eos: Option<u32>,
    /// Token id before and after every text.
    prefix: Option<u32>,
    suffix: Option<u32>,
    /// As the model wants its tokens spelled, if not as stored.
    spelled: Option<Vec<String>>,
}

/// Builds the file, and puts the ids of the special tokens into the configuration. None if the header has no tokenizer.
///
/// # Errors
/// `Unsupported` for tokenizers and pre-tokenizers that are not known, by name; `Input` for contradictions.
pub fn build(
    meta: &Metadata,
    rows: usize,
    config: &mut Map<String, Value>,
    warnings: &mut Vec<String>,
) -> Result<Option<Vec<u8>>> {
    let Some(model) = meta.str("tokenizer.ggml.model")?.filter(|m| *m != "none" && *m != "no_vocab") else {
        warnings.push("the file has no tokenizer".into());
        return Ok(None);
    };
    let vocab = Vocab::read(meta, rows)?;
    let parts = match model {
        "gpt2" => bpe::byte_level(meta, &vocab, warnings)?,
        "llama" => pieces::sentencepiece(meta, &vocab)?,
        "t5" => pieces::unigram(meta, &vocab)?,
        "bert" => pieces::wordpiece(meta, &vocab)?,
        other => {
            let text = format!("tokenizer `{other}` is not read; those that are: gpt2, llama, t5, bert");
            return Err(Error::unsupported(text.replace(char::is_control, "?")));
        }
    };
    let mut eos: Vec<u32> = parts.eos.into_iter().collect();
    for key in ["eot_token_id", "eom_token_id"] {
        eos.extend(vocab.id(meta, key)?.filter(|id| !eos.contains(id)));
    }
    if let Some(id) = parts.bos {
        config.insert("bos_token_id".into(), json!(id));
    }
    match &eos[..] {
        [] => {}
        [one] => drop(config.insert("eos_token_id".into(), json!(one))),
        all => drop(config.insert("eos_token_id".into(), json!(all))),
    }
    if let Some(id) = vocab.id(meta, "padding_token_id")? {
        config.insert("pad_token_id".into(), json!(id));
    }
    let json = parts.json(&vocab);
    Ok(Some(serde_json::to_vec(&json).map_err(|e| Error::input(format!("the tokenizer cannot be written: {e}")))?))
}

impl<'a> Vocab<'a> {
    fn read(meta: &'a Metadata, rows: usize) -> Result<Vocab<'a>> {
        let key = "tokenizer.ggml.tokens";
        let tokens = meta.strings(key)?.ok_or_else(|| Error::input(format!("`{key}` is missing")))?;
        if tokens.len() > rows {
            let what = format!("`{key}` has {} tokens, the embedding has {rows} rows", tokens.len());
            return Err(Error::input(what));
        }
        let mut ids = HashMap::with_capacity(tokens.len());
        for (i, t) in tokens.iter().enumerate() {
            if let Some(old) = ids.insert(t.as_str(), i as u32) {
                return Err(Error::input(format!("`{key}` has the same token at {old} and at {i}")));
            }
        }
        let key = "tokenizer.ggml.token_type";
        let kinds = match meta.numbers(key)? {
            None => vec![Kind::Normal; tokens.len()],
            Some(n) if n.len() != tokens.len() => {
                return Err(Error::input(format!("`{key}` has {} items for {} tokens", n.len(), tokens.len())))
            }
            Some(n) => n.iter().map(|v| kind(&v)).collect::<Result<_>>()?,
        };
        Ok(Vocab { tokens, kinds, ids })
    }

    /// A special token, if the header names it. What is no id of the vocabulary (often -1) counts as none.
    fn id(&self, meta: &Metadata, key: &str) -> Result<Option<u32>> {
        match meta.get(&format!("tokenizer.ggml.{key}")) {
            None => Ok(None),
            Some(Stored::Int(n)) => Ok(u32::try_from(*n).ok().filter(|n| (*n as usize) < self.tokens.len())),
            Some(v) => Err(Error::input(format!("`tokenizer.ggml.{key}` is {}, a token id is expected", v.kind()))),
        }
    }

    /// As [`Vocab::id`], or what the format says when it is absent.
    fn id_or(&self, meta: &Metadata, key: &str, otherwise: u32) -> Result<Option<u32>> {
        let absent = meta.get(&format!("tokenizer.ggml.{key}")).is_none();
        let fallback = Some(otherwise).filter(|n| absent && (*n as usize) < self.tokens.len());
        Ok(self.id(meta, key)?.or(fallback))
    }

    /// A finite score for each token.
    fn scores(&self, meta: &Metadata) -> Result<Vec<f32>> {
        let key = "tokenizer.ggml.scores";
        let all = meta.numbers(key)?.ok_or_else(|| Error::input(format!("`{key}` is missing")))?;
        if all.len() != self.tokens.len() {
            return Err(Error::input(format!("`{key}` has {} items for {} tokens", all.len(), self.tokens.len())));
        }
        let finite = |v| match v {
            Stored::F32(f) if f.is_finite() => Ok(f),
            _ => Err(Error::input(format!("`{key}` holds something else than finite f32 numbers"))),
        };
        all.iter().map(finite).collect()
    }
}

fn kind(v: &Stored) -> Result<Kind> {
    Ok(match v {
        // 0 is what files without types have.
        Stored::Int(0 | 1) => Kind::Normal,
        Stored::Int(2) => Kind::Unknown,
        Stored::Int(3) => Kind::Control,
        Stored::Int(4) => Kind::UserDefined,
        Stored::Int(5) => Kind::Unused,
        Stored::Int(6) => Kind::Byte,
        _ => return Err(Error::input("`tokenizer.ggml.token_type` holds something else than 1 to 6")),
    })
}

impl Parts {
    fn json(self, vocab: &Vocab) -> Value {
        let tokens = self.spelled.as_deref().unwrap_or(vocab.tokens);
        let added = |(id, kind): (usize, &Kind)| {
            let special = match kind {
                Kind::Control | Kind::Unknown => true,
                Kind::UserDefined => false,
                _ => return None,
            };
            // The library takes no empty pattern.
            let content = Some(&tokens[id]).filter(|t| !t.is_empty())?;
            Some(spelled::added(id as u64, content, special))
        };
        let added: Vec<Value> = vocab.kinds.iter().enumerate().filter_map(added).collect();
        let [prefix, suffix] = [self.prefix, self.suffix].map(|id| id.map(|id| id as usize));
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": self.normalizer,
            "pre_tokenizer": self.pre_tokenizer,
            "post_processor": spelled::template(tokens, prefix, suffix),
            "decoder": self.decoder,
            "model": self.model,
        })
    }
}

/// A token before and one after each text, if the header (or, when it is silent, the kind of tokenizer) wants that.
fn around(meta: &Metadata, bos: (Option<u32>, bool), eos: (Option<u32>, bool)) -> Result<(Option<u32>, Option<u32>)> {
    let wanted = |key: &str, otherwise| Ok::<_, Error>(meta.bool(key)?.unwrap_or(otherwise));
    let (add_bos, add_eos) =
        (wanted("tokenizer.ggml.add_bos_token", bos.1)?, wanted("tokenizer.ggml.add_eos_token", eos.1)?);
    Ok((bos.0.filter(|_| add_bos), eos.0.filter(|_| add_eos)))
}
