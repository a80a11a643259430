//! `tokenizer check`, `encode`, `decode`, `pack` and `trim`, on the small tokenizers of every family in fixtures/tokenizers.

mod common;

use common::checkpoint::{assert_failure, Bench};
use common::{command, finish, fixture, not_run, root, tool, Run};
use serde_json::{json, Value};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

fn intent() -> PathBuf {
    fixture("models/intent-w1a2")
}

/// Folders with golden cases: those of the repository and those of `BITNET_TOKENIZERS`.
fn folders() -> Vec<PathBuf> {
    let beside = root().parent().map(|p| p.join("shared/tokenizers")).filter(|p| p.is_dir());
    let more = std::env::var_os("BITNET_TOKENIZERS").map(PathBuf::from).or(beside);
    let mut found = Vec::new();
    for folder in [Some(fixture("tokenizers")), more].into_iter().flatten() {
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        found.extend(entries.map(|e| e.unwrap().path()).filter(|p| p.join("golden.json").is_file()));
    }
    found.sort();
    found
}

// ---- check ----

#[test]
fn every_family_equals_the_reference() {
    let mut wrong = Vec::new();
    for folder in folders() {
        let golden = folder.join("golden.json");
        // What SentencePiece wrote down is about its own file: a tokenizer.json beside it looks for special tokens in the text.
        let own = folder.join("tokenizer.model");
        let by_sentencepiece = std::fs::read_to_string(&golden).unwrap().contains("\"notes\": \"sentencepiece");
        let model = if by_sentencepiece && own.is_file() { own } else { folder.clone() };
        let run = tool(
            "tokenizer check --model {} --cases {} --target rust --quick --count 2000 --seed 5",
            &[&model, &golden],
        );
        if run.code != Some(0) {
            wrong.push(format!("{}:\n{}{}", folder.display(), run.stdout, run.stderr));
        }
        run.never_panicked();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_report_is_the_same_on_any_number_of_threads() {
    let run = |n: &str| {
        tool(
            &format!("tokenizer check --model {{}} --target rust --quick --count 3000 --threads {n} --json"),
            &[&intent()],
        )
        .ok()
    };
    let (one, three) = (run("1"), run("3"));
    assert_eq!(one.stdout, three.stdout);
    let v = one.json();
    for k in "reference devices rows cases_contradicted differing differences not_run".split(' ') {
        assert!(v.get(k).is_some(), "no `{k}` in {v}");
    }
    assert_eq!((&v["differing"], &v["devices"]), (&json!(0), &json!(["rust"])));
    let groups: Vec<&str> = v["rows"].as_array().unwrap().iter().filter_map(|r| r["group"].as_str()).collect();
    assert_eq!(groups, ["nasty", "unicode-blocks", "random", "not-utf8"]);
}

/// The reference of another model: everything differs, and the report says where.
#[test]
fn another_reference_is_a_no() {
    let b = Bench::empty();
    let text = b.out().join("corpus.txt");
    std::fs::write(&text, "turn on the temperature sensor\n").unwrap();
    let mut other: Value = serde_json::from_slice(&std::fs::read(intent().join("tokenizer.json")).unwrap()).unwrap();
    other["model"]["merges"].as_array_mut().unwrap().truncate(100);
    let path = b.out().join("tokenizer.json");
    std::fs::write(&path, other.to_string()).unwrap();
    let check = |more: &str| {
        let words =
            format!("tokenizer check --model {{}} --reference {{}} --corpus {{}} --only-given --target rust {more}");
        let run = tool(&words, &[&intent(), &path, &text]).never_panicked();
        assert_eq!(run.code, Some(1), "{run:?}");
        run
    };
    let run = check("");
    assert!(run.stdout.contains("1 of 1 texts differ") && run.stdout.contains("shortest   `"), "{}", run.stdout);
    let run = check("--json");
    let d = &run.json()["differences"][0];
    assert_eq!((&d["device"], &d["group"], &d["what"]), (&json!("rust"), &json!("corpus"), &json!("ids")));
    let run = check("--format junit");
    assert!(
        run.stdout.starts_with("<?xml version=\"1.0\"")
            && run.stdout.contains("<failure message=\"1 of 1 texts differ\"")
    );
    well_formed(&run.stdout);
}

/// Every tag that is opened is closed, and nothing stands in the text that XML does not allow.
fn well_formed(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    let body = xml.split_once("?>").expect("a declaration").1;
    assert!(body.chars().all(|c| c == '\n' || c >= ' '), "a control character in {xml}");
    for part in body.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("an open tag in {xml}"));
        assert!(!text.contains('>'), "{text}");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{xml}");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} are not closed");
}

