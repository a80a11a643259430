//! SentencePiece's model file: a protobuf message with the pieces, how they were trained and how text is normalized.
//!
//! The `tokenizer.json` that comes out carries SentencePiece's settings in place of a normalizer (`{"type": "SentencePiece", …}`), because no
//! normalizer of the reference library does quite the same. Control pieces are special tokens that are not looked for in a text.

use super::{joins, settings, spelled};
use crate::error::{Error, Result};
use crate::format::base64;
use prost::Message;
use serde_json::{json, Value};
use std::collections::HashMap;
use std::path::Path;

/// Stands for a space.
const SPACE: &str = "\u{2581}";

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<Trainer>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<Normalizer>,
    #[prost(message, optional, tag = "5")]
    denormalizer: Option<Normalizer>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Trainer {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
    #[prost(bool, optional, tag = "24")]
    treat_whitespace_as_suffix: Option<bool>,
    #[prost(bool, optional, tag = "35")]
    byte_fallback: Option<bool>,
    #[prost(int32, optional, tag = "41")]
    bos_id: Option<i32>,
    #[prost(int32, optional, tag = "42")]
    eos_id: Option<i32>,
    #[prost(string, optional, tag = "44")]
    unk_surface: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Normalizer {
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    escape_whitespaces: Option<bool>,
}

/// What a piece is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    User,
    Unused,
    Byte,
}

struct Model {
    tokens: Vec<String>,
    scores: Vec<f32>,
    kinds: Vec<Kind>,
    unknown: usize,
}

fn pieces(list: Vec<Piece>) -> Result<Model> {
    let mut model = Model { tokens: Vec::new(), scores: Vec::new(), kinds: Vec::new(), unknown: usize::MAX };
    let mut seen = HashMap::with_capacity(list.len());
    for (id, piece) in list.into_iter().enumerate() {
        let kind = match piece.kind.unwrap_or(1) {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::User,
            5 => Kind::Unused,
            6 => Kind::Byte,
            other => return Err(Error::input(format!("piece {id} is of kind {other}, which does not exist"))),
        };
        let (token, score) = (piece.piece.unwrap_or_default(), piece.score.unwrap_or(0.0));
        if token.is_empty() {
            return Err(Error::input(format!("piece {id} is empty")));
        }
        if !score.is_finite() {
            return Err(Error::input(format!("the score of piece {id} is {score}")));
        }
        if let Some(old) = seen.insert(token.clone(), id) {
            return Err(Error::input(format!("the pieces {old} and {id} are the same")));
        }
        if kind == Kind::Unknown {
            if model.unknown != usize::MAX {
                return Err(Error::input(format!("the pieces {} and {id} are both the unknown one", model.unknown)));
            }
            model.unknown = id;
        }
        model.tokens.push(token);
        model.scores.push(score);
        model.kinds.push(kind);
    }
    if model.unknown == usize::MAX {
        return Err(Error::input("no piece is the unknown one"));
    }
    Ok(model)
}

