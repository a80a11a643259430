//! Every tokenizer of fixtures/tokenizers, and of the folder in `BITNET_TOKENIZERS` (default: `shared/tokenizers` beside the repository, where that
//! is): the cases of its golden.json on the host, on the device in Rust, on the device in C under the sanitizers, and in Python.

mod common;
#[path = "tokenizer_support/driver.rs"]
mod driver;

use bitnet_convert::tokenizer::host::HostTokenizer;
use bitnet_convert::tokenizer::load::load;
use bitnet_convert::tokenizer::{compile, DeviceTokenizer};
use common::{finish_with_input, fixture, not_run};
use driver::{Script, OK};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Differences shown for each tokenizer.
const SHOWN: usize = 8;

struct Family {
    name: String,
    golden: PathBuf,
    blob: Vec<u8>,
    host: HostTokenizer,
    device: DeviceTokenizer,
    wrong: Vec<String>,
}

impl Family {
    fn load(folder: &Path) -> Family {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        // What SentencePiece wrote down is about its own file: a tokenizer.json beside it looks for special tokens in the text.
        let own = folder.join("tokenizer.model");
        let by_sentencepiece =
            std::fs::read_to_string(folder.join("golden.json")).unwrap().contains("\"notes\": \"sentencepiece");
        let source = if by_sentencepiece && own.is_file() { own } else { folder.to_path_buf() };
        let json = load(&source).unwrap_or_else(|e| panic!("{name}: {e}")).json;
        let json = json.unwrap_or_else(|| panic!("{name}: a source, no blob"));
        let blob = compile(&json).unwrap_or_else(|e| panic!("{name}: {e}"));
        let device = DeviceTokenizer::from_bytes(&blob).unwrap_or_else(|e| panic!("{name}: {e}"));
        let host = HostTokenizer::from_json(&json).unwrap_or_else(|e| panic!("{name}: {e}"));
        Family { name, golden: folder.join("golden.json"), blob, host, device, wrong: Vec::new() }
    }

    fn same<T: PartialEq + Debug>(&mut self, side: &str, text: impl Debug, got: &T, want: &T) {
        if got != want {
            self.wrong.push(format!("{}, {side}, {text:?}: {got:?}, not {want:?}", self.name));
        }
    }

    fn cases(&self) -> Vec<Case> {
        let file: Value = serde_json::from_slice(&std::fs::read(&self.golden).unwrap()).unwrap();
        let text = |c: &Value, key: &str| c[key].as_str().expect("a text").to_owned();
        let ids =
            |c: &Value| c["ids"].as_array().expect("a list").iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let list = file["cases"].as_array().expect("a list of cases");
        list.iter().map(|c| Case { text: text(c, "text"), ids: ids(c), decoded: text(c, "decoded") }).collect()
    }

    fn golden(&mut self) {
        let cases = self.cases();
        let mut script = Script::default();
        script.open(&self.blob);
        for c in &cases {
            let host = self.host.encode_more(&c.text).unwrap_or_else(|e| panic!("{}: {:?}: {e}", self.name, c.text));
            self.same("host", &c.text, &host, &c.ids);
            let ids = self.device.encode(c.text.as_bytes());
            self.same("Rust", &c.text, &ids, &c.ids);
            // The stored texts show special tokens, these two functions leave them out.
            if !c.ids.iter().any(|&id| self.device.is_special(id)) {
                let text = self.host.decode(&c.ids).unwrap();
                self.same("host, decoded", &c.text, &text, &c.decoded);
                let text = self.device.decode(&c.ids);
                self.same("Rust, decoded", &c.text, &text, &c.decoded);
            }
            script.promised(c.text.as_bytes());
            script.words(b'Y', &[c.ids.len() as u32]).numbers(&c.ids);
        }
        if let Some(mut answers) = script.run(&format!("golden-{}", self.name)) {
            assert_eq!(answers.number(), OK, "{}: the C code opens the blob", self.name);
            for c in &cases {
                self.same("C", &c.text, &answers.ids(), &(OK, c.ids.clone()));
                let (status, text) = answers.bytes();
                self.same(
                    "C, decoded",
                    &c.text,
                    &(status, String::from_utf8_lossy(&text).into_owned()),
                    &(OK, c.decoded.clone()),
                );
            }
        }
        if let Some(said) = self.python(&["golden", self.golden.to_str().unwrap()], "") {
            if said.trim() != format!("{0} of {0} equal", cases.len()) {
                self.wrong.extend(said.lines().map(|line| format!("{}, Python, {line}", self.name)));
            }
        }
    }

    /// Texts that the library takes, and bytes that it does not: whatever the host says, Rust, C and Python say.
    fn agree(&mut self, texts: &[Vec<u8>]) {
        let mut script = Script::default();
        script.open(&self.blob);
        let mut lines = String::new();
        let mut wants = Vec::new();
        for text in texts {
            let ids = self.device.encode(text);
            if let Ok(text) = std::str::from_utf8(text) {
                let host = self.host.encode_more(text).unwrap();
                self.same("Rust", start(text.as_bytes()), &start(&ids), &start(&host));
                self.same("Rust, all", start(text.as_bytes()), &(ids == host), &true);
            }
            script.promised(text);
            script.words(b'Y', &[ids.len() as u32]).numbers(&ids);
            lines.extend(text.iter().map(|b| format!("{b:02x}")).chain(["\n".to_owned()]));
            wants.push(ids);
        }
        if let Some(mut answers) = script.run(&format!("texts-{}", self.name)) {
            assert_eq!(answers.number(), OK);
            for (text, want) in texts.iter().zip(&wants) {
                let got = answers.ids();
                self.same("C", start(text), &(got.0, start(&got.1)), &(OK, start(want)));
                self.same("C, all", start(text), &(&got.1 == want), &true);
                let decoded = answers.bytes();
                if !want.iter().any(|&id| self.device.is_special(id)) {
                    let rust = self.device.decode(want).into_bytes();
                    self.same("C, decoded", start(text), &(decoded.0, decoded.1 == rust), &(OK, true));
                }
            }
        }
        if let Some(said) = self.python(&["texts"], &lines) {
            for ((text, want), line) in texts.iter().zip(&wants).zip(said.lines()) {
                let got: Vec<u32> = serde_json::from_str(line).unwrap();
                self.same("Python", start(text), &start(&got), &start(want));
                self.same("Python, all", start(text), &(&got == want), &true);
            }
            let (name, lines) = (self.name.clone(), said.lines().count());
            self.same("Python, lines", name, &lines, &texts.len());
        }
    }