#[test]
fn a_wrong_case_is_a_no_and_a_file_of_none_an_error() {
    let b = Bench::empty();
    let cases = b.out().join("cases.json");
    std::fs::write(&cases, r#"{"cases": [{"text": "a<b>\u0001", "ids": [1, 2, 3], "decoded": "x"}]}"#).unwrap();
    let run =
        tool("tokenizer check --model {} --cases {} --only-given --target rust --format junit", &[&intent(), &cases]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stdout.contains("testsuite name=\"reference\""), "{}", run.stdout);
    well_formed(&run.stdout);
    std::fs::write(&cases, "{}").unwrap();
    assert_failure(
        &tool("tokenizer check --model {} --cases {}", &[&intent(), &cases]),
        &["these are no cases", "cases.json", "hint: "],
    );
    let nothing = tool("tokenizer check --model {} --only-given --target rust", &[&intent()]);
    assert_failure(&nothing, &["there is nothing to check", "--corpus"]);
}

#[test]
fn devices_have_names() {
    assert_failure(
        &tool("tokenizer check --model {} --target cortex-m8", &[&intent()]),
        &["there is no device `cortex-m8`", "did you mean `cortex-m0`?"],
    );
    assert_failure(&tool("tokenizer check --model {} --target x86-46", &[&intent()]), &["did you mean `x86-64`?"]);
}

/// The C runtime on this machine and in the emulator of a Cortex-M7.
#[test]
fn c_equals_the_reference() {
    let folder = fixture("tokenizers/bytes-llama3");
    let golden = folder.join("golden.json");
    let words = "tokenizer check --model {} --cases {} --target c-host,cortex-m7 --quick --count 1000 --json";
    let run = tool(words, &[&folder, &golden]).ok();
    let v = run.json();
    for n in v["not_run"].as_array().unwrap() {
        not_run(&format!("tokenizer check on {}", n["device"]), n["why"].as_str().unwrap());
    }
    let rows = v["rows"].as_array().unwrap();
    assert!(rows.len() >= 5 && rows.iter().all(|r| r["differing"] == 0), "{v}");
}

// ---- encode, decode ----

fn encode(words: &str, source: &Path) -> Run {
    tool(&format!("tokenizer encode {{}} {words}"), &[source])
}

#[test]
fn both_engines_encode_alike_and_decode_gives_the_text_back() {
    let host = encode("--text temperature --json", &intent()).ok().json();
    let device = encode("--text temperature --json --engine device", &intent()).ok().json();
    assert_eq!((&host["engine"], &device["engine"]), (&json!("host"), &json!("device")));
    assert_eq!(host["ids"], device["ids"]);
    let spelled: String = host["tokens"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(spelled, "temperature");
    let line = encode("--text temperature", &intent()).ok().stdout;
    for engine in ["host", "device"] {
        let text = tool(&format!("tokenizer decode {{}} {} --engine {engine}", line.trim()), &[&intent()]).ok();
        assert_eq!(text.stdout, "temperature\n");
    }
    assert_failure(&tool("tokenizer decode {} 1,x", &[&intent()]), &["`x` in the list of ids is no token id"]);
}

#[test]
fn a_text_comes_from_a_file_or_stdin() {
    let b = Bench::empty();
    let file = b.out().join("text");
    std::fs::write(&file, "don't").unwrap();
    let want = encode("--text don't", &intent()).ok().stdout;
    assert_eq!(tool("tokenizer encode {} --file {}", &[&intent(), &file]).ok().stdout, want);
    let mut c = command();
    c.args(["tokenizer", "encode"]).arg(intent()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = c.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"don't").unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), String::from_utf8(out.stdout).unwrap()), (Some(0), want));
    std::fs::write(&file, b"a\xffb").unwrap();
    assert_failure(&tool("tokenizer encode {} --file {}", &[&intent(), &file]), &["not UTF-8", "--engine device"]);
    tool("tokenizer encode {} --file {} --engine device", &[&intent(), &file]).ok();
}

#[test]
fn a_source_that_is_none() {
    for words in ["encode {} --text x", "decode {} 1", "pack --model {}", "check --model {}"] {
        let run = tool(&format!("tokenizer {words}"), &[Path::new("/no/such/place")]);
        assert_failure(&run, &["/no/such/place", "hint: "]);
        let b = Bench::empty();
        let junk = b.out().join("tok.bin");
        std::fs::write(&junk, b"BNTK and nothing more").unwrap();
        assert_failure(&tool(&format!("tokenizer {words}"), &[&junk]), &["tok.bin"]);
    }
}

