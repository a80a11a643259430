//! Reading by mapping, writing so that a killed run leaves the old file or the new one, never half.
//!
//! Outputs go to a temporary sibling, are synced and then renamed: someone may have the old file mapped, and a rename leaves that
//! mapping intact, while writing in place would change the bytes under a running model.

use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Temporary paths of this process, so that an interrupt can remove them.
static PENDING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn pending() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
    // A poisoned set is still a set of paths.
    PENDING.lock().unwrap_or_else(|e| e.into_inner())
}

/// Removes the temporary outputs of this process. Called on SIGINT and SIGTERM.
pub fn remove_pending() {
    let paths = pending();
    for p in paths.iter() {
        // The writing thread may still add a file while its directory is emptied, so one failure is not the end.
        let remove = || if p.is_dir() { fs::remove_dir_all(p) } else { fs::remove_file(p) };
        let _ = (0..5).any(|_| remove().is_ok());
    }
    // Stays locked until the process is gone: the thread that writes must create and rename nothing any more.
    std::mem::forget(paths);
}

/// Runs something short that creates files in a temporary directory: an interrupt comes before it or after it, so that it removes
/// all of them.
pub fn undisturbed<T>(f: impl FnOnce() -> T) -> T {
    let _no_removal_meanwhile = pending();
    f()
}

/// Where the journal of a file lies that is being changed in place.
pub fn journal(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".journal");
    file.with_file_name(name)
}

/// What readers of a file say while its journal is there.
pub fn in_progress(file: &Path) -> Error {
    Error::usage("an update of this file is in progress or was interrupted: it is neither the old nor the new version")
        .at_file(file)
        .hint("finish it with the same patch, `bitnet-convert delta apply FILE PATCH --in-place`, or replace the file by a full patch")
}

/// Maps a file that updates in place may change: not while one is under way.
///
/// # Errors
/// Those of [`map`], and `Usage` while its journal is there.
pub fn map_whole(path: &Path) -> Result<Mapped> {
    match fs::symlink_metadata(journal(&fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf()))) {
        Ok(_) => Err(in_progress(path)),
        Err(_) => map(path),
    }
}

/// Gives the pages of the program's code and constants back that were read so far; what is still needed comes back by itself. Starting up
/// reads much more of a large program than some work that must do with little memory. Does nothing where the system does not say where they lie.
pub fn forget_code() {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        use rustix::mm::{madvise, Advice};
        let here = forget_code as *const () as usize;
        let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
        let maps: Vec<Mapping> = maps.lines().filter_map(Mapping::parse).collect();
        let Some(code) = maps.iter().find(|m| (m.from..m.to).contains(&here)) else { return };
        // Constants are what lies at the beginning of the same file. What the linker wrote to lies behind the code.
        let never_written = |m: &&Mapping| {
            m.path == code.path && (m.rights.starts_with("r-xp") || m.rights.starts_with("r--p 00000000 "))
        };
        for m in maps.iter().filter(never_written) {
            // SAFETY: the whole of a private read-only mapping of a file, which nothing writes: its pages are read again when they are used.
            let _ = unsafe { madvise(m.from as *mut _, m.to - m.from, Advice::LinuxDontNeed) };
        }
    }
}

/// A line of /proc/self/maps.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
struct Mapping<'a> {
    from: usize,
    to: usize,
    /// Then the offset in the file.
    rights: &'a str,
    path: &'a str,
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
impl Mapping<'_> {
    fn parse(line: &str) -> Option<Mapping<'_>> {
        let (range, rights) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let path = &rights[rights.find('/')?..];
        Some(Mapping {
            from: usize::from_str_radix(from, 16).ok()?,
            to: usize::from_str_radix(to, 16).ok()?,
            rights,
            path,
        })
    }
}

/// Creates something that an interrupt removes again, until [`finished_by`] is called for this path.
pub fn pending_while<T>(path: &Path, create: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut list = pending();
    let created = create()?;
    list.insert(path.to_path_buf());
    Ok(created)
}

/// Renames or removes what [`pending_while`] created; an interrupt comes before or after it.
pub fn finished_by<T>(path: &Path, finish: impl FnOnce() -> T) -> T {
    let mut list = pending();
    let done = finish();
    list.remove(path);
    done
}

/// Maps a file read-only. An empty file gives an empty slice.
pub enum Mapped {
    Map(memmap2::Mmap),
    Bytes(Vec<u8>),
}

impl std::ops::Deref for Mapped {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Mapped::Map(m) => m,
            Mapped::Bytes(b) => b,
        }
    }
}

impl Mapped {
    /// Says that a part of this mapping is not needed soon, so that its pages do not count as memory of this process. It can be read as before.
    pub fn release(&self, part: &[u8]) {
        let Mapped::Map(m) = self else { return };
        let at = (part.as_ptr() as usize).wrapping_sub(m.as_ptr() as usize);
        if at >= m.len() || part.len() > m.len() - at {
            return; // bytes that live elsewhere
        }
        // SAFETY: the mapping is read-only and of a file: dropped pages come back with the same bytes.
        #[cfg(unix)]
        let _ = unsafe { m.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, at, part.len()) };
    }
}

