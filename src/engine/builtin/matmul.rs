//! MatMul, and MatMulInteger: matrices in the last two dimensions, the others stretched to each other.

use super::broadcast::{shape, strides_of, Places};
use super::node::{Args, Ctx};
use super::value::{Value, Values};
use crate::engine::elements;
use crate::error::{Error, Result};

/// Columns of the result that are computed together, so that their sums stay in the nearest cache.
const COLUMNS: usize = 256;
/// Rows of the result for which a row of the right matrix is read once.
const ROWS: usize = 4;

/// Sizes of a product and where its matrices start.
pub struct Shapes {
    pub rows: usize,
    pub inner: usize,
    pub columns: usize,
    /// Shape of the result.
    pub dims: Vec<usize>,
    /// First elements of the left and the right matrix for each matrix of the result.
    pub pairs: Vec<(usize, usize)>,
}

/// # Errors
/// Shapes that do not fit each other, or a result that is too large.
pub fn shapes<O>(ctx: &Ctx, a: &[usize], b: &[usize]) -> Result<Shapes> {
    let wrong = || Error::input(format!("matrices of shapes {a:?} and {b:?} have no product"));
    // One dimension is a row on the left and a column on the right, and is gone from the result.
    let left = if a.len() == 1 { vec![1, a[0]] } else { a.to_vec() };
    let right = if b.len() == 1 { vec![b[0], 1] } else { b.to_vec() };
    let ([left_many @ .., rows, inner], [right_many @ .., inner2, columns]) = (&left[..], &right[..]) else {
        return Err(wrong());
    };
    if inner != inner2 {
        return Err(wrong());
    }
    let many = shape(left_many, right_many).map_err(|_| wrong())?;
    let mut dims = many.clone();
    dims.extend((a.len() != 1).then_some(*rows));
    dims.extend((b.len() != 1).then_some(*columns));
    let n = ctx.elements::<O>(&dims)?;
    ctx.work((n as u64).saturating_mul(*inner as u64))?;
    let scaled = |from: &[usize], by: usize| strides_of(from, &many).iter().map(|s| s * by).collect::<Vec<_>>();
    let (sa, sb) = (scaled(left_many, rows * inner), scaled(right_many, inner * columns));
    let pairs = match n {
        0 => Vec::new(),
        _ => {
            let count = elements(&many).unwrap_or(0);
            let mut pairs = ctx.vec(count)?;
            pairs.extend(Places::new(&many, &sa).zip(Places::new(&many, &sb)));
            pairs
        }
    };
    Ok(Shapes { rows: *rows, inner: *inner, columns: *columns, dims, pairs })
}

/// Each element of the result is the sum from the first product to the last.
fn product<T: Copy, S: Copy>(
    ctx: &Ctx,
    s: &Shapes,
    (a, b): (&[T], &[T]),
    zero: S,
    add: impl Fn(S, T, T) -> S,
    end: impl Fn(S) -> T,
) -> Result<Vec<T>> {
    let mut out: Vec<T> = ctx.vec(elements(&s.dims).unwrap_or(0))?;
    let mut sums = ctx.filled(s.columns, zero)?;
    for (a0, b0) in &s.pairs {
        for i in 0..s.rows {
            sums.fill(zero);
            for (k, x) in a[a0 + i * s.inner..][..s.inner].iter().enumerate() {
                let row = &b[b0 + k * s.columns..][..s.columns];
                sums.iter_mut().zip(row).for_each(|(sum, y)| *sum = add(*sum, *x, *y));
            }
            out.extend(sums.iter().map(|s| end(*s)));
        }
    }
    Ok(out)
}

