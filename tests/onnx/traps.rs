//! What runtimes get wrong or refuse, each kept out of every file (docs/onnx.md says why).

use crate::common::fixture;
use crate::graph::{Opened, INT16, INT32, INT64, INT8, UINT16, UINT8};
use crate::support::{export, onnx, packed, place};
use bitnet_convert::format::onnx::messages::{DimensionValue, NodeProto, TensorProto};
use std::path::PathBuf;
use std::sync::OnceLock;

/// A model with 2-bit activations, one with 8, one of another family, one with scales for groups of columns, an encoder; each in every profile
/// that takes it.
fn files() -> &'static [Opened] {
    static FILES: OnceLock<Vec<Opened>> = OnceLock::new();
    FILES.get_or_init(|| {
        let profiles = ["--profile int", "--profile std", "--profile ort"];
        let mut all: Vec<(PathBuf, &str)> = Vec::new();
        for model in [
            "models/intent-w1a2",
            "golden/bitnet_packed_2b4t_like",
            "golden/gpt_neox",
            "golden/bonsai_binary_mlx_1bit",
            "golden/bert_mlm",
        ] {
            let packed = packed(&fixture(model));
            let taken = profiles.into_iter().filter(|p| !model.contains("bert") || !p.contains("ort"));
            all.extend(taken.map(|options| (packed.clone(), options)));
        }
        let intent = packed(&fixture("models/intent-w1a2"));
        let more = [
            "--profile int --static 16",
            "--profile int --logits float",
            "--weights int4",
            "--weights int2",
            "--norm f32",
            "--profile ort --exact",
            "--profile ort --weights int2",
        ];
        all.extend(more.map(|options| (intent.clone(), options)));
        all.into_iter().map(|(packed, options)| Opened::new(&onnx(&packed, options))).collect()
    })
}

#[test]
fn no_file_has_dequantize_linear() {
    // ONNX Runtime turns it and a MatMul into products of its own rounded activations.
    for o in files() {
        for op in ["DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear", "QLinearMatMul"] {
            assert!(o.nodes(op).is_empty(), "{}: {op}", o.path.display());
        }
    }
}

