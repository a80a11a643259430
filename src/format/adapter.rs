//! `lora-bits.bin`: the low-bit factors of an adapter, docs/format/adapter.md.

use crate::bytes::{put_u32, Reader};
use crate::digest::crc32;
use crate::error::{Error, Result};
use crate::kernels::adapter::{largest, Factors};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

pub const MAGIC: [u8; 8] = *b"\x89BNLR\r\n\x1a";
const VERSION: u32 = 1;
/// Bytes of the header.
pub const HEADER: usize = 40;
/// Bytes of a part before its scales and codes.
pub const PART: usize = 20;
/// Bytes of a signature behind the file.
pub const SIGNATURE: usize = 64;
/// Where what the checksum covers begins.
const COVERED: usize = 20;
const SIGNED: u32 = 1;

/// Largest rank of a part.
pub const MAX_RANK: usize = 256;
/// Largest number of rows or columns of a part.
pub const MAX_SIDE: usize = 1 << 20;
/// Most parts of an adapter.
pub const MAX_PARTS: usize = 1 << 16;
/// Exponents of scales.
const EXPONENTS: std::ops::RangeInclusive<i32> = -4096..=4095;

/// The factors of the matrix of one LINEAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Number of the LINEAR among those before the head, in the order of the program.
    pub linear: usize,
    pub factors: Factors,
}

/// An adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// Of the model it was made for, words 27 and 28 of its program.
    pub model: u64,
    /// Number of LINEARs before the head of that model.
    pub linears: usize,
    pub parts: Vec<Part>,
}

/// Bytes of `n` codes.
fn row_bytes(n: usize, bits: u32) -> usize {
    (n * bits as usize).div_ceil(8)
}

/// Bytes of a part in the file.
pub fn part_bytes(rows: usize, cols: usize, rank: usize, bits: u32) -> usize {
    (PART + 3 * rank + rank * row_bytes(cols, bits) + rows * row_bytes(rank, bits)).next_multiple_of(4)
}

/// RAM of a device for a part of this rank.
pub fn scratch_bytes(rank: usize) -> usize {
    24 + 4 * rank
}

fn put_row(out: &mut Vec<u8>, row: &[i16], bits: u32) {
    let start = out.len();
    out.resize(start + row_bytes(row.len(), bits), 0);
    for (i, v) in row.iter().enumerate() {
        let code = ((i32::from(*v) + largest(bits) as i32) / 2) as u8;
        let at = i * bits as usize;
        out[start + at / 8] |= code << (at % 8);
    }
}

fn get_row(bytes: &[u8], n: usize, bits: u32, out: &mut Vec<i16>) {
    let top = largest(bits) as i16;
    out.extend((0..n).map(|i| {
        let at = i * bits as usize;
        2 * (i16::from(bytes[at / 8] >> (at % 8)) & top) - top
    }));
}

