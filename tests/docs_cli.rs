//! docs/cli.md is what the program says about itself. `BLESS=1 cargo test --test docs_cli` writes it anew.

use clap::{Arg, Command};
use std::path::Path;

const HEAD: &str = "# Command line

Made from the program's own help: `BLESS=1 cargo test --test docs_cli` writes this page anew, `cargo test` compares it.
Results go to stdout; progress, notes and warnings go to stderr.
";

#[test]
fn the_reference_is_what_the_program_says() {
    let mut command = bitnet_convert::cli::command();
    command.build();
    let mut text = HEAD.to_string();
    page(&mut text, &mut command);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    if std::env::var_os("BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&path, &text).expect("docs/cli.md can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = text.lines().chain([""]).zip(committed.lines().chain([""]));
    if let Some((n, (want, got))) = lines.enumerate().find(|(_, (a, b))| a != b) {
        let line = n + 1;
        panic!("docs/cli.md line {line}: the program says `{want}`, the page `{got}`; BLESS=1 writes it anew");
    }
    assert_eq!(text.len(), committed.len(), "docs/cli.md is longer or shorter; BLESS=1 writes it anew");
}

/// One command and those below it, depth first. Flags of every command are told with the program only.
fn page(out: &mut String, command: &mut Command) {
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = command.render_usage().to_string();
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let top = !name.contains(' ');
    *out += &format!("\n## {name}\n\n{about}\n\n```text\n{}\n```\n", usage.trim_start_matches("Usage: "));
    let told = |a: &&Arg| !a.is_hide_set() && a.get_id() != "help" && (top || !a.is_global_set());
    table(out, "argument", command.get_positionals().filter(told));
    table(out, "option", command.get_arguments().filter(|a| !a.is_positional()).filter(told));
    if let Some(more) = command.get_after_help() {
        *out += &format!("\n```text\n{more}\n```\n");
    }
    for c in command.get_subcommands_mut().filter(|c| c.get_name() != "help") {
        page(out, c);
    }
}

fn table<'a>(out: &mut String, what: &str, arguments: impl Iterator<Item = &'a Arg>) {
    let rows: Vec<String> = arguments.map(row).collect();
    if !rows.is_empty() {
        *out += &format!("\n| {what} | meaning |\n|---|---|\n{}", rows.concat());
    }
}

fn row(a: &Arg) -> String {
    let takes = a.is_positional() || a.get_action().takes_values();
    let mut names: Vec<String> = a.get_short().map(|s| format!("-{s}")).into_iter().collect();
    names.extend(a.get_long().map(|l| format!("--{l}")));
    let value = a.get_value_names().map_or(a.get_id().to_string(), |v| v.iter().map(|n| n.as_str()).collect());
    let spelled = if takes { format!("{} <{value}>", names.join(", ")) } else { names.join(", ") };
    let mut meaning = vec![a.get_long_help().or(a.get_help()).map(ToString::to_string).unwrap_or_default()];
    // A flag has values and a default, too, which nobody gives.
    if takes {
        let mut list = |what: &str, values: Vec<String>| {
            if !values.is_empty() {
                meaning.push(format!("{what} {}", values.join(", ")));
            }
        };
        list("values:", a.get_possible_values().iter().map(possible).collect());
        list("default", a.get_default_values().iter().map(|d| format!("`{}`", d.to_string_lossy())).collect());
    }
    if a.is_required_set() && !a.is_positional() {
        meaning.push("required".into());
    }
    meaning.retain(|m| !m.is_empty());
    // A bar would end the cell, also in backticks.
    let cell = |s: &str| s.replace('|', "\\|").replace('\n', " ");
    format!("| `{}` | {} |\n", cell(spelled.trim()), cell(&meaning.join("; ")))
}

fn possible(v: &clap::builder::PossibleValue) -> String {
    let help = v.get_help().map(|h| format!(" ({})", h.to_string().trim_end_matches('.'))).unwrap_or_default();
    format!("`{}`{help}", v.get_name())
}
