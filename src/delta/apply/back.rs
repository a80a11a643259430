//! After an update: it is confirmed, or taken back.

use super::patch::Patch;
use super::site::{Done, Site};
use super::{admit, Options, Outcome, Report};
use crate::delta::block::Direction;
use crate::delta::journal::{self, Journal};
use crate::delta::state::{State, Version};
use crate::delta::store;
use crate::error::{Error, Result};
use crate::progress::Progress;

impl Site<'_> {
    /// The version on trial is accepted: from here on only newer ones are taken.
    ///
    /// # Errors
    /// `Usage` if the file was never updated, `Input` if it is not the version on trial.
    pub fn confirm(&self, progress: &dyn Progress) -> Result<Report> {
        journal::refuse(self.disk, &self.file)?;
        let state = self.known_state()?;
        let sha = self.digest(progress)?.unwrap_or_default();
        let (outcome, to) = match (&state.trial, &state.accepted) {
            (Some(v), _) if v.sha256 == sha => (Outcome::Confirmed, v.clone()),
            (_, Some(v)) if v.sha256 == sha => (Outcome::NothingToDo, v.clone()),
            _ => return Err(self.stranger("it is neither the accepted version nor the one on trial")),
        };
        self.accept(&sha)?;
        Ok(report(&state, outcome, state.accepted.clone(), to))
    }

    /// Takes the last update back: `FILE.prev` takes its place again, or with a reversible patch the file is changed back in place, also
    /// from the middle of an update in place; interrupted, it is called again. An update that was confirmed is a step back that
    /// [`Options::allow_downgrade`] must allow.
    ///
    /// # Errors
    /// `Usage` if there is nothing to go back to, `Input` if a file is not what it should be.
    pub fn rollback(&self, patch: Option<&Patch>, o: &Options, progress: &dyn Progress) -> Result<Report> {
        match patch {
            Some(patch) => self.back_by_patch(patch, o, progress),
            None => self.back_to_prev(o, progress),
        }
    }

    fn back_to_prev(&self, o: &Options, progress: &dyn Progress) -> Result<Report> {
        journal::refuse(self.disk, &self.file)?;
        let mut state = self.known_state()?;
        let sha = self.digest(progress)?;
        let prev = store::beside(&self.file, ".prev");
        let kept = self.digest_of(&prev, progress)?;
        let is = |v: &Version, d: Option<[u8; 32]>| d == Some(v.sha256);
        let from = sha.and_then(|s| state.find(&s)).cloned();
        let goal = match (&state.trial, &state.accepted, &state.previous) {
            (Some(_), Some(accepted), _) => accepted.clone(),
            (None, _, Some(previous)) if is(previous, sha) || is(previous, kept) => {
                let what = "the version was confirmed, the one before it is an older one".to_string();
                admit::downgrade(&state, o, what).map_err(|e| e.at_file(&self.file))?;
                previous.clone()
            }
            (None, Some(accepted), _) if is(accepted, sha) => {
                return Ok(report(&state, Outcome::NothingToDo, from, accepted.clone()));
            }
            _ => return Err(Error::usage("there is no version to go back to").at_file(&self.file)),
        };
        if !is(&goal, sha) {
            if !is(&goal, kept) {
                return Err(Error::usage("the version before is not there any more").at_file(&prev).hint(
                    "go back in place with the patch if it is reversible: `bitnet-convert delta rollback FILE PATCH`; or apply a full patch",
                ));
            }
            store::rename(self.disk, &prev, &self.file)?;
            store::sync_dir(self.disk, &self.file)?;
        }
        state.trial = None;
        if !state.is_accepted(&goal.sha256) {
            state.previous = None;
            state.accepted = Some(goal.clone());
        }
        state.save(self.disk, &self.file)?;
        Ok(report(&state, Outcome::RolledBack, from, goal))
    }

    fn back_by_patch(&self, patch: &Patch, o: &Options, progress: &dyn Progress) -> Result<Report> {
        let h = &patch.header;
        if !h.flags.reversible {
            return Err(Error::usage("this patch does not go backwards")
                .at_file(patch.path())
                .hint("without it, `FILE.prev` takes the place of the file; or make patches with `delta create … --reversible`"));
        }
        let state = self.state()?;
        let admitted = admit::backward(state.as_ref(), h, patch.raw(), o).map_err(|e| e.at_file(patch.path()))?;
        let journal = Journal::open(self.disk, &self.file)?;
        patch.verified()?;
        let back = |outcome, written| Done { outcome, from: Some(patch.target()), to: patch.base(), written };
        if journal.is_none() {
            let sha = self.digest(progress)?;
            if sha == Some(h.base_sha) {
                self.settle(patch.base())?;
                return self.finish(back(Outcome::NothingToDo, 0), h, &admitted, o);
            }
            if sha != Some(h.target_sha) {
                return Err(self.stranger("it is not what this patch leads to"));
            }
        }
        let written = self.change(patch, Direction::Backward, journal, &o.faults, progress, || {
            let mut s = state.unwrap_or_else(|| State::new(&h.model));
            if s.is_accepted(&h.base_sha) {
                return Ok(());
            }
            s.trial = Some(patch.base());
            s.save(self.disk, &self.file)
        })?;
        self.settle(patch.base())?;
        self.finish(back(Outcome::RolledBack, written), h, &admitted, o)
    }

    /// The file is `version` again: if that is the accepted one, nothing is on trial.
    fn settle(&self, version: Version) -> Result<()> {
        match self.state()? {
            Some(mut s) if s.is_accepted(&version.sha256) && s.trial.is_some() => {
                s.trial = None;
                s.save(self.disk, &self.file)
            }
            _ => Ok(()),
        }
    }

    fn known_state(&self) -> Result<State> {
        self.state()?.ok_or_else(|| {
            let e = Error::usage("this file was never updated: there is no state beside it").at_file(&self.file);
            e.hint("updates are applied with `bitnet-convert delta apply FILE PATCH`")
        })
    }

    fn stranger(&self, how: &str) -> Error {
        Error::input(format!("the file was damaged or replaced: {how}"))
            .at_file(&self.file)
            .hint("nothing was changed; replace it by a full patch or a copy of a version you know")
    }
}

fn report(state: &State, outcome: Outcome, from: Option<Version>, to: Version) -> Report {
    Report { outcome, model: state.model.clone(), from, to, signed_by: None, written: 0, trial: false }
}
