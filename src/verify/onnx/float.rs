//! The profiles with float parts: integer sums recomputed from the codes that the file has, codes and logits against those of the program.

use super::feed::Feed;
use super::figures::{Codes as Flips, Core, Figures, Logits};
use super::integer::{calls, expected, output, pair};
use super::{Done, Subject, Verdict};
use crate::encoding::order;
use crate::engine::{Data, Tensor};
use crate::error::{Error, Result};
use crate::kernels::dot::{Codes, DotKernel};
use crate::kernels::scalar::MatrixScales;
use crate::program::{OpKind, Program, TensorKind};
use crate::runtime::{matrix, Artifact};
use std::collections::{BTreeMap, HashSet};

pub fn compare(s: &mut Subject) -> Result<Done> {
    let p = &s.artifact.program;
    let prompts = s.prompts.clone();
    let shown = s.inner.take().map(|inner| Shown::of(s.artifact, &inner));
    let mut figures = Figures::default();
    let (mut core, mut flips, mut logits) = (Core::default(), Flips::default(), Logits::default());
    let (mut positions, mut with_cache, mut values) = (0, 0, 0u64);
    for (i, (ids, given)) in prompts.iter().enumerate() {
        let expected = expected(s, ids)?;
        let codes = program_codes(s.artifact, ids)?;
        let calls = calls(s, ids.len(), *given)?;
        let mut feed = Feed::new(s.engine.as_mut())?;
        for call in &calls {
            let mut wanted = vec![output(p)];
            wanted.extend(shown.iter().flat_map(|w| w.names.iter().map(String::as_str)));
            let got = feed.feed(&ids[call.clone()], &wanted)?;
            let result = got.first().ok_or_else(|| Error::tool("the engine gave no result"))?;
            let rows = if p.embedding().is_some() { call.end - 1..call.end } else { call.clone() };
            let reals = reals(result, rows.len() * p.result_len())?;
            for (want, got) in expected[rows.clone()].iter().zip(reals.chunks(p.result_len())) {
                measure(p, want, got, &mut logits, &mut figures.worst_cosine);
            }
            positions += rows.len();
            with_cache += if call.start > 0 { rows.len() } else { 0 };
            values += (rows.len() * p.result_len()) as u64;
            if let Some(shown) = &shown {
                let at = format!("prompt {i}, tokens {} to {}", call.start, call.end - 1);
                shown.check(s.artifact, &got[1..], (call.start, call.len()), &codes, &mut core, &mut flips, &at)?;
            }
        }
    }
    let mut notes = Vec::new();
    if let Some(pair) = pair(s, &prompts)? {
        for (want, got) in pair.want.iter().zip(&pair.got) {
            measure(p, want, &reals(got, p.result_len())?, &mut logits, &mut figures.worst_cosine);
        }
        positions += 2;
        values += 2 * p.result_len() as u64;
        let [short, long] = pair.lengths;
        notes.push(format!("a batch of two texts of {short} and {long} tokens, padded at the left, is in the figures"));
    }
    let has = |n: u64| n > 0;
    figures.core = has(core.sums).then_some(core);
    figures.codes = has(flips.codes).then_some(flips);
    figures.logits = (logits.positions > 0).then_some(logits);
    let few_bits = p.ops.iter().any(|op| matches!(&op.kind, OpKind::Quantize { rule, .. } if rule.qmax <= 7));
    let verdict = figures.too_large(few_bits).map_or(Verdict::Near, |at| Verdict::Differs { at });
    if shown.is_none() {
        notes
            .push("this engine shows no inner values; `--engine builtin` counts integer sums and flipped codes".into());
    }
    let differing = figures.core.as_ref().map_or(0, |c| c.mismatches);
    let operations = figures.core.as_ref().map_or(0, |c| c.sums);
    Ok(Done { positions, with_cache, values, differing, operations, verdict, figures: Some(figures), notes })
}

/// Takes a result in: the program's, and that of the file.
fn measure(p: &Program, want: &[i32], got: &[f64], logits: &mut Logits, worst: &mut Option<f64>) {
    let want: Vec<f64> = want.iter().map(|v| f64::from(*v) / 65_536.0).collect();
    if p.embedding().is_some() {
        let c = cosine(&want, got);
        *worst = Some(worst.map_or(c, |w| w.min(c)));
    } else {
        logits.add(&want, got);
    }
}

