//! Patches applied on the disk of this machine: what is refused and why, trial and acceptance, both ways to the same file.

use crate::pairs::{key, pair, patch, ring, sign_with, signed, Pair, Says, BLOCK};
use bitnet_convert::delta::apply::{into_new, Options, Outcome, Patch, Report, Site};
use bitnet_convert::delta::store::Std;
use bitnet_convert::error::{Error, Kind, Result};
use bitnet_convert::progress::Silent;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

struct Place {
    dir: TempDir,
}

impl Place {
    fn new(p: &Pair) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        fs::write(place.path("m"), &p.old).unwrap();
        fs::write(place.path("p"), &p.patch).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn with<T>(&self, f: impl FnOnce(&Site) -> Result<T>) -> Result<T> {
        f(&Site::lock(&Std, &self.path("m"))?)
    }

    fn patch(&self, name: &str) -> Result<Patch> {
        Patch::open(&Std, &self.path(name))
    }

    fn switch(&self, o: &Options) -> Result<Report> {
        self.with(|s| s.switch(&self.patch("p")?, o, &Silent))
    }

    fn in_place(&self, o: &Options) -> Result<Report> {
        self.with(|s| s.in_place(&self.patch("p")?, o, &Silent))
    }

    fn confirm(&self) -> Result<Report> {
        self.with(|s| s.confirm(&Silent))
    }

    fn back(&self, o: &Options) -> Result<Report> {
        self.with(|s| s.rollback(None, o, &Silent))
    }

    /// Both ways are refused for this reason and write nothing.
    fn refused(&self, o: &Options, kind: Kind, why: &str) {
        let before = self.everything();
        for r in [self.switch(o), self.in_place(o), self.with(|s| s.dry_run(&self.patch("p")?, false, o, &Silent))] {
            let e: Error = r.map(|r| r.outcome).expect_err(why);
            assert!(e.to_string().contains(why), "{e}");
            assert_eq!(e.kind(), kind, "{e}");
            assert!(e.next_step().is_some(), "{e}");
        }
        assert_eq!(self.everything(), before);
    }

    fn everything(&self) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap());
        let mut all: Vec<_> =
            entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect();
        all.retain(|(name, _)| name != "m.lock");
        all.sort();
        all
    }
}

fn plain() -> Options {
    Options::default()
}

fn with_key(seed: u8) -> Options {
    Options { keys: ring(&key(seed)), ..plain() }
}

#[test]
fn on_trial_then_confirmed() {
    let p = pair(4, 0, 1);
    let place = Place::new(&p);
    let r = place.switch(&plain()).unwrap();
    assert_eq!((r.outcome, r.trial, r.to.sequence, r.to.version.as_str()), (Outcome::Applied, true, 2, "2.0"));
    assert!(place.read("m") == p.new && place.read("m.prev") == p.old);
    assert_eq!(place.switch(&plain()).unwrap().outcome, Outcome::NothingToDo);
    assert_eq!(place.confirm().unwrap().outcome, Outcome::Confirmed);
    assert_eq!(place.confirm().unwrap().outcome, Outcome::NothingToDo);
    assert!(!place.switch(&plain()).unwrap().trial);
}

#[test]
fn on_trial_then_taken_back() {
    let p = pair(4, 0, 1);
    let place = Place::new(&p);
    place.switch(&plain()).unwrap();
    assert_eq!(place.back(&plain()).unwrap().outcome, Outcome::RolledBack);
    assert!(place.read("m") == p.old);
    assert_eq!(place.back(&plain()).unwrap().outcome, Outcome::NothingToDo);
    // What was taken back may be tried again.
    assert_eq!(place.switch(&plain()).unwrap().outcome, Outcome::Applied);
}

#[test]
fn going_back_from_a_confirmed_version_must_be_allowed() {
    let p = pair(4, 0, 1);
    let place = Place::new(&p);
    place.switch(&Options { confirm: true, ..plain() }).unwrap();
    let e = place.back(&plain()).map(|r| r.outcome).unwrap_err();
    assert!(e.to_string().contains("was confirmed") && e.next_step().unwrap().contains("--allow-downgrade"), "{e}");
    let o = Options { allow_downgrade: true, ..plain() };
    assert_eq!(place.back(&o).unwrap().outcome, Outcome::RolledBack);
    assert!(place.read("m") == p.old);
}

