//! The float reference against outputs of transformers: every folder that `common::golden_folders` finds is matched within
//! the tolerance of its meta.json, or refused with a message that this file names.

#![cfg(feature = "reference")]

mod common;

use bitnet_convert::format::File;
use bitnet_convert::import::import;
use bitnet_convert::model::{Beyond, Kind, Layer, Linear, Model, Pool};
use bitnet_convert::reference::{pool, unit, Array, Input, Output, Reference};
use bitnet_convert::{Error, Result};
use common::{fixture, golden_folders};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

/// Cases that must not be read, and what is said about them.
const REFUSED: [(&str, &str); 0] = [];

/// Relative L2 distance of `long_logits`: there activations lie next to rounding ties, and a code may fall to the other side.
const LONG: f64 = 0.05;

struct Golden {
    file: File,
    tolerance: f64,
}

impl Golden {
    fn open(case: &Path) -> Golden {
        let meta: serde_json::Value = serde_json::from_slice(&std::fs::read(case.join("meta.json")).unwrap()).unwrap();
        let file = File::open(&case.join("golden.safetensors")).unwrap();
        Golden { file, tolerance: meta["tolerance_max_abs"].as_f64().expect("a tolerance") }
    }

    fn floats(&self, name: &str) -> Option<Array> {
        let v = self.file.get(name)?;
        Some(Array { shape: v.shape.to_vec(), data: v.to_f32().unwrap() })
    }

    /// Shape and values of an i64 tensor.
    fn ids(&self, name: &str) -> Option<(Vec<usize>, Vec<u32>)> {
        let v = self.file.get(name)?;
        Some((v.shape.to_vec(), v.data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect()))
    }

    fn input(&self, name: &str) -> Option<Input> {
        let (shape, ids) = self.ids(name)?;
        Some(Input { ids, texts: shape[0], trace: true, ..Input::default() })
    }

    fn mask(&self) -> Option<Vec<bool>> {
        Some(self.ids("attention_mask")?.1.iter().map(|v| *v != 0).collect())
    }
}

/// A NaN is not within anything.
fn within(distance: f64, limit: f64) -> bool {
    distance <= limit
}

/// The largest difference, in units of the tolerance at that magnitude; padding is left out.
fn distance(got: &Array, want: &Array, mask: Option<&[bool]>, tolerance: f64) -> f64 {
    assert_eq!(got.shape, want.shape);
    let width = *want.shape.last().unwrap();
    let largest = want.data.iter().fold(1f32, |m, v| m.max(v.abs()));
    let rows = got.data.chunks(width).zip(want.data.chunks(width)).enumerate();
    let seen = rows.filter(|(i, _)| mask.is_none_or(|m| m.len() * width != want.data.len() || m[*i]));
    let worst = seen.flat_map(|(_, (g, w))| g.iter().zip(w)).map(|(g, w)| f64::from((g - w).abs()));
    // NaN must not pass as small.
    worst.fold(0.0, |m: f64, d| if m.is_nan() || d <= m { m } else { d }) / (tolerance * f64::from(largest))
}

fn relative(got: &Array, want: &Array) -> f64 {
    let square = |it: &mut dyn Iterator<Item = f32>| it.map(|v| f64::from(v) * f64::from(v)).sum::<f64>();
    let difference = square(&mut got.data.iter().zip(&want.data).map(|(g, w)| g - w));
    (difference / square(&mut want.data.iter().copied())).sqrt()
}

/// What differs, the earliest part of the network first.
fn compare(golden: &Golden, got: &Output, mask: Option<&[bool]>) -> Vec<String> {
    let mut pairs: Vec<(String, Option<&Array>)> = vec![
        ("encoder_last_hidden_state".into(), got.encoder_hidden.as_ref()),
        ("embed_out".into(), got.embed_out.as_ref()),
    ];
    pairs.extend(got.layer_out.iter().enumerate().map(|(i, a)| (format!("layer_out.{i}"), Some(a))));
    pairs.push(("last_hidden_state".into(), Some(&got.hidden)));
    pairs.push(("pooler_output".into(), got.pooler_output.as_ref()));
    pairs.push(("logits".into(), got.logits.as_ref()));
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (name, got) in pairs {
        let Some(want) = golden.floats(&name) else { continue };
        let Some(got) = got else {
            wrong.push(format!("{name} is missing"));
            continue;
        };
        compared += 1;
        let d = distance(got, &want, mask, golden.tolerance);
        if !within(d, 1.0) {
            wrong.push(format!("{name} is off by {d:.1} tolerances"));
        }
    }
    if compared < 2 {
        wrong.push("nothing to compare".into());
    }
    wrong
}

