//! The forms in which a matrix may be stored for a device: refused where they break a rule, and otherwise the same integers.

mod common;

use bitnet_convert::encoding::lowbit::Encoding;
use bitnet_convert::encoding::order::{join, Order};
use bitnet_convert::export::packed::{prepare, Request};
use bitnet_convert::kernels::dot::DotKernel;
use bitnet_convert::lower::{Head, Kernels, Options};
use bitnet_convert::program::{identity, KernelHint, OpKind, Program, ScaleMode, TensorKind};
use bitnet_convert::progress::Silent;
use bitnet_convert::runtime::{record, Artifact};
use bitnet_convert::target::{self, Kernel};
use common::packed::{open, Parts, PROGRAM, WEIGHTS};

fn one(enc: Encoding, order: Order) -> TensorKind {
    TensorKind::Matrix { enc, order, scales: ScaleMode::One }
}

const FIVES: TensorKind = TensorKind::Matrix { enc: Encoding::Ternary5, order: Order::Rows, scales: ScaleMode::One };
const QUADS: TensorKind = TensorKind::Matrix { enc: Encoding::Ternary5, order: Order::Quads, scales: ScaleMode::One };

// Tensor 12 is added; see tests/packed_tensors.rs for the words of an entry. 125 is five weights of 0, and so is a byte of padding columns.
refuses! {
    ternary2_in_quads: |p| p.set_tensor(3, 0, 2 | 1 << 8) => "ternary2 in order 1";
    int8_in_quads: |p| p.set_tensor(1, 0, 3 | 1 << 8) => "int8 in order 1";
    a_vector_in_quads: |p| p.set_tensor(2, 0, 5 | 1 << 8) => "kind 261 is not defined";
    order_2: |p| p.set_tensor(3, 0, 1 | 2 << 8) => "order 2 is not defined";
    order_in_the_high_bytes: |p| p.set_tensor(3, 0, 1 | 1 << 31) => "order 8388608 is not defined";
    planes4_in_rows: |p| { p.add_tensor(one(Encoding::Planes4, Order::Quads), 1, 1, &[0; 16]); p.set_tensor(12, 0, 10) } => "planes4 in order 0";
    ternary5_with_groups: |p| { p.add_tensor(FIVES, 1, 5, &[125]); p.set_tensor(12, 3, 3); p.set_tensor(12, 4, 32) } => "scale mode 3";
    int4_with_groups: |p| { p.add_tensor(one(Encoding::Int4, Order::Rows), 1, 5, &[0; 4]); p.set_tensor(12, 3, 3); p.set_tensor(12, 4, 32) } => "scale mode 3";
    ternary5_stride: |p| { p.add_tensor(FIVES, 2, 6, &[125; 4]); p.set_tensor(12, 7, 4) } => "row stride 4, 2 is right";
    binary_quads_have_no_words: |p| { p.add_tensor(one(Encoding::Binary1, Order::Quads), 4, 9, &[0; 8]); p.set_tensor(12, 7, 4) } => "row stride 4, 2 is right";
    quads_without_the_rows_that_fill_them: |p| { p.add_tensor(QUADS, 5, 5, &[125, 125, 125, 125, 125, 0, 0, 0]); p.set_tensor(12, 10, 5) } => "its data must have 8 bytes";
    ternary5_low_part_27: |p| { p.add_tensor(FIVES, 2, 5, &[125, 27]); } => "row 1, column 0";
    ternary5_byte_251: |p| { p.add_tensor(FIVES, 1, 10, &[125, 251]); } => "row 0, column 5";
    ternary5_digit_behind_the_last_column: |p| { p.add_tensor(FIVES, 1, 8, &[125, 125 + 84]); } => "row 0, column 9";
    ternary5_quad_low_part_27: |p| { p.add_tensor(QUADS, 4, 10, &[125, 125, 125, 125, 125, 125, 55, 125]); } => "row 2, column 5";
    quad_filled_with_what_is_not_0: |p| { p.add_tensor(QUADS, 3, 5, &[125, 125, 125, 125]); } => "row 3, column 0";
    int4_padding: |p| { p.add_tensor(one(Encoding::Int4, Order::Rows), 1, 3, &[0x88, 0x18, 0, 0]); } => "row 0, column 3";
    int4_padding_bytes: |p| { p.add_tensor(one(Encoding::Int4, Order::Rows), 1, 3, &[0x88, 0x08, 0, 1]); } => "row 0, column 6";
    planes4_padding: |p| { p.add_tensor(one(Encoding::Planes4, Order::Quads), 1, 3, &[7, 0, 0, 0, 15, 0, 0, 0, 7, 0, 0, 0, 7, 0, 0, 0]); } => "row 0, column 3";
    binary_quad_padding: |p| { p.add_tensor(one(Encoding::Binary1, Order::Quads), 2, 9, &[255, 255, 0, 0, 1, 2, 0, 0]); } => "row 1, column 9";
    tables_need_lut_bytes: |p| { stored(p, &|_| (Encoding::Ternary5, Order::Quads, KernelHint::Tables)); p.set(PROGRAM, 25, 0) } => "hint 2) needs order 1";
    tables_need_qmax_127: |p| p.program(|p| { head_in(p, Encoding::Planes4); p.lut_bytes = 512 }) => "hint 2) needs order 1";
    planes_need_order_0: |p| { stored(p, &|_| (Encoding::Ternary5, Order::Quads, KernelHint::Planes)); qmax_2(p) } => "planes kernel";
}

