//! Opening a blob: every check on what its sections say, and where everything is.

use super::bits::{byte, le, width_of, Packed, Span};
use super::merges::Merges;
use super::text::Which;
use super::{bpe, classes, normal, parts, pieces, unigram, wordpiece, words, Bad, Fault};

const MAGIC: &[u8] = b"BNTK";
const VERSION: u32 = 2;
const HEADER: u32 = 32;
const DIRECTORY_ENTRY: u32 = 8;
/// Most ids; bit offsets into every table then fit 32 bits.
const MAX_VOCAB: u32 = 1 << 20;
/// Bytes of a blob are fewer, so that offsets and small sums of them fit everywhere.
const MAX_BLOB: u32 = 1 << 31;
/// Kinds of sections, by number.
const KINDS: usize = 14;

/// Literal: a reader of the text should not be shown it.
pub const SPECIAL: u8 = 1;
/// Literal: looked for in the text.
pub const MATCH: u8 = 2;
/// Literal: stands for a whole word.
pub const WHOLE: u8 = 4;
/// Literal: swallows white space before it.
pub const LSTRIP: u8 = 8;
/// Literal: swallows white space after it.
pub const RSTRIP: u8 = 16;
/// Literal: looked for in normalized text.
pub const NORMALIZED: u8 = 32;
/// Literal: decodes to other bytes than it is found by.
pub const HIDDEN: u8 = 64;

/// What turns a word into ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Model {
    /// Merges over bytes.
    #[default]
    Bytes = 0,
    /// Merges over characters.
    Characters = 1,
    /// Best sum of scores.
    Unigram = 2,
    /// Longest piece first.
    WordPiece = 3,
}

/// Section 5.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Literals {
    /// Their entries.
    pub entries: Span,
    /// Sets of bytes with which those of each kind ([`Which`]) start.
    starts: [[u32; 8]; 3],
}

impl Literals {
    /// Whether there is any literal of this kind.
    pub fn any(&self, which: Which) -> bool {
        self.starts[which as usize] != [0; 8]
    }

    /// Whether a literal of this kind starts with the byte.
    pub fn starts(&self, which: Which, byte: u8) -> bool {
        self.starts[which as usize][usize::from(byte >> 5)] >> (byte & 31) & 1 != 0
    }
}

/// Section 9.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unknown {
    /// Id of what is not in the vocabulary, if there is one.
    pub id: Option<u32>,
    /// Most characters of a word (WordPiece).
    pub limit: u32,
    /// Whether such characters become byte tokens.
    pub bytes: bool,
    /// Whether a run of them is one id.
    pub fuse: bool,
    /// What a piece that continues a word starts with (WordPiece).
    pub prefix: Span,
}

/// Section 8.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cuts {
    /// Stage one.
    pub splitter: u8,
    /// Stage two.
    pub words: u8,
    /// Virtual character in front of: 0 nothing, 1 every part, 2 the first one.
    pub front: u8,
    /// Which: 0 space, 1 U+2581.
    pub character: u8,
}

/// A checked blob: what it holds and where. Plain data, so that whoever owns the blob can keep it beside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// Largest id + 1.
    pub vocab: u32,
    /// Words of scratch that encoding needs.
    pub work: u32,
    /// Most ids that one byte of text becomes, in sixteenths.
    pub growth: u32,
    /// Bytes of the longest token.
    pub longest: u32,
    /// Words to ids.
    pub model: Model,
    /// Template ids before a text and after it, four bytes each.
    pub template: [Span; 2],
    /// Byte runs, five bytes each.
    pub runs: Span,
    /// Code points of the atoms of model 1, and their ids.
    pub characters: [Packed; 2],
    /// How many there are.
    pub character_count: u32,
    /// Merges, models 0 and 1.
    pub merges: Merges,
    /// Literals.
    pub literals: Literals,
    /// Class table.
    pub classes: Span,
    /// Section 7.
    pub normal_section: Span,
    /// What its reader found there.
    pub normal: normal::Normal,
    /// Pre-tokenizer.
    pub cuts: Cuts,
    /// Unknown characters.
    pub unknown: Unknown,
    /// Section 10, models 2 and 3.
    pub pieces_section: Span,
    /// What its reader found there.
    pub pieces: pieces::Pieces,
    /// Section 11, model 2.
    pub scores_section: Span,
    /// What its reader found there.
    pub scores: unigram::Scores,
    /// Flags of the decoder.
    pub decoder: u8,
    /// Section 13.
    pub chat: Span,
}

