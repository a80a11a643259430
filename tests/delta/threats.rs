//! One test for each threat that an update has to answer, named after it. Power cuts, servers and devices have tests of their own that go
//! deeper; here each threat is met once, from end to end.

use crate::common::{root, tiny, tiny_bytes, tool, Run};
use crate::failing::{full_at, stopped_at, with_free};
use bitnet_convert::delta::apply::{self, Options, Outcome, Site};
use bitnet_convert::delta::keys::{sign, Keyring, SecretKey};
use bitnet_convert::delta::store::Std;
use bitnet_convert::digest::sha256;
use bitnet_convert::error::Result;
use bitnet_convert::format::delta::Header;
use bitnet_convert::progress::Silent;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder with `model.bitnet`, a key, and patches that the owner of the key signs.
struct Home {
    dir: TempDir,
    key: SecretKey,
}

impl Home {
    fn new() -> Home {
        let dir = tempfile::tempdir().unwrap();
        let key = SecretKey::generate().unwrap();
        key.write(&dir.path().join("release"), None).unwrap();
        let home = Home { dir, key };
        std::fs::copy(tiny(), home.model()).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn model(&self) -> PathBuf {
        self.path("model.bitnet")
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.model()).unwrap()
    }

    fn options(&self) -> Options {
        Options { keys: Keyring::read(&[self.path("release.pub")]).unwrap(), ..Options::default() }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// The patch with another header, signed by the key of the house.
    fn signed(&self, patch: &[u8], change: impl FnOnce(&mut Header)) -> Vec<u8> {
        signed_by(&self.key, patch, change)
    }

    /// The worked example, signed by the key of the house.
    fn update(&self) -> PathBuf {
        self.put("update.bin", &self.signed(&example(), |_| {}))
    }

    fn apply(&self, patch: &Path) -> Run {
        tool("delta apply {} {} --key {}", &[&self.model(), patch, &self.path("release.pub")])
    }

    /// What lies in the folder, but for locks, which hold no data.
    fn listing(&self) -> Vec<String> {
        crate::common::listing(self.dir.path()).into_iter().filter(|n| !n.ends_with(".lock")).collect()
    }

    /// The patch is refused for this reason.
    #[track_caller]
    fn refused(&self, run: Run, reason: &str) {
        let run = run.never_panicked();
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains(reason), "{reason}: {}", run.stderr);
    }
}

fn signed_by(key: &SecretKey, patch: &[u8], change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut header = Header::parse(patch).unwrap();
    change(&mut header);
    header.flags.signed = true;
    let raw = sign(&header.to_bytes(), key);
    [&raw[..], &patch[Header::LEN..]].concat()
}

fn unsigned(patch: &[u8]) -> Vec<u8> {
    let mut header = Header::parse(patch).unwrap();
    header.flags.signed = false;
    (header.key_id, header.signature) = ([0; 8], [0; 64]);
    [&header.to_bytes()[..], &patch[Header::LEN..]].concat()
}

/// tests/data/delta/tiny.bdelta: from tests/data/tiny.bitnet, in place, signed by a key that nobody here trusts.
fn example() -> Vec<u8> {
    std::fs::read(root().join("tests/data/delta/tiny.bdelta")).unwrap()
}

fn target() -> Vec<u8> {
    crate::support::Patch::parse(&example())
        .unwrap()
        .apply(&tiny_bytes(), bitnet_convert::delta::block::Direction::Forward)
        .unwrap()
}

/// A patch that needs no base and becomes `target`, as an image to fall back to.
fn full(target: &[u8], sequence: u64) -> Vec<u8> {
    use bitnet_convert::format::delta::{Flags, Kind, Segment};
    let segments = [Segment { kind: Kind::Raw { xor: false }, at: 0, len: target.len() as u64, base: 0 }];
    let flags = Flags { full: true, in_place: true, ..Flags::default() };
    let mut patch = crate::support::Patch::make(&segments, 12, flags, b"", target).unwrap();
    patch.header.model = "tiny".to_string();
    patch.header.target_sequence = sequence;
    patch.to_bytes()
}

fn switch(disk: &dyn bitnet_convert::delta::store::Disk, file: &Path, patch: &Path, o: &Options) -> Result<Outcome> {
    let patch = apply::Patch::open(disk, patch)?;
    Ok(Site::lock(disk, file)?.switch(&patch, o, &Silent)?.outcome)
}

