//! How each low-bit matrix is stored and which kernel of the C runtime computes it: the cheapest that the target allows, by the cost
//! table of its processor. Nothing here changes a result.

use crate::encoding::lowbit::Encoding;
use crate::encoding::order::Order;
use crate::error::{Error, Result};
use crate::program::{kernels, KernelHint, Op, OpKind, ScaleMode, Tensor, TensorId, TensorKind};
use crate::target::{self, Costs, Kernel};

/// What a target offers and the user asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernels {
    pub allowed: Vec<Kernel>,
    pub costs: Costs,
    /// Most scratch for tables; 0: none.
    pub table_bytes: usize,
    /// The user's choice, wherever it is possible.
    pub forced: Option<Kernel>,
}

impl Default for Kernels {
    /// Those of the host, whose Rust runtime picks its own.
    fn default() -> Self {
        let allowed = vec![Kernel::Select, Kernel::Planes];
        Kernels { allowed, costs: target::costs("host"), table_bytes: 0, forced: None }
    }
}

/// A form of a matrix with the kernel for it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Form {
    enc: Encoding,
    order: Order,
    hint: KernelHint,
}

const fn form(enc: Encoding, order: Order, hint: KernelHint) -> Form {
    Form { enc, order, hint }
}

/// The forms of a matrix of each kind, the plainest first.
const BINARY: [Form; 3] = [
    form(Encoding::Binary1, Order::Rows, KernelHint::Select),
    form(Encoding::Binary1, Order::Rows, KernelHint::Planes),
    form(Encoding::Binary1, Order::Quads, KernelHint::Tables),
];
const TERNARY: [Form; 3] = [
    form(Encoding::Ternary2, Order::Rows, KernelHint::Select),
    form(Encoding::Ternary2, Order::Rows, KernelHint::Planes),
    form(Encoding::Ternary5, Order::Quads, KernelHint::Tables),
];
const FOUR_PLANES: [Form; 2] = [
    form(Encoding::Planes4, Order::Quads, KernelHint::Select),
    form(Encoding::Planes4, Order::Quads, KernelHint::Tables),
];

impl Form {
    fn kernel(self) -> Kernel {
        match self.hint {
            KernelHint::Select => Kernel::Select,
            KernelHint::Planes => Kernel::Planes,
            KernelHint::Tables => Kernel::Tables,
        }
    }

    fn name(self, qmax: u32) -> &'static str {
        kernels::name(self.enc, self.order, self.hint, qmax)
    }
}

/// Matrices of one input and one kind: they get one form, so that they can share what is made of the codes.
struct Batch {
    forms: &'static [Form],
    grouped: bool,
    qmax: u32,
    cols: usize,
    /// Operation, tensor and rows of each.
    members: Vec<(usize, TensorId, usize)>,
}

/// Chooses for all LINEARs of a program; returns the scratch that its tables get.
///
/// # Errors
/// `Usage` if tables are asked for where the target has no room for them.
pub(super) fn choose(ops: &mut [Op], tensors: &mut [Tensor], k: &Kernels) -> Result<usize> {
    if k.forced == Some(Kernel::Tables) && room(k) == 0 {
        return Err(Error::usage("this target has no memory for tables").hint("leave `--kernel tables` out"));
    }
    let mut lut_bytes = 0;
    for batch in batches(ops, tensors) {
        // Matrices that cannot share their tables may differ: a matrix of few rows is not worth tables of its own.
        let shared = batch.forms.iter().all(|f| f.hint != KernelHint::Tables || fits(f, &batch, k));
        let parts: Vec<Batch> = match shared {
            true => vec![batch],
            false => batch.members.iter().map(|m| Batch { members: vec![*m], ..batch }).collect(),
        };
        for part in parts {
            let f = cheapest(&part, k);
            for (op, id, _) in &part.members {
                if let (OpKind::Linear { hint, .. }, TensorKind::Matrix { enc, order, .. }) =
                    (&mut ops[*op].kind, &mut tensors[*id].kind)
                {
                    (*hint, *enc, *order) = (f.hint, f.enc, f.order);
                }
            }
            if f.hint == KernelHint::Tables {
                let all = kernels::table_bytes(f.enc, part.qmax, part.cols).next_multiple_of(512);
                lut_bytes = lut_bytes.max(all.min(room(k)));
            }
        }
    }
    Ok(lut_bytes)
}