#[test]
fn a_policy_forbids_going_back() {
    let place = Place::new(&pair(4, 0, 1));
    place.switch(&Options { confirm: true, ..plain() }).unwrap();
    let state = fs::read_to_string(place.path("m.state")).unwrap();
    fs::write(place.path("m.state"), state.replace("\"never_downgrade\": false", "\"never_downgrade\": true")).unwrap();
    let e = place.back(&Options { allow_downgrade: true, ..plain() }).map(|r| r.outcome).unwrap_err();
    assert!(e.next_step().unwrap().contains("never_downgrade"), "{e}");
}

#[test]
fn both_ways_give_the_same_file() {
    for (blocks, longer) in [(4, 0), (3, 1), (3, 9000), (3, -1), (4, -9000), (1, 0), (1, -3000)] {
        let p = pair(blocks, longer, 3);
        let (a, b) = (Place::new(&p), Place::new(&p));
        a.switch(&plain()).unwrap();
        b.in_place(&plain()).unwrap();
        into_new(&Std, &b.path("m"), &a.patch("p").unwrap(), &b.path("n"), &plain(), &Silent).unwrap_err();
        assert!(a.read("m") == p.new && b.read("m") == p.new, "{blocks} {longer}");
        assert!(!b.path("m.journal").exists() && !b.path("m.new").exists());
        let c = Place::new(&p);
        into_new(&Std, &c.path("m"), &c.patch("p").unwrap(), &c.path("n"), &plain(), &Silent).unwrap();
        assert!(c.read("m") == p.old && c.read("n") == p.new && !c.path("m.state").exists());
    }
}

#[test]
fn back_by_the_patch() {
    let p = pair(4, 0, 1);
    let place = Place::new(&p);
    place.in_place(&plain()).unwrap();
    let back = || place.with(|s| s.rollback(Some(&place.patch("p")?), &plain(), &Silent)).unwrap().outcome;
    assert_eq!((back(), back()), (Outcome::RolledBack, Outcome::NothingToDo));
    assert!(place.read("m") == p.old);
}

#[test]
fn a_kept_version_does_not_change_with_the_file() {
    let p = pair(4, 0, 1);
    let place = Place::new(&p);
    // As a switch leaves it that was cut.
    fs::hard_link(place.path("m"), place.path("m.prev")).unwrap();
    place.in_place(&plain()).unwrap();
    assert!(!place.path("m.prev").exists() || place.read("m.prev") == p.old);
}

#[test]
fn a_trial_on_a_trial_keeps_the_accepted_version() {
    let p = pair(4, 0, 1);
    let place = Place::new(&p);
    place.switch(&plain()).unwrap();
    let third = pair(4, 0, 2).new;
    let next = patch(p.new.clone(), third.clone(), &Says { base: 2, target: 3, ..Says::default() });
    fs::write(place.path("p"), &next.patch).unwrap();
    place.switch(&plain()).unwrap();
    assert!(place.read("m") == third && place.read("m.prev") == p.old);
    place.back(&plain()).unwrap();
    assert!(place.read("m") == p.old);
}

#[test]
fn wrong_base() {
    let p = pair(4, 0, 1);
    let place = Place::new(&Pair { old: pair(4, 0, 8).old, ..pair(4, 0, 1) });
    place.refused(&plain(), Kind::Input, "the patch starts from another file (version `1.0`)");
    fs::write(place.path("m"), &p.old[1..]).unwrap();
    place.refused(&plain(), Kind::Input, "bytes, not");
}

#[test]
fn damaged_base() {
    let p = pair(4, 0, 1);
    let place = Place::new(&p);
    place.switch(&plain()).unwrap();
    place.back(&plain()).unwrap();
    let mut bad = p.old.clone();
    bad[BLOCK + 7] ^= 4;
    fs::write(place.path("m"), &bad).unwrap();
    place.refused(&plain(), Kind::Input, "the file is damaged");
}

#[test]
fn another_model() {
    let p = pair(4, 0, 1);
    let place = Place::new(&p);
    place.switch(&plain()).unwrap();
    let other = patch(p.new.clone(), p.old.clone(), &Says { model: "other", base: 2, target: 3, full: false });
    fs::write(place.path("p"), &other.patch).unwrap();
    place.refused(&plain(), Kind::Input, "the patch is for the model `other`, this file is `tiny`");
}