fn in_place(disk: &dyn bitnet_convert::delta::store::Disk, file: &Path, patch: &Path, o: &Options) -> Result<Outcome> {
    let patch = apply::Patch::open(disk, patch)?;
    Ok(Site::lock(disk, file)?.in_place(&patch, o, &Silent)?.outcome)
}

fn check(file: &Path, patch: &Path, o: &Options) -> Result<()> {
    let patch = apply::Patch::open(&Std, patch)?;
    Site::lock(&Std, file)?.check(&patch, o, &Silent).map(|_| ())
}

/// One byte of a file that stays where it is.
fn put_byte(file: &Path, at: usize, value: u8) {
    let mut f = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    f.seek(SeekFrom::Start(at as u64)).unwrap();
    f.write_all(&[value]).unwrap();
}

#[test]
fn wrong_base() {
    let home = Home::new();
    let patch = home.update();
    let mut other = tiny_bytes();
    other.extend([0; 64]);
    let before = home.listing();
    for base in [other, std::fs::read(root().join("tests/data/tiny.bitnet")).unwrap()[..12_000].to_vec(), b"x".to_vec()]
    {
        home.put("model.bitnet", &base);
        home.refused(home.apply(&patch), "starts from another file");
        home.refused(tool("delta apply {} {} --in-place", &[&home.model(), &patch]), "starts from another file");
        assert_eq!(home.bytes(), base);
        assert_eq!(home.listing(), before);
    }
}

/// Every byte of the base, one after the other, another one.
#[test]
fn corrupt_base() {
    let home = Home::new();
    let (patch, o) = (home.update(), home.options());
    let mut base = tiny_bytes();
    let before = home.listing();
    for (at, right) in tiny_bytes().into_iter().enumerate() {
        put_byte(&home.model(), at, right ^ 1 << (at % 8));
        let e = check(&home.model(), &patch, &o).expect_err("a damaged base");
        assert!(e.to_string().contains("another file"), "byte {at}: {e}");
        put_byte(&home.model(), at, right);
    }
    // One of them through the whole way, both ways.
    base[5000] ^= 4;
    home.put("model.bitnet", &base);
    home.refused(home.apply(&patch), "another file");
    home.refused(tool("delta apply {} {} --in-place", &[&home.model(), &patch]), "another file");
    assert_eq!(home.bytes(), base);
    assert_eq!(home.listing(), before);
}

#[test]
fn truncated_patch() {
    let home = Home::new();
    let patch = home.signed(&example(), |_| {});
    let before = home.listing();
    for len in 0..patch.len() {
        let cut = home.put("cut.bin", &patch[..len]);
        check(&home.model(), &cut, &home.options()).expect_err("a cut patch");
        std::fs::remove_file(cut).unwrap();
    }
    let longer = home.put("longer.bin", &[&patch[..], b"\0"].concat());
    home.refused(home.apply(&longer), "bytes behind its end");
    std::fs::remove_file(longer).unwrap();
    assert_eq!(home.bytes(), tiny_bytes());
    assert_eq!(home.listing(), before);
}

/// Every bit of the patch, one after the other, the other way.
#[test]
fn altered_patch() {
    let home = Home::new();
    let mut patch = home.signed(&example(), |_| {});
    let (file, o) = (home.path("altered.bin"), home.options());
    let before = home.listing();
    std::fs::write(&file, &patch).unwrap();
    check(&home.model(), &file, &o).unwrap_or_else(|e| panic!("{e}"));
    for bit in 0..8 * patch.len() {
        patch[bit / 8] ^= 1 << (bit % 8);
        put_byte(&file, bit / 8, patch[bit / 8]);
        check(&home.model(), &file, &o).expect_err("an altered patch");
        // Without a key, what the digests cover is still safe: all behind the header.
        if bit >= 8 * Header::LEN {
            check(&home.model(), &file, &Options::default()).expect_err("an altered patch");
        }
        patch[bit / 8] ^= 1 << (bit % 8);
        put_byte(&file, bit / 8, patch[bit / 8]);
    }
    patch[400] ^= 1;
    std::fs::write(&file, &patch).unwrap();
    home.refused(home.apply(&file), "altered");
    std::fs::remove_file(file).unwrap();
    assert_eq!(home.bytes(), tiny_bytes());
    assert_eq!(home.listing(), before);
}

