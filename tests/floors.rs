//! The floors of the crate: a room uses only rooms below its own floor. The table in the documentation of src/lib.rs says which floor each is
//! on; this reads the table and every path in the sources.

mod common;

use common::root;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Rooms that may use another one on their own floor, and why.
const NEIGHBOURS: [(&str, &str, &str); 11] = [
    ("tensor", "encoding", "an element type may be a block of quantized values"),
    ("bytes", "error", "an error is the one thing that every room shares"),
    ("fsio", "error", "as above"),
    ("parallel", "error", "as above"),
    ("process", "error", "as above"),
    ("kernels", "encoding", "a kernel reads weights as they are encoded"),
    ("import", "tokenizer", "the tokenizer of a checkpoint is any of the files that are loaded alone too"),
    ("lower", "transform", "lowering applies the weight quantizers while it writes"),
    ("lower", "target", "lowering chooses kernels by the costs of a target"),
    ("export", "plan", "an export is refused by its plan before it starts"),
    ("export", "runtime", "the golden trace is recorded by running what was written"),
];

type Floors = BTreeMap<String, usize>;

/// Rows like ``| 1 | [`tensor`], [`encoding`] | arrays |``.
fn floors(lib: &str) -> Floors {
    let mut floors = Floors::new();
    for row in lib.lines().filter_map(|l| l.strip_prefix("//! |")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let Some(floor) = cells.first().and_then(|c| c.parse().ok()) else { continue };
        for room in cells[1].split(',') {
            let room = room.trim().trim_matches(['[', ']', '`']);
            assert!(floors.insert(room.to_string(), floor).is_none(), "`{room}` is on two floors");
        }
    }
    floors
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // What an export writes is text to the room that writes it.
        if path.is_dir() && !path.ends_with("files") {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// First part of the path below src/: `program/check.rs` and `program.rs` are both in `program`.
fn room_of(path: &Path) -> String {
    let below = path.strip_prefix(root().join("src")).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

/// Rooms named by `crate::…` in a piece of code: the name after it, or each name of a brace list.
fn rooms_used(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let inside_a_word = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        let rest = &code[at + "crate::".len()..];
        if inside_a_word {
            continue;
        }
        match rest.strip_prefix('{') {
            Some(list) => used.extend(top_level_names(list)),
            None => used.extend(name(rest)),
        }
    }
    used
}

fn name(text: &str) -> Option<String> {
    let n: String = text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!n.is_empty()).then_some(n)
}

/// Names at the first level of `a, b::{c, d}, e}`.
fn top_level_names(list: &str) -> Vec<String> {
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (i, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.extend(name(&list[start..i]));
                start = i + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

fn code_without_comments(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|l| !l.trim_start().starts_with("//"));
    lines.map(|l| l.split(" // ").next().unwrap_or(l)).collect::<Vec<_>>().join("\n")
}

#[test]
fn paths_are_found_in_every_form() {
    let code =
        "use crate::a::b;\nuse crate::{c, d::{e, f}, g};\nlet x = crate::h::i(); my_crate::no(); pub(crate) fn x() {}";
    assert_eq!(rooms_used(code).into_iter().collect::<Vec<_>>(), ["a", "c", "d", "g", "h"]);
}

#[test]
fn every_module_has_a_floor_and_every_floor_a_module() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let floors = floors(&lib);
    let modules: BTreeSet<String> =
        lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).map(str::to_string).collect();
    assert!(modules.len() > 15, "the modules of src/lib.rs were not found");
    assert_eq!(modules, floors.into_keys().collect());
}

#[test]
fn every_room_uses_only_lower_floors() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let floors = floors(&lib);
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    assert!(files.len() > 40, "only {} sources were found", files.len());
    let mut wrong = Vec::new();
    let mut allowed: BTreeSet<(&str, &str)> = NEIGHBOURS.iter().map(|(a, b, _)| (*a, *b)).collect();
    for path in files.iter().filter(|p| !p.ends_with("src/lib.rs") && !p.ends_with("src/main.rs")) {
        let room = room_of(path);
        let code = code_without_comments(path);
        let floor = *floors
            .get(&room)
            .unwrap_or_else(|| panic!("{}: `{room}` is not in the table of src/lib.rs", path.display()));
        for used in rooms_used(&code) {
            // `crate::Error` and `crate::Result` are re-exported from `error`.
            let used = if used == "Error" || used == "Result" { "error".to_string() } else { used };
            let Some(&below) = floors.get(&used) else {
                wrong.push(format!("{}: `crate::{used}` is no room", path.display()));
                continue;
            };
            let neighbour = NEIGHBOURS.iter().find(|(a, b, _)| *a == room && *b == used);
            if let Some((a, b, _)) = neighbour {
                allowed.remove(&(*a, *b));
            } else if used != room && below >= floor {
                wrong.push(format!("{}: `{room}` on floor {floor} uses `{used}` on floor {below}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(allowed.is_empty(), "no longer needed among the neighbours: {allowed:?}");
}

/// `super::` out of the root file of a room would reach the crate without naming it.
#[test]
fn no_room_is_left_by_way_of_super() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    for path in &files {
        let depth = path.strip_prefix(root().join("src")).unwrap().components().count();
        let is_root = depth == 1 || (depth == 2 && path.ends_with("mod.rs"));
        let code = code_without_comments(path);
        let code = code.split("#[cfg(test)]").next().unwrap();
        let out = if is_root { "super::" } else { "super::super::" };
        let far = depth > 2 && !is_root; // arch/bitnet.rs may go up within import
        assert!(far || !code.contains(out), "{} leaves its room by `{out}`", path.display());
    }
}
