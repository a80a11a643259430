//! Where a `tokenizer.json` holds tokens and ids: read, and written anew.

use super::super::compile::alphabet;
use super::merges::Merges;
use super::{invalid, unsupported, TokenizerError};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bpe,
    Unigram,
    WordPiece,
}

type Checked<T> = std::result::Result<T, TokenizerError>;

/// The tokens of a file.
pub struct Vocab<'a> {
    pub kind: Kind,
    /// Tokens of the model by ascending id.
    pub model: Vec<(&'a str, u32)>,
    /// For each of them: smaller is more useful.
    pub order: Vec<u64>,
    pub added: Vec<(&'a str, u32)>,
    pub byte_fallback: bool,
    pub ignore_merges: bool,
    /// What WordPiece puts before tokens within a word.
    prefix: String,
    ids: BTreeSet<u32>,
}

fn id_of(v: &Value, key: &str) -> Checked<u32> {
    let id = v.as_u64().and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| invalid(key, format!("{v} is no id")))
}

fn kind_of(v: &Value) -> &str {
    v.get("type").and_then(Value::as_str).unwrap_or("")
}

/// Files of the first versions name no type; the keys decide.
fn kind(model: &Value) -> Checked<Kind> {
    match (kind_of(model), model.get("vocab")) {
        ("BPE", Some(Value::Object(_))) => Ok(Kind::Bpe),
        ("WordPiece", Some(Value::Object(_))) => Ok(Kind::WordPiece),
        ("Unigram", Some(Value::Array(_))) => Ok(Kind::Unigram),
        ("", Some(Value::Object(_))) if model.get("merges").is_some() => Ok(Kind::Bpe),
        ("", Some(Value::Array(_))) => Ok(Kind::Unigram),
        ("BPE" | "WordPiece" | "Unigram", _) => Err(invalid("model.vocab", "is missing or of another model")),
        (other, _) => Err(unsupported("model.type", other, "only BPE, Unigram and WordPiece can be trimmed")),
    }
}

/// Whether a component, or one inside of it, is of a type.
fn mentions(v: &Value, kind: &str, depth: usize) -> bool {
    let inner = ["pretokenizers", "normalizers", "decoders", "processors"];
    kind_of(v) == kind
        || depth > 0
            && inner
                .iter()
                .filter_map(|k| v.get(k))
                .filter_map(Value::as_array)
                .flatten()
                .any(|v| mentions(v, kind, depth - 1))
}

/// SentencePiece's mark for a space. Its bytes alone would be decoded to the mark, not to the space.
const SPACE_MARK: &str = "\u{2581}";

