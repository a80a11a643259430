//! docs/format/packed.md as a list of tests: one for each rule of header, section table, program header, registers and operations.
//! Each patches the tiny model, makes all digests right again and asks for the error of exactly that rule.

mod common;

use bitnet_convert::program::OpKind;
use common::packed::{digest_section, open, put, refused, seal_header, Parts, NONE, PROGRAM, TABLES, WEIGHTS};
use common::tiny_bytes;

/// As `refuses!`, on the bytes of the whole file.
macro_rules! refuses_file {
    ($($name:ident: $edit:expr => $reason:expr;)*) => {$(
        #[test]
        fn $name() {
            let mut file = tiny_bytes();
            ($edit as fn(&mut Vec<u8>))(&mut file);
            refused(file, $reason);
        }
    )*};
}

#[test]
fn the_unchanged_file_is_accepted_and_sealing_gives_the_same_bytes() {
    assert_eq!(Parts::tiny().seal(), tiny_bytes());
    assert!(open(tiny_bytes()).is_ok());
}

// ---- header ----

refuses_file! {
    header_magic: |f| f[0] = 0x88 => "this is no packed model";
    header_magic_damaged_by_a_text_transfer: |f| { f.remove(5); } => "this is no packed model";
    header_magic_wins_over_the_digest: |f| { f[1] ^= 1; seal_header(f) } => "this is no packed model";
    header_major_version_0: |f| { put(f, 8, 0); seal_header(f) } => "packed format 0.0";
    header_major_version_2: |f| { put(f, 8, 2); seal_header(f) } => "packed format 2.0";
    header_no_sections: |f| { put(f, 12, 0); seal_header(f) } => "number of sections is 0";
    header_17_sections: |f| { put(f, 12, 17); seal_header(f) } => "number of sections is 17";
    header_section_count_beyond_the_file: |f| { f.truncate(1000); put(f, 12, 16); put(f, 16, 1000); seal_header(f) } => "cut short";
    header_length_too_small: |f| { put(f, 16, 12_047); seal_header(f) } => "the header says 12047 bytes, the file has 12048";
    header_length_with_a_high_word: |f| { put(f, 20, 1); seal_header(f) } => "the file has 12048";
    header_byte_order_swapped: |f| { put(f, 24, 0x0403_0201); seal_header(f) } => "byte order";
    header_byte_order_mark: |f| { put(f, 24, 0); seal_header(f) } => "byte order";
    header_crc: |f| f[28] ^= 1 => "digest of the header";
    header_sha256: |f| f[63] ^= 1 => "digest of the header";
    header_digest_covers_the_minor_version: |f| f[10] = 1 => "digest of the header";
    header_digest_covers_the_table: |f| f[64 + 24] ^= 1 => "digest of the header";
    header_bytes_appended: |f| f.push(0) => "the header says 12048 bytes, the file has 12049";
    header_appended_bytes_that_the_length_counts: |f| { f.push(0); put(f, 16, 12_049); seal_header(f) } => "1 bytes after the last section";
    header_empty_file: |f| f.clear() => "cut short";
    header_cut: |f| f.truncate(63) => "the file has 63";
}

#[test]
fn a_higher_minor_version_is_read() {
    let mut f = tiny_bytes();
    put(&mut f, 8, 1 | 7 << 16);
    seal_header(&mut f);
    assert!(open(f).is_ok());
}

// ---- section table; entries of the tiny model: program, tables, weights, golden ----

