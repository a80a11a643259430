//! Inputs, the C driver and the comparisons for the tests of the device tokenizer.

pub mod driver;

pub use driver::{Script, OK};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bitnet_convert::tokenizer::{compile, DeviceTokenizer};
use serde_json::{json, Value};
use tokenizers::Tokenizer;

pub const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub const E_STATE: u32 = 13;
pub const E_CAPACITY: u32 = 10;

// ---- inputs -------------------------------------------------------------------------------

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn fixture() -> Value {
    let path = root().join("fixtures/models/intent-w1a2/tokenizer.json");
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).expect("the fixture is JSON")
}

pub fn real_tokenizers(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("BITNET_TOKENIZERS")
        .map_or_else(|| root().join("fixtures/tokenizers"), PathBuf::from)
        .join(name);
    if folder.join("golden.json").exists() {
        return Some(folder);
    }
    println!("not run: no tokenizer folder {}", folder.display());
    None
}

pub fn byte_level(prefix: bool, regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex})
}

pub fn with_pre(steps: Vec<Value>) -> Value {
    let mut value = fixture();
    value["pre_tokenizer"] = match <[Value; 1]>::try_from(steps) {
        Ok([one]) => one,
        Err(steps) => json!({"type": "Sequence", "pretokenizers": steps}),
    };
    value
}

pub fn regex_split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

pub fn digits(single: bool) -> Value {
    json!({"type": "Digits", "individual_digits": single})
}

/// xorshift64*: seeded, so a failure can be repeated.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

pub const PIECES: &[&str] = &[
    "a",
    "b",
    "the",
    "The",
    "THE",
    "ing",
    "ssi",
    "temperature",
    "turn",
    "on",
    "x",
    "q",
    "z",
    " ",
    " ",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\u{a0}",
    "\u{3000}",
    "\u{2028}",
    "\u{85}",
    "\u{b}",
    "\u{1680}",
    "\u{200b}",
    "\u{feff}",
    "'",
    "'s",
    "'S",
    "'t",
    "'re",
    "'RE",
    "'ve",
    "'m",
    "'ll",
    "'Ll",
    "'d",
    "'\u{17f}",
    "'r",
    "'v",
    "'l",
    "''",
    "0",
    "1",
    "7",
    "42",
    "123",
    "1234567",
    "½",
    "²",
    "Ⅷ",
    "٣",
    "𝟘",
    ".",
    ",",
    "!",
    "?",
    "...",
    "--",
    "====",
    "(",
    ")",
    "<",
    "|",
    "<|",
    "|>",
    "<|end|>",
    "<|end|",
    "<|system|>",
    "<|user|>",
    "<|pad|>",
    "<<|end|>>",
    "é",
    "e\u{301}",
    "ß",
    "ǅ",
    "Ω",
    "ж",
    "я",
    "中",
    "文字",
    "日本語",
    "한",
    "ع",
    "ا",
    "ש",
    "हि",
    "ไ",
    "🙂",
    "👩‍👩‍👧",
    "🇪🇺",
    "\u{0}",
    "\u{7f}",
    "\u{ad}",
    "\u{fffd}",
    "\u{10ffff}",
    "\u{e000}",
    "Ġ",
    "Ċ",
    "aaaaaaaa",
    "        ",
    "_",
    "#",
    "@",
    "http://",
    "\\",
    "\"",
    "{}",
    "[]",
    "$",
    "€",
];

