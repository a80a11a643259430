//! One vector for a text.

use super::Array;
use crate::model::Pool;

/// A vector for each text of `hidden`, `[texts, length, width]`; `mask` as in [`super::Input`].
pub fn pool(hidden: &Array, mask: Option<&[bool]>, how: Pool) -> Vec<Vec<f32>> {
    let [_, len, width] = hidden.shape[..] else { return Vec::new() };
    let texts = hidden.data.chunks_exact((len * width).max(1));
    let one = |(text, states): (usize, &[f32])| -> Vec<f32> {
        let seen = |t: &usize| mask.is_none_or(|m| m.get(text * len + t) == Some(&true));
        let row = |t: usize| &states[t * width..(t + 1) * width];
        match how {
            Pool::First => row(0).to_vec(),
            Pool::Last => row((0..len).rfind(seen).unwrap_or(0)).to_vec(),
            Pool::Mean => {
                let mut sum = vec![0f64; width];
                let mut n = 0usize;
                for t in (0..len).filter(seen) {
                    sum.iter_mut().zip(row(t)).for_each(|(s, v)| *s += f64::from(*v));
                    n += 1;
                }
                sum.iter().map(|s| (s / n.max(1) as f64) as f32).collect()
            }
        }
    };
    texts.enumerate().map(one).collect()
}

/// Scales a vector to length 1; a vector of zeros stays one.
pub fn unit(v: &mut [f32]) {
    let length = v.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt().max(1e-12);
    v.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two texts of two states of two values; the second has one token and one padding.
    fn states() -> (Array, Vec<bool>) {
        let data = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 100.0, 100.0];
        (Array { shape: vec![2, 2, 2], data }, vec![true, true, true, false])
    }

    #[test]
    fn padding_is_left_out_of_mean_and_last() {
        let (hidden, mask) = states();
        assert_eq!(pool(&hidden, Some(&mask), Pool::Mean), [[2.0, 3.0], [5.0, 6.0]]);
        assert_eq!(pool(&hidden, Some(&mask), Pool::Last), [[3.0, 4.0], [5.0, 6.0]]);
        assert_eq!(pool(&hidden, None, Pool::Last), [[3.0, 4.0], [100.0, 100.0]]);
        assert_eq!(pool(&hidden, Some(&mask), Pool::First), [[1.0, 2.0], [5.0, 6.0]]);
    }

    #[test]
    fn unit_vectors() {
        let mut v = [3.0, 4.0];
        unit(&mut v);
        assert_eq!(v, [0.6, 0.8]);
        let mut zero = [0.0; 3];
        unit(&mut zero);
        assert_eq!(zero, [0.0; 3]);
    }
}
