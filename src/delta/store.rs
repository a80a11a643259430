//! The few operations of a file system that an update needs, as a trait: the real one here, and a virtual disk in the tests that is cut
//! after every operation.
//!
//! What the code above relies on, no more: written bytes and lengths are durable after [`Handle::sync`], names after
//! [`Disk::sync_dir`]; a rename is seen whole or not at all; until then anything may have reached the medium, in any order.

use crate::error::{Error, Result};
use crate::fsio;
use std::any::Any;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    /// Read and write what is there.
    Write,
    /// A new or emptied file, to read and write.
    Create,
}

/// An open file.
pub trait Handle {
    /// Fewer bytes than asked for are no end; 0 is.
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize>;
    /// May write fewer bytes than given.
    fn write_at(&self, at: u64, data: &[u8]) -> io::Result<usize>;
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|n| n == 0)
    }
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Bytes and length are durable. After a failure nobody knows what is, and a second call proves nothing.
    fn sync(&self) -> io::Result<()>;
}

/// A place with files.
pub trait Disk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn Handle>>;
    /// Atomic; an existing `to` is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// A second name for the same bytes. `Unsupported` where there is no such thing.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Whether two names may stand for the same bytes; yes if that is unknown.
    fn same(&self, a: &Path, b: &Path) -> io::Result<bool>;
    /// Names in the folder of this file are durable.
    fn sync_dir(&self, file: &Path) -> io::Result<()>;
    /// Permissions of a file, if there is one, for another.
    fn copy_mode(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Bytes that may still be written into the folder of this file, if that is known.
    fn space(&self, file: &Path) -> io::Result<Option<u64>>;
    /// Held until the value is dropped. `None`: someone else holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any>>>;
}

/// The file system of this machine.
pub struct Std;

struct StdFile(File);

/// A lock. It is given back by a call, not only by closing the file: a child that another thread is just starting still has the file open.
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // Closing it is the next thing anyway.
        let _ = self.0.unlock();
    }
}

#[cfg(unix)]
impl StdFile {
    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, out, at)
    }
    fn write(&self, at: u64, data: &[u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(&self.0, data, at)
    }
}

#[cfg(windows)]
impl StdFile {
    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.0, out, at)
    }
    fn write(&self, at: u64, data: &[u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(&self.0, data, at)
    }
}

impl Handle for StdFile {
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        self.read(at, out)
    }
    fn write_at(&self, at: u64, data: &[u8]) -> io::Result<usize> {
        self.write(at, data)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|m| m.len())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Disk for Std {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn Handle>> {
        let mut how = File::options();
        let file = match access {
            Access::Read => how.read(true),
            Access::Write => how.read(true).write(true),
            Access::Create => how.read(true).write(true).create(true).truncate(true),
        }
        .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "this is not a regular file"));
        }
        Ok(Box::new(StdFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        match fs::hard_link(from, to) {
            // What FAT, some network file systems and containers answer.
            Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::CrossesDevices) => {
                Err(ErrorKind::Unsupported.into())
            }
            r => r,
        }
    }

    #[cfg(unix)]
    fn same(&self, a: &Path, b: &Path) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let (a, b) = (fs::metadata(a)?, fs::metadata(b)?);
        Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
    }

    #[cfg(not(unix))]
    fn same(&self, a: &Path, b: &Path) -> io::Result<bool> {
        Ok(fs::exists(a)? && fs::exists(b)?)
    }

    fn sync_dir(&self, file: &Path) -> io::Result<()> {
        // Elsewhere a folder cannot be opened, and the file system orders its own names.
        if cfg!(unix) {
            File::open(folder(file))?.sync_all()?;
        }
        Ok(())
    }

    fn copy_mode(&self, from: &Path, to: &Path) -> io::Result<()> {
        match fs::metadata(from) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            m => fs::set_permissions(to, m?.permissions()),
        }
    }

    #[cfg(unix)]
    fn space(&self, file: &Path) -> io::Result<Option<u64>> {
        let s = rustix::fs::statvfs(folder(file))?;
        Ok(Some(s.f_bavail.saturating_mul(s.f_frsize)))
    }

    #[cfg(not(unix))]
    fn space(&self, _: &Path) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any>>> {
        // The file stays: whoever removed it would let two others lock two different files of this name.
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(Held(file)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            // A file system without locks: an update must not depend on them.
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => Ok(Some(Box::new(file))),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

/// `FILE` with more behind its name.
pub fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    file.with_file_name(name)
}

/// An open file with its name, whose errors say what failed where.
pub struct Opened {
    pub path: PathBuf,
    handle: Box<dyn Handle>,
}

impl Opened {
    /// # Errors
    /// `Io`.
    pub fn open(disk: &dyn Disk, path: &Path, access: Access) -> Result<Opened> {
        let what = match access {
            Access::Read => "open the file",
            Access::Write => "open the file for writing",
            Access::Create => "create the file",
        };
        let handle = disk.open(path, access).map_err(|e| Error::io(what, path, &e))?;
        Ok(Opened { path: path.to_path_buf(), handle })
    }

    pub fn len(&self) -> Result<u64> {
        self.handle.len().map_err(|e| Error::io("read the size", &self.path, &e))
    }

    pub fn is_empty(&self) -> Result<bool> {
        self.len().map(|n| n == 0)
    }

    /// Reads until `out` is full or the file ends; the number of bytes read.
    pub fn read_some(&self, at: u64, out: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < out.len() {
            match self.handle.read_at(at + done as u64, &mut out[done..]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read the file", &self.path, &e).at_offset(at)),
            }
        }
        Ok(done)
    }

    /// # Errors
    /// `Input` if the file ends before.
    pub fn read(&self, at: u64, out: &mut [u8]) -> Result<()> {
        let n = self.read_some(at, out)?;
        if n < out.len() {
            return Err(Error::input("the file ends before it should")
                .at_file(&self.path)
                .at_offset(at + n as u64)
                .hint("it is incomplete or someone is writing it; fetch it again"));
        }
        Ok(())
    }

    pub fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < data.len() {
            match self.handle.write_at(at + done as u64, &data[done..]) {
                Ok(0) => return Err(Error::io("write the file", &self.path, &ErrorKind::WriteZero.into())),
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("write the file", &self.path, &e).at_offset(at)),
            }
        }
        Ok(())
    }

    pub fn set_len(&self, len: u64) -> Result<()> {
        self.handle.set_len(len).map_err(|e| Error::io("set the size", &self.path, &e))
    }

    /// # Errors
    /// `Io`: the caller stops. Systems forget what they could not write, so a second try would succeed and prove nothing.
    pub fn sync(&self) -> Result<()> {
        self.handle.sync().map_err(|e| Error::io("bring the file to the disk", &self.path, &e))
    }
}

