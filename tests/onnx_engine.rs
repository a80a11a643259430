//! The engines that run ONNX files: every operator against ONNX Runtime's results (`tools/onnx_fixture.py`), and graphs that mean harm.

use bitnet_convert::engine::builtin::{Builtin, Limits};
use bitnet_convert::engine::{Data, Engine, Tensor};
use bitnet_convert::format::onnx::messages::*;
use bitnet_convert::format::onnx::Loaded;
use prost::Message;
use serde_json::Value;
use std::path::Path;

fn hex(v: &Value) -> Vec<u8> {
    let text = v.as_str().expect("text");
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex")).collect()
}

fn tensor(v: &Value) -> Tensor {
    let dims: Vec<usize> =
        v["dims"].as_array().expect("dims").iter().map(|d| d.as_u64().expect("a size") as usize).collect();
    let bytes = hex(&v["data"]);
    macro_rules! read {
        ($t:ty) => {
            bytes
                .chunks_exact(size_of::<$t>())
                .map(|b| <$t>::from_le_bytes(b.try_into().expect("its length")))
                .collect()
        };
    }
    let data = match v["type"].as_u64().expect("a type") {
        1 => Data::F32(read!(f32)),
        2 => Data::U8(bytes),
        3 => Data::I8(read!(i8)),
        4 => Data::U16(read!(u16)),
        5 => Data::I16(read!(i16)),
        6 => Data::I32(read!(i32)),
        7 => Data::I64(read!(i64)),
        9 => Data::Bool(bytes.iter().map(|b| *b != 0).collect()),
        11 => Data::F64(read!(f64)),
        12 => Data::U32(read!(u32)),
        13 => Data::U64(read!(u64)),
        other => panic!("type {other}"),
    };
    Tensor::new(&dims, data).expect("a tensor")
}

/// Equal, or as near as f32 functions of another library are.
fn same(a: &Tensor, b: &Tensor, exact: bool) -> bool {
    let near = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan() || !exact && (a - b).abs() <= 2e-6 + 1e-5 * b.abs();
    a.dims == b.dims
        && match (&a.data, &b.data) {
            (Data::F32(a), Data::F32(b)) => a.iter().zip(b).all(|(a, b)| near(f64::from(*a), f64::from(*b))),
            (Data::F64(a), Data::F64(b)) => a.iter().zip(b).all(|(a, b)| near(*a, *b)),
            (a, b) => a == b,
        }
}

fn cases() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx/operators.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).expect("the file")).expect("JSON");
    all.as_array().expect("a list").clone()
}

fn inputs_of(case: &Value) -> Vec<(String, Tensor)> {
    case["inputs"].as_object().expect("inputs").iter().map(|(n, t)| (n.clone(), tensor(t))).collect()
}

fn run(engine: &mut dyn Engine, case: &Value) -> bitnet_convert::Result<Vec<Tensor>> {
    let inputs = inputs_of(case);
    let given: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (&n[..], t)).collect();
    let count = case["outputs"].as_array().map_or(1, Vec::len);
    let wanted: Vec<String> = (0..count).map(|i| format!("y{i}")).collect();
    engine.run(&given, &wanted.iter().map(|n| &n[..]).collect::<Vec<_>>())
}

/// A model of the fixture; its outputs have no type there, which the reader wants and only ONNX Runtime can infer.
fn builtin(case: &Value) -> bitnet_convert::Result<Builtin> {
    let mut model = ModelProto::decode(&hex(&case["model"])[..]).expect("a message");
    model.graph.as_mut().expect("a graph").output.clear();
    Builtin::new(Loaded::from_bytes(model.encode_to_vec(), Path::new("case.onnx"))?)
}

#[test]
fn operators_compute_what_onnx_runtime_does() {
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() > 400);
    for case in &cases {
        let name = case["name"].as_str().expect("a name");
        let made = builtin(case).and_then(|mut e| run(&mut e, case));
        match (made, case.get("error")) {
            (Err(e), Some(expected)) => {
                let text = e.to_string();
                if !text.contains(expected.as_str().expect("text")) || !text.contains("node `node`") {
                    wrong.push(format!("{name}: error {text}"));
                }
            }
            (Err(e), None) => wrong.push(format!("{name}: {e}")),
            (Ok(made), None) => {
                let expected: Vec<Tensor> = case["outputs"].as_array().expect("outputs").iter().map(tensor).collect();
                let exact = case["exact"].as_bool().expect("exact");
                if made.len() != expected.len() || !made.iter().zip(&expected).all(|(a, b)| same(a, b, exact)) {
                    wrong.push(format!("{name}:\n  {made:?}\n  {expected:?}"));
                }
            }
            (Ok(made), Some(_)) => wrong.push(format!("{name}: no error but {:?}", made[0].dims)),
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}
