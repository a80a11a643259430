//! Every cap in one place. docs/semantics.md section 8 and docs/format/packed.md quote them.

/// Longest vector that is normalised (RMSNORM sums squares of 2^24 in a u64).
pub const MAX_VECTOR: usize = 1 << 15;
/// Columns of a matrix.
pub const MAX_COLS: usize = 1 << 20;
/// Rows of a matrix, and the vocabulary.
pub const MAX_VOCAB: usize = 1 << 20;
/// Length of one head.
pub const MAX_HEAD_DIM: usize = 256;
/// Slots of the key/value window.
pub const MAX_WINDOW: usize = 1 << 17;
/// Largest code magnitude.
pub const MAX_QMAX: u32 = 32_767;
/// Transformer layers.
pub const MAX_LAYERS: usize = 1024;
/// Operations or tensors of a program.
pub const MAX_ITEMS: usize = 65_536;
/// Registers of a program.
pub const MAX_REGISTERS: usize = 32;
/// Sections of a packed file.
pub const MAX_SECTIONS: usize = 16;
/// Prompts of a golden trace, and tokens of one of them.
pub const MAX_GOLDEN_PROMPTS: usize = 64;
pub const MAX_GOLDEN_TOKENS: usize = 65_536;
/// Exponents that a file may hold; at run time they stay within [`MAX_EXPONENT`].
pub const MAX_FILE_EXPONENT: i32 = 4096;
/// Exponents of scales during a computation.
pub const MAX_EXPONENT: i32 = 1 << 20;
/// Values of a checkpoint's pickle: a tensor takes about 16, so this is a quarter of a million tensors.
pub const MAX_PICKLE_VALUES: usize = 1 << 22;
/// Groups of a pickle that are open at a time; a state dict has three.
pub const MAX_PICKLE_DEPTH: usize = 256;
/// Length of a checkpoint's pickle.
pub const MAX_PICKLE_BYTES: u64 = 64 << 20;
/// Dimensions of a tensor in a checkpoint of torch, as many as torch allows.
pub const MAX_DIMS: usize = 64;
/// A JSON side file (config, index): larger ones are refused before they are read.
pub const MAX_JSON_BYTES: u64 = 16 << 20;
/// tokenizer.json: the largest public ones are about 35 MB.
pub const MAX_TOKENIZER_BYTES: u64 = 128 << 20;
/// An adapter in the packed form.
pub const MAX_ADAPTER_BYTES: u64 = 64 << 20;
/// A text to calibrate with.
pub const MAX_CALIBRATION_BYTES: u64 = 64 << 20;
