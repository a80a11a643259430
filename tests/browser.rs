//! The demo page in a real browser: `tests/browser/test_demo.py` drives it through chromedriver.

mod common;

use common::{finish, fixture, listing, not_run, root, tool};
use std::path::Path;
use std::process::Command;

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
}

#[test]
fn the_demo_page_answers_in_a_browser() {
    let on_path =
        |p: &str| std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|d| d.join(p).is_file());
    if bitnet_convert::export::wasm::tools().is_err() || !on_path("python3") {
        return not_run("the demo page", "clang, wasm-ld and python3");
    }
    let site = tempfile::tempdir().unwrap();
    let demo = root().join("docs/demo");
    for name in listing(&demo).iter().filter(|n| *n != "model") {
        copy(&demo.join(name), &site.path().join(name));
    }
    let model = site.path().join("model");
    tool("export --model {} --target wasm32 -o {} --quiet", &[&fixture("models/intent-w1a2"), &model]).ok();
    let run = finish(Command::new("python3").arg(root().join("tests/browser/test_demo.py")).arg(site.path()));
    match run.code {
        Some(77) => not_run("the demo page", "chromium and chromedriver"),
        _ => assert_eq!(run.ok().stdout, "ok\n"),
    }
}
