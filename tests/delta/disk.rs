//! A disk in memory that forgets: what is written is volatile until it is synced, names are until the folder is, and it is cut before every
//! operation. What reached the medium by then is drawn.

use bitnet_convert::delta::store::{Access, Disk, Handle};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

/// What a cut leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    Nothing,
    All,
    /// The first so many sectors and names in the order they were written, the next one torn.
    Prefix,
    /// Any of them in any order, one torn.
    Subset,
}

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed ^ 0x9E37_79B9_7F4A_7C15)
    }
    /// splitmix64.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// What a medium holds: names, and the bytes behind them. Two names may stand for the same bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Image {
    pub names: BTreeMap<String, usize>,
    pub inodes: Vec<Rc<Vec<u8>>>,
}

impl Image {
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.names.get(name).map(|i| &self.inodes[*i][..])
    }

    pub fn put(&mut self, name: &str, data: &[u8]) {
        self.inodes.push(Rc::new(data.to_vec()));
        self.names.insert(name.to_string(), self.inodes.len() - 1);
    }

    pub fn flip(&mut self, name: &str, bit: usize) {
        let mut data = self.get(name).unwrap().to_vec();
        data[bit / 8] ^= 1 << (bit % 8);
        self.put(name, &data);
    }

    /// Equal for equal images; who has a number is forgotten.
    pub fn hash(&self) -> u64 {
        let mut h = 0xCBF2_9CE4_8422_2325_u64;
        let mut mix = |v: u64| h = (h ^ v).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        for (name, inode) in &self.names {
            let first = self.names.values().position(|i| i == inode).unwrap_or(0);
            mix(first as u64);
            name.bytes().for_each(|b| mix(u64::from(b)));
            let data = &self.inodes[*inode];
            mix(data.len() as u64);
            let mut words = data.chunks_exact(8);
            for w in &mut words {
                mix(u64::from_le_bytes(w.try_into().unwrap()));
            }
            words.remainder().iter().for_each(|b| mix(u64::from(*b)));
        }
        h
    }
}

/// A part of what was done that reaches the medium whole, or torn, or not.
#[derive(Clone)]
enum Piece {
    Data {
        inode: usize,
        at: usize,
        data: Rc<Vec<u8>>,
        range: Range<usize>,
    },
    Len {
        inode: usize,
        len: usize,
    },
    /// Names change together.
    Names(Vec<(String, Option<usize>)>),
}

impl Piece {
    fn is_of(&self, of: usize) -> bool {
        match self {
            Piece::Data { inode, .. } | Piece::Len { inode, .. } => *inode == of,
            Piece::Names(_) => false,
        }
    }
}

/// How this disk behaves.
#[derive(Clone)]
pub struct Behaviour {
    pub sector: usize,
    /// The sync of a file with this number (counted from 0) fails, and what was to be written may be lost.
    pub failing_sync: Option<usize>,
    /// The disk is full from this write or new name on.
    pub full_from: Option<usize>,
    /// A write takes at most so many bytes, and every third is interrupted.
    pub short: Option<usize>,
    pub no_links: bool,
    /// Bytes that are free.
    pub room: Option<u64>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour { sector: 512, failing_sync: None, full_from: None, short: None, no_links: false, room: None }
    }
}

/// Draws images before each operation.
pub struct Collector {
    pub draws: Vec<Reached>,
    pub random: Random,
    pub images: Vec<Image>,
}

#[derive(Default)]
struct Inner {
    names: BTreeMap<String, usize>,
    cache: Vec<Vec<u8>>,
    medium: Image,
    /// In the order it was done.
    pending: Vec<Piece>,
    syncs: usize,
    writes: usize,
    collector: Option<Collector>,
    log: Vec<String>,
}

#[derive(Clone)]
pub struct Virtual {
    inner: Rc<RefCell<Inner>>,
    behaviour: Rc<Behaviour>,
    locked: Rc<Cell<bool>>,
}

struct Open {
    disk: Virtual,
    inode: usize,
    name: String,
}

struct Lock(Rc<Cell<bool>>);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn not_found() -> io::Error {
    ErrorKind::NotFound.into()
}

/// Only a part of a piece, if it is one of data, where `torn` says so.
fn put(medium: &mut Image, piece: &Piece, torn: Option<&mut Random>) {
    match piece {
        Piece::Data { inode, at, data, range } => {
            let mut range = range.clone();
            let mut at = *at;
            if let Some(random) = torn {
                let cut = random.below(range.len());
                if random.below(2) == 0 {
                    range.end = range.start + cut;
                } else {
                    at += cut;
                    range.start += cut;
                }
            }
            let to = Rc::make_mut(&mut medium.inodes[*inode]);
            let end = at + range.len();
            if to.len() < end {
                to.resize(end, 0);
            }
            to[at..end].copy_from_slice(&data[range]);
        }
        Piece::Len { inode, len } if torn.is_none() => Rc::make_mut(&mut medium.inodes[*inode]).resize(*len, 0),
        Piece::Names(names) if torn.is_none() => {
            for (name, inode) in names {
                match inode {
                    Some(i) => medium.names.insert(name.clone(), *i),
                    None => medium.names.remove(name),
                };
            }
        }
        _ => {}
    }
}

