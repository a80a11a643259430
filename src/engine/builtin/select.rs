//! Operators that take elements from places and put them elsewhere: Gather, Slice, Concat, Split, Transpose, Expand, Where.

use super::broadcast::{shape, strides, strides_of, Places};
use super::node::{Args, Ctx};
use super::value::{each, Value, Values};
use crate::error::{Error, Result};

/// `v` stretched to `dims`, which it must fit.
pub fn expand_to<'a>(ctx: &Ctx, v: &Value<'a>, dims: &[usize]) -> Result<Value<'a>> {
    if v.dims == dims {
        return Ok(v.clone());
    }
    let data = each!(&v.data, x, wrap => wrap(super::broadcast::stretch(ctx, x, &v.dims, dims)?.into_owned().into()),
        packed other => return Err(ctx.no_type(other.elem())));
    Ok(Value::new(dims.to_vec(), data))
}

pub fn expand<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let (v, wanted) = (args.get(0)?, args.list(1)?);
    let wanted = wanted.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<Vec<_>>>();
    let wanted =
        wanted.filter(|w| w.len() <= super::MAX_RANK).ok_or_else(|| Error::input("a shape without a meaning"))?;
    // A size of 1 keeps that of the tensor.
    let dims = shape(&v.dims, &wanted)?;
    Ok(vec![expand_to(ctx, v, &dims)?])
}

/// Elements of `x` at `first + place`, the places being those of `dims` with these strides.
fn collect<T: Copy>(ctx: &Ctx, x: &[T], first: usize, dims: &[usize], strides: &[usize]) -> Result<Vec<T>> {
    let n = ctx.elements::<T>(dims)?;
    let mut out = ctx.vec(n)?;
    if n == 0 {
        return Ok(out);
    }
    // Dimensions at the end that lie together are copied as one run.
    let mut run = 1;
    let mut cut = dims.len();
    while cut > 0 && (strides[cut - 1] == run || dims[cut - 1] == 1) {
        run *= dims[cut - 1];
        cut -= 1;
    }
    for at in Places::new(&dims[..cut], &strides[..cut]) {
        match x.get(first + at..first + at + run) {
            Some(run) => out.extend_from_slice(run),
            None => return Err(Error::input("a place outside of a tensor")),
        }
    }
    Ok(out)
}

fn view<'a>(ctx: &Ctx, v: &Value<'a>, first: usize, dims: Vec<usize>, strides: &[usize]) -> Result<Value<'a>> {
    let data = each!(&v.data, x, wrap => wrap(collect(ctx, x, first, &dims, strides)?.into()),
        packed other => return Err(ctx.no_type(other.elem())));
    Ok(Value::new(dims, data))
}

pub fn transpose<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let v = args.get(0)?;
    let rank = v.dims.len();
    let order: Vec<usize> = match ctx.ints("perm") {
        None => (0..rank).rev().collect(),
        Some(p) => p.iter().map(|a| ctx.axis(*a, rank)).collect::<Result<_>>()?,
    };
    if order.len() != rank || (0..rank).any(|i| !order.contains(&i)) {
        return Err(Error::input(format!("perm = {order:?} for {rank} dimensions")));
    }
    let own = strides(&v.dims);
    let dims = order.iter().map(|a| v.dims[*a]).collect();
    let moved: Vec<usize> = order.iter().map(|a| own[*a]).collect();
    Ok(vec![view(ctx, v, 0, dims, &moved)?])
}

/// Elements start, start + step, … of each axis named; places beyond the ends are cut to them.
pub fn slice<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let v = args.get(0)?;
    let (starts, ends) = (args.list(1)?, args.list(2)?);
    let axes = args.opt_list(3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = args.opt_list(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(Error::input("starts, ends, axes and steps of Slice are of different lengths"));
    }
    let own = strides(&v.dims);
    let mut chosen = vec![false; v.dims.len()];
    // For each axis: the first place, how many, how far apart.
    let mut cuts: Vec<(i64, usize, i64)> = v.dims.iter().map(|d| (0, *d, 1)).collect();
    for (i, axis) in axes.iter().enumerate() {
        let axis = ctx.axis(*axis, v.dims.len())?;
        if std::mem::replace(&mut chosen[axis], true) {
            return Err(Error::input(format!("axis {axis} is cut twice")));
        }
        cuts[axis] = cut(starts[i], ends[i], steps[i], v.dims[axis] as i64)?;
    }
    let dims: Vec<usize> = cuts.iter().map(|c| c.1).collect();
    if cuts.iter().all(|c| c.2 > 0) {
        let first = cuts.iter().zip(&own).map(|(c, s)| c.0 as usize * s).sum();
        // The step of one element is never taken, so it may be anything.
        let steps: Vec<usize> = cuts.iter().zip(&own).map(|(c, s)| (c.2 as usize).saturating_mul(*s)).collect();
        return Ok(vec![match dims == v.dims {
            true => v.clone(),
            false => view(ctx, v, first, dims, &steps)?,
        }]);
    }
    backwards(ctx, v, &cuts, dims, &own)
}

