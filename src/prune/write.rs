//! The folder of a smaller checkpoint: tensors copied byte for byte under their new names, configuration and side files to fit.

use super::vocabulary;
use crate::error::{Error, Result};
use crate::format::safetensors::{stream, Item};
use crate::fsio::{read_capped, AtomicDir};
use crate::import::import;
use crate::limits::{MAX_JSON_BYTES, MAX_TOKENIZER_BYTES};
use crate::model::Model;
use crate::progress::Progress;
use crate::tokenizer::trim::Trimmed;
use crate::transform::prune::{config, ids, Stack};
use serde_json::{json, Value};
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

/// The file that says what was done; a folder that has it may be replaced by another result.
pub const MARKER: &str = "prune.json";
/// Files of tokenizers that hold ids and that `tokenizer.json` stands for.
const SLOW: [&str; 8] = [
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "added_tokens.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
];
/// Small files that are written anew.
const OURS: [&str; 5] = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", MARKER];
/// Bytes that are handed on at a time.
const CHUNK: usize = 16 << 20;

/// A tensor of the result.
struct Copy {
    file: usize,
    name: String,
    /// Only the rows of kept tokens.
    rows: bool,
}

/// A result that is planned: nothing is written.
pub struct Prepared<'a> {
    model: &'a Model,
    dir: PathBuf,
    stack: Stack,
    vocabulary: Option<Trimmed>,
    copies: Vec<Copy>,
    items: Vec<Item>,
    /// Name and contents of what is written beside the tensors.
    small: Vec<(String, Vec<u8>)>,
    /// Files that are copied.
    side: Vec<String>,
    pub warnings: Vec<String>,
    /// Bytes of the tensors.
    pub bytes: [u64; 2],
    /// Weights of all matrices.
    pub parameters: [u64; 2],
}

/// Folder of a model's files.
fn folder(model: &Model) -> PathBuf {
    let parent = model.files.first().and_then(|f| f.path.parent());
    parent.filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf()
}

/// A JSON file of the folder, if it is there.
fn settings(dir: &Path, name: &str) -> Result<Option<Value>> {
    let path = dir.join(name);
    if !path.is_file() {
        return Ok(None);
    }
    let data = read_capped(&path, MAX_JSON_BYTES)?;
    let bad = |e: serde_json::Error| Error::input(format!("this is no valid JSON: {e}")).at_file(&path);
    serde_json::from_slice(&data).map(Some).map_err(bad)
}

/// Ids that the configurations of a model name.
///
/// # Errors
/// `Input` for files that are no JSON.
pub fn named_ids(model: &Model) -> Result<Vec<u32>> {
    let dir = folder(model);
    let mut out = Vec::new();
    for name in ["config.json", "generation_config.json"] {
        out.extend(settings(&dir, name)?.iter().flat_map(ids::named));
    }
    Ok(out)
}

fn pretty(v: &Value) -> Vec<u8> {
    format!("{v:#}\n").into_bytes()
}

