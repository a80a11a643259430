//! ONNX from a packed file: its integer program is the one source of every profile. A translator walks the operations and emits nodes; what
//! differs between profiles is how literally it takes them.

pub mod genai;
pub mod graph;
pub mod int;
pub mod ort;
pub mod std;
pub mod weights;
mod write;

pub use write::Written;

use crate::error::Result;
use crate::runtime::Artifact;
use graph::Graph;

/// How a program becomes a graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Floats around an integer core: what runtimes are fast at.
    Std,
    /// Integers only: every logit is that of the program.
    Int,
    /// Contributed operators of ONNX Runtime: GroupQueryAttention and MatMulNBits.
    Ort,
}

/// How the low-bit weights lie in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WeightForm {
    /// A byte a weight: every runtime takes it.
    Int8,
    /// Two bits a weight: opset 25.
    Int2,
    /// Four bits a weight: opset 21.
    Int4,
}

/// In which type `std` sums the squares of a norm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NormForm {
    /// The order of a sum does not show in the result.
    F64,
    /// For runtimes without 64-bit floats.
    F32,
}

/// What may be chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    pub profile: Profile,
    pub weights: WeightForm,
    pub norm: NormForm,
    /// Slots of the cache of a graph without unknown dimensions (`int` only).
    pub static_len: Option<usize>,
    /// Raises the opset above the lowest that the profile needs.
    pub opset: Option<i64>,
    /// `ort`: accuracy level 1, under which a runtime rounds no activations.
    pub exact: bool,
    /// `int`: logits as floats.
    pub float_logits: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            profile: Profile::Std,
            weights: WeightForm::Int8,
            norm: NormForm::F64,
            static_len: None,
            opset: None,
            exact: false,
            float_logits: false,
        }
    }
}

/// The graph of a packed file in the chosen profile.
///
/// # Errors
/// `Unsupported` with what of the program has no place in the profile, `Usage` for settings that contradict each other.
pub fn build<'a>(artifact: &'a Artifact, s: &Settings) -> Result<Graph<'a>> {
    match s.profile {
        Profile::Std => std::build(artifact, s),
        Profile::Int => int::build(artifact, s),
        Profile::Ort => ort::build(artifact, s),
    }
}