/// `tokenizer.json` of a model file; `dir` may hold a `tokenizer_config.json`.
///
/// # Errors
/// `Input` for a damaged file, `Unsupported` for models of words or characters and for settings that have no counterpart.
pub fn read(data: &[u8], dir: &Path) -> Result<Value> {
    let proto = ModelProto::decode(data).map_err(|e| Error::input(format!("this is no SentencePiece model: {e}")))?;
    let model = pieces(proto.pieces)?;
    let trainer = proto.trainer.unwrap_or_default();
    let normalizer = proto.normalizer.unwrap_or_default();
    if trainer.treat_whitespace_as_suffix == Some(true) {
        return Err(Error::unsupported("spaces at the end of pieces (`treat_whitespace_as_suffix`) are not supported"));
    }
    if proto.denormalizer.is_some_and(|d| d.precompiled_charsmap.is_some_and(|map| !map.is_empty())) {
        return Err(Error::unsupported("a map that is applied to decoded text (`denormalizer_spec`) is not supported"));
    }
    let bytes = model.kinds.iter().filter(|kind| **kind == Kind::Byte).count();
    let byte_fallback = trainer.byte_fallback.unwrap_or(false);
    if byte_fallback && bytes != 256 {
        return Err(Error::input(format!("{bytes} of the 256 byte pieces are there")));
    }
    let mut body = match trainer.model_type.unwrap_or(1) {
        1 => unigram(&model),
        2 => bpe(&model)?,
        other => {
            let name =
                [(3, "words"), (4, "characters")].iter().find(|(k, _)| *k == other).map_or("another kind", |n| n.1);
            let hint = "models of kind unigram and BPE are read";
            return Err(Error::unsupported(format!("this is a SentencePiece model of {name}")).hint(hint));
        }
    };
    body["byte_fallback"] = json!(byte_fallback);
    let (prefix, trims) =
        (normalizer.add_dummy_prefix.unwrap_or(true), normalizer.remove_extra_whitespaces.unwrap_or(true));
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix || trims {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let map = normalizer.precompiled_charsmap.filter(|map| !map.is_empty());
    let special = |id: Option<i32>, otherwise| {
        usize::try_from(id.unwrap_or(otherwise)).ok().filter(|id| model.kinds.get(*id) == Some(&Kind::Control))
    };
    let around = settings::around(dir, special(trainer.bos_id, 1), special(trainer.eos_id, 2))?;
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added(&model),
        "normalizer": {
            "type": "SentencePiece",
            "precompiled_charsmap": map.map(|map| base64::encode(&map)),
            "remove_extra_whitespaces": trims,
            "add_dummy_prefix": prefix,
            "escape_whitespaces": normalizer.escape_whitespaces.unwrap_or(true),
            "unk_surface": trainer.unk_surface.unwrap_or_else(|| " \u{2047} ".into()),
        },
        "pre_tokenizer": null,
        "post_processor": spelled::template(&model.tokens, around.0, around.1),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": body,
    }))
}

/// Control pieces are special; what users defined is kept whole. A piece that is not used is neither found nor made, like a control piece.
fn added(model: &Model) -> Vec<Value> {
    let token = |(id, kind): (usize, &Kind)| {
        let special = match kind {
            Kind::Control | Kind::Unused => true,
            Kind::User => false,
            Kind::Normal | Kind::Unknown | Kind::Byte => return None,
        };
        Some(spelled::added(id as u64, &model.tokens[id], special))
    };
    model.kinds.iter().enumerate().filter_map(token).collect()
}

fn unigram(model: &Model) -> Value {
    let pieces: Vec<Value> = model.tokens.iter().zip(&model.scores).map(|(t, s)| json!([t, f64::from(*s)])).collect();
    json!({"type": "Unigram", "unk_id": model.unknown, "vocab": pieces})
}

fn bpe(model: &Model) -> Result<Value> {
    if let Some(id) = model.kinds.iter().position(|kind| *kind == Kind::Unused) {
        let what = format!("piece {id} is marked as not used, which is not supported in BPE models");
        return Err(Error::unsupported(what));
    }
    let normal: Vec<usize> = (0..model.tokens.len()).filter(|id| model.kinds[*id] == Kind::Normal).collect();
    let merges = by_score(&model.tokens, &model.scores, normal)?;
    Ok(json!({
        "type": "BPE", "dropout": null, "unk_token": model.tokens[model.unknown], "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true, "ignore_merges": false,
        "vocab": spelled::by_token(&model.tokens), "merges": merges,
    }))
}

