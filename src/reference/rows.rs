//! Rows of f32 values, and what is done to them: products, non-linearities, rounding.

use crate::error::{Error, Result};
use crate::model::{Activation, ActivationRule};
use candle_core::{Device, Tensor};

/// `[n, width]`, row-major.
#[derive(Debug, Clone)]
pub struct Rows {
    pub width: usize,
    pub data: Vec<f32>,
}

impl Rows {
    pub fn new(width: usize, data: Vec<f32>) -> Rows {
        Rows { width: width.max(1), data }
    }

    pub fn len(&self) -> usize {
        self.data.len() / self.width
    }

    pub fn iter(&self) -> std::slice::ChunksExact<'_, f32> {
        self.data.chunks_exact(self.width)
    }

    pub fn iter_mut(&mut self) -> std::slice::ChunksExactMut<'_, f32> {
        self.data.chunks_exact_mut(self.width)
    }

    /// `self += factor * other`.
    ///
    /// # Errors
    /// `Input` if the shapes differ: the checkpoint contradicts itself.
    pub fn add(&mut self, other: &Rows, factor: f32) -> Result<()> {
        self.combine(other, |a, b| a + factor * b)
    }

    /// Each element with that of `other` at its place.
    ///
    /// # Errors
    /// As [`Rows::add`].
    pub fn combine(&mut self, other: &Rows, f: impl Fn(f32, f32) -> f32) -> Result<()> {
        if self.width != other.width || self.data.len() != other.data.len() {
            let what = format!("vectors of {} and {} values cannot be combined", self.width, other.width);
            return Err(Error::input(what).hint("the parts of the checkpoint do not belong together"));
        }
        self.data.iter_mut().zip(&other.data).for_each(|(a, b)| *a = f(*a, *b));
        Ok(())
    }
}

/// A failure inside the tensor library; shapes are checked before, so it is a sign of a contradictory model.
pub fn failed(e: candle_core::Error) -> Error {
    Error::input(format!("the float reference cannot compute this model: {e}"))
}

/// A matrix on the CPU.
///
/// # Errors
/// `Input` if the shape does not fit the values.
pub fn matrix(rows: usize, cols: usize, data: Vec<f32>) -> Result<Tensor> {
    Tensor::from_vec(data, (rows, cols), &Device::Cpu).map_err(failed)
}

/// `a b` for `[n, k]` and `[k, m]`.
///
/// # Errors
/// `Input` if the shapes do not fit.
pub fn product(a: Rows, b: &Tensor) -> Result<Rows> {
    let (n, k) = (a.len(), a.width);
    let width = b.dims().last().copied().unwrap_or(1);
    if n == 0 {
        return Ok(Rows::new(width, Vec::new()));
    }
    let out = matrix(n, k, a.data)?.matmul(b).and_then(|t| t.flatten_all()?.to_vec1()).map_err(failed)?;
    Ok(Rows::new(width, out))
}

/// `a bᵀ` for `[n, k]` and `[m, k]`.
///
/// # Errors
/// As [`product`].
pub fn product_transposed(a: Rows, b: &Tensor) -> Result<Rows> {
    product(a, &b.t().map_err(failed)?)
}

/// The non-linearity.
pub fn activate(a: Activation, x: f32) -> f32 {
    match a {
        Activation::Relu => x.max(0.0),
        Activation::Relu2 => x.max(0.0) * x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => {
            let x = f64::from(x);
            (0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))) as f32
        }
        Activation::GeluTanh => {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::Tanh => x.tanh(),
    }
}

/// Rounds a token's vector to the codes of a low-bit layer and back, in the f32 steps of training.
pub fn round_activations(rule: ActivationRule, row: &mut [f32]) {
    let (steps, lo, hi) = match rule {
        ActivationRule::Absmax16 => (32_767.0f32, -32_767.0, 32_767.0),
        ActivationRule::Absmax8 => (127.0, -128.0, 127.0),
        ActivationRule::Absmax4 => (7.0, -8.0, 7.0),
        ActivationRule::Absmax2 => (2.0, -2.0, 1.0),
    };
    let most = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let scale = steps / most.max(1e-5);
    row.iter_mut().for_each(|v| *v = (*v * scale).round_ties_even().clamp(lo, hi) / scale);
}

/// `limit * tanh(x / limit)`.
pub fn softcap(limit: f32, x: f32) -> f32 {
    limit * (x / limit).tanh()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bit_codes_reach_the_limits_and_ties_go_to_even() {
        let mut row = [127.0, -127.0, 0.5, 1.5, -2.5, 3.0];
        round_activations(ActivationRule::Absmax8, &mut row);
        assert_eq!(row, [127.0, -127.0, 0.0, 2.0, -2.0, 3.0]);
    }

    #[test]
    fn two_bit_codes_are_not_symmetric() {
        let mut row = [4.0, -4.0, 1.1, -0.9];
        round_activations(ActivationRule::Absmax2, &mut row);
        assert_eq!(row, [2.0, -4.0, 2.0, 0.0]);
    }

    #[test]
    fn a_vector_of_zeros_stays_one() {
        let mut row = [0.0; 4];
        round_activations(ActivationRule::Absmax4, &mut row);
        assert_eq!(row, [0.0; 4]);
    }

    #[test]
    fn both_gelus_at_one() {
        assert!((activate(Activation::Gelu, 1.0) - 0.841_345).abs() < 1e-6);
        assert!((activate(Activation::GeluTanh, 1.0) - 0.841_192).abs() < 1e-6);
    }
}
