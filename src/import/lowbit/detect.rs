//! Grids in dense weights: many releases hold binary or ternary values as ordinary floats and say so nowhere.
//!
//! A matrix counts as quantized if all non-zero magnitudes of every unit are equal; the coarsest unit is taken. Ordinary weights fail in
//! their first row, so that looking costs nothing there.

use super::WEIGHT_ONLY;
use crate::encoding::blocks::Block;
use crate::error::Result;
use crate::import::checkpoint::Checkpoint;
use crate::model::{Form, Linear, Matrix, Model, Source, Unit};
use crate::tensor::DType;

/// Magnitudes that differ by less are one value that was rounded twice, e.g. once to f16.
const TOLERANCE: f32 = 1.0 + 1.0 / 256.0;
/// Smaller matrices and units prove nothing.
const LEAST_WEIGHTS: usize = 256;
const LEAST_UNIT: usize = 16;
/// Columns in which the levels of other grids are counted: no unit of a known format is smaller.
const LEVELS_UNIT: usize = 32;
/// One projection in so many may be something else.
const EXCEPTIONS: usize = 100;

/// What the configuration says that only the values can confirm.
pub struct Hints {
    /// Parts of a matrix in training, each with a scale of its own.
    shards: usize,
    /// Floats of a GGUF file stand for what its blocks could not hold.
    gguf: bool,
    warnings: Vec<String>,
}

impl Hints {
    /// # Errors
    /// `Input` for numbers that make no sense.
    pub fn of(c: &Checkpoint) -> Result<Hints> {
        let shards = c.config.usize("pretraining_model_parallel", 1..=64)?.unwrap_or(1);
        let mut warnings = Vec::new();
        if c.config.str("quantization_config.quant_method") == Some("edgerazor") {
            warnings.push(
                "EdgeRazor rounds activations in blocks of 256; this is not done here, they stay float".to_string(),
            );
        }
        let gguf = c.config.str("bitnet_convert.source") == Some("gguf");
        Ok(Hints { shards, gguf, warnings })
    }
}

/// Completes a model that was read: says what it was trained for where only its matrices tell, and looks for grids in dense weights.
///
/// # Errors
/// `Input` for weights that are not finite, with file, tensor and offset.
pub fn finish(model: &mut Model, hints: &Hints) -> Result<()> {
    model.warnings.extend(hints.warnings.iter().cloned());
    if model.native.is_some() && hints.gguf {
        return beside_blocks(model, hints.shards);
    }
    if model.native.is_some() || model.layers.is_empty() {
        return Ok(());
    }
    if model.projections().any(|l| l.weight.source.form() != Form::Float) {
        model.native = Some(WEIGHT_ONLY);
        return if hints.gguf { beside_blocks(model, hints.shards) } else { Ok(()) };
    }
    let other = model.projections().map(|l| &l.weight.source).find(|s| **s != Source::Float).map(Source::name);
    if let Some(name) = other {
        model
            .warnings
            .push(format!("the weights are {name}: they have no form with codes and scales and are read as floats"));
        return Ok(());
    }
    let all: Vec<&Matrix> = model.projections().map(|l| &l.weight).collect();
    let Some(grids) = most(model, &all, hints.shards)? else {
        let note = levels(model)?;
        model.warnings.extend(note);
        return Ok(());
    };
    let mut rest = Vec::new();
    for (l, grid) in model.layers.iter_mut().flat_map(|l| l.projections_mut()).zip(grids) {
        match grid {
            Some(source) => l.weight.source = source,
            None => rest.push(l.weight.tensor.name.clone()),
        }
    }
    for name in rest {
        model.warnings.push(format!("`{name}` is not on a grid as the other weights are; it is read as floats"));
    }
    let embedding = look(model, &model.embedding, hints.shards)?;
    let head = match &model.head {
        Some(h) if h.weight != model.embedding => look(model, &h.weight, hints.shards)?,
        _ => embedding.clone(),
    };
    if let (Some(h), Some(source)) = (&mut model.head, head) {
        h.weight.source = source;
    }
    if let Some(source) = embedding {
        model.embedding.source = source;
    }
    model.native = Some(WEIGHT_ONLY);
    Ok(())
}

/// Matrices that a file with low-bit weights holds as floats, each by itself.
fn beside_blocks(model: &mut Model, shards: usize) -> Result<()> {
    let of = |l: &Linear| if l.weight.source == Source::Float { look(model, &l.weight, shards) } else { Ok(None) };
    let grids: Vec<Option<Source>> = model.projections().map(of).collect::<Result<_>>()?;
    for (l, grid) in model.layers.iter_mut().flat_map(|l| l.projections_mut()).zip(grids) {
        if let Some(source) = grid {
            l.weight.source = source;
        }
    }
    Ok(())
}

/// The grid of each matrix, if nearly all have one.
fn most(model: &Model, all: &[&Matrix], shards: usize) -> Result<Option<Vec<Option<Source>>>> {
    let mut grids = Vec::with_capacity(all.len());
    let mut misses = 0;
    for m in all {
        let grid = look(model, m, shards)?;
        misses += usize::from(grid.is_none());
        if misses * EXCEPTIONS > all.len() {
            return Ok(None);
        }
        grids.push(grid);
    }
    Ok(Some(grids))
}

