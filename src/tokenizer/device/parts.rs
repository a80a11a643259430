//! Parts of a tokenizer that a build may leave out. An export writes this file for its own blob; a blob that needs a part that is not there
//! is refused when it is opened.

/// Merges: models 0 and 1.
pub const BPE: bool = true;
/// Model 2.
pub const UNIGRAM: bool = true;
/// Model 3.
pub const WORDPIECE: bool = true;
/// Section 7.
pub const NORMAL: bool = true;
