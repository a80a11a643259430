//! Which tokenizers onnxruntime-genai cuts texts with as their own library does. It has no message for most of what it does not know and gives
//! other ids instead, so what was seen to go wrong there is refused here, and what goes wrong at the edges is said. Measured with its release
//! 0.18.0 on the texts that our own tokenizers are tested with; docs/onnx.md has the table.

use crate::error::{printable, Error, Result};
use crate::tokenizer::load::gguf::name_of;
use serde_json::Value;

/// What a person should know about a tokenizer there.
///
/// # Errors
/// `Unsupported` for those that do not load there, or give other ids for ordinary texts.
pub fn check(json: &Value) -> Result<Vec<String>> {
    let model = &json["model"];
    let kind = model["type"].as_str().unwrap_or("of no name");
    if kind != "BPE" {
        return Err(refused(&format!("a tokenizer of the kind {}", printable(kind))));
    }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[key].as_str().is_some_and(|s| !s.is_empty()) {
            return Err(refused(&format!("the `{key}` of this tokenizer")));
        }
    }
    let cut = steps(&json["pre_tokenizer"], "pretokenizers");
    let mut warnings = Vec::new();
    match cut.iter().any(|s| is(s, "ByteLevel")) {
        true => byte_level(json, &cut, &mut warnings)?,
        false => marked_spaces(json, &cut, &mut warnings)?,
    }
    let alone = |t: &Value| t["single_word"] == true || t["lstrip"] == true;
    if json["added_tokens"].as_array().is_some_and(|all| all.iter().any(alone)) {
        warnings.push("onnxruntime-genai takes special tokens wherever they stand in a text: their `single_word` and `lstrip` are lost".into());
    }
    Ok(warnings)
}

fn refused(what: &str) -> Error {
    Error::unsupported(format!("onnxruntime-genai does not know {what}"))
        .hint("leave `--genai` out: the graph takes token ids of any tokenizer")
}

fn is(step: &Value, kind: &str) -> bool {
    step["type"] == kind
}

/// The steps of a normalizer or pre-tokenizer, which may be one or a list, or lists in it.
fn steps<'a>(of: &'a Value, list: &str) -> Vec<&'a Value> {
    match of {
        Value::Null => Vec::new(),
        s if is(s, "Sequence") => s[list].as_array().into_iter().flatten().flat_map(|s| steps(s, list)).collect(),
        s => vec![s],
    }
}

