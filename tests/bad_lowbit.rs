//! Low-bit checkpoints that contradict themselves. Each is refused with the tensor, or read as what it is; none is read as something else.

mod common;

use bitnet_convert::error::{Error, Kind};
use bitnet_convert::import::import;
use bitnet_convert::model::{Form, Model, Source};
use common::checkpoint::{Checkpoint, Raw, FFN, HIDDEN, Q};
use serde_json::json;

const MODULE: &str = "model.layers.0.self_attn.q_proj";

/// A float llama of one layer, changed.
fn llama(edit: impl FnOnce(&mut Checkpoint)) -> Checkpoint {
    Checkpoint::with(|c| {
        c.config["architectures"] = json!(["LlamaForCausalLM"]);
        c.config["model_type"] = json!("llama");
        c.config["hidden_act"] = json!("silu");
        c.config.as_object_mut().unwrap().remove("quantization_config");
        c.tensors.retain(|t| !t.name.contains("sub_norm"));
        edit(c);
    })
}

/// Adds a sibling of the first projection.
fn beside(c: &mut Checkpoint, name: &str, shape: &[usize], values: &[f32]) {
    c.tensors.push(Raw::f32(&format!("{MODULE}.{name}"), shape, values));
}

/// Other bytes for the first projection.
fn weight(c: &mut Checkpoint, dtype: &'static str, shape: &[usize], data: Vec<u8>) {
    *c.tensor(Q) = Raw { name: Q.into(), dtype, shape: shape.to_vec(), data };
}

/// Values for the first projection.
fn values(c: &mut Checkpoint, each: impl Fn(usize) -> f32) {
    *c.tensor(Q) = Raw::f32(Q, &[HIDDEN, HIDDEN], &(0..HIDDEN * HIDDEN).map(each).collect::<Vec<_>>());
}

/// Imports a checkpoint and reads every row of every projection in every way.
fn read(c: &Checkpoint) -> Result<Model, Error> {
    let dir = tempfile::tempdir().unwrap();
    c.write(dir.path());
    let m = import(dir.path())?;
    for l in m.projections() {
        let w = &l.weight;
        let reader = m.rows(w)?;
        let (mut row, mut codes) = (vec![0f32; w.cols], vec![0i8; w.cols]);
        for r in 0..w.rows {
            reader.read(r, &mut row)?;
            reader.read_raw(r, &mut row)?;
            let got = reader.read_codes(r, &mut codes, &mut Vec::new());
            assert_eq!(got.is_ok(), w.source.form() != Form::Float, "{:?} {got:?}", w.source);
        }
    }
    Ok(m)
}

#[track_caller]
fn refused(c: &Checkpoint, names: &[&str]) -> Error {
    let Err(e) = read(c) else { panic!("was read") };
    let hint = e.next_step().unwrap_or_default();
    names.iter().for_each(|n| assert!(format!("{e}\n{hint}").contains(n), "expected `{n}` in: {e}\n{hint}"));
    e
}

fn source(m: &Model) -> &Source {
    &m.layers[0].attn.q.weight.source
}

// ---- BitNet ----

fn bitnet(c: &mut Checkpoint, class: &str) {
    c.config["quantization_config"] =
        json!({"quant_method": "bitnet", "linear_class": class, "quantization_mode": "offline"});
    for module in ["k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "q_proj"] {
        let t = c.tensors.iter_mut().find(|t| t.name.contains(module)).unwrap();
        let (name, n) = (t.name.clone(), t.shape.iter().product::<usize>());
        *t = Raw::f32(&name, &t.shape.clone(), &(0..n).map(|i| (i % 3) as f32 - 1.0).collect::<Vec<_>>());
        c.tensors.push(Raw::f32(&format!("{name}_scale"), &[1], &[4.0]));
    }
}

#[test]
fn unpacked_codes_divide_or_multiply() {
    for (class, want) in [("bitlinear", 0.25), ("autobitlinear", 4.0)] {
        let dir = tempfile::tempdir().unwrap();
        llama(|c| bitnet(c, class)).write(dir.path());
        let m = import(dir.path()).unwrap();
        let reader = m.rows(&m.layers[0].attn.q.weight).unwrap();
        let (mut row, mut codes, mut scales) = ([0f32; HIDDEN], [0i8; HIDDEN], Vec::new());
        reader.read(0, &mut row).unwrap();
        reader.read_codes(0, &mut codes, &mut scales).unwrap();
        assert_eq!((row[0], codes[0], scales), (-want as f32, -1, vec![want]));
        assert_eq!(m.layers[0].attn.q.activation.map(|a| a.bits()), Some(8));
    }
}