#[test]
fn int8_is_never_multiplied_by_int8() {
    // Correct, and a hundred times slower than uint8 by int8 on most processors.
    let mut seen = 0;
    for o in files() {
        for n in o.nodes("MatMulInteger") {
            let (a, b) = (o.elem(&n.input[0]), o.elem(&n.input[1]));
            assert_eq!(a, UINT8, "{}: left side of {}", o.path.display(), n.name);
            assert!([INT8, UINT8].contains(&b), "{}: right side of {} has type {b}", o.path.display(), n.name);
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} products");
}

#[test]
fn int8_weights_are_small_enough_for_pairs_in_16_bits() {
    // Processors without VNNI add two products of uint8 by int8 in saturating 16 bits: 2 * 255 * 64 fits, more does not.
    let mut seen = 0;
    for o in files() {
        for n in o.nodes("MatMulInteger").iter().filter(|n| o.elem(&n.input[1]) == INT8) {
            let Some(t) = o.initializer(&n.input[1]) else { continue };
            let bytes = o.loaded.tensor_bytes(t).unwrap();
            let largest = bytes.iter().map(|b| (*b as i8).unsigned_abs()).max().unwrap_or(0);
            assert!(largest <= 64, "{}: {} has a weight of {largest}", o.path.display(), t.name);
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} matrices");
}

#[test]
fn zero_points_are_scalars() {
    // A vector of one is read as one for each row by some runtimes.
    let mut seen = 0;
    for o in files() {
        for n in o.nodes("MatMulInteger") {
            for zero in n.input.iter().skip(2).filter(|z| !z.is_empty()) {
                let t = o.initializer(zero).unwrap_or_else(|| panic!("{}: {zero} is no constant", o.path.display()));
                assert!(t.dims.is_empty(), "{}: {zero} has the shape {:?}", o.path.display(), t.dims);
                seen += 1;
            }
        }
    }
    assert!(seen > 100, "only {seen} zero points");
}

#[test]
fn nothing_narrow_is_selected() {
    // Where has no kernel for these in older runtimes, nor have Max, Min and Clip for 16 bits.
    let narrow = [INT8, UINT8, INT16, UINT16];
    for o in files() {
        for n in o.nodes("Where") {
            let elem = o.elem(&n.input[1]);
            assert!(elem != 0 && !narrow.contains(&elem), "{}: {} selects type {elem}", o.path.display(), n.name);
        }
        for op in ["Max", "Min", "Clip"] {
            for n in o.nodes(op) {
                let elem = o.elem(&n.input[0]);
                assert!(![INT16, UINT16].contains(&elem), "{}: {} has type {elem}", o.path.display(), n.name);
            }
        }
        for op in ["ReduceSum", "CumSum", "ReduceMean"] {
            for n in o.nodes(op) {
                let elem = o.elem(&n.input[0]);
                assert!(!narrow.contains(&elem), "{}: {} sums type {elem}", o.path.display(), n.name);
            }
        }
    }
}

#[test]
fn integers_are_not_shifted_by_operators_that_lack_signed_kernels() {
    for o in files() {
        assert!(o.nodes("BitShift").is_empty(), "{}", o.path.display());
    }
}

#[test]
fn versions_are_low() {
    // Every new release of the onnx package writes a version that the released runtimes refuse.
    for o in files() {
        let (ir, opset) = (o.loaded.model.ir_version, o.loaded.opset("").unwrap());
        let name = o.path.file_name().unwrap().to_string_lossy().into_owned();
        let expected = match &name[..] {
            n if n.contains("int4") || n.contains("profile_ort") => (10, 21),
            n if n.contains("int2") => (13, 25),
            _ => (7, 13),
        };
        assert_eq!((ir, opset), expected, "{name}");
        assert_eq!(o.loaded.opset("com.microsoft").is_some(), name.contains("profile_ort"), "{name}");
    }
}

#[test]
fn a_raised_opset_stays_below_the_ceiling() {
    let packed = packed(&fixture("models/intent-w1a2"));
    for opset in ["14", "17", "18", "21", "26"] {
        for profile in ["int", "std", "ort"].into_iter().filter(|p| *p != "ort" || opset >= "21") {
            let o = Opened::new(&onnx(&packed, &format!("--profile {profile} --opset {opset}")));
            assert_eq!(o.loaded.opset("").unwrap().to_string(), opset);
            assert!(o.loaded.model.ir_version <= 13);
        }
    }
    let refused = export(&packed, &place().join("27.onnx"), "--opset 27");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("13 to 26"), "{}", refused.stderr);
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    let packed = packed(&fixture("models/intent-w1a2"));
    let checkpoint = fixture("models/intent-w1a2");
    for (i, options) in ["--profile int", "--profile std", "--profile ort"].into_iter().enumerate() {
        let first = onnx(&packed, options);
        let data = |p: &std::path::Path| std::fs::read(format!("{}.data", p.display())).unwrap();
        for (from, how) in [(&packed, "again"), (&checkpoint, "from the checkpoint")] {
            let folder = place().join(format!("same{i}{}", how.len()));
            std::fs::create_dir_all(&folder).unwrap();
            let second = folder.join(first.file_name().unwrap());
            export(from, &second, options).ok();
            assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap(), "{options}, {how}");
            assert!(data(&first) == data(&second), "{options}, {how}: the weights");
        }
    }
}

fn attribute(n: &NodeProto, name: &str) -> Option<i64> {
    n.attribute.iter().find(|a| a.name == name).and_then(|a| a.i)
}

#[test]
fn the_last_weight_of_a_block_is_0_where_activations_may_be_rounded() {
    // The activation there is 127 whatever the block holds, so that a rounded step is 1.
    let mut seen = [0; 2];
    for o in files() {
        for n in o.nodes("MatMulNBits") {
            let number =
                |name| attribute(n, name).unwrap_or_else(|| panic!("{}: {} has no {name}", o.path.display(), n.name));
            let (bits, block, k) = (number("bits"), number("block_size"), number("K"));
            assert!([2, 4].contains(&bits) && [32, 64, 128].contains(&block), "{}: {}", o.path.display(), n.name);
            assert_eq!(n.input.len(), 3, "{}: {} has zero points of its own", o.path.display(), n.name);
            let level = number("accuracy_level");
            assert!([1, 4].contains(&level) && (level == 4 || bits == 4), "{}: {}", o.path.display(), n.name);
            seen[usize::from(level == 4)] += 1;
            if level == 1 {
                continue;
            }
            assert_eq!(k % block, 0, "{}: {}", o.path.display(), n.name);
            let codes = o.loaded.tensor_bytes(o.initializer(&n.input[1]).unwrap()).unwrap();
            let zero = 1u8 << (bits - 1);
            for bytes in codes.chunks((block * bits / 8) as usize) {
                assert_eq!(bytes.last().unwrap() >> (8 - bits), zero, "{}: {}", o.path.display(), n.name);
            }
        }
    }
    assert!(seen.iter().all(|n| *n > 10), "{seen:?} products at levels 1 and 4");
}

