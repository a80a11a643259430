//! Source → tables: which merges can be reached, and how each id is spelled.

use std::collections::{BTreeMap, BTreeSet};

use super::classes::{self, Class};
use super::owned::DeviceTokenizer;
use super::json::{self, invalid, unsupported, Source};
use super::layout::{
    write, LiteralSpec, Tables, DECODE_STACK, LITERAL_MATCH, LITERAL_SPECIAL, LITERAL_WHOLE, MAX_MERGES, MAX_VOCAB,
};
use super::TokenizerError;

/// Compiles a Hugging Face `tokenizer.json` into a device tokenizer.
///
/// `tokenizer_json` is the whole file. The result is one little-endian blob
/// (docs/format/tokenizer.md); the same file always gives the same bytes.
///
/// # Errors
/// `Json` if the file cannot be read, `Invalid` if it contradicts itself, and `Unsupported`
/// with key and value if it asks for something the blob cannot say. The model may then be
/// exported without a device tokenizer.
pub fn compile(tokenizer_json: &[u8]) -> Result<Vec<u8>, TokenizerError> {
    let source = json::read(tokenizer_json)?;
    let spellings = Spellings::new(&source)?;
    let mut tables = tables(&source, &spellings)?;
    let mut blob = write(&tables);
    if source.ignore_merges {
        let whole = whole_words(&spellings, &blob)?;
        if !whole.is_empty() {
            add_whole_words(&mut tables, &spellings, &whole)?;
            blob = write(&tables);
        }
    }
    Ok(blob)
}

/// Byte ↔ character of the byte-level alphabet: printable Latin-1 stands for itself, the other
/// bytes for the characters from U+0100 on, in order.
pub(super) fn alphabet() -> BTreeMap<char, u8> {
    let mut map = BTreeMap::new();
    let mut next = 0x100;
    for byte in 0..=255u8 {
        let code_point = match byte {
            0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u32::from(byte),
            _ => {
                next += 1;
                next - 1
            }
        };
        // At most U+0143, far from the surrogates.
        map.extend(char::from_u32(code_point).map(|character| (character, byte)));
    }
    map
}

/// Bytes of every id.
struct Spellings {
    /// By id: bytes, and whether they come from the byte-level alphabet (and so can be the
    /// result of merges).
    by_id: BTreeMap<u32, (Vec<u8>, bool)>,
    vocab_size: u32,
}

impl Spellings {
    fn new(source: &Source) -> Result<Self, TokenizerError> {
        let alphabet = alphabet();
        let mut by_id = BTreeMap::new();
        for (token, &id) in &source.vocab {
            if token.is_empty() {
                return Err(invalid("model.vocab", "has an empty token"));
            }
            let bytes: Option<Vec<u8>> = token.chars().map(|character| alphabet.get(&character).copied()).collect();
            let spelling = match bytes {
                Some(bytes) => (bytes, true),
                None => (token.as_bytes().to_vec(), false),
            };
            if by_id.insert(id, spelling).is_some() {
                return Err(invalid("model.vocab", format!("two tokens have the id {id}")));
            }
        }
        let mut next = source.vocab.len() as u32;
        let mut seen = BTreeSet::new();
        for added in &source.added {
            if added.content.is_empty() {
                continue;
            }
            if !seen.insert(&added.content) {
                let detail = format!("`{}` is there twice", added.content);
                return Err(invalid("added_tokens", detail));
            }
            // The reference takes the id from the vocabulary or counts on from its size,
            // whatever the file says.
            let expected = source.vocab.get(&added.content).copied().unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            if added.id != expected {
                let detail = format!(
                    "`{}` has the id {} but the reference tokenizer gives it {expected}",
                    added.content, added.id
                );
                return Err(invalid("added_tokens", detail));
            }
            let bytes = added.content.clone().into_bytes();
            match by_id.get(&added.id) {
                // One id, two spellings: found in the text as one, decoded as the other.
                Some((other, true)) if *other != bytes => {
                    let key = "added_tokens[].content";
                    let reason = "the byte-level alphabet gives it other bytes";
                    return Err(unsupported(key, &added.content, reason));
                }
                Some((_, true)) => {}
                _ => {
                    by_id.insert(added.id, (bytes, false));
                }
            }
        }
        let vocab_size = match by_id.last_key_value() {
            Some((&id, _)) if id < MAX_VOCAB => id + 1,
            Some((id, _)) => {
                let reason = format!("ids must be below {MAX_VOCAB}");
                return Err(unsupported("model.vocab", id, reason));
            }
            None => return Err(invalid("model.vocab", "is empty")),
        };
        Ok(Self { by_id, vocab_size })
    }
}

/// Merges that some text can trigger, by rank, as `(left, right, result)`.
fn reachable_merges(source: &Source, bytes: &[(u8, u32)]) -> Result<Vec<(u32, u32, u32)>, TokenizerError> {
    let id_of = |token: &str| {
        source
            .vocab
            .get(token)
            .copied()
            .ok_or_else(|| invalid("model.merges", format!("`{token}` is not in the vocabulary")))
    };
    let mut ranks = BTreeMap::new();
    for (rank, (left, right)) in source.merges.iter().enumerate() {
        let result = id_of(&format!("{left}{right}"))?;
        // A pair that is listed twice has its last rank, as in the reference.
        ranks.insert((id_of(left)?, id_of(right)?), (rank, result));
    }
    let mut list: Vec<_> =
        ranks.into_iter().map(|((left, right), (rank, result))| (rank, left, right, result)).collect();
    list.sort_unstable();
    let mut reached: BTreeSet<u32> = bytes.iter().map(|&(_, id)| id).collect();
    // Almost always one pass: results come after what they are made of.
    loop {
        let before = reached.len();
        for (_, left, right, result) in &list {
            if reached.contains(left) && reached.contains(right) {
                reached.insert(*result);
            }
        }
        if reached.len() == before {
            break;
        }
    }
    Ok(list
        .into_iter()
        .filter(|(_, left, right, _)| reached.contains(left) && reached.contains(right))
        .map(|(_, left, right, result)| (left, right, result))
        .collect())
}

