//! The fuzz bodies on a stable compiler: real files, cut and with changed bytes, from a fixed seed. `BITNET_FUZZ_ROUNDS` asks for more.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use std::path::PathBuf;
use std::process::Command;

fn rounds() -> u32 {
    std::env::var("BITNET_FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(400)
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

/// Calls `body` with the file itself, cuts of it and changed copies; two changes of three lie in `hot`.
fn replay(file: &[u8], hot: std::ops::Range<usize>, body: fn(&[u8])) {
    body(file);
    let mut rng = Rng(0x9E37_79B9_7F4A_7C15);
    for round in 0..rounds() {
        let mut bytes = file.to_vec();
        if round % 5 == 0 {
            bytes.truncate(rng.below(file.len()));
        }
        for _ in 0..=rng.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = if rng.below(3) == 0 { rng.below(bytes.len()) } else { hot.start + rng.below(hot.len()) };
            let at = at.min(bytes.len() - 1);
            bytes[at] = match rng.below(4) {
                0 => 0,
                1 => 0xFF,
                2 => bytes[at] ^ (1 << rng.below(8)),
                _ => rng.below(256) as u8,
            };
        }
        body(&bytes);
    }
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

#[test]
fn packed_files() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("model.bitnet");
    let status = Command::new(env!("CARGO_BIN_EXE_bitnet-convert"))
        .args(["export", "-q", "--format", "packed", "--kv-window", "8", "--kv-sinks", "1", "--model"])
        .arg(fixture("golden/bitnet_online_bf16"))
        .arg("-o")
        .arg(&path)
        .status()
        .expect("the binary starts");
    assert!(status.success());
    let file = std::fs::read(&path).expect("the file");
    // The program lies behind the weights in our files; put the cut where it is.
    let packed = bitnet_convert::format::packed::Packed::open(&path).expect("a packed file");
    for s in packed.sections.iter().filter(|s| s.kind != Some(bitnet_convert::format::packed::Kind::Weights)) {
        replay(&file, s.range.clone(), bodies::packed_file);
    }
    replay(&file, 0..64 + 64 * packed.sections.len(), bodies::packed_file);
}

#[test]
fn safetensors_files() {
    let file = std::fs::read(fixture("golden/bitnet_online_bf16/model.safetensors")).expect("the file");
    let header = file.len().min(9000);
    replay(&file, 0..header, bodies::safetensors_file);
}

#[test]
fn torch_files() {
    for name in ["mixed", "strided", "nested"] {
        let file =
            std::fs::read(format!("{}/tests/data/torch/{name}.bin", env!("CARGO_MANIFEST_DIR"))).expect("the file");
        let directory = file.windows(4).position(|w| w == b"PK\x01\x02").expect("a directory");
        replay(&file, directory..file.len(), bodies::torch_file);
        // The pickle comes first, under the name `NAME/data.pkl`.
        let start = 30 + name.len() + 9;
        let second = (start..file.len()).find(|i| file[*i..].starts_with(b"PK\x03\x04")).expect("a second entry");
        replay(&file[start..second], 0..second - start, bodies::torch_pickle);
    }
}

#[test]
fn gguf_files() {
    let data = |name: &str| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/gguf").join(name);
        std::fs::read(path).expect("the file")
    };
    // Changes in keys and tensor headers, then in the blocks.
    let model = data("tiny-llama.gguf");
    replay(&model, 0..900, bodies::gguf_file);
    replay(&model, 0..model.len().min(9000), bodies::gguf_file);
    let blocks = data("blocks.gguf");
    replay(&blocks, 0..1500, bodies::gguf_file);
    replay(&blocks, 1500..blocks.len(), bodies::gguf_file);
}

/// A small file with a matrix in each type that has codes: the header and the blocks are changed, and each target type comes up.
#[test]
fn gguf_conversions() {
    use bitnet_convert::encoding::blocks::Block;
    use bitnet_convert::format::gguf::{Keys, TensorInfo, Writer};
    use bitnet_convert::tensor::DType;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("codes.gguf");
    let layouts = [Block::I2S, Block::Tq1_0, Block::Tq2_0, Block::Q1_0, Block::Q2_0, Block::Q8_0];
    let info = |b: &Block| TensorInfo { name: b.name().into(), shape: vec![2, 256] };
    let mut keys = Keys::default();
    keys.set_text("general.architecture", "bitnet-25");
    keys.set("bitnet-25.context_length", 64u32);
    let mut writer = Writer::create(&path, keys, layouts.iter().map(info).collect()).expect("a writer");
    let mut rng = Rng(77);
    for b in layouts {
        let codes: Vec<i8> = (0..512)
            .map(|_| if b == Block::Q1_0 { 2 * rng.below(2) as i8 - 1 } else { rng.below(3) as i8 - 1 })
            .collect();
        let mut data = Vec::new();
        b.write_codes(&codes, &vec![0.046875; 512 / b.values()], &mut data).expect("blocks");
        if b == Block::I2S {
            data.extend(Block::i2_s_tail(0.1));
        }
        writer.begin(b.name(), DType::Block(b)).expect("its turn");
        writer.write(&data).expect("its bytes");
    }
    writer.finish().expect("a file");
    let file = std::fs::read(&path).expect("the file");
    replay(&file, 0..500, bodies::gguf_convert);
    replay(&file, 500..file.len(), bodies::gguf_convert);
    let model = format!("{}/tests/data/gguf/blocks.gguf", env!("CARGO_MANIFEST_DIR"));
    let blocks = std::fs::read(model).expect("the file");
    replay(&blocks, 1500..blocks.len(), bodies::gguf_convert);
}

