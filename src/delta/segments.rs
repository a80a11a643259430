//! What lies where in a packed file: every byte belongs to a part, and a part knows what its bytes mean.

use crate::encoding::lowbit::Encoding;
use crate::encoding::order::Order;
use crate::error::Result;
use crate::format::manifest::Manifest;
use crate::format::packed::{Kind, Packed};
use crate::program::{check, codec, OpKind, Program, Tensor, TensorKind};
use std::ops::Range;

/// What the bytes of a part are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// Bits that flip one by one.
    Bits,
    /// Rows of two planes, as in `ternary2`.
    Planes { half: u32 },
    /// Five trits a byte.
    Fives,
    /// Integers of 1, 2 or 4 bytes.
    Ints(u8),
    /// Anything else.
    Bytes,
}

/// A stretch of a file.
#[derive(Debug, Clone)]
pub struct Part {
    /// For people: a tensor, its scales, a section.
    pub name: String,
    /// What it is within its tensor: parts of one tensor differ in it.
    pub aspect: &'static str,
    /// Number of the tensor, if it is of one.
    pub tensor: Option<usize>,
    pub range: Range<usize>,
    pub form: Form,
    /// Low-bit weights in it.
    pub weights: u64,
    /// Bytes of what can be added or taken away: a row, a quad of rows, an element.
    pub unit: usize,
    /// Bytes that only a host reads.
    pub host: bool,
}

impl Part {
    /// The same for what repeats over the layers: numbers do not count.
    pub fn role(&self) -> String {
        let mut role = String::new();
        for c in self.name.chars() {
            match c {
                '0'..='9' if role.ends_with('#') => {}
                '0'..='9' => role.push('#'),
                c => role.push(c),
            }
        }
        role + "/" + self.aspect
    }
}

/// All parts of a file, in order, from the first byte to the last.
#[derive(Debug)]
pub struct Layout {
    pub parts: Vec<Part>,
    /// Names of the tensors: those of the manifest, else the place of their first use.
    pub tensors: Vec<String>,
    /// Name in the manifest.
    pub model: Option<String>,
    /// Whether it is a packed model.
    pub packed: bool,
}

impl Layout {
    /// A file of which nothing is known.
    pub fn plain(len: usize) -> Layout {
        let whole = part("file", "", 0..len, Form::Bytes).on_host();
        Layout {
            parts: if len > 0 { vec![whole] } else { Vec::new() },
            tensors: Vec::new(),
            model: None,
            packed: false,
        }
    }

    /// A packed model, its structure, digests and codes checked on the way.
    ///
    /// # Errors
    /// `Input` if it is none, or damaged.
    pub fn packed(file: &Packed) -> Result<Layout> {
        let at_program = file.offset(Kind::Program);
        let mut program = codec::decode(file.require(Kind::Program)?, at_program)?;
        let manifest = file.section(Kind::Manifest).map(Manifest::from_bytes).transpose()?;
        let names = manifest.as_ref().map(|m| &m.tensor_names).filter(|n| n.len() == program.tensors.len());
        let names = names.cloned().unwrap_or_else(|| places(&program));
        program.tensors.iter_mut().zip(&names).for_each(|(t, n)| t.name.clone_from(n));
        check::check(&program).map_err(|e| e.at_offset(at_program))?;
        let base = file.offset(Kind::Weights);
        check::check_weights(&program, file.require(Kind::Weights)?, base)?;
        let mut parts = vec![part("header", "", 0..file.sections.first().map_or(0, |s| s.range.start), Form::Bytes)];
        for s in &file.sections {
            match s.kind {
                Some(Kind::Weights) => tensors(&program, base as usize, &mut parts),
                Some(Kind::Program | Kind::Golden) if s.range.len() % 4 == 0 => {
                    parts.push(part(s.kind.map_or("", Kind::name), "", s.range.clone(), Form::Ints(4)));
                }
                Some(k @ (Kind::Manifest | Kind::TokenizerJson)) => {
                    parts.push(part(k.name(), "", s.range.clone(), Form::Bytes).on_host());
                }
                Some(k) => parts.push(part(k.name(), "", s.range.clone(), Form::Bytes)),
                None => parts.push(part("unknown section", "", s.range.clone(), Form::Bytes).on_host()),
            }
        }
        Ok(Layout {
            parts: filled(parts, file.bytes().len()),
            tensors: names,
            model: manifest.map(|m| m.model),
            packed: true,
        })
    }
}

fn part(name: &str, aspect: &'static str, range: Range<usize>, form: Form) -> Part {
    let unit = match form {
        Form::Ints(w) => usize::from(w),
        _ => 1,
    };
    Part { name: name.to_string(), aspect, tensor: None, range, form, weights: 0, unit, host: false }
}

impl Part {
    fn on_host(self) -> Part {
        Part { host: true, ..self }
    }
}

