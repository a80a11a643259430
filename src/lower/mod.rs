//! Model to program, once. Below this point there are no floats.

mod weights;

pub use weights::{produce, static_keys_bytes, Produced};

use crate::encoding::fixed::{Scale, LOG2E};
use crate::encoding::lowbit::Encoding;
use crate::error::{Error, Result};
use crate::kernels::attention::AttentionShape;
use crate::kernels::scalar::QuantRule;
use crate::limits::{MAX_QMAX, MAX_WINDOW};
use crate::model::{Activation, ActivationRule, Form, Linear, Matrix, Model, Norm, Source, WeightRule};
use crate::program::{
    KernelHint, Op, OpKind, Program, Reg, RegKind, Register, ScaleMode, Tensor, TensorId, TensorKind,
};

/// What the user may choose. None means: what the checkpoint was trained for, or the target's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub weight: Option<WeightRule>,
    pub weight_scales: ScaleMode,
    pub activation: Option<ActivationRule>,
    /// Bits of the embedding's and the head's rows: 8 or 16. None: 8 where the source was trained so, else [`Options::embedding_default`].
    pub embedding_bits: Option<u32>,
    pub embedding_default: u32,
    /// Slots of the window; None: the context length of the source.
    pub window: Option<usize>,
    pub sinks: usize,
    pub kv_bits: u32,
    /// Largest scratch for lookup tables on the device; 0: no lookup kernels.
    pub lut_limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            weight: None,
            weight_scales: ScaleMode::One,
            activation: None,
            embedding_bits: None,
            embedding_default: 16,
            window: None,
            sinks: 4,
            kv_bits: 16,
            lut_limit: 0,
        }
    }
}

/// Where the bytes of a tensor come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Origin {
    /// A projection; the rule applies to float masters.
    LowBit {
        weight: Matrix,
        rule: Option<WeightRule>,
    },
    /// Rows of an embedding or head as integers.
    Rows(Matrix),
    Gamma(Norm),
    Frequencies(Vec<u32>),
    /// Known only after calibration, appended last.
    StaticKeys,
}

/// A program whose weights are still in the checkpoint.
pub struct Lowered {
    pub program: Program,
    pub(crate) origins: Vec<Origin>,
    /// Settings in force, for the manifest and the report.
    pub weight_rule: String,
    pub activation_rule: ActivationRule,
    pub native: bool,
    pub warnings: Vec<String>,
}

/// Makes the program. No weight is read yet; all sizes are known.
///
/// # Errors
/// `Usage` if a float checkpoint comes without settings or the options contradict each other; `Unsupported` for shapes beyond the limits.
pub fn lower(model: &Model, options: &Options) -> Result<Lowered> {
    let (rule, activation, native, mut warnings) = settings(model, options)?;
    let window = options.window.unwrap_or(model.context.min(MAX_WINDOW));
    if window == 0 || window > MAX_WINDOW || options.sinks >= window {
        return Err(Error::usage(format!("a window of {window} slots with {} sinks", options.sinks))
            .hint(format!("take 1 to {MAX_WINDOW} slots and fewer sinks than slots")));
    }
    let static_keys = options.kv_bits == 4;
    let shape = AttentionShape {
        heads: model.heads,
        kv_heads: model.kv_heads,
        head_dim: model.head_dim,
        window,
        sinks: options.sinks,
        k_bits: options.kv_bits,
        v_bits: options.kv_bits,
    };
    let mut b = Builder::new(model, options, rule, activation, static_keys)?;
    b.build()?;
    let lut_bytes = b.lut_bytes();
    warnings.extend(model.warnings.iter().cloned());
    let program = Program {
        vocab: model.vocab,
        d_model: model.d_model,
        layers: model.layers.len(),
        attention: shape,
        // Replaced by calibration; 12 bits leave room for activations of half a million.
        residual_frac: 12,
        static_keys,
        key_frac: 0,
        eos: model.eos.clone(),
        bos: model.bos,
        context: model.context,
        lut_bytes,
        registers: b.registers,
        ops: b.ops,
        head_op: b.head_op,
        tensors: b.tensors,
    };
    crate::program::check::check(&program)?;
    let weight_rule = match rule {
        Some(r) => format!("{}{}", r.name(), scale_suffix(options, native)),
        None => "ternary, stored codes".to_string(),
    };
    Ok(Lowered { program, origins: b.origins, weight_rule, activation_rule: activation, native, warnings })
}

fn scale_suffix(options: &Options, native: bool) -> String {
    match options.weight_scales {
        _ if native => String::new(),
        ScaleMode::One => String::new(),
        ScaleMode::Row => ", scale per row".into(),
        ScaleMode::Group(g) => format!(", scale per {g} columns"),
    }
}

