//! Parts of a `tokenizer.json` that several sources share.

use serde_json::{json, Map, Value};

/// Token → id.
pub fn by_token(tokens: &[String]) -> Map<String, Value> {
    tokens.iter().enumerate().map(|(i, t)| (t.clone(), json!(i))).collect()
}

/// An added token that is looked for as it is written.
pub fn added(id: u64, content: &str, special: bool) -> Value {
    json!({
        "id": id, "content": content, "special": special, "normalized": false, "single_word": false, "lstrip": false,
        "rstrip": false,
    })
}

/// A post-processor that puts a token before and one after each text; null for neither. Ids are below the number of tokens.
pub fn template(tokens: &[String], prefix: Option<usize>, suffix: Option<usize>) -> Value {
    if prefix.is_none() && suffix.is_none() {
        return Value::Null;
    }
    let template = |id: usize| json!({"SpecialToken": {"id": tokens[id], "type_id": 0}});
    let text = |name: &str, type_id: u32| json!({"Sequence": {"id": name, "type_id": type_id}});
    let around = |text| prefix.map(template).into_iter().chain([text]).chain(suffix.map(template));
    let single: Vec<Value> = around(text("A", 0)).collect();
    let pair: Vec<Value> = single.iter().cloned().chain(around(text("B", 1))).collect();
    let mut special = Map::new();
    for id in prefix.into_iter().chain(suffix) {
        let name = tokens[id].as_str();
        special.insert(name.to_string(), json!({"id": name, "ids": [id], "tokens": [name]}));
    }
    json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special})
}

/// A `Split` by a pattern.
pub fn regex(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

/// `ByteLevel`, which has the same form everywhere.
pub fn byte_level(add_prefix_space: bool, use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": use_regex})
}
