//! KVWRITE, ATTEND, ROPE: rotary embedding, the quantized cache with its window and sinks, attention in integers.

use crate::act::SoftCap;
use crate::arena::Side;
use crate::ctx::Ctx;
use crate::generated::parts;
use crate::math::{bitlen, bitlen64, bits_of, max_abs, mul, narrow, rsr, rsr32, sat, shift, Crc, Divisor, Scale};
use crate::model::{Op, NONE};
use crate::ops::option;
use crate::tensor::StaticKeys;

/// Exponent of an all-zero head in the cache.
const ZERO_EXPONENT: i32 = -4096;
/// The score of a slot that takes no part; no other score has this value.
const HIDDEN: i32 = i32::MIN;

/// How heads are rotated: r cosines, then r sines, and the factor of the channels behind them.
struct Rotation<'v> {
    cs: &'v [i32],
    rest: Option<Scale>,
}

impl Rotation<'_> {
    fn turn(&self, x: &mut [i32]) {
        let r = self.cs.len() / 2;
        let (cos, sin) = self.cs.split_at(r);
        let (low, high) = x.split_at_mut(r);
        for ((a, b), (c, s)) in low.iter_mut().zip(high.iter_mut()).zip(cos.iter().zip(sin)) {
            let (x, y) = (*a, *b);
            *a = sat(rsr(mul(x, *c) - mul(y, *s), 30));
            *b = sat(rsr(mul(y, *c) + mul(x, *s), 30));
        }
        if let Some(u) = self.rest {
            high[r..].iter_mut().for_each(|x| *x = u.apply(*x, 0));
        }
    }
}

/// A query ready for the products with codes.
struct Query {
    /// Its scale at 30 bits, times the factor of the scores.
    scale: Scale,
    /// Score of the centre of static keys.
    bias: i32,
}

/// Brings a query to 30 bits; the change of its exponent.
fn normalise(q: &mut [i32]) -> i32 {
    match bits_of(q) {
        0 => 0,
        n if n > 30 => {
            q.iter_mut().for_each(|v| *v = rsr32(*v, n - 30));
            n as i32 - 30
        }
        n => {
            q.iter_mut().for_each(|v| *v <<= 30 - n);
            n as i32 - 30
        }
    }
}

/// One head, rotated in `q`: with static keys also multiplied by their scales (channels from `channel` on).
fn prepare(q: &mut [i32], turn: &Rotation, s: Scale, softmax: Scale, keys: Option<(&StaticKeys, usize, i32)>) -> Query {
    turn.turn(q);
    let mut scale = s.shl(normalise(q));
    let mut bias = 0;
    if let Some((k, channel, frac)) = keys {
        let down = 24 + bitlen(q.len() as u32 - 1);
        let mut sum = 0i64;
        for (i, v) in q.iter_mut().enumerate() {
            sum += mul(*v, k.centre(channel + i));
            let (m, h) = k.key(channel + i);
            *v = rsr(mul(*v, m), 31 + h) as i32;
        }
        bias = scale.mul(softmax).shl(down as i32 - frac).apply(rsr(sum, down) as i32, 20);
        scale = scale.shl(normalise(q));
    }
    Query { scale: scale.mul(softmax), bias }
}

/// Half a byte as a code; the even channel is the low half.
#[inline(always)]
fn halves(b: i8) -> (i32, i32) {
    ((b << 4 >> 4).into(), (b >> 4).into())
}

