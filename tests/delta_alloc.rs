//! How much memory patches take: an allocator that counts, as detector of bombs. It counts each thread for itself, since tests run side by side.

#[allow(dead_code)] // Another test uses the rest of it.
#[path = "delta/support.rs"]
mod support;

use bitnet_convert::delta::apply;
use bitnet_convert::delta::block::{Decoder, Direction};
use bitnet_convert::delta::store::Std;
use bitnet_convert::digest::sha256;
use bitnet_convert::format::delta::{put_varint, Flags, Header, Index, Kind, Segment};
use bitnet_convert::progress::Silent;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use support::{Draw, Patch};

struct Counting;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn count(more: usize, less: usize) {
    // A thread that ends frees what it has after its counters are gone.
    let _ = NOW.try_with(|now| {
        now.set(now.get().wrapping_add(more).wrapping_sub(less));
        // What one thread gives another to free would count below 0.
        let _ =
            PEAK.try_with(|peak| peak.set(peak.get().max(if now.get() > isize::MAX as usize { 0 } else { now.get() })));
    });
}

// SAFETY: every call goes on to the system's allocator with what it was given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        System.alloc(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        System.alloc_zeroed(layout)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, layout.size());
        System.dealloc(at, layout)
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may exist for a while.
        count(size, 0);
        count(0, layout.size());
        System.realloc(at, layout, size)
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that were allocated at a time while `f` ran, beyond those before.
fn peak<T>(f: impl FnOnce() -> T) -> (usize, T) {
    let before = NOW.get();
    PEAK.set(before);
    let out = f();
    (PEAK.get() - before, out)
}

/// A header for an index, with right lengths but for the target's.
fn header(index: &[u8], block_log2: u32, base_len: u64, target_len: u64, payload: u64) -> Header {
    let segments = [Segment { kind: Kind::Copy, at: 0, len: 1, base: 0 }];
    let mut h = Patch::make(&segments, block_log2, Flags::default(), b"x", b"x").unwrap().header;
    h.index_len = index.len() as u32;
    h.index_sha = sha256(index);
    h.patch_len = Header::LEN as u64 + index.len() as u64 + payload;
    (h.base_len, h.target_len) = (base_len, target_len);
    h
}

/// Entries of an index, with their length before them.
fn table(entries: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, entries.len() as u64);
    out.extend(entries);
    out
}

/// An index is refused, and costs at most `limit` bytes until then.
#[track_caller]
fn refused(index: &[u8], h: &Header, limit: usize) {
    let (bytes, result) = peak(|| Index::parse(index, h).map(|_| ()));
    let e = result.expect_err("a hostile index");
    // Errors hold a text or two.
    assert!(bytes <= limit + 2048, "{bytes} bytes for: {e}");
}

#[test]
fn headers() {
    let index = table(&[0, 1, 0]);
    let good = header(&index, 20, 1, 1, 0).to_bytes();
    for at in 0..good.len() {
        for value in [0, 0xff, good[at] ^ 1] {
            let mut bytes = good;
            bytes[at] = value;
            let (used, _) = peak(|| Header::parse(&bytes).map(|_| ()));
            assert!(used <= 4096, "byte {at}: {used}");
        }
    }
}

/// Numbers that say much with few bytes.
#[test]
fn counts_that_are_not_there() {
    let huge = (1 << 48) - 1;
    // A target of 2^48 bytes has 2^28 blocks, which have a byte each.
    let mut one = vec![0];
    put_varint(&mut one, huge);
    put_varint(&mut one, 0);
    refused(&table(&one), &header(&table(&one), 20, huge, huge, 0), 4096);
    refused(&table(&one), &header(&table(&one), 12, huge, huge, 0), 4096);
    // Entries of 2^62 bytes.
    let mut long = Vec::new();
    put_varint(&mut long, 1 << 62);
    refused(&long, &header(&long, 12, 1, 1, 0), 4096);
    // A payload of 2^40 bytes for a block, and one that the patch does have.
    let mut index = table(&[9, 1]);
    put_varint(&mut index, 1 << 40);
    put_varint(&mut index, 0);
    index.extend([0; 16]);
    refused(&index, &header(&index, 12, 1, 1, 1 << 40), 4096);
    // Kinds with parameters at their ends.
    refused(&table(&[2, 2, 0, 0x80, 0x80, 2]), &header(&table(&[2, 2, 0, 0x80, 0x80, 2]), 12, 2, 2, 0), 4096);
    refused(&[0xff; 300], &header(&[0xff; 300], 12, 1, 1, 0), 4096);
}