/// A file under a name of its own until it is complete; an interrupt of the program removes it.
pub struct Fresh<'a> {
    disk: &'a dyn Disk,
    pub file: Opened,
    named: bool,
}

impl<'a> Fresh<'a> {
    /// # Errors
    /// `Io`.
    pub fn create(disk: &'a dyn Disk, path: &Path) -> Result<Fresh<'a>> {
        // Another run of ours left this behind; it may be a second name of something.
        remove(disk, path)?;
        let file = fsio::pending_while(path, || Opened::open(disk, path, Access::Create))?;
        Ok(Fresh { disk, file, named: false })
    }

    /// A complete file that is to get another name.
    ///
    /// # Errors
    /// `Io`.
    pub fn adopt(disk: &'a dyn Disk, path: &Path) -> Result<Fresh<'a>> {
        let file = fsio::pending_while(path, || Opened::open(disk, path, Access::Write))?;
        Ok(Fresh { disk, file, named: false })
    }

    /// Gives it its name; bytes must be synced before. The name is durable after the next [`Disk::sync_dir`].
    pub fn rename(mut self, to: &Path) -> Result<()> {
        self.named = true;
        fsio::finished_by(&self.file.path, || rename(self.disk, &self.file.path, to))
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        if !self.named {
            // Best effort: an error is already on its way to the user.
            let _ = fsio::finished_by(&self.file.path, || self.disk.remove(&self.file.path));
        }
    }
}

/// # Errors
/// `Io`.
pub fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
    disk.rename(from, to).map_err(|e| Error::io("rename the file", from, &e))
}

/// Removes a file if it is there.
///
/// # Errors
/// `Io`.
pub fn remove(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.remove(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove the file", path, &e)),
        _ => Ok(()),
    }
}

/// # Errors
/// `Io`.
pub fn sync_dir(disk: &dyn Disk, file: &Path) -> Result<()> {
    disk.sync_dir(file).map_err(|e| Error::io("bring the folder to the disk", file, &e))
}

/// The file if it is there.
///
/// # Errors
/// `Io` for any other reason than that it is not.
pub fn open_if_there(disk: &dyn Disk, path: &Path, access: Access) -> Result<Option<Opened>> {
    match disk.open(path, access) {
        Ok(handle) => Ok(Some(Opened { path: path.to_path_buf(), handle })),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("open the file", path, &e)),
    }
}

/// A small file, complete under its name or not there: written aside, synced, renamed, the folder synced.
///
/// # Errors
/// `Io`.
pub fn write_whole(disk: &dyn Disk, path: &Path, data: &[u8]) -> Result<()> {
    let new = Fresh::create(disk, &beside(path, ".new"))?;
    new.file.write(0, data)?;
    new.file.sync()?;
    new.rename(path)?;
    sync_dir(disk, path)
}
