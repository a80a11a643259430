//! Where text is cut before the model sees it: the pre-tokenizer as one splitter, one front character and one rule for words.

use serde_json::Value;

use super::super::TokenizerError;
use super::classes::Class;
use super::decoder::{prepends, Prepend};
use super::json::{flag, kind_of, unsupported, SPACE_MARK};

/// First stage: cuts a piece into parts. Codes of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Splitter {
    /// One part.
    #[default]
    None = 0,
    /// Every `\p{N}` alone.
    Digit = 1,
    /// Every run of `\p{N}`.
    Digits = 2,
    /// The pattern of Llama 3: numbers in groups of three.
    Llama3 = 3,
    /// The pattern of Qwen 2: the same with single numbers.
    Qwen2 = 4,
    /// Runs of what is not white space.
    Spaces = 5,
    /// The same, and punctuation alone.
    Bert = 6,
    /// The pattern of GPT-4o.
    O200k = 7,
}

/// Second stage: cuts a part into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Words {
    /// The part is a word.
    #[default]
    Whole = 0,
    /// The pattern of GPT-2.
    Gpt2 = 1,
    /// Every U+2581 starts one.
    Marks = 2,
    /// A U+2581 after another character starts one.
    FirstMarks = 3,
}

/// Which parts get a character in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Front {
    #[default]
    None = 0,
    Every = 1,
    First = 2,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cuts {
    pub splitter: Splitter,
    pub words: Words,
    pub front: Front,
    /// The front character is U+2581, not a space.
    pub mark: bool,
    /// Tokens are spelled in the byte-level alphabet.
    pub bytes: bool,
    /// Spaces become U+2581, which the normalizer section does.
    pub marks_spaces: bool,
}