/// # Errors
/// `Io` with the path.
pub fn map(path: &Path) -> Result<Mapped> {
    let f = File::open(path).map_err(|e| Error::io("open the file", path, &e))?;
    let meta = f.metadata().map_err(|e| Error::io("read the size", path, &e))?;
    if !meta.is_file() {
        return Err(Error::usage("this is not a regular file").at_file(path));
    }
    if meta.len() == 0 {
        return Ok(Mapped::Bytes(Vec::new()));
    }
    // SAFETY: the mapping is read-only and private to us. Another process that truncates the file while we read would
    // end this one with SIGBUS; our own writers never do (they rename), and the alternative is to copy every checkpoint.
    let m = unsafe { memmap2::Mmap::map(&f) }.map_err(|e| Error::io("map the file", path, &e))?;
    Ok(Mapped::Map(m))
}

/// Reads a small text or JSON file whole, refusing more than `cap` bytes before reading.
pub fn read_capped(path: &Path, cap: u64) -> Result<Vec<u8>> {
    let f = File::open(path).map_err(|e| Error::io("open the file", path, &e))?;
    let mut out = Vec::new();
    f.take(cap + 1).read_to_end(&mut out).map_err(|e| Error::io("read the file", path, &e))?;
    if out.len() as u64 > cap {
        return Err(Error::input(format!("the file is larger than {cap} bytes, the limit for its kind")).at_file(path));
    }
    Ok(out)
}

/// A file that appears under its name only when it is complete.
pub struct AtomicFile {
    file: File,
    temp: PathBuf,
    target: PathBuf,
    done: bool,
}

/// The temporary sibling of an output: hidden, with the process id, so that two runs never share one.
fn sibling(target: &Path) -> Result<PathBuf> {
    let name = target.file_name().ok_or_else(|| Error::usage("the output has no file name").at_file(target))?;
    Ok(target.with_file_name(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id())))
}

impl AtomicFile {
    /// Opens the temporary file at once, so that a read-only disk is found before the long work.
    ///
    /// # Errors
    /// `Io` if the directory is missing or not writable, `Usage` if the target is a directory.
    pub fn create(target: &Path) -> Result<Self> {
        if target.is_dir() {
            return Err(Error::usage("the output is a directory, a file name is needed").at_file(target));
        }
        if target.exists() && !target.is_file() {
            // A rename would put a file in the place of a device or a pipe.
            return Err(Error::usage("the output is no regular file").at_file(target).hint("give the name of a file"));
        }
        let temp = sibling(target)?;
        let mut list = pending();
        // What an earlier killed run with our process id left behind is ours to remove; anything that appears after it is not.
        let _ = fs::remove_file(&temp);
        let file = File::options().read(true).write(true).create_new(true).open(&temp);
        let file = file.map_err(|e| Error::io("create the output", target, &e))?;
        list.insert(temp.clone());
        Ok(AtomicFile { file, temp, target: target.to_path_buf(), done: false })
    }

    pub fn temp_path(&self) -> &Path {
        &self.temp
    }

    pub fn write(&mut self, data: &[u8]) -> Result<()> {
        self.file.write_all(data).map_err(|e| Error::io("write the output", &self.target, &e))
    }

    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        let r = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.write_all(data));
        r.and_then(|()| self.file.seek(SeekFrom::End(0)))
            .map(drop)
            .map_err(|e| Error::io("write the output", &self.target, &e))
    }

    /// Syncs and renames. The directory is synced too, so that the name survives a power cut.
    pub fn commit(mut self) -> Result<()> {
        let r = (|| -> io::Result<()> {
            self.file.flush()?;
            self.file.sync_all()?;
            let locked = pending();
            fs::rename(&self.temp, &self.target)?;
            drop(locked);
            sync_dir(&self.target)
        })();
        r.map_err(|e| Error::io("finish the output", &self.target, &e))?;
        self.done = true;
        Ok(())
    }
}

/// Gives two files their names of which the second says what is in the first. An old second file goes before the first one changes, so that
/// a run that is killed here leaves no pair that does not belong together, only a first file that nothing describes.
///
/// # Errors
/// `Io`.
pub fn commit_together(mut first: AtomicFile, mut second: AtomicFile) -> Result<()> {
    for f in [&mut first, &mut second] {
        f.file.flush().and_then(|()| f.file.sync_all()).map_err(|e| Error::io("finish the output", &f.target, &e))?;
    }
    let r = (|| -> io::Result<()> {
        let locked = pending();
        match fs::remove_file(&second.target) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => sync_dir(&second.target)?,
        }
        fs::rename(&first.temp, &first.target)?;
        sync_dir(&first.target)?;
        fs::rename(&second.temp, &second.target)?;
        drop(locked);
        sync_dir(&second.target)
    })();
    r.map_err(|e| Error::io("finish the output", &second.target, &e))?;
    (first.done, second.done) = (true, true);
    Ok(())
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.done {
            // Best effort: an error is already on its way to the user.
            let _ = fs::remove_file(&self.temp);
        }
        pending().remove(&self.temp);
    }
}

