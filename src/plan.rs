//! What a model will take: flash and RAM, part by part, against the target's budget. Pure arithmetic on a program; nothing is read or written.
//! The file length is exact, a test holds it against the written file. The arena is the sum that docs/format/packed.md gives.

use crate::error::{Error, Kind, Result};
use crate::format::packed;
use crate::kernels::tables::TABLES_BYTES;
use crate::kernels::vector::Pool;
use crate::program::kernels::{self, Use};
use crate::program::{codec, golden::Golden, parts, KernelHint, OpKind, Program, TensorKind};
use crate::target::{Role, Target};
use serde::Serialize;

/// One line of the plan.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub detail: String,
    pub bytes: u64,
}

/// One memory, or the file on a host.
#[derive(Debug, Clone, Serialize)]
pub struct Usage {
    pub memory: String,
    pub parts: Vec<Part>,
    pub total: u64,
    /// None: no limit.
    pub limit: Option<u64>,
}

impl Usage {
    fn new(memory: &str, parts: Vec<Part>, limit: Option<u64>) -> Usage {
        let parts: Vec<Part> = parts.into_iter().filter(|p| p.bytes > 0).collect();
        let total = parts.iter().map(|p| p.bytes).sum();
        Usage { memory: memory.to_string(), parts, total, limit }
    }

    pub fn over(&self) -> u64 {
        self.limit.map_or(0, |l| self.total.saturating_sub(l))
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub model: String,
    pub target: String,
    pub low_bit_weights: u64,
    pub weight_rule: String,
    pub activation_rule: String,
    /// Length of the packed file.
    pub file_bytes: u64,
    pub arena_bytes: u64,
    /// Kernels of the C runtime, see [`kernels::used`].
    pub kernels: Vec<Use>,
    /// Whether the arena and the stack share the fast memory.
    pub arena_in_fast_ram: bool,
    pub usage: Vec<Usage>,
}

/// Sizes of what is not in the program.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// Total lengths of the golden prompts; empty: no trace.
    pub golden_totals: Vec<usize>,
    pub tokenizer: Option<u64>,
    /// Whether the tokenizer needs more code than byte-level BPE takes.
    pub tokenizer_more: bool,
    /// Scratch that text to ids takes, and room for a token, in bytes.
    pub tokenizer_scratch: u64,
    pub tokenizer_json: Option<u64>,
    pub manifest: Option<u64>,
}

impl Extras {
    /// Length of each section, in the order in which they are written.
    pub fn section_lengths(&self, p: &Program) -> Vec<u64> {
        let mut v = vec![
            p.weights_len(),
            codec::encoded_len(p.registers.len(), p.ops.len(), p.tensors.len()),
            TABLES_BYTES as u64,
        ];
        v.extend(self.tokenizer);
        if !self.golden_totals.is_empty() {
            v.push(Golden::encoded_len(p.layers, &self.golden_totals));
        }
        v.extend(self.manifest);
        v.extend(self.tokenizer_json);
        v
    }
}

fn part(name: &str, detail: impl Into<String>, bytes: u64) -> Part {
    Part { name: name.to_string(), detail: detail.into(), bytes }
}