/// Greedy continuation with keys and values kept; the golden ids were computed anew at every step.
fn continued(reference: &Reference, prompt: &[u32], total: usize) -> Result<Vec<u32>> {
    let mut session = reference.start()?;
    let mut ids = prompt.to_vec();
    let mut logits = session.step(prompt)?;
    while ids.len() < total {
        let best = (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
        ids.push(best as u32);
        logits = session.step(&[best as u32])?;
    }
    Ok(ids)
}

fn projections(layer: &mut Layer) -> [Option<&mut Linear>; 7] {
    let (a, m) = (&mut layer.attn, &mut layer.mlp);
    [
        Some(&mut a.q),
        Some(&mut a.k),
        Some(&mut a.v),
        Some(&mut a.o),
        m.gate.as_mut(),
        Some(&mut m.up),
        Some(&mut m.down),
    ]
}

fn check(case: &Path) -> Result<Vec<String>> {
    let golden = Golden::open(case);
    let mut model: Model = import(case)?;
    let reference = Reference::load(&model)?;
    let mask = golden.mask();
    let mut input = golden.input("input_ids").or(golden.input("decoder_input_ids")).expect("ids");
    input.mask = mask.clone();
    input.token_types = golden.ids("token_type_ids").map(|(_, t)| t);
    input.features = golden.floats("input_features");
    let got = reference.forward(&input)?;
    let mut wrong = compare(&golden, &got, mask.as_deref());
    for (name, how) in [("mean_pooled_l2", Pool::Mean), ("embedding", Pool::Last)] {
        if let Some(want) = golden.floats(name) {
            let mut vectors = pool(&got.hidden, mask.as_deref(), how);
            vectors.iter_mut().for_each(|v| unit(v));
            let got = Array { shape: want.shape.clone(), data: vectors.concat() };
            let d = distance(&got, &want, None, golden.tolerance);
            if !within(d, 1.0) {
                wrong.push(format!("{name} is off by {d:.1} tolerances"));
            }
        }
    }
    if let Some((shape, want)) = golden.ids("greedy_ids") {
        let prompts = input.ids.chunks(input.ids.len() / input.texts);
        for (prompt, want) in prompts.zip(want.chunks(shape[1])) {
            let got = continued(&reference, prompt, want.len())?;
            if got != want {
                wrong.push(format!("greedy ids are {got:?}, not {want:?}"));
            }
        }
    }
    if let (Some(input), Some(want)) = (golden.input("long_input_ids"), golden.floats("long_logits")) {
        let got = reference.forward(&input)?.logits.expect("logits");
        let off = relative(&got, &want);
        if !within(off, LONG) {
            wrong.push(format!("long_logits are off by {off:.4} in relative L2"));
        }
    }
    if let Some(want) = golden.floats("logits_w_only") {
        let layers = model.layers.iter_mut().flat_map(projections).flatten();
        layers.for_each(|l| l.activation = None);
        let got = Reference::load(&model)?.forward(&input)?.logits.expect("logits");
        let d = distance(&got, &want, None, golden.tolerance);
        if !within(d, 1.0) {
            wrong.push(format!("logits_w_only are off by {d:.1} tolerances"));
        }
    }
    assert!(model.kind == Kind::Decoder || reference.start().is_err());
    Ok(wrong)
}

fn verdict(case: &Path) -> Option<String> {
    let name = case.file_name().unwrap().to_string_lossy();
    let refused = REFUSED.iter().find(|(n, _)| *n == name).map(|(_, message)| message);
    let said = |e: &Error| e.to_string().replace('\n', " ");
    match (check(case), refused) {
        (Ok(wrong), None) if wrong.is_empty() => None,
        (Ok(wrong), None) => Some(format!("{name}: {}", wrong.join("; "))),
        (Ok(_), Some(message)) => Some(format!("{name}: accepted, expected `{message}`")),
        (Err(e), Some(message)) if e.message().contains(message) => None,
        (Err(e), _) => Some(format!("{name}: {}", said(&e))),
    }
}

#[test]
fn every_case_is_matched_or_refused_by_name() {
    let cases = golden_folders();
    assert!(cases.len() > 5, "the golden checkpoints were not found");
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    failures.lock().unwrap().extend(verdict(case));
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// Reads a text in pieces and compares each time with the whole text so far.
fn session_is_forward(what: &str, model: &Model) {
    let reference = Reference::load(model).unwrap();
    let mut session = reference.start().unwrap();
    let ids: Vec<u32> = (0..14).map(|i| (i * 37 + 5) % 200).collect();
    let mut read = 0;
    for piece in [3, 1, 1, 4, 1, 1, 2, 1] {
        let got = session.step(&ids[read..read + piece]).unwrap();
        read += piece;
        let whole = reference.forward(&Input::text(&ids[..read])).unwrap().logits.unwrap();
        let want = &whole.data[whole.data.len() - got.len()..];
        let far = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
        assert!(far < 1e-4, "{what}: {far} off after {read} tokens");
    }
}

#[test]
fn a_text_read_in_pieces_gives_what_the_whole_gives() {
    for case in ["golden/llama", "golden/gemma2", "golden/gpt2", "golden/hunyuan_v1_dense", "golden/phi"] {
        session_is_forward(case, &import(&fixture(case)).unwrap());
    }
}

#[test]
fn frequencies_that_change_with_the_length_change_for_all_keys() {
    let mut model = import(&fixture("golden/llama")).unwrap();
    model.ropes[0].beyond = Beyond::Dynamic { from: 6, theta: 10_000.0, factor: 4.0 };
    session_is_forward("dynamic", &model);
    let slower = model.ropes[0].inv_freq.iter().map(|f| f / 3.0).collect();
    model.ropes[0].beyond = Beyond::Long { from: 6, inv_freq: slower };
    session_is_forward("long", &model);
}

#[test]
fn slopes_in_the_place_of_rotations() {
    let mut model = import(&fixture("golden/llama")).unwrap();
    model.layers.iter_mut().for_each(|l| l.attn.rope = None);
    let logits = |m: &Model| Reference::load(m).unwrap().forward(&Input::text(&[7, 8, 7, 9])).unwrap().logits.unwrap();
    let without = logits(&model);
    model.alibi = Some((1..=model.heads).map(|h| 1.0 / (1 << h) as f64).collect());
    assert_ne!(logits(&model), without);
    session_is_forward("slopes", &model);
}

#[test]
fn a_description_that_contradicts_itself_is_refused() {
    let refused = |what: &str, edit: fn(&mut Model)| {
        let mut model = import(&fixture("golden/qwen3")).unwrap();
        edit(&mut model);
        let e = Reference::load(&model).and_then(|r| r.forward(&Input::text(&[1, 2])).map(drop));
        assert!(e.is_err(), "{what} was accepted");
    };
    refused("heads that do not divide", |m| m.head_dim = 7);
    refused("heads of no channels", |m| m.head_dim = 0);
    refused("a norm that does not divide", |m| m.layers[0].attn_norm.as_mut().unwrap().len = 5);
    refused("a norm over nothing", |m| m.final_norm.as_mut().unwrap().len = 0);
    refused("a rotation wider than the head", |m| m.ropes[0].inv_freq = vec![1.0; 99]);
    refused("a rotation that is not there", |m| m.layers[0].attn.rope = Some(9));
    refused("matrices that do not follow each other", |m| m.layers[0].mlp.down = m.layers[0].attn.q.clone());
    refused("another width than the embedding", |m| m.layers[0].attn.o = m.layers[0].attn.k.clone());
}

#[test]
fn inputs_that_the_model_does_not_have() {
    let whisper = Reference::load(&import(&fixture("golden/whisper")).unwrap()).unwrap();
    let gpt2 = Reference::load(&import(&fixture("golden/gpt2")).unwrap()).unwrap();
    let said = |r: &Reference, input: Input| r.forward(&input).map(drop).unwrap_err().message().to_string();
    let text = Input::text(&[1, 2, 3]);
    let sound = |shape: [usize; 3]| Array { shape: shape.to_vec(), data: vec![0.0; shape.iter().product()] };
    assert!(said(&whisper, text.clone()).contains("needs audio features"));
    let short = Input { features: Some(sound([1, 16, 40])), ..text.clone() };
    assert!(said(&whisper, short).contains("[n, 16, 48] is needed"));
    let two = Input { features: Some(sound([2, 16, 48])), ..text.clone() };
    assert!(said(&whisper, two).contains("for 1 texts"));
    assert!(said(&gpt2, Input { features: Some(sound([1, 16, 48])), ..text.clone() }).contains("speech"));
    assert!(said(&gpt2, Input::text(&[1 << 30])).contains("token id 1073741824"));
    assert!(said(&gpt2, Input::text(&[])).contains("some element"));
    assert!(said(&gpt2, Input::text(&[1; 5000])).contains("position"));
    assert!(said(&gpt2, Input { mask: Some(vec![true; 2]), ..text.clone() }).contains("one shape"));
    assert!(said(&gpt2, Input { texts: 2, ..text }).contains("one shape"));
    assert!(gpt2.start().unwrap().step(&[]).is_err());
}