/// Tokens of bytes, as GPT-2 and most models since.
fn byte_level(json: &Value, cut: &[&Value], warnings: &mut Vec<String>) -> Result<()> {
    let normal = steps(&json["normalizer"], "normalizers");
    if let Some(other) = normal.iter().find(|s| !is(s, "NFC")) {
        return Err(refused(&format!("the normalizer {} of this tokenizer", name(other))));
    }
    if !normal.is_empty() {
        warnings.push(
            "onnxruntime-genai does not bring texts to Unicode form C: letters with separate marks give other ids"
                .into(),
        );
    }
    for step in cut {
        match step["type"].as_str() {
            Some("ByteLevel") if step["add_prefix_space"].as_bool() != Some(false) => {
                return Err(refused("the space before every text of this tokenizer (`add_prefix_space`)"));
            }
            Some("Split")
                if step["pattern"]["Regex"].is_null() || step["behavior"] != "Isolated" || step["invert"] == true =>
            {
                return Err(refused(&format!("this way to split a text: {}", short(step))));
            }
            Some("Digits") => {
                warnings.push("onnxruntime-genai leaves the step Digits out: some numbers may give other ids".into());
            }
            Some("ByteLevel" | "Split") => {}
            _ => return Err(refused(&format!("the step {} of this tokenizer", name(step)))),
        }
    }
    let whole = json["model"]["ignore_merges"].as_bool().unwrap_or(false);
    match name_of(&json["pre_tokenizer"], !normal.is_empty(), whole) {
        // Its third pattern does not load.
        Some("default") => Err(refused("the patterns of this tokenizer")),
        None if cut.iter().any(|s| is(s, "Split")) => {
            warnings.push(
                "the patterns of this tokenizer were not tried with onnxruntime-genai: compare ids before you rely on them"
                    .into(),
            );
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Tokens of letters with a mark in place of a space, as Llama 2.
fn marked_spaces(json: &Value, cut: &[&Value], warnings: &mut Vec<String>) -> Result<()> {
    let normal = steps(&json["normalizer"], "normalizers");
    let mark = "\u{2581}";
    let replaced = |s: &Value| is(s, "Replace") && s["pattern"]["String"] == " " && s["content"] == mark;
    match (&normal[..], cut) {
        ([before, replace], []) if is(before, "Prepend") && before["prepend"] == mark && replaced(replace) => {}
        ([], [one]) if is(one, "Metaspace") && one["prepend_scheme"] != "never" && one["add_prefix_space"] != false => {
            warnings.push("texts that begin with a space give other ids in onnxruntime-genai".into());
        }
        _ => {
            let step = normal.first().or(cut.first()).map_or("without steps".into(), |s| name(s));
            return Err(refused(&format!("this tokenizer without bytes ({step})")));
        }
    }
    warnings.push("texts that onnxruntime-genai decodes with this tokenizer begin with a space".into());
    Ok(())
}

fn name(step: &Value) -> String {
    format!("`{}`", printable(step["type"].as_str().unwrap_or("?")))
}

fn short(v: &Value) -> String {
    printable(&v.to_string().chars().take(120).collect::<String>()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Vec<String>> {
        check(&serde_json::from_str(json).unwrap())
    }

    fn says(json: &str, what: &str) {
        let e = of(json).unwrap_err();
        assert!(e.to_string().contains(what), "{e}");
        assert_eq!(e.kind(), crate::error::Kind::Unsupported);
    }

    fn warns(json: &str, what: &str) {
        let all = of(json).unwrap();
        assert!(all.iter().any(|w| w.contains(what)), "{all:?}");
    }

    #[test]
    fn bytes_cut_as_gpt2_does_are_taken_without_a_word() {
        let json = r#"{"model": {"type": "BPE"}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}}"#;
        assert_eq!(of(json).unwrap(), [""; 0]);
        let nested = r#"{"model": {"type": "BPE", "end_of_word_suffix": ""}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": false}]}]}}"#;
        assert_eq!(of(nested).unwrap(), [""; 0]);
    }

    #[test]
    fn other_kinds_than_bpe_are_refused() {
        says(r#"{"model": {"type": "Unigram", "vocab": []}}"#, "Unigram");
        says(r#"{"model": {"type": "WordPiece"}, "pre_tokenizer": {"type": "ByteLevel"}}"#, "WordPiece");
        says(r#"{"model": {}}"#, "of no name");
        says("[]", "of no name");
    }

    #[test]
    fn ends_of_words_are_refused() {
        says(r#"{"model": {"type": "BPE", "end_of_word_suffix": "</w>"}}"#, "end_of_word_suffix");
        says(r###"{"model": {"type": "BPE", "continuing_subword_prefix": "##"}}"###, "continuing_subword_prefix");
    }

    #[test]
    fn a_space_before_every_text_is_refused() {
        // It is added where nothing is said.
        for flag in ["", r#", "add_prefix_space": true"#] {
            let json = format!(r#"{{"model": {{"type": "BPE"}}, "pre_tokenizer": {{"type": "ByteLevel"{flag}}}}}"#);
            says(&json, "add_prefix_space");
        }
    }

    #[test]
    fn normalizers_that_change_letters_are_refused() {
        let pre = r#""pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}"#;
        says(
            &format!(r#"{{"model": {{"type": "BPE"}}, {pre}, "normalizer": {{"type": "Lowercase"}}}}"#),
            "`Lowercase`",
        );
        let list = r#""normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFKC"}]}"#;
        says(&format!(r#"{{"model": {{"type": "BPE"}}, {pre}, {list}}}"#), "`NFKC`");
        warns(&format!(r#"{{"model": {{"type": "BPE"}}, {pre}, "normalizer": {{"type": "NFC"}}}}"#), "form C");
    }

    #[test]
    fn ways_to_split_that_give_other_words_are_refused() {
        for split in [
            r#"{"type": "Split", "pattern": {"String": "e"}, "behavior": "Isolated"}"#,
            r#"{"type": "Split", "pattern": {"Regex": "e"}, "behavior": "Removed"}"#,
            r#"{"type": "Split", "pattern": {"Regex": "e"}, "behavior": "Isolated", "invert": true}"#,
            r#"{"type": "Punctuation"}"#,
            "7",
        ] {
            let json = format!(
                r#"{{"model": {{"type": "BPE"}}, "pre_tokenizer": {{"type": "Sequence", "pretokenizers": [{split},
                {{"type": "ByteLevel", "add_prefix_space": false}}]}}}}"#
            );
            let e = of(&json).unwrap_err().to_string();
            assert!(e.contains("this way to split") || e.contains("the step"), "{split}: {e}");
        }
    }

    #[test]
    fn patterns_that_nobody_tried_are_said() {
        let json = r#"{"model": {"type": "BPE"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "[a-c]+"}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]}}"#;
        warns(json, "not tried");
    }

    #[test]
    fn numbers_cut_into_digits_are_said() {
        let json = r#"{"model": {"type": "BPE"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, {"type": "ByteLevel", "add_prefix_space": false}]}}"#;
        warns(json, "Digits");
    }

    #[test]
    fn tokens_that_stand_alone_are_said() {
        let json = r#"{"model": {"type": "BPE"}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
            "added_tokens": [{"id": 0, "content": "<x>", "lstrip": true}]}"#;
        warns(json, "lstrip");
    }

    #[test]
    fn marked_spaces_are_taken_in_the_two_usual_forms() {
        let old = r#"{"model": {"type": "BPE"}, "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}}"#;
        warns(old, "begin with a space");
        let new = r#"{"model": {"type": "BPE"}, "pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "first"}}"#;
        warns(new, "texts that begin with a space");
        says(&new.replace("first", "never"), "`Metaspace`");
        says(r#"{"model": {"type": "BPE"}}"#, "without steps");
        says(&old.replace("\"▁\"}, {", "\"_\"}, {"), "`Prepend`");
    }
}
