//! The files of a checkpoint: weights, configuration, tokenizer. No meaning yet.

use super::config::Config;
use super::{gguf, pooling};
use crate::digest::sha256;
use crate::error::{Error, Kind, Result};
use crate::format::file::Alias;
use crate::format::File;
use crate::fsio::read_capped;
use crate::limits::{MAX_JSON_BYTES, MAX_TOKENIZER_BYTES};
use crate::model::{Pooling, TensorRef};
use crate::tensor::TensorView;
use crate::tokenizer::chat::Source;
use crate::tokenizer::load;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub struct Checkpoint {
    pub name: String,
    pub config: Config,
    pub generation: Option<Config>,
    pub tokenizer_json: Option<Vec<u8>>,
    pub chat: Source,
    /// From `modules.json` and the folder of the pooling.
    pub pooling: Option<Pooling>,
    pub files: Vec<File>,
    /// Tensor name without the prefixes that uploads differ in → where it is.
    index: BTreeMap<String, TensorRef>,
    pub sources: Vec<(String, u64, [u8; 32])>,
    /// What a person should know about the reading.
    pub warnings: Vec<String>,
}

impl Checkpoint {
    pub fn open(path: &Path) -> Result<Checkpoint> {
        if let Some(file) = gguf_file(path)? {
            return Checkpoint::from_gguf(&file);
        }
        let dir = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
        let mut sources = Vec::new();
        let mut side = |name: &str, cap: u64| -> Result<Option<(PathBuf, Vec<u8>)>> {
            let p = dir.join(name);
            if !p.is_file() {
                return Ok(None);
            }
            let data = read_capped(&p, cap)?;
            sources.push((name.to_string(), data.len() as u64, sha256(&data)));
            Ok(Some((p, data)))
        };
        let (cp, cd) = side("config.json", MAX_JSON_BYTES)?.ok_or_else(|| {
            Error::input("there is no `config.json`")
                .at_file(dir)
                .hint("give the folder of a Hugging Face checkpoint; it holds `config.json` and `model.safetensors`")
        })?;
        let config = Config::parse(&cp, &cd)?;
        let parse = |x: Option<(PathBuf, Vec<u8>)>| x.map(|(p, d)| Config::parse(&p, &d)).transpose();
        let generation = parse(side("generation_config.json", MAX_JSON_BYTES)?)?;
        let index = parse(side("model.safetensors.index.json", MAX_JSON_BYTES)?)?;
        // A model works without one, but not with a damaged one.
        let loaded = match load::of_checkpoint(dir) {
            Err(e) if e.kind() != Kind::Unsupported => return Err(e),
            loaded => loaded,
        };
        let template =
            side("chat_template.jinja", MAX_JSON_BYTES)?.map(|(_, d)| String::from_utf8_lossy(&d).into_owned());
        let tokenizer_config = parse(side("tokenizer_config.json", MAX_JSON_BYTES)?)?;
        let chat = Source::new(template, tokenizer_config.as_ref().map(Config::whole));
        let modules = match side("modules.json", MAX_JSON_BYTES)? {
            Some((p, d)) => pooling::modules(&p, &d)?,
            None => None,
        };
        let pooling = match modules {
            None => None,
            Some(m) => match parse(side(&format!("{}/config.json", m.pooling), MAX_JSON_BYTES)?)? {
                Some(cfg) => Some(pooling::pooling(&cfg, m.normalize)?),
                None => {
                    let e = Error::input(format!("`modules.json` names `{}`, which has no `config.json`", m.pooling));
                    return Err(e.at_file(dir));
                }
            },
        };
        let files = weight_files(path, dir, index.as_ref())?;
        let (mut tokenizer_json, mut warnings) = (None, Vec::new());
        if let Some(found) = loaded.unwrap_or_else(|e| {
            warnings.push(format!("the tokenizer is left out: {e}"));
            None
        }) {
            for path in &found.files {
                let data = read_capped(path, MAX_TOKENIZER_BYTES)?;
                let name = path.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
                sources.push((name, data.len() as u64, sha256(&data)));
            }
            tokenizer_json = found.json;
            warnings.extend(found.warnings);
        }
        sources.sort();
        let full = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
        let name = full.file_name().map_or("model".into(), |n| n.to_string_lossy().into_owned());
        let index = index_tensors(&files)?;
        Ok(Checkpoint { name, config, generation, tokenizer_json, chat, pooling, files, index, sources, warnings })
    }

