//! GroupQueryAttention of com.microsoft, with a cache in f32. Products and the softmax are computed in f64; what goes into the cache is f32.

use super::node::{Args, Ctx};
use super::value::{Value, Values};
use crate::error::{Error, Result};

/// Sizes of an attention.
struct Sizes {
    batch: usize,
    /// New tokens.
    tokens: usize,
    heads: usize,
    kv_heads: usize,
    head: usize,
    /// Entries of the cache given, and of the cache made.
    past: usize,
    present: usize,
    /// All tokens of the longest sequence.
    total: usize,
}

/// Rotation of the front of each head: an angle for each pair of elements and each position.
struct Rotation<'v> {
    cos: &'v [f32],
    sin: &'v [f32],
    pairs: usize,
    positions: usize,
    interleaved: bool,
}

/// What is added to the scores: [1 or batch, 1 or heads, tokens, total].
struct Bias<'v> {
    values: &'v [f32],
    batch: usize,
    heads: usize,
}

fn floats<'v>(ctx: &Ctx, v: &'v Value) -> Result<&'v [f32]> {
    match &v.data {
        Values::F32(x) => Ok(x),
        other => Err(ctx.no_type(other.elem())),
    }
}

/// A row of `n` elements, checked.
fn row(x: &[f32], i: usize, n: usize) -> &[f32] {
    &x[i * n..(i + 1) * n]
}

/// Inputs: query, key, value, past key, past value, lengths less one, total length, cosines, sines, (positions), bias.
pub fn group_query_attention<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    for (name, value) in [("smooth_softmax", 0), ("qk_output", 0)] {
        ctx.only(name, value)?;
    }
    if ctx.ints("k_quant_type").is_some() || ctx.ints("v_quant_type").is_some() || args.len() > 11 {
        return Err(Error::unsupported("a quantized cache or a sink of each head is not known to the built-in engine"));
    }
    if args.opt(9).is_some() {
        return Err(Error::unsupported("positions as an input are not known to the built-in engine"));
    }
    if args.opt(1).is_none() || args.opt(2).is_none() || args.opt(3).is_none() || args.opt(4).is_none() {
        return Err(Error::unsupported(
            "query, key and value in one tensor, or no cache, is not known to the built-in engine",
        ));
    }
    let (query, key, value) = (args.get(0)?, args.get(1)?, args.get(2)?);
    let (past_key, past_value) = (args.get(3)?, args.get(4)?);
    let s = sizes(ctx, args)?;
    let lengths = lengths(args.get(5)?, &s)?;
    let bias = args.opt(10).map(|v| bias(ctx, v, &s)).transpose()?;
    let rotation = match ctx.int("do_rotary", 0)? {
        0 => None,
        _ => Some(rotation(ctx, args.get(7)?, args.get(8)?, &s)?),
    };
    let cache = [s.batch, s.kv_heads, s.present, s.head];
    let mut keys = ctx.filled(ctx.elements::<f32>(&cache)?, 0f32)?;
    let mut values = ctx.filled(ctx.elements::<f32>(&cache)?, 0f32)?;
    let mut out = ctx.filled(ctx.elements::<f32>(&query.dims)?, 0f32)?;
    let scores = s.batch.saturating_mul(s.heads).saturating_mul(s.tokens).saturating_mul(s.present);
    ctx.work((scores as u64).saturating_mul(2 * s.head as u64))?;
    let (q, k, v) = (floats(ctx, query)?, floats(ctx, key)?, floats(ctx, value)?);
    let (old_keys, old_values) = (floats(ctx, past_key)?, floats(ctx, past_value)?);
    let softness = Softness::of(ctx, s.head)?;
    for b in 0..s.batch {
        let all = lengths[b];
        // A prompt starts at 0 even where it is padded; what follows ends at the last token.
        let first =
            if s.tokens > 1 && s.tokens == s.total { 0 } else { all.checked_sub(s.tokens).ok_or_else(too_short)? };
        if first > s.past || first + s.tokens > s.present {
            return Err(Error::input(format!("{first} tokens before the new ones, {} in the cache", s.past)));
        }
        for g in 0..s.kv_heads {
            let (of, to) = ((b * s.kv_heads + g) * s.past, (b * s.kv_heads + g) * s.present);
            for (new, old, made, turn) in [(k, old_keys, &mut keys, &rotation), (v, old_values, &mut values, &None)] {
                made[to * s.head..][..first * s.head].copy_from_slice(&old[of * s.head..][..first * s.head]);
                for t in 0..s.tokens {
                    let here = &mut made[(to + first + t) * s.head..][..s.head];
                    here.copy_from_slice(row(new, (b * s.tokens + t) * s.kv_heads + g, s.head));
                    turn.iter().try_for_each(|r| r.turn(here, first + t))?;
                }
            }
        }
        for h in 0..s.heads {
            let cache = (b * s.kv_heads + h / (s.heads / s.kv_heads)) * s.present * s.head;
            for t in 0..s.tokens {
                let at = (b * s.tokens + t) * s.heads + h;
                let mut query = row(q, at, s.head).to_vec();
                rotation.iter().try_for_each(|r| r.turn(&mut query, first + t))?;
                let end = (first + t + 1).min(all);
                let start = softness.window.map_or(0, |w| (first + t + 1).saturating_sub(w)).min(end);
                let added = bias.as_ref().map(|bias| bias.row(&s, b, h, t));
                let weights = softness.weights(&query, &keys[cache..], start..end, added);
                let out = &mut out[at * s.head..][..s.head];
                for (d, out) in out.iter_mut().enumerate() {
                    let column = values[cache + start * s.head..].iter().skip(d).step_by(s.head);
                    *out = weights.iter().zip(column).fold(0.0, |sum, (w, v)| sum + w * f64::from(*v)) as f32;
                }
            }
        }
    }
    let cache = cache.to_vec();
    Ok(vec![
        Value::new(query.dims.clone(), Values::F32(out.into())),
        Value::new(cache.clone(), Values::F32(keys.into())),
        Value::new(cache, Values::F32(values.into())),
    ])
}

