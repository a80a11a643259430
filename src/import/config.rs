//! `config.json` in both dialects, with checked access.

use crate::error::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A configuration and where it came from.
pub struct Config {
    pub path: PathBuf,
    root: Value,
}

impl Config {
    pub fn parse(path: &Path, data: &[u8]) -> Result<Config> {
        let root: Value = serde_json::from_slice(data)
            .map_err(|e| Error::input(format!("this is no valid JSON: {e}")).at_file(path))?;
        if !root.is_object() {
            return Err(Error::input("a JSON object is expected at the top").at_file(path));
        }
        Ok(Config { path: path.to_path_buf(), root })
    }

    /// A value by a dotted path; JSON null counts as absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        key.split('.').try_fold(&self.root, |v, k| v.get(k)).filter(|v| !v.is_null())
    }

    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::input(message).at_file(&self.path)
    }

    pub fn str(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(v) => Err(self.error(format!("`{key}` is {v}, true or false is expected"))),
        }
    }

    pub fn f64(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(v) => match v.as_f64().filter(|f| f.is_finite()) {
                Some(f) => Ok(Some(f)),
                None => Err(self.error(format!("`{key}` is {v}, a finite number is expected"))),
            },
        }
    }

    /// An integer within `range`.
    pub fn usize(&self, key: &str, range: std::ops::RangeInclusive<usize>) -> Result<Option<usize>> {
        let Some(v) = self.get(key) else { return Ok(None) };
        match v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| range.contains(n)) {
            Some(n) => Ok(Some(n)),
            None => Err(self.error(format!(
                "`{key}` is {v}, a whole number from {} to {} is expected",
                range.start(),
                range.end()
            ))),
        }
    }

    /// As [`Config::usize`], but the key must be there.
    pub fn need(&self, key: &str, range: std::ops::RangeInclusive<usize>) -> Result<usize> {
        self.usize(key, range)?.ok_or_else(|| self.error(format!("`{key}` is missing")))
    }

    /// A token id, or a list of ids.
    pub fn ids(&self, key: &str, vocab: usize) -> Result<Vec<u32>> {
        let Some(v) = self.get(key) else { return Ok(Vec::new()) };
        let one = |v: &Value| match v.as_u64().filter(|n| (*n as usize) < vocab && *n < u64::from(u32::MAX)) {
            Some(n) => Ok(n as u32),
            None => Err(self.error(format!("`{key}` holds {v}, ids are below the vocabulary of {vocab}"))),
        };
        match v {
            Value::Array(a) => a.iter().map(one).collect(),
            v => Ok(vec![one(v)?]),
        }
    }

    pub fn has_any(&self, keys: &[&str]) -> Option<String> {
        keys.iter().find(|k| self.get(k).is_some()).map(|k| (*k).to_string())
    }
}
