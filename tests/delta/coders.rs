//! Blocks: every kind there and back, in any cut, and damage.

use crate::support::{Draw, Patch};
use bitnet_convert::delta::block::{Decoder, Direction, Encoder};
use bitnet_convert::format::delta::{Flags, Kind, Segment};

/// A base of `len` bytes that any kind can start from: codes of five trits, which are valid trits in planes in many places.
fn base(draw: &mut Draw, len: usize) -> Vec<u8> {
    let low = |draw: &mut Draw| draw.below(27) as u8 + 28 * draw.below(9) as u8;
    (0..len).map(|_| low(draw)).collect()
}

/// Bytes that a segment of this kind may become.
fn change(draw: &mut Draw, kind: Kind, old: &[u8], one_in: u64) -> Vec<u8> {
    let mut new = old.to_vec();
    match kind {
        Kind::Copy => {}
        Kind::Bits { .. } => {
            for i in 0..8 * new.len() {
                new[i / 8] ^= u8::from(draw.once_in(one_in)) << (i % 8);
            }
        }
        Kind::Planes { half, .. } => {
            for row in new.chunks_mut(2 * half as usize) {
                let (plus, minus) = row.split_at_mut(half as usize);
                for i in 0..8 * half as usize {
                    if !draw.once_in(one_in) {
                        continue;
                    }
                    let bit = 1 << (i % 8);
                    let (p, m) = (&mut plus[i / 8], &mut minus[i / 8]);
                    match (*p & bit != 0, *m & bit != 0, draw.once_in(2)) {
                        (false, false, true) => *p |= bit,
                        (false, false, false) => *m |= bit,
                        (true, true, _) | (_, _, true) => (*p, *m) = (*p & !bit, *m & !bit),
                        _ => (*p, *m) = (*p ^ bit, *m ^ bit),
                    }
                }
            }
        }
        Kind::Fives { .. } => {
            let code = |draw: &mut Draw| draw.below(27) as u8 + 28 * draw.below(9) as u8;
            new.iter_mut().for_each(|b| *b = if draw.once_in(one_in) { code(draw) } else { *b });
        }
        Kind::Ints { width, shift, .. } => {
            for e in new.chunks_mut(usize::from(width)) {
                if !draw.once_in(one_in) {
                    continue;
                }
                let mut word = [0; 4];
                word[..e.len()].copy_from_slice(e);
                let size = draw.below(8 * u64::from(width));
                let step = (draw.next() as u32 & ((1u64 << size) - 1) as u32).wrapping_sub(draw.below(5) as u32);
                let v = u32::from_le_bytes(word).wrapping_add(step << shift);
                e.copy_from_slice(&v.to_le_bytes()[..e.len()]);
            }
        }
        Kind::Bytes | Kind::Zstd | Kind::Raw { .. } => {
            new.iter_mut().for_each(|b| *b = if draw.once_in(one_in) { draw.next() as u8 } else { *b });
            if draw.once_in(2) && kind != (Kind::Raw { xor: true }) {
                let n = draw.below(new.len() as u64) as usize;
                new.rotate_left(n);
            }
            if draw.once_in(3) {
                let n = new.len() - draw.below(new.len() as u64 + 1) as usize;
                let zero = if let Kind::Raw { xor: true } = kind { old } else { &vec![0; old.len()] };
                new[n..].copy_from_slice(&zero[n..]);
            }
        }
    }
    new
}

fn kind(draw: &mut Draw, flags: Flags) -> Kind {
    let rice = draw.once_in(2);
    loop {
        let width = 1 << draw.below(3);
        let kind = match draw.below(10) {
            0 => Kind::Copy,
            1 => Kind::Bits { rice },
            2 => Kind::Planes { rice, half: 1 + [0, 7, 24, 100, 3000][draw.below(5) as usize] },
            3 => Kind::Fives { rice },
            4 | 5 => Kind::Ints { width, shift: draw.below(8 * u64::from(width)) as u8, zeros: rice },
            6 => Kind::Bytes,
            7 => Kind::Zstd,
            8 => Kind::Raw { xor: true },
            _ => Kind::Raw { xor: false },
        };
        let back = matches!(kind, Kind::Copy | Kind::Bits { .. } | Kind::Ints { .. } | Kind::Raw { xor: true });
        if (back || !flags.reversible) && (flags.host_only || kind != Kind::Zstd) {
            return kind;
        }
    }
}