/// Parts of the packed file; they sum up to its length.
pub fn file_parts(p: &Program, extras: &Extras) -> Vec<Part> {
    let tied = p.tensors.iter().any(|t| t.name == "head");
    let mut low = (0u64, 0u64, String::new());
    let mut parts = Vec::new();
    let (mut norms, mut constants) = (0, 0);
    for t in &p.tensors {
        match t.kind {
            TensorKind::Matrix { enc, .. } if enc.is_low_bit() || t.name.starts_with("layers.") => {
                low = (low.0 + 1, low.1 + t.bytes(), enc.name().to_string());
            }
            TensorKind::Matrix { enc, .. } => {
                let use_ = if t.name == "embedding" && !tied { "embedding and head" } else { &t.name };
                parts.push(part(use_, format!("{} rows {} x {}", enc.name(), t.rows, t.cols), t.bytes()));
            }
            TensorKind::Vector => norms += t.bytes(),
            TensorKind::Frequencies | TensorKind::StaticKeys => constants += t.bytes(),
        }
    }
    parts.insert(0, part("weights", format!("{}, {} matrices", low.2, low.0), low.1));
    parts.push(part("norms", "i32", norms));
    parts.push(part("rope and key constants", "", constants));
    let lengths = extras.section_lengths(p);
    parts.push(part("program", format!("{} operations", p.ops.len()), lengths[1]));
    parts.push(part("tables", "exp2, sine", lengths[2]));
    parts.push(part("tokenizer", "device form", extras.tokenizer.unwrap_or(0)));
    if !extras.golden_totals.is_empty() {
        let bytes = Golden::encoded_len(p.layers, &extras.golden_totals);
        parts.push(part(
            "golden trace",
            format!("{} prompts, {} tokens", extras.golden_totals.len(), extras.golden_totals.iter().sum::<usize>()),
            bytes,
        ));
    }
    parts.push(part("manifest", "", extras.manifest.unwrap_or(0)));
    parts.push(part("tokenizer.json", "", extras.tokenizer_json.unwrap_or(0)));
    let sum: u64 = parts.iter().map(|p| p.bytes).sum();
    parts.push(part("header and alignment", "", packed::file_length(&lengths) - sum));
    parts
}

/// Parts of the arena of the C runtime for a window of `window` slots.
pub fn arena_parts(p: &Program, window: usize) -> Vec<Part> {
    let a = &p.attention;
    let up = |n: usize| n.next_multiple_of(16) as u64;
    let registers: u64 = p.registers.iter().map(|r| up(r.capacity * r.kind.element_bytes())).sum();
    let attention = 4 * up(4 * a.head_dim) + up(8 * a.head_dim) + up(4 * window);
    let codes = |bits: u32| up(window * a.kv_heads * a.head_dim * bits as usize / 8);
    let scales = up(4 * window * a.kv_heads) + up(2 * window * a.kv_heads);
    let per_layer = codes(a.k_bits) + codes(a.v_bits) + scales + if p.static_keys { 0 } else { scales };
    let planes = p.ops.iter().filter_map(|o| match o.kind {
        OpKind::Linear { weight, hint: KernelHint::Planes, .. } => Some(p.tensors[weight].cols),
        _ => None,
    });
    let planes = planes.max().map_or(0, |cols| up(8 * cols.div_ceil(32)));
    let second = if p.pairs { registers + planes } else { 0 };
    let text = if p.encoder { up(4 * window * p.d_model) + up(4 * window) } else { 0 };
    let sums = if matches!(p.embedding(), Some((Pool::Mean, _))) { up(8 * p.d_model) } else { 0 };
    vec![
        part(
            "kv cache",
            format!("{} bits, {window} slots of which {} sinks", a.k_bits, a.sinks),
            per_layer * p.layers as u64,
        ),
        part("registers", format!("{}", p.registers.len()), registers),
        part("attention", "angles, queries, scores", attention),
        part("bit planes", "", planes),
        part("second token", "registers and planes of paired tokens", second),
        part("lookup tables", "", up(p.lut_bytes)),
        part("text", "residuals, checksums, sums of an encoder", text + sums),
    ]
}

/// Length of the arena of the C runtime for a window of `window` slots.
pub fn arena_bytes(p: &Program, window: usize) -> u64 {
    arena_parts(p, window).iter().map(|part| part.bytes).sum()
}

/// Facts for the head of a plan.
pub struct Heading<'a> {
    pub model: &'a str,
    pub weight_rule: &'a str,
    pub activation_rule: &'a str,
}

/// Whether an arena lies beside the stack in the memory without wait states.
pub fn in_fast_memory(arena: u64, target: &Target) -> bool {
    let beside = target.budget.as_ref().map_or(0, |b| b.stack + b.application_ram);
    arena + beside <= target.bytes(Role::Fast)
}

