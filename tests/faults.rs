//! What the emulated machines catch, shown by making it happen: each program of `tests/c/faults` ends with status 99 (the fault handler's)
//! where the machine must stop it, and with 7 where it may go on. Without these a green `verify` would prove less than it says.

mod common;

use bitnet_convert::export::c::{self, machine};
use bitnet_convert::target::{self, Emulator, Target};
use common::device::have;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

const FAULT: i32 = 99;
const WENT_ON: i32 = 7;

/// A folder as exported, without a model: the ports do not look at it.
struct Bench {
    target: Target,
    emulator: Emulator,
    dir: tempfile::TempDir,
}

impl Bench {
    /// None: a tool is missing.
    fn new(target: &str, emulator: &str) -> Option<Bench> {
        let target = target::find(target).expect("a target");
        let emulator = target.emulator.iter().find(|e| e.name == emulator).expect("an emulator of it").clone();
        let compiler = target.build.as_ref().expect("a compiler").compiler.clone();
        if !have(&format!("faults on {}", emulator.name), &["make", &compiler, &emulator.command[0]]) {
            return None;
        }
        let dir = tempfile::tempdir().expect("a folder");
        c::write_runtime(dir.path()).expect("the sources");
        for (name, text) in machine::files(&target) {
            std::fs::write(dir.path().join(name), text).expect("a generated file");
        }
        std::fs::write(dir.path().join("model.bin"), [0u8; 64]).expect("a model");
        Some(Bench { target, emulator, dir })
    }

    fn make(&self, fault: &str) -> Output {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/c/faults/{fault}.c"));
        std::fs::copy(source, self.dir.path().join(format!("ports/{fault}.c"))).expect("the program");
        let port = &self.target.build.as_ref().expect("a build").port;
        let linux = if port == "linux" { "" } else { "port_output" };
        let stack = self.target.budget.as_ref().map_or(8192, |b| b.stack);
        Command::new("make")
            .arg("-s")
            .arg("-C")
            .arg(self.dir.path())
            .args(["emulator", "RUNTIME="])
            .arg(format!("MACHINE={}", self.emulator.name))
            .arg(format!("PORTS={fault} port_{port} {linux}"))
            .arg(format!("EXTRA=-DSTACK_SIZE={stack}u"))
            .env_remove("MAKEFLAGS")
            .output()
            .expect("make")
    }

    /// Builds and runs; the program's status, or the signal that ended it plus 128.
    fn run(&self, fault: &str) -> i32 {
        let built = self.make(fault);
        assert!(built.status.success(), "{fault}: {}", String::from_utf8_lossy(&built.stderr));
        let elf = self.dir.path().join(format!("build/{}.elf", self.emulator.name)).display().to_string();
        let words: Vec<String> =
            self.emulator.command.iter().map(|w| w.replace("{elf}", &elf).replace("{args}", "x")).collect();
        // A machine that neither stops nor ends must not hang the test.
        let ran = Command::new("timeout").arg("30").args(&words).output().expect("the emulator");
        ran.status.code().unwrap_or_else(|| 128 + ran.status.signal().unwrap_or(0))
    }

    fn expect(&self, cases: &[(&str, i32)]) {
        for (fault, status) in [("none", WENT_ON)].iter().chain(cases) {
            assert_eq!(self.run(fault), *status, "{fault} on {}", self.emulator.name);
        }
    }
}

fn check(target: &str, emulator: &str, cases: &[(&str, i32)]) {
    if let Some(bench) = Bench::new(target, emulator) {
        bench.expect(cases);
    }
}

/// The memory protection unit of ARMv7-M admits flash (read-only) and the data memories; the floating-point unit is off.
#[test]
fn cortex_m3_m4_m7_stop_at_floating_point_and_outside_of_their_memories() {
    let memory = [("wild_store", FAULT), ("flash_store", FAULT), ("deep_stack", FAULT)];
    check("cortex-m3", "mps2-an385", &memory);
    for (target, emulator) in [("cortex-m4", "mps2-an386"), ("cortex-m7", "mps2-an500")] {
        check(
            target,
            emulator,
            &[("floating_point", FAULT), ("wild_store", FAULT), ("flash_store", FAULT), ("deep_stack", FAULT)],
        );
    }
}

/// The same with the protection unit of ARMv8-M.
#[test]
fn cortex_m33_m55_stop_at_floating_point_and_outside_of_their_memories() {
    for (target, emulator) in [("cortex-m33", "mps2-an505"), ("cortex-m55", "mps3-an547")] {
        check(
            target,
            emulator,
            &[("floating_point", FAULT), ("wild_store", FAULT), ("flash_store", FAULT), ("deep_stack", FAULT)],
        );
    }
}

/// No protection unit, but a core that has only what ARMv6-M has.
#[test]
fn microbit_stops_at_thumb_2_at_an_unaligned_load_and_outside_of_its_memories() {
    check(
        "cortex-m0",
        "microbit",
        &[("thumb2", FAULT), ("unaligned_load", FAULT), ("wild_store", FAULT), ("deep_stack", FAULT)],
    );
}

/// What the other machine for ARMv6-M code cannot show, and says so in its target file.
#[test]
fn mps2_an385_runs_thumb_2_and_unaligned_loads() {
    check("cortex-m0", "mps2-an385", &[("thumb2", WENT_ON), ("unaligned_load", 8)]);
}

#[test]
fn rv32imc_stops_at_floating_point_and_outside_of_its_memories() {
    check(
        "rv32imc",
        "virt-rv32",
        &[("floating_point", FAULT), ("wild_store", FAULT), ("flash_store", FAULT), ("deep_stack", FAULT)],
    );
}

/// No protection unit in this core; below the stack there is nothing.
#[test]
fn xtensa_stops_when_the_stack_leaves_its_memory() {
    check("xtensa", "sim-de212", &[("deep_stack", FAULT)]);
}

/// The dot product is not there on an A53 or A72 and ends the program; the emulated A76 has it.
#[test]
fn a_dot_product_ends_a_program_on_a_cortex_a53() {
    let sigill = 128 + 4;
    check("rpi-zero2w", "cortex-a53", &[("dot_product", sigill)]);
    check("rpi4", "cortex-a72", &[("dot_product", sigill)]);
    check("rpi5", "cortex-a76", &[("dot_product", WENT_ON)]);
}

/// The proof of RAM is the linker's: it says how much is missing.
#[test]
fn too_much_ram_is_a_link_error_with_the_number_of_bytes() {
    for (target, emulator) in
        [("cortex-m0", "microbit"), ("cortex-m7", "mps2-an500"), ("rv32imc", "virt-rv32"), ("xtensa", "sim-de212")]
    {
        let Some(bench) = Bench::new(target, emulator) else { continue };
        let output = bench.make("too_much_ram");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{target}");
        assert!(said.contains("region `FAST' overflowed by ") && said.contains(" bytes"), "{target}: {said}");
    }
}