/// A patch of random segments and what it is made from.
pub fn random(seed: u64) -> (Patch, Vec<u8>, Vec<u8>) {
    let mut draw = Draw::new(seed);
    let in_place = draw.once_in(2);
    let flags =
        Flags { in_place, reversible: in_place && draw.once_in(2), host_only: draw.once_in(2), ..Flags::default() };
    let count = 1 + draw.below(30);
    let longest = [100, 3000, 20_000][draw.below(3) as usize];
    let mut segments = Vec::new();
    let mut at = 0;
    for _ in 0..count {
        let kind = kind(&mut draw, flags);
        let unit = match kind {
            Kind::Planes { half, .. } => 2 * u64::from(half),
            _ => 4,
        };
        // What integers need of their offset; other kinds may leave it anywhere, behind which integers cannot follow.
        let unit = if draw.once_in(20) && !matches!(kind, Kind::Planes { .. } | Kind::Ints { .. }) { 1 } else { unit };
        let unaligned = matches!(kind, Kind::Ints { .. }) && at % 4 != 0;
        let kind = if unaligned { Kind::Bits { rice: false } } else { kind };
        let len = (1 + draw.below(longest)).next_multiple_of(unit);
        segments.push(Segment { kind, at, len, base: at });
        at += len;
    }
    let len = at + if flags.reversible { 0 } else { draw.below(3000) };
    let base = base(&mut draw, len as usize);
    let mut target = Vec::new();
    for s in &mut segments {
        if !in_place {
            s.base = draw.below(len - s.len + 1);
        }
        let one_in = [1, 3, 50, 1000, 1 << 30][draw.below(5) as usize];
        target.extend(change(&mut draw, s.kind, &base[s.base as usize..][..s.len as usize], one_in));
        if let Kind::Raw { xor: false } = s.kind {
            s.base = 0;
        }
    }
    let block_log2 = 12 + draw.below(5) as u32;
    (Patch::make(&segments, block_log2, flags, &base, &target).unwrap(), base, target)
}

