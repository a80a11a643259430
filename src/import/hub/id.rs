//! Names of models on a hub: `org/name`, `org/name@revision`, `org/name@revision:file.gguf`.

use super::select::is_safe;
use crate::error::{Error, Result};
use std::fmt;
use std::path::Path;

/// A checked name. No part of it can lead out of a folder or of the path of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id {
    repo: String,
    revision: String,
    file: Option<String>,
}

/// Ends of names that are files on this machine: a mistyped file name must not be asked for on the network.
const FILE_ENDS: [&str; 14] = [
    ".bitnet",
    ".safetensors",
    ".gguf",
    ".bin",
    ".pt",
    ".pth",
    ".onnx",
    ".json",
    ".jsonl",
    ".toml",
    ".txt",
    ".zip",
    ".tar",
    ".gz",
];

const FORMS: &str = "names of models look like `org/name`, `org/name@revision` or `org/name@revision:file.gguf`";

impl Id {
    /// Parses `[org/]name[@revision][:file]`. The revision is a branch, a tag or a commit, and may contain `/`; it is `main` if absent.
    ///
    /// # Errors
    /// `Usage` for a name that no hub gives out.
    pub fn parse(text: &str) -> Result<Id> {
        let wrong = |what: String| Error::usage(format!("`{text}` is no name of a model: {what}")).hint(FORMS);
        // Neither names nor git's revisions contain a colon.
        let (name, file) = match text.split_once(':') {
            Some((name, file)) => (name, Some(file)),
            None => (text, None),
        };
        let (repo, revision) = name.split_once('@').unwrap_or((name, "main"));
        if repo.split('/').count() > 2 {
            return Err(wrong("it has more than two parts".into()));
        }
        if let Some(part) = repo.split('/').find(|p| !is_name(p)) {
            return Err(wrong(format!("`{part}` is empty, too long or has characters that names do not have")));
        }
        if !is_revision(revision) {
            return Err(wrong(format!("`{revision}` cannot be a revision")));
        }
        if let Some(file) = file {
            if !is_safe(file) || ![".gguf", ".safetensors", ".bin"].iter().any(|e| file.ends_with(e)) {
                return Err(wrong(format!("`{file}` is no file of weights (.gguf, .safetensors, .bin)")));
            }
        }
        Ok(Id { repo: repo.into(), revision: revision.into(), file: file.map(str::to_string) })
    }

    /// `org/name`, or `name` alone for old models without an owner.
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// The last part of the repository's name.
    pub fn name(&self) -> &str {
        self.repo.rsplit('/').next().unwrap_or(&self.repo)
    }

    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The file of weights that was named, if one was.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if self.revision != "main" {
            write!(f, "@{}", self.revision)?;
        }
        self.file.iter().try_for_each(|file| write!(f, ":{file}"))
    }
}

/// The name of a model, if the text cannot be meant as a path: it has at most two parts, does not start with `.`, `~` or `/`, and does not end
/// like a file (unless a revision or a file of the repository is given). Whether such a path exists is for the caller to ask first.
pub fn is_hub_id(path: &Path) -> Option<Id> {
    let text = path.to_str()?;
    let like_a_file = !text.contains(['@', ':']) && FILE_ENDS.iter().any(|e| text.ends_with(e));
    if like_a_file {
        return None;
    }
    Id::parse(text).ok()
}

/// The rule of the hub for one part of a name. `--` is forbidden, which makes the folder names of the cache unambiguous.
fn is_name(part: &str) -> bool {
    (1..=96).contains(&part.len())
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !part.starts_with(['-', '.'])
        && !part.ends_with(['-', '.'])
        && !["--", ".."].iter().any(|x| part.contains(x))
        && !part.ends_with(".git")
}

/// What git allows as a name of a branch or tag. It becomes a path below `refs/` of the cache.
fn is_revision(rev: &str) -> bool {
    (1..=255).contains(&rev.len())
        && !rev.starts_with('-')
        && !rev.ends_with('.')
        && !["..", "@{"].iter().any(|x| rev.contains(x))
        && !rev.contains(|c: char| c.is_control() || " ~^:?*[\\".contains(c))
        && rev.split('/').all(|p| !p.is_empty() && !p.starts_with('.') && !p.ends_with(".lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_name() {
        let id = Id::parse("org/na-me.1_x").unwrap();
        assert_eq!((id.repo(), id.name(), id.revision(), id.file()), ("org/na-me.1_x", "na-me.1_x", "main", None));
        let id = Id::parse("gpt2@refs/pr/1").unwrap();
        assert_eq!((id.repo(), id.name(), id.revision()), ("gpt2", "gpt2", "refs/pr/1"));
        let id = Id::parse("a/b@v1:sub/x.gguf").unwrap();
        assert_eq!(
            (id.revision(), id.file(), id.to_string().as_str()),
            ("v1", Some("sub/x.gguf"), "a/b@v1:sub/x.gguf")
        );
        assert_eq!(Id::parse("a/b:x.gguf").unwrap().revision(), "main");
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "a/b/c",
            "../b",
            "a/..",
            ".",
            "a b/c",
            "a/b?x",
            "a/b#c",
            "a/b%2e",
            "-a/b",
            "a--b/c",
            "a/b.git",
            "a/b@",
            "a/b@../x",
            "a/b@x/../y",
            "a/b@/x",
            "a/b@x//y",
            "a/b@.x",
            "a/b@x.lock",
            "a/b@x y",
            "a/b@x\\y",
            "a/b@@{1}",
            "a/b:",
            "a/b:../x.gguf",
            "a/b:/x.gguf",
            "a/b:x.py",
            "a/b:x\\y.gguf",
            "ä/b",
            "a\0/b",
            "a/b@x\0",
            "a/b:C:x.gguf",
        ] {
            assert!(Id::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Id::parse(&format!("a/{}", "x".repeat(97))).is_err());
    }

    #[test]
    fn paths_are_no_names() {
        for path in ["./a", "../a/b", "/a/b", "~/a", "model.bitnet", "dir/model.safetensors", "a/b/c", "a/b/"] {
            assert_eq!(is_hub_id(Path::new(path)), None, "{path}");
        }
        for name in ["gpt2", "microsoft/bitnet-b1.58-2B-4T", "a/b.gguf@main", "a/b:x.gguf"] {
            assert!(is_hub_id(Path::new(name)).is_some(), "{name}");
        }
    }
}
