//! Rules files: what is refused and where; what the compiled tables match, against a plain reading of the same patterns.

use crate::common::device::have;
use crate::common::{root, Rng};
use bitnet_convert::export::c::write_runtime;
use bitnet_convert::export::rules::{header, Rules, MOST_POSITIONS};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

#[track_caller]
fn refused(bytes: &[u8], place: &str, says: &str) {
    let e = Rules::parse(bytes).expect_err("a mistake");
    assert!(e.message().starts_with(place) && e.message().contains(says), "{}", e.message());
    assert!(e.next_step().is_some(), "a hint");
}

#[test]
fn an_empty_file_has_no_rules() {
    refused(b"", "there is no rule", "");
    refused(b"# only a comment\n\n", "there is no rule", "");
}

#[test]
fn a_line_without_an_arrow_is_refused() {
    refused(b"# first\nlight on\n", "line 2, column 9", "no `->`");
}

#[test]
fn an_empty_pattern_is_refused() {
    refused(b"-> yes", "line 1, column 1", "pattern is empty");
    refused(b"   -> yes", "line 1, column 1", "pattern is empty");
    refused(b"a () -> yes", "line 1, column 4", "nothing stands here");
    refused(b"a | -> yes", "line 1, column 4", "nothing stands here");
    refused(b"(a | ) b -> yes", "line 1, column 6", "nothing stands here");
    refused(b"[] -> yes", "line 1, column 2", "nothing stands here");
}

#[test]
fn an_empty_answer_is_refused() {
    refused(b"a ->  ", "line 1, column 5", "answer is empty");
}

#[test]
fn a_group_that_is_not_closed_is_refused() {
    refused(b"turn (on | off -> x", "line 1, column 6", "`(` is not closed");
    refused(b"ok -> x\nturn [on -> x", "line 2, column 6", "`[` is not closed");
    refused(b"a (b] -> x", "line 1, column 3", "closed by another");
    refused(b"a ) b -> x", "line 1, column 3", "closes nothing");
}

#[test]
fn too_deep_groups_are_refused() {
    let deep = |n: usize| format!("{}a{} -> x", "(".repeat(n), ")".repeat(n));
    assert!(Rules::parse(deep(8).as_bytes()).is_ok());
    refused(deep(9).as_bytes(), "line 1, column 9", "groups in more than 8");
    refused(deep(30_000).as_bytes(), "line 1, column 9", "groups in more than 8");
}

#[test]
fn too_long_patterns_are_refused() {
    let long = |n: usize| format!("{}-> x", "a ".repeat(n));
    assert!(Rules::parse(long(MOST_POSITIONS).as_bytes()).is_ok());
    refused(long(MOST_POSITIONS + 1).as_bytes(), "line 1, column 65", "more than 32 words");
    refused(format!("b {} -> x", "w".repeat(65)).as_bytes(), "line 1, column 3", "more than 64 bytes");
}

#[test]
fn too_long_answers_are_refused() {
    assert!(Rules::parse(format!("a -> {}", "x".repeat(256)).as_bytes()).is_ok());
    refused(format!("a -> {}", "x".repeat(257)).as_bytes(), "line 1, column 5", "257 bytes");
}

#[test]
fn too_many_rules_are_refused() {
    let many = |n: usize| (0..n).map(|i| format!("w{i} -> x\n")).collect::<String>();
    assert!(Rules::parse(many(256).as_bytes()).is_ok());
    refused(many(257).as_bytes(), "line 257, column 1", "more than 256 rules");
}

#[test]
fn a_pattern_that_is_there_already_is_refused() {
    refused(b"Turn  ON * -> a\n\nturn on* -> b", "line 3, column 1", "the same pattern as in line 1");
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    refused(b"ok -> x\nab \xff -> y", "line 2, column 4", "not UTF-8");
    refused(b"\xc3\xa4 \xc3", "line 1, column 3", "not UTF-8");
    refused(b"a\x00b -> y", "line 1, column 2", "control character");
    refused(b"a -> y\x1b[31m", "line 1, column 7", "control character");
    refused(b"a -> y\rb -> z", "line 1, column 7", "control character");
    refused("a\u{a0}b -> y".as_bytes(), "line 1, column 2", "a space that is not");
    refused(b"a -> b\tc", "line 1, column 7", "a tab");
}

