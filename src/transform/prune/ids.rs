//! Ids of tokens in configurations, under the ids that they get.

use super::config::Settings;
use serde_json::{json, Map, Value};

/// Lists of ids whose names do not end in `_token_id`.
const LISTS: [&str; 3] = ["suppress_tokens", "begin_suppress_tokens", "bad_words_ids"];
const MAX_DEPTH: usize = 4;

fn names_ids(key: &str) -> bool {
    ["_token_id", "_token_ids", "_token_index"].iter().any(|end| key.ends_with(end)) || LISTS.contains(&key)
}

/// Applies `f` to every id that a configuration names, itself and its text part.
fn each(config: &mut Value, f: &mut dyn FnMut(&mut Value)) {
    fn ids(v: &mut Value, f: &mut dyn FnMut(&mut Value), depth: usize) {
        match v {
            Value::Number(_) => f(v),
            Value::Array(list) if depth > 0 => list.iter_mut().for_each(|v| ids(v, f, depth - 1)),
            _ => {}
        }
    }
    if let Some(text) = config.get_mut("text_config").filter(|t| t.is_object()) {
        each(text, f);
    }
    for (key, v) in config.as_object_mut().into_iter().flatten() {
        if names_ids(key) {
            ids(v, f, MAX_DEPTH);
        }
    }
}

/// All ids that a configuration names, ascending; negative ones mean that there is none.
pub fn named(config: &Value) -> Vec<u32> {
    let mut out = Vec::new();
    each(&mut config.clone(), &mut |v| out.extend(v.as_u64().and_then(|n| u32::try_from(n).ok())));
    out.sort_unstable();
    out.dedup();
    out
}

/// Rewrites the ids of a configuration and the size of the vocabulary, where it is said.
pub fn rewrite(config: &mut Value, new_id: impl Fn(u32) -> Option<u32>, size: usize, is_model: bool) {
    each(config, &mut |v| {
        if let Some(new) = v.as_u64().and_then(|n| u32::try_from(n).ok()).and_then(&new_id) {
            *v = json!(new);
        }
    });
    if is_model {
        Settings(config).set("vocab_size", json!(size));
    }
}

/// Rewrites `added_tokens_decoder` of `tokenizer_config.json`, whose keys are ids; tokens that are gone leave it.
pub fn rewrite_added(config: &mut Value, new_id: impl Fn(u32) -> Option<u32>) {
    let Some(Value::Object(added)) = config.get_mut("added_tokens_decoder") else { return };
    let moved = std::mem::take(added).into_iter().filter_map(|(id, token)| Some((new_id(id.parse().ok()?)?, token)));
    *added = moved.map(|(id, token)| (id.to_string(), token)).collect::<Map<_, _>>();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_move_wherever_they_are_named() {
        let mut c = json!({"vocab_size": 100, "bos_token_id": 7, "eos_token_id": [9, 30], "pad_token_id": -1, "hidden_size": 9,
            "image_token_index": null, "suppress_tokens": [9], "bad_words_ids": [[7, 9]], "text_config": {"eos_token_id": 30}});
        assert_eq!(named(&c), [7, 9, 30]);
        rewrite(&mut c, |id| [7, 9, 30].binary_search(&id).ok().map(|i| i as u32), 3, true);
        let want = json!({"vocab_size": 3, "bos_token_id": 0, "eos_token_id": [1, 2], "pad_token_id": -1, "hidden_size": 9,
            "image_token_index": null, "suppress_tokens": [1], "bad_words_ids": [[0, 1]], "text_config": {"eos_token_id": 2}});
        assert_eq!(c, want);
    }

    #[test]
    fn added_tokens_move_or_go() {
        let mut c = json!({"added_tokens_decoder": {"5": {"content": "a"}, "6": {"content": "b"}, "x": 1}, "model_max_length": 5});
        rewrite_added(&mut c, |id| (id == 6).then_some(0));
        assert_eq!(c, json!({"added_tokens_decoder": {"0": {"content": "b"}}, "model_max_length": 5}));
    }
}
