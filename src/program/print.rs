//! The program as text, for `inspect --program` and for people.

use super::{KernelHint, OpKind, Program, RegKind};
use std::fmt::Write;

/// One line an operation, in the notation of docs/semantics.md.
pub fn print(p: &Program) -> String {
    let mut s = String::new();
    let t = |id: usize| p.tensors[id].name.as_str();
    for (i, op) in p.ops.iter().enumerate() {
        let place = match op.layer {
            _ if i >= p.head_op => "head".to_string(),
            Some(l) => format!("layer {l}"),
            None => "start".to_string(),
        };
        let text = match &op.kind {
            OpKind::Embed { dst, table, .. } => format!("r{dst} = EMBED({})", t(*table)),
            OpKind::RmsNorm { dst, src, gamma, eps } => {
                format!("r{dst} = RMSNORM(r{src}, {}, eps {:.3e})", t(*gamma), eps.to_f64())
            }
            OpKind::Quantize { dst, src, rule } => {
                format!("r{dst} = QUANTIZE(r{src}, Qmax {}, {} ..= {})", rule.qmax, rule.lo, rule.hi)
            }
            OpKind::Linear { dst, codes, weight, hint } => {
                let by = match hint {
                    KernelHint::Select => "",
                    KernelHint::Planes => ", planes",
                    KernelHint::Tables => ", tables",
                };
                format!("r{dst} = LINEAR(r{codes}, {}: {}{by})", t(*weight), p.tensors[*weight].kind)
            }
            OpKind::Add { dst, src, .. } => format!("r{dst} += r{src}"),
            OpKind::KvWrite { k, v, .. } => format!("KVWRITE(r{k}, r{v})"),
            OpKind::Attend { dst, q, .. } => format!("r{dst} = ATTEND(r{q})"),
            OpKind::Relu2Mul { dst, gate, up } => format!("r{dst} = RELU2MUL(r{gate}, r{up})"),
            OpKind::SiluMul { dst, gate, up } => format!("r{dst} = SILUMUL(r{gate}, r{up})"),
            OpKind::Logits { src, .. } => format!("LOGITS(r{src})"),
            OpKind::Norm { dst, src, gamma, beta, eps, group, centred } => {
                let kind = if *centred { "layer norm" } else { "rms norm" };
                let named = |id: &Option<usize>| id.map_or("", t);
                format!(
                    "r{dst} = NORM(r{src}, {}, {}, eps {:.3e}, {kind} of {group})",
                    named(gamma),
                    named(beta),
                    eps.to_f64()
                )
            }
            OpKind::Bias { dst, src, by } => format!("r{dst} = r{src} + {}", t(*by)),
            OpKind::Gain { dst, src, by } => format!("r{dst} = r{src} * {}", t(*by)),
            OpKind::Act { dst, src, kind } => format!("r{dst} = ACT(r{src}, {kind:?})"),
            OpKind::Gate { dst, gate, up, kind } => format!("r{dst} = GATE(r{gate}, r{up}, {kind:?})"),
            OpKind::Store { dst, src } => format!("r{dst} = STORE(r{src})"),
            OpKind::Position { dst, table } => format!("r{dst} += POSITION({})", t(*table)),
            OpKind::Rope { dst, src, .. } => format!("r{dst} = ROPE(r{src})"),
            OpKind::Embedding { src, pool, unit } => format!("EMBEDDING(r{src}, {pool:?}, unit {unit})"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(s, "{i:5}  {place:9}  {text}");
    }
    for (i, r) in p.registers.iter().enumerate() {
        let kind = match r.kind {
            RegKind::Vector => "i32",
            RegKind::Codes8 => "i8",
            RegKind::Codes16 => "i16",
        };
        let _ = writeln!(s, "       r{i}: {kind}[{}]", r.capacity);
    }
    s
}
