//! The real disk, until something goes wrong.

use bitnet_convert::delta::store::{Access, Disk, Handle, Std};
use std::any::Any;
use std::cell::Cell;
use std::io::{self, Error, ErrorKind};
use std::path::Path;
use std::rc::Rc;

#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The machine stops before the operation of this number that changes anything; it and all after it do not happen.
    Stop(u64),
    /// There is no room for the write of this number, nor for those after it.
    Full(u64),
    /// So many bytes are free, and the disk says so.
    Space(u64),
}

pub struct Failing {
    fault: Fault,
    left: Rc<Cell<u64>>,
}

struct Open {
    inner: Box<dyn Handle>,
    fault: Fault,
    left: Rc<Cell<u64>>,
}

impl Failing {
    pub fn new(fault: Fault) -> Failing {
        let left = match fault {
            Fault::Stop(n) | Fault::Full(n) => n,
            Fault::Space(_) => u64::MAX,
        };
        Failing { fault, left: Rc::new(Cell::new(left)) }
    }
}

/// One operation more; `writes` says whether it needs room.
fn step(fault: Fault, left: &Cell<u64>, writes: bool) -> io::Result<()> {
    if matches!(fault, Fault::Full(_)) && !writes {
        return Ok(());
    }
    match (left.get().checked_sub(1), fault) {
        (Some(n), _) => {
            left.set(n);
            Ok(())
        }
        (None, Fault::Full(_)) => Err(Error::from(ErrorKind::StorageFull)),
        (None, _) => Err(Error::other("the machine has stopped")),
    }
}

impl Handle for Open {
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(at, out)
    }

    fn write_at(&self, at: u64, data: &[u8]) -> io::Result<usize> {
        step(self.fault, &self.left, true)?;
        self.inner.write_at(at, data)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        step(self.fault, &self.left, true)?;
        self.inner.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        step(self.fault, &self.left, false)?;
        self.inner.sync()
    }
}

impl Disk for Failing {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn Handle>> {
        if access == Access::Create {
            step(self.fault, &self.left, true)?;
        }
        Ok(Box::new(Open { inner: Std.open(path, access)?, fault: self.fault, left: self.left.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        step(self.fault, &self.left, false)?;
        Std.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        step(self.fault, &self.left, false)?;
        Std.remove(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        step(self.fault, &self.left, true)?;
        Std.link(from, to)
    }

    fn same(&self, a: &Path, b: &Path) -> io::Result<bool> {
        Std.same(a, b)
    }

    fn sync_dir(&self, file: &Path) -> io::Result<()> {
        step(self.fault, &self.left, false)?;
        Std.sync_dir(file)
    }

    fn copy_mode(&self, from: &Path, to: &Path) -> io::Result<()> {
        step(self.fault, &self.left, false)?;
        Std.copy_mode(from, to)
    }

    fn space(&self, file: &Path) -> io::Result<Option<u64>> {
        match self.fault {
            Fault::Space(n) => Ok(Some(n)),
            _ => Std.space(file),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any>>> {
        Std.lock(path)
    }
}
