//! KVWRITE and ATTEND: rotary embedding, the quantized cache with its window and sinks, softmax. docs/semantics.md section 5.

use super::scalar::max_abs;
use super::tables::tables;
use super::vector::{softcap, Constants};
use crate::encoding::fixed::{bitlen, rhe, rsr, sat, shift, Scale};

/// Shape of the attention of one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub window: usize,
    pub sinks: usize,
    pub k_bits: u32,
    pub v_bits: u32,
}

/// Constants of static keys; all vectors are `[kv_heads, head_dim]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticKeys {
    pub scale: Scale,
    pub frac: i32,
    pub center: Vec<i32>,
    pub inv_m: Vec<u32>,
    pub inv_h: Vec<u8>,
    pub key_m: Vec<u32>,
    pub key_h: Vec<u8>,
}

/// Cache of one layer. Codes are held wide on the host whatever their width in the program.
#[derive(Debug, Clone)]
pub struct LayerCache {
    k: Vec<i16>,    // [window, kv_heads, head_dim]
    v: Vec<i16>,    // [window, kv_heads, head_dim]
    ks: Vec<Scale>, // [window, kv_heads]
    vs: Vec<Scale>, // [window, kv_heads]
}

/// What KVWRITE stored for a token, for the trace.
pub struct Written<'a> {
    pub k: &'a [i16],
    pub v: &'a [i16],
    /// Empty with static keys.
    pub ks: &'a [Scale],
    pub vs: &'a [Scale],
}

impl LayerCache {
    /// An empty cache that grows with the tokens, up to the window.
    pub fn new() -> Self {
        LayerCache { k: Vec::new(), v: Vec::new(), ks: Vec::new(), vs: Vec::new() }
    }

    /// What was saved with [`LayerCache::stored`]; with static keys `ks` is empty.
    pub fn of(k: Vec<i16>, v: Vec<i16>, mut ks: Vec<Scale>, vs: Vec<Scale>) -> Self {
        ks.resize(vs.len(), EMPTY);
        LayerCache { k, v, ks, vs }
    }

    /// The first `codes` codes of each side with their `heads` scales, which must have been written.
    pub fn stored(&self, codes: usize, heads: usize, static_keys: bool) -> Written<'_> {
        let ks = if static_keys { &[] } else { &self.ks[..heads] };
        Written { k: &self.k[..codes], v: &self.v[..codes], ks, vs: &self.vs[..heads] }
    }
}

impl Default for LayerCache {
    fn default() -> Self {
        Self::new()
    }
}

/// The slot of the token at position `p`.
pub fn slot(p: u32, window: usize, sinks: usize) -> usize {
    let p = p as usize;
    if p < window {
        p
    } else {
        sinks + (p - sinks) % (window - sinks)
    }
}

/// The position whose token is in slot `j` once the token at `p` is written.
fn position_in(j: usize, p: u32, window: usize, sinks: usize) -> u32 {
    let (w, s) = (window as u32, sinks as u32);
    let j = j as u32;
    if p < w || j < s {
        return j;
    }
    let ring = w - s;
    let now = (p - s) % ring;
    p - (now + ring - (j - s)) % ring
}

/// A rotary embedding of the program.
#[derive(Debug, Clone, Copy)]
pub struct Rope<'a> {
    /// Turns per position in units of 2^-32, for each rotated channel pair; may be empty.
    pub freq: &'a [u32],
    /// Factor of the channels that are not rotated.
    pub rest: Scale,
}

impl Rope<'_> {
    pub const NONE: Rope<'static> = Rope { freq: &[], rest: Scale::ONE };

    fn at(&self, position: u32) -> Angles {
        let t = tables();
        let pair = |f: &u32| position.wrapping_mul(*f);
        let (cos, sin) = self.freq.iter().map(pair).map(|p| (t.cos(p), t.sin(p))).unzip();
        Angles { cos, sin, rest: self.rest }
    }
}

/// Cosines and sines of one position.
struct Angles {
    cos: Vec<i32>,
    sin: Vec<i32>,
    rest: Scale,
}

/// Rotates one head, half-split form.
fn rotate(x: &mut [i32], angles: &Angles) {
    let half = angles.cos.len();
    let (turned, rest) = x.split_at_mut(2 * half);
    let (lo, hi) = turned.split_at_mut(half);
    for j in 0..half {
        let (a, b) = (i64::from(lo[j]), i64::from(hi[j]));
        let (c, s) = (i64::from(angles.cos[j]), i64::from(angles.sin[j]));
        lo[j] = sat(rsr(a * c - b * s, 30));
        hi[j] = sat(rsr(b * c + a * s, 30));
    }
    if angles.rest != Scale::ONE {
        rest.iter_mut().for_each(|x| *x = angles.rest.apply(*x, 0));
    }
}

