//! Affine groups in 32-bit words, as MLX writes them: value = scale * code + offset.

use super::{Found, Wanted};
use crate::error::{Error, Result};
use crate::import::checkpoint::Checkpoint;
use crate::import::config::Config;
use crate::model::{Source, TensorRef};
use serde_json::Value;

/// `quantization` of the configuration.
pub struct Settings {
    group: usize,
    bits: u32,
    /// Entries of single modules: other settings, or false for floats.
    modules: serde_json::Map<String, Value>,
    path: std::path::PathBuf,
}

impl Settings {
    /// None if the configuration has no such entry.
    pub fn of(cfg: &Config) -> Result<Option<Settings>> {
        let written = |k: &&str| cfg.get(k).is_some_and(|q| q.get("bits").is_some() && q.get("group_size").is_some());
        // Uploads have the entry under one name or under both; a `quant_method` means another format.
        let Some(key) = ["quantization", "quantization_config"].into_iter().find(|k| written(k)) else {
            return Ok(None);
        };
        if cfg.get("quantization_config.quant_method").is_some() {
            return Ok(None);
        }
        if let Some(mode) = cfg.str(&format!("{key}.mode")).filter(|m| *m != "affine") {
            return Err(
                Error::unsupported(format!("quantization mode `{mode}`, only `affine` is read")).at_file(&cfg.path)
            );
        }
        let modules = cfg.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        let (group, bits) = numbers(&Value::Object(modules.clone())).map_err(|e| cfg.error(format!("`{key}`: {e}")))?;
        Ok(Some(Settings { group, bits, modules, path: cfg.path.clone() }))
    }

    pub fn matrix(&self, c: &Checkpoint, w: &Wanted, weight: TensorRef) -> Result<Found> {
        let view = c.view(&weight);
        let here = |e: Error| e.at_file(c.path_of(&weight));
        // Overrides are written with the names of the file.
        let module = weight.name.strip_suffix(".weight").unwrap_or(&weight.name);
        let (group, bits) = match self.modules.get(module) {
            None | Some(Value::Bool(true)) => (self.group, self.bits),
            Some(Value::Bool(false)) => {
                return Err(here(
                    view.error("holds packed codes, but the configuration says that this module is not quantized"),
                ))
            }
            Some(v) => numbers(v)
                .map_err(|e| Error::input(format!("`quantization` of `{module}`: {e}")).at_file(&self.path))?,
        };
        if !w.cols.is_multiple_of(group) || !(w.cols * bits as usize).is_multiple_of(32) {
            let what = format!("{} columns are no whole groups of {group} in words of {bits}-bit codes", w.cols);
            return Err(here(view.error(what)));
        }
        view.expect_shape(&[w.stored_rows, w.cols * bits as usize / 32]).map_err(here)?;
        let groups = [w.stored_rows, w.cols / group];
        let scales = c.need_float(&format!("{}.scales", w.module), &groups)?;
        let biases = c.need_float(&format!("{}.biases", w.module), &groups)?;
        let low_bit = self::low_bit(c, &weight, &scales, &biases, bits)?;
        let source = Source::Affine { bits, group, scales: scales.clone(), biases: biases.clone(), low_bit };
        Ok(Found::with(w, weight, source, &[&scales, &biases]))
    }
}

fn numbers(v: &Value) -> std::result::Result<(usize, u32), String> {
    let number = |k: &str, range: std::ops::RangeInclusive<u64>| {
        let n = v.get(k).and_then(Value::as_u64).filter(|n| range.contains(n));
        let found = || v.get(k).map_or("absent".to_string(), Value::to_string);
        n.ok_or_else(|| format!("`{k}` is {}, {} to {} is expected", found(), range.start(), range.end()))
    };
    Ok((number("group_size", 1..=1 << 20)? as usize, number("bits", 1..=8)? as u32))
}

/// Whether all groups are symmetric: -s and s, or -s, 0 and s.
fn low_bit(
    c: &Checkpoint,
    weight: &TensorRef,
    scales: &TensorRef,
    biases: &TensorRef,
    bits: u32,
) -> Result<Option<bool>> {
    let half = match bits {
        1 => 0.5,
        2 => 1.0,
        _ => return Ok(None),
    };
    let read = |r: &TensorRef| c.view(r).to_f32().map_err(|e| e.at_file(c.path_of(r)));
    let (s, b) = (read(scales)?, read(biases)?);
    let symmetric = s.iter().zip(&b).all(|(s, b)| *s >= 0.0 && *b == -s * half);
    if !symmetric {
        return Ok(None);
    }
    // A code 3 makes it 2-bit; words have no padding, so each pair of bits is a code.
    let three = |byte: &u8| byte & byte >> 1 & 0x55 != 0;
    let ternary = bits == 1 || !c.view(weight).data.iter().any(three);
    Ok(ternary.then_some(bits == 1))
}