    /// A GGUF file holds everything: weights, configuration and tokenizer.
    fn from_gguf(path: &Path) -> Result<Checkpoint> {
        let mut files = gguf::open(path)?;
        let g = gguf::GgufCheckpoint::read(&files)?;
        let mut names: Vec<BTreeMap<String, Alias>> = vec![BTreeMap::new(); files.len()];
        for (name, r) in g.names {
            let alias = Alias { tensor: r.tensor, shape: r.shape, first: r.first, rows: r.rows };
            names[r.file].insert(name, alias);
        }
        files.iter_mut().zip(names).for_each(|(f, n)| f.set_names(n));
        let index = index_tensors(&files)?;
        let name = path.file_stem().map_or("model".into(), |n| n.to_string_lossy().into_owned());
        Ok(Checkpoint {
            name,
            config: Config::from_value(path, g.config),
            generation: None,
            tokenizer_json: g.tokenizer_json,
            chat: Source { template: g.chat_template, ..Source::default() },
            pooling: None,
            files,
            index,
            sources: Vec::new(),
            warnings: g.warnings,
        })
    }

    /// A tensor by its name in the `model.` dialect.
    pub fn find(&self, name: &str) -> Option<&TensorRef> {
        self.index.get(name)
    }

    /// All tensors that are no buffers, by their name in the `model.` dialect.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorRef)> {
        self.index.iter().map(|(name, r)| (name.as_str(), r))
    }

    /// Whether the class is that of a network without a head.
    pub fn is_base_model(&self) -> bool {
        self.config.class().is_some_and(|c| c.ends_with("Model") && !c.ends_with("HeadModel"))
    }

    pub fn view(&self, r: &TensorRef) -> TensorView<'_> {
        // The index holds only names of its files.
        self.files[r.file].get(&r.name).unwrap_or_else(|| unreachable!("{} is in the index", r.name))
    }

    pub fn path_of(&self, r: &TensorRef) -> &Path {
        &self.files[r.file].path
    }

    /// # Errors
    /// `Input` naming the tensor that is missing.
    pub fn need(&self, name: &str) -> Result<TensorRef> {
        self.find(name).cloned().ok_or_else(|| {
            Error::input("this tensor is missing from the checkpoint")
                .at_tensor(name)
                .at_file(&self.files[0].path)
                .hint("config.json promises it; check that the download is complete and that both belong together")
        })
    }

    /// A float tensor of this shape.
    pub fn need_float(&self, name: &str, shape: &[usize]) -> Result<TensorRef> {
        let r = self.need(name)?;
        let v = self.view(&r);
        v.expect_shape(shape).map_err(|e| e.at_file(self.path_of(&r)))?;
        if !v.dtype.is_float() {
            let what = format!("holds {}, a float type is expected here", v.dtype.name());
            return Err(v.error(what).at_file(self.path_of(&r)));
        }
        Ok(r)
    }

    /// Names that nobody asked for, so that nothing is dropped silently.
    pub fn unused(&self, used: &BTreeSet<String>) -> Vec<String> {
        self.index.values().filter(|r| !used.contains(&r.name)).map(|r| r.name.clone()).collect()
    }
}

/// The GGUF file that a path means: itself, or the only one of a folder without other weights.
fn gguf_file(path: &Path) -> Result<Option<PathBuf>> {
    let is_gguf = |p: &Path| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    if path.is_file() {
        return Ok(is_gguf(path).then(|| path.to_path_buf()));
    }
    if path.join("config.json").is_file() {
        return Ok(None);
    }
    let entries = std::fs::read_dir(path).map_err(|e| Error::io("list the folder", path, &e))?;
    let mut found: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| is_gguf(p)).collect();
    found.sort();
    let parts = |p: &PathBuf| p.to_string_lossy().contains("-of-");
    match found.len() {
        0 => Ok(None),
        n if n == 1 || found.iter().all(parts) => Ok(found.into_iter().next()),
        n => {
            let names: Vec<_> = found.iter().filter_map(|p| p.file_name()).map(|n| n.to_string_lossy()).collect();
            let e = Error::usage(format!("the folder holds {n} GGUF files: {}", names.join(", "))).at_file(path);
            Err(e.hint("name one of them"))
        }
    }
}