#[test]
fn unpacked_code_that_is_none() {
    for v in [2.0, 0.5, f32::NAN] {
        refused(
            &llama(|c| {
                bitnet(c, "bitlinear");
                c.tensor(Q).set(7, v)
            }),
            &[Q],
        );
    }
}

#[test]
fn scale_that_is_zero_negative_or_not_finite() {
    for v in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let c = llama(|c| {
            bitnet(c, "bitlinear");
            c.tensor(&format!("{Q}_scale")).set(0, v)
        });
        refused(&c, &["q_proj.weight_scale", "byte "]);
    }
}

#[test]
fn scale_beside_masters_that_nobody_explains() {
    refused(
        &llama(|c| beside(c, "weight_scale", &[1], &[1.0])),
        &["does not say what it means", "weight_scale", "offline"],
    );
    let online = |c: &mut Checkpoint| {
        c.config["quantization_config"] = json!({"quant_method": "bitnet", "quantization_mode": "online"});
        beside(c, "weight_scale", &[1], &[1.0]);
    };
    refused(&llama(online), &["does not say what it means"]);
}

#[test]
fn a_module_that_is_promised_to_stay_float_may() {
    let m = read(&llama(|c| {
        bitnet(c, "bitlinear");
        c.remove(&format!("{Q}_scale"));
        c.config["quantization_config"]["modules_to_not_convert"] = json!(["lm_head", "q_proj"]);
    }));
    assert_eq!(*source(&m.unwrap()), Source::Float);
    let bad = llama(|c| {
        bitnet(c, "bitlinear");
        c.config["quantization_config"]["modules_to_not_convert"] = json!([3])
    });
    refused(&bad, &["modules_to_not_convert", "config.json"]);
}

// ---- scales beside float codes (QLlama) ----

#[test]
fn row_scales_of_the_wrong_shape() {
    refused(&llama(|c| beside(c, "scales", &[HIDDEN + 1], &[1.0; HIDDEN + 1])), &["q_proj.scales", "[33]"]);
}

#[test]
fn row_scales_beside_masters() {
    refused(&llama(|c| beside(c, "scales", &[HIDDEN], &[1.0; HIDDEN])), &["only the codes -1, 0 and 1", Q]);
}

#[test]
fn row_scale_that_is_negative() {
    let c = llama(|c| {
        values(c, |i| (i % 3) as f32 - 1.0);
        beside(c, "scales", &[HIDDEN], &[-1.0; HIDDEN]);
    });
    refused(&c, &["scale 0 is -1", "q_proj.scales"]);
}

// ---- ParetoQ ----

#[test]
fn clipping_values_need_bits() {
    let clip = |bits: serde_json::Value| {
        llama(move |c| {
            c.config["w_bits"] = bits;
            beside(c, "weight_clip_val", &[HIDDEN, 1], &[0.5; HIDDEN]);
        })
    };
    refused(&clip(json!(null)), &["w_bits", "config.json"]);
    refused(&clip(json!(-1)), &["w_bits"]);
    assert_eq!(refused(&clip(json!(7)), &["`w_bits` is 7"]).kind(), Kind::Unsupported);
    for bits in 0..=4 {
        let m = read(&clip(json!(bits))).unwrap();
        assert!(matches!(source(&m), Source::Clipped { bits: b, .. } if *b == bits), "{bits}");
        assert_eq!(m.native.is_some(), bits < 2, "{bits}");
    }
    assert_eq!(*source(&read(&clip(json!(16))).unwrap()), Source::Float);
}

#[test]
fn clipping_value_that_is_not_finite() {
    let c = llama(|c| {
        c.config["w_bits"] = json!(0);
        beside(c, "weight_clip_val", &[HIDDEN, 1], &[f32::NAN; HIDDEN]);
    });
    refused(&c, &["weight_clip_val", "NaN"]);
}

