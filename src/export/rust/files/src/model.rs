//! Opens a packed model: header, section table, checksums, the program's header. Tensors and operations are checked in `tensor` and
//! `follow`. Nothing of the file is used before it is checked; the other modules rely on that.

use crate::math::{divides, Crc, Tables, TABLES_BYTES};
use crate::status::{Result, Status};
use crate::tensor::{self, Tensor};
use crate::tokenizer::Tokenizer;
use crate::{follow, golden};

const MAGIC: [u8; 8] = [0x89, 0x42, 0x4E, 0x45, 0x54, 0x0D, 0x0A, 0x1A];
/// The tables are the same in every model.
const TABLES_CRC: u32 = 0xBFF1_79FC;

/// Most registers of a program.
pub(crate) const MAX_REGISTERS: usize = 32;
/// Elements of a vector, columns, rows, vocabulary.
pub(crate) const MAX_LENGTH: u32 = 1 << 20;
const MAX_LAYERS: u32 = 1024;
const MAX_WINDOW: u32 = 131_072;
const MAX_HEAD_DIM: u32 = 256;
const MAX_LUT_BYTES: u32 = 1 << 26;
const HEAD_WORDS: usize = 32;
const OP_WORDS: usize = 12;
const TENSOR_WORDS: usize = 16;

/// "No register", "no tensor", "no id".
pub(crate) const NONE: u32 = u32::MAX;
/// The layer of an operation outside of the layers.
pub(crate) const NO_LAYER: u32 = 0xFF_FFFF;

/// Little-endian words in flash; at any address.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a>(pub(crate) &'a [u8]);

impl<'a> Words<'a> {
    /// 0 beyond the end; lengths are checked when the model is opened.
    pub(crate) fn at(self, i: usize) -> u32 {
        match self.0.get(4 * i..4 * i + 4) {
            Some([a, b, c, d]) => u32::from_le_bytes([*a, *b, *c, *d]),
            _ => 0,
        }
    }

    pub(crate) fn len(self) -> usize {
        self.0.len() / 4
    }

    /// From word `i` on; empty beyond the end.
    pub(crate) fn from(self, i: usize) -> Words<'a> {
        Words(self.0.get(4 * i..).unwrap_or(&[]))
    }

    pub(crate) fn iter(self) -> impl ExactSizeIterator<Item = u32> + Clone + 'a {
        self.0.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b))
    }
}

/// Header of the program.
#[derive(Clone, Copy, Default)]
pub(crate) struct Head {
    pub ops: usize,
    pub head_op: usize,
    pub tensors: usize,
    pub registers: usize,
    pub vocab: usize,
    pub d_model: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub frac: i32,
    pub window: usize,
    pub sinks: usize,
    pub key_bits: u32,
    pub value_bits: u32,
    pub static_keys: bool,
    pub encoder: bool,
    pub key_frac: i32,
    pub lut_bytes: usize,
    /// 0: no limit.
    pub positions: usize,
}

/// What the operations say about the whole program.
#[derive(Clone, Copy, Default)]
pub(crate) struct Facts {
    /// The last operation is EMBEDDING; its pool, else 0.
    pub pool: u32,
    /// Largest columns of a LINEAR by planes.
    pub planes_cols: usize,
    /// Whether a LINEAR works with tables of bytes, of 16-bit words.
    pub tables8: bool,
    pub tables16: bool,
}

/// One operation.
#[derive(Clone, Copy)]
pub(crate) struct Op {
    pub code: u32,
    pub layer: u32,
    pub dst: usize,
    pub a: usize,
    pub b: usize,
    pub t0: u32,
    pub t1: u32,
    pub p: [u32; 6],
}

/// A checked model. Copying it copies a few pointers and sizes.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    pub(crate) h: Head,
    pub(crate) facts: Facts,
    pub(crate) tables: Tables<'a>,
    program: Words<'a>,
    pub(crate) weights: &'a [u8],
    pub(crate) golden: Words<'a>,
    tokenizer: &'a [u8],
}

/// Sections by kind; empty: not there.
struct Sections<'a>([&'a [u8]; 6]);

const PROGRAM: usize = 1;
const TABLES: usize = 2;
const WEIGHTS: usize = 3;
const TOKENIZER: usize = 4;
const GOLDEN: usize = 5;

