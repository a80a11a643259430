//! What a patch says of itself, without the file that it is for.

use super::block::{BaseRead, Decoder, Direction};
use super::bound::Class;
use super::report::{coder, FileInfo};
use crate::digest::{hex, sha256};
use crate::error::{Error, Result};
use crate::format::delta::{Header, Index, Kind};
use crate::parallel;
use serde::Serialize;

/// A stretch of the target.
#[derive(Debug, Clone, Serialize)]
pub struct SegmentInfo {
    pub kind: String,
    pub at: u64,
    pub bytes: u64,
    /// Where it is read in the base, if it is.
    pub base: Option<u64>,
    /// Bits that flip, if it is a segment of bits and the payload tells without the base.
    pub flips: Option<u64>,
    /// Fewest bytes for them.
    pub bound_bytes: Option<f64>,
}

/// All segments of a kind.
#[derive(Debug, Clone, Serialize)]
pub struct KindInfo {
    pub kind: String,
    pub segments: u64,
    pub bytes: u64,
    pub flips: Option<u64>,
}

/// A patch.
#[derive(Debug, Clone, Serialize)]
pub struct Info {
    pub file: String,
    pub bytes: u64,
    pub model: String,
    /// None for a full patch.
    pub base: Option<FileInfo>,
    pub target: FileInfo,
    pub in_place: bool,
    pub reversible: bool,
    pub full: bool,
    pub host_only: bool,
    pub signed: bool,
    /// Number of the key that signed.
    pub key: Option<String>,
    pub block_bytes: u64,
    pub blocks: u64,
    pub changed_blocks: u64,
    pub index_bytes: u64,
    pub payload_bytes: u64,
    /// Bytes that a decoder needs for its contexts and the longest row.
    pub decoder_bytes: u64,
    /// Flips of all segments of bits, and the fewest bytes for them.
    pub flips: Option<u64>,
    pub bound_bytes: Option<f64>,
    pub kinds: Vec<KindInfo>,
    pub segments: Vec<SegmentInfo>,
}

/// A base of zeros: what is flipped in it is what the patch flips.
struct Zeros;

impl BaseRead for Zeros {
    fn read_at(&self, _: u64, out: &mut [u8]) -> Result<()> {
        out.fill(0);
        Ok(())
    }
}

/// Reads a patch and checks its digests.
///
/// # Errors
/// `Input` if it is damaged.
pub fn read(bytes: &[u8], name: &str) -> Result<(Header, Info)> {
    let header = Header::parse(bytes)?;
    if header.patch_len != bytes.len() as u64 {
        return Err(Error::input(format!("the header says {} bytes, the file has {}", header.patch_len, bytes.len()))
            .at_offset(24)
            .hint("the file is incomplete or has something appended; fetch it again"));
    }
    // `Header::parse` has seen that the index is shorter than the patch.
    let (entries, payload) = bytes[Header::LEN..].split_at(header.index_len as usize);
    for (what, data, want, at) in [
        ("index", entries, &header.index_sha, Header::LEN),
        ("payload", payload, &header.payload_sha, Header::LEN + entries.len()),
    ] {
        if sha256(data) != *want {
            return Err(Error::input(format!("the digest of the {what} does not match its bytes"))
                .at_offset(at as u64)
                .hint("the patch was damaged after it was written; fetch it again"));
        }
    }
    let index = Index::parse(entries, &header)?;
    let flips = flips(&header, &index, payload)?;
    Ok((header.clone(), info(&header, &index, &flips, bytes.len() as u64, name)))
}