fn weight_files(path: &Path, dir: &Path, index: Option<&Config>) -> Result<Vec<File>> {
    if path.is_file() {
        return Ok(vec![File::open(path)?]);
    }
    // Safetensors first: a folder that has both has the same weights twice.
    if let Some(index) = index {
        return shards(dir, index);
    }
    let single = dir.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![File::open(&single)?]);
    }
    let torch_index = dir.join("pytorch_model.bin.index.json");
    if torch_index.is_file() {
        let data = read_capped(&torch_index, MAX_JSON_BYTES)?;
        return shards(dir, &Config::parse(&torch_index, &data)?);
    }
    let single = dir.join("pytorch_model.bin");
    if single.is_file() {
        return Ok(vec![File::open(&single)?]);
    }
    if dir.join("consolidated.00.pth").exists() {
        return Err(Error::unsupported("`consolidated.00.pth` is not read, its names are not those of Hugging Face")
            .at_file(dir)
            .hint("fetch or make the version of the model in the Hugging Face layout"));
    }
    Err(Error::input("there is no `model.safetensors`, no `pytorch_model.bin` and no index of shards of either")
        .at_file(dir))
}

/// The files that an index names, in their order; every tensor must be in one of them.
fn shards(dir: &Path, index: &Config) -> Result<Vec<File>> {
    let map = index.get("weight_map").and_then(|m| m.as_object()).filter(|m| !m.is_empty());
    let map = map.ok_or_else(|| index.error("`weight_map` is missing or empty"))?;
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        match file.as_str() {
            // A path would leave the checkpoint's folder.
            Some(f) if !f.is_empty() && !f.contains(['/', '\\']) && f != ".." => names.insert(f),
            _ => return Err(index.error(format!("`weight_map` has {file} as file of a tensor")).at_tensor(tensor)),
        };
    }
    let files: Vec<_> = names.iter().map(|n| File::open(&dir.join(n))).collect::<Result<_>>()?;
    for tensor in map.keys() {
        if !files.iter().any(|f| f.get(tensor).is_some()) {
            return Err(index.error("the index lists this tensor, no file has it").at_tensor(tensor));
        }
    }
    Ok(files)
}

/// Brings the names that uploads differ in to one form: decoders have `model.` before everything but the head, gpt2 and its kin `transformer.`,
/// encoders nothing. None: a buffer, no weight.
fn canonical(name: &str) -> Option<String> {
    const BUFFERS: [&str; 6] = [
        ".rotary_emb.inv_freq",
        ".attn.bias",
        ".attn.masked_bias",
        ".attention.bias",
        ".attention.masked_bias",
        "embeddings.position_ids",
    ];
    if BUFFERS.iter().any(|b| name.ends_with(b)) {
        return None;
    }
    for (from, to) in [
        ("model.language_model.", "model."),
        ("language_model.model.", "model."),
        ("language_model.lm_head", "lm_head"),
        ("model.model.", "model."),
        ("bert.", ""),
        ("roberta.", ""),
        ("distilbert.", ""),
    ] {
        if let Some(rest) = name.strip_prefix(from) {
            return Some(format!("{to}{}", layer_norm(rest)));
        }
    }
    let starts = |prefixes: &[&str]| prefixes.iter().any(|p| name.starts_with(p));
    Some(if starts(&["embed_tokens.", "layers.", "norm.", "final_layernorm."]) {
        format!("model.{name}")
    } else if starts(&["wte.", "wpe.", "h.", "ln_f.", "word_embeddings."]) {
        format!("transformer.{name}")
    } else {
        layer_norm(name)
    })
}

/// Old checkpoints of the bert family call gain and bias gamma and beta.
fn layer_norm(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((module, "gamma")) if module.ends_with("LayerNorm") => format!("{module}.weight"),
        Some((module, "beta")) if module.ends_with("LayerNorm") => format!("{module}.bias"),
        _ => name.to_string(),
    }
}

fn index_tensors(files: &[File]) -> Result<BTreeMap<String, TensorRef>> {
    let mut index: BTreeMap<String, TensorRef> = BTreeMap::new();
    for (i, f) in files.iter().enumerate() {
        for name in f.names() {
            let Some(key) = canonical(name) else { continue };
            if let Some(old) = index.insert(key, TensorRef { file: i, name: name.to_string() }) {
                let (a, b) = (files[old.file].get(&old.name), f.get(name));
                let same = a.zip(b).is_some_and(|(a, b)| a.data == b.data && a.shape == b.shape);
                if !same {
                    return Err(Error::input(format!(
                        "`{}` and `{name}` are the same tensor with different values",
                        old.name
                    ))
                    .at_tensor(name)
                    .at_file(&f.path));
                }
            }
        }
    }
    Ok(index)
}
