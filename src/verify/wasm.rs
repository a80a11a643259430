//! The WebAssembly module as a runner: in an interpreter that knows the first version of WebAssembly without floating point, and in Node
//! through the ES module that applications use.

use super::process::{find, run};
use super::firmware::{parse, parse_lines};
use super::{CFailure, CRun};
use crate::error::{Error, Result};
use crate::export::wasm::{self, MODULE};
use crate::fsio::read_capped;
use crate::program::Program;
use crate::target;
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const RUN_LIMIT: Duration = Duration::from_secs(900);
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

/// The module of an artifact, built when a runner first asks for it.
pub struct Module<'a> {
    path: &'a Path,
    folder: OnceCell<Result<Folder, Absent>>,
}

/// A folder with a built module: the exported one, or a temporary one around a model.
pub struct Folder {
    dir: PathBuf,
    detail: &'static str,
    /// Removed when dropped.
    _temporary: Option<tempfile::TempDir>,
}

/// Why there is no module.
enum Absent {
    NoTools(String),
    DoesNotBuild(String),
}

impl<'a> Module<'a> {
    pub fn of(path: &'a Path) -> Self {
        Module { path, folder: OnceCell::new() }
    }

    /// Hands the folder to a runner.
    pub fn run(&self, program: &Program, runner: impl FnOnce(&Folder) -> Result<CRun>) -> Result<CRun> {
        let failed = |failure| Ok(CRun { detail: "WebAssembly".into(), traces: Err(failure) });
        match self.folder.get_or_init(|| folder(self.path, program)) {
            Ok(folder) => runner(folder),
            Err(Absent::NoTools(why)) => failed(CFailure::NotRun(why.clone())),
            Err(Absent::DoesNotBuild(why)) => failed(CFailure::Broke(why.clone())),
        }
    }
}

/// The module of an export for WebAssembly as it is; for any other artifact one is built.
fn folder(path: &Path, program: &Program) -> Result<Folder, Absent> {
    if path.join(MODULE).is_file() {
        return Ok(Folder { dir: path.to_path_buf(), detail: "the exported module", _temporary: None });
    }
    let tools = wasm::tools().map_err(|e| Absent::NoTools(with_hint(&e)))?;
    let broke = |e: Error| Absent::DoesNotBuild(with_hint(&e));
    let model = if path.is_dir() { path.join("model.bin") } else { path.to_path_buf() };
    let no_folder = |e| broke(Error::tool(format!("no temporary folder: {e}")));
    let temporary = tempfile::tempdir().map_err(no_folder)?;
    let dir = temporary.path().to_path_buf();
    std::fs::copy(&model, dir.join("model.bin")).map_err(|e| broke(Error::io("copy", &model, &e)))?;
    let target = target::find("wasm32").map_err(broke)?;
    wasm::write_sources(&dir, program, &target, &tools).map_err(broke)?;
    wasm::build(&dir, &tools).map_err(broke)?;
    Ok(Folder { dir, detail: "a module built for this", _temporary: Some(temporary) })
}

fn with_hint(e: &Error) -> String {
    match e.next_step() {
        Some(hint) => format!("{} ({hint})", e.message()),
        None => e.message().to_string(),
    }
}

/// In Node.
pub fn in_node(folder: &Folder) -> Result<CRun> {
    let detail = format!("Node, {}", folder.detail);
    if find("node").is_none() {
        let why = "node not found (Debian, Ubuntu: `apt-get install nodejs`)".to_string();
        return Ok(CRun { detail, traces: Err(CFailure::NotRun(why)) });
    }
    let mut node = Command::new("node");
    node.args(["--input-type=module", "-e", SCRIPT, "--"]).arg(&folder.dir).arg("trace").env_remove("NODE_OPTIONS");
    let traces = match run(&mut node, RUN_LIMIT) {
        Err(e) => Err(CFailure::Broke(e.message().to_string())),
        Ok(output) => parse(&output),
    };
    Ok(CRun { detail, traces })
}

