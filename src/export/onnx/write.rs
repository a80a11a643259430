//! Writes a graph: weights first, as a stream, then the small model file that says where each of them lies.
//!
//! The file of weights is called after the model (`NAME.onnx.data`, or as a reader wants it), so two files have to change together. No run that is killed may leave a model beside weights that are not its own: both are complete under temporary names before the
//! first rename, and an old model goes before its weights do. What a kill between two renames leaves is weights without a model, which every
//! reader refuses. The digest of the weights stands in the metadata, for those who want to be sure.

use super::graph::{Data, Graph, Tensor, Value, MICROSOFT};
use crate::digest::{hex, Sha};
use crate::error::{Error, Result};
use crate::format::onnx::messages::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, EXTERNAL,
};
use crate::format::onnx::{ir_version, DATA_DIGEST, MAX_MODEL_BYTES};
use crate::fsio::{commit_together, AtomicFile};
use crate::progress::Progress;
use prost::bytes::Bytes;
use prost::Message;
use std::collections::HashSet;
use std::io::{self, Write};
use std::path::Path;

/// Tensors begin at multiples of a page, so that they can be mapped where they are.
const PAGE: u64 = 4096;
/// Large ones at multiples of what Windows can map, where the padding does not count.
const GRANULARITY: u64 = 65_536;
const LARGE: u64 = 1 << 20;
/// Smaller tensors lie in the model file.
const INLINE_BELOW: u64 = 1024;
/// What is gathered before it goes to the file.
const BUFFER: usize = 1 << 18;

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// Of the model file.
    pub bytes: u64,
    /// Of the file of weights beside it; 0 if there is none.
    pub data_bytes: u64,
    /// Its name.
    pub data_name: String,
    /// After those were left out that nothing needs.
    pub nodes: usize,
}

/// Where tensors lie in the file of weights.
struct Layout {
    /// None: in the model file.
    at: Vec<Option<u64>>,
    end: u64,
}

impl Layout {
    /// For tensors of so many bytes, in their order.
    fn of(sizes: impl Iterator<Item = u64>) -> Result<Layout> {
        let mut end = 0u64;
        let mut at = Vec::new();
        for bytes in sizes {
            if bytes < INLINE_BELOW {
                at.push(None);
                continue;
            }
            let alignment = if bytes < LARGE { PAGE } else { GRANULARITY };
            let next = end.checked_next_multiple_of(alignment).and_then(|from| Some((from, from.checked_add(bytes)?)));
            let (from, to) = next.ok_or_else(|| Error::usage("the weights are larger than any file"))?;
            at.push(Some(from));
            end = to;
        }
        Ok(Layout { at, end })
    }
}

