//! The index, byte for byte: what it means, and what is refused.

use crate::support::Draw;
use bitnet_convert::format::delta::{Block, Flags, Header, Index, Kind, Segment};

/// The header of a patch from 10000 bytes to 10000, in blocks of 4096.
fn header(flags: Flags, index: &[u8], payload: u64) -> Header {
    Header {
        flags,
        block_log2: 12,
        index_len: index.len() as u32,
        patch_len: 384 + index.len() as u64 + payload,
        base_len: 10_000,
        target_len: 10_000,
        base_sequence: 0,
        target_sequence: 0,
        contexts: 0,
        row: 0,
        base_sha: [0; 32],
        target_sha: [0; 32],
        index_sha: [0; 32],
        payload_sha: [0; 32],
        model: "x".to_string(),
        base_version: String::new(),
        target_version: String::new(),
        key_id: [0; 8],
        signature: [0; 64],
    }
}

const PLAIN: Flags = Flags { in_place: false, reversible: false, full: false, signed: false, host_only: false };
const IN_PLACE: Flags = Flags { in_place: true, ..PLAIN };
const REVERSIBLE: Flags = Flags { in_place: true, reversible: true, ..PLAIN };
/// No block changes.
const SAME: [u8; 3] = [0; 3];

fn index(entries: &[u8], blocks: &[u8]) -> Vec<u8> {
    assert!(entries.len() < 128);
    [&[entries.len() as u8], entries, blocks].concat()
}

/// The index, or what is wrong with it.
fn parse(flags: Flags, entries: &[u8], blocks: &[u8], contexts: u32, row: u32) -> Result<Index, String> {
    let bytes = index(entries, blocks);
    let header = Header { contexts, row, ..header(flags, &bytes, 0) };
    Index::parse(&bytes, &header).map_err(|e| e.message().to_string())
}

fn refused(flags: Flags, entries: &[u8]) -> String {
    parse(flags, entries, &SAME, 0, 0).expect_err("a damaged index")
}

/// 10000 as a number of variable length.
const ALL: [u8; 2] = [0x90, 0x4e];

#[test]
fn kinds_are_what_they_are() {
    let whole = |code: &[u8], parameters: &[u8], contexts, row| {
        let reads = !matches!(code, [7..=9]);
        let base: &[u8] = if reads { &[0] } else { &[] };
        let entries = [code, &ALL, base, parameters].concat();
        let flags = Flags { host_only: true, ..PLAIN };
        let full = [[1, 0].as_slice(), &[7; 16]].concat().repeat(3);
        let bytes = index(&entries, if reads { &SAME } else { &full });
        let header = Header { contexts, row, ..header(flags, &bytes, if reads { 0 } else { 3 }) };
        let index = Index::parse(&bytes, &header).unwrap_or_else(|e| panic!("{code:?}: {e}"));
        assert_eq!(index.to_bytes(), bytes, "{code:?}");
        assert_eq!(index.segments.len(), 1);
        assert_eq!((index.segments[0].at, index.segments[0].len, index.segments[0].base), (0, 10_000, 0));
        index.segments[0].kind
    };
    assert_eq!(whole(&[0], &[], 0, 0), Kind::Copy);
    assert_eq!(whole(&[1], &[], 128, 0), Kind::Bits { rice: false });
    assert_eq!(whole(&[17], &[], 0, 0), Kind::Bits { rice: true });
    assert_eq!(whole(&[2], &[100], 385, 200), Kind::Planes { rice: false, half: 100 });
    assert_eq!(whole(&[18], &[0x88, 0x27], 0, 10_000), Kind::Planes { rice: true, half: 5000 });
    assert_eq!(whole(&[3], &[], 257, 0), Kind::Fives { rice: false });
    assert_eq!(whole(&[19], &[], 0, 0), Kind::Fives { rice: true });
    assert_eq!(whole(&[4], &[7], 385, 0), Kind::Ints { width: 1, shift: 7, zeros: false });
    assert_eq!(whole(&[5], &[15], 385, 0), Kind::Ints { width: 2, shift: 15, zeros: false });
    assert_eq!(whole(&[6], &[31], 385, 0), Kind::Ints { width: 4, shift: 31, zeros: false });
    assert_eq!(whole(&[20], &[7], 641, 0), Kind::Ints { width: 1, shift: 7, zeros: true });
    assert_eq!(whole(&[21], &[0], 641, 0), Kind::Ints { width: 2, shift: 0, zeros: true });
    assert_eq!(whole(&[22], &[31], 641, 0), Kind::Ints { width: 4, shift: 31, zeros: true });
    assert_eq!(whole(&[7], &[], 305, 0), Kind::Bytes);
    assert_eq!(whole(&[8], &[], 0, 0), Kind::Zstd);
    assert_eq!(whole(&[9], &[], 0, 0), Kind::Raw { xor: false });
    assert_eq!(whole(&[25], &[], 0, 0), Kind::Raw { xor: true });
}

