//! The WebAssembly folder: one module with runtime and model, an ES module with types, and the sources to build it again.
//!
//! The module is compiled here, before the folder gets its name: an export that cannot be built leaves nothing behind.

mod tools;

pub use tools::{tools, Tools};

use super::c;
use super::packed::{Prepared, Written};
use crate::error::{Error, Kind, Result};
use crate::fsio::AtomicDir;
use crate::plan::{arena_bytes, group, Plan};
use crate::process::{make, run};
use crate::program::Program;
use crate::progress::Progress;
use crate::target::Target;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A folder that holds this file is an earlier export and may be replaced.
const MARKER: &str = "model.bin";
/// The module, in every folder of this kind.
pub const MODULE: &str = "bitnet.wasm";
/// What engines take in one module and memory without being asked for more.
const MOST_BYTES: u64 = 1 << 30;
const BUILD_LIMIT: Duration = Duration::from_secs(600);

const FILES: [(&str, &str); 6] = [
    ("Makefile", include_str!("files/Makefile")),
    ("bitnet.js", include_str!("files/bitnet.js")),
    ("bitnet.d.ts", include_str!("files/bitnet.d.ts")),
    ("package.json", include_str!("files/package.json")),
    ("ports/port_wasm.c", include_str!("../c/files/ports/port_wasm.c")),
    ("ports/model_wasm.S", include_str!("../c/files/ports/model_wasm.S")),
];

/// Writes the folder: it appears complete, with a module that was built, or not at all.
///
/// # Errors
/// `Tool` if clang, wasm-ld or make is missing or fails, `DoesNotFit` if no engine would take it, what [`Prepared::write`] says, `Io` from the
/// folder, `Usage` if the folder holds something that is no earlier export.
pub fn write(prepared: &mut Prepared, target: &Target, out: &Path, progress: &dyn Progress) -> Result<Written> {
    let tools = tools()?;
    refuse(&prepared.plan)?;
    let dir = AtomicDir::create(out, MARKER)?;
    let written = prepared.write(&dir.path().join(MARKER), progress)?;
    write_sources(dir.path(), prepared.program(), prepared.tokenizer(), target, &tools)?;
    progress.stage("compiling the module", 0);
    let module = build(dir.path(), &tools)?;
    progress.done();
    let bytes = fs::metadata(&module).map_err(|e| Error::io("read", &module, &e))?.len();
    let readme = include_str!("files/README.md")
        .replace("{{MODEL}}", &prepared.plan.model)
        .replace("{{MODULE}}", &group(bytes))
        .replace("{{MODEL_BYTES}}", &group(written.bytes))
        .replace("{{ARENA}}", &group(prepared.plan.arena_bytes));
    c::put(dir.path(), "README.md", &readme)?;
    dir.commit()?;
    Ok(written)
}

/// Everything but the model, which lies in `dir` as `model.bin` already, and what is built from it.
///
/// # Errors
/// `Io` from the folder.
pub fn write_sources(dir: &Path, program: &Program, blob: Option<&[u8]>, target: &Target, tools: &Tools) -> Result<()> {
    let arena = arena_bytes(program, program.attention.window);
    c::write_common(dir, program, blob, arena)?;
    for (name, text) in FILES {
        c::put(dir, name, text)?;
    }
    let core = target.build.as_ref().map_or("", |b| b.flags.as_str());
    let names = format!("CLANG ?= {}\nWASM_LD ?= {}\nCORE := {core}\n", tools.clang, tools.wasm_ld);
    c::put(dir, "tools.mk", &names)?;
    c::put(dir, "target.toml", &target.text)
}

/// Compiles the module of a folder and gives its path; the objects are removed again.
///
/// # Errors
/// `Tool` with the last words of the compiler.
pub fn build(dir: &Path, tools: &Tools) -> Result<PathBuf> {
    let mut make = make(dir);
    make.args(["B=build", &format!("OUT={MODULE}"), "OPT=-O2"]);
    make.arg(format!("CLANG={}", tools.clang)).arg(format!("WASM_LD={}", tools.wasm_ld));
    let output = run(&mut make, BUILD_LIMIT)?;
    if !output.status.success() {
        let e = Error::tool(format!("{} does not compile the module\n    {}", tools.clang, output.tail()));
        return Err(
            e.hint("a clang that knows WebAssembly is needed: Debian, Ubuntu: `apt-get install clang-19 lld-19`")
        );
    }
    let objects = dir.join("build");
    fs::remove_dir_all(&objects).map_err(|e| Error::io("remove", &objects, &e))?;
    Ok(dir.join(MODULE))
}

fn refuse(plan: &Plan) -> Result<()> {
    let bytes = plan.file_bytes + plan.arena_bytes;
    if bytes <= MOST_BYTES {
        return Ok(());
    }
    let message = format!(
        "the model does not fit a WebAssembly module\n  model {} and arena {} are {} bytes, at most {}",
        group(plan.file_bytes),
        group(plan.arena_bytes),
        group(bytes),
        group(MOST_BYTES)
    );
    Err(Error::new(Kind::DoesNotFit, message)
        .hint("a smaller `--kv-window` makes the arena smaller; `--format packed` has no limit"))
}
