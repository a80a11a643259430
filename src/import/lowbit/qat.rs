//! The scheme that our training scripts write: `qat_config`.

use crate::error::{Error, Result};
use crate::import::config::Config;
use crate::model::{ActivationRule, Native, WeightRule};

pub fn native(cfg: &Config) -> Result<Native> {
    let field = |k: &str| cfg.str(&format!("qat_config.scheme.{k}"));
    let refuse = |k: &str| {
        let v = cfg.get(&format!("qat_config.scheme.{k}")).map_or("absent".into(), |v| v.to_string());
        Err(Error::unsupported(format!("qat_config.scheme.{k} is {v}, which is not supported yet")).at_file(&cfg.path))
    };
    let weight = match field("weight") {
        Some("w1") => WeightRule::BinaryMean,
        Some("w158") => WeightRule::TernaryAbsmean,
        _ => return refuse("weight"),
    };
    let activation = match field("act") {
        Some("a8") => ActivationRule::Absmax8,
        Some("a2") => {
            let grid = serde_json::json!(["absmax2", 0.5]);
            for k in ["act2", "act2_inner"] {
                if cfg.get(&format!("qat_config.scheme.{k}")).is_some_and(|g| *g != grid) {
                    return refuse(k);
                }
            }
            ActivationRule::Absmax2
        }
        _ => return refuse("act"),
    };
    let int8_embedding = match field("embed") {
        Some("e8") => true,
        None | Some("none") => false,
        _ => return refuse("embed"),
    };
    Ok(Native { weight: Some(weight), activation: Some(activation), int8_embedding })
}