/// The values that a file shows of its integer parts.
struct Shown {
    names: Vec<String>,
    /// QUANTIZE and the place of its codes in `names`.
    codes: Vec<(usize, usize)>,
    /// LINEAR, the place of its sums in `names`, and of the codes that it multiplies.
    sums: Vec<(usize, usize, usize)>,
}

impl Shown {
    fn of(artifact: &Artifact, inner: &HashSet<String>) -> Shown {
        let p = &artifact.program;
        let mut shown = Shown { names: Vec::new(), codes: Vec::new(), sums: Vec::new() };
        // The place of the codes that a register holds.
        let mut held = BTreeMap::new();
        for (n, op) in p.ops.iter().enumerate() {
            match &op.kind {
                OpKind::Quantize { dst, .. } => {
                    let name = format!("op{n}.codes");
                    held.remove(dst);
                    if inner.contains(&name) {
                        held.insert(*dst, shown.names.len());
                        shown.codes.push((n, shown.names.len()));
                        shown.names.push(name);
                    }
                }
                OpKind::Linear { codes, .. } => {
                    let name = format!("op{n}.acc");
                    if let Some(at) = held.get(codes).filter(|_| inner.contains(&name)) {
                        shown.sums.push((n, shown.names.len(), *at));
                        shown.names.push(name);
                    }
                }
                _ => {}
            }
        }
        shown
    }

    #[allow(clippy::too_many_arguments)]
    fn check(
        &self,
        artifact: &Artifact,
        values: &[Tensor],
        (from, tokens): (usize, usize),
        program: &BTreeMap<(u32, usize), Vec<i32>>,
        core: &mut Core,
        flips: &mut Flips,
        at: &str,
    ) -> Result<()> {
        let p = &artifact.program;
        let mut codes = BTreeMap::new();
        for (op, place) in &self.codes {
            let own = rows_of_codes(&values[*place], tokens, *op)?;
            for (k, row) in own.iter().enumerate() {
                if let Some(theirs) = program.get(&((from + k) as u32, *op)).filter(|t| t.len() == row.len()) {
                    flips.codes += row.len() as u64;
                    flips.flipped += row.iter().zip(theirs).filter(|(a, b)| a != b).count() as u64;
                }
            }
            codes.insert(*place, own);
        }
        for (op, place, from) in &self.sums {
            let sums: Vec<f64> = match &values[*place].data {
                Data::I32(sums) => sums.iter().map(|s| f64::from(*s)).collect(),
                Data::F32(sums) => sums.iter().map(|s| f64::from(*s)).collect(),
                _ => return Err(Error::input(format!("the sums of operation {op} are neither int32 nor float32"))),
            };
            let sums = by_token(&sums, &values[*place].dims, tokens);
            let Some(own) = codes.get(from) else { continue };
            let want: Vec<i64> =
                own.iter().map(|row| accumulate(artifact, *op, row)).collect::<Result<Vec<_>>>()?.concat();
            if want.len() != sums.len() {
                return Err(Error::input(format!("operation {op} has {} sums, not {}", sums.len(), want.len())));
            }
            let off = want.iter().zip(&sums).filter(|(w, g)| **w as f64 != **g).count() as u64;
            core.sums += sums.len() as u64;
            core.mismatches += off;
            if off > 0 && core.first.is_none() {
                let part = crate::verify::compare::part_name(p, p.trace_slot(*op));
                core.first = Some(format!("{at}, {part}, operation {op}"));
            }
        }
        Ok(())
    }
}

