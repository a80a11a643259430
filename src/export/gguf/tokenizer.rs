//! `tokenizer.json` as the keys of a header. What was written is read back and both forms encode the same texts, so a tokenizer that would
//! cut a text otherwise is noticed here.

use crate::calibration::PARAGRAPH;
use crate::error::{Error, Result};
use crate::export::packed::{GOLDEN_TEXTS, MORE_TEXTS};
use crate::format::base64;
use crate::format::gguf::Keys;
use crate::model::Model;
use crate::tokenizer::host::HostTokenizer;
use crate::tokenizer::load::gguf;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// Stands for a space.
const SPACE: &str = "\u{2581}";
/// What stands for the settings of a SentencePiece model in place of a normalizer.
const SENTENCE_PIECE: &str = "SentencePiece";

const LEAVE_OUT: &str = "`--no-tokenizer` leaves the tokenizer out; the file then takes token ids only";

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Tokens by id.
struct Vocab {
    texts: Vec<String>,
    kinds: Vec<i32>,
    ids: HashMap<String, u32>,
}

/// Adds the keys of the model's tokenizer; without one the file says that there is none.
///
/// # Errors
/// `Unsupported` for tokenizers that llama.cpp has no name for, saying which part; `Input` for a `tokenizer.json` that contradicts itself.
pub fn keys(model: &Model, k: &mut Keys, warnings: &mut Vec<String>) -> Result<()> {
    let Some(bytes) = &model.tokenizer_json else {
        none(k);
        warnings.push("the checkpoint has no tokenizer: the file takes token ids only".into());
        return Ok(());
    };
    let path = model.files.first().map(|f| f.path.with_file_name("tokenizer.json")).unwrap_or_default();
    let here = |e: Error| e.at_file(&path);
    let json: Value =
        serde_json::from_slice(bytes).map_err(|e| here(Error::input(format!("the tokenizer is no JSON: {e}"))))?;
    convert(model, &json, k, warnings).map_err(here)?;
    compare(model, bytes, k, warnings).map_err(here)
}

/// A file that takes token ids only.
pub fn none(k: &mut Keys) {
    k.set_text("tokenizer.ggml.model", "no_vocab");
}

fn convert(model: &Model, json: &Value, k: &mut Keys, warnings: &mut Vec<String>) -> Result<()> {
    let inner = &json["model"];
    let vocab = Vocab::read(json, model.vocab)?;
    let kind = inner["type"].as_str().unwrap_or("");
    match kind {
        "BPE" if marks_spaces(json) => pieces(json, &vocab, k, warnings)?,
        "BPE" => byte_level(json, &vocab, k)?,
        "Unigram" => unigram(json, &vocab, k)?,
        other => {
            return Err(refused(&format!("a tokenizer of the kind `{}`", crate::error::printable(other))));
        }
    }
    k.set_texts("tokenizer.ggml.tokens", &vocab.texts);
    k.set_list("tokenizer.ggml.token_type", &vocab.kinds);
    special(model, json, &vocab, k, warnings)?;
    if !model.chat_template.is_empty() {
        k.set_text("tokenizer.chat_template", &model.chat_template);
    }
    Ok(())
}

fn refused(what: &str) -> Error {
    Error::unsupported(format!("llama.cpp has no name for {what}")).hint(LEAVE_OUT)
}

