//! Which layers to remove.

use crate::error::{Error, Result};

/// Layers of a list like `0-5,11`, ascending.
///
/// # Errors
/// `Usage` for what is no list, for layers that the model does not have and for one that is named twice.
pub fn list(text: &str, total: usize) -> Result<Vec<usize>> {
    let bad = |part: &str| {
        Error::usage(format!("`{part}` in the list of layers is no number and no range"))
            .hint("give numbers and ranges with commas, the first layer is 0: `0-5,11`")
    };
    let mut out = Vec::new();
    for part in text.split(',').map(str::trim) {
        let number = |t: &str| t.trim().parse::<usize>().map_err(|_| bad(part));
        let (first, last) = match part.split_once('-') {
            Some((a, b)) => (number(a)?, number(b)?),
            None => (number(part)?, number(part)?),
        };
        if last >= total {
            let what = format!("there is no layer {last}, the model has {total}: 0 to {}", total.saturating_sub(1));
            return Err(Error::usage(what));
        }
        if first > last {
            return Err(
                Error::usage(format!("the range {first}-{last} is empty")).hint("the smaller number comes first")
            );
        }
        out.extend(first..=last);
    }
    out.sort_unstable();
    match out.windows(2).find(|p| p[0] == p[1]) {
        Some(p) => Err(Error::usage(format!("layer {} is named twice in the list", p[0]))),
        None => Ok(out),
    }
}

/// The layers that are not in an ascending list.
pub fn others(list: &[usize], total: usize) -> Vec<usize> {
    (0..total).filter(|i| list.binary_search(i).is_err()).collect()
}

/// A layer that goes, and the number that decided it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Removal {
    pub layer: usize,
    pub score: f64,
}

/// Numbers that are none count as the worst.
fn order(a: f64, b: f64) -> std::cmp::Ordering {
    let worst = |v: f64| if v.is_nan() { f64::INFINITY } else { v };
    worst(a).total_cmp(&worst(b))
}

/// Removes one layer after the other, always the one without which the rest does least harm (SLEB, Song et al. 2024). `harms` gets the layers that
/// are left and gives the loss without each of them.
///
/// # Errors
/// Those of `harms`.
pub fn greedy(
    total: usize,
    remove: usize,
    mut harms: impl FnMut(&[usize]) -> Result<Vec<f64>>,
) -> Result<Vec<Removal>> {
    let mut left: Vec<usize> = (0..total).collect();
    let mut out = Vec::with_capacity(remove);
    for _ in 0..remove.min(total) {
        let harms = harms(&left)?;
        let Some((at, score)) = harms.into_iter().take(left.len()).enumerate().min_by(|a, b| order(a.1, b.1)) else {
            break;
        };
        out.push(Removal { layer: left.remove(at), score });
    }
    Ok(out)
}

/// The layers that change their input least; `influence` is 1 - cosine of input and output of each (Men et al. 2024).
pub fn least_influence(influence: &[f64], remove: usize) -> Vec<Removal> {
    let mut all: Vec<Removal> =
        influence.iter().enumerate().map(|(layer, score)| Removal { layer, score: *score }).collect();
    all.sort_by(|a, b| order(a.score, b.score).then(a.layer.cmp(&b.layer)));
    all.truncate(remove);
    all
}

/// Consecutive layers that together turn their input least; `angles[l]` is the angle in half turns between what enters layer `l` and what leaves
/// layer `l + remove - 1` (Gromov et al. 2024).
pub fn least_turn(angles: &[f64], remove: usize) -> Vec<Removal> {
    let first = (0..angles.len()).min_by(|a, b| order(angles[*a], angles[*b]));
    first.into_iter().flat_map(|f| (f..f + remove).map(move |layer| Removal { layer, score: angles[f] })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(r: &[Removal]) -> Vec<usize> {
        r.iter().map(|r| r.layer).collect()
    }

    #[test]
    fn lists() {
        assert_eq!(list("0-2,5", 6).unwrap(), [0, 1, 2, 5]);
        assert_eq!(list(" 3 , 1", 6).unwrap(), [1, 3]);
        for bad in ["", "a", "1,,2", "-1", "3-1", "6", "0-6", "1,1", "0-2,2", "1-2-3", "99999999999999999999999"] {
            assert!(list(bad, 6).is_err(), "{bad}");
        }
        assert_eq!(others(&[0, 2], 4), [1, 3]);
    }

    #[test]
    fn greedy_asks_again_after_each_removal() {
        // Either of 1 and 2 can go, but not both.
        let harms = |left: &[usize]| -> Result<Vec<f64>> {
            let one = left.contains(&1) && left.contains(&2);
            Ok(left
                .iter()
                .map(|l| match l {
                    1 => 1.0 + f64::from(u8::from(!one)) * 10.0,
                    2 => 1.5 + f64::from(u8::from(!one)) * 10.0,
                    3 => f64::NAN,
                    _ => 5.0,
                })
                .collect())
        };
        let removed = greedy(4, 2, harms).unwrap();
        assert_eq!(layers(&removed), [1, 0]);
        assert_eq!(removed[0].score, 1.0);
    }

    #[test]
    fn by_influence_and_by_angle() {
        assert_eq!(layers(&least_influence(&[0.9, 0.1, f64::NAN, 0.05, 0.1], 3)), [3, 1, 4]);
        assert_eq!(layers(&least_turn(&[0.4, 0.1, 0.3], 2)), [1, 2]);
        assert_eq!(layers(&least_turn(&[], 2)), [0usize; 0]);
    }
}
