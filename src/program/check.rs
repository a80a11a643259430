//! Follows lengths and kinds through a program: what docs/format/packed.md, "Operations", asks of a reader.

use super::{KernelHint, OpKind, Program, Reg, RegKind, Scoring, Tensor, TensorId, TensorKind};
use crate::encoding::order::{self, Order};
use crate::error::{Error, Result};
use crate::kernels::vector::Pool;
use crate::limits::{MAX_FILE_EXPONENT, MAX_VECTOR};

/// What a register holds at some point of the program.
#[derive(Clone, Copy, PartialEq)]
enum Held {
    Nothing,
    Residual,
    Vector(usize),
    /// Length and Qmax.
    Codes(usize, u32),
}

struct Walk<'a> {
    p: &'a Program,
    held: Vec<Held>,
    residual: Option<Reg>,
}

/// # Errors
/// `Input`, naming the operation and the rule it breaks.
pub fn check(p: &Program) -> Result<()> {
    let mut w = Walk { p, held: vec![Held::Nothing; p.registers.len()], residual: None };
    let mut layer = None;
    let mut positions = false;
    let (mut wrote, mut attended) = (vec![false; p.layers], vec![false; p.layers]);
    for (i, op) in p.ops.iter().enumerate() {
        let fail = |what: String| Error::input(format!("operation {i} ({}): {what}", op.kind.name()));
        w.step(&op.kind, i).map_err(fail)?;
        if let Some(l) = op.layer {
            if layer.is_some_and(|before| l < before) {
                return Err(fail(format!("layer {l} after layer {}", layer.unwrap_or(0))));
            }
            layer = Some(l);
        }
        let head = i >= p.head_op;
        if op.layer.is_some() && head || op.layer.is_none() && !head && layer.is_some() {
            return Err(fail("operations outside the layers come before the first layer or from head_op on".into()));
        }
        match (&op.kind, op.layer) {
            (
                OpKind::Embed { .. }
                | OpKind::Add { .. }
                | OpKind::Store { .. }
                | OpKind::Position { .. }
                | OpKind::KvWrite { .. }
                | OpKind::Attend { .. },
                _,
            ) if head => {
                return Err(fail("it changes state, which operations from head_op on must not".into()));
            }
            (OpKind::Position { .. }, place) => {
                if place.is_some() || positions || p.positions == 0 {
                    return Err(fail("it stands once before the layers of a program with positions".into()));
                }
                positions = true;
            }
            (OpKind::KvWrite { .. }, Some(l)) if !wrote[l] && !attended[l] => {
                wrote[l] = true;
                if p.encoder {
                    // Between the passes of an encoder a token keeps its residual only.
                    w.held.iter_mut().filter(|h| **h != Held::Residual).for_each(|h| *h = Held::Nothing);
                }
            }
            (OpKind::Attend { .. }, Some(l)) if wrote[l] && !attended[l] => attended[l] = true,
            (OpKind::KvWrite { .. } | OpKind::Attend { .. }, _) => {
                return Err(fail("each layer has one KVWRITE and then one ATTEND".into()));
            }
            (kind, _) if kind.is_output() && i + 1 != p.ops.len() => return Err(fail("it must be the last".into())),
            (kind, _) if p.encoder && head && !kind.is_output() => {
                return Err(fail("an encoder has nothing but EMBEDDING from head_op on".into()));
            }
            _ => {}
        }
    }
    if !p.ops.last().is_some_and(|o| o.kind.is_output()) {
        return Err(Error::input("the last operation must be LOGITS or EMBEDDING"));
    }
    if positions != (p.positions > 0) {
        return Err(Error::input(format!("{} positions without a POSITION operation", p.positions)));
    }
    if p.encoder && p.positions > 0 && p.positions < p.attention.window {
        return Err(Error::input(format!("{} positions for a window of {}", p.positions, p.attention.window)));
    }
    if let Some(l) = attended.iter().position(|a| !a) {
        return Err(Error::input(format!("layer {l} has no attention")));
    }
    Ok(())
}

