//! What the documents say about the repository is so: links and paths lead somewhere, every dependency is listed, the house is as drawn.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A path in backticks that starts with one of these names a file or folder of the repository.
const ROOTS: [&str; 7] = ["src/", "docs/", "tests/", "fixtures/", "tools/", "schemas/", ".ci/"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn files_below(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder of the repository") {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every document for readers of the repository. The README of an exported folder belongs to that folder.
fn documents() -> Vec<PathBuf> {
    let mut found = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|n| root().join(n)).to_vec();
    found.extend(files_below(&root().join("docs"), "md"));
    found.extend(files_below(&root().join("fixtures"), "md"));
    found
}

/// A line outside of fenced blocks: its number, the text without what is in backticks, and what is in backticks.
fn prose(text: &str) -> Vec<(usize, String, Vec<&str>)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (n, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let words = line.split('`').step_by(2).collect();
            lines.push((n + 1, words, line.split('`').skip(1).step_by(2).collect()));
        }
    }
    lines
}

/// Targets of `[text](target)`.
fn links(words: &str) -> impl Iterator<Item = &str> {
    words.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// The anchor of a heading: lower case, hyphens for spaces, no punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn has_heading(text: &str, wanted: &str) -> bool {
    let numbers = prose(text).into_iter().filter(|(_, words, _)| words.starts_with('#')).map(|(n, ..)| n - 1);
    let mut headings = numbers.filter_map(|n| text.lines().nth(n));
    headings.any(|h| anchor(h.trim_start_matches('#')) == wanted)
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut wrong = Vec::new();
    for document in documents() {
        for (n, words, _) in prose(&read(&document)) {
            for link in links(&words).filter(|l| !l.contains("://")) {
                let (file, heading) = link.split_once('#').unwrap_or((link, ""));
                let target =
                    if file.is_empty() { document.clone() } else { document.parent().unwrap_or(&document).join(file) };
                if !target.exists() || !(heading.is_empty() || has_heading(&read(&target), heading)) {
                    wrong.push(format!("{}:{n}: {link}", document.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "links to nothing:\n{}", wrong.join("\n"));
}

#[test]
fn paths_in_backticks_exist() {
    let is_path = |c: &&str| ROOTS.iter().any(|r| c.starts_with(r)) && !c.contains([' ', '*', '<', '{', '$', ':']);
    let mut wrong = Vec::new();
    for document in documents() {
        for (n, _, code) in prose(&read(&document)) {
            for path in code.into_iter().filter(is_path).filter(|p| !root().join(p).exists()) {
                wrong.push(format!("{}:{n}: {path}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "paths that do not exist:\n{}", wrong.join("\n"));
}

/// Rows of the first table under a heading, each split into cells.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let section = page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no section `{heading}`"));
    let rows = section.split("\n## ").next().unwrap_or("").lines().filter(|l| l.starts_with('|')).skip(2);
    rows.map(|l| l.trim_matches('|').split(" |").map(|c| c.trim().to_string()).collect()).collect()
}

/// Words in backticks.
fn names(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

#[test]
fn every_dependency_is_listed() {
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().expect("Cargo.toml is TOML");
    let page = read(&root().join("docs/dependencies.md"));
    for (key, heading) in [("dependencies", "Dependencies"), ("dev-dependencies", "Only for tests")] {
        let declared = manifest.get(key).and_then(|t| t.as_table()).expect("a table of dependencies");
        let listed: BTreeSet<String> = table(&page, heading).iter().flat_map(|row| names(&row[0])).collect();
        assert_eq!(listed, declared.keys().cloned().collect(), "`{heading}` against [{key}] of Cargo.toml");
    }
}

#[test]
fn the_house_is_as_drawn() {
    let page = read(&root().join("docs/architecture.md"));
    let mut ground = BTreeSet::new();
    let mut before: Vec<String> = Vec::new();
    for row in table(&page, "The house") {
        let room = names(&row[1]).into_iter().next().unwrap_or_else(|| panic!("no room in {row:?}"));
        let used = rooms_used_by(&room);
        if let Some(above) = used.iter().find(|u| !before.contains(u)) {
            panic!("`{room}` uses `{above}`, which does not stand before it");
        }
        if row[0] == "0" {
            ground.insert(room.clone());
        }
        if row[3] != "all" {
            assert_eq!(names(&row[3]), used.difference(&ground).cloned().collect(), "what `{room}` depends on");
        }
        before.push(room);
    }
    let lib = read(&root().join("src/lib.rs"));
    let declared: BTreeSet<&str> = lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(declared, before.iter().map(String::as_str).collect(), "rooms in src/lib.rs and in the table");
}

/// First parts of the `crate::` paths in a room's files, tests left out.
fn rooms_used_by(room: &str) -> BTreeSet<String> {
    let single = root().join(format!("src/{room}.rs"));
    let files = if single.is_file() { vec![single] } else { files_below(&root().join("src").join(room), "rs") };
    let mut used = BTreeSet::new();
    // What an export writes is text to the room that writes it; a file of tests is not in the house.
    for file in files.iter().filter(|f| !f.iter().any(|part| part == "files" || part == "tests.rs")) {
        let text = read(file);
        let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or("");
        assert!(
            !code.contains("crate::{"),
            "{}: one `use crate::room` a line, so that this test can read it",
            file.display()
        );
        for path in code.split("crate::").skip(1) {
            let name: String = path.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            used.insert(name);
        }
    }
    // `crate::Error` starts with a capital letter, so it gives an empty name.
    used.retain(|n| !n.is_empty() && n != room);
    used
}