fn backwards<'a>(
    ctx: &Ctx,
    v: &Value<'a>,
    cuts: &[(i64, usize, i64)],
    dims: Vec<usize>,
    own: &[usize],
) -> Result<Vec<Value<'a>>> {
    // One axis after the other by index, which is rare and need not be fast.
    let mut out = v.clone();
    for (axis, (start, n, step)) in cuts.iter().enumerate() {
        ctx.elements::<u64>(&[*n])?;
        let places: Vec<usize> = (0..*n as i64).map(|i| (start + i * step) as usize).collect();
        out = take(ctx, &out, axis, &[*n], &places)?;
    }
    debug_assert!(out.dims == dims && own.len() == dims.len());
    Ok(vec![out])
}

/// First place, number and step of a cut through `size` elements.
fn cut(start: i64, end: i64, step: i64, size: i64) -> Result<(i64, usize, i64)> {
    let place = |p: i64| if p < 0 { p.saturating_add(size) } else { p };
    if step == 0 {
        return Err(Error::input("a step of 0"));
    }
    let (start, span) = match step > 0 {
        true => {
            let (s, e) = (place(start).clamp(0, size), place(end).clamp(0, size));
            (s, e - s)
        }
        false => {
            let (s, e) = (place(start).clamp(-1, size - 1), place(end).clamp(-1, size - 1));
            (s, s - e)
        }
    };
    let by = step.unsigned_abs();
    let n = (span.max(0) as u64).div_ceil(by) as usize;
    // A step longer than the axis is taken never, so its length does not matter.
    Ok((start.max(0), n, step.clamp(-size.max(1), size.max(1))))
}

/// `v` at the given places of an axis, which is replaced by dimensions `shape`.
fn take<'a>(ctx: &Ctx, v: &Value<'a>, axis: usize, shape: &[usize], places: &[usize]) -> Result<Value<'a>> {
    let (outer, inner): (usize, usize) = (v.dims[..axis].iter().product(), v.dims[axis + 1..].iter().product());
    let size = v.dims[axis];
    let dims = [&v.dims[..axis], shape, &v.dims[axis + 1..]].concat();
    let data = each!(&v.data, x, wrap => wrap({
        let n = elements_of(ctx, &dims, x)?;
        let mut out = ctx.vec(n)?;
        for o in 0..if n == 0 { 0 } else { outer } {
            for p in places {
                let at = (o * size + p) * inner;
                out.extend_from_slice(&x[at..at + inner]);
            }
        }
        out.into()
    }), packed other => return Err(ctx.no_type(other.elem())));
    Ok(Value::new(dims, data))
}

/// As `Ctx::elements`, for elements as those of `x`.
fn elements_of<T>(ctx: &Ctx, dims: &[usize], _: &[T]) -> Result<usize> {
    ctx.elements::<T>(dims)
}

pub fn gather<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let (v, indices) = (args.get(0)?, args.get(1)?);
    let axis = ctx.axis(ctx.int("axis", 0)?, v.dims.len())?;
    let size = v.dims[axis] as i64;
    let place = |i: i64| match (-size..size).contains(&i) {
        true => Ok(i.rem_euclid(size) as usize),
        false => Err(Error::input(format!("index {i} of {size} elements"))),
    };
    let places: Vec<usize> = match &indices.data {
        Values::I64(i) => i.iter().map(|i| place(*i)).collect::<Result<_>>()?,
        Values::I32(i) => i.iter().map(|i| place(i64::from(*i))).collect::<Result<_>>()?,
        other => return Err(ctx.no_type(other.elem())),
    };
    Ok(vec![take(ctx, v, axis, &indices.dims, &places)?])
}