impl<'a> Model<'a> {
    /// Checks the header, every CRC-32, and the whole program with its tensors and golden trace.
    ///
    /// # Errors
    /// What is wrong with the file; `Feature` if it needs an operation that this crate was not generated for.
    pub fn new(bytes: &'a [u8]) -> Result<Model<'a>> {
        let s = sections(bytes, header(bytes)?)?;
        let Some(tables) = s.0[TABLES].first_chunk::<TABLES_BYTES>().filter(|t| t.len() == s.0[TABLES].len()) else {
            return Err(Status::Format);
        };
        if s.0[PROGRAM].len() % 4 != 0 || s.0[GOLDEN].len() % 4 != 0 || s.0[WEIGHTS].is_empty() {
            return Err(Status::Format);
        }
        let program = Words(s.0[PROGRAM]);
        let mut m = Model {
            h: head(program)?,
            facts: Facts::default(),
            tables: Tables(tables),
            program,
            weights: s.0[WEIGHTS],
            golden: Words(s.0[GOLDEN]),
            tokenizer: s.0[TOKENIZER],
        };
        (0..m.h.tensors).try_for_each(|i| tensor::check(&m, m.tensor_words(i)))?;
        m.facts = follow::check(&m)?;
        if m.golden.len() > 0 {
            golden::check(&m)?;
        }
        Ok(m)
    }

    pub(crate) fn op(&self, i: usize) -> Op {
        let w = self.program.from(HEAD_WORDS + 2 * self.h.registers + OP_WORDS * i);
        let p = [w.at(6), w.at(7), w.at(8), w.at(9), w.at(10), w.at(11)];
        Op {
            code: w.at(0) & 0xFF,
            layer: w.at(0) >> 8,
            dst: w.at(1) as usize,
            a: w.at(2) as usize,
            b: w.at(3) as usize,
            t0: w.at(4),
            t1: w.at(5),
            p,
        }
    }

    fn tensor_words(&self, i: usize) -> Words<'a> {
        self.program.from(HEAD_WORDS + 2 * self.h.registers + OP_WORDS * self.h.ops + TENSOR_WORDS * i)
    }

    pub(crate) fn tensor(&self, i: u32) -> Tensor<'a> {
        Tensor::read(self.tensor_words(i as usize), self.weights)
    }

    /// Kind (0 i32, 1 i8, 2 i16) and capacity of a register.
    pub(crate) fn register(&self, i: usize) -> (u32, u32) {
        (self.program.at(HEAD_WORDS + 2 * i), self.program.at(HEAD_WORDS + 2 * i + 1))
    }

    /// Tokens of the vocabulary; the length of the logits.
    pub fn vocab(&self) -> usize {
        self.h.vocab
    }

    /// Whether the model gives the embedding of a text instead of logits.
    pub fn gives_embedding(&self) -> bool {
        self.facts.pool != 0
    }

    /// Elements of the embedding or of the logits.
    pub fn result_len(&self) -> usize {
        if self.gives_embedding() {
            self.h.d_model
        } else {
            self.h.vocab
        }
    }

    /// Layers of the network.
    pub fn layers(&self) -> usize {
        self.h.layers
    }

    /// The id that begins a text, if the model has one.
    pub fn bos(&self) -> Option<u32> {
        Some(self.program.at(23)).filter(|id| *id != NONE)
    }

    /// Whether a token ends a text.
    pub fn is_eos(&self, id: u32) -> bool {
        (0..self.program.at(18) as usize).any(|i| self.program.at(19 + i) == id)
    }

    /// The tokenizer in the model.
    ///
    /// # Errors
    /// `State` if the model has none, else what is wrong with it.
    pub fn tokenizer(&self) -> Result<Tokenizer<'a>> {
        match self.tokenizer {
            [] => Err(Status::State),
            blob => Tokenizer::open(blob),
        }
    }
}

/// The number of sections.
fn header(m: &[u8]) -> Result<usize> {
    let w = Words(m);
    if m.len() < 128 || m[..8] != MAGIC {
        return Err(Status::Magic);
    }
    if w.at(6) != 0x0102_0304 || m[8..10] != [1, 0] {
        return Err(Status::Version);
    }
    let count = w.at(3) as usize;
    if !(1..=16).contains(&count) || 64 + 64 * count > m.len() {
        return Err(Status::Format);
    }
    let crc = Crc::START.bytes(&m[..28]).bytes(&[0; 36]).bytes(&m[64..64 + 64 * count]).end();
    if crc == w.at(7) {
        Ok(count)
    } else {
        Err(Status::Crc)
    }
}

