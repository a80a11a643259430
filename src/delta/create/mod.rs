//! Makes a patch: what lies where, what comes from where, which kind is smallest for each, then block by block.

mod plan;
mod side;
mod write;

pub use plan::Plan;
pub use side::Side;

use crate::delta::keys::SecretKey;
use crate::delta::matching;
use crate::delta::report::Report;
use crate::delta::segments::Layout;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::progress::Progress;
use std::path::Path;

/// Which coder scattered changes get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Coder {
    /// Rice where it is hardly larger, else the range coder.
    #[default]
    Auto,
    Rice,
    Range,
}

/// What a patch is to be.
#[derive(Clone, Default)]
pub struct Options<'a> {
    /// log2 of the bytes of a block; None: as small as costs little.
    pub block_log2: Option<u32>,
    pub coder: Coder,
    /// Must be applicable in place.
    pub in_place: bool,
    /// Must lead back, too.
    pub reversible: bool,
    /// For a device: no zstd, blocks that fit a journal.
    pub device: bool,
    /// An image that needs no base.
    pub full: bool,
    /// Most bytes of the patch.
    pub max_size: Option<u64>,
    pub model: String,
    pub base: Release,
    pub target: Release,
    pub sign: Option<&'a SecretKey>,
}

/// Which release of a model a file is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Release {
    /// For people.
    pub version: String,
    /// Counts the releases.
    pub sequence: u64,
}

/// log2 of the largest block that a device gets unless it is chosen.
const DEVICE_BLOCK: u32 = 16;
/// The same for hosts: an applier holds some buffers of this size, and larger blocks save next to nothing.
const HOST_BLOCK: u32 = 19;
/// A patch in place may be so much larger than one that is free to read the base anywhere before the latter is taken.
const IN_PLACE_WORTH: f64 = 1.10;
/// From this advantage on the report tells of the patch that was not taken.
const WORTH_TELLING: f64 = 1.03;
/// A patch that leads back may be so much larger.
const BACK_WORTH: f64 = 1.02;

/// Makes a patch and writes it, or with no place to write it to, only tells of it.
///
/// # Errors
/// `DoesNotFit` if it is larger than it may be, `Usage` if it cannot be what it is to be, `Io`.
pub fn create(
    base: &Side,
    target: &Side,
    options: &Options,
    out: Option<&Path>,
    progress: &dyn Progress,
) -> Result<Report> {
    if target.bytes().is_empty() {
        return Err(Error::usage("the new file is empty").at_file(&target.path));
    }
    let mut notes = Vec::new();
    progress.stage("comparing", 0);
    let plan = choose(base, target, options, &mut notes)?;
    progress.done();
    let mut report = write::write(base, target, options, &plan, out, progress)?;
    report.notes.splice(0..0, notes);
    Ok(report)
}

/// In place or free, with a way back or without, by what they cost.
fn choose(base: &Side, target: &Side, options: &Options, notes: &mut Vec<String>) -> Result<Plan> {
    let (b, t) = (if options.full { &[][..] } else { base.bytes() }, target.bytes());
    let rules = plan::Rules { coder: options.coder, in_place: false, back: false, zstd: !options.device };
    let known = plan::Known::default();
    let make = |pieces: &[matching::Piece], rules| Plan::make(pieces, &target.layout, b, t, rules, &known);
    if options.full {
        let pieces = matching::in_place(&Layout::plain(0), &target.layout, 0);
        return make(&pieces, rules);
    }
    let free_pieces = matching::anywhere(&base.layout, &target.layout, b, t);
    let aligned = free_pieces.iter().all(|p| p.base.is_none_or(|at| at == p.range.start));
    let everywhere = matching::in_place(&base.layout, &target.layout, b.len());
    let still = make(if aligned { &free_pieces } else { &everywhere }, plan::Rules { in_place: true, ..rules })?;
    let reversible = b.len() == t.len();
    if options.reversible && !reversible {
        let what = format!("files of {} and {} bytes cannot have a patch that leads back", b.len(), t.len());
        return Err(Error::usage(what)
            .hint("leave `--reversible` out; applied to a new file, the old one stays for going back"));
    }
    let back = plan::Rules { in_place: true, back: true, ..rules };
    let back = reversible.then(|| make(&everywhere, back)).transpose()?.filter(Plan::leads_back);
    if options.reversible {
        return back.ok_or_else(|| {
            Error::new(ErrorKind::Usage, "a patch of these files cannot lead back")
                .hint("that works for binary weights, integers and bytes, not for trits; leave `--reversible` out")
        });
    }
    let still = match back {
        Some(back) if back.bits <= BACK_WORTH * still.bits => back,
        _ => still,
    };
    if options.in_place {
        return Ok(still);
    }
    let free = make(&free_pieces, rules)?;
    let saved = |larger: &Plan, smaller: &Plan| 100.0 * (1.0 - smaller.bits / larger.bits.max(1.0));
    if aligned || still.bits <= IN_PLACE_WORTH * free.bits {
        if still.bits > WORTH_TELLING * free.bits {
            notes.push(format!(
                "a patch that cannot be applied in place would be about {:.0} % smaller",
                saved(&still, &free)
            ));
        }
        return Ok(still);
    }
    notes.push(format!(
        "the layout changed: this patch cannot be applied in place, which makes it about {:.0} % smaller; `--in-place` makes one that can",
        saved(&still, &free)
    ));
    Ok(free)
}
