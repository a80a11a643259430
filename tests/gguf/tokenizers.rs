//! Tokenizers rebuilt from header keys give the ids of the original ones. The vocabularies of real models are looked for in
//! `fixtures/tokenizers` or `$BITNET_TOKENIZERS`; where they are missing, the test says "not run" and passes.

use crate::writer::*;
use bitnet_convert::format::gguf::parse;
use bitnet_convert::tokenizer::host::HostTokenizer;
use bitnet_convert::tokenizer::load::gguf::build;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER: i32 = 4;

fn folder(name: &str) -> Option<PathBuf> {
    let base = std::env::var_os("BITNET_TOKENIZERS").map(PathBuf::from);
    let base = base.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizers"));
    let folder = base.join(name);
    if folder.join("golden.json").exists() {
        return Some(folder);
    }
    println!("not run: no tokenizer folder {}", folder.display());
    None
}

fn read(path: PathBuf) -> Vec<u8> {
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&read(path)).expect("JSON")
}

/// A header with these keys.
fn metadata(keys: Vec<(&str, Wire)>) -> bitnet_convert::format::gguf::Metadata {
    let gguf = keys.into_iter().fold(Gguf::default(), |g, (k, v)| g.key(&format!("tokenizer.ggml.{k}"), v));
    parse(&gguf.bytes()).expect("a header").metadata
}

fn tokenizer(keys: Vec<(&str, Wire)>) -> HostTokenizer {
    let json =
        build(&metadata(keys), 1 << 20, &mut Map::new(), &mut Vec::new()).expect("it is known").expect("it is there");
    HostTokenizer::from_json(&json).expect("the library takes it")
}

/// Compares all texts but those that hold one of `without`.
fn golden(name: &str, folder: &Path, t: &HostTokenizer, without: &[&str]) {
    let golden = json(folder.join("golden.json"));
    let mut wrong = Vec::new();
    let mut compared = 0;
    for case in golden["cases"].as_array().expect("cases") {
        let text = case["text"].as_str().expect("a text");
        if without.iter().any(|w| text.contains(w)) {
            continue;
        }
        let want: Vec<u32> = serde_json::from_value(case["ids"].clone()).expect("ids");
        let got = t.encode(text).expect("it is encoded");
        if got != want {
            wrong.push(format!("{text:?}: {got:?}, the original gives {want:?}"));
        }
        compared += 1;
    }
    println!("{name}: {compared} texts compared");
    assert!(compared > 40, "{name}: only {compared} texts were compared");
    assert!(wrong.is_empty(), "{name}: {}", wrong.join("\n"));
}

/// Tokens by id.
fn by_id(vocab: &Value) -> Vec<String> {
    let all: BTreeMap<u64, &String> =
        vocab.as_object().expect("a map").iter().map(|(t, id)| (id.as_u64().expect("an id"), t)).collect();
    all.values().map(|t| (*t).clone()).collect()
}

fn texts(list: &[String]) -> Wire {
    strings(&list.iter().map(String::as_str).collect::<Vec<_>>())
}

fn merges(list: &Value) -> Wire {
    let pair = |m: &Value| match m {
        Value::String(s) => s.clone(),
        m => format!("{} {}", m[0].as_str().expect("a part"), m[1].as_str().expect("a part")),
    };
    texts(&list.as_array().expect("a list").iter().map(pair).collect::<Vec<_>>())
}

#[test]
fn gpt2() {
    let Some(f) = folder("gpt2") else { return };
    let model = &json(f.join("tokenizer.json"))["model"];
    let t = tokenizer(vec![
        ("model", strv("gpt2")),
        ("pre", strv("gpt-2")),
        ("tokens", texts(&by_id(&model["vocab"]))),
        ("merges", merges(&model["merges"])),
        ("bos_token_id", u32v(50256)),
        ("eos_token_id", u32v(50256)),
    ]);
    golden("gpt2", &f, &t, &[]);
}

#[test]
fn smollm2() {
    let Some(f) = folder("smollm2") else { return };
    let all = json(f.join("tokenizer.json"));
    let tokens = by_id(&all["model"]["vocab"]);
    let mut types = vec![NORMAL; tokens.len()];
    for a in all["added_tokens"].as_array().expect("a list") {
        types[a["id"].as_u64().expect("an id") as usize] = CONTROL;
    }
    let t = tokenizer(vec![
        ("model", strv("gpt2")),
        ("pre", strv("smollm")),
        ("tokens", texts(&tokens)),
        ("token_type", i32s(&types)),
        ("merges", merges(&all["model"]["merges"])),
        ("bos_token_id", u32v(1)),
        ("add_bos_token", boolv(false)),
    ]);
    golden("smollm2", &f, &t, &[]);
}

