//! Opening a blob: every check, and where everything is.

use super::bits::{Packed, Permutation, Span};
use super::{normal, pieces, unigram};

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

/// Section 4.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merges {
    /// Merges, n.
    pub count: u32,
    /// First id of the range that holds the results.
    pub base: u32,
    /// Longest token in atoms, at least 1.
    pub longest: u32,
    /// Bits of a sample's offset.
    pub offset_bits: u32,
    /// Every 32nd merge.
    pub samples: Span,
    /// Codes of the others.
    pub stream: Span,
    /// Sorted place to id - base.
    pub places: Permutation,
    /// Rank of id base + i, if they do not ascend with it.
    pub ranks: Option<Packed>,
}

/// Section 5.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Literals {
    /// Their entries.
    pub entries: Span,
    /// How many.
    pub count: u32,
    /// Bytes with which those start that are looked for in raw text, in normalized text, and as whole words.
    pub starts: [[u32; 8]; 3],
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
    /// 0 none, 1 every part, 2 the first one.
    pub front: u8,
    /// 0 space, 1 U+2581.
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
    /// Template ids before a text and after it.
    pub template: [Span; 2],
    /// Byte runs.
    pub runs: Span,
    /// Code points of the atoms of model 1, and their ids.
    pub characters: [Packed; 2],
    /// How many there are.
    pub character_count: u32,
    /// Merges.
    pub merges: Merges,
    /// Literals.
    pub literals: Literals,
    /// Class table.
    pub classes: Span,
    /// Normalizer section, and what its reader found there.
    pub normal_section: Span,
    /// See `normal_section`.
    pub normal: normal::Normal,
    /// Pre-tokenizer.
    pub cuts: Cuts,
    /// Unknown characters.
    pub unknown: Unknown,
    /// Pieces, models 2 and 3.
    pub pieces_section: Span,
    /// See `pieces_section`.
    pub pieces: pieces::Pieces,
    /// Scores, model 2.
    pub scores_section: Span,
    /// See `scores_section`.
    pub scores: unigram::Scores,
    /// Flags of the decoder.
    pub decoder: u8,
    /// Chat section.
    pub chat: Span,
}

impl Layout {
    /// The character that the pre-tokenizer puts in front.
    pub fn front_character(&self) -> u32 {
        if self.cuts.character == 0 {
            0x20
        } else {
            0x2581
        }
    }
}