/// ROPE: every head of `x` at position `p`, in place.
pub fn rope(x: &mut [i32], head_dim: usize, p: u32, rope: &Rope) {
    let angles = rope.at(p);
    x.chunks_mut(head_dim).for_each(|head| rotate(head, &angles));
}

const EMPTY: Scale = Scale { m: 1 << 30, e: -4096 };

/// Quantizes one head for the cache.
fn quantize_head(x: &[i32], s: Scale, bits: u32, out: &mut [i16]) -> Scale {
    let a = max_abs(x);
    if a == 0 {
        out.fill(0);
        return EMPTY;
    }
    let q = (1i64 << (bits - 1)) - 1;
    for (o, &x) in out.iter_mut().zip(x) {
        *o = rhe(q * i64::from(x), i64::from(a)) as i16;
    }
    let scale = Scale::norm(u64::from(a), 0).mul(s).mul(Scale::norm(q as u64, 0).inv());
    Scale { m: scale.m, e: scale.e.clamp(-4096, 4095) }
}

/// KVWRITE at position `p`. `k` is rotated in place.
pub fn kvwrite<'a>(
    shape: &AttentionShape,
    p: u32,
    rope: &Rope,
    fixed: Option<&StaticKeys>,
    (k, ks): (&mut [i32], Scale),
    (v, vs): (&[i32], Scale),
    cache: &'a mut LayerCache,
) -> Written<'a> {
    let d = shape.head_dim;
    let n = shape.kv_heads * d;
    let at = slot(p, shape.window, shape.sinks);
    if cache.k.len() < (at + 1) * n {
        cache.k.resize((at + 1) * n, 0);
        cache.v.resize((at + 1) * n, 0);
        cache.ks.resize((at + 1) * shape.kv_heads, EMPTY);
        cache.vs.resize((at + 1) * shape.kv_heads, EMPTY);
    }
    let angle = rope.at(p);
    for h in 0..shape.kv_heads {
        let head = h * d..(h + 1) * d;
        let here = at * n + h * d..at * n + (h + 1) * d;
        rotate(&mut k[head.clone()], &angle);
        match fixed {
            None => {
                cache.ks[at * shape.kv_heads + h] =
                    quantize_head(&k[head.clone()], ks, shape.k_bits, &mut cache.k[here.clone()]);
            }
            Some(f) => {
                for i in head.clone() {
                    let centred = sat(i64::from(ks.apply(k[i], f.frac)) - i64::from(f.center[i]));
                    let code = shift(i64::from(centred) * i64::from(f.inv_m[i]), i32::from(f.inv_h[i]));
                    cache.k[at * n + i] = code.clamp(-8, 7) as i16;
                }
            }
        }
        cache.vs[at * shape.kv_heads + h] = quantize_head(&v[head], vs, shape.v_bits, &mut cache.v[here]);
    }
    let scales = at * shape.kv_heads..(at + 1) * shape.kv_heads;
    Written {
        k: &cache.k[at * n..(at + 1) * n],
        v: &cache.v[at * n..(at + 1) * n],
        ks: if fixed.is_some() { &[] } else { &cache.ks[scales.clone()] },
        vs: &cache.vs[scales],
    }
}

/// Brings a query to 30 bits; the change of its exponent is returned.
fn normalise(q: &mut [i32]) -> i32 {
    let n = bitlen(u64::from(max_abs(q))) as i32;
    if n == 0 {
        return 0;
    }
    for v in q.iter_mut() {
        *v = if n > 30 { rsr(i64::from(*v), (n - 30) as u32) as i32 } else { *v << (30 - n) };
    }
    n - 30
}

/// A rotated query ready for the products with codes.
struct Query {
    q: Vec<i32>,
    scale: Scale,
    /// Score of the centre under this query, 20 fraction bits.
    bias: i32,
}

fn prepare(head: &[i32], s: Scale, angle: &Angles, softmax: Scale, fixed: Option<(&StaticKeys, usize)>) -> Query {
    let d = head.len();
    let mut q = head.to_vec();
    rotate(&mut q, angle);
    let mut scale = s.shl(normalise(&mut q));
    let mut bias = 0;
    if let Some((f, kv)) = fixed {
        let at = kv * d..(kv + 1) * d;
        let g = 24 + bitlen(d as u64 - 1);
        let sum: i64 = q.iter().zip(&f.center[at.clone()]).map(|(&q, &c)| i64::from(q) * i64::from(c)).sum();
        bias = scale.mul(softmax).shl(g as i32 - f.frac).apply(rsr(sum, g) as i32, 20);
        for (q, i) in q.iter_mut().zip(at) {
            *q = rsr(i64::from(*q) * i64::from(f.key_m[i]), 31 + u32::from(f.key_h[i])) as i32;
        }
        scale = scale.shl(normalise(&mut q));
    }
    Query { q, scale, bias }
}

