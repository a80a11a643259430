//! Weights that are cut, lie about themselves or hold what is no weight. Every test runs the program itself: exit code 2, an error with file,
//! tensor and byte, nothing left behind, no panic.

mod common;

use common::checkpoint::{safetensors, with_header, Bench, Checkpoint, Raw, DOWN, EMBED, FFN, HIDDEN, NORM, Q, VOCAB};
use common::listing;

const FILE: &str = "model.safetensors";

/// The good checkpoint with another weight file.
fn with_file(data: &[u8]) -> Bench {
    Bench::new(&Checkpoint::online()).file(FILE, data)
}

#[track_caller]
fn refused(c: &Checkpoint, names: &[&str]) {
    Bench::new(c).refused(names);
}

/// Without this the failures below would prove nothing.
#[test]
fn the_unchanged_checkpoints_are_exported() {
    for c in [Checkpoint::online(), Checkpoint::packed()] {
        let b = Bench::new(&c);
        b.export(&[]).ok();
        assert_eq!(listing(&b.out()), ["model.bitnet"]);
    }
}

// ---- the file as a whole ----

#[test]
fn file_truncated() {
    let file = safetensors(&Checkpoint::online().tensors);
    let header = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    for n in [0, 4, 8, 100, header - 1, header, header + 1, file.len() / 2, file.len() - 1] {
        with_file(&file[..n]).refused(&["not a usable safetensors file", FILE, "byte ", "hint: "]);
    }
}

#[test]
fn file_with_bytes_appended() {
    let mut file = safetensors(&Checkpoint::online().tensors);
    file.push(0);
    with_file(&file).refused(&["not a usable safetensors file", FILE]);
}

#[test]
fn header_length_absurd() {
    for n in [1u64 << 60, u64::MAX, u64::MAX - 7, 1 << 31, 0, 1] {
        let mut file = safetensors(&Checkpoint::online().tensors);
        file[..8].copy_from_slice(&n.to_le_bytes());
        with_file(&file).refused(&["not a usable safetensors file", FILE]);
    }
}

#[test]
fn header_is_no_json() {
    for header in ["", "{", "[]", "null", "{\"a\":1}", "{\"a\":{\"dtype\":\"F32\"}}", "\u{0}\u{0}"] {
        with_file(&with_header(header, &[0; 64])).refused(&["not a usable safetensors file", FILE]);
    }
    with_file(&[8, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFE, 0xFF, 0xFE, 0xFF, 0xFE, 0xFF, 0xFE])
        .refused(&["not a usable", FILE]);
}

#[test]
fn header_nested_a_hundred_thousand_times() {
    with_file(&with_header(&"[".repeat(100_000), &[])).refused(&["not a usable safetensors file", FILE]);
    with_file(&with_header(&"{\"a\":".repeat(100_000), &[])).refused(&["not a usable safetensors file", FILE]);
}

#[test]
fn two_hundred_bytes_that_claim_huge_shapes() {
    for (shape, end) in [
        ("[1099511627776,1048576]", "4611686018427387904"),
        ("[18446744073709551615,2]", "18446744073709551615"),
        ("[4294967296,4294967296]", "0"),
        ("[64,32]", "8192"),
        ("[1000000000]", "4000000000"),
        ("[-1,32]", "8192"),
        ("[1e3,32]", "8192"),
    ] {
        let header = format!("{{\"{EMBED}\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,{end}]}}}}");
        let mut file = with_header(&header, &[]);
        file.resize(200, 0);
        with_file(&file).refused(&["not a usable safetensors file", FILE]);
    }
}

#[test]
fn offsets_overlap() {
    let header = r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}}"#;
    with_file(&with_header(header, &[0; 24])).refused(&["not a usable safetensors file", FILE]);
}

#[test]
fn offsets_leave_a_gap() {
    let header = r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[32,48]}}"#;
    with_file(&with_header(header, &[0; 48])).refused(&["not a usable safetensors file", FILE]);
}

#[test]
fn offsets_run_backwards() {
    let header = r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}"#;
    with_file(&with_header(header, &[0; 16])).refused(&["not a usable safetensors file", FILE]);
}

#[test]
fn size_contradicts_the_shape() {
    let header = r#"{"a":{"dtype":"F32","shape":[5],"data_offsets":[0,16]}}"#;
    with_file(&with_header(header, &[0; 16])).refused(&["not a usable safetensors file", FILE]);
}

