//! Follows lengths and kinds of registers through the operations and refuses every program in which one does not fit.

use crate::generated::parts;
use crate::math::divides;
use crate::model::{Facts, Model, Op, MAX_LENGTH, MAX_REGISTERS, NONE, NO_LAYER};
use crate::status::{Result, Status};
use crate::tensor::{self, scale_ok, Tensor};

/// Longest vector that is normalised.
const MAX_NORM: usize = 32_768;

pub(crate) const EMBED: u32 = 1;
pub(crate) const RMSNORM: u32 = 2;
pub(crate) const QUANTIZE: u32 = 3;
pub(crate) const LINEAR: u32 = 4;
pub(crate) const ADD: u32 = 5;
pub(crate) const KVWRITE: u32 = 6;
pub(crate) const ATTEND: u32 = 7;
pub(crate) const RELU2MUL: u32 = 8;
pub(crate) const SILUMUL: u32 = 9;
pub(crate) const LOGITS: u32 = 10;
pub(crate) const NORM: u32 = 11;
pub(crate) const BIAS: u32 = 12;
pub(crate) const GAIN: u32 = 13;
pub(crate) const ACT: u32 = 14;
pub(crate) const GATE: u32 = 15;
pub(crate) const STORE: u32 = 16;
pub(crate) const POSITION: u32 = 17;
pub(crate) const ROPE: u32 = 18;
pub(crate) const EMBEDDING: u32 = 19;

pub(crate) const POOL_MEAN: u32 = 1;
pub(crate) const POOL_FIRST: u32 = 2;
const POOL_LAST: u32 = 3;

pub(crate) const PLANES: u32 = 1;
pub(crate) const BY_TABLES: u32 = 2;

/// Codes whose sums of eight fit a byte: tables of bytes are enough.
pub(crate) fn narrow_codes(lo: i32, hi: i32) -> bool {
    lo >= -15 && hi <= 15
}

/// Which fields an operation names, its number of parameters, whether it is compiled.
struct Shape {
    dst: bool,
    a: bool,
    b: bool,
    t0: Need,
    t1: bool,
    params: usize,
    compiled: bool,
}

#[derive(PartialEq)]
enum Need {
    No,
    Any,
    Yes,
}

fn shape(code: u32) -> Option<Shape> {
    use Need::{Any, No, Yes};
    let s = |fields: &str, t0: Need, params: usize, compiled: bool| Shape {
        dst: fields.contains('d'),
        a: fields.contains('a'),
        b: fields.contains('b'),
        t0,
        t1: fields.contains('t'),
        params,
        compiled,
    };
    Some(match code {
        EMBED => s("d", Yes, 2, true),
        RMSNORM => s("da", Yes, 2, parts::OP_RMSNORM),
        QUANTIZE => s("da", No, 5, true),
        LINEAR => s("da", Yes, 1, true),
        ADD => s("da", No, 2, true),
        KVWRITE => s("ab", Any, 0, true),
        ATTEND => s("da", Any, 6, true),
        RELU2MUL => s("dab", No, 0, parts::OP_RELU2MUL),
        SILUMUL => s("dab", No, 0, parts::OP_SILUMUL),
        LOGITS => s("a", No, 4, parts::OP_LOGITS),
        NORM => s("dat", Any, 4, parts::OP_NORM),
        BIAS => s("da", Yes, 0, parts::OP_BIAS),
        GAIN => s("da", Yes, 0, parts::OP_GAIN),
        ACT => s("da", No, 1, parts::OP_ACT),
        GATE => s("dab", No, 1, parts::OP_GATE),
        STORE => s("da", No, 0, parts::OP_STORE),
        POSITION => s("d", Yes, 0, parts::OP_POSITION),
        ROPE => s("da", Yes, 0, parts::OP_ROPE),
        EMBEDDING => s("a", No, 2, parts::OP_EMBEDDING),
        _ => return None,
    })
}

/// State of the registers while the operations are followed.
struct Follow<'m, 'a> {
    m: &'m Model<'a>,
    /// 0: not written yet.
    length: [usize; MAX_REGISTERS],
    /// Qmax, lo and hi of codes; Qmax 0: a vector.
    codes: [(u32, i32, i32); MAX_REGISTERS],
    residual: Option<usize>,
    layer: Option<u32>,
    /// KVWRITE, ATTEND of this layer seen.
    wrote: bool,
    attended: bool,
    positions: u32,
    facts: Facts,
}