impl Walk<'_> {
    fn put(&mut self, reg: Reg, what: Held) -> Result<(), String> {
        let r = self.p.registers[reg];
        let (n, kind_fits) = match what {
            Held::Nothing => (0, true),
            Held::Residual => (self.p.d_model, r.kind == RegKind::Vector),
            Held::Vector(n) => (n, r.kind == RegKind::Vector),
            Held::Codes(n, q) => (n, r.kind == RegKind::Codes16 || (r.kind == RegKind::Codes8 && q <= 127)),
        };
        if !kind_fits {
            return Err(format!("register {reg} is of another kind"));
        }
        if n > r.capacity {
            return Err(format!("{n} elements in register {reg}, which holds {}", r.capacity));
        }
        if self.residual == Some(reg) && what != Held::Residual {
            return Err("only EMBED, POSITION, ADD and STORE may write the residual".into());
        }
        self.held[reg] = what;
        Ok(())
    }

    /// Length of a vector or of the residual.
    fn vector(&self, reg: Reg) -> Result<usize, String> {
        match self.held[reg] {
            Held::Vector(n) => Ok(n),
            Held::Residual => Ok(self.p.d_model),
            Held::Nothing => Err(format!("register {reg} is read before it is written")),
            Held::Codes(..) => Err(format!("register {reg} holds codes, a vector is needed")),
        }
    }

    fn vector_of(&self, reg: Reg, want: usize) -> Result<(), String> {
        match self.vector(reg)? {
            n if n == want => Ok(()),
            n => Err(format!("register {reg} holds {n} elements, {want} are needed")),
        }
    }

    fn tensor(&self, id: TensorId) -> &Tensor {
        &self.p.tensors[id]
    }

    fn keys(&self, keys: Option<TensorId>) -> Result<(), String> {
        let a = &self.p.attention;
        match (keys, self.p.static_keys) {
            (None, false) => Ok(()),
            (Some(t), true) => {
                let t = self.tensor(t);
                if t.kind == TensorKind::StaticKeys && (t.rows, t.cols) == (a.kv_heads, a.head_dim) {
                    Ok(())
                } else {
                    Err("its static keys are no [kv heads, head_dim] key constants".into())
                }
            }
            _ => Err("static keys and the flag of the program contradict each other".into()),
        }
    }

    fn freq(&self, id: Option<TensorId>) -> Result<(), String> {
        let Some(t) = id.map(|id| self.tensor(id)) else { return Ok(()) };
        if t.kind == TensorKind::Frequencies && t.cols <= self.p.attention.head_dim / 2 {
            Ok(())
        } else {
            Err("its frequencies are of another kind or more than head_dim / 2".into())
        }
    }

    /// A tensor of constants with `n` values, or with `or` if that is given.
    fn constants(&self, id: TensorId, n: usize, or: Option<usize>) -> Result<(), String> {
        let t = self.tensor(id);
        if t.kind == TensorKind::Vector && (t.cols == n || Some(t.cols) == or) {
            return Ok(());
        }
        Err(format!("its constants are {} values for a vector of {n}", t.cols))
    }

    fn table(&self, id: TensorId, rows: usize) -> Result<(), String> {
        let t = self.tensor(id);
        match t.kind {
            TensorKind::Matrix { .. } if (t.rows, t.cols) == (rows, self.p.d_model) => Ok(()),
            TensorKind::Matrix { .. } => Err(format!("its table is {} x {}", t.rows, t.cols)),
            _ => Err("its table is no matrix".into()),
        }
    }

    fn is_residual(&self, reg: Reg) -> Result<(), String> {
        if self.residual == Some(reg) {
            return Ok(());
        }
        Err("its destination is not the residual".into())
    }

    fn scoring(&self, s: &Scoring) -> Result<(), String> {
        if self.p.encoder && s.window > 0 {
            return Err("a window in an encoder".into());
        }
        if self.p.static_keys && s.cap.is_some() {
            return Err("a cap and static keys exclude each other".into());
        }
        match s.slopes {
            Some(t) => self.constants(t, self.p.attention.heads, None),
            None => Ok(()),
        }
    }

    fn step(&mut self, op: &OpKind, index: usize) -> Result<(), String> {
        let a = self.p.attention;
        if (index == 0) != matches!(op, OpKind::Embed { .. }) {
            return Err("EMBED is the first operation and only that".into());
        }
        match *op {
            OpKind::Embed { dst, table, .. } => {
                self.table(table, self.p.vocab)?;
                self.residual = Some(dst);
                self.put(dst, Held::Residual)
            }
            OpKind::Position { dst, table } => {
                self.is_residual(dst)?;
                self.table(table, self.p.positions)
            }
            OpKind::RmsNorm { dst, src, gamma, .. } => {
                let n = self.vector(src)?;
                let g = self.tensor(gamma);
                if g.kind != TensorKind::Vector || g.cols != n || n > MAX_VECTOR {
                    return Err(format!("gamma has {} values for a vector of {n}", g.cols));
                }
                self.put(dst, Held::Vector(n))
            }
            OpKind::Quantize { dst, src, rule } => {
                let n = self.vector(src)?;
                self.put(dst, Held::Codes(n, rule.qmax))
            }
            OpKind::Linear { dst, codes, weight, hint } => {
                let Held::Codes(n, q) = self.held[codes] else {
                    return Err(format!("register {codes} holds no codes"));
                };
                let t = self.tensor(weight);
                let TensorKind::Matrix { enc, order, .. } = t.kind else {
                    return Err("its weight is no matrix".into());
                };
                if t.cols != n {
                    return Err(format!("its weight has {} columns for {n} codes", t.cols));
                }
                let two_planes = enc.allows_groups() && order == Order::Rows;
                if hint == KernelHint::Planes && (q != 2 || !two_planes) {
                    return Err("the planes kernel needs Qmax 2 and binary1 or ternary2 weights in order 0".into());
                }
                if hint == KernelHint::Tables && (q > 127 || order != Order::Quads || self.p.lut_bytes == 0) {
                    return Err("the table kernel (hint 2) needs order 1, Qmax up to 127 and lut_bytes".into());
                }
                self.put(dst, Held::Vector(t.rows))
            }
            OpKind::Add { dst, src, .. } | OpKind::Store { dst, src } => {
                self.is_residual(dst)?;
                if src == dst {
                    return Err("the residual cannot be its own source".into());
                }
                self.vector_of(src, self.p.d_model)?;
                self.put(dst, Held::Residual)
            }
            OpKind::Norm { dst, src, gamma, beta, group, .. } => {
                let n = self.vector(src)?;
                if n > MAX_VECTOR || group == 0 || n % group != 0 {
                    return Err(format!("groups of {group} in a vector of {n}"));
                }
                for t in [gamma, beta].into_iter().flatten() {
                    self.constants(t, n, Some(group))?;
                }
                self.put(dst, Held::Vector(n))
            }
            OpKind::Bias { dst, src, by } | OpKind::Gain { dst, src, by } => {
                let n = self.vector(src)?;
                self.constants(by, n, None)?;
                self.put(dst, Held::Vector(n))
            }
            OpKind::Act { dst, src, .. } => {
                let n = self.vector(src)?;
                self.put(dst, Held::Vector(n))
            }
            OpKind::Rope { dst, src, freq } => {
                let n = self.vector(src)?;
                self.freq(Some(freq))?;
                if n % a.head_dim != 0 {
                    return Err(format!("a vector of {n} is no whole number of heads"));
                }
                self.put(dst, Held::Vector(n))
            }
            OpKind::KvWrite { k, v, freq, keys } => {
                self.vector_of(k, a.kv_heads * a.head_dim)?;
                self.vector_of(v, a.kv_heads * a.head_dim)?;
                if k == v || [k, v].map(Some).contains(&self.residual) {
                    return Err("k and v must be two registers, neither the residual".into());
                }
                self.freq(freq)?;
                self.keys(keys)
            }
            OpKind::Attend { dst, q, freq, keys, ref scoring } => {
                self.scoring(scoring)?;
                self.vector_of(q, a.heads * a.head_dim)?;
                self.freq(freq)?;
                self.keys(keys)?;
                if dst == q {
                    return Err("its result cannot replace q".into());
                }
                self.put(dst, Held::Vector(a.heads * a.head_dim))
            }
            OpKind::Relu2Mul { dst, gate, up }
            | OpKind::SiluMul { dst, gate, up }
            | OpKind::Gate { dst, gate, up, .. } => {
                let n = self.vector(gate)?;
                self.vector_of(up, n)?;
                if matches!(op, OpKind::Gate { .. }) && dst == up {
                    return Err("its result cannot replace u".into());
                }
                self.put(dst, Held::Vector(n))
            }
            OpKind::Logits { src, .. } => {
                if self.p.encoder {
                    return Err("LOGITS in an encoder".into());
                }
                self.vector_of(src, self.p.vocab)
            }
            OpKind::Embedding { src, pool, .. } => {
                let residual = self.residual == Some(src);
                if pool != Pool::Last && !self.p.encoder || self.p.encoder && !residual {
                    return Err("this pooling needs an encoder, and an encoder the residual as source".into());
                }
                self.vector_of(src, self.p.d_model)
            }
        }
    }
}