impl Vocab {
    fn read(json: &Value, rows: usize) -> Result<Vocab> {
        let inner = &json["model"];
        let mut texts: Vec<Option<String>> = vec![None; rows];
        let mut kinds = vec![NORMAL; rows];
        let mut put = |id: u64, text: &str| -> Result<usize> {
            let at = usize::try_from(id).ok().filter(|id| *id < rows).ok_or_else(|| {
                Error::input(format!("token {id} is beyond the {rows} rows of the embedding"))
                    .hint("the tokenizer belongs to another model")
            })?;
            texts[at] = Some(text.to_string());
            Ok(at)
        };
        let fallback = inner["byte_fallback"].as_bool().unwrap_or(false);
        let mut bytes = Vec::new();
        match &inner["vocab"] {
            Value::Object(by_text) => {
                for (text, id) in by_text {
                    let at = put(id.as_u64().unwrap_or(u64::MAX), text)?;
                    bytes.extend(Some(at).filter(|_| fallback && is_byte(text)));
                }
            }
            Value::Array(list) => {
                for (id, entry) in list.iter().enumerate() {
                    let text = entry[0].as_str().unwrap_or("");
                    let at = put(id as u64, text)?;
                    bytes.extend(Some(at).filter(|_| fallback && is_byte(text)));
                }
            }
            _ => return Err(Error::input("`model.vocab` is missing")),
        }
        bytes.into_iter().for_each(|at| kinds[at] = BYTE);
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            let at = put(token["id"].as_u64().unwrap_or(u64::MAX), token["content"].as_str().unwrap_or(""))?;
            kinds[at] = if token["special"].as_bool().unwrap_or(false) { CONTROL } else { USER_DEFINED };
        }
        let unknown = inner["unk_token"].as_str().map(str::to_string);
        let unknown = unknown.and_then(|t| texts.iter().position(|x| x.as_deref() == Some(&t)));
        if let Some(at) = unknown.or(inner["unk_id"].as_u64().map(|i| i as usize)).filter(|at| *at < rows) {
            kinds[at] = UNKNOWN;
        }
        // Rows without a token get a name that no token has.
        let used: HashSet<String> = texts.iter().flatten().cloned().collect();
        let fill = |(i, (text, kind)): (usize, (Option<String>, &mut i32))| match text {
            Some(t) => t,
            None => {
                *kind = UNUSED;
                let mut name = format!("[PAD{i}]");
                while used.contains(&name) {
                    name.push(']');
                }
                name
            }
        };
        let texts: Vec<String> = texts.into_iter().zip(kinds.iter_mut()).enumerate().map(fill).collect();
        let mut ids = HashMap::with_capacity(rows);
        for (i, t) in texts.iter().enumerate() {
            if let Some(old) = ids.insert(t.clone(), i as u32) {
                return Err(Error::input(format!("tokens {old} and {i} have the same text")));
            }
        }
        Ok(Vocab { texts, kinds, ids })
    }

    fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }
}