fn ensure(ok: bool, at: u32, what: &'static str) -> Result<(), Bad> {
    if ok {
        Ok(())
    } else {
        Err(Bad { at, what })
    }
}

impl Layout {
    /// Checks a blob. Any bytes may be given.
    ///
    /// # Errors
    /// `Magic`, `Version`, `Format` with the rule that is broken, `Feature` if this build leaves out what the blob needs.
    pub fn open(blob: &[u8]) -> Result<Layout, Fault> {
        if !blob.starts_with(MAGIC) {
            return Err(Fault::Magic);
        }
        if le(blob, 4, 2) != VERSION {
            return Err(Fault::Version);
        }
        let length = u32::try_from(blob.len()).unwrap_or(u32::MAX);
        ensure((HEADER..MAX_BLOB).contains(&length), 0, "header cut short, or blob of 2^31 bytes or more")?;
        ensure(le(blob, 6, 2) == 0 && le(blob, 28, 4) == 0, 6, "reserved bits of the header")?;
        ensure(le(blob, 8, 4) == length, 8, "length differs from that of the blob")?;
        let mut layout = Layout {
            vocab: le(blob, 12, 4),
            work: le(blob, 16, 4),
            growth: le(blob, 24, 4),
            longest: le(blob, 20, 2),
            ..Layout::default()
        };
        ensure((1..=MAX_VOCAB).contains(&layout.vocab), 12, "vocabulary size")?;
        layout.model = match byte(blob, 22) {
            0 => Model::Bytes,
            1 => Model::Characters,
            2 => Model::Unigram,
            3 => Model::WordPiece,
            _ => return Err(Bad { at: 22, what: "unknown model" }.into()),
        };
        let sections = directory(blob, length)?;
        layout.needs(&sections)?;
        for (kind, section) in sections.iter().enumerate() {
            if let Some(section) = *section {
                layout.read(blob, kind, section)?;
            }
        }
        let model = match layout.model {
            Model::Bytes | Model::Characters => bpe::work(layout.merges.longest),
            Model::Unigram => unigram::work(layout.pieces.longest),
            Model::WordPiece => wordpiece::work(layout.unknown.limit),
        };
        let normal = if layout.normal.present { normal::WORK } else { 0 };
        ensure(Some(layout.work) == model.checked_add(normal), 16, "words of scratch")?;
        Ok(layout)
    }

    /// Which sections this model must have, and may; which parts of this build.
    fn needs(&self, sections: &[Option<Span>; KINDS]) -> Result<(), Fault> {
        let [_, _, _, characters, merges, _, _, normal, _, unknown, pieces, scores, _, _] =
            sections.map(|s| s.is_some());
        let (built, has, extra) = match self.model {
            Model::Bytes => (parts::BPE, true, characters || unknown || pieces || scores),
            Model::Characters => (parts::BPE, unknown && characters, pieces || scores),
            Model::Unigram => (parts::UNIGRAM, unknown && pieces && scores, merges || characters),
            Model::WordPiece => (parts::WORDPIECE, unknown && pieces, merges || characters || scores),
        };
        if !built || normal && !parts::NORMAL {
            return Err(Fault::Feature);
        }
        ensure(has, HEADER, "a section that the model needs is missing")?;
        ensure(!extra, HEADER, "a section that the model does not use")?;
        Ok(())
    }

