//! A download that is kept until it is whole: `FILE.download`, and beside it `FILE.download.json`, which says where it comes from and how much
//! of it is surely on the disk. What is behind that is thrown away after a power cut.

use super::route::MAX_STEPS;
use crate::delta::store::{beside, remove, write_whole, Std};
use crate::error::{Error, Kind, Result};
use crate::fsio::read_capped;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// So much may be lost by a power cut, in bytes and in time.
const SYNC_BYTES: u64 = 4 << 20;
const SYNC_TIME: Duration = Duration::from_secs(2);
const MAX_NOTE: u64 = 16 << 10;
const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    format: u32,
    /// Without a query: that changes when an address is signed anew.
    url: String,
    /// A strong one.
    etag: Option<String>,
    /// Of the whole patch, by its header.
    length: Option<u64>,
    /// Bytes that were on the disk when this was written.
    verified: u64,
}

pub struct Partial {
    path: PathBuf,
    side: PathBuf,
    note: Note,
    /// Open once something is read or written.
    file: Option<File>,
    have: u64,
    synced_at: Instant,
}

impl Partial {
    /// The download number `n` (0, 1, …) of this model, from this address. What is there from another address is thrown away with the first write.
    pub fn at(model: &Path, n: usize, url: &str) -> Partial {
        let path = path(model, n);
        let side = beside(&path, ".json");
        let known = note(&side).filter(|k| k.url == url);
        let there = fs::symlink_metadata(&path).ok().filter(|m| m.is_file()).map_or(0, |m| m.len());
        // A note about more than is there is about another file.
        let known = known.filter(|k| k.verified <= there);
        let fresh = Note { format: FORMAT, url: url.to_string(), etag: None, length: None, verified: 0 };
        let note = known.unwrap_or(fresh);
        Partial { have: note.verified, path, side, note, file: None, synced_at: Instant::now() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are there.
    pub fn have(&self) -> u64 {
        self.have
    }

    pub fn etag(&self) -> Option<&str> {
        self.note.etag.as_deref()
    }

    /// The part that is there, from its start.
    pub fn read(&mut self) -> Result<&mut File> {
        if self.file.is_none() {
            // A link here would make us write to a place of someone else's choice.
            if fs::symlink_metadata(&self.path).is_ok_and(|m| !m.is_file()) {
                fs::remove_file(&self.path).map_err(|e| self.disk(&e))?;
            }
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&self.path);
            let file = file.and_then(|f| f.set_len(self.have).map(|()| f)).map_err(|e| self.disk(&e))?;
            self.file = Some(file);
        }
        let at = self.path.clone();
        let file = self.file.as_mut().ok_or_else(|| Error::new(Kind::Io, "the download is not open").at_file(&at))?;
        file.seek(SeekFrom::Start(0)).map_err(|e| Error::io("read the download", &at, &e))?;
        Ok(file)
    }

    /// What the server and the header say of it.
    pub fn learn(&mut self, etag: Option<&str>, length: u64) -> Result<()> {
        self.note.etag = etag.filter(|e| e.starts_with('"') && e.len() <= 1024).map(str::to_string);
        self.note.length = Some(length);
        self.keep()
    }

    pub fn append(&mut self, data: &[u8]) -> Result<()> {
        if self.file.is_none() {
            self.read()?;
        }
        let have = self.have;
        let written = match &mut self.file {
            Some(f) => f.seek(SeekFrom::Start(have)).and_then(|_| f.write_all(data)),
            None => Ok(()),
        };
        written.map_err(|e| self.disk(&e))?;
        self.have += data.len() as u64;
        let enough = self.have - self.note.verified >= SYNC_BYTES || self.synced_at.elapsed() >= SYNC_TIME;
        if enough && self.note.length.is_some() {
            self.keep()?;
        }
        Ok(())
    }

    /// Brings what is there to the disk, then notes how much that is.
    pub fn keep(&mut self) -> Result<()> {
        if let Some(f) = &self.file {
            f.sync_all().map_err(|e| self.disk(&e))?;
        }
        self.note.verified = self.have;
        self.synced_at = Instant::now();
        // Our own plain struct: this cannot fail, and an empty note only costs the download.
        let text = serde_json::to_vec_pretty(&self.note).unwrap_or_default();
        write_whole(&Std, &self.side, &text)
    }

    /// Starts anew: none of it can be believed, or something else is about to come.
    pub fn restart(&mut self) -> Result<()> {
        // The note first: a cut between the two must not leave one that promises bytes.
        remove(&Std, &self.side)?;
        (self.have, self.note.verified, self.note.etag, self.note.length) = (0, 0, None, None);
        if let Some(f) = &self.file {
            f.set_len(0).map_err(|e| self.disk(&e))?;
        }
        Ok(())
    }

    fn disk(&self, e: &io::Error) -> Error {
        match e.kind() {
            io::ErrorKind::StorageFull => Error::new(Kind::Io, "the disk is full")
                .at_file(&self.path)
                .hint("free some space and run the same command again; what was fetched is kept and continued"),
            _ => Error::io("write the download", &self.path, e),
        }
    }
}

fn path(model: &Path, n: usize) -> PathBuf {
    beside(model, &if n == 0 { ".download".to_string() } else { format!(".download.{n}") })
}

fn note(side: &Path) -> Option<Note> {
    // A note that cannot be read only costs what it is about.
    let note: Note = serde_json::from_slice(&read_capped(side, MAX_NOTE).ok()?).ok()?;
    (note.format == FORMAT).then_some(note)
}

/// Numbers of the downloads for these addresses: those where something of them is kept, else free ones.
pub fn numbers(model: &Path, urls: &[String]) -> Vec<usize> {
    let kept: Vec<Option<String>> =
        (0..urls.len().max(MAX_STEPS)).map(|n| note(&beside(&path(model, n), ".json")).map(|k| k.url)).collect();
    let mut numbers: Vec<Option<usize>> =
        urls.iter().map(|u| kept.iter().position(|k| k.as_deref() == Some(u.as_str()))).collect();
    for i in 0..numbers.len() {
        // The same address twice is a lie of an index; the second one gets a number of its own.
        let taken = |n: usize| numbers.iter().enumerate().any(|(j, m)| *m == Some(n) && j != i);
        if numbers[i].is_none_or(taken) {
            let free = (0..kept.len()).find(|n| !taken(*n));
            numbers[i] = free;
        }
    }
    numbers.into_iter().enumerate().map(|(i, n)| n.unwrap_or(i)).collect()
}

/// Downloads of this model that are whole by their notes, in their order.
pub fn whole(model: &Path, most: usize) -> Vec<PathBuf> {
    let paths = (0..most).map(|n| path(model, n));
    paths
        .filter(|p| {
            let note = note(&beside(p, ".json"));
            note.is_some_and(|n| n.length == Some(n.verified) && fs::metadata(p).is_ok_and(|m| m.len() == n.verified))
        })
        .collect()
}

/// Removes all downloads of this model.
pub fn discard_all(model: &Path, most: usize) -> Result<()> {
    (0..most).map(|n| path(model, n)).try_for_each(|p| discard_at(&p))
}

/// Removes one download by its path.
pub fn discard_at(path: &Path) -> Result<()> {
    let side = beside(path, ".json");
    remove(&Std, &beside(&side, ".new"))?;
    remove(&Std, &side)?;
    remove(&Std, path)
}

/// Bytes that all downloads of this model take.
pub fn kept(model: &Path, most: usize) -> u64 {
    (0..most).map(|n| fs::metadata(path(model, n)).map_or(0, |m| m.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn have(model: &Path, url: &str) -> u64 {
        Partial::at(model, 0, url).have()
    }

    #[test]
    fn what_was_kept_is_there_again_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("m");
        let mut p = Partial::at(&model, 0, "u");
        p.append(&[1; 500]).unwrap();
        p.learn(Some("\"e\""), 2000).unwrap();
        p.append(&[2; 100]).unwrap();
        drop(p); // as if killed
        assert_eq!(have(&model, "u"), 500, "what came after the note is not believed");
        assert_eq!(have(&model, "other"), 0);
        let mut p = Partial::at(&model, 0, "u");
        assert_eq!(p.etag(), Some("\"e\""));
        p.append(&[3; 1]).unwrap();
        p.keep().unwrap();
        let bytes = fs::read(p.path()).unwrap();
        assert_eq!((bytes.len(), bytes[499], bytes[500]), (501, 1, 3));
        assert!(whole(&model, 3).is_empty());
        p.append(&[3; 1499]).unwrap();
        p.keep().unwrap();
        assert_eq!(whole(&model, 3), [dir.path().join("m.download")]);
        p.restart().unwrap();
        assert_eq!((p.have(), have(&model, "u")), (0, 0));
        drop(p);
        discard_all(&model, 3).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn downloads_are_found_by_their_address() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("m");
        for (n, url) in [(1, "b"), (2, "c")] {
            let mut p = Partial::at(&model, n, url);
            p.append(&[1; 500]).unwrap();
            p.learn(None, 2000).unwrap();
        }
        let numbers = |urls: &[&str]| numbers(&model, &urls.iter().map(|u| u.to_string()).collect::<Vec<_>>());
        assert_eq!(numbers(&["a", "b", "c"]), [0, 1, 2]);
        assert_eq!(numbers(&["b", "c"]), [1, 2]);
        assert_eq!(numbers(&["c", "x", "y"]), [2, 0, 1]);
        assert_eq!(numbers(&["c", "c"]).len(), 2);
        let twice = numbers(&["c", "c"]);
        assert_ne!(twice[0], twice[1]);
    }

    #[test]
    fn a_note_that_lies_or_is_damaged_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("m");
        let mut p = Partial::at(&model, 0, "u");
        p.append(&[1; 500]).unwrap();
        p.learn(Some("W/\"weak\""), 2000).unwrap();
        assert_eq!(p.etag(), None);
        let side = dir.path().join("m.download.json");
        let good = fs::read_to_string(&side).unwrap();
        for bad in ["", "{", "[]", &good.replace("500", "501"), &good.replace("\"format\": 1", "\"format\": 2")] {
            fs::write(&side, bad).unwrap();
            assert_eq!(have(&model, "u"), 0, "{bad}");
        }
        fs::write(&side, good).unwrap();
        assert_eq!(have(&model, "u"), 500);
        #[cfg(unix)]
        {
            let elsewhere = dir.path().join("elsewhere");
            fs::write(&elsewhere, [9; 600]).unwrap();
            fs::remove_file(dir.path().join("m.download")).unwrap();
            std::os::unix::fs::symlink(&elsewhere, dir.path().join("m.download")).unwrap();
            let mut p = Partial::at(&model, 0, "u");
            assert_eq!(p.have(), 0);
            p.append(&[1; 5]).unwrap();
            assert_eq!(fs::read(&elsewhere).unwrap(), [9; 600]);
        }
    }
}
