//! The commands of the float reference: `logits --float`, `run --float` and `embed`.

#![cfg(feature = "reference")]

mod common;

use bitnet_convert::format::{safetensors, File};
use common::{fixture, tiny, tool, Run};
use std::path::Path;

fn refused(run: Run, reason: &str) {
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains(reason), "expected `{reason}`: {}", run.stderr);
    run.never_panicked();
}

fn golden(case: &str) -> (std::path::PathBuf, File) {
    let dir = fixture(case);
    let file = File::open(&dir.join("golden.safetensors")).unwrap();
    (dir, file)
}

#[test]
fn logits_of_a_list_of_ids_are_those_of_transformers() {
    let (dir, file) = golden("golden/llama");
    let ids = file.get("input_ids").unwrap();
    let len = ids.shape[1];
    let list: Vec<String> = ids.data.as_chunks().0[..len].iter().map(|b| i64::from_le_bytes(*b).to_string()).collect();
    let got = tool(&format!("logits {{}} --float --input-ids {} --json", list.join(",")), &[&dir]).ok().json();
    let want = file.get("logits").unwrap().to_f32().unwrap();
    let rows = got["logits"].as_array().unwrap();
    assert_eq!(rows.len(), len);
    let values: Vec<f64> = rows.iter().flat_map(|r| r.as_array().unwrap()).map(|v| v.as_f64().unwrap()).collect();
    assert!(values.iter().zip(&want).all(|(g, w)| (g - f64::from(*w)).abs() < 2e-4));
    assert_eq!(got["argmax"].as_array().unwrap().len(), len);
}

#[test]
fn logits_of_a_file_of_ids_are_written_as_tensors() {
    let (dir, file) = golden("golden/llama");
    let out = tempfile::tempdir().unwrap();
    let (ids, out) =
        (format!("{}:input_ids", dir.join("golden.safetensors").display()), out.path().join("o.safetensors"));
    tool("logits {} --float --input-ids {} -o {}", &[&dir, Path::new(&ids), &out]).ok();
    let written = File::open(&out).unwrap();
    let (got, want) = (written.get("logits").unwrap(), file.get("logits").unwrap());
    assert_eq!(got.shape, want.shape);
    let (got, want) = (got.to_f32().unwrap(), want.to_f32().unwrap());
    assert!(got.iter().zip(&want).all(|(g, w)| (g - w).abs() < 2e-4));
    assert_eq!(written.names().collect::<Vec<_>>(), ["logits"]);
}

#[test]
fn an_id_outside_of_the_vocabulary() {
    refused(tool("logits {} --float --input-ids 1,99999", &[&fixture("golden/llama")]), "token id 99999");
}

#[test]
fn a_file_of_ids_without_an_output() {
    let run = tool("logits {} --float --input-ids x.safetensors:input_ids", &[&fixture("golden/llama")]);
    refused(run, "need a file for the result");
}

#[test]
fn a_tensor_of_ids_that_holds_floats() {
    let dir = tempfile::tempdir().unwrap();
    let (ids, out) = (dir.path().join("ids.safetensors"), dir.path().join("o.safetensors"));
    safetensors::write(&ids, &[("input_ids", &[1, 2], &[1.0, 2.0])]).unwrap();
    let run = tool("logits {} --float --input-ids {} -o {}", &[&fixture("golden/llama"), &ids, &out]);
    refused(run, "holds F32, whole numbers");
    assert!(!out.exists());
}

#[test]
fn a_tensor_of_ids_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let (ids, out) = (dir.path().join("ids.safetensors"), dir.path().join("o.safetensors"));
    safetensors::write(&ids, &[("other", &[1], &[1.0])]).unwrap();
    refused(
        tool("logits {} --float --input-ids {} -o {}", &[&fixture("golden/llama"), &ids, &out]),
        "there is no tensor `input_ids`",
    );
}

#[test]
fn an_output_without_float() {
    refused(tool("logits {} --input-ids 1 -o x", &[&tiny()]), "--float");
}

#[test]
fn the_float_model_speaks_as_it_was_trained() {
    let dir = fixture("models/stories-b158");
    let got = tool("run {} --float --prompt Once --max-new-tokens 12 --json", &[&dir]).ok().json();
    assert_eq!(got["generated_ids"].as_array().unwrap().len(), 12);
    assert!(got["text"].as_str().unwrap().split_whitespace().count() > 3, "{got}");
}

#[test]
fn text_for_a_checkpoint_without_tokenizer() {
    refused(tool("run {} --float --prompt Once", &[&fixture("golden/llama")]), "no `tokenizer.json`");
    refused(tool("embed {} --text Once", &[&fixture("golden/llama")]), "no `tokenizer.json`");
}

#[test]
fn equal_texts_have_equal_vectors_of_length_one() {
    let dir = fixture("models/intent-b158");
    let got = tool("embed {} --text light --text light --text music --json", &[&dir]).ok().json();
    let cosine = |i: usize, j: usize| got["cosine"][i][j].as_f64().unwrap();
    assert!((cosine(0, 1) - 1.0).abs() < 1e-6 && cosine(0, 2) < 0.9999, "{}", got["cosine"]);
    let first = got["embeddings"][0]["embedding"].as_array().unwrap();
    assert_eq!(first.len() as u64, got["dimensions"].as_u64().unwrap());
    let square: f64 = first.iter().map(|v| v.as_f64().unwrap().powi(2)).sum();
    assert!((square - 1.0).abs() < 1e-5);
    assert_eq!(got["embeddings"][0]["embedding"], got["embeddings"][1]["embedding"]);
    let text = tool("embed {} --text light --text music", &[&dir]).ok().stdout;
    assert!(text.contains("# cosine"), "{text}");
}

#[test]
fn the_embedding_of_an_artifact() {
    refused(tool("embed {} --text Once", &[&tiny()]), "this model gives logits, not embeddings");
}