/// The sums of a LINEAR for the codes of one token: `[rows]`, or with scales for groups of columns `[groups, rows]`.
fn accumulate(artifact: &Artifact, op: usize, codes: &[i32]) -> Result<Vec<i64>> {
    let p = &artifact.program;
    let OpKind::Linear { weight, .. } = p.ops[op].kind else { return Ok(Vec::new()) };
    let t = &p.tensors[weight];
    let TensorKind::Matrix { enc, order, .. } = t.kind else { return Ok(Vec::new()) };
    if codes.len() != t.cols {
        return Err(Error::input(format!("operation {op} multiplies {} codes, not {}", codes.len(), t.cols)));
    }
    let data = &artifact.weights()[t.data.start as usize..t.data.end as usize];
    let turned = order::for_host(enc, order, data, t.rows, t.cols);
    let m = matrix(p, artifact.weights(), turned.as_deref(), weight);
    let group = if let MatrixScales::Group { group, .. } = m.scales { group } else { m.cols };
    let (codes, kernel) = (Codes::new(codes, 127), DotKernel::best());
    let groups = (0..m.cols).step_by(group);
    let of = |first: usize| (0..m.rows).map(move |r| (first, r));
    let sum =
        |(first, r): (usize, usize)| kernel.dot(m.enc, m.row(r), m.cols, first, group.min(m.cols - first), &codes);
    Ok(groups.flat_map(of).map(sum).collect())
}

/// Sums token by token: with scales for groups of columns the file has them as `[1, groups, tokens, rows]`.
fn by_token(sums: &[f64], dims: &[usize], tokens: usize) -> Vec<f64> {
    match *dims {
        [1, groups, t, rows] if t == tokens && groups * t * rows == sums.len() => {
            let row = |k: usize| (0..groups).flat_map(move |g| (g * t + k) * rows..(g * t + k + 1) * rows);
            (0..tokens).flat_map(row).map(|i| sums[i]).collect()
        }
        _ => sums.to_vec(),
    }
}

/// Codes as the file has them: uint8 around 128, or whole numbers as floats.
fn rows_of_codes(t: &Tensor, tokens: usize, op: usize) -> Result<Vec<Vec<i32>>> {
    let codes: Vec<i32> = match &t.data {
        Data::U8(codes) => codes.iter().map(|c| i32::from(*c) - 128).collect(),
        Data::F32(codes) => {
            if let Some(c) = codes.iter().find(|c| c.fract() != 0.0 || c.abs() > 128.0) {
                return Err(Error::input(format!("operation {op} has {c} among its codes")));
            }
            codes.iter().map(|c| *c as i32).collect()
        }
        _ => return Err(Error::input(format!("the codes of operation {op} are neither uint8 nor float32"))),
    };
    if codes.is_empty() || !codes.len().is_multiple_of(tokens) {
        return Err(Error::input(format!("operation {op} has {} codes for {tokens} tokens", codes.len())));
    }
    Ok(codes.chunks(codes.len() / tokens).map(<[i32]>::to_vec).collect())
}

/// The codes of every QUANTIZE, by position and operation.
fn program_codes(artifact: &Artifact, ids: &[u32]) -> Result<BTreeMap<(u32, usize), Vec<i32>>> {
    let mut session = artifact.session(DotKernel::best());
    session.keep(|kind| matches!(kind, OpKind::Quantize { .. }));
    if artifact.program.encoder {
        session.run(ids)?;
    } else {
        for id in ids {
            session.run(&[*id])?;
        }
    }
    Ok(session.take_kept().into_iter().map(|k| ((k.position, k.op), k.values)).collect())
}

fn reals(t: &Tensor, expected: usize) -> Result<Vec<f64>> {
    let Data::F32(v) = &t.data else { return Err(Error::input("its result is no float32")) };
    if v.len() != expected {
        let what = format!("its result has the shape {:?}, {expected} numbers were expected", t.dims);
        return Err(Error::input(what));
    }
    Ok(v.iter().map(|x| f64::from(*x)).collect())
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths == 0.0 && dot(a, a) == dot(b, b) {
        return 1.0;
    }
    dot(a, b) / lengths
}

#[cfg(test)]
mod tests {
    #[test]
    fn equal_vectors_have_a_cosine_of_one() {
        assert!((super::cosine(&[1.0, 2.0], &[2.0, 4.0]) - 1.0).abs() < 1e-12);
        assert_eq!(super::cosine(&[0.0], &[0.0]), 1.0);
        assert!(super::cosine(&[0.0], &[1.0]).is_nan());
    }
}