#[test]
fn onnx_files() {
    let path = format!("{}/tests/data/onnx/traps.onnx", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read(path).expect("the file");
    // Nodes, then tensors, then all of it.
    let tensors = file.windows(5).position(|w| w == b"traps").expect("the name of the graph");
    replay(&file, 0..tensors, bodies::onnx_file);
    replay(&file, tensors..file.len(), bodies::onnx_file);
    replay(&file, 0..file.len(), bodies::onnx_file);
}

#[test]
fn configurations() {
    let file = std::fs::read(fixture("golden/bitnet_online_bf16/config.json")).expect("the file");
    replay(&file, 0..file.len(), bodies::config_json);
}

#[test]
fn trimmed_tokenizers() {
    use bitnet_convert::tokenizer::trim::{trim, Choice, Keep};
    let json = std::fs::read(fixture("models/intent-w1a2/tokenizer.json")).expect("the file");
    // Small, so that a round takes no time.
    let small = trim(&json, &Keep { choice: Choice::Size(280), always: &[] }).expect("a trimmed tokenizer");
    let hot = 0..small.tokenizer_json.len();
    replay(&small.tokenizer_json, hot, bodies::trim_tokenizer);
}

#[test]
fn device_tokenizers() {
    let json = std::fs::read(fixture("models/intent-w1a2/tokenizer.json")).expect("the file");
    let blob = bitnet_convert::tokenizer::compile(&json).expect("a device form");
    let mut data = (blob.len() as u16).to_le_bytes().to_vec();
    data.extend_from_slice(&blob);
    data.extend_from_slice("What's the temp? \u{1F600} 21.5 °C<|end|>".as_bytes());
    replay(&data, 0..400, bodies::device_tokenizer);
}

#[test]
fn patch_files() {
    let path = format!("{}/tests/data/delta/tiny.bdelta", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read(path).expect("the file");
    replay(&file, 0..320, bodies::patch_file);
    // Segments and blocks, then the payload.
    replay(&file, 384..430, bodies::patch_file);
    replay(&file, 384..file.len(), bodies::patch_file);
}

#[test]
fn patch_blocks() {
    let mut rng = Rng(0x0123_4567_89AB_CDEF);
    // Segments that begin with each of the kinds, over bytes that differ in how many zeros they have.
    for second in 0..64 {
        let data: Vec<u8> = (0..600)
            .map(|i| match (i, second % 4) {
                (1, _) => second,
                (_, 0) => rng.below(256) as u8,
                (_, 1) => 1 << rng.below(8),
                (_, 2) => rng.below(16) as u8 * 17,
                _ => [0, 0, 0, 0xFF][rng.below(4)],
            })
            .collect();
        bodies::patch_block(&data);
        if second % 8 == 0 {
            replay(&data, 0..data.len(), bodies::patch_block);
        }
    }
    for fill in [0, 0x55, 0xFF] {
        (0..=255).for_each(|second| bodies::patch_block(&[&[128, second][..], &[fill; 5000]].concat()));
    }
}

#[cfg(feature = "hub")]
#[test]
fn update_indexes() {
    let sha = |c: &str| c.repeat(64);
    let text = format!(
        r#"{{"format":1,"model":"tiny","files":[
{{"version":"0.1.0","sequence":1,"sha256":"{}","length":12048}},
{{"version":"0.1.1","sequence":2,"sha256":"{}","length":12048,"bytes":9000,"url":"full.bin"}}],
"patches":[{{"from_sha256":"{}","to_sha256":"{}","bytes":449,"url":"a/b.bin","in_place":true}}]}}"#,
        sha("a"),
        sha("b"),
        sha("a"),
        sha("b")
    );
    assert!(bitnet_convert::update::Index::parse(text.as_bytes()).is_ok());
    replay(text.as_bytes(), 0..text.len(), bodies::update_index);
}

#[test]
fn onnx_graphs() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx/operators.json");
    let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(path).expect("the file")).expect("JSON");
    // Every operator, but not every case of it.
    for case in cases.as_array().expect("a list").iter().step_by(7) {
        let text = case["model"].as_str().expect("text");
        let byte = |i: usize| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex");
        let file: Vec<u8> = (0..text.len() / 2).map(byte).collect();
        replay(&file, 0..file.len().min(300), bodies::onnx_run);
    }
}
