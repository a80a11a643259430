//! Low-bit checkpoints with known codes: what `read_codes` gives is what the reference implementations compute, code for code and scale for
//! scale, in whatever form the file holds it. `BITNET_GOLDEN` may name another folder of such cases.

mod common;

use bitnet_convert::error::Kind;
use bitnet_convert::format::File;
use bitnet_convert::import::import;
use bitnet_convert::model::{Form, Linear, Matrix, Model, Source, Unit};
use common::{fixture, not_run};
use std::path::{Path, PathBuf};

fn cases() -> Vec<PathBuf> {
    let mut folders = vec![fixture("golden")];
    folders.extend(std::env::var_os("BITNET_GOLDEN").map(PathBuf::from));
    let mut cases: Vec<PathBuf> =
        folders.iter().flat_map(|f| std::fs::read_dir(f).unwrap()).map(|e| e.unwrap().path()).collect();
    cases.retain(|c| c.join("golden.safetensors").is_file());
    cases.sort();
    cases
}

/// None if the architecture or container is not read (yet).
fn model(case: &Path) -> Option<Model> {
    match import(case) {
        Ok(m) => Some(m),
        Err(e) if e.kind() == Kind::Unsupported && e.message().contains("not supported yet") => None,
        Err(e) if e.kind() == Kind::Unsupported && e.message().contains("not read by this version") => None,
        Err(e) => panic!("{}: {e}", case.display()),
    }
}

/// The matrix that lies in a tensor, by its name in the file or in the golden file.
fn matrix<'a>(m: &'a Model, name: &str) -> &'a Matrix {
    let all =
        m.projections().map(|l: &Linear| &l.weight).chain([&m.embedding]).chain(m.head.as_ref().map(|h| &h.weight));
    let bare = |n: &str| n.strip_prefix("model.").unwrap_or(n).to_string();
    all.into_iter().find(|w| bare(&w.tensor.name) == bare(name)).unwrap_or_else(|| panic!("no matrix in {name}"))
}

/// The golden scale of one weight, whatever it was stored per: tensor, row, group, or shard of rows or columns.
fn scale_at(shape: &[usize], scales: &[f32], m: &Matrix, name: &str, r: usize, c: usize) -> f32 {
    match *shape {
        [1] => scales[0],
        [rows, groups] if rows == m.rows => scales[r * groups + c / (m.cols / groups)],
        [shards] if name.contains("o_proj") || name.contains("down_proj") => scales[c / (m.cols / shards)],
        [shards] => scales[r / (m.rows / shards)],
        _ => panic!("{name}: scales {shape:?} for {} x {}", m.rows, m.cols),
    }
}

#[test]
fn codes_and_scales_are_carried_over_exactly() {
    let (mut cases_checked, mut matrices) = (0, 0);
    for case in cases() {
        let golden = File::open(&case.join("golden.safetensors")).unwrap();
        let names: Vec<&str> = golden.names().filter_map(|n| n.strip_prefix("code.")).collect();
        if names.is_empty() {
            continue;
        }
        let Some(model) = model(&case) else {
            not_run(&case.display().to_string(), "an architecture that is read");
            continue;
        };
        for name in names {
            let at = format!("{} {name}", case.display());
            let m = matrix(&model, name);
            let want = golden.get(&format!("code.{name}")).unwrap();
            assert_eq!(want.shape, [m.rows, m.cols], "{at}");
            let want: Vec<i8> = want.data.iter().map(|b| *b as i8).collect();
            let reader = model.rows(m).unwrap();
            if matches!(m.source, Source::SignColumns { .. }) {
                // Codes with a scale for each column have no form of their own; the sign of what is above the offset is the code.
                let Source::SignColumns { scale, bias } = &m.source else { unreachable!() };
                let (scale, bias) = (model.values(scale).unwrap(), model.values(bias).unwrap());
                let mut row = vec![0f32; m.cols];
                for r in 0..m.rows {
                    reader.read(r, &mut row).unwrap();
                    for c in 0..m.cols {
                        assert_eq!(
                            row[c],
                            f32::from(want[r * m.cols + c]) * scale[c] + bias[c],
                            "{at} row {r}, column {c}"
                        );
                    }
                }
                matrices += 1;
                continue;
            }
            let Form::Codes { binary, unit } = m.source.form() else { panic!("{at} is {:?}", m.source) };
            let scales = golden.get(&format!("scale.{name}")).map(|s| (s.shape.to_vec(), s.to_f32().unwrap()));
            let (mut row, mut codes) = (vec![0f32; m.cols], vec![0i8; m.cols]);
            for r in 0..m.rows {
                let mut got = Vec::new();
                reader.read_codes(r, &mut codes, &mut got).unwrap();
                reader.read(r, &mut row).unwrap();
                assert_eq!(codes, want[r * m.cols..][..m.cols], "{at} row {r}");
                assert!(!binary || codes.iter().all(|q| *q != 0), "{at} row {r}");
                let width = match unit {
                    Unit::Group(g) => g,
                    _ => m.cols,
                };
                assert_eq!(got.len(), m.cols.div_ceil(width), "{at}");
                for c in 0..m.cols {
                    let s = got[c / width];
                    if let Some((shape, scales)) = &scales {
                        let want = scale_at(shape, scales, m, name, r, c);
                        // The mean of masters depends on the order of the reference's sum in its last bit; other scales are stored.
                        let rounding = if matches!(m.source, Source::Master(_)) { 2e-7 * want } else { 0.0 };
                        assert!(
                            (s as f32 - want).abs() <= rounding,
                            "{at} row {r}, column {c}: scale {s}, {want} is right"
                        );
                    }
                    // What the float reference computes with differs from code times scale by roundings at most.
                    let product = f64::from(codes[c]) * s;
                    assert!((f64::from(row[c]) - product).abs() <= 2e-7 * s, "{at} row {r}, column {c}");
                }
            }
            matrices += 1;
        }
        assert!(model.native.is_some() || case.ends_with("fbi_llm_bin"), "{}", case.display());
        cases_checked += 1;
    }
    assert!(cases_checked >= 9 && matrices >= 7 * cases_checked, "{cases_checked} cases, {matrices} matrices");
}

