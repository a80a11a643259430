//! The Rust folder: a `no_std` crate without unsafe code and without dependencies, the model as a constant, and a firmware crate around it.
//!
//! As with the C folder the runtime is fixed text, everything about a model is in `model.bin`, a packed file, and one small file is generated.

mod sizes;

use super::c::put;
use super::packed::{Prepared, Written, GOLDEN_TEXTS, MORE_TEXTS};
use crate::error::Result;
use crate::fsio::AtomicDir;
use crate::program::{parts, Program};
use crate::progress::Progress;
use crate::target::Target;
use crate::tokenizer::device::{layout::Model as Kind, Layout};
use sizes::Sizes;
use std::fmt::Write;
use std::path::Path;

/// A folder that holds this file is an earlier export and may be replaced.
const MARKER: &str = "model.bin";

macro_rules! files {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("files/", $name)))),*] };
}

const FILES: &[(&str, &str)] = &files![
    "Makefile",
    "examples/host.rs",
    "firmware/Cargo.toml",
    "firmware/build.rs",
    "firmware/src/arm.rs",
    "firmware/src/main.rs",
    "firmware/src/riscv.rs",
    "firmware/src/semihosting.rs",
    "firmware/ld/microbit.ld",
    "firmware/ld/mps2.ld",
    "firmware/ld/mps2-an505.ld",
    "firmware/ld/sections.ld",
    "firmware/ld/virt.ld",
    "src/act.rs",
    "src/arena.rs",
    "src/attend.rs",
    "src/commands.rs",
    "src/ctx.rs",
    "src/follow.rs",
    "src/golden.rs",
    "src/lib.rs",
    "src/linear.rs",
    "src/math.rs",
    "src/model.rs",
    "src/norm.rs",
    "src/ops.rs",
    "src/planes.rs",
    "src/sample.rs",
    "src/status.rs",
    "src/sums.rs",
    "src/tables.rs",
    "src/tensor.rs",
    "src/tokenizer.rs",
    "tests/selftest.rs",
];

macro_rules! device {
    ($($name:literal),* $(,)?) => {
        [$((concat!("src/device/", $name), include_str!(concat!("../../tokenizer/device/", $name)))),*]
    };
}

/// The tokenizer: the very files that are the definition on the host, but for `parts.rs`, which is generated.
const DEVICE: &[(&str, &str)] = &device![
    "bits.rs",
    "bpe.rs",
    "chat.rs",
    "classes.rs",
    "decode.rs",
    "layout.rs",
    "merges.rs",
    "mod.rs",
    "normal.rs",
    "normal_map.rs",
    "pieces.rs",
    "text.rs",
    "unigram.rs",
    "wordpiece.rs",
    "words.rs",
];

/// The generated file, which only a folder of this kind has.
pub const GENERATED: &str = "src/generated.rs";

/// Writes the folder: it appears complete or not at all.
///
/// # Errors
/// What [`Prepared::write`] says, `Io` from the folder, `Usage` if the folder holds something that is no earlier export.
pub fn write(
    prepared: &mut Prepared,
    target: &Target,
    prompts: &[String],
    out: &Path,
    progress: &dyn Progress,
) -> Result<Written> {
    let dir = AtomicDir::create(out, MARKER)?;
    let written = prepared.write(&dir.path().join("model.bin"), progress)?;
    let heading = Heading { model: &prepared.plan.model, target: &target.title, prompts };
    write_sources(dir.path(), prepared.program(), prepared.tokenizer(), &heading)?;
    dir.commit()?;
    Ok(written)
}

/// The crate for a packed file that lies in `dir` as `model.bin` already, without prompts. `blob` is the device tokenizer in that file, if
/// there is one.
///
/// # Errors
/// `Io`
pub fn write_for(dir: &Path, program: &Program, blob: Option<&[u8]>) -> Result<()> {
    write_sources(dir, program, blob, &Heading { model: "a packed model", target: "any", prompts: &[] })
}

/// What the files say about the model besides its sizes.
struct Heading<'a> {
    model: &'a str,
    target: &'a str,
    prompts: &'a [String],
}

fn write_sources(dir: &Path, program: &Program, blob: Option<&[u8]>, heading: &Heading) -> Result<()> {
    for (name, text) in FILES.iter().chain(DEVICE) {
        put(dir, name, text)?;
    }
    // A blob that cannot be opened is refused by the crate with the same words; it needs no part then.
    let tokenizer = blob.and_then(|blob| Layout::open(blob).ok());
    put(dir, "src/device/parts.rs", &tokenizer_parts(tokenizer.as_ref()))?;
    let sizes = Sizes::of(program);
    put(dir, GENERATED, &generated(program, &sizes, tokenizer.as_ref(), heading.prompts))?;
    // The name stands in a string of the manifest.
    let name: String = heading.model.chars().filter(|c| !c.is_control() && !"\"\\".contains(*c)).collect();
    put(dir, "Cargo.toml", &include_str!("files/Cargo.toml").replace("{{MODEL}}", &name))?;
    let readme = include_str!("files/README.md")
        .replace("{{MODEL}}", heading.model)
        .replace("{{TARGET}}", heading.target)
        .replace("{{ARENA}}", &crate::plan::group(sizes.bytes()));
    put(dir, "README.md", &readme)
}

