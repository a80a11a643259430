//! Trimmed vocabularies, checked with the reference library: no text is lost, every id is a row that was kept, and nothing else changes.

use bitnet_convert::error::Kind;
use bitnet_convert::tokenizer::host::HostTokenizer;
use bitnet_convert::tokenizer::trim::{count, trim, Choice, Keep, Trimmed};
use bitnet_convert::tokenizer::{compile, DeviceTokenizer};
use serde_json::{json, Value};
use std::collections::BTreeSet;
use tokenizers::models::bpe::{BpeTrainer, BPE};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer};
use tokenizers::models::TrainerWrapper;
use tokenizers::{ModelWrapper, Tokenizer};

const TALE: &str = "Once upon a time there was a dear little girl who was loved by every one who looked at her, but most of all by her \
grandmother, and there was nothing that she would not have given to the child. Once she gave her a little cap of red velvet, which \
suited her so well that she would never wear anything else. So she was always called Little Red-Cap. One day her mother said to her, \
come, Little Red-Cap, here is a piece of cake and a bottle of wine. Take them to your grandmother, she is ill and weak, and they will \
do her good. Set out before it gets hot, and when you are going, walk nicely and quietly and do not run off the path.";

const TEXTS: [&str; 8] = [
    "",
    "Once upon a time there was a wolf.",
    "set the thermostat to 21.5 °C, please!\n\n  Indented\tand tabbed.",
    "naïve façade — “quotes” … ½ µm",
    "日本語のテキスト und Größenwahn, привет, עברית, ไทย",
    "\u{1F600}\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467} e\u{301} \u{0} \u{7f} \u{10FFFF}",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa          x",
    "fn main() { println!(\"{:?}\", [1, 2, 3].iter().map(|x| x * 2)); } // ok?",
];

/// Characters of all lengths in UTF-8, runs of one character, spaces.
fn random_texts(n: usize) -> Vec<String> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut below = move |n: u32| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % u64::from(n)) as u32
    };
    let mut text = |_| {
        let mut s = String::new();
        for _ in 0..below(12) {
            let c = match below(5) {
                0 => below(0x80),
                1 => below(0x800),
                2 => below(0x11_0000),
                3 => 0x20,
                _ => 0x61 + below(26),
            };
            s.extend(std::iter::repeat_n(char::from_u32(c).unwrap_or('\u{FFFD}'), 1 + below(4) as usize));
        }
        s
    };
    (0..n).map(&mut text).collect()
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/fixtures/models/{name}/tokenizer.json", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn load(json: &[u8]) -> Tokenizer {
    Tokenizer::from_bytes(json).unwrap_or_else(|e| panic!("{e}"))
}

fn to_size(json: &[u8], n: usize) -> Trimmed {
    trim(json, &Keep { choice: Choice::Size(n), always: &[] }).unwrap_or_else(|e| panic!("{e}"))
}

/// The smallest size, from the message that refuses a smaller one.
fn least(json: &[u8]) -> usize {
    let e = trim(json, &Keep { choice: Choice::Size(0), always: &[] }).unwrap_err();
    assert_eq!(e.kind(), Kind::Usage, "{e}");
    e.message().rsplit(' ').next().unwrap().parse().unwrap()
}

fn encode(t: &Tokenizer, text: &str) -> Vec<u32> {
    t.encode(text, false).unwrap_or_else(|e| panic!("{e}")).get_ids().to_vec()
}

