//! Chat templates: the host renders them as the reference does, and the form in which a device writes conversations gives the same text.

mod common;

use bitnet_convert::tokenizer::chat::{self, derive, parse, Chat, ChatFault, Role, Source};
use bitnet_convert::tokenizer::device::chat as device;
use bitnet_convert::tokenizer::DeviceTokenizer;
use common::device::{build_with_runtime, have, SANITIZERS};
use common::{finish, fixture};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

fn source(name: &str) -> Source {
    let template = std::fs::read_to_string(fixture("chat").join(format!("{name}.jinja"))).expect("a template");
    let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(n, t)| (n.to_string(), t.to_string()));
    Source { template, tokens: tokens.into_iter().collect() }
}

/// What a tokenizer.json says about its special tokens.
fn tokenizer(literals: &[&str]) -> Vec<u8> {
    let added: Vec<Value> =
        literals.iter().map(|l| serde_json::json!({"content": l, "normalized": false, "special": true})).collect();
    serde_json::to_vec(&serde_json::json!({ "added_tokens": added })).unwrap()
}

const SPECIAL: [&str; 9] = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|end_header_id|>",
    "<|start_header_id|>",
    "<|end|>",
    "<end_of_turn>",
];

fn form(name: &str) -> Result<derive::Derived, String> {
    source(name).derive(&tokenizer(&SPECIAL))
}

struct Golden {
    conversations: Vec<Vec<(String, String)>>,
    /// None: the reference refuses it.
    texts: BTreeMap<String, Vec<Option<String>>>,
}

fn golden() -> Golden {
    let v: Value = serde_json::from_slice(&std::fs::read(fixture("chat/golden.json")).unwrap()).unwrap();
    let take = |key: &str| serde_json::from_value(v[key].clone()).unwrap();
    Golden { conversations: take("conversations"), texts: serde_json::from_value(v["texts"].clone()).unwrap() }
}

fn with_roles(talk: &[(String, String)]) -> Vec<(Role, &str)> {
    talk.iter().map(|(r, c)| (parse(&format!("{r}:")).expect("a role").0, c.as_str())).collect()
}

#[test]
fn the_host_renders_what_the_reference_renders() {
    let golden = golden();
    assert!(golden.texts.len() >= 12);
    for (name, texts) in &golden.texts {
        let template = source(name).template().unwrap_or_else(|e| panic!("{name}: {e}"));
        for (talk, want) in golden.conversations.iter().zip(texts) {
            let messages: Vec<(&str, &str)> = talk.iter().map(|(r, c)| (r.as_str(), c.as_str())).collect();
            assert_eq!(template.render(&messages).ok().as_ref(), want.as_ref(), "{name}: {messages:?}");
        }
    }
}

#[test]
fn a_device_writes_what_the_reference_renders() {
    let golden = golden();
    let mut written = 0;
    for (name, texts) in &golden.texts {
        let Ok(derived) = form(name) else { continue };
        let chat = Chat::of_section(&derived.chat.section().unwrap()).expect("its own section");
        assert_eq!(chat, derived.chat);
        for (talk, want) in golden.conversations.iter().zip(texts) {
            let messages = with_roles(talk);
            match (chat.text(&messages), want) {
                // What stands between <think> and </think> is taken out by the template and told about.
                (Ok(_), Some(_)) if name == "reasoning" && talk.iter().any(|(_, c)| c.contains("</think>")) => {}
                (Ok(text), Some(want)) => {
                    assert_eq!(&text, want, "{name}");
                    written += 1;
                }
                // The device knows fewer conversations than the reference, never more.
                (Err(ChatFault::System), _) => assert_eq!(messages[0].0, Role::System, "{name}"),
                (got, want) => panic!("{name}: {got:?}, the reference has {want:?}"),
            }
        }
    }
    assert!(written >= 35, "{written}");
}

