//! Normalizers of the device tokenizer: the host's code and the C code give what the reference library gives.
//!
//! The tokenizer of these tests has the 256 bytes as its tokens and no merges, so ids are the bytes of the normalized text.

#[path = "tokenizer_support/driver.rs"]
mod driver;

use bitnet_convert::tokenizer::{compile, DeviceTokenizer, TokenizerError};
use driver::{Script, OK};
use serde_json::{json, Map, Value};
use tokenizers::Tokenizer;
use unicode_normalization_alignments::char::{canonical_combining_class, decompose_canonical, decompose_compatible};

/// xorshift64*: seeded, so a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % n as u64) as usize
    }
}

fn scalars() -> impl Iterator<Item = char> {
    (0..0x11_0000).filter_map(char::from_u32)
}

/// A tokenizer whose ids are bytes.
fn bytes_with(normalizer: Value) -> Value {
    let shown = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut hidden = 0x100..;
    let mut vocab = Map::new();
    for byte in 0..=255u8 {
        let code = if shown(byte) { u32::from(byte) } else { hidden.next().unwrap_or(0) };
        vocab.insert(char::from_u32(code).map(String::from).unwrap_or_default(), json!(byte));
    }
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    json!({
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": byte_level.clone(),
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    })
}

fn of(kind: &str) -> Value {
    json!({"type": kind})
}

fn sequence(steps: &[Value]) -> Value {
    json!({"type": "Sequence", "normalizers": steps})
}

fn replace(pattern: Value, content: &str) -> Value {
    json!({"type": "Replace", "pattern": pattern, "content": content})
}

fn bert(clean: bool, chinese: bool, strip: Value, lowercase: bool) -> Value {
    json!({"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": chinese, "strip_accents": strip, "lowercase": lowercase})
}

fn strip(left: bool, right: bool) -> Value {
    json!({"type": "Strip", "strip_left": left, "strip_right": right})
}

fn text(bytes: &[u32]) -> String {
    let bytes: Vec<u8> = bytes.iter().map(|&id| id as u8).collect();
    String::from_utf8_lossy(&bytes).escape_unicode().to_string()
}

/// Reference = Rust = C on every text.
#[track_caller]
fn agree(normalizer: Value, texts: &[String]) {
    let name = normalizer.to_string();
    let source = serde_json::to_vec(&bytes_with(normalizer)).expect("JSON");
    let reference = Tokenizer::from_bytes(&source).unwrap_or_else(|e| panic!("{name}: {e}"));
    let blob = compile(&source).unwrap_or_else(|e| panic!("{name}: {e}"));
    let device = DeviceTokenizer::from_bytes(&blob).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut script = Script::default();
    script.open(&blob);
    let mut expected = Vec::new();
    for of in texts {
        let ids = device.encode(of.as_bytes());
        let encoding = reference.encode_fast(of.as_str(), false).expect("the reference encodes");
        let (ours, theirs) = (text(&ids), text(encoding.get_ids()));
        assert!(ids == encoding.get_ids(), "{name}: {} becomes {ours}, not {theirs}", of.escape_unicode());
        script.text(ids.len() + 8, of.as_bytes());
        expected.push(ids);
    }
    if let Some(mut answers) = script.run(&format!("normalizer-{:x}", blob.len() + texts.len())) {
        assert_eq!(answers.number(), OK, "{name}: open");
        for (of, ids) in texts.iter().zip(expected) {
            let (status, c) = answers.ids();
            assert!((status, &c) == (OK, &ids), "{name}: C makes {} of {}", text(&c), of.escape_unicode());
        }
    }
}

/// Every character of the lower planes and a sample of the others, alone.
fn alone() -> impl Iterator<Item = String> {
    scalars()
        .filter(|&c| {
            u32::from(c) < 0x3_0000 && (u32::from(c) < 0x3400 || u32::from(c) > 0xd7a3 || u32::from(c) % 7 == 0)
                || u32::from(c) % 251 == 0
        })
        .map(String::from)
}

/// Short texts in which marks, jamo, syllables, characters that decompose, and spaces meet.
fn mixed(count: usize, seed: u64) -> Vec<String> {
    let pick = |good: &dyn Fn(char) -> bool| -> Vec<char> { scalars().filter(|&c| good(c)).collect() };
    let marks = pick(&|c| canonical_combining_class(c) != 0);
    let made = pick(&|c| {
        let mut parts = Vec::new();
        decompose_compatible(c, |part| parts.push(part));
        parts != [c] && !('\u{ac00}'..='\u{d7a3}').contains(&c)
    });
    let spaces: Vec<char> = "  \u{2581}\u{3000}\n\t\u{1}\u{200b}aeo".chars().collect();
    let mut random = Random(seed);
    let mut one = |kind: usize| match kind {
        0..=2 => marks[random.below(marks.len())],
        3..=4 => char::from_u32(0x300 + random.below(0x50) as u32).unwrap_or('a'),
        5..=6 => made[random.below(made.len())],
        7 => char::from_u32(0x1100 + random.below(0x100) as u32).unwrap_or('a'),
        8 => char::from_u32(0xac00 + random.below(11_172) as u32).unwrap_or('a'),
        9..=11 => spaces[random.below(spaces.len())],
        12 => char::from_u32(random.below(0x3_0000) as u32).unwrap_or('b'),
        _ => (b'A' + random.below(60) as u8) as char,
    };
    let mut random = Random(seed ^ 0x5555);
    (0..count).map(|_| (0..random.below(12)).map(|_| one(random.below(15))).collect()).collect()
}

