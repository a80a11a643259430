//! The C folder: the runtime sources as they stand in `files/`, the model, and two small generated headers.
//!
//! The runtime is fixed; everything about a model is in `model.bin`, which is a packed file, so the firmware, `inspect` and `verify` read the same bytes.

pub mod machine;
mod tokenizer;

use super::packed::{Prepared, Written, GOLDEN_TEXTS, MORE_TEXTS};
use super::rules::{self, Rules};
use crate::error::{Error, Result};
use crate::format::session;
use crate::fsio::{undisturbed, AtomicDir};
use crate::plan::{self, group};
use crate::program::{parts, Program};
use crate::progress::Progress;
use crate::target::{self, Role, Target};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// How the model gets into the firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Embed {
    /// `.incbin` through the assembler: builds at once.
    Incbin,
    /// A C array: for tool chains without `.incbin`.
    Array,
}

/// A folder that holds this file is an earlier export and may be replaced.
const MARKER: &str = "model.bin";

/// Bytes of the longest prompt that the example main takes.
pub const MAX_PROMPT: usize = 512;

macro_rules! files {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("files/", $name)))),*] };
}

const FILES: &[(&str, &str)] = &files![
    "Makefile",
    "runtime/bitnet.h",
    "runtime/bitnet_act.c",
    "runtime/bitnet_attend.c",
    "runtime/bitnet_check.c",
    "runtime/bitnet_delta.c",
    "runtime/bitnet_delta.h",
    "runtime/bitnet_delta_check.c",
    "runtime/bitnet_delta_code.c",
    "runtime/bitnet_delta_index.c",
    "runtime/bitnet_delta_internal.h",
    "runtime/bitnet_delta_kinds.c",
    "runtime/bitnet_delta_state.c",
    "runtime/bitnet_ed25519.c",
    "runtime/bitnet_ed25519.h",
    "runtime/bitnet_fallback.c",
    "runtime/bitnet_fallback.h",
    "runtime/bitnet_features.h",
    "runtime/bitnet_follow.c",
    "runtime/bitnet_internal.h",
    "runtime/bitnet_kernels.h",
    "runtime/bitnet_linear.c",
    "runtime/bitnet_lookup.c",
    "runtime/bitnet_lora.c",
    "runtime/bitnet_math.c",
    "runtime/bitnet_math.h",
    "runtime/bitnet_model.c",
    "runtime/bitnet_neon.c",
    "runtime/bitnet_neon.h",
    "runtime/bitnet_norm.c",
    "runtime/bitnet_ops.c",
    "runtime/bitnet_order.c",
    "runtime/bitnet_planes.c",
    "runtime/bitnet_poison.h",
    "runtime/bitnet_rows.c",
    "runtime/bitnet_run.c",
    "runtime/bitnet_sample.c",
    "runtime/bitnet_select.c",
    "runtime/bitnet_selftest.c",
    "runtime/bitnet_state.c",
    "runtime/bitnet_status.h",
    "runtime/bitnet_sha256.c",
    "runtime/bitnet_sha256.h",
    "runtime/bitnet_stream.c",
    "runtime/bitnet_tables.c",
    "runtime/bitnet_tok.h",
    "runtime/bitnet_tok_blob.c",
    "runtime/bitnet_tok_bpe.c",
    "runtime/bitnet_tok_chat.c",
    "runtime/bitnet_tok_chat.h",
    "runtime/bitnet_tok_decode.c",
    "runtime/bitnet_tok_normal.c",
    "runtime/bitnet_tok_pieces.c",
    "runtime/bitnet_tok_words.c",
    "runtime/bitnet_tokenizer.c",
    "runtime/bitnet_tokenizer.h",
    "runtime/bitnet_weight.c",
    "ports/adapter.S",
    "ports/bitnet_main.c",
    "ports/bitnet_service.c",
    "ports/bitnet_service.h",
    "ports/bitnet_texts.c",
    "ports/bitnet_update.c",
    "ports/examples/flash_stm32h7.c",
    "ports/examples/flash_stm32h7.h",
    "ports/examples/stream.c",
    "ports/examples/stream.h",
    "ports/examples/tasks.c",
    "ports/examples/tasks.h",
    "ports/run_labwired.py",
    "ports/model.S",
    "ports/patch.S",
    "ports/port.h",
    "ports/port_cortex_m.c",
    "ports/port_host.c",
    "ports/port_linux.c",
    "ports/port_memory.c",
    "ports/port_output.c",
    "ports/port_rv32.c",
    "ports/port_xtensa.c",
    "ports/sections.ld",
    "ports/stack.awk",
    "ports/stack.txt",
];