/// New ids are old tokens in the old order, every one of them; texts come back as before.
#[track_caller]
fn sound(old: &Tokenizer, t: &Trimmed, texts: &[&str]) {
    let new = load(&t.tokenizer_json);
    assert!(t.kept.windows(2).all(|p| p[0] < p[1]));
    assert_eq!(new.get_vocab_size(true), t.kept.len());
    for (i, id) in t.kept.iter().enumerate() {
        assert_eq!(new.id_to_token(i as u32), old.id_to_token(*id), "new {i}, old {id}");
        assert_eq!(t.new_id(*id), Some(i as u32));
    }
    for text in texts {
        let ids = encode(&new, text);
        assert!(ids.iter().all(|id| (*id as usize) < t.kept.len()), "{text:?}: {ids:?}");
        let before = old.decode(&encode(old, text), false).unwrap();
        assert_eq!(new.decode(&ids, false).unwrap(), before, "{text:?}");
    }
}

/// What was used is encoded as before, and nothing but the least is kept besides.
#[track_caller]
fn as_before(json: &[u8], corpus: &[&str]) {
    let old = load(json);
    let counts = count(json, corpus.iter().copied()).unwrap();
    let t = trim(json, &Keep { choice: Choice::Used { counts: &counts, at_most: None }, always: &[] }).unwrap();
    sound(&old, &t, corpus);
    let new = load(&t.tokenizer_json);
    for text in corpus {
        let want: Vec<u32> = encode(&old, text).into_iter().map(|id| t.new_id(id).expect("a used id stays")).collect();
        assert_eq!(encode(&new, text), want, "{text:?}");
    }
}

/// A token that its own text reached is still reached by it.
#[track_caller]
fn reachable(old: &Tokenizer, t: &Trimmed) {
    let new = load(&t.tokenizer_json);
    let mut seen = 0;
    for (i, id) in t.kept.iter().enumerate() {
        let text = old.decode(&[*id], false).unwrap();
        if encode(old, &text) == [*id] {
            assert_eq!(encode(&new, &text), [i as u32], "{text:?}");
            seen += 1;
        }
    }
    // Tokens of a part of a word are not, where a text gets a space in front.
    assert!(seen * 3 > t.kept.len().saturating_sub(300), "only {seen} of {} were tried", t.kept.len());
}

fn train(mut t: Tokenizer, trainer: TrainerWrapper) -> Value {
    let mut trainer = trainer;
    t.train(&mut trainer, TALE.split_inclusive(". ").chain(["日本語 naïve"]).map(str::to_string)).unwrap();
    serde_json::from_str(&t.to_string(false).unwrap()).unwrap()
}

/// A tokenizer around an empty model of this kind.
fn around(model: ModelWrapper, parts: Value) -> Tokenizer {
    let mut file: Value = serde_json::from_str(&Tokenizer::new(model).to_string(false).unwrap()).unwrap();
    for (k, v) in parts.as_object().unwrap() {
        file[k] = v.clone();
    }
    Tokenizer::from_bytes(file.to_string()).unwrap()
}

fn byte_level() -> Value {
    let step = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let t = around(ModelWrapper::BPE(BPE::default()), json!({"pre_tokenizer": step, "decoder": step}));
    let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
    let trainer = BpeTrainer::builder()
        .vocab_size(420)
        .initial_alphabet(alphabet.into_iter().collect())
        .show_progress(false)
        .build();
    train(t, trainer.into())
}

