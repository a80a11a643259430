//! `tokenizer.json` → blob (docs/format/tokenizer.md).
//!
//! | file | does |
//! |---|---|
//! | `json` | the file → `json::Source`, refusing whatever the blob cannot say |
//! | `cuts`, `template`, `decoder` | its pre-tokenizer, post-processor and decoder |
//! | `vocab` | every token with its bytes, and the literals among them |
//! | `merges` | which merges are ever made |
//! | `pieces` | unigram and WordPiece: the trie, the scores |
//! | `normalizer` | what is done to characters |
//! | `classes` | letters, numbers, … as one range table |
//! | `write`, `bits` | tables → bytes |

pub(super) mod bits;
mod classes;
mod cuts;
mod decoder;
pub(super) mod json;
pub(super) mod merges;
mod normal_steps;
mod normal_tables;
pub(super) mod normalizer;
pub(super) mod pieces;
#[cfg(test)]
mod pieces_tests;
mod template;
mod vocab;
mod write;

use super::TokenizerError;
use cuts::{Cuts, Front, Words};
use json::{unsupported, Bpe, Model, Source, SPACE_MARK};
use merges::{Live, Merges};
use pieces::Sums;
use std::collections::{BTreeSet, HashSet};
pub(super) use vocab::alphabet;
use vocab::Vocab;
use write::{Body, Merging, Tables, Unknown};
pub use write::{MAGIC, VERSION};

/// Most ids a blob may have. Bit offsets into every table then fit 32 bits.
pub const MAX_VOCAB: u32 = 1 << 20;
/// Most atoms of a token that merges make.
const MAX_ATOMS: u32 = 1023;
/// Right halves a decoder may have pending; tokens that need more are spelled out.
const MAX_PENDING: u32 = 32;
/// Longest word of WordPiece, in characters.
const MAX_LIMIT: u32 = 4096;
/// What the reference takes off the lowest score for an unknown piece.
const UNKNOWN_PENALTY: f64 = 10.0;

type Checked<T> = Result<T, TokenizerError>;

/// Compiles a Hugging Face `tokenizer.json` into a device tokenizer.
///
/// `tokenizer_json` is the whole file. The result is one little-endian blob (docs/format/tokenizer.md); the same file always gives the same bytes.
///
/// # Errors
/// `Json` if the file cannot be read, `Invalid` if it contradicts itself, and `Unsupported` with key and value if it asks for something the blob
/// cannot say. The model may then be exported without a device tokenizer.
pub fn compile(tokenizer_json: &[u8]) -> Checked<Vec<u8>> {
    let source = json::read(tokenizer_json)?;
    let normalizer = normalizer::normalizer(&source.normalizer)?;
    let mut vocab = Vocab::new(&source, normalizer.as_deref())?;
    for (key, ids) in [("prefix", &source.prefix), ("suffix", &source.suffix)] {
        if let Some(id) = ids.iter().find(|id| !vocab.has(**id)) {
            return Err(invalid_template(key, *id));
        }
    }
    let mut cuts = source.cuts;
    let (body, byte_ids) = match &source.model {
        Model::Bpe(bpe) => merged(bpe, &mut vocab, &mut cuts)?,
        Model::Unigram { scores, unknown, byte_fallback } => {
            let byte_ids = vocab.byte_tokens(*byte_fallback)?;
            (unigram(scores, *unknown, !byte_ids.is_empty(), &source, &mut vocab, &mut cuts)?, byte_ids)
        }
        Model::WordPiece { unknown, prefix, limit } => {
            if !(1..=MAX_LIMIT).contains(limit) {
                let reason = format!("only 1 to {MAX_LIMIT}");
                return Err(unsupported("model.max_input_chars_per_word", limit, reason));
            }
            if prefix.len() > 255 {
                return Err(unsupported("model.continuing_subword_prefix", prefix, "at most 255 bytes"));
            }
            let unknown = Unknown {
                id: Some(*unknown),
                limit: *limit,
                prefix: prefix.clone().into_bytes(),
                ..Unknown::default()
            };
            let pieces = pieces::pieces(&vocab.pieces(&HashSet::new()), vocab.size)?;
            (Body::WordPiece { pieces, unknown }, Vec::new())
        }
    };
    let growth = growth(&body, normalizer.as_deref(), &cuts);
    write::write(&Tables {
        vocab_size: vocab.size,
        max_token_bytes: vocab.longest()?,
        growth,
        prefix: source.prefix.clone(),
        suffix: source.suffix.clone(),
        byte_ids,
        literals: vocab.literals(),
        classes: classes::build(&cuts.classes()),
        normalizer: normalizer.map(|section| (section, normalizer::WORK)),
        cuts,
        decoder: source.decoder,
        body,
    })
}

