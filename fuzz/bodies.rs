//! What each fuzz target does with its bytes. Plain functions, so that `tests/fuzz_replay.rs` runs them on a stable compiler, too.

#[path = "../tests/common/torch.rs"]
#[allow(dead_code)]
mod torch;

use bitnet_convert::format::packed;
use bitnet_convert::format::File;
use bitnet_convert::import::config::Config;
use bitnet_convert::import::gguf::GgufCheckpoint;
use bitnet_convert::kernels::DotKernel;
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
