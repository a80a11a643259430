//! One run: what the model is, what the address offers, the patches of the best way, and their application.

use super::fetch::{Fetcher, Got, Want};
use super::index::{Index, Release, Sha};
use super::intake::Verdict;
use super::partial::{self, Partial};
use super::place::Place;
use super::route::{routes, Kind, Route, Step, MAX_STEPS};
use super::{apply, Options, Piece, Report, Status};
use crate::delta::apply::{Admitted, Patch, Site};
use crate::delta::journal;
use crate::delta::state::{State, Version};
use crate::delta::store::{Disk, Std};
use crate::error::{self, Error, Result};
use crate::format::delta::Header;
use crate::fsio;
use crate::http::Failure;
use std::cell::Cell;
use std::path::{Path, PathBuf};

/// What a patch that no key vouches for may have beyond twice the model.
const SPARE: u64 = 64 << 20;

pub struct Run<'r> {
    pub(super) o: &'r Options,
    pub(super) disk: &'r Std,
    pub(super) site: &'r Site<'r>,
    pub(super) fetcher: &'r Fetcher<'r>,
    state: Option<State>,
    /// `None` also while the file is no version at all, in the middle of an update in place.
    have: Option<Sha>,
    pub(super) unfinished: bool,
    /// Bytes of the model.
    length: u64,
    notes: Vec<String>,
}

/// A patch that is there, whole and let in.
pub(super) struct Ready {
    pub url: String,
    pub path: PathBuf,
    pub header: Header,
    pub admitted: Admitted,
}

/// What the header of a patch must say to be wanted.
enum Expected<'e> {
    /// Anything that leads on from the model.
    Any,
    Step(&'e Step),
}