/// Native settings or the user's; says what is lost when they differ.
fn settings(m: &Model, o: &Options) -> Result<(Option<WeightRule>, ActivationRule, bool, Vec<String>)> {
    let Some(native) = m.native else {
        let (Some(w), Some(a)) = (o.weight, o.activation) else {
            return Err(Error::usage("this checkpoint holds float weights that were not trained for low bits, so the settings must be given")
                .hint("add `--quantize-weight 1.58 --quantize-activation 8`; without retraining the model will be damaged, see `bitnet-convert eval`"));
        };
        let warnings =
            vec!["float weights are rounded without calibration or retraining: expect a model that is badly damaged"
                .into()];
        return Ok((Some(w), a, false, warnings));
    };
    let mut warnings = Vec::new();
    let mut carried = true;
    let rule = match (o.weight, native.weight) {
        (None, n) => n,
        (Some(w), Some(n)) if w == n => Some(w),
        (Some(WeightRule::TernaryAbsmean), None) => None,
        (Some(w), n) => {
            let trained = n.map_or("ternary codes", WeightRule::name);
            warnings.push(format!(
                "the checkpoint was trained as {trained}; converting its weights with {} loses what it learned",
                w.name()
            ));
            carried = false;
            Some(w)
        }
    };
    if carried && o.weight_scales != ScaleMode::One {
        return Err(Error::usage("a native checkpoint has its own weight scales, one for each matrix")
            .hint("leave `--weight-scales` out"));
    }
    let Some(trained) = native.activation else {
        return Err(Error::unsupported("float activations are not lowered yet"));
    };
    let activation = o.activation.unwrap_or(trained);
    if activation != trained {
        carried = false;
        warnings.push(format!(
            "the checkpoint was trained with {} activations; {} will change its answers",
            trained.name(),
            activation.name()
        ));
    }
    if native.int8_embedding && o.embedding_bits == Some(16) {
        carried = false;
        warnings.push("the checkpoint was trained with an int8 embedding; 16 bits will change its answers".into());
    }
    Ok((rule, activation, carried, warnings))
}

fn quant_rule(rule: ActivationRule) -> QuantRule {
    // 1e-5 is the floor of the reference implementations; it is a constant, so the conversion cannot fail.
    let floor = Scale::from_f64(f64::from(1e-5f32)).unwrap_or(Scale::ONE);
    match rule {
        ActivationRule::Absmax8 => QuantRule { qmax: 127, lo: -128, hi: 127, floor },
        ActivationRule::Absmax4 => QuantRule { qmax: 7, lo: -8, hi: 7, floor },
        ActivationRule::Absmax2 => QuantRule { qmax: 2, lo: -2, hi: 1, floor },
    }
}

fn positive(v: f64, what: &str) -> Result<Scale> {
    Scale::from_f64(v).ok_or_else(|| Error::input(format!("{what} is {v}, it must be positive")))
}

/// Registers, by what they hold.
const X: Reg = 0;
const NORMED: Reg = 1;
const CODES: Reg = 2;
const WIDE: Reg = 3; // q, gate, results of o and down, logits
const UP: Reg = 4; // k, up
const VALUE: Reg = 5;
const OWN_NORM: Reg = 6; // after a projection's own input norm

/// Whether codes lie in the checkpoint already.
fn is_stored(m: &Matrix) -> bool {
    m.source.form() != Form::Float && !matches!(m.source, Source::Master(_))
}

struct Builder<'a> {
    m: &'a Model,
    o: &'a Options,
    rule: Option<WeightRule>,
    quant: QuantRule,
    static_keys: bool,
    registers: Vec<Register>,
    ops: Vec<Op>,
    head_op: usize,
    tensors: Vec<Tensor>,
    origins: Vec<Origin>,
    at: u64,
    softmax: Scale,
}

impl<'a> Builder<'a> {
    fn new(
        m: &'a Model,
        o: &'a Options,
        rule: Option<WeightRule>,
        act: ActivationRule,
        static_keys: bool,
    ) -> Result<Self> {
        let softmax = positive(m.layers[0].attn.scale, "the softmax scale")?.mul(LOG2E);
        let ffn = m.layers.iter().map(|l| l.mlp.up.weight.rows).max().unwrap_or(0);
        let (qd, kvd) = (m.heads * m.head_dim, m.kv_heads * m.head_dim);
        let v = |n: usize| Register { kind: RegKind::Vector, capacity: n };
        let widest = m.d_model.max(qd).max(ffn);
        let registers = vec![
            v(m.d_model),
            v(m.d_model.max(qd)),
            Register { kind: RegKind::Codes8, capacity: widest },
            v(widest.max(m.vocab)),
            v(kvd.max(ffn)),
            v(kvd),
        ];
        Ok(Builder {
            m,
            o,
            rule,
            quant: quant_rule(act),
            static_keys,
            registers,
            ops: Vec::new(),
            head_op: 0,
            tensors: Vec::new(),
            origins: Vec::new(),
            at: 0,
            softmax,
        })
    }

