//! The packed container: header, section table, sections. docs/format/packed.md is the normative text.

use crate::bytes::{put_u32, Reader};
use crate::digest;
use crate::error::{Error, Result};
use crate::fsio::{self, AtomicFile, Mapped};
use crate::limits::MAX_SECTIONS;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub const MAGIC: [u8; 8] = [0x89, b'B', b'N', b'E', b'T', 0x0D, 0x0A, 0x1A];
pub const MAJOR: u16 = 1;
pub const MINOR: u16 = 0;
const HEADER: usize = 64;
const ENTRY: usize = 64;
const ENDIAN: u32 = 0x0102_0304;

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Kind {
    Program = 1,
    Tables = 2,
    Weights = 3,
    Tokenizer = 4,
    Golden = 5,
    Manifest = 16,
    TokenizerJson = 17,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Program,
        Kind::Tables,
        Kind::Weights,
        Kind::Tokenizer,
        Kind::Golden,
        Kind::Manifest,
        Kind::TokenizerJson,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Program => "program",
            Kind::Tables => "tables",
            Kind::Weights => "weights",
            Kind::Tokenizer => "device tokenizer",
            Kind::Golden => "golden trace",
            Kind::Manifest => "manifest",
            Kind::TokenizerJson => "tokenizer.json",
        }
    }

    fn from_u32(v: u32) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| *k as u32 == v)
    }
}

/// A section of an opened file.
#[derive(Debug, Clone)]
pub struct Section {
    /// None for kinds from 32 on, which a reader passes over.
    pub kind: Option<Kind>,
    pub range: Range<usize>,
    pub crc: u32,
    pub sha256: [u8; 32],
}

/// Where the first section of a file with `count` sections starts.
pub fn first_offset(count: usize) -> u64 {
    (HEADER + ENTRY * count).next_multiple_of(64) as u64
}

/// Length of a file with sections of these lengths.
pub fn file_length(sections: &[u64]) -> u64 {
    sections.iter().fold(first_offset(sections.len()), |at, n| at.next_multiple_of(64) + n)
}

/// A packed file, mapped or in memory, whose header, table and section digests have been checked.
pub struct Packed {
    pub path: PathBuf,
    data: Mapped,
    pub sections: Vec<Section>,
}

impl Packed {
    /// Maps and checks a file, every section's digest included. Not while an update in place of it is unfinished.
    ///
    /// # Errors
    /// `Input` with the byte offset of what is wrong; `Unsupported` for another major version.
    pub fn open(path: &Path) -> Result<Packed> {
        Packed::from_mapped(fsio::map_whole(path)?, path)
    }

    pub fn from_bytes(data: Vec<u8>, path: &Path) -> Result<Packed> {
        Packed::from_mapped(Mapped::Bytes(data), path)
    }

    fn from_mapped(data: Mapped, path: &Path) -> Result<Packed> {
        let sections = parse(&data).map_err(|e| e.at_file(path))?;
        for s in &sections {
            let bytes = &data[s.range.clone()];
            if digest::crc32(bytes) != s.crc || digest::sha256(bytes) != s.sha256 {
                let name = s.kind.map_or("unknown", Kind::name);
                return Err(Error::input(format!("the digest of the {name} section does not match its bytes"))
                    .at_offset(s.range.start as u64)
                    .at_file(path)
                    .hint("the file was damaged after it was written; copy or export it again"));
            }
        }
        Ok(Packed { path: path.to_path_buf(), data, sections })
    }

    /// Bytes of a section, if the file has it.
    pub fn section(&self, kind: Kind) -> Option<&[u8]> {
        self.find(kind).map(|s| &self.data[s.range.clone()])
    }

    /// Offset of a section in the file, for messages.
    pub fn offset(&self, kind: Kind) -> u64 {
        self.find(kind).map_or(0, |s| s.range.start as u64)
    }

    /// # Errors
    /// `Input` if the section is missing.
    pub fn require(&self, kind: Kind) -> Result<&[u8]> {
        self.section(kind).ok_or_else(|| {
            Error::input(format!("the file has no {} section, which every runtime needs", kind.name()))
                .at_file(&self.path)
        })
    }

