//! WebAssembly: the exported folder is a module without imports and floating point that computes the golden trace in two engines, and an ES
//! module that answers as `run` does. Without clang there is a clear error and no folder.

mod common;

use common::{command, finish, fixture, listing, not_run, tool};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const PROMPT: &str = "<|system|>You are a sensor assistant.<|user|>What's the temp?<|assistant|>";

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|d| d.join(program).is_file()))
}

fn can_build() -> bool {
    let all = bitnet_convert::export::wasm::tools();
    if let Err(e) = &all {
        not_run("export for wasm32", e.next_step().unwrap_or(e.message()));
    }
    all.is_ok()
}

fn export(model: &str, out: &Path) {
    tool("export --model {} --target wasm32 -o {} --quiet", &[&fixture(model), out]).ok();
}

/// Runs a script against the ES module of a folder and gives what it printed as JSON.
fn in_node(folder: &Path, script: &str) -> Value {
    let file = folder.join("test.mjs");
    std::fs::write(&file, format!("import {{ load }} from './bitnet.js';\nconst m = await load();\n{script}")).unwrap();
    let out = finish(Command::new("node").arg(&file)).ok();
    std::fs::remove_file(&file).unwrap();
    out.json()
}

/// Ids of the sections of a module.
fn sections(module: &[u8]) -> Vec<u8> {
    assert_eq!(&module[..8], b"\0asm\x01\0\0\0");
    let (mut at, mut ids) = (8, Vec::new());
    while at < module.len() {
        ids.push(module[at]);
        at += 1;
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let byte = module[at];
            at += 1;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        at += length;
    }
    ids
}

#[test]
fn the_module_computes_the_golden_trace_in_two_engines() {
    if !can_build() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("web");
    export("models/intent-w1a2", &out);
    let names = [
        "Makefile",
        "README.md",
        "bitnet.d.ts",
        "bitnet.js",
        "bitnet.wasm",
        "model.bin",
        "model.h",
        "package.json",
        "ports",
        "runtime",
        "target.toml",
        "tools.mk",
    ];
    assert_eq!(listing(&out), names);
    let module = std::fs::read(out.join("bitnet.wasm")).unwrap();
    let model = std::fs::read(out.join("model.bin")).unwrap();
    assert!(module.windows(64).any(|w| w == &model[..64]), "the model is in the module");
    assert!(!sections(&module).contains(&2), "no imports");
    let report = tool("verify {} --target wasm32 --json", &[&out]).ok().json();
    let rows = report["rows"].as_array().unwrap();
    let of = |engine: &str| rows.iter().find(|r| r["emulator"] == engine).unwrap();
    assert_eq!(of("wasmi")["result"], "equal", "{report}");
    assert!(of("wasmi")["instructions_per_token"].as_u64().unwrap() > 100_000, "{report}");
    if on_path("node") {
        assert_eq!(of("node")["result"], "equal", "{report}");
    } else {
        assert_eq!(of("node")["result"], "not-run", "{report}");
        not_run("the module in Node", "node");
    }
    damaged_module_differs(&out, &module);
    // The folder builds itself again, to the same bytes.
    let make =
        finish(Command::new("make").args(["-s", "OUT=again.wasm"]).current_dir(&out).env_remove("MAKEFLAGS")).ok();
    assert_eq!(make.stderr, "");
    assert!(std::fs::read(out.join("again.wasm")).unwrap() == module);
}

/// One flipped bit of a weight inside of the module: both engines say so.
fn damaged_module_differs(out: &Path, module: &[u8]) {
    let mut damaged = module.to_vec();
    let model = std::fs::read(out.join("model.bin")).unwrap();
    let start = module.windows(64).position(|w| w == &model[..64]).unwrap();
    damaged[start + model.len() / 2] ^= 1;
    std::fs::write(out.join("bitnet.wasm"), &damaged).unwrap();
    let run = tool("verify {} --target wasm32 --json", &[out]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stdout.contains("checksum"), "{}", run.stdout);
    std::fs::write(out.join("bitnet.wasm"), module).unwrap();
}