#[test]
fn clipping_values_of_the_wrong_shape() {
    let c = llama(|c| {
        c.config["w_bits"] = json!(0);
        beside(c, "weight_clip_val", &[1, HIDDEN], &[0.5; HIDDEN]);
    });
    refused(&c, &["weight_clip_val", "[1, 32]"]);
}

// ---- FBI-LLM ----

#[test]
fn column_scales_without_offsets() {
    refused(&llama(|c| beside(c, "wscale", &[1, HIDDEN], &[0.5; HIDDEN])), &["q_proj.wbias", "missing"]);
}

#[test]
fn column_scales_of_the_wrong_shape() {
    refused(&llama(|c| beside(c, "wscale", &[HIDDEN, 1], &[0.5; HIDDEN])), &["q_proj.wscale", "[32, 1]"]);
}

#[test]
fn column_offset_that_is_not_finite() {
    let c = llama(|c| {
        beside(c, "wscale", &[1, HIDDEN], &[0.5; HIDDEN]);
        beside(c, "wbias", &[1, HIDDEN], &[f32::INFINITY; HIDDEN]);
    });
    refused(&c, &["q_proj.wbias", "byte "]);
}

// ---- OneBit ----

fn one_bit(c: &mut Checkpoint, scale: f32) {
    weight(c, "I8", &[HIDDEN, HIDDEN / 8], vec![0b1000_0001; HIDDEN * HIDDEN / 8]);
    beside(c, "weight_scale", &[HIDDEN], &[scale; HIDDEN]);
    beside(c, "input_factor", &[HIDDEN], &[1.0; HIDDEN]);
}

#[test]
fn a_negative_factor_turns_the_codes() {
    for (scale, first) in [(2.0, -1), (-2.0, 1)] {
        let dir = tempfile::tempdir().unwrap();
        llama(|c| one_bit(c, scale)).write(dir.path());
        let m = import(dir.path()).unwrap();
        let q = &m.layers[0].attn.q;
        assert!(q.input_factor.is_some() && q.output_norm == Some(1e-5));
        let (mut codes, mut scales, mut row) = ([0i8; HIDDEN], Vec::new(), [0f32; HIDDEN]);
        let reader = m.rows(&q.weight).unwrap();
        reader.read_codes(0, &mut codes, &mut scales).unwrap();
        reader.read(0, &mut row).unwrap();
        assert_eq!((codes[0], codes[1], codes[7]), (first, -first, first));
        assert_eq!((scales, row[0]), (vec![2.0], 2.0 * f32::from(first)));
    }
}

#[test]
fn sign_bits_without_their_factors() {
    let bare = |c: &mut Checkpoint| weight(c, "I8", &[HIDDEN, HIDDEN / 8], vec![0; HIDDEN * HIDDEN / 8]);
    refused(&llama(bare), &["q_proj.input_factor", "missing"]);
}

#[test]
fn sign_bits_of_the_wrong_shape() {
    let wide = |c: &mut Checkpoint| {
        one_bit(c, 1.0);
        weight(c, "I8", &[HIDDEN, HIDDEN], vec![0; HIDDEN * HIDDEN])
    };
    refused(&llama(wide), &[Q, "[32, 32]", "[32, 4]"]);
}

#[test]
fn sign_bits_with_a_scale_that_is_not_finite() {
    refused(&llama(|c| one_bit(c, f32::NAN)), &["q_proj.weight_scale", "NaN"]);
}

// ---- MLX ----

/// One packed projection of 2-bit codes in groups of 32; the others stay float.
fn mlx(c: &mut Checkpoint, word: u32, scale: f32, bias: f32) {
    c.config["quantization"] = json!({"group_size": 32, "bits": 2});
    weight(c, "U32", &[HIDDEN, 2], word.to_le_bytes().repeat(2 * HIDDEN));
    beside(c, "scales", &[HIDDEN, 1], &[scale; HIDDEN]);
    beside(c, "biases", &[HIDDEN, 1], &[bias; HIDDEN]);
}

fn low_bit(m: &Model) -> Option<bool> {
    match source(m) {
        Source::Affine { low_bit, .. } => *low_bit,
        s => panic!("{s:?}"),
    }
}

