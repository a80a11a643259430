//! The C driver of the device tokenizer (tests/c/tokenizer_driver.c), built with the sanitizers, and what it is asked.

// Each test file compiles its own copy and uses a part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Where `bitnet_tokenizer.c` and its headers are.
const C_FOLDER: &str = "src/export/c/files/runtime";

pub const OK: u32 = 0;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every part of the device tokenizer: `bitnet_tok*.c`.
fn sources() -> Vec<PathBuf> {
    let folder = root().join(C_FOLDER);
    let entries = std::fs::read_dir(&folder).expect("the runtime is part of the repository");
    let part = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("bitnet_tok"));
    let mut found: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).filter(part).collect();
    found.retain(|p| p.extension().is_some_and(|e| e == "c"));
    found.sort();
    found
}

/// Builds the driver once, with the address and undefined-behaviour sanitizers.
pub fn driver() -> Option<&'static Path> {
    static DRIVER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = DRIVER.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tokenizer_driver");
        let run = Command::new("cc")
            .args(["-std=c99", "-O2", "-g", "-Wall", "-Wextra", "-Werror"])
            .args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"])
            .arg(format!("-I{}", root().join(C_FOLDER).display()))
            .args(sources())
            .arg(root().join("tests/c/tokenizer_driver.c"))
            .arg("-o")
            .arg(&out)
            .output();
        match run {
            Ok(run) if run.status.success() => Some(out),
            Ok(run) => panic!("cc: {}", String::from_utf8_lossy(&run.stderr)),
            Err(e) => {
                println!("not run: C device tokenizer, no C compiler ({e})");
                None
            }
        }
    });
    built.as_deref()
}

/// A script of requests for the driver.
#[derive(Default)]
pub struct Script(Vec<u8>);

impl Script {
    pub fn words(&mut self, command: u8, numbers: &[u32]) -> &mut Self {
        self.0.push(command);
        self.0.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
        self
    }
    pub fn open(&mut self, blob: &[u8]) -> &mut Self {
        self.words(b'B', &[blob.len() as u32]).0.extend_from_slice(blob);
        self
    }
    /// Numbers behind those of a command.
    pub fn numbers(&mut self, numbers: &[u32]) -> &mut Self {
        self.0.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
        self
    }
    /// A text, with the room that the blob promises.
    pub fn promised(&mut self, text: &[u8]) -> &mut Self {
        self.words(b'G', &[text.len() as u32]).0.extend_from_slice(text);
        self
    }
    pub fn text(&mut self, cap: usize, text: &[u8]) -> &mut Self {
        self.words(b'T', &[cap as u32, text.len() as u32]).0.extend_from_slice(text);
        self
    }
    pub fn run(&self, name: &str) -> Option<Answers> {
        let driver = driver()?;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Files instead of pipes: neither side can wait for the other.
        let (input, output) = (folder.join(format!("{name}.in")), folder.join(format!("{name}.out")));
        std::fs::write(&input, &self.0).expect("write the script");
        let run = Command::new(driver)
            .stdin(std::fs::File::open(&input).expect("open the script"))
            .stdout(std::fs::File::create(&output).expect("create the answers"))
            .stderr(Stdio::piped())
            .output()
            .expect("start the driver");
        assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
        let bytes = std::fs::read(&output).expect("read the answers");
        let _ = (std::fs::remove_file(input), std::fs::remove_file(output));
        Some(Answers { bytes, at: 0 })
    }
}

pub struct Answers {
    bytes: Vec<u8>,
    at: usize,
}

impl Answers {
    pub fn take(&mut self, n: usize) -> &[u8] {
        self.at += n;
        &self.bytes[self.at - n..self.at]
    }
    pub fn number(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
    }
    pub fn ids(&mut self) -> (u32, Vec<u32>) {
        let (status, count) = (self.number(), self.number());
        (status, (0..count).map(|_| self.number()).collect())
    }
    pub fn bytes(&mut self) -> (u32, Vec<u8>) {
        let (status, count) = (self.number(), self.number());
        (status, self.take(count as usize).to_vec())
    }
}