    fn find(&self, kind: Kind) -> Option<&Section> {
        self.sections.iter().find(|s| s.kind == Some(kind))
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }
}

/// Header and table; no digest of a section is computed here.
fn parse(data: &[u8]) -> Result<Vec<Section>> {
    let mut r = Reader::new(data, 0, "packed header");
    if r.take(8)? != MAGIC {
        return Err(Error::input("this is no packed model: the first eight bytes are not those of the format")
            .at_offset(0)
            .hint("`bitnet-convert export --model DIR --format packed -o model.bitnet` writes one"));
    }
    let version = r.u32()?;
    let (major, minor) = (version as u16, (version >> 16) as u16);
    if major != MAJOR {
        return Err(Error::unsupported(format!("packed format {major}.{minor}; this version reads {MAJOR}.x"))
            .at_offset(8)
            .hint("export the model again with this version, or use the version that wrote it"));
    }
    let count = r.count("number of sections", 1..=MAX_SECTIONS)?;
    let length = r.u64()?;
    if length != data.len() as u64 {
        return Err(Error::input(format!("the header says {length} bytes, the file has {}", data.len()))
            .at_offset(16)
            .hint("the file is incomplete or has something appended; copy it again"));
    }
    if r.u32()? != ENDIAN {
        return Err(r.error("wrong byte order mark"));
    }
    let crc = r.u32()?;
    let sha = r.take(32)?;
    let table = r.take(count * ENTRY)?;
    let mut covered = data[..28].to_vec();
    covered.resize(HEADER, 0);
    covered.extend_from_slice(table);
    if digest::crc32(&covered) != crc || digest::sha256(&covered) != sha {
        return Err(Error::input("the digest of the header and section table does not match").at_offset(28));
    }
    let mut sections: Vec<Section> = Vec::with_capacity(count);
    let mut at = first_offset(count) as usize;
    let mut gap = HEADER + count * ENTRY;
    let mut t = Reader::new(table, HEADER as u64, "section table");
    for _ in 0..count {
        let kind = t.u32()?;
        let known = Kind::from_u32(kind);
        if known.is_none() && kind < 32 {
            return Err(t.error(format!("section kind {kind} is not defined in format {MAJOR}.{MINOR}")));
        }
        if sections.iter().any(|s| s.kind.is_some() && s.kind == known) {
            return Err(t.error(format!("section kind {kind} occurs twice")));
        }
        t.reserved()?;
        let (offset, length) = (t.u64()?, t.u64()?);
        let crc = t.u32()?;
        t.reserved()?;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(t.take(32)?);
        if offset != at as u64 {
            return Err(t.error(format!("a section starts at {offset}, {at} is its place")));
        }
        let end = offset.checked_add(length).filter(|e| length > 0 && *e <= data.len() as u64);
        let end =
            end.ok_or_else(|| t.error(format!("a section of {length} bytes at {offset} leaves the file")))? as usize;
        if data[gap..at].iter().any(|b| *b != 0) {
            return Err(t.error("padding before a section is not zero"));
        }
        sections.push(Section { kind: known, range: at..end, crc, sha256 });
        gap = end;
        at = end.next_multiple_of(64);
    }
    if gap != data.len() {
        return Err(Error::input(format!("{} bytes after the last section", data.len() - gap)).at_offset(gap as u64));
    }
    Ok(sections)
}

/// Writes a packed file section by section; the header comes last. Nothing appears under the target's name before [`Writer::finish`].
pub struct Writer {
    file: AtomicFile,
    count: usize,
    at: u64,
    entries: Vec<u8>,
    open: Option<(Kind, u64, digest::Both)>,
    written: usize,
}

impl Writer {
    /// `count`: how many sections will be written.
    pub fn create(target: &Path, count: usize) -> Result<Writer> {
        let mut file = AtomicFile::create(target)?;
        let at = first_offset(count);
        file.write(&vec![0; at as usize])?;
        Ok(Writer { file, count, at, entries: Vec::new(), open: None, written: 0 })
    }

