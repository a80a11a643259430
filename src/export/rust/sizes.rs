//! Lengths of the arrays of a context in the Rust crate, which has one array for each width of its elements.
//! The crate computes the same from the packed file and its own test compares the two.

use crate::kernels::vector::Pool;
use crate::program::{KernelHint, OpKind, Program, RegKind};

/// Elements of the three arrays.
pub(super) struct Sizes {
    pub words: usize,
    pub halves: usize,
    pub bytes: usize,
}

/// Codes whose sums of eight fit a byte.
fn narrow(lo: i32, hi: i32) -> bool {
    lo >= -15 && hi <= 15
}

impl Sizes {
    pub(super) fn of(p: &Program) -> Sizes {
        let a = &p.attention;
        let registers =
            |kind: RegKind| -> usize { p.registers.iter().filter(|r| r.kind == kind).map(|r| r.capacity).sum() };
        let scales = a.window * p.layers * a.kv_heads;
        let codes = scales * a.head_dim;
        let key_scales = if p.static_keys { 0 } else { scales };
        let cached = |bits: u32| match bits {
            16 => (codes, 0),
            8 => (0, codes),
            _ => (0, codes / 2),
        };
        let (keys, values) = (cached(a.k_bits), cached(a.v_bits));
        let (mut planes, mut tables8, mut tables16) = (0, 0, 0);
        let mut limits = vec![(0, 0); p.registers.len()];
        for op in &p.ops {
            match &op.kind {
                OpKind::Quantize { dst, rule, .. } => limits[*dst] = (rule.lo, rule.hi),
                OpKind::Linear { weight, hint: KernelHint::Planes, .. } => {
                    planes = planes.max(p.tensors[*weight].cols.div_ceil(32));
                }
                OpKind::Linear { codes, hint: KernelHint::Tables, .. } => {
                    let (lo, hi) = limits[*codes];
                    let tables = if narrow(lo, hi) { &mut tables8 } else { &mut tables16 };
                    *tables = p.lut_bytes;
                }
                _ => {}
            }
        }
        let text = if p.encoder { a.window * (p.d_model + 1) } else { 0 };
        let sums = if matches!(p.embedding(), Some((Pool::Mean, _))) { 2 * p.d_model } else { 0 };
        let attention = 4 * a.head_dim + a.window + scales + key_scales;
        Sizes {
            words: registers(RegKind::Vector) + text + sums + 2 * planes + attention,
            halves: registers(RegKind::Codes16) + tables16 / 2 + keys.0 + values.0 + scales + key_scales,
            bytes: registers(RegKind::Codes8) + tables8 + keys.1 + values.1,
        }
    }

    /// All of it in bytes.
    pub(super) fn bytes(&self) -> u64 {
        (4 * self.words + 2 * self.halves + self.bytes) as u64
    }
}
