//! The program section: docs/format/packed.md, "Program section".

use super::{
    KernelHint, Op, OpKind, Program, Reg, RegKind, Register, ScaleMode, Scoring, Tensor, TensorId, TensorKind,
};
use crate::bytes::{put_u32, Reader};
use crate::encoding::fixed::Scale;
use crate::encoding::lowbit::Encoding;
use crate::encoding::order::Order;
use crate::error::Result;
use crate::kernels::attention::AttentionShape;
use crate::kernels::scalar::QuantRule;
use crate::kernels::vector::{Act, Pool};
use crate::limits::*;

const NONE: u32 = u32::MAX;
const OUTSIDE: u32 = 0xFF_FFFF;
const HEADER_WORDS: usize = 32;
const OP_WORDS: usize = 12;
const TENSOR_WORDS: usize = 16;

/// Bytes of the section for so many items; known before any weight is read.
pub fn encoded_len(registers: usize, ops: usize, tensors: usize) -> u64 {
    4 * (HEADER_WORDS + 2 * registers + OP_WORDS * ops + TENSOR_WORDS * tensors) as u64
}

pub fn encode(p: &Program) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded_len(p.registers.len(), p.ops.len(), p.tensors.len()) as usize);
    let a = &p.attention;
    let mut eos = [0u32; 4];
    eos[..p.eos.len()].copy_from_slice(&p.eos);
    let head = [
        1,
        p.ops.len() as u32,
        p.head_op as u32,
        p.tensors.len() as u32,
        p.registers.len() as u32,
        p.vocab as u32,
        p.d_model as u32,
        p.layers as u32,
        a.heads as u32,
        a.kv_heads as u32,
        a.head_dim as u32,
        p.residual_frac,
        a.window as u32,
        a.sinks as u32,
        a.k_bits,
        a.v_bits,
        u32::from(p.static_keys) | u32::from(p.encoder) << 1,
        p.key_frac,
        p.eos.len() as u32,
        eos[0],
        eos[1],
        eos[2],
        eos[3],
        p.bos.unwrap_or(NONE),
        p.context as u32,
        p.lut_bytes as u32,
        p.positions as u32,
        p.model_id as u32,
        (p.model_id >> 32) as u32,
        u32::from(p.pairs),
        0,
        0,
    ];
    for w in head {
        put_u32(&mut out, w);
    }
    for r in &p.registers {
        let kind = match r.kind {
            RegKind::Vector => 0,
            RegKind::Codes8 => 1,
            RegKind::Codes16 => 2,
        };
        put_u32(&mut out, kind);
        put_u32(&mut out, r.capacity as u32);
    }
    for op in &p.ops {
        encode_op(op).iter().for_each(|w| put_u32(&mut out, *w));
    }
    for t in &p.tensors {
        encode_tensor(t).iter().for_each(|w| put_u32(&mut out, *w));
    }
    out
}