    /// Starts a section; [`Writer::write`] fills it.
    pub fn begin(&mut self, kind: Kind) -> Result<()> {
        self.end()?;
        let aligned = self.at.next_multiple_of(64);
        self.file.write(&vec![0; (aligned - self.at) as usize])?;
        self.at = aligned;
        self.open = Some((kind, aligned, digest::Both::default()));
        Ok(())
    }

    pub fn write(&mut self, data: &[u8]) -> Result<()> {
        if let Some((_, _, both)) = &mut self.open {
            both.update(data);
        }
        self.file.write(data)?;
        self.at += data.len() as u64;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if let Some((kind, start, both)) = self.open.take() {
            let (crc, sha) = both.finish();
            put_u32(&mut self.entries, kind as u32);
            put_u32(&mut self.entries, 0);
            self.entries.extend_from_slice(&start.to_le_bytes());
            self.entries.extend_from_slice(&(self.at - start).to_le_bytes());
            put_u32(&mut self.entries, crc);
            put_u32(&mut self.entries, 0);
            self.entries.extend_from_slice(&sha);
            self.written += 1;
        }
        Ok(())
    }

    pub fn section(&mut self, kind: Kind, data: &[u8]) -> Result<()> {
        self.begin(kind)?;
        self.write(data)
    }

    /// Maps what has been written so far of the open section, so that the rest can be computed from it.
    pub fn map_open_section(&mut self) -> Result<MappedPart> {
        let start = self.open.as_ref().map_or(self.at, |o| o.1) as usize;
        Ok(MappedPart { map: fsio::map(self.file.temp_path())?, range: start..self.at as usize })
    }

    /// Writes the header, syncs and renames; returns the length of the file.
    pub fn finish(mut self) -> Result<u64> {
        self.end()?;
        debug_assert_eq!(self.written, self.count, "the number of sections was announced");
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&MAJOR.to_le_bytes());
        head.extend_from_slice(&MINOR.to_le_bytes());
        put_u32(&mut head, self.count as u32);
        head.extend_from_slice(&self.at.to_le_bytes());
        put_u32(&mut head, ENDIAN);
        let mut covered = head.clone();
        covered.resize(HEADER, 0);
        covered.extend_from_slice(&self.entries);
        put_u32(&mut head, digest::crc32(&covered));
        head.extend_from_slice(&digest::sha256(&covered));
        self.file.write_at(0, &head)?;
        self.file.write_at(HEADER as u64, &self.entries)?;
        self.file.commit()?;
        Ok(self.at)
    }
}

/// A part of a file that is still being written.
pub struct MappedPart {
    map: Mapped,
    range: Range<usize>,
}

impl std::ops::Deref for MappedPart {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }
}

/// Makes every digest of a packed file right, as far as its table can be followed. For tests and fuzzing: it lets changed contents
/// reach the checks behind the digests.
pub fn reseal(data: &mut [u8]) {
    let word =
        |d: &[u8], at: usize| d.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let count = word(data, 12).min(MAX_SECTIONS);
    let table = HEADER + ENTRY * count;
    if data.len() < table {
        return;
    }
    for i in 0..count {
        let at = HEADER + ENTRY * i;
        let (start, len) = (word(data, at + 8), word(data, at + 16));
        if let Some(body) = start.checked_add(len).and_then(|end| data.get(start..end)) {
            let (crc, sha) = (digest::crc32(body), digest::sha256(body));
            data[at + 24..at + 28].copy_from_slice(&crc.to_le_bytes());
            data[at + 32..at + 64].copy_from_slice(&sha);
        }
    }
    let mut covered = data[..28].to_vec();
    covered.resize(HEADER, 0);
    covered.extend_from_slice(&data[HEADER..table]);
    data[28..32].copy_from_slice(&digest::crc32(&covered).to_le_bytes());
    data[32..64].copy_from_slice(&digest::sha256(&covered));
}
