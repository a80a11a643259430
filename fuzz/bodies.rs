//! What each fuzz target does with its bytes. Plain functions, so that `tests/fuzz_replay.rs` runs them on a stable compiler, too.

#[path = "../tests/common/torch.rs"]
#[allow(dead_code)]
mod torch;

use bitnet_convert::delta::block::{Decoder, Direction};
use bitnet_convert::digest::sha256;
use bitnet_convert::engine::builtin::{Builtin, Limits};
use bitnet_convert::engine::{elements, Engine, Tensor};
use bitnet_convert::export::gguf::convert::{convert_files, Request};
use bitnet_convert::export::gguf::Kind as GgufType;
use bitnet_convert::format::delta::{Block, Flags, Header, Index, Kind, Segment};
use bitnet_convert::format::onnx::Loaded;
use bitnet_convert::format::packed;
use bitnet_convert::format::File;
use bitnet_convert::import::config::Config;
use bitnet_convert::import::gguf::GgufCheckpoint;
use bitnet_convert::kernels::DotKernel;
use bitnet_convert::progress::Silent;
use bitnet_convert::runtime::Artifact;
use bitnet_convert::tensor::DType;
use bitnet_convert::tokenizer::host::HostTokenizer;
use bitnet_convert::tokenizer::trim::{trim, Choice, Keep};
use std::path::Path;

/// A packed file whose digests are made right first, so that the checks behind them are reached; what opens must run.
pub fn packed_file(data: &[u8]) {
    let mut bytes = data.to_vec();
    packed::reseal(&mut bytes);
    if let Ok(a) = Artifact::from_packed_bytes(bytes) {
        let p = &a.program;
        // A huge model that happens to be valid would only make the fuzzer slow.
        if p.vocab * p.d_model < 1 << 20 && p.ops.len() < 200 {
            let mut s = a.session(DotKernel::Scalar);
            let ids: Vec<u32> = (0..3).map(|i| i % p.vocab as u32).collect();
            let _ = s.run(&ids);
        }
    }
}

/// A safetensors file: every tensor that it lists can be read.
pub fn safetensors_file(data: &[u8]) {
    if let Ok(f) = File::from_bytes(data.to_vec(), Path::new("fuzz")) {
        for name in f.names() {
            if let Some(t) = f.get(name) {
                let _ = t.to_f32();
            }
        }
    }
}

/// A checkpoint of torch, as a file.
pub fn torch_file(data: &[u8]) {
    safetensors_file(data);
}

/// The pickle of a checkpoint of torch, in an archive whose checksum is right.
pub fn torch_pickle(data: &[u8]) {
    safetensors_file(&torch::checkpoint(data));
}

/// A GGUF file: every tensor can be read, and the model that it describes has only tensors and rows that are there.
pub fn gguf_file(data: &[u8]) {
    let Ok(f) = File::from_bytes(data.to_vec(), Path::new("fuzz")) else { return };
    for name in f.names() {
        if let Some(t) = f.get(name) {
            let _ = t.to_f32();
            if let DType::Block(b) = t.dtype {
                let mut codes = vec![0; t.elements()];
                b.codes(t.data, 0, &mut codes);
                let _ = b.first_invalid(t.data);
            }
        }
    }
    let files = [f];
    if let Ok(c) = GgufCheckpoint::read(&files) {
        for r in c.names.values() {
            let stored = files[r.file].get(&r.tensor).expect("a name of the file");
            let rows = stored.shape.first().copied().unwrap_or(0);
            let count = if r.shape.len() == stored.shape.len() { r.shape[0] } else { 1 };
            assert!((0..count).all(|i| r.first + r.rows.stored(i) < rows), "{r:?}");
        }
    }
}

/// A GGUF file in another type, which its bytes choose: what is written is read again, and has the values that the report says.
pub fn gguf_convert(data: &[u8]) {
    let Ok(f) = File::from_bytes(data.to_vec(), Path::new("fuzz")) else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (files, out) = ([f], dir.path().join("out.gguf"));
    let kind = GgufType::ALL[data.iter().fold(0, |n, b| n + usize::from(*b)) % GgufType::ALL.len()];
    let request = Request { kind, force_arch: Some("llama") };
    let Ok(done) = convert_files(&files, &request, Some(&out), &Silent) else {
        assert!(!out.exists());
        return;
    };
    let made = File::open(&out).expect("a file that was written");
    assert_eq!(made.names().count(), done.tensors.len());
    for t in &done.tensors {
        let of = |f: &File| f.get(&t.row.name).expect("a tensor of both").to_f32();
        // Whole numbers are copied; so are values that are none.
        let (Ok(before), Ok(after)) = (of(&files[0]), of(&made)) else { continue };
        let most = |v: f32| f64::from(v.abs()) * t.scale_error * (1.0 + 1e-6);
        let near = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).abs() <= most(*a);
        assert!(before.iter().zip(&after).all(near), "{t:?}");
    }
}