/// Grids of four and of nine levels are not ternary, however few levels that is.
#[test]
fn other_grids_stay_floats_and_are_named() {
    for (name, says) in [("seq_2bit_fakequant", "four levels"), ("two_trit_planes_fakequant", "nine levels")] {
        let case = fixture("golden").join(name);
        let m = model(&case).unwrap();
        assert!(m.native.is_none(), "{name}");
        assert!(m.projections().all(|l| l.weight.source == Source::Float), "{name}");
        assert!(m.warnings.iter().any(|w| w.contains(says)), "{name}: {:?}", m.warnings);
        // Halves of codes times the scale are the weights themselves.
        let golden = File::open(&case.join("golden.safetensors")).unwrap();
        for key in golden.names().filter_map(|n| n.strip_prefix("halfcode.")) {
            let codes = golden.get(&format!("halfcode.{key}")).unwrap().to_f32().unwrap();
            let scales = golden.get(&format!("scale.{key}")).unwrap().to_f32().unwrap();
            let w = matrix(&m, key);
            let reader = m.rows(w).unwrap();
            let mut row = vec![0f32; w.cols];
            for r in 0..w.rows {
                reader.read(r, &mut row).unwrap();
                for (c, v) in row.iter().enumerate() {
                    let want = codes[r * w.cols + c] * scales[r];
                    assert!((v - want).abs() <= want.abs() / 128.0, "{name} {key} row {r}, column {c}: {v}, {want}");
                }
            }
        }
    }
}

#[test]
fn ordinary_weights_are_not_called_quantized() {
    let m = model(&fixture("golden/llama")).unwrap();
    assert!(m.native.is_none() && m.warnings.is_empty());
    assert!(m.projections().all(|l| l.weight.source == Source::Float));
}

/// The unit that is found is the coarsest that holds exactly.
#[test]
fn units_are_those_of_the_training() {
    for (name, part, want) in [
        ("trilm_unpacked_mp2", "q_proj", Unit::Row),
        ("trilm_unpacked_mp2", "down_proj", Unit::Group(64)),
        ("sherry_fakequant", "q_proj", Unit::Row),
        ("bonsai_ternary_mlx_2bit", "embed_tokens", Unit::Group(128)),
        ("paretoq_release_ternary_bin", "up_proj", Unit::Row),
    ] {
        let case = fixture("golden").join(name);
        let Some(m) = model(&case) else {
            not_run(name, "an architecture that is read");
            continue;
        };
        let all = m.projections().map(|l| &l.weight).chain([&m.embedding]);
        for w in all.filter(|w| w.tensor.name.contains(part)) {
            assert!(matches!(w.source.form(), Form::Codes { unit, .. } if unit == want), "{name} {:?}", w.source);
        }
    }
}
