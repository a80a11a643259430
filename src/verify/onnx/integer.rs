//! The profile `int`: every integer of every result, for prompts at once, for tokens with the cache, and for two texts with padding.

use super::feed::Feed;
use super::locate;
use super::{Done, Subject, Verdict};
use crate::engine::{Data, Tensor};
use crate::error::{Error, Result};
use crate::kernels::dot::DotKernel;
use crate::program::Program;
use std::ops::Range;

/// Tokens of the first prompt whose inner operations are compared even if every result is equal.
const LOOKED_INTO: usize = 8;

/// What is counted on the way.
#[derive(Default)]
struct Count {
    positions: usize,
    with_cache: usize,
    values: u64,
    differing: u64,
    /// Prompt and position.
    first: Option<(usize, usize)>,
}

pub fn compare(s: &mut Subject) -> Result<Done> {
    let p = &s.artifact.program;
    let each = p.embedding().is_none();
    let output = output(p);
    let prompts = s.prompts.clone();
    let mut count = Count::default();
    for (i, (ids, given)) in prompts.iter().enumerate() {
        let expected = expected(s, ids)?;
        let calls = calls(s, ids.len(), *given)?;
        let mut feed = Feed::new(s.engine.as_mut())?;
        for call in &calls {
            let got = feed.feed(&ids[call.clone()], &[output])?;
            let at = if each { call.clone() } else { call.end - 1..call.end };
            let off = differing(p, &expected[at.clone()], &got)?;
            count.add(i, at, call.start > 0, p, &off);
        }
    }
    let padding = padded(s, &prompts)?;
    let (mut at, mut operations) = (None, 0);
    if let Some((prompt, position)) = count.first {
        let ids = &prompts[prompt].0[..=position];
        let calls = calls(s, ids.len(), prompts[prompt].1.min(ids.len()))?;
        let inner = if s.inner.is_some() { locate::first(s, ids, &calls)?.at } else { None };
        let place = inner.unwrap_or_else(|| format!("token {position}: the result"));
        let more = if s.inner.is_some() { "" } else { " (`--engine builtin` names the operation)" };
        at = Some(format!("prompt {prompt}, {place}{more}"));
    } else if s.inner.is_some() {
        let (ids, given) = &prompts[0];
        let ids = if p.encoder { &ids[..] } else { &ids[..ids.len().min(LOOKED_INTO)] };
        let calls = calls(s, ids.len(), (*given).min(ids.len()))?;
        let looked = locate::first(s, ids, &calls)?;
        operations = looked.compared;
        at = looked.at.map(|at| format!("prompt 0, {at}"));
    }
    let verdict = at.or(padding.clone().err()).map_or(Verdict::Equal, |at| Verdict::Differs { at });
    Ok(Done {
        positions: count.positions,
        with_cache: count.with_cache,
        values: count.values,
        differing: count.differing,
        operations,
        verdict,
        figures: None,
        notes: padding.into_iter().flatten().collect(),
    })
}

/// The output that has the result.
pub fn output(p: &Program) -> &'static str {
    if p.embedding().is_some() {
        "sentence_embedding"
    } else {
        "logits"
    }
}

/// How a text is fed: what is given at once where the file takes that, then one by one.
pub fn calls(s: &mut Subject, len: usize, given: usize) -> Result<Vec<Range<usize>>> {
    let encoder = s.artifact.program.encoder;
    let feed = Feed::new(s.engine.as_mut())?;
    if encoder || !feed.has_cache() {
        return Ok(std::iter::once(0..len).collect());
    }
    let first = if feed.one_at_a_time() { 1 } else { given.max(1) };
    Ok(std::iter::once(0..first).chain((first..len).map(|at| at..at + 1)).collect())
}

/// The result of the runtime after each position; of an encoder the one that there is, at every position.
pub fn expected(s: &Subject, ids: &[u32]) -> Result<Vec<Vec<i32>>> {
    let mut session = s.artifact.session(DotKernel::best());
    let nothing = || Error::input("the program has no result");
    if s.artifact.program.encoder {
        let all = session.run(ids)?.ok_or_else(nothing)?;
        return Ok(vec![all; ids.len()]);
    }
    ids.iter().map(|id| session.run(&[*id])?.ok_or_else(nothing)).collect()
}

