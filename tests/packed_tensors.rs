//! docs/format/packed.md as a list of tests, second part: one for each rule of the tensor table, the weights section and the golden trace.

mod common;

use bitnet_convert::encoding::lowbit::Encoding;
use bitnet_convert::program::{ScaleMode, TensorKind};
use common::packed::{open, put, refused, Parts, GOLDEN, NONE, PROGRAM, WEIGHTS};

// The tiny model's tensors: 0 frequencies, 1 int8 16 x 32 (row scales), 2 gamma, 3 and 4 ternary2 16 x 32 (row scales), 5, 6 and 8
// ternary2 (group scales), 7 gamma, 9 ternary2 (row scales), 10 ternary2 32 x 31 (one scale), 11 gamma.
// Words of an entry: 0 kind, 1 rows, 2 cols, 3 scale mode, 4 group, 5 m, 6 e, 7 stride, 8 data offset, 10 data length, 12 scales, 14 length.

refuses! {
    tensor_kind_0: |p| p.set_tensor(3, 0, 0) => "kind 0 is not defined";
    tensor_kind_11: |p| p.set_tensor(3, 0, 11) => "kind 11 is not defined";
    tensor_without_rows: |p| p.set_tensor(3, 1, 0) => "rows of a tensor is 0";
    tensor_rows_above_2_to_the_20: |p| p.set_tensor(3, 1, (1 << 20) + 1) => "rows of a tensor is 1048577";
    tensor_without_columns: |p| p.set_tensor(3, 2, 0) => "columns of a tensor is 0";
    tensor_columns_above_2_to_the_20: |p| p.set_tensor(3, 2, (1 << 20) + 1) => "columns of a tensor is 1048577";
    mode_0_for_a_matrix: |p| p.set_tensor(10, 3, 0) => "scale mode 0";
    mode_4: |p| p.set_tensor(10, 3, 4) => "scale mode 4";
    mode_groups_for_int8: |p| { p.set_tensor(1, 3, 3); p.set_tensor(1, 4, 32) } => "scale mode 3";
    mode_1_for_gamma: |p| p.set_tensor(2, 3, 1) => "scale mode 1";
    mode_1_for_frequencies: |p| p.set_tensor(0, 3, 1) => "scale mode 1";
    mode_0_for_static_keys: |p| { p.with_static_keys(); p.set_tensor(12, 3, 0) } => "scale mode 0";
    mode_one_scale_for_an_embedding: |p| p.program(|p| {
        p.tensors[1].kind = TensorKind::rows(Encoding::Int8, ScaleMode::One);
        p.tensors[1].scales = 0..0;
    }) => "the padding before it is not zero";
    group_with_one_scale: |p| p.set_tensor(10, 4, 32) => "with group 32";
    group_with_row_scales: |p| p.set_tensor(3, 4, 32) => "with group 32";
    group_of_0: |p| p.set_tensor(5, 4, 0) => "with group 0";
    group_of_48: |p| p.set_tensor(5, 4, 48) => "with group 48";
    group_that_changes_the_number_of_scales: |p| p.set_tensor(9, 3, 3) => "with group 0";
    scale_mantissa_too_small: |p| p.set_tensor(10, 5, (1 << 30) - 1) => "is no scale";
    scale_mantissa_too_large: |p| p.set_tensor(10, 5, 1 << 31) => "is no scale";
    scale_exponent_too_small: |p| p.set_tensor(10, 6, -4097i32 as u32) => "is no scale";
    scale_exponent_too_large: |p| p.set_tensor(10, 6, 4096) => "is no scale";
    scale_of_rows_is_no_power_of_two: |p| p.set_tensor(3, 5, (1 << 30) + 1) => "power of two";
    scale_of_groups_is_no_power_of_two: |p| p.set_tensor(5, 5, (1 << 30) + 1) => "power of two";
    scale_of_gamma_is_no_power_of_two: |p| p.set_tensor(2, 5, (1 << 30) + 1) => "power of two";
    scale_of_gamma_exponent: |p| p.set_tensor(2, 6, 4096) => "is no scale";
    scale_of_frequencies: |p| p.set_tensor(0, 5, 1 << 30) => "the factor of its frequencies is above 1";
    stride_of_ternary2: |p| p.set_tensor(3, 7, 4) => "row stride 4, 8 is right";
    stride_of_int8: |p| p.set_tensor(1, 7, 33) => "row stride 33, 32 is right";
    stride_of_gamma: |p| p.set_tensor(2, 7, 0) => "row stride 0, 128 is right";
    stride_of_frequencies: |p| p.set_tensor(0, 7, 8) => "row stride 8, 16 is right";
    stride_of_static_keys: |p| { p.with_static_keys(); p.set_tensor(12, 7, 8) } => "row stride 8, 0 is right";
    rows_of_gamma: |p| p.set_tensor(2, 1, 2) => "2 rows, it must have one";
    rows_of_frequencies: |p| p.set_tensor(0, 1, 2) => "2 rows, it must have one";
    frequencies_of_another_number: |p| p.program(|p| { p.tensors[0].cols = 5; p.tensors[0].data.end = 20 }) => "more than head_dim / 2";
    data_unaligned: |p| p.set_tensor(3, 8, 736 + 8) => "data of tensor 3: 128 bytes at 744";
    data_of_another_length: |p| p.set_tensor(3, 10, 136) => "its data must have 128 bytes";
    data_length_with_a_high_word: |p| p.set_tensor(3, 11, 1) => "its data must have 128 bytes";
    data_beyond_the_section: |p| p.set_tensor(3, 8, 3120 - 64) => "of a weights section of 3120";
    data_beyond_the_section_by_the_high_word: |p| p.set_tensor(3, 9, 1) => "of a weights section of 3120";
    data_that_ends_at_2_to_the_64: |p| { p.set_tensor(3, 8, NONE - 127); p.set_tensor(3, 9, NONE) } => "data of tensor 3";
    data_just_below_2_to_the_64: |p| { p.set_tensor(3, 8, NONE - 143); p.set_tensor(3, 9, NONE) } => "of a weights section of 3120";
    scales_unaligned: |p| p.set_tensor(3, 12, 868) => "scales of tensor 3: 80 bytes at 868";
    scales_of_another_length: |p| p.set_tensor(3, 14, 75) => "its scales 80";
    scales_beyond_the_section: |p| p.set_tensor(3, 12, 3072) => "of a weights section of 3120";
    scales_offset_where_there_are_none: |p| p.set_tensor(10, 12, 16) => "its scales 0";
    scales_length_where_there_are_none: |p| p.set_tensor(10, 14, 5) => "its scales 0";
    overlap_of_data: |p| p.set_tensor(4, 8, 736) => "overlaps another tensor";
    overlap_of_scales_and_data: |p| p.set_tensor(4, 12, 944) => "overlaps another tensor";
    overlap_by_16_bytes: |p| p.set_tensor(4, 8, 944 - 16) => "overlaps another tensor";
    gap_that_is_not_zero: |p| { let n = p.get(WEIGHTS).len(); p.section(WEIGHTS).resize(n + 64, 0); p.section(WEIGHTS)[n + 5] = 1; p.program(|p| {
        p.tensors[11].data = 3184 - 128..3184;
    }) } => "padding before it is not zero";
    bytes_after_the_last_tensor: |p| p.section(WEIGHTS).extend([0; 16]) => "bytes of no tensor";
    weights_cut: |p| p.section(WEIGHTS).truncate(3119) => "of a weights section of 3119";
}

