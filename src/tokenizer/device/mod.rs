//! The device tokenizer: the definition of what a blob means (docs/format/tokenizer.md, version 2).
//!
//! No heap, no `unsafe`, nothing but `core`: the host runs these files, and an exported Rust crate is given the very same ones.

pub mod bits;
pub mod bpe;
pub mod classes;
pub mod decode;
pub mod layout;
pub mod normal;
pub mod parts;
pub mod pieces;
pub mod text;
pub mod unigram;
pub mod wordpiece;
pub mod words;

pub use bits::Span;
pub use layout::Layout;

/// A rule of the format that a blob breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bad {
    /// Offset from the start of the blob, in bytes.
    pub at: u32,
    /// The rule.
    pub what: &'static str,
}

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not a tokenizer.
    Magic,
    /// Another version of the format.
    Version,
    /// A blob that breaks a rule.
    Format(Bad),
    /// The blob needs a part that this build leaves out.
    Feature,
    /// The room for ids or bytes is too small.
    Capacity,
    /// The scratch memory is too small.
    Work,
    /// An id without a meaning.
    Token,
}

impl From<Bad> for Fault {
    fn from(bad: Bad) -> Fault {
        Fault::Format(bad)
    }
}

/// A checked blob.
#[derive(Debug, Clone, Copy)]
pub struct Tokenizer<'a> {
    /// All of it.
    pub blob: &'a [u8],
    /// What was found when it was opened.
    pub layout: &'a Layout,
}