fn ensure(ok: bool) -> Result<()> {
    feature(ok).map_err(|_| Status::Format)
}

fn feature(compiled: bool) -> Result<()> {
    if compiled {
        Ok(())
    } else {
        Err(Status::Feature)
    }
}

/// A scale that may be left out; `with`: whether that option is compiled.
fn option(m: u32, e: u32, with: bool) -> Result<()> {
    if m == 0 && e == 0 {
        return Ok(());
    }
    ensure(scale_ok(m, e))?;
    feature(with)
}

pub(crate) fn check(m: &Model) -> Result<Facts> {
    feature(!m.h.encoder || parts::WITH_ENCODER)?;
    let mut f = Follow {
        m,
        length: [0; MAX_REGISTERS],
        codes: [(0, 0, 0); MAX_REGISTERS],
        residual: None,
        layer: None,
        wrote: true,
        attended: true,
        positions: 0,
        facts: Facts::default(),
    };
    for i in 0..m.h.registers {
        let (kind, capacity) = m.register(i);
        ensure(kind <= 2 && (1..=MAX_LENGTH).contains(&capacity))?;
    }
    for i in 0..m.h.ops {
        f.op(&m.op(i), i)?;
    }
    let complete = f.layer == Some(m.h.layers as u32 - 1) && f.attended;
    ensure(complete && f.positions == u32::from(m.h.positions != 0))?;
    Ok(f.facts)
}