/// What the generated headers say.
struct Sizes<'a> {
    arena: u64,
    arena_in_fast: bool,
    vocab: usize,
    /// Elements of the logits or of the embedding.
    results: usize,
    /// Switches for what the model does without; empty: everything is compiled.
    parts: String,
    tokenizer: tokenizer::Sizes,
    /// Bytes of a session whose window is full.
    state: u64,
    prompts: &'a [String],
    rules: Option<&'a Rules>,
}

impl<'a> Sizes<'a> {
    fn of(program: &Program, blob: Option<&[u8]>, arena: u64, arena_in_fast: bool, prompts: &'a [String]) -> Self {
        let (vocab, results) = (program.vocab, program.result_len());
        let parts = switches(&parts::needs(program)) + &tokenizer::switches(blob);
        let (state, tokenizer) = (state_bytes(program), tokenizer::Sizes::of(blob));
        Sizes { arena, arena_in_fast, vocab, results, parts, tokenizer, state, prompts, rules: None }
    }
}

/// Bytes of a session (docs/format/session.md) whose window is full.
fn state_bytes(p: &Program) -> u64 {
    let a = &p.attention;
    let codes = (a.head_dim as u64 * u64::from(a.k_bits + a.v_bits)) / 8;
    let scales = if p.static_keys { 6 } else { 12 };
    session::HEAD_BYTES as u64 + (p.layers * a.window * a.kv_heads) as u64 * (codes + scales)
}

