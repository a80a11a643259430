//! A model with a tokenizer of each family: its exports carry the tokenizer, and `verify` compares text, ids, logits and text on them.

mod common;

use bitnet_convert::export::packed::{GOLDEN_TEXTS, MORE_TEXTS};
use bitnet_convert::progress::Silent;
use bitnet_convert::runtime::Artifact;
use bitnet_convert::tokenizer::DeviceTokenizer;
use bitnet_convert::verify::{self, Outcome, Report};
use common::checkpoint::{Bench, Checkpoint};
use common::device::have;
use common::{fixture, listing};
use std::path::Path;

/// A tokenizer of each kind of file and of each model.
const FAMILIES: [&str; 9] = [
    "bytes-gpt2",
    "bytes-gpt2-files",
    "bytes-qwen",
    "bytes-tiktoken",
    "json-llama2",
    "spm-bpe-bytes",
    "spm-unigram-nfkc",
    "json-unigram-lower",
    "wordpiece-uncased",
];

/// A small checkpoint with the files of a tokenizer.
fn checkpoint(family: &str) -> Bench {
    let from = fixture("tokenizers").join(family);
    let json = bitnet_convert::tokenizer::load::load(&from).expect("a tokenizer").json.expect("its text form");
    let blob = bitnet_convert::tokenizer::compile(&json).expect("the device form");
    let vocab = DeviceTokenizer::from_bytes(&blob).expect("its own blob").vocab_size() as usize;
    let bench = Bench::new(&Checkpoint::sized(1, 32, 48, vocab.next_multiple_of(4)));
    listing(&from).into_iter().filter(|n| n != "golden.json").fold(bench, |b, name| {
        let data = std::fs::read(from.join(&name)).expect("a file of the fixture");
        b.file(&name, data)
    })
}

fn ask(artifact: &Path, runners: &[&str]) -> Report {
    let names: Vec<String> = runners.iter().map(|r| r.to_string()).collect();
    let selection = verify::runners(&names, artifact).expect("runners");
    verify::verify(artifact, &selection, true, &Silent).expect("a report")
}

/// All rows are equal, and compared the texts that there are.
#[track_caller]
fn equal(family: &str, report: &Report) {
    let prompts = GOLDEN_TEXTS.len() + 1;
    for row in &report.rows {
        assert_eq!(row.outcome, Outcome::Equal, "{family} on {}: {:?}", row.runner, row.notes);
        let texts = if row.runner.starts_with("host-") && row.runner != "host-scalar" { 0 } else { row.texts };
        assert!(
            texts == 0 || texts == GOLDEN_TEXTS.len() + MORE_TEXTS.len() + prompts,
            "{family} on {}: {texts}",
            row.runner
        );
    }
    assert!(report.rows.iter().any(|r| r.texts > 0), "{family}: no texts were compared");
}

/// One C folder for a chip for each family: it runs there, in the emulator.
#[test]
fn each_family_on_a_chip() {
    if !have("programs for chips", &["make", "arm-none-eabi-gcc", "qemu-system-arm"]) {
        return;
    }
    for family in FAMILIES {
        let bench = checkpoint(family);
        bench.export(&["--target", "cortex-m7"]).ok();
        equal(family, &ask(&bench.output(), &["host-scalar", "cortex-m7"]));
    }
}

/// The same file as C on this machine with sanitizers, as a Rust crate and as a WebAssembly module: a family for each kind of model.
#[test]
fn each_model_in_every_language() {
    if !have("exports in all languages", &["make", "cc", "cargo"]) {
        return;
    }
    for family in ["bytes-tiktoken", "spm-bpe-bytes", "json-unigram-lower", "wordpiece-uncased"] {
        let bench = checkpoint(family);
        bench.export(&["--target", "cortex-m7", "--format", "packed"]).ok();
        let mut runners = vec!["host", "rust-host"];
        if have("WebAssembly", &["clang-19", "wasm-ld-19"]) {
            runners.push("wasm32-wasmi");
        }
        equal(family, &ask(&bench.output(), &runners));
    }
}

/// An export for a host keeps the tokenizer as the reference reads it, whatever files it came in.
#[test]
fn a_host_reads_each_family() {
    for family in FAMILIES {
        let bench = checkpoint(family);
        bench.export(&[]).ok();
        let artifact = Artifact::open(&bench.output()).expect("an artifact");
        let codec = bitnet_convert::tokenizer::TextCodec::of(&artifact.packed).expect("a tokenizer");
        let ids = codec.encode(GOLDEN_TEXTS[0]).expect("ids");
        let golden = &artifact.golden.prompts[0];
        assert_eq!(ids, golden.ids[..golden.prompt_len], "{family}");
        assert_eq!(artifact.golden.prompts.len(), GOLDEN_TEXTS.len() + 1, "{family}");
    }
}
