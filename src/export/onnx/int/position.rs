//! Where the tokens of a run stand: the inputs that say so, their positions, and which tokens each one sees.
//!
//! Shapes: b texts, s tokens of this run, t tokens whose keys and values exist (those of the cache and of this run).

use super::math::Ints;
use crate::error::{Error, Result};
use crate::export::onnx::graph::{Attr, Dim, Value};
use crate::export::onnx::Settings;
use crate::format::onnx::Elem;
use crate::kernels::vector::Pool;
use crate::program::Program;
use crate::runtime::Artifact;

/// How tokens come to the graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::export::onnx) enum Way {
    /// Any number of texts and tokens, after a cache that grows.
    Cached,
    /// One token of one text, beside a cache of so many slots.
    Static(usize),
    /// Whole texts in which every token sees every token; no cache.
    Whole,
}

/// The tokens of a run.
pub(in crate::export::onnx) struct Positions {
    pub way: Way,
    /// i64 `[b, s]`.
    pub ids: Value,
    /// Positions of the run's tokens, i64 `[b, s]`, 0 for padding before a text.
    pub at: Value,
    /// Positions of the tokens that have keys, i64 `[b, t]`.
    keys: Value,
    /// 1 for a token, 0 for padding, of the run's tokens; i64 `[b, s]`.
    real: Value,
    /// Which keys a query may see, bool `[b, 1, 1, s, t]`. Its own key is always among them, so that no sum of weights is 0.
    pub visible: Value,
    /// Shape `[0, 0, heads / kv heads, s, t]` of scores, for Reshape.
    pub scores: Value,
    /// Shape `[0, 0, -1, t]`, for Reshape.
    pub rows: Value,
    /// Dimensions of the run's inputs.
    pub batch: Dim,
    pub sequence: Dim,
}

/// Up to here a graph is the program: beyond, the program forgets tokens and a graph does not.
pub(in crate::export::onnx) fn max_tokens(p: &Program) -> usize {
    p.longest().map_or(p.attention.window, |n| n.min(p.attention.window))
}

/// Declares the inputs that tell tokens and positions.
///
/// # Errors
/// `Usage` if `--static` asks for more slots than the program has.
pub(in crate::export::onnx) fn inputs(m: &mut Ints, a: &Artifact, settings: &Settings) -> Result<Positions> {
    let p = &a.program;
    let most = max_tokens(p);
    if let Some(n) = settings.static_len.filter(|n| *n == 0 || *n > most) {
        return Err(Error::usage(format!("`--static {n}`: this model takes 1 to {most} tokens"))
            .hint("give a smaller number, or export with a larger `--kv-window`"));
    }
    m.g.meta("bitnet.max_tokens", settings.static_len.unwrap_or(most).to_string());
    Ok(match (p.encoder, settings.static_len) {
        (true, n) => whole(m, p, n),
        (false, None) => cached(m, p),
        (false, Some(slots)) => fixed(m, p, slots),
    })
}

/// Which of the run's tokens EMBEDDING sums: 0 or 1, i64 `[b, s, 1]`. All 0 for a text of nothing but padding.
pub(in crate::export::onnx) fn chosen(m: &mut Ints, at: &Positions, pool: Pool) -> Value {
    let place = match pool {
        Pool::Mean => return unsqueeze(m, at.real, &[2]),
        Pool::First => m.i(0),
        Pool::Last => m.reduce_max_of(at.at, 1),
    };
    let here = m.g.op("Equal", &[at.at, place], &[]);
    let here = m.g.cast(here, Elem::I64);
    let here = m.mul2(here, at.real);
    unsqueeze(m, here, &[2])
}

impl Positions {
    /// How far back each key is from each query, i64 `[b, 1, 1, s, t]`; in an encoder the distance either way.
    pub fn distance(&self, m: &mut Ints) -> Value {
        let (q, k) = (unsqueeze(m, self.at, &[1, 2, 4]), unsqueeze(m, self.keys, &[1, 2, 3]));
        let d = m.sub(q, k);
        match self.way {
            Way::Whole => m.g.op("Abs", &[d], &[]),
            Way::Cached | Way::Static(_) => d,
        }
    }

    /// What takes part in ATTEND under a window of `window` tokens; 0: all that is visible.
    pub fn seen(&self, m: &mut Ints, window: usize) -> Value {
        if window == 0 {
            return self.visible;
        }
        let (d, w) = (self.distance(m), m.i(window as i64));
        let near = m.g.op("Less", &[d, w], &[]);
        m.g.op("And", &[self.visible, near], &[])
    }
}

/// Tokens that have keys, int32: less one for each text `[b]`, and all as a scalar. Padding counts, so that every entry of a cache keeps its place.
pub(in crate::export::onnx) fn lengths(m: &mut Ints, at: &Positions) -> (Value, Value) {
    let (b, t) = (size(m, at.keys, 0), size(m, at.keys, 1));
    let (axis, one) = (m.g.i64s(&[1], &[0]), m.g.i32(1));
    let all = m.g.cast(t, Elem::I32);
    let last = m.g.op("Sub", &[all, one], &[]);
    (m.g.op("Expand", &[last, b], &[]), m.g.op("Squeeze", &[all, axis], &[]))
}

pub(in crate::export::onnx) fn transpose(m: &mut Ints, v: Value, perm: &[i64]) -> Value {
    m.g.op("Transpose", &[v], &[("perm", Attr::Ints(perm))])
}