/// Merges of pieces with scores: any two whose text is a piece, the best score first.
///
/// # Errors
/// As [`joins::merges`].
pub fn by_score(tokens: &[String], scores: &[f32], mut normal: Vec<usize>) -> Result<Vec<Value>> {
    normal.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let list: Vec<(u32, &[u8], f32)> =
        normal.iter().map(|id| (*id as u32, tokens[*id].as_bytes(), scores[*id])).collect();
    // Every character begins with a byte that continues none.
    let cuts = |token: &[u8]| (1..token.len()).filter(|at| token[*at] & 0xc0 != 0x80).collect();
    let merges = joins::merges(&list, cuts)?;
    Ok(merges.into_iter().map(|(l, r)| json!([tokens[l as usize], tokens[r as usize]])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str, score: f32, kind: i32) -> Piece {
        Piece { piece: Some(text.into()), score: Some(score), kind: Some(kind) }
    }

    fn model(model_type: i32, pieces: Vec<Piece>) -> ModelProto {
        let trainer = Trainer { model_type: Some(model_type), ..Trainer::default() };
        ModelProto { pieces, trainer: Some(trainer), ..ModelProto::default() }
    }

    /// `▁a` and `▁b` by merges, and what every model has.
    fn small() -> Vec<Piece> {
        let normal = [("\u{2581}a", -1.0), ("\u{2581}", -3.0), ("a", -4.0)];
        let special = [piece("<unk>", 0.0, 2), piece("<s>", 0.0, 3), piece("</s>", 0.0, 3)];
        special.into_iter().chain(normal.map(|(text, score)| piece(text, score, 1))).collect()
    }

    fn json(proto: &ModelProto) -> Result<Value> {
        read(&proto.encode_to_vec(), Path::new("nowhere"))
    }

    fn refused(proto: &ModelProto) -> String {
        json(proto).unwrap_err().to_string()
    }

    fn with(extra: Piece) -> String {
        refused(&model(1, small().into_iter().chain([extra]).collect()))
    }

    #[test]
    fn both_kinds_become_a_tokenizer() {
        let bpe = json(&model(2, small())).unwrap();
        assert_eq!(bpe["model"]["merges"], json!([["\u{2581}", "a"]]));
        assert_eq!(bpe["model"]["vocab"]["\u{2581}a"], 3);
        assert_eq!((&bpe["normalizer"]["add_dummy_prefix"], &bpe["post_processor"]), (&json!(true), &Value::Null));
        let unigram = json(&model(1, small())).unwrap();
        assert_eq!(unigram["model"]["vocab"][4], json!(["\u{2581}", -3.0]));
        assert_eq!((&unigram["model"]["unk_id"], &unigram["added_tokens"][1]["id"]), (&json!(0), &json!(2)));
    }

    #[test]
    fn hostile_bytes_are_no_model() {
        // A piece longer than the file, a field that never ends, text that is no UTF-8, a group.
        for data in [
            &b"\x0a\xff\x7f"[..],
            b"\x0a",
            b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
            b"\x0a\x03\x0a\x01\xff",
            b"\x0b",
        ] {
            let error = read(data, Path::new("nowhere")).unwrap_err().to_string();
            assert!(error.contains("no SentencePiece model"), "{data:?}: {error}");
        }
        assert!(read(b"", Path::new("nowhere")).unwrap_err().to_string().contains("no piece is the unknown one"));
    }

    #[test]
    fn hostile_pieces_are_named() {
        assert!(with(piece("", 0.0, 1)).contains("piece 6 is empty"));
        assert!(with(piece("x", f32::NAN, 1)).contains("the score of piece 6"));
        assert!(with(piece("x", 0.0, 9)).contains("kind 9"));
        assert!(with(piece("a", 0.0, 1)).contains("the pieces 5 and 6 are the same"));
        assert!(with(piece("x", 0.0, 2)).contains("both the unknown one"));
        assert!(refused(&model(1, vec![piece("a", 0.0, 1)])).contains("no piece is the unknown one"));
    }

    #[test]
    fn what_has_no_counterpart_is_named() {
        assert!(refused(&model(3, small())).contains("model of words"));
        assert!(refused(&model(4, small())).contains("model of characters"));
        assert!(refused(&model(7, small())).contains("another kind"));
        let unused = small().into_iter().chain([piece("x", 0.0, 5)]).collect();
        assert!(refused(&model(2, unused)).contains("piece 6 is marked as not used"));
        let mut proto = model(1, small());
        proto.trainer = Some(Trainer { byte_fallback: Some(true), ..Trainer::default() });
        assert!(refused(&proto).contains("0 of the 256 byte pieces"));
        proto.trainer = Some(Trainer { treat_whitespace_as_suffix: Some(true), ..Trainer::default() });
        assert!(refused(&proto).contains("treat_whitespace_as_suffix"));
        let mut proto = model(1, small());
        proto.denormalizer = Some(Normalizer { precompiled_charsmap: Some(vec![1]), ..Normalizer::default() });
        assert!(refused(&proto).contains("denormalizer_spec"));
    }
}
