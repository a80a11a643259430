//! Every kind of source as a `tokenizer.json`.
//!
//! | source | is |
//! |---|---|
//! | `tokenizer.json` | itself |
//! | `tokenizer.model`, `spiece.model` | SentencePiece, or tiktoken's ranks |
//! | `*.tiktoken` | tiktoken's ranks, with `pattern.txt` |
//! | `vocab.json` and `merges.txt` | byte-level BPE |
//! | `vocab.txt` | WordPiece |
//! | `*.gguf` | the keys of its header |
//! | a packed model | the copy in it, or the compiled form |

pub mod gguf;
mod joins;
mod plain;
mod sentencepiece;
mod settings;
mod spelled;
mod tiktoken;

use crate::error::{Error, Result};
use crate::format::packed::{self, Kind, Packed};
use crate::format::File;
use crate::fsio::read_capped;
use crate::limits::MAX_TOKENIZER_BYTES;
use serde_json::{Map, Value};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest file that only holds a compiled tokenizer.
const MAX_BLOB_BYTES: u64 = 64 << 20;

/// A tokenizer and where it was found.
#[derive(Debug)]
pub struct Loaded {
    /// As `tokenizer.json`, unless there is only a compiled form.
    pub json: Option<Vec<u8>>,
    /// The compiled form, if it lies there.
    pub compiled: Option<Vec<u8>>,
    /// The files with the vocabulary; what the settings beside them say is in `json` already.
    pub files: Vec<PathBuf>,
    /// The files hold nothing else.
    pub whole: bool,
    /// What a person should know about the reading.
    pub warnings: Vec<String>,
}

/// Names in a folder, the first that is there is taken. Those with two files need both.
const NAMES: [&[&str]; 5] =
    [&["tokenizer.json"], &["tokenizer.model"], &["spiece.model"], &["vocab.json", "merges.txt"], &["vocab.txt"]];

/// Loads the tokenizer of a file or folder.
///
/// # Errors
/// `Io` if nothing can be read there, `Input` for a damaged file, `Unsupported` for one that holds no tokenizer or one of a kind that is not known.
pub fn load(path: &Path) -> Result<Loaded> {
    let found = if path.is_dir() { in_folder(path)? } else { Some(vec![path.to_path_buf()]) };
    let files = found.ok_or_else(|| {
        let names: Vec<String> = NAMES.iter().map(|names| format!("`{}`", names.join("` with `"))).collect();
        let hint = format!("looked for {}, `*.tiktoken`, `*.gguf` and `model.bin`", names.join(", "));
        Error::unsupported("the folder has no tokenizer").at_file(path).hint(hint)
    })?;
    from_files(files)
}

/// The tokenizer of a checkpoint folder in files beside its weights; None if it has none.
///
/// # Errors
/// As [`load`].
pub fn of_checkpoint(dir: &Path) -> Result<Option<Loaded>> {
    named(dir).map(from_files).transpose()
}

fn named(dir: &Path) -> Option<Vec<PathBuf>> {
    let paths = |names: &&[&str]| names.iter().map(|name| dir.join(name)).collect::<Vec<_>>();
    NAMES.iter().map(paths).find(|paths| paths.iter().all(|path| path.is_file()))
}

fn in_folder(dir: &Path) -> Result<Option<Vec<PathBuf>>> {
    let model = dir.join("model.bin");
    if let Some(files) = model.is_file().then(|| vec![model]).or_else(|| named(dir)) {
        return Ok(Some(files));
    }
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io("read the folder", dir, &e))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    let with = |end: &str| paths.iter().find(|path| path.extension().is_some_and(|e| e == end)).cloned();
    Ok(with("tiktoken").or_else(|| with("gguf")).map(|path| vec![path]))
}