fn encode_op(op: &Op) -> [u32; OP_WORDS] {
    let mut w = [NONE, NONE, NONE, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0];
    let opt = |t: Option<TensorId>| t.map_or(NONE, |t| t as u32);
    let put = |w: &mut [u32; OP_WORDS], at: usize, s: Option<Scale>| {
        (w[at], w[at + 1]) = s.map_or((0, 0), |s| (s.m, s.e as u32));
    };
    let mut regs = |dst: Reg, a: Reg| (w[1], w[2]) = (dst as u32, a as u32);
    match &op.kind {
        OpKind::RmsNorm { dst, src, .. }
        | OpKind::Quantize { dst, src, .. }
        | OpKind::Add { dst, src, .. }
        | OpKind::Norm { dst, src, .. }
        | OpKind::Bias { dst, src, .. }
        | OpKind::Gain { dst, src, .. }
        | OpKind::Act { dst, src, .. }
        | OpKind::Store { dst, src }
        | OpKind::Rope { dst, src, .. } => regs(*dst, *src),
        OpKind::Linear { dst, codes, .. } => regs(*dst, *codes),
        OpKind::Attend { dst, q, .. } => regs(*dst, *q),
        OpKind::Embed { dst, .. } | OpKind::Position { dst, .. } => w[1] = *dst as u32,
        OpKind::Logits { src, .. } | OpKind::Embedding { src, .. } => w[2] = *src as u32,
        OpKind::KvWrite { k, v, .. } => (w[2], w[3]) = (*k as u32, *v as u32),
        OpKind::Relu2Mul { dst, gate, up } | OpKind::SiluMul { dst, gate, up } | OpKind::Gate { dst, gate, up, .. } => {
            regs(*dst, *gate);
            w[3] = *up as u32;
        }
    }
    let code = match &op.kind {
        OpKind::Embed { table, factor, .. } => {
            w[4] = *table as u32;
            put(&mut w, 6, *factor);
            1
        }
        OpKind::RmsNorm { gamma, eps, .. } => {
            w[4] = *gamma as u32;
            put(&mut w, 6, Some(*eps));
            2
        }
        OpKind::Quantize { rule, .. } => {
            (w[6], w[7], w[8]) = (rule.qmax, rule.lo as u32, rule.hi as u32);
            put(&mut w, 9, Some(rule.floor));
            3
        }
        OpKind::Linear { weight, hint, .. } => {
            w[4] = *weight as u32;
            w[6] = match hint {
                KernelHint::Select => 0,
                KernelHint::Planes => 1,
                KernelHint::Tables => 2,
            };
            4
        }
        OpKind::Add { factor, .. } => {
            put(&mut w, 6, *factor);
            5
        }
        OpKind::KvWrite { freq, keys, .. } => {
            (w[4], w[5]) = (opt(*freq), opt(*keys));
            6
        }
        OpKind::Attend { freq, keys, scoring, .. } => {
            (w[4], w[5]) = (opt(*freq), opt(*keys));
            put(&mut w, 6, Some(scoring.softmax));
            w[8] = scoring.window as u32;
            put(&mut w, 9, scoring.cap);
            w[11] = scoring.slopes.map_or(0, |t| t as u32 + 1);
            7
        }
        OpKind::Relu2Mul { .. } => 8,
        OpKind::SiluMul { .. } => 9,
        OpKind::Logits { factor, cap, .. } => {
            put(&mut w, 6, *factor);
            put(&mut w, 8, *cap);
            10
        }
        OpKind::Norm { gamma, beta, eps, group, centred, .. } => {
            (w[4], w[5]) = (opt(*gamma), opt(*beta));
            put(&mut w, 6, Some(*eps));
            (w[8], w[9]) = (*group as u32, u32::from(*centred));
            11
        }
        OpKind::Bias { by, .. } => {
            w[4] = *by as u32;
            12
        }
        OpKind::Gain { by, .. } => {
            w[4] = *by as u32;
            13
        }
        OpKind::Act { kind, .. } => {
            w[6] = kind.number();
            14
        }
        OpKind::Gate { kind, .. } => {
            w[6] = kind.number();
            15
        }
        OpKind::Store { .. } => 16,
        OpKind::Position { table, .. } => {
            w[4] = *table as u32;
            17
        }
        OpKind::Rope { freq, .. } => {
            w[4] = *freq as u32;
            18
        }
        OpKind::Embedding { pool, unit, .. } => {
            (w[6], w[7]) = (pool.number(), u32::from(*unit));
            19
        }
    };
    w[0] = code | op.layer.map_or(OUTSIDE, |l| l as u32) << 8;
    w
}

fn encode_tensor(t: &Tensor) -> [u32; TENSOR_WORDS] {
    let (kind, mode, group) = match t.kind {
        TensorKind::Matrix { enc, order, scales } => {
            let kind = match enc {
                Encoding::Binary1 => 1,
                Encoding::Ternary2 => 2,
                Encoding::Int8 => 3,
                Encoding::Int16 => 4,
                Encoding::Ternary5 => 8,
                Encoding::Int4 => 9,
                Encoding::Planes4 => 10,
            };
            let kind = kind | u32::from(order == Order::Quads) << 8;
            match scales {
                ScaleMode::One => (kind, 1, 0),
                ScaleMode::Row => (kind, 2, 0),
                ScaleMode::Group(g) => (kind, 3, g),
            }
        }
        TensorKind::Vector => (5, 0, 0),
        TensorKind::Frequencies => (6, 0, 0),
        TensorKind::StaticKeys => (7, 1, 0),
    };
    let (m, e) = if kind == 6 && t.scale == Scale::ONE { (0, 0) } else { (t.scale.m, t.scale.e as u32) };
    let stride = match t.kind {
        TensorKind::Matrix { enc, order, .. } => enc.stride_in(order, t.cols),
        TensorKind::StaticKeys => 0,
        _ => 4 * t.cols,
    };
    let lo = |v: u64| v as u32;
    let hi = |v: u64| (v >> 32) as u32;
    let (d, s) = (t.data.end - t.data.start, t.scales.end - t.scales.start);
    [
        kind,
        t.rows as u32,
        t.cols as u32,
        mode,
        group as u32,
        m,
        e,
        stride as u32,
        lo(t.data.start),
        hi(t.data.start),
        lo(d),
        hi(d),
        lo(t.scales.start),
        hi(t.scales.start),
        lo(s),
        hi(s),
    ]
}

