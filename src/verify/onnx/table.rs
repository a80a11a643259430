//! The report as text.

use super::{Report, Verdict};
use crate::plan::group;
use std::io::{self, Write};

/// # Errors
/// Of the writer.
pub fn table(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    writeln!(out, "verify {}: profile {}, opset {}, IR {}, in {}", r.file, r.profile, r.opset, r.ir, r.engine)?;
    writeln!(
        out,
        "  against {}: {}, {} ({} with a cache), {} numbers",
        r.against,
        plural(r.prompts, "prompt"),
        plural(r.positions, "position"),
        r.with_cache,
        group(r.values)
    )?;
    if let Some(f) = &r.figures {
        if let Some(c) = &f.core {
            writeln!(out, "  integer sums     {} of {} differ", group(c.mismatches), group(c.sums))?;
        }
        if let Some(c) = &f.codes {
            let share = 100.0 * c.flipped as f64 / c.codes.max(1) as f64;
            writeln!(
                out,
                "  activation codes {} of {} flipped ({share:.3} %), {} of {} before the first product",
                group(c.flipped),
                group(c.codes),
                group(c.first_flipped),
                group(c.first_codes)
            )?;
        }
        if let Some(l) = &f.logits {
            writeln!(out, "  logits           worst {:.2e} of the range, mean KL {:.2e}", l.worst_of_range, l.mean_kl)?;
            writeln!(
                out,
                "  best token       the same at {} of {} positions; of the others {} are no near tie",
                l.same_argmax, l.positions, l.different_no_near_tie
            )?;
        }
        if let Some(c) = f.worst_cosine {
            writeln!(out, "  embedding        cosine {c:.9} at worst")?;
        }
    }
    for n in &r.notes {
        writeln!(out, "  note: {n}")?;
    }
    match &r.verdict {
        Verdict::Equal => {
            let inner = match r.operations {
                0 => String::new(),
                n => format!(", and {} results of inner operations", group(n)),
            };
            writeln!(out, "  equal: 0 of {} numbers differ{inner}", group(r.values))
        }
        Verdict::Near => writeln!(out, "  near: what is integer is equal, the rest within the limits"),
        Verdict::Differs { at } if r.figures.is_none() => {
            writeln!(out, "  DIFFERS: {} of {} numbers, first at {at}", group(r.differing), group(r.values))
        }
        Verdict::Differs { at } => writeln!(out, "  DIFFERS: {at}"),
    }
}