#[test]
fn places_in_the_base_follow_each_other() {
    // 4 bytes from 6 on, 4 new ones, 4 from where the first ended, then 9988 from 2 before the end of the last.
    let entries = [0, 4, 12, 7, 4, 0, 4, 0, 0, 0x84, 0x4e, 3];
    let new = [[1, 0].as_slice(), &[7; 16], &[0, 0]].concat();
    let bytes = index(&entries, &new);
    let index = Index::parse(&bytes, &Header { contexts: 305, ..header(PLAIN, &bytes, 1) }).unwrap();
    let bases: Vec<u64> = index.segments.iter().map(|s| s.base).collect();
    assert_eq!(bases, [6, 0, 10, 12]);
    let block = Block { number: 0, payload: 0..1, stream1: 0, digest: [7; 16] };
    assert_eq!((index.block(0), index.block(1), index.block(9)), (Some(&block), None, None));
    assert_eq!(index.block_count, 3);
}

#[test]
fn repeats_stand_for_segments() {
    // A copy of 8 bytes and 2 integers, 624 times more; 0 bytes are left.
    let entries = [0, 8, 0, 4, 8, 0, 1, 15, 2, 0xf0, 4];
    let index = parse(PLAIN, &entries, &SAME, 385, 0).unwrap();
    assert_eq!(index.segments.len(), 1250);
    assert_eq!(
        index.segments[1249],
        Segment { kind: Kind::Ints { width: 1, shift: 1, zeros: false }, at: 9992, len: 8, base: 9992 }
    );
    assert_eq!(index.to_bytes(), self::index(&entries, &SAME));
}

#[test]
fn repeats_are_found() {
    let mut draw = Draw::new(1);
    for _ in 0..300 {
        let mut segments = Vec::new();
        let kinds = [Kind::Copy, Kind::Bits { rice: true }, Kind::Raw { xor: true }];
        let mut layer: Vec<(Kind, u64)> = Vec::new();
        while segments.len() < 200 {
            if draw.once_in(4) || layer.is_empty() {
                layer = (0..1 + draw.below(9)).map(|_| (kinds[draw.below(3) as usize], 1 + draw.below(3))).collect();
            }
            segments.extend_from_slice(&layer);
        }
        let mut at = 0;
        let mut place = |(kind, len)| {
            at += len;
            Segment { kind, at: at - len, len, base: at - len }
        };
        let segments: Vec<Segment> = segments.into_iter().map(&mut place).collect();
        let index = Index { segments, blocks: Vec::new(), block_count: 1 };
        let bytes = index.to_bytes();
        let header = Header { base_len: at, target_len: at, ..header(PLAIN, &bytes, 0) };
        assert_eq!(Index::parse(&bytes, &header).unwrap(), index);
        assert!(bytes.len() < 500, "{} bytes", bytes.len());
    }
}

#[test]
fn an_unknown_kind_is_refused() {
    for code in [10, 14, 16, 23, 24, 26, 31, 32, 33, 128, 255] {
        assert!(refused(PLAIN, &[code, 0x90, 0x4e, 0, 0]).contains("unknown kind"), "{code}");
    }
}

#[test]
fn segments_cover_the_target_and_no_more() {
    assert!(refused(PLAIN, &[]).contains("before the target"));
    assert!(refused(PLAIN, &[0, 0x8f, 0x4e, 0]).contains("before the target"));
    assert!(refused(PLAIN, &[0, 0x91, 0x4e, 0]).contains("behind the target"));
    assert!(refused(PLAIN, &[0, 0, 0, 0, 0x90, 0x4e, 0]).contains("empty"));
    assert!(refused(PLAIN, &[0, 0x90, 0x4e, 0, 9, 1]).contains("behind the target"));
    let huge = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0];
    assert!(refused(PLAIN, &huge).contains("behind the target"));
}