refuses_file! {
    table_kind_0: |f| { put(f, 64 + 192, 0); seal_header(f) } => "section kind 0 is not defined";
    table_kind_6: |f| { put(f, 64 + 192, 6); seal_header(f) } => "section kind 6 is not defined";
    table_kind_15: |f| { put(f, 64 + 192, 15); seal_header(f) } => "section kind 15 is not defined";
    table_kind_18: |f| { put(f, 64 + 192, 18); seal_header(f) } => "section kind 18 is not defined";
    table_kind_31: |f| { put(f, 64 + 192, 31); seal_header(f) } => "section kind 31 is not defined";
    table_kind_twice: |f| { put(f, 64 + 192, 3); seal_header(f) } => "section kind 3 occurs twice";
    table_reserved_word_1: |f| { put(f, 64 + 4, 1); seal_header(f) } => "reserved field holds 1";
    table_reserved_word_7: |f| { put(f, 64 + 28, 9); seal_header(f) } => "reserved field holds 9";
    table_offset_of_the_first_section: |f| { put(f, 64 + 8, 384); seal_header(f) } => "a section starts at 384, 320 is its place";
    table_offset_inside_the_table: |f| { put(f, 64 + 8, 256); seal_header(f) } => "a section starts at 256";
    table_offset_unaligned: |f| { put(f, 64 + 8, 321); seal_header(f) } => "a section starts at 321";
    table_offset_skips_64_bytes: |f| { put(f, 128 + 8, 2432 + 64); seal_header(f) } => "2432 is its place";
    table_offsets_descend: |f| { put(f, 192 + 8, 320); seal_header(f) } => "a section starts at 320";
    table_offset_with_a_high_word: |f| { put(f, 64 + 12, 1); seal_header(f) } => "320 is its place";
    table_section_empty: |f| { put(f, 64 + 16, 0); seal_header(f) } => "a section of 0 bytes";
    table_section_beyond_the_file: |f| { put(f, 256 + 16, 273); seal_header(f) } => "leaves the file";
    table_section_of_2_to_the_64: |f| { put(f, 64 + 16, NONE); put(f, 64 + 20, NONE); seal_header(f) } => "leaves the file";
    table_section_shorter_than_its_bytes: |f| { put(f, 256 + 16, 271); seal_header(f) } => "1 bytes after the last section";
    table_padding_between_sections: |f| f[320 + 2096] = 1 => "padding before a section is not zero";
    table_crc_of_a_section: |f| { f[128 + 24] ^= 1; seal_header(f) } => "the digest of the tables section";
    table_sha_of_a_section: |f| { f[256 + 32] ^= 1; seal_header(f) } => "the digest of the golden trace section";
    table_crc_right_and_sha_wrong: |f| {
        f[8640] ^= 1;
        let sha = f[192 + 32..256].to_vec();
        digest_section(f, 2);
        f[192 + 32..256].copy_from_slice(&sha);
        seal_header(f);
    } => "the digest of the weights section";
}

refuses! {
    program_section_missing: |p| p.0.retain(|s| s.0 != PROGRAM) => "no program section";
    tables_section_missing: |p| p.0.retain(|s| s.0 != TABLES) => "no tables section";
    weights_section_missing: |p| p.0.retain(|s| s.0 != WEIGHTS) => "no weights section";
    manifest_is_no_protobuf: |p| p.0.push((16, vec![0xFF; 40])) => "manifest is damaged";
    manifest_names_another_number_of_tensors: |p| p.0.push((16, vec![0x4A, 1, b'a'])) => "another number of tensors";
}

#[test]
fn kinds_from_32_on_are_ignored_even_twice() {
    let mut p = Parts::tiny();
    p.0.insert(1, (32, vec![1, 2, 3]));
    p.0.push((0xFFFF_FFFF, vec![4; 70]));
    assert!(open(p.seal()).is_ok());
}

#[test]
fn sections_may_come_in_any_order_and_the_trace_is_optional() {
    let mut p = Parts::tiny();
    p.0.rotate_left(2);
    assert!(open(p.seal()).is_ok());
    p.0.retain(|s| s.0 != common::packed::GOLDEN);
    assert!(open(p.seal()).is_ok_and(|a| a.golden.prompts.is_empty()));
}

// ---- program header; the tiny model has 23 operations, 12 tensors, 12 registers, a vocabulary of 16 ----