impl<'a> Vocab<'a> {
    pub fn read(file: &'a Value) -> Checked<Vocab<'a>> {
        let model = file.get("model").unwrap_or(&Value::Null);
        let kind = kind(model)?;
        let mut by_id: BTreeMap<u32, (&str, f64)> = BTreeMap::new();
        let mut put = |token: &'a str, id: u32, score: f64| match by_id.insert(id, (token, score)) {
            Some((old, _)) => Err(invalid("model.vocab", format!("`{old}` and `{token}` have the same id {id}"))),
            None => Ok(()),
        };
        match model.get("vocab") {
            Some(Value::Object(map)) => {
                for (token, id) in map {
                    put(token, id_of(id, "model.vocab")?, 0.0)?;
                }
            }
            Some(Value::Array(list)) => {
                for (id, pair) in list.iter().enumerate() {
                    let both = (pair.get(0).and_then(Value::as_str), pair.get(1).and_then(Value::as_f64));
                    let (Some(token), Some(score)) = both else {
                        return Err(invalid("model.vocab", format!("{pair} is not a token with its score")));
                    };
                    put(token, id as u32, score)?;
                }
            }
            _ => {}
        }
        let model_ids: BTreeSet<u32> = by_id.keys().copied().collect();
        let tokens: HashMap<&str, u32> = by_id.iter().map(|(id, (t, _))| (*t, *id)).collect();
        if tokens.len() != by_id.len() {
            return Err(invalid("model.vocab", "has a token twice"));
        }
        let mut added = Vec::new();
        let mut next = by_id.len() as u32;
        for a in file.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
            let content = a.get("content").and_then(Value::as_str).unwrap_or("");
            let id = id_of(a.get("id").unwrap_or(&Value::Null), "added_tokens.id")?;
            // The reference library numbers those that the model does not have itself, from the end of the vocabulary.
            let want = tokens.get(content).copied().unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            if id != want {
                return Err(invalid("added_tokens", format!("`{content}` has the id {id}, it would get {want}")));
            }
            added.push((content, id));
        }
        let ids: BTreeSet<u32> = model_ids.into_iter().chain(added.iter().map(|(_, id)| *id)).collect();
        let mut order: Vec<u64> = (0..by_id.len() as u64).collect();
        if kind == Kind::Unigram {
            let mut best: Vec<(f64, usize)> = by_id.values().enumerate().map(|(i, (_, score))| (*score, i)).collect();
            best.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            for (rank, (_, i)) in best.into_iter().enumerate() {
                order[i] = rank as u64;
            }
        }
        let flag = |key: &str| model.get(key).and_then(Value::as_bool).unwrap_or(false);
        let prefix = match kind {
            Kind::WordPiece => model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or("##"),
            _ => "",
        };
        Ok(Vocab {
            kind,
            prefix: prefix.to_string(),
            model: by_id.into_iter().map(|(id, (token, _))| (token, id)).collect(),
            order,
            added,
            byte_fallback: kind != Kind::WordPiece && flag("byte_fallback"),
            ignore_merges: flag("ignore_merges"),
            ids,
        })
    }

    /// The merges, where the model has such.
    pub fn merges(&self, file: &Value) -> Checked<Option<Merges>> {
        let ids = self.model.iter().map(|(t, id)| (*t, *id)).collect();
        (self.kind == Kind::Bpe).then(|| Merges::read(&file["model"], &ids)).transpose()
    }

    pub fn has(&self, id: u32) -> bool {
        self.ids.contains(&id)
    }

    /// Whether a token spells one character.
    pub fn is_symbol(&self, token: &str, merges: Option<&Merges>) -> bool {
        match merges {
            Some(m) => m.is_symbol(token),
            None => {
                let body = token.strip_prefix(&self.prefix[..]).filter(|t| !t.is_empty()).unwrap_or(token);
                body.chars().count() == 1
            }
        }
    }

    /// Tokens that no choice drops: added ones, those that other parts of the file name, and those that spell any text.
    pub fn required(&self, file: &Value, merges: Option<&Merges>) -> Checked<BTreeSet<u32>> {
        let mut kept: BTreeSet<u32> = self.added.iter().map(|(_, id)| *id).collect();
        let model = &file["model"];
        let unknown = match model.get("unk_id") {
            Some(v) if self.kind == Kind::Unigram && !v.is_null() => Some(id_of(v, "model.unk_id")?),
            _ => {
                let name = model.get("unk_token").and_then(Value::as_str);
                name.and_then(|n| self.model.iter().find(|(t, _)| *t == n)).map(|(_, id)| *id)
            }
        };
        let named = processor_ids(file.get("post_processor").unwrap_or(&Value::Null), 2)?;
        for id in named.into_iter().chain(unknown) {
            if !self.has(id) {
                return Err(invalid("post_processor", format!("the id {id} is no token")));
            }
            kept.insert(id);
        }
        if let Some(pad) = file.pointer("/padding/pad_id") {
            kept.extend(Some(id_of(pad, "padding.pad_id")?).filter(|id| self.has(*id)));
        }
        let byte_level = ["pre_tokenizer", "normalizer", "decoder"].iter().any(|k| mentions(&file[*k], "ByteLevel", 2));
        let bytes = alphabet();
        for (token, id) in &self.model {
            let mut chars = token.chars();
            let single = chars.next().filter(|_| chars.next().is_none());
            let spells = if byte_level {
                single.is_some_and(|c| bytes.contains_key(&c))
            } else if self.byte_fallback {
                is_byte(token)
            } else {
                unknown.is_none() && self.is_symbol(token, merges)
            };
            if spells || *token == SPACE_MARK {
                kept.insert(*id);
            }
        }
        Ok(kept)
    }
}

