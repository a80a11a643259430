//! A model that was cut into several files.

use crate::error::{Error, Result};
use crate::format::File;
use std::path::{Path, PathBuf};

/// Opens a GGUF file and, if it is one part of several, its siblings `…-00001-of-0000N.gguf`, in their order.
///
/// # Errors
/// As [`File::open`]; `Input` if the parts do not belong together.
pub fn open(path: &Path) -> Result<Vec<File>> {
    let file = File::open(path)?;
    let here = |e: Error| e.at_file(path);
    let Some(meta) = file.metadata() else {
        return Err(here(Error::input("this is no GGUF file")));
    };
    let count = meta.u64("split.count").map_err(here)?.unwrap_or(1);
    if count <= 1 {
        return Ok(vec![file]);
    }
    let paths = siblings(path, count).map_err(here)?;
    let mut files = Vec::new();
    for (i, p) in paths.iter().enumerate() {
        let part = File::open(p)?;
        let number = part.metadata().map_or(Ok(None), |m| m.u64("split.no")).map_err(|e| e.at_file(p))?;
        if number != Some(i as u64) {
            let what =
                format!("`split.no` of part {} is not {i}; the parts are from different models, or renamed", i + 1);
            return Err(Error::input(what).at_file(p));
        }
        files.push(part);
    }
    let tensors: usize = files.iter().map(|f| f.names().count()).sum();
    let promised = files[0].metadata().map_or(Ok(None), |m| m.u64("split.tensors.count")).map_err(here)?;
    if promised.is_some_and(|n| n != tensors as u64) {
        let what = format!("the parts hold {tensors} tensors, `split.tensors.count` is {}", promised.unwrap_or(0));
        return Err(here(Error::input(what).hint("fetch all parts again; they must belong to one model")));
    }
    Ok(files)
}

/// Paths of all parts from the name of one.
fn siblings(path: &Path, count: u64) -> Result<Vec<PathBuf>> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    let end = format!("-of-{count:05}.gguf");
    let prefix = name.strip_suffix(&end).and_then(|n| {
        let (prefix, number) = n.rsplit_once('-')?;
        (number.len() == 5 && number.bytes().all(|b| b.is_ascii_digit())).then_some(prefix)
    });
    let Some(prefix) = prefix.filter(|_| count < 100_000) else {
        let what = format!("the file is one of {count} parts, but its name does not end in `-00001{end}`");
        return Err(Error::input(what).hint("give the parts their original names, or merge them into one file"));
    };
    let paths: Vec<_> = (1..=count).map(|i| path.with_file_name(format!("{prefix}-{i:05}{end}"))).collect();
    match paths.iter().find(|p| !p.is_file()) {
        Some(missing) => Err(Error::input("this part of the model is missing").at_file(missing)),
        None => Ok(paths),
    }
}