/// A patch that the owner did sign, long ago.
#[test]
fn replay_of_an_older_signed_patch() {
    let home = Home::new();
    let old = home.put("old.bin", &home.signed(&full(&tiny_bytes(), 5), |_| {}));
    let new = home.put("new.bin", &home.signed(&full(&target(), 6), |_| {}));
    home.apply(&new).ok();
    tool("delta confirm {}", &[&home.model()]).ok();
    home.refused(home.apply(&old), "old one");
    // The same sequence with other bytes is no newer version either.
    let same = home.put("same.bin", &home.signed(&full(b"other bytes", 6), |_| {}));
    home.refused(home.apply(&same), "old one");
    assert_eq!(home.bytes(), target());
    // The owner may.
    tool("delta apply {} {} --allow-downgrade", &[&home.model(), &old]).ok();
    assert_eq!(home.bytes(), tiny_bytes());
}

/// Where the owner has said that nothing older is taken, no flag on the command line changes that.
#[test]
fn replay_against_the_policy() {
    let home = Home::new();
    let old = home.put("old.bin", &home.signed(&full(&tiny_bytes(), 5), |_| {}));
    let new = home.put("new.bin", &home.signed(&full(&target(), 6), |_| {}));
    home.apply(&new).ok();
    tool("delta confirm {}", &[&home.model()]).ok();
    let state = home.path("model.bitnet.state");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    json["policy"]["never_downgrade"] = true.into();
    std::fs::write(&state, json.to_string()).unwrap();
    home.refused(tool("delta apply {} {} --allow-downgrade", &[&home.model(), &old]), "never_downgrade");
    // A state that is damaged is not passed over, or an older patch would be a new one.
    std::fs::write(&state, "{}").unwrap();
    home.refused(home.apply(&old), "state of the updates is damaged");
    assert_eq!(home.bytes(), target());
}

#[test]
fn patch_for_another_model() {
    let home = Home::new();
    home.apply(&home.update()).ok();
    let other = home.signed(&full(b"another model", 1 << 30), |h| h.model = "other".to_string());
    home.refused(home.apply(&home.put("other.bin", &other)), "for the model `other`");
    assert_eq!(home.bytes(), target());
}

#[test]
fn unsigned_patch_where_a_key_is_known() {
    let home = Home::new();
    let plain = home.put("plain.bin", &unsigned(&example()));
    home.refused(home.apply(&plain), "not signed");
    // The key that signed the first patch is remembered.
    home.apply(&home.put("first.bin", &home.signed(&full(&tiny_bytes(), 1), |_| {}))).ok();
    home.refused(tool("delta apply {} {}", &[&home.model(), &plain]), "not signed");
    assert_eq!(home.bytes(), tiny_bytes());
}

/// A key is revoked by a list of keys without it; what it signed is refused from then on, and the new list is remembered.
#[test]
fn key_revoked() {
    let home = Home::new();
    let patch = home.update();
    let first = home.put("first.bin", &home.signed(&full(&tiny_bytes(), 1), |_| {}));
    home.apply(&first).ok();
    let next = SecretKey::generate().unwrap();
    next.write(&home.path("next"), None).unwrap();
    home.refused(tool("delta apply {} {} --key {}", &[&home.model(), &patch, &home.path("next.pub")]), "key");
    assert_eq!(home.bytes(), tiny_bytes());
    // An update under the new key pins it.
    let handover = home.put("handover.bin", &signed_by(&next, &full(&[&tiny_bytes()[..], b"2"].concat(), 2), |_| {}));
    tool("delta apply {} {} --key {} --confirm", &[&home.model(), &handover, &home.path("next.pub")]).ok();
    let back = home.put("back.bin", &home.signed(&full(&tiny_bytes(), 3), |_| {}));
    home.refused(tool("delta apply {} {}", &[&home.model(), &back]), "key");
    assert_eq!(home.bytes().len(), tiny_bytes().len() + 1);
}

