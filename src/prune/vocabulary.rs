//! Which tokens stay, and which tensors have a row for each token.

use crate::error::{Error, Result};
use crate::fsio::read_capped;
use crate::model::{Matrix, Model, Norm, RowOrder, Source, TensorRef};
use crate::tokenizer::host::HostTokenizer;
use crate::tokenizer::trim::{count, trim, Choice, Keep, Trimmed};
use crate::transform::prune::Stack;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

/// A corpus is cut at line ends into pieces of about this many bytes.
const PIECE: usize = 1 << 14;
const MAX_CORPUS: u64 = 256 << 20;

/// What decides which tokens stay.
pub enum Wanted {
    /// The most useful, this many.
    Size(usize),
    /// Those of a corpus, at most this many.
    Corpus { texts: Vec<String>, at_most: Option<usize> },
}

/// What a smaller vocabulary costs in tokens.
#[derive(Debug, Clone, Serialize)]
pub struct Fertility {
    pub texts: usize,
    pub tokens_before: usize,
    pub tokens_after: usize,
}

/// The texts of a corpus: pieces of a text, or every string of a `.jsonl` file, whose lines are objects.
///
/// # Errors
/// `Io` if it cannot be read, `Input` for a line that is no JSON object and for a file without text.
pub fn corpus(path: &Path) -> Result<Vec<String>> {
    let data = read_capped(path, MAX_CORPUS)?;
    let text = String::from_utf8_lossy(&data);
    let texts = if path.extension().is_some_and(|e| e == "jsonl") {
        strings(&text).map_err(|e| e.at_file(path))?
    } else {
        pieces(&text)
    };
    if texts.is_empty() {
        return Err(Error::input("there is no text in this file").at_file(path));
    }
    Ok(texts)
}

fn strings(text: &str) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line)
            .map_err(|e| Error::input(format!("line {}: {e}", i + 1)).hint("each line is an object with texts"))?;
        out.extend(object.into_iter().filter_map(|(_, v)| v.as_str().map(str::to_string)));
    }
    Ok(out)
}

fn pieces(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for line in text.split_inclusive('\n') {
        match out.last_mut().filter(|p| p.len() + line.len() <= PIECE) {
            Some(piece) => piece.push_str(line),
            None => out.push(line.to_string()),
        }
    }
    out
}

/// Trims the model's tokenizer. `named` are the ids of its configuration, which always stay.
///
/// # Errors
/// `Usage` without a tokenizer or for a size that is too small or none, `Input` if tokenizer and model do not belong together, `Unsupported` for
/// speech models, whose tables of ids are many.
pub fn choose(model: &Model, wanted: &Wanted, named: &[u32]) -> Result<Trimmed> {
    if model.audio.is_some() {
        return Err(Error::unsupported("the vocabulary of a speech model cannot be trimmed"));
    }
    let json = tokenizer_json(model)?;
    let at = |e: Error| e.at_file(&model.files[0].path.with_file_name("tokenizer.json"));
    let trimmed = match wanted {
        Wanted::Size(n) => trim(json, &Keep { choice: Choice::Size(*n), always: named }),
        Wanted::Corpus { texts, at_most } => {
            let counts = count(json, texts.iter().map(String::as_str)).map_err(at)?;
            trim(json, &Keep { choice: Choice::Used { counts: &counts, at_most: *at_most }, always: named })
        }
    };
    let trimmed = trimmed.map_err(at)?;
    match trimmed.kept.last() {
        Some(id) if *id as usize >= model.vocab => {
            let e = Error::input(format!("tokenizer.json has the id {id}, the model has {} entries", model.vocab));
            Err(at(e).hint("the tokenizer belongs to another model"))
        }
        None => Err(at(Error::input("the tokenizer has no tokens"))),
        _ => Ok(trimmed),
    }
}

fn tokenizer_json(model: &Model) -> Result<&[u8]> {
    model.tokenizer_json.as_deref().ok_or_else(|| {
        Error::usage("the checkpoint has no `tokenizer.json`, so its vocabulary cannot be trimmed")
            .hint("leave `--vocab` out")
    })
}

/// Tokens of some texts with the old and the new tokenizer.
///
/// # Errors
/// `Input` if the reference library does not accept tokenizer or text.
pub fn fertility(model: &Model, trimmed: &Trimmed, texts: &[String]) -> Result<Fertility> {
    let (old, new) =
        (HostTokenizer::from_json(tokenizer_json(model)?)?, HostTokenizer::from_json(&trimmed.tokenizer_json)?);
    let (mut tokens_before, mut tokens_after) = (0, 0);
    for text in texts {
        tokens_before += old.encode(text)?.len();
        tokens_after += new.encode(text)?.len();
    }
    Ok(Fertility { texts: texts.len(), tokens_before, tokens_after })
}

