//! One content from the hub into the cache: continued where it stopped, and under its name only when length and digest are right.

use super::cache::{sync, Lock, Repo};
use super::client::{Answer, Ask, Client};
use super::digest::{Digest, Hasher};
use crate::error::{Error, Kind, Result};
use crate::http::{Failure, Url};
use crate::progress::Progress;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use ureq::http::Method;

/// So many new bytes and an attempt counts as a success, however it ended: a large file may take many connections.
const GAIN: u64 = 1 << 20;
const BUFFER: usize = 128 << 10;

/// A file as the hub lists it.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub name: String,
    pub size: u64,
    pub digest: Digest,
}

/// Tells the bar how much of one file is done, never backwards.
pub struct Meter<'a> {
    progress: &'a dyn Progress,
    told: u64,
}

impl<'a> Meter<'a> {
    pub fn new(progress: &'a dyn Progress) -> Self {
        Meter { progress, told: 0 }
    }

    pub fn at(&mut self, position: u64) {
        if position > self.told {
            self.progress.advance(position - self.told);
            self.told = position;
        }
    }
}

/// Whether the file has this length and content. The content is read once and then remembered with the lock.
pub fn is_right(path: &Path, lock: &mut Lock, size: Option<u64>, digest: &Digest, meter: &mut Meter) -> bool {
    let Ok(meta) = fs::metadata(path) else { return false };
    let size = size.unwrap_or(meta.len());
    if !meta.is_file() || meta.len() != size {
        return false;
    }
    if !lock.was_checked(path) {
        let mut hasher = digest.hasher(size);
        let read = File::open(path).and_then(|mut f| feed(&mut f, size, &mut hasher, meter));
        if !read.is_ok_and(|n| n == size) || !hasher.matches(digest) {
            return false;
        }
        lock.note_checked(path);
    }
    meter.at(size);
    true
}

/// Brings one content into the cache, unless it is there.
///
/// # Errors
/// `Io` if the hub or the disk fails, `Input` if the hub delivers other bytes than it lists.
pub fn bring(client: &Client, repo: &Repo, commit: &str, wanted: &Wanted, url: &Url, meter: &mut Meter) -> Result<()> {
    let blob = repo.blob(&wanted.digest);
    let mut lock = repo.lock(&wanted.digest);
    if !is_right(&blob, &mut lock, Some(wanted.size), &wanted.digest, meter) {
        let mut job = Job { client, commit, wanted, url, partial: &repo.partial(&wanted.digest), etag: None, best: 0 };
        client.retry(|| job.attempt(meter)).map_err(|f| f.error)?;
        let place = || -> io::Result<()> {
            fs::rename(job.partial, &blob)?;
            sync(blob.parent().unwrap_or(&blob))
        };
        place().map_err(|e| Error::io("finish the download", &blob, &e))?;
        lock.note_checked(&blob);
    }
    repo.link(commit, &wanted.name, &wanted.digest)
}

struct Job<'a> {
    client: &'a Client<'a>,
    commit: &'a str,
    wanted: &'a Wanted,
    url: &'a Url,
    partial: &'a Path,
    /// Of the host that delivers; only for attempts of this run.
    etag: Option<String>,
    /// The most bytes that any attempt had.
    best: u64,
}

/// What to do with an answer to a request for the rest.
enum Body {
    Rest,
    Whole,
}

