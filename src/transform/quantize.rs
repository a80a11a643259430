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

/// Clippings that [`four_bit_row`] tries, as parts of the row's largest magnitude.
const CLIPPINGS: usize = 24;

/// One row as integers of 4 bits, -8 ..= 7; returns what a code stands for.
///
/// The scale starts at the largest magnitude / 7 and is made smaller as long as the squared error of the row falls: a few clipped values
/// cost less than coarse steps for all others. The codes of the best one then get the scale that fits them best (least squares).
pub fn four_bit_row(row: &[f32], codes: &mut [i32]) -> f64 {
    let most = row.iter().fold(0f64, |m, w| m.max(f64::from(w.abs())));
    if most == 0.0 {
        codes.fill(0);
        return 0.0;
    }
    let code = |w: f32, scale: f64| libm::rint(f64::from(w) / scale).clamp(-8.0, 7.0);
    let error = |scale: f64| row.iter().map(|w| (f64::from(*w) - scale * code(*w, scale)).powi(2)).sum::<f64>();
    // Down to half of the largest magnitude, which suits rows with heavy tails.
    let scales = (0..CLIPPINGS).map(|i| most / 7.0 * (1.0 - i as f64 / (2 * CLIPPINGS) as f64));
    let best = scales.map(|s| (error(s), s)).min_by(|x, y| x.0.total_cmp(&y.0)).map_or(most / 7.0, |(_, s)| s);
    let (mut products, mut squares) = (0.0, 0.0);
    for (c, w) in codes.iter_mut().zip(row) {
        let q = code(*w, best);
        *c = q as i32;
        products += q * f64::from(*w);
        squares += q * q;
    }
    if products > 0.0 {
        products / squares
    } else {
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bits_clip_what_stands_alone() {
        let error = |row: &[f32], scale: f64, codes: &[i32]| {
            row.iter().zip(codes).map(|(w, c)| (f64::from(*w) - scale * f64::from(*c)).powi(2)).sum::<f64>()
        };
        let mut row: Vec<f32> = (0..512).map(|i| ((i * 37 % 512) as f32 - 256.0) / 256.0).collect();
        row[5] = 3.0;
        let mut codes = vec![0; 512];
        let scale = four_bit_row(&row, &mut codes);
        assert!(codes.iter().all(|c| (-8..=7).contains(c)) && codes[5] == 7);
        let plain: Vec<i32> = row.iter().map(|w| libm::rint(f64::from(*w) * 7.0 / 3.0) as i32).collect();
        assert!(error(&row, scale, &codes) < 0.8 * error(&row, 3.0 / 7.0, &plain));
        // Values on a grid are kept.
        let row: Vec<f32> = (0..15).map(|i| 0.25 * (i as f32 - 7.0)).collect();
        let mut codes = vec![0; 15];
        assert_eq!(four_bit_row(&row, &mut codes), 0.25);
        assert_eq!(codes, (-7..=7).collect::<Vec<_>>());
        assert_eq!((four_bit_row(&[0.0; 3], &mut codes[..3]), &codes[..3]), (0.0, &[0, 0, 0][..]));
    }

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
