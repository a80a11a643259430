//! The module in an interpreter that refuses what the module must not have.

use super::super::count::TOKENS;
use super::super::{Failure, Subject};
use wasmi::{CompilationMode, Config, Engine, Error, Instance, Memory, Module, Store, WasmParams, WasmResults};

/// What the trace prints, and the fuel of one token: a unit is an instruction.
pub fn interpret(s: &Subject, bytes: &[u8]) -> Result<(String, Option<u64>), Failure> {
    let broke = |what: Error| Failure::Broke(format!("wasmi: {what}"));
    let mut machine = Machine::new(bytes)?;
    let counted = s.artifact.golden.prompts.first().filter(|_| !s.quick && !s.artifact.program.encoder);
    let cost = counted.map(|g| machine.cost_of_a_token(&g.ids)).transpose().map_err(broke)?.flatten();
    let (code, output) = machine.command(&s.trace_command(0)).map_err(broke)?;
    match code {
        0 => Ok((output, cost)),
        code => Err(Failure::Broke(format!("it stopped with {code}\n{}", output.lines().last().unwrap_or_default()))),
    }
}

/// Ends a program that does not end: an hour or so of instructions, far more than a golden trace has.
const FUEL: u64 = 1 << 41;

struct Machine {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

impl Machine {
    fn new(bytes: &[u8]) -> Result<Machine, Failure> {
        let mut config = Config::default();
        config.floats(false).consume_fuel(true).compilation_mode(CompilationMode::Eager).allow_start_fn(false);
        config.wasm_mutable_global(false).wasm_sign_extension(false).wasm_saturating_float_to_int(false);
        config.wasm_multi_value(false).wasm_bulk_memory(false).wasm_reference_types(false);
        config.wasm_tail_call(false).wasm_extended_const(false).wasm_multi_memory(false);
        let engine = Engine::new(&config);
        let broke = |what: Error| Failure::Broke(format!("wasmi refuses the module: {what}"));
        let module = Module::new(&engine, bytes).map_err(broke)?;
        if let Some(i) = module.imports().next() {
            return Err(Failure::Broke(format!("the module imports {}.{}", i.module(), i.name())));
        }
        let mut store = Store::new(&engine, ());
        store.set_fuel(FUEL).map_err(broke)?;
        let instance = Instance::new(&mut store, &module, &[]).map_err(broke)?;
        match instance.get_memory(&store, "memory") {
            Some(memory) => Ok(Machine { store, instance, memory }),
            None => Err(Failure::Broke("the module exports no memory".into())),
        }
    }

    fn call<A: WasmParams, R: WasmResults>(&mut self, name: &str, arguments: A) -> Result<R, Error> {
        self.instance.get_typed_func::<A, R>(&self.store, name)?.call(&mut self.store, arguments)
    }

    /// Puts bytes into the caller's buffer.
    fn put(&mut self, bytes: &[u8]) -> Result<u32, Error> {
        let length = u32::try_from(bytes.len()).map_err(|_| Error::new("too much for a module"))?;
        let at: u32 = self.call("room", length)?;
        self.memory
            .write(&mut self.store, at as usize, bytes)
            .map_err(|_| Error::new("its buffer is outside of its memory"))?;
        Ok(at)
    }

    fn command(&mut self, line: &str) -> Result<(i32, String), Error> {
        let at = self.put(format!("{line}\0").as_bytes())?;
        let code = self.call("command", at)?;
        let (from, length): (u32, u32) = (self.call("output", ())?, self.call("output_bytes", ())?);
        let bytes = self.memory.data(&self.store).get(from as usize..).and_then(|d| d.get(..length as usize));
        let bytes = bytes.ok_or_else(|| Error::new("its output is outside of its memory"))?;
        Ok((code, String::from_utf8_lossy(bytes).into_owned()))
    }

    /// Fuel of the token after [`TOKENS`] others, with its logits. None for a model that gives embeddings, where a token has no cost of its own.
    fn cost_of_a_token(&mut self, ids: &[u32]) -> Result<Option<u64>, Error> {
        if self.call::<(), i32>("open", ())? != 0 {
            return Ok(None); // `trace` will say why
        }
        let mut spent = None;
        // One by one: each token has its logits, as a text that is written has them.
        for id in ids.iter().cycle().take(TOKENS + 1) {
            let at = self.put(&id.to_le_bytes())?;
            let before = self.store.get_fuel()?;
            if self.call::<(u32, u32), i32>("run", (at, 1))? != 0 {
                return Ok(None);
            }
            spent = before.checked_sub(self.store.get_fuel()?);
        }
        Ok(spent)
    }
}

#[cfg(test)]
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
            Err(Failure::Broke(what)) => what,
            Err(Failure::NotRun { why, .. }) => why,
        }
    }

    #[test]
    fn integers_are_accepted() {
        assert_eq!(refused(&module(&[0x41, 1, 0x1a])), ""); // i32.const 1, drop
    }

    #[test]
    fn one_floating_point_instruction_is_refused() {
        assert!(refused(&module(&[0x43, 0, 0, 0, 0, 0x1a])).contains("floating-point"), "f32.const 0, drop");
        assert!(
            refused(&module(&[0x41, 1, 0xb2, 0x1a])).contains("floating-point"),
            "i32.const 1, f32.convert_i32_s, drop"
        );
    }

    #[test]
    fn what_came_after_the_first_version_is_refused() {
        assert!(
            refused(&module(&[0x41, 1, 0xc0, 0x1a])).contains("sign extension"),
            "i32.const 1, i32.extend8_s, drop"
        );
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
