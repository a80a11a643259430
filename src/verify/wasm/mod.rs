//! The WebAssembly module as a runner: in an interpreter that knows the first version of WebAssembly without floating point, and in Node
//! through the ES module that applications use.

#[cfg(feature = "wasm")]
mod interpreter;

#[cfg(feature = "wasm")]
use interpreter::interpret;

use super::parse::{parse, parse_lines, Said};
use super::process::{find, run};
use super::{Failure, Ran, Subject, RUN_LIMIT};
use crate::error::{Error, Result};
use crate::export::wasm::{self, MODULE};
use crate::format::packed::Kind;
use crate::fsio::read_capped;
use crate::target;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// A module with its model; more than the export writes.
const MOST_BYTES: u64 = 2 << 30;

/// Loads a folder's module as an application would, and prints what the command prints.
const SCRIPT: &str = "import { pathToFileURL } from 'node:url';
const [folder, line] = process.argv.slice(-2);
const { load } = await import(new URL('bitnet.js', pathToFileURL(folder + '/')));
const { code, output } = (await load()).command(line);
process.stdout.write(output);
process.exitCode = code;
";

/// What runs the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Refuses floating point, imports and everything that came after the first version of WebAssembly; counts instructions.
    Interpreter,
    /// Through the ES module that applications use.
    Node,
}

impl Engine {
    pub const ALL: [Engine; 2] = [Engine::Interpreter, Engine::Node];

    /// The name of the runner.
    pub fn runner(self) -> &'static str {
        match self {
            Engine::Interpreter => "wasm32-wasmi",
            Engine::Node => "wasm32-node",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Engine::Interpreter => "wasmi",
            Engine::Node => "node",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Engine::Interpreter => "no floating point, no imports",
            Engine::Node => "through the ES module",
        }
    }
}

/// The module of an artifact, built when an engine first asks for it.
#[derive(Default)]
pub struct Module(OnceLock<Result<Folder, Failure>>);

/// A folder with a built module: the exported one, or a temporary one around a model.
struct Folder {
    dir: PathBuf,
    detail: &'static str,
    /// Removed when dropped.
    _temporary: Option<tempfile::TempDir>,
}

/// Runs the golden prompts in an engine. The module of an export for WebAssembly runs as it is; for any other artifact one is built.
///
/// # Errors
/// `Io` if the module cannot be read.
pub fn run_module(s: &Subject, engine: Engine) -> Result<Ran> {
    let folder = match s.module.0.get_or_init(|| folder(s)) {
        Ok(f) => f,
        Err(failure) => return Ok(Ran::new(engine.name(), s.extent(0), Err(failure.clone()))),
    };
    let module = folder.dir.join(MODULE);
    let bytes = read_capped(&module, MOST_BYTES)?;
    let (traces, cost) = match engine {
        Engine::Node => (in_node(s, folder), None),
        Engine::Interpreter => match interpret(s, &bytes) {
            Ok((output, cost)) => (parse_lines(&output), cost),
            Err(failure) => (Err(failure), None),
        },
    };
    Ok(Ran {
        detail: format!("{}, {}", folder.detail, engine.words()),
        instructions: cost,
        flash: Some(bytes.len() as u64),
        limits: target::find("wasm32")?.unverified,
        ..Ran::new(engine.name(), s.extent(0), traces)
    })
}

fn folder(s: &Subject) -> Result<Folder, Failure> {
    if s.path.join(MODULE).is_file() {
        return Ok(Folder { dir: s.path.clone(), detail: "the exported module", _temporary: None });
    }
    let no_tools = |e: Error| Failure::NotRun { why: e.message().into(), install: e.next_step().map(str::to_string) };
    let tools = wasm::tools().map_err(no_tools)?;
    let broke = |e: Error| Failure::Broke(e.to_string());
    let temporary = tempfile::tempdir().map_err(|e| broke(Error::tool(format!("no temporary folder: {e}"))))?;
    let dir = temporary.path().to_path_buf();
    let beside = dir.join("model.bin");
    // Another file system cannot be linked to.
    let placed = std::fs::hard_link(&s.model, &beside).or_else(|_| std::fs::copy(&s.model, &beside).map(drop));
    placed.map_err(|e| broke(Error::io("copy the model", &s.model, &e)))?;
    let target = target::find("wasm32").map_err(broke)?;
    wasm::write_sources(&dir, &s.artifact.program, s.artifact.packed.section(Kind::Tokenizer), &target, &tools)
        .map_err(broke)?;
    wasm::build(&dir, &tools).map_err(broke)?;
    Ok(Folder { dir, detail: "a module built for this", _temporary: Some(temporary) })
}

fn in_node(s: &Subject, folder: &Folder) -> Result<Said, Failure> {
    if find("node").is_none() {
        return Err(Failure::missing("node not found".into(), "nodejs"));
    }
    let mut node = Command::new("node");
    node.args(["--input-type=module", "-e", SCRIPT, "--"]).arg(&folder.dir).arg(s.trace_command(0));
    // What the caller sets for its own programs must not change ours.
    node.env_remove("NODE_OPTIONS");
    parse(&run(&mut node, RUN_LIMIT).map_err(|e| Failure::Broke(e.message().to_string()))?)
}

#[cfg(not(feature = "wasm"))]
fn interpret(_: &Subject, _: &[u8]) -> Result<(String, Option<u64>), Failure> {
    Err(Failure::not_run("this program was built without the feature `wasm`".into()))
}