#[test]
fn forms_of_common_templates() {
    let of = |name: &str| form(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    for name in ["chatml", "smol"] {
        let d = of(name);
        assert!(d.notes.is_empty() && d.chat.system.is_some() && d.chat.strip == [false; 3], "{d:?}");
        assert!(d.chat.start_user.starts_with("<|im_start|>system\nYou "), "the default instructions");
        assert_eq!(d.chat.end, Some((0, "<|im_end|>".len())));
    }
    let d = of("llama3");
    assert_eq!(d.chat.strip, [true; 3]);
    assert!(d.notes.len() == 1 && d.notes[0].contains("date"), "{:?}", d.notes);
    let d = of("llama2");
    assert!(d.chat.system.is_none() && d.chat.strip[1] && d.notes.len() == 1, "instructions are part of a question");
    assert_eq!(d.chat.end, Some((1, "</s>".len())));
    let d = of("zephyr");
    assert!(d.chat.system.is_some() && d.chat.end == Some((0, 4)) && d.chat.assistant_user == "</s>\n<|user|>\n");
    let d = of("phi3");
    assert!(d.chat.system_filled && d.notes.is_empty(), "empty instructions are no message");
    let d = of("gemma");
    assert!(d.chat.system.is_none() && d.chat.user_assistant.contains("<start_of_turn>model"));
    assert!(d.notes[0].contains("there is no role for instructions"), "{:?}", d.notes);
    let d = of("bitnet");
    assert_eq!((d.chat.start_user.as_str(), d.chat.prompt.as_str()), ("<s>User: ", "<|eot_id|>Assistant: "));
    assert!(of("reasoning").notes.iter().any(|n| n.contains("<think>")));
    let d = of("plain");
    assert!(d.chat.end.is_none() && d.notes.iter().any(|n| n.contains("no special token")), "{:?}", d.notes);
}

#[test]
fn templates_that_a_device_cannot_write_are_refused() {
    assert!(form("numbered").unwrap_err().contains("depends on more than its neighbours"));
    assert!(form("shouting").unwrap_err().contains("changed") || form("shouting").unwrap_err().contains("once"));
    let refused = |template: &str, why: &str| {
        let source = Source { template: template.into(), tokens: BTreeMap::new() };
        let said = source.derive(&tokenizer(&SPECIAL)).unwrap_err();
        assert!(said.contains(why), "{said}");
    };
    refused("{% for m in messages %}", "end of");
    refused("{{ raise_exception('never') }}", "never");
    refused("{{ nothing.at.all }}", "undefined");
    refused("{% for i in range(90000) %}{% for k in range(90000) %}x{% endfor %}{% endfor %}", "fuel");
    refused(&"x".repeat(300_000), "at most 262144 are read");
    refused("no messages", "exactly once");
}

/// The token that ends an answer is one only if nothing around it can be found in its place.
#[test]
fn an_end_that_another_token_could_hide_is_none() {
    let end = |literals: &[&str]| source("phi3").derive(&tokenizer(literals)).unwrap().chat.end;
    assert_eq!(end(&["<|end|>", "<|user|>"]), Some((0, 7)));
    assert_eq!(end(&["<|end|>", "<|end|>\n"]), Some((0, 8)), "the longer one");
    assert_eq!(end(&["<|end|>", "a<|end|>"]), None, "an answer could end with a");
    assert_eq!(end(&["<|end|>", "x<|"]), None, "x at the end of an answer takes its beginning");
    assert_eq!(end(&[]), None);
}

#[test]
fn damaged_sections_are_refused() {
    let section = form("chatml").unwrap().chat.section().unwrap();
    assert!(device::Chat::read(&section).is_some());
    for n in 0..section.len() {
        assert!(device::Chat::read(&section[..n]).is_none(), "{n} bytes");
    }
    let changed = |at: usize, byte: u8| {
        let mut s = section.clone();
        s[at] = byte;
        device::Chat::read(&s).is_some()
    };
    assert!(!changed(0, 16) && !changed(1, 1), "reserved bits");
    assert!(!changed(2, 255) && !changed(4, 255), "an end outside of its text");
    assert!(!changed(6, 0) && !changed(9, 1) && !changed(11, 1), "a pool, an offset, a length that do not fit");
    let mut no_text = section.clone();
    no_text[12..16].copy_from_slice(&[255, 255, 0, 0]);
    assert!(device::Chat::read(&no_text).is_none(), "no text before a question");
    // Whatever the bytes, nothing is read outside of them.
    for i in 0..section.len() {
        for byte in [0, 1, 127, 255] {
            let mut s = section.clone();
            s[i] = byte;
            if let Some(chat) = device::Chat::read(&s) {
                let (mut turn, mut out) = (device::Turn::default(), [0; 512]);
                let _ = chat.add(&mut turn, Role::User, b"x", &mut out);
                let _ = chat.prompt(&mut turn, &mut out);
                let _ = chat.answered(&mut turn, &mut out);
                let _ = chat.add(&mut turn, Role::User, b"x", &mut out);
            }
        }
    }
}

#[test]
fn conversations_go_on_after_an_answer() {
    let section = form("zephyr").unwrap().chat.section().unwrap();
    let chat = device::Chat::read(&section).unwrap();
    let (mut turn, mut out) = (device::Turn::default(), [0; 64]);
    let text = |turn: &device::Turn, out: &[u8]| String::from_utf8(out[..turn.length].to_vec()).unwrap();
    assert_eq!(chat.add(&mut turn, Role::Assistant, b"x", &mut out), Err(ChatFault::Order));
    assert_eq!(chat.prompt(&mut turn, &mut out), Err(ChatFault::Order));
    chat.add(&mut turn, Role::User, b"one", &mut out).unwrap();
    assert_eq!(chat.answered(&mut turn, &mut out), Err(ChatFault::Order));
    assert_eq!(chat.add(&mut turn, Role::User, b"x", &mut out), Err(ChatFault::Order));
    chat.prompt(&mut turn, &mut out).unwrap();
    assert_eq!((text(&turn, &out).as_str(), turn.skip), ("<|user|>\none</s>\n<|assistant|>\n", 0));
    chat.answered(&mut turn, &mut out).unwrap();
    assert_eq!((text(&turn, &out).as_str(), turn.skip), ("</s>", 0));
    let before = turn;
    assert_eq!(chat.add(&mut turn, Role::User, &[b'x'; 60], &mut out), Err(ChatFault::Room));
    assert_eq!(turn, before, "as before");
    chat.add(&mut turn, Role::User, b"two", &mut out).unwrap();
    chat.prompt(&mut turn, &mut out).unwrap();
    assert_eq!((text(&turn, &out).as_str(), turn.skip), ("</s>\n<|user|>\ntwo</s>\n<|assistant|>\n", 1));
}

#[test]
fn messages_are_given_as_role_and_text() {
    assert_eq!(parse("user:a:b"), Ok((Role::User, "a:b".into())));
    assert!(parse("hello").unwrap_err().contains("ROLE:TEXT"));
    assert!(parse("bot:x").unwrap_err().contains("`bot` is no role"));
}

/// Several templates have names; token names may be text or objects.
#[test]
fn tokenizer_config_is_read_in_all_its_forms() {
    let config = serde_json::json!({
        "chat_template": [{"name": "tools", "template": "a"}, {"name": "default", "template": "b"}],
        "bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null, "model_max_length": 4
    });
    let source = Source::new(None, Some(&config));
    assert_eq!(source.template, "b");
    assert_eq!(
        source.tokens.iter().map(|(n, t)| format!("{n}={t}")).collect::<Vec<_>>(),
        ["bos_token=<s>", "eos_token=</s>"]
    );
    assert_eq!(Source::new(Some("c".into()), Some(&config)).template, "c", "the file wins");
    assert_eq!(Source::new(None, None), Source::default());
}

/// A tokenizer with the special tokens of ChatML, and the form of that template in its blob.
fn with_chatml() -> (Vec<u8>, DeviceTokenizer, Source) {
    let json = std::fs::read(fixture("tokenizers/bytes-smollm/tokenizer.json")).expect("a fixture");
    let source = source("chatml");
    let blob = bitnet_convert::tokenizer::compile(&json).expect("the device form");
    let (with, notes) = chat::with_template(blob.clone(), &source, &json);
    assert!(notes.is_empty() && with.len() > blob.len(), "{notes:?}");
    let device = DeviceTokenizer::from_bytes(&with).expect("a blob with one more section");
    assert!(chat::attach(&with, &Chat::of_blob(&with).expect("its form")).is_none(), "it has one already");
    (with, device, source)
}

/// What C encodes, turn by turn, is what the host encodes of the rendered conversation.
#[test]
fn a_device_in_c_encodes_conversations() {
    if !have("conversations in C", &["cc"]) {
        return;
    }
    let (blob, device, source) = with_chatml();
    let dir = tempfile::tempdir().unwrap();
    let program = build_with_runtime(dir.path(), "chat_driver.c", "cc", &SANITIZERS);
    let file = dir.path().join("tokenizer.bin");
    std::fs::write(&file, &blob).unwrap();
    let said = |words: &[&str]| -> Vec<String> {
        let out = finish(Command::new(&program).arg(&file).args(words)).ok().stdout;
        out.lines().map(str::to_string).collect()
    };
    let ids = |text: &str| {
        let ids = device.encode(text.as_bytes());
        ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
    };
    let template = source.template().unwrap();
    let talk = [("system", "Be brief."), ("user", " one\n"), ("assistant", "two "), ("user", "")];
    let words: Vec<&str> = talk.iter().flat_map(|(r, c)| [*r, *c]).collect();
    let lines = said(&[&words[..], &["prompt", "answered", "user", "more", "prompt"]].concat());
    assert_eq!(lines[0], "has 2");
    assert_eq!(lines[1], ids(&template.render(&talk).unwrap()));
    assert_eq!(lines[2], ids("<|im_end|>"));
    let (end, rest) = ("<|im_end|>", "\n<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(format!("{},{}", ids(end), lines[3]), ids(&format!("{end}{rest}")));
    assert_eq!(lines[4], "status 0");
    let status = |words: &[&str]| said(words).pop().unwrap();
    for words in
        [&["assistant", "x"][..], &["prompt"], &["user", "x", "user", "y"], &["user", "x", "prompt", "user", "y"]]
    {
        assert_eq!(status(words), "status 13", "BITNET_E_STATE: {words:?}");
    }
    assert_eq!(status(&["user", &"x".repeat(5000)]), "status 10", "BITNET_E_CAPACITY");
    // White space is the same in both languages: every kind of it, and what looks like it.
    let mut stripped = Chat::of_blob(&blob).unwrap();
    stripped.strip = [true; 3];
    let plain = chat::attach(
        &bitnet_convert::tokenizer::compile(&std::fs::read(fixture("tokenizers/bytes-smollm/tokenizer.json")).unwrap())
            .unwrap(),
        &stripped,
    );
    std::fs::write(&file, plain.unwrap()).unwrap();
    let spaces = "\t\n\u{b}\u{c}\r\u{1c}\u{1d}\u{1e}\u{1f} \u{85}\u{a0}\u{1680}\u{2000}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}";
    for content in [
        format!("{spaces}a b{spaces}"),
        spaces.to_string(),
        format!("\u{200b}{spaces}\u{feff}"),
        "\u{180e}x\u{2060}".into(),
    ] {
        let text = stripped.text(&[(Role::User, content.as_str())]).unwrap();
        assert_eq!(said(&["user", &content, "prompt"])[1], ids(&text), "{content:?}");
    }
}

/// Sections that break a rule are refused when a conversation is opened, whatever the bytes are.
#[test]
fn c_refuses_damaged_sections() {
    if !have("conversations in C", &["cc"]) {
        return;
    }
    let (blob, ..) = with_chatml();
    let section = Chat::of_blob(&blob).unwrap().section().unwrap();
    let at = blob.len() - section.len();
    assert_eq!(&blob[at..], &section[..]);
    let dir = tempfile::tempdir().unwrap();
    let program = build_with_runtime(dir.path(), "chat_driver.c", "cc", &SANITIZERS);
    let file = dir.path().join("tokenizer.bin");
    let (mut refused, mut taken) = (0, 0);
    for i in 0..device::HEAD {
        for byte in [0, 1, 16, 127, 255] {
            let mut bad = blob.clone();
            bad[at + i] = byte;
            std::fs::write(&file, &bad).unwrap();
            let out = finish(
                Command::new(&program).arg(&file).args(["user", "x", "prompt", "answered", "user", "y", "prompt"]),
            )
            .ok()
            .stdout;
            match device::Chat::read(&bad[at..]) {
                None => {
                    assert!(out.contains("has 0") && out.contains("status 9"), "byte {i} = {byte}: {out}");
                    refused += 1;
                }
                Some(_) => {
                    assert!(out.contains("has 2"), "byte {i} = {byte}: {out}");
                    taken += 1;
                }
            }
        }
    }
    assert!(refused > 50 && taken > 20, "{refused} {taken}");
}
