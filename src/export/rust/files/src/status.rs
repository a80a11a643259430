//! Why something was refused.

/// The same numbers as `bitnet_status` of the C runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Not the kind of data that was asked for.
    Magic = 2,
    /// A version or byte order this code does not read.
    Version = 3,
    /// A checksum differs.
    Crc = 4,
    /// The arena is too small.
    Arena = 5,
    /// A token id without a meaning, or none at all.
    Token = 7,
    /// The context is full.
    Context = 8,
    /// Data breaks a rule of its format.
    Format = 9,
    /// A buffer is too small.
    Capacity = 10,
    /// The self-test found a difference.
    Selftest = 11,
    /// The configuration is not possible.
    Config = 12,
    /// Not in the model: no golden trace, no tokenizer.
    State = 13,
    /// The model needs a part that was not compiled (`generated.rs`).
    Feature = 14,
    /// The model gives an embedding instead of logits, or the reverse.
    Result = 15,
}

impl Status {
    /// One line for people.
    pub fn text(self) -> &'static str {
        match self {
            Status::Magic => "not a packed model",
            Status::Version => "unknown version or byte order",
            Status::Crc => "checksum does not match",
            Status::Arena => "arena too small",
            Status::Token => "token id outside of the vocabulary",
            Status::Context => "context is full",
            Status::Format => "model is malformed",
            Status::Capacity => "buffer too small",
            Status::Selftest => "self-test found a difference",
            Status::Config => "configuration not possible",
            Status::State => "part not in the model",
            Status::Feature => "model needs an operation that was not compiled in",
            Status::Result => "model gives embeddings, not logits, or the reverse",
        }
    }
}

pub(crate) type Result<T> = core::result::Result<T, Status>;