/// How many numbers of each result differ.
fn differing(p: &Program, want: &[Vec<i32>], got: &[Tensor]) -> Result<Vec<u64>> {
    let n = p.result_len();
    let got = got.first().ok_or_else(|| Error::tool("the engine gave no result"))?;
    if got.data.len() != want.len() * n {
        let what = format!("its result has the shape {:?}, {} x {n} numbers were expected", got.dims, want.len());
        return Err(Error::input(what));
    }
    // A result of a power of two's units is exact in float as far as float goes: both round to the nearest.
    let frac = match p.embedding() {
        Some((_, true)) => 30,
        _ => 16,
    };
    let unit = 0.5f32.powi(frac);
    let same = |i: usize, want: i32| match &got.data {
        Data::I32(v) => v[i] == want,
        Data::I64(v) => v[i] == i64::from(want),
        Data::F32(v) => v[i] == want as f32 * unit,
        _ => false,
    };
    let row =
        |(r, want): (usize, &Vec<i32>)| want.iter().enumerate().filter(|(i, w)| !same(r * n + i, **w)).count() as u64;
    Ok(want.iter().enumerate().map(row).collect())
}

impl Count {
    fn add(&mut self, prompt: usize, at: Range<usize>, cached: bool, p: &Program, off: &[u64]) {
        for (position, off) in at.zip(off) {
            self.positions += 1;
            self.with_cache += usize::from(cached);
            self.values += p.result_len() as u64;
            self.differing += off;
            if *off > 0 && self.first.is_none() {
                self.first = Some((prompt, position));
            }
        }
    }
}

/// What two texts together give: of logits the last position of each text, of embeddings the one that there is.
pub struct Pair {
    /// Tokens of the text with padding and of the longer one.
    pub lengths: [usize; 2],
    pub want: [Vec<i32>; 2],
    pub got: [Tensor; 2],
}

/// Two prompts together, the shorter with padding before it. None: there are no two, or the file takes one token at a time.
pub fn pair(s: &mut Subject, prompts: &[(Vec<u32>, usize)]) -> Result<Option<Pair>> {
    let p = &s.artifact.program;
    let mut texts: Vec<&[u32]> = prompts.iter().map(|(ids, _)| &ids[..]).collect();
    texts.sort_by_key(|t| t.len());
    let (short, long) = (texts[0], texts[texts.len().min(2) - 1]);
    if long.len() < 2 || Feed::new(s.engine.as_mut())?.one_at_a_time() {
        return Ok(None);
    }
    // Of equally long texts none would have padding.
    let short = if short.len() == long.len() { &short[..short.len().div_ceil(2)] } else { short };
    let last = |text: &[u32]| -> Result<Vec<i32>> { Ok(expected(s, text)?.pop().unwrap_or_default()) };
    let want = [last(short)?, last(long)?];
    let got = Feed::new(s.engine.as_mut())?.batch(&[short, long], &[output(p)])?;
    let got = got.first().ok_or_else(|| Error::tool("the engine gave no result"))?;
    let n = p.result_len();
    let rows = if p.embedding().is_some() { 1 } else { long.len() };
    if got.data.len() != 2 * rows * n {
        let what =
            format!("its result for two texts has the shape {:?}, 2 x {rows} x {n} numbers were expected", got.dims);
        return Err(Error::input(what));
    }
    let got = [slice(got, (rows - 1) * n, n)?, slice(got, (2 * rows - 1) * n, n)?];
    Ok(Some(Pair { lengths: [short.len(), long.len()], want, got }))
}

/// Whether the texts of a pair give what each of them gives alone. Err: where they do not.
fn padded(s: &mut Subject, prompts: &[(Vec<u32>, usize)]) -> Result<std::result::Result<Option<String>, String>> {
    let Some(pair) = pair(s, prompts)? else { return Ok(Ok(None)) };
    for (i, (want, got)) in pair.want.into_iter().zip(pair.got).enumerate() {
        if differing(&s.artifact.program, &[want], &[got])?[0] > 0 {
            return Ok(Err(format!(
                "a batch of two texts, {}",
                if i == 0 { "the one with padding" } else { "the longer one" }
            )));
        }
    }
    Ok(Ok(Some(format!(
        "a batch of two texts of {} and {} tokens, padded at the left, is equal as well",
        pair.lengths[0], pair.lengths[1]
    ))))
}

fn slice(t: &Tensor, from: usize, n: usize) -> Result<Tensor> {
    let data = match &t.data {
        Data::I32(v) => Data::I32(v[from..from + n].to_vec()),
        Data::I64(v) => Data::I64(v[from..from + n].to_vec()),
        Data::F32(v) => Data::F32(v[from..from + n].to_vec()),
        _ => return Err(Error::input("its result has a type that no result has")),
    };
    Tensor::new(&[n], data)
}
