//! The device tokenizer against the reference library, and the C code against the Rust code.
//!
//! Real tokenizers are looked for in `fixtures/tokenizers` or `$BITNET_TOKENIZERS`; where
//! they or a C compiler are missing, the test says "not run" and passes.

mod tokenizer_support;

use bitnet_convert::tokenizer::{compile, fuzz_device_blob, load, DeviceTokenizer};
use serde_json::{json, Value};
use tokenizer_support::*;
use tokenizers::Tokenizer;

#[test]
fn fixture_agrees_with_the_reference() {
    let source = fixture();
    let (blob, device) = agree("fixture", &source, &texts());
    decodes("fixture", &source, &blob, &device);
    println!("intent-w1a2: {} bytes, {:.2} an entry", blob.len(), blob.len() as f64 / 1024.0);
    assert!(blob.len() <= 8 * 1024, "{} bytes", blob.len());
    assert_eq!(blob, build(&source).0, "the same file gives the same bytes");
}

#[test]
fn every_scalar_alone_and_in_context() {
    let mut list: Vec<String> = scalars().map(String::from).collect();
    list.extend(contexts(1, |_| false));
    let mut expected = Vec::with_capacity(list.len());
    let (blob, device) = build(&fixture());
    let reference = Tokenizer::from_bytes(fixture().to_string()).expect("the fixture loads");
    let mut script = Script::default();
    script.open(&blob);
    for text in &list {
        let encoding = reference.encode_fast(text.as_str(), false).expect("the reference encodes");
        let ids = device.encode(text.as_bytes());
        assert_eq!(ids, encoding.get_ids(), "{text:?}");
        script.text(text.len(), text.as_bytes());
        expected.push(ids);
    }
    let Some(mut answers) = script.run("scalars") else {
        return;
    };
    assert_eq!(answers.number(), OK);
    for (text, ids) in list.iter().zip(expected) {
        assert_eq!(answers.ids(), (OK, ids), "C, {text:?}");
    }
}

#[test]
fn every_pre_tokenizer_agrees_with_the_reference() {
    let number = tokenizers::utils::SysRegex::new(r"\p{N}").expect("a pattern");
    // `Digits` of the reference asks the standard library, whose Unicode version moves with
    // the compiler; ours stays with the one of the regular expressions.
    let moving = |c: char| c.is_numeric() != number.find_iter(c.encode_utf8(&mut [0; 4])).next().is_some();
    let variants = [
        // The two patterns, with all of Unicode.
        (true, "digit", with_pre(vec![digits(true), byte_level(false, true)])),
        (true, "llama3", with_pre(vec![regex_split(LLAMA3), byte_level(false, false)])),
        (false, "plain", with_pre(vec![byte_level(false, false)])),
        (false, "prefix", with_pre(vec![byte_level(true, true)])),
        (false, "prefix-plain", with_pre(vec![byte_level(true, false)])),
        (false, "digits", with_pre(vec![digits(false), byte_level(false, true)])),
        (false, "digit-prefix", with_pre(vec![digits(true), byte_level(true, true)])),
        (false, "qwen2", with_pre(vec![regex_split(QWEN2), byte_level(false, false)])),
        (false, "llama3-gpt2", with_pre(vec![regex_split(LLAMA3), byte_level(true, true)])),
    ];
    for (all, name, source) in variants {
        let skip = |c: char| moving(c) || !(all || sampled(c));
        let mut list: Vec<String> = texts().into_iter().filter(|text| !text.chars().any(moving)).collect();
        list.extend(contexts(48, skip));
        let after_apostrophe: Vec<char> = scalars().filter(|&c| !moving(c) && sampled(c)).collect();
        list.extend(after_apostrophe.chunks(64).map(|chunk| chunk.iter().map(|c| format!("'{c}{c}")).collect()));
        agree(name, &source, &list);
    }
}

