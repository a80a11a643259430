//! Weight quantizers. Each fits the scale of one unit (a tensor, a row or a group of columns) and gives its codes. The rules that
//! checkpoints were trained with belong to the model; this adds what only a conversion needs.

pub use crate::model::{absmax_row, Fit, MeanAbs};

/// One row as 16-bit integers with a power of two for a scale; returns what a code stands for.
///
/// bf16 and f16 values within 2^-7 or 2^-4 of the row's largest are kept exactly, where a scale from the absolute maximum would round all of
/// them: the tiny rounding errors of an embedding are what flips activation codes in the first layer.
pub fn power_row(row: &[f32], codes: &mut [i32]) -> f64 {
    let most = row.iter().fold(0f32, |m, w| if w.abs() > m { w.abs() } else { m });
    let (_, exponent) = libm::frexp(f64::from(most.max(1e-5))); // most < 2^exponent
    let factor = libm::ldexp(1.0, 15 - exponent);
    for (c, w) in codes.iter_mut().zip(row) {
        // The product is exact and at most 2^15: adding and taking away 1.5 * 2^52 rounds it, halves to even.
        let rounded = (f64::from(*w) * factor + 6_755_399_441_055_744.0) - 6_755_399_441_055_744.0;
        *c = rounded.clamp(-32_767.0, 32_767.0) as i32;
    }
    libm::ldexp(1.0, exponent - 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_keep_bf16_values() {
        let row = [0.75, -0.005_920_41, 1.9921875, 0.0];
        let mut codes = [0; 4];
        let scale = power_row(&row, &mut codes);
        let back = codes.map(|c| (f64::from(c) * scale) as f32);
        assert_eq!(back[0], row[0]);
        assert_eq!(back[2], row[2]);
        assert!((back[1] - row[1]).abs() < 2f32.powi(-15));
    }
}
