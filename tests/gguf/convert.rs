//! GGUF files in another type: what is lossless keeps every code and scale, what is not is listed or refused.

use crate::common::checkpoint::Checkpoint;
use crate::common::Rng;
use crate::writer::*;
use bitnet_convert::encoding::blocks::Block;
use bitnet_convert::error::{Error, Result};
use bitnet_convert::export::gguf::convert::{convert, Changed, Converted, Request};
use bitnet_convert::export::gguf::{plan, Kind, Settings};
use bitnet_convert::format::File;
use bitnet_convert::import;
use bitnet_convert::model::WeightRule;
use bitnet_convert::program::ScaleMode;
use bitnet_convert::progress::Silent;
use bitnet_convert::tensor::DType;
use half::f16;
use serde_json::json;
use std::path::{Path, PathBuf};

pub const UP: &str = "blk.0.ffn_up.weight";
const DOWN: &str = "blk.0.ffn_down.weight";
const CODED: [Block; 6] = [Block::I2S, Block::Tq1_0, Block::Tq2_0, Block::Q1_0, Block::Q2_0, Block::Q2_0G128];
/// 3/64 is the same in f32, f16 and bf16.
const SCALE: f32 = 0.046875;

pub fn id(b: Block) -> u32 {
    match b {
        Block::Q8_0 => 8,
        Block::Tq1_0 => 34,
        Block::Tq2_0 => 35,
        Block::I2S => 36,
        Block::Q1_0 => 41,
        _ => 42,
    }
}

pub fn codes(n: usize, among: &[i8]) -> Vec<i8> {
    let mut rng = Rng(n as u64 + 7);
    (0..n).map(|_| among[rng.below(among.len())]).collect()
}

/// A tensor's bytes; `scale` gives that of each block, I2_S takes the first.
pub fn stored(b: Block, codes: &[i8], scale: impl Fn(usize) -> f32) -> Vec<u8> {
    let mut out = Vec::new();
    if b == Block::Q2_0G128 {
        // Two blocks of 64 with one scale.
        let (mut halves, scales) = (Vec::new(), (0..codes.len() / 64).map(|i| scale(i / 2)));
        Block::Q2_0.write_codes(codes, &scales.collect::<Vec<f32>>(), &mut halves).unwrap();
        halves.chunks_exact(36).for_each(|b| out.extend([&b[..18], &b[20..]].concat()));
        return out;
    }
    let scales: Vec<f32> = (0..codes.len() / b.values()).map(&scale).collect();
    b.write_codes(codes, &scales, &mut out).unwrap();
    if b == Block::I2S {
        out.extend(Block::i2_s_tail(scale(0)));
    }
    out
}

pub fn llama() -> Gguf {
    Gguf::default().key("general.architecture", strv("llama"))
}

/// Two matrices of 4 rows of 512.
fn coded(b: Block, codes: &[i8], scale: impl Fn(usize) -> f32) -> Gguf {
    let m = |name: &str, data| tensor(name, &[512, 4], id(b), data);
    llama().with(floats("output_norm.weight", &[8])).with(m(UP, stored(b, codes, scale)))
}

/// A folder with a file in it.
pub struct Bench(tempfile::TempDir);

impl Bench {
    pub fn new(g: &Gguf) -> Bench {
        let b = Bench(tempfile::tempdir().unwrap());
        std::fs::write(b.source(), g.bytes()).unwrap();
        b
    }

    pub fn source(&self) -> PathBuf {
        self.0.path().join("in.gguf")
    }

    pub fn out(&self) -> PathBuf {
        self.0.path().join("out.gguf")
    }

    pub fn try_to(&self, kind: Kind) -> Result<Converted> {
        convert(&self.source(), &Request { kind, force_arch: None }, Some(&self.out()), &Silent)
    }

    #[track_caller]
    pub fn to(&self, kind: Kind) -> (Converted, File) {
        let done = self.try_to(kind).unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        assert_eq!(done.bytes, Some(std::fs::metadata(self.out()).unwrap().len()));
        (done, File::open(&self.out()).unwrap())
    }

    #[track_caller]
    pub fn refused(&self, kind: Kind, words: &[&str]) -> Error {
        let e = self.try_to(kind).expect_err("no such file can be written");
        let text = format!("{e} {}", e.next_step().unwrap_or(""));
        words.iter().for_each(|w| assert!(text.contains(w), "`{w}` is not in: {text}"));
        assert_eq!(crate::common::listing(self.0.path()), ["in.gguf"], "nothing is left");
        e
    }
}