fn room(k: &Kernels) -> usize {
    k.table_bytes / 512 * 512
}

fn batches(ops: &[Op], tensors: &[Tensor]) -> Vec<Batch> {
    let mut uses = vec![0; tensors.len()];
    for op in ops {
        if let OpKind::Linear { weight, .. } = op.kind {
            uses[weight] += 1;
        }
    }
    let mut batches: Vec<Batch> = Vec::new();
    for group in kernels::groups(ops) {
        let first = batches.len();
        for op in group.linears {
            let OpKind::Linear { weight, .. } = ops[op].kind else { continue };
            let t = &tensors[weight];
            let TensorKind::Matrix { enc, scales, .. } = t.kind else { continue };
            let forms: &'static [Form] = match enc {
                Encoding::Binary1 => &BINARY,
                Encoding::Ternary2 => &TERNARY,
                Encoding::Planes4 => &FOUR_PLANES,
                _ => continue,
            };
            // One matrix of two inputs stays as it is.
            if uses[weight] > 1 {
                continue;
            }
            let (grouped, member) = (matches!(scales, ScaleMode::Group(_)), (op, weight, t.rows));
            let same = |b: &&mut Batch| b.forms == forms && b.grouped == grouped && b.cols == t.cols;
            match batches[first..].iter_mut().find(same) {
                Some(b) => b.members.push(member),
                None => {
                    let (qmax, cols) = (group.qmax, t.cols);
                    batches.push(Batch { forms, grouped, qmax, cols, members: vec![member] });
                }
            }
        }
    }
    batches
}

/// Whether the tables of an input are there all at once.
fn fits(f: &Form, b: &Batch, k: &Kernels) -> bool {
    kernels::table_bytes(f.enc, b.qmax, b.cols) <= room(k)
}

fn possible(f: &Form, b: &Batch, k: &Kernels) -> bool {
    match f.hint {
        KernelHint::Select => true,
        KernelHint::Planes => b.qmax == 2,
        // Sums of groups of columns cannot wait in the result while the next part of the tables is made.
        KernelHint::Tables => match b.grouped {
            true => f.enc.allows_groups() && b.qmax <= 127 && fits(f, b, k),
            false => b.qmax <= 127 && room(k) > 0,
        },
    }
}

/// Instructions and bytes of flash of all matrices of a batch in one form; None without figures.
fn price(f: &Form, b: &Batch, k: &Kernels) -> Option<(f64, u64)> {
    // A form without a fast kernel is the last resort.
    let cost = match f.name(b.qmax) {
        "plain" => target::Cost { weight: 1e6, ..target::Cost::default() },
        name => k.costs.get(name)?,
    };
    let tables = f.hint == KernelHint::Tables;
    let tiles = if tables { kernels::table_bytes(f.enc, b.qmax, b.cols).div_ceil(room(k).max(512)) } else { 1 };
    let mut instructions = 0.0;
    for (_, _, rows) in &b.members {
        instructions += cost.alone(*rows, b.cols) + cost.row * (tiles - 1) as f64 * *rows as f64;
    }
    let builds = if tiles > 1 { b.members.len() } else { 1 };
    instructions += builds as f64 * cost.shared(b.cols);
    let flash = b.members.iter().map(|(_, _, rows)| f.enc.data_bytes(f.order, *rows, b.cols)).sum();
    Some((instructions, flash))
}

