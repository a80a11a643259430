//! An adapter bound to a program: which QUANTIZE feeds which part, and which LINEAR takes it.

use crate::error::{Error, Result};
use crate::format::adapter::{scratch_bytes, Adapter};
use crate::kernels::adapter::Factors;
use crate::program::{OpKind, Program};

/// A LINEAR before the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Branch {
    /// Operation that makes its codes; its source is the input of a side branch.
    pub quantize: usize,
    /// The LINEAR itself.
    pub linear: usize,
}

/// The LINEARs that an adapter can name, in the order of the program.
pub fn branches(p: &Program) -> Vec<Branch> {
    let mut quantized = vec![None; p.registers.len()];
    let mut out = Vec::new();
    for (i, op) in p.ops.iter().enumerate().take(p.head_op) {
        match &op.kind {
            OpKind::Quantize { dst, .. } => quantized[*dst] = Some(i),
            // A checked program has a QUANTIZE before.
            OpKind::Linear { codes, .. } => {
                out.extend(quantized[*codes].map(|quantize| Branch { quantize, linear: i }));
            }
            _ => {}
        }
    }
    out
}

/// An adapter that fits a program.
#[derive(Debug)]
pub struct Bound {
    pub parts: Vec<(Branch, Factors)>,
    /// For each operation the parts that begin (QUANTIZE) or end (LINEAR) there.
    at: Vec<Vec<usize>>,
}

impl Bound {
    /// # Errors
    /// `Input` if the adapter was made for another model.
    pub fn new(adapter: Adapter, p: &Program) -> Result<Bound> {
        let other = |what: String| {
            Error::input(format!("the adapter was made for another model: {what}"))
                .hint("make it again for this one: `bitnet-convert adapter --base M --lora DIR -o lora-bits.bin`")
        };
        let known = branches(p);
        if adapter.linears != known.len() {
            return Err(other(format!("it knows {} matrices, this one has {}", adapter.linears, known.len())));
        }
        let mut at = vec![Vec::new(); p.ops.len()];
        let mut parts = Vec::new();
        for part in adapter.parts {
            let branch = known[part.linear];
            let f = part.factors;
            let shape = match p.ops[branch.linear].kind {
                OpKind::Linear { weight, .. } => (p.tensors[weight].rows, p.tensors[weight].cols),
                // `branches` gives LINEARs.
                _ => (0, 0),
            };
            if shape != (f.rows, f.cols) {
                return Err(other(format!(
                    "matrix {} is {} x {} there, {} x {} here",
                    part.linear, f.rows, f.cols, shape.0, shape.1
                )));
            }
            at[branch.quantize].push(parts.len());
            at[branch.linear].push(parts.len());
            parts.push((branch, f));
        }
        Ok(Bound { parts, at })
    }

    /// Bytes that a device needs beside the file.
    pub fn scratch(&self) -> usize {
        self.parts.iter().map(|(_, f)| scratch_bytes(f.rank)).sum()
    }

    /// Parts that begin or end at an operation.
    pub fn at(&self, op: usize) -> &[usize] {
        &self.at[op]
    }
}
