//! The disk of this machine, with somebody who is asked before each operation that changes it.

// Each test uses a part of it.
#![allow(dead_code)]

use bitnet_convert::delta::store::{Access, Disk, Handle, Std};
use std::any::Any;
use std::io;
use std::path::Path;
use std::rc::Rc;

/// An operation that changes a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Create,
    Write,
    Length,
    Sync,
    Rename,
    Remove,
    Link,
    SyncFolder,
    CopyMode,
}

type Ask = Rc<dyn Fn(Change) -> io::Result<()>>;

pub struct Watched {
    ask: Ask,
    halves: bool,
    free: Option<u64>,
}

struct Open {
    inner: Box<dyn Handle>,
    ask: Ask,
    halves: bool,
}

impl Watched {
    /// An error of `ask` is that of the operation, which then does not happen.
    pub fn new(ask: impl Fn(Change) -> io::Result<()> + 'static) -> Watched {
        Watched { ask: Rc::new(ask), halves: false, free: None }
    }

    /// A write puts only the first half there, as a system may do.
    pub fn in_halves(self) -> Watched {
        Watched { halves: true, ..self }
    }

    /// It says that so many bytes are free.
    pub fn with_free(self, bytes: u64) -> Watched {
        Watched { free: Some(bytes), ..self }
    }
}

impl Handle for Open {
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(at, out)
    }
    fn write_at(&self, at: u64, data: &[u8]) -> io::Result<usize> {
        (self.ask)(Change::Write)?;
        self.inner.write_at(at, &data[..if self.halves { data.len().div_ceil(2) } else { data.len() }])
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        (self.ask)(Change::Length)?;
        self.inner.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        (self.ask)(Change::Sync)?;
        self.inner.sync()
    }
}

impl Disk for Watched {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn Handle>> {
        if access == Access::Create {
            (self.ask)(Change::Create)?;
        }
        Ok(Box::new(Open { inner: Std.open(path, access)?, ask: self.ask.clone(), halves: self.halves }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.ask)(Change::Rename)?;
        Std.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        (self.ask)(Change::Remove)?;
        Std.remove(path)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.ask)(Change::Link)?;
        Std.link(from, to)
    }
    fn same(&self, a: &Path, b: &Path) -> io::Result<bool> {
        Std.same(a, b)
    }
    fn sync_dir(&self, file: &Path) -> io::Result<()> {
        (self.ask)(Change::SyncFolder)?;
        Std.sync_dir(file)
    }
    fn copy_mode(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.ask)(Change::CopyMode)?;
        Std.copy_mode(from, to)
    }
    fn space(&self, file: &Path) -> io::Result<Option<u64>> {
        match self.free {
            Some(n) => Ok(Some(n)),
            None => Std.space(file),
        }
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any>>> {
        Std.lock(path)
    }
}