/// Writes the folder: it appears complete or not at all.
///
/// # Errors
/// What [`Prepared::write`] says, `Io` from the folder, `Usage` if the folder holds something that is no earlier export.
pub fn write(
    prepared: &mut Prepared,
    target: &Target,
    embed: Embed,
    prompts: &[String],
    rules: Option<&Rules>,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Written> {
    let dir = AtomicDir::create(out, MARKER)?;
    let model = dir.path().join("model.bin");
    let written = prepared.write(&model, progress)?;
    let plan = &prepared.plan;
    let sizes = Sizes::of(prepared.program(), prepared.tokenizer(), plan.arena_bytes, plan.arena_in_fast_ram, prompts);
    let parts = sizes.parts.clone() + &lora_switch(prepared.adapters());
    let sizes = Sizes { rules, parts, ..sizes };
    write_sources(dir.path(), &sizes, target)?;
    if embed == Embed::Array {
        let bytes = fs::read(&model).map_err(|e| Error::io("read", &model, &e))?;
        put(dir.path(), "model.c", &array(&bytes))?;
    }
    put(dir.path(), "embed.mk", if embed == Embed::Array { "EMBED ?= array\n" } else { "EMBED ?= incbin\n" })?;
    put(dir.path(), "README.md", &readme(prepared, target))?;
    dir.commit()?;
    Ok(written)
}

/// The runtime without a model, to be run on the host with any packed file.
pub fn write_runtime(dir: &Path) -> Result<()> {
    let parts = String::new();
    let sizes = Sizes {
        arena: 16,
        arena_in_fast: true,
        vocab: 1,
        results: 1,
        parts,
        tokenizer: tokenizer::Sizes::ANY,
        state: 96,
        prompts: &[],
        rules: None,
    };
    write_sources(dir, &sizes, &target::find("host")?)?;
    put(dir, "embed.mk", "EMBED ?= incbin\n")
}

/// The runtime of a target for a packed file that lies in `dir` as `model.bin` already, with the parts that its program and its tokenizer (`blob`)
/// need and no prompts.
pub fn write_runtime_for(dir: &Path, program: &Program, blob: Option<&[u8]>, target: &Target) -> Result<()> {
    let arena = plan::arena_bytes(program, program.attention.window);
    let mut sizes = Sizes::of(program, blob, arena, plan::in_fast_memory(arena, target), &[]);
    sizes.parts += &lora_switch(false);
    write_sources(dir, &sizes, target)?;
    put(dir, "embed.mk", "EMBED ?= incbin\n")
}

/// Whether a tokenizer needs more code than byte-level BPE takes.
pub(super) fn needs_more_code(blob: Option<&[u8]>) -> bool {
    tokenizer::needs_more(blob)
}

/// Bytes of memory that the example main has for a tokenizer: scratch, and the room to decode a token (`BITNET_TOK_ROOM`).
pub(super) fn tokenizer_scratch(blob: &[u8]) -> u64 {
    let sizes = tokenizer::Sizes::of(Some(blob));
    4 * u64::from(sizes.work) + 3 * (u64::from(sizes.token) + 4) + 1
}

/// The runtime of a target with its tokenizer alone in mind: `words` of memory for it, the parts that its `blob` needs as an export
/// would compile them, and no model yet.
pub fn write_runtime_for_texts(dir: &Path, target: &Target, words: usize, blob: &[u8]) -> Result<()> {
    let parts = tokenizer::switches(Some(blob));
    let sizes = Sizes {
        arena: 16,
        arena_in_fast: false,
        vocab: 1,
        results: words,
        parts,
        tokenizer: tokenizer::Sizes::of(None),
        state: 96,
        prompts: &[],
        rules: None,
    };
    write_sources(dir, &sizes, target)?;
    put(dir, "embed.mk", "EMBED ?= incbin\n")
}

fn write_sources(dir: &Path, sizes: &Sizes, target: &Target) -> Result<()> {
    if let Some(b) = &target.build {
        let has = |name: &str| FILES.iter().any(|(n, _)| n.strip_prefix("ports/") == Some(name));
        let wanted = [format!("port_{}.c", b.port), b.sections.clone()];
        if let Some(missing) = wanted.iter().find(|n| !n.is_empty() && !has(n)) {
            let e = Error::input(format!("target `{}`: there is no `{missing}` among the ports", target.name));
            let ports = FILES.iter().filter_map(|(n, _)| n.strip_prefix("ports/"));
            return Err(e.hint(format!("there are {}", ports.collect::<Vec<_>>().join(", "))));
        }
    }
    for (name, text) in FILES {
        put(dir, name, text)?;
    }
    for (name, text) in machine::files(target) {
        put(dir, &name, &text)?;
    }
    put(dir, "model.h", &model_header(sizes))?;
    put(dir, "ports/bitnet_rules.h", &rules::header(sizes.rules))?;
    put(dir, "ports/bitnet_prompts.h", &prompts_header(sizes.prompts))
}

/// Runtime and example main for a program, with the headers that say what it needs: what the folder of any machine starts with.
pub(in crate::export) fn write_common(dir: &Path, program: &Program, blob: Option<&[u8]>, arena: u64) -> Result<()> {
    const PORTS: [&str; 4] =
        ["ports/bitnet_main.c", "ports/bitnet_service.c", "ports/bitnet_service.h", "ports/port.h"];
    let common = |name: &str| name.starts_with("runtime/") || PORTS.contains(&name);
    for (name, text) in FILES.iter().filter(|(name, _)| common(name)) {
        put(dir, name, text)?;
    }
    let mut sizes = Sizes::of(program, blob, arena, false, &[]);
    sizes.parts += &lora_switch(false);
    put(dir, "model.h", &model_header(&sizes))?;
    put(dir, "ports/bitnet_rules.h", &rules::header(None))?;
    put(dir, "ports/bitnet_prompts.h", &prompts_header(&[]))
}

pub(in crate::export) fn put(dir: &Path, name: &str, text: &str) -> Result<()> {
    let path = dir.join(name);
    let write = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text)
    };
    undisturbed(write).map_err(|e| Error::io("write", &path, &e))
}

/// The lines of `model.h` that leave out what the program does without.
fn switches(needs: &parts::Needs) -> String {
    let on = |p: &&str| format!("#define BITNET_{p} {}\n", u8::from(needs.has(p)));
    parts::PARTS.iter().map(on).collect::<String>() + &format!("#define BITNET_KINDS {:#x}u\n", needs.kinds)
}

/// Whether adapters can be loaded; a build may decide otherwise.
fn lora_switch(on: bool) -> String {
    format!("#ifndef BITNET_WITH_LORA /* adapters */\n#define BITNET_WITH_LORA {}\n#endif\n", u8::from(on))
}

