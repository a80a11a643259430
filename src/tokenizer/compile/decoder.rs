//! Ids to text: the decoder of a `tokenizer.json` as flags.

use serde_json::Value;

use super::super::TokenizerError;
use super::json::{flag, kind_of, unsupported, Model, SPACE_MARK};

/// U+2581 in a token becomes a space.
pub(super) const SPACES: u8 = 1;
/// One space at the start of the text is left out.
pub(super) const STRIP: u8 = 2;
/// With it, every token loses a space at its start as long as no text was written: SentencePiece where it removes extra white space.
pub(super) const STRIP_ALL: u8 = 16;
const JOIN: u8 = 4;
const CLEANUP: u8 = 8;

/// Flags of the decoder section; 0 if tokens just follow each other.
pub(super) fn read(value: &Value, model: &Model) -> Result<u8, TokenizerError> {
    match model {
        // Without a decoder the reference shows the alphabet; nobody means that.
        Model::Bpe(bpe) if bpe.bytes => match kind_of(value) {
            _ if value.is_null() => Ok(0),
            "ByteLevel" => Ok(0),
            "Sequence" if steps(value).iter().all(|step| kind_of(step) == "ByteLevel") => Ok(0),
            other => Err(unsupported("decoder.type", other, "only `ByteLevel` with byte-level BPE")),
        },
        Model::WordPiece { prefix, .. } => word_piece(value, prefix),
        Model::Bpe(bpe) => pieces(value, bpe.byte_fallback),
        Model::Unigram { byte_fallback, .. } => pieces(value, *byte_fallback),
    }
}

fn steps(value: &Value) -> &[Value] {
    value.get("decoders").and_then(Value::as_array).map_or(&[], |steps| steps)
}

fn word_piece(value: &Value, prefix: &str) -> Result<u8, TokenizerError> {
    if kind_of(value) != "WordPiece" {
        return Err(unsupported("decoder.type", kind_of(value), "only `WordPiece` with a WordPiece model"));
    }
    let own = value.get("prefix").and_then(Value::as_str).unwrap_or("##");
    if own != prefix {
        return Err(unsupported("decoder.prefix", own, format!("only that of the model, `{prefix}`")));
    }
    Ok(JOIN | if flag(value, "cleanup", true) { CLEANUP } else { 0 })
}

/// SentencePiece: `Metaspace`, or the steps it consists of.
fn pieces(value: &Value, byte_fallback: bool) -> Result<u8, TokenizerError> {
    let single = std::slice::from_ref(value);
    let steps = if kind_of(value) == "Sequence" { steps(value) } else { single };
    let (mut flags, mut bytes, mut fused) = (0, false, false);
    for step in steps {
        let text = |key: &str| step.get(key).and_then(Value::as_str);
        match kind_of(step) {
            "Metaspace" if flags == 0 && !fused && text("replacement") == Some(SPACE_MARK) => {
                flags = SPACES | if prepends(step)? != Prepend::Never { STRIP } else { 0 };
            }
            "Replace"
                if flags == 0
                    && step.pointer("/pattern/String").and_then(Value::as_str) == Some(SPACE_MARK)
                    && text("content") == Some(" ") =>
            {
                flags = SPACES;
            }
            "ByteFallback" if !fused => bytes = true,
            "Fuse" => fused = true,
            "Strip"
                if flags == SPACES
                    && fused
                    && text("content") == Some(" ")
                    && step.get("start").and_then(Value::as_u64) == Some(1)
                    && step.get("stop").and_then(Value::as_u64) == Some(0) =>
            {
                flags |= STRIP;
            }
            "(no type)" => {
                return Err(unsupported("decoder", step, "`Metaspace`, or `Replace`, `ByteFallback`, `Fuse`, `Strip`"))
            }
            _ => {
                let reason =
                    "`Metaspace`, or `Replace` of U+2581 by a space, `ByteFallback`, `Fuse` and `Strip` of one \
                              space at the start, in this order";
                return Err(unsupported("decoder", step, reason));
            }
        }
    }
    if byte_fallback && !bytes {
        return Err(unsupported("model.byte_fallback", true, "the decoder has no `ByteFallback`"));
    }
    Ok(flags)
}

/// When `Metaspace` puts a mark in front.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepend {
    Never,
    First,
    Always,
}

/// Both forms of the key: of today, and of the first versions.
pub(super) fn prepends(step: &Value) -> Result<Prepend, TokenizerError> {
    match step.get("prepend_scheme").and_then(Value::as_str) {
        Some("never") => Ok(Prepend::Never),
        Some("first") => Ok(Prepend::First),
        Some("always") => Ok(Prepend::Always),
        None if flag(step, "add_prefix_space", true) => Ok(Prepend::Always),
        None => Ok(Prepend::Never),
        Some(other) => Err(unsupported("prepend_scheme", other, "only `always`, `first` and `never`")),
    }
}
