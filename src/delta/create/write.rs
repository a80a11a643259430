//! Blocks of a plan, encoded, decoded again for proof, and written with header and index.

use super::plan::Plan;
use super::{Options, Side, DEVICE_BLOCK, HOST_BLOCK};
use crate::delta::block::{Decoder, Direction, Encoder};
use crate::delta::keys;
use crate::delta::report::{self, Report, Sizes};
use crate::digest::{sha256, Sha};
use crate::error::{Error, Result};
use crate::format::delta::{Block, Flags, Header, Index, Kind};
use crate::fsio::AtomicFile;
use crate::parallel;
use crate::progress::Progress;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Mutex;

/// log2 of the smallest and the largest block.
const BLOCKS: std::ops::RangeInclusive<u32> = 12..=20;
/// Bytes that a block takes beside its changes: its digest and lengths, models, and the end of a stream.
const BLOCK_COST: f64 = 26.0;
/// The same for integers and bytes, whose contexts are learnt in each block.
const LEARNT_COST: f64 = 90.0;
/// What blocks may add to a patch.
const BLOCK_SHARE: f64 = 0.005;
/// Bytes of payload kept in memory; more go to a temporary file.
const SPOOL: usize = 4 << 20;
/// Most segments of an index, docs/format/delta.md.
const SEGMENTS: usize = 1 << 18;

pub fn write(
    base: &Side,
    target: &Side,
    options: &Options,
    plan: &Plan,
    out: Option<&Path>,
    progress: &dyn Progress,
) -> Result<Report> {
    let (b, t) = (if options.full { &[][..] } else { base.bytes() }, target.bytes());
    if plan.segments.len() > SEGMENTS {
        return Err(Error::unsupported(format!("{} segments, a patch has at most {SEGMENTS}", plan.segments.len())));
    }
    let block_log2 = options.block_log2.unwrap_or_else(|| block_size(plan, t.len(), options.device));
    let blocks = t.len().div_ceil(1 << block_log2) as u32;
    let plan = &plan.clone().weighed(block_log2, blocks, b, t)?;
    let mut header = header(options, plan, b, t, block_log2);
    let mut index =
        Index { segments: plan.segments.clone(), blocks: Vec::new(), block_count: header.block_count() as u32 };
    (header.contexts, header.row) = (index.contexts(), index.row());
    let counts = report::counts(plan, &target.layout, b, t)?;
    let mut coded = vec![0.0; target.layout.parts.len()];
    let mut spool = tempfile::spooled_tempfile(SPOOL);
    let spoiled = |e: std::io::Error| Error::tool(format!("the temporary file of the patch failed: {e}"));
    let mut payload_sha = Sha::default();
    let mut payload = 0u64;
    let encoder = Encoder { segments: &plan.segments, block_log2, in_place: plan.rules.in_place, base: b, target: t };
    let proof = Proof::new(&header, &index);
    let make = |i: usize| {
        let range = header.block_range(i as u64);
        let made = encoder.encode(i as u32)?;
        let bytes = &t[range.start as usize..range.end as usize];
        let mut digest = [0; 16];
        if !made.payload.is_empty() {
            digest.copy_from_slice(&sha256(bytes)[..16]);
        }
        let block = Block { number: i as u32, payload: 0..made.payload.len() as u64, stream1: made.stream1, digest };
        proof.check(&header, block.clone(), b, bytes, &made.payload)?;
        target.release(bytes);
        if plan.rules.in_place {
            base.release(b.get(range.start as usize..b.len().min(range.end as usize)).unwrap_or(&[]));
        }
        Ok((block, made.payload))
    };
    progress.stage("writing the patch", t.len() as u64);
    parallel::in_order(header.block_count() as usize, make, |(mut block, bytes)| {
        let range = header.block_range(u64::from(block.number));
        progress.advance(range.end - range.start);
        if bytes.is_empty() {
            return Ok(());
        }
        report::share(plan, &counts, range, bytes.len(), &mut coded);
        spool.write_all(&bytes).map_err(spoiled)?;
        payload_sha.update(&bytes);
        block.payload = payload..payload + bytes.len() as u64;
        payload = block.payload.end;
        index.blocks.push(block);
        Ok(())
    })?;
    progress.done();
    let entries = index.to_bytes();
    header.index_len = entries.len() as u32;
    header.patch_len = Header::LEN as u64 + entries.len() as u64 + payload;
    (header.index_sha, header.payload_sha) = (sha256(&entries), payload_sha.finish());
    let bytes = match options.sign {
        Some(key) => keys::sign(&header.to_bytes(), key),
        None => header.to_bytes(),
    };
    let header = Header::parse(&bytes)?;
    if Index::parse(&entries, &header)? != readable(index.clone()) {
        return Err(Error::tool("the index of the patch does not come back as it was written")
            .hint("this is a bug; please report it"));
    }
    let sizes = Sizes { index: entries.len() as u64, payload };
    let report = report::report(base, target, &header, &index, plan, &counts, &coded, sizes, out);
    if let Some(most) = options.max_size.filter(|most| report.bytes > *most) {
        return Err(report.too_fat(most));
    }
    let Some(out) = out else { return Ok(report) };
    let mut file = AtomicFile::create(out)?;
    file.write(&bytes)?;
    file.write(&entries)?;
    spool.seek(SeekFrom::Start(0)).map_err(spoiled)?;
    let mut part = vec![0; 1 << 16];
    loop {
        match spool.read(&mut part).map_err(spoiled)? {
            0 => break,
            n => file.write(&part[..n])?,
        }
    }
    file.commit()?;
    Ok(report)
}

