//! Matrices and norms with their weights in memory.

use super::rows::{self, Rows};
use crate::error::{Error, Result};
use crate::model::{self, ActivationRule, Model, NormKind};
use candle_core::Tensor;

/// The values of a matrix, `[rows, cols]`; low-bit sources give code times scale.
///
/// # Errors
/// `Input` with file, tensor and offset for values that cannot be read.
pub fn weights(m: &Model, matrix: &model::Matrix) -> Result<Tensor> {
    let reader = m.rows(matrix)?;
    let mut data = vec![0.0; matrix.rows * matrix.cols];
    for (r, row) in data.chunks_exact_mut(matrix.cols.max(1)).enumerate() {
        reader.read(r, row)?;
    }
    rows::matrix(matrix.rows, matrix.cols, data)
}

/// A normalisation with its gains.
pub struct Norm {
    kind: NormKind,
    len: usize,
    eps: f32,
    gain: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
}

impl Norm {
    /// For vectors of `n` values.
    ///
    /// # Errors
    /// `Input` if the gains do not fit `n`.
    pub fn load(m: &Model, norm: &model::Norm, n: usize) -> Result<Norm> {
        let misfit = |what: String| {
            let e = Error::input(what);
            match norm.weight.first() {
                Some(r) => e.at_tensor(&r.name).at_file(m.file_of(r)),
                None => e,
            }
        };
        if norm.len == 0 || !n.is_multiple_of(norm.len) {
            return Err(misfit(format!("a norm over {} values, the vector has {n}", norm.len)));
        }
        let gain = m.gains(norm, n)?;
        let bias = match &norm.bias {
            Some(r) => Some(m.values(r)?.iter().copied().cycle().take(n).collect::<Vec<f32>>()),
            None => None,
        };
        if [&gain, &bias].into_iter().flatten().any(|v| v.len() != n) {
            return Err(misfit("a norm without values".into()));
        }
        Ok(Norm { kind: norm.kind, len: norm.len, eps: norm.eps as f32, gain, bias })
    }

    /// LayerNorm of the whole vector, without gain.
    fn plain(n: usize, eps: f64) -> Norm {
        Norm { kind: NormKind::Layer, len: n.max(1), eps: eps as f32, gain: None, bias: None }
    }

    pub fn apply(&self, x: &mut Rows) {
        for row in x.iter_mut() {
            row.chunks_exact_mut(self.len).for_each(|g| self.group(g));
            if let Some(gain) = &self.gain {
                row.iter_mut().zip(gain).for_each(|(v, g)| *v *= g);
            }
            if let Some(bias) = &self.bias {
                row.iter_mut().zip(bias).for_each(|(v, b)| *v += b);
            }
        }
    }

    pub fn of(&self, x: &Rows) -> Rows {
        let mut x = x.clone();
        self.apply(&mut x);
        x
    }

    /// Sums run in f64, so that their order does not matter at the precision of f32.
    fn group(&self, g: &mut [f32]) {
        let n = g.len() as f64;
        if self.kind == NormKind::Layer {
            let mean = (g.iter().map(|v| f64::from(*v)).sum::<f64>() / n) as f32;
            g.iter_mut().for_each(|v| *v -= mean);
        }
        let square = (g.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>() / n) as f32;
        let factor = 1.0 / (square + self.eps).sqrt();
        g.iter_mut().for_each(|v| *v *= factor);
    }
}

/// A matrix with what belongs to it.
pub struct Linear {
    name: String,
    cols: usize,
    weight: Tensor,
    bias: Option<Vec<f32>>,
    input_norm: Option<Norm>,
    input_factor: Option<Vec<f32>>,
    activation: Option<ActivationRule>,
    output_norm: Option<Norm>,
    /// A and B of an adapter, `[rank, cols]` and `[rows, rank]`.
    branch: Option<(Tensor, Tensor)>,
}

impl Linear {
    /// # Errors
    /// `Input` for weights that cannot be read or do not fit together.
    pub fn load(m: &Model, l: &model::Linear) -> Result<Linear> {
        Linear::with(m, l, weights(m, &l.weight)?)
    }

    /// With a matrix that is in memory already: a head that is the embedding.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn with(m: &Model, l: &model::Linear, weight: Tensor) -> Result<Linear> {
        let (rows, cols) = (l.weight.rows, l.weight.cols);
        let bias = l.bias.as_ref().map(|b| m.vector(b)).transpose()?;
        let input_factor = l.input_factor.as_ref().map(|r| m.values(r)).transpose()?;
        for (what, v, want) in [("bias", &bias, rows), ("input factor", &input_factor, cols)] {
            if let Some(v) = v.as_ref().filter(|v| v.len() != want) {
                return Err(Error::input(format!(
                    "the {what} of `{}` has {} values, {want} are needed",
                    l.name,
                    v.len()
                ))
                .at_file(m.file_of(&l.weight.tensor)));
            }
        }
        let branch = match m.adapter.as_ref().and_then(|a| a.of(&l.name)) {
            Some(s) if (s.rows, s.cols) == (rows, cols) => {
                Some((rows::matrix(s.rank, cols, s.a.clone())?, rows::matrix(rows, s.rank, s.b.clone())?))
            }
            Some(_) => return Err(Error::input(format!("the adapter's branch of `{}` has another shape", l.name))),
            None => None,
        };
        Ok(Linear {
            branch,
            name: l.name.clone(),
            cols,
            weight,
            bias,
            input_norm: l.input_norm.as_ref().map(|n| Norm::load(m, n, cols)).transpose()?,
            input_factor,
            activation: l.activation,
            output_norm: l.output_norm.map(|eps| Norm::plain(rows, eps)),
        })
    }

    /// # Errors
    /// `Input` if the vectors have another length than the matrix takes.
    pub fn apply(&self, x: &Rows) -> Result<Rows> {
        if x.width != self.cols {
            let what = format!("`{}` takes vectors of {} values and is given {}", self.name, self.cols, x.width);
            return Err(Error::input(what).hint("the parts of the checkpoint do not belong together"));
        }
        let mut x = x.clone();
        if let Some(n) = &self.input_norm {
            n.apply(&mut x);
        }
        if let Some(f) = &self.input_factor {
            x.iter_mut().for_each(|row| row.iter_mut().zip(f).for_each(|(v, f)| *v *= f));
        }
        let side = match &self.branch {
            Some((a, b)) => Some(rows::product_transposed(rows::product_transposed(x.clone(), a)?, b)?),
            None => None,
        };
        if let Some(rule) = self.activation {
            x.iter_mut().for_each(|row| rows::round_activations(rule, row));
        }
        let mut y = rows::product_transposed(x, &self.weight)?;
        if let Some(side) = &side {
            y.add(side, 1.0)?;
        }
        if let Some(n) = &self.output_norm {
            n.apply(&mut y);
        }
        if let Some(bias) = &self.bias {
            y.iter_mut().for_each(|row| row.iter_mut().zip(bias).for_each(|(v, b)| *v += b));
        }
        Ok(y)
    }
}
