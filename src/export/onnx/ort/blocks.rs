//! How the columns of a matrix lie in the blocks of MatMulNBits.

use crate::error::Result;
use crate::export::onnx::graph::{put, Graph, Value};
use crate::export::onnx::weights::{Matrix, Packer};
use crate::format::onnx::Elem;
use std::io::Write;

/// Widths of a block that are fast at every number of bits; at 256, two bits are not.
const WIDTHS: [usize; 3] = [32, 64, 128];

/// Columns in blocks. A group of columns with a scale of its own starts a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub bits: u32,
    /// Elements of a block.
    pub block: usize,
    /// Columns that a block has, from its first element on; the others are 0.
    pub room: usize,
    /// Columns of a group.
    pub group: usize,
    pub groups: usize,
    /// Blocks of a group.
    pub each: usize,
    /// Columns of the matrix.
    pub cols: usize,
}

impl Layout {
    /// The layout with the fewest bytes; with `guard` the last element of each block is no column.
    pub fn of(w: &Matrix, bits: u32, guard: bool) -> Layout {
        let (cols, groups) = (w.cols, w.groups());
        let group = w.group().unwrap_or(cols);
        let with = |block: usize| {
            let room = block - usize::from(guard);
            Layout { bits, block, room, group, groups, each: group.div_ceil(room).max(1), cols }
        };
        let bytes = |l: &Layout| (l.blocks() * (l.block * bits as usize / 8 + 4), usize::MAX - l.block);
        WIDTHS.map(with).into_iter().min_by_key(bytes).unwrap_or_else(|| with(WIDTHS[0]))
    }

    pub fn blocks(&self) -> usize {
        self.groups * self.each
    }

    /// Whether the columns stay where they are.
    pub fn is_plain(&self) -> bool {
        self.room == self.block && (self.groups == 1 || self.group.is_multiple_of(self.room))
    }

    /// Columns of the product, those that are 0 included; the last block may be cut short.
    pub fn k(&self) -> usize {
        if self.is_plain() {
            self.cols
        } else {
            self.blocks() * self.block
        }
    }

    /// The first column of a block, and how many it has.
    fn columns(&self, block: usize) -> (usize, usize) {
        let (group, i) = (block / self.each, block % self.each);
        let first = group * self.group + i * self.room;
        let end = (first + self.room).min((group + 1) * self.group).min(self.cols);
        (first, end.saturating_sub(first))
    }

    /// The weights, `[out, blocks, bytes of a block]`: the first in the lowest bits, around the operator's own zero point.
    pub fn codes<'a>(&self, g: &mut Graph<'a>, w: &Matrix<'a>) -> Value {
        let (l, m) = (*self, *w);
        let bytes = l.block * l.bits as usize / 8;
        let zero = 1 << (l.bits - 1);
        let write = move |out: &mut dyn Write| -> Result<()> {
            let mut row = Vec::with_capacity(l.blocks() * bytes);
            m.each_row(m.cols, &mut |_, codes| {
                row.clear();
                let mut packer = Packer::new(l.bits);
                for b in 0..l.blocks() {
                    let (first, n) = l.columns(b);
                    let here = codes.get(first..first + n).unwrap_or_default();
                    let filler = std::iter::repeat_n(&0, l.block - here.len());
                    here.iter().chain(filler).for_each(|c| packer.put((c + zero) as u8, &mut row));
                }
                put(out, &row)
            })
        };
        let dims = [m.rows as i64, l.blocks() as i64, bytes as i64];
        let name = m.tensor_name(&format!("bits{}.{}x{}", l.bits, l.blocks(), l.block));
        g.weight(&name, Elem::U8, &dims, (m.rows * l.blocks() * bytes) as u64, Box::new(write))
    }

    /// The scale of each block, f32 `[out, blocks]`.
    pub fn scales<'a>(&self, g: &mut Graph<'a>, w: &Matrix<'a>) -> Value {
        let (l, m) = (*self, *w);
        let name = m.tensor_name(&format!("scales.{}x{}", l.blocks(), l.each));
        self.of_blocks(g, &m, name, move |row, block| m.scale(row, block / l.each).to_f64() as f32)
    }

    /// A scale of 1 for each block, with which products stay integers: one tensor for all matrices of this shape.
    pub fn ones<'a>(&self, g: &mut Graph<'a>, w: &Matrix<'a>) -> Value {
        let name = format!("ones.{}x{}", w.rows, self.blocks());
        self.of_blocks(g, w, name, |_, _| 1.0)
    }

    fn of_blocks<'a>(
        &self,
        g: &mut Graph<'a>,
        w: &Matrix<'a>,
        name: String,
        of: impl Fn(usize, usize) -> f32 + 'a,
    ) -> Value {
        let (rows, blocks) = (w.rows, self.blocks());
        let write = move |out: &mut dyn Write| -> Result<()> {
            (0..rows).try_for_each(|r| {
                let row: Vec<u8> = (0..blocks).flat_map(|b| of(r, b).to_le_bytes()).collect();
                put(out, &row)
            })
        };
        g.weight(&name, Elem::F32, &[rows as i64, blocks as i64], 4 * (rows * blocks) as u64, Box::new(write))
    }
}
