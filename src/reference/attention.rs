//! Attention: rotation, masks, scores, and the keys and values that a session keeps.

use super::linear::{Linear, Norm};
use super::rows::{self, Rows};
use crate::error::{Error, Result};
use crate::model::{self, Model, Rope};
use half::bf16;
use std::ops::Range;

/// What the blocks need to know about the texts they work on. All texts have the same length; padding is masked.
pub struct Context<'a> {
    pub texts: usize,
    /// New tokens of each text.
    pub len: usize,
    /// Tokens that a session has seen before.
    pub past: usize,
    /// Keys that may be seen, `[texts, past + len]`; None: all.
    pub mask: Option<&'a [bool]>,
    /// Tokens see only those before them.
    pub causal: bool,
    pub head_dim: usize,
    pub rotations: Vec<Rotation>,
    /// Slope of each head.
    pub alibi: Option<&'a [f64]>,
    /// States of an encoder that cross attention looks at, `[texts * n, width]`.
    pub memory: Option<&'a Rows>,
}

/// Cosines and sines of a rotary embedding for some positions, `[positions, pairs]`.
pub struct Rotation {
    pairs: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotation {
    /// In the f32 steps of the reference implementations: the angle is a product of two f32.
    /// `positions` are the last ones of the text, its length may decide about the frequencies.
    pub fn new(rope: &Rope, positions: Range<usize>) -> Rotation {
        let freq: Vec<f32> = rope.at(positions.end).iter().map(|f| *f as f32).collect();
        let factor = rope.factor as f32;
        let angles = positions.flat_map(|p| freq.iter().map(move |f| f64::from(p as f32 * f)));
        let (cos, sin) = angles.map(|a| (libm::cos(a) as f32 * factor, libm::sin(a) as f32 * factor)).unzip();
        Rotation { pairs: freq.len(), cos, sin }
    }

    /// Rotates every head of `x`, whose row `r` is position `r % len` of the table.
    fn apply(&self, x: &mut Rows, head_dim: usize, len: usize) {
        let n = self.pairs;
        for (r, row) in x.iter_mut().enumerate() {
            let at = (r % len.max(1)) * n;
            let (Some(cos), Some(sin)) = (self.cos.get(at..at + n), self.sin.get(at..at + n)) else { continue };
            for head in row.chunks_exact_mut(head_dim) {
                let (a, rest) = head.split_at_mut(n);
                for (((a, b), c), s) in a.iter_mut().zip(rest).zip(cos).zip(sin) {
                    (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
                }
            }
        }
    }
}

/// Keys and values of one text.
#[derive(Default)]
pub struct Past {
    k: Vec<f32>,
    v: Vec<f32>,
}

pub struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    norm_after_rope: bool,
    rope: Option<usize>,
    window: Option<usize>,
    scale: f32,
    softcap: Option<f32>,
    sub_norm: Option<Norm>,
}

impl Attention {
    /// # Errors
    /// `Input` if heads, rotations and matrices do not fit together.
    pub fn load(m: &Model, a: &model::Attention) -> Result<Attention> {
        heads_fit(m, &a.q, &a.k, &a.v)?;
        if let Some(i) = a.rope {
            if m.ropes.get(i).is_none_or(|r| 2 * r.inv_freq.len() > m.head_dim) {
                return Err(Error::input(format!("`{}` has a rotation that does not fit its heads", a.q.name)));
            }
        }
        let norm = |n: &Option<model::Norm>, width| n.as_ref().map(|n| Norm::load(m, n, width)).transpose();
        Ok(Attention {
            q: Linear::load(m, &a.q)?,
            k: Linear::load(m, &a.k)?,
            v: Linear::load(m, &a.v)?,
            o: Linear::load(m, &a.o)?,
            q_norm: norm(&a.q_norm, a.q.weight.rows)?,
            k_norm: norm(&a.k_norm, a.k.weight.rows)?,
            norm_after_rope: a.norm_after_rope,
            rope: a.rope,
            window: a.window,
            scale: a.scale as f32,
            softcap: a.softcap.map(|c| c as f32),
            sub_norm: norm(&a.sub_norm, a.q.weight.rows)?,
        })
    }

