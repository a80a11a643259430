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
