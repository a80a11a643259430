//! Which files of a repository the importer needs. The same choice for the listing of a hub and for a folder of the cache.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Small files that the importer reads if they are there; the other `tokenizer*.json` are added to them.
const SIDE: [&str; 12] = [
    "config.json",
    "generation_config.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "modules.json",
    "quantize_config.json",
];
const POOLING: &str = "1_Pooling/config.json";

/// What to fetch.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice {
    pub side: Vec<String>,
    pub weights: Weights,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Weights {
    /// One file that the importer finds by its name in the folder.
    Found(String),
    /// An index, which names the shards.
    Index(String),
    /// One file that the importer must be pointed at.
    Named(String),
}

/// Whether a name from elsewhere can be joined to a folder on any system without leaving it.
pub fn is_safe(name: &str) -> bool {
    let drive = name.as_bytes().get(1) == Some(&b':');
    !name.is_empty()
        && name.len() <= 1024
        && !drive
        && !name.contains(|c: char| c == '\\' || c.is_control())
        && name.split('/').all(|p| !matches!(p, "" | "." | ".."))
}

/// Checks the names of a listing. A tree of git cannot hold a name that leaves its folder, so a listing with one is a trap and refused whole;
/// a name that git can hold and other systems cannot is only never used.
///
/// # Errors
/// `Input` with the name.
pub fn checked(names: impl IntoIterator<Item = String>) -> Result<BTreeSet<String>> {
    let mut kept = BTreeSet::new();
    for name in names {
        let leaves = name.contains('\0') || name.split(['/', '\\']).any(|p| p == "..") || name.starts_with('/');
        if leaves || name.split('/').any(|p| matches!(p, "" | ".")) {
            return Err(Error::input(format!("the hub lists a file named `{name}`, which would leave its folder"))
                .hint("nothing was fetched; do not trust this repository or hub"));
        }
        if is_safe(&name) {
            kept.insert(name);
        }
    }
    Ok(kept)
}

/// Chooses from the names of a repository: safetensors before torch before a single GGUF, or the file that was asked for.
///
/// # Errors
/// `Input` if what is needed is not there, `Usage` if one of several must be named.
pub fn choose(all: &BTreeSet<String>, repo: &str, file: Option<&str>) -> Result<Choice> {
    let folder = file.and_then(|f| f.rsplit_once('/')).map_or(String::new(), |(dir, _)| format!("{dir}/"));
    let side = |name: &&String| {
        let own = name.strip_prefix(folder.as_str()).unwrap_or(name);
        let known = |n: &str| SIDE.contains(&n) || n == POOLING;
        let tokenizer = |n: &str| !n.contains('/') && n.starts_with("tokenizer") && n.ends_with(".json");
        [own, name].iter().any(|n| known(n) || tokenizer(n))
    };
    let side: Vec<String> = all.iter().filter(side).cloned().collect();
    let needs_config = |weights| match all.contains("config.json") {
        true => Ok(weights),
        false => Err(Error::input(format!("`{repo}` has weights but no `config.json`"))
            .hint("give a repository of a whole model, not of an adapter or a part")),
    };
    if let Some(f) = file {
        if !all.contains(f) {
            let near = weights_in(all);
            return Err(Error::usage(format!("`{repo}` has no file `{f}`")).hint(match near.is_empty() {
                true => "it has no files of weights at all".to_string(),
                false => format!("it has {near}"),
            }));
        }
        return Ok(Choice { side, weights: Weights::Named(f.into()) });
    }
    type Form = fn(String) -> Weights;
    for (name, form) in [
        ("model.safetensors", Weights::Found as Form),
        ("model.safetensors.index.json", Weights::Index),
        ("pytorch_model.bin", Weights::Found),
        ("pytorch_model.bin.index.json", Weights::Index),
    ] {
        if all.contains(name) {
            return Ok(Choice { side, weights: needs_config(form(name.into()))? });
        }
    }
    let gguf: Vec<&String> = all.iter().filter(|n| n.ends_with(".gguf")).collect();
    match gguf[..] {
        [one] => Ok(Choice { side, weights: Weights::Named(one.clone()) }),
        [] => Err(Error::input(format!("`{repo}` has no weights in a form that is read"))
            .hint("safetensors, pytorch_model.bin and .gguf are; look for another repository of the model")),
        _ => Err(Error::usage(format!("`{repo}` has {} GGUF files: {}", gguf.len(), weights_in(all)))
            .hint(format!("name one of them: `{repo}:{}`", gguf[0]))),
    }
}