refuses! {
    program_version: |p| p.set(PROGRAM, 0, 2) => "version 2";
    program_no_operations: |p| p.set(PROGRAM, 1, 0) => "number of operations is 0";
    program_too_many_operations: |p| p.set(PROGRAM, 1, 65_537) => "number of operations is 65537";
    program_head_op_beyond_the_operations: |p| p.set(PROGRAM, 2, 23) => "head_op is 23";
    program_no_tensors: |p| p.set(PROGRAM, 3, 0) => "number of tensors is 0";
    program_too_many_tensors: |p| p.set(PROGRAM, 3, 65_537) => "number of tensors is 65537";
    program_no_registers: |p| p.set(PROGRAM, 4, 0) => "number of registers is 0";
    program_33_registers: |p| p.set(PROGRAM, 4, 33) => "number of registers is 33";
    program_vocabulary_0: |p| p.set(PROGRAM, 5, 0) => "vocabulary is 0";
    program_vocabulary_above_2_to_the_20: |p| p.set(PROGRAM, 5, (1 << 20) + 1) => "vocabulary is 1048577";
    program_d_model_0: |p| p.set(PROGRAM, 6, 0) => "d_model is 0";
    program_d_model_above_32768: |p| p.set(PROGRAM, 6, 32_769) => "d_model is 32769";
    program_layers_0: |p| p.set(PROGRAM, 7, 0) => "layers is 0";
    program_layers_above_1024: |p| p.set(PROGRAM, 7, 1025) => "layers is 1025";
    program_heads_0: |p| p.set(PROGRAM, 8, 0) => "heads is 0";
    program_heads_times_head_dim_above_32768: |p| p.set(PROGRAM, 8, 4098) => "4098 heads of 8 are 32784 elements, at most 32768";
    program_kv_heads_0: |p| p.set(PROGRAM, 9, 0) => "kv heads is 0";
    program_kv_heads_do_not_divide_heads: |p| { p.set(PROGRAM, 8, 3); p.set(PROGRAM, 9, 2) } => "3 heads are no multiple of 2 kv heads";
    program_more_kv_heads_than_heads: |p| p.set(PROGRAM, 9, 4) => "kv heads is 4";
    program_head_dim_0: |p| p.set(PROGRAM, 10, 0) => "head_dim is 0";
    program_head_dim_odd: |p| p.set(PROGRAM, 10, 7) => "head_dim 7 is odd";
    program_head_dim_above_256: |p| p.set(PROGRAM, 10, 258) => "head_dim is 258";
    program_residual_frac_bits: |p| p.set(PROGRAM, 11, 29) => "residual_frac_bits is 29";
    program_window_0: |p| p.set(PROGRAM, 12, 0) => "window is 0";
    program_window_above_2_to_the_17: |p| p.set(PROGRAM, 12, (1 << 17) + 1) => "window is 131073";
    program_sinks_fill_the_window: |p| p.set(PROGRAM, 13, 3) => "sinks is 3";
    program_bits_of_keys: |p| p.set(PROGRAM, 14, 2) => "2 bits for a cache";
    program_bits_of_values: |p| p.set(PROGRAM, 15, 32) => "32 bits for a cache";
    program_reserved_flag: |p| p.set(PROGRAM, 16, 4) => "flags is 4";
    program_sinks_of_an_encoder: |p| p.set(PROGRAM, 16, 2) => "1 sinks in an encoder";
    program_static_keys_of_8_bits: |p| p.set(PROGRAM, 16, 1) => "static keys have 4 bits";
    program_key_fraction_bits: |p| p.set(PROGRAM, 17, 29) => "f_k is 29";
    program_five_end_ids: |p| p.set(PROGRAM, 18, 5) => "number of end ids is 5";
    program_end_id_beyond_the_vocabulary: |p| p.set(PROGRAM, 19, 16) => "end id 16";
    program_unused_end_id: |p| p.set(PROGRAM, 22, 1) => "end id 1";
    program_begin_id_beyond_the_vocabulary: |p| p.set(PROGRAM, 23, 16) => "begin id 16";
    program_lut_bytes: |p| p.set(PROGRAM, 25, 2049) => "lut_bytes 2049";
    program_positions_without_a_table: |p| p.set(PROGRAM, 26, 1) => "1 positions without a POSITION operation";
    program_lut_bytes_above_2_to_the_26: |p| p.set(PROGRAM, 25, (1 << 26) + 512) => "lut_bytes 67109376";
    program_pairs: |p| p.set(PROGRAM, 29, 2) => "room for paired tokens is 2";
    program_reserved_word_30: |p| p.set(PROGRAM, 30, 1) => "reserved field holds 1";
    program_reserved_word_31: |p| p.set(PROGRAM, 31, NONE) => "reserved field holds";
    program_cut_inside_the_header: |p| p.section(PROGRAM).truncate(100) => "cut short";
    program_cut_by_a_word: |p| { let n = p.get(PROGRAM).len(); p.section(PROGRAM).truncate(n - 4) } => "bytes are needed for its counts";
    program_a_word_too_many: |p| p.section(PROGRAM).extend([0; 4]) => "bytes are needed for its counts";
    program_counts_that_cannot_fit: |p| { p.set(PROGRAM, 1, 65_536); p.set(PROGRAM, 3, 65_536) } => "bytes are needed for its counts";
    register_kind: |p| p.set(PROGRAM, p.register(0, 0), 3) => "register kind 3";
    register_capacity_0: |p| p.set(PROGRAM, p.register(0, 1), 0) => "register capacity is 0";
    register_capacity_above_2_to_the_20: |p| p.set(PROGRAM, p.register(0, 1), (1 << 20) + 1) => "register capacity is 1048577";
    tables_changed: |p| p.set(TABLES, 100, 1) => "its tables are not those of semantics version 1";
    tables_cut: |p| p.section(TABLES).truncate(6148) => "its tables are not those";
}

