//! Which bytes of the base a part of the target is made from.
//!
//! Names come first, but a layer that was taken out renames all that follow. So names must look alike inside, too: samples are compared, and
//! where a namesake is a stranger the most similar tensor of the same shape is taken.

use super::segments::{Form, Layout, Part};
use std::collections::BTreeMap;
use std::ops::Range;

/// A stretch of the target and what it is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Number of the part of the target.
    pub part: usize,
    pub range: Range<usize>,
    /// Where as many related bytes lie in the base.
    pub base: Option<usize>,
    /// Where in the base to look for something related, if there is no `base`.
    pub near: usize,
    pub form: Form,
}

/// Bytes of a sample, in places of [`SAMPLE_PLACE`] bytes.
const SAMPLE: usize = 4096;
const SAMPLE_PLACE: usize = 64;
/// Distance, as a share of that of strangers, below which nothing better is looked for.
const SAME: f64 = 0.1;
/// Distance below which two tensors have something in common.
const RELATED: f64 = 0.6;
/// Comparisons of samples in a search through all tensors of a shape; with more tensors than that only namesakes and neighbours are tried.
const MOST_COMPARED: usize = 1 << 17;

/// What each part is made from, wherever it lies.
pub fn anywhere(base: &Layout, target: &Layout, b: &[u8], t: &[u8]) -> Vec<Piece> {
    let partners = tensors(base, target, b, t);
    let in_base = index(base);
    let mut out: Vec<Piece> = Vec::new();
    for (i, p) in target.parts.iter().enumerate() {
        if p.name == "padding" {
            let at = out.last().map_or(0, |l| l.base.map_or(l.near, |b| b + l.range.len()));
            let same = b.get(at..at + p.range.len()) == t.get(p.range.clone());
            out.push(Piece {
                part: i,
                range: p.range.clone(),
                base: same.then_some(at),
                near: at.min(b.len()),
                form: p.form,
            });
            continue;
        }
        let key = match p.tensor {
            Some(id) => partners[id].map(|o| (Some(o), "", p.aspect)),
            None => Some((None, p.name.as_str(), p.aspect)),
        };
        let partner = key.and_then(|k| in_base.get(&k)).map(|o| &base.parts[*o]);
        pieces(i, p, partner, &mut out);
    }
    out
}

/// What each part is made from if it must be the same place of the base.
pub fn in_place(base: &Layout, target: &Layout, base_len: usize) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    for (i, p) in target.parts.iter().enumerate() {
        let o = base.parts.partition_point(|o| o.range.start < p.range.start);
        // A section of another length is compared as far as there is a base: what leads back needs one everywhere.
        let same = |o: &&Part| alike(o, p) && (p.tensor.is_some() || o.range.len() == p.range.len());
        let partner = base.parts.get(o).filter(|o| o.range.start == p.range.start).filter(same);
        match partner {
            Some(o) if o.name != "padding" => pieces(i, p, Some(o), &mut out),
            _ => {
                // Anything lies there, so only what needs no structure will do.
                let common = p.range.start..p.range.end.min(base_len).max(p.range.start);
                let form = if matches!(p.form, Form::Ints(_)) { p.form } else { Form::Bytes };
                let common = common.start..common.end - common.len() % unit(form);
                split(i, p, common, Some(p.range.start), form, &mut out);
            }
        }
    }
    out
}

fn unit(form: Form) -> usize {
    match form {
        Form::Ints(w) => usize::from(w).max(1),
        _ => 1,
    }
}

/// Whether parts hold rows or elements of the same kind.
fn alike(a: &Part, b: &Part) -> bool {
    (a.form, a.unit, a.aspect) == (b.form, b.unit, b.aspect)
}

type Key<'a> = (Option<usize>, &'a str, &'a str);

/// Parts by tensor or name, and aspect.
fn index(layout: &Layout) -> BTreeMap<Key<'_>, usize> {
    let key = |p: &'_ Part| p.tensor.is_some();
    let mut out = BTreeMap::new();
    for (i, p) in layout.parts.iter().enumerate().filter(|(_, p)| p.name != "padding") {
        let name = if key(p) { "" } else { p.name.as_str() };
        out.insert((p.tensor, name, p.aspect), i);
    }
    out
}

/// A part as what it has in common with its partner, then the rest.
fn pieces(i: usize, p: &Part, partner: Option<&Part>, out: &mut Vec<Piece>) {
    let same = partner.filter(|o| alike(o, p));
    let common = match same {
        // A section has no rows that could be added at its end.
        Some(o) if p.tensor.is_none() && o.range.len() != p.range.len() => 0,
        Some(o) => {
            let n = o.range.len().min(p.range.len());
            if n == p.range.len() {
                n
            } else {
                n - n % p.unit.max(1)
            }
        }
        None => 0,
    };
    let at = partner.map(|o| o.range.start);
    split(i, p, p.range.start..p.range.start + common, at, p.form, out);
}

fn split(i: usize, p: &Part, common: Range<usize>, at: Option<usize>, form: Form, out: &mut Vec<Piece>) {
    let near = at.unwrap_or_else(|| out.last().map_or(0, |l| l.base.map_or(l.near, |b| b + l.range.len())));
    if !common.is_empty() {
        out.push(Piece { part: i, range: common.clone(), base: at, near, form });
    }
    if common.end < p.range.end {
        let range = common.end..p.range.end;
        out.push(Piece { part: i, range, base: None, near: near + common.len(), form: Form::Bytes });
    }
}