#[test]
fn attention_leaves_nothing_to_the_runtime() {
    // Windows count a token more in some releases, rotation counts padding, a scale of its own follows the padded width.
    let mut seen = 0;
    for o in files() {
        for n in o.nodes("GroupQueryAttention") {
            let of = |name| n.attribute.iter().any(|a| a.name == name);
            assert!(of("scale") && !of("local_window_size") && !of("do_rotary"), "{}: {}", o.path.display(), n.name);
            assert_eq!(n.input.len(), 11, "{}: {} has no bias", o.path.display(), n.name);
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen}");
}

fn external<'a>(t: &'a TensorProto, key: &str) -> Option<&'a str> {
    t.external_data.iter().find(|e| e.key == key).map(|e| &e.value[..])
}

#[test]
fn weights_lie_aligned_in_a_file_of_their_own() {
    for o in files() {
        let data = format!("{}.data", o.path.file_name().unwrap().to_string_lossy());
        let length = std::fs::metadata(o.path.with_file_name(&data)).unwrap().len();
        let mut ranges = Vec::new();
        for t in &o.graph().initializer {
            let bytes = o.loaded.tensor_bytes(t).unwrap().len() as u64;
            let Some(location) = external(t, "location") else {
                assert!(bytes < 1024, "{}: {} has {bytes} bytes inside", o.path.display(), t.name);
                continue;
            };
            assert_eq!(location, data);
            let number = |key| external(t, key).unwrap().parse::<u64>().unwrap();
            let alignment = if bytes < 1 << 20 { 4096 } else { 65_536 };
            assert_eq!(number("offset") % alignment, 0, "{}: {}", o.path.display(), t.name);
            assert_eq!(number("length"), bytes);
            assert!(number("offset") + bytes <= length);
            ranges.push((number("offset"), bytes));
        }
        ranges.sort_unstable();
        assert!(!ranges.is_empty());
        assert!(ranges.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0), "{}: tensors overlap", o.path.display());
    }
}

#[test]
fn the_metadata_says_where_a_file_comes_from() {
    for o in files() {
        let at = o.path.display();
        let meta = |key: &str| o.loaded.meta(key).unwrap_or_else(|| panic!("{at}: no {key}")).to_string();
        assert!(["int", "std", "ort"].contains(&&*meta("bitnet.profile")), "{at}");
        assert_eq!(meta("bitnet.semantics"), "2", "{at}");
        assert_eq!(meta("bitnet.source").len(), 64, "{at}");
        assert_eq!(meta("bitnet.model_id").len(), 16, "{at}");
        for key in ["bitnet.max_tokens", "bitnet.weights", "bitnet.activations"] {
            meta(key);
        }
        assert_eq!(o.loaded.model.producer_name, "bitnet-convert");
    }
}

#[test]
fn names_and_types_are_those_that_others_look_for() {
    for o in files() {
        let name = o.path.file_name().unwrap().to_string_lossy().into_owned();
        let inputs: Vec<&str> = o.graph().input.iter().map(|i| &i.name[..]).collect();
        let outputs: Vec<&str> = o.graph().output.iter().map(|i| &i.name[..]).collect();
        assert_eq!(inputs[0], "input_ids", "{name}");
        assert_eq!(o.elem("input_ids"), INT64, "{name}");
        if name.contains("bert") {
            assert!(
                outputs.contains(&"last_hidden_state") && outputs.contains(&"sentence_embedding"),
                "{name}: {outputs:?}"
            );
            continue;
        }
        assert_eq!(outputs[0], "logits", "{name}");
        let mask = if name.contains("static") { "position_ids" } else { "attention_mask" };
        assert_eq!(inputs[1], mask, "{name}");
        for (input, output) in inputs.iter().filter(|i| i.contains("past")).zip(&outputs[1..]) {
            assert_eq!(input.replace("past_key_values.", "present."), **output, "{name}");
        }
        if name.contains("int") && !name.contains("float") && o.loaded.meta("bitnet.profile") == Some("int") {
            assert_eq!(o.loaded.meta("logits_scale"), Some("1/65536"), "{name}");
            assert_eq!(
                o.graph().output[0].r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().elem_type,
                INT32,
                "{name}"
            );
        }
    }
}

#[test]
fn a_static_file_has_no_unknown_dimension() {
    let static_one = files().iter().find(|o| o.path.to_string_lossy().contains("static")).unwrap();
    for i in static_one.graph().input.iter().chain(&static_one.graph().output) {
        let dims = &i.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref().unwrap().dim;
        assert!(dims.iter().all(|d| matches!(d.value, Some(DimensionValue::Value(_)))), "{}: {dims:?}", i.name);
    }
}