pub fn concat<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let all = args.all()?;
    let first = *all.first().ok_or_else(|| Error::input("nothing to concatenate"))?;
    let axis = ctx.axis(ctx.int("axis", 0)?, first.dims.len())?;
    let mut dims = first.dims.clone();
    dims[axis] = 0;
    for v in &all {
        let fits =
            v.dims.len() == dims.len() && v.dims.iter().zip(&dims).enumerate().all(|(i, (a, b))| i == axis || a == b);
        if !fits {
            return Err(Error::input(format!(
                "shapes {:?} and {:?} cannot be joined at axis {axis}",
                first.dims, v.dims
            )));
        }
        dims[axis] = dims[axis].checked_add(v.dims[axis]).ok_or_else(|| Error::input("a result that is too large"))?;
    }
    let outer: usize = dims[..axis].iter().product();
    macro_rules! join {
        ($($t:ident)*) => {
            match &first.data {
                $( Values::$t(x) => {
                    let mut parts = Vec::with_capacity(all.len());
                    for v in &all {
                        match &v.data {
                            Values::$t(x) => parts.push((&x[..], x.len() / outer.max(1))),
                            other => return Err(ctx.mixed(first.elem(), other.elem())),
                        }
                    }
                    let n = elements_of(ctx, &dims, x)?;
                    let mut out = ctx.vec(n)?;
                    for o in 0..if n == 0 { 0 } else { outer } {
                        for (x, n) in &parts {
                            out.extend_from_slice(&x[o * n..(o + 1) * n]);
                        }
                    }
                    Values::$t(out.into())
                } )*
                other => return Err(ctx.no_type(other.elem())),
            }
        };
    }
    let data = join!(F32 F64 I8 U8 I16 U16 I32 U32 I64 U64 Bool);
    Ok(vec![Value::new(dims, data)])
}

pub fn split<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let v = args.get(0)?;
    let axis = ctx.axis(ctx.int("axis", 0)?, v.dims.len())?;
    let (size, count) = (v.dims[axis], ctx.node.output.len());
    let sizes: Vec<usize> = match args.opt_list(1)? {
        Some(list) => {
            let list = list.iter().map(|n| usize::try_from(*n).ok()).collect::<Option<Vec<_>>>();
            list.ok_or_else(|| Error::input("a negative size"))?
        }
        // The last part is what is left.
        None => {
            let part = size.div_ceil(count.max(1));
            (0..count).map(|i| part.min(size.saturating_sub(i * part))).collect()
        }
    };
    let total = sizes.iter().try_fold(0usize, |t, n| t.checked_add(*n));
    if total != Some(size) || sizes.len() != count {
        return Err(Error::input(format!("{size} elements are not to be split into {count} parts of {sizes:?}")));
    }
    let own = strides(&v.dims);
    let mut at = 0;
    let parts = sizes.iter().map(|n| {
        let mut dims = v.dims.clone();
        dims[axis] = *n;
        let part = view(ctx, v, at * own[axis], dims, &own);
        at += n;
        part
    });
    parts.collect()
}

/// The second or the third operand, all stretched to one shape.
pub fn choose<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let (c, a, b) = (args.get(0)?, args.get(1)?, args.get(2)?);
    let Values::Bool(cond) = &c.data else { return Err(ctx.no_type(c.elem())) };
    let dims = shape(&c.dims, &shape(&a.dims, &b.dims)?)?;
    let places = |v: &Value| strides_of(&v.dims, &dims);
    let (cs, at, bt) = (places(c), places(a), places(b));
    macro_rules! pick {
        ($($t:ident)*) => {
            match (&a.data, &b.data) {
                $( (Values::$t(x), Values::$t(y)) => {
                    let mut out = ctx.vec(elements_of(ctx, &dims, x)?)?;
                    let walk = Places::new(&dims, &cs).zip(Places::new(&dims, &at).zip(Places::new(&dims, &bt)));
                    out.extend(walk.map(|(c, (a, b))| if cond[c] { x[a] } else { y[b] }));
                    Values::$t(out.into())
                } )*
                (x, y) if x.elem() == y.elem() => return Err(ctx.no_type(x.elem())),
                (x, y) => return Err(ctx.mixed(x.elem(), y.elem())),
            }
        };
    }
    let data = pick!(F32 F64 I8 U8 I16 U16 I32 U32 I64 U64 Bool);
    Ok(vec![Value::new(dims, data)])
}