    /// What fixtures/reader/tokenizer.py prints about the blob.
    fn python(&self, args: &[&str], input: &str) -> Option<String> {
        if !python_is_here() {
            return None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let blob = folder.join(format!("{}-{}.bin", args[0], self.name));
        std::fs::write(&blob, &self.blob).unwrap();
        let mut command = Command::new("python3");
        command.current_dir(fixture("reader")).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONIOENCODING", "utf-8");
        command.arg("tokenizer.py").arg(&blob).args(args);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(input.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let run = finish_with_input(command.stdin(Stdio::from(file)));
        std::fs::remove_file(blob).unwrap();
        assert!(run.code == Some(0) || run.code == Some(1) && run.stderr.is_empty(), "{}: {}", self.name, run.stderr);
        Some(run.stdout)
    }
}

struct Case {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

/// As much of a long list as a person reads.
fn start<T: Clone>(list: &[T]) -> Vec<T> {
    list[..list.len().min(48)].to_vec()
}

fn folders(under: &Path) -> BTreeMap<String, PathBuf> {
    let entries = std::fs::read_dir(under).unwrap_or_else(|e| panic!("{}: {e}", under.display()));
    let paths = entries.map(|e| e.unwrap().path()).filter(|p| p.join("golden.json").is_file());
    paths.map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), p)).collect()
}

fn report(families: Vec<Family>) {
    let mut wrong = Vec::new();
    for mut f in families {
        let count = f.wrong.len();
        println!("{}: {} bytes, {count} differences", f.name, f.blob.len());
        f.wrong.truncate(SHOWN);
        wrong.extend(f.wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn python_is_here() -> bool {
    let here = Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success());
    if !here {
        not_run("tokenizers in Python", "python3");
    }
    here
}

#[test]
fn every_family_of_the_fixtures() {
    let all = folders(&fixture("tokenizers"));
    assert!(all.len() >= 20, "{} families", all.len());
    report(
        all.values()
            .map(|folder| {
                let mut family = Family::load(folder);
                family.golden();
                family
            })
            .collect(),
    );
}

#[test]
fn real_tokenizers() {
    let beside = common::root().parent().map(|p| p.join("shared/tokenizers")).filter(|p| p.is_dir());
    let Some(folder) = std::env::var_os("BITNET_TOKENIZERS").map(PathBuf::from).or(beside) else {
        // Not in the repository: other people's files, and large.
        return println!("not run: real tokenizers: no folder in BITNET_TOKENIZERS");
    };
    report(
        folders(&folder)
            .values()
            .map(|folder| {
                let mut family = Family::load(folder);
                family.golden();
                family
            })
            .collect(),
    );
}

/// Texts that are longer than any window, and bytes that are not UTF-8.
#[test]
fn long_texts_and_broken_ones() {
    let corpus = std::fs::read_to_string(fixture("tokenizers/corpus.txt")).unwrap();
    let part: String = corpus.chars().rev().take(5000).collect::<Vec<_>>().into_iter().rev().collect();
    let letters: String = corpus.chars().filter(|c| c.is_alphabetic()).take(3000).collect();
    let mut texts: Vec<Vec<u8>> =
        [part, letters, "a".repeat(3000), " ".repeat(2000), "\u{2581}".repeat(700), "the pump".repeat(200)]
            .into_iter()
            .chain(
                [
                    "e\u{301}\u{323}",
                    "\u{1112}\u{1161}\u{11ab}",
                    "\u{ac00}\u{11a8}",
                    "#.",
                    "\u{4e16}",
                    "\u{fb03}\u{ff21}",
                    "<|im",
                    "\n ",
                ]
                .map(|s| s.repeat(400)),
            )
            .chain([format!("a{}b", "\u{301}\u{323}\u{327}\u{315}".repeat(300)), format!("{}x", "<s>".repeat(50))])
            .map(String::into_bytes)
            .collect();
    let broken: [&[u8]; 12] = [
        b"\xff",
        b"a\x80b",
        b"\xe2\x96",
        b"\xe2\x96\x81\xe2\x96a",
        b" \xc3 \xc3\xa9",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xc0\x80",
        b"e\xcc\x81\xcc",
        b"\xf0\x9f\x98\xf0\x9f\x98\x80",
        b"<s>\xfe<s>\xfe",
        b"the\xffpump\xfe 12\x803",
    ];
    texts.extend(broken.map(<[u8]>::to_vec));
    report(
        folders(&fixture("tokenizers"))
            .values()
            .map(|folder| {
                let mut family = Family::load(folder);
                family.agree(&texts);
                family
            })
            .collect(),
    );
}