fn info(header: &Header, index: &Index, flips: &[Option<u64>], bytes: u64, name: &str) -> Info {
    let mut kinds: Vec<KindInfo> = Vec::new();
    let mut segments = Vec::with_capacity(index.segments.len());
    for (s, flips) in index.segments.iter().zip(flips) {
        let kind = coder(s.kind);
        let class = flips.map(|changes| Class { symbols: 8 * s.len, changes });
        segments.push(SegmentInfo {
            kind: kind.clone(),
            at: s.at,
            bytes: s.len,
            base: s.kind.reads_base().then_some(s.base),
            flips: *flips,
            bound_bytes: class.map(|c| c.bits() / 8.0),
        });
        let found = kinds.iter().position(|k| k.kind == kind);
        let of = found.unwrap_or_else(|| {
            kinds.push(KindInfo { kind, segments: 0, bytes: 0, flips: Some(0) });
            kinds.len() - 1
        });
        let of = &mut kinds[of];
        (of.segments, of.bytes) = (of.segments + 1, of.bytes + s.len);
        of.flips = of.flips.zip(*flips).map(|(a, b)| a + b);
    }
    let of_bits =
        || segments.iter().zip(&index.segments).filter(|(_, s)| matches!(s.kind, Kind::Bits { .. })).map(|(i, _)| i);
    let any = of_bits().next().is_some();
    let file = |bytes, sha: &[u8; 32], version: &str, sequence| FileInfo {
        file: String::new(),
        bytes,
        sha256: hex(sha),
        version: version.to_string(),
        sequence,
    };
    let f = &header.flags;
    Info {
        file: name.to_string(),
        bytes,
        model: header.model.clone(),
        base: (!f.full).then(|| file(header.base_len, &header.base_sha, &header.base_version, header.base_sequence)),
        target: file(header.target_len, &header.target_sha, &header.target_version, header.target_sequence),
        in_place: f.in_place,
        reversible: f.reversible,
        full: f.full,
        host_only: f.host_only,
        signed: f.signed,
        key: f.signed.then(|| super::keys::Number(header.key_id).to_string()),
        block_bytes: 1 << header.block_log2,
        blocks: header.block_count(),
        changed_blocks: index.blocks.len() as u64,
        index_bytes: u64::from(header.index_len),
        payload_bytes: header.payload_len(),
        decoder_bytes: 4 * u64::from(header.contexts) + u64::from(header.row),
        flips: of_bits().map(|s| s.flips).sum::<Option<u64>>().filter(|_| any),
        bound_bytes: of_bits().map(|s| s.bound_bytes).sum::<Option<f64>>().filter(|_| any),
        kinds,
        segments,
    }
}

/// Flips of each segment of bits. Which trit is next depends on the base, so blocks that hold trits keep theirs for themselves, and so do
/// frames.
fn flips(header: &Header, index: &Index, payload: &[u8]) -> Result<Vec<Option<u64>>> {
    let bits = |k: Kind| matches!(k, Kind::Bits { .. });
    let mut out: Vec<Option<u64>> = index.segments.iter().map(|s| bits(s.kind).then_some(0)).collect();
    let one = |i: usize| {
        let block = &index.blocks[i];
        let range = header.block_range(u64::from(block.number));
        let first = index.segments.partition_point(|s| s.at + s.len <= range.start);
        let here = || index.segments.iter().enumerate().skip(first).take_while(|(_, s)| s.at < range.end);
        let open = here().all(|(_, s)| !matches!(s.kind, Kind::Planes { .. } | Kind::Fives { .. } | Kind::Zstd));
        let mut made = Vec::new();
        if open && here().any(|(_, s)| bits(s.kind)) {
            let part = payload.get(block.payload.start as usize..block.payload.end as usize).unwrap_or(&[]);
            Decoder::new().decode(header, index, block.number, &Zeros, part, &mut made, Direction::Forward)?;
        }
        let mut found = Vec::new();
        for (i, s) in here().filter(|(_, s)| bits(s.kind)) {
            let piece = s.at.max(range.start) - range.start..(s.at + s.len).min(range.end) - range.start;
            let piece = made.get(piece.start as usize..piece.end as usize).filter(|_| open);
            found.push((i, piece.map(|p| p.iter().map(|b| u64::from(b.count_ones())).sum::<u64>())));
        }
        Ok(found)
    };
    parallel::in_order(index.blocks.len(), one, |found| {
        for (i, n) in found {
            out[i] = out[i].zip(n).map(|(a, b)| a + b);
        }
        Ok(())
    })?;
    Ok(out)
}