/// Right halves pending while the id is expanded left to right, for every id made of merges.
fn stack_needs(spellings: &Spellings, bytes: &[(u8, u32)], merges: &[(u32, u32, u32)]) -> BTreeMap<u32, usize> {
    let mut makers = BTreeMap::new();
    for &(left, right, result) in merges {
        makers.entry(result).or_insert((left, right));
    }
    let mut results: Vec<u32> = makers.keys().copied().collect();
    // Halves are shorter than the whole, so by length every half comes first.
    results.sort_by_key(|id| spellings.by_id[id].0.len());
    let mut needs: BTreeMap<u32, usize> = bytes.iter().map(|&(_, id)| (id, 0)).collect();
    for id in results {
        let (left, right) = makers[&id];
        needs.insert(id, (needs[&left] + 1).max(needs[&right]));
    }
    needs
}

fn tables(source: &Source, spellings: &Spellings) -> Result<Tables, TokenizerError> {
    let mut byte_ids = Vec::new();
    for (character, byte) in alphabet() {
        match (source.vocab.get(character.encode_utf8(&mut [0; 4])), source.missing_byte_rule) {
            (Some(&id), _) => byte_ids.push((byte, id)),
            (None, None) => {}
            (None, Some(key)) => {
                let reason = format!("byte 0x{byte:02x} is not in the vocabulary");
                return Err(unsupported(key, "set", reason));
            }
        }
    }
    byte_ids.sort_unstable();
    let merges = reachable_merges(source, &byte_ids)?;
    if merges.len() > MAX_MERGES as usize {
        let reason = format!("at most {MAX_MERGES}");
        return Err(unsupported("model.merges", merges.len(), reason));
    }
    let needs = stack_needs(spellings, &byte_ids, &merges);

    let mut literals = BTreeMap::new();
    for (&id, (bytes, _)) in &spellings.by_id {
        if needs.get(&id).is_none_or(|&need| need > DECODE_STACK) {
            literals.insert(id, LiteralSpec { id, flags: 0, bytes: bytes.clone() });
        }
    }
    for added in source.added.iter().filter(|added| !added.content.is_empty()) {
        let literal = LiteralSpec {
            id: added.id,
            flags: LITERAL_MATCH | if added.special { LITERAL_SPECIAL } else { 0 },
            bytes: added.content.clone().into_bytes(),
        };
        literals.insert(added.id, literal);
    }
    for (key, ids) in [("prefix", &source.prefix), ("suffix", &source.suffix)] {
        if let Some(id) = ids.iter().find(|id| !spellings.by_id.contains_key(id)) {
            return Err(invalid("post_processor", format!("{key} id {id} is not a token")));
        }
    }
    let longest = spellings.by_id.values().map(|(bytes, _)| bytes.len()).max().unwrap_or(0);
    let max_token_bytes =
        u16::try_from(longest).map_err(|_| unsupported("model.vocab", longest, "tokens of at most 65,535 bytes"))?;
    let wanted: BTreeSet<Class> = source.splitter.needs().iter().chain(source.words.needs()).copied().collect();
    let wanted: Vec<Class> = wanted.into_iter().collect();
    Ok(Tables {
        prefix_space: source.prefix_space,
        splitter: source.splitter,
        words: source.words,
        vocab_size: spellings.vocab_size,
        max_token_bytes,
        prefix: source.prefix.clone(),
        suffix: source.suffix.clone(),
        byte_ids,
        merges,
        literals: ordered(literals.into_values().collect())?,
        classes: classes::build(&wanted),
    })
}

/// Longest first, so that the first literal that matches is the longest.
fn ordered(mut literals: Vec<LiteralSpec>) -> Result<Vec<LiteralSpec>, TokenizerError> {
    if literals.len() > usize::from(u16::MAX) {
        let reason = "at most 65,535 tokens may be out of reach of the merges";
        return Err(unsupported("model.vocab", literals.len(), reason));
    }
    literals.sort_by(|a, b| (b.bytes.len(), &a.bytes, a.id).cmp(&(a.bytes.len(), &b.bytes, b.id)));
    Ok(literals)
}

/// Ids that `ignore_merges` gives to a word whose merges would give something else.
fn whole_words(spellings: &Spellings, blob: &[u8]) -> Result<Vec<u32>, TokenizerError> {
    let device = DeviceTokenizer::from_bytes(blob)?;
    let mut ids = Vec::new();
    for (&id, (bytes, mergeable)) in &spellings.by_id {
        if *mergeable && device.merge_word(bytes) != [id] {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn add_whole_words(tables: &mut Tables, spellings: &Spellings, ids: &[u32]) -> Result<(), TokenizerError> {
    let mut literals: BTreeMap<u32, LiteralSpec> =
        tables.literals.drain(..).map(|literal| (literal.id, literal)).collect();
    for &id in ids {
        let bytes = spellings.by_id[&id].0.clone();
        literals.entry(id).or_insert(LiteralSpec { id, flags: 0, bytes }).flags |= LITERAL_WHOLE;
    }
    tables.literals = ordered(literals.into_values().collect())?;
    Ok(())
}
