//! Small checkpoints made on the spot, good ones and hostile ones, and the export that must refuse them.

use super::{command, finish, listing, Rng, Run};
use half::{bf16, f16};
use serde_json::{json, Value};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

pub const HIDDEN: usize = 32;
pub const FFN: usize = 48;
pub const VOCAB: usize = 64;
pub const Q: &str = "model.layers.0.self_attn.q_proj.weight";
pub const DOWN: &str = "model.layers.0.mlp.down_proj.weight";
pub const NORM: &str = "model.norm.weight";
pub const EMBED: &str = "model.embed_tokens.weight";

/// A tensor as it will lie in the file.
#[derive(Clone)]
pub struct Raw {
    pub name: String,
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

impl Raw {
    pub fn f32(name: &str, shape: &[usize], values: &[f32]) -> Raw {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Raw { name: name.into(), dtype: "F32", shape: shape.to_vec(), data }
    }

    /// The same values in another float type.
    pub fn to(&mut self, dtype: &'static str) {
        let values = self.data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        self.data = match dtype {
            "F16" => values.flat_map(|v| f16::from_f32(v).to_le_bytes()).collect(),
            _ => values.flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect(),
        };
        self.dtype = dtype;
    }

    /// Replaces an element of an F32 tensor.
    pub fn set(&mut self, element: usize, value: f32) {
        self.data[4 * element..4 * element + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// A model of the `bitnet` architecture with one layer.
#[derive(Clone)]
pub struct Checkpoint {
    pub config: Value,
    pub tensors: Vec<Raw>,
}

/// The seven projections of a layer: module, rows, columns.
fn projections(hidden: usize, ffn: usize) -> [(&'static str, usize, usize); 7] {
    [
        ("self_attn.q_proj", hidden, hidden),
        ("self_attn.k_proj", hidden / 2, hidden),
        ("self_attn.v_proj", hidden / 2, hidden),
        ("self_attn.o_proj", hidden, hidden),
        ("mlp.gate_proj", ffn, hidden),
        ("mlp.up_proj", ffn, hidden),
        ("mlp.down_proj", hidden, ffn),
    ]
}

impl Checkpoint {
    /// Float master weights in F32, so that a test can put any value anywhere.
    pub fn online() -> Checkpoint {
        Checkpoint::sized(1, HIDDEN, FFN, VOCAB)
    }

    pub fn sized(layers: usize, hidden: usize, ffn: usize, vocab: usize) -> Checkpoint {
        let mut rng = Rng(42);
        let mut noise = |name: String, shape: &[usize]| {
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.uniform() / 10.0).collect();
            Raw::f32(&name, shape, &values)
        };
        let gain = |name: String, n: usize| Raw::f32(&name, &[n], &vec![1.0; n]);
        let mut tensors = vec![noise(EMBED.into(), &[vocab, hidden]), gain(NORM.into(), hidden)];
        for l in 0..layers {
            let p = format!("model.layers.{l}");
            for (module, rows, cols) in projections(hidden, ffn) {
                tensors.push(noise(format!("{p}.{module}.weight"), &[rows, cols]));
            }
            let norms = [
                ("input_layernorm", hidden),
                ("post_attention_layernorm", hidden),
                ("self_attn.attn_sub_norm", hidden),
                ("mlp.ffn_sub_norm", ffn),
            ];
            tensors.extend(norms.map(|(n, len)| gain(format!("{p}.{n}.weight"), len)));
        }
        let config = json!({
            "architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "hidden_act": "relu2", "vocab_size": vocab, "hidden_size": hidden,
            "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": 2, "num_key_value_heads": 1,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
            "bos_token_id": 1, "eos_token_id": 2,
            "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"},
        });
        Checkpoint { config, tensors }
    }

    /// Stored ternary codes: uint8 with four rows a byte, and a scale beside each.
    pub fn packed() -> Checkpoint {
        let mut c = Checkpoint::online();
        c.config["quantization_config"]["quantization_mode"] = json!("offline");
        for (module, rows, cols) in projections(HIDDEN, FFN) {
            let name = format!("model.layers.0.{module}.weight");
            let t = c.tensor(&name);
            // Codes 0, 1 and 2 in all four places.
            (t.dtype, t.shape, t.data) =
                ("U8", vec![rows / 4, cols], (0..rows / 4 * cols).map(|i| [0x00, 0x55, 0xAA, 0x24][i % 4]).collect());
            c.tensors.push(Raw::f32(&format!("{name}_scale"), &[1], &[0.5]));
        }
        c
    }

    /// As [`Checkpoint::online`], changed.
    pub fn with(edit: impl FnOnce(&mut Checkpoint)) -> Checkpoint {
        let mut c = Checkpoint::online();
        edit(&mut c);
        c
    }

    pub fn packed_with(edit: impl FnOnce(&mut Checkpoint)) -> Checkpoint {
        let mut c = Checkpoint::packed();
        edit(&mut c);
        c
    }

    pub fn tensor(&mut self, name: &str) -> &mut Raw {
        self.tensors.iter_mut().find(|t| t.name == name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    pub fn remove(&mut self, name: &str) {
        self.tensors.retain(|t| t.name != name);
    }

    /// Offset of a tensor's data in the written file.
    pub fn offset(&self, name: &str) -> usize {
        let file = safetensors(&self.tensors);
        let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        8 + header + self.tensors.iter().take_while(|t| t.name != name).map(|t| t.data.len()).sum::<usize>()
    }

    pub fn write(&self, dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("config.json"), self.config.to_string()).unwrap();
        std::fs::write(dir.join("model.safetensors"), safetensors(&self.tensors)).unwrap();
    }
}

/// A safetensors file, header written by hand. `entries` may be anything, also a lie.
pub fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(data);
    file
}

pub fn safetensors(tensors: &[Raw]) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for t in tensors {
        let offsets = [data.len(), data.len() + t.data.len()];
        let entry = json!({"dtype": t.dtype, "shape": t.shape, "data_offsets": offsets});
        entries.push(format!("{}:{entry}", json!(t.name)));
        data.extend_from_slice(&t.data);
    }
    with_header(&format!("{{{}}}", entries.join(",")), &data)
}

/// A checkpoint folder and an output folder that lives beside it.
pub struct Bench {
    dir: TempDir,
}

impl Bench {
    pub fn new(c: &Checkpoint) -> Bench {
        let b = Bench::empty();
        c.write(&b.model());
        b
    }