impl Job<'_> {
    /// Leaves a complete and synced file under the partial name, or as much of one as can be continued.
    fn attempt(&mut self, meter: &mut Meter) -> Result<(), Failure> {
        let size = self.wanted.size;
        let mut file = self.open()?;
        let mut have = file.metadata().map_err(|e| self.disk(&e))?.len();
        if have > size {
            have = self.restart(&mut file)?;
        }
        let mut hasher = self.wanted.digest.hasher(size);
        let known = feed(&mut file, have, &mut hasher, meter).map_err(|e| self.disk(&e))?;
        if known != have {
            self.restart(&mut file)?;
            return Err(Failure::again(self.fails("the start that was kept cannot be read")));
        }
        self.best = self.best.max(have);
        if have < size {
            let range = (have > 0).then_some((have, self.etag.as_deref().filter(|e| e.starts_with('"'))));
            let answer = self.client.send(&Ask { method: Method::GET, url: self.url, range, file: true })?;
            match self.judge(&answer, have) {
                Ok(Body::Rest) => {}
                Ok(Body::Whole) => {
                    have = self.restart(&mut file)?;
                    hasher = self.wanted.digest.hasher(size);
                }
                Err(e) => {
                    self.restart(&mut file)?;
                    self.etag = None;
                    return Err(Failure::again(e));
                }
            }
            self.etag = answer.http.header("etag").map(str::to_string);
            have = self.receive(answer, &mut file, have, &mut hasher, meter)?;
        }
        if have != size || !hasher.matches(&self.wanted.digest) {
            self.restart(&mut file)?;
            let what = "the hub delivers other bytes than it lists";
            let e = Error::input(format!("`{}`: {what}", self.wanted.name));
            return Err(Failure::again(e.hint("nothing of it was kept; try again later, or another HF_ENDPOINT")));
        }
        file.sync_all().map_err(|e| self.disk(&e).into())
    }

    fn open(&self) -> Result<File> {
        // A link here would make us write to a place of someone else's choice.
        if fs::symlink_metadata(self.partial).is_ok_and(|m| !m.is_file()) {
            fs::remove_file(self.partial).map_err(|e| self.disk(&e))?;
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(self.partial);
        file.map_err(|e| self.disk(&e))
    }

    fn restart(&self, file: &mut File) -> Result<u64> {
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(|e| self.disk(&e))
    }

    /// Whether the body is what was asked for. An error means that nothing of this file can be believed any more.
    fn judge(&self, answer: &Answer, have: u64) -> Result<Body> {
        let size = self.wanted.size;
        if answer.meta.commit.as_deref().is_some_and(|c| c != self.commit) {
            return Err(self.fails("the hub answers with another commit"));
        }
        let announced = answer.meta.digest();
        if announced.is_some_and(|d| d.contradicts(&self.wanted.digest)) || answer.meta.size.is_some_and(|s| s != size)
        {
            return Err(self.fails("the hub announces another content than it lists"));
        }
        let (body, expected) = match answer.http.status {
            200 => (Body::Whole, size),
            206 if have > 0 => {
                let etag = answer.http.header("etag");
                if self.etag.is_some() && etag.is_some() && self.etag.as_deref() != etag {
                    return Err(self.fails("the file changed while it was fetched"));
                }
                if !answer.http.part().is_some_and(|p| p.is_rest(have, size)) {
                    return Err(self.fails("the hub answers with another part than was asked for"));
                }
                (Body::Rest, size - have)
            }
            416 => return Err(self.fails("the hub does not have the part that was asked for")),
            status => return Err(self.fails(&format!("the answer has the unexpected status {status}"))),
        };
        match answer.http.length() {
            Some(n) if n != expected => Err(self.fails(&format!("{n} bytes are announced, {expected} expected"))),
            _ => Ok(body),
        }
    }

    /// Appends the body to the file; returns the length that the file then has.
    fn receive(
        &mut self,
        answer: Answer,
        file: &mut File,
        mut have: u64,
        hasher: &mut Hasher,
        meter: &mut Meter,
    ) -> Result<u64, Failure> {
        let size = self.wanted.size;
        let mut body = answer.http.body.into_reader();
        let mut buffer = vec![0; BUFFER];
        let cut = loop {
            // One byte more than is missing, to see a body that is too long.
            let room = (size - have).saturating_add(1).min(BUFFER as u64) as usize;
            let n = match body.read(&mut buffer[..room]) {
                Ok(0) if have < size => {
                    break Failure::again(self.fails(&format!("the body ended after {have} of {size} bytes")))
                }
                Ok(0) => return Ok(have),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => break self.client.cut(self.url, e),
            };
            if n as u64 > size - have {
                self.restart(file)?;
                return Err(Failure::again(self.fails(&format!("more than the listed {size} bytes come"))));
            }
            file.write_all(&buffer[..n]).map_err(|e| self.disk(&e))?;
            hasher.update(&buffer[..n]);
            have += n as u64;
            meter.at(have);
        };
        let gained = have >= self.best.saturating_add(GAIN);
        self.best = self.best.max(have);
        Err(cut.gained(gained))
    }

    fn fails(&self, what: &str) -> Error {
        Error::new(Kind::Io, format!("fetching `{}` fails: {what}", self.wanted.name))
    }

    fn disk(&self, e: &io::Error) -> Error {
        match e.kind() {
            io::ErrorKind::StorageFull => Error::new(Kind::Io, "the disk is full")
                .at_file(self.partial)
                .hint("free some space, or set HF_HUB_CACHE to another disk; what was fetched is kept and continued"),
            _ => Error::io("write the download", self.partial, e),
        }
    }
}

/// Reads up to `bytes` from the start of a file into the hasher and leaves the position behind them.
fn feed(file: &mut File, bytes: u64, hasher: &mut Hasher, meter: &mut Meter) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let (mut done, mut buffer) = (0, vec![0; BUFFER]);
    while done < bytes {
        let room = (bytes - done).min(BUFFER as u64) as usize;
        match file.read(&mut buffer[..room]) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                done += n as u64;
                meter.at(done);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