    fn tensor(&mut self, name: String, kind: TensorKind, rows: usize, cols: usize, origin: Origin) -> TensorId {
        let start = self.at.next_multiple_of(16);
        let data = start..start + Tensor::data_bytes(kind, rows, cols);
        let scale_len = Tensor::scale_bytes(kind, rows, cols);
        let scales = if scale_len == 0 {
            0..0
        } else {
            let s = data.end.next_multiple_of(16);
            s..s + scale_len
        };
        self.at = data.end.max(scales.end);
        self.tensors.push(Tensor { name, kind, rows, cols, scale: Scale::ONE, data, scales });
        self.origins.push(origin);
        self.tensors.len() - 1
    }

    fn op(&mut self, layer: Option<usize>, kind: OpKind) {
        self.ops.push(Op { layer, kind });
    }

    fn norm(&mut self, layer: Option<usize>, dst: Reg, src: Reg, name: String, norm: &Norm) -> Result<()> {
        let gamma = self.tensor(name, TensorKind::Gamma, 1, norm.len, Origin::Gamma(norm.clone()));
        // The reference adds eps as f32.
        let eps = positive(f64::from(norm.eps as f32), "the eps of a norm")?;
        self.op(layer, OpKind::RmsNorm { dst, src, gamma, eps });
        Ok(())
    }

    fn low_bit(&mut self, l: &Linear) -> TensorId {
        let stored = is_stored(&l.weight);
        let enc = match self.rule {
            Some(WeightRule::BinaryMean) => Encoding::Binary1,
            _ => Encoding::Ternary2,
        };
        let scales = if stored && self.rule.is_none() { ScaleMode::One } else { self.o.weight_scales };
        let kind = TensorKind::Matrix { enc, scales };
        let w = &l.weight;
        self.tensor(l.name.clone(), kind, w.rows, w.cols, Origin::LowBit { weight: w.clone(), rule: self.rule })
    }

    fn hint(&self) -> KernelHint {
        match self.quant.qmax {
            2 => KernelHint::Planes,
            q if q <= 127 && self.o.lut_limit >= 512 => KernelHint::Lookup,
            _ => KernelHint::Select,
        }
    }

    /// Projections that share an input: one QUANTIZE, unless they have norms of their own.
    fn project(&mut self, layer: Option<usize>, src: Reg, outputs: &[(&Linear, Reg)]) -> Result<()> {
        let mut quantized = false;
        for (l, dst) in outputs {
            let mut from = src;
            if let Some(n) = &l.input_norm {
                if self.registers.len() <= OWN_NORM {
                    let capacity = self.registers[CODES].capacity;
                    self.registers.push(Register { kind: RegKind::Vector, capacity });
                }
                self.norm(layer, OWN_NORM, src, format!("{}.norm", l.name), n)?;
                from = OWN_NORM;
                quantized = false;
            }
            if !quantized {
                self.op(layer, OpKind::Quantize { dst: CODES, src: from, rule: self.quant });
                quantized = true;
            }
            let weight = self.low_bit(l);
            self.op(layer, OpKind::Linear { dst: *dst, codes: CODES, weight, hint: self.hint() });
        }
        Ok(())
    }

