//! Patches with known bytes, for every reader of the format. `BLESS=1` writes them anew.

use crate::support::{Draw, Patch};
use bitnet_convert::delta::block::Direction;
use bitnet_convert::format::delta::{Flags, Kind, Segment};
use std::path::{Path, PathBuf};

struct Vector {
    name: &'static str,
    patch: Patch,
    base: Vec<u8>,
    target: Vec<u8>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/delta")
}

/// Codes of five trits.
fn fives(draw: &mut Draw, len: usize) -> Vec<u8> {
    (0..len).map(|_| draw.below(27) as u8 + 28 * draw.below(9) as u8).collect()
}

fn segments(kinds: &[(Kind, u64)]) -> Vec<Segment> {
    let mut at = 0;
    let mut place = |&(kind, len): &(Kind, u64)| {
        at += len;
        let base = if matches!(kind, Kind::Bytes | Kind::Raw { xor: false }) { 0 } else { at - len };
        Segment { kind, at: at - len, len, base }
    };
    kinds.iter().map(&mut place).collect()
}

const ALIGNED: Flags = Flags { in_place: true, reversible: false, full: false, signed: false, host_only: false };
const BOTH_WAYS: Flags = Flags { reversible: true, ..ALIGNED };

fn vector(name: &'static str, kinds: &[(Kind, u64)], flags: Flags, base: &[u8], target: Vec<u8>) -> Vector {
    let patch = Patch::make(&segments(kinds), 12, flags, base, &target).unwrap();
    Vector { name, patch, base: base.to_vec(), target }
}

/// Flips a bit once in `one_in` times.
fn flipped(draw: &mut Draw, bytes: &[u8], one_in: u64) -> Vec<u8> {
    let mut flip = |b: &u8| (0..8).fold(*b, |b, i| b ^ u8::from(draw.once_in(one_in)) << i);
    bytes.iter().map(&mut flip).collect()
}

fn vectors() -> Vec<Vector> {
    let mut draw = Draw::new(6);
    let draw = &mut draw;
    let base = fives(draw, 5000);
    let (range, rice) = (Kind::Bits { rice: false }, Kind::Bits { rice: true });
    let mut all = Vec::new();
    let flips = flipped(draw, &base, 100);
    all.push(vector("bits-range", &[(range, 5000)], BOTH_WAYS, &base, flips.clone()));
    all.push(vector("bits-rice", &[(rice, 5000)], BOTH_WAYS, &base, flips.clone()));
    all.push(vector("bits-mixed", &[(rice, 1500), (range, 2000), (rice, 1500)], BOTH_WAYS, &base, flips));
    // Rows of 14 bytes, cut by the block; some trits become 0, their negative, or leave 0.
    let mut planes = base.clone();
    for (row, old) in planes.chunks_exact_mut(14).zip(base.chunks_exact(14)) {
        for _ in 0..3 {
            let (i, to) = (draw.below(56), draw.below(3));
            let (at, bit) = ((i / 8) as usize, 1 << (i % 8));
            // Both bits, which is no trit, can only become 0.
            if old[at] & old[at + 7] & bit != 0 && to != 0 {
                continue;
            }
            row[at] = (row[at] & !bit) | (u8::from(to == 1) * bit);
            row[at + 7] = (row[at + 7] & !bit) | (u8::from(to == 2) * bit);
        }
    }
    for (name, rice) in [("planes-range", false), ("planes-rice", true)] {
        let kinds = [(Kind::Planes { rice, half: 7 }, 4998), (Kind::Raw { xor: true }, 2)];
        all.push(vector(name, &kinds, ALIGNED, &base, planes.clone()));
    }
    let other = fives(draw, 5000);
    let mixed: Vec<u8> = base.iter().zip(&other).map(|(a, b)| if draw.once_in(30) { *b } else { *a }).collect();
    for (name, rice) in [("fives-range", false), ("fives-rice", true)] {
        all.push(vector(name, &[(Kind::Fives { rice }, 5000)], ALIGNED, &base, mixed.clone()));
    }
    let mut integers = base.clone();
    for e in integers.chunks_exact_mut(4) {
        let v = u32::from_le_bytes([e[0], e[1], e[2], e[3]]);
        let step = (draw.next() as u32 >> draw.below(32)).wrapping_sub(draw.next() as u32 >> draw.below(32));
        e.copy_from_slice(&if draw.once_in(3) { v } else { v.wrapping_add(step << 4) }.to_le_bytes());
    }
    let int = |width, shift| Kind::Ints { width, shift, zeros: false };
    all.push(vector("ints", &[(int(4, 4), 4000), (int(2, 0), 500), (int(1, 0), 500)], BOTH_WAYS, &base, integers));
    let text: Vec<u8> = [&base[100..900], b"new bytes", &base[850..3000], &base[..60], &base[60..1000]].concat();
    let flags = Flags { in_place: false, ..ALIGNED };
    all.push(vector("bytes", &[(Kind::Bytes, text.len() as u64)], flags, &base, text));
    // New bytes that end in zeros, a block as it was, and an XOR.
    let mut raw = [&base[..], &base[..], &base[..1000]].concat();
    let base = raw.clone();
    raw[..3000].copy_from_slice(&other[..3000]);
    raw[3000..4096].fill(0);
    raw[10_000] ^= 7;
    let kinds = [(Kind::Raw { xor: false }, 4096), (Kind::Copy, 3000), (Kind::Raw { xor: true }, 3904)];
    all.push(vector("raw", &kinds, ALIGNED, &base, raw));
    let flags = Flags { full: true, ..Flags::default() };
    all.push(vector("full", &[(Kind::Bytes, 3000), (Kind::Raw { xor: false }, 2000)], flags, &[], other));
    all
}

/// Which patch is made for which base, as JSON that any reader can take; the headers have the digest of the target.
fn listed(all: &[Vector]) -> String {
    let one = |v: &Vector| format!("{{\"patch\":\"{}.bin\",\"base\":\"{}\"}}", v.name, base_name(&v.base));
    format!("[{}]\n", all.iter().map(one).collect::<Vec<_>>().join(",\n"))
}

fn base_name(base: &[u8]) -> String {
    format!("base-{}.bin", base.len())
}

#[test]
fn patches_have_their_known_bytes() {
    let all = vectors();
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        std::fs::write(folder().join("vectors.json"), listed(&all)).unwrap();
        for v in &all {
            std::fs::write(folder().join(format!("{}.bin", v.name)), v.patch.to_bytes()).unwrap();
            std::fs::write(folder().join(base_name(&v.base)), &v.base).unwrap();
        }
    }
    assert!(std::fs::read_to_string(folder().join("vectors.json")).unwrap() == listed(&all), "vectors.json");
    for v in &all {
        let bytes = std::fs::read(folder().join(format!("{}.bin", v.name))).unwrap();
        assert!(std::fs::read(folder().join(base_name(&v.base))).unwrap() == v.base, "{}: another base", v.name);
        assert!(bytes == v.patch.to_bytes(), "{}: other bytes", v.name);
        let patch = Patch::parse(&bytes).unwrap_or_else(|e| panic!("{}: {e}", v.name));
        assert!(patch.apply(&v.base, Direction::Forward).unwrap() == v.target, "{}", v.name);
        if patch.header.flags.reversible {
            assert!(patch.apply(&v.target, Direction::Backward).unwrap() == v.base, "{} backward", v.name);
        }
    }
}
