//! Which parts of a runtime a program needs. The C folder compiles only these, and the plan takes the larger budget of code where
//! a program needs more than the operations that every runtime had from the start.

use super::{KernelHint, OpKind, Program, ScaleMode, TensorId, TensorKind};
use crate::encoding::fixed::{bitlen, Scale};
use crate::encoding::lowbit::Encoding;

/// The parts, named as in `bitnet_features.h` of the C runtime and in its order; the kinds of ACT and GATE are a mask beside them.
pub const PARTS: [&str; 26] = [
    "OP_RMSNORM",
    "OP_RELU2MUL",
    "OP_SILUMUL",
    "OP_LOGITS",
    "OP_NORM",
    "OP_BIAS",
    "OP_GAIN",
    "OP_ACT",
    "OP_GATE",
    "OP_STORE",
    "OP_POSITION",
    "OP_ROPE",
    "OP_EMBEDDING",
    "KERNEL_LOOKUP",
    "KERNEL_PLANES",
    "KIND_TERNARY5",
    "KIND_INT4",
    "KIND_PLANES4",
    "WITH_ENCODER",
    "WITH_TABLES",
    "WITH_WIDE",
    "WITH_FACTORS",
    "WITH_CAPS",
    "WITH_SLOPES",
    "WITH_WINDOWS",
    "WITH_PARTIAL",
];

/// Parts of the first version of the semantics, with the kernels that its programs get.
const FIRST: [&str; 9] = [
    "OP_RMSNORM",
    "OP_RELU2MUL",
    "OP_SILUMUL",
    "OP_LOGITS",
    "WITH_WIDE",
    "KERNEL_LOOKUP",
    "KERNEL_PLANES",
    "KIND_TERNARY5",
    "KIND_INT4",
];

/// What a program needs of a runtime.
#[derive(Debug, Default)]
pub struct Needs {
    parts: Vec<&'static str>,
    /// Bit k: kind k of ACT or GATE occurs.
    pub kinds: u32,
}

impl Needs {
    fn when(&mut self, needed: bool, part: &'static str) {
        if needed && !self.parts.contains(&part) {
            self.parts.push(part);
        }
    }

    /// Whether one of [`PARTS`] is among them.
    pub fn has(&self, part: &str) -> bool {
        self.parts.contains(&part)
    }

    /// Whether the first version of the semantics is enough.
    pub fn is_plain(&self) -> bool {
        self.parts.iter().all(|p| FIRST.contains(p))
    }
}

/// Follows the operations of a checked program.
pub fn needs(p: &Program) -> Needs {
    let mut n = Needs::default();
    n.when(p.encoder, "WITH_ENCODER");
    for t in &p.tensors {
        let TensorKind::Matrix { enc, .. } = t.kind else { continue };
        n.when(enc == Encoding::Ternary5, "KIND_TERNARY5");
        n.when(enc == Encoding::Int4, "KIND_INT4");
        n.when(enc == Encoding::Planes4, "KIND_PLANES4");
    }
    // Qmax of the codes in each register, as the operations come.
    let mut qmax = vec![0; p.registers.len()];
    for op in &p.ops {
        match &op.kind {
            OpKind::Quantize { dst, rule, .. } => qmax[*dst] = rule.qmax,
            OpKind::Linear { codes, weight, hint, .. } => {
                n.when(*hint == KernelHint::Tables, "KERNEL_LOOKUP");
                n.when(*hint == KernelHint::Planes, "KERNEL_PLANES");
                n.when(!sums_fit(p, *weight, qmax[*codes]), "WITH_WIDE");
            }
            OpKind::Embed { table, factor, .. } => {
                n.when(!has_plain_rows(p, *table), "WITH_TABLES");
                n.when(factor.is_some(), "WITH_FACTORS");
            }
            OpKind::Position { table, .. } => {
                n.when(true, "OP_POSITION");
                n.when(!has_plain_rows(p, *table), "WITH_TABLES");
            }
            OpKind::Add { factor, .. } => n.when(factor.is_some(), "WITH_FACTORS"),
            OpKind::KvWrite { freq, .. } => n.when(!turns_whole_heads(p, *freq), "WITH_PARTIAL"),
            OpKind::Attend { freq, scoring, .. } => {
                n.when(!turns_whole_heads(p, *freq), "WITH_PARTIAL");
                n.when(scoring.window > 0, "WITH_WINDOWS");
                n.when(scoring.cap.is_some(), "WITH_CAPS");
                n.when(scoring.slopes.is_some(), "WITH_SLOPES");
            }
            OpKind::Rope { freq, .. } => {
                n.when(true, "OP_ROPE");
                n.when(!turns_whole_heads(p, Some(*freq)), "WITH_PARTIAL");
            }
            OpKind::Logits { factor, cap, .. } => {
                n.when(true, "OP_LOGITS");
                n.when(factor.is_some(), "WITH_FACTORS");
                n.when(cap.is_some(), "WITH_CAPS");
            }
            OpKind::Act { kind, .. } => {
                n.when(true, "OP_ACT");
                n.kinds |= 1 << kind.number();
            }
            OpKind::Gate { kind, .. } => {
                n.when(true, "OP_GATE");
                n.kinds |= 1 << kind.number();
            }
            OpKind::RmsNorm { .. } => n.when(true, "OP_RMSNORM"),
            OpKind::Relu2Mul { .. } => n.when(true, "OP_RELU2MUL"),
            OpKind::SiluMul { .. } => n.when(true, "OP_SILUMUL"),
            OpKind::Norm { .. } => n.when(true, "OP_NORM"),
            OpKind::Bias { .. } => n.when(true, "OP_BIAS"),
            OpKind::Gain { .. } => n.when(true, "OP_GAIN"),
            OpKind::Store { .. } => n.when(true, "OP_STORE"),
            OpKind::Embedding { .. } => n.when(true, "OP_EMBEDDING"),
        }
    }
    n
}

/// Bytes or 16-bit words with a scale for each row: the tables that the runtime always reads.
fn has_plain_rows(p: &Program, table: TensorId) -> bool {
    let plain = [Encoding::Int8, Encoding::Int16];
    matches!(p.tensors[table].kind, TensorKind::Matrix { enc, scales: ScaleMode::Row, .. } if plain.contains(&enc))
}

/// Whether the sums of a LINEAR stay within 30 bits.
fn sums_fit(p: &Program, weight: TensorId, qmax: u32) -> bool {
    let t = &p.tensors[weight];
    match t.kind {
        TensorKind::Matrix { enc, .. } => bitlen(u64::from(qmax) * enc.wmax() * t.cols as u64) <= 30,
        _ => true,
    }
}

fn turns_whole_heads(p: &Program, freq: Option<TensorId>) -> bool {
    freq.is_some_and(|f| 2 * p.tensors[f].cols == p.attention.head_dim && p.tensors[f].scale == Scale::ONE)
}
