//! The integer program: a flat list of operations on registers, with its tensors. What it means: docs/semantics.md.
//! How it is stored: docs/format/packed.md, [`codec`].

pub mod check;
pub mod codec;
pub mod golden;
pub mod identity;
pub mod kernels;
pub mod parts;
mod print;

pub use print::print;

use crate::encoding::fixed::Scale;
use crate::encoding::lowbit::Encoding;
use crate::encoding::order::Order;
use crate::kernels::attention::AttentionShape;
use crate::kernels::scalar::QuantRule;
use crate::kernels::vector::{Act, Pool};

/// Index of a register.
pub type Reg = usize;
/// Index into the tensor table.
pub type TensorId = usize;

/// What a register holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegKind {
    /// i32 with a scale.
    Vector,
    /// Codes within a byte.
    Codes8,
    /// Codes within 16 bits.
    Codes16,
}

impl RegKind {
    pub fn element_bytes(self) -> usize {
        match self {
            RegKind::Vector => 4,
            RegKind::Codes8 => 1,
            RegKind::Codes16 => 2,
        }
    }
}

/// A register: kind and capacity in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register {
    pub kind: RegKind,
    pub capacity: usize,
}

/// How a device should compute a LINEAR; never changes a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KernelHint {
    Select,
    /// Bit planes of 2-bit codes, population count.
    Planes,
    /// Tables of the sums that a byte of weights can stand for, for each 8 codes (5 for `ternary5`).
    Tables,
}

/// One operation; the fields are registers and tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpKind {
    Embed {
        dst: Reg,
        table: TensorId,
        factor: Option<Scale>,
    },
    RmsNorm {
        dst: Reg,
        src: Reg,
        gamma: TensorId,
        eps: Scale,
    },
    Quantize {
        dst: Reg,
        src: Reg,
        rule: QuantRule,
    },
    Linear {
        dst: Reg,
        codes: Reg,
        weight: TensorId,
        hint: KernelHint,
    },
    Add {
        dst: Reg,
        src: Reg,
        factor: Option<Scale>,
    },
    KvWrite {
        k: Reg,
        v: Reg,
        freq: Option<TensorId>,
        keys: Option<TensorId>,
    },
    Attend {
        dst: Reg,
        q: Reg,
        freq: Option<TensorId>,
        keys: Option<TensorId>,
        scoring: Scoring,
    },
    Relu2Mul {
        dst: Reg,
        gate: Reg,
        up: Reg,
    },
    SiluMul {
        dst: Reg,
        gate: Reg,
        up: Reg,
    },
    Logits {
        src: Reg,
        factor: Option<Scale>,
        cap: Option<Scale>,
    },
    Norm {
        dst: Reg,
        src: Reg,
        gamma: Option<TensorId>,
        beta: Option<TensorId>,
        eps: Scale,
        group: usize,
        centred: bool,
    },
    Bias {
        dst: Reg,
        src: Reg,
        by: TensorId,
    },
    Gain {
        dst: Reg,
        src: Reg,
        by: TensorId,
    },
    Act {
        dst: Reg,
        src: Reg,
        kind: Act,
    },
    Gate {
        dst: Reg,
        gate: Reg,
        up: Reg,
        kind: Act,
    },
    Store {
        dst: Reg,
        src: Reg,
    },
    Position {
        dst: Reg,
        table: TensorId,
    },
    Rope {
        dst: Reg,
        src: Reg,
        freq: TensorId,
    },
    Embedding {
        src: Reg,
        pool: Pool,
        unit: bool,
    },
}

/// What ATTEND does to scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scoring {
    /// Factor of a score, times log2(e).
    pub softmax: Scale,
    /// Tokens this far back or farther are not seen; 0: all of the cache is.
    pub window: usize,
    /// c log2(e) of c tanh(score / c).
    pub cap: Option<Scale>,
    /// Slope of each head, log2(e) per position.
    pub slopes: Option<TensorId>,
}

impl OpKind {
    /// Whether it gives the result of the program.
    pub fn is_output(&self) -> bool {
        matches!(self, OpKind::Logits { .. } | OpKind::Embedding { .. })
    }
}

impl OpKind {
    pub fn name(&self) -> &'static str {
        match self {
            OpKind::Embed { .. } => "EMBED",
            OpKind::RmsNorm { .. } => "RMSNORM",
            OpKind::Quantize { .. } => "QUANTIZE",
            OpKind::Linear { .. } => "LINEAR",
            OpKind::Add { .. } => "ADD",
            OpKind::KvWrite { .. } => "KVWRITE",
            OpKind::Attend { .. } => "ATTEND",
            OpKind::Relu2Mul { .. } => "RELU2MUL",
            OpKind::SiluMul { .. } => "SILUMUL",
            OpKind::Logits { .. } => "LOGITS",
            OpKind::Norm { .. } => "NORM",
            OpKind::Bias { .. } => "BIAS",
            OpKind::Gain { .. } => "GAIN",
            OpKind::Act { .. } => "ACT",
            OpKind::Gate { .. } => "GATE",
            OpKind::Store { .. } => "STORE",
            OpKind::Position { .. } => "POSITION",
            OpKind::Rope { .. } => "ROPE",
            OpKind::Embedding { .. } => "EMBEDDING",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// None outside of the layers.
    pub layer: Option<usize>,
    pub kind: OpKind,
}

/// Granularity of a matrix's scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleMode {
    One,
    Row,
    Group(usize),
}

