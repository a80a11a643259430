//! A new file beside the old one, then the switch.

use super::patch::{self, sha_of, Patch};
use super::site::{Done, Found, Site};
use super::{admit, Admitted, Options, Outcome, Report};
use crate::delta::block::{BaseRead, Decoder, Direction};
use crate::delta::journal;
use crate::delta::state::{State, Version};
use crate::delta::store::{self, Access, Disk, Fresh, Opened};
use crate::digest::Sha;
use crate::error::{Error, Kind, Result};
use crate::format::delta::Header;
use crate::fsio;
use crate::progress::Progress;
use std::path::Path;

impl BaseRead for Opened {
    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()> {
        self.read(at, out)
    }
}

/// Makes the target out of `base` under the name `out`, which appears when it is complete. Digests are compared, permission and state
/// are not: steps of a chain are made so, each patch admitted before.
///
/// # Errors
/// `Input` if the base is another file, or anything does not match its digest.
pub fn into(disk: &dyn Disk, base: &Path, patch: &Patch, out: &Path, progress: &dyn Progress) -> Result<()> {
    patch.verified()?;
    let h = &patch.header;
    if !h.flags.full {
        let file = Opened::open(disk, base, Access::Read)?;
        let len = file.len()?;
        progress.stage("checking", len);
        let same = len == h.base_len && sha_of(&file, 0..len, |n| progress.advance(n))? == h.base_sha;
        progress.done();
        if !same {
            return Err(Error::input(format!("the patch starts from another file ({})", super::release(h)))
                .at_file(base)
                .hint("find the patch from your version; `inspect FILE` says whether a model is damaged"));
        }
    }
    let new = make(disk, base, patch, &store::beside(out, ".new"), progress)?;
    new.rename(out)?;
    store::sync_dir(disk, out)
}

/// [`into`] for a patch whose signature and model are checked, against the state beside `base` if there is one. That state stays as it is, so
/// its sequence does not count.
///
/// # Errors
/// `Input` if the patch may not be applied, with the reason.
pub fn into_new(
    disk: &dyn Disk,
    base: &Path,
    patch: &Patch,
    out: &Path,
    o: &Options,
    progress: &dyn Progress,
) -> Result<Report> {
    let h = &patch.header;
    let state = State::load(disk, base)?;
    let admitted = admit::known(state.as_ref(), h, patch.raw(), o).map_err(|e| e.at_file(patch.path()))?;
    journal::refuse(disk, base)?;
    into(disk, base, patch, out, progress)?;
    Ok(Report {
        outcome: Outcome::Applied,
        model: h.model.clone(),
        from: (!h.flags.full).then(|| patch.base()),
        to: patch.target(),
        signed_by: admitted.signed_by.map(|n| n.to_string()),
        written: h.target_len,
        trial: false,
    })
}

/// Writes and syncs the target under a temporary name; the base has been compared.
fn make<'d>(disk: &'d dyn Disk, base: &Path, patch: &Patch, temp: &Path, progress: &dyn Progress) -> Result<Fresh<'d>> {
    let (h, index) = (&patch.header, patch.verified()?);
    // Also what a patch of some bytes meets that promises terabytes.
    if let Some(free) = disk.space(temp).ok().flatten().filter(|free| *free < h.target_len) {
        return Err(Error::new(
            Kind::Io,
            format!("the new file has {} bytes, the disk has room for {free}", h.target_len),
        )
        .at_file(temp)
        .hint("nothing was changed; free some space, or update in place (`--in-place`)"));
    }
    let nothing: &[u8] = &[];
    let opened = match h.flags.full {
        true => None,
        false => Some(Opened::open(disk, base, Access::Read)?),
    };
    let base: &dyn BaseRead = match &opened {
        Some(file) => file,
        None => &nothing,
    };
    let new = Fresh::create(disk, temp)?;
    let (mut decoder, mut payload, mut at) = (Decoder::new(), Vec::new(), 0);
    let mut sha = Sha::default();
    // What the checks needed; from here on a few functions run.
    fsio::forget_code();
    progress.stage("applying", h.target_len);
    for number in 0..index.block_count {
        patch.payload(index.block(number), &mut payload)?;
        decoder
            .decode_parts(h, index, number, base, &payload, Direction::Forward, &mut |part| {
                sha.update(part);
                new.file.write(at, part)?;
                at += part.len() as u64;
                progress.advance(part.len() as u64);
                Ok(())
            })
            .map_err(|e| e.at_file(patch.path()))?;
    }
    progress.done();
    if sha.finish() != h.target_sha {
        return Err(broken_promise(patch));
    }
    new.file.sync()?;
    Ok(new)
}

pub(super) fn broken_promise(patch: &Patch) -> Error {
    Error::input("the patch does not give the file that its header promises")
        .at_file(patch.path())
        .hint("nothing was changed; make the patch again")
}

