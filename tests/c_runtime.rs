//! The C runtime, compiled for this machine with sanitizers, computes what the scalar kernels compute: on random small models of every kind
//! (odd sizes, head ratios, windows, cache widths, scale modes) made by the second, independent implementation in Python, and on real exports.

mod common;

use bitnet_convert::export::c::write_runtime_for;
use bitnet_convert::kernels::DotKernel;
use bitnet_convert::runtime::Artifact;
use bitnet_convert::verify::{self, Outcome};
use common::device::{build_host, build_with_runtime, checksums, have, random_model, SANITIZERS};
use common::root;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Random models a run; `BITNET_RANDOM_MODELS` asks for more.
fn how_many() -> u32 {
    std::env::var("BITNET_RANDOM_MODELS").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

#[test]
fn random_models_give_the_same_integers_in_c_and_rust() {
    if !have("the C runtime", &["cc", "make", "python3"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let host = build_host(dir.path());
    for seed in 0..how_many() {
        let file = dir.path().join("random.bitnet");
        random_model(1000 + seed, &file, &[]);
        let artifact = Artifact::open(&file).expect("a valid model");
        let reference = verify::traces(&artifact, DotKernel::Scalar).expect("scalar run");
        for kernel in DotKernel::available() {
            assert_eq!(verify::traces(&artifact, kernel).expect("run"), reference, "{} on seed {seed}", kernel.name());
        }
        let out = Command::new(&host).arg(&file).arg("trace").output().expect("the host program starts");
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "seed {seed}: {text}{}", String::from_utf8_lossy(&out.stderr));
        let want: Vec<Vec<u32>> = reference.iter().flat_map(|p| p.tokens.clone()).collect();
        assert_eq!(checksums(&text), want, "C differs from Rust on seed {seed}");
        let out = Command::new(&host).arg(&file).arg("selftest").output().expect("the host program starts");
        assert_eq!(String::from_utf8_lossy(&out.stdout), "selftest: equal\n", "seed {seed}");
    }
}

/// Every kernel of LINEAR, both orders of bytes, tiles of tables, odd shapes and scales, against a plain loop over the weights: with the
/// sanitizers here, with the loops of cores that have fewer registers, and with the other byte order in an emulator.
#[test]
fn kernels_equal_a_plain_loop_on_random_shapes() {
    if !have("the C runtime", &["cc", "sh"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let here = "cc -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all";
    let mut builds = vec![
        ("here", here.to_string(), String::new()),
        ("four rows", format!("{here} -D__ARM_ARCH_6M__"), String::new()),
        ("one pointer", format!("{here} -D__riscv"), String::new()),
    ];
    if ["powerpc-linux-gnu-gcc", "qemu-ppc"].iter().all(|t| Command::new(t).arg("--version").output().is_ok()) {
        builds.push(("big-endian", "powerpc-linux-gnu-gcc -O2 -static".to_string(), "qemu-ppc ".to_string()));
    }
    let runtime = root().join("src/export/c/files/runtime");
    for (name, compiler, runner) in builds {
        let (program, source) = (dir.path().join("kernels"), root().join("tests/c/kernels.c"));
        let (program, source, runtime) = (program.display(), source.display(), runtime.display());
        let script = format!(
            "{compiler} -std=c99 -DKERNELS_HOST=1 -I'{runtime}' '{source}' '{runtime}'/bitnet_*.c -o '{program}' && {runner}'{program}' 7 2500"
        );
        let out = Command::new("sh").args(["-c", &script]).output().expect("sh starts");
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success() && text.starts_with("equal: 2500 cases"), "{name}: {text}");
    }
}

/// Even sampled text is the same: seed, temperature and top-k in C and in Rust.
#[test]
fn sampling_draws_the_same_tokens_in_c_and_rust() {
    use bitnet_convert::runtime::sample::{Choice, Sampler};
    if !have("the C runtime", &["cc", "make", "python3"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let host = build_host(dir.path());
    let file = dir.path().join("random.bitnet");
    for (seed, thousandths, k) in [(1u32, 800u32, 40usize), (7, 1000, 64), (123, 90, 3), (0, 2500, 5), (99, 333, 64)] {
        random_model(50 + seed, &file, &["--style", "plain"]);
        let artifact = Artifact::open(&file).expect("a valid model");
        let choice = Choice::from_temperature(f64::from(thousandths) / 1000.0, k).expect("a temperature");
        let mut sampler = Sampler::new(choice, seed);
        let mut session = artifact.session(DotKernel::best());
        let mut logits = session.run(&[1, 2, 3]).expect("run").unwrap_or_default();
        let mut drawn = Vec::new();
        for _ in 0..30 {
            let id = sampler.choose(&logits);
            drawn.push(id.to_string());
            logits = session.run(&[id]).expect("run").unwrap_or_default();
        }
        let k = k.min(artifact.program.vocab);
        let arguments = format!("sample {seed} {thousandths} 1000 {k} 1,2,3 30");
        let out = Command::new(&host).arg(&file).args(arguments.split(' ')).output().expect("the host program starts");
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), drawn.join(","), "{arguments}");
    }
}

/// The arena that the plan shows is what the C runtime asks for.
#[test]
fn planned_arena_is_the_arena_that_c_needs() {
    if !have("the C runtime", &["cc", "make", "python3"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let host = build_host(dir.path());
    for seed in 1000..1020 {
        let file = dir.path().join("random.bitnet");
        random_model(seed, &file, &[]);
        let artifact = Artifact::open(&file).expect("a valid model");
        let p = &artifact.program;
        let planned: u64 = bitnet_convert::plan::arena_parts(p, p.attention.window).iter().map(|p| p.bytes).sum();
        let out = Command::new(&host).arg(&file).arg("info").output().expect("the host program starts");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let used = text.lines().find_map(|l| l.strip_prefix("arena_used ")).and_then(|n| n.parse::<u64>().ok());
        assert_eq!(used, Some(planned), "seed {seed}: {text}");
    }
}

/// A flipped bit anywhere, a cut file, a wrong magic: a status, never a fault. The sanitizers watch.
#[test]
fn damaged_models_are_refused_by_c() {
    if !have("the C runtime", &["cc", "make", "python3"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let host = build_host(dir.path());
    let file = dir.path().join("random.bitnet");
    random_model(7, &file, &[]);
    let good = std::fs::read(&file).expect("the model");
    let damaged = dir.path().join("damaged.bitnet");
    let check = |bytes: &[u8], what: &str| {
        std::fs::write(&damaged, bytes).expect("a file");
        let out = Command::new(&host).arg(&damaged).arg("selftest").output().expect("the host program starts");
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success(), "{what} was accepted");
        assert!(out.status.code().is_some_and(|c| (10..=30).contains(&c) || c == 2), "{what}: {:?} {text}", out.status);
        assert!(!text.contains("Sanitizer") && !text.contains("runtime error"), "{what}: {text}");
    };
    let step = (good.len() / 150).max(1);
    for at in (0..good.len()).step_by(step) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        // Padding between sections is not covered by a digest and not read by a device.
        if Artifact::from_packed_bytes(bytes.clone()).is_err() && !is_padding(&good, at) {
            check(&bytes, &format!("a flipped bit at {at}"));
        }
    }
    for len in (0..good.len()).step_by(step * 3) {
        check(&good[..len], &format!("a cut at {len}"));
    }
}

/// Every public function with good and bad arguments.
#[test]
fn the_c_interface_answers_bad_arguments_with_a_status() {
    if !have("the C runtime", &["cc", "make", "python3"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let program = build_with_runtime(dir.path(), "api_test.c", "cc", &SANITIZERS);
    for seed in [4, 5, 11, 12, 1002, 1005, 1008, 1011] {
        let file = dir.path().join("random.bitnet");
        random_model(seed, &file, &[]);
        let out = Command::new(&program).arg(&file).output().expect("the test program starts");
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "seed {seed}: {text}");
    }
}

/// Files whose checksums are right and whose contents are not: refused or run, never a fault.
#[test]
fn hostile_models_with_right_checksums_cannot_break_c() {
    if !have("the C runtime", &["cc", "make", "python3"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let host = build_host(dir.path());
    for seed in [2, 4, 9, 1002, 1005] {
        let file = dir.path().join("random.bitnet");
        random_model(seed, &file, &[]);
        let out = Command::new("python3")
            .arg(root().join("tests/c/fuzz_host.py"))
            .args([&host, &file])
            .args([seed.to_string(), "80".into()])
            .arg(dir.path())
            .output()
            .expect("python3 starts");
        assert!(
            out.status.success(),
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
    }
}

/// What the exporter leaves out is what the program does without: a folder around a random model of every kind, through every runner.
/// A runtime that was built for another model refuses it by its name.
#[test]
fn a_runtime_with_only_what_a_model_needs_computes_it() {
    if !have("the C runtime", &["cc", "make", "python3"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let seeds = [1003, 1001, 1002, 1005]; // the first one is plain
    let folders: Vec<PathBuf> = seeds.iter().map(|s| dir.path().join(s.to_string())).collect();
    for (seed, folder) in seeds.iter().zip(&folders) {
        std::fs::create_dir(folder).expect("a folder");
        let file = folder.join("model.bin");
        random_model(*seed, &file, &[]);
        let artifact = Artifact::open(&file).expect("a valid model");
        let chip = bitnet_convert::target::find("cortex-m7").expect("the target");
        write_runtime_for(folder, &artifact.program, None, &chip).expect("the sources");
        let report = verify_all(folder);
        for row in &report.rows {
            assert!(matches!(row.outcome, Outcome::Equal | Outcome::NotRun { .. }), "seed {seed}: {row:?}");
        }
    }
    let host = |folder: &Path| {
        let mut make = Command::new("make");
        make.arg("-C").arg(folder).args(["host", "HOSTCC=cc -include model.h"]).env_remove("MAKEFLAGS");
        let out = make.output().expect("make starts");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        folder.join("build/bitnet_host")
    };
    let plain = host(&folders[0]);
    let mut refused = 0;
    for (seed, folder) in seeds.iter().zip(&folders) {
        let out = Command::new(&plain).arg(folder.join("model.bin")).arg("selftest").output().expect("it starts");
        match String::from_utf8_lossy(&out.stdout).as_ref() {
            "selftest: equal\n" => {}
            "init: model needs an operation that was not compiled in\n" => refused += 1,
            other => panic!("seed {seed}: {other}"),
        }
    }
    assert!(refused >= 2, "{refused} models were refused");
}

/// Whether a byte lies outside of header, table and sections.
fn is_padding(file: &[u8], at: usize) -> bool {
    let u32_at = |o: usize| u32::from_le_bytes([file[o], file[o + 1], file[o + 2], file[o + 3]]) as usize;
    let count = u32_at(12);
    let table = 64 + 64 * count;
    at >= table
        && !(0..count).any(|i| {
            let (start, len) = (u32_at(64 + 64 * i + 8), u32_at(64 + 64 * i + 16));
            (start..start + len).contains(&at)
        })
}

/// The fixtures, through the same door as a user: every runner that this machine has.
#[test]
fn fixtures_verify_on_every_runner() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for model in ["intent-w1a2", "intent-b158", "stories-b158"] {
        let out = dir.path().join(model);
        let status = Command::new(env!("CARGO_BIN_EXE_bitnet-convert"))
            .args(["export", "--quiet", "--target", "cortex-m7", "--model"])
            .arg(root().join("fixtures/models").join(model))
            .arg("-o")
            .arg(&out)
            .status()
            .expect("the binary starts");
        assert!(status.success());
        let report = verify_all(&out);
        assert!(report.beyond_window, "a golden prompt must be longer than the window");
        for row in &report.rows {
            match &row.outcome {
                Outcome::Equal => {}
                Outcome::Differs { at } => panic!("{model} on {}: {at}", row.runner),
                Outcome::NotRun { why, .. } => {
                    println!("not run: {model} on {}: {why}", row.runner);
                    assert!(std::env::var_os("BITNET_REQUIRE").is_none(), "{} is required here", row.runner);
                }
            }
        }
    }
}

/// This machine, and the chip that a folder was exported for.
fn verify_all(folder: &Path) -> verify::Report {
    let selection = verify::runners(&[], folder).expect("the runners of this machine");
    verify::verify(folder, &selection, false, &bitnet_convert::progress::Silent).expect("verify")
}

fn export(model: &str, out: &Path, flags: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_bitnet-convert"))
        .args(["export", "--quiet", "--target", "cortex-m7", "--model"])
        .arg(root().join("fixtures").join(model))
        .arg("-o")
        .arg(out)
        .args(flags)
        .output()
        .expect("the binary starts");
    assert!(output.status.success(), "{model} {flags:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Other widths, scale modes and architectures than the fixtures have, on the chip as well.
#[test]
fn variants_verify_on_the_chip() {
    if !have("the C runtime", &["cc", "make", "arm-none-eabi-gcc", "qemu-system-arm"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let cases: [(&str, &[&str]); 6] = [
        ("golden/bitnet_online_bf16", &["--kv-bits", "4", "--embed", "array"]),
        ("golden/bitnet_packed_2b4t_like", &["--kv-bits", "16", "--kv-window", "11", "--kv-sinks", "2"]),
        ("golden/llama_bitlinear_rmsnorm", &["--embedding-bits", "16"]),
        ("golden/bitnet_1bitllm_like", &["--kv-window", "5", "--kv-sinks", "0"]),
        ("golden/llama", &["--quantize-weight", "1", "--quantize-activation", "4", "--weight-scales", "32"]),
        (
            "golden/llama",
            &["--quantize-weight", "1.58", "--quantize-activation", "2", "--weight-scales", "row", "--kv-bits", "4"],
        ),
    ];
    for (i, (model, flags)) in cases.iter().enumerate() {
        let out = dir.path().join(i.to_string());
        export(model, &out, flags);
        let report = verify_all(&out);
        for row in &report.rows {
            assert_eq!(row.outcome, Outcome::Equal, "{model} {flags:?}: {row:?}");
        }
    }
}

/// No float, heap, library call, division or writable data in the firmware, for the emulator and for the board; the code is within the
/// budget that the plan shows; the device tokenizer answers a prompt like the host's.
#[test]
fn firmware_holds_what_it_promises() {
    if !have("the C runtime", &["make", "arm-none-eabi-gcc", "qemu-system-arm"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("m7");
    let prompt = "<|system|>You are a sensor assistant.<|user|>What's the temp?<|assistant|>";
    export("models/intent-w1a2", &out, &["--prompt", prompt]);
    let make = |args: &[&str]| {
        let output = Command::new("make")
            .arg("-s")
            .arg("-C")
            .arg(&out)
            .args(args)
            .env_remove("MAKEFLAGS")
            .output()
            .expect("make");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    for machine in ["MACHINE=mps2-an500", "MACHINE=board"] {
        assert!(make(&[machine, "check"]).contains("check: no floating point"));
    }
    // The same of every operation, also those that this model does without.
    assert!(make(&["PARTS=", "B=build/all", "check"]).contains("check: no floating point"));
    let sizes = make(&["report"]);
    let all = make(&["PARTS=", "B=build/all", "report"]);
    let hex = |sizes: &str, name: &str| {
        let line = sizes.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {sizes}"));
        let word = line.split_whitespace().nth(1).unwrap_or_default();
        u64::from_str_radix(word.trim_start_matches("0x"), 16).expect("a size")
    };
    let budget = bitnet_convert::target::find("cortex-m7").expect("the target").budget.expect("a budget");
    assert!(hex(&sizes, ".text") + hex(&sizes, ".vectors") <= budget.runtime_flash, "{sizes}");
    assert!(hex(&all, ".text") + hex(&all, ".vectors") <= budget.runtime_flash_all, "{all}");
    assert_eq!(make(&["run", "ARGS="]), format!("selftest: equal\n> {prompt}\nread_temperature\n"));
    // The same words through the host's own tokenizer and kernels.
    let run = Command::new(env!("CARGO_BIN_EXE_bitnet-convert"))
        .args(["run", "--quiet", "--greedy", "--prompt", prompt])
        .arg(&out)
        .output()
        .expect("the binary starts");
    assert_eq!(String::from_utf8_lossy(&run.stdout), "read_temperature\n");
}