#[test]
fn a_packed_model_instead_of_safetensors() {
    with_file(&common::tiny_bytes()).refused(&["not a usable safetensors file", FILE]);
}

#[test]
fn no_weights_at_all() {
    let b = Bench::new(&Checkpoint::online());
    std::fs::remove_file(b.model().join(FILE)).unwrap();
    b.refused(&["there is no `model.safetensors`"]);
    let b = b.file("consolidated.00.pth", "x");
    b.refused(&["`consolidated.00.pth` is not read", "hint: "]);
    b.file("pytorch_model.bin", "x").refused(&["not a usable safetensors file", "pytorch_model.bin"]);
}

// ---- single tensors ----

#[test]
fn dtype_of_a_projection() {
    for dtype in ["I32", "U32"] {
        refused(&Checkpoint::with(|c| c.tensor(Q).dtype = dtype), &[dtype, Q, FILE, "byte "]);
    }
}

#[test]
fn dtype_of_a_norm() {
    refused(&Checkpoint::with(|c| c.tensor(NORM).dtype = "I32"), &["I32", NORM, FILE, "byte "]);
}

#[test]
fn dtype_of_the_embedding() {
    refused(&Checkpoint::with(|c| c.tensor(EMBED).dtype = "U32"), &["U32", EMBED, FILE, "byte "]);
}

#[test]
fn packed_codes_that_nobody_announced() {
    let c = Checkpoint::packed_with(|c| c.config["quantization_config"]["quantization_mode"] = "online".into());
    refused(&c, &["holds packed codes", "offline", Q, FILE]);
}

#[test]
fn floats_where_packed_codes_were_announced() {
    let c = Checkpoint::with(|c| c.config["quantization_config"]["quantization_mode"] = "offline".into());
    refused(&c, &["packed uint8 codes are expected", FILE]);
}

#[test]
fn shapes_that_contradict_the_configuration() {
    for (name, shape) in [
        (Q, vec![HIDDEN, HIDDEN / 2, 2]),
        (Q, vec![HIDDEN * HIDDEN]),
        (DOWN, vec![FFN, HIDDEN]),
        (EMBED, vec![HIDDEN, VOCAB]),
        (NORM, vec![1, HIDDEN]),
    ] {
        let c = Checkpoint::with(|c| c.tensor(name).shape.clone_from(&shape));
        refused(&c, &[&format!("has shape {shape:?}"), "the configuration asks for", name, FILE, "byte "]);
    }
}

#[test]
fn an_empty_tensor() {
    let empty = |c: &mut Checkpoint| {
        let t = c.tensor(Q);
        (t.shape, t.data) = (vec![0, HIDDEN], Vec::new());
    };
    refused(&Checkpoint::with(empty), &["has shape [0, 32]", Q, FILE]);
}

/// NaN and infinities in every float type and every kind of tensor, with the byte at which they lie.
#[test]
fn values_that_are_no_numbers() {
    for (name, element) in [(Q, 0), (Q, HIDDEN * HIDDEN - 1), (DOWN, 77), (NORM, 3), (EMBED, VOCAB * HIDDEN - 1)] {
        for (value, text) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
            for dtype in ["F32", "F16", "BF16"] {
                let c = Checkpoint::with(|c| {
                    let t = c.tensor(name);
                    t.set(element, value);
                    if dtype != "F32" {
                        t.to(dtype);
                    }
                });
                let size = if dtype == "F32" { 4 } else { 2 };
                let at = format!(", byte {}\n", c.offset(name) + element * size);
                refused(&c, &[&format!("element {element} is {text}"), name, &at, FILE, "hint: "]);
            }
        }
    }
}

/// The largest finite values are no reason to fail.
#[test]
fn huge_finite_values_are_converted() {
    for value in [f32::MAX, f32::MIN, f32::MIN_POSITIVE / 4.0] {
        for name in [Q, DOWN, NORM, EMBED] {
            let c = Checkpoint::with(|c| (0..HIDDEN).for_each(|i| c.tensor(name).set(i, value)));
            let b = Bench::new(&c);
            b.export(&[]).ok();
            common::tool("inspect {}", &[&b.output()]).ok();
        }
    }
}