#[test]
fn qwen3() {
    let Some(f) = folder("qwen3") else { return };
    let mut tokens = by_id(&json(f.join("vocab.json")));
    let mut types = vec![NORMAL; tokens.len()];
    let rest = json(f.join("tokenizer_rest.json"));
    for a in rest["added_tokens"].as_array().expect("a list") {
        assert_eq!(a["id"].as_u64(), Some(tokens.len() as u64), "the added tokens follow the others");
        tokens.push(a["content"].as_str().expect("a text").to_string());
        types.push(if a["special"] == true { CONTROL } else { USER });
    }
    let text = String::from_utf8(read(f.join("merges.txt"))).expect("UTF-8");
    let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with("#version")).collect();
    let t = tokenizer(vec![
        ("model", strv("gpt2")),
        ("pre", strv("qwen2")),
        ("tokens", texts(&tokens)),
        ("token_type", i32s(&types)),
        ("merges", strings(&lines)),
        ("eos_token_id", u32v(151_645)),
    ]);
    golden("qwen3", &f, &t, &[]);
}

/// The characters that stand for bytes in byte-level vocabularies.
fn spelled(bytes: &[u8]) -> String {
    let plain = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let others: Vec<u8> = (0..=255).filter(|b| !plain(*b)).collect();
    let one = |b: &u8| match others.iter().position(|o| o == b) {
        None => char::from(*b),
        Some(i) => char::from_u32(256 + i as u32).expect("a letter"),
    };
    bytes.iter().map(one).collect()
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u32> = text.bytes().filter(|c| *c != b'=').map(|c| u32::from(digit(c))).collect();
    let four = |c: &[u32]| {
        let n = (0..4).fold(0, |n, i| n << 6 | c.get(i).copied().unwrap_or(0));
        [(n >> 16) as u8, (n >> 8) as u8, n as u8][..c.len() - 1].to_vec()
    };
    digits.chunks(4).flat_map(four).collect()
}

/// The vocabulary has ranks and no merges: a token's merge is what joining by lower ranks leaves of it.
#[test]
fn llama3() {
    let Some(f) = folder("llama3-tiktoken") else { return };
    let text = String::from_utf8(read(f.join("tokenizer.model"))).expect("UTF-8");
    let tokens: Vec<Vec<u8>> = text.lines().map(|l| base64(l.split(' ').next().expect("a token"))).collect();
    let ranks: HashMap<&[u8], usize> = tokens.iter().enumerate().map(|(i, t)| (&t[..], i)).collect();
    let mut merges = Vec::new();
    for (rank, token) in tokens.iter().enumerate().filter(|(_, t)| t.len() > 1) {
        let mut cuts: Vec<usize> = (0..=token.len()).collect();
        while cuts.len() > 3 {
            let joined = |i: usize| ranks.get(&token[cuts[i]..cuts[i + 2]]).copied().filter(|r| *r < rank);
            match (0..cuts.len() - 2).filter_map(|i| joined(i).map(|r| (r, i))).min() {
                Some((_, i)) => drop(cuts.remove(i + 1)),
                None => break,
            }
        }
        if let [_, cut, _] = cuts[..] {
            merges.push(format!("{} {}", spelled(&token[..cut]), spelled(&token[cut..])));
        }
    }
    let t = tokenizer(vec![
        ("model", strv("gpt2")),
        ("pre", strv("llama-bpe")),
        ("tokens", texts(&tokens.iter().map(|t| spelled(t)).collect::<Vec<_>>())),
        ("merges", texts(&merges)),
        ("add_bos_token", boolv(false)),
    ]);
    golden("llama3", &f, &t, &[]);
}

