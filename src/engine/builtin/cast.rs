//! Cast, and values made from nothing: Range, ConstantOfShape.

use super::node::{Args, Ctx};
use super::value::{each, unpacked, Value, Values};
use crate::engine::elements;
use crate::error::{Error, Result};
use crate::format::onnx::Elem;

/// Conversion to another type. Between integers the low bits stay; a float loses its fraction, and one that does not fit the integer is an
/// error, since the standard leaves it open and machines differ. What is not 0 is true.
pub fn cast<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let v = args.get(0)?;
    let id = ctx.int("to", 0)?;
    let to = i32::try_from(id).ok().and_then(Elem::from_id);
    let to = to.ok_or_else(|| Error::unsupported(format!("Cast to type {id} is not known to the built-in engine")))?;
    if to == v.elem() {
        return Ok(vec![v.clone()]);
    }
    let data = match &v.data {
        Values::F32(x) => from_float(ctx, v, x, to, f64::from)?,
        Values::F64(x) => from_float(ctx, v, x, to, |x| x)?,
        Values::I8(x) => from_integer(ctx, v, x, to)?,
        Values::U8(x) => from_integer(ctx, v, x, to)?,
        Values::I16(x) => from_integer(ctx, v, x, to)?,
        Values::U16(x) => from_integer(ctx, v, x, to)?,
        Values::I32(x) => from_integer(ctx, v, x, to)?,
        Values::U32(x) => from_integer(ctx, v, x, to)?,
        Values::I64(x) => from_integer(ctx, v, x, to)?,
        Values::U64(x) => from_integer(ctx, v, x, to)?,
        Values::Bool(x) => {
            let mut bits = ctx.vec(ctx.elements::<u8>(&v.dims)?)?;
            bits.extend(x.iter().map(|x| u8::from(*x)));
            match to {
                Elem::U8 => Values::U8(bits.into()),
                _ => from_integer(ctx, v, &bits, to)?,
            }
        }
        Values::Packed(from, bytes) => unpack(ctx, v, *from, bytes, to)?,
    };
    Ok(vec![Value::new(v.dims.clone(), data)])
}

fn no_cast(from: Elem, to: Elem) -> Error {
    Error::unsupported(format!("Cast of {} to {} is not known to the built-in engine", from.name(), to.name()))
}

/// An integer whose other types keep its low bits.
trait Integer: Copy {
    fn f32(self) -> f32;
    fn f64(self) -> f64;
    /// Its bits, with the sign in all above.
    fn wide(self) -> i64;
}

macro_rules! integer {
    ($($t:ty)*) => { $(
        impl Integer for $t {
            fn f32(self) -> f32 { self as f32 }
            fn f64(self) -> f64 { self as f64 }
            fn wide(self) -> i64 { self as i64 }
        }
    )* };
}
integer!(i8 u8 i16 u16 i32 u32 i64 u64);

fn from_integer<'a, T: Integer>(ctx: &Ctx, v: &Value, x: &[T], to: Elem) -> Result<Values<'a>> {
    macro_rules! each {
        ($t:ty, $f:expr) => {{
            let mut out = ctx.vec::<$t>(ctx.elements::<$t>(&v.dims)?)?;
            out.extend(x.iter().map(|x| $f(*x)));
            out.into()
        }};
    }
    Ok(match to {
        Elem::F32 => Values::F32(each!(f32, T::f32)),
        Elem::F64 => Values::F64(each!(f64, T::f64)),
        Elem::I8 => Values::I8(each!(i8, |x: T| x.wide() as i8)),
        Elem::U8 => Values::U8(each!(u8, |x: T| x.wide() as u8)),
        Elem::I16 => Values::I16(each!(i16, |x: T| x.wide() as i16)),
        Elem::U16 => Values::U16(each!(u16, |x: T| x.wide() as u16)),
        Elem::I32 => Values::I32(each!(i32, |x: T| x.wide() as i32)),
        Elem::U32 => Values::U32(each!(u32, |x: T| x.wide() as u32)),
        Elem::I64 => Values::I64(each!(i64, T::wide)),
        Elem::U64 => Values::U64(each!(u64, |x: T| x.wide() as u64)),
        Elem::Bool => Values::Bool(each!(bool, |x: T| x.wide() != 0)),
        other => return Err(no_cast(v.elem(), other)),
    })
}

