//! Outputs that cannot be written, disks that fill up, signals in the middle: what was there stays as it was, and nothing half is left.

mod common;

use common::checkpoint::{assert_failure, Bench, Checkpoint};
use common::{command, finish, fixture, listing, not_run, tool, Run};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn export_to(b: &Bench, out: &Path) -> Run {
    tool("export --model {} -o {}", &[&b.model(), out])
}

#[test]
fn output_directory_missing() {
    let b = Bench::new(&Checkpoint::online());
    let out = b.out().join("missing").join("model.bitnet");
    assert_failure(&export_to(&b, &out), &["cannot create the output", "missing/model.bitnet", "hint: "]);
    assert!(listing(&b.out()).is_empty());
}

#[test]
fn output_below_a_file() {
    let b = Bench::new(&Checkpoint::online());
    fs::write(b.out().join("file"), "x").unwrap();
    assert_failure(
        &export_to(&b, &b.out().join("file").join("model.bitnet")),
        &["cannot create the output", "file/model.bitnet"],
    );
    assert_eq!(listing(&b.out()), ["file"]);
}

#[test]
fn output_directory_read_only() {
    use std::os::unix::fs::PermissionsExt;
    let b = Bench::new(&Checkpoint::online());
    fs::set_permissions(b.out(), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(b.out().join("probe"), "").is_ok() {
        // Root may write everywhere.
        fs::remove_file(b.out().join("probe")).unwrap();
        println!("not run: a read-only directory needs a user that is not root");
    } else {
        b.refused(&["cannot create the output", "Permission denied", "hint: "]);
    }
    fs::set_permissions(b.out(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn output_is_a_directory() {
    let b = Bench::new(&Checkpoint::online());
    assert_failure(&export_to(&b, &b.out()), &["the output is a directory", "/out"]);
    assert!(listing(&b.out()).is_empty());
}

#[test]
fn output_without_a_name() {
    let b = Bench::new(&Checkpoint::online());
    for out in ["..", "/", ""] {
        assert_failure(&export_to(&b, Path::new(out)), &[]);
    }
}

/// A rename onto a pipe or a device would replace it; as root, `-o /dev/null` would take /dev/null away from the machine.
#[test]
fn output_is_a_pipe() {
    use std::os::unix::fs::FileTypeExt;
    let b = Bench::new(&Checkpoint::online());
    if finish(Command::new("mkfifo").arg(b.output())).code != Some(0) {
        return not_run("an output that is a pipe", "mkfifo");
    }
    assert_failure(&b.export(&[]), &["no regular file", "model.bitnet"]);
    assert!(fs::symlink_metadata(b.output()).unwrap().file_type().is_fifo());
}

#[test]
fn output_is_a_file_of_the_checkpoint() {
    let b = Bench::new(&Checkpoint::online());
    for name in ["model.safetensors", "config.json", "./model.safetensors"] {
        let path = b.model().join(name);
        let before = fs::read(&path).unwrap();
        assert_failure(&export_to(&b, &path), &["file of the checkpoint"]);
        assert!(fs::read(&path).unwrap() == before);
    }
}

#[test]
fn a_folder_that_is_no_export_is_not_replaced() {
    let b = Bench::new(&Checkpoint::online());
    fs::write(b.out().join("thesis.tex"), "years of work").unwrap();
    let run = tool("export --target cortex-m7 --model {} -o {}", &[&b.model(), &b.out()]);
    assert_failure(&run, &["not empty and is no earlier export", "/out", "hint: "]);
    assert_eq!(listing(&b.out()), ["thesis.tex"]);
}

#[test]
fn a_file_is_not_replaced_by_a_folder() {
    let b = Bench::new(&Checkpoint::online());
    fs::write(b.output(), "old").unwrap();
    let run = tool("export --target cortex-m7 --model {} -o {}", &[&b.model(), &b.output()]);
    assert_failure(&run, &["the output is a file", "model.bitnet"]);
    assert_eq!(fs::read(b.output()).unwrap(), b"old");
}

#[test]
fn a_failed_export_leaves_the_old_output() {
    // The last tensor of the file is found bad when most of the output has been written.
    let c = Checkpoint::with(|c| c.tensor("model.layers.0.mlp.ffn_sub_norm.weight").set(40, f32::NAN));
    let b = Bench::new(&c);
    fs::write(b.output(), "old").unwrap();
    assert_failure(&b.export(&[]), &["NaN"]);
    assert_eq!(listing(&b.out()), ["model.bitnet"]);
    assert_eq!(fs::read(b.output()).unwrap(), b"old");
    // The same for a folder.
    let good = Bench::new(&Checkpoint::online());
    let folder = b.out().join("m7");
    tool("export --target cortex-m7 --model {} -o {}", &[&good.model(), &folder]).ok();
    let before = listing(&folder);
    assert_failure(&tool("export --target cortex-m7 --model {} -o {}", &[&b.model(), &folder]), &["NaN"]);
    assert_eq!(listing(&folder), before);
    assert_eq!(listing(&b.out()), ["m7", "model.bitnet"]);
    tool("inspect {}", &[&folder]).ok();
}

#[test]
fn a_new_output_replaces_the_old_one_without_touching_its_readers() {
    let b = Bench::new(&Checkpoint::online());
    b.export(&[]).ok();
    let old = fs::File::open(b.output()).unwrap();
    let before = fs::read(b.output()).unwrap();
    b.export(&["--kv-window", "16"]).ok();
    assert!(fs::read(b.output()).unwrap() != before);
    let mut kept = Vec::new();
    std::io::Read::read_to_end(&mut &old, &mut kept).unwrap();
    assert!(kept == before, "the file under a reader was written to");
}

#[test]
fn two_exports_at_once_do_not_disturb_each_other() {
    let b = Bench::new(&Checkpoint::online());
    let runs: Vec<_> = (0..4).map(|_| b.command().stderr(Stdio::null()).spawn().unwrap()).collect();
    for mut r in runs {
        assert!(r.wait().unwrap().success());
    }
    assert_eq!(listing(&b.out()), ["model.bitnet"]);
    tool("inspect {}", &[&b.output()]).ok();
}

// ---- a disk that fills up ----

/// A write that fails in the middle: files may not become longer than 4 KB, and the signal for that is ignored.
#[test]
fn writing_fails_in_the_middle() {
    for old in [false, true] {
        let b = Bench::new(&Checkpoint::online());
        if old {
            fs::write(b.output(), "old").unwrap();
        }
        let mut c = Command::new("sh");
        c.args([
            "-c",
            "trap '' XFSZ && ulimit -f 8 && exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_bitnet-convert"),
            "export",
        ]);
        let run = finish(c.arg("--model").arg(b.model()).arg("-o").arg(b.output()));
        assert_failure(&run, &["cannot write the output", "model.bitnet"]);
        assert_eq!(listing(&b.out()).len(), usize::from(old), "{:?}", listing(&b.out()));
        assert!(!old || fs::read(b.output()).unwrap() == b"old");
    }
}

/// A real full disk, where this user may mount one.
#[test]
fn disk_full() {
    let b = Bench::new(&Checkpoint::online());
    let mounted = finish(Command::new("mount").args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"]).arg(b.out()));
    if mounted.code != Some(0) {
        return println!("not run: a full disk needs the right to mount a tmpfs");
    }
    let run = b.export(&[]);
    let left = listing(&b.out());
    finish(Command::new("umount").arg(b.out())).ok();
    assert_failure(&run, &["cannot write the output", "No space left", "model.bitnet", "hint: free some space"]);
    assert!(left.is_empty(), "{left:?}");
}

// ---- signals ----

/// Runs a command and sends it a signal after a while; how it ended.
fn interrupted(mut c: Command, signal: &str, after: Duration) -> (Option<i32>, Duration) {
    let start = Instant::now();
    let mut child = c.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    // It may be over by now; it has not been waited for, so its number still is its own.
    drop(Command::new("kill").args([signal, &child.id().to_string()]).status());
    let code = child.wait().unwrap().code();
    (code, start.elapsed())
}

const ROUNDS: u32 = 12;

/// Exports with a signal at different moments, from the start to beyond the end. `check` sees the code after each.
fn interrupt_at_all_times(make: &dyn Fn() -> Command, check: &mut dyn FnMut(Option<i32>)) {
    let start = Instant::now();
    let run = finish(&mut make());
    let whole = start.elapsed();
    run.ok();
    let mut stopped = 0;
    for round in 0..ROUNDS {
        let signal = ["-INT", "-TERM"][round as usize % 2];
        let (code, _) = interrupted(make(), signal, whole * round / (ROUNDS - 2));
        // No code: it came before the handler was installed. 130: cleaned up. 0: it had finished.
        assert!(matches!(code, None | Some(0 | 130)), "{code:?}");
        stopped += u32::from(code != Some(0));
        check(code);
    }
    println!("{stopped} of {ROUNDS} exports were interrupted");
}

fn large() -> Checkpoint {
    Checkpoint::sized(2, 256, 512, 512)
}

#[test]
fn a_signal_leaves_no_file() {
    let b = Bench::new(&large());
    interrupt_at_all_times(&|| b.command(), &mut |code| {
        if code == Some(0) {
            tool("inspect {}", &[&b.output()]).ok();
        }
        let _ = fs::remove_file(b.output());
        assert!(listing(&b.out()).is_empty(), "{code:?}: {:?}", listing(&b.out()));
    });
}

#[test]
fn a_signal_leaves_the_old_file() {
    let b = Bench::new(&large());
    interrupt_at_all_times(&|| b.command(), &mut |code| {
        assert_eq!(listing(&b.out()), ["model.bitnet"], "{code:?}");
        let now = fs::read(b.output()).unwrap();
        // The first, uninterrupted run has written the new model; from then on the old one is ours.
        assert!(now == b"old" || now.starts_with(&[0x89, b'B', b'N', b'E', b'T']), "{code:?}");
        if now != b"old" {
            tool("inspect {}", &[&b.output()]).ok();
        }
        fs::write(b.output(), "old").unwrap();
    });
}

#[test]
fn a_signal_leaves_the_old_folder() {
    let b = Bench::empty();
    let folder = b.out().join("m7");
    let model = fixture("models/intent-w1a2");
    let make = || {
        let mut c = command();
        c.args(["export", "--target", "cortex-m7", "--model"]).arg(&model).arg("-o").arg(&folder);
        c
    };
    let mut complete = Vec::new();
    interrupt_at_all_times(&make, &mut |code| {
        assert_eq!(listing(&b.out()), ["m7"], "{code:?}");
        tool("inspect {}", &[&folder]).ok();
        if complete.is_empty() {
            complete = listing(&folder);
        }
        assert_eq!(listing(&folder), complete, "{code:?}");
    });
}