/// A product of matrices of floats (summed in f64) or of integers (wrapping).
pub fn matmul<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let (a, b) = (args.get(0)?, args.get(1)?);
    let s = shapes::<u64>(ctx, &a.dims, &b.dims)?;
    macro_rules! whole {
        ($x:expr, $y:expr, $t:ident, $int:ty) => {
            Values::$t(
                product(ctx, &s, ($x, $y), 0, |s: $int, x: $int, y| s.wrapping_add(x.wrapping_mul(y)), |s| s)?.into(),
            )
        };
    }
    let data = match (&a.data, &b.data) {
        (Values::F32(x), Values::F32(y)) => {
            let add = |s: f64, x: f32, y: f32| s + f64::from(x) * f64::from(y);
            Values::F32(product(ctx, &s, (x, y), 0.0, add, |s| s as f32)?.into())
        }
        (Values::F64(x), Values::F64(y)) => {
            Values::F64(product(ctx, &s, (x, y), 0.0, |s, x, y| s + x * y, |s| s)?.into())
        }
        (Values::I32(x), Values::I32(y)) => whole!(x, y, I32, i32),
        (Values::U32(x), Values::U32(y)) => whole!(x, y, U32, u32),
        (Values::I64(x), Values::I64(y)) => whole!(x, y, I64, i64),
        (Values::U64(x), Values::U64(y)) => whole!(x, y, U64, u64),
        (x, y) if x.elem() == y.elem() => return Err(ctx.no_type(x.elem())),
        (x, y) => return Err(ctx.mixed(x.elem(), y.elem())),
    };
    Ok(vec![Value::new(s.dims, data)])
}

/// Bytes of one sign or the other.
enum Bytes<'v> {
    Signed(&'v [i8]),
    Unsigned(&'v [u8]),
}

fn bytes<'v>(ctx: &Ctx, v: &'v Value) -> Result<Bytes<'v>> {
    match &v.data {
        Values::I8(x) => Ok(Bytes::Signed(x)),
        Values::U8(x) => Ok(Bytes::Unsigned(x)),
        other => Err(ctx.no_type(other.elem())),
    }
}

/// The zero points of a matrix: one, or one for each of `n` rows or columns; 0 without that input.
fn zeros(ctx: &Ctx, zero: Option<&Value>, of: &Value, n: usize) -> Result<Vec<i32>> {
    let Some(zero) = zero else { return Ok(vec![0]) };
    if zero.elem() != of.elem() {
        return Err(ctx.mixed(of.elem(), zero.elem()));
    }
    let all: Vec<i32> = match bytes(ctx, zero)? {
        Bytes::Signed(z) => z.iter().map(|z| i32::from(*z)).collect(),
        Bytes::Unsigned(z) => z.iter().map(|z| i32::from(*z)).collect(),
    };
    match zero.dims.len() <= 1 && (all.len() == 1 || all.len() == n) {
        true => Ok(all),
        false => Err(Error::unsupported(format!("zero points of shape {:?} for {n} rows or columns", zero.dims))),
    }
}

/// Products of bytes, from which zero points are subtracted first, summed in int32, which wraps.
pub fn matmul_integer<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    let (a, b) = (args.get(0)?, args.get(1)?);
    let s = shapes::<i32>(ctx, &a.dims, &b.dims)?;
    let (za, zb) = (zeros(ctx, args.opt(2), a, s.rows)?, zeros(ctx, args.opt(3), b, s.columns)?);
    let out = match (bytes(ctx, a)?, bytes(ctx, b)?) {
        (Bytes::Unsigned(x), Bytes::Signed(y)) => integer(ctx, &s, (x, &za), (y, &zb))?,
        (Bytes::Unsigned(x), Bytes::Unsigned(y)) => integer(ctx, &s, (x, &za), (y, &zb))?,
        (Bytes::Signed(x), Bytes::Signed(y)) => integer(ctx, &s, (x, &za), (y, &zb))?,
        (Bytes::Signed(x), Bytes::Unsigned(y)) => integer(ctx, &s, (x, &za), (y, &zb))?,
    };
    Ok(vec![Value::new(s.dims, Values::I32(out.into()))])
}

