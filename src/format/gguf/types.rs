//! Type numbers of tensors. Several forks gave one number to different layouts, so where there is a choice the bytes up to the next tensor
//! decide.

use crate::encoding::blocks::Block;
use crate::error::{Error, Result};
use crate::tensor::DType;

/// What a type number may stand for, the likelier layout first.
pub fn candidates(id: u32) -> Result<&'static [DType]> {
    Ok(match id {
        0 => &[DType::F32],
        1 => &[DType::F16],
        2 => &[DType::Block(Block::Q4_0)],
        3 => &[DType::Block(Block::Q4_1)],
        6 => &[DType::Block(Block::Q5_0)],
        7 => &[DType::Block(Block::Q5_1)],
        8 => &[DType::Block(Block::Q8_0)],
        10 => &[DType::Block(Block::Q2K)],
        11 => &[DType::Block(Block::Q3K)],
        12 => &[DType::Block(Block::Q4K)],
        13 => &[DType::Block(Block::Q5K)],
        14 => &[DType::Block(Block::Q6K)],
        24 => &[DType::I8],
        25 => &[DType::I16],
        26 => &[DType::I32],
        27 => &[DType::I64],
        28 => &[DType::F64],
        30 => &[DType::Bf16],
        34 => &[DType::Block(Block::Tq1_0)],
        35 => &[DType::Block(Block::Tq2_0)],
        36 => &[DType::Block(Block::I2S)],
        41 => &[DType::Block(Block::Q1_0)],
        42 => &[DType::Block(Block::Q2_0), DType::Block(Block::Q2_0G128)],
        id => return Err(refused(id)),
    })
}

/// The number under which a type is written; None for what no reader takes, or takes for something else.
pub fn id(dtype: DType) -> Option<u32> {
    (0..=42).find(|n| candidates(*n).is_ok_and(|all| all.first() == Some(&dtype)))
}

/// Why a type number is not read.
fn refused(id: u32) -> Error {
    let (name, why) = match id {
        4 | 5 => ("Q4_2 or Q4_3", "both were given up in 2023"),
        9 => ("Q8_1", "it is meant for activations"),
        15 => ("Q8_K", "it is meant for activations"),
        16..=19 | 21 | 22 | 29 => {
            ("IQ1, IQ2 or IQ3", "its values come from code books, which are no binary or ternary grid")
        }
        20 | 23 => ("IQ4_NL or IQ4_XS", "its values come from a code book"),
        31..=33 => ("Q4_0 interleaved for ARM", "it depends on the machine for which it was written"),
        37 => ("I8_S", "it is meant for activations"),
        38 => ("TL1", "its order depends on tile sizes that were chosen when the program was built"),
        39 => {
            ("MXFP4, or TL2 in older files", "the former is a 4-bit float, the latter depends on tile sizes of a build")
        }
        40 => ("NVFP4", "it is a 4-bit float"),
        134 | 135 => ("IQ1_BN or IQ2_BN", "they have a scale for each row and are not supported yet"),
        142 | 143 => ("PQ2_0 or PTQ1_0", "its weights are in a basis that is rotated with the activations"),
        _ => {
            return Error::unsupported(format!("the tensor has type number {id}, which is not known"))
                .hint("the file is damaged, or newer than this program")
        }
    };
    Error::unsupported(format!("the tensor is of type {id}, {name}: {why}"))
        .hint("take the file in F16, BF16, Q8_0, TQ1_0, TQ2_0, Q1_0, Q2_0 or I2_S, or the original checkpoint")
}

/// Bytes of a tensor; None if its rows are no whole blocks, or if that is too much to count. I2_S blocks run on from row to row.
pub fn size(dtype: DType, shape: &[usize], elements: usize) -> Option<usize> {
    match dtype {
        DType::Block(Block::I2S) => Block::I2S.total_bytes(elements),
        DType::Block(b) if shape.last().is_none_or(|k| k % b.values() != 0) => None,
        DType::Block(b) => b.total_bytes(elements),
        d => elements.checked_mul(d.size()?),
    }
}

/// Says which number of values a row must be a multiple of.
pub fn multiple(dtypes: &[DType]) -> usize {
    let values = |d: &DType| match d {
        DType::Block(b) => b.values(),
        _ => 1,
    };
    dtypes.iter().map(values).min().unwrap_or(1)
}

/// Other layouts that share the number, for the message when none fits.
pub fn rivals(id: u32) -> &'static str {
    match id {
        36 => "; the number also stood for IQ4_NL_4_4, which is not read",
        42 => "; the number also stands for TL2, which is not read",
        _ => "",
    }
}