fn sections(m: &[u8], count: usize) -> Result<Sections<'_>> {
    let w = Words(m);
    let total = w.at(4) as usize;
    if w.at(5) != 0 || total > m.len() {
        return Err(Status::Format);
    }
    let mut found = Sections([&[]; 6]);
    let mut end = 64 + 64 * count;
    for i in 0..count {
        let e = w.from(16 + 16 * i);
        let (kind, start, length) = (e.at(0), end.next_multiple_of(64), e.at(4) as usize);
        let reserved = e.at(1) | e.at(3) | e.at(5) | e.at(7);
        if reserved != 0 || e.at(2) as usize != start || length == 0 || start > total || length > total - start {
            return Err(Status::Format);
        }
        if kind == 0 || (6..16).contains(&kind) || (18..32).contains(&kind) {
            return Err(Status::Format);
        }
        if (0..i).any(|j| w.at(16 + 16 * j) == kind) || m[end..start].iter().any(|b| *b != 0) {
            return Err(Status::Format);
        }
        let data = &m[start..start + length];
        if Crc::START.bytes(data).end() != e.at(6) {
            return Err(Status::Crc);
        }
        if kind == TABLES as u32 && e.at(6) != TABLES_CRC {
            return Err(Status::Format);
        }
        if let Some(place) = found.0.get_mut(kind as usize) {
            *place = data;
        }
        end = start + length;
    }
    if end == total {
        Ok(found)
    } else {
        Err(Status::Format)
    }
}

fn head(w: Words) -> Result<Head> {
    if w.len() < HEAD_WORDS {
        return Err(Status::Format);
    }
    if w.at(0) != 1 {
        return Err(Status::Version);
    }
    let within = |i: usize, low: u32, high: u32| (low..=high).contains(&w.at(i));
    let width = |i: usize| matches!(w.at(i), 16 | 8 | 4);
    let (static_keys, encoder) = (w.at(16) & 1 == 1, w.at(16) >> 1 & 1 == 1);
    let sizes = within(1, 1, 65_536)
        && w.at(2) < w.at(1)
        && within(3, 1, 65_536)
        && within(4, 1, MAX_REGISTERS as u32)
        && within(5, 1, MAX_LENGTH)
        && within(6, 1, MAX_LENGTH)
        && within(7, 1, MAX_LAYERS);
    let attention = within(8, 1, MAX_LENGTH)
        && within(9, 1, w.at(8))
        && within(10, 2, MAX_HEAD_DIM)
        && w.at(10) & 1 == 0
        && u64::from(w.at(8)) * u64::from(w.at(10)) <= u64::from(MAX_LENGTH)
        && w.at(11) <= 28
        && within(12, 1, MAX_WINDOW)
        && w.at(13) < w.at(12);
    if !sizes || !attention || !divides(w.at(9), w.at(8)) {
        return Err(Status::Format);
    }
    let cache = width(14) && width(15) && w.at(16) < 4 && !(static_keys && w.at(14) != 4) && w.at(17) <= 28;
    let ends = |i: usize| if i < w.at(18) as usize { w.at(19 + i) < w.at(5) } else { w.at(19 + i) == 0 };
    let begin = w.at(23) == NONE || w.at(23) < w.at(5);
    if !cache || w.at(18) > 4 || !(0..4).all(ends) || !begin || w.at(25) & 511 != 0 || w.at(25) > MAX_LUT_BYTES {
        return Err(Status::Format);
    }
    let text = !encoder || (w.at(13) == 0 && !static_keys && (w.at(26) == 0 || w.at(26) >= w.at(12)));
    // Words 27 and 28 name the checkpoint; word 29 is an offer to runtimes that work on two tokens at a time.
    if w.at(26) > MAX_LENGTH || !text || w.at(29) > u32::from(!encoder) || w.at(30) != 0 || w.at(31) != 0 {
        return Err(Status::Format);
    }
    let size = |i: usize| w.at(i) as usize;
    let want = HEAD_WORDS + 2 * size(4) + OP_WORDS * size(1) + TENSOR_WORDS * size(3);
    if want != w.len() {
        return Err(Status::Format);
    }
    Ok(Head {
        ops: size(1),
        head_op: size(2),
        tensors: size(3),
        registers: size(4),
        vocab: size(5),
        d_model: size(6),
        layers: size(7),
        heads: size(8),
        kv_heads: size(9),
        head_dim: size(10),
        frac: w.at(11) as i32,
        window: size(12),
        sinks: size(13),
        key_bits: w.at(14),
        value_bits: w.at(15),
        static_keys,
        encoder,
        key_frac: w.at(17) as i32,
        lut_bytes: size(25),
        positions: size(26),
    })
}