fn invalid_template(key: &str, id: u32) -> TokenizerError {
    json::invalid("post_processor", format!("{key} id {id} is not a token"))
}

/// Byte-pair encoding, over bytes or characters.
fn merged(bpe: &Bpe, vocab: &mut Vocab, cuts: &mut Cuts) -> Checked<(Body, Vec<(u8, u32)>)> {
    let byte_ids = if bpe.bytes {
        let ids = vocab.alphabet_ids();
        let rule = if bpe.unknown.is_some() {
            Some("model.unk_token")
        } else {
            bpe.byte_fallback.then_some("model.byte_fallback")
        };
        let known: BTreeSet<u8> = ids.iter().map(|(byte, _)| *byte).collect();
        if let (Some(key), Some(byte)) = (rule, (0..=255).find(|byte| !known.contains(byte))) {
            return Err(unsupported(key, "set", format!("byte 0x{byte:02x} is not in the vocabulary")));
        }
        ids
    } else {
        vocab.byte_tokens(bpe.byte_fallback)?
    };
    let pairs: Vec<(u32, u32, u32)> =
        bpe.merges.iter().map(|pair| merges::ids(pair, |token| vocab.id(token))).collect::<Checked<_>>()?;
    if !bpe.bytes {
        // These are atoms that no character is, and what they would merge to cannot be told from the text of a token.
        let apart: HashSet<u32> = byte_ids.iter().map(|(_, id)| *id).chain(bpe.unknown).collect();
        if let Some((left, right, _)) = pairs.iter().find(|(l, r, _)| apart.contains(l) || apart.contains(r)) {
            let pair = format!("{} {}", vocab.name(*left), vocab.name(*right));
            return Err(unsupported("model.merges", pair, "merges the unknown token or a byte token"));
        }
    }
    let mut all = Merges::new(pairs.into_iter());
    let live = all.live(|id| vocab.atoms(id, bpe.bytes), |id| vocab.name(id))?;
    let longest = longest(&live, vocab)?;
    let made: HashSet<u32> = live.iter().map(|merge| merge.result).collect();
    let pending = merges::pending(&live);
    let spelled = |id: u32| made.contains(&id) && pending.get(&id).is_none_or(|n| *n <= MAX_PENDING);
    let atoms = if bpe.bytes { Vec::new() } else { vocab.characters() };
    let known: HashSet<u32> = byte_ids.iter().map(|(_, id)| *id).chain(atoms.iter().map(|(_, id)| *id)).collect();
    for id in vocab.ids() {
        if !known.contains(&id) && !spelled(id) {
            vocab.spell_out(id);
        }
        if bpe.ignore_merges && vocab.is_word(id, bpe.bytes) {
            let atoms = vocab.atoms(id, bpe.bytes);
            let merged = match atoms.as_deref() {
                None | Some([]) => false,
                Some([one]) => *one == id,
                Some(atoms) => all.last(atoms).is_some_and(|live| live.result == id),
            };
            if !merged {
                vocab.whole(id)?;
            }
        }
    }
    let merging = Merging { live, longest };
    if bpe.bytes {
        return Ok((Body::Bytes(merging), byte_ids));
    }
    let mark_is_atom = atoms.iter().any(|(c, _)| SPACE_MARK.starts_with(*c));
    let inside = made.iter().any(|id| mark_inside(&vocab.name(*id)));
    if cuts.words == Words::Whole && !bpe.ignore_merges && mark_is_atom && !inside {
        cuts.words = Words::FirstMarks;
    }
    let unknown =
        Unknown { id: bpe.unknown, byte_fallback: !byte_ids.is_empty(), fuse: bpe.fuse, ..Unknown::default() };
    Ok((Body::Characters(atoms, merging, unknown), byte_ids))
}