/// What of a SentencePiece model goes into a GGUF header.
fn sentencepiece(file: &[u8], model: &str) -> Vec<(&'static str, Wire)> {
    /// Field number and content of each field of a message; numbers come as their bytes.
    fn fields(mut b: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn number(b: &mut &[u8]) -> u64 {
            let (mut n, mut shift) = (0, 0);
            loop {
                let byte = b[0];
                *b = &b[1..];
                n |= u64::from(byte & 127) << shift;
                shift += 7;
                if byte < 128 {
                    return n;
                }
            }
        }
        let mut all = Vec::new();
        while !b.is_empty() {
            let tag = number(&mut b);
            let len = match tag & 7 {
                0 => {
                    all.push((tag >> 3, number(&mut b).to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                5 => 4,
                _ => number(&mut b) as usize,
            };
            all.push((tag >> 3, b[..len].to_vec()));
            b = &b[len..];
        }
        all
    }
    let (mut tokens, mut scores, mut types) = (Vec::new(), Vec::new(), Vec::new());
    let (mut map, mut dummy, mut extra) = (Vec::new(), true, true);
    for (field, bytes) in fields(file) {
        match field {
            1 => {
                let (mut score, mut kind) = (0.0, NORMAL);
                for (f, b) in fields(&bytes) {
                    match f {
                        1 => tokens.push(String::from_utf8(b).expect("UTF-8")),
                        2 => score = f32::from_le_bytes(b[..4].try_into().expect("four bytes")),
                        _ => kind = i32::from(b[0]),
                    }
                }
                scores.push(score);
                types.push(kind);
            }
            3 => {
                for (f, b) in fields(&bytes) {
                    match f {
                        2 => map = b,
                        3 => dummy = b[0] == 1,
                        4 => extra = b[0] == 1,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let unknown = types.iter().position(|t| *t == UNKNOWN).expect("an unknown token") as u32;
    vec![
        ("model", strv(model)),
        ("tokens", texts(&tokens)),
        ("scores", f32s(&scores)),
        ("token_type", i32s(&types)),
        ("unknown_token_id", u32v(unknown)),
        ("precompiled_charsmap", list(0, map.len() as u64, map)),
        ("add_space_prefix", boolv(dummy)),
        ("remove_extra_whitespaces", boolv(extra)),
        ("add_bos_token", boolv(false)),
        ("add_eos_token", boolv(false)),
    ]
}

/// Control tokens in a text are plain text for SentencePiece, and tokens for every file made from it.
const CONTROLS: &[&str] = &["<s>", "</s>", "<unk>", "<pad>"];

#[test]
fn llama2() {
    let Some(f) = folder("llama2") else { return };
    let t = tokenizer(sentencepiece(&read(f.join("tokenizer.model")), "llama"));
    golden("llama2", &f, &t, CONTROLS);
}

#[test]
fn merged_pieces_without_bytes() {
    let Some(f) = folder("spm-bpe-1000") else { return };
    let t = tokenizer(sentencepiece(&read(f.join("tokenizer.model")), "llama"));
    golden("spm-bpe-1000", &f, &t, CONTROLS);
}

#[test]
fn likeliest_pieces() {
    let Some(f) = folder("spm-unigram-1000") else { return };
    let t = tokenizer(sentencepiece(&read(f.join("tokenizer.model")), "t5"));
    golden("spm-unigram-1000", &f, &t, CONTROLS);
}

#[test]
fn likeliest_pieces_of_a_toy() {
    let Some(f) = folder("t5-test-unigram") else { return };
    let t = tokenizer(sentencepiece(&read(f.join("spiece.model")), "t5"));
    golden("t5-test-unigram", &f, &t, CONTROLS);
}

#[test]
fn bert() {
    let Some(f) = folder("bert-uncased") else { return };
    let text = String::from_utf8(read(f.join("vocab.txt"))).expect("UTF-8");
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let store = |t: &str| match t.strip_prefix("##") {
        Some(rest) => rest.to_string(),
        None if t.starts_with('[') && t.ends_with(']') && t.len() > 2 => t.to_string(),
        None => format!("\u{2581}{t}"),
    };
    let tokens: Vec<String> = text.lines().map(store).collect();
    let types: Vec<i32> = tokens.iter().map(|t| if special.contains(&t.as_str()) { CONTROL } else { NORMAL }).collect();
    let mut keys = vec![
        ("model", strv("bert")),
        ("tokens", texts(&tokens)),
        ("token_type", i32s(&types)),
        ("bos_token_id", u32v(101)),
        ("seperator_token_id", u32v(102)),
        ("unknown_token_id", u32v(100)),
    ];
    assert_eq!(tokenizer(keys.clone()).encode("hello world").expect("ids"), [101, 7592, 2088, 102]);
    keys.extend([("add_bos_token", boolv(false)), ("add_eos_token", boolv(false))]);
    golden("bert", &f, &tokenizer(keys), &[]);
}

// ---- without any real vocabulary ----

fn small() -> Vec<(&'static str, Wire)> {
    vec![
        ("model", strv("llama")),
        ("tokens", strings(&["<unk>", "<s>", "</s>", "<0x41>", "\u{2581}", "a", "b", "ab", "\u{2581}ab", "<x>"])),
        ("scores", f32s(&[0.0, 0.0, 0.0, 0.0, -9.0, -9.0, -9.0, -1.0, -2.0, 0.0])),
        ("token_type", i32s(&[2, 3, 3, 6, 1, 1, 1, 1, 1, 4])),
    ]
}

#[test]
fn a_small_sentencepiece_vocabulary() {
    let t = tokenizer(small());
    assert_eq!(t.encode("ab").expect("ids"), [1, 8], "start token and leading space by default");
    assert_eq!(t.encode("A").expect("ids"), [1, 4, 3], "a byte");
    assert_eq!(t.encode("<x>b").expect("ids"), [1, 9, 4, 6]);
    assert_eq!(t.decode(&[1, 8, 3]).expect("text"), "abA");
    let mut keys = small();
    keys.extend([("add_bos_token", boolv(false)), ("add_eos_token", boolv(true)), ("add_space_prefix", boolv(false))]);
    assert_eq!(tokenizer(keys).encode("ab").expect("ids"), [7, 2]);
}

#[test]
fn ids_go_into_the_configuration() {
    let mut keys = small();
    keys.extend([("eos_token_id", u32v(2)), ("eot_token_id", u32v(9)), ("padding_token_id", u32v(u32::MAX))]);
    let mut config = Map::new();
    build(&metadata(keys), 10, &mut config, &mut Vec::new()).expect("it is known");
    assert_eq!(Value::Object(config), serde_json::json!({"bos_token_id": 1, "eos_token_id": [2, 9]}));
}

#[test]
fn headers_that_contradict_themselves() {
    let tokens = |t: &[&str]| ("tokens", strings(t));
    let gpt2 = |merge: &str| {
        vec![("model", strv("gpt2")), ("pre", strv("gpt-2")), tokens(&["a", "b", "ab"]), ("merges", strings(&[merge]))]
    };
    assert!(build(&metadata(gpt2("a b")), 3, &mut Map::new(), &mut Vec::new()).is_ok());
    let mut twice = small();
    twice[1] = tokens(&["a", "a"]);
    let mut types = small();
    types[3] = ("token_type", i32s(&[1]));
    let mut kinds = small();
    kinds[3] = ("token_type", i32s(&[7; 10]));
    let mut scores = small();
    scores[2] = ("scores", f32s(&[f32::NAN; 10]));
    let mut long = small();
    let piece = "a".repeat(2049);
    long[1] = tokens(&["<unk>", "<s>", "</s>", "<0x41>", "\u{2581}", "a", "b", &piece, "c", "<x>"]);
    let unknown_pre =
        vec![("model", strv("gpt2")), ("pre", strv("new\u{1b}")), tokens(&["a"]), ("merges", strings(&[]))];
    for (keys, rows, word) in [
        (small(), 9, "the embedding has 9 rows"),
        (vec![("model", strv("rwkv"))], 9, "`tokenizer.ggml.tokens` is missing"),
        (vec![("model", strv("rwkv")), tokens(&["a"])], 9, "tokenizer `rwkv` is not read"),
        (unknown_pre, 9, "pre-tokenizer `new?` is not known"),
        (gpt2("ab"), 9, "item 0 of `tokenizer.ggml.merges`"),
        (gpt2("a c"), 9, "item 0"),
        (gpt2("b a"), 9, "item 0"),
        (gpt2(""), 9, "item 0"),
        (twice, 10, "the same token at 0 and at 1"),
        (types, 10, "1 items for 10 tokens"),
        (kinds, 10, "1 to 6"),
        (scores, 10, "finite f32"),
        (long, 10, "token 7 has 2049 bytes"),
    ] {
        let e = build(&metadata(keys), rows, &mut Map::new(), &mut Vec::new()).expect_err(word);
        assert!(e.to_string().contains(word), "`{word}` is not in: {e}");
    }
    let mut warnings = Vec::new();
    assert_eq!(build(&metadata(vec![]), 9, &mut Map::new(), &mut warnings).expect("no tokenizer"), None);
    assert_eq!(warnings.len(), 1);
}
