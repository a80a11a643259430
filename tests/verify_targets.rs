//! Targets as files: what is refused and why, what is generated from one, and verify on several of them.

mod common;

use bitnet_convert::error::Error;
use bitnet_convert::export::c::machine;
use bitnet_convert::progress::Silent;
use bitnet_convert::target;
use bitnet_convert::verify::{self, Fits, Outcome, Report, Row};
use common::device::have;
use common::tiny;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A board with two RAMs, and a machine with one that is larger.
const BOARD: &str = r#"
name = "my-board"
title = "A board of mine"
board = "MB-1"
kind = "mcu"
isa = "armv7-m"
[defaults]
window = 16
sinks = 2
kv_bits = 8
embedding_bits = 8
table_bytes = 0
[kernels]
allowed = ["select"]
cost = "armv7-m"
[[memory]]
name = "flash"
role = "flash"
origin = 0x08000000
bytes = 524288
[[memory]]
name = "ccm"
role = "fast"
origin = 0x10000000
bytes = 65536
[[memory]]
name = "sram"
role = "ram"
origin = 0x20000000
bytes = 131072
[[memory]]
name = "backup"
role = "spare"
origin = 0x40024000
bytes = 4096
[budget]
runtime_flash = 36864
runtime_flash_all = 61440
stack = 8192
application_ram = 4096
[build]
compiler = "arm-none-eabi-gcc"
flags = "-mcpu=cortex-m3 -mthumb -mfloat-abi=soft"
port = "cortex_m"
sections = "sections.ld"
packages = "gcc-arm-none-eabi"
[[emulator]]
name = "mps2-an385"
command = ["qemu-system-arm", "-M", "mps2-an385", "-display", "none", "-monitor", "none", "-serial", "null", "-chardev", "stdio,id=out", "-semihosting-config", "enable=on,target=native,chardev=out,arg=firmware,arg={args}", "-kernel", "{elf}"]
arguments = "semihosting"
counter = "plugin"
packages = "qemu-system-arm"
limits = "no cycles"
[[emulator.memory]]
name = "code"
role = "flash"
origin = 0x00000000
bytes = 4194304
[[emulator.memory]]
name = "data"
role = "fast"
origin = 0x20000000
bytes = 4194304
"#;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my-board.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

#[track_caller]
fn refused_text(text: &str) -> Error {
    let (_dir, path) = file(text);
    let e = target::from_file(&path).expect_err("it is nonsense");
    assert_eq!(e.file(), Some(path.as_path()), "{e}");
    assert!(e.next_step().is_some(), "{e}");
    e
}

