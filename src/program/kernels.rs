//! Which kernel computes each LINEAR of a program on a device: docs/format/packed.md, "Kernels". Names are those of the cost table.

use super::{KernelHint, Op, OpKind, Program, Tensor, TensorKind};
use crate::encoding::lowbit::Encoding;
use crate::encoding::order::Order;

/// LINEAR operations that read the same codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub qmax: u32,
    /// Indices of the operations.
    pub linears: Vec<usize>,
}

/// All LINEARs of a list of operations, by the QUANTIZE whose result they read.
pub fn groups(ops: &[Op]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut held: Vec<(usize, usize)> = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        match op.kind {
            OpKind::Quantize { dst, rule, .. } => {
                held.retain(|(reg, _)| *reg != dst);
                held.push((dst, groups.len()));
                groups.push(Group { qmax: rule.qmax, linears: Vec::new() });
            }
            OpKind::Linear { codes, .. } => {
                if let Some((_, g)) = held.iter().find(|(reg, _)| *reg == codes) {
                    groups[*g].linears.push(i);
                }
            }
            _ => {}
        }
    }
    groups
}

/// Name of the kernel for a matrix in this form, with codes of this Qmax.
pub fn name(enc: Encoding, order: Order, hint: KernelHint, qmax: u32) -> &'static str {
    match (hint, enc, order) {
        (KernelHint::Tables, Encoding::Binary1, _) => either(qmax, "tables8", "tables"),
        (KernelHint::Tables, Encoding::Ternary5, _) => either(qmax, "ternary5_8", "ternary5"),
        (KernelHint::Tables, _, _) => either(qmax, "planes4_8", "planes4"),
        (KernelHint::Planes, Encoding::Binary1, _) => "planes",
        (KernelHint::Planes, _, _) => "planes_ternary",
        (KernelHint::Select, Encoding::Binary1, Order::Rows) => "select",
        (KernelHint::Select, Encoding::Ternary2, _) => "select_ternary",
        (KernelHint::Select, Encoding::Int4, _) => "int4",
        (KernelHint::Select, Encoding::Int8, _) => "int8",
        (KernelHint::Select, Encoding::Int16, _) => "int16",
        (KernelHint::Select, _, _) => "plain",
    }
}

fn either(qmax: u32, small: &'static str, large: &'static str) -> &'static str {
    if qmax <= MOST_SMALL {
        small
    } else {
        large
    }
}

/// Largest Qmax whose tables have entries of a byte.
const MOST_SMALL: u32 = 15;

/// Bytes of all tables for an input of `cols` codes, for a matrix of this encoding.
pub fn table_bytes(enc: Encoding, qmax: u32, cols: usize) -> usize {
    let columns = if enc == Encoding::Ternary5 { 5 } else { 8 };
    cols.div_ceil(columns) * if qmax <= MOST_SMALL { 256 } else { 512 }
}

/// A kernel by its name, as people read it.
pub fn label(name: &str) -> &str {
    match name {
        "tables8" => "tables (u8)",
        "ternary5" => "base-3 tables",
        "ternary5_8" => "base-3 tables (u8)",
        "planes4" => "tables on 4 planes",
        "planes4_8" => "tables on 4 planes (u8)",
        "planes_ternary" => "planes (ternary)",
        "select_ternary" => "select (ternary)",
        "int4" => "int4 rows",
        "int8" => "int8 rows",
        "int16" => "int16 rows",
        same => same,
    }
}

/// The matrices that one kernel computes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Use {
    pub kernel: &'static str,
    pub matrices: usize,
    pub weights: u64,
}

/// The kernels of a program, those with most weights first.
pub fn used(p: &Program) -> Vec<Use> {
    let mut uses: Vec<Use> = Vec::new();
    for g in groups(&p.ops) {
        for (t, kernel) in g.linears.iter().filter_map(|i| of(&p.ops[*i], &p.tensors, g.qmax)) {
            let weights = t.rows as u64 * t.cols as u64;
            match uses.iter_mut().find(|u| u.kernel == kernel) {
                Some(u) => (u.matrices, u.weights) = (u.matrices + 1, u.weights + weights),
                None => uses.push(Use { kernel, matrices: 1, weights }),
            }
        }
    }
    uses.sort_by_key(|u| (std::cmp::Reverse(u.weights), u.kernel));
    uses
}

/// Matrix and kernel of a LINEAR.
pub fn of<'a>(op: &Op, tensors: &'a [Tensor], qmax: u32) -> Option<(&'a Tensor, &'static str)> {
    let OpKind::Linear { weight, hint, .. } = op.kind else { return None };
    let t = &tensors[weight];
    match t.kind {
        TensorKind::Matrix { enc, order, .. } => Some((t, name(enc, order, hint, qmax))),
        _ => None,
    }
}

/// `24 x tables (u8), 1 x int8 rows`
pub fn summary(uses: &[Use]) -> String {
    uses.iter().map(|u| format!("{} x {}", u.matrices, label(u.kernel))).collect::<Vec<_>>().join(", ")
}
