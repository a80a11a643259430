//! In place: the old version is overwritten block by block, with a journal.
//!
//! 1. Everything is checked, and every block is decoded once without writing anything: the digests of its old and new bytes go into the
//!    journal, the digest of the whole new file is compared with the header.
//! 2. `FILE.state` names the new version; the journal is synced and gets its name, the folder is synced. From here on the file is not read.
//! 3. For some blocks at a time: a record with their new bytes, sync of the journal, the blocks, sync of the file.
//! 4. The SHA-256 of the whole file is compared, the journal removed, the folder synced.
//!
//! Resuming is the same from step 3: the blocks of a whole record are written again, whatever they look like (after a failed sync the cache
//! may show what the disk does not have); each other block is known by its digest as old (it is made), new (it is passed over) or neither
//! (the file was damaged, which is said). A reversible patch goes back the same way, from a finished update or from the middle of one.

use super::patch::{sha_of, Patch};
use super::site::{Done, Found, Site};
use super::{Faults, Options, Outcome, Report};
use crate::delta::block::{BaseRead, Decoder, Direction};
use crate::delta::journal::{self, About, Journal, Record, Row, HALF};
use crate::delta::store::{self, Access, Opened};
use crate::digest::{self, Sha};
use crate::error::{Error, Result};
use crate::format::delta::{Header, Index};
use crate::progress::Progress;

/// The bytes of one block of the base, which is all that a block of the target is made from.
struct Window<'a> {
    at: u64,
    bytes: &'a [u8],
}

impl BaseRead for Window<'_> {
    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()> {
        match at.checked_sub(self.at) {
            Some(at) => self.bytes.read_at(at, out),
            None => Err(Error::input("a block in place is made from bytes of another one")),
        }
    }
}

fn half(data: &[u8]) -> [u8; HALF] {
    let mut out = [0; HALF];
    out.copy_from_slice(&digest::sha256(data)[..HALF]);
    out
}

/// Blocks of a file that is read and written in place; buffers are used again and again.
struct Blocks<'a> {
    patch: &'a Patch,
    header: &'a Header,
    index: &'a Index,
    file: Opened,
    decoder: Decoder,
    payload: Vec<u8>,
    /// The block as it is, as many bytes as the target has there; zeros where the file is shorter.
    old: Vec<u8>,
    new: Vec<u8>,
}

impl<'a> Blocks<'a> {
    fn new(patch: &'a Patch, file: Opened) -> Result<Blocks<'a>> {
        let (header, index) = (&patch.header, patch.verified()?);
        let decoder = Decoder::new();
        Ok(Blocks { patch, header, index, file, decoder, payload: Vec::new(), old: Vec::new(), new: Vec::new() })
    }

    fn at(&self, number: u32) -> u64 {
        self.header.block_range(u64::from(number)).start
    }

    fn read(&mut self, number: u32) -> Result<()> {
        let range = self.header.block_range(u64::from(number));
        self.old.resize((range.end - range.start) as usize, 0);
        let n = self.file.read_some(range.start, &mut self.old)?;
        self.old[n..].fill(0);
        Ok(())
    }

    /// Makes `new` out of `old`.
    fn decode(&mut self, number: u32, d: Direction) -> Result<()> {
        let at = self.at(number);
        let made_from = match d {
            Direction::Forward => self.header.base_len,
            Direction::Backward => self.header.target_len,
        };
        let there = made_from.saturating_sub(at).min(self.old.len() as u64) as usize;
        let window = Window { at, bytes: &self.old[..there] };
        self.patch.payload(self.index.block(number), &mut self.payload)?;
        self.decoder
            .decode(self.header, self.index, number, &window, &self.payload, &mut self.new, d)
            .map_err(|e| e.at_file(self.patch.path()))
    }
}

/// Which digest of a row a block has before it is written, and which after.
fn from_to((old, new): Row, d: Direction) -> ([u8; HALF], [u8; HALF]) {
    match d {
        Direction::Forward => (old, new),
        Direction::Backward => (new, old),
    }
}

/// # Errors
/// `Usage` if the patch is not one for an update in place.
pub(super) fn made_for_it(patch: &Patch) -> Result<()> {
    match patch.header.flags.in_place {
        true => Ok(()),
        false => Err(Error::usage("this patch cannot be applied in place")
            .at_file(patch.path())
            .hint("leave `--in-place` away, or make the patch with `delta create … --in-place`")),
    }
}

impl Site<'_> {
    /// Changes the file itself. Interrupted, it is called again with the same patch; until then the file is refused by readers.
    ///
    /// # Errors
    /// `Usage` if the patch was not made for this; `Input` if it may not be applied, with the reason; `Io`.
    pub fn in_place(&self, patch: &Patch, o: &Options, progress: &dyn Progress) -> Result<Report> {
        let h = &patch.header;
        made_for_it(patch)?;
        let (admitted, journal) = match Journal::open(self.disk, &self.file)? {
            Some(journal) => (self.admit_patch(patch, o)?, Some(journal)),
            None => {
                let checked = self.check(patch, o, progress)?;
                if checked.found == Found::Target {
                    return self.nothing_to_do(h, &checked.admitted, o);
                }
                (checked.admitted, None)
            }
        };
        let outcome = if journal.is_some() { Outcome::Resumed } else { Outcome::Applied };
        // Before the first byte changes; it says nothing about whether the file is there yet.
        let before = self.state()?;
        let state = self.on_trial(Some(patch.base()), patch.target(), &h.model, o)?;
        let written = self.change(patch, Direction::Forward, journal, &o.faults, progress, || {
            match before == Some(state.clone()) {
                true => Ok(()),
                false => state.save(self.disk, &self.file),
            }
        })?;
        self.finish(Done { outcome, from: Some(patch.base()), to: patch.target(), written }, h, &admitted, o)
    }