    fn read(&mut self, blob: &[u8], kind: usize, section: Span) -> Result<(), Bad> {
        match kind {
            1 => self.read_template(blob, section),
            2 => self.read_runs(blob, section),
            3 => self.read_characters(blob, section),
            4 => Merges::read(blob, section, self.vocab).map(|merges| self.merges = merges),
            5 => self.read_literals(blob, section),
            6 => {
                self.classes = section;
                classes::check(blob, section)
            }
            7 => {
                self.normal_section = section;
                normal::Normal::read(blob, section).map(|normal| self.normal = normal)
            }
            8 => self.read_cuts(blob, section),
            9 => self.read_unknown(blob, section),
            10 => {
                self.pieces_section = section;
                pieces::Pieces::read(blob, section, self.vocab).map(|pieces| self.pieces = pieces)
            }
            11 => {
                self.scores_section = section;
                unigram::Scores::read(blob, section, self.vocab).map(|scores| self.scores = scores)
            }
            12 => {
                ensure(section.len == 4 && le(blob, section.at, 4) < 32, section.at, "decoder")?;
                self.decoder = byte(blob, section.at);
                Ok(())
            }
            _ => {
                self.chat = section;
                Ok(())
            }
        }
    }

    fn read_template(&mut self, blob: &[u8], section: Span) -> Result<(), Bad> {
        let [before, after] = [byte(blob, section.at), byte(blob, section.at + 1)].map(|count| 4 * u32::from(count));
        let ok = section.len == 4 + before + after && le(blob, section.at + 2, 2) == 0;
        ensure(ok, section.at, "template of the wrong length")?;
        let first = Span { at: section.at + 4, len: before };
        self.template = [first, Span { at: first.end(), len: after }];
        let known = Span { len: before + after, ..first }.of(blob).chunks(4).all(|id| le(id, 0, 4) < self.vocab);
        ensure(known, section.at, "template id beyond the vocabulary")
    }

    fn read_runs(&mut self, blob: &[u8], section: Span) -> Result<(), Bad> {
        ensure(section.len.is_multiple_of(5), section.at, "byte runs of the wrong length")?;
        let mut next = 0;
        for run in section.of(blob).chunks(5) {
            let (id, first, count) = (le(run, 0, 3), le(run, 3, 1), le(run, 4, 1) + 1);
            let ok = first >= next && first + count <= 256 && id + count <= self.vocab;
            ensure(ok, section.at, "byte run out of order or range")?;
            next = first + count;
        }
        self.runs = section;
        Ok(())
    }

    fn read_characters(&mut self, blob: &[u8], section: Span) -> Result<(), Bad> {
        let (count, width) = (le(blob, section.at, 4), le(blob, section.at + 4, 4));
        let ok = section.len >= 8 && count <= self.vocab && (1..=21).contains(&width);
        ensure(ok, section.at, "bad header of the characters")?;
        let id_bits = width_of(self.vocab - 1);
        // At most 2^20 fields of 21 bits.
        let codes = Span { at: section.at + 8, len: (count * width).div_ceil(8) };
        let ids = Span { at: codes.at + codes.len, len: (count * id_bits).div_ceil(8) };
        ensure(ids.at + ids.len == section.end(), section.at, "characters of the wrong length")?;
        self.characters = [Packed { span: codes, width }, Packed { span: ids, width: id_bits }];
        self.character_count = count;
        let [codes, ids] = self.characters;
        let mut next = 0;
        for k in 0..count {
            let code = codes.get(blob, k);
            let ok = code >= next && code < super::text::STRAY && ids.get(blob, k) < self.vocab;
            ensure(ok, section.at, "character out of order or range")?;
            next = code + 1;
        }
        Ok(())
    }