/// For each tensor of the target the one of the base that it is made from.
fn tensors(base: &Layout, target: &Layout, b: &[u8], t: &[u8]) -> Vec<Option<usize>> {
    let (of_base, of_target) = (data(base), data(target));
    let names: BTreeMap<&str, usize> = base.tensors.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
    let mut shapes: BTreeMap<(Form, usize, usize), Vec<usize>> = BTreeMap::new();
    for (i, p) in of_base.iter().enumerate() {
        if let Some(p) = p {
            shapes.entry((p.form, p.unit, p.range.len())).or_default().push(i);
        }
    }
    let between = |o: usize, i: usize| -> Option<f64> {
        let (o, p) = (of_base.get(o).copied().flatten()?, of_target.get(i).copied().flatten()?);
        alike(o, p).then(|| distance(p.form, &b[o.range.clone()], &t[p.range.clone()]))
    };
    let mut left = MOST_COMPARED;
    let mut found: Vec<Option<usize>> = Vec::with_capacity(of_target.len());
    let mut near: Vec<f64> = Vec::with_capacity(of_target.len());
    for (i, p) in of_target.iter().enumerate() {
        let named = names.get(target.tensors[i].as_str()).copied();
        let next = i.checked_sub(1).and_then(|l| found[l]).map(|o| o + 1);
        let mut best = closest([named, next], |o| between(o, i));
        if let (true, Some(p)) = (best.is_none_or(|(d, _)| d >= SAME), p) {
            let all = shapes.get(&(p.form, p.unit, p.range.len())).map_or(&[][..], Vec::as_slice);
            if all.len() <= left {
                left -= all.len();
                let other = closest(all.iter().map(|o| Some(*o)), |o| between(o, i));
                let better = other.filter(|(d, _)| *d < RELATED && best.is_none_or(|(was, _)| *d < was));
                best = better.or(best);
            }
        }
        // A namesake may have been trained anew: what it has in common is for the costs to say.
        let keep = best.filter(|(d, o)| *d < RELATED || Some(*o) == named);
        found.push(keep.map(|(_, o)| o));
        near.push(keep.map_or(f64::MAX, |(d, _)| d));
    }
    // The first of a layer has no neighbour yet that tells of a shift.
    for i in (0..found.len().saturating_sub(1)).rev() {
        let before = found[i + 1].and_then(|o| o.checked_sub(1));
        if let Some((d, o)) = before.and_then(|o| between(o, i).map(|d| (d, o))).filter(|(d, _)| *d < near[i]) {
            (near[i], found[i]) = (d, Some(o));
        }
    }
    found
}

/// The first of the closest.
fn closest(
    all: impl IntoIterator<Item = Option<usize>>,
    between: impl Fn(usize) -> Option<f64>,
) -> Option<(f64, usize)> {
    let mut best: Option<(f64, usize)> = None;
    for o in all.into_iter().flatten() {
        if let Some(d) = between(o).filter(|d| best.is_none_or(|(was, _)| *d < was)) {
            best = Some((d, o));
            if d == 0.0 {
                break;
            }
        }
    }
    best
}

/// The main part of each tensor.
fn data(layout: &Layout) -> Vec<Option<&Part>> {
    let mut out = vec![None; layout.tensors.len()];
    for p in layout.parts.iter().filter(|p| p.aspect.is_empty()) {
        if let Some(slot) = p.tensor.and_then(|i| out.get_mut(i)) {
            *slot = Some(p);
        }
    }
    out
}

/// How different two stretches are, from a sample: 0 equal, about 1 for strangers.
fn distance(form: Form, a: &[u8], b: &[u8]) -> f64 {
    let n = a.len().min(b.len());
    let places = (SAMPLE / SAMPLE_PLACE).min(n.div_ceil(SAMPLE_PLACE)).max(1);
    let (mut different, mut all) = (0.0, 0.0);
    for k in 0..places {
        let from = n.saturating_sub(SAMPLE_PLACE) * k / places.saturating_sub(1).max(1);
        // Elements stay whole.
        let from = from - from % 4;
        let (x, y) = (&a[from..n.min(from + SAMPLE_PLACE)], &b[from..n.min(from + SAMPLE_PLACE)]);
        match form {
            Form::Bits | Form::Planes { .. } => {
                let flips: u32 = x.iter().zip(y).map(|(x, y)| (x ^ y).count_ones()).sum();
                different += 2.0 * f64::from(flips);
                all += 8.0 * x.len() as f64;
            }
            Form::Ints(width) => {
                let w = usize::from(width);
                for (x, y) in x.chunks_exact(w).zip(y.chunks_exact(w)) {
                    let (x, y) = (value(x), value(y));
                    different += (x - y).abs() * std::f64::consts::SQRT_2;
                    all += x.abs() + y.abs();
                }
            }
            Form::Fives | Form::Bytes => {
                different += x.iter().zip(y).filter(|(x, y)| x != y).count() as f64;
                all += x.len() as f64;
            }
        }
    }
    if all > 0.0 {
        different / all
    } else {
        0.0
    }
}

/// A signed integer of 1, 2 or 4 bytes.
fn value(bytes: &[u8]) -> f64 {
    match *bytes {
        [a] => f64::from(a as i8),
        [a, b] => f64::from(i16::from_le_bytes([a, b])),
        [a, b, c, d] => f64::from(i32::from_le_bytes([a, b, c, d])),
        _ => 0.0,
    }
}