#[test]
fn the_es_module_answers_as_the_host_does() {
    if !can_build() || !on_path("node") {
        return not_run("the ES module", "clang, wasm-ld and node");
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("web");
    export("models/intent-w1a2", &out);
    let host = |flags: &[&str]| {
        let mut c = command();
        finish(c.arg("run").arg(&out).args(["--prompt", PROMPT, "--max-new-tokens", "12", "--json"]).args(flags))
            .ok()
            .json()
    };
    let (greedy, drawn) = (host(&["--greedy"]), host(&["--temperature", "1.7", "--top-k", "9", "--seed", "3"]));
    let said = in_node(
        &out,
        &format!(
            "const p = {PROMPT:?};
const plain = (g) => ({{ prompt_ids: [...g.promptIds], generated_ids: [...g.ids], text: g.text, finished: g.finished }});
const pieces = [];
const greedy = await m.generate(p, {{ maxTokens: 12, onToken: (t) => pieces.push(t) }});
const drawn = await m.generate(p, {{ maxTokens: 12, temperature: 1.7, topK: 9, seed: 3 }});
const wrong = (f) => {{ try {{ f(); return 'none'; }} catch (e) {{ return `${{e.name}} ${{e.status ?? ''}} ${{e.message}}`; }} }};
m.reset();
const whole = m.run(m.encode(p));
m.reset();
for (const id of m.encode(p)) var steps = m.run([id]);
console.log(JSON.stringify({{
  greedy: plain(greedy), drawn: plain(drawn), pieces: pieces.join(''), logits: [...whole], steps: [...steps],
  back: m.decode(m.encode('naïve 日本語 😀')), selftest: m.selftest(), position: m.position,
  token: wrong(() => m.run([1024])), float: wrong(() => m.run([1.5])), none: wrong(() => m.run([])),
  embed: wrong(() => m.embed('x')), command: m.command('nonsense').code,
}}));"
        ),
    );
    assert_eq!(said["greedy"], greedy);
    assert_eq!(said["greedy"]["text"], "read_temperature");
    assert_eq!(said["drawn"], drawn);
    assert_eq!(said["pieces"], greedy["text"]);
    assert_eq!(said["logits"], said["steps"]);
    assert_eq!(said["back"], "naïve 日本語 😀");
    assert_eq!(said["selftest"], serde_json::json!({ "equal": true }));
    assert_eq!(said["position"], 0);
    assert_eq!(said["token"], "BitnetError 7 run: token id outside of the vocabulary");
    assert_eq!(said["float"], "TypeError  1.5 is no token id");
    assert_eq!(said["none"], "RangeError  run: no ids");
    assert!(said["embed"].as_str().unwrap().starts_with("BitnetError 15 embed: "), "{said}");
    assert_eq!(said["command"], 2);
    let ids = greedy["prompt_ids"].as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>().join(",");
    let logits = finish(command().arg("logits").arg(&out).args(["--input-ids", &ids, "--json"])).ok().json();
    assert_eq!(Some(&said["logits"]), logits["logits"].as_array().unwrap().last(), "logits of the host");
}

/// A model that gives embeddings.
#[test]
fn an_embedding_model_runs_too() {
    if !can_build() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("web");
    tool("export --model {} --target wasm32 -o {} --quiet", &[&fixture("golden/bitnet_embedding_qwen3"), &out]).ok();
    let report = tool("verify {} --target wasm32 --json", &[&out]).ok().json();
    assert!(report["rows"].as_array().unwrap().iter().any(|r| r["result"] == "equal"), "{report}");
}

#[test]
fn without_clang_there_is_an_error_and_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("web");
    let mut c = command();
    c.arg("export").arg("--model").arg(fixture("models/intent-w1a2")).args(["--target", "wasm32", "-o"]).arg(&out);
    let run = finish(c.env("PATH", dir.path())).never_panicked();
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("clang was not found"), "{}", run.stderr);
    assert!(run.stderr.contains("apt-get install clang-19 lld-19"), "{}", run.stderr);
    assert_eq!(listing(dir.path()), [""; 0]);
}

/// A folder with programs that are none of ours, as the PATH.
#[cfg(unix)]
fn with_tools(dir: &Path, tools: &[(&str, &str)]) {
    use std::os::unix::fs::PermissionsExt;
    for (name, says) in tools {
        std::fs::write(dir.join(name), format!("#!/bin/sh\n{says}\n")).unwrap();
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn tools_that_cannot_do_it_are_named() {
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
    let cases: [Case; 4] = [
        (&[("clang", "echo 'Debian clang version 14.0.6'")], "clang version 14.0.6", "clang-19 lld-19"),
        (&[("clang", "echo 'Apple clang version 17.0.0 (clang-1700.0.13.3)'")], "Apple clang", "clang-19 lld-19"),
        (&[("clang-18", "echo 'Ubuntu clang version 18.1.3'")], "`clang-18` is there, but not wasm-ld", "lld-18"),
        (
            &[
                ("clang", "echo 'clang version 19.1.7'"),
                ("wasm-ld", ""),
                ("make", "echo 'no such target wasm32' >&2; exit 2"),
            ],
            "no such target wasm32",
            "clang-19 lld-19",
        ),
    ];
    for (tools, what, install) in cases {
        let (bin, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        with_tools(bin.path(), tools);
        let mut c = command();
        c.arg("export").arg("--model").arg(fixture("models/intent-w1a2")).args(["--target", "wasm32", "-o"]);
        let run = finish(c.arg(dir.path().join("web")).env("PATH", bin.path())).never_panicked();
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains(what) && run.stderr.contains(install), "{}", run.stderr);
        assert_eq!(listing(dir.path()), [""; 0]);
    }
}

#[test]
fn flags_of_other_formats_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let model = fixture("models/intent-w1a2");
    let refused = |args: &str| {
        let run =
            tool(&format!("export --model {{}} -o {{}} {args}"), &[&model, &dir.path().join("x")]).never_panicked();
        assert_eq!((run.code, listing(dir.path())), (Some(2), Vec::new()), "{args}: {run:?}");
        run.stderr
    };
    assert!(refused("--target wasm32 --format c").contains("not `wasm32`"));
    assert!(refused("--format wasm").contains("not for the target `host`"));
    assert!(refused("--target wasm32 --embed array").contains("belong to the C folder"));
    assert!(refused("--target wasm32 --prompt hello").contains("belong to the C folder"));
    tool("export --model {} --target wasm32 --dry-run", &[&model]).ok();
    assert!(listing(dir.path()).is_empty());
}