/// `src/generated.rs`: sizes, prompts, and what of the runtime the program needs.
fn generated(program: &Program, sizes: &Sizes, tokenizer: Option<&Layout>, prompts: &[String]) -> String {
    let mut s = include_str!("files/generated.rs")
        .replace("{{VOCAB}}", &program.vocab.to_string())
        .replace("{{RESULTS}}", &program.result_len().to_string())
        .replace("{{WORDS}}", &sizes.words.to_string())
        .replace("{{HALVES}}", &sizes.halves.to_string())
        .replace("{{BYTES}}", &sizes.bytes.to_string())
        .replace("{{WORK}}", &tokenizer.map_or(0, |t| t.work).to_string())
        .replace("{{TOKEN}}", &tokenizer.map_or(0, |t| t.longest).to_string());
    let list: Vec<String> = prompts.iter().map(|p| format!("{p:?}")).collect();
    s = s.replace("{{PROMPTS}}", &list.join(", "));
    let texts: Vec<String> = GOLDEN_TEXTS.iter().chain(&MORE_TEXTS).map(|t| format!("{t:?}")).collect();
    s = s.replace("{{TEXTS}}", &texts.join(", "));
    let needs = parts::needs(program);
    let mut all = String::new();
    for p in parts::PARTS {
        // Writing to a String cannot fail.
        let _ = writeln!(all, "    pub const {p}: bool = ALL || {};", needs.has(p));
    }
    let _ = writeln!(all, "    pub const KINDS: u32 = if ALL {{ u32::MAX }} else {{ {:#x} }};", needs.kinds);
    s.replace("    // {{PARTS}}\n", &all)
}

/// `src/device/parts.rs`: what of the tokenizer the model needs.
fn tokenizer_parts(tokenizer: Option<&Layout>) -> String {
    let is = |models: &[Kind]| tokenizer.is_some_and(|t| models.contains(&t.model));
    let parts = [
        ("BPE", "Merges: models 0 and 1.", is(&[Kind::Bytes, Kind::Characters])),
        ("UNIGRAM", "Model 2.", is(&[Kind::Unigram])),
        ("WORDPIECE", "Model 3.", is(&[Kind::WordPiece])),
        ("NORMAL", "Section 7.", tokenizer.is_some_and(|t| t.normal.present)),
    ];
    let mut s = String::from(
        "//! Parts of the tokenizer that this model needs (generated); with the feature `every-part` all of them.\n\n",
    );
    s += "const ALL: bool = cfg!(feature = \"every-part\");\n";
    for (name, what, needed) in parts {
        // Writing to a String cannot fail.
        let _ = writeln!(s, "/// {what}\npub const {name}: bool = ALL || {needed};");
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same for the tokenizer: a file that is not listed would be missing, and `parts.rs` has what is generated.
    #[test]
    fn every_file_of_the_tokenizer_is_listed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tokenizer/device");
        let names = std::fs::read_dir(&folder).expect("the folder").flatten().map(|e| e.file_name());
        let mut found: Vec<String> = names.map(|n| format!("src/device/{}", n.to_string_lossy())).collect();
        let mut listed: Vec<&str> = DEVICE.iter().map(|(name, _)| *name).chain(["src/device/parts.rs"]).collect();
        found.sort_unstable();
        listed.sort_unstable();
        assert_eq!(found, listed);
        let names = |text: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|l| l.strip_prefix("pub const ")?.split_once(':'));
            lines.map(|(name, _)| name.to_string()).collect()
        };
        let fixed = std::fs::read_to_string(folder.join("parts.rs")).expect("the file");
        assert_eq!(names(&fixed), names(&tokenizer_parts(None)));
    }

    /// A file that is there but not listed would be missing from every export.
    #[test]
    fn every_source_is_listed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/export/rust/files");
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("the folder").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&root).expect("inside").to_string_lossy().replace('\\', "/");
                    found.push(name);
                }
            }
        }
        let templates = ["Cargo.toml", "README.md", "generated.rs"];
        let mut listed: Vec<&str> = FILES.iter().map(|(n, _)| *n).chain(templates).collect();
        found.sort_unstable();
        listed.sort_unstable();
        assert_eq!(found, listed);
    }

    /// A part that the sources do not know would be a switch without effect, or with one nobody meant.
    #[test]
    fn every_part_of_the_sources_is_generated() {
        for (name, text) in FILES.iter().filter(|(n, _)| n.starts_with("src/")) {
            for used in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                if used.starts_with("OP_") || used.starts_with("WITH_") {
                    let known = parts::PARTS.contains(&used) || ["OP_WORDS"].contains(&used);
                    assert!(known, "{used} in {name}");
                }
            }
        }
    }
}
