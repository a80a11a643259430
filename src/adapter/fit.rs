//! Low-bit factors for a low-rank branch: the sum of terms `scale * b aᵀ` with codes in a and b that is closest to B A, measured on the
//! output for inputs whose elements are independent with given second moments.
//!
//! Each term is found by alternating least squares on what the terms before leave: for fixed a the best real b is known, and its codes are
//! those of the step that keeps most of it; then the same for a (semidiscrete decomposition, Kolda and O'Leary 1998, with more levels). Nothing
//! of the size of the matrix is ever made.

use crate::kernels::adapter::largest;

/// Rounds of improvement of a new term, and of all terms together.
const ROUNDS: usize = 8;
const SWEEPS: usize = 4;
/// Steps of the power method that finds where a term begins.
const POWER: usize = 12;
/// Steps that are tried for a vector of codes, relative to the one that just reaches the largest element.
const STEPS: usize = 40;

/// A branch as floats, factor by factor.
pub struct Target {
    /// Rows of A.
    pub a: Vec<Vec<f64>>,
    /// Columns of B.
    pub b: Vec<Vec<f64>>,
    /// Second moment of each input.
    pub moments: Vec<f64>,
}

/// One rank of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    pub a: Vec<i16>,
    pub b: Vec<i16>,
    pub scale: f64,
}

