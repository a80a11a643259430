//! The folder that all clients of the hub share: contents under their digest, snapshots of links to them, names of revisions.
//!
//! ```text
//! models--org--name/blobs/DIGEST              a content, complete
//! models--org--name/blobs/DIGEST.incomplete   its start
//! models--org--name/snapshots/COMMIT/PATH     link to ../../blobs/DIGEST
//! models--org--name/refs/REVISION             the commit
//! .locks/models--org--name/DIGEST.lock        held while a content is written
//! ```

use super::digest::Digest;
use super::id::Id;
use crate::error::{Error, Result};
use crate::fsio::read_capped;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Names in one snapshot, more than any model has.
const MAX_NAMES: usize = 100_000;
const MAX_DEPTH: usize = 16;

/// The part of the cache that belongs to one repository.
pub struct Repo {
    dir: PathBuf,
    locks: PathBuf,
}

/// Held while a content is looked at or written; given back when dropped. `None` inside if the folder allows no locks (it is read-only, say).
pub struct Lock(Option<File>);

/// 40 hex digits, or 64 in repositories with SHA-256 names.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl Repo {
    pub fn new(cache: &Path, id: &Id) -> Repo {
        let name = format!("models--{}", id.repo().replace('/', "--"));
        Repo { locks: cache.join(".locks").join(&name), dir: cache.join(name) }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.hex())
    }

    pub fn partial(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(format!("{}.incomplete", digest.hex()))
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.dir.join("snapshots").join(commit)
    }

    /// Makes the folders that a download writes to.
    pub fn create(&self) -> Result<()> {
        let dirs = [self.dir.join("blobs"), self.dir.join("snapshots"), self.dir.join("refs"), self.locks.clone()];
        dirs.iter().try_for_each(|d| {
            fs::create_dir_all(d).map_err(|e| {
                Error::io("create the folder for downloads", d, &e)
                    .hint("set HF_HOME or HF_HUB_CACHE to another folder")
            })
        })
    }

    /// Waits for any other process or thread that works on this content.
    pub fn lock(&self, digest: &Digest) -> Lock {
        let path = self.locks.join(format!("{}.lock", digest.hex()));
        let open = || File::options().read(true).write(true).create(true).truncate(false).open(&path).ok();
        // A client may remove the file when it lets go; a lock on a removed file holds nobody back, so look again.
        for _ in 0..100 {
            let Some(file) = open() else { return Lock(None) };
            if !hold(&file) {
                return Lock(None);
            }
            if is_at(&file, &path) {
                return Lock(Some(file));
            }
        }
        Lock(None)
    }

    /// The commit that a revision stood for when it was last seen; a commit stands for itself.
    pub fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.into());
        }
        let text = read_capped(&self.dir.join("refs").join(revision), 256).ok()?;
        let commit = String::from_utf8(text).ok()?.trim().to_string();
        is_commit(&commit).then_some(commit)
    }

    /// Remembers the commit of a revision.
    pub fn write_ref(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.dir.join("refs").join(revision);
        let write = || -> io::Result<()> {
            let dir = path.parent().unwrap_or(&self.dir);
            fs::create_dir_all(dir)?;
            // Not beside the target: a file there that a killed run left behind would be a revision to other clients.
            let mut temp = tempfile::NamedTempFile::new_in(&self.locks)?;
            temp.write_all(commit.as_bytes())?;
            temp.as_file().sync_all()?;
            temp.persist(&path)?;
            sync(dir)
        };
        write().map_err(|e| Error::io("note the commit", &path, &e))
    }

    /// Puts a name of a commit in place: a relative link to the content.
    pub fn link(&self, commit: &str, name: &str, digest: &Digest) -> Result<()> {
        let path = self.snapshot(commit).join(name);
        self.put(commit, name, digest, &path).map_err(|e| Error::io("put the file into the snapshot", &path, &e))
    }

    fn put(&self, commit: &str, name: &str, digest: &Digest, path: &Path) -> io::Result<()> {
        let (mut dir, mut target) = (self.snapshot(commit), PathBuf::from("../.."));
        real_dir(&dir)?;
        for part in name.rsplit_once('/').iter().flat_map(|(folders, _)| folders.split('/')) {
            dir.push(part);
            target.push("..");
            real_dir(&dir)?;
        }
        target.push("blobs");
        target.push(digest.hex());
        if fs::read_link(path).is_ok_and(|t| t == target) {
            return Ok(());
        }
        if fs::symlink_metadata(path).is_ok() {
            fs::remove_file(path)?;
        }
        link(&target, &self.blob(digest), path)?;
        sync(&dir)
    }

    /// The names in a snapshot that lead to a file, and what each must contain as far as its link tells.
    pub fn names(&self, commit: &str) -> Vec<String> {
        let mut names = Vec::new();
        walk(&self.snapshot(commit), "", 0, &mut names);
        names
    }

    /// The digest that the name of the content behind a link promises; a copy in the place of a link promises none.
    pub fn digest_of(&self, commit: &str, name: &str) -> Option<Digest> {
        let target = fs::read_link(self.snapshot(commit).join(name)).ok()?;
        Digest::parse(target.file_name()?.to_str()?)
    }
}

impl Lock {
    /// Whether this very file was checked before. The lock file remembers its length and time of change; a client that empties the lock
    /// file only causes a second check.
    pub fn was_checked(&mut self, path: &Path) -> bool {
        let Some(file) = &mut self.0 else { return false };
        let mut text = String::new();
        let read = file.rewind().and_then(|()| file.take(256).read_to_string(&mut text));
        read.is_ok() && mark(path).is_some_and(|m| m == text)
    }

    /// Remembers that the file was checked. Failure costs a second check, no more.
    pub fn note_checked(&mut self, path: &Path) {
        if let (Some(file), Some(mark)) = (&mut self.0, mark(path)) {
            let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(mark.as_bytes()));
        }
    }
}

fn mark(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    let changed = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("checked {} bytes of {}\n", meta.len(), changed.as_nanos()))
}

/// A folder that is none by way of a link: a link there could lead out of the cache.
fn real_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    match fs::symlink_metadata(path)?.is_dir() {
        true => Ok(()),
        false => Err(io::Error::other(format!("`{}` is a link, a folder is expected", path.display()))),
    }
}

fn walk(dir: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        // A name that is no text is none that we look for.
        let Some(name) = name.to_str().map(|n| format!("{prefix}{n}")) else { continue };
        if names.len() >= MAX_NAMES {
            return;
        }
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            if depth < MAX_DEPTH {
                walk(&path, &format!("{name}/"), depth + 1, names);
            }
        } else if path.is_file() {
            names.push(name);
        }
    }
}

/// Makes a rename or a new name survive a power cut.
pub fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(unix)]
fn hold(file: &File) -> bool {
    rustix::io::retry_on_intr(|| rustix::fs::flock(file, rustix::fs::FlockOperation::LockExclusive)).is_ok()
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().ok().zip(fs::metadata(path).ok()).is_some_and(|(a, b)| same(a, b))
}

#[cfg(unix)]
fn link(target: &Path, _: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn hold(_: &File) -> bool {
    true
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

/// Where links need a privilege the other clients copy, too.
#[cfg(not(unix))]
fn link(_: &Path, blob: &Path, path: &Path) -> io::Result<()> {
    fs::copy(blob, path).map(drop)
}