    /// `x` is `[texts * len, width]`.
    ///
    /// # Errors
    /// `Input` if shapes do not fit.
    pub fn run(&self, x: &Rows, c: &Context, past: Option<&mut Past>) -> Result<Rows> {
        let (mut q, mut k, mut v) = (self.q.apply(x)?, self.k.apply(x)?, self.v.apply(x)?);
        if !self.norm_after_rope {
            normalize(&self.q_norm, &mut q);
            normalize(&self.k_norm, &mut k);
        }
        if let Some(r) = self.rope.and_then(|i| c.rotations.get(i)) {
            r.apply(&mut q, c.head_dim, c.len);
            r.apply(&mut k, c.head_dim, c.len);
        }
        if self.norm_after_rope {
            normalize(&self.q_norm, &mut q);
            normalize(&self.k_norm, &mut k);
        }
        let keys = c.past + c.len;
        if let Some(past) = past {
            past.k.append(&mut k.data);
            past.v.append(&mut v.data);
            (k.data, v.data) = (past.k.clone(), past.v.clone());
        }
        let bias = c.alibi.map(|slopes| Bias::new(slopes, c, keys));
        let score = |text: usize, head: usize, query: usize, row: &mut [f32]| {
            let at = c.past + query;
            let mask = c.mask.and_then(|m| m.get(text * keys..(text + 1) * keys));
            for (j, s) in row.iter_mut().enumerate() {
                if let Some(b) = &bias {
                    *s += b.of(text, head, j);
                }
                *s *= self.scale;
                if let Some(limit) = self.softcap {
                    *s = rows::softcap(limit, *s);
                }
                let far = self.window.is_some_and(|w| j + w <= at);
                if (c.causal && j > at) || far || mask.is_some_and(|m| !m[j]) {
                    *s = f32::NEG_INFINITY;
                }
            }
        };
        let mut out = attend(&q, &k, &v, c.texts, c.head_dim, score)?;
        normalize(&self.sub_norm, &mut out);
        self.o.apply(&out)
    }
}

/// Attention of a decoder to the states of an encoder.
pub struct Cross {
    norm: Norm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    scale: f32,
}

impl Cross {
    /// # Errors
    /// As [`Attention::load`].
    pub fn load(m: &Model, c: &model::CrossAttention) -> Result<Cross> {
        heads_fit(m, &c.q, &c.k, &c.v)?;
        Ok(Cross {
            norm: Norm::load(m, &c.norm, c.q.weight.cols)?,
            q: Linear::load(m, &c.q)?,
            k: Linear::load(m, &c.k)?,
            v: Linear::load(m, &c.v)?,
            o: Linear::load(m, &c.o)?,
            scale: c.scale as f32,
        })
    }

    /// # Errors
    /// As [`Attention::run`]; without states of an encoder.
    pub fn run(&self, x: &Rows, c: &Context) -> Result<Rows> {
        let memory = c.memory.ok_or_else(|| Error::usage("the decoder needs the states of its encoder"))?;
        let q = self.q.apply(&self.norm.of(x))?;
        let (k, v) = (self.k.apply(memory)?, self.v.apply(memory)?);
        let score = |_, _, _, row: &mut [f32]| row.iter_mut().for_each(|s| *s *= self.scale);
        self.o.apply(&attend(&q, &k, &v, c.texts, c.head_dim, score)?)
    }
}

fn normalize(norm: &Option<Norm>, x: &mut Rows) {
    if let Some(n) = norm {
        n.apply(x);
    }
}

fn heads_fit(m: &Model, q: &model::Linear, k: &model::Linear, v: &model::Linear) -> Result<()> {
    let (nq, nk, nv) = (q.weight.rows, k.weight.rows, v.weight.rows);
    let d = m.head_dim;
    if d == 0 || nk == 0 || nq % d != 0 || nk % d != 0 || nq % nk != 0 || nk != nv {
        let what = format!("`{}` gives {nq} values, key and value {nk} and {nv}, for heads of {d}", q.name);
        return Err(Error::input(what).hint("the parts of the checkpoint do not belong together"));
    }
    Ok(())
}

/// What ALiBi adds to a score: slope of the head times position of the key, each step rounded to bf16 as in training.
struct Bias {
    slopes: Vec<f32>,
    /// `[texts, keys]`.
    positions: Vec<f32>,
    keys: usize,
}

impl Bias {
    fn new(slopes: &[f64], c: &Context, keys: usize) -> Bias {
        let mut positions = Vec::with_capacity(c.texts * keys);
        for text in 0..c.texts {
            let mut seen = 0;
            for j in 0..keys {
                let visible = c.mask.is_none_or(|m| m.get(text * keys + j) == Some(&true));
                positions.push(if visible { seen as f32 } else { 0.0 });
                seen += usize::from(visible);
            }
        }
        let round = |v: f32| bf16::from_f32(v).to_f32();
        positions.iter_mut().for_each(|p| *p = round(*p));
        Bias { slopes: slopes.iter().map(|s| round(*s as f32)).collect(), positions, keys }
    }