/// The form with the least instructions, then the least flash; the plainest if there are no figures.
fn cheapest(b: &Batch, k: &Kernels) -> Form {
    let possible: Vec<&Form> = b.forms.iter().filter(|f| possible(f, b, k)).collect();
    let forced: Vec<&Form> = possible.iter().copied().filter(|f| Some(f.kernel()) == k.forced).collect();
    let allowed = |f: &&Form| k.allowed.contains(&f.kernel()) || f.hint == KernelHint::Select;
    let offered = match forced.is_empty() {
        true => possible.into_iter().filter(allowed).collect(),
        false => forced,
    };
    let priced = offered.iter().filter_map(|f| Some((*f, price(f, b, k)?)));
    let best = priced.min_by(|(_, x), (_, y)| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
    best.map_or(b.forms[0], |(f, _)| *f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::fixed::Scale;
    use crate::kernels::scalar::QuantRule;

    /// q, k and v of one input, then a head.
    fn program(enc: Encoding, scales: ScaleMode, qmax: u32, cols: usize, rows: &[usize]) -> (Vec<Op>, Vec<Tensor>) {
        let rule = QuantRule { qmax, lo: -(qmax as i32), hi: qmax as i32, floor: Scale::ONE };
        let op = |kind| Op { layer: Some(0), kind };
        let mut ops = vec![op(OpKind::Quantize { dst: 1, src: 0, rule })];
        let tensor = |rows| Tensor {
            name: String::new(),
            kind: TensorKind::Matrix { enc, order: Order::Rows, scales },
            rows,
            cols,
            scale: Scale::ONE,
            data: 0..0,
            scales: 0..0,
        };
        for weight in 0..rows.len() {
            ops.push(op(OpKind::Linear { dst: 2, codes: 1, weight, hint: KernelHint::Select }));
        }
        (ops, rows.iter().map(|r| tensor(*r)).collect())
    }

    fn chosen(ops: &[Op], tensors: &[Tensor], qmax: u32) -> Vec<&'static str> {
        ops.iter().filter_map(|o| kernels::of(o, tensors, qmax)).map(|(_, name)| name).collect()
    }

    fn choice(
        enc: Encoding,
        scales: ScaleMode,
        qmax: u32,
        cols: usize,
        rows: &[usize],
        k: &Kernels,
    ) -> Vec<&'static str> {
        let (mut ops, mut tensors) = program(enc, scales, qmax, cols, rows);
        choose(&mut ops, &mut tensors, k).unwrap();
        chosen(&ops, &tensors, qmax)
    }

    fn m7(table_bytes: usize) -> Kernels {
        let allowed = vec![Kernel::Select, Kernel::Planes, Kernel::Tables];
        // Figures of this test: those of the processors change with every measurement.
        let costs = toml::from_str(
            "select = { weight = 1.5, row = 16.0, column = 1.0, call = 250.0 }
            select_ternary = { weight = 2.8, row = 16.0, column = 0.0, call = 250.0 }
            planes = { weight = 0.7, row = 14.0, column = 12.0, call = 300.0 }
            planes_ternary = { weight = 1.2, row = 14.0, column = 12.0, call = 300.0 }
            tables = { weight = 0.48, row = 14.0, column = 60.0, call = 300.0 }
            tables8 = { weight = 0.48, row = 14.0, column = 90.0, call = 300.0 }
            ternary5 = { weight = 0.76, row = 14.0, column = 110.0, call = 300.0 }
            planes4 = { weight = 1.9, row = 20.0, column = 60.0, call = 300.0 }",
        );
        Kernels { allowed, costs: costs.unwrap(), table_bytes, forced: None }
    }

    const ONE: ScaleMode = ScaleMode::One;
    const QKV: [usize; 3] = [512, 64, 64];

    #[test]
    fn tables_where_they_pay_and_fit() {
        use Encoding::{Binary1, Ternary2};
        assert_eq!(choice(Binary1, ONE, 127, 512, &QKV, &m7(65_536)), ["tables"; 3]);
        assert_eq!(choice(Ternary2, ONE, 127, 512, &QKV, &m7(65_536)), ["ternary5"; 3]);
        assert_eq!(choice(Binary1, ONE, 7, 512, &QKV, &m7(65_536)), ["tables8"; 3]);
        // In parts, each matrix makes its own tables: not worth it for 64 rows.
        assert_eq!(choice(Binary1, ONE, 127, 512, &[512, 16], &m7(4096)), ["tables", "select"]);
        assert_eq!(choice(Binary1, ONE, 127, 512, &[16], &m7(65_536)), ["select"]);
        assert_eq!(choice(Binary1, ONE, 127, 512, &QKV, &m7(0)), ["select"; 3]);
        assert_eq!(choice(Binary1, ONE, 32_767, 512, &QKV, &m7(65_536)), ["select"; 3]);
        assert_eq!(choice(Binary1, ONE, 2, 512, &QKV, &m7(0)), ["planes"; 3]);
    }

    #[test]
    fn groups_of_columns_need_all_tables_at_once() {
        use Encoding::{Binary1, Ternary2};
        let groups = ScaleMode::Group(128);
        assert_eq!(choice(Binary1, groups, 127, 512, &QKV, &m7(65_536)), ["tables"; 3]);
        assert_eq!(choice(Binary1, groups, 127, 512, &QKV, &m7(16_384)), ["select"; 3]);
        assert_eq!(choice(Ternary2, groups, 127, 512, &QKV, &m7(65_536)), ["select_ternary"; 3]);
        assert_eq!(choice(Ternary2, groups, 2, 512, &QKV, &m7(65_536)), ["planes_ternary"; 3]);
    }

    #[test]
    fn a_kernel_can_be_asked_for() {
        let force = |kernel, bytes| Kernels { forced: Some(kernel), ..m7(bytes) };
        assert_eq!(choice(Encoding::Binary1, ONE, 127, 512, &[16], &force(Kernel::Tables, 512)), ["tables"]);
        assert_eq!(
            choice(Encoding::Ternary2, ONE, 127, 512, &QKV, &force(Kernel::Select, 65_536)),
            ["select_ternary"; 3]
        );
        // Planes need 2-bit activations; elsewhere the cheapest is taken.
        assert_eq!(choice(Encoding::Binary1, ONE, 2, 512, &QKV, &force(Kernel::Planes, 65_536)), ["planes"; 3]);
        assert_eq!(choice(Encoding::Binary1, ONE, 127, 512, &QKV, &force(Kernel::Planes, 65_536)), ["tables"; 3]);
        let (mut ops, mut tensors) = program(Encoding::Binary1, ONE, 127, 64, &[64]);
        let e = choose(&mut ops, &mut tensors, &force(Kernel::Tables, 0)).unwrap_err();
        assert!(e.message().contains("no memory for tables"));
    }

    #[test]
    fn the_scratch_is_what_the_widest_tables_need_within_the_limit() {
        for (qmax, limit, want) in [(127, 65_536, 32_768), (7, 65_536, 16_384), (127, 10_000, 9728)] {
            let (mut ops, mut tensors) = program(Encoding::Binary1, ONE, qmax, 512, &QKV);
            assert_eq!(choose(&mut ops, &mut tensors, &m7(limit)).unwrap(), want);
        }
        let (mut ops, mut tensors) = program(Encoding::Planes4, ONE, 127, 64, &[1000]);
        assert_eq!(choose(&mut ops, &mut tensors, &m7(65_536)).unwrap(), 4096);
        assert_eq!(chosen(&ops, &tensors, 127), ["planes4"]);
        let (mut ops, mut tensors) = program(Encoding::Planes4, ONE, 127, 64, &[1000]);
        assert_eq!(choose(&mut ops, &mut tensors, &Kernels::default()).unwrap(), 0);
        assert_eq!(chosen(&ops, &tensors, 127), ["plain"]);
    }
}
