//! Builds a graph in memory: names, nodes, constants, and weights that are only read when the file is written.

use crate::digest::sha256;
use crate::error::{Error, Result};
use crate::format::onnx::messages::{
    attribute_type, AttributeProto, Dimension, DimensionValue, NodeProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto,
};
use crate::format::onnx::Elem;
use prost::bytes::Bytes;
use prost::Message;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;

/// Standard operators: the highest version that the newest runtimes take.
pub const MAX_OPSET: i64 = 26;
/// Domain of the contributed operators of ONNX Runtime.
pub const MICROSOFT: &str = "com.microsoft";

/// A value of the graph.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Value(pub(super) u32);

impl Value {
    /// An optional input that is not given.
    pub const NONE: Value = Value(u32::MAX);
}

/// A dimension of an input or output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dim {
    N(i64),
    /// Known when the graph runs; dimensions of the same name are equal.
    Sym(&'static str),
}

/// An attribute of a node.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Attr<'a> {
    I(i64),
    F(f32),
    Ints(&'a [i64]),
    S(&'a str),
}

/// Writes the bytes of a tensor, as many as were announced.
pub type Source<'a> = Box<dyn Fn(&mut dyn Write) -> Result<()> + 'a>;

/// Writes a part of a tensor from within a [`Source`].
///
/// # Errors
/// `Io`; the writer that called the source adds the file.
pub fn put(out: &mut dyn Write, data: &[u8]) -> Result<()> {
    out.write_all(data).map_err(|e| Error::new(crate::error::Kind::Io, format!("cannot write the tensor: {e}")))
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Input,
    Tensor,
    Node,
}

struct Known {
    name: String,
    origin: Origin,
    /// The name was asked for, so it stays.
    named: bool,
    output: bool,
}

/// The bytes of a tensor.
pub(super) enum Data<'a> {
    Here(Vec<u8>),
    Later { bytes: u64, source: Source<'a> },
}

impl Data<'_> {
    pub(super) fn len(&self) -> u64 {
        match self {
            Data::Here(b) => b.len() as u64,
            Data::Later { bytes, .. } => *bytes,
        }
    }
}

pub(super) struct Tensor<'a> {
    pub value: Value,
    pub elem: Elem,
    pub dims: Vec<i64>,
    pub data: Data<'a>,
}

pub(super) struct Node {
    pub op: String,
    pub domain: &'static str,
    pub inputs: Vec<Value>,
    pub outputs: Vec<Value>,
    pub attributes: Vec<AttributeProto>,
}

/// What two nodes of the same result have in common: domain, operator, inputs, attributes, number of outputs.
type Same = (&'static str, String, Vec<Value>, Vec<u8>, usize);

/// A graph that grows; `'a` is how long the weights can be read.
pub struct Graph<'a> {
    opset: i64,
    microsoft: bool,
    scope: String,
    values: Vec<Known>,
    names: HashSet<String>,
    counters: HashMap<String, usize>,
    pub(super) inputs: Vec<ValueInfoProto>,
    pub(super) outputs: Vec<(Value, ValueInfoProto)>,
    pub(super) nodes: Vec<Node>,
    pub(super) tensors: Vec<Tensor<'a>>,
    made: HashMap<Same, Vec<Value>>,
    /// By the digest of their bytes.
    constants: HashMap<(Elem, Vec<i64>, [u8; 32]), Value>,
    weights: HashMap<String, usize>,
    pub(super) meta: BTreeMap<String, String>,
    pub(super) description: String,
    /// Name of the file of weights, if it is not called after the graph.
    pub(super) weights_name: Option<String>,
    /// The first thing that was wrong; told when the graph is written.
    fault: Option<Error>,
}