    fn of(&self, text: usize, head: usize, key: usize) -> f32 {
        let slope = self.slopes.get(head).copied().unwrap_or(0.0);
        let position = self.positions.get(text * self.keys + key).copied().unwrap_or(0.0);
        bf16::from_f32(slope * position).to_f32()
    }
}

/// softmax(score(q kᵀ)) v for every text and head. Head j of the keys serves the queries j r .. (j + 1) r.
/// `score` turns the products of one query, given text, head and number, into scores.
fn attend(
    q: &Rows,
    k: &Rows,
    v: &Rows,
    texts: usize,
    d: usize,
    score: impl Fn(usize, usize, usize, &mut [f32]),
) -> Result<Rows> {
    let (heads, groups) = (q.width / d, k.width / d);
    let (len, keys) = (q.len() / texts.max(1), k.len() / texts.max(1));
    let share = heads / groups.max(1);
    let mut out = vec![0.0; q.data.len()];
    for text in 0..texts {
        let head = |x: &Rows, rows: usize, h: usize| -> Vec<f32> {
            let own = x.iter().skip(text * rows).take(rows);
            own.flat_map(|row| row[h * d..(h + 1) * d].iter().copied()).collect()
        };
        for group in 0..groups {
            let queries: Vec<f32> = (group * share..(group + 1) * share).flat_map(|h| head(q, len, h)).collect();
            let own_keys = rows::matrix(keys, d, head(k, keys, group))?;
            let mut scores = rows::product_transposed(Rows::new(d, queries), &own_keys)?;
            for (i, row) in scores.iter_mut().enumerate() {
                score(text, group * share + i / len, i % len, row);
                softmax(row);
            }
            let mixed = rows::product(scores, &rows::matrix(keys, d, head(v, keys, group))?)?;
            for (i, row) in mixed.iter().enumerate() {
                let at = (text * len + i % len) * q.width + (group * share + i / len) * d;
                out[at..at + d].copy_from_slice(row);
            }
        }
    }
    Ok(Rows::new(q.width, out))
}

/// A row in which nothing may be seen becomes zeros.
fn softmax(row: &mut [f32]) {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if most == f32::NEG_INFINITY {
        row.fill(0.0);
        return;
    }
    row.iter_mut().for_each(|s| *s = (*s - most).exp());
    let sum = row.iter().map(|s| f64::from(*s)).sum::<f64>() as f32;
    row.iter_mut().for_each(|s| *s /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_positions_and_products_are_rounded_to_bf16() {
        let mask = [vec![true; 6], vec![true, false, true, true, true, true]].concat();
        let c = Context {
            texts: 2,
            len: 6,
            past: 0,
            mask: Some(&mask),
            causal: true,
            head_dim: 2,
            rotations: Vec::new(),
            alibi: None,
            memory: None,
        };
        let bias = Bias::new(&[0.3, 0.5], &c, 6);
        // 0.3 becomes 77/256; 5 times that is 385/256, which needs nine bits.
        assert_eq!((bias.of(0, 0, 3), bias.of(0, 0, 5)), (231.0 / 256.0, 1.5));
        // Positions count what is no padding.
        assert_eq!((bias.of(1, 1, 1), bias.of(1, 1, 2), bias.of(1, 1, 5)), (0.0, 0.5, 2.0));
    }

    #[test]
    fn weights_of_a_row_that_sees_nothing_are_zeros() {
        let mut row = [f32::NEG_INFINITY; 3];
        softmax(&mut row);
        assert_eq!(row, [0.0; 3]);
        let mut row = [1000.0, f32::NEG_INFINITY, 1000.0];
        softmax(&mut row);
        assert_eq!(row, [0.5, 0.0, 0.5]);
    }

    #[test]
    fn only_the_first_channels_of_a_head_turn() {
        // A quarter turn a position for one pair, in heads of three channels.
        let rope = Rope::plain(10_000.0, vec![std::f64::consts::FRAC_PI_2]);
        let mut x = Rows::new(6, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].repeat(2));
        Rotation::new(&rope, 0..2).apply(&mut x, 3, 2);
        assert_eq!(x.data[..6], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let want = [-2.0, 1.0, 3.0, -5.0, 4.0, 6.0];
        assert!(x.data[6..].iter().zip(want).all(|(g, w): (&f32, f32)| (g - w).abs() < 1e-6), "{:?}", x.data);
    }
}
