//! A `normalizer` as steps in the order of section 7: characters, order of marks, characters, spaces.

use super::json::{flag, invalid, kind_of, unsupported};
use super::TokenizerError;
use crate::format::base64;
use regex_syntax::hir::{Hir, HirKind};
use serde_json::{json, Value};

type Checked<T> = Result<T, TokenizerError>;

/// Which normal form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    pub compatible: bool,
    pub composes: bool,
}

/// A step that is not about spaces.
#[derive(Debug)]
pub(super) enum Step {
    /// Of the reference; it looks at one character at a time.
    Map(Value),
    Order(Order),
    /// SentencePiece's rules.
    Charmap(Vec<u8>),
}

/// What is done with spaces, as the section has it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Spaces {
    /// 0 none, 1 White_Space, 2 spaces.
    pub left: u8,
    /// The same, or 3 spaces and U+2581.
    pub right: u8,
    /// Runs of spaces: 0 stay, 1 are a space, 2 are U+2581.
    pub runs: u8,
    /// Spaces become U+2581.
    pub marks: bool,
    /// Ends are those of the text.
    pub of_text: bool,
    /// Mode and character (4: U+2581) in front.
    pub front: u8,
}

/// All steps.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub steps: Vec<Step>,
    pub spaces: Spaces,
}

/// Reads a normalizer.
pub(super) fn read(json: &Value) -> Checked<Plan> {
    let mut plan = Plan::default();
    plan.add(json, "normalizer", 8)?;
    Ok(plan)
}

impl Plan {
    fn add(&mut self, json: &Value, key: &str, depth: u32) -> Checked<()> {
        if json.is_null() {
            return Ok(());
        }
        let kind = kind_of(json);
        let refuse = |reason: &str| Err(unsupported(format!("{key}.type"), kind, reason));
        match kind {
            "Sequence" => {
                let steps = json.get("normalizers").and_then(Value::as_array);
                let steps = steps.ok_or_else(|| invalid(format!("{key}.normalizers"), "is missing"))?;
                let deeper = depth.checked_sub(1).ok_or_else(|| unsupported(key, "Sequence", "too deep"))?;
                for (k, step) in steps.iter().enumerate() {
                    self.add(step, &format!("{key}.normalizers[{k}]"), deeper)?;
                }
                Ok(())
            }
            "NFC" => self.order(key, kind, false, true),
            "NFD" => self.order(key, kind, false, false),
            "NFKC" => self.order(key, kind, true, true),
            "NFKD" => self.order(key, kind, true, false),
            "Lowercase" | "StripAccents" | "Nmt" => self.map(json.clone(), key, kind),
            "BertNormalizer" => self.bert(json, key),
            "Strip" => self.strip(json, key),
            "Prepend" => self.prepend(json, key),
            "Replace" => self.replace(json, key),
            "SentencePiece" => self.sentencepiece(json, key),
            "Precompiled" => refuse(
                "the reference applies it to grapheme clusters, which only SentencePiece's own rule does not need; \
                 use the SentencePiece model file (`spiece.model`, `sentencepiece.bpe.model`) of the same tokenizer",
            ),
            _ => refuse("not a normalizer that the device has"),
        }
    }

    fn order(&mut self, key: &str, kind: &str, compatible: bool, composes: bool) -> Checked<()> {
        let order = Order { compatible, composes };
        let alone = self.steps.iter().all(|step| matches!(step, Step::Map(_)));
        if !alone || self.spaces != Spaces::default() {
            return Err(unsupported(format!("{key}.type"), kind, "only once, and before steps about spaces"));
        }
        self.steps.push(Step::Order(order));
        Ok(())
    }

    /// A step on single characters.
    fn map(&mut self, step: Value, key: &str, kind: &str) -> Checked<()> {
        let spaces = self.spaces != Spaces::default();
        // Case has nothing to do with spaces; what the other steps do shows behind a rule for spaces.
        if spaces && kind != "Lowercase" || self.steps.iter().any(|step| matches!(step, Step::Charmap(_))) {
            return Err(unsupported(format!("{key}.type"), kind, "only before steps about spaces"));
        }
        self.steps.push(Step::Map(step));
        Ok(())
    }

    fn bert(&mut self, json: &Value, key: &str) -> Checked<()> {
        let lowercase = flag(json, "lowercase", true);
        let strip = json.get("strip_accents").and_then(Value::as_bool).unwrap_or(lowercase);
        let part = |clean: bool, chinese: bool, strip: bool, lowercase: bool| {
            json!({"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": chinese,
                   "strip_accents": strip, "lowercase": lowercase})
        };
        let (clean, chinese) = (flag(json, "clean_text", true), flag(json, "handle_chinese_chars", true));
        if !strip {
            return self.map(part(clean, chinese, false, lowercase), key, "BertNormalizer");
        }
        self.map(part(clean, chinese, false, false), key, "BertNormalizer")?;
        self.order(key, "BertNormalizer", false, false)?;
        self.map(part(false, false, true, lowercase), key, "BertNormalizer")
    }