impl Graph<'_> {
    /// Writes `path` and, beside it, the weights as `path` with `.data` appended or as [`Graph::weights_in`] says. Nodes that lead to no output and to no value with a name
    /// are left out, and tensors that nothing reads. The bytes depend on the graph alone.
    ///
    /// # Errors
    /// `Usage` if the graph was built wrongly; what a weight's source says; `Io`.
    pub fn write(mut self, path: &Path, progress: &dyn Progress) -> Result<Written> {
        self.check()?;
        self.drop_unused();
        let layout = Layout::of(self.tensors.iter().map(|t| t.data.len()))?;
        let name = path.file_name().and_then(|n| n.to_str());
        let name = name.ok_or_else(|| Error::usage("the output needs a file name in UTF-8").at_file(path))?;
        let location = self.weights_name.take().unwrap_or_else(|| format!("{name}.data"));
        let mut model_file = AtomicFile::create(path)?;
        let data_file = match layout.end {
            0 => None,
            _ => Some(AtomicFile::create(&path.with_file_name(&location))?),
        };
        progress.stage("weights", self.tensors.iter().map(|t| t.data.len()).sum());
        let mut sink = Sink::new(data_file);
        let mut small = Vec::with_capacity(self.tensors.len());
        for (t, at) in self.tensors.iter().zip(&layout.at) {
            let at_tensor = |e: Error| e.at_tensor(self.name_of(t.value));
            if let Some(at) = *at {
                sink.pad_to(at).and_then(|()| sink.tensor(&t.data, progress)).map_err(at_tensor)?;
                small.push(None);
            } else {
                let mut here = Sink::new(None);
                here.tensor(&t.data, progress).map_err(at_tensor)?;
                small.push(Some(Bytes::from(here.buffer)));
            }
        }
        let data_file = sink.finish()?;
        progress.done();
        if let Some((_, digest)) = &data_file {
            self.meta(DATA_DIGEST, hex(digest));
        }
        let model = self.message(&layout, small, &location);
        if model.encoded_len() as u64 > MAX_MODEL_BYTES {
            let what = "the graph without its weights is larger than 2 GiB, the limit of the format";
            return Err(Error::unsupported(what).at_file(path));
        }
        let bytes = model.encode_to_vec();
        model_file.write(&bytes)?;
        match data_file {
            Some((data, _)) => commit_together(data, model_file)?,
            None => model_file.commit()?,
        }
        Ok(Written { bytes: bytes.len() as u64, data_bytes: layout.end, data_name: location, nodes: self.nodes.len() })
    }

    /// Version of the format that the file will have.
    pub fn ir(&self) -> i64 {
        let by_type = self.tensors.iter().map(|t| t.elem.ir_version()).max().unwrap_or_default();
        ir_version(self.opset()).max(by_type)
    }

    /// Bytes that [`Graph::write`] puts into the file of weights.
    ///
    /// # Errors
    /// `Usage` if no file can be so long.
    pub fn data_bytes(&self) -> Result<u64> {
        let (_, used) = self.needed();
        Ok(Layout::of(self.tensors.iter().filter(|t| used.contains(&t.value)).map(|t| t.data.len()))?.end)
    }

    /// Which nodes lead to an output or a value that was asked for by name, and the values that those read.
    fn needed(&self) -> (Vec<bool>, HashSet<Value>) {
        let mut used: HashSet<Value> = HashSet::new();
        let mut live = vec![false; self.nodes.len()];
        for (n, live) in self.nodes.iter().zip(&mut live).rev() {
            *live = n.outputs.iter().any(|v| used.contains(v) || self.is_wanted(*v));
            if *live {
                used.extend(&n.inputs);
            }
        }
        (live, used)
    }

    fn drop_unused(&mut self) {
        let (live, used) = self.needed();
        let mut live = live.into_iter();
        self.nodes.retain(|_| live.next().unwrap_or(true));
        self.tensors.retain(|t| used.contains(&t.value));
    }

    fn message(&self, layout: &Layout, small: Vec<Option<Bytes>>, location: &str) -> ModelProto {
        let tensor = |((t, at), here): ((&Tensor, &Option<u64>), Option<Bytes>)| TensorProto {
            name: self.name_of(t.value).to_string(),
            dims: t.dims.clone(),
            data_type: t.elem.id(),
            data_location: at.map(|_| EXTERNAL),
            external_data: at.map(|at| external(location, at, t.data.len())).unwrap_or_default(),
            raw_data: here,
            ..TensorProto::default()
        };
        let graph = GraphProto {
            name: "bitnet".to_string(),
            node: self.nodes.iter().map(|n| self.node_proto(n)).collect::<Vec<NodeProto>>(),
            initializer: self.tensors.iter().zip(&layout.at).zip(small).map(tensor).collect(),
            input: self.inputs.clone(),
            output: self.outputs.iter().map(|(_, info)| info.clone()).collect(),
            ..GraphProto::default()
        };
        let mut opset_import = vec![OperatorSetIdProto { domain: String::new(), version: self.opset() }];
        if self.uses_microsoft() {
            opset_import.push(OperatorSetIdProto { domain: MICROSOFT.to_string(), version: 1 });
        }
        ModelProto {
            ir_version: self.ir(),
            producer_name: "bitnet-convert".to_string(),
            producer_version: env!("CARGO_PKG_VERSION").to_string(),
            doc_string: self.description.clone(),
            graph: Some(graph),
            opset_import,
            metadata_props: self.meta.iter().map(|(k, v)| entry(k, v.clone())).collect(),
            ..ModelProto::default()
        }
    }
}