/// The head, whose codes have a Qmax above 127, with the table kernel.
fn head_in(p: &mut Program, enc: Encoding) {
    let data = p.tensors[11].data.end.next_multiple_of(16);
    p.tensors[1].kind = TensorKind::Matrix { enc, order: Order::Quads, scales: ScaleMode::One };
    (p.tensors[1].data, p.tensors[1].scales) = (data..data + 256, 0..0);
    if let OpKind::Linear { hint, .. } = &mut p.ops[21].kind {
        *hint = KernelHint::Tables;
    }
}

fn qmax_2(p: &mut Parts) {
    for op in [2, 8, 12, 16] {
        [(6, 2), (7, 0), (8, 1)].into_iter().for_each(|(w, v)| p.set_op(op, w, v));
    }
}

/// Stores every low-bit matrix of the tiny model in another form; its rows come from the reader, its bytes are laid out here.
fn stored(parts: &mut Parts, form: &dyn Fn(usize) -> (Encoding, Order, KernelHint)) {
    let mut weights = parts.get(WEIGHTS).to_vec();
    parts.program(|p| {
        for id in 0..p.tensors.len() {
            let t = &mut p.tensors[id];
            // Groups of columns have no place in the new encodings.
            let TensorKind::Matrix {
                enc: Encoding::Ternary2, scales: scales @ (ScaleMode::One | ScaleMode::Row), ..
            } = t.kind
            else {
                continue;
            };
            let (enc, order, hint) = form(id);
            let old = t.data.start as usize..t.data.end as usize;
            let rows: Vec<Vec<i32>> = weights[old.clone()]
                .chunks_exact(Encoding::Ternary2.stride(t.cols))
                .map(|row| (0..t.cols).map(|c| Encoding::Ternary2.get(row, t.cols, c)).collect())
                .collect();
            weights[old].fill(0);
            let stride = enc.stride_in(order, t.cols);
            let mut flat = vec![0; t.rows * stride];
            flat.chunks_exact_mut(stride).zip(&rows).for_each(|(out, row)| enc.pack_row(row, out));
            if order == Order::Quads {
                let mut quads = vec![0; t.rows.next_multiple_of(4) * stride];
                quads.chunks_exact_mut(4 * stride).zip(flat.chunks(4 * stride)).for_each(|(q, f)| join(f, stride, q));
                flat = quads;
            }
            weights.resize(weights.len().next_multiple_of(16), 0);
            t.kind = TensorKind::Matrix { enc, order, scales };
            t.data = weights.len() as u64..(weights.len() + flat.len()) as u64;
            weights.extend(flat);
            for op in &mut p.ops {
                match &mut op.kind {
                    OpKind::Linear { weight, hint: h, .. } if *weight == id => *h = hint,
                    _ => {}
                }
            }
        }
        p.lut_bytes = 512;
    });
    *parts.section(WEIGHTS) = weights;
}

/// What the tiny model computes with its low-bit matrices in this form, by every kernel.
#[track_caller]
fn computes_the_same(form: &dyn Fn(usize) -> (Encoding, Order, KernelHint)) {
    let plain = open(common::tiny_bytes()).unwrap();
    let mut parts = Parts::tiny();
    stored(&mut parts, form);
    let a = open(parts.seal()).unwrap();
    let other = a.program.tensors.iter().zip(&plain.program.tensors).filter(|(a, b)| a.kind != b.kind).count();
    assert!(other >= 3, "{other} tensors in another form");
    for kernel in DotKernel::available() {
        let mut s = a.session(kernel);
        for want in &plain.golden.prompts {
            let got = record(&mut s, &want.ids[..want.prompt_len], want.ids.len(), &mut |_, _, _| {}).unwrap();
            assert_eq!(&got, want, "{}", kernel.name());
        }
    }
    // The form is no part of what a model is.
    assert_eq!(identity::of(&a.program, a.weights()), plain.program.model_id);
}

#[test]
fn ternary5_in_both_orders_computes_what_ternary2_does() {
    computes_the_same(&|_| (Encoding::Ternary5, Order::Rows, KernelHint::Select));
    computes_the_same(&|_| (Encoding::Ternary5, Order::Quads, KernelHint::Select));
    let mixed = |id| match id % 2 {
        0 => (Encoding::Ternary5, Order::Rows, KernelHint::Select),
        _ => (Encoding::Ternary5, Order::Quads, KernelHint::Tables),
    };
    computes_the_same(&mixed);
}