/// Runs of marks far longer than any buffer, in every order of classes.
fn runs() -> Vec<String> {
    let marks: Vec<char> = scalars().filter(|&c| canonical_combining_class(c) != 0).collect();
    let mut random = Random(77);
    let long = |mark: &str| format!("a{}e", mark.repeat(4000));
    let mut texts =
        vec![long("\u{301}"), long("\u{301}\u{323}"), long("\u{344}\u{345}\u{323}"), "\u{323}\u{301}".repeat(999)];
    texts.push(std::iter::once('u').chain((0..3000).map(|_| marks[random.below(marks.len())])).collect());
    texts.push("\u{1112}\u{1161}\u{11ab}".repeat(2000));
    texts.push(format!("x{}y{}", " ".repeat(5000), " \u{3000}".repeat(3000)));
    texts
}

#[test]
fn normal_forms_of_every_character_and_of_mixtures() {
    for kind in ["NFC", "NFD", "NFKC", "NFKD"] {
        let texts: Vec<String> = alone().chain(mixed(1500, 3)).chain(runs()).collect();
        agree(of(kind), &texts);
    }
}

#[test]
fn every_pair_that_composes_and_what_blocks_it() {
    let mut texts = Vec::new();
    for c in scalars().filter(|c| !('\u{ac00}'..='\u{d7a3}').contains(c)) {
        let mut parts = Vec::new();
        decompose_canonical(c, |part| parts.push(part));
        if parts.len() > 1 {
            let (all, last) = (String::from_iter(&parts), parts[parts.len() - 1]);
            texts.extend([
                all.clone(),
                format!("{c}{last}"),
                format!("{}\u{302}\u{327}{last}", parts[0]),
                format!("{all}{all}"),
            ]);
            texts.push(format!("{}\u{1}{last}", parts[0]));
        }
    }
    agree(of("NFC"), &texts);
    agree(sequence(&[of("Nmt"), of("NFKC")]), &texts);
}

#[test]
fn bert_in_all_its_settings() {
    let texts: Vec<String> = alone().chain(mixed(1000, 4)).collect();
    agree(bert(true, true, Value::Null, true), &texts);
    let few = mixed(800, 5);
    agree(bert(true, true, Value::Null, false), &few);
    agree(bert(true, false, json!(false), true), &few);
    agree(bert(false, true, json!(true), false), &few);
    agree(bert(false, false, json!(true), true), &few);
    agree(bert(false, false, Value::Null, false), &few);
}

#[test]
fn sequences_of_steps_on_characters_marks_and_spaces() {
    let (space, two, white) = (json!({"String": " "}), json!({"Regex": " {2,}"}), json!({"Regex": "\\s+"}));
    let mark = "\u{2581}";
    let list = [
        sequence(&[of("NFD"), of("StripAccents"), of("Lowercase")]),
        sequence(&[of("Lowercase"), of("NFKD"), of("StripAccents")]),
        sequence(&[of("NFC"), replace(white, " "), of("Lowercase")]),
        sequence(&[json!({"type": "Prepend", "prepend": mark}), replace(space.clone(), mark)]),
        sequence(&[of("Nmt"), of("NFKC"), strip(true, true), replace(two.clone(), " ")]),
        sequence(&[sequence(&[of("NFKC")]), strip(false, true), replace(two, mark)]),
        sequence(&[strip(true, false), json!({"type": "Prepend", "prepend": " "})]),
        sequence(&[
            replace(json!({"String": "e"}), "xyz"),
            replace(json!({"Regex": "[\u{300}-\u{303}]"}), ""),
            of("NFC"),
        ]),
        replace(space, mark),
        of("Lowercase"),
        of("Nmt"),
        of("StripAccents"),
    ];
    let texts: Vec<String> = mixed(1000, 6).into_iter().chain(runs()).collect();
    list.into_iter().for_each(|normalizer| agree(normalizer, &texts));
}