/// What an index says once it is read: where to look for related bytes is known to the encoder only.
fn readable(mut index: Index) -> Index {
    for s in index.segments.iter_mut().filter(|s| !s.kind.reads_base()) {
        s.base = 0;
    }
    index
}

fn header(options: &Options, plan: &Plan, b: &[u8], t: &[u8], block_log2: u32) -> Header {
    let zstd = plan.segments.iter().any(|s| s.kind == Kind::Zstd);
    let back = !options.full && plan.leads_back() && b.len() == t.len();
    let flags = Flags {
        in_place: plan.rules.in_place && !options.full,
        reversible: back,
        full: options.full,
        signed: false,
        host_only: zstd,
    };
    let (base_sha, target_sha) = std::thread::scope(|scope| {
        let other = scope.spawn(|| sha256(b));
        let target = sha256(t);
        // A digest cannot panic.
        (other.join().unwrap_or_default(), target)
    });
    Header {
        flags,
        block_log2,
        index_len: 0,
        patch_len: 0,
        base_len: b.len() as u64,
        target_len: t.len() as u64,
        base_sequence: if options.full { 0 } else { options.base.sequence },
        target_sequence: options.target.sequence,
        contexts: 0,
        row: 0,
        base_sha,
        target_sha,
        index_sha: [0; 32],
        payload_sha: [0; 32],
        model: options.model.clone(),
        base_version: if options.full { String::new() } else { options.base.version.clone() },
        target_version: options.target.version.clone(),
        key_id: [0; 8],
        signature: [0; 64],
    }
}

/// Blocks as small as they may be for what they cost.
fn block_size(plan: &Plan, len: usize, device: bool) -> u32 {
    let learnt = |k: Kind| matches!(k, Kind::Ints { .. } | Kind::Bytes | Kind::Zstd);
    let cost = |log2: &u32| {
        let (mut blocks, mut bytes) = (0.0, 0.0);
        let mut counted = 0;
        for s in plan.segments.iter().filter(|s| s.kind != Kind::Copy) {
            // A block that begins in an earlier segment is counted there.
            let (first, last) = ((s.at >> log2).max(counted), (s.at + s.len - 1) >> log2);
            bytes += (last + 1).saturating_sub(first) as f64 * BLOCK_COST;
            counted = counted.max(last + 1);
            if learnt(s.kind) {
                blocks += (s.len as f64 / f64::from(1u32 << log2)).max(1.0);
            }
        }
        // One that does not change has a byte in the index.
        bytes + (len >> log2) as f64 + blocks.min((len >> log2) as f64 + 1.0) * (LEARNT_COST - BLOCK_COST)
    };
    let most = if device { DEVICE_BLOCK } else { HOST_BLOCK };
    let allowed = BLOCK_SHARE * plan.bits / 8.0;
    BLOCKS.filter(|log2| *log2 <= most).find(|log2| cost(log2) <= allowed).unwrap_or(most)
}

/// Every block is decoded before it is written: a patch that does not give the target never leaves the house.
struct Proof(Mutex<Vec<(Decoder, Index)>>, Index);

impl Proof {
    fn new(header: &Header, index: &Index) -> Proof {
        let one = Index {
            segments: readable(index.clone()).segments,
            blocks: Vec::new(),
            block_count: header.block_count() as u32,
        };
        Proof(Mutex::new(Vec::new()), one)
    }

    fn check(&self, header: &Header, block: Block, b: &[u8], want: &[u8], payload: &[u8]) -> Result<()> {
        let pool = || self.0.lock().unwrap_or_else(|e| e.into_inner());
        let spare = pool().pop();
        let (mut decoder, mut index) = spare.unwrap_or_else(|| (Decoder::new(), self.1.clone()));
        let number = block.number;
        index.blocks.clear();
        if !payload.is_empty() {
            index.blocks.push(block);
        }
        let mut made = Vec::with_capacity(want.len());
        decoder.decode(header, &index, number, &b, payload, &mut made, Direction::Forward)?;
        pool().push((decoder, index));
        if made != want {
            return Err(Error::tool(format!("block {number} of the patch does not give the bytes of the new file"))
                .hint("this is a bug; please report it with both files"));
        }
        Ok(())
    }
}
