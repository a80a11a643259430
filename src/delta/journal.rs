//! The journal of an update in place (`FILE.journal`).
//!
//! | bytes | |
//! |---|---|
//! | 0 ..= 127 | magic `BNJOURN1`, SHA-256 of the patch's header, length of base and target (u64), log2 of the block size and number of blocks (u32), SHA-256 of the table, 28 zero bytes, CRC-32 of the 124 bytes before |
//! | table | 32 bytes a block: first half of the SHA-256 of the block before the update, then after it |
//! | record | at the next multiple of 4096: magic `BNRECORD`, number n of blocks, length of what follows (u32), CRC-32 of this part with 0 in this field and of what follows, 0; n entries of block and length (u32), the bytes of these blocks |
//!
//! All little-endian. Header and table are synced before the file has this name, and never change. There is one record; it is overwritten
//! only when the blocks of the one before are synced, so a torn record means that the file is whole.

use crate::delta::store::{self, Access, Disk, Fresh, Opened};
use crate::digest::{self, Sha};
use crate::error::{Error, Result};
use crate::fsio;
use std::ops::Range;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"BNJOURN1";
const RECORD: [u8; 8] = *b"BNRECORD";
const HEADER: usize = 128;
const PREFIX: usize = 24;
/// Bytes of a block's digest.
pub const HALF: usize = 16;
/// Both digests of a block.
const ROW: usize = 2 * HALF;
/// Rows are read and written so many at a time.
const ROWS: usize = 256;
/// Records of one write stay below this, unless one block is longer.
pub const GROUP: usize = 1 << 18;

/// Where the journal of a file lies.
pub fn path(file: &Path) -> PathBuf {
    fsio::journal(file)
}

/// Whether an update in place of a file is unfinished.
///
/// # Errors
/// `Io`.
pub fn is_there(disk: &dyn Disk, file: &Path) -> Result<bool> {
    Ok(store::open_if_there(disk, &path(file), Access::Read)?.is_some())
}

/// Refuses a file that is neither the old nor the new version.
///
/// # Errors
/// `Usage` with how to go on.
pub fn refuse(disk: &dyn Disk, file: &Path) -> Result<()> {
    match is_there(disk, file)? {
        false => Ok(()),
        true => Err(fsio::in_progress(file)),
    }
}

/// What the journal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// SHA-256 of the patch's header, which covers the patch.
    pub patch: [u8; 32],
    pub base_len: u64,
    pub target_len: u64,
    pub block_log2: u32,
    pub blocks: u32,
}

impl About {
    fn record_at(&self) -> u64 {
        (HEADER as u64 + ROW as u64 * u64::from(self.blocks)).next_multiple_of(4096)
    }
}

/// First halves of the SHA-256 of a block before and after the update.
pub type Row = ([u8; HALF], [u8; HALF]);

/// A journal that has its name.
pub struct Journal {
    file: Opened,
    pub about: About,
    rows: Vec<u8>,
    first_row: u32,
}

pub(crate) fn damaged(path: &Path, what: &str) -> Error {
    Error::input(format!("the journal of the update is damaged: {what}")).at_file(path).hint(
        "the model is half old and half new; replace it by a full image, or restore journal or model from a backup",
    )
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|b| b.try_into().ok()).unwrap_or([0; N])
}

/// Writes the table, then the header; the file has its name when [`Writer::finish`] returns.
pub struct Writer<'a> {
    disk: &'a dyn Disk,
    new: Fresh<'a>,
    name: PathBuf,
    about: About,
    sha: Sha,
    pending: Vec<u8>,
    at: u64,
}

