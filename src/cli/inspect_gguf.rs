//! What a GGUF file holds, whether or not a model can be made of it: tensors by type with their true bits, architecture, tokenizer.

use crate::error::Result;
use crate::format::gguf::{self, Metadata};
use crate::format::File;
use crate::plan::group;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

#[derive(Serialize)]
pub struct GgufInfo {
    /// Files of the model: more than one if it was cut into parts.
    files: usize,
    bytes: u64,
    keys: usize,
    tensors: usize,
    alignment: u64,
    /// `general.architecture`.
    architecture: Option<String>,
    name: Option<String>,
    context: Option<u64>,
    /// Absent if the file has none.
    tokenizer: Option<TokenizerInfo>,
    types: Vec<TypeTotal>,
    /// Of all tensors with more than one dimension, with scales.
    bits_per_weight: f64,
}

#[derive(Serialize)]
struct TokenizerInfo {
    kind: String,
    /// How text is cut into words before.
    pre: Option<String>,
    tokens: usize,
}

/// All tensors of a type.
#[derive(Serialize)]
struct TypeTotal {
    #[serde(rename = "type")]
    name: &'static str,
    tensors: usize,
    weights: u64,
    bytes: u64,
    bits_per_weight: f64,
}

impl GgufInfo {
    /// Reads the container only.
    ///
    /// # Errors
    /// As opening the file; `Input` for a key that is of another type than it should be.
    pub fn read(path: &Path) -> Result<GgufInfo> {
        let files = gguf::open(path)?;
        let none = Metadata::default();
        let meta = files.first().and_then(|f| f.metadata()).unwrap_or(&none);
        GgufInfo::of(&files, meta).map_err(|e| e.at_file(path))
    }

    fn of(files: &[File], meta: &Metadata) -> Result<GgufInfo> {
        let text = |key: &str| -> Result<Option<String>> { Ok(meta.str(key)?.map(clean)) };
        let context = match meta.str("general.architecture")? {
            Some(a) => meta.u64(&format!("{a}.context_length"))?,
            None => None,
        };
        let tokenizer = match text("tokenizer.ggml.model")? {
            Some(kind) => Some(TokenizerInfo {
                kind,
                pre: text("tokenizer.ggml.pre")?,
                tokens: meta.strings("tokenizer.ggml.tokens")?.map_or(0, <[String]>::len),
            }),
            None => None,
        };
        let (types, bits_per_weight) = totals(files);
        Ok(GgufInfo {
            files: files.len(),
            bytes: files.iter().map(|f| f.len()).sum(),
            keys: meta.spans().len(),
            tensors: types.iter().map(|t| t.tensors).sum(),
            alignment: meta.alignment()?,
            architecture: text("general.architecture")?,
            name: text("general.name")?,
            context,
            tokenizer,
            types,
            bits_per_weight,
        })
    }

    pub fn print(&self, out: &mut dyn Write, path: &Path) -> io::Result<()> {
        let parts = if self.files > 1 { format!("{} files, ", self.files) } else { String::new() };
        let (tensors, bytes) = (self.tensors, group(self.bytes));
        writeln!(out, "{}: GGUF, {parts}{} keys, {tensors} tensors, {bytes} bytes", path.display(), self.keys)?;
        let context = self.context.map_or("not given".to_string(), |c| format!("{c} tokens"));
        let tokenizer = match &self.tokenizer {
            Some(TokenizerInfo { kind, pre: Some(pre), tokens }) => format!("{kind} ({pre}) of {tokens} tokens"),
            Some(t) => format!("{} of {} tokens", t.kind, t.tokens),
            None => "none".into(),
        };
        let name = self.architecture.as_deref().unwrap_or("none");
        writeln!(out, "  architecture {name}, context {context}, tokenizer {tokenizer}")?;
        for t in &self.types {
            let bytes = group(t.bytes);
            writeln!(
                out,
                "  {:<7} {:>5} tensors {bytes:>15} bytes {:>7.3} bits",
                t.name, t.tensors, t.bits_per_weight
            )?;
        }
        writeln!(out, "  {:.3} bits a weight of all matrices, with scales", self.bits_per_weight)
    }
}

/// Types, the largest first, and the bits of a weight of all matrices.
fn totals(files: &[File]) -> (Vec<TypeTotal>, f64) {
    let (mut kinds, mut weights, mut stored) = (BTreeMap::new(), 0, 0);
    for view in files.iter().flat_map(|f| f.names().filter_map(|n| f.get(n))) {
        let (n, bytes, name) = (view.elements() as u64, view.data.len() as u64, view.dtype.name());
        let empty = TypeTotal { name, tensors: 0, weights: 0, bytes: 0, bits_per_weight: 0.0 };
        let t = kinds.entry(name).or_insert(empty);
        (t.tensors, t.weights, t.bytes) = (t.tensors + 1, t.weights + n, t.bytes + bytes);
        t.bits_per_weight = bits(t.bytes, t.weights);
        if view.shape.len() > 1 && view.dtype.is_float() {
            (weights, stored) = (weights + n, stored + bytes);
        }
    }
    let mut types: Vec<TypeTotal> = kinds.into_values().collect();
    types.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.name.cmp(b.name)));
    (types, bits(stored, weights))
}

fn bits(bytes: u64, weights: u64) -> f64 {
    bytes as f64 * 8.0 / weights.max(1) as f64
}

/// What a stranger wrote, without what a terminal would obey.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