    /// Both folders, without files.
    pub fn empty() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        for d in ["model", "out"] {
            std::fs::create_dir(dir.path().join(d)).unwrap();
        }
        Bench { dir }
    }

    pub fn model(&self) -> PathBuf {
        self.dir.path().join("model")
    }

    pub fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    pub fn output(&self) -> PathBuf {
        self.out().join("model.bitnet")
    }

    /// Replaces or adds a file of the checkpoint.
    pub fn file(self, name: &str, data: impl AsRef<[u8]>) -> Bench {
        std::fs::write(self.model().join(name), data).unwrap();
        self
    }

    pub fn command(&self) -> Command {
        let mut c = command();
        c.arg("export").arg("--model").arg(self.model()).arg("-o").arg(self.output());
        c
    }

    pub fn export(&self, flags: &[&str]) -> Run {
        finish(self.command().args(flags))
    }

    /// The export must fail as every failure must: exit code 2, an error with all of `names`, and nothing left behind.
    #[track_caller]
    pub fn refused(&self, names: &[&str]) -> Run {
        self.refused_with(&[], names)
    }

    #[track_caller]
    pub fn refused_with(&self, flags: &[&str], names: &[&str]) -> Run {
        let run = self.export(flags);
        assert_failure(&run, names);
        assert!(listing(&self.out()).is_empty(), "left behind: {:?}", listing(&self.out()));
        run
    }
}

#[track_caller]
pub fn assert_failure(run: &Run, names: &[&str]) {
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    assert!(run.stderr.contains("error: "), "{}", run.stderr);
    for n in names {
        assert!(run.stderr.contains(n), "expected `{n}` in:\n{}", run.stderr);
    }
}