/// Checks what lies in the weights section: ranges, overlap, shifts, exponents, low-bit codes and padding.
/// `base` is the section's offset in the file.
///
/// # Errors
/// `Input` with tensor and byte offset.
pub fn check_weights(p: &Program, weights: &[u8], base: u64) -> Result<()> {
    let mut ranges: Vec<(u64, u64, &str)> = Vec::new();
    for t in &p.tensors {
        for r in [&t.data, &t.scales] {
            if r.end > weights.len() as u64 {
                return Err(Error::input(format!(
                    "it ends at byte {} of a weights section of {}",
                    r.end,
                    weights.len()
                ))
                .at_tensor(&t.name)
                .at_offset(base.saturating_add(r.start)));
            }
            if r.start < r.end {
                ranges.push((r.start, r.end, &t.name));
            }
        }
    }
    ranges.sort_unstable();
    let mut end = 0;
    for (start, stop, name) in ranges {
        if start < end {
            return Err(Error::input("it overlaps another tensor").at_tensor(name).at_offset(base + start));
        }
        if weights[end as usize..start as usize].iter().any(|b| *b != 0) {
            return Err(Error::input("the padding before it is not zero").at_tensor(name).at_offset(base + end));
        }
        end = stop;
    }
    if end != weights.len() as u64 {
        return Err(Error::input("the weights section holds bytes of no tensor").at_offset(base + end));
    }
    p.tensors.iter().try_for_each(|t| check_values(t, weights, base))
}