fn entry(key: &str, value: String) -> StringStringEntryProto {
    StringStringEntryProto { key: key.to_string(), value }
}

fn external(location: &str, offset: u64, length: u64) -> Vec<StringStringEntryProto> {
    vec![
        entry("location", location.to_string()),
        entry("offset", offset.to_string()),
        entry("length", length.to_string()),
    ]
}

/// Takes the bytes of tensors: into a file with their digest, or into its buffer alone.
struct Sink {
    file: Option<AtomicFile>,
    sha: Sha,
    buffer: Vec<u8>,
    written: u64,
    /// What the tensor that is being written may still have.
    left: u64,
    /// Says more than the error of the system that a source sees.
    error: Option<Error>,
}

impl Sink {
    fn new(file: Option<AtomicFile>) -> Sink {
        Sink { file, sha: Sha::default(), buffer: Vec::new(), written: 0, left: 0, error: None }
    }

    fn pad_to(&mut self, offset: u64) -> Result<()> {
        while self.written < offset {
            let n = (offset - self.written).min(PAGE);
            self.push(&[0; PAGE as usize][..n as usize])?;
        }
        Ok(())
    }

    fn tensor(&mut self, data: &Data, progress: &dyn Progress) -> Result<()> {
        self.left = data.len();
        match data {
            Data::Here(bytes) => {
                self.left = 0;
                self.push(bytes)?;
            }
            Data::Later { bytes, source } => {
                let result = source(&mut Told { sink: self, progress });
                self.error.take().map_or(result, Err)?;
                if self.left != 0 {
                    let got = bytes - self.left;
                    return Err(Error::input(format!("{got} bytes came of a tensor that has {bytes}")));
                }
                return Ok(());
            }
        }
        progress.advance(data.len());
        Ok(())
    }

    fn push(&mut self, data: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(data);
        self.written += data.len() as u64;
        if self.file.is_some() && self.buffer.len() >= BUFFER {
            self.flush_buffer()?;
        }
        Ok(())
    }

