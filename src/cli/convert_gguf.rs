//! `export --format gguf` of a GGUF file: tensor by tensor, as `export::gguf::convert` does it.

use super::Printer;
use crate::error::{Error, Result};
use crate::export::gguf::convert::{convert, Converted, Request};
use crate::export::gguf::{Kind, Row};
use crate::format::gguf::MAGIC;
use crate::plan::group;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Whether a path is a GGUF file.
pub fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut f| f.read_exact(&mut magic));
    read.is_ok() && &magic == MAGIC
}

/// `out` is None for a dry run.
pub fn run(
    from: &Path,
    kind: Option<Kind>,
    force_arch: Option<&str>,
    out: Option<&Path>,
    printer: &Printer,
) -> Result<u8> {
    let kind = kind.ok_or_else(|| {
        Error::usage("a GGUF file is converted to a type, none is given").hint("add `--type tq2_0`, or another type")
    })?;
    let done = convert(from, &Request { kind, force_arch }, out, &printer.progress())?;
    done.warnings.iter().for_each(|w| printer.warn(w));
    if printer.json || out.is_none() {
        printer.result(&done, |to| table(to, &done))?;
    } else if !printer.quiet {
        // stderr that cannot be written to is no reason to fail: the file is there.
        let _ = table(&mut io::stderr(), &done);
    }
    match out.zip(done.bytes) {
        Some((out, bytes)) => printer.note(&format!("wrote {} ({} bytes)", out.display(), group(bytes))),
        None => printer.note("nothing written (--dry-run)"),
    }
    Ok(0)
}

/// Tensors by what they were and became, then each that is not what was asked for.
fn table(out: &mut dyn Write, done: &Converted) -> io::Result<()> {
    let name = done.architecture.as_deref().unwrap_or("none");
    let kind = done.kind;
    writeln!(out, "GGUF to {kind}, architecture {name}, {:.3} bits a weight of all matrices", done.bits_per_weight)?;
    #[derive(Default)]
    struct Sum {
        count: usize,
        bytes: u64,
        weights: u64,
        rounded: u64,
        error: f64,
    }
    let mut kinds: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
    for t in &done.tensors {
        let sum = kinds.entry((t.row.from, t.row.to)).or_default();
        sum.count += 1;
        sum.bytes += t.row.bytes;
        sum.weights += t.row.shape.iter().product::<usize>() as u64;
        sum.rounded += t.rounded;
        sum.error = sum.error.max(t.scale_error);
    }
    for ((from, to), Sum { count, bytes, weights, rounded, error }) in kinds {
        let bits = bytes as f64 * 8.0 / weights.max(1) as f64;
        let how = match (rounded, from == to) {
            (0, true) => "as it was".to_string(),
            (0, false) => "lossless".to_string(),
            (n, _) => format!("codes lossless, {} scales rounded by at most {error:.1e} of their value", group(n)),
        };
        let bytes = group(bytes);
        writeln!(out, "  {from:>6} to {to:<6} {count:>5} tensors {bytes:>15} bytes {bits:>7.3} bits, {how}")?;
    }
    let mut noted: Vec<(&str, Vec<&Row>)> = Vec::new();
    for row in done.tensors.iter().map(|t| &t.row) {
        let Some(note) = row.note.as_deref() else { continue };
        match noted.iter_mut().find(|(n, _)| *n == note) {
            Some((_, rows)) => rows.push(row),
            None => noted.push((note, vec![row])),
        }
    }
    for (note, rows) in noted {
        writeln!(out, "  not {kind}: {note}")?;
        for t in rows {
            writeln!(out, "    {} {:?} is {}, {:.3} bits", t.name, t.shape, t.to, t.bits_per_weight)?;
        }
    }
    Ok(())
}
