//! Settings of `config.json` that count, list or name layers.
//!
//! | settings | what happens |
//! |---|---|
//! | the number of layers, under each of its names | the new number |
//! | lists with one entry a layer: `layer_types`, `no_rope_layers`, `attention_layers`, … | entries of the kept layers |
//! | rules from the index: `no_rope_layer_interval`, `sliding_window_pattern`, every other layer | the same rule if it still holds, else a list |
//! | `max_window_layers` | the kept layers below it |
//! | `attention_types` | one group that lists all layers |
//! | `scale_depth`, which is divided by the root of the number of layers | multiplied, so that the quotient stays |
//! | names of modules in quantization settings | the new numbers |
//! | scores divided by the layer's number, layers that share keys and values | refused |

use super::Stack;
use crate::error::{Error, Result};
use serde_json::{json, Map, Value};

/// Names of the number of layers.
const COUNTS: [&str; 4] = ["num_hidden_layers", "n_layer", "num_layers", "n_layers"];
/// Lists with one entry a layer.
const LISTS: [&str; 4] = ["layer_types", "no_rope_layers", "attention_layers", "mlp_layer_types"];
/// Settings that hold names of modules, as values or as keys.
const MODULES: [&str; 3] = ["quantization_config", "quantization", "compression_config"];
/// Deeper settings than any that is known are refused, not followed.
const MAX_DEPTH: usize = 32;

/// The settings of the text model: those under `text_config` win over those beside it, as for the importer.
pub(super) struct Settings<'a>(pub(super) &'a mut Value);

impl Settings<'_> {
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        let text = self.0.get("text_config").and_then(|t| t.get(key)).filter(|v| !v.is_null());
        text.or_else(|| self.0.get(key)).filter(|v| !v.is_null())
    }

    fn usize(&self, key: &str) -> Option<usize> {
        self.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok())
    }

    fn is_true(&self, key: &str) -> bool {
        self.get(key) == Some(&Value::Bool(true))
    }

    /// Replaces a setting wherever it is, or adds it where the text model has its own.
    pub(super) fn set(&mut self, key: &str, value: Value) {
        let has = |v: Option<&Value>| v.and_then(|v| v.get(key)).is_some_and(|v| !v.is_null());
        let (inner, outer) = (has(self.0.get("text_config")), has(Some(self.0)));
        let in_text = inner || (!outer && self.0.get("text_config").is_some_and(Value::is_object));
        if in_text {
            if let Some(text) = self.0.get_mut("text_config").and_then(Value::as_object_mut) {
                text.insert(key.to_string(), value.clone());
            }
        }
        if outer || !in_text {
            if let Some(root) = self.0.as_object_mut() {
                root.insert(key.to_string(), value);
            }
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(text) = self.0.get_mut("text_config").and_then(Value::as_object_mut) {
            text.remove(key);
        }
        if let Some(root) = self.0.as_object_mut() {
            root.remove(key);
        }
    }

    /// Class or type, in lower case without underscores.
    fn family(&self) -> String {
        let class = self.0.get("architectures").and_then(|a| a.get(0)).and_then(Value::as_str);
        let name = class.or(self.get("model_type").and_then(Value::as_str)).unwrap_or_default();
        name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
    }
}

/// Rewrites a configuration for the layers that stay, and says what a person should know about it.
///
/// # Errors
/// `Unsupported` for settings that cannot be kept right, `Input` for lists that do not fit the number of layers.
pub fn layers(config: &mut Value, stack: &Stack) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    if stack.is_whole() {
        return Ok(warnings);
    }
    let mut s = Settings(config);
    refuse(&s, stack)?;
    let family = s.family();
    let slides = sliding_rule(&s, &family, stack.total);
    no_rope(&mut s, &family, stack);
    for key in LISTS {
        slice(&mut s, key, stack)?;
    }
    other_lists(&mut s, stack, &mut warnings);
    attention_types(&mut s, stack)?;
    windows(&mut s, &family, stack);
    if family.starts_with("minicpm") {
        let depth = s.get("scale_depth").and_then(Value::as_f64).unwrap_or(1.0);
        // Kept as it was for the old number of layers.
        s.set("scale_depth", json!(depth * libm::sqrt(stack.kept.len() as f64 / stack.total as f64)));
    }
    count(&mut s, stack)?;
    if let Some(old) = slides.filter(|_| s.get("layer_types").is_none()) {
        let want: Vec<bool> = stack.kept.iter().filter_map(|i| old.get(*i).copied()).collect();
        if sliding_rule(&s, &family, want.len()).as_ref() != Some(&want) {
            let types = want.iter().map(|w| if *w { "sliding_attention" } else { "full_attention" });
            s.set("layer_types", types.collect());
            s.remove("sliding_window_pattern");
            s.remove("_sliding_window_pattern");
            warnings.push("which layers see only a window is written as `layer_types`, since the pattern is broken; versions of transformers before 4.53 do not read it".into());
        }
    }
    for key in MODULES {
        modules(config, key, stack)?;
    }
    Ok(warnings)
}