/// As converters write SentencePiece models with byte fallback: bytes after three special tokens, every way to make a token as a merge.
fn sentencepiece() -> Value {
    let normalizer = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
    let decoder = json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
    let t = around(ModelWrapper::BPE(BPE::default()), json!({"normalizer": normalizer, "decoder": decoder}));
    let mut file =
        train(t, BpeTrainer::builder().vocab_size(200).max_token_length(Some(8)).show_progress(false).build().into());
    let mut trained: Vec<(String, u64)> =
        file["model"]["vocab"].as_object().unwrap().iter().map(|(t, id)| (t.clone(), id.as_u64().unwrap())).collect();
    trained.sort_by_key(|(t, id)| (t.chars().count() == 1, *id));
    let special = ["<unk>", "<s>", "</s>"].map(str::to_string);
    let bytes = (0..256).map(|b| format!("<0x{b:02X}>"));
    let names: Vec<String> = special.iter().cloned().chain(bytes).chain(trained.into_iter().map(|(t, _)| t)).collect();
    let known: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let mut merges = Vec::new();
    for t in &names[259..] {
        for (i, _) in t.char_indices().skip(1) {
            let (left, right) = t.split_at(i);
            if known.contains(left) && known.contains(right) {
                merges.push(json!([left, right]));
            }
        }
    }
    let vocab: serde_json::Map<String, Value> = names.iter().enumerate().map(|(i, t)| (t.clone(), i.into())).collect();
    file["model"]["vocab"] = vocab.into();
    file["model"]["merges"] = merges.into();
    file["model"]["byte_fallback"] = true.into();
    file["model"]["unk_token"] = "<unk>".into();
    file["added_tokens"] = (0..3)
        .map(|i| json!({"id": i, "content": special[i], "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}))
        .collect();
    file
}

fn wordpiece() -> Value {
    let parts = json!({
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": false},
    });
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(|t| tokenizers::AddedToken::from(t, true));
    let t = around(ModelWrapper::WordPiece(WordPiece::default()), parts);
    let trainer =
        WordPieceTrainer::builder().vocab_size(300).special_tokens(special.to_vec()).show_progress(false).build();
    let mut file = train(t, trainer.into());
    file["post_processor"] = json!({"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]});
    file
}

fn unigram(byte_fallback: bool) -> Value {
    let space = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let decoder = json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, space]});
    let t = around(
        ModelWrapper::Unigram(Unigram::from(vec![("<unk>".into(), 0.0)], Some(0), false).unwrap()),
        json!({"pre_tokenizer": space, "decoder": decoder}),
    );
    let trainer =
        UnigramTrainer::builder().vocab_size(150).unk_token(Some("<unk>".into())).show_progress(false).build().unwrap();
    let mut file = train(t, trainer.into());
    if byte_fallback {
        let vocab = file["model"]["vocab"].as_array_mut().unwrap();
        vocab.splice(1..1, (0..256).map(|b| json!([format!("<0x{b:02X}>"), -30.0])));
        file["model"]["byte_fallback"] = true.into();
    }
    file
}

// ---- what must hold for every kind ----

#[test]
fn fixtures_at_every_size() {
    for name in ["intent-w1a2", "stories-b158"] {
        let json = fixture(name);
        let old = load(&json);
        let least = least(&json);
        assert_eq!(least, 6 + 256, "{name}: special tokens and bytes");
        for n in [least, least + 1, 400, 700, 1023] {
            let t = to_size(&json, n);
            assert_eq!(t.kept.len(), n, "{name}");
            sound(&old, &t, &[&TEXTS[..], &[TALE, "<|user|>hi<|end|>"]].concat());
            reachable(&old, &t);
        }
        for n in [1024, 5000] {
            let t = to_size(&json, n);
            assert_eq!(t.kept, (0..1024).collect::<Vec<_>>());
            assert_eq!(
                serde_json::from_slice::<Value>(&t.tokenizer_json).unwrap(),
                serde_json::from_slice::<Value>(&json).unwrap()
            );
        }
    }
}

#[test]
fn fixtures_on_a_corpus() {
    for name in ["intent-w1a2", "stories-b158"] {
        let json = fixture(name);
        as_before(&json, &[TALE, "<|user|>set the thermostat to 21 degrees<|end|>"]);
        let counts = count(&json, [TALE]).unwrap();
        for at_most in [262, 300] {
            let keep = Keep { choice: Choice::Used { counts: &counts, at_most: Some(at_most) }, always: &[] };
            let t = trim(&json, &keep).unwrap();
            assert!(t.kept.len() <= at_most);
            sound(&load(&json), &t, &TEXTS);
        }
    }
}

#[test]
fn the_most_used_come_first() {
    let json = fixture("stories-b158");
    let mut counts = vec![0; 1024];
    (counts[900], counts[901]) = (7, 1);
    let of =
        |id| trim(&json, &Keep { choice: Choice::Used { counts: &counts, at_most: None }, always: &[id] }).unwrap();
    let all = of(0).kept;
    assert!(all.contains(&900) && all.contains(&901));
    assert!(of(1000).kept.contains(&1000), "an id of the configuration");
    let room = 262 + all.len() - 262 - 1;
    let keep = Keep { choice: Choice::Used { counts: &counts, at_most: Some(room) }, always: &[] };
    let t = trim(&json, &keep).unwrap();
    assert!(t.kept.contains(&900) && !t.kept.contains(&901), "{:?} of {room}", t.kept.len());
}

#[test]
fn trained_byte_level() {
    let json = byte_level().to_string().into_bytes();
    let old = load(&json);
    let random = random_texts(300);
    let texts: Vec<&str> = TEXTS.into_iter().chain(random.iter().map(String::as_str)).collect();
    for n in [256, 300, 350, 419] {
        let t = to_size(&json, n);
        sound(&old, &t, &texts);
        let new = load(&t.tokenizer_json);
        for text in &texts {
            assert_eq!(new.decode(&encode(&new, text), false).unwrap(), *text, "as it was written");
        }
        reachable(&old, &t);
    }
    as_before(&json, &TEXTS);
    as_before(&json, &[TALE]);
}

#[test]
fn whole_words_without_merges() {
    // With ignore_merges a word of the vocabulary is found although no merges lead to it.
    let mut file = byte_level();
    file["model"]["ignore_merges"] = true.into();
    let n = file["model"]["vocab"].as_object().unwrap().len();
    file["model"]["vocab"]["Zyzzyva"] = n.into();
    let json = file.to_string().into_bytes();
    as_before(&json, &["Zyzzyva", TALE]);
    sound(&load(&json), &to_size(&json, 300), &TEXTS);
    // Without, nothing is ever encoded to it, so it goes first.
    file["model"]["ignore_merges"] = false.into();
    assert!(!to_size(file.to_string().as_bytes(), n).kept.contains(&(n as u32)));
}

#[test]
fn trained_sentencepiece_with_byte_fallback() {
    let json = sentencepiece().to_string().into_bytes();
    let old = load(&json);
    let random = random_texts(300);
    let texts = TEXTS.into_iter().chain(random.iter().map(String::as_str)).filter(|t| !t.is_empty());
    let texts: Vec<&str> = texts.collect();
    let least = least(&json);
    assert_eq!(least, 3 + 256 + 1, "special tokens, bytes, the mark for a space");
    for n in [least, least + 10, 300, 350, 400] {
        sound(&old, &to_size(&json, n), &[&texts[..], &[TALE]].concat());
    }
    as_before(&json, &[TALE]);
    as_before(&json, &texts);
}

#[test]
fn trained_wordpiece() {
    let json = wordpiece().to_string().into_bytes();
    let old = load(&json);
    let alphabet = old.get_vocab(true).keys().filter(|t| t.trim_start_matches("##").chars().count() == 1).count();
    let size = old.get_vocab_size(true);
    for n in [4 + alphabet, (4 + alphabet + size) / 2, size - 1] {
        let t = to_size(&json, n);
        assert_eq!(t.kept.len(), n);
        sound(&old, &t, &[]);
        // Words are spelled otherwise, with the same letters.
        let letters = |t: &Tokenizer| {
            let pieces: Vec<String> = t.encode(TALE, false).unwrap().get_tokens().to_vec();
            pieces.iter().map(|p| p.trim_start_matches("##")).collect::<String>()
        };
        assert_eq!(letters(&load(&t.tokenizer_json)), letters(&old));
    }
    as_before(&json, &[TALE, "日本語"]);
}

#[test]
fn trained_unigram() {
    for byte_fallback in [false, true] {
        let json = unigram(byte_fallback).to_string().into_bytes();
        let old = load(&json);
        let size = old.get_vocab_size(true);
        let texts: Vec<&str> = TEXTS.iter().copied().filter(|t| byte_fallback && !t.is_empty()).collect();
        for n in [size - 1, size - 30, size - 60] {
            let t = to_size(&json, n);
            assert_eq!(t.kept.len(), n);
            sound(&old, &t, &[&texts[..], &[TALE]].concat());
        }
        as_before(&json, &[TALE]);
        let least = least(&json);
        assert_eq!(least, if byte_fallback { 258 } else { 2 }, "the unknown token, the mark for a space, bytes");
    }
}

// ---- ids in other places ----

/// Eight tokens, two of them unused, and one beyond the model.
fn tiny() -> Value {
    json!({
        "version": "1.0", "truncation": null, "normalizer": null, "pre_tokenizer": null, "decoder": null,
        "padding": {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": null, "pad_id": 7, "pad_type_id": 0, "pad_token": "<p>"},
        "added_tokens": [
            {"id": 6, "content": "<b>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 8, "content": "<x>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
        ],
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<b>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<e>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<b>": {"id": "<b>", "ids": [6], "tokens": ["<b>"]}, "<e>": {"id": "<e>", "ids": [5, 8], "tokens": ["<e>", "<x>"]}}},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<u>", "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": {"a": 0, "b": 1, "ab": 2, "aba": 3, "<u>": 4, "<e>": 5, "<b>": 6, "<p>": 7},
            "merges": ["a b", "ab a"]},
    })
}

fn bytes(v: &Value) -> Vec<u8> {
    v.to_string().into_bytes()
}

#[test]
fn ids_of_templates_padding_and_added_tokens_move() {
    let json = bytes(&tiny());
    let counts = [5, 0, 0, 0];
    let keep = Keep { choice: Choice::Used { counts: &counts, at_most: Some(6) }, always: &[] };
    let t = trim(&json, &keep).unwrap();
    assert_eq!(t.kept, [0, 4, 5, 6, 7, 8]);
    assert_eq!(t.new_id(3), None);
    let file: Value = serde_json::from_slice(&t.tokenizer_json).unwrap();
    assert_eq!(file["model"]["vocab"], json!({"a": 0, "<u>": 1, "<e>": 2, "<b>": 3, "<p>": 4}));
    assert_eq!(file["model"]["merges"], json!([]));
    assert_eq!(file["padding"]["pad_id"], 4);
    assert_eq!(file["added_tokens"][0]["id"], 3);
    assert_eq!(file["added_tokens"][1]["id"], 5);
    assert_eq!(file["post_processor"]["special_tokens"]["<b>"]["ids"], json!([3]));
    assert_eq!(file["post_processor"]["special_tokens"]["<e>"]["ids"], json!([2, 5]));
    let ids = load(&t.tokenizer_json).encode("ab", true).unwrap().get_ids().to_vec();
    assert_eq!(ids, [3, 0, 1, 2, 5]);
}

#[test]
fn ids_of_other_post_processors_move() {
    let roberta = json!({"type": "RobertaProcessing", "sep": ["<e>", 5], "cls": ["<b>", 6], "trim_offsets": true, "add_prefix_space": false});
    for post in [roberta.clone(), json!({"type": "Sequence", "processors": [roberta]})] {
        let mut file = tiny();
        file["post_processor"] = post;
        let counts = [5];
        let keep = Keep { choice: Choice::Used { counts: &counts, at_most: Some(6) }, always: &[] };
        let t = trim(&bytes(&file), &keep).unwrap();
        assert_eq!(load(&t.tokenizer_json).encode("a", true).unwrap().get_ids(), [3, 0, 2]);
    }
}

#[test]
fn a_token_brings_what_it_is_made_of() {
    let counts = [0, 0, 0, 1];
    let keep = Keep { choice: Choice::Used { counts: &counts, at_most: None }, always: &[] };
    let t = trim(&bytes(&tiny()), &keep).unwrap();
    assert_eq!(t.kept, (0..9).collect::<Vec<_>>());
    let keep = Keep { choice: Choice::Used { counts: &counts, at_most: Some(8) }, always: &[] };
    let t = trim(&bytes(&tiny()), &keep).unwrap();
    assert_eq!(t.kept, [0, 1, 4, 5, 6, 7, 8], "letters, but no `aba` without `ab`");
}

#[test]
fn suffixes_and_prefixes_of_words() {
    let mut file = tiny();
    file["model"]["end_of_word_suffix"] = "$".into();
    file["model"]["vocab"] = json!({"a": 0, "b$": 1, "ab$": 2, "b": 3, "<u>": 4, "<e>": 5, "<b>": 6, "<p>": 7});
    file["model"]["merges"] = json!([["a", "b$"]]);
    as_before(&bytes(&file), &["ab", "ba"]);
    let counts = [0, 0, 3];
    let t =
        trim(&bytes(&file), &Keep { choice: Choice::Used { counts: &counts, at_most: Some(8) }, always: &[] }).unwrap();
    assert_eq!(t.kept, [0, 1, 2, 4, 5, 6, 7, 8]);
    file["model"]["end_of_word_suffix"] = Value::Null;
    file["model"]["continuing_subword_prefix"] = "##".into();
    file["model"]["vocab"] = json!({"a": 0, "##b": 1, "ab": 2, "b": 3, "<u>": 4, "<e>": 5, "<b>": 6, "<p>": 7});
    file["model"]["merges"] = json!([["a", "##b"]]);
    as_before(&bytes(&file), &["ab", "ba"]);
    let t =
        trim(&bytes(&file), &Keep { choice: Choice::Used { counts: &counts, at_most: Some(8) }, always: &[] }).unwrap();
    assert_eq!(t.kept, [0, 1, 2, 4, 5, 6, 7, 8]);
}

// ---- files that contradict themselves ----

#[track_caller]
fn refused(file: &[u8], kind: Kind, words: &str) {
    let e = trim(file, &Keep { choice: Choice::Size(100), always: &[] }).unwrap_err();
    assert_eq!(e.kind(), kind, "{e}");
    assert!(e.to_string().contains(words), "{e}");
}

#[test]
fn what_is_no_tokenizer() {
    for file in [&b""[..], b"{", b"\xFF", &[b'['; 100_000]] {
        refused(file, Kind::Input, "cannot be read");
    }
    for file in ["null", "[]", "{}", r#"{"model":3}"#, r#"{"model":{"vocab":3}}"#] {
        refused(file.as_bytes(), Kind::Unsupported, "model.type");
    }
}

#[test]
fn contradictions() {
    let with = |path: &str, v: Value| {
        let mut file = tiny();
        *file.pointer_mut(path).unwrap() = v;
        bytes(&file)
    };
    refused(&with("/model/type", "WordLevel".into()), Kind::Unsupported, "only BPE, Unigram and WordPiece");
    refused(&with("/model/vocab", json!([])), Kind::Input, "model.vocab");
    refused(&with("/model/vocab/b", 0.into()), Kind::Input, "have the same id 0");
    for id in [json!(-1), json!(1u64 << 40), json!("1"), Value::Null, json!(0.5)] {
        refused(&with("/model/vocab/b", id), Kind::Input, "is no id");
    }
    for merges in [json!(["a q"]), json!([["a", "a"]]), json!(["a b c"]), json!(["a"]), json!([7]), json!([["a"]])] {
        refused(&with("/model/merges", merges), Kind::Input, "is not two tokens whose result is a token");
    }
    refused(&with("/added_tokens/1/id", 9.into()), Kind::Input, "`<x>` has the id 9, it would get 8");
    refused(&with("/added_tokens/0/id", 5.into()), Kind::Input, "`<b>` has the id 5, it would get 6");
    refused(&with("/post_processor/special_tokens/<b>/ids", json!([77])), Kind::Input, "id 77 is no token");
    refused(&with("/post_processor/type", "Magic".into()), Kind::Unsupported, "post_processor.type");
    let e = trim(&bytes(&tiny()), &Keep { choice: Choice::Size(100), always: &[9] }).unwrap_err();
    assert!(e.to_string().contains("id 9"), "{e}");
}

#[test]
fn counts_of_another_tokenizer_do_no_harm() {
    let counts = vec![1; 5000];
    let t =
        trim(&bytes(&tiny()), &Keep { choice: Choice::Used { counts: &counts, at_most: None }, always: &[] }).unwrap();
    assert_eq!(t.kept.len(), 9);
}

#[test]
fn a_token_as_long_as_the_file() {
    let mut file = tiny();
    file["model"]["vocab"]["ab".repeat(500_000)] = 8.into();
    file["added_tokens"][1]["id"] = 9.into();
    file["post_processor"]["special_tokens"]["<e>"]["ids"] = json!([5]);
    assert_eq!(to_size(&bytes(&file), 9).kept, [0, 1, 2, 3, 4, 5, 6, 7, 9]);
}

// ---- tokenizers of others ----

/// Those of `$BITNET_TOKENIZERS`; where a folder is missing, the test says so.
#[test]
fn real_tokenizers() {
    let folder = std::env::var_os("BITNET_TOKENIZERS").map(std::path::PathBuf::from);
    for (name, least_of_all) in [("gpt2", 256), ("smollm2", 252), ("llama2", 3 + 256 + 1), ("bert-uncased", 5)] {
        let Some(json) = folder.as_ref().and_then(|f| std::fs::read(f.join(name).join("tokenizer.json")).ok()) else {
            println!("not run: no tokenizer {name} in $BITNET_TOKENIZERS");
            continue;
        };
        let old = load(&json);
        assert_eq!(least(&json), least_of_all, "{name}");
        as_before(&json, &[TALE, "set the thermostat to 21.5 °C, please!"]);
        let t = to_size(&json, 4000);
        assert_eq!(t.kept.len(), 4000, "{name}");
        // WordPiece has no bytes to fall back to, and its pieces are not spelled as texts.
        let pieces = name == "bert-uncased";
        sound(&old, &t, if pieces { &[] } else { &TEXTS[1..] });
        if !pieces {
            reachable(&old, &t);
        }
    }
}

/// A trimmed tokenizer of every family is one that a device can have, and it computes the same there.
#[test]
fn trimmed_tokenizers_compile() {
    for name in ["bytes-llama3", "spm-bpe-bytes", "spm-unigram-bytes", "json-llama2", "wordpiece-vocab"] {
        let folder = format!("{}/fixtures/tokenizers/{name}", env!("CARGO_MANIFEST_DIR"));
        let json = bitnet_convert::tokenizer::load(folder.as_ref()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let full = HostTokenizer::from_json(&json).unwrap_or_else(|e| panic!("{name}: {e}")).size();
        let small = to_size(&json, (least(&json) + full) / 2);
        let blob = compile(&small.tokenizer_json).unwrap_or_else(|e| panic!("{name}: {e}"));
        let device = DeviceTokenizer::from_bytes(&blob).unwrap_or_else(|e| panic!("{name}: {e}"));
        let host = HostTokenizer::from_json(&small.tokenizer_json).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(device.vocab_size() as usize, small.kept.len(), "{name}");
        assert!(small.kept.len() < full, "{name}");
        for text in TEXTS.iter().copied().chain([TALE]) {
            let ids = host.encode_more(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(device.encode(text.as_bytes()), ids, "{name}: {text:?}");
        }
    }
}
