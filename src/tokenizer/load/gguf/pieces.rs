//! SentencePiece vocabularies, merged by score or chosen as the likeliest sequence, and WordPiece.

use super::super::sentencepiece::by_score;
use super::super::spelled::by_token;
use super::{around, Kind, Parts, Vocab};
use crate::error::{Error, Result};
use crate::format::base64;
use crate::format::gguf::Metadata;
use serde_json::{json, Value};

/// Stands for a space.
const SPACE: &str = "\u{2581}";

/// Merges by score: the header gives no order of merges, only a score for what they lead to.
pub fn sentencepiece(meta: &Metadata, vocab: &Vocab) -> Result<Parts> {
    let scores = vocab.scores(meta)?;
    let unknown = vocab.id_or(meta, "unknown_token_id", 0)?;
    let bos = vocab.id_or(meta, "bos_token_id", 1)?;
    let eos = vocab.id_or(meta, "eos_token_id", 2)?;
    let (prefix, suffix) = around(meta, (bos, true), (eos, false))?;
    let normal = (0..vocab.tokens.len()).filter(|id| vocab.kinds[*id] == Kind::Normal).collect();
    let leading = meta.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let mut steps = clean(meta)?;
    if leading {
        steps.push(json!({"type": "Prepend", "prepend": SPACE}));
    }
    steps.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE}));
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if leading {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(Parts {
        normalizer: json!({"type": "Sequence", "normalizers": steps}),
        pre_tokenizer: Value::Null,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        model: json!({
            "type": "BPE", "dropout": null, "unk_token": unknown.map(|id| &vocab.tokens[id as usize]),
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": vocab.kinds.contains(&Kind::Byte), "ignore_merges": false,
            "vocab": by_token(vocab.tokens), "merges": by_score(vocab.tokens, &scores, normal)?,
        }),
        bos,
        eos,
        prefix,
        suffix,
        spelled: None,
    })
}

/// The likeliest sequence of pieces.
pub fn unigram(meta: &Metadata, vocab: &Vocab) -> Result<Parts> {
    let scores = vocab.scores(meta)?;
    let unknown = vocab.id_or(meta, "unknown_token_id", 2)?;
    let bos = vocab.id(meta, "bos_token_id")?;
    let eos = vocab.id_or(meta, "eos_token_id", 1)?;
    let (prefix, suffix) = around(meta, (bos, false), (eos, true))?;
    let steps = clean(meta)?;
    let scheme = match meta.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
        true => "always",
        false => "never",
    };
    let space = json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": true});
    let pieces: Vec<Value> = vocab.tokens.iter().zip(&scores).map(|(t, s)| json!([t, s])).collect();
    Ok(Parts {
        normalizer: json!({"type": "Sequence", "normalizers": steps}),
        pre_tokenizer: space.clone(),
        decoder: space,
        model: json!({
            "type": "Unigram", "unk_id": unknown, "vocab": pieces,
            "byte_fallback": vocab.kinds.contains(&Kind::Byte),
        }),
        bos,
        eos,
        prefix,
        suffix,
        spelled: None,
    })
}

/// What happens to a text first: the character map of the model, and runs of spaces, if the header says so.
fn clean(meta: &Metadata) -> Result<Vec<Value>> {
    let mut steps = Vec::new();
    let key = "tokenizer.ggml.precompiled_charsmap";
    if let Some(map) = meta.numbers(key)?.filter(|m| !m.is_empty()) {
        let map = map.raw().ok_or_else(|| Error::input(format!("`{key}` holds something else than bytes")))?;
        steps.push(json!({"type": "Precompiled", "precompiled_charsmap": base64::encode(map)}));
    }
    if meta.bool("tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(false) {
        // Only spaces: a line break that the map left is a character.
        steps.push(json!({"type": "Replace", "pattern": {"Regex": "^ +| +$"}, "content": ""}));
        steps.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}));
    }
    Ok(steps)
}

/// The longest piece first. The file marks beginnings of words, the library marks their continuations.
pub fn wordpiece(meta: &Metadata, vocab: &Vocab) -> Result<Parts> {
    let bracketed = |t: &str| t.len() > 2 && t.starts_with('[') && t.ends_with(']');
    let spell = |(t, kind): (&String, &Kind)| match t.strip_prefix(SPACE) {
        Some(word) if !word.is_empty() => word.to_string(),
        _ if *kind == Kind::Control || *kind == Kind::Unknown || bracketed(t) => t.clone(),
        _ => format!("##{t}"),
    };
    let spelled: Vec<String> = vocab.tokens.iter().zip(&vocab.kinds).map(spell).collect();
    let model_vocab = by_token(&spelled);
    if model_vocab.len() != spelled.len() {
        return Err(Error::input("two tokens of `tokenizer.ggml.tokens` are one word piece"));
    }
    let bos = vocab.id_or(meta, "bos_token_id", 101)?;
    // Both spellings of this key are in use.
    let sep = match vocab.id(meta, "seperator_token_id")? {
        Some(id) => Some(id),
        None => vocab.id_or(meta, "separator_token_id", 102)?,
    };
    let eos = vocab.id(meta, "eos_token_id")?;
    let unknown = vocab.id_or(meta, "unknown_token_id", 100)?;
    let (prefix, suffix) = around(meta, (bos, true), (sep, true))?;
    // The header does not say it; a vocabulary with capital letters has use for them.
    let capital = |(t, kind): (&String, &Kind)| {
        *kind == Kind::Normal && !bracketed(t) && t.contains(|c: char| c.is_ascii_uppercase())
    };
    let cased = vocab.tokens.iter().zip(&vocab.kinds).any(capital);
    let unknown = unknown.ok_or_else(|| Error::input("`tokenizer.ggml.unknown_token_id` is missing"))?;
    Ok(Parts {
        normalizer: json!({
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": !cased,
        }),
        pre_tokenizer: json!({"type": "BertPreTokenizer"}),
        decoder: json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        model: json!({
            "type": "WordPiece", "unk_token": spelled[unknown as usize], "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": model_vocab,
        }),
        bos,
        eos,
        prefix,
        suffix,
        spelled: Some(spelled),
    })
}
