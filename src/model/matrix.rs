//! Matrices as they lie in a checkpoint: which tensor, in which order its rows are stored, how its values are encoded.

use super::{TensorRef, WeightRule};

/// Which stored row is row `r` of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// The same.
    Stored,
    /// `(r / block) * of + offset + r % block`: a part of a fused matrix. A plain range of rows is one block.
    Strided { block: usize, of: usize, offset: usize },
}

impl RowOrder {
    /// Rows `offset .. offset + rows` of a larger matrix.
    pub fn range(offset: usize, rows: usize) -> RowOrder {
        RowOrder::Strided { block: rows, of: rows, offset }
    }

    /// The stored row of row `r`.
    pub fn stored(self, r: usize) -> usize {
        match self {
            RowOrder::Stored => r,
            RowOrder::Strided { block, of, offset } => (r / block) * of + offset + r % block,
        }
    }
}

/// How many weights share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Tensor,
    Row,
    /// This many columns of a row; the last group of a row may be shorter.
    Group(usize),
}

/// How the values of a matrix are stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Values as they are: floats of any width, or blocks that are decoded to floats.
    Float,
    /// Float masters `[rows, cols]` of weights that were trained to be rounded by this rule, with one scale for the tensor.
    Master(WeightRule),
    /// Int8 rows by training: each row is rounded to 127 steps of its absolute maximum.
    Int8Rows,
    /// BitNet's uint8 codes `[ceil(rows / 4), cols]`, four bands of rows in a byte, with one scale that multiplies or divides.
    PackedTernary { scale: TensorRef, multiplies: bool },
    /// Codes -1, 0, 1 stored as floats `[rows, cols]`, with one scale or one a row; it multiplies or divides.
    FloatCodes { scale: TensorRef, multiplies: bool },
    /// Floats that lie on a binary or ternary grid already: every non-zero magnitude of a unit is its scale.
    Grid { binary: bool, unit: Unit },
    /// Low-bit blocks of a GGUF file, whose codes and scales are carried over.
    Blocks { binary: bool, unit: Unit },
    /// 32-bit words of codes with a scale and an offset for each group of columns: value = scale * code + offset.
    /// `low_bit` tells binary (true) or ternary (false) where scales and offsets are symmetric, None for the general case.
    Affine { bits: u32, group: usize, scales: TensorRef, biases: TensorRef, low_bit: Option<bool> },
    /// One bit a weight, int8 `[rows, ceil(cols / 8)]`, bit set = -1, with a scale for each row.
    SignBits { scale: TensorRef },
    /// Float values of which only the sign counts, with a scale and an offset for each *column*: sign(w) * scale + offset.
    SignColumns { scale: TensorRef, bias: TensorRef },
    /// Float values of which only the sign counts, with a scale for each row; 0 counts as +1.
    SignRows { scale: TensorRef },
    /// Masters with a learned clipping value for each row (ParetoQ, Liu et al. 2025): `bits` 0 is ternary.
    Clipped { clip: TensorRef, bits: u32 },
    /// Small codes along the columns, lowest bits first, value = (code - 2^(bits-1)) * scale of the row.
    RowCodes { bits: u32, scale: TensorRef },
}

/// A matrix `[rows, cols]` of the checkpoint; y = W x has `rows` elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    pub tensor: TensorRef,
    pub rows: usize,
    pub cols: usize,
    pub order: RowOrder,
    /// Stored as `[cols, rows]`; [`Matrix::order`] then counts stored columns.
    pub transposed: bool,
    pub source: Source,
}

impl Matrix {
    /// Rows of a float tensor in their stored order.
    pub fn float(tensor: TensorRef, rows: usize, cols: usize) -> Matrix {
        Matrix { tensor, rows, cols, order: RowOrder::Stored, transposed: false, source: Source::Float }
    }
}

/// What reading a matrix without loss gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Float,
    /// Codes -1 and 1, or -1, 0 and 1, times a scale.
    Codes {
        binary: bool,
        unit: Unit,
    },
}

impl Source {
    /// What it is called in listings.
    pub fn name(&self) -> &'static str {
        match self {
            Source::Float => "floats",
            Source::Master(rule) => match rule {
                WeightRule::BinaryMean => "binary masters",
                WeightRule::TernaryAbsmean => "ternary masters",
            },
            Source::Int8Rows => "int8 rows",
            Source::PackedTernary { .. } => "packed ternary",
            Source::FloatCodes { .. } => "ternary codes as floats",
            Source::Grid { binary: true, .. } => "binary floats",
            Source::Grid { binary: false, .. } => "ternary floats",
            Source::Blocks { binary: true, .. } => "binary blocks",
            Source::Blocks { binary: false, .. } => "ternary blocks",
            Source::Affine { low_bit: Some(true), .. } => "binary words",
            Source::Affine { low_bit: Some(false), .. } => "ternary words",
            Source::Affine { low_bit: None, .. } => "affine words",
            Source::SignBits { .. } => "sign bits",
            Source::SignColumns { .. } => "signs with column scales",
            Source::SignRows { .. } => "signs with row scales",
            Source::Clipped { bits: 0, .. } => "ternary masters with clipping values",
            Source::Clipped { bits: 1, .. } => "binary masters with clipping values",
            Source::Clipped { .. } => "masters with clipping values",
            Source::RowCodes { .. } => "small integers with row scales",
        }
    }

    /// Bits of a weight in this form, without scales; None: those of the element type.
    pub fn bits(&self) -> Option<u32> {
        match self {
            Source::PackedTernary { .. } => Some(2),
            Source::Affine { bits, .. } | Source::RowCodes { bits, .. } => Some(*bits),
            Source::SignBits { .. } => Some(1),
            _ => None,
        }
    }

    /// Codes where they can be had without loss, floats else.
    pub fn form(&self) -> Form {
        let codes = |binary, unit| Form::Codes { binary, unit };
        match self {
            Source::Master(WeightRule::BinaryMean) => codes(true, Unit::Tensor),
            Source::Master(WeightRule::TernaryAbsmean) => codes(false, Unit::Tensor),
            Source::PackedTernary { .. } => codes(false, Unit::Tensor),
            Source::FloatCodes { .. } => codes(false, Unit::Row),
            Source::Grid { binary, unit } | Source::Blocks { binary, unit } => codes(*binary, *unit),
            Source::Affine { low_bit: Some(binary), group, .. } => codes(*binary, Unit::Group(*group)),
            Source::SignBits { .. } | Source::SignRows { .. } => codes(true, Unit::Row),
            Source::Clipped { bits: 0, .. } => codes(false, Unit::Row),
            Source::Clipped { bits: 1, .. } => codes(false, Unit::Row), // sign(0) = 0
            Source::Float
            | Source::Int8Rows
            | Source::Affine { .. }
            | Source::SignColumns { .. }
            | Source::Clipped { .. }
            | Source::RowCodes { .. } => Form::Float,
        }
    }
}
