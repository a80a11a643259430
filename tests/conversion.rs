//! Weights that are converted in parts: the result depends neither on the number of threads nor on the way a code is found.

mod common;

use bitnet_convert::import::import;
use bitnet_convert::program::TensorKind;
use bitnet_convert::runtime::{matrix, Artifact};
use common::checkpoint::{Bench, Checkpoint};
use common::{finish, fixture, tool};
use std::path::Path;

/// Projections and embedding are more than one part.
const HIDDEN: usize = 256;
const FFN: usize = 2304;
const VOCAB: usize = 2304;

#[test]
fn every_number_of_threads_gives_the_same_bytes() {
    for dtype in ["F32", "BF16", "F16"] {
        let mut c = Checkpoint::sized(1, HIDDEN, FFN, VOCAB);
        if dtype != "F32" {
            c.tensors.iter_mut().for_each(|t| t.to(dtype));
        }
        let b = Bench::new(&c);
        for flags in [&[][..], &["--quantize-weight", "1", "--quantize-activation", "8"]] {
            let mut first = None;
            for threads in ["1", "3"] {
                let run = finish(b.command().args(flags).args(["--kv-window", "8"]).env("BITNET_THREADS", threads));
                run.ok();
                let bytes = std::fs::read(b.output()).unwrap();
                assert!(first.get_or_insert_with(|| bytes.clone()) == &bytes, "{dtype} {flags:?} {threads} threads");
            }
            if flags.is_empty() {
                codes_are_those_of_the_reader(&b.model(), &b.output(), dtype);
            }
        }
    }
}

/// What was packed by comparing bits is what rounding gives.
fn codes_are_those_of_the_reader(model: &Path, packed: &Path, dtype: &str) {
    let model = import(model).unwrap();
    let a = Artifact::open(packed).unwrap();
    let mut checked = 0;
    for l in model.projections() {
        let id = a.program.tensors.iter().position(|t| t.name == l.name).unwrap();
        let t = &a.program.tensors[id];
        let TensorKind::Matrix { enc, .. } = t.kind else { panic!("{} is no matrix", t.name) };
        let (reader, m) = (model.rows(&l.weight).unwrap(), matrix(&a.program, a.weights(), None, id));
        let (mut codes, mut scales) = (vec![0i8; t.cols], Vec::new());
        for r in 0..t.rows {
            reader.read_codes(r, &mut codes, &mut scales).unwrap();
            let packed = (0..t.cols).map(|c| enc.get(m.row(r), t.cols, c) as i8);
            assert!(packed.eq(codes.iter().copied()), "{dtype} {} row {r}", l.name);
        }
        assert!((t.scale.to_f64() / scales[0] - 1.0).abs() < 1e-9, "{dtype} {}", l.name);
        checked += 1;
    }
    assert_eq!(checked, 7 * model.layers.len());
}

#[test]
fn binary_codes_and_int8_rows_are_those_of_the_reader() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (fixture("models/intent-w1a2"), dir.path().join("m.bitnet"));
    tool("export --model {} -o {}", &[&model, &out]).ok();
    codes_are_those_of_the_reader(&model, &out, "binary");
    let (m, a) = (import(&model).unwrap(), Artifact::open(&out).unwrap());
    let id = a.program.tensors.iter().position(|t| t.name == "embedding").unwrap();
    let t = &a.program.tensors[id];
    let TensorKind::Matrix { enc, .. } = t.kind else { panic!("{} is no matrix", t.name) };
    let (reader, table) = (m.rows(&m.embedding).unwrap(), matrix(&a.program, a.weights(), None, id));
    let mut row = vec![0f32; t.cols];
    for r in 0..t.rows {
        reader.read(r, &mut row).unwrap();
        let most = row.iter().fold(0f32, |m, w| m.max(w.abs()));
        for (c, w) in row.iter().enumerate() {
            assert_eq!(enc.get(table.row(r), t.cols, c), (w / most * 127.0).round() as i32, "row {r}, column {c}");
        }
    }
}

#[test]
fn an_error_in_a_late_part_leaves_nothing_behind() {
    let mut c = Checkpoint::sized(1, HIDDEN, FFN, VOCAB);
    let name = "model.layers.0.mlp.up_proj.weight";
    c.tensor(name).set(HIDDEN * FFN - 5, f32::NAN);
    Bench::new(&c).refused(&[name, "NaN", "byte "]);
}
