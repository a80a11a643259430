//! What is known to go wrong with ONNX files, each found in the file itself.

use crate::error::Result;
use crate::export::onnx::graph::{MAX_OPSET, MICROSOFT};
use crate::format::onnx::messages::{GraphProto, NodeProto, TensorProto};
use crate::format::onnx::{ir_version, Elem, Loaded};
use crate::plan::group;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Tensors in the model file beyond this are on the way to the end of a protobuf message.
const MUCH_INLINE: u64 = 1 << 30;
/// Products of a code of up to 255 and a weight of this size stay within the saturating pairs of 16 bits that some processors add.
const SAFE_WEIGHT: u8 = 64;

/// One line for each kind of trap, with how often it is there.
pub fn find(l: &Loaded) -> Result<Vec<String>> {
    let g = l.graph()?;
    let mut out = Vec::new();
    let (newest_ir, opset) = (ir_version(MAX_OPSET), l.opset("").unwrap_or(0));
    if l.model.ir_version > newest_ir {
        let ir = l.model.ir_version;
        out.push(format!("IR version {ir}: ONNX Runtime 1.31 takes {newest_ir} at most, and older ones less"));
    }
    if opset > MAX_OPSET {
        out.push(format!(
            "operators of version {opset}: ONNX Runtime 1.31 takes {MAX_OPSET} at most, and older ones less"
        ));
    }
    let inline: u64 = g.initializer.iter().map(|t| t.raw_data.as_ref().map_or(0, |r| r.len() as u64)).sum();
    if inline > MUCH_INLINE {
        let inline = group(inline);
        out.push(format!(
            "{inline} bytes of tensors in the model file, which ends at 2 GiB; others belong into a file beside it"
        ));
    }
    for (kind, count) in nodes(l, g)? {
        out.push(match count {
            1 => kind.to_string(),
            n => format!("{kind} ({n} times)"),
        });
    }
    Ok(out)
}

fn nodes(l: &Loaded, g: &GraphProto) -> Result<BTreeMap<&'static str, usize>> {
    let tensors: HashMap<&str, &TensorProto> = g.initializer.iter().map(|t| (&t.name[..], t)).collect();
    let mut types = known_types(g);
    let mut dequantized: HashSet<&str> = HashSet::new();
    let mut found: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut wide: HashMap<&str, bool> = HashMap::new();
    for n in &g.node {
        let input = |i: usize| n.input.get(i).map_or("", |s| &s[..]);
        let mut warn = |kind| *found.entry(kind).or_default() += 1;
        match (&n.domain[..], &n.op_type[..]) {
            ("" | "ai.onnx", "DequantizeLinear") => dequantized.extend(n.output.iter().map(|o| &o[..])),
            ("" | "ai.onnx", "MatMul" | "Gemm") if (0..2).any(|i| dequantized.contains(input(i))) => {
                warn("DequantizeLinear before MatMul: ONNX Runtime replaces the two by a product with activations of 8 bits, about half a per cent off");
            }
            ("" | "ai.onnx", "MatMulInteger") => {
                if types.get(input(0)) == Some(&Elem::I8) {
                    warn("MatMulInteger with signed codes: ONNX Runtime on x86 has no fast kernel for int8 x int8, about 100 times slower than uint8 x int8");
                } else if let Some(t) = tensors.get(input(1)).filter(|t| t.data_type == Elem::I8.id()) {
                    let is_wide = match wide.get(input(1)) {
                        Some(w) => *w,
                        None => l.tensor_bytes(t)?.iter().any(|w| (*w as i8).unsigned_abs() > SAFE_WEIGHT),
                    };
                    wide.insert(input(1), is_wide);
                    if is_wide {
                        warn("MatMulInteger of uint8 codes with int8 weights beyond 64: processors with AVX2 but no VNNI may saturate");
                    }
                }
                if (2..4).any(|i| tensors.get(input(i)).is_some_and(|t| !t.dims.is_empty())) {
                    warn("MatMulInteger with zero points that are no scalars: some runtimes take them for one a row");
                }
            }
            ("" | "ai.onnx", "Where") if [1, 2].iter().any(|i| types.get(input(*i)) == Some(&Elem::I8)) => {
                warn("Where on int8: ONNX Runtime before 1.29 has no kernel for it");
            }
            (MICROSOFT, op) => {
                warn("an operator of com.microsoft: only ONNX Runtime has it");
                let level = n.attribute.iter().find(|a| a.name == "accuracy_level").and_then(|a| a.i);
                if op == "MatMulNBits" && level == Some(4) {
                    warn("MatMulNBits at accuracy level 4: quantizes its activations in its own way, so results are approximate");
                }
            }
            _ => {}
        }
        for (output, elem) in n.output.iter().zip(types_of(n, &types)) {
            types.insert(output, elem);
        }
    }
    Ok(found)
}

/// Types that the file states.
fn known_types(g: &GraphProto) -> HashMap<&str, Elem> {
    let infos = g.input.iter().chain(&g.value_info).chain(&g.output);
    let stated = infos.filter_map(|v| Some((&v.name[..], v.r#type.as_ref()?.tensor_type.as_ref()?.elem_type)));
    let tensors = g.initializer.iter().map(|t| (&t.name[..], t.data_type));
    stated.chain(tensors).filter_map(|(name, id)| Some((name, Elem::from_id(id)?))).collect()
}

/// Types of the outputs of a node, for the few operators that small integers come from or go through.
fn types_of(n: &NodeProto, types: &HashMap<&str, Elem>) -> Vec<Elem> {
    let of_input = |i: usize| n.input.get(i).and_then(|name| types.get(&name[..]).copied());
    let one = match &n.op_type[..] {
        "Cast" => n.attribute.iter().find(|a| a.name == "to").and_then(|a| Elem::from_id(i32::try_from(a.i?).ok()?)),
        "QuantizeLinear" => of_input(2).or(Some(Elem::U8)),
        "DynamicQuantizeLinear" => Some(Elem::U8),
        "Where" => of_input(1),
        "Identity" | "Reshape" | "Transpose" | "Clip" | "Concat" | "Slice" | "Gather" | "Unsqueeze" | "Squeeze"
        | "Expand" => of_input(0),
        _ => None,
    };
    one.into_iter().collect()
}