fn from_float<'a, T: Copy>(ctx: &Ctx, v: &Value, x: &[T], to: Elem, wide: fn(T) -> f64) -> Result<Values<'a>> {
    // The bounds are exact as f64: a truncated float lies in [lowest, beyond).
    macro_rules! each {
        ($t:ty) => {{
            let (lowest, beyond) = (<$t>::MIN as f64, (<$t>::MAX / 2 + 1) as f64 * 2.0);
            let mut out = ctx.vec::<$t>(ctx.elements::<$t>(&v.dims)?)?;
            for (i, x) in x.iter().enumerate() {
                let whole = wide(*x).trunc();
                if !(whole >= lowest && whole < beyond) {
                    return Err(Error::input(format!("element {i} is {whole}, which {} does not hold", to.name())));
                }
                out.push(whole as $t);
            }
            out.into()
        }};
    }
    let n = ctx.elements::<f64>(&v.dims)?;
    Ok(match to {
        Elem::F32 => {
            let mut out = ctx.vec(n)?;
            out.extend(x.iter().map(|x| wide(*x) as f32));
            Values::F32(out.into())
        }
        Elem::F64 => {
            let mut out = ctx.vec(n)?;
            out.extend(x.iter().map(|x| wide(*x)));
            Values::F64(out.into())
        }
        Elem::Bool => {
            let mut out = ctx.vec(n)?;
            out.extend(x.iter().map(|x| wide(*x) != 0.0));
            Values::Bool(out.into())
        }
        Elem::I8 => Values::I8(each!(i8)),
        Elem::U8 => Values::U8(each!(u8)),
        Elem::I16 => Values::I16(each!(i16)),
        Elem::U16 => Values::U16(each!(u16)),
        Elem::I32 => Values::I32(each!(i32)),
        Elem::U32 => Values::U32(each!(u32)),
        Elem::I64 => Values::I64(each!(i64)),
        Elem::U64 => Values::U64(each!(u64)),
        other => return Err(no_cast(v.elem(), other)),
    })
}

fn unpack<'a>(ctx: &Ctx, v: &Value, from: Elem, bytes: &[u8], to: Elem) -> Result<Values<'a>> {
    let n = ctx.elements::<i8>(&v.dims)?;
    let mut out = ctx.vec::<i8>(n)?;
    out.extend(unpacked(from, bytes, n));
    match to {
        Elem::I8 => Ok(Values::I8(out.into())),
        // Codes without a sign are below 16, so they are the same in both types.
        _ => from_integer(ctx, v, &out, to),
    }
}

/// start, start + delta, … below (or above) limit.
pub fn range<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let (a, b, c) = (args.get(0)?, args.get(1)?, args.get(2)?);
    if [a, b, c].iter().any(|v| v.len() != 1) {
        return Err(Error::input("start, limit and delta of Range are one number each"));
    }
    let integer = matches!(a.elem(), Elem::I64 | Elem::I32);
    if !integer || a.elem() != b.elem() || a.elem() != c.elem() {
        return Err(ctx.no_type(a.elem()));
    }
    let (start, limit, delta) = (args.scalar(0)?, args.scalar(1)?, args.scalar(2)?);
    if delta == 0 {
        return Err(Error::input("delta of Range is 0"));
    }
    let (span, step) = match delta > 0 {
        true => (i128::from(limit) - i128::from(start), i128::from(delta)),
        false => (i128::from(start) - i128::from(limit), -i128::from(delta)),
    };
    let n = usize::try_from((span.max(0) + step - 1) / step).unwrap_or(usize::MAX);
    let mut out = ctx.vec(ctx.elements::<i64>(&[n])?)?;
    // All below the limit, so nothing overflows.
    out.extend((0..n as i64).map(|i| start.wrapping_add(i.wrapping_mul(delta))));
    let data = match a.elem() {
        Elem::I32 => Values::I32(out.iter().map(|x| *x as i32).collect::<Vec<_>>().into()),
        _ => Values::I64(out.into()),
    };
    Ok(vec![Value::new(vec![n], data)])
}

/// A tensor of the given shape with one value everywhere: that of the attribute, or 0 as f32.
pub fn constant_of_shape<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let dims = args.list(0)?;
    let dims = dims.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<Vec<_>>>();
    let dims = dims.ok_or_else(|| Error::input("a negative size"))?;
    let one = ctx.tensor("value")?.unwrap_or_else(|| Value::new(vec![1], Values::F32(vec![0.0].into())));
    if elements(&one.dims) != Some(1) {
        return Err(Error::input("the value of ConstantOfShape is one element"));
    }
    let n = ctx.elements::<u64>(&dims)?;
    let data = each!(&one.data, x, wrap => wrap(ctx.filled(n, x[0])?.into()), packed other => return Err(ctx.no_type(other.elem())));
    Ok(vec![Value::new(dims, data)])
}