/// Longest result in atoms.
fn longest(live: &[Live], vocab: &Vocab) -> Checked<u16> {
    let Some(most) = live.iter().max_by_key(|live| live.atoms) else { return Ok(1) };
    if most.atoms > MAX_ATOMS {
        let reason = format!("a token of {} characters, at most {MAX_ATOMS}", most.atoms);
        return Err(unsupported("model.merges", vocab.name(most.result), reason));
    }
    Ok(most.atoms as u16)
}

/// Whether a U+2581 follows another character.
fn mark_inside(token: &str) -> bool {
    token.trim_start_matches(SPACE_MARK).contains(SPACE_MARK)
}

fn unigram(
    scores: &[f64],
    unknown: u32,
    byte_fallback: bool,
    source: &Source,
    vocab: &mut Vocab,
    cuts: &mut Cuts,
) -> Checked<Body> {
    // SentencePiece's own pieces are those that are no controls and no bytes.
    let mut left_out: HashSet<u32> = HashSet::new();
    let mut by_id = scores.to_vec();
    by_id.resize(vocab.size as usize, 0.0);
    let (sums, below) = if source.sentencepiece.is_some() {
        left_out.insert(unknown);
        left_out.extend(source.added.iter().filter(|token| token.special).map(|token| token.id));
        left_out.extend(vocab.byte_tokens(byte_fallback)?.into_iter().map(|(_, id)| id));
        let user: Vec<u32> = source.added.iter().filter(|token| !token.special).map(|token| token.id).collect();
        let normal = (0..).zip(scores).filter(|(id, _)| !left_out.contains(id) && !user.contains(id));
        // SentencePiece starts from the smallest positive number, so this is what its users' pieces score in every trained model.
        let (mut least, mut most) = (f32::MAX, f32::MIN_POSITIVE);
        normal.for_each(|(_, score)| (least, most) = (least.min(*score as f32), most.max(*score as f32)));
        for id in user {
            if let Some(score) = by_id.get_mut(id as usize) {
                *score = f64::from((f64::from(vocab.name(id).len() as f32 * most) - 0.1) as f32);
            }
        }
        (Sums::Binary32, f64::from(least - UNKNOWN_PENALTY as f32))
    } else {
        let least = scores.iter().copied().fold(f64::MAX, f64::min);
        (Sums::Binary64, least - UNKNOWN_PENALTY)
    };
    let list = vocab.pieces(&left_out);
    let known: HashSet<u32> = list.iter().map(|(id, _)| *id).collect();
    let bytes: HashSet<u32> = vocab.byte_tokens(byte_fallback)?.into_iter().map(|(_, id)| id).collect();
    let longest = list.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0) as u32;
    for id in vocab.ids() {
        if !known.contains(&id) && !bytes.contains(&id) {
            vocab.spell_out(id);
        }
    }
    let mark_is_piece = vocab.id(SPACE_MARK).is_some_and(|id| known.contains(&id));
    if cuts.words == Words::Whole && mark_is_piece && !known.iter().any(|id| mark_inside(&vocab.name(*id))) {
        cuts.words = Words::FirstMarks;
    }
    Ok(Body::Unigram {
        pieces: pieces::pieces(&list, vocab.size)?,
        scores: pieces::scores(&by_id, below, sums)?,
        longest,
        unknown: Unknown { id: Some(unknown), byte_fallback, fuse: true, ..Unknown::default() },
    })
}

/// Most ids that one byte of a text becomes, in sixteenths; for unigram also most bytes of the normalized text.
fn growth(body: &Body, normalizer: Option<&[u8]>, cuts: &Cuts) -> u32 {
    let mark_is_one = match body {
        Body::Bytes(_) | Body::WordPiece { .. } => true,
        Body::Characters(atoms, ..) => atoms.iter().any(|(c, _)| SPACE_MARK.starts_with(*c)),
        Body::Unigram { .. } => false,
    };
    let front = match cuts.front {
        // Where the text is cut between any two bytes, each has one in front.
        Front::Every if cuts.mark && !mark_is_one => 48,
        Front::Every => 16,
        Front::None | Front::First => 0,
    };
    normalizer.map_or(16, normalizer::growth) + front
}