/// A stray byte keeps what is around it apart, and stays.
#[test]
fn stray_bytes_are_walls() {
    let blob = compile(&serde_json::to_vec(&bytes_with(of("NFC"))).expect("JSON")).expect("a blob");
    let device = DeviceTokenizer::from_bytes(&blob).expect("its own blob");
    let cases: [(&[u8], &[u8]); 4] = [
        (b"e\xcc\x81", b"\xc3\xa9"),
        (b"e\xff\xcc\x81", b"e\xff\xcc\x81"),
        (b"\xcc\x81\xcc\xa3\xcc", b"\xcc\xa3\xcc\x81\xcc"),
        (b"e\xcc\xcc\x81\xed\xa0\x80", b"e\xcc\xcc\x81\xed\xa0\x80"),
    ];
    let mut script = Script::default();
    script.open(&blob);
    for (text, normal) in cases {
        let ids: Vec<u32> = normal.iter().map(|&byte| u32::from(byte)).collect();
        assert_eq!(device.encode(text), ids, "{text:x?}");
        script.text(16, text);
    }
    if let Some(mut answers) = script.run("normalizer-stray") {
        assert_eq!(answers.number(), OK);
        for (text, normal) in cases {
            let ids = normal.iter().map(|&byte| u32::from(byte)).collect();
            assert_eq!(answers.ids(), (OK, ids), "C: {text:x?}");
        }
    }
}

#[track_caller]
fn refused(normalizer: Value, key: &str, value: &str) {
    match compile(&serde_json::to_vec(&bytes_with(normalizer.clone())).expect("JSON")) {
        Err(TokenizerError::Unsupported { key: k, value: v, reason }) => {
            assert_eq!((k.as_str(), v.as_str()), (key, value), "{normalizer}: {reason}");
        }
        other => panic!("{normalizer}: {:?}", other.map(|blob| blob.len())),
    }
}

#[test]
fn what_the_section_cannot_say_is_refused_by_key_and_value() {
    refused(of("ByteLevel"), "normalizer.type", "ByteLevel");
    refused(json!({}), "normalizer.type", "(no type)");
    refused(json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}), "normalizer.type", "Precompiled");
    refused(json!({"type": "Prepend", "prepend": "x"}), "normalizer.prepend", "\"x\"");
    refused(sequence(&[of("NFC"), of("NFD")]), "normalizer.normalizers[1].type", "NFD");
    refused(sequence(&[strip(true, true), of("NFC")]), "normalizer.normalizers[1].type", "NFC");
    refused(replace(json!({"String": "``"}), "\""), "normalizer.pattern", "\"``\"");
    refused(replace(json!({"Regex": "^a"}), ""), "normalizer.pattern", "\"^a\"");
    refused(
        sequence(&[replace(json!({"String": " "}), "\u{2581}"), strip(true, true)]),
        "normalizer.normalizers[1].type",
        "Strip",
    );
    let deep = (0..12).fold(of("NFC"), |inner, _| sequence(&[inner]));
    assert!(matches!(
        compile(&serde_json::to_vec(&bytes_with(deep)).expect("JSON")),
        Err(TokenizerError::Unsupported { .. })
    ));
    refused(replace(json!({"String": "a"}), &"long ".repeat(9)), "normalizer", "a long replacement");
}

/// Where section 7 is in a blob.
fn section(blob: &[u8]) -> std::ops::Range<usize> {
    let le = |at: usize| u32::from_le_bytes(blob[at..at + 4].try_into().expect("four bytes")) as usize;
    let count = usize::from(blob[23]);
    let mut at = 32 + 8 * count;
    for k in 0..count {
        let (kind, len) = (blob[32 + 8 * k], le(36 + 8 * k));
        if kind == 7 {
            return at..at + len;
        }
        at += len;
    }
    panic!("no section 7");
}

/// Damaged tables are refused, or mean the same to both readers and end.
#[test]
fn damaged_tables_mean_the_same_to_rust_and_c() {
    let mut random = Random(99);
    let texts = mixed(60, 8);
    for normalizer in [of("NFKC"), bert(true, true, Value::Null, true), sequence(&[of("NFC"), of("Lowercase")])] {
        let blob = compile(&serde_json::to_vec(&bytes_with(normalizer)).expect("JSON")).expect("a blob");
        let table = section(&blob);
        let mut script = Script::default();
        let mut expected = Vec::new();
        let mut good = 0;
        for _ in 0..120 {
            let mut damaged = blob.clone();
            for _ in 0..=random.below(2) {
                let at = if random.below(3) == 0 { random.below(300) } else { random.below(table.len()) };
                damaged[table.start + at] ^= 1 << random.below(8);
            }
            script.open(&damaged);
            match DeviceTokenizer::from_bytes(&damaged) {
                Ok(device) => {
                    good += 1;
                    let ids: Vec<Vec<u32>> = texts.iter().map(|text| device.encode(text.as_bytes())).collect();
                    for text in &texts {
                        script.text(text.len() * 64 + 64, text.as_bytes());
                    }
                    expected.push(Some(ids));
                }
                Err(_) => expected.push(None),
            }
        }
        assert!((5..115).contains(&good), "{good} of 120 damaged sections are accepted");
        let Some(mut answers) = script.run("normalizer-damaged") else { return };
        for (k, ids) in expected.into_iter().enumerate() {
            let status = answers.number();
            assert_eq!(status == OK, ids.is_some(), "damage {k}: C says {status}");
            for (text, ids) in texts.iter().zip(ids.into_iter().flatten()) {
                assert_eq!(answers.ids(), (OK, ids), "damage {k}: {}", text.escape_unicode());
            }
        }
    }
}
