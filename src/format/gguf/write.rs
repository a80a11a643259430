//! Writing a GGUF file (version 3, little-endian) from its first tensor to its last. The header goes in front when the last one is there:
//! its length does not depend on types and offsets, so a tensor's type may be chosen when its turn comes.

use super::keys::{push_text, Keys};
use super::{types, MAGIC, MAX_DIMS, MAX_NAME};
use crate::error::{Error, Result};
use crate::fsio::AtomicFile;
use crate::tensor::DType;
use std::collections::BTreeSet;
use std::path::Path;

const VERSION: u32 = 3;
/// Small writes are collected up to this many bytes.
const BUFFER: usize = 1 << 18;

/// A tensor that a file will hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
    /// Outermost first, `[out, in]` for a matrix; the file has them the other way round.
    pub shape: Vec<usize>,
}

/// What became of a tensor.
#[derive(Clone, Copy)]
struct Placed {
    id: u32,
    offset: u64,
}

/// A file that is being written.
pub struct Writer {
    file: AtomicFile,
    keys: Keys,
    tensors: Vec<TensorInfo>,
    placed: Vec<Placed>,
    alignment: u64,
    /// Bytes that the header takes, with the padding behind it.
    start: u64,
    /// Bytes of tensor data so far.
    at: u64,
    /// Bytes that the current tensor still needs.
    missing: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// Checks what can be checked of a header and leaves room for it. The names and shapes are those of all tensors in their order; the
    /// alignment is what `general.alignment` says.
    ///
    /// # Errors
    /// `Input` for names that are empty, too long or there twice, shapes without elements or with more than four dimensions, and keys that
    /// no reader takes; `Io` if the output cannot be created.
    pub fn create(path: &Path, keys: Keys, tensors: Vec<TensorInfo>) -> Result<Writer> {
        keys.check()?;
        let alignment = keys.alignment()?;
        let mut names = BTreeSet::new();
        for t in &tensors {
            let error = |what: String| Err(Error::input(what).at_tensor(&t.name));
            if t.name.is_empty() || t.name.len() > MAX_NAME {
                return error(format!("a tensor's name in GGUF has 1 to {MAX_NAME} bytes, this one {}", t.name.len()));
            }
            if !names.insert(t.name.as_str()) {
                return error("two tensors have this name".into());
            }
            let elements = t.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).unwrap_or(0);
            if t.shape.is_empty() || t.shape.len() > MAX_DIMS as usize || elements == 0 {
                return error(format!("GGUF has no tensors of shape {:?}", t.shape));
            }
        }
        let mut file = AtomicFile::create(path)?;
        let unknown = vec![Placed { id: 0, offset: 0 }; tensors.len()];
        let start = header(&keys, &tensors, &unknown, alignment).len() as u64;
        let zeros = vec![0; BUFFER];
        let mut left = start;
        while left > 0 {
            let n = left.min(BUFFER as u64);
            file.write(&zeros[..n as usize])?;
            left -= n;
        }
        let placed = Vec::with_capacity(tensors.len());
        Ok(Writer { file, keys, tensors, placed, alignment, start, at: 0, missing: 0, buffer: Vec::new() })
    }

    /// Begins the next tensor and says how many bytes it has.
    ///
    /// # Errors
    /// `Unsupported` if its shape is none that the type can have, or the type none that is written; `Input` if it is another tensor's turn.
    pub fn begin(&mut self, name: &str, dtype: DType) -> Result<u64> {
        let turn = self.tensors.get(self.placed.len()).filter(|t| t.name == name && self.missing == 0);
        let Some(t) = turn else {
            let what = match self.tensors.get(self.placed.len()) {
                _ if self.missing > 0 => format!("{} bytes of the tensor before it are missing", self.missing),
                Some(t) => format!("the next tensor of the file is `{}`", t.name),
                None => "the file has no more tensors".into(),
            };
            return Err(Error::input(what).at_tensor(name));
        };
        let id = types::id(dtype).ok_or_else(|| {
            Error::unsupported(format!("{} is no type that is written to GGUF files", dtype.name())).at_tensor(name)
        })?;
        let elements = t.shape.iter().product();
        let bytes = types::size(dtype, &t.shape, elements).ok_or_else(|| {
            let (shape, multiple) = (&t.shape, types::multiple(&[dtype]));
            let what =
                format!("shape {shape:?} has no rows of a multiple of {multiple}, the block of {}", dtype.name());
            Error::unsupported(what).at_tensor(name)
        })?;
        self.pad()?;
        self.placed.push(Placed { id, offset: self.at });
        self.missing = bytes as u64;
        Ok(bytes as u64)
    }

    /// The next bytes of the current tensor.
    ///
    /// # Errors
    /// `Input` if it has fewer; `Io` if they cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let n = bytes.len() as u64;
        if n > self.missing {
            let e = Error::input(format!("{n} bytes more than the {} that are missing", self.missing));
            return Err(match self.placed.len().checked_sub(1).and_then(|i| self.tensors.get(i)) {
                Some(t) => e.at_tensor(&t.name),
                None => e,
            });
        }
        self.missing -= n;
        self.append(bytes)
    }

    /// Keys may change until the file is finished, if their length does not: a number that is known late.
    pub fn keys(&mut self) -> &mut Keys {
        &mut self.keys
    }

    /// Writes the header and gives the file its name. Returns its length.
    ///
    /// # Errors
    /// `Input` if tensors or bytes are missing, `Io` if the file cannot be finished.
    pub fn finish(mut self) -> Result<u64> {
        if let Some(t) = self.tensors.get(self.placed.len().saturating_sub(usize::from(self.missing > 0))) {
            return Err(Error::input("the tensor was announced and not written").at_tensor(&t.name));
        }
        self.pad()?;
        self.flush()?;
        let header = header(&self.keys, &self.tensors, &self.placed, self.alignment);
        if header.len() as u64 != self.start {
            return Err(Error::input("the keys have another length than at the beginning"));
        }
        self.file.write_at(0, &header)?;
        self.file.commit()?;
        Ok(self.start + self.at)
    }

    /// Zeros up to the next multiple of the alignment.
    fn pad(&mut self) -> Result<()> {
        let n = self.at.next_multiple_of(self.alignment) - self.at;
        self.append(&vec![0; n as usize])
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.at += bytes.len() as u64;
        if bytes.len() >= BUFFER {
            self.flush()?;
            return self.file.write(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

fn header(keys: &Keys, tensors: &[TensorInfo], placed: &[Placed], alignment: u64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((keys.len() as u64).to_le_bytes());
    keys.wire(&mut out);
    for (t, p) in tensors.iter().zip(placed) {
        push_text(&mut out, &t.name);
        out.extend((t.shape.len() as u32).to_le_bytes());
        t.shape.iter().rev().for_each(|n| out.extend((*n as u64).to_le_bytes()));
        out.extend(p.id.to_le_bytes());
        out.extend(p.offset.to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(alignment as usize), 0);
    out
}