/// Plans the result of keeping these layers (ascending) and these tokens.
///
/// # Errors
/// `Unsupported` for files and settings that cannot be rewritten.
pub fn prepare<'a>(model: &'a Model, kept: &[usize], vocabulary: Option<Trimmed>) -> Result<Prepared<'a>> {
    let dir = folder(model);
    if let Some(f) = model.files.iter().find(|f| f.metadata().is_some()) {
        return Err(Error::unsupported("a GGUF file cannot be pruned, only a checkpoint in the Hugging Face layout")
            .at_file(&f.path)
            .hint("take the checkpoint that the file was made from"));
    }
    if kept.is_empty() {
        return Err(Error::usage("no layer would be left").hint("keep at least one"));
    }
    let stack = Stack::of(model, kept)?;
    let at_config = |e: Error| e.at_file(&dir.join("config.json"));
    let mut cfg = settings(&dir, "config.json")?.ok_or_else(|| at_config(Error::input("this file is missing")))?;
    let mut warnings = config::layers(&mut cfg, &stack).map_err(at_config)?;
    let mut generation = settings(&dir, "generation_config.json")?;
    let mut tokenizer_config = settings(&dir, "tokenizer_config.json")?;
    let by_token = match &vocabulary {
        Some(t) => {
            let (size, new_id) = (t.kept.len(), |id| t.new_id(id));
            ids::rewrite(&mut cfg, new_id, size, true);
            generation.iter_mut().for_each(|g| ids::rewrite(g, new_id, size, false));
            tokenizer_config.iter_mut().for_each(|c| ids::rewrite_added(c, new_id));
            vocabulary::tensors(model, &stack)?
        }
        None => Default::default(),
    };
    let (mut copies, mut items, mut before) = (Vec::new(), Vec::new(), 0);
    for (file, f) in model.files.iter().enumerate() {
        for v in f.names().filter_map(|n| f.get(n)) {
            before += v.data.len() as u64;
            let Some(name) = stack.tensor(v.name) else { continue };
            let rows = by_token.contains(&(file, v.name.to_string()));
            let (mut shape, mut bytes) = (v.shape.to_vec(), v.data.len());
            if let (true, Some(t), Some(first)) = (rows, &vocabulary, shape.first_mut()) {
                bytes = bytes / (*first).max(1) * t.kept.len();
                *first = t.kept.len();
            }
            items.push(Item { name, dtype: v.dtype, shape, bytes: bytes as u64 });
            copies.push(Copy { file, name: v.name.to_string(), rows });
        }
    }
    let after = items.iter().map(|i| i.bytes).sum();
    let side = side_files(model, &dir, vocabulary.is_some(), &mut warnings)?;
    let mut small = vec![("config.json".to_string(), pretty(&cfg))];
    small.extend(generation.map(|g| ("generation_config.json".to_string(), pretty(&g))));
    small.extend(tokenizer_config.map(|c| ("tokenizer_config.json".to_string(), pretty(&c))));
    let tokenizer = vocabulary.as_ref().map(|t| &t.tokenizer_json).or(model.tokenizer_json.as_ref());
    small.extend(tokenizer.map(|t| ("tokenizer.json".to_string(), t.clone())));
    let record = json!({
        "generator": format!("bitnet-convert {}", env!("CARGO_PKG_VERSION")),
        "source": model.name,
        "source_layers": stack.total,
        "kept_layers": stack.kept,
        "source_vocabulary": model.vocab,
        "vocabulary": vocabulary.as_ref().map_or(model.vocab, |t| t.kept.len()),
    });
    small.push((MARKER.to_string(), pretty(&record)));
    let vocab = vocabulary.as_ref().map_or(model.vocab, |t| t.kept.len());
    let all: Vec<usize> = (0..stack.total).collect();
    let parameters = [weights(model, &all, model.vocab), weights(model, kept, vocab)];
    Ok(Prepared {
        model,
        dir,
        stack,
        vocabulary,
        copies,
        items,
        small,
        side,
        warnings,
        bytes: [before, after],
        parameters,
    })
}

/// Weights of the matrices of a network with these layers and so many tokens.
fn weights(m: &Model, kept: &[usize], vocab: usize) -> u64 {
    let layers = kept.iter().filter_map(|i| m.layers.get(*i)).flat_map(|l| l.projections());
    let tables = [m.positions.as_ref().map(|p| &p.table), m.token_types.as_ref()].into_iter().flatten();
    let rest = m
        .head_transform
        .as_ref()
        .map(|t| &t.dense)
        .into_iter()
        .chain(&m.pooler)
        .chain(m.audio.iter().flat_map(|a| a.layers.iter().flat_map(|l| l.projections())));
    let sizes = layers.chain(rest).map(|l| &l.weight).chain(tables).map(|w| w.rows as u64 * w.cols as u64);
    let ends = 1 + u64::from(m.head.is_some() && !m.tied());
    sizes.sum::<u64>() + ends * vocab as u64 * m.d_model as u64
}

/// Small files that go along: of the tokenizer, templates, code, licences, and what the importer has read in folders below.
fn side_files(model: &Model, dir: &Path, trimmed: bool, warnings: &mut Vec<String>) -> Result<Vec<String>> {
    let mut out: Vec<String> =
        model.sources.iter().map(|(name, ..)| name).filter(|n| n.contains('/') && is_below(n)).cloned().collect();
    let io = |e: io::Error| Error::io("list the folder", dir, &e);
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let extension = Path::new(&name).extension().and_then(|e| e.to_str()).unwrap_or_default();
        let wanted = ["json", "jinja", "txt", "model", "py"].contains(&extension)
            || ["LICENSE", "LICENCE", "NOTICE"].iter().any(|l| name.to_ascii_uppercase().starts_with(l));
        let left_out = OURS.contains(&name.as_str()) || name.ends_with(".index.json");
        // A hub's cache has links.
        let Ok(meta) = fs::metadata(entry.path()) else { continue };
        if !wanted || left_out || !meta.is_file() {
            continue;
        }
        if trimmed && SLOW.contains(&name.as_str()) {
            warnings.push(format!("`{name}` is left out, it has the old ids; `tokenizer.json` has the new ones"));
        } else if meta.len() > MAX_TOKENIZER_BYTES {
            warnings.push(format!("`{name}` is left out, it is larger than any side file that is known"));
        } else {
            out.push(name);
        }
    }
    out.sort();
    out.dedup();
    Ok(out)
}

