//! The memory of a context: three arrays that the caller owns, cut into parts.

use crate::follow::POOL_MEAN;
use crate::model::{Model, MAX_REGISTERS};
use crate::status::{Result, Status};
use core::mem::take;

/// Memory for one context. The lengths that a model needs are in [`crate::generated`] and in [`Model::arena`].
pub struct Arena<const WORDS: usize, const HALVES: usize, const BYTES: usize> {
    words: [i32; WORDS],
    halves: [i16; HALVES],
    bytes: [i8; BYTES],
}

impl<const WORDS: usize, const HALVES: usize, const BYTES: usize> Arena<WORDS, HALVES, BYTES> {
    /// All zero, so that a static one takes no flash.
    pub const fn new() -> Self {
        Arena { words: [0; WORDS], halves: [0; HALVES], bytes: [0; BYTES] }
    }

    /// What [`crate::Ctx::new`] takes.
    pub fn memory(&mut self) -> Memory<'_> {
        Memory { words: &mut self.words, halves: &mut self.halves, bytes: &mut self.bytes }
    }
}

impl<const WORDS: usize, const HALVES: usize, const BYTES: usize> Default for Arena<WORDS, HALVES, BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

/// Memory for one context, borrowed. What it holds at first does not matter.
pub struct Memory<'a> {
    /// Vectors, scores, mantissas.
    pub words: &'a mut [i32],
    /// Wide codes, exponents, tables of sums.
    pub halves: &'a mut [i16],
    /// Codes, narrow tables of sums.
    pub bytes: &'a mut [i8],
}

/// Lengths of the three arrays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArenaSize {
    /// Elements of `words`.
    pub words: usize,
    /// Elements of `halves`.
    pub halves: usize,
    /// Elements of `bytes`.
    pub bytes: usize,
}

/// How a context differs from what was exported; `Config::default()` does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Window slots, sinks + 1 ..= exported; 0: as exported.
    pub max_cache_len: usize,
    /// Width of cached keys and values: 16, 8 or 4, not above the exported widths; 0: as exported.
    pub kv_quant_bits: u32,
    /// false: `Context` when the window is full; true: roll, keep the sinks.
    pub use_streaming: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config { max_cache_len: 0, kv_quant_bits: 0, use_streaming: true }
    }
}

/// The shape of the cache after the configuration.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub window: usize,
    pub key_bits: u32,
    pub value_bits: u32,
    pub as_exported: bool,
}

pub(crate) fn shape(m: &Model, config: &Config) -> Result<Shape> {
    let h = &m.h;
    let mut s = Shape { window: h.window, key_bits: h.key_bits, value_bits: h.value_bits, as_exported: true };
    if config.max_cache_len != 0 {
        if config.max_cache_len <= h.sinks || config.max_cache_len > h.window {
            return Err(Status::Config);
        }
        s.window = config.max_cache_len;
    }
    match config.kv_quant_bits {
        0 => {}
        bits @ (16 | 8 | 4) if bits <= h.key_bits && bits <= h.value_bits => (s.key_bits, s.value_bits) = (bits, bits),
        _ => return Err(Status::Config),
    }
    s.as_exported = s.window == h.window && (s.key_bits, s.value_bits) == (h.key_bits, h.value_bits);
    Ok(s)
}

/// What lies where: the same walk measures and cuts.
struct Lengths {
    vectors: usize,
    codes8: usize,
    codes16: usize,
    texts: usize,
    pool_sums: usize,
    planes: usize,
    tables8: usize,
    tables16: usize,
    head: usize,
    scores: usize,
    scales: usize,
    key_scales: usize,
    keys: [usize; 2],
    values: [usize; 2],
}

/// Codes of a cache as halves and as bytes.
fn cache(codes: u64, bits: u32) -> Option<[usize; 2]> {
    let n = usize::try_from(codes).ok()?;
    Some(match bits {
        16 => [n, 0],
        8 => [0, n],
        _ => [0, n / 2],
    })
}

/// Largest number of elements in a part; keeps every sum and index far from a 32-bit limit.
const MOST: u64 = 1 << 30;

fn lengths(m: &Model, s: &Shape) -> Option<Lengths> {
    let h = &m.h;
    let at_most = |n: u64| if n <= MOST { usize::try_from(n).ok() } else { None };
    let product = |a: usize, b: usize| at_most(a as u64 * b as u64);
    let mut kinds = [0usize; 3];
    for i in 0..h.registers {
        let (kind, capacity) = m.register(i);
        *kinds.get_mut(kind as usize)? += capacity as usize;
    }
    let slots = product(s.window, h.layers)?;
    let scales = product(slots, h.kv_heads)?;
    let codes = product(scales, h.head_dim)? as u64;
    let texts = if h.encoder { product(s.window, h.d_model)? } else { 0 };
    Some(Lengths {
        vectors: kinds[0],
        codes8: kinds[1],
        codes16: kinds[2],
        texts,
        pool_sums: if m.facts.pool == POOL_MEAN { h.d_model } else { 0 },
        planes: m.facts.planes_cols.div_ceil(32),
        tables8: if m.facts.tables8 { h.lut_bytes } else { 0 },
        tables16: if m.facts.tables16 { h.lut_bytes / 2 } else { 0 },
        head: h.head_dim,
        scores: s.window,
        scales,
        key_scales: if h.static_keys { 0 } else { scales },
        keys: cache(codes, s.key_bits)?,
        values: cache(codes, s.value_bits)?,
    })
}