fn draw(medium: &mut Image, pieces: &[Piece], reached: Reached, random: &mut Random) {
    match reached {
        Reached::Nothing => {}
        Reached::All => pieces.iter().for_each(|p| put(medium, p, None)),
        Reached::Prefix => {
            let n = random.below(pieces.len() + 1);
            pieces[..n].iter().for_each(|p| put(medium, p, None));
            if let Some(p) = pieces.get(n) {
                put(medium, p, Some(random));
            }
        }
        Reached::Subset => {
            let density = 1 + random.below(7);
            let mut some: Vec<&Piece> = pieces.iter().filter(|_| random.below(8) < density).collect();
            for i in (1..some.len()).rev() {
                some.swap(i, random.below(i + 1));
            }
            let torn = random.below(some.len() + 1);
            for (i, p) in some.into_iter().enumerate() {
                let random = (i == torn).then_some(&mut *random);
                put(medium, p, random);
            }
        }
    }
}

impl Virtual {
    pub fn new(image: &Image, behaviour: Behaviour) -> Virtual {
        let inner = Inner {
            names: image.names.clone(),
            cache: image.inodes.iter().map(|b| b.to_vec()).collect(),
            medium: image.clone(),
            ..Inner::default()
        };
        Virtual { inner: Rc::new(RefCell::new(inner)), behaviour: Rc::new(behaviour), locked: Rc::default() }
    }

    pub fn collect(&self, draws: &[Reached], seed: u64) {
        let collector = Collector { draws: draws.to_vec(), random: Random::new(seed), images: Vec::new() };
        self.inner.borrow_mut().collector = Some(collector);
    }

    /// The images that were drawn, and those of a cut now.
    pub fn collected(&self) -> Vec<Image> {
        self.before("end");
        self.inner.borrow_mut().collector.take().map_or(Vec::new(), |c| c.images)
    }

    /// A cut now.
    pub fn cut(&self, reached: Reached, random: &mut Random) -> Image {
        let inner = self.inner.borrow();
        let mut medium = inner.medium.clone();
        draw(&mut medium, &inner.pending, reached, random);
        medium
    }

    /// Operations that changed something, by name.
    pub fn log(&self) -> Vec<String> {
        self.inner.borrow().log.clone()
    }

    pub fn syncs(&self) -> usize {
        self.inner.borrow().syncs
    }

    pub fn writes(&self) -> usize {
        self.inner.borrow().writes
    }

    /// What a process sees that reads now.
    pub fn see(&self, name: &str) -> Option<Vec<u8>> {
        let inner = self.inner.borrow();
        inner.names.get(name).map(|i| inner.cache[*i].clone())
    }

    fn before(&self, what: &str) {
        let mut inner = self.inner.borrow_mut();
        inner.log.push(what.to_string());
        let Some(mut collector) = inner.collector.take() else { return };
        let mut last = None;
        for reached in collector.draws.clone() {
            // With nothing in the cache all draws are one.
            if inner.pending.is_empty() && last.is_some() {
                break;
            }
            let mut medium = inner.medium.clone();
            draw(&mut medium, &inner.pending, reached, &mut collector.random);
            last = Some(());
            collector.images.push(medium);
        }
        inner.collector = Some(collector);
    }

    /// A write or a new name, which a full disk refuses.
    fn room(&self) -> io::Result<usize> {
        let mut inner = self.inner.borrow_mut();
        inner.writes += 1;
        match self.behaviour.full_from {
            Some(n) if inner.writes > n => Err(ErrorKind::StorageFull.into()),
            _ => Ok(inner.writes),
        }
    }

    fn names(&self, changes: Vec<(String, Option<usize>)>) {
        let mut inner = self.inner.borrow_mut();
        for (name, inode) in &changes {
            match inode {
                Some(i) => inner.names.insert(name.clone(), *i),
                None => inner.names.remove(name),
            };
        }
        inner.pending.push(Piece::Names(changes));
    }

    fn inode(&self, path: &Path) -> io::Result<usize> {
        self.inner.borrow().names.get(&name(path)).copied().ok_or_else(not_found)
    }
}