/// What a patch declares is more than there is room for, or than its index can be about; it is refused before a byte of it is made.
#[test]
fn decompression_bomb() {
    use bitnet_convert::format::delta::{put_varint, zigzag, Flags, Kind, Segment};
    let home = Home::new();
    let base = tiny_bytes();
    let len = base.len() as u64;
    let segments = [Segment { kind: Kind::Copy, at: 0, len, base: 0 }];
    let mut header = crate::support::Patch::make(&segments, 20, Flags::default(), &base, &base).unwrap().header;
    // The base over and over: two entries and a repeat are 1.5 GB, of which each block costs a byte.
    let mut entries = vec![0];
    put_varint(&mut entries, len);
    entries.extend([0, 0]);
    put_varint(&mut entries, len);
    put_varint(&mut entries, zigzag(-(len as i64)));
    entries.extend([15, 1]);
    put_varint(&mut entries, (1 << 17) - 2);
    let mut index = Vec::new();
    put_varint(&mut index, entries.len() as u64);
    index.extend(entries);
    header.target_len = len << 17;
    index.resize(index.len() + header.target_len.div_ceil(1 << 20) as usize, 0);
    header.target_sha = [1; 32];
    header.index_len = index.len() as u32;
    header.index_sha = sha256(&index);
    header.patch_len = (Header::LEN + index.len()) as u64;
    let bytes = [&header.to_bytes()[..], &index].concat();
    assert!(bytes.len() < 4000, "{} bytes for {}", bytes.len(), header.target_len);
    let bomb = home.put("bomb.bin", &home.signed(&bytes, |_| {}));
    let before = home.listing();
    let e = switch(&with_free(100 << 20), &home.model(), &bomb, &home.options()).expect_err("no room");
    assert!(e.to_string().contains("space") || e.to_string().contains("room"), "{e}");
    assert_eq!(home.listing(), before);
    // A length that no disk has does not go with an index of its blocks.
    let longer = home.signed(&bytes, |h| h.target_len = (1 << 48) - 1);
    home.refused(home.apply(&home.put("bomb.bin", &longer)), "bomb.bin");
    assert_eq!(home.bytes(), base);
    assert_eq!(home.listing(), before);
}

/// The frame of a piece holds more than the piece.
#[test]
fn decompression_bomb_in_a_frame() {
    use bitnet_convert::format::delta::{Flags, Kind, Segment};
    let home = Home::new();
    let target = vec![7; 4096];
    let segments = [Segment { kind: Kind::Zstd, at: 0, len: 4096, base: 0 }];
    let flags = Flags { full: true, host_only: true, ..Flags::default() };
    let mut patch = crate::support::Patch::make(&segments, 12, flags, b"", &target).unwrap();
    // The same, with the frame of 32 MB of zeros.
    let frame = zstd::bulk::compress(&vec![0; 32 << 20], 19).unwrap();
    let mut payload = vec![0, 0];
    bitnet_convert::format::delta::put_varint(&mut payload, frame.len() as u64);
    payload.extend(&frame);
    assert!(payload.len() < 4 * 4096, "{}", payload.len());
    patch.index.blocks[0].payload = 0..payload.len() as u64;
    patch.index.blocks[0].stream1 = 0;
    let index = patch.index.to_bytes();
    patch.header.index_len = index.len() as u32;
    patch.header.index_sha = sha256(&index);
    patch.header.payload_sha = sha256(&payload);
    patch.header.patch_len = (Header::LEN + index.len() + payload.len()) as u64;
    patch.payload = payload;
    patch.header.model = "tiny".to_string();
    let bomb = home.put("bomb.bin", &home.signed(&patch.to_bytes(), |_| {}));
    home.refused(home.apply(&bomb), "a frame");
    assert_eq!(home.bytes(), tiny_bytes());
    assert_eq!(home.listing().iter().filter(|n| n.ends_with(".new")).count(), 0);
}

fn old_or_new(bytes: &[u8]) -> bool {
    bytes == tiny_bytes() || bytes == target()
}

type Way = fn(&dyn bitnet_convert::delta::store::Disk, &Path, &Path, &Options) -> Result<Outcome>;

/// The machine stops before the operation of each number. What was asked of the disk has happened; `power.rs` takes that away, too.
#[test]
fn power_cut_at_any_write() {
    for (way, name) in [(switch as Way, "switch"), (in_place as Way, "in place")] {
        let mut cuts = 0;
        loop {
            let home = Home::new();
            let (patch, o) = (home.update(), home.options());
            let disk = stopped_at(cuts);
            let done = way(&disk, &home.model(), &patch, &o).is_ok();
            let unfinished = home.path("model.bitnet.journal").exists();
            assert!(unfinished || old_or_new(&home.bytes()), "{name} cut {cuts}");
            way(&Std, &home.model(), &patch, &o).unwrap_or_else(|e| panic!("{name} cut {cuts}: {e}"));
            assert!(home.bytes() == target(), "{name} cut {cuts}");
            assert!(!home.path("model.bitnet.journal").exists() && !home.path("model.bitnet.new").exists());
            if done {
                break;
            }
            cuts += 1;
        }
        assert!(cuts > 8, "{name}: only {cuts} operations");
    }
}