    fn build(&mut self) -> Result<()> {
        let m = self.m;
        let rows = |bits: u32| TensorKind::Matrix {
            enc: if bits == 16 { Encoding::Int16 } else { Encoding::Int8 },
            scales: ScaleMode::Row,
        };
        let trained = m.native.is_some_and(|n| n.int8_embedding);
        let default = if trained { 8 } else { self.o.embedding_default };
        let bits = self.o.embedding_bits.unwrap_or(default);
        let embedding_kind = rows(bits);
        let table =
            self.tensor("embedding".into(), embedding_kind, m.vocab, m.d_model, Origin::Rows(m.embedding.clone()));
        self.op(None, OpKind::Embed { dst: X, table });
        let turns: Vec<u32> = m.ropes[0]
            .inv_freq
            .iter()
            .map(|f| libm::rint(f / std::f64::consts::TAU * 2f64.powi(32)) as u64 as u32)
            .collect();
        let freq = self.tensor("rope".into(), TensorKind::Frequencies, 1, turns.len(), Origin::Frequencies(turns));
        let mut waiting = Vec::new();
        for (i, l) in m.layers.iter().enumerate() {
            let at = Some(i);
            let (a, f) = (&l.attn, &l.mlp);
            let (Some(attn_norm), Some(ffn_norm), Some(gate)) = (&l.attn_norm, &l.ffn_norm, &f.gate) else {
                return Err(Error::unsupported(format!("blocks of {} are not lowered yet", m.architecture)));
            };
            self.norm(at, NORMED, X, format!("layers.{i}.attn.norm"), attn_norm)?;
            self.project(at, NORMED, &[(&a.q, WIDE), (&a.k, UP), (&a.v, VALUE)])?;
            // Index of the key constants; they get their place behind all other tensors, when their number is known.
            let keys = self.static_keys.then_some(usize::MAX);
            waiting.push(self.ops.len());
            self.op(at, OpKind::KvWrite { k: UP, v: VALUE, freq, keys });
            self.op(at, OpKind::Attend { dst: NORMED, q: WIDE, freq, keys, softmax: self.softmax });
            if let Some(n) = &a.sub_norm {
                self.norm(at, NORMED, NORMED, format!("layers.{i}.attn.sub_norm"), n)?;
            }
            self.project(at, NORMED, &[(&a.o, WIDE)])?;
            self.op(at, OpKind::Add { dst: X, src: WIDE });
            self.norm(at, NORMED, X, format!("layers.{i}.ffn.norm"), ffn_norm)?;
            self.project(at, NORMED, &[(gate, WIDE), (&f.up, UP)])?;
            self.op(
                at,
                match f.activation {
                    Activation::Relu2 => OpKind::Relu2Mul { dst: WIDE, gate: WIDE, up: UP },
                    Activation::Silu => OpKind::SiluMul { dst: WIDE, gate: WIDE, up: UP },
                    other => return Err(Error::unsupported(format!("{} is not lowered yet", other.name()))),
                },
            );
            if let Some(n) = &f.sub_norm {
                self.norm(at, WIDE, WIDE, format!("layers.{i}.ffn.sub_norm"), n)?;
            }
            self.project(at, WIDE, &[(&f.down, WIDE)])?;
            self.op(at, OpKind::Add { dst: X, src: WIDE });
        }
        self.head_op = self.ops.len();
        let Some(final_norm) = &m.final_norm else {
            return Err(Error::unsupported("models without a final norm are not lowered yet"));
        };
        self.norm(None, NORMED, X, "final_norm".into(), final_norm)?;
        match &m.head {
            Some(h) if is_stored(&h.weight) => self.project(None, NORMED, &[(h, WIDE)])?,
            head => {
                let codes = self.head_codes();
                self.op(None, OpKind::Quantize { dst: codes.0, src: NORMED, rule: codes.1 });
                let weight = match head {
                    _ if m.tied() => table,
                    None => return Err(Error::unsupported("models without a head are not lowered yet")),
                    Some(h) => {
                        let kind = rows(bits);
                        self.tensor("head".into(), kind, m.vocab, m.d_model, Origin::Rows(h.weight.clone()))
                    }
                };
                self.op(None, OpKind::Linear { dst: WIDE, codes: codes.0, weight, hint: KernelHint::Select });
            }
        }
        self.op(None, OpKind::Logits { src: WIDE });
        if self.static_keys {
            for (i, at) in waiting.into_iter().enumerate() {
                let name = format!("layers.{i}.attn.key_constants");
                let id = self.tensor(name, TensorKind::StaticKeys, m.kv_heads, m.head_dim, Origin::StaticKeys);
                for op in &mut self.ops[at..at + 2] {
                    if let OpKind::KvWrite { keys, .. } | OpKind::Attend { keys, .. } = &mut op.kind {
                        *keys = Some(id);
                    }
                }
            }
        }
        Ok(())
    }

    /// Register and rule of the head's input: int8 where the source was trained so, else as fine as 30 bits of sum allow.
    fn head_codes(&mut self) -> (Reg, QuantRule) {
        let rule = quant_rule(ActivationRule::Absmax8);
        if self.m.native.is_some_and(|n| n.int8_embedding) {
            return (CODES, rule);
        }
        let room = ((1u64 << 30) - 1) / (128 * self.m.d_model as u64);
        let qmax = room.clamp(127, u64::from(MAX_QMAX)) as u32;
        self.registers.push(Register { kind: RegKind::Codes16, capacity: self.m.d_model });
        (self.registers.len() - 1, QuantRule { qmax, lo: -(qmax as i32), hi: qmax as i32, floor: rule.floor })
    }

    /// Scratch for lookup tables: all columns of the widest such matrix, or as many as the limit allows.
    fn lut_bytes(&self) -> usize {
        let widest = self.ops.iter().filter_map(|op| match op.kind {
            OpKind::Linear { weight, hint: KernelHint::Lookup, .. } => Some(self.tensors[weight].cols),
            _ => None,
        });
        let all = widest.max().map_or(0, |cols| 512 * cols.div_ceil(8));
        all.min(self.o.lut_limit / 512 * 512)
    }
}