/// In an interpreter that refuses floating point, imports and everything that came after the first version of WebAssembly.
///
/// `ids` is a prompt that may be repeated: the cost of a token is what the 8th takes beyond 7.
///
/// # Errors
/// `Io` if the module cannot be read.
pub fn in_interpreter(folder: &Folder, ids: &[u32]) -> Result<CRun> {
    let bytes = read_capped(&folder.dir.join(MODULE), MOST_BYTES)?;
    let mut detail = format!("wasmi, no floating point, no imports, {}", folder.detail);
    let traces = match interpret(&bytes, ids) {
        Err(failure) => Err(failure),
        Ok((output, cost)) => {
            if let Some(cost) = cost {
                detail += &format!(", {} instructions a token", crate::plan::group(cost));
            }
            parse_lines(&output)
        }
    };
    Ok(CRun { detail, traces })
}

#[cfg(not(feature = "wasm"))]
fn interpret(_: &[u8], _: &[u32]) -> Result<(String, Option<u64>), CFailure> {
    Err(CFailure::NotRun("this program was built without the feature `wasm`".into()))
}

/// What `trace` prints, and the fuel of one token: one unit an instruction.
#[cfg(feature = "wasm")]
fn interpret(bytes: &[u8], ids: &[u32]) -> Result<(String, Option<u64>), CFailure> {
    let broke = |what: wasmi::Error| CFailure::Broke(format!("wasmi: {what}"));
    let mut machine = Machine::new(bytes)?;
    let cost = machine.cost_of_a_token(ids).map_err(broke)?;
    let (code, output) = machine.command("trace").map_err(broke)?;
    match code {
        0 => Ok((output, cost)),
        code => Err(CFailure::Broke(format!("it stopped with {code}\n    {}", output.lines().last().unwrap_or_default()))),
    }
}

/// Ends a program that does not end; about a day's worth of instructions on a slow machine.
#[cfg(feature = "wasm")]
const FUEL: u64 = 1 << 42;

#[cfg(feature = "wasm")]
struct Machine {
    store: wasmi::Store<()>,
    instance: wasmi::Instance,
    memory: wasmi::Memory,
}

#[cfg(feature = "wasm")]
impl Machine {
    fn new(bytes: &[u8]) -> Result<Machine, CFailure> {
        let mut config = wasmi::Config::default();
        config.floats(false).consume_fuel(true).compilation_mode(wasmi::CompilationMode::Eager).allow_start_fn(false);
        config.wasm_mutable_global(false).wasm_sign_extension(false).wasm_saturating_float_to_int(false);
        config.wasm_multi_value(false).wasm_bulk_memory(false).wasm_reference_types(false);
        config.wasm_tail_call(false).wasm_extended_const(false).wasm_multi_memory(false);
        let engine = wasmi::Engine::new(&config);
        let broke = |what: wasmi::Error| CFailure::Broke(format!("wasmi refuses the module: {what}"));
        let module = wasmi::Module::new(&engine, bytes).map_err(broke)?;
        if let Some(i) = module.imports().next() {
            return Err(CFailure::Broke(format!("the module imports {}.{}", i.module(), i.name())));
        }
        let mut store = wasmi::Store::new(&engine, ());
        store.set_fuel(FUEL).map_err(broke)?;
        let instance = wasmi::Instance::new(&mut store, &module, &[]).map_err(broke)?;
        match instance.get_memory(&store, "memory") {
            Some(memory) => Ok(Machine { store, instance, memory }),
            None => Err(CFailure::Broke("the module exports no memory".into())),
        }
    }

    fn call<A: wasmi::WasmParams, R: wasmi::WasmResults>(&mut self, name: &str, arguments: A) -> Result<R, wasmi::Error> {
        self.instance.get_typed_func::<A, R>(&self.store, name)?.call(&mut self.store, arguments)
    }

    /// Puts bytes into the caller's buffer.
    fn put(&mut self, bytes: &[u8]) -> Result<u32, wasmi::Error> {
        let length = u32::try_from(bytes.len()).map_err(|_| wasmi::Error::new("too much for a module"))?;
        let at: u32 = self.call("room", length)?;
        self.memory.write(&mut self.store, at as usize, bytes).map_err(|_| wasmi::Error::new("its buffer is outside of its memory"))?;
        Ok(at)
    }