/// The files that `:file` can name, for messages.
fn weights_in(all: &BTreeSet<String>) -> String {
    const SHOWN: usize = 30;
    let mut names = all.iter().filter(|n| [".gguf", ".safetensors", ".bin"].iter().any(|e| n.ends_with(e)));
    let mut list: Vec<String> = names.by_ref().take(SHOWN).map(|n| format!("`{n}`")).collect();
    match names.count() {
        0 => {}
        more => list.push(format!("and {more} more")),
    }
    list.join(", ")
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files that an index names, all of which must be in the repository.
///
/// # Errors
/// `Input` for a damaged index, a name with a folder in it, or a shard that is not there.
pub fn shards(index: &str, data: &[u8], all: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let wrong = |what: String| Error::input(format!("`{index}` {what}"));
    let parsed: Index = serde_json::from_slice(data).map_err(|e| wrong(format!("is no valid index: {e}")))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(wrong("names no files".into()));
    }
    match names.iter().find(|n| n.contains('/') || !is_safe(n) || !all.contains(*n)) {
        Some(n) => Err(wrong(format!("names `{n}`, which is no file beside it"))),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    fn weights(names: &[&str]) -> Weights {
        choose(&set(names), "o/n", None).unwrap().weights
    }

    #[test]
    fn safetensors_come_before_torch_before_gguf() {
        let all = [
            "config.json",
            "model.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "x.gguf",
        ];
        assert_eq!(weights(&all), Weights::Found("model.safetensors".into()));
        assert_eq!(weights(&[all[0], all[2], all[3]]), Weights::Index("model.safetensors.index.json".into()));
        assert_eq!(weights(&[all[0], all[3], all[4]]), Weights::Found("pytorch_model.bin".into()));
        assert_eq!(weights(&[all[0], all[4], all[5]]), Weights::Index("pytorch_model.bin.index.json".into()));
        assert_eq!(weights(&["x.gguf", "README.md"]), Weights::Named("x.gguf".into()));
    }

    #[test]
    fn only_what_the_importer_reads_is_fetched() {
        let all = set(&[
            "README.md",
            "config.json",
            "model.py",
            "model.safetensors",
            "onnx/config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "x/tokenizer.json",
            "1_Pooling/config.json",
            "flax_model.msgpack",
            "tokenizer.py",
        ]);
        let side = choose(&all, "o/n", None).unwrap().side;
        assert_eq!(side, ["1_Pooling/config.json", "config.json", "tokenizer.json", "tokenizer_config.json"]);
    }

    #[test]
    fn one_of_several_gguf_must_be_named() {
        let all = set(&["a/q2.gguf", "q8.gguf", "config.json", "a/config.json"]);
        let e = choose(&all, "o/n", None).unwrap_err();
        assert!(e.to_string().contains("`a/q2.gguf`, `q8.gguf`"), "{e}");
        assert_eq!(e.next_step(), Some("name one of them: `o/n:a/q2.gguf`"));
        let choice = choose(&all, "o/n", Some("a/q2.gguf")).unwrap();
        assert_eq!((choice.side.len(), choice.weights), (2, Weights::Named("a/q2.gguf".into())));
        assert!(choose(&all, "o/n", Some("q4.gguf")).unwrap_err().next_step().unwrap().contains("q8.gguf"));
    }

    #[test]
    fn what_is_missing_is_said_before_anything_large_is_fetched() {
        assert!(choose(&set(&["model.safetensors"]), "o/n", None).unwrap_err().to_string().contains("config.json"));
        assert!(choose(&set(&["config.json", "x.onnx"]), "o/n", None).unwrap_err().to_string().contains("no weights"));
    }

    #[test]
    fn names_that_leave_the_folder_refuse_the_listing() {
        for bad in ["../x", "a/../x", "/x", "a//b", "", ".", "a/", "a\0b", "..\\x", "a\\..\\x"] {
            assert!(checked([bad.to_string()]).is_err(), "{bad:?}");
        }
        // Legal in git, not on every system: left alone.
        assert_eq!(checked(["a\\b", "C:x", "a\nb", "ok"].map(String::from)).unwrap(), set(&["ok"]));
    }

    #[test]
    fn an_index_names_only_its_neighbours() {
        let all = set(&["a.safetensors", "d/a.safetensors"]);
        let read = |text: &str| shards("i", text.as_bytes(), &all);
        assert_eq!(
            read(r#"{"weight_map":{"x":"a.safetensors","y":"a.safetensors"}}"#).unwrap(),
            set(&["a.safetensors"])
        );
        for bad in [
            r#"{"weight_map":{"x":"d/a.safetensors"}}"#,
            r#"{"weight_map":{"x":"../a"}}"#,
            r#"{"weight_map":{"x":"b"}}"#,
            r#"{"weight_map":{}}"#,
            r#"{"weight_map":{"x":1}}"#,
            "{}",
            "[",
            "",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
