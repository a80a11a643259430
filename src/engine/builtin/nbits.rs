//! MatMulNBits of com.microsoft: a matrix of 2, 4 or 8 bits a weight in blocks along the inner dimension, each with a scale. Computed as
//! it is defined, in f64: what `accuracy_level` allows a runtime to round is not imitated.

use super::node::{Args, Ctx};
use super::value::{Value, Values};
use crate::error::{Error, Result};

/// The right matrix as it is stored: for each of `n` columns of the product its blocks, codes from the lowest bits on.
struct Matrix<'v> {
    codes: &'v [u8],
    scales: &'v [f32],
    zeros: Zeros<'v>,
    n: usize,
    k: usize,
    bits: usize,
    block: usize,
    blocks: usize,
}

/// What is subtracted from the codes of a block.
enum Zeros<'v> {
    /// The middle of the codes.
    Middle,
    /// Packed as the codes are, each column from a byte of its own.
    Packed(&'v [u8]),
    Floats(&'v [f32]),
}

/// Inputs: left matrix, codes, scales, (zero points), (order of the groups), (bias).
pub fn matmul_nbits<'a>(ctx: &Ctx, args: &Args<'_, 'a>) -> Result<Vec<Value<'a>>> {
    if args.opt(4).is_some_and(|g| g.len() > 0) {
        return Err(Error::unsupported("an order of the groups is not known to the built-in engine"));
    }
    let left = args.get(0)?;
    let m = matrix(ctx, args)?;
    let Values::F32(x) = &left.data else { return Err(ctx.no_type(left.elem())) };
    let Some((k, front)) = left.dims.split_last().filter(|(k, _)| **k == m.k) else {
        return Err(Error::input(format!("a left matrix of shape {:?} where K is {}", left.dims, m.k)));
    };
    let bias = match args.opt(5).map(|b| (&b.data, b.len())) {
        None => None,
        Some((Values::F32(b), n)) if n == m.n => Some(&b[..]),
        Some((other, _)) => return Err(ctx.no_type(other.elem())),
    };
    let dims = [front, &[m.n]].concat();
    let len = ctx.elements::<f32>(&dims)?;
    ctx.work((len as u64).saturating_mul(*k as u64))?;
    let mut out = ctx.filled(len, 0f32)?;
    if len == 0 {
        return Ok(vec![Value::new(dims, Values::F32(out.into()))]);
    }
    let mut column = ctx.filled(m.k, 0f64)?;
    for n in 0..m.n {
        m.column(n, &mut column);
        let added = bias.map_or(0.0, |b| f64::from(b[n]));
        for (x, out) in x.chunks_exact(m.k).zip(out[n..].iter_mut().step_by(m.n)) {
            let sum = x.iter().zip(&column).fold(0.0, |s, (x, w)| s + f64::from(*x) * w);
            *out = (sum + added) as f32;
        }
    }
    Ok(vec![Value::new(dims, Values::F32(out.into()))])
}

fn matrix<'v>(ctx: &Ctx, args: &Args<'v, '_>) -> Result<Matrix<'v>> {
    let size = |name: &str, default| {
        let n = ctx.int(name, default)?;
        let n = usize::try_from(n).ok().filter(|n| (1..=1 << 30).contains(n));
        n.ok_or_else(|| Error::input(format!("attribute {name} is missing or out of range")))
    };
    let (n, k, bits, block) = (size("N", 0)?, size("K", 0)?, size("bits", 4)?, size("block_size", 0)?);
    if ![2, 4, 8].contains(&bits) || !block.is_power_of_two() || block < 16 {
        return Err(Error::unsupported(format!(
            "{bits} bits in blocks of {block} are not known to the built-in engine"
        )));
    }
    let blocks = k.div_ceil(block);
    let (codes, scales) = (args.get(1)?, args.get(2)?);
    let Values::U8(code_bytes) = &codes.data else { return Err(ctx.no_type(codes.elem())) };
    let Values::F32(scale_values) = &scales.data else { return Err(ctx.no_type(scales.elem())) };
    let wrong = |what: &str, dims: &[usize]| {
        Error::input(format!("{what} of shape {dims:?} for {n} columns of {blocks} blocks"))
    };
    if code_bytes.len() != n * blocks * (block * bits / 8) {
        return Err(wrong("codes", &codes.dims));
    }
    if scale_values.len() != n * blocks {
        return Err(wrong("scales", &scales.dims));
    }
    let zeros = match args.opt(3).map(|z| (&z.data, z)) {
        None => Zeros::Middle,
        Some((Values::U8(z), _)) if z.len() == n * (blocks * bits).div_ceil(8) => Zeros::Packed(z),
        Some((Values::F32(z), _)) if z.len() == n * blocks => Zeros::Floats(z),
        Some((_, z)) => return Err(wrong("zero points", &z.dims)),
    };
    Ok(Matrix { codes: code_bytes, scales: scale_values, zeros, n, k, bits, block, blocks })
}

impl Matrix<'_> {
    fn code(&self, bytes: &[u8], i: usize) -> f64 {
        let each = 8 / self.bits;
        let byte = u32::from(bytes[i / each]) >> (i % each * self.bits);
        f64::from(byte & ((1 << self.bits) - 1))
    }

    /// The weights of one column of the product.
    fn column(&self, n: usize, out: &mut [f64]) {
        let blob = self.block * self.bits / 8;
        for (j, out) in out.chunks_mut(self.block).enumerate() {
            let at = n * self.blocks + j;
            let zero = match self.zeros {
                Zeros::Middle => f64::from(1u32 << (self.bits - 1)),
                Zeros::Packed(z) => self.code(&z[n * (self.blocks * self.bits).div_ceil(8)..], j),
                Zeros::Floats(z) => f64::from(z[at]),
            };
            let scale = f64::from(self.scales[at]);
            let codes = &self.codes[at * blob..][..blob];
            out.iter_mut().enumerate().for_each(|(i, out)| *out = (self.code(codes, i) - zero) * scale);
        }
    }
}