/// The board with one line changed.
#[track_caller]
fn refused(from: &str, to: &str, parts: &[&str]) {
    assert!(BOARD.contains(from), "`{from}`");
    let e = refused_text(&BOARD.replacen(from, to, 1));
    for part in parts {
        assert!(e.message().contains(part), "`{part}` is not in: {e}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    refused("sinks = 2", "sinks = 2\nsnks = 3", &["line 10 (`snks = 3`)", "unknown field"]);
}

#[test]
fn a_missing_key_is_named() {
    refused("kv_bits = 8\n", "", &["missing field `kv_bits`"]);
}

#[test]
fn a_wrong_type_is_named_with_its_line() {
    refused("bytes = 65536", "bytes = \"64K\"", &["bytes = \"64K\"", "invalid type"]);
    refused("bytes = 65536", "bytes = -1", &["bytes = -1"]);
}

#[test]
fn an_unknown_role() {
    refused("role = \"fast\"", "role = \"faster\"", &["role = \"faster\"", "unknown variant `faster`", "`fast`"]);
}

#[test]
fn an_unknown_kernel() {
    refused("[\"select\"]", "[\"simd\"]", &["unknown variant `simd`", "tables"]);
    refused("[\"select\"]", "[]", &["kernels.allowed", "no kernel"]);
}

#[test]
fn an_unknown_cost_row() {
    refused("cost = \"armv7-m\"", "cost = \"z80\"", &["kernels.cost", "`z80`", "armv7-m"]);
}

#[test]
fn an_unknown_instruction_set() {
    refused("isa = \"armv7-m\"", "isa = \"z80\"", &["unknown variant `z80`"]);
    refused("isa = \"armv7-m\"\n", "", &["`isa`", "missing"]);
}

#[test]
fn memories_that_overlap() {
    refused("origin = 0x10000000", "origin = 0x0807fff0", &["memory", "`flash` and `ccm` overlap"]);
}

#[test]
fn a_memory_without_bytes() {
    refused("bytes = 65536", "bytes = 0", &["`ccm` has no bytes"]);
}

#[test]
fn a_memory_beyond_the_address_space() {
    refused("origin = 0x10000000", "origin = 0xfffffff0", &["`ccm` ends beyond"]);
    refused("bytes = 65536", "bytes = 9223372036854775792", &["`ccm` ends beyond"]);
}

#[test]
fn two_memories_of_one_role_or_name() {
    refused("role = \"ram\"", "role = \"fast\"", &["`ccm` and `sram` have the same role"]);
    refused("name = \"sram\"", "name = \"ccm\"", &["two have the name `ccm`"]);
}

#[test]
fn a_board_without_flash_budget_or_build() {
    refused("role = \"flash\"", "role = \"spare\"", &["no memory has the role `flash`"]);
    let cut = |from: &str, to: &str| {
        let (a, b) = (BOARD.find(from).unwrap(), BOARD.find(to).unwrap());
        refused_text(&format!("{}{}", &BOARD[..a], &BOARD[b..])).message().to_string()
    };
    assert!(cut("[budget]", "[build]").contains("`budget`"));
    assert!(cut("[build]", "[[emulator]]").contains("`build`"));
}

#[test]
fn a_budget_that_cannot_be() {
    refused("stack = 8192", "stack = 65536", &["budget.stack", "do not fit"]);
    refused("runtime_flash = 36864", "runtime_flash = 0", &["budget.runtime_flash"]);
    refused("stack = 8192", "stack = 9223372036854775807", &["budget.stack"]);
}

#[test]
fn defaults_that_cannot_be() {
    refused("kv_bits = 8", "kv_bits = 5", &["defaults.kv_bits", "5 bits"]);
    refused("window = 16", "window = 0", &["defaults.window"]);
    refused("sinks = 2", "sinks = 16", &["defaults.sinks"]);
    refused("embedding_bits = 8", "embedding_bits = 1", &["defaults.embedding_bits"]);
}

#[test]
fn an_emulator_without_elf_arguments_or_memory() {
    refused("\"{elf}\"", "\"x.elf\"", &["emulator 1", "`{elf}` is missing"]);
    refused("arg={args}", "arg=x", &["emulator 1", "`{args}` is missing"]);
    refused("arguments = \"semihosting\"", "arguments = \"compiled\"", &["emulator 1", "`compiled`"]);
    let at = BOARD.find("[[emulator.memory]]").unwrap();
    let e = refused_text(&BOARD[..at]);
    assert!(e.message().contains("needs one with the role `flash`"), "{e}");
}

#[test]
fn words_that_a_makefile_or_shell_would_act_on() {
    refused("-mthumb", "-mthumb $(shell id)", &["build.flags"]);
    refused("-mthumb", "-mthumb; id", &["build.flags"]);
    refused("name = \"my-board\"", "name = \"../up\"", &["`name`", "../up"]);
    refused("port = \"cortex_m\"", "port = \"../../x\"", &["build.port"]);
    refused("compiler = \"arm-none-eabi-gcc\"", "compiler = \"/tmp/gcc\"", &["build.compiler"]);
    refused("\"-kernel\"", "\"`id`\"", &["emulator 1", "command"]);
    refused("title = \"A board of mine\"", "title = \"*/ int x;\"", &["`title`"]);
    refused("title = \"A board of mine\"", "title = \"a\\nb\"", &["`title`"]);
}

#[test]
fn a_name_that_is_taken() {
    let e = refused_text(&BOARD.replace("my-board", "cortex-m7"));
    assert!(e.message().contains("`cortex-m7` is a target of this program"), "{e}");
}

#[test]
fn files_that_are_no_target_at_all() {
    assert!(refused_text("").message().contains("missing field `name`"));
    assert!(refused_text("[[[").message().contains("line 1"));
    let (_dir, path) = file("x");
    std::fs::write(&path, b"name = \"\xff\"").unwrap();
    let e = target::from_file(&path).unwrap_err();
    assert!(e.message().contains("UTF-8") && e.offset() == Some(8), "{e}");
    std::fs::write(&path, vec![b'#'; 70_000]).unwrap();
    assert!(target::from_file(&path).unwrap_err().message().contains("larger than 65536 bytes"));
    assert!(target::find("no/such/board.toml").unwrap_err().message().contains("cannot open the file"));
}

#[test]
fn what_is_generated_for_a_board() {
    let (_dir, path) = file(BOARD);
    let t = target::from_file(&path).unwrap();
    let files = machine::files(&t);
    let text = |name: &str| files.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name}")).1.as_str();
    assert_eq!(text("target.toml"), BOARD);
    assert_eq!(
        text("ports/board.ld"),
        "/* board.ld - the memories of MB-1 (my-board; generated from target.toml). */
MEMORY
{
    FLASH (rx) : ORIGIN = 0x08000000, LENGTH = 0x00080000 /* flash: 524288 bytes */
    FAST  (rw) : ORIGIN = 0x10000000, LENGTH = 0x00010000 /* ccm: 65536 bytes */
    RAM   (rw) : ORIGIN = 0x20000000, LENGTH = 0x00020000 /* sram: 131072 bytes */
}
/* left to the application: backup at 0x40024000, 4096 bytes */
INCLUDE sections.ld
"
    );
    let sized = text("ports/mps2-an385.ld");
    assert!(sized.contains("RAM   (rw) : ORIGIN = 0x20010000, LENGTH = 0x00020000"), "{sized}");
    let full = text("ports/mps2-an385-full.ld");
    assert!(full.contains("FAST  (rw) : ORIGIN = 0x20000000, LENGTH = 0x00400000"), "{full}");
    assert!(full.contains("REGION_ALIAS(\"RAM\", FAST)"), "{full}");
    let header = text("ports/mps2-an385.h");
    for line in ["#define BITNET_FLASH_BASE 0x00000000u", "#define BITNET_RAM_BYTES 0x00020000u"] {
        assert!(header.contains(line), "{header}");
    }
    assert!(!text("ports/mps2-an385-full.h").contains("BITNET_RAM_BASE"));
    let mk = text("target.mk");
    for line in [
        "TARGET_NAME := my-board",
        "KIND := mcu",
        "ISA := armv7-m",
        "CROSS := arm-none-eabi-",
        "PORT := cortex_m",
        "EMULATORS := mps2-an385",
        "STACK ?= 8192",
        "-semihosting-config 'enable=on,target=native,chardev=out,arg=firmware,arg={args}' -kernel {elf}",
    ] {
        assert!(mk.contains(line), "{line} is not in\n{mk}");
    }
}

/// Every target of the program has a port, a linker fragment and text that make and ld can read.
#[test]
fn every_target_can_be_written() {
    for t in target::all() {
        let files = machine::files(&t);
        assert!(files.iter().any(|(n, _)| n == "target.mk"), "{}", t.name);
        for m in machine::machines(&t) {
            if t.kind == target::Kind::Mcu {
                let l = m.layout.unwrap_or_else(|| panic!("{}: {}", t.name, m.name));
                let ends = |r: &target::Region| r.origin + r.bytes;
                let ram = l.ram.iter().all(|r| r.origin >= ends(&l.fast) || ends(r) <= l.fast.origin);
                assert!(ram, "{}: {} overlap", t.name, m.name);
            }
        }
    }
}

fn row(runner: &str, emulator: &str, kernels: &str, outcome: Outcome) -> Row {
    Row {
        runner: runner.into(),
        emulator: emulator.into(),
        kernels: kernels.into(),
        detail: String::new(),
        tokens: if matches!(outcome, Outcome::NotRun { .. }) { 0 } else { 119 },
        outcome,
        operations: 0,
        texts: 0,
        instructions_per_token: None,
        flash_bytes: None,
        ram_bytes: None,
        fits: None,
        limits: None,
        notes: Vec::new(),
    }
}

#[test]
fn the_table_at_120_columns() {
    let differs = Outcome::Differs { at: "prompt 1, token 3, layer 2, operation 41 (LINEAR)".into() };
    let missing = Outcome::NotRun {
        why: "qemu-system-arm not found".into(),
        install: Some("`apt-get install qemu-system-arm`".into()),
    };
    let mut rows = vec![
        row("host-scalar", "-", "scalar", Outcome::Equal),
        row("cortex-m0", "mps2-an385", "select, planes, tables", Outcome::Equal),
        row("jetson-orin-nano", "cortex-a76", "tables", differs),
        row("cortex-m55", "mps3-an547", "tables", missing),
    ];
    rows[1].instructions_per_token = Some(123_456_789);
    (rows[1].flash_bytes, rows[1].ram_bytes) = (Some(1_265_120), Some(116_384));
    rows[1].fits = Some(Fits { board: false, why: "flash needs 1,265,120 of 262,144 bytes".into() });
    rows[1].notes = vec!["word ".repeat(30)];
    let report = Report {
        artifact: "build/m7".into(),
        prompts: 4,
        tokens: 119,
        beyond_window: true,
        operations_compared: 9783,
        rows,
        notes: vec!["host-avx2: this processor has no avx2".into()],
    };
    let mut out = Vec::new();
    verify::table(&mut out, &report).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().all(|l| l.chars().count() <= 120), "{text}");
    assert_eq!(
        text,
        "\
verify build/m7: 4 prompts, 119 tokens, beyond the window, 9,783 operations

target            emulator    kernels                 result   tokens   insn/token      flash      RAM  fits
host-scalar       -           scalar                  equal       119            -          -        -  -
cortex-m0         mps2-an385  select, planes, tables  equal       119  123,456,789  1,265,120  116,384  no
    does not fit the board: flash needs 1,265,120 of 262,144 bytes
    word word word word word word word word word word word word word word word word word word word word word word
      word word word word word word word word
jetson-orin-nano  cortex-a76  tables                  DIFFERS     119            -          -        -  -
    at prompt 1, token 3, layer 2, operation 41 (LINEAR)
cortex-m55        mps3-an547  tables                  not run       -            -          -        -  -
    not run because qemu-system-arm not found; `apt-get install qemu-system-arm`

note: host-avx2: this processor has no avx2
"
    );
    assert_eq!((report.equal(), report.differing(), report.not_run(), report.missing()), (2, 1, 1, 1));
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|n| n.to_string()).collect()
}