fn low_bit(enc: Encoding) -> TensorKind {
    TensorKind::rows(enc, ScaleMode::One)
}

// ---- values; tensor 12 is added, so that every encoding has padding ----

refuses! {
    ternary_code_with_both_bits: |p| { let w = p.word(WEIGHTS, 2736 / 4); p.set(WEIGHTS, 2740 / 4, w | 1); p.set(WEIGHTS, 2736 / 4, w | 1) } => "row 0, column 0";
    ternary_code_with_both_bits_in_the_last_row: |p| { p.set(WEIGHTS, 2984 / 4, 1 << 30); p.set(WEIGHTS, 2988 / 4, 1 << 30) } => "row 31, column 30";
    ternary_unused_bit_of_plus: |p| { let w = p.word(WEIGHTS, 2736 / 4); p.set(WEIGHTS, 2736 / 4, w | 1 << 31) } => "row 0, column 31";
    ternary_unused_bit_of_minus: |p| { let w = p.word(WEIGHTS, 2740 / 4); p.set(WEIGHTS, 2740 / 4, w | 1 << 31) } => "row 0, column 31";
    binary_unused_bit: |p| { p.add_tensor(low_bit(Encoding::Binary1), 2, 33, &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]); } => "row 1, column 33";
    int8_padding: |p| { p.add_tensor(low_bit(Encoding::Int8), 1, 5, &[1, 1, 1, 1, 1, 0, 0, 1]); } => "row 0, column 7";
    int16_padding: |p| { p.add_tensor(low_bit(Encoding::Int16), 1, 3, &[1, 1, 1, 1, 1, 1, 1, 0]); } => "row 0, column 6";
    row_scale_mantissa_0: |p| p.set(WEIGHTS, 864 / 4, 0) => "mantissa";
    row_scale_mantissa_2_to_the_31: |p| p.set(WEIGHTS, 864 / 4 + 15, 1 << 31) => "mantissa";
    group_scale_mantissa: |p| p.set(WEIGHTS, 1280 / 4, (1 << 30) - 1) => "mantissa";
    row_scale_shift: |p| p.section(WEIGHTS)[864 + 64] = 64 => "a scale shift is above 63";
    embedding_scale_shift: |p| p.section(WEIGHTS)[528 + 79] = 255 => "a scale shift is above 63";
    static_keys_of_another_shape: |p| { p.with_static_keys(); p.set_tensor(12, 1, 1); p.set_tensor(12, 2, 16) } => "key constants";
    static_keys_of_another_kind: |p| { p.with_static_keys(); p.set_op(6, 5, 2) } => "key constants";
    static_keys_only_for_the_query: |p| { p.with_static_keys(); p.set_op(6, 5, NONE) } => "contradict";
    static_keys_of_another_length: |p| { p.with_static_keys(); p.set_tensor(12, 10, 225) } => "its data must have 224 bytes";
    static_keys_scale: |p| { p.with_static_keys(); p.set_tensor(12, 5, 0) } => "is no scale";
    static_keys_centre: |p| { p.with_static_keys(); p.set(WEIGHTS, 3120 / 4, (1 << 24) + 1) } => "centre 16777217";
    static_keys_negative_centre: |p| { p.with_static_keys(); p.set(WEIGHTS, 3120 / 4 + 15, i32::MIN as u32) } => "centre -2147483648";
    static_keys_inverse_mantissa: |p| { p.with_static_keys(); p.set(WEIGHTS, (3120 + 64) / 4, 0) } => "mantissa";
    static_keys_key_mantissa: |p| { p.with_static_keys(); p.set(WEIGHTS, (3120 + 128) / 4 + 15, NONE) } => "mantissa";
    static_keys_inverse_shift: |p| { p.with_static_keys(); p.section(WEIGHTS)[3120 + 192] = 63 } => "a scale shift is above 62";
    static_keys_key_shift: |p| { p.with_static_keys(); p.section(WEIGHTS)[3120 + 223] = 64 } => "a scale shift is above 63";
}