/// `<0x41>`
fn is_byte(text: &str) -> bool {
    let hex = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    hex.is_some_and(|h| h.len() == 2 && h.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Merges as pairs, in either spelling.
fn merges(json: &Value) -> Result<Vec<(&str, &str)>> {
    fn pair(m: &Value) -> Option<(&str, &str)> {
        Some((m[0].as_str()?, m[1].as_str()?))
    }
    let list = json["model"]["merges"].as_array().ok_or_else(|| Error::input("`model.merges` is missing"))?;
    let mut all = Vec::with_capacity(list.len());
    for (i, m) in list.iter().enumerate() {
        let found = m.as_str().and_then(|t| t.split_once(' ')).or_else(|| pair(m));
        all.push(found.ok_or_else(|| Error::input(format!("item {i} of `model.merges` is no pair")))?);
    }
    Ok(all)
}

/// The steps of a normalizer that do something.
fn normalizers(json: &Value) -> Vec<&Value> {
    match &json["normalizer"] {
        Value::Null => Vec::new(),
        n if n["type"] == "Sequence" => n["normalizers"].as_array().into_iter().flatten().collect(),
        n => vec![n],
    }
}

fn byte_level(json: &Value, vocab: &Vocab, k: &mut Keys) -> Result<()> {
    let steps = normalizers(json);
    let nfc = !steps.is_empty() && steps.iter().all(|s| s["type"] == "NFC");
    if !nfc && !steps.is_empty() {
        let name = steps[0]["type"].as_str().unwrap_or("?");
        return Err(refused(&format!("the normalizer `{}` of this tokenizer", crate::error::printable(name))));
    }
    let whole = json["model"]["ignore_merges"].as_bool().unwrap_or(false);
    let pre = gguf::name_of(&json["pre_tokenizer"], nfc, whole).ok_or_else(|| {
        let text: String = json["pre_tokenizer"].to_string().chars().take(200).collect();
        refused(&format!("this way to cut a text into words: {}", crate::error::printable(&text)))
    })?;
    k.set_text("tokenizer.ggml.model", "gpt2");
    k.set_text("tokenizer.ggml.pre", pre);
    let mut lines = Vec::new();
    for (left, right) in merges(json)? {
        if left.contains(' ') || right.contains(' ') || vocab.id(&format!("{left}{right}")).is_none() {
            return Err(Error::input(format!("the merge of `{left}` and `{right}` gives no token")));
        }
        lines.push(format!("{left} {right}"));
    }
    k.set_texts("tokenizer.ggml.merges", &lines);
    Ok(())
}

/// Whether spaces become a mark, as in models of SentencePiece.
fn marks_spaces(json: &Value) -> bool {
    let replaces = normalizers(json).iter().any(|s| s["type"] == "Replace" && s["content"] == SPACE);
    replaces || json["normalizer"]["type"] == SENTENCE_PIECE || json["pre_tokenizer"]["type"] == "Metaspace"
}

/// Whether a mark for a space is put before a text, as normalizer or pre-tokenizer.
fn leading_space(json: &Value) -> bool {
    let own = &json["normalizer"];
    if own["type"] == SENTENCE_PIECE {
        return own["add_dummy_prefix"].as_bool().unwrap_or(true);
    }
    let prepends = normalizers(json).iter().any(|s| s["type"] == "Prepend" && s["prepend"] == SPACE);
    let pre = &json["pre_tokenizer"];
    let scheme = pre["prepend_scheme"].as_str();
    let old = scheme.is_none() && pre["add_prefix_space"].as_bool().unwrap_or(true);
    let metaspace = pre["type"] == "Metaspace" && (matches!(scheme, Some("always" | "first")) || old);
    prepends || metaspace
}

/// SentencePiece with merges: llama.cpp joins what has the best score, so the score of a token is the rank of its first merge.
fn pieces(json: &Value, vocab: &Vocab, k: &mut Keys, warnings: &mut Vec<String>) -> Result<()> {
    let own = &json["normalizer"];
    if own["precompiled_charsmap"].is_string() || own["remove_extra_whitespaces"] == true {
        warnings.push("llama.cpp changes no characters and spaces before it merges pieces, this tokenizer does: some texts get other tokens".into());
    }
    let bytes = vocab.kinds.iter().filter(|kind| **kind == BYTE).count();
    if bytes != 256 {
        let what = "llama.cpp stops the process at a character that no piece has, unless there are byte pieces";
        return Err(Error::unsupported(format!("{what}: this tokenizer has {bytes} of 256")).hint(LEAVE_OUT));
    }
    let list = merges(json)?;
    let mut scores: Vec<f32> = (0..vocab.texts.len()).map(|id| -((list.len() + 1 + id) as f32)).collect();
    for (rank, (left, right)) in list.iter().enumerate().rev() {
        if let Some(id) = vocab.id(&format!("{left}{right}")) {
            scores[id as usize] = -(rank as f32);
        }
    }
    for (score, kind) in scores.iter_mut().zip(&vocab.kinds) {
        if *kind != NORMAL {
            *score = 0.0;
        }
    }
    k.set_text("tokenizer.ggml.model", "llama");
    k.set_text("tokenizer.ggml.pre", "default");
    k.set("tokenizer.ggml.add_space_prefix", leading_space(json));
    k.set_list("tokenizer.ggml.scores", &scores);
    Ok(())
}

fn unigram(json: &Value, vocab: &Vocab, k: &mut Keys) -> Result<()> {
    let list = json["model"]["vocab"].as_array().ok_or_else(|| Error::input("`model.vocab` is missing"))?;
    let score = |id: usize| list.get(id).and_then(|e| e[1].as_f64()).unwrap_or(0.0) as f32;
    let scores: Vec<f32> = (0..vocab.texts.len()).map(score).collect();
    k.set_text("tokenizer.ggml.model", "t5");
    k.set_text("tokenizer.ggml.pre", "default");
    k.set("tokenizer.ggml.add_space_prefix", leading_space(json));
    let mut spaces = false;
    for step in normalizers(json) {
        match step["type"].as_str().unwrap_or("") {
            "Precompiled" => {
                let text = step["precompiled_charsmap"].as_str().unwrap_or("");
                k.set_list("tokenizer.ggml.precompiled_charsmap", &charsmap(text)?);
            }
            SENTENCE_PIECE => {
                spaces = step["remove_extra_whitespaces"].as_bool().unwrap_or(true);
                if let Some(text) = step["precompiled_charsmap"].as_str() {
                    k.set_list("tokenizer.ggml.precompiled_charsmap", &charsmap(text)?);
                }
            }
            // Runs of spaces, and those at the ends.
            "Replace" | "Strip" => spaces = true,
            other => {
                let name = crate::error::printable(other);
                return Err(refused(&format!("the normalizer `{name}` of this tokenizer")));
            }
        }
    }
    k.set("tokenizer.ggml.remove_extra_whitespaces", spaces);
    k.set_list("tokenizer.ggml.scores", &scores);
    Ok(())
}

fn charsmap(text: &str) -> Result<Vec<u8>> {
    base64::decode(text.as_bytes()).ok_or_else(|| Error::input("the character map of the normalizer is no base64"))
}

/// Ids of special tokens, and which of them go around a text.
fn special(model: &Model, json: &Value, vocab: &Vocab, k: &mut Keys, warnings: &mut Vec<String>) -> Result<()> {
    let (before, after) = around(&json["post_processor"]);
    if before.len() > 1 || after.len() > 1 {
        warnings.push("the tokenizer puts several tokens around a text; a GGUF file can say one on each side".into());
    }
    let (prefix, suffix) = (before.first().copied(), after.first().copied());
    let mut set = |key: &str, id: Option<u32>| {
        if let Some(id) = id.filter(|id| (*id as usize) < vocab.texts.len()) {
            k.set(&format!("tokenizer.ggml.{key}"), id);
        }
    };
    if let (Some(p), Some(b)) = (prefix, model.bos.filter(|b| Some(*b) != prefix)) {
        warnings.push(format!("texts begin with token {p}, the model calls {b} its start token; the file says {p}"));
    }
    let eos: Vec<u32> = suffix.into_iter().chain(model.eos.iter().copied().filter(|e| Some(*e) != suffix)).collect();
    set("bos_token_id", prefix.or(model.bos));
    for (key, id) in ["eos_token_id", "eot_token_id", "eom_token_id"].into_iter().zip(&eos) {
        set(key, Some(*id));
    }
    if eos.len() > 3 {
        warnings.push(format!("a GGUF file has room for three end tokens, the model has {}", eos.len()));
    }
    let unknown = vocab.kinds.iter().position(|kind| *kind == UNKNOWN).map(|id| id as u32);
    set("unknown_token_id", unknown);
    set("padding_token_id", model.chat_tokens.get("pad_token").and_then(|t| vocab.id(t)));
    k.set("tokenizer.ggml.add_bos_token", prefix.is_some());
    k.set("tokenizer.ggml.add_eos_token", suffix.is_some());
    Ok(())
}

/// Ids before and after each text.
fn around(post: &Value) -> (Vec<u32>, Vec<u32>) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    match post["type"].as_str() {
        Some("Sequence") => {
            for step in post["processors"].as_array().into_iter().flatten() {
                let (b, a) = around(step);
                before.extend(b);
                after.extend(a);
            }
        }
        Some("TemplateProcessing") => {
            let empty = Map::new();
            let known = post["special_tokens"].as_object().unwrap_or(&empty);
            let mut text = false;
            for part in post["single"].as_array().into_iter().flatten() {
                if part.get("Sequence").is_some() {
                    text = true;
                } else if let Some(token) = part["SpecialToken"]["id"].as_str().and_then(|name| known.get(name)) {
                    let ids = token["ids"].as_array().into_iter().flatten().filter_map(Value::as_u64);
                    let side = if text { &mut after } else { &mut before };
                    side.extend(ids.filter_map(|id| u32::try_from(id).ok()));
                }
            }
        }
        Some("BertProcessing" | "RobertaProcessing") => {
            let id = |key: &str| post[key][1].as_u64().and_then(|id| u32::try_from(id).ok());
            before.extend(id("cls"));
            after.extend(id("sep"));
        }
        _ => {}
    }
    (before, after)
}

/// Encodes texts by the model's tokenizer and by the one that the keys say.
fn compare(model: &Model, bytes: &[u8], k: &Keys, warnings: &mut Vec<String>) -> Result<()> {
    let back = gguf::build(&k.metadata()?, model.vocab, &mut Map::new(), &mut Vec::new())?.unwrap_or_default();
    let (one, two) = (HostTokenizer::from_json(bytes)?, HostTokenizer::from_json(&back)?);
    for text in GOLDEN_TEXTS.iter().chain(&MORE_TEXTS).chain([&PARAGRAPH]) {
        if one.encode(text)? != two.encode(text)? {
            let shown: String = text.chars().take(40).collect();
            warnings.push(format!(
                "the tokenizer of the file cuts some texts otherwise than that of the model, e.g. `{}`",
                crate::error::printable(&shown)
            ));
            return Ok(());
        }
    }
    Ok(())
}