fn model_header(s: &Sizes) -> String {
    format!(
        "/* model.h - sizes of this model (generated). */\n\
         #ifndef MODEL_H\n#define MODEL_H\n\n\
         #define BITNET_ARENA_BYTES {}u /* as planned; bitnet_init refuses less than the model needs */\n\
         #define BITNET_ARENA_IN_FAST {} /* 1: beside the stack in the memory without wait states */\n\
         #define BITNET_VOCAB {}u\n\
         #define BITNET_RESULTS {}u /* logits, or values of the embedding */\n\
         #define BITNET_STATE_BYTES {}u /* most that bitnet_state_save writes */\n\
         #define BITNET_PROMPT_IDS {MAX_PROMPT}u /* longest prompt of the example main, in bytes of text */\n\
         #define BITNET_TOKENIZER_WORK {}u /* words of scratch that encoding takes */\n\
         #define BITNET_TOKENIZER_TOKEN {}u /* bytes of the longest token */\n\n\
         /* what of the runtime this model needs, see runtime/bitnet_features.h */\n{}\n#endif\n",
        s.arena,
        u8::from(s.arena_in_fast),
        s.vocab,
        s.results,
        s.state,
        s.tokenizer.work,
        s.tokenizer.token,
        s.parts
    )
}

/// A C string literal; every byte outside of printable ASCII as three octal digits, so that no trigraph or encoding can change it.
fn c_string(text: &str) -> String {
    let mut out = String::from("\"");
    for b in text.bytes() {
        match b {
            b'"' | b'\\' | b'?' => out.extend(['\\', b as char]),
            0x20..=0x7e => out.push(b as char),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\{b:03o}");
            }
        }
    }
    out + "\""
}

fn prompts_header(prompts: &[String]) -> String {
    let list: Vec<String> = prompts.iter().map(|p| format!("    {}", c_string(p))).collect();
    let list = if list.is_empty() { "    \"\"".to_string() } else { list.join(",\n") };
    let texts: Vec<String> = GOLDEN_TEXTS.iter().chain(&MORE_TEXTS).map(|t| format!("    {}", c_string(t))).collect();
    let texts = texts.join(",\n");
    format!(
        "/* bitnet_prompts.h - prompts that the example main answers when no command is given (generated). */\n\
         #ifndef BITNET_PROMPTS_H\n#define BITNET_PROMPTS_H\n#include <stdint.h>\n\
         static const uint32_t bitnet_prompt_count = {}u;\n\
         static const uint32_t bitnet_prompt_tokens = 32u; /* most tokens of an answer */\n\
         static const char *const bitnet_prompts[{}] = {{\n{list}\n}};\n\n\
         #if defined(BITNET_TRACE)\n/* what the command trace encodes */\n\
         static const char *const bitnet_texts[{}] = {{\n{texts}\n}};\n#endif\n#endif\n",
        prompts.len(),
        prompts.len().max(1),
        GOLDEN_TEXTS.len() + MORE_TEXTS.len()
    )
}

/// The model as words in the byte order of the reader.
fn array(bytes: &[u8]) -> String {
    let words: Vec<u32> =
        bytes.chunks(4).map(|c| c.iter().enumerate().fold(0, |w, (i, b)| w | u32::from(*b) << (8 * i))).collect();
    let mut s = String::with_capacity(words.len() * 12);
    s += "/* model.c - the packed model as an array (generated). */\n#include <stdint.h>\n\n";
    s += "/* the bytes of a file are the same on every machine; a big-endian one turns them itself at the start */\n\
          #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__\n#define CONST\n\
          #define W(v) ((v) >> 24 | ((v) >> 8 & 0xFF00u) | ((v) & 0xFF00u) << 8 | (v) << 24)\n\
          #else\n#define CONST const\n#define W(v) (v)\n#endif\n\n";
    // Writing to a String cannot fail.
    let _ = writeln!(
        s,
        "extern CONST uint32_t bitnet_model_words[{}];\nextern const uint32_t bitnet_model_bytes;",
        words.len()
    );
    let _ = writeln!(s, "const uint32_t bitnet_model_bytes = {}u;", bytes.len());
    s += "__attribute__((section(\".bitnet_model\"), aligned(64)))\n";
    let _ = writeln!(s, "CONST uint32_t bitnet_model_words[{}] = {{", words.len());
    for row in words.chunks(8) {
        row.iter().for_each(|w| {
            let _ = write!(s, "W(0x{w:08x}u),");
        });
        s.push('\n');
    }
    s + "};\n"
}

