//! Every token of a source: its id, its text, its bytes, and which are spelled out as literals.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::TokenizerError;
use super::json::{invalid, unsupported, Added, Model, Source};
use super::write::{Literal, LSTRIP, MATCH, NORMALIZED, RSTRIP, SPECIAL, WHOLE};
use super::{normalizer, Checked, MAX_VOCAB};

/// Byte ↔ character of the byte-level alphabet: printable Latin-1 stands for itself, the other bytes for the characters from U+0100 on, in order.
pub(in crate::tokenizer) fn alphabet() -> BTreeMap<char, u8> {
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

/// The token that stands for one byte.
fn byte_name(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

pub(super) struct Vocab<'a> {
    /// Largest id + 1.
    pub size: u32,
    /// Tokens of the model; of two with the same text the last counts.
    ids: HashMap<&'a str, u32>,
    tokens: BTreeMap<u32, &'a str>,
    literals: BTreeMap<u32, Literal>,
    /// Literals that are looked for in the normalized text too.
    twice: Vec<Literal>,
    alphabet: HashMap<char, u8>,
    /// Id of each byte, if atoms are bytes.
    bytes: Option<[Option<u32>; 256]>,
}

impl<'a> Vocab<'a> {
    pub fn new(source: &'a Source, normalizer: Option<&[u8]>) -> Checked<Vocab<'a>> {
        let mut vocab = Vocab {
            size: 0,
            ids: HashMap::with_capacity(source.vocab.len()),
            tokens: BTreeMap::new(),
            literals: BTreeMap::new(),
            twice: Vec::new(),
            alphabet: alphabet().into_iter().collect(),
            bytes: None,
        };
        for (token, id) in &source.vocab {
            if token.is_empty() {
                return Err(invalid("model.vocab", "has an empty token"));
            }
            if vocab.tokens.insert(*id, token).is_some() {
                return Err(invalid("model.vocab", format!("two tokens have the id {id}")));
            }
            vocab.ids.insert(token, *id);
        }
        if matches!(&source.model, Model::Bpe(bpe) if bpe.bytes) {
            let mut bytes = [None; 256];
            for (character, byte) in &vocab.alphabet {
                bytes[usize::from(*byte)] = vocab.ids.get(character.encode_utf8(&mut [0; 4])).copied();
            }
            vocab.bytes = Some(bytes);
        }
        vocab.added(source, normalizer)?;
        vocab.size = match vocab.tokens.keys().chain(vocab.literals.keys()).max() {
            Some(&id) if id < MAX_VOCAB => id + 1,
            Some(id) => return Err(unsupported("model.vocab", id, format!("ids must be below {MAX_VOCAB}"))),
            None => return Err(invalid("model.vocab", "is empty")),
        };
        Ok(vocab)
    }

    fn added(&mut self, source: &'a Source, normalizer: Option<&[u8]>) -> Checked<()> {
        let mut next = source.vocab.len() as u32;
        let mut seen = HashSet::new();
        // Without a normalizer the flag only decides which tokens are looked for first, so it says nothing as long as all agree.
        let alike = source.added.windows(2).all(|pair| pair[0].normalized == pair[1].normalized);
        for added in source.added.iter().filter(|added| !added.content.is_empty()) {
            if !seen.insert(&added.content) {
                return Err(invalid("added_tokens", format!("`{}` is there twice", added.content)));
            }
            // The reference takes the id from the vocabulary or counts on from its size, whatever the file says.
            let expected = self.ids.get(added.content.as_str()).copied().unwrap_or_else(|| {
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
            if source.sentencepiece.is_some() {
                self.sentencepiece(added, source, normalizer.is_some())?;
                continue;
            }
            let normalized = added.normalized && (normalizer.is_some() || !alike);
            let content = match normalizer.filter(|_| normalized) {
                Some(section) => normalizer::normalized(section, &added.content),
                None => added.content.clone(),
            };
            if content.is_empty() {
                let key = format!("added_tokens[`{}`].normalized", added.content);
                return Err(unsupported(key, true, "nothing is left of it once normalized"));
            }
            let flags = [(true, MATCH), (added.special, SPECIAL), (added.lstrip, LSTRIP), (added.rstrip, RSTRIP)];
            let flags = flags.iter().chain(&[(normalized, NORMALIZED)]).filter(|f| f.0).fold(0, |all, f| all | f.1);
            // The decoder of the reference does not know where a token comes from.
            let spelling = self.bytes.is_some().then(|| self.decoded(&content));
            self.literals.insert(added.id, Literal { id: added.id, flags, bytes: content.into_bytes(), spelling });
        }
        if let (Some(surface), Model::Bpe(super::Bpe { unknown: Some(id), .. }) | Model::Unigram { unknown: id, .. }) =
            (&source.sentencepiece, &source.model)
        {
            let surface = &surface.unknown;
            let bytes = self.name(*id).into_bytes();
            let spelling = Some(surface.clone().into_bytes());
            self.literals.insert(*id, Literal { id: *id, flags: 0, bytes, spelling });
        }
        Ok(())
    }

    /// SentencePiece finds no control pieces in a text. What its users defined it keeps whole: in the text as it comes, and again in what
    /// normalization makes of the rest.
    fn sentencepiece(&mut self, added: &Added, source: &Source, normalizes: bool) -> Checked<()> {
        let flags = match &source.model {
            _ if added.special => SPECIAL,
            Model::Bpe(_) if source.sentencepiece.as_ref().is_some_and(|s| s.joins_ends()) => {
                let reason = "a text with a space in front, or without those at its ends, is not cut at such a token";
                return Err(unsupported("added_tokens[].content", &added.content, reason));
            }
            Model::Bpe(_) => MATCH,
            _ => return Ok(()),
        };
        let bytes = added.content.clone().into_bytes();
        let literal = Literal { id: added.id, flags, bytes, spelling: None };
        if normalizes && flags & MATCH != 0 {
            self.twice.push(Literal { flags: flags | NORMALIZED, ..literal.clone() });
        }
        self.literals.insert(added.id, literal);
        Ok(())
    }

    pub fn has(&self, id: u32) -> bool {
        self.tokens.contains_key(&id) || self.literals.contains_key(&id)
    }

    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// Ids of the model, ascending.
    pub fn ids(&self) -> Vec<u32> {
        self.tokens.keys().copied().collect()
    }

    /// The text of a token of the model.
    pub fn name(&self, id: u32) -> String {
        self.tokens.get(&id).map_or(String::new(), |token| token.to_string())
    }

    /// Bytes as the decoder of byte-level tokenizers has them: by the alphabet, or as they are if a character is not in it.
    fn decoded(&self, token: &str) -> Vec<u8> {
        let bytes: Option<Vec<u8>> = token.chars().map(|character| self.alphabet.get(&character).copied()).collect();
        bytes.unwrap_or_else(|| token.as_bytes().to_vec())
    }

    fn spelling(&self, token: &str) -> Vec<u8> {
        match self.bytes {
            Some(_) => self.decoded(token),
            None => token.as_bytes().to_vec(),
        }
    }

    /// Ids of the bytes that have one, ascending bytes; byte-level models.
    pub fn alphabet_ids(&self) -> Vec<(u8, u32)> {
        let all = self.bytes.iter().flatten();
        (0..=255).zip(all).filter_map(|(byte, id)| id.map(|id| (byte, id))).collect()
    }

    /// Ids of the tokens `<0x00>` to `<0xFF>` if they are the fallback.
    ///
    /// # Errors
    /// `Unsupported` if only some of them exist.
    pub fn byte_tokens(&self, fallback: bool) -> Checked<Vec<(u8, u32)>> {
        if !fallback {
            return Ok(Vec::new());
        }
        let all: Vec<(u8, u32)> = (0..=255).filter_map(|byte| self.id(&byte_name(byte)).map(|id| (byte, id))).collect();
        if !all.is_empty() && all.len() < 256 {
            let reason = format!("{} of the 256 byte tokens are in the vocabulary", all.len());
            return Err(unsupported("model.byte_fallback", true, reason));
        }
        Ok(all)
    }

    /// Tokens of one character, by character.
    pub fn characters(&self) -> Vec<(char, u32)> {
        let single = |(token, id): (&&str, &u32)| {
            let mut characters = token.chars();
            Some((characters.next()?, *id)).filter(|_| characters.next().is_none())
        };
        let mut all: Vec<(char, u32)> = self.ids.iter().filter_map(single).collect();
        all.sort_unstable();
        all
    }

    /// The atoms that a token of the model is made of; None if one does not exist.
    pub fn atoms(&self, id: u32, bytes: bool) -> Option<Vec<u32>> {
        let token = self.tokens.get(&id)?;
        let table = self.bytes.as_ref().filter(|_| bytes);
        token
            .chars()
            .map(|character| match table {
                Some(table) => table[usize::from(*self.alphabet.get(&character)?)],
                None => self.id(character.encode_utf8(&mut [0; 4])),
            })
            .collect()
    }

    /// Whether some text is this token as a word: not if it has characters that the byte-level alphabet has not.
    pub fn is_word(&self, id: u32, bytes: bool) -> bool {
        let token = self.tokens.get(&id);
        token.is_some_and(|token| !bytes || token.chars().all(|character| self.alphabet.contains_key(&character)))
    }

    /// Every token of the model but some, with its bytes; of two with the same text the last.
    pub fn pieces(&self, without: &HashSet<u32>) -> Vec<(u32, Vec<u8>)> {
        let mut all: Vec<(u32, Vec<u8>)> = self
            .ids
            .iter()
            .filter(|(_, id)| !without.contains(id))
            .map(|(token, id)| (*id, token.as_bytes().to_vec()))
            .collect();
        all.sort_unstable();
        all
    }

    /// Makes a token of the model a literal, unless it is one.
    pub fn spell_out(&mut self, id: u32) {
        let Some(token) = self.tokens.get(&id) else { return };
        let bytes = self.spelling(token);
        self.literals.entry(id).or_insert(Literal { id, flags: 0, bytes, spelling: None });
    }

    /// A token of the model is a literal that is taken for a whole word.
    ///
    /// # Errors
    /// `Unsupported` if it is an added token that is found by another spelling.
    pub fn whole(&mut self, id: u32) -> Checked<()> {
        self.spell_out(id);
        let Some(token) = self.tokens.get(&id) else { return Ok(()) };
        let bytes = self.spelling(token);
        match self.literals.get_mut(&id) {
            // Found in the text before there are words.
            Some(literal) if literal.bytes == bytes && literal.flags & (MATCH | NORMALIZED) == MATCH => Ok(()),
            Some(literal) if literal.bytes == bytes => {
                literal.flags |= WHOLE;
                Ok(())
            }
            _ => Err(unsupported("model.ignore_merges", true, format!("`{token}` is also an added token"))),
        }
    }

    /// Bytes of the longest token.
    pub fn longest(&self) -> Result<u16, TokenizerError> {
        let literals = self.literals.values().flat_map(|l| std::iter::once(&l.bytes).chain(&l.spelling)).map(Vec::len);
        let tokens = self.tokens.values().map(|token| self.spelling(token).len());
        let longest = literals.chain(tokens).max().unwrap_or(0);
        u16::try_from(longest).map_err(|_| unsupported("model.vocab", longest, "tokens of at most 65,535 bytes"))
    }

    pub fn literals(self) -> Vec<Literal> {
        self.literals.into_values().chain(self.twice).collect()
    }
}