#[test]
fn what_the_text_allows_is_accepted() {
    let mut p = Parts::tiny();
    p.with_static_keys();
    // Any i32 is a gain, any u32 a frequency.
    p.set(WEIGHTS, 608 / 4, i32::MIN as u32);
    p.set(WEIGHTS, 0, NONE);
    let a = open(p.seal()).unwrap();
    assert!(a.program.static_keys);
    let mut s = a.session(bitnet_convert::kernels::dot::DotKernel::best());
    assert!(s.run(&[1, 2, 3, 4, 5]).unwrap().is_some());
}

/// An error about a value names the tensor and the byte of that value in the file.
#[test]
fn the_place_of_a_wrong_value_is_exact() {
    let start = |p: &Parts| open(p.seal()).unwrap().packed.offset(bitnet_convert::format::packed::Kind::Weights);
    let mut p = Parts::tiny();
    let base = start(&p);
    p.set(WEIGHTS, 864 / 4 + 3, 0);
    let e = open(p.seal()).err().unwrap();
    assert_eq!((e.offset(), e.tensor()), (Some(base + 864 + 12), Some("#3")));
    let mut p = Parts::tiny();
    p.section(WEIGHTS)[864 + 64 + 5] = 99;
    assert_eq!(open(p.seal()).err().unwrap().offset(), Some(base + 864 + 64 + 5));
    let mut p = Parts::tiny();
    p.with_static_keys();
    p.section(WEIGHTS)[3120 + 192 + 7] = 63;
    assert_eq!(open(p.seal()).err().unwrap().offset(), Some(start(&Parts::tiny()) + 64 + 3120 + 192 + 7));
}