fn sync_dir(target: &Path) -> io::Result<()> {
    let dir = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

/// A directory that appears under its name only when it is complete. An existing directory is replaced only if it holds `marker`,
/// i.e. if one of our own exports made it.
pub struct AtomicDir {
    temp: PathBuf,
    target: PathBuf,
    done: bool,
}

impl AtomicDir {
    pub fn create(target: &Path, marker: &str) -> Result<Self> {
        if target.is_file() {
            return Err(Error::usage("the output is a file, a directory is needed").at_file(target));
        }
        let occupied = target.is_dir() && fs::read_dir(target).map(|mut d| d.next().is_some()).unwrap_or(true);
        if occupied && !target.join(marker).is_file() {
            return Err(Error::usage("the output directory is not empty and is no earlier export")
                .at_file(target)
                .hint("choose another directory, or remove this one"));
        }
        let temp = sibling(target)?;
        if let Some(parent) = target.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(|e| Error::io("create the parent directory", parent, &e))?;
        }
        // What an earlier killed run with our process id left behind is ours to remove.
        let _ = fs::remove_dir_all(&temp);
        let mut list = pending();
        fs::create_dir(&temp).map_err(|e| Error::io("create the output directory", target, &e))?;
        list.insert(temp.clone());
        Ok(AtomicDir { temp, target: target.to_path_buf(), done: false })
    }

    /// Where to write the contents.
    pub fn path(&self) -> &Path {
        &self.temp
    }

    /// Syncs everything and puts the directory in its place; an old one is exchanged in one step and then removed.
    pub fn commit(mut self) -> Result<()> {
        let r = (|| -> io::Result<()> {
            sync_tree(&self.temp)?;
            // An interrupt waits here: it must not remove what is just getting its name.
            let locked = pending();
            if self.target.is_dir() {
                exchange(&self.temp, &self.target)?;
                fs::remove_dir_all(&self.temp)?;
            } else {
                fs::rename(&self.temp, &self.target)?;
            }
            drop(locked);
            sync_dir(&self.target)
        })();
        r.map_err(|e| Error::io("finish the output directory", &self.target, &e))?;
        self.done = true;
        Ok(())
    }
}

fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            File::open(path)?.sync_all()?;
        }
    }
    File::open(dir)?.sync_all()
}

/// Swaps two directories so that a cut leaves one or the other under the name, never none.
#[cfg(target_os = "linux")]
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    use rustix::fs::{renameat_with, RenameFlags, CWD};
    match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
        // Some file systems (overlay, network) cannot exchange.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => replace(new, old),
        r => Ok(r?),
    }
}

#[cfg(not(target_os = "linux"))]
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    replace(new, old)
}

/// Two renames: between them the old directory lies complete under its `.old` name.
fn replace(new: &Path, old: &Path) -> io::Result<()> {
    let aside = new.with_extension("old");
    fs::rename(old, &aside)?;
    fs::rename(new, old)?;
    fs::rename(&aside, new)
}

impl Drop for AtomicDir {
    fn drop(&mut self) {
        if !self.done {
            // Best effort: an error is already on its way to the user.
            let _ = fs::remove_dir_all(&self.temp);
        }
        pending().remove(&self.temp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_that_belong_together_change_together() {
        let dir = tempfile::tempdir().unwrap();
        let (data, model) = (dir.path().join("data"), dir.path().join("model"));
        let pair = |d: &[u8], m: &[u8]| {
            let mut files = (AtomicFile::create(&data).unwrap(), AtomicFile::create(&model).unwrap());
            files.0.write(d).unwrap();
            files.1.write(m).unwrap();
            files
        };
        let read = || (fs::read(&data).unwrap(), fs::read(&model).unwrap_or_default());
        for (d, m) in [(b"data 1", b"model 1"), (b"data 2", b"model 2")] {
            let (first, second) = pair(d, m);
            commit_together(first, second).unwrap();
            assert_eq!(read(), (d.to_vec(), m.to_vec()));
        }
        drop(pair(b"data 3", b"model 3"));
        assert_eq!(read(), (b"data 2".to_vec(), b"model 2".to_vec()));
        // The old model cannot go, so the data under it stays.
        let (first, second) = pair(b"data 3", b"model 3");
        fs::remove_file(&model).unwrap();
        fs::create_dir(&model).unwrap();
        assert!(commit_together(first, second).is_err());
        assert_eq!(fs::read(&data).unwrap(), b"data 2");
        // The data cannot get its name: then there is no model either.
        fs::remove_dir(&model).unwrap();
        let (first, second) = pair(b"data 3", b"model 3");
        fs::remove_file(&data).unwrap();
        fs::create_dir(&data).unwrap();
        assert!(commit_together(first, second).is_err());
        assert!(!model.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    }
}