// ---- pack, trim ----

#[test]
fn a_packed_tokenizer_is_a_source() {
    let b = Bench::empty();
    let bin = b.out().join("tok.bin");
    let run = tool("tokenizer pack --model {} -o {} --json", &[&intent(), &bin]).ok();
    let v = run.json();
    let bytes = std::fs::metadata(&bin).unwrap().len();
    assert_eq!((&v["bytes"], &v["vocabulary"]), (&json!(bytes), &json!(1024)));
    assert!(bytes <= 8 << 10, "{bytes} bytes");
    let parts: u64 = v["sections"].as_array().unwrap().iter().map(|s| s["bytes"].as_u64().unwrap()).sum();
    assert_eq!(parts, bytes, "the sections add up");
    let text = tool("tokenizer pack --model {}", &[&intent()]).ok().stdout;
    assert!(text.contains("bytes an entry") && text.contains("RAM") && text.contains("times as many"), "{text}");
    let from_bin = encode("--text temperature", &bin).ok().stdout;
    assert_eq!(from_bin, encode("--text temperature", &intent()).ok().stdout);
    assert_failure(&encode("--text x --engine host", &bin), &["only the compiled tokenizer", "--engine device"]);
    assert_failure(&tool("tokenizer check --model {}", &[&bin]), &["nothing to compare it with", "--reference"]);
    tool("tokenizer check --model {} --reference {} --target rust --quick --count 500", &[&bin, &intent()]).ok();
}

#[test]
fn a_trimmed_tokenizer_fits_and_encodes_everything() {
    let b = Bench::empty();
    let corpus = b.out().join("corpus.txt");
    std::fs::write(&corpus, "Is the soil dry? Turn the pump on.\n".repeat(20)).unwrap();
    let (before, out) = (intent(), b.out().join("smaller"));
    let run = tool("tokenizer trim --model {} --corpus {} --max-rom 3K -o {} --json", &[&before, &corpus, &out]).ok();
    let v = run.json();
    assert!(v["bytes"][1].as_u64().unwrap() <= 3072, "{v}");
    assert!(v["entries"][1].as_u64() < v["entries"][0].as_u64());
    assert!(v["tokens_per_byte"][1].as_f64() >= v["tokens_per_byte"][0].as_f64());
    tool("tokenizer check --model {} --target rust --quick --count 2000", &[&out]).ok();
    let text = "日本語 \u{1F642} anything";
    let ids = finish(command().args(["tokenizer", "encode", "--text", text]).arg(&out)).ok().stdout;
    let back = tool(&format!("tokenizer decode {{}} {}", ids.trim()), &[&out]).ok().stdout;
    assert_eq!(back, format!("{text}\n"));
    let kept: Vec<u32> = serde_json::from_slice(&std::fs::read(out.join("kept_ids.json")).unwrap()).unwrap();
    assert_eq!(v["entries"][1], kept.len());
    let small = tool("tokenizer trim --model {} --corpus {} --max-rom 100 --dry-run", &[&before, &corpus]);
    assert_eq!(small.code, Some(1), "{small:?}");
    assert!(small.stderr.contains("100 bytes are too few") && small.stderr.contains("--max-rom"), "{}", small.stderr);
    let bad = tool("tokenizer trim --model {} --corpus {} --max-rom 2X --dry-run", &[&before, &corpus]);
    assert_failure(&bad, &["`2X` is no number of bytes"]);
}

// ---- what docs/ci shows ----

/// The commands in the files of docs/ci are commands of this program.
#[test]
fn the_examples_for_ci_are_commands() {
    let mut found = 0;
    for entry in std::fs::read_dir(root().join("docs/ci")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap().replace("\\\n", " ");
        for (_, line) in text.lines().filter_map(|l| l.split_once("bitnet-convert tokenizer ")) {
            let line = line.split(['>', '|', '&']).next().unwrap();
            let words = ["bitnet-convert", "tokenizer"].into_iter().chain(line.split_whitespace());
            if let Err(e) = bitnet_convert::cli::command().try_get_matches_from(words) {
                panic!("{}: {line}: {e}", path.display());
            }
            found += 1;
        }
    }
    assert!(found >= 3, "only {found} commands in docs/ci");
}
