//! What is in an ONNX file, for `inspect`.

mod traps;

use super::Printer;
use crate::error::Result;
use crate::format::onnx::messages::{DimensionValue, NodeProto, TensorProto, ValueInfoProto};
use crate::format::onnx::{Elem, Loaded};
use crate::plan::group;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

#[derive(Serialize)]
struct OnnxInfo {
    file: String,
    /// Of the model file alone.
    bytes: u64,
    producer: String,
    producer_version: String,
    description: String,
    ir_version: i64,
    /// Version of the operators of each domain; `ai.onnx` are the standard ones.
    opsets: BTreeMap<String, i64>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    nodes: usize,
    /// How often each operator occurs; contributed ones have their domain before them.
    operators: BTreeMap<String, usize>,
    /// Tensors with their values, by element type.
    initializers: BTreeMap<&'static str, Tensors>,
    external: Vec<External>,
    /// Whether the weights are those that the model was written with; absent if the file does not say.
    data_digest_matches: Option<bool>,
    metadata: BTreeMap<String, String>,
    warnings: Vec<String>,
    program: Option<String>,
}

#[derive(Serialize)]
struct Port {
    name: String,
    dtype: &'static str,
    /// A number, a name, or `?`; absent if not even the number of dimensions is known.
    shape: Option<Vec<String>>,
}

#[derive(Serialize, Default)]
struct Tensors {
    tensors: usize,
    elements: u64,
    bytes: u64,
    /// Of `bytes`, those that are in other files.
    external_bytes: u64,
}

#[derive(Serialize)]
struct External {
    file: String,
    bytes: u64,
}

/// Whether a file that is of no other kind is taken for an ONNX model: its name says so, or it begins with a version of the format.
pub fn is_model(path: &Path, start: &[u8]) -> bool {
    path.extension().is_some_and(|e| e == "onnx") || matches!(start, [0x08, 3..=20, 0x12 | 0x1A | 0x42 | 0x3A, ..])
}

pub fn show(path: &Path, with_program: bool, printer: &Printer) -> Result<u8> {
    let l = Loaded::open(path)?;
    let info = read(&l, with_program)?;
    printer.result(&info, |out| print(out, &info))?;
    Ok(0)
}

fn read(l: &Loaded, with_program: bool) -> Result<OnnxInfo> {
    let (m, g) = (&l.model, l.graph()?);
    let mut operators = BTreeMap::new();
    for n in &g.node {
        *operators.entry(operator(n)).or_default() += 1;
    }
    let mut initializers: BTreeMap<&'static str, Tensors> = BTreeMap::new();
    for t in &g.initializer {
        let of_type = initializers.entry(name_of(t.data_type)).or_default();
        let bytes = l.tensor_bytes(t)?.len() as u64;
        of_type.tensors += 1;
        of_type.elements += elements(t);
        of_type.bytes += bytes;
        of_type.external_bytes += if t.external_data.is_empty() { 0 } else { bytes };
    }
    let domain = |d: &str| if d.is_empty() { "ai.onnx".to_string() } else { d.to_string() };
    let others: u64 = l.others().map(|(_, n)| n).sum();
    Ok(OnnxInfo {
        file: l.path.display().to_string(),
        bytes: l.bytes() - others,
        producer: m.producer_name.clone(),
        producer_version: m.producer_version.clone(),
        description: m.doc_string.clone(),
        ir_version: m.ir_version,
        opsets: m.opset_import.iter().map(|o| (domain(&o.domain), o.version)).collect(),
        inputs: g.input.iter().filter(|i| !g.initializer.iter().any(|t| t.name == i.name)).map(port).collect(),
        outputs: g.output.iter().map(port).collect(),
        nodes: g.node.len(),
        operators,
        initializers,
        external: l.others().map(|(p, bytes)| External { file: p.display().to_string(), bytes }).collect(),
        data_digest_matches: l.check_data()?.then_some(true),
        metadata: m.metadata_props.iter().map(|e| (e.key.clone(), e.value.clone())).collect(),
        warnings: traps::find(l)?,
        program: with_program.then(|| g.node.iter().map(line).collect()),
    })
}

