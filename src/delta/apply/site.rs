//! A file that is updated, with what lies beside it, held by one updater at a time.

use super::patch::{self, sha_of, Patch};
use super::{admit, Admitted, Options, Outcome, Report};
use crate::delta::journal;
use crate::delta::state::{State, Version};
use crate::delta::store::{self, Access, Disk};
use crate::error::{Error, Result};
use crate::format::delta::Header;
use crate::progress::Progress;
use std::any::Any;
use std::path::{Path, PathBuf};

/// A locked file.
pub struct Site<'d> {
    pub(super) disk: &'d dyn Disk,
    pub(super) file: PathBuf,
    _lock: Box<dyn Any>,
}

/// What the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// What the patch is made from, or with a full patch anything.
    Base,
    /// What the patch leads to.
    Target,
    /// Nothing, which is enough for a full patch.
    Nothing,
}

/// A patch that may be applied to this file.
#[derive(Debug, Clone)]
pub struct Checked {
    pub admitted: Admitted,
    pub found: Found,
    /// SHA-256 of the file.
    pub sha256: Option<[u8; 32]>,
}

/// A step that is done, for the report.
pub(super) struct Done {
    pub outcome: Outcome,
    pub from: Option<Version>,
    pub to: Version,
    pub written: u64,
}

impl<'d> Site<'d> {
    /// # Errors
    /// `Usage` if another updater holds the file.
    pub fn lock(disk: &'d dyn Disk, file: &Path) -> Result<Site<'d>> {
        Site::try_lock(disk, file)?.ok_or_else(|| {
            let e = Error::usage("another update of this file is at work").at_file(file);
            e.hint("wait until it is done, then try again")
        })
    }

    /// `None` if another updater holds the file.
    ///
    /// # Errors
    /// `Io`.
    pub fn try_lock(disk: &'d dyn Disk, file: &Path) -> Result<Option<Site<'d>>> {
        let path = store::beside(file, ".lock");
        let lock = disk.lock(&path).map_err(|e| Error::io("lock the file", &path, &e))?;
        Ok(lock.map(|lock| Site { disk, file: file.to_path_buf(), _lock: lock }))
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// # Errors
    /// Those of [`State::load`].
    pub fn state(&self) -> Result<Option<State>> {
        State::load(self.disk, &self.file)
    }

    /// SHA-256 of the file as it is, `None` if it is not there.
    ///
    /// # Errors
    /// `Io`.
    pub fn digest(&self, progress: &dyn Progress) -> Result<Option<[u8; 32]>> {
        self.digest_of(&self.file, progress)
    }

    pub(super) fn digest_of(&self, path: &Path, progress: &dyn Progress) -> Result<Option<[u8; 32]>> {
        let Some(file) = store::open_if_there(self.disk, path, Access::Read)? else { return Ok(None) };
        let len = file.len()?;
        progress.stage("checking", len);
        let sha = sha_of(&file, 0..len, |n| progress.advance(n))?;
        progress.done();
        Ok(Some(sha))
    }

    /// Whether the header of a patch lets it in: signature, model, sequence. `raw` are its bytes; the rest of the patch need not be there.
    ///
    /// # Errors
    /// `Input` with the reason.
    pub fn admit(&self, header: &Header, raw: &[u8; Header::LEN], o: &Options) -> Result<Admitted> {
        admit::admit(self.state()?.as_ref(), header, raw, o)
    }

    pub(super) fn admit_patch(&self, patch: &Patch, o: &Options) -> Result<Admitted> {
        self.admit(&patch.header, patch.raw(), o).map_err(|e| e.at_file(patch.path()))
    }

    /// Everything that is checked before the first byte is written: the header, the file, the patch's digests.
    ///
    /// # Errors
    /// `Input` with the reason.
    pub fn check(&self, patch: &Patch, o: &Options, progress: &dyn Progress) -> Result<Checked> {
        let admitted = self.admit_patch(patch, o)?;
        patch.verified()?;
        let (found, sha256) = self.find(patch, progress)?;
        Ok(Checked { admitted, found, sha256 })
    }

    /// What [`Site::switch`] or [`Site::in_place`] would do: everything is checked, nothing is written.
    ///
    /// # Errors
    /// Theirs.
    pub fn dry_run(&self, patch: &Patch, in_place: bool, o: &Options, progress: &dyn Progress) -> Result<Report> {
        if in_place {
            super::place::made_for_it(patch)?;
        }
        let resumed = journal::is_there(self.disk, &self.file)?;
        if resumed && !in_place && !patch.header.flags.full {
            journal::refuse(self.disk, &self.file)?;
        }
        let (admitted, outcome) = match resumed && in_place {
            true => (self.admit_patch(patch, o)?, Outcome::Resumed),
            false => {
                let checked = self.check(patch, o, progress)?;
                let there = checked.found == Found::Target;
                (checked.admitted, if there { Outcome::NothingToDo } else { Outcome::Applied })
            }
        };
        Ok(Report {
            outcome,
            model: patch.header.model.clone(),
            from: (!patch.header.flags.full).then(|| patch.base()),
            to: patch.target(),
            signed_by: admitted.signed_by.map(|n| n.to_string()),
            written: 0,
            trial: false,
        })
    }

    fn find(&self, patch: &Patch, progress: &dyn Progress) -> Result<(Found, Option<[u8; 32]>)> {
        let h = &patch.header;
        let Some(file) = store::open_if_there(self.disk, &self.file, Access::Read)? else {
            return match h.flags.full {
                true => Ok((Found::Nothing, None)),
                false => Err(Error::usage("there is no such file to apply the patch to").at_file(&self.file)),
            };
        };
        let len = file.len()?;
        if !h.flags.full && len != h.base_len && len != h.target_len {
            return Err(self.wrong_base(h, &format!("it has {len} bytes, not {}", h.base_len)));
        }
        drop(file);
        let sha = self.digest(progress)?;
        match sha {
            Some(s) if s == h.target_sha => Ok((Found::Target, sha)),
            Some(s) if h.flags.full || s == h.base_sha => Ok((Found::Base, sha)),
            _ => Err(self.wrong_base(h, "its SHA-256 is another one")),
        }
    }

    fn wrong_base(&self, h: &Header, how: &str) -> Error {
        // A damaged state was reported before this; here it only makes the message better.
        let state = self.state().ok().flatten();
        let e = match state.as_ref().and_then(|s| s.find(&h.base_sha)) {
            Some(_) => Error::input(format!("the file is damaged: it was what this patch starts from, now {how}"))
                .hint("nothing was changed; replace the file by a full patch or by a copy of this version"),
            None => Error::input(format!("the patch starts from another file ({}): {how}", super::release(h))).hint(
                "nothing was changed; find the patch from your version, or a full one; `inspect FILE` says whether a model is damaged",
            ),
        };
        e.at_file(&self.file)
    }

    /// The state with `target` on trial, as it must be before the file changes.
    pub(super) fn on_trial(&self, base: Option<Version>, target: Version, model: &str, o: &Options) -> Result<State> {
        let mut s = self.state()?.unwrap_or_else(|| {
            let mut s = State::new(model);
            s.accepted = base;
            s
        });
        if !o.keys.is_empty() {
            s.keys = o.keys.keys().map(|k| k.line()).collect();
        }
        s.trial = (!s.is_accepted(&target.sha256)).then_some(target);
        Ok(s)
    }

    /// The file is the target already; the state may not say so yet.
    pub(super) fn nothing_to_do(&self, header: &Header, admitted: &Admitted, o: &Options) -> Result<Report> {
        let before = self.state()?;
        let to = patch::target(header);
        let after = self.on_trial(None, to.clone(), &header.model, o)?;
        if before.as_ref() != Some(&after) {
            after.save(self.disk, &self.file)?;
        }
        self.finish(Done { outcome: Outcome::NothingToDo, from: None, to, written: 0 }, header, admitted, o)
    }

    /// Confirms if asked to, and reports.
    pub(super) fn finish(&self, done: Done, header: &Header, admitted: &Admitted, o: &Options) -> Result<Report> {
        let mut trial = self.state()?.is_some_and(|s| s.is_trial(&done.to.sha256));
        if o.confirm && trial {
            self.accept(&done.to.sha256)?;
            trial = false;
        }
        Ok(Report {
            outcome: done.outcome,
            model: header.model.clone(),
            from: done.from,
            to: done.to,
            signed_by: admitted.signed_by.map(|n| n.to_string()),
            written: done.written,
            trial,
        })
    }

    /// The version on trial with this digest becomes the accepted one.
    pub(super) fn accept(&self, sha256: &[u8; 32]) -> Result<()> {
        match self.state()? {
            Some(mut s) if s.is_trial(sha256) => {
                s.previous = s.accepted.take();
                s.accepted = s.trial.take();
                s.save(self.disk, &self.file)
            }
            _ => Ok(()),
        }
    }
}
