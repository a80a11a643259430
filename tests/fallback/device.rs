//! Fault injection: the exported folder with a flipped bit, a wrong kernel, a short arena and an overwritten stack guard, on this machine with
//! sanitizers and in the emulator; each fallback mode acts.

use crate::common::device::have;
use crate::common::{command, finish, fixture, root, tool, Run};
use bitnet_convert::format::packed::Packed;
use bitnet_convert::format::record::Record;
use std::path::{Path, PathBuf};
use std::process::Command;

const RULES: &[u8] = b"# for when the model is silent\n* (light|lamp) * -> light, by rule\n* -> sorry, by rule\n";
const TEXTS: &str = "turn on the kitchen light;what is the weather in paris";
const MACHINE: &str = "mps2-an500";

/// An exported folder and where its programs are built.
struct Folder {
    dir: tempfile::TempDir,
    emulator: bool,
}

impl Folder {
    fn new(emulator: bool) -> Folder {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let rules = dir.path().join("answers.rules");
        std::fs::write(&rules, RULES).expect("a file");
        let (model, out) = (fixture("models/intent-w1a2"), dir.path().join("export"));
        tool("export -q --model {} --target cortex-m7 --rules {} -o {}", &[&model, &rules, &out]).ok();
        Folder { dir, emulator }
    }

    fn export(&self) -> PathBuf {
        self.dir.path().join("export")
    }

    fn make(&self, build: &str, arguments: &[&str]) -> Run {
        let mut make = Command::new("make");
        make.arg("-j2")
            .arg("-C")
            .arg(self.export())
            .arg(format!("B={}", self.dir.path().join(build).display()))
            .args(arguments);
        let goal: &[&str] = match self.emulator {
            true => &["emulator", "MACHINE=mps2-an500"],
            false => &["host"],
        };
        finish(make.args(goal).env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MFLAGS"))
    }

    fn run(&self, build: &str, arguments: &str) -> Run {
        let build = self.dir.path().join(build);
        if !self.emulator {
            let mut host = Command::new(build.join("bitnet_host"));
            return finish(host.arg(self.export().join("model.bin")).arg(arguments));
        }
        let semihosting =
            format!("enable=on,target=native,chardev=out,arg=firmware,arg={}", arguments.replace(',', ",,"));
        let mut qemu = Command::new("qemu-system-arm");
        qemu.args([
            "-M",
            MACHINE,
            "-display",
            "none",
            "-monitor",
            "none",
            "-serial",
            "null",
            "-chardev",
            "stdio,id=out",
        ]);
        qemu.args(["-semihosting-config", &semihosting, "-kernel"]).arg(build.join(format!("{MACHINE}.elf")));
        finish(&mut qemu)
    }
}

/// What the program said: the line about its start, then for each text where the answer came from and the answer.
fn said(run: &Run) -> (String, Vec<(String, String)>) {
    assert!(!run.stderr.contains("Sanitizer") && !run.stderr.contains("runtime error"), "{run:?}");
    let mut lines = run.stdout.lines();
    let start = lines.next().unwrap_or("").to_string();
    let answers = lines.map(|l| {
        let (source, answer) =
            l.strip_prefix("answer (").and_then(|l| l.split_once("): ")).unwrap_or_else(|| panic!("{run:?}"));
        (source.to_string(), answer.to_string())
    });
    (start, answers.collect())
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_string(), (*b).to_string())).collect()
}

/// The folder's model with a bit flipped in the middle of each section in turn; restored afterwards.
fn each_section(folder: &Folder, mut f: impl FnMut(&str)) {
    let file = folder.export().join("model.bin");
    let good = std::fs::read(&file).expect("the model");
    let packed = Packed::from_bytes(good.clone(), &file).expect("a good model");
    for s in &packed.sections {
        let mut bad = good.clone();
        bad[(s.range.start + s.range.end) / 2] ^= 0x10;
        std::fs::write(&file, bad).expect("the model");
        f(s.kind.map_or("?", |k| k.name()));
    }
    std::fs::write(&file, good).expect("the model");
}

