//! schemas/manifest.proto and src/format/manifest.rs say the same: messages, fields, numbers, types.

use std::collections::BTreeMap;

/// Message → field → (number, type).
type Schema = BTreeMap<String, BTreeMap<String, (u32, String)>>;

fn read(path: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    std::fs::read_to_string(format!("{root}/{path}")).expect("a file of the project")
}

fn from_proto(text: &str) -> Schema {
    let mut schema = Schema::new();
    let mut message = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or("").trim();
        if let Some(rest) = line.strip_prefix("message ") {
            message = rest.trim_end_matches('{').trim().to_string();
        } else if let Some((left, number)) = line.strip_suffix(';').and_then(|l| l.rsplit_once('=')) {
            let Ok(number) = number.trim().parse() else { continue };
            let (kind, name) = left.trim().rsplit_once(' ').expect("a type and a name");
            schema.entry(message.clone()).or_default().insert(name.into(), (number, kind.trim().into()));
        }
    }
    schema
}

fn from_rust(text: &str) -> Schema {
    let mut schema = Schema::new();
    let (mut message, mut attribute) = (String::new(), String::new());
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            message = rest.trim_end_matches('{').trim().to_string();
        } else if let Some(a) = line.strip_prefix("#[prost(") {
            attribute = a.trim_end_matches(")]").to_string();
        } else if let Some((name, rust)) = line.strip_prefix("pub ").and_then(|l| l.split_once(": ")) {
            let number = attribute.rsplit('"').nth(1).and_then(|n| n.parse().ok()).expect("a tag");
            let repeated = if attribute.contains("repeated") { "repeated " } else { "" };
            let inner = rust.trim_end_matches([',', '>']).rsplit('<').next().unwrap_or_default();
            let kind = match attribute.split([',', ' ']).next().unwrap_or_default() {
                "btree_map" => "map<string, string>",
                "message" => inner,
                "bytes" => "bytes",
                plain => plain,
            };
            schema.entry(message.clone()).or_default().insert(name.into(), (number, format!("{repeated}{kind}")));
        }
    }
    schema
}

#[test]
fn the_schema_is_what_the_code_writes() {
    let proto = from_proto(&read("schemas/manifest.proto"));
    assert_eq!(proto.len(), 4);
    assert_eq!(proto["Manifest"].len(), 13);
    assert_eq!(
        proto,
        from_rust(
            &read("src/format/manifest.rs").split("impl Manifest").next().unwrap_or_default().replace("=\"vec\"", "")
        )
    );
}