#[test]
fn entries_that_are_cut_are_refused() {
    let entries = [6, 0x90, 0x4e, 0, 3];
    assert!(parse(PLAIN, &entries, &SAME, 385, 0).is_ok());
    for n in 1..5 {
        let message = refused(PLAIN, &entries[..n]);
        assert!(message.contains("cut short"), "{n}: {message}");
    }
}

#[test]
fn places_outside_of_the_base_are_refused() {
    assert!(refused(PLAIN, &[0, 0x90, 0x4e, 1]).contains("outside of the base"), "before it");
    assert!(refused(PLAIN, &[0, 0x90, 0x4e, 2]).contains("outside of the base"), "behind it");
    let far = [0, 0x90, 0x4e, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(refused(PLAIN, &far).contains("outside of the base"));
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    for half in [&[0][..], &[3], &[0x81, 0x80, 2], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]] {
        assert!(refused(PLAIN, &[&[18, 0x90, 0x4e, 0][..], half].concat()).contains("rows"), "{half:?}");
    }
}

#[test]
fn integers_out_of_place_are_refused() {
    for (kind, shift) in [(4, 8), (5, 16), (6, 32), (6, 255)] {
        assert!(refused(PLAIN, &[kind, 0x90, 0x4e, 0, shift]).contains("shifted"), "{kind}");
    }
    for kind in [5, 6] {
        assert!(refused(PLAIN, &[kind, 0x8f, 0x4e, 0, 0]).contains("multiple"), "{kind}: their length");
        assert!(refused(PLAIN, &[0, 1, 0, kind, 8, 0, 0]).contains("multiple"), "{kind}: their offset");
    }
}

#[test]
fn frames_without_their_flag_are_refused() {
    assert!(refused(PLAIN, &[8, 0x90, 0x4e]).contains("zstd"));
}

#[test]
fn repeats_of_nothing_are_refused() {
    assert!(refused(PLAIN, &[15, 1, 1]).contains("no entries"));
    assert!(refused(PLAIN, &[0, 8, 0, 15, 0, 1]).contains("no entries"));
    assert!(refused(PLAIN, &[0, 8, 0, 15, 2, 1]).contains("no entries"));
    assert!(refused(PLAIN, &[0, 8, 0, 15, 1, 0]).contains("repeats nothing"));
    assert!(refused(PLAIN, &[0, 8, 0, 15, 1, 1, 15, 1, 1]).contains("no entries"), "a repeat of a repeat");
    assert!(refused(PLAIN, &[0, 8, 0, 15, 1, 1, 0, 8, 0, 15, 2, 1]).contains("no entries"), "across a repeat");
    assert!(refused(PLAIN, &[0, 8, 0, 15, 1]).contains("cut short"));
}

#[test]
fn too_many_segments_are_refused() {
    // One byte each, 2^18 times, and once more.
    for (c, fine) in [([0xff, 0xff, 0x0f], true), ([0x80, 0x80, 0x10], false)] {
        let entries = [&[0, 1, 0, 15, 1][..], &c].concat();
        let len = (1 << 18) + u64::from(!fine);
        let bytes = index(&entries, &[0; 65]);
        let bytes = &bytes[..bytes.len() - usize::from(fine)];
        let header = Header { base_len: len, target_len: len, ..header(PLAIN, bytes, 0) };
        match Index::parse(bytes, &header) {
            Ok(index) => assert!(fine && index.segments.len() == 1 << 18),
            Err(e) => assert!(!fine && e.message().contains("too many"), "{e}"),
        }
    }
}

#[test]
fn a_patch_in_place_stays_in_place() {
    assert!(parse(IN_PLACE, &[0, 0x90, 0x4e, 0], &SAME, 0, 0).is_ok());
    assert!(refused(IN_PLACE, &[0, 8, 2, 0, 0x88, 0x4e, 0]).contains("another place"));
}

#[test]
fn a_reversible_patch_has_a_way_back() {
    for good in [&[0, 0x90, 0x4e, 0][..], &[17, 0x90, 0x4e, 0], &[25, 0x90, 0x4e, 0]] {
        assert!(parse(REVERSIBLE, good, &SAME, 0, 0).is_ok(), "{good:?}");
    }
    for bad in [&[18, 0x90, 0x4e, 0, 100][..], &[19, 0x90, 0x4e, 0], &[7, 0x90, 0x4e], &[9, 0x90, 0x4e]] {
        assert!(refused(REVERSIBLE, bad).contains("no way back"), "{bad:?}");
    }
}