    fn flush_buffer(&mut self) -> Result<()> {
        if let Some(f) = &mut self.file {
            self.sha.update(&self.buffer);
            f.write(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Option<(AtomicFile, [u8; 32])>> {
        self.flush_buffer()?;
        Ok(self.file.map(|f| (f, self.sha.finish())))
    }
}

/// What a source writes into.
struct Told<'a> {
    sink: &'a mut Sink,
    progress: &'a dyn Progress,
}

impl Write for Told<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let left = self.sink.left.checked_sub(data.len() as u64);
        let result = match left {
            Some(left) => {
                self.sink.left = left;
                self.sink.push(data)
            }
            None => Err(Error::input("more bytes came of a tensor than it has")),
        };
        result.map_err(|e| {
            let seen = io::Error::other(e.message());
            self.sink.error.get_or_insert(e);
            seen
        })?;
        self.progress.advance(data.len() as u64);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::{put, Attr, Dim};
    use super::*;
    use crate::format::onnx::{Elem, Loaded};
    use crate::progress::Silent;

    /// Two weights, a constant, and a node and a weight that nothing needs.
    fn small<'a>() -> Graph<'a> {
        let mut g = Graph::new(13);
        g.scope("layers.0");
        let x = g.input("x", Elem::U8, &[Dim::Sym("batch_size"), Dim::N(40)]);
        let weights: Vec<u8> = (0..40u32 * 50).map(|i| (i % 3) as u8).collect();
        let copy = weights.clone();
        let halves: [Vec<u8>; 2] = [copy[..999].to_vec(), copy[999..].to_vec()];
        let source = move |out: &mut dyn Write| halves.iter().try_for_each(|h| put(out, h));
        let w = g.weight("w", Elem::I8, &[40, 50], 2000, Box::new(source));
        g.weight("nobody", Elem::I8, &[40, 50], 2000, Box::new(|_| Err(Error::usage("nobody reads this"))));
        let zero = g.u8(128);
        let acc = g.op("MatMulInteger", &[x, w, zero], &[]);
        assert_eq!(g.op("MatMulInteger", &[x, w, zero], &[]), acc, "equal nodes are one");
        g.op("Neg", &[acc], &[]);
        g.name(acc, "op1.acc");
        let many = g.i32s(&[50, 8], &[7; 400]);
        let y = g.op("MatMul", &[acc, many], &[]);
        let axis = g.i64s(&[1], &[-1]);
        let y = g.op("ReduceSum", &[y, axis, Value::NONE], &[("keepdims", Attr::I(0))]);
        g.output(y, "y", Elem::I32, &[Dim::Sym("batch_size")]);
        g.meta("bitnet.profile", "test");
        g
    }

    #[test]
    fn weights_lie_at_aligned_offsets_and_the_bytes_are_the_same_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.onnx");
        let written = small().write(&path, &Silent).unwrap();
        let (model, data) = (std::fs::read(&path).unwrap(), std::fs::read(dir.path().join("a.onnx.data")).unwrap());
        assert_eq!((model.len() as u64, data.len() as u64), (written.bytes, written.data_bytes));
        assert_eq!(data.len(), 4096 + 1600);
        assert!(data[..2000].iter().enumerate().all(|(i, b)| usize::from(*b) == i % 3));
        assert!(data[2000..4096].iter().all(|b| *b == 0));
        let l = Loaded::open(&path).unwrap();
        let graph = l.model.graph.as_ref().unwrap();
        assert_eq!(
            graph.initializer.iter().map(|t| &t.name[..]).collect::<Vec<_>>().len(),
            4,
            "the unused weight is gone"
        );
        let ops: Vec<_> = graph.node.iter().map(|n| (&n.op_type[..], &n.name[..])).collect();
        let expected = [("MatMulInteger", "op1.acc"), ("MatMul", "layers.0/MatMul_0"), ("ReduceSum", "y")];
        assert_eq!(ops, expected);
        assert_eq!((l.model.ir_version, l.opset("")), (7, Some(13)));
        let digest = crate::digest::hex(&crate::digest::sha256(&data));
        assert_eq!(l.meta(DATA_DIGEST), Some(&digest[..]));
        small().write(&dir.path().join("b.onnx"), &Silent).unwrap();
        assert_eq!(data, std::fs::read(dir.path().join("b.onnx.data")).unwrap());
        let again = small().write(&path, &Silent).unwrap();
        assert_eq!((again, std::fs::read(&path).unwrap()), (written, model));
    }