fn refuse(s: &Settings, stack: &Stack) -> Result<()> {
    let no = |what: &str| Err(Error::unsupported(what));
    let leading = stack.kept.iter().enumerate().all(|(new, old)| new == *old);
    if s.is_true("scale_attn_by_inverse_layer_idx") && !leading {
        return no(
            "`scale_attn_by_inverse_layer_idx`: scores are divided by the number of the layer, which would change",
        )
        .map_err(|e| e.hint("only the last layers of this model can be removed: `--keep 0-N`"));
    }
    if s.usize("num_kv_shared_layers").is_some_and(|n| n > 0)
        || (s.is_true("use_cla") && s.get("cla_share_factor").is_some())
    {
        return no("some layers of this model use the keys and values of others, so that none can be removed alone");
    }
    if s.usize("num_nextn_predict_layers").is_some_and(|n| n > 0) {
        return no("the model has further layers that predict more tokens, which would not fit the others any more");
    }
    Ok(())
}

fn count(s: &mut Settings, stack: &Stack) -> Result<()> {
    // Of a model with encoder and decoder only the decoder is pruned, and the usual name counts the encoder.
    let names: &[&str] = if s.get("decoder_layers").is_some() { &["decoder_layers"] } else { &COUNTS };
    let found: Vec<&&str> = names.iter().filter(|k| s.usize(k) == Some(stack.total)).collect();
    if found.is_empty() {
        let what =
            format!("no setting says that there are {} layers; {} were looked for", stack.total, names.join(", "));
        return Err(Error::unsupported(what));
    }
    found.into_iter().for_each(|k| s.set(k, json!(stack.kept.len())));
    Ok(())
}

/// Entries of the kept layers.
fn slice(s: &mut Settings, key: &str, stack: &Stack) -> Result<()> {
    let Some(Value::Array(list)) = s.get(key) else { return Ok(()) };
    // An empty list of attention kinds means that `attention_types` has them.
    if list.is_empty() {
        return Ok(());
    }
    if list.len() != stack.total {
        return Err(Error::input(format!("`{key}` has {} entries for {} layers", list.len(), stack.total)));
    }
    let kept = stack.kept.iter().map(|i| list[*i].clone()).collect();
    s.set(key, Value::Array(kept));
    Ok(())
}

/// Lists of unknown meaning that are as long as there are layers and say so in their name.
fn other_lists(s: &mut Settings, stack: &Stack, warnings: &mut Vec<String>) {
    let places = [s.0.get("text_config"), Some(&*s.0)].into_iter().flatten().filter_map(Value::as_object);
    let unknown = |(k, v): (&String, &Value)| {
        let fits = v.as_array().is_some_and(|a| a.len() == stack.total);
        (fits && k.contains("layer") && !LISTS.contains(&k.as_str())).then(|| k.clone())
    };
    let keys: Vec<String> = places.flatten().filter_map(unknown).collect();
    for key in keys {
        if slice(s, &key, stack).is_ok() {
            warnings.push(format!("`{key}` has one entry a layer and was shortened like the layers"));
        }
    }
}

/// Layers without rotation, from their rule.
fn no_rope(s: &mut Settings, family: &str, stack: &Stack) {
    let interval = s.usize("no_rope_layer_interval").filter(|n| *n > 0);
    if (family.starts_with("smollm3") || interval.is_some()) && s.get("no_rope_layers").is_none() {
        let interval = interval.unwrap_or(4);
        let rotated = (0..stack.total).map(|i| json!(u8::from((i + 1) % interval != 0)));
        s.set("no_rope_layers", rotated.collect());
    }
}