// ---- operations: fields ----
// 0 EMBED, 1 RMSNORM, 2 QUANTIZE, 3..5 LINEAR, 6 KVWRITE(r4, r5), 7 ATTEND(r3), 8 QUANTIZE, 9 LINEAR, 10 ADD, 11 RMSNORM, 12 QUANTIZE,
// 13, 14 LINEAR, 15 SILUMUL, 16 QUANTIZE, 17 LINEAR, 18 ADD; from the head on 19 RMSNORM, 20 QUANTIZE, 21 LINEAR, 22 LOGITS

refuses! {
    op_opcode_0: |p| p.set_op(2, 0, 0) => "opcode 0";
    op_opcode_20: |p| p.set_op(2, 0, 20) => "opcode 20";
    op_layer_beyond_the_layers: |p| p.set_op(2, 0, 3 | 1 << 8) => "layer 1 of 1";
    op_register_beyond_the_registers: |p| p.set_op(2, 1, 12) => "register 0xc in word 1";
    op_source_missing: |p| p.set_op(2, 2, NONE) => "word 2";
    op_register_in_a_row_that_names_none: |p| p.set_op(2, 3, 0) => "register 0x0 in word 3";
    op_tensor_beyond_the_tensors: |p| p.set_op(3, 4, 12) => "tensor 0xc in word 4";
    op_tensor_in_a_row_that_names_none: |p| p.set_op(2, 4, 0) => "tensor 0x0 in word 4";
    op_second_tensor_in_a_row_that_names_none: |p| p.set_op(3, 5, 0) => "word 5";
    op_embed_with_a_source: |p| p.set_op(0, 2, 1) => "word 2";
    op_unused_parameter: |p| p.set_op(10, 8, 1) => "unused parameter";
    op_factor_that_is_no_scale: |p| p.set_op(10, 6, 1) => "is no scale";
    op_last_unused_parameter: |p| p.set_op(1, 11, 1) => "unused parameter";
    op_eps_mantissa_too_small: |p| p.set_op(1, 6, (1 << 30) - 1) => "is no scale";
    op_eps_mantissa_too_large: |p| p.set_op(1, 6, 1 << 31) => "is no scale";
    op_eps_exponent_too_small: |p| p.set_op(1, 7, -4097i32 as u32) => "is no scale";
    op_eps_exponent_too_large: |p| p.set_op(1, 7, 4096) => "is no scale";
    op_floor_mantissa: |p| p.set_op(2, 9, 0) => "is no scale";
    op_softmax_mantissa: |p| p.set_op(7, 6, 0) => "is no scale";
    op_qmax_0: |p| p.set_op(2, 6, 0) => "with Qmax 0";
    op_qmax_above_32767: |p| p.set_op(20, 6, 32_768) => "with Qmax 32768";
    op_lo_positive: |p| p.set_op(2, 7, 1) => "quantize to 1";
    op_lo_below_minus_qmax_minus_1: |p| p.set_op(2, 7, -129i32 as u32) => "quantize to -129";
    op_hi_negative: |p| p.set_op(2, 8, NONE) => "-128 ..= -1";
    op_hi_above_qmax: |p| p.set_op(2, 8, 128) => "-128 ..= 128";
    op_kernel_hint_3: |p| p.set_op(3, 6, 3) => "kernel hint 3";
    op_planes_need_qmax_2: |p| p.set_op(3, 6, 1) => "planes kernel";
    op_planes_need_low_bit_weights: |p| { p.set_op(20, 6, 2); p.set_op(20, 7, 0); p.set_op(20, 8, 1); p.set_op(21, 6, 1) } => "planes kernel";
    op_tables_need_order_1: |p| { p.set(PROGRAM, 25, 512); p.set_op(3, 6, 2) } => "hint 2) needs order 1";
}

