//! Which parts of the runtime a program needs: the switches of `files/runtime/bitnet_features.h`, as `model.h` sets them.

use crate::encoding::fixed::Scale;
use crate::encoding::lowbit::Encoding;
use crate::program::{OpKind, Program, ScaleMode, TensorId, TensorKind};

/// The switches, in the order of `bitnet_features.h`; the kinds of ACT and GATE are a mask beside them.
const SWITCHES: [&str; 20] = [
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
    "WITH_ENCODER",
    "WITH_TABLES",
    "WITH_FACTORS",
    "WITH_CAPS",
    "WITH_SLOPES",
    "WITH_WINDOWS",
    "WITH_PARTIAL",
];

#[derive(Default)]
struct Needs {
    switches: Vec<&'static str>,
    kinds: u32,
}

impl Needs {
    fn when(&mut self, needed: bool, switch: &'static str) {
        if needed && !self.switches.contains(&switch) {
            self.switches.push(switch);
        }
    }
}

/// The lines of `model.h` that leave out what the program does not use.
pub fn defines(p: &Program) -> String {
    let needs = needs(p);
    let on = |s: &&str| format!("#define BITNET_{s} {}\n", u8::from(needs.switches.contains(s)));
    SWITCHES.iter().map(on).collect::<String>() + &format!("#define BITNET_KINDS {:#x}u\n", needs.kinds)
}

fn needs(p: &Program) -> Needs {
    let mut n = Needs::default();
    n.when(p.encoder, "WITH_ENCODER");
    for op in &p.ops {
        match &op.kind {
            OpKind::Quantize { .. } | OpKind::Linear { .. } => {}
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
    matches!(p.tensors[table].kind, TensorKind::Matrix { enc, scales: ScaleMode::Row } if plain.contains(&enc))
}

fn turns_whole_heads(p: &Program, freq: Option<TensorId>) -> bool {
    freq.is_some_and(|f| 2 * p.tensors[f].cols == p.attention.head_dim && p.tensors[f].scale == Scale::ONE)
}

#[cfg(test)]
mod tests {
    use super::SWITCHES;

    /// A switch that the C side does not know would silently compile everything, or one that it has and nobody sets.
    #[test]
    fn the_switches_are_those_of_the_c_header() {
        let header = include_str!("files/runtime/bitnet_features.h");
        let guards: Vec<&str> = header.lines().filter_map(|l| l.strip_prefix("#ifndef BITNET_")).collect();
        let ours: Vec<&str> = ["FEATURES_H"]
            .into_iter()
            .chain(SWITCHES[..13].iter().copied())
            .chain(["KINDS"])
            .chain(SWITCHES[13..].iter().copied())
            .collect();
        assert_eq!(guards.iter().map(|g| g.split(' ').next().unwrap_or(g)).collect::<Vec<_>>(), ours);
    }
}