/// Reads a program section. `base` is its offset in the file. The result is well-formed item by item;
/// [`super::check::check`] then follows it as a whole.
///
/// # Errors
/// `Input` with the byte offset.
pub fn decode(data: &[u8], base: u64) -> Result<Program> {
    let mut r = Reader::new(data, base, "program section");
    let version = r.u32()?;
    if version != 1 {
        return Err(r.error(format!("version {version}, this reader knows 1")));
    }
    let n_ops = r.count("number of operations", 1..=MAX_ITEMS)?;
    let head_op = r.count("head_op", 0..=n_ops - 1)?;
    let n_tensors = r.count("number of tensors", 1..=MAX_ITEMS)?;
    let n_registers = r.count("number of registers", 1..=MAX_REGISTERS)?;
    let vocab = r.count("vocabulary", 1..=MAX_VOCAB)?;
    let d_model = r.count("d_model", 1..=MAX_VECTOR)?;
    let layers = r.count("layers", 1..=MAX_LAYERS)?;
    let heads = r.count("heads", 1..=MAX_VECTOR)?;
    let kv_heads = r.count("kv heads", 1..=heads)?;
    if heads % kv_heads != 0 {
        return Err(r.error(format!("{heads} heads are no multiple of {kv_heads} kv heads")));
    }
    let head_dim = r.count("head_dim", 2..=MAX_HEAD_DIM)?;
    if head_dim % 2 != 0 {
        return Err(r.error(format!("head_dim {head_dim} is odd")));
    }
    if heads * head_dim > MAX_VECTOR {
        return Err(r.error(format!(
            "{heads} heads of {head_dim} are {} elements, at most {MAX_VECTOR} are allowed",
            heads * head_dim
        )));
    }
    let residual_frac = r.count("residual_frac_bits", 0..=28)? as u32;
    let window = r.count("window", 1..=MAX_WINDOW)?;
    let sinks = r.count("sinks", 0..=window - 1)?;
    let bits = |r: &mut Reader| -> Result<u32> {
        match r.u32()? {
            b @ (4 | 8 | 16) => Ok(b),
            b => Err(r.error(format!("{b} bits for a cache, allowed are 16, 8 and 4"))),
        }
    };
    let (k_bits, v_bits) = (bits(&mut r)?, bits(&mut r)?);
    let flags = r.count("flags", 0..=3)?;
    let (static_keys, encoder) = (flags & 1 == 1, flags & 2 == 2);
    if encoder && sinks > 0 {
        return Err(r.error(format!("{sinks} sinks in an encoder")));
    }
    if static_keys && k_bits != 4 {
        return Err(r.error("static keys have 4 bits"));
    }
    let key_frac = r.count("f_k", 0..=28)? as u32;
    let n_eos = r.count("number of end ids", 0..=4)?;
    let mut eos = Vec::new();
    for i in 0..4 {
        let id = r.u32()?;
        if if i < n_eos { id as usize >= vocab } else { id != 0 } {
            return Err(r.error(format!("end id {id} with a vocabulary of {vocab}")));
        }
        if i < n_eos {
            eos.push(id);
        }
    }
    let bos = match r.u32()? {
        NONE => None,
        id if (id as usize) < vocab => Some(id),
        id => return Err(r.error(format!("begin id {id} with a vocabulary of {vocab}"))),
    };
    let context = r.u32()? as usize;
    let lut_bytes = r.u32()? as usize;
    if !lut_bytes.is_multiple_of(512) || lut_bytes > 1 << 26 {
        return Err(r.error(format!("lut_bytes {lut_bytes} is no multiple of 512 below 2^26")));
    }
    let positions = r.count("number of positions", 0..=MAX_VOCAB)?;
    let model_id = r.u64()?;
    let pairs = r.count("room for paired tokens", 0..=1)? == 1;
    if pairs && encoder {
        return Err(r.error("paired tokens in an encoder"));
    }
    for _ in 30..HEADER_WORDS {
        r.reserved()?;
    }
    let want = encoded_len(n_registers, n_ops, n_tensors);
    if want != data.len() as u64 {
        return Err(r.error(format!("{want} bytes are needed for its counts, it has {}", data.len())));
    }
    let mut registers = Vec::with_capacity(n_registers);
    for _ in 0..n_registers {
        let kind = match r.u32()? {
            0 => RegKind::Vector,
            1 => RegKind::Codes8,
            2 => RegKind::Codes16,
            k => return Err(r.error(format!("register kind {k} is not defined"))),
        };
        let capacity = r.count("register capacity", 1..=MAX_VOCAB)?;
        registers.push(Register { kind, capacity });
    }
    let mut ops = Vec::with_capacity(n_ops);
    for _ in 0..n_ops {
        ops.push(decode_op(&mut r, n_registers, n_tensors, layers)?);
    }
    let mut tensors = Vec::with_capacity(n_tensors);
    for i in 0..n_tensors {
        tensors.push(decode_tensor(&mut r, i)?);
    }
    r.finish()?;
    let attention = AttentionShape { heads, kv_heads, head_dim, window, sinks, k_bits, v_bits };
    Ok(Program {
        vocab,
        d_model,
        layers,
        attention,
        residual_frac,
        static_keys,
        key_frac,
        eos,
        bos,
        context,
        positions,
        encoder,
        lut_bytes,
        model_id,
        pairs,
        registers,
        ops,
        head_op,
        tensors,
    })
}

