//! Operators that look at shapes or change them and leave the elements where they are.

use super::node::{Args, Ctx};
use super::value::{Value, Values};
use crate::engine::elements;
use crate::error::{Error, Result};

pub fn identity<'a>(_: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    Ok(vec![args.get(0)?.clone()])
}

pub fn shape<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let dims = &args.get(0)?.dims;
    let rank = dims.len() as i64;
    let place = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
    let (start, end) = (place(ctx.int("start", 0)?), place(ctx.int("end", rank)?));
    let sizes: Vec<i64> = dims.get(start..end).unwrap_or(&[]).iter().map(|d| *d as i64).collect();
    Ok(vec![Value::new(vec![sizes.len()], Values::I64(sizes.into()))])
}

fn with_dims<'a>(v: &Value<'a>, dims: Vec<usize>) -> Result<Vec<Value<'a>>> {
    match elements(&dims) == Some(v.len()) {
        true => Ok(vec![Value::new(dims, v.data.clone())]),
        false => Err(Error::input(format!("{} elements of shape {:?} do not make {dims:?}", v.len(), v.dims))),
    }
}

/// 0 keeps the size of that place (unless `allowzero`), -1 is what is left.
pub fn reshape<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let (v, wanted) = (args.get(0)?, args.list(1)?);
    let keep = ctx.int("allowzero", 0)? == 0;
    let mut dims = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (i, d) in wanted.iter().enumerate() {
        let wrong = || Error::input(format!("shape {wanted:?} for a tensor of shape {:?}", v.dims));
        dims.push(match *d {
            0 if keep => *v.dims.get(i).ok_or_else(wrong)?,
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            d => usize::try_from(d).map_err(|_| wrong())?,
        });
    }
    if let Some(i) = open {
        let others = elements(&dims).filter(|n| *n > 0).ok_or_else(|| {
            Error::input(format!("the open size of shape {wanted:?} is not determined for {:?}", v.dims))
        })?;
        dims[i] = v.len() / others;
    }
    with_dims(v, dims)
}

/// The axes of an input, each once.
fn axes(ctx: &Ctx, list: &[i64], rank: usize) -> Result<Vec<bool>> {
    let mut chosen = vec![false; rank];
    for axis in list {
        let axis = ctx.axis(*axis, rank)?;
        if chosen[axis] {
            return Err(Error::input(format!("axis {axis} is named twice")));
        }
        chosen[axis] = true;
    }
    Ok(chosen)
}

pub fn squeeze<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let v = args.get(0)?;
    let away = match args.opt_list(1)? {
        Some(list) => axes(ctx, &list, v.dims.len())?,
        None => v.dims.iter().map(|d| *d == 1).collect(),
    };
    if let Some((d, _)) = v.dims.iter().zip(&away).find(|(d, away)| **away && **d != 1) {
        return Err(Error::input(format!("a dimension of {d} cannot be left out of {:?}", v.dims)));
    }
    let dims = v.dims.iter().zip(&away).filter(|(_, away)| !**away).map(|(d, _)| *d).collect();
    with_dims(v, dims)
}

pub fn unsqueeze<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let (v, list) = (args.get(0)?, args.list(1)?);
    let rank = v.dims.len() + list.len();
    if rank > super::MAX_RANK {
        return Err(Error::unsupported(format!("a tensor of {rank} dimensions")));
    }
    let new = axes(ctx, &list, rank)?;
    let mut old = v.dims.iter();
    let dims = new.iter().map(|new| if *new { Some(1) } else { old.next().copied() }).collect::<Option<_>>();
    with_dims(v, dims.ok_or_else(|| Error::input("an axis too many"))?)
}
