//! A patch in a file: parts are read as they are needed.

use crate::delta::state::Version;
use crate::delta::store::{Access, Disk, Opened};
use crate::digest::{self, Sha};
use crate::error::{Error, Result};
use crate::format::delta::{Block, Header, Index};
use std::cell::OnceCell;
use std::ops::Range;
use std::path::Path;

/// Files are read in parts of this size.
pub(super) const PART: usize = 1 << 17;

/// A patch whose header has been read.
pub struct Patch {
    file: Opened,
    raw: [u8; Header::LEN],
    pub header: Header,
    index: OnceCell<Index>,
}

impl Patch {
    /// Reads the header and compares the length; nothing is trusted yet.
    ///
    /// # Errors
    /// `Input` if the header is damaged or the file is not as long as it says, `Unsupported` for another version.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Patch> {
        let file = Opened::open(disk, path, Access::Read)?;
        let mut raw = [0; Header::LEN];
        let n = file.read_some(0, &mut raw)?;
        // A shorter file is parsed too: whether it is a patch at all is the better message.
        let header = Header::parse(raw.get(..n).unwrap_or(&raw)).map_err(|e| e.at_file(path))?;
        let len = file.len()?;
        if len != header.patch_len {
            let what = if len < header.patch_len { "is cut short" } else { "has bytes behind its end" };
            return Err(Error::input(format!(
                "the patch {what}: it says {} bytes, the file has {len}",
                header.patch_len
            ))
            .at_file(path)
            .hint("fetch it again"));
        }
        Ok(Patch { file, raw, header, index: OnceCell::new() })
    }

    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The header's bytes, which the signature is about.
    pub fn raw(&self) -> &[u8; Header::LEN] {
        &self.raw
    }

    /// SHA-256 of the header, which covers the whole patch.
    pub fn id(&self) -> [u8; 32] {
        digest::sha256(&self.raw)
    }

    pub fn base(&self) -> Version {
        let h = &self.header;
        Version { sequence: h.base_sequence, version: h.base_version.clone(), sha256: h.base_sha }
    }

    pub fn target(&self) -> Version {
        target(&self.header)
    }

    /// The index, after it and the payload have been compared with their digests in the header.
    ///
    /// # Errors
    /// `Input` if they differ, or if the index contradicts the header.
    pub fn verified(&self) -> Result<&Index> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let altered = |part: &str| {
            Error::input(format!("the patch was altered: the digest of its {part} does not match its header"))
                .at_file(self.path())
                .hint("fetch it again")
        };
        // At most 2^24, and no more than the file has: its length was compared.
        let mut bytes = vec![0; self.header.index_len as usize];
        self.file.read(Header::LEN as u64, &mut bytes)?;
        if digest::sha256(&bytes) != self.header.index_sha {
            return Err(altered("index"));
        }
        let index = Index::parse(&bytes, &self.header).map_err(|e| e.at_file(self.path()))?;
        drop(bytes);
        if sha_of(&self.file, self.payload_at()..self.header.patch_len, |_| {})? != self.header.payload_sha {
            return Err(altered("payload"));
        }
        Ok(self.index.get_or_init(|| index))
    }

    fn payload_at(&self) -> u64 {
        Header::LEN as u64 + u64::from(self.header.index_len)
    }

    /// The payload of a block, nothing for one that does not change. It was checked with the index, but the file may have changed since.
    pub(super) fn payload(&self, block: Option<&Block>, out: &mut Vec<u8>) -> Result<()> {
        let range = block.map_or(0..0, |b| b.payload.clone());
        if range.start > range.end || range.end > self.header.payload_len() {
            return Err(Error::input("a payload lies outside of the patch").at_file(self.path()));
        }
        out.resize((range.end - range.start) as usize, 0);
        self.file.read(self.payload_at() + range.start, out)
    }
}

/// What a patch leads to.
pub(super) fn target(h: &Header) -> Version {
    Version { sequence: h.target_sequence, version: h.target_version.clone(), sha256: h.target_sha }
}

/// SHA-256 of a part of a file; `seen` is told how many bytes more are done.
pub(super) fn sha_of(file: &Opened, range: Range<u64>, mut seen: impl FnMut(u64)) -> Result<[u8; 32]> {
    let mut sha = Sha::default();
    let mut part = vec![0; PART];
    let mut at = range.start;
    while at < range.end {
        let n = (range.end - at).min(PART as u64) as usize;
        file.read(at, &mut part[..n])?;
        sha.update(&part[..n]);
        seen(n as u64);
        at += n as u64;
    }
    Ok(sha.finish())
}