impl Lengths {
    fn size(&self, encoder: bool) -> Option<ArenaSize> {
        let chains = if encoder { self.scores } else { 0 };
        let words = [
            self.vectors,
            self.texts,
            chains,
            2 * self.pool_sums,
            2 * self.planes,
            4 * self.head,
            self.scores,
            self.scales,
            self.key_scales,
        ];
        let halves = [self.codes16, self.tables16, self.keys[0], self.values[0], self.scales, self.key_scales];
        let bytes = [self.codes8, self.tables8, self.keys[1], self.values[1]];
        let sum = |parts: &[usize], width: u64| {
            let n: u64 = parts.iter().map(|p| *p as u64).sum();
            (n * width < 1 << 31).then_some(n as usize)
        };
        Some(ArenaSize { words: sum(&words, 4)?, halves: sum(&halves, 2)?, bytes: sum(&bytes, 1)? })
    }
}

impl Model<'_> {
    /// The memory that a context needs.
    ///
    /// # Errors
    /// `Config` if the configuration is not possible, `Arena` if no memory is large enough.
    pub fn arena(&self, config: &Config) -> Result<ArenaSize> {
        let s = shape(self, config)?;
        lengths(self, &s).and_then(|l| l.size(self.h.encoder)).ok_or(Status::Arena)
    }
}

/// Keys or values of all layers: codes [layer][slot][kv head][channel], a scale for each [layer][slot][kv head].
#[derive(Default)]
pub(crate) struct Side<'a> {
    pub wide: &'a mut [i16],
    /// 8-bit codes, or two 4-bit codes a byte with the even channel low.
    pub bytes: &'a mut [i8],
    pub m: &'a mut [i32],
    pub e: &'a mut [i16],
    pub bits: u32,
}

/// A register.
#[derive(Clone, Copy)]
pub(crate) struct Register {
    pub at: usize,
    pub kind: u32,
    pub len: usize,
    pub scale: crate::math::Scale,
    pub qmax: u32,
    pub lo: i32,
    pub hi: i32,
}

/// The parts of the memory.
pub(crate) struct Parts<'a> {
    /// Registers of i32, then the residuals of a text.
    pub vectors: &'a mut [i32],
    pub texts: usize,
    pub codes8: &'a mut [i8],
    pub codes16: &'a mut [i16],
    pub chains: &'a mut [i32],
    /// Two words each, the low one first.
    pub pool_sums: &'a mut [i32],
    pub planes: &'a mut [i32],
    pub tables8: &'a mut [i8],
    pub tables16: &'a mut [i16],
    /// Cosines, then sines, at the position and at the last one of the window.
    pub angles: [&'a mut [i32]; 2],
    pub query: &'a mut [i32],
    pub query_sink: &'a mut [i32],
    pub scores: &'a mut [i32],
    pub keys: Side<'a>,
    pub values: Side<'a>,
}

/// Takes the first `n` elements; fewer are an error of the caller's memory.
fn cut<'a, T>(from: &mut &'a mut [T], n: usize) -> Result<&'a mut [T]> {
    let (part, rest) = take(from).split_at_mut_checked(n).ok_or(Status::Arena)?;
    *from = rest;
    Ok(part)
}

pub(crate) fn parts<'a>(m: &Model, s: &Shape, memory: Memory<'a>) -> Result<(Parts<'a>, [Register; MAX_REGISTERS])> {
    let l = lengths(m, s).ok_or(Status::Arena)?;
    l.size(m.h.encoder).ok_or(Status::Arena)?;
    let Memory { mut words, mut halves, mut bytes } = memory;
    let empty = Register { at: 0, kind: 0, len: 0, scale: crate::math::Scale::ONE, qmax: 0, lo: 0, hi: 0 };
    let mut registers = [empty; MAX_REGISTERS];
    let mut used = [0usize; 3];
    for (i, r) in registers.iter_mut().enumerate().take(m.h.registers) {
        let (kind, capacity) = m.register(i);
        r.kind = kind;
        r.at = used[kind as usize];
        used[kind as usize] += capacity as usize;
    }
    let chains = if m.h.encoder { l.scores } else { 0 };
    let p = Parts {
        vectors: cut(&mut words, l.vectors + l.texts)?,
        texts: l.vectors,
        codes8: cut(&mut bytes, l.codes8)?,
        codes16: cut(&mut halves, l.codes16)?,
        chains: cut(&mut words, chains)?,
        pool_sums: cut(&mut words, 2 * l.pool_sums)?,
        planes: cut(&mut words, 2 * l.planes)?,
        tables8: cut(&mut bytes, l.tables8)?,
        tables16: cut(&mut halves, l.tables16)?,
        angles: [cut(&mut words, l.head)?, cut(&mut words, l.head)?],
        query: cut(&mut words, l.head)?,
        query_sink: cut(&mut words, l.head)?,
        scores: cut(&mut words, l.scores)?,
        keys: Side {
            wide: cut(&mut halves, l.keys[0])?,
            bytes: cut(&mut bytes, l.keys[1])?,
            m: cut(&mut words, l.key_scales)?,
            e: cut(&mut halves, l.key_scales)?,
            bits: s.key_bits,
        },
        values: Side {
            wide: cut(&mut halves, l.values[0])?,
            bytes: cut(&mut bytes, l.values[1])?,
            m: cut(&mut words, l.scales)?,
            e: cut(&mut halves, l.scales)?,
            bits: s.value_bits,
        },
    };
    Ok((p, registers))
}