/// Units to try, coarsest first.
fn units(cols: usize, shards: usize) -> Vec<Unit> {
    let mut groups: Vec<usize> = vec![256, 128, 64, 32];
    groups.extend([shards, 2, 3, 4, 6, 8].iter().filter(|s| cols.is_multiple_of(**s)).map(|s| cols / s));
    groups.retain(|g| *g < cols && *g >= LEAST_UNIT);
    groups.sort_unstable_by(|a, b| b.cmp(a));
    groups.dedup();
    let coarse = [Unit::Tensor, Unit::Row].into_iter().filter(|u| *u == Unit::Tensor || cols >= LEAST_UNIT);
    coarse.chain(groups.into_iter().map(Unit::Group)).collect()
}

/// Smallest and largest non-zero magnitude.
#[derive(Clone, Copy)]
struct Spread {
    low: f32,
    high: f32,
}

impl Spread {
    const NONE: Spread = Spread { low: f32::INFINITY, high: 0.0 };

    fn of(values: &[f32]) -> Spread {
        values.iter().fold(Spread::NONE, |s, w| {
            let m = w.abs();
            let low = if m == 0.0 { f32::INFINITY } else { m };
            Spread { low: if low < s.low { low } else { s.low }, high: if m > s.high { m } else { s.high } }
        })
    }

    fn join(self, o: Spread) -> Spread {
        Spread { low: self.low.min(o.low), high: self.high.max(o.high) }
    }

    fn is_one(self, tolerance: f32) -> bool {
        self.high == 0.0 || self.high <= self.low * tolerance
    }
}

/// The grid of a matrix of dense floats, if it has one.
fn look(model: &Model, m: &Matrix, shards: usize) -> Result<Option<Source>> {
    let dtype = model.tensor(&m.tensor).dtype;
    // Codes that other blocks could not hold are often in Q8_0, which keeps one magnitude a block.
    let blocks = matches!(dtype, DType::Block(b) if b != Block::Q8_0);
    if m.source != Source::Float || blocks || m.rows * m.cols < LEAST_WEIGHTS {
        return Ok(None);
    }
    let reader = model.rows(m)?;
    let mut row = vec![0f32; m.cols];
    // For exact equality and for equality but for roundings: the units that no row has contradicted.
    let mut alive = [(1.0, units(m.cols, shards)), (TOLERANCE, units(m.cols, shards))];
    let mut whole = Spread::NONE;
    let mut zeros = false;
    for r in 0..m.rows {
        reader.read(r, &mut row)?;
        let one = Spread::of(&row);
        whole = whole.join(one);
        zeros = zeros || row.contains(&0.0);
        for (tolerance, units) in &mut alive {
            let uniform = one.is_one(*tolerance);
            units.retain(|u| match u {
                Unit::Tensor => whole.is_one(*tolerance),
                // What holds for the row holds for its parts.
                _ if uniform => true,
                Unit::Row => false,
                Unit::Group(g) => row.chunks(*g).all(|part| Spread::of(part).is_one(*tolerance)),
            });
        }
        if alive[1].1.is_empty() {
            return Ok(None);
        }
    }
    let [(_, exact), (_, rounded)] = &alive;
    let unit = exact.first().or(rounded.first()).filter(|_| whole.high > 0.0);
    Ok(unit.map(|unit| Source::Grid { binary: !zeros, unit: *unit }))
}

/// Says which other grid the weights of the first layer are on.
fn levels(model: &Model) -> Result<Option<String>> {
    let (mut four, mut nine) = (0, 0);
    for m in model.layers.first().into_iter().flat_map(|l| l.projections()).map(|l| &l.weight) {
        let reader = model.rows(m)?;
        let mut row = vec![0f32; m.cols];
        let mut kinds = [true; 2];
        for r in 0..m.rows.min(16) {
            reader.read(r, &mut row)?;
            for part in row.chunks(LEVELS_UNIT).filter(|p| p.len() == LEVELS_UNIT) {
                let (magnitudes, zeros) = magnitudes(part);
                let ratio = magnitudes.last().copied().unwrap_or(0.0) / magnitudes.first().copied().unwrap_or(1.0);
                kinds[0] &=
                    magnitudes.len() <= 2 && !zeros && (magnitudes.len() < 2 || (ratio / 3.0 - 1.0).abs() < 0.04);
                kinds[1] &= magnitudes.len() <= 4;
            }
            if kinds == [false; 2] || m.cols < LEVELS_UNIT {
                kinds = [false; 2];
                break;
            }
        }
        four += usize::from(kinds[0]);
        nine += usize::from(kinds[1]);
    }
    Ok(if four >= 4 {
        Some("the weights lie on a grid of four levels (2-bit, -3, -1, 1, 3); it is neither binary nor ternary, they are read as floats".into())
    } else if nine >= 4 {
        Some("most weights lie on grids of up to nine levels (two planes of ternary codes); they are not ternary and are read as floats".into())
    } else {
        None
    })
}

/// Distinct non-zero magnitudes but for roundings, ascending, and whether there are zeros.
fn magnitudes(part: &[f32]) -> (Vec<f32>, bool) {
    let mut all: Vec<f32> = part.iter().map(|w| w.abs()).filter(|w| *w > 0.0).collect();
    let zeros = all.len() < part.len();
    all.sort_unstable_by(f32::total_cmp);
    all.dedup_by(|b, a| *b <= *a * TOLERANCE);
    (all, zeros)
}