fn operator(n: &NodeProto) -> String {
    match &n.domain[..] {
        "" | "ai.onnx" => n.op_type.clone(),
        domain => format!("{domain}.{}", n.op_type),
    }
}

/// A node as a line: what it makes, of what.
fn line(n: &NodeProto) -> String {
    let absent =
        |names: &[String]| names.iter().map(|s| if s.is_empty() { "-" } else { s }).collect::<Vec<_>>().join(", ");
    format!("  {} = {}({})\n", absent(&n.output), operator(n), absent(&n.input))
}

fn name_of(id: i32) -> &'static str {
    Elem::from_id(id).map_or("unknown", Elem::name)
}

fn elements(t: &TensorProto) -> u64 {
    t.dims.iter().map(|d| *d as u64).product()
}

fn port(v: &ValueInfoProto) -> Port {
    let tensor = v.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let dim = |d: &Option<DimensionValue>| match d {
        Some(DimensionValue::Value(n)) => n.to_string(),
        Some(DimensionValue::Param(name)) => name.clone(),
        None => "?".to_string(),
    };
    let shape = tensor.and_then(|t| t.shape.as_ref()).map(|s| s.dim.iter().map(|d| dim(&d.value)).collect());
    Port { name: v.name.clone(), dtype: name_of(tensor.map_or(0, |t| t.elem_type)), shape }
}

fn print(out: &mut dyn Write, i: &OnnxInfo) -> io::Result<()> {
    writeln!(out, "{}: ONNX model, {} nodes, {} bytes", i.file, i.nodes, group(i.bytes))?;
    let opsets: Vec<String> = i.opsets.iter().map(|(d, v)| format!("{d} {v}")).collect();
    let by = if i.producer.is_empty() { "an unnamed producer" } else { &i.producer };
    writeln!(
        out,
        "  written by {by} {}; IR version {}, operators {}",
        i.producer_version,
        i.ir_version,
        opsets.join(", ")
    )?;
    if !i.description.is_empty() {
        writeln!(out, "  {}", i.description)?;
    }
    for (what, ports) in [("inputs", &i.inputs), ("outputs", &i.outputs)] {
        writeln!(out, "{what}")?;
        for p in ports {
            let shape = p.shape.as_ref().map_or("of any shape".to_string(), |s| format!("[{}]", s.join(", ")));
            writeln!(out, "  {:24} {:8} {shape}", p.name, p.dtype)?;
        }
    }
    let operators: Vec<String> = i.operators.iter().map(|(o, n)| format!("{o} {n}")).collect();
    writeln!(out, "operators\n  {}", operators.join(", "))?;
    writeln!(out, "initializers")?;
    for (dtype, t) in &i.initializers {
        let (n, e, b, x) = (t.tensors, group(t.elements), group(t.bytes), group(t.external_bytes));
        writeln!(out, "  {dtype:8} {n:>6} tensors {e:>16} elements {b:>16} bytes, {x} of them in other files")?;
    }
    if !i.external.is_empty() {
        writeln!(out, "other files")?;
    }
    for x in &i.external {
        let digest = if i.data_digest_matches == Some(true) { ", its digest matches" } else { "" };
        writeln!(out, "  {} {} bytes{digest}", x.file, group(x.bytes))?;
    }
    if !i.metadata.is_empty() {
        writeln!(out, "metadata")?;
    }
    i.metadata.iter().try_for_each(|(k, v)| writeln!(out, "  {k:24} {v}"))?;
    i.warnings.iter().try_for_each(|w| writeln!(out, "warning: {w}"))?;
    match &i.program {
        Some(p) => write!(out, "nodes\n{p}"),
        None => Ok(()),
    }
}
