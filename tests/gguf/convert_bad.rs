//! Files that lie to the converter. Each is refused with a message that names the file and the tensor, and nothing is written.

use crate::convert::{llama, row, Bench, UP};
use crate::convert_files::matrix;
use crate::writer::*;
use bitnet_convert::encoding::blocks::Block;
use bitnet_convert::error::Kind as ErrorKind;
use bitnet_convert::export::gguf::Kind;

#[test]
fn data_that_is_cut() {
    let g = llama().with(matrix(UP));
    let bench = Bench::new(&g);
    let bytes = g.bytes();
    std::fs::write(bench.source(), &bytes[..bytes.len() - 33]).unwrap();
    bench.refused(Kind::Tq2_0, &[UP, "in.gguf", "127 bytes lie", "takes 160"]);
}

#[test]
fn a_count_of_tensors_that_is_wrong() {
    let bench = Bench::new(&llama().with(matrix(UP)));
    let mut bytes = std::fs::read(bench.source()).unwrap();
    for n in [0u64, 2, u64::MAX] {
        bytes[8..16].copy_from_slice(&n.to_le_bytes());
        std::fs::write(bench.source(), &bytes).unwrap();
        bench.refused(Kind::Tq2_0, &[]);
    }
}

/// A block of TQ2_0 with the scale 1, all codes 0.
fn tq2_0() -> Vec<u8> {
    [&[0x55; 64][..], &[0x00, 0x3C]].concat()
}

#[test]
fn two_bits_of_three() {
    let mut data = tq2_0();
    data[40] = 0b11_01_01_01; // byte 8 of the second half, last of its four
                              // Also where the tensor would be copied as it is.
    for kind in [Kind::Tq1_0, Kind::Q8_0, Kind::Tq2_0] {
        let e = Bench::new(&llama().with(tensor(UP, &[256, 1], 35, data.clone())))
            .refused(kind, &[UP, "in.gguf", "value 232 has the code 3, which is no trit"]);
        assert_eq!(e.kind(), ErrorKind::Input);
    }
    let mut data = [vec![0x55; 32], Block::i2_s_tail(1.0).to_vec()].concat();
    data[5] = 0b01_11_01_01;
    Bench::new(&llama().with(tensor(UP, &[128, 1], 36, data))).refused(Kind::Q2_0, &["value 37 has the code 3"]);
}

#[test]
fn scales_that_are_no_numbers() {
    let f16s = [[0x00, 0x7E], [0x00, 0x7C], [0x00, 0xFC], [0xFF, 0xFF]];
    for bits in f16s {
        for (id, ne, data) in [
            (34, 256, [&[128; 52][..], &bits].concat()),
            (35, 256, [&[0x55; 64][..], &bits].concat()),
            (41, 128, [&bits[..], &[0x0F; 16]].concat()),
            (42, 64, [&bits[..], &[0x55; 16]].concat()),
        ] {
            let bench = Bench::new(&llama().with(tensor(UP, &[ne, 1], id, data)));
            for kind in [Kind::Q8_0, Kind::F16, Kind::Tq2_0, Kind::Q2_0] {
                if kind.dtype().name() != "TQ2_0" || ne == 256 {
                    bench.refused(kind, &[UP, "in.gguf", "scale 0 is", "only finite ones can be converted"]);
                }
            }
        }
    }
    for scale in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let data = [&[0x55; 64][..], &Block::i2_s_tail(scale)].concat();
        let bench = Bench::new(&llama().with(tensor(UP, &[256, 1], 36, data)));
        for kind in [Kind::Tq2_0, Kind::F32, Kind::I2S] {
            bench.refused(kind, &[UP, "scale 0 is"]);
        }
    }
}

#[test]
fn values_that_are_no_numbers() {
    for bits in [[0x00, 0x7E], [0x00, 0x7C]] {
        let half = [&[0x00, 0x3C].repeat(255)[..], &bits].concat();
        let eight = [&bits[..], &[1; 32]].concat().repeat(8);
        for (id, data) in [(1, half), (8, eight)] {
            let bench = Bench::new(&llama().with(tensor(UP, &[256, 1], id, data)));
            bench.refused(Kind::Tq2_0, &[UP, "in.gguf"]);
            bench.refused(Kind::F32, &[UP, "in.gguf"]);
        }
    }
}

/// Scales that f16 has no room for: the tensor becomes something else, or the file is refused.
#[test]
fn scales_that_blocks_cannot_have() {
    for scale in [1e9, 1e-12] {
        let data = [&[0b00_01_10_10; 64][..], &Block::i2_s_tail(scale)].concat();
        let bench = Bench::new(&llama().with(tensor(UP, &[256, 1], 36, data)));
        bench.refused(Kind::Tq2_0, &["out of the range of f16"]);
        let (done, made) = bench.to(Kind::F32);
        assert!(row(&done, UP).exact && made.get(UP).unwrap().to_f32().unwrap().contains(&scale));
    }
}

#[test]
fn what_lies_behind_the_scale_of_i2_s_means_nothing() {
    let mut data = [&[0x55; 64][..], &Block::i2_s_tail(0.5)].concat();
    data[68..].fill(0xAA);
    let bench = Bench::new(&llama().with(tensor(UP, &[256, 1], 36, data)));
    let (_, made) = bench.to(Kind::I2S);
    assert_eq!(made.get(UP).unwrap().data[64..], Block::i2_s_tail(0.5));
    // Without it the tensor is too short.
    let cut = llama().with(tensor(UP, &[256, 1], 36, vec![0x55; 64]));
    Bench::new(&cut).refused(Kind::Tq2_0, &[UP, "64 bytes lie", "takes 96"]);
}

#[test]
fn files_without_matrices() {
    Bench::new(&llama()).refused(Kind::Tq2_0, &["it has no matrices"]);
    Bench::new(&llama().with(floats("norm", &[256]))).refused(Kind::Q8_0, &["it has no matrices"]);
    let name = Gguf::default().key("general.architecture", u32v(1)).with(matrix(UP));
    Bench::new(&name).refused(Kind::Tq2_0, &["`general.architecture` is a whole number", "in.gguf"]);
}
