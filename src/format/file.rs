//! A file of tensors, whatever its container: names, types, shapes and bytes.

use super::gguf::{self, Metadata};
use super::{safetensors, torch_bin};
use crate::error::{Error, Result};
use crate::fsio::{self, Mapped};
use crate::tensor::{DType, RowOrder, TensorView};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The tensors of a file by name.
pub type Entries = BTreeMap<String, Entry>;

/// A tensor as its container describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub data: Bytes,
}

/// Where the bytes of a tensor are: row-major, as long as type and shape say.
#[derive(Debug, Clone, PartialEq)]
pub enum Bytes {
    /// In the file.
    At(Range<usize>),
    /// Put in order while the container was read: strided views, which are rare.
    Owned(Vec<u8>),
}

/// Another name for a tensor or for a run of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// Name in the file.
    pub tensor: String,
    pub shape: Vec<usize>,
    /// Row of the stored tensor that it begins with.
    pub first: usize,
    pub rows: RowOrder,
}

/// A mapped file of tensors.
pub struct File {
    pub path: PathBuf,
    map: Mapped,
    entries: Entries,
    metadata: Option<Metadata>,
    /// Names in place of those of the file.
    aliases: Option<BTreeMap<String, Alias>>,
}

impl File {
    /// Opens a file of any container; the first bytes decide, not the name.
    ///
    /// # Errors
    /// `Io` if it cannot be mapped, `Input` if it is damaged, `Unsupported` for what is no container of tensors.
    pub fn open(path: &Path) -> Result<File> {
        File::from_mapped(fsio::map(path)?, path)
    }

    /// As [`File::open`], for bytes in memory.
    pub fn from_bytes(data: Vec<u8>, path: &Path) -> Result<File> {
        File::from_mapped(Mapped::Bytes(data), path)
    }

    fn from_mapped(map: Mapped, path: &Path) -> Result<File> {
        let mut metadata = None;
        let entries = match &map[..] {
            f if f.starts_with(gguf::MAGIC) => gguf::parse(f).map(|g| {
                metadata = Some(g.metadata);
                g.entries
            }),
            f if f.starts_with(torch_bin::MAGIC) => torch_bin::parse(f),
            f if f.starts_with(torch_bin::LEGACY_MAGIC) => Err(torch_bin::legacy()),
            f => safetensors::parse(f),
        };
        let entries = entries.map_err(|e: Error| e.at_file(path))?;
        Ok(File { path: path.to_path_buf(), map, entries, metadata, aliases: None })
    }

    /// The key-value part of a GGUF file.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    /// Gives the tensors other names; those of the file are not found any more.
    pub fn set_names(&mut self, aliases: BTreeMap<String, Alias>) {
        self.aliases = Some(aliases);
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        let own = self.entries.keys().filter(|_| self.aliases.is_none());
        own.chain(self.aliases.iter().flat_map(|a| a.keys())).map(String::as_str)
    }

    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let Some(aliases) = &self.aliases else { return self.stored(name) };
        let (name, alias) = aliases.get_key_value(name)?;
        let whole = self.stored(&alias.tensor)?;
        let stored_rows = whole.shape.first().copied().unwrap_or(1).max(1);
        let (row, row_bytes) = (whole.elements() / stored_rows, whole.data.len() / stored_rows);
        let rows = alias.shape.iter().product::<usize>() / row.max(1);
        // The whole tensor may have more bytes than its rows: one scale behind all of them.
        let (first, len) = match rows == stored_rows {
            true => (0, whole.data.len()),
            false => (alias.first.checked_mul(row_bytes)?, rows.checked_mul(row_bytes)?),
        };
        let data = whole.data.get(first..first.checked_add(len)?)?;
        let offset = whole.offset + first as u64;
        Some(TensorView { name, shape: &alias.shape, data, offset, rows: alias.rows, ..whole })
    }

    fn stored(&self, name: &str) -> Option<TensorView<'_>> {
        let (name, e) = self.entries.get_key_value(name)?;
        let (data, offset) = match &e.data {
            Bytes::At(r) => (&self.map[r.clone()], r.start as u64),
            Bytes::Owned(v) => (&v[..], 0),
        };
        Some(TensorView { name, dtype: e.dtype, shape: &e.shape, data, rows: RowOrder::Stored, offset })
    }

    pub fn len(&self) -> u64 {
        self.map.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// See [`Mapped::release`].
    pub fn release(&self, part: &[u8]) {
        self.map.release(part);
    }

    /// The whole file, for its digest.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}
