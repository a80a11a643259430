//! ACT, GATE, RELU2MUL, SILUMUL, and the soft cap of ATTEND and LOGITS.

use crate::ctx::Ctx;
use crate::generated::parts;
use crate::math::{bitlen, bits_of, mul, narrow, recip, rsr, rsr32, Factor, Scale, Tables, LOG2E};
use crate::model::Op;
use crate::ops::pair;

const RELU: u32 = 1;
const RELU2: u32 = 2;
const SILU: u32 = 3;
const GELU_TANH: u32 = 4;
const GELU_ERF: u32 = 5;
const TANH: u32 = 6;

/// Whether a kind of ACT, GATE, RELU2MUL or SILUMUL is compiled.
const fn compiled(kind: u32) -> bool {
    parts::KINDS >> kind & 1 == 1 || (kind == RELU2 && parts::OP_RELU2MUL) || (kind == SILU && parts::OP_SILUMUL)
}

/// A function of the elements of one vector.
struct Function<'a> {
    kind: u32,
    tables: Tables<'a>,
    s: Scale,
    /// Bits of the largest magnitude.
    n: u32,
    s2: u32,
    log2: Factor,
    frac24: Factor,
}

impl<'a> Function<'a> {
    fn new(kind: u32, tables: Tables<'a>, x: &[i32], s: Scale) -> Function<'a> {
        let top = x.iter().fold(0, |top: i32, v| top.max(*v));
        let by = if kind == TANH { s.mul(LOG2E).shl(1) } else { s.mul(LOG2E) };
        Function {
            kind,
            tables,
            s,
            n: bits_of(x),
            s2: (2 * bitlen(top as u32)).saturating_sub(30),
            log2: by.factor(20),
            frac24: s.factor(24),
        }
    }

    fn scale(&self) -> Scale {
        match self.kind {
            RELU => self.s,
            RELU2 => self.s.mul(self.s).shl(self.s2 as i32),
            TANH => Scale::pow2(-60),
            _ => self.s.shl(self.n as i32 - 30),
        }
    }

    /// x times a share with 31 fraction bits, x brought to 30 bits.
    fn shared(&self, x: i32, sigma: u32) -> i32 {
        let wide = if self.n > 30 { rsr32(x, self.n - 30) } else { x << (30 - self.n) };
        narrow(i64::from(wide) * i64::from(sigma), 31)
    }

    /// 1 / (1 + 2^-z) with 31 fraction bits, z with 20.
    fn logistic(&self, z: i32, negative: bool) -> u32 {
        let p = recip((1 << 30) + self.tables.exp2n(z.unsigned_abs()));
        if negative {
            (1 << 31) - p
        } else {
            p
        }
    }

    #[inline(always)]
    fn of(&self, x: i32) -> i32 {
        match self.kind {
            RELU if compiled(RELU) => x.max(0),
            RELU2 if compiled(RELU2) => narrow(mul(x.max(0), x.max(0)), self.s2),
            SILU if compiled(SILU) => self.shared(x, self.logistic(self.log2.times(x), x < 0)),
            GELU_TANH if compiled(GELU_TANH) => self.shared(x, self.logistic(self.gelu_argument(x), x < 0)),
            GELU_ERF if compiled(GELU_ERF) => self.shared(x, self.normal(x)),
            TANH if compiled(TANH) => {
                let y = tanh30(self.tables, self.log2.times(x.saturating_abs()).unsigned_abs());
                if x < 0 {
                    -y
                } else {
                    y
                }
            }
            _ => x,
        }
    }

    /// log2(e) * 2 sqrt(2/pi) * (x + 0.044715 x^3) with 20 fraction bits.
    fn gelu_argument(&self, x: i32) -> i32 {
        let a = self.frac24.times(x).clamp(-(1 << 28), 1 << 28);
        let w = 38_624_644 + rsr(1_727_101 * rsr(mul(a, a), 24), 24);
        rsr(i64::from(a) * w, 28) as i32
    }

    /// The normal distribution function with 31 fraction bits.
    fn normal(&self, x: i32) -> u32 {
        let a = i64::from(self.frac24.times(x).unsigned_abs().min(1 << 27));
        let d = (1i64 << 30) + rsr(248_723_596 * a, 24);
        let t = match d <= 1 << 31 {
            true => rsr(i64::from(recip(d as u32)), 1),
            false => rsr(i64::from(recip(rsr(d, 1) as u32)), 2),
        };
        let mut h = 1_428_371_292i64;
        for c in [-1_955_558_716, 1_912_847_369, -382_857_446, 342_933_307] {
            h = c + rsr(h * t, 30);
        }
        h = rsr(h * t, 30);
        let z = rsr(rsr(a * a, 24) * 774_541_002, 34);
        let p = rsr(rsr(h * i64::from(self.tables.exp2n(z as u32)), 30) * 428_361_012, 29);
        if x < 0 {
            p as u32
        } else {
            ((1 << 31) - p) as u32
        }
    }
}

/// tanh of a magnitude with 30 fraction bits; `z` holds 2 log2(e) abs(x) with 20.
fn tanh30(tables: Tables, z: u32) -> i32 {
    let e = tables.exp2n(z);
    narrow(i64::from((1u32 << 30).wrapping_sub(e)) * i64::from(recip((1 << 30) + e)), 31)
}

/// c tanh(t / c), t with 20 fraction bits.
pub(crate) struct SoftCap {
    inward: Factor,
    outward: Factor,
}

impl SoftCap {
    /// The result has `frac` fraction bits.
    pub(crate) fn new(cap: Scale, frac: i32) -> SoftCap {
        SoftCap { inward: cap.inv().mul(LOG2E).shl(1).factor(0), outward: cap.shl(-30).factor(frac) }
    }

    pub(crate) fn of(&self, tables: Tables, t: i32) -> i32 {
        let y = tanh30(tables, self.inward.times(t.saturating_abs()).unsigned_abs());
        self.outward.times(if t < 0 { -y } else { y })
    }
}

impl Ctx<'_> {
    pub(crate) fn act(&mut self, op: &Op) {
        let (s, tables) = (self.reg[op.a].scale, self.m.tables);
        let x = self.copied(op.dst, op.a);
        let f = Function::new(op.p[0], tables, x, s);
        x.iter_mut().for_each(|x| *x = f.of(*x));
        self.reg[op.dst].scale = f.scale();
    }

    /// GATE, RELU2MUL, SILUMUL: a function of g, times u.
    pub(crate) fn gate(&mut self, op: &Op, kind: u32) {
        let (g, u, tables) = (self.reg[op.a], self.reg[op.b], self.m.tables);
        let k = bits_of(self.vector(op.b));
        let f = Function::new(kind, tables, self.vector(op.a), g.scale);
        let product = |g: i32, u: i32| narrow(mul(f.of(g), u), k);
        let scale = f.scale().mul(u.scale).shl(k as i32);
        let dst = self.reg[op.dst];
        if dst.at == u.at && g.at != u.at {
            let (gv, y) = pair(self.p.vectors, &g, &dst, g.len);
            y.iter_mut().zip(gv).for_each(|(y, g)| *y = product(*g, *y));
        } else if g.at == u.at {
            self.copied(op.dst, op.a).iter_mut().for_each(|y| *y = product(*y, *y));
        } else {
            self.copied(op.dst, op.a);
            let (uv, y) = pair(self.p.vectors, &u, &dst, g.len);
            y.iter_mut().zip(uv).for_each(|(y, u)| *y = product(*y, *u));
        }
        self.reg[op.dst].len = g.len;
        self.reg[op.dst].scale = scale;
    }
}