impl Cuts {
    /// Character classes that the matchers ask for.
    pub fn classes(&self) -> Vec<Class> {
        use Class::{Letter, Lower, Mark, Number, Punctuation, Space, Upper};
        let splitter: &[Class] = match self.splitter {
            Splitter::None | Splitter::Spaces => &[],
            Splitter::Digit | Splitter::Digits => &[Number],
            Splitter::Llama3 | Splitter::Qwen2 => &[Letter, Number, Space],
            Splitter::Bert => &[Punctuation],
            Splitter::O200k => &[Letter, Number, Space, Upper, Lower, Mark],
        };
        let words: &[Class] = if self.words == Words::Gpt2 { &[Letter, Number, Space] } else { &[] };
        let mut all = [splitter, words].concat();
        all.sort_unstable();
        all.dedup();
        all
    }
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A pattern as it is compared: tiktoken writes some possessive repetitions where nothing could be given back, contractions grouped behind their
/// apostrophe, and single characters where the alternative before has taken every longer run.
fn plain(pattern: &str) -> String {
    let mut text = pattern.to_string();
    for (from, to) in [
        ("++", "+"),
        ("*+", "*"),
        ("?+", "?"),
        ("{1,3}+", "{1,3}"),
        (r"'(?:[sdmt]|ll|ve|re)", "'s|'t|'re|'ve|'m|'ll|'d"),
        (r"'(?i:[sdmt]|ll|ve|re)", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"),
        (r"|\s*[\r\n]|", r"|\s*[\r\n]+|"),
    ] {
        text = text.replace(from, to);
    }
    if text.ends_with(r"|\s") {
        text.push('+');
    }
    text
}

enum Pattern {
    Parts(Splitter),
    Words,
}

fn pattern(text: &str) -> Option<Pattern> {
    let plain = plain(text);
    match plain.as_str() {
        GPT2 => Some(Pattern::Words),
        LLAMA3 => Some(Pattern::Parts(Splitter::Llama3)),
        QWEN2 => Some(Pattern::Parts(Splitter::Qwen2)),
        // Its repetitions do give back, so it is compared as it is.
        _ if text == O200K => Some(Pattern::Parts(Splitter::O200k)),
        // Before this a run of white space at the end is taken anyway; in the others a line break would have ended it.
        _ if plain.replace(r"|\s+$|", "|") == GPT2 => Some(Pattern::Words),
        _ => None,
    }
}

/// Reads a pre-tokenizer: steps, each of which is one of the three stages, in the order of the stages.
pub(super) fn read(value: &Value) -> Result<Cuts, TokenizerError> {
    let mut cuts = Cuts::default();
    if !value.is_null() {
        steps(value, &mut cuts, 0)?;
    }
    Ok(cuts)
}

fn steps(value: &Value, cuts: &mut Cuts, depth: usize) -> Result<(), TokenizerError> {
    if kind_of(value) != "Sequence" {
        return step(value, cuts);
    }
    if depth > 8 {
        return Err(unsupported("pre_tokenizer.type", "Sequence", "nested too deeply"));
    }
    let list = value.get("pretokenizers").and_then(Value::as_array);
    list.into_iter().flatten().try_for_each(|value| steps(value, cuts, depth + 1))
}

fn step(value: &Value, cuts: &mut Cuts) -> Result<(), TokenizerError> {
    let kind = kind_of(value);
    match kind {
        "Digits" if flag(value, "individual_digits", false) => splitter(cuts, Splitter::Digit, value),
        "Digits" => splitter(cuts, Splitter::Digits, value),
        "WhitespaceSplit" => splitter(cuts, Splitter::Spaces, value),
        "BertPreTokenizer" => splitter(cuts, Splitter::Bert, value),
        "Split" => split(value, cuts),
        "ByteLevel" if !cuts.bytes && cuts.front == Front::None && !cuts.mark => {
            cuts.bytes = true;
            if flag(value, "add_prefix_space", true) {
                front(cuts, Front::Every, value)?;
            }
            match (flag(value, "use_regex", true), cuts.words) {
                (false, _) => Ok(()),
                (true, Words::Whole) => {
                    cuts.words = Words::Gpt2;
                    Ok(())
                }
                _ => Err(order(value)),
            }
        }
        "Metaspace" if !cuts.bytes && !cuts.mark && cuts.words == Words::Whole => {
            let mark = value.get("replacement").and_then(Value::as_str).unwrap_or(SPACE_MARK);
            if mark != SPACE_MARK {
                return Err(unsupported("pre_tokenizer.replacement", mark, "only U+2581"));
            }
            // Parts of these have no spaces any more.
            cuts.marks_spaces = !matches!(cuts.splitter, Splitter::Spaces | Splitter::Bert);
            cuts.mark = true;
            match prepends(value)? {
                Prepend::Never => {}
                Prepend::First => front(cuts, Front::First, value)?,
                Prepend::Always => front(cuts, Front::Every, value)?,
            }
            if flag(value, "split", true) {
                cuts.words = Words::Marks;
            }
            Ok(())
        }
        "ByteLevel" | "Metaspace" => Err(order(value)),
        other => {
            let reason = "only `ByteLevel`, `Split`, `Digits`, `Metaspace`, `WhitespaceSplit` and `BertPreTokenizer`";
            Err(unsupported("pre_tokenizer.type", other, reason))
        }
    }
}

fn order(value: &Value) -> TokenizerError {
    let reason = "the steps must be one splitter, then one that puts a character in front, then one that cuts words, \
                  each at most once";
    unsupported("pre_tokenizer", value, reason)
}

fn splitter(cuts: &mut Cuts, splitter: Splitter, value: &Value) -> Result<(), TokenizerError> {
    if *cuts != Cuts::default() {
        return Err(order(value));
    }
    cuts.splitter = splitter;
    Ok(())
}

fn front(cuts: &mut Cuts, front: Front, value: &Value) -> Result<(), TokenizerError> {
    // Words were cut already, and each of them would get one.
    if cuts.words != Words::Whole {
        return Err(order(value));
    }
    cuts.front = front;
    Ok(())
}

fn split(step: &Value, cuts: &mut Cuts) -> Result<(), TokenizerError> {
    let behavior = step.get("behavior").and_then(Value::as_str).unwrap_or_default();
    // The patterns match all of the text, so removing what does not match removes nothing.
    match (behavior, flag(step, "invert", false)) {
        ("Isolated", _) | ("Removed", true) => {}
        (other, _) => {
            let reason = "only `Isolated`, or `Removed` with `invert`";
            return Err(unsupported("pre_tokenizer.behavior", other, reason));
        }
    }
    let value = step.get("pattern").unwrap_or(&Value::Null);
    match value.get("Regex").and_then(Value::as_str).and_then(pattern) {
        Some(Pattern::Parts(parts)) => splitter(cuts, parts, step),
        Some(Pattern::Words) if cuts.words == Words::Whole && cuts.front == Front::None && !cuts.bytes => {
            cuts.words = Words::Gpt2;
            Ok(())
        }
        Some(Pattern::Words) => Err(order(step)),
        None => {
            let reason = "only the patterns of GPT-2, Llama 3, Qwen 2 and GPT-4o, letter for letter";
            Err(unsupported("pre_tokenizer.pattern", value, reason))
        }
    }
}
