//! Gemma for phones (`quant_method` `gemma`): small codes along the columns with a scale for each row.

use super::{Found, Wanted};
use crate::error::{Error, Result};
use crate::import::checkpoint::Checkpoint;
use crate::import::config::Config;
use crate::model::{Source, TensorRef};
use crate::tensor::DType;
use serde_json::Value;

/// Widths that the configuration announces for any module; which one a module has follows from its shape.
pub struct Settings {
    bits: Vec<u64>,
}

impl Settings {
    pub fn of(cfg: &Config) -> Result<Settings> {
        let entry = |k: &str| cfg.get(&format!("quantization_config.{k}"));
        let mut found: Vec<&Value> = entry("num_bits").into_iter().collect();
        if let Some(modules) = entry("module_quant_configs") {
            let modules = modules.as_object();
            let modules = modules.ok_or_else(|| cfg.error("`module_quant_configs` is no object of modules"))?;
            found.extend(modules.values().filter_map(|m| m.get("num_bits")));
        }
        let width = |v: &Value| v.as_u64().filter(|b| [2, 4, 8].contains(b));
        let bad = |v: &Value| cfg.error(format!("`num_bits` is {v}, 2, 4 or 8 is expected"));
        let bits = found.into_iter().map(|v| width(v).ok_or_else(|| bad(v))).collect::<Result<Vec<_>>>()?;
        if bits.is_empty() {
            return Err(cfg.error("`quant_method` is `gemma`, but no `num_bits` is given"));
        }
        Ok(Settings { bits })
    }

    pub fn matrix(&self, c: &Checkpoint, w: &Wanted, weight: TensorRef) -> Result<Found> {
        let view = c.view(&weight);
        let here = |e: Error| e.at_file(c.path_of(&weight));
        let fits = |bits: &u32| view.shape == [w.stored_rows, (w.cols * *bits as usize).div_ceil(8)];
        let bits = [2u32, 4, 8].into_iter().find(fits).filter(|b| self.bits.contains(&u64::from(*b)));
        let Some(bits) = bits.filter(|b| *b != 8 || view.dtype == DType::I8) else {
            let what = format!(
                "has shape {:?}, which is none of the announced {:?} bits for {} x {}",
                view.shape, self.bits, w.stored_rows, w.cols
            );
            return Err(here(view.error(what)));
        };
        let scale = c.need_float(&format!("{}.weight_scale", w.module), &[w.stored_rows, 1])?;
        let source = Source::RowCodes { bits, scale: scale.clone() };
        let mut found = Found::with(w, weight, source, &[&scale]);
        for side in ["input", "output"] {
            let name = format!("{}.{side}_activation_scale", w.module);
            let Some(r) = c.find(&name).cloned() else { continue };
            let values = c.view(&r).to_f32().map_err(|e| e.at_file(c.path_of(&r)))?;
            if values.iter().any(|v| *v != 0.0) {
                let what = format!("the {side} of this layer is rounded to a fixed grid, which is not supported");
                return Err(Error::unsupported(what).at_tensor(&r.name).at_file(c.path_of(&r)));
            }
            found.used.push(r);
        }
        Ok(found)
    }
}