/// Makes the plan. It never fails for size; [`refuse`] does.
pub fn plan(p: &Program, extras: &Extras, target: &Target, heading: &Heading) -> Plan {
    let file = file_parts(p, extras);
    let file_bytes = file.iter().map(|p| p.bytes).sum();
    let arena = arena_parts(p, p.attention.window);
    let arena_bytes: u64 = arena.iter().map(|p| p.bytes).sum();
    let mut usage = Vec::new();
    let mut fast = false;
    match &target.budget {
        None => usage.push(Usage::new("file", file, None)),
        Some(b) => {
            let mut flash = file;
            let plain = parts::needs(p).is_plain() && !extras.tokenizer_more;
            flash.push(part("runtime", "code, budget", if plain { b.runtime_flash } else { b.runtime_flash_all }));
            usage.push(Usage::new("flash", flash, Some(target.bytes(Role::Flash))));
            let mut ram = arena;
            let result = if p.embedding().is_some() { "embedding" } else { "logits" };
            ram.push(part(result, format!("i32[{}]", p.result_len()), 4 * p.result_len() as u64));
            ram.push(part("tokenizer", "scratch, room for a token", extras.tokenizer_scratch));
            ram.push(part("stack", "", b.stack));
            ram.push(part("application", "buffers of the example main", b.application_ram));
            let (first, second) = (target.bytes(Role::Fast), target.bytes(Role::Ram));
            fast = in_fast_memory(arena_bytes, target);
            // The arena is one piece: what counts is the memory that it lies in.
            let beside = if second > 0 { first.min(b.stack + b.application_ram) } else { first };
            let limit = if fast { first + second } else { second + beside };
            usage.push(Usage::new("ram", ram, Some(limit)));
        }
    }
    Plan {
        model: heading.model.to_string(),
        target: target.name.clone(),
        low_bit_weights: p.tensors.iter().map(|t| t.low_bit_weights()).sum(),
        weight_rule: heading.weight_rule.to_string(),
        activation_rule: heading.activation_rule.to_string(),
        file_bytes,
        arena_bytes,
        kernels: kernels::used(p),
        arena_in_fast_ram: fast,
        usage,
    }
}

/// # Errors
/// `DoesNotFit` with the numbers of every memory that is too small, and a command that would make it fit if a smaller window can.
pub fn refuse(plan: &Plan, p: &Program) -> Result<()> {
    let over: Vec<&Usage> = plan.usage.iter().filter(|u| u.over() > 0).collect();
    if over.is_empty() {
        return Ok(());
    }
    let mut message = format!("the model does not fit {}", plan.target);
    for u in &over {
        message += &format!(
            "\n  {}: {} of {} bytes ({} over)",
            u.memory,
            group(u.total),
            group(u.limit.unwrap_or(0)),
            group(u.over())
        );
        let mut parts: Vec<&Part> = u.parts.iter().collect();
        parts.sort_by_key(|p| std::cmp::Reverse(p.bytes));
        let list: Vec<String> = parts.iter().take(5).map(|p| format!("{} {}", p.name, group(p.bytes))).collect();
        message += &format!("\n    {}", list.join(" · "));
    }
    let e = Error::new(Kind::DoesNotFit, message);
    let flash_fits = over.iter().all(|u| u.memory != "flash");
    if flash_fits {
        if let Some(hint) = smaller_window(plan, p, over[0]) {
            return Err(e.hint(hint));
        }
    }
    Err(e.hint("`--format packed` exports it for a host; a smaller model is needed for this target"))
}

/// The largest window of a power of two that fits, with the number of bits that helps.
fn smaller_window(plan: &Plan, p: &Program, ram: &Usage) -> Option<String> {
    let limit = ram.limit?;
    let rest = ram.total - plan.arena_bytes;
    for bits in [p.attention.k_bits, 8, 4] {
        let mut smaller = p.clone();
        smaller.attention.k_bits = bits;
        smaller.attention.v_bits = bits;
        let mut window = p.attention.window;
        while window > p.attention.sinks.max(8) {
            let arena = arena_bytes(&smaller, window);
            if arena + rest <= limit {
                return Some(format!(
                    "`--kv-window {window} --kv-bits {bits}` brings it to {} bytes",
                    group(arena + rest)
                ));
            }
            window /= 2;
        }
    }
    None
}

/// 1234567 as `1,234,567`.
pub fn group(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}