fn too_short() -> Error {
    Error::input("a sequence that is shorter than its new tokens")
}

fn sizes(ctx: &Ctx, args: &Args) -> Result<Sizes> {
    let (query, key, value) = (&args.get(0)?.dims, &args.get(1)?.dims, &args.get(2)?.dims);
    let (past_key, past_value) = (&args.get(3)?.dims, &args.get(4)?.dims);
    let wrong = || {
        Error::input(format!(
            "query {query:?}, key {key:?}, value {value:?}, cache {past_key:?} and {past_value:?} do not fit"
        ))
    };
    let count = |name| usize::try_from(ctx.int(name, 0)?).ok().filter(|n| *n > 0).ok_or_else(wrong);
    let (heads, kv_heads) = (count("num_heads")?, count("kv_num_heads")?);
    let ([batch, tokens, width], [b2, g2, past, head]) = (&query[..], &past_key[..]) else { return Err(wrong()) };
    let fits = heads % kv_heads == 0
        && Some(*width) == heads.checked_mul(*head)
        && Some(*head) == width.checked_div(heads)
        && key == value
        && Some(key.clone()) == kv_heads.checked_mul(*head).map(|w| vec![*batch, *tokens, w])
        && past_key == past_value
        && (b2, *g2) == (batch, kv_heads)
        && *head > 0
        && *tokens > 0;
    let total = usize::try_from(args.scalar(6)?).map_err(|_| wrong())?;
    if !fits || total < *tokens {
        return Err(wrong());
    }
    let present = total.max(*past);
    Ok(Sizes { batch: *batch, tokens: *tokens, heads, kv_heads, head: *head, past: *past, present, total })
}

/// The length of each sequence with its new tokens.
fn lengths(v: &Value, s: &Sizes) -> Result<Vec<usize>> {
    let wrong = || Error::input("lengths of the sequences that do not fit the cache");
    let Values::I32(less_one) = &v.data else { return Err(wrong()) };
    let all = less_one.iter().map(|n| usize::try_from(*n).ok().map(|n| n + 1)).collect::<Option<Vec<_>>>();
    all.filter(|all| all.len() == s.batch && all.iter().all(|n| *n <= s.total)).ok_or_else(wrong)
}

