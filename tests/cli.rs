//! The command line as a user meets it: help, spelling mistakes, completions, pipes whose reader goes away, colours.

mod common;

use common::checkpoint::{assert_failure, Bench, Checkpoint};
use common::{command, finish, fixture, listing, not_run, tiny, tool, Run};
use std::path::{Path, PathBuf};
use std::process::Command;

const COMMANDS: [&str; 14] = [
    "export",
    "inspect",
    "run",
    "logits",
    "embed",
    "verify",
    "eval",
    "prune",
    "adapter",
    "delta",
    "update",
    "tokenizer",
    "targets",
    "completions",
];

fn args(list: &[&str]) -> Run {
    finish(command().args(list))
}

fn intent() -> PathBuf {
    fixture("models/intent-w1a2")
}

// ---- help ----

#[test]
fn help_of_every_command_has_an_example() {
    let top = args(&["--help"]).ok();
    assert!(top.stdout.contains("Exit codes: 0 yes; 1 the answer is no"), "{}", top.stdout);
    let listed: Vec<&str> = top
        .stdout
        .lines()
        .filter_map(|l| l.strip_prefix("  "))
        .filter(|l| l.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect();
    let listed: Vec<&str> =
        listed.iter().filter_map(|l| l.split_whitespace().next()).filter(|c| *c != "help").collect();
    assert_eq!(listed, COMMANDS, "a new command belongs into this test");
    for c in COMMANDS {
        let help = args(&[c, "--help"]).ok();
        assert!(help.stdout.contains("Example"), "{c}: {}", help.stdout);
        assert!(help.stdout.contains(&format!("bitnet-convert {c}")), "{c}: {}", help.stdout);
        assert!(help.stderr.is_empty(), "{c}: {}", help.stderr);
        args(&[c, "-h"]).ok();
    }
}

#[test]
fn every_flag_is_explained() {
    for c in COMMANDS {
        let help = args(&[c, "--help"]).ok().stdout;
        let options = help.split("Options:").nth(1).unwrap().split("Example").next().unwrap();
        let lines: Vec<&str> = options.lines().map(str::trim).collect();
        for (i, line) in lines.iter().enumerate().filter(|(_, l)| l.starts_with('-')) {
            let value = line.starts_with("- ") && line.contains(": ");
            let explained = value || line.contains("  ") || lines.get(i + 1).is_some_and(|l| l.len() > 10);
            assert!(explained, "{c}: {line}");
        }
    }
}

#[test]
fn version_is_that_of_the_package() {
    assert_eq!(args(&["--version"]).ok().stdout.trim(), format!("bitnet-convert {}", env!("CARGO_PKG_VERSION")));
}

// ---- mistakes ----

#[test]
fn mistyped_words_get_a_suggestion() {
    for (words, suggestion) in [
        (&["exprt"][..], "'export'"),
        (&["export", "--modle", "x"], "'--model'"),
        (&["export", "--model", "x", "--format", "paked"], "'packed'"),
        (&["export", "--model", "x", "--quantise-weight", "1"], "'--quantize-weight'"),
        (&["completions", "bsh"], "'bash'"),
    ] {
        let run = args(words);
        assert_failure(&run, &["similar", suggestion]);
        assert!(run.stdout.is_empty());
    }
    for words in [&["targets", "show", "cortexm7"][..], &["export", "--model", "x", "-o", "y", "--target", "cortexm7"]]
    {
        assert_failure(&args(words), &["there is no target `cortexm7`", "hint: did you mean `cortex-m7`?"]);
    }
    assert_failure(&tool("verify {} --target cortex-m8", &[&tiny()]), &["there is no runner `cortex-m8`", "cortex-m7"]);
}

#[test]
fn missing_arguments_are_named() {
    assert_failure(&args(&["export"]), &["--model"]);
    assert_failure(&args(&["export", "--model", "x"]), &["--output"]);
    assert_failure(&args(&["logits", "x"]), &["--input-ids"]);
    assert_failure(&tool("eval {}", &[&tiny()]), &["nothing to measure", "hint: "]);
    let nothing = args(&[]);
    assert_eq!(nothing.code, Some(2));
    assert!(nothing.stderr.contains("Usage: bitnet-convert"), "{}", nothing.stderr);
}

#[test]
fn inputs_that_are_nothing() {
    for c in ["inspect", "run --prompt x", "logits --input-ids 1", "verify", "eval --text x"] {
        assert_failure(&tool(&format!("{c} {{}}"), &[Path::new("/no/such/file")]), &["/no/such/file", "hint: "]);
        let b = Bench::empty();
        assert_failure(&tool(&format!("{c} {{}}"), &[&b.out()]), &["/out", "hint: "]);
        std::fs::write(b.output(), "hello").unwrap();
        assert_failure(&tool(&format!("{c} {{}}"), &[&b.output()]), &["packed", "model.bitnet"]);
        std::fs::write(b.output(), "").unwrap();
        assert_failure(&tool(&format!("{c} {{}}"), &[&b.output()]), &["model.bitnet", "byte 0"]);
    }
}

#[test]
fn ids_that_are_no_ids() {
    for (ids, reason) in [
        ("1,x", "`x`"),
        ("", "``"),
        ("1,,2", "``"),
        ("-1", "-1"),
        ("1.5", "1.5"),
        ("99999999999", "99999999999"),
        ("16", "token id 16"),
    ] {
        let run = finish(command().arg("logits").arg(tiny()).arg(format!("--input-ids={ids}")));
        assert_failure(&run, &[reason]);
    }
}

#[test]
fn temperatures_that_are_none() {
    let b = Bench::new(&Checkpoint::online());
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(intent().join(name), b.model().join(name)).unwrap();
    }
    b.export(&[]).ok();
    for t in ["-1", "nan", "inf", "1e-320"] {
        let run = finish(command().arg("run").arg(b.output()).args(["--prompt", "a", &format!("--temperature={t}")]));
        assert_failure(&run, &["temperature"]);
    }
    assert_failure(&finish(command().arg("run").arg(b.output()).args(["--prompt", ""])), &["the prompt is empty"]);
    assert_failure(
        &finish(command().arg("run").arg(b.output()).args(["--prompt", "a", "--greedy", "--top-k", "4"])),
        &["--greedy"],
    );
}

