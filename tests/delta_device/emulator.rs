//! An exported folder updates itself: the applier, signatures and the runtime in one program for an emulated Cortex-M7 and for this machine.
//! From one trained model to the next, whose golden trace the new one must pass.

use super::common::device::have;
use super::common::{finish, fixture, tool, Run};
use bitnet_convert::digest::{hex, sha256};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Two exports, the patch between them, one the other way round, one without a signature, one for a single slot, and keys.
struct World {
    dir: tempfile::TempDir,
    old: String,
    new: String,
}

impl World {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn make(&self, goals: &str, patch: &str, key: &str) -> Run {
        let mut make = Command::new("make");
        make.arg("-s").arg("-C").arg(self.at("old")).args(goals.split(' ')).env_remove("MAKEFLAGS").env_remove("ARGS");
        if !patch.is_empty() {
            make.arg(format!("PATCH={}", self.at(patch).display()));
        }
        if !key.is_empty() {
            make.arg(format!("KEY={}", self.at(key).display()));
        }
        finish(&mut make)
    }

    /// The program that was built last, with this command.
    fn again(&self, command: &str) -> Run {
        let mut make = Command::new("make");
        make.args(["-s", "-C"]).arg(self.at("old")).args(["run-machine", "B=build/delta", "MACHINE=mps2-an500"]);
        finish(make.arg(format!("ARGS={command}")).env_remove("MAKEFLAGS"))
    }

    fn host(&self, patch: &str, key: &str, command: &str) -> Run {
        let mut host = Command::new(self.at("old/build/delta/bitnet_host"));
        host.arg(self.at("old/model.bin")).arg(format!("patch={}", self.at(patch).display()));
        if !key.is_empty() {
            host.arg(format!("key={}", self.at(key).display()));
        }
        finish(host.args(command.split(' ').filter(|w| !w.is_empty())))
    }
}

fn digest(path: &Path) -> String {
    hex(&sha256(&std::fs::read(path).unwrap()))
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (old, new) = (at("old"), at("new"));
        for (model, folder) in [("models/intent-w1a2", &old), ("models/intent-w1a2-v0.4.3", &new)] {
            tool("export --quiet --target cortex-m7 --model {} -o {}", &[&fixture(model), folder]).ok();
        }
        for name in ["release", "stranger"] {
            tool("delta keygen --quiet -o {}", &[&at(name)]).ok();
        }
        let key = at("release.key");
        let create = "delta create --quiet --device --model intent-w1a2 --from-version 0.4.2 --to-version 0.4.3 --reversible {} {} -o {}";
        tool(&format!("{create} --sign {{}}"), &[&old, &new, &at("patch.bin"), &key]).ok();
        tool(create, &[&old, &new, &at("unsigned.bin")]).ok();
        // Leads from the new model to the old one, as a later release.
        let back = "delta create --quiet --device --model intent-w1a2 --from-version 0.4.3 --to-version 0.4.4 {} {} -o {} --sign {}";
        tool(back, &[&new, &old, &at("back.bin"), &key]).ok();
        World { old: digest(&old.join("model.bin")), new: digest(&new.join("model.bin")), dir }
    })
}

/// What a whole update prints: the old model, the new one in its slot, its self-test; all in this order.
#[track_caller]
fn updated(run: Run, w: &World, slot: &str) {
    let text = run.ok().stdout;
    let lines: Vec<&str> = text.lines().collect();
    let expected = [
        "runs slot A",
        &format!("sha256 {}", w.old),
        "check: the patch may be applied",
        &format!("runs slot {slot}"),
        &format!("sha256 {}", w.new),
        "selftest: equal",
        "confirmed",
    ];
    let mut rest = lines.iter();
    for line in expected {
        assert!(rest.any(|l| *l == line), "no line `{line}` in its place:\n{text}");
    }
    let ram = |what: &str| lines.iter().find_map(|l| l.strip_prefix(what)?.trim().parse::<u32>().ok()).expect(what);
    assert!(ram("RAM: struct") + ram("RAM: buffer") < 8192, "{text}");
}

