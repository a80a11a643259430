//! Rank files of tiktoken: a line for each token, its bytes in base64 and its rank, which is also its id.

use super::super::compile::alphabet;
use super::{joins, settings, spelled};
use crate::error::{Error, Result};
use crate::format::base64;
use crate::fsio::read_capped;
use crate::limits::MAX_JSON_BYTES;
use crate::tokenizer::MAX_VOCAB;
use serde_json::{json, Map, Value};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Beside the ranks: the pattern that cuts a text into words. Without it that of Llama 3 is taken.
const PATTERN: &str = "pattern.txt";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Tokens with their ranks, ascending.
fn ranks(data: &[u8]) -> Result<Vec<(u32, Vec<u8>)>> {
    let mut all = Vec::new();
    let (mut tokens, mut ids) = (HashSet::new(), HashSet::new());
    for (k, line) in data.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let bad = |what: &str| Error::input(format!("line {} of the rank file {what}", k + 1));
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(token), Some(rank), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("is not a token and its rank with a space between"));
        };
        let token = base64::decode(token).ok_or_else(|| bad("has a token that is no base64"))?;
        if token.is_empty() {
            return Err(bad("has an empty token"));
        }
        let rank = std::str::from_utf8(rank).ok().and_then(|rank| rank.parse::<u32>().ok());
        let rank = rank.filter(|rank| *rank < MAX_VOCAB).ok_or_else(|| bad("has a rank that is no small number"))?;
        if !ids.insert(rank) {
            return Err(bad(&format!("has the rank {rank} again")));
        }
        if !tokens.insert(token.clone()) {
            return Err(bad("has a token again"));
        }
        all.push((rank, token));
    }
    if let Some(byte) = (0..=255u8).find(|byte| !tokens.contains(&[*byte][..])) {
        return Err(Error::input(format!("the byte 0x{byte:02x} has no rank")).hint("every byte must be a token"));
    }
    all.sort_unstable();
    Ok(all)
}

/// `tokenizer.json` of a rank file; `dir` may hold a pattern, and settings with special tokens.
///
/// # Errors
/// `Input` with the line for a damaged file, `Unsupported` for tokens that are too long.
pub fn read(data: &[u8], dir: &Path) -> Result<Value> {
    let ranks = ranks(data)?;
    let letters: HashMap<u8, char> = alphabet().into_iter().map(|(character, byte)| (byte, character)).collect();
    let spell = |token: &[u8]| token.iter().filter_map(|byte| letters.get(byte)).collect::<String>();
    let list: Vec<(u32, &[u8], u32)> = ranks.iter().map(|(rank, token)| (*rank, &token[..], *rank)).collect();
    let merges = joins::merges(&list, |token| (1..token.len()).collect())?;
    let names: HashMap<u32, String> = ranks.iter().map(|(rank, token)| (*rank, spell(token))).collect();
    let name = |id: u32| names.get(&id).cloned().unwrap_or_default();
    let merges: Vec<Value> = merges.into_iter().map(|(left, right)| json!([name(left), name(right)])).collect();
    let vocab: Map<String, Value> = names.iter().map(|(rank, token)| (token.clone(), json!(rank))).collect();
    let settings = settings::read(dir)?;
    let pattern = dir.join(PATTERN);
    let pattern = if pattern.is_file() {
        let text = String::from_utf8(read_capped(&pattern, MAX_JSON_BYTES)?);
        text.map_err(|_| Error::input("the pattern is no UTF-8").at_file(&pattern))?
            .trim_end_matches(['\r', '\n'])
            .to_string()
    } else {
        LLAMA3.to_string()
    };
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": settings::added(&settings, |id, _| id >= ranks.len() as u64)?,
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Sequence", "pretokenizers": [spelled::regex(&pattern), spelled::byte_level(false, false)],
        },
        "post_processor": null,
        "decoder": spelled::byte_level(true, true),
        // tiktoken looks a word up before it merges.
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": true, "vocab": vocab, "merges": merges,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> String {
        (0..=255u8).map(|byte| format!("{} {byte}\n", base64::encode(&[byte]))).collect()
    }

    fn refused(lines: &str) -> String {
        ranks(format!("{}{lines}", bytes()).as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn hostile_lines_are_named() {
        assert!(refused("YWI=").contains("line 257"));
        assert!(refused("YWI= 256 1").contains("line 257"));
        assert!(refused("YWI 256").contains("no base64"));
        assert!(refused(" 256").contains("empty token"));
        assert!(refused("YWI= x").contains("no small number"));
        assert!(refused("YWI= -1").contains("no small number"));
        assert!(refused("YWI= 1048576").contains("no small number"));
        assert!(refused("YWI= 255").contains("the rank 255 again"));
        assert!(refused("YQ== 256").contains("a token again"));
        assert!(ranks(b"YQ== 0\n").unwrap_err().to_string().contains("0x00"));
        assert!(ranks(b"").is_err());
    }

    #[test]
    fn a_token_has_one_merge() {
        let file = format!("{}YWI= 256\r\nYmM= 257\nYWJj 258\n\n", bytes());
        let json = read(file.as_bytes(), Path::new("nowhere")).unwrap();
        assert_eq!(json["model"]["merges"], json!([["a", "b"], ["b", "c"], ["ab", "c"]]));
        assert_eq!(json["model"]["vocab"]["abc"], 258);
        assert_eq!(json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"], LLAMA3);
    }
}
