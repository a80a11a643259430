//! A folder of PEFT with a LoRA adapter: `adapter_config.json` beside `adapter_model.safetensors` or `.bin`.
//!
//! What changes more than low-rank branches beside matrices of the blocks is refused by its name: an adapter that is half there would answer,
//! and answer wrongly.

use crate::error::{Error, Result};
use crate::format::File;
use crate::fsio::read_capped;
use crate::model::{Linear, Lora, Model, SideBranch};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const CONFIG: &str = "adapter_config.json";
const FILES: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];
const PREFIX: &str = "base_model.model.";

/// Settings that may be absent, null, false or empty and nothing else, and what they would mean.
const REFUSED: [(&str, &str); 15] = [
    ("use_dora", "DoRA rescales the columns of the base, which low-bit weights cannot follow"),
    ("modules_to_save", "whole modules were trained beside the adapter; they belong into a checkpoint of their own"),
    ("lora_bias", "its branches have biases"),
    ("trainable_token_indices", "rows of the embedding were trained; they belong into a checkpoint of their own"),
    ("layer_replication", "it repeats layers of the base"),
    ("target_parameters", "it changes parameters that are no matrices of linear layers"),
    ("use_qalora", "its branches take a pooled input"),
    ("alora_invocation_tokens", "it acts on a part of the tokens only"),
    ("arrow_config", "it chooses among several adapters for each token"),
    ("use_bdlora", "its factors are block-diagonal"),
    ("velora_config", "it projects its inputs in a way of its own"),
    ("monteclora_config", "its factors are drawn anew for each run"),
    ("loftq_config", "its base was changed when the adapter was made"),
    ("megatron_config", "its matrices are split over several machines"),
    ("bias", "biases of the base were trained with it"),
];

/// Reads the adapter of `dir` for `model`.
///
/// # Errors
/// `Usage` for a folder that holds none, `Input` for damaged or contradictory files and shapes that do not fit the model, `Unsupported` for
/// adapters that are more than low-rank branches, with the reason.
pub fn open(dir: &Path, model: &Model) -> Result<Lora> {
    let config = Settings::open(dir)?;
    let path = weights(dir)?;
    let file = File::open(&path)?;
    let mut factors: BTreeMap<String, [Option<String>; 2]> = BTreeMap::new();
    for name in file.names() {
        let (module, side) = module(name).map_err(|e| e.at_tensor(name).at_file(&path))?;
        let slot = &mut factors.entry(module.to_string()).or_default()[side];
        if let Some(first) = slot {
            return Err(Error::input(format!("`{first}` and this tensor are the same factor of `{module}`"))
                .at_tensor(name)
                .at_file(&path));
        }
        *slot = Some(name.to_string());
    }
    if factors.is_empty() {
        return Err(Error::input("the adapter holds no tensors").at_file(&path));
    }
    let mut branches = BTreeMap::new();
    for (module, sides) in &factors {
        let parts = parts(model, module).map_err(|e| e.at_file(&path))?;
        let missing = |side: &str| {
            Error::input(format!("`{module}` has no `{side}`, a branch needs both factors")).at_file(&path)
        };
        let [Some(a), Some(b)] = sides else {
            return Err(missing(if sides[0].is_none() { "lora_A" } else { "lora_B" }));
        };
        let read = |name: &str| -> Result<(Vec<f32>, [usize; 2])> {
            let t = file.get(name).ok_or_else(|| missing(name))?;
            match t.shape {
                [rows, cols] if *rows > 0 && *cols > 0 => {
                    Ok((t.to_f32().map_err(|e| e.at_file(&path))?, [*rows, *cols]))
                }
                other => Err(t.error(format!("has shape {other:?}, two dimensions are expected")).at_file(&path)),
            }
        };
        let (a_values, [rank, cols]) = read(a)?;
        let (b_values, [rows, b_rank]) = read(b)?;
        let wrong = |what: String| Error::input(what).at_tensor(b).at_file(&path);
        let expected = config.rank(module)?;
        if rank != b_rank || rank != expected {
            return Err(wrong(format!(
                "ranks {rank} (lora_A) and {b_rank} (lora_B), the configuration says {expected}"
            )));
        }
        let all: usize = parts.iter().map(|(_, l)| l.weight.rows).sum();
        let base_cols = parts.iter().map(|(_, l)| l.weight.cols).next().unwrap_or(0);
        if rows != all || cols != base_cols {
            return Err(wrong(format!("the branch is {rows} x {cols}, `{module}` of the base {all} x {base_cols}"))
                .hint("the adapter belongs to another model"));
        }
        let factor = config.scaling(module, rank)?;
        for (at, l) in parts {
            let row = |r: usize| {
                let stored = l.weight.order.stored(r);
                b_values.get(stored * rank..(stored + 1) * rank)
            };
            let mut b = Vec::with_capacity(l.weight.rows * rank);
            for r in 0..l.weight.rows {
                let row = row(r).ok_or_else(|| wrong(format!("it has no row for row {r} of `{}`", l.name)))?;
                b.extend(row.iter().map(|v| (f64::from(*v) * factor) as f32));
            }
            if let Some(v) = b.iter().find(|v| !v.is_finite()) {
                return Err(wrong(format!("its values times the factor {factor} give {v}")));
            }
            let branch = SideBranch { name: l.name.clone(), rows: l.weight.rows, cols, rank, a: a_values.clone(), b };
            if branches.insert(at, branch).is_some() {
                return Err(wrong(format!("two modules of the adapter mean `{}`", l.name)));
            }
        }
    }
    Ok(Lora { branches: branches.into_values().collect() })
}