/// A signed patch of earlier, sent again.
#[test]
fn an_older_patch() {
    let (p, _) = signed(pair(4, 0, 1));
    let place = Place::new(&p);
    let o = Options { confirm: true, ..with_key(1) };
    place.switch(&o).unwrap();
    for sequence in [1, 2] {
        let older = patch(p.new.clone(), pair(4, 0, 5).new, &Says { base: 0, target: sequence, ..Says::default() });
        fs::write(place.path("p"), sign_with(older, &key(1)).patch).unwrap();
        place.refused(&o, Kind::Input, &format!("it leads to sequence {sequence}, 2 was accepted before"));
    }
    place.switch(&Options { allow_downgrade: true, ..o }).unwrap();
}

#[test]
fn unsigned() {
    let place = Place::new(&pair(4, 0, 1));
    place.refused(&with_key(1), Kind::Input, "the patch is not signed");
    place.switch(&Options { allow_unsigned: true, ..with_key(1) }).unwrap();
}

#[test]
fn another_key() {
    let place = Place::new(&signed(pair(4, 0, 1)).0);
    place.refused(&with_key(2), Kind::Input, "which is not trusted here");
    place.refused(&Options { allow_unsigned: true, ..with_key(2) }, Kind::Input, "which is not trusted here");
}

#[test]
fn a_key_stays_until_another_is_given() {
    let (p, _) = signed(pair(4, 0, 1));
    let place = Place::new(&p);
    assert!(place.switch(&with_key(1)).unwrap().signed_by.is_some());
    let next = || patch(p.new.clone(), pair(4, 0, 2).new, &Says { base: 2, target: 3, ..Says::default() });
    fs::write(place.path("p"), next().patch).unwrap();
    place.refused(&plain(), Kind::Input, "the patch is not signed");
    // The first key is revoked by giving the second.
    fs::write(place.path("p"), sign_with(next(), &key(2)).patch).unwrap();
    place.refused(&plain(), Kind::Input, "which is not trusted here");
    place.switch(&with_key(2)).unwrap();
    let state = fs::read_to_string(place.path("m.state")).unwrap();
    assert!(state.contains(&key(2).public().unwrap().line()) && !state.contains(&key(1).public().unwrap().line()));
}

#[test]
fn truncated() {
    let p = pair(4, 0, 1);
    let place = Place::new(&p);
    fs::write(place.path("p"), &p.patch[..p.patch.len() - 1]).unwrap();
    place.refused(&plain(), Kind::Input, "the patch is cut short");
    fs::write(place.path("p"), [&p.patch[..], b"x"].concat()).unwrap();
    place.refused(&plain(), Kind::Input, "the patch has bytes behind its end");
}

#[test]
fn altered() {
    let (p, _) = signed(pair(4, 0, 1));
    let place = Place::new(&p);
    for (at, why) in [
        (70, ""),
        (330, "the signature of the patch"),
        (390, "digest of its index"),
        (p.patch.len() - 9, "digest of its payload"),
    ] {
        let mut bad = p.patch.clone();
        bad[at] ^= 1;
        fs::write(place.path("p"), &bad).unwrap();
        place.refused(&with_key(1), Kind::Input, why);
    }
}

/// Some bytes that promise terabytes: the length is compared with the room on the disk.
#[test]
fn a_bomb() {
    use bitnet_convert::digest::sha256;
    use bitnet_convert::format::delta::{Header, Index, Kind as K, Segment};
    let base = vec![7; 1 << 16];
    let segment = |at| Segment { kind: K::Copy, at, len: 1 << 16, base: 0 };
    let segments: Vec<Segment> = (0..1 << 18).map(|i| segment(i << 16)).collect();
    let index = Index { segments, blocks: Vec::new(), block_count: 1 << 14 };
    let bytes = index.to_bytes();
    let p = patch(base.clone(), base.clone(), &Says::default());
    let mut header = Header::parse(&p.patch).unwrap();
    header.flags.in_place = false;
    header.flags.reversible = false;
    header.block_log2 = 20;
    header.target_len = 1 << 34;
    header.index_len = bytes.len() as u32;
    header.patch_len = (Header::LEN + bytes.len()) as u64;
    header.target_sha = [1; 32];
    header.index_sha = sha256(&bytes);
    header.payload_sha = sha256(b"");
    let place = Place::new(&Pair { old: base, new: Vec::new(), patch: [&header.to_bytes()[..], &bytes].concat() });
    let small = crate::disk::Behaviour { room: Some(1 << 20), ..Default::default() };
    let mut image = crate::disk::Image::default();
    image.put("m", &place.read("m"));
    image.put("p", &place.read("p"));
    let disk = crate::disk::Virtual::new(&image, small);
    let site = Site::lock(&disk, Path::new("m")).unwrap();
    let e =
        site.switch(&Patch::open(&disk, Path::new("p")).unwrap(), &plain(), &Silent).map(|r| r.outcome).unwrap_err();
    assert!(e.to_string().contains("the new file has 17179869184 bytes, the disk has room for 1048576"), "{e}");
    assert_eq!(disk.log(), [] as [String; 0]);
}

