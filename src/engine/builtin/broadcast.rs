//! Shapes that are stretched to each other, by the rule of numpy: aligned at the last dimension, a size of 1 fits every size.

use super::node::Ctx;
use crate::error::{Error, Result};
use std::borrow::Cow;

/// The shape of the result.
pub fn shape(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |d: &[usize], i: usize| (i + d.len()).checked_sub(rank).map_or(1, |i| d[i]);
    let joined = (0..rank).map(|i| match (size(a, i), size(b, i)) {
        (x, y) if x == y || y == 1 => Some(x),
        (1, y) => Some(y),
        _ => None,
    });
    let joined: Option<Vec<usize>> = joined.collect();
    joined.ok_or_else(|| Error::input(format!("shapes {a:?} and {b:?} do not fit each other")))
}

/// `x` of the shape `from`, stretched to `to`, which must be a shape that it fits.
pub fn stretch<'x, T: Copy>(ctx: &Ctx, x: &'x [T], from: &[usize], to: &[usize]) -> Result<Cow<'x, [T]>> {
    let rank = to.len();
    if shape(from, to)? != to {
        return Err(Error::input(format!("shape {from:?} does not fit {to:?}")));
    }
    if from == to {
        return Ok(Cow::Borrowed(x));
    }
    let n = ctx.elements::<T>(to)?;
    if n == x.len() {
        return Ok(Cow::Borrowed(x));
    }
    let mut out = ctx.vec(n)?;
    if n == 0 {
        return Ok(Cow::Owned(out));
    }
    // The dimensions at the end that are all of size 1 in `x`: one element is repeated; or all equal: a run is copied.
    let size = |i: usize| (i + from.len()).checked_sub(rank).map_or(1, |i| from[i]);
    let strides = strides_of(from, to);
    let mut cut = rank;
    let repeated = rank > 0 && size(rank - 1) == 1;
    while cut > 0 && (if repeated { size(cut - 1) == 1 } else { size(cut - 1) == to[cut - 1] }) {
        cut -= 1;
    }
    let run: usize = to[cut..].iter().product();
    let mut places = Places::new(&to[..cut], &strides[..cut]);
    while let Some(at) = places.next() {
        match repeated {
            true => out.resize(out.len() + run, x[at]),
            false => out.extend_from_slice(&x[at..at + run]),
        }
    }
    Ok(Cow::Owned(out))
}

/// Distance between neighbours of each dimension of `to` in an array of shape `from` that is stretched to it: 0 where it is repeated.
pub fn strides_of(from: &[usize], to: &[usize]) -> Vec<usize> {
    let own = strides(from);
    let front = to.len().saturating_sub(from.len());
    (0..to.len())
        .map(|i| match i.checked_sub(front) {
            Some(j) if from[j] != 1 => own[j],
            _ => 0,
        })
        .collect()
}

/// Distance between neighbours of each dimension of a row-major array.
pub fn strides(dims: &[usize]) -> Vec<usize> {
    let mut out = vec![1usize; dims.len()];
    for i in (1..dims.len()).rev() {
        out[i - 1] = out[i].saturating_mul(dims[i]);
    }
    out
}

/// Places in an array, in row-major order of `dims`.
pub struct Places<'d> {
    dims: &'d [usize],
    strides: &'d [usize],
    at: Vec<usize>,
    place: usize,
    done: bool,
}

impl<'d> Places<'d> {
    pub fn new(dims: &'d [usize], strides: &'d [usize]) -> Self {
        Places { dims, strides, at: vec![0; dims.len()], place: 0, done: dims.contains(&0) }
    }
}

impl Iterator for Places<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.done {
            return None;
        }
        let here = self.place;
        self.done = true;
        for i in (0..self.dims.len()).rev() {
            self.at[i] += 1;
            self.place += self.strides[i];
            if self.at[i] < self.dims[i] {
                self.done = false;
                break;
            }
            self.place -= self.strides[i] * self.dims[i];
            self.at[i] = 0;
        }
        Some(here)
    }
}