/// int4 and planes4 hold the same values, and their sums have the bits of wmax 8: other integers than int8 gives, but one pair of them.
#[test]
fn int4_and_planes4_compute_the_same() {
    let run = |enc, order| {
        let mut parts = Parts::tiny();
        stored(&mut parts, &|_| (enc, order, KernelHint::Select));
        let a = open(parts.seal()).unwrap();
        DotKernel::available()
            .into_iter()
            .map(|k| record(&mut a.session(k), &[1, 2, 3, 4, 5], 8, &mut |_, _, _| {}).unwrap())
            .collect::<Vec<_>>()
    };
    let four = run(Encoding::Int4, Order::Rows);
    assert!(four.iter().all(|g| *g == four[0]));
    assert_eq!(four, run(Encoding::Planes4, Order::Quads));
    assert_ne!(four, run(Encoding::Int8, Order::Rows), "the bound of a weight is that of its encoding");
}

/// What an export of a fixture with these options computes, for the host or with the kernels of a microcontroller.
fn exported(model: &str, options: Options) -> Artifact {
    let model = bitnet_convert::import::open(&common::fixture(&format!("models/{model}")), &Silent).unwrap();
    let target = target::find("host").unwrap();
    let request =
        Request { model: &model, options, target: &target, calibration: None, tokenizer: None, adapters: false };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.bitnet");
    prepare(request).unwrap().write(&path, &Silent).unwrap();
    Artifact::from_packed_bytes(std::fs::read(path).unwrap()).unwrap()
}

fn kernels_of(name: &str) -> Kernels {
    let t = target::find(name).unwrap();
    let costs = target::costs(&t.kernels.cost);
    Kernels { allowed: t.kernels.allowed, costs, table_bytes: t.defaults.table_bytes, forced: None }
}

fn forms(a: &Artifact) -> Vec<&'static str> {
    bitnet_convert::program::kernels::used(&a.program).iter().map(|u| u.kernel).collect()
}

/// The kernels of a target change how weights are stored and nothing else: same checksums of every layer, same model.
#[test]
fn exports_for_a_microcontroller_compute_what_the_host_does() {
    // 2-bit activations may go through tables or planes, as the figures of the day are.
    let all = [("intent-w1a2", "planes tables8"), ("intent-b158", "ternary5"), ("stories-b158", "ternary5")];
    for (model, kernel) in all {
        let options = Options { embedding_bits: Some(8), window: Some(32), ..Options::default() };
        let host = exported(model, options.clone());
        let m7 = exported(model, Options { kernels: kernels_of("cortex-m7"), ..options.clone() });
        assert!(kernel.split(' ').any(|k| k == forms(&m7)[0]), "{model}: {:?}", forms(&m7));
        assert!(!host.golden.prompts.is_empty());
        assert_eq!(m7.golden, host.golden, "{model}");
        assert_ne!(host.program.model_id, 0);
        assert_eq!(m7.program.model_id, host.program.model_id, "{model}");
        assert_eq!(identity::of(&m7.program, m7.weights()), m7.program.model_id);
        if kernel == "ternary5" {
            let low = |a: &Artifact| -> u64 {
                a.program.tensors.iter().filter(|t| t.low_bit_weights() > 0).map(|t| t.bytes()).sum()
            };
            assert!(low(&m7) * 100 < low(&host) * 85, "{model}: {} of {}", low(&m7), low(&host));
        }
        // Every kernel that can be asked for gives the same.
        for forced in [Kernel::Tables, Kernel::Planes, Kernel::Select] {
            let kernels = Kernels { forced: Some(forced), ..kernels_of("cortex-m7") };
            assert_eq!(
                exported(model, Options { kernels, ..options.clone() }).golden,
                host.golden,
                "{model} {forced:?}"
            );
        }
    }
}

/// The head is stored as asked; int4 and its planes are the same weights.
#[test]
fn heads_in_every_form() {
    let with = |head, embedding_bits, kernels| {
        exported("intent-b158", Options { head, embedding_bits, kernels, window: Some(32), ..Options::default() })
    };
    let kind = |a: &Artifact, name: &str| a.program.tensors.iter().find(|t| t.name == name).map(|t| t.kind.to_string());
    for (head, want) in
        [(Head::Int16, "int16"), (Head::Int8, "int8"), (Head::Int4, "int4"), (Head::Planes4, "planes4 quads")]
    {
        let a = with(Some(head), Some(16), Kernels::default());
        let own = kind(&a, "head");
        assert_eq!(own.or(kind(&a, "embedding")).as_deref(), Some(want));
    }
    // One table for both where it can be one.
    let a = with(Some(Head::Planes4), Some(4), kernels_of("cortex-m7"));
    if kind(&a, "head").is_none() {
        assert_eq!(kind(&a, "embedding").as_deref(), Some("planes4 quads"));
    }
    assert!(forms(&a).contains(&"planes4"), "{:?}", forms(&a));
}