    /// Turns the file into the target or into the base. `announce` is called before the first byte changes.
    pub(super) fn change(
        &self,
        patch: &Patch,
        d: Direction,
        journal: Option<Journal>,
        faults: &Faults,
        progress: &dyn Progress,
        announce: impl FnOnce() -> Result<()>,
    ) -> Result<u64> {
        let h = &patch.header;
        let index = patch.verified()?;
        let file = Opened::open(self.disk, &self.file, Access::Write)?;
        let mut blocks = Blocks::new(patch, file)?;
        let about = About {
            patch: patch.id(),
            base_len: h.base_len,
            target_len: h.target_len,
            block_log2: h.block_log2,
            blocks: index.block_count,
        };
        let mut journal = match journal {
            Some(journal) if journal.about != about => {
                let e =
                    Error::usage("the unfinished update of this file is one by another patch").at_file(patch.path());
                return Err(e.hint("finish it with that one, or replace the file by a full patch"));
            }
            Some(journal) => {
                announce()?;
                // The name may be in the cache alone.
                store::sync_dir(self.disk, journal.path())?;
                journal
            }
            None => {
                let writer = self.rehearse(&mut blocks, about, d, progress)?;
                announce()?;
                let prev = store::beside(&self.file, ".prev");
                if self.disk.same(&self.file, &prev).unwrap_or(false) {
                    // It would change together with the file.
                    store::remove(self.disk, &prev)?;
                }
                writer.finish(!faults.journal_not_synced)?
            }
        };
        // What a switch left that was cut.
        store::remove(self.disk, &store::beside(&self.file, ".new"))?;
        let mut record = Record::default();
        let mut written = restore(&blocks, &mut journal, &mut record, faults)?;
        written += run(&mut blocks, &mut journal, &mut record, d, faults, progress)?;
        let (len, sha) = match d {
            Direction::Forward => (h.target_len, h.target_sha),
            Direction::Backward => (h.base_len, h.base_sha),
        };
        // Also if it looks right already: the sync that should have made it so may have failed.
        if h.base_len != h.target_len {
            blocks.file.set_len(len)?;
            blocks.file.sync()?;
        }
        if !faults.no_final_check {
            progress.stage("checking", len);
            let same = sha_of(&blocks.file, 0..len, |n| progress.advance(n))? == sha;
            progress.done();
            if !same {
                return Err(damaged(&self.file, "its SHA-256 is not the one of the new version"));
            }
        }
        journal.remove(self.disk)?;
        Ok(written)
    }