/// The file with the factors.
fn weights(dir: &Path) -> Result<PathBuf> {
    FILES.iter().map(|f| dir.join(f)).find(|p| p.is_file()).ok_or_else(|| {
        Error::usage("the folder holds no `adapter_model.safetensors` or `adapter_model.bin`")
            .at_file(dir)
            .hint("give the folder that PEFT's `save_pretrained` wrote")
    })
}

/// Module and side (0: A, 1: B) of a tensor, e.g. `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
fn module(tensor: &str) -> Result<(&str, usize)> {
    let name = tensor.strip_prefix(PREFIX).unwrap_or(tensor);
    if name.contains("lora_embedding_") {
        return Err(Error::unsupported("an adapter of the embedding: its rows are integers with a scale of their own"));
    }
    if name.contains("lora_magnitude_vector") {
        return Err(Error::unsupported(REFUSED[0].1));
    }
    for (side, mark) in [".lora_A.", ".lora_B."].into_iter().enumerate() {
        // `.weight`, or with the adapter's name in between: `.default.weight`.
        if let Some((module, rest)) = name.split_once(mark) {
            if rest == "weight" || rest.ends_with(".weight") && rest.matches('.').count() == 1 {
                return Ok((module, side));
            }
        }
    }
    Err(Error::unsupported("this tensor is no factor of a low-rank branch (`….lora_A.weight`, `….lora_B.weight`)"))
}