/// Parts of the weights section in the order of their bytes.
fn tensors(p: &Program, base: usize, parts: &mut Vec<Part>) {
    let mut found = Vec::new();
    for (i, t) in p.tensors.iter().enumerate() {
        let mut add = |aspect, range: Range<usize>, form, weights, unit| {
            let made = part(&t.name, aspect, base + range.start..base + range.end, form);
            found.push(Part { tensor: Some(i), weights, unit, ..made });
        };
        let data = t.data.start as usize..t.data.end as usize;
        match t.kind {
            TensorKind::Matrix { enc, order, .. } => {
                let (form, unit) = matrix(enc, order, t);
                add("", data, form, t.low_bit_weights(), unit);
            }
            TensorKind::Vector | TensorKind::Frequencies => add("", data, Form::Ints(4), 0, 4),
            TensorKind::StaticKeys => {
                let words = data.start + 12 * t.rows * t.cols;
                add("", data.start..words, Form::Ints(4), 0, 4);
                add("shifts", words..data.end, Form::Ints(1), 0, 1);
            }
        }
        let scales = t.scales.start as usize..t.scales.end as usize;
        let words = scales.start + scales.len() / 5 * 4;
        add("scales", scales.start..words, Form::Ints(4), 0, 4);
        add("shifts", words..scales.end, Form::Ints(1), 0, 1);
    }
    found.retain(|p| !p.range.is_empty());
    found.sort_by_key(|p| p.range.start);
    parts.append(&mut found);
}

/// How a matrix changes, and the bytes of a row or a quad of rows.
fn matrix(enc: Encoding, order: Order, t: &Tensor) -> (Form, usize) {
    let stride = enc.stride_in(order, t.cols);
    let unit = if order == Order::Quads { 4 * stride } else { stride };
    let form = match enc {
        Encoding::Binary1 | Encoding::Planes4 => Form::Bits,
        Encoding::Ternary2 if stride / 2 <= 1 << 15 => Form::Planes { half: (stride / 2) as u32 },
        Encoding::Ternary2 => Form::Bits,
        Encoding::Ternary5 => Form::Fives,
        Encoding::Int8 | Encoding::Int4 => Form::Ints(1),
        Encoding::Int16 => Form::Ints(2),
    };
    (form, unit)
}

/// Names for tensors that have none: layer, operation and its number there.
fn places(p: &Program) -> Vec<String> {
    let mut names = vec![String::new(); p.tensors.len()];
    let (mut layer, mut count) = (None, 0);
    for op in &p.ops {
        count = if op.layer == layer { count + 1 } else { 0 };
        layer = op.layer;
        let place = match op.layer {
            Some(l) => format!("layers.{l}.{}.{count}", op.kind.name().to_lowercase()),
            None => op.kind.name().to_lowercase(),
        };
        for (id, what) in used(&op.kind) {
            if let Some(name) = names.get_mut(id).filter(|n| n.is_empty()) {
                *name = format!("{place}{what}");
            }
        }
    }
    names.iter_mut().enumerate().filter(|(_, n)| n.is_empty()).for_each(|(i, n)| *n = format!("tensor {i}"));
    names
}

/// Tensors of an operation.
fn used(op: &OpKind) -> Vec<(usize, &'static str)> {
    let some = |list: &[(Option<usize>, &'static str)]| list.iter().filter_map(|(t, n)| t.map(|t| (t, *n))).collect();
    match op {
        OpKind::Embed { table, .. } | OpKind::Position { table, .. } => vec![(*table, "")],
        OpKind::RmsNorm { gamma, .. } => vec![(*gamma, "")],
        OpKind::Linear { weight, .. } => vec![(*weight, "")],
        OpKind::KvWrite { freq, keys, .. } => some(&[(*freq, ".frequencies"), (*keys, ".keys")]),
        OpKind::Attend { freq, keys, scoring, .. } => {
            some(&[(*freq, ".frequencies"), (*keys, ".keys"), (scoring.slopes, ".slopes")])
        }
        OpKind::Norm { gamma, beta, .. } => some(&[(*gamma, ""), (*beta, ".beta")]),
        OpKind::Bias { by, .. } | OpKind::Gain { by, .. } => vec![(*by, "")],
        OpKind::Rope { freq, .. } => vec![(*freq, "")],
        _ => Vec::new(),
    }
}

/// The parts with the padding between them as parts of their own.
fn filled(parts: Vec<Part>, len: usize) -> Vec<Part> {
    let mut out: Vec<Part> = Vec::with_capacity(2 * parts.len());
    let mut at = 0;
    for p in parts {
        if p.range.start > at {
            out.push(part("padding", "", at..p.range.start, Form::Bytes));
        }
        at = p.range.end;
        out.push(p);
    }
    if at < len {
        out.push(part("padding", "", at..len, Form::Bytes));
    }
    out
}
