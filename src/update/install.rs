//! What was fetched is applied, and nothing of it is left behind.

use super::partial;
use super::route::{Kind, MAX_STEPS};
use super::run::{Ready, Run};
use super::{apply, Piece, Report, Status};
use crate::delta::apply::{into, Patch};
use crate::delta::journal;
use crate::delta::store;
use crate::error::{self, Error, Result};
use std::path::PathBuf;

impl Run<'_> {
    /// Applies the patches that were fetched, then clears up.
    pub(super) fn apply(self, patches: &[Ready], way: Kind) -> Result<Report> {
        let full = patches.iter().any(|p| p.header.flags.full);
        let in_place = if self.unfinished { !full } else { self.o.in_place };
        let done = match in_place {
            true => self.apply_in_place(patches),
            false => self.apply_beside(patches),
        };
        let done = match done {
            Ok(d) => d,
            Err(e) => {
                // A patch that is refused now is no better next time; one that is being applied in place is needed to go on.
                if e.kind() == error::Kind::Input && !journal::path(&self.o.model).exists() {
                    partial::discard_all(&self.o.model, MAX_STEPS)?;
                }
                return Err(e);
            }
        };
        self.remove_steps()?;
        partial::discard_all(&self.o.model, MAX_STEPS)?;
        let pieces = patches.iter().map(|p| Piece { url: p.url.clone(), bytes: p.header.patch_len });
        let from = self.from().or(done.from.clone());
        let mut report = self.report(Status::Updated, &done.model, done.to, Some((way, pieces.collect())));
        (report.signed_by, report.trial, report.from) = (done.signed_by, done.trial, from);
        Ok(report)
    }

    fn apply_in_place(&self, patches: &[Ready]) -> Result<apply::Report> {
        let mut done = None;
        for (n, ready) in patches.iter().enumerate() {
            let patch = Patch::open(self.disk, &ready.path)?;
            let confirm = self.o.confirm && n + 1 == patches.len();
            done = Some(self.site.in_place(&patch, &self.options(confirm), self.fetcher.progress)?);
            partial::discard_at(patch.path())?;
        }
        done.ok_or_else(|| Error::input("there is no patch"))
    }

    /// The steps of a chain are files of their own, so that the version before the chain is the one that is kept.
    fn apply_beside(&self, patches: &[Ready]) -> Result<apply::Report> {
        let options = self.options(self.o.confirm);
        let progress = self.fetcher.progress;
        if let [one] = patches {
            return self.site.switch(&Patch::open(self.disk, &one.path)?, &options, progress);
        }
        let mut base = self.o.model.clone();
        for (n, ready) in patches.iter().enumerate() {
            let out = self.step(n);
            into(self.disk, &base, &Patch::open(self.disk, &ready.path)?, &out, progress)?;
            if n > 0 {
                store::remove(self.disk, &base)?;
            }
            base = out;
        }
        let (Some(first), Some(last)) = (patches.first(), patches.last()) else {
            return Err(Error::input("there is no patch"));
        };
        self.site.put(&base, &first.header, &last.header, &last.admitted, &options, progress)
    }

    fn step(&self, n: usize) -> PathBuf {
        store::beside(&self.o.model, &format!(".step{n}"))
    }

    /// What a chain that was cut left behind; it is made again, from downloads that are kept.
    pub fn remove_steps(&self) -> Result<()> {
        (0..MAX_STEPS).try_for_each(|n| store::remove(self.disk, &self.step(n)))
    }
}
