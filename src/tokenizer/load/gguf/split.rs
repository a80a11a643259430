//! How each family of byte-level tokenizers cuts a text into words before merging, by the name that the header gives it.

use super::super::spelled::{self, regex};
use serde_json::{json, Value};

/// A pre-tokenizer and what goes with it.
pub struct Split {
    pub pre_tokenizer: Value,
    /// Text is brought to Unicode form C first.
    pub nfc: bool,
    /// A word that is a token is taken whole.
    pub ignore_merges: bool,
    /// A text begins with the start token unless the header says otherwise.
    pub add_bos: bool,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

fn byte_level(use_regex: bool) -> Value {
    spelled::byte_level(false, use_regex)
}

fn sequence(steps: Vec<Value>) -> Value {
    json!({"type": "Sequence", "pretokenizers": steps})
}

/// Words by these patterns, one after the other, then bytes.
fn words(patterns: &[&str]) -> Value {
    sequence(patterns.iter().map(|p| regex(p)).chain([byte_level(false)]).collect())
}

fn digits(individual: bool) -> Value {
    json!({"type": "Digits", "individual_digits": individual})
}

/// None for a name that is not known.
pub fn by_name(name: &str) -> Option<Split> {
    let pre_tokenizer = match name {
        "gpt-2" | "phi-2" | "olmo" | "mpt" | "jais" | "exaone4" | "trillion" => byte_level(true),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" => {
            sequence(vec![digits(true), byte_level(true)])
        }
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "lfm2" | "pixtral" | "midm-2.0" | "dbrx"
        | "smaug-bpe" | "chatglm-bpe" | "glm4" => words(&[LLAMA3]),
        "qwen2" | "deepseek-r1-qwen" | "megrez" | "stablelm2" | "hunyuan" | "solar-open" | "grok-2" => words(&[QWEN2]),
        "tekken" => words(&[TEKKEN]),
        "gpt-4o" | "llama4" => words(&[GPT4O]),
        "deepseek-v3" | "hunyuan-dense" => {
            words(&[r"\p{N}{1,3}", "[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+", DEEPSEEK3])
        }
        "falcon" => sequence(vec![
            json!({"type": "Punctuation", "behavior": "Contiguous"}),
            byte_level(true),
            digits(false),
            regex("[0-9][0-9][0-9]"),
        ]),
        "default" => words(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
        _ => return None,
    };
    let llama3 =
        matches!(name, "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "lfm2" | "pixtral" | "midm-2.0");
    Some(Split {
        pre_tokenizer,
        nfc: matches!(name, "qwen2" | "deepseek-r1-qwen" | "megrez" | "stablelm2" | "olmo" | "mpt"),
        ignore_merges: llama3 || name == "tekken",
        add_bos: llama3 || name == "tekken",
    })
}

/// Names whose pre-tokenizers differ in anything, the usual one first.
const NAMES: [&str; 16] = [
    "gpt-2",
    "smollm",
    "llama-bpe",
    "qwen2",
    "tekken",
    "gpt-4o",
    "deepseek-v3",
    "falcon",
    "default",
    "olmo",
    "dbrx",
    "hunyuan",
    "glm4",
    "stablelm2",
    "phi-2",
    "starcoder",
];

/// The name of a pre-tokenizer as `tokenizer.json` has it. `nfc` and `ignore_merges` are as in [`Split`]; a name that differs in `nfc` only
/// is taken if there is no other, since llama.cpp brings no text to a Unicode form.
pub fn name_of(pre_tokenizer: &Value, nfc: bool, ignore_merges: bool) -> Option<&'static str> {
    let wanted = steps(pre_tokenizer);
    let same = |name: &&&str| {
        by_name(name).is_some_and(|s| s.ignore_merges == ignore_merges && steps(&s.pre_tokenizer) == wanted)
    };
    let exact = NAMES.iter().filter(same).find(|n| by_name(n).is_some_and(|s| s.nfc == nfc));
    exact.or_else(|| NAMES.iter().find(same)).copied()
}

/// The steps of a pre-tokenizer without what changes nothing.
fn steps(pre: &Value) -> Vec<Value> {
    match pre["type"].as_str() {
        Some("Sequence") => pre["pretokenizers"].as_array().into_iter().flatten().flat_map(steps).collect(),
        // How offsets are trimmed does not matter for ids.
        Some("ByteLevel") => {
            let flag = |key: &str, otherwise| pre[key].as_bool().unwrap_or(otherwise);
            vec![spelled::byte_level(flag("add_prefix_space", true), flag("use_regex", true))]
        }
        _ => vec![pre.clone()],
    }
}
