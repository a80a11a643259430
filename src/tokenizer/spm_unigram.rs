//! SentencePiece's unigram model on the host, in the arithmetic of SentencePiece itself.
//!
//! The reference library of the host adds scores in binary64, SentencePiece in binary32, and about one text in a thousand has two paths so close
//! that this decides. Floating point is right here: it is what the integers of `device/unigram` are compared with.

use std::collections::HashMap;

use serde_json::Value;

use crate::error::{Error, Result};

const UNKNOWN_PENALTY: f32 = 10.0;
/// What SentencePiece takes off the score of a piece of its users.
const USER_PENALTY: f64 = 0.1;

/// The model of a `tokenizer.json` that was made from a SentencePiece model.
pub(super) struct SpmUnigram {
    /// Pieces that are looked for in a text: no controls, no bytes, not the unknown.
    pieces: HashMap<String, (u32, f32)>,
    /// Bytes of the longest of them.
    longest: usize,
    unknown: u32,
    unknown_score: f32,
    /// Ids of `<0x00>` to `<0xFF>`, if unknown characters become those.
    bytes: Option<Vec<u32>>,
}

impl SpmUnigram {
    /// None if the model is of another kind.
    ///
    /// # Errors
    /// `Input` if a piece, a score or the unknown id is not what it should be.
    pub fn from_json(file: &Value) -> Result<Option<SpmUnigram>> {
        let model = &file["model"];
        if model["type"] != "Unigram" {
            return Ok(None);
        }
        let bad = |what: &str| Error::input(format!("unigram model: {what}"));
        let vocab = model["vocab"].as_array().ok_or_else(|| bad("`vocab` is not a list"))?;
        let unknown =
            model["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| bad("no `unk_id`"))?;
        let added: HashMap<&str, bool> = file["added_tokens"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|token| Some((token["content"].as_str()?, token["special"].as_bool().unwrap_or(false))))
            .collect();
        let fallback = model["byte_fallback"].as_bool().unwrap_or(false);
        let mut bytes = vec![None; 256];
        let (mut pieces, mut users) = (HashMap::new(), Vec::new());
        let (mut least, mut most) = (f32::MAX, f32::MIN_POSITIVE);
        for (id, entry) in (0u32..).zip(vocab) {
            let (Some(piece), Some(score)) = (entry[0].as_str(), entry[1].as_f64()) else {
                return Err(bad(&format!("entry {id} is not a piece and its score")));
            };
            let byte = byte_of(piece).filter(|_| fallback);
            if let Some(byte) = byte {
                bytes[usize::from(byte)] = Some(id);
            } else if added.get(piece) == Some(&false) {
                users.push((piece, id));
            } else if id != unknown && !added.contains_key(piece) {
                let score = score as f32;
                (least, most) = (least.min(score), most.max(score));
                pieces.insert(piece.to_string(), (id, score));
            }
        }
        for (piece, id) in users {
            let score = f64::from(piece.len() as f32 * most) - USER_PENALTY;
            pieces.insert(piece.to_string(), (id, score as f32));
        }
        let longest = pieces.keys().map(String::len).max().unwrap_or(0);
        let bytes = bytes.into_iter().collect();
        Ok(Some(SpmUnigram { pieces, longest, unknown, unknown_score: least - UNKNOWN_PENALTY, bytes }))
    }

    /// Ids of a text that is normalized already, without those of a template.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        // For each place: the best sum that ends there, where its last piece starts, and that piece unless it is unknown.
        let mut best: Vec<Option<(f32, usize, Option<u32>)>> = vec![None; text.len() + 1];
        best[0] = Some((0.0, 0, None));
        for (at, first) in text.char_indices() {
            let Some((here, ..)) = best[at] else { continue };
            let mut offer = |end: usize, score: f32, id: Option<u32>| {
                let sum = here + score;
                if best[end].is_none_or(|(other, ..)| sum > other) {
                    best[end] = Some((sum, at, id));
                }
            };
            let rest = &text[at..];
            let ends = rest.char_indices().map(|(k, c)| k + c.len_utf8()).take_while(|&length| length <= self.longest);
            for length in ends {
                if let Some(&(id, score)) = self.pieces.get(&rest[..length]) {
                    offer(at + length, score, Some(id));
                }
            }
            if !self.pieces.contains_key(&rest[..first.len_utf8()]) {
                offer(at + first.len_utf8(), self.unknown_score, None);
            }
        }
        let (mut end, mut path) = (text.len(), Vec::new());
        while let Some((_, start, id)) = best[end].filter(|_| end > 0) {
            path.push((start..end, id));
            end = start;
        }
        let (mut ids, mut unknown_before) = (Vec::new(), false);
        for (range, id) in path.into_iter().rev() {
            match (id, &self.bytes) {
                (Some(id), _) => ids.push(id),
                (None, Some(bytes)) => ids.extend(text[range].bytes().map(|byte| bytes[usize::from(byte)])),
                (None, None) if unknown_before => {}
                (None, None) => ids.push(self.unknown),
            }
            unknown_before = id.is_none();
        }
        ids
    }
}

/// The byte that a piece like `<0x0A>` stands for.
pub(super) fn byte_of(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok().filter(|byte| format!("{byte:02X}") == digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn model(vocab: Value, added: Value, fallback: bool) -> SpmUnigram {
        let model = json!({"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": fallback});
        SpmUnigram::from_json(&json!({"model": model, "added_tokens": added})).unwrap().unwrap()
    }

    #[test]
    fn controls_are_not_found_and_users_pieces_are_preferred() {
        let vocab = json!([["<unk>", 0.0], ["</s>", 0.0], ["ab", 0.0], ["a", -1.0], ["b", -1.0], ["abb", -1.5]]);
        let added = json!([{"content": "<unk>", "special": true}, {"content": "</s>", "special": true}, {"content": "ab", "special": false}]);
        let model = model(vocab, added, false);
        assert_eq!(model.encode("abb"), [2, 4]);
        assert_eq!(model.encode("a</s>xb<unk>"), [3, 0, 4, 0]);
        assert!(model.encode("").is_empty());
    }

    #[test]
    fn unknown_characters_become_bytes() {
        let mut vocab = vec![json!(["<unk>", 0.0]), json!(["a", -1.0])];
        vocab.extend((0..256).map(|byte| json!([format!("<0x{byte:02X}>"), 0.0])));
        let model = model(json!(vocab), json!([]), true);
        assert_eq!(model.encode("aéa"), [1, 2 + 0xc3, 2 + 0xa9, 1]);
        assert_eq!(model.encode("<0x41>").len(), 6, "a byte piece is not found in a text");
    }

    #[test]
    fn sums_are_binary32() {
        // Exact sums are equal for every order of "a" and "aa"; the device's integers agree with these floats on which is taken.
        let model = model(json!([["<unk>", 0.0], ["b", -0.7], ["a", -1.1], ["aa", -2.1]]), json!([]), false);
        let text = "baaaaaaa".repeat(300);
        let ids = model.encode(&text);
        let words: std::collections::BTreeSet<&[u32]> = ids.split(|&id| id == 1).collect();
        assert!(words.len() > 2, "{words:?}");
    }

    #[test]
    fn other_models_are_left_alone() {
        assert!(SpmUnigram::from_json(&json!({"model": {"type": "BPE"}})).unwrap().is_none());
        let error = SpmUnigram::from_json(&json!({"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a"]]}}));
        assert!(error.err().unwrap().to_string().contains("entry 0"));
        assert!(SpmUnigram::from_json(&json!({"model": {"type": "Unigram", "vocab": []}})).is_err());
    }
}