fn from_files(files: Vec<PathBuf>) -> Result<Loaded> {
    let path = files[0].clone();
    let mut out = Loaded { json: None, compiled: None, files, whole: false, warnings: Vec::new() };
    let here = |e: Error| e.at_file(&path);
    let start = start(&path)?;
    if start.starts_with(&packed::MAGIC) {
        let packed = Packed::open(&path)?;
        out.json = packed.section(Kind::TokenizerJson).map(<[u8]>::to_vec);
        out.compiled = packed.section(Kind::Tokenizer).map(<[u8]>::to_vec);
        if out.json.is_none() && out.compiled.is_none() {
            return Err(here(Error::unsupported("the model has no tokenizer, only token ids can be given")));
        }
        return Ok(out);
    }
    if start.starts_with(&super::MAGIC) {
        out.compiled = Some(read_capped(&path, MAX_BLOB_BYTES)?);
        return Ok(out);
    }
    if start.starts_with(b"GGUF") {
        out.json = Some(of_gguf(&path, &mut out.warnings)?);
        return Ok(out);
    }
    out.whole = true;
    let data = read_capped(&path, MAX_TOKENIZER_BYTES)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let json = match name {
        "vocab.json" | "merges.txt" => {
            let (vocab, merges) = (dir.join("vocab.json"), dir.join("merges.txt"));
            let read = |path: &Path| read_capped(path, MAX_TOKENIZER_BYTES);
            plain::bpe(&read(&vocab)?, &read(&merges)?, dir)?
        }
        _ if start.first() == Some(&b'{') || name.ends_with(".json") => {
            out.json = Some(data);
            return Ok(out);
        }
        "vocab.txt" => plain::word_piece(&data, dir).map_err(here)?,
        // A SentencePiece model begins with its first piece: field 1, a message.
        _ if start.first() == Some(&0x0a) => sentencepiece::read(&data, dir).map_err(here)?,
        _ if name.ends_with(".model") || name.ends_with(".tiktoken") => tiktoken::read(&data, dir).map_err(here)?,
        _ => {
            let hint = "known are tokenizer.json, SentencePiece models, ranks of tiktoken (*.tiktoken, *.model), \
                        vocab.json with merges.txt, vocab.txt, GGUF and packed models";
            return Err(here(Error::unsupported("this is no tokenizer of a known kind").hint(hint)));
        }
    };
    let json = serde_json::to_vec(&json).map_err(|e| Error::input(format!("the tokenizer cannot be written: {e}")))?;
    out.json = Some(json);
    Ok(out)
}

/// The first bytes of a file.
fn start(path: &Path) -> Result<Vec<u8>> {
    let failed = |e: &std::io::Error| Error::io("read", path, e);
    let mut out = Vec::new();
    std::fs::File::open(path).map_err(|e| failed(&e))?.take(8).read_to_end(&mut out).map_err(|e| failed(&e))?;
    Ok(out)
}

fn of_gguf(path: &Path, warnings: &mut Vec<String>) -> Result<Vec<u8>> {
    let file = File::open(path)?;
    let meta = file.metadata().ok_or_else(|| Error::input("this is no GGUF file").at_file(path))?;
    let built = gguf::build(meta, usize::MAX, &mut Map::<String, Value>::new(), warnings);
    let json = built.map_err(|e| e.at_file(path))?;
    json.ok_or_else(|| Error::unsupported("the file has no tokenizer").at_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, data: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, data).unwrap();
        load(&path).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_tokenizer_is_named() {
        assert!(refused("notes.txt", b"hello").contains("no tokenizer of a known kind"));
        assert!(refused("empty", b"").contains("no tokenizer of a known kind"));
        assert!(refused("tokenizer.model", b"").contains("0x00"));
        assert!(refused("x.gguf", b"GGUF\x03").contains("x.gguf"));
        assert!(refused("model.bin", &packed::MAGIC).contains("model.bin"));
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("the folder has no tokenizer"));
        assert!(load(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn files_of_a_folder_by_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, data: &[u8]| std::fs::write(dir.path().join(name), data).unwrap();
        put("vocab.txt", b"[UNK]\na\n");
        assert_eq!(load(dir.path()).unwrap().files, [dir.path().join("vocab.txt")]);
        put("merges.txt", b"");
        assert_eq!(load(dir.path()).unwrap().files, [dir.path().join("vocab.txt")], "half of a pair is none");
        put("tokenizer.json", b"{}");
        let found = of_checkpoint(dir.path()).unwrap().unwrap();
        assert_eq!((found.json.as_deref(), found.files.len()), (Some(&b"{}"[..]), 1));
    }
}