fn decode_op(r: &mut Reader, registers: usize, tensors: usize, layers: usize) -> Result<Op> {
    let first = r.u32()?;
    let (code, layer) = (first & 0xFF, first >> 8);
    let layer = match layer {
        OUTSIDE => None,
        l if (l as usize) < layers => Some(l as usize),
        l => return Err(r.error(format!("layer {l} of {layers}"))),
    };
    let mut w = [0u32; OP_WORDS];
    for slot in &mut w[1..] {
        *slot = r.u32()?;
    }
    let reg = |i: usize, used: bool| -> Result<Reg> {
        match (w[i], used) {
            (NONE, false) => Ok(0),
            (v, true) if (v as usize) < registers => Ok(v as usize),
            (v, _) => Err(r.error(format!("register {v:#x} in word {i} of an operation"))),
        }
    };
    let tensor = |i: usize, used: bool| -> Result<TensorId> {
        match (w[i], used) {
            (NONE, false) => Ok(0),
            (v, true) if (v as usize) < tensors => Ok(v as usize),
            (v, _) => Err(r.error(format!("tensor {v:#x} in word {i} of an operation"))),
        }
    };
    let optional = |i: usize| if w[i] == NONE { Ok(None) } else { tensor(i, true).map(Some) };
    let scale = |i: usize| valid_scale(r, w[i], w[i + 1]);
    let given = |i: usize| if (w[i], w[i + 1]) == (0, 0) { Ok(None) } else { scale(i).map(Some) };
    let boolean = |i: usize| match w[i] {
        v @ (0 | 1) => Ok(v == 1),
        v => Err(r.error(format!("parameter {v}, 0 or 1 is expected"))),
    };
    // (dst, a, b, t0) used, whether t1 may be, number of parameters
    let (uses, t1, parameters) = match code {
        1 => ((true, false, false, true), false, 2),
        2 => ((true, true, false, true), false, 2),
        3 => ((true, true, false, false), false, 5),
        4 => ((true, true, false, true), false, 1),
        5 => ((true, true, false, false), false, 2),
        6 => ((false, true, true, w[4] != NONE), true, 0),
        7 => ((true, true, false, w[4] != NONE), true, 6),
        8 | 9 => ((true, true, true, false), false, 0),
        10 => ((false, true, false, false), false, 4),
        11 => ((true, true, false, w[4] != NONE), true, 4),
        12 | 13 | 18 => ((true, true, false, true), false, 0),
        14 => ((true, true, false, false), false, 1),
        15 => ((true, true, true, false), false, 1),
        16 => ((true, true, false, false), false, 0),
        17 => ((true, false, false, true), false, 0),
        19 => ((false, true, false, false), false, 2),
        _ => return Err(r.error(format!("opcode {code} is not defined"))),
    };
    let (dst, a, b, t0) = (reg(1, uses.0)?, reg(2, uses.1)?, reg(3, uses.2)?, tensor(4, uses.3)?);
    if !t1 && w[5] != NONE {
        return Err(r.error("word 5 of this operation must be 0xFFFFFFFF"));
    }
    if w[6 + parameters..].iter().any(|p| *p != 0) {
        return Err(r.error("an unused parameter of an operation is not 0"));
    }
    let act = |i: usize| {
        let found = Act::ALL.into_iter().find(|k| k.number() == w[i]);
        found.ok_or_else(|| r.error(format!("activation {} is not defined", w[i])))
    };
    let kind = match code {
        1 => OpKind::Embed { dst, table: t0, factor: given(6)? },
        2 => OpKind::RmsNorm { dst, src: a, gamma: t0, eps: scale(6)? },
        3 => {
            let (qmax, lo, hi) = (w[6], w[7] as i32, w[8] as i32);
            let q = i64::from(qmax);
            if !(1..=MAX_QMAX).contains(&qmax)
                || lo > 0
                || hi < 0
                || i64::from(lo) < (-q - 1).max(-32_768)
                || i64::from(hi) > q
            {
                return Err(r.error(format!("quantize to {lo} ..= {hi} with Qmax {qmax}")));
            }
            OpKind::Quantize { dst, src: a, rule: QuantRule { qmax, lo, hi, floor: scale(9)? } }
        }
        4 => {
            let hint = match w[6] {
                0 => KernelHint::Select,
                1 => KernelHint::Planes,
                2 => KernelHint::Tables,
                h => return Err(r.error(format!("kernel hint {h} is not defined"))),
            };
            OpKind::Linear { dst, codes: a, weight: t0, hint }
        }
        5 => OpKind::Add { dst, src: a, factor: given(6)? },
        6 => OpKind::KvWrite { k: a, v: b, freq: uses.3.then_some(t0), keys: optional(5)? },
        7 => {
            let slopes = match w[11] {
                0 => None,
                t if (t as usize) <= tensors => Some(t as usize - 1),
                t => return Err(r.error(format!("slopes in tensor {}", t - 1))),
            };
            let window = w[8] as usize;
            let scoring = Scoring { softmax: scale(6)?, window, cap: given(9)?, slopes };
            OpKind::Attend { dst, q: a, freq: uses.3.then_some(t0), keys: optional(5)?, scoring }
        }
        8 => OpKind::Relu2Mul { dst, gate: a, up: b },
        9 => OpKind::SiluMul { dst, gate: a, up: b },
        10 => OpKind::Logits { src: a, factor: given(6)?, cap: given(8)? },
        11 => OpKind::Norm {
            dst,
            src: a,
            gamma: uses.3.then_some(t0),
            beta: optional(5)?,
            eps: scale(6)?,
            group: w[8] as usize,
            centred: boolean(9)?,
        },
        12 => OpKind::Bias { dst, src: a, by: t0 },
        13 => OpKind::Gain { dst, src: a, by: t0 },
        14 => OpKind::Act { dst, src: a, kind: act(6)? },
        15 => OpKind::Gate { dst, gate: a, up: b, kind: act(6)? },
        16 => OpKind::Store { dst, src: a },
        17 => OpKind::Position { dst, table: t0 },
        18 => OpKind::Rope { dst, src: a, freq: t0 },
        _ => {
            let pool = Pool::ALL.into_iter().find(|p| p.number() == w[6]);
            let pool = pool.ok_or_else(|| r.error(format!("pooling {} is not defined", w[6])))?;
            OpKind::Embedding { src: a, pool, unit: boolean(7)? }
        }
    };
    Ok(Op { layer, kind })
}