fn windows(s: &mut Settings, family: &str, stack: &Stack) {
    let first = match s.usize("max_window_layers") {
        Some(n) => n,
        None if family.starts_with("qwen") && s.is_true("use_sliding_window") => 28,
        None => return,
    };
    if first < stack.total {
        s.set("max_window_layers", json!(stack.kept.iter().filter(|i| **i < first).count()));
    }
}

/// Which layers see only a window, where that follows from their index.
fn sliding_rule(s: &Settings, family: &str, total: usize) -> Option<Vec<bool>> {
    if s.get("layer_types").is_some() {
        return None;
    }
    let rule: Box<dyn Fn(usize) -> bool> = if family.starts_with("gemma2") {
        Box::new(|i| i % 2 == 0)
    } else if family.starts_with("gemma3") {
        let pattern = s.usize("sliding_window_pattern").or(s.usize("_sliding_window_pattern")).unwrap_or(6).max(1);
        Box::new(move |i| (i + 1) % pattern != 0)
    } else {
        return None;
    };
    Some((0..total).map(rule).collect())
}

/// Groups of kinds with how often each is repeated, as gpt_neo has them.
fn attention_types(s: &mut Settings, stack: &Stack) -> Result<()> {
    let Some(groups) = s.get("attention_types").and_then(Value::as_array) else { return Ok(()) };
    let mut kinds: Vec<Value> = Vec::new();
    for group in groups {
        let names = group.get(0).and_then(Value::as_array).filter(|n| !n.is_empty());
        let times = group.get(1).and_then(Value::as_u64).unwrap_or(0);
        for _ in 0..times {
            kinds.extend(names.into_iter().flatten().cloned());
            if kinds.len() > stack.total || names.is_none() {
                break;
            }
        }
    }
    if kinds.len() != stack.total {
        return Err(Error::input(format!("`attention_types` does not list {} layers", stack.total)));
    }
    let kept: Vec<Value> = stack.kept.iter().map(|i| kinds[*i].clone()).collect();
    s.set("attention_types", json!([[kept, 1]]));
    Ok(())
}

/// Renumbers names of modules below a setting.
fn modules(config: &mut Value, key: &str, stack: &Stack) -> Result<()> {
    if let Some(v) = config.get_mut("text_config").and_then(|t| t.get_mut(key)) {
        walk(v, stack, MAX_DEPTH)?;
    }
    config.get_mut(key).map_or(Ok(()), |v| walk(v, stack, MAX_DEPTH))
}