fn integer<A: Copy + Into<i32>, B: Copy + Into<i32>>(
    ctx: &Ctx,
    s: &Shapes,
    (a, za): (&[A], &[i32]),
    (b, zb): (&[B], &[i32]),
) -> Result<Vec<i32>> {
    let mut out = ctx.filled(elements(&s.dims).unwrap_or(0), 0i32)?;
    if s.rows * s.columns == 0 {
        return Ok(out);
    }
    for ((a0, b0), out) in s.pairs.iter().zip(out.chunks_exact_mut(s.rows * s.columns)) {
        let b = &b[*b0..b0 + s.inner * s.columns];
        for (block, out) in out.chunks_mut(ROWS * s.columns).enumerate() {
            let first = block * ROWS;
            let rows = out.len() / s.columns;
            // Left rows without their zero points; rows that are not there are zeros.
            let mut left = ctx.filled(s.inner, [0i32; ROWS])?;
            for r in 0..rows {
                let zero = za[(first + r).min(za.len() - 1)];
                let row = &a[a0 + (first + r) * s.inner..][..s.inner];
                left.iter_mut().zip(row).for_each(|(l, x)| l[r] = (*x).into() - zero);
            }
            for from in (0..s.columns).step_by(COLUMNS) {
                let n = COLUMNS.min(s.columns - from);
                let mut sums = [[0i32; COLUMNS]; ROWS];
                let right = b.chunks_exact(s.columns).map(|row| &row[from..from + n]);
                match rows {
                    1 => one_row(&left, right, &mut sums[0][..n]),
                    _ => four_rows(&left, right, &mut sums, n),
                }
                for (r, sums) in sums[..rows].iter().enumerate() {
                    out[r * s.columns + from..][..n].copy_from_slice(&sums[..n]);
                }
            }
            subtract(&left, zb, rows, s.columns, out);
        }
    }
    Ok(out)
}

fn one_row<'b, B: Copy + Into<i32> + 'b>(left: &[[i32; ROWS]], right: impl Iterator<Item = &'b [B]>, sums: &mut [i32]) {
    for (l, row) in left.iter().zip(right).filter(|(l, _)| l[0] != 0) {
        sums.iter_mut().zip(row).for_each(|(s, y)| *s = s.wrapping_add(l[0].wrapping_mul((*y).into())));
    }
}

fn four_rows<'b, B: Copy + Into<i32> + 'b>(
    left: &[[i32; ROWS]],
    right: impl Iterator<Item = &'b [B]>,
    sums: &mut [[i32; COLUMNS]; ROWS],
    n: usize,
) {
    let [s0, s1, s2, s3] = sums;
    for ([l0, l1, l2, l3], row) in left.iter().zip(right) {
        let all = s0[..n].iter_mut().zip(&mut s1[..n]).zip(s2[..n].iter_mut().zip(&mut s3[..n]));
        for (((s0, s1), (s2, s3)), y) in all.zip(row) {
            let y: i32 = (*y).into();
            *s0 = s0.wrapping_add(l0.wrapping_mul(y));
            *s1 = s1.wrapping_add(l1.wrapping_mul(y));
            *s2 = s2.wrapping_add(l2.wrapping_mul(y));
            *s3 = s3.wrapping_add(l3.wrapping_mul(y));
        }
    }
}

/// The zero points of the right matrix, each times the sum of a left row.
fn subtract(left: &[[i32; ROWS]], zb: &[i32], rows: usize, columns: usize, out: &mut [i32]) {
    if zb == [0] {
        return;
    }
    for r in 0..rows {
        let sum = left.iter().fold(0i32, |s, l| s.wrapping_add(l[r]));
        for (c, out) in out[r * columns..][..columns].iter_mut().enumerate() {
            *out = out.wrapping_sub(sum.wrapping_mul(zb[c.min(zb.len() - 1)]));
        }
    }
}
