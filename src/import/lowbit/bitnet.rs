//! BitNet: packed ternary codes, and norms on the input of single projections.

use super::{Found, Role, Wanted};
use crate::error::{Error, Result};
use crate::import::checkpoint::Checkpoint;
use crate::import::config::Config;
use crate::model::{Native, Norm, NormKind, Source, TensorRef};

/// The settings of `quantization_config`.
pub struct Bitnet {
    /// A `weight_scale` multiplies (autobitlinear) or divides (bitlinear).
    multiplies: bool,
    /// Codes are stored, not masters.
    pub offline: bool,
    use_rms_norm: bool,
    /// Modules that stay float.
    kept: Vec<String>,
    bitnet: bool,
    /// Of `rms_norm` and of `norm` beside a weight.
    eps: [f64; 2],
}

/// Whether projections have norms of their own, as embedding models of the BitNet family do.
pub fn has_module_norms(c: &Checkpoint) -> bool {
    c.find("model.layers.0.self_attn.q_proj.norm.weight").is_some()
}

impl Bitnet {
    pub fn of(c: &Checkpoint) -> Result<Bitnet> {
        let cfg = &c.config;
        let class = cfg.str("quantization_config.linear_class");
        if !matches!(class, None | Some("bitlinear" | "autobitlinear")) {
            let class = class.unwrap_or_default();
            return Err(cfg.error(format!("linear_class `{class}`, bitlinear or autobitlinear is expected")));
        }
        let mut eps = [1e-6; 2];
        for (e, key) in eps.iter_mut().zip(["quantization_config.rms_norm_eps", "rms_norm_eps"]) {
            *e = cfg.f64(key)?.unwrap_or(*e);
            if !(1e-30..=1.0).contains(e) {
                return Err(cfg.error(format!("`{key}` is {e}, a small positive number is expected")));
            }
        }
        let bitnet = cfg.str("quantization_config.quant_method") == Some("bitnet");
        Ok(Bitnet {
            multiplies: class == Some("autobitlinear"),
            offline: bitnet && cfg.str("quantization_config.quantization_mode") != Some("online"),
            bitnet,
            kept: names(cfg, "quantization_config.modules_to_not_convert")?,
            use_rms_norm: cfg.bool("quantization_config.use_rms_norm")?.unwrap_or(false),
            eps,
        })
    }

    /// Two bits a code, four bands of rows in a byte.
    pub fn packed(&self, c: &Checkpoint, w: &Wanted, weight: TensorRef, native: Option<Native>) -> Result<Found> {
        let view = c.view(&weight);
        let here = |e: Error| e.at_file(c.path_of(&weight));
        if !self.offline {
            let what = "holds packed codes, but the configuration does not say quantization_mode `offline`";
            return Err(here(view.error(what)));
        }
        view.expect_shape(&[w.stored_rows.div_ceil(4), w.cols]).map_err(here)?;
        let scale = c.need(&format!("{}.weight_scale", w.module))?;
        let sv = c.view(&scale);
        if sv.elements() != 1 || !sv.dtype.is_float() {
            let what = format!("{} elements of {}, one float is expected", sv.elements(), sv.dtype.name());
            return Err(sv.error(what).at_file(c.path_of(&scale)));
        }
        let source = Source::PackedTernary { scale: scale.clone(), multiplies: self.multiplies };
        let mut found = Found::with(w, weight, source, &[&scale]);
        found.activation = native.and_then(|n| n.activation).filter(|_| w.role != Role::Embedding);
        self.add_input_norm(c, w, &mut found)?;
        Ok(found)
    }

    /// The same codes as floats, with the same scale beside them.
    pub fn unpacked(
        &self,
        c: &Checkpoint,
        w: &Wanted,
        weight: &TensorRef,
        native: Option<Native>,
    ) -> Result<Option<Found>> {
        let Some(scale) = c.find(&format!("{}.weight_scale", w.module)).cloned() else { return Ok(None) };
        let sv = c.view(&scale);
        let here = |e: Error| e.at_file(c.path_of(&scale));
        if !self.bitnet || !self.offline {
            let e = here(sv.error("lies beside float weights, but the configuration does not say what it means"));
            return Err(e.hint("BitNet codes have `quant_method` `bitnet` with quantization_mode `offline`"));
        }
        if sv.elements() != 1 || !sv.dtype.is_float() {
            let what = format!("{} elements of {}, one float is expected", sv.elements(), sv.dtype.name());
            return Err(here(sv.error(what)));
        }
        let source = Source::FloatCodes { scale: scale.clone(), multiplies: self.multiplies };
        let mut found = Found::with(w, weight.clone(), source, &[&scale]);
        found.activation = native.and_then(|n| n.activation).filter(|_| w.role != Role::Embedding);
        self.add_input_norm(c, w, &mut found)?;
        Ok(Some(found))
    }

    /// Whether the configuration lists this module among those that stay float.
    pub fn keeps_float(&self, w: &Wanted) -> bool {
        let below =
            |k: &String| w.module.strip_prefix(k.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.kept.iter().any(|k| below(k) || w.module.rsplit('.').next() == Some(k))
    }

    /// The norm that a projection has on its input, if it has one or should have one.
    pub fn add_input_norm(&self, c: &Checkpoint, w: &Wanted, found: &mut Found) -> Result<()> {
        let names = ["rms_norm", "norm"].map(|n| format!("{}.{n}.weight", w.module));
        let promised = self.use_rms_norm && w.role == Role::Projection;
        let at = match names.iter().position(|n| c.find(n).is_some()) {
            Some(i) => i,
            None if promised => 0,
            None => return Ok(()),
        };
        let gain = c.need_float(&names[at], &[w.cols])?;
        found.used.push(gain.clone());
        let (weight, eps) = (vec![gain], self.eps[at]);
        found.input_norm = Some(Norm { kind: NormKind::Rms, len: w.cols, weight, bias: None, eps, plus_one: false });
        Ok(())
    }
}

/// A list of names; absent counts as empty.
fn names(cfg: &Config, key: &str) -> Result<Vec<String>> {
    let bad = |v: &serde_json::Value| cfg.error(format!("`{key}` is {v}, a list of module names is expected"));
    match cfg.get(key) {
        None => Ok(Vec::new()),
        Some(v) => {
            let list = v.as_array().ok_or_else(|| bad(v))?;
            list.iter().map(|n| n.as_str().map(str::to_string).ok_or_else(|| bad(v))).collect()
        }
    }
}
