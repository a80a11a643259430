//! Two implementations of the same text: the Rust reader and runtime, and fixtures/reader, which was written from docs/ alone in plain Python
//! integers. They must agree on every checksum of every operation, and on which files are valid.

mod common;

use bitnet_convert::encoding::lowbit::Encoding;
use bitnet_convert::kernels::dot::DotKernel;
use bitnet_convert::kernels::scalar::QuantRule;
use bitnet_convert::program::{KernelHint, OpKind, RegKind, Register, ScaleMode, Tensor, TensorKind};
use bitnet_convert::runtime::{record, Artifact};
use common::mutate::mutate;
use common::packed::{open, put, Parts, GOLDEN, WEIGHTS};
use common::{cases, finish, fixture, not_run, root, tiny, tiny_bytes, Rng, Run};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

fn python(script: &str, args: &[&str]) -> Run {
    let mut c = Command::new("python3");
    c.current_dir(fixture("reader")).env("PYTHONDONTWRITEBYTECODE", "1").env("MODELS", "4");
    c.env("SEMANTICS_MD", root().join("docs/semantics.md"));
    finish(c.args(script.split_whitespace()).args(args))
}

/// Whether Python is here; where it is not, the tests say so instead of passing silently.
fn python_is_here(what: &str) -> bool {
    let here = Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success());
    if !here {
        not_run(what, "python3");
    }
    here
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// The stored trace, computed again by both sides and by every kernel.
fn golden_is_reproduced(path: &Path) {
    let a = Artifact::open(path).unwrap_or_else(|e| panic!("{e}"));
    assert!(!a.golden.prompts.is_empty());
    for kernel in DotKernel::available() {
        let mut session = a.session(kernel);
        for (i, want) in a.golden.prompts.iter().enumerate() {
            let got = record(&mut session, &want.ids[..want.prompt_len], want.ids.len(), &mut |_, _, _| {}).unwrap();
            assert_eq!(&got, want, "{} prompt {i} with {}", path.display(), kernel.name());
        }
    }
    let run = python("bitnet_reference.py", &[text(path), "--golden"]).ok();
    assert_eq!(run.stdout.trim(), "equal", "{}", path.display());
}

#[test]
fn the_golden_trace_of_the_tiny_model() {
    if python_is_here("golden trace in Python") {
        golden_is_reproduced(&tiny());
    }
}

#[test]
fn the_tiny_model_is_what_its_generator_makes() {
    if python_is_here("regenerating tests/data/tiny.bitnet") {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("again.bitnet");
        python("random_model.py 1123 --rows-only", &[text(&out)]).ok();
        assert!(std::fs::read(out).unwrap() == tiny_bytes(), "tests/data/README.md has the command");
    }
}

/// Traces written by Python, of models that differ in everything that a program can say.
#[test]
fn golden_traces_of_random_models() {
    // What each seed covers is printed by the generator; the flags force kernel hints and 16-bit codes.
    let models = ["48 --pairs", "2430", "30", "7 --kernel 1", "4 --kernel 2", "19 --wide"];
    if !python_is_here("golden traces of random models") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (i, seed) in models.iter().enumerate() {
        let out = dir.path().join(format!("{i}.bitnet"));
        python(&format!("random_model.py {seed}"), &[text(&out)]).ok();
        golden_is_reproduced(&out);
    }
}

/// A trace that is not what the weights give is found by both, at the same place.
#[test]
fn a_false_checksum_is_found() {
    if !python_is_here("a false checksum") {
        return;
    }
    let mut parts = Parts::tiny();
    // 4 words of header, then prompt 0: lengths 1 and 4, 4 ids, 3 sums a token. Token 2, the layer.
    let at = 4 * (4 + 2 + 4 + 3 * 2 + 1);
    let old = parts.word(GOLDEN, at / 4);
    put(parts.section(GOLDEN), at, old ^ 1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("false.bitnet");
    std::fs::write(&path, parts.seal()).unwrap();
    let run = python("bitnet_reference.py", &[text(&path), "--golden"]).never_panicked();
    assert_eq!(run.code, Some(1));
    let want = format!("prompt 0 token 2 layer 0: computed {old:08x}, stored {:08x}", old ^ 1);
    assert_eq!(run.stdout.trim(), want);
    let a = Artifact::open(&path).unwrap();
    let stored = &a.golden.prompts[0];
    let mut s = a.session(DotKernel::Scalar);
    let got = record(&mut s, &stored.ids[..1], 4, &mut |_, _, _| {}).unwrap();
    let differ: Vec<_> = (0..4)
        .flat_map(|t| (0..3).map(move |s| (t, s)))
        .filter(|&(t, s)| got.checksums[t][s] != stored.checksums[t][s])
        .collect();
    assert_eq!(differ, [(2, 1)]);
}

/// Reads the files named in argv, prints `refused` or every checksum of five tokens.
const AGREE: &str = "
import sys
import bitnet_reader as br, bitnet_reference as ref
for path in sys.argv[1:]:
    try:
        art = br.open_file(path)
    except br.FormatError as e:
        print('refused')
        continue
    ids = [i % art.program.vocab for i in (0, 7, 15)]
    print(' '.join(f'{pos}:{op.index}:{crc:08x}' for pos, _, trace, _ in ref.run(art, ids, 2) for op, crc in trace))
";

fn verdict(file: &[u8]) -> String {
    let Ok(a) = open(file.to_vec()) else { return "refused".into() };
    let ids = [0, 7, 15].map(|i| i % a.program.vocab as u32);
    let mut out = String::new();
    let mut each = |pos: u32, op: usize, crc: u32| write!(out, "{pos}:{op}:{crc:08x} ").expect("a String takes all");
    record(&mut a.session(DotKernel::best()), &ids, 5, &mut each).unwrap();
    out.trim_end().to_string()
}

/// Both verdicts on a file, asserted to be the same one.
fn both_run(parts: &Parts) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.bitnet");
    let file = parts.seal();
    std::fs::write(&path, &file).unwrap();
    let run = python("-c", &[AGREE, text(&path)]).ok();
    let want = verdict(&file);
    assert_ne!(want, "refused", "{:?}", open(file).err());
    assert_eq!(run.stdout.trim(), want, "Python is left, Rust is right");
}

