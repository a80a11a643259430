//! `config.json` in both dialects, with checked access.

use crate::error::{Error, Result};
use crate::model::Activation;
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

    /// A configuration that another file implies; `path` is that file.
    pub fn from_value(path: &Path, root: Value) -> Config {
        Config { path: path.to_path_buf(), root }
    }

    /// All of it.
    pub fn whole(&self) -> &Value {
        &self.root
    }

    /// A value by a dotted path; JSON null counts as absent. Models with several parts keep the language model under `text_config`, which wins.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let from = |root| key.split('.').try_fold(root, |v: &Value, k| v.get(k)).filter(|v| !v.is_null());
        self.root.get("text_config").and_then(from).or_else(|| from(&self.root))
    }

    /// Class that wrote the checkpoint: `architectures[0]`, of the whole and not of its text part.
    pub fn class(&self) -> Option<&str> {
        self.root.get("architectures").and_then(|a| a.get(0)).and_then(Value::as_str)
    }

    /// Whether a key is there with the value null, which switches some features off that are on by default.
    pub fn is_null(&self, key: &str) -> bool {
        [self.root.get("text_config"), Some(&self.root)]
            .into_iter()
            .flatten()
            .find_map(|r| r.get(key))
            .is_some_and(Value::is_null)
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

    /// A list of finite numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(v) = self.get(key) else { return Ok(None) };
        let list = v.as_array().and_then(|a| a.iter().map(|n| n.as_f64().filter(|f| f.is_finite())).collect());
        list.map(Some).ok_or_else(|| self.error(format!("`{key}` must be a list of numbers")))
    }

    /// A list of strings.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let Some(v) = self.get(key) else { return Ok(None) };
        let list = v.as_array().and_then(|a| a.iter().map(Value::as_str).collect());
        list.map(Some).ok_or_else(|| self.error(format!("`{key}` must be a list of strings")))
    }

    /// The eps of a norm.
    pub fn eps(&self, key: &str, default: f64) -> Result<f64> {
        let eps = self.f64(key)?.unwrap_or(default);
        if !(1e-30..=1.0).contains(&eps) {
            return Err(self.error(format!("`{key}` is {eps}, a small positive number is expected")));
        }
        Ok(eps)
    }

    /// A factor: positive and finite.
    pub fn factor(&self, key: &str, default: f64) -> Result<f64> {
        let v = self.f64(key)?.unwrap_or(default);
        if !(1e-9..=1e9).contains(&v) {
            return Err(self.error(format!("`{key}` is {v}, a positive number is expected")));
        }
        Ok(v)
    }

    /// A non-linearity by its name in a configuration.
    pub fn activation(&self, key: &str, default: Activation) -> Result<Activation> {
        let Some(v) = self.get(key) else { return Ok(default) };
        Ok(match v.as_str() {
            Some("relu") => Activation::Relu,
            Some("relu2") => Activation::Relu2,
            Some("silu" | "swish") => Activation::Silu,
            Some("gelu" | "gelu_python") => Activation::Gelu,
            Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Activation::GeluTanh,
            _ => {
                let known = "relu, relu2, silu, gelu, gelu_new, gelu_pytorch_tanh and gelu_fast";
                let what = format!("`{key}` is {v}, which is not supported, supported are {known}");
                return Err(Error::unsupported(what).at_file(&self.path));
            }
        })
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

    /// The first of these keys that is there.
    pub fn has_any(&self, keys: &[&str]) -> Option<String> {
        keys.iter().find(|k| self.get(k).is_some()).map(|k| (*k).to_string())
    }
}
