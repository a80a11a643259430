//! How an embedding model pools its states: `modules.json` and the folders beside it.

use crate::error::{Error, Result};
use crate::import::config::Config;
use crate::model::{Pool, Pooling};
use serde_json::Value;
use std::path::Path;

/// Folders of the modules that follow the network, and what each does.
pub struct Modules {
    /// Where the settings of the pooling are.
    pub pooling: String,
    pub normalize: bool,
}

/// Reads `modules.json`; None: no pooling is listed.
///
/// # Errors
/// `Input` for what is no list of modules or leaves the folder, `Unsupported` for modules that would change the result.
pub fn modules(path: &Path, data: &[u8]) -> Result<Option<Modules>> {
    let bad = |what: &str| Error::input(what).at_file(path);
    let list: Value = serde_json::from_slice(data).map_err(|e| bad(&format!("this is no valid JSON: {e}")))?;
    let (mut pooling, mut normalize) = (None, false);
    for m in list.as_array().ok_or_else(|| bad("a list of modules is expected"))? {
        let kind = m.get("type").and_then(Value::as_str).ok_or_else(|| bad("a module has no `type`"))?;
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" => {}
            "Normalize" => normalize = true,
            "Pooling" => {
                let folder = m.get("path").and_then(Value::as_str).unwrap_or_default();
                if folder.is_empty() || folder.contains(['/', '\\']) || folder.starts_with('.') {
                    return Err(bad(&format!("`{folder}` is no folder of a module")));
                }
                pooling = Some(folder.to_string());
            }
            other => {
                let what =
                    format!("the module `{other}` after the network is not supported, only Pooling and Normalize are");
                return Err(Error::unsupported(what).at_file(path));
            }
        }
    }
    Ok(pooling.map(|pooling| Modules { pooling, normalize }))
}

/// Reads the settings of a pooling.
///
/// # Errors
/// `Unsupported` for any but exactly one of mean, first and last.
pub fn pooling(cfg: &Config, normalize: bool) -> Result<Pooling> {
    let mut modes = Vec::new();
    for name in ["mean_tokens", "cls_token", "lasttoken", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens"] {
        if cfg.bool(&format!("pooling_mode_{name}"))? == Some(true) {
            modes.push(name);
        }
    }
    modes.extend(cfg.str("pooling_mode"));
    let pool = match modes[..] {
        ["mean_tokens" | "mean"] => Pool::Mean,
        ["cls_token" | "cls"] => Pool::First,
        ["lasttoken"] => Pool::Last,
        _ => {
            let what =
                format!("pooling by `{}` is not supported, one of mean, cls and lasttoken is", modes.join(" + "));
            return Err(Error::unsupported(what).at_file(&cfg.path));
        }
    };
    Ok(Pooling { pool, normalize })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(json: &str) -> Result<Option<Modules>> {
        modules(Path::new("modules.json"), json.as_bytes())
    }

    #[test]
    fn modules_of_a_usual_model() {
        let list = r#"[{"type": "sentence_transformers.models.Transformer", "path": ""},
            {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
            {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"}]"#;
        let m = listed(list).unwrap().unwrap();
        assert_eq!((m.pooling.as_str(), m.normalize), ("1_Pooling", true));
        assert!(listed("[]").unwrap().is_none());
    }

    #[test]
    fn modules_that_are_refused() {
        for (json, reason) in [
            ("{", "no valid JSON"),
            ("{}", "a list of modules"),
            ("[1]", "no `type`"),
            (r#"[{"type": "x.Dense", "path": "2_Dense"}]"#, "`Dense`"),
            (r#"[{"type": "x.Pooling", "path": "../secret"}]"#, "no folder of a module"),
            (r#"[{"type": "x.Pooling", "path": ".."}]"#, "no folder of a module"),
            (r#"[{"type": "x.Pooling"}]"#, "no folder of a module"),
        ] {
            let said = listed(json).err().expect(json).to_string();
            assert!(said.contains(reason) && said.contains("modules.json"), "{json}: {said}");
        }
    }

    #[test]
    fn exactly_one_way_to_pool() {
        let of = |json: &str| pooling(&Config::parse(Path::new("config.json"), json.as_bytes()).unwrap(), true);
        let pool = |json| of(json).unwrap().pool;
        assert_eq!(pool(r#"{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}"#), Pool::Mean);
        assert_eq!(pool(r#"{"pooling_mode_cls_token": true}"#), Pool::First);
        assert_eq!(pool(r#"{"pooling_mode": "lasttoken"}"#), Pool::Last);
        for json in [
            "{}",
            r#"{"pooling_mode_max_tokens": true}"#,
            r#"{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}"#,
            r#"{"pooling_mode_mean_tokens": 1}"#,
        ] {
            assert!(of(json).is_err(), "{json}");
        }
    }
}
