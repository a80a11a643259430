//! Facts about the model (generated).

use crate::arena::Arena;

#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!("../model.bin"));

/// The packed model.
pub static IMAGE: &[u8] = &FILE.0;
/// Tokens of the vocabulary.
pub const VOCAB: usize = {{VOCAB}};
/// Elements of the logits, or of the embedding.
pub const RESULTS: usize = {{RESULTS}};
/// 32-bit elements of an arena.
pub const ARENA_WORDS: usize = {{WORDS}};
/// 16-bit elements of an arena.
pub const ARENA_HALVES: usize = {{HALVES}};
/// 8-bit elements of an arena.
pub const ARENA_BYTES: usize = {{BYTES}};
/// Words of scratch that the tokenizer needs to encode.
pub const TOKENIZER_WORK: usize = {{WORK}};
/// Bytes of the tokenizer's longest token.
pub const TOKENIZER_TOKEN: usize = {{TOKEN}};
/// An arena for one context of this model.
pub type ModelArena = Arena<ARENA_WORDS, ARENA_HALVES, ARENA_BYTES>;
/// Prompts that the example programs answer.
pub const PROMPTS: &[&str] = &[{{PROMPTS}}];
/// What the command `trace` encodes.
pub const TEXTS: &[&str] = &[{{TEXTS}}];

/// What of the runtime this model needs; with the feature `every-part` all of it.
#[allow(missing_docs)] // named as in the C runtime
pub mod parts {
    const ALL: bool = cfg!(feature = "every-part");
    // {{PARTS}}
}