/// A model file of ONNX: what opens runs or says why not, within limits.
pub fn onnx_run(data: &[u8]) {
    let opened = Loaded::from_bytes(data.to_vec(), Path::new("fuzz/model.onnx")).and_then(Builtin::new);
    let Ok(engine) = opened else { return };
    let mut engine = engine.limited(Limits { bytes: 1 << 22, work: 1 << 20 });
    let outputs: Vec<String> = engine.outputs().into_iter().map(|p| p.name).collect();
    let wanted: Vec<&str> = outputs.iter().map(|n| &n[..]).collect();
    // Sizes that the file leaves open.
    for open in [0, 1, 3] {
        let inputs = engine.inputs().into_iter().map(|p| {
            let dims: Vec<usize> = p.dims.iter().map(|d| d.unwrap_or(open)).collect();
            let small = elements(&dims).is_some_and(|n| n < 1 << 12);
            small.then(|| Tensor::zeros(p.elem, &dims).ok().map(|t| (p.name, t))).flatten()
        });
        let Some(inputs) = inputs.collect::<Option<Vec<_>>>() else { return };
        let given: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (&n[..], t)).collect();
        if let Ok(made) = engine.run(&given, &wanted) {
            assert!(made.iter().all(|t| elements(&t.dims) == Some(t.data.len())));
        }
    }
}

/// An ONNX file, with the file of weights that the one in tests/data names: what opens has all elements of all tensors.
pub fn onnx_file(data: &[u8]) {
    let Ok(l) = Loaded::from_bytes(data.to_vec(), Path::new("tests/data/onnx/fuzz.onnx")) else { return };
    for t in l.graph().expect("a graph").tensors() {
        let bytes = l.tensor_bytes(t).expect("the elements");
        let elements: i64 = t.dims.iter().product();
        assert!(elements as usize <= 4 * bytes.len(), "{:?}", t.dims);
    }
    let _ = (l.check_data(), l.opset(""), l.bytes());
}

/// config.json.
pub fn config_json(data: &[u8]) {
    if let Ok(c) = Config::parse(Path::new("fuzz"), data) {
        let _ = (
            c.usize("hidden_size", 1..=100),
            c.f64("rope_theta"),
            c.bool("tie_word_embeddings"),
            c.ids("eos_token_id", 10),
        );
        let _ = c.str("quantization_config.quant_method");
    }
}

/// tokenizer.json with a smaller vocabulary: it names every row that is kept, and no other.
pub fn trim_tokenizer(data: &[u8]) {
    let keep = Keep { choice: Choice::Size(270), always: &[] };
    if let Ok(t) = trim(data, &keep) {
        assert!(t.kept.len() <= 270 && t.kept.windows(2).all(|p| p[0] < p[1]));
        if let Ok(host) = HostTokenizer::from_json(&t.tokenizer_json) {
            let _ = host.encode("a text \u{1F600}");
        }
    }
}

/// A device tokenizer and a text.
pub fn device_tokenizer(data: &[u8]) {
    bitnet_convert::tokenizer::fuzz_device_blob(data);
}