/// KVWRITE has no destination. A program may use the key again, and finds it as it was before the rotation.
#[test]
fn a_key_is_unchanged_after_it_was_cached() {
    if python_is_here("a key used twice") {
        let mut parts = Parts::tiny();
        parts.set_op(7, 2, 4);
        both_run(&parts);
    }
}

/// 32,800 columns with Qmax 32,767: sums of ternary weights beyond 30 bits, by groups and by rows.
#[test]
fn long_rows_with_wide_codes() {
    if !python_is_here("long rows") {
        return;
    }
    for scales in [ScaleMode::Group(12_800), ScaleMode::Row, ScaleMode::One] {
        let (wide, mut rng) = (32_800, Rng(3));
        let mut parts = Parts::tiny();
        let mut weights = parts.get(WEIGHTS).to_vec();
        parts.program(|p| {
            p.registers[8].capacity = wide;
            p.registers[9].capacity = wide;
            p.registers.push(Register { kind: RegKind::Codes16, capacity: wide });
            let OpKind::Quantize { src, rule, .. } = p.ops[16].kind else { panic!("operation 16 is QUANTIZE") };
            let rule = QuantRule { qmax: 32_767, lo: -32_767, hi: 32_767, ..rule };
            p.ops[16].kind = OpKind::Quantize { dst: 12, src, rule };
            let OpKind::Linear { dst, weight, .. } = p.ops[17].kind else { panic!("operation 17 is LINEAR") };
            p.ops[17].kind = OpKind::Linear { dst, codes: 12, weight, hint: KernelHint::Select };
            for (t, rows, cols, scales) in
                [(8, wide, 32, ScaleMode::Row), (9, wide, 32, ScaleMode::One), (10, 32, wide, scales)]
            {
                let t = &mut p.tensors[t];
                for old in [&t.data, &t.scales] {
                    weights[old.start as usize..old.end as usize].fill(0);
                }
                t.kind = TensorKind::rows(Encoding::Ternary2, scales);
                (t.rows, t.cols, t.scale.m) = (rows, cols, 1 << 30);
                weights.resize(weights.len().next_multiple_of(16), 0);
                t.data.start = weights.len() as u64;
                for _ in 0..rows {
                    let plus: Vec<u32> = (0..cols / 32).map(|_| rng.next() as u32).collect();
                    weights.extend(plus.iter().flat_map(|p| p.to_le_bytes()));
                    weights.extend(plus.iter().flat_map(|p| (rng.next() as u32 & !p).to_le_bytes()));
                }
                t.data.end = weights.len() as u64;
                let n = Tensor::scale_bytes(t.kind, rows, cols) as usize / 5;
                t.scales = 0..0;
                if n > 0 {
                    weights.resize(weights.len().next_multiple_of(16), 0);
                    t.scales.start = weights.len() as u64;
                    weights.extend((0..n).flat_map(|_| (1 << 30 | rng.below(1 << 30) as u32).to_le_bytes()));
                    weights.extend((0..n).map(|_| rng.below(3) as u8));
                    t.scales.end = weights.len() as u64;
                }
            }
        });
        *parts.section(WEIGHTS) = weights;
        both_run(&parts);
    }
}

/// Whatever is done to a file under right digests, both readers take it or both refuse it, and what they take they compute alike.
#[test]
fn both_readers_agree_on_damaged_files() {
    if !python_is_here("comparison on damaged files") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut paths, mut wants) = (Vec::new(), Vec::new());
    for seed in 0..cases(400) as u64 {
        let mut parts = Parts::tiny();
        let what = mutate(&mut parts, &mut Rng(seed ^ 0xA9_EE));
        let file = parts.seal();
        let path = dir.path().join(format!("{seed}.bitnet"));
        std::fs::write(&path, &file).unwrap();
        paths.push(path);
        wants.push((verdict(&file), seed, what));
    }
    let mut both = 0;
    for (paths, wants) in paths.chunks(500).zip(wants.chunks(500)) {
        let mut args = vec![AGREE];
        args.extend(paths.iter().map(|p| text(p)));
        let run = python("-c", &args).ok();
        let got: Vec<&str> = run.stdout.lines().collect();
        assert_eq!(got.len(), wants.len());
        for (got, (want, seed, what)) in got.iter().zip(wants) {
            assert_eq!(got, want, "Python is left, Rust is right; seed {seed}: {what}");
            both += usize::from(want != "refused");
        }
    }
    assert!(both * 20 > wants.len(), "only {both} files were run");
}

#[test]
fn the_readers_own_tests() {
    if python_is_here("the tests of fixtures/reader") {
        let run = python("-m unittest test_reader test_tokenizer", &[]).ok();
        assert!(run.stderr.contains("OK") && !run.stderr.contains("skipped"), "{}", run.stderr);
    }
}

#[test]
fn the_worked_lines_of_the_semantics_in_python() {
    if python_is_here("check_semantics_doc.py") {
        let doc = root().join("docs/semantics.md");
        let run = python("check_semantics_doc.py", &[text(&doc)]).ok();
        let count: usize =
            run.stdout.split_whitespace().next().and_then(|n| n.parse().ok()).expect("it prints how many");
        assert!(count >= 45 && run.stdout.contains(" 0 wrong"), "{}", run.stdout);
    }
}