/// `<0x00>` to `<0xFF>`.
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    digits.is_some_and(|d| d.len() == 2 && d.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Every place of an id in a post-processor.
fn processor_places<'v>(v: &'v mut Value, depth: usize, found: &mut Vec<&'v mut Value>) -> Checked<()> {
    let kind = kind_of(v).to_string();
    match (kind.as_str(), v) {
        (_, Value::Null) | ("ByteLevel", _) => {}
        ("TemplateProcessing", v) => {
            let tokens = v.get_mut("special_tokens").and_then(Value::as_object_mut);
            for token in tokens.into_iter().flat_map(Map::values_mut) {
                found.extend(token.get_mut("ids").and_then(Value::as_array_mut).into_iter().flatten());
            }
        }
        ("BertProcessing" | "RobertaProcessing", Value::Object(map)) => {
            for (key, pair) in map.iter_mut() {
                if key == "sep" || key == "cls" {
                    found.extend(pair.get_mut(1));
                }
            }
        }
        ("Sequence", v) if depth > 0 => {
            for step in v.get_mut("processors").and_then(Value::as_array_mut).into_iter().flatten() {
                processor_places(step, depth - 1, found)?;
            }
        }
        (other, _) => return Err(unsupported("post_processor.type", other, "its ids are not known")),
    }
    Ok(())
}

fn processor_ids(v: &Value, depth: usize) -> Checked<Vec<u32>> {
    let mut copy = v.clone();
    let mut places = Vec::new();
    processor_places(&mut copy, depth, &mut places)?;
    places.iter().map(|v| id_of(v, "post_processor")).collect()
}

/// Drops what is not kept and renumbers the rest. `kept` are ids of the file, ascending.
pub fn rewrite(file: &mut Value, kept: &[u32]) -> Checked<()> {
    let new = |id: u32| kept.binary_search(&id).ok().map(|i| i as u32);
    let renumber = |v: &mut Value, key: &str| -> Checked<()> {
        if let Some(id) = new(id_of(v, key)?) {
            *v = id.into();
        }
        Ok(())
    };
    for a in file.get_mut("added_tokens").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(id) = a.get_mut("id") {
            renumber(id, "added_tokens.id")?;
        }
    }
    let mut places = Vec::new();
    if let Some(p) = file.get_mut("post_processor") {
        processor_places(p, 2, &mut places)?;
    }
    for p in places {
        renumber(p, "post_processor")?;
    }
    if let Some(pad) = file.pointer_mut("/padding/pad_id") {
        renumber(pad, "padding.pad_id")?;
    }
    let Some(model) = file.get_mut("model") else { return Ok(()) };
    if kind(model)? == Kind::Bpe {
        retain_merges(model, kept)?;
    }
    match model.get_mut("vocab") {
        Some(Value::Object(map)) => {
            map.retain(|_, id| id_of(id, "").is_ok_and(|id| new(id).is_some()));
            for id in map.values_mut() {
                renumber(id, "model.vocab")?;
            }
        }
        Some(Value::Array(list)) => {
            let mut at = 0..;
            list.retain(|_| at.next().is_some_and(|id| new(id).is_some()));
        }
        _ => {}
    }
    if let Some(unk) = model.get_mut("unk_id").filter(|v| !v.is_null()) {
        renumber(unk, "model.unk_id")?;
    }
    Ok(())
}

fn retain_merges(model: &mut Value, kept: &[u32]) -> Checked<()> {
    let Some(map) = model.get("vocab").and_then(Value::as_object) else { return Ok(()) };
    let ids: HashMap<&str, u32> =
        map.iter().map(|(t, id)| Ok((t.as_str(), id_of(id, "model.vocab")?))).collect::<Checked<_>>()?;
    let merges = Merges::read(model, &ids)?;
    let has = |t: &str| ids.get(t).is_some_and(|id| kept.binary_search(id).is_ok());
    let list = model.get("merges").and_then(Value::as_array).into_iter().flatten();
    let left: Vec<Value> = list.filter(|m| merges.survives(m, has)).cloned().collect();
    model["merges"] = left.into();
    Ok(())
}