pub fn row<'a>(done: &'a Converted, name: &str) -> &'a Changed {
    done.tensors.iter().find(|t| t.row.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn values(f: &File, name: &str) -> Vec<f32> {
    f.get(name).unwrap().to_f32().unwrap()
}

/// Codes of a tensor, and the scale of each.
fn read_codes(f: &File, name: &str) -> Option<(Vec<i8>, Vec<f32>)> {
    let t = f.get(name).unwrap();
    let DType::Block(b) = t.dtype else { return None };
    let unit = b.scale_unit(t.elements())?;
    let mut codes = vec![0; t.elements()];
    b.codes(t.data, 0, &mut codes);
    Some((codes, (0..t.elements()).map(|i| b.scale(t.data, i / unit)).collect()))
}

#[test]
fn codes_and_scales_are_kept_between_all_types() {
    for from in CODED {
        for to in Kind::ALL {
            let binary = from == Block::Q1_0 || to == Kind::Q1_0;
            let codes = codes(2048, if binary { &[-1, 1] } else { &[-1, 0, 1] });
            let (done, made) = Bench::new(&coded(from, &codes, |_| SCALE)).to(to);
            let up = row(&done, UP);
            assert!(up.exact && up.row.note.is_none() && up.row.to == to.dtype().name(), "{from:?} to {to:?}: {up:?}");
            let want: Vec<f32> = codes.iter().map(|c| f32::from(*c) * SCALE).collect();
            assert_eq!(values(&made, UP), want, "{from:?} to {to:?}");
            if let Some((got, scales)) = read_codes(&made, UP) {
                assert!(got == codes && scales.iter().all(|s| *s == SCALE), "{from:?} to {to:?}");
            }
            assert_eq!(values(&made, "output_norm.weight"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        }
    }
}

/// A scale for each block goes into blocks that are not longer; otherwise the tensor stays as it was and says why.
#[test]
fn scales_of_blocks_are_kept_or_the_tensor_stays() {
    for from in CODED.into_iter().filter(|b| *b != Block::I2S) {
        for to in Kind::ALL {
            let longer = match to.dtype() {
                DType::Block(Block::I2S) => true,
                DType::Block(b) => b.values() > from.values(),
                _ => false,
            };
            let binary = from == Block::Q1_0 || to == Kind::Q1_0;
            let codes = codes(2048, if binary { &[-1, 1] } else { &[-1, 0, 1] });
            let of = |block: usize| (block + 1) as f32 / 256.0;
            let same = tensor(DOWN, &[512, 4], id(from), stored(from, &codes, |_| SCALE));
            let (done, made) = Bench::new(&coded(from, &codes, of).with(same)).to(to);
            let (up, down) = (row(&done, UP), row(&done, DOWN));
            assert!(down.row.note.is_none() && down.row.to == to.dtype().name());
            if longer {
                assert!(up.row.note.as_ref().is_some_and(|n| n.contains("scales")), "{from:?} to {to:?}: {up:?}");
                assert_eq!(up.row.to, if from == Block::Q2_0G128 { "Q2_0" } else { from.name() });
            } else {
                assert_eq!((up.row.to, &up.row.note), (to.dtype().name(), &None), "{from:?} to {to:?}");
            }
            let scales: Vec<f32> = (0..2048).map(|i| of(i / from.values())).collect();
            let want: Vec<f32> = codes.iter().zip(&scales).map(|(c, s)| f32::from(*c) * s).collect();
            assert!(up.exact && values(&made, UP) == want, "{from:?} to {to:?}");
            if let Some(got) = read_codes(&made, UP) {
                assert!(got == (codes, scales), "{from:?} to {to:?}");
            }
        }
    }
}

#[test]
fn the_scale_of_i2_s_is_rounded_to_f16_and_that_is_told() {
    let codes = codes(2048, &[-1, 0, 1]);
    let near = f16::from_f32(0.1).to_f32();
    let bench = Bench::new(&coded(Block::I2S, &codes, |_| 0.1));
    for (to, blocks) in [(Kind::Tq1_0, 8), (Kind::Tq2_0, 8), (Kind::Q2_0, 32)] {
        let (done, made) = bench.to(to);
        let up = row(&done, UP);
        assert_eq!((up.exact, up.rounded), (false, blocks), "{to:?}");
        assert_eq!(up.scale_error, (f64::from(near) / f64::from(0.1f32) - 1.0).abs());
        let (got, scales) = read_codes(&made, UP).unwrap();
        assert!(got == codes && scales.iter().all(|s| *s == near), "{to:?}");
    }
    let (done, made) = bench.to(Kind::F32);
    assert!(row(&done, UP).exact);
    assert_eq!(values(&made, UP), codes.iter().map(|c| f32::from(*c) * 0.1).collect::<Vec<_>>());
}

#[test]
fn a_code_of_two_goes_where_it_fits() {
    let codes = codes(2048, &[-1, 0, 1, 2]);
    let bench = Bench::new(&coded(Block::Q2_0, &codes, |_| SCALE));
    for to in [Kind::Tq1_0, Kind::Tq2_0, Kind::Q1_0, Kind::I2S] {
        bench.refused(to, &["codes of +2", to.dtype().name(), "`--quantize-weight 1.58`"]);
    }
    for to in [Kind::Q2_0, Kind::Q8_0, Kind::F16, Kind::Bf16, Kind::F32] {
        let (done, made) = bench.to(to);
        assert!(row(&done, UP).exact);
        assert_eq!(values(&made, UP), codes.iter().map(|c| f32::from(*c) * SCALE).collect::<Vec<_>>(), "{to:?}");
    }
}

#[test]
fn what_is_not_lossless_is_listed() {
    let t = |c: &[i8]| stored(Block::I2S, c, |_| SCALE);
    let halves = |v: &[f32]| v.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect::<Vec<u8>>();
    let trits = codes(1024, &[-1, 0, 1]);
    let any: Vec<f32> = (0..1024).map(|i| i as f32 / 64.0).collect();
    let ternary: Vec<f32> = trits.iter().map(|c| f32::from(*c) * 0.25).collect();
    let g = llama()
        .with(tensor("good", &[256, 4], 36, t(&trits)))
        .with(tensor("short", &[192, 2], 36, t(&trits[..384])))
        .with(tensor("shorter", &[96, 4], 36, t(&trits[..384])))
        .with(tensor("floats", &[256, 4], 1, halves(&any)))
        .with(tensor("masters", &[256, 4], 1, halves(&ternary)))
        .with(tensor("eight", &[32, 4], 8, stored(Block::Q8_0, &codes(128, &[-9, 3, 100]), |_| 0.5)))
        .with(tensor("numbers", &[4, 2], 26, vec![1; 32]));
    let bench = Bench::new(&g);
    let (done, made) = bench.to(Kind::Tq2_0);
    for (name, to, note) in [
        ("good", "TQ2_0", ""),
        ("masters", "TQ2_0", ""),
        ("short", "Q2_0", "192 columns are no multiple of 256, the block of TQ2_0"),
        ("shorter", "Q8_0", "96 columns are no multiple of 256"),
        ("floats", "F16", "not a scale times -1, 0 and 1"),
        ("eight", "Q8_0", "32 columns are no multiple of 256"),
        ("numbers", "I32", ""),
    ] {
        let r = row(&done, name);
        assert!(r.exact && r.row.to == to && r.row.note.as_deref().unwrap_or("").contains(note), "{r:?}");
        assert_eq!(r.row.note.is_none(), note.is_empty(), "{r:?}");
        assert_eq!(made.get(name).unwrap().data.len() as u64, r.row.bytes, "{name}");
        if to != "I32" {
            assert_eq!(values(&made, name), values(&File::open(&bench.source()).unwrap(), name), "{name}");
        }
    }
    let stored: u64 = done.tensors.iter().map(|t| t.row.bytes).sum();
    let weights: usize = done.tensors.iter().map(|t| t.row.shape.iter().product::<usize>()).sum();
    assert_eq!(done.bits_per_weight, stored as f64 * 8.0 / weights as f64);
    // Values that F16 would round stay what they are.
    let fine = llama().with(floats(UP, &[64, 64])).with(tensor(DOWN, &[256, 4], 36, t(&trits)));
    let (done, _) = Bench::new(&fine).to(Kind::F16);
    assert!(row(&done, UP).row.note.as_ref().is_some_and(|n| n.contains("2.049e3, which F16 would round")));
    assert_eq!((row(&done, UP).row.to, row(&done, DOWN).row.to), ("F32", "F16"));
}

/// The checkpoint of a small llama whose rows every type holds, and the folder that it lies in.
pub fn checkpoint() -> tempfile::TempDir {
    let mut c = Checkpoint::sized(1, 256, 512, 64);
    c.tensors.retain(|t| !t.name.contains("_sub_norm"));
    c.config["model_type"] = json!("llama");
    c.config["architectures"] = json!(["LlamaForCausalLM"]);
    c.config["hidden_act"] = json!("silu");
    c.config.as_object_mut().unwrap().remove("quantization_config");
    let dir = tempfile::tempdir().unwrap();
    c.write(dir.path());
    dir
}

pub fn export(checkpoint: &Path, kind: Kind, rule: Option<WeightRule>, out: &Path) {
    let model = import::open(checkpoint, &Silent).unwrap();
    let settings = Settings { kind: Some(kind), weight: rule.map(|r| (r, ScaleMode::One)), ..Settings::default() };
    plan(&model, &settings).unwrap().write(&settings, out, &Silent).unwrap();
}

/// A model that is written as one type and converted is the file that is written as the other at once.
#[test]
fn both_ways_give_the_same_file() {
    let dir = checkpoint();
    let at = |name: &str| dir.path().join(name);
    for kind in [Kind::I2S, Kind::Tq2_0, Kind::Tq1_0, Kind::Q2_0] {
        export(dir.path(), kind, Some(WeightRule::TernaryAbsmean), &at(kind.dtype().name()));
    }
    for (from, to) in [
        (Kind::I2S, Kind::Tq2_0),
        (Kind::I2S, Kind::Tq1_0),
        (Kind::I2S, Kind::Q2_0),
        (Kind::Tq1_0, Kind::Tq2_0),
        (Kind::Tq2_0, Kind::Tq1_0),
        (Kind::Tq2_0, Kind::Q2_0),
        (Kind::Q2_0, Kind::Tq1_0),
    ] {
        let request = Request { kind: to, force_arch: None };
        convert(&at(from.dtype().name()), &request, Some(&at("out")), &Silent).unwrap();
        let (got, want) = (std::fs::read(at("out")).unwrap(), std::fs::read(at(to.dtype().name())).unwrap());
        assert!(got == want, "{from:?} to {to:?} is another file");
    }
}