fn bias<'v>(ctx: &Ctx, v: &'v Value, s: &Sizes) -> Result<Bias<'v>> {
    match v.dims[..] {
        [batch, heads, tokens, total]
            if [1, s.batch].contains(&batch)
                && [1, s.heads].contains(&heads)
                && (tokens, total) == (s.tokens, s.total) =>
        {
            Ok(Bias { values: floats(ctx, v)?, batch, heads })
        }
        _ => Err(Error::input(format!("a bias of shape {:?} for {} scores of {} tokens", v.dims, s.total, s.tokens))),
    }
}

impl Bias<'_> {
    fn row(&self, s: &Sizes, b: usize, h: usize, t: usize) -> &[f32] {
        let (b, h) = (b.min(self.batch - 1), h.min(self.heads - 1));
        row(self.values, (b * self.heads + h) * s.tokens + t, s.total)
    }
}

fn rotation<'v>(ctx: &Ctx, cos: &'v Value, sin: &'v Value, s: &Sizes) -> Result<Rotation<'v>> {
    match (&cos.dims[..], cos.dims == sin.dims) {
        ([positions, pairs], true) if pairs.checked_mul(2).is_some_and(|n| n <= s.head) => Ok(Rotation {
            cos: floats(ctx, cos)?,
            sin: floats(ctx, sin)?,
            pairs: *pairs,
            positions: *positions,
            interleaved: ctx.int("rotary_interleaved", 0)? != 0,
        }),
        _ => Err(Error::input(format!("cosines {:?} and sines {:?} for heads of {}", cos.dims, sin.dims, s.head))),
    }
}

impl Rotation<'_> {
    fn turn(&self, head: &mut [f32], position: usize) -> Result<()> {
        if position >= self.positions {
            return Err(Error::input(format!("position {position} of {} with an angle", self.positions)));
        }
        let (cos, sin) = (row(self.cos, position, self.pairs), row(self.sin, position, self.pairs));
        for (i, (cos, sin)) in cos.iter().zip(sin).enumerate() {
            let (a, b) = if self.interleaved { (2 * i, 2 * i + 1) } else { (i, i + self.pairs) };
            let (x, y) = (head[a], head[b]);
            head[a] = x * cos - y * sin;
            head[b] = y * cos + x * sin;
        }
        Ok(())
    }
}

/// How scores become weights.
struct Softness {
    scale: f64,
    cap: f64,
    /// The last tokens that a token sees, itself among them.
    window: Option<usize>,
}

impl Softness {
    fn of(ctx: &Ctx, head: usize) -> Result<Self> {
        let scale = match ctx.float("scale", 0.0)? {
            0.0 => 1.0 / (head as f64).sqrt(),
            scale => f64::from(scale),
        };
        let window = usize::try_from(ctx.int("local_window_size", -1)?).ok().filter(|w| *w > 0);
        Ok(Softness { scale, cap: f64::from(ctx.float("softcap", 0.0)?), window })
    }

    /// The weights of the entries `seen` of a cache.
    fn weights(&self, query: &[f32], keys: &[f32], seen: std::ops::Range<usize>, added: Option<&[f32]>) -> Vec<f64> {
        let entries = keys.chunks_exact(query.len()).enumerate().take(seen.end).skip(seen.start);
        let scores = entries.map(|(i, key)| {
            let sum = query.iter().zip(key).fold(0.0, |sum, (q, k)| sum + f64::from(*q) * f64::from(*k)) * self.scale;
            let capped = if self.cap > 0.0 { self.cap * libm::tanh(sum / self.cap) } else { sum };
            capped + added.and_then(|a| a.get(i)).map_or(0.0, |a| f64::from(*a))
        });
        let mut scores: Vec<f64> = scores.collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        scores.iter_mut().for_each(|s| *s = libm::exp(*s - largest));
        let sum: f64 = scores.iter().sum();
        scores.iter_mut().for_each(|s| *s /= sum);
        scores
    }
}