/// What ATTEND does to scores, besides the softmax.
#[derive(Debug, Clone, Copy)]
pub struct Scoring<'a> {
    /// Factor of a score, times log2(e).
    pub softmax: Scale,
    /// Slots of tokens this far back or farther are not visible; 0: all are.
    pub window: usize,
    /// c log2(e) of c tanh(score / c).
    pub cap: Option<Scale>,
    /// Slope of each head, log2(e) per position.
    pub slopes: Option<Constants<'a>>,
    /// Tokens of the text, all of them visible, in an encoder.
    pub text: Option<usize>,
}

/// ATTEND at position `p`; returns the scale of dst.
#[allow(clippy::too_many_arguments)] // the operands of the operation, each of another kind
pub fn attend(
    shape: &AttentionShape,
    p: u32,
    rope: &Rope,
    fixed: Option<&StaticKeys>,
    scoring: &Scoring,
    (q, qs): (&[i32], Scale),
    cache: &LayerCache,
    dst: &mut [i32],
) -> Scale {
    let (d, kvh) = (shape.head_dim, shape.kv_heads);
    let visible = scoring.text.unwrap_or((p as usize).min(shape.window - 1) + 1);
    let rolled = p as usize >= shape.window;
    let now = rope.at(p);
    let sink_angle = rolled.then(|| rope.at(shape.window as u32 - 1));
    let g = shape.k_bits - 1 + bitlen(d as u64 - 1);
    let top = cache.vs[..visible * kvh].iter().map(|s| s.e).max().unwrap_or(0);
    let distance = |j: usize| match scoring.text {
        Some(_) => i64::from(p).abs_diff(j as i64) as i64,
        None => i64::from(p) - i64::from(position_in(j, p, shape.window, shape.sinks)),
    };
    let seen = |j: usize| scoring.window == 0 || distance(j) < scoring.window as i64;
    let softmax = scoring.softmax;
    let mut scores = vec![0i32; visible];
    for h in 0..shape.heads {
        let kv = h * kvh / shape.heads;
        let head = &q[h * d..(h + 1) * d];
        let statics = fixed.map(|f| (f, kv));
        let qa = prepare(head, qs, &now, softmax, statics);
        let sink = sink_angle.as_ref().map(|a| prepare(head, qs, a, softmax, statics));
        for (j, t) in scores.iter_mut().enumerate().filter(|(j, _)| seen(*j)) {
            let query = match &sink {
                Some(s) if j < shape.sinks => s,
                _ => &qa,
            };
            let code = &cache.k[(j * kvh + kv) * d..][..d];
            let acc: i64 = query.q.iter().zip(code).map(|(&q, &k)| i64::from(q) * i64::from(k)).sum();
            let key = fixed.map_or_else(|| cache.ks[j * kvh + kv], |f| f.scale);
            *t = query.scale.mul(softmax).mul(key).shl(g as i32).apply(rsr(acc, g) as i32, 20);
            if let (Some(s), true, true) = (&sink, fixed.is_some(), j < shape.sinks) {
                *t = sat(i64::from(*t) + i64::from(s.bias) - i64::from(qa.bias));
            }
            if let Some(cap) = scoring.cap {
                *t = softcap(*t, cap, 20);
            }
            if let Some(s) = scoring.slopes {
                let back = shift(distance(j).min(i64::from(i32::MAX)) * i64::from(s.values[h]), -(s.scale.e + 50));
                *t = sat(i64::from(*t) - i64::from(back));
            }
        }
        let most = (0..visible).filter(|j| seen(*j)).map(|j| scores[j]).max().unwrap_or(0);
        let mut total = 0u64;
        let mut sums = vec![0i64; d];
        for (j, &t) in scores.iter().enumerate().filter(|(j, _)| seen(*j)) {
            let e = tables().exp2n((i64::from(most) - i64::from(t)) as u32);
            total += u64::from(e);
            let vs = cache.vs[j * kvh + kv];
            let w = rsr(i64::from(e) * i64::from(vs.m), (31 + top - vs.e) as u32);
            for (a, &c) in sums.iter_mut().zip(&cache.v[(j * kvh + kv) * d..][..d]) {
                *a += w * i64::from(c);
            }
        }
        let z = (bitlen(total) + shape.v_bits - 1).saturating_sub(31);
        let r = Scale::norm(total, 0).inv().shl(z as i32);
        for (o, &a) in dst[h * d..(h + 1) * d].iter_mut().zip(&sums) {
            *o = r.apply(sat(rsr(a, z)), 31 - shape.v_bits as i32);
        }
    }
    Scale::pow2(top + shape.v_bits as i32)
}
