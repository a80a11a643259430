//! Operations on whole vectors.

use super::scale::ScaleV;
use crate::export::onnx::graph::Value;

/// What a register holds: int64 `[batch, sequence, n]` with a scale for each token, `[batch, sequence, 1]` or a constant.
#[derive(Clone, Copy, Debug)]
pub struct Vector {
    pub x: Value,
    pub scale: ScaleV,
    /// No element's magnitude is beyond this.
    pub max: i64,
    pub n: usize,
}
