//! What SentencePiece does to a text before its model, and to pieces after it: the host's form of a `tokenizer.json` that was made from a
//! SentencePiece model. The reference library has parts that come close; where they differ, SentencePiece is right here.

use serde_json::Value;
use tokenizers::Model;

use super::charmap::Charmap;
use super::spm_unigram::{byte_of, SpmUnigram};
use crate::error::{Error, Result};
use crate::format::base64;

const SPACE: &str = "\u{2581}";

/// A model of SentencePiece without its BPE, which the reference library does.
pub(super) struct Spm {
    map: Option<Charmap>,
    /// Pieces of the users, the longest first: kept as they are in a text, and whole in BPE.
    users: Vec<(String, u32)>,
    trims: bool,
    prefix: bool,
    escapes: bool,
    unknown_text: String,
    unknown: Option<u32>,
    controls: Vec<u32>,
    bytes: bool,
    unigram: Option<SpmUnigram>,
}

impl Spm {
    /// None if the file carries no settings of SentencePiece.
    ///
    /// # Errors
    /// `Input` if they are damaged.
    pub fn from_json(file: &Value) -> Result<Option<Spm>> {
        let settings = &file["normalizer"];
        if settings["type"] != "SentencePiece" {
            return Ok(None);
        }
        let bad = |what: &str| Error::input(format!("`precompiled_charsmap`: {what}"));
        let map = match settings["precompiled_charsmap"].as_str() {
            Some(text) => {
                Charmap::read(&base64::decode(text.as_bytes()).ok_or_else(|| bad("this is no base64"))?).map_err(bad)?
            }
            None => None,
        };
        let model = &file["model"];
        let (mut users, mut controls) = (Vec::new(), Vec::new());
        for token in file["added_tokens"].as_array().into_iter().flatten() {
            let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok());
            match (token["content"].as_str(), id) {
                (Some(_), Some(id)) if token["special"] == true => controls.push(id),
                (Some(content), Some(id)) if !content.is_empty() => users.push((content.to_string(), id)),
                _ => return Err(Error::input("an added token has no text or no id")),
            }
        }
        users.sort_by_key(|(content, _)| std::cmp::Reverse(content.len()));
        let unknown = match model["unk_token"].as_str() {
            Some(token) => model["vocab"][token].as_u64(),
            None => model["unk_id"].as_u64(),
        };
        let flag = |key: &str| settings[key].as_bool().unwrap_or(true);
        Ok(Some(Spm {
            map,
            users,
            trims: flag("remove_extra_whitespaces"),
            prefix: flag("add_dummy_prefix"),
            escapes: flag("escape_whitespaces"),
            unknown_text: settings["unk_surface"].as_str().unwrap_or(" \u{2047} ").to_string(),
            unknown: unknown.and_then(|id| u32::try_from(id).ok()),
            controls,
            bytes: model["byte_fallback"].as_bool().unwrap_or(false),
            unigram: SpmUnigram::from_json(file)?,
        }))
    }

    /// Ids of a text, without those of a template. `model` is the file's own, as the reference library reads it.
    ///
    /// # Errors
    /// What the library says.
    pub fn encode(&self, text: &str, model: &impl Model) -> tokenizers::Result<Vec<u32>> {
        let text = self.normalized(text);
        if let Some(unigram) = &self.unigram {
            return Ok(unigram.encode(&text));
        }
        let mut ids = Vec::new();
        let (mut start, mut at) = (0, 0);
        while at < text.len() {
            match self.user(&text[at..]) {
                Some((user, id)) => {
                    ids.extend(model.tokenize(&text[start..at])?.iter().map(|token| token.id));
                    ids.push(*id);
                    at += user.len();
                    start = at;
                }
                None => at += text[at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        ids.extend(model.tokenize(&text[start..])?.iter().map(|token| token.id));
        Ok(ids)
    }

    fn user(&self, text: &str) -> Option<&(String, u32)> {
        self.users.iter().find(|(content, _)| text.starts_with(content))
    }

    /// The unit of text at the start: its bytes, and what becomes of it.
    fn unit<'a>(&'a self, text: &'a str) -> (usize, &'a str) {
        if let Some((user, _)) = self.user(text) {
            return (user.len(), user);
        }
        if let Some(found) = self.map.as_ref().and_then(|map| map.longest(text.as_bytes())) {
            return found;
        }
        let length = text.chars().next().map_or(0, char::len_utf8);
        (length, &text[..length])
    }

    fn normalized(&self, mut text: &str) -> String {
        let space = if self.escapes { SPACE } else { " " };
        let mut out = String::with_capacity(text.len());
        while self.trims && !text.is_empty() && self.unit(text).1 == " " {
            text = &text[self.unit(text).0..];
        }
        if text.is_empty() {
            return out;
        }
        if self.prefix {
            out.push_str(space);
        }
        let mut after_space = self.trims;
        while !text.is_empty() {
            let (length, unit) = self.unit(text);
            let unit = if after_space { unit.trim_start_matches(' ') } else { unit };
            if !unit.is_empty() {
                out.push_str(&unit.replace(' ', space));
                after_space = unit.ends_with(' ') && self.trims;
            }
            text = &text[length..];
        }
        while self.trims && out.ends_with(space) {
            out.truncate(out.len() - space.len());
        }
        out
    }

    /// Text of ids; `piece` spells one. Control pieces are left out.
    pub fn decode<'a>(&self, ids: &[u32], piece: impl Fn(u32) -> Option<String> + 'a) -> String {
        let mut out = String::new();
        let mut bytes = Vec::new();
        // A space at the start is the one that was put there.
        let mut at_start = self.prefix || self.trims;
        for &id in ids {
            let Some(piece) = piece(id).filter(|_| !self.controls.contains(&id)) else { continue };
            if let Some(byte) = byte_of(&piece).filter(|_| self.bytes) {
                bytes.push(byte);
                continue;
            }
            push_bytes(&mut out, &mut bytes);
            if Some(id) == self.unknown {
                out.push_str(&self.unknown_text);
                continue;
            }
            at_start &= out.is_empty();
            let rest = piece.strip_prefix(SPACE).filter(|_| at_start);
            // One space, or where text was trimmed as many pieces as lose one.
            at_start &= rest.is_none() || self.trims;
            out.push_str(&rest.unwrap_or(&piece).replace(SPACE, " "));
        }
        push_bytes(&mut out, &mut bytes);
        out
    }
}