fn every_fault(emulator: bool) {
    let folder = Folder::new(emulator);
    let answer = |build: &str, what: &str| said(&folder.run(build, &format!("answer {what}{TEXTS}")));
    let model = ["ok", "ok"];
    let mut good = Vec::new();
    for (mode, silent, source) in [
        ("none", "", "nothing"),
        ("degrade", "not available", "canned"),
        ("rules", "", "rule"),
        ("report", "", "record"),
    ] {
        let build = folder.make(mode, &[&format!("FALLBACK={mode}")]);
        assert_eq!(build.code, Some(0), "{}", build.stderr);
        // All is well: the model answers, whatever the mode.
        let (start, answers) = answer(mode, "");
        assert_eq!(start, "start: ok, mode full");
        assert!(
            answers.iter().zip(model).all(|((source, text), _)| source == "model, ok" && !text.is_empty()),
            "{answers:?}"
        );
        good.clone_from(&answers);
        assert_eq!(answer(mode, "quick ").1, answers);
        // A short arena.
        let (start, answers) = answer(mode, "arena=1024 ");
        assert_eq!(start, "start: arena too small, mode failed");
        let by_rule = ["light, by rule", "sorry, by rule"];
        for (i, (from, text)) in answers.iter().enumerate() {
            assert_eq!(*from, format!("{source}, arena too small"), "{mode}");
            match mode {
                "rules" => assert_eq!(text, by_rule[i]),
                "report" => check_report(text, "start", "arena too small", "failed", i as u32 + 1),
                _ => assert_eq!(text, silent),
            }
        }
        // The guard below the stack is overwritten before the second text.
        let (start, answers) = answer(mode, "smash ");
        assert_eq!((start.as_str(), &answers[0]), ("start: ok, mode full", &good[0]));
        let (from, text) = &answers[1];
        match mode {
            "none" => assert_eq!(answers[1], pairs(&[("nothing, stack overflow", "")])[0]),
            "degrade" => assert_eq!((from.as_str(), text), ("last, stack overflow", &good[0].1)),
            "rules" => assert_eq!(answers[1], pairs(&[("rule, stack overflow", "sorry, by rule")])[0]),
            _ => {
                assert_eq!(from, "record, stack overflow");
                check_report(text, "stack guard", "stack overflow", "full", 1);
            }
        }
    }
    assert_ne!(folder.make("wrong", &["FALLBACK=sometimes"]).code, Some(0));

    // A flipped bit in each section of the model. The host reads the file when it starts; the firmware is linked again.
    let mut sections = Vec::new();
    each_section(&folder, |name| {
        let mode = ["degrade", "rules", "report"][sections.len() % 3];
        if emulator {
            assert_eq!(folder.make(mode, &[&format!("FALLBACK={mode}")]).code, Some(0));
        }
        let (start, answers) = answer(mode, "");
        assert_eq!(start, "start: checksum does not match, mode failed", "{name}");
        let want = [("canned", "not available"), ("rule", "light, by rule"), ("record", "")][sections.len() % 3];
        assert_eq!(answers[0].0, format!("{}, checksum does not match", want.0), "{name}");
        match want.1 {
            "" => check_report(&answers[0].1, "start", "checksum", "failed", 1),
            text => assert_eq!(answers[0].1, text, "{name}"),
        }
        sections.push(name.to_string());
    });
    assert_eq!(
        sections,
        ["weights", "program", "tables", "device tokenizer", "golden trace"].map(|s| s.to_string()),
        "every section"
    );

    // A kernel that computes nonsense: the self-test finds it, and the plain loops answer the same.
    let flags = ["FALLBACK=degrade", "EXTRA=-DBITNET_BREAK_KERNEL"];
    assert_eq!(folder.make("broken", &flags).code, Some(0));
    assert_eq!(answer("broken", ""), ("start: ok, mode scalar".into(), good.clone()));
    assert_eq!(answer("broken", "quick "), ("start: ok, mode scalar".into(), good));
    let run = folder.run("broken", "selftest");
    assert_eq!((run.stdout.as_str(), run.code), ("selftest: equal with plain loops, a kernel differs\n", Some(0)));
}