impl<'r> Run<'r> {
    pub fn new(o: &'r Options, disk: &'r Std, site: &'r Site, fetcher: &'r Fetcher) -> Result<Run<'r>> {
        Ok(Run { o, disk, site, fetcher, state: None, have: None, unfinished: false, length: 0, notes: Vec::new() })
    }

    pub(super) fn options(&self, confirm: bool) -> apply::Options {
        apply::Options {
            keys: self.o.keys.clone(),
            allow_unsigned: self.o.allow_unsigned,
            allow_downgrade: self.o.allow_downgrade,
            confirm,
            ..apply::Options::default()
        }
    }

    pub fn update(mut self, place: &Place) -> Result<Report> {
        self.finish_in_place()?;
        self.state = self.site.state()?;
        self.have = match self.unfinished {
            true => None,
            false => self.site.digest(self.fetcher.progress)?.map(Sha),
        };
        self.length = std::fs::metadata(&self.o.model).map_or(0, |m| m.len());
        self.remove_steps()?;
        let raw = Cell::new(None);
        let gate = |head: &[u8; Header::LEN]| {
            let verdict = self.judge(head, &Expected::Any)?;
            raw.set(Some(*head));
            Ok(verdict)
        };
        let name = format!("fetching {}", place.shown());
        let partial = (!self.o.dry_run).then(|| Partial::at(&self.o.model, 0, &place.shown()));
        let got = self.fetcher.fetch(Want { place, partial, gate: &gate, index: true, name }).map_err(|f| f.error)?;
        let piece = |h: &Header| Piece { url: place.shown(), bytes: h.patch_len };
        match got {
            Got::Index(text) => {
                let index = Index::parse(&text).map_err(|e| e.at_file(Path::new(&place.shown())))?;
                self.follow(place, &index)
            }
            Got::Header(h) if self.have == Some(Sha(h.target_sha)) => self.up_to_date(&h.model, to(&h)),
            Got::Header(h) => Ok(self.report(Status::WouldUpdate, &h.model, to(&h), Some((way(&h), vec![piece(&h)])))),
            Got::Patch(h) => {
                let head = raw.take().ok_or_else(|| Error::input("the patch has no header"))?;
                let admitted = self.site.admit(&h, &head, &self.options(false))?;
                let kind = way(&h);
                let path = Partial::at(&self.o.model, 0, &place.shown()).path().to_path_buf();
                self.apply(&[Ready { url: place.shown(), path, header: h, admitted }], kind)
            }
        }
    }

    /// An update in place that was cut is finished first, with its patch. Where that is lost, it has to be fetched again, or a full patch.
    fn finish_in_place(&mut self) -> Result<()> {
        if !journal::path(&self.o.model).exists() {
            return Ok(());
        }
        if self.o.dry_run {
            return Err(fsio::in_progress(&self.o.model));
        }
        for path in partial::whole(&self.o.model, MAX_STEPS) {
            let patch = Patch::open(self.disk, &path);
            match patch.and_then(|p| self.site.in_place(&p, &self.options(false), self.fetcher.progress)) {
                Ok(_) => {
                    self.notes.push("an update in place that was interrupted is finished".into());
                    return partial::discard_at(&path);
                }
                Err(e) if e.kind() == error::Kind::Io => return Err(e),
                Err(e) => self.notes.push(format!(
                    "`{}` does not finish the interrupted update: {}",
                    path.display(),
                    e.message()
                )),
            }
        }
        self.unfinished = true;
        Ok(())
    }

    /// Whether a patch is wanted, by its first 384 bytes.
    fn judge(&self, head: &[u8; Header::LEN], expected: &Expected) -> Result<Verdict> {
        let h = Header::parse(head)?;
        let is = |sha: &[u8; 32]| self.have == Some(Sha(*sha));
        match expected {
            Expected::Any if is(&h.target_sha) => return Ok(Verdict::Stop(h)),
            // Its journal says whether it is the one.
            Expected::Any if self.unfinished && h.flags.in_place => {}
            Expected::Any if !h.flags.full && self.unfinished => return Err(fsio::in_progress(&self.o.model)),
            Expected::Any if !h.flags.full && !is(&h.base_sha) => {
                let what = match self.have {
                    Some(_) => format!("the patch starts from another file (version `{}`)", h.base_version),
                    None => "there is no such file to apply the patch to".into(),
                };
                let e = Error::input(what).at_file(&self.o.model);
                return Err(
                    e.hint("nothing was fetched; give the address of an index (`delta index`) or of a full patch")
                );
            }
            Expected::Any => {}
            Expected::Step(s) => self.is_step(&h, s)?,
        }
        let admitted = self.site.admit(&h, head, &self.options(false))?;
        if self.o.in_place && !h.flags.in_place && !self.unfinished {
            return Err(Error::usage("this patch cannot be applied in place").hint(
                "nothing was fetched; leave `--in-place` away, or make the patch with `delta create … --in-place`",
            ));
        }
        self.fits(&h, &admitted)?;
        Ok(if self.o.dry_run { Verdict::Stop(h) } else { Verdict::Fetch(h) })
    }

    /// Whether a patch is the one that the index promised.
    fn is_step(&self, h: &Header, step: &Step) -> Result<()> {
        let base = (!h.flags.full).then_some(Sha(h.base_sha));
        let wrong = if base != step.from {
            "starts from another file"
        } else if Sha(h.target_sha) != step.to {
            "leads to another file"
        } else if h.patch_len != step.bytes {
            "has another length"
        } else {
            return Ok(());
        };
        Err(Error::input(format!("the patch `{}` {wrong} than the index says", error::printable(&step.url)))
            .hint("make the index anew: `bitnet-convert delta index`"))
    }

    /// Bounds what a header may make us fetch.
    fn fits(&self, h: &Header, admitted: &Admitted) -> Result<()> {
        let unknown = admitted.signed_by.is_none() && self.have.is_some();
        let most = self.o.max_download.or(unknown.then(|| self.length.saturating_mul(2).saturating_add(SPARE)));
        if let Some(most) = most.filter(|most| h.patch_len > *most) {
            return Err(Error::input(format!(
                "the patch has {} bytes, more than the {most} that are allowed",
                h.patch_len
            ))
            .hint("nothing was fetched; if that is right, allow more with `--max-download`"));
        }
        // What is kept of a download need not find room again.
        let more = h.patch_len.saturating_sub(partial::kept(&self.o.model, MAX_STEPS));
        let free = self.disk.space(&self.o.model).ok().flatten();
        if let Some(free) = free.filter(|free| *free < more) {
            let what = format!("the patch has {} bytes, the disk has room for {free}", h.patch_len);
            return Err(Error::new(error::Kind::Io, what)
                .at_file(&self.o.model)
                .hint("free some space; what was fetched is kept"));
        }
        Ok(())
    }

    /// The best way that an index offers, or the next best if that one is refused.
    fn follow(mut self, place: &Place, index: &Index) -> Result<Report> {
        let want = index.newest().ok_or_else(|| Error::input("the index of the updates lists no file"))?.clone();
        if let Some(s) = self.state.as_ref().filter(|s| s.model != index.model) {
            let what = format!("the index is for the model `{}`, this file is `{}`", index.model, s.model);
            return Err(Error::input(what).hint("nothing was fetched; check the address"));
        }
        if self.have == Some(want.sha256) {
            return self.up_to_date(&index.model, version(&want));
        }
        self.is_no_replay(&want)?;
        // A full patch repairs a file in the middle of an update in place, from beside it.
        let ways = routes(index, self.have.as_ref(), &want, self.o.in_place && !self.unfinished);
        if ways.is_empty() && self.unfinished {
            return Err(fsio::in_progress(&self.o.model));
        }
        if ways.is_empty() {
            let which = self.have.map_or("no file".into(), |h| format!("this file (SHA-256 {h:?})"));
            let how = if self.o.in_place { " in place" } else { "" };
            return Err(Error::input(format!("the index has no way from {which} to version `{}`{how}", want.version))
                .at_file(&self.o.model)
                .hint(match self.o.in_place {
                    true => "leave `--in-place` away, or ask for patches that were made with it",
                    false => {
                        "ask for a full patch (`delta create … --full`); `inspect FILE` says whether a model is damaged"
                    }
                }));
        }
        if self.o.dry_run {
            let best = &ways[0];
            let pieces = best.steps.iter().map(|s| Piece { url: s.url.clone(), bytes: s.bytes }).collect();
            return Ok(self.report(Status::WouldUpdate, &index.model, version(&want), Some((best.kind, pieces))));
        }
        let mut first = None;
        for way in ways {
            match self.fetch_all(place, &way) {
                Ok(patches) => return self.apply(&patches, way.kind),
                // The next way leads over the same network and onto the same disk.
                Err(f) if f.error.kind() == error::Kind::Io && !f.missing => return Err(f.error),
                Err(f) => {
                    self.notes.push(format!("the {} was not taken: {}", name(way.kind), f.error.message()));
                    first.get_or_insert(f.error);
                }
            }
        }
        Err(first.unwrap_or_else(|| Error::input("the index offers no way")))
    }

    /// An index that offers what is older than what was accepted is an old one, played back.
    fn is_no_replay(&self, want: &Release) -> Result<()> {
        let accepted = self.state.as_ref().and_then(|s| s.accepted.as_ref());
        match accepted.filter(|a| a.sequence >= want.sequence && a.sha256 != want.sha256.0 && !self.o.allow_downgrade) {
            None => Ok(()),
            Some(a) => {
                let (offered, accepted) = (want.sequence, a.sequence);
                let what = format!("the index is an old one: its newest version has sequence {offered}, {accepted} was accepted before");
                Err(Error::input(what)
                    .hint("nothing was fetched; if you want the older version all the same, add `--allow-downgrade`"))
            }
        }
    }

    fn fetch_all(&self, place: &Place, way: &Route) -> Result<Vec<Ready>, Failure> {
        let mut patches = Vec::new();
        let places = way.steps.iter().map(|step| {
            place.join(&step.url, self.fetcher.client).map_err(|why| {
                let shown = error::printable(&step.url);
                Error::input(format!("the index gives the address `{shown}`, which is not followed: {why}"))
                    .hint("do not trust this index")
            })
        });
        let places = places.collect::<Result<Vec<Place>>>()?;
        let shown: Vec<String> = places.iter().map(Place::shown).collect();
        let numbers = partial::numbers(&self.o.model, &shown);
        for (i, ((step, from), number)) in way.steps.iter().zip(&places).zip(numbers).enumerate() {
            let admitted = Cell::new(None);
            let gate = |head: &[u8; Header::LEN]| {
                let verdict = self.judge(head, &Expected::Step(step))?;
                admitted.set(Some(*head));
                Ok(verdict)
            };
            let name = match way.steps.len() {
                1 => format!("fetching {}", from.shown()),
                n => format!("fetching patch {} of {n}", i + 1),
            };
            let partial = Partial::at(&self.o.model, number, &from.shown());
            let path = partial.path().to_path_buf();
            let got =
                self.fetcher.fetch(Want { place: from, partial: Some(partial), gate: &gate, index: false, name })?;
            let (Got::Patch(header), Some(head)) = (got, admitted.take()) else {
                return Err(Error::input(format!("`{}` is no patch", from.shown())).into());
            };
            let admitted = self.site.admit(&header, &head, &self.options(false))?;
            patches.push(Ready { url: from.shown(), path, header, admitted });
        }
        Ok(patches)
    }

    fn up_to_date(self, model: &str, to: Version) -> Result<Report> {
        let on_trial = self.state.as_ref().is_some_and(|s| s.is_trial(&to.sha256));
        let confirm = self.o.confirm && on_trial && !self.o.dry_run;
        if confirm {
            // A run that was cut between the switch and this.
            self.site.confirm(self.fetcher.progress)?;
        }
        if !self.o.dry_run {
            partial::discard_all(&self.o.model, MAX_STEPS)?;
        }
        let mut report = self.report(Status::UpToDate, model, to, None);
        report.trial = on_trial && !confirm;
        Ok(report)
    }

    /// The version that the file was, as far as it is known.
    pub(super) fn from(&self) -> Option<Version> {
        self.state.as_ref().and_then(|s| s.find(&self.have?.0)).cloned()
    }

    pub(super) fn report(&self, status: Status, model: &str, to: Version, way: Option<(Kind, Vec<Piece>)>) -> Report {
        let (way, patches) = way.map_or((None, Vec::new()), |(kind, pieces)| (Some(kind), pieces));
        Report {
            status,
            file: self.o.model.display().to_string(),
            model: model.to_string(),
            from: self.from(),
            to,
            way,
            patches,
            fetched: self.fetcher.fetched.get(),
            signed_by: None,
            trial: false,
            notes: self.notes.clone(),
        }
    }
}

fn to(h: &Header) -> Version {
    Version { sequence: h.target_sequence, version: h.target_version.clone(), sha256: h.target_sha }
}

fn version(r: &Release) -> Version {
    Version { sequence: r.sequence, version: r.version.clone(), sha256: r.sha256.0 }
}

fn way(h: &Header) -> Kind {
    if h.flags.full {
        Kind::Full
    } else {
        Kind::Direct
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Direct => "direct patch",
        Kind::Chain => "chain",
        Kind::Full => "full patch",
    }
}
