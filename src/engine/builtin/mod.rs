//! The built-in engine: an interpreter of the operators that the exporter writes, node by node in the order of the file.
//!
//! Every result is the same on every machine: integers wrap, floats are summed in one order and in f64, functions do not come from the C
//! library. What the standard leaves open (a division by zero, a float that does not fit the integer it is cast to) is an error. Weights are
//! used where they lie in the mapped file; other values exist until the last node that needs them has run.

mod arithmetic;
mod attention;
mod broadcast;
mod cast;
mod matmul;
mod nbits;
mod node;
mod reduce;
mod select;
mod shape;
mod table;
mod unary;
mod value;

pub use node::Limits;

use super::{Engine, Port, Tensor};
use crate::error::{Error, Result};
use crate::format::onnx::messages::{DimensionValue, NodeProto, TensorProto, ValueInfoProto};
use crate::format::onnx::{Elem, Loaded};
use node::{Args, Budget, Ctx};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::Path;
use value::Value;

/// Versions of the standard's operators whose meaning is known.
const VERSIONS: RangeInclusive<i64> = 13..=26;
/// Dimensions of a tensor.
const MAX_RANK: usize = 16;

/// A graph whose operators are all known.
pub struct Builtin {
    loaded: Loaded,
    /// Every value of the graph: its name and where it comes from.
    values: HashMap<String, usize>,
    /// For each value the initializer that it is, if it is one.
    initializers: Vec<Option<usize>>,
    steps: Vec<Step>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    limits: Option<Limits>,
}

/// A node, with numbers for names.
struct Step {
    run: table::Run,
    opset: i64,
    inputs: Vec<Option<usize>>,
    outputs: Vec<Option<usize>>,
}

