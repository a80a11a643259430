//! `--hysteresis`: the model of a checkpoint with fewer flips against an old one, as a packed file of its own.

use super::Printer;
use crate::delta::create::Side;
use crate::delta::hysteresis::{keep, Kept, Masters, Weights};
use crate::error::{Error, Result};
use crate::format::packed::{reseal, Kind};
use crate::fsio::AtomicFile;
use crate::import;
use crate::kernels::dot::DotKernel;
use crate::lower::{self, Origin, WeightChoice};
use crate::model::{ActivationRule, Source, WeightRule};
use crate::program::golden::Golden;
use crate::program::{codec, identity, Program};
use crate::runtime::{record, Artifact, Session};
use std::collections::BTreeMap;
use std::path::Path;

/// Makes the file and writes it to `out`.
pub fn run(old: &Path, new: &Path, checkpoint: &Path, tau: f64, out: &Path, printer: &Printer) -> Result<(Side, Kept)> {
    let (base, target) = (Artifact::open(old)?, Artifact::open(new)?);
    let model = import::open(checkpoint, &printer.progress())?;
    let lowered = lower::lower(&model, &options(&target))?;
    let places: BTreeMap<&str, usize> =
        lowered.program.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
    let masters = |i: usize| {
        let t = &target.program.tensors[i];
        let origin = places.get(t.name.as_str()).map(|j| &lowered.origins[*j]);
        match origin {
            Some(Origin::LowBit { weight, rule })
                if (weight.rows, weight.cols) == (t.rows, t.cols)
                    && (rule.is_some() || matches!(weight.source, Source::Master(_))) =>
            {
                let reader = model.rows(weight)?;
                let read: Box<Masters> = Box::new(move |r, row: &mut [f32]| reader.read_raw(r, row));
                Ok(Some(read))
            }
            _ => Ok(None),
        }
    };
    if target.manifest.is_none() || base.manifest.is_none() {
        let e = Error::usage("without a manifest it is not known which tensor is which");
        return Err(e
            .hint("`--hysteresis` works on packed files for hosts; export the result of that for a device")
            .at_file(new));
    }
    let old = Weights { program: &base.program, bytes: base.weights() };
    let (weights, kept) = keep(&old, &Weights { program: &target.program, bytes: target.weights() }, tau, &masters)?;
    let bytes = sealed(&target, target.program.clone(), &weights)?;
    let mut file = AtomicFile::create(out)?;
    file.write(&bytes)?;
    file.commit()?;
    Ok((Side::open(out)?, kept))
}

/// How the target was exported from a checkpoint that was not trained for low bits.
fn options(target: &Artifact) -> lower::Options {
    let Some(m) = target.manifest.as_ref().filter(|m| !m.native) else { return lower::Options::default() };
    let rules = [WeightRule::BinaryMean, WeightRule::TernaryAbsmean];
    let acts = [ActivationRule::Absmax2, ActivationRule::Absmax4, ActivationRule::Absmax8, ActivationRule::Absmax16];
    lower::Options {
        weight: rules.into_iter().find(|r| r.name() == m.weight_rule).map(WeightChoice::LowBit),
        activation: acts.into_iter().find(|a| a.name() == m.activation_rule),
        ..lower::Options::default()
    }
}

/// The file of the target with other weights: what depends on them is computed anew, everything else stays where it is.
fn sealed(target: &Artifact, mut program: Program, weights: &[u8]) -> Result<Vec<u8>> {
    program.model_id = identity::of(&program, weights);
    let mut golden = Golden { layers: program.layers, prompts: Vec::new() };
    let mut session = Session::new(&program, weights, DotKernel::best());
    for p in &target.golden.prompts {
        golden.prompts.push(record(&mut session, &p.ids[..p.prompt_len], p.ids.len(), &mut |_, _, _| {})?);
    }
    let mut bytes = target.packed.bytes().to_vec();
    for (kind, data) in
        [(Kind::Weights, weights.to_vec()), (Kind::Program, codec::encode(&program)), (Kind::Golden, golden.encode())]
    {
        let at = target.packed.offset(kind) as usize;
        match target.packed.section(kind) {
            Some(section) if section.len() == data.len() => bytes[at..at + data.len()].copy_from_slice(&data),
            None if kind == Kind::Golden => {}
            _ => return Err(Error::tool(format!("the {} section changed its length", kind.name()))),
        }
    }
    reseal(&mut bytes);
    Artifact::from_packed_bytes(bytes.clone())?;
    Ok(bytes)
}