#[test]
fn random_patches_come_back() {
    for seed in 0..160 {
        let (patch, base, target) = random(seed);
        let again = Patch::parse(&patch.to_bytes()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(again.header, patch.header, "seed {seed}");
        assert_eq!(again.index.blocks, patch.index.blocks, "seed {seed}");
        assert_eq!(again.to_bytes(), patch.to_bytes(), "seed {seed}");
        assert!(again.apply(&base, Direction::Forward).unwrap() == target, "seed {seed}");
        if patch.header.flags.reversible {
            assert!(again.apply(&target, Direction::Backward).unwrap() == base, "seed {seed} backward");
        } else {
            assert!(again.apply(&target, Direction::Backward).is_err(), "seed {seed} backward");
        }
    }
}

/// A damaged payload is an error or another block, never a panic; and it ends.
#[test]
fn damaged_payloads_are_survived() {
    for seed in 0..80 {
        let (mut patch, base, _) = random(seed);
        let mut draw = Draw::new(seed + 1);
        let good = patch.payload.clone();
        for _ in 0..4 {
            patch.payload.clone_from(&good);
            for _ in 0..1 + draw.below(4) {
                if let Some(b) = patch.payload.get_mut(draw.below(good.len() as u64) as usize) {
                    *b = draw.next() as u8;
                }
            }
            for direction in [Direction::Forward, Direction::Backward] {
                let _ = patch.apply(&base, direction);
            }
        }
        for fill in [0, 0xff, 0x55] {
            patch.payload.fill(fill);
            let _ = patch.apply(&base, Direction::Forward);
        }
    }
}

#[test]
fn a_block_without_changes_has_no_payload() {
    let base = base(&mut Draw::new(5), 3 * 4096);
    let kinds = [
        Kind::Copy,
        Kind::Bits { rice: true },
        Kind::Planes { rice: false, half: 128 },
        Kind::Fives { rice: true },
        Kind::Ints { width: 4, shift: 3, zeros: false },
        Kind::Raw { xor: true },
    ];
    for kind in kinds {
        let segments = [Segment { kind, at: 0, len: base.len() as u64, base: 0 }];
        let patch = Patch::make(&segments, 12, Flags { in_place: true, ..Flags::default() }, &base, &base).unwrap();
        assert!(patch.payload.is_empty(), "{kind:?}");
        assert!(patch.apply(&base, Direction::Forward).unwrap() == base);
    }
    for kind in [Kind::Bytes, Kind::Raw { xor: false }] {
        let segments = [Segment { kind, at: 0, len: base.len() as u64, base: 0 }];
        let patch = Patch::make(&segments, 12, Flags::default(), &base, &base).unwrap();
        assert_eq!(patch.index.blocks.len(), 3, "{kind:?}");
    }
}

#[test]
fn costs_are_what_it_costs() {
    for seed in 0..20 {
        let mut draw = Draw::new(seed);
        let base = base(&mut draw, 40_000);
        for kind in [
            Kind::Bits { rice: true },
            Kind::Fives { rice: true },
            Kind::Ints { width: 2, shift: 1, zeros: false },
            Kind::Bytes,
        ] {
            let one_in = [2, 50, 2000][draw.below(3) as usize];
            // Bytes as those of an XOR: a tail of literals that are 0 would be stripped, which no cost foresees.
            let how = if kind == Kind::Bytes { Kind::Raw { xor: true } } else { kind };
            let target = change(&mut draw, how, &base, one_in);
            let segment = Segment { kind, at: 0, len: base.len() as u64, base: 0 };
            let encoder = Encoder { segments: &[], block_log2: 14, in_place: true, base: &base, target: &target };
            let cost = encoder.cost(&segment).unwrap();
            let size = |kind| {
                let encoder = Encoder { segments: &[Segment { kind, ..segment }], ..encoder };
                (0..3).map(|i| 8 * encoder.encode(i).unwrap().payload.len() as u64).sum::<u64>()
            };
            let near = |bits: u64, real: u64| bits.abs_diff(real) <= 3 * 32 + real / 500;
            let ranged = match kind {
                Kind::Bits { .. } => Kind::Bits { rice: false },
                Kind::Fives { .. } => Kind::Fives { rice: false },
                other => other,
            };
            assert!(near(cost.range, size(ranged)), "{kind:?}: {} for {}", cost.range, size(ranged));
            match ranged == kind {
                true => assert_eq!(cost.rice, u64::MAX),
                false => assert!(near(cost.rice, size(kind)), "{kind:?}: {} for {}", cost.rice, size(kind)),
            }
        }
    }
}

#[test]
fn a_kind_that_cannot_say_the_change_is_refused() {
    let refused_to = |kind, base: &[u8], target: &[u8]| {
        let segments = [Segment { kind, at: 0, len: 8, base: 0 }];
        let e = Encoder { segments: &segments, block_log2: 12, in_place: false, base, target }.encode(0);
        e.expect_err("a change that the kind has no words for").message().to_string()
    };
    let refused = |kind, base: &[u8]| refused_to(kind, base, &[3; 8]);
    let base = [0; 8];
    assert!(refused(Kind::Copy, &base).contains("copy"));
    assert!(refused(Kind::Planes { rice: true, half: 4 }, &base).contains("invalid code"));
    let planes = Kind::Planes { rice: true, half: 4 };
    assert!(refused_to(planes, &[3; 8], &[0, 0, 0, 0, 3, 3, 3, 3]).contains("was an invalid code"));
    assert!(refused(Kind::Fives { rice: true }, &[27; 8]).contains("invalid code"));
    assert!(refused(Kind::Ints { width: 1, shift: 1, zeros: false }, &base).contains("multiple"));
    assert!(refused(Kind::Bits { rice: true }, &[0; 7]).contains("base"));
}

#[test]
fn invalid_codes_in_a_base_of_trits_are_refused() {
    let (base, target) = ([0u8; 8], [3u8; 8]);
    let segments = [Segment { kind: Kind::Fives { rice: false }, at: 0, len: 8, base: 0 }];
    let patch = Patch::make(&segments, 12, Flags::default(), &base, &target).unwrap();
    assert_eq!(patch.apply(&base, Direction::Forward).unwrap(), target);
    for bad in [27, 55, 251, 255] {
        let e = patch.apply(&[0, 0, 0, 0, 0, 0, 0, bad], Direction::Forward).unwrap_err();
        assert!(e.message().contains("no code"), "{e}");
    }
}

#[test]
fn a_decoder_asked_for_what_there_is_not_says_so() {
    let base = vec![0u8; 5000];
    let mut target = base.clone();
    target[4] = 1;
    let segments = [Segment { kind: Kind::Bits { rice: true }, at: 0, len: 5000, base: 0 }];
    let flags = Flags { in_place: true, reversible: true, ..Flags::default() };
    let patch = Patch::make(&segments, 12, flags, &base, &target).unwrap();
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    let mut decode = |block, base: &[u8], payload: &[u8]| {
        decoder.decode(&patch.header, &patch.index, block, &base, payload, &mut out, Direction::Forward).is_ok()
    };
    assert!(decode(0, &base, &patch.payload));
    assert!(!decode(0, &base, &[]), "a payload is missing");
    assert!(!decode(1, &base, &[1]), "a payload too many");
    assert!(decode(1, &base, &[]));
    assert!(!decode(2, &base, &[]), "a block too many");
    assert!(!decode(1, &base[..4999], &[]), "a base too short");
}
