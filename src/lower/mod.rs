//! Model to program, once. Below this point there are no floats.

mod blocks;
mod kernel;
mod settings;
mod weights;

pub use kernel::Kernels;
pub use weights::{produce, static_keys_bytes, Produced};

use crate::encoding::fixed::Scale;
use crate::error::{Error, Result};
use crate::kernels::attention::AttentionShape;
use crate::limits::MAX_WINDOW;
use crate::model::{ActivationRule, Kind, Matrix, Model, Norm, TensorRef, Vector, WeightRule};
use crate::program::{Program, ScaleMode};

/// What projections become when the user chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightChoice {
    LowBit(WeightRule),
    /// Integers of 8 or 16 bits with a scale for each row: for models that were not trained for low bits.
    Rows(u32),
}

impl WeightChoice {
    pub fn name(self) -> &'static str {
        match self {
            WeightChoice::LowBit(r) => r.name(),
            WeightChoice::Rows(8) => "int8 rows",
            WeightChoice::Rows(_) => "int16 rows",
        }
    }
}

/// How the rows of a head may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    Int16,
    Int8,
    Int4,
    /// int4 values as bit planes, for the table kernel; its input has 8 bits.
    Planes4,
}

/// What the user may choose. None means: what the checkpoint was trained for, or the target's default.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub weight: Option<WeightChoice>,
    pub weight_scales: ScaleMode,
    pub activation: Option<ActivationRule>,
    /// Bits of the embedding's and the head's rows: 4, 8 or 16. None: 8 where the source was trained so, else [`Options::embedding_default`].
    pub embedding_bits: Option<u32>,
    pub embedding_default: u32,
    /// Slots of the window; None: the context length of the source.
    pub window: Option<usize>,
    pub sinks: usize,
    pub kv_bits: u32,
    /// How the head's rows are stored, where not like the embedding's.
    pub head: Option<Head>,
    /// What the device offers for low-bit matrices.
    pub kernels: Kernels,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            weight: None,
            weight_scales: ScaleMode::One,
            activation: None,
            embedding_bits: None,
            embedding_default: 16,
            window: None,
            sinks: 4,
            kv_bits: 16,
            head: None,
            kernels: Kernels::default(),
        }
    }
}

/// Where the bytes of a tensor come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Origin {
    /// A matrix that becomes low-bit; without a rule its codes are carried over.
    LowBit {
        weight: Matrix,
        rule: Option<WeightRule>,
    },
    /// A matrix whose rows become integers; row 0 of `plus` is added to each row before.
    Rows {
        weight: Matrix,
        plus: Option<Matrix>,
    },
    Constants(Constants),
    /// Turns per position, and the factor of channels that are not rotated.
    Frequencies(Vec<u32>, Scale),
    /// Known only after calibration, appended last.
    StaticKeys,
}

/// Small vectors that become integers with a common power of two.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Constants {
    /// Gains of a norm over a vector of so many elements.
    Gains(Norm, usize),
    Bias(Vector),
    Tensor(TensorRef),
    Values(Vec<f32>),
}

/// A program whose weights are still in the checkpoint.
pub struct Lowered {
    pub program: Program,
    pub(crate) origins: Vec<Origin>,
    /// Settings in force, for the manifest and the report.
    pub weight_rule: String,
    pub activation_rule: ActivationRule,
    pub native: bool,
    pub warnings: Vec<String>,
}

/// Makes the program. No weight is read yet; all sizes are known.
///
/// # Errors
/// `Usage` if a float checkpoint comes without settings or the options contradict each other; `Unsupported` for what cannot be lowered
/// and for shapes beyond the limits.
pub fn lower(model: &Model, options: &Options) -> Result<Lowered> {
    refuse(model)?;
    let mut settings = settings::settings(model, options)?;
    let positions = model.positions.as_ref().map_or(0, |p| p.table.rows - p.offset);
    let encoder = model.kind == Kind::Encoder;
    let mut window = options.window.unwrap_or(model.context.min(MAX_WINDOW));
    let mut sinks = options.sinks;
    if encoder {
        sinks = 0;
    }
    if positions > 0 {
        window = window.min(positions);
        sinks = sinks.min(window.saturating_sub(1));
    }
    if model.layers.iter().any(|l| l.attn.norm_after_rope) {
        // Sinks are seen under another rotation of the query, which a norm behind the rotation does not allow.
        sinks = 0;
    }
    if window == 0 || window > MAX_WINDOW || sinks >= window {
        return Err(Error::usage(format!("a window of {window} slots with {sinks} sinks"))
            .hint(format!("take 1 to {MAX_WINDOW} slots and fewer sinks than slots")));
    }
    // A cap bends scores, so the constant part of a key would no longer cancel.
    let static_keys = options.kv_bits == 4 && !encoder && model.layers.iter().all(|l| l.attn.softcap.is_none());
    let attention = AttentionShape {
        heads: model.heads,
        kv_heads: model.kv_heads,
        head_dim: model.head_dim,
        window,
        sinks,
        k_bits: options.kv_bits,
        v_bits: options.kv_bits,
    };
    let built = blocks::build(model, options, &settings, attention, static_keys)?;
    settings.warnings.extend(built.warnings);
    settings.warnings.extend(model.warnings.iter().cloned());
    let program = Program {
        vocab: model.vocab,
        d_model: model.d_model,
        layers: model.layers.len(),
        attention,
        // Replaced by calibration; 12 bits leave room for activations of half a million.
        residual_frac: 12,
        static_keys,
        key_frac: 0,
        eos: model.eos.clone(),
        bos: model.bos,
        context: model.context,
        positions,
        encoder,
        lut_bytes: built.lut_bytes,
        model_id: 0,
        pairs: false,
        registers: built.registers,
        ops: built.ops,
        head_op: built.head_op,
        tensors: built.tensors,
    };
    crate::program::check::check(&program)?;
    Ok(Lowered {
        program,
        origins: built.origins,
        weight_rule: settings.weight_name,
        activation_rule: settings.activation_name,
        native: settings.carried,
        warnings: settings.warnings,
    })
}

/// What cannot become a program yet, by name.
fn refuse(m: &Model) -> Result<()> {
    if m.audio.is_some() || m.layers.iter().any(|l| l.cross.is_some()) {
        let e = Error::unsupported(format!(
            "{}: a speech model cannot be lowered to an integer program yet",
            m.architecture
        ));
        return Err(e.hint("its float reference runs: `bitnet-convert logits DIR --float`"));
    }
    if m.adapter.is_some() {
        // Added to low-bit weights and rounded again it would be gone.
        return Err(Error::unsupported("an adapter is not lowered with its model, it has a file of its own"));
    }
    if m.layers.is_empty() {
        return Err(Error::input("the model has no layers"));
    }
    Ok(())
}