/// Tensors outside of the layers whose rows are no tokens, however many they are.
fn with_other_rows(model: &Model) -> BTreeSet<(usize, &str)> {
    let (head, transform) = (model.head.as_ref(), model.head_transform.as_ref());
    let mut refs: Vec<&TensorRef> = head.and_then(|h| h.input_factor.as_ref()).into_iter().collect();
    let norms: [Option<&Norm>; 5] = [
        model.final_norm.as_ref(),
        model.embedding_norm.as_ref(),
        head.and_then(|h| h.input_norm.as_ref()),
        transform.map(|t| &t.norm),
        transform.and_then(|t| t.dense.input_norm.as_ref()),
    ];
    for n in norms.into_iter().flatten() {
        refs.extend(n.weight.iter().chain(&n.bias));
    }
    for l in transform.map(|t| &t.dense).into_iter().chain(&model.pooler) {
        refs.push(&l.weight.tensor);
        refs.extend(l.bias.as_ref().map(|b| &b.tensor));
    }
    let tables = [model.positions.as_ref().map(|p| &p.table), model.token_types.as_ref()];
    refs.extend(tables.into_iter().flatten().map(|t| &t.tensor));
    refs.into_iter().map(|r| (r.file, r.name.as_str())).collect()
}

/// The tensors that have a row for each token: embedding, head, their scales, biases of the head.
///
/// # Errors
/// `Unsupported` for matrices whose rows cannot be taken apart.
pub fn tensors(model: &Model, stack: &Stack) -> Result<BTreeSet<(usize, String)>> {
    let own = with_other_rows(model);
    let mut out = BTreeSet::new();
    for (file, f) in model.files.iter().enumerate() {
        for name in f.names().filter(|n| stack.layer_of(n).is_none() && !own.contains(&(file, *n))) {
            let rows = f.get(name).is_some_and(|v| v.shape.first() == Some(&model.vocab));
            // What reads images beside a language model has sizes of its own.
            if rows && !["vision", "projector"].iter().any(|w| name.contains(w)) {
                out.insert((file, name.to_string()));
            }
        }
    }
    for m in [Some(&model.embedding), model.head.as_ref().map(|h| &h.weight)].into_iter().flatten() {
        rowwise(model, m, &out)?;
    }
    Ok(out)
}

/// Refuses a matrix unless each of its rows can be taken without the others.
fn rowwise(model: &Model, m: &Matrix, rows: &BTreeSet<(usize, String)>) -> Result<()> {
    let refuse = |what: &str, name: &str| {
        let e = Error::unsupported(format!("the rows of this tensor cannot be taken apart: {what}"));
        Err(e
            .at_tensor(name)
            .at_file(model.file_of(&m.tensor))
            .hint("leave `--vocab` out, or take the checkpoint before packing"))
    };
    let name = &m.tensor.name;
    if matches!(m.source, Source::PackedTernary { .. }) {
        return refuse("four rows share a byte", name);
    }
    if matches!(m.source, Source::Master(_)) {
        return refuse("its scale is a mean over all rows", name);
    }
    if m.transposed || m.order != RowOrder::Stored || !rows.contains(&(m.tensor.file, name.clone())) {
        return refuse("it is not stored by tokens", name);
    }
    let module = name.strip_suffix("weight").unwrap_or(name);
    for (file, f) in model.files.iter().enumerate() {
        for other in f.names().filter(|n| n.starts_with(module) && !rows.contains(&(file, n.to_string()))) {
            let (elements, last) =
                f.get(other).map_or((0, 0), |v| (v.elements(), v.shape.last().copied().unwrap_or(1)));
            if elements != 1 && !(elements == m.cols && last == m.cols) {
                return refuse("what lies beside it has other rows", other);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_corpus() {
        assert_eq!(pieces("a\nb\n"), ["a\nb\n"]);
        let long = format!("{}\n{}", "x".repeat(PIECE), "y".repeat(PIECE));
        assert_eq!(pieces(&long).concat(), long);
        assert_eq!(pieces(&long).len(), 2);
        assert_eq!(strings("{\"a\": \"b\", \"n\": 1}\n\n{\"c\": \"d\"}").unwrap(), ["b", "d"]);
        assert!(strings("no").unwrap_err().message().starts_with("line 1"));
    }
}
