//! Operators of one operand, element by element. The functions of floats are those of the `libm` crate, so that they do not depend on the
//! C library of the machine; an f32 is computed as f64 and rounded once.

use super::node::{Args, Ctx};
use super::value::{Value, Values};
use crate::error::{Error, Result};

fn map<T: Copy, O>(ctx: &Ctx, v: &Value, x: &[T], f: impl Fn(T) -> O) -> Result<Vec<O>> {
    let mut out = ctx.vec(ctx.elements::<O>(&v.dims)?)?;
    out.extend(x.iter().map(|x| f(*x)));
    Ok(out)
}

macro_rules! of_numbers {
    ($name:ident, $($t:ident $f:expr;)*) => {
        pub fn $name<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
            let v = args.get(0)?;
            let data = match &v.data {
                $( Values::$t(x) => Values::$t(map(ctx, v, x, $f)?.into()), )*
                other => return Err(ctx.no_type(other.elem())),
            };
            Ok(vec![Value::new(v.dims.clone(), data)])
        }
    };
}

of_numbers!(abs, F32 f32::abs; F64 f64::abs; I8 i8::wrapping_abs; I16 i16::wrapping_abs; I32 i32::wrapping_abs;
    I64 i64::wrapping_abs; U8 |x| x; U16 |x| x; U32 |x| x; U64 |x| x;);
of_numbers!(neg, F32 |x| -x; F64 |x| -x; I8 i8::wrapping_neg; I16 i16::wrapping_neg; I32 i32::wrapping_neg;
    I64 i64::wrapping_neg;);
of_numbers!(sign, F32 |x| if x == 0.0 || x.is_nan() { x } else { x.signum() };
    F64 |x| if x == 0.0 || x.is_nan() { x } else { x.signum() }; I8 i8::signum; I16 i16::signum; I32 i32::signum;
    I64 i64::signum; U8 |x| x.min(1); U16 |x| x.min(1); U32 |x| x.min(1); U64 |x| x.min(1););
of_numbers!(relu, F32 |x| if x.is_nan() { x } else { x.max(0.0) }; F64 |x| if x.is_nan() { x } else { x.max(0.0) };
    I8 |x| x.max(0); I16 |x| x.max(0); I32 |x| x.max(0); I64 |x| x.max(0););
of_numbers!(not, Bool |x: bool| !x;);
of_numbers!(sqrt, F32 f32::sqrt; F64 f64::sqrt;);
of_numbers!(reciprocal, F32 |x| 1.0 / x; F64 |x| 1.0 / x;);
of_numbers!(round, F32 f32::round_ties_even; F64 f64::round_ties_even;);
of_numbers!(floor, F32 f32::floor; F64 f64::floor;);

macro_rules! of_floats {
    ($($name:ident $f:expr;)*) => { $(
        pub fn $name<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
            floats(ctx, args, $f)
        }
    )* };
}
of_floats! {
    exp libm::exp;
    log libm::log;
    tanh libm::tanh;
    erf libm::erf;
    sin libm::sin;
    cos libm::cos;
    sigmoid |x| 1.0 / (1.0 + libm::exp(-x));
}

fn floats<'a>(ctx: &Ctx, args: &Args<'_, 'a>, f: fn(f64) -> f64) -> Result<Vec<Value<'a>>> {
    let v = args.get(0)?;
    let data = match &v.data {
        Values::F32(x) => Values::F32(map(ctx, v, x, |x| f(f64::from(x)) as f32)?.into()),
        Values::F64(x) => Values::F64(map(ctx, v, x, f)?.into()),
        other => return Err(ctx.no_type(other.elem())),
    };
    Ok(vec![Value::new(v.dims.clone(), data)])
}

/// A float to the power of a float of the same type.
pub fn pow<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let (a, b) = (args.get(0)?, args.get(1)?);
    let (dims, data) = match (&a.data, &b.data) {
        (Values::F32(x), Values::F32(y)) => {
            let power = |x: f32, y: f32| libm::pow(f64::from(x), f64::from(y)) as f32;
            let (dims, v) = super::arithmetic::zip(ctx, (x, &a.dims), (y, &b.dims), power)?;
            (dims, Values::F32(v.into()))
        }
        (Values::F64(x), Values::F64(y)) => {
            let (dims, v) = super::arithmetic::zip(ctx, (x, &a.dims), (y, &b.dims), libm::pow)?;
            (dims, Values::F64(v.into()))
        }
        (x, y) if x.elem() == y.elem() => return Err(ctx.no_type(x.elem())),
        (x, y) => return Err(ctx.mixed(x.elem(), y.elem())),
    };
    Ok(vec![Value::new(dims, data)])
}

/// Exponentials along an axis, divided by their sum; the largest element is subtracted first.
pub fn softmax<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let v = args.get(0)?;
    if ctx.opset < 13 {
        return Err(Error::unsupported("Softmax before version 13 has another meaning"));
    }
    let axis = ctx.axis(ctx.int("axis", -1)?, v.dims.len())?;
    let (n, inner) = (v.dims[axis], v.dims[axis + 1..].iter().product::<usize>());
    let data = match &v.data {
        Values::F32(x) => {
            let x: Vec<f64> = map(ctx, v, x, f64::from)?;
            let y = exponentials(&x, n, inner, map(ctx, v, &x, |x| x)?);
            Values::F32(map(ctx, v, &y, |x| x as f32)?.into())
        }
        Values::F64(x) => Values::F64(exponentials(x, n, inner, map(ctx, v, x, |x| x)?).into()),
        other => return Err(ctx.no_type(other.elem())),
    };
    Ok(vec![Value::new(v.dims.clone(), data)])
}

fn exponentials(x: &[f64], n: usize, inner: usize, mut out: Vec<f64>) -> Vec<f64> {
    // An empty array has no rows.
    for outer in 0..x.len().checked_div(n * inner).unwrap_or(0) {
        for i in 0..inner {
            let first = outer * n * inner + i;
            let at = || (0..n).map(|k| first + k * inner);
            let largest = at().map(|p| x[p]).fold(f64::NEG_INFINITY, f64::max);
            let mut sum = 0.0;
            for p in at() {
                out[p] = libm::exp(x[p] - largest);
                sum += out[p];
            }
            at().for_each(|p| out[p] /= sum);
        }
    }
    out
}
