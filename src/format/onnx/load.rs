//! Reads a model file and checks everything that can be checked without knowing an operator.

use super::messages::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use super::storage::{self, Others};
use super::{scan, DATA_DIGEST, MAX_MODEL_BYTES};
use crate::digest::{hex, Sha};
use crate::error::{Error, Result};
use crate::fsio::{self, Mapped};
use prost::bytes::Bytes;
use prost::Message;
use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// What is read of the weights before its pages are given back.
const CHUNK: usize = 1 << 24;

/// A model file whose structure is sound: lengths, names, the order of the nodes, types, shapes, and where the bytes of tensors are.
pub struct Loaded {
    pub model: ModelProto,
    pub path: PathBuf,
    /// Of the model file alone.
    length: u64,
    others: Others,
}

/// Lets tensors stay where they are in the mapped file.
struct Whole(Mapped);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Loaded {
    /// Opens a model and maps the files that its tensors are in.
    ///
    /// # Errors
    /// `Input` for what is damaged or contradicts itself, `Unsupported` for subgraphs, functions and types that we do not read, `Io`.
    pub fn open(path: &Path) -> Result<Loaded> {
        Loaded::read(Bytes::from_owner(Whole(fsio::map(path)?)), path)
    }

    /// As [`Loaded::open`], for bytes in memory; other files are looked for beside `path`.
    pub fn from_bytes(data: Vec<u8>, path: &Path) -> Result<Loaded> {
        Loaded::read(data.into(), path)
    }

    fn read(data: Bytes, path: &Path) -> Result<Loaded> {
        let length = data.len() as u64;
        let read = || -> Result<Loaded> {
            if length > MAX_MODEL_BYTES {
                return Err(Error::input("a model file ends at 2 GiB, this one is larger")
                    .hint("larger models have their tensors in files beside them (external data)"));
            }
            scan::scan(&data)?;
            let model = ModelProto::decode(data)
                .map_err(|e| Error::input(format!("this is no ONNX model: {e}")).hint("fetch or export it again"))?;
            let mut loaded = Loaded { model, path: path.to_path_buf(), length, others: Others::default() };
            loaded.check()?;
            Ok(loaded)
        };
        read().map_err(|e| e.at_file(path))
    }

    fn check(&mut self) -> Result<()> {
        let Loaded { model, path, others, .. } = self;
        if !model.functions.is_empty() {
            let e = Error::unsupported("the model has functions of its own, which are not read");
            return Err(e.hint("inline them: `onnx.inliner.inline_local_functions`"));
        }
        let graph = model.graph.as_ref().ok_or_else(|| {
            Error::input("there is no graph in it")
                .hint("is this an ONNX model? It begins with its version and holds a graph")
        })?;
        if model.opset_import.is_empty() {
            return Err(Error::input("it does not say of which version its operators are"));
        }
        check_graph(graph)?;
        for t in graph.tensors() {
            match storage::is_external(t) {
                true => others.add(path, t),
                false => storage::inline(t).map(drop),
            }
            .map_err(|e| e.at_tensor(&t.name))?;
        }
        Ok(())
    }

    /// The graph, which is there in every model that was opened.
    pub fn graph(&self) -> Result<&GraphProto> {
        self.model.graph.as_ref().ok_or_else(|| Error::input("there is no graph in it").at_file(&self.path))
    }

    /// The elements of an initializer, or of a tensor in an attribute: little-endian, row-major, packed below 8 bits.
    ///
    /// # Errors
    /// As [`Loaded::open`], for tensors that are not of this model.
    pub fn tensor_bytes<'t>(&'t self, t: &'t TensorProto) -> Result<Cow<'t, [u8]>> {
        let bytes = if storage::is_external(t) { self.others.bytes(t).map(Cow::Borrowed) } else { storage::inline(t) };
        bytes.map_err(|e| e.at_tensor(&t.name).at_file(&self.path))
    }

    /// Version of the operators of a domain; the standard ones are those of the empty domain.
    pub fn opset(&self, domain: &str) -> Option<i64> {
        let same = |d: &str| d == domain || domain.is_empty() && d == "ai.onnx";
        self.model.opset_import.iter().find(|o| same(&o.domain)).map(|o| o.version)
    }

    /// A value of the metadata.
    pub fn meta(&self, key: &str) -> Option<&str> {
        self.model.metadata_props.iter().find(|m| m.key == key).map(|m| m.value.as_str())
    }

    /// The other files that tensors are in, with their lengths.
    pub fn others(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.others.files().map(|(p, m)| (p, m.len() as u64))
    }

    /// Length of the model file and of all other files.
    pub fn bytes(&self) -> u64 {
        self.length + self.others().map(|(_, n)| n).sum::<u64>()
    }

    /// Reads the weights of one of our exports once and compares their digest with that in the metadata. False: nothing says what it should be.
    ///
    /// # Errors
    /// `Input` if they are others.
    pub fn check_data(&self) -> Result<bool> {
        let Some(expected) = self.meta(DATA_DIGEST) else { return Ok(false) };
        let mut files = self.others.files();
        let (Some((path, data)), None) = (files.next(), files.next()) else {
            let what = "the metadata has the digest of one file of weights, but there is not one";
            return Err(Error::input(what).at_file(&self.path));
        };
        let mut sha = Sha::default();
        for part in data.chunks(CHUNK) {
            sha.update(part);
            data.release(part);
        }
        if hex(&sha.finish()) != expected {
            return Err(Error::input("the weights are not those that this model was written with")
                .at_file(path)
                .hint("the two files of an export belong together; export again"));
        }
        Ok(true)
    }
}