impl<'a> Follow<'_, 'a> {
    fn tensor(&self, i: u32) -> Tensor<'a> {
        self.m.tensor(i)
    }

    /// A register read as a vector; its length.
    fn vector(&self, r: usize) -> Result<usize> {
        ensure(self.length[r] != 0 && self.codes[r].0 == 0)?;
        Ok(self.length[r])
    }

    fn reads(&self, r: usize, n: usize) -> Result<()> {
        ensure(self.vector(r)? == n)
    }

    /// A register written: a vector, or codes.
    fn writes(&mut self, r: usize, n: usize, codes: (u32, i32, i32)) -> Result<()> {
        let (kind, capacity) = self.m.register(r);
        let fits = match codes.0 {
            0 => kind == 0,
            1..=127 => kind != 0,
            _ => kind == 2,
        };
        ensure(fits)?;
        if n > capacity as usize {
            return Err(Status::Capacity);
        }
        self.length[r] = n;
        self.codes[r] = codes;
        Ok(())
    }

    fn writes_vector(&mut self, r: usize, n: usize) -> Result<()> {
        ensure(self.residual != Some(r))?;
        self.writes(r, n, (0, 0, 0))
    }

    fn writes_residual(&mut self, r: usize) -> Result<()> {
        ensure(self.residual == Some(r))?;
        self.writes(r, self.m.h.d_model, (0, 0, 0))
    }

    /// The fields that the operation names are there, the others are not.
    fn fields(&self, op: &Op, s: &Shape) -> Result<()> {
        let h = &self.m.h;
        let keys = matches!(op.code, KVWRITE | ATTEND) && h.static_keys;
        for (named, r) in [(s.dst, op.dst), (s.a, op.a), (s.b, op.b)] {
            ensure(if named { r < h.registers } else { r == NONE as usize })?;
        }
        let there = |t: u32| (t as usize) < h.tensors;
        ensure(if op.t0 == NONE { s.t0 != Need::Yes } else { s.t0 != Need::No && there(op.t0) })?;
        ensure(if op.t1 == NONE { !keys } else { (s.t1 || keys) && there(op.t1) })?;
        ensure(!keys || self.tensor(op.t1).kind == tensor::STATIC_KEYS)?;
        ensure(op.p[s.params..].iter().all(|p| *p == 0))
    }

    /// Where in the program an operation may stand.
    fn place(&mut self, op: &Op, index: usize) -> Result<()> {
        let h = &self.m.h;
        if op.layer == NO_LAYER {
            // Between layers it would belong to no checksum of the golden trace.
            ensure(self.layer.is_none() || index >= h.head_op)?;
        } else {
            ensure((op.layer as usize) < h.layers && index < h.head_op)?;
            if self.layer != Some(op.layer) {
                ensure(op.layer == self.layer.map_or(0, |l| l + 1) && self.attended)?;
                self.layer = Some(op.layer);
                (self.wrote, self.attended) = (false, false);
            }
        }
        ensure((op.code == EMBED) == (index == 0))?;
        ensure(matches!(op.code, LOGITS | EMBEDDING) == (index == h.ops - 1))?;
        let changes_state = matches!(op.code, EMBED | ADD | STORE | POSITION | KVWRITE | ATTEND);
        ensure(index < h.head_op || !changes_state)
    }

    /// t0 of EMBED and POSITION.
    fn table(&self, op: &Op, rows: usize) -> Result<()> {
        let t = self.tensor(op.t0);
        ensure(t.is_matrix() && t.rows == rows && t.cols == self.m.h.d_model)?;
        feature(parts::WITH_TABLES || (matches!(t.kind, tensor::INT8 | tensor::INT16) && t.mode == 2))
    }

    fn frequencies(&self, index: u32) -> Result<()> {
        if index == NONE {
            return feature(parts::WITH_PARTIAL);
        }
        let t = self.tensor(index);
        ensure(t.kind == tensor::FREQUENCIES)?;
        feature(parts::WITH_PARTIAL || (2 * t.cols == self.m.h.head_dim && t.scale.m == 0))
    }

    /// t is a vector of one of these lengths.
    fn constants(&self, t: u32, n: usize, or: usize) -> Result<()> {
        let t = self.tensor(t);
        ensure(t.kind == tensor::VECTOR && (t.cols == n || t.cols == or))
    }

    fn op(&mut self, op: &Op, index: usize) -> Result<()> {
        let m = self.m;
        let h = &m.h;
        let s = shape(op.code).ok_or(Status::Format)?;
        feature(s.compiled)?;
        self.place(op, index)?;
        self.fields(op, &s)?;
        let (a, dst) = (op.a, op.dst);
        match op.code {
            EMBED => {
                self.residual = Some(dst);
                self.table(op, h.vocab)?;
                option(op.p[0], op.p[1], parts::WITH_FACTORS)?;
                self.writes_residual(dst)
            }
            RMSNORM => {
                let n = self.vector(a)?;
                ensure(n <= MAX_NORM && scale_ok(op.p[0], op.p[1]))?;
                self.constants(op.t0, n, n)?;
                self.writes_vector(dst, n)
            }
            QUANTIZE => {
                let (q, lo, hi) = (op.p[0], op.p[1] as i32, op.p[2] as i32);
                ensure((1..=32_767).contains(&q) && lo <= 0 && hi >= 0 && lo >= -(q as i32) - 1 && hi <= q as i32)?;
                ensure(scale_ok(op.p[3], op.p[4]) && self.residual != Some(dst))?;
                let n = self.vector(a)?;
                self.writes(dst, n, (q, lo, hi))
            }
            LINEAR => self.linear(op),
            ADD | STORE => {
                self.reads(a, h.d_model)?;
                ensure(a != dst)?;
                option(op.p[0], op.p[1], parts::WITH_FACTORS)?; // STORE has zeros there
                self.writes_residual(dst)
            }
            KVWRITE => self.kvwrite(op),
            ATTEND => self.attend(op),
            RELU2MUL | SILUMUL => {
                let n = self.vector(a)?;
                self.reads(op.b, n)?;
                self.writes_vector(dst, n)
            }
            NORM => {
                let (n, g) = (self.vector(a)?, op.p[2] as usize);
                ensure(n <= MAX_NORM && (1..=n).contains(&g) && divides(op.p[2], n as u32) && op.p[3] <= 1)?;
                ensure(scale_ok(op.p[0], op.p[1]))?;
                for t in [op.t0, op.t1] {
                    if t != NONE {
                        self.constants(t, n, g)?;
                    }
                }
                self.writes_vector(dst, n)
            }
            BIAS | GAIN => {
                let n = self.vector(a)?;
                self.constants(op.t0, n, n)?;
                self.writes_vector(dst, n)
            }
            ACT | GATE => {
                let n = self.vector(a)?;
                ensure((1..=6).contains(&op.p[0]))?;
                if op.code == GATE {
                    ensure(dst != op.b)?;
                    self.reads(op.b, n)?;
                }
                feature(parts::KINDS >> op.p[0] & 1 == 1)?;
                self.writes_vector(dst, n)
            }
            POSITION => {
                self.positions += 1;
                ensure(self.layer.is_none() && self.positions == 1)?;
                self.table(op, h.positions)?;
                self.writes_residual(dst)
            }
            ROPE => {
                let n = self.vector(a)?;
                ensure(divides(h.head_dim as u32, n as u32))?;
                self.frequencies(op.t0)?;
                self.writes_vector(dst, n)
            }
            EMBEDDING => self.embedding(op),
            _ => {
                self.reads(a, h.vocab)?;
                ensure(!h.encoder)?;
                option(op.p[0], op.p[1], parts::WITH_FACTORS)?;
                option(op.p[2], op.p[3], parts::WITH_CAPS)
            }
        }
    }

    fn linear(&mut self, op: &Op) -> Result<()> {
        let t = self.tensor(op.t0);
        let (qmax, lo, hi) = self.codes[op.a];
        ensure(qmax != 0 && t.is_matrix() && t.cols == self.length[op.a])?;
        match op.p[0] {
            0 => {}
            PLANES => {
                ensure(qmax == 2 && t.order == tensor::ROWS && matches!(t.kind, tensor::BINARY | tensor::TERNARY))?
            }
            BY_TABLES => ensure(qmax <= 127 && t.order == tensor::QUADS && self.m.h.lut_bytes > 0)?,
            _ => return Err(Status::Format),
        }
        feature(match t.kind {
            tensor::TERNARY5 => parts::KIND_TERNARY5,
            tensor::INT4 => parts::KIND_INT4,
            tensor::PLANES4 => parts::KIND_PLANES4,
            _ => true,
        })?;
        if op.p[0] == PLANES {
            feature(parts::KERNEL_PLANES)?;
            self.facts.planes_cols = self.facts.planes_cols.max(t.cols);
        }
        if op.p[0] == BY_TABLES {
            feature(parts::KERNEL_LOOKUP)?;
            let bytes = narrow_codes(lo, hi);
            self.facts.tables8 |= bytes;
            self.facts.tables16 |= !bytes;
        }
        feature(parts::WITH_WIDE || t.sum_bits(qmax) <= 30)?;
        self.writes_vector(op.dst, t.rows)
    }

    fn kvwrite(&mut self, op: &Op) -> Result<()> {
        let h = &self.m.h;
        let row = h.kv_heads * h.head_dim;
        let (a, b) = (op.a, op.b);
        ensure(op.layer != NO_LAYER && !self.wrote && a != b && self.residual != Some(a) && self.residual != Some(b))?;
        self.reads(a, row)?;
        self.reads(b, row)?;
        self.wrote = true;
        if h.encoder {
            // The next pass has the residual only.
            for i in (0..MAX_REGISTERS).filter(|i| self.residual != Some(*i)) {
                self.length[i] = 0;
                self.codes[i] = (0, 0, 0);
            }
        }
        self.frequencies(op.t0)
    }

    fn attend(&mut self, op: &Op) -> Result<()> {
        let h = &self.m.h;
        let n = h.heads * h.head_dim;
        let (window, cap, slopes) = (op.p[2], op.p[3], op.p[5]);
        ensure(op.layer != NO_LAYER && self.wrote && !self.attended && op.a != op.dst)?;
        self.reads(op.a, n)?;
        ensure(scale_ok(op.p[0], op.p[1]) && !(h.encoder && window != 0) && !(h.static_keys && cap != 0))?;
        ensure(slopes as usize <= h.tensors)?;
        if slopes != 0 {
            self.constants(slopes - 1, h.heads, h.heads)?;
        }
        feature((window == 0 || parts::WITH_WINDOWS) && (slopes == 0 || parts::WITH_SLOPES))?;
        self.attended = true;
        option(op.p[3], op.p[4], parts::WITH_CAPS)?;
        self.frequencies(op.t0)?;
        self.writes_vector(op.dst, n)
    }

    fn embedding(&mut self, op: &Op) -> Result<()> {
        let h = &self.m.h;
        let pool = op.p[0];
        self.reads(op.a, h.d_model)?;
        ensure(h.d_model <= MAX_NORM && op.p[1] <= 1 && (POOL_MEAN..=POOL_LAST).contains(&pool))?;
        ensure(match h.encoder {
            true => h.head_op == h.ops - 1 && self.residual == Some(op.a),
            false => pool == POOL_LAST,
        })?;
        self.facts.pool = pool;
        Ok(())
    }
}
