//! How the matrices of a checkpoint are stored. The configuration is asked first, then what lies beside a weight.
//!
//! Readers of architectures know which matrix they want; only this room knows in which form it lies in the file. Where neither configuration
//! nor neighbours say anything, [`finish`] looks at the values when the model is known.

mod bitnet;
mod detect;
mod gemma;
mod mlx;
mod qat;
mod refuse;
mod siblings;

pub use detect::{finish, Hints};
pub use refuse::{refuse, refuse_folder};

use super::checkpoint::Checkpoint;
use super::config::Config;
use crate::encoding::blocks::Block;
use crate::error::{Error, Result};
use crate::model::{ActivationRule, Matrix, Native, Norm, RowOrder, Source, TensorRef, Unit, WeightRule};
use crate::tensor::{DType, TensorView};

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
    /// What was asked for, in this tensor and with this source; nothing around it.
    fn of(w: &Wanted, weight: TensorRef, source: Source) -> Found {
        Found::plain(Matrix {
            order: w.order,
            transposed: w.transposed,
            source,
            ..Matrix::float(weight, w.rows, w.cols)
        })
    }

    /// As [`Found::of`], with other tensors that have a meaning now.
    fn with(w: &Wanted, weight: TensorRef, source: Source, used: &[&TensorRef]) -> Found {
        let mut found = Found::of(w, weight, source);
        found.used.extend(used.iter().map(|r| (*r).clone()));
        found
    }

    /// A matrix with nothing around it.
    fn plain(matrix: Matrix) -> Found {
        let used = vec![matrix.tensor.clone()];
        Found { matrix, input_norm: None, input_factor: None, activation: None, output_norm: None, used }
    }
}

/// How a checkpoint stores its matrices.
pub struct LowBit {
    /// What the checkpoint was trained for; None: floats, or what only the matrices themselves tell.
    pub native: Option<Native>,
    bitnet: bitnet::Bitnet,
    method: Method,
}

/// What the configuration says about the form of matrices.
enum Method {
    /// Nothing, or BitNet, or the masters of our training scripts.
    Masters,
    Mlx(mlx::Settings),
    Gemma(gemma::Settings),
}

impl LowBit {
    /// Reads the quantization entries of the configuration. `assume_bitnet`: the architecture exists only as W1.58A8, so that without any
    /// entry the weights are masters of it.
    ///
    /// # Errors
    /// `Unsupported` for methods that are not read, `Input` for settings that make no sense.
    pub fn of(c: &Checkpoint, assume_bitnet: bool) -> Result<LowBit> {
        let (native, method) = read(c, assume_bitnet)?;
        Ok(LowBit { native, bitnet: bitnet::Bitnet::of(c)?, method })
    }

    /// Finds a matrix and checks type and shape of everything that belongs to it.
    ///
    /// # Errors
    /// `Input` with file, tensor and offset; `Unsupported` for forms that are known but not read.
    pub fn matrix(&self, c: &Checkpoint, w: &Wanted) -> Result<Found> {
        refuse::siblings(c, w.module)?;
        let weight = c.need(&format!("{}.weight", w.module))?;
        let view = c.view(&weight);
        let here = |e: Error| e.at_file(c.path_of(&weight));
        match &self.method {
            Method::Mlx(m) if view.dtype == DType::U32 => return m.matrix(c, w, weight),
            Method::Gemma(g) if matches!(view.dtype, DType::U8 | DType::I8) => return g.matrix(c, w, weight),
            _ => {}
        }
        match view.dtype {
            DType::U8 => return self.bitnet.packed(c, w, weight, self.native),
            DType::I8 => return siblings::sign_bits(c, w, weight),
            t if !t.is_float() => {
                let what = format!("holds {}, a float type or packed U8 is expected", t.name());
                let hint = "if these are packed codes, `config.json` must say of which method";
                return Err(here(view.error(what)).hint(hint));
            }
            _ => {}
        }
        let shape = if w.transposed { [w.cols, w.stored_rows] } else { [w.stored_rows, w.cols] };
        view.expect_shape(&shape).map_err(here)?;
        if let DType::Block(block) = view.dtype {
            let mut found = blocks(w, weight, &view, block, self.native);
            self.bitnet.add_input_norm(c, w, &mut found)?;
            return Ok(found);
        }
        if let Some(found) = siblings::find(c, w, &weight)? {
            return Ok(found);
        }
        if let Some(found) = self.bitnet.unpacked(c, w, &weight, self.native)? {
            return Ok(found);
        }
        let kept = self.bitnet.keeps_float(w);
        // What a GGUF file holds is final, whatever its type.
        let gguf = self.bitnet.offline && c.config.str("bitnet_convert.source") == Some("gguf");
        if self.bitnet.offline && w.role == Role::Projection && !kept && !gguf {
            return Err(here(view.error(format!(
                "holds {}, packed uint8 codes are expected with quantization_mode `offline`",
                view.dtype.name()
            ))));
        }
        let source = match (w.role, self.native) {
            (_, None) => Source::Float,
            (Role::Projection, Some(n)) if !kept => n.weight.map_or(Source::Float, Source::Master),
            (Role::Embedding | Role::Head, Some(n)) if n.int8_embedding => Source::Int8Rows,
            _ => Source::Float,
        };
        let activation = match (&source, w.role) {
            (Source::Float, Role::Projection) if gguf => self.native.and_then(|n| n.activation),
            (Source::Float, _) | (_, Role::Embedding) => None,
            (Source::Int8Rows, _) => self.tied_activation(),
            _ => self.native.and_then(|n| n.activation),
        };
        let mut found = Found::of(w, weight, source);
        found.activation = activation;
        self.bitnet.add_input_norm(c, w, &mut found)?;
        Ok(found)
    }