impl Side<'_> {
    fn get(&self, i: usize) -> i32 {
        match self.bits {
            16 => self.wide[i].into(),
            8 => self.bytes[i].into(),
            _ if i & 1 == 0 => halves(self.bytes[i >> 1]).0,
            _ => halves(self.bytes[i >> 1]).1,
        }
    }

    fn put(&mut self, i: usize, code: i32) {
        match self.bits {
            16 => self.wide[i] = code as i16,
            8 => self.bytes[i] = code as i8,
            _ => {
                let b = &mut self.bytes[i >> 1];
                let (low, high) = if i & 1 == 0 { (code, *b as i32 >> 4) } else { (*b as i32, code) };
                *b = (high << 4 | low & 15) as i8;
            }
        }
    }

    /// One head quantized by itself: index of its scale.
    fn write(&mut self, x: &[i32], s: Scale, head: usize) {
        let first = head * x.len();
        let q = (1u32 << (self.bits - 1)) - 1;
        let a = max_abs(x);
        let scale = if a == 0 {
            (0..x.len()).for_each(|i| self.put(first + i, 0));
            Scale { m: 1 << 30, e: ZERO_EXPONENT }
        } else {
            let d = Divisor::new(a, q);
            x.iter().enumerate().for_each(|(i, x)| self.put(first + i, d.divide(*x)));
            Scale::norm(a.into(), 0).mul(s).mul(Scale::norm(q.into(), 0).inv())
        };
        self.m[head] = scale.m as i32;
        self.e[head] = scale.e.clamp(ZERO_EXPONENT, 4095) as i16;
    }

    fn scale(&self, head: usize) -> Scale {
        Scale { m: self.m[head] as u32, e: self.e[head].into() }
    }

    /// Sum of products of a query with the codes from `first` on.
    #[inline(always)]
    fn dot(&self, q: &[i32], first: usize) -> i64 {
        let d = q.len();
        match self.bits {
            16 => self.wide[first..first + d].iter().zip(q).fold(0, |s, (k, q)| s + mul(*q, (*k).into())),
            8 => self.bytes[first..first + d].iter().zip(q).fold(0, |s, (k, q)| s + mul(*q, (*k).into())),
            _ => {
                let codes = &self.bytes[first / 2..(first + d) / 2];
                codes.iter().zip(q.as_chunks::<2>().0).fold(0, |s, (k, q)| {
                    let (a, b) = halves(*k);
                    s + mul(q[0], a) + mul(q[1], b)
                })
            }
        }
    }

    /// Sums of the weighted codes of four channels (or two, at the end of a head) over all slots.
    #[inline(always)]
    fn weigh(&self, weights: &[i32], first: usize, step: usize, n: usize) -> [i64; 4] {
        let mut a = [0i64; 4];
        let mut add = |w: i32, c: [i32; 4]| {
            for (a, c) in a.iter_mut().zip(c) {
                *a += mul(w, c);
            }
        };
        match self.bits {
            16 if n == 4 => {
                for (i, w) in weights.iter().enumerate() {
                    if let Some(c) = self.wide[first + i * step..].first_chunk::<4>() {
                        add(*w, c.map(i32::from));
                    }
                }
            }
            8 if n == 4 => {
                for (i, w) in weights.iter().enumerate() {
                    if let Some(c) = self.bytes[first + i * step..].first_chunk::<4>() {
                        add(*w, c.map(i32::from));
                    }
                }
            }
            4 if n == 4 => {
                for (i, w) in weights.iter().enumerate() {
                    if let Some([x, y]) = self.bytes[(first + i * step) / 2..].first_chunk::<2>() {
                        let ((p, q), (r, s)) = (halves(*x), halves(*y));
                        add(*w, [p, q, r, s]);
                    }
                }
            }
            _ => {
                for (i, w) in weights.iter().enumerate() {
                    let at = first + i * step;
                    add(*w, [self.get(at), self.get(at + 1), 0, 0]);
                }
            }
        }
        a
    }
}

impl<'a> Ctx<'a> {
    /// Angles of a tensor of frequencies at the position (0) or at the last one of the window (1); kept for the other layers.
    fn make_angles(&mut self, tensor: u32, which: usize) {
        let position = if which == 0 { self.position } else { self.shape.window as u32 - 1 };
        if tensor == NONE || self.angles_of[which] == (tensor, position) {
            return;
        }
        self.angles_of[which] = (tensor, position);
        let t = self.m.tensor(tensor);
        let (cos, sin) = self.p.angles[which].split_at_mut(t.cols);
        for ((f, c), s) in t.values().zip(cos).zip(sin) {
            let phase = position.wrapping_mul(f as u32);
            *c = self.m.tables.cos(phase);
            *s = self.m.tables.sin(phase);
        }
    }

    pub(crate) fn rope(&mut self, op: &Op) {
        self.make_angles(op.t0, 0);
        let (from, d) = (self.reg[op.a], self.m.h.head_dim);
        self.copied(op.dst, op.a);
        let to = self.reg[op.dst].at;
        let (m, p) = (&self.m, &mut self.p);
        let turn = rotation(m, op.t0, p.angles[0]);
        p.vectors[to..to + from.len].chunks_mut(d).for_each(|head| turn.turn(head));
        self.reg[op.dst].scale = from.scale;
    }