    /// Decodes everything, writes nothing but the journal's table.
    fn rehearse(
        &self,
        blocks: &mut Blocks,
        about: About,
        d: Direction,
        progress: &dyn Progress,
    ) -> Result<journal::Writer<'_>> {
        let mut writer = journal::Writer::create(self.disk, &self.file, about)?;
        let mut sha = Sha::default();
        progress.stage("rehearsing", about.target_len);
        for number in 0..about.blocks {
            blocks.read(number)?;
            blocks.decode(number, d)?;
            sha.update(&blocks.new);
            let (from, to) = (half(&blocks.old), half(&blocks.new));
            writer.row(&match d {
                Direction::Forward => (from, to),
                Direction::Backward => (to, from),
            })?;
            progress.advance(blocks.new.len() as u64);
        }
        progress.done();
        let promised = match d {
            Direction::Forward => blocks.header.target_sha,
            Direction::Backward => blocks.header.base_sha,
        };
        match sha.finish() == promised {
            true => Ok(writer),
            false => Err(super::whole::broken_promise(blocks.patch)),
        }
    }
}

fn damaged(file: &std::path::Path, what: &str) -> Error {
    Error::input(format!("the file was damaged during its update: {what}"))
        .at_file(file)
        .hint("replace it by a full patch or a copy, then remove the file that ends in `.journal`; and do not trust this disk")
}

/// Writes the blocks of a whole record, which may be torn in the file.
fn restore(blocks: &Blocks, journal: &mut Journal, record: &mut Record, faults: &Faults) -> Result<u64> {
    journal.read(record, !faults.journal_not_checked)?;
    if record.entries.is_empty() {
        return Ok(0);
    }
    if !faults.journal_not_checked {
        for (number, range) in &record.entries {
            let digest = half(record.data(range));
            let (old, new) = journal.row(*number)?;
            let bytes = blocks.header.block_range(u64::from(*number));
            if (digest != old && digest != new) || range.len() as u64 != bytes.end - bytes.start {
                return Err(journal::damaged(journal.path(), "a record is none of this update"));
            }
        }
    }
    journal.rewrite(record, !faults.journal_not_synced)?;
    put(blocks, record, faults)
}

/// Makes every block that is not made yet.
fn run(
    blocks: &mut Blocks,
    journal: &mut Journal,
    record: &mut Record,
    d: Direction,
    faults: &Faults,
    progress: &dyn Progress,
) -> Result<u64> {
    let group = faults.group.unwrap_or(journal::GROUP);
    let mut written = 0;
    crate::fsio::forget_code();
    progress.stage("applying", blocks.header.target_len);
    for number in 0..blocks.index.block_count {
        let (from, to) = from_to(journal.row(number)?, d);
        let bytes = blocks.header.block_range(u64::from(number));
        let len = bytes.end - bytes.start;
        progress.advance(len);
        if from == to {
            continue;
        }
        blocks.read(number)?;
        let is = half(&blocks.old);
        if is == to && !faults.resume_without_digests {
            continue;
        }
        if is != from && !faults.resume_without_digests {
            return Err(damaged(&blocks.file.path, "a block is neither the old nor the new one").at_offset(bytes.start));
        }
        blocks.decode(number, d)?;
        if half(&blocks.new) != to && !faults.resume_without_digests {
            // It was right in the rehearsal.
            return Err(damaged(&blocks.file.path, "a block gives something else than before").at_offset(bytes.start));
        }
        if !record.takes(len as usize, group) {
            written += flush(blocks, journal, record, faults)?;
        }
        record.push(number, &mut blocks.new);
        if record.holds(group) {
            written += flush(blocks, journal, record, faults)?;
            record.give(&mut blocks.new);
        }
    }
    if !record.entries.is_empty() {
        written += flush(blocks, journal, record, faults)?;
    }
    progress.done();
    Ok(written)
}

fn flush(blocks: &Blocks, journal: &Journal, record: &mut Record, faults: &Faults) -> Result<u64> {
    match faults.no_journal {
        true => record.seal(),
        false => journal.write(record, !faults.journal_not_synced)?,
    }
    put(blocks, record, faults)
}

/// Writes the blocks of a record that is in the journal to their places in the file; how many bytes they have.
fn put(blocks: &Blocks, record: &mut Record, faults: &Faults) -> Result<u64> {
    let mut written = 0;
    for (number, range) in &record.entries {
        blocks.file.write(blocks.at(*number), record.data(range))?;
        written += range.len() as u64;
    }
    if !faults.data_not_synced {
        blocks.file.sync()?;
    }
    record.clear();
    Ok(written)
}