impl Builtin {
    /// Reads a model file.
    ///
    /// # Errors
    /// Those of [`Loaded::open`]; an operator or a version of one that this engine does not know.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(Loaded::open(path)?)
    }

    /// Takes a model that was read.
    ///
    /// # Errors
    /// As [`Builtin::open`], for operators.
    pub fn new(loaded: Loaded) -> Result<Self> {
        let path = loaded.path.clone();
        Self::plan(loaded).map_err(|e| e.at_file(&path))
    }

    /// Limits other than those that follow from the sizes of the file and the inputs.
    pub fn limited(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    fn plan(loaded: Loaded) -> Result<Self> {
        let graph = loaded.graph()?;
        if let Some(v) = loaded.opset("").filter(|v| !VERSIONS.contains(v)) {
            let (from, to) = (VERSIONS.start(), VERSIONS.end());
            return Err(Error::unsupported(format!(
                "operators of version {v}; the built-in engine knows those of {from} to {to}"
            ))
            .hint("run the file with ONNX Runtime: --engine ort --lib PATH"));
        }
        let (mut values, mut initializers) = (HashMap::new(), Vec::new());
        let mut number = |name: &str| {
            *values.entry(name.to_string()).or_insert_with(|| {
                initializers.push(None);
                initializers.len() - 1
            })
        };
        let given: Vec<usize> = graph.initializer.iter().map(|t| number(&t.name)).collect();
        for i in &graph.input {
            number(&i.name);
        }
        let mut steps = Vec::with_capacity(graph.node.len());
        for n in &graph.node {
            let run = table::find(n).map_err(|e| at_node(e, n))?;
            let opset = loaded.opset(&n.domain).unwrap_or(1);
            let mut numbers = |names: &[String]| names.iter().map(|n| (!n.is_empty()).then(|| number(n))).collect();
            steps.push(Step { run, opset, inputs: numbers(&n.input), outputs: numbers(&n.output) });
        }
        for (i, v) in given.into_iter().enumerate() {
            initializers[v] = Some(i);
        }
        let own = |i: &&ValueInfoProto| values.get(&i.name).is_some_and(|v| initializers[*v].is_none());
        let inputs = graph.input.iter().filter(own).map(port).collect::<Result<_>>()?;
        let outputs = graph.output.iter().map(port).collect::<Result<_>>()?;
        Ok(Builtin { values, initializers, steps, inputs, outputs, limits: None, loaded })
    }

    fn nodes(&self) -> &[NodeProto] {
        self.loaded.model.graph.as_ref().map_or(&[], |g| &g.node)
    }

    fn stored(&self) -> &[TensorProto] {
        self.loaded.model.graph.as_ref().map_or(&[], |g| &g.initializer)
    }

    /// The values given, by number, after a look at their types and shapes.
    fn bind<'t>(&self, given: &[(&str, &'t Tensor)]) -> Result<HashMap<usize, Value<'t>>> {
        for port in &self.inputs {
            let Some((_, t)) = given.iter().find(|(name, _)| *name == port.name) else {
                return Err(Error::input(format!("input `{}` is missing", port.name)));
            };
            let fits = t.dims.len() == port.dims.len()
                && t.dims.iter().zip(&port.dims).all(|(a, b)| b.is_none_or(|b| *a == b));
            if t.elem() != port.elem || !fits || super::elements(&t.dims) != Some(t.data.len()) {
                let (elem, wanted) = (t.elem().name(), port.elem.name());
                let dims: Vec<String> = port.dims.iter().map(|d| d.map_or("?".into(), |d| d.to_string())).collect();
                return Err(Error::input(format!(
                    "input `{}` is {elem} of shape {:?}; the graph takes {wanted} of shape [{}]",
                    port.name,
                    t.dims,
                    dims.join(", ")
                )));
            }
        }
        let known = |name: &str| self.inputs.iter().any(|p| p.name == name);
        if let Some((name, _)) = given.iter().find(|(name, _)| !known(name)) {
            return Err(Error::input(format!("the graph has no input `{name}`")));
        }
        Ok(given.iter().filter_map(|(name, t)| Some((*self.values.get(*name)?, Value::from_tensor(t)))).collect())
    }

    fn limits_for(&self, inputs: &[(&str, &Tensor)]) -> Limits {
        let elements: u64 = inputs.iter().map(|(_, t)| t.data.len() as u64).sum();
        self.limits.unwrap_or_else(|| Limits::of(self.loaded.bytes(), elements.saturating_mul(8), elements))
    }

    /// How often each value is read by the nodes that `wanted` needs; a node of which nothing is read does not run.
    fn uses(&self, wanted: &[usize]) -> (Vec<usize>, Vec<bool>) {
        let mut uses = vec![0usize; self.initializers.len()];
        let mut runs = vec![false; self.steps.len()];
        wanted.iter().for_each(|v| uses[*v] += 1);
        for (step, runs) in self.steps.iter().zip(&mut runs).rev() {
            *runs = step.outputs.iter().flatten().any(|v| uses[*v] > 0);
            if *runs {
                step.inputs.iter().flatten().for_each(|v| uses[*v] += 1);
            }
        }
        (uses, runs)
    }

    fn load(&self, v: usize) -> Result<Value<'_>> {
        let t = self.initializers.get(v).copied().flatten().and_then(|i| self.stored().get(i));
        let t = t.ok_or_else(|| Error::input("a value that no node makes"))?;
        Value::stored(&t.dims, t.data_type, self.loaded.tensor_bytes(t)?).map_err(|e| e.at_tensor(&t.name))
    }

    fn compute(&self, inputs: &[(&str, &Tensor)], wanted: &[&str]) -> Result<Vec<Tensor>> {
        let numbers = wanted.iter().map(|name| {
            let found = self.values.get(*name).copied().filter(|_| !name.is_empty());
            found.ok_or_else(|| Error::input(format!("the graph has no value `{name}`")))
        });
        let wanted = numbers.collect::<Result<Vec<usize>>>()?;
        let budget = Budget::new(self.limits_for(inputs));
        let mut live = self.bind(inputs)?;
        let (mut uses, runs) = self.uses(&wanted);
        for ((step, node), _) in self.steps.iter().zip(self.nodes()).zip(&runs).filter(|(_, runs)| **runs) {
            for v in step.inputs.iter().flatten() {
                if !live.contains_key(v) {
                    let value = self.load(*v)?;
                    budget.grow(value.data.owned_bytes());
                    live.insert(*v, value);
                }
            }
            let args = Args(step.inputs.iter().map(|v| v.and_then(|v| live.get(&v))).collect());
            let ctx = Ctx { node, opset: step.opset, budget: &budget, loaded: &self.loaded };
            let made = (step.run)(&ctx, &args).map_err(|e| at_node(e, node))?;
            if made.len() < step.outputs.len() {
                let message = format!("{} has {} outputs, not {}", node.op_type, made.len(), step.outputs.len());
                return Err(at_node(Error::input(message), node));
            }
            for v in step.inputs.iter().flatten() {
                uses[*v] -= 1;
                if uses[*v] == 0 {
                    live.remove(v).iter().for_each(|v| budget.shrink(v.data.owned_bytes()));
                }
            }
            for (v, value) in step.outputs.iter().zip(made) {
                if let Some(v) = v.filter(|v| uses[*v] > 0) {
                    budget.grow(value.data.owned_bytes());
                    live.insert(v, value);
                }
            }
        }
        let mut results = Vec::with_capacity(wanted.len());
        for v in wanted {
            let value = match live.get(&v) {
                Some(value) => value.clone(),
                None => self.load(v)?,
            };
            results.push(value.into_tensor());
        }
        Ok(results)
    }
}

impl Engine for Builtin {
    fn name(&self) -> String {
        "built-in".to_string()
    }

    fn inputs(&self) -> Vec<Port> {
        self.inputs.clone()
    }

    fn outputs(&self) -> Vec<Port> {
        self.outputs.clone()
    }

    fn run(&mut self, inputs: &[(&str, &Tensor)], wanted: &[&str]) -> Result<Vec<Tensor>> {
        self.compute(inputs, wanted).map_err(|e| e.at_file(&self.loaded.path))
    }
}

/// The same error, with the node in front.
fn at_node(e: Error, node: &NodeProto) -> Error {
    let name = Some(&node.name).filter(|n| !n.is_empty()).or(node.output.first()).map_or("", |n| n);
    let mut placed = Error::new(e.kind(), format!("node `{name}` ({}): {}", node.op_type, e.message()));
    if let Some(hint) = e.next_step() {
        placed = placed.hint(hint);
    }
    placed
}

fn port(v: &ValueInfoProto) -> Result<Port> {
    let wrong = || Error::input("an input or output that is no tensor of a known type and rank").at_tensor(&v.name);
    let t = v.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).ok_or_else(wrong)?;
    let elem = Elem::from_id(t.elem_type).ok_or_else(wrong)?;
    let shape = t.shape.as_ref().ok_or_else(wrong)?;
    let dims = shape.dim.iter().map(|d| match &d.value {
        Some(DimensionValue::Value(n)) => usize::try_from(*n).map(Some).map_err(|_| wrong()),
        _ => Ok(None),
    });
    Ok(Port { name: v.name.clone(), elem, dims: dims.collect::<Result<_>>()? })
}
