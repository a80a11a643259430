//! Which weights and activations a program has: what the checkpoint was trained for, or what the user chose, and what that loses.

use super::{Options, WeightChoice};
use crate::encoding::fixed::Scale;
use crate::error::{Error, Result};
use crate::kernels::scalar::QuantRule;
use crate::limits::MAX_QMAX;
use crate::model::{ActivationRule, Form, Linear, Matrix, Model, Unit, WeightRule};
use crate::program::ScaleMode;

/// Settings in force.
pub(super) struct Settings {
    /// The user's choice where it is not what the checkpoint holds anyway.
    pub weight: Option<WeightChoice>,
    /// The user's choice for the input of projections.
    pub activation: Option<ActivationRule>,
    pub weight_name: String,
    pub activation_name: ActivationRule,
    /// Whether weights and activations are those of the training.
    pub carried: bool,
    pub warnings: Vec<String>,
}

/// How one projection is stored in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// Codes of the checkpoint.
    Carried {
        binary: bool,
        scales: ScaleMode,
    },
    Quantized(WeightRule),
    Rows(u32),
}

/// Native settings or the user's; says what is lost when they differ.
pub(super) fn settings(m: &Model, o: &Options) -> Result<Settings> {
    let Some(native) = m.native else {
        let (Some(w), Some(a)) = (o.weight, o.activation) else {
            return Err(Error::usage("this checkpoint holds float weights that were not trained for low bits, so the settings must be given")
                .hint("`--quantize-weight 8 --quantize-activation 16` keeps the model as it is; `--quantize-weight 1.58 --quantize-activation 8` is small, \
but without retraining it damages the model, see `bitnet-convert eval`"));
        };
        let mut warnings = Vec::new();
        if matches!(w, WeightChoice::LowBit(_)) {
            warnings.push(
                "float weights are rounded without calibration or retraining: expect a model that is badly damaged"
                    .into(),
            );
        } else if o.weight_scales != ScaleMode::One {
            return Err(scales_of_rows());
        }
        let weight_name = format!("{}{}", w.name(), scale_suffix(o));
        return Ok(Settings {
            weight: Some(w),
            activation: Some(a),
            weight_name,
            activation_name: a,
            carried: false,
            warnings,
        });
    };
    let mut warnings = Vec::new();
    let mut carried = true;
    let binary = |l: &Linear| matches!(l.weight.source.form(), Form::Codes { binary: true, .. });
    let all_binary = m.projections().all(binary);
    let trained_rule = if all_binary { WeightRule::BinaryMean } else { WeightRule::TernaryAbsmean };
    let weight = match o.weight {
        None => None,
        Some(WeightChoice::LowBit(w)) if w == trained_rule && native.weight.is_none_or(|n| n == w) => None,
        Some(w) => {
            let trained =
                native.weight.map_or(if all_binary { "binary codes" } else { "ternary codes" }, WeightRule::name);
            let what = w.name();
            warnings.push(match w {
                WeightChoice::LowBit(_) => {
                    format!("the checkpoint was trained as {trained}; converting its weights with {what} loses what it learned")
                }
                WeightChoice::Rows(_) => format!("the checkpoint was trained as {trained}; {what} only make it larger"),
            });
            carried = false;
            Some(w)
        }
    };
    if weight.is_none() && o.weight_scales != ScaleMode::One {
        return Err(Error::usage("a native checkpoint has its own weight scales").hint("leave `--weight-scales` out"));
    }
    if matches!(weight, Some(WeightChoice::Rows(_))) && o.weight_scales != ScaleMode::One {
        return Err(scales_of_rows());
    }
    let trained = native.activation.unwrap_or(ActivationRule::Absmax16);
    let activation_name = o.activation.unwrap_or(trained);
    if activation_name != trained {
        carried = false;
        warnings.push(match native.activation {
            Some(n) => format!(
                "the checkpoint was trained with {} activations; {} will change its answers",
                n.name(),
                activation_name.name()
            ),
            None => format!(
                "the checkpoint was trained with float activations; {} will change its answers a little",
                activation_name.name()
            ),
        });
    }
    if let Some(bits) = o.embedding_bits.filter(|bits| native.int8_embedding && *bits != 8) {
        carried = false;
        warnings
            .push(format!("the checkpoint was trained with an int8 embedding; {bits} bits will change its answers"));
    }
    let weight_name = match (weight, native.weight) {
        (Some(w), _) => format!("{}{}", w.name(), scale_suffix(o)),
        (None, Some(n)) => n.name().to_string(),
        (None, None) if all_binary => "binary, stored codes".into(),
        (None, None) => "ternary, stored codes".into(),
    };
    Ok(Settings { weight, activation: o.activation, weight_name, activation_name, carried, warnings })
}

fn scales_of_rows() -> Error {
    Error::usage(
        "`--weight-scales` is for binary and ternary weights; integers of 8 and 16 bits have a scale for each row",
    )
}

fn scale_suffix(options: &Options) -> String {
    match options.weight_scales {
        ScaleMode::One => String::new(),
        ScaleMode::Row => ", scale per row".into(),
        ScaleMode::Group(g) => format!(", scale per {g} columns"),
    }
}

impl Settings {
    /// How a matrix is stored. Codes whose groups the packed format has no place for become 16-bit rows, as do floats in a native checkpoint.
    pub fn stored(&self, w: &Matrix, projection: bool) -> Stored {
        match self.weight.filter(|_| projection) {
            Some(WeightChoice::LowBit(rule)) => return Stored::Quantized(rule),
            Some(WeightChoice::Rows(bits)) => return Stored::Rows(bits),
            None => {}
        }
        match w.source.form() {
            Form::Codes { binary, unit } => match unit {
                Unit::Tensor => Stored::Carried { binary, scales: ScaleMode::One },
                Unit::Row => Stored::Carried { binary, scales: ScaleMode::Row },
                Unit::Group(g) if g % 32 == 0 => Stored::Carried { binary, scales: ScaleMode::Group(g) },
                Unit::Group(_) => Stored::Rows(16),
            },
            Form::Float => Stored::Rows(16),
        }
    }

    /// The rule of a projection's input.
    pub fn input(&self, l: &Linear) -> ActivationRule {
        self.activation.or(l.activation).unwrap_or(ActivationRule::Absmax16)
    }
}

pub(super) fn quant_rule(rule: ActivationRule) -> QuantRule {
    // 1e-5 is the floor of the reference implementations; these are constants, so the conversion cannot fail.
    let floor = Scale::from_f64(f64::from(1e-5f32)).unwrap_or(Scale::ONE);
    match rule {
        ActivationRule::Absmax16 => {
            let most = MAX_QMAX as i32;
            // In place of floats, which have no floor.
            QuantRule { qmax: MAX_QMAX, lo: -most, hi: most, floor: Scale::pow2(-100) }
        }
        ActivationRule::Absmax8 => QuantRule { qmax: 127, lo: -128, hi: 127, floor },
        ActivationRule::Absmax4 => QuantRule { qmax: 7, lo: -8, hi: 7, floor },
        ActivationRule::Absmax2 => QuantRule { qmax: 2, lo: -2, hi: 1, floor },
    }
}