/// Constants of one type, as scalars and as tensors.
macro_rules! constants {
    ($($(#[$doc:meta])* $one:ident, $many:ident, $t:ty, $elem:expr;)*) => {$(
        $(#[$doc])*
        pub fn $one(&mut self, v: $t) -> Value {
            self.tensor($elem, &[], v.to_le_bytes().to_vec())
        }

        /// The same as a tensor of the given dimensions, row-major.
        pub fn $many(&mut self, dims: &[i64], v: &[$t]) -> Value {
            self.tensor($elem, dims, v.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
    )*};
}

impl<'a> Graph<'a> {
    /// An empty graph on the standard operators of version `opset`. The version of the format follows from it.
    pub fn new(opset: i64) -> Self {
        let mut g = Graph {
            opset,
            microsoft: false,
            scope: String::new(),
            values: Vec::new(),
            names: HashSet::new(),
            counters: HashMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            nodes: Vec::new(),
            tensors: Vec::new(),
            made: HashMap::new(),
            constants: HashMap::new(),
            weights: HashMap::new(),
            meta: BTreeMap::new(),
            description: String::new(),
            weights_name: None,
            fault: None,
        };
        if !(13..=MAX_OPSET).contains(&opset) {
            g.wrong(Error::usage(format!("opset {opset} is not among those that we write (13 to {MAX_OPSET})")));
        }
        g
    }

    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// Prefix of the names made from now on, e.g. `layers.0/attn`.
    pub fn scope(&mut self, name: impl Into<String>) {
        self.scope = name.into();
    }

    pub fn input(&mut self, name: &str, elem: Elem, dims: &[Dim]) -> Value {
        let v = self.value(name.to_string(), Origin::Input, true);
        self.inputs.push(info(name, elem, dims));
        v
    }

    /// Makes `v` an output of the graph.
    pub fn output(&mut self, v: Value, name: &str, elem: Elem, dims: &[Dim]) {
        let v = self.named(v, name.to_string());
        if let Some(known) = self.values.get_mut(v.0 as usize) {
            known.output = true;
        }
        self.outputs.push((v, info(name, elem, dims)));
    }

    /// Gives `v` a name that it can be found by in the file. A value that has one already, an input or a constant gets it on a copy.
    pub fn name(&mut self, v: Value, name: impl Into<String>) {
        self.named(v, name.into());
    }

    fn named(&mut self, v: Value, name: String) -> Value {
        let Some(known) = self.values.get(v.0 as usize) else {
            self.wrong(Error::usage(format!("`{name}` names no value of the graph")));
            return v;
        };
        if known.origin != Origin::Node || known.named {
            let copy = self.value(name, Origin::Node, true);
            self.nodes.push(Node {
                op: "Identity".to_string(),
                domain: "",
                inputs: vec![v],
                outputs: vec![copy],
                attributes: Vec::new(),
            });
            return copy;
        }
        self.take(&name);
        if let Some(known) = self.values.get_mut(v.0 as usize) {
            known.name = name;
            known.named = true;
        }
        v
    }

    /// Whether `v` has a name already that stays.
    pub fn is_named(&self, v: Value) -> bool {
        self.values.get(v.0 as usize).is_none_or(|k| k.named)
    }

    /// A node with one output; an equal node that is there already gives its output.
    pub fn op(&mut self, op: &str, inputs: &[Value], attrs: &[(&str, Attr)]) -> Value {
        self.node("", op, inputs, attrs, 1).first().copied().unwrap_or(Value::NONE)
    }

    pub fn op_n(&mut self, op: &str, inputs: &[Value], attrs: &[(&str, Attr)], outputs: usize) -> Vec<Value> {
        self.node("", op, inputs, attrs, outputs)
    }

    /// As [`Graph::op_n`], with a contributed operator of ONNX Runtime.
    pub fn ms_op_n(&mut self, op: &str, inputs: &[Value], attrs: &[(&str, Attr)], outputs: usize) -> Vec<Value> {
        self.microsoft = true;
        self.node(MICROSOFT, op, inputs, attrs, outputs)
    }

    fn node(
        &mut self,
        domain: &'static str,
        op: &str,
        inputs: &[Value],
        attrs: &[(&str, Attr)],
        outputs: usize,
    ) -> Vec<Value> {
        let attributes: Vec<AttributeProto> = attrs.iter().map(|(name, a)| attribute(name, a)).collect();
        let bytes = attributes.iter().flat_map(|a| a.encode_length_delimited_to_vec()).collect();
        let same = (domain, op.to_string(), inputs.to_vec(), bytes, outputs);
        if let Some(made) = self.made.get(&same) {
            return made.clone();
        }
        if let Some(unknown) = inputs.iter().find(|v| **v != Value::NONE && v.0 as usize >= self.values.len()) {
            self.wrong(Error::usage(format!("{op}: {unknown:?} is no value of this graph")));
        }
        let stem = self.fresh(op);
        let outputs: Vec<Value> = (0..outputs)
            .map(|i| {
                let name = if i == 0 { stem.clone() } else { format!("{stem}:{i}") };
                self.value(name, Origin::Node, false)
            })
            .collect();
        let op = op.to_string();
        self.nodes.push(Node { op, domain, inputs: inputs.to_vec(), outputs: outputs.clone(), attributes });
        self.made.insert(same, outputs.clone());
        outputs
    }

    constants! {
        /// A scalar (no dimensions); equal constants are one tensor of the file.
        i64, i64s, i64, Elem::I64;
        /// As [`Graph::i64`].
        i32, i32s, i32, Elem::I32;
        /// As [`Graph::i64`].
        i16, i16s, i16, Elem::I16;
        /// As [`Graph::i64`].
        i8, i8s, i8, Elem::I8;
        /// As [`Graph::i64`].
        u8, u8s, u8, Elem::U8;
        /// As [`Graph::i64`].
        u64, u64s, u64, Elem::U64;
        /// As [`Graph::i64`].
        f32, f32s, f32, Elem::F32;
        /// As [`Graph::i64`].
        f64, f64s, f64, Elem::F64;
    }

    /// As [`Graph::i64`].
    pub fn bool(&mut self, v: bool) -> Value {
        self.tensor(Elem::Bool, &[], vec![u8::from(v)])
    }

    /// As [`Graph::i64s`].
    pub fn bools(&mut self, dims: &[i64], v: &[bool]) -> Value {
        self.tensor(Elem::Bool, dims, v.iter().map(|v| u8::from(*v)).collect())
    }

    /// A constant of any type from its bytes (little-endian, row-major, packed below 8 bits).
    pub fn tensor(&mut self, elem: Elem, dims: &[i64], bytes: Vec<u8>) -> Value {
        let key = (elem, dims.to_vec(), sha256(&bytes));
        if let Some(v) = self.constants.get(&key) {
            return *v;
        }
        let name = self.unused(format!("const/{}_{}", elem.name(), self.constants.len()));
        let v = self.stored(name, elem, dims, Data::Here(bytes));
        self.constants.insert(key, v);
        v
    }

    pub fn cast(&mut self, v: Value, to: Elem) -> Value {
        self.op("Cast", &[v], &[("to", Attr::I(to.id().into()))])
    }

    /// A tensor of `bytes` bytes that is read when the file is written. A second one of the same name is the first.
    pub fn weight(&mut self, name: &str, elem: Elem, dims: &[i64], bytes: u64, source: Source<'a>) -> Value {
        if let Some(t) = self.weights.get(name).and_then(|i| self.tensors.get(*i)) {
            let (v, same) = (t.value, (t.elem, &t.dims[..], t.data.len()) == (elem, dims, bytes));
            if !same {
                self.wrong(Error::usage("two weights of this name differ in type or shape").at_tensor(name));
            }
            return v;
        }
        self.weights.insert(name.to_string(), self.tensors.len());
        self.stored(name.to_string(), elem, dims, Data::Later { bytes, source })
    }

    fn stored(&mut self, name: String, elem: Elem, dims: &[i64], data: Data<'a>) -> Value {
        let elements = dims.iter().try_fold(1u64, |n, d| n.checked_mul(u64::try_from(*d).ok()?));
        if elements.and_then(|n| elem.bytes(n)) != Some(data.len()) {
            let (bytes, t) = (data.len(), elem.name());
            self.wrong(Error::usage(format!("{bytes} bytes are no tensor of {t} {dims:?}")).at_tensor(&name));
        }
        let value = self.value(name, Origin::Tensor, true);
        self.tensors.push(Tensor { value, elem, dims: dims.to_vec(), data });
        value
    }

    /// A line of the file's metadata; the last one of a key counts.
    pub fn meta(&mut self, key: &str, value: impl Into<String>) {
        self.meta.insert(key.to_string(), value.into());
    }

    /// What a person reads about the model in the file.
    pub fn describe(&mut self, text: impl Into<String>) {
        self.description = text.into();
    }

    /// The name that the file of weights has beside the graph, where a reader wants another than the graph's with `.data` appended.
    pub fn weights_in(&mut self, name: impl Into<String>) {
        self.weights_name = Some(name.into());
    }

    /// Nodes so far, those included that nothing will need.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    fn value(&mut self, name: String, origin: Origin, named: bool) -> Value {
        self.take(&name);
        self.values.push(Known { name, origin, named, output: false });
        Value((self.values.len() - 1) as u32)
    }

    /// Marks a name as used.
    fn take(&mut self, name: &str) {
        if name.is_empty() || !self.names.insert(name.to_string()) {
            self.wrong(Error::usage(format!("two values are called `{name}`")));
        }
    }

    /// The name of the next node of a kind in this scope.
    fn fresh(&mut self, op: &str) -> String {
        let stem = if self.scope.is_empty() { op.to_string() } else { format!("{}/{op}", self.scope) };
        let n = self.counters.entry(stem.clone()).or_default();
        *n += 1;
        let name = format!("{stem}_{}", *n - 1);
        self.unused(name)
    }

    /// The name itself, or with a mark if someone asked for it before.
    fn unused(&self, mut name: String) -> String {
        while self.names.contains(&name) {
            name.push('\'');
        }
        name
    }

    fn wrong(&mut self, e: Error) {
        self.fault.get_or_insert(e);
    }

    pub(super) fn check(&mut self) -> Result<()> {
        self.fault.take().map_or(Ok(()), Err)
    }

    pub(super) fn name_of(&self, v: Value) -> &str {
        self.values.get(v.0 as usize).map_or("", |k| &k.name)
    }

    /// Whether someone asked for this value by name.
    pub(super) fn is_wanted(&self, v: Value) -> bool {
        self.values.get(v.0 as usize).is_some_and(|k| k.output || k.named && k.origin == Origin::Node)
    }

    pub(super) fn uses_microsoft(&self) -> bool {
        self.microsoft
    }

    pub(super) fn node_proto(&self, n: &Node) -> NodeProto {
        let names = |list: &[Value]| list.iter().map(|v| self.name_of(*v).to_string()).collect::<Vec<_>>();
        let output = names(&n.outputs);
        NodeProto {
            name: output.first().cloned().unwrap_or_default(),
            input: names(&n.inputs),
            output,
            op_type: n.op.clone(),
            domain: n.domain.to_string(),
            attribute: n.attributes.clone(),
            ..NodeProto::default()
        }
    }
}

fn info(name: &str, elem: Elem, dims: &[Dim]) -> ValueInfoProto {
    let dim = dims.iter().map(|d| Dimension {
        value: Some(match d {
            Dim::N(n) => DimensionValue::Value(*n),
            Dim::Sym(s) => DimensionValue::Param(s.to_string()),
        }),
    });
    let tensor = TensorTypeProto { elem_type: elem.id(), shape: Some(TensorShapeProto { dim: dim.collect() }) };
    let r#type = Some(TypeProto { tensor_type: Some(tensor), ..TypeProto::default() });
    ValueInfoProto { name: name.to_string(), r#type }
}

fn attribute(name: &str, a: &Attr) -> AttributeProto {
    let mut out = AttributeProto { name: name.to_string(), ..AttributeProto::default() };
    match a {
        Attr::I(i) => (out.r#type, out.i) = (attribute_type::INT, Some(*i)),
        Attr::F(f) => (out.r#type, out.f) = (attribute_type::FLOAT, Some(*f)),
        Attr::Ints(v) => (out.r#type, out.ints) = (attribute_type::INTS, v.to_vec()),
        Attr::S(s) => (out.r#type, out.s) = (attribute_type::STRING, Some(Bytes::copy_from_slice(s.as_bytes()))),
    }
    out
}