#[test]
fn zeros_everywhere_are_converted() {
    let c = Checkpoint::with(|c| c.tensors.iter_mut().for_each(|t| t.data.fill(0)));
    Bench::new(&c).export(&[]).ok();
    Bench::new(&c).export(&["--quantize-weight", "1", "--quantize-activation", "2", "--kv-bits", "4"]).ok();
}

// ---- packed codes and their scales ----

#[test]
fn packed_code_3() {
    for (row, col) in [(0, 0), (5, 31), (8 + 2, 7), (31, 31)] {
        let mut c = Checkpoint::packed();
        let (block, at) = (HIDDEN / 4, (row % (HIDDEN / 4)) * HIDDEN + col);
        c.tensor(Q).data[at] |= 3 << (2 * (row / block));
        let at = format!(", byte {}\n", c.offset(Q) + at);
        refused(&c, &[&format!("row {row}, column {col} is 3"), Q, &at, FILE]);
    }
}

#[test]
fn weight_scale_that_is_no_positive_number() {
    let name = format!("{Q}_scale");
    for (value, text) in [(0.0, "0"), (-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let c = Checkpoint::packed_with(|c| c.tensor(&name).set(0, value));
        refused(&c, &[text, &name, FILE, "byte "]);
        let divides = Checkpoint::packed_with(|c| {
            c.tensor(&name).set(0, value);
            c.config["quantization_config"]["linear_class"] = "bitlinear".into();
        });
        refused(&divides, &[&name, FILE, "byte "]);
    }
}

#[test]
fn weight_scale_of_two_elements() {
    let name = format!("{Q}_scale");
    let c = Checkpoint::packed_with(|c| *c.tensor(&name) = Raw::f32(&name, &[2], &[1.0, 1.0]));
    refused(&c, &["2 elements", &name, FILE]);
}

#[test]
fn weight_scale_that_is_no_float() {
    let name = format!("{Q}_scale");
    let c = Checkpoint::packed_with(|c| c.tensor(&name).dtype = "I32");
    refused(&c, &["I32", &name, FILE]);
}

// ---- the set of tensors ----

#[test]
fn tensors_missing() {
    for name in
        [Q, DOWN, NORM, EMBED, "model.layers.0.self_attn.attn_sub_norm.weight", "model.layers.0.input_layernorm.weight"]
    {
        refused(&Checkpoint::with(|c| c.remove(name)), &["missing from the checkpoint", name, FILE, "hint: "]);
    }
    let scale = format!("{DOWN}_scale");
    refused(&Checkpoint::packed_with(|c| c.remove(&scale)), &["missing from the checkpoint", &scale, FILE]);
}

#[test]
fn layers_missing() {
    let c = Checkpoint::with(|c| c.config["num_hidden_layers"] = 2.into());
    refused(&c, &["missing from the checkpoint", "model.layers.1.", FILE]);
}

#[test]
fn tensors_that_have_no_place() {
    for name in [
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.1.mlp.up_proj.weight",
        "vision_tower.patch.weight",
        "x",
    ] {
        let c = Checkpoint::with(|c| c.tensors.push(Raw::f32(name, &[HIDDEN], &[0.0; HIDDEN])));
        refused(&c, &["have no place in this architecture", name, FILE, "hint: "]);
    }
}

/// A bias that the configuration is silent about is read; one that it denies is a contradiction.
#[test]
fn a_bias_that_the_configuration_does_not_promise() {
    const BIAS: &str = "model.layers.0.self_attn.q_proj.bias";
    let with_bias = |c: &mut Checkpoint| c.tensors.push(Raw::f32(BIAS, &[HIDDEN], &[0.5; HIDDEN]));
    Bench::new(&Checkpoint::with(with_bias)).export(&[]).ok();
    let denied = Checkpoint::with(|c| {
        with_bias(c);
        c.config["attention_bias"] = false.into();
    });
    refused(&denied, &["the configuration says that there is none", BIAS, "config.json"]);
    let long = Checkpoint::with(|c| c.tensors.push(Raw::f32(BIAS, &[HIDDEN + 1], &[0.5; HIDDEN + 1])));
    refused(&long, &["has shape [33]", BIAS, FILE]);
}

#[test]
fn one_tensor_under_two_names_with_different_values() {
    let c = Checkpoint::with(|c| {
        let mut twin = c.tensor(NORM).clone();
        twin.name = "model.model.norm.weight".into();
        twin.set(0, 2.0);
        c.tensors.push(twin);
    });
    refused(&c, &["are the same tensor with different values", NORM, FILE]);
}

#[test]
fn a_head_that_contradicts_the_tie() {
    let c =
        Checkpoint::with(|c| c.tensors.push(Raw::f32("lm_head.weight", &[VOCAB, HIDDEN], &vec![1.0; VOCAB * HIDDEN])));
    refused(&c, &["`tie_word_embeddings` is true", "lm_head.weight", "config.json"]);
}

/// A name is data from a stranger: it must not be able to write escape sequences or lines of its own to the terminal.
#[test]
fn control_characters_in_a_name_do_not_reach_the_terminal() {
    let name = "evil\u{1b}[2J\u{1b}]0;owned\u{7}\nerror: all is well\r";
    let c = Checkpoint::with(|c| c.tensors.push(Raw::f32(name, &[1], &[0.0])));
    let b = Bench::new(&c);
    let run = b.refused(&["have no place", "evil"]);
    assert!(!run.stderr.contains(|c: char| c.is_control() && c != '\n'), "{:?}", run.stderr);
    assert_eq!(run.stderr.lines().filter(|l| l.starts_with("error: ")).count(), 1, "{}", run.stderr);
    let list = common::tool("inspect {}", &[&b.model().join(FILE)]).ok();
    assert!(list.stdout.contains("evil"), "{}", list.stdout);
    assert!(!list.stdout.contains(|c: char| c.is_control() && c != '\n'), "{:?}", list.stdout);
}

// ---- several files ----

fn sharded(index: &str) -> Bench {
    let c = Checkpoint::packed();
    let b = Bench::empty();
    c.write(&b.model());
    std::fs::remove_file(b.model().join(FILE)).unwrap();
    let (scales, rest): (Vec<Raw>, Vec<Raw>) = c.tensors.into_iter().partition(|t| t.name.ends_with("_scale"));
    b.file("a.safetensors", safetensors(&rest))
        .file("b.safetensors", safetensors(&scales))
        .file("model.safetensors.index.json", index)
}

fn index(entries: &[(&str, &str)]) -> String {
    let map: serde_json::Map<_, _> = entries.iter().map(|(k, v)| (k.to_string(), serde_json::json!(v))).collect();
    serde_json::json!({ "weight_map": map }).to_string()
}

#[test]
fn shards_are_read() {
    let b = sharded(&index(&[(Q, "a.safetensors"), (&format!("{Q}_scale"), "b.safetensors")]));
    b.export(&[]).ok();
}

#[test]
fn shard_missing() {
    sharded(&index(&[(Q, "c.safetensors")])).refused(&["c.safetensors", "No such file"]);
}

#[test]
fn shard_outside_of_the_folder() {
    for path in ["../secret.safetensors", "/etc/passwd", "..", "", "a\\b"] {
        sharded(&index(&[(Q, path)])).refused(&["`weight_map` has", "model.safetensors.index.json", Q]);
    }
}

#[test]
fn shard_that_is_no_safetensors_file() {
    sharded(&index(&[(Q, "config.json")])).refused(&["not a usable safetensors file", "config.json"]);
    sharded(&index(&[(Q, ".")])).refused(&["not a regular file"]);
}

#[test]
fn shard_without_the_promised_tensor() {
    sharded(&index(&[("model.ghost", "a.safetensors")])).refused(&[
        "no file has it",
        "model.ghost",
        "model.safetensors.index.json",
    ]);
}

#[test]
fn index_without_a_map() {
    for text in ["{}", "{\"weight_map\":{}}", "{\"weight_map\":[]}", "{\"weight_map\":{\"a\":1}}", "[]", "x"] {
        sharded(text).refused(&["model.safetensors.index.json"]);
    }
}

#[test]
fn a_bad_value_in_another_shard_is_blamed_on_that_shard() {
    let b = sharded(&index(&[(Q, "a.safetensors"), (&format!("{Q}_scale"), "b.safetensors")]));
    let mut c = Checkpoint::packed();
    let name = format!("{Q}_scale");
    c.tensor(&name).set(0, f32::NAN);
    let scales: Vec<Raw> = c.tensors.into_iter().filter(|t| t.name.ends_with("_scale")).collect();
    b.file("b.safetensors", safetensors(&scales)).refused(&["NaN", &name, "b.safetensors"]);
}
