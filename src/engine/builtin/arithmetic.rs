//! Operators of two and more operands, element by element. Integers wrap as two's complement; a division that has no result is an error.

use super::broadcast::{shape, stretch};
use super::node::{Args, Ctx};
use super::value::{Value, Values};
use crate::error::{Error, Result};

/// A number as the operators see it.
pub trait Number: Copy + PartialOrd {
    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    /// Towards zero, for integers. The divisor has been checked.
    fn div(self, b: Self) -> Self;
    /// With the sign of the divisor. The divisor has been checked.
    fn modulo(self, b: Self) -> Self;
    /// With the sign of the dividend. The divisor has been checked.
    fn fmod(self, b: Self) -> Self;
    fn max(self, b: Self) -> Self;
    fn min(self, b: Self) -> Self;
    /// Whether `a / b` has a result.
    fn divides(a: Self, b: Self) -> bool;
    const INTEGER: bool;
}

macro_rules! integer {
    ($($t:ty)*) => { $(
        impl Number for $t {
            fn add(self, b: Self) -> Self { self.wrapping_add(b) }
            fn sub(self, b: Self) -> Self { self.wrapping_sub(b) }
            fn mul(self, b: Self) -> Self { self.wrapping_mul(b) }
            fn div(self, b: Self) -> Self { self.checked_div(b).unwrap_or(0) }
            #[allow(unused_comparisons)]
            fn modulo(self, b: Self) -> Self {
                let r = Number::fmod(self, b);
                if r != 0 && (r < 0) != (b < 0) { r.wrapping_add(b) } else { r }
            }
            // The smallest number by -1 leaves nothing, though its quotient overflows.
            fn fmod(self, b: Self) -> Self { self.checked_rem(b).unwrap_or(0) }
            fn max(self, b: Self) -> Self { Ord::max(self, b) }
            fn min(self, b: Self) -> Self { Ord::min(self, b) }
            fn divides(a: Self, b: Self) -> bool { a.checked_div(b).is_some() }
            const INTEGER: bool = true;
        }
    )* };
}
integer!(i8 u8 i16 u16 i32 u32 i64 u64);

macro_rules! float {
    ($($t:ty)*) => { $(
        impl Number for $t {
            fn add(self, b: Self) -> Self { self + b }
            fn sub(self, b: Self) -> Self { self - b }
            fn mul(self, b: Self) -> Self { self * b }
            fn div(self, b: Self) -> Self { self / b }
            fn modulo(self, b: Self) -> Self { self % b }
            fn fmod(self, b: Self) -> Self { self % b }
            // What is not a number stays so, on either side.
            fn max(self, b: Self) -> Self { if self.is_nan() || self > b { self } else { b } }
            fn min(self, b: Self) -> Self { if self.is_nan() || self < b { self } else { b } }
            fn divides(_: Self, _: Self) -> bool { true }
            const INTEGER: bool = false;
        }
    )* };
}
float!(f32 f64);

/// Runs `$body` for two values of one type of numbers.
macro_rules! numbers {
    ($ctx:expr, $a:expr, $b:expr, |$x:ident, $y:ident| $body:expr, $wrap:ident) => {{
        numbers!(@ $ctx, $a, $b, $x, $y, $body, $wrap, F32 F64 I8 U8 I16 U16 I32 U32 I64 U64)
    }};
    (@ $ctx:expr, $a:expr, $b:expr, $x:ident, $y:ident, $body:expr, $wrap:ident, $($t:ident)*) => {
        match (&$a.data, &$b.data) {
            $( (Values::$t($x), Values::$t($y)) => { let $wrap = Values::$t; $body } )*
            (x, y) if x.elem() == y.elem() => Err($ctx.no_type(x.elem())),
            (x, y) => Err($ctx.mixed(x.elem(), y.elem())),
        }
    };
}

/// `f` for each pair of elements, both stretched to a common shape.
pub fn zip<T: Copy, O>(
    ctx: &Ctx,
    (a, a_dims): (&[T], &[usize]),
    (b, b_dims): (&[T], &[usize]),
    f: impl Fn(T, T) -> O,
) -> Result<(Vec<usize>, Vec<O>)> {
    let dims = shape(a_dims, b_dims)?;
    let mut out = ctx.vec(ctx.elements::<O>(&dims)?)?;
    // A constant beside a tensor is the most frequent case.
    if let ([one], true) = (b, a_dims == dims) {
        out.extend(a.iter().map(|x| f(*x, *one)));
    } else {
        let (a, b) = (stretch(ctx, a, a_dims, &dims)?, stretch(ctx, b, b_dims, &dims)?);
        out.extend(a.iter().zip(b.iter()).map(|(x, y)| f(*x, *y)));
    }
    Ok((dims, out))
}

fn binary<'a>(ctx: &Ctx, a: &Value<'a>, b: &Value<'a>, op: &Op) -> Result<Value<'a>> {
    numbers!(
        ctx,
        a,
        b,
        |x, y| apply(ctx, (x, &a.dims), (y, &b.dims), op).map(|(d, v)| Value::new(d, wrap(v.into()))),
        wrap
    )
}

enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Fmod,
    Max,
    Min,
}

fn apply<T: Number>(ctx: &Ctx, a: (&[T], &[usize]), b: (&[T], &[usize]), op: &Op) -> Result<(Vec<usize>, Vec<T>)> {
    match op {
        Op::Add => zip(ctx, a, b, T::add),
        Op::Sub => zip(ctx, a, b, T::sub),
        Op::Mul => zip(ctx, a, b, T::mul),
        Op::Max => zip(ctx, a, b, T::max),
        Op::Min => zip(ctx, a, b, T::min),
        Op::Div => {
            if T::INTEGER {
                let (_, ok) = zip(ctx, a, b, T::divides)?;
                if let Some(i) = ok.iter().position(|ok| !ok) {
                    return Err(Error::input(format!("element {i} of the result is a division by zero or overflows")));
                }
            }
            zip(ctx, a, b, T::div)
        }
        Op::Mod | Op::Fmod => {
            let zero = T::INTEGER && b.0.iter().any(|b| !T::divides(*b, *b));
            if zero && shape(a.1, b.1)?.iter().all(|d| *d > 0) {
                return Err(Error::input("a remainder of a division by zero"));
            }
            match op {
                Op::Mod => zip(ctx, a, b, T::modulo),
                _ => zip(ctx, a, b, T::fmod),
            }
        }
    }
}

macro_rules! two_operands {
    ($($name:ident = $op:ident)*) => { $(
        pub fn $name<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
            Ok(vec![binary(ctx, args.get(0)?, args.get(1)?, &Op::$op)?])
        }
    )* };
}
two_operands!(add = Add sub = Sub mul = Mul div = Div);

pub fn modulo<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let (a, b) = (args.get(0)?, args.get(1)?);
    let op = match (ctx.int("fmod", 0)?, &a.data) {
        (0, Values::F32(_) | Values::F64(_)) => return Err(Error::input("Mod of floats needs fmod = 1")),
        (0, _) => Op::Mod,
        (1, _) => Op::Fmod,
        (n, _) => return Err(Error::input(format!("fmod = {n} is neither 0 nor 1"))),
    };
    Ok(vec![binary(ctx, a, b, &op)?])
}

fn many<'a>(ctx: &Ctx, args: &Args<'_, 'a>, op: &Op) -> Result<Vec<Value<'a>>> {
    let all = args.all()?;
    let (first, rest) = all.split_first().ok_or_else(|| Error::input("no operand"))?;
    rest.iter().try_fold((*first).clone(), |so_far, next| binary(ctx, &so_far, next, op)).map(|v| vec![v])
}

pub fn max<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    many(ctx, args, &Op::Max)
}

pub fn min<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    many(ctx, args, &Op::Min)
}

/// The larger of the element and the lower bound, then the smaller of that and the upper bound.
pub fn clip<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let mut v = args.get(0)?.clone();
    for (i, op) in [(1, Op::Max), (2, Op::Min)] {
        if let Some(bound) = args.opt(i) {
            if !bound.dims.is_empty() {
                return Err(Error::input(format!("a bound of Clip is a scalar, not of shape {:?}", bound.dims)));
            }
            v = binary(ctx, &v, bound, &op)?;
        }
    }
    Ok(vec![v])
}

macro_rules! comparison {
    ($($name:ident $f:expr;)*) => { $(
        pub fn $name<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
            let (a, b) = (args.get(0)?, args.get(1)?);
            let (dims, v) = numbers!(ctx, a, b, |x, y| zip(ctx, (x, &a.dims), (y, &b.dims), $f), _bool)?;
            Ok(vec![Value::new(dims, Values::Bool(v.into()))])
        }
    )* };
}
comparison! {
    less |a, b| a < b;
    less_or_equal |a, b| a <= b;
    greater |a, b| a > b;
    greater_or_equal |a, b| a >= b;
    equal_numbers |a, b| a == b;
}

fn logic<'a>(ctx: &Ctx, args: &Args<'_, 'a>, f: fn(bool, bool) -> bool) -> Result<Vec<Value<'a>>> {
    let (a, b) = (args.get(0)?, args.get(1)?);
    match (&a.data, &b.data) {
        (Values::Bool(x), Values::Bool(y)) => {
            let (dims, v) = zip(ctx, (x, &a.dims), (y, &b.dims), f)?;
            Ok(vec![Value::new(dims, Values::Bool(v.into()))])
        }
        (Values::Bool(_), other) | (other, _) => Err(ctx.no_type(other.elem())),
    }
}

pub fn equal<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    match &args.get(0)?.data {
        Values::Bool(_) => logic(ctx, args, |a, b| a == b),
        _ => equal_numbers(ctx, args),
    }
}

pub fn and<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    logic(ctx, args, |a, b| a && b)
}

pub fn or<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    logic(ctx, args, |a, b| a || b)
}

pub fn xor<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    logic(ctx, args, |a, b| a != b)
}
