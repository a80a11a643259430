//! The tables of `runtime/bitnet_fallback.h` as C.

use super::Rules;
use std::fmt::Write;

const ANY_WORD: u16 = 0xFFFF;

/// `ports/bitnet_rules.h`; without rules it only says so.
pub fn header(rules: Option<&Rules>) -> String {
    let mut out = String::from(
        "/* bitnet_rules.h - rules of BITNET_FALLBACK_RULES, compiled by `export --rules` (generated). */\n\
         #ifndef BITNET_RULES_H\n#define BITNET_RULES_H\n\n#include \"bitnet_fallback.h\"\n\n",
    );
    match rules {
        None => out += "#define BITNET_RULE_COUNT 0\n",
        Some(r) => tables(&mut out, r),
    }
    out + "\n#endif\n"
}

fn tables(out: &mut String, r: &Rules) {
    let mut text: Vec<u8> = Vec::new();
    let mut starts = vec![0u16];
    for w in &r.words {
        text.extend(w.as_bytes());
        starts.push(text.len() as u16); // a file of rules has at most 65,536 bytes, with an arrow and a break at least in it
    }
    let mut takes = Vec::new();
    let mut follow = Vec::new();
    let mut rules = Vec::new();
    for rule in &r.rules {
        let p = &rule.pattern;
        let word =
            |t: &Option<String>| t.as_ref().and_then(|w| r.words.binary_search(w).ok()).map_or(ANY_WORD, |i| i as u16);
        rules.push(format!(
            "    {{ {:#x}u, {:#x}u, {}u, {}u, {}u, {}u, {}u }}",
            p.first,
            p.last,
            takes.len(),
            p.takes.len(),
            text.len(),
            rule.answer.len(),
            u8::from(p.empty)
        ));
        takes.extend(p.takes.iter().map(word));
        follow.extend(p.follow.iter().copied());
        text.extend(rule.answer.as_bytes());
    }
    let _ = writeln!(out, "#define BITNET_RULE_COUNT {}\n", r.rules.len()); // writing to a String cannot fail
    list(out, "uint8_t", "bitnet_rule_text", text.iter().map(|b| format!("{b}u")));
    list(out, "uint16_t", "bitnet_rule_word_start", starts.iter().map(|v| format!("{v}u")));
    list(out, "uint16_t", "bitnet_rule_word", takes.iter().map(|v| format!("{v}u")));
    list(out, "uint32_t", "bitnet_rule_follow", follow.iter().map(|v| format!("{v:#x}u")));
    let _ = writeln!(out, "static const bitnet_rule bitnet_rule_list[] = {{\n{}\n}};", rules.join(",\n"));
    let _ = writeln!(
        out,
        "static const bitnet_rules bitnet_rule_table = {{\n    bitnet_rule_text, bitnet_rule_word_start, bitnet_rule_word, \
         bitnet_rule_follow, bitnet_rule_list, {}u, {}u\n}};",
        r.words.len(),
        r.rules.len()
    );
}

fn list(out: &mut String, kind: &str, name: &str, values: impl Iterator<Item = String>) {
    let values: Vec<String> = values.collect();
    let lines: Vec<String> = values.chunks(20).map(|c| format!("    {}", c.join(","))).collect();
    let _ = writeln!(out, "static const {kind} {name}[] = {{\n{}\n}};", lines.join(",\n"));
}