// ---- golden trace: 4 words, then prompt 0 (1 of 4 tokens) at word 4 and prompt 1 (6 of 11) at word 22; 3 sums a token ----

refuses! {
    golden_version: |p| p.set(GOLDEN, 0, 2) => "version is not 1";
    golden_too_many_prompts: |p| p.set(GOLDEN, 1, 65) => "number of prompts is 65";
    golden_more_prompts_than_there_are: |p| p.set(GOLDEN, 1, 3) => "cut short";
    golden_fewer_prompts_than_there_are: |p| p.set(GOLDEN, 1, 1) => "bytes too many at the end";
    golden_no_prompts_but_bytes: |p| p.set(GOLDEN, 1, 0) => "bytes too many at the end";
    golden_layers: |p| { p.section(GOLDEN).truncate(16); p.set(GOLDEN, 1, 0); p.set(GOLDEN, 2, 2) } => "another number of layers";
    golden_layers_0: |p| p.set(GOLDEN, 2, 0) => "layers is 0";
    golden_reserved: |p| p.set(GOLDEN, 3, 1) => "reserved field holds 1";
    golden_empty_prompt: |p| p.set(GOLDEN, 4, 0) => "prompt length is 0";
    golden_prompt_longer_than_the_whole: |p| p.set(GOLDEN, 4, 5) => "total length is 4";
    golden_more_than_65536_tokens: |p| p.set(GOLDEN, 5, 65_537) => "total length is 65537";
    golden_tokens_beyond_the_section: |p| p.set(GOLDEN, 5, 65_536) => "65536 tokens do not fit";
    golden_id_beyond_the_vocabulary: |p| p.set(GOLDEN, 6, 16) => "token id is 16";
    golden_generated_id_beyond_the_vocabulary: |p| p.set(GOLDEN, 9, NONE) => "token id is 4294967295";
    golden_checksum_of_logits_that_are_not_computed: |p| p.set(GOLDEN, 22 + 2 + 11 + 2, 1) => "not computed";
    golden_cut: |p| p.section(GOLDEN).truncate(268) => "do not fit|cut short";
    golden_cut_in_its_header: |p| p.section(GOLDEN).truncate(9) => "cut short";
    golden_with_a_byte_too_many: |p| p.section(GOLDEN).push(0) => "1 bytes too many";
}

#[test]
fn a_golden_section_without_prompts_is_accepted() {
    let mut p = Parts::tiny();
    p.section(GOLDEN).truncate(16);
    p.set(GOLDEN, 1, 0);
    assert!(open(p.seal()).unwrap().golden.prompts.is_empty());
}

/// No count in the file makes a reader reserve memory before it has seen that the bytes are there.
#[test]
fn counts_are_held_against_the_length_first() {
    for (word, value) in [(1, 65_536), (3, 65_536), (7, 1024)] {
        let mut file = Parts::tiny();
        file.set(PROGRAM, word, value);
        refused(file.seal(), "bytes are needed for its counts|has no attention");
    }
    let mut file = Parts::tiny();
    let golden = file.section(GOLDEN);
    put(golden, 4, 64);
    put(golden, 8, 1024);
    refused(file.seal(), "layers|fit|cut short");
}