fn valid_scale(r: &Reader, m: u32, e: u32) -> Result<Scale> {
    let s = Scale { m, e: e as i32 };
    if s.is_valid() && (-MAX_FILE_EXPONENT..MAX_FILE_EXPONENT).contains(&s.e) {
        Ok(s)
    } else {
        Err(r.error(format!(
            "({m}, {}) is no scale: the mantissa must be in 2^30 .. 2^31, the exponent in -4096 ..= 4095",
            s.e
        )))
    }
}

fn decode_tensor(r: &mut Reader, index: usize) -> Result<Tensor> {
    let kind = r.u32()?;
    let rows = r.count("rows of a tensor", 1..=MAX_VOCAB)?;
    let cols = r.count("columns of a tensor", 1..=MAX_COLS)?;
    let (mode, group) = (r.u32()?, r.u32()? as usize);
    let (m, e) = (r.u32()?, r.u32()?);
    let stride = r.u32()? as usize;
    let mut range = |what: &str| -> Result<std::ops::Range<u64>> {
        let (start, len) = (r.u64()?, r.u64()?);
        let end = start.checked_add(len).filter(|_| start % 16 == 0);
        let end = end.ok_or_else(|| r.error(format!("{what} of tensor {index}: {len} bytes at {start}")))?;
        Ok(start..end)
    };
    let (data, scales) = (range("data")?, range("scales")?);
    let bad = |what: String| r.error(format!("tensor {index}: {what}"));
    let modes = |low: bool| match mode {
        1 if group == 0 => Ok(ScaleMode::One),
        2 if group == 0 => Ok(ScaleMode::Row),
        3 if low && group > 0 && group % 32 == 0 => Ok(ScaleMode::Group(group)),
        _ => Err(bad(format!("scale mode {mode} with group {group}"))),
    };
    let plain = |want: u32| match (mode, group) {
        (m, 0) if m == want => Ok(()),
        _ => Err(bad(format!("scale mode {mode} with group {group}"))),
    };
    let order = match kind >> 8 {
        0 => Order::Rows,
        1 => Order::Quads,
        o => return Err(bad(format!("order {o} is not defined"))),
    };
    let matrix = |enc: Encoding| match enc.allows(order) {
        true => Ok(TensorKind::Matrix { enc, order, scales: modes(enc.allows_groups())? }),
        false => Err(bad(format!("{} in order {}", enc.name(), kind >> 8))),
    };
    let tensor_kind = match kind & 0xFF {
        1 => matrix(Encoding::Binary1),
        2 => matrix(Encoding::Ternary2),
        3 => matrix(Encoding::Int8),
        4 => matrix(Encoding::Int16),
        8 => matrix(Encoding::Ternary5),
        9 => matrix(Encoding::Int4),
        10 => matrix(Encoding::Planes4),
        _ if order != Order::Rows => Err(bad(format!("kind {kind} is not defined"))),
        5 => plain(0).map(|()| TensorKind::Vector),
        6 => plain(0).map(|()| TensorKind::Frequencies),
        7 => plain(1).map(|()| TensorKind::StaticKeys),
        _ => Err(bad(format!("kind {kind} is not defined"))),
    }?;
    let want_stride = match tensor_kind {
        TensorKind::Matrix { enc, order, .. } => enc.stride_in(order, cols),
        TensorKind::StaticKeys => 0,
        _ if rows == 1 => 4 * cols,
        _ => return Err(bad(format!("{rows} rows, it must have one"))),
    };
    if stride != want_stride {
        return Err(bad(format!("row stride {stride}, {want_stride} is right")));
    }
    let (dl, sl) = (Tensor::data_bytes(tensor_kind, rows, cols), Tensor::scale_bytes(tensor_kind, rows, cols));
    if data.end - data.start != dl || scales.end - scales.start != sl || (sl == 0 && scales.start != 0) {
        return Err(bad(format!("its data must have {dl} bytes and its scales {sl}")));
    }
    let scale = match tensor_kind {
        TensorKind::Frequencies if (m, e) == (0, 0) => Scale::ONE,
        TensorKind::Frequencies => {
            let u = valid_scale(r, m, e)?;
            if Scale::ONE.less(u) {
                return Err(bad("the factor of its frequencies is above 1".into()));
            }
            u
        }
        _ => valid_scale(r, m, e)?,
    };
    let relative = matches!(tensor_kind, TensorKind::Vector)
        || matches!(tensor_kind, TensorKind::Matrix { scales: ScaleMode::Row | ScaleMode::Group(_), .. });
    if relative && scale.m != 1 << 30 {
        return Err(bad("its scale must be a power of two".into()));
    }
    Ok(Tensor { name: format!("#{index}"), kind: tensor_kind, rows, cols, scale, data, scales })
}