#[test]
fn names_of_runners() {
    let all = verify::runners(&names(&["all"]), &tiny()).unwrap();
    let got: Vec<String> = all.runners.iter().map(|r| r.name()).collect();
    for name in ["host-scalar", "c-host", "cortex-m0", "cortex-m7"] {
        assert_eq!(got.iter().filter(|g| *g == name).count(), 1, "{got:?}");
    }
    let twice = verify::runners(&names(&["c-host", "host", "cortex-m7", "STM32H743VI"]), &tiny()).unwrap();
    assert_eq!(twice.runners.iter().filter(|r| r.name() == "cortex-m7").count(), 1);
    let e = verify::runners(&names(&["cortex-m77"]), &tiny()).unwrap_err();
    assert!(
        e.message().contains("no runner `cortex-m77`") && e.next_step().unwrap_or("").contains("`cortex-m7`"),
        "{e}"
    );
    assert!(verify::runners(&names(&["nothing.toml"]), &tiny()).is_err());
}

/// A target whose tools are not there is not run, with the package; `--require` makes that a failure, and only that.
#[test]
fn missing_tools_are_said_and_can_be_required() {
    let text = BOARD
        .replace("arm-none-eabi-gcc\"", "no-such-gcc\"")
        .replace("packages = \"gcc-arm-none-eabi\"", "packages = \"gcc-nowhere\"");
    let (_dir, path) = file(&text);
    let program = |flags: &[&str]| {
        let mut c = Command::new(env!("CARGO_BIN_EXE_bitnet-convert"));
        c.arg("verify").arg(tiny()).arg("--target").arg(format!("host-scalar,{}", path.display())).args(flags);
        c.output().unwrap()
    };
    let plain = program(&[]);
    let out = String::from_utf8_lossy(&plain.stdout).into_owned();
    assert!(plain.status.success(), "{out}");
    if Path::new("/usr/bin/make").exists() {
        assert!(out.contains("not run because no-such-gcc not found; `apt-get install gcc-nowhere`"), "{out}");
    }
    let strict = program(&["--require", "--json"]);
    assert_eq!(strict.status.code(), Some(2));
    let v: serde_json::Value = serde_json::from_slice(&strict.stdout).unwrap();
    assert_eq!(v["rows"][0]["result"], "equal");
    assert_eq!(v["rows"][1]["result"], "not-run");
    assert!(v["rows"][1]["install"].as_str().unwrap().contains("apt-get install"));
}