    #[test]
    fn an_offset_beyond_four_gigabytes_is_written_and_read() {
        // Only a hole in the file of weights: what a source would have written is not what is tested here.
        let huge = (9u64 << 29) + 12_345;
        let mut g = Graph::new(13);
        let x = g.input("x", Elem::U8, &[Dim::N(1), Dim::N(huge as i64)]);
        let source = |_: &mut dyn Write| Ok(());
        let w = g.weight("huge", Elem::I8, &[huge as i64, 1], huge, Box::new(source));
        let behind = g.i32s(&[512], &[0x0102_0304; 512]);
        let acc = g.op("MatMulInteger", &[x, w], &[]);
        let y = g.op("Add", &[acc, behind], &[]);
        g.output(y, "y", Elem::I32, &[Dim::N(1), Dim::N(512)]);
        let layout = Layout::of(g.tensors.iter().map(|t| t.data.len())).unwrap();
        let at = layout.at[1].unwrap();
        let large = Layout::of([1500, LARGE, 1500].into_iter()).unwrap();
        assert_eq!(large.at, [Some(0), Some(GRANULARITY), Some(GRANULARITY + LARGE)]);
        assert!(at > u64::from(u32::MAX) && at.is_multiple_of(PAGE) && at >= huge && layout.end == at + 2048);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.onnx");
        std::fs::write(&path, g.message(&layout, vec![None, None], "m.onnx.data").encode_to_vec()).unwrap();
        let data = std::fs::File::create(dir.path().join("m.onnx.data")).unwrap();
        data.set_len(layout.end - 2048).unwrap();
        let mut data = std::fs::File::options().append(true).open(dir.path().join("m.onnx.data")).unwrap();
        data.write_all(&0x0102_0304i32.to_le_bytes().repeat(512)).unwrap();
        let l = Loaded::open(&path).unwrap();
        let tensors = &l.model.graph.as_ref().unwrap().initializer;
        assert_eq!(&l.tensor_bytes(&tensors[1]).unwrap()[2044..], &[4, 3, 2, 1]);
        assert_eq!(l.tensor_bytes(&tensors[0]).unwrap().len() as u64, huge);
    }

    #[test]
    fn a_source_that_gives_too_little_or_too_much_leaves_the_old_pair() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.onnx");
        small().write(&path, &Silent).unwrap();
        let before = std::fs::read(&path).unwrap();
        for (given, message) in [(1999, "1999 bytes came of a tensor that has 2000"), (2001, "more bytes came")] {
            let mut g = Graph::new(13);
            let bytes = vec![1u8; given];
            let source = move |out: &mut dyn Write| put(out, &bytes);
            let w = g.weight("w", Elem::I8, &[2000], 2000, Box::new(source));
            g.output(w, "y", Elem::I8, &[Dim::N(2000)]);
            let e = g.write(&path, &Silent).unwrap_err();
            assert!(e.message().contains(message) && e.tensor() == Some("w"), "{e}");
        }
        assert_eq!(before, std::fs::read(&path).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn wrong_graphs_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.onnx");
        let refused = |build: fn(&mut Graph)| {
            let mut g = Graph::new(13);
            build(&mut g);
            g.write(&path, &Silent).unwrap_err().to_string()
        };
        let twice = |g: &mut Graph| {
            g.input("x", Elem::I64, &[]);
            g.input("x", Elem::I64, &[]);
        };
        assert!(refused(twice).contains("two values are called `x`"));
        let shape = |g: &mut Graph| assert_ne!(g.i64s(&[3], &[1, 2]), Value::NONE);
        assert!(refused(shape).contains("16 bytes are no tensor of int64 [3]"));
        let foreign = |g: &mut Graph| assert_ne!(g.op("Neg", &[Value(7)], &[]), Value::NONE);
        assert!(refused(foreign).contains("is no value of this graph"));
        assert!(Graph::new(27).write(&path, &Silent).unwrap_err().to_string().contains("opset 27"));
    }

    #[test]
    fn the_version_of_the_format_follows_the_operators_and_the_types() {
        for (opset, elem, ir) in [(13, Elem::I8, 7), (21, Elem::I4, 10), (25, Elem::I2, 13), (13, Elem::U2, 13)] {
            let mut g = Graph::new(opset);
            let w = g.tensor(elem, &[1], vec![1]);
            let y = g.cast(w, Elem::I8);
            g.output(y, "y", Elem::I8, &[Dim::N(1)]);
            let layout = Layout::of(g.tensors.iter().map(|t| t.data.len())).unwrap();
            assert_eq!(g.message(&layout, vec![None], "").ir_version, ir);
        }
    }
}
