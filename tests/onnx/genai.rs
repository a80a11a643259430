//! `--genai`: folders that onnxruntime-genai loads and generates from, and what is refused before anything is written.

use crate::common::{fixture, listing, Run};
use crate::python::{python, words};
use crate::support::{export, name, packed, place, run};
use bitnet_convert::format::packed::Kind;
use bitnet_convert::kernels::dot::DotKernel;
use bitnet_convert::runtime::Artifact;
use bitnet_convert::tokenizer::host::HostTokenizer;
use serde_json::{json, Value};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const FILES: [&str; 8] = [
    "config.json",
    "genai_config.json",
    "generation_config.json",
    "model.onnx",
    "model.onnx_data",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Tokens that are generated after each text.
const NEW: usize = 12;

/// A best token that leads by less of the range of the logits may be another one in the program.
const NEAR: f64 = 0.02;

/// A tokenizer on bytes of as many tokens as the golden llama has: 3 special ones, the letters of ASCII and pairs of them. All have a text,
/// because such a model says anything.
fn tokenizer() -> Value {
    let special = ["<pad>", "<s>", "</s>"];
    let letters = ('!'..='~').chain(['Ġ']).map(String::from);
    let pairs = || ('a'..='z').flat_map(|a| "aeiouĠstn".chars().map(move |b| (a, b))).take(222);
    let all = special.map(String::from).into_iter().chain(letters).chain(pairs().map(|(a, b)| format!("{a}{b}")));
    let vocab: serde_json::Map<String, Value> = all.enumerate().map(|(id, text)| (text, json!(id))).collect();
    assert_eq!(vocab.len(), 320);
    let added = |(id, content): (usize, &str)| {
        let plain = json!({ "single_word": false, "lstrip": false, "rstrip": false, "normalized": false });
        let mut token = json!({ "id": id, "content": content, "special": true });
        token.as_object_mut().unwrap().extend(plain.as_object().unwrap().clone());
        token
    };
    let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let merges: Vec<Value> = pairs().map(|(a, b)| json!([a.to_string(), b.to_string()])).collect();
    json!({
        "version": "1.0",
        "added_tokens": special.into_iter().enumerate().map(added).collect::<Vec<_>>(),
        "pre_tokenizer": level,
        "decoder": level,
        "model": { "type": "BPE", "vocab": vocab, "merges": merges },
    })
}

/// The golden llama with a tokenizer, and with a change in it.
fn llama(name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    speaking("llama", name, change)
}

/// A golden checkpoint of 320 tokens with a tokenizer.
fn speaking(golden: &str, name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let folder = place().join(name);
    fs::create_dir_all(&folder).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(fixture("golden").join(golden).join(file), folder.join(file)).unwrap();
    }
    let mut t = tokenizer();
    change(&mut t);
    fs::write(folder.join("tokenizer.json"), t.to_string()).unwrap();
    folder
}

const LOW_BITS: &str = "--quantize-weight 1.58 --quantize-activation 8";

fn json_of(folder: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()
}

