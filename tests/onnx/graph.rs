//! An exported file taken apart: nodes, initializers, and the element type of every value.

use bitnet_convert::format::onnx::messages::{GraphProto, NodeProto, TensorProto};
use bitnet_convert::format::onnx::Loaded;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub const UINT8: i32 = 2;
pub const INT8: i32 = 3;
pub const UINT16: i32 = 4;
pub const INT16: i32 = 5;
pub const INT32: i32 = 6;
pub const INT64: i32 = 7;
const BOOL: i32 = 9;

/// Operators whose result is a truth value.
const TESTS: [&str; 7] = ["Equal", "Less", "Greater", "GreaterOrEqual", "LessOrEqual", "And", "Or"];

pub struct Opened {
    pub path: PathBuf,
    pub loaded: Loaded,
    types: HashMap<String, i32>,
}

impl Opened {
    pub fn new(path: &Path) -> Opened {
        let loaded = Loaded::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut o = Opened { path: path.to_path_buf(), types: HashMap::new(), loaded };
        o.types = o.infer();
        o
    }

    pub fn graph(&self) -> &GraphProto {
        self.loaded.model.graph.as_ref().unwrap()
    }

    pub fn nodes(&self, op: &str) -> Vec<&NodeProto> {
        self.graph().node.iter().filter(|n| n.op_type == op).collect()
    }

    pub fn initializer(&self, name: &str) -> Option<&TensorProto> {
        self.graph().initializer.iter().find(|t| t.name == name)
    }

    /// The element type of a value; 0 if this cannot tell.
    pub fn elem(&self, value: &str) -> i32 {
        self.types.get(value).copied().unwrap_or(0)
    }

    fn infer(&self) -> HashMap<String, i32> {
        let mut types = HashMap::new();
        for t in &self.graph().initializer {
            types.insert(t.name.clone(), t.data_type);
        }
        for i in &self.graph().input {
            let elem = i.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).map_or(0, |t| t.elem_type);
            types.insert(i.name.clone(), elem);
        }
        for n in &self.graph().node {
            let of = |i: usize| n.input.get(i).and_then(|v| types.get(v)).copied().unwrap_or(0);
            let elem = match &n.op_type[..] {
                "Cast" => n.attribute.iter().find(|a| a.name == "to").map_or(0, |a| a.i.unwrap_or(0) as i32),
                "MatMulInteger" => INT32,
                "Shape" => INT64,
                "Where" => of(1),
                "Not" => BOOL,
                op if TESTS.contains(&op) => BOOL,
                _ => of(0),
            };
            n.output.iter().for_each(|o| {
                types.insert(o.clone(), elem);
            });
        }
        types
    }
}
