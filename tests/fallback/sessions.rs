//! A conversation as bytes: C and the host write the same ones and continue each other's; `run --session`.

use crate::common::device::{build_with_runtime, have, random_model, SANITIZERS};
use crate::common::{command, finish, fixture, tool, Rng, Run};
use bitnet_convert::format::session::Header;
use bitnet_convert::kernels::DotKernel;
use bitnet_convert::runtime::{sample, state, Artifact};
use std::path::{Path, PathBuf};
use std::process::Command;

fn state_driver(dir: &Path) -> PathBuf {
    build_with_runtime(dir, "state_driver.c", "cc", &SANITIZERS)
}

fn list(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// Every width, static keys, windows that are not full, full and rolled over; bytes and logits.
#[test]
fn c_and_rust_continue_each_others_sessions() {
    if !have("sessions in C and Rust", &["cc", "python3"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let driver = state_driver(dir.path());
    let run = |model: &Path, rest: &[&str]| -> Run { finish(Command::new(&driver).arg(model).args(rest)) };
    let (mut widths, mut fixed) = (std::collections::BTreeSet::new(), false);
    for seed in [1000u32, 1001, 1003, 1004, 1007, 1009, 1010, 1013, 1016, 1019, 1022, 1028] {
        let file = dir.path().join("random.bitnet");
        random_model(seed, &file, &[]);
        let a = Artifact::open(&file).expect("a valid model");
        if a.need_logits().is_err() {
            continue;
        }
        widths.extend([a.program.attention.k_bits, a.program.attention.v_bits]);
        fixed |= a.program.static_keys;
        let window = a.program.attention.window;
        let limit = a.program.longest().unwrap_or(usize::MAX);
        for n in [1, window / 2 + 1, window, window + 1, 3 * window + 2].map(|n| n.min(limit.saturating_sub(4)).max(1))
        {
            let ids: Vec<u32> = (0..n + 4).map(|i| ((i * 7 + i / 5) % a.program.vocab) as u32).collect();
            let (first, rest) = ids.split_at(n);
            let mut host = a.session(DotKernel::best());
            host.run(first).expect("the first part");
            let ours = state::save(&a, &host).expect("a session");
            let (of_host, of_c) = (dir.path().join("host.session"), dir.path().join("c.session"));
            std::fs::write(&of_host, &ours).expect("a file");
            run(&file, &["ids", &list(first), "save", of_c.to_str().expect("UTF-8")]).ok();
            assert_eq!(std::fs::read(&of_c).expect("its session"), ours, "seed {seed}, {n} tokens");
            assert!(ours.len() as u64 <= state::most_bytes(&a));
            let want = host.run(rest).expect("the rest").expect("logits");
            let mut again = state::restore(&a, DotKernel::Scalar, &ours).expect("our own session");
            assert_eq!((again.position() as usize, state::save(&a, &again).expect("again")), (n, ours.clone()));
            assert_eq!(again.run(rest).expect("the rest").expect("logits"), want, "seed {seed}, {n} tokens");
            let out = run(&file, &["load", of_host.to_str().expect("UTF-8"), "ids", &list(rest)]).ok().stdout;
            let theirs: Vec<i32> = out.lines().map(|l| l.parse().expect("a number")).collect();
            assert_eq!(theirs, want, "seed {seed}, {n} tokens: C after the host");
        }
    }
    assert_eq!((widths.into_iter().collect::<Vec<_>>(), fixed), (vec![4, 8, 16], true), "the seeds show every form");
}

/// A machine of the other byte order writes the same bytes and goes on with them.
#[test]
fn a_big_endian_machine_shares_sessions() {
    if !have("sessions in C and Rust", &["powerpc-linux-gnu-gcc", "qemu-ppc", "python3"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let driver = build_with_runtime(dir.path(), "state_driver.c", "powerpc-linux-gnu-gcc", &["-static"]);
    for seed in [1001u32, 1009, 1010] {
        let (model, theirs) = (dir.path().join("random.bitnet"), dir.path().join("big.session"));
        random_model(seed, &model, &[]);
        let a = Artifact::open(&model).expect("a valid model");
        let mut host = a.session(DotKernel::best());
        host.run(&[1, 2, 3, 4]).expect("four tokens");
        let ours = state::save(&a, &host).expect("a session");
        let run = |rest: &[&str]| finish(Command::new("qemu-ppc").arg(&driver).arg(&model).args(rest)).ok().stdout;
        let theirs = theirs.to_str().expect("UTF-8");
        run(&["ids", "1,2,3,4", "save", theirs]);
        assert_eq!(std::fs::read(theirs).expect("its session"), ours, "seed {seed}");
        let logits: Vec<i32> =
            run(&["load", theirs, "ids", "2,1"]).lines().map(|l| l.parse().expect("a number")).collect();
        assert_eq!(logits, host.run(&[2, 1]).expect("two tokens").expect("logits"), "seed {seed}");
    }
}

/// The document alone is enough to read a session.
#[test]
fn python_reads_sessions_and_reports() {
    if !have("sessions in C and Rust", &["python3"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let a = Artifact::open(&crate::common::tiny()).expect("the small model");
    let mut host = a.session(DotKernel::best());
    host.run(&[1, 2, 3, 4, 5]).expect("five tokens");
    let file = dir.path().join("tiny.session");
    std::fs::write(&file, state::save(&a, &host).expect("a session")).expect("a file");
    let shown = tool("inspect {} --json", &[&file]).ok().json();
    let out = finish(Command::new("python3").arg(fixture("reader/records.py")).arg(&file)).ok().stdout;
    for (theirs, ours) in [("position", "position"), ("window", "window"), ("model_digest", "model_digest")] {
        let value = &shown[ours];
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        assert!(out.contains(&format!("{theirs}={value}")), "{theirs} {value} in {out}");
    }
    assert!(tool("inspect {}", &[&file]).ok().stdout.contains("session of 5 tokens"));
}

/// A packed file of the intent model, and one with another window.
fn models(dir: &Path) -> (PathBuf, PathBuf) {
    let model = fixture("models/intent-w1a2");
    let (a, b) = (dir.join("a.bitnet"), dir.join("b.bitnet"));
    tool("export -q --model {} --kv-window 24 -o {}", &[&model, &a]).ok();
    tool("export -q --model {} --kv-window 16 -o {}", &[&model, &b]).ok();
    (a, b)
}

fn talk(model: &Path, prompt: &str, file: &Path) -> Run {
    let mut c = command();
    c.args(["run", "--json", "--greedy", "--max-new-tokens", "4", "--prompt", prompt]).arg(model);
    finish(c.arg("--session").arg(file))
}

fn ids(v: &serde_json::Value) -> Vec<u32> {
    v.as_array().expect("a list").iter().map(|i| i.as_u64().expect("an id") as u32).collect()
}

#[test]
fn run_goes_on_where_the_session_is() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (model, _) = models(dir.path());
    let file = dir.path().join("talk.session");
    let a = Artifact::open(&model).expect("a valid model");
    let mut whole = a.session(DotKernel::best());
    let mut before = 0;
    for prompt in ["turn on the light", "what is the weather", "play some music please", "and now wake me at nine"] {
        let v = talk(&model, prompt, &file).ok().json();
        assert_eq!(v["session"]["before"], before);
        let mut logits = whole.run(&ids(&v["prompt_ids"])).expect("the prompt").expect("logits");
        for id in ids(&v["generated_ids"]) {
            assert_eq!(sample::argmax(&logits), id, "{prompt}");
            logits = whole.run(&[id]).expect("a token").expect("logits");
        }
        if v["finished"] == true {
            whole.run(&[sample::argmax(&logits)]).expect("the end");
        }
        before = whole.position();
        assert_eq!(v["session"]["after"], before);
        assert_eq!(std::fs::read(&file).expect("the session"), state::save(&a, &whole).expect("the same"), "{prompt}");
    }
    assert!(before > 24, "the window rolled: {before} tokens");
    assert_eq!(crate::common::listing(dir.path()), ["a.bitnet", "b.bitnet", "talk.session"]);
}

#[test]
fn a_session_that_does_not_fit_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (model, other) = models(dir.path());
    let file = dir.path().join("talk.session");
    talk(&model, "turn on the light", &file).ok();
    let good = std::fs::read(&file).expect("the session");
    let refused = |model: &Path, bytes: &[u8], code: i32, says: &str| {
        std::fs::write(&file, bytes).expect("a file");
        let run = talk(model, "more", &file).never_panicked();
        assert_eq!(run.code, Some(code), "{run:?}");
        assert!(run.stderr.contains(says) && run.stderr.contains("talk.session"), "{says}: {}", run.stderr);
        assert_eq!(std::fs::read(&file).expect("the session"), bytes, "{says}: untouched");
    };
    let with = |at: usize, v: u8| {
        let mut b = good.clone();
        b[at] = v;
        b
    };
    refused(&other, &good, 2, "belongs to another model");
    refused(&model, &good[..good.len() - 1], 2, "the file has");
    refused(&model, &good[..60], 2, "cut off");
    refused(&model, b"", 2, "no session file");
    refused(&model, b"once upon a time, there was a file that was no session at all", 2, "no session file");
    refused(&model, &with(8, 2), 2, "session version 2");
    refused(&model, &with(200, good[200] ^ 4), 2, "CRC-32");
    refused(&model, &[&good[..], &vec![0; 1 << 20][..]].concat(), 2, "larger than");
    // The header says something else, with a good checksum.
    let (header, cache) = Header::read(&good).expect("a session");
    let changed = |f: &dyn Fn(&mut Header)| {
        let mut h = header.clone();
        f(&mut h);
        let n = usize::try_from(h.cache_bytes()).expect("small");
        h.write(&[cache, &vec![0; n][..]].concat()[..n])
    };
    refused(&model, &changed(&|h| h.window = 12), 2, "a window of 12");
    refused(&model, &changed(&|h| h.key_bits = 8), 2, "8/16 bits");
    refused(&model, &changed(&|h| h.layers = 1), 2, "contradicts its model");
    refused(&model, &changed(&|h| h.window = 0), 2, "impossible cache");
    refused(&model, &changed(&|h| h.position += 1), 2, "no cache has");
    std::fs::write(&file, &good).expect("a file");
    talk(&model, "more", &file).ok();
    let run =
        finish(command().args(["run", "--prompt", "x", "--session"]).arg(dir.path()).arg(&model)).never_panicked();
    assert_eq!(run.code, Some(2), "a folder is no session: {run:?}");
}

#[test]
fn every_cut_and_flip_of_a_session_is_refused() {
    let a = Artifact::open(&crate::common::tiny()).expect("the small model");
    let mut host = a.session(DotKernel::Scalar);
    host.run(&[1, 2, 3]).expect("three tokens");
    let good = state::save(&a, &host).expect("a session");
    for n in 0..good.len() {
        assert!(state::restore(&a, DotKernel::Scalar, &good[..n]).is_err(), "cut after {n}");
        let mut bad = good.clone();
        bad[n] ^= 1 << (n % 8);
        assert!(state::restore(&a, DotKernel::Scalar, &bad).is_err(), "flipped at {n}");
    }
}

/// Contents that lie under a checksum that is right: both runtimes refuse the same ones, and what they take they can run.
#[test]
fn hostile_sessions_with_right_checksums_break_nothing() {
    if !have("sessions in C and Rust", &["cc", "python3"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let driver = state_driver(dir.path());
    let mut rng = Rng(11);
    let (mut taken, mut refused) = (0, 0);
    for seed in [4u32, 1000, 1001, 1003] {
        let (model, file) = (dir.path().join("random.bitnet"), dir.path().join("bad.session"));
        random_model(seed, &model, &[]);
        let a = Artifact::open(&model).expect("a valid model");
        let mut host = a.session(DotKernel::Scalar);
        host.run(&[1, 2, 3, 1, 2, 3, 1]).expect("seven tokens");
        let good = state::save(&a, &host).expect("a session");
        for _ in 0..40 {
            let mut bad = good.clone();
            let hot = if rng.below(3) == 0 { 52..96 } else { 96..good.len() };
            let at = hot.start + rng.below(hot.len());
            bad[at] = [0, 0xFF, 0x80, 0x88, rng.below(256) as u8][rng.below(5)];
            bad[16..20].fill(0);
            let crc = bitnet_convert::digest::crc32(&bad);
            bad[16..20].copy_from_slice(&crc.to_le_bytes());
            std::fs::write(&file, &bad).expect("a file");
            let mut c = Command::new(&driver);
            let run = finish(c.arg(&model).arg("load").arg(&file).args(["ids", "1,2"]));
            assert!(!run.stderr.contains("Sanitizer") && !run.stderr.contains("runtime error"), "{at}: {run:?}");
            match state::restore(&a, DotKernel::Scalar, &bad) {
                Ok(mut s) => {
                    let ours = s.run(&[1, 2]).expect("two tokens").expect("logits");
                    let theirs: Vec<i32> = run.ok().stdout.lines().map(|l| l.parse().expect("a number")).collect();
                    assert_eq!(theirs, ours, "seed {seed}, byte {at}");
                    taken += 1;
                }
                Err(e) => {
                    assert!(run.code.is_some_and(|c| c > 10), "seed {seed}, byte {at}: C took it, {e}");
                    refused += 1;
                }
            }
        }
    }
    assert!(taken > 10 && refused > 10, "{taken} taken, {refused} refused");
}
