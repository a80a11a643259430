//! Updates in place that a failing disk cut, then the same command again.

use super::*;
use bitnet_convert::delta::apply::{Options as Applying, Patch, Site};
use bitnet_convert::delta::store::{Access, Disk, Handle, Std};
use std::any::Any;
use std::cell::Cell;
use std::io;
use std::rc::Rc;

/// Works for so many writes, syncs, renames and removals.
struct Failing(Rc<Cell<usize>>);

fn one_less(left: &Cell<usize>) -> io::Result<()> {
    let n = left.get();
    left.set(n.saturating_sub(1));
    if n == 0 {
        Err(io::Error::other("the power is off"))
    } else {
        Ok(())
    }
}

struct File(Box<dyn Handle>, Rc<Cell<usize>>);

impl Handle for File {
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(at, out)
    }
    fn write_at(&self, at: u64, data: &[u8]) -> io::Result<usize> {
        one_less(&self.1)?;
        // A part of it may be there.
        self.0.write_at(at, &data[..data.len().div_ceil(2)])
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        one_less(&self.1)?;
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        one_less(&self.1)?;
        self.0.sync()
    }
}

impl Disk for Failing {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn Handle>> {
        Ok(Box::new(File(Std.open(path, access)?, self.0.clone())))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        one_less(&self.0)?;
        Std.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        one_less(&self.0)?;
        Std.remove(path)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        one_less(&self.0)?;
        Std.link(from, to)
    }
    fn same(&self, a: &Path, b: &Path) -> io::Result<bool> {
        Std.same(a, b)
    }
    fn sync_dir(&self, file: &Path) -> io::Result<()> {
        one_less(&self.0)?;
        Std.sync_dir(file)
    }
    fn copy_mode(&self, from: &Path, to: &Path) -> io::Result<()> {
        Std.copy_mode(from, to)
    }
    fn space(&self, file: &Path) -> io::Result<Option<u64>> {
        Std.space(file)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any>>> {
        Std.lock(path)
    }
}

/// Leaves the model as a cut after `steps` operations does; whether it was cut at all.
fn cut(place: &Place, steps: usize) -> bool {
    fs::write(place.file(".download"), one()).unwrap();
    let note = serde_json::json!({
        "format": 1, "url": place.options.url, "etag": null, "length": one().len(), "verified": one().len()
    });
    fs::write(place.file(".download.json"), note.to_string()).unwrap();
    let disk = Failing(Rc::new(Cell::new(steps)));
    let site = Site::lock(&disk, &place.options.model).unwrap();
    let patch = Patch::open(&disk, &place.file(".download")).unwrap();
    site.in_place(&patch, &Applying::default(), &Silent).is_err()
}

#[test]
fn an_update_in_place_that_was_cut_anywhere_is_finished_by_the_next_run() {
    let server = server_of(files(&[("p", one())]));
    let (mut n, mut torn) = (0, 0);
    loop {
        let mut place = Place::new(&server.url("/p"));
        place.options.in_place = true;
        let was_cut = cut(&place, n);
        torn += usize::from(place.file(".journal").exists());
        place.run().unwrap_or_else(|e| panic!("cut after {n}: {e}"));
        place.is(2);
        place.is_tidy();
        assert!(!place.file(".journal").exists(), "cut after {n}");
        if !was_cut {
            break;
        }
        n += 1;
    }
    assert!(n > 10 && torn > 5, "{n} cuts, {torn} in the middle");
    assert!(server.asked("/p").len() <= 2 * n, "what was whole is not fetched again");
}

/// A place whose model is neither version, and whose patch is lost.
fn torn(url: &str) -> Place {
    (0..)
        .find_map(|n| {
            let place = Place::new(url);
            assert!(cut(&place, n), "no cut leaves a journal");
            let torn = place.file(".journal").exists() && fs::read(&place.options.model).unwrap() != version(1);
            fs::remove_file(place.file(".download")).unwrap();
            torn.then_some(place)
        })
        .unwrap()
}

#[test]
fn a_torn_file_whose_patch_is_lost_is_repaired() {
    // By the same patch again.
    let server = server_of(files(&[("p", one()), ("other", patch(3, 4).bytes())]));
    let mut place = torn(&server.url("/other"));
    assert_eq!(place.run().unwrap_err().kind(), Kind::Usage);
    place.options.url = server.url("/p");
    place.updates();
    place.is(2);
    // By the full patch of an index.
    let whole = full(3).bytes();
    let mut index: serde_json::Value =
        serde_json::from_slice(&indexes::index(&[1, 2, 3], &[(1, 2, one().len(), "p")])).unwrap();
    index["files"][2]["url"] = "full".into();
    index["files"][2]["bytes"] = whole.len().into();
    let server = server_of(files(&[("i", index.to_string().into_bytes()), ("full", whole)]));
    let place = torn(&server.url("/i"));
    place.updates();
    place.is(3);
    place.is_tidy();
    assert!(!place.file(".journal").exists());
}
