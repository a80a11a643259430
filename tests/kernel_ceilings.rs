//! Instructions of every LINEAR kernel on every emulated core, held against `tests/data/kernel_ceilings.txt`: a count may not grow by more
//! than 2 %. `tools/kernels.py` counts, and compares each result with a plain loop on the core itself.
//!
//! The counts belong to the compilers that the file names. Renew it with `BLESS=1 cargo test --test kernel_ceilings`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const COMPILERS: [&str; 3] = ["arm-none-eabi-gcc", "riscv64-unknown-elf-gcc", "xtensa-lx106-elf-gcc"];
const TOOLS: [&str; 5] = ["cc", "python3", "qemu-system-arm", "qemu-system-riscv32", "qemu-system-xtensa"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// First line of `tool --version`.
fn version(tool: &str) -> Option<String> {
    let out = Command::new(tool).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&out.stdout).lines().next().unwrap_or_default().to_string())
}

/// "target kernel size" to the counts of the first and the next call.
fn parse(text: &str) -> BTreeMap<String, [u64; 2]> {
    let mut counts = BTreeMap::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        let [target, kernel, size, first, again] = words[..] else { panic!("a line is {line:?}") };
        let numbers = [first, again].map(|n| n.parse().expect("a count"));
        counts.insert(format!("{target} {kernel} {size}"), numbers);
    }
    counts
}

/// Cases that are missing, new or more than 2 % above their ceiling.
fn complaints(ceilings: &BTreeMap<String, [u64; 2]>, counts: &BTreeMap<String, [u64; 2]>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (case, most) in ceilings {
        match counts.get(case) {
            None => wrong.push(format!("{case}: not counted any more")),
            Some(now) if (0..2).any(|i| now[i] * 100 > most[i] * 102) => {
                wrong.push(format!("{case}: {now:?} instructions, the ceiling is {most:?}"));
            }
            Some(_) => {}
        }
    }
    wrong.extend(counts.keys().filter(|c| !ceilings.contains_key(*c)).map(|c| format!("{c}: has no ceiling")));
    wrong
}

#[test]
fn a_growth_of_three_percent_is_noticed() {
    let ceilings = parse("# comment\ncortex-m7 tables 512x512 1000 500\nxtensa int8 64x64 70 70\n");
    let counts = parse("cortex-m7 tables 512x512 1020 515\nrv32imc int8 64x64 7 7\n");
    let found = complaints(&ceilings, &counts);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("cortex-m7 tables 512x512: [1020, 515]"), "{found:?}");
    assert!(complaints(&ceilings, &ceilings).is_empty());
}

#[test]
fn kernels_take_no_more_instructions_than_their_ceilings() {
    let missing: Vec<&str> = COMPILERS.iter().chain(&TOOLS).filter(|t| version(t).is_none()).copied().collect();
    if !missing.is_empty() {
        println!("not run: needs {}", missing.join(", "));
        assert!(std::env::var_os("BITNET_REQUIRE").is_none(), "{missing:?} are required here");
        return;
    }
    let out =
        Command::new("python3").arg(root().join("tools/kernels.py")).arg("counts").output().expect("python3 starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let file: &Path = &root().join("tests/data/kernel_ceilings.txt");
    let by: Vec<String> = COMPILERS.iter().filter_map(|c| version(c)).collect();
    let head = format!("# target kernel ROWSxCOLS instructions (first call, next call), by {}\n", by.join("; "));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(file, head + &text).expect("the file can be written");
        return;
    }
    let kept = std::fs::read_to_string(file).expect("the ceilings");
    let wrong = complaints(&parse(&kept), &parse(&text));
    let other = if kept.starts_with(&head) { "" } else { "these compilers are not those of the file\n" };
    assert!(wrong.is_empty(), "{other}{}\nBLESS=1 cargo test --test kernel_ceilings renews the file", wrong.join("\n"));
}