/// Not applied: the reason, and the old model still passes its own self-test.
#[track_caller]
fn refused(run: Run, w: &World, reason: &str) {
    let text = run.stdout.trim_end();
    let expected = format!("refused: {reason}\nselftest: equal");
    assert!(text.ends_with(&expected) && text.contains(&w.old) && !text.contains(&w.new), "{run:?}");
    assert_ne!(run.code, Some(0));
}

fn arm() -> bool {
    have("an update in the emulator", &["make", "arm-none-eabi-gcc", "qemu-system-arm"])
}

#[test]
fn the_emulated_device_updates_itself() {
    if !arm() {
        return;
    }
    let w = world();
    assert_ne!(w.old, w.new);
    updated(w.make("delta", "patch.bin", "release.pub"), w, "B");
    updated(w.again("place"), w, "A");
    let back = w.again("place back").ok().stdout;
    assert!(back.ends_with(&format!("runs slot A\nsha256 {}\nselftest: equal\n", w.old)), "{back}");
    let cut = w.again("place cut=5000");
    assert!(cut.stdout.contains("starts again, in the middle of the update"), "{cut:?}");
    updated(cut, w, "A");
    // What is refused before the first write. The signature begins at byte 320.
    refused(w.again("flip=330"), w, "signature");
    refused(w.again("sequence=4194307"), w, "older");
    refused(w.make("delta", "back.bin", "release.pub"), w, "other base");
    // Nothing of the applier needs what a chip has not.
    let more = "check stack MAIN=bitnet_update MACHINE=mps2-an500 FULL=1 B=build/delta";
    let checked = w.make(more, "patch.bin", "stranger.pub").ok().stdout;
    assert!(checked.contains("no floating point") && checked.contains("bytes at most"), "{checked}");
}

/// The flash functions of a real chip, which no emulator here has: they compile without a warning and need no library.
#[test]
fn the_example_for_a_chip_compiles() {
    if !have("flash functions of an STM32H7", &["arm-none-eabi-gcc"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let files = super::common::root().join("src/export/c/files");
    let out = dir.path().join("flash.o");
    let mut cc = Command::new("arm-none-eabi-gcc");
    cc.args([
        "-std=c99",
        "-pedantic-errors",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wconversion",
        "-Wsign-conversion",
        "-Wcast-qual",
    ]);
    cc.args(["-mcpu=cortex-m7", "-mthumb", "-Os", "-ffreestanding", "-fno-builtin", "-I"]).arg(files.join("runtime"));
    finish(cc.arg("-c").arg(files.join("ports/examples/flash_stm32h7.c")).arg("-o").arg(&out)).ok();
    let undefined = finish(Command::new("arm-none-eabi-nm").arg("-u").arg(&out)).ok().stdout;
    assert_eq!(undefined, "");
}

/// The same program here, with sanitizers, and the power cut at many places.
#[test]
fn this_machine_updates_itself_through_power_cuts() {
    if !have("an update on the host", &["make", "cc"]) {
        return;
    }
    let w = world();
    w.make("host MAIN=bitnet_update B=build/delta", "", "").ok();
    let run = |command: &str| w.host("patch.bin", "release.pub", command);
    updated(run(""), w, "B");
    updated(w.host("unsigned.bin", "", "place"), w, "A");
    refused(w.host("unsigned.bin", "release.pub", ""), w, "not signed");
    refused(w.host("back.bin", "release.pub", "place"), w, "other base");
    // Header, index or payload are wrong.
    refused(run("flip=100"), w, "signature");
    refused(run("flip=2000"), w, "digest");
    refused(run("model=another"), w, "other model");
    refused(w.host("patch.bin", "stranger.pub", ""), w, "signature");
    updated(run("cut=4099"), w, "B");
    for cut in [1, 4, 4099, 8197, 16900] {
        updated(run(&format!("cut={cut} place")), w, "A");
    }
    let back = run("cut=9000 place back").ok().stdout;
    assert!(back.ends_with(&format!("sha256 {}\nselftest: equal\n", w.old)), "{back}");
}
