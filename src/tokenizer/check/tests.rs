//! The engine against devices that are wrong on purpose.

use super::*;
use crate::progress::Silent;
use std::path::Path;

fn json() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/intent-w1a2/tokenizer.json");
    std::fs::read(path).unwrap()
}

/// A device that swaps two ids where they are neighbours, fails at a byte, and decodes a tab as a space.
struct Wrong<'a>(&'a DeviceTokenizer);

impl Device for Wrong<'_> {
    fn name(&self) -> &str {
        "wrong"
    }

    fn answers(&self, texts: &[&[u8]]) -> Result<Vec<Answered>> {
        let mut all = self.0.answers(texts)?;
        for (answer, text) in all.iter_mut().zip(texts) {
            if text.contains(&0) {
                *answer = Err("no zero, please".into());
            } else if let Ok(a) = answer {
                if let Some(i) = text.windows(2).position(|w| w == b"zq") {
                    a.ids.insert(i.min(a.ids.len()), 5);
                }
                a.decoded.iter_mut().filter(|b| **b == b'\t').for_each(|b| *b = b' ');
            }
        }
        Ok(all)
    }
}

fn run(threads: usize, wrong: bool, sources: impl Fn() -> Sources) -> Report {
    let json = json();
    let host = HostTokenizer::from_json(&json).unwrap();
    let device = DeviceTokenizer::from_bytes(&crate::tokenizer::compile(&json).unwrap()).unwrap();
    let material = material(&device, Some(&host), added_tokens(&json));
    let other = Wrong(&device);
    let devices: Vec<&dyn Device> = if wrong { vec![&device, &other] } else { vec![&device] };
    let texts = Texts::new(Sources { material, ..sources() });
    Check { reference: Some(&host), tokens: &device, devices, texts, threads, most: 4 }.run(&Silent).unwrap()
}

#[test]
fn the_fixture_equals_the_reference() {
    let report = run(2, false, || Sources { count: 3000, seed: 1, ..Sources::default() });
    let mut told = Vec::new();
    text(&mut told, &report).unwrap();
    assert!(report.equal(), "{}", String::from_utf8_lossy(&told));
    assert!(report.texts() > 35_000);
    let stray = report.rows.iter().find(|r| r.group == "not-utf8").unwrap();
    assert!(stray.uncompared > 300, "the reference takes no bytes that are no UTF-8");
}

#[test]
fn what_differs_is_found_shortened_and_told() {
    let sources = || Sources {
        corpus: vec!["fine".into(), format!("{} a zq b {}", "word ".repeat(9), "more ".repeat(9))],
        builtin: Builtin::Nothing,
        ..Sources::default()
    };
    let report = run(1, true, sources);
    assert_eq!((report.differing, report.differences.len()), (1, 1));
    let d = &report.differences[0];
    assert_eq!((d.device.as_str(), d.group.as_str(), d.number, d.what), ("wrong", "corpus", 1, "ids"));
    assert_eq!(d.shortest.as_deref(), Some("zq"));
    assert!(d.shortest_got.len() == d.shortest_expected.len() + 1);
    let mut told = Vec::new();
    text(&mut told, &report).unwrap();
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("1 of 4 texts differ") && told.contains("shortest   `zq`"), "{told}");
    let xml = junit(&report, "a <model>");
    assert!(
        xml.contains("failures=\"1\"") && xml.contains("a &lt;model&gt;") && xml.contains("1 of 2 texts differ"),
        "{xml}"
    );
}

#[test]
fn a_refusal_and_another_spelling_are_differences() {
    let sources =
        || Sources { corpus: vec!["a\u{0}b".into(), "a\tb".into()], builtin: Builtin::Nothing, ..Sources::default() };
    let report = run(1, true, sources);
    let what: Vec<&str> = report.differences.iter().map(|d| d.what).collect();
    assert_eq!(what, ["no answer", "decoded text"]);
    assert_eq!(report.differences[0].why, "no zero, please");
    assert_eq!(report.differences[1].got_text.as_deref(), Some("a b"));
    assert_eq!(report.differences[1].shortest.as_deref(), Some("\\t"));
}

#[test]
fn a_case_may_contradict_the_reference() {
    let case = |text: &str, ids: Vec<u32>| Case { text: text.into(), ids, decoded: None };
    let json = json();
    let ids = HostTokenizer::from_json(&json).unwrap().encode("good").unwrap();
    let sources = move || Sources {
        cases: vec![case("good", ids.clone()), case("bad", vec![1, 2, 3])],
        builtin: Builtin::Nothing,
        ..Sources::default()
    };
    let report = run(1, false, sources);
    assert_eq!((report.cases_contradicted, report.differing), (1, 1));
    assert_eq!((report.differences[0].device.as_str(), report.differences[0].number), ("reference", 1));
    assert!(junit(&report, "m").contains("testsuite name=\"reference\""));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let sources = || Sources { count: 3000, seed: 9, builtin: Builtin::Nothing, ..Sources::default() };
    let as_json = |threads| serde_json::to_string(&run(threads, true, sources)).unwrap();
    assert_eq!(as_json(1), as_json(3));
}