pub fn texts() -> Vec<String> {
    let mut list: Vec<String> = [
        "",
        " ",
        "  ",
        "\n",
        " \n",
        "\n ",
        "\t\tx",
        "a  ",
        "a   b",
        " a",
        "  a",
        "don't",
        "DON'T",
        "'s",
        " 's",
        "x's'st",
        "it's we're I'll I'd they've I'm",
        "1 22 333 4444 55555",
        "a1b22c333",
        "<|end|>",
        "<|end|>x",
        "x<|end|>",
        " <|end|> ",
        "<|end|><|end|>",
        "<|en",
        "<|system|>You are<|user|>What's?<|assistant|>",
        "\r\n\r\n x",
        " \r\n\t\n  y",
        "foo \n bar\n\n  baz",
        "...\n\n...",
        "? \n!",
        "\u{a0}\u{a0}x",
        "x\u{3000}\u{3000}",
        "Hello, world! ¿Qué tal? 你好，世界",
        "fn main() { println!(\"{}\", 0x1F); }",
        "'\u{17f}t",
        "'ſ",
        "a'ſb",
        "e\u{301}e\u{301}",
        "\u{200d}\u{200d}",
        "١٢٣٤",
        "½⅓¼",
        "a\u{0}b",
        "\u{feff}BOM",
    ]
    .map(String::from)
    .to_vec();
    list.push("a".repeat(500));
    list.push(" ".repeat(300) + "x");
    list.push("ab".repeat(200) + "\n");
    list.push("=".repeat(257));
    list.push("7".repeat(100));
    list.push("é中🙂".repeat(60));
    let mut random = Random(0x1b17);
    for _ in 0..3000 {
        let count = random.below(14);
        let mut text = String::new();
        for _ in 0..count {
            if random.below(12) == 0 {
                text.extend(char::from_u32(random.below(0x11_0000) as u32));
            } else {
                text += PIECES[random.below(PIECES.len())];
            }
        }
        list.push(text);
    }
    list
}

pub fn scalars() -> impl Iterator<Item = char> {
    (0..0x11_0000).filter_map(char::from_u32)
}

/// Enough of Unicode where another test has asked for all of it: everything in the part where
/// scripts, digits and spaces live close together, and a sample of the rest.
pub fn sampled(c: char) -> bool {
    u32::from(c) < 0x3100 || u32::from(c) % 97 == 0
}

/// Every scalar between other classes, `group` of them to a text.
pub fn contexts(group: usize, skip: impl Fn(char) -> bool) -> Vec<String> {
    let all: Vec<char> = scalars().filter(|&c| !skip(c)).collect();
    all.chunks(group).map(|chunk| chunk.iter().map(|c| format!("a{c}1 {c}")).collect()).collect()
}

/// Room that always fits: one id a byte, and a space before each.
pub fn room(text: &[u8]) -> usize {
    text.len() * 2 + 1
}

// ---- comparisons --------------------------------------------------------------------------

pub fn build(source: &Value) -> (Vec<u8>, DeviceTokenizer) {
    let blob = compile(&serde_json::to_vec(source).expect("JSON")).unwrap_or_else(|e| panic!("{e}"));
    let device = DeviceTokenizer::from_bytes(&blob).unwrap_or_else(|e| panic!("{e}"));
    (blob, device)
}

/// Reference = Rust = C on every text; C also with exactly the ids that are free at the least
/// and with too few.
pub fn agree(name: &str, source: &Value, texts: &[String]) -> (Vec<u8>, DeviceTokenizer) {
    let (blob, device) = build(source);
    let reference =
        Tokenizer::from_bytes(serde_json::to_vec(source).expect("JSON")).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut script = Script::default();
    script.open(&blob);
    let mut expected = Vec::with_capacity(texts.len());
    for text in texts {
        let ids = device.encode(text.as_bytes());
        let encoding = reference.encode_fast(text.as_str(), false).expect("the reference encodes");
        assert_eq!(ids, encoding.get_ids(), "{name}: {text:?}");
        script.text(room(text.as_bytes()), text.as_bytes());
        if tries(text) == 3 {
            script.text(text.len(), text.as_bytes());
            script.text(ids.len().saturating_sub(1), text.as_bytes());
        }
        expected.push(ids);
    }
    let prefix_space = source["pre_tokenizer"].to_string().contains("\"add_prefix_space\":true");
    if let Some(mut answers) = script.run(name) {
        assert_eq!(answers.number(), OK, "{name}: open");
        for (text, ids) in texts.iter().zip(expected) {
            assert_eq!(answers.ids(), (OK, ids.clone()), "{name}: C, {text:?}");
            if tries(text) == 1 {
                continue;
            }
            let tight = answers.ids();
            assert!(
                tight == (OK, ids.clone()) || (prefix_space && tight.0 == E_CAPACITY) || text.is_empty(),
                "{name}: C, tight, {text:?}: {tight:?}"
            );
            let short = if ids.is_empty() { None } else { Some(E_CAPACITY) };
            let status = answers.ids().0;
            assert!(short.is_none_or(|short| short == status), "{name}: C, short, {text:?}");
        }
    }
    (blob, device)
}

