//! The first operation that differs: the graph names the results of operations of the program, and the runtime gives the same.

use super::feed::Feed;
use super::Subject;
use crate::engine::{Data, Tensor};
use crate::error::{Error, Result};
use crate::kernels::dot::DotKernel;
use crate::program::{OpKind, Program};
use crate::runtime::Kept;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

pub struct Found {
    /// None: all that have names are equal.
    pub at: Option<String>,
    /// Results of operations that were compared.
    pub compared: u64,
}

/// The first in the order of tokens and, of one token, of the program; of an encoder in the order of the program. The calls are made again, with the
/// inner values.
pub fn first(s: &mut Subject, ids: &[u32], calls: &[Range<usize>]) -> Result<Found> {
    let p = &s.artifact.program;
    let want = results(s, ids)?;
    let empty = HashSet::new();
    let named = named(p, s.inner.as_ref().unwrap_or(&empty));
    let wanted: Vec<&str> = named.iter().flat_map(|n| n.names.iter().map(String::as_str)).collect();
    let mut feed = Feed::new(s.engine.as_mut())?;
    let mut found = Found { at: None, compared: 0 };
    for call in calls {
        let mut values = feed.feed(&ids[call.clone()], &wanted)?.into_iter();
        let mut differs: Option<(usize, usize)> = None;
        for n in &named {
            let values: Vec<Tensor> = values.by_ref().take(n.names.len()).collect();
            let rows = rows(p, n, &values, call.len())?;
            // What is computed once for the whole text belongs to its last token.
            let first = call.end - rows.len();
            for (at, got) in (first..).zip(&rows) {
                let Some(want) = want.get(&(at, n.op)) else { continue };
                found.compared += 1;
                let place = if p.encoder { (n.op, at) } else { (at, n.op) };
                if !equal(want, got) && differs.is_none_or(|d| place < d) {
                    differs = Some(place);
                }
            }
        }
        if let Some((a, b)) = differs {
            let (at, op) = if p.encoder { (b, a) } else { (a, b) };
            let part = crate::verify::compare::part_name(p, p.trace_slot(op));
            let cached = if call.start > 0 { " (with the cache)" } else { "" };
            found.at = Some(format!("token {at}{cached}, {part}, operation {op} ({})", p.ops[op].kind.name()));
            return Ok(found);
        }
    }
    Ok(found)
}

/// The result of each operation that ran, by position and operation.
fn results(s: &Subject, ids: &[u32]) -> Result<BTreeMap<(usize, usize), Kept>> {
    let mut session = s.artifact.session(DotKernel::best());
    session.keep(|_| true);
    if s.artifact.program.encoder {
        session.run(ids)?;
    } else {
        for id in ids {
            session.run(&[*id])?;
        }
    }
    Ok(session.take_kept().into_iter().map(|k| ((k.position as usize, k.op), k)).collect())
}

/// The values of an operation that the file names.
struct Named {
    op: usize,
    /// Elements, then mantissa and exponent of the scale where the graph has them as values.
    names: Vec<String>,
    scaled: bool,
}

fn named(p: &Program, inner: &HashSet<String>) -> Vec<Named> {
    let of = |op: usize| {
        let name = |part: &str| Some(format!("op{op}.{part}")).filter(|n| inner.contains(n));
        let x = name("x")?;
        let scale: Vec<String> = ["m", "e"].into_iter().filter_map(name).collect();
        let scaled = scale.len() == 2;
        Some(Named { op, names: std::iter::once(x).chain(scale.into_iter().filter(|_| scaled)).collect(), scaled })
    };
    (0..p.ops.len()).filter_map(of).collect()
}

/// Elements of one token, and its scale.
type Row = (Vec<i64>, Option<(i64, i64)>);

/// What the file computed for each token, in the words of the program.
fn rows(p: &Program, n: &Named, values: &[Tensor], tokens: usize) -> Result<Vec<Row>> {
    let bad =
        || Error::input(format!("the values of operation {} have a shape that does not fit {tokens} tokens", n.op));
    let kind = &p.ops[n.op].kind;
    let rows = if matches!(kind, OpKind::Embedding { .. }) { 1 } else { tokens };
    let all: Vec<Vec<i64>> = values.iter().map(|t| wide(t).ok_or_else(bad)).collect::<Result<_>>()?;
    if all.is_empty() || all.iter().any(|v| v.is_empty() || v.len() % rows != 0) {
        return Err(bad());
    }
    // Codes are unsigned in the graph, as MatMulInteger takes them.
    let zero = match (kind, &values[0].data) {
        (OpKind::Quantize { .. }, Data::U8(_)) => 128,
        (OpKind::Quantize { .. }, _) => 32_768,
        _ => 0,
    };
    let part = |v: &Vec<i64>, r: usize| v[r * (v.len() / rows)..(r + 1) * (v.len() / rows)].to_vec();
    let row = |r: usize| {
        let scale = n.scaled.then(|| (part(&all[1], r)[0], part(&all[2], r)[0]));
        (part(&all[0], r).iter().map(|x| x - zero).collect(), scale)
    };
    Ok((0..rows).map(row).collect())
}

fn wide(t: &Tensor) -> Option<Vec<i64>> {
    match &t.data {
        Data::I64(v) => Some(v.clone()),
        Data::I32(v) => Some(v.iter().map(|x| i64::from(*x)).collect()),
        Data::U8(v) => Some(v.iter().map(|x| i64::from(*x)).collect()),
        _ => None,
    }
}

fn equal(want: &Kept, got: &Row) -> bool {
    let scale = (i64::from(want.scale.m), i64::from(want.scale.e));
    want.values.len() == got.0.len()
        && want.values.iter().zip(&got.0).all(|(w, g)| i64::from(*w) == *g)
        && got.1.is_none_or(|s| s == scale)
}
