//! Rotary embeddings: base, share of the head, scaling, factors that were stored as tensors.

use super::arch::Family;
use super::config::Facts;
use crate::error::{Error, Result};
use crate::format::gguf::Metadata;
use crate::format::File;
use serde_json::{json, Map, Value};

/// Adds what `config.json` says about positions. Factors for each frequency (llama3 scaling is stored so) become
/// `rope_parameters: {"rope_type": "factors", "factors": […]}`: frequency k is divided by factor k.
pub fn rope(family: &Family, facts: &Facts, meta: &Metadata, files: &[File], c: &mut Map<String, Value>) -> Result<()> {
    if family.model_type == "gpt2" {
        return Ok(());
    }
    let key = |name: &str| format!("{}.rope.{name}", family.name);
    let theta = meta.f64(&key("freq_base"))?.unwrap_or(10_000.0);
    let width = meta.u64(&key("dimension_count"))?.unwrap_or(facts.head_dim as u64) as usize;
    if width == 0 || width > facts.head_dim || !width.is_multiple_of(2) {
        let what = format!(
            "`{}` is {width}, an even number up to the head's {} is expected",
            key("dimension_count"),
            facts.head_dim
        );
        return Err(Error::input(what));
    }
    let share = width as f64 / facts.head_dim as f64;
    if family.model_type == "gpt_neox" {
        c.insert("rotary_emb_base".into(), json!(theta));
        c.insert("rotary_pct".into(), json!(share));
    } else {
        c.insert("rope_theta".into(), json!(theta));
        let partial = matches!(family.model_type, "phi" | "stablelm") || share != 1.0;
        if partial {
            c.insert("partial_rotary_factor".into(), json!(share));
        }
    }
    let factors = |name: &str| factors(files, name, width / 2);
    let kind = meta.str(&key("scaling.type"))?;
    let (long, short) = (factors("rope_factors_long.weight")?, factors("rope_factors_short.weight")?);
    let single = factors("rope_freqs.weight")?;
    let factor = match meta.f64(&key("scaling.factor"))? {
        Some(f) => Some(f),
        None => meta.f64(&key("scale_linear"))?,
    };
    let original = meta.u64(&key("scaling.original_context_length"))?.filter(|n| *n > 0);
    let strength = meta.f64(&key("scaling.attn_factor"))?;
    if factor.is_some_and(|f| f <= 0.0) || strength.is_some_and(|f| f <= 0.0) {
        return Err(Error::input("the factors of the rotary scaling must be positive"));
    }
    if let Some(factors) = single {
        if long.is_some() || short.is_some() || factor.is_some_and(|f| f != 1.0) || kind.is_some_and(|k| k != "none") {
            return Err(Error::unsupported(
                "`rope_freqs.weight` together with another rotary scaling is not supported",
            ));
        }
        c.insert("rope_parameters".into(), json!({"rope_type": "factors", "rope_theta": theta, "factors": factors}));
        return Ok(());
    }
    let scaling = match (long, short) {
        (Some(long), Some(short)) => {
            if let Some(n) = original {
                c.insert("original_max_position_embeddings".into(), json!(n));
            }
            let mut s = json!({"rope_type": "longrope", "long_factor": long, "short_factor": short});
            if let Some(f) = strength {
                s["attention_factor"] = json!(f);
            }
            s
        }
        (None, None) => match kind.unwrap_or(if factor.is_some() { "linear" } else { "none" }) {
            "none" => return Ok(()),
            "linear" => match factor {
                Some(f) if f != 1.0 => json!({"rope_type": "linear", "factor": f}),
                _ => return Ok(()),
            },
            "yarn" => {
                let factor = factor.ok_or_else(|| Error::input(format!("`{}` is missing", key("scaling.factor"))))?;
                let mut s = json!({"rope_type": "yarn", "factor": factor});
                if let Some(n) = original {
                    s["original_max_position_embeddings"] = json!(n);
                }
                for beta in ["beta_fast", "beta_slow"] {
                    if let Some(v) = meta.f64(&key(&format!("scaling.yarn_{beta}")))? {
                        s[beta] = json!(v);
                    }
                }
                if let Some(f) = strength.filter(|f| *f != 1.0) {
                    s["attention_factor"] = json!(f * (0.1 * factor.max(1.0).ln() + 1.0));
                }
                s
            }
            other => {
                let what = format!("rotary scaling `{other}` without its factors is not supported");
                return Err(Error::unsupported(what.replace(char::is_control, "?")));
            }
        },
        _ => return Err(Error::input("of `rope_factors_long.weight` and `rope_factors_short.weight` one is missing")),
    };
    c.insert("rope_scaling".into(), scaling);
    Ok(())
}

/// A tensor of factors, one for each frequency.
fn factors(files: &[File], name: &str, n: usize) -> Result<Option<Vec<f32>>> {
    let Some((file, view)) = files.iter().find_map(|f| Some((f, f.get(name)?))) else { return Ok(None) };
    let values = view.expect_shape(&[n]).and_then(|()| view.to_f32()).map_err(|e| e.at_file(&file.path))?;
    match values.iter().find(|v| **v <= 0.0) {
        Some(v) => Err(view.error(format!("holds a factor of {v}, positive ones are expected")).at_file(&file.path)),
        None => Ok(Some(values)),
    }
}