/// A patch whose lengths and digests are made right first. What is accepted is written as it was read, and every block of it ends with the length
/// that it has, whatever the payload says.
pub fn patch_file(data: &[u8]) {
    let mut bytes = data.to_vec();
    let len = bytes.len() as u64;
    let Some(rest) = bytes.get(Header::LEN..).map(<[u8]>::to_vec) else {
        let _ = Header::parse(&bytes);
        return;
    };
    let index_len = u32::from_le_bytes([bytes[20], bytes[21], bytes[22], bytes[23]]) as usize;
    let (index, payload) = rest.split_at(index_len.min(rest.len()));
    bytes[20..24].copy_from_slice(&(index.len() as u32).to_le_bytes());
    bytes[24..32].copy_from_slice(&len.to_le_bytes());
    bytes[136..168].copy_from_slice(&sha256(index));
    bytes[168..200].copy_from_slice(&sha256(payload));
    let Ok(header) = Header::parse(&bytes) else { return };
    assert_eq!(header.to_bytes()[..], bytes[..Header::LEN]);
    let Ok(index) = Index::parse(index, &header) else { return };
    let again = index.to_bytes();
    let mut same = header.clone();
    same.index_len = again.len() as u32;
    same.patch_len = header.patch_len - u64::from(header.index_len) + again.len() as u64;
    assert_eq!(Index::parse(&again, &same).expect("an index that was written").segments, index.segments);
    // A base of gigabytes would only make the fuzzer slow.
    if header.base_len > 1 << 22 {
        return;
    }
    let base: Vec<u8> = (0..header.base_len).map(|i| (i % 27 + 28 * (i / 27 % 9)) as u8).collect();
    let (base, mut decoder, mut out) = (&base[..], Decoder::new(), Vec::new());
    for direction in [Direction::Forward, Direction::Backward] {
        // The first blocks of many: all are made alike.
        for number in 0..index.block_count.min(64) {
            let range = index.block(number).map_or(0..0, |b| b.payload.clone());
            let payload = &payload[range.start as usize..range.end as usize];
            if decoder.decode(&header, &index, number, &base, payload, &mut out, direction).is_ok() {
                let range = header.block_range(u64::from(number));
                assert_eq!(out.len() as u64, range.end - range.start);
            }
        }
    }
}

/// The payload of a block with segments of every kind; the first two bytes say how much of it is stream 1, and which segments there are.
pub fn patch_block(data: &[u8]) {
    let [first, second, payload @ ..] = data else { return };
    let kinds = [
        Kind::Bits { rice: false },
        Kind::Planes { rice: false, half: 5 },
        Kind::Fives { rice: false },
        Kind::Ints { width: 1, shift: 0, zeros: false },
        Kind::Ints { width: 2, shift: 3, zeros: true },
        Kind::Ints { width: 4, shift: 4, zeros: false },
        Kind::Bytes,
        Kind::Raw { xor: true },
        Kind::Bits { rice: true },
        Kind::Planes { rice: true, half: 40 },
        Kind::Fives { rice: true },
        Kind::Zstd,
        Kind::Copy,
        Kind::Raw { xor: false },
    ];
    let mut segments = Vec::new();
    let mut at = 0;
    for i in 0..8 {
        // 400 is a multiple of every row and of every element.
        let kind = kinds[(usize::from(*second) + i * (1 + usize::from(*second >> 4))) % kinds.len()];
        segments.push(Segment { kind, at, len: 400, base: if kind.reads_base() { at } else { 0 } });
        at += 400;
    }
    let base: Vec<u8> = (0..at).map(|i| (i * i % 27 + 28 * (i / 27 % 9)) as u8).collect();
    let payload = &payload[..payload.len().min(1 << 13)];
    let stream1 = payload.len() * usize::from(*first) / 255;
    let block = Block { number: 0, payload: 0..payload.len() as u64, stream1: stream1 as u32, digest: [0; 16] };
    let index = Index { segments, blocks: vec![block], block_count: 1 };
    let header = Header {
        flags: Flags { in_place: second & 1 == 1, host_only: true, ..Flags::default() },
        block_log2: 12,
        index_len: 1,
        patch_len: 0,
        base_len: at,
        target_len: at,
        base_sequence: 0,
        target_sequence: 1,
        contexts: index.contexts(),
        row: index.row(),
        base_sha: [0; 32],
        target_sha: [0; 32],
        index_sha: [0; 32],
        payload_sha: [0; 32],
        model: "fuzz".to_string(),
        base_version: String::new(),
        target_version: String::new(),
        key_id: [0; 8],
        signature: [0; 64],
    };
    let (base, mut out, mut again) = (&base[..], Vec::new(), Vec::new());
    let mut decoder = Decoder::new();
    if decoder.decode(&header, &index, 0, &base, payload, &mut out, Direction::Forward).is_ok() {
        assert_eq!(out.len() as u64, at);
        // A decoder that is used again makes the same.
        decoder.decode(&header, &index, 0, &base, payload, &mut again, Direction::Forward).expect("it did once");
        assert!(out == again);
    }
}

/// What a server lists: an index that is accepted is written as another reader takes it.
#[cfg(feature = "hub")]
pub fn update_index(data: &[u8]) {
    use bitnet_convert::update::Index;
    let Ok(index) = Index::parse(data) else { return };
    let newest = index.newest().map(|r| r.sha256);
    let again = Index::parse(&index.to_text()).expect("an index that was written");
    assert_eq!(again, index);
    assert_eq!(again.newest().map(|r| r.sha256), newest);
}
