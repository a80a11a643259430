//! Brings one patch beside the model, or an index into memory: what both kinds of places have in common.

use super::index;
use super::intake::{sniff, Bad, Gate, Intake, Sniffed, Verdict};
use super::partial::Partial;
use super::place::Place;
use crate::error::{Error, Kind, Result};
use crate::format::delta::Header;
use crate::http::{Client, Failure, Patience};
use crate::progress::Progress;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const BUFFER: usize = 64 << 10;
/// Times that a download may turn out to be damaged or changed and start anew.
const MAX_RESTARTS: u32 = 1;

/// What came.
pub enum Got {
    /// A whole patch, its digests checked, in the partial file.
    Patch(Header),
    /// A header, after which the gate had enough.
    Header(Header),
    Index(Vec<u8>),
}

/// What is asked for.
pub struct Want<'a> {
    pub place: &'a Place,
    /// Where to keep it; nowhere if the gate stops every patch.
    pub partial: Option<Partial>,
    pub gate: &'a Gate<'a>,
    /// It may be an index instead.
    pub index: bool,
    /// For the progress bar.
    pub name: String,
}

pub struct Fetcher<'a> {
    pub client: &'a Client,
    pub patience: Patience,
    pub progress: &'a dyn Progress,
    /// Bytes of bodies that came.
    pub fetched: Cell<u64>,
}

impl Fetcher<'_> {
    /// # Errors
    /// `Io` if the server or the disk fails (what came is kept), `Input` for what is not what it should be (it is not kept).
    pub fn fetch(&self, want: Want) -> Result<Got, Failure> {
        let place = want.place;
        let mut job = Job { fetcher: self, want, begun: false, told: 0, restarts: 0 };
        let got = match place {
            Place::Local(path) => job.copy(path),
            Place::Remote(url) => self.patience.retry(|| job.attempt(url).map_err(|f| job.keep(f))),
        };
        if job.begun {
            self.progress.done();
        }
        got
    }
}

/// One download, over all its attempts.
pub(super) struct Job<'a> {
    pub fetcher: &'a Fetcher<'a>,
    pub want: Want<'a>,
    /// The bar is shown, and knows of so many bytes: it never goes backwards.
    begun: bool,
    told: u64,
    restarts: u32,
}

/// Where the bytes of one attempt come from.
pub(super) struct Source<'s> {
    pub body: &'s mut dyn Read,
    /// Announced length of all of it, with what is kept.
    pub whole: Option<u64>,
    pub etag: Option<&'s str>,
    /// Told of each read, to stop what takes too long.
    pub watch: &'s mut dyn FnMut(usize) -> Result<(), Failure>,
    /// What a read that fails means.
    pub broken: &'s dyn Fn(io::Error) -> Failure,
}

impl<'a> Job<'a> {
    /// From a file of this machine; always from its start, as nothing is saved by keeping a part.
    fn copy(&mut self, path: &Path) -> Result<Got, Failure> {
        let broken = |e: io::Error| Failure::from(Error::io("read the update", path, &e));
        let meta = std::fs::metadata(path).map_err(broken)?;
        if !meta.is_file() {
            let e = Error::usage("this is not a regular file").at_file(path);
            return Err(e.hint("give the address of a patch or of an index.json").into());
        }
        let mut file = File::open(path).map_err(broken)?;
        let mut intake = Intake::new(self.want.gate);
        if let Ok(Some(got)) = self.known(&mut intake) {
            return Ok(got);
        }
        let source =
            Source { body: &mut file, whole: Some(meta.len()), etag: None, watch: &mut |_| Ok(()), broken: &broken };
        // A second reading brings the same.
        self.receive(Intake::new(self.want.gate), source).map_err(|f| f.error.at_file(path).into())
    }

    /// Shows what is kept to the intake; returns it if that is all.
    pub fn known(&mut self, intake: &mut Intake<'a>) -> Result<Option<Got>, Bad> {
        let Some(partial) = &mut self.want.partial else { return Ok(None) };
        if partial.have() < Header::LEN as u64 {
            return Ok(None);
        }
        let lost = |e: io::Error| Bad::Damaged(Error::new(Kind::Io, format!("what was kept cannot be read: {e}")));
        let end = partial.have();
        let file = partial.read().map_err(Bad::Damaged)?;
        let mut buffer = vec![0; BUFFER];
        while intake.have() < end {
            let room = (end - intake.have()).min(intake.room()).min(BUFFER as u64) as usize;
            if room == 0 {
                return Err(Bad::Damaged(Error::input("more is kept than belongs to the patch")));
            }
            file.read_exact(&mut buffer[..room]).map_err(lost)?;
            if let Some(Verdict::Stop(header)) = intake.take(&buffer[..room])? {
                return Ok(Some(Got::Header(header)));
            }
        }
        match (intake.room(), intake.header().cloned()) {
            (0, Some(header)) => intake.finish().map(|()| Some(Got::Patch(header))),
            _ => Ok(None),
        }
    }

