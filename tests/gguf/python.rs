//! Files of every type that is written, exported and converted, in the Python package `gguf` and in a reader of a few lines of Python.
//! `make setup-all` installs the package into build/python-gguf.

use crate::common::{finish, not_run, root};
use crate::convert::{checkpoint, export};
use bitnet_convert::export::gguf::convert::{convert, Request};
use bitnet_convert::export::gguf::Kind;
use bitnet_convert::format::File;
use bitnet_convert::model::WeightRule;
use bitnet_convert::progress::Silent;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What our reader makes of all tensors, beside the file.
fn values(path: &Path) {
    let file = File::open(path).unwrap();
    let mut all: Vec<_> = file.names().filter_map(|n| file.get(n)).collect();
    all.sort_by_key(|t| t.offset);
    let bytes = all.iter().flat_map(|t| t.to_f32().unwrap()).flat_map(|v| v.to_le_bytes());
    std::fs::write(format!("{}.values", path.display()), bytes.collect::<Vec<u8>>()).unwrap();
}

#[test]
fn every_type_in_python() {
    let packages = root().join("build/python-gguf");
    if !packages.join("gguf").is_dir() {
        return not_run("GGUF files in Python", "build/python-gguf (`make setup-all`)");
    }
    let dir = checkpoint();
    let mut files: Vec<(PathBuf, Kind)> = Vec::new();
    for kind in Kind::ALL {
        let rule = match kind {
            Kind::Q1_0 => Some(WeightRule::BinaryMean),
            Kind::Q8_0 | Kind::F16 | Kind::Bf16 | Kind::F32 => None,
            _ => Some(WeightRule::TernaryAbsmean),
        };
        let path = dir.path().join(format!("{kind:?}.gguf"));
        export(dir.path(), kind, rule, &path);
        files.push((path, kind));
    }
    for (from, to) in
        [(4, Kind::Tq2_0), (4, Kind::Tq1_0), (4, Kind::Q8_0), (1, Kind::F16), (2, Kind::Q2_0), (2, Kind::I2S)]
    {
        let path = dir.path().join(format!("{from}-as-{to:?}.gguf"));
        let request = Request { kind: to, force_arch: None };
        convert(&files[from].0, &request, Some(&path), &Silent).unwrap_or_else(|e| panic!("{from} as {to:?}: {e}"));
        files.push((path, to));
    }
    files.iter().for_each(|(p, _)| values(p));
    let mut c = Command::new("python3");
    c.arg(root().join("tests/gguf/check.py")).args(files.iter().map(|(p, _)| p));
    let said = finish(c.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1")).ok().json();
    for ((path, kind), seen) in files.iter().zip(said.as_array().unwrap()) {
        let (name, types) = (kind.dtype().name(), seen["types"].as_object().unwrap());
        assert_eq!(seen["file"], path.file_name().unwrap().to_str().unwrap());
        assert_eq!(seen["architecture"], "llama");
        // The matrices of the block, at least.
        assert!(types[name].as_u64().unwrap() >= 7, "{seen}");
        let of_theirs = ["TQ1_0", "TQ2_0", "Q8_0", "F16", "F32"].contains(&name);
        assert!(!of_theirs || seen["by"][name] == "gguf", "{seen}");
        assert!(seen["opened"] == true || ["Q2_0", "I2_S"].contains(&name), "{seen}");
    }
}