/// What a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorKind {
    Matrix {
        enc: Encoding,
        order: Order,
        scales: ScaleMode,
    },
    /// Gains, biases, slopes: one row of i32 with a common power of two.
    Vector,
    Frequencies,
    StaticKeys,
}

impl TensorKind {
    /// A matrix whose rows lie one after the other.
    pub fn rows(enc: Encoding, scales: ScaleMode) -> TensorKind {
        TensorKind::Matrix { enc, order: Order::Rows, scales }
    }
}

impl std::fmt::Display for TensorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            TensorKind::Matrix { enc, order: Order::Rows, .. } => f.write_str(enc.name()),
            TensorKind::Matrix { enc, order: Order::Quads, .. } => write!(f, "{} quads", enc.name()),
            TensorKind::Vector => f.write_str("vector i32"),
            TensorKind::Frequencies => f.write_str("frequencies"),
            TensorKind::StaticKeys => f.write_str("key constants"),
        }
    }
}

/// A tensor of the program and its place in the weights section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Canonical name; kept in the manifest, not in the program section.
    pub name: String,
    pub kind: TensorKind,
    pub rows: usize,
    pub cols: usize,
    /// The scale, or the exponent that row and group scales refer to (`m` is 2^30 then).
    pub scale: Scale,
    pub data: std::ops::Range<u64>,
    pub scales: std::ops::Range<u64>,
}

impl Tensor {
    /// Length of the data in bytes.
    pub fn data_bytes(kind: TensorKind, rows: usize, cols: usize) -> u64 {
        let cols64 = cols as u64;
        match kind {
            TensorKind::Matrix { enc, order, .. } => enc.data_bytes(order, rows, cols),
            TensorKind::Vector | TensorKind::Frequencies => 4 * cols64,
            TensorKind::StaticKeys => 14 * rows as u64 * cols64,
        }
    }

    /// Length of the row or group scales in bytes.
    pub fn scale_bytes(kind: TensorKind, rows: usize, cols: usize) -> u64 {
        match kind {
            TensorKind::Matrix { scales: ScaleMode::Row, .. } => 5 * rows as u64,
            TensorKind::Matrix { scales: ScaleMode::Group(g), .. } => 5 * (rows * cols.div_ceil(g)) as u64,
            _ => 0,
        }
    }

    /// All bytes of the tensor.
    pub fn bytes(&self) -> u64 {
        self.data.end - self.data.start + self.scales.end - self.scales.start
    }

    /// Weights of a low-bit matrix, 0 for everything else.
    pub fn low_bit_weights(&self) -> u64 {
        match self.kind {
            TensorKind::Matrix { enc, .. } if enc.is_low_bit() => self.rows as u64 * self.cols as u64,
            _ => 0,
        }
    }
}

/// The program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub vocab: usize,
    pub d_model: usize,
    pub layers: usize,
    pub attention: AttentionShape,
    pub residual_frac: u32,
    pub static_keys: bool,
    /// Fraction bits of static keys.
    pub key_frac: u32,
    pub eos: Vec<u32>,
    pub bos: Option<u32>,
    /// Context length of the source, for information.
    pub context: usize,
    /// Tokens a text may have at most, from a table of learned positions; 0: no limit.
    pub positions: usize,
    /// Every token sees every token.
    pub encoder: bool,
    /// Scratch of table kernels on a device.
    pub lut_bytes: usize,
    /// Digest of the low-bit matrices, see [`identity::Identity`]; 0: none.
    pub model_id: u64,
    /// Whether the arena of a device has room for two tokens at a time.
    pub pairs: bool,
    pub registers: Vec<Register>,
    pub ops: Vec<Op>,
    /// First operation that runs only when logits are wanted.
    pub head_op: usize,
    pub tensors: Vec<Tensor>,
}

impl Program {
    /// Index of an operation's checksum in a golden trace: 0 before the layers, 1 + layer, last for the head.
    pub fn trace_slot(&self, op: usize) -> usize {
        if op >= self.head_op {
            self.layers + 1
        } else {
            self.ops[op].layer.map_or(0, |l| l + 1)
        }
    }

    /// Pooling and whether to unit length, if the result is one vector for the text instead of logits.
    pub fn embedding(&self) -> Option<(Pool, bool)> {
        match self.ops.last().map(|o| &o.kind) {
            Some(OpKind::Embedding { pool, unit, .. }) => Some((*pool, *unit)),
            _ => None,
        }
    }

    /// Elements of the result: of the logits, or of the embedding.
    pub fn result_len(&self) -> usize {
        if self.embedding().is_some() {
            self.d_model
        } else {
            self.vocab
        }
    }

    /// Most tokens that a text may have; None: any number.
    pub fn longest(&self) -> Option<usize> {
        match (self.encoder, self.positions) {
            (true, 0) => Some(self.attention.window),
            (true, p) => Some(self.attention.window.min(p)),
            (false, 0) => None,
            (false, p) => Some(p),
        }
    }

    /// Bytes of the weights section.
    pub fn weights_len(&self) -> u64 {
        self.tensors.iter().map(|t| t.data.end.max(t.scales.end)).max().unwrap_or(0)
    }
}