    /// Forgets what is kept because it cannot be believed any more. Once; then it is refused: an honest server does not need a third download.
    pub fn distrust(&mut self, e: Error) -> Failure {
        self.restarts += 1;
        match self.want.partial.as_mut().map_or(Ok(()), Partial::restart) {
            Err(e) => e.into(),
            Ok(()) if self.restarts > MAX_RESTARTS => e.into(),
            Ok(()) => Failure::again(e),
        }
    }

    /// Keeps what came before a failure. That this fails, too, matters less than the failure.
    fn keep(&mut self, failure: Failure) -> Failure {
        if let Some(p) = self.want.partial.as_mut().filter(|p| p.have() >= Header::LEN as u64) {
            let _ = p.keep();
        }
        failure
    }

    /// Takes in a body, behind what the intake already has.
    pub fn receive(&mut self, mut intake: Intake<'a>, source: Source) -> Result<Got, Failure> {
        let mut buffer = vec![0; BUFFER];
        // Kept back until the header says that it is wanted.
        let mut start = Vec::new();
        let mut is_patch = intake.have() > 0;
        loop {
            let end = intake.header().map(|h| h.patch_len);
            if end == Some(intake.have()) {
                intake.finish().map_err(|b| self.bad(b))?;
                if let Some(p) = &mut self.want.partial {
                    p.keep()?;
                }
                // Known: `end` came from it.
                let header = intake.header().cloned().ok_or_else(|| Error::input("the patch has no header"))?;
                return Ok(Got::Patch(header));
            }
            let room = intake.room().min(BUFFER as u64) as usize;
            let n = match source.body.read(&mut buffer[..room]) {
                Ok(0) => return Err(Failure::again(ended(intake.have(), end))),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err((source.broken)(e)),
            };
            (source.watch)(n)?;
            let data = &buffer[..n];
            if !is_patch {
                start.extend_from_slice(data);
                match sniff(&start)? {
                    Sniffed::Json if self.want.index => return read_index(start, source),
                    Sniffed::Json => {
                        let e = Error::input("an index or another JSON comes where a patch should be");
                        return Err(e.hint("nothing of it was kept; is the index right?").into());
                    }
                    Sniffed::Patch => is_patch = true,
                    Sniffed::Unknown => {}
                }
            }
            match intake.take(data).map_err(|b| self.bad(b))? {
                Some(Verdict::Stop(header)) => return Ok(Got::Header(header)),
                Some(Verdict::Fetch(header)) => {
                    if let Some(n) = source.whole.filter(|n| *n != header.patch_len) {
                        let what = format!("{n} bytes are announced, the patch has {} by its header", header.patch_len);
                        return Err(Error::input(what)
                            .hint("it is cut or something was added; fetch or make it again")
                            .into());
                    }
                    // Only now: what is kept must outlive the page of a portal that answers in the place of the server.
                    if let Some(p) = &mut self.want.partial {
                        p.restart()?;
                        p.append(&start)?;
                        p.learn(source.etag, header.patch_len)?;
                    }
                }
                None if intake.header().is_some() => {
                    self.want.partial.as_mut().map_or(Ok(()), |p| p.append(data))?;
                }
                None => {}
            }
            if let Some(h) = intake.header() {
                self.show(intake.have(), h.patch_len);
            }
        }
    }

    fn bad(&mut self, bad: Bad) -> Failure {
        match bad {
            Bad::Refused(e) => e.into(),
            Bad::Damaged(e) => self.distrust(e),
        }
    }

    fn show(&mut self, have: u64, length: u64) {
        if !self.begun {
            self.begun = true;
            self.fetcher.progress.stage(&self.want.name, length);
        }
        if have > self.told {
            self.fetcher.progress.advance(have - self.told);
            self.told = have;
        }
    }
}

fn ended(have: u64, end: Option<u64>) -> Error {
    let of = end.map_or("a header".to_string(), |n| format!("{n} bytes"));
    Error::new(Kind::Io, format!("the patch ended after {have} bytes, before {of} had come"))
}

/// The rest of an index.
fn read_index(mut text: Vec<u8>, source: Source) -> Result<Got, Failure> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match source.body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                (source.watch)(n)?;
                text.extend_from_slice(&buffer[..n]);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err((source.broken)(e)),
        }
        if text.len() as u64 > index::MAX_BYTES {
            return Err(
                Error::input(format!("the index of the updates is larger than {} bytes", index::MAX_BYTES)).into()
            );
        }
    }
    match source.whole {
        Some(n) if n > text.len() as u64 => {
            let what = format!("the index ended after {} of {n} bytes", text.len());
            Err(Failure::again(Error::new(Kind::Io, what)))
        }
        _ => Ok(Got::Index(text)),
    }
}