    fn read_literals(&mut self, blob: &[u8], section: Span) -> Result<(), Bad> {
        ensure(section.len >= 4, section.at, "literals cut short")?;
        self.literals.entries = Span { at: section.at + 4, len: section.len - 4 };
        let (mut at, mut before) = (section.at + 4, u32::MAX);
        for _ in 0..le(blob, section.at, 4) {
            ensure(section.end() - at > 6, at, "literal cut short")?;
            let (id, flags, length) = (le(blob, at, 3), byte(blob, at + 3), le(blob, at + 4, 2));
            ensure(id < self.vocab, at, "literal beyond the vocabulary")?;
            let alone = flags & MATCH == 0 && flags & (LSTRIP | RSTRIP | NORMALIZED) != 0;
            ensure(flags < 128 && !alone, at, "reserved flag of a literal")?;
            ensure((1..=before).contains(&length), at, "literals are not longest first")?;
            let bytes = Span { at: at + 6, len: length };
            let is_text = |bytes: &[u8]| core::str::from_utf8(bytes).is_ok();
            // Bytes are looked for character by character, so they have to be characters.
            ensure(flags & MATCH == 0 || is_text(bytes.of(blob)), at, "literal that is no text")?;
            let first = byte(blob, at + 6);
            let mut behind = at + 6 + length;
            if flags & HIDDEN != 0 {
                ensure(behind + 2 <= section.end(), at, "literal cut short")?;
                behind += 2 + le(blob, behind, 2);
            }
            ensure(behind <= section.end(), at, "literal cut short")?;
            for which in Which::ALL {
                if which.takes(flags) {
                    self.literals.starts[which as usize][usize::from(first >> 5)] |= 1 << (first & 31);
                }
            }
            (at, before) = (behind, length);
        }
        ensure(at == section.end(), at, "bytes after the last literal")
    }

    fn read_cuts(&mut self, blob: &[u8], section: Span) -> Result<(), Bad> {
        let [splitter, words, front, character] = [0, 1, 2, 3].map(|k| byte(blob, section.at + k));
        let known = splitter <= words::SPLITTERS && words <= words::WORDS && front <= 2 && character <= 1;
        ensure(section.len == 4 && known, section.at, "unknown way to cut words")?;
        self.cuts = Cuts { splitter, words, front, character };
        Ok(())
    }

    fn read_unknown(&mut self, blob: &[u8], section: Span) -> Result<(), Bad> {
        let (id, flags, prefix) = (le(blob, section.at, 4), byte(blob, section.at + 8), le(blob, section.at + 9, 1));
        ensure(section.len >= 12 && section.len == 12 + prefix, section.at, "model section of the wrong length")?;
        ensure(flags < 4 && le(blob, section.at + 10, 2) == 0, section.at, "reserved bits of the model section")?;
        let limit = le(blob, section.at + 4, 4);
        let pieces = self.model == Model::WordPiece;
        ensure(limit <= wordpiece::LIMIT && (pieces || limit == 0), section.at, "limit of a word's characters")?;
        ensure(pieces || prefix == 0, section.at, "prefix of pieces in a model without one")?;
        ensure(id < self.vocab || id == u32::MAX, section.at, "unknown id beyond the vocabulary")?;
        self.unknown = Unknown {
            id: (id != u32::MAX).then_some(id),
            limit,
            bytes: flags & 1 != 0,
            fuse: flags & 2 != 0,
            prefix: Span { at: section.at + 12, len: prefix },
        };
        Ok(())
    }

    /// The character that the pre-tokenizer puts in front.
    pub fn front_character(&self) -> u32 {
        if self.cuts.character == 0 {
            0x20
        } else {
            0x2581
        }
    }
}

/// Where the section of each kind is.
fn directory(blob: &[u8], length: u32) -> Result<[Option<Span>; KINDS], Bad> {
    let count = le(blob, 23, 1);
    let (mut at, mut least) = (HEADER + DIRECTORY_ENTRY * count, 1);
    ensure(at <= length, HEADER, "directory cut short")?;
    let mut sections = [None; KINDS];
    for k in 0..count {
        let entry = HEADER + DIRECTORY_ENTRY * k;
        let (kind, len) = (le(blob, entry, 4), le(blob, entry + 4, 4));
        ensure(kind >= least && kind < KINDS as u32, entry, "unknown section, or out of order")?;
        ensure(len <= length - at, entry, "section beyond the end")?;
        sections[kind as usize] = Some(Span { at, len });
        at += len;
        least = kind + 1;
    }
    ensure(at == length, at, "bytes after the last section")?;
    Ok(sections)
}
