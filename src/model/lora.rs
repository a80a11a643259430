//! A low-rank adapter as it was trained: floats beside the matrices of a model (Hu et al. 2021).

/// The branch of one matrix: y += B A x, x the input before it is rounded. The factor of the adapter is in B.
#[derive(Debug, Clone, PartialEq)]
pub struct SideBranch {
    /// Canonical name of the [`super::Linear`].
    pub name: String,
    pub rows: usize,
    pub cols: usize,
    pub rank: usize,
    /// `[rank, cols]`.
    pub a: Vec<f32>,
    /// `[rows, rank]`.
    pub b: Vec<f32>,
}

/// An adapter that fits a model, its branches in the order of the model's matrices.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lora {
    pub branches: Vec<SideBranch>,
}

impl Lora {
    /// The branch of a matrix.
    pub fn of(&self, name: &str) -> Option<&SideBranch> {
        self.branches.iter().find(|b| b.name == name)
    }
}
