//! Which model a program is of: a digest of its low-bit weights that does not depend on how they are stored.

use super::{OpKind, Program, TensorKind};
use crate::digest::Sha;
use crate::encoding::order;

/// Collects the weights of a program's low-bit matrices, matrix after matrix in the order of the tensors.
///
/// Of each: rows and columns as u32, then the rows as `binary1` or `ternary2` would hold them, little-endian.
#[derive(Default)]
pub struct Identity(Option<Sha>);

impl Identity {
    /// A matrix begins.
    pub fn matrix(&mut self, rows: usize, cols: usize) {
        let sha = self.0.get_or_insert_with(Sha::default);
        sha.update(&(rows as u32).to_le_bytes());
        sha.update(&(cols as u32).to_le_bytes());
    }

    /// Some rows of it, in the host's form.
    pub fn rows(&mut self, bytes: &[u8]) {
        self.0.get_or_insert_with(Sha::default).update(bytes);
    }

    /// 0 if there was no matrix.
    pub fn finish(self) -> u64 {
        let digest = self.0.map(Sha::finish).unwrap_or_default();
        digest.first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
    }
}

/// The identity of a program, from its weights section, which has been checked.
pub fn of(p: &Program, weights: &[u8]) -> u64 {
    let mut id = Identity::default();
    for (t, _) in p.tensors.iter().zip(covered(p)).filter(|(_, covered)| *covered) {
        let TensorKind::Matrix { enc, order, .. } = t.kind else { continue };
        let data = &weights[t.data.start as usize..t.data.end as usize];
        id.matrix(t.rows, t.cols);
        match order::for_host(enc, order, data, t.rows, t.cols) {
            Some(turned) => id.rows(&turned),
            None => id.rows(data),
        }
    }
    id.finish()
}

/// For each tensor, whether the identity covers it: low-bit matrices of LINEAR operations.
pub fn covered(p: &Program) -> Vec<bool> {
    let mut covered = vec![false; p.tensors.len()];
    for op in &p.ops {
        if let OpKind::Linear { weight, .. } = op.kind {
            covered[weight] = matches!(p.tensors[weight].kind, TensorKind::Matrix { enc, .. } if enc.is_low_bit());
        }
    }
    covered
}