impl Site<'_> {
    /// Makes the new version beside the file and puts it in its place: at every instant the file is complete, the old version stays as
    /// `FILE.prev`. Readers that have the old one open keep it. A full patch needs no file.
    ///
    /// # Errors
    /// `Input` if the patch may not be applied, with the reason; `Io`. The file is then the old one.
    pub fn switch(&self, patch: &Patch, o: &Options, progress: &dyn Progress) -> Result<Report> {
        let h = &patch.header;
        if !h.flags.full {
            journal::refuse(self.disk, &self.file)?;
        }
        let checked = self.check(patch, o, progress)?;
        // While there is a journal the file may look right in the cache and not be so on the disk, if a sync failed.
        if checked.found == Found::Target && !journal::is_there(self.disk, &self.file)? {
            return self.nothing_to_do(h, &checked.admitted, o);
        }
        let new = make(self.disk, &self.file, patch, &store::beside(&self.file, ".new"), progress)?;
        self.exchange(new, h, h, checked.sha256, o, progress)
            .and_then(|done| self.finish(done, h, &checked.admitted, o))
    }

    /// Puts a complete file of the same folder in the place of the file, as [`Site::switch`] does: the last step of a chain from `first` to
    /// `header`. `new` is gone afterwards.
    ///
    /// # Errors
    /// `Input` if `new` is not what the header promises.
    pub fn put(
        &self,
        new: &Path,
        first: &Header,
        header: &Header,
        admitted: &Admitted,
        o: &Options,
        progress: &dyn Progress,
    ) -> Result<Report> {
        journal::refuse(self.disk, &self.file)?;
        if self.digest_of(new, progress)? != Some(header.target_sha) {
            return Err(Error::input("this is not the file that the patch promises").at_file(new));
        }
        let old = self.digest(progress)?;
        if old == Some(header.target_sha) {
            store::remove(self.disk, new)?;
            return self.nothing_to_do(header, admitted, o);
        }
        let new = Fresh::adopt(self.disk, new)?;
        new.file.sync()?;
        self.exchange(new, first, header, old, o, progress).and_then(|done| self.finish(done, header, admitted, o))
    }

    /// `new` is complete and synced; `old` is the digest of the file.
    fn exchange(
        &self,
        new: Fresh,
        first: &Header,
        header: &Header,
        old: Option<[u8; 32]>,
        o: &Options,
        progress: &dyn Progress,
    ) -> Result<Done> {
        let from = match old {
            Some(sha) => Some(self.version_of(sha, first)?),
            None => None,
        };
        let to = patch::target(header);
        let state = self.on_trial(from.clone(), to.clone(), &header.model, o)?;
        if let Some(sha) = old {
            let mode = self.disk.copy_mode(&self.file, &new.file.path);
            mode.map_err(|e| Error::io("copy the permissions", &self.file, &e))?;
            self.keep(&sha, progress)?;
        }
        // Makes FILE.prev durable too: the folder is synced with it.
        state.save(self.disk, &self.file)?;
        let written = new.file.len()?;
        new.rename(&self.file)?;
        store::sync_dir(self.disk, &self.file)?;
        self.forget_journal()?;
        Ok(Done { outcome: Outcome::Applied, from, to, written })
    }

    /// A full patch may replace a file that nobody knows; it has sequence 0 then.
    fn version_of(&self, sha256: [u8; 32], header: &Header) -> Result<Version> {
        if sha256 == header.base_sha && !header.flags.full {
            return Ok(Version { sequence: header.base_sequence, version: header.base_version.clone(), sha256 });
        }
        let known = self.state()?.as_ref().and_then(|s| s.find(&sha256)).cloned();
        Ok(known.unwrap_or(Version { sequence: 0, version: String::new(), sha256 }))
    }

    /// A full patch ends an update in place that nobody finished: the file is whole again.
    fn forget_journal(&self) -> Result<()> {
        let path = journal::path(&self.file);
        if journal::is_there(self.disk, &self.file)? {
            store::remove(self.disk, &path)?;
            store::sync_dir(self.disk, &path)?;
        }
        Ok(())
    }

    /// Gives the file, whose digest is `sha`, a second name, unless what lies there is the accepted version and this one is not.
    fn keep(&self, sha: &[u8; 32], progress: &dyn Progress) -> Result<()> {
        let prev = store::beside(&self.file, ".prev");
        let accepted = self.state()?.and_then(|s| s.accepted).map(|v| v.sha256);
        if accepted.is_some() && accepted != Some(*sha) && self.digest_of(&prev, progress)? == accepted {
            return Ok(());
        }
        let temp = store::beside(&prev, ".new");
        store::remove(self.disk, &temp)?;
        match self.disk.link(&self.file, &temp) {
            Err(e) if e.kind() == std::io::ErrorKind::Unsupported => self.copy(&self.file, &temp)?,
            r => r.map_err(|e| Error::io("keep the old version", &prev, &e))?,
        }
        store::rename(self.disk, &temp, &prev)?;
        // Two names of one file are not renamed into each other: both stay.
        store::remove(self.disk, &temp)
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let (from, to) = (Opened::open(self.disk, from, Access::Read)?, Opened::open(self.disk, to, Access::Create)?);
        let mut part = vec![0; patch::PART];
        let mut at = 0;
        loop {
            let n = from.read_some(at, &mut part)?;
            if n == 0 {
                return to.sync();
            }
            to.write(at, &part[..n])?;
            at += n as u64;
        }
    }
}