/// The README of the folder, with the figures of this model and the facts of its target.
fn readme(prepared: &Prepared, target: &Target) -> String {
    let (mut memory, mut memories) = (String::new(), String::new());
    for u in &prepared.plan.usage {
        // Writing to a String cannot fail.
        let _ = writeln!(memory, "| {} | {} | {} |", u.memory, group(u.total), u.limit.map_or("-".into(), group));
    }
    for m in &target.memory {
        let use_ = match m.role {
            Role::Flash => "program, tables, model",
            Role::Fast => {
                "stack (at the bottom: an overflow faults), context; the arena if `BITNET_ARENA_IN_FAST` is 1"
            }
            Role::Ram => "else the arena; logits or embedding, prompt ids",
            Role::Spare => "left to the application",
        };
        let _ = writeln!(memories, "| {} | {:#010x} | {} | {use_}; {} |", m.name, m.origin, group(m.bytes), m.note);
    }
    if target.memory.is_empty() {
        memories += "| of the operating system | | | a program with everything in static memory |";
    }
    let names: Vec<&str> = target.emulator.iter().map(|e| e.name.as_str()).collect();
    let mut tools: Vec<String> =
        target.build.iter().map(|b| format!("{} ({})", b.compiler, target::install(&b.packages))).collect();
    tools.extend(
        target
            .emulator
            .iter()
            .map(|e| format!("{} ({})", e.command.first().map_or("", String::as_str), target::install(&e.packages))),
    );
    tools.dedup();
    let limits: Vec<String> = target.emulator.iter().map(|e| format!("- {}: {}", e.name, e.limits)).collect();
    let unverified = target.unverified.as_deref().unwrap_or("cycles, caches and power.");
    let unverified = format!("{}.", unverified.trim_end_matches('.'));
    include_str!("files/README.md")
        .replace("{{MODEL}}", &prepared.plan.model)
        .replace("{{TARGET}}", &target.title)
        .replace("{{MEMORY}}", memory.trim_end())
        .replace("{{MEMORIES}}", memories.trim_end())
        .replace("{{EMULATORS}}", &names.join(", "))
        .replace("{{TOOLS}}", &tools.join(", "))
        .replace("{{LIMITS}}", &limits.join("\n"))
        .replace("{{UNVERIFIED}}", &unverified)
        .replace("{{ARENA}}", &group(prepared.plan.arena_bytes))
}

#[cfg(test)]
mod tests {
    use super::{lora_switch, parts::PARTS, switches};

    /// A source that is not listed would be missing in every exported folder; those of WebAssembly are written by its own export.
    #[test]
    fn every_source_is_written() {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/export/c/files");
        for folder in ["runtime", "ports", "ports/examples"] {
            for entry in std::fs::read_dir(here.join(folder)).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
                if entry.path().is_file() && !name.contains("wasm") {
                    assert_eq!(super::FILES.iter().filter(|(n, _)| *n == name).count(), 1, "{name}");
                }
            }
        }
    }

    /// A switch that the C side does not know would silently compile everything; one that nobody sets, too.
    #[test]
    fn the_switches_are_those_of_the_c_header() {
        let header = include_str!("files/runtime/bitnet_features.h");
        let mut theirs: Vec<&str> = header.lines().filter_map(|l| l.strip_prefix("#ifndef BITNET_")).collect();
        theirs = theirs.iter().filter_map(|l| l.split(' ').next()).filter(|n| *n != "FEATURES_H").collect();
        let text = switches(&Default::default()) + &super::tokenizer::switches(None) + &lora_switch(false);
        let mut ours: Vec<&str> =
            text.lines().filter_map(|l| l.strip_prefix("#define BITNET_")?.split(' ').next()).collect();
        assert_eq!(ours.len(), PARTS.len() + super::tokenizer::PARTS.len() + 2);
        theirs.sort_unstable();
        ours.sort_unstable();
        assert_eq!(theirs, ours);
    }
}
