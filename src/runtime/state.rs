//! Sessions as bytes: what [`crate::format::session`] describes, from and into a running model.

use super::{Artifact, Session};
use crate::encoding::fixed::Scale;
use crate::error::{Error, Result};
use crate::format::session::{Header, HEAD_BYTES};
use crate::kernels::attention::LayerCache;
use crate::kernels::dot::DotKernel;

const DIGEST: std::ops::Range<usize> = 32..64; // of the packed file's header

/// The header that a session of this model has at `position`.
fn header(a: &Artifact, position: u32, saturated: u64) -> Header {
    let (p, shape) = (&a.program, &a.program.attention);
    let mut model = [0; 32];
    model.copy_from_slice(&a.packed.bytes()[DIGEST]);
    Header {
        model,
        window: shape.window as u32,
        key_bits: shape.k_bits,
        value_bits: shape.v_bits,
        layers: p.layers as u32,
        kv_heads: shape.kv_heads as u32,
        head_dim: shape.head_dim as u32,
        static_keys: p.static_keys,
        position,
        saturated: u32::try_from(saturated).unwrap_or(u32::MAX),
    }
}

/// The largest session of this model, for a cap on what is read.
pub fn most_bytes(a: &Artifact) -> u64 {
    HEAD_BYTES as u64 + header(a, u32::MAX, 0).cache_bytes()
}

/// The conversation so far.
///
/// # Errors
/// `Usage` if the model gives embeddings, `Unsupported` if the session has 4 GiB or more.
pub fn save(a: &Artifact, session: &Session) -> Result<Vec<u8>> {
    a.need_logits()?;
    let h = header(a, session.position, session.saturated);
    if h.cache_bytes() > u64::from(u32::MAX) - HEAD_BYTES as u64 {
        return Err(Error::unsupported("a session of 4 GiB or more cannot be kept")
            .hint("export with a smaller `--kv-window` or fewer `--kv-bits`"));
    }
    let slots = h.filled() as usize;
    let (heads, codes) = (slots * h.kv_heads as usize, slots * (h.kv_heads * h.head_dim) as usize);
    let mut out = Vec::with_capacity(h.cache_bytes() as usize);
    for cache in &session.caches {
        let w = cache.stored(codes, heads, h.static_keys);
        put_codes(&mut out, w.k, h.key_bits);
        put_codes(&mut out, w.v, h.value_bits);
        for scales in [w.vs, w.ks] {
            scales.iter().for_each(|s| out.extend_from_slice(&s.m.to_le_bytes()));
            scales.iter().for_each(|s| out.extend_from_slice(&(s.e as i16).to_le_bytes()));
        }
    }
    Ok(h.write(&out))
}

/// A session that goes on where `data` was saved. Everything is checked before it is used.
///
/// # Errors
/// As [`Header::read`]; `Input` if it belongs to another model or another form of its cache, or holds what no model can have written.
pub fn restore<'a>(a: &'a Artifact, kernel: DotKernel, data: &[u8]) -> Result<Session<'a>> {
    a.need_logits()?;
    let (h, cache) = Header::read(data)?;
    let own = header(a, h.position, u64::from(h.saturated));
    if h.model != own.model {
        return Err(Error::input("the session belongs to another model")
            .at_offset(20)
            .hint("run it with the artifact that made it, or give another file name to start a new one"));
    }
    if (h.window, h.key_bits, h.value_bits) != (own.window, own.key_bits, own.value_bits) {
        let form = |h: &Header| format!("a window of {} and {}/{} bits", h.window, h.key_bits, h.value_bits);
        return Err(Error::input(format!("the session has {}, this model {}", form(&h), form(&own)))
            .at_offset(52)
            .hint("it was saved with another configuration of the runtime; continue it there"));
    }
    if h != own {
        return Err(Error::input("the session contradicts its model").at_offset(64));
    }
    if a.program.longest().is_some_and(|most| h.position as usize > most) {
        return Err(Error::input("the session has more tokens than the model takes").at_offset(80));
    }
    let slots = h.filled() as usize;
    let (heads, codes) = (slots * h.kv_heads as usize, slots * (h.kv_heads * h.head_dim) as usize);
    let mut session = a.session(kernel);
    let mut rest = cache;
    // `Header::read` compared the lengths, so there is enough for every part.
    let mut take = |bytes: usize| {
        let (part, more) = rest.split_at(bytes.min(rest.len()));
        rest = more;
        part
    };
    for layer in &mut session.caches {
        let k = codes_of(take(codes * h.key_bits as usize / 8), h.key_bits, h.static_keys)?;
        let v = codes_of(take(codes * h.value_bits as usize / 8), h.value_bits, false)?;
        let vs = scales_of(take(4 * heads), take(2 * heads))?;
        let ks = if h.static_keys { Vec::new() } else { scales_of(take(4 * heads), take(2 * heads))? };
        *layer = LayerCache::of(k, v, ks, vs);
    }
    session.position = h.position;
    session.saturated = u64::from(h.saturated);
    Ok(session)
}

fn put_codes(out: &mut Vec<u8>, codes: &[i16], bits: u32) {
    match bits {
        16 => codes.iter().for_each(|c| out.extend_from_slice(&c.to_le_bytes())),
        8 => out.extend(codes.iter().map(|c| *c as u8)),
        _ => out.extend(codes.chunks_exact(2).map(|c| (c[0] as u8 & 15) | (c[1] as u8) << 4)),
    }
}

/// `full`: the least code of the width occurs, too.
fn codes_of(bytes: &[u8], bits: u32, full: bool) -> Result<Vec<i16>> {
    let nibble = |n: u8| i16::from((n << 4) as i8 >> 4);
    let codes: Vec<i16> = match bits {
        16 => bytes.chunks_exact(2).map(|c| i16::from_le_bytes([c[0], c[1]])).collect(),
        8 => bytes.iter().map(|b| i16::from(*b as i8)).collect(),
        _ => bytes.iter().flat_map(|b| [nibble(*b), nibble(*b >> 4)]).collect(),
    };
    let least = if bits == 16 { i16::MIN } else { -(1 << (bits - 1)) };
    if !full && codes.contains(&least) {
        return Err(Error::input("the session holds a code that no cache has"));
    }
    Ok(codes)
}

fn scales_of(m: &[u8], e: &[u8]) -> Result<Vec<Scale>> {
    let m = m.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let e = e.chunks_exact(2).map(|b| i32::from(i16::from_le_bytes([b[0], b[1]])));
    let scales: Vec<Scale> = m.zip(e).map(|(m, e)| Scale { m, e }).collect();
    let possible = |s: &Scale| (1 << 30..1u32 << 31).contains(&s.m) && (-4096..=4095).contains(&s.e);
    if !scales.iter().all(possible) {
        return Err(Error::input("the session holds a scale that no cache has"));
    }
    Ok(scales)
}