impl Adapter {
    /// The file, signed if there is a key.
    pub fn to_bytes(&self, key: Option<&SigningKey>) -> Vec<u8> {
        let mut body = Vec::new();
        put_u32(&mut body, if key.is_some() { SIGNED } else { 0 });
        put_u32(&mut body, self.model as u32);
        put_u32(&mut body, (self.model >> 32) as u32);
        put_u32(&mut body, self.parts.len() as u32);
        put_u32(&mut body, self.linears as u32);
        for p in &self.parts {
            let f = &p.factors;
            put_u32(&mut body, p.linear as u32);
            put_u32(&mut body, f.rank as u32 | f.bits << 16);
            put_u32(&mut body, f.rows as u32);
            put_u32(&mut body, f.cols as u32);
            put_u32(&mut body, f.e as u32);
            f.m.iter().for_each(|m| body.extend_from_slice(&m.to_le_bytes()));
            body.extend_from_slice(&f.h);
            f.a.chunks_exact(f.cols).for_each(|row| put_row(&mut body, row, f.bits));
            f.b.chunks_exact(f.rank).for_each(|row| put_row(&mut body, row, f.bits));
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut out = MAGIC.to_vec();
        put_u32(&mut out, VERSION);
        put_u32(&mut out, (COVERED + body.len()) as u32);
        put_u32(&mut out, crc32(&body));
        out.extend(body);
        if let Some(key) = key {
            let signature = key.sign(&out);
            out.extend(signature.to_bytes());
        }
        out
    }

    /// Reads a file and checks everything that it says about itself. A signature is looked at only by [`verify`].
    ///
    /// # Errors
    /// `Input` with the offset of what is wrong.
    pub fn from_bytes(data: &[u8]) -> Result<Adapter> {
        let (length, signed) = frame(data)?;
        let mut r = Reader::new(&data[COVERED..length], COVERED as u64, "the adapter");
        r.u32()?; // flags, read by `frame`
        let model = r.u64()?;
        let count = r.count("the number of parts", 1..=MAX_PARTS)?;
        let linears = r.count("the number of matrices", 1..=MAX_PARTS)?;
        // A part has at least this size, so a false number cannot ask for memory.
        let mut parts: Vec<Part> = Vec::with_capacity(count.min(r.remaining() / PART + 1));
        for _ in 0..count {
            let part = part(&mut r, linears)?;
            if parts.last().is_some_and(|p| p.linear >= part.linear) {
                return Err(r.error(format!("the part of matrix {} is not in ascending order", part.linear)));
            }
            parts.push(part);
        }
        r.finish()?;
        let rest = data.len() - length;
        if rest != if signed { SIGNATURE } else { 0 } {
            let e = Error::input(format!("the adapter: {rest} bytes behind its end")).at_offset(length as u64);
            return Err(e.hint(if signed {
                "a signature has 64 bytes; fetch the file again"
            } else {
                "the file is damaged; fetch or make it again"
            }));
        }
        Ok(Adapter { model, linears, parts })
    }

    /// Bytes that a device needs beside the file.
    pub fn scratch(&self) -> usize {
        self.parts.iter().map(|p| scratch_bytes(p.factors.rank)).sum()
    }
}

/// Magic, version, length and checksum; the length without signature, and whether there is one.
fn frame(data: &[u8]) -> Result<(usize, bool)> {
    if !data.starts_with(&MAGIC) {
        let e = Error::input("this is no adapter (it does not begin with the bytes of `lora-bits.bin`)");
        return Err(e
            .at_offset(0)
            .hint("make one from a PEFT folder: `bitnet-convert adapter --base M --lora DIR -o lora-bits.bin`"));
    }
    let mut r = Reader::new(data, 0, "the adapter");
    r.take(MAGIC.len())?;
    let version = r.u32()?;
    if version != VERSION {
        return Err(r.error(format!("version {version}, this program reads version {VERSION}")));
    }
    let length = r.u32()? as usize;
    if length < HEADER || length > data.len() || !length.is_multiple_of(4) {
        let e = r.error(format!("a length of {length} bytes, the file has {}", data.len()));
        return Err(e.hint("the file is incomplete or damaged; fetch or make it again"));
    }
    let crc = r.u32()?;
    if crc32(&data[COVERED..length]) != crc {
        return Err(r.error("its checksum differs").hint("the file is damaged; fetch or make it again"));
    }
    match r.u32()? {
        flags @ (0 | SIGNED) => Ok((length, flags == SIGNED)),
        other => Err(r.error(format!("flags {other:#x}, only bit 0 (signed) is known"))),
    }
}

fn part(r: &mut Reader, linears: usize) -> Result<Part> {
    let linear = r.count("the matrix of a part", 0..=linears - 1)?;
    let word = r.u32()?;
    let (rank, bits) = ((word & 0xFFFF) as usize, word >> 16);
    if !(1..=MAX_RANK).contains(&rank) {
        return Err(r.error(format!("a rank of {rank}, allowed are 1 to {MAX_RANK}")));
    }
    if ![1, 2, 4, 8].contains(&bits) {
        return Err(r.error(format!("{bits} bits a code, allowed are 1, 2, 4 and 8")));
    }
    let rows = r.count("the rows of a part", 1..=MAX_SIDE)?;
    let cols = r.count("the columns of a part", 1..=MAX_SIDE)?;
    let e = r.i32()?;
    if !EXPONENTS.contains(&e) {
        return Err(r.error(format!("an exponent of {e}")));
    }
    let m: Vec<u16> = r.take(2 * rank)?.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
    if let Some(m) = m.iter().find(|m| **m < 0x8000) {
        return Err(r.error(format!("a scale with mantissa {m}, it must have 16 bits")));
    }
    let h = r.take(rank)?.to_vec();
    if let Some(h) = h.iter().find(|h| **h > 63) {
        return Err(r.error(format!("a scale with shift {h}, at most 63 is allowed")));
    }
    let (stride_a, stride_b) = (row_bytes(cols, bits), row_bytes(rank, bits));
    let (bytes_a, bytes_b) = (r.take(rank * stride_a)?, r.take(rows * stride_b)?);
    let (mut a, mut b) = (Vec::with_capacity(rank * cols), Vec::with_capacity(rows * rank));
    bytes_a.chunks_exact(stride_a).for_each(|row| get_row(row, cols, bits, &mut a));
    bytes_b.chunks_exact(stride_b).for_each(|row| get_row(row, rank, bits, &mut b));
    let used = PART + 3 * rank + bytes_a.len() + bytes_b.len();
    r.take(used.next_multiple_of(4) - used)?;
    Ok(Part { linear, factors: Factors { bits, rank, rows, cols, e, m, h, a, b } })
}

/// Checks the signature of a file.
///
/// # Errors
/// `Input` if the file is none, is not signed or was signed with another key.
pub fn verify(data: &[u8], key: &VerifyingKey) -> Result<()> {
    let (length, signed) = frame(data)?;
    if !signed {
        let e = Error::input("the adapter is not signed");
        return Err(e.hint("sign it when it is made: `bitnet-convert adapter … --sign KEY`"));
    }
    let bytes: Option<&[u8; SIGNATURE]> = data[length..].try_into().ok();
    let signature = bytes.map(Signature::from_bytes);
    match signature.map(|s| key.verify_strict(&data[..length], &s)) {
        Some(Ok(())) => Ok(()),
        _ => Err(Error::input("the signature of the adapter is not one of this key")
            .at_offset(length as u64)
            .hint("the file was changed, or comes from somebody else")),
    }
}