    pub(crate) fn kvwrite(&mut self, op: &Op) {
        self.make_angles(op.t0, 0);
        let (h, m) = (self.m.h, self.m);
        let (k, v) = (self.reg[op.a], self.reg[op.b]);
        let first = (op.layer as usize * self.shape.window + self.slot) * h.kv_heads;
        let fixed = h.static_keys.then(|| StaticKeys::of(&m.tensor(op.t1)));
        let p = &mut self.p;
        let turn = rotation(&m, op.t0, p.angles[0]);
        for head in 0..h.kv_heads {
            let d = h.head_dim;
            let x = &mut *p.query;
            x.copy_from_slice(&p.vectors[k.at + head * d..][..d]);
            turn.turn(x);
            match &fixed {
                None => p.keys.write(x, k.scale, first + head),
                Some(f) => {
                    let by = k.scale.factor(h.key_frac);
                    for (i, x) in x.iter().enumerate() {
                        let channel = head * d + i;
                        let (im, ih) = f.inverse(channel);
                        let centred = sat(i64::from(by.times(*x)) - i64::from(f.centre(channel)));
                        p.keys.put((first + head) * d + i, shift(mul(centred, im), ih).clamp(-8, 7));
                    }
                }
            }
            p.values.write(&p.vectors[v.at + head * d..][..d], v.scale, first + head);
        }
    }

    /// Checksum of what KVWRITE wrote for this token.
    pub(crate) fn kv_checksum(&self, layer: usize) -> u32 {
        let h = &self.m.h;
        let first = (layer * self.shape.window + self.slot) * h.kv_heads;
        let mut crc = Crc::START;
        for (side, has_scales) in [(&self.p.keys, !h.static_keys), (&self.p.values, true)] {
            for head in first..first + h.kv_heads {
                if has_scales {
                    crc = crc.scale(side.scale(head));
                }
                crc = (head * h.head_dim..(head + 1) * h.head_dim).fold(crc, |c, i| c.word(side.get(i) as u32));
            }
        }
        crc.end()
    }

    /// How many positions ago the token in a slot came.
    fn age_of(&self, slot: usize) -> u32 {
        let window = self.shape.window;
        if (self.position as usize) < window || slot < self.m.h.sinks {
            return match self.m.h.encoder {
                true => self.position.abs_diff(slot as u32),
                false => self.position.wrapping_sub(slot as u32),
            };
        }
        let ring = if slot <= self.slot { 0 } else { window - self.m.h.sinks };
        (self.slot + ring - slot) as u32
    }

    /// Whether ATTEND with this window sees a slot.
    fn hides(&self, window: u32, slot: usize) -> bool {
        parts::WITH_WINDOWS && window != 0 && self.age_of(slot) >= window
    }

    pub(crate) fn attend(&mut self, op: &Op) {
        let (h, m) = (self.m.h, self.m);
        let (src, dst, d) = (self.reg[op.a], self.reg[op.dst], h.head_dim);
        let rolled = self.position as usize >= self.shape.window;
        let slots = match (h.encoder, rolled) {
            (true, _) => self.tokens,
            (false, true) => self.shape.window,
            (false, false) => self.position as usize + 1,
        };
        let sinks = if rolled && !h.encoder { h.sinks } else { 0 };
        self.make_angles(op.t0, 0);
        if sinks > 0 {
            self.make_angles(op.t0, 1);
        }
        let softmax = Scale { m: op.p[0], e: op.p[1] as i32 };
        let fixed = h.static_keys.then(|| StaticKeys::of(&m.tensor(op.t1)));
        let first = op.layer as usize * self.shape.window * h.kv_heads;
        let exponents = &self.p.values.e[first..first + slots * h.kv_heads];
        let x = exponents.iter().fold(ZERO_EXPONENT, |x, e| x.max((*e).into()));
        let bits = self.p.values.bits as i32;
        let (mut kv, mut part) = (0, 0); // kv = floor(head * KV / H)
        for head in 0..h.heads {
            let statics = fixed.as_ref().map(|f| (f, kv * d, h.key_frac));
            let p = &mut self.p;
            let source = &p.vectors[src.at + head * d..][..d];
            p.query.copy_from_slice(source);
            let a = prepare(p.query, &rotation(&m, op.t0, p.angles[0]), src.scale, softmax, statics);
            if sinks > 0 {
                p.query_sink.copy_from_slice(source);
                let s = prepare(p.query_sink, &rotation(&m, op.t0, p.angles[1]), src.scale, softmax, statics);
                self.score(op, &s, 1, fixed.as_ref(), kv, 0, sinks);
                if fixed.is_some() {
                    for t in self.p.scores[..sinks].iter_mut().filter(|t| **t != HIDDEN) {
                        *t = sat(i64::from(*t) + i64::from(s.bias) - i64::from(a.bias));
                    }
                }
            }
            self.score(op, &a, 0, fixed.as_ref(), kv, sinks, slots);
            self.bend(op, head, slots);
            let sum = self.soften(first, kv, slots, x);
            let z = (bitlen64(sum) as i32 + bits - 32).max(0);
            let by = Scale::norm(sum.max(1), 0).inv().shl(z).factor(31 - bits);
            let p = &mut self.p;
            let y = &mut p.vectors[dst.at + head * d..][..d];
            for (j, y) in y.chunks_mut(4).enumerate() {
                let at = (first + kv) * d + 4 * j;
                let sums = p.values.weigh(&p.scores[..slots], at, h.kv_heads * d, y.len());
                for (y, a) in y.iter_mut().zip(sums) {
                    *y = by.times(sat(rsr(a, z as u32)));
                }
            }
            part += h.kv_heads;
            if part >= h.heads {
                part -= h.heads;
                kv += 1;
            }
        }
        self.reg[op.dst].len = h.heads * d;
        self.reg[op.dst].scale = Scale::pow2(x + bits - 30);
    }