#[test]
fn two_updaters() {
    let place = Place::new(&pair(4, 0, 1));
    let _first = Site::lock(&Std, &place.path("m")).unwrap();
    let e = Site::lock(&Std, &place.path("m")).map(|_| ()).unwrap_err();
    assert!(e.to_string().contains("another update of this file is at work"), "{e}");
}

#[test]
fn a_reader_keeps_the_old_file_over_a_switch() {
    let p = pair(4, 0, 1);
    let place = Place::new(&p);
    let open = fs::File::open(place.path("m")).unwrap();
    place.switch(&plain()).unwrap();
    let mut seen = Vec::new();
    std::io::Read::read_to_end(&mut &open, &mut seen).unwrap();
    assert!(seen == p.old);
}

#[test]
fn readers_are_refused_while_there_is_a_journal() {
    let place = Place::new(&pair(4, 0, 1));
    fs::write(place.path("m.journal"), b"x").unwrap();
    let e = bitnet_convert::fsio::map_whole(&place.path("m")).map(|_| ()).unwrap_err();
    assert!(e.to_string().contains("in progress") && e.next_step().unwrap().contains("--in-place"), "{e}");
    let e = place.switch(&plain()).map(|r| r.outcome).unwrap_err();
    assert!(e.to_string().contains("in progress"), "{e}");
    let e = place.in_place(&plain()).map(|r| r.outcome).unwrap_err();
    assert!(e.to_string().contains("the journal of the update is damaged"), "{e}");
}

#[test]
fn a_full_patch_needs_no_file_and_ends_what_is_unfinished() {
    let p = pair(4, 0, 1);
    let full = patch(Vec::new(), p.new.clone(), &Says { full: true, ..Says::default() });
    let place = Place::new(&Pair { old: p.old.clone(), ..full });
    fs::write(place.path("m.journal"), b"x").unwrap();
    place.switch(&plain()).unwrap();
    assert!(place.read("m") == p.new && !place.path("m.journal").exists() && place.read("m.prev") == p.old);
    let again = Place::new(&patch(Vec::new(), p.new.clone(), &Says { full: true, ..Says::default() }));
    fs::remove_file(again.path("m")).unwrap();
    again.switch(&plain()).unwrap();
    assert!(again.read("m") == p.new);
    let e = again.back(&plain()).map(|r| r.outcome).unwrap_err();
    assert!(e.to_string().contains("no version to go back to"), "{e}");
}

#[test]
fn a_damaged_state_is_not_passed_over() {
    let place = Place::new(&pair(4, 0, 1));
    for (text, why) in [
        ("{", "the state of the updates is damaged"),
        ("", "the state of the updates is damaged"),
        (r#"{"format":2,"model":"tiny","accepted":null,"trial":null,"previous":null}"#, "has format 2"),
        (
            r#"{"format":1,"model":"tiny","accepted":{"sequence":1,"sha256":"zz"},"trial":null,"previous":null}"#,
            "64 hexadecimal",
        ),
        (r#"{"format":1,"model":"tiny","accepted":null,"trial":null,"previous":null,"other":1}"#, "unknown field"),
    ] {
        fs::write(place.path("m.state"), text).unwrap();
        let e = place.switch(&plain()).map(|r| r.outcome).unwrap_err();
        assert!(e.to_string().contains(why), "{e}");
    }
    fs::write(place.path("m.state"), vec![b' '; 1 << 17]).unwrap();
    let e = place.switch(&plain()).map(|r| r.outcome).unwrap_err();
    assert!(e.to_string().contains("more than 65536 bytes"), "{e}");
    assert!(place.read("m") == pair(4, 0, 1).old);
}

#[cfg(unix)]
#[test]
fn permissions_stay() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new(&pair(4, 0, 1));
    fs::set_permissions(place.path("m"), fs::Permissions::from_mode(0o640)).unwrap();
    place.switch(&plain()).unwrap();
    assert_eq!(fs::metadata(place.path("m")).unwrap().permissions().mode() & 0o777, 0o640);
}