fn walk(v: &mut Value, stack: &Stack, depth: usize) -> Result<()> {
    if depth == 0 {
        return Err(Error::unsupported("the settings of quantization are nested too deeply"));
    }
    match v {
        Value::String(name) => {
            if let Some(new) = stack.module(name)? {
                *name = new;
            }
        }
        Value::Array(list) => {
            let mut kept = Vec::with_capacity(list.len());
            for mut entry in std::mem::take(list) {
                if let Value::String(name) = &entry {
                    kept.extend(stack.module(name)?.map(Value::String));
                } else {
                    walk(&mut entry, stack, depth - 1)?;
                    kept.push(entry);
                }
            }
            *list = kept;
        }
        Value::Object(map) => {
            let mut kept = Map::new();
            for (name, mut entry) in std::mem::take(map) {
                let Some(name) = stack.module(&name)? else { continue };
                walk(&mut entry, stack, depth - 1)?;
                kept.insert(name, entry);
            }
            *map = kept;
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use std::collections::BTreeSet;

    #[track_caller]
    fn check(prefix: &str, total: usize, kept: &[usize], before: Value, after: Value) {
        let stack = Stack::new(BTreeSet::from([prefix.to_string()]), total, kept);
        let mut config = before;
        layers(&mut config, &stack).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config, after);
    }

    #[track_caller]
    fn refused(prefix: &str, total: usize, kept: &[usize], mut before: Value) -> Error {
        let stack = Stack::new(BTreeSet::from([prefix.to_string()]), total, kept);
        layers(&mut before, &stack).unwrap_err()
    }

    #[test]
    fn llama_has_only_a_number() {
        let before = json!({"model_type": "llama", "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 4});
        let after = json!({"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 4});
        check("model.layers.", 4, &[0, 3], before, after);
    }

    #[test]
    fn all_layers_change_nothing() {
        let same = json!({"model_type": "gemma2", "num_hidden_layers": 2, "scale_attn_by_inverse_layer_idx": true});
        check("model.layers.", 2, &[0, 1], same.clone(), same);
    }

    #[test]
    fn gpt2_counts_under_another_name() {
        check(
            "h.",
            3,
            &[1],
            json!({"model_type": "gpt2", "n_layer": 3, "n_head": 3}),
            json!({"model_type": "gpt2", "n_layer": 1, "n_head": 3}),
        );
    }

    #[test]
    fn gpt2_with_scores_by_depth_loses_only_its_end() {
        let before = json!({"model_type": "gpt2", "n_layer": 3, "scale_attn_by_inverse_layer_idx": true});
        assert_eq!(refused("h.", 3, &[0, 2], before.clone()).kind(), Kind::Unsupported);
        let after = json!({"model_type": "gpt2", "n_layer": 2, "scale_attn_by_inverse_layer_idx": true});
        check("h.", 3, &[0, 1], before, after);
    }

    #[test]
    fn gpt_neo_lists_its_kinds() {
        let before = json!({"model_type": "gpt_neo", "num_layers": 4, "attention_types": [[["global", "local"], 2]],
            "attention_layers": ["global", "local", "global", "local"]});
        let after = json!({"model_type": "gpt_neo", "num_layers": 3, "attention_types": [[["global", "local", "local"], 1]],
            "attention_layers": ["global", "local", "local"]});
        check("transformer.h.", 4, &[0, 1, 3], before, after);
        let bad = json!({"model_type": "gpt_neo", "num_layers": 4, "attention_types": [[["global"], 18446744073709551615u64]]});
        assert_eq!(refused("transformer.h.", 4, &[0], bad).kind(), Kind::Input);
        let empty =
            json!({"model_type": "gpt_neo", "num_layers": 4, "attention_types": [[[], 18446744073709551615u64]]});
        assert_eq!(refused("transformer.h.", 4, &[0], empty).kind(), Kind::Input);
    }

    #[test]
    fn distilbert_and_falcon() {
        check(
            "transformer.layer.",
            6,
            &[0, 5],
            json!({"n_layers": 6, "n_heads": 6}),
            json!({"n_layers": 2, "n_heads": 6}),
        );
        let before = json!({"model_type": "falcon", "num_hidden_layers": 3, "n_layer": 3});
        check(
            "transformer.h.",
            3,
            &[0, 2],
            before,
            json!({"model_type": "falcon", "num_hidden_layers": 2, "n_layer": 2}),
        );
    }

    #[test]
    fn whisper_loses_layers_of_its_decoder() {
        let before = json!({"model_type": "whisper", "num_hidden_layers": 4, "encoder_layers": 4, "decoder_layers": 4});
        let after = json!({"model_type": "whisper", "num_hidden_layers": 4, "encoder_layers": 4, "decoder_layers": 2});
        check("model.decoder.layers.", 4, &[0, 3], before, after);
    }

    #[test]
    fn smollm3_without_a_list_gets_one() {
        let before = json!({"model_type": "smollm3", "num_hidden_layers": 5, "no_rope_layer_interval": 2, "no_rope_layers": null});
        let after = json!({"model_type": "smollm3", "num_hidden_layers": 3, "no_rope_layer_interval": 2, "no_rope_layers": [1, 0, 1]});
        check("model.layers.", 5, &[0, 3, 4], before, after);
        let lists = json!({"model_type": "smollm3", "num_hidden_layers": 3, "no_rope_layers": [1, 1, 0], "layer_types": ["a", "b", "c"]});
        let after = json!({"model_type": "smollm3", "num_hidden_layers": 2, "no_rope_layers": [1, 0], "layer_types": ["b", "c"]});
        check("model.layers.", 3, &[1, 2], lists, after);
    }

    #[test]
    fn gemma2_keeps_its_pattern_or_gets_a_list() {
        let before = json!({"model_type": "gemma2", "num_hidden_layers": 6});
        check(
            "model.layers.",
            6,
            &[0, 1, 4, 5],
            before.clone(),
            json!({"model_type": "gemma2", "num_hidden_layers": 4}),
        );
        let after = json!({"model_type": "gemma2", "num_hidden_layers": 3,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]});
        check("model.layers.", 6, &[0, 2, 3], before, after);
    }

    #[test]
    fn gemma3_inside_of_a_larger_model() {
        let before = json!({"architectures": ["Gemma3ForConditionalGeneration"], "vision_config": {"num_hidden_layers": 4},
            "text_config": {"model_type": "gemma3_text", "num_hidden_layers": 4, "sliding_window_pattern": 2}});
        let after = json!({"architectures": ["Gemma3ForConditionalGeneration"], "vision_config": {"num_hidden_layers": 4},
            "text_config": {"model_type": "gemma3_text", "num_hidden_layers": 2, "layer_types": ["full_attention", "full_attention"]}});
        check("language_model.model.layers.", 4, &[1, 3], before, after);
    }

    #[test]
    fn qwen_counts_the_layers_before_the_window() {
        let before =
            json!({"model_type": "qwen2", "num_hidden_layers": 6, "use_sliding_window": true, "max_window_layers": 3});
        let after =
            json!({"model_type": "qwen2", "num_hidden_layers": 3, "use_sliding_window": true, "max_window_layers": 2});
        check("model.layers.", 6, &[0, 2, 5], before, after);
        let silent = json!({"model_type": "qwen2", "num_hidden_layers": 30, "use_sliding_window": true});
        let after =
            json!({"model_type": "qwen2", "num_hidden_layers": 2, "use_sliding_window": true, "max_window_layers": 1});
        check("model.layers.", 30, &[0, 29], silent, after);
    }

    #[test]
    fn minicpm_keeps_the_factor_of_its_branches() {
        let before = json!({"model_type": "minicpm", "num_hidden_layers": 4, "scale_depth": 1.5});
        check(
            "model.layers.",
            4,
            &[2],
            before,
            json!({"model_type": "minicpm", "num_hidden_layers": 1, "scale_depth": 0.75}),
        );
    }

    #[test]
    fn names_in_quantization_settings_move() {
        let before = json!({"num_hidden_layers": 3, "quantization_config": {"quant_method": "bitnet",
            "modules_to_not_convert": ["lm_head", "model.layers.1.mlp", "model.layers.2.self_attn.q_proj"],
            "overrides": {"model.layers.0.mlp": {"bits": 8}, "model.layers.2.mlp": {"bits": 4}}}});
        let after = json!({"num_hidden_layers": 2, "quantization_config": {"quant_method": "bitnet",
            "modules_to_not_convert": ["lm_head", "model.layers.1.self_attn.q_proj"],
            "overrides": {"model.layers.0.mlp": {"bits": 8}, "model.layers.1.mlp": {"bits": 4}}}});
        check("model.layers.", 3, &[0, 2], before, after);
    }

    #[test]
    fn unknown_lists_of_layers_are_shortened_with_a_warning() {
        let stack = Stack::new(BTreeSet::from(["model.layers.".to_string()]), 3, &[0, 2]);
        let mut config = json!({"num_hidden_layers": 3, "layer_gates": [1, 2, 3], "sizes": [1, 2, 3]});
        let warnings = layers(&mut config, &stack).unwrap();
        assert_eq!(config, json!({"num_hidden_layers": 2, "layer_gates": [1, 3], "sizes": [1, 2, 3]}));
        assert!(warnings[0].contains("layer_gates"), "{warnings:?}");
    }

    #[test]
    fn shared_keys_and_further_layers_are_refused() {
        for extra in [
            json!({"num_hidden_layers": 3, "num_kv_shared_layers": 1}),
            json!({"num_hidden_layers": 3, "use_cla": true, "cla_share_factor": 2}),
            json!({"num_hidden_layers": 3, "num_nextn_predict_layers": 1}),
        ] {
            assert_eq!(refused("model.layers.", 3, &[0, 2], extra).kind(), Kind::Unsupported);
        }
    }

    #[test]
    fn lists_and_numbers_that_do_not_fit_are_errors() {
        let short = json!({"num_hidden_layers": 3, "layer_types": ["full_attention"]});
        assert_eq!(refused("model.layers.", 3, &[0], short).kind(), Kind::Input);
        assert_eq!(refused("model.layers.", 3, &[0], json!({"depth": 3})).kind(), Kind::Unsupported);
    }
}
