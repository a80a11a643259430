//! Vocabularies as plain lists: `vocab.json` with `merges.txt`, and `vocab.txt`.

use super::{settings, spelled};
use crate::error::{Error, Result};
use crate::tokenizer::compile::alphabet;
use serde_json::{json, Map, Value};
use std::path::Path;

const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The rest of a `tokenizer.json` whose vocabulary and merges lie beside it.
const REST: &str = "tokenizer_rest.json";

fn text(data: &[u8]) -> Result<&str> {
    std::str::from_utf8(data).map_err(|e| Error::input("the file is no UTF-8").at_offset(e.valid_up_to() as u64))
}

/// Merges as pairs.
fn merges(data: &[u8]) -> Result<Vec<Value>> {
    let mut out = Vec::new();
    for (k, line) in text(data)?.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.starts_with("#version") || line.is_empty() {
            continue;
        }
        match line.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => out.push(json!([left, right])),
            _ => return Err(Error::input(format!("line {} is not two tokens with a space between", k + 1))),
        }
    }
    Ok(out)
}

/// `tokenizer.json` of `vocab.json` and `merges.txt`: byte-level BPE. Everything else is as [`REST`] or the settings say, else as in GPT-2.
///
/// # Errors
/// `Input` for damaged files, `Unsupported` for vocabularies that are not byte-level.
pub fn bpe(vocab: &[u8], merge_list: &[u8], dir: &Path) -> Result<Value> {
    let vocab: Map<String, Value> = serde_json::from_slice(vocab)
        .map_err(|e| Error::input(format!("this is no map from token to id: {e}")).at_file(&dir.join("vocab.json")))?;
    let merges = merges(merge_list).map_err(|e| e.at_file(&dir.join("merges.txt")))?;
    let rest = settings::json(&dir.join(REST))?;
    if !rest.is_null() {
        let mut file = rest;
        let Some(model) = file.get_mut("model").and_then(Value::as_object_mut) else {
            return Err(Error::input("it has no `model`").at_file(&dir.join(REST)));
        };
        model.insert("vocab".into(), Value::Object(vocab));
        model.insert("merges".into(), Value::Array(merges));
        return Ok(file);
    }
    let missing = alphabet().into_keys().filter(|c| !vocab.contains_key(c.encode_utf8(&mut [0; 4]) as &str)).count();
    if missing > 128 {
        let what = format!("{missing} of the 256 bytes are not in `vocab.json`: this is no byte-level vocabulary");
        return Err(Error::unsupported(what).hint("a tokenizer.json says how its text is to be cut"));
    }
    let settings = settings::read(dir)?;
    let qwen = settings::class(&settings) == "Qwen2Tokenizer";
    let words = match qwen {
        true => {
            json!({"type": "Sequence", "pretokenizers": [spelled::regex(QWEN2), spelled::byte_level(false, false)]})
        }
        false => spelled::byte_level(settings::flag(&settings, "add_prefix_space").unwrap_or(false), true),
    };
    let mut added = settings::added(&settings, |_, _| true)?;
    if added.is_empty() {
        added = listed(&settings::json(&dir.join("added_tokens.json"))?);
    }
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": if qwen { json!({"type": "NFC"}) } else { Value::Null },
        "pre_tokenizer": words,
        "post_processor": spelled::byte_level(true, true),
        "decoder": spelled::byte_level(true, true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges,
        },
    }))
}

/// `added_tokens.json`: token → id.
fn listed(file: &Value) -> Vec<Value> {
    let entries = file.as_object().into_iter().flatten();
    let mut all: Vec<(u64, &String)> = entries.filter_map(|(token, id)| Some((id.as_u64()?, token))).collect();
    all.sort_unstable();
    all.into_iter().map(|(id, token)| spelled::added(id, token, true)).collect()
}