/// A folder with the packed file that it was made from, and two texts for it.
type Made = (PathBuf, PathBuf, [&'static str; 2]);

/// A llama-shaped model, two of bitnet, and one whose heads do not share its width; in the profile std, then in ort, made once.
fn folders() -> &'static [Made] {
    static MADE: OnceLock<Vec<Made>> = OnceLock::new();
    MADE.get_or_init(made)
}

fn made() -> Vec<Made> {
    let small = |checkpoint: PathBuf| {
        let packed = checkpoint.with_extension("bitnet");
        let words = ["export", "-q", "--model", checkpoint.to_str().unwrap(), "-o", packed.to_str().unwrap()];
        run(words.into_iter().chain(LOW_BITS.split(' '))).ok();
        packed
    };
    let list = [
        (small(llama("llama-with-tokenizer", |_| {})), ["Then the other", "it's 7"]),
        (
            packed(&fixture("models/intent-b158")),
            [
                "<|bos|><|system|>You are a sensor assistant.<|user|>What's the temp?<|assistant|>",
                "<|bos|><|system|>You are a sensor assistant.<|user|>Please run a calibration now<|assistant|>",
            ],
        ),
        (packed(&fixture("models/stories-b158")), ["Once upon a time there was a", "The dog "]),
        (small(speaking("qwen3", "qwen3-with-tokenizer", |_| {})), ["Then the other", "A cat"]),
    ];
    let made = |(packed, texts): (PathBuf, _), profile: &str| {
        let folder = place().join(format!("genai-{profile}-{}", name(&packed)));
        export(&packed, &folder, &format!("--genai --profile {profile}")).ok();
        assert_eq!(listing(&folder), FILES);
        (folder, packed, texts)
    };
    let std = list.clone().map(|m| made(m, "std"));
    std.into_iter().chain(list.map(|m| made(m, "ort"))).collect()
}

/// The best tokens that the program has after `ids`, up to one that ends.
fn greedy(artifact: &Artifact, ids: &[u32]) -> Vec<u32> {
    let mut session = artifact.session(DotKernel::best());
    let mut logits = session.run(ids).unwrap();
    let mut new = Vec::new();
    while let Some(row) = logits.filter(|_| new.len() < NEW) {
        let best = row.iter().max().unwrap();
        let id = row.iter().position(|v| v == best).unwrap() as u32;
        if artifact.program.eos.contains(&id) {
            break;
        }
        new.push(id);
        logits = session.run(&[id]).unwrap();
    }
    new
}

#[test]
fn genai_generates_what_the_graph_and_the_program_do() {
    let list = folders();
    let file = place().join("genai.json");
    let job = |(folder, _, texts): &Made| json!({ "folder": folder, "texts": texts, "new": NEW });
    fs::write(&file, json!(list.iter().map(job).collect::<Vec<_>>()).to_string()).unwrap();
    let Some(seen) = python("new", "onnxruntime_genai", &words(&["genai", file.to_str().unwrap()])) else { return };
    let rows = seen.ok().json();
    assert_eq!(rows.as_array().unwrap().len(), list.len());
    let ids_of = |v: &Value| -> Vec<u32> { v.as_array().unwrap().iter().map(|i| i.as_u64().unwrap() as u32).collect() };
    let (mut compared, mut all) = (0, 0);
    for (row, (_, packed, texts)) in rows.as_array().unwrap().iter().zip(list) {
        println!("{row}");
        let artifact = Artifact::open(packed).unwrap();
        let ours = HostTokenizer::from_json(artifact.packed.section(Kind::TokenizerJson).unwrap()).unwrap();
        for (i, (prompt, text)) in row["prompts"].as_array().unwrap().iter().zip(texts).enumerate() {
            let (ids, new) = (ids_of(&prompt["ids"]), ids_of(&prompt["new"]));
            assert_eq!(ids, ours.encode_more(text).unwrap(), "{text}");
            assert_eq!(new, ids_of(&prompt["plain"]), "{text}: genai and ONNX Runtime");
            assert_eq!(prompt["text"].as_str().unwrap(), ours.decode(&new).unwrap(), "{text}");
            // The shorter of two texts is filled up, which its tokens must not see.
            let batch = ids_of(&row["batch"][i]);
            assert!(
                batch.starts_with(&new) && batch[new.len()..].iter().all(|id| [0, 2].contains(id)),
                "{batch:?} {new:?}"
            );
            let program = greedy(&artifact, &ids);
            let lead = |k: usize| prompt["leads"][k].as_f64().unwrap();
            all += program.len();
            match (0..program.len().max(new.len())).find(|k| program.get(*k) != new.get(*k)) {
                None => compared += program.len(),
                Some(k) if lead(k) < NEAR => compared += k,
                Some(k) => panic!("{text}: token {k} leads by {} and is another: {program:?} {new:?}", lead(k)),
            }
        }
    }
    println!("{compared} of {all} tokens of the program are those of the graphs before a near tie");
    assert!(compared * 2 > all, "{compared} of {all} tokens compared");
}

#[test]
fn the_files_say_what_the_model_is() {
    let (folder, ..) = &folders()[1];
    let genai = json_of(folder, "genai_config.json");
    let m = &genai["model"];
    assert_eq!(m["type"], "decoder");
    assert_eq!((&m["bos_token_id"], &m["eos_token_id"], &m["pad_token_id"]), (&json!(1), &json!(2), &json!(0)));
    assert_eq!((&m["context_length"], &m["vocab_size"]), (&json!(128), &json!(1024)));
    let d = &m["decoder"];
    assert_eq!(d["filename"], "model.onnx");
    let shape = ["num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_size", "hidden_size"];
    assert_eq!(shape.map(|k| d[k].as_u64().unwrap()), [4, 4, 2, 32, 128]);
    let search = json!({ "do_sample": false, "max_length": 128, "past_present_share_buffer": false, "temperature": 1.0, "top_k": 1, "top_p": 1.0 });
    assert_eq!(genai["search"], search);
    let config = json_of(folder, "config.json");
    assert_eq!((&config["model_type"], &config["num_key_value_heads"]), (&json!("llama"), &json!(2)));
    let words = json_of(folder, "tokenizer_config.json");
    assert_eq!(
        (&words["bos_token"], &words["eos_token"], &words["pad_token"]),
        (&json!("<|bos|>"), &json!("<|end|>"), &json!("<|pad|>"))
    );
    let template = fs::read_to_string(fixture("models/intent-b158/chat_template.jinja")).unwrap();
    assert_eq!(words["chat_template"], template);
    let source = fs::read(fixture("models/intent-b158/tokenizer.json")).unwrap();
    assert_eq!(fs::read(folder.join("tokenizer.json")).unwrap(), source);
}

#[test]
fn a_checkpoint_gives_the_same_files_over_an_earlier_export() {
    let (folder, packed, _) = &folders()[0];
    let again = place().join("genai-again");
    export(packed, &again, "--genai").ok();
    fs::write(again.join("notes.txt"), "mine").unwrap();
    fs::write(again.join("config.json"), "{}").unwrap();
    export(&place().join("llama-with-tokenizer"), &again, &format!("--genai {LOW_BITS}")).ok();
    for name in FILES {
        assert_eq!(fs::read(folder.join(name)).unwrap(), fs::read(again.join(name)).unwrap(), "{name}");
    }
    assert_eq!(fs::read(again.join("notes.txt")).unwrap(), b"mine");
}

#[test]
fn heads_that_do_not_share_the_width_have_a_type_that_says_so() {
    let (folder, ..) = &folders()[3];
    let config = json_of(folder, "config.json");
    assert_eq!((&config["model_type"], &config["architectures"]), (&json!("gemma"), &json!(["GemmaForCausalLM"])));
    let shape = ["num_attention_heads", "num_key_value_heads", "head_dim", "hidden_size"];
    assert_eq!(shape.map(|k| config[k].as_u64().unwrap()), [4, 2, 16, 48]);
}

#[test]
fn a_model_that_samples_says_how() {
    let (folder, ..) = &folders()[2];
    let search = &json_of(folder, "genai_config.json")["search"];
    assert_eq!(
        (&search["do_sample"], &search["temperature"], &search["top_k"]),
        (&json!(true), &json!(0.8), &json!(40))
    );
    let generation = json_of(folder, "generation_config.json");
    assert_eq!((&generation["do_sample"], &generation["eos_token_id"]), (&json!(true), &json!(2)));
}

#[test]
fn what_generates_nothing_or_has_no_words_is_refused() {
    let bits = "--quantize-weight 16 --quantize-activation 16";
    for (model, options, said, hint) in [
        ("golden/llama", LOW_BITS, "needs the tokenizer", "leave `--genai` out"),
        ("golden/bert_mlm", bits, "vectors for texts", "leave `--genai` out"),
        ("golden/bitnet_embedding_qwen3", "", "vectors for texts", "leave `--genai` out"),
        ("models/intent-b158", "--profile int", "caches of integers", "leave `--profile int` out"),
        ("models/intent-b158", "--profile int --logits float", "caches of integers", "leave `--profile int` out"),
    ] {
        let out = place().join("refused-folder");
        let r = export(&fixture(model), &out, &format!("--genai {options}"));
        assert_eq!(r.code, Some(2), "{model}: {r:?}");
        assert!(r.stderr.contains(said) && r.stderr.contains(hint), "{model}: {}", r.stderr);
        assert!(!out.exists(), "{model}");
    }
}

#[test]
fn a_device_folder_has_no_words_for_other_runtimes() {
    let (model, device, out) =
        (llama("llama-device", |_| {}), place().join("genai-device"), place().join("from-device"));
    let words =
        ["export", "-q", "--target", "cortex-m7", "--model", model.to_str().unwrap(), "-o", device.to_str().unwrap()];
    run(words.into_iter().chain(LOW_BITS.split(' '))).ok();
    let r = export(&device, &out, "--genai");
    assert_eq!(r.code, Some(2), "{r:?}");
    assert!(r.stderr.contains("needs the tokenizer") && r.stderr.contains("give the checkpoint"), "{}", r.stderr);
}

/// An export that says what there is to say.
fn loud(model: &Path, out: &Path, options: &str) -> Run {
    let words = ["export", "--format", "onnx", "--model", model.to_str().unwrap(), "-o", out.to_str().unwrap()];
    run(words.into_iter().chain(options.split_whitespace())).ok()
}

#[test]
fn tokenizers_that_are_cut_otherwise_there_are_refused_or_said() {
    let out = place().join("other-words");
    let space = llama("llama-space", |t| t["pre_tokenizer"]["add_prefix_space"] = json!(true));
    let r = export(&space, &out, &format!("--genai {LOW_BITS}"));
    assert_eq!(r.code, Some(2), "{r:?}");
    assert!(r.stderr.contains("onnxruntime-genai does not know the space before every text"), "{}", r.stderr);
    assert!(!out.exists());
    let composed = llama("llama-composed", |t| t["normalizer"] = json!({ "type": "NFC" }));
    let r = loud(&composed, &out, &format!("--genai {LOW_BITS}"));
    assert!(r.stderr.contains("does not bring texts to Unicode form C"), "{}", r.stderr);
}

#[test]
fn a_tokenizer_of_a_larger_model_is_refused() {
    let out = place().join("larger");
    let larger = llama("llama-larger", |t| {
        let special = json!({ "id": 320, "content": "<more>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false });
        t["added_tokens"].as_array_mut().unwrap().push(special);
    });
    let r = export(&larger, &out, &format!("--genai {LOW_BITS}"));
    assert!(r.code == Some(2) && r.stderr.contains("has a token 320, the model 320 of them"), "{r:?}");
    assert!(r.stderr.contains("belongs to another model") && !out.exists(), "{}", r.stderr);
}

#[test]
fn ids_without_a_text_are_left_out_of_the_names() {
    let nameless = llama("llama-nameless", |t| {
        let vocab = t["model"]["vocab"].as_object_mut().unwrap();
        let text = vocab.iter().find(|(_, id)| **id == 300).unwrap().0.clone();
        vocab.remove(&text);
        let merges = t["model"]["merges"].as_array_mut().unwrap();
        merges.retain(|m| format!("{}{}", m[0].as_str().unwrap(), m[1].as_str().unwrap()) != text);
    });
    let mut config = json_of(&nameless, "config.json");
    config["bos_token_id"] = json!(300);
    config["eos_token_id"] = Value::Null;
    fs::write(nameless.join("config.json"), config.to_string()).unwrap();
    let out = place().join("nameless");
    let r = loud(&nameless, &out, &format!("--genai {LOW_BITS}"));
    assert!(r.stderr.contains("takes id 0 for it"), "{}", r.stderr);
    assert_eq!(json_of(&out, "special_tokens_map.json"), json!({ "pad_token": "<pad>" }));
    let m = &json_of(&out, "genai_config.json")["model"];
    assert_eq!((&m["bos_token_id"], &m["eos_token_id"]), (&json!(300), &Value::Null));
}

#[test]
fn the_output_is_a_folder_of_our_own() {
    let packed = packed(&fixture("models/intent-b158"));
    let file = place().join("genai.onnx");
    let r = export(&packed, &file, "--genai");
    assert!(r.code == Some(2) && r.stderr.contains("`--genai` writes a folder"), "{r:?}");
    assert!(!file.exists());
    let occupied = place().join("occupied");
    fs::write(&occupied, "a file").unwrap();
    let r = export(&packed, &occupied, "--genai");
    assert!(r.code == Some(2) && r.stderr.contains("`--genai` writes a folder"), "{r:?}");
    let checkpoint = llama("llama-in-the-way", |_| {});
    let before = listing(&checkpoint);
    let r = export(&packed, &checkpoint, "--genai");
    assert!(r.code == Some(2) && r.stderr.contains("not from an earlier export"), "{r:?}");
    assert_eq!(listing(&checkpoint), before);
}

#[test]
fn what_stays_of_another_export_is_said() {
    let (packed, folder) = (packed(&fixture("models/intent-b158")), place().join("one-after-the-other"));
    let said = |options: &str| loud(&packed, &folder, options).stderr;
    let first = said("");
    assert!(!first.contains("does not belong"), "{first}");
    let second = said("--genai");
    assert!(second.contains("model.onnx.data in the output folder"), "{second}");
    assert!(second.contains("model.onnx_data)") && second.contains("genai_config.json"), "{second}");
    let third = said("--profile int");
    assert!(
        third.contains("genai_config.json in the output folder") && third.contains("model.onnx_data in"),
        "{third}"
    );
}