impl GraphProto {
    /// Initializers, and tensors in attributes.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorProto> {
        let attributes = self.node.iter().flat_map(|n| &n.attribute).filter_map(|a| a.t.as_deref());
        self.initializer.iter().chain(attributes)
    }
}

fn check_graph(graph: &GraphProto) -> Result<()> {
    if !graph.sparse_initializer.is_empty() {
        return Err(Error::unsupported("it has sparse tensors, which are not read"));
    }
    let mut made: HashSet<&str> = HashSet::new();
    for i in &graph.input {
        check_port(i, "input")?;
        if !made.insert(&i.name) {
            return Err(Error::input(format!("two inputs are called `{}`", i.name)));
        }
    }
    let mut initializers: HashSet<&str> = HashSet::new();
    for t in &graph.initializer {
        // Also for an input: then it is what the input is if nobody gives it.
        if t.name.is_empty() || !initializers.insert(&t.name) {
            return Err(Error::input("two tensors have this name, or it is empty").at_tensor(&t.name));
        }
        made.insert(&t.name);
    }
    for (n, node) in graph.node.iter().enumerate() {
        let at = |e: Error| {
            Error::new(e.kind(), format!("{}: {}", label(node, n), e.message()))
                .hint(e.next_step().unwrap_or(NODE_HINT))
        };
        check_node(node, &made, graph).map_err(at)?;
        for o in node.output.iter().filter(|o| !o.is_empty()) {
            if !made.insert(o) {
                return Err(at(Error::input(format!("it makes `{o}`, which is made already"))));
            }
        }
    }
    let mut outputs = HashSet::new();
    for o in &graph.output {
        check_port(o, "output")?;
        if !outputs.insert(&o.name) {
            return Err(Error::input(format!("two outputs are called `{}`", o.name)));
        }
        if !made.contains(&o.name[..]) {
            return Err(Error::input(format!("nothing makes the output `{}`", o.name)));
        }
    }
    match outputs.is_empty() {
        true => Err(Error::input("the graph has no outputs")),
        false => Ok(()),
    }
}

const NODE_HINT: &str = "ask `onnx.checker` about this file; the exporter that wrote it has to be mended";

/// A node as people find it.
fn label(node: &NodeProto, number: usize) -> String {
    match &node.name[..] {
        "" => format!("node {number} ({})", node.op_type),
        name => format!("node `{name}` ({})", node.op_type),
    }
}

fn check_node(node: &NodeProto, made: &HashSet<&str>, graph: &GraphProto) -> Result<()> {
    if node.op_type.is_empty() {
        return Err(Error::input("it has no operator"));
    }
    if node.output.iter().all(|o| o.is_empty()) {
        return Err(Error::input("it has no outputs"));
    }
    if let Some(i) = node.input.iter().find(|i| !i.is_empty() && !made.contains(&i[..])) {
        // Only for the message, so the search may be slow.
        let later = graph.node.iter().any(|n| n.output.contains(i));
        return Err(Error::input(match later {
            true => format!("it needs `{i}`, which itself or a later node makes: a cycle, or nodes out of order"),
            false => format!("it needs `{i}`, which nothing makes"),
        }));
    }
    let mut names = HashSet::new();
    for a in &node.attribute {
        if a.name.is_empty() || !names.insert(&a.name) {
            return Err(Error::input(format!("it has two attributes called `{}`, or one without a name", a.name)));
        }
        check_attribute(a)?;
    }
    Ok(())
}

fn check_attribute(a: &AttributeProto) -> Result<()> {
    let refused =
        |what: &str| Err(Error::unsupported(format!("its attribute `{}` is {what}, which is not read", a.name)));
    if a.g.is_some() || !a.graphs.is_empty() {
        return refused("a graph of its own (a branch or a loop)");
    }
    if !a.tensors.is_empty() {
        return refused("a list of tensors");
    }
    if !a.ref_attr_name.is_empty() {
        return refused("that of a function around it");
    }
    Ok(())
}

/// An input or output of the graph.
fn check_port(v: &ValueInfoProto, what: &str) -> Result<()> {
    use super::messages::DimensionValue;
    let at = |e: Error| Error::new(e.kind(), format!("{what} `{}`: {}", v.name, e.message()));
    if v.name.is_empty() {
        return Err(Error::input(format!("an {what} has no name")));
    }
    let tensor = v.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let tensor = tensor.ok_or_else(|| at(Error::unsupported("it is no tensor, and nothing else is read")))?;
    storage::elem(tensor.elem_type).map_err(at)?;
    let dims = tensor.shape.iter().flat_map(|s| &s.dim);
    let mut dims = dims.filter_map(|d| d.value.as_ref());
    match dims.find(|d| matches!(d, DimensionValue::Value(..0))) {
        Some(_) => Err(at(Error::input("it has a negative dimension"))),
        None => Ok(()),
    }
}