#[test]
fn cut_during_recovery() {
    for cut in (2..60).step_by(3) {
        let home = Home::new();
        let (patch, o) = (home.update(), home.options());
        if in_place(&stopped_at(cut), &home.model(), &patch, &o).is_ok() {
            break;
        }
        for again in 0..40 {
            if in_place(&stopped_at(again), &home.model(), &patch, &o).is_ok() {
                break;
            }
            assert!(home.path("model.bitnet.journal").exists() || old_or_new(&home.bytes()), "cuts {cut}, {again}");
        }
        in_place(&Std, &home.model(), &patch, &o).unwrap_or_else(|e| panic!("cut {cut}: {e}"));
        assert!(home.bytes() == target(), "cut {cut}");
    }
}

/// No room from the write of each number on; the model stays what it is and the update is made once there is room again.
#[test]
fn disk_full() {
    for (way, name) in [(switch as Way, "switch"), (in_place as Way, "in place")] {
        for writes in 0.. {
            let home = Home::new();
            let (patch, o) = (home.update(), home.options());
            let disk = full_at(writes);
            let result = way(&disk, &home.model(), &patch, &o);
            let unfinished = home.path("model.bitnet.journal").exists();
            assert!(unfinished || old_or_new(&home.bytes()), "{name} {writes}");
            way(&Std, &home.model(), &patch, &o).unwrap_or_else(|e| panic!("{name} {writes}: {e}"));
            assert!(home.bytes() == target(), "{name} {writes}");
            if result.is_ok() {
                assert!(writes > 2, "{name}: only {writes} writes");
                break;
            }
        }
    }
}

#[test]
fn two_updaters_at_once() {
    let home = Home::new();
    let patch = home.update();
    let first = Site::lock(&Std, &home.model()).unwrap();
    let run = home.apply(&patch).never_panicked();
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("another update"), "{}", run.stderr);
    assert_eq!(home.bytes(), tiny_bytes());
    drop(first);
    home.apply(&patch).ok();
    assert_eq!(home.bytes(), target());
}

/// Who has the old file open reads the old file to its end; who comes while it is changed in place is told to wait.
#[test]
fn reader_open_on_the_old_file() {
    let home = Home::new();
    let patch = home.update();
    let mut reader = std::fs::File::open(home.model()).unwrap();
    home.apply(&patch).ok();
    let mut seen = Vec::new();
    reader.read_to_end(&mut seen).unwrap();
    assert!(seen == tiny_bytes() && home.bytes() == target());

    let home = Home::new();
    let (patch, o) = (home.update(), home.options());
    let cut = (0..).find(|cut| {
        let _ = in_place(&stopped_at(*cut), &home.model(), &patch, &o);
        home.path("model.bitnet.journal").exists()
    });
    assert!(cut.is_some());
    let run = tool("inspect {}", &[&home.model()]).never_panicked();
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("an update of this file"), "{}", run.stderr);
    let run = tool("delta apply {} {} --in-place", &[&home.model(), &patch]).ok();
    assert!(run.stdout.contains("complete"), "{}", run.stdout);
    assert_eq!(home.bytes(), target());
}

/// A server that sends bytes without end, and one that stops in the middle: neither gets more than the header allows, nor more than the time
/// that it has.
#[cfg(feature = "hub")]
#[test]
fn endless_or_stalling_server() {
    use crate::http::{Reply, Server, Then};
    let home = Home::new();
    let patch = std::fs::read(home.update()).unwrap();
    let len = patch.len() as u64;
    for (keep, then) in
        [(patch.len(), Then::Endless(0)), (400, Then::Endless(b'x')), (100, Then::Stall), (400, Then::Stall)]
    {
        let sent = patch.clone();
        let server = Server::new(move |a| Reply::tagged_part(a, &sent).sending(keep).announcing(0).then(then));
        let mut c = crate::common::command();
        c.args(["update", "--idle-timeout", "1", "--total-timeout", "4", "--attempts", "1", "--model"])
            .arg(home.model());
        c.arg("--key").arg(home.path("release.pub")).arg("--delta-url").arg(server.url("/update.bin"));
        let run = crate::common::finish(&mut c).never_panicked();
        // What is complete and right is taken, however much comes behind it.
        if run.code == Some(0) {
            assert_eq!((keep, home.bytes() == target()), (patch.len(), true), "{run:?}");
            home.put("model.bitnet", &tiny_bytes());
            std::fs::remove_file(home.path("model.bitnet.state")).unwrap();
        }
        assert_eq!(home.bytes(), tiny_bytes(), "{keep} bytes, {run:?}");
        for name in home.listing().iter().filter(|n| n.contains("download")) {
            let kept = std::fs::metadata(home.path(name)).unwrap().len();
            assert!(kept <= len.max(4096), "{name} has {kept} bytes");
        }
    }
}