    /// How the input of a head is rounded whose weight is the embedding.
    pub fn tied_activation(&self) -> Option<ActivationRule> {
        // An int8 head has an int8 input, whatever the blocks were trained with.
        self.native.filter(|n| n.int8_embedding).map(|_| ActivationRule::Absmax8)
    }
}

/// A matrix in the blocks of a GGUF file: codes and scales where all of it is binary or ternary and all scales are positive, else floats.
fn blocks(w: &Wanted, weight: TensorRef, view: &TensorView, block: Block, native: Option<Native>) -> Found {
    let elements = view.elements();
    let unit = match block.scale_unit(elements) {
        Some(u) if u == elements => Some(Unit::Tensor),
        Some(u) if w.cols.is_multiple_of(u) => Some(Unit::Group(u)),
        _ => None,
    };
    let positive = |unit: &Unit| {
        let n = match unit {
            Unit::Group(u) => elements / u,
            _ => 1,
        };
        (0..n).all(|i| block.scale(view.data, i) >= 0.0)
    };
    let Some(unit) = unit.filter(|u| block.first_invalid(view.data).is_none() && positive(u)) else {
        return Found::of(w, weight, Source::Float);
    };
    let mut found = Found::of(w, weight, Source::Blocks { binary: block.is_binary(), unit });
    if w.role != Role::Embedding {
        found.activation = native.and_then(|n| n.activation);
    }
    found
}

/// Codes with float activations.
const WEIGHT_ONLY: Native = Native { weight: None, activation: None, int8_embedding: false };

/// What the checkpoint was trained for, if it says so, and how its matrices are stored.
fn read(c: &Checkpoint, assume_bitnet: bool) -> Result<(Option<Native>, Method)> {
    let cfg: &Config = &c.config;
    let w158a8 = |weight| Native { weight, activation: Some(ActivationRule::Absmax8), int8_embedding: false };
    if cfg.get("qat_config").is_some() {
        return Ok((Some(qat::native(cfg)?), Method::Masters));
    }
    if let Some(m) = mlx::Settings::of(cfg)? {
        return Ok((None, Method::Mlx(m)));
    }
    let native = match cfg.str("quantization_config.quant_method") {
        Some("bitnet") => {
            let online = match cfg.str("quantization_config.quantization_mode") {
                None | Some("offline") => false,
                Some("online") => true,
                Some(m) => return Err(cfg.error(format!("quantization_mode `{m}`, `offline` or `online` is expected"))),
            };
            Some(w158a8(online.then_some(WeightRule::TernaryAbsmean)))
        }
        Some("gemma") => return Ok((None, Method::Gemma(gemma::Settings::of(cfg)?))),
        // Quantized values in dense tensors: found by their values. Masters were refused.
        Some("edgerazor") => None,
        Some(m) => return Err(refuse::method(m).at_file(&cfg.path)),
        None if cfg.get("quantization_config").is_some() || cfg.get("quantization").is_some() => {
            let what = "a quantization entry without a known `quant_method` is not supported";
            return Err(Error::unsupported(what).at_file(&cfg.path));
        }
        None if assume_bitnet || bitnet::has_module_norms(c) => Some(w158a8(Some(WeightRule::TernaryAbsmean))),
        None => None,
    };
    Ok((native, Method::Masters))
}
