//! What the exported folder says about its target: `target.mk` for the Makefile, a linker script and a header with addresses for the board
//! and for each emulated machine. All of it comes from the target file, which [`target::check`](crate::target::check) made safe to write here.

use crate::target::{Arguments, Emulator, Kind, Layout, Region, Role, Target};
use std::fmt::Write;

/// A file of the folder: its path and its text.
pub type Generated = (String, String);

/// Everything that depends on the target alone.
pub fn files(t: &Target) -> Vec<Generated> {
    let mut files = vec![("target.mk".to_string(), target_mk(t)), ("target.toml".to_string(), t.text.clone())];
    for m in machines(t) {
        files.push((format!("ports/{}.h", m.name), header(t, &m)));
        if let (Some(build), Some(layout)) = (&t.build, &m.layout) {
            files.push((format!("ports/{}.ld", m.name), script(t, &m, layout, &build.sections)));
        }
    }
    files
}

/// One thing that an image is linked for.
pub struct Machine<'a> {
    /// `board`, the emulator's name, or that with `-full`.
    pub name: String,
    /// None: the compiler knows where things go.
    pub layout: Option<Layout>,
    pub emulator: Option<&'a Emulator>,
    what: String,
}

/// The suffix of a machine that is linked into all memory of an emulator instead of the board's sizes.
pub const FULL: &str = "-full";

/// The board, and each emulator with the board's sizes and with its own.
pub fn machines(t: &Target) -> Vec<Machine<'_>> {
    let board = t.layout();
    let mut all = Vec::new();
    if t.kind == Kind::Mcu {
        let what = format!("the memories of {}", t.board.as_deref().unwrap_or("the board"));
        all.push(Machine { name: "board".into(), layout: board.clone(), emulator: None, what });
    }
    for e in &t.emulator {
        let sized = board.as_ref().and_then(|b| e.as_board(b));
        let what = format!("{} with memories of the board's sizes", e.name);
        all.push(Machine { name: e.name.clone(), layout: sized, emulator: Some(e), what });
        if t.kind == Kind::Mcu {
            let what = format!("all memory of {}: for what the board is too small for", e.name);
            all.push(Machine { name: format!("{}{FULL}", e.name), layout: e.full(), emulator: Some(e), what });
        }
    }
    all
}

fn hex(n: u64) -> String {
    format!("0x{n:08x}")
}

fn script(t: &Target, m: &Machine, l: &Layout, sections: &str) -> String {
    let mut s = format!("/* {}.ld - {} ({}; generated from target.toml). */\nMEMORY\n{{\n", m.name, m.what, t.name);
    let mut line = |name: &str, access: &str, r: &Region| {
        // Writing to a String cannot fail.
        let _ = writeln!(
            s,
            "    {name:5} ({access}) : ORIGIN = {}, LENGTH = {} /* {}: {} bytes */",
            hex(r.origin),
            hex(r.bytes),
            r.name,
            r.bytes
        );
    };
    line("FLASH", "rx", &l.flash);
    line("FAST", "rw", &l.fast);
    l.ram.iter().for_each(|r| line("RAM", "rw", r));
    s += "}\n";
    if l.ram.is_none() {
        s += "REGION_ALIAS(\"RAM\", FAST) /* one RAM holds everything */\n";
    }
    if m.emulator.is_none() {
        for r in t.memory.iter().filter(|r| r.role == Role::Spare) {
            let _ = writeln!(s, "/* left to the application: {} at {}, {} bytes */", r.name, hex(r.origin), r.bytes);
        }
    }
    s + &format!("INCLUDE {sections}\n")
}

fn header(t: &Target, m: &Machine) -> String {
    let mut s = format!(
        "/* {}.h - {} ({}; generated from target.toml). */\n#ifndef BITNET_MACHINE_H\n#define BITNET_MACHINE_H\n\n",
        m.name, m.what, t.name
    );
    if let Some(l) = &m.layout {
        for (name, r) in [("FLASH", Some(&l.flash)), ("FAST", Some(&l.fast)), ("RAM", l.ram.as_ref())] {
            if let Some(r) = r {
                let _ = writeln!(s, "#define BITNET_{name}_BASE {}u", hex(r.origin));
                let _ = writeln!(s, "#define BITNET_{name}_BYTES {}u", hex(r.bytes));
            }
        }
    }
    // A flash in RAM that stands for the board's has its units (ports/bitnet_update.c).
    let flash = t.memory.iter().find(|m| m.role == Role::Flash);
    for (name, unit) in [("ERASE", flash.and_then(|f| f.erase)), ("PROGRAM", flash.and_then(|f| f.program))] {
        if let Some(n) = unit {
            let _ = writeln!(s, "#define BITNET_{name}_BYTES {n}u");
        }
    }
    match m.emulator {
        None => s += "#define BITNET_BOARD 1\n",
        Some(e) => {
            if let Some(macro_) = &e.machine {
                let _ = writeln!(s, "#define {macro_} 1");
            }
            if e.arguments == Arguments::Compiled {
                s += "#define BITNET_COMMAND_COMPILED 1 /* -DBITNET_COMMAND=\"...\" at build */\n";
            }
        }
    }
    s + "\n#endif\n"
}

fn target_mk(t: &Target) -> String {
    let kind = match t.kind {
        Kind::Host => "host",
        Kind::Mcu => "mcu",
        Kind::Linux => "linux",
        Kind::Wasm => "wasm",
    };
    let mut s = format!("# target.mk - {} (generated from target.toml)\n", t.title);
    let mut set = |name: &str, value: &str| {
        let _ = writeln!(s, "{}", format!("{name} := {value}").trim_end());
    };
    set("TARGET_NAME", &t.name);
    set("BOARD", t.board.as_deref().unwrap_or(""));
    set("KIND", kind);
    set("ISA", t.isa.map_or("", |i| i.name()));
    if let Some(b) = &t.build {
        set("COMPILER", &b.compiler);
        // clang has no prefix: the tools then have the names of the host.
        set("CROSS", b.compiler.strip_suffix("gcc").unwrap_or(""));
        set("CORE", &b.flags);
        set("PORT", &b.port);
        set("SECTIONS", &b.sections);
    }
    let names: Vec<&str> = t.emulator.iter().map(|e| e.name.as_str()).collect();
    set("EMULATORS", &names.join(" "));
    if let Some(b) = &t.budget {
        let _ = writeln!(s, "STACK ?= {}", b.stack);
    }
    for e in &t.emulator {
        let arguments = match e.arguments {
            Arguments::Semihosting => "semihosting",
            Arguments::Argv => "argv",
            Arguments::Compiled => "compiled",
        };
        let _ = writeln!(s, "ARGUMENTS_{} := {arguments}", e.name);
        let _ = writeln!(s, "RUN_{} := {}", e.name, command(e));
    }
    s
}

/// The command of an emulator as the shell reads it; the recipe fills in `{elf}`, `{args}`, `{tmp}` and `{dir}`.
fn command(e: &Emulator) -> String {
    let quiet = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+{}".contains(c);
    let word = |w: &String| match w.chars().all(quiet) && (w == "{args}" || !w.contains("{args}")) {
        true => w.clone(),
        false => format!("'{w}'"),
    };
    e.command.iter().map(word).collect::<Vec<_>>().join(" ")
}
