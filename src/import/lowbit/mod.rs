//! How the matrices of a checkpoint are stored. The configuration is asked first, then what lies beside a weight.
//!
//! Readers of architectures know which matrix they want; only this room knows in which form it lies in the file.

mod bitnet;
mod qat;

use super::checkpoint::Checkpoint;
use super::config::Config;
use crate::error::{Error, Result};
use crate::model::{ActivationRule, Matrix, Native, Norm, RowOrder, Source, TensorRef, WeightRule};
use crate::tensor::DType;

/// What a matrix does; formats treat the ends of the network in their own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Rows are looked up.
    Embedding,
    /// A matrix of a block, or of anything that is neither end.
    Projection,
    /// Logits, if it has weights of its own.
    Head,
}

/// The matrix that a reader of an architecture asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Name without `.weight`, e.g. `model.layers.0.self_attn.q_proj`.
    pub module: &'a str,
    pub role: Role,
    pub rows: usize,
    pub cols: usize,
    /// Rows of the tensor in the file: more than `rows` if several matrices are fused there.
    pub stored_rows: usize,
    pub order: RowOrder,
    /// Stored as `[cols, stored_rows]`.
    pub transposed: bool,
}

impl<'a> Wanted<'a> {
    /// A tensor that holds this matrix alone.
    pub fn whole(module: &'a str, role: Role, rows: usize, cols: usize) -> Wanted<'a> {
        Wanted { module, role, rows, cols, stored_rows: rows, order: RowOrder::Stored, transposed: false }
    }
}

/// A matrix and what its format puts around it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub matrix: Matrix,
    pub input_norm: Option<Norm>,
    pub input_factor: Option<TensorRef>,
    pub activation: Option<ActivationRule>,
    pub output_norm: Option<f64>,
    /// Every tensor that has a meaning now: weight, scales, norms.
    pub used: Vec<TensorRef>,
}

impl Found {
    /// A matrix with nothing around it.
    fn plain(matrix: Matrix) -> Found {
        let used = vec![matrix.tensor.clone()];
        Found { matrix, input_norm: None, input_factor: None, activation: None, output_norm: None, used }
    }
}

/// How a checkpoint stores its matrices.
pub struct LowBit {
    /// What the checkpoint was trained for; None: floats.
    pub native: Option<Native>,
    bitnet: bitnet::Bitnet,
}

impl LowBit {
    /// Reads the quantization entries of the configuration. `assume_bitnet`: the architecture exists only as W1.58A8, so that without any
    /// entry the weights are masters of it.
    ///
    /// # Errors
    /// `Unsupported` for methods that are not read, `Input` for settings that make no sense.
    pub fn of(c: &Checkpoint, assume_bitnet: bool) -> Result<LowBit> {
        Ok(LowBit { native: native(c, assume_bitnet)?, bitnet: bitnet::Bitnet::of(c)? })
    }

    /// Finds a matrix and checks type and shape of everything that belongs to it.
    ///
    /// # Errors
    /// `Input` with file, tensor and offset.
    pub fn matrix(&self, c: &Checkpoint, w: &Wanted) -> Result<Found> {
        let weight = c.need(&format!("{}.weight", w.module))?;
        let view = c.view(&weight);
        let here = |e: Error| e.at_file(c.path_of(&weight));
        if view.dtype == DType::U8 {
            return self.bitnet.packed(c, w, weight, self.native);
        }
        if self.bitnet.offline && w.role == Role::Projection {
            return Err(here(view.error(format!(
                "holds {}, packed uint8 codes are expected with quantization_mode `offline`",
                view.dtype.name()
            ))));
        }
        if !view.dtype.is_float() {
            return Err(here(
                view.error(format!("holds {}, a float type or packed U8 is expected", view.dtype.name())),
            ));
        }
        let shape = if w.transposed { [w.cols, w.stored_rows] } else { [w.stored_rows, w.cols] };
        view.expect_shape(&shape).map_err(here)?;
        let source = match (w.role, self.native) {
            (_, None) => Source::Float,
            (Role::Projection, Some(n)) => n.weight.map_or(Source::Float, Source::Master),
            (_, Some(n)) if n.int8_embedding => Source::Int8Rows,
            _ => Source::Float,
        };
        let low_bit = source != Source::Float && w.role != Role::Embedding;
        let matrix =
            Matrix { order: w.order, transposed: w.transposed, source, ..Matrix::float(weight, w.rows, w.cols) };
        let mut found = Found::plain(matrix);
        found.activation = self.native.and_then(|n| n.activation).filter(|_| low_bit);
        self.bitnet.add_input_norm(c, w, &mut found)?;
        Ok(found)
    }

    /// How the input of a head is rounded whose weight is the embedding.
    pub fn tied_activation(&self) -> Option<ActivationRule> {
        self.native.filter(|n| n.int8_embedding).and_then(|n| n.activation)
    }
}

/// What the checkpoint was trained for, if it says so.
fn native(c: &Checkpoint, assume_bitnet: bool) -> Result<Option<Native>> {
    let cfg: &Config = &c.config;
    let w158a8 = |weight| Native { weight, activation: Some(ActivationRule::Absmax8), int8_embedding: false };
    if cfg.get("qat_config").is_some() {
        return qat::native(cfg).map(Some);
    }
    match cfg.str("quantization_config.quant_method") {
        Some("bitnet") => {
            let online = match cfg.str("quantization_config.quantization_mode") {
                None | Some("offline") => false,
                Some("online") => true,
                Some(m) => return Err(cfg.error(format!("quantization_mode `{m}`, `offline` or `online` is expected"))),
            };
            Ok(Some(w158a8(online.then_some(WeightRule::TernaryAbsmean))))
        }
        Some(m) => Err(Error::unsupported(format!("quant_method `{m}` is not supported yet, supported is bitnet"))
            .at_file(&cfg.path)),
        None if cfg.get("quantization_config").is_some() || cfg.get("quantization").is_some() => {
            Err(Error::unsupported("a quantization entry without a known `quant_method` is not supported yet")
                .at_file(&cfg.path))
        }
        None if assume_bitnet || bitnet::has_module_norms(c) => Ok(Some(w158a8(Some(WeightRule::TernaryAbsmean)))),
        None => Ok(None),
    }
}