impl Handle for Open {
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        let inner = self.disk.inner.borrow();
        let from = inner.cache[self.inode].get(at as usize..).unwrap_or(&[]);
        // Short reads are allowed too.
        let n = from.len().min(out.len()).min(self.disk.behaviour.short.unwrap_or(usize::MAX));
        out[..n].copy_from_slice(&from[..n]);
        Ok(n)
    }

    fn write_at(&self, at: u64, data: &[u8]) -> io::Result<usize> {
        self.disk.before(&format!("write {}", self.name));
        let number = self.disk.room()?;
        let n = match self.disk.behaviour.short {
            Some(_) if number % 3 == 0 => return Err(ErrorKind::Interrupted.into()),
            Some(most) => data.len().min(most),
            None => data.len(),
        };
        let (at, sector) = (at as usize, self.disk.behaviour.sector);
        let mut inner = self.disk.inner.borrow_mut();
        let cache = &mut inner.cache[self.inode];
        if cache.len() < at + n {
            cache.resize(at + n, 0);
        }
        cache[at..at + n].copy_from_slice(&data[..n]);
        let data = Rc::new(data[..n].to_vec());
        let mut from = 0;
        while from < n {
            let to = ((at + from) / sector * sector + sector - at).min(n);
            inner.pending.push(Piece::Data { inode: self.inode, at: at + from, data: data.clone(), range: from..to });
            from = to;
        }
        Ok(n)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.inner.borrow().cache[self.inode].len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.before(&format!("length {}", self.name));
        self.disk.room()?;
        let mut inner = self.disk.inner.borrow_mut();
        inner.cache[self.inode].resize(len as usize, 0);
        inner.pending.push(Piece::Len { inode: self.inode, len: len as usize });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.before(&format!("sync {}", self.name));
        let mut inner = self.disk.inner.borrow_mut();
        let (mine, others): (Vec<Piece>, Vec<Piece>) =
            std::mem::take(&mut inner.pending).into_iter().partition(|p| p.is_of(self.inode));
        inner.pending = others;
        inner.syncs += 1;
        if self.disk.behaviour.failing_sync == Some(inner.syncs - 1) {
            // The system believes from now on that the cache is clean.
            let mut random = Random::new(inner.syncs as u64);
            draw(&mut inner.medium, &mine, Reached::Subset, &mut random);
            return Err(io::Error::other("the disk does not answer"));
        }
        mine.iter().for_each(|p| put(&mut inner.medium, p, None));
        Ok(())
    }
}

impl Disk for Virtual {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn Handle>> {
        let (name, there) = (name(path), self.inode(path));
        let inode = match (access, there) {
            (Access::Create, there) => {
                self.before(&format!("create {name}"));
                self.room()?;
                match there {
                    Ok(i) => {
                        let mut inner = self.inner.borrow_mut();
                        inner.cache[i].clear();
                        inner.pending.push(Piece::Len { inode: i, len: 0 });
                        i
                    }
                    Err(_) => {
                        let mut inner = self.inner.borrow_mut();
                        inner.cache.push(Vec::new());
                        inner.medium.inodes.push(Rc::default());
                        let i = inner.cache.len() - 1;
                        drop(inner);
                        self.names(vec![(name.clone(), Some(i))]);
                        i
                    }
                }
            }
            (_, there) => there?,
        };
        Ok(Box::new(Open { disk: self.clone(), inode, name }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.inode(from)?;
        self.before(&format!("rename {} {}", name(from), name(to)));
        // As POSIX has it: two names of one file both stay.
        if self.inode(to).ok() != Some(inode) {
            self.names(vec![(name(from), None), (name(to), Some(inode))]);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inode(path)?;
        self.before(&format!("remove {}", name(path)));
        self.names(vec![(name(path), None)]);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.inode(from)?;
        if self.behaviour.no_links {
            return Err(ErrorKind::Unsupported.into());
        }
        if self.inode(to).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.before(&format!("link {} {}", name(from), name(to)));
        self.room()?;
        self.names(vec![(name(to), Some(inode))]);
        Ok(())
    }

    fn same(&self, a: &Path, b: &Path) -> io::Result<bool> {
        Ok(self.inode(a)? == self.inode(b)?)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.before("sync folder");
        let mut inner = self.inner.borrow_mut();
        let (names, others): (Vec<Piece>, Vec<Piece>) =
            std::mem::take(&mut inner.pending).into_iter().partition(|p| matches!(p, Piece::Names(_)));
        inner.pending = others;
        names.iter().for_each(|p| put(&mut inner.medium, p, None));
        Ok(())
    }

    fn copy_mode(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn space(&self, _: &Path) -> io::Result<Option<u64>> {
        Ok(self.behaviour.room)
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Any>>> {
        Ok((!self.locked.replace(true)).then(|| Box::new(Lock(self.locked.clone())) as Box<dyn Any>))
    }
}