/// The same vocabulary with other ids, other ranks, missing bytes and missing merges.
#[test]
fn unusual_vocabularies_agree_with_the_reference() {
    let texts = texts();
    let mut random = Random(77);

    // A merge stays behind those of its halves, which are shorter.
    let mut source = fixture();
    let merges = source["model"]["merges"].as_array_mut().expect("a list");
    merges.sort_by_cached_key(|pair| {
        (pair[0].to_string().chars().count() + pair[1].to_string().chars().count(), random.next())
    });
    let (blob, device) = agree("shuffled-ranks", &source, &texts);
    decodes("shuffled-ranks", &source, &blob, &device);

    let mut source = fixture();
    for (_, id) in source["model"]["vocab"].as_object_mut().expect("a map") {
        let old = id.as_u64().expect("an id");
        if old >= 6 {
            *id = json!(1029 - old);
        }
    }
    let (blob, device) = agree("reversed-ids", &source, &texts);
    decodes("reversed-ids", &source, &blob, &device);

    let mut source = fixture();
    source["model"]["ignore_merges"] = json!(true);
    let mut k = 0;
    source["model"]["merges"].as_array_mut().expect("a list").retain(|_| {
        k += 1;
        k % 7 != 0
    });
    let (blob, device) = agree("ignore-merges", &source, &texts);
    decodes("ignore-merges", &source, &blob, &device);
    source["model"]["ignore_merges"] = json!(false);
    let (blob, device) = agree("orphans", &source, &texts);
    decodes("orphans", &source, &blob, &device);

    let mut source = fixture();
    let merges = source["model"]["merges"].to_string();
    let vocab = source["model"]["vocab"].as_object_mut().expect("a map");
    vocab.retain(|token, _| token.chars().count() > 1 || merges.contains(token.as_str()));
    assert!(vocab.len() < 1024, "some bytes are not in any merge");
    let (blob, device) = agree("missing-bytes", &source, &texts);
    decodes("missing-bytes", &source, &blob, &device);

    // A token built one byte at a time needs more pending halves than a decoder keeps.
    let mut source = fixture();
    for k in 2..=60 {
        source["model"]["vocab"]["q".repeat(k)] = json!(1022 + k);
        let merge = json!(["q".repeat(k - 1), "q"]);
        source["model"]["merges"].as_array_mut().expect("a list").push(merge);
    }
    let runs: Vec<String> = (1..130).map(|k| "q".repeat(k) + " x").collect();
    let (blob, device) = agree("deep", &source, &runs);
    decodes("deep", &source, &blob, &device);

    let mut source = fixture();
    source["model"]["merges"] = source["model"]["merges"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|pair| format!("{} {}", pair[0].as_str().expect("a token"), pair[1].as_str().expect("a token")))
        .collect();
    assert_eq!(build(&source).0, build(&fixture()).0, "both ways to write merges");

    let mut source = fixture();
    let vocab = source["model"]["vocab"].clone();
    let added = source["added_tokens"].as_array_mut().expect("a list");
    for (k, content) in ["<|", "<|end", "ing", " the", "中"].into_iter().enumerate() {
        let known = vocab.get(content).and_then(Value::as_u64);
        let new = added.iter().filter(|token| token["id"].as_u64() >= Some(1024)).count() as u64;
        let id = known.unwrap_or(1024 + new);
        added.push(json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": k % 2 == 0}));
    }
    let (blob, device) = agree("added", &source, &texts);
    decodes("added", &source, &blob, &device);
}

/// Small vocabularies with merges in any order: those that come before the merges of their halves too, as Llama 2 has them.
#[test]
fn merges_in_any_order_agree_with_the_reference() {
    let mut random = Random(99);
    let (mut agreed, mut refused) = (0, 0);
    for round in 0..48 {
        let letters = 1 + random.below(4);
        let mut tokens: Vec<String> = ('a'..='d').take(letters).map(String::from).collect();
        let mut merges: Vec<[String; 2]> = Vec::new();
        for _ in 0..random.below(25) {
            let pair = [(); 2].map(|()| tokens[random.below(tokens.len())].clone());
            let token = pair.concat();
            if token.len() <= 24 && !merges.contains(&pair) {
                if !tokens.contains(&token) {
                    tokens.push(token);
                }
                merges.push(pair);
            }
        }
        if round % 2 == 0 {
            (1..merges.len()).rev().for_each(|k| merges.swap(k, random.below(k + 1)));
        }
        let vocab: serde_json::Map<String, Value> =
            tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
        let bytes = round % 3 != 0;
        let fuse = json!({"type": "Fuse"});
        let source = json!({
            "added_tokens": [],
            "pre_tokenizer": if bytes { byte_level(false, false) } else { Value::Null },
            "decoder": if bytes { byte_level(false, false) } else { fuse },
            "model": {"type": "BPE", "ignore_merges": round % 5 == 0, "vocab": vocab, "merges": merges},
        });
        if let Err(error) = compile(source.to_string().as_bytes()) {
            assert!(error.to_string().contains("grow to the other side"), "{error}");
            refused += 1;
            continue;
        }
        let mut text = |k: usize| {
            let length = if k % 10 == 9 { 150 + random.below(500) } else { random.below(30) };
            let mut text = String::new();
            while text.len() < length {
                let any = if k.is_multiple_of(3) { tokens.len() } else { letters };
                text += &tokens[random.below(any)];
            }
            text
        };
        let list: Vec<String> = (0..60).map(&mut text).collect();
        agree(&format!("order-{round}"), &source, &list);
        agreed += 1;
    }
    assert!(agreed > 30 && refused > 0, "{agreed} {refused}");
}

#[test]
fn real_tokenizers_agree_with_the_reference() {
    for name in ["gpt2", "smollm2", "qwen3"] {
        let Some(folder) = real_tokenizers(name) else {
            continue;
        };
        let source: Value = serde_json::from_slice(&load(&folder).unwrap_or_else(|e| panic!("{e}"))).expect("JSON");
        let (blob, device) = agree(name, &source, &texts());
        decodes(name, &source, &blob, &device);
        println!("{name}: {} bytes, {:.2} an entry", blob.len(), blob.len() as f64 / f64::from(device.vocab_size()));
    }
}

#[test]
fn bytes_that_are_not_utf8_encode_alike_in_rust_and_c() {
    let sources = [
        fixture(),
        with_pre(vec![regex_split(LLAMA3), byte_level(false, false)]),
        with_pre(vec![digits(true), byte_level(true, true)]),
    ];
    for (k, source) in sources.iter().enumerate() {
        let (blob, device) = build(source);
        let mut random = Random(5 + k as u64);
        let mut script = Script::default();
        script.open(&blob);
        let mut list = Vec::new();
        for _ in 0..4000 {
            let text: Vec<u8> = (0..random.below(40))
                .flat_map(|_| match random.below(4) {
                    0 => vec![random.next() as u8],
                    1 => vec![[0xc3, 0xe4, 0xf0, 0xed, 0xa0, 0x80, 0xbf, 0xff][random.below(8)]],
                    _ => PIECES[random.below(PIECES.len())].as_bytes().to_vec(),
                })
                .collect();
            script.text(room(&text), &text);
            let decoded: Vec<u8> =
                device.encode(&text).iter().flat_map(|&id| device.decode_token(id).expect("a token")).collect();
            assert!(k == 2 || decoded == text, "nothing is lost: {text:x?}");
            list.push(text);
        }
        let Some(mut answers) = script.run(&format!("not-utf8-{k}")) else {
            return;
        };
        assert_eq!(answers.number(), OK);
        for text in &list {
            assert_eq!(answers.ids(), (OK, device.encode(text)), "{text:x?}");
        }
    }
}

#[test]
fn long_words_are_not_quadratic() {
    let (blob, device) = build(&with_pre(vec![byte_level(false, false)]));
    let long = "a".repeat(100_000) + &"an the ssi".repeat(10_000);
    let started = std::time::Instant::now();
    let ids = device.encode(long.as_bytes());
    let bytes: Vec<u8> = ids.iter().flat_map(|&id| device.decode_token(id).expect("a token")).collect();
    assert_eq!(bytes, long.as_bytes());
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    let short = &long.as_bytes()[99_000..101_000];
    let mut script = Script::default();
    script.open(&blob).text(room(short), short).text(short.len(), short).text(100, short);
    script.words(b'U', &[]);
    let Some(mut answers) = script.run("long") else {
        return;
    };
    assert_eq!(answers.number(), OK);
    assert_eq!(answers.ids(), (OK, device.encode(short)));
    assert_eq!(answers.ids(), (OK, device.encode(short)));
    assert_eq!(answers.ids(), (E_CAPACITY, vec![]));
    assert_eq!(answers.number(), E_STATE);
}

/// Damaged blobs: no panic, no sanitizer report, and Rust and C judge and compute alike.
#[test]
fn hostile_blobs_are_refused_or_harmless() {
    let mut explicit = fixture();
    explicit["model"]["merges"].as_array_mut().expect("a list").swap(3, 400);
    explicit["model"]["ignore_merges"] = json!(true);
    explicit["post_processor"] = template(&["<|bos|>"], &["<|end|>"]);
    let mut small = explicit.clone();
    small["model"]["merges"].as_array_mut().expect("a list").truncate(40);
    small["model"]["vocab"].as_object_mut().expect("a map").retain(|_, id| id.as_u64() < Some(302));
    small["model"]["merges"].as_array_mut().expect("a list").retain(|pair| pair[0] != "zz");
    small["model"]["merges"].as_array_mut().expect("a list").swap_remove(3);
    let text = "<|bos|>don't  12 ssi the\n\n an é中🙂 <|end|>";
    for (name, source, flips) in [("packed", &fixture(), 4000), ("explicit", &explicit, 4000), ("small", &small, 8000)]
    {
        let (blob, _) = build(source);
        let mut random = Random(blob.len() as u64);
        let mut blobs: Vec<Vec<u8>> = Vec::new();
        for length in 0..blob.len() {
            blobs.push(blob[..length].to_vec());
            if length % 7 == 0 && length >= 12 {
                // As short, but it says so itself.
                let mut cut = blob[..length].to_vec();
                cut[8..12].copy_from_slice(&(length as u32).to_le_bytes());
                blobs.push(cut);
            }
        }
        let truncated = blobs.len();
        for _ in 0..flips {
            let mut bad = blob.clone();
            for _ in 0..1 + random.below(3) {
                let part = [48, 120, bad.len()][random.below(3)];
                let mut at = random.below(part);
                if random.below(8) == 0 {
                    // The end of the class table, where a range can leave Unicode.
                    at = bad.len() - 1 - random.below(4);
                }
                bad[at] = if random.below(2) == 0 { bad[at] ^ 1 << random.below(8) } else { random.next() as u8 };
            }
            blobs.push(bad);
        }
        let mut script = Script::default();
        let mut accepted = 0;
        let opened: Vec<Option<DeviceTokenizer>> =
            blobs.iter().map(|blob| DeviceTokenizer::from_bytes(blob).ok()).collect();
        for (k, (bad, device)) in blobs.iter().zip(&opened).enumerate() {
            assert!(device.is_none() || k >= truncated, "{name}: {} bytes are not enough", bad.len());
            script.open(bad).text(room(text.as_bytes()), text.as_bytes());
            accepted += usize::from(device.is_some());
            for id in [0, 100, 270, 299, 1000] {
                script.words(b'D', &[65_535, id]);
            }
            let mut data = (bad.len() as u16).to_le_bytes().to_vec();
            data.extend_from_slice(bad);
            data.extend_from_slice(text.as_bytes());
            fuzz_device_blob(&data);
        }
        println!("{name}: {} hostile blobs, {accepted} of them still tokenizers", blobs.len());
        let Some(mut answers) = script.run(&format!("hostile-{name}")) else {
            return;
        };
        for (k, device) in opened.iter().enumerate() {
            assert_eq!(
                answers.number() == OK,
                device.is_some(),
                "{name} {k}: {:?}",
                DeviceTokenizer::from_bytes(&blobs[k]).err()
            );
            let expected = device.as_ref().map_or((E_STATE, vec![]), |device| (OK, device.encode(text.as_bytes())));
            assert_eq!(answers.ids(), expected, "{name} {k}");
            for id in [0, 100, 270, 299, 1000] {
                let (status, bytes) = answers.bytes();
                let decoded = device.as_ref().and_then(|device| device.decode_token(id));
                assert_eq!((status == OK).then_some(bytes), decoded, "{name} {k}: id {id}");
            }
        }
    }
}

#[test]
fn template_ids_are_kept_beside_the_text() {
    let mut source = fixture();
    source["post_processor"] = template(&["<|bos|>", "<|system|>"], &["<|end|>"]);
    let (blob, device) = build(&source);
    assert_eq!((device.prefix_ids(), device.suffix_ids()), (&[1, 3][..], &[2][..]));
    assert_eq!(device.encode(b"hi"), build(&fixture()).1.encode(b"hi"));
    let chain = json!({"type": "Sequence", "processors": [byte_level(true, true), source["post_processor"]]});
    source["post_processor"] = chain;
    assert_eq!(build(&source).0, blob);
    let mut script = Script::default();
    script.open(&blob).words(b'A', &[0]).words(b'A', &[1]);
    let Some(mut answers) = script.run("template") else {
        return;
    };
    assert_eq!((answers.number(), answers.ids(), answers.ids()), (OK, (OK, vec![1, 3]), (OK, vec![2])));
}

#[test]
fn what_is_not_supported_is_named() {
    let cases: &[(&str, Value, &str)] = &[
        ("/normalizer", json!({"type": "Bogus"}), "Bogus"),
        ("/decoder", json!({"type": "WordPiece"}), "`decoder.type` = WordPiece"),
        ("/decoder", json!({"type": "Sequence", "decoders": [{"type": "Fuse"}]}), "`decoder.type` = Sequence"),
        // Without bytes the model is one of characters, and the decoder does not fit.
        ("/pre_tokenizer", Value::Null, "`decoder` = {"),
        ("/pre_tokenizer", json!({"type": "Metaspace", "replacement": "_"}), "`pre_tokenizer.replacement` = _"),
        ("/pre_tokenizer", json!({"type": "Whitespace"}), "`pre_tokenizer.type` = Whitespace"),
        (
            "/pre_tokenizer",
            json!({"type": "Sequence", "pretokenizers": [regex_split(r"\w+"), byte_level(false, false)]}),
            "`pre_tokenizer.pattern`",
        ),
        (
            "/pre_tokenizer",
            json!({"type": "Sequence", "pretokenizers": [byte_level(false, true), digits(true)]}),
            "one splitter, then",
        ),
        (
            "/pre_tokenizer",
            json!({"type": "Sequence", "pretokenizers": [digits(true), digits(false), byte_level(false, true)]}),
            "one splitter, then",
        ),
        ("/post_processor", json!({"type": "RobertaProcessing"}), "post_processor.cls"),
        ("/post_processor", json!({"type": "Custom"}), "`post_processor.type` = Custom"),
        ("/model/type", json!("Unigram"), "only with `BPE`"),
        ("/model/type", json!("WordLevel"), "`model.type` = WordLevel"),
        ("/model/dropout", json!(0.1), "`model.dropout` = 0.1"),
        ("/model/end_of_word_suffix", json!("</w>"), "`model.end_of_word_suffix` = </w>"),
        ("/added_tokens/2/single_word", json!(true), "added_tokens[`<|end|>`].single_word"),
        ("/added_tokens/2/id", json!(7), "the reference tokenizer gives it 2"),
        ("/model/merges/0", json!(["no", "such token"]), "is not in the vocabulary"),
        ("/model/vocab/st", json!(5), "two tokens have the id 5"),
        ("/model/vocab/st", json!(1 << 20), "ids must be below 1048576"),
    ];
    for (path, value, expected) in cases {
        let mut source = fixture();
        *source.pointer_mut(path).unwrap_or_else(|| panic!("{path} is in the fixture")) = value.clone();
        let error = compile(source.to_string().as_bytes()).expect_err(path).to_string();
        assert!(error.contains(expected), "{path}: {error}");
    }
    let mut source = fixture();
    source["model"]["unk_token"] = json!("<|pad|>");
    compile(source.to_string().as_bytes()).expect("harmless while every byte has an id");
    source["model"]["vocab"].as_object_mut().expect("a map").remove("\u{143}");
    let error = compile(source.to_string().as_bytes()).expect_err("a byte is missing").to_string();
    assert!(error.contains("`model.unk_token`") && error.contains("0xad"), "{error}");
    assert!(error.contains("may be exported without a device tokenizer"), "{error}");
    assert!(compile(b"{").is_err() && compile(b"[]").is_err() && compile(b"{}").is_err());
}

/// The example in docs/format/tokenizer.md is what `compile` writes.
#[test]
fn the_worked_example_is_true() {
    let source = json!({
        "added_tokens": [{"id": 5, "content": "<e>", "special": true}],
        "pre_tokenizer": byte_level(false, false),
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "\u{120}": 2, "ab": 3, "\u{120}ab": 4},
            "merges": ["a b", "\u{120} ab"]},
    });
    let (blob, device) = build(&source);
    let page = std::fs::read_to_string(root().join("docs/format/tokenizer.md")).expect("the document");
    let start = page.find("```hex").expect("an example") + "```hex".len();
    let end = page[start..].find("```").expect("its end") + start;
    let hex: String = page[start..end]
        .lines()
        .flat_map(|line| line.split(';').next().unwrap_or_default().split_whitespace())
        .collect();
    let ours: String = blob.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, ours);
    assert_eq!(device.encode(b"ab ab<e>b?"), [3, 4, 5, 1]);
}