/// Texts made of thousands of scalars are about classes, not about room.
pub fn tries(text: &str) -> usize {
    if text.len() < 100 {
        3
    } else {
        1
    }
}

/// Every id decodes to the bytes its vocabulary entry stands for, in Rust and in C.
pub fn decodes(name: &str, source: &Value, blob: &[u8], device: &DeviceTokenizer) {
    let mut alphabet = BTreeMap::new();
    let mut next = 256;
    for byte in 0..=255u8 {
        let printable = matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let code = if printable { u32::from(byte) } else { next };
        next += u32::from(!printable);
        alphabet.insert(char::from_u32(code).expect("no surrogate"), byte);
    }
    let mut expected: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for (token, id) in source["model"]["vocab"].as_object().expect("a map") {
        let bytes: Option<Vec<u8>> = token.chars().map(|c| alphabet.get(&c).copied()).collect();
        let bytes = bytes.unwrap_or_else(|| token.as_bytes().to_vec());
        expected.insert(id.as_u64().expect("an id") as u32, bytes);
    }
    let mut special = BTreeMap::new();
    for token in source["added_tokens"].as_array().expect("a list") {
        let id = token["id"].as_u64().expect("an id") as u32;
        expected.insert(id, token["content"].as_str().expect("a text").into());
        special.insert(id, token["special"] == true);
    }
    let mut script = Script::default();
    script.open(blob);
    for id in 0..device.vocab_size() + 2 {
        assert_eq!(device.decode_token(id).as_ref(), expected.get(&id), "{name}: id {id}");
        assert_eq!(device.is_special(id), special.get(&id) == Some(&true), "{name}: id {id}");
        script.words(b'D', &[device.max_token_bytes() as u32, id]).words(b'S', &[id]);
        let short = expected.get(&id).map_or(0, |bytes| bytes.len() as u32 - 1);
        script.words(b'D', &[short, id]);
    }
    let longest = expected.values().map(Vec::len).max();
    assert_eq!(Some(device.max_token_bytes()), longest, "{name}");
    let Some(mut answers) = script.run(&format!("{name}-decode")) else {
        return;
    };
    assert_eq!(answers.number(), OK);
    for id in 0..device.vocab_size() + 2 {
        let (status, bytes) = answers.bytes();
        let decoded = (status == OK).then_some(bytes);
        assert_eq!(decoded.as_ref(), expected.get(&id), "{name}: C, id {id}");
        assert_eq!(answers.number() == 1, special.get(&id) == Some(&true), "{name}: C, id {id}");
        let short = answers.bytes();
        let known = expected.contains_key(&id);
        assert!(!known || short == (E_CAPACITY, vec![]), "{name}: C, short, id {id}: {short:?}");
    }
}

pub fn template(before: &[&str], after: &[&str]) -> Value {
    let vocab = &fixture()["model"]["vocab"];
    let special = |name: &&str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    let mut single: Vec<Value> = before.iter().map(special).collect();
    single.push(json!({"Sequence": {"id": "A", "type_id": 0}}));
    single.extend(after.iter().map(special));
    let tokens: serde_json::Map<String, Value> = before
        .iter()
        .chain(after)
        .map(|name| (name.to_string(), json!({"id": name, "ids": [vocab[*name]], "tokens": [name]})))
        .collect();
    json!({"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": tokens})
}