#[test]
fn words_are_ternary_only_without_code_three_and_with_symmetric_offsets() {
    assert_eq!(low_bit(&read(&llama(|c| mlx(c, 0x5555_AA00, 0.5, -0.5))).unwrap()), Some(false));
    assert_eq!(low_bit(&read(&llama(|c| mlx(c, 0x5555_AA03, 0.5, -0.5))).unwrap()), None);
    assert_eq!(low_bit(&read(&llama(|c| mlx(c, 0x5555_AA00, 0.5, -0.25))).unwrap()), None);
    assert_eq!(low_bit(&read(&llama(|c| mlx(c, 0x5555_AA00, -0.5, 0.5))).unwrap()), None);
}

#[test]
fn general_words_are_scale_times_code_plus_offset() {
    let dir = tempfile::tempdir().unwrap();
    llama(|c| {
        mlx(c, 0xE4E4_E4E4, 0.5, 3.0);
        c.config["quantization"][MODULE] = json!({"group_size": 16, "bits": 4});
        weight(c, "U32", &[HIDDEN, 4], 0x7654_3210u32.to_le_bytes().repeat(4 * HIDDEN));
        c.tensor(&format!("{MODULE}.scales")).shape = vec![HIDDEN / 2, 2];
        c.remove(&format!("{MODULE}.scales"));
        c.remove(&format!("{MODULE}.biases"));
        beside(c, "scales", &[HIDDEN, 2], &[0.5; 2 * HIDDEN]);
        beside(c, "biases", &[HIDDEN, 2], &[3.0; 2 * HIDDEN]);
    })
    .write(dir.path());
    let m = import(dir.path()).unwrap();
    let mut row = [0f32; HIDDEN];
    m.rows(&m.layers[0].attn.q.weight).unwrap().read(5, &mut row).unwrap();
    assert_eq!(row[..8], [3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5]);
    assert!(m.native.is_none() && m.warnings.iter().any(|w| w.contains("affine words")), "{:?}", m.warnings);
}

#[test]
fn words_of_the_wrong_shape() {
    let c = |shape: [usize; 2]| {
        llama(move |c| {
            mlx(c, 0, 0.5, -0.5);
            c.tensor(Q).shape = shape.to_vec()
        })
    };
    refused(&c([HIDDEN / 2, 4]), &[Q, "[16, 4]", "[32, 2]"]);
    refused(
        &llama(|c| {
            mlx(c, 0, 0.5, -0.5);
            c.config["quantization"]["bits"] = json!(1)
        }),
        &[Q, "[32, 2]", "[32, 1]"],
    );
    refused(
        &llama(|c| {
            mlx(c, 0, 0.5, -0.5);
            c.config["quantization"]["group_size"] = json!(24)
        }),
        &["no whole groups of 24"],
    );
}

#[test]
fn words_without_their_scales() {
    let c = llama(|c| {
        mlx(c, 0, 0.5, -0.5);
        c.remove(&format!("{MODULE}.biases"))
    });
    refused(&c, &["q_proj.biases", "missing"]);
}

#[test]
fn words_with_a_scale_that_is_not_finite() {
    refused(&llama(|c| mlx(c, 0, f32::NAN, -0.5)), &["q_proj.scales", "NaN"]);
}

#[test]
fn words_without_settings() {
    refused(
        &llama(|c| {
            mlx(c, 0, 0.5, -0.5);
            c.config.as_object_mut().unwrap().remove("quantization");
        }),
        &[Q, "U32"],
    );
    refused(
        &llama(|c| {
            mlx(c, 0, 0.5, -0.5);
            c.config["quantization"][MODULE] = json!(false)
        }),
        &[Q, "not quantized"],
    );
}

#[test]
fn settings_of_words_that_make_no_sense() {
    for (key, value) in [
        ("bits", json!(0)),
        ("bits", json!(9)),
        ("bits", json!("2")),
        ("group_size", json!(0)),
        ("group_size", json!(-1)),
    ] {
        refused(
            &llama(|c| {
                mlx(c, 0, 0.5, -0.5);
                c.config["quantization"][key] = value
            }),
            &[key, "config.json"],
        );
    }
    let mode = llama(|c| {
        mlx(c, 0, 0.5, -0.5);
        c.config["quantization"]["mode"] = json!("mxfp4")
    });
    assert_eq!(refused(&mode, &["mxfp4", "affine"]).kind(), Kind::Unsupported);
    refused(
        &llama(|c| {
            mlx(c, 0, 0.5, -0.5);
            c.config["quantization"][MODULE] = json!({"bits": 2})
        }),
        &["group_size", "absent"],
    );
}