/// A segment, many times: a few bytes may become 2^18 segments (12.6 MB), and no more.
#[test]
fn repeats_that_expand() {
    let limit = 2 * (1 << 18) * std::mem::size_of::<Segment>();
    for count in [1 << 10, (1 << 18) - 1, 1 << 18, 1 << 30, (1 << 62) - 1] {
        // Copies of one byte each, from the one before on; then repeats of them.
        let mut entries = vec![0, 1, 0, 15, 1];
        put_varint(&mut entries, count);
        let mut index = table(&entries);
        index.push(0);
        let len = (count + 1).min(1 << 40);
        let h = header(&index, 20, len, len, 0);
        let (bytes, result) = peak(|| Index::parse(&index, &h));
        match result {
            Ok(index) => assert_eq!(index.segments.len() as u64, count + 1),
            Err(_) => assert!(count >= 1 << 18, "{count}"),
        }
        assert!(bytes <= limit, "{count} repeats: {bytes} bytes");
    }
    // Many repeats, each of which is allowed.
    let mut entries = Vec::new();
    for _ in 0..1 << 12 {
        entries.extend([0, 1, 0, 15, 1]);
        put_varint(&mut entries, 1 << 17);
    }
    let index = table(&entries);
    refused(&index, &header(&index, 20, 1 << 40, 1 << 40, 0), limit);
}

/// Every index is at most some times its own size, but for repeats.
#[test]
fn indices_of_nothing_but_blocks() {
    let blocks = 1 << 16;
    let mut index = table(&[9, 0x80, 0x80, 0x80, 0x80, 1]);
    for _ in 0..blocks {
        index.extend([1, 0]);
        index.extend([0; 16]);
    }
    let len = 1 << 28;
    let h = header(&index, 12, 0, len, blocks);
    let (bytes, result) = peak(|| Index::parse(&index, &h).map(|i| i.blocks.len()));
    assert_eq!(result.unwrap() as u64, blocks);
    assert!(bytes <= 6 * index.len(), "{bytes} bytes for an index of {}", index.len());
}

/// A base of the size of a model's part, some of its bits flipped, as segments of several kinds.
fn pair(block_log2: u32, kinds: &[Kind], len: usize) -> (Patch, Vec<u8>, Vec<u8>) {
    let mut draw = Draw::new(7);
    let base: Vec<u8> = (0..len).map(|_| (draw.below(27) + 28 * draw.below(9)) as u8).collect();
    let mut target = base.clone();
    let part = len / kinds.len();
    let mut segments = Vec::new();
    for (i, kind) in kinds.iter().enumerate() {
        let (at, end) = (i * part, if i + 1 == kinds.len() { len } else { (i + 1) * part });
        segments.push(Segment { kind: *kind, at: at as u64, len: (end - at) as u64, base: at as u64 });
        for byte in &mut target[at..end] {
            if !draw.once_in(100) {
                continue;
            }
            *byte = match kind {
                Kind::Fives { .. } => (draw.below(27) + 28 * draw.below(9)) as u8,
                _ => *byte ^ 1 << draw.below(8),
            };
        }
    }
    let in_place = Flags { in_place: true, ..Flags::default() };
    (Patch::make(&segments, block_log2, in_place, &base, &target).unwrap(), base, target)
}

const KINDS: [Kind; 7] = [
    Kind::Bits { rice: true },
    Kind::Bits { rice: false },
    Kind::Fives { rice: false },
    Kind::Fives { rice: true },
    Kind::Ints { width: 4, shift: 0, zeros: false },
    Kind::Bytes,
    Kind::Raw { xor: true },
];