/// Terms, and how much of the output's energy they leave unexplained.
#[derive(Debug, Clone)]
pub struct Fit {
    pub terms: Vec<Term>,
    pub error: f64,
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn coded(x: &[f64], c: &[i16]) -> f64 {
    x.iter().zip(c).map(|(x, c)| x * f64::from(*c)).sum()
}

fn codes_dot(x: &[i16], y: &[i16]) -> f64 {
    x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

impl Target {
    fn weighted(&self, x: &[f64], y: &[f64]) -> f64 {
        x.iter().zip(y).zip(&self.moments).map(|((x, y), d)| x * y * d).sum()
    }

    fn weighted_codes(&self, x: &[f64], c: &[i16]) -> f64 {
        x.iter().zip(c).zip(&self.moments).map(|((x, c), d)| x * f64::from(*c) * d).sum()
    }

    fn codes_weighted(&self, x: &[i16], y: &[i16]) -> f64 {
        x.iter().zip(y).zip(&self.moments).map(|((x, y), d)| f64::from(*x) * f64::from(*y) * d).sum()
    }

    /// Energy of the branch's output.
    pub fn energy(&self) -> f64 {
        let pairs = self.a.iter().zip(&self.b);
        pairs.clone().map(|(a, b)| pairs.clone().map(|(c, d)| dot(b, d) * self.weighted(a, c)).sum::<f64>()).sum()
    }

    /// What the branch puts on `b aᵀ`.
    fn onto(&self, t: &Term) -> f64 {
        self.a.iter().zip(&self.b).map(|(a, b)| coded(b, &t.b) * self.weighted_codes(a, &t.a)).sum()
    }

    /// Rotates the ranks so that they are orthogonal on the output, the largest first (one-sided Jacobi, twice; Hestenes 1958).
    pub fn order_by_size(&mut self) {
        let root: Vec<f64> = self.moments.iter().map(|d| d.sqrt()).collect();
        let mut a: Vec<Vec<f64>> = self.a.iter().map(|a| a.iter().zip(&root).map(|(a, r)| a * r).collect()).collect();
        let mut b = std::mem::take(&mut self.b);
        orthogonalise(&mut a, &mut b);
        for (a, b) in a.iter_mut().zip(&mut b) {
            let n = dot(a, a).sqrt();
            if n > 0.0 {
                a.iter_mut().for_each(|v| *v /= n);
                b.iter_mut().for_each(|v| *v *= n);
            }
        }
        orthogonalise(&mut b, &mut a);
        let mut pairs: Vec<_> = a.into_iter().zip(b).collect();
        pairs.sort_by(|x, y| dot(&y.1, &y.1).total_cmp(&dot(&x.1, &x.1)));
        (self.a, self.b) = pairs.into_iter().unzip();
        for a in &mut self.a {
            a.iter_mut().zip(&root).for_each(|(a, r)| *a /= r);
        }
    }

    /// The fits with 1, 2, … `most` terms of codes with `bits` bits; fewer where nothing is left to explain.
    pub fn fits(&self, bits: u32, most: usize) -> Vec<Fit> {
        let energy = self.energy();
        let mut terms: Vec<Term> = Vec::new();
        let mut out: Vec<Fit> = Vec::new();
        while terms.len() < most {
            let Some(term) = self.next_term(&terms, bits) else { break };
            terms.push(term);
            let sweeps = if terms.len() == most { SWEEPS } else { 1 };
            let error = self.sweep(&mut terms, bits, sweeps, energy);
            // A term that no longer helps ends the search: what is left is rounding.
            if out.last().is_some_and(|f| error >= f.error) {
                break;
            }
            out.push(Fit { terms: terms.clone(), error });
        }
        out
    }

    /// A fit of fewer terms than were asked for, as good as if it had been the last.
    pub fn refine(&self, fit: &Fit, bits: u32) -> Fit {
        let mut terms = fit.terms.clone();
        let error = self.sweep(&mut terms, bits, SWEEPS, self.energy());
        if error < fit.error {
            Fit { terms, error }
        } else {
            fit.clone()
        }
    }

    /// Improves each term some times, then all scales together; what is left.
    fn sweep(&self, terms: &mut [Term], bits: u32, sweeps: usize, energy: f64) -> f64 {
        for _ in 0..sweeps {
            for j in 0..terms.len() {
                self.improve(terms, j, bits, 2);
            }
        }
        self.scale_all(terms);
        self.error(terms, energy)
    }

    fn error(&self, terms: &[Term], energy: f64) -> f64 {
        let cross: f64 = terms.iter().map(|t| t.scale * self.onto(t)).sum();
        let own: f64 = terms
            .iter()
            .flat_map(|t| terms.iter().map(move |u| (t, u)))
            .map(|(t, u)| t.scale * u.scale * codes_dot(&t.b, &u.b) * self.codes_weighted(&t.a, &u.a))
            .sum();
        (energy - 2.0 * cross + own).max(0.0)
    }

    /// What is left of the branch, times D a: the best b for a, up to a factor.
    fn left_of(
        &self,
        terms: &[Term],
        skip: usize,
        onto: impl Fn(&[f64]) -> f64,
        coded: impl Fn(&[i16]) -> f64,
    ) -> Vec<f64> {
        let mut out = vec![0.0; self.b.first().map_or(0, Vec::len)];
        for (a, b) in self.a.iter().zip(&self.b) {
            let f = onto(a);
            out.iter_mut().zip(b).for_each(|(o, b)| *o += f * b);
        }
        for (_, t) in terms.iter().enumerate().filter(|(i, _)| *i != skip) {
            let f = t.scale * coded(&t.a);
            out.iter_mut().zip(&t.b).for_each(|(o, b)| *o -= f * f64::from(*b));
        }
        out
    }

    /// The transpose of what is left, times b: the best a for b, up to a factor.
    fn right_of(
        &self,
        terms: &[Term],
        skip: usize,
        onto: impl Fn(&[f64]) -> f64,
        coded: impl Fn(&[i16]) -> f64,
    ) -> Vec<f64> {
        let mut out = vec![0.0; self.moments.len()];
        for (a, b) in self.a.iter().zip(&self.b) {
            let f = onto(b);
            out.iter_mut().zip(a).for_each(|(o, a)| *o += f * a);
        }
        for (_, t) in terms.iter().enumerate().filter(|(i, _)| *i != skip) {
            let f = t.scale * coded(&t.b);
            out.iter_mut().zip(&t.a).for_each(|(o, a)| *o -= f * f64::from(*a));
        }
        out
    }

    /// A term for what the others leave, from its largest direction; None if there is nothing.
    fn next_term(&self, terms: &[Term], bits: u32) -> Option<Term> {
        let none = usize::MAX;
        // Any start that is orthogonal to nothing; a fixed one, so that results are.
        let mut a: Vec<f64> = vec![0.0; self.moments.len()];
        for (k, row) in self.a.iter().enumerate() {
            let f = 1.0 + (k * 7 % 5) as f64 / 8.0;
            a.iter_mut().zip(row).for_each(|(o, v)| *o += f * v);
        }
        for _ in 0..POWER {
            let b = self.left_of(terms, none, |r| self.weighted(r, &a), |c| self.weighted_codes(&a, c));
            let n = dot(&b, &b).sqrt();
            if n.is_nan() || n <= 0.0 {
                return None;
            }
            let b: Vec<f64> = b.iter().map(|v| v / n).collect();
            a = self.right_of(terms, none, |r| dot(r, &b), |c| coded(&b, c));
        }
        let start = Term { a: codes(&a, Some(&self.moments), bits), b: Vec::new(), scale: 0.0 };
        let mut all = terms.to_vec();
        all.push(Term { b: vec![0; self.b.first().map_or(0, Vec::len)], ..start });
        let at = all.len() - 1;
        self.improve(&mut all, at, bits, ROUNDS);
        all.pop().filter(|t| t.scale > 0.0 && t.scale.is_finite())
    }

    /// Finds b and scale for a, then a for b, some times.
    fn improve(&self, terms: &mut [Term], j: usize, bits: u32, rounds: usize) {
        let mut best = terms[j].clone();
        let mut gained = f64::NEG_INFINITY;
        for round in 0..rounds {
            let a = terms[j].a.clone();
            let b = self.left_of(terms, j, |r| self.weighted_codes(r, &a), |c| self.codes_weighted(c, &a));
            terms[j].b = codes(&b, None, bits);
            let b = terms[j].b.clone();
            let x = self.right_of(terms, j, |r| coded(r, &b), |c| codes_dot(c, &b));
            // The a before is a candidate: rounding could only be worse than it.
            let fresh = codes(&x, Some(&self.moments), bits);
            let quality = |a: &[i16]| {
                let up = self.weighted_codes(&x, a);
                (up * up.abs() / self.codes_weighted(a, a), up)
            };
            let norm = codes_dot(&b, &b);
            if round > 0 && quality(&fresh).0 <= quality(&a).0 {
                terms[j].a = a;
            } else {
                terms[j].a = fresh;
            }
            let (q, up) = quality(&terms[j].a);
            terms[j].scale = up / (norm * self.codes_weighted(&terms[j].a, &terms[j].a));
            if q / norm <= gained * (1.0 + 1e-9) {
                break;
            }
            gained = q / norm;
            best = terms[j].clone();
        }
        terms[j] = best;
    }

    /// The best scales for the codes as they are. Kept only if all stay positive, as the file needs them.
    fn scale_all(&self, terms: &mut [Term]) {
        let n = terms.len();
        let mut m: Vec<Vec<f64>> = Vec::with_capacity(n);
        for t in terms.iter() {
            let gram = terms.iter().map(|u| codes_dot(&t.b, &u.b) * self.codes_weighted(&t.a, &u.a));
            m.push(gram.chain([self.onto(t)]).collect());
        }
        // Gaussian elimination; the matrix is symmetric and positive, so pivots need no search.
        for i in 0..n {
            let (above, below) = m.split_at_mut(i + 1);
            let row = &above[i];
            if row[i].is_nan() || row[i] <= 0.0 {
                return;
            }
            for other in below {
                let f = other[i] / row[i];
                other.iter_mut().zip(row).skip(i).for_each(|(v, p)| *v -= f * p);
            }
        }
        let mut scales = vec![0.0; n];
        for i in (0..n).rev() {
            let rest: f64 = (i + 1..n).map(|c| m[i][c] * scales[c]).sum();
            scales[i] = (m[i][n] - rest) / m[i][i];
        }
        if scales.iter().all(|s| s.is_finite() && *s > 0.0) {
            terms.iter_mut().zip(scales).for_each(|(t, s)| t.scale = s);
        }
    }
}

/// Rotates pairs of vectors until they are orthogonal; the others follow, so that the sum of outer products stays.
fn orthogonalise(x: &mut [Vec<f64>], follow: &mut [Vec<f64>]) {
    for _ in 0..60 {
        let mut worst = 0f64;
        for i in 0..x.len() {
            for j in i + 1..x.len() {
                let (a, b, c) = (dot(&x[i], &x[i]), dot(&x[j], &x[j]), dot(&x[i], &x[j]));
                let size = (a * b).sqrt();
                if c.abs() <= 1e-12 * size || size == 0.0 {
                    continue;
                }
                worst = worst.max(c.abs() / size);
                let zeta = (b - a) / (2.0 * c);
                let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let cos = 1.0 / (1.0 + t * t).sqrt();
                let sin = cos * t;
                for side in [&mut *x, &mut *follow] {
                    let (first, second) = side.split_at_mut(j);
                    for (u, v) in first[i].iter_mut().zip(&mut second[0]) {
                        (*u, *v) = (cos * *u - sin * *v, sin * *u + cos * *v);
                    }
                }
            }
        }
        if worst < 1e-10 {
            return;
        }
    }
}

/// Codes in the direction of `x`: of all steps tried the one that keeps most of it, weighted by `moments`.
fn codes(x: &[f64], moments: Option<&[f64]>, bits: u32) -> Vec<i16> {
    let sign = |v: &f64| if *v < 0.0 { -1 } else { 1 };
    if bits == 1 {
        return x.iter().map(sign).collect();
    }
    let top = largest(bits) as f64;
    let most = x.iter().fold(0f64, |m, v| m.max(v.abs()));
    let mut best = (f64::NEG_INFINITY, Vec::new());
    for s in 1..=STEPS {
        let step = most / top * s as f64 / (STEPS - 2) as f64;
        if step <= 0.0 {
            break;
        }
        // Codes are odd: the nearest odd number.
        let q: Vec<i16> = x.iter().map(|v| (2.0 * (v / (2.0 * step)).floor() + 1.0).clamp(-top, top) as i16).collect();
        let (mut up, mut norm) = (0.0, 0.0);
        for (i, (x, q)) in x.iter().zip(&q).enumerate() {
            let (d, q) = (moments.map_or(1.0, |m| m[i]), f64::from(*q));
            up += d * x * q;
            norm += d * q * q;
        }
        if up * up / norm > best.0 {
            best = (up * up / norm, q);
        }
    }
    if best.1.is_empty() {
        return x.iter().map(sign).collect();
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(rank: usize, rows: usize, cols: usize) -> Target {
        let mut s = 7u64;
        let mut next = || {
            s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (s >> 40) as f64 / f64::from(1 << 23) - 1.0
        };
        let a = (0..rank).map(|_| (0..cols).map(|_| next()).collect()).collect();
        let b = (0..rank).map(|k| (0..rows).map(|_| next() / (k + 1) as f64).collect()).collect();
        let moments = (0..cols).map(|_| 1.5 + next()).collect();
        Target { a, b, moments }
    }

    #[test]
    fn ordering_keeps_the_branch() {
        let mut t = target(5, 30, 40);
        let at = |t: &Target, r: usize, c: usize| t.a.iter().zip(&t.b).map(|(a, b)| a[c] * b[r]).sum::<f64>();
        let (before, energy) = (at(&t, 7, 11), t.energy());
        t.order_by_size();
        assert!((at(&t, 7, 11) - before).abs() < 1e-9);
        assert!((t.energy() / energy - 1.0).abs() < 1e-9);
        let sizes: Vec<f64> = t.a.iter().zip(&t.b).map(|(a, b)| dot(b, b) * t.weighted(a, a)).collect();
        assert!(sizes.windows(2).all(|w| w[0] >= w[1]), "{sizes:?}");
        assert!((sizes.iter().sum::<f64>() / energy - 1.0).abs() < 1e-9);
    }

    #[test]
    fn more_bits_and_more_terms_are_closer() {
        let t = target(4, 48, 64);
        let energy = t.energy();
        let left = |bits, terms| t.fits(bits, terms).last().unwrap().error / energy;
        let full: Vec<f64> = [1, 2, 4, 8].into_iter().map(|bits| left(bits, 4)).collect();
        assert!(full.windows(2).all(|w| w[1] < w[0]), "{full:?}");
        assert!(full[3] < 1e-4 && full[2] < 0.01 && full[1] < 0.15 && full[0] < 0.6, "{full:?}");
        let fits = t.fits(1, 12);
        assert!(fits.windows(2).all(|w| w[1].error < w[0].error));
        assert!(fits.last().is_some_and(|f| f.error / energy < 0.25));
    }

    #[test]
    fn nothing_gives_no_terms() {
        let mut t = target(2, 6, 5);
        t.b.iter_mut().flatten().for_each(|v| *v = 0.0);
        t.order_by_size();
        assert!(t.fits(4, 3).is_empty());
    }
}