// ---- Gemma for phones ----

fn gemma(c: &mut Checkpoint, bits: usize) {
    c.config["quantization_config"] =
        json!({"quant_method": "gemma", "num_bits": 4, "module_quant_configs": {"q_proj": {"num_bits": bits}}});
    let dtype = if bits == 8 { "I8" } else { "U8" };
    weight(c, dtype, &[HIDDEN, HIDDEN * bits / 8], vec![0xE4; HIDDEN * HIDDEN * bits / 8]);
    beside(c, "weight_scale", &[HIDDEN, 1], &[0.5; HIDDEN]);
    beside(c, "input_activation_scale", &[], &[0.0]);
}

#[test]
fn small_codes_along_the_columns() {
    for (bits, want) in [(2, [-1.0, -0.5, 0.0, 0.5]), (4, [-2.0, 3.0, -2.0, 3.0]), (8, [-14.0; 4])] {
        let dir = tempfile::tempdir().unwrap();
        llama(|c| gemma(c, bits)).write(dir.path());
        let m = import(dir.path()).unwrap();
        let mut row = [0f32; HIDDEN];
        m.rows(&m.layers[0].attn.q.weight).unwrap().read(1, &mut row).unwrap();
        assert_eq!(row[..4], want, "{bits}");
    }
}

#[test]
fn fixed_grids_of_activations_are_not_ignored() {
    let c = llama(|c| {
        gemma(c, 4);
        c.tensor(&format!("{MODULE}.input_activation_scale")).set(0, 0.1)
    });
    assert_eq!(refused(&c, &["fixed grid", "input_activation_scale"]).kind(), Kind::Unsupported);
}

#[test]
fn small_codes_of_a_width_that_was_not_announced() {
    let c = llama(|c| {
        gemma(c, 2);
        c.config["quantization_config"]["module_quant_configs"] = json!({});
    });
    refused(&c, &[Q, "none of the announced [4] bits"]);
    refused(
        &llama(|c| {
            gemma(c, 2);
            c.config["quantization_config"]["num_bits"] = json!(3)
        }),
        &["`num_bits` is 3"],
    );
}

#[test]
fn small_codes_with_bad_scales() {
    for v in [-1.0, f32::NAN] {
        refused(
            &llama(|c| {
                gemma(c, 4);
                c.tensor(&format!("{MODULE}.weight_scale")).set(2, v)
            }),
            &["q_proj.weight_scale"],
        );
    }
    refused(
        &llama(|c| {
            gemma(c, 4);
            c.tensor(&format!("{MODULE}.weight_scale")).shape = vec![1, HIDDEN]
        }),
        &["weight_scale", "[1, 32]"],
    );
}

// ---- known, and refused with the reason ----

#[test]
fn methods_that_are_not_binary_or_ternary() {
    for (method, why) in [
        ("gptq", "zero points"),
        ("aqlm", "codebooks"),
        ("vptq", "codebooks"),
        ("hqq", "zero points"),
        ("bitblas", "GPU"),
        ("new", "supported are"),
    ] {
        let c = llama(|c| c.config["quantization_config"] = json!({"quant_method": method}));
        assert_eq!(refused(&c, &[method, why, "config.json"]).kind(), Kind::Unsupported);
    }
}

#[test]
fn tensors_of_other_methods() {
    for (name, why) in [("qweight", "GPTQ"), ("codes", "AQLM"), ("indices", "VPTQ"), ("Qidxs", "QuIP#")] {
        let c = llama(|c| {
            c.remove(Q);
            beside(c, name, &[1], &[0.0])
        });
        assert_eq!(refused(&c, &[why, "q_proj"]).kind(), Kind::Unsupported);
    }
    refused(&llama(|c| beside(c, "signs", &[HIDDEN], &[1.0; HIDDEN])), &["rotated basis"]);
    refused(&llama(|c| beside(c, "Lambada", &[HIDDEN], &[1.0; HIDDEN])), &["Tequila"]);
}