#[test]
fn a_model_that_does_not_fit_is_a_no() {
    let run = tool("export --model {} --target cortex-m7 --kv-window 8192 --dry-run", &[&intent()]).never_panicked();
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("does not fit cortex-m7") && run.stderr.contains("hint: "), "{}", run.stderr);
    assert!(run.stdout.contains("DOES NOT FIT"), "{}", run.stdout);
    let dir = tempfile::tempdir().unwrap();
    let run = tool("export --model {} --target cortex-m7 --kv-window 8192 -o {}", &[&intent(), &dir.path().join("m7")]);
    assert_eq!((run.code, listing(dir.path()).len()), (Some(1), 0));
}

// ---- the shell ----

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = args(&["completions", shell]).ok();
        assert!(run.stdout.len() > 1000, "{shell}");
        for c in COMMANDS {
            assert!(run.stdout.contains(c), "{shell}: no `{c}`");
        }
    }
}

/// Runs a shell line with the program as `$B`; `$1` is `path`. Its stderr and `code N` of the program come back.
fn shell(line: &str, path: &Path) -> Run {
    let dir = tempfile::tempdir().unwrap();
    finish(
        Command::new("sh")
            .args(["-c", line, "sh"])
            .arg(path)
            .env("B", env!("CARGO_BIN_EXE_bitnet-convert"))
            .current_dir(dir.path()),
    )
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let model = intent();
    for (command, path) in [
        ("inspect $1 --program", tiny()),
        ("inspect $1 --json", tiny()),
        ("inspect $1", model.clone()),
        ("logits $1 --input-ids 1,2,3", tiny()),
        ("logits $1 --input-ids 1,2,3 --json", tiny()),
        ("targets list", tiny()),
        ("completions bash", tiny()),
        ("--help", tiny()),
        ("export --help", tiny()),
        ("export --dry-run --model $1", model.clone()),
    ] {
        // The reader is gone before the first byte is written.
        let run =
            shell(&format!("{{ sleep 0.1; \"$B\" {command}; echo \"code $?\" >&2; }} | true"), &path).never_panicked();
        assert!(run.stderr.contains("code 0"), "{command}: {}", run.stderr);
        let run = shell(&format!("\"$B\" {command} | head -1"), &path).ok();
        assert!(run.stdout.lines().count() == 1, "{command}");
    }
}

/// `2>&1 | head` on an export: the work is done all the same, or at least nothing half is left.
#[test]
fn a_reader_of_stderr_that_goes_away_stops_nothing() {
    let line =
        "{ sleep 0.1; \"$B\" export --model $1 -o m.bitnet 2>&1; echo \"code $?\" > code; } | true; cat code; ls -A";
    let run = shell(line, &intent()).ok();
    assert_eq!(run.stdout.split_whitespace().collect::<Vec<_>>(), ["code", "0", "code", "m.bitnet"]);
    let run =
        shell("{ sleep 0.1; \"$B\" inspect /no/such/file 2>&1; echo \"code $?\" > code; } | true; cat code", &tiny())
            .ok();
    assert_eq!(run.stdout.trim(), "code 2");
}

#[test]
fn a_full_stdout_is_an_error() {
    let run = shell("\"$B\" inspect $1 > /dev/full", &tiny());
    assert_failure(&run, &["cannot write the result", "No space left"]);
    let run = shell("\"$B\" completions bash > /dev/full", &tiny());
    assert_failure(&run, &["cannot write", "No space left"]);
}

/// Colours on a terminal only, and not where NO_COLOR is set.
#[test]
fn colours() {
    let plain = args(&["inspect", "/no/such/file"]);
    assert!(!plain.stderr.contains('\u{1b}'), "{:?}", plain.stderr);
    let on_a_terminal = |no_color: &str| {
        let line = format!("{} inspect /no/such/file", env!("CARGO_BIN_EXE_bitnet-convert"));
        let mut c = Command::new("script");
        c.args(["-qec", &line, "/dev/null"]).env("NO_COLOR", no_color).env("TERM", "xterm");
        finish(&mut c)
    };
    if !Command::new("script").arg("--version").output().is_ok_and(|o| o.status.success()) {
        return not_run("colours on a terminal", "script (util-linux)");
    }
    let coloured = on_a_terminal("");
    if coloured.stderr.contains("pseudo-terminal") {
        // A container without /dev/pts: a property of the machine, not a missing tool.
        println!("not run: colours on a terminal: this machine gives no pseudo-terminal");
        return;
    }
    assert!(coloured.stdout.contains("\u{1b}[1;31merror:"), "{coloured:?}");
    let plain = on_a_terminal("1");
    assert!(plain.stdout.contains("error:") && !plain.stdout.contains('\u{1b}'), "{plain:?}");
}