// ---- operations: lengths, kinds and order ----

refuses! {
    flow_embed_is_first: |p| p.program(|p| p.ops.swap(0, 1)) => "EMBED is the first operation";
    flow_embed_occurs_once: |p| p.program(|p| p.ops[1] = p.ops[0].clone()) => "EMBED is the first operation";
    flow_embed_from_gamma: |p| p.set_op(0, 4, 2) => "no matrix";
    flow_embed_of_another_size: |p| p.set(PROGRAM, 5, 15) => "its table is 16 x 32";
    flow_register_read_before_it_is_written: |p| p.set_op(1, 2, 7) => "register 7 is read before it is written";
    flow_codes_where_a_vector_is_needed: |p| p.set_op(8, 2, 2) => "holds codes";
    flow_vector_where_codes_are_needed: |p| p.set_op(3, 2, 1) => "holds no codes";
    flow_result_in_a_register_of_another_kind: |p| p.set_op(1, 1, 2) => "another kind";
    flow_codes_above_127_in_bytes: |p| p.set_op(20, 1, 2) => "another kind";
    flow_register_too_small: |p| p.set(PROGRAM, p.register(6, 1), 15) => "16 elements in register 6, which holds 15";
    flow_gamma_of_another_length: |p| p.program(|p| p.tensors[2].cols = 31) => "tensor 2";
    flow_norm_by_what_is_no_gamma: |p| p.set_op(1, 4, 0) => "gamma has 4 values";
    flow_weight_is_no_matrix: |p| p.set_op(3, 4, 2) => "its weight is no matrix";
    flow_weight_of_other_columns: |p| p.set_op(3, 4, 6) => "16 columns for 32 codes";
    flow_weight_of_other_rows: |p| p.set_op(3, 4, 8) => "31 elements in register 3";
    flow_gate_and_up_of_other_lengths: |p| p.set_op(15, 2, 3) => "register 9 holds 31 elements, 16 are needed";
    flow_add_of_another_length: |p| p.set_op(10, 2, 6) => "register 6 holds 16 elements, 32 are needed";
    flow_add_to_what_is_no_residual: |p| p.set_op(10, 1, 1) => "not the residual";
    flow_add_of_the_residual_to_itself: |p| p.set_op(10, 2, 0) => "residual";
    flow_residual_overwritten: |p| p.set_op(9, 1, 0) => "only EMBED, POSITION, ADD and STORE may write the residual";
    flow_key_of_another_length: |p| p.set_op(6, 2, 1) => "register 1 holds 32 elements, 16 are needed";
    flow_value_of_another_length: |p| p.set_op(6, 3, 1) => "register 1 holds 32 elements, 16 are needed";
    flow_key_and_value_in_one_register: |p| p.set_op(6, 3, 4) => "two registers, neither the residual";
    flow_key_is_the_residual: |p| { p.set(PROGRAM, 10, 16); p.set_op(6, 2, 0); p.set_op(6, 3, 1) } => "two registers, neither the residual";
    flow_value_is_the_residual: |p| { p.set(PROGRAM, 10, 16); p.set_op(6, 2, 1); p.set_op(6, 3, 0) } => "two registers, neither the residual";
    flow_frequencies_of_another_kind: |p| p.set_op(6, 4, 2) => "frequencies";
    flow_query_of_another_length: |p| p.set_op(7, 2, 1) => "register 1 holds 32 elements, 16 are needed";
    flow_attention_in_place: |p| p.set_op(7, 1, 3) => "cannot replace q";
    flow_static_keys_without_the_flag: |p| p.set_op(6, 5, 0) => "contradict";
    flow_flag_without_static_keys: |p| { p.set(PROGRAM, 14, 4); p.set(PROGRAM, 16, 1) } => "contradict";
    flow_layer_without_attention: |p| p.program(|p| drop(p.ops.drain(6..8))) => "register 6 is read before";
    flow_empty_layer: |p| p.program(|p| p.layers = 2) => "layer 1 has no attention";
    flow_attention_before_the_keys: |p| p.program(|p| p.ops.swap(6, 7)) => "one KVWRITE and then one ATTEND";
    flow_two_kvwrites: |p| p.program(|p| p.ops.insert(7, p.ops[6].clone())) => "one KVWRITE and then one ATTEND|read";
    flow_two_attends: |p| p.program(|p| p.ops.insert(8, p.ops[7].clone())) => "one KVWRITE and then one ATTEND";
    flow_kvwrite_outside_of_the_layers: |p| p.program(|p| { p.ops[6].layer = None; p.ops[..6].iter_mut().for_each(|o| o.layer = None) }) => "one KVWRITE and then one ATTEND";
    flow_layers_descend: |p| p.program(|p| { p.layers = 2; p.ops[1].layer = Some(1) }) => "layer 0 after layer 1";
    flow_outside_between_layers: |p| p.program(|p| p.ops[8].layer = None) => "operations outside the layers";
    flow_layer_from_the_head_on: |p| p.program(|p| p.ops[20].layer = Some(0)) => "operations outside the layers";
    flow_head_changes_state: |p| p.set(PROGRAM, 2, 18) => "outside the layers|changes state";
    flow_head_from_the_first_operation_on: |p| p.set(PROGRAM, 2, 0) => "changes state";
    flow_logits_of_another_length: |p| p.set_op(22, 2, 1) => "register 1 holds 32 elements, 16 are needed";
    flow_logits_before_the_end: |p| p.program(|p| p.ops.push(p.ops[19].clone())) => "it must be the last";
    flow_no_logits: |p| p.program(|p| p.ops.truncate(22)) => "the last operation must be LOGITS";
}

/// What the rules must not refuse: the same register as source and destination where the text allows it.
#[test]
fn what_the_text_allows_is_accepted() {
    let mut p = Parts::tiny();
    p.program(|p| {
        let OpKind::SiluMul { gate, up, .. } = p.ops[15].kind else { panic!("operation 15 is SILUMUL") };
        p.ops[15].kind = OpKind::SiluMul { dst: gate, gate, up: gate };
        let OpKind::Quantize { dst, rule, .. } = p.ops[16].kind else { panic!("operation 16 is QUANTIZE") };
        p.ops[16].kind = OpKind::Quantize { dst, src: gate, rule };
        let _ = up;
    });
    let a = open(p.seal()).unwrap();
    let mut s = a.session(bitnet_convert::kernels::dot::DotKernel::Scalar);
    assert!(s.run(&[1, 2, 3, 4]).unwrap().is_some());
}