    fn command(&mut self, line: &str) -> Result<(i32, String), wasmi::Error> {
        let at = self.put(format!("{line}\0").as_bytes())?;
        let code = self.call("command", at)?;
        let (from, length): (u32, u32) = (self.call("output", ())?, self.call("output_bytes", ())?);
        let bytes = self.memory.data(&self.store).get(from as usize..).and_then(|d| d.get(..length as usize));
        let bytes = bytes.ok_or_else(|| wasmi::Error::new("its output is outside of its memory"))?;
        Ok((code, String::from_utf8_lossy(bytes).into_owned()))
    }

    /// None for a model that gives embeddings, where a token has no cost of its own.
    fn cost_of_a_token(&mut self, ids: &[u32]) -> Result<Option<u64>, wasmi::Error> {
        let mut spent = [0; 2];
        for (spent, n) in spent.iter_mut().zip([7, 8]) {
            if self.call::<(), i32>("open", ())? != 0 {
                return Ok(None); // `trace` will say why
            }
            let bytes: Vec<u8> = ids.iter().cycle().take(n).flat_map(|id| id.to_le_bytes()).collect();
            let at = self.put(&bytes)?;
            let before = self.store.get_fuel()?;
            if self.call::<(u32, u32), i32>("run", (at, (bytes.len() / 4) as u32))? != 0 {
                return Ok(None);
            }
            *spent = before - self.store.get_fuel()?;
        }
        Ok(spent[1].checked_sub(spent[0]))
    }
}

#[cfg(all(test, feature = "wasm"))]
mod tests {
    use super::*;

    /// A module that exports a memory, and a function with the given locals and body.
    fn module(body: &[u8]) -> Vec<u8> {
        let code = [&[1, body.len() as u8 + 2, 0][..], body, &[0x0b]].concat();
        let mut m = b"\0asm\x01\0\0\0".to_vec();
        m.extend([1, 4, 1, 0x60, 0, 0]); // one type, () -> ()
        m.extend([3, 2, 1, 0]); // one function of it
        m.extend([5, 3, 1, 0, 1]); // a memory of one page
        m.extend(b"\x07\x0a\x01\x06memory\x02\x00");
        m.extend([10, code.len() as u8]);
        m.extend(code);
        m
    }

    fn refused(bytes: &[u8]) -> String {
        match Machine::new(bytes) {
            Ok(_) => String::new(),
            Err(CFailure::Broke(what) | CFailure::NotRun(what)) => what,
        }
    }

    #[test]
    fn integers_are_accepted() {
        assert_eq!(refused(&module(&[0x41, 1, 0x1a])), ""); // i32.const 1, drop
    }

    #[test]
    fn one_floating_point_instruction_is_refused() {
        assert!(refused(&module(&[0x43, 0, 0, 0, 0, 0x1a])).contains("floating-point"), "f32.const 0, drop");
        assert!(refused(&module(&[0x41, 1, 0xb2, 0x1a])).contains("floating-point"), "i32.const 1, f32.convert_i32_s, drop");
    }

    #[test]
    fn what_came_after_the_first_version_is_refused() {
        assert!(refused(&module(&[0x41, 1, 0xc0, 0x1a])).contains("sign extension"), "i32.const 1, i32.extend8_s, drop");
    }

    #[test]
    fn an_import_is_refused() {
        let mut m = b"\0asm\x01\0\0\0".to_vec();
        m.extend([1, 4, 1, 0x60, 0, 0]);
        m.extend(b"\x02\x09\x01\x03env\x01f\x00\x00");
        assert_eq!(refused(&m), "the module imports env.f");
    }

    #[test]
    fn damaged_modules_are_refused() {
        for bytes in [&b""[..], b"\0asm", b"\0asm\x02\0\0\0", b"\0asm\x01\0\0\0\x05\x03\x01\0", b"\x7fELF"] {
            assert!(refused(bytes).starts_with("wasmi refuses"), "{bytes:?}");
        }
        assert_eq!(refused(b"\0asm\x01\0\0\0"), "the module exports no memory");
    }
}
