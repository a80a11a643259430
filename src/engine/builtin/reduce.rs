//! Operators that make one element of many. They are taken in row-major order, so a sum of floats has one order; it is kept in f64.

use super::broadcast::{strides, Places};
use super::node::{Args, Ctx};
use super::value::{Value, Values};
use crate::error::{Error, Result};

/// Which axes go and what shape is left.
struct Plan {
    /// The axes that stay, then those that go, with their distances in the input.
    dims: Vec<usize>,
    strides: Vec<usize>,
    /// Elements of the result, and of the input for each of them.
    rows: usize,
    row: usize,
    result: Vec<usize>,
}

/// None: nothing is reduced.
fn plan(ctx: &Ctx, args: &Args, axes_as_input: bool) -> Result<Option<Plan>> {
    let v = args.get(0)?;
    let rank = v.dims.len();
    let list = match axes_as_input {
        true => args.opt_list(1)?.unwrap_or_default(),
        false if args.len() > 1 => {
            return Err(Error::input("axes as an input, which this version of the operator does not have"))
        }
        false => ctx.ints("axes").unwrap_or_default().to_vec(),
    };
    if list.is_empty() && ctx.int("noop_with_empty_axes", 0)? != 0 {
        return Ok(None);
    }
    let mut goes = vec![list.is_empty(); rank];
    for axis in list {
        goes[ctx.axis(axis, rank)?] = true;
    }
    let keep = ctx.int("keepdims", 1)? != 0;
    let own = strides(&v.dims);
    let (gone, left): (Vec<usize>, Vec<usize>) = (0..rank).partition(|i| goes[*i]);
    let order: Vec<usize> = left.iter().chain(&gone).copied().collect();
    let result = match keep {
        true => (0..rank).map(|i| if goes[i] { 1 } else { v.dims[i] }).collect(),
        false => left.iter().map(|i| v.dims[*i]).collect(),
    };
    Ok(Some(Plan {
        dims: order.iter().map(|i| v.dims[*i]).collect(),
        strides: order.iter().map(|i| own[*i]).collect(),
        rows: left.iter().map(|i| v.dims[*i]).product(),
        row: gone.iter().map(|i| v.dims[*i]).product(),
        result,
    }))
}

/// One result for each row, the elements of which come in order.
fn fold<T: Copy, A: Clone, O>(
    ctx: &Ctx,
    p: &Plan,
    x: &[T],
    start: A,
    f: impl Fn(A, T) -> A,
    end: impl Fn(A) -> O,
) -> Result<Vec<O>> {
    let mut out = ctx.vec(ctx.elements::<O>(&p.result)?)?;
    ctx.work(x.len() as u64)?;
    if p.row == 0 || p.rows == 0 {
        out.extend((0..p.rows).map(|_| end(start.clone())));
        return Ok(out);
    }
    if p.strides == strides(&p.dims) {
        out.extend(x.chunks_exact(p.row).map(|row| end(row.iter().fold(start.clone(), |a, x| f(a, *x)))));
        return Ok(out);
    }
    let mut places = Places::new(&p.dims, &p.strides);
    out.extend((0..p.rows).map(|_| end(places.by_ref().take(p.row).fold(start.clone(), |a, i| f(a, x[i])))));
    Ok(out)
}

pub fn sum<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let v = args.get(0)?;
    let Some(p) = plan(ctx, args, ctx.opset >= 13)? else { return Ok(vec![v.clone()]) };
    let data = match &v.data {
        Values::F32(x) => Values::F32(fold(ctx, &p, x, 0.0, |a, x| a + f64::from(x), |a| a as f32)?.into()),
        Values::F64(x) => Values::F64(fold(ctx, &p, x, 0.0, |a, x| a + x, |a| a)?.into()),
        Values::I32(x) => Values::I32(fold(ctx, &p, x, 0, i32::wrapping_add, |a| a)?.into()),
        Values::U32(x) => Values::U32(fold(ctx, &p, x, 0, u32::wrapping_add, |a| a)?.into()),
        Values::I64(x) => Values::I64(fold(ctx, &p, x, 0, i64::wrapping_add, |a| a)?.into()),
        Values::U64(x) => Values::U64(fold(ctx, &p, x, 0, u64::wrapping_add, |a| a)?.into()),
        other => return Err(ctx.no_type(other.elem())),
    };
    Ok(vec![Value::new(p.result, data)])
}