fn check_report(hex: &str, cause: &str, status: &str, mode: &str, number: u32) {
    let bytes: Vec<u8> =
        hex.as_bytes().chunks(2).map(|d| u8::from_str_radix(&String::from_utf8_lossy(d), 16).expect("hex")).collect();
    let r = Record::read(&bytes).unwrap_or_else(|e| panic!("{e}: {hex}"));
    assert_eq!((r.cause, r.status_text, r.mode, r.number), (cause, status, mode, number));
    assert_eq!(r.ids.is_empty(), cause == "start", "{r:?}");
    // The command line and the reader written from the document show the same.
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("device.report");
    std::fs::write(&file, &bytes).expect("a file");
    let shown = finish(command().args(["inspect", "--json"]).arg(&file)).ok().json();
    assert_eq!((shown["cause"].as_str(), shown["model"].as_str()), (Some(cause), Some(r.model.as_str())));
    if Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success()) {
        let theirs = finish(Command::new("python3").arg(fixture("reader/records.py")).arg(&file)).ok().stdout;
        assert!(theirs.contains(&format!("cause={cause} status={}", r.status)), "{theirs}");
        assert!(theirs.contains(&format!("model={} position={}", r.model, r.position)), "{theirs}");
    }
}

#[test]
fn every_fault_is_met_on_this_machine() {
    if have("fault injection", &["make", "cc"]) {
        every_fault(false);
    }
}

#[test]
fn every_fault_is_met_in_the_emulator() {
    if have("fault injection", &["make", "arm-none-eabi-gcc", "qemu-system-arm"]) {
        every_fault(true);
    }
}

/// A session survives a reset; the examples of the folder give the same tokens.
fn restart(folder: &Folder, sources: &[&str]) {
    let copy = |from: &Path, to: &str| std::fs::copy(from, folder.export().join(to)).expect("a copy");
    copy(&root().join("tests/c/restart_main.c"), "ports/bitnet_main.c");
    // The Makefile does not know the examples: they are compiled as a part of the program that uses them.
    let mut main = std::fs::read_to_string(folder.export().join("ports/bitnet_main.c")).expect("the program");
    sources.iter().for_each(|s| main += &format!("#include \"examples/{s}\"\n"));
    std::fs::write(folder.export().join("ports/bitnet_main.c"), main).expect("the program");
    let build = folder.make("restart", &[]);
    assert_eq!(build.code, Some(0), "{}", build.stderr);
    let run = folder.run("restart", "");
    assert_eq!((run.stdout.as_str(), run.code), ("state: equal\nexamples: equal\n", Some(0)), "{run:?}");
}

#[test]
fn a_session_survives_a_reset_in_the_emulator() {
    if have("fault injection", &["make", "arm-none-eabi-gcc", "qemu-system-arm"]) {
        restart(&Folder::new(true), &["stream.c", "tasks.c"]);
    }
}

#[test]
fn a_session_survives_a_reset_on_this_machine() {
    if have("fault injection", &["make", "cc"]) {
        restart(&Folder::new(false), &["stream.c", "tasks.c"]);
    }
}

#[test]
fn rules_need_the_c_folder() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (rules, out) = (dir.path().join("a.rules"), dir.path().join("m.bitnet"));
    std::fs::write(&rules, RULES).expect("a file");
    let run =
        tool("export --model {} --rules {} -o {}", &[&fixture("models/intent-w1a2"), &rules, &out]).never_panicked();
    assert!(run.code == Some(2) && run.stderr.contains("`--rules`") && !out.exists(), "{run:?}");
    std::fs::write(&rules, b"a -> b\nturn (on -> x\n").expect("a file");
    let args = "export --model {} --target cortex-m7 --rules {} -o {}";
    let run = tool(args, &[&fixture("models/intent-w1a2"), &rules, &out]).never_panicked();
    let says = ["line 2, column 6", "not closed", "a.rules", "hint:"];
    assert!(run.code == Some(2) && says.iter().all(|s| run.stderr.contains(s)) && !out.exists(), "{run:?}");
}
