//! What ordinary input looks like to the matrices of a program, for the choice of weights and factors in the converter.

/// Sums of squares, as reals, over the tokens that were run.
#[derive(Debug, Clone, Default)]
pub struct Moments {
    /// For each operation: QUANTIZE the sum for each element of its source, LINEAR one sum over all elements of its result, else nothing.
    pub squares: Vec<Vec<f64>>,
    pub tokens: u64,
}

impl Moments {
    pub(super) fn new(ops: usize) -> Moments {
        Moments { squares: vec![Vec::new(); ops], tokens: 0 }
    }

    /// Adds the vector of one token, element by element or as one sum.
    pub(super) fn note(&mut self, op: usize, x: &[i32], scale: f64, each: bool) {
        let sums = &mut self.squares[op];
        sums.resize(if each { x.len() } else { 1 }, 0.0);
        for (i, v) in x.iter().enumerate() {
            let v = f64::from(*v) * scale;
            sums[if each { i } else { 0 }] += v * v;
        }
    }
}