/// The mean of floats; that of nothing is not a number.
pub fn mean<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let v = args.get(0)?;
    let Some(p) = plan(ctx, args, ctx.opset >= 18)? else { return Ok(vec![v.clone()]) };
    let n = p.row as f64;
    let data = match &v.data {
        Values::F32(x) => Values::F32(fold(ctx, &p, x, 0.0, |a, x| a + f64::from(x), |a| (a / n) as f32)?.into()),
        Values::F64(x) => Values::F64(fold(ctx, &p, x, 0.0, |a, x| a + x, |a| a / n)?.into()),
        other => return Err(ctx.no_type(other.elem())),
    };
    Ok(vec![Value::new(p.result, data)])
}

fn extreme<'a>(ctx: &Ctx, args: &Args<'_, 'a>, max: bool) -> Result<Vec<Value<'a>>> {
    use super::arithmetic::Number;
    let v = args.get(0)?;
    let Some(p) = plan(ctx, args, ctx.opset >= 18)? else { return Ok(vec![v.clone()]) };
    if p.row == 0 && p.rows > 0 {
        return Err(Error::input("the largest or smallest of no element"));
    }
    macro_rules! each {
        ($($t:ident)*) => {
            match &v.data {
                $( Values::$t(x) => {
                    let f = if max { Number::max } else { Number::min };
                    // There is a first element in every row.
                    let start = x.first().copied();
                    let all = fold(ctx, &p, x, None, |a, x| Some(a.map_or(x, |a| f(a, x))), |a| a.or(start).unwrap_or_default())?;
                    Values::$t(all.into())
                } )*
                other => return Err(ctx.no_type(other.elem())),
            }
        };
    }
    let data = each!(F32 F64 I8 U8 I32 U32 I64 U64);
    Ok(vec![Value::new(p.result, data)])
}

pub fn max<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    extreme(ctx, args, true)
}

pub fn min<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    extreme(ctx, args, false)
}

/// Sums of all elements up to each one along an axis.
pub fn cumulative_sum<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let v = args.get(0)?;
    let axis = ctx.axis(args.scalar(1)?, v.dims.len())?;
    let (exclusive, reverse) = (ctx.int("exclusive", 0)? != 0, ctx.int("reverse", 0)? != 0);
    let (n, inner) = (v.dims[axis], v.dims[axis + 1..].iter().product::<usize>());
    macro_rules! each {
        ($($t:ident $zero:expr, $add:expr;)*) => {
            match &v.data {
                $( Values::$t(x) => {
                    let len = ctx.elements::<u64>(&v.dims)?;
                    let mut out = ctx.filled(len, $zero)?;
                    for first in (0..len.checked_div(n * inner).unwrap_or(0)).flat_map(|o| (0..inner).map(move |i| o * n * inner + i)) {
                        let mut so_far = $zero;
                        for k in 0..n {
                            let at = first + if reverse { n - 1 - k } else { k } * inner;
                            let with = $add(so_far, x[at]);
                            out[at] = if exclusive { so_far } else { with };
                            so_far = with;
                        }
                    }
                    Values::$t(out.into())
                } )*
                other => return Err(ctx.no_type(other.elem())),
            }
        };
    }
    let data = each!(I64 0, i64::wrapping_add; I32 0, i32::wrapping_add;);
    Ok(vec![Value::new(v.dims.clone(), data)])
}
