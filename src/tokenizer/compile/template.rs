//! Ids around a single text, from the post-processor.

use serde_json::Value;

use super::super::TokenizerError;
use super::json::{invalid, kind_of, unsupported};

type Around = (Vec<u32>, Vec<u32>);

/// Ids before and after a text.
pub(super) fn read(value: &Value, path: &str) -> Result<Around, TokenizerError> {
    match kind_of(value) {
        _ if value.is_null() => Ok(Default::default()),
        "ByteLevel" => Ok(Default::default()),
        "TemplateProcessing" => template_ids(value, path),
        "BertProcessing" | "RobertaProcessing" => {
            Ok((vec![pair_id(value, path, "cls")?], vec![pair_id(value, path, "sep")?]))
        }
        "Sequence" => {
            let mut found = None;
            let steps = value.get("processors").and_then(Value::as_array);
            for (k, step) in steps.into_iter().flatten().enumerate() {
                let path = format!("{path}.processors[{k}]");
                match kind_of(step) {
                    "ByteLevel" => {}
                    // Nested, they would each put their ids around those of the other.
                    kind if found.is_some() => {
                        return Err(unsupported(format!("{path}.type"), kind, "a second one that adds tokens"));
                    }
                    _ => found = Some(read(step, &path)?),
                }
            }
            Ok(found.unwrap_or_default())
        }
        other => {
            let reason = "only null, `ByteLevel`, `TemplateProcessing`, `BertProcessing` and `RobertaProcessing`";
            Err(unsupported(format!("{path}.type"), other, reason))
        }
    }
}

/// `["[SEP]", 102]`
fn pair_id(value: &Value, path: &str, name: &str) -> Result<u32, TokenizerError> {
    let id = value.get(name).and_then(|pair| pair.get(1)).and_then(Value::as_u64);
    let id = id.and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| invalid(format!("{path}.{name}"), "is not a token and its id"))
}

fn template_ids(value: &Value, path: &str) -> Result<Around, TokenizerError> {
    let key = format!("{path}.single");
    let single = value.get("single").unwrap_or(&Value::Null);
    let Some(steps) = single.as_array() else {
        return Err(unsupported(key, single, "only a list of steps"));
    };
    let mut ids = [Vec::new(), Vec::new()];
    let mut side = 0;
    for step in steps {
        if let Some(name) = step.pointer("/SpecialToken/id").and_then(Value::as_str) {
            let token = value.get("special_tokens").and_then(|map| map.get(name));
            let list = token.and_then(|token| token.get("ids")).and_then(Value::as_array);
            for id in list.ok_or_else(|| invalid(&*key, format!("`{name}` has no ids")))? {
                let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
                ids[side].push(id.ok_or_else(|| invalid(&*key, format!("bad id of `{name}`")))?);
            }
        } else if step.pointer("/Sequence/id").and_then(Value::as_str) == Some("A") && side == 0 {
            side = 1;
        } else {
            return Err(unsupported(key, step, "only special tokens around one text `A`"));
        }
    }
    if side == 0 {
        return Err(unsupported(key, single, "the text `A` must be in it"));
    }
    let [prefix, suffix] = ids;
    if prefix.len() > 255 || suffix.len() > 255 {
        return Err(unsupported(key, single, "at most 255 special tokens on a side"));
    }
    Ok((prefix, suffix))
}