#[test]
fn rotated_weights_and_recurrent_models() {
    refused(&llama(|c| c.config["hadamard_config"] = json!({"block": 1024})), &["rotated basis", "config.json"]);
    refused(&llama(|c| c.config["model_type"] = json!("hgrn_bit")), &["recurrent"]);
    let dir = tempfile::tempdir().unwrap();
    llama(|_| {}).write(dir.path());
    std::fs::write(dir.path().join("hadamard.json"), "{}").unwrap();
    assert!(import(dir.path()).err().unwrap().to_string().contains("rotated basis"));
}

#[test]
fn edge_razor_masters() {
    let c = |quantized: bool| {
        llama(move |c| {
            c.config["quantization_config"] = json!({"quant_method": "edgerazor", "is_w_quantized": quantized})
        })
    };
    refused(&c(false), &["EdgeRazor", "is_w_quantized"]);
    let m = read(&c(true)).unwrap();
    assert!(m.native.is_none() && m.warnings.iter().any(|w| w.contains("blocks of 256")));
}

// ---- grids in dense weights ----

/// All projections on a grid: `each` gives the value from the row, the column and a code.
fn grid(c: &mut Checkpoint, each: impl Fn(usize, usize, f32) -> f32) {
    for t in c.tensors.iter_mut().filter(|t| t.name.contains("_proj")) {
        let cols = t.shape[1];
        let code = |i: usize| ((i * 7 + i / 5) % 3) as f32 - 1.0;
        let v: Vec<f32> = (0..t.shape[0] * cols).map(|i| each(i / cols, i % cols, code(i))).collect();
        *t = Raw::f32(&t.name, &t.shape, &v);
    }
}

#[test]
fn one_weight_off_the_grid_makes_all_floats() {
    let row = |r: usize, _: usize, q: f32| q * (1.0 + r as f32);
    let m = read(&llama(|c| grid(c, row))).unwrap();
    assert!(m.native.is_some() && m.projections().all(|l| l.weight.source.form() != Form::Float));
    let m = read(&llama(|c| {
        grid(c, row);
        c.tensor(Q).set(HIDDEN * HIDDEN - 2, 0.3)
    }))
    .unwrap();
    // One of seven is more than one in a hundred.
    assert!(m.native.is_none() && m.projections().all(|l| l.weight.source == Source::Float));
}

#[test]
fn roundings_do_not_hide_a_grid() {
    let rounded = |_: usize, c: usize, q: f32| if c == 3 { q * 0.1001 } else { q * 0.1 };
    let m = read(&llama(|c| grid(c, rounded))).unwrap();
    assert!(matches!(source(&m), Source::Grid { binary: false, .. }), "{:?}", source(&m));
    let reader = m.rows(&m.layers[0].attn.q.weight).unwrap();
    let mut scales = Vec::new();
    reader.read_codes(0, &mut [0; HIDDEN], &mut scales).unwrap();
    assert_eq!(scales, [f64::from(0.1f32)], "the magnitude of most");
}

#[test]
fn rows_of_zeros_have_scale_zero() {
    let m = read(&llama(|c| grid(c, |r, _, q| if r == 4 { 0.0 } else { q * (1.0 + r as f32) }))).unwrap();
    let reader = m.rows(&m.layers[0].attn.q.weight).unwrap();
    let mut scales = Vec::new();
    reader.read_codes(4, &mut [1; HIDDEN], &mut scales).unwrap();
    assert_eq!(scales, [0.0]);
}

#[test]
fn all_zeros_prove_nothing() {
    let m = read(&llama(|c| grid(c, |_, _, _| 0.0))).unwrap();
    assert!(m.native.is_none());
}

#[test]
fn nan_in_a_grid_has_a_place() {
    let c = llama(|c| {
        grid(c, |_, _, q| q);
        c.tensor(Q).set(40, f32::NAN)
    });
    refused(&c, &[Q, "NaN", "byte "]);
    assert_eq!(FFN % 16, 0, "columns of down_proj hold whole groups");
}