/// The decoder with its payload and its block.
#[test]
fn blocks_are_made_in_little_memory() {
    for (block_log2, limit) in [(12, 32 << 10), (14, 64 << 10), (16, 224 << 10)] {
        let (patch, base, target) = pair(block_log2, &KINDS, KINDS.len() << 18);
        let base = &base[..];
        let (bytes, ()) = peak(|| {
            let longest = patch.index.blocks.iter().map(|b| b.payload.end - b.payload.start).max().unwrap_or(0);
            let (mut decoder, mut block) = (Decoder::new(), Vec::new());
            let mut payload = Vec::with_capacity(longest as usize);
            for number in 0..patch.index.block_count {
                let range = patch.index.block(number).map_or(0..0, |b| b.payload.clone());
                payload.clear();
                payload.extend_from_slice(&patch.payload[range.start as usize..range.end as usize]);
                let direction = Direction::Forward;
                decoder.decode(&patch.header, &patch.index, number, &base, &payload, &mut block, direction).unwrap();
                assert!(block == target[(number as usize) << block_log2..][..block.len()]);
            }
        });
        println!("blocks of 2^{block_log2}: {bytes} bytes");
        assert!(bytes <= limit, "blocks of 2^{block_log2}: {bytes} bytes");
    }
}

/// The same through the library, with files: a buffer of 128 KiB to read them is the most of it, the tables of the index are counted apart.
#[test]
fn patches_are_applied_in_little_memory() {
    for (block_log2, limit) in [(12, 144 << 10), (14, 160 << 10), (16, 192 << 10)] {
        let (patch, base, target) = pair(block_log2, &KINDS, KINDS.len() << 18);
        let dir = tempfile::tempdir().unwrap();
        let [old, file, new] = ["old", "patch", "new"].map(|n| dir.path().join(n));
        std::fs::write(&old, &base).unwrap();
        std::fs::write(&file, patch.to_bytes()).unwrap();
        let index = patch.index.to_bytes();
        let (tables, _) = peak(|| Index::parse(&index, &patch.header).map(|_| ()));
        let (bytes, result) = peak(|| {
            let patch = apply::Patch::open(&Std, &file)?;
            apply::into(&Std, &old, &patch, &new, &Silent)
        });
        result.unwrap();
        assert!(std::fs::read(&new).unwrap() == target);
        println!("blocks of 2^{block_log2}: {bytes} bytes, of them tables {tables} and index {}", index.len());
        assert!(bytes <= limit + tables + index.len(), "blocks of 2^{block_log2}: {bytes} bytes, tables {tables}");
    }
}

/// A frame that claims 2^60 bytes, or a window of 2^41; and one that holds more than its piece. What zstd takes itself is not counted here: it
/// decodes into the block, so it keeps no window.
#[test]
fn frames_that_claim_much() {
    let target = vec![7; 4096];
    let segments = [Segment { kind: Kind::Zstd, at: 0, len: 4096, base: 0 }];
    let flags = Flags { full: true, host_only: true, ..Flags::default() };
    let good = Patch::make(&segments, 12, flags, b"", &target).unwrap();
    let (usual, _) = peak(|| good.apply(b"", Direction::Forward).unwrap());
    // Magic; a descriptor with a size of 8 bytes; a window descriptor; the size; a raw block of one byte, the last.
    let claims = [0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0xf8, 0, 0, 0, 0, 0, 0, 0, 0x10, 9, 0, 0, 1];
    let single = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 9, 0, 0, 1];
    let more = zstd::bulk::compress(&vec![0; 32 << 20], 19).unwrap();
    for frame in [&claims[..], &single, &more, &[], b"none"] {
        let mut payload = vec![0, 0];
        put_varint(&mut payload, frame.len() as u64);
        payload.extend(frame);
        let mut patch = Patch { header: good.header.clone(), index: good.index.clone(), payload };
        patch.index.blocks[0].payload = 0..patch.payload.len() as u64;
        patch.index.blocks[0].stream1 = 0;
        let (bytes, result) = peak(|| patch.apply(b"", Direction::Forward));
        assert!(result.is_err(), "{} bytes", frame.len());
        assert!(bytes <= usual + 8192, "{bytes} bytes, a good one takes {usual}");
    }
}
