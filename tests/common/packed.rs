//! Packed files taken apart and sealed again, with digests computed anew. Written from docs/format/packed.md, not from the crate's writer.

use bitnet_convert::digest::{crc32, sha256};
use bitnet_convert::encoding::fixed::Scale;
use bitnet_convert::format::packed::Packed;
use bitnet_convert::program::{codec, OpKind, Program, Tensor, TensorKind};
use bitnet_convert::runtime::Artifact;
use std::path::Path;

pub const PROGRAM: u32 = 1;
pub const TABLES: u32 = 2;
pub const WEIGHTS: u32 = 3;
pub const GOLDEN: u32 = 5;
pub const NONE: u32 = u32::MAX;

/// Sections in file order.
#[derive(Clone)]
pub struct Parts(pub Vec<(u32, Vec<u8>)>);

pub fn word_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(b[at..at + 4].try_into().unwrap())
}

pub fn put(b: &mut [u8], at: usize, value: u32) {
    b[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

impl Parts {
    pub fn read(file: &[u8]) -> Parts {
        let n = word_at(file, 12) as usize;
        let entry = |i: usize| 64 + 64 * i;
        let of = |i: usize| {
            word_at(file, entry(i) + 8) as usize..(word_at(file, entry(i) + 8) + word_at(file, entry(i) + 16)) as usize
        };
        Parts((0..n).map(|i| (word_at(file, entry(i)), file[of(i)].to_vec())).collect())
    }

    pub fn tiny() -> Parts {
        Parts::read(&super::tiny_bytes())
    }

    pub fn section(&mut self, kind: u32) -> &mut Vec<u8> {
        &mut self.0.iter_mut().find(|s| s.0 == kind).expect("the section is there").1
    }

    pub fn get(&self, kind: u32) -> &[u8] {
        &self.0.iter().find(|s| s.0 == kind).expect("the section is there").1
    }

    /// Word `w` of a section.
    pub fn set(&mut self, kind: u32, w: usize, value: u32) {
        put(self.section(kind), 4 * w, value);
    }

    pub fn word(&self, kind: u32, w: usize) -> u32 {
        word_at(self.get(kind), 4 * w)
    }

    /// Number of the program word that holds word `w` of register `i`.
    pub fn register(&self, i: usize, w: usize) -> usize {
        32 + 2 * i + w
    }

    pub fn op(&self, i: usize, w: usize) -> usize {
        self.register(self.word(PROGRAM, 4) as usize, 0) + 12 * i + w
    }

    pub fn tensor(&self, i: usize, w: usize) -> usize {
        self.op(self.word(PROGRAM, 1) as usize, 0) + 16 * i + w
    }

    /// Sets word `w` of operation `i`.
    pub fn set_op(&mut self, i: usize, w: usize, value: u32) {
        self.set(PROGRAM, self.op(i, w), value);
    }

    pub fn set_tensor(&mut self, i: usize, w: usize, value: u32) {
        self.set(PROGRAM, self.tensor(i, w), value);
    }

    /// The program, changed in its decoded form and encoded again without any check.
    pub fn program(&mut self, edit: impl FnOnce(&mut Program)) {
        let mut p = codec::decode(self.get(PROGRAM), 0).expect("the base program is valid");
        edit(&mut p);
        *self.section(PROGRAM) = codec::encode(&p);
    }

    /// The file, every digest right.
    pub fn seal(&self) -> Vec<u8> {
        let mut file = vec![0; 64 + 64 * self.0.len()];
        file[..8].copy_from_slice(&[0x89, 0x42, 0x4E, 0x45, 0x54, 0x0D, 0x0A, 0x1A]);
        put(&mut file, 8, 1);
        put(&mut file, 12, self.0.len() as u32);
        put(&mut file, 24, 0x0102_0304);
        for (i, (kind, data)) in self.0.iter().enumerate() {
            file.resize(file.len().next_multiple_of(64), 0);
            let (entry, at) = (64 + 64 * i, file.len());
            put(&mut file, entry, *kind);
            put(&mut file, entry + 8, at as u32);
            put(&mut file, entry + 16, data.len() as u32);
            file.extend_from_slice(data);
            digest_section(&mut file, i);
        }
        let length = file.len() as u32;
        put(&mut file, 16, length);
        seal_header(&mut file);
        file
    }
}

/// Makes the digests of section `i` those of its bytes.
pub fn digest_section(file: &mut [u8], i: usize) {
    let entry = 64 + 64 * i;
    let at = word_at(file, entry + 8) as usize;
    let data = &file[at..at + word_at(file, entry + 16) as usize];
    let (crc, sha) = (crc32(data), sha256(data));
    put(file, entry + 24, crc);
    file[entry + 32..entry + 64].copy_from_slice(&sha);
}

/// Makes the digests of header and table right; the number of sections is taken from the file as far as it goes.
pub fn seal_header(file: &mut [u8]) {
    let end = (64 + 64 * word_at(file, 12) as usize).min(file.len());
    let mut covered = file[..28].to_vec();
    covered.resize(64, 0);
    covered.extend_from_slice(&file[64..end]);
    put(file, 28, crc32(&covered));
    file[32..64].copy_from_slice(&sha256(&covered));
}

pub fn open(file: Vec<u8>) -> bitnet_convert::Result<Artifact> {
    Artifact::from_packed(Packed::from_bytes(file, Path::new("patched.bitnet"))?)
}

/// Asserts that a file is refused for the right reason, with its place. Where several rules are broken, `a|b` allows each.
#[track_caller]
pub fn refused(file: Vec<u8>, reason: &str) {
    let Err(e) = open(file) else { panic!("accepted, expected: {reason}") };
    assert!(reason.split('|').any(|r| e.message().contains(r)), "expected `{reason}`, got: {e}");
    assert_eq!(e.kind().exit_code(), 2, "{e}");
    assert_eq!(e.file(), Some(Path::new("patched.bitnet")), "{e}");
    let missing = e.message().starts_with("the file has no");
    assert!(missing || e.offset().is_some(), "no byte offset: {e}");
}

/// One named test for each rule: the edit to the tiny model, and what the error must say.
#[macro_export]
macro_rules! refuses {
    ($($(#[$meta:meta])* $name:ident: $edit:expr => $reason:expr;)*) => {$(
        #[test]
        $(#[$meta])*
        fn $name() {
            let mut parts = $crate::common::packed::Parts::tiny();
            #[allow(clippy::redundant_closure_call)]
            ($edit as fn(&mut $crate::common::packed::Parts))(&mut parts);
            $crate::common::packed::refused(parts.seal(), $reason);
        }
    )*};
}

/// Additions that the tiny model lacks.
impl Parts {
    /// Appends a tensor that no operation uses, with its data; the reader checks it all the same.
    pub fn add_tensor(&mut self, kind: TensorKind, rows: usize, cols: usize, data: &[u8]) -> usize {
        let weights = self.section(WEIGHTS);
        weights.resize(weights.len().next_multiple_of(16), 0);
        let start = weights.len() as u64;
        weights.extend_from_slice(data);
        let mut id = 0;
        self.program(|p| {
            id = p.tensors.len();
            let data = start..start + data.len() as u64;
            p.tensors.push(Tensor { name: String::new(), kind, rows, cols, scale: Scale::ONE, data, scales: 0..0 });
        });
        id
    }

    /// Gives the model static 4-bit keys; tensor 12 holds them: 16 channels, so c at 0, im at 64, km at 128, ih at 192, kh at 208.
    pub fn with_static_keys(&mut self) {
        let mut data = vec![0; 64];
        (0..32).for_each(|i: u32| data.extend((1 << 30 | i << 20).to_le_bytes()));
        data.extend([40; 16]);
        data.extend([1; 16]);
        let id = self.add_tensor(TensorKind::StaticKeys, 2, 8, &data);
        self.program(|p| {
            (p.static_keys, p.attention.k_bits, p.key_frac) = (true, 4, 20);
            for op in &mut p.ops {
                if let OpKind::KvWrite { keys, .. } | OpKind::Attend { keys, .. } = &mut op.kind {
                    *keys = Some(id);
                }
            }
        });
    }
}