    /// Scores of the slots from ..< to: step 3, up to the products.
    #[allow(clippy::too_many_arguments)] // the operands of one step, each of another kind
    fn score(&mut self, op: &Op, r: &Query, which: usize, k: Option<&StaticKeys>, kv: usize, from: usize, to: usize) {
        let (kv_heads, d) = (self.m.h.kv_heads, self.m.h.head_dim);
        let g = self.p.keys.bits - 1 + bitlen(d as u32 - 1);
        let first = op.layer as usize * self.shape.window * kv_heads;
        for slot in from..to {
            if self.hides(op.p[2], slot) {
                self.p.scores[slot] = HIDDEN;
                continue;
            }
            let head = first + slot * kv_heads + kv;
            let p = &mut self.p;
            let key = k.map_or_else(|| p.keys.scale(head), |k| k.scale);
            let q: &[i32] = if which == 0 { p.query } else { p.query_sink };
            let by = r.scale.mul(key).shl(g as i32).factor(20);
            p.scores[slot] = by.times(narrow(p.keys.dot(q, head * d), g));
        }
    }

    /// The rest of step 3: cap and slope of a query head.
    fn bend(&mut self, op: &Op, head: usize, slots: usize) {
        if let Some(cap) = option(op.p[3], op.p[4]).filter(|_| parts::WITH_CAPS) {
            let soft = SoftCap::new(cap, 20);
            for t in self.p.scores[..slots].iter_mut().filter(|t| **t != HIDDEN) {
                *t = soft.of(self.m.tables, *t);
            }
        }
        if parts::WITH_SLOPES && op.p[5] != 0 {
            let slopes = self.m.tensor(op.p[5] - 1);
            let slope = slopes.value(head);
            for slot in 0..slots {
                let far = self.age_of(slot).min(i32::MAX as u32) as i32;
                let t = &mut self.p.scores[slot];
                if *t != HIDDEN {
                    *t = sat(i64::from(*t) - i64::from(shift(mul(far, slope), -(slopes.scale.e + 50))));
                }
            }
        }
    }

    /// Steps 4 and 5: weights in place of the scores; their sum before the value scales.
    fn soften(&mut self, first: usize, kv: usize, slots: usize, x: i32) -> u64 {
        let (p, tables) = (&mut self.p, self.m.tables);
        let scores = &mut p.scores[..slots];
        let top = scores.iter().fold(HIDDEN, |top, t| top.max(*t));
        let mut sum = 0u64;
        for (slot, t) in scores.iter_mut().enumerate() {
            if *t == HIDDEN {
                *t = 0;
                continue;
            }
            let e = tables.exp2n((top as u32).wrapping_sub(*t as u32));
            let scale = p.values.scale(first + slot * self.m.h.kv_heads + kv);
            sum += u64::from(e);
            *t = narrow(mul(e as i32, scale.m as i32), (31 + x - scale.e) as u32);
        }
        sum
    }
}

/// Angles of a tensor of frequencies that were made before.
fn rotation<'v>(m: &crate::model::Model, tensor: u32, angles: &'v [i32]) -> Rotation<'v> {
    if tensor == NONE {
        return Rotation { cs: &[], rest: None };
    }
    let t = m.tensor(tensor);
    Rotation { cs: &angles[..2 * t.cols], rest: option(t.scale.m, t.scale.e as u32).filter(|_| parts::WITH_PARTIAL) }
}
