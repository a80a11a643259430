//! Byte-level BPE: the vocabulary spells bytes as printable characters, merges are given in their order.

use super::super::spelled::{by_token, byte_level as bytes_step};
use super::split::by_name;
use super::{around, Parts, Vocab};
use crate::error::{Error, Result};
use crate::format::gguf::Metadata;
use serde_json::{json, Value};

pub fn byte_level(meta: &Metadata, vocab: &Vocab, warnings: &mut Vec<String>) -> Result<Parts> {
    let name = match meta.str("tokenizer.ggml.pre")? {
        Some(name) => name,
        None => {
            let what = "`tokenizer.ggml.pre` is missing: the text is cut into words by the rule `default`, which few models were trained with";
            warnings.push(what.into());
            "default"
        }
    };
    let split = by_name(name).ok_or_else(|| {
        let text = format!("pre-tokenizer `{name}` is not known").replace(char::is_control, "?");
        Error::unsupported(text).hint("put the model's tokenizer.json beside a checkpoint of safetensors instead")
    })?;
    let key = "tokenizer.ggml.merges";
    let merges = meta.strings(key)?.ok_or_else(|| Error::input(format!("`{key}` is missing")))?;
    let pair = |(i, m): (usize, &String)| {
        // A part may begin with a space, but none holds one.
        let at = m.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
        let (left, right) = at.map(|at| (&m[..at], &m[at + 1..])).unwrap_or_default();
        let known = |t: &str| vocab.ids.contains_key(t);
        if known(left) && known(right) && known(&format!("{left}{right}")) {
            Ok(json!([left, right]))
        } else {
            Err(Error::input(format!("item {i} of `{key}` does not join two tokens to a third")))
        }
    };
    let merges = merges.iter().enumerate().map(pair).collect::<Result<Vec<_>>>()?;
    let bos = vocab.id(meta, "bos_token_id")?;
    let eos = vocab.id(meta, "eos_token_id")?;
    let (prefix, suffix) = around(meta, (bos, split.add_bos), (eos, false))?;
    Ok(Parts {
        normalizer: if split.nfc { json!({"type": "NFC"}) } else { Value::Null },
        pre_tokenizer: split.pre_tokenizer,
        decoder: bytes_step(true, true),
        model: json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": split.ignore_merges, "vocab": by_token(vocab.tokens), "merges": merges,
        }),
        bos,
        eos,
        prefix,
        suffix,
        spelled: None,
    })
}