fn is_below(name: &str) -> bool {
    Path::new(name).components().all(|c| matches!(c, Component::Normal(_)))
}

impl Prepared<'_> {
    /// Refuses an output whose writing would replace the source.
    ///
    /// # Errors
    /// `Usage` if the output is the folder of the source or one above it.
    pub fn refuse_source(&self, out: &Path) -> Result<()> {
        let (Ok(out_full), Ok(dir)) = (out.canonicalize(), self.dir.canonicalize()) else { return Ok(()) };
        if dir.starts_with(&out_full) {
            return Err(Error::usage("the output is the folder of the checkpoint, or holds it")
                .at_file(out)
                .hint("choose another folder"));
        }
        Ok(())
    }

    /// Writes the folder. It gets its name only after it was imported again and has the structure of the kept layers.
    ///
    /// # Errors
    /// `Usage` for an output that is in use, `Io` from the output, `Unsupported` if the configuration of this architecture cannot say what the
    /// kept layers are.
    pub fn write(&self, out: &Path, progress: &dyn Progress) -> Result<()> {
        self.refuse_source(out)?;
        let dir = AtomicDir::create(out, MARKER)?;
        progress.stage("copying tensors", self.bytes[1]);
        stream(&dir.path().join("model.safetensors"), &self.items, |i, sink| self.copy(i, sink, progress))?;
        progress.done();
        let put = |name: &str, write: &dyn Fn(&Path) -> io::Result<()>| {
            let path = dir.path().join(name);
            let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| write(&path));
            made.map_err(|e| Error::io("write", &out.join(name), &e))
        };
        for (name, data) in &self.small {
            put(name, &|path| fs::write(path, data))?;
        }
        for name in &self.side {
            let from = self.dir.join(name);
            put(name, &|path| fs::write(path, fs::read(&from)?))?;
        }
        progress.stage("importing the result", 0);
        let again = import(dir.path())?;
        progress.done();
        self.check(&again)?;
        drop(again);
        dir.commit()
    }

    fn copy(&self, i: usize, sink: &mut dyn FnMut(&[u8]) -> Result<()>, progress: &dyn Progress) -> Result<()> {
        let Some((c, v)) = self.copies.get(i).and_then(|c| Some((c, self.model.files[c.file].get(&c.name)?))) else {
            return Ok(());
        };
        let mut hand_on = |bytes: &[u8]| {
            progress.advance(bytes.len() as u64);
            sink(bytes)
        };
        match self.vocabulary.as_ref().filter(|_| c.rows) {
            None => v.data.chunks(CHUNK).try_for_each(hand_on),
            Some(t) => {
                let row = v.data.len() / v.shape.first().copied().unwrap_or(1).max(1);
                let rows = t.kept.iter().map(|id| *id as usize * row);
                rows.map(|at| v.data.get(at..at + row).unwrap_or(&[])).try_for_each(&mut hand_on)
            }
        }
    }

    /// Compares what the result says of its layers with what the source says of those that were kept.
    fn check(&self, new: &Model) -> Result<()> {
        let old = self.model;
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * a.abs().max(b.abs());
        let differs = |what: String| {
            let e =
                Error::unsupported(format!("the configuration of this architecture cannot say what is kept: {what}"));
            Err(e.at_file(&self.dir.join("config.json")).hint("nothing was written; this is a gap in bitnet-convert"))
        };
        let vocab = self.vocabulary.as_ref().map_or(old.vocab, |t| t.kept.len());
        if new.layers.len() != self.stack.kept.len() || new.vocab != vocab || new.tied() != old.tied() {
            return differs(format!("{} layers and {} tokens came back", new.layers.len(), new.vocab));
        }
        let offset = |m: &Model| m.positions.as_ref().map(|p| p.offset);
        let scales = |m: &Model| [m.residual_scale, m.embedding_scale, m.logits_scale];
        let same = scales(old).iter().zip(scales(new)).all(|(a, b)| near(*a, b));
        if !same || offset(old) != offset(new) || old.ropes != new.ropes || old.alibi != new.alibi {
            return differs("scales or positions would change".into());
        }
        for (i, b) in self.stack.kept.iter().zip(&new.layers) {
            let (x, y) = (&old.layers[*i].attn, &b.attn);
            if x.window != y.window || x.rope != y.rope || x.softcap != y.softcap || !near(x.scale, y.scale) {
                return differs(format!("layer {i} would get another window, rotation or scale"));
            }
        }
        Ok(())
    }
}