/// Appends the text of byte pieces; each byte that is in no character is one U+FFFD.
fn push_bytes(out: &mut String, bytes: &mut Vec<u8>) {
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let valid = match std::str::from_utf8(rest) {
            Ok(text) => text,
            Err(e) => std::str::from_utf8(&rest[..e.valid_up_to()]).unwrap_or_default(),
        };
        out.push_str(valid);
        rest = &rest[valid.len()..];
        if !rest.is_empty() {
            out.push('\u{FFFD}');
            rest = &rest[1..];
        }
    }
    bytes.clear();
}

#[cfg(test)]
mod tests {
    use super::super::host::HostTokenizer;
    use super::super::load::load;
    use super::*;
    use serde_json::json;
    use std::path::Path;

    #[test]
    fn ids_and_texts_of_sentencepiece_itself() {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizers");
        let mut differences = Vec::new();
        for name in ["spm-bpe-bytes", "spm-bpe-nmt-nfkc", "spm-symbols", "spm-unigram-bytes", "spm-unigram-nfkc"] {
            let folder = all.join(name);
            let host = HostTokenizer::from_json(&load(&folder).unwrap().json.unwrap()).unwrap();
            let golden: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
            for case in golden["cases"].as_array().unwrap() {
                let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
                let text = case["text"].as_str().unwrap();
                let ours = (host.encode_more(text).unwrap(), host.decode(&ids).unwrap());
                if ours != (ids, case["decoded"].as_str().unwrap().to_string()) {
                    differences.push(format!("{name} {text:?}: {ours:?}, but {case}"));
                }
            }
        }
        assert!(
            differences.is_empty(),
            "{}: {}",
            differences.len(),
            differences[..differences.len().min(5)].join("\n")
        );
    }

    fn spm(settings: Value, added: Value) -> Spm {
        let mut settings = settings;
        settings["type"] = json!("SentencePiece");
        let model = json!({"type": "Unigram", "unk_id": 0, "byte_fallback": true, "vocab": [["<unk>", 0.0], ["▁a", -1.0], ["▁", -2.0], ["<0xE2>", 0.0], ["</s>", 0.0]]});
        Spm::from_json(&json!({"normalizer": settings, "added_tokens": added, "model": model})).unwrap().unwrap()
    }

    #[test]
    fn spaces_at_the_ends_and_in_a_row() {
        let trimmed = spm(json!({}), json!([]));
        assert_eq!(trimmed.normalized("  a  b "), "▁a▁b");
        assert_eq!(trimmed.normalized("  "), "");
        assert_eq!(trimmed.normalized("a ▁"), "▁a", "the mark itself counts as a space at the end");
        let kept = spm(json!({"remove_extra_whitespaces": false, "add_dummy_prefix": false}), json!([]));
        assert_eq!(kept.normalized(" a  b "), "▁a▁▁b▁");
        assert_eq!(kept.normalized(""), "");
        let plain = spm(json!({"escape_whitespaces": false}), json!([]));
        assert_eq!(plain.normalized(" a  b "), " a b");
    }

    #[test]
    fn the_first_space_of_a_text_is_not_its_own() {
        let piece = |id: u32| ["<unk>", "▁a", "▁", "<0xE2>", "</s>"].get(id as usize).map(|s| s.to_string());
        let special = json!([{"content": "</s>", "id": 4, "special": true}]);
        let trimmed = spm(json!({}), special.clone());
        assert_eq!(trimmed.decode(&[4, 2, 2, 1, 1, 4], piece), "a a");
        let kept = spm(json!({"remove_extra_whitespaces": false}), special.clone());
        assert_eq!(kept.decode(&[4, 2, 2, 1, 1, 4], piece), "  a a");
        assert_eq!(kept.decode(&[3, 3, 1, 0, 9], piece), "\u{FFFD}\u{FFFD} a \u{2047} ");
        let bare = spm(json!({"remove_extra_whitespaces": false, "add_dummy_prefix": false}), special);
        assert_eq!(bare.decode(&[1], piece), " a");
    }
}