/// The matrices of the model that a module holds: several where the base fuses them. With their place in the model.
fn parts<'a>(model: &'a Model, module: &str) -> Result<Vec<(usize, &'a Linear)>> {
    let named = |tensor: &str| {
        let stored = tensor.rsplit_once('.').map_or(tensor, |(m, _)| m);
        let inside = |long: &str, short: &str| {
            long.strip_suffix(short).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        inside(stored, module) || inside(module, stored)
    };
    let found: Vec<_> = model.projections().enumerate().filter(|(_, l)| named(&l.weight.tensor.name)).collect();
    let first = found.first().map(|(_, l)| &l.weight.tensor.name);
    if found.iter().any(|(_, l)| Some(&l.weight.tensor.name) != first) {
        return Err(Error::input(format!("`{module}` names several modules of the base")));
    }
    for (_, l) in &found {
        let inner = [
            (l.input_norm.is_some(), "normalises its own input"),
            (l.input_factor.is_some(), "multiplies its own input"),
            (l.output_norm.is_some(), "normalises its own result"),
        ];
        if let Some((_, what)) = inner.iter().find(|(is, _)| *is) {
            let e = Error::unsupported(format!(
                "`{module}` {what}, so a branch beside the module is none beside its matrix"
            ));
            return Err(e.hint("train the adapter on other modules"));
        }
    }
    if found.is_empty() {
        let head = model.head.as_ref().is_some_and(|h| named(&h.weight.tensor.name)) || module.ends_with("lm_head");
        return Err(if head || named(&model.embedding.tensor.name) {
            Error::unsupported(format!("`{module}`: adapters of the head and the embedding are not supported"))
                .hint("train the adapter on the matrices of attention and feed-forward part")
        } else {
            let e = Error::input(format!("the base has no module `{module}`"));
            e.hint(
                "the adapter belongs to another model; `bitnet-convert inspect DIR` lists the tensors of a checkpoint",
            )
        });
    }
    Ok(found)
}

struct Settings {
    path: PathBuf,
    root: Map<String, Value>,
}

impl Settings {
    fn open(dir: &Path) -> Result<Settings> {
        let path = dir.join(CONFIG);
        if !path.is_file() {
            let e = Error::usage(format!("the folder holds no `{CONFIG}`")).at_file(dir);
            return Err(e.hint("give the folder that PEFT's `save_pretrained` wrote"));
        }
        let bad = |what: String| Error::input(what).at_file(&path);
        let root = match serde_json::from_slice(&read_capped(&path, 16 << 20)?) {
            Ok(Value::Object(root)) => root,
            Ok(_) => return Err(bad("it holds no JSON object".into())),
            Err(e) => return Err(bad(format!("it is no JSON: {e}"))),
        };
        let s = Settings { root, path };
        match s.root.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            Some(other) => {
                let e = Error::unsupported(format!("an adapter of type {other}, only LORA becomes a low-rank branch"));
                return Err(e.at_file(&s.path));
            }
            None => return Err(s.error("`peft_type` is missing")),
        }
        for (key, why) in REFUSED {
            let empty = match s.root.get(key) {
                None | Some(Value::Null | Value::Bool(false)) => true,
                Some(Value::Array(a)) => a.is_empty(),
                Some(Value::Object(o)) => o.is_empty(),
                Some(Value::String(v)) => key == "bias" && v == "none",
                Some(_) => false,
            };
            if !empty {
                let value = &s.root[key];
                return Err(Error::unsupported(format!("`{key}` is {value}: {why}")).at_file(&s.path));
            }
        }
        // These begin by moving a part of the base's weights into the adapter.
        let start = s.root.get("init_lora_weights").and_then(Value::as_str).unwrap_or_default();
        if ["pissa", "olora", "corda", "loftq", "lora_ga"].iter().any(|m| start.starts_with(m)) {
            let e = Error::unsupported(format!(
                "`init_lora_weights` is {start}: the base was changed when the adapter was made"
            ));
            return Err(e
                .at_file(&s.path)
                .hint("save it with `path_initial_model_for_weight_conversion`, which makes a plain one"));
        }
        Ok(s)
    }

    fn error(&self, what: impl Into<String>) -> Error {
        Error::input(what).at_file(&self.path)
    }

    /// The value of a module: from `pattern`, a map of module names or their ends, else from `key`.
    fn value(&self, pattern: &str, key: &str, module: &str) -> Result<Option<&Value>> {
        let map = match self.root.get(pattern) {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => Some(map),
            Some(_) => return Err(self.error(format!("`{pattern}` is no object"))),
        };
        for (name, value) in map.into_iter().flatten() {
            if name.contains(['*', '+', '?', '[', ']', '(', ')', '|', '\\', '^', '$', '{', '}']) {
                let e = Error::unsupported(format!(
                    "`{pattern}` has the expression `{name}`, only names of modules are read"
                ));
                return Err(e.at_file(&self.path).hint("write out the modules that it means"));
            }
            if module.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')) {
                return Ok(Some(value));
            }
        }
        Ok(self.root.get(key))
    }

    fn rank(&self, module: &str) -> Result<usize> {
        let rank = self.value("rank_pattern", "r", module)?.and_then(Value::as_u64);
        match rank.and_then(|r| usize::try_from(r).ok()).filter(|r| (1..=1 << 16).contains(r)) {
            Some(r) => Ok(r),
            None => Err(self.error(format!("the rank of `{module}` (`r`) is no number from 1 on"))),
        }
    }

    /// What B A is multiplied with: alpha / r (Hu et al. 2021), alpha / sqrt(r) with rslora (Kalajdzievski 2023).
    fn scaling(&self, module: &str, rank: usize) -> Result<f64> {
        let alpha = self.value("alpha_pattern", "lora_alpha", module)?.and_then(Value::as_f64);
        let alpha = alpha.filter(|a| a.is_finite() && a.abs() < 1e6);
        let alpha = alpha.ok_or_else(|| self.error(format!("the alpha of `{module}` (`lora_alpha`) is no number")))?;
        let by = match self.root.get("use_rslora") {
            None | Some(Value::Null | Value::Bool(false)) => rank as f64,
            Some(Value::Bool(true)) => (rank as f64).sqrt(),
            Some(_) => return Err(self.error("`use_rslora` is neither true nor false")),
        };
        Ok(alpha / by)
    }
}