fn check_values(t: &Tensor, weights: &[u8], base: u64) -> Result<()> {
    let at = |message: String, offset: u64| Err(Error::input(message).at_tensor(&t.name).at_offset(base + offset));
    let data = &weights[t.data.start as usize..t.data.end as usize];
    match t.kind {
        TensorKind::Matrix { enc, order, .. } => {
            let stride = enc.stride_in(order, t.cols);
            let mut scratch = vec![0; stride];
            for r in 0..order.stored_rows(t.rows) {
                let row = order::row(data, order, r, &mut scratch);
                let wrong = match r < t.rows {
                    true => enc.first_invalid(row, t.cols),
                    false => row.iter().any(|b| *b != 0).then_some(0),
                };
                if let Some(c) = wrong {
                    let what = format!("invalid code or padding at row {r}, column {c}");
                    let quad = if order == Order::Quads { r / 4 * 4 } else { r };
                    return at(what, t.data.start + (quad * stride) as u64);
                }
            }
            let n = (t.scales.end - t.scales.start) as usize / 5;
            let scales = &weights[t.scales.start as usize..t.scales.end as usize];
            check_mantissas(t, &scales[..4 * n], t.scales.start, base)?;
            check_shifts(t, &scales[4 * n..], 63, t.scales.start + 4 * n as u64, base)
        }
        TensorKind::StaticKeys => {
            let n = t.rows * t.cols;
            for (i, c) in crate::bytes::to_i32(&data[..4 * n]).into_iter().enumerate() {
                if c.unsigned_abs() > 1 << 24 {
                    return at(format!("centre {c} is beyond 2^24"), t.data.start + 4 * i as u64);
                }
            }
            check_mantissas(t, &data[4 * n..12 * n], t.data.start + 4 * n as u64, base)?;
            check_shifts(t, &data[12 * n..13 * n], 62, t.data.start + 12 * n as u64, base)?;
            check_shifts(t, &data[13 * n..], 63, t.data.start + 13 * n as u64, base)
        }
        // Any value of a gain or frequency is harmless: every product fits an i64.
        TensorKind::Vector | TensorKind::Frequencies => Ok(()),
    }?;
    debug_assert!(t.scale.e.abs() <= MAX_FILE_EXPONENT);
    Ok(())
}

fn check_mantissas(t: &Tensor, bytes: &[u8], start: u64, base: u64) -> Result<()> {
    match crate::bytes::to_u32(bytes).iter().position(|m| !(1 << 30..1 << 31).contains(m)) {
        None => Ok(()),
        Some(i) => Err(Error::input("a scale mantissa is outside of 2^30 .. 2^31")
            .at_tensor(&t.name)
            .at_offset(base + start + 4 * i as u64)),
    }
}

fn check_shifts(t: &Tensor, bytes: &[u8], most: u8, start: u64, base: u64) -> Result<()> {
    match bytes.iter().position(|h| *h > most) {
        None => Ok(()),
        Some(i) => Err(Error::input(format!("a scale shift is above {most}"))
            .at_tensor(&t.name)
            .at_offset(base + start + i as u64)),
    }
}