/// Adds dimensions of 1.
pub(in crate::export::onnx) fn unsqueeze(m: &mut Ints, v: Value, axes: &[i64]) -> Value {
    let axes = m.g.i64s(&[axes.len() as i64], axes);
    m.g.op("Unsqueeze", &[v, axes], &[])
}

/// One dimension of `v`, as a vector of one element.
fn size(m: &mut Ints, v: Value, dim: i64) -> Value {
    let (shape, at) = (m.g.op("Shape", &[v], &[]), m.g.i64s(&[1], &[dim]));
    m.g.op("Gather", &[shape, at], &[("axis", Attr::I(0))])
}

/// 0, 1, 2 .. up to `n` (a vector of one element).
fn count(m: &mut Ints, n: Value) -> Value {
    let (axis, zero, one) = (m.g.i64s(&[1], &[0]), m.i(0), m.i(1));
    let n = m.g.op("Squeeze", &[n, axis], &[]);
    m.g.op("Range", &[zero, n, one], &[])
}

/// Whether a token is one (and no padding), and its position among those that are: bool, the same as i64, i64, all `[b, t]`.
fn of_mask(m: &mut Ints, mask: Value) -> (Value, Value, Value) {
    let (zero, one) = (m.i(0), m.i(1));
    let none = m.g.op("Equal", &[mask, zero], &[]);
    let live = m.g.op("Not", &[none], &[]);
    let number = m.g.cast(live, Elem::I64);
    let sum = m.g.op("CumSum", &[number, one], &[]);
    let at = m.sub(sum, one);
    (live, number, m.g.op("Max", &[at, zero], &[]))
}

/// The shapes that scores take, from s and t as vectors of one element.
fn shapes(m: &mut Ints, p: &Program, s: Value, t: Value) -> (Value, Value) {
    let each = (p.attention.heads / p.attention.kv_heads) as i64;
    let (head, rows) = (m.g.i64s(&[3], &[0, 0, each]), m.g.i64s(&[3], &[0, 0, -1]));
    let axis = [("axis", Attr::I(0))];
    (m.g.op("Concat", &[head, s, t], &axis), m.g.op("Concat", &[rows, t], &axis))
}

fn cached(m: &mut Ints, p: &Program) -> Positions {
    let (batch, sequence) = (Dim::Sym("batch_size"), Dim::Sym("sequence_length"));
    let ids = m.g.input("input_ids", Elem::I64, &[batch, sequence]);
    let mask = m.g.input("attention_mask", Elem::I64, &[batch, Dim::Sym("total_sequence_length")]);
    let (s, t) = (size(m, ids, 1), size(m, mask, 1));
    let past = m.sub(t, s);
    let (live, number, keys) = of_mask(m, mask);
    let axis = m.g.i64s(&[1], &[1]);
    let at = m.g.op("Slice", &[keys, past, t, axis], &[]);
    let real = m.g.op("Slice", &[number, past, t, axis], &[]);
    let (column, row) = (count(m, t), count(m, s));
    let row = m.add(row, past);
    let row = unsqueeze(m, row, &[1]);
    let before = m.g.op("LessOrEqual", &[column, row], &[]);
    let itself = m.g.op("Equal", &[column, row], &[]);
    let live = unsqueeze(m, live, &[1, 2, 3]);
    let visible = m.g.op("And", &[live, before], &[]);
    let visible = m.g.op("Or", &[visible, itself], &[]);
    let (scores, rows) = shapes(m, p, s, t);
    Positions { way: Way::Cached, ids, at, keys, real, visible, scores, rows, batch, sequence }
}

fn fixed(m: &mut Ints, p: &Program, slots: usize) -> Positions {
    let (one, n) = (Dim::N(1), slots as i64);
    let ids = m.g.input("input_ids", Elem::I64, &[one, one]);
    let at = m.g.input("position_ids", Elem::I64, &[one, one]);
    // A position outside of the cache would leave nothing to see, and a division by 0.
    let (zero, last) = (m.i(0), m.i(n - 1));
    let at = m.g.op("Max", &[at, zero], &[]);
    let at = m.g.op("Min", &[at, last], &[]);
    let keys = m.g.i64s(&[1, n], &(0..n).collect::<Vec<_>>());
    let visible = m.g.op("LessOrEqual", &[keys, at], &[]);
    let visible = unsqueeze(m, visible, &[1, 2, 3]);
    let real = m.g.i64s(&[1, 1], &[1]);
    let (s, t) = (m.g.i64s(&[1], &[1]), m.g.i64s(&[1], &[n]));
    let (scores, rows) = shapes(m, p, s, t);
    Positions { way: Way::Static(slots), ids, at, keys, real, visible, scores, rows, batch: one, sequence: one }
}

fn whole(m: &mut Ints, p: &Program, fixed: Option<usize>) -> Positions {
    let (batch, sequence) = match fixed {
        Some(n) => (Dim::N(1), Dim::N(n as i64)),
        None => (Dim::Sym("batch_size"), Dim::Sym("sequence_length")),
    };
    let ids = m.g.input("input_ids", Elem::I64, &[batch, sequence]);
    let mask = m.g.input("attention_mask", Elem::I64, &[batch, sequence]);
    let s = size(m, ids, 1);
    let (live, real, at) = of_mask(m, mask);
    let column = count(m, s);
    let row = unsqueeze(m, column, &[1]);
    let itself = m.g.op("Equal", &[column, row], &[]);
    let live = unsqueeze(m, live, &[1, 2, 3]);
    let visible = m.g.op("Or", &[live, itself], &[]);
    let (scores, rows) = shapes(m, p, s, s);
    Positions { way: Way::Whole, ids, at, keys: at, real, visible, scores, rows, batch, sequence }
}
