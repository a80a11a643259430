//! LINEAR: chooses the kernel, applies the scales. Sums are exact, so the kernels may take them in any order.

use crate::ctx::Ctx;
use crate::follow::{narrow_codes, BY_TABLES, PLANES};
use crate::generated::parts;
use crate::math::{mul, narrow, rsr, Scale};
use crate::model::{Op, NONE};
use crate::sums::{bytes_by_four, sum, Code};
use crate::tensor::{Tensor, BINARY, QUADS, TERNARY5};
use crate::{planes, tables};

/// How sums become elements: the shifts of section 5, LINEAR.
#[derive(Clone, Copy)]
struct Shifts {
    a: u32,
    b: u32,
}

impl Ctx<'_> {
    pub(crate) fn linear(&mut self, op: &Op) {
        let t = self.m.tensor(op.t0);
        let (src, dst) = (self.reg[op.a], self.reg[op.dst]);
        let big = t.sum_bits(src.qmax);
        let shifts = Shifts { a: big.saturating_sub(30), b: big.min(30) };
        let (a, b) = (shifts.a as i32, shifts.b as i32);
        self.reg[op.dst].len = t.rows;
        self.reg[op.dst].scale = match t.mode {
            1 => src.scale.mul(t.scale).shl(b + a - 30),
            _ => Scale::limited(src.scale.m, src.scale.e + t.scale.e + b + 1 + a),
        };
        let y = &mut self.p.vectors[dst.at..dst.at + t.rows];
        let range = src.at..src.at + src.len;
        let hint = if shifts.a > 0 { 0 } else { op.p[0] };
        let register = op.a as u32;
        // Each closure is one kernel over codes of either width.
        macro_rules! by_codes {
            ($codes:expr) => {{
                let codes = $codes;
                if parts::KERNEL_LOOKUP && hint == BY_TABLES && t.order == QUADS && t.mode != 3 {
                    let key = (register, t.kind == TERNARY5);
                    let ready = self.tables_of == key;
                    let kept = if narrow_codes(src.lo, src.hi) {
                        tables::sums(&t, codes, self.p.tables8, ready, y)
                    } else {
                        tables::sums(&t, codes, self.p.tables16, ready, y)
                    };
                    self.tables_of = if kept { key } else { (NONE, false) };
                    finish(&t, shifts, y);
                } else if parts::KERNEL_PLANES && hint == PLANES && src.lo >= -2 && src.hi <= 1 && t.mode != 3 {
                    let p = &mut *self.p.planes;
                    if self.planes_of != register {
                        planes::build(codes, p);
                        self.planes_of = register;
                    }
                    planes::sums(&t, p, y);
                    finish(&t, shifts, y);
                } else {
                    by_rows(&t, codes, shifts, y);
                }
            }};
        }
        if src.kind == 1 {
            by_codes!(&self.p.codes8[range]);
        } else {
            by_codes!(&self.p.codes16[range]);
        }
    }
}

/// Sums in y become elements.
fn finish(t: &Tensor, s: Shifts, y: &mut [i32]) {
    if t.mode == 1 {
        y.iter_mut().for_each(|y| *y <<= 30 - s.b);
    } else {
        for ((y, m), h) in y.iter_mut().zip(t.scale_m.iter()).zip(t.scale_h) {
            *y = narrow(mul(*y, m as i32), s.b + 1 + u32::from(*h));
        }
    }
}

/// A row at a time, for every encoding, scale mode and size of sums.
fn by_rows<C: Code>(t: &Tensor, codes: &[C], s: Shifts, y: &mut [i32]) {
    if t.mode == 3 {
        y.iter_mut().enumerate().for_each(|(r, y)| *y = grouped(t, codes, s, r));
    } else if s.a == 0 {
        // A set bit counts twice, less the sum of all codes: binary weights need that sum once.
        let total = if t.kind == BINARY { codes.iter().fold(0, |sum: i32, c| sum + (*c).into()) } else { 0 };
        if bytes_by_four(t, codes, y).is_none() {
            y.iter_mut().enumerate().for_each(|(r, y)| *y = sum::<i32, C>(t, codes, r, 0, t.cols, total));
        }
        finish(t, s, y);
    } else if parts::WITH_WIDE {
        let total = if t.kind == BINARY { codes.iter().fold(0, |sum, c| sum + i64::from((*c).into())) } else { 0 };
        y.iter_mut().enumerate().for_each(|(r, y)| *y = rsr(sum::<i64, C>(t, codes, r, 0, t.cols, total), s.a) as i32);
        finish(t, s, y);
    }
}

/// One row with a scale for each group of columns.
fn grouped<C: Code>(t: &Tensor, codes: &[C], s: Shifts, r: usize) -> i32 {
    let mut all = 0i64;
    for k in 0..t.groups {
        let (from, to) = (k * t.group, t.cols.min((k + 1) * t.group));
        let part = &codes[from..to];
        let total = if t.kind == BINARY { part.iter().fold(0, |sum, c| sum + i64::from((*c).into())) } else { 0 };
        let acc = match s.a {
            0 => sum::<i32, C>(t, part, r, from, to, total as i32),
            _ => rsr(sum::<i64, C>(t, part, r, from, to, total), s.a) as i32,
        };
        let (m, h) = t.row_scale(r * t.groups + k);
        all += rsr(mul(acc, m), h);
    }
    rsr(all, s.b + 1) as i32
}