/// One packed file on four chips, one of them described here: equal, counted, measured, and it fits.
#[test]
fn a_tiny_model_on_chips() {
    if !have("programs for chips", &["make", "cc", "arm-none-eabi-gcc", "qemu-system-arm"]) {
        return;
    }
    let (_dir, path) = file(BOARD);
    let wanted = names(&["cortex-m0", "cortex-m3", "cortex-m7", &path.display().to_string()]);
    let selection = verify::runners(&wanted, &tiny()).unwrap();
    let report = verify::verify(&tiny(), &selection, false, &Silent).unwrap();
    assert_eq!(report.rows.len(), 4);
    for r in &report.rows {
        assert_eq!(r.outcome, Outcome::Equal, "{r:?}");
        assert!(r.tokens == report.tokens && r.operations == report.operations_compared, "{r:?}");
        assert!(r.instructions_per_token.is_some_and(|n| n > 1000), "{r:?}");
        assert!(r.flash_bytes.is_some_and(|n| n > 12_000) && r.ram_bytes.is_some_and(|n| n > 1024), "{r:?}");
        assert_eq!(r.fits.as_ref().map(|f| f.board), Some(true), "{r:?}");
    }
    assert_eq!(report.rows[3].runner, "my-board");
}

/// A board that is too small for the model: the machine's own memory runs it, and the numbers say why the board cannot.
#[test]
fn a_board_that_is_too_small_is_told_with_numbers() {
    if !have("programs for chips", &["make", "cc", "arm-none-eabi-gcc", "qemu-system-arm"]) {
        return;
    }
    let text = BOARD.replacen("bytes = 524288", "bytes = 16384", 1).replacen(
        "runtime_flash = 36864",
        "runtime_flash = 8192",
        1,
    );
    let (_dir, path) = file(&text);
    let selection = verify::runners(&[path.display().to_string()], &tiny()).unwrap();
    let report = verify::verify(&tiny(), &selection, true, &Silent).unwrap();
    let r = &report.rows[0];
    assert_eq!((r.outcome.clone(), r.instructions_per_token), (Outcome::Equal, None), "{r:?}");
    let fits = r.fits.as_ref().unwrap();
    assert!(!fits.board && fits.why.contains("of 16,384 bytes"), "{fits:?}");
    assert_eq!(report.prompts, 1, "quick is the first prompt");
}