/// `tokenizer.json` of `vocab.txt`: WordPiece, with the normalizer and the template of BERT. Letters become small as the settings say; without
/// any, if no token has a capital letter.
///
/// # Errors
/// `Input` for damaged files.
pub fn word_piece(data: &[u8], dir: &Path) -> Result<Value> {
    let lines = text(data)?;
    let lines = lines.strip_suffix('\n').unwrap_or(lines);
    let mut vocab: Map<String, Value> = Map::new();
    let mut tokens: Vec<String> = Vec::new();
    for (id, line) in lines.split('\n').enumerate() {
        let token = line.trim_end();
        if token.is_empty() {
            return Err(Error::input(format!("line {} is empty, a token is expected", id + 1)));
        }
        if let Some(old) = vocab.insert(token.to_string(), json!(id)) {
            return Err(Error::input(format!("the tokens {old} and {id} are the same")));
        }
        tokens.push(token.to_string());
    }
    let settings = settings::read(dir)?;
    let name = |key: &str, otherwise: &str| {
        let value = settings.get(key);
        let text = value.and_then(|v| v.as_str().or_else(|| v.get("content").and_then(Value::as_str)));
        text.unwrap_or(otherwise).to_string()
    };
    let unknown = name("unk_token", "[UNK]");
    if !vocab.contains_key(&unknown) {
        return Err(Error::input(format!("the unknown token `{unknown}` is not in the vocabulary")));
    }
    let (cls, sep) = (name("cls_token", "[CLS]"), name("sep_token", "[SEP]"));
    let special = [unknown.clone(), cls.clone(), sep.clone(), name("pad_token", "[PAD]"), name("mask_token", "[MASK]")];
    let position = |token: &String| tokens.iter().position(|t| t == token);
    let mut ids: Vec<usize> = special.iter().filter_map(position).collect();
    ids.sort_unstable();
    ids.dedup();
    let added: Vec<Value> = ids.iter().map(|id| spelled::added(*id as u64, &tokens[*id], true)).collect();
    let (first, last) = (position(&cls), position(&sep));
    let both = first.is_some() && last.is_some();
    let capital = tokens.iter().any(|t| !t.starts_with('[') && t.contains(|c: char| c.is_ascii_uppercase()));
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": settings::flag(&settings, "tokenize_chinese_chars").unwrap_or(true),
            "strip_accents": settings::flag(&settings, "strip_accents"),
            "lowercase": settings::flag(&settings, "do_lower_case").unwrap_or(!capital),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": spelled::template(&tokens, first.filter(|_| both), last.filter(|_| both)),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere() -> &'static Path {
        Path::new("nowhere")
    }

    #[test]
    fn hostile_merges_are_named() {
        for (data, expected) in
            [(&b"#version: 0.2\na b\nab"[..], "line 3"), (b"a b c", "line 1"), (b"a b\n\xff \xfe", "no UTF-8")]
        {
            assert!(merges(data).unwrap_err().to_string().contains(expected), "{data:?}");
        }
        assert_eq!(merges(b"#version: 0.2\r\na b\r\n\n").unwrap(), [json!(["a", "b"])]);
    }

    #[test]
    fn a_vocabulary_that_is_no_map_or_not_of_bytes() {
        assert!(bpe(b"[1]", b"", nowhere()).unwrap_err().to_string().contains("no map"));
        assert!(bpe(br#"{"a": 0}"#, b"", nowhere()).unwrap_err().to_string().contains("no byte-level vocabulary"));
    }

    #[test]
    fn hostile_word_lists_are_named() {
        for (data, expected) in [
            (&b"[UNK]\n\na\n"[..], "line 2 is empty"),
            (b"[UNK]\na\na\n", "the tokens 1 and 2 are the same"),
            (b"a\nb\n", "`[UNK]` is not in the vocabulary"),
            (b"", "line 1 is empty"),
            (b"[UNK]\n\xc3\n", "no UTF-8"),
        ] {
            assert!(word_piece(data, nowhere()).unwrap_err().to_string().contains(expected), "{data:?}");
        }
        let small = word_piece(b"[UNK]\na\n##b", nowhere()).unwrap();
        assert_eq!((&small["normalizer"]["lowercase"], &small["post_processor"]), (&json!(true), &Value::Null));
        let cased = word_piece(b"[UNK]\r\n[CLS]\n[SEP]\nA\n", nowhere()).unwrap();
        assert_eq!(cased["normalizer"]["lowercase"], false);
        assert_eq!(cased["post_processor"]["single"][0]["SpecialToken"]["id"], "[CLS]");
        assert_eq!(cased["model"]["vocab"]["A"], 3);
    }
}