impl<'a> Writer<'a> {
    pub fn create(disk: &'a dyn Disk, file: &Path, about: About) -> Result<Writer<'a>> {
        let name = path(file);
        let new = Fresh::create(disk, &store::beside(&name, ".new"))?;
        Ok(Writer { disk, new, name, about, sha: Sha::default(), pending: Vec::new(), at: HEADER as u64 })
    }

    /// Rows come in the order of the blocks.
    pub fn row(&mut self, (old, new): &Row) -> Result<()> {
        self.pending.extend_from_slice(old);
        self.pending.extend_from_slice(new);
        if self.pending.len() >= ROWS * ROW {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.sha.update(&self.pending);
        self.new.file.write(self.at, &self.pending)?;
        self.at += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// `synced`: false is a planted bug of the tests.
    pub fn finish(mut self, synced: bool) -> Result<Journal> {
        self.flush()?;
        let a = &self.about;
        let mut h = MAGIC.to_vec();
        h.extend_from_slice(&a.patch);
        h.extend_from_slice(&a.base_len.to_le_bytes());
        h.extend_from_slice(&a.target_len.to_le_bytes());
        h.extend_from_slice(&a.block_log2.to_le_bytes());
        h.extend_from_slice(&a.blocks.to_le_bytes());
        h.extend_from_slice(&self.sha.finish());
        h.resize(HEADER - 4, 0);
        h.extend_from_slice(&digest::crc32(&h).to_le_bytes());
        self.new.file.write(0, &h)?;
        if synced {
            self.new.file.sync()?;
        }
        self.new.rename(&self.name)?;
        if synced {
            store::sync_dir(self.disk, &self.name)?;
        }
        let file = Opened::open(self.disk, &self.name, Access::Write)?;
        Ok(Journal { file, about: self.about, rows: Vec::new(), first_row: 0 })
    }
}

impl Journal {
    /// The journal beside `file`, if there is one, its table checked.
    ///
    /// # Errors
    /// `Input` if it is damaged.
    pub fn open(disk: &dyn Disk, file: &Path) -> Result<Option<Journal>> {
        let path = path(file);
        let Some(file) = store::open_if_there(disk, &path, Access::Write)? else { return Ok(None) };
        let mut h = [0; HEADER];
        let n = file.read_some(0, &mut h)?;
        if n < HEADER || h[..8] != MAGIC || u32_at(&h, HEADER - 4) != digest::crc32(&h[..HEADER - 4]) {
            return Err(damaged(&path, "its header does not match its check sum"));
        }
        let about = About {
            patch: array(&h, 8),
            base_len: u64_at(&h, 40),
            target_len: u64_at(&h, 48),
            block_log2: u32_at(&h, 56),
            blocks: u32_at(&h, 60),
        };
        let mut sha = Sha::default();
        let mut rows = vec![0; ROWS * ROW];
        let (mut at, end) = (HEADER as u64, HEADER as u64 + u64::from(about.blocks) * ROW as u64);
        while at < end {
            let n = (end - at).min(rows.len() as u64) as usize;
            if file.read_some(at, &mut rows[..n])? < n {
                return Err(damaged(&path, "its table is cut short"));
            }
            sha.update(&rows[..n]);
            at += n as u64;
        }
        if sha.finish() != array::<32>(&h, 64) {
            return Err(damaged(&path, "its table does not match its digest"));
        }
        Ok(Some(Journal { file, about, rows: Vec::new(), first_row: 0 }))
    }

    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Digests of a block below `about.blocks`.
    pub fn row(&mut self, block: u32) -> Result<Row> {
        let known = (self.rows.len() / ROW) as u32;
        if block < self.first_row || block - self.first_row >= known {
            let n = (self.about.blocks.saturating_sub(block) as usize).clamp(1, ROWS);
            self.rows.resize(n * ROW, 0);
            self.first_row = block;
            let read = self.file.read(HEADER as u64 + u64::from(block) * ROW as u64, &mut self.rows);
            if read.is_err() {
                self.rows.clear();
            }
            read?;
        }
        let at = (block - self.first_row) as usize * ROW;
        Ok((array(&self.rows, at), array(&self.rows, at + HALF)))
    }

    /// Makes a record durable. Only after that may its blocks be written into the file.
    pub fn write(&self, record: &mut Record, synced: bool) -> Result<()> {
        record.seal();
        self.rewrite(record, synced)
    }

    /// The same for a record that has just been read: after a failed sync it may be in the cache alone.
    pub fn rewrite(&self, record: &Record, synced: bool) -> Result<()> {
        let at = self.about.record_at();
        self.file.write(at, &record.head)?;
        self.file.write(at + record.head.len() as u64, &record.data)?;
        match synced {
            true => self.file.sync(),
            false => Ok(()),
        }
    }

    /// The record, if it is whole: `record` is then that one, else empty. `checked`: false is a planted bug of the tests.
    pub fn read(&self, record: &mut Record, checked: bool) -> Result<()> {
        record.clear();
        let at = self.about.record_at();
        let mut prefix = [0; PREFIX];
        if self.file.read_some(at, &mut prefix)? < PREFIX || prefix[..8] != RECORD {
            return Ok(());
        }
        let (count, len) = (u32_at(&prefix, 8) as usize, u32_at(&prefix, 12) as usize);
        let most = GROUP.max(1 << self.about.block_log2.min(20)) + 8 * Record::MOST;
        let held = self.file.len()?.saturating_sub(at + PREFIX as u64);
        if count == 0 || count > Record::MOST || len > most || len as u64 > held || len < 8 * count {
            return Ok(());
        }
        record.head.extend_from_slice(&prefix);
        record.head.resize(PREFIX + 8 * count, 0);
        record.data.resize(len - 8 * count, 0);
        self.file.read(at + PREFIX as u64, &mut record.head[PREFIX..])?;
        self.file.read(at + record.head.len() as u64, &mut record.data)?;
        record.head[16..20].fill(0);
        let whole = digest::crc32_of(&[&record.head, &record.data]) == u32_at(&prefix, 16);
        record.head[16..20].copy_from_slice(&prefix[16..20]);
        if !((whole || !checked) && record.parse(count, self.about.blocks)) {
            record.clear();
        }
        Ok(())
    }

    /// Ends the update: from here on the file may be read. The caller has synced it.
    pub fn remove(self, disk: &dyn Disk) -> Result<()> {
        store::remove(disk, &self.file.path)?;
        store::sync_dir(disk, &self.file.path)
    }
}

/// Blocks that are about to be written.
#[derive(Default)]
pub struct Record {
    /// What stands before the bytes of the blocks.
    head: Vec<u8>,
    data: Vec<u8>,
    /// Block, and where its bytes lie in `data`.
    pub entries: Vec<(u32, Range<usize>)>,
}

impl Record {
    /// Blocks of a record at most.
    const MOST: usize = 64;

    pub fn clear(&mut self) {
        self.head.clear();
        self.data.clear();
        self.entries.clear();
    }

    /// Whether a block of this length still goes in, where `group` bytes are enough.
    pub fn takes(&self, len: usize, group: usize) -> bool {
        self.entries.is_empty() || (self.entries.len() < Record::MOST && self.data.len() + len <= group)
    }

    pub fn holds(&self, bytes: usize) -> bool {
        self.data.len() >= bytes
    }

    /// Takes the bytes of a block; the buffer is another one afterwards, so that a large block is not held twice.
    pub fn push(&mut self, block: u32, bytes: &mut Vec<u8>) {
        let (at, len) = (self.data.len(), bytes.len());
        match at {
            0 => std::mem::swap(&mut self.data, bytes),
            _ => self.data.extend_from_slice(bytes),
        }
        self.entries.push((block, at..at + len));
    }

    /// Empties it, and gives the larger one of two buffers back.
    pub fn give(&mut self, bytes: &mut Vec<u8>) {
        self.clear();
        if bytes.capacity() < self.data.capacity() {
            std::mem::swap(&mut self.data, bytes);
        }
    }

    pub(crate) fn seal(&mut self) {
        let len = 8 * self.entries.len() + self.data.len();
        self.head.clear();
        self.head.extend_from_slice(&RECORD);
        self.head.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        self.head.extend_from_slice(&(len as u32).to_le_bytes());
        self.head.extend_from_slice(&[0; 8]);
        for (block, range) in &self.entries {
            self.head.extend_from_slice(&block.to_le_bytes());
            self.head.extend_from_slice(&(range.len() as u32).to_le_bytes());
        }
        let crc = digest::crc32_of(&[&self.head, &self.data]);
        self.head[16..20].copy_from_slice(&crc.to_le_bytes());
    }

    fn parse(&mut self, count: usize, blocks: u32) -> bool {
        let mut at = 0;
        for i in 0..count {
            let (block, len) = (u32_at(&self.head, PREFIX + 8 * i), u32_at(&self.head, PREFIX + 8 * i + 4) as usize);
            if block >= blocks || at + len > self.data.len() {
                return false;
            }
            self.entries.push((block, at..at + len));
            at += len;
        }
        at == self.data.len()
    }

    /// The bytes of an entry.
    pub fn data(&self, range: &Range<usize>) -> &[u8] {
        self.data.get(range.clone()).unwrap_or(&[])
    }
}
