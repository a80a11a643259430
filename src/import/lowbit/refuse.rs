//! What is known but not read, each with its reason: reading it as something else would give another network without an error.

use crate::error::{Error, Result};
use crate::import::checkpoint::Checkpoint;
use std::path::Path;

/// Values of `quant_method` and why they are refused.
const METHODS: [(&[&str], &str); 7] = [
    (
        &["gptq", "auto-round", "intel/auto-round", "autoround"],
        "integer weights of 2 to 8 bits with zero points, not binary or ternary",
    ),
    (&["awq"], "4-bit weights, not binary or ternary"),
    (&["aqlm", "vptq", "quip", "quip_sharp", "quip#"], "weights are entries of codebooks, not binary or ternary codes"),
    (&["hqq"], "groups with float zero points, not binary or ternary"),
    (&["bitblas", "bitdistiller"], "a layout made for one GPU kernel; take the checkpoint it was made from"),
    (
        &["bitsandbytes", "fp8", "fbgemm_fp8", "mxfp4", "compressed-tensors", "torchao", "quanto", "eetq"],
        "8- or 4-bit weights, not binary or ternary",
    ),
    (&["prism_hadamard"], "weights in a rotated basis"),
];

/// Suffixes of tensors beside a missing `weight`, and what they say.
const PACKED: [(&str, &str); 4] = [
    ("qweight", "integer weights with zero points (GPTQ and its relatives) are not binary or ternary"),
    ("codes", "weights are entries of codebooks (AQLM), not binary or ternary codes"),
    ("indices", "weights are entries of codebooks (VPTQ), not binary or ternary codes"),
    ("Qidxs", "weights are entries of a lattice codebook (QuIP#), not binary or ternary codes"),
];

const ROTATED: &str =
    "weights are stored in a rotated basis (signs and a Hadamard transform); used as they are they would give wrong answers without an error";

/// Files of formats that need more than they hold.
const FILES: [(&str, &str); 3] = [
    ("hadamard.json", ROTATED),
    ("qmodel.pt", "an HQQ model is a pickle of Python objects; take the checkpoint it was made from"),
    (
        "parameters.pth",
        "CAT-Q parameters are corrections to another model, not weights; take an exported model or its GGUF",
    ),
];

const INSTEAD: &str = "take the float checkpoint that it was made from, or a release with binary or ternary weights";

/// The error for a `quant_method` that is not read.
pub fn method(name: &str) -> Error {
    let known = METHODS.iter().find(|(names, _)| names.contains(&name.to_ascii_lowercase().as_str()));
    match known {
        Some((_, why)) => Error::unsupported(format!("quant_method `{name}` is not supported: {why}")).hint(INSTEAD),
        None => Error::unsupported(format!(
            "quant_method `{name}` is not supported, supported are bitnet, gemma and edgerazor"
        )),
    }
}

/// Refuses a folder for the files in it.
///
/// # Errors
/// `Unsupported` with the reason.
pub fn refuse_folder(dir: &Path) -> Result<()> {
    for (name, why) in FILES {
        let path = dir.join(name);
        // The files of a CAT-Q or HQQ folder may lie beside a complete model.
        if path.is_file() && (name == "hadamard.json" || !dir.join("model.safetensors").exists()) {
            return Err(Error::unsupported(why).at_file(&path));
        }
    }
    Ok(())
}

/// Refuses a checkpoint whose configuration tells that it cannot be read.
///
/// # Errors
/// `Unsupported` with the reason.
pub fn refuse(c: &Checkpoint) -> Result<()> {
    let cfg = &c.config;
    if let Some(key) = ["hadamard", "hadamard_config", "quantization.hadamard", "quantization_config.hadamard"]
        .into_iter()
        .find(|k| cfg.get(k).is_some())
    {
        return Err(Error::unsupported(format!("`{key}`: {ROTATED}")).at_file(&cfg.path));
    }
    if cfg.str("quantization_config.quant_method") == Some("edgerazor")
        && cfg.bool("quantization_config.is_w_quantized")? != Some(true)
    {
        let what =
            "EdgeRazor masters are not supported: their rule (blocks of 256 with mixed widths) is not known here";
        return Err(Error::unsupported(what)
            .at_file(&cfg.path)
            .hint("save the quantized weights (`is_w_quantized` true); they are recognised by their values"));
    }
    Ok(())
}

/// Refuses a matrix for what lies beside it.
pub fn siblings(c: &Checkpoint, module: &str) -> Result<()> {
    let refused = |name: &str, why: &str| {
        let r = c.find(&format!("{module}.{name}"))?;
        Some(Error::unsupported(why).at_tensor(&r.name).at_file(c.path_of(r)).hint(INSTEAD))
    };
    let offsets = "this layer has learned offsets (Tequila) that depend on its master weights; they are not supported";
    let mut all = vec![refused("signs", ROTATED), refused("Lambada", offsets)];
    if c.find(&format!("{module}.weight")).is_none() {
        all.extend(PACKED.iter().map(|(name, why)| refused(name, why)));
    }
    match all.into_iter().flatten().next() {
        Some(e) => Err(e),
        None => Ok(()),
    }
}