    fn strip(&mut self, json: &Value, key: &str) -> Checked<()> {
        let spaces = &mut self.spaces;
        if spaces.front != 0 || spaces.runs == 2 || spaces.marks {
            return Err(unsupported(format!("{key}.type"), "Strip", "only before U+2581 is put in"));
        }
        if flag(json, "strip_left", false) {
            spaces.left = 1;
        }
        if flag(json, "strip_right", false) {
            spaces.right = 1;
        }
        Ok(())
    }

    fn prepend(&mut self, json: &Value, key: &str) -> Checked<()> {
        let text = json.get("prepend").and_then(Value::as_str).unwrap_or_default();
        let front = match text {
            " " => 1,
            "\u{2581}" => 5,
            _ => return Err(unsupported(format!("{key}.prepend"), format!("{text:?}"), "only a space or U+2581")),
        };
        if self.spaces.front != 0 || self.spaces.marks && front == 1 {
            return Err(unsupported(format!("{key}.type"), "Prepend", "only once, and before spaces become U+2581"));
        }
        self.spaces.front = front;
        Ok(())
    }

    fn replace(&mut self, json: &Value, key: &str) -> Checked<()> {
        let content = json.get("content").and_then(Value::as_str).unwrap_or_default();
        let string = json.pointer("/pattern/String").and_then(Value::as_str);
        let regex = json.pointer("/pattern/Regex").and_then(Value::as_str);
        let pattern = string.or(regex).unwrap_or_default();
        let refuse = |reason: &str| Err(unsupported(format!("{key}.pattern"), format!("{pattern:?}"), reason));
        if pattern == " " && content == "\u{2581}" {
            self.spaces.marks = true;
            return Ok(());
        }
        let runs = match (regex, content) {
            (Some(" {2,}" | " +" | "[ ]+" | "  +" | " {1,}" | "[ ]{2,}"), " ") => 1,
            (Some("\\s+" | "[\\s]+" | "\\s{1,}"), " ") => {
                let white = json!({"type": "Replace", "pattern": {"Regex": "\\s"}, "content": " "});
                self.map(white, key, "Replace")?;
                1
            }
            (Some(" {2,}" | "  +" | "[ ]{2,}"), "\u{2581}") => 2,
            _ => 0,
        };
        if runs != 0 {
            if self.spaces.runs != 0 || self.spaces.front != 0 || self.spaces.marks {
                return refuse("only once, and before U+2581 is put in");
            }
            self.spaces.runs = runs;
            return Ok(());
        }
        let single = match string {
            Some(text) => text.chars().count() == 1,
            None => regex.is_some_and(|regex| regex_syntax::parse(regex).is_ok_and(|hir| is_single(&hir))),
        };
        if !single {
            return refuse("only one character, runs of spaces (` {2,}`, ` +`) and runs of white space (`\\s+`)");
        }
        self.map(json.clone(), key, "Replace")
    }

    fn sentencepiece(&mut self, json: &Value, key: &str) -> Checked<()> {
        if !self.steps.is_empty() || self.spaces != Spaces::default() {
            return Err(unsupported(format!("{key}.type"), "SentencePiece", "only alone"));
        }
        if let Some(text) = json.get("precompiled_charsmap").and_then(Value::as_str).filter(|text| !text.is_empty()) {
            let bytes = base64::decode(text.as_bytes());
            let bytes = bytes.ok_or_else(|| invalid(format!("{key}.precompiled_charsmap"), "is not base64"))?;
            self.steps.push(Step::Charmap(bytes));
        }
        let marks = flag(json, "escape_whitespaces", true);
        let extra = flag(json, "remove_extra_whitespaces", true);
        self.spaces = Spaces {
            left: if extra { 2 } else { 0 },
            right: match extra {
                true => 2 + u8::from(marks),
                false => 0,
            },
            runs: u8::from(extra),
            marks,
            of_text: true,
            front: match flag(json, "add_dummy_prefix", true) {
                true => 2 + 4 * u8::from(marks),
                false => 0,
            },
        };
        Ok(())
    }
}

/// Whether an expression matches exactly one character, whatever is around it.
fn is_single(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Class(_) => true,
        HirKind::Literal(text) => std::str::from_utf8(&text.0).is_ok_and(|text| text.chars().count() == 1),
        HirKind::Alternation(parts) => parts.iter().all(is_single),
        HirKind::Capture(part) => is_single(&part.sub),
        _ => false,
    }
}