#[test]
fn memory_that_is_not_needed_is_refused() {
    let rows = [2, 0x90, 0x4e, 0, 100];
    assert!(parse(PLAIN, &rows, &SAME, 385, 200).is_ok());
    for (contexts, row) in [(384, 200), (386, 200), (385, 0), (385, 400)] {
        assert!(parse(PLAIN, &rows, &SAME, contexts, row).is_err_and(|m| m.contains("memory")));
    }
}

/// What is said of these blocks behind a copy of everything.
fn blocks_refused(blocks: &[u8], payload: u64) -> String {
    let bytes = index(&[1, 0x90, 0x4e, 0], blocks);
    let header = Header { contexts: 128, ..header(PLAIN, &bytes, payload) };
    Index::parse(&bytes, &header).expect_err("damaged blocks").message().to_string()
}

#[test]
fn blocks_and_payload_end_together() {
    let one = [&[5, 2][..], &[9; 16], &[0, 0]].concat();
    assert!(blocks_refused(&one, 4).contains("too long"));
    assert!(blocks_refused(&one, 6).contains("end before"));
    assert!(blocks_refused(&[0, 0, 0, 0], 0).contains("end before"));
    assert!(blocks_refused(&[0, 0], 0).contains("too short"));
    assert!(blocks_refused(&one[..17], 5).contains("digest is cut short"));
    assert!(blocks_refused(&[0, 0, 0x80], 0).contains("cut short"));
    assert!(blocks_refused(&[&[5, 6][..], &[9; 16], &[0, 0]].concat(), 5).contains("stream is longer"));
}

#[test]
fn a_payload_is_at_most_twice_its_block() {
    let block = |len: &[u8]| [len, &[0], &[9; 16], &[0, 0]].concat();
    let bytes = index(&[1, 0x90, 0x4e, 0], &block(&[0x80, 0x40]));
    assert!(Index::parse(&bytes, &Header { contexts: 128, ..header(PLAIN, &bytes, 8192) }).is_ok());
    assert!(blocks_refused(&block(&[0x81, 0x40]), 8193).contains("too long"));
}

#[test]
fn a_block_of_new_bytes_has_a_payload() {
    for code in [7, 8, 9] {
        let bytes = index(&[0, 0x84, 0x20, 0, code, 0x8c, 0x2e], &[0; 3]);
        let contexts = if code == 7 { 305 } else { 0 };
        let flags = Flags { host_only: true, ..PLAIN };
        let e = Index::parse(&bytes, &Header { contexts, ..header(flags, &bytes, 0) }).unwrap_err();
        assert!(e.message().contains("without payload"), "{e}");
        // The second block on needs one.
        assert_eq!(e.offset(), Some(384 + 9));
    }
}

#[test]
fn an_index_of_another_length_is_refused() {
    let bytes = index(&[0, 0x90, 0x4e, 0], &SAME);
    let header = header(PLAIN, &bytes, 0);
    assert!(Index::parse(&bytes, &header).is_ok());
    assert!(Index::parse(&bytes[..7], &header).is_err());
    assert!(Index::parse(&[], &Header { index_len: 0, ..header.clone() }).is_err());
    let longer = [&[200], &bytes[1..]].concat();
    assert!(Index::parse(&longer, &header).is_err());
}

/// Any bytes are an index or an error; what is one comes back the same.
#[test]
fn random_indexes_are_survived() {
    let mut draw = Draw::new(77);
    for _ in 0..30_000 {
        let n = 1 + draw.below(40) as usize;
        let mut bytes = vec![n as u8];
        for _ in 0..n {
            let b = [draw.below(28), draw.below(4), draw.next()][draw.below(3) as usize];
            bytes.push(b as u8);
        }
        bytes.extend([0; 3]);
        let header = Header { target_len: 4096 * 3, base_len: 4096 * 3, ..header(PLAIN, &bytes, 0) };
        if let Ok(index) = Index::parse(&bytes, &header) {
            assert_eq!(
                Index::parse(&index.to_bytes(), &Header { index_len: index.to_bytes().len() as u32, ..header })
                    .unwrap(),
                index
            );
        }
    }
}