#[test]
fn signs_without_a_meaning_are_refused() {
    refused(b"what's up? -> x", "line 1, column 10", "`?` has no meaning");
    refused(b"turn-on -> x", "line 1, column 5", "`-` has no meaning");
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_read() {
    let r = Rules::parse(b"\xef\xbb\xbfa -> x\r\nb -> y -> z\r\n").unwrap();
    assert_eq!(r.rules.iter().map(|r| r.answer.as_str()).collect::<Vec<_>>(), ["x", "y -> z"]);
}

/// A pattern as a tree, written and read without the code under test.
enum Tree {
    Word(&'static str),
    Star,
    Row(Vec<Tree>),
    Choice(Vec<Tree>),
    Maybe(Box<Tree>),
}

const WORDS: [&str; 5] = ["on", "off", "the", "light", "it's"];

impl Tree {
    fn random(rng: &mut Rng, depth: usize) -> Tree {
        match rng.below(if depth == 0 { 4 } else { 8 }) {
            0..=2 => Tree::Word(WORDS[rng.below(WORDS.len())]),
            3 => Tree::Star,
            4 | 5 => Tree::Row((0..1 + rng.below(3)).map(|_| Tree::random(rng, depth - 1)).collect()),
            6 => Tree::Choice((0..2 + rng.below(2)).map(|_| Tree::random(rng, depth - 1)).collect()),
            _ => Tree::Maybe(Box::new(Tree::random(rng, depth - 1))),
        }
    }

    fn size(&self) -> usize {
        match self {
            Tree::Word(_) | Tree::Star => 1,
            Tree::Row(t) | Tree::Choice(t) => t.iter().map(Tree::size).sum(),
            Tree::Maybe(t) => t.size(),
        }
    }

    fn text(&self) -> String {
        let all = |t: &[Tree], by: &str| t.iter().map(Tree::text).collect::<Vec<_>>().join(by);
        match self {
            Tree::Word(w) => (*w).to_string(),
            Tree::Star => "*".into(),
            Tree::Row(t) => format!("({})", all(t, " ")),
            Tree::Choice(t) => format!("({})", all(t, "|")),
            Tree::Maybe(t) => format!("[{}]", t.text()),
        }
    }

    /// Where a match of `words` may end that starts at one of `starts`.
    fn ends(&self, words: &[&str], starts: &BTreeSet<usize>) -> BTreeSet<usize> {
        match self {
            Tree::Word(w) => starts.iter().filter(|s| words.get(**s) == Some(w)).map(|s| s + 1).collect(),
            Tree::Star => starts.iter().flat_map(|s| *s..=words.len()).collect(),
            Tree::Row(t) => t.iter().fold(starts.clone(), |at, t| t.ends(words, &at)),
            Tree::Choice(t) => t.iter().flat_map(|t| t.ends(words, starts)).collect(),
            Tree::Maybe(t) => starts.union(&t.ends(words, starts)).copied().collect(),
        }
    }
}

fn build_driver(dir: &Path, rules: &Rules) -> std::path::PathBuf {
    write_runtime(dir).expect("the runtime sources");
    std::fs::write(dir.join("ports/bitnet_rules.h"), header(Some(rules))).expect("the rules");
    let sources =
        ["runtime/bitnet_math.c", "runtime/bitnet_fallback.c", "runtime/bitnet_model.c", "runtime/bitnet_check.c"];
    let program = dir.join("rules_driver");
    let mut cc = Command::new("cc");
    cc.current_dir(dir).args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-fsanitize=address,undefined"]);
    cc.args(["-fno-sanitize-recover=all", "-Iruntime", "-Iports", "-ffunction-sections", "-Wl,--gc-sections"]);
    let out = std::fs::read_dir(dir.join("runtime")).expect("the runtime").map(|e| e.expect("an entry").path());
    assert!(sources.iter().all(|s| dir.join(s).is_file()));
    cc.args(out.filter(|p| p.extension().is_some_and(|e| e == "c"))).arg(root().join("tests/c/rules_driver.c"));
    let out = cc.arg("-o").arg(&program).output().expect("cc starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    program
}

fn matched(program: &Path, texts: &[String]) -> Vec<usize> {
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let lines = texts.join("\n") + "\n";
    let mut pipe = child.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || pipe.write_all(lines.as_bytes()).expect("the texts"));
    let out = child.wait_with_output().expect("it ends");
    writer.join().expect("written");
    assert!(out.status.success());
    String::from_utf8_lossy(&out.stdout).lines().map(|l| l.parse().expect("a number")).collect()
}

#[test]
fn the_device_matches_what_the_patterns_say() {
    if !have("rules in C", &["cc"]) {
        return;
    }
    let mut rng = Rng(7);
    let mut trees: Vec<Tree> = Vec::new();
    let mut seen = BTreeSet::new();
    while trees.len() < 200 {
        let t = Tree::random(&mut rng, 4);
        if t.size() <= MOST_POSITIONS && seen.insert(t.text()) && t.text() != "*" {
            trees.push(t);
        }
    }
    let mut texts = vec![String::new()];
    for _ in 0..400 {
        let n = rng.below(9);
        let words: Vec<&str> =
            (0..n).map(|_| if rng.below(9) == 0 { "lamp" } else { WORDS[rng.below(WORDS.len())] }).collect();
        texts.push(words.join(" "));
    }
    // One rule at a time answers what it answers alone; groups of them show the order.
    let dir = tempfile::tempdir().expect("a temporary folder");
    for group in [&trees[..120], &trees[120..]] {
        let file: String = group.iter().map(|t| format!("{} -> x\n", t.text())).collect();
        let rules = Rules::parse(file.as_bytes()).unwrap_or_else(|e| panic!("{e}\n{file}"));
        let got = matched(&build_driver(dir.path(), &rules), &texts);
        for (text, got) in texts.iter().zip(got) {
            let words: Vec<&str> = text.split_whitespace().collect();
            let whole = |t: &Tree| t.ends(&words, &BTreeSet::from([0])).contains(&words.len());
            let want = group.iter().position(whole).unwrap_or(group.len());
            assert_eq!(
                got,
                want,
                "`{text}`: {:?} or {:?}",
                group.get(got).map(Tree::text),
                group.get(want).map(Tree::text)
            );
        }
    }
}

#[test]
fn texts_are_split_and_folded_as_the_document_says() {
    if !have("rules in C", &["cc"]) {
        return;
    }
    let rules = Rules::parse(
        "turn (on|off) [the] light[s] -> 0\nwhat's * -> 1\nt\u{fc}r * auf -> 2\n* 42 * -> 3\nA [B] c -> 4\n"
            .replace("light[s]", "light")
            .as_bytes(),
    )
    .expect("good rules");
    let cases = [
        ("turn on the light", 0),
        ("TURN off LIGHT!!", 0),
        ("turn, on; the... light", 0),
        ("turn-on the light", 0),
        ("turn on lights", 5),
        ("turn the light on", 5),
        ("What's", 1),
        ("what's the time", 1),
        ("what s the time", 5),
        ("T\u{fc}r bitte auf", 2),
        ("T\u{dc}R bitte auf", 5),
        ("room 42", 3),
        ("42", 3),
        ("room 421", 5),
        ("a c", 4),
        ("a b b c", 5),
        ("", 5),
        ("!?", 5),
    ];
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut texts: Vec<String> = cases.iter().map(|(t, _)| (*t).to_string()).collect();
    texts.push("a ".repeat(255) + "c"); // as many words as there is room for, then one more
    texts.push("42 ".repeat(256));
    texts.push("42 ".repeat(257));
    let got = matched(&build_driver(dir.path(), &rules), &texts);
    let want: Vec<usize> = cases.iter().map(|(_, n)| *n).chain([5, 3, 5]).collect();
    assert_eq!(got, want);
}

/// Changed and cut files: rules, or a message with a place.
#[test]
fn damaged_rules_are_read_or_refused() {
    let file = b"# lights\nturn (on|off) [the [big]] light * -> done\r\nwhat's * | t\xc3\xbcr -> yes\n* -> no\n";
    let mut rng = Rng(3);
    for _ in 0..3000 {
        let mut bad = file.to_vec();
        for _ in 0..=rng.below(4) {
            let at = rng.below(bad.len());
            bad[at] = b"()[]|*-> \n\r#a\xc3\xff\x00"[rng.below(16)];
        }
        bad.truncate(rng.below(2 * bad.len()).max(1));
        if let Err(e) = Rules::parse(&bad) {
            assert!(e.message().starts_with("line ") || e.message().starts_with("there is no rule"), "{}", e.message());
        }
    }
}
